//! Whether the files that the store counts on are still on the disk in their full length. Somebody may remove or cut one
//! under a running broker; nothing notices, since its bytes are served as long as it is open, until the next start finds
//! a hole. (Java's checkSelf, every ten minutes too, compares what it has in memory, which here is adjacent as it is made.)

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    queues::Queues,
    segment::{self, Segments},
};
use crate::env::Storage;

/// A file that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lacking {
    pub path: PathBuf,
    /// `None` if there is no such name.
    pub found_bytes: Option<u64>,
    pub expected_bytes: u64,
    /// It is the log's, not a queue's.
    pub of_log: bool,
}

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.found_bytes {
            None => write!(f, "{} was removed while the broker runs: ", self.path.display())?,
            Some(found) => {
                write!(f, "{} has {found} bytes and not {}: ", self.path.display(), self.expected_bytes)?;
            }
        }
        match self.of_log {
            true => f.write_str(
                "once the broker stops, its messages are lost and a start will refuse the log. Let the consumers come to \
                 its end before that, or put the file back from a copy",
            ),
            false => f.write_str("messages of the queue may not be found until the next start, which makes it anew"),
        }
    }
}

/// Looks, and remembers what it has said.
pub struct Presence {
    storage: Arc<dyn Storage>,
    queues: Arc<Queues>,
    said: BTreeSet<Lacking>,
}

impl Presence {
    pub fn new(storage: Arc<dyn Storage>, queues: Arc<Queues>) -> Self {
        Presence { storage, queues, said: BTreeSet::new() }
    }

    /// Says what has come to lack since the last look.
    pub fn look(&mut self, segments: &Segments) -> io::Result<()> {
        let lacking: BTreeSet<Lacking> = lacking(&*self.storage, segments, &self.queues)?.into_iter().collect();
        for lack in lacking.difference(&self.said) {
            tracing::error!("{lack}");
        }
        self.said = lacking;
        Ok(())
    }
}

/// Every file of log and queues that is missing or short.
pub fn lacking(storage: &dyn Storage, segments: &Segments, queues: &Queues) -> io::Result<Vec<Lacking>> {
    let mut lacking = Vec::new();
    let held = segments.all();
    let lengths = lengths(storage, segments.directory())?;
    // Retention takes a segment out of the run before it takes the name off the disk.
    let first = segments.first().map(|first| first.base);
    for segment in held.into_iter().filter(|segment| first.is_some_and(|first| first <= segment.base)) {
        let found_bytes = lengths.get(&segment::name_of(segment.base.0)).copied();
        if found_bytes.is_none_or(|found| found < segment.size) {
            let path = segment.path.clone();
            lacking.push(Lacking { path, found_bytes, expected_bytes: segment.size, of_log: true });
        }
    }
    for queue in queues.all() {
        lacking.extend(queue.lacking()?);
    }
    Ok(lacking)
}

/// The lengths of a directory's files by their names; none if there is no such directory.
pub fn lengths(storage: &dyn Storage, directory: &Path) -> io::Result<BTreeMap<String, u64>> {
    match storage.list(directory) {
        Ok(entries) => Ok(entries.into_iter().map(|entry| (entry.name, entry.len)).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(error),
    }
}

//! One file of the commit log, and the run of them. A segment's name is its first log offset in twenty digits.

use std::{
    collections::VecDeque,
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
};

use bytes::Bytes;

use crate::{env::File, model::LogOffset};

pub struct Segment {
    pub base: LogOffset,
    pub size: u64,
    pub path: PathBuf,
    pub file: Arc<dyn File>,
}

impl Segment {
    pub fn end(&self) -> LogOffset {
        self.base + self.size
    }
}

/// The name of the file that begins at `offset`.
pub fn name_of(offset: u64) -> String {
    format!("{offset:020}")
}

/// The offset in a file's name; `None` if it is no such name. RocketMQ's offsets are positive 64-bit integers with a sign,
/// so adding to one never overflows.
pub fn offset_of(name: &str) -> Option<u64> {
    let is_name = name.len() == 20 && name.bytes().all(|byte| byte.is_ascii_digit());
    name.parse().ok().filter(|offset| is_name && *offset <= i64::MAX as u64)
}

/// The segments from the oldest to the one being written; adjacent, all of one size.
pub struct Segments {
    directory: PathBuf,
    size: u64,
    run: RwLock<VecDeque<Arc<Segment>>>,
}

impl Segments {
    pub fn new(directory: &Path, size: u64) -> Self {
        Segments { directory: directory.to_owned(), size, run: RwLock::default() }
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn path_of(&self, base: LogOffset) -> PathBuf {
        self.directory.join(name_of(base.0))
    }

    pub fn push(&self, segment: Arc<Segment>) {
        let mut run = self.run.write().expect("nothing panics while it is held");
        if let Some(last) = run.back() {
            assert_eq!(last.end(), segment.base, "segments are adjacent");
        }
        assert_eq!(segment.size, self.size, "segments have one size");
        run.push_back(segment);
    }

    pub fn first(&self) -> Option<Arc<Segment>> {
        self.read().front().cloned()
    }

    pub fn last(&self) -> Option<Arc<Segment>> {
        self.read().back().cloned()
    }

    pub fn all(&self) -> Vec<Arc<Segment>> {
        self.read().iter().cloned().collect()
    }

    /// The segment that holds `offset`.
    pub fn find(&self, offset: LogOffset) -> Option<Arc<Segment>> {
        let run = self.read();
        let first = run.front()?.base;
        let index = offset.0.checked_sub(first.0)? / self.size;
        run.get(usize::try_from(index).ok()?).cloned()
    }

    /// Takes the oldest segment out of the run, unless it is the last one.
    pub fn pop_first(&self) -> Option<Arc<Segment>> {
        let mut run = self.run.write().expect("nothing panics while it is held");
        if run.len() > 1 { run.pop_front() } else { None }
    }

    /// Bytes of the log; the range lies within one segment.
    pub fn bytes(&self, range: Range<LogOffset>, cold: bool) -> io::Result<Bytes> {
        let gone =
            || io::Error::new(io::ErrorKind::NotFound, format!("log offset {} is not in the store", range.start));
        let segment = self.find(range.start).ok_or_else(gone)?;
        let at = range.start - segment.base;
        let within = at..at + (range.end - range.start);
        if cold { segment.file.read_cold(within) } else { segment.file.read(within) }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, VecDeque<Arc<Segment>>> {
        self.run.read().expect("nothing panics while it is held")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_twenty_digits() {
        assert_eq!(name_of(1_073_741_824), "00000000001073741824");
        assert_eq!(offset_of("00000000001073741824"), Some(1_073_741_824));
        assert_eq!(offset_of("09223372036854775807"), Some(i64::MAX as u64));
        for bad in
            ["", "1", "09223372036854775808", "0000000000107374182x", "000000000010737418240", "+0000000001073741824"]
        {
            assert_eq!(offset_of(bad), None, "{bad}");
        }
    }
}

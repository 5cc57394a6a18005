//! The index: from a message's key to its place in the log, in a run of files named by the local time of their making.
//! Holds nothing that the log cannot rebuild; does not compare keys, only their hashes, so a stranger may be found.
//! (Source: IndexService of Apache RocketMQ 4.9.7.)

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use super::{
    index_file::{HEADER_BYTES, Header, IndexFile, KeyHash, Shape, View},
    record::Record,
};
use crate::{
    env::{Clock, File, Open, Storage, SyncFailed, storage::Entry},
    model::{LogOffset, message::sys_flag, properties},
};

/// Pages of slots written while the index is held up.
const WRITE_PAGES: usize = 64;
/// With fewer entries than this since the last look the slots need not stay in memory.
const BUSY_ENTRIES: u32 = 1_000;

#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    #[error(transparent)]
    Sync(#[from] SyncFailed),
    #[error("an index file cannot be written: {0}")]
    Io(#[from] io::Error),
}

/// How far the index on the disk may be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// The last stop was clean.
    All,
    /// It was not: entries of records below this are complete and durable, if we wrote them; others are not used.
    Below(LogOffset),
    /// It was not, and Java wrote last: entries of records below this are used as far as they are whole.
    Perhaps(LogOffset),
}

/// The places of a key, and how far the index is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// Newest first.
    pub offsets: Vec<LogOffset>,
    pub last_update_timestamp: i64,
    pub last_update_offset: LogOffset,
}

pub struct Index {
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    directory: PathBuf,
    shape: Shape,
    state: Mutex<State>,
}

struct State {
    /// Files that are complete and durable, by name.
    sealed: BTreeMap<String, Header>,
    /// Files that are not, oldest first. The last one takes entries, unless it is full.
    open: Vec<IndexFile>,
    /// The last record whose keys are here.
    last: Option<LogOffset>,
    /// A record behind it, of which so many keys are here: then a file could not be made, and it will be put again.
    begun: Option<(LogOffset, usize)>,
    /// A file appeared or went since the directory's last sync; `derived` may not move before that.
    names_dirty: bool,
    /// Entries since the last upkeep.
    entered: u32,
    /// Topic and its part of the hash, of the last record.
    topic: (String, KeyHash),
}

impl Index {
    /// Opens what the directory has. Afterwards records are to be put again from where trust ends.
    pub fn open(
        storage: Arc<dyn Storage>,
        clock: Arc<dyn Clock>,
        directory: &Path,
        shape: Shape,
        trust: Trust,
    ) -> io::Result<Arc<Self>> {
        let index = Index {
            storage,
            clock,
            directory: directory.to_owned(),
            shape,
            state: Mutex::new(State {
                sealed: BTreeMap::new(),
                open: Vec::new(),
                last: None,
                begun: None,
                // A process that was killed may have removed a name without syncing it: a power cut would bring it back.
                names_dirty: trust != Trust::All,
                entered: 0,
                topic: (String::new(), KeyHash::of_topic("")),
            }),
        };
        {
            let mut state = index.lock();
            let names = match index.storage.list(directory) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
                entries => entries?.into_iter().filter(|entry| !entry.is_dir && is_name(&entry.name)).collect(),
            };
            for entry in names {
                index.load(&mut state, entry, trust)?;
            }
        }
        Ok(Arc::new(index))
    }

    fn load(&self, state: &mut State, entry: Entry, trust: Trust) -> io::Result<()> {
        let Entry { name, len, .. } = entry;
        let path = self.directory.join(&name);
        if len != self.shape.file_bytes() {
            if len == 0 || (len < self.shape.file_bytes() && self.was_never_synced(&path, len, trust)?) {
                return self.remove(state, &name);
            }
            let text = format!(
                "{} has {len} bytes, with maxHashSlotNum={} and maxIndexNum={} it would have {}. Set the values it was \
                 written with, or remove the directory {}: old messages are then not found by their keys",
                path.display(),
                self.shape.slots,
                self.shape.entries,
                self.shape.file_bytes(),
                self.directory.display()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let opened = IndexFile::open(&*self.storage, &self.directory, name.clone(), self.shape)?;
        let is_whole = |file: &IndexFile| match trust {
            Trust::All => true,
            // What a checkpoint covers was synced whole; only the last file goes on behind it.
            Trust::Below(below) => file.is_full() && file.header.end < below,
            Trust::Perhaps(_) => false,
        };
        let file = match opened {
            Some(file) if is_whole(&file) => file,
            _ => {
                let below = match trust {
                    Trust::All => LogOffset(u64::MAX),
                    Trust::Below(below) | Trust::Perhaps(below) => below,
                };
                IndexFile::rebuild(&*self.storage, &self.directory, name.clone(), self.shape, below)?
            }
        };
        self.keep(state, file)
    }

    /// Whether a power cut took the length of a file that no checkpoint covers yet: the log still has all of it.
    fn was_never_synced(&self, path: &Path, len: u64, trust: Trust) -> io::Result<bool> {
        let (Trust::Below(below) | Trust::Perhaps(below)) = trust else { return Ok(false) };
        if len < HEADER_BYTES {
            return Ok(true);
        }
        let header = Header::decode(&self.storage.open(path, Open::ReadOnly)?.read_cold(0..HEADER_BYTES)?);
        Ok(header.count <= 1 || header.begin >= below)
    }

    /// Takes a loaded file in behind the others; one without entries goes.
    fn keep(&self, state: &mut State, file: IndexFile) -> io::Result<()> {
        if file.header.count == 1 {
            return self.remove(state, &file.name);
        }
        state.last = state.last.max(Some(file.header.end));
        self.seal_done(state);
        state.open.push(file);
        Ok(())
    }

    /// Moves files that are durable from `open` to `sealed`, all of them.
    fn seal_done(&self, state: &mut State) {
        let (done, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.open).into_iter().partition(|file| file.unsynced_from.is_none());
        state.open = left;
        state.sealed.extend(done.into_iter().map(|file| (file.name, file.header)));
    }

    fn remove(&self, state: &mut State, name: &str) -> io::Result<()> {
        state.names_dirty = true;
        match self.storage.remove(&self.directory.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            outcome => outcome,
        }
    }

    /// The log ends at `end`: entries that point there or behind go.
    pub fn truncate(&self, end: LogOffset) -> io::Result<()> {
        let mut state = self.lock();
        state.begun = None;
        if state.last.is_none_or(|last| last < end) {
            return Ok(());
        }
        let files: Vec<(String, Header)> =
            state.sealed.iter().map(|(name, header)| (name.clone(), *header)).chain(state.headers()).collect();
        for (name, _) in files.into_iter().filter(|(_, header)| header.end >= end) {
            state.sealed.remove(&name);
            let file = match state.open.iter().position(|file| file.name == name) {
                Some(at) => state.open.remove(at).cut(end)?,
                None => IndexFile::rebuild(&*self.storage, &self.directory, name.clone(), self.shape, end)?,
            };
            if file.header.count == 1 {
                self.remove(&mut state, &name)?;
            } else {
                state.open.push(file);
            }
        }
        state.open.sort_by(|one, other| one.name.cmp(&other.name));
        let headers = state.sealed.values().copied().chain(state.headers().map(|(_, header)| header));
        state.last = headers.map(|header| header.end).max();
        Ok(())
    }

    /// Enters the record's keys: the client's unique id, then KEYS, taken apart at blanks. A rolled-back half has none;
    /// a record that was entered before is left alone.
    pub fn put(&self, record: &Record<'_>) -> io::Result<()> {
        let message = &record.message;
        if message.sys_flag & sys_flag::TRANSACTION_MASK == sys_flag::TRANSACTION_ROLLBACK {
            return Ok(());
        }
        let (unique, keys) = keys_of(message.properties);
        if unique.is_none() && keys.is_none() {
            return Ok(());
        }
        let mut state = self.lock();
        if state.last.is_some_and(|last| record.log_offset <= last) {
            return Ok(());
        }
        if state.topic.0 != message.topic {
            state.topic = (message.topic.to_owned(), KeyHash::of_topic(message.topic));
        }
        let topic = state.topic.1;
        let keys = keys.into_iter().flat_map(|keys| keys.split(' ')).filter(|key| !key.is_empty());
        let entered = state.begun.filter(|(offset, _)| *offset == record.log_offset).map_or(0, |(_, count)| count);
        for (number, key) in unique.into_iter().chain(keys).enumerate().skip(entered) {
            let hash = topic.and(key).finish();
            let file = match state.open.last_mut() {
                Some(file) if !file.is_full() => file,
                _ => self.next_file(&mut state)?,
            };
            let written = file.put(hash, record.log_offset, record.store_timestamp);
            state.entered = state.entered.saturating_add(1);
            // It is in the file's memory, whatever became of the write.
            state.begun = Some((record.log_offset, number + 1));
            written?;
        }
        (state.last, state.begun) = (Some(record.log_offset), None);
        Ok(())
    }

    /// Makes the next file; the one before waits for its sync.
    fn next_file<'s>(&self, state: &'s mut State) -> io::Result<&'s mut IndexFile> {
        if let Some(full) = state.open.last_mut() {
            full.write_entries()?;
        }
        let local = self.clock.local_ms(self.clock.wall_ms());
        let last = state.open.last().map(|file| &file.name).or(state.sealed.keys().next_back());
        let name = last.map_or_else(|| name_of(local), |last| name_after(last, local));
        let file = IndexFile::create(&*self.storage, &self.directory, name, self.shape)?;
        state.names_dirty = true;
        self.seal_done(state);
        state.open.push(file);
        Ok(state.open.last_mut().expect("just put there"))
    }

    /// Makes entries durable, if `thorough`, and says below which log offset they all are; `dispatched` is where reput
    /// stands. On a service only.
    pub async fn sync(&self, thorough: bool, dispatched: LogOffset) -> Result<LogOffset, IndexError> {
        let (names, is_quiet) = {
            let mut state = self.lock();
            let is_quiet = std::mem::take(&mut state.entered) < BUSY_ENTRIES;
            if !thorough {
                let names = state.names_dirty.then_some(LogOffset(0));
                return Ok(state.unsynced().chain(names).min().map_or(dispatched, |from| from.min(dispatched)));
            }
            let names: Vec<String> = state.open.iter().map(|file| file.name.clone()).collect();
            (names, is_quiet)
        };
        for name in names {
            self.sync_file(&name, dispatched, is_quiet).await?;
        }
        if std::mem::take(&mut self.lock().names_dirty) {
            self.storage.sync_dir(&self.directory).await?;
        }
        Ok(dispatched)
    }

    async fn sync_file(&self, name: &str, dispatched: LogOffset, is_quiet: bool) -> Result<(), IndexError> {
        // Retention may take the file away at any step.
        let begun = self.with(name, |file| -> io::Result<Option<(Arc<dyn File>, Header)>> {
            if file.unsynced_from.is_none() {
                return Ok(None);
            }
            file.write_entries()?;
            Ok(Some((file.file.clone(), file.header)))
        });
        if let Some(Some((file, header))) = begun.transpose()? {
            file.sync().await?;
            let mut page = Some(0);
            while let Some(from) = page {
                page = self.with(name, |file| file.write_slots(from, WRITE_PAGES)).transpose()?.flatten();
            }
            self.with(name, |file| file.write_header(&header)).transpose()?;
            file.sync().await?;
            self.with(name, |file| {
                // What was entered meanwhile is of records behind `dispatched`.
                file.unsynced_from = (file.header.count > header.count).then_some(dispatched);
            });
        }
        if is_quiet {
            self.with(name, IndexFile::rest);
        }
        Ok(())
    }

    fn with<T>(&self, name: &str, act: impl FnOnce(&mut IndexFile) -> T) -> Option<T> {
        self.lock().open.iter_mut().find(|file| file.name == name).map(act)
    }

    /// Places of messages with `key` stored from `begin` to `end` (wall milliseconds), at most `max`, newest first.
    /// Reads files; a chain of thousands takes milliseconds.
    pub fn query(&self, topic: &str, key: &str, begin: i64, end: i64, max: usize) -> io::Result<Found> {
        let hash = KeyHash::of_topic(topic).and(key).finish();
        let (views, sealed, mut found) = {
            let state = self.lock();
            let newest = state.open.last().map(|file| file.header).or(state.sealed.values().next_back().copied());
            let newest = newest.unwrap_or_default();
            let found = Found {
                offsets: Vec::new(),
                last_update_timestamp: newest.end_timestamp,
                last_update_offset: newest.end,
            };
            let views = state.open.iter().map(|file| file.view(hash)).collect::<io::Result<Vec<View>>>()?;
            (views, state.sealed.clone(), found)
        };
        for view in views.iter().rev() {
            if view.header.is_of_time(begin, end) {
                view.collect(hash, begin, end, max, &mut found.offsets)?;
            }
        }
        for (name, header) in sealed.iter().rev() {
            if found.offsets.len() >= max || header.end_timestamp < begin {
                break;
            }
            if !header.is_of_time(begin, end) {
                continue;
            }
            match View::open(&*self.storage, &self.directory.join(name), self.shape, hash) {
                Ok(view) => view.collect(hash, begin, end, max, &mut found.offsets)?,
                // Retention took it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// The log begins at `log_min` now: removes files that hold nothing above it, but the newest.
    pub fn log_begins_at(&self, log_min: LogOffset) -> io::Result<()> {
        let mut state = self.lock();
        let newest = state.open.last().map(|file| &file.name).or(state.sealed.keys().next_back()).cloned();
        let sealed = state.sealed.iter().map(|(name, header)| (name.clone(), *header));
        let gone = |(name, header): &(String, Header)| header.end < log_min && Some(name) != newest.as_ref();
        let names: Vec<String> = sealed.chain(state.headers()).filter(gone).map(|(name, _)| name).collect();
        for name in names {
            let names_dirty = state.names_dirty;
            self.remove(&mut state, &name)?;
            // A name that comes back after a power cut harms nobody: what its entries point at is gone.
            state.names_dirty = names_dirty;
            state.sealed.remove(&name);
            state.open.retain(|file| file.name != name);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("a panic while it is held ends the process")
    }
}

impl State {
    fn headers(&self) -> impl Iterator<Item = (String, Header)> + '_ {
        self.open.iter().map(|file| (file.name.clone(), file.header))
    }

    fn unsynced(&self) -> impl Iterator<Item = LogOffset> + '_ {
        self.open.iter().filter_map(|file| file.unsynced_from)
    }
}

/// UNIQ_KEY and KEYS of a properties text, by looking at no other entry closely.
pub(in crate::store) fn keys_of(text: &[u8]) -> (Option<&str>, Option<&str>) {
    let (mut unique, mut keys) = (None, None);
    for entry in properties::split(text) {
        if let Some(value) = properties::value_of(entry, properties::name::UNIQUE_KEY) {
            unique = Some(value);
        } else if let Some(value) = properties::value_of(entry, properties::name::KEYS) {
            keys = Some(value);
        }
    }
    (unique, keys)
}

const NAME: &str = "%Y%m%d%H%M%S%3f";

/// yyyyMMddHHmmssSSS of a local time in milliseconds.
fn name_of(local_ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(local_ms).unwrap_or_default().format(NAME).to_string()
}

fn is_name(name: &str) -> bool {
    name.len() == 17 && name.bytes().all(|byte| byte.is_ascii_digit())
}

/// Names are in the order of the files, though the clock goes back or two files are made in one millisecond.
fn name_after(last: &str, local_ms: i64) -> String {
    let name = name_of(local_ms);
    if name.as_str() > last {
        return name;
    }
    // chrono reads milliseconds only behind a dot.
    let dotted = format!("{}.{}", &last[..14], &last[14..]);
    match chrono::NaiveDateTime::parse_from_str(&dotted, "%Y%m%d%H%M%S%.3f") {
        Ok(time) => name_of(time.and_utc().timestamp_millis() + 1),
        // A name that is no time: the next number keeps the order.
        Err(_) => format!("{:017}", last.parse::<u64>().unwrap_or_default() + 1),
    }
}

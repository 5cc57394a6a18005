//! One consume queue: for each message of a queue, where it stands in the log. Holds nothing that the log cannot rebuild.
//!
//! Unit (20 bytes, big-endian): log offset 8, record size 4, tags code 8. Files of one length, named by the byte
//! position of their first unit; the unused rest of a file is zeros. The newest units wait in memory and are written
//! when `TAIL_MAX` have gathered or at the next upkeep. (Source: ConsumeQueue of Apache RocketMQ 4.9.7.)

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, Weak},
};

use super::{
    presence::{self, Lacking},
    queue_files::QueueFiles,
    segment::{name_of, offset_of},
};
use crate::{
    env::{File, Open, SyncFailed, storage::Entry},
    model::{LogOffset, QueueOffset},
};

pub const UNIT_BYTES: u64 = 20;
/// Units that wait in memory.
const TAIL_MAX: usize = 32;
/// A power cut leaves each of these whole, as it was or as it was to be.
const SECTOR_BYTES: u64 = 512;
/// Size of the units that stand before the first message of a queue that does not begin at 0.
const PREFILL_SIZE: u32 = i32::MAX as u32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit {
    pub offset: LogOffset,
    pub size: u32,
    /// Java's hash of the tag; in the queues of SCHEDULE_TOPIC_XXXX the wall time of delivery.
    pub tags_code: i64,
}

impl Unit {
    const NONE: Unit = Unit { offset: LogOffset(0), size: 0, tags_code: 0 };

    pub fn end(&self) -> LogOffset {
        self.offset + u64::from(self.size)
    }

    fn is_message(&self) -> bool {
        self.size > 0 && self.size != PREFILL_SIZE
    }

    fn encode(&self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&self.offset.0.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.size.to_be_bytes());
        bytes[12..].copy_from_slice(&self.tags_code.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8; 20]) -> Self {
        let number = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        Unit {
            offset: LogOffset(number(0)),
            size: u32::from_be_bytes(bytes[8..12].try_into().expect("four bytes")),
            tags_code: number(12) as i64,
        }
    }
}

/// Whether the log's record at the unit is this queue's message of that offset.
pub type IsOfLog<'a> = &'a dyn Fn(&ConsumeQueue, QueueOffset, Unit) -> io::Result<bool>;

pub struct ConsumeQueue {
    pub topic: Arc<str>,
    pub id: u32,
    directory: PathBuf,
    files: Arc<QueueFiles>,
    state: Mutex<State>,
}

struct State {
    /// First unit that stands for a message still in the log.
    min: u64,
    /// Units in the files.
    written: u64,
    /// Units behind them, in memory.
    tail: Vec<Unit>,
    /// Log position behind the last unit's record.
    last_end: LogOffset,
    /// Position of the first unit of each file that exists.
    existing: BTreeMap<u64, ()>,
    /// Files written since their last sync, each with the log offset of the first such unit.
    dirty: BTreeMap<u64, LogOffset>,
    dirty_units: u64,
    /// A file appeared or went since the directory's last sync.
    names_dirty: bool,
    /// The file used last, by its first unit: finding it again by its path costs more than reading it. It may still be
    /// closed by the cache of all files; whoever removes files forgets it.
    recent: Option<(u64, Weak<dyn File>)>,
}

impl ConsumeQueue {
    /// An empty queue; its directory is made with the first file.
    pub fn new(root: &Path, topic: &str, id: u32, files: Arc<QueueFiles>) -> Arc<Self> {
        Arc::new(ConsumeQueue {
            topic: topic.into(),
            id,
            directory: root.join(topic).join(id.to_string()),
            files,
            state: Mutex::new(State {
                min: 0,
                written: 0,
                tail: Vec::new(),
                last_end: LogOffset(0),
                existing: BTreeMap::new(),
                dirty: BTreeMap::new(),
                dirty_units: 0,
                names_dirty: false,
                recent: None,
            }),
        })
    }

    /// Opens what the disk has, keeping the units of records below `known`, which are complete and durable, and wiping
    /// all behind them: they are rebuilt from the log. `log_min` is where the log begins.
    pub fn open(
        root: &Path,
        topic: &str,
        id: u32,
        files: Arc<QueueFiles>,
        known: LogOffset,
        log_min: LogOffset,
        is_of_log: IsOfLog<'_>,
    ) -> Result<Arc<Self>, OpenQueueError> {
        let queue = Self::new(root, topic, id, files);
        {
            let mut state = queue.lock();
            let per_file = queue.units_per_file();
            let below = |unit: Unit| unit.size > 0 && (!unit.is_message() || unit.offset < known);
            // A unit that was durable, of a message that the log has.
            let counts =
                |unit: Unit| unit.is_message() && below(unit) && unit.offset >= log_min && !plant!(QueueLackIgnored);
            let mut short = Vec::new();
            for entry in queue.files.storage().list(&queue.directory)? {
                let Some(position) = offset_of(&entry.name) else { continue };
                if !position.is_multiple_of(queue.files.file_bytes()) {
                    return Err(OpenQueueError::Io(io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!(
                            "{}/{} does not begin at a multiple of mappedFileSizeConsumeQueue={}; was the store written \
                             with another value? Set the value it was written with",
                            queue.directory.display(),
                            entry.name,
                            queue.files.file_bytes()
                        ),
                    )));
                }
                if entry.len < queue.files.file_bytes() {
                    short.push(position / UNIT_BYTES);
                }
                // A file whose creation was cut is short, but then no sync made any of its units durable.
                if entry.len < queue.files.file_bytes() && queue.first_of_short(&entry)?.is_some_and(counts) {
                    return Err(queue.lacks(format!(
                        "{} has {} bytes and not {}",
                        entry.name,
                        entry.len,
                        queue.files.file_bytes()
                    )));
                }
                state.existing.insert(position / UNIT_BYTES, ());
            }
            let mut starts: Vec<u64> = state.existing.keys().copied().collect();
            // The last file whose first unit is known to be good holds the end.
            let (mut file, mut last_known) = (0, Unit::NONE);
            for (index, start) in starts.iter().enumerate() {
                let first = queue.read_written(*start)?;
                if below(first) {
                    (file, last_known) = (index, first);
                }
            }
            // Nor of any in a later file.
            if let Some(start) = short.into_iter().find(|start| starts[..file].contains(start) && counts(last_known)) {
                return Err(queue.lacks(format!("the file {} is cut short", queue.name_of(start))));
            }
            // What stands before a hole was let go: a power cut brought the name back.
            let is_hole = |index: &usize| starts[index - 1] + per_file != starts[*index];
            let gone = (1..=file).rev().find(is_hole).unwrap_or(0);
            for hole in (1..=gone).filter(is_hole) {
                let before = starts[hole - 1] + per_file;
                if counts(queue.read_written(before - 1)?) {
                    return Err(queue.lacks(format!("the file {} is missing", queue.name_of(before))));
                }
            }
            if let Some(start) = starts.get(gone)
                && log_min.0 == 0
                && *start > 0
                && counts(queue.read_written(*start)?)
            {
                return Err(queue.lacks(format!("the file {} is missing", queue.name_of(0))));
            }
            for start in starts.drain(..gone) {
                queue.forget(&mut state, start)?;
            }
            let mut first = starts.first().copied().unwrap_or(0);
            let end = match starts.get(file - gone) {
                None => 0,
                Some(start) => queue.known_end(*start, start + per_file, below, is_of_log)?,
            };
            // A power cut may leave a later file and take the first, whose name nothing had made durable yet. Where the
            // log has lost no head, a queue of which nothing is known begins at 0 nevertheless.
            let end = if end == first && log_min.0 == 0 { 0 } else { end };
            first = first.min(end);
            state.written = end;
            if end > first {
                let last = queue.read_written(end - 1)?;
                state.last_end = if last.is_message() { last.end() } else { LogOffset(0) };
            }
            queue.wipe_from(&mut state, end)?;
            state.min = first;
            queue.raise_min(&mut state, log_min)?;
        }
        Ok(queue)
    }

    pub fn min(&self) -> QueueOffset {
        QueueOffset(self.lock().min)
    }

    /// One past the last message.
    pub fn max(&self) -> QueueOffset {
        QueueOffset(self.lock().max())
    }

    /// Takes the next unit in. A unit that stands already (after a restart) is ignored; one with offset 0 behind the
    /// last record begins a new life of a queue whose topic was deleted.
    pub fn push(&self, at: QueueOffset, unit: Unit) -> io::Result<()> {
        let mut state = self.lock();
        if unit.end() <= state.last_end {
            return Ok(());
        }
        let next = state.max();
        if at.0 != next {
            if at.0 == 0 && next > 0 {
                self.wipe_from(&mut state, 0)?;
                (state.min, state.written) = (0, 0);
                state.tail.clear();
            } else if next == 0 || next < at.0 {
                self.begin_at(&mut state, at.0)?;
            } else {
                return Ok(());
            }
        }
        state.tail.push(unit);
        state.last_end = unit.end();
        if state.tail.len() >= TAIL_MAX { self.write_tail(&mut state) } else { Ok(()) }
    }

    /// Up to `count` units from `from` on; fewer at the end of the queue or of a file.
    pub fn units(&self, from: QueueOffset, count: u64) -> io::Result<Vec<Unit>> {
        let mut state = self.lock();
        let from = from.0;
        if from >= state.max() {
            return Ok(Vec::new());
        }
        let mut units = Vec::new();
        if from < state.written {
            let file_end = (from / self.units_per_file() + 1) * self.units_per_file();
            let end = (from.saturating_add(count)).min(state.written).min(file_end);
            let file = self.file_of(&mut state, from)?;
            drop(state);
            let start = from % self.units_per_file() * UNIT_BYTES;
            let bytes = file.read(start..start + (end - from) * UNIT_BYTES)?;
            units.extend(bytes.as_chunks::<20>().0.iter().map(Unit::decode));
            return Ok(units);
        }
        let start = (from - state.written) as usize;
        units.extend(state.tail[start..].iter().take(count as usize));
        Ok(units)
    }

    /// The first position in `min..max` whose unit makes `is_later` true; `max` if none does. Units are in order.
    pub fn search(&self, mut is_later: impl FnMut(Unit) -> io::Result<bool>) -> io::Result<QueueOffset> {
        let (min, max) = {
            let state = self.lock();
            (state.min, state.max())
        };
        let found = partition(min, max, |at| match self.units(QueueOffset(at), 1)?.first() {
            Some(unit) => Ok(!is_later(*unit)?),
            None => Ok(false),
        })?;
        Ok(QueueOffset(found))
    }

    /// Writes waiting units into the page cache.
    pub fn write(&self) -> io::Result<()> {
        let mut state = self.lock();
        self.write_tail(&mut state)
    }

    /// Log offset of the first unit that no sync has covered.
    pub fn unsynced_from(&self) -> Option<LogOffset> {
        let state = self.lock();
        let dirty = state.dirty.values().min().copied();
        let waiting = state.tail.first().map(|unit| unit.offset);
        dirty.into_iter().chain(waiting).min()
    }

    /// Bytes written since the last sync.
    pub fn dirty_bytes(&self) -> u64 {
        self.lock().dirty_units * UNIT_BYTES
    }

    /// Makes everything written before the call durable, names included. On a service only.
    pub async fn sync(&self) -> Result<(), QueueError> {
        let (dirty, names) = {
            let mut state = self.lock();
            self.write_tail(&mut state)?;
            state.dirty_units = 0;
            (std::mem::take(&mut state.dirty), std::mem::take(&mut state.names_dirty))
        };
        for start in dirty.keys() {
            let path = self.path_of(*start);
            if self.lock().existing.contains_key(start) {
                self.files.open(&path)?.sync().await?;
            }
        }
        if names && self.files.storage().exists(&self.directory) && !plant!(QueueNamesNotSynced) {
            let storage = self.files.storage();
            storage.sync_dir(&self.directory).await?;
            let topic = self.directory.parent().expect("a queue's directory lies in its topic's");
            storage.sync_dir(topic).await?;
            storage.sync_dir(topic.parent().expect("a topic's directory lies in the queues'")).await?;
        }
        Ok(())
    }

    /// The log begins at `log_min` now: moves the minimum up and removes files that hold nothing above it (never the
    /// last one).
    pub fn log_begins_at(&self, log_min: LogOffset) -> io::Result<()> {
        let mut state = self.lock();
        self.raise_min(&mut state, log_min)?;
        let per_file = self.units_per_file();
        while state.existing.len() > 1 {
            let start = *state.existing.first_key_value().expect("there are several").0;
            if start + per_file > state.min {
                break;
            }
            self.forget(&mut state, start)?;
        }
        Ok(())
    }

    /// Removes every file; the queue is gone.
    pub fn destroy(&self) -> io::Result<()> {
        let mut state = self.lock();
        while let Some((start, ())) = state.existing.first_key_value() {
            let start = *start;
            self.forget(&mut state, start)?;
        }
        state.tail.clear();
        (state.min, state.written, state.last_end) = (0, 0, LogOffset(0));
        match self.files.storage().remove_dir_all(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// The files that should be there in full and are not.
    pub fn lacking(&self) -> io::Result<Vec<Lacking>> {
        // Files come and go under this lock.
        let state = self.lock();
        if state.existing.is_empty() {
            return Ok(Vec::new());
        }
        let (lengths, expected_bytes) =
            (presence::lengths(&**self.files.storage(), &self.directory)?, self.files.file_bytes());
        let found =
            state.existing.keys().map(|start| (self.path_of(*start), lengths.get(&self.name_of(*start)).copied()));
        Ok(found
            .filter(|(_, found)| found.is_none_or(|found| found < expected_bytes))
            .map(|(path, found_bytes)| Lacking { path, found_bytes, expected_bytes, of_log: false })
            .collect())
    }

    fn write_tail(&self, state: &mut State) -> io::Result<()> {
        while !state.tail.is_empty() {
            let from = state.written;
            let file_start = from / self.units_per_file() * self.units_per_file();
            let room = (file_start + self.units_per_file() - from) as usize;
            let count = room.min(state.tail.len());
            let bytes: Vec<u8> = state.tail[..count].iter().flat_map(Unit::encode).collect();
            self.touch(state, file_start, state.tail[0].offset)?;
            self.file_of(state, from)?.write((from - file_start) * UNIT_BYTES, &[&bytes])?;
            state.written += count as u64;
            state.dirty_units += count as u64;
            state.tail.drain(..count);
        }
        Ok(())
    }

    /// Makes sure the file at `start` exists and is known to need a sync from `offset` on.
    fn touch(&self, state: &mut State, start: u64, offset: LogOffset) -> io::Result<()> {
        if state.existing.insert(start, ()).is_none() {
            self.files.storage().create_dir_all(&self.directory)?;
            state.names_dirty = true;
        }
        state.dirty.entry(start).or_insert(offset);
        Ok(())
    }

    /// An empty queue goes on at `at`: its first file is filled up to there with units that stand for nothing.
    fn begin_at(&self, state: &mut State, at: u64) -> io::Result<()> {
        self.wipe_from(state, 0)?;
        state.tail.clear();
        let start = at / self.units_per_file() * self.units_per_file();
        self.touch(state, start, LogOffset(0))?;
        let fill = Unit { offset: LogOffset(0), size: PREFILL_SIZE, tags_code: 0 }.encode();
        let bytes: Vec<u8> = fill.iter().copied().cycle().take(((at - start) * UNIT_BYTES) as usize).collect();
        self.files.open(&self.path_of(at))?.write(0, &[&bytes])?;
        (state.min, state.written) = (at, at);
        Ok(())
    }

    /// Zeroes everything from position `end` on. Files behind it stay: a name that is removed comes back by a power cut
    /// before the directory's sync, with units of records that the log has lost, and when the process is killed in
    /// between, the next one does not know that there is anything to be synced.
    fn wipe_from(&self, state: &mut State, end: u64) -> io::Result<()> {
        let per_file = self.units_per_file();
        let starts: Vec<u64> = state.existing.range(end / per_file * per_file..).map(|(start, ())| *start).collect();
        for start in starts {
            let from = end.saturating_sub(start) * UNIT_BYTES;
            self.files.open(&self.path_of(start))?.zero(from..self.files.file_bytes())?;
            state.dirty.entry(start).or_insert(LogOffset(0));
            // Nor does it know whether the name of a file without known units is durable.
            state.names_dirty |= start >= end;
        }
        Ok(())
    }

    /// Removes the file at `start`, whose units stand for nothing that the log has.
    fn forget(&self, state: &mut State, start: u64) -> io::Result<()> {
        state.recent = None;
        self.files.remove(&self.path_of(start))?;
        state.existing.remove(&start);
        state.dirty.remove(&start);
        state.names_dirty = true;
        Ok(())
    }

    /// Where the units for which `below` is true end between `start` and `end`. Behind them a power cut may have left
    /// sectors as they were beside sectors as they were to be: a unit across two sectors may then have a size, but lack
    /// the front of its offset, and look as if it were of an older record.
    fn known_end(
        &self,
        start: u64,
        mut end: u64,
        below: impl Fn(Unit) -> bool,
        is_of_log: IsOfLog<'_>,
    ) -> io::Result<u64> {
        loop {
            end = partition(start, end, |at| Ok(below(self.read_written(at)?)))?;
            let Some(last) = end.checked_sub(1).filter(|last| *last >= start) else { return Ok(end) };
            let in_sector = last % self.units_per_file() * UNIT_BYTES % SECTOR_BYTES;
            if in_sector + UNIT_BYTES <= SECTOR_BYTES {
                return Ok(end);
            }
            let unit = self.read_written(last)?;
            // Whatever it is, the sector before it ends in units that it must go on from. No file begins across two.
            let before = self.read_written(last - 1)?;
            let after = if before.is_message() { before.end() } else { LogOffset(1) };
            let goes_on = below(before) && (!unit.is_message() || unit.offset >= after);
            if goes_on && (!unit.is_message() || is_of_log(self, QueueOffset(last), unit)?) {
                return Ok(end);
            }
            end = last;
        }
    }

    fn raise_min(&self, state: &mut State, log_min: LogOffset) -> io::Result<()> {
        // The first file may stand behind the end, wiped.
        let first = state.existing.first_key_value().map_or(state.written, |(start, ())| state.written.min(*start));
        let min = partition(state.min.max(first), state.written, |at| {
            let unit = self.read_written(at)?;
            // A hole, which only a broken disk makes, says nothing: what stands before it is not skipped for it.
            Ok(unit.size > 0 && (!unit.is_message() || unit.offset < log_min))
        })?;
        // Units in memory are newer than any that retention may take.
        state.min = state.min.max(min);
        Ok(())
    }

    fn read_written(&self, at: u64) -> io::Result<Unit> {
        let position = at % self.units_per_file() * UNIT_BYTES;
        let bytes = self.files.open(&self.path_of(at))?.read(position..position + UNIT_BYTES)?;
        Ok(Unit::decode(bytes.first_chunk().expect("twenty bytes were asked for")))
    }

    /// The open file that holds unit `at`.
    fn file_of(&self, state: &mut State, at: u64) -> io::Result<Arc<dyn File>> {
        let start = at / self.units_per_file() * self.units_per_file();
        if let Some((known, file)) = &state.recent
            && *known == start
            && let Some(file) = file.upgrade()
        {
            return Ok(file);
        }
        let file = self.files.open(&self.path_of(at))?;
        state.recent = Some((start, Arc::downgrade(&file)));
        Ok(file)
    }

    fn units_per_file(&self) -> u64 {
        self.files.file_bytes() / UNIT_BYTES
    }

    /// The file that holds unit `at`.
    fn path_of(&self, at: u64) -> PathBuf {
        self.directory.join(self.name_of(at))
    }

    fn name_of(&self, at: u64) -> String {
        name_of(at / self.units_per_file() * self.files.file_bytes())
    }

    /// The first unit of a file that is not as long as it should be, and stays so.
    fn first_of_short(&self, entry: &Entry) -> io::Result<Option<Unit>> {
        if entry.len < UNIT_BYTES {
            return Ok(None);
        }
        let file = self.files.storage().open(&self.directory.join(&entry.name), Open::ReadOnly)?;
        Ok(file.read_cold(0..UNIT_BYTES)?.first_chunk().map(Unit::decode))
    }

    fn lacks(&self, what: String) -> OpenQueueError {
        OpenQueueError::Lacks(format!("{}: {what}", self.directory.display()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("a panic while it is held ends the process")
    }
}

impl State {
    fn max(&self) -> u64 {
        self.written + self.tail.len() as u64
    }
}

/// Why a queue cannot be opened as it stands.
#[derive(Debug, thiserror::Error)]
pub enum OpenQueueError {
    /// Units that were durable are not there, though the log has their messages: the queue must be made anew.
    #[error("{0}")]
    Lacks(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Why a queue could not be made durable.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    #[error(transparent)]
    Sync(#[from] SyncFailed),
    #[error("a consume queue cannot be written: {0}")]
    Io(#[from] io::Error),
}

/// The first position in `low..high` for which `is_before` is false; it is true up to there and false from there on.
fn partition(mut low: u64, mut high: u64, mut is_before: impl FnMut(u64) -> io::Result<bool>) -> io::Result<u64> {
    while low < high {
        let middle = low + (high - low) / 2;
        if is_before(middle)? {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

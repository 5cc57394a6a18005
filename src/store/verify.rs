//! Looks through a store and says what is wrong with it: the log record by record, then whatever is derived against
//! the log. Changes nothing (beside taking the lock). Knows nothing of how a broker runs.

mod entries;
mod units;

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
};

use self::units::{Found, Units};
use super::{
    checkpoint::{Checkpoint, CheckpointFile},
    config_file::backup_of,
    index_file::Shape,
    record::{self, Record, Scan},
    reput::SCHEDULE_TOPIC,
    segment::{name_of, offset_of},
};
use crate::{
    env::{Held, LockError, Open, Storage},
    model::{LogOffset, properties},
    protocol::json::Json,
};

/// Problems kept; more are only counted.
const PROBLEMS_MAX: usize = 1_000;
/// Bytes of the log read at once.
const CHUNK_BYTES: u64 = 4 << 20;

/// What a problem is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A segment has not the length of the others.
    SegmentLength,
    /// A segment is missing between two others.
    SegmentMissing,
    /// No record stands where one should.
    Record,
    /// A queue's messages are not numbered without gaps.
    QueueOffset,
    /// A consume queue differs from what the log says.
    ConsumeQueue,
    /// An index entry points at no record with that key.
    Index,
    /// The checkpoint promises what is not there.
    Checkpoint,
    /// A file of settings cannot be read.
    Config,
    /// The disk does not give a file's bytes.
    Unreadable,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::SegmentLength => "segment-length",
            Kind::SegmentMissing => "segment-missing",
            Kind::Record => "damage",
            Kind::QueueOffset => "queue-offset",
            Kind::ConsumeQueue => "consume-queue",
            Kind::Index => "index",
            Kind::Checkpoint => "checkpoint",
            Kind::Config => "config",
            Kind::Unreadable => "unreadable",
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub file: PathBuf,
    /// Byte within the file.
    pub offset: u64,
    pub kind: Kind,
    pub text: String,
}

/// What the store holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stat {
    pub segments: usize,
    pub segment_bytes: u64,
    pub records: u64,
    pub record_bytes: u64,
    pub log_begin: LogOffset,
    pub log_end: LogOffset,
    /// Store timestamps of the first and the last record.
    pub first_ms: Option<i64>,
    pub last_ms: Option<i64>,
    /// Messages by topic and queue.
    pub topics: BTreeMap<String, BTreeMap<u32, u64>>,
}

#[derive(Debug, Clone, Default)]
pub struct Report {
    pub problems: Vec<Problem>,
    /// Problems beyond those listed.
    pub unlisted: u64,
    /// The last stop was in order.
    pub is_clean: bool,
    /// Behind the end stands what a stop out of order left; the next start wipes it.
    pub has_torn_end: bool,
    /// A broker runs on the store: what it is writing could not be checked.
    pub is_running: bool,
    pub stat: Stat,
    /// Where the log is first damaged: the segment's base and the record's offset.
    pub damaged_at: Option<(LogOffset, LogOffset)>,
}

impl Report {
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    pub fn add(&mut self, file: &Path, offset: u64, kind: Kind, text: impl Into<String>) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(Problem { file: file.to_owned(), offset, kind, text: text.into() });
        } else {
            self.unlisted += 1;
        }
    }
}

/// Where a store is and how its files are shaped.
#[derive(Debug, Clone)]
pub struct Place {
    pub root: PathBuf,
    pub commit_log: PathBuf,
    /// `None`: RocketMQ's own shape; files of another length are then not looked into.
    pub index: Option<Shape>,
}

#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error("{path} is no store: it has no directory {missing}")]
    NoStore { path: String, missing: String },
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// One file of the log.
#[derive(Clone)]
pub struct Piece {
    pub base: LogOffset,
    pub len: u64,
    pub path: PathBuf,
}

/// Takes the lock; `None` if a broker has it. Where it cannot be taken for another reason nobody else can either.
pub fn lock(storage: &dyn Storage, root: &Path) -> (Option<Box<dyn Held>>, bool) {
    match storage.lock(&root.join("lock"), "lock") {
        Ok(held) => (Some(held), false),
        Err(LockError::Taken { .. }) => (None, true),
        Err(LockError::Failed { .. }) => (None, false),
    }
}

/// The log's files in order.
pub fn pieces(storage: &dyn Storage, place: &Place) -> Result<Vec<Piece>, VerifyError> {
    let directory = &place.commit_log;
    let entries = storage.list(directory).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            VerifyError::NoStore { path: place.root.display().to_string(), missing: directory.display().to_string() }
        }
        _ => error.into(),
    })?;
    let piece = |entry: &crate::env::storage::Entry| {
        let base = offset_of(&entry.name).filter(|_| !entry.is_dir)?;
        Some(Piece { base: LogOffset(base), len: entry.len, path: directory.join(&entry.name) })
    };
    Ok(entries.iter().filter_map(piece).collect())
}

/// Checks everything, with `check_crc` bodies too. `progress` is told bytes done and bytes in all.
pub fn verify(
    storage: &dyn Storage,
    place: &Place,
    check_crc: bool,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Report, VerifyError> {
    // What is no store is not touched.
    pieces(storage, place)?;
    let (_lock, is_running) = lock(storage, &place.root);
    verify_locked(storage, place, is_running, check_crc, progress)
}

pub(super) fn verify_locked(
    storage: &dyn Storage,
    place: &Place,
    is_running: bool,
    check_crc: bool,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Report, VerifyError> {
    let mut report = Report { is_running, ..Report::default() };
    let walk = Walk::new(storage, place, check_crc)?;
    report.is_clean = walk.clean;
    let derived = walk.derived;
    walk.run(&mut report, progress)?;
    entries::check(storage, place, derived, &mut report)?;
    check_config(storage, place, &mut report)?;
    Ok(report)
}

/// The way through the log.
struct Walk<'s> {
    storage: &'s dyn Storage,
    place: &'s Place,
    pieces: Vec<Piece>,
    checkpoint: Checkpoint,
    /// The last stop was clean.
    clean: bool,
    /// Queues and index are complete below this.
    derived: LogOffset,
    check_crc: bool,
    /// The next queue offset of each queue.
    next: BTreeMap<String, BTreeMap<u32, u64>>,
    queues: Units<'s>,
}

/// How the walk through one segment ended.
enum End {
    /// At its end.
    Whole,
    /// Nothing was ever written from here on.
    Nothing(LogOffset),
    Damaged(LogOffset, String),
}

impl<'s> Walk<'s> {
    fn new(storage: &'s dyn Storage, place: &'s Place, check_crc: bool) -> Result<Self, VerifyError> {
        let pieces = pieces(storage, place)?;
        let path = place.root.join("checkpoint");
        let checkpoint = match CheckpointFile::peek(storage, &path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Checkpoint::default(),
            checkpoint => checkpoint?,
        };
        let clean = !storage.exists(&place.root.join("abort"));
        let derived = match (checkpoint.known, clean) {
            (Some(known), _) => known.derived,
            (None, true) => LogOffset(u64::MAX),
            (None, false) => LogOffset(0),
        };
        let queues = Units::new(storage, place.root.join("consumequeue"));
        Ok(Walk { storage, place, pieces, checkpoint, clean, derived, check_crc, next: BTreeMap::new(), queues })
    }

    fn run(mut self, report: &mut Report, progress: &mut dyn FnMut(u64, u64)) -> Result<(), VerifyError> {
        let known = self.checkpoint.known.map_or(LogOffset(0), |known| known.flushed);
        let size = match self.pieces.as_slice() {
            [] => 0,
            [only] => only.len,
            // Two neighbours tell it, wherever one is missing.
            many => many.windows(2).map(|pair| pair[1].base - pair[0].base).min().unwrap_or(0),
        };
        let total = self.pieces.iter().map(|piece| piece.len).sum();
        report.stat.segment_bytes = size;
        report.stat.segments = self.pieces.len();
        report.stat.log_begin = self.pieces.first().map_or(LogOffset(0), |piece| piece.base);
        report.stat.log_end = report.stat.log_begin;
        let used = self.used_pieces()?;
        let mut pieces = std::mem::take(&mut self.pieces);
        // What a crash left of making them; the next start removes them.
        while pieces.len() > used && pieces.last().is_some_and(|last| last.len != size) {
            pieces.pop();
        }
        let mut expected: Option<LogOffset> = None;
        let mut done = 0;
        for (at, piece) in pieces.iter().enumerate() {
            let is_used = at < used;
            if let Some(expected) = expected.filter(|expected| *expected != piece.base) {
                let text = format!("{} is missing; {} follows", name_of(expected.0), piece.path.display());
                report.add(&self.place.commit_log.join(name_of(expected.0)), 0, Kind::SegmentMissing, text);
                report.damaged_at.get_or_insert((expected, expected));
                self.next.clear();
            }
            expected = Some(piece.base + size);
            if piece.len != size {
                let text = format!("it has {} bytes, the others have {size}", piece.len);
                report.add(&piece.path, piece.len.min(size), Kind::SegmentLength, text);
                report.damaged_at.get_or_insert((piece.base, piece.base));
                self.next.clear();
            } else if is_used {
                let end = self.segment(piece, report, &mut |within| progress(done + within, total))?;
                self.judge(end, piece, at + 1 == used, known, report);
            }
            done += piece.len;
            progress(done, total);
        }
        if report.damaged_at.is_none() && report.stat.log_end < known && !report.is_running {
            let text = format!("it knows the log durable up to {known}, but it ends at {}", report.stat.log_end);
            report.add(&self.place.root.join("checkpoint"), 0, Kind::Checkpoint, text);
        }
        self.check_queue_ends(report)
    }

    /// The pieces up to the last one in which something was written.
    fn used_pieces(&self) -> io::Result<usize> {
        for (at, piece) in self.pieces.iter().enumerate().rev() {
            let head = piece.len.min(8);
            let bytes = self.storage.open(&piece.path, Open::ReadOnly)?.read_cold(0..head)?;
            if bytes.iter().any(|byte| *byte != 0) {
                return Ok(at + 1);
            }
        }
        Ok(self.pieces.len().min(1))
    }

    /// Whether the way a segment ended is as it should be.
    fn judge(&mut self, end: End, piece: &Piece, is_last: bool, known: LogOffset, report: &mut Report) {
        let (at, text) = match end {
            End::Whole => return report.stat.log_end = piece.base + piece.len,
            End::Nothing(at) => (at, "zeros where a record should begin".to_owned()),
            End::Damaged(at, text) => (at, text),
        };
        if is_last {
            report.stat.log_end = at;
            let is_nothing = text.starts_with("zeros");
            // Behind what is known to be durable a crash may leave anything; after a clean stop there is nothing.
            let may_be_torn = at >= known && (is_nothing || !self.clean || report.is_running);
            if may_be_torn || report.is_running {
                report.has_torn_end = !is_nothing && !report.is_running;
                return;
            }
        }
        report.add(&piece.path, at - piece.base, Kind::Record, format!("log offset {at}: {text}"));
        report.damaged_at.get_or_insert((piece.base, at));
        // What stands between here and the next segment cannot be counted.
        self.next.clear();
    }

    fn segment(&mut self, piece: &Piece, report: &mut Report, progress: &mut dyn FnMut(u64)) -> io::Result<End> {
        let file = self.storage.open(&piece.path, Open::ReadOnly)?;
        let end = piece.base + piece.len;
        let mut at = piece.base;
        let mut wanted = CHUNK_BYTES;
        while at < end {
            let from = at;
            let until = end.min(from + wanted);
            let bytes = match file.read_cold(from - piece.base..until - piece.base) {
                Ok(bytes) => bytes,
                Err(error) => return Ok(End::Damaged(at, format!("the disk does not give it: {error}"))),
            };
            while at < until {
                let rest = &bytes[(at - from) as usize..];
                match record::scan(rest, self.check_crc) {
                    Scan::Record(record) if record::leaves_no_filler(record.size, end - at) => {
                        return Ok(End::Damaged(at, "a record that leaves no room for a filler".to_owned()));
                    }
                    Scan::Record(record) if record.log_offset == at => {
                        self.record(&record, piece, report)?;
                        at = at + u64::from(record.size);
                    }
                    Scan::Record(record) => {
                        return Ok(End::Damaged(at, format!("a record of offset {}", record.log_offset)));
                    }
                    Scan::Filler => return Ok(End::Whole),
                    Scan::Nothing => return Ok(End::Nothing(at)),
                    // The chunk may end within the record: look again with more of it.
                    Scan::Invalid(_) if until < end && super::recovery::is_cut(rest, until - at, end - at) => {
                        if at == from {
                            wanted = record::peek(rest).map_or(CHUNK_BYTES, |(size, _)| CHUNK_BYTES.max(size.into()));
                        }
                        break;
                    }
                    Scan::Invalid(what) => return Ok(End::Damaged(at, what.to_owned())),
                }
            }
            progress(at - piece.base);
        }
        Ok(End::Whole)
    }

    fn record(&mut self, record: &Record<'_>, piece: &Piece, report: &mut Report) -> io::Result<()> {
        let stat = &mut report.stat;
        stat.records += 1;
        stat.record_bytes += u64::from(record.size);
        stat.first_ms.get_or_insert(record.store_timestamp);
        stat.last_ms = Some(record.store_timestamp);
        let message = &record.message;
        if !message.takes_queue_offset() {
            return Ok(());
        }
        let (topic, id, place) = (message.topic, message.queue_id, record.queue_offset.0);
        if !stat.topics.contains_key(topic) {
            stat.topics.insert(topic.to_owned(), BTreeMap::new());
        }
        *stat.topics.get_mut(topic).expect("just put there").entry(id).or_default() += 1;
        if !self.next.contains_key(topic) {
            self.next.insert(topic.to_owned(), BTreeMap::new());
        }
        let next = self.next.get_mut(topic).expect("just put there").insert(id, place + 1);
        // 0 begins a new life of a topic that was deleted.
        if let Some(next) = next.filter(|next| *next != place && place != 0) {
            let text = format!("message {place} of {topic} queue {id} follows message {}", next as i64 - 1);
            report.add(&piece.path, record.log_offset - piece.base, Kind::QueueOffset, text);
        }
        if record.log_offset >= self.derived {
            return Ok(());
        }
        let units = &mut self.queues;
        let tags_code = match topic {
            SCHEDULE_TOPIC => None,
            _ => Some(properties::tags_code(properties::get(message.properties, properties::name::TAGS))),
        };
        let expect = (record.log_offset.0, record.size);
        match units.get(topic, id, place)? {
            Found::NoQueue => {}
            Found::Unit { offset, size, tags, .. }
                if (offset, size) == expect && tags_code.is_none_or(|code| code == tags) => {}
            // A later life of the topic.
            Found::Unit { offset, .. } if offset > expect.0 => {}
            Found::Unit { offset, size, file, at, .. } => {
                let text = format!(
                    "the queue {topic}/{id} does not point to its message {place}: it says log offset {offset}, size \
                     {size}; the log has it at {}, size {}",
                    expect.0, expect.1
                );
                report.add(&file, at, Kind::ConsumeQueue, text);
            }
            Found::Missing { file } => {
                report.add(
                    &file,
                    0,
                    Kind::ConsumeQueue,
                    format!("the queue {topic}/{id} does not have its message {place}"),
                );
            }
        }
        Ok(())
    }

    /// No queue goes on behind its last message. A broker that runs may have added some.
    fn check_queue_ends(&mut self, report: &mut Report) -> Result<(), VerifyError> {
        let units = &mut self.queues;
        let root = &units.root;
        let is_empty = self.storage.list(root).map_or_else(|_| true, |entries| entries.is_empty());
        if is_empty && !report.stat.topics.is_empty() && self.derived > report.stat.log_begin {
            report.add(root, 0, Kind::ConsumeQueue, "there is no consume queue, though the log has messages");
        }
        if report.is_running || report.damaged_at.is_some() {
            return Ok(());
        }
        for (topic, queues) in &self.next {
            for (id, next) in queues {
                if let Found::Unit { offset, size, file, at, .. } = units.get(topic, *id, *next)?
                    && size > 0
                    && offset < self.derived.0
                {
                    let text = format!("{topic} queue {id} goes on at {next}, behind the last message of the log");
                    report.add(&file, at, Kind::ConsumeQueue, text);
                }
            }
        }
        Ok(())
    }
}

/// Every table under `config` is there in full, or its copy is.
fn check_config(storage: &dyn Storage, place: &Place, report: &mut Report) -> io::Result<()> {
    let directory = place.root.join("config");
    let entries = match storage.list(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    let wrong = |path: &Path| match storage.read(path) {
        Err(error) => Some(error.to_string()),
        Ok(bytes) if bytes.is_empty() => Some("it is empty".to_owned()),
        Ok(bytes) => Json::parse_file(&bytes).err().map(|error| error.to_string()),
    };
    for entry in entries.iter().filter(|entry| entry.name.ends_with(".json")) {
        let path = directory.join(&entry.name);
        if let (Some(reason), Some(_)) = (wrong(&path), wrong(&backup_of(&path))) {
            let text = format!("{reason}, and {}.bak is of no use either", entry.name);
            report.add(&path, 0, Kind::Config, text);
        }
    }
    Ok(())
}

//! What happens between opening the directory and accepting the first message: the log's end is found, what is torn
//! behind it is wiped before anything is appended, and what is derived is completed. Idempotent; may be killed anywhere.
//!
//! Damage below the offset that the checkpoint knows to be durable is never cut off: it stops the start.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{
    checkpoint::{Checkpoint, CheckpointError, Known},
    config::StoreConfig,
    consume_queue::{ConsumeQueue, Unit},
    foreign::Foreign,
    queues::Queues,
    record::{self, FILLER_MIN, Record, Scan},
    reput::Dispatcher,
    segment::{Segment, Segments, offset_of},
};
use crate::{
    env::{Clock, LockError, Open, Storage, SyncFailed},
    model::{LogOffset, QueueOffset},
};

/// How often a start that takes long says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(3);

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Foreign(#[from] Foreign),
    #[error("{0}. Is another broker running on this store? Stop it or choose another directory with --store")]
    Locked(#[from] LockError),
    #[error("{}", named(what, path, error))]
    Io { what: &'static str, path: String, error: io::Error },
    #[error(
        "{path} has {len} bytes, the store's other segments {expect}. It holds messages, so it is not dropped; run \
         `keelmq store verify`, then restore the file from a backup or run `keelmq store repair --set-aside`"
    )]
    SegmentLength { path: String, len: u64, expect: u64 },
    #[error(
        "the commit log has no segment {missing}, though {next} follows it. Restore the file from a backup or run \
         `keelmq store repair --set-aside`"
    )]
    SegmentMissing { missing: String, next: String },
    #[error(
        "damage in {path} at byte {at} (log offset {offset}): {reason}. The log was durable up to offset {known}, so this \
         is not a torn tail and is not cut off. Run `keelmq store verify`; restore the file from a backup, or run \
         `keelmq store repair --set-aside` to go on without what stands behind it"
    )]
    Damaged { path: String, at: u64, offset: LogOffset, known: LogOffset, reason: String },
    #[error(transparent)]
    Sync(#[from] SyncFailed),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error("{0}")]
    Config(String),
    /// A consume queue has not the units of messages that the log has; answered by making all of them anew.
    #[error("{0}")]
    QueueLacks(String),
}

impl OpenError {
    pub(super) fn io(what: &'static str, path: &Path) -> impl Fn(io::Error) -> OpenError {
        let path = path.display().to_string();
        move |error| OpenError::Io { what, path: path.clone(), error }
    }
}

/// Files say themselves what could not be done with which of them; that is not said twice.
fn named(what: &str, path: &str, error: &io::Error) -> String {
    let said = error.to_string();
    if said.starts_with(what) && said.contains(path) { said } else { format!("{what} {path}: {said}") }
}

/// What recovery found, for the banner and the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovered {
    /// The last stop was clean.
    pub clean: bool,
    pub log_begin: LogOffset,
    pub log_end: LogOffset,
    /// Records read and derived again.
    pub records: u64,
    pub bytes_read: u64,
    /// Bytes behind the end that were torn and are wiped.
    pub wiped: bool,
    /// Something was missing of what is derived, so all of it was made anew.
    pub rebuilt: bool,
}

/// The segments that the directory holds, adjacent and of one size; the remains of a creation cut by a crash removed.
/// The size is the store's own if it has one.
pub fn load_segments(storage: &dyn Storage, config: &StoreConfig) -> Result<(Arc<Segments>, bool), OpenError> {
    let directory = &config.commit_log;
    let entries = storage.list(directory).map_err(OpenError::io("cannot list", directory))?;
    let mut files: Vec<(u64, u64, PathBuf)> = entries
        .iter()
        .filter(|entry| !entry.is_dir)
        .filter_map(|entry| Some((offset_of(&entry.name)?, entry.len, directory.join(&entry.name))))
        .collect();
    // The distance of two files is the size; a single file tells it by its length, unless its creation was cut.
    let size = match files.as_slice() {
        [] => config.segment_bytes,
        [(_, len, _)] => {
            if *len == 0 {
                config.segment_bytes
            } else {
                *len
            }
        }
        // Of two neighbours, wherever one is missing.
        many => many.windows(2).map(|pair| pair[1].0 - pair[0].0).min().unwrap_or(config.segment_bytes),
    };
    let size = if files.len() == 1 && is_unused(storage, &files[0].2, size)? { config.segment_bytes } else { size };
    let mut dropped = false;
    while let Some((_, len, path)) = files.last()
        && *len != size
    {
        if !is_unused(storage, path, *len)? {
            return Err(OpenError::SegmentLength { path: path.display().to_string(), len: *len, expect: size });
        }
        storage.remove(path).map_err(OpenError::io("cannot remove", path))?;
        files.pop();
        dropped = true;
    }
    let segments = Arc::new(Segments::new(directory, size));
    let mut next: Option<LogOffset> = None;
    for (base, len, path) in files {
        if len != size {
            return Err(OpenError::SegmentLength { path: path.display().to_string(), len, expect: size });
        }
        if let Some(next) = next
            && next.0 != base
        {
            let missing = segments.path_of(next).display().to_string();
            return Err(OpenError::SegmentMissing { missing, next: path.display().to_string() });
        }
        let file = storage.open(&path, Open::Existing).map_err(OpenError::io("cannot open", &path))?;
        let segment = Segment { base: LogOffset(base), size, path, file };
        next = Some(segment.end());
        segments.push(Arc::new(segment));
    }
    Ok((segments, dropped))
}

/// No record begins the file: it was being created when the machine went down.
fn is_unused(storage: &dyn Storage, path: &Path, len: u64) -> Result<bool, OpenError> {
    let failed = OpenError::io("cannot read", path);
    let file = storage.open(path, Open::ReadOnly).map_err(&failed)?;
    let head = file.read_cold(0..len.min(8).min(file.len())).map_err(&failed)?;
    Ok(head.iter().all(|byte| *byte == 0))
}

/// Where reading begins: everything below is durable and derived already. Ours if the checkpoint has it; else by
/// Java's rules: the third last file after a clean stop, after a crash the newest file whose first record is older
/// than what the checkpoint's timestamps cover by three seconds.
pub fn begin(segments: &Segments, checkpoint: &Checkpoint, clean: bool) -> Result<LogOffset, OpenError> {
    let all = segments.all();
    let Some(first) = all.first() else { return Ok(checkpoint.known.map_or(LogOffset(0), |known| known.derived)) };
    if let Some(known) = checkpoint.known {
        return Ok(known.derived.max(first.base));
    }
    if clean {
        return Ok(all[all.len().saturating_sub(3)].base);
    }
    let covered = checkpoint.physic_timestamp.min(checkpoint.logics_timestamp) - 3_000;
    for segment in all.iter().rev() {
        let failed = OpenError::io("cannot read", &segment.path);
        let head = segment.file.read_cold(0..segment.size.min(96)).map_err(failed)?;
        if record::peek_store_timestamp(&head).is_some_and(|timestamp| timestamp != 0 && timestamp <= covered) {
            return Ok(segment.base);
        }
    }
    Ok(first.base)
}

/// Whether the record that `unit` points at is the queue's message `at`; yes if the log has let go of it.
pub fn is_unit_of(segments: &Segments, queue: &ConsumeQueue, at: QueueOffset, unit: Unit) -> io::Result<bool> {
    let Some(segment) = segments.find(unit.offset) else {
        return Ok(segments.first().is_some_and(|first| unit.offset < first.base));
    };
    if unit.end() > segment.end() {
        return Ok(false);
    }
    let bytes = segment.file.read_cold(unit.offset - segment.base..unit.end() - segment.base)?;
    Ok(match record::scan(&bytes, false) {
        Scan::Record(record) => {
            record.size == unit.size
                && record.queue_offset == at
                && record.message.queue_id == queue.id
                && *record.message.topic == *queue.topic
        }
        _ => false,
    })
}

/// The last message of each queue below where deriving begins.
#[derive(Default)]
struct Lasts(BTreeMap<(String, u32), (QueueOffset, LogOffset)>);

impl Lasts {
    fn note(&mut self, record: &Record<'_>) {
        if !record.message.takes_queue_offset() {
            return;
        }
        let place = (record.queue_offset, record.log_offset);
        let queue = (record.message.topic.to_owned(), record.message.queue_id);
        self.0.insert(queue, place);
    }

    /// Their units are there, unless their topic was deleted: a file that is missing at a queue's end would else give its
    /// offsets out again.
    fn check(self, queues: &Queues) -> Result<(), OpenError> {
        for ((topic, id), (offset, at)) in self.0 {
            let Some(queue) = queues.find(&topic, id).filter(|queue| queue.max().0 > 0 && queue.min() <= offset) else {
                continue;
            };
            let units = queue.units(offset, 1).map_err(|error| OpenError::QueueLacks(error.to_string()))?;
            if units.first().is_none_or(|unit| unit.offset != at) && !plant!(QueueLackIgnored) {
                return Err(OpenError::QueueLacks(format!(
                    "consume queue {topic}/{id} lacks its message {offset}, which the log has at {at}"
                )));
            }
        }
        Ok(())
    }
}

/// Says how far a long replay is.
struct Progress<'a> {
    clock: &'a dyn Clock,
    due: Duration,
    begin: LogOffset,
    end: LogOffset,
}

impl Progress<'_> {
    fn at(&mut self, at: LogOffset) {
        let now = self.clock.monotonic();
        if now < self.due {
            return;
        }
        self.due = now + PROGRESS_EVERY;
        let mib = |bytes: u64| bytes >> 20;
        tracing::info!(
            "recovering: {} of {} MiB of the log are read",
            mib(at - self.begin),
            mib(self.end - self.begin)
        );
    }
}

/// Reads the log to its end and checks every record, beginning some way below `begin`; from `begin` on it derives
/// from each. Returns the end and the last record's store timestamp.
///
/// What stands behind the durable mark was read from the page cache, and a sync of it may have failed in the process
/// before this one: the kernel has marked such pages clean since, and a sync would skip them. So it is written once more.
pub fn replay(
    clock: &dyn Clock,
    segments: &Segments,
    checkpoint: &Checkpoint,
    begin: LogOffset,
    config: &StoreConfig,
    dispatcher: &Dispatcher,
    recovered: &mut Recovered,
) -> Result<(LogOffset, i64), OpenError> {
    let known = checkpoint.known.map_or(LogOffset(0), |known| known.flushed);
    let rewrite = checkpoint.known.map_or(begin, |known| known.flushed);
    let mut last_store_timestamp = checkpoint.physic_timestamp;
    let mut queue = None;
    let first = segments.first().map_or(begin, |first| first.base);
    let start = checkpoint.known.map_or(begin, |known| known.check_from).max(first).min(begin);
    // A checkpoint that knows of more than there are files for: the missing ones are damage like any other.
    let mut at = segments.last().map_or(start, |last| start.min(last.end()));
    let mut progress = Progress {
        clock,
        due: clock.monotonic() + PROGRESS_EVERY,
        begin: at,
        end: segments.last().map_or(at, |last| last.end()),
    };
    let mut lasts = Some(Lasts::default());
    let mut reason = None;
    while let Some(segment) = segments.find(at).filter(|_| reason.is_none()) {
        let failed = OpenError::io("cannot read", &segment.path);
        let mut wanted = config.replay_chunk_bytes;
        while at < segment.end() && reason.is_none() {
            let from = at;
            let end = segment.end().min(from + wanted);
            let bytes = segment.file.read_cold(from - segment.base..end - segment.base).map_err(&failed)?;
            progress.at(at);
            while at < end {
                let rest = &bytes[(at - from) as usize..];
                match record::scan(rest, config.check_crc && !plant!(ChecksumIgnored)) {
                    Scan::Record(Record { message, .. })
                        if at >= known
                            // What Java wrote may hold any byte.
                            && checkpoint.known.is_some()
                            && !plant!(TornPropertiesTaken)
                            && !record::is_text(message.topic.as_bytes(), message.properties) =>
                    {
                        reason = Some("a record without all of its properties");
                        break;
                    }
                    Scan::Record(record) if record::leaves_no_filler(record.size, segment.end() - at) => {
                        reason = Some("a record that leaves no room for a filler");
                        break;
                    }
                    Scan::Record(record) if record.log_offset == at => {
                        if at < begin {
                            lasts.iter_mut().for_each(|lasts| lasts.note(&record));
                        } else if let Some(lasts) = lasts.take() {
                            lasts.check(&dispatcher.queues)?;
                        }
                        if at >= begin && !(plant!(ReplaySkipsFirst) && at == begin && at.0 > 0) {
                            dispatcher
                                .dispatch(&record, &mut queue)
                                .map_err(OpenError::io("cannot rebuild a consume queue of", segments.directory()))?;
                        }
                        last_store_timestamp = last_store_timestamp.max(record.store_timestamp);
                        at = at + u64::from(record.size);
                        recovered.records += 1;
                        recovered.bytes_read += u64::from(record.size);
                    }
                    Scan::Filler => at = segment.end(),
                    Scan::Nothing => {
                        reason = Some("zeros where a record should begin");
                        break;
                    }
                    // The chunk may end within the record: look again with all of it.
                    Scan::Invalid(_) if end < segment.end() && is_cut(rest, end - at, segment.end() - at) => {
                        if at == from {
                            wanted = wanted.max(record::peek(rest).map_or(FILLER_MIN, |(size, _)| size.into()));
                        }
                        break;
                    }
                    Scan::Record(_) => {
                        reason = Some("a record of another offset");
                        break;
                    }
                    Scan::Invalid(what) => {
                        reason = Some(what);
                        break;
                    }
                }
            }
            let (again, to) = (from.max(rewrite), at.min(end));
            if again < to && !plant!(UnflushedTailTrusted) {
                let bytes = &bytes[(again - from) as usize..(to - from) as usize];
                let failed = OpenError::io("cannot write once more", &segment.path);
                segment.file.write(again - segment.base, &[bytes]).map_err(failed)?;
                segment.file.start_write_back(again - segment.base..to - segment.base);
            }
        }
    }
    if at < known && !plant!(DamageCutOff) {
        let segment = segments.find(at);
        // Whether it is the log that is wrong there or the checkpoint is seen from where a record begins for certain.
        if let (Some(segment), Some(known)) = (&segment, checkpoint.known)
            && at == start
            && at > segment.base
        {
            let known = Some(Known { check_from: segment.base, ..known });
            let checkpoint = Checkpoint { known, ..*checkpoint };
            return replay(clock, segments, &checkpoint, begin, config, dispatcher, recovered);
        }
        let path = segment.as_ref().map_or_else(|| segments.path_of(at), |segment| segment.path.clone());
        return Err(OpenError::Damaged {
            path: path.display().to_string(),
            at: segment.map_or(0, |segment| at - segment.base),
            offset: at,
            known,
            reason: reason.unwrap_or("the segment is missing").to_owned(),
        });
    }
    lasts.map_or(Ok(()), |lasts| lasts.check(&dispatcher.queues))?;
    Ok((at, last_store_timestamp))
}

/// Whether the record at the head of `rest` may go on behind the `available` bytes; its segment has `left`. A larger size
/// is damage, not a reason to read on.
pub(super) fn is_cut(rest: &[u8], available: u64, left: u64) -> bool {
    record::peek(rest).is_none_or(|(size, _)| (available + 1..=left).contains(&u64::from(size)))
}

/// Makes the log end at `end` for good: zeroes what stands behind it in its segment, removes the segments behind that,
/// and syncs everything from `begin` on, so that what was found is durable before anything depends on it.
pub async fn settle(
    storage: &dyn Storage,
    segments: &Segments,
    begin: LogOffset,
    end: LogOffset,
    wipe: bool,
) -> Result<Arc<Segments>, OpenError> {
    let kept = Arc::new(Segments::new(segments.directory(), segments.size()));
    let all = segments.all();
    // The first segment stays even if nothing is in it; a later one that begins at the end or behind it goes.
    let goes = |index: usize| index > 0 && all[index].base >= end;
    // Newest first: a crash in between must not leave a hole in the run.
    for index in (0..all.len()).rev().filter(|index| goes(*index)) {
        let path = &all[index].path;
        storage.remove(path).map_err(OpenError::io("cannot remove", path))?;
        // Else a power cut may keep this name and lose an older one: a hole.
        if !plant!(SegmentsRemovedUnordered) {
            storage.sync_dir(segments.directory()).await?;
        }
    }
    for (index, segment) in all.iter().enumerate().filter(|(index, _)| !goes(*index)) {
        if wipe && segment.base <= end && end < segment.end() && !plant!(TailNotWiped) {
            let failed = OpenError::io("cannot wipe the torn end of", &segment.path);
            segment.file.zero(end - segment.base..segment.size).map_err(failed)?;
        }
        if segment.end() > begin || index + 1 == all.len() {
            segment.file.sync().await?;
        }
        kept.push(segment.clone());
    }
    storage.sync_dir(segments.directory()).await?;
    Ok(kept)
}

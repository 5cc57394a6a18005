//! The commit log's writing end. An append decides a record's offsets and stages its bytes under one short lock;
//! *committing* hands staged bytes to the segments' files in one write; *flushing* makes them durable.
//!
//! Always `flushed ≤ committed ≤ appended`. Who commits when is the flush mode's: under SYNC_FLUSH the flush service
//! commits and syncs a whole group, under ASYNC_FLUSH every connection commits what its turn appended, and with the
//! transient pool a timer does.

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    allocator::{AllocateError, Allocator},
    config::{FlushMode, StoreConfig},
    next_offsets::NextOffsets,
    record,
    segment::{Segment, Segments},
    slow::Slow,
};
use crate::{
    env::{Clock, SyncFailed},
    model::{
        BatchItem, LogOffset, Message, QueueOffset, Watermark,
        message::{PROPERTIES_MAX_BYTES, TOPIC_MAX_BYTES},
    },
};

/// Where a message went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    pub offset: LogOffset,
    /// One past its last byte: what an acknowledgement waits for.
    pub end: LogOffset,
    pub queue_offset: QueueOffset,
    pub store_timestamp: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    #[error("body of {size} bytes exceeds maxMessageSize of {size_max} bytes")]
    BodyTooLarge { size: u64, size_max: u64 },
    #[error("properties of {size} bytes exceed {size_max} bytes")]
    PropertiesTooLarge { size: usize, size_max: usize },
    /// A start tells a torn record by them.
    #[error("properties that are not UTF-8 or hold a zero byte")]
    PropertiesNotText,
    #[error("topic of {size} bytes; 1 to {size_max} are allowed")]
    TopicLength { size: usize, size_max: usize },
    #[error("record of {size} bytes does not fit a segment of {segment} bytes")]
    RecordTooLarge { size: u64, segment: u64 },
    /// The current segment is full and the next is not ready: wait for it with `CommitLog::segment_ready`, try again.
    #[error("the current segment is full, the next is not ready yet")]
    SegmentFull,
    #[error(transparent)]
    Allocate(#[from] AllocateError),
    /// The pool holds all it may; try again.
    #[error("the transient store pool is exhausted")]
    PoolExhausted,
    /// The disk is too full; ends when space returns.
    #[error("{reason}")]
    DiskFull { reason: Arc<str> },
    /// The store accepts nothing any more.
    #[error("{reason}")]
    Closed { reason: Arc<str> },
}

impl AppendError {
    /// The message itself is at fault: no other try will do better.
    pub fn is_of_message(&self) -> bool {
        match self {
            AppendError::BodyTooLarge { .. }
            | AppendError::PropertiesTooLarge { .. }
            | AppendError::PropertiesNotText
            | AppendError::TopicLength { .. }
            | AppendError::RecordTooLarge { .. } => true,
            AppendError::SegmentFull
            | AppendError::Allocate(_)
            | AppendError::PoolExhausted
            | AppendError::DiskFull { .. }
            | AppendError::Closed { .. } => false,
        }
    }
}

pub struct CommitLog {
    pub segments: Arc<Segments>,
    /// Offsets given out.
    appended: AtomicU64,
    /// In the page cache. Readers of ASYNC_FLUSH stop here.
    pub committed: Arc<Watermark>,
    /// On stable storage. Never ahead of what sync has promised.
    pub flushed: Arc<Watermark>,
    pub allocator: Arc<Allocator>,
    clock: Arc<dyn Clock>,
    mode: FlushMode,
    body_max: u64,
    staged_max: u64,
    /// ASYNC_FLUSH starts write-back in steps of so many bytes, rather than in one lump at the sync; 0 never.
    write_back: u64,
    pool_max: u64,
    segment_wait: Duration,
    tail: Mutex<Tail>,
    /// Held while staged bytes are written, so that they reach the files in the order of their offsets.
    write: Mutex<Write>,
    /// Monotonic milliseconds, and one, since which staged bytes are being written; 0 while nobody writes.
    writing_since: AtomicU64,
    /// `closed` or `full` is set in the tail.
    refuses: AtomicBool,
    slow_lock: Slow,
    slow_write: Slow,
}

struct Tail {
    /// The segment being written; `None` before the first one and between two.
    segment: Option<Arc<Segment>>,
    /// = appended.
    position: LogOffset,
    staged: Vec<Run>,
    staged_bytes: u64,
    last_store_timestamp: i64,
    queues: NextOffsets,
    closed: Option<Arc<str>>,
    /// Why appends are refused for now.
    full: Option<Arc<str>>,
    /// An emptied buffer, kept for the next run.
    spare: Option<Vec<u8>>,
}

/// A write under way, seen by those who ask whether it takes too long.
struct Writing<'l> {
    log: &'l CommitLog,
    began: Duration,
}

impl<'l> Writing<'l> {
    fn begin(log: &'l CommitLog) -> Self {
        let began = log.clock.monotonic();
        log.writing_since.store(began.as_millis() as u64 + 1, Ordering::Relaxed);
        Writing { log, began }
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.log.writing_since.store(0, Ordering::Relaxed);
        self.log.slow_write.took(self.began, self.log.clock.monotonic());
    }
}

/// Bytes to be written one behind the other into one segment.
struct Run {
    segment: Arc<Segment>,
    at: LogOffset,
    bytes: Vec<u8>,
}

struct Write {
    /// Segments with bytes that no sync has covered, oldest first.
    unsynced: Vec<Arc<Segment>>,
    /// Write-back has been started up to here.
    started: u64,
}

/// A longer write, which holds up all others, is said.
const SLOW_WRITE: Duration = Duration::from_millis(500);
/// A longer wait for the lock around the log's end is said.
const LOCK_WAIT: Duration = Duration::from_millis(500);

/// A spare buffer larger than this is given back to the allocator of memory.
const SPARE_MAX_BYTES: usize = 8 << 20;

impl CommitLog {
    /// A log that goes on at `end`, which is durable. `segment` is the one that holds `end`, unless it begins there.
    pub fn new(
        config: &StoreConfig,
        clock: Arc<dyn Clock>,
        segments: Arc<Segments>,
        allocator: Arc<Allocator>,
        segment: Option<Arc<Segment>>,
        end: LogOffset,
        last_store_timestamp: i64,
    ) -> Arc<Self> {
        if let Some(segment) = &segment {
            assert!(segment.base <= end && end < segment.end(), "the log ends at {end}, outside its last segment");
        }
        Arc::new(CommitLog {
            segments,
            appended: AtomicU64::new(end.0),
            committed: Watermark::new(end.0),
            flushed: Watermark::new(end.0),
            allocator,
            clock,
            mode: config.flush,
            body_max: config.body_max_bytes,
            staged_max: config.staged_max_bytes,
            write_back: if config.flush == FlushMode::Sync { 0 } else { config.write_back_bytes },
            pool_max: config.pool_max_bytes,
            segment_wait: Duration::from_millis(config.segment_wait_ms),
            tail: Mutex::new(Tail {
                segment,
                position: end,
                staged: Vec::new(),
                staged_bytes: 0,
                last_store_timestamp,
                queues: NextOffsets::default(),
                closed: None,
                full: None,
                spare: None,
            }),
            write: Mutex::new(Write { unsynced: Vec::new(), started: end.0 }),
            writing_since: AtomicU64::new(0),
            refuses: AtomicBool::new(false),
            slow_lock: Slow::new(
                "waiting for the log's end",
                LOCK_WAIT,
                "appends hold each other up; look at the load of processor and memory",
            ),
            slow_write: Slow::new(
                "handing messages to the page cache",
                SLOW_WRITE,
                "nothing else is written meanwhile and sends are refused; look at dirty pages (vm.dirty_ratio) and the disk",
            ),
        })
    }

    pub fn appended(&self) -> LogOffset {
        LogOffset(self.appended.load(Ordering::SeqCst))
    }

    /// What the next message of the queue gets; set once, when recovery has counted.
    pub fn set_next_queue_offset(&self, topic: &str, queue_id: u32, next: QueueOffset) {
        let mut tail = self.lock_tail();
        *tail.queues.of(topic, queue_id) = next.0;
    }

    pub fn next_queue_offset(&self, topic: &str, queue_id: u32) -> QueueOffset {
        let tail = self.lock_tail();
        QueueOffset(tail.queues.get(topic, queue_id))
    }

    /// The topic is gone: a later one of its name begins at 0 again.
    pub fn forget_topic(&self, topic: &str) {
        self.lock_tail().queues.forget(topic);
    }

    /// Appends one message of at most `body_max` bytes. It may be acknowledged once the mode's promise reaches `end`.
    pub fn append(&self, message: &Message<'_>, body_max: u64) -> Result<Appended, AppendError> {
        check(message.topic, message.body.len() as u64, message.properties, body_max)?;
        let size = record::size_of(message);
        let crc = record::body_crc(message.body);
        let mut tail = self.lock_tail();
        self.make_room(&mut tail, size)?;
        let appended = self.stage(&mut tail, message, crc);
        self.settle(tail)?;
        Ok(appended)
    }

    /// Appends all items one behind the other within one segment, or none. `shared` lends them everything but flag,
    /// body and properties. `each` is called with every item's place.
    pub fn append_batch(
        &self,
        shared: &Message<'_>,
        items: &[BatchItem<'_>],
        mut each: impl FnMut(Appended),
    ) -> Result<(), AppendError> {
        let mut total = 0;
        for item in items {
            check(shared.topic, item.body.len() as u64, item.properties, self.body_max)?;
            total += record::size_of(&with_item(shared, item));
        }
        let crcs: Vec<u32> = items.iter().map(|item| record::body_crc(item.body)).collect();
        let mut tail = self.lock_tail();
        self.make_room(&mut tail, total)?;
        for (item, crc) in items.iter().zip(crcs) {
            each(self.stage(&mut tail, &with_item(shared, item), crc));
        }
        self.settle(tail)
    }

    /// Waits for the segment that `AppendError::SegmentFull` asked for.
    pub async fn segment_ready(&self) -> Result<(), AppendError> {
        Ok(self.allocator.ready(self.segment_wait).await?)
    }

    /// Hands everything staged to the files. Afterwards `committed ≥` what was appended before the call.
    pub fn commit(&self) -> Result<LogOffset, AppendError> {
        let end = self.commit_quietly()?;
        self.committed.wake_patient();
        Ok(end)
    }

    /// As `commit`; the caller derives what follows from it, or wakes who does.
    pub fn commit_quietly(&self) -> Result<LogOffset, AppendError> {
        let mut write = self.write.lock().expect("a panic while it is held ends the process");
        let (runs, end) = {
            let mut tail = self.lock_tail();
            if let Some(reason) = &tail.closed
                && self.committed.failure().is_some()
            {
                return Err(AppendError::Closed { reason: reason.clone() });
            }
            tail.staged_bytes = 0;
            (std::mem::take(&mut tail.staged), tail.position)
        };
        let mut spare = None;
        let _writing = (!runs.is_empty()).then(|| Writing::begin(self));
        for mut run in runs {
            if let Err(error) = run.segment.file.write(run.at - run.segment.base, &[&run.bytes]) {
                drop(write);
                let reason = format!("a write to {} failed: {error}", run.segment.path.display());
                if !plant!(FailedWriteForgotten) {
                    self.fail(&reason);
                }
                return Err(AppendError::Closed { reason: reason.into() });
            }
            let run_end = run.at + run.bytes.len() as u64;
            if self.write_back > 0 && run_end.0 >= write.started + self.write_back {
                let from = write.started.max(run.segment.base.0) - run.segment.base.0;
                run.segment.file.start_write_back(from..run_end - run.segment.base);
                write.started = run_end.0;
            }
            if write.unsynced.last().is_none_or(|last| last.base != run.segment.base) {
                write.unsynced.push(run.segment);
            }
            run.bytes.clear();
            spare = Some(run.bytes);
        }
        self.committed.advance_quietly(end.0);
        drop(write);
        if let Some(spare) = spare.filter(|spare| spare.capacity() <= SPARE_MAX_BYTES) {
            self.lock_tail().spare.get_or_insert(spare);
        }
        Ok(end)
    }

    /// For how long the kernel has been taking what is being written: a page cache that is busy makes it slow.
    pub fn writing_for(&self) -> Duration {
        match self.writing_since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => self.clock.monotonic().saturating_sub(Duration::from_millis(since - 1)),
        }
    }

    /// Syncs everything committed before the call, the older segment first, and moves `flushed`. One failed sync is
    /// final: nothing is promised any more. Blocks; on a service only.
    pub async fn sync(&self) -> Result<LogOffset, SyncFailed> {
        let (segments, target) = {
            let mut write = self.write.lock().expect("a panic while it is held ends the process");
            (std::mem::take(&mut write.unsynced), self.committed.get())
        };
        assert!(target <= self.appended().0, "committed {target} is beyond appended {}", self.appended());
        let newest = segments.len().saturating_sub(1);
        for (index, segment) in segments.into_iter().enumerate() {
            if plant!(OnlyNewestSegmentSynced) && index < newest {
                continue;
            }
            let mut synced = segment.file.sync().await;
            if plant!(SegmentsSyncedTwice) && synced.is_ok() {
                synced = segment.file.sync().await;
            }
            if let Err(error) = synced {
                if plant!(SyncErrorSwallowed) || (plant!(FailedSyncRetried) && segment.file.sync().await.is_ok()) {
                    continue;
                }
                if !plant!(FailedSyncForgotten) {
                    self.fail(&error.to_string());
                }
                return Err(error);
            }
        }
        let target = if plant!(WaiterOfNextGroupReleased) { self.committed.get() } else { target };
        if self.flushed.failure().is_none() {
            self.flushed.advance(target);
        }
        Ok(LogOffset(target))
    }

    /// Refuses every further append with `reason`; what was appended goes its way. The first reason stays.
    pub fn close(&self, reason: &str) {
        let mut tail = self.lock_tail();
        tail.closed.get_or_insert_with(|| reason.into());
        self.refuses.store(true, Ordering::SeqCst);
    }

    /// The disk broke its promise. Final: nobody who waits is acknowledged, nothing is accepted.
    pub fn fail(&self, reason: &str) {
        if self.flushed.failure().is_none() {
            tracing::error!(
                "{reason}. Nothing sent from now on is stored and nothing still waiting is acknowledged; \
                 check the disk and start the broker again"
            );
        }
        let reason = format!("the store is read-only: {reason}");
        self.close(&reason);
        self.committed.fail(&reason);
        if !plant!(WaitersNotTold) {
            self.flushed.fail(&reason);
        }
    }

    /// Refuses appends as long as there is a reason, which is said of the disk.
    pub fn refuse_full(&self, reason: Option<Arc<str>>) {
        let mut tail = self.lock_tail();
        if plant!(FullForEver) && reason.is_none() {
            return;
        }
        tail.full = reason;
        self.refuses.store(tail.full.is_some() || tail.closed.is_some(), Ordering::SeqCst);
    }

    /// Why appends are refused, if they are.
    pub fn refusal(&self) -> Option<Arc<str>> {
        if !self.refuses.load(Ordering::Relaxed) {
            return None;
        }
        let tail = self.lock_tail();
        tail.closed.clone().or_else(|| tail.full.clone())
    }

    pub fn last_store_timestamp(&self) -> i64 {
        self.lock_tail().last_store_timestamp
    }

    /// Makes sure that `size` bytes and a filler fit behind the tail, going on to the next segment if need be.
    fn make_room(&self, tail: &mut Tail, size: u64) -> Result<(), AppendError> {
        if let Some(reason) = &tail.closed {
            return Err(AppendError::Closed { reason: reason.clone() });
        }
        if let Some(reason) = &tail.full {
            return Err(AppendError::DiskFull { reason: reason.clone() });
        }
        let segment_size = self.segments.size();
        if size + record::FILLER_MIN > segment_size {
            return Err(AppendError::RecordTooLarge { size, segment: segment_size });
        }
        if self.mode == FlushMode::Pooled && tail.staged_bytes + size > self.pool_max {
            return Err(AppendError::PoolExhausted);
        }
        if let Some(segment) = &tail.segment {
            let remaining = segment.end() - tail.position;
            assert!(remaining >= record::FILLER_MIN, "{remaining} bytes left in {}", segment.path.display());
            if size + record::FILLER_MIN <= remaining || (plant!(OffByOneAtSegmentEnd) && size <= remaining) {
                return Ok(());
            }
            let segment = segment.clone();
            record::encode_filler(remaining, run(&mut tail.staged, &mut tail.spare, tail.position, &segment));
            tail.position = segment.end();
            tail.staged_bytes += record::FILLER_MIN;
            tail.segment = None;
            self.appended.store(tail.position.0, Ordering::SeqCst);
        }
        let next = self.allocator.take(tail.position).ok_or(AppendError::SegmentFull)?;
        self.segments.push(next.clone());
        tail.segment = Some(next);
        Ok(())
    }

    fn stage(&self, tail: &mut Tail, message: &Message<'_>, crc: u32) -> Appended {
        let offset = tail.position;
        let last = if plant!(StoreTimestampGoesBack) { 0 } else { tail.last_store_timestamp };
        let store_timestamp = self.clock.wall_ms().max(last);
        tail.last_store_timestamp = store_timestamp;
        let queue_offset = if message.takes_queue_offset() {
            let next = tail.queues.of(message.topic, message.queue_id);
            *next += 1;
            QueueOffset(*next - 1)
        } else {
            QueueOffset(0)
        };
        let Tail { segment, staged, spare, .. } = &mut *tail;
        let segment = segment.as_ref().expect("make_room put one there");
        let out = run(staged, spare, offset, segment);
        let before = out.len();
        record::encode(message, crc, queue_offset, offset, store_timestamp, out);
        let size = (out.len() - before) as u64;
        let end = offset + size;
        assert!(end + record::FILLER_MIN <= segment.end(), "the record at {offset} leaves no room for a filler");
        tail.position = end;
        tail.staged_bytes += size;
        self.appended.store(tail.position.0, Ordering::SeqCst);
        Appended { offset, end: tail.position, queue_offset, store_timestamp }
    }

    /// Releases the tail; commits at once if too much is staged.
    fn settle(&self, tail: MutexGuard<'_, Tail>) -> Result<(), AppendError> {
        let full = tail.staged_bytes > self.staged_max && self.mode != FlushMode::Pooled;
        drop(tail);
        if full { self.commit().map(|_| ()) } else { Ok(()) }
    }

    /// The clock is asked only where somebody stands in the way.
    fn lock_tail(&self) -> MutexGuard<'_, Tail> {
        if let Ok(tail) = self.tail.try_lock() {
            return tail;
        }
        let began = self.clock.monotonic();
        let tail = self.tail.lock().expect("a panic while it is held ends the process");
        self.slow_lock.took(began, self.clock.monotonic());
        tail
    }
}

fn check(topic: &str, body: u64, properties: &[u8], body_max: u64) -> Result<(), AppendError> {
    if body > body_max {
        return Err(AppendError::BodyTooLarge { size: body, size_max: body_max });
    }
    if properties.len() > PROPERTIES_MAX_BYTES {
        return Err(AppendError::PropertiesTooLarge { size: properties.len(), size_max: PROPERTIES_MAX_BYTES });
    }
    if topic.is_empty() || topic.len() > TOPIC_MAX_BYTES {
        return Err(AppendError::TopicLength { size: topic.len(), size_max: TOPIC_MAX_BYTES });
    }
    if !record::is_text(topic.as_bytes(), properties) {
        return Err(AppendError::PropertiesNotText);
    }
    Ok(())
}

fn with_item<'a>(shared: &Message<'a>, item: &BatchItem<'a>) -> Message<'a> {
    Message { flag: item.flag, body: item.body, properties: item.properties, ..*shared }
}

/// The buffer for bytes at `position`, the tail's, in `segment`.
fn run<'t>(
    staged: &'t mut Vec<Run>,
    spare: &mut Option<Vec<u8>>,
    position: LogOffset,
    segment: &Arc<Segment>,
) -> &'t mut Vec<u8> {
    if staged.last().is_none_or(|run| run.segment.base != segment.base) {
        let bytes = spare.take().unwrap_or_default();
        staged.push(Run { segment: segment.clone(), at: position, bytes });
    }
    &mut staged.last_mut().expect("just put there").bytes
}

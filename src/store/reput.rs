//! Reads the log behind its writer and derives the rest: consume queues, index, the news of arrivals. Stops where
//! readers must stop, so `dispatched ≤ flushed` under SYNC_FLUSH and `dispatched ≤ committed` otherwise.

use std::{
    io,
    sync::{
        Arc, Mutex, OnceLock, TryLockError,
        atomic::{AtomicI64, Ordering, fence},
    },
};

use super::{
    consume_queue::{ConsumeQueue, Unit},
    index::Index,
    queues::Queues,
    record::{self, FILLER_MIN, Record, Scan},
    segment::Segments,
    stop::Stopping,
};
use crate::model::{LogOffset, QueueOffset, Watermark, properties};

/// Topic of messages that wait for their time; its queues keep the time of delivery in place of a tag.
pub const SCHEDULE_TOPIC: &str = "SCHEDULE_TOPIC_XXXX";
/// What a connection derives at most before its worker goes on; the rest is the service's.
const FOLLOW_BYTES_MAX: u64 = 256 << 10;

/// A message became readable.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    pub topic: &'a str,
    pub queue_id: u32,
    pub queue_offset: QueueOffset,
    pub tags_code: i64,
    pub store_timestamp: i64,
    /// Bytes of the whole record.
    pub size: u32,
    pub sys_flag: i32,
    pub properties: &'a [u8],
}

pub type OnArrival = Box<dyn Fn(&Arrival<'_>) + Send + Sync>;

/// Derives from one record at a time; recovery and reput share it.
pub struct Dispatcher {
    pub queues: Arc<Queues>,
    pub index: Option<Arc<Index>>,
    pub delay_levels_ms: Vec<i64>,
}

impl Dispatcher {
    /// Puts the record into its queue and the index. `cached` spares the lookup while records of one queue follow
    /// each other. Returns the tags code.
    pub fn dispatch(&self, record: &Record<'_>, cached: &mut Option<Arc<ConsumeQueue>>) -> io::Result<i64> {
        let message = &record.message;
        let tags_code = self.tags_code(record);
        if message.takes_queue_offset() {
            if !cached.as_ref().is_some_and(|queue| queue.id == message.queue_id && *queue.topic == *message.topic) {
                *cached = Some(self.queues.find_or_create(message.topic, message.queue_id));
            }
            let queue = cached.as_ref().expect("just put there");
            queue.push(record.queue_offset, Unit { offset: record.log_offset, size: record.size, tags_code })?;
        }
        if let Some(index) = &self.index {
            index.put(record)?;
        }
        Ok(tags_code)
    }

    fn tags_code(&self, record: &Record<'_>) -> i64 {
        let text = record.message.properties;
        if record.message.topic == SCHEDULE_TOPIC
            && let Some(level) =
                properties::get(text, properties::name::DELAY).and_then(|level| level.parse::<usize>().ok())
            && level > 0
            && !self.delay_levels_ms.is_empty()
        {
            return record.store_timestamp + self.delay_levels_ms[level.min(self.delay_levels_ms.len()) - 1];
        }
        properties::tags_code(properties::get(text, properties::name::TAGS))
    }
}

pub struct Reput {
    segments: Arc<Segments>,
    dispatcher: Dispatcher,
    /// Where readers stop.
    limit: Arc<Watermark>,
    /// Bytes of the log read at once.
    chunk_bytes: u64,
    pub dispatched: Arc<Watermark>,
    /// Held by whoever derives: the service, or a connection that has just appended.
    deriving: Mutex<()>,
    last_store_timestamp: AtomicI64,
    on_arrival: OnceLock<OnArrival>,
}

/// What reput met in the log that should not be there.
#[derive(Debug, thiserror::Error)]
pub enum ReputError {
    #[error("the log cannot be read at offset {at}: {error}")]
    Read { at: LogOffset, error: io::Error },
    #[error("consume queue or index cannot be written: {0}")]
    Write(io::Error),
    #[error("at log offset {at}, written by this process, there is no record: {what}")]
    Broken { at: LogOffset, what: &'static str },
}

impl Reput {
    pub fn new(
        segments: Arc<Segments>,
        dispatcher: Dispatcher,
        limit: Arc<Watermark>,
        chunk_bytes: u64,
        from: LogOffset,
        last_store_timestamp: i64,
    ) -> Arc<Self> {
        Arc::new(Reput {
            segments,
            dispatcher,
            limit,
            chunk_bytes,
            dispatched: Watermark::new(from.0),
            deriving: Mutex::new(()),
            last_store_timestamp: AtomicI64::new(last_store_timestamp),
            on_arrival: OnceLock::new(),
        })
    }

    pub fn dispatcher(&self) -> &Dispatcher {
        &self.dispatcher
    }

    /// Who is told of arrivals; set once, before messages are accepted.
    pub fn on_arrival(&self, callback: OnArrival) {
        assert!(self.on_arrival.set(callback).is_ok(), "arrivals have one listener");
    }

    /// Store timestamp of the last dispatched record.
    pub fn last_store_timestamp(&self) -> i64 {
        self.last_store_timestamp.load(Ordering::SeqCst)
    }

    /// The service: follows the limit until stopped.
    pub async fn run(self: Arc<Self>, mut stopping: Stopping) -> Result<(), ReputError> {
        // Acknowledgements go first.
        let mut waiter = self.limit.patient_waiter();
        loop {
            self.catch_up()?;
            let next = self.dispatched.get() + 1;
            let grown = std::future::poll_fn(|context| waiter.poll_reached(next, context));
            tokio::select! {
                biased;
                outcome = grown => if outcome.is_err() {
                    // The disk failed: nothing more will become readable.
                    stopping.stopped().await;
                    return Ok(());
                },
                () = stopping.stopped() => return Ok(()),
            }
        }
    }

    /// Derives what the limit allows on the thread of the caller, who has just moved it quietly: for one message that is
    /// cheaper than waking the service. If somebody is at it already, it is theirs; what is too much is the service's.
    pub fn follow(&self) {
        let mut left = FOLLOW_BYTES_MAX;
        while self.dispatched.get() < self.limit.get() {
            // Between moving the limit and looking at the lock; its counterpart stands behind the unlocking.
            fence(Ordering::SeqCst);
            let deriving = match self.deriving.try_lock() {
                Ok(deriving) => deriving,
                Err(TryLockError::WouldBlock) => return,
                Err(TryLockError::Poisoned(_)) => panic!("deriving from the log broke off before"),
            };
            let from = self.dispatched.get();
            // What went wrong goes wrong for the service, too, and it is the one who says so.
            let is_well = self.derive(from + left).is_ok();
            drop(deriving);
            fence(Ordering::SeqCst);
            left = left.saturating_sub(self.dispatched.get() - from);
            if !is_well || left == 0 || self.dispatched.get() == from {
                return self.limit.wake_patient();
            }
        }
    }

    fn catch_up(&self) -> Result<(), ReputError> {
        let deriving = self.deriving.lock().expect("deriving from the log broke off before");
        let outcome = self.derive(u64::MAX);
        drop(deriving);
        // Whoever found the lock taken relies on its holder looking at the limit again.
        fence(Ordering::SeqCst);
        outcome
    }

    /// Up to the limit, or to `stop` if that is before it and a record ends there or ahead of it.
    fn derive(&self, stop: u64) -> Result<(), ReputError> {
        let mut queue = None;
        let mut wanted = self.chunk_bytes;
        loop {
            let (from, limit) = (LogOffset(self.dispatched.get()), LogOffset(self.limit.get()));
            assert!(from <= limit, "dispatched {from} is beyond what may be read, {limit}");
            if from == limit || from.0 >= stop {
                return Ok(());
            }
            let gone = || ReputError::Broken { at: from, what: "its segment is gone" };
            let segment_end = self.segments.find(from).ok_or_else(gone)?.end();
            let end = limit.min(segment_end).min(from + wanted);
            let bytes = self.segments.bytes(from..end, false).map_err(|error| ReputError::Read { at: from, error })?;
            let mut at = from;
            while at < end {
                let rest = &bytes[(at - from) as usize..];
                match record::scan(rest, false) {
                    Scan::Record(record) => {
                        let tags_code = self.dispatcher.dispatch(&record, &mut queue).map_err(ReputError::Write)?;
                        at = at + u64::from(record.size);
                        self.last_store_timestamp.store(record.store_timestamp, Ordering::SeqCst);
                        self.announce(&record, tags_code);
                    }
                    Scan::Filler => at = segment_end,
                    Scan::Invalid(what) if end < limit.min(segment_end) => {
                        // The chunk ends within a record: go on from its head, with more of it if need be.
                        if at == from {
                            if record::peek(rest).is_some_and(|(size, _)| u64::from(size) <= wanted) {
                                return Err(ReputError::Broken { at, what });
                            }
                            wanted = wanted.max(record::peek(rest).map_or(FILLER_MIN, |(size, _)| size.into()));
                        }
                        break;
                    }
                    Scan::Invalid(what) => return Err(ReputError::Broken { at, what }),
                    Scan::Nothing => return Err(ReputError::Broken { at, what: "zeros" }),
                }
            }
            self.dispatched.advance(at.0);
        }
    }

    fn announce(&self, record: &Record<'_>, tags_code: i64) {
        if let Some(tell) = self.on_arrival.get()
            && record.message.takes_queue_offset()
        {
            tell(&Arrival {
                topic: record.message.topic,
                queue_id: record.message.queue_id,
                queue_offset: record.queue_offset,
                tags_code,
                store_timestamp: record.store_timestamp,
                size: record.size,
                sys_flag: record.message.sys_flag,
                properties: record.message.properties,
            });
        }
    }
}

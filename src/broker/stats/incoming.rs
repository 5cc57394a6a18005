//! What comes into a topic: by kind of message, by size, and what was rolled back. (Kinds and sizes are those of RocketMQ
//! 5's metrics.)

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{
    by_queue::{ByQueue, Room},
    meter::Flow,
};
use crate::{
    broker::topics::SCHEDULE_TOPIC,
    env::Clock,
    model::{
        message::sys_flag,
        properties,
        spread::{self, Spread},
    },
    store::Arrival,
};

/// Upper bounds in bytes of the classes of sizes; one more class is above all of them.
pub const SIZES: [f64; 6] = [1_024.0, 4_096.0, 524_288.0, 1_048_576.0, 2_097_152.0, 4_194_304.0];

/// Upper bounds in seconds of the classes of how long transactions took. (Source: TransactionMetricsManager of Apache
/// RocketMQ 5.4.0.)
const FINISHED_S: [f64; 6] = [5.0, 60.0, 600.0, 3_600.0, 43_200.0, 86_400.0];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Normal,
    Fifo,
    Delay,
    Transaction,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::Normal, Kind::Fifo, Kind::Delay, Kind::Transaction];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Normal => "normal",
            Kind::Fifo => "fifo",
            Kind::Delay => "delay",
            Kind::Transaction => "transaction",
        }
    }

    /// A delayed message is counted in its topic when it arrives there, a transactional one when it is committed.
    fn of(arrival: &Arrival<'_>) -> Self {
        let has = |name: &str| properties::get(arrival.properties, name).is_some();
        if arrival.sys_flag & sys_flag::TRANSACTION_MASK != 0 {
            Kind::Transaction
        } else if arrival.topic == SCHEDULE_TOPIC || has("REAL_TOPIC") {
            Kind::Delay
        } else if has("__SHARDINGKEY") {
            Kind::Fifo
        } else {
            Kind::Normal
        }
    }
}

/// Messages by class of size, and their bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes {
    pub counts: [u64; SIZES.len() + 1],
    pub bytes: u64,
}

impl Sizes {
    pub fn messages(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// What came into a topic since the start.
#[derive(Debug, Clone, PartialEq)]
pub struct CameIn {
    pub topic: String,
    /// Of the kinds that ever came.
    pub kinds: Vec<(Kind, Sizes)>,
    pub rolled_back: u64,
    /// Seconds from a half message to its commit.
    pub finished: Spread,
}

pub(super) struct Incoming {
    pub(super) flow: Flow,
    pub(super) queues: ByQueue<Flow>,
    kinds: [OfKind; Kind::ALL.len()],
    rolled_back: AtomicU64,
    finished: Mutex<Spread>,
}

#[derive(Default)]
struct OfKind {
    counts: [AtomicU64; SIZES.len() + 1],
    bytes: AtomicU64,
}

impl Incoming {
    pub(super) fn new(now: Duration) -> Self {
        Incoming {
            flow: Flow::new(now),
            queues: ByQueue::default(),
            kinds: Default::default(),
            rolled_back: AtomicU64::new(0),
            finished: Mutex::new(Spread::new(&FINISHED_S)),
        }
    }

    /// Whether there was room for the figures of its queue.
    pub(super) fn add(&self, arrival: &Arrival<'_>, room: &Room, clock: &dyn Clock) -> bool {
        self.flow.add(1, arrival.size.into());
        let of_kind = &self.kinds[Kind::of(arrival) as usize];
        of_kind.counts[spread::class(&SIZES, arrival.size.into())].fetch_add(1, Relaxed);
        of_kind.bytes.fetch_add(arrival.size.into(), Relaxed);
        self.queues.with(
            arrival.queue_id,
            room,
            || Flow::new(clock.monotonic()),
            |flow| flow.add(1, arrival.size.into()),
        )
    }

    pub(super) fn roll_back(&self) {
        self.rolled_back.fetch_add(1, Relaxed);
    }

    /// A transaction was committed so long after its half message was born.
    pub(super) fn commit(&self, after: Duration) {
        self.finished.lock().expect("nothing panics while it is held").add(after.as_secs() as f64);
    }

    pub(super) fn came_in(&self, topic: &str) -> CameIn {
        let kinds = Kind::ALL.into_iter().zip(&self.kinds).map(|(kind, of_kind)| {
            let counts = of_kind.counts.each_ref().map(|count| count.load(Relaxed));
            (kind, Sizes { counts, bytes: of_kind.bytes.load(Relaxed) })
        });
        CameIn {
            topic: topic.to_owned(),
            kinds: kinds.filter(|(_, sizes)| sizes.messages() > 0).collect(),
            rolled_back: self.rolled_back.load(Relaxed),
            finished: *self.finished.lock().expect("nothing panics while it is held"),
        }
    }
}

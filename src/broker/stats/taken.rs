//! What a group takes of a topic, how fast it got it, what it sent back, and up to where its pulls have come.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use super::{
    by_queue::{ByQueue, Room},
    meter::{Flow, Meter},
};
use crate::env::Clock;

/// By queue: where the next pull goes on.
pub type Stands = BTreeMap<u32, i64>;

pub(super) struct Taken {
    pub(super) got: Got,
    pub(super) sent_back: Meter,
    pub(super) queues: ByQueue<Got>,
    /// As many as the topic has queues: only those are pulled.
    stands: Mutex<Stands>,
}

/// What pulls found, and the milliseconds that each of those took.
#[derive(Default)]
pub(super) struct Got {
    pub(super) flow: Flow,
    pub(super) latency: Meter,
}

/// A pull that found something.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pulled {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) queue: u32,
    /// Where the next pull goes on.
    pub(super) next: i64,
    pub(super) took: Duration,
}

impl Got {
    pub(super) fn new(now: Duration) -> Self {
        let got = Got::default();
        got.flow.begin(now);
        got.latency.begin(now);
        got
    }

    fn add(&self, pulled: &Pulled) {
        self.flow.add(pulled.messages, pulled.bytes);
        self.latency.add(pulled.took.as_millis() as u64);
    }

    pub(super) fn meters(&self) -> [&Meter; 3] {
        [&self.flow.messages, &self.flow.bytes, &self.latency]
    }
}

impl Taken {
    pub(super) fn new(now: Duration) -> Self {
        let taken = Taken {
            got: Got::new(now),
            sent_back: Meter::default(),
            queues: ByQueue::default(),
            stands: Mutex::default(),
        };
        taken.sent_back.begin(now);
        taken
    }

    /// Whether there was room for the figures of its queue.
    pub(super) fn add(&self, pulled: &Pulled, room: &Room, clock: &dyn Clock) -> bool {
        self.got.add(pulled);
        self.stands.lock().expect("nothing panics while it is held").insert(pulled.queue, pulled.next);
        self.queues.with(pulled.queue, room, || Got::new(clock.monotonic()), |got| got.add(pulled))
    }

    pub(super) fn stands(&self) -> Stands {
        self.stands.lock().expect("nothing panics while it is held").clone()
    }

    /// Messages and bytes.
    pub(super) fn sums(&self) -> (u64, u64) {
        (self.got.flow.messages.value(), self.got.flow.bytes.value())
    }
}

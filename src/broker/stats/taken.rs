//! What a group takes of a topic, and up to where its pulls have come.

use std::{
    collections::BTreeMap,
    sync::{Mutex, atomic::Ordering::Relaxed},
    time::Duration,
};

use super::meter::Flow;

/// By queue: where the next pull goes on.
pub type Stands = BTreeMap<u32, i64>;

pub(super) struct Taken {
    pub(super) flow: Flow,
    /// As many as the topic has queues: only those are pulled.
    stands: Mutex<Stands>,
}

impl Taken {
    pub(super) fn new(now: Duration) -> Self {
        Taken { flow: Flow::new(now), stands: Mutex::default() }
    }

    pub(super) fn add(&self, messages: u64, bytes: u64, queue: u32, next: i64) {
        self.flow.add(messages, bytes);
        self.stands.lock().expect("nothing panics while it is held").insert(queue, next);
    }

    pub(super) fn stands(&self) -> Stands {
        self.stands.lock().expect("nothing panics while it is held").clone()
    }

    /// Messages and bytes.
    pub(super) fn sums(&self) -> (u64, u64) {
        (self.flow.messages.value.load(Relaxed), self.flow.bytes.value.load(Relaxed))
    }
}

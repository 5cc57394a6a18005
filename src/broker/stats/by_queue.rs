//! Figures of each queue, as long as there is room for them: of all topics and groups together so many.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

/// How many queues have figures. Removed ones are given back by `recount`.
pub(super) struct Room {
    /// None are kept at all with 0.
    max: usize,
    taken: AtomicUsize,
}

impl Room {
    pub(super) fn new(max: usize) -> Self {
        Room { max, taken: AtomicUsize::new(0) }
    }

    fn take(&self) -> bool {
        let one_more = |taken| (taken < self.max).then_some(taken + 1);
        self.taken.fetch_update(Relaxed, Relaxed, one_more).is_ok()
    }

    pub(super) fn recount(&self, taken: usize) {
        self.taken.store(taken, Relaxed);
    }
}

pub(super) struct ByQueue<T>(Mutex<BTreeMap<u32, Arc<T>>>);

impl<T> Default for ByQueue<T> {
    fn default() -> Self {
        ByQueue(Mutex::default())
    }
}

impl<T> ByQueue<T> {
    /// Whether the queue has figures, or there was room for them.
    pub(super) fn with(&self, queue: u32, room: &Room, new: impl FnOnce() -> T, add: impl FnOnce(&T)) -> bool {
        if room.max == 0 {
            return true;
        }
        let mut queues = self.0.lock().expect("nothing panics while it is held");
        match queues.get(&queue) {
            Some(known) => add(known),
            None if room.take() => add(queues.entry(queue).or_insert(Arc::new(new()))),
            None => return false,
        }
        true
    }

    pub(super) fn get(&self, queue: u32) -> Option<Arc<T>> {
        self.0.lock().expect("nothing panics while it is held").get(&queue).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<T>> {
        self.0.lock().expect("nothing panics while it is held").values().cloned().collect()
    }
}

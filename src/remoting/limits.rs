//! The bounds of one connection, and what all connections of a process share.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use crate::model::RateLimited;

/// What one connection may take.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    pub(super) frame_size_max_bytes: usize,
    pub(super) idle_close: Duration,
    pub(super) in_flight_max: usize,
    pub(super) out_max_bytes: usize,
    pub(super) write_stall_close: Duration,
    pub(super) calls_max: usize,
}

/// Shared by all connections of all ports.
pub(super) struct Limits {
    connections_max: usize,
    connections: AtomicUsize,
    memory_max_bytes: usize,
    memory_bytes: AtomicUsize,
    next_channel: AtomicU64,
    /// Lines about connections that were refused or cut off.
    pub(super) said: RateLimited,
}

/// Lines per window about connections that ended badly.
const SAID_MAX: u32 = 10;
const SAID_WINDOW: Duration = Duration::from_secs(10);

impl Limits {
    pub(super) fn new(connections_max: usize, memory_max_bytes: usize) -> Self {
        Limits {
            connections_max,
            connections: AtomicUsize::new(0),
            memory_max_bytes,
            memory_bytes: AtomicUsize::new(0),
            next_channel: AtomicU64::new(1),
            said: RateLimited::new(SAID_MAX, SAID_WINDOW),
        }
    }

    pub(super) fn channel_id(&self) -> u64 {
        self.next_channel.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn connections_max(&self) -> usize {
        self.connections_max
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// A place for one more connection, to be given back by `leave`.
    pub(super) fn enter(&self) -> bool {
        let one_more = |count| (count < self.connections_max).then_some(count + 1);
        self.connections.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }

    pub(super) fn leave(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.memory_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn has_memory(&self) -> bool {
        self.memory_bytes() < self.memory_max_bytes
    }

    /// A connection that held `before` bytes holds `now`.
    pub(super) fn on_memory(&self, before: usize, now: usize) {
        if now > before {
            self.memory_bytes.fetch_add(now - before, Ordering::Relaxed);
        } else if before > now {
            self.memory_bytes.fetch_sub(before - now, Ordering::Relaxed);
        }
    }
}

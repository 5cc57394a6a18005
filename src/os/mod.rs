//! Keeps `env`'s promises with the kernel: tokio, threads, memory maps. Knows `env` alone.

// Behind the doors is where the world itself is used.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod clock;
mod entropy;
mod host;
mod network;
mod spawner;
mod storage;

use std::{sync::Arc, time::Duration};

use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Handle;

use crate::env::Env;

/// The real world, on top of `runtime` (which needs its I/O and time drivers).
pub fn env(runtime: Handle) -> Env {
    Env {
        clock: Arc::new(clock::KernelClock::new(runtime.clone())),
        spawner: Arc::new(spawner::Threads::new(runtime.clone())),
        network: Arc::new(network::Tcp::new(runtime)),
        storage: Arc::new(storage::Disk),
        entropy: Arc::new(entropy::KernelEntropy),
        host: host::facts(),
    }
}

/// Processor time that this process has used, of all its threads together.
pub fn processor_time() -> Duration {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
}

/// Blocks the calling thread, to some ten microseconds. For services only.
pub fn pause_thread(duration: Duration) {
    std::thread::sleep(duration);
}

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

/// Processor time of the whole machine since its start, in ticks: used by anybody, and in all. `None` without /proc.
pub fn machine_ticks() -> Option<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let ticks: Vec<u64> = text.lines().next()?.split_whitespace().skip(1).map_while(|word| word.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guests are counted as users already.
    let all: u64 = ticks.iter().take(8).sum();
    Some((all - ticks.get(3)? - ticks.get(4)?, all))
}

/// Blocks the calling thread, to some ten microseconds. For services only.
pub fn pause_thread(duration: Duration) {
    std::thread::sleep(duration);
}

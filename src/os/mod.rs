//! Keeps `env`'s promises with the kernel: tokio, threads, memory maps. Knows `env` alone.

// Behind the doors is where the world itself is used.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod clock;
mod entropy;
mod host;
mod network;
mod spawner;
mod storage;

use std::sync::Arc;

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

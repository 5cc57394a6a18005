//! What the broker may ask of the world: time, tasks, sockets, files, randomness. Promises only; `os` keeps them with
//! the kernel, the simulator keeps them with a seed. Knows nothing of messages, frames or logs.

pub mod clock;
pub mod entropy;
pub mod network;
pub mod spawner;
pub mod storage;

use std::{future::Future, net::Ipv4Addr, path::PathBuf, pin::Pin, sync::Arc};

pub use clock::{Clock, Elapsed, timeout};
pub use entropy::Entropy;
pub use network::{Bound, Listener, Network, Stream};
pub use spawner::{Panicked, Spawner, Task};
pub use storage::{File, Held, LockError, Open, Space, Storage, SyncFailed};

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The world of one node. Cloning shares it.
#[derive(Clone)]
pub struct Env {
    pub clock: Arc<dyn Clock>,
    pub spawner: Arc<dyn Spawner>,
    pub network: Arc<dyn Network>,
    pub storage: Arc<dyn Storage>,
    pub entropy: Arc<dyn Entropy>,
    pub host: Host,
}

/// Facts about the machine, as plain data read once at start.
#[derive(Clone, Debug)]
pub struct Host {
    pub name: String,
    /// First address that is not loopback; 127.0.0.1 where there is none.
    pub ipv4: Ipv4Addr,
    pub pid: u32,
    pub cpus: usize,
    pub ram_bytes: u64,
    /// Open descriptors the process may hold (RLIMIT_NOFILE, soft).
    pub files_max: u64,
    /// `$HOME`: RocketMQ's default paths hang below it.
    pub home: PathBuf,
}

//! Calls other processes: name servers, brokers. One connection per address, opened when needed, shared by all who call,
//! gone when idle.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::OnceCell;

use super::{
    CallError, Channel, Router,
    connection::{Common, Connection},
    limits::{Bounds, Limits},
};
use crate::{
    env::{Clock, Network, Spawner, timeout},
    protocol::command::{Answered, Call},
};

/// Bounds of the calling side.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    pub connect_ms: u64,
    /// Length field and content together.
    pub frame_size_max_bytes: usize,
    pub idle_close_ms: u64,
    /// Calls under way to one address.
    pub calls_max: usize,
    /// Requests of the peer to us that are under way; beyond it the connection is not read.
    pub connection_in_flight_max: usize,
    /// Bytes queued to be written on one connection; beyond it the connection is not read.
    pub connection_out_max_bytes: usize,
    /// Bytes of partial frames and queued requests of all connections together; beyond it no connection is read further.
    pub memory_max_bytes: usize,
    /// A peer that takes nothing of what is queued for this long is cut off.
    pub write_stall_close_ms: u64,
}

impl Default for ClientConfig {
    /// RocketMQ's values where it has them (connect, frame, idle).
    fn default() -> Self {
        ClientConfig {
            connect_ms: 3_000,
            frame_size_max_bytes: 16 * 1024 * 1024,
            idle_close_ms: 120_000,
            calls_max: 65_536,
            connection_in_flight_max: 4_096,
            connection_out_max_bytes: 64 * 1024 * 1024,
            memory_max_bytes: 1024 * 1024 * 1024,
            write_stall_close_ms: 60_000,
        }
    }
}

type Slot = Arc<OnceCell<Arc<Channel>>>;

pub struct Client {
    common: Common,
    network: Arc<dyn Network>,
    connect: Duration,
    slots: Mutex<BTreeMap<String, Slot>>,
}

impl Client {
    /// Answers requests of its peers with "not supported".
    pub fn new(
        clock: Arc<dyn Clock>,
        spawner: Arc<dyn Spawner>,
        network: Arc<dyn Network>,
        config: ClientConfig,
    ) -> Client {
        Self::serving(clock, spawner, network, Arc::new(Router::new()), config)
    }

    /// Lets `router` answer what the peers ask (a broker calls its clients over their own connections).
    pub fn serving(
        clock: Arc<dyn Clock>,
        spawner: Arc<dyn Spawner>,
        network: Arc<dyn Network>,
        router: Arc<Router>,
        config: ClientConfig,
    ) -> Client {
        let bounds = Bounds {
            frame_size_max_bytes: config.frame_size_max_bytes,
            idle_close: Duration::from_millis(config.idle_close_ms),
            in_flight_max: config.connection_in_flight_max,
            out_max_bytes: config.connection_out_max_bytes,
            write_stall_close: Duration::from_millis(config.write_stall_close_ms),
            calls_max: config.calls_max,
        };
        let limits = Limits::new(usize::MAX, config.memory_max_bytes);
        Client {
            common: Common { clock, spawner, router, bounds: Arc::new(bounds), limits: Arc::new(limits) },
            network,
            connect: Duration::from_millis(config.connect_ms),
            slots: Mutex::default(),
        }
    }

    /// Asks the process at `address` (`host:port`), connecting first where there is no connection; `within` counts for
    /// both together.
    pub async fn call(&self, address: &str, call: Call, within: Duration) -> Result<Answered, CallError> {
        let clock = &*self.common.clock;
        let begun = clock.monotonic();
        let channel = match timeout(clock, within, self.channel(address)).await {
            Ok(connected) => connected?,
            Err(elapsed) => {
                return Err(CallError::TimedOut { peer: address.to_owned(), after_ms: elapsed.after_ms });
            }
        };
        let left = within.saturating_sub(clock.monotonic().saturating_sub(begun));
        channel.call(call, left).await
    }

    /// Tells the process at `address` something; whether it hears is not known.
    pub async fn oneway(&self, address: &str, call: Call) -> Result<(), CallError> {
        self.channel(address).await?.oneway(call);
        Ok(())
    }

    /// The open connection to `address`; connects where there is none. Callers at the same time share one attempt.
    pub async fn channel(&self, address: &str) -> Result<Arc<Channel>, CallError> {
        let slot = self.slot(address);
        slot.get_or_try_init(|| self.connect(address)).await.cloned()
    }

    /// Closes all connections. Later calls connect anew.
    pub fn close(&self) {
        let slots = std::mem::take(&mut *self.slots.lock().expect("nothing panics while it is held"));
        slots.values().filter_map(|slot| slot.get()).for_each(|channel| channel.close());
    }

    fn slot(&self, address: &str) -> Slot {
        let mut slots = self.slots.lock().expect("nothing panics while it is held");
        if let Some(slot) = slots.get(address)
            && slot.get().is_none_or(|channel| channel.is_open())
        {
            return slot.clone();
        }
        // Addresses come and go with the brokers that a name server knows: those that are closed need no slot.
        slots.retain(|_, slot| slot.get().is_none_or(|channel| channel.is_open()));
        let slot = Slot::default();
        slots.insert(address.to_owned(), slot.clone());
        slot
    }

    async fn connect(&self, address: &str) -> Result<Arc<Channel>, CallError> {
        let failed = |reason: String| CallError::Connect { peer: address.to_owned(), reason };
        let stream = match timeout(&*self.common.clock, self.connect, self.network.connect(address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Err(elapsed) => return Err(failed(elapsed.to_string())),
        };
        let channel = self.common.channel(&*stream);
        let connection = Connection::new(stream, channel.clone(), self.common.clone(), ());
        // Its end shows in the channel.
        drop(self.common.spawner.task("connection", connection));
        Ok(channel)
    }
}

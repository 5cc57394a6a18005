//! Accepts connections up to a limit and gives each its task.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{
    Channel, Router,
    connection::{Common, Connection},
    limits::{Bounds, Limits},
};
use crate::{
    env::{Clock, Listener, Spawner, Stream, spawner::Task, timeout},
    model::Watermark,
};

/// Bounds of the listening side.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    pub connections_max: usize,
    /// Length field and content together.
    pub frame_size_max_bytes: usize,
    pub idle_close_ms: u64,
    /// Requests of one connection that are under way; beyond it the connection is not read.
    pub connection_in_flight_max: usize,
    /// Bytes queued to be written on one connection; beyond it the connection is not read.
    pub connection_out_max_bytes: usize,
    /// Bytes of partial frames and queued answers of all connections together; beyond it those that hold much are not read.
    pub memory_max_bytes: usize,
    /// A peer that takes nothing of what is queued for this long is cut off.
    pub write_stall_close_ms: u64,
    /// Requests from us to one client that are under way.
    pub calls_max: usize,
    pub backlog: u32,
}

impl Default for ServerConfig {
    /// RocketMQ's values where it has them (frame, idle, backlog, calls).
    fn default() -> Self {
        ServerConfig {
            connections_max: 16_384,
            frame_size_max_bytes: 16 * 1024 * 1024,
            idle_close_ms: 120_000,
            connection_in_flight_max: 4_096,
            connection_out_max_bytes: 64 * 1024 * 1024,
            memory_max_bytes: 1024 * 1024 * 1024,
            write_stall_close_ms: 60_000,
            calls_max: 64,
            backlog: 1_024,
        }
    }
}

/// An address that was not to be had, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{what} cannot listen on {address}: {}", self.advice())]
pub struct CannotListen {
    pub what: &'static str,
    pub address: SocketAddr,
    /// The flag that chooses another port.
    pub flag: &'static str,
    pub error: io::Error,
}

impl CannotListen {
    fn advice(&self) -> String {
        let (CannotListen { flag, error, .. }, port) = (self, self.address.port());
        match error.kind() {
            io::ErrorKind::AddrInUse => {
                format!("the port is taken. `ss -ltnp sport = :{port}` shows by whom; choose another with {flag}")
            }
            io::ErrorKind::AddrNotAvailable => {
                "this machine has no such address. `ip address` shows those that it has; \
                choose one with --listen, 0.0.0.0 is all of them"
                    .to_owned()
            }
            io::ErrorKind::PermissionDenied => {
                format!("it may not take that port. Ports below 1024 are for root; choose another with {flag}")
            }
            _ => error.to_string(),
        }
    }
}

/// The pause after an attempt to accept that failed (no descriptors left, most often) doubles up to the longest.
const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(10);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long connections that were closed by force may take to notice.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// One listening port and its connections. Dropping it leaves both running.
pub struct Server {
    common: Common,
    registry: Arc<Registry>,
    /// 1: accept no more.
    stop: Arc<Watermark>,
    accepting: Mutex<Option<Task>>,
}

impl Server {
    pub fn start(
        clock: Arc<dyn Clock>,
        spawner: Arc<dyn Spawner>,
        listener: Box<dyn Listener>,
        router: Arc<Router>,
        config: ServerConfig,
    ) -> Server {
        let bounds = Bounds {
            frame_size_max_bytes: config.frame_size_max_bytes,
            idle_close: Duration::from_millis(config.idle_close_ms),
            in_flight_max: config.connection_in_flight_max,
            out_max_bytes: config.connection_out_max_bytes,
            write_stall_close: Duration::from_millis(config.write_stall_close_ms),
            calls_max: config.calls_max,
        };
        let limits = Arc::new(Limits::new(config.connections_max, config.memory_max_bytes));
        Self::run(Common { clock, spawner, router, bounds: Arc::new(bounds), limits }, listener)
    }

    /// A second port that shares this one's limits (and the numbering of channels); `router` may serve less.
    pub fn start_beside(&self, listener: Box<dyn Listener>, router: Arc<Router>) -> Server {
        Self::run(Common { router, ..self.common.clone() }, listener)
    }

    fn run(common: Common, listener: Box<dyn Listener>) -> Server {
        let registry = Arc::new(Registry::default());
        let stop = Watermark::new(0);
        let accepting = common.spawner.task("accept", accept(common.clone(), registry.clone(), stop.clone(), listener));
        Server { common, registry, stop, accepting: Mutex::new(Some(accepting)) }
    }

    /// Accepts connections, until `shutdown`.
    pub fn accepting(&self) -> Option<Task> {
        self.accepting.lock().expect("nothing panics while it is held").clone()
    }

    /// Connections of this port.
    pub fn connections(&self) -> usize {
        self.registry.lock().channels.len()
    }

    /// Connections of all ports that share the limits.
    pub fn connections_in_all(&self) -> usize {
        self.common.limits.connections()
    }

    /// Bytes of partial frames and queued answers of all connections of all ports that share the limits.
    pub fn memory_bytes(&self) -> usize {
        self.common.limits.memory_bytes()
    }

    /// Tells connections and their memory (of all ports that share the limits) whenever it is asked.
    pub fn usage(&self) -> impl Fn() -> (usize, usize) + Send + Sync + 'static {
        let limits = self.common.limits.clone();
        move || (limits.connections(), limits.memory_bytes())
    }

    /// The open channels of this port, in the order of their ids.
    pub fn channels(&self) -> Vec<Arc<Channel>> {
        self.registry.lock().channels.values().cloned().collect()
    }

    /// Accepts no more, reads no more, answers what was read; whoever is not done after `within` is cut off.
    pub async fn shutdown(&self, within: Duration) {
        self.stop.advance(1);
        let accepting = self.accepting.lock().expect("nothing panics while it is held").take();
        if let Some(accepting) = accepting
            && let Err(panicked) = accepting.finished().await
        {
            tracing::error!("{panicked}");
        }
        self.channels().iter().for_each(|channel| channel.drain());
        let begun = self.registry.lock().begun;
        let clock = &*self.common.clock;
        if timeout(clock, within, self.registry.ended.reached(begun)).await.is_ok() {
            return;
        }
        let channels = self.channels();
        tracing::info!("{} connections are cut off: they did not drain within {within:?}", channels.len());
        channels.iter().for_each(|channel| channel.close());
        // Whoever does not notice in time ends with the process.
        let _ = timeout(clock, CLOSE_WAIT, self.registry.ended.reached(begun)).await;
    }
}

async fn accept(common: Common, registry: Arc<Registry>, stop: Arc<Watermark>, listener: Box<dyn Listener>) {
    let mut pause = ACCEPT_PAUSE_MIN;
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.reached(1) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(stream) => {
                pause = ACCEPT_PAUSE_MIN;
                begin(&common, &registry, stream);
            }
            Err(error) => {
                let now = common.clock.monotonic();
                if let Some(left_out) = common.limits.said.permit(now) {
                    let local = listener.local_address();
                    tracing::warn!(left_out, "{local} cannot accept a connection: {error}; next attempt in {pause:?}");
                }
                tokio::select! {
                    biased;
                    _ = stop.reached(1) => return,
                    () = common.clock.sleep(pause) => {}
                }
                pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
            }
        }
    }
}

fn begin(common: &Common, registry: &Arc<Registry>, stream: Box<dyn Stream>) {
    if !common.limits.enter() {
        if let Some(left_out) = common.limits.said.permit(common.clock.monotonic()) {
            let (peer, max) = (stream.peer_address(), common.limits.connections_max());
            tracing::warn!(left_out, "connection of {peer} refused: {max} connections are open, the limit is {max}");
        }
        return;
    }
    let channel = common.channel(&*stream);
    let place = registry.enter(&channel, common.limits.clone());
    let connection = Connection::new(stream, channel, common.clone(), place);
    // Its end is known by its place in the registry.
    drop(common.spawner.task("connection", connection));
}

#[derive(Default)]
struct Registry {
    connections: Mutex<Connections>,
    /// How many have ended since the start.
    ended: Arc<Watermark>,
}

#[derive(Default)]
struct Connections {
    channels: BTreeMap<u64, Arc<Channel>>,
    /// Accepted since the start.
    begun: u64,
}

impl Registry {
    fn lock(&self) -> std::sync::MutexGuard<'_, Connections> {
        self.connections.lock().expect("nothing panics while it is held")
    }

    fn enter(self: &Arc<Self>, channel: &Arc<Channel>, limits: Arc<Limits>) -> Place {
        let mut connections = self.lock();
        connections.begun += 1;
        connections.channels.insert(channel.id(), channel.clone());
        Place { id: channel.id(), registry: self.clone(), limits }
    }
}

/// One connection's place; dropped when it is closed.
struct Place {
    id: u64,
    registry: Arc<Registry>,
    limits: Arc<Limits>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.limits.leave();
        let ended = {
            let mut connections = self.registry.lock();
            connections.channels.remove(&self.id);
            connections.begun - connections.channels.len() as u64
        };
        self.registry.ended.advance(ended);
    }
}

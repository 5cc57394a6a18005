//! Code → processor and lane. A lane bounds what is under way for its codes.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use super::{Channel, Latencies};
use crate::{
    env::BoxFuture,
    model::{RateLimited, Watermark},
    protocol::command::{Command, Response},
};

/// One line about refused requests of a lane in this time.
const SAID_WINDOW: Duration = Duration::from_secs(10);

/// A request on its way through a processor; borrows the read buffer.
pub struct Request<'a> {
    pub command: Command<'a>,
    pub channel: &'a Arc<Channel>,
    /// Monotonic time at which its last byte was read.
    pub received: Duration,
}

pub enum Answer {
    Now(Response),
    /// Held back until the router's promise reaches the position; then written, in order of positions.
    Kept(u64, Response),
    /// Needs to wait for something else; `None` answers nothing. Runs as a task of its own.
    Later(BoxFuture<'static, Option<Response>>),
    /// No answer, or one that the processor sends itself later through the channel (`Channel::respond`).
    None,
}

/// The meaning of a code. Called on a connection's task: it must not block, and what it cannot finish now is `Later`.
/// A panic inside is caught and answered with code 1.
pub trait Processor: Send + Sync {
    fn process(&self, request: &Request<'_>) -> Answer;
}

/// A bound on requests under way (those answered `Kept` or `Later` and not yet written).
pub struct Lane {
    pub name: &'static str,
    pub in_flight: AtomicU32,
    pub in_flight_max: u32,
    /// A request read longer ago than this is answered SYSTEM_BUSY `[TIMEOUT_CLEAN_QUEUE]` instead of being processed.
    pub wait_ms_max: u32,
    /// While it is true a request is answered SYSTEM_BUSY: `[REJECTREQUEST]` if it has just come, `[PCBUSY_CLEAN_QUEUE]`
    /// if it had to wait.
    pub is_busy: Option<Busy>,
    said: RateLimited,
}

/// Whether what a lane leads to is busy for the moment.
pub type Busy = Arc<dyn Fn() -> bool + Send + Sync>;

impl Lane {
    pub fn new(name: &'static str, in_flight_max: u32, wait_ms_max: u32) -> Arc<Self> {
        Self::with(name, in_flight_max, wait_ms_max, None)
    }

    pub fn refusing(name: &'static str, in_flight_max: u32, wait_ms_max: u32, is_busy: Busy) -> Arc<Self> {
        Self::with(name, in_flight_max, wait_ms_max, Some(is_busy))
    }

    fn with(name: &'static str, in_flight_max: u32, wait_ms_max: u32, is_busy: Option<Busy>) -> Arc<Self> {
        let said = RateLimited::new(1, SAID_WINDOW);
        Arc::new(Lane { name, in_flight: AtomicU32::new(0), in_flight_max, wait_ms_max, is_busy, said })
    }

    /// A request of the lane is refused, which clients see as a busy broker.
    pub(super) fn say_refused(&self, peer: SocketAddr, remark: &str, now: Duration) {
        if let Some(left_out) = self.said.permit(now) {
            let also = if left_out > 0 { format!(" ({left_out} more since the last line)") } else { String::new() };
            let (name, in_flight, in_flight_max) = (self.name, self.in_flight(), self.in_flight_max);
            tracing::warn!(
                "a {name} request of {peer} is refused{also}: {remark}; {in_flight} of {in_flight_max} are under way"
            );
        }
    }

    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }
}

/// What `Answer::Kept` waits for: the position up to which the log has kept its promise (flushed under SYNC_FLUSH,
/// committed under ASYNC_FLUSH).
#[derive(Clone)]
pub struct Promise {
    pub kept: Arc<Watermark>,
    /// Called at the end of each turn of a connection in which a `Kept` answer arose, before anything is written:
    /// the log writes what the turn appended (or wakes who does).
    pub turn_end: Arc<dyn Fn() + Send + Sync>,
    /// Called after `turn_end` (perhaps after several), when the answers that could be given were written: the time for
    /// what nobody waits for.
    pub turn_over: Arc<dyn Fn() + Send + Sync>,
    /// After this long the answer goes out with code 10 (FLUSH_DISK_TIMEOUT) in place of 0.
    pub wait_ms_max: u32,
}

type Route = (Arc<dyn Processor>, Arc<Lane>);

pub type OnClose = Arc<dyn Fn(&Arc<Channel>) + Send + Sync>;

/// Which processor serves a code.
pub struct Router {
    routes: BTreeMap<i32, Route>,
    default: Option<Route>,
    pub promise: Option<Promise>,
    /// Where it is noted how long requests took.
    pub latencies: Arc<Latencies>,
    /// Told once when a channel is gone, whatever the reason.
    pub on_close: OnClose,
}

impl Router {
    pub fn new() -> Self {
        Router {
            routes: BTreeMap::new(),
            default: None,
            promise: None,
            latencies: Arc::default(),
            on_close: Arc::new(|_| ()),
        }
    }

    pub fn serve(&mut self, codes: &[i32], processor: Arc<dyn Processor>, lane: &Arc<Lane>) {
        for code in codes {
            self.routes.insert(*code, (processor.clone(), lane.clone()));
        }
    }

    /// Takes a code out again (the fast port serves no pulls).
    pub fn refuse(&mut self, codes: &[i32]) {
        for code in codes {
            self.routes.remove(code);
        }
    }

    pub fn serve_others(&mut self, processor: Arc<dyn Processor>, lane: &Arc<Lane>) {
        self.default = Some((processor, lane.clone()));
    }

    pub fn find(&self, code: i32) -> Option<&(Arc<dyn Processor>, Arc<Lane>)> {
        self.routes.get(&code).or(self.default.as_ref())
    }
}

impl Default for Router {
    fn default() -> Self {
        Self::new()
    }
}

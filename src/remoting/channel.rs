//! The hand by which the rest of the broker holds a connection: answer later, call the client, close. Its requests go
//! into a mailbox that the connection's task empties; nothing here waits for a socket.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering},
    },
    task::Waker,
    time::Duration,
};

use super::{
    Lane, Latencies, Request, Router,
    calls::{Calls, Refused},
    kept,
    latency::{Asked, Outcome},
};
use crate::{
    env::{BoxFuture, Clock, timeout},
    protocol::{
        code::response,
        command::{Answered, Call, Command, Response, Serialization, encode_call},
    },
};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    #[error("the connection to {peer} is closed")]
    Closed { peer: String },
    #[error("no answer from {peer} within {after_ms} ms")]
    TimedOut { peer: String, after_ms: u64 },
    #[error("cannot connect to {peer}: {reason}")]
    Connect { peer: String, reason: String },
    #[error("{under_way} calls are under way to {peer}, {max} are allowed")]
    TooMany { peer: String, under_way: usize, max: usize },
}

/// Notices that wait for a connection to take them; further ones are dropped (RocketMQ: 256 one-way permits).
const NOTICES_MAX: usize = 256;

const OPEN: u8 = 0;
/// Nothing is read any more; closes when everything is answered and written.
const DRAINING: u8 = 1;
/// Closes at once.
const CLOSING: u8 = 2;
const CLOSED: u8 = 3;

/// One connection, seen from outside its task.
pub struct Channel {
    id: u64,
    peer: SocketAddr,
    local: SocketAddr,
    clock: Arc<dyn Clock>,
    calls_max: usize,
    /// Only grows.
    state: AtomicU8,
    /// Requests answered `Later` that are under way.
    laters: AtomicU32,
    /// Set with the mailbox locked; lets a turn pass an empty mailbox without locking it.
    has_mail: AtomicBool,
    mailbox: Mutex<Mailbox>,
    calls: Mutex<Calls>,
}

#[derive(Default)]
struct Mailbox {
    letters: Vec<Letter>,
    notices: usize,
    waker: Option<Waker>,
}

#[expect(clippy::large_enum_variant, reason = "most letters are answers, and a box for each would cost more")]
pub(super) enum Letter {
    Response {
        opaque: i32,
        serialization: Serialization,
        response: Response,
    },
    /// An encoded request.
    Frame(Vec<u8>),
}

impl Channel {
    pub(super) fn new(
        id: u64,
        peer: SocketAddr,
        local: SocketAddr,
        clock: Arc<dyn Clock>,
        calls_max: usize,
    ) -> Arc<Self> {
        Arc::new(Channel {
            id,
            peer,
            local,
            clock,
            calls_max,
            state: AtomicU8::new(OPEN),
            laters: AtomicU32::new(0),
            has_mail: AtomicBool::new(false),
            mailbox: Mutex::default(),
            calls: Mutex::default(),
        })
    }

    /// A channel without a connection: what is sent to it goes nowhere, calls time out. For tests of processors.
    pub fn detached(id: u64, peer: SocketAddr, clock: Arc<dyn Clock>) -> Arc<Self> {
        Self::new(id, peer, peer, clock, NOTICES_MAX)
    }

    /// Unique within the process's server; never used again.
    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    pub fn local(&self) -> SocketAddr {
        self.local
    }

    pub fn is_open(&self) -> bool {
        self.state.load(Ordering::Acquire) == OPEN
    }

    /// Answers a request that was left open with `Answer::None`. Nothing happens on a closed channel.
    pub fn respond(&self, opaque: i32, serialization: Serialization, response: Response) {
        self.post(Some(Letter::Response { opaque, serialization, response }));
    }

    /// Sends a request to the client and forgets it. A client that does not read loses notices beyond 256.
    pub fn oneway(&self, call: Call) {
        let opaque = self.calls().next_opaque();
        let mut frame = Vec::new();
        encode_call(&call, opaque, true, Serialization::Json, &mut frame);
        {
            let mut mailbox = self.mailbox();
            if mailbox.notices >= NOTICES_MAX {
                return;
            }
            mailbox.notices += 1;
        }
        self.post(Some(Letter::Frame(frame)));
    }

    /// Sends a request to the client and waits for its answer.
    pub async fn call(&self, call: Call, within: Duration) -> Result<Answered, CallError> {
        let peer = || self.peer.to_string();
        if !self.is_open() {
            return Err(CallError::Closed { peer: peer() });
        }
        let begun = self.calls().begin(self.calls_max);
        let (opaque, answer) = begun.map_err(|refused| match refused {
            Refused::Closed => CallError::Closed { peer: peer() },
            Refused::TooMany { under_way } => CallError::TooMany { peer: peer(), under_way, max: self.calls_max },
        })?;
        // Also when the caller stops waiting: an answer that comes later is dropped.
        let _entry = CallEntry { channel: self, opaque };
        let mut frame = Vec::new();
        encode_call(&call, opaque, false, Serialization::Json, &mut frame);
        self.post(Some(Letter::Frame(frame)));
        match timeout(&*self.clock, within, answer).await {
            Ok(Ok(answered)) => Ok(answered),
            Ok(Err(_dropped)) => Err(CallError::Closed { peer: peer() }),
            Err(elapsed) => Err(CallError::TimedOut { peer: peer(), after_ms: elapsed.after_ms }),
        }
    }

    /// Closes the connection; what is queued to be written may be lost.
    pub fn close(&self) {
        self.raise(CLOSING);
    }

    /// Reads no more, and closes when what was read is answered and written.
    pub fn drain(&self) {
        self.raise(DRAINING);
    }

    fn raise(&self, state: u8) {
        if self.state.fetch_max(state, Ordering::AcqRel) < state {
            self.post(None);
        }
    }

    fn post(&self, letter: Option<Letter>) {
        let waker = {
            let mut mailbox = self.mailbox();
            if self.state.load(Ordering::Acquire) == CLOSED {
                return;
            }
            mailbox.letters.extend(letter);
            // Mail that is there already has woken the task already.
            if self.has_mail.swap(true, Ordering::AcqRel) { None } else { mailbox.waker.clone() }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn mailbox(&self) -> MutexGuard<'_, Mailbox> {
        self.mailbox.lock().expect("nothing panics while it is held")
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().expect("nothing panics while it is held")
    }
}

/// The side of the connection's task.
impl Channel {
    pub(super) fn is_draining(&self) -> bool {
        self.state.load(Ordering::Acquire) >= DRAINING
    }

    pub(super) fn is_closing(&self) -> bool {
        self.state.load(Ordering::Acquire) >= CLOSING
    }

    pub(super) fn has_mail(&self) -> bool {
        self.has_mail.load(Ordering::Acquire)
    }

    pub(super) fn laters(&self) -> usize {
        self.laters.load(Ordering::Acquire) as usize
    }

    pub(super) fn register(&self, waker: &Waker) {
        self.mailbox().waker = Some(waker.clone());
    }

    pub(super) fn take_mail(&self) -> Vec<Letter> {
        let mut mailbox = self.mailbox();
        self.has_mail.store(false, Ordering::Release);
        mailbox.notices = 0;
        std::mem::take(&mut mailbox.letters)
    }

    /// False: nobody waits for this answer.
    pub(super) fn on_answer(&self, command: Command<'_>) -> bool {
        self.calls().answer(command)
    }

    pub(super) fn on_closed(&self) {
        {
            let mut mailbox = self.mailbox();
            self.state.store(CLOSED, Ordering::Release);
            mailbox.letters = Vec::new();
            mailbox.waker = None;
        }
        self.calls().close();
    }
}

struct CallEntry<'a> {
    channel: &'a Channel,
    opaque: i32,
}

impl Drop for CallEntry<'_> {
    fn drop(&mut self) {
        self.channel.calls().forget(self.opaque);
    }
}

/// A request whose answer a task of its own prepares. However that task ends, the lane has room again and the client
/// gets an answer.
pub(super) struct Later {
    channel: Arc<Channel>,
    lane: Arc<Lane>,
    opaque: i32,
    serialization: Serialization,
    code: i32,
    oneway: bool,
    finished: bool,
    received: Duration,
    clock: Arc<dyn Clock>,
    latencies: Arc<Latencies>,
}

impl Later {
    pub(super) fn new(request: &Request<'_>, lane: &Arc<Lane>, clock: &Arc<dyn Clock>, router: &Router) -> Self {
        let command = &request.command;
        kept::enter(lane);
        request.channel.laters.fetch_add(1, Ordering::AcqRel);
        Later {
            channel: request.channel.clone(),
            lane: lane.clone(),
            opaque: command.opaque,
            serialization: command.serialization,
            code: command.code,
            oneway: command.is_oneway(),
            finished: false,
            received: request.received,
            clock: clock.clone(),
            latencies: router.latencies.clone(),
        }
    }

    pub(super) async fn run(mut self, answer: BoxFuture<'static, Option<Response>>) {
        let answer = answer.await;
        self.finished = true;
        if let Some(response) = answer {
            self.respond(response, Outcome::on(&self.channel));
        }
    }

    fn respond(&self, response: Response, outcome: Outcome) {
        let outcome = if self.oneway { Outcome::Oneway } else { outcome };
        let asked = Asked { code: self.code, response: response.code, was_held: false, outcome };
        self.latencies.record(asked, self.clock.monotonic().saturating_sub(self.received));
        if !self.oneway {
            self.channel.respond(self.opaque, self.serialization, response);
        }
    }
}

impl Drop for Later {
    fn drop(&mut self) {
        if !self.finished {
            let remark = format!("request {} broke off: its task panicked", self.code);
            self.respond(Response::error(response::SYSTEM_ERROR, remark), Outcome::BrokeOff);
        }
        kept::leave(&self.lane, 1);
        self.channel.laters.fetch_sub(1, Ordering::AcqRel);
        // The connection may wait for its last answer, or for room to read on.
        self.channel.post(None);
    }
}

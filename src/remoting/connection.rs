//! One connection's task: reads frames, dispatches them, holds answers back until they may be given, writes. It owns the
//! stream; everybody else speaks to it through its `Channel`. On the way of an ordinary request nothing is boxed,
//! spawned or sent through a queue.

use std::{
    future::Future,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::BufMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::{
    Answer, Channel, Lane, Request, Router,
    channel::{Later, Letter},
    input::{Chunk, Flow, Input},
    kept::{self, KeptAnswers},
    latency::{Asked, Outcome},
    limits::{Bounds, Limits},
    output::Output,
    scratch,
};
use crate::{
    env::{BoxFuture, Clock, Spawner, Stream, spawner::panic_message},
    protocol::{
        code::response,
        command::{self, DecodeError, Response},
        frame::FrameError,
    },
};

/// Then the other connections of the worker have their turn.
const FRAMES_PER_TURN: usize = 64;
/// The first byte of a TLS handshake; as a frame's length it would be 369 MB.
const TLS_HANDSHAKE: u8 = 0x16;
/// While all connections together hold too much memory, a connection looks this often whether that is over.
const MEMORY_RETRY: Duration = Duration::from_millis(100);

/// What a connection may hold although all together hold too much: an ordinary request and its answer.
const MODEST_BYTES: usize = 256 << 10;

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("the peer closed it")]
    PeerClosed,
    #[error("the peer closed it within a frame")]
    WithinFrame,
    #[error("it was closed on our side")]
    Asked,
    #[error("nothing came or went for {0} s")]
    Idle(u64),
    #[error("{0}")]
    Failed(io::Error),
    #[error("the peer took nothing of {queued} bytes for {for_ms} ms")]
    Stalled { queued: usize, for_ms: u128 },
    #[error(
        "all connections together hold more than `memory_max_bytes`, and this one has kept {held} bytes of an unfinished \
         frame for {for_ms} ms"
    )]
    Starved { held: usize, for_ms: u128 },
    #[error("it began with 0x16, a TLS handshake; TLS is not served yet: let the client connect without it")]
    Tls,
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("it sent what is not a command: {0}")]
    Command(#[from] DecodeError),
}

/// What a connection needs of the world and shares with others.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) spawner: Arc<dyn Spawner>,
    pub(super) router: Arc<Router>,
    pub(super) bounds: Arc<Bounds>,
    pub(super) limits: Arc<Limits>,
}

impl Common {
    pub(super) fn channel(&self, stream: &dyn Stream) -> Arc<Channel> {
        let (id, calls_max) = (self.limits.channel_id(), self.bounds.calls_max);
        Channel::new(id, stream.peer_address(), stream.local_address(), self.clock.clone(), calls_max)
    }
}

pub(super) struct Connection<P> {
    stream: Box<dyn Stream>,
    state: State,
    /// Dropped last, when the stream is closed and everybody knows.
    _place: P,
}

struct State {
    common: Common,
    channel: Arc<Channel>,
    input: Input,
    output: Output,
    kept: KeptAnswers,
    /// Monotonic time at the beginning of this turn.
    now: Duration,
    /// The channel wakes this one.
    waker: Option<Waker>,
    /// Set for the earliest moment at which something may be due; never moved back, only looked at when it fires.
    timer: Option<(Duration, BoxFuture<'static, ()>)>,
    last_activity: Duration,
    /// Since then the peer has taken nothing.
    stalled_since: Option<Duration>,
    last_read: Duration,
    /// Nothing is read because all connections together hold too much memory.
    starved: bool,
    /// A `Kept` answer arose since the promise's `turn_end` was last called.
    appended: bool,
    /// The promise's `turn_over` is still to be called.
    is_turn_open: bool,
    has_begun: bool,
    /// Nothing is read any more; what was read is answered, then it is over.
    ending: Option<Ended>,
    /// What the limits know of the memory held here.
    accounted: usize,
}

impl<P: Unpin> Connection<P> {
    /// `place` is dropped when the connection is over and closed.
    pub(super) fn new(stream: Box<dyn Stream>, channel: Arc<Channel>, common: Common, place: P) -> Self {
        let now = common.clock.monotonic();
        let state = State {
            common,
            channel,
            input: Input::default(),
            output: Output::default(),
            kept: KeptAnswers::default(),
            now,
            waker: None,
            timer: None,
            last_activity: now,
            stalled_since: None,
            last_read: now,
            starved: false,
            appended: false,
            is_turn_open: false,
            has_begun: false,
            ending: None,
            accounted: 0,
        };
        Connection { stream, state, _place: place }
    }

    /// Stop, timers, writes, reads; until nothing more can be done or enough was done for once.
    fn turn(&mut self, context: &mut Context<'_>) -> Poll<Ended> {
        let (stream, state) = (&mut self.stream, &mut self.state);
        state.now = state.common.clock.monotonic();
        state.register(context);
        let mut frames_left = FRAMES_PER_TURN;
        loop {
            if state.channel.is_closing() {
                return Poll::Ready(Ended::Asked);
            }
            if let Some(ended) = state.on_timers(context) {
                return Poll::Ready(ended);
            }
            state.take_mail();
            state.kept.release(&state.common.router, state.now, &mut state.output, context);
            if let Err(error) = state.write(stream, context) {
                return Poll::Ready(Ended::Failed(error));
            }
            if let Some(ended) = state.ended() {
                // The last bytes are with the kernel; the peer is told that no more follow.
                let _ = Pin::new(&mut *stream).poll_shutdown(context);
                return Poll::Ready(ended);
            }
            if state.ending.is_some() || state.channel.is_draining() || !state.may_read() {
                break;
            }
            if frames_left == 0 {
                context.waker().wake_by_ref();
                break;
            }
            match state.read(stream, context, &mut frames_left) {
                Poll::Ready(outcome) => state.ending = outcome.err(),
                Poll::Pending => break,
            }
            state.end_of_reading();
        }
        state.turn_over();
        state.arm(context);
        Poll::Pending
    }
}

impl<P: Unpin> Future for Connection<P> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let polled = self.turn(context);
        self.state.account();
        polled.map(|ended| self.state.say(&ended))
    }
}

impl State {
    fn register(&mut self, context: &Context<'_>) {
        if self.waker.as_ref().is_none_or(|waker| !waker.will_wake(context.waker())) {
            self.channel.register(context.waker());
            self.waker = Some(context.waker().clone());
        }
    }

    fn on_timers(&mut self, context: &mut Context<'_>) -> Option<Ended> {
        let (_, timer) = self.timer.as_mut()?;
        if timer.as_mut().poll(context).is_pending() {
            return None;
        }
        self.timer = None;
        let bounds = &self.common.bounds;
        if self.now.saturating_sub(self.last_activity) >= bounds.idle_close {
            return Some(Ended::Idle(bounds.idle_close.as_secs()));
        }
        if let Some(since) = self.stalled_since
            && self.now.saturating_sub(since) >= bounds.write_stall_close
        {
            let for_ms = self.now.saturating_sub(since).as_millis();
            return Some(Ended::Stalled { queued: self.output.queued(), for_ms });
        }
        // Large frames are not read on while memory is full: then one that sent the beginning of a large frame and nothing since must
        // not keep all others waiting. It may itself be among those that are not read, or be waiting for its peer.
        let quiet = self.now.saturating_sub(self.last_read);
        let is_hoarding = self.is_within_large_frame() && quiet >= bounds.write_stall_close;
        (is_hoarding && !self.common.limits.has_memory())
            .then(|| Ended::Starved { held: self.input.held(), for_ms: quiet.as_millis() })
    }

    fn is_within_large_frame(&self) -> bool {
        self.input.held() > scratch::READ_BYTES
    }

    /// The earliest moment at which `on_timers` or a kept answer has something to do.
    fn next_due(&self) -> Duration {
        let bounds = &self.common.bounds;
        let mut due = self.last_activity + bounds.idle_close;
        if let Some(since) = self.stalled_since {
            due = due.min(since + bounds.write_stall_close);
        }
        if self.starved {
            due = due.min(self.now + MEMORY_RETRY);
        }
        if self.is_within_large_frame() {
            let quiet = self.last_read + bounds.write_stall_close;
            // One that was allowed to stay because there was memory is looked at again.
            due = due.min(if quiet > self.now { quiet } else { self.now + bounds.write_stall_close });
        }
        if let Some(deadline) = self.kept.deadline() {
            due = due.min(deadline);
        }
        due
    }

    /// Makes sure that the timer fires no later than needed. One that fires too early is set anew by then.
    fn arm(&mut self, context: &mut Context<'_>) {
        let due = self.next_due();
        if self.timer.as_ref().is_some_and(|(at, _)| *at <= due) {
            return;
        }
        let mut timer = self.common.clock.sleep(due.saturating_sub(self.now));
        if timer.as_mut().poll(context).is_ready() {
            context.waker().wake_by_ref();
        }
        self.timer = Some((due, timer));
    }

    fn take_mail(&mut self) {
        if !self.channel.has_mail() {
            return;
        }
        for letter in self.channel.take_mail() {
            match letter {
                Letter::Response { opaque, serialization, response } => {
                    self.output.push_response(response, opaque, serialization);
                }
                Letter::Frame(frame) => self.output.push_frame(frame),
            }
        }
    }

    fn write(&mut self, stream: &mut Box<dyn Stream>, context: &mut Context<'_>) -> io::Result<()> {
        while !self.output.is_empty() {
            let written = Pin::new(&mut *stream).poll_write_vectored(context, &self.output.slices());
            match written {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(bytes)) => {
                    self.output.on_written(bytes);
                    self.last_activity = self.now;
                    self.stalled_since = None;
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => {
                    self.stalled_since.get_or_insert(self.now);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Nothing more will be read, and what was read is answered.
    fn ended(&mut self) -> Option<Ended> {
        if !self.kept.is_empty() || !self.output.is_empty() {
            return None;
        }
        if self.ending.is_some() {
            return self.ending.take();
        }
        // The count of those under way sinks after their answers are in the mailbox.
        (self.channel.is_draining() && self.channel.laters() == 0 && !self.channel.has_mail()).then_some(Ended::Asked)
    }

    fn in_flight(&self) -> usize {
        self.kept.len() + self.channel.laters()
    }

    fn is_within_bounds(&self) -> bool {
        self.in_flight() < self.common.bounds.in_flight_max && self.output.queued() < self.common.bounds.out_max_bytes
    }

    /// While memory is full, whoever holds much of it is not read; others are, for those who hold it (peers that take no
    /// answers, most often) must cost nobody else.
    fn may_read(&mut self) -> bool {
        let holds_much = self.input.held() + self.output.queued() > MODEST_BYTES;
        self.starved = holds_much && !self.common.limits.has_memory();
        !self.starved && self.is_within_bounds()
    }

    fn read(
        &mut self,
        stream: &mut Box<dyn Stream>,
        context: &mut Context<'_>,
        frames_left: &mut usize,
    ) -> Poll<Result<(), Ended>> {
        if let Some(chunk) = self.input.take_carried() {
            return Poll::Ready(self.consume(chunk, frames_left));
        }
        if let Some((partial, room)) = self.input.large() {
            let mut into = partial.limit(room);
            let polled = pin!(stream.read_buf(&mut into)).poll(context);
            return match std::task::ready!(polled) {
                Ok(0) => Poll::Ready(Err(Ended::WithinFrame)),
                Ok(_) => Poll::Ready(self.on_large_read(frames_left)),
                Err(error) => Poll::Ready(Err(Ended::Failed(error))),
            };
        }
        let mut buffer = scratch::take_read();
        let mut into = ReadBuf::new(&mut buffer);
        let polled = Pin::new(&mut *stream).poll_read(context, &mut into);
        let read = into.filled().len();
        match polled {
            Poll::Ready(Ok(())) if read > 0 => {}
            other => {
                scratch::give_read(buffer);
                return match other {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(Err(error)) => Poll::Ready(Err(Ended::Failed(error))),
                    Poll::Ready(Ok(())) if self.input.is_within_frame() => Poll::Ready(Err(Ended::WithinFrame)),
                    Poll::Ready(Ok(())) => Poll::Ready(Err(Ended::PeerClosed)),
                };
            }
        }
        self.on_read();
        if !self.has_begun {
            self.has_begun = true;
            if buffer[0] == TLS_HANDSHAKE {
                return Poll::Ready(Err(Ended::Tls));
            }
        }
        Poll::Ready(self.consume(Chunk { buffer, unused: 0..read, received: self.now }, frames_left))
    }

    fn consume(&mut self, chunk: Chunk, frames_left: &mut usize) -> Result<(), Ended> {
        let size_max = self.common.bounds.frame_size_max_bytes;
        let mut input = std::mem::take(&mut self.input);
        let (router, channel) = (self.common.router.clone(), self.channel.clone());
        let outcome = input.consume(chunk, size_max, |content, received| {
            self.on_frame(&router, &channel, content, received, frames_left)
        });
        self.input = input;
        outcome
    }

    fn on_read(&mut self) {
        self.last_activity = self.now;
        self.last_read = self.now;
    }

    fn on_large_read(&mut self, frames_left: &mut usize) -> Result<(), Ended> {
        self.on_read();
        let (size_max, now) = (self.common.bounds.frame_size_max_bytes, self.now);
        let mut input = std::mem::take(&mut self.input);
        let (router, channel) = (self.common.router.clone(), self.channel.clone());
        let outcome = input.complete(size_max, now, &mut |content: &[u8], received| {
            self.on_frame(&router, &channel, content, received, frames_left)
        });
        self.input = input;
        outcome.map(|_flow| ())
    }

    fn on_frame(
        &mut self,
        router: &Router,
        channel: &Arc<Channel>,
        content: &[u8],
        received: Duration,
        frames_left: &mut usize,
    ) -> Result<Flow, Ended> {
        let command = command::decode(content)?;
        if command.is_response() {
            let (code, opaque) = (command.code, command.opaque);
            if !channel.on_answer(command) {
                let peer = channel.peer();
                match self.common.limits.said.permit(self.now) {
                    Some(left_out) => {
                        tracing::info!(%peer, code, opaque, left_out, "an answer for which nobody waits is dropped");
                    }
                    None => tracing::debug!(%peer, code, opaque, "an answer for which nobody waits is dropped"),
                }
            }
        } else {
            self.on_request(router, Request { command, channel, received });
        }
        *frames_left -= 1;
        Ok(if *frames_left > 0 && self.is_within_bounds() { Flow::GoOn } else { Flow::Pause })
    }

    fn on_request(&mut self, router: &Router, request: Request<'_>) {
        let command = &request.command;
        let Some((processor, lane)) = router.find(command.code) else {
            let remark = format!(" request type {} not supported", command.code);
            return self.answer(&request, Response::error(response::REQUEST_CODE_NOT_SUPPORTED, remark));
        };
        let in_flight = lane.in_flight();
        let waited_ms = self.now.saturating_sub(request.received).as_millis();
        let is_busy = lane.is_busy.as_ref().is_some_and(|is_busy| is_busy());
        let remark = if is_busy && waited_ms == 0 {
            Some("[REJECTREQUEST]system busy, start flow control for a while".to_owned())
        } else if is_busy || waited_ms > lane.wait_ms_max.into() {
            let why = if is_busy { "PCBUSY" } else { "TIMEOUT" };
            Some(format!(
                "[{why}_CLEAN_QUEUE]broker busy, start flow control for a while, period in queue: {waited_ms}ms, size of \
                 queue: {in_flight}"
            ))
        } else if in_flight >= lane.in_flight_max {
            Some("[OVERLOAD]system busy, start flow control for a while".to_owned())
        } else {
            None
        };
        if let Some(remark) = remark {
            lane.say_refused(request.channel.peer(), &remark, self.now);
            return self.answer(&request, Response::error(response::SYSTEM_BUSY, remark));
        }
        // What a processor guards with a lock is poisoned by its panic and fails aloud at the next use.
        match catch_unwind(AssertUnwindSafe(|| processor.process(&request))) {
            Ok(Answer::Now(response)) => self.answer(&request, response),
            Ok(Answer::Kept(position, response)) => self.keep(router, lane, &request, position, response),
            Ok(Answer::Later(answer)) => {
                let later = Later::new(&request, lane, &self.common.clock, router);
                // Its end is known by its answer.
                drop(self.common.spawner.task("request", later.run(answer)));
            }
            Ok(Answer::None) => {}
            Err(panic) => {
                let remark = format!("request {} broke off: {}", command.code, panic_message(panic.as_ref()));
                self.answer_with(&request, Response::error(response::SYSTEM_ERROR, remark), Outcome::BrokeOff);
            }
        }
    }

    fn answer(&mut self, request: &Request<'_>, response: Response) {
        self.answer_with(request, response, Outcome::Answered);
    }

    fn answer_with(&mut self, request: &Request<'_>, response: Response, outcome: Outcome) {
        let command = &request.command;
        let asked = Asked::of(request, response.code, outcome);
        self.common.router.latencies.record(asked, self.common.clock.monotonic().saturating_sub(request.received));
        if !command.is_oneway() {
            self.output.push_response(response, command.opaque, command.serialization);
        }
    }

    fn keep(&mut self, router: &Router, lane: &Lane, request: &Request<'_>, position: u64, response: Response) {
        let promise = router.promise.as_ref().expect("a router whose processors answer `Kept` has a promise");
        let command = &request.command;
        self.appended = true;
        if command.is_oneway() {
            let asked = Asked::of(request, response.code, Outcome::Oneway);
            return router.latencies.record(asked, self.now.saturating_sub(request.received));
        }
        kept::enter(lane);
        let deadline = self.now + Duration::from_millis(promise.wait_ms_max.into());
        self.kept.push(request, position, deadline, &response);
    }

    /// Between the requests of one read and their answers the log writes what they appended.
    fn end_of_reading(&mut self) {
        if std::mem::take(&mut self.appended)
            && let Some(promise) = &self.common.router.promise
        {
            (promise.turn_end)();
            self.is_turn_open = true;
        }
    }

    fn turn_over(&mut self) {
        if std::mem::take(&mut self.is_turn_open)
            && let Some(promise) = &self.common.router.promise
        {
            (promise.turn_over)();
        }
    }

    fn account(&mut self) {
        let held = self.input.held() + self.output.queued() + self.kept.held();
        self.common.limits.on_memory(self.accounted, held);
        self.accounted = held;
    }

    fn say(&self, ended: &Ended) {
        let peer = self.channel.peer();
        match ended {
            Ended::PeerClosed | Ended::WithinFrame | Ended::Asked | Ended::Idle(_) | Ended::Failed(_) => {
                tracing::debug!("connection of {peer} ended: {ended}");
            }
            Ended::Stalled { .. } | Ended::Starved { .. } | Ended::Tls | Ended::Frame(_) | Ended::Command(_) => {
                match self.common.limits.said.permit(self.now) {
                    Some(0) => tracing::warn!("connection of {peer} closed: {ended}"),
                    Some(left_out) => {
                        tracing::warn!("connection of {peer} closed: {ended} ({left_out} like lines left out before)");
                    }
                    None => {}
                }
            }
        }
    }
}

impl Drop for State {
    /// However the connection ends, also by a panic or with its runtime.
    fn drop(&mut self) {
        self.turn_over();
        self.channel.on_closed();
        self.kept.abandon(&self.common.router, self.now);
        self.common.limits.on_memory(self.accounted, 0);
        (self.common.router.on_close)(&self.channel);
    }
}

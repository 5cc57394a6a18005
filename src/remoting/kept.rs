//! Answers that wait until the log has kept its promise, in the order of their positions; encoded when they arise, so
//! that what waits is a place and some bytes. Knows no log: the promise is a position that grows.

use std::{
    collections::VecDeque,
    sync::atomic::Ordering,
    task::{Context, Poll},
    time::Duration,
};

use super::{
    Lane, Request, Router,
    latency::{self, Asked, Outcome},
    output,
    output::Output,
    scratch,
};
use crate::{
    model::{spread::Spread, watermark::Waiter},
    protocol::{
        code::response,
        command::{Command, Response, decode},
        frame::LENGTH,
    },
};

#[derive(Default)]
pub(super) struct KeptAnswers {
    queue: VecDeque<Waiting>,
    /// The frames of `queue`, one behind the other, from `frames_start` on.
    frames: Vec<u8>,
    frames_start: usize,
    waiter: Option<Waiter>,
}

/// One answer's place.
pub(super) struct Waiting {
    position: u64,
    /// Monotonic; beyond it the answer goes out as FLUSH_DISK_TIMEOUT.
    deadline: Duration,
    /// When the request was read.
    received: Duration,
    /// The request's code, by which its lane is found again.
    code: i32,
    /// The answer's.
    response: i32,
    /// Of its frame.
    bytes: u32,
}

/// Written bytes at the head of `frames` beyond this are moved away rather than kept.
const COMPACT_BYTES: usize = 64 * 1024;

impl KeptAnswers {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Bytes of memory held.
    pub(super) fn held(&self) -> usize {
        self.frames.len()
    }

    /// When the first of them has waited long enough.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.queue.front().map(|answer| answer.deadline)
    }

    /// The answer to `request`. Its lane's count has been raised by the caller.
    pub(super) fn push(&mut self, request: &Request<'_>, position: u64, deadline: Duration, response: &Response) {
        let command = &request.command;
        if self.queue.capacity() == 0 {
            (self.queue, self.frames) = (scratch::take_waiting(), scratch::take_write());
        } else if self.frames_start >= COMPACT_BYTES {
            self.frames.drain(..self.frames_start);
            self.frames_start = 0;
        }
        let before = self.frames.len();
        output::encode(response, command.opaque, command.serialization, &mut self.frames);
        for body in &response.body {
            self.frames.extend_from_slice(body);
        }
        let waiting = Waiting {
            position,
            deadline,
            received: request.received,
            code: command.code,
            response: response.code,
            bytes: u32::try_from(self.frames.len() - before).expect("a frame has at most 16 MiB"),
        };
        // A message that does not wait (`WAIT=false`) does not wait for those before it either.
        let later = self.queue.iter().rev().take_while(|answer| answer.position > position);
        let (count, bytes) = later.fold((0, 0), |(count, bytes), answer| (count + 1, bytes + answer.bytes as usize));
        self.frames[before - bytes..].rotate_right(waiting.bytes as usize);
        self.queue.insert(self.queue.len() - count, waiting);
    }

    /// Moves what may be said by `now` to `output`, and arranges for a wake when the next may be.
    pub(super) fn release(&mut self, router: &Router, now: Duration, output: &mut Output, context: &mut Context<'_>) {
        let Some(promise) = &router.promise else {
            assert!(self.queue.is_empty(), "a router whose processors answer `Kept` has a promise");
            return;
        };
        while let Some(front) = self.queue.front() {
            let waiter = self.waiter.get_or_insert_with(|| promise.kept.waiter());
            match waiter.poll_reached(front.position, context) {
                Poll::Ready(Ok(())) => {
                    let reached = promise.kept.get();
                    let released = self.queue.iter().take_while(|answer| answer.position <= reached).count();
                    self.write(released, router, now, output);
                }
                // Nothing is known about the bytes behind a failed sync: what was to be a success is none.
                Poll::Ready(Err(failed)) => self.write_instead(router, now, output, |_| {
                    Response::error(response::SERVICE_NOT_AVAILABLE, failed.reason.as_ref().to_owned())
                }),
                Poll::Pending if now >= front.deadline => self.write_instead(router, now, output, |said| {
                    let mut late = Response::new(response::FLUSH_DISK_TIMEOUT);
                    late.passed_on =
                        said.fields.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
                    late
                }),
                Poll::Pending => return,
            }
        }
        self.give_back();
    }

    /// The first `count` answers as they are.
    fn write(&mut self, count: usize, router: &Router, now: Duration, output: &mut Output) {
        let mut run = Run::new(router, now, Outcome::Answered);
        let mut bytes = 0;
        for answer in self.queue.drain(..count) {
            run.add(&answer, answer.response);
            bytes += answer.bytes as usize;
        }
        run.finish();
        output.push_encoded(&self.frames[self.frames_start..self.frames_start + bytes]);
        self.frames_start += bytes;
    }

    /// The first answer, or if it was to be a success, what `other` makes of it.
    fn write_instead(
        &mut self,
        router: &Router,
        now: Duration,
        output: &mut Output,
        other: impl FnOnce(&Command<'_>) -> Response,
    ) {
        let front = self.queue.front().expect("it is there");
        if front.response != response::SUCCESS {
            return self.write(1, router, now, output);
        }
        let frame = &self.frames[self.frames_start..self.frames_start + front.bytes as usize];
        let said = decode(&frame[LENGTH..]).expect("we encoded it");
        let other = other(&said);
        let mut run = Run::new(router, now, Outcome::Answered);
        run.add(front, other.code);
        run.finish();
        output.push_response(other, said.opaque, said.serialization);
        self.frames_start += front.bytes as usize;
        self.queue.pop_front();
    }

    /// A connection that waits for nothing owns nothing.
    fn give_back(&mut self) {
        if self.queue.capacity() > 0 {
            assert_eq!(self.frames_start, self.frames.len(), "frames without an answer");
            scratch::give_waiting(std::mem::take(&mut self.queue));
            scratch::give_write(std::mem::take(&mut self.frames));
            self.frames_start = 0;
        }
    }

    /// The connection is gone: nobody is answered, but the lanes have room again.
    pub(super) fn abandon(&mut self, router: &Router, now: Duration) {
        let mut run = Run::new(router, now, Outcome::Unwritten);
        for answer in self.queue.drain(..) {
            run.add(&answer, answer.response);
        }
        run.finish();
    }
}

/// Neighbours of one code and one answer: their lane and their figures, which all workers share, are touched once for all
/// of them.
struct Run<'a> {
    router: &'a Router,
    now: Duration,
    asked: Asked,
    count: u32,
    taken: Spread,
}

impl<'a> Run<'a> {
    fn new(router: &'a Router, now: Duration, outcome: Outcome) -> Run<'a> {
        let asked = Asked { code: 0, response: 0, was_held: false, outcome };
        Run { router, now, asked, count: 0, taken: latency::none() }
    }

    fn add(&mut self, answer: &Waiting, response: i32) {
        if (self.asked.code, self.asked.response) != (answer.code, response) {
            self.finish();
            (self.asked.code, self.asked.response) = (answer.code, response);
        }
        self.count += 1;
        latency::add(&mut self.taken, self.now.saturating_sub(answer.received));
    }

    fn finish(&mut self) {
        if self.count == 0 {
            return;
        }
        let route = self.router.find(self.asked.code);
        let (_, lane) = route.expect("the router that dispatched the request does not change");
        leave(lane, std::mem::take(&mut self.count));
        self.router.latencies.record_all(self.asked, &std::mem::replace(&mut self.taken, latency::none()));
    }
}

pub(super) fn enter(lane: &Lane) {
    lane.in_flight.fetch_add(1, Ordering::Relaxed);
}

pub(super) fn leave(lane: &Lane, count: u32) {
    let before = lane.in_flight.fetch_sub(count, Ordering::Relaxed);
    assert!(before >= count, "lane {}: {count} leave, {before} were in", lane.name);
}

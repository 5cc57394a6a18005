//! Answers that wait until the log has kept its promise, in the order of their positions; encoded when they arise, so
//! that what waits is a place and some bytes. Knows no log: the promise is a position that grows.

use std::{
    collections::VecDeque,
    sync::atomic::Ordering,
    task::{Context, Poll},
    time::Duration,
};

use super::{Lane, Router, output, output::Output, scratch};
use crate::{
    model::watermark::Waiter,
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
    /// The request's code, by which its lane is found again.
    code: i32,
    is_success: bool,
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

    /// The answer to `command`. Its lane's count has been raised by the caller.
    pub(super) fn push(&mut self, command: &Command<'_>, position: u64, deadline: Duration, response: &Response) {
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
        self.queue.push_back(Waiting {
            position,
            deadline,
            code: command.code,
            is_success: response.code == response::SUCCESS,
            bytes: u32::try_from(self.frames.len() - before).expect("a frame has at most 16 MiB"),
        });
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
                    self.write(released, router, output);
                }
                // Nothing is known about the bytes behind a failed sync: what was to be a success is none.
                Poll::Ready(Err(failed)) => self.write_instead(router, output, |_| {
                    Response::error(response::SERVICE_NOT_AVAILABLE, failed.reason.as_ref().to_owned())
                }),
                Poll::Pending if now >= front.deadline => self.write_instead(router, output, |said| {
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
    fn write(&mut self, count: usize, router: &Router, output: &mut Output) {
        let mut run = Run { code: None, count: 0 };
        let mut bytes = 0;
        for answer in self.queue.drain(..count) {
            run.add(answer.code, router);
            bytes += answer.bytes as usize;
        }
        run.finish(router);
        output.push_encoded(&self.frames[self.frames_start..self.frames_start + bytes]);
        self.frames_start += bytes;
    }

    /// The first answer, or if it was to be a success, what `other` makes of it.
    fn write_instead(&mut self, router: &Router, output: &mut Output, other: impl FnOnce(&Command<'_>) -> Response) {
        let front = self.queue.front().expect("it is there");
        if !front.is_success {
            return self.write(1, router, output);
        }
        let frame = &self.frames[self.frames_start..self.frames_start + front.bytes as usize];
        let said = decode(&frame[LENGTH..]).expect("we encoded it");
        output.push_response(other(&said), said.opaque, said.serialization);
        let code = front.code;
        self.frames_start += front.bytes as usize;
        self.queue.pop_front();
        leave_by_code(router, code, 1);
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
    pub(super) fn abandon(&mut self, router: &Router) {
        let mut run = Run { code: None, count: 0 };
        for answer in self.queue.drain(..) {
            run.add(answer.code, router);
        }
        run.finish(router);
    }
}

/// Neighbours of one code: their lane, which all workers share, is touched once for all of them.
struct Run {
    code: Option<i32>,
    count: u32,
}

impl Run {
    fn add(&mut self, code: i32, router: &Router) {
        if self.code != Some(code) {
            self.finish(router);
            self.code = Some(code);
        }
        self.count += 1;
    }

    fn finish(&mut self, router: &Router) {
        if let Some(code) = self.code.take() {
            leave_by_code(router, code, std::mem::take(&mut self.count));
        }
    }
}

fn leave_by_code(router: &Router, code: i32, count: u32) {
    let (_, lane) = router.find(code).expect("the router that dispatched the request does not change");
    leave(lane, count);
}

pub(super) fn enter(lane: &Lane) {
    lane.in_flight.fetch_add(1, Ordering::Relaxed);
}

pub(super) fn leave(lane: &Lane, count: u32) {
    let before = lane.in_flight.fetch_sub(count, Ordering::Relaxed);
    assert!(before >= count, "lane {}: {count} leave, {before} were in", lane.name);
}

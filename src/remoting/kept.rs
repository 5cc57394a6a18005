//! Answers that wait until the log has kept its promise, in the order of their positions. Knows no log: the promise is
//! a position that grows.

use std::{
    collections::VecDeque,
    sync::atomic::Ordering,
    task::{Context, Poll},
    time::Duration,
};

use super::{Lane, Router, output::Output};
use crate::{
    model::watermark::Waiter,
    protocol::{
        code::response,
        command::{Response, Serialization},
    },
};

#[derive(Default)]
pub(super) struct KeptAnswers {
    queue: VecDeque<KeptAnswer>,
    waiter: Option<Waiter>,
}

pub(super) struct KeptAnswer {
    pub(super) position: u64,
    /// Monotonic; beyond it the answer goes out as FLUSH_DISK_TIMEOUT.
    pub(super) deadline: Duration,
    pub(super) opaque: i32,
    pub(super) serialization: Serialization,
    /// The request's code, by which its lane is found again.
    pub(super) code: i32,
    pub(super) response: Response,
}

impl KeptAnswers {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// When the first of them has waited long enough.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.queue.front().map(|answer| answer.deadline)
    }

    /// Its lane's count has been raised by the caller.
    pub(super) fn push(&mut self, answer: KeptAnswer) {
        self.queue.push_back(answer);
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
                Poll::Ready(Err(failed)) => {
                    let answer = self.queue.front_mut().expect("it is there");
                    // Nothing is known about the bytes behind a failed sync: what was to be a success is none.
                    if answer.response.code == response::SUCCESS {
                        answer.response =
                            Response::error(response::SERVICE_NOT_AVAILABLE, failed.reason.as_ref().to_owned());
                    }
                    self.write(1, router, output);
                }
                Poll::Pending if now >= front.deadline => {
                    let answer = self.queue.front_mut().expect("it is there");
                    if answer.response.code == response::SUCCESS {
                        answer.response.code = response::FLUSH_DISK_TIMEOUT;
                    }
                    self.write(1, router, output);
                }
                Poll::Pending => return,
            }
        }
        if self.queue.capacity() > QUEUE_KEPT {
            self.queue = VecDeque::new();
        }
    }

    fn write(&mut self, count: usize, router: &Router, output: &mut Output) {
        let mut run = Run { code: None, count: 0 };
        for answer in self.queue.drain(..count) {
            run.add(answer.code, router);
            output.push_response(answer.response, answer.opaque, answer.serialization);
        }
        run.finish(router);
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

/// Room for so many answers stays with the connection.
const QUEUE_KEPT: usize = 8;

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
            let (_, lane) = router.find(code).expect("the router that dispatched the request does not change");
            leave(lane, std::mem::take(&mut self.count));
        }
    }
}

pub(super) fn enter(lane: &Lane) {
    lane.in_flight.fetch_add(1, Ordering::Relaxed);
}

pub(super) fn leave(lane: &Lane, count: u32) {
    let before = lane.in_flight.fetch_sub(count, Ordering::Relaxed);
    assert!(before >= count, "lane {}: {count} leave, {before} were in", lane.name);
}

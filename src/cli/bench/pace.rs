//! A fixed rate: message k of a run is due at start + k / rate. The moments are woken by a thread of their own, because
//! timers of the runtime are a millisecond coarse.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::sync::Notify;

use crate::env::{BoxFuture, Env};

/// What is due on one connection.
pub struct Pace {
    next: Duration,
    interval: Duration,
    wake: Arc<Notify>,
    waiting: Option<BoxFuture<'static, ()>>,
}

impl Pace {
    /// The moment at which the next request was due, if that is not later than `now`.
    pub fn take_due(&mut self, now: Duration) -> Option<Duration> {
        let due = self.next;
        (due <= now).then(|| {
            self.next += self.interval;
            due
        })
    }

    /// Ready at the next wake-up.
    pub fn poll_due(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let wake = self.wake.clone();
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(async move { wake.notified().await }));
        let poll = Pin::new(waiting).poll(context);
        if poll.is_ready() {
            self.waiting = None;
        }
        poll
    }
}

/// One pace for each of `connections`, together `requests_per_s`, from `start` to `until`.
pub fn paces(env: &Env, connections: u32, requests_per_s: f64, start: Duration, until: Duration) -> Vec<Pace> {
    let step = Duration::from_secs_f64(1.0 / requests_per_s);
    let wakes: Vec<Arc<Notify>> = (0..connections).map(|_| Arc::new(Notify::new())).collect();
    let paces = wakes.iter().enumerate().map(|(number, wake)| Pace {
        next: start + step * number as u32,
        interval: step * connections,
        wake: wake.clone(),
        waiting: None,
    });
    let paces = paces.collect();
    let clock = env.clock.clone();
    // The service has a thread of its own, which may block in a sleep.
    drop(env.spawner.service("pace", async move {
        let mut due = start;
        let mut number = 0;
        while due < until {
            let now = clock.monotonic();
            if due > now {
                crate::os::pause_thread(due - now);
            }
            wakes[number].notify_one();
            number = (number + 1) % wakes.len();
            due += step;
        }
    }));
    paces
}

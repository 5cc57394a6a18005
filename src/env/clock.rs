//! Time: the wall clock, which may jump, and the monotonic one, which may not.

use std::{future::Future, pin::pin, task::Poll, time::Duration};

use super::BoxFuture;

pub trait Clock: Send + Sync {
    /// Milliseconds since 1970, UTC. May jump in both directions; never use it to measure a wait.
    fn wall_ms(&self) -> i64;

    /// Time since an arbitrary moment before the process started. Never goes back.
    fn monotonic(&self) -> Duration;

    /// Completes once `duration` of monotonic time has passed.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;

    /// Seconds to add to UTC for local time at `wall_ms` (index file names and `deleteWhen` are local in RocketMQ).
    fn utc_offset_s(&self, wall_ms: i64) -> i32;

    /// The local time at `wall_ms`, as milliseconds since a midnight that began 1970 here.
    fn local_ms(&self, wall_ms: i64) -> i64 {
        wall_ms + i64::from(self.utc_offset_s(wall_ms)) * 1_000
    }
}

/// The wait was longer than it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no answer within {after_ms} ms")]
pub struct Elapsed {
    pub after_ms: u64,
}

/// Runs `future` for at most `after`; a future that is ready at the deadline wins.
pub async fn timeout<F: Future>(clock: &dyn Clock, after: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    let mut deadline = clock.sleep(after);
    std::future::poll_fn(move |context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Ok(output));
        }
        deadline.as_mut().poll(context).map(|()| Err(Elapsed { after_ms: after.as_millis() as u64 }))
    })
    .await
}

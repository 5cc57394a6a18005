//! A position that only grows, and those who wait for it: appended, committed, flushed, dispatched, config generations.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

/// Why a watermark will never move again; final.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Failed {
    pub reason: Arc<str>,
}

#[derive(Default)]
pub struct Watermark {
    value: AtomicU64,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// By target, then by waiter: waking goes in the order of the log, the same in every run of a seed.
    wakers: BTreeMap<(u64, u64), Waker>,
    next_waiter: u64,
    failed: Option<Failed>,
}

/// One waiter's place: at most one target at a time. Dropping it gives the place up.
pub struct Waiter {
    watermark: Arc<Watermark>,
    id: u64,
    registered: Option<(u64, Waker)>,
}

impl Watermark {
    pub fn new(value: u64) -> Arc<Self> {
        Arc::new(Watermark { value: AtomicU64::new(value), waiting: Mutex::default() })
    }

    pub fn get(&self) -> u64 {
        self.value.load(Ordering::SeqCst)
    }

    /// Moves to `to` (never back) and wakes whoever waits for it or less.
    pub fn advance(&self, to: u64) {
        if self.value.fetch_max(to, Ordering::SeqCst) >= to {
            return;
        }
        let mut ready = Vec::new();
        {
            let mut waiting = self.lock();
            while let Some(first) = waiting.wakers.first_entry() {
                if first.key().0 > to {
                    break;
                }
                ready.push(first.remove());
            }
        }
        ready.into_iter().for_each(Waker::wake);
    }

    /// Final: every waiter, present and future, beyond the present value gets `reason`. The first reason stays.
    pub fn fail(&self, reason: &str) {
        let wakers = {
            let mut waiting = self.lock();
            waiting.failed.get_or_insert_with(|| Failed { reason: reason.into() });
            std::mem::take(&mut waiting.wakers)
        };
        wakers.into_values().for_each(Waker::wake);
    }

    pub fn failure(&self) -> Option<Failed> {
        self.lock().failed.clone()
    }

    pub fn waiter(self: &Arc<Self>) -> Waiter {
        let mut waiting = self.lock();
        waiting.next_waiter += 1;
        Waiter { watermark: self.clone(), id: waiting.next_waiter, registered: None }
    }

    /// Completes once the value is `target` or more.
    pub async fn reached(self: &Arc<Self>, target: u64) -> Result<(), Failed> {
        let mut waiter = self.waiter();
        poll_fn(|context| waiter.poll_reached(target, context)).await
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("nothing panics while it is held")
    }
}

impl Waiter {
    pub fn poll_reached(&mut self, target: u64, context: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        if self.watermark.get() >= target {
            self.withdraw();
            return Poll::Ready(Ok(()));
        }
        // Registered for it already: it cannot have been taken out while the value is below the target.
        if let Some((registered, waker)) = &self.registered
            && *registered == target
            && waker.will_wake(context.waker())
            && self.watermark.failure().is_none()
        {
            return Poll::Pending;
        }
        self.withdraw();
        let mut waiting = self.watermark.lock();
        if let Some(failed) = &waiting.failed {
            return Poll::Ready(Err(failed.clone()));
        }
        // `advance` stores first and locks later: looking again under the lock closes the gap.
        if self.watermark.get() >= target {
            return Poll::Ready(Ok(()));
        }
        waiting.wakers.insert((target, self.id), context.waker().clone());
        self.registered = Some((target, context.waker().clone()));
        Poll::Pending
    }

    fn withdraw(&mut self) {
        if let Some((target, _)) = self.registered.take() {
            self.watermark.lock().wakers.remove(&(target, self.id));
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.withdraw();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiters_are_released_by_their_target_only() {
        let mark = Watermark::new(5);
        mark.reached(5).await.unwrap();
        let (low, high) = (mark.clone(), mark.clone());
        let low = tokio::spawn(async move { low.reached(10).await });
        let high = tokio::spawn(async move { high.reached(11).await });
        tokio::task::yield_now().await;
        mark.advance(10);
        low.await.unwrap().unwrap();
        tokio::task::yield_now().await;
        assert!(!high.is_finished(), "released by a position below its target");
        mark.fail("disk is gone");
        assert_eq!(&*high.await.unwrap().unwrap_err().reason, "disk is gone");
        mark.reached(10).await.expect("what was reached stays reached");
        mark.advance(3);
        assert_eq!(mark.get(), 10);
    }
}

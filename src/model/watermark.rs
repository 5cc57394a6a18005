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

use smallvec::SmallVec;

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
    /// Of those who can wait until all others were woken, and be woken later still.
    patient: BTreeMap<(u64, u64), Waker>,
    next_waiter: u64,
    failed: Option<Failed>,
}

/// One waiter's place: at most one target at a time. Dropping it gives the place up.
pub struct Waiter {
    watermark: Arc<Watermark>,
    id: u64,
    is_patient: bool,
    registered: Option<(u64, Waker)>,
}

impl Watermark {
    pub fn new(value: u64) -> Arc<Self> {
        Arc::new(Watermark { value: AtomicU64::new(value), waiting: Mutex::default() })
    }

    pub fn get(&self) -> u64 {
        self.value.load(Ordering::SeqCst)
    }

    /// Moves to `to` (never back) and wakes whoever waits for it or less, the patient last.
    pub fn advance(&self, to: u64) {
        if self.advance_quietly(to) {
            self.wake_patient();
        }
    }

    /// Moves to `to` (never back) and wakes all but the patient; whoever calls it calls `wake_patient` too, or does what
    /// they would do. True if that was a move.
    pub fn advance_quietly(&self, to: u64) -> bool {
        if self.value.fetch_max(to, Ordering::SeqCst) >= to {
            return false;
        }
        let ready = ready(&mut self.lock().wakers, to);
        ready.into_iter().for_each(Waker::wake);
        true
    }

    /// Wakes the patient who wait for the present value or less.
    pub fn wake_patient(&self) {
        let ready = {
            let mut waiting = self.lock();
            ready(&mut waiting.patient, self.get())
        };
        ready.into_iter().for_each(Waker::wake);
    }

    /// Final: every waiter, present and future, beyond the present value gets `reason`. The first reason stays.
    pub fn fail(&self, reason: &str) {
        let wakers = {
            let mut waiting = self.lock();
            waiting.failed.get_or_insert_with(|| Failed { reason: reason.into() });
            (std::mem::take(&mut waiting.wakers), std::mem::take(&mut waiting.patient))
        };
        wakers.0.into_values().chain(wakers.1.into_values()).for_each(Waker::wake);
    }

    pub fn failure(&self) -> Option<Failed> {
        self.lock().failed.clone()
    }

    pub fn waiter(self: &Arc<Self>) -> Waiter {
        self.waiter_of(false)
    }

    /// One that is woken after all others.
    pub fn patient_waiter(self: &Arc<Self>) -> Waiter {
        self.waiter_of(true)
    }

    fn waiter_of(self: &Arc<Self>, is_patient: bool) -> Waiter {
        let mut waiting = self.lock();
        waiting.next_waiter += 1;
        Waiter { watermark: self.clone(), id: waiting.next_waiter, is_patient, registered: None }
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
        waiting.wakers_of(self.is_patient).insert((target, self.id), context.waker().clone());
        self.registered = Some((target, context.waker().clone()));
        Poll::Pending
    }

    fn withdraw(&mut self) {
        if let Some((target, _)) = self.registered.take() {
            self.watermark.lock().wakers_of(self.is_patient).remove(&(target, self.id));
        }
    }
}

impl Waiting {
    fn wakers_of(&mut self, is_patient: bool) -> &mut BTreeMap<(u64, u64), Waker> {
        if is_patient { &mut self.patient } else { &mut self.wakers }
    }
}

/// Takes out whoever waits for `to` or less.
fn ready(wakers: &mut BTreeMap<(u64, u64), Waker>, to: u64) -> SmallVec<[Waker; 16]> {
    let mut ready = SmallVec::new();
    while let Some(first) = wakers.first_entry()
        && first.key().0 <= to
    {
        ready.push(first.remove());
    }
    ready
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

    #[test]
    fn the_patient_are_woken_last_or_when_somebody_says_so() {
        struct Noted(Arc<Mutex<Vec<&'static str>>>, &'static str);
        impl std::task::Wake for Noted {
            fn wake(self: Arc<Self>) {
                self.0.lock().unwrap().push(self.1);
            }
        }
        let (mark, woken) = (Watermark::new(0), Arc::new(Mutex::new(Vec::new())));
        let (mut patient, mut other) = (mark.patient_waiter(), mark.waiter());
        let mut wait = |target| {
            for (waiter, name) in [(&mut patient, "patient"), (&mut other, "other")] {
                let waker = Waker::from(Arc::new(Noted(woken.clone(), name)));
                assert!(waiter.poll_reached(target, &mut Context::from_waker(&waker)).is_pending());
            }
        };
        let seen = || std::mem::take(&mut *woken.lock().unwrap());
        wait(1);
        mark.advance(1);
        assert_eq!(seen(), ["other", "patient"]);
        wait(2);
        assert!(mark.advance_quietly(2));
        assert_eq!(seen(), ["other"]);
        mark.wake_patient();
        assert_eq!(seen(), ["patient"]);
        wait(3);
        assert!(!mark.advance_quietly(2));
        mark.wake_patient();
        assert_eq!(seen(), [""; 0]);
        mark.fail("gone");
        assert_eq!(seen(), ["other", "patient"]);
    }
}

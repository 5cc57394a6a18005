//! Virtual time. A thin layer over madsim's timers: sleeps below a millisecond, and sleeps that do not leave a trail
//! of wake-ups behind when they are polled often or dropped early.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use madsim::time::TimeHandle;

#[derive(Clone)]
pub struct Time {
    handle: TimeHandle,
}

impl Time {
    /// Only inside a madsim runtime.
    pub fn current() -> Time {
        Time { handle: TimeHandle::current() }
    }

    /// Since the start of the run.
    pub fn now(&self) -> Duration {
        self.handle.elapsed()
    }

    pub fn now_ns(&self) -> u64 {
        self.now().as_nanos() as u64
    }

    pub fn sleep(&self, duration: Duration) -> Sleep {
        self.sleep_until(self.now() + duration)
    }

    pub fn sleep_until(&self, deadline: Duration) -> Sleep {
        Sleep { time: self.clone(), deadline, alarm: None }
    }

    /// Wakes `waker` once at `deadline`.
    pub fn wake_at(&self, deadline: Duration, waker: &Waker) {
        let now = self.now();
        if now >= deadline {
            waker.wake_by_ref();
            return;
        }
        let deadline = self.handle.now_instant() + (deadline - now);
        let mut sleep = self.handle.sleep_until(deadline);
        // `sleep_until` rounds up to a millisecond, `reset` does not.
        Pin::new(&mut sleep).reset(deadline);
        // The timer that this poll leaves behind is all that is wanted of it.
        if Pin::new(&mut sleep).poll(&mut Context::from_waker(waker)).is_ready() {
            waker.wake_by_ref();
        }
    }
}

/// Completes at its deadline.
pub struct Sleep {
    time: Time,
    deadline: Duration,
    alarm: Option<Arc<Alarm>>,
}

/// The one timer of a sleep, and whoever polled it last.
struct Alarm {
    waker: Mutex<Option<Waker>>,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        let waker = self.waker.lock().expect("nothing panics while it is held").take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.time.now() >= self.deadline {
            return Poll::Ready(());
        }
        match &self.alarm {
            Some(alarm) => {
                alarm
                    .waker
                    .lock()
                    .expect("nothing panics while it is held")
                    .get_or_insert_with(|| context.waker().clone())
                    .clone_from(context.waker());
            }
            None => {
                let alarm = Arc::new(Alarm { waker: Mutex::new(Some(context.waker().clone())) });
                self.time.wake_at(self.deadline, &alarm.clone().into());
                self.alarm = Some(alarm);
            }
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(alarm) = &self.alarm {
            alarm.waker.lock().expect("nothing panics while it is held").take();
        }
    }
}

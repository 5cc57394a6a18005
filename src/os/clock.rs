//! The kernel's clocks and tokio's timers.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{Local, Offset, TimeZone};
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Handle;

use crate::env::{BoxFuture, Clock};

pub(super) struct KernelClock {
    runtime: Handle,
}

impl KernelClock {
    pub(super) fn new(runtime: Handle) -> Self {
        KernelClock { runtime }
    }
}

impl Clock for KernelClock {
    fn wall_ms(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => since.as_millis() as i64,
            Err(before) => -(before.duration().as_millis() as i64),
        }
    }

    /// Time since the machine started: the same for every `KernelClock`.
    fn monotonic(&self) -> Duration {
        let now = clock_gettime(ClockId::Monotonic);
        Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        // A timer belongs to a runtime; whoever asks may stand outside of it (a thread of its own, a drop).
        let _inside = self.runtime.enter();
        Box::pin(tokio::time::sleep(duration))
    }

    fn utc_offset_s(&self, wall_ms: i64) -> i32 {
        match Local.timestamp_millis_opt(wall_ms).earliest() {
            Some(local) => local.offset().fix().local_minus_utc(),
            // A moment beyond the calendar's end.
            None => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn time_goes_on() {
        let clock = KernelClock::new(Handle::current());
        let (wall, start) = (clock.wall_ms(), clock.monotonic());
        clock.sleep(Duration::from_millis(20)).await;
        assert!(clock.monotonic() - start >= Duration::from_millis(20));
        assert!(clock.wall_ms() > wall && wall > 1_700_000_000_000);
        let offset = clock.utc_offset_s(wall);
        assert!(offset.abs() <= 14 * 3600 && offset % 60 == 0, "{offset}");
        assert_eq!(clock.utc_offset_s(i64::MAX), 0);
    }

    #[test]
    fn sleeping_is_possible_on_a_foreign_thread() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let clock = KernelClock::new(runtime.handle().clone());
        let sleep = clock.sleep(Duration::from_millis(5));
        runtime.block_on(sleep);
    }
}

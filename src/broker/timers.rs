//! What the broker does by the clock: keeps consumer offsets, drops clients that fell silent and locks nobody renews.

use std::{sync::Arc, time::Duration};

use super::{consumer_filters::ConsumerFilters, core::Core};
use crate::{env::Clock, store::stop::Stopping};

/// How often the expressions of subscriptions are kept, as in RocketMQ.
const FILTER_PERIOD: Duration = Duration::from_secs(10);
/// How often clients and locks are looked through.
const CLIENT_SCAN: Duration = Duration::from_secs(10);

/// Keeps consumer offsets every flushConsumerOffsetInterval.
pub async fn offsets(core: Arc<Core>, mut stopping: Stopping) {
    let interval = Duration::from_millis(core.config().flush_consumer_offset_interval_ms);
    loop {
        let tick = core.env.clock.sleep(interval);
        tokio::select! { biased; () = stopping.stopped() => return, () = tick => {} }
        persist_offsets(&core).await;
    }
}

/// Writes the offsets of this moment, once the log is durable up to now: an offset must not outlive its message.
pub async fn persist_offsets(core: &Core) {
    if !core.offsets.take_snapshot() {
        return;
    }
    if let Err(error) = core.store.flush_all().await {
        tracing::error!("consumer offsets are not stored: {error}");
        return;
    }
    if let Err(failed) = core.offsets.persist().await {
        tracing::error!("consumer offsets are not stored: {failed}");
    }
}

/// Keeps the progress of delayed messages every flushDelayOffsetInterval.
pub async fn delay_offsets(core: Arc<Core>, mut stopping: Stopping) {
    let interval = Duration::from_millis(core.config().flush_delay_offset_interval_ms);
    loop {
        let tick = core.env.clock.sleep(interval);
        tokio::select! { biased; () = stopping.stopped() => return, () = tick => {} }
        persist_delay_offsets(&core).await;
    }
}

/// Writes the progress of this moment, once what was delivered is durable: else a power cut could take a message that
/// its level has left behind.
pub async fn persist_delay_offsets(core: &Core) {
    if !core.delay.take_snapshot() {
        return;
    }
    if !plant!(DelayOffsetBeforeFlush)
        && let Err(error) = core.store.flush_all().await
    {
        tracing::error!("the progress of delayed messages is not stored: {error}");
        return;
    }
    if let Err(failed) = core.delay.persist().await {
        tracing::error!("the progress of delayed messages is not stored: {failed}");
    }
}

/// The wall clock may drift by so much between two looks before it is said to have jumped.
const JUMP_MS: i64 = 1_000;

/// Says when the wall clock moved otherwise than time did: delays, retention and lookups by time go by it.
struct WallWatch {
    wall_ms: i64,
    at: Duration,
}

impl WallWatch {
    fn new(clock: &dyn Clock) -> Self {
        WallWatch { wall_ms: clock.wall_ms(), at: clock.monotonic() }
    }

    /// What is to be said, if it moved otherwise.
    fn look(&mut self, clock: &dyn Clock) -> Option<String> {
        let now = WallWatch::new(clock);
        let jumped = (now.wall_ms - self.wall_ms) - (now.at - self.at).as_millis() as i64;
        *self = now;
        let way = if jumped > 0 { "forward" } else { "back" };
        (jumped.abs() > JUMP_MS).then(|| {
            format!(
                "the wall clock jumped {way} by {} ms: delayed messages, retention and lookups by time go by it; let it be \
                 slewed (chrony, ntpd) instead of set",
                jumped.abs()
            )
        })
    }
}

/// Keeps the expressions that groups subscribe with, every ten seconds and at the end.
pub async fn consumer_filters(core: Arc<Core>, filters: ConsumerFilters, mut stopping: Stopping) {
    let mut is_end = false;
    while !is_end {
        let tick = core.env.clock.sleep(FILTER_PERIOD);
        is_end = tokio::select! { biased; () = stopping.stopped() => true, () = tick => false };
        if filters.note(core.clients.expressions(), core.now_ms())
            && let Err(failed) = filters.persist().await
        {
            tracing::error!("the expressions of subscriptions are not stored: {failed}");
        }
    }
}

/// Closes connections whose client sent no heartbeat for channelExpiredTimeout, forgets expired locks.
pub async fn clients(core: Arc<Core>, mut stopping: Stopping) {
    let mut wall = WallWatch::new(&*core.env.clock);
    loop {
        let tick = core.env.clock.sleep(CLIENT_SCAN);
        tokio::select! { biased; () = stopping.stopped() => return, () = tick => {} }
        if let Some(jump) = wall.look(&*core.env.clock) {
            tracing::warn!("{jump}");
        }
        let now = core.env.clock.monotonic();
        let expired = Duration::from_millis(core.config().channel_expired_timeout_ms);
        if let Some(before) = now.checked_sub(expired) {
            for channel in core.clients.silent_since(before) {
                tracing::info!("{} sent no heartbeat for {expired:?}; its connection is closed", channel.peer());
                channel.close();
            }
        }
        core.locks.sweep(now);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

    use super::*;
    use crate::env::BoxFuture;

    /// Monotonic and wall milliseconds.
    struct Hands(AtomicI64, AtomicI64);

    impl Clock for Hands {
        fn wall_ms(&self) -> i64 {
            self.1.load(Relaxed)
        }

        fn monotonic(&self) -> Duration {
            Duration::from_millis(self.0.load(Relaxed) as u64)
        }

        fn sleep(&self, _duration: Duration) -> BoxFuture<'static, ()> {
            Box::pin(std::future::pending())
        }

        fn utc_offset_s(&self, _wall_ms: i64) -> i32 {
            0
        }
    }

    #[test]
    fn a_wall_clock_that_jumps_is_said() {
        let clock = Hands(AtomicI64::new(5_000), AtomicI64::new(1_700_000_000_000));
        let mut watch = WallWatch::new(&clock);
        let mut check = |passed_ms: i64, wall_ms: i64, expect: Option<&str>| {
            clock.0.fetch_add(passed_ms, Relaxed);
            clock.1.fetch_add(wall_ms, Relaxed);
            let said = watch.look(&clock);
            assert_eq!(said.as_deref().and_then(|said| said.split_once(':')).map(|(what, _)| what), expect);
        };
        check(10_000, 10_000, None);
        check(10_000, 10_900, None);
        check(10_000, 3_610_000, Some("the wall clock jumped forward by 3600000 ms"));
        check(10_000, 10_000, None);
        check(10_000, -20_000, Some("the wall clock jumped back by 30000 ms"));
        check(10_000, 10_000, None);
    }
}

//! What the broker does by the clock: keeps consumer offsets, drops clients that fell silent and locks nobody renews.

use std::{sync::Arc, time::Duration};

use super::core::Core;
use crate::store::stop::Stopping;

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

/// Closes connections whose client sent no heartbeat for channelExpiredTimeout, forgets expired locks.
pub async fn clients(core: Arc<Core>, mut stopping: Stopping) {
    loop {
        let tick = core.env.clock.sleep(CLIENT_SCAN);
        tokio::select! { biased; () = stopping.stopped() => return, () = tick => {} }
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

//! When the log's bytes reach the files and the disk: the services behind the three flush modes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

use super::{
    commit_log::CommitLog,
    config::{FlushMode, StoreConfig},
    slow::Slow,
    stop::Stopping,
};
use crate::{
    env::{Clock, SyncFailed},
    model::{LogOffset, Watermark},
};

/// A sync that takes longer is said.
const SLOW: Duration = Duration::from_millis(500);

/// Drives commits and syncs as the mode wants them.
pub struct Flush {
    log: Arc<CommitLog>,
    clock: Arc<dyn Clock>,
    config: StoreConfig,
    requested: Notify,
    /// The timed service sleeps until something is appended.
    idle: AtomicBool,
    /// A flush up to here was asked for, whatever the mode's timers say.
    demanded: AtomicU64,
    slow_sync: Slow,
    /// With the pool an acknowledgement promises no more than memory: appended, as of the last turn's end.
    pooled: Arc<Watermark>,
}

impl Flush {
    pub fn new(log: Arc<CommitLog>, clock: Arc<dyn Clock>, config: StoreConfig) -> Arc<Self> {
        let pooled = Watermark::new(log.appended().0);
        Arc::new(Flush {
            log,
            clock,
            config,
            requested: Notify::new(),
            idle: AtomicBool::new(false),
            demanded: AtomicU64::new(0),
            slow_sync: Slow::new("a sync of the log", SLOW, "the disk is slow or shared; `keelmq doctor` measures it"),
            pooled,
        })
    }

    /// What an acknowledgement waits for under this mode.
    pub fn promise(&self) -> &Arc<Watermark> {
        match self.config.flush {
            FlushMode::Sync if plant!(AckBeforeSync) => &self.log.committed,
            FlushMode::Sync => &self.log.flushed,
            FlushMode::Async => &self.log.committed,
            FlushMode::Pooled => &self.pooled,
        }
    }

    /// Readers and reput stop here: under SYNC_FLUSH nothing is shown that a power cut may take back.
    pub fn readable(&self) -> &Arc<Watermark> {
        match self.config.flush {
            FlushMode::Sync if plant!(ShownBeforeFlushed) => &self.log.committed,
            FlushMode::Sync => &self.log.flushed,
            FlushMode::Async | FlushMode::Pooled => &self.log.committed,
        }
    }

    /// The end of a turn that appended something.
    pub fn turn_end(&self) {
        self.turn_end_quietly();
        self.log.committed.wake_patient();
    }

    /// As `turn_end`; the caller derives what follows from it, or wakes who does.
    pub fn turn_end_quietly(&self) {
        match self.config.flush {
            FlushMode::Sync if plant!(GroupCommitWakeUpLost) && self.log.appended().0.is_multiple_of(5) => return,
            FlushMode::Sync => return self.requested.notify_one(),
            // A failure has been said by the log, and every waiter learns of it from the watermark.
            FlushMode::Async => drop(self.log.commit_quietly()),
            FlushMode::Pooled => self.pooled.advance(self.log.appended().0),
        }
        if self.idle.swap(false, Ordering::SeqCst) {
            self.requested.notify_one();
        }
    }

    /// Asks for everything appended so far to become durable, in any mode; await `log.flushed` for it.
    pub fn demand(&self) -> LogOffset {
        let target = self.log.appended();
        self.demanded.fetch_max(target.0, Ordering::SeqCst);
        self.requested.notify_one();
        target
    }

    /// The service. It ends when told to, or with the first failure, which the log has said.
    pub async fn run(self: Arc<Self>, stopping: Stopping) {
        match self.config.flush {
            FlushMode::Sync => self.group_commit(stopping).await,
            FlushMode::Async => self.timed(stopping, Duration::from_millis(self.config.flush_interval_ms)).await,
            FlushMode::Pooled => self.timed(stopping, Duration::from_millis(self.config.commit_interval_ms)).await,
        }
        if let Some(failed) = self.log.committed.failure() {
            self.pooled.fail(&failed.reason);
        }
    }

    /// SYNC_FLUSH: whoever asks while a sync is under way shares the next one.
    async fn group_commit(&self, mut stopping: Stopping) {
        loop {
            tokio::select! { biased; () = self.requested.notified() => {} () = stopping.stopped() => return }
            if self.log.commit().is_err() || self.sync().await.is_err() {
                return;
            }
        }
    }

    /// ASYNC_FLUSH: a commit (pool) and a sync every interval if enough is dirty, a thorough one now and then.
    async fn timed(&self, mut stopping: Stopping, interval: Duration) {
        let mut thorough_at = self.clock.monotonic();
        loop {
            self.idle.store(true, Ordering::SeqCst);
            if self.log.appended().0 == self.log.flushed.get() {
                tokio::select! { biased; () = self.requested.notified() => {} () = stopping.stopped() => return }
            }
            self.idle.store(false, Ordering::SeqCst);
            if !self.is_demanded() {
                let tick = self.clock.sleep(interval);
                tokio::select! {
                    biased;
                    () = self.requested.notified() => {}
                    () = stopping.stopped() => return,
                    () = tick => {}
                }
            }
            let demanded = self.is_demanded();
            if self.log.commit().is_err() {
                return;
            }
            let now = self.clock.monotonic();
            let dirty = self.log.committed.get() - self.log.flushed.get();
            if demanded
                || dirty >= self.config.flush_least_bytes
                || (dirty > 0 && now >= thorough_at && !plant!(AsyncNeverThorough))
            {
                if self.sync().await.is_err() {
                    return;
                }
                thorough_at = now + Duration::from_millis(self.config.flush_thorough_ms);
            }
        }
    }

    async fn sync(&self) -> Result<LogOffset, SyncFailed> {
        let began = self.clock.monotonic();
        let synced = self.log.sync().await;
        self.slow_sync.took(began, self.clock.monotonic());
        synced
    }

    fn is_demanded(&self) -> bool {
        self.demanded.load(Ordering::SeqCst) > self.log.flushed.get()
    }
}

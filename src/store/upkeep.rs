//! The service that makes what is derived durable and moves the checkpoint, and that ends the store in order.

use std::{collections::VecDeque, path::PathBuf, sync::Arc, time::Duration};

use super::{
    checkpoint::{Checkpoint, CheckpointError, CheckpointFile, Known},
    commit_log::CommitLog,
    config::StoreConfig,
    consume_queue::QueueError,
    index::IndexError,
    reput::Reput,
    stop::Stopping,
};
use crate::{
    env::{Clock, Storage},
    model::{LogOffset, Watermark},
};

/// A queue with fewer dirty bytes waits for the thorough pass (flushConsumeQueueLeastPages of 4 KiB).
const LEAST_DIRTY_BYTES: u64 = 2 * 4_096;
/// A thorough pass takes at most one part in this many of the time.
const THOROUGH_SHARE: u32 = 10;

pub struct Upkeep {
    pub storage: Arc<dyn Storage>,
    pub clock: Arc<dyn Clock>,
    pub config: StoreConfig,
    pub log: Arc<CommitLog>,
    pub reput: Arc<Reput>,
    pub file: CheckpointFile,
    pub checkpoint: Checkpoint,
    /// The checkpoint on the disk says that everything below is derived and durable.
    pub settled: Arc<Watermark>,
    pub abort: PathBuf,
    /// Offsets at which a record begins, from `check_from` up to `derived`.
    pub boundaries: VecDeque<LogOffset>,
}

#[derive(Debug, thiserror::Error)]
enum UpkeepError {
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error(transparent)]
    Sync(#[from] crate::env::SyncFailed),
}

impl Upkeep {
    /// Runs until stopped, then once more thoroughly; a clean end removes `abort`. A failure closes the log.
    pub async fn run(mut self, mut stopping: Stopping) {
        let interval = Duration::from_millis(self.config.upkeep_interval_ms);
        let mut thorough_due = self.clock.monotonic() + Duration::from_millis(self.config.upkeep_thorough_ms);
        let mut thorough_not_before = Duration::ZERO;
        while !stopping.is_stopping() {
            // An idle store needs no timer.
            if self.is_settled() {
                let next = self.reput.dispatched.get() + 1;
                tokio::select! {
                    biased;
                    () = stopping.stopped() => break,
                    outcome = self.reput.dispatched.reached(next) => drop(outcome),
                }
            }
            let tick = self.clock.sleep(interval);
            tokio::select! { biased; () = stopping.stopped() => break, () = tick => {} }
            let began = self.clock.monotonic();
            let behind = self.reput.dispatched.get() - self.derived().0;
            let due = began >= thorough_due || behind >= self.config.upkeep_behind_bytes;
            let thorough = (due && began >= thorough_not_before) || plant!(UpkeepAlwaysThorough);
            if let Err(error) = self.pass(thorough).await {
                self.log.fail(&format!("upkeep of the store failed: {error}"));
                return;
            }
            if thorough {
                let now = self.clock.monotonic();
                thorough_due = now + Duration::from_millis(self.config.upkeep_thorough_ms);
                thorough_not_before = now + (now - began) * THOROUGH_SHARE;
            }
        }
        self.finish().await;
    }

    async fn finish(&mut self) {
        if self.log.flushed.failure().is_some() {
            return;
        }
        if let Err(error) = self.pass(true).await {
            self.log.fail(&format!("upkeep of the store failed: {error}"));
            return;
        }
        if !self.is_settled() {
            tracing::warn!("the store stops before everything is derived; the next start reads the rest of the log");
            return;
        }
        let directory = self.abort.parent().expect("abort lies in the store's directory").to_owned();
        let removed = match self.storage.remove(&self.abort) {
            Ok(()) => self.storage.sync_dir(&directory).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = removed {
            tracing::error!("{} cannot be removed: {error}; the next start will check the store", self.abort.display());
        }
    }

    fn derived(&self) -> LogOffset {
        self.checkpoint.known.expect("set when the store was opened").derived
    }

    /// Everything the log holds is derived, durable, and said so by the checkpoint.
    fn is_settled(&self) -> bool {
        let known = self.checkpoint.known.expect("set when the store was opened");
        let end = self.log.appended();
        known.derived == end && known.flushed == end
    }

    async fn pass(&mut self, thorough: bool) -> Result<(), UpkeepError> {
        // What is dispatched later is no concern of this pass: its units are newer than this.
        let dispatched = LogOffset(self.reput.dispatched.get());
        let timestamp = self.reput.last_store_timestamp();
        let flushed =
            if plant!(CheckpointAheadOfLog) { self.log.appended() } else { LogOffset(self.log.flushed.get()) };
        let queues = self.reput.dispatcher().queues.all();
        for queue in &queues {
            if thorough || queue.dirty_bytes() >= LEAST_DIRTY_BYTES {
                queue.sync().await?;
            } else {
                queue.write().map_err(QueueError::Io)?;
            }
        }
        let mut derived = queues.iter().filter_map(|queue| queue.unsynced_from()).fold(dispatched, LogOffset::min);
        if let Some(index) = &self.reput.dispatcher().index {
            derived = derived.min(index.sync(thorough, dispatched).await?);
        }
        let derived = if plant!(CheckpointAheadOfQueues) { dispatched } else { derived };
        // The checkpoint never goes back: what it said before stays true.
        let before = self.checkpoint.known.expect("set when the store was opened");
        let derived = derived.min(flushed).max(before.derived);
        if self.boundaries.back().is_none_or(|last| *last < derived) {
            self.boundaries.push_back(derived);
        }
        // The newest boundary that leaves enough to check; retention may have passed even that.
        while self.boundaries.get(1).is_some_and(|next| *next + self.config.check_behind_bytes <= derived) {
            self.boundaries.pop_front();
        }
        let check_from = self.boundaries.front().copied().unwrap_or(derived);
        let known = Known { flushed, derived, check_from };
        let mut next = Checkpoint { known: Some(known), ..self.checkpoint };
        if known.derived == dispatched {
            (next.physic_timestamp, next.logics_timestamp, next.index_timestamp) = (timestamp, timestamp, timestamp);
        }
        if next != self.checkpoint {
            self.file.save(&next).await?;
            self.checkpoint = next;
            self.settled.advance(known.derived.0);
        }
        Ok(())
    }
}

//! Prepares commit-log segments ahead of need: blocks really reserved, file and name durable before it is handed out.
//! Knows nothing of records.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::Notify;

use super::{
    segment::{Segment, name_of},
    slow::Slow,
    stop::Stopping,
};
use crate::{
    env::{Clock, Open, Storage, timeout},
    model::{LogOffset, Watermark},
};

/// Why the next segment is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AllocateError {
    /// The allocator is slow: the broker is busy or the disk hangs.
    #[error("the next segment of the commit log was not ready within {waited_ms} ms")]
    TimedOut { waited_ms: u64 },
    /// The disk is full. Ends when space returns.
    #[error("no space for segment {path}: {reason}")]
    NoSpace { path: String, reason: String },
    /// Anything else the disk said. Retried after a pause.
    #[error("segment {path} cannot be created: {reason}")]
    Failed { path: String, reason: String },
}

/// A creation that takes longer is said.
const SLOW: Duration = Duration::from_millis(10);

pub struct Allocator {
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    directory: std::path::PathBuf,
    size: u64,
    ahead: usize,
    retry: Duration,
    state: Mutex<State>,
    wanted: Notify,
    /// Counts attempts, so that a waiter learns of each outcome.
    attempts: Arc<Watermark>,
    slow: Slow,
}

struct State {
    next: LogOffset,
    ready: VecDeque<Arc<Segment>>,
    stuck: Option<AllocateError>,
}

impl Allocator {
    /// Prepares segments of `size` bytes from `next` on, `ahead` of them in advance.
    pub fn new(
        storage: Arc<dyn Storage>,
        clock: Arc<dyn Clock>,
        directory: &std::path::Path,
        size: u64,
        next: LogOffset,
        ahead: usize,
        retry_ms: u64,
    ) -> Arc<Self> {
        Arc::new(Allocator {
            storage,
            clock,
            directory: directory.to_owned(),
            size,
            ahead: ahead.max(1),
            retry: Duration::from_millis(retry_ms),
            state: Mutex::new(State { next, ready: VecDeque::new(), stuck: None }),
            wanted: Notify::new(),
            attempts: Watermark::new(0),
            slow: Slow::new(
                "creating a segment",
                SLOW,
                "the file system reserves space slowly; sends wait if it takes seconds",
            ),
        })
    }

    /// The segment at `base`, if it is ready.
    pub fn take(&self, base: LogOffset) -> Option<Arc<Segment>> {
        let segment = self.lock().ready.pop_front();
        if let Some(segment) = &segment {
            assert_eq!(segment.base, base, "segments are handed out in order");
        }
        self.wanted.notify_one();
        segment
    }

    /// Waits until a segment is ready; an answer of the disk ends the wait at once.
    pub async fn ready(&self, wait: Duration) -> Result<(), AllocateError> {
        let deadline = self.clock.monotonic() + wait;
        loop {
            let seen = self.attempts.get();
            {
                let state = self.lock();
                if !state.ready.is_empty() {
                    return Ok(());
                }
                if let Some(stuck) = &state.stuck {
                    return Err(stuck.clone());
                }
            }
            self.wanted.notify_one();
            let left = deadline.saturating_sub(self.clock.monotonic());
            if timeout(&*self.clock, left, self.attempts.reached(seen + 1)).await.is_err() {
                return Err(AllocateError::TimedOut { waited_ms: wait.as_millis() as u64 });
            }
        }
    }

    /// What the disk said last, while it is in the way.
    pub fn stuck(&self) -> Option<AllocateError> {
        self.lock().stuck.clone()
    }

    /// The service: keeps `ahead` segments ready until stopped.
    pub async fn run(self: Arc<Self>, mut stopping: Stopping) {
        while !stopping.is_stopping() {
            let base = {
                let state = self.lock();
                (state.ready.len() < self.ahead).then_some(state.next)
            };
            let Some(base) = base else {
                tokio::select! { biased; () = stopping.stopped() => return, () = self.wanted.notified() => continue }
            };
            let began = self.clock.monotonic();
            let outcome = self.prepare(base).await;
            self.slow.took(began, self.clock.monotonic());
            let failed = outcome.is_err();
            {
                let mut state = self.lock();
                match outcome {
                    Ok(segment) => {
                        if let Some(stuck) = state.stuck.take() {
                            tracing::info!("segments can be created again (it was: {stuck})");
                        }
                        state.next = segment.end();
                        state.ready.push_back(segment);
                    }
                    Err(error) => {
                        if state.stuck.as_ref() != Some(&error) {
                            tracing::error!("{error}; sends are refused until it succeeds, retrying");
                        }
                        state.stuck = Some(error);
                    }
                }
            }
            self.attempts.advance(self.attempts.get() + 1);
            if failed {
                let pause = self.clock.sleep(self.retry);
                tokio::select! { biased; () = stopping.stopped() => return, () = pause => {} }
            }
        }
    }

    async fn prepare(&self, base: LogOffset) -> Result<Arc<Segment>, AllocateError> {
        let path = self.directory.join(name_of(base.0));
        let failed = |error: io::Error| {
            let (path, reason) = (path.display().to_string(), error.to_string());
            // A quota counts as a full disk.
            match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => AllocateError::NoSpace { path, reason },
                _ => AllocateError::Failed { path, reason },
            }
        };
        if self.storage.exists(&path) {
            // Left behind by an attempt that failed half way; nothing was ever handed out at this offset.
            self.storage.remove(&path).map_err(failed)?;
        }
        let file = self.storage.open(&path, Open::New { reserve: self.size }).map_err(failed)?;
        let unsynced = |error: crate::env::SyncFailed| AllocateError::Failed { path: error.path, reason: error.reason };
        file.sync().await.map_err(unsynced)?;
        if !plant!(NewSegmentNameNotSynced) {
            self.storage.sync_dir(&self.directory).await.map_err(unsynced)?;
        }
        Ok(Arc::new(Segment { base, size: self.size, path, file }))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it is held")
    }
}

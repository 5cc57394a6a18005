//! When old segments go, and when sends are refused because the disk fills up. `Retention` decides and is told
//! everything, time included; `Retainer` is the service that looks, removes and waits. Queues and index follow the log.
//!
//! A segment's age is that of its last record; the record that begins the next segment was stored at that moment.
//! (Source of the rules: CleanCommitLogService of Apache RocketMQ 4.9.7; the floor in bytes is ours.)

use std::{
    collections::VecDeque,
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::sync::Notify;

use super::{commit_log::CommitLog, presence::Presence, record, reput::Reput, segment::Segment, stop::Stopping};
use crate::{
    env::{Clock, Space, Storage},
    model::{LogOffset, Watermark},
};

/// Rounds for which a deletion asked for by hand is tried.
const MANUAL_ROUNDS: u32 = 20;

/// Which segments may go, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Older segments have expired (fileReservedTime).
    pub age_max_ms: i64,
    /// Local hours in which expired segments go (deleteWhen).
    pub hours: Vec<u32>,
    /// Disk use above which expired segments go at any hour (diskMaxUsedSpaceRatio).
    pub expired_above_percent: u32,
    /// Disk use above which the oldest segments go though they have not expired (diskSpaceCleanForciblyRatio)…
    pub forced_above_percent: u32,
    /// …if that is allowed (cleanFileForciblyEnable).
    pub forced: bool,
    /// Disk use above which sends are refused (diskSpaceWarningLevelRatio).
    pub refuse_above_percent: u32,
    /// Sends are refused, and segments go as if by force, with fewer bytes free than this.
    pub free_min_bytes: u64,
    /// Segments that go in one round (deleteFileBatchMax).
    pub batch_max: usize,
    /// Pause between two of them (deleteCommitLogFilesInterval).
    pub pause_ms: u64,
}

impl Default for Policy {
    /// RocketMQ's.
    fn default() -> Self {
        Policy {
            age_max_ms: 72 * 3_600_000,
            hours: vec![4],
            expired_above_percent: 75,
            forced_above_percent: 85,
            forced: true,
            refuse_above_percent: 90,
            free_min_bytes: 64 << 20,
            batch_max: 10,
            pause_ms: 100,
        }
    }
}

/// What the file systems of log and queues have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    pub log: Space,
    pub queues: Space,
}

impl Usage {
    fn each(&self) -> [Space; 2] {
        [self.log, self.queues]
    }

    /// Whether one of the two is used by more than so many hundredths.
    fn is_above(&self, percent: u32) -> bool {
        self.each().into_iter().any(|space| is_above(space, percent))
    }

    fn is_below_floor(&self, bytes: u64) -> bool {
        self.each().into_iter().any(|space| space.free_bytes < bytes)
    }
}

fn is_above(space: Space, percent: u32) -> bool {
    let used = space.total_bytes.saturating_sub(space.free_bytes);
    u128::from(used) * 100 > u128::from(space.total_bytes) * u128::from(percent)
}

fn ratio(space: Space) -> f64 {
    match space.total_bytes {
        0 => 0.0,
        total => total.saturating_sub(space.free_bytes) as f64 / total as f64,
    }
}

/// Java's words for a full disk, which people search for.
impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (log, queues) = (ratio(self.log), ratio(self.queues));
        write!(
            f,
            "service not available now. It may be caused by one of the following reasons: the broker's disk is full \
             [CL: {log:5.2} CQ: {queues:5.2} INDEX: {queues:5.2}], messages are put to the slave, message store has \
             been shut down, etc."
        )
    }
}

/// Why segments go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    Expired,
    /// Asked for by hand: expired ones, whatever the hour.
    Manual,
    /// Expired ones, whatever the hour: the disk fills up.
    Filling,
    /// Whatever their age: the disk is nearly full.
    Forced,
}

/// What a round of looking came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    /// So many of the oldest segments go.
    pub delete: usize,
    pub why: Why,
    /// Sends are refused.
    pub is_full: bool,
}

/// The bookkeeping: told what there is, says what goes.
pub struct Retention {
    pub policy: Policy,
    manual_rounds: u32,
}

impl Retention {
    pub fn new(policy: Policy) -> Self {
        Retention { policy, manual_rounds: 0 }
    }

    /// Expired segments are to go at any hour, now and for some rounds.
    pub fn ask(&mut self) {
        self.manual_rounds = MANUAL_ROUNDS;
    }

    /// `ended` has the store timestamps of the last records of those segments that may go, oldest first, as far as they
    /// are known; `hour` is local.
    pub fn round(&mut self, now_ms: i64, hour: u32, usage: &Usage, segment_bytes: u64, ended: &[Option<i64>]) -> Round {
        let policy = &self.policy;
        let is_full = usage.is_above(policy.refuse_above_percent) || usage.is_below_floor(policy.free_min_bytes);
        let manual = self.manual_rounds > 0;
        self.manual_rounds = self.manual_rounds.saturating_sub(1);
        let expired = ended
            .iter()
            .take(policy.batch_max)
            .take_while(|ended| ended.is_some_and(|ended| ended.saturating_add(policy.age_max_ms) < now_ms))
            .count();
        let forced = match policy.forced {
            true => usage.each().into_iter().map(|space| self.needed(space, segment_bytes)).max().unwrap_or(0),
            false => 0,
        };
        let forced = forced.min(policy.batch_max).min(ended.len());
        let (delete, why) = if forced > expired {
            (forced, Why::Forced)
        } else if usage.is_above(policy.expired_above_percent) || forced > 0 {
            (expired, Why::Filling)
        } else if policy.hours.contains(&hour) {
            (expired, Why::Expired)
        } else if manual {
            (expired, Why::Manual)
        } else {
            (0, Why::Expired)
        };
        Round { delete, why, is_full }
    }

    /// How many segments bring the disk back to where none goes by force.
    fn needed(&self, space: Space, segment_bytes: u64) -> usize {
        let policy = &self.policy;
        let allowed = u128::from(space.total_bytes) * u128::from(policy.forced_above_percent) / 100;
        let used = space.total_bytes.saturating_sub(space.free_bytes);
        let over = used.saturating_sub(allowed as u64).max(policy.free_min_bytes.saturating_sub(space.free_bytes));
        over.div_ceil(segment_bytes.max(1)) as usize
    }
}

pub struct Retainer {
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    log: Arc<CommitLog>,
    reput: Arc<Reput>,
    /// Queues and index are durable up to here.
    settled: Arc<Watermark>,
    queue_root: PathBuf,
    interval: Duration,
    /// No segment goes earlier after a start.
    first: Duration,
    presence_interval: Duration,
    state: Mutex<State>,
    asked: Notify,
}

struct State {
    retention: Retention,
    /// Taken out of the log, not yet off the disk; oldest first, and no other before them.
    doomed: VecDeque<PathBuf>,
    /// Where the log began when queues and index last followed it.
    followed: Option<LogOffset>,
    is_full: bool,
    said: Option<String>,
}

impl Retainer {
    pub fn new(
        storage: Arc<dyn Storage>,
        clock: Arc<dyn Clock>,
        log: Arc<CommitLog>,
        reput: Arc<Reput>,
        settled: Arc<Watermark>,
        queue_root: &Path,
        config: &super::StoreConfig,
    ) -> Arc<Self> {
        Arc::new(Retainer {
            storage,
            clock,
            log,
            reput,
            settled,
            queue_root: queue_root.to_owned(),
            interval: Duration::from_millis(config.retention_interval_ms),
            first: Duration::from_millis(config.retention_first_ms),
            presence_interval: Duration::from_millis(config.presence_interval_ms),
            state: Mutex::new(State {
                retention: Retention::new(config.retention.clone()),
                doomed: VecDeque::new(),
                followed: None,
                is_full: false,
                said: None,
            }),
            asked: Notify::new(),
        })
    }

    pub fn set_policy(&self, policy: Policy) {
        self.lock().retention.policy = policy;
        self.asked.notify_one();
    }

    /// Lets expired segments go now, whatever the hour.
    pub fn ask(&self) {
        self.lock().retention.ask();
        self.asked.notify_one();
    }

    /// The service: looks every interval, and when asked.
    pub async fn run(self: Arc<Self>, mut stopping: Stopping) {
        let begun = self.clock.monotonic();
        let mut presence = Presence::new(self.storage.clone(), self.reput.dispatcher().queues.clone());
        let mut presence_due = begun + self.presence_interval;
        while !stopping.is_stopping() {
            let may_delete = self.clock.monotonic() - begun >= self.first;
            let mut looked = self.look(may_delete, &mut stopping).await;
            if self.clock.monotonic() >= presence_due && self.log.flushed.failure().is_none() {
                looked = looked.and(presence.look(&self.log.segments));
                presence_due = self.clock.monotonic() + self.presence_interval;
            }
            match looked {
                Ok(()) => self.lock().said = None,
                Err(error) => self.say(&error),
            }
            let tick = self.clock.sleep(self.interval);
            tokio::select! {
                biased;
                () = stopping.stopped() => return,
                () = tick => {}
                () = self.asked.notified() => {}
            }
        }
    }

    async fn look(&self, may_delete: bool, stopping: &mut Stopping) -> io::Result<()> {
        let usage = Usage {
            log: self.storage.space(self.log.segments.directory())?,
            queues: self.storage.space(&self.queue_root)?,
        };
        let now_ms = self.clock.wall_ms();
        let local_ms = self.clock.local_ms(now_ms);
        let hour = local_ms.div_euclid(3_600_000).rem_euclid(24) as u32;
        let ended = self.ended()?;
        let (round, pause_ms) = {
            let mut state = self.lock();
            let round = state.retention.round(now_ms, hour, &usage, self.log.segments.size(), &ended);
            (round, state.retention.policy.pause_ms)
        };
        self.refuse_if(round.is_full, &usage);
        let delete = if may_delete || round.why == Why::Manual { round.delete } else { 0 };
        for number in 0..delete {
            if number > 0 {
                let pause = self.clock.sleep(Duration::from_millis(pause_ms));
                tokio::select! { biased; () = stopping.stopped() => return Ok(()), () = pause => {} }
            }
            if !self.remove_doomed().await? || !self.take_first(round.why) {
                break;
            }
        }
        self.remove_doomed().await?;
        self.follow()
    }

    /// The store timestamps at the ends of the oldest segments that may go at all: not the last one, and nothing that is
    /// not durable and derived from.
    fn ended(&self) -> io::Result<Vec<Option<i64>>> {
        let all = self.log.segments.all();
        let batch_max = self.lock().retention.policy.batch_max;
        let next = all.iter().skip(1).take(batch_max);
        all.iter()
            .zip(next)
            .take_while(|(segment, _)| self.is_done(segment))
            .map(|(_, next)| first_stored(next))
            .collect()
    }

    /// The queues' units outlive their records: without them nobody would know where a queue goes on.
    fn is_done(&self, segment: &Segment) -> bool {
        let settled = if plant!(SegmentGoneBeforeQueues) { &self.reput.dispatched } else { &self.settled };
        segment.end().0 <= self.log.flushed.get().min(settled.get())
    }

    fn take_first(&self, why: Why) -> bool {
        let may = self.log.segments.first().is_some_and(|first| self.is_done(&first));
        let Some(segment) = may.then(|| self.log.segments.pop_first()).flatten() else { return false };
        let reason = match why {
            Why::Expired => "it has expired",
            Why::Manual => "it has expired and was asked for",
            Why::Filling => "it has expired and the disk fills up",
            Why::Forced => "the disk is nearly full, though it has not expired",
        };
        tracing::info!("segment {} goes: {reason}", segment.path.display());
        self.lock().doomed.push_back(segment.path.clone());
        true
    }

    /// Takes the names off the disk, each durably before the next: a power cut must not leave a hole. False if one is
    /// still there.
    async fn remove_doomed(&self) -> io::Result<bool> {
        loop {
            let Some(path) = self.lock().doomed.front().cloned() else { return Ok(true) };
            match self.storage.remove(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ if plant!(SegmentsGoneUnordered) => {}
                _ => self.storage.sync_dir(self.log.segments.directory()).await.map_err(io::Error::other)?,
            }
            self.lock().doomed.pop_front();
        }
    }

    /// Queues and index let go of what points below the log's beginning.
    pub fn follow(&self) -> io::Result<()> {
        let Some(begin) = self.log.segments.first().map(|first| first.base) else { return Ok(()) };
        if self.lock().followed == Some(begin) {
            return Ok(());
        }
        let dispatcher = self.reput.dispatcher();
        for queue in dispatcher.queues.all().into_iter().filter(|_| !plant!(QueueMinNotMoved)) {
            queue.log_begins_at(begin)?;
        }
        if let Some(index) = &dispatcher.index {
            index.log_begins_at(begin)?;
        }
        self.lock().followed = Some(begin);
        Ok(())
    }

    fn refuse_if(&self, is_full: bool, usage: &Usage) {
        let before = std::mem::replace(&mut self.lock().is_full, is_full);
        if is_full != before {
            let policy = self.lock().retention.policy.clone();
            match is_full {
                true => tracing::error!(
                    "the disk is too full (log {:.0} % used, {} MiB free; queues {:.0} % used, {} MiB free): sends are \
                     refused above diskSpaceWarningLevelRatio={} or with less than {} MiB free, until there is space",
                    ratio(usage.log) * 100.0,
                    usage.log.free_bytes >> 20,
                    ratio(usage.queues) * 100.0,
                    usage.queues.free_bytes >> 20,
                    policy.refuse_above_percent,
                    policy.free_min_bytes >> 20
                ),
                false => tracing::info!("the disk has space again; sends are accepted"),
            }
        }
        self.log.refuse_full(is_full.then(|| usage.to_string().into()));
    }

    /// Says a failure once, until it is another or over.
    fn say(&self, error: &io::Error) {
        let text = error.to_string();
        let mut state = self.lock();
        if state.said.as_ref() != Some(&text) {
            tracing::error!("the look at the disk failed: {text}; it is tried again");
            state.said = Some(text);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it is held")
    }
}

/// When the first record of a segment was stored; `None` if it has none yet.
fn first_stored(segment: &Segment) -> io::Result<Option<i64>> {
    let head = segment.file.read_cold(0..segment.size.min(96))?;
    Ok(record::peek_store_timestamp(&head))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn usage(log_percent: u64, queue_percent: u64) -> Usage {
        let space = |percent: u64| Space { total_bytes: 1_000 << 30, free_bytes: (100 - percent) * (10 << 30) };
        Usage { log: space(log_percent), queues: space(queue_percent) }
    }

    #[test]
    fn what_goes_when() {
        let now = 1_000 * HOUR;
        let old = Some(now - 73 * HOUR);
        let young = Some(now - 71 * HOUR);
        let check = |hour: u32, used: (u64, u64), asked: bool, ended: &[Option<i64>], expect: (usize, Why, bool)| {
            let mut retention = Retention::new(Policy::default());
            if asked {
                retention.ask();
            }
            let round = retention.round(now, hour, &usage(used.0, used.1), 1 << 30, ended);
            assert_eq!((round.delete, round.why, round.is_full), expect, "{hour} {used:?} {asked} {ended:?}");
        };
        check(4, (10, 10), false, &[old, old, young, old], (2, Why::Expired, false));
        check(5, (10, 10), false, &[old, old, young], (0, Why::Expired, false));
        check(5, (10, 10), true, &[old, old, young], (2, Why::Manual, false));
        check(5, (76, 10), false, &[old, young], (1, Why::Filling, false));
        check(5, (10, 76), false, &[old, young], (1, Why::Filling, false));
        check(5, (75, 75), false, &[old, young], (0, Why::Expired, false));
        // Above 75 % only what has expired goes.
        check(5, (84, 10), false, &[young, young], (0, Why::Filling, false));
        // Ten segments of 1 GiB are 1 % of this disk.
        check(5, (86, 10), false, &[young; 30], (10, Why::Forced, false));
        check(5, (86, 10), false, &[None, young], (2, Why::Forced, false));
        check(5, (91, 10), false, &[young], (1, Why::Forced, true));
        check(5, (10, 91), false, &[], (0, Why::Filling, true));
        check(4, (10, 10), false, &[None, old], (0, Why::Expired, false));
        check(4, (10, 10), false, &[old; 30], (10, Why::Expired, false));
    }

    #[test]
    fn force_takes_no_more_than_it_needs() {
        let mut retention = Retention::new(Policy { free_min_bytes: 10 << 30, ..Policy::default() });
        let mut round = |total: u64, free: u64| {
            let space = Space { total_bytes: total << 30, free_bytes: free << 30 };
            let round = retention.round(0, 1, &Usage { log: space, queues: space }, 1 << 30, &[Some(0); 9]);
            (round.delete, round.is_full)
        };
        assert_eq!(round(1_000, 148), (2, false));
        assert_eq!(round(1_000, 150), (0, false));
        assert_eq!(round(20, 9), (1, true), "below the floor");
        assert_eq!(round(1_000, 50), (9, true));
        retention.policy.forced = false;
        let full = Space { total_bytes: 100, free_bytes: 1 };
        let round = retention.round(0, 1, &Usage { log: full, queues: full }, 1, &[Some(0); 9]);
        assert_eq!((round.delete, round.is_full), (0, true));
    }

    #[test]
    fn asking_by_hand_lasts_some_rounds() {
        let mut retention = Retention::new(Policy::default());
        retention.ask();
        let mut rounds = 0;
        while retention.round(1_000 * HOUR, 1, &usage(1, 1), 1, &[Some(0)]).delete > 0 {
            rounds += 1;
        }
        assert_eq!(rounds, MANUAL_ROUNDS);
    }

    #[test]
    fn the_words_are_javas() {
        assert_eq!(
            usage(91, 5).to_string(),
            "service not available now. It may be caused by one of the following reasons: the broker's disk is full [CL:  0.91 \
             CQ:  0.05 INDEX:  0.05], messages are put to the slave, message store has been shut down, etc."
        );
    }
}

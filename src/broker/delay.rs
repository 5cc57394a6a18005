//! Delayed messages: brings what waits in the schedule topic to its real topic when its time has come. Bookkeeping and a
//! thin task; how a message comes to wait is `reroute`'s.
//!
//! The queue of a level is in order of time, so its first undelivered message says when there is something to do. The
//! progress of each level (`config/delayOffset.json`, RocketMQ's form) is written after what was delivered is durable:
//! after a crash some messages may come twice, none is skipped.
//! (Source: ScheduleMessageService of Apache RocketMQ 4.9.7.)

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

use super::topics::{HALF_TOPIC, SCHEDULE_TOPIC};
use crate::{
    env::{Clock, Storage},
    model::{
        LogOffset, Message, QueueOffset,
        properties::{Properties, name},
        watermark::Failed,
    },
    protocol::body::{Body, DelayOffsetTable},
    store::{
        AppendError, Arrival, MessageStore,
        config_file::{self, ConfigFile, ConfigWriter, Unreadable},
        consume_queue::Unit,
        record::{self, Scan},
        stop::Stopping,
    },
};

/// Messages of one level that are delivered before the other levels have their turn.
const TURN_MAX: u64 = 256;
/// Pause after a delivery that failed.
const RETRY: Duration = Duration::from_secs(1);
/// Arrivals within so short a time are noted as one.
const NOTED_MS: u64 = 100;
/// What the wall clock may lag behind the monotonic one while nobody sets it back, beside a sixteenth of the time.
const LAG_MS: i64 = 1_000;

pub struct Delay {
    clock: Arc<dyn Clock>,
    levels: Vec<Level>,
    table: Arc<Table>,
    file: ConfigFile,
    woken: Notify,
}

struct Level {
    delay_ms: i64,
    /// The first message that was not delivered. Every message before it is in the log again, not yet durably so.
    next: AtomicU64,
    /// Nothing waits: the next arrival must wake the task.
    is_idle: AtomicBool,
    seen: Mutex<Seen>,
}

/// When messages of a level came, by the monotonic clock: what the wall clock says of it is worth nothing once it is
/// set back.
struct Seen {
    /// Whatever stands before the first of these came before the start.
    start_ms: u64,
    /// Offset of a message and when it came; those up to the next one came within `NOTED_MS` of it.
    arrivals: VecDeque<(u64, u64)>,
}

impl Seen {
    fn note(&mut self, offset: u64, now_ms: u64, delay_ms: i64) {
        if self.arrivals.back().is_some_and(|(_, at_ms)| now_ms < at_ms + NOTED_MS) {
            return;
        }
        // Of those that have waited long enough the last one speaks for all.
        let has_waited = |at_ms: u64| now_ms.saturating_sub(at_ms) as i64 > late_after_ms(delay_ms);
        while self.arrivals.get(1).is_some_and(|(_, at_ms)| has_waited(*at_ms)) {
            self.arrivals.pop_front();
        }
        self.arrivals.push_back((offset, now_ms));
    }

    fn at_ms(&self, offset: u64) -> u64 {
        let after = self.arrivals.partition_point(|(first, _)| *first <= offset);
        after.checked_sub(1).map_or(self.start_ms, |index| self.arrivals[index].1)
    }
}

#[derive(Default)]
struct Table {
    /// What the next file says: taken before the log's flush, written after it. By level, from 1.
    snapshot: Mutex<BTreeMap<i32, i64>>,
}

#[derive(Debug, thiserror::Error)]
enum DeliverError {
    #[error("the schedule topic cannot be read: {0}")]
    Read(#[from] io::Error),
    #[error(transparent)]
    Append(#[from] AppendError),
}

impl Delay {
    /// Reads the file; `queue_max` tells where a level's queue ends, for progress beyond it cannot be right.
    pub fn load(
        storage: &dyn Storage,
        clock: &Arc<dyn Clock>,
        writer: &ConfigWriter,
        path: &Path,
        delays_ms: &[i64],
        queue_max: impl Fn(u32) -> u64,
    ) -> Result<Arc<Self>, Unreadable> {
        let loaded = config_file::load(storage, path, |text| DelayOffsetTable::decode_file(text.as_bytes()))?;
        let offsets = loaded.unwrap_or_default().offset_table;
        let start_ms = monotonic_ms(&**clock);
        let levels = delays_ms.iter().enumerate().map(|(index, delay_ms)| {
            let known = offsets.get(&(index as i32 + 1)).map_or(0, |offset| (*offset).max(0) as u64);
            Level {
                delay_ms: *delay_ms,
                next: AtomicU64::new(known.min(queue_max(index as u32))),
                is_idle: AtomicBool::new(false),
                seen: Mutex::new(Seen { start_ms, arrivals: VecDeque::new() }),
            }
        });
        let levels: Vec<_> = levels.collect();
        let table = Arc::new(Table { snapshot: Mutex::new(offsets) });
        let rendered = table.clone();
        let file = writer.table(path, move || {
            let offset_table = rendered.snapshot.lock().expect("nothing panics while it is held").clone();
            let table = DelayOffsetTable { data_version: None, offset_table };
            String::from_utf8(table.encode_file()).expect("JSON is UTF-8")
        });
        Ok(Arc::new(Delay { clock: clock.clone(), levels, table, file, woken: Notify::new() }))
    }

    /// How many levels there are.
    pub fn levels(&self) -> usize {
        self.levels.len()
    }

    /// By level, from 1, the first message that was not delivered; levels that were never used are left out.
    pub fn offsets(&self) -> BTreeMap<i32, i64> {
        let next = |level: &Level| level.next.load(Ordering::SeqCst) as i64;
        let used = self.levels.iter().enumerate().filter(|(_, level)| next(level) > 0);
        let ahead = i64::from(plant!(DelayOffsetAhead));
        used.map(|(index, level)| (index as i32 + 1, next(level) + ahead)).collect()
    }

    /// A message arrived somewhere.
    pub fn arrived(&self, arrival: &Arrival<'_>) {
        if arrival.topic == SCHEDULE_TOPIC
            && let Some(level) = self.levels.get(arrival.queue_id as usize)
        {
            lock(&level.seen).note(arrival.queue_offset.0, monotonic_ms(&*self.clock), level.delay_ms);
            if level.is_idle.swap(false, Ordering::SeqCst) {
                self.woken.notify_one();
            }
        }
    }

    /// Takes the progress of this moment for the next file; says whether the last one said anything else. What was
    /// delivered up to now must be durable before `persist`.
    pub fn take_snapshot(&self) -> bool {
        let mut snapshot = self.table.snapshot.lock().expect("nothing panics while it is held");
        let mut changed = false;
        for (level, offset) in self.offsets() {
            changed |= snapshot.insert(level, offset) != Some(offset);
        }
        changed
    }

    pub async fn persist(&self) -> Result<(), Failed> {
        self.file.written(self.file.persist()).await
    }

    /// The task: delivers what is due, then sleeps until the next message is, or until something comes to wait.
    /// `look_ms_max` bounds the sleep while something waits, for the wall clock may jump.
    pub async fn run(self: Arc<Self>, store: Arc<MessageStore>, look_ms_max: u64, mut stopping: Stopping) {
        let mut is_failing = false;
        loop {
            let (wait_ms, outcome) = tokio::select! {
                biased;
                round = self.round(&store) => round,
                () = stopping.stopped() => return,
            };
            let mut wait = wait_ms.map(|wait_ms| Duration::from_millis((wait_ms.max(0) as u64).min(look_ms_max)));
            match outcome {
                Ok(()) => is_failing = false,
                Err(error) => {
                    if !is_failing {
                        tracing::error!("delayed messages are not delivered: {error}; tried again every second");
                    }
                    is_failing = true;
                    wait = Some(wait.map_or(RETRY, |wait| wait.min(RETRY)));
                }
            }
            let sleep = async {
                match wait {
                    Some(Duration::ZERO) => tokio::task::yield_now().await,
                    Some(wait) => self.clock.sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stopping.stopped() => return,
                () = self.woken.notified() => {}
                () = sleep => {}
            }
        }
    }

    /// Gives each level its turn and waits once for all that was delivered. Returns the milliseconds until the next
    /// message is due, `None` if none waits, and the first thing that went wrong: a level that cannot be read is not in
    /// the way of the others.
    async fn round(&self, store: &MessageStore) -> (Option<i64>, Result<(), DeliverError>) {
        let (mut end, mut wait, mut outcome) = (LogOffset(0), None::<i64>, Ok(()));
        for (index, level) in self.levels.iter().enumerate() {
            match turn(store, &*self.clock, index as u32, level, &mut end).await {
                Ok(Some(due_in)) => wait = Some(wait.map_or(due_in, |wait| wait.min(due_in))),
                Ok(None) => {}
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        if end.0 > 0
            && let Err(error) = store.kept(end).await
        {
            outcome = outcome.and(Err(error.into()));
        }
        (wait, outcome)
    }
}

/// Delivers what is due of one level. Returns the milliseconds until there is more to do, `None` if nothing waits.
async fn turn(
    store: &MessageStore,
    clock: &dyn Clock,
    queue_id: u32,
    level: &Level,
    end: &mut LogOffset,
) -> Result<Option<i64>, DeliverError> {
    // Before the look: whatever arrives after it wakes the task.
    level.is_idle.store(true, Ordering::SeqCst);
    let Some(queue) = store.queues().find(SCHEDULE_TOPIC, queue_id) else { return Ok(None) };
    let (mut at, min) = (level.next.load(Ordering::SeqCst), queue.min().0);
    if at < min {
        tracing::warn!("{} delayed messages of level {} were removed undelivered", min - at, queue_id + 1);
        at = min;
        level.next.store(at, Ordering::SeqCst);
    }
    let units = queue.units(QueueOffset(at), TURN_MAX)?;
    if units.is_empty() {
        return Ok(None);
    }
    level.is_idle.store(false, Ordering::SeqCst);
    for unit in units {
        let early_ms = if plant!(DelayedTooEarly) { level.delay_ms / 2 } else { 0 };
        let waited_ms = monotonic_ms(clock).saturating_sub(lock(&level.seen).at_ms(at)) as i64;
        let wait_ms = wait_ms(unit.tags_code - early_ms, level.delay_ms, clock.wall_ms(), waited_ms);
        if wait_ms > 0 {
            let late_ms = if plant!(DelayedTooLate) { 3_000 } else { 0 };
            return Ok(Some(wait_ms + late_ms));
        }
        deliver(store, unit, end).await?;
        at += 1;
        level.next.store(at, Ordering::SeqCst);
    }
    Ok(Some(0))
}

/// Milliseconds until a message is due that has waited for `waited_ms`: until the wall clock says so or, if that was set
/// back or the levels are others now, until it has waited for more than its delay. RocketMQ delivers at once then.
fn wait_ms(deliver_at_ms: i64, delay_ms: i64, now_ms: i64, waited_ms: i64) -> i64 {
    (deliver_at_ms.saturating_sub(now_ms)).min(late_after_ms(delay_ms) - waited_ms).max(0)
}

/// A message that has waited for longer was not brought in time by the wall clock.
fn late_after_ms(delay_ms: i64) -> i64 {
    delay_ms.saturating_add(delay_ms / 16 + LAG_MS)
}

fn monotonic_ms(clock: &dyn Clock) -> u64 {
    clock.monotonic().as_millis() as u64
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().expect("nothing panics while it is held")
}

/// Puts one message where it belongs. What can never be delivered is said and left where it is.
async fn deliver(store: &MessageStore, unit: Unit, end: &mut LogOffset) -> Result<(), DeliverError> {
    if unit.offset < store.log_begin() {
        return Ok(());
    }
    let bytes = store.segments().bytes(unit.offset..unit.end(), false)?;
    let record = match record::scan(&bytes, false) {
        Scan::Record(record) if record.log_offset == unit.offset => record,
        _ => {
            tracing::error!("the delayed message at log offset {} is damaged; it is not delivered", unit.offset);
            return Ok(());
        }
    };
    let properties = Properties::parse(record.message.properties);
    let Some((topic, queue_id)) = real_place(&properties) else {
        tracing::error!("the delayed message at log offset {} does not say whereto; it is not delivered", unit.offset);
        return Ok(());
    };
    if topic == HALF_TOPIC {
        tracing::error!("the half message at log offset {} has a delay; as in RocketMQ it is dropped", unit.offset);
        return Ok(());
    }
    let text = properties.render();
    let message = Message { topic, queue_id, prepared_offset: 0, properties: text.as_bytes(), ..record.message };
    match store.put_again_waiting(&message).await {
        Ok(appended) => *end = appended.end,
        Err(error) if error.is_of_message() => {
            tracing::error!("the delayed message at log offset {} is not delivered: {error}", unit.offset);
        }
        // There is no room or no disk: it waits, and so do those behind it.
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Where a message that waits is to go.
fn real_place<'p>(properties: &'p Properties<'_>) -> Option<(&'p str, u32)> {
    let topic = properties.get(name::REAL_TOPIC)?;
    let queue_id: i32 = properties.get(name::REAL_QUEUE_ID)?.parse().ok()?;
    Some((topic, u32::try_from(queue_id).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_due_at_its_time_though_the_clock_goes_back() {
        let check = |deliver_at, delay, now, waited, expect| {
            assert_eq!(wait_ms(deliver_at, delay, now, waited), expect, "{deliver_at} {delay} {now} {waited}");
        };
        check(5_000, 5_000, 0, 0, 5_000);
        check(5_000, 5_000, 4_999, 4_999, 1);
        check(5_000, 5_000, 5_000, 5_000, 0);
        check(5_000, 5_000, 60_000, 60_000, 0);
        // The wall clock went back by a millisecond, by an hour: it is not due at once, as in RocketMQ.
        check(5_000, 5_000, -1, 0, 5_001);
        check(5_000, 5_000, -3_600_000, 0, 6_312);
        check(5_000, 5_000, -3_595_000, 5_000, 1_312);
        check(5_000, 5_000, -3_590_000, 10_000, 0);
        check(i64::MAX, 5_000, i64::MAX - 1, 0, 1);
    }

    #[test]
    fn when_messages_came() {
        let mut seen = Seen { start_ms: 7, arrivals: VecDeque::new() };
        for (offset, now_ms) in [(10, 1_000), (11, 1_050), (12, 1_100), (40, 9_000)] {
            seen.note(offset, now_ms, 1_000);
        }
        let at = [9, 10, 11, 12, 39, 40, 99].map(|offset| seen.at_ms(offset));
        // The first has waited long enough: it is as good as older ones.
        assert_eq!(at, [7, 7, 7, 1_100, 1_100, 9_000, 9_000]);
        for number in 0..100_000 {
            seen.note(100 + number, 10_000 + number * 10, 1_000);
        }
        assert!(seen.arrivals.len() < 30, "{}", seen.arrivals.len());
    }

    #[test]
    fn where_messages_go() {
        let check = |text: &str, expect: Option<(&str, u32)>| {
            let text = text.replace('=', "\u{1}").replace(';', "\u{2}");
            assert_eq!(real_place(&Properties::parse(text.as_bytes())), expect, "{text:?}");
        };
        check("REAL_TOPIC=t;REAL_QID=3", Some(("t", 3)));
        check("REAL_TOPIC=t", None);
        check("REAL_QID=3", None);
        check("REAL_TOPIC=t;REAL_QID=-1", None);
        check("REAL_TOPIC=t;REAL_QID=x", None);
    }
}

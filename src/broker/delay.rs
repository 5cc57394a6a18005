//! Delayed messages: brings what waits in the schedule topic to its real topic when its time has come. Bookkeeping and a
//! thin task; how a message comes to wait is `reroute`'s.
//!
//! The queue of a level is in order of time, so its first undelivered message says when there is something to do. The
//! progress of each level (`config/delayOffset.json`, RocketMQ's form) is written after what was delivered is durable:
//! after a crash some messages may come twice, none is skipped.
//! (Source: ScheduleMessageService of Apache RocketMQ 4.9.7.)

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

use super::topics::{HALF_TOPIC, SCHEDULE_TOPIC};
use crate::{
    env::{Clock, Storage},
    model::{
        Message, QueueOffset,
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

pub struct Delay {
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
    #[error(transparent)]
    Failed(#[from] Failed),
}

impl Delay {
    /// Reads the file; `queue_max` tells where a level's queue ends, for progress beyond it cannot be right.
    pub fn load(
        storage: &dyn Storage,
        writer: &ConfigWriter,
        path: &Path,
        delays_ms: &[i64],
        queue_max: impl Fn(u32) -> u64,
    ) -> Result<Arc<Self>, Unreadable> {
        let loaded = config_file::load(storage, path, |text| DelayOffsetTable::decode_file(text.as_bytes()))?;
        let offsets = loaded.unwrap_or_default().offset_table;
        let levels = delays_ms.iter().enumerate().map(|(index, delay_ms)| {
            let known = offsets.get(&(index as i32 + 1)).map_or(0, |offset| (*offset).max(0) as u64);
            Level {
                delay_ms: *delay_ms,
                next: AtomicU64::new(known.min(queue_max(index as u32))),
                is_idle: AtomicBool::new(false),
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
        Ok(Arc::new(Delay { levels, table, file, woken: Notify::new() }))
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
            && level.is_idle.swap(false, Ordering::SeqCst)
        {
            self.woken.notify_one();
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
    pub async fn run(
        self: Arc<Self>,
        store: Arc<MessageStore>,
        clock: Arc<dyn Clock>,
        look_ms_max: u64,
        mut stopping: Stopping,
    ) {
        let mut is_failing = false;
        loop {
            let outcome = tokio::select! {
                biased;
                outcome = self.round(&store, &*clock) => outcome,
                () = stopping.stopped() => return,
            };
            let wait = match outcome {
                Ok(wait) => {
                    is_failing = false;
                    wait.map(|wait_ms| Duration::from_millis((wait_ms.max(0) as u64).min(look_ms_max)))
                }
                Err(error) => {
                    if !is_failing {
                        tracing::error!("delayed messages are not delivered: {error}; tried again every second");
                    }
                    is_failing = true;
                    Some(RETRY)
                }
            };
            let sleep = async {
                match wait {
                    Some(Duration::ZERO) => tokio::task::yield_now().await,
                    Some(wait) => clock.sleep(wait).await,
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
    /// message is due; `None` if none waits.
    async fn round(&self, store: &MessageStore, clock: &dyn Clock) -> Result<Option<i64>, DeliverError> {
        let (mut end, mut wait, mut outcome) = (0, None::<i64>, Ok(()));
        for (index, level) in self.levels.iter().enumerate() {
            match turn(store, clock, index as u32, level, &mut end).await {
                Ok(Some(due_in)) => wait = Some(wait.map_or(due_in, |wait| wait.min(due_in))),
                Ok(None) => {}
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        if end > 0 {
            store.turn_end();
            store.promise().reached(end).await?;
        }
        outcome.map(|()| wait)
    }
}

/// Delivers what is due of one level. Returns the milliseconds until there is more to do, `None` if nothing waits.
async fn turn(
    store: &MessageStore,
    clock: &dyn Clock,
    queue_id: u32,
    level: &Level,
    end: &mut u64,
) -> Result<Option<i64>, DeliverError> {
    // Before the look: whatever arrives after it wakes the task.
    level.is_idle.store(true, Ordering::SeqCst);
    let Some(queue) = store.queues().find(SCHEDULE_TOPIC, queue_id) else { return Ok(None) };
    let (mut at, min) = (level.next.load(Ordering::SeqCst), queue.min().0);
    if at < min {
        tracing::warn!("{} delayed messages of level {} were removed undelivered", min - at, queue_id + 1);
        at = min;
    }
    let units = queue.units(QueueOffset(at), TURN_MAX)?;
    if units.is_empty() {
        return Ok(None);
    }
    level.is_idle.store(false, Ordering::SeqCst);
    for unit in units {
        let early_ms = if plant!(DelayedTooEarly) { level.delay_ms / 2 } else { 0 };
        let wait_ms = wait_ms(unit.tags_code - early_ms, level.delay_ms, clock.wall_ms());
        if wait_ms > 0 {
            return Ok(Some(wait_ms));
        }
        deliver(store, unit, end).await?;
        at += 1;
        level.next.store(at, Ordering::SeqCst);
    }
    Ok(Some(0))
}

/// Milliseconds until a message is due. One that would be due later than its delay from now on was stored under another
/// clock or other levels: it is due now.
fn wait_ms(deliver_at_ms: i64, delay_ms: i64, now_ms: i64) -> i64 {
    if deliver_at_ms > now_ms.saturating_add(delay_ms) { 0 } else { (deliver_at_ms - now_ms).max(0) }
}

/// Puts one message where it belongs. What can never be delivered is said and left where it is.
async fn deliver(store: &MessageStore, unit: Unit, end: &mut u64) -> Result<(), DeliverError> {
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
    let outcome = match store.put(&message) {
        // Waits for room.
        Err(AppendError::SegmentFull | AppendError::PoolExhausted) => store.put_kept(&message).await,
        outcome => outcome,
    };
    match outcome {
        Ok(appended) => *end = appended.end.0,
        Err(
            error @ (AppendError::BodyTooLarge { .. }
            | AppendError::PropertiesTooLarge { .. }
            | AppendError::TopicLength { .. }
            | AppendError::PropertiesNotText
            | AppendError::RecordTooLarge { .. }),
        ) => tracing::error!("the delayed message at log offset {} is not delivered: {error}", unit.offset),
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
    fn a_message_is_due_at_its_time_or_when_the_clock_went_back() {
        let check = |deliver_at, delay, now, expect| {
            assert_eq!(wait_ms(deliver_at, delay, now), expect, "{deliver_at} {delay} {now}");
        };
        check(5_000, 5_000, 0, 5_000);
        check(5_000, 5_000, 4_999, 1);
        check(5_000, 5_000, 5_000, 0);
        check(5_000, 5_000, 60_000, 0);
        // The wall clock went back by a millisecond, by an hour.
        check(5_000, 5_000, -1, 0);
        check(5_000, 5_000, -3_600_000, 0);
        check(i64::MAX, 5_000, i64::MAX - 1, 1);
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

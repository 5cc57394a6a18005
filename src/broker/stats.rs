//! Figures for operators: what went in and out, in all, by topic and by group, over the last minute, hour and day. Counters
//! are relaxed atomics on the hot paths; one task looks at them every ten seconds and keeps samples. Knows no request.
//! (Source of names and windows: StoreStatsService, BrokerStatsManager and StatsItem of Apache RocketMQ 4.9.7.)

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, RwLock,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use super::core::Core;
use crate::{
    env::Clock,
    model::rate_limited::RateLimited,
    protocol::body::{BrokerStatsData, BrokerStatsItem},
    store::{Arrival, stop::Stopping},
};

const TICK: Duration = Duration::from_secs(10);
/// Samples of a minute, an hour and a day, and the ticks between two of them.
const MINUTE: (usize, u64) = (7, 1);
const HOUR: (usize, u64) = (7, 60);
const DAY: (usize, u64) = (25, 360);
/// Samples of the rates over ten seconds, a minute and ten minutes.
const RATE_SAMPLES_MAX: usize = 61;
const DAY_MS: i64 = 86_400_000;

/// Upper bounds in milliseconds of the classes of putMessageDistributeTime; one more class is above all of them.
const CLASSES_MS: [i64; 12] = [0, 10, 50, 100, 200, 500, 1_000, 2_000, 3_000, 4_000, 5_000, 10_000];
const CLASS_NAMES: [&str; 13] = [
    "<=0ms",
    "0~10ms",
    "10~50ms",
    "50~100ms",
    "100~200ms",
    "200~500ms",
    "500ms~1s",
    "1~2s",
    "2~3s",
    "3~4s",
    "4~5s",
    "5~10s",
    "10s~",
];

pub struct Stats {
    clock: Arc<dyn Clock>,
    keys_max: usize,
    keys_full: RateLimited,
    put: Flow,
    put_failed: AtomicU64,
    put_ms_max: AtomicI64,
    /// Since the last whole minute, and the minute before it (which is what is shown).
    put_classes: [AtomicU64; CLASSES_MS.len() + 1],
    shown_classes: Mutex<[u64; CLASSES_MS.len() + 1]>,
    got: Flow,
    found: AtomicU64,
    missed: AtomicU64,
    get_ms_max: AtomicI64,
    rates: Mutex<VecDeque<Sample>>,
    days: Mutex<Days>,
    topics: RwLock<BTreeMap<String, Arc<Flow>>>,
    groups: RwLock<BTreeMap<String, BTreeMap<String, Arc<Flow>>>>,
    last_topic: Mutex<Option<(String, Arc<Flow>)>>,
}

/// Messages and their bytes.
#[derive(Default)]
struct Flow {
    messages: Meter,
    bytes: Meter,
}

/// A sum that only grows, and what it was.
#[derive(Default)]
struct Meter {
    value: AtomicU64,
    times: AtomicU64,
    past: Mutex<Past>,
}

#[derive(Default)]
struct Past {
    minute: VecDeque<Reading>,
    hour: VecDeque<Reading>,
    day: VecDeque<Reading>,
}

#[derive(Clone, Copy, Default)]
struct Reading {
    at: Duration,
    value: u64,
    times: u64,
}

#[derive(Clone, Copy)]
struct Sample {
    at: Duration,
    put: u64,
    found: u64,
    missed: u64,
    transferred: u64,
}

/// What was counted at the last two local midnights.
#[derive(Default)]
struct Days {
    day: i64,
    put: [u64; 2],
    got: [u64; 2],
}

/// Rates a second over ten seconds, a minute and ten minutes.
pub struct Rates {
    pub put: [f64; 3],
    pub found: [f64; 3],
    pub missed: [f64; 3],
    pub total: [f64; 3],
    pub transferred: [f64; 3],
}

/// Sums since the start.
pub struct Totals {
    pub put: u64,
    pub put_bytes: u64,
    pub put_failed: u64,
    pub put_ms_max: i64,
    pub get_ms_max: i64,
    pub got: u64,
    /// Counted at the midnight before the last one, and at the last one.
    pub put_mornings: [u64; 2],
    pub got_mornings: [u64; 2],
    pub put_classes: String,
    /// Milliseconds within which 99 and 99.9 of 100 puts were done, by the classes of the last minute.
    pub put_p99_ms: f64,
    pub put_p999_ms: f64,
}

impl Stats {
    pub fn new(clock: Arc<dyn Clock>, keys_max: usize) -> Self {
        let stats = Stats {
            keys_max,
            keys_full: RateLimited::new(1, Duration::from_secs(3_600)),
            put: Flow::default(),
            put_failed: AtomicU64::new(0),
            put_ms_max: AtomicI64::new(0),
            put_classes: Default::default(),
            shown_classes: Mutex::default(),
            got: Flow::default(),
            found: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            get_ms_max: AtomicI64::new(0),
            rates: Mutex::default(),
            days: Mutex::new(Days { day: local_ms(&*clock).div_euclid(DAY_MS), ..Days::default() }),
            topics: RwLock::default(),
            groups: RwLock::default(),
            last_topic: Mutex::default(),
            clock,
        };
        stats.put.begin(stats.clock.monotonic());
        stats.got.begin(stats.clock.monotonic());
        stats.sample();
        stats
    }

    /// A message can be read: under SYNC_FLUSH it survives a power cut. Called by one thread.
    pub fn arrived(&self, arrival: &Arrival<'_>) {
        self.put.add(1, arrival.size.into());
        let took_ms = (self.clock.wall_ms() - arrival.store_timestamp).max(0);
        self.put_ms_max.fetch_max(took_ms, Relaxed);
        let class = CLASSES_MS.iter().position(|bound| took_ms <= *bound).unwrap_or(CLASSES_MS.len());
        self.put_classes[class].fetch_add(1, Relaxed);
        // Messages of one topic follow each other.
        let mut last = self.last_topic.lock().expect("nothing panics while it is held");
        match &*last {
            Some((topic, flow)) if topic == arrival.topic => flow.add(1, arrival.size.into()),
            _ => {
                if let Some(flow) = self.of_topic(arrival.topic) {
                    flow.add(1, arrival.size.into());
                    *last = Some((arrival.topic.to_owned(), flow));
                }
            }
        }
    }

    /// A send was refused by the store.
    pub fn put_failed(&self) {
        self.put_failed.fetch_add(1, Relaxed);
    }

    /// A pull found so much; it took the store so long.
    pub fn got(&self, topic: &str, group: &str, messages: u32, bytes: u64, took: Duration) {
        self.get_ms_max.fetch_max(took.as_millis() as i64, Relaxed);
        if messages == 0 {
            self.missed.fetch_add(1, Relaxed);
            return;
        }
        self.found.fetch_add(1, Relaxed);
        self.got.add(messages.into(), bytes);
        if let Some(flow) = self.of_group(topic, group) {
            flow.add(messages.into(), bytes);
        }
    }

    pub fn remove_topic(&self, topic: &str) {
        *self.last_topic.lock().expect("nothing panics while it is held") = None;
        self.topics.write().expect("nothing panics while it is held").remove(topic);
        self.groups.write().expect("nothing panics while it is held").remove(topic);
    }

    pub fn remove_group(&self, group: &str) {
        let mut topics = self.groups.write().expect("nothing panics while it is held");
        for groups in topics.values_mut() {
            groups.remove(group);
        }
        topics.retain(|_, groups| !groups.is_empty());
    }

    /// Messages a second that the group took of the topic during the last minute.
    pub fn consume_tps(&self, topic: &str, group: &str) -> f64 {
        let groups = self.groups.read().expect("nothing panics while it is held");
        let flow = groups.get(topic).and_then(|groups| groups.get(group));
        flow.map_or(0.0, |flow| flow.messages.data(self.clock.monotonic()).stats_minute.tps)
    }

    /// Messages a second that came into the topic during the last minute.
    pub fn put_tps(&self, topic: &str) -> f64 {
        let topics = self.topics.read().expect("nothing panics while it is held");
        topics.get(topic).map_or(0.0, |flow| flow.messages.data(self.clock.monotonic()).stats_minute.tps)
    }

    /// Code 315: a named figure of a key (a topic, `topic@group`, or the cluster).
    pub fn view(&self, name: &str, key: &str, cluster: &str) -> Option<BrokerStatsData> {
        let now = self.clock.monotonic();
        let topic = || self.topics.read().expect("nothing panics while it is held").get(key).cloned();
        let group = || {
            let (topic, group) = key.split_once('@')?;
            self.groups.read().expect("nothing panics while it is held").get(topic)?.get(group).cloned()
        };
        match name {
            "TOPIC_PUT_NUMS" => Some(topic()?.messages.data(now)),
            "TOPIC_PUT_SIZE" => Some(topic()?.bytes.data(now)),
            "GROUP_GET_NUMS" => Some(group()?.messages.data(now)),
            "GROUP_GET_SIZE" => Some(group()?.bytes.data(now)),
            "BROKER_PUT_NUMS" if key == cluster => Some(self.put.messages.data(now)),
            "BROKER_GET_NUMS" if key == cluster => Some(self.got.messages.data(now)),
            _ => None,
        }
    }

    pub fn rates(&self) -> Rates {
        let now = self.reading();
        let samples = self.rates.lock().expect("nothing panics while it is held");
        let over = |value: fn(&Sample) -> u64| {
            [10, 60, 600].map(|seconds| {
                let wanted = now.at.saturating_sub(Duration::from_secs(seconds));
                // The newest sample that is old enough, else the oldest there is.
                let then = samples.iter().rev().find(|sample| sample.at <= wanted).or_else(|| samples.front());
                then.map_or(0.0, |then| a_second(value(&now) - value(then), now.at - then.at))
            })
        };
        Rates {
            put: over(|sample| sample.put),
            found: over(|sample| sample.found),
            missed: over(|sample| sample.missed),
            total: over(|sample| sample.found + sample.missed),
            transferred: over(|sample| sample.transferred),
        }
    }

    pub fn totals(&self) -> Totals {
        let days = self.days.lock().expect("nothing panics while it is held");
        let classes = *self.shown_classes.lock().expect("nothing panics while it is held");
        let shown = CLASS_NAMES.iter().zip(classes).map(|(name, count)| format!("[{name}]:{count} ")).collect();
        Totals {
            put: self.put.messages.value.load(Relaxed),
            put_bytes: self.put.bytes.value.load(Relaxed),
            put_failed: self.put_failed.load(Relaxed),
            put_ms_max: self.put_ms_max.load(Relaxed),
            get_ms_max: self.get_ms_max.load(Relaxed),
            got: self.got.messages.value.load(Relaxed),
            put_mornings: days.put,
            got_mornings: days.got,
            put_classes: shown,
            put_p99_ms: quantile_ms(&classes, 0.99),
            put_p999_ms: quantile_ms(&classes, 0.999),
        }
    }

    fn of_topic(&self, topic: &str) -> Option<Arc<Flow>> {
        if let Some(flow) = self.topics.read().expect("nothing panics while it is held").get(topic) {
            return Some(flow.clone());
        }
        let mut topics = self.topics.write().expect("nothing panics while it is held");
        if topics.len() >= self.keys_max {
            self.say_full();
            return None;
        }
        let flow = topics.entry(topic.to_owned()).or_insert_with(|| Flow::new(self.clock.monotonic()));
        Some(flow.clone())
    }

    fn of_group(&self, topic: &str, group: &str) -> Option<Arc<Flow>> {
        let known = self.groups.read().expect("nothing panics while it is held");
        if let Some(flow) = known.get(topic).and_then(|groups| groups.get(group)) {
            return Some(flow.clone());
        }
        drop(known);
        let mut topics = self.groups.write().expect("nothing panics while it is held");
        if topics.values().map(BTreeMap::len).sum::<usize>() >= self.keys_max {
            self.say_full();
            return None;
        }
        let groups = topics.entry(topic.to_owned()).or_default();
        let flow = groups.entry(group.to_owned()).or_insert_with(|| Flow::new(self.clock.monotonic()));
        Some(flow.clone())
    }

    fn say_full(&self) {
        if self.keys_full.permit(self.clock.monotonic()).is_some() {
            tracing::warn!(
                "statistics are kept for {} names, which is all that statsKeysMax allows; further ones are counted \
                 in the broker's sums alone",
                self.keys_max
            );
        }
    }

    fn reading(&self) -> Sample {
        Sample {
            at: self.clock.monotonic(),
            put: self.put.messages.value.load(Relaxed),
            found: self.found.load(Relaxed),
            missed: self.missed.load(Relaxed),
            transferred: self.got.messages.value.load(Relaxed),
        }
    }

    fn sample(&self) {
        let mut rates = self.rates.lock().expect("nothing panics while it is held");
        if rates.len() >= RATE_SAMPLES_MAX {
            rates.pop_front();
        }
        rates.push_back(self.reading());
    }

    fn tick(&self, number: u64) {
        self.sample();
        let now = self.clock.monotonic();
        let all = {
            let topics = self.topics.read().expect("nothing panics while it is held");
            let groups = self.groups.read().expect("nothing panics while it is held");
            let all: Vec<Arc<Flow>> =
                topics.values().chain(groups.values().flat_map(BTreeMap::values)).cloned().collect();
            all
        };
        for flow in [&self.put, &self.got].into_iter().chain(all.iter().map(|flow| &**flow)) {
            flow.messages.tick(number, now);
            flow.bytes.tick(number, now);
        }
        if number.is_multiple_of(6) {
            let counted = self.put_classes.each_ref().map(|class| class.swap(0, Relaxed));
            *self.shown_classes.lock().expect("nothing panics while it is held") = counted;
        }
    }

    /// Notes what was counted when the local day ended.
    fn roll_day(&self) {
        let mut days = self.days.lock().expect("nothing panics while it is held");
        let day = local_ms(&*self.clock).div_euclid(DAY_MS);
        if day != days.day {
            days.day = day;
            days.put = [days.put[1], self.put.messages.value.load(Relaxed)];
            days.got = [days.got[1], self.got.messages.value.load(Relaxed)];
        }
    }
}

/// The task: samples every ten seconds, and looks at the calendar at midnight.
pub async fn run(core: Arc<Core>, mut stopping: Stopping) {
    let stats = &core.stats;
    let (mut number, mut next) = (0, stats.clock.monotonic() + TICK);
    loop {
        let now = stats.clock.monotonic();
        let to_midnight = DAY_MS - local_ms(&*stats.clock).rem_euclid(DAY_MS);
        let wait = next.saturating_sub(now).min(Duration::from_millis(to_midnight as u64));
        let sleep = stats.clock.sleep(wait);
        tokio::select! { biased; () = stopping.stopped() => return, () = sleep => {} }
        stats.roll_day();
        if stats.clock.monotonic() >= next {
            number += 1;
            next += TICK;
            stats.tick(number);
        }
    }
}

impl Flow {
    fn new(now: Duration) -> Arc<Self> {
        let flow = Flow::default();
        flow.begin(now);
        Arc::new(flow)
    }

    fn begin(&self, now: Duration) {
        self.messages.begin(now);
        self.bytes.begin(now);
    }

    fn add(&self, messages: u64, bytes: u64) {
        self.messages.add(messages);
        self.bytes.add(bytes);
    }
}

impl Meter {
    fn add(&self, value: u64) {
        self.value.fetch_add(value, Relaxed);
        self.times.fetch_add(1, Relaxed);
    }

    fn reading(&self, at: Duration) -> Reading {
        Reading { at, value: self.value.load(Relaxed), times: self.times.load(Relaxed) }
    }

    fn begin(&self, now: Duration) {
        let (reading, mut past) = (self.reading(now), self.past());
        let Past { minute, hour, day } = &mut *past;
        [minute, hour, day].into_iter().for_each(|readings| readings.push_back(reading));
    }

    fn tick(&self, number: u64, now: Duration) {
        let (reading, mut past) = (self.reading(now), self.past());
        let Past { minute, hour, day } = &mut *past;
        for (readings, (len_max, every)) in [(minute, MINUTE), (hour, HOUR), (day, DAY)] {
            if !number.is_multiple_of(every) {
                continue;
            }
            // Nothing happened within the window: one reading says so.
            if readings.iter().all(|known| known.value == reading.value) {
                readings.clear();
            } else if readings.len() >= len_max {
                readings.pop_front();
            }
            readings.push_back(reading);
        }
    }

    fn data(&self, now: Duration) -> BrokerStatsData {
        let (reading, past) = (self.reading(now), self.past());
        let since = |readings: &VecDeque<Reading>| {
            let Some(first) = readings.front() else { return BrokerStatsItem::default() };
            let (sum, times) = (reading.value - first.value, reading.times - first.times);
            BrokerStatsItem {
                average_per_time: if times == 0 { 0.0 } else { sum as f64 / times as f64 },
                sum: sum as i64,
                tps: a_second(sum, reading.at.saturating_sub(first.at)),
            }
        };
        BrokerStatsData {
            stats_day: since(&past.day),
            stats_hour: since(&past.hour),
            stats_minute: since(&past.minute),
        }
    }

    fn past(&self) -> MutexGuard<'_, Past> {
        self.past.lock().expect("nothing panics while it is held")
    }
}

fn a_second(sum: u64, span: Duration) -> f64 {
    if sum == 0 || span.is_zero() { 0.0 } else { sum as f64 / span.as_secs_f64() }
}

fn local_ms(clock: &dyn Clock) -> i64 {
    let now_ms = clock.wall_ms();
    now_ms + i64::from(clock.utc_offset_s(now_ms)) * 1_000
}

/// The upper bound of the class in which the quantile lies; the last class has none but its lower one.
fn quantile_ms(classes: &[u64], quantile: f64) -> f64 {
    let all: u64 = classes.iter().sum();
    if all == 0 {
        return 0.0;
    }
    let rank = (all as f64 * quantile).ceil() as u64;
    let mut below = 0;
    let class = classes.iter().position(|count| {
        below += count;
        below >= rank
    });
    let last = CLASSES_MS.len() - 1;
    CLASSES_MS[class.unwrap_or(last).min(last)] as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_bounds_of_classes() {
        let check = |counts: &[(usize, u64)], quantile: f64, expect: f64| {
            let mut classes = [0; CLASSES_MS.len() + 1];
            counts.iter().for_each(|(class, count)| classes[*class] = *count);
            assert_eq!(quantile_ms(&classes, quantile), expect, "{counts:?} {quantile}");
        };
        check(&[], 0.99, 0.0);
        check(&[(0, 100)], 0.99, 0.0);
        check(&[(0, 99), (1, 1)], 0.99, 0.0);
        check(&[(0, 98), (1, 2)], 0.99, 10.0);
        check(&[(0, 999), (12, 2)], 0.999, 10_000.0);
    }

    #[test]
    fn windows_forget() {
        let meter = Meter::default();
        let seconds = Duration::from_secs;
        meter.begin(seconds(0));
        let check = |at: u64, minute: i64, hour: i64| {
            let data = meter.data(seconds(at));
            assert_eq!((data.stats_minute.sum, data.stats_hour.sum), (minute, hour), "at {at} s");
        };
        meter.add(5);
        check(1, 5, 5);
        meter.tick(1, seconds(10));
        meter.add(3);
        check(11, 8, 8);
        for number in 2..=7 {
            meter.tick(number, seconds(number * 10));
        }
        check(70, 3, 8);
        for number in 8..=8 {
            meter.tick(number, seconds(number * 10));
        }
        check(80, 0, 8);
        for number in 9..=600 {
            meter.tick(number, seconds(number * 10));
        }
        check(6_000, 0, 0);
        assert_eq!(meter.data(seconds(6_000)).stats_day.sum, 8);
        assert_eq!(meter.past().minute.len(), 1, "an idle meter keeps one reading");
    }
}

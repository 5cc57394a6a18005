//! Figures for operators: what went in and out, in all, by topic and by group, over the last minute, hour and day. Counters
//! are relaxed atomics on the hot paths; one task looks at them every ten seconds and keeps samples. Knows no request.
//! (Source of names and windows: StoreStatsService, BrokerStatsManager and StatsItem of Apache RocketMQ 4.9.7.)

mod by_queue;
mod incoming;
mod meter;
mod taken;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use self::{
    by_queue::Room,
    incoming::Incoming,
    meter::{Flow, Meter, a_second},
    taken::{Got, Pulled, Taken},
};
pub use self::{
    incoming::{CameIn, Kind, SIZES, Sizes},
    taken::Stands,
};
use super::core::Core;
use crate::{
    env::Clock,
    model::{rate_limited::RateLimited, spread::Spread},
    protocol::body::BrokerStatsData,
    store::{Arrival, slow::Slow, stop::Stopping},
};

const TICK: Duration = Duration::from_secs(10);
/// Samples of the rates over ten seconds, a minute and ten minutes.
const RATE_SAMPLES_MAX: usize = 61;
const DAY_MS: i64 = 86_400_000;
/// A put that takes longer is said.
const SLOW_PUT_MS: i64 = 500;

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

/// Upper bounds in milliseconds of the classes of how long it took to make a topic or a group. (Source:
/// BrokerMetricsManager of Apache RocketMQ 5.4.0.)
const MADE_MS: [f64; 5] = [10.0, 100.0, 1_000.0, 3_000.0, 5_000.0];

/// What a tool asked to be made or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Made {
    Topic,
    Group,
}

/// How that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Making {
    pub what: Made,
    pub is_system: bool,
    pub is_done: bool,
}

pub struct Stats {
    clock: Arc<dyn Clock>,
    keys_max: usize,
    keys_full: RateLimited,
    put: Flow,
    put_failed: AtomicU64,
    put_ms_max: AtomicI64,
    slow_put: Slow,
    /// Since the last whole minute, and the minute before it (which is what is shown).
    put_classes: [AtomicU64; CLASSES_MS.len() + 1],
    shown_classes: Mutex<[u64; CLASSES_MS.len() + 1]>,
    got: Flow,
    found: AtomicU64,
    missed: AtomicU64,
    get_ms_max: AtomicI64,
    rates: Mutex<VecDeque<Sample>>,
    days: Mutex<Days>,
    topics: RwLock<BTreeMap<String, Arc<Incoming>>>,
    /// By topic and group.
    groups: RwLock<BTreeMap<String, BTreeMap<String, Arc<Taken>>>>,
    last_topic: Mutex<Option<(String, Arc<Incoming>)>>,
    /// For figures of queues.
    room: Room,
    /// In milliseconds.
    made: Mutex<BTreeMap<Making, Spread>>,
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
    /// Keeps figures of so many topics, so many groups in a topic, and so many queues of each if they are wanted.
    pub fn new(clock: Arc<dyn Clock>, keys_max: usize, by_queue: bool) -> Self {
        let stats = Stats {
            keys_max,
            keys_full: RateLimited::new(1, Duration::from_secs(3_600)),
            put: Flow::default(),
            put_failed: AtomicU64::new(0),
            put_ms_max: AtomicI64::new(0),
            slow_put: Slow::new(
                "a message, from its append to where consumers see it,",
                Duration::from_millis(SLOW_PUT_MS as u64),
                "look for slow syncs, and for a clock that jumped",
            ),
            put_classes: Default::default(),
            shown_classes: Mutex::default(),
            got: Flow::default(),
            found: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            get_ms_max: AtomicI64::new(0),
            rates: Mutex::default(),
            days: Mutex::new(Days { day: clock.local_ms(clock.wall_ms()).div_euclid(DAY_MS), ..Days::default() }),
            topics: RwLock::default(),
            groups: RwLock::default(),
            last_topic: Mutex::default(),
            room: Room::new(if by_queue { keys_max } else { 0 }),
            made: Mutex::default(),
            clock,
        };
        stats.put.begin(stats.clock.monotonic());
        stats.got.begin(stats.clock.monotonic());
        stats.sample();
        stats
    }

    /// A message can be read: under SYNC_FLUSH it survives a power cut. Called by one thread at a time.
    pub fn arrived(&self, arrival: &Arrival<'_>) {
        self.put.add(1, arrival.size.into());
        let took_ms = (self.clock.wall_ms() - arrival.store_timestamp).max(0);
        self.put_ms_max.fetch_max(took_ms, Relaxed);
        if took_ms > SLOW_PUT_MS {
            let now = self.clock.monotonic();
            self.slow_put.took(now.saturating_sub(Duration::from_millis(took_ms as u64)), now);
        }
        let class = CLASSES_MS.iter().position(|bound| took_ms <= *bound).unwrap_or(CLASSES_MS.len());
        self.put_classes[class].fetch_add(1, Relaxed);
        // Messages of one topic follow each other.
        let mut last = self.last_topic.lock().expect("nothing panics while it is held");
        if last.as_ref().is_none_or(|(topic, _)| topic != arrival.topic) {
            let Some(incoming) = self.of_topic(arrival.topic) else { return };
            *last = Some((arrival.topic.to_owned(), incoming));
        }
        if let Some((_, incoming)) = &*last
            && !incoming.add(arrival, &self.room, &*self.clock)
        {
            self.say_full();
        }
    }

    /// A send was refused by the store.
    pub fn put_failed(&self) {
        self.put_failed.fetch_add(1, Relaxed);
    }

    /// A pull of a queue found so much and goes on at `next`; it took the store so long.
    pub fn got(&self, (topic, queue): (&str, u32), group: &str, found: (u32, u64), next: i64, took: Duration) {
        let (messages, bytes) = found;
        self.get_ms_max.fetch_max(took.as_millis() as i64, Relaxed);
        if messages == 0 {
            self.missed.fetch_add(1, Relaxed);
            return;
        }
        self.found.fetch_add(1, Relaxed);
        self.got.add(messages.into(), bytes);
        if let Some(taken) = self.of_group(topic, group) {
            let pulled = Pulled { messages: messages.into(), bytes, queue, next, took };
            if !taken.add(&pulled, &self.room, &*self.clock) {
                self.say_full();
            }
        }
    }

    /// The group sent a message of the topic back.
    pub fn sent_back(&self, topic: &str, group: &str) {
        if let Some(taken) = self.of_group(topic, group) {
            taken.sent_back.add(1);
        }
    }

    /// A half message of the topic was rolled back.
    pub fn rolled_back(&self, topic: &str) {
        if let Some(incoming) = self.of_topic(topic) {
            incoming.roll_back();
        }
    }

    /// A topic or a group was made or changed, or was not, in this time.
    pub fn made(&self, making: Making, took: Duration) {
        let mut made = self.made.lock().expect("nothing panics while it is held");
        made.entry(making).or_insert_with(|| Spread::new(&MADE_MS)).add(took.as_millis() as f64);
    }

    /// How long that took, in milliseconds.
    pub fn all_made(&self) -> Vec<(Making, Spread)> {
        let made = self.made.lock().expect("nothing panics while it is held");
        made.iter().map(|(making, took)| (*making, *took)).collect()
    }

    /// A half message of the topic was committed so long after it was born.
    pub fn committed(&self, topic: &str, after: Duration) {
        if let Some(incoming) = self.of_topic(topic) {
            incoming.commit(after);
        }
    }

    /// What came into each topic.
    pub fn incoming(&self) -> Vec<CameIn> {
        let topics = self.topics.read().expect("nothing panics while it is held");
        topics.iter().map(|(topic, incoming)| incoming.came_in(topic)).collect()
    }

    /// What each group took of each topic: messages and bytes.
    pub fn outgoing(&self) -> Vec<(String, String, u64, u64)> {
        let topics = self.groups.read().expect("nothing panics while it is held");
        let each =
            topics.iter().flat_map(|(topic, groups)| groups.iter().map(move |(group, taken)| (topic, group, taken)));
        each.map(|(topic, group, taken)| {
            let (messages, bytes) = taken.sums();
            (topic.clone(), group.clone(), messages, bytes)
        })
        .collect()
    }

    /// Where the group's pulls stand in the topic.
    pub fn pulled(&self, topic: &str, group: &str) -> Stands {
        let topics = self.groups.read().expect("nothing panics while it is held");
        topics.get(topic).and_then(|groups| groups.get(group)).map(|taken| taken.stands()).unwrap_or_default()
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
        flow.map_or(0.0, |taken| taken.got.flow.messages.data(self.clock.monotonic()).stats_minute.tps)
    }

    /// Messages a second that came into the topic during the last minute.
    pub fn put_tps(&self, topic: &str) -> f64 {
        let topics = self.topics.read().expect("nothing panics while it is held");
        topics.get(topic).map_or(0.0, |topic| topic.flow.messages.data(self.clock.monotonic()).stats_minute.tps)
    }

    /// Code 315: a named figure of a key, which is the cluster's name or made of topic, queue and group. As in RocketMQ
    /// GROUP_GET_FALL_SIZE and _TIME are known to nobody: there they are written to a log only. QUEUE_PUT_ and QUEUE_GET_
    /// are those of every queue; RocketMQ has them of the schedule topic's.
    pub fn view(&self, name: &str, key: &str, cluster: &str) -> Option<BrokerStatsData> {
        let now = self.clock.monotonic();
        let of_topic = |topic: &str| self.topics.read().expect("nothing panics while it is held").get(topic).cloned();
        let of_group = |topic: &str, group: &str| {
            self.groups.read().expect("nothing panics while it is held").get(topic)?.get(group).cloned()
        };
        let parts: Vec<&str> = key.split('@').collect();
        let queue = |text: &str| text.parse::<u32>().ok();
        match (name, &*parts) {
            ("BROKER_PUT_NUMS", _) if key == cluster => Some(self.put.messages.data(now)),
            ("BROKER_GET_NUMS", _) if key == cluster => Some(self.got.messages.data(now)),
            ("TOPIC_PUT_NUMS", [topic]) => of_topic(topic)?.flow.messages.shown(now),
            ("TOPIC_PUT_SIZE", [topic]) => of_topic(topic)?.flow.bytes.shown(now),
            ("QUEUE_PUT_NUMS", [topic, id]) => of_topic(topic)?.queues.get(queue(id)?)?.messages.shown(now),
            ("QUEUE_PUT_SIZE", [topic, id]) => of_topic(topic)?.queues.get(queue(id)?)?.bytes.shown(now),
            ("GROUP_GET_NUMS", [topic, group]) => of_group(topic, group)?.got.flow.messages.shown(now),
            ("GROUP_GET_SIZE", [topic, group]) => of_group(topic, group)?.got.flow.bytes.shown(now),
            // By queue; without enableDetailStat, in RocketMQ, in all.
            ("GROUP_GET_LATENCY", [topic, group]) => of_group(topic, group)?.got.latency.shown(now),
            ("GROUP_GET_LATENCY", [id, topic, group]) => {
                of_group(topic, group)?.queues.get(queue(id)?)?.latency.shown(now)
            }
            ("QUEUE_GET_NUMS", [topic, id, group]) => {
                of_group(topic, group)?.queues.get(queue(id)?)?.flow.messages.shown(now)
            }
            ("QUEUE_GET_SIZE", [topic, id, group]) => {
                of_group(topic, group)?.queues.get(queue(id)?)?.flow.bytes.shown(now)
            }
            ("SNDBCK_PUT_NUMS", [topic, group]) => of_group(topic, group)?.sent_back.shown(now),
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
            put: self.put.messages.value(),
            put_bytes: self.put.bytes.value(),
            put_failed: self.put_failed.load(Relaxed),
            put_ms_max: self.put_ms_max.load(Relaxed),
            get_ms_max: self.get_ms_max.load(Relaxed),
            got: self.got.messages.value(),
            put_mornings: days.put,
            got_mornings: days.got,
            put_classes: shown,
            put_p99_ms: quantile_ms(&classes, 0.99),
            put_p999_ms: quantile_ms(&classes, 0.999),
        }
    }

    fn of_topic(&self, topic: &str) -> Option<Arc<Incoming>> {
        if let Some(flow) = self.topics.read().expect("nothing panics while it is held").get(topic) {
            return Some(flow.clone());
        }
        let mut topics = self.topics.write().expect("nothing panics while it is held");
        if topics.len() >= self.keys_max {
            self.say_full();
            return None;
        }
        let flow = topics.entry(topic.to_owned()).or_insert_with(|| Arc::new(Incoming::new(self.clock.monotonic())));
        Some(flow.clone())
    }

    fn of_group(&self, topic: &str, group: &str) -> Option<Arc<Taken>> {
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
        let flow = groups.entry(group.to_owned()).or_insert_with(|| Arc::new(Taken::new(self.clock.monotonic())));
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
            put: self.put.messages.value(),
            found: self.found.load(Relaxed),
            missed: self.missed.load(Relaxed),
            transferred: self.got.messages.value(),
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
        let topics: Vec<_> = self.topics.read().expect("nothing panics while it is held").values().cloned().collect();
        let groups: Vec<_> = {
            let groups = self.groups.read().expect("nothing panics while it is held");
            groups.values().flat_map(BTreeMap::values).cloned().collect()
        };
        let put: Vec<_> = topics.iter().flat_map(|topic| topic.queues.all()).collect();
        let got: Vec<_> = groups.iter().flat_map(|group| group.queues.all()).collect();
        self.room.recount(put.len() + got.len());
        let tick = |meter: &Meter| meter.tick(number, now);
        let flows = [&self.put, &self.got].into_iter().chain(topics.iter().map(|topic| &topic.flow));
        flows.chain(put.iter().map(|flow| &**flow)).flat_map(Flow::meters).for_each(tick);
        groups.iter().for_each(|group| tick(&group.sent_back));
        let gots = groups.iter().map(|group| &group.got).chain(got.iter().map(|got| &**got));
        gots.flat_map(Got::meters).for_each(tick);
        if number.is_multiple_of(6) {
            let counted = self.put_classes.each_ref().map(|class| class.swap(0, Relaxed));
            *self.shown_classes.lock().expect("nothing panics while it is held") = counted;
        }
    }

    /// Notes what was counted when the local day ended.
    fn roll_day(&self) {
        let mut days = self.days.lock().expect("nothing panics while it is held");
        let day = self.clock.local_ms(self.clock.wall_ms()).div_euclid(DAY_MS);
        if day != days.day {
            days.day = day;
            days.put = [days.put[1], self.put.messages.value()];
            days.got = [days.got[1], self.got.messages.value()];
        }
    }
}

/// The task: samples every ten seconds, and looks at the calendar at midnight.
pub async fn run(core: Arc<Core>, mut stopping: Stopping) {
    let stats = &core.stats;
    let (mut number, mut next) = (0, stats.clock.monotonic() + TICK);
    loop {
        let now = stats.clock.monotonic();
        let to_midnight = DAY_MS - stats.clock.local_ms(stats.clock.wall_ms()).rem_euclid(DAY_MS);
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
    use crate::env::BoxFuture;

    /// The wall clock's milliseconds, two hours east of Greenwich.
    struct East(AtomicI64);

    impl Clock for East {
        fn wall_ms(&self) -> i64 {
            self.0.load(Relaxed)
        }

        fn monotonic(&self) -> Duration {
            Duration::ZERO
        }

        fn sleep(&self, _duration: Duration) -> BoxFuture<'static, ()> {
            Box::pin(std::future::pending())
        }

        fn utc_offset_s(&self, _wall_ms: i64) -> i32 {
            7_200
        }
    }

    #[test]
    fn mornings_are_counted_at_local_midnight() {
        const HOUR_MS: i64 = 3_600_000;
        let clock = Arc::new(East(AtomicI64::new(20_000 * DAY_MS + 21 * HOUR_MS)));
        let stats = Stats::new(clock.clone(), 8, true);
        let check = |taken: u32, pass_ms: i64, expect: [u64; 2]| {
            stats.got(("t", 0), "g", (taken, 10), 1, Duration::ZERO);
            clock.0.fetch_add(pass_ms, Relaxed);
            stats.roll_day();
            assert_eq!(stats.totals().got_mornings, expect);
        };
        check(3, HOUR_MS - 1, [0, 0]);
        check(2, 1, [0, 5]);
        check(1, 23 * HOUR_MS, [0, 5]);
        check(1, HOUR_MS, [5, 7]);
        check(1, 12 * HOUR_MS, [5, 7]);
    }

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
}

//! A sum that only grows and what it was a minute, an hour and a day ago. (Source: StatsItem of Apache RocketMQ 4.9.7.)

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::protocol::body::{BrokerStatsData, BrokerStatsItem};

/// Samples of a minute, an hour and a day, and the ticks between two of them.
const MINUTE: (usize, u64) = (7, 1);
const HOUR: (usize, u64) = (7, 60);
const DAY: (usize, u64) = (25, 360);

/// Messages and their bytes.
#[derive(Default)]
pub(super) struct Flow {
    pub(super) messages: Meter,
    pub(super) bytes: Meter,
}

/// A sum that only grows, and what it was.
#[derive(Default)]
pub(super) struct Meter {
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

impl Flow {
    pub(super) fn new(now: Duration) -> Self {
        let flow = Flow::default();
        flow.begin(now);
        flow
    }

    pub(super) fn begin(&self, now: Duration) {
        self.messages.begin(now);
        self.bytes.begin(now);
    }

    pub(super) fn meters(&self) -> [&Meter; 2] {
        [&self.messages, &self.bytes]
    }

    pub(super) fn add(&self, messages: u64, bytes: u64) {
        self.messages.add(messages);
        self.bytes.add(bytes);
    }
}

impl Meter {
    pub(super) fn add(&self, value: u64) {
        self.value.fetch_add(value, Relaxed);
        self.times.fetch_add(1, Relaxed);
    }

    pub(super) fn value(&self) -> u64 {
        self.value.load(Relaxed)
    }

    fn reading(&self, at: Duration) -> Reading {
        Reading { at, value: self.value.load(Relaxed), times: self.times.load(Relaxed) }
    }

    pub(super) fn begin(&self, now: Duration) {
        let (reading, mut past) = (self.reading(now), self.past());
        let Past { minute, hour, day } = &mut *past;
        [minute, hour, day].into_iter().for_each(|readings| readings.push_back(reading));
    }

    pub(super) fn tick(&self, number: u64, now: Duration) {
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

    /// `None` as long as nothing was added: RocketMQ does not know the name then.
    pub(super) fn shown(&self, now: Duration) -> Option<BrokerStatsData> {
        (self.times.load(Relaxed) > 0).then(|| self.data(now))
    }

    pub(super) fn data(&self, now: Duration) -> BrokerStatsData {
        let past = self.past();
        let reading = self.reading(now);
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

pub(super) fn a_second(sum: u64, span: Duration) -> f64 {
    if sum == 0 || span.is_zero() { 0.0 } else { sum as f64 / span.as_secs_f64() }
}

#[cfg(test)]
mod tests {
    use super::*;

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

//! How long requests took, from when they were read to when their answer was ready to be written, by what was asked and
//! how it ended: the figures of RocketMQ 5's `rocketmq_rpc_latency`. Knows no metrics page.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use super::{Channel, Request};
use crate::model::spread::Spread;

/// Milliseconds. (Source: RemotingMetricsManager of Apache RocketMQ 5.4.0.)
const BOUNDS_MS: [f64; 9] = [1.0, 3.0, 5.0, 7.0, 10.0, 100.0, 1_000.0, 2_000.0, 3_000.0];
/// Rows of the table. Codes come from outside: what is beyond is not measured.
const ROWS_MAX: usize = 1_024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Answered,
    /// Nobody waits for an answer.
    Oneway,
    /// The processor panicked.
    BrokeOff,
    /// The connection was gone before the answer.
    Unwritten,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    pub code: i32,
    pub response: i32,
    /// A pull that was answered later, by what came meanwhile or because its time was over.
    pub was_held: bool,
    pub outcome: Outcome,
}

impl Asked {
    /// A request answered in the order of its coming, or by a task of its own.
    pub(super) fn of(request: &Request<'_>, response: i32, outcome: Outcome) -> Asked {
        let outcome = if request.command.is_oneway() { Outcome::Oneway } else { outcome };
        Asked { code: request.command.code, response, was_held: false, outcome }
    }
}

impl Outcome {
    /// Of what is answered through the channel now.
    pub fn on(channel: &Channel) -> Outcome {
        if channel.is_open() { Outcome::Answered } else { Outcome::Unwritten }
    }
}

/// One table for all ports of a process.
#[derive(Debug, Default)]
pub struct Latencies(Mutex<BTreeMap<Asked, Spread>>);

impl Latencies {
    pub fn record(&self, asked: Asked, took: Duration) {
        let mut spread = none();
        add(&mut spread, took);
        self.record_all(asked, &spread);
    }

    pub(super) fn record_all(&self, asked: Asked, taken: &Spread) {
        let mut table = self.0.lock().expect("nothing panics while it is held");
        if let Some(known) = table.get_mut(&asked) {
            known.merge(taken);
        } else if table.len() < ROWS_MAX {
            table.insert(asked, *taken);
        }
    }

    /// In milliseconds.
    pub fn all(&self) -> Vec<(Asked, Spread)> {
        let table = self.0.lock().expect("nothing panics while it is held");
        table.iter().map(|(asked, spread)| (*asked, *spread)).collect()
    }
}

/// How long no request took.
pub(super) fn none() -> Spread {
    Spread::new(&BOUNDS_MS)
}

pub(super) fn add(spread: &mut Spread, took: Duration) {
    spread.add(took.as_secs_f64() * 1e3);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_strangers_do_not_fill_the_memory() {
        let latencies = Latencies::default();
        let asked = |code| Asked { code, response: 0, was_held: false, outcome: Outcome::Answered };
        for code in 0..5_000 {
            latencies.record(asked(code), Duration::from_millis(2));
        }
        latencies.record(asked(1), Duration::from_secs(4));
        let all = latencies.all();
        assert_eq!(all.len(), ROWS_MAX);
        assert_eq!(
            (all[1].0, all[1].1.counts(), all[1].1.sum()),
            (asked(1), &[0, 1, 0, 0, 0, 0, 0, 0, 0, 1][..], 4_002.0)
        );
    }
}

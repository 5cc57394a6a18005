//! What bounds a run, told from what was measured: the rate asked for, the generator, the processors, the broker's own
//! time (its disk, most often), or the way there and back. Pure but for the question at the end of a run.

use std::time::Duration;

use crate::{
    cli::ask::Asker,
    env::Env,
    protocol::{code::request, command::Call},
};

/// Shares of the generator's machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    pub rate_asked: Option<f64>,
    pub rate: f64,
    /// Processors that the generator kept busy, of so many.
    pub generator: f64,
    pub cpus: usize,
    /// Share of this machine's processor time that anybody used; `None` where it does not say.
    pub busy: Option<f64>,
    pub p50: Duration,
    /// A question that neither stores nor reads a message, one at a time; `None` if it was not answered.
    pub round_trip: Option<Duration>,
}

/// From here on a processor counts as taken.
const BUSY: f64 = 0.85;
const QUESTIONS: usize = 32;

impl Seen {
    /// One clause, to be read behind "bounded by".
    pub fn bound(&self) -> String {
        if let Some(asked) = self.rate_asked
            && self.rate >= 0.98 * asked
        {
            return "the rate asked for".to_owned();
        }
        if self.generator >= BUSY * self.cpus as f64 {
            return format!("the generator, which used {:.1} of {} processors", self.generator, self.cpus);
        }
        if let Some(busy) = self.busy.filter(|busy| *busy >= BUSY) {
            let percent = busy * 100.0;
            return format!(
                "the processors: {percent:.0} % of this machine's {} were busy, {:.1} of them with the generator",
                self.cpus, self.generator
            );
        }
        match self.round_trip {
            Some(round_trip) if self.p50 >= round_trip * 3 => format!(
                "the broker: half the answers took more than {} while it answers a question that stores nothing in {} \
                 and processors were free here; its disk (the sync before an acknowledgement) or its own processors",
                super::report::human(self.p50.as_nanos() as u64),
                super::report::human(round_trip.as_nanos() as u64)
            ),
            Some(_) => "the way there and back: more connections or a larger window would bring more".to_owned(),
            None => "something that was not measured".to_owned(),
        }
    }
}

/// The median time of a question that costs a broker nothing.
pub async fn round_trip(env: &Env, broker: &str, topic: &str) -> Option<Duration> {
    let mut asker = Asker::connect(env, broker).await.ok()?;
    let mut times = Vec::with_capacity(QUESTIONS);
    for _ in 0..QUESTIONS {
        let call = Call::new(request::GET_MAX_OFFSET).with("topic", topic.to_owned()).with("queueId", 0);
        let before = env.clock.monotonic();
        asker.ask(&call).await.ok()?;
        times.push(env.clock.monotonic() - before);
    }
    times.sort_unstable();
    Some(times[QUESTIONS / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_follows_from_what_was_seen() {
        let seen = Seen {
            rate_asked: None,
            rate: 1_000.0,
            generator: 0.2,
            cpus: 2,
            busy: Some(0.3),
            p50: Duration::from_micros(400),
            round_trip: Some(Duration::from_micros(50)),
        };
        let check = |seen: Seen, expect: &str| {
            let said = seen.bound();
            assert!(said.starts_with(expect), "{seen:?}: {said}");
        };
        check(seen, "the broker");
        check(Seen { p50: Duration::from_micros(60), ..seen }, "the way there");
        check(Seen { busy: Some(0.97), ..seen }, "the processors");
        check(Seen { busy: Some(0.97), generator: 1.8, ..seen }, "the generator");
        check(Seen { rate_asked: Some(1_000.0), busy: Some(0.97), ..seen }, "the rate");
        check(Seen { rate_asked: Some(2_000.0), ..seen }, "the broker");
        check(Seen { round_trip: None, ..seen }, "something");
    }
}

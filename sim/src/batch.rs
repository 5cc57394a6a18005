//! Many runs: over threads, with their sum, the sometimes-table, the report of a failure and its shrinking.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::{
    model::{PANIC, Violation},
    plan::{Plan, Scene},
    plants::Bug,
    run,
    scene::{Outcome, lock},
    scene_broker, scene_store,
    trace::Trace,
};

/// No run lasts longer in virtual time.
const VIRTUAL_MAX: Duration = Duration::from_secs(600);
/// Resident memory is looked at once in so many runs.
const RESIDENT_EVERY: u64 = 50;
/// Candidates tried at most while shrinking.
const SHRINK_TRIES_MAX: usize = 400;

/// One run of one plan.
pub fn run_plan(plan: &Plan, print: bool) -> Outcome {
    run_planted(plan, print, None)
}

/// One run of one plan with a bug planted.
pub fn run_planted(plan: &Plan, print: bool, bug: Option<Bug>) -> Outcome {
    let plan = plan.clone();
    let seed = plan.seed;
    let (outcome, busy) = run::run_timed(seed, VIRTUAL_MAX, move || {
        // A run has its thread to itself, so nothing is switched off again.
        if let Some(bug) = bug.or(plan.change.map(Bug::Product)) {
            bug.plant();
        }
        async move {
            let trace = Trace::new(print);
            match plan.scene {
                Scene::Store => scene_store::run(plan, trace).await,
                Scene::Broker => scene_broker::run(plan, trace).await,
            }
        }
    });
    let mut outcome = outcome.unwrap_or_else(|said| Outcome {
        violations: vec![Violation { invariant: PANIC, text: said }],
        ..Outcome::default()
    });
    outcome.busy = busy;
    outcome
}

/// What many runs have to say together.
#[derive(Default)]
pub struct Sum {
    pub runs: u64,
    pub crashes: u64,
    pub power_losses: u64,
    pub acknowledged: u64,
    pub checked: u64,
    pub sync_failures: u64,
    pub virtual_ms: u64,
    pub events: u64,
    pub twice: u64,
    pub counters: BTreeMap<&'static str, u64>,
    pub slowest: (Duration, u64),
    /// Processor time of all runs together.
    pub busy: Duration,
    pub failures: Vec<(Plan, Outcome)>,
    /// Resident memory of the process in KiB, every so many runs.
    resident_kib: Vec<u64>,
    /// Seeds whose second run differed from the first.
    pub unsteady: Vec<u64>,
}

impl Sum {
    fn add(&mut self, plan: &Plan, outcome: Outcome) {
        let took = outcome.busy;
        self.runs += 1;
        self.crashes += outcome.crashes;
        self.power_losses += outcome.power_losses;
        self.acknowledged += outcome.acknowledged;
        self.checked += outcome.checked;
        self.sync_failures += outcome.sync_failures;
        self.virtual_ms += outcome.virtual_ms;
        self.events += outcome.events;
        self.busy += took;
        self.slowest = self.slowest.max((took, plan.seed));
        if self.runs.is_multiple_of(RESIDENT_EVERY) {
            self.resident_kib.extend(resident_kib());
        }
        for (name, count) in &outcome.counters {
            *self.counters.entry(name).or_default() += count;
        }
        if !outcome.violations.is_empty() {
            self.failures.push((plan.clone(), outcome));
        }
    }

    /// The summary that `cargo test` and `cargo sim` print.
    pub fn print(&self, took: Duration) -> String {
        let mut text = String::new();
        let virtual_s = self.virtual_ms as f64 / 1000.0;
        let line = |text: &mut String, name: &str, value: String| {
            writeln!(text, "  {name:<34} {value:>14}").expect("a String takes everything");
        };
        line(&mut text, "seeds", format!("{} ({} twice)", self.runs, self.twice));
        line(&mut text, "crashes", self.crashes.to_string());
        line(&mut text, "  of them power losses", self.power_losses.to_string());
        line(&mut text, "sync failures", self.sync_failures.to_string());
        line(&mut text, "messages acknowledged", self.acknowledged.to_string());
        line(&mut text, "acknowledged, found by recoveries", self.checked.to_string());
        line(&mut text, "events", self.events.to_string());
        line(&mut text, "virtual time", format!("{virtual_s:.0} s"));
        line(&mut text, "wall time", format!("{:.1} s", took.as_secs_f64()));
        line(&mut text, "seeds a minute", format!("{:.0}", self.runs as f64 * 60.0 / took.as_secs_f64().max(0.001)));
        line(&mut text, "virtual : processor time", format!("{:.0} x", virtual_s / self.busy.as_secs_f64().max(0.001)));
        let mib = |kib: u64| kib >> 10;
        let tenths = |count| self.resident_kib.get(self.resident_kib.len().saturating_sub(1) * count / 10);
        let [early, late] = [1, 10].map(|count| mib(tenths(count).copied().unwrap_or_default()));
        line(&mut text, "memory: after a tenth, after all", format!("{early}, {late} MiB"));
        line(&mut text, "slowest seed", format!("{} ({:.2} s)", self.slowest.1, self.slowest.0.as_secs_f64()));
        text.push_str("sometimes\n");
        for (name, count) in &self.counters {
            line(&mut text, name, count.to_string());
        }
        text
    }
}

/// Runs `plans` on `threads` threads, with `planted` in each; every `twice`-th of them a second time, which must not
/// differ.
pub fn run_all(
    plans: impl Iterator<Item = Plan> + Send + 'static,
    threads: usize,
    twice: u64,
    stop_at_failure: bool,
    planted: Option<Bug>,
) -> Sum {
    let queue = Arc::new(Mutex::new(plans));
    let sum = Arc::new(Mutex::new(Sum::default()));
    let stop = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..threads.max(1))
        .map(|_| {
            let (queue, sum, stop) = (queue.clone(), sum.clone(), stop.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    let Some(plan) = lock(&queue).next() else { return };
                    let outcome = run_planted(&plan, false, planted);
                    if stop_at_failure && !outcome.violations.is_empty() {
                        stop.store(true, Ordering::SeqCst);
                    }
                    let again = twice > 0 && plan.seed.is_multiple_of(twice) && outcome.violations.is_empty();
                    let first = (outcome.hash, outcome.events, outcome.virtual_ms);
                    lock(&sum).add(&plan, outcome);
                    if again {
                        let second = run_planted(&plan, false, planted);
                        let mut sum = lock(&sum);
                        sum.twice += 1;
                        if first != (second.hash, second.events, second.virtual_ms) {
                            sum.unsteady.push(plan.seed);
                        }
                    }
                }
            })
        })
        .collect();
    for worker in workers {
        worker.join().expect("runs keep their panics");
    }
    std::mem::take(&mut lock(&sum))
}

/// The smallest plan found that fails in the same way, with the same bug planted.
pub fn shrink(plan: &Plan, outcome: &Outcome, bug: Option<Bug>) -> (Plan, Outcome) {
    let invariant = outcome.violations[0].invariant;
    let (mut best, mut best_outcome) = (plan.clone(), outcome.clone());
    let mut tries = 0;
    'again: loop {
        for candidate in best.smaller() {
            tries += 1;
            if tries > SHRINK_TRIES_MAX {
                break 'again;
            }
            let outcome = run_planted(&candidate, false, bug);
            if outcome.violations.first().is_some_and(|violation| violation.invariant == invariant) {
                (best, best_outcome) = (candidate, outcome);
                continue 'again;
            }
        }
        break;
    }
    (best, best_outcome)
}

/// Resident memory of this process, as Linux tells it.
fn resident_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok())
}

/// The commit that was checked out, and whether anything was changed since.
fn commit() -> String {
    let git = std::process::Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=12"]).output();
    let said = git.ok().filter(|output| output.status.success());
    said.map_or_else(|| "unknown".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Everything that is needed to look at a failure, and the command that shows it again.
pub fn report(plan: &Plan, outcome: &Outcome, shrunk: Option<&(Plan, Outcome)>) -> String {
    let mut text = String::new();
    let mut line = |content: String| writeln!(text, "{content}").expect("a String takes everything");
    line(format!(
        "seed {} ({}) fails at {} ms, trace hash {:016x} after {} events, commit {}",
        plan.seed,
        plan.profile,
        outcome.virtual_ms,
        outcome.hash,
        outcome.events,
        commit()
    ));
    for violation in &outcome.violations {
        line(format!("  {violation}"));
    }
    let (small, small_outcome) = match shrunk {
        Some((small, small_outcome)) => (small, small_outcome),
        None => (plan, outcome),
    };
    line("last events:".to_owned());
    line(small_outcome.tail.clone());
    if shrunk.is_some() {
        line("shrunk to:".to_owned());
        for violation in &small_outcome.violations {
            line(format!("  {violation}"));
        }
        line(small.print());
    }
    let scene = plan.scene;
    line(format!("replay: cargo sim -- --scene {scene} --seed {} --trace", plan.seed));
    text
}

//! What `cargo test` runs: the corpus of bugs once found, then fresh seeds, then the question whether everything that
//! should happen sometimes did.

use std::{path::Path, time::Instant};

use crate::{
    batch::{self, Sum},
    plan::{Plan, Scene},
};

/// Seeds of a scene in `cargo test`.
pub const SEEDS: u64 = 200;

/// What must come up in a batch of the store's scene. A zero says that the batch tests less than it seems to.
const SOMETIMES_STORE: &[&str] = &[
    "clock: jumped ahead",
    "clock: went back",
    "consumer: got messages",
    "crash: in recovery",
    "crash: process, then power",
    "crash: with an unsynced checkpoint",
    "crash: with unsynced records",
    "disk: create found no space",
    "disk: directory sync failed",
    "disk: early write-back",
    "disk: full",
    "disk: open failed",
    "disk: power cut with dirty pages",
    "disk: power cut with unsynced names",
    "disk: stalled",
    "disk: sync failed",
    "disk: torn page",
    "files: compared with a rebuild",
    "files: one of a queue was lost",
    "process: paused",
    "process: stopped in order",
    "recovery: after a clean stop",
    "recovery: after a crash",
    "recovery: cut what was not acknowledged",
    "recovery: damage was reported",
    "recovery: kept what was not acknowledged",
    "recovery: queues and index made anew",
    "recovery: refused",
    "retention: the log begins further on",
    "store: a record aimed at a segment's end",
    "store: a waiter was told of a failure",
    "store: no segment to be had",
    "store: pool exhausted",
    "store: rolled to another segment",
    "store: waited for a segment",
];

/// The same for the scene of broker and clients.
const SOMETIMES_BROKER: &[&str] = &[
    "client: cut off, it did not listen",
    "clock: jumped ahead",
    "clock: went back",
    "consumer: connection lost",
    "consumer: got messages",
    "consumer: sent back",
    "consumer: shares its group's queues",
    "consumer: told that its group changed",
    "consumer: went back",
    "crash: in recovery",
    "crash: with unsynced records",
    "disk: early write-back",
    "disk: full",
    "disk: power cut with dirty pages",
    "disk: power cut with unsynced names",
    "disk: stalled",
    "disk: sync failed",
    "disk: torn page",
    "files: compared with a rebuild",
    "inspector: a topic and a group were made",
    "inspector: looked messages up",
    "inspector: woken by a message",
    "lock: given back",
    "lock: granted",
    "lock: refused",
    "name server: a broker fell silent",
    "name server: crashed",
    "name server: the second one crashed",
    "network: accept failed",
    "network: connect refused",
    "network: connect timed out",
    "network: half-close",
    "network: one-way cut",
    "network: reset",
    "network: reset in a write",
    "network: writer waits",
    "process: paused",
    "process: stopped in order",
    "producer: a batch was taken",
    "producer: connection lost in a send",
    "producer: did not wait for the sync",
    "producer: no answer in time",
    "producer: sent again",
    "producer: told unavailable",
    "recovery: after a clean stop",
    "recovery: after a crash",
    "recovery: refused",
    "reply: arrived",
    "reply: the client that asked is not there",
    "topic: deleted",
    "transaction: committed",
    "transaction: given up",
    "transaction: rolled back",
    "transaction: the producer changed its mind",
    "transaction: the producer was asked",
    "delayed: delivered",
    "retry: a dead letter",
    "retry: tried again",
];

fn expected(scene: Scene) -> &'static [&'static str] {
    match scene {
        Scene::Store => SOMETIMES_STORE,
        Scene::Broker => SOMETIMES_BROKER,
    }
}

/// What never came up though it should.
pub fn never(sum: &Sum, scene: Scene) -> Vec<&'static str> {
    expected(scene).iter().filter(|name| sum.counters.get(**name).copied().unwrap_or(0) == 0).copied().collect()
}

/// The plans in `directory`, by name.
pub fn corpus(directory: &Path) -> Vec<(String, Plan)> {
    let entries = std::fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut plans: Vec<(String, Plan)> = entries
        .map(|entry| entry.expect("the directory can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "plan"))
        .map(|path| {
            let name = path.file_stem().expect("it has an extension").to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).expect("a plan is text");
            let plan = Plan::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            (name, plan)
        })
        .collect();
    plans.sort_by(|(one, _), (other, _)| one.cmp(other));
    plans
}

/// Replays every bug once found.
pub fn replay_corpus(directory: &Path) {
    for (name, plan) in corpus(directory) {
        let outcome = batch::run_plan(&plan, false);
        assert!(
            outcome.violations.is_empty(),
            "{name} is back:\n{}replay: cargo sim -- --plan sim/corpus/{name}.plan --trace",
            batch::report(&plan, &outcome, None)
        );
    }
}

/// Runs `count` seeds of a scene, prints the summary, and panics with a report of what failed.
pub fn seeds(scene: Scene, from: u64, count: u64) {
    let started = Instant::now();
    let plans = (from..from + count).map(move |seed| Plan::draw(seed, scene));
    let sum = batch::run_all(plans, 2, 20, true, None);
    println!("{}", sum.print(started.elapsed()));
    if let Some((plan, outcome)) = sum.failures.first() {
        let shrunk = batch::shrink(plan, outcome, None);
        panic!("\n{}", batch::report(plan, outcome, Some(&shrunk)));
    }
    assert!(sum.unsteady.is_empty(), "runs of one seed differ: {:?}", sum.unsteady);
    let never = never(&sum, scene);
    assert!(never.is_empty(), "never happened in {count} seeds from {from}: {never:?}");
}

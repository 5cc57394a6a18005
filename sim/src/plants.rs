//! Who tests the tester: bugs planted one at a time, each of which a seed within its budget must find.

use std::{
    collections::BTreeMap,
    fmt::Write,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use keelmq::plant::Plant;

use crate::{
    batch,
    disk::Lies,
    plan::{Plan, Scene},
    scene::lock,
};

/// Seeds tried for one bug.
const BUDGET: u64 = 5_000;
/// Seeds tried around a remembered one.
const AROUND: u64 = 50;

/// A bug in the product, or a promise that the world breaks.
#[derive(Clone, Copy, Debug)]
pub enum Bug {
    Product(Plant),
    World(&'static str, Lies),
}

impl Bug {
    pub fn all() -> Vec<Bug> {
        let product = Plant::BUGS.iter().map(|plant| Bug::Product(*plant));
        product.chain(Lies::ALL.iter().map(|(name, lies)| Bug::World(name, *lies))).collect()
    }

    pub fn name(self) -> &'static str {
        match self {
            Bug::Product(plant) => plant.name(),
            Bug::World(name, _) => name,
        }
    }

    /// One of the bugs, or of the changes that break no promise.
    pub fn named(name: &str) -> Result<Bug, String> {
        let harmless = Plant::HARMLESS.iter().map(|change| Bug::Product(*change));
        let mut every = Bug::all().into_iter().chain(harmless);
        every.find(|bug| bug.name() == name).ok_or_else(|| format!("--plant {name}: no such bug"))
    }

    /// Switches it on for this thread.
    pub fn plant(self) {
        match self {
            Bug::Product(plant) => keelmq::plant::set(Some(plant)),
            Bug::World(_, lies) => Lies::plant(Some(lies)),
        }
    }

    /// Where it can show.
    pub fn scene(self) -> Scene {
        match self {
            Bug::World("WorldRenameBeforeContent", _) => Scene::Broker,
            Bug::Product(plant) if plant >= Plant::TopicNotAwaited => match plant {
                Plant::FailedSyncRetried
                | Plant::ReputSkipsAfterTruncation
                | Plant::SegmentGoneBeforeQueues
                | Plant::SegmentsGoneUnordered
                | Plant::QueueMinNotMoved
                | Plant::IndexChainBroken
                | Plant::KilledCheckpointTrusted
                | Plant::FullForEver
                | Plant::AsyncNeverThorough
                | Plant::FailedWriteForgotten
                | Plant::FailedSyncForgotten
                | Plant::WaitersNotTold => Scene::Store,
                _ => Scene::Broker,
            },
            _ => Scene::Store,
        }
    }
}

/// Who found it: the seed and the invariant.
type Find = (u64, &'static str);

/// The first of the seeds that finds the bug.
fn search(bug: Bug, seeds: std::ops::Range<u64>, threads: usize) -> Option<Find> {
    let next = Arc::new(AtomicU64::new(seeds.start));
    let found: Arc<Mutex<Option<Find>>> = Arc::default();
    let workers: Vec<_> = (0..threads.max(1))
        .map(|_| {
            let (next, found, end) = (next.clone(), found.clone(), seeds.end);
            std::thread::spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    let is_late = lock(&found).is_some_and(|(first, _)| first < seed);
                    if seed >= end || is_late {
                        return;
                    }
                    let outcome = batch::run_planted(&Plan::draw(seed, bug.scene()), false, Some(bug));
                    if let Some(violation) = outcome.violations.first() {
                        let mut found = lock(&found);
                        if found.is_none_or(|(first, _)| seed < first) {
                            *found = Some((seed, violation.invariant));
                        }
                    }
                }
            })
        })
        .collect();
    for worker in workers {
        worker.join().expect("runs keep their panics");
    }
    *lock(&found)
}

fn memory_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("plants.toml")
}

/// Name → seed, as remembered.
fn remembered() -> Result<BTreeMap<String, u64>, String> {
    let path = memory_path();
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or("").trim()).filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let (name, seed) = line.split_once('=').ok_or_else(|| format!("{line}: no seed"))?;
            Ok((name.trim().to_owned(), seed.trim().parse().map_err(|_| format!("{line}: no number"))?))
        })
        .collect()
}

/// Plants one bug or all over the whole budget; all found are remembered in `sim/plants.toml`.
pub fn plant(name: &str, threads: usize) -> Result<bool, String> {
    let bugs: Vec<Bug> = Bug::all().into_iter().filter(|bug| name == "all" || bug.name() == name).collect();
    if bugs.is_empty() {
        let names: Vec<&str> = Bug::all().into_iter().map(Bug::name).collect();
        return Err(format!("--plant {name}: one of all, {}", names.join(", ")));
    }
    let mut memory =
        String::from("# The first seed that finds each planted bug. Written by `cargo sim -- --plant all`.\n");
    let mut all_found = true;
    println!("{:<28} {:<6} {:>6}  caught by invariant", "bug", "scene", "seed");
    for bug in bugs {
        let found = search(bug, 0..BUDGET, threads);
        all_found &= found.is_some();
        say(bug, found);
        if let Some((seed, invariant)) = found {
            writeln!(memory, "{} = {seed} # {invariant}", bug.name()).expect("a String takes everything");
        }
    }
    if name == "all" && all_found {
        std::fs::write(memory_path(), memory).map_err(|error| error.to_string())?;
    }
    Ok(all_found)
}

fn say(bug: Bug, found: Option<Find>) {
    let scene = bug.scene();
    match found {
        Some((seed, invariant)) => println!("{:<28} {scene:<6} {seed:>6}  {invariant}", bug.name()),
        None => println!("{:<28} {scene:<6}      -  NOT FOUND", bug.name()),
    }
}

/// Runs seeds of both scenes with each change that breaks no promise, `seeds` in all. None of them may find anything.
pub fn harmless(seeds: u64, from: u64, threads: usize) -> bool {
    let share = seeds / (2 * Plant::HARMLESS.len() as u64);
    let mut nothing_found = true;
    for change in Plant::HARMLESS {
        for scene in [Scene::Store, Scene::Broker] {
            let plans = (from..from + share).map(move |seed| Plan::draw(seed, scene));
            let sum = batch::run_all(plans, threads, 0, true, Some(Bug::Product(*change)));
            nothing_found &= sum.failures.is_empty();
            let found =
                sum.failures.first().map(|(plan, outcome)| format!("seed {}: {}", plan.seed, outcome.violations[0]));
            println!(
                "{:<28} {scene:<6} {:>6} seeds: {}",
                change.name(),
                sum.runs,
                found.as_deref().unwrap_or("nothing found")
            );
        }
    }
    nothing_found
}

/// Plants every bug again and runs the seeds around the remembered ones.
pub fn replant(threads: usize) -> Result<bool, String> {
    let seeds = remembered()?;
    let mut all_found = true;
    for bug in Bug::all() {
        let seed = *seeds.get(bug.name()).ok_or_else(|| format!("sim/plants.toml does not know {}", bug.name()))?;
        let found = search(bug, seed.saturating_sub(AROUND)..seed + AROUND, threads);
        all_found &= found.is_some();
        say(bug, found);
    }
    Ok(all_found)
}

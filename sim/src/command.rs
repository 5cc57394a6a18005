//! The command line of `cargo sim`.

use std::{process::ExitCode, time::Instant};

use clap::Parser;

use crate::{
    batch,
    plan::{Plan, Scene},
    plants::{self, Bug},
    suite,
};

/// Runs the broker under seeds: virtual time, simulated disks and wires, crashes.
#[derive(Parser)]
#[command(name = "sim")]
struct Arguments {
    /// Run this one seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Run so many seeds.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Run the plan in this file.
    #[arg(long)]
    plan: Option<std::path::PathBuf>,
    /// What is run: the message store alone (`store`, the default), or broker, name server and clients (`broker`);
    /// with a bug that shows only there, that one.
    #[arg(long)]
    scene: Option<String>,
    /// Print every event to stderr.
    #[arg(long)]
    trace: bool,
    /// Print the plan and do not run it.
    #[arg(long)]
    show: bool,
    /// Leave a failing plan as it is.
    #[arg(long)]
    no_shrink: bool,
    /// Write the failing plan, shrunk, into this file.
    #[arg(long)]
    save: Option<std::path::PathBuf>,
    /// Plant this bug, or `all` of them one after the other, and say which seed finds it; with `--seed` or `--plan`,
    /// run that one with it.
    #[arg(long)]
    plant: Option<String>,
    /// Plant every bug again, but run only the seeds around those that `sim/plants.toml` remembers.
    #[arg(long)]
    replant: bool,
    /// Make changes that break no promise, one at a time, and expect `--seeds` seeds to find nothing.
    #[arg(long)]
    harmless: bool,
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Every so many-th seed runs a second time, which must not differ; 0 none.
    #[arg(long, default_value_t = 20)]
    twice: u64,
    /// Go on after the first failure.
    #[arg(long)]
    keep_going: bool,
}

pub fn main() -> ExitCode {
    // The alias ends in `--`: `cargo sim -- --seed 7` then has two, `cargo sim --seed 7` one.
    let words = std::env::args().enumerate().filter(|(at, word)| *at != 1 || word != "--");
    let arguments = Arguments::parse_from(words.map(|(_, word)| word));
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(said) => {
            eprintln!("{said}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool, String> {
    if arguments.replant {
        return plants::replant(arguments.threads);
    }
    if arguments.harmless {
        return Ok(plants::harmless(arguments.seeds, arguments.from, arguments.threads));
    }
    if let Some(name) = &arguments.plant
        && arguments.seed.is_none()
        && arguments.plan.is_none()
    {
        return plants::plant(name, arguments.threads);
    }
    let bug = arguments.plant.as_deref().map(Bug::named).transpose()?;
    let scene = match (arguments.scene.as_deref(), bug) {
        (Some("store"), _) => Scene::Store,
        (Some("broker"), _) => Scene::Broker,
        (Some(other), _) => return Err(format!("--scene {other}: store or broker")),
        (None, Some(bug)) => bug.scene(),
        (None, None) => Scene::Store,
    };
    let one = match (&arguments.plan, arguments.seed) {
        (Some(path), _) => {
            let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
            Some(Plan::parse(&text).map_err(|error| format!("{}: {error}", path.display()))?)
        }
        (None, Some(seed)) => Some(Plan::draw(seed, scene)),
        (None, None) => None,
    };
    match one {
        Some(plan) => run_one(arguments, &plan, bug),
        None => Ok(run_many(arguments, scene)),
    }
}

fn run_one(arguments: &Arguments, plan: &Plan, bug: Option<Bug>) -> Result<bool, String> {
    if arguments.show {
        print!("{}", plan.print());
        return Ok(true);
    }
    let outcome = batch::run_planted(plan, arguments.trace, bug);
    if outcome.violations.is_empty() {
        println!(
            "seed {}: no violation; {} ms, {} crashes, {} acknowledged, trace hash {:016x} after {} events",
            plan.seed, outcome.virtual_ms, outcome.crashes, outcome.acknowledged, outcome.hash, outcome.events
        );
        return Ok(true);
    }
    let shrunk = (!arguments.no_shrink && !arguments.trace).then(|| batch::shrink(plan, &outcome, bug));
    print!("{}", batch::report(plan, &outcome, shrunk.as_ref()));
    if let (Some(path), Some((small, _))) = (&arguments.save, &shrunk) {
        std::fs::write(path, small.print()).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(false)
}

fn run_many(arguments: &Arguments, scene: Scene) -> bool {
    let started = Instant::now();
    let plans = (arguments.from..arguments.from + arguments.seeds).map(move |seed| Plan::draw(seed, scene));
    let sum = batch::run_all(plans, arguments.threads, arguments.twice, !arguments.keep_going, None);
    print!("{}", sum.print(started.elapsed()));
    for seed in &sum.unsteady {
        println!("seed {seed}: two runs differ");
    }
    for (plan, outcome) in &sum.failures {
        println!("seed {} fails: {}", plan.seed, outcome.violations[0]);
    }
    if let Some((plan, outcome)) = sum.failures.first() {
        let shrunk = (!arguments.no_shrink).then(|| batch::shrink(plan, outcome, None));
        print!("{}", batch::report(plan, outcome, shrunk.as_ref()));
        if let (Some(path), Some((small, _))) = (&arguments.save, &shrunk)
            && let Err(error) = std::fs::write(path, small.print())
        {
            eprintln!("{}: {error}", path.display());
        }
    }
    // A batch as large as the suite's meets everything.
    let never = if arguments.seeds >= suite::SEEDS { suite::never(&sum, scene) } else { Vec::new() };
    if !never.is_empty() && sum.failures.is_empty() {
        println!("never happened in {} seeds from {}: {never:?}", arguments.seeds, arguments.from);
    }
    sum.failures.is_empty() && sum.unsteady.is_empty() && never.is_empty()
}

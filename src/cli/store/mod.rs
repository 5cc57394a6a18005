//! `keelmq store`: looks at a store that no broker runs on, and with consent sets damage aside. Knows the files' layout
//! through the store's own modules.

mod queues;
mod repair;
mod report;
mod survey;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use self::{report::Report, survey::Survey};
use super::exit;
use crate::env::Env;

#[derive(Debug, Args)]
pub struct Store {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// Read everything and say what is damaged; changes nothing. Exits with 0 if it is sound, with 1 if not
    Verify(Verify),
    /// Say what is in a store, without reading the messages
    Stat(Stat),
    /// Make a damaged store usable again, at the price of what stands behind the damage
    Repair(Repair),
}

#[derive(Debug, Args)]
struct Verify {
    /// The store's directory (storePathRootDir)
    directory: PathBuf,
    /// Print one line of JSON: {"ok":...,"problems":[{"file","offset","kind","text"}]}
    #[arg(long)]
    json: bool,
    /// Do not compare bodies with their checksums
    #[arg(long)]
    no_crc: bool,
}

#[derive(Debug, Args)]
struct Stat {
    /// The store's directory (storePathRootDir)
    directory: PathBuf,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Repair {
    /// The store's directory (storePathRootDir)
    directory: PathBuf,
    /// Move what is damaged, and what stands behind it in the log, to DIRECTORY/set-aside-N. Nothing is deleted
    #[arg(long, required = true)]
    set_aside: bool,
}

/// Runs the command and returns the exit code.
pub fn run(store: &Store) -> i32 {
    super::on_runtime(|env| async move {
        let done = match &store.kind {
            Kind::Verify(args) => verify(&env, args),
            Kind::Stat(args) => report::stat(&env, &args.directory).map(|text| {
                print!("{}", if args.json { text.json } else { text.table });
                exit::OK
            }),
            Kind::Repair(args) => repair::run(&env, &args.directory).await,
        };
        done.unwrap_or_else(|reason| {
            eprintln!("keelmq store: {reason}");
            exit::FAILED
        })
    })
}

fn verify(env: &Env, args: &Verify) -> Result<i32, String> {
    let survey = Survey::take(env, &args.directory, !args.no_crc, args.json)?;
    let report = Report::of(&survey);
    if args.json {
        print!("{}", report.json());
    } else {
        print!("{}", report.table());
    }
    Ok(if survey.problems.is_empty() { exit::OK } else { exit::FAILED })
}

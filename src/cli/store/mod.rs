//! `keelmq store`: looks at a store, and with consent sets damage aside. Knows words and exit codes; the store's own
//! modules do the work.

mod queues;
mod report;

use std::{io::IsTerminal, path::PathBuf};

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use super::exit;
use crate::{
    env::Env,
    store::{
        index_file::Shape,
        repair::{self, RepairError},
        verify::{self, Place, VerifyError},
    },
};

#[derive(Debug, Args)]
pub struct Store {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// Read everything and say what is damaged; changes nothing. Exits with 0 if it is sound, 1 if not, 2 if it is no store
    Verify(Verify),
    /// Say what is in a store, without reading the messages
    Stat(Stat),
    /// Make a damaged store usable again, at the price of what stands behind the damage
    Repair(Repair),
}

/// Where the store is.
#[derive(Debug, Args)]
struct Files {
    /// The store's directory (storePathRootDir)
    directory: PathBuf,
    /// Directory of the commit log, if it is not DIRECTORY/commitlog (storePathCommitLog)
    #[arg(long, value_name = "DIR")]
    commit_log: Option<PathBuf>,
    /// Slots of an index file, if not RocketMQ's number (maxHashSlotNum)
    #[arg(long, value_name = "N", requires = "max_index_num", value_parser = clap::value_parser!(u32).range(1..))]
    max_hash_slot_num: Option<u32>,
    /// Entries of an index file, if not RocketMQ's number (maxIndexNum)
    #[arg(long, value_name = "N", requires = "max_hash_slot_num", value_parser = clap::value_parser!(u32).range(2..))]
    max_index_num: Option<u32>,
}

impl Files {
    fn place(&self) -> Place {
        let shape = |(slots, entries)| Shape { slots, entries };
        Place {
            root: self.directory.clone(),
            commit_log: self.commit_log.clone().unwrap_or_else(|| self.directory.join("commitlog")),
            index: self.max_hash_slot_num.zip(self.max_index_num).map(shape),
        }
    }
}

#[derive(Debug, Args)]
struct Verify {
    #[command(flatten)]
    files: Files,
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
    #[command(flatten)]
    files: Files,
    /// Move what is damaged, and what stands behind it in the log, to a dated directory set-aside-... beside the log.
    /// Nothing is deleted
    #[arg(long, required = true)]
    set_aside: bool,
}

/// Runs the command and returns the exit code.
pub fn run(store: &Store) -> i32 {
    super::on_runtime(|env| async move {
        match &store.kind {
            Kind::Verify(args) => verify(&env, args),
            Kind::Stat(args) => match report::stat(&env, &args.directory) {
                Ok(text) => {
                    print!("{}", if args.json { text.json } else { text.table });
                    exit::OK
                }
                Err(reason) => failed(&reason, exit::FAILED),
            },
            Kind::Repair(args) => set_aside(&env, args).await,
        }
    })
}

fn failed(reason: &dyn std::fmt::Display, code: i32) -> i32 {
    eprintln!("keelmq store: {reason}");
    code
}

fn code_of(error: &VerifyError) -> i32 {
    match error {
        VerifyError::NoStore { .. } => exit::USAGE,
        VerifyError::Io(_) => exit::FAILED,
    }
}

/// Progress on stderr, if that is a terminal and nobody wants quiet.
fn bar(is_quiet: bool) -> ProgressBar {
    if is_quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes}  {bytes_per_sec}");
    ProgressBar::new(0).with_style(style.expect("the template is right"))
}

fn verify(env: &Env, args: &Verify) -> i32 {
    let bar = bar(args.json);
    let mut progress = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let found = verify::verify(&*env.storage, &args.files.place(), !args.no_crc, &mut progress);
    bar.finish_and_clear();
    match found {
        Ok(found) => {
            print!("{}", if args.json { report::json(&found) } else { report::table(&args.files.directory, &found) });
            if found.is_sound() { exit::OK } else { exit::FAILED }
        }
        Err(error) => failed(&error, code_of(&error)),
    }
}

async fn set_aside(env: &Env, args: &Repair) -> i32 {
    let bar = bar(false);
    let mut progress = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let outcome = repair::set_aside(&*env.storage, &*env.clock, &args.files.place(), &mut progress).await;
    bar.finish_and_clear();
    let repaired = match outcome {
        Ok(repaired) => repaired,
        Err(RepairError::Verify(error)) => return failed(&error, code_of(&error)),
        Err(error) => return failed(&error, exit::FAILED),
    };
    let Some(aside) = &repaired.aside else {
        println!("{} is sound, nothing is to be done", args.files.directory.display());
        return exit::OK;
    };
    println!("set aside in {}:", aside.display());
    for path in &repaired.moved {
        println!("  {}", path.display());
    }
    println!("queues, index and checkpoint are made anew by the next start");
    if let Some(end) = repaired.log_end {
        println!("the log now ends at offset {end}; messages behind it are no longer delivered");
    }
    exit::OK
}

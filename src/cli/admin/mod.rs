//! `keelmq admin`: what operators do most, on any RocketMQ cluster. Knows requests and answers, not how they are served.

mod commands;
mod table;

use clap::{Args, Subcommand};

use super::exit;

#[derive(Debug, Args)]
pub struct Admin {
    /// Name server of the cluster
    #[arg(short = 'n', long = "namesrv", value_name = "ADDR", default_value = "127.0.0.1:9876", global = true)]
    namesrv: String,
    /// Print JSON instead of a table
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// Brokers and their addresses
    Cluster,
    /// Names of all topics
    Topics {
        /// Also those of the system, of retries and of dead letters
        #[arg(long)]
        all: bool,
    },
    /// A topic's queues and how far they reach
    Topic { topic: String },
    /// Create a topic on every broker, or change it
    CreateTopic {
        topic: String,
        #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(i32).range(1..=65_535))]
        queues: i32,
        /// 6 reading and writing, 4 only reading, 2 only writing
        #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(i32).range(0..=7))]
        perm: i32,
    },
    /// Delete a topic from every broker and from the name server
    DeleteTopic {
        topic: String,
        /// Needed: its messages are gone for all groups
        #[arg(long, required = true)]
        yes: bool,
    },
    /// Consumer groups
    Groups,
    /// How far a group is behind
    Lag { group: String },
    /// Move a group's position, whether its consumers are online or not
    Reset {
        group: String,
        topic: String,
        /// `first`, `last`, or milliseconds since 1970
        #[arg(long, value_name = "WHERE")]
        to: String,
    },
    /// Show messages of a topic
    Browse {
        topic: String,
        /// Only this queue
        #[arg(long, value_name = "N")]
        queue: Option<i32>,
        /// Messages of each queue, the newest
        #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(i64).range(1..=1_000))]
        count: i64,
    },
    /// Send one message
    Send {
        topic: String,
        body: String,
        #[arg(long)]
        tag: Option<String>,
        #[arg(long)]
        key: Option<String>,
    },
}

/// Runs the command and returns the exit code.
pub fn run(admin: &Admin) -> i32 {
    super::on_runtime(|env| async move {
        match commands::run(&env, admin).await {
            Ok(table) => {
                print!("{}", table.render(admin.json));
                exit::OK
            }
            Err(reason) => {
                eprintln!("keelmq admin: {reason}");
                exit::FAILED
            }
        }
    })
}

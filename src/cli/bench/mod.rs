//! `keelmq bench`: load on any RocketMQ broker, and what it answers how fast. Knows the wire, not how a broker works.

mod both;
mod bound;
mod ceiling;
mod connection;
mod consume;
mod find;
mod pace;
mod produce;
mod record;
mod report;
mod template;

use clap::{Args, Subcommand, ValueEnum};

use crate::protocol::command::Serialization;

#[derive(Debug, Args)]
pub struct Bench {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// Send messages and measure until they are acknowledged
    Produce(Produce),
    /// Pull a topic's queues as fast as they come
    Consume(Consume),
    /// Send, and at the same time pull the same topic from its first message on
    Both(Both),
    /// Answer like a broker without storing anything: what this machine could do at most
    Ceiling(Ceiling),
}

/// Which broker, and how the result is said.
#[derive(Debug, Clone, Args)]
struct Target {
    /// Name server that knows the broker
    #[arg(short = 'n', long = "namesrv", value_name = "ADDR", default_value = "127.0.0.1:9876")]
    namesrv: String,
    /// The broker itself, without asking a name server
    #[arg(long, value_name = "HOST:PORT")]
    broker: Option<String>,
    /// Print one line of JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// How long, and what is left out of the measurement.
#[derive(Debug, Clone, Args)]
struct Span {
    /// Seconds to measure
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    seconds: f64,
    /// Seconds before the measurement begins
    #[arg(long, value_name = "S", default_value_t = 2.0)]
    warm_up: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Header {
    Json,
    Binary,
}

impl Header {
    fn serialization(self) -> Serialization {
        match self {
            Header::Json => Serialization::Json,
            Header::Binary => Serialization::Binary,
        }
    }
}

#[derive(Debug, Args)]
struct Produce {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    span: Span,
    /// Connections
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    connections: u32,
    /// Requests under way on each connection
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    window: u32,
    /// Bytes of a message's body
    #[arg(long, value_name = "BYTES", default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(0..=16_000_000))]
    size: u32,
    /// Messages in a request; more than one makes it a batch
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batch: u32,
    /// Topic, created by the first send if the broker allows it
    #[arg(long, default_value = "bench")]
    topic: String,
    /// Send to TOPIC-0 … TOPIC-(N-1) in turn instead of to TOPIC
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    topics: Option<u32>,
    /// Queues to send to in turn; without it those of the topic's route, or 4
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    queues: Option<u32>,
    /// Tag of every message
    #[arg(long)]
    tag: Option<String>,
    /// Messages a second over all connections, each measured from the moment it was due; without it as many as the
    /// windows allow
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// Pull the messages as well and measure until they are in a consumer's hands
    #[arg(long)]
    end_to_end: bool,
    /// End after this many messages, if that is before the time is over
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Form of the request headers
    #[arg(long, value_enum, default_value_t = Header::Json)]
    header: Header,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum From {
    First,
    Last,
}

#[derive(Debug, Args)]
struct Consume {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    span: Span,
    /// Connections, among which the queues are divided
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    connections: u32,
    /// Topic to read
    #[arg(long, default_value = "bench")]
    topic: String,
    /// Queues to read; without it those of the topic's route, or 4
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    queues: Option<u32>,
    /// Messages of one pull
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    max: u32,
    /// Pulls under way on each queue; all of them read the same messages
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    window: u32,
    /// Milliseconds that the broker may hold a pull that finds nothing
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(0..=30_000))]
    hold_ms: u32,
    /// Where to begin
    #[arg(long, value_enum, default_value_t = From::First)]
    from: From,
    /// End after about this many messages, if that is before the time is over
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Form of the request headers
    #[arg(long, value_enum, default_value_t = Header::Json)]
    header: Header,
}

#[derive(Debug, Args)]
struct Both {
    #[command(flatten)]
    produce: Produce,
    /// Connections that pull, among which the queues are divided
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pull_connections: u32,
    /// Messages of one pull
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    max: u32,
}

#[derive(Debug, Args)]
struct Ceiling {
    /// Port to listen on, on loopback; 0 takes a free one
    #[arg(long, value_name = "N", default_value_t = 0)]
    port: u16,
    /// Append every frame to this file and sync it before answering, once for all that came together
    #[arg(long, value_name = "FILE")]
    append: Option<std::path::PathBuf>,
    /// Bytes of a body in the answer to a pull
    #[arg(long, value_name = "BYTES", default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pull_size: u32,
    /// Messages in the answer to a pull
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pull_count: u32,
}

/// Runs the load and returns the exit code.
pub fn run(bench: &Bench) -> i32 {
    match &bench.kind {
        Kind::Produce(produce) => super::on_runtime(|env| produce::run(env, produce)),
        Kind::Consume(consume) => super::on_runtime(|env| consume::run(env, consume)),
        Kind::Both(both) => super::on_runtime(|env| both::run(env, both)),
        Kind::Ceiling(ceiling) => super::on_runtime(|env| ceiling::run(env, ceiling)),
    }
}

//! The command line: what can be asked of the program and in which words. Joins `os` to the rest.

pub mod admin;
mod ask;
pub mod bench;
mod cluster;
pub mod configuration;
pub mod doctor;
pub mod logging;
pub mod serve;
pub mod store;
mod text;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use configuration::{Loaded, Part};

use crate::env::Env;

/// Exit codes, for scripts and service managers.
pub mod exit {
    pub const OK: i32 = 0;
    /// It could not start, or ended because something broke.
    pub const FAILED: i32 = 1;
    /// The command line asks for something that does not exist.
    pub const USAGE: i32 = 2;
    /// A second signal cut the orderly end short.
    pub const CUT_SHORT: i32 = 130;
}

/// A message broker that speaks RocketMQ's protocol, keeps its files, and never loses what it acknowledged.
///
/// Without a command: a broker and its name server in one process, on this machine only, data in ./keelmq-data.
#[derive(Debug, Parser)]
#[command(name = "keelmq", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    standalone: Standalone,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Broker and name server in one process, for one machine (what `keelmq` alone does)
    Standalone(Standalone),
    /// A broker with RocketMQ's defaults: all interfaces, segments of 1 GiB
    Broker(Broker),
    /// A name server
    Namesrv(Namesrv),
    /// Look after a cluster: topics, groups, positions, messages
    Admin(admin::Admin),
    /// Look at a running cluster and this host, and say what to change
    Doctor(doctor::Doctor),
    /// Look into a store that no broker runs on, and set damage aside
    Store(store::Store),
    /// Put load on any RocketMQ broker and measure it
    Bench(bench::Bench),
}

/// What every server can be told.
#[derive(Debug, Args)]
struct Common {
    /// Settings file of key=value lines, such as RocketMQ's broker.conf
    #[arg(short = 'c', long = "config-file", value_name = "FILE")]
    file: Option<PathBuf>,
    /// One setting, stronger than the file's; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_and_value)]
    set: Vec<(String, String)>,
    /// Address to listen on; 0.0.0.0 is every interface
    #[arg(long, value_name = "HOST")]
    listen: Option<String>,
    /// Print the settings as they would be used, with where each comes from, and exit
    #[arg(short = 'p', long = "print-config")]
    print: bool,
    /// How log lines are written to stderr
    #[arg(long, value_name = "FORM", value_enum, default_value_t = LogForm::Text)]
    log: LogForm,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogForm {
    Text,
    Json,
}

#[derive(Debug, Args)]
struct BrokerFlags {
    /// Name servers to register with: host:port, several separated by ';'
    #[arg(short = 'n', long = "namesrv", value_name = "ADDRS")]
    namesrv: Option<String>,
    /// Port of the broker [default: 10911]; the fast port is two below; 0 takes a free pair
    #[arg(long, value_name = "N")]
    port: Option<String>,
    /// Directory of everything stored [default: ./keelmq-data]
    #[arg(long, value_name = "DIR")]
    store: Option<String>,
    /// Address that clients are told, if it is not the one listened on
    #[arg(long, value_name = "HOST[:PORT]")]
    advertise: Option<String>,
}

#[derive(Debug, Args)]
struct Standalone {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    broker: BrokerFlags,
    /// Port of the name server [default: 9876]; 0 takes a free one
    #[arg(long, value_name = "N")]
    namesrv_port: Option<String>,
}

#[derive(Debug, Args)]
struct Broker {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    broker: BrokerFlags,
}

#[derive(Debug, Args)]
struct Namesrv {
    #[command(flatten)]
    common: Common,
    /// Port of the name server [default: 9876]; 0 takes a free one
    #[arg(long, value_name = "N")]
    port: Option<String>,
    /// Directory of its key-value settings [default: namesrv in the home directory]
    #[arg(long, value_name = "DIR")]
    store: Option<String>,
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err("a setting is key=value".to_owned()),
    }
}

/// Runs what the command line asks for and returns the exit code. Ends the process itself only on wrong usage, on
/// `--help` and on `--version`, and when a second signal comes.
pub fn run() -> i32 {
    let cli = Cli::parse();
    match cli.command.unwrap_or(Command::Standalone(cli.standalone)) {
        Command::Standalone(args) => server(Part::Standalone, &args.common, Some(&args.broker), |loaded| {
            loaded.namesrv_flag("--namesrv-port", "listenPort", args.namesrv_port.as_deref())
        }),
        Command::Broker(args) => server(Part::Broker, &args.common, Some(&args.broker), |_| Ok(())),
        Command::Namesrv(args) => server(Part::Namesrv, &args.common, None, |loaded| {
            loaded.namesrv_flag("--port", "listenPort", args.port.as_deref())?;
            loaded.namesrv_store(args.store.as_deref())
        }),
        Command::Admin(args) => admin::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Store(args) => store::run(&args),
        Command::Bench(args) => bench::run(&args),
    }
}

/// Gathers the settings of a server and prints or serves them.
fn server(
    part: Part,
    common: &Common,
    broker: Option<&BrokerFlags>,
    more: impl FnOnce(&mut Loaded) -> Result<(), configuration::Wrong>,
) -> i32 {
    logging::start(common.log);
    let Some((runtime, env)) = world() else { return exit::FAILED };
    let began = env.clock.monotonic();
    let loaded = configuration::load(part, common, broker, more, &env);
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(wrong) => {
            eprintln!("keelmq: {wrong}");
            return wrong.exit_code();
        }
    };
    if common.print {
        print!("{}", loaded.print());
        return exit::OK;
    }
    loaded.say_notices();
    serve::run(runtime, env, loaded, began)
}

/// Threads to run on and the real world around them.
fn world() -> Option<(tokio::runtime::Runtime, Env)> {
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let env = crate::os::env(runtime.handle().clone());
            Some((runtime, env))
        }
        Err(error) => {
            eprintln!("keelmq: no threads to run on: {error}");
            None
        }
    }
}

/// Runs a tool to its end.
fn on_runtime<F: Future<Output = i32>>(tool: impl FnOnce(Env) -> F) -> i32 {
    let Some((runtime, env)) = world() else { return exit::FAILED };
    runtime.block_on(tool(env))
}

//! Starts the servers, says what they are, waits for their end.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
};

use super::{
    configuration::{Loaded, Part},
    exit,
    text::{program, size},
};
use crate::{
    broker::{self, Broker},
    env::{Env, spawner::first_panic},
    namesrv::{self, NameServer, NamesrvConfig},
    remoting::{CannotListen, Server},
};

#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Broker(#[from] broker::StartError),
    #[error(transparent)]
    Namesrv(#[from] namesrv::StartError),
    #[error(transparent)]
    Bind(#[from] CannotListen),
    #[error("signals cannot be waited for: {0}")]
    Signals(io::Error),
}

/// What runs in this process.
struct Running {
    broker: Option<Broker>,
    namesrv: Option<Names>,
}

/// A name server with its sockets.
struct Names {
    names: Arc<NameServer>,
    server: Server,
    address: SocketAddr,
}

/// Serves until a signal comes; `began` is when the process did.
pub(super) fn run(runtime: Runtime, env: Env, loaded: Loaded, began: Duration) -> i32 {
    let code = runtime.block_on(async {
        match serve(&env, loaded, began).await {
            Ok(code) => code,
            Err(error) => {
                eprintln!("keelmq: {error}");
                exit::FAILED
            }
        }
    });
    // Whatever still waits for something must not keep the process.
    runtime.shutdown_background();
    code
}

async fn serve(env: &Env, loaded: Loaded, began: Duration) -> Result<i32, StartError> {
    // Before anything is started: a signal during recovery ends it in order, too.
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Signals)?;
    let drain = Duration::from_millis(loaded.broker.drain_ms);
    let running = start(env, &loaded).await?;
    banner(&running, &loaded, env.clock.monotonic().saturating_sub(began));

    let broker_died = async {
        match &running.broker {
            Some(broker) => broker.died().await,
            None => std::future::pending().await,
        }
    };
    let names_died = async {
        match &running.namesrv {
            Some(Names { names, server, .. }) => {
                let accepting = first_panic(server.accepting().into_iter().collect());
                tokio::select! { biased; panicked = names.died() => panicked, panicked = accepting => panicked }
            }
            None => std::future::pending().await,
        }
    };
    let died = async {
        tokio::select! { biased; panicked = broker_died => panicked, panicked = names_died => panicked }
    };
    tokio::select! {
        biased;
        panicked = died => {
            // Nothing is stopped in order: what is not durable must not look as if it were.
            eprintln!("keelmq: {panicked}; what is left would be half dead, so it ends here");
            return Ok(exit::FAILED);
        }
        () = wait(&mut interrupt, &mut terminate) => {}
    }
    tracing::info!("stopping: what is under way has {} ms", drain.as_millis());
    tokio::select! {
        biased;
        () = stop(running, drain) => Ok(exit::OK),
        () = wait(&mut interrupt, &mut terminate) => {
            eprintln!("keelmq: a second signal: ended at once, the next start recovers");
            Ok(exit::CUT_SHORT)
        }
    }
}

async fn wait(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        biased;
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

async fn start(env: &Env, loaded: &Loaded) -> Result<Running, StartError> {
    let namesrv = match loaded.part {
        Part::Broker => None,
        Part::Standalone => Some(start_names(env, loaded.namesrv.clone(), "--namesrv-port").await?),
        Part::Namesrv => Some(start_names(env, loaded.namesrv.clone(), "--port").await?),
    };
    let broker = match loaded.part {
        Part::Namesrv => None,
        Part::Standalone | Part::Broker => {
            let own = namesrv.as_ref().map(|names| reachable(names.address).to_string());
            let mut config = loaded.broker.clone();
            // Ours hears of new topics and is told again every half minute like any other; told only at the start it
            // would route to no topic made since, and after two silent minutes to no broker.
            if let Some(own) = &own
                && !config.namesrv_addr.contains(own)
            {
                config.namesrv_addr.push(own.clone());
            }
            let broker = broker::start(env.clone(), config, own).await?;
            if let Some((path, text)) = &loaded.file {
                broker.keep_config_in(path, text.clone());
            }
            Some(broker)
        }
    };
    Ok(Running { broker, namesrv })
}

async fn start_names(env: &Env, config: NamesrvConfig, flag: &'static str) -> Result<Names, StartError> {
    let ip: IpAddr = config.bind_address.parse().expect("only addresses are taken");
    let wanted = SocketAddr::new(ip, config.listen_port);
    let failed = |address| move |error| CannotListen { what: "the name server", address, flag, error };
    let bound = env.network.bind(wanted).await.map_err(failed(wanted))?;
    let address = bound.local_address();
    let server_config = config.server();
    let names = NameServer::start(env, config)?;
    let router = Arc::new(names.router());
    let listener = bound.listen(server_config.backlog).map_err(failed(address))?;
    let server = Server::start(env.clock.clone(), env.spawner.clone(), listener, router, server_config);
    Ok(Names { names, server, address })
}

/// An address that this machine can connect to: every interface is none in particular.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The broker first: it takes itself out of the routes, which the name server must still be there for.
async fn stop(running: Running, drain: Duration) {
    if let Some(broker) = &running.broker {
        broker.shutdown(drain).await;
    }
    if let Some(namesrv) = &running.namesrv {
        namesrv.server.shutdown(drain).await;
        namesrv.names.stop().await;
    }
}

/// At most a dozen lines on stdout; the last one is for scripts.
fn banner(running: &Running, loaded: &Loaded, took: Duration) {
    let mut text = format!("KeelMQ {}\n", env!("CARGO_PKG_VERSION"));
    let mut ready = String::from("ready");
    if let Some(broker) = &running.broker {
        let address = broker.address();
        let fast = address.port().saturating_sub(2);
        let config = broker.core().config();
        text += &format!("  broker       {address}, fast port {fast}, clients are told {}\n", broker.advertised());
        ready += &format!(" broker={address}");
        if running.namesrv.is_none() {
            let servers = &config.namesrv_addr;
            let servers = if servers.is_empty() { "none: nobody finds this broker".into() } else { servers.join(", ") };
            text += &format!("  name server  {servers}\n");
        }
    }
    if let Some(namesrv) = &running.namesrv {
        text += &format!("  name server  {}\n", namesrv.address);
        ready += &format!(" namesrv={}", namesrv.address);
    }
    if let Some(broker) = &running.broker {
        let store = &loaded.broker.store_path_root_dir;
        let segment = broker.core().store.config().segment_bytes;
        let java = match loaded.part {
            Part::Standalone => format!(" (Java needs mappedFileSizeCommitLog={segment} to take it)"),
            _ => String::new(),
        };
        text += &format!("  store        {store}, segments of {}{java}\n", size(segment));
        text += &format!("  durability   {}\n", loaded.durability());
        text += &format!("  recovered    {}\n", recovered(broker));
        if let Some(metrics) = broker.metrics_address() {
            text += &format!("  metrics      http://{metrics}/metrics, /healthz, /readyz\n");
        }
        ready += &format!(" store={store} flush={}", if loaded.is_sync() { "SYNC" } else { "ASYNC" });
    }
    if loaded.part == Part::Standalone
        && let Some(namesrv) = &running.namesrv
    {
        let address = reachable(namesrv.address);
        text += &format!("  try          {} bench produce -n {address}\n", program());
        text += &format!("               or any RocketMQ client with the name server {address}\n");
        if address.ip().is_loopback() && namesrv.address == address {
            text +=
                "               other machines: --listen 0.0.0.0 --advertise HOST (there is no authentication yet)\n";
        }
    }
    println!("{text}{ready} in={} ms", took.as_millis());
}

fn recovered(broker: &Broker) -> String {
    let found = broker.recovered();
    let held = found.log_end.0.saturating_sub(found.log_begin.0);
    if held == 0 {
        return "nothing: the store is new".to_owned();
    }
    format!(
        "{} of log after {}, {} records read again{}{}",
        size(held),
        if found.clean { "a clean stop" } else { "a stop that was not clean" },
        found.records,
        if found.wiped { ", a torn end removed" } else { "" },
        if found.rebuilt { ", consume queues and index made anew" } else { "" }
    )
}

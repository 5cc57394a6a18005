//! Starts the servers, says what they are, waits for their end.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::signal::unix::{SignalKind, signal};

use super::{
    configuration::{Loaded, Part},
    exit,
};
use crate::{
    broker::{self, Broker},
    env::Env,
    namesrv::{NameServer, NamesrvConfig},
    remoting::{Server, ServerConfig},
};

/// The fast port stands so far below the main one.
const FAST_PORT_BELOW: u16 = 2;

pub(super) fn run(runtime: tokio::runtime::Runtime, env: Env, loaded: Loaded) -> i32 {
    let code = runtime.block_on(serve(env, loaded));
    // Tasks that nobody waits for any more (idle connections of clients) end with the process.
    runtime.shutdown_background();
    code
}

/// A name server and its port.
struct Named {
    names: Arc<NameServer>,
    server: Server,
    address: SocketAddr,
}

async fn serve(env: Env, mut loaded: Loaded) -> i32 {
    let began = env.clock.monotonic();
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => return failed(&format!("signals cannot be heard: {error}")),
    };
    let named = match loaded.part {
        Part::Broker => None,
        Part::Standalone | Part::Namesrv => match start_names(&env, loaded.namesrv.clone()).await {
            Ok(named) => Some(named),
            Err(sentence) => return failed(&sentence),
        },
    };
    let broker = match loaded.part {
        Part::Namesrv => None,
        Part::Standalone | Part::Broker => {
            let own = named.as_ref().map(|named| reachable(named.address));
            if let Some(own) = &own
                && !loaded.broker.namesrv_addr.contains(own)
            {
                loaded.broker.namesrv_addr.push(own.clone());
            }
            match broker::start(env.clone(), loaded.broker.clone(), own).await {
                Ok(broker) => Some(broker),
                Err(error) => return failed(&error.to_string()),
            }
        }
    };
    let took = env.clock.monotonic() - began;
    print!("{}", banner(&loaded, named.as_ref(), broker.as_ref(), took));

    let died = async {
        match &broker {
            Some(broker) => broker.died().await,
            None => std::future::pending().await,
        }
    };
    let drain = Duration::from_millis(loaded.broker.drain_ms);
    tokio::select! {
        biased;
        () = signals.next() => {}
        panicked = died => return failed(&format!("{panicked}. The broker ends at once; what was acknowledged is on the disk")),
    }
    tracing::info!("stopping: requests under way have {} ms", drain.as_millis());
    let end = async {
        if let Some(broker) = &broker {
            broker.shutdown(drain).await;
        }
        if let Some(named) = &named {
            named.server.shutdown(Duration::from_secs(1)).await;
            named.names.stop().await;
        }
    };
    tokio::select! {
        biased;
        () = end => exit::OK,
        () = signals.next() => {
            tracing::warn!("a second signal: ending at once, the next start will check the store");
            exit::CUT_SHORT
        }
    }
}

fn failed(sentence: &str) -> i32 {
    eprintln!("keelmq: {sentence}");
    exit::FAILED
}

async fn start_names(env: &Env, config: NamesrvConfig) -> Result<Named, String> {
    let ip =
        config.bind_address.parse().map_err(|_| format!("bindAddress={} is not an address", config.bind_address))?;
    let wanted = SocketAddr::new(ip, config.listen_port);
    let taken = |error: std::io::Error| {
        format!(
            "the name server cannot listen on {wanted}: {error}. `ss -ltnp sport = :{}` shows who does; choose another \
             with --namesrv-port",
            wanted.port()
        )
    };
    let bound = env.network.bind(wanted).await.map_err(taken)?;
    let address = bound.local_address();
    let server_config = bounds(&config);
    let names = NameServer::start(env, config).map_err(|error| error.to_string())?;
    let listener = bound.listen(server_config.backlog).map_err(taken)?;
    let router = Arc::new(names.router());
    let server = Server::start(env.clock.clone(), env.spawner.clone(), listener, router, server_config);
    Ok(Named { names, server, address })
}

fn bounds(config: &NamesrvConfig) -> ServerConfig {
    ServerConfig {
        connections_max: config.connections_max,
        frame_size_max_bytes: config.frame_size_max_bytes,
        idle_close_ms: config.idle_close_s * 1_000,
        connection_in_flight_max: config.connection_in_flight_max,
        connection_out_max_bytes: config.connection_out_max_bytes,
        memory_max_bytes: config.connection_memory_max_bytes,
        write_stall_close_ms: config.write_stall_close_ms,
        calls_max: config.calls_max,
        backlog: config.server_socket_backlog,
    }
}

/// The address by which this process reaches a port of its own.
fn reachable(address: SocketAddr) -> String {
    let ip = if address.ip().is_unspecified() { std::net::Ipv4Addr::LOCALHOST.into() } else { address.ip() };
    SocketAddr::new(ip, address.port()).to_string()
}

fn banner(loaded: &Loaded, named: Option<&Named>, broker: Option<&Broker>, took: Duration) -> String {
    let mut lines = vec![format!("KeelMQ {}", env!("CARGO_PKG_VERSION"))];
    let mut ready = vec!["ready".to_owned()];
    if let Some(broker) = broker {
        let (address, advertised) = (broker.address(), broker.advertised());
        let fast = address.port().saturating_sub(FAST_PORT_BELOW);
        lines.push(format!("  broker       {address} (fast port {fast}), clients are told {advertised}"));
        ready.push(format!("broker={address}"));
    }
    if let Some(named) = named {
        lines.push(format!("  name server  {}", named.address));
        ready.push(format!("namesrv={}", named.address));
    }
    if let Some(broker) = broker {
        let recovered = broker.recovered();
        let bytes = recovered.log_end.0 - recovered.log_begin.0;
        lines.push(format!(
            "  store        {}: {} MiB in segments of {} MiB, {}{}",
            loaded.broker.store_path_root_dir,
            bytes >> 20,
            broker.core().store.segments().size() >> 20,
            if recovered.clean { "stopped cleanly" } else { "not stopped cleanly: checked and recovered" },
            match recovered.records {
                0 => String::new(),
                records => format!(", {records} messages read again"),
            }
        ));
        lines.push(format!("  durability   {}", loaded.durability()));
        if let Some(named) = named {
            lines.push(format!("  next         point a RocketMQ client at name server {}", reachable(named.address)));
        }
        ready.push(format!("store={}", loaded.broker.store_path_root_dir));
        ready.push(format!("flush={}", loaded.broker.flush_disk_type.text().trim_end_matches("_FLUSH")));
    }
    ready.push(format!("in={} ms", took.as_millis()));
    lines.push(ready.join(" "));
    lines.join("\n") + "\n"
}

/// Ctrl-C and SIGTERM.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Signals { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! { biased; _ = self.interrupt.recv() => {} _ = self.terminate.recv() => {} }
    }
}

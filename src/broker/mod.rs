//! What requests mean: topics, groups, clients, positions, and the processors that tie them to the store and the wire.
//! Starts everything of a broker from an `Env` and a `Config`, with nothing global.

pub mod address_server;
pub mod check_back;
pub mod clients;
pub mod config;
pub mod consumer_filters;
pub mod consumer_offsets;
pub mod core;
pub mod delay;
pub mod half;
pub mod hold;
pub mod locks;
pub mod metrics;
pub mod processor;
pub mod registration;
pub mod reroute;
pub mod retry;
mod routes;
pub mod stats;
pub mod stored;
pub mod subscriptions;
mod timers;
pub mod topics;
pub mod transaction;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use self::{
    config::{Config, Misfit},
    consumer_filters::ConsumerFilters,
    consumer_offsets::ConsumerOffsets,
    core::Core,
    delay::Delay,
    metrics::{Metrics, Outside},
    processor::pull::Pull,
    registration::Registration,
    subscriptions::Subscriptions,
    topics::Topics,
};
use crate::{
    env::{Bound, Env, Panicked, Task, spawner::first_panic},
    protocol::body::{TopicConfig, topic::perm},
    remoting::{CannotListen, Client, ClientConfig, Server},
    store::{
        MessageStore, OpenError, Recovered,
        config_file::{ConfigWriter, Unreadable},
        stop::{Stop, Stopping},
    },
};

/// Attempts at finding a free port whose second lower neighbour is free too.
const FREE_PAIR_ATTEMPTS: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{0}")]
    Misfit(#[from] Misfit),
    #[error(transparent)]
    Bind(#[from] CannotListen),
    #[error(
        "brokerIP1={name} is not an address, and no address was found for that name: {error}. Every message id says the \
         address; give it with --advertise or brokerIP1"
    )]
    Advertised { name: String, error: io::Error },
    #[error("bindAddress={0} is not an address")]
    BindAddress(String),
    #[error(transparent)]
    Store(#[from] OpenError),
    #[error(transparent)]
    Table(#[from] Unreadable),
    #[error("the half messages cannot be read: {0}")]
    HalfMessages(io::Error),
    #[error("the tables in {path} cannot be written: {reason}")]
    TableWrite { path: String, reason: String },
}

/// A running broker.
pub struct Broker {
    core: Arc<Core>,
    writer: Arc<ConfigWriter>,
    main: Server,
    fast: Server,
    metrics: Option<Metrics>,
    address: SocketAddr,
    timers: Stop,
    announcing: Stop,
    writing: Stop,
    running: Mutex<Running>,
}

struct Running {
    registration: Option<Task>,
    timers: Vec<Task>,
    writer: Option<Task>,
}

/// Starts a broker: lock, load, recover, listen, register, timers. `own_name_server` is told before anybody can
/// connect, so that whoever reaches the broker finds its routes; other name servers hold nobody up.
pub async fn start(env: Env, mut config: Config, own_name_server: Option<String>) -> Result<Broker, StartError> {
    config.resolve(&env.host);
    config.check()?;
    let (main, fast) = bind(&env, &config).await?;
    let address = main.local_address();
    // Answers during recovery, too.
    let metrics = Metrics::start(&env, &config).await;
    let advertised_port = if config.advertised_port == 0 { address.port() } else { config.advertised_port };
    let store_host = SocketAddr::new(address_of(&env, &config.broker_ip1).await?, advertised_port);
    // Clients are told a name as a name: what it stands for may change.
    let advertised = match config.broker_ip1.parse::<IpAddr>() {
        Ok(_) => store_host.to_string(),
        Err(_) => format!("{}:{advertised_port}", config.broker_ip1),
    };

    let store = MessageStore::open(&env, config.store(&env.host)).await?;
    let config_directory = Path::new(&config.store_path_root_dir).join("config");
    env.storage.create_dir_all(&config_directory).map_err(|error| StartError::TableWrite {
        path: config_directory.display().to_string(),
        reason: error.to_string(),
    })?;
    // The directory's own name, and the names in it that a process before this one may have left unsynced: what is
    // loaded below counts as durable.
    for directory in [Path::new(&config.store_path_root_dir), &config_directory] {
        env.storage.sync_dir(directory).await.map_err(OpenError::from)?;
    }
    let writer = ConfigWriter::new(env.storage.clone(), env.clock.clone());
    let topics = Topics::load(&*env.storage, &writer, &config_directory.join("topics.json"))?;
    let groups = Subscriptions::load(&*env.storage, &writer, &config_directory.join("subscriptionGroup.json"))?;
    let queue_max = |topic: &str, queue: u32| store.max_offset(topic, queue).0 as i64;
    let offsets_path = config_directory.join("consumerOffset.json");
    let offsets = ConsumerOffsets::load(&*env.storage, &writer, &offsets_path, config.consumer_offsets_max, queue_max)?;
    let filters = ConsumerFilters::load(&*env.storage, &writer, &config_directory.join("consumerFilter.json"))?;
    let level_max = |queue: u32| store.max_offset(topics::SCHEDULE_TOPIC, queue).0;
    let delay_path = config_directory.join("delayOffset.json");
    let delay =
        Delay::load(&*env.storage, &env.clock, &writer, &delay_path, &store.config().delay_levels_ms, level_max)?;
    for topic in boot_topics(&config) {
        topics.ensure(topic, env.clock.wall_ms());
    }

    let connect_ms = config.connect_timeout_ms;
    let client_config = ClientConfig { connect_ms, ..ClientConfig::default() };
    let client = Client::new(env.clock.clone(), env.spawner.clone(), env.network.clone(), client_config);
    let ha_port = if config.ha_listen_port == 0 { address.port().saturating_add(1) } else { config.ha_listen_port };
    let registration =
        Registration::new(Arc::new(client), env.clock.clone(), advertised, format!("{}:{ha_port}", config.broker_ip2));
    let server_config = config.server();
    let transactions =
        check_back::restore(&store, &offsets, config.transactions_pending_max).map_err(StartError::HalfMessages)?;
    let core =
        Core::new(env.clone(), config, store_host, store, topics, groups, offsets, delay, transactions, registration);

    let (writing, stopping) = Stop::new();
    let writer_task = env.spawner.service("config writer", writer.clone().run(stopping));
    let (hold, delay, stats) = (core.hold.clone(), core.delay.clone(), core.stats.clone());
    core.store.on_arrival(Box::new(move |arrival| {
        stats.arrived(arrival);
        hold.arrived(arrival);
        delay.arrived(arrival);
    }));
    let (timers, stopping) = Stop::new();
    let mut timer_tasks = start_timers(&core, filters, stopping.clone());
    let config = core.config();
    if config.fetch_namesrv_addr_by_address_server && config.namesrv_addr.is_empty() {
        timer_tasks.push(env.spawner.task("address server", address_server::run(core.clone(), stopping)));
    }

    let (main_router, fast_router) = routes::routers(&core);
    let (announcing, stopping) = Stop::new();
    if let Some(address) = own_name_server {
        core.registration.announce(&core, &address).await;
    }
    let listen = |bound: Box<dyn Bound>, what| {
        let address = bound.local_address();
        bound.listen(server_config.backlog).map_err(|error| CannotListen { what, address, flag: "--port", error })
    };
    let (main_listener, fast_listener) = (listen(main, "the broker")?, listen(fast, "the fast port")?);
    let (clock, spawner) = (env.clock.clone(), env.spawner.clone());
    let main = Server::start(clock, spawner, main_listener, Arc::new(main_router), server_config);
    let fast = main.start_beside(fast_listener, Arc::new(fast_router));
    if let Some(metrics) = &metrics {
        let usage = main.usage();
        metrics.ready(core.clone(), move || {
            let (connections, connection_memory_bytes) = usage();
            Outside { connections, connection_memory_bytes }
        });
    }
    let registration = env.spawner.task("registration", core.registration.clone().run(core.clone(), stopping));
    Ok(Broker {
        core,
        writer,
        main,
        fast,
        metrics,
        address,
        timers,
        announcing,
        writing,
        running: Mutex::new(Running {
            registration: Some(registration),
            timers: timer_tasks,
            writer: Some(writer_task),
        }),
    })
}

/// The address that a host stands for: itself, or what its name is looked up to, IPv4 first, which every client can
/// read in a message id.
async fn address_of(env: &Env, host: &str) -> Result<IpAddr, StartError> {
    if let Ok(address) = host.parse() {
        return Ok(address);
    }
    let found = env.network.resolve(host).await;
    let found = found.map_err(|error| StartError::Advertised { name: host.to_owned(), error })?;
    Ok(found.iter().copied().find(IpAddr::is_ipv4).unwrap_or(found[0]))
}

impl Broker {
    pub fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Changes of the configuration at run time go into this file, which said `text` when it was read.
    pub fn keep_config_in(&self, path: &Path, text: String) {
        self.core.keep_config_in(&self.writer, path, text);
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What clients are told.
    pub fn advertised(&self) -> &str {
        self.core.registration.advertised()
    }

    pub fn recovered(&self) -> &Recovered {
        self.core.store.recovered()
    }

    /// Where metrics are served, if they are.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(Metrics::address)
    }

    pub fn connections(&self) -> usize {
        self.main.connections() + self.fast.connections()
    }

    /// Completes when a service of the broker panicked: the process must end, there is no half-dead broker.
    pub async fn died(&self) -> Panicked {
        let tasks = {
            let running = self.running.lock().expect("nothing panics while it is held");
            let others = running.registration.iter().chain(&running.writer);
            let accepting = [&self.main, &self.fast].into_iter().filter_map(Server::accepting);
            running.timers.iter().chain(others).cloned().chain(accepting).collect()
        };
        let mine = first_panic(tasks);
        let stores = self.core.store.died();
        tokio::select! { biased; panicked = mine => panicked, panicked = stores => panicked }
    }

    /// Unregisters, refuses new work, drains for at most `drain`, makes everything durable, ends.
    pub async fn shutdown(&self, drain: Duration) {
        let (registration, timers, writer) = {
            let mut running = self.running.lock().expect("nothing panics while it is held");
            (running.registration.take(), std::mem::take(&mut running.timers), running.writer.take())
        };
        if let Some(metrics) = &self.metrics {
            metrics.stopping();
        }
        // While name servers are told, clients go elsewhere by themselves.
        self.core.refuse_sends();
        self.announcing.stop();
        if let Some(registration) = registration {
            say_panic(registration.finished().await);
        }
        // Whoever waits for an arrival is answered before connections drain.
        self.timers.stop();
        for timer in timers {
            say_panic(timer.finished().await);
        }
        let (main, fast) = (self.main.shutdown(drain), self.fast.shutdown(drain));
        tokio::join!(biased; main, fast);
        timers::persist_offsets(&self.core).await;
        timers::persist_delay_offsets(&self.core).await;
        self.core.store.shutdown(drain.max(Duration::from_secs(1))).await;
        if let Some(metrics) = &self.metrics {
            metrics.end().await;
        }
        self.writing.stop();
        if let Some(writer) = writer {
            say_panic(writer.finished().await);
        }
    }
}

fn say_panic(ended: Result<(), Panicked>) {
    if let Err(panicked) = ended {
        tracing::error!("{panicked}");
    }
}

fn start_timers(core: &Arc<Core>, filters: ConsumerFilters, stopping: Stopping) -> Vec<Task> {
    let spawner = &core.env.spawner;
    let (pull, store) = (Pull(core.clone()), core.store.clone());
    let max_of = move |topic: &str, queue: u32| store.max_offset(topic, queue).0 as i64;
    let hold =
        core.hold.clone().run(core.env.clock.clone(), stopping.clone(), max_of, move |held| pull.answer_held(held));
    let look_ms_max = core.config().delay_scan_interval_ms;
    let delay = core.delay.clone().run(core.store.clone(), look_ms_max, stopping.clone());
    vec![
        spawner.task("hold", hold),
        spawner.task("delay", delay),
        spawner.task("delay offsets", timers::delay_offsets(core.clone(), stopping.clone())),
        spawner.task("offsets", timers::offsets(core.clone(), stopping.clone())),
        spawner.task("consumer filters", timers::consumer_filters(core.clone(), filters, stopping.clone())),
        spawner.task("clients", timers::clients(core.clone(), stopping.clone())),
        spawner.service("check back", check_back::run(core.clone(), stopping.clone())),
        spawner.task("statistics", stats::run(core.clone(), stopping)),
    ]
}

/// Takes both ports. Port 0 takes a free one whose second lower neighbour is free too.
async fn bind(env: &Env, config: &Config) -> Result<(Box<dyn Bound>, Box<dyn Bound>), StartError> {
    let ip: IpAddr = config.bind_address.parse().map_err(|_| StartError::BindAddress(config.bind_address.clone()))?;
    let mut attempts = 1;
    loop {
        let wanted = SocketAddr::new(ip, config.listen_port);
        let failed = |what, address| move |error| CannotListen { what, address, flag: "--port", error };
        let main = env.network.bind(wanted).await.map_err(failed("the broker", wanted))?;
        let beside = SocketAddr::new(ip, main.local_address().port().saturating_sub(2));
        match env.network.bind(beside).await {
            Ok(fast) => return Ok((main, fast)),
            Err(_) if config.listen_port == 0 && attempts < FREE_PAIR_ATTEMPTS => attempts += 1,
            Err(error) => return Err(failed("the fast port", beside)(error).into()),
        }
    }
}

/// Topics that are there from the start (TopicConfigManager of 4.9.7).
fn boot_topics(config: &Config) -> Vec<TopicConfig> {
    let read_write = perm::READ | perm::WRITE;
    let named = |enabled: bool| perm::INHERIT | if enabled { read_write } else { 0 };
    let mut boot = vec![TopicConfig::new(topics::SELF_TEST_TOPIC, 1, read_write)];
    if config.auto_create_topic_enable {
        let queues = config.default_topic_queue_nums as i32;
        boot.push(TopicConfig::new(topics::AUTO_CREATE_TOPIC, queues, read_write | perm::INHERIT));
    }
    boot.extend([
        TopicConfig::new(topics::BENCHMARK_TOPIC, 1_024, read_write),
        TopicConfig::new(&*config.broker_cluster_name, 16, named(config.cluster_topic_enable)),
        TopicConfig::new(&*config.broker_name, 1, named(config.broker_topic_enable)),
        TopicConfig::new(topics::OFFSET_MOVED_TOPIC, 1, read_write),
        TopicConfig::new(topics::SCHEDULE_TOPIC, 18, read_write),
    ]);
    if config.trace_topic_enable {
        boot.push(TopicConfig::new(&*config.msg_trace_topic_name, 1, read_write));
    }
    boot.push(TopicConfig::new(format!("{}_REPLY_TOPIC", config.broker_cluster_name), 1, read_write));
    boot
}

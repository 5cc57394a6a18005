//! Name server, broker and clients in the world: producers send and try again, consumers pull, commit and start over
//! from what was committed; machines crash, wires break, and what was acknowledged is there and is delivered.

mod aftermath;
mod clients;
mod deaf;
mod groups;
mod inspector;
mod locks;
mod members;
mod replies;
mod topics;
mod transactions;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use keelmq::{
    broker::{
        self,
        config::{Config, FlushDiskType},
    },
    env::{Clock, Env},
    model::OffsetMessageId,
    namesrv::{NameServer, config::NamesrvConfig},
    protocol::{
        body::{
            Body, batch,
            client::{
                ConsumeFromWhere, ConsumeType, ConsumerData, HeartbeatData, MessageModel, ProducerData,
                SubscriptionData,
            },
            route::TopicRouteData,
        },
        code::{request, response},
        command::{Call, Serialization},
        header::{
            consume::{PullMessage, QueryConsumerOffset, UpdateConsumerOffset},
            name_server::GetRouteInfo,
            send::SendMessage,
        },
    },
    remoting::Server,
};
use tokio::sync::Notify;

use crate::{
    dice::Dice,
    kinds::{self, Kind},
    log_image::{self, Found},
    model::{
        ANSWERED, BORN_MS, CONSUMED, LIVE, LOCKED, Model, NOT_DURABLE, PANIC, Place, Promise, RECOVERY, Sent, body_of,
        id_of, key_of,
    },
    plan::Plan,
    scene::{self, Outcome, lock},
    trace::Trace,
    wire_client::{Answer, WireClient},
    world::{Crash, Machine, Process, World},
};
use clients::{Whereto, consume, note_wrong, produce, send_kinds, serialization};

const BROKER: &str = "10.0.0.2:10911";
/// Its other address, which it tells in some of the runs.
const BROKER_V6: &str = "[fd00::2]:10911";
const NAMES: &str = "10.0.0.1:9876";
/// A second name server, which nobody depends on.
const NAMES_BESIDE: &str = "10.0.0.4:9876";
/// A name server forgets a broker that was silent for so long.
const BROKER_EXPIRED_MS: u64 = 12_000;
/// Queues of a topic that a send creates.
const QUEUES: u64 = 4;
const LIVE_MS: u64 = 10_000;
/// The broker registers so often; and a name server that lost its power without a word is missed only then.
const REGISTER_MS: u64 = 10_000;
/// So a client that asks it for the way may have to wait for the next registration, its time-out and its second try.
const FOUND_MS: u64 = REGISTER_MS + 5_000;
/// How long a client waits for an answer.
const WAIT: Duration = Duration::from_secs(3);
/// Delays of the levels, short ones. Retries begin with the third.
const LEVELS_S: [i64; 6] = [1, 2, 1, 1, 2, 1];
const LEVELS: u64 = LEVELS_S.len() as u64;
/// How often producers are asked about a half message, how old it must be, and how old some must be that say so.
const CHECK_MAX: u32 = 3;
const CHECK_AFTER_MS: u64 = 1_000;
const IMMUNITY_S: u64 = 3;
/// Pull flags: commit this offset, the request carries a subscription, wait for an arrival.
const COMMIT: i32 = 1;
const SUSPEND: i32 = 2;
const SUBSCRIPTION: i32 = 4;

struct Run {
    plan: Plan,
    model: Mutex<Model>,
    names: Arc<Machine>,
    broker: Arc<Machine>,
    clients: Arc<Machine>,
    /// The second name server and the second broker.
    beside: [Arc<Machine>; 2],
    trace: Trace,
    groups: Mutex<BTreeMap<String, Group>>,
    locks: Mutex<locks::Holders>,
    running: Mutex<Option<Arc<broker::Broker>>>,
    /// Tells the present process to stop in order; each has its own.
    stop: Mutex<Arc<Notify>>,
    quiet: AtomicBool,
    first_refusal: Mutex<Option<String>>,
    /// What a broker has going that nobody has asked for anything yet.
    idle_tasks: Mutex<BTreeMap<&'static str, u64>>,
}

/// What a group of consumers got.
struct Group {
    seen: BTreeSet<u64>,
    /// It wants the first so many topics.
    topics: u64,
    /// See `members::wants`.
    filter: u64,
    /// What always fails in its hands becomes a dead letter.
    sends_back: bool,
}

impl Group {
    fn new(topics: u64) -> Group {
        Group { seen: BTreeSet::new(), topics, filter: 0, sends_back: false }
    }
}

impl Run {
    /// Where clients find the broker.
    fn address(&self) -> &'static str {
        if self.plan.get("ipv6", 0) == 1 { BROKER_V6 } else { BROKER }
    }

    /// What a client saw, in the trace.
    fn note(&self, what: &'static str, text: &str, a: u64, b: u64) {
        self.trace.event(self.clients.clock.time.now_ns(), self.clients.node, what, text, a, b);
    }
}

#[derive(Debug)]
enum End {
    Stopped,
    Refused,
}

pub async fn run(plan: Plan, trace: Trace) -> Outcome {
    let mut world = World::new(plan.seed, trace.clone());
    let names = world.add_machine("names", scene::wall(&plan));
    let broker = world.add_machine("broker", scene::wall(&plan));
    let clients = world.add_machine("clients", crate::clock::Wall::default());
    let beside = ["names beside", "broker beside"].map(|name| world.add_machine(name, Default::default()));
    for machine in &world.machines {
        let mut disk = lock(&machine.disk);
        let _ = disk.create_dir_all(std::path::Path::new("/home"));
        disk.sync_dir(std::path::Path::new("/"));
    }
    let mut model = Model::new(scene::promise(&plan));
    model.kinds.levels_ms = LEVELS_S.iter().map(|seconds| seconds * 1_000).collect();
    model.kinds.retry_max = plan.get("retry_max", 2) as i32;
    model.kinds.check_max = CHECK_MAX;
    model.kinds.table_is_small = plan.get("transactions_pending_max", 256) < 256;
    model.kinds.clock_tick = Duration::from_millis(plan.get("clock.tick_ms", 1));
    model.kinds.commits.interval = Duration::from_millis(plan.get("flush_offsets_ms", 5_000));
    let run = Arc::new(Run {
        model: Mutex::new(model),
        names,
        broker,
        clients,
        beside,
        trace,
        groups: Mutex::default(),
        locks: Mutex::default(),
        running: Mutex::new(None),
        stop: Mutex::default(),
        quiet: AtomicBool::new(false),
        first_refusal: Mutex::new(None),
        idle_tasks: Mutex::default(),
        plan,
    });
    let mut driver = Driver { run, world, crashes: 0, power_losses: 0 };
    driver.drive().await;
    let seen = lock(&driver.run.model).kinds.seen;
    let names = ["transaction: given up", "delayed: delivered", "retry: a dead letter", "retry: tried again"];
    for (name, _) in names.into_iter().zip(seen).filter(|(_, count)| *count > 0) {
        driver.run.trace.sometimes(name);
    }
    driver.world.end().await;
    scene::outcome(&driver.world, &driver.run.model, driver.crashes, driver.power_losses)
}

struct Driver {
    run: Arc<Run>,
    world: World,
    crashes: u64,
    power_losses: u64,
}

impl Driver {
    async fn drive(&mut self) {
        let (disk_faults, wire_faults) = (scene::disk_faults(&self.run.plan), scene::network_faults(&self.run.plan));
        lock(&self.run.broker.disk).faults = disk_faults.clone();
        self.world.wires.set_faults(wire_faults.clone());
        let mut names = self.boot_names();
        let mut names_beside = self.boot_names_beside();
        let mut process = self.boot();
        let clients = self.boot_clients();
        for fault in self.run.plan.faults.clone() {
            self.sleep_us(fault.after_us).await;
            if self.is_over() {
                return;
            }
            let broker = self.run.broker.clone();
            {
                let mut disk = lock(&broker.disk);
                disk.faults = disk_faults.clone();
                disk.quota = u64::MAX / 2;
            }
            self.world.wires.heal();
            if !broker.is_alive() {
                process = self.boot();
            }
            if !self.run.names.is_alive() {
                names = self.boot_names();
            }
            match fault.kind.as_str() {
                "pause" => {
                    broker.pause();
                    self.sleep_us(fault.value).await;
                    broker.resume();
                    self.run.trace.sometimes("process: paused");
                }
                "clock" => {
                    let jump = fault.value as i64 - 3_600_000;
                    broker.clock.change(|wall| wall.jump_ms += jump);
                    let mut model = lock(&self.run.model);
                    model.kinds.clock_went_back |= jump < 0;
                    model.kinds.clock_jumped_ahead |= jump > 0;
                    self.run.trace.sometimes(if jump < 0 { "clock: went back" } else { "clock: jumped ahead" });
                }
                "sync fails" => lock(&broker.disk).faults.sync_fails = 1_000_000,
                "stall" => {
                    lock(&broker.disk).faults.sync_us = (fault.value, fault.value);
                    self.run.trace.sometimes("disk: stalled");
                }
                "full" => {
                    let mut disk = lock(&broker.disk);
                    disk.quota = disk.used_bytes();
                    self.run.trace.sometimes("disk: full");
                }
                "cut" => {
                    let pairs = [(2, 3), (3, 2), (1, 2), (2, 1), (1, 3)];
                    let (from, to) = pairs[(fault.value % pairs.len() as u64) as usize];
                    self.world.wires.cut(from, to);
                    self.run.trace.sometimes("network: one-way cut");
                    self.sleep_us(fault.value).await;
                    self.world.wires.heal();
                }
                "break" => {
                    for _ in 0..fault.value {
                        self.world.wires.break_one(broker.node);
                    }
                }
                "namesrv" if fault.value.is_multiple_of(3) => {
                    self.run.beside[0].crash(if fault.value.is_multiple_of(2) { Crash::Process } else { Crash::Power });
                    self.run.trace.sometimes("name server: the second one crashed");
                    self.sleep_us(fault.value).await;
                    names_beside = self.boot_names_beside();
                }
                "namesrv" => {
                    self.run.names.crash(if fault.value.is_multiple_of(2) { Crash::Process } else { Crash::Power });
                    self.run.trace.sometimes("name server: crashed");
                    self.sleep_us(fault.value).await;
                    names = self.boot_names();
                }
                "stop" => {
                    lock(&self.run.stop).notify_one();
                    let ended = scene::within(&self.world, Duration::from_secs(20), process.ended()).await;
                    if matches!(ended, Some(Some(End::Stopped))) {
                        self.run.trace.sometimes("process: stopped in order");
                    }
                    self.crash(&[Crash::Process]);
                    self.sleep_us(fault.value).await;
                    process = self.boot();
                }
                "kill" | "power" | "kill and power" => {
                    match fault.kind.as_str() {
                        "kill" => self.crash(&[Crash::Process]),
                        "power" => self.crash(&[Crash::Power]),
                        _ => self.crash(&[Crash::Process, Crash::Power]),
                    }
                    self.sleep_us(fault.value).await;
                    process = self.boot();
                }
                _ => {}
            }
        }
        drop((names, names_beside));
        if self.run.plan.seed.is_multiple_of(5) {
            // Nobody misses it.
            self.run.beside[0].crash(Crash::Power);
        }
        self.liveness(process).await;
        drop(clients);
    }

    fn is_over(&self) -> bool {
        !lock(&self.run.model).violations.is_empty() || !crate::run::panics().is_empty()
    }

    async fn sleep_us(&self, us: u64) {
        self.world.time.sleep(Duration::from_micros(us)).await;
    }

    fn boot_names(&self) -> Process<()> {
        let run = self.run.clone();
        self.run.names.boot(|env| name_server(env, run))
    }

    fn boot_names_beside(&self) -> Process<()> {
        let run = self.run.clone();
        self.run.beside[0].boot(|env| name_server(env, run))
    }

    fn boot(&self) -> Process<End> {
        let run = self.run.clone();
        let stop = Arc::new(Notify::new());
        *lock(&self.run.stop) = stop.clone();
        self.run.broker.boot(|env| broker_process(env, run, stop))
    }

    fn boot_clients(&self) -> Process<()> {
        let run = self.run.clone();
        self.run.clients.boot(|env| async move {
            for index in 0..run.plan.clients.len() {
                let (run, env) = (run.clone(), env.clone());
                let spawner = env.spawner.clone();
                match run.plan.clients[index].kind.as_str() {
                    "producer" => drop(spawner.task("producer", async move { produce(&env, &run, index).await })),
                    "transactor" => {
                        drop(spawner.task("transactor", async move { transactions::transact(&env, &run, index).await }))
                    }
                    "member" => drop(spawner.task("member", async move { members::belong(&env, &run, index).await })),
                    "locker" => drop(spawner.task("locker", async move { locks::hold(&env, &run, index).await })),
                    "asker" => {
                        let (asking, asked) = (run.clone(), env.clone());
                        drop(spawner.task("asker", async move { replies::ask(&asked, &asking, index).await }));
                        drop(spawner.task("replier", async move { replies::reply(&env, &run, index).await }))
                    }
                    "closer" => drop(spawner.task("closer", async move { groups::close(&env, &run, index).await })),
                    "deaf" => {
                        drop(spawner.task("deaf", async move { deaf::ask_and_not_listen(&env, &run, index).await }))
                    }
                    "recreator" => {
                        drop(spawner.task("recreator", async move { topics::recreate(&env, &run, index).await }))
                    }
                    _ => drop(spawner.task("consumer", async move { consume(&env, &run, index).await })),
                }
            }
            std::future::pending().await
        })
    }

    fn crash(&mut self, kinds: &[Crash]) {
        let run = &self.run;
        let running = lock(&run.running).take();
        if run.broker.is_alive() && running.is_none() {
            run.trace.sometimes("crash: in recovery");
        }
        if let Some(broker) = &running {
            let store = &broker.core().store;
            let mut model = lock(&run.model);
            model.flushed = model.flushed.max(store.flushed().get());
            if store.appended().0 > store.flushed().get() {
                run.trace.sometimes("crash: with unsynced records");
            }
        }
        {
            let now = self.world.time.now();
            let mut model = lock(&run.model);
            model.kinds.ends += 1;
            // What the disk refused may be missing, whatever the interval.
            let since = if lock(&run.broker.disk).injected == 0 { now } else { Duration::ZERO };
            model.kinds.commits.boot_ended(run.broker.boots(), since, false);
        }
        for kind in kinds {
            self.crashes += 1;
            self.power_losses += u64::from(*kind == Crash::Power);
            if *kind == Crash::Power {
                lock(&run.model).power_was_cut = true;
            }
            run.broker.crash(*kind);
        }
    }
}

/// A pull of whatever is there: it neither commits nor waits.
fn plain_pull(group: &str, topic: &str, queue_id: i32, offset: i64) -> Call {
    let mut call = Call::new(request::PULL_MESSAGE);
    PullMessage {
        consumer_group: group,
        topic,
        queue_id,
        queue_offset: offset,
        max_message_nums: 32,
        sys_flag: SUBSCRIPTION,
        commit_offset: None,
        suspend_timeout_millis: None,
        subscription: Some("*"),
        sub_version: Some(1),
        expression_type: None,
        max_message_bytes: None,
    }
    .write(&mut call.fields);
    call
}

async fn name_server(env: Env, run: Arc<Run>) {
    let mut config = NamesrvConfig::tiny();
    config.bind_address = "0.0.0.0".into();
    config.listen_port = 9876;
    config.broker_expired_ms = BROKER_EXPIRED_MS;
    config.scan_interval_ms = 1_000;
    let server_config = config.server();
    let Ok(bound) = env.network.bind(SocketAddr::from(([0, 0, 0, 0], 9876))).await else { return };
    let names = match NameServer::start(&env, config) {
        Ok(names) => names,
        Err(error) => {
            lock(&run.model).violation(RECOVERY, format!("the name server does not start: {error}"));
            return;
        }
    };
    let listener = bound.listen(server_config.backlog).expect("the port is ours");
    let _server =
        Server::start(env.clock.clone(), env.spawner.clone(), listener, Arc::new(names.router()), server_config);
    std::future::pending().await
}

fn broker_config(plan: &Plan) -> Config {
    let flush = plan.get("flush", 0);
    let mut config = Config::tiny();
    config.bind_address = "0.0.0.0".into();
    config.broker_ip1 = if plan.get("ipv6", 0) == 1 { "fd00::2" } else { "10.0.0.2" }.into();
    config.broker_ip2 = "10.0.0.2".into();
    config.listen_port = 10_911;
    config.namesrv_addr = vec![NAMES.to_owned(), NAMES_BESIDE.to_owned()];
    config.register_broker_timeout_ms = 1_000;
    config.register_name_server_period_ms = REGISTER_MS;
    config.message_delay_level = LEVELS_S.map(|seconds| format!("{seconds}s")).join(" ");
    config.transaction_check_max = CHECK_MAX;
    config.transaction_timeout_ms = CHECK_AFTER_MS;
    config.transactions_pending_max = plan.get("transactions_pending_max", 256) as usize;
    config.sync_flush_timeout_ms = plan.get("sync_flush_timeout_ms", 5_000);
    config.flush_delay_offset_interval_ms = plan.get("flush_delay_offset_ms", 1_000);
    config.flush_consumer_offset_interval_ms = plan.get("flush_offsets_ms", 5_000);
    config.queue_lock_life_ms = locks::LIFE.as_millis() as u64;
    config.store_path_root_dir = scene::ROOT.to_owned();
    config.flush_disk_type = if flush == 0 { FlushDiskType::Sync } else { FlushDiskType::Async };
    config.transient_store_pool_enable = flush == 2;
    config.mapped_file_size_commit_log_bytes = plan.get("segment_bytes", 64 << 10);
    config.mapped_file_size_consume_queue_bytes = 20 * plan.get("queue_file_units", 64);
    config.default_topic_queue_nums = QUEUES as u32;
    config.flush_interval_commit_log_ms = plan.get("flush_interval_ms", 500);
    config.max_message_size_bytes = plan.get("body_max_bytes", 16 << 10) as u32;
    config.staged_max_bytes = plan.get("staged_max_bytes", 32 << 10);
    config.upkeep_behind_max_bytes = plan.get("upkeep_behind_bytes", 96 << 10);
    config
}

/// Tasks of the broker beyond those that are allowed, which do not end within some seconds.
async fn still_going(run: &Run, allowed: &BTreeMap<&'static str, u64>) -> Option<String> {
    let mut least = run.broker.tasks();
    for _ in 0..60 {
        let now = run.broker.tasks();
        least.iter_mut().for_each(|(name, count)| *count = (*count).min(now.get(name).copied().unwrap_or(0)));
        least.retain(|name, count| *count > allowed.get(name).copied().unwrap_or(0));
        if least.is_empty() {
            return None;
        }
        run.broker.clock.time.sleep(Duration::from_millis(50)).await;
    }
    Some(format!("these tasks go on: {least:?}, where there should be {allowed:?}"))
}

async fn broker_process(env: Env, run: Arc<Run>, stop: Arc<Notify>) -> End {
    let boot = run.broker.boots();
    let injected = lock(&run.broker.disk).injected;
    scene::check_derived(&run.model, &run.trace, &run.broker.disk, kinds::is_recreated);
    let broker = match broker::start(env, broker_config(&scene::bounds_of(&run.plan, boot)), None).await {
        Ok(broker) => Arc::new(broker),
        Err(error) => {
            run.trace.sometimes("recovery: refused");
            lock(&run.first_refusal).get_or_insert_with(|| error.to_string());
            if lock(&run.broker.disk).injected == injected {
                lock(&run.model).violation(RECOVERY, format!("boot {boot} refuses a store without damage: {error}"));
            }
            return End::Refused;
        }
    };
    *lock(&run.idle_tasks) = run.broker.tasks();
    let recovered = *broker.recovered();
    // The files may have grown since: the first clients are quick. What recovery found is what lies below its end.
    let mut log = scene::read_log(&lock(&run.broker.disk));
    log.records.retain(|record| record.offset < recovered.log_end.0);
    log.end = log.end.min(recovered.log_end.0);
    log.dirty_tail = false;
    lock(&run.model).recovered(&log, recovered.log_end.0, boot);
    lock(&run.model).check_topics(boot, |topic| broker.core().topics.find(topic).is_some());
    run.trace.sometimes(if recovered.clean { "recovery: after a clean stop" } else { "recovery: after a crash" });
    *lock(&run.running) = Some(broker.clone());
    tokio::select! {
        biased;
        () = stop.notified() => {}
        panicked = broker.died() => {
            lock(&run.model).violation(PANIC, panicked.to_string());
            return End::Refused;
        }
    }
    broker.shutdown(Duration::from_secs(5)).await;
    if let Some(text) = still_going(&run, &BTreeMap::new()).await {
        lock(&run.model).violation(LIVE, format!("after a stop in order {text}"));
    }
    let is_written = broker.core().store.refusal().is_none_or(|reason| reason.contains("shut down"));
    let now = run.broker.clock.time.now();
    // A disk that failed once stores no more positions: then nothing is certain to have lasted.
    let is_sound = lock(&run.broker.disk).injected == injected;
    let since = if is_sound { now } else { Duration::ZERO };
    lock(&run.model).kinds.commits.boot_ended(boot, since, is_written && is_sound);
    End::Stopped
}

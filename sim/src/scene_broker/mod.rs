//! Name server, broker and clients in the world: producers send and try again, consumers pull, commit and start over
//! from what was committed; machines crash, wires break, and what was acknowledged is there and is delivered.

mod clients;

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
    env::Env,
    model::OffsetMessageId,
    namesrv::{NameServer, config::NamesrvConfig},
    protocol::{
        body::{
            Body,
            client::{ConsumeFromWhere, ConsumeType, ConsumerData, HeartbeatData, MessageModel, SubscriptionData},
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
    log_image,
    model::{ANSWERED, CONSUMED, LIVE, Model, NOT_DURABLE, PANIC, Place, Promise, RECOVERY, body_of, id_of, key_of},
    plan::Plan,
    scene::{self, Outcome, lock},
    trace::Trace,
    wire_client::{Answer, WireClient},
    world::{Crash, Machine, Process, World},
};
use clients::{consume, last_client, produce};

const BROKER: &str = "10.0.0.2:10911";
const NAMES: &str = "10.0.0.1:9876";
/// Queues of a topic that a send creates.
const QUEUES: u64 = 4;
const LIVE_MS: u64 = 10_000;
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
    trace: Trace,
    groups: Mutex<BTreeMap<usize, BTreeSet<u64>>>,
    running: Mutex<Option<Arc<broker::Broker>>>,
    /// Tells the present process to stop in order; each has its own.
    stop: Mutex<Arc<Notify>>,
    quiet: AtomicBool,
    first_refusal: Mutex<Option<String>>,
}

impl Run {
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
    for machine in &world.machines {
        let mut disk = lock(&machine.disk);
        let _ = disk.create_dir_all(std::path::Path::new("/home"));
        disk.sync_dir(std::path::Path::new("/"));
    }
    let run = Arc::new(Run {
        model: Mutex::new(Model::new(scene::promise(&plan))),
        names,
        broker,
        clients,
        trace,
        groups: Mutex::default(),
        running: Mutex::new(None),
        stop: Mutex::default(),
        quiet: AtomicBool::new(false),
        first_refusal: Mutex::new(None),
        plan,
    });
    let mut driver = Driver { run, world, crashes: 0, power_losses: 0 };
    driver.drive().await;
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
        drop(names);
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
        for kind in kinds {
            self.crashes += 1;
            self.power_losses += u64::from(*kind == Crash::Power);
            if *kind == Crash::Power {
                lock(&run.model).power_was_cut = true;
            }
            run.broker.crash(*kind);
        }
    }

    /// Everything heals: the broker is found through the name server, takes a message, and every group gets all.
    async fn liveness(&mut self, mut process: Process<End>) {
        let run = self.run.clone();
        run.quiet.store(true, Ordering::SeqCst);
        {
            let mut disk = lock(&run.broker.disk);
            disk.faults = Default::default();
            disk.quota = u64::MAX / 2;
        }
        self.world.wires.set_faults(Default::default());
        self.world.wires.heal();
        let mut names = None;
        if !run.names.is_alive() {
            names = Some(self.boot_names());
        }
        let refusing = lock(&run.running).as_ref().is_some_and(|broker| broker.core().store.refusal().is_some());
        if refusing || !run.broker.is_alive() {
            self.crash(&[Crash::Process]);
            process = self.boot();
        }
        for round in 0..2 {
            let last = last_client(run.clone());
            let lone = self.world.add_machine("last client", Default::default());
            let mut lone = lone.boot(last);
            let served = scene::within(&self.world, Duration::from_millis(LIVE_MS), lone.ended()).await;
            if !matches!(served, Some(Some(()))) {
                let why = lock(&run.first_refusal).clone().unwrap_or_default();
                let reason = lock(&run.running).as_ref().and_then(|broker| broker.core().store.refusal());
                let text = format!("round {round}: a last client was not served within {LIVE_MS} ms; {why} {reason:?}");
                lock(&run.model).violation(LIVE, text);
                return;
            }
            self.all_delivered().await;
            if self.is_over() || round == 1 {
                break;
            }
            if run.plan.seed.is_multiple_of(2) {
                lock(&run.stop).notify_one();
                let ended = scene::within(&self.world, Duration::from_secs(30), process.ended()).await;
                if !matches!(ended, Some(Some(End::Stopped))) {
                    lock(&run.model).violation(LIVE, format!("a stop in order ended with {ended:?}"));
                    return;
                }
                lock(&run.running).take();
            } else {
                self.crash(&[Crash::Power]);
            }
            process = self.boot();
        }
        drop((process, names));
    }

    /// Every group has got every acknowledged message, sooner or later.
    async fn all_delivered(&self) {
        let run = &self.run;
        if lock(&run.model).promise != Promise::Disk {
            return;
        }
        let deadline = self.world.time.now() + Duration::from_millis(3 * LIVE_MS);
        loop {
            let missing = {
                let (model, groups) = (lock(&run.model), lock(&run.groups));
                let mut missing = groups.iter().flat_map(|(group, seen)| {
                    let topics = run.plan.clients[*group].get("topics", 1);
                    let wanted = move |topic: &str| topic[1..].parse::<u64>().is_ok_and(|number| number < topics);
                    let ids = model.attempts.iter().filter(move |(id, attempt)| {
                        attempt.acknowledged && wanted(&attempt.topic) && !seen.contains(id)
                    });
                    ids.map(move |(id, attempt)| format!("group {group} never got message {id} of {}", attempt.topic))
                });
                missing.next()
            };
            match missing {
                None => return,
                Some(text) if self.world.time.now() > deadline => {
                    lock(&run.model).violation(CONSUMED, text);
                    return;
                }
                Some(_) => self.sleep_us(100_000).await,
            }
            if self.is_over() {
                return;
            }
        }
    }
}

async fn name_server(env: Env, run: Arc<Run>) {
    let mut config = NamesrvConfig::tiny();
    config.bind_address = "0.0.0.0".into();
    config.listen_port = 9876;
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
    config.broker_ip1 = "10.0.0.2".into();
    config.broker_ip2 = "10.0.0.2".into();
    config.listen_port = 10_911;
    config.namesrv_addr = vec![NAMES.to_owned()];
    config.store_path_root_dir = scene::ROOT.to_owned();
    config.flush_disk_type = if flush == 0 { FlushDiskType::Sync } else { FlushDiskType::Async };
    config.transient_store_pool_enable = flush == 2;
    config.mapped_file_size_commit_log_bytes = plan.get("segment_bytes", 64 << 10);
    config.mapped_file_size_consume_queue_bytes = 20 * plan.get("queue_file_units", 64);
    config.default_topic_queue_nums = QUEUES as u32;
    config.flush_interval_commit_log_ms = plan.get("flush_interval_ms", 500);
    config.staged_max_bytes = plan.get("staged_max_bytes", 32 << 10);
    config.upkeep_behind_max_bytes = plan.get("upkeep_behind_bytes", 96 << 10);
    config
}

async fn broker_process(env: Env, run: Arc<Run>, stop: Arc<Notify>) -> End {
    let boot = run.broker.boots();
    let injected = lock(&run.broker.disk).injected;
    let broker = match broker::start(env, broker_config(&run.plan), None).await {
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
    let recovered = *broker.recovered();
    // The files may have grown since: the first clients are quick. What recovery found is what lies below its end.
    let mut log = scene::read_log(&lock(&run.broker.disk));
    log.records.retain(|record| record.offset < recovered.log_end.0);
    log.end = log.end.min(recovered.log_end.0);
    log.dirty_tail = false;
    lock(&run.model).recovered(&log, recovered.log_end.0, boot);
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
    End::Stopped
}

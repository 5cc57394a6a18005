//! The message store alone in the world: producers put, consumers read, the machine crashes, and after every recovery
//! the files, the queues and the model must agree.

mod clients;
mod damage;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use keelmq::{
    env::Env,
    model::{BatchItem, Message},
    store::{AppendError, Get, GetStatus, MessageStore, OpenError},
};
use tokio::sync::Notify;

use crate::{
    dice::Dice,
    log_image::{self, Found},
    model::{
        CONSUMED, DAMAGE, DERIVED, LIVE, LOST_SUFFIX, Model, NOT_DURABLE, PANIC, Place, Promise, RECOVERY, Sent,
        body_of, key_of,
    },
    plan::{Client, Plan},
    scene::{self, Outcome, lock},
    trace::Trace,
    world::{Crash, Machine, Process, World},
};
use clients::{consume, produce, put_group};

/// Bytes of a record besides body, topic and properties.
const RECORD_BYTES: u64 = 91;
/// A start may take so long, once nothing fails any more.
const LIVE_MS: u64 = 10_000;

/// A cut that waits for its moment looks so often, in such steps.
const TEAR_STEPS: u32 = 10_000;
const TEAR_STEP_US: u64 = 40;

/// So long a sync may take beside its interval.
const AGE_SLACK: Duration = Duration::from_millis(500);

/// What outlives a boot.
struct Run {
    plan: Plan,
    model: Mutex<Model>,
    machine: Arc<Machine>,
    trace: Trace,
    clients: Vec<Mutex<ClientState>>,
    /// The running store, for whoever crashes it.
    store: Mutex<Option<Arc<MessageStore>>>,
    /// Tells the present process to stop in order; each has its own.
    stop: Mutex<Arc<Notify>>,
    opened: Notify,
    /// The faults are over: clients stop, one last one is served.
    quiet: AtomicBool,
    first_refusal: Mutex<Option<String>>,
    /// A bit of what was durable is another one: the store must not open.
    is_rotten: AtomicBool,
    /// A file of a queue is gone, and no start has made it good yet.
    is_lacking: AtomicBool,
}

struct ClientState {
    dice: Dice,
    left: u64,
    /// Consumers: the next offset of each queue.
    next: BTreeMap<(String, u32), u64>,
}

/// How a process of this scene ends by itself.
#[derive(Debug)]
enum End {
    Stopped,
    Refused,
}

pub async fn run(plan: Plan, trace: Trace) -> Outcome {
    let mut world = World::new(plan.seed, trace.clone());
    let machine = world.add_machine("store", scene::wall(&plan));
    let mut model = Model::new(scene::promise(&plan));
    model.retires = scene::retires(&plan);
    let clients = plan.clients.iter().enumerate().map(|(index, client)| {
        Mutex::new(ClientState {
            dice: Dice::new(plan.seed, &format!("client {index}")),
            left: client.get("count", 0),
            next: BTreeMap::new(),
        })
    });
    let run = Arc::new(Run {
        clients: clients.collect(),
        model: Mutex::new(model),
        machine,
        trace,
        store: Mutex::new(None),
        stop: Mutex::default(),
        opened: Notify::new(),
        quiet: AtomicBool::new(false),
        first_refusal: Mutex::new(None),
        is_rotten: AtomicBool::new(false),
        is_lacking: AtomicBool::new(false),
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
        let _ = lock(&self.run.machine.disk).create_dir_all(std::path::Path::new("/home"));
        lock(&self.run.machine.disk).sync_dir(std::path::Path::new("/"));
        // Only now: the world itself is not made by a failing disk.
        let faults = scene::disk_faults(&self.run.plan);
        lock(&self.run.machine.disk).faults = faults.clone();
        let mut process = self.boot();
        for fault in self.run.plan.faults.clone() {
            self.sleep_us(fault.after_us).await;
            if self.is_over() {
                return;
            }
            let machine = self.run.machine.clone();
            // What the last event changed ends with the next.
            {
                let mut disk = lock(&machine.disk);
                disk.faults = faults.clone();
                disk.quota = u64::MAX / 2;
            }
            if !machine.is_alive() {
                process = self.boot();
            }
            match fault.kind.as_str() {
                "pause" => {
                    machine.pause();
                    self.sleep_us(fault.value).await;
                    machine.resume();
                    self.run.trace.sometimes("process: paused");
                }
                "clock" => {
                    let jump = fault.value as i64 - 3_600_000;
                    machine.clock.change(|wall| wall.jump_ms += jump);
                    self.run.trace.sometimes(if jump < 0 { "clock: went back" } else { "clock: jumped ahead" });
                }
                "sync fails" => lock(&machine.disk).faults.sync_fails = 1_000_000,
                "stall" => {
                    lock(&machine.disk).faults.sync_us = (fault.value, fault.value);
                    self.run.trace.sometimes("disk: stalled");
                }
                "full" | "full for a while" => {
                    {
                        let mut disk = lock(&machine.disk);
                        disk.quota = disk.used_bytes();
                        self.run.trace.sometimes("disk: full");
                    }
                    if fault.kind != "full" {
                        self.sleep_us(fault.value).await;
                    }
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
                "rot" | "lose" => {
                    self.crash(&[if fault.value % 2 == 0 { Crash::Process } else { Crash::Power }]);
                    match fault.kind.as_str() {
                        "rot" => self.rot(fault.value).await,
                        _ => damage::lose(&self.run, fault.value),
                    }
                    process = self.boot();
                }
                "tear" => {
                    self.checkpoint_written().await;
                    self.crash(&[Crash::Power]);
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
        self.liveness(process).await;
    }

    fn is_over(&self) -> bool {
        !lock(&self.run.model).violations.is_empty() || !crate::run::panics().is_empty()
    }

    async fn sleep_us(&self, us: u64) {
        self.world.time.sleep(Duration::from_micros(us)).await;
    }

    fn boot(&self) -> Process<End> {
        let run = self.run.clone();
        let stop = Arc::new(Notify::new());
        *lock(&self.run.stop) = stop.clone();
        self.run.machine.boot(|env| process(env, run, stop))
    }

    fn crash(&mut self, kinds: &[Crash]) {
        let run = &self.run;
        let store = lock(&run.store).take();
        if let Some(store) = store.as_ref().filter(|_| run.machine.is_alive()) {
            self.check_age(store);
        }
        if run.machine.is_alive() && store.is_none() {
            run.trace.sometimes("crash: in recovery");
        }
        for kind in kinds {
            self.crashes += 1;
            self.power_losses += u64::from(*kind == Crash::Power);
            if *kind == Crash::Power {
                lock(&run.model).power_was_cut = true;
            }
            run.machine.crash(*kind);
        }
        if let Some(store) = &store {
            let mut model = lock(&run.model);
            model.flushed = model.flushed.max(store.flushed().get());
            if store.appended().0 > store.flushed().get() {
                run.trace.sometimes("crash: with unsynced records");
            }
        }
        if kinds.len() > 1 {
            run.trace.sometimes("crash: process, then power");
        }
    }

    /// Waits until the checkpoint stands written and not synced: few moments are shorter.
    async fn checkpoint_written(&self) {
        let path = std::path::Path::new(scene::ROOT).join("checkpoint");
        for _ in 0..TEAR_STEPS {
            let is_written = {
                let disk = lock(&self.run.machine.disk);
                disk.node(&path).is_some() && !disk.is_durable(&path, 0..4_096)
            };
            if is_written {
                return self.run.trace.sometimes("crash: with an unsynced checkpoint");
            }
            self.sleep_us(TEAR_STEP_US).await;
        }
    }

    /// A bit rots: the next start says so and changes nothing. Then it is whole again.
    async fn rot(&mut self, value: u64) {
        let Some(rotten) = damage::rot(&self.run, value) else { return };
        let faults = scene::change_faults(&self.run.machine.disk, |faults| *faults = Default::default());
        self.run.is_rotten.store(true, Ordering::SeqCst);
        let mut refused = self.boot();
        let ended = scene::within(&self.world, Duration::from_millis(LIVE_MS), refused.ended()).await;
        if ended.is_none() {
            lock(&self.run.model).violation(DAMAGE, "a store with damage is still being opened");
        }
        self.crash(&[Crash::Process]);
        self.run.is_rotten.store(false, Ordering::SeqCst);
        rotten.flip(&self.run);
        lock(&self.run.machine.disk).faults = faults;
    }

    /// Everything heals; then the store must open, take one last message from everyone, and keep all.
    async fn liveness(&mut self, mut process: Process<End>) {
        self.run.quiet.store(true, Ordering::SeqCst);
        {
            let mut disk = lock(&self.run.machine.disk);
            disk.faults = Default::default();
            disk.quota = u64::MAX / 2;
        }
        for round in 0..3 {
            if self.is_over() {
                return;
            }
            let alive = self.run.machine.is_alive();
            let broken = lock(&self.run.store).as_ref().is_some_and(|store| scene::must_restart(store));
            if !alive || broken {
                self.crash(&[Crash::Process]);
                process = self.boot();
            }
            let injected = lock(&self.run.machine.disk).injected;
            if lock(&self.run.store).is_none() {
                let opened =
                    scene::within(&self.world, Duration::from_millis(LIVE_MS), self.run.opened.notified()).await;
                if opened.is_none() && lock(&self.run.store).is_none() {
                    let why = lock(&self.run.first_refusal).clone().unwrap_or_else(|| "it says nothing".to_owned());
                    lock(&self.run.model).violation(LIVE, format!("the store did not open within {LIVE_MS} ms: {why}"));
                    return;
                }
            }
            self.disk_has_space().await;
            self.last_client(round).await;
            if self.is_over() {
                return;
            }
            match round {
                0 => {
                    lock(&self.run.stop).notify_one();
                    let ended = scene::within(&self.world, Duration::from_secs(20), process.ended()).await;
                    if !matches!(ended, Some(Some(End::Stopped))) && injected == lock(&self.run.machine.disk).injected {
                        lock(&self.run.model).violation(LIVE, format!("a stop in order ended with {ended:?}"));
                        return;
                    }
                    lock(&self.run.store).take();
                }
                _ => self.crash(&[Crash::Power]),
            }
            process = self.boot();
            self.sleep_us(1).await;
        }
        let opened = scene::within(&self.world, Duration::from_millis(LIVE_MS), self.run.opened.notified()).await;
        if opened.is_none() && lock(&self.run.store).is_none() {
            lock(&self.run.model).violation(LIVE, "the store did not open after the last power cut");
        }
    }

    /// A store that said that its disk is full notices that it is not.
    async fn disk_has_space(&self) {
        for _ in 0..LIVE_MS / 100 {
            let refusal = lock(&self.run.store).as_ref().and_then(|store| store.refusal());
            if refusal.is_none() {
                return;
            }
            self.run.trace.sometimes("store: waited for a disk that had been full");
            self.sleep_us(100_000).await;
        }
    }

    /// One message into one queue: acknowledged and readable within the time.
    async fn last_client(&self, round: u64) {
        let Some(store) = lock(&self.run.store).clone() else { return };
        let run = self.run.clone();
        let boot = run.machine.boots();
        let served = async {
            let ids = put_group(&run, &store, boot, "T0", 0, &[20, 0]).await;
            let dispatched = store.dispatched().reached(store.readable().get()).await.is_ok();
            ids && dispatched
        };
        match scene::within(&self.world, Duration::from_millis(LIVE_MS), served).await {
            Some(true) => {
                // What others have put since is in the files, and in the queues a moment later.
                let dispatched = store.dispatched().get();
                let mut log = scene::read_log(&lock(&self.run.machine.disk));
                let begin = store.log_begin().0;
                log.records.retain(|record| begin <= record.offset && record.end() <= dispatched);
                if self.run.model_promise() != Promise::Memory {
                    check_queues(&self.run, &store, &log);
                }
                if self.run.retires() {
                    self.queues_follow(&store).await;
                }
            }
            outcome => {
                let why = store.refusal().unwrap_or_else(|| "nothing".into());
                let text = format!("round {round}: a last message was not served: {outcome:?}; the store says {why}");
                lock(&self.run.model).violation(LIVE, text);
            }
        }
    }
}

impl Driver {
    /// Under ASYNC_FLUSH nothing stays in the page cache for longer than the intervals say, if nothing holds the disk up.
    fn check_age(&self, store: &MessageStore) {
        let run = &self.run;
        let config = store.config();
        let is_held_up =
            run.plan.faults.iter().any(|fault| matches!(&*fault.kind, "pause" | "stall" | "full" | "full for a while"));
        if run.model_promise() == Promise::Disk || is_held_up || lock(&run.machine.disk).injected > 0 {
            return;
        }
        let limit = Duration::from_millis(2 * config.flush_interval_ms + config.flush_thorough_ms) + AGE_SLACK;
        let Some(before) = self.world.time.now().checked_sub(limit) else { return };
        run.trace.sometimes("store: the age of what is not synced was looked at");
        let mut model = lock(&run.model);
        if let Some(id) = model.unsynced(run.machine.boots(), store.flushed().get(), before) {
            model.violation(LOST_SUFFIX, format!("message {id} was stored more than {limit:?} ago and is not synced"));
        }
    }

    /// Soon after segments have gone each queue begins with the first message that the log has for it.
    async fn queues_follow(&self, store: &MessageStore) {
        let mut lagging = None;
        for _ in 0..20 {
            let (begin, log) = (store.log_begin().0, scene::read_log(&lock(&self.run.machine.disk)));
            let mut firsts: BTreeMap<(&str, u32), u64> = BTreeMap::new();
            for record in log.records.iter().filter(|record| record.offset >= begin) {
                firsts.entry((&record.topic, record.queue_id)).or_insert(record.queue_offset);
            }
            let lags = firsts.into_iter().find(|((topic, queue_id), first)| {
                let (min, max) = (store.min_offset(topic, *queue_id).0, store.max_offset(topic, *queue_id).0);
                min != *first && max > *first
            });
            match lags {
                None => return,
                Some(((topic, queue_id), first)) => lagging = Some(format!("{topic}/{queue_id} and not at {first}")),
            }
            self.sleep_us(100_000).await;
        }
        let text = format!("two seconds after segments went a queue does not begin where the log does: {lagging:?}");
        lock(&self.run.model).violation(DERIVED, text);
    }
}

impl Run {
    fn retires(&self) -> bool {
        scene::retires(&self.plan)
    }

    fn model_promise(&self) -> Promise {
        lock(&self.model).promise
    }
}

/// The process: opens the store, checks what it finds, lets the clients at it, stops in order when told.
async fn process(env: Env, run: Arc<Run>, stop: Arc<Notify>) -> End {
    let boot = run.machine.boots();
    let config = scene::store_config(&scene::bounds_of(&run.plan, boot));
    let injected = lock(&run.machine.disk).injected;
    if !run.is_rotten.load(Ordering::SeqCst) && !run.is_lacking.load(Ordering::SeqCst) {
        scene::check_derived(&run.model, &run.trace, &run.machine.disk, |_| false);
    }
    let opened = MessageStore::open(&env, config).await;
    if run.is_rotten.load(Ordering::SeqCst) {
        match opened {
            Err(OpenError::Damaged { .. }) => run.trace.sometimes("recovery: damage was reported"),
            Err(error) => lock(&run.model).violation(DAMAGE, format!("damage is called something else: {error}")),
            Ok(_) => lock(&run.model).violation(DAMAGE, "a store opens with damage in what was durable"),
        }
        return End::Refused;
    }
    let store = match opened {
        Ok(store) => store,
        Err(error) => {
            run.trace.sometimes("recovery: refused");
            lock(&run.first_refusal).get_or_insert_with(|| error.to_string());
            if lock(&run.machine.disk).injected == injected {
                lock(&run.model).violation(RECOVERY, format!("boot {boot} refuses a store without damage: {error}"));
            }
            return End::Refused;
        }
    };
    let log = scene::read_log(&lock(&run.machine.disk));
    if log.begin > 0 {
        run.trace.sometimes("retention: the log begins further on");
    }
    run.is_lacking.store(false, Ordering::SeqCst);
    let recovered = *store.recovered();
    if recovered.rebuilt {
        run.trace.sometimes("recovery: queues and index made anew");
    }
    note_recovery(&run, &log, recovered.clean, recovered.log_end.0);
    lock(&run.model).recovered(&log, recovered.log_end.0, boot);
    check_queues(&run, &store, &log);
    *lock(&run.store) = Some(store.clone());
    run.opened.notify_one();
    for index in 0..run.plan.clients.len() {
        let (run, store, env) = (run.clone(), store.clone(), env.clone());
        let spawner = env.spawner.clone();
        let _ = match run.plan.clients[index].kind.as_str() {
            "producer" => spawner.task("producer", async move { produce(&env, &run, &store, boot, index).await }),
            _ => spawner.task("consumer", async move { consume(&env, &run, &store, index).await }),
        };
    }
    tokio::select! {
        biased;
        () = stop.notified() => {}
        panicked = store.died() => {
            lock(&run.model).violation(PANIC, panicked.to_string());
            return End::Refused;
        }
    }
    store.shutdown(Duration::from_secs(5)).await;
    End::Stopped
}

fn note_recovery(run: &Run, log: &log_image::LogImage, clean: bool, end: u64) {
    run.trace.sometimes(if clean { "recovery: after a clean stop" } else { "recovery: after a crash" });
    let model = lock(&run.model);
    let (mut cut, mut stayed) = (false, false);
    let found: std::collections::BTreeSet<u64> = log.records.iter().map(|record| record.offset).collect();
    for attempt in model.attempts.values().filter(|attempt| !attempt.acknowledged) {
        if let Some(place) = attempt.place {
            cut |= place.offset >= end;
            stayed |= found.contains(&place.offset);
        }
    }
    if cut {
        run.trace.sometimes("recovery: cut what was not acknowledged");
    }
    if stayed {
        run.trace.sometimes("recovery: kept what was not acknowledged");
    }
    if end > run.plan.get("segment_bytes", 64 << 10) {
        run.trace.sometimes("store: rolled to another segment");
    }
}

/// Every queue must give what the log has for it, and every file that is counted on must be there.
fn check_queues(run: &Run, store: &MessageStore, log: &log_image::LogImage) {
    if store.failure().is_none()
        && let Ok(lacking) = store.lacking()
        && let Some(lack) = lacking.first()
    {
        lock(&run.model).violation(DERIVED, format!("after a start {lack:?}"));
    }
    let queues: std::collections::BTreeSet<(String, u32)> =
        log.records.iter().map(|record| (record.topic.clone(), record.queue_id)).collect();
    for (topic, queue_id) in queues {
        let mut seen = Vec::new();
        let mut offset = store.min_offset(&topic, queue_id).0 as i64;
        loop {
            match read_queue(store, &topic, queue_id, offset) {
                Ok((records, next)) if !records.is_empty() => {
                    seen.extend(records);
                    offset = next;
                }
                // The log begins further on, the queue is about to follow.
                Ok((_, next)) if run.retires() && next > offset => offset = next,
                Ok(_) => break,
                Err(error) => {
                    // A disk that fails says nothing about the store.
                    run.trace.sometimes("store: a read failed");
                    let _ = error;
                    return;
                }
            }
        }
        lock(&run.model).compare_queue(log, &topic, queue_id, &seen);
    }
}

/// Messages from `offset` on, and where to go on.
fn read_queue(store: &MessageStore, topic: &str, queue_id: u32, offset: i64) -> std::io::Result<(Vec<Found>, i64)> {
    let get = Get { topic, queue_id, offset, count_max: 32, bytes_max: 1 << 20, filter: None };
    let got = store.get(&get)?;
    let mut records = Vec::new();
    if got.status == GetStatus::Found {
        for slice in &got.records {
            let mut rest = &slice[..];
            while !rest.is_empty() {
                let record = log_image::parse(rest).map_err(std::io::Error::other)?;
                rest = &rest[record.size as usize..];
                records.push(record);
            }
        }
    }
    Ok((records, got.next))
}

//! What all scenes share: a run's outcome, the faults of a plan put into disks and wires, reading a store's files.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use keelmq::store::{FlushMode, MessageStore, StoreConfig, retention::Policy};

use crate::{
    clock::Wall,
    derived_image::{self, Derived, Vouched},
    dice::Dice,
    disk::{self, Disk, storage::SharedDisk},
    log_image::{self, LogImage},
    model::{DAMAGE, DERIVED, Model, PANIC, Promise, Violation},
    network,
    plan::Plan,
    run,
    trace::Trace,
    world::World,
};

/// The store's directory on every simulated machine.
pub const ROOT: &str = "/home/store";

/// What a run has to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub violations: Vec<Violation>,
    /// Virtual time at the end of the run, or at the first violation.
    pub virtual_ms: u64,
    pub hash: u64,
    pub events: u64,
    pub counters: BTreeMap<&'static str, u64>,
    pub crashes: u64,
    pub power_losses: u64,
    pub sync_failures: u64,
    pub acknowledged: u64,
    pub checked: u64,
    /// The last events, only of a failed run.
    pub tail: String,
    /// Processor time.
    pub busy: Duration,
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere is reported as such; here the content still counts.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

pub fn flush_mode(plan: &Plan) -> FlushMode {
    match plan.get("flush", 0) {
        0 => FlushMode::Sync,
        1 => FlushMode::Async,
        _ => FlushMode::Pooled,
    }
}

pub fn promise(plan: &Plan) -> Promise {
    match flush_mode(plan) {
        FlushMode::Sync => Promise::Disk,
        FlushMode::Async => Promise::PageCache,
        FlushMode::Pooled => Promise::Memory,
    }
}

/// The bounds with which the `boot`-th process starts: in some runs others than those before it.
pub fn bounds_of(plan: &Plan, boot: u64) -> Plan {
    let mut plan = plan.clone();
    if plan.get("reconfigured", 0) > 0 && boot > 1 {
        plan.draw_bounds(&mut Dice::new(plan.seed, &format!("bounds {boot}")));
    }
    plan
}

pub fn store_config(plan: &Plan) -> StoreConfig {
    StoreConfig {
        flush: flush_mode(plan),
        segment_bytes: plan.get("segment_bytes", 64 << 10),
        queue_file_bytes: 20 * plan.get("queue_file_units", 64),
        segments_ahead: plan.get("segments_ahead", 1) as usize,
        upkeep_interval_ms: plan.get("upkeep_ms", 1_000),
        upkeep_behind_bytes: plan.get("upkeep_behind_bytes", 96 << 10),
        staged_max_bytes: plan.get("staged_max_bytes", 32 << 10),
        queue_files_open_max: plan.get("queue_files_open_max", 8) as usize,
        flush_interval_ms: plan.get("flush_interval_ms", 500),
        flush_thorough_ms: plan.get("flush_thorough_ms", 10_000),
        segment_retry_ms: 100,
        ..retaining(plan, StoreConfig::tiny(Path::new(ROOT)))
    }
}

/// Whether old segments go in this run.
pub fn retires(plan: &Plan) -> bool {
    plan.get("retention_age_ms", 0) > 0
}

fn retaining(plan: &Plan, config: StoreConfig) -> StoreConfig {
    // A full disk is noticed soon, and takes nothing by force.
    let config = StoreConfig {
        retention: Policy { forced: false, ..Policy::default() },
        retention_interval_ms: 200,
        presence_interval_ms: 3_000,
        ..config
    };
    if !retires(plan) {
        return config;
    }
    StoreConfig {
        retention: Policy {
            age_max_ms: plan.get("retention_age_ms", 0) as i64,
            hours: (0..24).collect(),
            batch_max: plan.get("retention_batch", 1) as usize,
            pause_ms: 3,
            ..Policy::default()
        },
        // Nothing goes before what was derived from it is durable.
        upkeep_thorough_ms: plan.get("upkeep_thorough_ms", 1_000),
        retention_first_ms: 0,
        ..config
    }
}

pub fn disk_faults(plan: &Plan) -> disk::Faults {
    disk::Faults {
        write_back: plan.chance("disk.write_back"),
        sync_fails: plan.chance("disk.sync_fails"),
        open_fails: plan.chance("disk.open_fails"),
        write_fails: plan.chance("disk.write_fails"),
        read_fails: plan.chance("disk.read_fails"),
        create_no_space: plan.chance("disk.create_no_space"),
        sync_us: (50, plan.get("disk.sync_max_us", 200)),
        sync_in_batches: plan.chance("disk.sync_in_batches"),
    }
}

pub fn network_faults(plan: &Plan) -> network::Faults {
    network::Faults {
        latency_us: (30, plan.get("net.latency_max_us", 100)),
        reset: plan.chance("net.reset"),
        connect_refused: plan.chance("net.connect_refused"),
        accept_fails: plan.chance("net.accept_fails"),
        tiny_pieces: plan.chance("net.tiny_pieces"),
        pieces: plan.chance("net.pieces"),
        buffer_bytes: plan.get("net.buffer_bytes", 64 << 10) as usize,
    }
}

pub fn wall(plan: &Plan) -> Wall {
    Wall {
        drift_per_million: match plan.get("clock.is_slow", 0) {
            0 => plan.get("clock.drift_per_million", 0) as i64,
            _ => -(plan.get("clock.drift_per_million", 0) as i64),
        },
        tick_ms: plan.get("clock.tick_ms", 1) as i64,
        ..Wall::default()
    }
}

/// The commit log as its files are now.
pub fn read_log(disk: &Disk) -> LogImage {
    let directory = PathBuf::from(ROOT).join("commitlog");
    let mut segments = BTreeMap::new();
    for path in disk.files().filter(|path| path.parent() == Some(&directory)) {
        let name = path.file_name().expect("a file has a name").to_string_lossy();
        if let Ok(base) = name.parse::<u64>()
            && name.len() == 20
        {
            segments.insert(base, disk.peek(&path).expect("it was listed"));
        }
    }
    log_image::read(&segments)
}

/// The queues and the index as their files are now.
fn read_derived(disk: &Disk, index_slots: u32) -> Derived {
    let mut derived = Derived { index_slots, ..Derived::default() };
    let (queues, index) = (Path::new(ROOT).join("consumequeue"), Path::new(ROOT).join("index"));
    derived.checkpoint = disk.peek(&Path::new(ROOT).join("checkpoint")).expect("the store has one");
    for path in disk.files() {
        let name = path.file_name().expect("a file has a name").to_string_lossy();
        let bytes = || disk.peek(&path).expect("it was listed");
        if path.parent() == Some(&index) && name.len() == 17 {
            derived.index.insert(name.clone().into_owned(), bytes());
        } else if let Ok(within) = path.strip_prefix(&queues)
            && let [topic, queue, _] = within.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>()[..].as_ref()
            && let (Ok(queue), Ok(base)) = (queue.parse(), name.parse())
        {
            derived.queues.entry((topic.clone().into_owned(), queue)).or_default().insert(base, bytes());
        }
    }
    derived
}

/// What the store's checkpoint vouches for, if it has one.
pub fn vouched(disk: &Disk) -> Option<Vouched> {
    derived_image::vouched(&disk.peek(&Path::new(ROOT).join("checkpoint")).ok()?)
}

/// A store that says it was stopped in order has queues and an index that one pass over its log would make.
pub fn check_derived(model: &Mutex<Model>, trace: &Trace, disk: &SharedDisk, is_deleted: impl Fn(&str) -> bool) {
    let disk = lock(disk);
    let (is_vouched, is_unclean) = (vouched(&disk).is_some(), disk.node(&Path::new(ROOT).join("abort")).is_some());
    if is_vouched && is_unclean {
        return;
    }
    let log = read_log(&disk);
    if !log.records.is_empty() && !is_vouched {
        lock(model).violation(DAMAGE, "the checkpoint no longer says up to where the log was durable");
    }
    if log.records.is_empty() || is_unclean {
        return;
    }
    let derived = read_derived(&disk, StoreConfig::tiny(Path::new(ROOT)).index_slots);
    trace.sometimes("files: compared with a rebuild");
    let mut model = lock(model);
    let levels = model.kinds.levels_ms.clone();
    if let Some(text) = derived_image::difference(&log, &derived, &levels, is_deleted) {
        model.violation(DERIVED, format!("after a stop in order {text}"));
    }
}

/// The file of the log that holds `offset`, and the place in it.
pub fn log_file(segment_bytes: u64, offset: u64) -> (PathBuf, u64) {
    let base = offset / segment_bytes * segment_bytes;
    (Path::new(ROOT).join("commitlog").join(format!("{base:020}")), offset - base)
}

/// Puts together what a run has to say.
pub fn outcome(world: &World, model: &Mutex<Model>, crashes: u64, power_losses: u64) -> Outcome {
    let mut model = lock(model);
    for panic in run::panics() {
        model.violation(PANIC, panic);
    }
    let (hash, events) = world.trace.digest();
    let counters = world.trace.counters();
    let failed = ["disk: sync failed", "disk: directory sync failed"];
    Outcome {
        violations: model.violations.clone(),
        virtual_ms: world.time.now().as_millis() as u64,
        hash,
        events,
        sync_failures: failed.iter().filter_map(|name| counters.get(name)).sum(),
        counters,
        crashes,
        power_losses,
        acknowledged: model.acknowledged,
        checked: model.checked,
        busy: Duration::ZERO,
        tail: if model.violations.is_empty() { String::new() } else { world.trace.tail() },
    }
}

/// Whether a store has said that it must be started again. A full disk alone is no reason.
pub fn must_restart(store: &MessageStore) -> bool {
    store.failure().is_some() || store.refusal().is_some_and(|reason| !reason.contains("disk is full"))
}

/// Changes the disk's faults and gives back what they were.
pub fn change_faults(disk: &SharedDisk, change: impl FnOnce(&mut disk::Faults)) -> disk::Faults {
    let mut disk = lock(disk);
    let before = disk.faults.clone();
    change(&mut disk.faults);
    before
}

/// Waits for the shorter of `future` and `limit`; `None` is the limit.
pub async fn within<T>(world: &World, limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    let sleep = world.time.sleep(limit);
    tokio::select! { biased; value = future => Some(value), () = sleep => None }
}

/// Shared by a run's parts.
pub type Shared<T> = Arc<Mutex<T>>;

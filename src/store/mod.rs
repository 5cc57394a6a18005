//! The message store: a commit log and what is derived from it. Knows disks, nothing of sockets, subscribers or groups.
//!
//! `MessageStore` is the only door. Always `dispatched ≤ readable ≤ appended`, where readable is flushed under
//! SYNC_FLUSH and committed under ASYNC_FLUSH; consume queues and index hold nothing that the log cannot rebuild.

pub mod allocator;
pub mod checkpoint;
pub mod commit_log;
pub mod config;
pub mod config_file;
pub mod consume_queue;
pub mod flush;
pub mod foreign;
pub mod index;
pub mod index_file;
mod next_offsets;
pub mod presence;
pub mod queue_files;
pub mod queues;
pub mod read;
pub mod record;
pub mod recovery;
pub mod repair;
pub mod reput;
pub mod retention;
pub mod segment;
pub mod slow;
pub mod stop;
mod upkeep;
pub mod verify;

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use self::{
    checkpoint::{Checkpoint, CheckpointFile, Known},
    commit_log::CommitLog,
    consume_queue::{ConsumeQueue, OpenQueueError},
    flush::Flush,
    index::{Index, Trust},
    index_file::Shape,
    presence::Lacking,
    queue_files::QueueFiles,
    queues::Queues,
    reput::{Dispatcher, Reput},
    retention::{Policy, Retainer},
    segment::Segments,
    stop::{Stop, Stopping},
    upkeep::Upkeep,
};
pub use self::{
    commit_log::{AppendError, Appended},
    config::{FlushMode, StoreConfig},
    read::{Get, GetStatus, Got, Queried},
    recovery::{OpenError, Recovered},
    reput::{Arrival, OnArrival},
};
use crate::{
    env::{Clock, Env, Held, Open, Panicked, Spawner, Storage, Task, spawner::first_panic, timeout},
    model::{BatchItem, LogOffset, Message, QueueOffset, Watermark, message::TOPIC_V1_MAX_BYTES},
};

pub struct MessageStore {
    config: StoreConfig,
    clock: Arc<dyn Clock>,
    storage: Arc<dyn Storage>,
    log: Arc<CommitLog>,
    flush: Arc<Flush>,
    reput: Arc<Reput>,
    queues: Arc<Queues>,
    retainer: Arc<Retainer>,
    recovered: Recovered,
    /// A message of version 2 was written since the start, and it was said.
    has_version_2: AtomicBool,
    services: Mutex<Option<Services>>,
    _lock: Box<dyn Held>,
}

/// The running services, in the order in which they are stopped.
struct Services {
    upkeep: (Stop, Task),
    others: Stop,
    tasks: Vec<Task>,
}

impl MessageStore {
    /// Locks the directory, recovers, starts the services. What came before is readable when this returns, and the
    /// queues count on from it.
    pub async fn open(env: &Env, config: StoreConfig) -> Result<Arc<Self>, OpenError> {
        check(&config)?;
        let storage = &env.storage;
        let root = config.root.as_path();
        // What is not ours is left untouched: not even a lock is put there.
        foreign::check(&**storage, root)?;
        make_directory(&**storage, root).await?;
        // Before anything else is read or changed.
        let lock = storage.lock(&root.join("lock"), &format!("lock {}", env.host.pid))?;
        let queue_root = root.join("consumequeue");
        let had_queues = storage.exists(&queue_root);
        for directory in [&config.commit_log, &queue_root, &root.join("index")] {
            make_directory(&**storage, directory).await?;
        }
        let abort = root.join("abort");
        let clean = plant!(UncleanStopIgnored) || !storage.exists(&abort);
        mark_running(&**storage, &abort, env.host.pid).await?;
        let (mut checkpoint_file, mut checkpoint) = CheckpointFile::open(&**storage, &root.join("checkpoint")).await?;
        if !clean && !plant!(KilledCheckpointTrusted) {
            checkpoint_file.confirm(&checkpoint).await?;
        }
        let (segments, dropped) = recovery::load_segments(&**storage, &config)?;
        check_size(&config, segments.size())?;
        let mut begin = recovery::begin(&segments, &checkpoint, clean)?;
        let log_begin = segments.first().map_or(begin, |first| first.base);
        let derived = match had_queues || begin == log_begin {
            true => derive(env, &config, &segments, &checkpoint, begin, clean),
            false => Err(OpenError::QueueLacks(format!("{} is missing", queue_root.display()))),
        };
        let Derived { dispatcher, mut recovered, end, last_store_timestamp } = match derived {
            Err(OpenError::QueueLacks(what)) => {
                tracing::warn!("{what}: consume queues and index are made anew from the log, all of which is read");
                checkpoint_file.forget_derived(&mut checkpoint, log_begin).await?;
                begin = log_begin;
                let derived = derive(env, &config, &segments, &checkpoint, begin, false)?;
                Derived { recovered: Recovered { clean, rebuilt: true, ..derived.recovered }, ..derived }
            }
            derived => derived?,
        };
        let queues = dispatcher.queues.clone();
        let wipe = !clean || dropped || checkpoint.known.is_none_or(|known| known.flushed != end);
        let segments = recovery::settle(&**storage, &segments, begin, end, wipe).await?;
        (recovered.log_end, recovered.wiped) = (end, wipe);

        let tail = segments.find(end);
        let next = segments.last().map_or(end, |last| last.end());
        let allocator = allocator::Allocator::new(
            storage.clone(),
            env.clock.clone(),
            &config.commit_log,
            segments.size(),
            next,
            config.segments_ahead,
            config.segment_retry_ms,
        );
        let unreserved = match &tail {
            // A segment that Java made is sparse.
            Some(segment) => segment.file.reserve(end - segment.base..segment.size).err(),
            None => None,
        };
        let log = CommitLog::new(&config, env.clock.clone(), segments, allocator, tail, end, last_store_timestamp);
        if let Some(error) = unreserved {
            let reason = format!("the space of the last segment cannot be reserved: {error}");
            tracing::error!("{reason}; messages are served, sends are refused. Free space and start again");
            log.close(&reason);
        }
        for queue in queues.all() {
            let next = QueueOffset(queue.max().0.saturating_sub(u64::from(plant!(QueueOffsetReused))));
            log.set_next_queue_offset(&queue.topic, queue.id, next);
        }
        let flush = Flush::new(log.clone(), env.clock.clone(), config.clone());
        let from = end + u64::from(plant!(ReputSkipsAfterTruncation) && wipe);
        let reput = Reput::new(
            log.segments.clone(),
            dispatcher,
            flush.readable().clone(),
            config.reput_chunk_bytes,
            from,
            last_store_timestamp,
        );
        let settled = Watermark::new(checkpoint.known.map_or(0, |known| known.derived.min(end).0));
        // Everything up to the end was synced just now; queues and index only up to where they were.
        let derived = checkpoint.known.map_or(begin, |known| known.derived).min(end);
        let check_from = checkpoint.known.map_or(begin, |known| known.check_from).min(derived);
        let known = Some(Known { flushed: end, derived, check_from });
        let is_news = checkpoint.known != known;
        checkpoint.known = known;
        // From here on what stands below the end is no torn tail, and each record is one of ours and known to be text.
        if is_news {
            checkpoint_file.save(&checkpoint).await?;
        }
        let upkeep = Upkeep {
            storage: storage.clone(),
            clock: env.clock.clone(),
            config: config.clone(),
            log: log.clone(),
            reput: reput.clone(),
            file: checkpoint_file,
            checkpoint,
            settled: settled.clone(),
            abort,
            boundaries: [check_from, derived].into(),
        };
        let retainer = Retainer::new(
            storage.clone(),
            env.clock.clone(),
            log.clone(),
            reput.clone(),
            settled,
            &queue_root,
            &config,
        );
        let services = start(&env.spawner, &log, &flush, &reput, &retainer, upkeep);
        Ok(Arc::new(MessageStore {
            config,
            clock: env.clock.clone(),
            storage: storage.clone(),
            log,
            flush,
            reput,
            queues,
            retainer,
            recovered,
            has_version_2: AtomicBool::new(false),
            services: Mutex::new(Some(services)),
            _lock: lock,
        }))
    }

    /// Appends a message. It may be acknowledged once `promise()` reaches `end`; call `turn_end` before waiting.
    pub fn put(&self, message: &Message<'_>) -> Result<Appended, AppendError> {
        self.put_within(message, self.config.body_max_bytes)
    }

    /// Appends once more what came from the log: it was taken under the limits of its time, and a smaller
    /// maxMessageSize since then must not lose it.
    pub fn put_again(&self, message: &Message<'_>) -> Result<Appended, AppendError> {
        self.put_within(message, u64::MAX)
    }

    /// Appends a batch: all of it or nothing.
    pub fn put_batch(
        &self,
        shared: &Message<'_>,
        items: &[BatchItem<'_>],
        each: impl FnMut(Appended),
    ) -> Result<(), AppendError> {
        self.log.append_batch(shared, items, each)?;
        self.say_version_2(shared.topic);
        Ok(())
    }

    fn say_version_2(&self, topic: &str) {
        if topic.len() > TOPIC_V1_MAX_BYTES && !self.has_version_2.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "{topic} is longer than {TOPIC_V1_MAX_BYTES} bytes: its messages are written in version 2, which RocketMQ \
                 reads from 5.0 on. A 4.x broker can no longer take this store over"
            );
        }
    }

    /// After `AppendError::SegmentFull`: waits until it is worth trying again.
    pub async fn segment_ready(&self) -> Result<(), AppendError> {
        self.log.segment_ready().await
    }

    /// Appends a message of the broker's own, waiting for room, and waits until the promise covers it.
    pub async fn put_kept(&self, message: &Message<'_>) -> Result<Appended, AppendError> {
        let appended = self.put_waiting(message, self.config.body_max_bytes).await?;
        self.kept(appended.end).await?;
        Ok(appended)
    }

    /// `put_again`, waiting for room but not for the disk.
    pub async fn put_again_waiting(&self, message: &Message<'_>) -> Result<Appended, AppendError> {
        self.put_waiting(message, u64::MAX).await
    }

    async fn put_waiting(&self, message: &Message<'_>, body_max: u64) -> Result<Appended, AppendError> {
        loop {
            match self.put_within(message, body_max) {
                Err(AppendError::SegmentFull) => self.segment_ready().await?,
                Err(AppendError::PoolExhausted) => drop(self.log.commit()?),
                outcome => return outcome,
            }
        }
    }

    fn put_within(&self, message: &Message<'_>, body_max: u64) -> Result<Appended, AppendError> {
        let appended = self.log.append(message, body_max)?;
        self.say_version_2(message.topic);
        Ok(appended)
    }

    /// Ends the turn and waits until the promise covers what was put up to `end`.
    pub async fn kept(&self, end: LogOffset) -> Result<(), AppendError> {
        self.turn_end();
        self.promise().reached(end.0).await.map_err(|failed| AppendError::Closed { reason: failed.reason })
    }

    /// The end of a turn in which something was put.
    pub fn turn_end(&self) {
        self.flush.turn_end();
    }

    /// For how long the kernel has been taking what is being written to the log.
    pub fn writing_for(&self) -> Duration {
        self.log.writing_for()
    }

    /// The end of a turn of a connection, which calls `turn_over` when its answers are written.
    pub fn turn_end_before_answers(&self) {
        self.flush.turn_end_quietly();
    }

    /// Under ASYNC_FLUSH, derives from the log what the turn appended: the connection's worker is awake anyway, and
    /// waking the service for a message costs more than deriving. Under SYNC_FLUSH nothing may be derived yet.
    pub fn turn_over(&self) {
        if self.config.flush == FlushMode::Async {
            self.reput.follow();
        }
    }

    /// What an acknowledgement waits for.
    pub fn promise(&self) -> &Arc<Watermark> {
        self.flush.promise()
    }

    /// Returns when no append stands in the way of the next one: how long that takes is how busy the log is.
    pub fn await_append(&self) {
        self.log.next_queue_offset("", 0);
    }

    /// Makes everything put before the call durable, whatever the flush mode.
    pub async fn flush_all(&self) -> Result<(), AppendError> {
        let target = self.flush.demand();
        self.log.flushed.reached(target.0).await.map_err(|failed| AppendError::Closed { reason: failed.reason })
    }

    /// Who is told of arrivals; set once, before messages are accepted.
    pub fn on_arrival(&self, callback: OnArrival) {
        self.reput.on_arrival(callback);
    }

    pub fn min_offset(&self, topic: &str, queue_id: u32) -> QueueOffset {
        self.queues.find(topic, queue_id).map_or(QueueOffset(0), |queue| queue.min())
    }

    /// One past the newest message that may be shown.
    pub fn max_offset(&self, topic: &str, queue_id: u32) -> QueueOffset {
        self.queues.find(topic, queue_id).map_or(QueueOffset(0), |queue| queue.max())
    }

    /// Whether the message at `offset` is near enough to the log's end to be in memory (an empty queue counts as that).
    pub fn is_in_memory(&self, topic: &str, queue_id: u32, offset: QueueOffset) -> bool {
        let Some(queue) = self.queues.find(topic, queue_id) else { return true };
        match queue.units(offset, 1).map(|units| units.first().copied()) {
            Ok(Some(unit)) => self.readable().get().saturating_sub(unit.offset.0) <= self.config.memory_behind_bytes,
            Ok(None) => true,
            Err(_) => false,
        }
    }

    pub fn queues(&self) -> &Queues {
        &self.queues
    }

    pub fn index(&self) -> Option<&Arc<Index>> {
        self.reput.dispatcher().index.as_ref()
    }

    pub fn segments(&self) -> &Segments {
        &self.log.segments
    }

    pub fn log_begin(&self) -> LogOffset {
        self.log.segments.first().map_or(LogOffset(0), |first| first.base)
    }

    pub fn appended(&self) -> LogOffset {
        self.log.appended()
    }

    pub fn flushed(&self) -> &Arc<Watermark> {
        &self.log.flushed
    }

    pub fn dispatched(&self) -> &Arc<Watermark> {
        &self.reput.dispatched
    }

    /// Readers stop here.
    pub fn readable(&self) -> &Arc<Watermark> {
        self.flush.readable()
    }

    pub fn config(&self) -> &StoreConfig {
        &self.config
    }

    pub fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// Why sends are refused, if they are: a failed disk, a shutdown, or a full disk in front of the next segment.
    pub fn refusal(&self) -> Option<Arc<str>> {
        self.log.refusal()
    }

    /// Why nothing is promised any more, if a write or sync failed.
    pub fn failure(&self) -> Option<Arc<str>> {
        self.log.flushed.failure().map(|failed| failed.reason)
    }

    /// Where the consume queues are.
    pub fn queue_root(&self) -> std::path::PathBuf {
        self.config.root.join("consumequeue")
    }

    /// Another choice of what may go and when; holds from now on.
    pub fn set_retention(&self, policy: Policy) {
        self.retainer.set_policy(policy);
    }

    /// Lets expired segments go now, whatever the hour; it is tried for some rounds.
    pub fn delete_expired(&self) {
        self.retainer.ask();
    }

    /// Takes queue and index files away that hold nothing of the log any more. A queue's last file stays: it knows what
    /// the next message's offset is.
    pub fn clean_expired_queues(&self) -> std::io::Result<()> {
        self.retainer.follow()
    }

    /// The files of log and queues that are not on the disk in their full length though they are counted on.
    pub fn lacking(&self) -> std::io::Result<Vec<Lacking>> {
        presence::lacking(&*self.storage, &self.log.segments, &self.queues)
    }

    /// Removes the queues of topics for which `is_known` is false, durably; the names of those removed.
    pub async fn remove_unused_topics(&self, is_known: impl Fn(&str) -> bool) -> std::io::Result<Vec<String>> {
        let mut unused: Vec<String> = self.queues.all().iter().map(|queue| queue.topic.to_string()).collect();
        unused.dedup();
        unused.retain(|topic| topic != reput::SCHEDULE_TOPIC && !is_known(topic));
        for topic in &unused {
            self.remove_topic(topic).await?;
        }
        Ok(unused)
    }

    /// Removes a topic's queues, durably; its records stay in the log until retention takes them.
    pub async fn remove_topic(&self, topic: &str) -> std::io::Result<()> {
        self.log.forget_topic(topic);
        self.queues.remove(topic)?;
        self.queues.sync_names().await.map_err(std::io::Error::other)
    }

    /// Completes when a service panicked: the process must end, there is no half-dead broker.
    pub async fn died(&self) -> Panicked {
        let tasks = {
            let services = self.services.lock().expect("nothing panics while it is held");
            let running = services.iter().flat_map(|services| services.tasks.iter().chain([&services.upkeep.1]));
            running.cloned().collect()
        };
        first_panic(tasks).await
    }

    /// Refuses new messages, makes everything durable, derives the rest, removes `abort`, ends the services. Waits at
    /// most `within` for the derived part, which a later start can do as well.
    pub async fn shutdown(&self, within: Duration) {
        self.log.close("the message store has been shut down");
        let Some(services) = self.services.lock().expect("nothing panics while it is held").take() else { return };
        let settled = async {
            // A failure was said when it happened; there is nothing to be saved any more.
            if self.flush_all().await.is_ok() {
                let _ = self.reput.dispatched.reached(self.log.appended().0).await;
            }
        };
        if timeout(&*self.clock, within, settled).await.is_err() {
            tracing::warn!("the store was not done after {} ms", within.as_millis());
        }
        let (stop, upkeep) = services.upkeep;
        stop.stop();
        // A panic in the last pass is said by the panic itself; `abort` stays, so the next start checks the store.
        let _ = upkeep.finished().await;
        services.others.stop();
        for task in services.tasks {
            let _ = task.finished().await;
        }
    }
}

fn start(
    spawner: &Arc<dyn Spawner>,
    log: &Arc<CommitLog>,
    flush: &Arc<Flush>,
    reput: &Arc<Reput>,
    retainer: &Arc<Retainer>,
    upkeep: Upkeep,
) -> Services {
    let (others, stopping) = Stop::new();
    let (stop_upkeep, upkeep_stopping) = Stop::new();
    let tasks = vec![
        spawner.service("allocator", log.allocator.clone().run(stopping.clone())),
        spawner.service("flush", flush.clone().run(stopping.clone())),
        spawner.service("reput", run_reput(reput.clone(), log.clone(), stopping.clone())),
        spawner.service("retention", retainer.clone().run(stopping)),
    ];
    Services { upkeep: (stop_upkeep, spawner.service("upkeep", upkeep.run(upkeep_stopping))), others, tasks }
}

/// What is derived from the log, up to the end that was found.
struct Derived {
    dispatcher: Dispatcher,
    recovered: Recovered,
    end: LogOffset,
    /// Of the last record.
    last_store_timestamp: i64,
}

/// Opens queues and index, believing what is below `begin`, and completes them from the log.
fn derive(
    env: &Env,
    config: &StoreConfig,
    segments: &Segments,
    checkpoint: &Checkpoint,
    begin: LogOffset,
    clean: bool,
) -> Result<Derived, OpenError> {
    let (queue_root, index_root) = (config.root.join("consumequeue"), config.root.join("index"));
    let log_begin = segments.first().map_or(begin, |first| first.base);
    let files = QueueFiles::new(env.storage.clone(), config.queue_file_bytes, config.queue_files_open_max);
    let is_of_log = |queue: &ConsumeQueue, at, unit| recovery::is_unit_of(segments, queue, at, unit);
    let queues = Queues::open(&queue_root, files, begin, log_begin, &is_of_log).map_err(|error| match error {
        OpenQueueError::Lacks(what) => OpenError::QueueLacks(what),
        OpenQueueError::Io(error) => OpenError::io("cannot open the consume queues of", &queue_root)(error),
    })?;
    let index = open_index(env, config, &index_root, clean, checkpoint, begin)?;
    let dispatcher = Dispatcher { queues, index, delay_levels_ms: config.delay_levels_ms.clone() };
    let mut recovered = Recovered { clean, log_begin, ..Recovered::default() };
    let (end, last_store_timestamp) =
        recovery::replay(&*env.clock, segments, checkpoint, begin, config, &dispatcher, &mut recovered)?;
    if let Some(index) = dispatcher.index.as_ref().filter(|_| !plant!(IndexAheadOfLog)) {
        index.truncate(end).map_err(OpenError::io("cannot cut the index of", &index_root))?;
    }
    Ok(Derived { dispatcher, recovered, end, last_store_timestamp })
}

/// The index, if there is to be one. It is believed as far as the checkpoint or, after a clean stop, Java vouches for it.
fn open_index(
    env: &Env,
    config: &StoreConfig,
    directory: &Path,
    clean: bool,
    checkpoint: &Checkpoint,
    begin: LogOffset,
) -> Result<Option<Arc<Index>>, OpenError> {
    if !config.index {
        return Ok(None);
    }
    let shape = Shape { slots: config.index_slots, entries: config.index_entries };
    let trust = match (clean, checkpoint.known) {
        (true, _) => Trust::All,
        (false, _) if plant!(IndexAheadOfLog) => Trust::All,
        (false, Some(_)) => Trust::Below(begin),
        (false, None) => Trust::Perhaps(begin),
    };
    let opened = Index::open(env.storage.clone(), env.clock.clone(), directory, shape, trust);
    Ok(Some(opened.map_err(OpenError::io("cannot open the index of", directory))?))
}

/// A reput that cannot go on closes the log: what cannot be consumed must not be accepted.
async fn run_reput(reput: Arc<Reput>, log: Arc<CommitLog>, mut stopping: Stopping) {
    if let Err(error) = reput.run(stopping.clone()).await {
        log.fail(&error.to_string());
        stopping.stopped().await;
    }
}

/// Makes a directory whose name survives a power cut, with everything in it.
async fn make_directory(storage: &dyn Storage, directory: &Path) -> Result<(), OpenError> {
    let missing: Vec<&Path> = directory.ancestors().take_while(|path| !storage.exists(path)).collect();
    storage.create_dir_all(directory).map_err(OpenError::io("cannot create", directory))?;
    for parent in missing.iter().filter_map(|path| path.parent()) {
        storage.sync_dir(parent).await?;
    }
    // Whoever made the others may have been killed before this; where strangers made them, they may be closed to us.
    for parent in directory.ancestors().skip(1 + missing.len()) {
        let _ = storage.sync_dir(parent).await;
    }
    Ok(())
}

/// Writes `abort`, durably, before recovery changes anything: present at a start it says that the stop was not clean.
async fn mark_running(storage: &dyn Storage, abort: &Path, pid: u32) -> Result<(), OpenError> {
    let failed = OpenError::io("cannot write", abort);
    let file = storage.open(abort, Open::Sparse { len: 0 }).map_err(&failed)?;
    file.write(0, &[pid.to_string().as_bytes()]).map_err(&failed)?;
    file.sync().await?;
    Ok(storage.sync_dir(abort.parent().expect("abort lies in the store's directory")).await?)
}

/// Choices that would lose messages or cannot work are refused before anything is touched.
fn check(config: &StoreConfig) -> Result<(), OpenError> {
    if config.index && (config.index_slots == 0 || config.index_entries < 2) {
        return Err(OpenError::Config(format!(
            "maxHashSlotNum={} and maxIndexNum={}: an index file needs at least a slot and two entries",
            config.index_slots, config.index_entries
        )));
    }
    if !config.queue_file_bytes.is_multiple_of(consume_queue::UNIT_BYTES) || config.queue_file_bytes == 0 {
        return Err(OpenError::Config(format!(
            "mappedFileSizeConsumeQueue={} is not a multiple of the 20 bytes of a unit",
            config.queue_file_bytes
        )));
    }
    check_size(config, config.segment_bytes)
}

fn check_size(config: &StoreConfig, segment: u64) -> Result<(), OpenError> {
    // A record's overhead, topic and properties fit 64 KiB.
    let record_max = config.body_max_bytes + (64 << 10);
    if segment < record_max.min(config.body_max_bytes + 33_500) {
        return Err(OpenError::Config(format!(
            "a message of maxMessageSize={} bytes does not fit a segment of mappedFileSizeCommitLog={segment} bytes: \
             make the segment larger or the message smaller",
            config.body_max_bytes
        )));
    }
    Ok(())
}

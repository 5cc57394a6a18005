//! Asks producers what became of their half messages (39): by the clock, the oldest first, each as often as
//! transactionCheckMax says; what stays open longer is given up and kept in a topic of its own. Before the broker accepts
//! anything, it finds out which transactions are open.
//! Source of the rules: TransactionalMessageServiceImpl of Apache RocketMQ 4.9.7.

use std::{
    collections::BTreeSet,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;

use super::{
    consumer_offsets::ConsumerOffsets,
    core::Core,
    half::{self, GROUP, QUEUE},
    processor::end_transaction,
    topics::{CHECK_MAX_TOPIC, HALF_OP_TOPIC, HALF_TOPIC},
    transaction::{Begin, Claim, Due, Progress, Transactions},
};
use crate::{
    model::{
        OwnedMessage, QueueOffset,
        properties::{self, name},
    },
    protocol::body::{TopicConfig, topic::perm},
    store::{AppendError, Appended, Get, GetStatus, MessageStore, record::Record, stop::Stopping},
};

/// Messages read or asked about at a time.
const BATCH: usize = 32;
/// A round ends after this long; the next one goes on (MAX_PROCESS_TIME_LIMIT).
const ROUND_MAX: Duration = Duration::from_secs(60);
const HOUR_MS: i64 = 3_600_000;

/// Why a round ended early; the next one tries again.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error("the store cannot be read: {0}")]
    Read(#[from] io::Error),
    #[error("the store accepts nothing: {0}")]
    Append(#[from] AppendError),
}

/// Finds the open transactions: the half messages behind the stored progress that no op message names.
pub fn restore(store: &MessageStore, offsets: &ConsumerOffsets, pending_max: usize) -> io::Result<Transactions> {
    let stored = |topic| {
        let offset = offsets.query(topic, GROUP, QUEUE as i32).unwrap_or(0).max(0) as u64;
        QueueOffset(offset).clamp(store.min_offset(topic, QUEUE), store.max_offset(topic, QUEUE))
    };
    let from = Progress { halves: stored(HALF_TOPIC), ops: stored(HALF_OP_TOPIC) };
    let table = Transactions::new(pending_max, from);
    let mut done = BTreeSet::new();
    let ops_end = read(store, HALF_OP_TOPIC, from.ops, |op| {
        done.extend(half::named_by(op));
        true
    })?;
    let halves_end = read(store, HALF_TOPIC, from.halves, |record| {
        let half = half::summary(record);
        let is_done = done.contains(&half.place) || done.contains(&half.root);
        if is_done {
            // Its later places are done, too.
            done.insert(half.root);
        }
        table.restore(half, is_done);
        true
    })?;
    table.restored(halves_end);
    if table.open_count() > 0 {
        tracing::info!("{} transactions are open", table.open_count());
    }
    table.mark_era(halves_end, ops_end);
    Ok(table)
}

/// Shows the queue's records from `from` on until it ends or `each` has enough, and says where that was. A damaged
/// record is said and passed over: it must not hide those behind it.
fn read(
    store: &MessageStore,
    topic: &str,
    from: QueueOffset,
    mut each: impl FnMut(&Record<'_>) -> bool,
) -> io::Result<QueueOffset> {
    let mut at = from.0 as i64;
    let mut count_max = BATCH as u32;
    loop {
        let get = Get { topic, queue_id: QUEUE, offset: at, count_max, bytes_max: u64::MAX, filter: None };
        let got = match store.get(&get) {
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::InvalidData && count_max > 1 => {
                count_max = 1;
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                tracing::error!("message {at} of {topic} is passed over: {error}");
                at += 1;
                continue;
            }
            Err(error) => return Err(error),
        };
        match got.status {
            GetStatus::Found => {
                for record in got.records.iter().flat_map(|slice| half::records(slice)) {
                    if !each(&record) {
                        return Ok(record.queue_offset);
                    }
                }
            }
            GetStatus::OffsetTooSmall | GetStatus::MessageWasRemoving | GetStatus::NoMatchedMessage => {}
            _ => return Ok(QueueOffset(at as u64)),
        }
        if got.next <= at {
            return Ok(QueueOffset(at as u64));
        }
        at = got.next;
    }
}

/// The service. Its clock is transactionCheckInterval.
pub async fn run(core: Arc<Core>, mut stopping: Stopping) {
    let asker = Asker { core, turn: AtomicUsize::new(0) };
    loop {
        let interval = Duration::from_millis(asker.core.config().transaction_check_interval_ms);
        let tick = asker.core.env.clock.sleep(interval);
        tokio::select! { biased; () = stopping.stopped() => return, () = tick => {} }
        if let Err(error) = asker.round(&stopping).await {
            tracing::error!("half messages were not all looked through: {error}");
        }
        asker.note_progress();
    }
}

struct Asker {
    core: Arc<Core>,
    /// Whose turn it is of a group's producers.
    turn: AtomicUsize,
}

/// A half that was stored once more: when that is durable, its producer is asked about it.
struct Again {
    claim: Claim,
    message: OwnedMessage,
    appended: Appended,
    is_asked: bool,
}

impl Asker {
    async fn round(&self, stopping: &Stopping) -> Result<(), RoundError> {
        let core = &self.core;
        let table = &core.transactions;
        self.discover()?;
        let until = if plant!(FullTableStopsAtHorizon) { table.horizon() } else { table.end() };
        let begun = core.env.clock.monotonic();
        let mut from = QueueOffset(0);
        while !stopping.is_stopping() && core.env.clock.monotonic() - begun < ROUND_MAX {
            let mut stored = Vec::new();
            let mut outcome = Ok(());
            let mut looked_at = 0;
            while looked_at < BATCH && outcome.is_ok() {
                let timeout_ms = core.config().transaction_timeout_ms as i64;
                let Some(due) = table.next_due(from, until, core.now_ms(), timeout_ms) else { break };
                from = due.half.place + 1;
                looked_at += 1;
                // Somebody may have taken it in between: it is in good hands.
                let Begin::Open(claim) = table.begin(due.half.root) else { continue };
                match self.treat(due, claim).await {
                    Ok(again) => stored.extend(again),
                    Err(error) => outcome = Err(error),
                }
            }
            self.ask(stored).await?;
            outcome?;
            if looked_at == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Looks at the half messages that came since the last round.
    fn discover(&self) -> io::Result<()> {
        let core = &self.core;
        let table = &core.transactions;
        let ops = core.store.max_offset(HALF_OP_TOPIC, QUEUE);
        // After the op messages: those that were read concern halves that are there already.
        let halves = core.store.max_offset(HALF_TOPIC, QUEUE);
        let end = read(&core.store, HALF_TOPIC, table.horizon(), |record| {
            let has_room = !table.is_full();
            if has_room {
                table.discover(half::summary(record));
            }
            has_room
        })?;
        table.skip_to(end);
        if table.is_full() {
            let count = table.open_count();
            tracing::warn!("{count} transactions are open (transactionsPendingMax); those behind them must wait");
        }
        table.mark_era(halves, ops);
        Ok(())
    }

    /// Does what is due about one half. The claim is given back, unless the half was stored again.
    async fn treat(&self, due: Due, claim: Claim) -> Result<Option<Again>, RoundError> {
        let table = &self.core.transactions;
        match self.step(due, claim).await {
            Ok(None) => {
                table.finish(claim.root);
                Ok(None)
            }
            Ok(again) => Ok(again),
            Err(error) => {
                table.release(claim.root, claim.is_delivered);
                match error {
                    // It is this half's alone: those behind it have their turn.
                    RoundError::Read(error) => {
                        tracing::error!(
                            "half message {} cannot be looked at, its producer is not asked in this round: {error}",
                            due.half.place
                        );
                        Ok(None)
                    }
                    RoundError::Append(error) => Err(RoundError::Append(error)),
                }
            }
        }
    }

    /// Nothing: the op message is in the log, or there is nothing left to be decided.
    async fn step(&self, due: Due, claim: Claim) -> Result<Option<Again>, RoundError> {
        let core = &self.core;
        let bytes: Option<Bytes> = core.store.record_at(due.half.log)?;
        let Some(half) = bytes.as_deref().and_then(half::read) else {
            tracing::error!("half message {} is gone from the log; its transaction is closed", due.half.place);
            return Ok(None);
        };
        if claim.is_delivered || (claim.is_restored && end_transaction::is_in_log(core, &half)?) {
            self.close(due.half.place).await?;
            return Ok(None);
        }
        let config = core.config();
        let (times, age_ms) = (half::check_times(&half), core.now_ms().saturating_sub(due.half.born_ms));
        let reserved_ms = (config.file_reserved_time_h as i64).saturating_mul(HOUR_MS);
        let is_too_often = times >= config.transaction_check_max && !plant!(CheckBackForever);
        if due.is_asked && (is_too_often || age_ms > reserved_ms) {
            self.give_up(&half, &format!("it was asked about {times} times and is {age_ms} ms old")).await?;
            return Ok(None);
        }
        let message = half::again(&half, due.is_asked.then_some(times + 1));
        match core.store.put_again_waiting(&message.borrow()).await {
            Ok(appended) => {
                core.transactions.moved(claim.root, appended.queue_offset, appended.offset);
                Ok(Some(Again { claim, message, appended, is_asked: due.is_asked }))
            }
            // It never will: it must not be in the way of others.
            Err(error) if error.is_of_message() => {
                self.give_up(&half, &error.to_string()).await?;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until what was stored again is durable, and asks.
    async fn ask(&self, stored: Vec<Again>) -> Result<(), RoundError> {
        let core = &self.core;
        let Some(end) = stored.iter().map(|again| again.appended.end).max() else { return Ok(()) };
        let kept = core.store.kept(end).await;
        for again in stored {
            if kept.is_ok() && again.is_asked {
                self.ask_producer(&again);
            }
            core.transactions.release(again.claim.root, false);
        }
        Ok(kept?)
    }

    fn ask_producer(&self, again: &Again) {
        let (message, appended) = (again.message.borrow(), &again.appended);
        let group = properties::get(message.properties, name::PRODUCER_GROUP).unwrap_or_default();
        let mut producers = self.core.clients.producers(group);
        producers.retain(|producer| producer.channel.is_open());
        if producers.is_empty() {
            tracing::warn!(
                "no producer of group {group:?} is connected to say what became of transaction {}",
                again.claim.root
            );
            return;
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % producers.len();
        let question = half::question(&message, appended.queue_offset, appended.offset, appended.store_timestamp);
        match question {
            Some(question) => producers[turn].channel.oneway(question),
            None => tracing::warn!("half message {} does not say where it belongs", appended.queue_offset),
        }
    }

    /// Puts the half where an operator finds it and closes its transaction.
    async fn give_up(&self, half: &Record<'_>, why: &str) -> Result<(), RoundError> {
        let core = &self.core;
        let topic = TopicConfig::new(CHECK_MAX_TOPIC, 1, perm::READ | perm::WRITE);
        if core.topics.find(CHECK_MAX_TOPIC).is_none() {
            let topic = core.topics.ensure(topic, core.now_ms());
            core.topics.durable(&topic).await.map_err(|failed| AppendError::Closed { reason: failed.reason })?;
            core.registration.request();
        }
        let unique = properties::get(half.message.properties, name::UNIQUE_KEY).unwrap_or("without unique key");
        let place = half.queue_offset;
        tracing::warn!("half message {place} ({unique}) is given up and moved to {CHECK_MAX_TOPIC}: {why}");
        match core.store.put_again_waiting(&half::given_up(half).borrow()).await {
            Err(error) if error.is_of_message() => {
                tracing::error!(
                    "half message {place} ({unique}) cannot be kept there, its transaction is closed: {error}"
                );
            }
            outcome => drop(outcome?),
        }
        self.close(place).await
    }

    async fn close(&self, place: QueueOffset) -> Result<(), RoundError> {
        let core = &self.core;
        core.store.put_again_waiting(&half::op(place, core.store_host, core.now_ms()).borrow()).await?;
        core.store.turn_end();
        Ok(())
    }

    /// The half queue's first: op messages that are read once too often change nothing.
    fn note_progress(&self) {
        let progress = self.core.transactions.progress();
        if self.core.store.max_offset(HALF_TOPIC, QUEUE).0 == 0 {
            return;
        }
        for (topic, offset) in [(HALF_TOPIC, progress.halves), (HALF_OP_TOPIC, progress.ops)] {
            let queue = QUEUE as i32;
            if self.core.offsets.query(topic, GROUP, queue) == Some(offset.0 as i64) {
                continue;
            }
            if let Err(error) = self.core.offsets.commit(topic, GROUP, queue, offset.0 as i64) {
                tracing::warn!("how far half messages are done with is not stored: {error}");
                return;
            }
        }
    }
}

//! The end of a transaction (37): its half message becomes a message for consumers, or nothing. Answered when what was
//! decided is as durable as any send: the committed message and, right behind it, the op message that closes the half.
//!
//! A crash between the two leaves a committed message without its op message. A transaction that was open at such a
//! start is looked for before it is delivered: what was delivered once is not delivered again.

use std::{io, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    broker::{
        core::Core,
        half,
        topics::CHECK_MAX_TOPIC,
        transaction::{Begin, Claim},
    },
    model::{
        LogOffset,
        message::sys_flag,
        properties::{self, name},
    },
    protocol::{code::response, command::Response, header::EndTransaction},
    remoting::{Answer, Processor, Request},
    store::{
        AppendError,
        record::{self, Record, Scan},
    },
};

use super::{Refused, answer};

/// Pause before the transient store pool is asked for room again.
const POOL_PAUSE: Duration = Duration::from_millis(10);
/// Messages with one unique key that are looked at; there is one, unless somebody sends the same again and again.
const SAME_KEY_MAX: usize = 64;
/// Units of a queue read at a time.
const UNITS_AT_ONCE: u64 = 256;

pub struct EndTransactions(pub Arc<Core>);

impl Processor for EndTransactions {
    fn process(&self, asked: &Request<'_>) -> Answer {
        answer(self.end(asked))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    Commit,
    RollBack,
}

/// What an attempt came to.
enum Attempt {
    /// To be answered when the log is kept up to here.
    Decided(u64),
    /// Somebody else has the transaction.
    Taken,
    /// The log has no room at this moment.
    NoRoom(AppendError),
}

impl EndTransactions {
    fn end(&self, asked: &Request<'_>) -> Result<Answer, Refused> {
        let header = EndTransaction::decode(&asked.command.fields)?;
        let decision = match header.commit_or_rollback {
            sys_flag::TRANSACTION_COMMIT => Decision::Commit,
            sys_flag::TRANSACTION_ROLLBACK => Decision::RollBack,
            // The producer does not know yet; it will be asked.
            0 => return Ok(Answer::None),
            _ => return Err(Refused::system("commitOrRollback field wrong")),
        };
        let bytes = self.find(&header)?;
        let core = self.0.clone();
        match attempt(&core, &bytes, decision)? {
            Attempt::Decided(_) if plant!(CommitAnsweredBeforeSync) => Ok(Answer::Now(Response::success())),
            Attempt::Decided(end) => Ok(Answer::Kept(end, Response::success())),
            Attempt::Taken | Attempt::NoRoom(_) => Ok(Answer::Later(Box::pin(async move {
                Some(end_later(&core, &bytes, decision).await.unwrap_or_else(Refused::into_response))
            }))),
        }
    }

    /// The half message that the request names.
    fn find(&self, header: &EndTransaction<'_>) -> Result<Bytes, Refused> {
        let not_found = || Refused::system("Find prepared transaction message failed");
        let offset = u64::try_from(header.commit_log_offset).map_err(|_| not_found())?;
        let bytes = self.0.store.record_at(LogOffset(offset)).map_err(unreadable)?.ok_or_else(not_found)?;
        let half = half::read(&bytes).ok_or_else(not_found)?;
        if properties::get(half.message.properties, name::PRODUCER_GROUP) != Some(header.producer_group) {
            return Err(Refused::system("The producer group wrong"));
        }
        if half.queue_offset.0 as i64 != header.tran_state_table_offset {
            return Err(Refused::system("The transaction state table offset wrong"));
        }
        if half.log_offset.0 as i64 != header.commit_log_offset {
            return Err(Refused::system("The commit log offset wrong"));
        }
        Ok(bytes)
    }
}

async fn end_later(core: &Core, bytes: &Bytes, decision: Decision) -> Result<Response, Refused> {
    let end = loop {
        let freed = core.transactions.freed().clone();
        let mut freed = pin!(freed.notified());
        // Before the attempt: what is freed behind its back is not missed.
        freed.as_mut().enable();
        match attempt(core, bytes, decision)? {
            Attempt::Decided(end) => break end,
            Attempt::Taken => freed.await,
            Attempt::NoRoom(AppendError::SegmentFull) => core.store.segment_ready().await.map_err(|e| refused(&e))?,
            Attempt::NoRoom(_) => core.env.clock.sleep(POOL_PAUSE).await,
        }
    };
    core.store.kept(LogOffset(end)).await.map_err(|error| refused(&error))?;
    Ok(Response::success())
}

fn attempt(core: &Core, bytes: &Bytes, decision: Decision) -> Result<Attempt, Refused> {
    let half = half::read(bytes).expect("it was read before");
    let table = &core.transactions;
    let root = half::root_of(&half);
    let mut begin = table.begin(root);
    if plant!(SecondCommitDelivers) && begin == Begin::Finished && decision == Decision::Commit {
        begin = table.reopen(root);
        if let Begin::Open(claim) = &mut begin {
            claim.is_restored = false;
        }
    }
    if begin == Begin::Finished && decision == Decision::Commit && was_given_up(core, &half).map_err(unreadable)? {
        tracing::info!("the commit of transaction {root} comes late: it was given up, and is delivered all the same");
        begin = table.reopen(root);
    }
    let claim = match begin {
        Begin::Open(claim) => claim,
        // Who decided first may still wait for the disk: so does who comes second.
        Begin::Finished => return Ok(Attempt::Decided(core.store.appended().0)),
        Begin::Taken => return Ok(Attempt::Taken),
        Begin::TooMany => {
            let remark = "[REJECTREQUEST]too many half messages are open, start flow control for a while";
            return Err(Refused::new(response::SYSTEM_BUSY, remark));
        }
    };
    let mut is_delivered = claim.is_delivered;
    match decide(core, &half, claim, decision, &mut is_delivered) {
        Ok(end) => {
            table.finish(root);
            if let Some((topic, _)) = half::destination(&half) {
                let took_ms = core.now_ms().saturating_sub(half.message.born_timestamp).max(0);
                match decision {
                    Decision::Commit => core.stats.committed(topic, Duration::from_millis(took_ms as u64)),
                    Decision::RollBack => core.stats.rolled_back(topic),
                }
            }
            Ok(Attempt::Decided(end.0))
        }
        Err(Undecided::Append(error @ (AppendError::SegmentFull | AppendError::PoolExhausted))) => {
            table.release(root, is_delivered);
            Ok(Attempt::NoRoom(error))
        }
        Err(undecided) => {
            table.release(root, is_delivered);
            Err(match undecided {
                Undecided::Append(error) => refused(&error),
                Undecided::Io(error) => unreadable(error),
                Undecided::Nowhere => Refused::system("the half message does not say where it belongs"),
            })
        }
    }
}

enum Undecided {
    Append(AppendError),
    Io(io::Error),
    /// REAL_TOPIC or REAL_QID is missing.
    Nowhere,
}

fn decide(
    core: &Core,
    half: &Record<'_>,
    claim: Claim,
    decision: Decision,
    is_delivered: &mut bool,
) -> Result<LogOffset, Undecided> {
    if !*is_delivered && claim.is_restored {
        *is_delivered = is_in_log(core, half).map_err(Undecided::Io)?;
    }
    if decision == Decision::Commit && !*is_delivered {
        let properties = half::shown_properties(&half.message);
        let message = half::committed(half, &properties).ok_or(Undecided::Nowhere)?;
        core.store.put_again(&message).map_err(Undecided::Append)?;
        *is_delivered = true;
    }
    if plant!(OpMessageLost) {
        return Ok(core.store.appended());
    }
    let op = half::op(claim.place.unwrap_or(half.queue_offset), core.store_host, core.now_ms());
    core.store.put(&op.borrow()).map(|appended| appended.end).map_err(Undecided::Append)
}

/// Whether the transaction's committed message is in the log: it says which half it is of.
pub fn is_in_log(core: &Core, half: &Record<'_>) -> io::Result<bool> {
    let Some((topic, queue_id)) = half::destination(half) else { return Ok(false) };
    let root = half::root_of(half);
    any_behind(core, half, topic, queue_id, |found| {
        if found.message.sys_flag & sys_flag::TRANSACTION_MASK != sys_flag::TRANSACTION_COMMIT {
            return Ok(false);
        }
        let origin = core.store.record_at(LogOffset(found.message.prepared_offset))?;
        Ok(origin.as_deref().and_then(half::read).is_some_and(|origin| half::root_of(&origin) == root))
    })
}

/// Whether the transaction stands among those that were asked about too often or for too long.
fn was_given_up(core: &Core, half: &Record<'_>) -> io::Result<bool> {
    let root = half::root_of(half).to_string();
    any_behind(core, half, CHECK_MAX_TOPIC, 0, |found| {
        Ok(properties::get(found.message.properties, name::PREPARED_QUEUE_OFFSET) == Some(root.as_str()))
    })
}

/// Whether a message of the queue that came after the half is the one: of those with its unique key or, if it has none or
/// there is no index of messages (messageIndexEnable), of all.
fn any_behind(
    core: &Core,
    half: &Record<'_>,
    topic: &str,
    queue_id: u32,
    is_it: impl Fn(&Record<'_>) -> io::Result<bool>,
) -> io::Result<bool> {
    let check = |bytes: &[u8]| match record::scan(bytes, false) {
        Scan::Record(found) if found.message.topic == topic => is_it(&found),
        _ => Ok(false),
    };
    let key = properties::get(half.message.properties, name::UNIQUE_KEY);
    if let Some(key) = key.filter(|_| core.store.index().is_some()) {
        for bytes in &core.store.query(topic, key, SAME_KEY_MAX, 0, i64::MAX)?.records {
            if check(bytes)? {
                return Ok(true);
            }
        }
        return Ok(false);
    }
    let Some(queue) = core.store.queues().find(topic, queue_id) else { return Ok(false) };
    let mut at = queue.search(|unit| Ok(unit.offset > half.log_offset))?;
    loop {
        let units = queue.units(at, UNITS_AT_ONCE)?;
        if units.is_empty() {
            return Ok(false);
        }
        at = at + units.len() as u64;
        for unit in units {
            if let Some(bytes) = core.store.record_at(unit.offset)?
                && check(&bytes)?
            {
                return Ok(true);
            }
        }
    }
}

fn unreadable(error: io::Error) -> Refused {
    Refused::system(format!("the store cannot be read: {error}"))
}

/// EndTransactionProcessor.sendFinalMessage's texts.
fn refused(error: &AppendError) -> Refused {
    match error {
        error if error.is_of_message() => {
            let remark = "The message is illegal, maybe msg body or properties length not matched. msg body length \
                          limit 128k, msg properties length limit 32k.";
            Refused::new(response::MESSAGE_ILLEGAL, remark)
        }
        AppendError::SegmentFull | AppendError::PoolExhausted => Refused::system("Create mapped file failed."),
        error => Refused::new(response::SERVICE_NOT_AVAILABLE, format!("Service not available now: {error}")),
    }
}

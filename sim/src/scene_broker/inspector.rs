//! When everything is well again: messages are found by place, key and time, positions are right, and whoever waits for a
//! message is woken by it.

use keelmq::protocol::header::{GetMaxOffset, QueryMessage, SearchOffset, ViewMessage};

use super::{
    clients::{Whereto, heartbeat, route, subscription},
    *,
};
use crate::model::{DERIVED, TIMED};

/// Messages that are looked up.
const SAMPLE: usize = 12;
/// Who waits in a long poll is answered so soon after the message was acknowledged.
const WOKEN: Duration = Duration::from_secs(2);

/// Ends once the route says that a broker is there, or is not.
pub(super) async fn route_has(_run: Arc<Run>, env: Env, address: &'static str, wanted: bool) {
    loop {
        if let Some(addresses) = route(&env, "TBW102").await
            && addresses.iter().any(|known| known == address) == wanted
        {
            return;
        }
        env.clock.sleep(Duration::from_millis(200)).await;
    }
}

pub(super) async fn inspect(run: Arc<Run>, env: Env) {
    loop {
        if let Ok(mut wire) = WireClient::connect(&env, run.address(), Serialization::Json).await
            && let Ok(mut other) = WireClient::connect(&env, run.address(), Serialization::Binary).await
            && let Some(()) = look_up(&env, &run, &mut wire).await
            && let Some(()) = wake(&env, &run, &mut wire, &mut other).await
            && let Some(()) = make(&env, &run, &mut wire).await
            && let Some(()) = delay(&env, &run, &mut wire).await
        {
            note_wrong(&run, &mut wire);
            note_wrong(&run, &mut other);
            return;
        }
        env.clock.sleep(Duration::from_millis(200)).await;
    }
}

async fn look_up(env: &Env, run: &Run, wire: &mut WireClient) -> Option<()> {
    let mut sample: Vec<(u64, String, u32, Place)> = {
        let model = lock(&run.model);
        if model.promise != Promise::Disk {
            return Some(());
        }
        let plain = model.attempts.iter().filter(|(_, attempt)| {
            attempt.kind == Kind::Plain && attempt.acknowledged && attempt.topic.starts_with('T')
        });
        let placed = plain.filter_map(|(id, attempt)| {
            attempt.place.map(|place| (*id, attempt.topic.clone(), attempt.queue_id, place))
        });
        placed.collect()
    };
    Dice::new(run.plan.seed, "inspector").shuffle(&mut sample);
    sample.truncate(SAMPLE);
    for (id, topic, queue_id, place) in sample {
        let is_it = |bytes: &[u8]| {
            log_image::records(bytes)
                .find(|record| record.property("UNIQ_KEY").and_then(id_of) == Some(id) && record.offset == place.offset)
        };
        let mut call = Call::new(request::VIEW_MESSAGE_BY_ID);
        ViewMessage { topic: Some(&topic), offset: place.offset as i64 }.write(&mut call.fields);
        let viewed = wire.call(env, call, WAIT).await.ok()??;
        let Some(record) = is_it(&viewed.body) else {
            let text = format!("message {id} is not at log offset {}: {}", place.offset, viewed.remark);
            lock(&run.model).violation(DERIVED, text);
            return Some(());
        };
        for key in [key_of(id), format!("key{id}")] {
            let mut call = Call::new(request::QUERY_MESSAGE);
            QueryMessage {
                topic: &topic,
                key: &key,
                max_num: 32,
                // The index counts seconds.
                begin_timestamp: record.store_timestamp - 1_000,
                end_timestamp: record.store_timestamp + 1_000,
                unique_key_query: false,
            }
            .write(&mut call.fields);
            let found = wire.call(env, call, WAIT).await.ok()??;
            if is_it(&found.body).is_none() {
                let text = format!("message {id} is not found by its key {key}: {}", found.remark);
                lock(&run.model).violation(DERIVED, text);
                return Some(());
            }
        }
        let mut call = Call::new(request::GET_MAX_OFFSET);
        GetMaxOffset { topic: &topic, queue_id: queue_id as i32, committed: None }.write(&mut call.fields);
        let max = wire.call(env, call, WAIT).await.ok()??.number("offset")?;
        let queue_offset = place.queue_offset as i64;
        if max <= queue_offset {
            let text = format!("message {id} has queue offset {queue_offset}, its queue ends at {max}");
            lock(&run.model).violation(DERIVED, text);
        }
        // The first of those stored then or later, and the last of those stored then or earlier.
        let timestamp = record.store_timestamp;
        let log = scene::read_log(&lock(&run.broker.disk));
        let of_queue = log.records.iter().filter(|other| other.topic == topic && other.queue_id == queue_id);
        let at_once =
            of_queue.filter(|other| other.store_timestamp == timestamp).map(|other| other.queue_offset as i64);
        let (first, last) = at_once.fold((i64::MAX, -1), |(first, last), at| (first.min(at), last.max(at)));
        for (boundary_type, expect) in [(None, first), (Some("UPPER"), last)] {
            let mut call = Call::new(request::SEARCH_OFFSET_BY_TIMESTAMP);
            SearchOffset { topic: &topic, queue_id: queue_id as i32, timestamp, boundary_type }.write(&mut call.fields);
            let by_time = wire.call(env, call, WAIT).await.ok()??.number("offset")?;
            if by_time != expect {
                let text = format!(
                    "{topic}/{queue_id} was at {by_time} when message {id} was stored, by {boundary_type:?}, not at {expect}"
                );
                lock(&run.model).violation(DERIVED, text);
            }
        }
    }
    run.trace.sometimes("inspector: looked messages up");
    Some(())
}

/// What has to be made first is answered, too, at the first asking: a send to a new topic, a heartbeat of a new group.
async fn make(env: &Env, run: &Arc<Run>, wire: &mut WireClient) -> Option<()> {
    let number = lock(&run.model).next_id();
    let (topic, group) = (format!("F{number}"), format!("F{number}"));
    // A group that has committed nothing is at the beginning, or nowhere.
    let mut call = Call::new(request::QUERY_CONSUMER_OFFSET);
    QueryConsumerOffset { consumer_group: &group, topic: "T0", queue_id: 0, set_zero_if_not_found: None }
        .write(&mut call.fields);
    let answer = wire.call(env, call, WAIT).await.ok()??;
    let is_right = match answer.code {
        response::SUCCESS => answer.number("offset") == Some(0),
        code => code == response::QUERY_NOT_FOUND,
    };
    if !is_right {
        lock(&run.model).violation(CONSUMED, format!("a group that never committed is told {answer:?}"));
    }
    let mut dice = Dice::new(run.plan.seed, "maker");
    let to = Whereto { group: "P", topic: &topic, queue_id: 0 };
    if send_kinds(env, run, wire, run.broker.boots(), &mut dice, to, &[(Kind::Plain, 10)]).await?.is_empty() {
        return None;
    }
    let wants = vec![subscription(&topic, "TAG", "*")];
    let beat = heartbeat("inspector", &group, MessageModel::Clustering, wants);
    wire.call(env, beat, WAIT).await.ok()??;
    run.trace.sometimes("inspector: a topic and a group were made");
    Some(())
}

/// What is delayed comes soon after its time.
async fn delay(env: &Env, run: &Arc<Run>, wire: &mut WireClient) -> Option<()> {
    let mut dice = Dice::new(run.plan.seed, "delayer");
    let to = Whereto { group: "P", topic: "T0", queue_id: 2 };
    let sent = send_kinds(env, run, wire, run.broker.boots(), &mut dice, to, &[(Kind::Delayed(1), 10)]).await?;
    let [(id, _)] = sent[..] else { return None };
    let due = env.clock.monotonic() + Duration::from_secs(LEVELS_S[0] as u64);
    let mut call = Call::new(request::GET_MAX_OFFSET);
    GetMaxOffset { topic: "T0", queue_id: 2, committed: None }.write(&mut call.fields);
    let mut offset = (wire.call(env, call, WAIT).await.ok()??.number("offset")? - 1).max(0);
    loop {
        let answer = wire.call(env, plain_pull("W", "T0", 2, offset), WAIT).await.ok()??;
        offset = answer.number("nextBeginOffset")?.max(offset);
        let now = env.clock.monotonic();
        if log_image::records(&answer.body).any(|record| record.property("UNIQ_KEY").and_then(id_of) == Some(id)) {
            run.trace.sometimes("inspector: delayed in time");
            return Some(());
        }
        if now > due + WOKEN {
            let text = format!("message {id}, delayed by {} s, is {} ms late", LEVELS_S[0], (now - due).as_millis());
            lock(&run.model).violation(TIMED, text);
            return Some(());
        }
        env.clock.sleep(Duration::from_millis(50)).await;
    }
}

/// One waits, another sends.
async fn wake(env: &Env, run: &Arc<Run>, wire: &mut WireClient, other: &mut WireClient) -> Option<()> {
    let boot = run.broker.boots();
    let mut dice = Dice::new(run.plan.seed, "waker");
    let to = Whereto { group: "P", topic: "T0", queue_id: 3 };
    // The queue is there, and its end is known.
    if send_kinds(env, run, other, boot, &mut dice, to, &[(Kind::Plain, 10)]).await?.is_empty() {
        return None;
    }
    let mut call = Call::new(request::GET_MAX_OFFSET);
    GetMaxOffset { topic: "T0", queue_id: 3, committed: None }.write(&mut call.fields);
    let mut max = wire.call(env, call, WAIT).await.ok()??.number("offset")?;
    let first_id = lock(&run.model).next_id();
    let message = async {
        env.clock.sleep(Duration::from_millis(500)).await;
        let sent = send_kinds(env, run, other, boot, &mut dice, to, &[(Kind::Plain, 10)]).await;
        (sent.is_some_and(|sent| !sent.is_empty()), env.clock.monotonic())
    };
    let woken = async {
        loop {
            let mut call = Call::new(request::PULL_MESSAGE);
            PullMessage {
                consumer_group: "W",
                topic: "T0",
                queue_id: 3,
                queue_offset: max,
                max_message_nums: 32,
                sys_flag: SUSPEND | SUBSCRIPTION,
                commit_offset: None,
                suspend_timeout_millis: Some(8_000),
                subscription: Some("*"),
                sub_version: Some(1),
                expression_type: None,
                max_message_bytes: None,
            }
            .write(&mut call.fields);
            let answer = wire.call(env, call, Duration::from_secs(9)).await.ok()??;
            let at = env.clock.monotonic();
            if answer.code != response::SUCCESS {
                return Some((at, answer.code));
            }
            // Others may have come before it: delayed ones, for example.
            max = answer.number("nextBeginOffset")?;
            let is_new = |record: Found| record.property("UNIQ_KEY").and_then(id_of).is_some_and(|id| id >= first_id);
            if log_image::records(&answer.body).any(is_new) {
                return Some((at, answer.code));
            }
        }
    };
    let ((is_sent, sent_at), woken) = tokio::join!(message, woken);
    let (woken_at, code) = woken?;
    if !is_sent {
        return None;
    }
    if code != response::SUCCESS || woken_at > sent_at + WOKEN {
        let late = woken_at.saturating_sub(sent_at).as_millis();
        let text = format!("a pull that waited was answered {code}, {late} ms after the message was acknowledged");
        lock(&run.model).violation(LIVE, text);
    }
    run.trace.sometimes("inspector: woken by a message");
    Some(())
}

//! Who puts and who reads: tasks in the store's own process.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::*;
use crate::network::second_address;

/// How often it is looked whether a waiter should have been told of a failure.
const TOLD_WITHIN: Duration = Duration::from_millis(100);

fn attempt(run: &Run, topic: &str, queue_id: u32, len: usize, boot: u64) -> u64 {
    let mut model = lock(&run.model);
    let id = model.attempt(topic, queue_id, len, Some(boot));
    model.sent(id, Sent { at: run.machine.clock.time.now(), ..Sent::default() });
    id
}

/// Puts a group of messages with bodies of these lengths and waits for the promise. False: the store refuses.
pub(super) async fn put_group(
    run: &Arc<Run>,
    store: &MessageStore,
    boot: u64,
    topic: &str,
    queue_id: u32,
    lengths: &[usize],
) -> bool {
    let mut placed = Vec::new();
    for len in lengths {
        let id = attempt(run, topic, queue_id, *len, boot);
        let body = body_of(id, *len);
        let properties = properties_of(id);
        let message = message(run, topic, queue_id, id, &body, properties.as_bytes());
        loop {
            match store.put(&message) {
                Ok(appended) => {
                    let place =
                        Place { offset: appended.offset.0, end: appended.end.0, queue_offset: appended.queue_offset.0 };
                    lock(&run.model).placed(id, place);
                    placed.push((id, place));
                    not_after_a_failure(run, id);
                    break;
                }
                Err(AppendError::SegmentFull) => {
                    run.trace.sometimes("store: waited for a segment");
                    store.turn_end();
                    if store.segment_ready().await.is_err() {
                        run.trace.sometimes("store: no segment to be had");
                        return false;
                    }
                }
                Err(AppendError::PoolExhausted) => {
                    run.trace.sometimes("store: pool exhausted");
                    // The end of its turn, whatever became of it.
                    store.turn_end();
                    return false;
                }
                Err(_) => {
                    store.turn_end();
                    return false;
                }
            }
        }
    }
    store.turn_end();
    acknowledge(run, store, placed).await
}

/// Puts a batch: all of it or nothing.
async fn put_batch(
    run: &Arc<Run>,
    store: &MessageStore,
    boot: u64,
    topic: &str,
    queue_id: u32,
    lengths: &[usize],
) -> bool {
    let ids: Vec<u64> = lengths.iter().map(|len| attempt(run, topic, queue_id, *len, boot)).collect();
    let bodies: Vec<Vec<u8>> = ids.iter().zip(lengths).map(|(id, len)| body_of(*id, *len)).collect();
    let properties: Vec<String> = ids.iter().map(|id| properties_of(*id)).collect();
    let items: Vec<BatchItem<'_>> = (0..ids.len())
        .map(|at| BatchItem { flag: ids[at] as i32, body: &bodies[at], properties: properties[at].as_bytes() })
        .collect();
    let shared = message(run, topic, queue_id, ids[0], &[], &[]);
    loop {
        let mut placed = Vec::new();
        let outcome = store.put_batch(&shared, &items, |appended| {
            let place = Place { offset: appended.offset.0, end: appended.end.0, queue_offset: appended.queue_offset.0 };
            placed.push((ids[placed.len()], place));
        });
        match outcome {
            Ok(()) => {
                for (id, place) in &placed {
                    lock(&run.model).placed(*id, *place);
                }
                not_after_a_failure(run, ids[0]);
                store.turn_end();
                return acknowledge(run, store, placed).await;
            }
            Err(AppendError::SegmentFull) => {
                store.turn_end();
                if store.segment_ready().await.is_err() {
                    return false;
                }
            }
            Err(_) => return false,
        }
    }
}

/// A log that a disk has failed takes nothing any more.
fn not_after_a_failure(run: &Run, id: u64) {
    let failed = lock(&run.machine.disk).log_failed;
    if let Some(failed) = failed.filter(|failed| *failed < run.machine.clock.time.now()) {
        let text = format!("message {id} is taken, though the disk has failed the log at {} ms", failed.as_millis());
        lock(&run.model).violation(NOT_DURABLE, text);
    }
}

/// Waits for the promise. Once the disk has failed the log, whoever waits is told.
async fn promised(run: &Run, store: &MessageStore, place: Place) -> bool {
    let reached = store.promise().reached(place.end);
    tokio::pin!(reached);
    let mut ticks_failed = 0;
    loop {
        let tick = run.machine.clock.time.sleep(TOLD_WITHIN);
        tokio::select! {
            biased;
            outcome = &mut reached => return outcome.is_ok(),
            () = tick => {}
        }
        // After a pause of the process everything is due at once.
        ticks_failed += u32::from(lock(&run.machine.disk).log_failed.is_some());
        if ticks_failed > 2 {
            let text = format!("who waits for {place:?} is not told that the disk has failed the log");
            lock(&run.model).violation(NOT_DURABLE, text);
            return false;
        }
    }
}

/// Waits for the promise and checks that the disk has kept it.
async fn acknowledge(run: &Arc<Run>, store: &MessageStore, placed: Vec<(u64, Place)>) -> bool {
    for (id, place) in placed {
        if !promised(run, store, place).await {
            run.trace.sometimes("store: a waiter was told of a failure");
            return false;
        }
        let is_retired = run.retires() && place.offset < store.log_begin().0;
        if lock(&run.model).promise == Promise::Disk && !is_retired {
            let (path, at) = scene::log_file(run.plan.get("segment_bytes", 64 << 10), place.offset);
            if !lock(&run.machine.disk).is_durable(&path, at..at + (place.end - place.offset)) {
                let text = format!("message {id} at {place:?} is acknowledged, but a power cut now would take it");
                lock(&run.model).violation(NOT_DURABLE, text);
            }
        }
        lock(&run.model).acknowledge(id, Some(place));
    }
    true
}

fn properties_of(id: u64) -> String {
    let mut text = format!("UNIQ_KEY\u{1}{}\u{2}", key_of(id));
    if id.is_multiple_of(3) {
        text += &format!("TAGS\u{1}tag{}\u{2}", id % 5);
    }
    if id.is_multiple_of(4) {
        text += &format!("KEYS\u{1}key{id}\u{2}");
    }
    text
}

/// One of them has a name that a record of version 1 cannot say.
fn topic_of(number: u64) -> String {
    let padding = if number == 1 { &"x".repeat(130) } else { "" };
    format!("T{number}{padding}")
}

fn message<'a>(run: &Run, topic: &'a str, queue_id: u32, id: u64, body: &'a [u8], properties: &'a [u8]) -> Message<'a> {
    let address = Ipv4Addr::new(10, 0, 0, 1);
    let ip = if run.plan.get("ipv6", 0) == 1 { IpAddr::V6(second_address(address)) } else { IpAddr::V4(address) };
    let host = SocketAddr::new(ip, 10_911);
    Message {
        topic,
        queue_id,
        flag: id as i32,
        sys_flag: 0,
        born_timestamp: crate::model::BORN_MS,
        born_host: host,
        store_host: host,
        reconsume_times: 0,
        prepared_offset: 0,
        body,
        properties,
    }
}

pub(super) async fn produce(env: &Env, run: &Arc<Run>, store: &Arc<MessageStore>, boot: u64, index: usize) {
    let client = &run.plan.clients[index];
    loop {
        let (gap, topic, queue_id, lengths, batch) = {
            let mut state = lock(&run.clients[index]);
            if state.left == 0 || run.quiet.load(Ordering::SeqCst) {
                return;
            }
            let dice = &mut state.dice;
            let gap = dice.log_within(10, client.get("gap_us", 1_000).max(10));
            let topic = topic_of(dice.below(client.get("topics", 1)));
            let queue_id = dice.below(client.get("queues", 1)) as u32;
            let batch = client.get("batch_max", 1) > 1 && dice.coin();
            let most = if batch { client.get("batch_max", 1) } else { client.get("burst", 1) };
            let count = dice.within(1, most);
            let lengths: Vec<usize> = (0..count).map(|_| body_len(client, dice, store, &topic, run)).collect();
            state.left = state.left.saturating_sub(count);
            (gap, topic, queue_id, lengths, batch)
        };
        env.clock.sleep(Duration::from_micros(gap)).await;
        let accepted = if batch {
            put_batch(run, store, boot, &topic, queue_id, &lengths).await
        } else {
            put_group(run, store, boot, &topic, queue_id, &lengths).await
        };
        if !accepted {
            // What a client does: it waits and tries again.
            env.clock.sleep(Duration::from_millis(100)).await;
        }
    }
}

fn body_len(client: &Client, dice: &mut Dice, store: &MessageStore, topic: &str, run: &Run) -> usize {
    let most = client.get("size_max", 100);
    match client.get("size_kind", 0) {
        1 => most as usize,
        2 => {
            // What is left in the segment, minus a filler: it fits exactly, or is a byte too long or short.
            let segment = run.plan.get("segment_bytes", 64 << 10);
            let left = segment - store.appended().0 % segment;
            let overhead = RECORD_BYTES + topic.len() as u64 + properties_of(1).len() as u64;
            let aimed = left.saturating_sub(overhead + 8) + dice.within(0, 2);
            if (1..=most * 4).contains(&aimed) && aimed <= 12 << 10 {
                run.trace.sometimes("store: a record aimed at a segment's end");
                aimed.saturating_sub(1) as usize
            } else {
                dice.within(0, most) as usize
            }
        }
        _ => dice.within(0, most) as usize,
    }
}

/// Follows every queue of its topics. Where it stands outlives the process, as a group's offsets do.
pub(super) async fn consume(env: &Env, run: &Arc<Run>, store: &Arc<MessageStore>, index: usize) {
    let client = &run.plan.clients[index];
    let gap = Duration::from_micros(client.get("gap_us", 1_000));
    let mut dispatched = 0;
    loop {
        for queue in store.queues().all() {
            let key = (queue.topic.to_string(), queue.id);
            let max = store.max_offset(&key.0, key.1).0;
            let mut next = lock(&run.clients[index]).next.get(&key).copied().unwrap_or(0);
            if next > max {
                if run.model_promise() == Promise::Disk {
                    let text = format!("{}/{} ends at {max}, after {next} had been consumed", key.0, key.1);
                    lock(&run.model).violation(CONSUMED, text);
                }
                next = max;
            }
            let min = store.min_offset(&key.0, key.1).0;
            if run.retires() && next < min {
                run.trace.sometimes("consumer: what it wanted has gone");
                next = min;
            }
            while next < max {
                let Ok((records, after)) = read_queue(store, &key.0, key.1, next as i64) else { break };
                let first = records.first().map_or(next, |record| record.queue_offset);
                if run.retires() && first > next {
                    // What stood between has gone.
                    next = first;
                }
                for (at, record) in records.iter().enumerate() {
                    if record.queue_offset != next + at as u64 {
                        let text = format!(
                            "{}/{}: {} came in place of {}",
                            key.0,
                            key.1,
                            record.queue_offset,
                            next + at as u64
                        );
                        lock(&run.model).violation(CONSUMED, text);
                    }
                    lock(&run.model).consumed(record, Duration::ZERO);
                }
                if records.is_empty() && run.retires() && after as u64 > next {
                    next = after as u64;
                    continue;
                }
                if records.is_empty() {
                    let got = store.get(&Get {
                        topic: &key.0,
                        queue_id: key.1,
                        offset: next as i64,
                        count_max: 32,
                        bytes_max: 1 << 20,
                        filter: None,
                    });
                    let text = format!("{}/{} has {max} messages, at {next} it gives none: {got:?}", key.0, key.1);
                    lock(&run.model).violation(CONSUMED, text);
                    break;
                }
                run.trace.sometimes("consumer: got messages");
                next = after as u64;
            }
            lock(&run.clients[index]).next.insert(key, next);
        }
        if store.dispatched().reached(dispatched + 1).await.is_err() {
            return;
        }
        dispatched = store.dispatched().get();
        env.clock.sleep(gap).await;
    }
}

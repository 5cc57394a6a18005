//! The clients: producers that try again, consumers that start over from what was committed.

use super::*;
use crate::plan::Client;

/// Bytes of a plain record besides its body, from the shortest to the longest, the filler behind it included.
const OVERHEAD: (u64, u64) = (160, 230);

/// The brokers' addresses, as the name server tells them.
pub(super) async fn route(env: &Env, topic: &str) -> Option<Vec<String>> {
    let mut wire = WireClient::connect(env, NAMES, Serialization::Json).await.ok()?;
    let mut call = Call::new(request::GET_ROUTEINFO_BY_TOPIC);
    GetRouteInfo { topic: Some(topic), accept_standard_json_only: false }.write(&mut call.fields);
    let answer = wire.call(env, call, Duration::from_secs(3)).await.ok()??;
    let route = TopicRouteData::decode(&answer.body).ok()?;
    route.broker_datas.iter().filter_map(|broker| broker.broker_addrs.get(&0).cloned()).collect::<Vec<_>>().into()
}

/// One client of its own: finds the broker, sends, is acknowledged.
pub(super) fn last_client(run: Arc<Run>) -> impl FnOnce(Env) -> keelmq::env::BoxFuture<'static, ()> {
    move |env| {
        Box::pin(async move {
            let mut dice = Dice::new(run.plan.seed, "last client");
            loop {
                if let Some(addresses) = route(&env, "TBW102").await
                    && let Some(address) = addresses.iter().find(|address| *address == run.address())
                    && let Ok(mut wire) = WireClient::connect(&env, address, Serialization::Json).await
                {
                    let boot = run.broker.boots();
                    if send(&env, &run, &mut wire, boot, &mut dice, "T0", 0, &[33]).await {
                        return;
                    }
                }
                env.clock.sleep(Duration::from_millis(500)).await;
            }
        })
    }
}

/// What a message of this scene says of itself.
pub(super) fn properties_of(id: u64, kind: Kind, group: &str) -> String {
    let (key, tag, own) = (key_of(id), kinds::tag_of(id), kinds::own_of(id));
    let mut text = format!("UNIQ_KEY\u{1}{key}\u{2}TAGS\u{1}{tag}\u{2}KEYS\u{1}key{id}\u{2}own\u{1}{own}\u{2}");
    match kind {
        Kind::Plain if group == "P" && kinds::is_unwaited(id) => text += "WAIT\u{1}false\u{2}",
        Kind::Plain => {}
        // A level beyond the last is the last.
        Kind::Delayed(level) if u64::from(level) == LEVELS && id.is_multiple_of(3) => text += "DELAY\u{1}17\u{2}",
        Kind::Delayed(level) => text += &format!("DELAY\u{1}{level}\u{2}"),
        Kind::Half => text += &format!("TRAN_MSG\u{1}true\u{2}PGROUP\u{1}{group}\u{2}"),
    }
    if id % 29 == 7 {
        let len = Dice::new(id, "large").log_within(100, 20_000) as usize;
        text += &format!("large\u{1}{}\u{2}", "x".repeat(len));
    }
    if kind == Kind::Half && is_immune(id) {
        text += &format!("CHECK_IMMUNITY_TIME_IN_SECONDS\u{1}{IMMUNITY_S}\u{2}");
    }
    text
}

/// Whether the half is asked about later than others.
pub(super) fn is_immune(id: u64) -> bool {
    id % 4 == 1
}

/// Where messages of one send go.
#[derive(Clone, Copy)]
pub(super) struct Whereto<'a> {
    pub group: &'a str,
    pub topic: &'a str,
    pub queue_id: u32,
}

/// A send (V1 or V2, by coin).
pub(super) fn send_call(
    dice: &mut Dice,
    to: Whereto<'_>,
    id: u64,
    (kind, sent): (Kind, Sent),
    properties: &str,
    body: Vec<u8>,
) -> Call {
    let header = SendMessage {
        producer_group: to.group,
        topic: to.topic,
        default_topic: "TBW102",
        default_topic_queue_nums: QUEUES as i32,
        queue_id: to.queue_id as i32,
        sys_flag: if kind == Kind::Half { 4 } else { 0 } | i32::from(sent.is_compressed),
        born_timestamp: sent.born_ms,
        flag: id as i32,
        properties: Some(properties),
        reconsume_times: Some(0),
        unit_mode: false,
        batch: false,
        max_reconsume_times: None,
        broker_name: None,
    };
    let v2 = dice.coin();
    let mut call = Call::new(if v2 { request::SEND_MESSAGE_V2 } else { request::SEND_MESSAGE });
    if v2 {
        header.write_v2(&mut call.fields)
    } else {
        header.write_v1(&mut call.fields)
    }
    call.with_body(body)
}

/// Sends messages at once, each its own request. Those that were acknowledged, with what was answered; `None` for the
/// answers when the connection was lost.
pub(super) async fn send_kinds(
    env: &Env,
    run: &Arc<Run>,
    wire: &mut WireClient,
    boot: u64,
    dice: &mut Dice,
    to: Whereto<'_>,
    what: &[(Kind, usize)],
) -> Option<Vec<(u64, Answer)>> {
    let mut ids = Vec::new();
    let mut calls = Vec::new();
    for (kind, len) in what {
        let id = lock(&run.model)
            .attempt_kind(*kind, to.topic, to.queue_id, *len, Some(boot), |id| properties_of(id, *kind, to.group));
        // Halves are of now, or older than any time-out, as their producer's clock says.
        let born_ms = if *kind == Kind::Half && dice.coin() { run.broker.clock.wall_ms() } else { BORN_MS };
        let unwaited = *kind == Kind::Plain && to.group == "P" && kinds::is_unwaited(id);
        let sent = Sent { born_ms, at: env.clock.monotonic(), is_compressed: id % 4 == 2, unwaited };
        lock(&run.model).sent(id, sent);
        let properties = properties_of(id, *kind, to.group);
        calls.push(send_call(dice, to, id, (*kind, sent), &properties, body_of(id, *len)));
        ids.push(id);
    }
    let limit = Duration::from_millis(dice.within(300, 3_000));
    let answers = wire.call_all(env, &calls, limit).await;
    note_wrong(run, wire);
    let Ok(answers) = answers else {
        run.trace.sometimes("producer: connection lost in a send");
        return None;
    };
    let mut accepted = Vec::new();
    for (id, answer) in ids.into_iter().zip(answers) {
        match answer {
            Some(answer) if answer.code == response::SUCCESS => {
                acknowledged(run, boot, id, &answer, 0);
                accepted.push((id, answer));
            }
            answer => note_refusal(run, answer.as_ref(), run.plan.get("reconfigured", 0) > 0),
        }
    }
    Some(accepted)
}

/// `may_be_large`: more than may be sent at once.
fn note_refusal(run: &Run, answer: Option<&Answer>, may_be_large: bool) {
    run.trace.sometimes(match answer.map(|answer| answer.code) {
        Some(response::FLUSH_DISK_TIMEOUT) => "producer: told of a slow sync",
        Some(response::SYSTEM_BUSY) => "producer: told busy",
        Some(response::SERVICE_NOT_AVAILABLE) => "producer: told unavailable",
        // No segment to be had is one of these.
        Some(response::SYSTEM_ERROR) => "producer: told of an error",
        Some(response::MESSAGE_ILLEGAL) if may_be_large => "producer: told that it is too large",
        Some(code) => {
            let text =
                format!("a send like any other is refused with {code}: {:?}", answer.map(|answer| &answer.remark));
            lock(&run.model).violation(ANSWERED, text);
            "producer: refused"
        }
        None => "producer: no answer in time",
    });
}

/// Sends messages at once, plain ones unless `delayed` says otherwise. True if all were acknowledged.
#[allow(clippy::too_many_arguments)]
pub(super) async fn send(
    env: &Env,
    run: &Arc<Run>,
    wire: &mut WireClient,
    boot: u64,
    dice: &mut Dice,
    topic: &str,
    queue_id: u32,
    lengths: &[usize],
) -> bool {
    let what: Vec<_> = lengths.iter().map(|len| (Kind::Plain, *len)).collect();
    let to = Whereto { group: "P", topic, queue_id };
    send_kinds(env, run, wire, boot, dice, to, &what).await.is_some_and(|accepted| accepted.len() == lengths.len())
}

/// Sends a batch: one request, all or nothing.
async fn send_batch(
    env: &Env,
    run: &Arc<Run>,
    wire: &mut WireClient,
    boot: u64,
    dice: &mut Dice,
    to: Whereto<'_>,
    lengths: &[usize],
) -> bool {
    let mut body = Vec::new();
    let mut ids = Vec::new();
    for len in lengths {
        let properties = |id| properties_of(id, Kind::Plain, to.group);
        let id = lock(&run.model).attempt_kind(Kind::Plain, to.topic, to.queue_id, *len, Some(boot), properties);
        let (content, text) = (body_of(id, *len), properties(id));
        batch::BatchItem { flag: id as i32, body: &content, properties: text.as_bytes() }.encode(&mut body);
        ids.push(id);
    }
    let header = SendMessage {
        producer_group: to.group,
        topic: to.topic,
        default_topic: "TBW102",
        default_topic_queue_nums: QUEUES as i32,
        queue_id: to.queue_id as i32,
        sys_flag: 0,
        born_timestamp: BORN_MS,
        flag: 0,
        properties: None,
        reconsume_times: Some(0),
        unit_mode: false,
        batch: true,
        max_reconsume_times: None,
        broker_name: None,
    };
    let mut call = Call::new(request::SEND_BATCH_MESSAGE).with_body(body);
    header.write_v2(&mut call.fields);
    let answer = wire.call(env, call, Duration::from_millis(dice.within(300, 3_000))).await;
    note_wrong(run, wire);
    match answer {
        Ok(Some(answer)) if answer.code == response::SUCCESS => {
            for (at, id) in ids.iter().enumerate() {
                acknowledged(run, boot, *id, &answer, at);
            }
            run.trace.sometimes("producer: a batch was taken");
            true
        }
        Ok(answer) => {
            // Together they may be larger than a message may be.
            note_refusal(run, answer.as_ref(), true);
            false
        }
        Err(_) => false,
    }
}

pub(super) fn note_wrong(run: &Run, wire: &mut WireClient) {
    for wrong in wire.wrong.drain(..) {
        lock(&run.model).violation(ANSWERED, wrong);
    }
}

/// `at` counts the messages of a batch, whose answer names all of them.
pub(super) fn acknowledged(run: &Run, boot: u64, id: u64, answer: &Answer, at: usize) {
    let ids = answer.fields.get("msgId").map(String::as_str).unwrap_or_default();
    let offset = ids.split(',').nth(at).and_then(OffsetMessageId::parse).map(|id| id.offset.0);
    let (Some(offset), Some(queue_offset)) = (offset, answer.number("queueOffset")) else {
        lock(&run.model).violation(ANSWERED, format!("message {id} is acknowledged without a place: {answer:?}"));
        return;
    };
    let mut place = Place { offset, end: offset + 1, queue_offset: queue_offset as u64 + at as u64 };
    let mut model = lock(&run.model);
    if model.attempts[&id].sent.unwaited {
        run.trace.sometimes("producer: did not wait for the sync");
        return model.placed(id, place);
    }
    // While the boot that answered lives, its files must have the record; later the next recovery says so.
    if run.broker.boots() == boot && run.broker.is_alive() && model.promise != Promise::Memory {
        let (path, at) = scene::log_file(run.plan.get("segment_bytes", 64 << 10), offset);
        let disk = lock(&run.broker.disk);
        if let Some(failed) = disk.log_failed.filter(|failed| *failed < model.attempts[&id].sent.at) {
            let text = format!("message {id} is acknowledged, sent after the disk had failed the log at {failed:?}");
            model.violation(NOT_DURABLE, text);
        }
        let bytes = disk.peek(&path).unwrap_or_default();
        match log_image::parse(bytes.get(at as usize..).unwrap_or_default()) {
            Ok(record)
                if record.property("UNIQ_KEY").and_then(id_of) == Some(id)
                    && record.queue_offset == place.queue_offset =>
            {
                place.end = record.end();
                if model.promise == Promise::Disk && !disk.is_durable(&path, at..at + u64::from(record.size)) {
                    let text = format!("message {id} at {place:?} is acknowledged, but a power cut now would take it");
                    model.violation(NOT_DURABLE, text);
                }
            }
            other => {
                let text = format!("message {id} is acknowledged at {place:?}, where there is {other:?}");
                model.violation(ANSWERED, text);
            }
        }
    }
    if model.attempts[&id].place.is_none() {
        model.acknowledge(id, Some(place));
    } else {
        // A recovery has found it before the answer arrived; that it stands elsewhere would have been said there.
        model.acknowledge(id, None);
    }
}

pub(super) fn serialization(index: usize) -> Serialization {
    if index % 3 == 2 { Serialization::Binary } else { Serialization::Json }
}

pub(super) async fn produce(env: &Env, run: &Arc<Run>, index: usize) {
    let client = &run.plan.clients[index];
    let mut dice = Dice::new(run.plan.seed, &format!("client {index}"));
    let mut left = client.get("count", 1);
    // As a client's producer does, at most twice each. To the broker it is another message.
    let mut again_left = 2 * left;
    'connect: while left > 0 && !run.quiet.load(Ordering::SeqCst) {
        let Ok(mut wire) = WireClient::connect(env, run.address(), serialization(index)).await else {
            env.clock.sleep(Duration::from_millis(dice.within(50, 1_000))).await;
            continue;
        };
        let boot = run.broker.boots();
        while left > 0 && !run.quiet.load(Ordering::SeqCst) {
            env.clock.sleep(Duration::from_micros(dice.log_within(10, client.get("gap_us", 1_000).max(10)))).await;
            let topic = format!("T{}", dice.below(client.get("topics", 1)));
            let queue_id = dice.below(QUEUES) as u32;
            let count = dice.within(1, client.get("burst", 1)).min(left);
            let most = client.get("size_max", 100);
            let lengths: Vec<usize> = (0..count).map(|_| body_len(run, client, &mut dice, most)).collect();
            left -= count;
            let to = Whereto { group: "P", topic: &topic, queue_id };
            let sent = if count > 1 && client.get("batch_max", 1) > 1 && dice.coin() {
                send_batch(env, run, &mut wire, boot, &mut dice, to, &lengths).await
            } else {
                let delayed = client.get("delayed", 0);
                let mut kind = || match dice.below(100) < delayed {
                    true => Kind::Delayed(dice.within(1, LEVELS) as u32),
                    false => Kind::Plain,
                };
                let what: Vec<_> = lengths.iter().map(|len| (kind(), *len)).collect();
                let accepted = send_kinds(env, run, &mut wire, boot, &mut dice, to, &what).await;
                accepted.is_some_and(|accepted| accepted.len() == what.len())
            };
            if !sent && again_left >= count && dice.coin() {
                run.trace.sometimes("producer: sent again");
                (left, again_left) = (left + count, again_left - count);
            }
            if !sent && dice.coin() {
                env.clock.sleep(Duration::from_millis(dice.within(50, 500))).await;
                continue 'connect;
            }
        }
    }
}

/// Of any length, or what is left in the segment, more or less: it fits exactly, or is a byte too long or short.
fn body_len(run: &Run, client: &Client, dice: &mut Dice, most: u64) -> usize {
    let any = dice.within(0, most);
    let (segment, overhead) = (run.plan.get("segment_bytes", 64 << 10), dice.within(OVERHEAD.0, OVERHEAD.1));
    if client.get("size_kind", 0) != 2 {
        return any as usize;
    }
    let appended = lock(&run.running).as_ref().map_or(0, |broker| broker.core().store.appended().0);
    match (segment - appended % segment).checked_sub(overhead) {
        Some(aimed) if aimed <= 15 << 10 && aimed <= most * 4 => aimed as usize,
        _ => any as usize,
    }
}

/// A heartbeat of a client that consumes.
pub(super) fn heartbeat(
    client_id: &str,
    group: &str,
    model: MessageModel,
    subscriptions: Vec<SubscriptionData>,
) -> Call {
    let data = HeartbeatData {
        client_id: Some(client_id.to_owned()),
        consumer_data_set: vec![ConsumerData {
            consume_from_where: ConsumeFromWhere::FirstOffset,
            consume_type: ConsumeType::Passively,
            group_name: group.to_owned(),
            message_model: model,
            subscription_data_set: subscriptions,
            unit_mode: false,
        }],
        heartbeat_fingerprint: None,
        producer_data_set: Vec::new(),
        without_sub: None,
    };
    Call::new(request::HEART_BEAT).with_body(data.encode())
}

pub(super) fn subscription(topic: &str, kind: &str, expression: &str) -> SubscriptionData {
    SubscriptionData {
        class_filter_mode: false,
        code_set: BTreeSet::new(),
        expression_type: Some(kind.to_owned()),
        sub_string: expression.to_owned(),
        sub_version: 1,
        tags_set: BTreeSet::new(),
        topic: topic.to_owned(),
    }
}

/// A heartbeat of a client that only produces.
pub(super) fn producer_heartbeat(client_id: &str, group: &str) -> Call {
    let data = HeartbeatData {
        client_id: Some(client_id.to_owned()),
        consumer_data_set: Vec::new(),
        heartbeat_fingerprint: None,
        producer_data_set: vec![ProducerData { group_name: group.to_owned() }],
        without_sub: None,
    };
    Call::new(request::HEART_BEAT).with_body(data.encode())
}

/// One member of its own group: reads every queue of its topics.
pub(super) async fn consume(env: &Env, run: &Arc<Run>, index: usize) {
    let client = &run.plan.clients[index];
    let topics = client.get("topics", 1);
    let is_broadcast = client.get("broadcast", 0) == 1;
    // The members of a group that broadcasts each get everything.
    let group = if is_broadcast { "B".to_owned() } else { format!("G{index}") };
    lock(&run.groups).insert(format!("G{index}"), Group::new(topics));
    let mut dice = Dice::new(run.plan.seed, &format!("client {index}"));
    let mut next: BTreeMap<(u64, u64), i64> = BTreeMap::new();
    let mut last_boot = 0;
    loop {
        let Ok(mut wire) = WireClient::connect(env, run.address(), serialization(index)).await else {
            env.clock.sleep(Duration::from_millis(dice.within(50, 1_000))).await;
            continue;
        };
        if !is_broadcast && dice.coin() {
            // As if the process were new: from what was committed.
            next.clear();
        }
        let boot = run.broker.boots();
        if std::mem::replace(&mut last_boot, boot) == boot {
            lock(&run.model).kinds.commits.reconnected(&group, boot);
        }
        let lost = consume_connected(env, run, index, &group, topics, boot, &mut wire, &mut next, &mut dice).await;
        note_wrong(run, &mut wire);
        if lost.is_none() {
            run.trace.sometimes("consumer: connection lost");
        }
        env.clock.sleep(Duration::from_millis(dice.within(20, 300))).await;
    }
}

/// `None` when the connection is lost or silent.
#[allow(clippy::too_many_arguments)]
async fn consume_connected(
    env: &Env,
    run: &Arc<Run>,
    index: usize,
    group: &str,
    topics: u64,
    boot: u64,
    wire: &mut WireClient,
    next: &mut BTreeMap<(u64, u64), i64>,
    dice: &mut Dice,
) -> Option<()> {
    let is_broadcast = run.plan.clients[index].get("broadcast", 0) == 1;
    let model = if is_broadcast { MessageModel::Broadcasting } else { MessageModel::Clustering };
    let subscriptions = (0..topics).map(|topic| subscription(&format!("T{topic}"), "TAG", "*")).collect();
    let me = format!("10.0.0.3@{index}");
    wire.call(env, heartbeat(&me, group, model, subscriptions), WAIT).await.ok()??;
    let own = format!("G{index}");
    loop {
        let mut got = false;
        for topic in 0..topics {
            for queue in 0..QUEUES {
                let name = format!("T{topic}");
                let offset = match next.get(&(topic, queue)) {
                    Some(offset) => *offset,
                    None if is_broadcast => 0,
                    None => {
                        let mut call = Call::new(request::QUERY_CONSUMER_OFFSET);
                        QueryConsumerOffset {
                            consumer_group: group,
                            topic: &name,
                            queue_id: queue as i32,
                            set_zero_if_not_found: None,
                        }
                        .write(&mut call.fields);
                        let answer = wire.call(env, call, WAIT).await.ok()??;
                        let known = answer.number("offset").filter(|_| answer.code == response::SUCCESS).unwrap_or(0);
                        let mut model = lock(&run.model);
                        if model.promise == Promise::Disk
                            && let Some(text) =
                                model.kinds.commits.check(&(group.to_owned(), name.clone(), queue), known)
                        {
                            model.violation(CONSUMED, text);
                        }
                        known.max(0)
                    }
                };
                let key = (group.to_owned(), name.clone(), queue);
                lock(&run.model).kinds.commits.ask(&key, offset);
                // The last queue of a round without news waits for an arrival.
                let is_last = !got && topic + 1 == topics && queue + 1 == QUEUES;
                let mut call = Call::new(request::PULL_MESSAGE);
                let suspend = dice.within(50, 1_000) as i64;
                PullMessage {
                    consumer_group: group,
                    topic: &name,
                    queue_id: queue as i32,
                    queue_offset: offset,
                    max_message_nums: 32,
                    sys_flag: if is_broadcast { 0 } else { COMMIT } | SUBSCRIPTION | if is_last { SUSPEND } else { 0 },
                    commit_offset: Some(offset),
                    suspend_timeout_millis: Some(suspend),
                    subscription: Some("*"),
                    sub_version: Some(1),
                    expression_type: None,
                    max_message_bytes: None,
                }
                .write(&mut call.fields);
                let answer = wire.call(env, call, WAIT).await.ok()??;
                note_wrong(run, wire);
                if let Some((after, _)) = pulled(run, &own, &name, offset, &answer) {
                    next.insert((topic, queue), after);
                    if after > offset {
                        got = true;
                        if !is_broadcast && dice.below(4) == 0 {
                            let mut call = Call::new(request::UPDATE_CONSUMER_OFFSET);
                            UpdateConsumerOffset {
                                consumer_group: group,
                                topic: &name,
                                queue_id: queue as i32,
                                commit_offset: after,
                            }
                            .write(&mut call.fields);
                            lock(&run.model).kinds.commits.ask(&key, after);
                            let answer = wire.call(env, call, WAIT).await.ok()??;
                            if answer.code == response::SUCCESS {
                                let now = env.clock.monotonic();
                                lock(&run.model).kinds.commits.acknowledge(&key, now, boot, after);
                            }
                            if dice.below(6) == 0 {
                                let back = dice.within(0, after as u64) as i64;
                                go_back(env, run, wire, &key, boot, back).await?;
                                next.insert((topic, queue), back);
                            }
                        }
                    }
                }
            }
        }
        if !got {
            env.clock.sleep(Duration::from_millis(dice.within(50, 400))).await;
        }
    }
}

/// A group that goes back on purpose is where it said, at once.
async fn go_back(
    env: &Env,
    run: &Run,
    wire: &mut WireClient,
    key: &(String, String, u64),
    boot: u64,
    to: i64,
) -> Option<()> {
    let (group, topic, queue) = key;
    let queue_id = *queue as i32;
    let mut call = Call::new(request::UPDATE_CONSUMER_OFFSET);
    UpdateConsumerOffset { consumer_group: group, topic, queue_id, commit_offset: to }.write(&mut call.fields);
    lock(&run.model).kinds.commits.goes_back(key);
    let answer = wire.call(env, call, WAIT).await.ok()??;
    if answer.code != response::SUCCESS {
        return Some(());
    }
    lock(&run.model).kinds.commits.acknowledge(key, env.clock.monotonic(), boot, to);
    let mut call = Call::new(request::QUERY_CONSUMER_OFFSET);
    QueryConsumerOffset { consumer_group: group, topic, queue_id, set_zero_if_not_found: None }.write(&mut call.fields);
    let answer = wire.call(env, call, WAIT).await.ok()??;
    let mut model = lock(&run.model);
    if answer.number("offset") != Some(to) && model.kinds.commits.is_sure(group, boot) {
        model.violation(CONSUMED, format!("{key:?} went back to {to} and is at {:?}", answer.number("offset")));
    }
    run.trace.sometimes("consumer: went back");
    Some(())
}

/// Looks at what a pull brought: where to go on, and the messages.
pub(super) fn pulled(
    run: &Run,
    group: &str,
    topic: &str,
    offset: i64,
    answer: &Answer,
) -> Option<(i64, Vec<(u64, Found)>)> {
    run.note("pull answered", &format!("{topic} {}", answer.remark), offset as u64, answer.code as u64);
    let next = answer.number("nextBeginOffset")?;
    match answer.code {
        response::SUCCESS => {
            let mut rest = &answer.body[..];
            let (mut expect, mut messages) = (offset as u64, Vec::new());
            let now = run.clients.clock.time.now();
            let mut model = lock(&run.model);
            let mut groups = lock(&run.groups);
            let group = groups.get_mut(group).expect("put there at the start");
            let filter = if topic.starts_with(kinds::RETRY_PREFIX) { 0 } else { group.filter };
            while !rest.is_empty() {
                let record = match log_image::parse(rest) {
                    Ok(record) => record,
                    Err(reason) => {
                        model.violation(CONSUMED, format!("{topic} from {offset} brings what is no record: {reason}"));
                        return None;
                    }
                };
                rest = &rest[record.size as usize..];
                // What a filter holds back leaves gaps.
                let is_next = match filter {
                    0 => record.queue_offset == expect,
                    _ => record.queue_offset >= expect,
                };
                if !is_next || record.topic != topic {
                    model.violation(
                        CONSUMED,
                        format!("{topic}: {} #{} came in place of #{expect}", record.topic, record.queue_offset),
                    );
                }
                expect = record.queue_offset + 1;
                if let Some(id) = model.consumed(&record, now) {
                    if !members::wants(filter, id) {
                        let text = format!("{topic}: message {id} came through a filter that does not want it");
                        model.violation(CONSUMED, text);
                    }
                    group.seen.insert(id);
                    messages.push((id, record));
                }
            }
            run.trace.sometimes("consumer: got messages");
            if filter == 0 && next != expect as i64 || next < expect as i64 {
                model.violation(CONSUMED, format!("{topic}: after #{} go on at {next}", expect - 1));
            }
            Some((next, messages))
        }
        response::PULL_OFFSET_MOVED => {
            if lock(&run.model).promise == Promise::Disk && next < offset {
                let text = format!("{topic}: {offset} was moved back to {next}: {}", answer.remark);
                lock(&run.model).violation(CONSUMED, text);
            }
            Some((next, Vec::new()))
        }
        response::PULL_NOT_FOUND | response::PULL_RETRY_IMMEDIATELY => Some((next, Vec::new())),
        _ => None,
    }
}

//! The clients: producers that try again, consumers that start over from what was committed.

use super::*;

/// The broker's address, as the name server tells it.
async fn route(env: &Env, topic: &str) -> Option<String> {
    let mut wire = WireClient::connect(env, NAMES, Serialization::Json).await.ok()?;
    let mut call = Call::new(request::GET_ROUTEINFO_BY_TOPIC);
    GetRouteInfo { topic: Some(topic), accept_standard_json_only: false }.write(&mut call.fields);
    let answer = wire.call(env, call, Duration::from_secs(3)).await.ok()??;
    let route = TopicRouteData::decode(&answer.body).ok()?;
    route.broker_datas.first()?.broker_addrs.get(&0).cloned()
}

/// One client of its own: finds the broker, sends, is acknowledged.
pub(super) fn last_client(run: Arc<Run>) -> impl FnOnce(Env) -> keelmq::env::BoxFuture<'static, ()> {
    move |env| {
        Box::pin(async move {
            let mut dice = Dice::new(run.plan.seed, "last client");
            loop {
                if let Some(address) = route(&env, "TBW102").await
                    && let Ok(mut wire) = WireClient::connect(&env, &address, Serialization::Json).await
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

/// Sends messages at once, each its own request. True if all were acknowledged.
#[allow(clippy::too_many_arguments)]
async fn send(
    env: &Env,
    run: &Arc<Run>,
    wire: &mut WireClient,
    boot: u64,
    dice: &mut Dice,
    topic: &str,
    queue_id: u32,
    lengths: &[usize],
) -> bool {
    let mut ids = Vec::new();
    let mut calls = Vec::new();
    for len in lengths {
        let id = lock(&run.model).attempt(topic, queue_id, *len, Some(boot));
        let properties = format!("UNIQ_KEY\u{1}{}\u{2}TAGS\u{1}tag{}\u{2}", key_of(id), id % 5);
        let header = SendMessage {
            producer_group: "P",
            topic,
            default_topic: "TBW102",
            default_topic_queue_nums: QUEUES as i32,
            queue_id: queue_id as i32,
            sys_flag: 0,
            born_timestamp: 1_700_000_000_000,
            flag: id as i32,
            properties: Some(&properties),
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
        calls.push(call.with_body(body_of(id, *len)));
        ids.push(id);
    }
    let limit = Duration::from_millis(dice.within(300, 3_000));
    let answers = wire.call_all(env, &calls, limit).await;
    note_wrong(run, wire);
    let Ok(answers) = answers else {
        run.trace.sometimes("producer: connection lost in a send");
        return false;
    };
    let mut all = true;
    for (id, answer) in ids.into_iter().zip(answers) {
        match answer {
            Some(answer) if answer.code == response::SUCCESS => acknowledged(run, boot, id, &answer),
            Some(answer) => {
                all = false;
                run.trace.sometimes(match answer.code {
                    response::FLUSH_DISK_TIMEOUT => "producer: told of a slow sync",
                    response::SYSTEM_BUSY => "producer: told busy",
                    response::SERVICE_NOT_AVAILABLE => "producer: told unavailable",
                    _ => "producer: refused",
                });
            }
            None => {
                all = false;
                run.trace.sometimes("producer: no answer in time");
            }
        }
    }
    all
}

fn note_wrong(run: &Run, wire: &mut WireClient) {
    for wrong in wire.wrong.drain(..) {
        lock(&run.model).violation(ANSWERED, wrong);
    }
}

fn acknowledged(run: &Run, boot: u64, id: u64, answer: &Answer) {
    let offset = answer.fields.get("msgId").and_then(|text| OffsetMessageId::parse(text)).map(|id| id.offset.0);
    let (Some(offset), Some(queue_offset)) = (offset, answer.number("queueOffset")) else {
        lock(&run.model).violation(ANSWERED, format!("message {id} is acknowledged without a place: {answer:?}"));
        return;
    };
    let mut place = Place { offset, end: offset + 1, queue_offset: queue_offset as u64 };
    let mut model = lock(&run.model);
    // While the boot that answered lives, its files must have the record; later the next recovery says so.
    if run.broker.boots() == boot && run.broker.is_alive() && model.promise != Promise::Memory {
        let (path, at) = scene::log_file(run.plan.get("segment_bytes", 64 << 10), offset);
        let disk = lock(&run.broker.disk);
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

fn serialization(index: usize) -> Serialization {
    if index % 3 == 2 { Serialization::Binary } else { Serialization::Json }
}

pub(super) async fn produce(env: &Env, run: &Arc<Run>, index: usize) {
    let client = &run.plan.clients[index];
    let mut dice = Dice::new(run.plan.seed, &format!("client {index}"));
    let mut left = client.get("count", 1);
    'connect: while left > 0 && !run.quiet.load(Ordering::SeqCst) {
        let Ok(mut wire) = WireClient::connect(env, BROKER, serialization(index)).await else {
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
            let lengths: Vec<usize> = (0..count).map(|_| dice.within(0, most) as usize).collect();
            left -= count;
            if !send(env, run, &mut wire, boot, &mut dice, &topic, queue_id, &lengths).await && dice.coin() {
                env.clock.sleep(Duration::from_millis(dice.within(50, 500))).await;
                continue 'connect;
            }
        }
    }
}

fn heartbeat(index: usize, topics: u64) -> Call {
    let subscriptions = (0..topics).map(|topic| SubscriptionData {
        class_filter_mode: false,
        code_set: BTreeSet::new(),
        expression_type: Some("TAG".into()),
        sub_string: "*".into(),
        sub_version: 1,
        tags_set: BTreeSet::new(),
        topic: format!("T{topic}"),
    });
    let data = HeartbeatData {
        client_id: Some(format!("10.0.0.3@{index}")),
        consumer_data_set: vec![ConsumerData {
            consume_from_where: ConsumeFromWhere::FirstOffset,
            consume_type: ConsumeType::Passively,
            group_name: format!("G{index}"),
            message_model: MessageModel::Clustering,
            subscription_data_set: subscriptions.collect(),
            unit_mode: false,
        }],
        heartbeat_fingerprint: None,
        producer_data_set: Vec::new(),
        without_sub: None,
    };
    Call::new(request::HEART_BEAT).with_body(data.encode())
}

/// One member of its own group: reads every queue of its topics.
pub(super) async fn consume(env: &Env, run: &Arc<Run>, index: usize) {
    let client = &run.plan.clients[index];
    let topics = client.get("topics", 1);
    let group = format!("G{index}");
    lock(&run.groups).insert(index, BTreeSet::new());
    let mut dice = Dice::new(run.plan.seed, &format!("client {index}"));
    let mut next: BTreeMap<(u64, u64), i64> = BTreeMap::new();
    loop {
        let Ok(mut wire) = WireClient::connect(env, BROKER, serialization(index)).await else {
            env.clock.sleep(Duration::from_millis(dice.within(50, 1_000))).await;
            continue;
        };
        if dice.coin() {
            // As if the process were new: from what was committed.
            next.clear();
        }
        let lost = consume_connected(env, run, index, &group, topics, &mut wire, &mut next, &mut dice).await;
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
    wire: &mut WireClient,
    next: &mut BTreeMap<(u64, u64), i64>,
    dice: &mut Dice,
) -> Option<()> {
    const WAIT: Duration = Duration::from_secs(3);
    wire.call(env, heartbeat(index, topics), WAIT).await.ok()??;
    loop {
        let mut got = false;
        for topic in 0..topics {
            for queue in 0..QUEUES {
                let name = format!("T{topic}");
                let offset = match next.get(&(topic, queue)) {
                    Some(offset) => *offset,
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
                        if answer.code == response::SUCCESS { answer.number("offset").unwrap_or(0).max(0) } else { 0 }
                    }
                };
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
                    sys_flag: COMMIT | SUBSCRIPTION | if is_last { SUSPEND } else { 0 },
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
                if let Some(after) = pulled(run, index, &name, offset, &answer) {
                    next.insert((topic, queue), after);
                    if after > offset {
                        got = true;
                        if dice.below(4) == 0 {
                            let mut call = Call::new(request::UPDATE_CONSUMER_OFFSET);
                            UpdateConsumerOffset {
                                consumer_group: group,
                                topic: &name,
                                queue_id: queue as i32,
                                commit_offset: after,
                            }
                            .write(&mut call.fields);
                            wire.call(env, call, WAIT).await.ok()??;
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

/// Looks at what a pull brought; where to go on.
fn pulled(run: &Run, index: usize, topic: &str, offset: i64, answer: &Answer) -> Option<i64> {
    run.note("pull answered", &format!("{topic} {}", answer.remark), offset as u64, answer.code as u64);
    let next = answer.number("nextBeginOffset");
    match answer.code {
        response::SUCCESS => {
            let mut rest = &answer.body[..];
            let mut expect = offset as u64;
            let mut model = lock(&run.model);
            while !rest.is_empty() {
                let record = match log_image::parse(rest) {
                    Ok(record) => record,
                    Err(reason) => {
                        model.violation(CONSUMED, format!("{topic} from {offset} brings what is no record: {reason}"));
                        return None;
                    }
                };
                rest = &rest[record.size as usize..];
                if record.queue_offset != expect || record.topic != topic {
                    model.violation(
                        CONSUMED,
                        format!("{topic}: {} #{} came in place of #{expect}", record.topic, record.queue_offset),
                    );
                }
                expect += 1;
                if let Some(id) = model.consumed(&record) {
                    lock(&run.groups).get_mut(&index).expect("put there at the start").insert(id);
                }
            }
            run.trace.sometimes("consumer: got messages");
            if next != Some(expect as i64) {
                model.violation(CONSUMED, format!("{topic}: after #{} go on at {next:?}", expect - 1));
            }
            next
        }
        response::PULL_OFFSET_MOVED => {
            if lock(&run.model).promise == Promise::Disk && next.is_some_and(|next| next < offset) {
                let text = format!("{topic}: {offset} was moved back to {next:?}: {}", answer.remark);
                lock(&run.model).violation(CONSUMED, text);
            }
            next
        }
        response::PULL_NOT_FOUND | response::PULL_RETRY_IMMEDIATELY => next,
        _ => None,
    }
}

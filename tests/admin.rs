//! The broker's answers to operators' tools at the level of its processor, on a real store. Shapes and sentences are those
//! of RocketMQ 4.9.7.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::{sync::Arc, time::Duration};

use keelmq::{
    broker::{self, Broker, clients::Client, config::Config, processor::admin::Admin},
    env::Env,
    model::{
        Message,
        filter::Filter,
        settings::{Change, Source, Standing},
    },
    os,
    protocol::{
        body::{
            Body, ConsumeFromWhere, ConsumeType, ConsumerData, KvTable, MessageModel, SubscriptionData,
            SubscriptionGroupConfig,
        },
        code::{request, response},
        command::{self, Call, Response, Serialization},
    },
    remoting::{Answer, Channel, Processor, Request},
};

/// A broker, its admin processor and one connection to it.
struct Asked {
    env: Env,
    folder: tempfile::TempDir,
    broker: Broker,
    channel: Arc<Channel>,
}

impl Asked {
    async fn start() -> Self {
        let (env, folder) = (os::env(tokio::runtime::Handle::current()), tempfile::tempdir().unwrap());
        let mut config = Config::tiny();
        let root = folder.path().join("store").display().to_string();
        config.set("storePathRootDir", &root, Source::Set).unwrap();
        config.set("brokerClusterName", "C", Source::Set).unwrap();
        let broker = broker::start(env.clone(), config, None).await.unwrap();
        let channel = Channel::detached(1, "127.0.0.1:5000".parse().unwrap(), env.clock.clone());
        Asked { env, folder, broker, channel }
    }

    async fn call(&self, call: Call) -> Response {
        let mut frame = Vec::new();
        command::encode_call(&call, 7, false, Serialization::Json, &mut frame);
        let command = command::decode(&frame[4..]).unwrap();
        let request = Request { command, channel: &self.channel, received: self.env.clock.monotonic() };
        match Admin(self.broker.core().clone()).process(&request) {
            Answer::Now(response) => response,
            Answer::Later(response) => response.await.expect("an answer"),
            _ => panic!("code {} is neither answered now nor later", call.code),
        }
    }

    async fn ask(&self, code: i32, fields: &[(&'static str, &'static str)]) -> Response {
        self.call(fields.iter().fold(Call::new(code), |call, (name, value)| call.with(name, *value))).await
    }

    /// The answer's code, and its body or else its remark.
    async fn said(&self, code: i32, fields: &[(&'static str, &'static str)]) -> (i32, String) {
        text(self.ask(code, fields).await)
    }

    async fn create(&self, topic: &'static str, queues: &'static str, perm: &'static str) -> (i32, String) {
        let fields = [
            ("topic", topic),
            ("defaultTopic", "TBW102"),
            ("readQueueNums", queues),
            ("writeQueueNums", queues),
            ("perm", perm),
            ("topicFilterType", "SINGLE_TAG"),
            ("topicSysFlag", "0"),
            ("order", "true"),
        ];
        self.said(request::UPDATE_AND_CREATE_TOPIC, &fields).await
    }

    async fn put(&self, topic: &str, queue_id: u32, body: &[u8]) {
        let message = Message {
            topic,
            queue_id,
            flag: 0,
            sys_flag: 0,
            born_timestamp: 1,
            born_host: "127.0.0.1:1".parse().unwrap(),
            store_host: "127.0.0.1:10911".parse().unwrap(),
            reconsume_times: 0,
            prepared_offset: 0,
            body,
            properties: b"TAGS\x01TagA\x02",
        };
        let store = &self.broker.core().store;
        let appended = store.put_kept(&message).await.unwrap();
        store.dispatched().reached(appended.end.0).await.unwrap();
    }

    async fn runtime(&self) -> std::collections::BTreeMap<String, String> {
        let answer = self.ask(request::GET_BROKER_RUNTIME_INFO, &[]).await;
        KvTable::decode(&answer.body[0]).unwrap().table
    }

    async fn end(self) {
        self.broker.shutdown(Duration::from_secs(1)).await;
    }
}

fn text(response: Response) -> (i32, String) {
    let body: Vec<u8> = response.body.concat();
    let said = if body.is_empty() {
        response.remark.unwrap_or_default().into_owned()
    } else {
        String::from_utf8(body).unwrap()
    };
    (response.code, said)
}

#[track_caller]
fn check(said: (i32, String), code: i32, part: &str) {
    assert_eq!(said.0, code, "{said:?}");
    assert!(said.1.contains(part), "{said:?} does not contain {part:?}");
}

const OK: i32 = response::SUCCESS;

#[tokio::test(flavor = "multi_thread")]
async fn topics_come_change_and_go() {
    let broker = Asked::start().await;
    check(broker.create("orders", "2", "6").await, OK, "");
    let topics = broker.folder.path().join("store/config/topics.json");
    assert!(std::fs::read_to_string(topics).unwrap().contains("\"orders\""), "durable before it is answered");
    let expect = r#"{"order":false,"perm":6,"readQueueNums":2,"topicFilterType":"SINGLE_TAG","topicName":"orders","topicSysFlag":0,"writeQueueNums":2}"#;
    check(broker.said(request::GET_TOPIC_CONFIG, &[("topic", "orders")]).await, OK, expect);
    check(broker.said(request::GET_ALL_TOPIC_CONFIG, &[]).await, OK, &format!(r#""orders":{expect}"#));
    check(broker.said(request::GET_ALL_TOPIC_CONFIG, &[]).await, OK, r#"{"dataVersion":{"counter":"#);
    let version = broker.broker.core().topics.version();
    check(broker.create("orders", "2", "6").await, OK, "");
    assert_eq!(broker.broker.core().topics.version(), version, "unchanged is no change");

    for (topic, queues, perm, sentence) in [
        ("TBW102", "4", "6", "The topic[TBW102] is conflict with system topic."),
        ("C", "4", "6", "The topic[C] is conflict with system topic."),
        ("a b", "4", "6", "contains illegal characters"),
        ("", "4", "6", "blank"),
        ("x", "4", "99", "perm 99"),
        ("x", "-1", "6", "readQueueNums -1"),
        ("x", "65", "6", "queuesPerTopicMax"),
    ] {
        check(broker.create(topic, queues, perm).await, response::SYSTEM_ERROR, sentence);
    }

    broker.put("orders", 1, b"one").await;
    let stats = broker.said(request::GET_TOPIC_STATS_INFO, &[("topic", "orders")]).await;
    check(
        stats.clone(),
        OK,
        r#"{"offsetTable":{{"brokerName":"tiny","queueId":0,"topic":"orders"}:{"lastUpdateTimestamp":0,"maxOffset":0,"minOffset":0}"#,
    );
    check(stats, OK, r#""maxOffset":1,"minOffset":0}"#);
    check(
        broker.said(request::GET_TOPIC_STATS_INFO, &[("topic", "no")]).await,
        response::TOPIC_NOT_EXIST,
        "topic[no] not exist",
    );

    broker.broker.core().offsets.commit("orders", "g", 1, 1).unwrap();
    check(broker.said(request::DELETE_TOPIC_IN_BROKER, &[("topic", "orders")]).await, OK, "");
    check(
        broker.said(request::GET_TOPIC_CONFIG, &[("topic", "orders")]).await,
        response::TOPIC_NOT_EXIST,
        "No topic in this broker. topic: orders",
    );
    assert_eq!(broker.broker.core().store.max_offset("orders", 1).0, 0);
    assert_eq!(broker.broker.core().offsets.query("orders", "g", 1), Some(1), "4.9.7 keeps them");
    check(broker.said(request::GET_SYSTEM_TOPIC_LIST_FROM_BROKER, &[]).await, OK, "\"SELF_TEST_TOPIC\"");
    broker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_come_change_and_go() {
    let broker = Asked::start().await;
    let mut group = SubscriptionGroupConfig::new("g");
    group.retry_max_times = 3;
    let made = Call::new(request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP).with_body(group.encode());
    check(text(broker.call(made).await), OK, "");
    let file = broker.folder.path().join("store/config/subscriptionGroup.json");
    assert!(std::fs::read_to_string(file).unwrap().contains("\"retryMaxTimes\":3"), "durable before it is answered");
    check(broker.said(request::GET_ALL_SUBSCRIPTIONGROUP_CONFIG, &[]).await, OK, r#""groupName":"g""#);
    check(broker.said(request::GET_SUBSCRIPTIONGROUP_CONFIG, &[("group", "g")]).await, OK, r#""retryMaxTimes":3"#);
    check(
        broker.said(request::GET_SUBSCRIPTIONGROUP_CONFIG, &[("group", "h")]).await,
        response::SUBSCRIPTION_GROUP_NOT_EXIST,
        "No group",
    );
    let nameless = Call::new(request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP).with_body(&b"{}"[..]);
    check(text(broker.call(nameless).await), response::SYSTEM_ERROR, "groupName is not there");

    let offsets = &broker.broker.core().offsets;
    offsets.commit("t", "g", 0, 5).unwrap();
    check(broker.said(request::QUERY_TOPIC_CONSUME_BY_WHO, &[("topic", "t")]).await, OK, r#"{"groupList":["g"]}"#);
    check(broker.said(request::QUERY_TOPICS_BY_CONSUMER, &[("group", "g")]).await, OK, r#""topicList":["t"]"#);
    check(broker.said(request::DELETE_SUBSCRIPTIONGROUP, &[("groupName", "g")]).await, OK, "");
    assert_eq!(offsets.query("t", "g", 0), Some(5));
    for field in ["removeOffset", "cleanOffset"] {
        offsets.commit("t", "g", 0, 5).unwrap();
        check(broker.said(request::DELETE_SUBSCRIPTIONGROUP, &[("groupName", "g"), (field, "true")]).await, OK, "");
        assert_eq!(offsets.query("t", "g", 0), None, "{field}");
    }
    broker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lag_and_positions() {
    let broker = Asked::start().await;
    broker.create("t", "2", "6").await;
    for body in [b"a", b"b", b"c"] {
        broker.put("t", 0, body).await;
    }
    let offsets = &broker.broker.core().offsets;
    offsets.commit("t", "g", 0, 1).unwrap();
    let group = [("consumerGroup", "g")];
    let queue =
        r#"{"brokerName":"tiny","queueId":0,"topic":"t"}:{"brokerOffset":3,"consumerOffset":1,"lastTimestamp":"#;
    check(broker.said(request::GET_CONSUME_STATS, &group).await, OK, queue);
    check(
        broker.said(request::GET_CONSUME_STATS, &[("consumerGroup", "nobody")]).await,
        OK,
        r#"{"consumeTps":0.0,"offsetTable":{}}"#,
    );
    let made =
        Call::new(request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP).with_body(SubscriptionGroupConfig::new("g").encode());
    broker.call(made).await;
    check(broker.said(request::GET_BROKER_CONSUME_STATS, &[("isOrder", "false")]).await, OK, r#""totalDiff":2"#);
    check(
        broker.said(request::QUERY_CONSUME_TIME_SPAN, &[("topic", "t"), ("group", "g")]).await,
        OK,
        r#""consumeTimeStamp":"#,
    );

    check(
        broker.said(request::CLONE_GROUP_OFFSET, &[("srcGroup", "g"), ("destGroup", "copy"), ("topic", "t")]).await,
        OK,
        "",
    );
    assert_eq!(offsets.query("t", "copy", 0), Some(1));
    offsets.commit("t", "ahead", 0, 3).unwrap();
    let correction = |compared| [("filterGroups", "g"), ("compareGroup", compared), ("topic", "t")];
    check(
        broker.said(request::QUERY_CORRECTION_OFFSET, &correction("ahead")).await,
        OK,
        r#"{"correctionOffsets":{0:1}}"#,
    );
    check(broker.said(request::QUERY_CORRECTION_OFFSET, &[("compareGroup", "x"), ("topic", "t")]).await, OK, "{0:1}");

    let queue = |id, index| [("topic", "t"), ("queueId", id), ("index", index), ("count", "2"), ("consumerGroup", "g")];
    check(
        broker.said(request::QUERY_CONSUME_QUEUE, &queue("0", "1")).await,
        OK,
        r#""filterData":"g@t is not online!","maxQueueIndex":3,"minQueueIndex":0"#,
    );
    check(
        broker.said(request::QUERY_CONSUME_QUEUE, &queue("7", "0")).await,
        response::SYSTEM_ERROR,
        "7@t is not exist!",
    );
    let beyond = broker.ask(request::QUERY_CONSUME_QUEUE, &queue("0", "9")).await;
    assert_eq!((beyond.code, beyond.remark.as_deref()), (OK, Some("Index 9 of 0@t is not exist!")));

    let reset = |topic, group| [("topic", topic), ("group", group), ("timestamp", "-1"), ("isForce", "true")];
    check(
        broker.said(request::INVOKE_BROKER_TO_RESET_OFFSET, &reset("no", "g")).await,
        response::SYSTEM_ERROR,
        "no topic in this broker. topic=no",
    );
    check(
        broker.said(request::INVOKE_BROKER_TO_RESET_OFFSET, &reset("t", "h")).await,
        response::SYSTEM_ERROR,
        "THe consumer group <h> not exist",
    );
    offsets.commit("t", "g", 1, 0).unwrap();
    check(
        broker.said(request::INVOKE_BROKER_TO_RESET_OFFSET, &reset("t", "g")).await,
        response::CONSUMER_NOT_ONLINE,
        "Consumer not online, so can not reset offset, Group: g Topic: t Timestamp: -1",
    );
    broker.end().await;
}

/// 5.x's way: the broker's own offset moves at once, whoever pulls is sent there once, and what its consumers commit
/// before they heard of it changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_reset_in_the_broker_needs_nobody_online() {
    let broker = Asked::start().await;
    broker.create("t", "2", "6").await;
    for body in [b"a", b"b", b"c"] {
        broker.put("t", 0, body).await;
    }
    let change = Call::new(request::UPDATE_BROKER_CONFIG).with_body(&b"useServerSideResetOffset=true"[..]);
    check(text(broker.call(change).await), OK, "");
    let code = request::INVOKE_BROKER_TO_RESET_OFFSET;
    let reset =
        |topic, group, timestamp| [("topic", topic), ("group", group), ("timestamp", timestamp), ("isForce", "true")];
    check(broker.said(code, &reset("no", "g", "0")).await, response::TOPIC_NOT_EXIST, "Topic no does not exist");
    let unknown = broker.said(code, &reset("t", "g", "0")).await;
    check(unknown, response::SUBSCRIPTION_GROUP_NOT_EXIST, "Group g does not exist");
    let core = broker.broker.core();
    core.groups.put(SubscriptionGroupConfig::new("g"), 1, 100).unwrap();

    check(broker.said(code, &reset("t", "g", "-1")).await, OK, r#""queueId":0,"topic":"t"}:3"#);
    assert_eq!(core.offsets.query("t", "g", 0), Some(3));
    let to = |offset| {
        [("topic", "t"), ("group", "g"), ("timestamp", "0"), ("isForce", "true"), ("queueId", "0"), ("offset", offset)]
    };
    check(
        broker.said(code, &to("4")).await,
        response::SYSTEM_ERROR,
        "Target offset 4 not in consume queue range [0-3]",
    );
    check(
        broker.said(code, &to("1")).await,
        OK,
        r#"{"offsetTable":{{"brokerName":"tiny","queueId":0,"topic":"t"}:1}}"#,
    );

    assert_eq!(core.offsets.commit_consumed("t", "g", 0, 2), Ok(false), "what was consumed before the reset");
    assert_eq!(core.offsets.query("t", "g", 0), Some(1));
    assert_eq!((core.offsets.take_reset("t", "g", 0), core.offsets.take_reset("t", "g", 0)), (Some(1), None));
    assert_eq!(core.offsets.commit_consumed("t", "g", 0, 2), Ok(true));
    assert_eq!(core.offsets.query("t", "g", 0), Some(2));
    assert_eq!(core.offsets.take_reset("t", "g", 1), Some(0), "the other queue's is still to be said");
    broker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_there_and_what_is_not_served() {
    let broker = Asked::start().await;
    check(
        broker.said(request::GET_CONSUMER_CONNECTION_LIST, &[("consumerGroup", "g")]).await,
        response::CONSUMER_NOT_ONLINE,
        "the consumer group[g] not online",
    );
    check(
        broker.said(request::GET_PRODUCER_CONNECTION_LIST, &[("producerGroup", "p")]).await,
        response::SYSTEM_ERROR,
        "the producer group[p] not exist",
    );
    check(broker.said(request::GET_ALL_PRODUCER_INFO, &[]).await, OK, r#"{"data":{}}"#);
    check(
        broker.said(request::INVOKE_BROKER_TO_GET_CONSUMER_STATUS, &[("topic", "t"), ("group", "g")]).await,
        response::SYSTEM_ERROR,
        "No Any Consumer online in the consumer group: [g]",
    );
    let one = [("consumerGroup", "g"), ("clientId", "c")];
    check(
        broker.said(request::GET_CONSUMER_RUNNING_INFO, &one).await,
        response::SYSTEM_ERROR,
        "The Consumer <g> <c> not online",
    );
    check(broker.said(request::CONSUME_MESSAGE_DIRECTLY, &one).await, response::SYSTEM_ERROR, "is not the id");
    check(
        broker.said(request::GET_BROKER_HA_STATUS, &[]).await,
        response::REQUEST_CODE_NOT_SUPPORTED,
        "replication is not served yet",
    );
    check(
        broker.said(request::GET_BROKER_CLUSTER_ACL_INFO, &[]).await,
        response::REQUEST_CODE_NOT_SUPPORTED,
        "access control is not served yet",
    );
    check(broker.said(424_242, &[]).await, response::REQUEST_CODE_NOT_SUPPORTED, " request type 424242 not supported");
    broker.end().await;
}

/// Two members of one group with different subscriptions: Java's broker let the later one win in silence, and messages were
/// skipped for weeks.
#[tokio::test(flavor = "multi_thread")]
async fn members_that_subscribe_to_different_things_are_named() {
    let broker = Asked::start().await;
    let clients = &broker.broker.core().clients;
    let join = |number: u64, id: &str, expression: &str| {
        let subscription = SubscriptionData {
            class_filter_mode: false,
            code_set: Default::default(),
            expression_type: None,
            sub_string: expression.to_owned(),
            sub_version: number as i64,
            tags_set: Default::default(),
            topic: "orders".to_owned(),
        };
        let data = ConsumerData {
            consume_from_where: ConsumeFromWhere::LastOffset,
            consume_type: ConsumeType::Passively,
            group_name: "g".to_owned(),
            message_model: MessageModel::Clustering,
            subscription_data_set: vec![subscription],
            unit_mode: false,
        };
        let channel = Channel::detached(number, "127.0.0.1:5000".parse().unwrap(), broker.env.clock.clone());
        let seen = broker.env.clock.monotonic();
        let client = Client { id: id.to_owned(), language: command::Language::Java, version: 407, seen, channel };
        let parse = |data: &SubscriptionData| Ok(Arc::new(Filter::parse(None, &data.sub_string).unwrap()));
        clients.register_consumer(&data, client, parse).unwrap();
    };
    join(1, "a", "*");
    join(2, "b", "*");
    assert_eq!(clients.disagreement("g"), None);
    join(3, "c", "TagA");
    let line = clients.disagreement("g").unwrap();
    assert!(line.ends_with("a, b: orders(*); c: orders(TagA)"), "{line}");
    clients.channel_closed(3);
    assert_eq!(clients.disagreement("g").as_deref(), Some("the members of group g subscribe to the same again"));
    broker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_count_what_happened() {
    let broker = Asked::start().await;
    broker.create("t", "1", "6").await;
    let before = broker.runtime().await;
    assert_eq!((&*before["putMessageTimesTotal"], &*before["earliestMessageTimeStamp"]), ("0", "-1"));
    broker.put("t", 0, b"one").await;
    broker.put("t", 0, b"two").await;
    let stats = &broker.broker.core().stats;
    stats.got(("t", 0), "g", (2, 200), 2, Duration::from_millis(3));
    stats.got(("t", 0), "g", (0, 0), 2, Duration::ZERO);
    let after = broker.runtime().await;
    for (key, expect) in [
        ("putMessageTimesTotal", "2"),
        ("msgPutTotalTodayNow", "2"),
        ("msgGetTotalTodayNow", "2"),
        ("getMessageEntireTimeMax", "3"),
        ("dispatchBehindBytes", "0"),
        ("remainHowManyDataToFlush", "0 B"),
        ("brokerVersionDesc", "V4_9_7"),
        ("sendThreadPoolQueueCapacity", "256"),
    ] {
        assert_eq!(after[key], expect, "{key}");
    }
    assert_ne!(after["earliestMessageTimeStamp"], "-1");
    assert_eq!(after["getTransferedTps"], after["getTransferredTps"]);
    let size: u64 = after["putMessageSizeTotal"].parse().unwrap();
    assert_eq!(size, broker.broker.core().store.appended().0);
    stats.sent_back("t", "g");
    let view =
        async |name, key| broker.said(request::VIEW_BROKER_STATS_DATA, &[("statsName", name), ("statsKey", key)]).await;
    for (name, key, average, sum) in [
        ("TOPIC_PUT_NUMS", "t", "1.0", 2),
        ("TOPIC_PUT_SIZE", "t", "", size),
        ("QUEUE_PUT_NUMS", "t@0", "1.0", 2),
        ("QUEUE_PUT_SIZE", "t@0", "", size),
        ("GROUP_GET_NUMS", "t@g", "2.0", 2),
        ("GROUP_GET_SIZE", "t@g", "200.0", 200),
        ("GROUP_GET_LATENCY", "0@t@g", "3.0", 3),
        ("GROUP_GET_LATENCY", "t@g", "3.0", 3),
        ("QUEUE_GET_NUMS", "t@0@g", "2.0", 2),
        ("QUEUE_GET_SIZE", "t@0@g", "200.0", 200),
        ("SNDBCK_PUT_NUMS", "t@g", "1.0", 1),
        ("BROKER_PUT_NUMS", "C", "1.0", 2),
        ("BROKER_GET_NUMS", "C", "2.0", 2),
    ] {
        let said = view(name, key).await;
        check(said.clone(), OK, &format!(r#"{{"statsDay":{{"avgpt":{average}"#));
        check(said, OK, &format!(r#""sum":{sum},"#));
    }
    for (name, key) in [
        ("TOPIC_PUT_NUMS", "x"),
        ("TOPIC_PUT_NUMS", "t@g"),
        ("QUEUE_PUT_NUMS", "t@1"),
        ("QUEUE_PUT_NUMS", "t@x"),
        ("GROUP_GET_NUMS", "t@h"),
        ("SNDBCK_PUT_NUMS", "t@h"),
        ("BROKER_PUT_NUMS", "t"),
        // RocketMQ writes these to a log only.
        ("GROUP_GET_FALL_SIZE", "0@t@g"),
        ("GROUP_GET_FALL_TIME", "0@t@g"),
    ] {
        check(view(name, key).await, response::SYSTEM_ERROR, &format!("The stats <{name}> <{key}> not exist"));
    }
    broker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn configuration_changes_are_durable_or_refused() {
    let broker = Asked::start().await;
    let path = broker.folder.path().join("broker.conf");
    let before = "# ours\nfileReservedTime=72\nlistenPort=1\n";
    std::fs::write(&path, before).unwrap();
    broker.broker.keep_config_in(&path, before.to_owned());
    let change = |text: &'static str| Call::new(request::UPDATE_BROKER_CONFIG).with_body(text.as_bytes());
    check(text(broker.call(change("fileReservedTime=48\nnobodyKnowsThis=1\n")).await), OK, "");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "# ours\nfileReservedTime=48\nlistenPort=1\n");
    assert_eq!(broker.broker.core().config().file_reserved_time_h, 48);
    let said = broker.ask(request::GET_BROKER_CONFIG, &[]).await;
    let (_, config) = text(said);
    assert!(config.contains("\nfileReservedTime=48\n"), "{config}");
    assert!(config.lines().is_sorted());

    check(
        text(broker.call(change("fileReservedTime=24\nlistenPort=5")).await),
        response::SYSTEM_ERROR,
        "listenPort is read when the broker starts",
    );
    check(text(broker.call(change("fileReservedTime=soon")).await), response::SYSTEM_ERROR, "fileReservedTime=soon");
    check(
        text(broker.call(change("rocketmqHome=/")).await),
        response::NO_PERMISSION,
        "Can not update config in black list.",
    );
    assert_eq!(broker.broker.core().config().file_reserved_time_h, 48, "all or nothing");
    broker.end().await;
}

/// Every setting that can be changed while the broker runs is, and every other one is refused with what to do instead.
#[tokio::test(flavor = "multi_thread")]
async fn each_setting_changes_at_run_time_or_is_refused() {
    let broker = Asked::start().await;
    let mut counts = (0, 0);
    for entry in broker.broker.core().config().entries() {
        if entry.standing != Standing::Honoured {
            continue;
        }
        let number: i64 = entry.value.parse().unwrap_or(0);
        let candidates = [
            (number + 1).to_string(),
            (number - 1).to_string(),
            "true".into(),
            "false".into(),
            "05".into(),
            "a:1".into(),
        ];
        let mut wanted = candidates.into_iter().filter(|value| *value != entry.value && entry.allowed.admits(value));
        let Some(wanted) = wanted.next() else { continue };
        let line = format!("{}={wanted}\n", entry.key);
        let said =
            text(broker.call(Call::new(request::UPDATE_BROKER_CONFIG).with_body(line.clone().into_bytes())).await);
        let now = broker.broker.core().config().get_text(entry.key).unwrap();
        if entry.change == Change::AtRunTime {
            assert_eq!((said.0, now), (OK, wanted), "{line}: {}", said.1);
            counts.0 += 1;
        } else {
            check(said, response::SYSTEM_ERROR, "is read when the broker starts; it stays");
            assert_eq!(now, entry.value, "{line}");
            counts.1 += 1;
        }
    }
    assert!(counts.0 > 30 && counts.1 > 60, "{counts:?}");
    broker.end().await;
}

/// Queues of few topics could have taken any amount of memory.
#[tokio::test(flavor = "multi_thread")]
async fn figures_are_kept_for_so_many_names() {
    let broker = Asked::start().await;
    let (stats, names_max) = (&broker.broker.core().stats, broker.broker.core().config().stats_keys_max as u32);
    let kept = |name: &str, key: String| stats.view(name, &key, "C").is_some();
    for number in 0..2 * names_max {
        stats.got(("t", number), "g", (1, 1), 1, Duration::ZERO);
        stats.got(("t", 0), &format!("g{number}"), (1, 1), 1, Duration::ZERO);
    }
    let queues = (0..2 * names_max).filter(|queue| kept("QUEUE_GET_NUMS", format!("t@{queue}@g")));
    let groups = (0..2 * names_max).filter(|group| kept("GROUP_GET_NUMS", format!("t@g{group}")));
    assert!((1..names_max).contains(&(queues.count() as u32)), "those of other groups count, too");
    assert_eq!(groups.count() as u32, names_max - 1, "and the group g");
    assert_eq!(stats.view("BROKER_GET_NUMS", "C", "C").unwrap().stats_day.sum, i64::from(4 * names_max));
    stats.remove_topic("t");
    assert!(!kept("GROUP_GET_NUMS", "t@g".to_owned()) && !kept("QUEUE_GET_NUMS", "t@0@g".to_owned()));
    broker.end().await;
}

/// rocketmq-exporter reads each of these as a number, and gives up on the broker if one is none or is not there. (Source:
/// BrokerRuntimeStats of rocketmq-exporter 0.0.2.)
#[tokio::test(flavor = "multi_thread")]
async fn exporters_can_read_the_figures() {
    const WHOLE: [&str; 32] = [
        "msgPutTotalTodayNow",
        "msgGetTotalTodayNow",
        "msgPutTotalTodayMorning",
        "msgGetTotalTodayMorning",
        "msgPutTotalYesterdayMorning",
        "msgGetTotalYesterdayMorning",
        "sendThreadPoolQueueHeadWaitTimeMills",
        "queryThreadPoolQueueHeadWaitTimeMills",
        "pullThreadPoolQueueHeadWaitTimeMills",
        "sendThreadPoolQueueSize",
        "queryThreadPoolQueueSize",
        "pullThreadPoolQueueSize",
        "sendThreadPoolQueueCapacity",
        "queryThreadPoolQueueCapacity",
        "pullThreadPoolQueueCapacity",
        "commitLogMinOffset",
        "commitLogMaxOffset",
        "bootTimestamp",
        "dispatchMaxBuffer",
        "dispatchBehindBytes",
        "brokerVersion",
        "pageCacheLockTimeMills",
        "getMessageEntireTimeMax",
        "putMessageEntireTimeMax",
        "putMessageTimesTotal",
        "putMessageSizeTotal",
        "startAcceptSendRequestTimeStamp",
        "earliestMessageTimeStamp",
        "remainTransientStoreBufferNumbs",
        "EndTransactionQueueSize",
        "EndTransactionThreadPoolQueueCapacity",
        "putMessageFailedTimes",
    ];
    const FRACTIONS: [&str; 5] =
        ["consumeQueueDiskRatio", "commitLogDiskRatio", "putMessageAverageSize", "putLatency99", "putLatency999"];
    const RATES: [&str; 6] =
        ["putTps", "getMissTps", "getFoundTps", "getTotalTps", "getTransferedTps", "getTransferredTps"];
    let broker = Asked::start().await;
    broker.create("t", "1", "6").await;
    broker.put("t", 0, b"one").await;
    let figures = broker.runtime().await;
    for key in WHOLE {
        assert!(figures[key].parse::<i64>().is_ok(), "{key}: {}", figures[key]);
    }
    for key in FRACTIONS {
        assert!(figures[key].parse::<f64>().is_ok(), "{key}: {}", figures[key]);
    }
    for key in RATES {
        let rates: Vec<_> = figures[key].split(' ').filter(|rate| rate.parse::<f64>().is_ok()).collect();
        assert_eq!(rates.len(), 3, "{key}: {}", figures[key]);
    }
    for class in figures["putMessageDistributeTime"].split_whitespace() {
        let (name, count) = class.split_once(':').unwrap();
        assert!(name.starts_with('[') && count.parse::<u32>().is_ok(), "{class}");
    }
    let capacity: Vec<&str> = figures["commitLogDirCapacity"].split(' ').collect();
    assert!(capacity[2].parse::<f64>().is_ok() && capacity[6].parse::<f64>().is_ok(), "{capacity:?}");
    assert!(capacity[3].ends_with(',') && capacity[7].ends_with('.'), "{capacity:?}");
    let (behind, unit) = figures["remainHowManyDataToFlush"].split_once(' ').unwrap();
    assert!(behind.parse::<f64>().is_ok() && !unit.is_empty());
    let levels = figures.iter().filter(|(key, _)| key.starts_with("scheduleMessageOffset"));
    for (key, value) in levels {
        let (at, end) = value.split_once(',').unwrap();
        assert!(at.parse::<i64>().is_ok() && end.parse::<i64>().is_ok(), "{key}: {value}");
    }
    broker.end().await;
}

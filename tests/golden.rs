//! Bytes recorded from Apache RocketMQ are read, mean what they meant, and are written again as they were.
//! How they were recorded stands in `golden/README.md`.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::path::Path;

use keelmq::protocol::{
    body::{self, Body, batch::BatchItems, perm},
    command::{self, Call, Command, Language, Response, Serialization},
    frame, header,
    json::Json,
};

fn read(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn frame_of(name: &str) -> Vec<u8> {
    read(&format!("frames/{name}.bin"))
}

fn command(frame: &[u8]) -> Command<'_> {
    let (content, size) = frame::split(frame, 16 << 20).unwrap().expect("a whole frame");
    assert_eq!(size, frame.len());
    command::decode(content).unwrap()
}

/// The same value whatever order a hash map had.
fn sorted(json: Json<'_>) -> Json<'static> {
    let mut json = json.into_owned();
    match &mut json {
        Json::List(values) => {
            *values = std::mem::take(values).into_iter().map(sorted).collect();
            values.sort_by_key(|value| value.encode(Default::default()));
        }
        Json::Object(members) => {
            *members = std::mem::take(members).into_iter().map(|(key, value)| (sorted(key), sorted(value))).collect();
            members.sort_by_key(|(key, _)| key.encode(Default::default()));
        }
        _ => {}
    }
    json
}

/// Reads the recorded body as `T`, writes it, and wants the same members and as many bytes (Java's maps have no order).
fn same_body<T: Body>(name: &str) -> T {
    let frame = frame_of(name);
    let recorded = command(&frame).body;
    let body = T::decode(recorded).unwrap_or_else(|error| panic!("{name}: {error}"));
    let written = body.encode();
    let text = String::from_utf8_lossy(&written);
    assert_eq!(sorted(Json::parse(&written).unwrap()), sorted(Json::parse(recorded).unwrap()), "{name}: {text}");
    assert_eq!(written.len(), recorded.len(), "{name}: {text}");
    body
}

#[test]
fn every_frame_is_read_and_written_again() {
    let mut seen = 0;
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/frames")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let bytes = read(&format!("frames/{name}"));
        let recorded = command(&bytes);
        let passed_on: Vec<_> = recorded.fields.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let mut written = Vec::new();
        if recorded.is_response() {
            let mut response = Response::new(recorded.code).with_body(recorded.body.to_vec());
            response.remark = recorded.remark.as_deref().map(|remark| remark.to_owned().into());
            response.passed_on = passed_on;
            command::encode_response(&response, recorded.opaque, recorded.serialization, &mut written);
            written.extend_from_slice(recorded.body);
        } else {
            let mut call = Call::new(recorded.code).with_body(recorded.body.to_vec());
            call.passed_on = passed_on;
            command::encode_call(&call, recorded.opaque, recorded.is_oneway(), recorded.serialization, &mut written);
        }
        let again = command(&written);
        assert_eq!((again.code, again.opaque, again.flag), (recorded.code, recorded.opaque, recorded.flag), "{name}");
        assert_eq!(
            (&again.remark, again.body),
            (&recorded.remark.clone().filter(|remark| !remark.is_empty()), recorded.body),
            "{name}"
        );
        assert_eq!(again.fields.iter().collect::<Vec<_>>(), recorded.fields.iter().collect::<Vec<_>>(), "{name}");
        // What Java 4.9.7 wrote with fields in it, we write to the byte.
        if recorded.version == 407 && !recorded.fields.is_empty() {
            assert_eq!(written, bytes, "{name}: {}", String::from_utf8_lossy(&written));
        }
        seen += 1;
    }
    assert!(seen > 60, "{seen} frames");
}

#[test]
fn sends_of_java_and_go() {
    let frame = frame_of("java497-310-request");
    let java = command(&frame);
    let send = header::SendMessage::decode(java.code, &java.fields).unwrap();
    assert_eq!((send.producer_group, send.topic, send.default_topic), ("CapProducer", "CapTopic", "TBW102"));
    assert_eq!((send.default_topic_queue_nums, send.queue_id, send.sys_flag, send.flag), (4, 2, 0, 0));
    assert_eq!((send.broker_name, send.batch, send.reconsume_times), (Some("broker-a"), false, Some(0)));
    assert!(send.properties.unwrap().starts_with("KEYS\u{1}key1\u{2}UNIQ_KEY\u{1}"));
    assert_eq!((java.language, java.version, java.body), (Language::Java, 407, &b"hello"[..]));

    let frame = frame_of("go212-10-request");
    let go = command(&frame);
    let send = header::SendMessage::decode(go.code, &go.fields).unwrap();
    assert_eq!((send.producer_group, send.topic, send.queue_id), ("GoProducer", "CapTopic", 1));
    assert_eq!((send.max_reconsume_times, send.batch), (Some(0), false));
    assert!(send.properties.unwrap().ends_with("KEYS\u{1}k1\u{2}"));
    assert_eq!((go.language, go.version), (Language::Go, 317));

    let frame = frame_of("binary-310-request");
    let binary = command(&frame);
    assert_eq!((binary.serialization, binary.code, binary.body), (Serialization::Binary, 310, &b"hello"[..]));
    let send = header::SendMessage::decode(binary.code, &binary.fields).unwrap();
    assert_eq!((send.topic, send.properties), ("CapTopic", Some("KEYS\u{1}key1\u{2}WAIT\u{1}true")));
}

#[test]
fn batches_of_java_and_go() {
    let check = |name: &str, expect: &[(&str, usize)]| {
        let frame = frame_of(name);
        let command = command(&frame);
        assert!(header::SendMessage::decode(command.code, &command.fields).unwrap().batch);
        let items: Vec<_> = BatchItems::new(command.body).map(Result::unwrap).collect();
        let found: Vec<_> =
            items.iter().map(|item| (str::from_utf8(item.body).unwrap(), item.properties.len())).collect();
        assert_eq!(found, expect, "{name}");
        let mut written = Vec::new();
        items.iter().for_each(|item| item.encode(&mut written));
        assert_eq!(written, command.body, "{name}");
    };
    check("java497-320-request", &[("one", 93), ("two", 93)]);
    check("go212-320-request", &[("one", 0), ("two", 0)]);
}

#[test]
fn headers_of_requests() {
    macro_rules! decoded {
        ($name:literal, $header:ty, $($member:ident: $expect:expr),*) => {{
            let frame = frame_of($name);
            let command = command(&frame);
            let header = <$header>::decode(&command.fields).unwrap();
            $(assert_eq!(header.$member, $expect, concat!($name, " ", stringify!($member)));)*
        }};
    }
    decoded!("java497-11-request", header::PullMessage, consumer_group: "CapGroup", max_message_nums: 32, sys_flag: 2,
        suspend_timeout_millis: Some(15000), expression_type: Some("TAG"), subscription: None);
    decoded!("go212-11-request", header::PullMessage, consumer_group: "GoGroup", suspend_timeout_millis: Some(20000), sub_version: Some(0));
    decoded!("java497-12-request", header::QueryMessage, key: "key1", end_timestamp: i64::MAX, unique_key_query: false);
    decoded!("java497-14-request", header::QueryConsumerOffset, queue_id: 1);
    decoded!("java497-15-request", header::UpdateConsumerOffset, commit_offset: 0);
    decoded!("java497-17-request", header::CreateTopic, topic: "AdmTopic", perm: 6, topic_filter_type: "SINGLE_TAG", order: false);
    decoded!("java497-36-request", header::SendBack, offset: 1233, delay_level: 0, max_reconsume_times: Some(16));
    decoded!("go212-36-request", header::SendBack, offset: 0, group: "GoGroup");
    decoded!("java497-37-request", header::EndTransaction, commit_log_offset: 938, commit_or_rollback: 8, producer_group: "CapTran");
    decoded!("java497-35-request", header::UnregisterClient, producer_group: Some("CLIENT_INNER_PRODUCER"));
    decoded!("java497-222-request", header::ResetOffset, is_force: true, timestamp: 0);
    decoded!("java497-307-request", header::ConsumerRunningInfo, jstack_enable: false);
    decoded!("java497-208-request", header::GetConsumeStats, consumer_group: Some("CapGroup"), topic: None);
    decoded!("java497-317-request", header::GetBrokerConsumeStats, is_order: false);
    decoded!("java497-321-request", header::QueryConsumeQueue, count: Some(5), queue_id: Some(0));
    decoded!("ns497-105-request", header::GetRouteInfo, topic: Some("CapTopic"), accept_standard_json_only: false);
    decoded!("ns497-216-request", header::DeleteTopicInNameServer, cluster_name: Some("DefaultCluster"));
    decoded!("broker497-103-request", header::RegisterBroker, broker_name: Some("broker-a"), broker_id: 0, compressed: false,
        body_crc32: Some(1402281279), enable_acting_master: None);
    decoded!("broker540-103-request", header::RegisterBroker, enable_acting_master: Some(false));
    decoded!("broker497-104-request", header::BrokerIdentity, broker_addr: "127.0.0.1:20980");
    decoded!("broker497-40-request", header::ConsumerGroup, consumer_group: "CapGroup");
    decoded!("broker497-220-request", header::ResetOffset, is_force: false, group: "CapGroup");
}

#[test]
fn heartbeats() {
    let java: body::HeartbeatData = same_body("java497-34-request");
    let consumer = &java.consumer_data_set[0];
    assert_eq!((consumer.group_name.as_str(), consumer.message_model), ("CapGroup", body::MessageModel::Clustering));
    assert_eq!(consumer.consume_from_where, body::ConsumeFromWhere::FirstOffset);
    let tags = consumer.subscription_data_set.iter().find(|subscription| subscription.topic == "CapTopic").unwrap();
    assert_eq!(tags.code_set, [2598919, 2598920].into());

    let frame = frame_of("go212-34-request");
    let go = body::HeartbeatData::decode(command(&frame).body).unwrap();
    let subscriptions = &go.consumer_data_set[0].subscription_data_set;
    assert_eq!(subscriptions[1].code_set, [2598919, 2598920].into());
    assert_eq!(subscriptions[1].sub_version, 1795256328455093704);
    assert_eq!(go.producer_data_set[0].group_name, "GoProducer");

    let check: body::CheckClientConfig = same_body("java497-46-request");
    assert_eq!(check.subscription_data.unwrap().expression_type.as_deref(), Some("SQL92"));
}

#[test]
fn bodies_of_brokers() {
    let locks: body::LockBatch = same_body("java497-41-request");
    assert_eq!(locks.mq_set.len(), 1);
    same_body::<body::LockedBatch>("java497-41-answer");
    same_body::<body::ConsumerIdList>("java497-38-answer");
    same_body::<body::SubscriptionGroupConfig>("java497-200-request");
    same_body::<body::SubscriptionGroupTable>("java497-201-answer");
    let topics: body::TopicConfigTable = same_body("java497-21-answer");
    assert_eq!(topics.topic_config_table["SCHEDULE_TOPIC_XXXX"].write_queue_nums, 18);
    same_body::<body::TopicStatsTable>("java497-202-answer");
    same_body::<body::ConsumerConnection>("java497-203-answer");
    same_body::<body::ProducerConnection>("java497-204-answer");
    same_body::<body::ConsumeStats>("java497-208-answer");
    let reset: body::ResetOffsets = same_body("java497-222-answer");
    assert_eq!(reset.offset_table.len(), 4);
    same_body::<body::ResetOffsets>("broker497-220-request");
    same_body::<body::GroupList>("java497-300-answer");
    same_body::<body::TopicList>("java497-305-answer");
    same_body::<body::BrokerStatsData>("java497-315-answer");
    same_body::<body::ConsumeStatsList>("java497-317-answer");
    same_body::<body::ConsumeQueueEntries>("java497-321-answer");
    same_body::<body::ProducerTable>("java497-328-answer");
}

#[test]
fn bodies_of_name_servers() {
    let bare: body::TopicRouteData = same_body("ns497-105-bare-answer");
    assert_eq!(bare.broker_datas[0].broker_addrs[&0], "127.0.0.1:20980");
    assert_eq!(bare.queue_datas[0].perm, perm::READ | perm::WRITE | perm::INHERIT);
    let frame = frame_of("ns497-105-quoted-answer");
    let quoted = command(&frame).body;
    assert_eq!(body::TopicRouteData::decode(quoted).unwrap().encode_standard(), quoted);
    same_body::<body::ClusterInfo>("ns497-106-answer");
    same_body::<body::TopicList>("ns497-206-answer");
    same_body::<body::KvTable>("ns497-103-answer");
}

#[test]
fn registrations() {
    let check = |name: &str, topics: usize| {
        let frame = frame_of(name);
        let command = command(&frame);
        let header = header::RegisterBroker::decode(&command.fields).unwrap();
        assert_eq!(header.body_crc32, Some(body::registration_crc(command.body)), "{name}");
        let body =
            body::RegisterBrokerBody::decode_registration(command.body, header.compressed, command.version).unwrap();
        assert_eq!(body.topics.topic_config_table.len(), topics, "{name}");
        assert_eq!(body.topics.topic_config_table["TBW102"].perm, 7, "{name}");
        // The compressed form has no word for attributes that are there and empty.
        let mut body = body;
        for topic in body.topics.topic_config_table.values_mut() {
            topic.attributes.take_if(|attributes| attributes.is_empty());
        }
        let compressed = body.encode_compressed();
        assert_eq!(body::RegisterBrokerBody::decode_registration(&compressed, true, command.version).unwrap(), body);
        body
    };
    let plain = check("broker497-103-request", 8);
    let compressed = check("broker497-103-compressed-request", 8);
    assert_eq!(plain.topics.topic_config_table, compressed.topics.topic_config_table);
    same_body::<body::RegisterBrokerBody>("broker497-103-request");
    let later = check("broker540-103-request", 15);
    assert_eq!(later.topics.data_version.state_version, Some(0));
}

#[test]
fn files_of_the_store() {
    fn check<T: Body>(name: &str) -> (Vec<u8>, Vec<u8>) {
        let recorded = read(&format!("files/{name}"));
        let written = T::decode_file(&recorded).unwrap().encode_file();
        assert_eq!(sorted(Json::parse_file(&written).unwrap()), sorted(Json::parse_file(&recorded).unwrap()), "{name}");
        assert_eq!(written.len(), recorded.len(), "{name}: {}", String::from_utf8_lossy(&written));
        (recorded, written)
    }
    check::<body::TopicConfigTable>("topics.json");
    check::<body::SubscriptionGroupTable>("subscriptionGroup.json");
    let (recorded, written) = check::<body::ConsumerOffsetTable>("consumerOffset.json");
    assert_eq!(written, recorded);
    let (recorded, written) = check::<body::DelayOffsetTable>("delayOffset.json");
    assert_eq!(written, recorded);
}

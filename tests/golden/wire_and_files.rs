//! Frames, bodies and settings, each on its own.

use keelmq::{
    model::{OffsetMessageId, properties},
    protocol::{
        body::{self, Body, batch::BatchItems, perm},
        code::response,
        command::{self, Call, Command, Language, Response, Serialization},
        frame, header,
        json::Json,
    },
};

use crate::reading::{folder, read, same_record};

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
    for entry in std::fs::read_dir(folder("frames")).unwrap() {
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
    assert!(seen > 100, "{seen} frames");
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
fn sends_spelled_out_and_replies() {
    let check = |name: &str, expect: (&str, &str, &[u8]), starts: &str| {
        let frame = frame_of(name);
        let command = command(&frame);
        let send = header::SendMessage::decode(command.code, &command.fields).unwrap();
        assert_eq!((send.producer_group, send.topic, command.body), expect, "{name}");
        assert!(send.properties.unwrap().starts_with(starts), "{name}: {:?}", send.properties);
    };
    check("java497-10-request", ("GoldenProducer", "GoldenTopic", b"v1"), "KEYS\u{1}KeyV1\u{2}UNIQ_KEY");
    for name in ["java497-324-request", "java497-325-request"] {
        let expect = ("GoldenReplier", "DefaultCluster_REPLY_TOPIC", &b"answer"[..]);
        check(name, expect, "MSG_TYPE\u{1}reply\u{2}REPLY_TO_CLIENT\u{1}");
    }
    let frame = frame_of("broker497-326-request");
    let pushed = command(&frame);
    let text = header::PushReply::decode(&pushed.fields).unwrap().properties.unwrap();
    assert_eq!(properties::get(text.as_bytes(), properties::name::PUSH_REPLY_TIME), Some("1795727538838"));
    assert_eq!(pushed.body, b"answer");
}

#[test]
fn answers_without_a_body_of_their_own() {
    let check = |name: &str, code: i32, fields: &[(&str, &str)], remark: &str| {
        let frame = frame_of(name);
        let command = command(&frame);
        let found: Vec<_> =
            command.fields.iter().filter(|(key, _)| fields.iter().any(|(wanted, _)| wanted == key)).collect();
        assert_eq!((command.code, &found[..]), (code, fields), "{name}");
        assert_eq!(command.remark.as_deref().unwrap_or_default(), remark, "{name}");
    };
    check("java497-29-answer", response::SUCCESS, &[("offset", "1")], "");
    check("java497-31-answer", response::SUCCESS, &[("offset", "0")], "");
    check("java497-32-answer", response::SUCCESS, &[("timestamp", "1795727533652")], "");
    check("java497-33-unknown-answer", response::SYSTEM_ERROR, &[], "can not find message by the offset, 9999");
    check("java497-325-answer", response::SUCCESS, &[("queueId", "0")], "");
    let remark = "reply message properties[REPLY_TO_CLIENT] is null";
    check("java497-325-unanswerable-answer", response::SYSTEM_ERROR, &[("queueOffset", "0")], remark);
    check("java497-326-answer", response::SUCCESS, &[], "");
    check("ns497-101-answer", response::SUCCESS, &[("value", "value = 1; ąę \"q\"")], "");
    let remark = "No config item, Namespace: GoldenSpace Key: absent";
    check("ns497-101-unknown-answer", response::QUERY_NOT_FOUND, &[], remark);
    check("ns497-219-unknown-answer", response::QUERY_NOT_FOUND, &[], "No config item, Namespace: AbsentSpace");
    check("ns497-322-answer", response::SUCCESS, &[("changed", "false")], "");
    check("ns497-322-changed-answer", response::SUCCESS, &[("changed", "true")], "");
    check("ns497-104-answer", response::SUCCESS, &[], "");
    check("java540-361-answer", response::SUCCESS, &[("nextBeginOffset", "1"), ("maxOffset", "1")], "FOUND");

    let id = "00000000000000000000000000000001000051B90000000000001808";
    check("java497-10-v6-answer", response::SUCCESS, &[("msgId", id)], "");
    let id = OffsetMessageId::parse(id).unwrap();
    assert_eq!((id.store_host, id.offset.0), ("[::1]:20921".parse().unwrap(), 6_152));
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
    decoded!("java497-37-rollback-request", header::EndTransaction, commit_log_offset: 1821, tran_state_table_offset: 0,
        commit_or_rollback: 12, from_transaction_check: false, transaction_id: None);
    decoded!("java497-37-unknown-request", header::EndTransaction, commit_or_rollback: 0, from_transaction_check: false);
    decoded!("java497-37-checked-request", header::EndTransaction, commit_log_offset: 3611, tran_state_table_offset: 4,
        commit_or_rollback: 8, from_transaction_check: true, message_id: Some("FD00000000000000000000000000000260D61DBD16A6854BD3290008"));
    decoded!("java497-29-request", header::SearchOffset, topic: "GoldenTopic", queue_id: 0, timestamp: 1795727533732, boundary_type: None);
    decoded!("java497-31-request", header::GetMinOffset, topic: "GoldenTopic", queue_id: 0);
    decoded!("java497-32-request", header::GetMinOffset, topic: "GoldenTopic", queue_id: 0);
    decoded!("java497-33-request", header::ViewMessage, topic: None, offset: 215);
    decoded!("java540-361-request", header::PullMessage, consumer_group: "GoldenLite", queue_offset: 0, subscription: Some("*"),
        sys_flag: header::pull_flag::SUSPEND | header::pull_flag::SUBSCRIPTION | header::pull_flag::LITE_PULL,
        max_message_bytes: Some(i32::MAX));
    decoded!("java497-35-request", header::UnregisterClient, producer_group: Some("CLIENT_INNER_PRODUCER"));
    decoded!("java497-222-request", header::ResetOffset, is_force: true, timestamp: 0);
    decoded!("java497-307-request", header::ConsumerRunningInfo, jstack_enable: false);
    decoded!("java497-208-request", header::GetConsumeStats, consumer_group: Some("CapGroup"), topic: None);
    decoded!("java497-317-request", header::GetBrokerConsumeStats, is_order: false);
    decoded!("java497-321-request", header::QueryConsumeQueue, count: Some(5), queue_id: Some(0));
    decoded!("ns497-105-request", header::GetRouteInfo, topic: Some("CapTopic"), accept_standard_json_only: false);
    decoded!("ns497-216-request", header::DeleteTopicInNameServer, cluster_name: Some("DefaultCluster"));
    decoded!("ns497-101-request", header::KvKey, namespace: Some("GoldenSpace"), key: Some("key one"));
    decoded!("ns497-219-request", header::KvNamespace, namespace: Some("GoldenSpace"));
    decoded!("ns497-224-request", header::Cluster, cluster: Some("DefaultCluster"));
    decoded!("broker497-322-request", header::QueryDataVersion, broker_addr: "127.0.0.1:20921", cluster_name: "DefaultCluster");
    decoded!("broker497-322-request", header::BrokerIdentity, broker_name: "broker-a", broker_id: 0);
    decoded!("broker497-326-request", header::PushReply, producer_group: "GoldenReplier", topic: "DefaultCluster_REPLY_TOPIC",
        born_host: "127.0.0.1:51032", store_host: "127.0.0.1:20921", store_timestamp: 1795727538838, queue_id: 0, unit_mode: false);
    decoded!("broker497-39-request", header::CheckTransactionState, topic: None, tran_state_table_offset: 4,
        commit_log_offset: 3611, offset_message_id: Some("7F000001000051B90000000000000E1B"));
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
    let space: body::KvTable = same_body("ns497-219-answer");
    assert_eq!(space.table["key one"], "value = 1; ąę \"q\"");
    let topics: body::TopicList = same_body("ns497-224-answer");
    assert!(topics.topic_list.contains("GoldenTopic"));
    let none: body::TopicList = same_body("ns497-224-unknown-answer");
    assert!(none.topic_list.is_empty());
    // A name server that knows nothing of the broker answers without a version.
    let asked: body::DataVersion = same_body("broker497-322-request");
    assert_eq!(same_body::<body::DataVersion>("ns497-322-answer"), asked);
    let frame = frame_of("ns497-322-changed-answer");
    assert!(command(&frame).body.is_empty());
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
    let recorded = read("files/kvConfig.json");
    let written = body::KvConfig::decode_file(&recorded).unwrap().encode();
    assert_eq!(sorted(Json::parse_file(&written).unwrap()), sorted(Json::parse_file(&recorded).unwrap()));
    assert_eq!(written.len(), recorded.len(), "{}", String::from_utf8_lossy(&written));
    check::<body::TopicConfigTable>("topics.json");
    check::<body::SubscriptionGroupTable>("subscriptionGroup.json");
    // Bloom filters are Java's own affair: it makes them where they are missing.
    let recorded = String::from_utf8(read("files/consumerFilter.json")).unwrap();
    let mut without = String::new();
    let mut is_within = false;
    for line in recorded.split_inclusive('\n') {
        is_within |= line.contains("bloomFilterData");
        if !is_within {
            without.push_str(line);
        }
        is_within &= !line.contains('}');
    }
    let table = body::ConsumerFilterTable::decode_file(recorded.as_bytes()).unwrap();
    assert_eq!(String::from_utf8(table.encode_file()).unwrap(), without);
    let (recorded, written) = check::<body::ConsumerOffsetTable>("consumerOffset.json");
    assert_eq!(written, recorded);
    let (recorded, written) = check::<body::DelayOffsetTable>("delayOffset.json");
    assert_eq!(written, recorded);
}

#[test]
fn records_in_bodies() {
    let check = |name: &str, body: &[u8], offsets: (u64, u64), hosts: (&str, &str)| {
        let frame = frame_of(name);
        let record = same_record(name, command(&frame).body);
        assert_eq!((record.message.body, (record.log_offset.0, record.queue_offset.0)), (body, offsets), "{name}");
        let found = (record.message.born_host.to_string(), record.message.store_host.to_string());
        assert_eq!((&*found.0, &*found.1), hosts, "{name}");
    };
    check("java497-33-answer", b"second", (215, 1), ("127.0.0.1:50996", "127.0.0.1:20921"));
    check("broker497-39-request", b"to commit", (3_611, 4), ("127.0.0.1:51044", "127.0.0.1:20921"));
    check("java540-361-answer", b"first", (0, 0), ("127.0.0.1:38060", "127.0.0.1:20921"));
    // What is viewed is what is stored.
    let frame = frame_of("java497-33-v6-answer");
    assert_eq!(command(&frame).body, read("stores/4.9.7/records/6152-by-proxy-v6.bin"));
}

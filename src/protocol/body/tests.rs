//! Bodies by rows: quirks of clients, broken batches and registrations, and that nothing panics. Recorded bytes are tested
//! in `tests/golden`.

use proptest::prelude::*;

use super::{batch::*, *};

/// The C++ client sends enums as ordinals, the version as text, and leaves out what it does not know.
#[test]
fn heartbeats_of_cpp() {
    let text = br#"{"clientID":"10.0.0.1@1","consumerDataSet":[{"consumeFromWhere":4,"consumeType":1,"groupName":"G",
        "messageModel":0,"subscriptionDataSet":[{"codeSet":["123"],"subString":"a","subVersion":"1700000000000","tagsSet":["a"],
        "topic":"T"}]}],"producerDataSet":[]}"#;
    let heartbeat = HeartbeatData::decode(text).unwrap();
    let consumer = &heartbeat.consumer_data_set[0];
    assert_eq!(consumer.consume_from_where, ConsumeFromWhere::FirstOffset);
    assert_eq!((consumer.consume_type, consumer.message_model), (ConsumeType::Passively, MessageModel::Broadcasting));
    let subscription = &consumer.subscription_data_set[0];
    assert_eq!((subscription.sub_version, &subscription.expression_type), (1700000000000, &None));
    assert_eq!(subscription.code_set, [123].into());
}

#[test]
fn a_wrong_member_is_named() {
    let check = |text: &str, expect: &str| {
        assert_eq!(HeartbeatData::decode(text.as_bytes()).unwrap_err().to_string(), expect);
    };
    check("", "the body is not JSON: the text ends where a value belongs at byte 0");
    check("[]", "the body's member (itself) is not an object");
    check(r#"{"consumerDataSet":7}"#, "the body's member consumerDataSet is not a list");
    check(r#"{"consumerDataSet":[{"consumeType":{}}]}"#, "the body's member consumeType is not a ConsumeType");
    check(r#"{"producerDataSet":[{}]}"#, "the body's member groupName is not there");
    check(
        r#"{"consumerDataSet":[{"groupName":"G","subscriptionDataSet":[{"subVersion":{}}]}]}"#,
        "the body's member subVersion is not a 64-bit number",
    );
}

/// What fastjson makes null of takes the member's default: unknown names, empty numbers. Anything is text.
#[test]
fn what_is_nothing_is_missing() {
    let text = r#"{"clientID":[1, {}],"consumerDataSet":[{"groupName":"","messageModel":"X","consumeType":"EAT","subscriptionDataSet":
        [{"subVersion":"","subString":{"a":1}}, {"subVersion":"null"}]}]}"#;
    let heartbeat = HeartbeatData::decode(text.as_bytes()).unwrap();
    let consumer = &heartbeat.consumer_data_set[0];
    assert_eq!((heartbeat.client_id.as_deref(), consumer.message_model), (Some("[1,{}]"), MessageModel::Clustering));
    assert_eq!(consumer.subscription_data_set[0].sub_string, r#"{"a":1}"#);
    assert_eq!(consumer.subscription_data_set[1].sub_version, 0);
    assert!(
        HeartbeatData::decode(
            br#"{"consumerDataSet":[{"groupName":"G","subscriptionDataSet":[{"subVersion":" 1"}]}]}"#
        )
        .is_err()
    );
}

#[test]
fn defaults_are_rocketmqs() {
    let group = SubscriptionGroupConfig::decode(br#"{"groupName":"G"}"#).unwrap();
    assert_eq!(group, SubscriptionGroupConfig::new("G"));
    let topic = TopicConfig::decode(br#"{"topicName":"T","topicFilterType":null}"#).unwrap();
    assert_eq!(topic, TopicConfig::new("T", 16, 6));
}

#[test]
fn broken_batches_say_where() {
    let mut good = Vec::new();
    BatchItem { flag: 3, body: b"body", properties: b"k\x01v" }.encode(&mut good);
    let check = |batch: &[u8], expect: Result<usize, &str>| {
        let found = BatchItems::new(batch).collect::<Result<Vec<_>, _>>();
        assert_eq!(found.map(|items| items.len()).map_err(|error| error.to_string()), expect.map_err(str::to_owned));
    };
    check(b"", Ok(0));
    check(&good, Ok(1));
    check(&[&good[..], &good[..]].concat(), Ok(2));
    check(&[&good[..], &[0][..]].concat(), Err("item at byte 29 of the batch: shorter than its fixed part"));
    for cut in 1..good.len() {
        assert!(BatchItems::new(&good[..cut]).next().unwrap().is_err());
    }
    let with = |at: usize, number: i32| {
        let mut batch = good.clone();
        batch[at..at + 4].copy_from_slice(&number.to_be_bytes());
        batch
    };
    // Java does not look at the size.
    check(&with(0, -1), Ok(1));
    check(&with(0, 21), Ok(1));
    check(&with(16, i32::MAX), Err("item at byte 0 of the batch: its body exceeds the batch"));
    check(&with(16, -4), Err("item at byte 0 of the batch: a negative body length"));
    check(&with(16, 3), Err("item at byte 0 of the batch: its properties exceed the batch"));
}

/// A registration may inflate a thousandfold; what it announces must not be believed.
#[test]
fn registrations_are_bounded() {
    use std::io::Write;
    let deflate = |plain: &[u8]| {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    };
    let check = |body: &[u8], expect: &str| {
        let error = RegisterBrokerBody::decode_registration(body, true, 407).unwrap_err();
        assert_eq!(error.to_string(), expect);
    };
    check(b"not zlib", "the body's zlib stream is damaged");
    check(&deflate(b"\x7F\xFF\xFF\xFF{}"), "the body's zlib stream ends too early or exceeds 64 MiB");
    check(&deflate(b"\xFF\xFF\xFF\xFF{}"), "the body's zlib stream holds a negative length");
    check(
        &deflate(b"\0\0\0\x02{}\0\0\0\x01\0\0\0\x03a b"),
        "the body's topic is not `name readQueues writeQueues perm filterType`",
    );
    let mut bomb = vec![0x7F, 0xFF, 0xFF, 0xFF];
    bomb.resize(70 << 20, b' ');
    check(&deflate(&bomb), "the body's zlib stream ends too early or exceeds 64 MiB");
}

proptest! {
    #[test]
    fn registrations_are_read_back(
        topics in prop::collection::btree_map("[%|a-zA-Z0-9_-]{1,20}", (0..100i32, 0..100i32, 0..8i32), 0..10),
        counter in any::<i64>(), compressed in any::<bool>(), filters in prop::collection::vec("[a-z:0-9]{1,10}", 0..3),
    ) {
        let mut body = RegisterBrokerBody { filter_server_list: filters, ..Default::default() };
        body.topics.data_version = DataVersion { counter, state_version: None, timestamp: 5 };
        for (name, (read, write, perm)) in topics {
            let mut topic = TopicConfig::new(name.clone(), read, perm);
            topic.write_queue_nums = write;
            body.topics.topic_config_table.insert(name, topic);
        }
        let written = if compressed { body.encode_compressed() } else { body.encode() };
        prop_assert_eq!(RegisterBrokerBody::decode_registration(&written, compressed, 407).unwrap(), body);
    }

    #[test]
    fn batches_are_read_back(items in prop::collection::vec((any::<i32>(), prop::collection::vec(any::<u8>(), 0..40), prop::collection::vec(any::<u8>(), 0..40)), 0..6)) {
        let items: Vec<_> = items.iter().map(|(flag, body, properties)| BatchItem { flag: *flag, body, properties }).collect();
        let mut written = Vec::new();
        items.iter().for_each(|item| item.encode(&mut written));
        prop_assert_eq!(BatchItems::new(&written).collect::<Result<Vec<_>, _>>().unwrap(), items);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..120), compressed in any::<bool>()) {
        let _ = BatchItems::new(&bytes).count();
        let _ = RegisterBrokerBody::decode_registration(&bytes, compressed, 407);
        let _ = HeartbeatData::decode(&bytes);
        let _ = TopicRouteData::decode(&bytes);
    }
}

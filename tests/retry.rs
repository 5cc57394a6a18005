//! Messages that are sent back, through a whole broker and over its socket.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

#[allow(dead_code)]
#[path = "remoting/world.rs"]
mod world;

use std::{path::Path, time::Duration};

use keelmq::{
    broker::{self, Broker, config::Config},
    model::properties,
    os,
    protocol::code::request as code,
    store::record::{self, Scan},
};
use world::{Peer, ask, request, send_fields, until};

async fn start(folder: &Path) -> (Broker, Peer) {
    let mut config = Config::tiny();
    config.store_path_root_dir = folder.display().to_string();
    config.message_delay_level = "1s".into();
    let broker = broker::start(os::env(tokio::runtime::Handle::current()), config, None).await.unwrap();
    let peer = Peer::connect(broker.address()).await;
    (broker, peer)
}

/// The first record of a topic as a pull brings it, once there is one.
async fn pulled(broker: &Broker, peer: &mut Peer, topic: &str) -> Vec<u8> {
    until("the message comes", async || broker.core().store.max_offset(topic, 0).0 > 0).await;
    let fields = [
        ("consumerGroup", "reader"),
        ("topic", topic),
        ("queueId", "0"),
        ("queueOffset", "0"),
        ("maxMsgNums", "1"),
        ("sysFlag", "4"),
        ("commitOffset", "0"),
        ("suspendTimeoutMillis", "0"),
        ("subscription", "*"),
        ("subVersion", "0"),
    ];
    let heard = ask(peer, code::PULL_MESSAGE, &fields, b"").await;
    assert_eq!(heard.code, 0, "{heard:?}");
    heard.body
}

/// What a kill leaves of the log and the topics; nothing that is derived from the log.
fn killed(from: &Path, to: &Path) {
    let segments = std::fs::read_dir(from.join("commitlog")).unwrap();
    let segments = segments.map(|entry| Path::new("commitlog").join(entry.unwrap().file_name()));
    for name in segments.chain(["abort".into(), "config/topics.json".into()]) {
        std::fs::create_dir_all(to.join(&name).parent().unwrap()).unwrap();
        std::fs::copy(from.join(&name), to.join(&name)).unwrap();
    }
}

/// The retry and dead-letter topics of a group of 200 characters are longer than 127 bytes, so that their records are of
/// version 2: they wait, come back, die, are pulled as such, and are there after a kill.
#[tokio::test(flavor = "multi_thread")]
async fn messages_of_a_long_group_are_tried_again_and_die() {
    let (folder, image) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (broker, mut peer) = start(folder.path()).await;
    let group = "g".repeat(200);
    let (retry, dead) = (format!("%RETRY%{group}"), format!("%DLQ%{group}"));
    let own =
        [&send_fields("T")[..], &[("i", "TAGS\\u0001t\\u0002KEYS\\u0001k\\u0002own\\u0001value"), ("j", "0")]].concat();
    let sent = ask(&mut peer, code::SEND_MESSAGE_V2, &own, b"body").await;
    assert_eq!(sent.code, 0, "{sent:?}");

    let check = |bytes: &[u8], topic: &str, times: u32| {
        assert_eq!(record::peek(bytes).unwrap().1, record::MAGIC_V2, "{topic}");
        let Scan::Record(record) = record::scan(bytes, true) else { panic!("no record in {topic}") };
        let message = &record.message;
        assert_eq!((message.topic, message.body, message.reconsume_times), (topic, &b"body"[..], times as _));
        for (name, value) in [
            ("RETRY_TOPIC", "T"),
            ("ORIGIN_MESSAGE_ID", &sent.fields["msgId"]),
            ("TAGS", "t"),
            ("KEYS", "k"),
            ("own", "value"),
        ] {
            assert_eq!(properties::get(message.properties, name), Some(value), "{name} in {topic}");
        }
        record.log_offset.0
    };
    let back = async |peer: &mut Peer, offset: u64, level: &str| {
        let fields = [("group", group.as_str()), ("offset", &offset.to_string()), ("delayLevel", level)];
        peer.send(&request(code::CONSUMER_SEND_MSG_BACK, 2, &fields, b"")).await;
        let heard = peer.answer().await;
        assert_eq!((heard.opaque, heard.code), (2, 0), "{heard:?}");
    };
    let place = u64::from_str_radix(&sent.fields["msgId"][16..], 16).unwrap();
    back(&mut peer, place, "1").await;
    let again = pulled(&broker, &mut peer, &retry).await;
    let place = check(&again, &retry, 1);
    back(&mut peer, place, "-1").await;
    let died = pulled(&broker, &mut peer, &dead).await;
    check(&died, &dead, 2);

    killed(folder.path(), image.path());
    let (restarted, mut peer) = start(image.path()).await;
    assert_eq!(pulled(&restarted, &mut peer, &retry).await, again);
    assert_eq!(pulled(&restarted, &mut peer, &dead).await, died);
    restarted.shutdown(Duration::from_secs(1)).await;
    broker.shutdown(Duration::from_secs(1)).await;
}

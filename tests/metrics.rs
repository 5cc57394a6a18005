//! The metrics port over real sockets: RocketMQ 5's names and labels, health and readiness, and that whoever misuses the
//! port harms nobody.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

#[allow(dead_code)]
#[path = "remoting/world.rs"]
mod world;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use keelmq::{
    broker::{self, Broker, config::Config},
    model::{Message, settings::Source},
    os,
    protocol::{
        body::{SubscriptionGroupConfig, TopicConfig},
        code::request as code,
    },
};
use world::{Peer, ask, flagged, send, send_fields};

struct Scraped {
    _folder: tempfile::TempDir,
    broker: Broker,
    address: SocketAddr,
}

async fn start(settings: &[(&str, &str)]) -> Scraped {
    let (env, folder) = (os::env(tokio::runtime::Handle::current()), tempfile::tempdir().unwrap());
    let mut config = Config::tiny();
    let root = folder.path().join("store").display().to_string();
    let own = [("storePathRootDir", root.as_str()), ("metricsExporterType", "PROM"), ("metricsPromExporterPort", "0")];
    for (key, value) in own.iter().chain(settings) {
        config.set(key, value, Source::Set).unwrap();
    }
    let broker = broker::start(env, config, None).await.unwrap();
    let address = broker.metrics_address().expect("metrics are served");
    Scraped { _folder: folder, broker, address }
}

fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(request).unwrap();
    let mut said = Vec::new();
    // A responder that has heard enough may reset.
    let _ = stream.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

/// The status line and the body.
async fn get(address: SocketAddr, path: &str) -> (String, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n");
    let said = tokio::task::spawn_blocking(move || exchange(address, request.as_bytes())).await.unwrap();
    let (head, body) = said.split_once("\r\n\r\n").unwrap_or((&said, ""));
    (head.lines().next().unwrap_or_default().to_owned(), body.to_owned())
}

async fn put(broker: &Broker, topic: &str, body: &[u8], properties: &[u8]) {
    let core = broker.core();
    core.topics.put(TopicConfig::new(topic, 1, 6), 1, 100).unwrap();
    let message = Message {
        topic,
        queue_id: 0,
        flag: 0,
        sys_flag: 0,
        born_timestamp: 1,
        born_host: "127.0.0.1:1".parse().unwrap(),
        store_host: "127.0.0.1:10911".parse().unwrap(),
        reconsume_times: 0,
        prepared_offset: 0,
        body,
        properties,
    };
    let appended = core.store.put_kept(&message).await.unwrap();
    core.store.dispatched().reached(appended.end.0).await.unwrap();
}

/// The value of the first sample that begins so and has all of these labels.
fn value(page: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let sample = page.lines().find(|line| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['{', ' '])) && labels.iter().all(|label| line.contains(label))
    })?;
    sample.rsplit(' ').next()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_counts_what_happened() {
    let scraped = start(&[("brokerClusterName", "C"), ("metricsLabel", "zone:eu")]).await;
    let core = scraped.broker.core();
    put(&scraped.broker, "orders", b"one", b"TAGS\x01TagA\x02").await;
    put(&scraped.broker, "orders", &[7; 2_000], b"__SHARDINGKEY\x01k\x02").await;
    put(&scraped.broker, "%DLQ%g", b"dead", b"").await;
    core.groups.put(SubscriptionGroupConfig::new("g"), 1, 100).unwrap();
    core.offsets.commit("orders", "g", 0, 0).unwrap();
    core.stats.got(("orders", 0), "g", (1, 120), 1, Duration::from_millis(1));
    core.stats.rolled_back("orders");

    let (status, page) = get(scraped.address, "/metrics").await;
    assert_eq!(status, "HTTP/1.1 200 OK", "{page}");
    let common = [r#"cluster="C""#, r#"node_type="broker""#, r#"node_id="tiny""#, r#"zone="eu""#];
    let check = |name: &str, labels: &[&str], expect: f64| {
        let labels: Vec<&str> = common.iter().chain(labels).copied().collect();
        assert_eq!(value(&page, name, &labels), Some(expect), "{name}{labels:?} in\n{page}");
    };
    let orders = [r#"topic="orders""#, r#"is_system="false""#];
    let of_kind = |kind| [orders[0], orders[1], kind];
    check("rocketmq_messages_in_total", &of_kind(r#"message_type="normal""#), 1.0);
    check("rocketmq_messages_in_total", &of_kind(r#"message_type="fifo""#), 1.0);
    check("rocketmq_message_size_bucket", &[orders[0], r#"message_type="fifo""#, r#"le="1024""#], 0.0);
    check("rocketmq_message_size_bucket", &[orders[0], r#"message_type="fifo""#, r#"le="4096""#], 1.0);
    check("rocketmq_message_size_count", &of_kind(r#"message_type="fifo""#), 1.0);
    let of_group = [r#"consumer_group="g""#, orders[0], r#"is_retry="false""#, orders[1]];
    check("rocketmq_messages_out_total", &of_group, 1.0);
    check("rocketmq_throughput_out_total", &of_group, 120.0);
    check("rocketmq_consumer_lag_messages", &of_group, 2.0);
    check("rocketmq_consumer_inflight_messages", &of_group, 1.0);
    check("rocketmq_consumer_ready_messages", &of_group, 1.0);
    check("rocketmq_send_to_dlq_messages_total", &[r#"consumer_group="g""#], 1.0);
    check("rocketmq_rollback_messages_total", &[orders[0]], 1.0);
    check("rocketmq_broker_permission", &[], 6.0);
    check("rocketmq_consumer_group_number", &[], core.groups.len() as f64);
    check("rocketmq_topic_number", &[], core.topics.len() as f64);
    check("rocketmq_processor_watermark", &[r#"processor="send""#], 0.0);
    check("rocketmq_storage_flush_behind_bytes", &[r#"storage_type="local""#, r#"storage_medium="disk""#], 0.0);
    check("keelmq_mapped_files", &[], core.store.segments().all().len() as f64);
    for name in ["rocketmq_consumer_lag_latency", "rocketmq_storage_size", "rocketmq_storage_message_reserve_time"] {
        assert!(value(&page, name, &[]).is_some(), "{name} in\n{page}");
    }
    // Every family is described once.
    let mut families: Vec<&str> = page.lines().filter(|line| line.starts_with("# TYPE")).collect();
    let count = families.len();
    families.sort_unstable();
    families.dedup();
    assert_eq!(families.len(), count, "{page}");
    scraped.broker.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_does_not_grow_without_bound() {
    let scraped = start(&[("metricsOtelCardinalityLimit", "3")]).await;
    for number in 0..8 {
        put(&scraped.broker, &format!("topic{number}"), b"x", b"").await;
    }
    let (_, page) = get(scraped.address, "/metrics").await;
    assert_eq!(page.lines().filter(|line| line.starts_with("rocketmq_messages_in_total{")).count(), 3, "{page}");
    assert_eq!(value(&page, "keelmq_metrics_left_out", &[r#"metric="rocketmq_messages_in""#]), Some(5.0), "{page}");
    scraped.broker.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_readiness_say_why() {
    let scraped = start(&[]).await;
    let ready = || get(scraped.address, "/readyz");
    assert_eq!(get(scraped.address, "/healthz").await, ("HTTP/1.1 200 OK".into(), "ok\n".into()));
    assert_eq!(ready().await, ("HTTP/1.1 200 OK".into(), "ok\n".into()));
    assert_eq!(get(scraped.address, "/").await.0, "HTTP/1.1 404 Not Found");

    let mut config = (*scraped.broker.core().config()).clone();
    config.set("brokerPermission", "4", Source::RunTime).unwrap();
    scraped.broker.core().change_config(config, &[]);
    let (status, reason) = ready().await;
    assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
    assert!(reason.contains("brokerPermission=4"), "{reason}");
    scraped.broker.shutdown(Duration::from_secs(1)).await;
    assert!(TcpStream::connect(scraped.address).is_err(), "the port is given back");
}

/// Silent peers took all places of the port for as long as they liked.
#[tokio::test(flavor = "multi_thread")]
async fn silent_peers_lose_their_places() {
    let scraped = start(&[]).await;
    let address = scraped.address;
    let garbage = tokio::task::spawn_blocking(move || {
        exchange(address, &[0x16; 64 << 10]);
        exchange(address, b"POST / HTTP/1.1\r\n\r\n")
    });
    assert!(garbage.await.unwrap().starts_with("HTTP/1.1 405"));
    let silent: Vec<TcpStream> = (0..64).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut answered = false;
    for _ in 0..200 {
        let (status, _) = get(address, "/healthz").await;
        answered = status == "HTTP/1.1 200 OK";
        if answered {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(answered, "places come free within seconds");
    drop(silent);
    scraped.broker.shutdown(Duration::from_secs(1)).await;
}

/// By what was asked and what was answered; a pull that waited is no slow request.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_says_how_long_requests_took() {
    let scraped = start(&[]).await;
    let mut peer = Peer::connect(scraped.broker.address()).await;
    assert_eq!(send(&mut peer, "asked", b"one").await.code, 0);
    assert_eq!(send(&mut peer, "asked", b"two").await.code, 0);
    assert_eq!(send(&mut peer, "no such name", b"three").await.code, 1);
    peer.send(&flagged(code::SEND_MESSAGE_V2, 9, 2, &send_fields("asked"), b"four")).await;
    let pull = [
        ("consumerGroup", "g"),
        ("topic", "asked"),
        ("queueId", "1"),
        ("queueOffset", "0"),
        ("maxMsgNums", "1"),
        ("sysFlag", "6"),
        ("commitOffset", "0"),
        ("suspendTimeoutMillis", "150"),
        ("subscription", "*"),
        ("subVersion", "0"),
    ];
    assert_eq!(ask(&mut peer, code::PULL_MESSAGE, &pull, b"").await.code, 19);

    let (_, page) = get(scraped.address, "/metrics").await;
    let check = |request: &str, response: &str, rest: [&str; 2], expect: f64| {
        let labels = [
            r#"protocol_type="remoting""#,
            &format!("request_code=\"{request}\""),
            &format!("response_code=\"{response}\""),
            &format!("is_long_polling=\"{}\"", rest[0]),
            &format!("result=\"{}\"", rest[1]),
        ];
        assert_eq!(value(&page, "rocketmq_rpc_latency_count", &labels), Some(expect), "{labels:?} in\n{page}");
    };
    check("SEND_MESSAGE_V2", "SUCCESS", ["false", "success"], 2.0);
    check("SEND_MESSAGE_V2", "SYSTEM_ERROR", ["false", "success"], 1.0);
    check("SEND_MESSAGE_V2", "SUCCESS", ["false", "oneway"], 1.0);
    check("PULL_MESSAGE", "PULL_NOT_FOUND", ["true", "success"], 1.0);
    let waited = value(&page, "rocketmq_rpc_latency_bucket", &[r#"is_long_polling="true""#, r#"le="100""#]);
    assert_eq!(waited, Some(0.0), "it took at least 150 ms:\n{page}");
    scraped.broker.shutdown(Duration::from_secs(1)).await;
}

/// What tools make, done or refused, and how long transactions stay open.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_says_how_long_making_and_committing_took() {
    let scraped = start(&[]).await;
    let mut peer = Peer::connect(scraped.broker.address()).await;
    let topic = |perm: &'static str| {
        [
            ("topic", "made"),
            ("defaultTopic", "TBW102"),
            ("readQueueNums", "1"),
            ("writeQueueNums", "1"),
            ("perm", perm),
            ("topicFilterType", "SINGLE_TAG"),
        ]
    };
    assert_eq!(ask(&mut peer, code::UPDATE_AND_CREATE_TOPIC, &topic("6"), b"").await.code, 0);
    assert_eq!(ask(&mut peer, code::UPDATE_AND_CREATE_TOPIC, &topic("64"), b"").await.code, 1);
    let group = br#"{"groupName":"TOOLS_CONSUMER"}"#;
    assert_eq!(ask(&mut peer, code::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, &[], group).await.code, 0);

    // A half message born 70 s ago.
    let born = (scraped.broker.core().now_ms() - 70_000).to_string();
    let properties = "TRAN_MSG\u{1}true\u{2}UNIQ_KEY\u{1}u\u{2}PGROUP\u{1}group\u{2}";
    let changed = [("a", "group"), ("f", "4"), ("g", &*born), ("i", properties)];
    let fields = [&send_fields("made")[..], &changed].concat();
    let sent = ask(&mut peer, code::SEND_MESSAGE_V2, &fields, b"half").await;
    assert_eq!(sent.code, 0, "{sent:?}");
    let half = sent.fields["msgId"].clone();
    let offset = u64::from_str_radix(&half[half.len() - 16..], 16).unwrap().to_string();
    let end = [
        ("producerGroup", "group"),
        ("tranStateTableOffset", &*sent.fields["queueOffset"]),
        ("commitLogOffset", &offset),
        ("commitOrRollback", "8"),
        ("msgId", "u"),
    ];
    assert_eq!(ask(&mut peer, code::END_TRANSACTION, &end, b"").await.code, 0);

    let (_, page) = get(scraped.address, "/metrics").await;
    let made = |what: &str, status: &str, is_system: bool| {
        let name = format!("rocketmq_{what}_create_execution_time_count");
        let (status, system) = (format!("invocation_status=\"{status}\""), format!("is_system=\"{is_system}\""));
        value(&page, &name, &[&status, &system])
    };
    assert_eq!(made("topic", "success", false), Some(1.0), "{page}");
    assert_eq!(made("topic", "failure", false), Some(1.0), "{page}");
    assert_eq!(made("consumer_group", "success", true), Some(1.0), "{page}");
    assert_eq!(made("consumer_group", "failure", true), None, "{page}");
    let within = |bound: &str| {
        let bound = format!("le=\"{bound}\"");
        value(&page, "rocketmq_finish_message_latency_bucket", &[r#"topic="made""#, &bound])
    };
    assert_eq!((within("60"), within("600")), (Some(0.0), Some(1.0)), "{page}");
    scraped.broker.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_does_not_stop_the_broker() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (env, folder) = (os::env(tokio::runtime::Handle::current()), tempfile::tempdir().unwrap());
    let mut config = Config::tiny();
    let root = folder.path().join("store").display().to_string();
    let settings = [("storePathRootDir", &*root), ("metricsExporterType", "2"), ("metricsPromExporterPort", &*port)];
    for (key, value) in settings {
        config.set(key, value, Source::Set).unwrap();
    }
    let broker = broker::start(env, config, None).await.unwrap();
    assert_eq!(broker.metrics_address(), None);
    broker.shutdown(Duration::from_secs(1)).await;
}

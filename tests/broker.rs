//! A broker as a whole, over real sockets: beside another one in the same process, beside name servers.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

#[allow(dead_code)]
#[path = "remoting/world.rs"]
mod world;

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use keelmq::{
    broker::{self, Broker, address_server, config::Config},
    env::Env,
    namesrv::{NameServer, NamesrvConfig},
    os,
    protocol::{
        body::{Body, TopicRouteData},
        code::request as code,
    },
    remoting::{Server, ServerConfig},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use world::{Peer, ask, send, send_fields, until};

fn real() -> Env {
    os::env(tokio::runtime::Handle::current())
}

async fn start(env: Env, folder: &Path, change: impl FnOnce(&mut Config)) -> Broker {
    let mut config = Config::tiny();
    config.store_path_root_dir = folder.display().to_string();
    change(&mut config);
    broker::start(env, config, None).await.unwrap()
}

/// A table of settings that cannot be read, nor the copy before it, stops the start and is named: without it acknowledged
/// topics and positions would be gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_cannot_be_read_stops_the_start() {
    for table in ["topics.json", "subscriptionGroup.json", "consumerOffset.json", "delayOffset.json"] {
        let folder = tempfile::tempdir().unwrap();
        let settings = folder.path().join("config");
        std::fs::create_dir_all(&settings).unwrap();
        let files = [settings.join(table), settings.join(format!("{table}.bak"))];
        for file in &files {
            std::fs::write(file, "{\"dataVersion\":").unwrap();
        }
        let mut config = Config::tiny();
        config.store_path_root_dir = folder.path().display().to_string();
        let Err(error) = broker::start(real(), config.clone(), None).await else { panic!("it starts without {table}") };
        assert!(error.to_string().contains(table), "{error}");
        assert_eq!(std::fs::read(&files[0]).unwrap(), b"{\"dataVersion\":", "it is left as it was");
        // The copy alone will do.
        std::fs::write(&files[1], "{}").unwrap();
        broker::start(real(), config, None).await.unwrap().shutdown(Duration::from_secs(5)).await;
    }
}

/// Every item of a batch is stored with what the batch says. A frame of empty items under long properties took gigabytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_would_grow_beyond_a_message_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(real(), folder.path(), |_| ()).await;
    let mut peer = Peer::connect(broker.address()).await;
    let long = format!("p\u{1}{}", "x".repeat(20_000));
    let fields = [&send_fields("T")[..], &[("i", &long), ("m", "true")]].concat();
    let item = [0, 0, 0, 22, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let heard = ask(&mut peer, code::SEND_BATCH_MESSAGE, &fields, &item.repeat(500)).await;
    assert_eq!(heard.code, 1, "{heard:?}");
    assert!(heard.remark.contains("message size exceeded"), "{heard:?}");
    assert_eq!(send(&mut peer, "T", b"after it").await.code, 0);
    broker.shutdown(Duration::from_secs(5)).await;
}

/// Nothing is global: two brokers of one process know nothing of each other, and one's end is not the other's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_brokers_live_in_one_process() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let one = start(real(), folders[0].path(), |_| ()).await;
    let other = start(real(), folders[1].path(), |config| config.broker_name = "other".into()).await;
    let (mut to_one, mut to_other) = (Peer::connect(one.address()).await, Peer::connect(other.address()).await);
    for round in 0..3 {
        for (peer, topic) in [(&mut to_one, "Mine"), (&mut to_other, "Yours")] {
            let sent = send(peer, topic, topic.as_bytes()).await;
            assert_eq!((sent.code, sent.fields["queueOffset"].as_str()), (0, round.to_string().as_str()), "{sent:?}");
        }
    }
    let missing = ask(&mut to_other, code::GET_MAX_OFFSET, &[("topic", "Mine"), ("queueId", "0")], b"").await;
    assert_eq!(missing.fields["offset"], "0");
    one.shutdown(Duration::from_secs(1)).await;
    assert_eq!(send(&mut to_other, "Yours", b"still here").await.code, 0);
    other.shutdown(Duration::from_secs(1)).await;
    drop((one, other, to_one, to_other));
    // The first store is free again, and has what was sent to it.
    let again = start(real(), folders[0].path(), |_| ()).await;
    assert_eq!(again.core().store.max_offset("Mine", 0).0, 3);
    again.shutdown(Duration::from_secs(1)).await;
}

/// The fast port serves everything but pulls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fast_port_serves_everything_but_pulls() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(real(), folder.path(), |_| ()).await;
    let fast = SocketAddr::new(broker.address().ip(), broker.address().port() - 2);
    let mut peer = Peer::connect(fast).await;
    assert_eq!(send(&mut peer, "Fast", b"x").await.code, 0);
    for pull in [code::PULL_MESSAGE, code::LITE_PULL_MESSAGE] {
        let refused = ask(&mut peer, pull, &[("topic", "Fast")], b"").await;
        assert_eq!((refused.code, refused.remark), (3, format!(" request type {pull} not supported")));
    }
    let max = ask(&mut peer, code::GET_MAX_OFFSET, &[("topic", "Fast"), ("queueId", "0")], b"").await;
    assert_eq!(max.code, 0);
    broker.shutdown(Duration::from_secs(1)).await;
}

/// A name server of this process.
struct Names {
    names: Arc<NameServer>,
    server: Server,
    address: SocketAddr,
}

impl Names {
    async fn start(folder: &Path) -> Names {
        let env = real();
        let mut config = NamesrvConfig::tiny();
        config.kv_config_path = folder.join("kv.json").display().to_string();
        config.config_store_path = folder.join("namesrv.properties").display().to_string();
        let names = NameServer::start(&env, config).unwrap();
        let bound = env.network.bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let (address, router) = (bound.local_address(), Arc::new(names.router()));
        let listener = bound.listen(64).unwrap();
        let server = Server::start(env.clock, env.spawner, listener, router, ServerConfig::default());
        Names { names, server, address }
    }

    async fn route(&self, topic: &str) -> Option<TopicRouteData> {
        let mut peer = Peer::connect(self.address).await;
        let told = ask(&mut peer, code::GET_ROUTEINFO_BY_TOPIC, &[("topic", topic)], b"").await;
        (told.code == 0).then(|| TopicRouteData::decode(&told.body).unwrap())
    }

    async fn end(self) {
        self.server.shutdown(Duration::from_secs(1)).await;
        self.names.stop().await;
    }
}

/// The registration's answer sets and clears `order` on topics, and what it says lasts; brokerPermission masks what is
/// announced. A name server that is not there holds nobody up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn name_servers_say_which_topics_are_ordered() {
    let folder = tempfile::tempdir().unwrap();
    let names = Names::start(folder.path()).await;
    let mut to_names = Peer::connect(names.address).await;
    let ordered = [("namespace", "ORDER_TOPIC_CONFIG"), ("key", "Orders"), ("value", "tiny:4")];
    assert_eq!(ask(&mut to_names, code::PUT_KV_CONFIG, &ordered, b"").await.code, 0);

    let store = folder.path().join("store");
    let of_two = vec![free_address().await, names.address.to_string()];
    let broker = start(real(), &store, |config| {
        config.namesrv_addr = of_two;
        config.broker_permission = 4;
    })
    .await;
    until("a registration", async || names.route("SELF_TEST_TOPIC").await.is_some()).await;
    assert_eq!(names.route("SELF_TEST_TOPIC").await.unwrap().queue_datas[0].perm, 4);
    let version = |broker: &Broker| broker.core().topics.snapshot().data_version.counter;
    let mut to_broker = Peer::connect(broker.address()).await;
    // The broker takes no part in ordered sends while it may not be written to; others it accepts, as RocketMQ does.
    let before = version(&broker);
    assert_eq!(send(&mut to_broker, "Orders", b"x").await.code, 0);
    let is_ordered = |broker: &Broker| broker.core().topics.find("Orders").unwrap().config.order;
    broker.core().registration.request();
    until("order is set", async || is_ordered(&broker)).await;
    assert!(version(&broker) >= before + 2, "the topic came, and then its order");
    let refused = send(&mut to_broker, "Orders", b"y").await;
    assert_eq!((refused.code, refused.remark.as_str()), (16, "the broker[127.0.0.1] sending message is forbidden"));

    let key = [("namespace", "ORDER_TOPIC_CONFIG"), ("key", "Orders")];
    assert_eq!(ask(&mut to_names, code::DELETE_KV_CONFIG, &key, b"").await.code, 0);
    broker.core().registration.request();
    until("order is cleared", async || !is_ordered(&broker)).await;
    assert_eq!(ask(&mut to_names, code::PUT_KV_CONFIG, &ordered, b"").await.code, 0);
    broker.core().registration.request();
    until("order is set again", async || is_ordered(&broker)).await;
    broker.shutdown(Duration::from_secs(1)).await;
    assert_eq!(names.route("SELF_TEST_TOPIC").await, None, "it has unregistered");
    let kept = std::fs::read_to_string(store.join("config/topics.json")).unwrap();
    assert!(kept.contains("\"order\":true"), "{kept}");
    names.end().await;
}

/// A name server that took connections and never answered held the others up: rounds were one behind the other and as long
/// as its time-out of six seconds, so that new topics came into the routes that much later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deaf_name_server_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let names = Names::start(&folder.path().join("names")).await;
    let deaf = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let of_two = vec![deaf.local_addr().unwrap().to_string(), names.address.to_string()];
    let broker = start(real(), &folder.path().join("store"), |config| {
        config.namesrv_addr = of_two;
        config.register_broker_timeout_ms = 20_000;
    })
    .await;
    let began = Instant::now();
    let mut peer = Peer::connect(broker.address()).await;
    for topic in ["One", "Two", "Three"] {
        assert_eq!(send(&mut peer, topic, b"x").await.code, 0);
        until("the route", async || names.route(topic).await.is_some()).await;
    }
    assert!(began.elapsed() < Duration::from_secs(10), "three topics took {:?}", began.elapsed());
    let began = Instant::now();
    broker.shutdown(Duration::from_secs(1)).await;
    assert!(began.elapsed() < Duration::from_secs(8), "the stop took {:?}", began.elapsed());
    assert_eq!(names.route("One").await, None, "it has unregistered");
    names.end().await;
}

/// Nobody listens there.
async fn free_address() -> String {
    let bound = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    bound.local_addr().unwrap().to_string()
}

/// One HTTP answer for every connection.
async fn http_server(answer: &'static str) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut asked = [0; 1024];
            let read = stream.read(&mut asked).await.unwrap_or(0);
            let path_is_right = asked[..read].starts_with(b"GET /rocketmq/nsaddr HTTP/1.0\r\n");
            let _ = stream
                .write_all(if path_is_right { answer.as_bytes() } else { b"HTTP/1.0 404 Not Found\r\n\r\n" })
                .await;
        }
    });
    address
}

#[tokio::test]
async fn an_address_server_names_the_name_servers() {
    let env = real();
    let ask = async |address: String, path: &str| {
        address_server::ask(&*env.network, &*env.clock, &address, path).await.map_err(|error| error.to_string())
    };
    let good = http_server("HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nhost:9876").await.to_string();
    assert_eq!(ask(good.clone(), "/rocketmq/nsaddr").await.unwrap(), ["host:9876"]);
    assert!(ask(good, "/else").await.unwrap_err().contains("404 Not Found"));
    assert!(ask(free_address().await, "/rocketmq/nsaddr").await.is_err());
}

/// Ten seconds after its start a broker without name servers asks the address server, and registers with whom it names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_without_name_servers_asks_the_address_server() {
    let folder = tempfile::tempdir().unwrap();
    let names = Names::start(folder.path()).await;
    let text = format!("HTTP/1.0 200 OK\r\n\r\n{}\n", names.address);
    let address = http_server(text.leak()).await;
    let begun = std::time::Instant::now();
    let broker = start(real(), &folder.path().join("store"), |config| {
        config.fetch_namesrv_addr_by_address_server = true;
        config.rmq_address_server_domain = address.to_string();
    })
    .await;
    until("a registration", async || names.route("SELF_TEST_TOPIC").await.is_some()).await;
    assert!(begun.elapsed() >= Duration::from_secs(10));
    assert_eq!(broker.core().config().namesrv_addr, [names.address.to_string()]);
    broker.shutdown(Duration::from_secs(1)).await;
    names.end().await;
}

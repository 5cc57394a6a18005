//! A broker as a whole, over real sockets: beside another one in the same process, beside name servers.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

#[allow(dead_code)]
#[path = "remoting/world.rs"]
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use keelmq::{
    broker::{self, Broker, address_server, config::Config},
    env::{BoxFuture, Clock, Env},
    namesrv::{NameServer, NamesrvConfig},
    os,
    protocol::{
        body::{Body, DataVersion, RegisterBrokerBody, TopicRouteData, registration_crc},
        code::request as code,
        command::{Response, decode},
    },
    remoting::{Answer, Lane, Processor, Request, Router, Server, ServerConfig},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use world::{Peer, Said, ask, send, send_fields, until};

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
    let filters = "consumerFilter.json";
    for table in ["topics.json", "subscriptionGroup.json", "consumerOffset.json", "delayOffset.json", filters] {
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
        Names::at(folder, "127.0.0.1:0".parse().unwrap()).await
    }

    async fn at(folder: &Path, address: SocketAddr) -> Names {
        let env = real();
        let mut config = NamesrvConfig::tiny();
        config.kv_config_path = folder.join("kv.json").display().to_string();
        config.config_store_path = folder.join("namesrv.properties").display().to_string();
        let names = NameServer::start(&env, config).unwrap();
        let bound = env.network.bind(address).await.unwrap();
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

/// While a broker that stops tells its name servers, senders are told why they are refused and go elsewhere; they lost
/// their connection instead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_it_stops_sends_are_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let deaf = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = deaf.local_addr().unwrap().to_string();
    let broker = start(real(), folder.path(), |config| config.namesrv_addr = vec![address]).await;
    let mut peer = Peer::connect(broker.address()).await;
    assert_eq!(send(&mut peer, "Stops", b"1").await.code, 0);
    let core = broker.core().clone();
    let stopped = tokio::spawn(async move { broker.shutdown(Duration::from_secs(1)).await });
    until("it stops", async || core.is_stopping()).await;
    let refused = send(&mut peer, "Stops", b"2").await;
    let said = "service not available now: the broker is shutting down";
    assert_eq!((refused.code, refused.remark.as_str()), (14, said));
    stopped.await.unwrap();
}

/// A host name was printed as the address that clients are told, and the start then failed on it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_may_be_known_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let names = Names::start(&folder.path().join("names")).await;
    let namesrv = vec![names.address.to_string()];
    let broker = start(real(), &folder.path().join("store"), |config| {
        config.set("brokerIP1", "localhost", keelmq::model::settings::Source::Set).unwrap();
        config.namesrv_addr = namesrv;
    })
    .await;
    let port = broker.address().port();
    assert_eq!(broker.advertised(), format!("localhost:{port}"));
    until("the route", async || names.route("TBW102").await.is_some()).await;
    let route = names.route("TBW102").await.unwrap();
    assert_eq!(route.broker_datas[0].broker_addrs[&0], format!("localhost:{port}"));
    let mut peer = Peer::connect(broker.address()).await;
    let sent = send(&mut peer, "Named", b"1").await;
    assert_eq!(sent.fields["msgId"][..8], *"7F000001", "{sent:?}");
    broker.shutdown(Duration::from_secs(1)).await;
    names.end().await;

    let mut config = Config::tiny();
    config.store_path_root_dir = folder.path().join("other").display().to_string();
    config.set("brokerIP1", "no-such-host.invalid", keelmq::model::settings::Source::Set).unwrap();
    let Err(error) = broker::start(real(), config, None).await else { panic!("it starts without an address") };
    let said = error.to_string();
    assert!(said.starts_with("brokerIP1=no-such-host.invalid is not an address, and no address was found"), "{said}");
}

/// IPv6 on the wire: message ids of 56 digits, by which messages are found (33) and sent back (36).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ipv6_hosts_stand_in_message_ids() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(real(), folder.path(), |config| {
        config.bind_address = "::1".into();
        config.set("brokerIP1", "::1", keelmq::model::settings::Source::Set).unwrap();
    })
    .await;
    assert_eq!(broker.advertised(), format!("[::1]:{}", broker.address().port()));
    let mut peer = Peer::connect(broker.address()).await;
    let sent = send(&mut peer, "Six", b"six").await;
    let id = sent.fields["msgId"].clone();
    assert_eq!((id.len(), &id[..32]), (56, "00000000000000000000000000000001"), "{sent:?}");
    let offset = u64::from_str_radix(&id[40..], 16).unwrap().to_string();
    until("it is stored", async || broker.core().store.max_offset("Six", 0).0 == 1).await;
    let found = ask(&mut peer, code::VIEW_MESSAGE_BY_ID, &[("offset", &offset)], b"").await;
    assert_eq!(found.code, 0, "{found:?}");
    // Born and store host are of 20 bytes each.
    assert!(found.body.windows(3).any(|bytes| bytes == b"six") && found.body.len() >= 91 + 24 + 3, "{found:?}");
    let back =
        [("group", "G"), ("offset", &*offset), ("delayLevel", "-1"), ("originMsgId", &*id), ("originTopic", "Six")];
    assert_eq!(ask(&mut peer, code::CONSUMER_SEND_MSG_BACK, &back, b"").await.code, 0);
    until("it is a dead letter", async || broker.core().store.max_offset("%DLQ%G", 0).0 == 1).await;
    broker.shutdown(Duration::from_secs(1)).await;
}

/// One line when it cannot be reached, one when it can be again, however often it is tried meanwhile; a tool may name
/// others, which are told at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn name_servers_that_go_and_come_are_said() {
    let (folder, said) = (tempfile::tempdir().unwrap(), Said::listen());
    let address = free_address().await;
    let broker =
        start(real(), &folder.path().join("store"), |config| config.namesrv_addr = vec![address.clone()]).await;
    let (lost, found) = (
        format!("name server {address} cannot be told of this broker: "),
        format!("name server {address} knows this broker again"),
    );
    said.until(&lost).await;
    let names = Names::at(&folder.path().join("names"), address.parse().unwrap()).await;
    said.until(&found).await;
    let count = |line: &str| said.text().matches(line).count();
    assert_eq!((count(&lost), count(&found)), (1, 1));

    let others = Names::start(&folder.path().join("others")).await;
    let (mut peer, changed) = (Peer::connect(broker.address()).await, format!("namesrvAddr={}\n", others.address));
    assert_eq!(ask(&mut peer, code::UPDATE_BROKER_CONFIG, &[], changed.as_bytes()).await.code, 0);
    until("the others know it", async || others.route("TBW102").await.is_some()).await;
    broker.shutdown(Duration::from_secs(1)).await;
    names.end().await;
    others.end().await;
}

/// Nobody listens there.
async fn free_address() -> String {
    let bound = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    bound.local_addr().unwrap().to_string()
}

/// Answers every connection with `text` as it is then, and notes when that was.
async fn http_server(text: Arc<Mutex<String>>) -> (SocketAddr, Arc<Mutex<Vec<Instant>>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, times) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<Instant>>>::default());
    let noted = times.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            noted.lock().unwrap().push(Instant::now());
            let mut asked = [0; 1024];
            let read = stream.read(&mut asked).await.unwrap_or(0);
            let path_is_right = asked[..read].starts_with(b"GET /rocketmq/nsaddr HTTP/1.0\r\n");
            let not_found = "HTTP/1.0 404 Not Found\r\n\r\n".to_owned();
            let answer = if path_is_right { text.lock().unwrap().clone() } else { not_found };
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (address, times)
}

#[tokio::test]
async fn an_address_server_names_the_name_servers() {
    let env = real();
    let ask = async |address: String, path: &str| {
        address_server::ask(&*env.network, &*env.clock, &address, path).await.map_err(|error| error.to_string())
    };
    let text = "HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nhost:9876".to_owned();
    let good = http_server(Arc::new(Mutex::new(text))).await.0.to_string();
    assert_eq!(ask(good.clone(), "/rocketmq/nsaddr").await.unwrap(), ["host:9876"]);
    assert!(ask(good, "/else").await.unwrap_err().contains("404 Not Found"));
    assert!(ask(free_address().await, "/rocketmq/nsaddr").await.is_err());
}

/// The kernel's clock, on which ten seconds and more take a hundredth of it.
struct Hurried {
    clock: Arc<dyn Clock>,
    /// What was asked for.
    sleeps: Mutex<BTreeSet<Duration>>,
}

impl Clock for Hurried {
    fn wall_ms(&self) -> i64 {
        self.clock.wall_ms()
    }

    fn utc_offset_s(&self, wall_ms: i64) -> i32 {
        self.clock.utc_offset_s(wall_ms)
    }

    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.sleeps.lock().unwrap().insert(duration);
        self.clock.sleep(if duration < Duration::from_secs(10) { duration } else { duration / 100 })
    }
}

fn hurried() -> (Arc<Hurried>, Env) {
    let clock = Arc::new(Hurried { clock: real().clock, sleeps: Mutex::default() });
    (clock.clone(), Env { clock, ..real() })
}

/// Ten seconds after its start, and every two minutes from then on, a broker without name servers asks the address server.
/// It registers with whom that names, and no longer with whom it does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_without_name_servers_asks_the_address_server() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (first, second) = (Names::start(folders[0].path()).await, Names::start(folders[1].path()).await);
    let text = Arc::new(Mutex::new("HTTP/1.0 503 Service Unavailable\r\n\r\n".to_owned()));
    let (address, asked) = http_server(text.clone()).await;
    let names = |addresses: &[SocketAddr]| {
        let list: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        *text.lock().unwrap() = format!("HTTP/1.0 200 OK\r\n\r\n{}\n", list.join(";"));
    };
    let (clock, env) = hurried();
    let began = Instant::now();
    let broker = start(env, &folders[0].path().join("store"), |config| {
        config.fetch_namesrv_addr_by_address_server = true;
        config.rmq_address_server_domain = address.to_string();
    })
    .await;
    let times = |asked: &Mutex<Vec<Instant>>| asked.lock().unwrap().clone();
    until("the first question", async || !times(&asked).is_empty()).await;
    names(&[first.address]);
    until("a registration", async || first.route("SELF_TEST_TOPIC").await.is_some()).await;
    names(&[second.address]);
    until("one elsewhere", async || second.route("SELF_TEST_TOPIC").await.is_some()).await;
    assert_eq!(broker.core().config().namesrv_addr, [second.address.to_string()]);
    // What is no list changes nothing.
    *text.lock().unwrap() = "HTTP/1.0 200 OK\r\n\r\n\r\n".to_owned();
    let before = times(&asked).len();
    until("another question", async || times(&asked).len() > before).await;
    assert_eq!(broker.core().config().namesrv_addr, [second.address.to_string()]);

    let times = times(&asked);
    assert!(times[0] - began >= Duration::from_millis(100), "{:?}", times[0] - began);
    for pair in times.windows(2) {
        assert!(pair[1] - pair[0] >= Duration::from_millis(1_200), "{:?}", pair[1] - pair[0]);
    }
    assert!(clock.sleeps.lock().unwrap().contains(&Duration::from_secs(120)));
    broker.shutdown(Duration::from_secs(1)).await;
    assert_eq!(second.route("SELF_TEST_TOPIC").await, None, "it has unregistered");
    for server in [first, second] {
        server.end().await;
    }
}

type Registered = (i32, BTreeMap<String, String>, Vec<u8>);

/// Stands in for a name server: notes what it is told, and says of every version that it has it, or that it has none.
#[derive(Default)]
struct Notes {
    told: Mutex<Vec<Registered>>,
    has_version: AtomicBool,
}

impl Processor for Notes {
    fn process(&self, request: &Request<'_>) -> Answer {
        let command = &request.command;
        let fields = command.fields.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        self.told.lock().unwrap().push((command.code, fields, command.body.to_vec()));
        let has_version = self.has_version.load(Ordering::SeqCst);
        Answer::Now(match command.code {
            code::QUERY_DATA_VERSION if has_version => {
                Response::success().with("changed", false).with_body(command.body.to_vec())
            }
            code::QUERY_DATA_VERSION => Response::success().with("changed", true),
            _ => Response::success(),
        })
    }
}

impl Notes {
    async fn start() -> (Arc<Notes>, Server, String) {
        let (env, notes) = (real(), Arc::new(Notes::default()));
        let mut router = Router::new();
        let codes = [code::REGISTER_BROKER, code::QUERY_DATA_VERSION, code::UNREGISTER_BROKER];
        router.serve(&codes, notes.clone(), &Lane::new("all", 64, 5_000));
        let bound = env.network.bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = bound.local_address().to_string();
        let listener = bound.listen(64).unwrap();
        let server = Server::start(env.clock, env.spawner, listener, Arc::new(router), ServerConfig::default());
        (notes, server, address)
    }

    fn codes(&self) -> Vec<i32> {
        self.told.lock().unwrap().iter().map(|told| told.0).collect()
    }

    fn count(&self, code: i32) -> usize {
        self.codes().into_iter().filter(|told| *told == code).count()
    }

    fn last(&self, code: i32) -> Registered {
        self.told.lock().unwrap().iter().rev().find(|told| told.0 == code).cloned().unwrap()
    }
}

/// The names of the fields in a frame that 4.9.7 sent.
fn golden_fields(name: &str) -> Vec<String> {
    let path = format!("{}/tests/golden/frames/{name}.bin", env!("CARGO_MANIFEST_DIR"));
    let frame = std::fs::read(path).unwrap();
    let mut names: Vec<_> = decode(&frame[4..]).unwrap().fields.iter().map(|(key, _)| key.to_owned()).collect();
    names.sort();
    names
}

/// compressedRegister was taken and changed nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registrations_are_compressed_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let names = Names::start(folder.path()).await;
    let (notes, server, address) = Notes::start().await;
    let both = vec![address, names.address.to_string()];
    let broker = start(real(), &folder.path().join("store"), |config| {
        config.namesrv_addr = both;
        config.compressed_register = true;
    })
    .await;
    until("a registration", async || notes.count(code::REGISTER_BROKER) > 0).await;
    let (_, fields, body) = notes.last(code::REGISTER_BROKER);
    assert_eq!(
        fields.keys().collect::<Vec<_>>(),
        golden_fields("broker497-103-compressed-request").iter().collect::<Vec<_>>()
    );
    assert_eq!((&*fields["compressed"], &*fields["bodyCrc32"]), ("true", &*registration_crc(&body).to_string()));
    let read = RegisterBrokerBody::decode_registration(&body, true, 407).unwrap();
    let known = broker.core().topics.snapshot();
    assert_eq!(
        read.topics.topic_config_table.keys().collect::<Vec<_>>(),
        known.topic_config_table.keys().collect::<Vec<_>>()
    );
    until("a route", async || names.route("SELF_TEST_TOPIC").await.is_some()).await;
    broker.shutdown(Duration::from_secs(1)).await;
    server.shutdown(Duration::from_secs(1)).await;
    names.end().await;
}

/// forceRegister was taken and changed nothing. false: a name server that has the version is asked every half minute, which
/// it takes as a sign of life, and told nothing; told is one that has not, and everyone at once when a topic comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_server_that_has_the_version_is_not_told_again() {
    let folder = tempfile::tempdir().unwrap();
    let (notes, server, address) = Notes::start().await;
    notes.has_version.store(true, Ordering::SeqCst);
    let broker = start(hurried().1, folder.path(), |config| {
        config.namesrv_addr = vec![address];
        config.force_register = false;
    })
    .await;
    until("questions", async || notes.count(code::QUERY_DATA_VERSION) >= 3).await;
    assert_eq!(notes.codes()[0], code::REGISTER_BROKER, "the first time it is told whatever it has");
    let (_, fields, body) = notes.last(code::QUERY_DATA_VERSION);
    assert_eq!(fields.keys().collect::<Vec<_>>(), golden_fields("broker497-322-request").iter().collect::<Vec<_>>());
    assert_eq!(DataVersion::decode(&body).unwrap(), broker.core().topics.snapshot().data_version);

    let told = notes.count(code::REGISTER_BROKER);
    let mut peer = Peer::connect(broker.address()).await;
    assert_eq!(send(&mut peer, "New", b"x").await.code, 0);
    until("word of the topic", async || notes.count(code::REGISTER_BROKER) > told).await;
    let (_, _, body) = notes.last(code::REGISTER_BROKER);
    let read = RegisterBrokerBody::decode_registration(&body, false, 407).unwrap();
    assert!(read.topics.topic_config_table.contains_key("New"));

    notes.has_version.store(false, Ordering::SeqCst);
    let (told, asked) = (notes.count(code::REGISTER_BROKER), notes.count(code::QUERY_DATA_VERSION));
    until("it is told again", async || notes.count(code::REGISTER_BROKER) > told).await;
    assert!(notes.count(code::QUERY_DATA_VERSION) > asked);
    broker.shutdown(Duration::from_secs(1)).await;
    assert_eq!(notes.codes().last(), Some(&code::UNREGISTER_BROKER));
    server.shutdown(Duration::from_secs(1)).await;
}

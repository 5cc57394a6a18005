//! The name server's answers at the level of its processor: requests as recorded from RocketMQ 4.9.7 where there are any.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use keelmq::{
    env::{BoxFuture, Clock, Env},
    namesrv::{NameServer, NamesrvConfig},
    os,
    protocol::{
        body::{
            Body, ConsumerIdList, DataVersion, KvTable, RegisterBrokerBody, TopicConfig, TopicList, TopicRouteData,
        },
        code::{request, response},
        command::{self, Call, Response, Serialization, Value},
    },
    remoting::{Answer, Channel, Request, Router},
};

fn golden(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/frames/{name}.bin"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn golden_body(name: &str) -> Vec<u8> {
    command::decode(&golden(name)[4..]).unwrap().body.to_vec()
}

/// A name server, its router and one connection to it.
struct Asked {
    env: Env,
    folder: tempfile::TempDir,
    server: Arc<NameServer>,
    router: Router,
    channel: Arc<Channel>,
}

impl Asked {
    fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), |_| ())
    }

    fn start_in(folder: tempfile::TempDir, change: impl FnOnce(&mut NamesrvConfig)) -> Self {
        let env = os::env(tokio::runtime::Handle::current());
        let path = |name: &str| folder.path().join(name).display().to_string();
        let mut config = NamesrvConfig::tiny();
        config.kv_config_path = path("kv.json");
        config.config_store_path = path("namesrv.properties");
        change(&mut config);
        let server = NameServer::start(&env, config).unwrap();
        let channel = Channel::detached(1, "127.0.0.1:5000".parse().unwrap(), env.clock.clone());
        Asked { router: server.router(), env, folder, server, channel }
    }

    async fn restart(self) -> Self {
        self.server.stop().await;
        Self::start_in(self.folder, |_| ())
    }

    /// Answers a whole frame.
    async fn frame(&self, frame: &[u8]) -> Response {
        let command = command::decode(&frame[4..]).unwrap();
        let code = command.code;
        let (processor, _) = self.router.find(code).expect("the code is served");
        let request = Request { command, channel: &self.channel, received: self.env.clock.monotonic() };
        match processor.process(&request) {
            Answer::Now(response) => response,
            Answer::Later(response) => response.await.expect("an answer"),
            _ => panic!("code {code} is neither answered now nor later"),
        }
    }

    async fn call(&self, call: Call) -> Response {
        let mut frame = Vec::new();
        command::encode_call(&call, 7, false, Serialization::Json, &mut frame);
        self.frame(&frame).await
    }

    async fn ask(&self, code: i32, fields: &[(&'static str, &'static str)]) -> Response {
        self.call(fields.iter().fold(Call::new(code), |call, (name, value)| call.with(name, *value))).await
    }

    /// Registers broker `a` at 1:1 with `topics`.
    async fn register(&self, counter: i64, topics: &[&str]) -> Response {
        let mut body = RegisterBrokerBody::default();
        body.topics.data_version.counter = counter;
        for topic in topics {
            body.topics.topic_config_table.insert((*topic).into(), TopicConfig::new(*topic, 4, 6));
        }
        self.call(registration().with_body(body.encode())).await
    }

    async fn route(&self, topic: &'static str) -> Option<TopicRouteData> {
        let answer = self.ask(request::GET_ROUTEINFO_BY_TOPIC, &[("topic", topic)]).await;
        (answer.code == response::SUCCESS).then(|| TopicRouteData::decode(&answer.body[0]).unwrap())
    }
}

fn registration() -> Call {
    Call::new(request::REGISTER_BROKER)
        .with("brokerName", "a")
        .with("brokerAddr", "1:1")
        .with("clusterName", "C")
        .with("haServerAddr", "1:2")
        .with("brokerId", 0)
}

fn field<'a>(response: &'a Response, name: &str) -> Option<&'a Value> {
    response.fields.iter().find(|(key, _)| *key == name).map(|(_, value)| value)
}

#[tokio::test]
async fn a_recorded_broker_registers_and_is_found() {
    for registration in ["broker497-103-request", "broker497-103-compressed-request"] {
        let asked = Asked::start();
        let answer = asked.frame(&golden(registration)).await;
        assert_eq!((answer.code, &answer.remark), (response::SUCCESS, &None));
        // The recorded answers of 4.9.7, byte for byte.
        let old = r#"{"code":105,"extFields":{"topic":"TBW102"},"language":"GO","opaque":5,"version":317}"#;
        let mut frame = ((old.len() + 4) as u32).to_be_bytes().to_vec();
        frame.extend_from_slice(&(old.len() as u32).to_be_bytes());
        frame.extend_from_slice(old.as_bytes());
        assert_eq!(asked.frame(&frame).await.body[0], golden_body("ns497-105-bare-answer"));
        let mut call = Call::new(request::GET_ROUTEINFO_BY_TOPIC).with("topic", "TBW102");
        let quoted = asked.call(call.clone()).await;
        call = call.with("acceptStandardJsonOnly", true);
        assert_eq!(asked.call(call).await, quoted);
        assert!(quoted.body[0].starts_with(br#"{"brokerDatas":[{"brokerAddrs":{"0":"127.0.0.1:20980"}"#));
        assert_eq!(asked.ask(request::GET_BROKER_CLUSTER_INFO, &[]).await.body[0], golden_body("ns497-106-answer"));

        let unknown = asked.frame(&golden("ns497-105-request")).await;
        let frame = golden("ns497-105-unknown-answer");
        let recorded = command::decode(&frame[4..]).unwrap();
        assert_eq!((unknown.code, unknown.remark.as_deref()), (recorded.code, recorded.remark.as_deref()));

        assert_eq!(asked.frame(&golden("broker497-104-request")).await.code, response::SUCCESS);
        assert_eq!(asked.route("TBW102").await, None);
    }
}

#[tokio::test]
async fn registrations_that_pollute_are_refused() {
    let asked = Asked::start();
    let check = async |call: Call, remark: &str| {
        let answer = asked.call(call).await;
        assert_eq!((answer.code, answer.remark.as_deref()), (response::SYSTEM_ERROR, Some(remark)));
    };
    let nameless = Call::new(request::REGISTER_BROKER).with("brokerId", 0).with("brokerAddr", "1:1");
    check(nameless, "a broker cannot register without its brokerName").await;
    check(registration().with("clusterName", " "), "a broker cannot register without its clusterName").await;
    check(registration().with("bodyCrc32", 5).with_body("{}"), "crc32 not match").await;
    check(registration().with("compressed", true).with_body("{}"), "the body's zlib stream is damaged").await;
    check(
        registration().with("brokerId", "zero"),
        "the request's header field brokerId is \"zero\" where a 64-bit number belongs",
    )
    .await;
    assert_eq!(
        asked.ask(request::GET_BROKER_CLUSTER_INFO, &[]).await.body[0],
        r#"{"brokerAddrTable":{},"clusterAddrTable":{}}"#
    );
}

#[tokio::test]
async fn data_versions_are_compared() {
    let asked = Asked::start();
    let query = |version: Option<i64>| {
        let call = registration();
        let body = version
            .map_or_else(Vec::new, |counter| DataVersion { counter, state_version: None, timestamp: 0 }.encode());
        Call { code: request::QUERY_DATA_VERSION, ..call }.with_body(body)
    };
    let check = async |version: Option<i64>, changed: bool, held: &str| {
        let answer = asked.call(query(version)).await;
        assert_eq!((answer.code, field(&answer, "changed")), (response::SUCCESS, Some(&Value::Bool(changed))));
        assert_eq!(answer.body.concat(), held.as_bytes());
    };
    check(Some(3), true, "").await;
    asked.register(3, &["t", "u"]).await;
    let held = r#"{"counter":3,"timestamp":0}"#;
    check(Some(3), false, held).await;
    check(Some(4), true, held).await;
    // As Java, which fails for want of a version.
    assert_eq!(asked.call(query(None)).await.code, response::SYSTEM_ERROR);
}

#[tokio::test]
async fn settings_outlive_a_restart() {
    let asked = Asked::start();
    let key = [("namespace", "N"), ("key", "k")];
    let missing = asked.ask(request::GET_KV_CONFIG, &key).await;
    assert_eq!(missing.remark.as_deref(), Some("No config item, Namespace: N Key: k"));
    assert_eq!(missing.code, response::QUERY_NOT_FOUND);
    for (namespace, key) in [("N", "k"), ("N", "l"), ("ORDER_TOPIC_CONFIG", "t")] {
        let put = asked.ask(request::PUT_KV_CONFIG, &[("namespace", namespace), ("key", key), ("value", "a:4")]).await;
        assert_eq!((put.code, put.remark), (response::SUCCESS, None));
    }
    assert_eq!(asked.ask(request::DELETE_KV_CONFIG, &[("namespace", "N"), ("key", "l")]).await.code, response::SUCCESS);
    // What is in the file now is what Java's name server reads and writes.
    let file = std::fs::read_to_string(asked.folder.path().join("kv.json")).unwrap();
    assert_eq!(file, r#"{"configTable":{"N":{"k":"a:4"},"ORDER_TOPIC_CONFIG":{"t":"a:4"}}}"#);
    let asked = asked.restart().await;
    assert_eq!(field(&asked.ask(request::GET_KV_CONFIG, &key).await, "value"), Some(&Value::from("a:4")));
    let list = asked.ask(request::GET_KVLIST_BY_NAMESPACE, &[("namespace", "N")]).await;
    assert_eq!(KvTable::decode(&list.body[0]).unwrap().table, [("k".to_owned(), "a:4".to_owned())].into());
    let none = asked.ask(request::GET_KVLIST_BY_NAMESPACE, &[("namespace", "M")]).await;
    assert_eq!((none.code, none.remark.as_deref()), (response::QUERY_NOT_FOUND, Some("No config item, Namespace: M")));
    // Brokers learn the order settings when they register; clients only if the name server is told to.
    let registered = asked.register(1, &["t", "u"]).await;
    assert_eq!(registered.body[0], r#"{"table":{"t":"a:4"}}"#);
    assert_eq!(asked.route("t").await.unwrap().order_topic_conf, None);
    asked.call(Call::new(request::UPDATE_NAMESRV_CONFIG).with_body("orderMessageEnable=true\n")).await;
    assert_eq!(asked.route("t").await.unwrap().order_topic_conf.as_deref(), Some("a:4"));
}

#[tokio::test]
async fn an_unreadable_file_stops_the_start() {
    let env = os::env(tokio::runtime::Handle::current());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kv.json");
    let mut config = NamesrvConfig::tiny();
    config.kv_config_path = path.display().to_string();
    std::fs::write(&path, "{").unwrap();
    let error = NameServer::start(&env, config.clone()).err().expect("a broken file").to_string();
    assert!(error.starts_with(&path.display().to_string()), "{error}");
    // Its copy helps.
    std::fs::write(folder.path().join("kv.json.bak"), r#"{"configTable":{}}"#).unwrap();
    assert!(NameServer::start(&env, config).is_ok());
}

#[tokio::test]
async fn configuration_changes_all_or_nothing() {
    let asked = Asked::start();
    let update = async |text: &'static str| {
        let answer = asked.call(Call::new(request::UPDATE_NAMESRV_CONFIG).with_body(text)).await;
        (answer.code, answer.remark.map(String::from))
    };
    assert_eq!(update("kvConfigPath=/x\n").await, (response::NO_PERMISSION, Some("Can not update config path".into())));
    let (code, remark) = update("enableAllTopicList=false\norderMessageEnable=perhaps\n").await;
    assert_eq!(code, response::SYSTEM_ERROR);
    assert!(remark.unwrap().starts_with("orderMessageEnable=perhaps: allowed is "));
    assert_eq!(asked.ask(request::GET_ALL_TOPIC_LIST_FROM_NAMESERVER, &[]).await.code, response::SUCCESS);
    assert_eq!(update("enableAllTopicList=false\nnoSuchKey=1\n").await, (response::SUCCESS, None));
    let refused = asked.ask(request::GET_ALL_TOPIC_LIST_FROM_NAMESERVER, &[]).await;
    assert_eq!((refused.code, refused.remark.as_deref()), (response::SYSTEM_ERROR, Some("disable")));
    let shown = asked.ask(request::GET_NAMESRV_CONFIG, &[]).await;
    assert!(str::from_utf8(&shown.body[0]).unwrap().contains("enableAllTopicList=false\n"));
    let file = std::fs::read_to_string(asked.folder.path().join("namesrv.properties")).unwrap();
    assert_eq!(file, "enableAllTopicList=false\n");
}

#[tokio::test]
async fn operators_see_and_change() {
    let asked = Asked::start();
    asked.register(1, &["t", "u", "v"]).await;
    let wiped = asked.ask(request::WIPE_WRITE_PERM_OF_BROKER, &[("brokerName", "a")]).await;
    assert_eq!(field(&wiped, "wipeTopicCount"), Some(&Value::Int(3)));
    assert_eq!(asked.route("t").await.unwrap().queue_datas[0].perm, 4);
    let added = asked.ask(request::ADD_WRITE_PERM_OF_BROKER, &[("brokerName", "a")]).await;
    assert_eq!(field(&added, "addTopicCount"), Some(&Value::Int(3)));
    let topics = async |code: i32, fields: &[(&'static str, &'static str)]| {
        let answer = asked.ask(code, fields).await;
        assert_eq!(answer.code, response::SUCCESS);
        TopicList::decode(&answer.body[0]).unwrap().topic_list.into_iter().collect::<Vec<_>>()
    };
    // mqadmin 4.9.7 swaps topic and cluster here; then nothing is deleted.
    asked.ask(request::DELETE_TOPIC_IN_NAMESRV, &[("topic", "C"), ("clusterName", "t")]).await;
    asked.ask(request::DELETE_TOPIC_IN_NAMESRV, &[("topic", "v"), ("clusterName", "C")]).await;
    assert_eq!(topics(request::GET_ALL_TOPIC_LIST_FROM_NAMESERVER, &[]).await, ["t", "u"]);
    assert_eq!(topics(request::GET_TOPICS_BY_CLUSTER, &[("cluster", "C")]).await, ["t", "u"]);
    assert_eq!(topics(request::GET_SYSTEM_TOPIC_LIST_FROM_NS, &[]).await, ["C", "a"]);
    assert_eq!(topics(request::GET_UNIT_TOPIC_LIST, &[]).await, Vec::<String>::new());
    let members = asked.ask(request::GET_BROKER_MEMBER_GROUP, &[("clusterName", "C"), ("brokerName", "a")]).await;
    assert_eq!(members.body[0], r#"{"brokerMemberGroup":{"brokerAddrs":{0:"1:1"},"brokerName":"a","cluster":"C"}}"#);
    assert!(ConsumerIdList::decode(b"{}").unwrap().consumer_id_list.is_empty());
}

#[tokio::test]
async fn a_closed_connection_takes_its_broker_along() {
    let asked = Asked::start();
    asked.register(1, &["t", "u"]).await;
    assert!(asked.route("t").await.is_some());
    (asked.router.on_close)(&asked.channel);
    assert_eq!(asked.route("t").await, None);
}

#[tokio::test]
async fn a_silent_broker_is_cut_off() {
    let asked = Asked::start_in(tempfile::tempdir().unwrap(), |config| config.scan_interval_ms = 10);
    asked.call(registration().with("heartbeatTimeoutMillis", 10)).await;
    let mut rounds = 0;
    while asked.channel.is_open() {
        rounds += 1;
        assert!(rounds < 1_000, "the connection of a silent broker stays open");
        asked.env.clock.sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(
        asked.ask(request::GET_BROKER_CLUSTER_INFO, &[]).await.body[0],
        r#"{"brokerAddrTable":{},"clusterAddrTable":{}}"#
    );
}

/// A clock that panics whoever asks it for the time, once it is told to.
struct Broken {
    clock: Arc<dyn Clock>,
    is_broken: AtomicBool,
}

impl Clock for Broken {
    fn wall_ms(&self) -> i64 {
        self.clock.wall_ms()
    }

    fn utc_offset_s(&self, wall_ms: i64) -> i32 {
        self.clock.utc_offset_s(wall_ms)
    }

    fn monotonic(&self) -> Duration {
        assert!(!self.is_broken.load(Ordering::SeqCst), "out of order");
        self.clock.monotonic()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.clock.sleep(duration)
    }
}

/// The one who looks for silent brokers panicked, and the process lived on, answering every request with a failure.
#[tokio::test]
async fn a_panic_in_a_task_is_the_end() {
    let system = os::env(tokio::runtime::Handle::current());
    let clock = Arc::new(Broken { clock: system.clock.clone(), is_broken: AtomicBool::new(false) });
    let (folder, mut config) = (tempfile::tempdir().unwrap(), NamesrvConfig::tiny());
    config.kv_config_path = folder.path().join("kv.json").display().to_string();
    config.config_store_path = folder.path().join("namesrv.properties").display().to_string();
    config.scan_interval_ms = 10;
    let server = NameServer::start(&Env { clock: clock.clone(), ..system }, config).unwrap();
    let all_is_well = tokio::time::timeout(Duration::from_millis(200), server.died()).await;
    assert!(all_is_well.is_err(), "{all_is_well:?}");
    clock.is_broken.store(true, Ordering::SeqCst);
    let died = tokio::time::timeout(Duration::from_secs(30), server.died()).await.expect("it is told");
    assert_eq!(died.to_string(), "namesrv-scan panicked: out of order");
    server.stop().await;
}

#[tokio::test]
async fn unknown_codes_are_nobodys() {
    let asked = Asked::start();
    assert!(asked.router.find(request::SEND_MESSAGE).is_none());
}

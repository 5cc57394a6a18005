//! Arbitrary headers and bodies to every code of a live broker and of a name server: nothing panics, each request is
//! answered once, and what they made of the store and of the tables is no obstacle to the next start.

#![no_main]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, LazyLock},
    time::Duration,
};

use keelmq::{
    broker,
    env::Env,
    namesrv::{NameServer, NamesrvConfig},
    protocol::{
        code::request,
        command::{self, Call, Response, Serialization},
        frame,
    },
    remoting::Server,
};
use keelmq_fuzz::{World, image, input::Input, wire::Pipe};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Requests of one run.
const REQUESTS_MAX: usize = 12;
/// Longer than any call to a client, or pull without a word about its patience, takes.
const PATIENCE: Duration = Duration::from_secs(40);

/// Every known field with a value that makes sense somewhere.
const FIELDS: [(&str, &str); 94] = [
    ("topic", "A"),
    ("queueId", "0"),
    ("consumerGroup", "G"),
    ("group", "G"),
    ("sysFlag", "0"),
    ("producerGroup", "P"),
    ("brokerName", "tiny"),
    ("unitMode", "false"),
    ("flag", "0"),
    ("a", "P"),
    ("b", "A"),
    ("c", "TBW102"),
    ("d", "4"),
    ("e", "0"),
    ("f", "0"),
    ("g", "1"),
    ("h", "0"),
    ("i", "TAGS\u{1}x\u{2}"),
    ("j", "0"),
    ("k", "false"),
    ("l", "16"),
    ("m", "false"),
    ("n", "tiny"),
    ("clusterName", "C"),
    ("bornTimestamp", "1"),
    ("reconsumeTimes", "0"),
    ("msgId", "7F00000100002A9F0000000000000000"),
    ("maxReconsumeTimes", "16"),
    ("defaultTopicQueueNums", "4"),
    ("defaultTopic", "TBW102"),
    ("batch", "false"),
    ("properties", "KEYS\u{1}k\u{2}"),
    ("offset", "0"),
    ("namespace", "N"),
    ("key", "k"),
    ("brokerId", "0"),
    ("brokerAddr", "127.0.0.1:9"),
    ("transactionId", "u"),
    ("tranStateTableOffset", "0"),
    ("topicSysFlag", "0"),
    ("timestamp", "0"),
    ("queueOffset", "0"),
    ("maxMsgNums", "32"),
    ("commitOffset", "0"),
    ("commitLogOffset", "0"),
    ("clientId", "C@1"),
    ("bname", "tiny"),
    ("writeQueueNums", "4"),
    ("readQueueNums", "4"),
    ("perm", "6"),
    ("value", "v"),
    ("topicList", "A"),
    ("topicFilterType", "SINGLE_TAG"),
    ("suspendTimeoutMillis", "1000"),
    ("subscription", "*"),
    ("subVersion", "0"),
    ("storeTimestamp", "0"),
    ("storeHost", "127.0.0.1:10911"),
    ("statsName", "TOPIC_PUT_NUMS"),
    ("statsKey", "A"),
    ("srcGroup", "G"),
    ("setZeroIfNotFound", "true"),
    ("removeOffset", "true"),
    ("recallHandle", "x"),
    ("readable", "true"),
    ("originTopic", "A"),
    ("originMsgId", "7F00000100002A9F0000000000000000"),
    ("order", "false"),
    ("offsetMsgId", "7F00000100002A9F0000000000000000"),
    ("offline", "false"),
    ("maxNum", "32"),
    ("maxMsgBytes", "65536"),
    ("jstackEnable", "false"),
    ("isOrder", "false"),
    ("isForce", "true"),
    ("index", "0"),
    ("haServerAddr", "127.0.0.1:9"),
    ("groupSysFlag", "0"),
    ("groupName", "G"),
    ("fromTransactionCheck", "false"),
    ("filterGroups", "G"),
    ("expressionType", "TAG"),
    ("endTimestamp", "9223372036854775807"),
    ("destGroup", "H"),
    ("delayLevel", "0"),
    ("count", "10"),
    ("compressed", "false"),
    ("compareGroup", "H"),
    ("commitOrRollback", "8"),
    ("clientID", "C@1"),
    ("clientAddr", "C@1"),
    ("boundaryType", "lower"),
    ("bornHost", "127.0.0.1:9"),
    ("beginTimestamp", "0"),
];

const VALUES: [&str; 48] = [
    "",
    " ",
    "A",
    "B",
    "%RETRY%G",
    "%DLQ%G",
    "%RETRY%",
    "SCHEDULE_TOPIC_XXXX",
    "RMQ_SYS_TRANS_HALF_TOPIC",
    "TBW102",
    "TRANS_CHECK_MAX_TIME_TOPIC",
    "RMQ_SYS_TRACE_TOPIC",
    "DefaultCluster_REPLY_TOPIC",
    "../x",
    "a/b",
    "a%b",
    "G",
    "H",
    "CID_RMQ_SYS_TRANS",
    "CLIENT_INNER_PRODUCER",
    "true",
    "false",
    "0",
    "1",
    "-1",
    "2",
    "4",
    "12",
    "64",
    "2147483647",
    "-2147483648",
    "4294967296",
    "9223372036854775807",
    "-9223372036854775808",
    "1e3",
    "0x10",
    "SQL92",
    "TAG",
    "a = 1 AND TAGS IS NOT NULL",
    "x || y",
    "||",
    "DELAY\u{1}1\u{2}",
    "DELAY\u{1}-1\u{2}KEYS\u{1}k k2\u{2}WAIT\u{1}false\u{2}",
    "TRAN_MSG\u{1}true\u{2}PGROUP\u{1}P\u{2}UNIQ_KEY\u{1}u\u{2}",
    "REPLY_TO_CLIENT\u{1}C@1\u{2}CORRELATION_ID\u{1}c\u{2}",
    "upper",
    "cleanOffset",
    "CHECK_IMMUNITY_TIME_IN_SECONDS\u{1}5\u{2}TRAN_MSG\u{1}true\u{2}PGROUP\u{1}P\u{2}",
];

const BODIES: [&[u8]; 14] = [
    b"",
    b"hello",
    br#"{"clientID":"C@1","consumerDataSet":[{"consumeFromWhere":"CONSUME_FROM_LAST_OFFSET","consumeType":"CONSUME_PASSIVELY","groupName":"G","messageModel":"CLUSTERING","subscriptionDataSet":[{"classFilterMode":false,"codeSet":[120],"expressionType":"TAG","subString":"x","subVersion":1,"tagsSet":["x"],"topic":"A"}],"unitMode":false}],"producerDataSet":[{"groupName":"P"}]}"#,
    br#"{"clientId":"C@1","consumerGroup":"G","mqSet":[{"brokerName":"tiny","queueId":0,"topic":"A"}]}"#,
    br#"{"clientId":"C@1","group":"G","subscriptionData":{"expressionType":"SQL92","subString":"a = 1","topic":"A","subVersion":1}}"#,
    br#"{"consumeEnable":true,"groupName":"G","retryMaxTimes":1,"retryQueueNums":1,"brokerId":0}"#,
    br#"{"topicConfigList":[{"topicName":"A","readQueueNums":2,"writeQueueNums":2,"perm":6}]}"#,
    b"brokerPermission=6\nmessageDelayLevel=1s",
    b"fileReservedTime=1\nmaxMessageSize=100",
    b"\0\0\0\x1b\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05hello\0\0",
    br#"{"groupConfigList":[{"groupName":"H"}]}"#,
    br#"{"consumerTable":{},"messageQueueTable":{}}"#,
    br#"{"filterServerList":[],"topicConfigSerializeWrapper":{"dataVersion":{"counter":1,"timestamp":1},"topicConfigTable":{"A":{"perm":6,"readQueueNums":1,"topicName":"A","topicSysFlag":3,"writeQueueNums":1}}}}"#,
    b"orderMessageEnable=true\nenableTopicList=false",
];

static CODES: LazyLock<Vec<i32>> =
    LazyLock::new(|| (0..=200_200).filter(|code| keelmq::protocol::code::request::name(*code).is_some()).collect());

/// A name server beside the broker, which does not know it.
async fn name_server(env: &Env) -> (Arc<NameServer>, Server, SocketAddr) {
    let config = NamesrvConfig::tiny();
    let bound = env.network.bind(([127, 0, 0, 1], 9_876).into()).await.expect("the port is free");
    let (address, server_config) = (bound.local_address(), config.server());
    let names = NameServer::start(env, config).expect("what was asked of the name server keeps it from starting");
    let listener = bound.listen(server_config.backlog).expect("it was bound");
    let server =
        Server::start(env.clock.clone(), env.spawner.clone(), listener, Arc::new(names.router()), server_config);
    (names, server, address)
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let stops = input.byte() & 1 == 0;
    let mut world = World::new(0);
    let tasks = world.tasks.clone();
    let env = world.boot();
    let wire = world.wire.clone();
    tasks.run(async {
        let (names, names_server, names_address) = name_server(&env).await;
        let broker = broker::start(env, image::broker_config(), None).await.expect("an empty directory");
        let addresses = [broker.address(), broker.address(), names_address];
        let mut clients = addresses.map(|address| Client::new(wire.open(address)));
        for _ in 0..REQUESTS_MAX {
            if input.is_empty() {
                break;
            }
            let which = input.byte();
            let client = &mut clients[if which & 16 == 0 { usize::from(which & 1) } else { 2 }];
            if which & 2 != 0 && !client.calls.is_empty() {
                client.answer(&mut input).await;
            } else {
                client.ask(&mut input, which & 4 != 0).await;
            }
            if which & 8 == 0 {
                client.take(&world.tasks, Duration::from_millis(u64::from(which))).await;
            }
        }
        for client in &mut clients {
            client.settle(&world.tasks).await;
        }
        // It is alive, and says so to a newcomer.
        let mut last = Client::new(wire.open(broker.address()));
        last.send(Call::new(request::GET_BROKER_RUNTIME_INFO), Serialization::Json, false).await;
        last.settle(&world.tasks).await;
        let mut last = Client::new(wire.open(names_address));
        last.send(Call::new(request::GET_BROKER_CLUSTER_INFO), Serialization::Json, false).await;
        last.settle(&world.tasks).await;
        if stops {
            broker.shutdown(Duration::from_secs(1)).await;
            names_server.shutdown(Duration::from_secs(1)).await;
            names.stop().await;
        }
    });
    world.kill();
    let env = world.boot();
    tasks.run(async {
        name_server(&env).await;
        let started = broker::start(env, image::broker_config(), None).await;
        started.unwrap_or_else(|error| panic!("what was asked of the broker keeps it from starting: {error}"));
    });
    world.kill();
});

struct Client {
    pipe: Pipe,
    unread: Vec<u8>,
    next_opaque: i32,
    /// Requests that wait for their answer, with their codes.
    waiting: BTreeMap<i32, i32>,
    /// The broker's requests.
    calls: Vec<i32>,
}

impl Client {
    fn new(pipe: std::io::Result<Pipe>) -> Client {
        let pipe = pipe.expect("the broker listens");
        Client { pipe, unread: Vec::new(), next_opaque: 0, waiting: BTreeMap::new(), calls: Vec::new() }
    }

    async fn send(&mut self, call: Call, serialization: Serialization, oneway: bool) {
        self.next_opaque += 1;
        if !oneway {
            self.waiting.insert(self.next_opaque, call.code);
        }
        let mut bytes = Vec::new();
        command::encode_call(&call, self.next_opaque, oneway, serialization, &mut bytes);
        self.pipe.write_all(&bytes).await.expect("the broker has not closed the connection");
    }

    async fn ask(&mut self, input: &mut Input<'_>, oneway: bool) {
        let kind = input.byte();
        let code = if kind & 1 == 0 { *input.pick(&CODES) } else { i32::from(input.byte()) };
        let mut fields: Vec<(String, String)> = Vec::new();
        if kind & 2 == 0 {
            fields.extend(FIELDS.iter().map(|(key, value)| (key.to_string(), value.to_string())));
        }
        for _ in 0..kind >> 5 {
            let key = match input.byte() {
                at if usize::from(at) < FIELDS.len() => FIELDS[usize::from(at)].0.to_owned(),
                _ => input.text(),
            };
            let value = match input.byte() {
                at if usize::from(at) < VALUES.len() => Some(VALUES[usize::from(at)].to_owned()),
                at if at < 128 => Some((input.number() as i64).to_string()),
                at if at < 192 => Some(input.text()),
                _ => None,
            };
            fields.retain(|(other, _)| *other != key);
            fields.extend(value.map(|value| (key, value)));
        }
        let body = match input.byte() {
            at if usize::from(at) < BODIES.len() => BODIES[usize::from(at)].to_vec(),
            at if at < 128 => {
                let mut body = BODIES[usize::from(at) % BODIES.len()].to_vec();
                let from = input.below(body.len() + 1);
                let to = (from + usize::from(input.byte() % 16)).min(body.len());
                body.splice(from..to, input.some().iter().copied());
                body
            }
            _ => input.some().to_vec(),
        };
        let mut call = Call::new(code).with_body(body);
        call.passed_on = fields;
        let serialization = if kind & 4 == 0 { Serialization::Json } else { Serialization::Binary };
        if serialization == Serialization::Binary && i16::try_from(code).is_err() {
            return;
        }
        self.send(call, serialization, oneway).await;
    }

    /// Answers a call of the broker with whatever.
    async fn answer(&mut self, input: &mut Input<'_>) {
        let opaque = self.calls.pop().expect("there is one");
        let body = if input.byte() & 1 == 0 { BODIES[11] } else { input.some() };
        let response = Response::error(i32::from(input.byte()), input.text()).with_body(body.to_vec());
        let mut bytes = Vec::new();
        command::encode_response(&response, opaque, Serialization::Json, &mut bytes);
        bytes.extend_from_slice(body);
        self.pipe.write_all(&bytes).await.expect("the broker has not closed the connection");
    }

    /// Reads what comes within `time`. False if nothing did.
    async fn take(&mut self, tasks: &keelmq_fuzz::tasks::Tasks, time: Duration) -> bool {
        let mut buffer = [0; 4_096];
        let read = keelmq::env::timeout(tasks, time, self.pipe.read(&mut buffer)).await;
        let Ok(count) = read else { return false };
        let count = count.expect("a pipe does not fail");
        assert!(count > 0, "the broker closed the connection; waiting: {:?}", self.waiting);
        self.unread.extend_from_slice(&buffer[..count]);
        let unread = std::mem::take(&mut self.unread);
        let mut rest = &unread[..];
        while let Some((content, size)) = frame::split(rest, usize::MAX).expect("it speaks the protocol") {
            let command = command::decode(content).expect("it speaks the protocol");
            if command.is_response() {
                let asked = self.waiting.remove(&command.opaque);
                assert!(asked.is_some(), "an answer {} to {} that nobody waits for", command.code, command.opaque);
            } else if !command.is_oneway() {
                self.calls.push(command.opaque);
            }
            rest = &rest[size..];
        }
        self.unread = rest.to_vec();
        true
    }

    /// Reads until everything is answered that has an answer.
    async fn settle(&mut self, tasks: &keelmq_fuzz::tasks::Tasks) {
        let until = keelmq::env::Clock::monotonic(tasks) + PATIENCE;
        while self.waits() && keelmq::env::Clock::monotonic(tasks) < until {
            self.take(tasks, Duration::from_secs(1)).await;
        }
        assert!(!self.waits(), "never answered: {:?}", self.waiting);
    }

    /// A pull may be as patient as it likes, a transaction of unknown outcome has no answer.
    fn waits(&self) -> bool {
        let open = [request::END_TRANSACTION, request::PULL_MESSAGE, request::LITE_PULL_MESSAGE];
        self.waiting.values().any(|code| !open.contains(code))
    }
}

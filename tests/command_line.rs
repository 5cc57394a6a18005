//! The program from outside: what it says to right and wrong command lines, and the codes with which it ends.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

#[allow(dead_code)]
#[path = "remoting/world.rs"]
mod world;

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use keelmq::protocol::code::request as code;
use world::{Peer, ask, request, send};

fn keelmq(directory: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_keelmq"))
        .args(args)
        .current_dir(directory)
        .env_remove("NAMESRV_ADDR")
        .env_remove("KEELMQ_LOG")
        .output()
        .expect("the program was built with this test")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the program writes UTF-8")
}

#[test]
fn wrong_usage_is_2_and_a_wrong_file_is_1_each_with_one_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| fs::write(directory.path().join(name), content).unwrap();
    write("bad.conf", "brokerName=a\nflushDiskType=SYNC\nlistenPort=port\n");
    write("acl.conf", "aclEnable=true\n");
    fs::write(directory.path().join("odd.conf"), b"brokerName=\xFF\n").unwrap();
    write("small.conf", "mappedFileSizeCommitLog=1048576\n");
    write("role.conf", "brokerRole=SYNC_MASTER\n");
    let check = |args: &[&str], code: i32, says: &[&str]| {
        let output = keelmq(directory.path(), args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        for part in says {
            assert!(said.contains(part), "{args:?} does not say {part:?}:\n{said}");
        }
        assert!(!directory.path().join("keelmq-data").exists(), "{args:?} wrote something");
    };
    check(&["--no-such-flag"], 2, &["--no-such-flag"]);
    check(&["serve"], 2, &["serve"]);
    check(&["--set", "lisenPort=1"], 2, &["keelmq: --set unknown key lisenPort, did you mean listenPort?"]);
    check(&["--set", "listenPort"], 2, &["a setting is key=value"]);
    check(&["--set", "listenPort=70000"], 2, &["listenPort=70000: allowed is a whole number (a port) from 0 to 65535"]);
    check(&["--set", "namesrv.listenPort=x"], 2, &["listenPort=x: allowed is"]);
    check(&["broker", "--set", "namesrv.listenPort=1"], 2, &["unknown key namesrv.listenPort"]);
    check(&["--port", "many"], 2, &["keelmq: --port listenPort=many: allowed is"]);
    check(&["-n", "nowhere"], 2, &["keelmq: -n namesrvAddr=nowhere: allowed is host:port, several separated by ';'"]);
    check(&["--listen", "everywhere"], 2, &["keelmq: --listen bindAddress=everywhere: allowed is an IPv4 or IPv6"]);
    check(&["--advertise", "host:"], 2, &["keelmq: --advertise host:: allowed is HOST or HOST:PORT"]);
    check(&["namesrv", "--advertise", "host"], 2, &["--advertise"]);
    check(&["--log", "xml"], 2, &["xml"]);
    check(&["-c", "absent.conf"], 1, &["keelmq: cannot read absent.conf: No such file"]);
    check(&["-c", "odd.conf"], 1, &["keelmq: cannot read odd.conf: it is not text in UTF-8"]);
    check(
        &["broker", "-c", "bad.conf"],
        1,
        &[
            "keelmq: bad.conf:2: flushDiskType=SYNC: allowed is SYNC_FLUSH or ASYNC_FLUSH",
            "keelmq: bad.conf:3: listenPort=port: allowed is",
        ],
    );
    check(&["broker", "-c", "acl.conf"], 1, &["acl.conf:1: aclEnable=true: authentication and access control are"]);
    check(&["broker", "-c", "role.conf"], 1, &["role.conf:1: brokerRole=SYNC_MASTER: replication is not served yet"]);
    check(&["broker", "-c", "small.conf"], 1, &["mappedFileSizeCommitLog=1048576 (small.conf:1)"]);
}

/// What can be typed is in the help, at both floors.
#[test]
fn the_help_names_every_command_and_flag() {
    let directory = tempfile::tempdir().unwrap();
    let check = |args: &[&str], says: &[&str]| {
        let output = keelmq(directory.path(), args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        let help = text(&output.stdout);
        let words: Vec<&str> = help.split(|c: char| c.is_whitespace() || c == ',').collect();
        let missing: Vec<_> = says.iter().filter(|word| !words.contains(word)).collect();
        assert!(missing.is_empty(), "{args:?} does not say {missing:?}:\n{help}");
    };
    let commands = ["standalone", "broker", "namesrv", "bench", "store", "doctor", "admin"];
    check(&["--help"], &commands);
    let flags = ["-c", "-n", "--set", "--listen", "--port", "--store", "--advertise", "-p", "--log"];
    for args in [&["--help"][..], &["standalone", "--help"], &["broker", "--help"]] {
        check(args, &flags);
    }
    check(&["standalone", "--help"], &["--namesrv-port"]);
    check(&["namesrv", "--help"], &["-c", "--set", "--listen", "--port", "--store", "-p"]);
    check(&["store", "--help"], &["verify", "stat", "repair"]);
    assert_eq!(text(&keelmq(directory.path(), &["--version"]).stdout).split(' ').next(), Some("keelmq"));
}

#[test]
fn the_printed_settings_say_their_source_and_read_back_as_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let conf = "brokerClusterName = c1\nflushDiskType=ASYNC_FLUSH\nmapedFileSizeCommitLog=33554432\nnoSuchKey=1\n";
    fs::write(directory.path().join("broker.conf"), conf).unwrap();
    let check = |args: &[&str], expect: &[&str]| {
        let output = keelmq(directory.path(), args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", text(&output.stderr));
        let printed = text(&output.stdout);
        for line in expect {
            assert!(printed.lines().any(|printed| printed == *line), "{args:?} does not print {line:?}:\n{printed}");
        }
        printed
    };
    check(
        &["-p"],
        &[
            "listenPort=10911  # default",
            "bindAddress=127.0.0.1  # default of standalone",
            "brokerIP1=127.0.0.1  # default of standalone",
            "flushDiskType=SYNC_FLUSH  # default",
            "mappedFileSizeCommitLog=134217728  # default of standalone",
            "storePathRootDir=./keelmq-data  # default",
            "storePathCommitLog=./keelmq-data/commitlog  # this host",
            "namesrv.listenPort=9876  # default",
            "namesrv.kvConfigPath=./keelmq-data/namesrv/kvConfig.json  # default",
        ],
    );
    check(
        &["broker", "-p", "-c", "broker.conf", "--set", "brokerClusterName=c2", "--port", "0", "-n", "a:1;b:2"],
        &[
            "brokerClusterName=c2  # --set",
            "flushDiskType=ASYNC_FLUSH  # broker.conf:2",
            "mappedFileSizeCommitLog=33554432  # broker.conf:3",
            "listenPort=0  # --port",
            "namesrvAddr=a:1;b:2  # -n",
            "bindAddress=0.0.0.0  # default",
        ],
    );
    check(
        &["-p", "--listen", "0.0.0.0", "--advertise", "broker.example:3333", "--namesrv-port", "1234"],
        &[
            "bindAddress=0.0.0.0  # --listen",
            "brokerIP1=broker.example  # --advertise",
            "advertisedPort=3333  # --advertise",
            "namesrv.listenPort=1234  # --namesrv-port",
            "namesrv.bindAddress=0.0.0.0  # --listen",
        ],
    );
    assert_eq!(check(&["-p", "--port", "0"], &[]), check(&["standalone", "-p", "--port", "0"], &[]));
    fs::write(directory.path().join("namesrv.conf"), "listenPort=1235\n").unwrap();
    check(
        &["namesrv", "-p", "-c", "namesrv.conf"],
        &["listenPort=1235  # namesrv.conf:1", "configStorePath=namesrv.conf  # -c"],
    );
    check(
        &["namesrv", "-p", "--port", "1234", "--store", "d"],
        &["listenPort=1234  # --port", "kvConfigPath=d/kvConfig.json  # --store"],
    );

    let printed = check(&["-p", "-c", "broker.conf", "--set", "namesrv.listenPort=9999", "--store", "a#b"], &[]);
    fs::write(directory.path().join("printed.conf"), &printed).unwrap();
    let again = check(&["-p", "-c", "printed.conf"], &[]);
    let values = |printed: &str| -> Vec<String> {
        printed.lines().map(|line| line.rsplit_once("  # ").expect("a source").0.to_owned()).collect()
    };
    assert_eq!(values(&printed), values(&again));
    let printed = check(&["broker", "-p", "-c", "printed.conf"], &[]);
    assert!(printed.lines().any(|line| line.starts_with(r"storePathRootDir=a\#b  # printed.conf:")), "{printed}");
}

/// A server that runs, killed if a test forgets it.
struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    banner: Vec<String>,
}

impl Running {
    /// Starts it and waits for the `ready` line.
    fn start(directory: &Path, args: &[&str]) -> Self {
        // Servers that run side by side share the file, each line behind the other.
        let stderr = fs::OpenOptions::new().create(true).append(true).open(directory.join("stderr")).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_keelmq"))
            .args(args)
            .current_dir(directory)
            .env_remove("NAMESRV_ADDR")
            .env_remove("KEELMQ_LOG")
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .expect("the program was built with this test");
        let stdout = BufReader::new(child.stdout.take().expect("it was asked for"));
        let mut running = Running { child, stdout, banner: Vec::new() };
        while !running.banner.last().is_some_and(|line| line.starts_with("ready")) {
            let mut line = String::new();
            let len = running.stdout.read_line(&mut line).unwrap();
            let said = fs::read_to_string(directory.join("stderr")).unwrap_or_default();
            assert!(len > 0, "{args:?} ended: {:?}\n{said}", running.child.wait());
            running.banner.push(line.trim_end().to_owned());
        }
        running
    }

    /// The value of `name=` in the last line.
    fn ready(&self, name: &str) -> &str {
        let line = self.banner.last().expect("there is a line");
        let start = format!("{name}=");
        line.split(' ').find_map(|word| word.strip_prefix(&start)).unwrap_or_else(|| panic!("no {name} in {line:?}"))
    }

    fn port(&self, name: &str) -> u16 {
        self.ready(name).rsplit_once(':').expect("host and port").1.parse().unwrap()
    }

    /// What its threads have had of processors.
    fn processor_ms(&self) -> u64 {
        let threads = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        // One may end in between.
        let had = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("schedstat")).ok());
        had.filter_map(|text| text.split(' ').next()?.parse::<u64>().ok()).sum::<u64>() / 1_000_000
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    fn wait(mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const FREE: [&str; 4] = ["--port", "0", "--namesrv-port", "0"];

/// Segments of 4 MiB, so that a few thousand messages fill several.
const SMALL: [&str; 4] = ["--set", "mappedFileSizeCommitLog=4194304", "--set", "maxMessageSize=65536"];

#[test]
fn it_starts_with_a_short_banner_and_ends_in_order_on_a_signal() {
    let directory = tempfile::tempdir().unwrap();
    for (round, signal) in ["TERM", "INT"].into_iter().enumerate() {
        let running = Running::start(directory.path(), &FREE);
        assert!(running.banner.len() <= 12, "{:#?}", running.banner);
        assert!(running.banner[0].starts_with("KeelMQ "));
        assert_eq!((running.ready("store"), running.ready("flush")), ("./keelmq-data", "SYNC"));
        let (broker, namesrv) = (running.port("broker"), running.port("namesrv"));
        for port in [broker, broker - 2, namesrv] {
            TcpStream::connect(("127.0.0.1", port)).unwrap_or_else(|error| panic!("{port}: {error}"));
        }
        let abort = directory.path().join("keelmq-data/abort");
        assert!(abort.exists());
        let told = format!("clients are told 127.0.0.1:{broker}");
        assert!(running.banner.iter().any(|line| line.contains(&told)), "{:#?}", running.banner);
        let recovered = running.banner.iter().find(|line| line.contains("recovered")).unwrap();
        assert!(recovered.contains("the store is new"), "round {round}: {recovered}");
        running.signal(signal);
        assert_eq!(running.wait().code(), Some(0), "{signal}");
        assert!(!abort.exists(), "it did not end in order");
    }
}

/// `--store data` once failed with "sync of  failed: No such file or directory": the directory that holds a relative name
/// has none itself.
#[test]
fn a_store_may_be_named_relative_to_where_one_stands() {
    let directory = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let running = Running::start(directory.path(), &[&FREE[..], &SMALL, &["--store", "data"]].concat());
        assert_eq!(running.ready("store"), "data");
        assert!(directory.path().join("data/abort").exists());
        running.signal("TERM");
        assert_eq!(running.wait().code(), Some(0));
    }
    let running = Running::start(directory.path(), &["namesrv", "--port", "0", "--store", "names"]);
    running.signal("TERM");
    assert_eq!(running.wait().code(), Some(0));
}

/// Fifty milliseconds of processor, and no waiting. The quickest of some starts: on a busy machine others take their
/// time between.
#[test]
fn on_an_empty_store_it_is_ready_in_50_ms_of_processor() {
    let mut quickest = (u64::MAX, u64::MAX);
    for _ in 0..50 {
        let directory = tempfile::tempdir().unwrap();
        let began = Instant::now();
        let running = Running::start(directory.path(), &FREE);
        let waited_ms = began.elapsed().as_millis() as u64;
        quickest = quickest.min((running.processor_ms(), waited_ms));
        if quickest.0 <= 50 && waited_ms <= 500 {
            return;
        }
    }
    panic!("the quickest of 50 starts took {quickest:?} ms of processor and in all to the line `ready`");
}

/// A client that does not take its answers keeps the broker from its end for as long as drainMs says; who does not want to
/// wait says so once more, and nothing acknowledged is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let args = [&FREE[..], &["--set", "drainMs=60000"]].concat();
    let running = Running::start(directory.path(), &args);
    let mut client = Peer::connect(([127, 0, 0, 1], running.port("broker")).into()).await;
    assert_eq!(send(&mut client, "Large", &vec![7; 1 << 20]).await.code, 0);
    let pull = [
        ("consumerGroup", "g"),
        ("topic", "Large"),
        ("queueId", "0"),
        ("queueOffset", "0"),
        ("maxMsgNums", "1"),
        ("sysFlag", "4"),
        ("commitOffset", "0"),
        ("suspendTimeoutMillis", "0"),
        ("subscription", "*"),
        ("subVersion", "0"),
    ];
    while ask(&mut client, code::PULL_MESSAGE, &pull, b"").await.code != 0 {}
    for opaque in 0..64 {
        client.send(&request(code::PULL_MESSAGE, 100 + opaque, &pull, b"")).await;
    }
    running.signal("TERM");
    let stderr = directory.path().join("stderr");
    let begun = Instant::now();
    while !fs::read_to_string(&stderr).unwrap().contains("stopping") {
        assert!(begun.elapsed() < Duration::from_secs(10), "the first signal is not heard");
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(300));
    let abort = directory.path().join("keelmq-data/abort");
    assert!(abort.exists(), "it waits for the client");
    running.signal("TERM");
    assert_eq!(running.wait().code(), Some(130));
    assert!(abort.exists(), "it did not end in order, and the next start is to know");

    let running = Running::start(directory.path(), &args);
    let mut client = Peer::connect(([127, 0, 0, 1], running.port("broker")).into()).await;
    let max = ask(&mut client, code::GET_MAX_OFFSET, &[("topic", "Large"), ("queueId", "0")], b"").await;
    assert_eq!(max.fields["offset"], "1");
    running.signal("TERM");
    assert_eq!(running.wait().code(), Some(0));
}

#[test]
fn a_taken_port_and_a_locked_store_are_one_sentence_each() {
    let directory = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let check = |args: &[&str], says: &[&str]| {
        let output = keelmq(directory.path(), args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        let said = said.lines().find(|line| line.starts_with("keelmq: ")).unwrap_or_else(|| panic!("{args:?}: {said}"));
        for part in says {
            assert!(said.contains(part), "{args:?} does not say {part:?}: {said}");
        }
        assert!(!text(&output.stdout).contains("ready"));
    };
    check(&["--port", &port, "--namesrv-port", "0"], &["the broker cannot listen on", &port, "ss -ltnp", "--port"]);
    check(&["--port", "0", "--namesrv-port", &port], &["the name server cannot listen on", &port, "--namesrv-port"]);
    check(
        &["--port", "0", "--namesrv-port", "0", "--listen", "192.0.2.1"],
        &["no such address", "ip address", "--listen"],
    );
    check(&["namesrv", "--port", &port, "--store", "ns"], &["the name server cannot listen on", &port, "--port"]);

    let running = Running::start(directory.path(), &FREE);
    let pid = running.child.id().to_string();
    let locked = format!("keelmq-data/lock is locked by another process, pid {pid}. ");
    check(&FREE, &[&locked, "Stop it or choose another directory with --store"]);
    running.signal("TERM");
    assert_eq!(running.wait().code(), Some(0));

    let table = directory.path().join("keelmq-data/config/topics.json");
    let copy = directory.path().join("keelmq-data/config/topics.json.bak");
    for file in [&table, &copy] {
        fs::write(file, "{\"dataVersion\":").unwrap();
    }
    check(&FREE, &["keelmq-data/config/topics.json is unreadable", "byte 15", "restore one of them or remove both"]);
}

#[test]
fn broker_and_name_server_run_apart_and_find_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let names = Running::start(directory.path(), &["namesrv", "--listen", "127.0.0.1", "--port", "0", "--store", "ns"]);
    let namesrv = names.ready("namesrv").to_owned();
    let conf =
        "flushDiskType=ASYNC_FLUSH\nmappedFileSizeCommitLog=16777216\nnoSuchKey=1\nsendMessageThreadPoolNums=4\n";
    fs::write(directory.path().join("broker.conf"), conf).unwrap();
    let args = ["broker", "-c", "broker.conf", "--listen", "127.0.0.1", "--port", "0", "-n", &namesrv, "--log", "json"];
    let broker = Running::start(directory.path(), &args);
    assert_eq!(broker.ready("flush"), "ASYNC");
    assert!(
        broker
            .banner
            .iter()
            .any(|line| line.contains("ASYNC_FLUSH (broker.conf:1): a power cut may lose the last 500 ms")),
        "{:#?}",
        broker.banner
    );
    // A name server elsewhere never delays a broker's start: it may hear of the broker a moment after that is ready.
    let produce = ["bench", "produce", "-n", &namesrv, "--count", "2000", "--warm-up", "0", "--json"];
    let output = (0..100)
        .map(|_| keelmq(directory.path(), &produce))
        .find(|output| !text(&output.stderr).contains("knows no broker"))
        .expect("the broker registers within a hundred questions");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    assert!(said.contains("\"messages\":2000,") && said.contains("\"errors\":{}"), "{said}");

    let log = fs::read_to_string(directory.path().join("stderr")).unwrap();
    let unknown = log.lines().find(|line| line.contains("noSuchKey")).unwrap_or_else(|| panic!("{log}"));
    assert!(unknown.starts_with('{') && unknown.contains("WARN") && unknown.contains("broker.conf:3"), "{unknown}");
    assert!(log.contains("broker.conf:4: sendMessageThreadPoolNums has no effect"), "{log}");

    for server in [broker, names] {
        server.signal("TERM");
        assert_eq!(server.wait().code(), Some(0));
    }
    // What was acknowledged is there after the restart.
    let again =
        Running::start(directory.path(), &["broker", "-c", "broker.conf", "--listen", "127.0.0.1", "--port", "0"]);
    let recovered = again.banner.iter().find(|line| line.contains("recovered")).unwrap();
    assert!(recovered.contains("after a clean stop"), "{recovered}");
    let mut rest = again;
    rest.signal("KILL");
    let mut more = String::new();
    rest.stdout.read_to_string(&mut more).unwrap();
    assert_eq!(more, "", "the banner ends with `ready`");
}

/// A store with some thousand messages in `keelmq-data`.
fn full_store(directory: &Path) {
    let running = Running::start(directory, &[&FREE[..], &SMALL].concat());
    let namesrv = running.ready("namesrv").to_owned();
    let args = ["bench", "produce", "-n", &namesrv, "--count", "6000", "--warm-up", "0", "--window", "16"];
    let output = keelmq(directory, &args);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    running.signal("TERM");
    assert_eq!(running.wait().code(), Some(0));
}

#[test]
fn damage_is_found_named_and_set_aside_with_consent() {
    let directory = tempfile::tempdir().unwrap();
    let check = |args: &[&str], code: i32, says: &[&str]| {
        let output = keelmq(directory.path(), args);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        for part in says {
            assert!(said.contains(part), "{args:?} does not say {part:?}: {said}");
        }
    };
    check(&["store", "verify", "nowhere"], 2, &["nowhere is no store"]);
    check(&["store", "verify"], 2, &["DIRECTORY"]);
    full_store(directory.path());
    check(&["store", "stat", "keelmq-data"], 0, &["bench: 6000 messages in 4 queues", "last stop    in order"]);
    check(&["store", "stat", "keelmq-data", "--json"], 0, &["\"topic\":\"bench\"", "\"clean\":true"]);
    check(&["store", "verify", "keelmq-data"], 0, &["6000 records", "sound"]);
    check(&["store", "verify", "keelmq-data", "--json"], 0, &["{\"ok\":true,\"problems\":[]"]);
    check(&["store", "repair", "keelmq-data"], 2, &["--set-aside"]);
    check(&["store", "repair", "keelmq-data", "--set-aside"], 0, &["is sound"]);

    // One flipped bit in a body in the second file.
    let second = directory.path().join("keelmq-data/commitlog/00000000000004194304");
    let mut bytes = fs::read(&second).unwrap();
    bytes[1_000_000] ^= 1;
    fs::write(&second, &bytes).unwrap();
    check(
        &["store", "verify", "keelmq-data"],
        1,
        &["00000000000004194304 at byte", "log offset", "1 problems", "--set-aside"],
    );
    check(&["store", "verify", "keelmq-data", "--json"], 1, &["{\"ok\":false", "\"kind\":\"damage\""]);
    check(&["store", "verify", "keelmq-data", "--no-crc"], 0, &["sound"]);

    // A unit of a queue that points nowhere.
    let queue = directory.path().join("keelmq-data/consumequeue/bench/0/00000000000000000000");
    let mut units = fs::read(&queue).unwrap();
    units[200..212].fill(0);
    fs::write(&queue, &units).unwrap();
    check(&["store", "verify", "keelmq-data"], 1, &["bench/0 does not point to its message 10", "2 problems"]);

    check(
        &["store", "repair", "keelmq-data", "--set-aside"],
        0,
        &["set aside in keelmq-data/set-aside-", "the log now ends at"],
    );
    let mut entries = fs::read_dir(directory.path().join("keelmq-data")).unwrap().map(|entry| entry.unwrap().path());
    let aside = entries.find(|path| path.to_string_lossy().contains("set-aside-")).unwrap();
    assert_eq!(fs::read(aside.join("commitlog/00000000000004194304")).unwrap(), bytes);
    check(&["store", "verify", "keelmq-data"], 0, &["sound"]);
    let running = Running::start(directory.path(), &[&FREE[..], &SMALL].concat());
    let recovered = running.banner.iter().find(|line| line.contains("recovered")).unwrap();
    assert!(recovered.contains("records read again"), "{recovered}");
    check(&["store", "repair", "keelmq-data", "--set-aside"], 1, &["locked", "Stop the broker first"]);
    running.signal("TERM");
    assert_eq!(running.wait().code(), Some(0));
    check(&["store", "verify", "keelmq-data"], 0, &["sound"]);
}

#[test]
fn admin_looks_after_topics_and_messages() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::start(directory.path(), &FREE);
    let namesrv = running.ready("namesrv").to_owned();
    let broker = running.ready("broker").to_owned();
    let check = |args: &[&str], code: i32, says: &[&str]| {
        let output = keelmq(directory.path(), &[&["admin", "-n", &namesrv], args].concat());
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        for part in says {
            assert!(said.contains(part), "{args:?} does not say {part:?}: {said}");
        }
    };
    check(&["topic", "orders"], 1, &["keelmq admin: ", "TOPIC_NOT_EXIST"]);
    check(&["send", "orders", "hello", "--tag", "t", "--key", "k1"], 0, &["message id"]);
    check(&["topics"], 0, &["orders"]);
    check(&["topic", "orders", "--json"], 0, &["\"messages\":1", "\"broker\":"]);
    check(&["browse", "orders"], 0, &["hello", "k1"]);
    check(&["browse", "orders", "--json"], 0, &["\"body\":\"hello\"", "\"tags\":\"t\"", "\"bytes\":5"]);
    check(&["cluster"], 0, &["DefaultCluster", &broker]);
    check(&["delete-topic", "orders"], 2, &["--yes"]);
    running.signal("TERM");
    assert_eq!(running.wait().code(), Some(0));
    check(&["topics"], 1, &["keelmq admin: ", &namesrv]);
}

//! The program from outside: what it says to right and wrong command lines, and the codes with which it ends.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

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
    check(&["-c", "absent.conf"], 1, &["keelmq: cannot read absent.conf"]);
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

use std::{net::Ipv4Addr, path::PathBuf};

use super::*;

fn host() -> Host {
    Host {
        name: "machine".into(),
        ipv4: Ipv4Addr::new(10, 0, 0, 7),
        pid: 1,
        cpus: 2,
        ram_bytes: 4 * GIB,
        files_max: 20_000,
        home: PathBuf::from("/home/me"),
    }
}

#[test]
fn every_key_of_rocketmq_is_known_with_its_default() {
    // Deviations on purpose, and what depends on the machine that the lists were recorded on.
    let ours = [
        "flushDiskType",
        "enablePropertyFilter",
        "storePathRootDir",
        "storePathCommitLog",
        "useServerSideResetOffset",
        "brokerIP1",
        "brokerIP2",
        "brokerName",
        "haListenPort",
        "rocketmqHome",
        "listenPort",
    ];
    let config = Config::default();
    let old = include_str!("../../../tests/golden/config/4.9.7.tsv");
    let new = include_str!("../../../tests/golden/config/5.4.0.tsv");
    for (list, is_new) in [(old, false), (new, true)] {
        for line in list.lines().filter(|line| !line.starts_with('#')) {
            let [key, _, default] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line:?}") };
            let value = config.get_text(key).unwrap_or_else(|| panic!("{key} is not known"));
            let by_machine = default == "?"
                || default == "null"
                || default == "{}"
                || default.contains('/')
                || key.ends_with("Nums");
            let later = is_new && old.lines().any(|line| line.starts_with(&format!("{key}\t")));
            if !ours.contains(&key) && !by_machine && !later {
                assert_eq!(value, default, "default of {key}");
            }
        }
    }
}

#[test]
fn no_key_stands_twice_and_every_default_is_allowed() {
    let mut seen = std::collections::BTreeSet::new();
    for entry in Config::default().entries() {
        assert!(seen.insert(entry.key), "{} stands twice", entry.key);
        assert!(entry.allowed.admits(&entry.value), "default {:?} of {}", entry.value, entry.key);
        assert!(!entry.help.is_empty(), "{} says nothing", entry.key);
    }
    for (old, new) in Config::aliases() {
        assert!(seen.contains(new) && !seen.contains(old), "{old}");
    }
}

#[test]
fn a_bad_value_is_one_line_that_says_what_is_allowed() {
    let check = |text: &str, expect: &str| {
        let said = match Config::parse_file(text, "broker.conf") {
            Ok((_, notices)) => notices.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
            Err(errors) => errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
        };
        assert_eq!(said, expect);
    };
    check("listenPort=10911\nbrokerName=a", "");
    check(
        "\nlistenPort=abc",
        "broker.conf:2: listenPort=abc: allowed is a whole number (a port) from 0 to 65535, without a unit",
    );
    check("flushDiskType=SYNC", "broker.conf:1: flushDiskType=SYNC: allowed is SYNC_FLUSH or ASYNC_FLUSH");
    check(
        "mapedFileSizeCommitLog=1GB",
        "broker.conf:1: mappedFileSizeCommitLog=1GB: allowed is a whole number of bytes from 16384 to 2147483647, \
         without a unit (1073741824 here?)",
    );
    check("autoCreateTopicEnable=yes", "broker.conf:1: autoCreateTopicEnable=yes: allowed is true or false");
    check("lisenPort=1", "broker.conf:1: unknown key lisenPort, did you mean listenPort?; ignored");
    check("somethingElseEntirely=1", "broker.conf:1: unknown key somethingElseEntirely; ignored");
    check(
        "sendMessageThreadPoolNums=16",
        "broker.conf:1: sendMessageThreadPoolNums has no effect: there are no thread pools, requests run where they \
         arrive, bounded by the ...QueueCapacity keys",
    );
    check("sendMessageThreadPoolNums=many", "broker.conf:1: sendMessageThreadPoolNums=many: allowed is a whole number");
    check(
        "aclEnable=true",
        "broker.conf:1: aclEnable=true: authentication and access control are not served yet; allowed is only false",
    );
    check(
        "brokerRole=SLAVE\nbrokerId=1",
        "broker.conf:1: brokerRole=SLAVE: replication is not served yet; allowed is only ASYNC_MASTER\n\
         broker.conf:2: brokerId=1: replication is not served yet; allowed is only 0",
    );
    check("messageStorePlugIn=", "");
    check(
        "messageStorePlugIn=a.B",
        "broker.conf:1: messageStorePlugIn=a.B: store plug-ins are left out on purpose; allowed is nothing",
    );
}

#[test]
fn everything_that_must_stop_the_start_does() {
    let check = |key: &str, value: &str| {
        let refused = Config::default().set(key, value, Source::Set);
        assert!(matches!(refused, Err(KeyError::NotServed { .. })), "{key}={value}: {refused:?}");
    };
    check("aclEnable", "true");
    check("authenticationEnabled", "true");
    check("authorizationEnabled", "true");
    check("tls.server.mode", "enforcing");
    check("useTLS", "true");
    check("brokerRole", "SLAVE");
    check("brokerRole", "SYNC_MASTER");
    check("enableDLegerCommitLog", "true");
    check("enableControllerMode", "true");
    check("duplicationEnable", "true");
    check("messageStorePlugIn", "a.B");
    check("storeType", "defaultRocksDB");
}

#[test]
fn what_is_printed_reads_back_as_the_same() {
    let mut config = Config::default();
    config.set("namesrvAddr", " a:1 ; b:2 ", Source::Set).unwrap();
    config.set("metricsLabel", "a:b # c", Source::Flag("--x")).unwrap();
    config.set("sendMessageThreadPoolNums", "4", Source::Set).unwrap();
    config.resolve(&host());
    let printed = config.print("");
    assert!(printed.contains("namesrvAddr=a:1;b:2  # --set\n"), "{printed}");
    assert!(printed.contains("brokerIP1=10.0.0.7  # this host\n"), "{printed}");
    let (again, _) = Config::parse_file(&printed, "printed").unwrap();
    for (was, is) in config.entries().iter().zip(again.entries()) {
        assert_eq!(was.value, is.value, "{}", was.key);
    }
}

#[test]
fn the_host_fills_in_what_was_not_said() {
    let mut config = Config::default();
    config.set("storePathRootDir", "/data/", Source::Set).unwrap();
    config.set("brokerIP1", "192.168.0.1", Source::Set).unwrap();
    config.resolve(&host());
    assert_eq!(config.broker_name, "machine");
    assert_eq!((config.broker_ip1.as_str(), config.broker_ip2.as_str()), ("192.168.0.1", "192.168.0.1"));
    assert_eq!(config.store_path_commit_log, "/data/commitlog");
    assert_eq!(config.source_of("brokerName"), Source::Host);
    assert_eq!(config.source_of("brokerIP1"), Source::Set);
}

#[test]
fn values_that_do_not_fit_together_are_refused() {
    let check = |pairs: &[(&str, &str)], expect: &str| {
        let mut config = Config::default();
        for (key, value) in pairs {
            config.set(key, value, Source::Set).unwrap();
        }
        let said = config.check().err().map(|misfit| misfit.to_string()).unwrap_or_default();
        assert!(said.starts_with(expect) && said.is_empty() == expect.is_empty(), "{said:?}");
    };
    check(&[], "");
    check(&[("mappedFileSizeCommitLog", "4194304")], "maxMessageSize=4194304 (default) needs records of up to");
    check(&[("maxMessageSize", "33554432")], "maxMessageSize=33554432 (--set) cannot arrive in frames");
    check(&[("listenPort", "2")], "listenPort=2 leaves no fast port");
    check(&[("transientStorePoolEnable", "true")], "transientStorePoolEnable=true (--set) needs");
    check(&[("transientStorePoolEnable", "true"), ("flushDiskType", "ASYNC_FLUSH")], "");
}

#[test]
fn the_tiny_configuration_fits_together() {
    let tiny = Config::tiny();
    assert_eq!(tiny.check(), Ok(()));
    for entry in tiny.entries() {
        assert!(entry.allowed.admits(&entry.value), "{}={}", entry.key, entry.value);
    }
}

//! Whole stores: every record is read and written again as it was, queues and index are made from the log byte for byte,
//! and what waits in a log is done as Java did it.

use std::{collections::BTreeMap, path::Path, time::Duration};

use bytes::Bytes;
use keelmq::{
    broker::{self, Broker, config::Config, half},
    model::Message,
    os,
    protocol::code::request as code,
    store::{
        Get, MessageStore, StoreConfig,
        checkpoint::CheckpointFile,
        record::{self, Record, Scan},
    },
};

use crate::{
    reading::{folder, read, same_record},
    world::{Peer, request},
};

/// Bytes of the recorded stores' one segment.
const SEGMENT: usize = 64 << 10;

/// The recorded records of a version in the order of the log, by name.
fn log_of(version: &str) -> BTreeMap<String, Vec<u8>> {
    let records = format!("stores/{version}/records");
    let names = std::fs::read_dir(folder(&records)).unwrap().map(|entry| entry.unwrap().file_name());
    names
        .map(|name| name.into_string().unwrap())
        .map(|name| (name.clone(), read(&format!("{records}/{name}"))))
        .collect()
}

#[test]
fn records_of_the_log() {
    for version in ["4.9.7", "5.4.0"] {
        let mut end = 0;
        for (name, bytes) in log_of(version) {
            let record = same_record(&name, &bytes);
            assert_eq!((record.log_offset.0, record.size as usize), (end, bytes.len()), "{name}");
            assert_eq!(name[..4].parse(), Ok(end), "{name}");
            end += bytes.len() as u64;
        }
    }
    // As `RecTopic/0@0 flag sysFlag reconsumeTimes preparedOffset bornHost>storeHost body properties`.
    let check = |name: &str, expect: &str| {
        let bytes = read(&format!("stores/{name}.bin"));
        let Record { message, queue_offset, .. } = same_record(name, &bytes);
        let text = |bytes: &[u8]| str::from_utf8(bytes).unwrap().replace('\u{1}', "=").replace('\u{2}', ";");
        let found = format!(
            "{}/{}@{queue_offset} {} {} {} {} {}>{} {} {}",
            message.topic,
            message.queue_id,
            message.flag,
            message.sys_flag,
            message.reconsume_times,
            message.prepared_offset,
            message.born_host.ip(),
            message.store_host.ip(),
            text(message.body),
            text(message.properties)
        );
        assert_eq!(found, expect, "{name}");
    };
    check("4.9.7/records/0000-plain", "RecTopic/0@0 0 0 0 0 127.0.0.1>127.0.0.1 plain CLUSTER=DefaultCluster");
    check(
        "4.9.7/records/0126-born-v6",
        "RecTopic/0@1 0 0 0 0 ::1>127.0.0.1 born on IPv6 KEYS=six;CLUSTER=DefaultCluster;TAGS=TagB",
    );
    check(
        "4.9.7/records/0290-tags-and-keys",
        "RecTopic/0@2 7 2 0 0 127.0.0.1>127.0.0.1 tags and keys KEYS=k1 k2;UNIQ_KEY=7F00000100002A9F0000000000000001;CLUSTER=DefaultCluster;TAGS=TagA",
    );
    check("4.9.7/records/0487-empty-body", "RecTopic/0@3 0 0 0 0 127.0.0.1>127.0.0.1  a=3;b=2;CLUSTER=DefaultCluster");
    check(
        "4.9.7/records/0616-not-ascii",
        "RecTopic/0@4 -1 0 0 0 127.0.0.1>127.0.0.1 żółw 🦀 🦀=🦀🦀;k=v;żółw=ł;CLUSTER=DefaultCluster",
    );
    check(
        "4.9.7/records/1196-item-one",
        "RecTopic/0@6 1 0 0 0 127.0.0.1>127.0.0.1 item one item=0;KEYS=batched;WAIT=true;TAGS=TagA;CLUSTER=DefaultCluster;WAIT=true",
    );
    check(
        "4.9.7/records/1689-delayed-waiting",
        "SCHEDULE_TOPIC_XXXX/0@0 0 0 0 0 127.0.0.1>127.0.0.1 delayed REAL_TOPIC=RecTopic;KEYS=later;CLUSTER=DefaultCluster;DELAY=1;TAGS=TagA;REAL_QID=0",
    );
    check(
        "4.9.7/records/2070-sent-back-waiting",
        "SCHEDULE_TOPIC_XXXX/0@1 0 0 1 0 127.0.0.1>127.0.0.1 sent back REAL_TOPIC=%RETRY%RecGroup;ORIGIN_MESSAGE_ID=7F000001000051B90000000000000760;RETRY_TOPIC=RecTopic;UNIQ_KEY=7F00000100002A9F0000000000000002;CLUSTER=DefaultCluster;WAIT=false;DELAY=1;TAGS=TagA;REAL_QID=0",
    );
    check(
        "4.9.7/records/2392-dead-letter",
        "%DLQ%RecGroup/0@0 0 0 1 0 127.0.0.1>127.0.0.1 sent back ORIGIN_MESSAGE_ID=7F000001000051B90000000000000760;RETRY_TOPIC=RecTopic;UNIQ_KEY=7F00000100002A9F0000000000000002;CLUSTER=DefaultCluster;WAIT=false;DELAY=0;TAGS=TagA",
    );
    check(
        "4.9.7/records/2670-half-committed",
        "RMQ_SYS_TRANS_HALF_TOPIC/0@0 0 0 0 0 127.0.0.1>127.0.0.1 committed REAL_TOPIC=RecTopic;KEYS=tran;TRAN_MSG=true;UNIQ_KEY=7F00000100002A9F0000000000000003;CLUSTER=DefaultCluster;PGROUP=RecProducer;TAGS=TagA;REAL_QID=0",
    );
    check(
        "4.9.7/records/2942-committed",
        "RecTopic/0@10 0 8 0 2670 127.0.0.1>127.0.0.1 committed REAL_TOPIC=RecTopic;KEYS=tran;TRAN_MSG=true;UNIQ_KEY=7F00000100002A9F0000000000000003;CLUSTER=DefaultCluster;PGROUP=RecProducer;TAGS=TagA;REAL_QID=0",
    );
    check(
        "4.9.7/records/3198-op-commit",
        "RMQ_SYS_TRANS_OP_HALF_TOPIC/0@0 0 0 0 0 127.0.0.1>127.0.0.1 0 WAIT=true;TAGS=d",
    );
    check(
        "4.9.7/records/3722-delayed",
        "RecTopic/0@11 0 0 0 0 127.0.0.1>127.0.0.1 delayed REAL_TOPIC=RecTopic;KEYS=later;CLUSTER=DefaultCluster;DELAY=1;TAGS=TagA;REAL_QID=0",
    );
    check(
        "4.9.7/records/3910-sent-back",
        "%RETRY%RecGroup/0@0 0 0 1 0 127.0.0.1>127.0.0.1 sent back REAL_TOPIC=%RETRY%RecGroup;ORIGIN_MESSAGE_ID=7F000001000051B90000000000000760;RETRY_TOPIC=RecTopic;UNIQ_KEY=7F00000100002A9F0000000000000002;CLUSTER=DefaultCluster;WAIT=false;DELAY=1;TAGS=TagA;REAL_QID=0",
    );
    check(
        "4.9.7/records/4228-stored-v6",
        "RecTopic/0@12 0 0 0 0 127.0.0.1>::1 stored on IPv6 CLUSTER=DefaultCluster;TAGS=TagA",
    );
    check(
        "4.9.7/records/4385-born-and-stored-v6",
        "RecTopic/0@13 0 0 0 0 ::1>::1 born and stored on IPv6 KEYS=six;CLUSTER=DefaultCluster;TAGS=TagA",
    );
    check(
        "4.9.7/records/4957-half-committed-v6",
        "RMQ_SYS_TRANS_HALF_TOPIC/0@2 0 0 0 0 ::1>::1 committed on IPv6 REAL_TOPIC=RecTopic;TRAN_MSG=true;UNIQ_KEY=7F00000100002A9F0000000000000005;CLUSTER=DefaultCluster;PGROUP=RecProducer;REAL_QID=0",
    );
    check(
        "4.9.7/records/5241-committed-v6",
        "RecTopic/0@16 0 8 0 4957 ::1>::1 committed on IPv6 REAL_TOPIC=RecTopic;TRAN_MSG=true;UNIQ_KEY=7F00000100002A9F0000000000000005;CLUSTER=DefaultCluster;PGROUP=RecProducer;REAL_QID=0",
    );
    check(
        "4.9.7/records/5942-delayed-waiting-v6",
        "SCHEDULE_TOPIC_XXXX/0@2 0 0 0 0 ::1>::1 delayed on IPv6 REAL_TOPIC=RecTopic;CLUSTER=DefaultCluster;DELAY=1;REAL_QID=0",
    );
    check(
        "4.9.7/records/6513-checked-once-v6",
        "RMQ_SYS_TRANS_HALF_TOPIC/0@4 0 0 0 0 ::1>::1 checked REAL_TOPIC=RecTopic;TRANSACTION_CHECK_TIMES=1;TRAN_MSG=true;UNIQ_KEY=7F00000100002A9F0000000000000006;CLUSTER=DefaultCluster;PGROUP=RecProducer;REAL_QID=0",
    );
    check(
        "4.9.7/given-up",
        "TRANS_CHECK_MAX_TIME_TOPIC/0@0 0 0 0 0 ::1>::1 checked REAL_TOPIC=RecTopic;TRANSACTION_CHECK_TIMES=3;TRAN_MSG=true;UNIQ_KEY=7F00000100002A9F0000000000000006;CLUSTER=DefaultCluster;PGROUP=RecProducer;REAL_QID=0",
    );
    check(
        "5.4.0/records/0000-plain",
        "GoldenTopic/0@0 0 0 0 0 127.0.0.1>127.0.0.1 first MSG_REGION=DefaultRegion;UNIQ_KEY=FD00000000000000000000000000000219D91DBD16A68553023F0000;CLUSTER=DefaultCluster;TAGS=TagA;KEYS=KeyA;WAIT=true;TRACE_ON=true;",
    );
    check(
        "5.4.0/records/0777-retry-version-2",
        "%RETRY%Goooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooo/0@0 0 0 1 0 127.0.0.1>127.0.0.1 first ORIGIN_MESSAGE_ID=7F000001000051B90000000000000000;RETRY_TOPIC=GoldenTopic;MSG_REGION=DefaultRegion;UNIQ_KEY=FD00000000000000000000000000000219D91DBD16A68553023F0000;CLUSTER=DefaultCluster;DELAY=1;TAGS=TagA;KEYS=KeyA;WAIT=false;TRACE_ON=true;REAL_TOPIC=%RETRY%Goooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooo;REAL_QID=0;",
    );
    let filler = read("stores/4.9.7/filler.bin");
    let mut written = Vec::new();
    record::encode_filler(7_581, &mut written);
    assert_eq!((record::scan(&filler, true), &written), (Scan::Filler, &filler));
}

/// Files below `root`, by their path from there.
fn files_below(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            files.extend(files_below(&path).into_iter().map(|(below, bytes)| (format!("{name}/{below}"), bytes)));
        } else {
            files.insert(name.to_owned(), std::fs::read(&path).unwrap());
        }
    }
    files
}

/// A recorded store is opened and closed. From the log alone, and from all that Java left at a clean stop, come the
/// consume queues and the index that Java made, byte for byte.
#[tokio::test]
async fn queues_and_index_of_the_log() {
    for (version, all) in [("4.9.7", false), ("4.9.7", true), ("5.4.0", false), ("5.4.0", true)] {
        let recorded = folder(&format!("stores/{version}"));
        let root = tempfile::tempdir().unwrap();
        let log: Vec<u8> = log_of(version).into_values().flatten().collect();
        let mut segment = log.clone();
        segment.resize(SEGMENT, 0);
        std::fs::create_dir(root.path().join("commitlog")).unwrap();
        std::fs::write(root.path().join("commitlog/00000000000000000000"), segment).unwrap();
        if all {
            for (name, mut bytes) in files_below(&recorded) {
                if name.starts_with("records/") || name.ends_with(".bin") {
                    continue;
                }
                if name == "checkpoint" {
                    bytes.resize(4_096, 0);
                }
                let path = root.path().join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, bytes).unwrap();
            }
        }
        let mut config = StoreConfig::tiny(root.path());
        (config.segment_bytes, config.queue_file_bytes) = (SEGMENT as u64, 400);
        (config.index_slots, config.index_entries) = (50, 100);
        let env = os::env(tokio::runtime::Handle::current());
        let store = MessageStore::open(&env, config).await.unwrap();
        assert_eq!((store.recovered().clean, store.appended().0), (true, log.len() as u64), "{version} {all}");
        store.dispatched().reached(store.appended().0).await.unwrap();
        store.shutdown(Duration::from_secs(5)).await;

        let queues = |root: &Path| files_below(&root.join("consumequeue"));
        assert_eq!(queues(root.path()), queues(&recorded), "{version} {all}");
        let index = |root: &Path| files_below(&root.join("index")).into_values().collect::<Vec<_>>();
        // 5.4.0 enters `topic#T#tag` too: left alone where it stands, never written.
        if all || version == "4.9.7" {
            assert_eq!(index(root.path()), index(&recorded), "{version} {all}");
        }
    }
}

#[test]
fn checkpoints() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let storage = os::env(runtime.handle().clone()).storage;
    let check = |version: &str, expect: [i64; 3]| {
        let checkpoint = CheckpointFile::peek(&*storage, &folder(&format!("stores/{version}/checkpoint"))).unwrap();
        let found = [checkpoint.physic_timestamp, checkpoint.logics_timestamp, checkpoint.index_timestamp];
        assert_eq!((found, checkpoint.known), (expect, None), "{version}");
    };
    check("4.9.7", [1_795_727_741_864, 1_795_727_749_869, 0]);
    check("5.4.0", [1_795_728_017_166, 1_795_728_017_166, 0]);
}

/// A broker of ours on what Java's log held up to `end`, when so many delayed messages had been delivered.
async fn taken_over(root: &Path, end: usize, delivered: u64, change: impl FnOnce(&mut Config)) -> Broker {
    let mut log: Vec<u8> = log_of("4.9.7").into_values().flatten().take(end).collect();
    log.resize(SEGMENT, 0);
    std::fs::create_dir(root.join("commitlog")).unwrap();
    std::fs::write(root.join("commitlog/00000000000000000000"), log).unwrap();
    std::fs::create_dir(root.join("config")).unwrap();
    let progress = format!(r#"{{"offsetTable":{{1:{delivered}}}}}"#);
    std::fs::write(root.join("config/delayOffset.json"), progress).unwrap();
    let mut config = Config::tiny();
    config.store_path_root_dir = root.to_str().unwrap().to_owned();
    config.transaction_check_interval_ms = 86_400_000;
    change(&mut config);
    broker::start(os::env(tokio::runtime::Handle::current()), config, None).await.unwrap()
}

/// Waits for the record at the queue's `at`: an answer says that its records are stored, not that their queues know them.
async fn queued(broker: &Broker, topic: &str, at: i64, recorded: &str) -> Bytes {
    let store = &broker.core().store;
    let begun = std::time::Instant::now();
    while (store.max_offset(topic, 0).0 as i64) <= at {
        assert!(begun.elapsed() < Duration::from_secs(20), "{recorded} does not come");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let get = Get { topic, queue_id: 0, offset: at, count_max: 1, bytes_max: u64::MAX, filter: None };
    store.get(&get).unwrap().records.remove(0)
}

/// Waits for the record that the broker puts at the queue's `at`, and compares all of its message with what Java put
/// there (which at that moment stood at another place).
async fn is_as_javas(broker: &Broker, topic: &str, at: i64, recorded: &str) {
    let bytes = queued(broker, topic, at, recorded).await;
    let Scan::Record(ours) = record::scan(&bytes, true) else { panic!("no record") };
    let bytes = read(&format!("stores/4.9.7/{recorded}.bin"));
    let javas = same_record(recorded, &bytes);
    let shown = half::shown_properties(&ours.message);
    assert_eq!(Message { properties: &shown, ..ours.message }, javas.message, "{recorded}");
}

/// What waits in Java's log is delivered, tried again and asked about as Java did it, to the byte.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_in_javas_log() {
    let root = tempfile::tempdir().unwrap();
    let broker = taken_over(root.path(), 2_670, 0, |_| ()).await;
    is_as_javas(&broker, "RecTopic", 10, "records/3722-delayed").await;
    is_as_javas(&broker, "%RETRY%RecGroup", 0, "records/3910-sent-back").await;
    broker.shutdown(Duration::from_secs(1)).await;

    let root = tempfile::tempdir().unwrap();
    let asking = |config: &mut Config| {
        (config.transaction_check_interval_ms, config.transaction_timeout_ms) = (300, 0);
        // The recording grows old: nothing is given up for its age.
        (config.transaction_check_max, config.file_reserved_time_h) = (3, 10_000_000);
    };
    let broker = taken_over(root.path(), 6_314, 2, asking).await;
    is_as_javas(&broker, "RecTopic", 18, "records/6314-delayed-v6").await;
    // Two halves are open: of the first only the op message was cut off, so it is asked about as well.
    for (at, recorded) in [
        (4, "records/6513-checked-once-v6"),
        (5, "records/6813-checked-twice-v6"),
        (6, "records/7113-checked-thrice-v6"),
    ] {
        is_as_javas(&broker, "RMQ_SYS_TRANS_HALF_TOPIC", at, recorded).await;
    }
    is_as_javas(&broker, "TRANS_CHECK_MAX_TIME_TOPIC", 0, "given-up").await;
    broker.shutdown(Duration::from_secs(1)).await;
}

/// A half of Java's log that its producer commits or rolls back here becomes what Java made of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_decided_about_javas_halves() {
    let root = tempfile::tempdir().unwrap();
    let broker = taken_over(root.path(), 2_942, 2, |_| ()).await;
    let fields = [
        ("producerGroup", "RecProducer"),
        ("tranStateTableOffset", "0"),
        ("commitLogOffset", "2670"),
        ("commitOrRollback", "8"),
    ];
    let mut peer = Peer::connect(broker.address()).await;
    peer.send(&request(code::END_TRANSACTION, 1, &fields, b"")).await;
    assert_eq!(peer.answer().await.code, 0);
    is_as_javas(&broker, "RecTopic", 10, "records/2942-committed").await;
    // Its time and hosts are the broker's own.
    let op = queued(&broker, "RMQ_SYS_TRANS_OP_HALF_TOPIC", 0, "3198-op-commit").await;
    let Scan::Record(ours) = record::scan(&op, true) else { panic!("no record") };
    let bytes = read("stores/4.9.7/records/3198-op-commit.bin");
    let Message { born_timestamp, born_host, store_host, .. } = ours.message;
    let javas = same_record("op", &bytes).message;
    assert_eq!(ours.message, Message { born_timestamp, born_host, store_host, ..javas });
    broker.shutdown(Duration::from_secs(1)).await;
}

/// A message of Java's log that a consumer sends back here waits for its level, or is dead, as Java stored it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_back_to_javas_log() {
    let root = tempfile::tempdir().unwrap();
    let broker = taken_over(root.path(), 2_070, 1, |config| config.message_delay_level = "1h".into()).await;
    let mut peer = Peer::connect(broker.address()).await;
    for (opaque, delay_level) in [(1, "1"), (2, "-1")] {
        let fields = [("group", "RecGroup"), ("offset", "1888"), ("delayLevel", delay_level)];
        peer.send(&request(code::CONSUMER_SEND_MSG_BACK, opaque, &fields, b"")).await;
        assert_eq!(peer.answer().await.code, 0);
    }
    is_as_javas(&broker, "SCHEDULE_TOPIC_XXXX", 1, "records/2070-sent-back-waiting").await;
    is_as_javas(&broker, "%DLQ%RecGroup", 0, "records/2392-dead-letter").await;
    broker.shutdown(Duration::from_secs(1)).await;
}

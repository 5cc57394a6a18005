//! The store on real files: what is put is read back, across clean and unclean ends.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use keelmq::{
    env::Env,
    model::{BatchItem, Message, QueueOffset},
    os,
    store::{
        AppendError, FlushMode, Get, GetStatus, MessageStore, OpenError, StoreConfig, record,
        verify::{self, Place},
    },
};

fn message<'a>(topic: &'a str, queue_id: u32, body: &'a [u8]) -> Message<'a> {
    Message {
        topic,
        queue_id,
        flag: 0,
        sys_flag: 0,
        born_timestamp: 1,
        born_host: "127.0.0.1:1".parse().unwrap(),
        store_host: "127.0.0.1:10911".parse().unwrap(),
        reconsume_times: 0,
        prepared_offset: 0,
        body,
        properties: b"TAGS\x01TagA\x02",
    }
}

fn env() -> Env {
    os::env(tokio::runtime::Handle::current())
}

async fn open(root: &Path, change: impl Fn(&mut StoreConfig)) -> Arc<MessageStore> {
    let mut config = StoreConfig::tiny(root);
    change(&mut config);
    MessageStore::open(&env(), config).await.unwrap()
}

async fn caught_up(store: &MessageStore) {
    store.dispatched().reached(store.appended().0).await.unwrap();
}

/// Bodies of a queue, by as many pulls as it takes.
fn bodies(store: &MessageStore, topic: &str, queue_id: u32) -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    let mut offset = 0;
    loop {
        let get = Get { topic, queue_id, offset, count_max: 32, bytes_max: u64::MAX, filter: None };
        let got = store.get(&get).unwrap();
        if got.status != GetStatus::Found {
            return bodies;
        }
        for slice in &got.records {
            let mut rest = &slice[..];
            while !rest.is_empty() {
                let record::Scan::Record(record) = record::scan(rest, true) else { panic!("not a record") };
                assert_eq!(record.queue_offset, QueueOffset(bodies.len() as u64));
                bodies.push(record.message.body.to_vec());
                rest = &rest[record.size as usize..];
            }
        }
        offset = got.next;
    }
}

/// A killed broker lost four thousand acknowledged messages: it read its log four megabytes at a time, a record began
/// within the last two bytes of such a chunk, the first two bytes of its size were zeros, and zeros were where the log
/// ended. So was a start refused that met the place below the checkpoint, and so went the log read-only that was derived
/// from a megabyte at a time. Here records begin at all such places.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_begin_where_what_is_read_at_once_ends() {
    const MIB: u64 = 1 << 20;
    let defaults = |config: &mut StoreConfig| {
        let proven = StoreConfig::new(&config.root);
        (config.replay_chunk_bytes, config.reput_chunk_bytes) = (proven.replay_chunk_bytes, proven.reput_chunk_bytes);
        config.segment_bytes = 8 * MIB;
        config.staged_max_bytes = 8 * MIB;
        // A start begins at the log's first byte.
        config.upkeep_interval_ms = 3_600_000;
    };
    let overhead = record::size_of(&message("T", 0, b""));
    for cut in 1..=8 {
        let folder = tempfile::tempdir().unwrap();
        let (root, image) = (folder.path().join("store"), folder.path().join("killed"));
        let store = open(&root, defaults).await;
        let fill = vec![b'x'; 16 << 10];
        let mut end = 0;
        let mut count = 0;
        for begins_at in [MIB - cut, 4 * MIB - cut, 5 * MIB] {
            while end < begins_at {
                let left = begins_at - end;
                let size = if left > 32_000 {
                    16_000
                } else if left > 16_000 {
                    left / 2
                } else {
                    left
                };
                let body = size - overhead;
                let put = loop {
                    match store.put(&message("T", 0, &fill[..body as usize])) {
                        Err(AppendError::SegmentFull) => store.segment_ready().await.unwrap(),
                        put => break put.unwrap(),
                    }
                };
                (end, count) = (put.end.0, count + 1);
            }
            assert_eq!(end, begins_at);
        }
        // All of it becomes readable at once.
        store.turn_end();
        store.flushed().reached(end).await.unwrap();
        tokio::time::timeout(Duration::from_secs(10), caught_up(&store)).await.expect("the log is derived from");
        assert_eq!(bodies(&store, "T", 0).len(), count, "cut {cut}");
        copy(&root, &image);
        let again = open(&image, defaults).await;
        assert_eq!((again.recovered().clean, again.recovered().log_end.0), (false, end), "cut {cut}");
        assert_eq!(bodies(&again, "T", 0).len(), count, "cut {cut}");
        again.shutdown(Duration::from_secs(5)).await;
        store.shutdown(Duration::from_secs(5)).await;
        let place = Place { root: image.clone(), commit_log: image.join("commitlog"), index: None };
        let report = verify::verify(&*env().storage, &place, true, &mut |_, _| ()).unwrap();
        assert!(report.is_sound() && report.stat.records == count as u64, "cut {cut}: {report:?}");
    }
}

async fn put_and_reopen(mode: FlushMode) {
    let folder = tempfile::tempdir().unwrap();
    let mut expect: Vec<Vec<Vec<u8>>> = vec![Vec::new(); 3];
    for round in 0..4u32 {
        let store = open(folder.path(), |config| (config.flush, config.pool_max_bytes) = (mode, 1 << 20)).await;
        assert!(store.recovered().clean, "round {round}");
        for number in 0..300u32 {
            let queue = number % 3;
            let body = vec![number as u8; (number * 7 % 2000) as usize];
            let appended = store.put_kept(&message("topic", queue, &body)).await.unwrap();
            assert_eq!(appended.queue_offset.0 as usize, expect[queue as usize].len());
            expect[queue as usize].push(body);
        }
        if mode == FlushMode::Pooled {
            store.flush_all().await.unwrap();
        }
        caught_up(&store).await;
        for queue in 0..3 {
            assert_eq!(bodies(&store, "topic", queue), expect[queue as usize], "round {round} queue {queue}");
        }
        store.shutdown(Duration::from_secs(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_is_read_back_in_every_mode() {
    for mode in [FlushMode::Sync, FlushMode::Async, FlushMode::Pooled] {
        put_and_reopen(mode).await;
    }
}

/// Copies a store as a process that was killed leaves it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_store_has_all_that_was_acknowledged() {
    let (folder, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(folder.path(), |_| ()).await;
    let mut expect = Vec::new();
    for number in 0..500u32 {
        let body = number.to_be_bytes().repeat(50);
        store.put_kept(&message("topic", 0, &body)).await.unwrap();
        expect.push(body);
        if number % 100 == 50 {
            let image = copies.path().join(number.to_string());
            copy(folder.path(), &image);
            let again = open(&image, |_| ()).await;
            assert!(!again.recovered().clean);
            assert_eq!(bodies(&again, "topic", 0)[..], expect[..]);
            let next = again.put_kept(&message("topic", 0, b"next")).await.unwrap();
            assert_eq!(next.queue_offset.0, expect.len() as u64);
            again.shutdown(Duration::from_secs(5)).await;
        }
    }
    store.shutdown(Duration::from_secs(5)).await;
}

/// What is read is the mapped file itself, however often, not a copy of it.
#[tokio::test(flavor = "multi_thread")]
async fn reads_copy_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), |_| ()).await;
    store.put_kept(&message("topic", 0, &[7; 4_000])).await.unwrap();
    caught_up(&store).await;
    let get = Get { topic: "topic", queue_id: 0, offset: 0, count_max: 32, bytes_max: u64::MAX, filter: None };
    // Both at once: what was given back may be handed out again.
    let (first, second) = (store.get(&get).unwrap(), store.get(&get).unwrap());
    assert_eq!(first.records[0].as_ptr(), second.records[0].as_ptr());
    store.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_broker_is_kept_out() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), |_| ()).await;
    let error = MessageStore::open(&env(), StoreConfig::tiny(folder.path())).await.err().expect("the lock is taken");
    assert!(error.to_string().contains("locked"), "{error}");
    store.shutdown(Duration::from_secs(5)).await;
    drop(store);
    open(folder.path(), |_| ()).await.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn javas_store_test_lives_on() {
    // DefaultMessageStoreTest.testWriteAndRead of Apache RocketMQ 4.9.
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), |config| {
        config.segment_bytes = 10 << 20;
        config.queue_file_bytes = 10 << 20;
        config.queue_file_bytes -= config.queue_file_bytes % 20;
        config.index_slots = 10_000;
        config.index_entries = 10_000;
    })
    .await;
    for number in 0..10 {
        let put = store.put_kept(&message("FooBar", 0, b"Once, there was a chance for me!")).await.unwrap();
        assert_eq!(put.queue_offset.0, number);
    }
    caught_up(&store).await;
    assert_eq!(bodies(&store, "FooBar", 0).len(), 10);
    let get = Get { topic: "other", queue_id: 0, offset: 0, count_max: 1, bytes_max: 1 << 20, filter: None };
    assert_eq!(store.get(&get).unwrap().status, GetStatus::NoMessageInQueue);
    store.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_below_the_watermark_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), |_| ()).await;
    for number in 0..100u32 {
        store.put_kept(&message("topic", 0, &number.to_be_bytes().repeat(100))).await.unwrap();
    }
    store.shutdown(Duration::from_secs(5)).await;
    drop(store);
    // One byte of a body that was known to be durable.
    let first = folder.path().join("commitlog").join("00000000000000000000");
    let mut bytes = std::fs::read(&first).unwrap();
    bytes[20_100] ^= 1;
    std::fs::write(&first, bytes).unwrap();
    let error =
        MessageStore::open(&env(), StoreConfig::tiny(folder.path())).await.err().expect("damage stops the start");
    assert!(error.to_string().contains("damage in"), "{error}");
}

/// A store whose queues RocksDB keeps was opened as if it had none, and the topics' messages were gone for consumers.
#[tokio::test(flavor = "multi_thread")]
async fn what_rocketmq_5_keeps_otherwise_is_refused_untouched() {
    let mut slots = vec![0; 64 * 32];
    let (time_s, read_ms) = (2_000_000_000_i64, 1_999_999_999_000_i64);
    slots[32 * 5..32 * 5 + 8].copy_from_slice(&time_s.to_be_bytes());
    slots[32 * 5 + 24..32 * 5 + 28].copy_from_slice(&3_i32.to_be_bytes());
    let delivered = (read_ms + 2_000).to_be_bytes().to_vec();
    let check = async |files: &[(&str, &[u8])], expect: &str| {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        match MessageStore::open(&env(), StoreConfig::tiny(folder.path())).await {
            Ok(store) => {
                assert_eq!(expect, "", "{files:?}");
                store.shutdown(Duration::from_secs(1)).await;
            }
            Err(error) => {
                assert!(!expect.is_empty() && error.to_string().contains(expect), "{files:?}: {error}");
                assert!(!folder.path().join("lock").exists(), "nothing is touched");
            }
        }
    };
    check(&[("consumequeue/CURRENT", b"MANIFEST-000005")], "RocksDB queues").await;
    check(&[("config/topics/CURRENT", b"MANIFEST-000005")], "config/topics is a RocksDB table").await;
    check(&[("batchconsumequeue/T/0/00000000000000000000", b"x")], "batch queues").await;
    check(&[("timerwheel", &slots), ("config/timercheck", &read_ms.to_be_bytes())], "holds 3 messages").await;
    // Folders that RocketMQ 5 makes whether they are used or not, and a wheel that has delivered everything.
    let unused: [(&str, &[u8]); 4] = [
        ("rocksdbstore/CURRENT", b"MANIFEST-000005"),
        ("batchconsumequeue/T/0/00000000000000000000", b""),
        ("timerwheel", &slots),
        ("config/timercheck", &delivered),
    ];
    check(&unused, "").await;
}

/// Whoever read by a unit that the disk had changed was given a piece of a record, or what begins in the middle of one:
/// a pull only looked whether the first bytes were a record's.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_queue_is_an_error_and_no_message() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), |_| ()).await;
    for _ in 0..40 {
        store.put_kept(&message("topic", 0, b"a body")).await.unwrap();
    }
    caught_up(&store).await;
    store.shutdown(Duration::from_secs(5)).await;
    drop(store);
    let queue = folder.path().join("consumequeue/topic/0/00000000000000000000");
    let sound = std::fs::read(&queue).unwrap();
    let size = u32::from_be_bytes(sound[8..12].try_into().unwrap());
    let check = async |size: u32, offset: u64| {
        let mut bytes = sound.clone();
        bytes[8..12].copy_from_slice(&size.to_be_bytes());
        bytes[..8].copy_from_slice(&offset.to_be_bytes());
        std::fs::write(&queue, bytes).unwrap();
        let store = open(folder.path(), |_| ()).await;
        let get = Get { topic: "topic", queue_id: 0, offset: 0, count_max: 1, bytes_max: 1 << 20, filter: None };
        let outcome = store.get(&get).map(|got| got.records.iter().map(|bytes| bytes.len()).sum::<usize>());
        store.shutdown(Duration::from_secs(5)).await;
        outcome.map_err(|error| error.to_string())
    };
    assert_eq!(check(size, 0).await, Ok(size as usize));
    for (size, offset) in [(size - 1, 0), (size + 8, 0), (40, 0), (size, 4), (8, 0)] {
        let refused = check(size, offset).await.expect_err("no whole record");
        assert!(refused.contains("damage in the commit log"), "{refused}");
    }
}

/// A store that Java had stopped in order was read by its last three segments, as Java would; but the first checkpoint
/// then called nothing of it derived: a kill after that, and the next start read the log from its very beginning.
#[tokio::test(flavor = "multi_thread")]
async fn what_java_vouched_for_is_not_read_again() {
    let (folder, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(folder.path(), |_| ()).await;
    for _ in 0..600 {
        store.put_kept(&message("topic", 0, &[7; 1_000])).await.unwrap();
    }
    caught_up(&store).await;
    let end = store.appended();
    store.shutdown(Duration::from_secs(5)).await;
    drop(store);
    // Java knows only the first 24 bytes, and writes no others.
    let checkpoint = folder.path().join("checkpoint");
    let mut bytes = std::fs::read(&checkpoint).unwrap();
    bytes[24..].fill(0);
    std::fs::write(&checkpoint, bytes).unwrap();
    let store = open(folder.path(), |_| ()).await;
    let segment = store.segments().size();
    assert!(store.recovered().clean && end.0 > 8 * segment);
    assert!(store.recovered().bytes_read <= 3 * segment);
    store.put_kept(&message("topic", 0, b"one more")).await.unwrap();
    caught_up(&store).await;
    while !std::fs::read(&checkpoint).unwrap()[1_024..].starts_with(b"KEEL")
        && !std::fs::read(&checkpoint).unwrap()[2_048..].starts_with(b"KEEL")
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    copy(folder.path(), killed.path());
    let again = open(killed.path(), |_| ()).await;
    assert!(!again.recovered().clean);
    assert!(again.recovered().bytes_read <= 4 * segment, "{:?}", again.recovered());
    assert_eq!(bodies(&again, "topic", 0).len(), 601);
    again.shutdown(Duration::from_secs(5)).await;
    store.shutdown(Duration::from_secs(5)).await;
}

/// Java stores whatever a property holds. A start on its store took a record with a zero byte in one for a torn record of
/// our own, cut the log there and wiped what stood behind, without a word.
#[tokio::test(flavor = "multi_thread")]
async fn what_java_wrote_may_hold_any_byte() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), |_| ()).await;
    let odd = Message { properties: b"a\x01odd!value", ..message("topic", 0, b"odd") };
    store.put_kept(&odd).await.unwrap();
    store.put_kept(&message("topic", 0, b"behind")).await.unwrap();
    caught_up(&store).await;
    store.shutdown(Duration::from_secs(5)).await;
    drop(store);
    let segment = folder.path().join("commitlog").join("0".repeat(20));
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(4).position(|four| four == b"odd!").unwrap();
    bytes[at + 3] = 0;
    std::fs::write(&segment, bytes).unwrap();
    let checkpoint = folder.path().join("checkpoint");
    let mut bytes = std::fs::read(&checkpoint).unwrap();
    bytes[24..].fill(0);
    std::fs::write(&checkpoint, bytes).unwrap();
    for _ in 0..2 {
        let store = open(folder.path(), |_| ()).await;
        assert_eq!(bodies(&store, "topic", 0), [&b"odd"[..], b"behind"]);
        store.shutdown(Duration::from_secs(5)).await;
    }
}

/// Recovery took a size above 17 MiB for damage, whatever the configuration allowed, and cut the log there.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_as_large_as_its_segment_allows() {
    let (folder, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let large = |config: &mut StoreConfig| {
        (config.segment_bytes, config.body_max_bytes) = (64 << 20, 32 << 20);
        config.staged_max_bytes = 1 << 20;
    };
    let store = open(folder.path(), large).await;
    let body = vec![7; 20 << 20];
    store.put_kept(&message("topic", 0, &body)).await.unwrap();
    store.put_kept(&message("topic", 0, b"behind")).await.unwrap();
    copy(folder.path(), killed.path());
    let again = open(killed.path(), large).await;
    let found: Vec<usize> = bodies(&again, "topic", 0).iter().map(Vec::len).collect();
    assert_eq!(found, [20 << 20, 6]);
    again.shutdown(Duration::from_secs(5)).await;
    store.shutdown(Duration::from_secs(5)).await;
}

/// Topics longer than 127 bytes make records of version 2; born and store hosts of IPv6 make longer ones: read back, found by
/// a start that reads the log, and by key.
#[tokio::test(flavor = "multi_thread")]
async fn long_topics_and_ipv6_hosts_survive_a_kill() {
    let (folder, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let long = "%RETRY%".to_owned() + &"g".repeat(248);
    let v6 = "[2001:db8::7]:40000".parse().unwrap();
    let largest = format!("KEYS\u{1}k\u{2}big\u{1}{}", "p".repeat(32_767 - 11));
    let store = open(folder.path(), |_| ()).await;
    let mut put = Vec::new();
    for topic in ["T", &long] {
        for (born_host, store_host) in [(None, None), (Some(v6), None), (None, Some(v6)), (Some(v6), Some(v6))] {
            let plain = message(topic, 0, b"body");
            let message = Message {
                born_host: born_host.unwrap_or(plain.born_host),
                store_host: store_host.unwrap_or(plain.store_host),
                properties: if topic == long { largest.as_bytes() } else { b"KEYS\x01k" },
                ..plain
            };
            let appended = store.put_kept(&message).await.unwrap();
            put.push((message.to_owned(), appended));
        }
    }
    let check = |store: &MessageStore| {
        for (message, appended) in &put {
            let bytes = store.record_at(appended.offset).unwrap().expect("it was put there");
            let record::Scan::Record(record) = record::scan(&bytes, true) else { panic!("not a record") };
            assert_eq!(record.message.to_owned(), *message);
            let version = if message.topic == long { record::MAGIC_V2 } else { record::MAGIC_V1 };
            assert_eq!(record::peek(&bytes).unwrap().1, version);
        }
        for topic in ["T", &long] {
            assert_eq!(bodies(store, topic, 0), vec![b"body".to_vec(); 4]);
            assert_eq!(store.query(topic, "k", 9, 0, i64::MAX).unwrap().records.len(), 4);
        }
    };
    caught_up(&store).await;
    check(&store);
    copy(folder.path(), killed.path());
    std::fs::remove_dir_all(killed.path().join("consumequeue")).unwrap();
    std::fs::remove_file(killed.path().join("checkpoint")).unwrap();
    let again = open(killed.path(), |_| ()).await;
    assert_eq!(again.recovered().records, 8);
    check(&again);
    again.shutdown(Duration::from_secs(5)).await;
    store.shutdown(Duration::from_secs(5)).await;
}

/// Code 29 is answered by this: the first message stored at a time or later, or the last one at it or earlier, and exactly
/// so for the first, the last, equal times and times between.
#[tokio::test(flavor = "multi_thread")]
async fn offsets_by_time_are_exact_at_the_edges() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), |_| ()).await;
    assert_eq!(store.offset_by_time("topic", 0, 5, true).unwrap(), QueueOffset(0));
    let mut times = Vec::new();
    for number in 0..90 {
        let put = store.put_kept(&message("topic", 0, b"body")).await.unwrap();
        times.push(put.store_timestamp);
        if number % 9 == 0 {
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }
    caught_up(&store).await;
    let around = times.iter().flat_map(|time| [time - 1, *time, time + 1]).chain([i64::MIN, 0, i64::MAX]);
    for time in around {
        let before = times.iter().filter(|stored| **stored < time).count() as u64;
        let upto = times.iter().filter(|stored| **stored <= time).count() as u64;
        let found = |lower| store.offset_by_time("topic", 0, time, lower).unwrap().0;
        assert_eq!((found(true), found(false)), (before, upto.saturating_sub(1)), "{time}");
    }
    store.shutdown(Duration::from_secs(5)).await;
}

/// Said once, for a batch as for a single message: a 4.x broker cannot read it.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_message_of_version_2_is_said() {
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), |_| ()).await;
    while let Err(AppendError::SegmentFull) = store.put(&message("short", 0, b"first")) {
        store.segment_ready().await.unwrap();
    }
    let lines = Lines::default();
    let written = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || written.clone()).finish();
    let topic = "t".repeat(128);
    tracing::subscriber::with_default(subscriber, || {
        store.put(&message(&topic[1..], 0, b"version 1")).unwrap();
        assert!(lines.0.lock().unwrap().is_empty());
        let item = BatchItem { flag: 0, body: b"version 2", properties: b"" };
        store.put_batch(&message(&topic, 0, b""), &[item, item], |_| ()).unwrap();
        store.put(&message(&topic, 0, b"version 2")).unwrap();
    });
    let said = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert_eq!(said.matches("A 4.x broker can no longer take this store over").count(), 1, "{said}");
    store.shutdown(Duration::from_secs(5)).await;
}

/// A start found a consume queue without its middle file and removed, without a word, the files in front of it; one
/// without its last file gave that file's offsets out a second time. A consume queue holds nothing that the log has not:
/// it is made anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_lost_a_file_is_made_anew() {
    const MESSAGES: u64 = 64 * 4 + 10;
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), |_| ()).await;
    for number in 0..MESSAGES {
        for queue_id in [0, 1] {
            store.put_kept(&message("topic", queue_id, &number.to_be_bytes())).await.unwrap();
        }
    }
    store.shutdown(Duration::from_secs(5)).await;
    drop(store);
    let whole: Vec<Vec<u8>> = (0..MESSAGES).map(|number| number.to_be_bytes().to_vec()).collect();
    let name = |file: u64| format!("consumequeue/topic/0/{:020}", file * 64 * 20);
    type Harm<'a> = (&'a str, &'a dyn Fn(&Path));
    let remove = |file: u64| move |root: &Path| std::fs::remove_file(root.join(name(file))).unwrap();
    let cut = |file: u64, len: u64| {
        move |root: &Path| {
            std::fs::File::options().write(true).open(root.join(name(file))).unwrap().set_len(len).unwrap()
        }
    };
    let (first, middle, last) = (remove(0), remove(2), remove(4));
    let (short, shorter, empty) = (cut(2, 700), cut(4, 20), cut(0, 0));
    let all = |root: &Path| std::fs::remove_dir_all(root.join("consumequeue")).unwrap();
    let harms: [Harm<'_>; 7] = [
        ("first", &first),
        ("middle", &middle),
        ("last", &last),
        ("short", &short),
        ("last short", &shorter),
        ("first empty", &empty),
        ("all", &all),
    ];
    for (what, harm) in harms {
        let harmed = tempfile::tempdir().unwrap();
        copy(folder.path(), harmed.path());
        harm(harmed.path());
        // Killed while it is made anew, it is made anew again.
        let (mut config, mut killed) = (StoreConfig::tiny(harmed.path()), 0);
        config.upkeep_interval_ms = 3_600_000;
        for round in 0..2 {
            let again = MessageStore::open(&env(), config.clone()).await.unwrap();
            assert!(again.recovered().rebuilt || round == 1, "{what}");
            killed += again.recovered().records;
            for queue_id in [0, 1] {
                assert_eq!(bodies(&again, "topic", queue_id), whole, "{what}, queue {queue_id}");
            }
            assert_eq!(again.max_offset("topic", 0).0, MESSAGES, "{what}");
            let image = tempfile::tempdir().unwrap();
            copy(harmed.path(), image.path());
            again.shutdown(Duration::from_secs(5)).await;
            drop(again);
            if round == 0 {
                std::fs::remove_dir_all(harmed.path()).unwrap();
                copy(image.path(), harmed.path());
            }
        }
        assert_eq!(killed, 4 * MESSAGES, "{what}: all of the log is read twice");
        // What is whole again is believed.
        let again = MessageStore::open(&env(), config).await.unwrap();
        assert!(!again.recovered().rebuilt && again.recovered().clean, "{what}");
        let next = again.put_kept(&message("topic", 0, b"next")).await.unwrap();
        assert_eq!(next.queue_offset.0, MESSAGES, "{what}");
        again.shutdown(Duration::from_secs(5)).await;
    }
}

/// Files that somebody removes or cuts under a running broker are named, with what follows from it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_vanish_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), |_| ()).await;
    for number in 0..200u64 {
        let body = [number.to_be_bytes().as_slice(), &[7; 1_000]].concat();
        store.put_kept(&message("topic", 0, &body)).await.unwrap();
    }
    caught_up(&store).await;
    assert_eq!(store.lacking().unwrap(), []);
    let (segment, queue) = (format!("commitlog/{:020}", 64 << 10), format!("consumequeue/topic/0/{:020}", 64 * 20));
    std::fs::remove_file(folder.path().join(&segment)).unwrap();
    assert_eq!(bodies(&store, "topic", 0).len(), 200, "what was mapped is read as before");
    std::fs::File::options().write(true).open(folder.path().join(&queue)).unwrap().set_len(100).unwrap();
    let said: Vec<String> = store.lacking().unwrap().iter().map(ToString::to_string).collect();
    let path = |name: &str| folder.path().join(name).display().to_string();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].starts_with(&format!("{} was removed while the broker runs: ", path(&segment))), "{said:?}");
    assert!(said[1].starts_with(&format!("{} has 100 bytes and not 1280: ", path(&queue))), "{said:?}");
    store.shutdown(Duration::from_secs(5)).await;
}

/// The newest segments of a store were removed while it was down, and checking was to begin behind them: it opened, with
/// an end that no file held, and the first message that needed a segment ended the process. They are damage like any other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_ends_before_its_checkpoint_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), |config| config.check_behind_bytes = 0).await;
    for _ in 0..200 {
        store.put_kept(&message("topic", 0, &[7; 1_000])).await.unwrap();
    }
    store.shutdown(Duration::from_secs(5)).await;
    drop(store);
    let newest = std::fs::read_dir(folder.path().join("commitlog")).unwrap().map(|entry| entry.unwrap().path()).max();
    // The last one was prepared ahead.
    std::fs::remove_file(newest.unwrap()).unwrap();
    let newest = std::fs::read_dir(folder.path().join("commitlog")).unwrap().map(|entry| entry.unwrap().path()).max();
    std::fs::remove_file(newest.unwrap()).unwrap();
    let refused = MessageStore::open(&env(), StoreConfig::tiny(folder.path())).await;
    assert!(matches!(refused, Err(OpenError::Damaged { .. })), "{:?}", refused.err());
}

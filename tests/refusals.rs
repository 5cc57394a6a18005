//! What a broker answers when the disk or one of its bounds says no: the code on which clients do the right thing, and
//! everything goes on once it can.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

#[allow(dead_code)]
#[path = "remoting/world.rs"]
mod world;

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use keelmq::{
    broker::{self, Broker, config::Config},
    env::{
        BoxFuture, Env,
        storage::{Entry, File, Held, LockError, Open, Space, Storage, SyncFailed},
    },
    os,
    protocol::code::request as code,
};
use world::{Heard, Peer, Said, ask, request, send, send_fields, until};

fn real() -> Env {
    os::env(tokio::runtime::Handle::current())
}

async fn start(env: Env, folder: &Path, change: impl FnOnce(&mut Config)) -> Broker {
    let mut config = Config::tiny();
    config.store_path_root_dir = folder.display().to_string();
    change(&mut config);
    broker::start(env, config, None).await.unwrap()
}

/// What goes wrong with the files of the commit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Fault {
    Nothing,
    /// Writes do not come back.
    WriteStuck,
    /// A write panics.
    WritePanics,
    /// Syncs do not come back.
    SyncStuck,
    /// Syncs fail.
    SyncFails,
    /// The disk says that it is nearly full.
    NearlyFull,
    /// New segments do not come.
    NewStuck,
    /// There is no space for a new segment.
    NewFull,
    /// A new segment cannot be made for another reason.
    NewBroken,
}

#[derive(Clone)]
struct Switch(Arc<AtomicU8>);

impl Switch {
    fn is(&self, fault: Fault) -> bool {
        self.0.load(Ordering::SeqCst) == fault as u8
    }

    fn set(&self, fault: Fault) {
        self.0.store(fault as u8, Ordering::SeqCst);
    }

    fn wait_while(&self, fault: Fault) {
        while self.is(fault) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

struct Faulty {
    inner: Arc<dyn Storage>,
    switch: Switch,
}

impl Faulty {
    /// The real world with such a disk.
    fn env() -> (Env, Switch) {
        let (env, switch) = (real(), Switch(Arc::default()));
        let storage = Arc::new(Faulty { inner: env.storage.clone(), switch: switch.clone() });
        (Env { storage, ..env }, switch)
    }
}

struct FaultyFile {
    inner: Arc<dyn File>,
    switch: Switch,
}

impl File for FaultyFile {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn write(&self, at: u64, parts: &[&[u8]]) -> io::Result<()> {
        self.switch.wait_while(Fault::WriteStuck);
        assert!(!self.switch.is(Fault::WritePanics), "this write was to panic");
        self.inner.write(at, parts)
    }

    fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        self.inner.read(range)
    }

    fn zero(&self, range: Range<u64>) -> io::Result<()> {
        self.inner.zero(range)
    }

    fn reserve(&self, range: Range<u64>) -> io::Result<()> {
        self.inner.reserve(range)
    }

    fn start_write_back(&self, range: Range<u64>) {
        self.inner.start_write_back(range);
    }

    fn sync(&self) -> BoxFuture<'_, Result<(), SyncFailed>> {
        Box::pin(async {
            while self.switch.is(Fault::SyncStuck) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            if self.switch.is(Fault::SyncFails) {
                return Err(SyncFailed { path: "the log".to_owned(), reason: "input/output error".to_owned() });
            }
            self.inner.sync().await
        })
    }
}

impl Storage for Faulty {
    fn list(&self, directory: &Path) -> io::Result<Vec<Entry>> {
        self.inner.list(directory)
    }

    fn exists(&self, path: &Path) -> bool {
        self.inner.exists(path)
    }

    fn create_dir_all(&self, directory: &Path) -> io::Result<()> {
        self.inner.create_dir_all(directory)
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        if path.parent().and_then(Path::file_name) != Some("commitlog".as_ref()) {
            return self.inner.open(path, how);
        }
        if let Open::New { .. } = how {
            self.switch.wait_while(Fault::NewStuck);
            if self.switch.is(Fault::NewFull) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            if self.switch.is(Fault::NewBroken) {
                return Err(io::Error::other("the disk said no"));
            }
        }
        let inner = self.inner.open(path, how)?;
        Ok(Arc::new(FaultyFile { inner, switch: self.switch.clone() }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.inner.read(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(path)
    }

    fn remove_dir_all(&self, directory: &Path) -> io::Result<()> {
        self.inner.remove_dir_all(directory)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn sync_dir(&self, directory: &Path) -> BoxFuture<'static, Result<(), SyncFailed>> {
        self.inner.sync_dir(directory)
    }

    fn replace(&self, path: &Path, content: Vec<u8>) -> BoxFuture<'static, io::Result<()>> {
        self.inner.replace(path, content)
    }

    fn lock(&self, path: &Path, content: &str) -> Result<Box<dyn Held>, LockError> {
        self.inner.lock(path, content)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let space = self.inner.space(path)?;
        let free_bytes = if self.switch.is(Fault::NearlyFull) { space.total_bytes / 20 } else { space.free_bytes };
        Ok(Space { free_bytes, ..space })
    }
}

/// While the page cache does not take what is written, sends are refused with code 2, on which clients try elsewhere;
/// everything else is served, and so are sends once it takes it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_busy_page_cache_refuses_sends() {
    let folder: PathBuf = tempfile::tempdir().unwrap().keep();
    let (env, switch) = Faulty::env();
    let broker = start(env, &folder, |config| {
        config.os_page_cache_busy_timeout_ms = 100;
        config.sync_flush_timeout_ms = 60_000;
    })
    .await;
    let (mut first, mut second) = (Peer::connect(broker.address()).await, Peer::connect(broker.address()).await);
    assert_eq!(send(&mut first, "Busy", b"1").await.code, 0);
    switch.set(Fault::WriteStuck);
    // Nobody answers this one yet.
    first.send(&request(code::SEND_MESSAGE_V2, 7, &send_fields("Busy"), b"2")).await;
    until("a write takes too long", async || broker.core().store.writing_for() > Duration::from_millis(200)).await;
    let refused = send(&mut second, "Busy", b"3").await;
    let said = "[REJECTREQUEST]system busy, start flow control for a while";
    assert_eq!((refused.code, refused.remark.as_str()), (2, said));
    let served = ask(&mut second, code::GET_MIN_OFFSET, &[("topic", "Busy"), ("queueId", "0")], b"").await;
    assert_eq!(served.code, 0);
    switch.set(Fault::Nothing);
    let stored = first.answer().await;
    assert_eq!((stored.opaque, stored.code), (7, 0), "{stored:?}");
    assert_eq!(send(&mut second, "Busy", b"3").await.fields["queueOffset"], "2");
    broker.shutdown(Duration::from_secs(1)).await;
    std::fs::remove_dir_all(folder).unwrap();
}

/// A sender that says WAIT=false is told before its message lasts, and nobody else: what the broker stores itself says so
/// too, a message sent back (36) and a committed one (37), and yet whoever asked for it waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn only_a_sender_that_does_not_wait_is_answered_before_the_flush() {
    let folder = tempfile::tempdir().unwrap();
    let (env, switch) = Faulty::env();
    let broker = start(env, folder.path(), |config| config.sync_flush_timeout_ms = 60_000).await;
    let mut peer = Peer::connect(broker.address()).await;
    let with = |properties| [&send_fields("Flush")[..], &[("i", properties)]].concat();
    let place = |sent: &Heard| u64::from_str_radix(&sent.fields["msgId"][16..], 16).unwrap().to_string();
    let plain = send(&mut peer, "Flush", b"plain").await;
    let half = with("TRAN_MSG\\u0001true\\u0002PGROUP\\u0001p");
    let half = ask(&mut peer, code::SEND_MESSAGE_V2, &half, b"half").await;
    assert_eq!((plain.code, half.code), (0, 0));
    switch.set(Fault::SyncStuck);
    let back = [("group", "G"), ("offset", &place(&plain)), ("delayLevel", "1")];
    let end = [
        ("producerGroup", "p"),
        ("tranStateTableOffset", &half.fields["queueOffset"]),
        ("commitLogOffset", &place(&half)),
        ("commitOrRollback", "8"),
    ];
    let waits = [
        request(code::SEND_MESSAGE_V2, 11, &with("WAIT\\u0001true"), b"waits"),
        request(code::CONSUMER_SEND_MSG_BACK, 12, &back, b""),
        request(code::END_TRANSACTION, 13, &end, b""),
    ];
    for request in waits {
        let before = broker.core().store.appended();
        peer.send(&request).await;
        until("it is written", async || broker.core().store.appended() > before).await;
    }
    let mut other = Peer::connect(broker.address()).await;
    for peer in [&mut other, &mut peer] {
        let told = ask(peer, code::SEND_MESSAGE_V2, &with("WAIT\\u0001false"), b"does not wait").await;
        assert_eq!(told.code, 0, "{told:?}");
    }
    // Who is told too early would be told by now.
    let early = tokio::time::timeout(Duration::from_millis(300), peer.answer()).await;
    assert!(early.is_err(), "{early:?}");
    switch.set(Fault::Nothing);
    let mut told = Vec::new();
    for _ in 0..3 {
        let heard = peer.answer().await;
        told.push((heard.opaque, heard.code));
    }
    told.sort_unstable();
    assert_eq!(told, [(11, 0), (12, 0), (13, 0)]);
    broker.shutdown(Duration::from_secs(1)).await;
}

/// Each in one line, before users notice: with how long it took, what it means, and how often it happened meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_slow_is_said() {
    let (folder, said) = (tempfile::tempdir().unwrap(), Said::listen());
    let (env, switch) = Faulty::env();
    switch.set(Fault::NewStuck);
    let released = switch.clone();
    let release = tokio::task::spawn_blocking(move || {
        std::thread::sleep(Duration::from_millis(50));
        released.set(Fault::Nothing);
    });
    let broker = start(env, folder.path(), |config| {
        config.os_page_cache_busy_timeout_ms = 100;
        config.sync_flush_timeout_ms = 60_000;
    })
    .await;
    release.await.unwrap();
    said.until(" ms, more than 10 ms: the file system reserves space slowly").await;
    let (mut first, mut second) = (Peer::connect(broker.address()).await, Peer::connect(broker.address()).await);
    assert_eq!(send(&mut first, "Slow", b"1").await.code, 0);

    switch.set(Fault::SyncStuck);
    first.send(&request(code::SEND_MESSAGE_V2, 7, &send_fields("Slow"), b"2")).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    switch.set(Fault::Nothing);
    assert_eq!(first.answer().await.code, 0);
    said.until("a sync of the log took").await;
    said.until("a message, from its append to where consumers see it, took").await;

    switch.set(Fault::WriteStuck);
    first.send(&request(code::SEND_MESSAGE_V2, 8, &send_fields("Slow"), b"3")).await;
    until("a write takes too long", async || broker.core().store.writing_for() > Duration::from_millis(1_200)).await;
    assert_eq!([send(&mut second, "Slow", b"4").await.code, send(&mut second, "Slow", b"5").await.code], [2, 2]);
    switch.set(Fault::Nothing);
    assert_eq!(first.answer().await.code, 0);
    said.until("the page cache took").await;
    let refused =
        |line: &&str| line.contains("a send request of 127.0.0.1:") && line.contains("is refused: [REJECTREQUEST]");
    assert!(said.text().lines().any(|line| refused(&line)), "{}", said.text());
    broker.shutdown(Duration::from_secs(1)).await;
}

/// A segment that does not come within segmentWaitMaxMs is code 1, no space for it is 14, anything else that the disk says
/// is 1; pulls are served meanwhile, and the message is taken once there is a segment, at the next place.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_segment_that_cannot_be_made_refuses_sends() {
    for (fault, code, remark) in [
        (Fault::NewStuck, 1, "create mapped file failed, server is busy or broken."),
        (Fault::NewFull, 14, "service not available now: no space for segment"),
        (Fault::NewBroken, 1, "create mapped file failed, server is busy or broken."),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (env, switch) = Faulty::env();
        let broker = start(env, folder.path(), |config| config.segment_wait_ms_max = 300).await;
        let mut peer = Peer::connect(broker.address()).await;
        let body = vec![b'x'; 10 << 10];
        assert_eq!(send(&mut peer, "Roll", &body).await.code, 0);
        switch.set(fault);
        let mut stored = 1;
        let refused = loop {
            let begun = Instant::now();
            let heard = send(&mut peer, "Roll", &body).await;
            if heard.code != 0 {
                let waited = begun.elapsed();
                let bound = Duration::from_millis(300);
                assert!(fault != Fault::NewStuck || (bound..bound * 60).contains(&waited), "{fault:?}: {waited:?}");
                break heard;
            }
            stored += 1;
            assert!(stored < 30, "{fault:?}: two segments have no room for it");
        };
        assert_eq!((refused.code, refused.remark.starts_with(remark)), (code, true), "{fault:?}: {refused:?}");
        // The queue learns of the last one a moment after its answer.
        until("the queue is served", async || {
            let served = ask(&mut peer, code::GET_MAX_OFFSET, &[("topic", "Roll"), ("queueId", "0")], b"").await;
            served.fields["offset"] == stored.to_string()
        })
        .await;
        switch.set(Fault::Nothing);
        let mut taken = String::new();
        until("a send is taken again", async || {
            let heard = send(&mut peer, "Roll", &body).await;
            taken = heard.fields.get("queueOffset").cloned().unwrap_or_default();
            heard.code == 0
        })
        .await;
        assert_eq!(taken, stored.to_string(), "{fault:?}");
        broker.shutdown(Duration::from_secs(1)).await;
    }
}

/// With the transient pool, sends that find it full are code 2 until it is committed.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_exhausted_pool_refuses_sends() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(real(), folder.path(), |config| {
        config.flush_disk_type = broker::config::FlushDiskType::Async;
        (config.transient_store_pool_enable, config.transient_store_pool_size) = (true, 1);
        config.commit_interval_commit_log_ms = 2_000;
    })
    .await;
    let mut peer = Peer::connect(broker.address()).await;
    let body = vec![b'x'; 10 << 10];
    let mut codes = Vec::new();
    while codes.len() < 100 && codes.last() != Some(&2) {
        codes.push(send(&mut peer, "Pool", &body).await.code);
    }
    assert!(codes.len() > 4 && codes[..codes.len() - 1].iter().all(|code| *code == 0), "{codes:?}");
    assert_eq!(codes.last(), Some(&2));
    until("a send is taken again", async || send(&mut peer, "Pool", &body).await.code == 0).await;
    broker.shutdown(Duration::from_secs(1)).await;
}

/// A failed sync is final: whoever waits is told, so is whoever sends afterwards, though syncs succeed again; the process
/// says so; what was acknowledged is served. A new start makes it good.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_failed_sync_is_final() {
    let (folder, said) = (tempfile::tempdir().unwrap(), Said::listen());
    let (env, switch) = Faulty::env();
    let broker = start(env, folder.path(), |_| ()).await;
    let mut peer = Peer::connect(broker.address()).await;
    assert_eq!(send(&mut peer, "Sync", b"kept").await.code, 0);
    switch.set(Fault::SyncFails);
    for _ in 0..2 {
        let refused = send(&mut peer, "Sync", b"refused").await;
        assert_eq!(refused.code, 14, "{refused:?}");
        assert!(refused.remark.contains("the store is read-only: ") && refused.remark.contains("input/output error"));
        // It is not asked again.
        switch.set(Fault::Nothing);
    }
    said.until("Nothing sent from now on is stored and nothing still waiting is acknowledged; check the disk").await;
    let end = ask(&mut peer, code::GET_MAX_OFFSET, &[("topic", "Sync"), ("queueId", "0")], b"").await;
    assert_eq!((end.code, end.fields["offset"].as_str()), (0, "1"), "what is not synced is not shown");
    broker.shutdown(Duration::from_secs(1)).await;
    drop(broker);
    let broker = start(real(), folder.path(), |_| ()).await;
    let mut peer = Peer::connect(broker.address()).await;
    assert_eq!(send(&mut peer, "Sync", b"again").await.code, 0);
    broker.shutdown(Duration::from_secs(1)).await;
}

/// Above diskSpaceWarningLevelRatio sends are refused with Java's code and words, early, and taken again by themselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_nearly_full_disk_refuses_sends() {
    let folder = tempfile::tempdir().unwrap();
    let (env, switch) = Faulty::env();
    let broker = start(env, folder.path(), |config| config.clean_resource_interval_ms = 10).await;
    let mut peer = Peer::connect(broker.address()).await;
    assert_eq!(send(&mut peer, "Full", b"1").await.code, 0);
    switch.set(Fault::NearlyFull);
    until("the disk is seen to be full", async || broker.core().store.refusal().is_some()).await;
    let refused = send(&mut peer, "Full", b"2").await;
    assert_eq!(refused.code, 14, "{refused:?}");
    assert!(refused.remark.contains("the broker's disk is full [CL:  0.95 CQ:  0.95 INDEX:  0.95]"), "{refused:?}");
    let served = ask(&mut peer, code::GET_MAX_OFFSET, &[("topic", "Full"), ("queueId", "0")], b"").await;
    assert_eq!((served.code, served.fields["offset"].as_str()), (0, "1"));
    switch.set(Fault::Nothing);
    until("there is room again", async || broker.core().store.refusal().is_none()).await;
    assert_eq!(send(&mut peer, "Full", b"2").await.fields["queueOffset"], "1");
    broker.shutdown(Duration::from_secs(1)).await;
}

/// A lane without room refuses its own codes, and those alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lanes_do_not_hold_each_other_up() {
    type Narrow = fn(&mut Config) -> &mut u32;
    let lanes: [(Narrow, &[i32]); 10] = [
        (|config| &mut config.send_lane_max, &[10, 36, 310, 320]),
        (|config| &mut config.pull_lane_max, &[11]),
        (|config| &mut config.lite_pull_lane_max, &[361]),
        (|config| &mut config.reply_lane_max, &[324, 325]),
        (|config| &mut config.query_lane_max, &[12, 33]),
        (|config| &mut config.client_manage_lane_max, &[35, 46]),
        (|config| &mut config.consumer_manage_lane_max, &[14, 15, 38]),
        (|config| &mut config.heartbeat_lane_max, &[34]),
        (|config| &mut config.end_transaction_lane_max, &[37]),
        (|config| &mut config.admin_lane_max, &[29, 30, 31, 32, 41, 42, 28, 43, 200, 202, 9_999]),
    ];
    let mut all: Vec<i32> = lanes.iter().flat_map(|(_, codes)| codes.iter().copied()).collect();
    all.sort_unstable();
    for (narrow, codes) in lanes {
        let folder = tempfile::tempdir().unwrap();
        let broker = start(real(), folder.path(), |config| *narrow(config) = 0).await;
        let mut peer = Peer::connect(broker.address()).await;
        let mut refused = Vec::new();
        for code in &all {
            let heard = ask(&mut peer, *code, &[], b"").await;
            if heard.code == 2 {
                assert_eq!(heard.remark, "[OVERLOAD]system busy, start flow control for a while", "{code}");
                refused.push(*code);
            }
        }
        let mut codes = codes.to_vec();
        codes.sort_unstable();
        assert_eq!(refused, codes);
        broker.shutdown(Duration::from_secs(1)).await;
    }
}

/// A service that panics is the end of the process, which `died` tells its owner: there is no half-dead broker.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_panic_in_a_service_is_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let (env, switch) = Faulty::env();
    let broker = start(env, folder.path(), |_| ()).await;
    let mut peer = Peer::connect(broker.address()).await;
    assert_eq!(send(&mut peer, "Panic", b"1").await.code, 0);
    assert!(tokio::time::timeout(Duration::from_millis(200), broker.died()).await.is_err(), "all is well");
    switch.set(Fault::WritePanics);
    peer.send(&request(code::SEND_MESSAGE_V2, 7, &send_fields("Panic"), b"2")).await;
    let died = tokio::time::timeout(Duration::from_secs(10), broker.died()).await.expect("it is told");
    assert!(died.to_string().contains("flush"), "{died}");
}

/// Groups of one connection were not counted, names not measured: one client could fill the memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_register_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(real(), folder.path(), |config| config.groups_max = 10_000).await;
    let mut peer = Peer::connect(broker.address()).await;
    let producers = |count: usize| {
        let groups: Vec<String> = (0..count).map(|number| format!(r#"{{"groupName":"p{number}"}}"#)).collect();
        format!(r#"{{"clientID":"c","consumerDataSet":[],"producerDataSet":[{}]}}"#, groups.join(","))
    };
    let consumer = |group: &str, expression: &str| {
        format!(
            r#"{{"clientID":"c","producerDataSet":[],"consumerDataSet":[{{"groupName":"{group}","consumeType":
            "CONSUME_PASSIVELY","messageModel":"CLUSTERING","consumeFromWhere":"CONSUME_FROM_LAST_OFFSET","unitMode":false,
            "subscriptionDataSet":[{{"topic":"T","subString":"{expression}","subVersion":1}}]}}]}}"#
        )
    };
    // clientsMax=128
    assert_eq!(ask(&mut peer, code::HEART_BEAT, &[], producers(128).as_bytes()).await.code, 0);
    assert_eq!(ask(&mut peer, code::HEART_BEAT, &[], producers(128).as_bytes()).await.code, 0, "they are known");
    let refused = ask(&mut peer, code::HEART_BEAT, &[], producers(129).as_bytes()).await;
    assert_eq!((refused.code, refused.remark.contains("clientsMax allows")), (1, true), "{refused:?}");
    let mut other = Peer::connect(broker.address()).await;
    let refused = ask(&mut other, code::HEART_BEAT, &[], consumer("g", "*").as_bytes()).await;
    assert_eq!((refused.code, refused.remark.contains("clientsMax allows")), (1, true), "{refused:?}");
    // Whoever leaves makes room: a group, a connection.
    let fields = [("clientID", "c"), ("producerGroup", "p0")];
    assert_eq!(ask(&mut peer, code::UNREGISTER_CLIENT, &fields, b"").await.code, 0);
    assert_eq!(ask(&mut other, code::HEART_BEAT, &[], consumer("g", "*").as_bytes()).await.code, 0);
    drop(peer);
    until("the others are gone", async || broker.core().clients.all_producers().is_empty()).await;
    // clientsMemoryMaxBytes=262144
    let mut outcomes = Vec::new();
    for number in 0..12 {
        let text = consumer(&format!("g{number}"), &"tag||".repeat(4_000));
        let heard = ask(&mut other, code::HEART_BEAT, &[], text.as_bytes()).await;
        assert!(heard.code == 0 || heard.remark.contains("clientsMemoryMaxBytes=262144"), "{heard:?}");
        outcomes.push(heard.code);
    }
    assert_eq!(outcomes.iter().filter(|code| **code == 0).count(), 6, "{outcomes:?}");
    // Names.
    let long = "x".repeat(1_025);
    let lock = format!(
        r#"{{"consumerGroup":"g","clientId":"{long}","mqSet":[{{"brokerName":"b","topic":"T","queueId":0}}]}}"#
    );
    let offset = [("consumerGroup", long.as_str()), ("topic", "T"), ("queueId", "0"), ("commitOffset", "0")];
    for (what, heard) in [
        ("heartbeat", ask(&mut other, code::HEART_BEAT, &[], consumer(&long, "*").as_bytes()).await),
        ("lock", ask(&mut other, code::LOCK_BATCH_MQ, &[], lock.as_bytes()).await),
        ("offset", ask(&mut other, code::UPDATE_CONSUMER_OFFSET, &offset, b"").await),
    ] {
        assert_eq!((heard.code, heard.remark.contains("at most 1024 are taken")), (1, true), "{what}: {heard:?}");
    }
    broker.shutdown(Duration::from_secs(1)).await;
}

//! Old segments go, queues and index follow, sends are refused while the disk is full, and a crash in between harms nothing.

// A test stands on the world's side of the doors.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use keelmq::{
    env::{BoxFuture, Env, File, Held, LockError, Open, Space, Storage, SyncFailed, storage::Entry},
    model::Message,
    os,
    store::{AppendError, Get, GetStatus, MessageStore, StoreConfig, retention::Policy},
};

/// The real disk, but how full it is the test says.
struct Filling {
    disk: Arc<dyn Storage>,
    free_percent: AtomicU64,
}

impl Storage for Filling {
    fn list(&self, directory: &Path) -> io::Result<Vec<Entry>> {
        self.disk.list(directory)
    }
    fn exists(&self, path: &Path) -> bool {
        self.disk.exists(path)
    }
    fn create_dir_all(&self, directory: &Path) -> io::Result<()> {
        self.disk.create_dir_all(directory)
    }
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        self.disk.open(path, how)
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.disk.read(path)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn remove_dir_all(&self, directory: &Path) -> io::Result<()> {
        self.disk.remove_dir_all(directory)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn sync_dir(&self, directory: &Path) -> BoxFuture<'static, Result<(), SyncFailed>> {
        self.disk.sync_dir(directory)
    }
    fn replace(&self, path: &Path, content: Vec<u8>) -> BoxFuture<'static, io::Result<()>> {
        self.disk.replace(path, content)
    }
    fn lock(&self, path: &Path, content: &str) -> Result<Box<dyn Held>, LockError> {
        self.disk.lock(path, content)
    }
    fn space(&self, _: &Path) -> io::Result<Space> {
        let total_bytes = 1 << 30;
        Ok(Space { total_bytes, free_bytes: total_bytes / 100 * self.free_percent.load(Ordering::SeqCst) })
    }
}

fn world(free_percent: u64) -> (Env, Arc<Filling>) {
    let mut env = os::env(tokio::runtime::Handle::current());
    let disk = Arc::new(Filling { disk: env.storage.clone(), free_percent: AtomicU64::new(free_percent) });
    env.storage = disk.clone();
    (env, disk)
}

fn config(root: &Path) -> StoreConfig {
    StoreConfig {
        retention: Policy { free_min_bytes: 0, hours: vec![], pause_ms: 0, age_max_ms: 3_600_000, ..Policy::default() },
        retention_interval_ms: 10,
        retention_first_ms: 0,
        // Nothing goes before what was derived from it is durable.
        upkeep_interval_ms: 10,
        upkeep_thorough_ms: 10,
        ..StoreConfig::tiny(root)
    }
}

fn message<'a>(body: &'a [u8], properties: &'a [u8]) -> Message<'a> {
    Message {
        topic: "T",
        queue_id: 0,
        flag: 0,
        sys_flag: 0,
        born_timestamp: 1,
        born_host: "127.0.0.1:1".parse().unwrap(),
        store_host: "127.0.0.1:10911".parse().unwrap(),
        reconsume_times: 0,
        prepared_offset: 0,
        body,
        properties,
    }
}

async fn fill(store: &MessageStore, from: u32, count: u32) {
    for number in from..from + count {
        let properties = format!("KEYS\u{1}n{number}");
        store.put_kept(&message(&[1; 1_000], properties.as_bytes())).await.unwrap();
    }
    store.dispatched().reached(store.appended().0).await.unwrap();
}

/// Waits for what a service does on its own.
async fn until(what: &str, mut is: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if is() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{what} did not happen");
}

fn get(store: &MessageStore, offset: u64) -> GetStatus {
    let get = Get { topic: "T", queue_id: 0, offset: offset as i64, count_max: 1, bytes_max: 1 << 20, filter: None };
    store.get(&get).unwrap().status
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_segments_go_when_asked_for_and_everything_follows() {
    let (folder, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (env, _) = world(50);
    let store = MessageStore::open(&env, config(folder.path())).await.unwrap();
    fill(&store, 0, 1_000).await;
    let segments = store.segments().all().len();
    assert!(segments > 10);
    let read = store.record_at(store.log_begin()).unwrap().unwrap();
    let before = read.to_vec();
    assert_eq!(store.query("T", "n0", 8, 0, i64::MAX).unwrap().records.len(), 1);

    // Nothing is old enough.
    store.delete_expired();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(store.segments().all().len(), segments);

    store.set_retention(Policy { age_max_ms: -1, ..config(folder.path()).retention });
    store.delete_expired();
    until("all but the last segment going", || {
        store.delete_expired();
        store.segments().all().len() == 1
    })
    .await;
    until("the queue following", || store.min_offset("T", 0).0 > 900).await;
    assert_eq!(&read[..], before, "bytes in a reader's hand stay");
    let min = store.min_offset("T", 0).0;
    assert_eq!(get(&store, min), GetStatus::Found);
    assert_eq!(get(&store, min - 1), GetStatus::OffsetTooSmall);
    assert!(store.query("T", "n0", 8, 0, i64::MAX).unwrap().records.is_empty());
    assert_eq!(store.query("T", "n999", 8, 0, i64::MAX).unwrap().records.len(), 1);
    let count = |path: &str| std::fs::read_dir(folder.path().join(path)).unwrap().count();
    until("the queue's files going", || count("consumequeue/T/0") <= 2).await;
    until("the index files going", || count("index") <= 2).await;

    store.set_retention(config(folder.path()).retention);
    copy(folder.path(), &copies.path().join("killed"));
    fill(&store, 1_000, 10).await;
    store.shutdown(Duration::from_secs(5)).await;
    drop(store);
    for (root, end) in [(folder.path().to_owned(), 1_010), (copies.path().join("killed"), 1_000)] {
        let again = MessageStore::open(&env, config(&root)).await.unwrap();
        assert_eq!((again.min_offset("T", 0).0, again.max_offset("T", 0).0), (min, end));
        assert_eq!(get(&again, min), GetStatus::Found);
        again.shutdown(Duration::from_secs(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_sends_and_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let (env, disk) = world(50);
    let store = MessageStore::open(&env, config(folder.path())).await.unwrap();
    fill(&store, 0, 300).await;
    let segments = store.segments().all().len();

    // Above 85 % the oldest go though they are young; above 90 % sends are refused as well.
    disk.free_percent.store(13, Ordering::SeqCst);
    until("a segment going by force", || store.segments().all().len() < segments).await;
    assert!(store.put(&message(b"x", b"")).is_ok());
    disk.free_percent.store(9, Ordering::SeqCst);
    until("sends refused", || store.refusal().is_some()).await;
    let error = store.put(&message(b"x", b"")).unwrap_err();
    assert!(matches!(error, AppendError::DiskFull { .. }), "{error:?}");
    assert!(error.to_string().contains("the broker's disk is full [CL:  0.91 CQ:  0.91 INDEX:  0.91]"), "{error}");
    disk.free_percent.store(50, Ordering::SeqCst);
    until("sends accepted", || store.refusal().is_none()).await;
    fill(&store, 300, 10).await;
    store.shutdown(Duration::from_secs(5)).await;
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

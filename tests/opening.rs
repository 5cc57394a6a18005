//! What a start of the store does before anything else, and what it makes of files that another configuration made.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::{
    io,
    ops::Range,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use keelmq::{
    env::{BoxFuture, Env, File, Held, LockError, Open, Space, Storage, SyncFailed, storage::Entry},
    model::{BatchItem, Message},
    os,
    store::{AppendError, MessageStore, OpenError, StoreConfig},
};

/// Notes what is done, in its order.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    fn add(&self, what: &str, path: &Path) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        self.0.lock().unwrap().push(format!("{what} {name}"));
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

struct Noted {
    inner: Arc<dyn Storage>,
    notes: Notes,
}

struct NotedFile {
    inner: Arc<dyn File>,
    notes: Notes,
    path: std::path::PathBuf,
}

impl File for NotedFile {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn write(&self, at: u64, parts: &[&[u8]]) -> io::Result<()> {
        self.notes.add("write", &self.path);
        self.inner.write(at, parts)
    }

    fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        self.notes.add("read", &self.path);
        self.inner.read(range)
    }

    fn zero(&self, range: Range<u64>) -> io::Result<()> {
        self.notes.add("zero", &self.path);
        self.inner.zero(range)
    }

    fn reserve(&self, range: Range<u64>) -> io::Result<()> {
        self.notes.add("reserve", &self.path);
        self.inner.reserve(range)
    }

    fn start_write_back(&self, range: Range<u64>) {
        self.inner.start_write_back(range);
    }

    fn sync(&self) -> BoxFuture<'_, Result<(), SyncFailed>> {
        Box::pin(async {
            let outcome = self.inner.sync().await;
            self.notes.add("synced", &self.path);
            outcome
        })
    }
}

impl Storage for Noted {
    fn list(&self, directory: &Path) -> io::Result<Vec<Entry>> {
        self.notes.add("list", directory);
        self.inner.list(directory)
    }

    fn exists(&self, path: &Path) -> bool {
        self.inner.exists(path)
    }

    fn create_dir_all(&self, directory: &Path) -> io::Result<()> {
        self.notes.add("mkdir", directory);
        self.inner.create_dir_all(directory)
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        let inner = self.inner.open(path, how)?;
        Ok(Arc::new(NotedFile { inner, notes: self.notes.clone(), path: path.to_owned() }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.notes.add("read", path);
        self.inner.read(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.notes.add("remove", path);
        self.inner.remove(path)
    }

    fn remove_dir_all(&self, directory: &Path) -> io::Result<()> {
        self.notes.add("remove", directory);
        self.inner.remove_dir_all(directory)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.notes.add("rename", from);
        self.inner.rename(from, to)
    }

    fn sync_dir(&self, directory: &Path) -> BoxFuture<'static, Result<(), SyncFailed>> {
        self.inner.sync_dir(directory)
    }

    fn replace(&self, path: &Path, content: Vec<u8>) -> BoxFuture<'static, io::Result<()>> {
        self.notes.add("write", path);
        self.inner.replace(path, content)
    }

    fn lock(&self, path: &Path, content: &str) -> Result<Box<dyn Held>, LockError> {
        self.notes.add("lock", path);
        self.inner.lock(path, content)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        self.inner.space(path)
    }
}

fn env() -> Env {
    os::env(tokio::runtime::Handle::current())
}

fn message(body: &[u8]) -> Message<'_> {
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
        properties: b"",
    }
}

/// A second process must not touch what the first one holds, and a start that is killed must be known to have been one:
/// the lock comes first, but for the look whether the store is one of ours, then `abort` is durable, then anything else is
/// read or written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lock_comes_first_and_then_the_mark_of_a_running_store() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("store");
    for is_new in [true, false] {
        let (env, notes) = (env(), Notes::default());
        let storage = Arc::new(Noted { inner: env.storage.clone(), notes: notes.clone() });
        let store = MessageStore::open(&Env { storage, ..env }, StoreConfig::tiny(&root)).await.unwrap();
        if is_new {
            store.put_kept(&message(b"one")).await.unwrap();
        }
        let all = notes.all();
        let at =
            |what: &str| all.iter().position(|note| note == what).unwrap_or_else(|| panic!("no {what} in {all:?}"));
        let locked = at("lock lock");
        let before: Vec<&String> = all[..locked].iter().filter(|note| !note.starts_with("list ")).collect();
        assert_eq!(before, ["mkdir store"], "{all:?}");
        let marked = at("synced abort");
        let changes = |note: &String| {
            let (what, name) = note.split_once(' ').unwrap();
            matches!(what, "write" | "zero" | "reserve" | "remove" | "rename") && name != "abort"
        };
        let first = all.iter().position(changes).unwrap_or(all.len());
        assert!(marked < first, "{} comes before abort is durable: {all:?}", all[first]);
        assert!(at("read checkpoint") > marked, "{all:?}");
        store.shutdown(Duration::from_secs(5)).await;
    }
}

/// The size of segments is the store's own, whatever the configuration says: messages that were written under another one
/// are all there, and the next segment has the size of those before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_existing_store_says_how_large_its_segments_are() {
    let folder = tempfile::tempdir().unwrap();
    let tiny = StoreConfig::tiny(folder.path());
    let size = tiny.segment_bytes;
    let fill = async |store: &MessageStore, count: u64| {
        let body = vec![b'x'; (size / 8) as usize];
        for _ in 0..count {
            store.put_again_waiting(&message(&body)).await.unwrap();
            store.turn_end();
        }
        store.dispatched().reached(store.appended().0).await.unwrap();
    };
    let store = MessageStore::open(&env(), tiny.clone()).await.unwrap();
    fill(&store, 20).await;
    store.shutdown(Duration::from_secs(5)).await;
    drop(store);
    for factor in [2, 4] {
        let config = StoreConfig { segment_bytes: size * factor, ..tiny.clone() };
        let store = MessageStore::open(&env(), config).await.unwrap();
        let before = store.max_offset("T", 0).0;
        fill(&store, 20).await;
        assert_eq!(store.max_offset("T", 0).0, before + 20);
        let sizes: Vec<u64> = store.segments().all().iter().map(|segment| segment.size).collect();
        assert!(sizes.len() > 2 && sizes.iter().all(|found| *found == size), "{sizes:?}");
        store.shutdown(Duration::from_secs(5)).await;
    }
}

/// So many segments as are asked for lie ready behind the one that is written, one behind the other, each in its full size.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_are_prepared_ahead() {
    for ahead in [1, 2, 3] {
        let folder = tempfile::tempdir().unwrap();
        let config = StoreConfig { segments_ahead: ahead, ..StoreConfig::tiny(folder.path()) };
        let size = config.segment_bytes;
        let store = MessageStore::open(&env(), config).await.unwrap();
        store.put_kept(&message(b"first")).await.unwrap();
        let there = || {
            let entries = std::fs::read_dir(folder.path().join("commitlog")).unwrap().map(Result::unwrap);
            let mut names: Vec<_> = entries
                .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len()))
                .collect();
            names.sort();
            names
        };
        for _ in 0..500 {
            if there().len() > ahead {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let expect: Vec<_> = (0..=ahead as u64).map(|number| (format!("{:020}", number * size), size)).collect();
        assert_eq!(there(), expect);
        store.shutdown(Duration::from_secs(5)).await;
    }
}

/// What can never fit a segment is refused: at the start, if the configuration allows such messages over an existing
/// store's segments, and with the sizes for a batch, which must lie within one segment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fits_no_segment_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let tiny = StoreConfig::tiny(folder.path());
    let store = MessageStore::open(&env(), tiny.clone()).await.unwrap();
    let body = vec![b'x'; (tiny.segment_bytes / 8) as usize];
    let items: Vec<BatchItem<'_>> = (0..9).map(|_| BatchItem { flag: 0, body: &body, properties: b"" }).collect();
    let refused = store.put_batch(&message(b""), &items, |_| panic!("nothing of it may be stored")).unwrap_err();
    let AppendError::RecordTooLarge { size, segment } = &refused else { panic!("{refused}") };
    assert!(*size > 9 * body.len() as u64 && *segment == tiny.segment_bytes, "{refused}");
    assert!(refused.is_of_message(), "its sender is told that it will never do");
    store.put_kept(&message(b"another")).await.unwrap();
    store.shutdown(Duration::from_secs(5)).await;
    drop(store);

    let large = StoreConfig { segment_bytes: 64 << 20, body_max_bytes: tiny.segment_bytes, ..tiny };
    let refused = MessageStore::open(&env(), large).await.err().expect("such a message fits no segment");
    let OpenError::Config(said) = &refused else { panic!("{refused}") };
    assert!(said.contains("does not fit a segment of mappedFileSizeCommitLog="), "{said}");
}

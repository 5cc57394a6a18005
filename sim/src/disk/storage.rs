//! env's `Storage` and `File` over a simulated disk, for one boot of one node. A handle of an earlier boot reads and
//! changes nothing: the process that held it is dead.

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use keelmq::env::{BoxFuture, Clock, File, Held, LockError, Open, Space, Storage, SyncFailed, storage::Entry};

use super::{Disk, names::Inode, names::Node};
use crate::{clock::NodeClock, trace::Trace};

pub type SharedDisk = Arc<Mutex<Disk>>;

#[derive(Clone)]
struct Boot {
    disk: SharedDisk,
    epoch: u64,
    clock: NodeClock,
    trace: Trace,
    node: u8,
}

pub struct SimStorage {
    boot: Boot,
}

struct SimFile {
    boot: Boot,
    inode: Inode,
    path: PathBuf,
    /// The path's number in the trace.
    name: u32,
    writable: bool,
    /// As last seen, for a process that is dead and does not know it yet.
    len: AtomicU64,
}

struct SimLock {
    boot: Boot,
    inode: Inode,
}

impl Boot {
    /// The disk, unless this boot is over.
    fn disk(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let disk = self.disk.lock().expect("nothing panics while it is held");
        if disk.epoch() == self.epoch { Ok(disk) } else { Err(io::Error::other("the process is dead")) }
    }

    fn event(&self, operation: &'static str, path: &Path, a: u64, b: u64) {
        self.trace.event(self.clock.time.now_ns(), self.node, operation, &path.to_string_lossy(), a, b);
    }

    fn event_of(&self, operation: &'static str, name: u32, a: u64, b: u64) {
        self.trace.event_of(self.clock.time.now_ns(), self.node, operation, name, a, b);
    }

    async fn sync_file(&self, inode: Inode, name: u32) -> io::Result<()> {
        let mut job = self.disk()?.sync_begin(inode);
        self.event_of("sync", name, job.delay_us, 0);
        loop {
            self.clock.time.sleep(Duration::from_micros(job.delay_us)).await;
            let outcome = self.disk()?.sync_batch(&mut job);
            if let Some(outcome) = outcome {
                self.event_of("synced", name, u64::from(outcome), 0);
                return if outcome { Ok(()) } else { Err(io::Error::from_raw_os_error(5)) };
            }
        }
    }

    async fn sync_names(&self, directory: &Path) -> io::Result<()> {
        let delay_us = {
            let mut disk = self.disk()?;
            let (low, high) = disk.faults.sync_us;
            disk.dice.log_within(low.max(1), high.max(1))
        };
        self.clock.time.sleep(Duration::from_micros(delay_us)).await;
        let outcome = self.disk()?.sync_dir(directory);
        self.event("sync_dir", directory, u64::from(outcome), 0);
        if outcome { Ok(()) } else { Err(io::Error::from_raw_os_error(5)) }
    }
}

impl SimFile {
    /// What the log must not go on after. A segment in which nothing was written yet is dropped and made anew.
    fn note_failure(&self, is_write: bool) {
        if self.path.parent().is_some_and(|directory| directory.ends_with("commitlog"))
            && let Ok(mut disk) = self.boot.disk()
            && (is_write || disk.file(self.inode).written_end > 0)
        {
            disk.log_failed.get_or_insert(self.boot.clock.time.now());
        }
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> SyncFailed {
    let path = path.display().to_string();
    move |error| SyncFailed { path: path.clone(), reason: error.to_string() }
}

fn checksum(parts: &[&[u8]]) -> u64 {
    parts.iter().flat_map(|part| part.chunks(8)).fold(0, |hash: u64, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        (hash.rotate_left(7) ^ u64::from_le_bytes(word)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    })
}

impl SimStorage {
    pub fn new(disk: SharedDisk, clock: NodeClock, trace: Trace, node: u8) -> SimStorage {
        let epoch = disk.lock().expect("nothing panics while it is held").epoch();
        SimStorage { boot: Boot { disk, epoch, clock, trace, node } }
    }
}

impl Storage for SimStorage {
    fn list(&self, directory: &Path) -> io::Result<Vec<Entry>> {
        let entries = self.boot.disk()?.list(directory)?;
        Ok(entries
            .into_iter()
            .map(|(name, len, is_dir, modified_ms)| Entry { name, len, is_dir, modified_ms })
            .collect())
    }

    fn exists(&self, path: &Path) -> bool {
        self.boot.disk().is_ok_and(|disk| disk.node(path).is_some())
    }

    fn create_dir_all(&self, directory: &Path) -> io::Result<()> {
        self.boot.event("mkdir", directory, 0, 0);
        self.boot.disk()?.create_dir_all(directory)
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        let now_ms = self.boot.clock.wall_ms();
        let inode = {
            let mut disk = self.boot.disk()?;
            match how {
                Open::Existing | Open::ReadOnly => disk.open_existing(path),
                Open::New { reserve } => disk.create(path, reserve, now_ms),
                Open::Sparse { len } => disk.create_sparse(path, len, now_ms),
            }
        };
        let (kind, len) = match how {
            Open::Existing => (0, 0),
            Open::ReadOnly => (1, 0),
            Open::New { reserve } => (2, reserve),
            Open::Sparse { len } => (3, len),
        };
        self.boot.event(if inode.is_ok() { "open" } else { "open failed" }, path, kind, len);
        Ok(Arc::new(SimFile {
            boot: self.boot.clone(),
            inode: inode?,
            path: path.to_owned(),
            name: self.boot.trace.name(&path.to_string_lossy()),
            writable: how != Open::ReadOnly,
            len: AtomicU64::new(0),
        }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut disk = self.boot.disk()?;
        let inode = disk.open_existing(path)?;
        let len = disk.len(inode);
        disk.read(inode, 0..len)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.boot.event("remove", path, 0, 0);
        self.boot.disk()?.remove(path)
    }

    fn remove_dir_all(&self, directory: &Path) -> io::Result<()> {
        self.boot.event("remove all", directory, 0, 0);
        self.boot.disk()?.remove_dir_all(directory)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.boot.event("rename", to, 0, 0);
        self.boot.disk()?.rename(from, to)
    }

    fn sync_dir(&self, directory: &Path) -> BoxFuture<'static, Result<(), SyncFailed>> {
        let (boot, directory) = (self.boot.clone(), directory.to_owned());
        Box::pin(async move { boot.sync_names(&directory).await.map_err(failed(&directory)) })
    }

    fn replace(&self, path: &Path, content: Vec<u8>) -> BoxFuture<'static, io::Result<()>> {
        let (boot, path) = (self.boot.clone(), path.to_owned());
        Box::pin(async move {
            let with = |ending: &str| {
                let mut name = path.as_os_str().to_owned();
                name.push(ending);
                PathBuf::from(name)
            };
            let (temporary, backup, backup_aside) = (with(".tmp"), with(".bak"), with(".bak.tmp"));
            boot.event("replace", &path, content.len() as u64, checksum(&[&content]));
            let now_ms = boot.clock.wall_ms();
            let inode = {
                let mut disk = boot.disk()?;
                let inode = disk.create_sparse(&temporary, 0, now_ms)?;
                disk.truncate(inode);
                inode
            };
            // The process may die between any two steps of a real write.
            boot.clock.time.sleep(Duration::from_micros(10)).await;
            boot.disk()?.write(inode, 0, &[&content], now_ms)?;
            let name = boot.trace.name(&temporary.to_string_lossy());
            boot.sync_file(inode, name).await?;
            {
                let mut disk = boot.disk()?;
                if disk.node(&backup_aside).is_some() {
                    disk.remove(&backup_aside)?;
                }
                if disk.node(&path).is_some() {
                    disk.link(&path, &backup_aside)?;
                    disk.rename(&backup_aside, &backup)?;
                }
            }
            boot.clock.time.sleep(Duration::from_micros(10)).await;
            boot.disk()?.rename(&temporary, &path)?;
            boot.event("replaced", &path, 0, 0);
            boot.sync_names(path.parent().expect("a file has a directory")).await
        })
    }

    fn lock(&self, path: &Path, content: &str) -> Result<Box<dyn Held>, LockError> {
        let name = path.display().to_string();
        let broken = |error: io::Error| LockError::Failed { path: name.clone(), reason: error.to_string() };
        let now_ms = self.boot.clock.wall_ms();
        let mut disk = self.boot.disk().map_err(broken)?;
        let inode = disk.create_sparse(path, 0, now_ms).map_err(broken)?;
        if !disk.lock(inode) {
            let holder = disk.peek(path).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            return Err(LockError::Taken { path: name, holder });
        }
        disk.write(inode, 0, &[content.as_bytes()], now_ms).map_err(broken)?;
        drop(disk);
        self.boot.event("lock", path, 0, 0);
        Ok(Box::new(SimLock { boot: self.boot.clone(), inode }))
    }

    fn space(&self, _path: &Path) -> io::Result<Space> {
        let disk = self.boot.disk()?;
        Ok(Space { total_bytes: disk.quota, free_bytes: disk.quota.saturating_sub(disk.used_bytes()) })
    }
}

impl Held for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        // A dead process's lock went with the process; by now it may be somebody else's.
        if let Ok(mut disk) = self.boot.disk() {
            disk.unlock(self.inode);
        }
    }
}

impl SimFile {
    fn writable(&self) -> io::Result<MutexGuard<'_, Disk>> {
        if !self.writable {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "opened for reading only"));
        }
        self.boot.disk()
    }
}

impl File for SimFile {
    fn len(&self) -> u64 {
        if let Ok(disk) = self.boot.disk() {
            self.len.store(disk.len(self.inode), Ordering::Relaxed);
        }
        self.len.load(Ordering::Relaxed)
    }

    fn write(&self, at: u64, parts: &[&[u8]]) -> io::Result<()> {
        let now_ms = self.boot.clock.wall_ms();
        let outcome = self.writable()?.write(self.inode, at, parts, now_ms);
        if outcome.is_err() {
            self.note_failure(true);
        }
        self.boot.event_of(if outcome.is_ok() { "write" } else { "write failed" }, self.name, at, checksum(parts));
        outcome
    }

    fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        Ok(self.boot.disk()?.read(self.inode, range)?.into())
    }

    fn zero(&self, range: Range<u64>) -> io::Result<()> {
        self.boot.event_of("zero", self.name, range.start, range.end);
        self.writable()?.zero(self.inode, range)
    }

    fn reserve(&self, range: Range<u64>) -> io::Result<()> {
        self.boot.event_of("reserve", self.name, range.start, range.end);
        self.writable()?.reserve(self.inode, range)
    }

    fn start_write_back(&self, _range: Range<u64>) {
        if let Ok(mut disk) = self.boot.disk() {
            disk.maybe_write_back(self.inode);
        }
    }

    fn sync(&self) -> BoxFuture<'_, Result<(), SyncFailed>> {
        Box::pin(async move {
            let outcome = self.boot.sync_file(self.inode, self.name).await;
            if outcome.is_err() {
                self.note_failure(false);
            }
            outcome.map_err(failed(&self.path))
        })
    }
}

impl Disk {
    /// Whether `path` is a regular file.
    pub fn is_file(&self, path: &Path) -> bool {
        matches!(self.node(path), Some(Node::File(_)))
    }
}

//! env's `Storage` over the simulator's disk, for one process of one run.

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use keelmq::env::{BoxFuture, Clock, File, Held, LockError, Open, Space, Storage, SyncFailed, storage::Entry};
use keelmq_sim::disk::{Disk, names::Inode};

use crate::tasks::Tasks;

pub type SharedDisk = Arc<Mutex<Disk>>;

/// Used and free, as far as anybody asks.
const SPACE_BYTES: u64 = 1 << 40;

#[derive(Clone)]
pub struct Files {
    disk: SharedDisk,
    tasks: Tasks,
    epoch: u64,
}

struct OneFile {
    files: Files,
    inode: Inode,
    path: PathBuf,
    writable: bool,
}

impl Files {
    pub fn new(disk: SharedDisk, tasks: Tasks) -> Files {
        let epoch = disk.lock().expect("nothing panics while it is held").epoch();
        Files { disk, tasks, epoch }
    }

    /// The disk, unless the process is dead.
    fn disk(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let disk = self.disk.lock().expect("nothing panics while it is held");
        if disk.epoch() == self.epoch { Ok(disk) } else { Err(io::Error::other("the process is dead")) }
    }

    async fn sync_file(&self, inode: Inode) -> io::Result<()> {
        let mut job = self.disk()?.sync_begin(inode);
        loop {
            self.tasks.sleep_for(Duration::from_micros(job.delay_us)).await;
            match self.disk()?.sync_batch(&mut job) {
                Some(true) => return Ok(()),
                Some(false) => return Err(io::Error::from_raw_os_error(5)),
                None => {}
            }
        }
    }

    async fn sync_names(&self, directory: &Path) -> io::Result<()> {
        self.tasks.sleep_for(Duration::from_micros(50)).await;
        if self.disk()?.sync_dir(directory) { Ok(()) } else { Err(io::Error::from_raw_os_error(5)) }
    }
}

fn failed(path: &Path, error: io::Error) -> SyncFailed {
    SyncFailed { path: path.display().to_string(), reason: error.to_string() }
}

impl Storage for Files {
    fn list(&self, directory: &Path) -> io::Result<Vec<Entry>> {
        let entries = self.disk()?.list(directory)?;
        Ok(entries
            .into_iter()
            .map(|(name, len, is_dir, modified_ms)| Entry { name, len, is_dir, modified_ms })
            .collect())
    }

    fn exists(&self, path: &Path) -> bool {
        self.disk().is_ok_and(|disk| disk.node(path).is_some())
    }

    fn create_dir_all(&self, directory: &Path) -> io::Result<()> {
        self.disk()?.create_dir_all(directory)
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        // As the kernel sees it: `..` leaves a directory, it is no name in it.
        assert!(!path.components().any(|part| part.as_os_str() == ".."), "{path:?} leads out of the store");
        let now_ms = self.tasks.wall_ms();
        let mut disk = self.disk()?;
        let inode = match how {
            Open::Existing | Open::ReadOnly => disk.open_existing(path),
            Open::New { reserve } => disk.create(path, reserve, now_ms),
            Open::Sparse { len } => disk.create_sparse(path, len, now_ms),
        }?;
        drop(disk);
        let writable = how != Open::ReadOnly;
        Ok(Arc::new(OneFile { files: self.clone(), inode, path: path.to_owned(), writable }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut disk = self.disk()?;
        let inode = disk.open_existing(path)?;
        let len = disk.len(inode);
        disk.read(inode, 0..len)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk()?.remove(path)
    }

    fn remove_dir_all(&self, directory: &Path) -> io::Result<()> {
        self.disk()?.remove_dir_all(directory)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk()?.rename(from, to)
    }

    fn sync_dir(&self, directory: &Path) -> BoxFuture<'static, Result<(), SyncFailed>> {
        let (files, directory) = (self.clone(), directory.to_owned());
        Box::pin(async move { files.sync_names(&directory).await.map_err(|error| failed(&directory, error)) })
    }

    fn replace(&self, path: &Path, content: Vec<u8>) -> BoxFuture<'static, io::Result<()>> {
        let (files, path) = (self.clone(), path.to_owned());
        Box::pin(async move {
            let with = |ending: &str| {
                let mut name = path.as_os_str().to_owned();
                name.push(ending);
                PathBuf::from(name)
            };
            let (temporary, backup, backup_aside) = (with(".tmp"), with(".bak"), with(".bak.tmp"));
            let now_ms = files.tasks.wall_ms();
            let inode = {
                let mut disk = files.disk()?;
                let inode = disk.create_sparse(&temporary, 0, now_ms)?;
                disk.truncate(inode);
                disk.write(inode, 0, &[&content], now_ms)?;
                inode
            };
            files.sync_file(inode).await?;
            {
                let mut disk = files.disk()?;
                if disk.node(&backup_aside).is_some() {
                    disk.remove(&backup_aside)?;
                }
                if disk.node(&path).is_some() {
                    disk.link(&path, &backup_aside)?;
                    disk.rename(&backup_aside, &backup)?;
                }
                disk.rename(&temporary, &path)?;
            }
            files.sync_names(path.parent().expect("a file has a directory")).await
        })
    }

    fn lock(&self, path: &Path, content: &str) -> Result<Box<dyn Held>, LockError> {
        let name = path.display().to_string();
        let broken = |error: io::Error| LockError::Failed { path: name.clone(), reason: error.to_string() };
        let now_ms = self.tasks.wall_ms();
        let mut disk = self.disk().map_err(broken)?;
        let inode = disk.create_sparse(path, 0, now_ms).map_err(broken)?;
        if !disk.lock(inode) {
            return Err(LockError::Taken { path: name, holder: None });
        }
        disk.write(inode, 0, &[content.as_bytes()], now_ms).map_err(broken)?;
        Ok(Box::new(Lock { files: self.clone(), inode }))
    }

    fn space(&self, _path: &Path) -> io::Result<Space> {
        Ok(Space { total_bytes: SPACE_BYTES, free_bytes: SPACE_BYTES - (1 << 30) })
    }
}

struct Lock {
    files: Files,
    inode: Inode,
}

impl Held for Lock {}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Ok(mut disk) = self.files.disk() {
            disk.unlock(self.inode);
        }
    }
}

impl OneFile {
    fn writable(&self) -> io::Result<MutexGuard<'_, Disk>> {
        if !self.writable {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "opened for reading only"));
        }
        self.files.disk()
    }
}

impl File for OneFile {
    fn len(&self) -> u64 {
        self.files.disk().map_or(0, |disk| disk.len(self.inode))
    }

    fn write(&self, at: u64, parts: &[&[u8]]) -> io::Result<()> {
        let now_ms = self.files.tasks.wall_ms();
        self.writable()?.write(self.inode, at, parts, now_ms)
    }

    fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        Ok(self.files.disk()?.read(self.inode, range)?.into())
    }

    fn zero(&self, range: Range<u64>) -> io::Result<()> {
        self.writable()?.zero(self.inode, range)
    }

    fn reserve(&self, range: Range<u64>) -> io::Result<()> {
        self.writable()?.reserve(self.inode, range)
    }

    fn start_write_back(&self, _range: Range<u64>) {}

    fn sync(&self) -> BoxFuture<'_, Result<(), SyncFailed>> {
        Box::pin(async move { self.files.sync_file(self.inode).await.map_err(|error| failed(&self.path, error)) })
    }
}

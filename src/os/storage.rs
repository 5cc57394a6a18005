//! Files by the kernel: bytes enter by `pwritev`, leave through a read-only mapping or by `pread`, blocks are reserved
//! by `fallocate`. Everything that `unsafe` is needed for in this project stands here.

use std::{
    fs::{self, OpenOptions},
    io::{self, IoSlice},
    ops::Range,
    os::{fd::AsRawFd, unix::fs::FileExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::UNIX_EPOCH,
};

use bytes::Bytes;
use memmap2::Mmap;
use rustix::{
    buffer::spare_capacity,
    fs::{FallocateFlags, fallocate, fdatasync, statvfs},
};
use smallvec::SmallVec;

use crate::env::{BoxFuture, File, Held, LockError, Open, Space, Storage, SyncFailed, storage::Entry};

/// What one `pwritev` may carry (Linux: UIO_MAXIOV).
const PARTS_MAX: usize = 1024;
/// Zeros are written in steps of this size where the file system cannot zero a range itself.
const ZERO_STEP_BYTES: usize = 1 << 20;

pub(super) struct Disk;

impl Storage for Disk {
    fn list(&self, directory: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(directory).map_err(at(directory, "cannot list"))? {
            let entry = entry?;
            let about = match entry.metadata() {
                Ok(about) => about,
                // Removed between the listing and the look at it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(at(&entry.path(), "cannot look at")(error)),
            };
            let modified = about.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            entries.push(Entry {
                name: entry.file_name().to_string_lossy().into_owned(),
                len: about.len(),
                is_dir: about.is_dir(),
                modified_ms: modified.map_or(0, |since| since.as_millis() as i64),
            });
        }
        entries.sort();
        Ok(entries)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn create_dir_all(&self, directory: &Path) -> io::Result<()> {
        fs::create_dir_all(directory).map_err(at(directory, "cannot create directory"))
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(DiskFile::open(path, how)?))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path).map_err(at(path, "cannot read"))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path).map_err(at(path, "cannot remove"))
    }

    fn remove_dir_all(&self, directory: &Path) -> io::Result<()> {
        fs::remove_dir_all(directory).map_err(at(directory, "cannot remove directory"))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to).map_err(at(from, "cannot rename"))
    }

    fn sync_dir(&self, directory: &Path) -> BoxFuture<'static, Result<(), SyncFailed>> {
        let directory = directory.to_owned();
        Box::pin(async move { sync_dir(&directory) })
    }

    fn replace(&self, path: &Path, content: Vec<u8>) -> BoxFuture<'static, io::Result<()>> {
        let path = path.to_owned();
        Box::pin(async move { replace(&path, &content) })
    }

    fn lock(&self, path: &Path, content: &str) -> Result<Box<dyn Held>, LockError> {
        let failed = |error: io::Error| LockError::Failed { path: shown(path), reason: error.to_string() };
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
        match try_lock_first_byte(&file) {
            Ok(()) => {}
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => {
                let holder = fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
                return Err(LockError::Taken { path: shown(path), holder: holder.filter(|text| !text.is_empty()) });
            }
            Err(error) => return Err(failed(error)),
        }
        file.write_all_at(content.as_bytes(), 0).map_err(failed)?;
        file.set_len(content.len() as u64).map_err(failed)?;
        Ok(Box::new(LockedFile { _file: file }))
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        // A store that does not exist yet will live where its nearest existing ancestor lives.
        let existing = path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("."));
        let about = statvfs(existing).map_err(|error| at(existing, "cannot ask for the space of")(error.into()))?;
        // As `df` and RocketMQ count: blocks kept back for the superuser are neither used nor free.
        let total = about.f_blocks.saturating_sub(about.f_bfree) + about.f_bavail;
        Ok(Space { total_bytes: total * about.f_frsize, free_bytes: about.f_bavail * about.f_frsize })
    }
}

/// Adds what was tried and the path to an error, keeping its kind.
fn at<'a>(path: &'a Path, what: &'a str) -> impl Fn(io::Error) -> io::Error + 'a {
    move |error| io::Error::new(error.kind(), format!("{what} {}: {error}", path.display()))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn sync_dir(directory: &Path) -> Result<(), SyncFailed> {
    // The parent of a relative name without a directory.
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let failed = |error: io::Error| SyncFailed { path: shown(directory), reason: error.to_string() };
    fs::File::open(directory).and_then(|opened| opened.sync_all()).map_err(failed)
}

/// See `Storage::replace`. The old content becomes `.bak` by a second name for the same file, so that at no moment
/// neither of the two names is complete.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let (aside, backup, backup_aside) = (suffixed(path, ".tmp"), suffixed(path, ".bak"), suffixed(path, ".bak.tmp"));
    let file = fs::File::create(&aside).map_err(at(&aside, "cannot create"))?;
    file.write_all_at(content, 0).map_err(at(&aside, "cannot write"))?;
    file.sync_all().map_err(at(&aside, "cannot sync"))?;
    drop(file);
    match fs::remove_file(&backup_aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&backup_aside, "cannot remove")(error)),
        _ => {}
    }
    match fs::hard_link(path, &backup_aside) {
        Ok(()) => fs::rename(&backup_aside, &backup).map_err(at(&backup, "cannot replace"))?,
        // The first content has no predecessor.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // A file system without second names: copy.
        Err(_) => {
            fs::copy(path, &backup_aside).map_err(at(&backup_aside, "cannot write"))?;
            fs::File::open(&backup_aside).and_then(|file| file.sync_all()).map_err(at(&backup_aside, "cannot sync"))?;
            fs::rename(&backup_aside, &backup).map_err(at(&backup, "cannot replace"))?;
        }
    }
    fs::rename(&aside, path).map_err(at(path, "cannot replace"))?;
    sync_dir(path.parent().unwrap_or(Path::new("/"))).map_err(io::Error::other)
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The lock dies with the descriptor.
struct LockedFile {
    _file: fs::File,
}

impl Held for LockedFile {}

#[allow(unsafe_code)]
fn try_lock_first_byte(file: &fs::File) -> io::Result<()> {
    // An open-file-description lock: unlike `flock` it collides with the lock that a JVM takes by `fcntl`, and unlike
    // that one it collides with a second open in the same process. `l_pid` must be 0 for it.
    let wanted = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 1,
        l_pid: 0,
    };
    // SAFETY: the descriptor is open as long as `file` is borrowed; the kernel only reads the struct that the pointer
    // names, which lives until the call returns.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &wanted) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

struct DiskFile {
    path: PathBuf,
    file: fs::File,
    len: AtomicU64,
    /// Opened the way of a log (`New`, `Existing`): read through a mapping, and its blocks stay reserved. Others are
    /// sparse: what is zeroed gives its blocks back.
    mapped: bool,
    /// The whole file as it was at the first read; `None` where the kernel refused the mapping.
    mapping: OnceLock<Option<Bytes>>,
    /// Set by the first failed sync, for good: the kernel forgets the failure, and a later success would be a lie.
    failed: Mutex<Option<SyncFailed>>,
}

impl DiskFile {
    fn open(path: &Path, how: Open) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true);
        match how {
            Open::Existing => options.write(true),
            Open::New { .. } => options.write(true).create_new(true),
            Open::Sparse { .. } => options.write(true).create(true).truncate(false),
            Open::ReadOnly => &mut options,
        };
        let file = options.open(path).map_err(at(path, "cannot open"))?;
        let len = file.metadata().map_err(at(path, "cannot look at"))?.len();
        let opened = DiskFile {
            path: path.to_owned(),
            file,
            len: AtomicU64::new(len),
            mapped: matches!(how, Open::Existing | Open::New { .. }),
            mapping: OnceLock::new(),
            failed: Mutex::new(None),
        };
        match how {
            Open::New { reserve } => {
                if let Err(error) = opened.reserve_blocks(0..reserve) {
                    // A file without its blocks must not be found by a later start.
                    let _ = fs::remove_file(path);
                    return Err(error);
                }
            }
            Open::Sparse { len: wanted } if wanted > len => {
                opened.file.set_len(wanted).map_err(at(path, "cannot extend"))?;
                opened.grew_to(wanted);
            }
            _ => {}
        }
        Ok(opened)
    }

    fn grew_to(&self, len: u64) {
        self.len.fetch_max(len, Ordering::AcqRel);
    }

    fn reserve_blocks(&self, range: Range<u64>) -> io::Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let size = range.end - range.start;
        loop {
            match fallocate(&self.file, FallocateFlags::empty(), range.start, size) {
                Ok(()) => {
                    self.grew_to(range.end);
                    return Ok(());
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                    let text = format!(
                        "the file system of {} cannot reserve blocks (fallocate), without which a full disk could \
                         damage the log: move the store to ext4, xfs, btrfs or tmpfs",
                        self.path.display()
                    );
                    return Err(io::Error::new(io::ErrorKind::Unsupported, text));
                }
                Err(error) => {
                    let what = format!("cannot reserve {size} bytes for");
                    return Err(at(&self.path, &what)(error.into()));
                }
            }
        }
    }

    /// The mapping of the file, made at the first call.
    fn mapping(&self) -> Option<&Bytes> {
        self.mapping.get_or_init(|| self.map().ok()).as_ref()
    }

    #[allow(unsafe_code)]
    fn map(&self) -> io::Result<Bytes> {
        if self.len() == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: the mapping is read-only and shared. Its memory stays valid as long as the `Mmap`, which the `Bytes`
        // own. The file is never truncated while it is open: nothing here shortens a file, the store directory is
        // locked against other brokers, and retention unlinks instead of truncating. Bytes of the mapping do change
        // when the one writer appends by `pwritev`; by `File`'s contract readers are handed only ranges that the
        // writer has finished writing and will not write again, so no borrowed byte changes under a reader.
        let mapping = unsafe { Mmap::map(&self.file)? };
        Ok(Bytes::from_owner(mapping))
    }

    fn check_end(&self, range: &Range<u64>) -> io::Result<()> {
        let len = self.len();
        if range.start <= range.end && range.end <= len {
            return Ok(());
        }
        let text = format!("bytes {}..{} of {} which has {len}", range.start, range.end, self.path.display());
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, text))
    }

    fn pread(&self, range: Range<u64>) -> io::Result<Bytes> {
        let mut bytes = Vec::with_capacity((range.end - range.start) as usize);
        let mut position = range.start;
        // Into memory that nobody has filled with zeros before.
        while position < range.end {
            match rustix::io::pread(&self.file, spare_capacity(&mut bytes), position) {
                Ok(0) => return Err(at(&self.path, "cannot read")(io::ErrorKind::UnexpectedEof.into())),
                Ok(read) => position += read as u64,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(at(&self.path, "cannot read")(error.into())),
            }
        }
        bytes.truncate((range.end - range.start) as usize);
        Ok(bytes.into())
    }
}

impl File for DiskFile {
    fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    fn write(&self, at_position: u64, parts: &[&[u8]]) -> io::Result<()> {
        let mut slices: SmallVec<[IoSlice<'_>; 16]> =
            parts.iter().filter(|part| !part.is_empty()).map(|part| IoSlice::new(part)).collect();
        let mut left = &mut slices[..];
        let mut position = at_position;
        while !left.is_empty() {
            let now = left.len().min(PARTS_MAX);
            match rustix::io::pwritev(&self.file, &left[..now], position) {
                Ok(0) => return Err(at(&self.path, "cannot write")(io::ErrorKind::WriteZero.into())),
                Ok(written) => {
                    // Fewer than asked for: the rest follows from where the kernel stopped.
                    position += written as u64;
                    IoSlice::advance_slices(&mut left, written);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(at(&self.path, "cannot write")(error.into())),
            }
        }
        self.grew_to(position);
        Ok(())
    }

    fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        self.check_end(&range)?;
        if self.mapped
            && let Some(mapping) = self.mapping()
            && range.end <= mapping.len() as u64
        {
            return Ok(mapping.slice(range.start as usize..range.end as usize));
        }
        self.pread(range)
    }

    fn read_cold(&self, range: Range<u64>) -> io::Result<Bytes> {
        self.check_end(&range)?;
        self.pread(range)
    }

    fn zero(&self, range: Range<u64>) -> io::Result<()> {
        self.check_end(&range)?;
        if range.is_empty() {
            return Ok(());
        }
        // Tens of thousands of sparse files of megabytes, each zeroed behind its end, must not fill the disk.
        let how = if self.mapped { FallocateFlags::ZERO_RANGE } else { FallocateFlags::PUNCH_HOLE };
        let size = range.end - range.start;
        if fallocate(&self.file, how | FallocateFlags::KEEP_SIZE, range.start, size).is_ok() {
            return Ok(());
        }
        // Not every file system can (tmpfs cannot): then zeros are written, which keeps the blocks as well.
        let zeros = vec![0; ZERO_STEP_BYTES.min((range.end - range.start) as usize)];
        let mut position = range.start;
        while position < range.end {
            let step = zeros.len().min((range.end - position) as usize);
            self.write(position, &[&zeros[..step]])?;
            position += step as u64;
        }
        Ok(())
    }

    fn reserve(&self, range: Range<u64>) -> io::Result<()> {
        self.reserve_blocks(range)
    }

    #[allow(unsafe_code)]
    fn start_write_back(&self, range: Range<u64>) {
        let (Ok(start), Ok(size)) = (i64::try_from(range.start), i64::try_from(range.end.saturating_sub(range.start)))
        else {
            return;
        };
        // Nothing depends on the outcome: an error shows at the sync.
        // SAFETY: the call takes numbers only, and the descriptor is open as long as `self.file` is borrowed.
        unsafe { libc::sync_file_range(self.file.as_raw_fd(), start, size, libc::SYNC_FILE_RANGE_WRITE) };
    }

    fn sync(&self) -> BoxFuture<'_, Result<(), SyncFailed>> {
        Box::pin(async move {
            // Held during the system call: of two syncs at a time one may see the error and the other a success that
            // is none.
            let mut failed = self.failed.lock().expect("nothing panics while it is held");
            if let Some(failed) = &*failed {
                return Err(failed.clone());
            }
            match rustix::io::retry_on_intr(|| fdatasync(&self.file)) {
                Ok(()) => Ok(()),
                Err(error) => {
                    let reason = io::Error::from(error).to_string();
                    Err(failed.insert(SyncFailed { path: shown(&self.path), reason }).clone())
                }
            }
        })
    }
}

#[cfg(test)]
mod tests;

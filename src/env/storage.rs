//! Files and directories, with the promises a log can be built on. Writing goes into the page cache at once;
//! only a sync makes it survive a power cut, and a failed sync promises nothing about anything written before it.

use std::{io, ops::Range, path::Path, sync::Arc};

use bytes::Bytes;

use super::BoxFuture;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// Read and write, length as it is.
    Existing,
    /// Created new (an existing one is an error), `reserve` bytes long, zero-filled, every block really reserved, so
    /// that writing into it cannot run out of space.
    New { reserve: u64 },
    /// Read and write, created if absent, made at least `len` bytes long without reserving blocks.
    Sparse { len: u64 },
    /// Read only.
    ReadOnly,
}

/// A sync failed: nothing written to the file since the last successful one may be relied upon, and no later
/// success can take that back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("sync of {path} failed: {reason}")]
pub struct SyncFailed {
    pub path: String,
    pub reason: String,
}

/// One file. There is one writer; readers read only what the writer has finished writing.
pub trait File: Send + Sync {
    fn len(&self) -> u64;
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Copies `parts` one behind the other to position `at`, into the page cache. All or an error.
    fn write(&self, at: u64, parts: &[&[u8]]) -> io::Result<()>;
    /// The bytes of `range`, which lies within the file; beyond the end is `UnexpectedEof`.
    fn read(&self, range: Range<u64>) -> io::Result<Bytes>;
    /// Like `read`, but never through a memory mapping: for cold ranges (recovery, far-behind consumers), where a
    /// missing page must not stall and a bad sector must be an error rather than a signal.
    fn read_cold(&self, range: Range<u64>) -> io::Result<Bytes> {
        self.read(range)
    }
    /// Makes `range` read as zeros; a file that was opened as a log keeps its blocks reserved, a sparse one may give them
    /// back.
    fn zero(&self, range: Range<u64>) -> io::Result<()>;
    /// Makes sure that the blocks of `range` are really reserved.
    fn reserve(&self, range: Range<u64>) -> io::Result<()>;
    /// Starts write-back of `range` without waiting for it. A hint.
    fn start_write_back(&self, range: Range<u64>);
    /// Makes everything written before the call durable. May block its thread: await it on a service only.
    fn sync(&self) -> BoxFuture<'_, Result<(), SyncFailed>>;
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    pub name: String,
    pub len: u64,
    pub is_dir: bool,
    /// Last modification, wall milliseconds.
    pub modified_ms: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Used and free; without what is kept back for the superuser.
    pub total_bytes: u64,
    pub free_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// `holder`: what the file says, "lock" and a pid unless Java wrote it.
    #[error("{path} is locked by another process{}", match holder.as_deref().and_then(|text| text.strip_prefix("lock ")) { Some(pid) => format!(", pid {pid}"), None => String::new() })]
    Taken { path: String, holder: Option<String> },
    #[error("{path} cannot be locked: {reason}")]
    Failed { path: String, reason: String },
}

/// A lock that is held as long as this lives (and no longer than the process).
pub trait Held: Send + Sync {}

pub trait Storage: Send + Sync {
    /// The directory's entries in order of their names; an absent directory is `NotFound`.
    fn list(&self, directory: &Path) -> io::Result<Vec<Entry>>;
    fn exists(&self, path: &Path) -> bool;
    fn create_dir_all(&self, directory: &Path) -> io::Result<()>;
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>>;
    /// A whole small file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    fn remove_dir_all(&self, directory: &Path) -> io::Result<()>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes the names in `directory` durable (creations, removals, renames before the call). May block its thread.
    fn sync_dir(&self, directory: &Path) -> BoxFuture<'static, Result<(), SyncFailed>>;
    /// Replaces a small file so that after a power cut it holds the old content or the new: writes `path.tmp`, syncs
    /// it, keeps the old content as `path.bak` if there was any, renames over, syncs the directory. May block its thread.
    fn replace(&self, path: &Path, content: Vec<u8>) -> BoxFuture<'static, io::Result<()>>;
    /// Takes the exclusive lock on byte 0 of `path` (created if absent; an open-file-description lock, so that it
    /// excludes a Java broker and a second broker of this process alike) and writes `content` into it.
    fn lock(&self, path: &Path, content: &str) -> Result<Box<dyn Held>, LockError>;
    /// Size and free bytes of the file system that holds `path`.
    fn space(&self, path: &Path) -> io::Result<Space>;
}

//! A disk that keeps exactly the promises of a real one: what is written is in the page cache, what is synced survives
//! a power cut, and nothing else is sure. Plain bookkeeping without waiting; `storage` puts env's traits around it.

mod faults;
pub mod image;
pub mod names;
#[cfg(madsim)]
pub mod storage;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{dice::Dice, trace::Trace};
pub use faults::{Faults, Lies};
use image::{Image, PAGE, PageSet, SECTOR, pages_of};
use names::{Inode, Names, Node};

#[derive(Default)]
struct FileState {
    seen: Image,
    durable: Image,
    dirty: BTreeSet<u64>,
    /// Bytes were written below here, and have become durable below there: zeros among them, too.
    written_end: u64,
    durable_end: u64,
    /// Pages whose blocks are reserved or written.
    allocated: PageSet,
    durable_allocated: PageSet,
    modified_ms: i64,
}

/// What a sync has still to do; made by `sync_begin`, worked off by `sync_batch`.
pub struct SyncJob {
    inode: Inode,
    left: Vec<u64>,
    batch: usize,
    len: u64,
    fails: bool,
    pub delay_us: u64,
}

/// How a power cut treats unsynced pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mercy {
    DropAll,
    KeepAll,
    Mixed,
}

pub struct Disk {
    names: Names,
    files: BTreeMap<Inode, FileState>,
    next_inode: Inode,
    locked: BTreeSet<Inode>,
    /// Handles of an earlier boot are ignored.
    epoch: u64,
    pub faults: Faults,
    pub lies: Lies,
    /// Bytes of the whole device.
    pub quota: u64,
    /// How many operations failed because a fault said so.
    pub injected: u64,
    /// Since when a write or a sync of the log has failed under the present process.
    pub log_failed: Option<Duration>,
    /// Lie: the last write, the epoch in which it was made, and how many writes of a later one it waits for.
    stale: Option<(u64, u32, Inode, u64, Vec<u8>)>,
    dice: Dice,
    trace: Trace,
}

fn error(kind: io::ErrorKind, text: &str) -> io::Error {
    io::Error::new(kind, text.to_owned())
}

fn eio() -> io::Error {
    io::Error::from_raw_os_error(5)
}

fn no_space() -> io::Error {
    io::Error::from_raw_os_error(28)
}

impl Disk {
    pub fn new(dice: Dice, trace: Trace) -> Disk {
        Disk {
            names: Names::default(),
            files: BTreeMap::new(),
            next_inode: 1,
            locked: BTreeSet::new(),
            epoch: 0,
            faults: Faults::default(),
            lies: Lies::planted(),
            quota: u64::MAX / 2,
            injected: 0,
            log_failed: None,
            stale: None,
            dice,
            trace,
        }
    }

    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    fn file(&self, inode: Inode) -> &FileState {
        self.files.get(&inode).expect("a handle keeps its file")
    }

    fn file_mut(&mut self, inode: Inode) -> &mut FileState {
        self.files.get_mut(&inode).expect("a handle keeps its file")
    }

    fn inject(&mut self, what: &'static str) {
        self.injected += 1;
        self.trace.sometimes(what);
    }

    /// Whether a power cut now would leave `range` of the file as the process sees it.
    pub fn is_durable(&self, path: &Path, range: Range<u64>) -> bool {
        let Some(Node::File(inode)) = self.names.get(path) else { return false };
        let file = self.file(inode);
        self.names.is_durable(path) && range.end <= file.durable.len && file.seen.is_same(&file.durable, &range)
    }

    // ---- names

    pub fn node(&self, path: &Path) -> Option<Node> {
        self.names.get(path)
    }

    fn file_at(&self, path: &Path) -> io::Result<Inode> {
        match self.names.get(path) {
            Some(Node::File(inode)) => Ok(inode),
            Some(Node::Dir) => Err(error(io::ErrorKind::IsADirectory, "is a directory")),
            None => Err(error(io::ErrorKind::NotFound, &format!("{}: no such file or directory", path.display()))),
        }
    }

    /// (name, length, is a directory, modified) of the directory's entries, by name.
    pub fn list(&self, directory: &Path) -> io::Result<Vec<(String, u64, bool, i64)>> {
        match self.names.get(directory) {
            Some(Node::Dir) => {}
            Some(Node::File(_)) => return Err(error(io::ErrorKind::NotADirectory, "not a directory")),
            None => return Err(error(io::ErrorKind::NotFound, &format!("{}: no such directory", directory.display()))),
        }
        let children = self.names.children(directory);
        Ok(children
            .into_iter()
            .map(|(path, node)| {
                let name = path.file_name().expect("a child has a name").to_string_lossy().into_owned();
                match node {
                    Node::Dir => (name, 0, true, 0),
                    Node::File(inode) => (name, self.file(inode).seen.len, false, self.file(inode).modified_ms),
                }
            })
            .collect())
    }

    pub fn create_dir_all(&mut self, directory: &Path) -> io::Result<()> {
        let mut missing: Vec<PathBuf> = Vec::new();
        for ancestor in directory.ancestors() {
            match self.names.get(ancestor) {
                Some(Node::Dir) => break,
                Some(Node::File(_)) => return Err(error(io::ErrorKind::NotADirectory, "not a directory")),
                None => missing.push(ancestor.to_owned()),
            }
        }
        for path in missing.iter().rev() {
            self.names.add(path, Node::Dir);
        }
        Ok(())
    }

    fn parent_exists(&self, path: &Path) -> io::Result<()> {
        match path.parent().and_then(|parent| self.names.get(parent)) {
            Some(Node::Dir) => Ok(()),
            _ => Err(error(io::ErrorKind::NotFound, &format!("{}: its directory does not exist", path.display()))),
        }
    }

    pub fn open_existing(&mut self, path: &Path) -> io::Result<Inode> {
        let inode = self.file_at(path)?;
        if self.dice.chance(self.faults.open_fails) {
            self.inject("disk: open failed");
            return Err(eio());
        }
        Ok(inode)
    }

    /// A new empty file with `reserve` bytes of reserved zeros.
    pub fn create(&mut self, path: &Path, reserve: u64, now_ms: i64) -> io::Result<Inode> {
        self.parent_exists(path)?;
        if self.names.get(path).is_some() {
            return Err(error(io::ErrorKind::AlreadyExists, &format!("{}: exists", path.display())));
        }
        if self.dice.chance(self.faults.create_no_space) || self.used_bytes() + reserve > self.quota {
            self.inject("disk: create found no space");
            return Err(no_space());
        }
        let inode = self.next_inode;
        self.next_inode += 1;
        let mut file = FileState { modified_ms: now_ms, ..FileState::default() };
        file.seen.len = reserve;
        file.allocated.insert(pages_of(&(0..reserve)));
        if self.lies.new_file_is_dirty {
            for number in pages_of(&(0..reserve)) {
                let noise = self.dice.next() as u8 | 1;
                file.seen.page_mut(number).fill(noise);
                file.dirty.insert(number);
            }
        }
        self.files.insert(inode, file);
        self.names.add(path, Node::File(inode));
        Ok(inode)
    }

    pub fn create_sparse(&mut self, path: &Path, len: u64, now_ms: i64) -> io::Result<Inode> {
        if self.names.get(path).is_none() {
            let inode = self.create(path, 0, now_ms)?;
            self.file_mut(inode).seen.len = len;
            return Ok(inode);
        }
        let inode = self.open_existing(path)?;
        let file = self.file_mut(inode);
        file.seen.len = file.seen.len.max(len);
        Ok(inode)
    }

    pub fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.file_at(path)?;
        self.names.remove(path);
        Ok(())
    }

    pub fn remove_dir_all(&mut self, directory: &Path) -> io::Result<()> {
        if self.names.get(directory) != Some(Node::Dir) {
            return Err(error(io::ErrorKind::NotFound, &format!("{}: no such directory", directory.display())));
        }
        for (path, _) in self.names.below(directory).iter().rev() {
            self.names.remove(path);
        }
        Ok(())
    }

    pub fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        if self.names.get(from).is_none() {
            return Err(error(io::ErrorKind::NotFound, &format!("{}: no such file or directory", from.display())));
        }
        self.parent_exists(to)?;
        if self.lies.rename_before_content
            && let Some(Node::File(inode)) = self.names.get(from)
        {
            // The name outlives a power cut, what was synced under the earlier one does not.
            let file = self.file_mut(inode);
            let len = file.seen.len;
            file.durable = Image::default();
            file.dirty.extend(pages_of(&(0..len)));
        }
        self.names.rename(from, to);
        Ok(())
    }

    /// A second name for a file (what `link(2)` does).
    pub fn link(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let inode = self.file_at(from)?;
        self.parent_exists(to)?;
        if self.names.get(to).is_some() {
            return Err(error(io::ErrorKind::AlreadyExists, &format!("{}: exists", to.display())));
        }
        self.names.add(to, Node::File(inode));
        Ok(())
    }

    /// Whether the sync of the directory takes effect; a failed one leaves it open what did.
    pub fn sync_dir(&mut self, directory: &Path) -> bool {
        if self.dice.chance(self.faults.sync_fails) {
            self.inject("disk: directory sync failed");
            return false;
        }
        if !self.lies.sync_dir_does_nothing {
            self.names.sync(directory);
        }
        true
    }

    // ---- content

    pub fn len(&self, inode: Inode) -> u64 {
        self.file(inode).seen.len
    }

    pub fn read(&mut self, inode: Inode, range: Range<u64>) -> io::Result<Vec<u8>> {
        if range.end > self.file(inode).seen.len || range.start > range.end {
            return Err(error(
                io::ErrorKind::UnexpectedEof,
                &format!("{range:?} is beyond the end, {}", self.file(inode).seen.len),
            ));
        }
        if self.dice.chance(self.faults.read_fails) {
            self.inject("disk: read failed");
            return Err(eio());
        }
        let mut bytes = Vec::with_capacity((range.end - range.start) as usize);
        self.file(inode).seen.read(range, &mut bytes);
        Ok(bytes)
    }

    /// Takes blocks for what is not reserved yet.
    fn allocate(&mut self, inode: Inode, range: &Range<u64>) -> io::Result<()> {
        let pages = pages_of(range);
        let new = (pages.end - pages.start) - self.file(inode).allocated.count_in(&pages);
        if new > 0 {
            if self.used_bytes() + new * PAGE > self.quota {
                self.inject("disk: write found no space");
                return Err(no_space());
            }
            self.file_mut(inode).allocated.insert(pages);
        }
        Ok(())
    }

    pub fn write(&mut self, inode: Inode, at: u64, parts: &[&[u8]], now_ms: i64) -> io::Result<()> {
        let len: u64 = parts.iter().map(|part| part.len() as u64).sum();
        if self.dice.chance(self.faults.write_fails) {
            self.inject("disk: write failed");
            return Err(eio());
        }
        self.allocate(inode, &(at..at + len))?;
        let file = self.file_mut(inode);
        file.modified_ms = now_ms;
        let mut position = at;
        for part in parts {
            file.seen.write(position, part);
            position += part.len() as u64;
        }
        file.written_end = file.written_end.max(position);
        file.dirty.extend(pages_of(&(at..at + len)));
        self.maybe_write_back(inode);
        if self.lies.stale_handle_writes {
            self.write_stale(inode, at, parts);
        }
        Ok(())
    }

    /// The lie: the last write of a process that is dead happens once more while its successor writes.
    fn write_stale(&mut self, inode: Inode, at: u64, parts: &[&[u8]]) {
        match self.stale.take() {
            Some((epoch, waits, whose, position, bytes)) if epoch < self.epoch => {
                if waits > 0 {
                    self.stale = Some((epoch, waits - 1, whose, position, bytes));
                } else if let Some(file) = self.files.get_mut(&whose) {
                    file.seen.write(position, &bytes);
                    file.dirty.extend(pages_of(&(position..position + bytes.len() as u64)));
                }
            }
            _ => self.stale = Some((self.epoch, 12, inode, at, parts.concat())),
        }
    }

    pub fn zero(&mut self, inode: Inode, range: Range<u64>) -> io::Result<()> {
        self.allocate(inode, &range)?;
        let file = self.file_mut(inode);
        file.dirty.extend(pages_of(&range));
        if range.end >= file.written_end {
            // A wiped tail: what is durable of it is not zeros, or never was anything else.
            file.written_end = file.written_end.min(range.start);
            file.durable_end = file.durable_end.min(range.start);
        }
        file.seen.zero(range);
        Ok(())
    }

    pub fn reserve(&mut self, inode: Inode, range: Range<u64>) -> io::Result<()> {
        self.allocate(inode, &range)?;
        let file = self.file_mut(inode);
        file.seen.len = file.seen.len.max(range.end);
        Ok(())
    }

    /// Empties a file, as opening with O_TRUNC does.
    pub fn truncate(&mut self, inode: Inode) {
        let file = self.file_mut(inode);
        file.seen.truncate(0);
        file.allocated.truncate(0);
        // What the device still holds of the old content goes with the next sync, not before.
        file.dirty = file.durable.page_numbers().collect();
    }

    fn maybe_write_back(&mut self, inode: Inode) {
        if self.dice.chance(self.faults.write_back) {
            let file = self.files.get(&inode).expect("a handle keeps its file");
            let at = self.dice.below(file.dirty.len().max(1) as u64) as usize;
            if let Some(number) = file.dirty.iter().nth(at).copied() {
                self.write_back(inode, number);
                self.trace.sometimes("disk: early write-back");
            }
        }
    }

    /// Copies one page to the device, with the content of this moment.
    fn write_back(&mut self, inode: Inode, number: u64) {
        let file = self.file_mut(inode);
        file.durable_end = file.durable_end.max(file.written_end.min((number + 1) * PAGE));
        file.durable.set_page(number, file.seen.page(number).cloned());
        file.dirty.remove(&number);
    }

    // ---- sync

    pub fn sync_begin(&mut self, inode: Inode) -> SyncJob {
        let mut left: Vec<u64> = self.file(inode).dirty.iter().copied().collect();
        if self.lies.sync_does_nothing {
            left.clear();
        }
        if self.lies.sync_forgets_last_page {
            left.pop();
        }
        self.dice.shuffle(&mut left);
        let batches = if self.dice.chance(self.faults.sync_in_batches) { self.dice.within(2, 4) } else { 1 };
        let (low, high) = self.faults.sync_us;
        SyncJob {
            inode,
            batch: left.len().div_ceil(batches as usize).max(1),
            left,
            len: self.file(inode).seen.len,
            fails: self.dice.chance(self.faults.sync_fails),
            delay_us: self.dice.log_within(low.max(1), high.max(1)) / batches,
        }
    }

    /// After each delay: `None` to wait once more, else whether the sync succeeded.
    pub fn sync_batch(&mut self, job: &mut SyncJob) -> Option<bool> {
        if job.fails {
            for number in std::mem::take(&mut job.left) {
                if self.dice.coin() {
                    self.write_back(job.inode, number);
                }
            }
            // What the kernel does: every page is clean now, and nobody will hear of it again.
            self.file_mut(job.inode).dirty.clear();
            self.inject("disk: sync failed");
            return Some(false);
        }
        for _ in 0..job.batch.min(job.left.len()) {
            let number = job.left.pop().expect("the count was taken from it");
            self.write_back(job.inode, number);
        }
        if !job.left.is_empty() {
            return None;
        }
        if !self.lies.sync_does_nothing {
            let file = self.file_mut(job.inode);
            file.durable.truncate(job.len);
            file.durable_allocated = file.allocated.clone();
        }
        Some(true)
    }

    // ---- lock and space

    /// Whether the lock was free.
    pub fn lock(&mut self, inode: Inode) -> bool {
        self.locked.insert(inode)
    }

    pub fn unlock(&mut self, inode: Inode) {
        self.locked.remove(&inode);
    }

    pub fn used_bytes(&self) -> u64 {
        let mut counted = BTreeSet::new();
        let files = self.names.seen().values().filter_map(|node| match node {
            Node::File(inode) if counted.insert(*inode) => Some(self.file(*inode).allocated.count() * PAGE),
            _ => None,
        });
        files.sum()
    }

    // ---- crashes and damage

    /// The process is gone, the page cache stays. Handles and locks of the process are void.
    pub fn process_death(&mut self) {
        self.epoch += 1;
        self.log_failed = None;
        self.locked.clear();
        self.collect();
    }

    /// The power is cut: pages that no sync covered are dropped, kept or torn by sectors; names and lengths that no
    /// sync covered vanish or stay.
    pub fn power_loss(&mut self) {
        self.epoch += 1;
        self.log_failed = None;
        self.locked.clear();
        if self.names.unsynced() > 0 {
            self.trace.sometimes("disk: power cut with unsynced names");
        }
        self.names.power_loss(&mut self.dice);
        let mercy = *self.dice.pick(&[Mercy::DropAll, Mercy::KeepAll, Mercy::Mixed, Mercy::Mixed]);
        let inodes: Vec<Inode> = self.files.keys().copied().collect();
        for inode in inodes {
            let dirty: Vec<u64> = self.file(inode).dirty.iter().copied().collect();
            if !dirty.is_empty() {
                self.trace.sometimes("disk: power cut with dirty pages");
            }
            for number in dirty {
                match mercy {
                    Mercy::DropAll => {}
                    Mercy::KeepAll => self.write_back(inode, number),
                    Mercy::Mixed => match self.dice.below(4) {
                        0 => {}
                        1 => self.write_back(inode, number),
                        _ => self.tear(inode, number),
                    },
                }
            }
            let choice = self.dice.below(3);
            let (seen, durable) = (self.file(inode).seen.len, self.file(inode).durable.len);
            let len = match choice {
                _ if seen == durable => seen,
                0 => durable,
                1 => seen,
                _ => self.dice.within(seen.min(durable), seen.max(durable)),
            };
            let keep_blocks = self.dice.coin();
            let file = self.file_mut(inode);
            file.durable.truncate(len);
            if !keep_blocks {
                file.allocated = file.durable_allocated.clone();
            }
            let written: Vec<u64> = file.durable.page_numbers().collect();
            for number in written {
                file.allocated.insert(number..number + 1);
            }
            file.durable_allocated = file.allocated.clone();
            file.seen = file.durable.clone();
            file.dirty.clear();
        }
        self.collect();
    }

    /// Some sectors of a page reach the device, the others do not. One that never held synced bytes may hold noise.
    fn tear(&mut self, inode: Inode, number: u64) {
        self.trace.sometimes("disk: torn page");
        const SECTORS: u64 = PAGE / SECTOR as u64;
        let way = self.dice.below(3);
        let cut = self.dice.below(SECTORS + 1);
        let noise = self.dice.below(8) == 0;
        for sector in 0..SECTORS {
            let arrives = match way {
                0 => sector < cut,
                1 => sector >= cut,
                _ => self.dice.coin(),
            };
            let bytes = sector as usize * SECTOR..(sector as usize + 1) * SECTOR;
            let file = self.files.get_mut(&inode).expect("a handle keeps its file");
            let empty = [0u8; SECTOR];
            let new = file.seen.page(number).map_or(empty.as_slice(), |page| &page[bytes.clone()]);
            let old = file.durable.page(number).map_or(empty.as_slice(), |page| &page[bytes.clone()]);
            if new == old {
                continue;
            }
            let value: [u8; SECTOR] = if arrives {
                new.try_into().expect("a sector")
            } else if noise && old == empty && number * PAGE + bytes.start as u64 >= file.durable_end {
                std::array::from_fn(|_| self.dice.next() as u8)
            } else {
                continue;
            };
            file.durable.page_mut(number)[bytes].copy_from_slice(&value);
        }
        self.file_mut(inode).dirty.remove(&number);
    }

    /// Forgets files without a name. Only when no handle can be left.
    fn collect(&mut self) {
        let named: BTreeSet<Inode> = self.names.inodes().collect();
        self.files.retain(|inode, _| named.contains(inode));
    }

    /// Flips one bit in what the disk holds, in the page cache too: the next reader sees it.
    pub fn rot(&mut self, path: &Path, at: u64, bit: u8) -> io::Result<()> {
        let inode = self.file_at(path)?;
        let file = self.file_mut(inode);
        assert!(at < file.seen.len, "there is nothing to rot at {at}");
        for image in [&mut file.seen, &mut file.durable] {
            image.page_mut(at / PAGE)[(at % PAGE) as usize] ^= 1 << (bit & 7);
        }
        Ok(())
    }

    /// What a lost (`to` absent) or misdirected write-back of page `from` leaves on the device.
    pub fn misdirect(&mut self, path: &Path, from: u64, to: Option<u64>) -> io::Result<()> {
        let inode = self.file_at(path)?;
        let file = self.file_mut(inode);
        let page = file.seen.page(from).cloned();
        for image in [&mut file.seen, &mut file.durable] {
            image.set_page(from, None);
            if let Some(to) = to {
                image.set_page(to, page.clone());
            }
        }
        Ok(())
    }

    /// The whole content of a file as the process sees it, without faults: for checkers.
    pub fn peek(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.file(self.file_at(path)?);
        let mut bytes = Vec::with_capacity(file.seen.len as usize);
        file.seen.read(0..file.seen.len, &mut bytes);
        Ok(bytes)
    }

    /// The files that a process sees.
    pub fn files(&self) -> impl Iterator<Item = PathBuf> {
        self.names.seen().iter().filter(|(_, node)| **node != Node::Dir).map(|(name, _)| name.path())
    }
}

#[cfg(test)]
mod tests;

//! One index file: from a key's hash to places in the log. Pure bookkeeping over one file; knows no other files.
//!
//! | part | bytes | |
//! |---|---|---|
//! | header | 40 | first and last entry's store timestamp 8 + 8, their log offsets 8 + 8, slots in use 4, count 4 |
//! | slots | 4 each | number of the newest entry whose hash falls here; 0 none |
//! | entries | 20 each | hash 4, log offset 8, seconds since the first entry 4, the slot's entry before this one 4 |
//!
//! Entry 0 is never used, so the count starts at 1. Big-endian. (Source: IndexFile and IndexHeader of Apache RocketMQ
//! 4.9.7, which reads what stands here and writes what is read here.)
//!
//! Entries are appended; slots change in memory and reach the file at a sync, in this order: entries, sync, slots,
//! header, sync. So all entries that a header counts are durable, and after an unclean stop the slots are made anew
//! from them.

use std::{io, ops::Range, path::Path, sync::Arc};

use bytes::Bytes;

use crate::{
    env::{File, Open, Storage},
    model::LogOffset,
};

pub const HEADER_BYTES: u64 = 40;
const ENTRY_BYTES: u64 = 20;
/// The front of the file is kept and written in pages of so many bytes.
const PAGE_BYTES: u64 = 4_096;
/// Entries that wait in memory.
const WAITING_MAX: usize = 1_024;
/// Entries read at once by a walk along a chain, and by a rebuild.
const WALK_ENTRIES: u32 = 200;
const REBUILD_ENTRIES: u32 = 50_000;

/// How many slots and entries a file has; an entry less than `entries` fits, as in Java.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub slots: u32,
    pub entries: u32,
}

impl Shape {
    pub fn file_bytes(self) -> u64 {
        self.entry_at(self.entries)
    }

    fn front_bytes(self) -> u64 {
        HEADER_BYTES + 4 * u64::from(self.slots)
    }

    pub(in crate::store) fn entry_at(self, number: u32) -> u64 {
        self.front_bytes() + ENTRY_BYTES * u64::from(number)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    pub begin_timestamp: i64,
    pub end_timestamp: i64,
    pub begin: LogOffset,
    pub end: LogOffset,
    pub slots_used: u32,
    /// One more than there are entries.
    pub count: u32,
}

impl Header {
    fn encode(&self) -> [u8; HEADER_BYTES as usize] {
        let mut bytes = [0; HEADER_BYTES as usize];
        bytes[..8].copy_from_slice(&self.begin_timestamp.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.end_timestamp.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.begin.0.to_be_bytes());
        bytes[24..32].copy_from_slice(&self.end.0.to_be_bytes());
        bytes[32..36].copy_from_slice(&self.slots_used.to_be_bytes());
        bytes[36..].copy_from_slice(&self.count.to_be_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Self {
        let long = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        Header {
            begin_timestamp: long(0) as i64,
            end_timestamp: long(8) as i64,
            begin: LogOffset(long(16)),
            end: LogOffset(long(24)),
            slots_used: word(32),
            // A new file of Java's has zeros there until its first entry.
            count: word(36).max(1),
        }
    }

    /// Whether the file may hold entries of that time (IndexFile.isTimeMatched).
    pub fn is_of_time(&self, begin: i64, end: i64) -> bool {
        begin <= self.end_timestamp && end >= self.begin_timestamp
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub hash: u32,
    pub offset: LogOffset,
    /// Since the file's first entry.
    pub seconds: u32,
    /// The entry before this one in its slot; 0 for none.
    pub previous: u32,
}

impl Entry {
    fn encode(&self) -> [u8; ENTRY_BYTES as usize] {
        let mut bytes = [0; ENTRY_BYTES as usize];
        bytes[..4].copy_from_slice(&self.hash.to_be_bytes());
        bytes[4..12].copy_from_slice(&self.offset.0.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.seconds.to_be_bytes());
        bytes[16..].copy_from_slice(&self.previous.to_be_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Self {
        let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let offset = u64::from_be_bytes(bytes[4..12].try_into().expect("eight bytes"));
        Entry { hash: word(0), offset: LogOffset(offset), seconds: word(12), previous: word(16) }
    }
}

/// Java's `hashCode` of a key so far; parts follow each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyHash(u32);

impl KeyHash {
    /// The hash of "topic#", which all keys of a topic share.
    pub fn of_topic(topic: &str) -> Self {
        KeyHash::default().and(topic).and("#")
    }

    pub fn and(self, text: &str) -> Self {
        const P2: u32 = 31 * 31;
        const P3: u32 = 31 * P2;
        const P4: u32 = 31 * P3;
        if !text.is_ascii() {
            let next = |hash: u32, unit: u16| hash.wrapping_mul(31).wrapping_add(unit.into());
            return KeyHash(text.encode_utf16().fold(self.0, next));
        }
        // Four at a time: the multiplications do not wait for each other.
        let (fours, rest) = text.as_bytes().as_chunks::<4>();
        let hash = fours.iter().fold(self.0, |hash, &[a, b, c, d]| {
            let four = u32::from(a) * P3 + u32::from(b) * P2 + u32::from(c) * 31 + u32::from(d);
            hash.wrapping_mul(P4).wrapping_add(four)
        });
        KeyHash(rest.iter().fold(hash, |hash, byte| hash.wrapping_mul(31).wrapping_add((*byte).into())))
    }

    /// What the file keeps: never negative.
    pub fn finish(self) -> u32 {
        match (self.0 as i32).checked_abs() {
            Some(hash) => hash as u32,
            None => 0,
        }
    }
}

/// Header and slots as far as they are in memory.
#[derive(Default)]
struct Front {
    /// Empty until a slot is needed; then all of it, though the kernel gives memory only to pages that are touched.
    bytes: Vec<u8>,
    /// By page.
    loaded: Vec<bool>,
    dirty: Vec<bool>,
}

impl Front {
    /// `blank`: what is not in memory is zeros.
    fn make(&mut self, shape: Shape, blank: bool) {
        let pages = shape.front_bytes().div_ceil(PAGE_BYTES) as usize;
        self.bytes = vec![0; shape.front_bytes() as usize];
        self.loaded = vec![blank; pages];
        self.dirty = vec![false; pages];
    }

    fn range_of(&self, page: usize) -> Range<usize> {
        let start = page * PAGE_BYTES as usize;
        start..(start + PAGE_BYTES as usize).min(self.bytes.len())
    }

    /// The place of a slot, which lies within one page.
    fn place(slot: u32) -> Range<usize> {
        let at = (HEADER_BYTES + 4 * u64::from(slot)) as usize;
        at..at + 4
    }

    fn get(&mut self, shape: Shape, file: &dyn File, slot: u32) -> io::Result<u32> {
        if self.bytes.is_empty() {
            self.make(shape, false);
        }
        let place = Self::place(slot);
        let page = place.start / PAGE_BYTES as usize;
        if !self.loaded[page] {
            let range = self.range_of(page);
            let bytes = file.read_cold(range.start as u64..range.end as u64)?;
            self.bytes[range].copy_from_slice(&bytes);
            self.loaded[page] = true;
        }
        Ok(u32::from_be_bytes(self.bytes[place].try_into().expect("four bytes")))
    }

    /// The slot, without keeping its page.
    fn peek(&self, file: &dyn File, slot: u32) -> io::Result<u32> {
        let place = Self::place(slot);
        let value = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().expect("four bytes"));
        match self.loaded.get(place.start / PAGE_BYTES as usize) {
            Some(true) => Ok(value(&self.bytes[place])),
            _ => Ok(value(&file.read_cold(place.start as u64..place.end as u64)?)),
        }
    }

    /// The slot has been read before.
    fn set(&mut self, slot: u32, value: u32) {
        let place = Self::place(slot);
        self.dirty[place.start / PAGE_BYTES as usize] = true;
        self.bytes[place].copy_from_slice(&value.to_be_bytes());
    }
}

/// A file that takes entries, or has taken some that no sync covers yet.
pub struct IndexFile {
    pub name: String,
    pub shape: Shape,
    pub file: Arc<dyn File>,
    pub header: Header,
    /// Entries in the file, counted as the header counts.
    written: u32,
    /// Those behind them.
    waiting: Vec<u8>,
    front: Front,
    /// Every record below has its entries here durably; `None`: all have.
    pub unsynced_from: Option<LogOffset>,
}

impl IndexFile {
    pub fn create(storage: &dyn Storage, directory: &Path, name: String, shape: Shape) -> io::Result<Self> {
        let file = storage.open(&directory.join(&name), Open::Sparse { len: shape.file_bytes() })?;
        let mut created = Self::of(name, shape, file, Header { count: 1, ..Header::default() });
        created.front.make(shape, true);
        Ok(created)
    }

    /// Opens a file that was synced whole. `None` if it does not look like that.
    pub fn open(storage: &dyn Storage, directory: &Path, name: String, shape: Shape) -> io::Result<Option<Self>> {
        let file = storage.open(&directory.join(&name), Open::Sparse { len: shape.file_bytes() })?;
        let header = Header::decode(&file.read_cold(0..HEADER_BYTES)?);
        let opened = Self::of(name, shape, file, header);
        Ok(opened.ends_fit()?.then_some(opened))
    }

    fn of(name: String, shape: Shape, file: Arc<dyn File>, header: Header) -> Self {
        let written = header.count;
        IndexFile {
            name,
            shape,
            file,
            header,
            written,
            waiting: Vec::new(),
            front: Front::default(),
            unsynced_from: None,
        }
    }

    /// The header agrees with the first and the last entry.
    fn ends_fit(&self) -> io::Result<bool> {
        let Header { count, begin, end, .. } = self.header;
        if count == 1 {
            return Ok(true);
        }
        if count > self.shape.entries || begin > end {
            return Ok(false);
        }
        Ok(self.read_entry(1)?.offset == begin && self.read_entry(count - 1)?.offset == end)
    }

    fn read_entry(&self, number: u32) -> io::Result<Entry> {
        let at = self.shape.entry_at(number);
        Ok(Entry::decode(&self.file.read_cold(at..at + ENTRY_BYTES)?))
    }

    /// Opens a file that may have been written half: keeps the entries of records below `below` that are whole, makes
    /// the slots anew from them. Nothing is written yet, but known to need it.
    pub fn rebuild(
        storage: &dyn Storage,
        directory: &Path,
        name: String,
        shape: Shape,
        below: LogOffset,
    ) -> io::Result<Self> {
        let file = storage.open(&directory.join(&name), Open::Sparse { len: shape.file_bytes() })?;
        let found = Header::decode(&file.read_cold(0..HEADER_BYTES)?);
        Self::of(name, shape, file, found).cut(below)
    }

    /// Without the entries from the first one on that points at `below` or behind.
    pub fn cut(mut self, below: LogOffset) -> io::Result<Self> {
        self.write_entries()?;
        let IndexFile { name, shape, file, header: found, .. } = self;
        let mut kept = Header { slots_used: 0, count: 1, end: found.begin, ..found };
        let mut front = Front::default();
        front.make(shape, true);
        'scan: while kept.count < found.count.min(shape.entries) {
            let until = found.count.min(shape.entries).min(kept.count + REBUILD_ENTRIES);
            let bytes = file.read_cold(shape.entry_at(kept.count)..shape.entry_at(until))?;
            for bytes in bytes.as_chunks::<{ ENTRY_BYTES as usize }>().0 {
                let entry = Entry::decode(bytes);
                let is_whole = entry.hash <= i32::MAX as u32 && entry.previous < kept.count;
                let is_first = kept.count == 1 && entry.offset != found.begin;
                if !is_whole || is_first || entry.offset < kept.end || entry.offset >= below {
                    break 'scan;
                }
                let slot = entry.hash % shape.slots;
                kept.slots_used += u32::from(front.get(shape, &*file, slot)? == 0);
                front.set(slot, kept.count);
                kept.end = entry.offset;
                kept.end_timestamp = found.begin_timestamp.saturating_add(i64::from(entry.seconds) * 1_000);
                kept.count += 1;
            }
        }
        if kept.count == found.count {
            // The last entry's time is known to the millisecond.
            kept.end_timestamp = found.end_timestamp;
        } else if kept.count == 1 {
            kept = Header { count: 1, ..Header::default() };
        }
        front.mark_differences(&*file)?;
        Ok(IndexFile { front, unsynced_from: Some(LogOffset(0)), ..Self::of(name, shape, file, kept) })
    }

    pub fn is_full(&self) -> bool {
        self.header.count >= self.shape.entries
    }

    /// Takes in one key of the record at `offset`. The file is not full.
    pub fn put(&mut self, hash: u32, offset: LogOffset, store_timestamp: i64) -> io::Result<()> {
        let count = self.header.count;
        assert!(count < self.shape.entries, "a full index file takes no entries");
        let slot = hash % self.shape.slots;
        let found = self.front.get(self.shape, &*self.file, slot)?;
        // A slot may point at an entry that a crash took back.
        let previous = if (1..count).contains(&found) && !plant!(IndexChainBroken) { found } else { 0 };
        if count == 1 {
            (self.header.begin, self.header.begin_timestamp) = (offset, store_timestamp);
        }
        let seconds = match self.header.begin_timestamp {
            ..=0 => 0,
            begin => ((store_timestamp - begin) / 1_000).clamp(0, i32::MAX.into()),
        };
        let entry = Entry { hash, offset, seconds: seconds as u32, previous };
        self.waiting.extend_from_slice(&entry.encode());
        self.front.set(slot, count);
        self.header.slots_used += u32::from(previous == 0);
        self.header.count = count + 1;
        (self.header.end, self.header.end_timestamp) = (offset, store_timestamp);
        self.unsynced_from.get_or_insert(offset);
        if self.waiting.len() >= WAITING_MAX * ENTRY_BYTES as usize { self.write_entries() } else { Ok(()) }
    }

    /// Writes the waiting entries into the page cache.
    pub fn write_entries(&mut self) -> io::Result<()> {
        if !self.waiting.is_empty() {
            self.file.write(self.shape.entry_at(self.written), &[&self.waiting])?;
            self.written = self.header.count;
            self.waiting.clear();
        }
        Ok(())
    }

    /// Writes up to `pages` changed pages of slots from page `from` on; the page to go on with, if there are more.
    pub fn write_slots(&mut self, from: usize, pages: usize) -> io::Result<Option<usize>> {
        let Some(start) = (from..self.front.dirty.len()).find(|page| self.front.dirty[*page]) else { return Ok(None) };
        let count = self.front.dirty[start..].iter().take(pages).take_while(|dirty| **dirty).count();
        let end = start + count;
        let bytes = self.front.range_of(start).start..self.front.range_of(end - 1).end;
        // The header is written last.
        let bytes = bytes.start.max(HEADER_BYTES as usize)..bytes.end;
        self.file.write(bytes.start as u64, &[&self.front.bytes[bytes]])?;
        self.front.dirty[start..end].fill(false);
        Ok(Some(end))
    }

    /// Writes a header whose entries are durable.
    pub fn write_header(&self, header: &Header) -> io::Result<()> {
        self.file.write(0, &[&header.encode()])
    }

    /// Lets go of the slots in memory, unless some are not written.
    pub fn rest(&mut self) {
        if self.unsynced_from.is_none() && !self.front.dirty.contains(&true) {
            self.front = Front::default();
        }
    }

    /// What a search in this file for `hash` needs, without holding the file up.
    pub fn view(&self, hash: u32) -> io::Result<View> {
        let newest = self.front.peek(&*self.file, hash % self.shape.slots)?;
        Ok(View {
            file: self.file.clone(),
            shape: self.shape,
            header: self.header,
            written: self.written,
            waiting: self.waiting.clone(),
            newest,
        })
    }
}

impl Front {
    /// All pages are in memory: those that the file has otherwise are to be written.
    fn mark_differences(&mut self, file: &dyn File) -> io::Result<()> {
        const STEP_PAGES: usize = 256;
        for first in (0..self.loaded.len()).step_by(STEP_PAGES) {
            let last = (first + STEP_PAGES).min(self.loaded.len()) - 1;
            let (start, end) = (self.range_of(first).start, self.range_of(last).end);
            let found = file.read_cold(start as u64..end as u64)?;
            for page in first..=last {
                let range = self.range_of(page);
                let range = range.start.max(HEADER_BYTES as usize)..range.end;
                self.dirty[page] = self.bytes[range.clone()] != found[range.start - start..range.end - start];
            }
        }
        Ok(())
    }
}

/// A file as it was at one moment, to be searched along the chain of one slot.
pub struct View {
    file: Arc<dyn File>,
    shape: Shape,
    pub header: Header,
    written: u32,
    waiting: Vec<u8>,
    newest: u32,
}

impl View {
    /// A file that is complete.
    pub fn open(storage: &dyn Storage, path: &Path, shape: Shape, hash: u32) -> io::Result<Self> {
        let file = storage.open(path, Open::ReadOnly)?;
        let header = Header::decode(&file.read_cold(0..HEADER_BYTES)?);
        let newest = Front::default().peek(&*file, hash % shape.slots)?;
        Ok(View { file, shape, header, written: header.count, waiting: Vec::new(), newest })
    }

    /// Adds the places of entries with `hash` stored from `begin` to `end`, newest first, until `found` has `max`.
    pub fn collect(&self, hash: u32, begin: i64, end: i64, max: usize, found: &mut Vec<LogOffset>) -> io::Result<()> {
        let mut next = self.newest;
        let mut block: Option<(u32, Bytes)> = None;
        let mut bound = self.header.count;
        // Chains go backwards; one that does not is damaged and ends there.
        while (1..bound).contains(&next) && found.len() < max {
            bound = next;
            let entry = self.entry(next, &mut block)?;
            let stored = self.header.begin_timestamp.saturating_add(i64::from(entry.seconds as i32) * 1_000);
            if entry.hash == hash && (begin..=end).contains(&stored) {
                found.push(entry.offset);
            }
            if stored < begin {
                break;
            }
            next = entry.previous;
        }
        Ok(())
    }

    fn entry(&self, number: u32, block: &mut Option<(u32, Bytes)>) -> io::Result<Entry> {
        const BYTES: usize = ENTRY_BYTES as usize;
        if number >= self.written {
            let at = (number - self.written) as usize * BYTES;
            return Ok(Entry::decode(&self.waiting[at..at + BYTES]));
        }
        let first = number - number % WALK_ENTRIES;
        if block.as_ref().is_none_or(|(of, _)| *of != first) {
            let until = (first + WALK_ENTRIES).min(self.written);
            *block = Some((first, self.file.read_cold(self.shape.entry_at(first)..self.shape.entry_at(until))?));
        }
        let (_, bytes) = block.as_ref().expect("just read");
        let at = (number - first) as usize * BYTES;
        Ok(Entry::decode(&bytes[at..at + BYTES]))
    }
}

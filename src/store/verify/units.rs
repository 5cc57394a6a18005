//! Units of consume queues, read for a check: a stretch of each in memory, nothing held open.

use std::{collections::BTreeMap, io, path::PathBuf};

use crate::{
    env::{Open, Storage},
    store::{
        consume_queue::UNIT_BYTES,
        segment::{name_of, offset_of},
    },
};

/// Queues whose units are held in memory at once, and units of each.
const QUEUES_OPEN_MAX: usize = 2_048;
const UNITS_READ: u64 = 400;

/// What a queue has at a place.
pub enum Found {
    /// The queue is not there at all: its topic was deleted.
    NoQueue,
    Unit {
        offset: u64,
        size: u32,
        tags: i64,
        file: PathBuf,
        at: u64,
    },
    Missing {
        file: PathBuf,
    },
}

/// Units of consume queues, a stretch of each in memory.
pub struct Units<'s> {
    storage: &'s dyn Storage,
    pub root: PathBuf,
    open: BTreeMap<(String, u32), Stretch>,
}

struct Stretch {
    directory: PathBuf,
    /// Position of the first byte of each file, and its length.
    files: Vec<(u64, u64)>,
    first: u64,
    bytes: Vec<u8>,
}

impl<'s> Units<'s> {
    pub fn new(storage: &'s dyn Storage, root: PathBuf) -> Self {
        Units { storage, root, open: BTreeMap::new() }
    }

    pub fn get(&mut self, topic: &str, id: u32, place: u64) -> io::Result<Found> {
        let key = (topic.to_owned(), id);
        if !self.open.contains_key(&key) {
            if self.open.len() >= QUEUES_OPEN_MAX {
                self.open.clear();
            }
            let directory = self.root.join(topic).join(id.to_string());
            let files = match self.storage.list(&directory) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
                files => files?.iter().filter_map(|file| Some((offset_of(&file.name)?, file.len))).collect(),
            };
            self.open.insert(key.clone(), Stretch { directory, files, first: 0, bytes: Vec::new() });
        }
        self.open.get_mut(&key).expect("just put there").get(self.storage, place)
    }
}

impl Stretch {
    fn get(&mut self, storage: &dyn Storage, place: u64) -> io::Result<Found> {
        if self.files.is_empty() {
            return Ok(Found::NoQueue);
        }
        let position = place * UNIT_BYTES;
        let holds = |(base, len): &&(u64, u64)| (*base..base + len).contains(&position);
        let Some((base, len)) = self.files.iter().find(holds).copied() else {
            // Below the first file: retention took it.
            let file = self.directory.join(name_of(self.files[0].0));
            return Ok(if position < self.files[0].0 { Found::NoQueue } else { Found::Missing { file } });
        };
        let file = self.directory.join(name_of(base));
        let loaded = self.first..self.first + self.bytes.len() as u64 / UNIT_BYTES;
        if !loaded.contains(&place) {
            let at = position - base;
            let end = len.min(at + UNITS_READ * UNIT_BYTES);
            self.bytes = storage.open(&file, Open::ReadOnly)?.read_cold(at..end)?.to_vec();
            self.first = place;
        }
        let at = ((place - self.first) * UNIT_BYTES) as usize;
        let Some(unit) = self.bytes.get(at..at + UNIT_BYTES as usize) else { return Ok(Found::Missing { file }) };
        let long = |at: usize| u64::from_be_bytes(unit[at..at + 8].try_into().expect("eight bytes"));
        let size = u32::from_be_bytes(unit[8..12].try_into().expect("four bytes"));
        Ok(Found::Unit { offset: long(0), size, tags: long(12) as i64, file, at: position - base })
    }
}

//! Consume queues read directly: whether they point to a message, and how long they are.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    env::{File, Open, Storage},
    model::message::sys_flag,
    store::{consume_queue::UNIT_BYTES, record::Record, segment::offset_of},
};

/// Files held open.
const FILES_MAX: usize = 512;

type QueueFiles = Vec<(u64, u64, PathBuf)>;

pub struct QueueReader {
    storage: Arc<dyn Storage>,
    directory: PathBuf,
    queues: BTreeMap<(String, u32), QueueFiles>,
    open: BTreeMap<PathBuf, Arc<dyn File>>,
}

impl QueueReader {
    pub fn new(storage: Arc<dyn Storage>, root: &Path) -> Self {
        QueueReader { storage, directory: root.join("consumequeue"), queues: BTreeMap::new(), open: BTreeMap::new() }
    }

    /// What is wrong with the unit that should point to `record`; `None` if it is right, or nobody can say.
    pub fn check(&mut self, record: &Record<'_>) -> Option<String> {
        let message = &record.message;
        let kind = message.sys_flag & sys_flag::TRANSACTION_MASK;
        if kind == sys_flag::TRANSACTION_PREPARED || kind == sys_flag::TRANSACTION_ROLLBACK {
            return None;
        }
        let (topic, queue, offset) = (message.topic, message.queue_id, record.queue_offset.0);
        let (at, size) = match self.unit(topic, queue, offset) {
            Ok(Some(unit)) => unit,
            // The topic was deleted, or its oldest files have expired.
            Ok(None) => return None,
            Err(error) => return Some(format!("the queue {topic}/{queue} cannot be read at {offset}: {error}")),
        };
        // A later position belongs to a new life of a topic that was deleted and made again.
        if at > record.log_offset.0 || (at == record.log_offset.0 && size == record.size) {
            return None;
        }
        Some(format!(
            "the queue {topic}/{queue} does not point to its message {offset}: it says log offset {at}, size {size}"
        ))
    }

    /// Log offset and size in the unit of a queue offset; `None` below the queue's first file or without files.
    fn unit(&mut self, topic: &str, queue: u32, offset: u64) -> io::Result<Option<(u64, u32)>> {
        let key = (topic.to_owned(), queue);
        if !self.queues.contains_key(&key) {
            let files = files(&*self.storage, &self.directory.join(topic).join(queue.to_string()));
            self.queues.insert(key.clone(), files);
        }
        let position = offset * UNIT_BYTES;
        let files = &self.queues[&key];
        let Some((base, len, path)) = files.iter().rev().find(|(base, ..)| *base <= position) else { return Ok(None) };
        if position + UNIT_BYTES > base + len {
            return Ok(Some((0, 0)));
        }
        let file = match self.open.get(path) {
            Some(file) => file.clone(),
            None => {
                if self.open.len() >= FILES_MAX {
                    self.open.clear();
                }
                let file = self.storage.open(path, Open::ReadOnly)?;
                self.open.insert(path.clone(), file.clone());
                file
            }
        };
        let at = position - base;
        let unit = file.read_cold(at..at + UNIT_BYTES)?;
        let log_offset = u64::from_be_bytes(unit[..8].try_into().expect("eight bytes were taken"));
        let size = u32::from_be_bytes(unit[8..12].try_into().expect("four bytes were taken"));
        Ok(Some((log_offset, size)))
    }
}

/// Base position, length and path of a queue's files in order; none if there is no such directory.
fn files(storage: &dyn Storage, directory: &Path) -> QueueFiles {
    let entries = storage.list(directory).unwrap_or_default();
    entries.iter().filter_map(|entry| Some((offset_of(&entry.name)?, entry.len, directory.join(&entry.name)))).collect()
}

/// First queue offset and the one behind the last message.
pub fn bounds(storage: &dyn Storage, directory: &Path) -> io::Result<(u64, u64)> {
    let files = files(storage, directory);
    let (Some((first, ..)), Some((base, len, path))) = (files.first(), files.last()) else { return Ok((0, 0)) };
    let file = storage.open(path, Open::ReadOnly)?;
    // Units are written from the front: the first one without a size ends the queue.
    let (mut low, mut high) = (0, len.min(&file.len()) / UNIT_BYTES);
    while low < high {
        let middle = (low + high) / 2;
        let size = file.read_cold(middle * UNIT_BYTES + 8..middle * UNIT_BYTES + 12)?;
        if size.iter().all(|byte| *byte == 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Ok((first / UNIT_BYTES, base / UNIT_BYTES + low))
}

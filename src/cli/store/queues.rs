//! How long consume queues are, read directly.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    env::{Open, Storage},
    store::{consume_queue::UNIT_BYTES, segment::offset_of},
};

type QueueFiles = Vec<(u64, u64, PathBuf)>;

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

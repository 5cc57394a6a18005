//! What RocketMQ 5 may keep in a store that is not served here. Looked for before anything is touched: whoever opens such a
//! store without it would lose messages in silence. Folders that are there but hold nothing are no reason to refuse.

use std::{io, path::Path};

use crate::env::{Open, Storage};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Foreign {
    #[error(
        "{root}/consumequeue holds RocksDB queues (storeType=defaultRocksDB), which are not served: let RocketMQ 5 write \
         file queues beside them (rocksdbCQDoubleWriteEnable=true) until they are complete, or consume everything first and \
         move the directory away"
    )]
    RocksDbQueues { root: String },
    #[error(
        "{root}/config/{table} is a RocksDB table, which is not served: start RocketMQ 5 once with storeType=default and \
         realTimePersistRocksDBConfig=false, or export it with `mqadmin rocksDBConfigToJson`"
    )]
    RocksDbConfig { root: String, table: &'static str },
    #[error(
        "{root}/batchconsumequeue holds batch queues, which are not served: consume what is in them before the change"
    )]
    BatchQueues { root: String },
    #[error(
        "{root}/timerwheel holds {count} messages that are still to be delivered at a time of their own, which is not \
         served: let RocketMQ 5 deliver them first"
    )]
    TimerMessages { root: String, count: u64 },
    #[error("{path} cannot be read: {reason}")]
    Unreadable { path: String, reason: String },
}

/// RocksDB's own file, in every directory of it.
const ROCKSDB_MARK: &str = "CURRENT";
const TABLES: [&str; 3] = ["topics", "subscriptionGroups", "consumerOffsets"];
/// A slot of the wheel: time (seconds) 8, first 8, last 8, number of messages 4, magic 4.
const SLOT_BYTES: usize = 32;
const PIECE_BYTES: u64 = 1 << 20;

/// Refuses a store that holds what is not served.
pub fn check(storage: &dyn Storage, root: &Path) -> Result<(), Foreign> {
    let named = || root.display().to_string();
    if storage.exists(&root.join("consumequeue").join(ROCKSDB_MARK)) {
        return Err(Foreign::RocksDbQueues { root: named() });
    }
    for table in TABLES {
        if storage.exists(&root.join("config").join(table).join(ROCKSDB_MARK)) {
            return Err(Foreign::RocksDbConfig { root: named(), table });
        }
    }
    if has_files(storage, &root.join("batchconsumequeue"), 3).map_err(|error| unreadable(root, &error))? {
        return Err(Foreign::BatchQueues { root: named() });
    }
    match pending(storage, root).map_err(|error| unreadable(root, &error))? {
        0 => Ok(()),
        count => Err(Foreign::TimerMessages { root: named(), count }),
    }
}

fn unreadable(root: &Path, error: &io::Error) -> Foreign {
    Foreign::Unreadable { path: root.display().to_string(), reason: error.to_string() }
}

/// Whether there is a file with content, so many floors down.
fn has_files(storage: &dyn Storage, directory: &Path, floors: u32) -> io::Result<bool> {
    let entries = match storage.list(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        entries => entries?,
    };
    for entry in entries {
        let found = match entry.is_dir {
            true => floors > 0 && has_files(storage, &directory.join(&entry.name), floors - 1)?,
            false => entry.len > 0,
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Messages in slots of the wheel that it had not come to when it stopped.
fn pending(storage: &dyn Storage, root: &Path) -> io::Result<u64> {
    let path = root.join("timerwheel");
    if !storage.exists(&path) {
        return Ok(0);
    }
    // The first word of its checkpoint: milliseconds up to which slots were read.
    let checkpoint = storage.read(&root.join("config/timercheck")).unwrap_or_default();
    let read_ms = checkpoint.first_chunk().map_or(0, |word| i64::from_be_bytes(*word));
    let file = storage.open(&path, Open::ReadOnly)?;
    let (mut at, mut count) = (0, 0);
    while at < file.len() {
        let end = (at + PIECE_BYTES).min(file.len());
        let piece = file.read_cold(at..end)?;
        count += piece.chunks_exact(SLOT_BYTES).map(|slot| waiting(slot, read_ms)).sum::<u64>();
        at = end;
    }
    Ok(count)
}

fn waiting(slot: &[u8], read_ms: i64) -> u64 {
    let word = |at: usize| i64::from_be_bytes(slot[at..at + 8].try_into().expect("eight bytes"));
    let messages = i32::from_be_bytes(slot[24..28].try_into().expect("four bytes"));
    match word(0).saturating_mul(1_000) > read_ms {
        true => u64::try_from(messages).unwrap_or(0),
        false => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_that_are_still_to_come_count() {
        let slot = |time_s: i64, messages: i32| {
            let mut slot = [0; SLOT_BYTES];
            slot[..8].copy_from_slice(&time_s.to_be_bytes());
            slot[24..28].copy_from_slice(&messages.to_be_bytes());
            slot
        };
        assert_eq!(waiting(&slot(101, 3), 100_000), 3);
        assert_eq!(waiting(&slot(100, 3), 100_000), 0);
        assert_eq!(waiting(&slot(0, 0), 0), 0);
        assert_eq!(waiting(&slot(101, -1), 0), 0);
    }
}

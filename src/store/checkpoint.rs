//! The checkpoint file: up to where the store is known to be durable. Never ahead of what was synced.
//!
//! 4,096 bytes, big-endian. Java's fields: 0 physicMsgTimestamp, 8 logicsMsgTimestamp, 16 indexMsgTimestamp (wall
//! milliseconds of the last message of which log, queues and index are durable). Ours stand twice, at 1,024 and 2,048,
//! written in turn so that a torn write leaves the other: magic 4 (`KEEL`), sequence 8, flushed log offset 8, log offset
//! below which all queues and the index are complete and durable 8, a record's offset from which
//! a start checks the log 8, copy of physicMsgTimestamp 8, CRC-32 of these 4.
//! A copy that differs from byte 0 says that Java wrote to the store since: ours are ignored then.

use std::{io, path::Path, sync::Arc};

use crate::{
    env::{File, Open, Storage, SyncFailed},
    model::LogOffset,
};

const LENGTH: u64 = 4_096;
const SLOTS: [usize; 2] = [1_024, 2_048];
const SLOT_BYTES: usize = 48;
const MAGIC: u32 = u32::from_be_bytes(*b"KEEL");

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Checkpoint {
    pub physic_timestamp: i64,
    pub logics_timestamp: i64,
    pub index_timestamp: i64,
    /// `None`: Java wrote last, or nobody.
    pub known: Option<Known>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Known {
    /// The log is durable below this offset: a hole below it is damage, not a torn tail.
    pub flushed: LogOffset,
    /// Queues and index have everything below this offset, durably. Never above `flushed`.
    pub derived: LogOffset,
    /// A record begins here, some way below `derived`: a start checks the log from here on for damage.
    pub check_from: LogOffset,
}

pub struct CheckpointFile {
    file: Arc<dyn File>,
    sequence: u64,
}

impl CheckpointFile {
    /// Opens the file, which is made if it is not there, and reads it.
    pub async fn open(storage: &dyn Storage, path: &Path) -> Result<(Self, Checkpoint), CheckpointError> {
        let is_new = !storage.exists(path);
        let file = storage.open(path, Open::Sparse { len: LENGTH })?;
        if is_new {
            file.sync().await?;
            storage.sync_dir(path.parent().expect("the checkpoint lies in the store's directory")).await?;
        }
        let bytes = file.read(0..LENGTH)?;
        let (checkpoint, sequence) = decode(&bytes);
        Ok((CheckpointFile { file, sequence }, checkpoint))
    }

    /// Reads a checkpoint without touching it.
    pub fn peek(storage: &dyn Storage, path: &Path) -> io::Result<Checkpoint> {
        let mut bytes = storage.read(path)?;
        bytes.resize(LENGTH as usize, 0);
        Ok(decode(&bytes).0)
    }

    /// Writes and syncs. On a service only.
    pub async fn save(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        let known = checkpoint.known.expect("we know what we wrote");
        assert!(known.derived <= known.flushed, "derived {} is beyond flushed {}", known.derived, known.flushed);
        assert!(known.check_from <= known.derived, "check from {} beyond {}", known.check_from, known.derived);
        self.sequence += 1;
        let mut java = [0; 24];
        java[..8].copy_from_slice(&checkpoint.physic_timestamp.to_be_bytes());
        java[8..16].copy_from_slice(&checkpoint.logics_timestamp.to_be_bytes());
        java[16..].copy_from_slice(&checkpoint.index_timestamp.to_be_bytes());
        let mut slot = Vec::with_capacity(SLOT_BYTES);
        slot.extend_from_slice(&MAGIC.to_be_bytes());
        slot.extend_from_slice(&self.sequence.to_be_bytes());
        slot.extend_from_slice(&known.flushed.0.to_be_bytes());
        slot.extend_from_slice(&known.derived.0.to_be_bytes());
        slot.extend_from_slice(&known.check_from.0.to_be_bytes());
        slot.extend_from_slice(&checkpoint.physic_timestamp.to_be_bytes());
        slot.extend_from_slice(&crc32fast::hash(&slot).to_be_bytes());
        let at = SLOTS[(self.sequence % 2) as usize];
        self.file.write(at as u64, &[&slot])?;
        self.file.write(0, &[&java])?;
        Ok(self.file.sync().await?)
    }
}

fn decode(bytes: &[u8]) -> (Checkpoint, u64) {
    let number = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let physic_timestamp = number(0) as i64;
    let mut sequence = 0;
    let mut newest: Option<(u64, Known)> = None;
    for at in SLOTS {
        let slot = &bytes[at..at + SLOT_BYTES];
        let crc = u32::from_be_bytes(slot[SLOT_BYTES - 4..].try_into().expect("four bytes"));
        if slot[..4] != MAGIC.to_be_bytes() || crc32fast::hash(&slot[..SLOT_BYTES - 4]) != crc {
            continue;
        }
        sequence = sequence.max(number(at + 4));
        // A tear between slot and byte 0 leaves a slot whose copy differs: the other slot is the truth then.
        let is_ours = number(at + 36) as i64 == physic_timestamp;
        if is_ours && newest.is_none_or(|(sequence, _)| number(at + 4) > sequence) {
            let (flushed, derived) = (LogOffset(number(at + 12)), LogOffset(number(at + 20)));
            let known = Known { flushed, derived, check_from: LogOffset(number(at + 28)) };
            newest = Some((number(at + 4), known));
        }
    }
    let known = newest.map(|(_, known)| known);
    let checkpoint =
        Checkpoint { physic_timestamp, logics_timestamp: number(8) as i64, index_timestamp: number(16) as i64, known };
    (checkpoint, sequence)
}

#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error(transparent)]
    Sync(#[from] SyncFailed),
    #[error("the checkpoint cannot be read or written: {0}")]
    Io(#[from] io::Error),
}

//! The checkpoint file: up to where the store is known to be durable. Never ahead of what was synced.
//!
//! 4,096 bytes, big-endian. Java's fields: 0 physicMsgTimestamp, 8 logicsMsgTimestamp, 16 indexMsgTimestamp (wall
//! milliseconds of the last message of which log, queues and index are durable). Ours stand twice, at 1,024 and 2,048:
//! magic 4 (`KEEL`), sequence 8, flushed log offset 8, log offset below which all queues and the index are complete and
//! durable 8, a record's offset from which a start checks the log 8, copy of physicMsgTimestamp 8, CRC-32 of these 4.
//! A copy that differs from byte 0 says that Java wrote to the store since: such a slot is ignored.
//!
//! A save goes into the slot that is not the truth, and is synced before byte 0 changes: whichever sectors of it reach the
//! disk, one of the two slots agrees with byte 0.

use std::{io, path::Path, sync::Arc};

use crate::{
    env::{File, Open, Storage, SyncFailed},
    model::LogOffset,
};

const LENGTH: u64 = 4_096;
const SLOTS: [usize; 2] = [1_024, 2_048];
const SLOT_BYTES: usize = 48;
const JAVA_BYTES: usize = 24;
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
    /// The highest sequence that any slot has.
    sequence: u64,
    /// The slot that must stay whole while the other is written.
    truth: usize,
    /// Bytes 0 to 24 as they are on the disk.
    java: [u8; JAVA_BYTES],
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
        let Decoded { checkpoint, sequence, truth } = decode(&bytes);
        let java = *bytes.first_chunk().expect("the file is longer");
        Ok((CheckpointFile { file, sequence, truth, java }, checkpoint))
    }

    /// Reads a checkpoint without touching it.
    pub fn peek(storage: &dyn Storage, path: &Path) -> io::Result<Checkpoint> {
        let mut bytes = storage.read(path)?;
        bytes.resize(LENGTH as usize, 0);
        Ok(decode(&bytes).checkpoint)
    }

    /// Writes and syncs. On a service only.
    pub async fn save(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        let known = checkpoint.known.expect("we know what we wrote");
        assert!(known.derived <= known.flushed, "derived {} is beyond flushed {}", known.derived, known.flushed);
        assert!(known.check_from <= known.derived, "check from {} beyond {}", known.check_from, known.derived);
        self.sequence += 1;
        self.truth = 1 - self.truth;
        self.file.write(SLOTS[self.truth] as u64, &[&slot(self.sequence, checkpoint.physic_timestamp, &known)])?;
        let java = java(checkpoint);
        if java != self.java {
            if !plant!(CheckpointSyncedAtOnce) {
                self.file.sync().await?;
            }
            self.file.write(0, &[&java])?;
            self.java = java;
        }
        Ok(self.file.sync().await?)
    }

    /// Makes what was read durable: after a kill it may be in the page cache alone, and a sync of it may have failed. Until
    /// then the disk may still say that something is derived which the next step throws away.
    pub async fn confirm(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        if checkpoint.known.is_some() {
            return self.save(checkpoint).await;
        }
        self.file.write(0, &[&self.java])?;
        Ok(self.file.sync().await?)
    }

    /// Forgets, durably, what is derived: the next start makes it anew from the log's beginning, at `begin`. Whether the
    /// log is damaged is still known.
    pub async fn forget_derived(
        &mut self,
        checkpoint: &mut Checkpoint,
        begin: LogOffset,
    ) -> Result<(), CheckpointError> {
        let timestamps = (checkpoint.physic_timestamp, 0, 0);
        (checkpoint.physic_timestamp, checkpoint.logics_timestamp, checkpoint.index_timestamp) = timestamps;
        if let Some(known) = checkpoint.known {
            checkpoint.known =
                Some(Known { derived: begin.min(known.flushed), check_from: begin.min(known.flushed), ..known });
            return self.save(checkpoint).await;
        }
        // By Java's rules no segment is old enough then.
        self.java = java(checkpoint);
        self.file.write(0, &[&self.java])?;
        Ok(self.file.sync().await?)
    }
}

fn java(checkpoint: &Checkpoint) -> [u8; JAVA_BYTES] {
    let mut bytes = [0; JAVA_BYTES];
    bytes[..8].copy_from_slice(&checkpoint.physic_timestamp.to_be_bytes());
    bytes[8..16].copy_from_slice(&checkpoint.logics_timestamp.to_be_bytes());
    bytes[16..].copy_from_slice(&checkpoint.index_timestamp.to_be_bytes());
    bytes
}

fn slot(sequence: u64, physic_timestamp: i64, known: &Known) -> Vec<u8> {
    let mut slot = Vec::with_capacity(SLOT_BYTES);
    slot.extend_from_slice(&MAGIC.to_be_bytes());
    slot.extend_from_slice(&sequence.to_be_bytes());
    slot.extend_from_slice(&known.flushed.0.to_be_bytes());
    slot.extend_from_slice(&known.derived.0.to_be_bytes());
    slot.extend_from_slice(&known.check_from.0.to_be_bytes());
    slot.extend_from_slice(&physic_timestamp.to_be_bytes());
    slot.extend_from_slice(&crc32fast::hash(&slot).to_be_bytes());
    slot
}

struct Decoded {
    checkpoint: Checkpoint,
    /// The highest of all slots that are whole.
    sequence: u64,
    /// The slot that `checkpoint.known` is from.
    truth: usize,
}

fn decode(bytes: &[u8]) -> Decoded {
    let number = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let physic_timestamp = number(0) as i64;
    let mut sequence = 0;
    let mut newest: Option<(u64, usize, Known)> = None;
    for (index, at) in SLOTS.into_iter().enumerate() {
        let slot = &bytes[at..at + SLOT_BYTES];
        let crc = u32::from_be_bytes(slot[SLOT_BYTES - 4..].try_into().expect("four bytes"));
        if slot[..4] != MAGIC.to_be_bytes() || crc32fast::hash(&slot[..SLOT_BYTES - 4]) != crc {
            continue;
        }
        // RocketMQ's offsets have a sign; a log that begins behind them would overflow.
        let [flushed, derived, check_from] = [12, 20, 28].map(|field| number(at + field));
        // Nor does any save say that more is derived than is flushed.
        if flushed > i64::MAX as u64 || derived > flushed || check_from > derived {
            continue;
        }
        sequence = sequence.max(number(at + 4));
        // A stop between slot and byte 0 leaves a slot whose copy differs: the other slot is the truth then.
        let is_ours = number(at + 36) as i64 == physic_timestamp;
        if is_ours && newest.is_none_or(|(sequence, ..)| number(at + 4) > sequence) {
            let (flushed, derived, check_from) = (LogOffset(flushed), LogOffset(derived), LogOffset(check_from));
            let known = Known { flushed, derived, check_from };
            newest = Some((number(at + 4), index, known));
        }
    }
    let (truth, known) = newest.map_or((0, None), |(_, index, known)| (index, Some(known)));
    let (logics_timestamp, index_timestamp) = (number(8) as i64, number(16) as i64);
    let checkpoint = Checkpoint { physic_timestamp, logics_timestamp, index_timestamp, known };
    Decoded { checkpoint, sequence, truth }
}

#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error(transparent)]
    Sync(#[from] SyncFailed),
    #[error("the checkpoint cannot be read or written: {0}")]
    Io(#[from] io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slot and byte 0 were once synced together: where a power cut kept the new byte 0 and the old slot, the next start
    /// took the store for Java's, and damage in what was durable for a torn tail.
    #[test]
    fn no_tear_of_any_save_makes_the_store_forget_what_is_durable() {
        let known = |at: u64| Known { flushed: LogOffset(at), derived: LogOffset(at), check_from: LogOffset(0) };
        let known_of = |disk: &[u8]| decode(disk).checkpoint.known.map(|known| known.flushed.0);
        // What a machine may find after `saves` more of them, each cut short in every way: the disk, and the last offset
        // that was promised.
        fn go_on(disk: &[u8], at: u64, saves: u32, known: &dyn Fn(u64) -> Known, check: &dyn Fn(&[u8], u64, u64)) {
            if saves == 0 {
                return;
            }
            let Decoded { sequence, truth, .. } = decode(disk);
            let next = at + 1;
            let checkpoint =
                Checkpoint { physic_timestamp: next as i64 / 2, known: Some(known(next)), ..Checkpoint::default() };
            let mut with_slot = disk.to_vec();
            let place = SLOTS[1 - truth];
            with_slot[place..place + SLOT_BYTES].copy_from_slice(&slot(
                sequence + 1,
                checkpoint.physic_timestamp,
                &known(next),
            ));
            let mut with_both = with_slot.clone();
            with_both[..JAVA_BYTES].copy_from_slice(&java(&checkpoint));
            // Each write lies within one sector: there, or not.
            for (after, promised) in [(disk, at), (&with_slot, at), (&with_both, next)] {
                check(after, promised, next);
                go_on(after, promised, saves - 1, known, check);
            }
        }
        let mut disk = vec![0; LENGTH as usize];
        disk[SLOTS[0]..SLOTS[0] + SLOT_BYTES].copy_from_slice(&slot(1, 0, &known(1)));
        go_on(&disk, 1, 8, &known, &|disk, promised, next| {
            let found = known_of(disk).expect("one slot agrees with byte 0");
            assert!((promised..=next).contains(&found), "{found} of {promised}..={next}");
        });
    }

    #[test]
    fn what_no_save_writes_is_not_believed() {
        for (flushed, derived, check_from, believed) in [(9, 8, 7, true), (8, 9, 7, false), (9, 7, 8, false)] {
            let [flushed, derived, check_from] = [flushed, derived, check_from].map(LogOffset);
            let mut disk = vec![0; LENGTH as usize];
            let forged = slot(1, 0, &Known { flushed, derived, check_from });
            disk[SLOTS[1]..SLOTS[1] + SLOT_BYTES].copy_from_slice(&forged);
            assert_eq!(decode(&disk).checkpoint.known.is_some(), believed, "{flushed} {derived} {check_from}");
        }
    }

    #[test]
    fn what_java_wrote_since_makes_ours_worth_nothing() {
        let mut disk = vec![0; LENGTH as usize];
        let known = Known { flushed: LogOffset(9), ..Known::default() };
        disk[SLOTS[0]..SLOTS[0] + SLOT_BYTES].copy_from_slice(&slot(1, 77, &known));
        disk[..8].copy_from_slice(&77u64.to_be_bytes());
        assert_eq!(decode(&disk).checkpoint.known, Some(known));
        disk[..8].copy_from_slice(&78u64.to_be_bytes());
        assert_eq!(decode(&disk).checkpoint.known, None);
    }
}

//! What was derived from a log, read from the bytes of its files on its own and held against the log: the consume queues
//! and the index that a stop in order left behind must be what one pass over the log makes.
//! So must the checkpoint say that all of it is durable.
//! Layouts: ConsumeQueue, IndexFile, IndexHeader and StoreCheckpoint of Apache RocketMQ 4.9.7; the checkpoint's part from
//! byte 1,024 on is ours.

use std::collections::BTreeMap;

use crate::log_image::{Found, LogImage};

const UNIT_BYTES: usize = 20;
/// The size in units that stand for messages before a queue's first.
const FILLER_SIZE: u32 = i32::MAX as u32;
const INDEX_HEADER_BYTES: usize = 40;
const ENTRY_BYTES: usize = 20;
const TRANSACTION: i32 = 0xC;
const PREPARED: i32 = 0x4;
const ROLLBACK: i32 = 0xC;

/// A queue's files by their base in bytes.
pub type QueueFiles = BTreeMap<u64, Vec<u8>>;

/// What is read besides the log.
#[derive(Default)]
pub struct Derived {
    /// By topic and queue.
    pub queues: BTreeMap<(String, u32), QueueFiles>,
    /// By name.
    pub index: BTreeMap<String, Vec<u8>>,
    pub checkpoint: Vec<u8>,
    pub index_slots: u32,
}

/// Java's `String.hashCode`.
fn hash_code(text: &str) -> i32 {
    text.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// The first difference. `levels_ms` are the delays of the levels; of a topic that was deleted nothing need be left.
pub fn difference(
    log: &LogImage,
    derived: &Derived,
    levels_ms: &[i64],
    is_deleted: impl Fn(&str) -> bool,
) -> Option<String> {
    queues_differ(log, derived, levels_ms, is_deleted)
        .or_else(|| index_differs(log, derived))
        .or_else(|| checkpoint_differs(log, &derived.checkpoint))
}

/// The newer of two copies counts: at 4 its number, at 12 and 20 up to where the log and what is derived are durable.
fn checkpoint_differs(log: &LogImage, checkpoint: &[u8]) -> Option<String> {
    let copies = [1_024, 2_048].map(|at| &checkpoint[at..at + 48]);
    let newest = copies.into_iter().filter(|copy| copy.starts_with(b"KEEL")).max_by_key(|copy| number(&copy[4..12]))?;
    let found = [number(&newest[12..20]), number(&newest[20..28])];
    let stamps = [0, 8, 16].map(|at| number(&checkpoint[at..at + 8]) as i64);
    let last = log.records.last().map_or(0, |record| record.store_timestamp);
    let is_right = found == [log.end; 2] && stamps == [last; 3];
    (!is_right).then(|| {
        format!(
            "the checkpoint has {found:?} and {stamps:?}, the log ends at {} with a record stored at {last}",
            log.end
        )
    })
}

/// What the checkpoint vouches for: log offsets.
#[derive(Clone, Copy, Debug)]
pub struct Vouched {
    pub flushed: u64,
    pub derived: u64,
    pub check_from: u64,
}

/// Of the copies that are whole and agree with byte 0 the newer one.
pub fn vouched(checkpoint: &[u8]) -> Option<Vouched> {
    // A power cut may leave nothing of a file but its name.
    if checkpoint.len() < 4_096 {
        return None;
    }
    let copies = [1_024, 2_048].map(|at| &checkpoint[at..at + 48]);
    let is_good = |copy: &&[u8]| {
        copy.starts_with(b"KEEL")
            && number(&copy[44..]) == u64::from(crc32fast::hash(&copy[..44]))
            && copy[36..44] == checkpoint[..8]
    };
    let newest = copies.into_iter().filter(is_good).max_by_key(|copy| number(&copy[4..12]))?;
    let [flushed, derived, check_from] = [12, 20, 28].map(|at| number(&newest[at..at + 8]));
    Some(Vouched { flushed, derived, check_from })
}

/// What a consume queue says of the record's tag; in the schedule topic when it is due.
fn tags_code(record: &Found, levels_ms: &[i64]) -> i64 {
    let level = record.property("DELAY").and_then(|level| level.parse::<usize>().ok()).unwrap_or(0);
    if record.topic == crate::kinds::SCHEDULE_TOPIC && level > 0 {
        let level = level.min(levels_ms.len());
        return record.store_timestamp + levels_ms[level - 1];
    }
    record.property("TAGS").filter(|tags| !tags.is_empty()).map_or(0, |tags| hash_code(tags).into())
}

fn queues_differ(
    log: &LogImage,
    derived: &Derived,
    levels_ms: &[i64],
    is_deleted: impl Fn(&str) -> bool,
) -> Option<String> {
    let mut lives: BTreeMap<(&str, u32), BTreeMap<u64, &Found>> = BTreeMap::new();
    for record in &log.records {
        if matches!(record.sys_flag & TRANSACTION, PREPARED | ROLLBACK) {
            continue;
        }
        let life = lives.entry((&record.topic, record.queue_id)).or_default();
        if record.queue_offset == 0 {
            // The topic was deleted and made again.
            life.clear();
        }
        life.insert(record.queue_offset, record);
    }
    for ((topic, queue_id), life) in &lives {
        let Some(files) = derived.queues.get(&((*topic).to_owned(), *queue_id)) else {
            if is_deleted(topic) {
                continue;
            }
            return Some(format!("{topic}/{queue_id} has no files, the log {} messages", life.len()));
        };
        let end = life.last_key_value().map_or(0, |(offset, _)| offset + 1);
        for (offset, record) in life {
            let file = files.range(..=offset * UNIT_BYTES as u64).next_back();
            let within = |(base, bytes): (&u64, &'_ Vec<u8>)| {
                let at = (offset * UNIT_BYTES as u64 - base) as usize;
                bytes.get(at..at + UNIT_BYTES).map(<[u8]>::to_vec)
            };
            let Some(unit) = file.and_then(within) else {
                if is_deleted(topic) {
                    continue;
                }
                return Some(format!("{topic}/{queue_id} has no file for its message {offset}"));
            };
            let found = (number(&unit[..8]), number(&unit[8..12]) as u32, number(&unit[12..]) as i64);
            let wanted = (record.offset, record.size, tags_code(record, levels_ms));
            // What was deleted is not made anew in front of what came later.
            if matches!(found.1, 0 | FILLER_SIZE) && is_deleted(topic) {
                continue;
            }
            if found != wanted {
                return Some(format!("{topic}/{queue_id} says {found:?} of its message {offset}, the log {wanted:?}"));
            }
        }
        for (base, bytes) in files {
            let from = (end * UNIT_BYTES as u64).saturating_sub(*base).min(bytes.len() as u64) as usize;
            if let Some(at) = bytes[from..].iter().position(|byte| *byte != 0) {
                let unit = (base + (from + at) as u64) / UNIT_BYTES as u64;
                return Some(format!("{topic}/{queue_id} ends at {end} in the log, yet says something of {unit}"));
            }
        }
    }
    None
}

/// The keys of a record as they are entered.
fn hashes(record: &Found) -> Vec<u32> {
    if record.sys_flag & TRANSACTION == ROLLBACK {
        return Vec::new();
    }
    // Of a name that stands there twice the last one counts.
    let text = String::from_utf8_lossy(&record.properties);
    let last = |name: &str| {
        let mut pairs = text.split('\u{2}').filter_map(|pair| pair.split_once('\u{1}'));
        pairs.rfind(|(key, _)| *key == name).map(|(_, value)| value)
    };
    let keys = last("KEYS").unwrap_or_default().split(' ').filter(|key| !key.is_empty());
    let all = last("UNIQ_KEY").into_iter().chain(keys);
    all.map(|key| hash_code(&format!("{}#{key}", record.topic)).checked_abs().unwrap_or(0) as u32).collect()
}

fn index_differs(log: &LogImage, derived: &Derived) -> Option<String> {
    let records: BTreeMap<u64, &Found> = log.records.iter().map(|record| (record.offset, record)).collect();
    let first = log.records.first().map_or(log.end, |record| record.offset);
    let mut entered: Vec<(u64, u32)> = Vec::new();
    for (name, bytes) in &derived.index {
        if let Some(text) = index_file_differs(bytes, derived.index_slots, &records, first, &mut entered) {
            return Some(format!("index file {name}: {text}"));
        }
    }
    let wanted = log.records.iter().flat_map(|record| hashes(record).into_iter().map(|hash| (record.offset, hash)));
    let wanted: Vec<(u64, u32)> = wanted.collect();
    entered.retain(|(offset, _)| *offset >= first);
    let at = wanted.iter().zip(&entered).position(|(wanted, found)| wanted != found);
    match at {
        Some(at) => {
            let of =
                records.get(&wanted[at].0).map(|record| (&record.topic, String::from_utf8_lossy(&record.properties)));
            Some(format!("the index has {:?} where the log has {:?} of {of:?}", entered[at], wanted[at]))
        }
        None if wanted.len() != entered.len() => {
            Some(format!("the index has {} entries, the log {} keys", entered.len(), wanted.len()))
        }
        None => None,
    }
}

/// Header, slots and chains of one file against its own entries, and those against the log's records.
fn index_file_differs(
    bytes: &[u8],
    slots: u32,
    records: &BTreeMap<u64, &Found>,
    first: u64,
    entered: &mut Vec<(u64, u32)>,
) -> Option<String> {
    let front = INDEX_HEADER_BYTES + 4 * slots as usize;
    let word = |at: usize| number(&bytes[at..at + 4]) as u32;
    let long = |at: usize| number(&bytes[at..at + 8]);
    let (begin_timestamp, end_timestamp) = (long(0) as i64, long(8) as i64);
    let (begin, end, slots_used, count) = (long(16), long(24), word(32), word(36));
    let mut newest = vec![0u32; slots as usize];
    let mut last = None;
    for entry in 1..count {
        let at = front + entry as usize * ENTRY_BYTES;
        if at + ENTRY_BYTES > bytes.len() {
            return Some(format!("the header counts {count}, entry {entry} is behind the file's end"));
        }
        let (hash, offset, seconds, previous) = (word(at), long(at + 4), word(at + 12), word(at + 16));
        let slot = &mut newest[(hash % slots) as usize];
        if previous != *slot {
            return Some(format!("entry {entry} follows {previous} in its slot, not {slot}"));
        }
        *slot = entry;
        entered.push((offset, hash));
        if entry == 1 && offset != begin {
            return Some(format!("the header begins at {begin}, the first entry at {offset}"));
        }
        let Some(record) = records.get(&offset) else {
            // Retention took the record.
            if offset >= first {
                return Some(format!("entry {entry} points at {offset}, where no record begins"));
            }
            last = Some((offset, None));
            continue;
        };
        if entry == 1 && begin_timestamp != record.store_timestamp {
            let stored = record.store_timestamp;
            return Some(format!("the header begins at time {begin_timestamp}, its first record at {stored}"));
        }
        let wanted = ((record.store_timestamp - begin_timestamp) / 1_000).clamp(0, i32::MAX.into()) as u32;
        if seconds != wanted {
            return Some(format!("entry {entry} says {seconds} s, its record {wanted} s"));
        }
        last = Some((offset, Some((record.store_timestamp, begin_timestamp + i64::from(seconds) * 1_000))));
    }
    match last {
        Some((offset, _)) if offset != end => {
            return Some(format!("the header ends at {end}, the last entry at {offset}"));
        }
        // What was made anew from entries knows the last one's time to the second.
        Some((_, Some((exact, to_the_second)))) if end_timestamp != exact && end_timestamp != to_the_second => {
            return Some(format!("the header ends at time {end_timestamp}, its last record at {exact}"));
        }
        _ => {}
    }
    let used = newest.iter().filter(|slot| **slot != 0).count() as u32;
    if slots_used != used {
        return Some(format!("the header counts {slots_used} slots, {used} are used"));
    }
    let differing = (0..slots).find(|slot| word(INDEX_HEADER_BYTES + 4 * *slot as usize) != newest[*slot as usize]);
    differing.map(|slot| format!("slot {slot} does not lead to its newest entry {}", newest[slot as usize]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_javas() {
        // "polygenelubricants".hashCode() is Integer.MIN_VALUE.
        assert_eq!((hash_code(""), hash_code("TagA"), hash_code("ü€")), (0, 2598919, 16176));
        assert_eq!(hash_code("polygenelubricants"), i32::MIN);
    }
}

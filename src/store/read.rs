//! Reading messages of a queue for a consumer, and single records by their place. (Source of the limits and statuses:
//! DefaultMessageStore.getMessage of Apache RocketMQ 4.9.7.)

use std::io;

use bytes::Bytes;
use smallvec::SmallVec;

use super::{MessageStore, consume_queue::ConsumeQueue, record};
use crate::model::{LogOffset, QueueOffset, filter::Filter};

/// What a consumer asks for. Offsets are the wire's: they may be negative.
#[derive(Debug, Clone, Copy)]
pub struct Get<'a> {
    pub topic: &'a str,
    pub queue_id: u32,
    pub offset: i64,
    pub count_max: u32,
    /// Beside the store's own limits.
    pub bytes_max: u64,
    pub filter: Option<&'a Filter>,
}

/// RocketMQ's GetMessageStatus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GetStatus {
    Found,
    NoMatchedMessage,
    MessageWasRemoving,
    OffsetFoundNull,
    OffsetOverflowBadly,
    OffsetOverflowOne,
    OffsetTooSmall,
    NoMatchedLogicQueue,
    NoMessageInQueue,
}

impl GetStatus {
    /// The name that stands in a pull answer's remark.
    pub fn name(self) -> &'static str {
        match self {
            GetStatus::Found => "FOUND",
            GetStatus::NoMatchedMessage => "NO_MATCHED_MESSAGE",
            GetStatus::MessageWasRemoving => "MESSAGE_WAS_REMOVING",
            GetStatus::OffsetFoundNull => "OFFSET_FOUND_NULL",
            GetStatus::OffsetOverflowBadly => "OFFSET_OVERFLOW_BADLY",
            GetStatus::OffsetOverflowOne => "OFFSET_OVERFLOW_ONE",
            GetStatus::OffsetTooSmall => "OFFSET_TOO_SMALL",
            GetStatus::NoMatchedLogicQueue => "NO_MATCHED_LOGIC_QUEUE",
            GetStatus::NoMessageInQueue => "NO_MESSAGE_IN_QUEUE",
        }
    }
}

#[derive(Debug, Clone)]
pub struct Got {
    pub status: GetStatus,
    pub next: i64,
    pub min: QueueOffset,
    pub max: QueueOffset,
    /// Whole records one behind the other, slices of the log.
    pub records: SmallVec<[Bytes; 2]>,
    pub count: u32,
    pub bytes: u64,
    /// The consumer is so far behind that a slave should serve it.
    pub is_far_behind: bool,
}

/// Messages found by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Queried {
    /// Whole records, slices of the log, in the order of the log.
    pub records: Vec<Bytes>,
    /// How far the index is: store timestamp and log offset of the last message in it.
    pub last_update_timestamp: i64,
    pub last_update_offset: LogOffset,
}

/// Records of one answer: what a client's frame holds.
const QUERY_BYTES_MAX: usize = 15 << 20;

/// Units looked at in one go where a filter may refuse them.
const FILTER_STEP_UNITS: u64 = 128;

impl MessageStore {
    /// The newest `max` messages with this key (or one of the same hash) stored from `begin` to `end` (wall
    /// milliseconds); fewer if they do not fit a frame. Nothing without an index. Reads files.
    pub fn query(&self, topic: &str, key: &str, max: usize, begin: i64, end: i64) -> io::Result<Queried> {
        let Some(index) = self.index() else { return Ok(Queried::default()) };
        let found = index.query(topic, key, begin, end, max)?;
        let mut queried = Queried {
            records: Vec::new(),
            last_update_timestamp: found.last_update_timestamp,
            last_update_offset: found.last_update_offset,
        };
        let mut bytes = 0;
        for offset in found.offsets {
            // Retention may have taken it.
            let Some(record) = self.record_at(offset)? else { continue };
            bytes += record.len();
            if bytes > QUERY_BYTES_MAX && !queried.records.is_empty() {
                break;
            }
            queried.records.push(record);
        }
        queried.records.reverse();
        Ok(queried)
    }

    /// Messages from `offset` on. The first is always returned whatever its size.
    pub fn get(&self, get: &Get<'_>) -> io::Result<Got> {
        let queue = self.queues().find(get.topic, get.queue_id);
        let (min, max) = match &queue {
            Some(queue) => (queue.min(), queue.max()),
            None => (QueueOffset(0), QueueOffset(0)),
        };
        let mut got = Got {
            status: GetStatus::NoMessageInQueue,
            next: 0,
            min,
            max,
            records: SmallVec::new(),
            count: 0,
            bytes: 0,
            is_far_behind: false,
        };
        let queue = match queue {
            Some(queue) if max.0 > 0 => queue,
            _ => return Ok(got),
        };
        let (at, min, max) = (get.offset, min.0 as i64, max.0 as i64);
        let (status, next) = if at < min {
            (GetStatus::OffsetTooSmall, min)
        } else if at == max {
            (GetStatus::OffsetOverflowOne, at)
        } else if at > max {
            (GetStatus::OffsetOverflowBadly, max)
        } else {
            return self.collect(get, &queue, got);
        };
        (got.status, got.next) = (status, next);
        Ok(got)
    }

    fn collect(&self, get: &Get<'_>, queue: &ConsumeQueue, mut got: Got) -> io::Result<Got> {
        let config = self.config();
        let window = (config.filter_scan_bytes / 20).max(u64::from(get.count_max));
        let transfer_max = config.transfer_memory_count.max(config.transfer_disk_count);
        let (log_begin, log_end) = (self.log_begin(), LogOffset(self.readable().get()));
        let end = get.offset as u64 + window;
        let mut at = get.offset as u64;
        let mut is_removing = false;
        let mut slice: Option<(LogOffset, LogOffset)> = None;
        'scan: while at < end {
            // Without a filter every unit counts; with one it is open how many will do.
            let wanted = match get.filter {
                None => u64::from(get.count_max.min(transfer_max).max(1).saturating_sub(got.count)),
                Some(_) => FILTER_STEP_UNITS,
            };
            let units = queue.units(QueueOffset(at), wanted.min(end - at))?;
            if units.is_empty() {
                break;
            }
            for unit in units {
                let behind = log_end.0.saturating_sub(unit.offset.0);
                let in_memory = behind <= config.memory_behind_bytes;
                if unit.offset < log_begin || !unit_is_message(unit.size) {
                    is_removing = true;
                    at += 1;
                    continue;
                }
                if got.count > 0 && !self.takes_more(get, &got, u64::from(unit.size), in_memory) {
                    break 'scan;
                }
                if let Some(filter) = get.filter {
                    if !filter.may_match_tags_code(unit.tags_code) {
                        at += 1;
                        continue;
                    }
                    if filter.reads_properties() {
                        let bytes = self.log_bytes(unit.offset, unit.end(), !in_memory)?;
                        let record::Scan::Record(record) = record::scan(&bytes, false) else {
                            at += 1;
                            continue;
                        };
                        if !filter.matches(record.message.properties) {
                            at += 1;
                            continue;
                        }
                    }
                }
                got.count += 1;
                got.bytes += u64::from(unit.size);
                got.is_far_behind = !in_memory;
                at += 1;
                // Records that lie one behind the other are one slice.
                slice = match slice {
                    Some((start, stop)) if stop == unit.offset && self.same_segment(start, unit.offset) => {
                        Some((start, unit.end()))
                    }
                    other => {
                        self.take_slice(&mut got, other)?;
                        Some((unit.offset, unit.end()))
                    }
                };
            }
        }
        self.take_slice(&mut got, slice)?;
        got.next = at as i64;
        got.status = match (got.count, is_removing) {
            (1.., _) => GetStatus::Found,
            (0, true) => GetStatus::MessageWasRemoving,
            (0, false) => GetStatus::NoMatchedMessage,
        };
        Ok(got)
    }

    fn takes_more(&self, get: &Get<'_>, got: &Got, size: u64, in_memory: bool) -> bool {
        let config = self.config();
        let (bytes_max, count_max) = match in_memory {
            true => (config.transfer_memory_bytes, config.transfer_memory_count),
            false => (config.transfer_disk_bytes, config.transfer_disk_count),
        };
        got.count < get.count_max.min(count_max) && got.bytes + size <= bytes_max.min(get.bytes_max)
    }

    fn take_slice(&self, got: &mut Got, slice: Option<(LogOffset, LogOffset)>) -> io::Result<()> {
        let Some((start, end)) = slice else { return Ok(()) };
        let bytes = self.log_bytes(start, end, got.is_far_behind)?;
        check_heads(&bytes, start)?;
        got.records.push(bytes);
        Ok(())
    }

    /// The whole record at `offset`, if one begins there.
    pub fn record_at(&self, offset: LogOffset) -> io::Result<Option<Bytes>> {
        let end = LogOffset(self.readable().get());
        if offset < self.log_begin() || offset + record::RECORD_MIN > end {
            return Ok(None);
        }
        let Some(segment) = self.segments().find(offset) else { return Ok(None) };
        if offset + 8 > segment.end() {
            return Ok(None);
        }
        let head = self.log_bytes(offset, offset + 8, true)?;
        let Some((size, record::MAGIC_V1 | record::MAGIC_V2)) = record::peek(&head) else { return Ok(None) };
        let record_end = offset + u64::from(size);
        if u64::from(size) < record::RECORD_MIN || record_end > end.min(segment.end()) {
            return Ok(None);
        }
        let bytes = self.log_bytes(offset, record_end, true)?;
        let is_record =
            matches!(record::scan(&bytes, false), record::Scan::Record(record) if record.log_offset == offset);
        Ok(is_record.then_some(bytes))
    }

    /// The store timestamp of the queue's message at `offset`; `None` if there is none.
    pub fn store_timestamp(&self, topic: &str, queue_id: u32, offset: QueueOffset) -> io::Result<Option<i64>> {
        let Some(queue) = self.queues().find(topic, queue_id) else { return Ok(None) };
        let Some(unit) = queue.units(offset, 1)?.first().copied() else { return Ok(None) };
        self.timestamp_of(unit.offset)
    }

    /// The first message stored at `timestamp` or later (`lower`), or the last one stored at it or earlier; within the
    /// queue's bounds. (5.x's rule; 4.9.7 answers the nearest.)
    pub fn offset_by_time(&self, topic: &str, queue_id: u32, timestamp: i64, lower: bool) -> io::Result<QueueOffset> {
        let Some(queue) = self.queues().find(topic, queue_id) else { return Ok(QueueOffset(0)) };
        let (min, max) = (queue.min(), queue.max());
        let found = queue.search(|unit| {
            let stored = self.timestamp_of(unit.offset)?;
            Ok(stored.is_some_and(|stored| {
                if lower && !plant!(TimeSearchMissesEqual) { stored >= timestamp } else { stored > timestamp }
            }))
        })?;
        let found = if lower || found.0 == 0 { found } else { QueueOffset(found.0 - 1) };
        Ok(found.clamp(min, max))
    }

    fn timestamp_of(&self, offset: LogOffset) -> io::Result<Option<i64>> {
        let Some(segment) = self.segments().find(offset) else { return Ok(None) };
        let end = (offset + 96).min(segment.end());
        let head = self.log_bytes(offset, end, true)?;
        Ok(record::peek_store_timestamp(&head))
    }

    fn same_segment(&self, one: LogOffset, other: LogOffset) -> bool {
        one.0 / self.segments().size() == other.0 / self.segments().size()
    }

    fn log_bytes(&self, start: LogOffset, end: LogOffset, cold: bool) -> io::Result<Bytes> {
        self.segments().bytes(start..end, cold)
    }
}

fn unit_is_message(size: u32) -> bool {
    size > 0 && size != i32::MAX as u32
}

/// A consumer must not be given what is no record: log or queue may have rotted since they were written. Whole records
/// one behind the other each say where they stand.
fn check_heads(bytes: &[u8], start: LogOffset) -> io::Result<()> {
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        match record::peek(rest) {
            Some((size, record::MAGIC_V1 | record::MAGIC_V2))
                if size as usize <= rest.len() && record::peek_log_offset(rest) == Some(start + at as u64) =>
            {
                at += size as usize;
            }
            _ => {
                let text = format!("damage in the commit log at offset {}: no record begins there", start + at as u64);
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        }
    }
    Ok(())
}

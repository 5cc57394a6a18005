//! Reads a commit log from the bytes of its files, on its own: the checks must not share a mistake with the store.
//! Layout: RocketMQ's record, version 1 and 2 (MessageDecoder of Apache RocketMQ 4.9.7).

use std::collections::BTreeMap;

pub const MAGIC_V1: u32 = 0xDAA3_20A7;
pub const MAGIC_V2: u32 = 0xDAA3_20AB;
pub const MAGIC_FILLER: u32 = 0xCBD4_3194;

/// One record as it lies in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub offset: u64,
    pub size: u32,
    pub topic: String,
    pub queue_id: u32,
    pub queue_offset: u64,
    pub flag: i32,
    pub sys_flag: i32,
    pub born_timestamp: i64,
    pub store_timestamp: i64,
    pub reconsume_times: i32,
    pub body: Vec<u8>,
    pub properties: Vec<u8>,
}

impl Found {
    pub fn end(&self) -> u64 {
        self.offset + u64::from(self.size)
    }

    /// A property's value.
    pub fn property(&self, name: &str) -> Option<&str> {
        let text = std::str::from_utf8(&self.properties).ok()?;
        text.split('\u{2}')
            .filter_map(|pair| pair.split_once('\u{1}'))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }
}

/// The log's records, and where and why reading ended.
#[derive(Debug, Default)]
pub struct LogImage {
    pub records: Vec<Found>,
    /// Where the first segment begins.
    pub begin: u64,
    pub end: u64,
    /// Bytes other than zero stand behind the end.
    pub dirty_tail: bool,
    pub stopped: String,
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let part = self.bytes.get(self.at..self.at + count).ok_or("the record ends early")?;
        self.at += count;
        Ok(part)
    }

    fn number(&mut self, count: usize) -> Result<u64, String> {
        Ok(self.take(count)?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }
}

/// The record at the head of `bytes`.
pub fn parse(bytes: &[u8]) -> Result<Found, String> {
    let mut cursor = Cursor { bytes, at: 0 };
    let size = cursor.number(4)? as u32;
    let magic = cursor.number(4)? as u32;
    if magic != MAGIC_V1 && magic != MAGIC_V2 {
        return Err(format!("magic {magic:08x}"));
    }
    let crc = cursor.number(4)? as u32;
    let queue_id = cursor.number(4)? as u32;
    let flag = cursor.number(4)? as i32;
    let queue_offset = cursor.number(8)?;
    let offset = cursor.number(8)?;
    let sys_flag = cursor.number(4)? as i32;
    let born_timestamp = cursor.number(8)? as i64;
    cursor.take(if sys_flag & 0x10 != 0 { 20 } else { 8 })?;
    let store_timestamp = cursor.number(8)? as i64;
    cursor.take(if sys_flag & 0x20 != 0 { 20 } else { 8 })?;
    let reconsume_times = cursor.number(4)? as i32;
    cursor.take(8)?;
    let body_len = cursor.number(4)? as usize;
    let body = cursor.take(body_len)?.to_vec();
    let topic_len = cursor.number(if magic == MAGIC_V2 { 2 } else { 1 })? as usize;
    let topic = String::from_utf8_lossy(cursor.take(topic_len)?).into_owned();
    let properties_len = cursor.number(2)? as usize;
    let properties = cursor.take(properties_len)?.to_vec();
    if cursor.at != size as usize {
        return Err(format!("size {size}, but its parts are {} bytes", cursor.at));
    }
    if !body.is_empty() && crc != crc32fast::hash(&body) & 0x7FFF_FFFF {
        return Err("the body's checksum differs".to_owned());
    }
    Ok(Found {
        offset,
        size,
        topic,
        queue_id,
        queue_offset,
        flag,
        sys_flag,
        born_timestamp,
        store_timestamp,
        reconsume_times,
        body,
        properties,
    })
}

/// Whole records one behind the other, as far as there are any.
pub fn records(mut rest: &[u8]) -> impl Iterator<Item = Found> {
    std::iter::from_fn(move || {
        let record = parse(rest).ok()?;
        rest = &rest[record.size as usize..];
        Some(record)
    })
}

/// Page by page, which the processor compares in a few steps.
fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(4096).all(|page| *page == [0; 4096][..page.len()])
}

/// Reads all segments, given by their base offsets. They must be adjacent and of one size but for the last.
pub fn read(segments: &BTreeMap<u64, Vec<u8>>) -> LogImage {
    let mut image = LogImage::default();
    let Some((first, head)) = segments.first_key_value() else { return image };
    let size = head.len() as u64;
    (image.begin, image.end) = (*first, *first);
    'segments: for (base, bytes) in segments {
        if *base != image.end || bytes.len() as u64 != size {
            image.stopped = format!("segment {base} of {} bytes follows {}", bytes.len(), image.end);
            break;
        }
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            if rest.len() >= 8 && rest[4..8] == MAGIC_FILLER.to_be_bytes() {
                let claimed = u32::from_be_bytes(rest[..4].try_into().expect("four bytes"));
                if claimed as usize == rest.len() {
                    break;
                }
                image.stopped = format!("a filler of {claimed} bytes where {} are left", rest.len());
                break 'segments;
            }
            match parse(rest) {
                Ok(record) if record.offset == image.end => {
                    at += record.size as usize;
                    image.end = record.end();
                    image.records.push(record);
                }
                Ok(record) => {
                    image.stopped = format!("a record of offset {}", record.offset);
                    break 'segments;
                }
                Err(reason) => {
                    image.stopped = reason;
                    image.dirty_tail = !is_zero(rest);
                    break 'segments;
                }
            }
        }
        image.end = base + size;
    }
    let behind = |base: &u64, bytes: &Vec<u8>| {
        let from = image.end.saturating_sub(*base).min(bytes.len() as u64) as usize;
        !is_zero(&bytes[from..])
    };
    image.dirty_tail |= segments.iter().any(|(base, bytes)| behind(base, bytes));
    image
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    #[test]
    fn the_checksum_is_the_common_one() {
        // The golden record of DefaultMessageStoreTest in Apache RocketMQ 4.9: CRC 151131488.
        assert_eq!(crc32fast::hash(b"Once, there was a chance for me!") & 0x7FFF_FFFF, 151_131_488);
    }

    #[test]
    fn it_reads_what_the_store_writes() {
        let host: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let mut segment = Vec::new();
        for (index, body) in [&b"one"[..], b"", &[7; 300]].iter().enumerate() {
            let message = keelmq::model::Message {
                topic: "T",
                queue_id: 3,
                flag: 5,
                sys_flag: 0,
                born_timestamp: 9,
                born_host: host,
                store_host: host,
                reconsume_times: 2,
                prepared_offset: 0,
                body,
                properties: b"UNIQ_KEY\x01a\x02",
            };
            let offset = 1024 + segment.len() as u64;
            keelmq::store::record::encode(
                &message,
                keelmq::store::record::body_crc(body),
                keelmq::model::QueueOffset(index as u64),
                keelmq::model::LogOffset(offset),
                77,
                &mut segment,
            );
        }
        let left = 1024 - segment.len() as u64;
        keelmq::store::record::encode_filler(left, &mut segment);
        segment.resize(1024, 0);
        let image = read(&BTreeMap::from([(1024, segment), (2048, vec![0; 1024])]));
        assert_eq!((image.records.len(), image.end, image.dirty_tail), (3, 2048, false), "{}", image.stopped);
        assert_eq!(image.records[2].property("UNIQ_KEY"), Some("a"));
        assert_eq!(
            (image.records[0].queue_id, image.records[2].queue_offset, image.records[2].store_timestamp),
            (3, 2, 77)
        );
    }
}

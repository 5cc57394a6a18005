//! One record of the commit log: RocketMQ's layout (big-endian), written and read. Pure over bytes.
//!
//! | field | bytes | |
//! |---|---|---|
//! | totalSize | 4 | whole record |
//! | magic | 4 | version 1 `0xDAA320A7`; version 2 `0xDAA320AB` (topic longer than 127 bytes) |
//! | bodyCRC | 4 | CRC-32 of the body without its top bit; 0 for an empty body |
//! | queueId, flag | 4 + 4 | |
//! | queueOffset, physicalOffset | 8 + 8 | |
//! | sysFlag | 4 | bits 0x10, 0x20: the hosts are IPv6 |
//! | bornTimestamp, bornHost | 8 + 8 or 20 | address, port as 4 bytes |
//! | storeTimestamp, storeHost | 8 + 8 or 20 | |
//! | reconsumeTimes, preparedTransactionOffset | 4 + 8 | |
//! | bodyLen, body | 4 + n | |
//! | topicLen, topic | 1 + n (version 1), 2 + n (version 2) | |
//! | propertiesLen, properties | 2 + n | |
//!
//! (Source: CommitLog and MessageDecoder of Apache RocketMQ 4.9.7 and 5.3.)

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::model::{
    LogOffset, Message, QueueOffset,
    message::{PROPERTIES_MAX_BYTES, TOPIC_MAX_BYTES, TOPIC_V1_MAX_BYTES, sys_flag},
};

pub const MAGIC_V1: u32 = 0xDAA3_20A7;
pub const MAGIC_V2: u32 = 0xDAA3_20AB;
/// Magic of the filler at the end of a segment: its size field tells the bytes left, the rest is undefined.
pub const MAGIC_FILLER: u32 = 0xCBD4_3194;
/// What must stay free behind every record: the filler's size and magic.
pub const FILLER_MIN: u64 = 8;
/// A record without body, topic and properties, version 1, IPv4.
pub const RECORD_MIN: u64 = 91;
/// Where the store timestamp stands in a record with an IPv4 born host.
const STORE_TIMESTAMP_V4: usize = 56;

/// A record as it stands in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    pub size: u32,
    pub queue_offset: QueueOffset,
    pub log_offset: LogOffset,
    pub store_timestamp: i64,
    pub message: Message<'a>,
}

/// What stands at a position of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan<'a> {
    Record(Record<'a>),
    /// The rest of the segment is unused; the log goes on in the next.
    Filler,
    /// Zeros: nothing was ever written here.
    Nothing,
    Invalid(&'static str),
}

/// Bytes that `message` takes in the log.
pub fn size_of(message: &Message<'_>) -> u64 {
    let host = |host: &SocketAddr| if host.is_ipv6() { 12 } else { 0 };
    let version_2 = u64::from(message.topic.len() > TOPIC_V1_MAX_BYTES);
    RECORD_MIN
        + host(&message.born_host)
        + host(&message.store_host)
        + version_2
        + (message.body.len() + message.topic.len() + message.properties.len()) as u64
}

/// The checksum RocketMQ keeps of a body.
pub fn body_crc(body: &[u8]) -> u32 {
    if body.is_empty() { 0 } else { crc32fast::hash(body) & 0x7FFF_FFFF }
}

/// Appends the record to `out`. `crc` is `body_crc` of its body (taken outside the append lock).
pub fn encode(
    message: &Message<'_>,
    crc: u32,
    queue_offset: QueueOffset,
    log_offset: LogOffset,
    store_timestamp: i64,
    out: &mut Vec<u8>,
) {
    assert!(message.topic.len() <= TOPIC_MAX_BYTES, "a topic of {} bytes", message.topic.len());
    assert!(message.properties.len() <= PROPERTIES_MAX_BYTES, "properties of {} bytes", message.properties.len());
    let size = size_of(message);
    let start = out.len();
    let version_2 = message.topic.len() > TOPIC_V1_MAX_BYTES;
    let mut flags = message.sys_flag & !(sys_flag::BORN_HOST_V6 | sys_flag::STORE_HOST_V6);
    if message.born_host.is_ipv6() {
        flags |= sys_flag::BORN_HOST_V6;
    }
    if message.store_host.is_ipv6() {
        flags |= sys_flag::STORE_HOST_V6;
    }
    out.reserve(size as usize);
    out.extend_from_slice(&(size as u32).to_be_bytes());
    out.extend_from_slice(&(if version_2 { MAGIC_V2 } else { MAGIC_V1 }).to_be_bytes());
    out.extend_from_slice(&crc.to_be_bytes());
    out.extend_from_slice(&message.queue_id.to_be_bytes());
    out.extend_from_slice(&message.flag.to_be_bytes());
    out.extend_from_slice(&queue_offset.0.to_be_bytes());
    out.extend_from_slice(&log_offset.0.to_be_bytes());
    out.extend_from_slice(&flags.to_be_bytes());
    out.extend_from_slice(&message.born_timestamp.to_be_bytes());
    put_host(&message.born_host, out);
    out.extend_from_slice(&store_timestamp.to_be_bytes());
    put_host(&message.store_host, out);
    out.extend_from_slice(&message.reconsume_times.to_be_bytes());
    out.extend_from_slice(&message.prepared_offset.to_be_bytes());
    out.extend_from_slice(&(message.body.len() as u32).to_be_bytes());
    out.extend_from_slice(message.body);
    if version_2 {
        out.extend_from_slice(&(message.topic.len() as u16).to_be_bytes());
    } else {
        out.push(message.topic.len() as u8);
    }
    out.extend_from_slice(message.topic.as_bytes());
    out.extend_from_slice(&(message.properties.len() as u16).to_be_bytes());
    out.extend_from_slice(message.properties);
    assert_eq!((out.len() - start) as u64, size, "size_of and encode disagree");
}

/// Appends the filler for the `remaining` bytes of a segment.
pub fn encode_filler(remaining: u64, out: &mut Vec<u8>) {
    assert!(remaining >= FILLER_MIN, "no room for a filler in {remaining} bytes");
    out.extend_from_slice(&(remaining as u32).to_be_bytes());
    out.extend_from_slice(&MAGIC_FILLER.to_be_bytes());
}

fn put_host(host: &SocketAddr, out: &mut Vec<u8>) {
    match host.ip() {
        IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
    }
    out.extend_from_slice(&u32::from(host.port()).to_be_bytes());
}

/// Size and magic at the head of `bytes`; `None` below eight bytes.
pub fn peek(bytes: &[u8]) -> Option<(u32, u32)> {
    let head: &[u8; 8] = bytes.first_chunk()?;
    let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    Some((word(0), word(4)))
}

/// Whether a record of `size` bytes with `left` to its segment's end stands where nobody could have closed the segment
/// behind it: it reaches to the end, or leaves room for a filler.
pub fn leaves_no_filler(size: u32, left: u64) -> bool {
    (1..FILLER_MIN).contains(&left.saturating_sub(size.into()))
}

/// Where the record that begins with `head` says that it stands; `None` if it is no record.
pub fn peek_log_offset(head: &[u8]) -> Option<LogOffset> {
    peek(head).filter(|(size, _)| u64::from(*size) >= RECORD_MIN)?;
    Some(LogOffset(u64::from_be_bytes(head.get(28..36)?.try_into().expect("eight bytes"))))
}

/// Store timestamp of a record whose first bytes are `head`, without reading the rest; `None` if it is no record.
pub fn peek_store_timestamp(head: &[u8]) -> Option<i64> {
    let (size, magic) = peek(head)?;
    if u64::from(size) < RECORD_MIN || (magic != MAGIC_V1 && magic != MAGIC_V2) {
        return None;
    }
    let flags = i32::from_be_bytes(head.get(36..40)?.try_into().ok()?);
    let at = STORE_TIMESTAMP_V4 + if flags & sys_flag::BORN_HOST_V6 != 0 { 12 } else { 0 };
    Some(i64::from_be_bytes(head.get(at..at + 8)?.try_into().ok()?))
}

/// What stands at the head of `bytes`, which reach to the end of what may be read there. With `check_crc` the body is
/// checked too; lengths and magic always are. Fewer than eight bytes say nothing, zeros least of all: a size begins with
/// them.
pub fn scan(bytes: &[u8], check_crc: bool) -> Scan<'_> {
    let Some((size, magic)) = peek(bytes) else {
        let is_zero = plant!(ShortRestTakenForEnd) && bytes.iter().all(|byte| *byte == 0);
        return if is_zero { Scan::Nothing } else { Scan::Invalid("cut off") };
    };
    match (size, magic) {
        (0, 0) => Scan::Nothing,
        (_, MAGIC_FILLER) => Scan::Filler,
        (_, MAGIC_V1 | MAGIC_V2) => match decode(bytes, size as usize, magic == MAGIC_V2, check_crc) {
            Ok(record) => Scan::Record(record),
            Err(what) => Scan::Invalid(what),
        },
        _ => Scan::Invalid("neither record nor filler"),
    }
}

/// Whether topic and properties are text without a zero byte. Nothing else is ever appended, and no checksum covers
/// them: a sector of the record that a power cut kept from the disk shows here.
pub fn is_text(topic: &[u8], properties: &[u8]) -> bool {
    [topic, properties].into_iter().all(|text| !text.contains(&0) && str::from_utf8(text).is_ok())
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or("lengths exceed the record")?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let (taken, rest) = self.bytes.split_first_chunk::<N>().ok_or("lengths exceed the record")?;
        self.bytes = rest;
        Ok(*taken)
    }

    fn host(&mut self, v6: bool) -> Result<SocketAddr, &'static str> {
        let ip = match v6 {
            false => IpAddr::V4(Ipv4Addr::from(self.array::<4>()?)),
            true => IpAddr::V6(Ipv6Addr::from(self.array::<16>()?)),
        };
        let port = u32::from_be_bytes(self.array()?);
        Ok(SocketAddr::new(ip, u16::try_from(port).map_err(|_| "a port above 65535")?))
    }
}

fn decode(bytes: &[u8], size: usize, version_2: bool, check_crc: bool) -> Result<Record<'_>, &'static str> {
    let whole = bytes.get(..size).ok_or("size beyond the written bytes")?;
    let mut reader = Reader { bytes: whole.get(8..).ok_or("smaller than its head")? };
    let crc = u32::from_be_bytes(reader.array()?);
    let queue_id = u32::from_be_bytes(reader.array()?);
    let flag = i32::from_be_bytes(reader.array()?);
    let queue_offset = QueueOffset(u64::from_be_bytes(reader.array()?));
    let log_offset = LogOffset(u64::from_be_bytes(reader.array()?));
    let flags = i32::from_be_bytes(reader.array()?);
    let born_timestamp = i64::from_be_bytes(reader.array()?);
    let born_host = reader.host(flags & sys_flag::BORN_HOST_V6 != 0)?;
    let store_timestamp = i64::from_be_bytes(reader.array()?);
    let store_host = reader.host(flags & sys_flag::STORE_HOST_V6 != 0)?;
    let reconsume_times = i32::from_be_bytes(reader.array()?);
    let prepared_offset = u64::from_be_bytes(reader.array()?);
    let body_len = u32::from_be_bytes(reader.array()?);
    let body = reader.take(body_len as usize)?;
    if check_crc && body_crc(body) != crc {
        return Err("the body's checksum differs");
    }
    let topic_len =
        if version_2 { u16::from_be_bytes(reader.array()?) as usize } else { reader.array::<1>()?[0] as usize };
    let topic = str::from_utf8(reader.take(topic_len)?).map_err(|_| "the topic is not UTF-8")?;
    if topic.is_empty() || topic.len() > TOPIC_MAX_BYTES || queue_id > i32::MAX as u32 {
        return Err("topic or queue out of bounds");
    }
    let properties_len = u16::from_be_bytes(reader.array()?);
    if properties_len > i16::MAX as u16 {
        return Err("a negative length");
    }
    let properties = reader.take(properties_len as usize)?;
    if !reader.bytes.is_empty() {
        return Err("lengths do not add up to the record's size");
    }
    let message = Message {
        topic,
        queue_id,
        flag,
        sys_flag: flags & !(sys_flag::BORN_HOST_V6 | sys_flag::STORE_HOST_V6),
        born_timestamp,
        born_host,
        store_host,
        reconsume_times,
        prepared_offset,
        body,
        properties,
    };
    Ok(Record { size: size as u32, queue_offset, log_offset, store_timestamp, message })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message<'a>(topic: &'a str, body: &'a [u8]) -> Message<'a> {
        Message {
            topic,
            queue_id: 0,
            flag: 0,
            sys_flag: 0,
            born_timestamp: 1_575_884_746_075,
            born_host: "127.0.0.1:0".parse().unwrap(),
            store_host: "10.0.6.82:8123".parse().unwrap(),
            reconsume_times: 0,
            prepared_offset: 0,
            body,
            properties: b"",
        }
    }

    #[test]
    fn the_golden_record_of_javas_store_test() {
        let body = b"Once, there was a chance for me!";
        let message = message("FooBar", body);
        assert_eq!(size_of(&message), 129);
        assert_eq!(body_crc(body), 151_131_488);
        let mut bytes = Vec::new();
        encode(&message, body_crc(body), QueueOffset(0), LogOffset(0), 1_575_884_746_086, &mut bytes);
        assert_eq!(&bytes[..12], [0, 0, 0, 129, 0xDA, 0xA3, 0x20, 0xA7, 0x09, 0x02, 0x15, 0x60]);
        assert_eq!(peek_store_timestamp(&bytes), Some(1_575_884_746_086));
        assert!(matches!(scan(&bytes, true), Scan::Record(record) if record.message == message && record.size == 129));
    }

    #[test]
    fn damage_is_seen() {
        let mut bytes = Vec::new();
        encode(&message("T", b"body"), body_crc(b"body"), QueueOffset(1), LogOffset(2), 3, &mut bytes);
        let check = |change: &dyn Fn(&mut Vec<u8>), expect: &str| {
            let mut damaged = bytes.clone();
            change(&mut damaged);
            assert!(matches!(scan(&damaged, true), Scan::Invalid(what) if what.contains(expect)), "{expect}");
        };
        check(&|bytes| bytes[90] ^= 1, "checksum");
        check(&|bytes| bytes[3] -= 1, "lengths");
        check(&|bytes| bytes[3] += 1, "beyond");
        check(&|bytes| bytes[4] ^= 1, "neither");
        check(&|bytes| bytes.truncate(20), "beyond");
        check(&|bytes| bytes.truncate(5), "cut off");
        assert_eq!(scan(&[0; 64], true), Scan::Nothing);
        for length in 0..8 {
            assert_eq!(scan(&[0; 8][..length], true), Scan::Invalid("cut off"));
        }
        let mut filler = Vec::new();
        encode_filler(100, &mut filler);
        assert_eq!(scan(&filler, true), Scan::Filler);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            topic in "[%|a-zA-Z0-9_-]{1,255}", body in proptest::collection::vec(any::<u8>(), 0..600),
            properties in proptest::collection::vec(any::<u8>(), 0..300), numbers in any::<[u32; 4]>(), wide in any::<[u64; 4]>(),
            v6 in any::<[bool; 2]>(),
        ) {
            let host = |v6: bool| if v6 { "[2001:db8::1]:10911" } else { "192.0.2.1:10911" }.parse().unwrap();
            let message = Message {
                topic: &topic, queue_id: numbers[0] >> 1, flag: numbers[1] as i32, sys_flag: (numbers[2] & 0xF) as i32,
                born_timestamp: wide[0] as i64, born_host: host(v6[0]), store_host: host(v6[1]),
                reconsume_times: numbers[3] as i32, prepared_offset: wide[1], body: &body, properties: &properties,
            };
            let mut bytes = Vec::new();
            encode(&message, body_crc(&body), QueueOffset(wide[2]), LogOffset(wide[3]), 7, &mut bytes);
            prop_assert_eq!(bytes.len() as u64, size_of(&message));
            let Scan::Record(record) = scan(&bytes, true) else { panic!("not a record") };
            for length in 0..bytes.len() {
                prop_assert!(matches!(scan(&bytes[..length], true), Scan::Invalid(_)), "its first {} bytes", length);
            }
            prop_assert_eq!(record, Record { size: bytes.len() as u32, queue_offset: QueueOffset(wide[2]),
                log_offset: LogOffset(wide[3]), store_timestamp: 7, message });
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), magic in any::<bool>()) {
            let mut bytes = bytes;
            if magic && bytes.len() > 8 {
                bytes[4..8].copy_from_slice(&MAGIC_V1.to_be_bytes());
                let size = bytes.len() as u32;
                bytes[..4].copy_from_slice(&size.to_be_bytes());
            }
            scan(&bytes, true);
        }
    }
}

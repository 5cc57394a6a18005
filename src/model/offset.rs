//! Positions. A `LogOffset` counts bytes of the commit log, a `QueueOffset` counts messages of one queue; they do not add.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    ops::{Add, Sub},
};

/// A byte position in the commit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogOffset(pub u64);

impl Add<u64> for LogOffset {
    type Output = LogOffset;
    fn add(self, bytes: u64) -> LogOffset {
        LogOffset(self.0 + bytes)
    }
}

impl Sub for LogOffset {
    type Output = u64;
    fn sub(self, other: LogOffset) -> u64 {
        self.0 - other.0
    }
}

impl fmt::Display for LogOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The position of a message in its queue, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct QueueOffset(pub u64);

impl Add<u64> for QueueOffset {
    type Output = QueueOffset;
    fn add(self, messages: u64) -> QueueOffset {
        QueueOffset(self.0 + messages)
    }
}

impl Sub for QueueOffset {
    type Output = u64;
    fn sub(self, other: QueueOffset) -> u64 {
        self.0 - other.0
    }
}

impl fmt::Display for QueueOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The broker's message id: upper-case hex of address (4 or 16 bytes), port (4) and log offset (8); 32 or 56 characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OffsetMessageId {
    pub store_host: SocketAddr,
    pub offset: LogOffset,
}

impl OffsetMessageId {
    /// Appends the text to `out`.
    pub fn render(&self, out: &mut Vec<u8>) {
        let mut hex = |bytes: &[u8]| {
            for byte in bytes {
                out.push(b"0123456789ABCDEF"[usize::from(byte >> 4)]);
                out.push(b"0123456789ABCDEF"[usize::from(byte & 15)]);
            }
        };
        match self.store_host.ip() {
            IpAddr::V4(ip) => hex(&ip.octets()),
            IpAddr::V6(ip) => hex(&ip.octets()),
        }
        hex(&u32::from(self.store_host.port()).to_be_bytes());
        hex(&self.offset.0.to_be_bytes());
    }

    /// Reads either length; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        if text.len() != 32 && text.len() != 56 {
            return None;
        }
        let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
        let mut bytes = [0u8; 28];
        for (at, pair) in text.chunks_exact(2).enumerate() {
            bytes[at] = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        let bytes = &bytes[..text.len() / 2];
        let (ip, rest) = bytes.split_at(bytes.len() - 12);
        let ip = match ip.len() {
            4 => IpAddr::from(<[u8; 4]>::try_from(ip).ok()?),
            _ => IpAddr::from(<[u8; 16]>::try_from(ip).ok()?),
        };
        let port = u32::from_be_bytes(rest[..4].try_into().ok()?);
        let offset = u64::from_be_bytes(rest[4..].try_into().ok()?);
        Some(OffsetMessageId { store_host: SocketAddr::new(ip, u16::try_from(port).ok()?), offset: LogOffset(offset) })
    }
}

impl fmt::Display for OffsetMessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::with_capacity(56);
        self.render(&mut text);
        f.write_str(str::from_utf8(&text).expect("hex digits are ASCII"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_ids_are_those_of_java() {
        // MessageDecoderTest and the golden record of DefaultMessageStoreTest in Apache RocketMQ 4.9.
        let check = |host: &str, offset: u64, expect: &str| {
            let id = OffsetMessageId { store_host: host.parse().unwrap(), offset: LogOffset(offset) };
            assert_eq!(id.to_string(), expect);
            assert_eq!(OffsetMessageId::parse(expect), Some(id));
        };
        check("10.0.6.82:8123", 0, "0A00065200001FBB0000000000000000");
        check("127.0.0.1:9103", 123456, "7F0000010000238F000000000001E240");
        check("[1050:0:0:0:5:600:300c:326b]:9103", 123456, "105000000000000000050600300C326B0000238F000000000001E240");
        assert_eq!(OffsetMessageId::parse("xyz"), None);
        assert_eq!(OffsetMessageId::parse("7F0000010001238F000000000001E240"), None);
    }
}

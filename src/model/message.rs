//! A message on its way into the log: values already checked by whoever took it in.

use std::net::SocketAddr;

/// Bits of `sys_flag` (MessageSysFlag).
pub mod sys_flag {
    pub const COMPRESSED: i32 = 0x1;
    pub const MULTI_TAGS: i32 = 0x2;
    pub const TRANSACTION_MASK: i32 = 0xC;
    pub const TRANSACTION_PREPARED: i32 = 0x4;
    pub const TRANSACTION_COMMIT: i32 = 0x8;
    pub const TRANSACTION_ROLLBACK: i32 = 0xC;
    pub const BORN_HOST_V6: i32 = 0x10;
    pub const STORE_HOST_V6: i32 = 0x20;
}

/// Largest properties text: its length stands in a signed 16-bit field.
pub const PROPERTIES_MAX_BYTES: usize = 32_767;
/// Largest topic of a version 1 record: its length stands in a signed byte.
pub const TOPIC_V1_MAX_BYTES: usize = 127;
/// Largest topic at all (retry and dead-letter topics).
pub const TOPIC_MAX_BYTES: usize = 255;
/// Longest name of a group or client that is kept beyond its request; RocketMQ's clients take groups of up to 255.
pub const NAME_MAX_BYTES: usize = 1_024;

/// Everything of a record but what the log itself decides: offsets, store timestamp, checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    pub topic: &'a str,
    pub queue_id: u32,
    pub flag: i32,
    /// Without the two host bits, which follow from the addresses.
    pub sys_flag: i32,
    /// Wall milliseconds, the producer's.
    pub born_timestamp: i64,
    pub born_host: SocketAddr,
    pub store_host: SocketAddr,
    pub reconsume_times: i32,
    /// Log offset of the half message that a commit belongs to; 0 for all others.
    pub prepared_offset: u64,
    pub body: &'a [u8],
    pub properties: &'a [u8],
}

/// A message that outlives the buffer it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedMessage {
    pub topic: String,
    pub queue_id: u32,
    pub flag: i32,
    pub sys_flag: i32,
    pub born_timestamp: i64,
    pub born_host: SocketAddr,
    pub store_host: SocketAddr,
    pub reconsume_times: i32,
    pub prepared_offset: u64,
    pub body: Vec<u8>,
    pub properties: Vec<u8>,
}

impl Message<'_> {
    pub fn to_owned(&self) -> OwnedMessage {
        OwnedMessage {
            topic: self.topic.to_owned(),
            queue_id: self.queue_id,
            flag: self.flag,
            sys_flag: self.sys_flag,
            born_timestamp: self.born_timestamp,
            born_host: self.born_host,
            store_host: self.store_host,
            reconsume_times: self.reconsume_times,
            prepared_offset: self.prepared_offset,
            body: self.body.to_vec(),
            properties: self.properties.to_vec(),
        }
    }

    /// Prepared and rolled-back halves take no place in their queue.
    pub fn takes_queue_offset(&self) -> bool {
        !matches!(
            self.sys_flag & sys_flag::TRANSACTION_MASK,
            sys_flag::TRANSACTION_PREPARED | sys_flag::TRANSACTION_ROLLBACK
        )
    }
}

impl OwnedMessage {
    pub fn borrow(&self) -> Message<'_> {
        Message {
            topic: &self.topic,
            queue_id: self.queue_id,
            flag: self.flag,
            sys_flag: self.sys_flag,
            born_timestamp: self.born_timestamp,
            born_host: self.born_host,
            store_host: self.store_host,
            reconsume_times: self.reconsume_times,
            prepared_offset: self.prepared_offset,
            body: &self.body,
            properties: &self.properties,
        }
    }
}

/// One item of a batch: what it has of its own; all else is the batch's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchItem<'a> {
    pub flag: i32,
    pub body: &'a [u8],
    pub properties: &'a [u8],
}

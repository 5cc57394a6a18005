//! The body of a broker's registration (103): JSON, or a zlib stream of lengths and texts.
//!
//! The stream, big-endian: i32 length and a `DataVersion` in JSON; i32 number of topics, each an i32 length and
//! `name readQueueNums writeQueueNums perm filterType [attributes in JSON]` separated by blanks (order and flags of a topic
//! are lost); i32 length and the filter servers as a JSON list; from V5_0_0 on more that is not read here.

use std::io::{self, Read, Write};

use flate2::{Compression, read::ZlibDecoder, write::ZlibEncoder};

use super::{Body, BodyError, DataVersion, TopicConfig, TopicConfigTable, TopicFilterType, body};

/// Bytes that a compressed registration may inflate to; a topic takes some 50.
const INFLATED_BYTES_MAX: u64 = 64 << 20;
/// Brokers below V3_0_11 send the topics alone.
const VERSION_WITH_FILTER_SERVERS: i32 = 37;

body! {
    /// What a broker tells a name server: its topics, or those that changed.
    #[derive(Eq, Default)]
    pub struct RegisterBrokerBody {
        pub filter_server_list: Vec<String> = "filterServerList",
        pub topics: TopicConfigTable = "topicConfigSerializeWrapper" or TopicConfigTable::default(),
    }
}

impl RegisterBrokerBody {
    /// Reads what a broker of `version` sent. No body at all means no topics.
    pub fn decode_registration(bytes: &[u8], compressed: bool, version: i32) -> Result<Self, BodyError> {
        if bytes.is_empty() {
            Ok(Self::default())
        } else if version < VERSION_WITH_FILTER_SERVERS {
            Ok(RegisterBrokerBody { topics: TopicConfigTable::decode(bytes)?, ..Self::default() })
        } else if compressed {
            Self::decode_compressed(bytes)
        } else {
            Self::decode(bytes)
        }
    }

    fn decode_compressed(bytes: &[u8]) -> Result<Self, BodyError> {
        let mut stream = ZlibDecoder::new(bytes).take(INFLATED_BYTES_MAX);
        let mut body = RegisterBrokerBody::default();
        body.topics.data_version = DataVersion::decode(&counted(&mut stream)?)?;
        for _ in 0..length(&mut stream)? {
            let topic = topic_from_line(&counted(&mut stream)?)?;
            body.topics.topic_config_table.insert(topic.topic_name.clone(), topic);
        }
        body.filter_server_list = Vec::decode(&counted(&mut stream)?)?;
        Ok(body)
    }

    /// The zlib form, up to V4.
    pub fn encode_compressed(&self) -> Vec<u8> {
        let mut plain = Vec::new();
        push_counted(&mut plain, &self.topics.data_version.encode());
        plain.extend_from_slice(&(self.topics.topic_config_table.len() as i32).to_be_bytes());
        for topic in self.topics.topic_config_table.values() {
            push_counted(&mut plain, line_of_topic(topic).as_bytes());
        }
        push_counted(&mut plain, &self.filter_server_list.encode());
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&plain).expect("writing to memory");
        encoder.finish().expect("writing to memory")
    }
}

/// The CRC that a registration states of its body: CRC-32 without its top bit.
pub fn registration_crc(body: &[u8]) -> i32 {
    (crc32fast::hash(body) & 0x7FFF_FFFF) as i32
}

fn line_of_topic(topic: &TopicConfig) -> String {
    let line = format!(
        "{} {} {} {} {}",
        topic.topic_name,
        topic.read_queue_nums,
        topic.write_queue_nums,
        topic.perm,
        topic.topic_filter_type.name()
    );
    // A sixth word would make a 4.x name server drop the topic, so that it stands only where 5.x has something to say.
    match &topic.attributes {
        Some(attributes) if !attributes.is_empty() => {
            format!("{line} {}", String::from_utf8_lossy(&attributes.encode()))
        }
        _ => line,
    }
}

fn topic_from_line(line: &[u8]) -> Result<TopicConfig, BodyError> {
    let read = || {
        let mut words = str::from_utf8(line).ok()?.splitn(6, ' ');
        let mut topic = TopicConfig::new(words.next()?, 0, 0);
        topic.read_queue_nums = words.next()?.parse().ok()?;
        topic.write_queue_nums = words.next()?.parse().ok()?;
        topic.perm = words.next()?.parse().ok()?;
        topic.topic_filter_type = TopicFilterType::from_name(words.next()?)?;
        if let Some(attributes) = words.next() {
            topic.attributes = Some(Body::decode(attributes.as_bytes()).ok()?);
        }
        Some(topic)
    };
    read().ok_or(BodyError::Binary("topic is not `name readQueues writeQueues perm filterType`"))
}

fn inflate(error: io::Error) -> BodyError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => BodyError::Binary("zlib stream ends too early or exceeds 64 MiB"),
        _ => BodyError::Binary("zlib stream is damaged"),
    }
}

fn length(stream: &mut impl Read) -> Result<u64, BodyError> {
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes).map_err(inflate)?;
    u64::try_from(i32::from_be_bytes(bytes)).map_err(|_| BodyError::Binary("zlib stream holds a negative length"))
}

/// Bytes behind their length; grows with what comes, not with what is announced.
fn counted(stream: &mut impl Read) -> Result<Vec<u8>, BodyError> {
    let length = length(stream)?;
    let mut bytes = Vec::new();
    stream.take(length).read_to_end(&mut bytes).map_err(inflate)?;
    if (bytes.len() as u64) < length {
        return Err(inflate(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(bytes)
}

fn push_counted(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as i32).to_be_bytes());
    out.extend_from_slice(bytes);
}

//! Headers of the requests that bring messages: sends in both spellings, send-back, the end of a transaction, replies.

use super::{Field, Fields, FieldsOut, HeaderError, Value, exact, header};
use crate::protocol::code::request;

/// A send: codes 10 and 324 spell its fields out (V1), 310, 320 and 325 use single letters (V2).
///
/// `batch` decides whether the body is a batch, not the code. The numbers are mandatory, but a request without topic
/// decodes to an empty topic and zeros: what is wrong with it is that its topic is blank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendMessage<'a> {
    /// Empty if it was missing, which RocketMQ accepts.
    pub producer_group: &'a str,
    pub topic: &'a str,
    /// Empty if it was missing, which RocketMQ accepts where the topic exists.
    pub default_topic: &'a str,
    /// 0 if it was missing.
    pub default_topic_queue_nums: i32,
    /// Negative: any.
    pub queue_id: i32,
    pub sys_flag: i32,
    pub born_timestamp: i64,
    pub flag: i32,
    pub properties: Option<&'a str>,
    pub reconsume_times: Option<i32>,
    pub unit_mode: bool,
    pub batch: bool,
    pub max_reconsume_times: Option<i32>,
    pub broker_name: Option<&'a str>,
}

/// The fields as text, before anything is checked.
#[derive(Default)]
struct Raw<'a> {
    producer_group: Option<&'a str>,
    topic: Option<&'a str>,
    default_topic: Option<&'a str>,
    default_topic_queue_nums: Option<&'a str>,
    queue_id: Option<&'a str>,
    sys_flag: Option<&'a str>,
    born_timestamp: Option<&'a str>,
    flag: Option<&'a str>,
    properties: Option<&'a str>,
    reconsume_times: Option<&'a str>,
    unit_mode: Option<&'a str>,
    max_reconsume_times: Option<&'a str>,
    batch: Option<&'a str>,
    broker_name: Option<&'a str>,
}

impl<'a> SendMessage<'a> {
    /// True if requests of `code` use single letters.
    pub fn is_v2(code: i32) -> bool {
        matches!(code, request::SEND_MESSAGE_V2 | request::SEND_BATCH_MESSAGE | request::SEND_REPLY_MESSAGE_V2)
    }

    pub fn decode(code: i32, fields: &'a Fields<'_>) -> Result<Self, HeaderError> {
        let is_v2 = Self::is_v2(code);
        let mut raw = if is_v2 { Raw::letters(fields) } else { Raw::names(fields) };
        if matches!(code, request::SEND_REPLY_MESSAGE | request::SEND_REPLY_MESSAGE_V2) {
            // RocketMQ never looks at it.
            raw.sys_flag = raw.sys_flag.or(Some("0"));
        }
        raw.check(if is_v2 { exact } else { Option::read })
    }

    /// Appends the fields spelled out.
    pub fn write_v1(&self, out: &mut FieldsOut) {
        const NAMES: [&str; 14] = [
            "producerGroup",
            "topic",
            "defaultTopic",
            "defaultTopicQueueNums",
            "queueId",
            "sysFlag",
            "bornTimestamp",
            "flag",
            "properties",
            "reconsumeTimes",
            "unitMode",
            "maxReconsumeTimes",
            "batch",
            "bname",
        ];
        self.write(NAMES, out);
    }

    /// Appends the fields as single letters.
    pub fn write_v2(&self, out: &mut FieldsOut) {
        self.write(["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n"], out);
    }

    fn write(&self, names: [&'static str; 14], out: &mut FieldsOut) {
        let values: [Option<Value>; 14] = [
            self.producer_group.write(),
            self.topic.write(),
            self.default_topic.write(),
            self.default_topic_queue_nums.write(),
            self.queue_id.write(),
            self.sys_flag.write(),
            self.born_timestamp.write(),
            self.flag.write(),
            self.properties.write(),
            self.reconsume_times.write(),
            self.unit_mode.write(),
            self.max_reconsume_times.write(),
            self.batch.write(),
            self.broker_name.write(),
        ];
        out.extend(names.into_iter().zip(values).filter_map(|(name, value)| Some((name, value?))));
    }
}

impl<'a> Raw<'a> {
    fn names(fields: &'a Fields<'_>) -> Self {
        let mut raw = Raw::default();
        for (key, value) in fields.iter() {
            let member = match key {
                "producerGroup" => &mut raw.producer_group,
                "topic" => &mut raw.topic,
                "defaultTopic" => &mut raw.default_topic,
                "defaultTopicQueueNums" => &mut raw.default_topic_queue_nums,
                "queueId" => &mut raw.queue_id,
                "sysFlag" => &mut raw.sys_flag,
                "bornTimestamp" => &mut raw.born_timestamp,
                "flag" => &mut raw.flag,
                "properties" => &mut raw.properties,
                "reconsumeTimes" => &mut raw.reconsume_times,
                "unitMode" => &mut raw.unit_mode,
                "maxReconsumeTimes" => &mut raw.max_reconsume_times,
                "batch" => &mut raw.batch,
                "bname" => &mut raw.broker_name,
                _ => continue,
            };
            *member = Some(value);
        }
        raw
    }

    fn letters(fields: &'a Fields<'_>) -> Self {
        let mut raw = Raw::default();
        for (key, value) in fields.iter() {
            let &[letter] = key.as_bytes() else { continue };
            let member = match letter {
                b'a' => &mut raw.producer_group,
                b'b' => &mut raw.topic,
                b'c' => &mut raw.default_topic,
                b'd' => &mut raw.default_topic_queue_nums,
                b'e' => &mut raw.queue_id,
                b'f' => &mut raw.sys_flag,
                b'g' => &mut raw.born_timestamp,
                b'h' => &mut raw.flag,
                b'i' => &mut raw.properties,
                b'j' => &mut raw.reconsume_times,
                b'k' => &mut raw.unit_mode,
                b'l' => &mut raw.max_reconsume_times,
                b'm' => &mut raw.batch,
                b'n' => &mut raw.broker_name,
                _ => continue,
            };
            *member = Some(value);
        }
        raw
    }

    /// `number` reads one that may be missing: spelled out it is forgiven, as a letter it is not.
    #[inline]
    fn check(
        self,
        number: impl Fn(&'static str, Option<&'a str>) -> Result<Option<i32>, HeaderError>,
    ) -> Result<SendMessage<'a>, HeaderError> {
        let topic = self.topic.unwrap_or_default();
        let zero = topic.is_empty().then_some("0");
        Ok(SendMessage {
            producer_group: self.producer_group.unwrap_or_default(),
            topic,
            default_topic: self.default_topic.unwrap_or_default(),
            default_topic_queue_nums: number("defaultTopicQueueNums", self.default_topic_queue_nums)?
                .unwrap_or_default(),
            queue_id: i32::read("queueId", self.queue_id.or(zero))?,
            sys_flag: i32::read("sysFlag", self.sys_flag.or(zero))?,
            born_timestamp: i64::read("bornTimestamp", self.born_timestamp.or(zero))?,
            flag: i32::read("flag", self.flag.or(zero))?,
            properties: self.properties,
            reconsume_times: number("reconsumeTimes", self.reconsume_times)?,
            unit_mode: bool::read("unitMode", self.unit_mode)?,
            batch: bool::read("batch", self.batch)?,
            max_reconsume_times: number("maxReconsumeTimes", self.max_reconsume_times)?,
            broker_name: self.broker_name,
        })
    }
}

header! {
    /// CONSUMER_SEND_MSG_BACK (36): deliver the record at a log offset once more, later.
    pub struct SendBack<'a> {
        /// A position in the commit log.
        pub offset: i64 = "offset",
        pub group: &'a str = "group",
        /// Negative: to the dead letters; 0: by the number of attempts; else a delay level.
        pub delay_level: i32 = "delayLevel",
        pub origin_message_id: Option<&'a str> = "originMsgId",
        pub origin_topic: Option<&'a str> = "originTopic",
        pub unit_mode: bool = "unitMode",
        pub max_reconsume_times: Option<i32> = "maxReconsumeTimes",
    }

    /// END_TRANSACTION (37).
    pub struct EndTransaction<'a> {
        pub topic: Option<&'a str> = "topic",
        pub producer_group: &'a str = "producerGroup",
        /// Queue offset of the half message.
        pub tran_state_table_offset: i64 = "tranStateTableOffset",
        pub commit_log_offset: i64 = "commitLogOffset",
        /// 8 commit, 12 rollback, 0 unknown.
        pub commit_or_rollback: i32 = "commitOrRollback",
        pub from_transaction_check: bool = "fromTransactionCheck",
        /// Mandatory in Java, but used by nobody: its absence is forgiven.
        pub message_id: Option<&'a str> = "msgId",
        pub transaction_id: Option<&'a str> = "transactionId",
    }

    /// CHECK_TRANSACTION_STATE (39), from the broker to a producer.
    pub struct CheckTransactionState<'a> {
        pub topic: Option<&'a str> = "topic",
        pub tran_state_table_offset: i64 = "tranStateTableOffset",
        pub commit_log_offset: i64 = "commitLogOffset",
        pub message_id: Option<&'a str> = "msgId",
        pub transaction_id: Option<&'a str> = "transactionId",
        pub offset_message_id: Option<&'a str> = "offsetMsgId",
    }

    /// PUSH_REPLY_MESSAGE_TO_CLIENT (326), from the broker to the client that asked.
    pub struct PushReply<'a> {
        pub producer_group: &'a str = "producerGroup",
        pub topic: &'a str = "topic",
        pub default_topic: &'a str = "defaultTopic",
        pub default_topic_queue_nums: i32 = "defaultTopicQueueNums",
        pub queue_id: i32 = "queueId",
        pub sys_flag: i32 = "sysFlag",
        pub born_timestamp: i64 = "bornTimestamp",
        pub flag: i32 = "flag",
        pub properties: Option<&'a str> = "properties",
        pub reconsume_times: Option<i32> = "reconsumeTimes",
        pub unit_mode: bool = "unitMode",
        /// `ip:port`.
        pub born_host: &'a str = "bornHost",
        /// `ip:port`.
        pub store_host: &'a str = "storeHost",
        pub store_timestamp: i64 = "storeTimestamp",
    }

    /// RECALL_MESSAGE (370, 5.x).
    pub struct RecallMessage<'a> {
        pub producer_group: Option<&'a str> = "producerGroup",
        pub topic: &'a str = "topic",
        pub recall_handle: &'a str = "recallHandle",
    }
}

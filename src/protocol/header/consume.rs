//! Headers of the requests that take messages out or ask about positions: pulls, offsets, queries by key and id.

use super::header;

header! {
    /// PULL_MESSAGE (11) and LITE_PULL_MESSAGE (361).
    pub struct PullMessage<'a> {
        pub consumer_group: &'a str = "consumerGroup",
        pub topic: &'a str = "topic",
        pub queue_id: i32 = "queueId",
        pub queue_offset: i64 = "queueOffset",
        pub max_message_nums: i32 = "maxMsgNums",
        /// See `pull_flag`.
        pub sys_flag: i32 = "sysFlag",
        /// Mandatory in Java, yet pulls without it succeed.
        pub commit_offset: Option<i64> = "commitOffset" exact as_is,
        /// Mandatory in Java, yet pulls without it succeed.
        pub suspend_timeout_millis: Option<i64> = "suspendTimeoutMillis" exact as_is,
        pub subscription: Option<&'a str> = "subscription",
        /// Mandatory in Java, yet pulls without it succeed.
        pub sub_version: Option<i64> = "subVersion" exact as_is,
        /// Missing (C++ never sends it): TAG.
        pub expression_type: Option<&'a str> = "expressionType",
        /// 5.x.
        pub max_message_bytes: Option<i32> = "maxMsgBytes",
    }

    /// QUERY_CONSUMER_OFFSET (14).
    pub struct QueryConsumerOffset<'a> {
        pub consumer_group: &'a str = "consumerGroup" or "null",
        pub topic: &'a str = "topic",
        pub queue_id: i32 = "queueId",
        /// 5.x.
        pub set_zero_if_not_found: Option<bool> = "setZeroIfNotFound",
    }

    /// UPDATE_CONSUMER_OFFSET (15).
    pub struct UpdateConsumerOffset<'a> {
        pub consumer_group: &'a str = "consumerGroup" or "null",
        pub topic: &'a str = "topic" or "null",
        pub queue_id: i32 = "queueId",
        pub commit_offset: i64 = "commitOffset",
    }

    /// SEARCH_OFFSET_BY_TIMESTAMP (29).
    pub struct SearchOffset<'a> {
        pub topic: &'a str = "topic",
        pub queue_id: i32 = "queueId",
        /// Milliseconds since 1970.
        pub timestamp: i64 = "timestamp",
        /// 5.x: `lower` or `upper` in any case.
        pub boundary_type: Option<&'a str> = "boundaryType",
    }

    /// GET_MAX_OFFSET (30).
    pub struct GetMaxOffset<'a> {
        pub topic: &'a str = "topic",
        pub queue_id: i32 = "queueId",
        /// 5.x; missing means true.
        pub committed: Option<bool> = "committed",
    }

    /// GET_MIN_OFFSET (31) and GET_EARLIEST_MSG_STORETIME (32).
    pub struct GetMinOffset<'a> {
        pub topic: &'a str = "topic",
        pub queue_id: i32 = "queueId",
    }

    /// QUERY_MESSAGE (12).
    pub struct QueryMessage<'a> {
        pub topic: &'a str = "topic" or "null",
        pub key: &'a str = "key" or "null",
        pub max_num: i32 = "maxNum",
        pub begin_timestamp: i64 = "beginTimestamp",
        pub end_timestamp: i64 = "endTimestamp",
        /// The key is a unique key, not one of KEYS.
        pub unique_key_query: bool = "_UNIQUE_KEY_QUERY",
    }

    /// VIEW_MESSAGE_BY_ID (33).
    pub struct ViewMessage<'a> {
        pub topic: Option<&'a str> = "topic",
        /// A position in the commit log.
        pub offset: i64 = "offset",
    }
}

/// Bits of a pull's `sysFlag`.
pub mod pull_flag {
    /// `commitOffset` is to be stored.
    pub const COMMIT_OFFSET: i32 = 1;
    /// Without messages the answer may wait.
    pub const SUSPEND: i32 = 2;
    /// The expression stands in the request.
    pub const SUBSCRIPTION: i32 = 4;
    pub const CLASS_FILTER: i32 = 8;
    /// From a lite pull consumer.
    pub const LITE_PULL: i32 = 16;
}

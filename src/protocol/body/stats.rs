//! Bodies that count: positions and rates of topics and groups, messages in a consume queue, spans of time.

use std::collections::BTreeMap;

use super::{MessageQueue, SubscriptionData, body};

body! {
    /// Answer to GET_CONSUME_STATS (208).
    #[derive(Default)]
    pub struct ConsumeStats {
        pub consume_tps: f64 = "consumeTps",
        pub offset_table: BTreeMap<MessageQueue, ConsumeOffsets> = "offsetTable",
    }

    /// Where a group stands in a queue.
    #[derive(Eq, Default)]
    pub struct ConsumeOffsets {
        pub broker_offset: i64 = "brokerOffset",
        pub consumer_offset: i64 = "consumerOffset",
        /// Store time of the last message consumed, in milliseconds since 1970.
        pub last_timestamp: i64 = "lastTimestamp",
        /// 5.x only.
        pub pull_offset: Option<i64> = "pullOffset",
    }

    /// Answer to GET_TOPIC_STATS_INFO (202).
    #[derive(Default)]
    pub struct TopicStatsTable {
        pub offset_table: BTreeMap<MessageQueue, TopicOffsets> = "offsetTable",
        /// 5.x only.
        pub topic_put_tps: Option<f64> = "topicPutTps",
    }

    /// How far a queue reaches.
    #[derive(Eq, Default)]
    pub struct TopicOffsets {
        /// Milliseconds since 1970; 0 if the queue is empty.
        pub last_update_timestamp: i64 = "lastUpdateTimestamp",
        pub max_offset: i64 = "maxOffset",
        pub min_offset: i64 = "minOffset",
    }

    /// Answer to GET_BROKER_CONSUME_STATS (317).
    #[derive(Default)]
    pub struct ConsumeStatsList {
        pub broker_addr: String = "brokerAddr",
        /// One group each: its statistics by topic.
        pub consume_stats_list: Vec<BTreeMap<String, Vec<ConsumeStats>>> = "consumeStatsList",
        pub total_diff: i64 = "totalDiff",
        /// 5.x only.
        pub total_inflight_diff: Option<i64> = "totalInflightDiff",
    }

    /// Answer to VIEW_BROKER_STATS_DATA (315).
    #[derive(Default)]
    pub struct BrokerStatsData {
        pub stats_day: BrokerStatsItem = "statsDay" or BrokerStatsItem::default(),
        pub stats_hour: BrokerStatsItem = "statsHour" or BrokerStatsItem::default(),
        pub stats_minute: BrokerStatsItem = "statsMinute" or BrokerStatsItem::default(),
    }

    /// A sum over a span, its rate a second and its average a time.
    #[derive(Default)]
    pub struct BrokerStatsItem {
        pub average_per_time: f64 = "avgpt",
        pub sum: i64 = "sum",
        pub tps: f64 = "tps",
    }

    /// Answer to QUERY_CONSUME_TIME_SPAN (303).
    #[derive(Eq, Default)]
    pub struct ConsumeTimeSpans {
        pub consume_time_span_set: Vec<QueueTimeSpan> = "consumeTimeSpanSet",
    }

    /// The times of a queue's messages and of the last consumed one, in milliseconds since 1970.
    #[derive(Eq)]
    pub struct QueueTimeSpan {
        pub consume_timestamp: i64 = "consumeTimeStamp",
        pub delay_time: i64 = "delayTime",
        pub max_timestamp: i64 = "maxTimeStamp",
        pub message_queue: MessageQueue = "messageQueue",
        pub min_timestamp: i64 = "minTimeStamp",
    }

    /// Answer to QUERY_CONSUME_QUEUE (321).
    pub struct ConsumeQueueEntries {
        pub filter_data: Option<String> = "filterData",
        pub max_queue_index: i64 = "maxQueueIndex",
        pub min_queue_index: i64 = "minQueueIndex",
        pub queue_data: Vec<ConsumeQueueEntry> = "queueData",
        pub subscription_data: Option<SubscriptionData> = "subscriptionData",
    }

    /// An entry of a consume queue.
    #[derive(Eq)]
    pub struct ConsumeQueueEntry {
        pub bit_map: Option<String> = "bitMap",
        pub eval: bool = "eval",
        pub extend_data_json: Option<String> = "extendDataJson",
        pub message: Option<String> = "msg",
        pub physic_offset: i64 = "physicOffset",
        pub physic_size: i32 = "physicSize",
        pub tags_code: i64 = "tagsCode",
    }
}

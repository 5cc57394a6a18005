//! Bodies about consumers' positions, on the wire and in files.

use std::collections::BTreeMap;

use super::{DataVersion, MessageQueue, body};

body! {
    /// `consumerOffset.json` and the answer to GET_ALL_CONSUMER_OFFSET (43): by `topic@group` and queue.
    #[derive(Eq, Default)]
    pub struct ConsumerOffsetTable {
        /// 5.x only.
        pub data_version: Option<DataVersion> = "dataVersion",
        pub offset_table: BTreeMap<String, BTreeMap<i32, i64>> = "offsetTable",
    }

    /// `delayOffset.json` and the answer to GET_ALL_DELAY_OFFSET (45): by level.
    #[derive(Eq, Default)]
    pub struct DelayOffsetTable {
        /// 5.x only.
        pub data_version: Option<DataVersion> = "dataVersion",
        pub offset_table: BTreeMap<i32, i64> = "offsetTable",
    }

    /// Answer to INVOKE_BROKER_TO_RESET_OFFSET (222), body of RESET_CONSUMER_CLIENT_OFFSET (220).
    #[derive(Eq, Default)]
    pub struct ResetOffsets {
        pub offset_table: BTreeMap<MessageQueue, i64> = "offsetTable",
    }

    /// What the C++ client wants in RESET_CONSUMER_CLIENT_OFFSET (220).
    #[derive(Eq, Default)]
    pub struct ResetOffsetsForC {
        pub offset_table: Vec<QueueOffsetForC> = "offsetTable",
    }

    /// A queue and its new position.
    #[derive(Eq)]
    pub struct QueueOffsetForC {
        pub broker_name: String = "brokerName",
        pub offset: i64 = "offset",
        pub queue_id: i32 = "queueId",
        pub topic: String = "topic",
    }

    /// Answers to GET_CONSUMER_STATUS_FROM_CLIENT (221) and INVOKE_BROKER_TO_GET_CONSUMER_STATUS (223).
    #[derive(Eq, Default)]
    pub struct ConsumerStatusTable {
        /// By client.
        pub consumer_table: BTreeMap<String, BTreeMap<MessageQueue, i64>> = "consumerTable",
        pub message_queue_table: BTreeMap<MessageQueue, i64> = "messageQueueTable",
    }

    /// Answer to QUERY_CORRECTION_OFFSET (308): by queue.
    #[derive(Eq, Default)]
    pub struct CorrectionOffsets {
        pub correction_offsets: BTreeMap<i32, i64> = "correctionOffsets",
    }
}

impl ResetOffsets {
    /// The form for C++.
    pub fn for_c(&self) -> ResetOffsetsForC {
        let one = |(queue, offset): (&MessageQueue, &i64)| QueueOffsetForC {
            broker_name: queue.broker_name.clone(),
            offset: *offset,
            queue_id: queue.queue_id,
            topic: queue.topic.clone(),
        };
        ResetOffsetsForC { offset_table: self.offset_table.iter().map(one).collect() }
    }
}

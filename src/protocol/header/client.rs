//! Headers about clients: who is there, who leaves, and what the broker tells or asks them.

use super::header;

header! {
    /// UNREGISTER_CLIENT (35).
    pub struct UnregisterClient<'a> {
        pub client_id: &'a str = "clientID" or "null",
        pub producer_group: Option<&'a str> = "producerGroup",
        pub consumer_group: Option<&'a str> = "consumerGroup",
    }

    /// GET_CONSUMER_LIST_BY_GROUP (38), GET_CONSUMER_CONNECTION_LIST (203), NOTIFY_CONSUMER_IDS_CHANGED (40).
    pub struct ConsumerGroup<'a> {
        pub consumer_group: &'a str = "consumerGroup",
    }

    /// GET_PRODUCER_CONNECTION_LIST (204).
    pub struct ProducerGroup<'a> {
        pub producer_group: &'a str = "producerGroup",
    }

    /// INVOKE_BROKER_TO_RESET_OFFSET (222), and 220 from the broker to consumers.
    pub struct ResetOffset<'a> {
        pub topic: &'a str = "topic",
        pub group: &'a str = "group",
        /// Milliseconds since 1970; -1 is the end of the queue.
        pub timestamp: i64 = "timestamp",
        pub is_force: bool = "isForce",
        /// 5.x; -1 or missing is every queue.
        pub queue_id: Option<i32> = "queueId",
        /// 5.x; instead of the timestamp.
        pub offset: Option<i64> = "offset",
    }

    /// INVOKE_BROKER_TO_GET_CONSUMER_STATUS (223), and 221 from the broker to consumers.
    pub struct ConsumerStatus<'a> {
        pub topic: &'a str = "topic",
        pub group: &'a str = "group",
        pub client_address: Option<&'a str> = "clientAddr",
    }

    /// GET_CONSUMER_RUNNING_INFO (307): passed on to the client.
    pub struct ConsumerRunningInfo<'a> {
        pub consumer_group: &'a str = "consumerGroup",
        pub client_id: &'a str = "clientId",
        pub jstack_enable: bool = "jstackEnable",
    }

    /// CONSUME_MESSAGE_DIRECTLY (309): passed on to the client with the record.
    pub struct ConsumeMessageDirectly<'a> {
        pub consumer_group: &'a str = "consumerGroup",
        pub client_id: Option<&'a str> = "clientId",
        pub message_id: Option<&'a str> = "msgId",
        pub broker_name: Option<&'a str> = "brokerName",
        pub topic: Option<&'a str> = "topic",
        pub topic_sys_flag: Option<i32> = "topicSysFlag",
        pub group_sys_flag: Option<i32> = "groupSysFlag",
    }
}

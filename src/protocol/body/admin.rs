//! Bodies for operators' tools: who is connected, which groups and topics belong together.

use std::collections::BTreeMap;

use super::{ConsumeFromWhere, ConsumeType, MessageModel, SubscriptionData, body};

body! {
    /// A client's connection.
    #[derive(Eq)]
    pub struct Connection {
        /// `ip:port`
        pub client_addr: String = "clientAddr",
        pub client_id: String = "clientId",
        /// RocketMQ's name of it.
        pub language: String = "language",
        pub version: i32 = "version",
    }

    /// Answer to GET_CONSUMER_CONNECTION_LIST (203).
    pub struct ConsumerConnection {
        pub connection_set: Vec<Connection> = "connectionSet",
        pub consume_from_where: ConsumeFromWhere = "consumeFromWhere",
        pub consume_type: ConsumeType = "consumeType",
        pub message_model: MessageModel = "messageModel",
        /// By topic.
        pub subscription_table: BTreeMap<String, SubscriptionData> = "subscriptionTable",
    }

    /// Answer to GET_PRODUCER_CONNECTION_LIST (204).
    #[derive(Eq)]
    pub struct ProducerConnection {
        pub connection_set: Vec<Connection> = "connectionSet",
    }

    /// Answer to GET_ALL_PRODUCER_INFO (328): by group.
    #[derive(Eq)]
    pub struct ProducerTable {
        pub data: BTreeMap<String, Vec<ProducerInfo>> = "data",
    }

    /// A producer's connection.
    #[derive(Eq)]
    pub struct ProducerInfo {
        pub client_id: String = "clientId",
        /// RocketMQ's name of it.
        pub language: String = "language",
        /// Milliseconds since 1970.
        pub last_update_timestamp: i64 = "lastUpdateTimestamp",
        /// Java prints a socket address with a leading slash here.
        pub remote_ip: String = "remoteIP",
        pub version: i32 = "version",
    }

    /// Answer to QUERY_TOPIC_CONSUME_BY_WHO (300).
    #[derive(Eq, Default)]
    pub struct GroupList {
        pub group_list: std::collections::BTreeSet<String> = "groupList",
    }

    /// Answer to QUERY_SUBSCRIPTION_BY_CONSUMER (345).
    pub struct SubscriptionOfGroup {
        pub group: String = "group",
        pub subscription_data: Option<SubscriptionData> = "subscriptionData",
        pub topic: Option<String> = "topic",
    }

    /// Answer of a client to CONSUME_MESSAGE_DIRECTLY (309).
    #[derive(Eq)]
    pub struct ConsumeDirectlyResult {
        pub auto_commit: bool = "autoCommit",
        pub consume_result: String = "consumeResult",
        pub order: bool = "order",
        pub remark: Option<String> = "remark",
        pub spent_time_mills: i64 = "spentTimeMills",
    }

    /// Answer to UPDATE_AND_GET_GROUP_FORBIDDEN (353).
    #[derive(Eq)]
    pub struct GroupForbiddenAnswer {
        pub group: String = "group",
        pub readable: bool = "readable",
        pub topic: String = "topic",
    }
}

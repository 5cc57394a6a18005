//! `consumerFilter.json`: which expressions groups subscribed with. Never on the wire. (Source: ConsumerFilterManager and
//! ConsumerFilterData of Apache RocketMQ 4.9.7; its bloom filters are left out, and Java makes its own where they are.)

use std::collections::BTreeMap;

use super::body;

body! {
    #[derive(Eq, Default)]
    pub struct ConsumerFilterTable {
        pub filter_data_by_topic: BTreeMap<String, FiltersOfTopic> = "filterDataByTopic",
    }

    #[derive(Eq, Default)]
    pub struct FiltersOfTopic {
        /// By group.
        pub group_filter_data: BTreeMap<String, ConsumerFilterData> = "groupFilterData",
        pub topic: String = "topic",
    }

    /// What a group wanted of a topic, last.
    #[derive(Eq, Default)]
    pub struct ConsumerFilterData {
        /// Wall milliseconds of the subscription.
        pub born_time: i64 = "bornTime",
        /// The subscription's version.
        pub client_version: i64 = "clientVersion",
        pub consumer_group: String = "consumerGroup",
        /// Nobody subscribes so any more, since `dead_time`.
        pub dead: bool = "dead",
        pub dead_time: i64 = "deadTime",
        pub expression: String = "expression",
        pub expression_type: String = "expressionType",
        pub topic: String = "topic",
    }
}

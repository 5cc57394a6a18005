//! Bodies about topics: their configuration, on the wire and in `topics.json`.

use std::collections::{BTreeMap, BTreeSet};

use super::{DataVersion, body, java_enum};

/// Bits of a topic's `perm`.
pub mod perm {
    pub const INHERIT: i32 = 1;
    pub const WRITE: i32 = 2;
    pub const READ: i32 = 4;
    pub const PRIORITY: i32 = 8;
}

java_enum! {
    /// Whether a message of the topic has one tag or several.
    pub enum TopicFilterType {
        SingleTag = "SINGLE_TAG",
        MultiTag = "MULTI_TAG",
    }
}

body! {
    /// A topic's configuration.
    #[derive(Eq)]
    pub struct TopicConfig {
        /// 5.x only.
        pub attributes: Option<BTreeMap<String, String>> = "attributes",
        pub order: bool = "order",
        /// See `perm`.
        pub perm: i32 = "perm" or perm::READ | perm::WRITE,
        pub read_queue_nums: i32 = "readQueueNums" or 16,
        pub topic_filter_type: TopicFilterType = "topicFilterType",
        pub topic_name: String = "topicName",
        /// Bit 0: unit, bit 1: subscribed by units.
        pub topic_sys_flag: i32 = "topicSysFlag",
        pub write_queue_nums: i32 = "writeQueueNums" or 16,
    }

    /// `topics.json`, the answer to GET_ALL_TOPIC_CONFIG (21), and most of a registration.
    #[derive(Eq, Default)]
    pub struct TopicConfigTable {
        pub data_version: DataVersion = "dataVersion" or DataVersion::default(),
        pub topic_config_table: BTreeMap<String, TopicConfig> = "topicConfigTable",
    }

    /// Body of UPDATE_AND_CREATE_TOPIC_LIST (18, 5.x).
    #[derive(Eq)]
    pub struct TopicConfigList {
        pub topic_config_list: Vec<TopicConfig> = "topicConfigList",
    }

    /// Topics by name. `broker_addr` is set by GET_SYSTEM_TOPIC_LIST_FROM_NS (304).
    #[derive(Eq, Default)]
    pub struct TopicList {
        pub broker_addr: Option<String> = "brokerAddr",
        pub topic_list: BTreeSet<String> = "topicList",
    }
}

impl TopicConfig {
    /// A topic of `queue_nums` queues, for reading and writing alike.
    pub fn new(topic_name: impl Into<String>, queue_nums: i32, perm: i32) -> Self {
        TopicConfig {
            attributes: None,
            order: false,
            perm,
            read_queue_nums: queue_nums,
            topic_filter_type: TopicFilterType::SingleTag,
            topic_name: topic_name.into(),
            topic_sys_flag: 0,
            write_queue_nums: queue_nums,
        }
    }
}

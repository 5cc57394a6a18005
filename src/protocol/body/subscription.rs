//! Bodies about consumer groups' configuration, on the wire and in `subscriptionGroup.json`.

use std::collections::BTreeMap;

use super::{DataVersion, body};
use crate::protocol::json::Json;

body! {
    /// A consumer group's configuration, also the body of UPDATE_AND_CREATE_SUBSCRIPTIONGROUP (200).
    pub struct SubscriptionGroupConfig {
        /// 5.x only.
        pub attributes: Option<BTreeMap<String, String>> = "attributes",
        pub broker_id: i64 = "brokerId",
        pub consume_broadcast_enable: bool = "consumeBroadcastEnable" or true,
        pub consume_enable: bool = "consumeEnable" or true,
        pub consume_from_min_enable: bool = "consumeFromMinEnable" or true,
        /// 5.x only.
        pub consume_message_orderly: Option<bool> = "consumeMessageOrderly",
        /// 5.x only.
        pub consume_timeout_minute: Option<i32> = "consumeTimeoutMinute",
        pub group_name: String = "groupName" must exist,
        /// 5.x only; kept as it came.
        pub group_retry_policy: Option<Json<'static>> = "groupRetryPolicy",
        /// 5.x only.
        pub group_sys_flag: Option<i32> = "groupSysFlag",
        pub notify_consumer_ids_changed_enable: bool = "notifyConsumerIdsChangedEnable" or true,
        pub retry_max_times: i32 = "retryMaxTimes" or 16,
        pub retry_queue_nums: i32 = "retryQueueNums" or 1,
        /// 5.x only; kept as it came.
        pub subscription_data_set: Option<Json<'static>> = "subscriptionDataSet",
        pub which_broker_when_consume_slowly: i64 = "whichBrokerWhenConsumeSlowly" or 1,
    }

    /// Body of UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST (225, 5.x).
    pub struct SubscriptionGroupList {
        pub group_config_list: Vec<SubscriptionGroupConfig> = "groupConfigList",
    }

    /// `subscriptionGroup.json`, and the answer to GET_ALL_SUBSCRIPTIONGROUP_CONFIG (201).
    #[derive(Default)]
    pub struct SubscriptionGroupTable {
        pub data_version: DataVersion = "dataVersion" or DataVersion::default(),
        /// 5.x only: group, topic, bits of what is forbidden.
        pub forbidden_table: Option<BTreeMap<String, BTreeMap<String, i32>>> = "forbiddenTable",
        pub subscription_group_table: BTreeMap<String, SubscriptionGroupConfig> = "subscriptionGroupTable",
    }
}

impl SubscriptionGroupConfig {
    /// RocketMQ's defaults.
    pub fn new(group_name: impl Into<String>) -> Self {
        SubscriptionGroupConfig {
            attributes: None,
            broker_id: 0,
            consume_broadcast_enable: true,
            consume_enable: true,
            consume_from_min_enable: true,
            consume_message_orderly: None,
            consume_timeout_minute: None,
            group_name: group_name.into(),
            group_retry_policy: None,
            group_sys_flag: None,
            notify_consumer_ids_changed_enable: true,
            retry_max_times: 16,
            retry_queue_nums: 1,
            subscription_data_set: None,
            which_broker_when_consume_slowly: 1,
        }
    }
}

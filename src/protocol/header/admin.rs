//! Headers of the requests that operators' tools send to a broker.

use super::header;

header! {
    /// DELETE_TOPIC_IN_BROKER (215), GET_TOPIC_STATS_INFO (202), QUERY_TOPIC_CONSUME_BY_WHO (300), GET_TOPIC_CONFIG (351),
    /// REGISTER_TOPIC_IN_NAMESRV (217): nothing but a topic.
    pub struct Topic<'a> {
        pub topic: &'a str = "topic",
    }

    /// GET_SUBSCRIPTIONGROUP_CONFIG (352), QUERY_TOPICS_BY_CONSUMER (343): nothing but a group.
    pub struct Group<'a> {
        pub group: &'a str = "group",
    }

    /// UPDATE_AND_CREATE_TOPIC (17).
    pub struct CreateTopic<'a> {
        pub topic: &'a str = "topic" or "",
        pub default_topic: Option<&'a str> = "defaultTopic",
        pub read_queue_nums: i32 = "readQueueNums",
        pub write_queue_nums: i32 = "writeQueueNums",
        pub perm: i32 = "perm",
        /// SINGLE_TAG or MULTI_TAG.
        pub topic_filter_type: &'a str = "topicFilterType",
        pub topic_sys_flag: Option<i32> = "topicSysFlag",
        pub order: bool = "order",
        /// 5.x: `+key=value,-key`.
        pub attributes: Option<&'a str> = "attributes",
    }

    /// DELETE_SUBSCRIPTIONGROUP (207); 4.9.7 says `removeOffset`, later versions `cleanOffset`.
    pub struct DeleteSubscriptionGroup<'a> {
        pub group_name: &'a str = "groupName",
        pub remove_offset: bool = "removeOffset",
        pub clean_offset: bool = "cleanOffset",
    }

    /// GET_CONSUME_STATS (208).
    pub struct GetConsumeStats<'a> {
        pub consumer_group: Option<&'a str> = "consumerGroup" exact as_is,
        pub topic: Option<&'a str> = "topic",
        /// 5.x: separated by semicolons.
        pub topic_list: Option<&'a str> = "topicList",
    }

    /// QUERY_CONSUME_TIME_SPAN (303), QUERY_SUBSCRIPTION_BY_CONSUMER (345).
    pub struct GroupAndTopic<'a> {
        pub group: &'a str = "group",
        pub topic: Option<&'a str> = "topic",
    }

    /// QUERY_CORRECTION_OFFSET (308).
    pub struct QueryCorrectionOffset<'a> {
        /// Separated by commas.
        pub filter_groups: Option<&'a str> = "filterGroups",
        pub compare_group: &'a str = "compareGroup",
        pub topic: &'a str = "topic",
    }

    /// CLONE_GROUP_OFFSET (314).
    pub struct CloneGroupOffset<'a> {
        pub source_group: &'a str = "srcGroup",
        pub destination_group: &'a str = "destGroup",
        pub topic: Option<&'a str> = "topic",
        pub offline: bool = "offline",
    }

    /// VIEW_BROKER_STATS_DATA (315).
    pub struct ViewBrokerStatsData<'a> {
        pub stats_name: &'a str = "statsName",
        pub stats_key: &'a str = "statsKey",
    }

    /// GET_BROKER_CONSUME_STATS (317).
    pub struct GetBrokerConsumeStats {
        pub is_order: bool = "isOrder",
    }

    /// QUERY_CONSUME_QUEUE (321).
    pub struct QueryConsumeQueue<'a> {
        pub topic: &'a str = "topic",
        pub queue_id: Option<i32> = "queueId",
        pub index: Option<i64> = "index",
        /// 0 or missing is 10 in 5.x.
        pub count: Option<i32> = "count",
        pub consumer_group: Option<&'a str> = "consumerGroup",
    }

    /// RESUME_CHECK_HALF_MESSAGE (323).
    pub struct ResumeCheckHalfMessage<'a> {
        pub topic: Option<&'a str> = "topic",
        pub message_id: Option<&'a str> = "msgId",
    }

    /// UPDATE_AND_GET_GROUP_FORBIDDEN (353, 5.x).
    pub struct GroupForbidden<'a> {
        pub group: &'a str = "group",
        pub topic: &'a str = "topic",
        pub readable: Option<bool> = "readable",
    }
}

//! Bodies between clients and a broker: heartbeats, lists of consumers, locks on queues, checks of a subscription.

use std::collections::BTreeSet;

use super::{MessageQueue, body, java_enum};

java_enum! {
    /// How a consumer gets its messages. C++ sends the ordinal.
    pub enum ConsumeType {
        Actively = "CONSUME_ACTIVELY",
        Passively = "CONSUME_PASSIVELY",
        Pop = "CONSUME_POP",
    }

    /// Who gets a message. C++ sends the ordinal.
    pub enum MessageModel {
        Broadcasting = "BROADCASTING",
        Clustering = "CLUSTERING",
    }

    /// Where a new group begins. C++ sends the ordinal.
    pub enum ConsumeFromWhere {
        LastOffset = "CONSUME_FROM_LAST_OFFSET",
        LastOffsetAndFromMinWhenBootFirst = "CONSUME_FROM_LAST_OFFSET_AND_FROM_MIN_WHEN_BOOT_FIRST",
        MinOffset = "CONSUME_FROM_MIN_OFFSET",
        MaxOffset = "CONSUME_FROM_MAX_OFFSET",
        FirstOffset = "CONSUME_FROM_FIRST_OFFSET",
        Timestamp = "CONSUME_FROM_TIMESTAMP",
    }
}

body! {
    /// HEART_BEAT (34).
    pub struct HeartbeatData {
        pub client_id: Option<String> = "clientID",
        pub consumer_data_set: Vec<ConsumerData> = "consumerDataSet",
        /// 5.x; not 0 selects the second version of heartbeats.
        pub heartbeat_fingerprint: Option<i64> = "heartbeatFingerprint",
        pub producer_data_set: Vec<ProducerData> = "producerDataSet",
        /// 5.x, second version: subscriptions are as before.
        pub without_sub: Option<bool> = "withoutSub",
    }

    /// A producer group of a heartbeat.
    pub struct ProducerData {
        pub group_name: String = "groupName" must exist,
    }

    /// A consumer group of a heartbeat.
    pub struct ConsumerData {
        pub consume_from_where: ConsumeFromWhere = "consumeFromWhere",
        pub consume_type: ConsumeType = "consumeType",
        pub group_name: String = "groupName" must exist,
        pub message_model: MessageModel = "messageModel" or MessageModel::Clustering,
        pub subscription_data_set: Vec<SubscriptionData> = "subscriptionDataSet",
        pub unit_mode: bool = "unitMode",
    }

    /// Of an answer to GET_CONSUMER_RUNNING_INFO (307): what the client subscribes to.
    #[derive(Default)]
    pub struct RunningSubscriptions {
        pub subscription_set: Vec<SubscriptionData> = "subscriptionSet",
    }

    /// What a group wants of a topic.
    pub struct SubscriptionData {
        pub class_filter_mode: bool = "classFilterMode",
        /// Hashes of the tags; Go sends them as text.
        pub code_set: BTreeSet<i32> = "codeSet",
        /// TAG or SQL92; C++ leaves it out.
        pub expression_type: Option<String> = "expressionType",
        pub sub_string: String = "subString",
        /// Milliseconds since 1970, of the client.
        pub sub_version: i64 = "subVersion",
        pub tags_set: BTreeSet<String> = "tagsSet",
        pub topic: String = "topic",
    }

    /// CHECK_CLIENT_CONFIG (46).
    pub struct CheckClientConfig {
        pub client_id: String = "clientId",
        pub group: String = "group",
        pub namespace: Option<String> = "namespace",
        pub subscription_data: Option<SubscriptionData> = "subscriptionData",
    }

    /// Answer to GET_CONSUMER_LIST_BY_GROUP (38).
    pub struct ConsumerIdList {
        pub consumer_id_list: Vec<String> = "consumerIdList",
    }

    /// LOCK_BATCH_MQ (41) and UNLOCK_BATCH_MQ (42).
    pub struct LockBatch {
        pub client_id: Option<String> = "clientId",
        pub consumer_group: Option<String> = "consumerGroup",
        pub mq_set: Vec<MessageQueue> = "mqSet",
        /// 5.x.
        pub only_this_broker: Option<bool> = "onlyThisBroker",
    }

    /// Answer to LOCK_BATCH_MQ (41). C++ and Go want the list even if it is empty.
    pub struct LockedBatch {
        pub lock_ok_mq_set: Vec<MessageQueue> = "lockOKMQSet",
    }
}

impl SubscriptionData {
    /// Subscriptions as people write them, `orders(*), payments(TagA)`, in one order; a group's retries are no wish of
    /// anybody's.
    pub fn describe<'a>(all: impl IntoIterator<Item = &'a SubscriptionData>) -> String {
        let named = all.into_iter().filter(|one| !one.topic.starts_with("%RETRY%"));
        let each: BTreeSet<String> = named
            .map(|one| match one.expression_type.as_deref() {
                None | Some("" | "TAG") => format!("{}({})", one.topic, one.sub_string),
                Some(kind) => format!("{}({kind}: {})", one.topic, one.sub_string),
            })
            .collect();
        if each.is_empty() { "nothing".to_owned() } else { each.into_iter().collect::<Vec<_>>().join(", ") }
    }
}

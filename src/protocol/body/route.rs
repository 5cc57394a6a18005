//! Bodies that say where topics and brokers are.

use std::collections::{BTreeMap, BTreeSet};

use super::{Member, body};
use crate::protocol::json::Style;

body! {
    /// A broker name's addresses by id; id 0 is the master.
    #[derive(Eq, PartialOrd, Ord)]
    pub struct BrokerData {
        pub broker_addrs: BTreeMap<i64, String> = "brokerAddrs",
        pub broker_name: String = "brokerName",
        pub cluster: String = "cluster",
        /// 5.x only.
        pub enable_acting_master: Option<bool> = "enableActingMaster",
        /// 5.x only.
        pub zone_name: Option<String> = "zoneName",
    }

    /// A topic's queues on one broker name.
    #[derive(Eq, PartialOrd, Ord)]
    pub struct QueueData {
        pub broker_name: String = "brokerName",
        pub perm: i32 = "perm",
        pub read_queue_nums: i32 = "readQueueNums",
        pub topic_sys_flag: i32 = "topicSysFlag",
        pub write_queue_nums: i32 = "writeQueueNums",
    }

    /// Answer to GET_ROUTEINFO_BY_TOPIC (105).
    #[derive(Eq, Default)]
    pub struct TopicRouteData {
        pub broker_datas: Vec<BrokerData> = "brokerDatas",
        /// By broker address.
        pub filter_server_table: BTreeMap<String, Vec<String>> = "filterServerTable",
        /// `broker:queues;…`
        pub order_topic_conf: Option<String> = "orderTopicConf",
        pub queue_datas: Vec<QueueData> = "queueDatas",
    }

    /// Answer to GET_BROKER_CLUSTER_INFO (106).
    #[derive(Eq, Default)]
    pub struct ClusterInfo {
        pub broker_addr_table: BTreeMap<String, BrokerData> = "brokerAddrTable",
        pub cluster_addr_table: BTreeMap<String, BTreeSet<String>> = "clusterAddrTable",
    }

    /// Answer to GET_BROKER_MEMBER_GROUP (901).
    #[derive(Eq)]
    pub struct BrokerMemberGroupAnswer {
        pub broker_member_group: BrokerMemberGroup = "brokerMemberGroup",
    }

    /// The addresses under one broker name.
    #[derive(Eq)]
    pub struct BrokerMemberGroup {
        pub broker_addrs: BTreeMap<i64, String> = "brokerAddrs",
        pub broker_name: String = "brokerName",
        pub cluster: String = "cluster",
    }
}

impl TopicRouteData {
    /// As `encode`, with broker ids in quotes: for askers of version 401 (V4_9_4) on and those that want standard JSON.
    pub fn encode_standard(&self) -> Vec<u8> {
        self.write().encode(Style::STANDARD)
    }
}

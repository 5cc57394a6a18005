//! Headers of the name server's requests.

use super::header;

header! {
    /// REGISTER_BROKER (103). Names and addresses may be missing here so that the refusal can say it of all at once.
    pub struct RegisterBroker<'a> {
        pub broker_name: Option<&'a str> = "brokerName",
        pub broker_addr: Option<&'a str> = "brokerAddr",
        pub cluster_name: Option<&'a str> = "clusterName",
        pub ha_server_addr: Option<&'a str> = "haServerAddr",
        pub broker_id: i64 = "brokerId",
        /// 5.x; missing means 120,000.
        pub heartbeat_timeout_millis: Option<i64> = "heartbeatTimeoutMillis",
        /// 5.x; present even if false on a 5.x broker.
        pub enable_acting_master: Option<bool> = "enableActingMaster",
        /// The body is a zlib stream.
        pub compressed: bool = "compressed",
        /// CRC-32 of the body without its top bit; 0 or missing is not checked.
        pub body_crc32: Option<i32> = "bodyCrc32",
    }

    /// UNREGISTER_BROKER (104), QUERY_DATA_VERSION (322).
    pub struct BrokerIdentity<'a> {
        pub broker_name: &'a str = "brokerName",
        pub broker_addr: &'a str = "brokerAddr",
        pub cluster_name: &'a str = "clusterName",
        pub broker_id: i64 = "brokerId",
    }

    /// BROKER_HEARTBEAT (904, 5.x).
    pub struct BrokerHeartbeat<'a> {
        pub cluster_name: &'a str = "clusterName",
        pub broker_addr: &'a str = "brokerAddr",
        pub broker_name: &'a str = "brokerName",
        pub broker_id: Option<i64> = "brokerId",
    }

    /// GET_ROUTEINFO_BY_TOPIC (105).
    pub struct GetRouteInfo<'a> {
        pub topic: &'a str = "topic",
        /// The asker cannot read bare numeric keys.
        pub accept_standard_json_only: bool = "acceptStandardJsonOnly",
    }

    /// GET_BROKER_MEMBER_GROUP (901, 5.x).
    pub struct GetBrokerMemberGroup<'a> {
        pub cluster_name: &'a str = "clusterName",
        pub broker_name: &'a str = "brokerName",
    }

    /// PUT_KV_CONFIG (100).
    pub struct PutKvConfig<'a> {
        pub namespace: &'a str = "namespace",
        pub key: &'a str = "key",
        pub value: &'a str = "value",
    }

    /// GET_KV_CONFIG (101), DELETE_KV_CONFIG (102).
    pub struct KvKey<'a> {
        pub namespace: &'a str = "namespace",
        pub key: &'a str = "key",
    }

    /// GET_KVLIST_BY_NAMESPACE (219).
    pub struct KvNamespace<'a> {
        pub namespace: &'a str = "namespace",
    }

    /// WIPE_WRITE_PERM_OF_BROKER (205), ADD_WRITE_PERM_OF_BROKER (327).
    pub struct BrokerName<'a> {
        pub broker_name: &'a str = "brokerName",
    }

    /// DELETE_TOPIC_IN_NAMESRV (216).
    pub struct DeleteTopicInNameServer<'a> {
        pub topic: &'a str = "topic",
        pub cluster_name: Option<&'a str> = "clusterName",
    }

    /// GET_TOPICS_BY_CLUSTER (224).
    pub struct Cluster<'a> {
        pub cluster: &'a str = "cluster",
    }
}

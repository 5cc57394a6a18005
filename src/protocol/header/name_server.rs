//! Headers of the name server's requests. What is looked up may be missing: nothing is found then.

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

    /// QUERY_DATA_VERSION (322). Who asks is not checked: nothing is known of a broker without a name.
    pub struct QueryDataVersion<'a> {
        pub broker_addr: &'a str = "brokerAddr" or "null",
        pub cluster_name: &'a str = "clusterName" or "null",
    }

    /// UNREGISTER_BROKER (104), and what a broker says of itself in 322.
    pub struct BrokerIdentity<'a> {
        pub broker_name: &'a str = "brokerName" or "null",
        pub broker_addr: &'a str = "brokerAddr" or "null",
        pub cluster_name: &'a str = "clusterName" or "null",
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
        pub topic: Option<&'a str> = "topic" exact as_is,
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
        pub value: Option<&'a str> = "value" exact as_is,
    }

    /// GET_KV_CONFIG (101), DELETE_KV_CONFIG (102).
    pub struct KvKey<'a> {
        pub namespace: Option<&'a str> = "namespace" exact as_is,
        pub key: Option<&'a str> = "key" exact as_is,
    }

    /// GET_KVLIST_BY_NAMESPACE (219).
    pub struct KvNamespace<'a> {
        pub namespace: Option<&'a str> = "namespace" exact as_is,
    }

    /// WIPE_WRITE_PERM_OF_BROKER (205), ADD_WRITE_PERM_OF_BROKER (327).
    pub struct BrokerName<'a> {
        pub broker_name: Option<&'a str> = "brokerName" exact as_is,
    }

    /// DELETE_TOPIC_IN_NAMESRV (216).
    pub struct DeleteTopicInNameServer<'a> {
        pub topic: Option<&'a str> = "topic" exact as_is,
        pub cluster_name: Option<&'a str> = "clusterName",
    }

    /// GET_TOPICS_BY_CLUSTER (224).
    pub struct Cluster<'a> {
        pub cluster: Option<&'a str> = "cluster" exact as_is,
    }
}

//! The name server's configuration: RocketMQ's keys and our own bounds. Knows no file and no command line.

use crate::{
    env::Host,
    model::settings::{Allowed, Other, Source, Standing, Unit, settings},
    remoting::ServerConfig,
};

pub use crate::model::settings::{Change, Entry, KeyError, LineError, Notice};

const TRUTH: Allowed = Allowed::Truth;
const NUMBER: Allowed = Allowed::number(0, i64::MAX, Unit::Count);
const DAY_MS: i64 = 86_400_000;

const fn ms(min: i64) -> Allowed {
    Allowed::number(min, DAY_MS, Unit::Milliseconds)
}

const fn count(max: i64) -> Allowed {
    Allowed::number(1, max, Unit::Count)
}

settings! {
    /// Everything the name server can be told.
    pub struct NamesrvConfig {
        listen_port: u16 = 9876; "listenPort", Allowed::number(0, 65_535, Unit::Port), AtStart, "port of the name server; 0 takes a free one";
        bind_address: String = "0.0.0.0".into(); "bindAddress", Allowed::Address, AtStart, "address to listen on";
        kv_config_path: String = String::new(); "kvConfigPath", Allowed::Text, AtStart, "file of the key-value settings; empty: namesrv/kvConfig.json in the home directory";
        config_store_path: String = String::new(); "configStorePath", Allowed::Text, AtStart, "file that code 318 rewrites; empty: the one given with -c, or namesrv/namesrv.properties in the home directory";
        order_message_enable: bool = false; "orderMessageEnable", TRUTH, AtRunTime, "tell clients the order settings of topics in routes";
        return_order_topic_config_to_broker: bool = true; "returnOrderTopicConfigToBroker", TRUTH, AtRunTime, "tell brokers the order settings when they register";
        scan_interval_ms: u64 = 10_000; "scanNotActiveBrokerInterval", ms(10), AtStart, "how often silent brokers are looked for";
        delete_topic_with_broker_registration: bool = false; "deleteTopicWithBrokerRegistration", TRUTH, AtRunTime, "a registration removes the topics that it no longer has";
        enable_topic_list: bool = true; "enableTopicList", TRUTH, AtRunTime, "serve lists of topics by cluster and kind";
        enable_all_topic_list: bool = true; "enableAllTopicList", TRUTH, AtRunTime, "serve the list of all topics";
        idle_close_s: u64 = 120; "serverChannelMaxIdleTimeSeconds", Allowed::number(1, 86_400, Unit::Seconds), AtStart, "an idle connection is closed after this long";
        server_socket_backlog: u32 = 1_024; "serverSocketBacklog", count(65_535), AtStart, "connections waiting to be accepted";

        broker_expired_ms: u64 = 120_000; "brokerExpiredMs", ms(10), AtStart, "KeelMQ: a broker that has not registered for this long is gone";
        connections_max: usize = 16_384; "connectionsMax", count(10_000_000), AtStart, "KeelMQ: connections at once, further ones are closed";
        frame_size_max_bytes: usize = 16_777_216; "frameSizeMaxBytes", Allowed::number(4096, 1 << 30, Unit::Bytes), AtStart, "KeelMQ: largest frame with its length field, a larger one closes the connection";
        connection_in_flight_max: usize = 1_024; "connectionInFlightMax", count(10_000_000), AtStart, "KeelMQ: requests of a connection under way, beyond it the connection is not read";
        connection_out_max_bytes: usize = 16 << 20; "connectionOutMaxBytes", Allowed::number(4096, 1 << 36, Unit::Bytes), AtStart, "KeelMQ: bytes waiting to be written on a connection, beyond it the connection is not read";
        connection_memory_max_bytes: usize = 256 << 20; "connectionMemoryMaxBytes", Allowed::number(65_536, 1 << 40, Unit::Bytes), AtStart, "KeelMQ: partial frames and waiting answers of all connections together";
        write_stall_close_ms: u64 = 60_000; "writeStallCloseMs", ms(1), AtStart, "KeelMQ: a peer that takes nothing for this long is cut off";
        calls_max: usize = 64; "callsMax", count(1_000_000), AtStart, "KeelMQ: requests from us to one client under way";
        request_lane_max: u32 = 50_000; "clientRequestThreadPoolQueueCapacity", count(100_000_000), AtStart, "route requests under way";
        default_lane_max: u32 = 10_000; "defaultThreadPoolQueueCapacity", count(100_000_000), AtStart, "other requests under way";
        brokers_max: usize = 10_000; "brokersMax", count(10_000_000), AtStart, "KeelMQ: registered brokers, a further one is refused";
        topics_max: usize = 1_000_000; "topicsMax", count(100_000_000), AtStart, "KeelMQ: topics of all brokers, further ones are refused";
        kv_max: usize = 100_000; "kvMax", count(100_000_000), AtStart, "KeelMQ: key-value settings";
    }
    others = OTHERS;
    aliases = &[];
    pending = &[];
}

const NO_POOLS: &str =
    "there are no thread pools, requests run where they arrive, bounded by the ...QueueCapacity keys";
const BUFFERS: &str = "socket buffers are left to the kernel, which sizes them by itself";
const NETTY: &str = "sockets are served by one task each, bounded by the ...Max keys";
const READY: &str = "the name server answers as soon as it listens";
const BY_KEY: &str = "each key says itself whether it can change at run time";
const REPLICATION: &str = "replication is not served yet";
const LEFT_OUT: &str = "it is a test aid of RocketMQ";
const AT_ONCE: &str = "a broker that leaves is taken out at once";
const CONTROLLER: &str = "the controller mode is not served yet";

const fn known(name: &'static str, allowed: Allowed, default: &'static str, why: &'static str) -> Other {
    Other { name, allowed, default, standing: Standing::NoEffect(why), is_new: false }
}

const fn new(name: &'static str, allowed: Allowed, default: &'static str, why: &'static str) -> Other {
    Other { name, allowed, default, standing: Standing::NoEffect(why), is_new: true }
}

static OTHERS: &[Other] = &[
    known("clusterTest", TRUTH, "false", LEFT_OUT),
    known("productEnvName", Allowed::Text, "center", LEFT_OUT),
    known("rocketmqHome", Allowed::Text, "", BY_KEY),
    known("serverAsyncSemaphoreValue", NUMBER, "64", NETTY),
    known("serverCallbackExecutorThreads", NUMBER, "0", NO_POOLS),
    known("serverOnewaySemaphoreValue", NUMBER, "256", NETTY),
    known("serverPooledByteBufAllocatorEnable", TRUTH, "true", NETTY),
    known("serverSelectorThreads", NUMBER, "3", NO_POOLS),
    known("serverSocketRcvBufSize", NUMBER, "0", BUFFERS),
    known("serverSocketSndBufSize", NUMBER, "0", BUFFERS),
    known("serverWorkerThreads", NUMBER, "8", NO_POOLS),
    known("useEpollNativeSelector", TRUTH, "false", NETTY),
    known("writeBufferHighWaterMark", NUMBER, "0", BUFFERS),
    known("writeBufferLowWaterMark", NUMBER, "0", BUFFERS),
    new("clientRequestThreadPoolNums", NUMBER, "8", NO_POOLS),
    new("configBlackList", Allowed::Text, "configBlackList;configStorePath;kvConfigPath", BY_KEY),
    new("defaultThreadPoolNums", NUMBER, "16", NO_POOLS),
    Other {
        name: "enableControllerInNamesrv",
        allowed: Allowed::OneOf(&["false"]),
        default: "false",
        standing: Standing::Refused(CONTROLLER),
        is_new: true,
    },
    new("enableShutdownGracefully", TRUTH, "false", NETTY),
    new("needWaitForService", TRUTH, "false", READY),
    new("notifyMinBrokerIdChanged", TRUTH, "false", REPLICATION),
    new("serverNettyWorkerGroupEnable", TRUTH, "true", NETTY),
    new("shutdownWaitTimeSeconds", NUMBER, "30", NETTY),
    new("supportActingMaster", TRUTH, "false", REPLICATION),
    new("unRegisterBrokerQueueCapacity", NUMBER, "3000", AT_ONCE),
    new("waitSecondsForService", NUMBER, "45", READY),
];

impl NamesrvConfig {
    /// Fills in what depends on this host.
    pub fn resolve(&mut self, host: &Host) {
        let home = host.home.display();
        let fill = [
            ("kvConfigPath", self.kv_config_path.is_empty(), format!("{home}/namesrv/kvConfig.json")),
            ("configStorePath", self.config_store_path.is_empty(), format!("{home}/namesrv/namesrv.properties")),
            ("bindAddress", self.bind_address.is_empty(), "0.0.0.0".to_owned()),
        ];
        for (key, is_unset, value) in fill {
            if is_unset {
                self.set(key, &value, Source::Host).expect("facts about a host are allowed values");
            }
        }
    }

    /// The bounds of the listening side.
    pub fn server(&self) -> ServerConfig {
        ServerConfig {
            connections_max: self.connections_max,
            frame_size_max_bytes: self.frame_size_max_bytes,
            idle_close_ms: self.idle_close_s * 1_000,
            connection_in_flight_max: self.connection_in_flight_max,
            connection_out_max_bytes: self.connection_out_max_bytes,
            memory_max_bytes: self.connection_memory_max_bytes,
            write_stall_close_ms: self.write_stall_close_ms,
            calls_max: self.calls_max,
            backlog: self.server_socket_backlog,
        }
    }

    /// Bounds within reach of a test.
    pub fn tiny() -> Self {
        NamesrvConfig {
            listen_port: 0,
            bind_address: "127.0.0.1".into(),
            kv_config_path: "namesrv/kvConfig.json".into(),
            config_store_path: "namesrv/namesrv.properties".into(),
            connections_max: 64,
            connection_in_flight_max: 64,
            frame_size_max_bytes: 1 << 20,
            connection_out_max_bytes: 256 << 10,
            connection_memory_max_bytes: 8 << 20,
            brokers_max: 16,
            topics_max: 1_024,
            kv_max: 64,
            ..NamesrvConfig::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_allowed_and_no_key_stands_twice() {
        let mut seen = std::collections::BTreeSet::new();
        for config in [NamesrvConfig::default(), NamesrvConfig::tiny()] {
            seen.clear();
            for entry in config.entries() {
                assert!(seen.insert(entry.key), "{} stands twice", entry.key);
                assert!(entry.allowed.admits(&entry.value), "{}={}", entry.key, entry.value);
            }
        }
    }

    #[test]
    fn what_is_not_served_is_refused_with_its_reason() {
        let errors = NamesrvConfig::parse_file("listenPort=9877\nenableControllerInNamesrv=true", "namesrv.conf");
        assert_eq!(
            errors.unwrap_err()[0].to_string(),
            "namesrv.conf:2: enableControllerInNamesrv=true: the controller mode is not served yet; allowed is only false"
        );
    }
}

//! The broker's configuration: RocketMQ's keys and our own bounds, each with default, what is allowed and what it does.
//! One table drives parsing, `-p`, code 26 and code 25. Knows no file and no command line.

mod convert;
mod no_effect;
mod words;

use crate::{
    env::Host,
    model::settings::{Allowed, Settings, Source, Unit, settings, value},
};

pub use crate::model::settings::{Change, Entry, KeyError, LineError, Notice, Standing};
pub use words::{FlushDiskType, MetricsExporter};

/// The id of a master, the only role that is served.
pub const BROKER_ID: i64 = 0;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

const fn bytes(min: u64, max: u64) -> Allowed {
    Allowed::number(min as i64, max as i64, Unit::Bytes)
}

const fn ms(min: i64, max: i64) -> Allowed {
    Allowed::number(min, max, Unit::Milliseconds)
}

const fn count(min: i64, max: i64) -> Allowed {
    Allowed::number(min, max, Unit::Count)
}

const fn percent() -> Allowed {
    Allowed::number(1, 100, Unit::Percent)
}

const DAY_MS: i64 = 86_400_000;
const LANE: Allowed = count(1, 100_000_000);
const PORT: Allowed = Allowed::number(0, 65_535, Unit::Port);
const TRUTH: Allowed = Allowed::Truth;

settings! {
    /// Everything the broker can be told. Values are within their bounds; `resolve` fills in what depends on the host
    /// and on other keys, `check` refuses what does not fit together.
    pub struct Config {
        // Identity and network
        broker_cluster_name: String = "DefaultCluster".into(); "brokerClusterName", Allowed::Name, AtStart, "cluster that the broker belongs to";
        broker_name: String = String::new(); "brokerName", Allowed::Text, AtStart, "name in routes; empty: the host's name";
        namesrv_addr: Vec<String> = Vec::new(); "namesrvAddr", Allowed::Addresses, AtRunTime, "name servers to register with";
        fetch_namesrv_addr_by_address_server: bool = false; "fetchNamesrvAddrByAddressServer", TRUTH, AtStart, "ask the address server for the name servers";
        update_name_server_addr_period_ms: u64 = 120_000; "updateNameServerAddrPeriod", ms(1_000, DAY_MS), AtStart, "how often the address server is asked";
        rmq_address_server_domain: String = "jmenv.tbsite.net".into(); "rmqAddressServerDomain", Allowed::Name, AtStart, "KeelMQ: the address server, with a port unless it is 8080 (RocketMQ's JVM property rocketmq.namesrv.domain)";
        rmq_address_server_sub_group: String = "nsaddr".into(); "rmqAddressServerSubGroup", Allowed::Name, AtStart, "KeelMQ: the end of the path that it is asked for (rocketmq.namesrv.domain.subgroup)";
        listen_port: u16 = 10911; "listenPort", PORT, AtStart, "port of the broker, the fast port is two below; 0 takes a free pair";
        bind_address: String = "0.0.0.0".into(); "bindAddress", Allowed::Address, AtStart, "address to listen on";
        broker_ip1: String = String::new(); "brokerIP1", Allowed::Text, AtStart, "address that clients are told, part of message ids; empty: first address that is not loopback";
        broker_ip2: String = String::new(); "brokerIP2", Allowed::Text, AtStart, "address that slaves are told; empty: brokerIP1";
        advertised_port: u16 = 0; "advertisedPort", PORT, AtStart, "port that clients are told; 0: the port listened on";
        ha_listen_port: u16 = 0; "haListenPort", PORT, AtStart, "port that slaves are told; 0: listenPort + 1";
        region_id: String = "DefaultRegion".into(); "regionId", Allowed::Text, AtRunTime, "MSG_REGION that consumers are told";

        // Permissions, topics, groups
        broker_permission: i32 = 6; "brokerPermission", count(0, 7), AtRunTime, "4 read + 2 write; 4 refuses sends, 2 refuses pulls";
        auto_create_topic_enable: bool = true; "autoCreateTopicEnable", TRUTH, AtRunTime, "a send to an unknown topic creates it";
        default_topic_queue_nums: u32 = 8; "defaultTopicQueueNums", count(1, 65_535), AtStart, "most queues that an auto-created topic gets";
        cluster_topic_enable: bool = true; "clusterTopicEnable", TRUTH, AtStart, "keep a topic named like the cluster";
        broker_topic_enable: bool = true; "brokerTopicEnable", TRUTH, AtStart, "keep a topic named like the broker";
        auto_create_subscription_group: bool = true; "autoCreateSubscriptionGroup", TRUTH, AtRunTime, "an unknown consumer group is created on first use";
        trace_topic_enable: bool = false; "traceTopicEnable", TRUTH, AtStart, "keep the message trace topic";
        msg_trace_topic_name: String = "RMQ_SYS_TRACE_TOPIC".into(); "msgTraceTopicName", Allowed::Topic { max: 127 }, AtStart, "name of the message trace topic";
        trace_on: bool = true; "traceOn", TRUTH, AtRunTime, "TRACE_ON that clients are told";
        enable_property_filter: bool = true; "enablePropertyFilter", TRUTH, AtRunTime, "consumers may filter by SQL92 (RocketMQ's default is false)";
        filter_support_retry: bool = false; "filterSupportRetry", TRUTH, AtRunTime, "filter retried messages, too";
        reject_transaction_message: bool = false; "rejectTransactionMessage", TRUTH, AtRunTime, "refuse transactional messages";
        transaction_timeout_ms: u64 = 6_000; "transactionTimeOut", ms(0, DAY_MS), AtRunTime, "age at which a half message is first asked after";
        transaction_check_max: u32 = 15; "transactionCheckMax", count(0, 1_000_000), AtRunTime, "how often a half message is asked after before it is given up";
        transaction_check_interval_ms: u64 = 60_000; "transactionCheckInterval", ms(100, DAY_MS), AtRunTime, "how often half messages are looked through";
        validate_system_topic_when_update_topic: bool = true; "validateSystemTopicWhenUpdateTopic", TRUTH, AtRunTime, "refuse changes of system topics";
        store_reply_message_enable: bool = true; "storeReplyMessageEnable", TRUTH, AtRunTime, "store replies of request-reply";
        notify_consumer_ids_changed_enable: bool = true; "notifyConsumerIdsChangedEnable", TRUTH, AtRunTime, "tell a group's consumers when its members change";
        use_server_side_reset_offset: bool = false; "useServerSideResetOffset", TRUTH, AtRunTime, "reset offsets in the broker (5.x) instead of through the consumers (4.9)";
        lite_pull_message_enable: bool = true; "litePullMessageEnable", TRUTH, AtRunTime, "serve lite pulls (code 361)";

        // Store
        store_path_root_dir: String = "./keelmq-data".into(); "storePathRootDir", Allowed::Name, AtStart, "directory of everything stored (RocketMQ's default is $HOME/store)";
        store_path_commit_log: String = String::new(); "storePathCommitLog", Allowed::Text, AtStart, "directory of the commit log; empty: commitlog below storePathRootDir";
        mapped_file_size_commit_log_bytes: u64 = GIB; "mappedFileSizeCommitLog", bytes(16 * KIB, 2 * GIB - 1), AtStart, "size of a commit log segment; an existing store keeps its own";
        mapped_file_size_consume_queue_bytes: u64 = 6_000_000; "mappedFileSizeConsumeQueue", bytes(20, 2 * GIB - 1), AtStart, "size of a consume queue file, rounded up to a multiple of 20";
        max_message_size_bytes: u32 = 4_194_304; "maxMessageSize", bytes(1, 256 * MIB), AtStart, "largest body of a message";
        flush_disk_type: FlushDiskType = FlushDiskType::Sync; "flushDiskType", FlushDiskType::ALLOWED, AtStart, "SYNC_FLUSH acknowledges what survives a power cut; ASYNC_FLUSH (RocketMQ's default) may lose the last half second";
        flush_interval_commit_log_ms: u64 = 500; "flushIntervalCommitLog", ms(1, DAY_MS), AtStart, "ASYNC_FLUSH: time between syncs";
        flush_commit_log_least_pages: u32 = 4; "flushCommitLogLeastPages", Allowed::number(0, 1_000_000, Unit::Pages), AtStart, "ASYNC_FLUSH: less than this waits for the thorough sync";
        flush_commit_log_thorough_interval_ms: u64 = 10_000; "flushCommitLogThoroughInterval", ms(1, DAY_MS), AtStart, "ASYNC_FLUSH: time after which everything is synced, however little";
        commit_interval_commit_log_ms: u64 = 200; "commitIntervalCommitLog", ms(1, DAY_MS), AtStart, "transient store pool: time between commits";
        flush_interval_consume_queue_ms: u64 = 1_000; "flushIntervalConsumeQueue", ms(1, DAY_MS), AtStart, "time between syncs of consume queues";
        flush_consume_queue_thorough_interval_ms: u64 = 60_000; "flushConsumeQueueThoroughInterval", ms(1, DAY_MS), AtStart, "time between checkpoints";
        sync_flush_timeout_ms: u64 = 5_000; "syncFlushTimeout", ms(1, DAY_MS), AtStart, "SYNC_FLUSH: a slower sync is answered with FLUSH_DISK_TIMEOUT";
        delete_when: String = "04".into(); "deleteWhen", Allowed::HoursOfDay, AtRunTime, "hours (local) in which expired segments are deleted";
        file_reserved_time_h: u64 = 72; "fileReservedTime", Allowed::number(0, 10_000_000, Unit::Hours), AtRunTime, "age at which a segment expires";
        disk_max_used_space_ratio: u32 = 75; "diskMaxUsedSpaceRatio", percent(), AtRunTime, "disk use that makes expired segments go at any hour";
        disk_space_clean_forcibly_ratio: u32 = 85; "diskSpaceCleanForciblyRatio", percent(), AtRunTime, "disk use that makes segments go before they expire";
        disk_space_warning_level_ratio: u32 = 90; "diskSpaceWarningLevelRatio", percent(), AtRunTime, "disk use at which sends are refused";
        clean_file_forcibly_enable: bool = true; "cleanFileForciblyEnable", TRUTH, AtRunTime, "whether segments may go before they expire";
        clean_resource_interval_ms: u64 = 10_000; "cleanResourceInterval", ms(10, DAY_MS), AtStart, "how often age and disk use are looked at";
        delete_commit_log_files_interval_ms: u64 = 100; "deleteCommitLogFilesInterval", ms(0, DAY_MS), AtRunTime, "pause between two deletions";
        segments_ahead: usize = 0; "segmentsAhead", count(0, 16), AtStart, "KeelMQ: segments prepared ahead of need; 0: two while they are at most 256 MiB, else one";
        delete_file_batch_max: u32 = 10; "deleteFileBatchMax", count(1, 1_000_000), AtRunTime, "segments deleted in one go";
        message_delay_level: String = "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h".into(); "messageDelayLevel", Allowed::DelayLevels, AtStart, "delays of the levels";
        flush_delay_offset_interval_ms: u64 = 10_000; "flushDelayOffsetInterval", ms(10, DAY_MS), AtStart, "how often the progress of delayed messages is stored";
        flush_consumer_offset_interval_ms: u64 = 5_000; "flushConsumerOffsetInterval", ms(10, DAY_MS), AtStart, "how often consumer offsets are stored";
        message_index_enable: bool = true; "messageIndexEnable", TRUTH, AtStart, "keep the index by key";
        max_hash_slot_num: u32 = 5_000_000; "maxHashSlotNum", count(1, 50_000_000), AtStart, "slots of an index file";
        max_index_num: u32 = 20_000_000; "maxIndexNum", count(2, 100_000_000), AtStart, "entries of an index file";
        max_msgs_num_batch: u32 = 64; "maxMsgsNumBatch", count(1, 100_000), AtRunTime, "most messages of a query by key";
        default_query_max_num: u32 = 32; "defaultQueryMaxNum", count(1, 100_000), AtRunTime, "messages of a query by unique key";
        max_transfer_bytes_on_message_in_memory: u64 = 262_144; "maxTransferBytesOnMessageInMemory", bytes(1, GIB), AtStart, "bytes of one pull near the end of the log";
        max_transfer_count_on_message_in_memory: u32 = 32; "maxTransferCountOnMessageInMemory", count(1, 100_000), AtStart, "messages of one pull near the end of the log";
        max_transfer_bytes_on_message_in_disk: u64 = 65_536; "maxTransferBytesOnMessageInDisk", bytes(1, GIB), AtStart, "bytes of one pull far behind the end";
        max_transfer_count_on_message_in_disk: u32 = 8; "maxTransferCountOnMessageInDisk", count(1, 100_000), AtStart, "messages of one pull far behind the end";
        access_message_in_memory_max_ratio: u32 = 40; "accessMessageInMemoryMaxRatio", Allowed::number(0, 100, Unit::Percent), AtStart, "share of the machine's memory that counts as near the end";
        max_filter_message_size_bytes: u64 = 16_000; "maxFilterMessageSize", bytes(20, GIB), AtStart, "bytes of consume queue looked through by one pull";
        os_page_cache_busy_timeout_ms: u64 = 1_000; "osPageCacheBusyTimeOutMills", ms(1, DAY_MS), AtRunTime, "an append that takes longer makes sends be refused for the moment";
        transient_store_pool_enable: bool = false; "transientStorePoolEnable", TRUTH, AtStart, "ASYNC_FLUSH: append into memory first; an acknowledged message may be lost when the process dies";
        transient_store_pool_size: u32 = 5; "transientStorePoolSize", count(1, 1_000), AtStart, "segments that fit into the pool";
        check_crc_on_recover: bool = true; "checkCRCOnRecover", TRUTH, AtStart, "check bodies during recovery";

        // Lanes: requests under way per kind, and how long one may have waited
        send_lane_max: u32 = 10_000; "sendThreadPoolQueueCapacity", LANE, AtStart, "sends under way";
        pull_lane_max: u32 = 100_000; "pullThreadPoolQueueCapacity", LANE, AtStart, "pulls under way";
        lite_pull_lane_max: u32 = 100_000; "litePullThreadPoolQueueCapacity", LANE, AtStart, "lite pulls under way";
        reply_lane_max: u32 = 10_000; "replyThreadPoolQueueCapacity", LANE, AtStart, "replies under way";
        query_lane_max: u32 = 20_000; "queryThreadPoolQueueCapacity", LANE, AtStart, "queries under way";
        admin_lane_max: u32 = 10_000; "adminBrokerThreadPoolQueueCapacity", LANE, AtStart, "requests of tools under way";
        client_manage_lane_max: u32 = 1_000_000; "clientManagerThreadPoolQueueCapacity", LANE, AtStart, "registrations of clients under way";
        consumer_manage_lane_max: u32 = 1_000_000; "consumerManagerThreadPoolQueueCapacity", LANE, AtStart, "requests about offsets and members under way";
        heartbeat_lane_max: u32 = 50_000; "heartbeatThreadPoolQueueCapacity", LANE, AtStart, "heartbeats under way";
        end_transaction_lane_max: u32 = 100_000; "endTransactionPoolQueueCapacity", LANE, AtStart, "commits and rollbacks under way";
        send_wait_ms_max: u32 = 200; "waitTimeMillsInSendQueue", ms(1, DAY_MS), AtStart, "a send that waited longer is refused as busy";
        pull_wait_ms_max: u32 = 5_000; "waitTimeMillsInPullQueue", ms(1, DAY_MS), AtStart, "the same for a pull";
        lite_pull_wait_ms_max: u32 = 5_000; "waitTimeMillsInLitePullQueue", ms(1, DAY_MS), AtStart, "the same for a lite pull";
        heartbeat_wait_ms_max: u32 = 31_000; "waitTimeMillsInHeartbeatQueue", ms(1, DAY_MS), AtStart, "the same for a heartbeat";
        transaction_wait_ms_max: u32 = 3_000; "waitTimeMillsInTransactionQueue", ms(1, DAY_MS), AtStart, "the same for a commit or rollback";
        admin_wait_ms_max: u32 = 5_000; "waitTimeMillsInAdminBrokerQueue", ms(1, DAY_MS), AtStart, "the same for a request of a tool";
        broker_fast_failure_enable: bool = true; "brokerFastFailureEnable", TRUTH, AtStart, "refuse what waited too long";
        start_accept_send_request_timestamp_ms: i64 = 0; "startAcceptSendRequestTimeStamp", ms(0, i64::MAX), AtRunTime, "refuse sends before this wall time";

        // Long polling, registration, clients
        long_polling_enable: bool = true; "longPollingEnable", TRUTH, AtRunTime, "hold a pull that finds nothing for as long as the client asks";
        short_polling_time_ms: u64 = 1_000; "shortPollingTimeMills", ms(1, DAY_MS), AtRunTime, "how long without long polling";
        register_name_server_period_ms: u64 = 30_000; "registerNameServerPeriod", ms(1, DAY_MS), AtStart, "time between registrations, taken as 10,000 to 60,000";
        force_register: bool = true; "forceRegister", TRUTH, AtRunTime, "register each time; false: only with a name server whose version of the topics is another";
        compressed_register: bool = false; "compressedRegister", TRUTH, AtRunTime, "compress registrations; RocketMQ's compressed form says of no topic whether it is ordered";
        register_broker_timeout_ms: u64 = 6_000; "registerBrokerTimeoutMills", ms(1, DAY_MS), AtRunTime, "how long a name server may take";
        channel_expired_timeout_ms: u64 = 120_000; "channelExpiredTimeout", ms(1, DAY_MS), AtStart, "a client without heartbeat for longer is gone";
        idle_close_s: u64 = 120; "serverChannelMaxIdleTimeSeconds", Allowed::number(1, 86_400, Unit::Seconds), AtStart, "an idle connection is closed after this long";
        server_socket_backlog: u32 = 1_024; "serverSocketBacklog", count(1, 65_535), AtStart, "connections waiting to be accepted";
        connect_timeout_ms: u64 = 3_000; "connectTimeoutMillis", ms(1, DAY_MS), AtStart, "how long connecting to a name server may take";

        // Metrics
        metrics_exporter_type: MetricsExporter = MetricsExporter::Disable; "metricsExporterType", MetricsExporter::ALLOWED, AtStart, "PROM serves /metrics, /healthz and /readyz";
        metrics_prom_exporter_host: String = String::new(); "metricsPromExporterHost", Allowed::Address, AtStart, "address of the metrics port; empty: bindAddress";
        metrics_prom_exporter_port: u16 = 5_557; "metricsPromExporterPort", PORT, AtStart, "the metrics port; 0 takes a free one";
        metrics_label: String = String::new(); "metricsLabel", Allowed::Text, AtStart, "labels of every metric: k:v,k:v";
        metrics_cardinality_max: u32 = 50_000; "metricsOtelCardinalityLimit", count(1, 10_000_000), AtStart, "most label combinations of a metric";

        // KeelMQ's own bounds
        connections_max: usize = 16_384; "connectionsMax", count(1, 10_000_000), AtStart, "KeelMQ: connections of a port at once, further ones are closed";
        frame_size_max_bytes: usize = 16_777_216; "frameSizeMaxBytes", bytes(4 * KIB, GIB), AtStart, "KeelMQ: largest frame with its length field, a larger one closes the connection";
        connection_in_flight_max: usize = 4_096; "connectionInFlightMax", count(1, 10_000_000), AtStart, "KeelMQ: requests of a connection under way, beyond it the connection is not read";
        connection_out_max_bytes: usize = (16 * MIB) as usize; "connectionOutMaxBytes", bytes(4 * KIB, 64 * GIB), AtStart, "KeelMQ: bytes waiting to be written on a connection, beyond it the connection is not read";
        connection_memory_max_bytes: usize = GIB as usize; "connectionMemoryMaxBytes", bytes(64 * KIB, 1 << 40), AtStart, "KeelMQ: partial frames and waiting answers of all connections together, beyond it those that hold much are not read";
        write_stall_close_ms: u64 = 60_000; "writeStallCloseMs", ms(1, DAY_MS), AtStart, "KeelMQ: a peer that takes nothing for this long is cut off";
        calls_max: usize = 1_024; "callsMax", count(1, 1_000_000), AtStart, "KeelMQ: requests from us to one client under way";
        staged_max_bytes: u64 = 4 * MIB; "stagedMaxBytes", bytes(4 * KIB, 64 * GIB), AtStart, "KeelMQ: appended bytes not yet handed to the kernel, beyond it the append does so itself";
        held_pulls_max: usize = 100_000; "heldPullsMax", count(1, 10_000_000), AtStart, "KeelMQ: pulls held for arrivals, a further one is answered at once";
        topics_max: usize = 100_000; "topicsMax", count(1, 10_000_000), AtRunTime, "KeelMQ: topics, a further one is refused";
        groups_max: usize = 100_000; "groupsMax", count(1, 10_000_000), AtRunTime, "KeelMQ: consumer groups, a further one is refused";
        queues_per_topic_max: u32 = 1_024; "queuesPerTopicMax", count(1, 65_535), AtRunTime, "KeelMQ: queues of a topic";
        clients_max: usize = 100_000; "clientsMax", count(1, 10_000_000), AtStart, "KeelMQ: registered producers and consumers, a client once for each of its groups";
        clients_memory_max_bytes: usize = (256 * MIB) as usize; "clientsMemoryMaxBytes", bytes(64 * KIB, 64 * GIB), AtStart, "KeelMQ: what their names and subscriptions may take together";
        queue_locks_max: usize = 1_000_000; "queueLocksMax", count(1, 100_000_000), AtStart, "KeelMQ: queues locked by orderly consumers";
        queue_lock_life_ms: u64 = 60_000; "queueLockLifeMs", ms(1, DAY_MS), AtStart, "KeelMQ: a locked queue is free again when its lock was not renewed for so long";
        consumer_offsets_max: usize = 10_000_000; "consumerOffsetsMax", count(1, 100_000_000), AtStart, "KeelMQ: stored offsets of group, topic and queue";
        transactions_pending_max: usize = 1_000_000; "transactionsPendingMax", count(1, 100_000_000), AtStart, "KeelMQ: half messages tracked in memory";
        enable_detail_stat: bool = true; "enableDetailStat", TRUTH, AtStart, "keep statistics of each queue, too";
        stats_keys_max: usize = 100_000; "statsKeysMax", count(1, 10_000_000), AtStart, "KeelMQ: names that statistics are kept for (and as many queues), further ones are counted together";
        upkeep_behind_max_bytes: u64 = 256 * MIB; "upkeepBehindMaxBytes", bytes(4 * KIB, 1 << 50), AtStart, "KeelMQ: what recovery may have to read; more of it makes queues and checkpoint be synced early";
        check_behind_bytes: u64 = 32 * MIB; "checkBehindBytes", bytes(0, 1 << 50), AtStart, "KeelMQ: how much of what is known to be durable a start looks at for damage, at least";
        segment_wait_ms_max: u64 = 5_000; "segmentWaitMaxMs", ms(1, DAY_MS), AtStart, "KeelMQ: how long an append waits for the next segment";
        delay_scan_interval_ms: u64 = 1_000; "delayScanIntervalMs", ms(1, 60_000), AtStart, "KeelMQ: longest time between looks at messages that wait, for the wall clock may jump";
        drain_ms: u64 = 5_000; "drainMs", ms(0, DAY_MS), AtStart, "KeelMQ: how long requests under way may take when stopping";
        open_files_max: usize = 1_024; "openFilesMax", count(16, 1_000_000), AtStart, "KeelMQ: consume queue files held open";
        disk_free_min_bytes: u64 = 64 * MIB; "diskFreeMinBytes", bytes(0, 1 << 50), AtRunTime, "KeelMQ: free space below which sends are refused";
    }
    others = no_effect::OTHERS;
    aliases = &[
        ("mapedFileSizeCommitLog", "mappedFileSizeCommitLog"),
        ("mapedFileSizeConsumeQueue", "mappedFileSizeConsumeQueue"),
        ("mapedFileSizeConsumeQueueExt", "mappedFileSizeConsumeQueueExt"),
        ("warmMappedFileEnable", "warmMapedFileEnable"),
        ("destroyMappedFileIntervalForcibly", "destroyMapedFileIntervalForcibly"),
    ];
    pending = &[];
}

/// Values that do not fit together. Each is one sentence that names the keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    #[error(
        "maxMessageSize={body_max} ({body_source}) needs records of up to {record_max} bytes, \
         which do not fit a segment of mappedFileSizeCommitLog={segment} ({segment_source})"
    )]
    RecordLargerThanSegment {
        body_max: u64,
        body_source: Source,
        record_max: u64,
        segment: u64,
        segment_source: Source,
    },
    #[error("maxMessageSize={body_max} ({body_source}) cannot arrive in frames of frameSizeMaxBytes={frame}")]
    BodyLargerThanFrame { body_max: u64, body_source: Source, frame: u64 },
    #[error("listenPort={0} leaves no fast port two below it; the lowest is 3")]
    NoFastPort(u16),
    #[error("transientStorePoolEnable=true ({0}) needs flushDiskType=ASYNC_FLUSH")]
    PoolWithSyncFlush(Source),
}

/// Bytes of a record beside its body, at most: the fixed fields with two IPv6 hosts, a topic of 255 bytes, properties
/// of 32,767, and the 8 bytes that the end-of-segment filler needs.
pub const RECORD_OVERHEAD_MAX_BYTES: u64 = 115 + 255 + 32_767 + 8;

impl Config {
    /// Fills in what depends on this host and on other keys. What is filled in says so as its source.
    pub fn resolve(&mut self, host: &Host) {
        let commit_log = format!("{}/commitlog", self.store_path_root_dir.trim_end_matches('/'));
        let broker_ip1 = if self.broker_ip1.is_empty() { host.ipv4.to_string() } else { self.broker_ip1.clone() };
        let unset = |text: &str| text.is_empty();
        let fill: [(&str, bool, String); 5] = [
            ("brokerName", unset(&self.broker_name), host.name.clone()),
            ("brokerIP1", unset(&self.broker_ip1), broker_ip1.clone()),
            ("brokerIP2", unset(&self.broker_ip2), broker_ip1),
            ("storePathCommitLog", unset(&self.store_path_commit_log), commit_log),
            ("bindAddress", unset(&self.bind_address), "0.0.0.0".to_owned()),
        ];
        for (key, is_unset, value) in fill {
            if is_unset {
                self.set(key, &value, Source::Host).expect("facts about a host are allowed values");
            }
        }
    }

    /// Refuses values that are good each by itself but not together.
    pub fn check(&self) -> Result<(), Misfit> {
        let body_max = u64::from(self.max_message_size_bytes);
        let record_max = body_max + RECORD_OVERHEAD_MAX_BYTES;
        if record_max > self.mapped_file_size_commit_log_bytes {
            return Err(Misfit::RecordLargerThanSegment {
                body_max,
                body_source: self.source_of("maxMessageSize"),
                record_max,
                segment: self.mapped_file_size_commit_log_bytes,
                segment_source: self.source_of("mappedFileSizeCommitLog"),
            });
        }
        if body_max + 64 * KIB > self.frame_size_max_bytes as u64 && self.source_of("maxMessageSize") != Source::Default
        {
            return Err(Misfit::BodyLargerThanFrame {
                body_max,
                body_source: self.source_of("maxMessageSize"),
                frame: self.frame_size_max_bytes as u64,
            });
        }
        if matches!(self.listen_port, 1 | 2) {
            return Err(Misfit::NoFastPort(self.listen_port));
        }
        if self.transient_store_pool_enable && self.flush_disk_type == FlushDiskType::Sync {
            return Err(Misfit::PoolWithSyncFlush(self.source_of("transientStorePoolEnable")));
        }
        Ok(())
    }

    /// Delays of the levels in milliseconds; level n is entry n - 1.
    pub fn delay_levels_ms(&self) -> Vec<u64> {
        value::delay_levels_ms(&self.message_delay_level).expect("the value was checked when it was taken")
    }

    /// Hours of the day, local, in which expired segments are deleted.
    pub fn delete_hours(&self) -> Vec<u8> {
        value::hours_of_day(&self.delete_when).expect("the value was checked when it was taken")
    }

    /// The interval between registrations as RocketMQ takes it.
    pub fn register_interval_ms(&self) -> u64 {
        self.register_name_server_period_ms.clamp(10_000, 60_000)
    }

    /// The consume queue file size as RocketMQ takes it: the next multiple of a unit.
    pub fn consume_queue_file_bytes(&self) -> u64 {
        self.mapped_file_size_consume_queue_bytes.next_multiple_of(20)
    }

    /// Bounds within reach of a test: every file is small, every table too, every interval short.
    pub fn tiny() -> Self {
        Config {
            broker_name: "tiny".into(),
            broker_ip1: "127.0.0.1".into(),
            broker_ip2: "127.0.0.1".into(),
            bind_address: "127.0.0.1".into(),
            listen_port: 0,
            mapped_file_size_commit_log_bytes: 64 * KIB,
            mapped_file_size_consume_queue_bytes: 20 * 64,
            max_hash_slot_num: 64,
            max_index_num: 256,
            max_message_size_bytes: 16 * KIB as u32,
            transaction_timeout_ms: 1_000,
            transaction_check_interval_ms: 1_000,
            send_lane_max: 256,
            pull_lane_max: 256,
            connections_max: 64,
            frame_size_max_bytes: 128 * KIB as usize,
            connection_in_flight_max: 64,
            connection_out_max_bytes: 256 * KIB as usize,
            connection_memory_max_bytes: 8 * MIB as usize,
            calls_max: 16,
            staged_max_bytes: 32 * KIB,
            held_pulls_max: 64,
            topics_max: 128,
            groups_max: 128,
            queues_per_topic_max: 64,
            clients_max: 128,
            clients_memory_max_bytes: 256 * KIB as usize,
            queue_locks_max: 256,
            consumer_offsets_max: 4_096,
            transactions_pending_max: 256,
            stats_keys_max: 64,
            open_files_max: 16,
            upkeep_behind_max_bytes: 96 * KIB,
            check_behind_bytes: 96 * KIB,
            disk_free_min_bytes: 0,
            ..Config::default()
        }
    }
}

#[cfg(test)]
mod tests;

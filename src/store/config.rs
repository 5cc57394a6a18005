//! Bounds and choices of the store, each with its unit. Filled from the broker's configuration.

use std::path::{Path, PathBuf};

use super::retention::Policy;

/// What an acknowledgement promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlushMode {
    /// The record is on stable storage (SYNC_FLUSH).
    Sync,
    /// The record is in the page cache: it survives the process, not the machine (ASYNC_FLUSH).
    Async,
    /// The record is in memory and is committed to the page cache on a timer (ASYNC_FLUSH, transientStorePoolEnable).
    Pooled,
}

#[derive(Debug, Clone)]
pub struct StoreConfig {
    pub root: PathBuf,
    pub commit_log: PathBuf,
    pub flush: FlushMode,
    /// Length of a commit-log file of a new store; an existing store keeps its own (mappedFileSizeCommitLog).
    pub segment_bytes: u64,
    /// Length of a consume-queue file, a multiple of 20 (mappedFileSizeConsumeQueue).
    pub queue_file_bytes: u64,
    /// Largest body (maxMessageSize).
    pub body_max_bytes: u64,
    /// Bytes appended but not yet handed to the file; above it the append itself hands them over.
    pub staged_max_bytes: u64,
    /// Segments prepared ahead of need.
    pub segments_ahead: usize,
    /// How long an append waits for the next segment.
    pub segment_wait_ms: u64,
    /// Pause of the allocator after a failure.
    pub segment_retry_ms: u64,
    /// ASYNC_FLUSH: period of the sync (flushIntervalCommitLog).
    pub flush_interval_ms: u64,
    /// ASYNC_FLUSH: fewer dirty bytes than this wait for the thorough sync (flushCommitLogLeastPages, 4 KiB each).
    pub flush_least_bytes: u64,
    /// flushCommitLogThoroughInterval
    pub flush_thorough_ms: u64,
    /// ASYNC_FLUSH: write-back is started whenever this much has been written.
    pub write_back_bytes: u64,
    /// Pooled: period of the commit (commitIntervalCommitLog).
    pub commit_interval_ms: u64,
    /// Pooled: bytes the pool may hold (transientStorePoolSize segments in Java); above it appends are refused.
    pub pool_max_bytes: u64,
    /// Period of the upkeep of queues and checkpoint (flushIntervalConsumeQueue).
    pub upkeep_interval_ms: u64,
    /// Everything derived is synced at least this often (flushConsumeQueueThoroughInterval)…
    pub upkeep_thorough_ms: u64,
    /// …and whenever recovery would have to read more than this.
    pub upkeep_behind_bytes: u64,
    /// A start checks at least so much of what is known to be durable for damage, if there is so much.
    pub check_behind_bytes: u64,
    /// Bytes of the log that a start reads at once; a record larger than this is read as a whole.
    pub replay_chunk_bytes: u64,
    /// The same of what is derived while the store is open.
    pub reput_chunk_bytes: u64,
    /// Consume-queue files kept open.
    pub queue_files_open_max: usize,
    /// checkCRCOnRecover
    pub check_crc: bool,
    /// Hash slots and entries of an index file (maxHashSlotNum, maxIndexNum).
    pub index_slots: u32,
    pub index_entries: u32,
    /// messageIndexEnable
    pub index: bool,
    /// A read further behind the log's end than this goes past the memory map (accessMessageInMemoryMaxRatio of RAM).
    pub memory_behind_bytes: u64,
    /// maxTransferBytesOnMessageInMemory, maxTransferCountOnMessageInMemory
    pub transfer_memory_bytes: u64,
    pub transfer_memory_count: u32,
    /// maxTransferBytesOnMessageInDisk, maxTransferCountOnMessageInDisk
    pub transfer_disk_bytes: u64,
    pub transfer_disk_count: u32,
    /// Bytes of a consume queue looked at for one pull (maxFilterMessageSize).
    pub filter_scan_bytes: u64,
    /// Which old segments go (and when sends are refused for lack of space)…
    pub retention: Policy,
    /// …looked at so often (cleanResourceInterval)…
    pub retention_interval_ms: u64,
    /// …the first segment goes so long after a start.
    pub retention_first_ms: u64,
    /// Whether all files are still there is looked at so often.
    pub presence_interval_ms: u64,
    /// Delay of each level in milliseconds, level 1 first (messageDelayLevel): the queue of SCHEDULE_TOPIC_XXXX keeps
    /// the time of delivery in place of a tag.
    pub delay_levels_ms: Vec<i64>,
}

impl StoreConfig {
    /// RocketMQ's defaults below `root`, with SYNC_FLUSH.
    pub fn new(root: &Path) -> Self {
        const MINUTE: i64 = 60_000;
        StoreConfig {
            root: root.to_owned(),
            commit_log: root.join("commitlog"),
            flush: FlushMode::Sync,
            segment_bytes: 1 << 30,
            queue_file_bytes: 6_000_000,
            body_max_bytes: 4 << 20,
            staged_max_bytes: 4 << 20,
            segments_ahead: 1,
            segment_wait_ms: 5_000,
            segment_retry_ms: 1_000,
            flush_interval_ms: 500,
            flush_least_bytes: 4 * 4_096,
            flush_thorough_ms: 10_000,
            write_back_bytes: 16 << 20,
            commit_interval_ms: 200,
            pool_max_bytes: 64 << 20,
            upkeep_interval_ms: 1_000,
            upkeep_thorough_ms: 60_000,
            upkeep_behind_bytes: 256 << 20,
            check_behind_bytes: 32 << 20,
            replay_chunk_bytes: 256 << 10,
            reput_chunk_bytes: 1 << 20,
            queue_files_open_max: 1_024,
            check_crc: true,
            index_slots: 5_000_000,
            index_entries: 20_000_000,
            index: true,
            memory_behind_bytes: 4 << 30,
            transfer_memory_bytes: 262_144,
            transfer_memory_count: 32,
            transfer_disk_bytes: 65_536,
            transfer_disk_count: 8,
            filter_scan_bytes: 16_000,
            retention: Policy::default(),
            retention_interval_ms: 10_000,
            retention_first_ms: 60_000,
            presence_interval_ms: 600_000,
            delay_levels_ms: [1, 5, 10, 30]
                .map(|seconds| seconds * 1_000)
                .into_iter()
                .chain([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 30, 60, 120].map(|minutes| minutes * MINUTE))
                .collect(),
        }
    }

    /// The same with every bound within reach of a test.
    pub fn tiny(root: &Path) -> Self {
        StoreConfig {
            segment_bytes: 64 << 10,
            queue_file_bytes: 20 * 64,
            body_max_bytes: 16 << 10,
            staged_max_bytes: 32 << 10,
            pool_max_bytes: 64 << 10,
            upkeep_behind_bytes: 96 << 10,
            check_behind_bytes: 96 << 10,
            // Odd on purpose: the ends of chunks meet every part of a record.
            replay_chunk_bytes: 1_021,
            reput_chunk_bytes: 509,
            queue_files_open_max: 8,
            index_slots: 64,
            index_entries: 256,
            memory_behind_bytes: 128 << 10,
            ..Self::new(root)
        }
    }
}

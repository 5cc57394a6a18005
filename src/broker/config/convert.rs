//! What the rooms below are told of the broker's configuration.

use std::path::{Path, PathBuf};

use super::{Config, FlushDiskType, MIB};
use crate::{
    env::Host,
    model::settings::value::hours_of_day,
    remoting::ServerConfig,
    store::{FlushMode, StoreConfig, retention::Policy},
};

/// Bytes of a page, which RocketMQ's `…LeastPages` count.
const PAGE_BYTES: u64 = 4_096;

impl Config {
    /// The bounds of the listening side, for the main port and the fast one alike.
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

    /// The store's bounds and choices. `host` says how much memory counts as near the end of the log.
    pub fn store(&self, host: &Host) -> StoreConfig {
        let root = Path::new(&self.store_path_root_dir);
        let segment = self.mapped_file_size_commit_log_bytes;
        let commit_log = match self.store_path_commit_log.as_str() {
            "" => root.join("commitlog"),
            path => PathBuf::from(path),
        };
        StoreConfig {
            commit_log,
            flush: match (self.flush_disk_type, self.transient_store_pool_enable) {
                (FlushDiskType::Sync, _) => FlushMode::Sync,
                (FlushDiskType::Async, false) => FlushMode::Async,
                (FlushDiskType::Async, true) => FlushMode::Pooled,
            },
            segment_bytes: segment,
            queue_file_bytes: self.consume_queue_file_bytes(),
            body_max_bytes: self.max_message_size_bytes.into(),
            staged_max_bytes: self.staged_max_bytes,
            segments_ahead: match self.segments_ahead {
                0 if segment <= 256 * MIB => 2,
                0 => 1,
                ahead => ahead,
            },
            segment_wait_ms: self.segment_wait_ms_max,
            flush_interval_ms: self.flush_interval_commit_log_ms,
            flush_least_bytes: u64::from(self.flush_commit_log_least_pages) * PAGE_BYTES,
            flush_thorough_ms: self.flush_commit_log_thorough_interval_ms,
            commit_interval_ms: self.commit_interval_commit_log_ms,
            pool_max_bytes: u64::from(self.transient_store_pool_size) * segment,
            upkeep_interval_ms: self.flush_interval_consume_queue_ms,
            upkeep_thorough_ms: self.flush_consume_queue_thorough_interval_ms,
            upkeep_behind_bytes: self.upkeep_behind_max_bytes,
            check_behind_bytes: self.check_behind_bytes,
            queue_files_open_max: self.open_files_max,
            check_crc: self.check_crc_on_recover,
            index_slots: self.max_hash_slot_num,
            index_entries: self.max_index_num,
            index: self.message_index_enable,
            memory_behind_bytes: host.ram_bytes / 100 * u64::from(self.access_message_in_memory_max_ratio),
            transfer_memory_bytes: self.max_transfer_bytes_on_message_in_memory,
            transfer_memory_count: self.max_transfer_count_on_message_in_memory,
            transfer_disk_bytes: self.max_transfer_bytes_on_message_in_disk,
            transfer_disk_count: self.max_transfer_count_on_message_in_disk,
            filter_scan_bytes: self.max_filter_message_size_bytes,
            retention: self.retention(),
            retention_interval_ms: self.clean_resource_interval_ms,
            delay_levels_ms: self.delay_levels_ms().into_iter().map(|delay| delay as i64).collect(),
            ..StoreConfig::new(root)
        }
    }

    /// Which segments may go, and when; `MessageStore::set_retention` takes a changed one.
    pub fn retention(&self) -> Policy {
        Policy {
            age_max_ms: (self.file_reserved_time_h as i64).saturating_mul(3_600_000),
            hours: hours_of_day(&self.delete_when).unwrap_or_default().into_iter().map(u32::from).collect(),
            expired_above_percent: self.disk_max_used_space_ratio,
            forced_above_percent: self.disk_space_clean_forcibly_ratio,
            forced: self.clean_file_forcibly_enable,
            refuse_above_percent: self.disk_space_warning_level_ratio,
            free_min_bytes: self.disk_free_min_bytes,
            batch_max: self.delete_file_batch_max as usize,
            pause_ms: self.delete_commit_log_files_interval_ms,
        }
    }
}

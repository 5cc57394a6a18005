//! Accepts connections up to a limit and gives each its task.

/// Bounds of the listening side.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    pub connections_max: usize,
    /// Length field and content together.
    pub frame_size_max_bytes: usize,
    pub idle_close_ms: u64,
    /// Requests of one connection that are under way; beyond it the connection is not read.
    pub connection_in_flight_max: usize,
    /// Bytes queued to be written on one connection; beyond it the connection is not read.
    pub connection_out_max_bytes: usize,
    /// Bytes of partial frames and queued answers of all connections together; beyond it no connection is read further.
    pub memory_max_bytes: usize,
    /// A peer that takes nothing of what is queued for this long is cut off.
    pub write_stall_close_ms: u64,
    /// Requests from us to one client that are under way.
    pub calls_max: usize,
    pub backlog: u32,
}

pub struct Server {}

//! What may go wrong on the wires, and how often.

/// Chances per million, and times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    pub latency_us: (u64, u64),
    /// A write resets the connection instead.
    pub reset: u32,
    pub connect_refused: u32,
    pub accept_fails: u32,
    /// A connection hands out its bytes in pieces: of 1 to 3 bytes at first, of up to 1,460 always.
    pub tiny_pieces: u32,
    pub pieces: u32,
    /// Bytes on their way before a writer has to wait.
    pub buffer_bytes: usize,
}

impl Default for Faults {
    fn default() -> Self {
        Faults {
            latency_us: (50, 50),
            reset: 0,
            connect_refused: 0,
            accept_fails: 0,
            tiny_pieces: 0,
            pieces: 0,
            buffer_bytes: 64 * 1024,
        }
    }
}

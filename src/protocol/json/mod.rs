//! The JSON dialect of headers and bodies (fastjson's): lenient reading, Java-shaped writing. Knows no body's members.

pub(crate) mod scan;
pub(crate) mod text;

/// Why text is not JSON, also in its widest reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not JSON: {what} at byte {at}")]
pub struct JsonError {
    pub what: &'static str,
    pub at: usize,
}

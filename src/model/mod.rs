//! Values that are valid once constructed: offsets, messages and their properties, filters, settings. Pure; knows nobody.

pub mod filter;
pub mod message;
pub mod offset;
pub mod properties;
pub mod rate_limited;
pub mod search;
pub mod settings;
pub mod spread;
pub mod watermark;

pub use message::{BatchItem, Message, OwnedMessage};
pub use offset::{LogOffset, OffsetMessageId, QueueOffset};
pub use rate_limited::RateLimited;
pub use watermark::Watermark;

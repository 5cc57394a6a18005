//! The name server: which broker serves which topic. Knows connections; nothing of messages or logs.

pub mod config;

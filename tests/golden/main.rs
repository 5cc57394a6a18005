//! Bytes recorded from Apache RocketMQ are read, mean what they meant, and are written again as they were.
//! How they were recorded stands in `README.md`.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod logs;
mod reading;
mod refusals;
mod wire_and_files;
#[allow(dead_code)]
#[path = "../remoting/world.rs"]
mod world;

//! Connections over real sockets: bytes in any pieces, answers held back, peers that misbehave.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod answers;
mod both_ways;
mod frames;
mod peers;
#[allow(dead_code)] // other tests share it, and none needs all of it
mod world;

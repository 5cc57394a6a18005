//! Connections over real sockets: bytes in any pieces, answers held back, peers that misbehave.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod answers;
mod both_ways;
mod frames;
mod peers;
mod world;

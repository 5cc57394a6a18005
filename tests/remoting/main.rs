//! Connections over real sockets: bytes in any pieces, answers held back, peers that misbehave.

mod answers;
mod both_ways;
mod frames;
mod peers;
mod world;

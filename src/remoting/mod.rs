//! Connections that carry commands. Knows sockets (through `env`), frames and codes; nothing of messages, topics or logs.

mod calls;
pub mod channel;
pub mod client;
mod connection;
mod input;
mod kept;
pub mod latency;
mod limits;
mod output;
pub mod router;
mod scratch;
pub mod server;

pub use channel::{CallError, Channel};
pub use client::{Client, ClientConfig};
pub use latency::Latencies;
pub use router::{Answer, Busy, Lane, Processor, Promise, Request, Router};
pub use server::{CannotListen, Server, ServerConfig};

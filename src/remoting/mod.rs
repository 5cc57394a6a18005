//! Connections that carry commands. Knows sockets (through `env`), frames and codes; nothing of messages, topics or logs.

pub mod channel;
pub mod client;
pub mod connection;
pub mod router;
pub mod server;

pub use channel::{CallError, Channel};
pub use client::Client;
pub use router::{Answer, Lane, Processor, Promise, Request, Router};
pub use server::{Server, ServerConfig};

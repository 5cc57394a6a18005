//! The hand by which the rest of the broker holds a connection: answer later, call the client, close.

use std::{net::SocketAddr, time::Duration};

use crate::protocol::command::{Answered, Call, Response, Serialization};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    #[error("the connection to {peer} is closed")]
    Closed { peer: String },
    #[error("no answer from {peer} within {after_ms} ms")]
    TimedOut { peer: String, after_ms: u64 },
    #[error("cannot connect to {peer}: {reason}")]
    Connect { peer: String, reason: String },
    #[error("{under_way} calls are under way to {peer}, {max} are allowed")]
    TooMany { peer: String, under_way: usize, max: usize },
}

/// One connection, seen from outside its task.
pub struct Channel {
    id: u64,
    peer: SocketAddr,
    local: SocketAddr,
}

impl Channel {
    /// Unique within the process's server; never used again.
    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    pub fn local(&self) -> SocketAddr {
        self.local
    }

    pub fn is_open(&self) -> bool {
        true
    }

    /// Answers a request that was left open with `Answer::None`. Nothing happens on a closed channel.
    pub fn respond(&self, _opaque: i32, _serialization: Serialization, _response: Response) {}

    /// Sends a request to the client and forgets it.
    pub fn oneway(&self, _call: Call) {}

    /// Sends a request to the client and waits for its answer.
    pub async fn call(&self, _call: Call, _within: Duration) -> Result<Answered, CallError> {
        Err(CallError::Closed { peer: self.peer.to_string() })
    }

    /// Closes the connection; what is queued to be written may be lost.
    pub fn close(&self) {}
}

//! Byte streams between addresses. A stream may be split anywhere, delayed, reset or cut; it never reorders.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use tokio::io::{AsyncRead, AsyncWrite};

use super::BoxFuture;

pub trait Network: Send + Sync {
    /// Takes the address without accepting yet, so that a taken port is known before recovery starts.
    /// Port 0 takes a free one.
    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Bound>>>;

    /// `address` is `host:port`; host may be a name, an IPv4 or a bracketed IPv6 address.
    fn connect(&self, address: &str) -> BoxFuture<'_, io::Result<Box<dyn Stream>>>;

    /// The addresses of a host name, the preferred one first; never none.
    fn resolve(&self, host: &str) -> BoxFuture<'_, io::Result<Vec<IpAddr>>>;
}

/// An address that is ours but does not answer yet.
pub trait Bound: Send + Sync {
    fn local_address(&self) -> SocketAddr;
    fn listen(self: Box<Self>, backlog: u32) -> io::Result<Box<dyn Listener>>;
}

pub trait Listener: Send + Sync {
    fn local_address(&self) -> SocketAddr;
    /// The next connection. An error concerns that one connection attempt; the listener goes on.
    fn accept(&self) -> BoxFuture<'_, io::Result<Box<dyn Stream>>>;
}

/// One connection. `poll_write_vectored` is passed on to the kernel; `poll_shutdown` closes our writing half.
pub trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {
    fn peer_address(&self) -> SocketAddr;
    fn local_address(&self) -> SocketAddr;
}

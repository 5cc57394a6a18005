//! TCP by tokio: addresses reused, small packets sent at once.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::Handle,
};

use crate::env::{Bound, BoxFuture, Listener, Network, Stream};

pub(super) struct Tcp {
    runtime: Handle,
}

impl Tcp {
    pub(super) fn new(runtime: Handle) -> Self {
        Tcp { runtime }
    }
}

impl Network for Tcp {
    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Bound>>> {
        Box::pin(async move {
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            // A restarted broker must not wait for the TIME_WAIT of its predecessor's connections.
            socket.set_reuseaddr(true)?;
            socket.bind(address).map_err(|error| named(error, "cannot take", &address))?;
            let address = socket.local_addr()?;
            let bound: Box<dyn Bound> = Box::new(BoundSocket { socket, address, runtime: self.runtime.clone() });
            Ok(bound)
        })
    }

    fn connect(&self, address: &str) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        let address = address.to_owned();
        Box::pin(async move {
            let stream = TcpStream::connect(&address).await.map_err(|error| named(error, "cannot reach", &address))?;
            let stream: Box<dyn Stream> = Box::new(Connected::new(stream)?);
            Ok(stream)
        })
    }

    fn resolve(&self, host: &str) -> BoxFuture<'_, io::Result<Vec<IpAddr>>> {
        let host = host.to_owned();
        Box::pin(async move {
            let found = tokio::net::lookup_host((host.as_str(), 0)).await;
            let found: Vec<IpAddr> = found?.map(|address| address.ip()).collect();
            match found.is_empty() {
                true => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
                false => Ok(found),
            }
        })
    }
}

fn named(error: io::Error, what: &str, address: &dyn std::fmt::Display) -> io::Error {
    io::Error::new(error.kind(), format!("{what} {address}: {error}"))
}

struct BoundSocket {
    socket: TcpSocket,
    address: SocketAddr,
    runtime: Handle,
}

impl Bound for BoundSocket {
    fn local_address(&self) -> SocketAddr {
        self.address
    }

    fn listen(self: Box<Self>, backlog: u32) -> io::Result<Box<dyn Listener>> {
        // The listener registers with the runtime's poller.
        let _inside = self.runtime.enter();
        let listener = self.socket.listen(backlog).map_err(|error| named(error, "cannot listen on", &self.address))?;
        Ok(Box::new(Listening { listener, address: self.address }))
    }
}

struct Listening {
    listener: TcpListener,
    address: SocketAddr,
}

impl Listener for Listening {
    fn local_address(&self) -> SocketAddr {
        self.address
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            loop {
                let stream = match self.listener.accept().await {
                    Ok((stream, _peer)) => stream,
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                    Err(error) => return Err(error),
                };
                // A peer that is gone before it was let in has no address any more: nothing is wrong with the listener, and
                // the next one waits.
                if let Ok(stream) = Connected::new(stream) {
                    return Ok(Box::new(stream) as Box<dyn Stream>);
                }
            }
        })
    }
}

struct Connected {
    stream: TcpStream,
    peer: SocketAddr,
    local: SocketAddr,
}

impl Connected {
    fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let (peer, local) = (stream.peer_addr()?, stream.local_addr()?);
        Ok(Connected { stream, peer, local })
    }
}

impl Stream for Connected {
    fn peer_address(&self) -> SocketAddr {
        self.peer
    }

    fn local_address(&self) -> SocketAddr {
        self.local
    }
}

impl AsyncRead for Connected {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Connected {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn bound_early_listening_later() {
        let tcp = Tcp::new(Handle::current());
        let bound = tcp.bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = bound.local_address();
        assert!(tcp.connect(&address.to_string()).await.is_err(), "nobody listens yet");
        let listener = bound.listen(16).unwrap();
        let error = tcp.bind(address).await.err().expect("the address is taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&address.to_string()), "{error}");

        let mut ours = tcp.connect(&format!("localhost:{}", address.port())).await.unwrap();
        let mut theirs = listener.accept().await.unwrap();
        assert_eq!(ours.peer_address(), address);
        assert_eq!(theirs.peer_address(), ours.local_address());
        let parts = [io::IoSlice::new(b"ab"), io::IoSlice::new(b"cd")];
        assert_eq!(ours.write_vectored(&parts).await.unwrap(), 4);
        ours.shutdown().await.unwrap();
        let mut heard = Vec::new();
        theirs.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"abcd");
    }
}

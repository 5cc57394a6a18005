//! env's `Network` in memory: pipes between ports. Nothing is lost, split or late.

use std::{
    collections::{BTreeMap, VecDeque},
    future::poll_fn,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
};

use keelmq::env::{Bound, BoxFuture, Listener, Network, Stream};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};

/// Bytes that wait in one direction of a pipe.
const PIPE_BYTES: usize = 1 << 20;

#[derive(Clone, Default)]
pub struct Wire {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    ports: BTreeMap<u16, Waiting>,
    next_port: u16,
}

#[derive(Default)]
struct Waiting {
    streams: VecDeque<Pipe>,
    waker: Option<Waker>,
}

/// One end of a pipe.
pub struct Pipe {
    stream: DuplexStream,
    peer: SocketAddr,
    local: SocketAddr,
}

impl Wire {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it is held")
    }

    pub fn clear(&self) {
        *self.lock() = State::default();
    }

    pub fn open(&self, to: SocketAddr) -> io::Result<Pipe> {
        let mut state = self.lock();
        state.next_port = (state.next_port + 1) % 10_000;
        let from = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 40_000 + state.next_port);
        let waiting = state.ports.get_mut(&to.port()).ok_or(io::ErrorKind::ConnectionRefused)?;
        let (mine, theirs) = duplex(PIPE_BYTES);
        waiting.streams.push_back(Pipe { stream: theirs, peer: from, local: to });
        if let Some(waker) = waiting.waker.take() {
            waker.wake();
        }
        Ok(Pipe { stream: mine, peer: to, local: from })
    }
}

struct Port {
    wire: Wire,
    address: SocketAddr,
}

impl Network for Wire {
    fn bind(&self, mut address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Bound>>> {
        let mut state = self.lock();
        if address.port() == 0 {
            let free =
                (10_911..).find(|port| !state.ports.contains_key(port) && !state.ports.contains_key(&(port - 2)));
            address.set_port(free.expect("a few ports of many are taken"));
        }
        let outcome: io::Result<Box<dyn Bound>> = if state.ports.contains_key(&address.port()) {
            Err(io::ErrorKind::AddrInUse.into())
        } else {
            state.ports.insert(address.port(), Waiting::default());
            Ok(Box::new(Port { wire: self.clone(), address }))
        };
        Box::pin(async move { outcome })
    }

    fn connect(&self, address: &str) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        let outcome = match address.parse() {
            Ok(address) => self.open(address).map(|pipe| Box::new(pipe) as Box<dyn Stream>),
            Err(_) => Err(io::ErrorKind::NotFound.into()),
        };
        Box::pin(async move { outcome })
    }

    fn resolve(&self, host: &str) -> BoxFuture<'_, io::Result<Vec<IpAddr>>> {
        let outcome = host.parse().map(|address| vec![address]);
        Box::pin(async move { outcome.map_err(|_| io::ErrorKind::NotFound.into()) })
    }
}

impl Bound for Port {
    fn local_address(&self) -> SocketAddr {
        self.address
    }

    fn listen(self: Box<Self>, _backlog: u32) -> io::Result<Box<dyn Listener>> {
        Ok(self)
    }
}

impl Listener for Port {
    fn local_address(&self) -> SocketAddr {
        self.address
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        Box::pin(poll_fn(|context| {
            let mut state = self.wire.lock();
            let Some(waiting) = state.ports.get_mut(&self.address.port()) else { return Poll::Pending };
            match waiting.streams.pop_front() {
                Some(pipe) => Poll::Ready(Ok(Box::new(pipe) as Box<dyn Stream>)),
                None => {
                    waiting.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        }))
    }
}

impl Stream for Pipe {
    fn peer_address(&self) -> SocketAddr {
        self.peer
    }

    fn local_address(&self) -> SocketAddr {
        self.local
    }
}

impl AsyncRead for Pipe {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

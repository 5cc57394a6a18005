//! One end of a connection as env's `Stream`: its poll functions are the only ones of the network that wait.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use keelmq::env::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{NEVER, Power, State, Wires};

/// One end of a connection.
pub(super) struct SimStream {
    pub(super) wires: Wires,
    pub(super) id: u64,
    pub(super) side: usize,
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) name: u32,
    pub(super) node: u8,
}

impl SimStream {
    /// An error if this end is dead, reset or of an earlier boot.
    fn check(&self, state: &mut State) -> io::Result<()> {
        let Some(connection) = state.connections.get(&self.id) else {
            return Err(io::ErrorKind::ConnectionReset.into());
        };
        let end = &connection.ends[self.side];
        if !state.alive(end.machine, end.epoch) {
            return Err(io::Error::other("the process is dead"));
        }
        match end.failed {
            Some(kind) => Err(kind.into()),
            None => Ok(()),
        }
    }

    fn write_parts(&self, context: &mut Context<'_>, parts: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut state = self.wires.lock();
        self.check(&mut state)?;
        let now = self.wires.time.now();
        let (mine, other) = (self.side, 1 - self.side);
        let total: usize = parts.iter().map(|part| part.len()).sum();
        if total == 0 {
            return Poll::Ready(Ok(0));
        }
        let chance = state.faults.reset;
        let reset = state.dice.chance(chance);
        let target = &state.connections[&self.id].ends[other];
        if target.inbound.end.is_some_and(|at| at != NEVER) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let rebooted = target.silent && state.machines[&target.machine].power != Power::Off;
        if reset || target.closed || rebooted {
            let mut wake = Vec::new();
            state.reset(self.id, &mut wake);
            drop(state);
            if reset {
                self.wires.trace.sometimes("network: reset in a write");
            }
            self.wires.ring(wake, Vec::new());
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let room = state.faults.buffer_bytes.saturating_sub(target.inbound.bytes);
        if room == 0 {
            self.wires.trace.sometimes("network: writer waits");
            state.end_mut(self.id, mine).expect("checked").writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let most = state.connections[&self.id].ends[mine].pieces_max;
        let limit = if most == usize::MAX { room } else { room.min(state.dice.within(1, 4 * most as u64) as usize) };
        let mut bytes = VecDeque::with_capacity(total.min(limit));
        for part in parts {
            let take = part.len().min(limit - bytes.len());
            bytes.extend(&part[..take]);
        }
        let taken = bytes.len();
        let check = bytes.iter().fold(0u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(*byte)));
        let at = state.arrival(now, self.id, mine);
        let target = state.end_mut(self.id, other).expect("checked");
        let mut alarms = Vec::new();
        if !target.silent {
            if target.inbound.queue.is_empty() && at != NEVER {
                target.inbound.alarm = target.reader.as_ref().map(|_| at);
                alarms.extend(target.reader.clone().map(|waker| (at, waker)));
            }
            target.inbound.queue.push_back((at, bytes));
        }
        target.inbound.bytes += taken;
        drop(state);
        self.wires.event(self.node, "send", self.name, taken as u64, check);
        self.wires.ring(Vec::new(), alarms);
        Poll::Ready(Ok(taken))
    }
}

impl AsyncRead for SimStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut guard = self.wires.lock();
        self.check(&mut guard)?;
        let state = &mut *guard;
        let now = self.wires.time.now();
        let connection = state.connections.get_mut(&self.id).expect("checked");
        let [first, second] = &mut connection.ends;
        let (end, other) = if self.side == 0 { (first, second) } else { (second, first) };
        let arrived = end.inbound.queue.front().map(|(at, _)| *at);
        if arrived.is_some_and(|at| at <= now) && buffer.remaining() > 0 {
            let most = if end.tiny_left > 0 { state.dice.within(1, 3) as usize } else { end.pieces_max };
            let most = if most > 3 && most != usize::MAX { state.dice.within(1, most as u64) as usize } else { most };
            let (_, bytes) = end.inbound.queue.front_mut().expect("looked at above");
            let take = most.min(bytes.len()).min(buffer.remaining());
            let (head, tail) = bytes.as_slices();
            let from_head = take.min(head.len());
            buffer.put_slice(&head[..from_head]);
            buffer.put_slice(&tail[..take - from_head]);
            bytes.drain(..take);
            if bytes.is_empty() {
                end.inbound.queue.pop_front();
            }
            end.inbound.bytes -= take;
            end.tiny_left = end.tiny_left.saturating_sub(take);
            let writer = other.writer.take();
            drop(guard);
            self.wires.event(self.node, "receive", self.name, take as u64, 0);
            self.wires.ring(writer.into_iter().collect(), Vec::new());
            return Poll::Ready(Ok(()));
        }
        let next = arrived.or(end.inbound.end);
        if arrived.is_none() && next.is_some_and(|at| at <= now) {
            return Poll::Ready(Ok(()));
        }
        let known = end.reader.as_ref().is_some_and(|reader| reader.will_wake(context.waker()));
        let mut alarm = None;
        if let Some(at) = next.filter(|at| *at != NEVER)
            && !(known && end.inbound.alarm == Some(at))
        {
            end.inbound.alarm = Some(at);
            alarm = Some((at, context.waker().clone()));
        }
        if !known {
            end.reader = Some(context.waker().clone());
        }
        drop(guard);
        self.wires.ring(Vec::new(), alarm.into_iter().collect());
        Poll::Pending
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.write_parts(context, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write_parts(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.wires.lock();
        self.check(&mut state)?;
        let now = self.wires.time.now();
        let at = state.arrival(now, self.id, self.side);
        let other = state.end_mut(self.id, 1 - self.side).expect("checked");
        let mut alarms = Vec::new();
        if other.inbound.end.is_none() {
            other.inbound.end = Some(at);
            alarms.extend(other.reader.clone().map(|waker| (at, waker)));
        }
        drop(state);
        self.wires.ring(Vec::new(), alarms);
        Poll::Ready(Ok(()))
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        let (mut wake, mut alarms) = (Vec::new(), Vec::new());
        {
            let mut state = self.wires.lock();
            let Some(connection) = state.connections.get(&self.id) else { return };
            let end = &connection.ends[self.side];
            // A stream of an earlier boot: its kernel has closed it long ago.
            if !state.alive(end.machine, end.epoch) || end.closed {
                return;
            }
            let now = self.wires.time.now();
            state.close(now, self.id, self.side, &mut wake, &mut alarms);
        }
        self.wires.ring(wake, alarms);
    }
}

impl Stream for SimStream {
    fn peer_address(&self) -> SocketAddr {
        self.peer
    }

    fn local_address(&self) -> SocketAddr {
        self.local
    }
}

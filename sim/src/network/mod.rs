//! TCP in memory: streams that arrive in pieces of any size, late, half, reset or not at all, through bounded buffers.
//! Plain state under one lock; a stream's poll functions are the only ones that wait.

mod addresses;
mod faults;
mod stream;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
    time::Duration,
};

use keelmq::env::{Bound, BoxFuture, Listener, Network, Stream};

use crate::{dice::Dice, time::Time, trace::Trace};
use addresses::machine_of;
pub use addresses::second_address;
pub use faults::Faults;
use stream::SimStream;

/// Held back by a cut until it heals.
const NEVER: Duration = Duration::MAX;
/// A connection attempt into the void ends after this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// A connection that is split into single bytes becomes an ordinary one after so many, for the sake of the pace.
const TINY_BYTES: usize = 1500;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Power {
    Running,
    /// The machine answers, nobody listens.
    NoProcess,
    /// Nothing answers.
    Off,
}

struct Machine {
    node: u8,
    epoch: u64,
    power: Power,
    next_port: u16,
}

struct Port {
    machine: Ipv4Addr,
    epoch: u64,
    backlog: Option<VecDeque<u64>>,
    backlog_max: usize,
    acceptor: Option<Waker>,
}

#[derive(Default)]
struct Pipe {
    queue: VecDeque<(Duration, VecDeque<u8>)>,
    bytes: usize,
    /// Nothing follows from this moment on.
    end: Option<Duration>,
    alarm: Option<Duration>,
}

struct End {
    node: u8,
    machine: Ipv4Addr,
    epoch: u64,
    address: SocketAddr,
    /// On its way to this end.
    inbound: Pipe,
    reader: Option<Waker>,
    /// Waits for room in the other end's inbound pipe.
    writer: Option<Waker>,
    /// The stream was dropped, or its process died.
    closed: bool,
    /// Its machine lost power: it will never answer, nor say so.
    silent: bool,
    failed: Option<io::ErrorKind>,
    pieces_max: usize,
    tiny_left: usize,
}

struct Connection {
    ends: [End; 2],
    name: u32,
}

struct State {
    machines: BTreeMap<Ipv4Addr, Machine>,
    hosts: BTreeMap<String, Ipv4Addr>,
    ports: BTreeMap<SocketAddr, Port>,
    connections: BTreeMap<u64, Connection>,
    next_connection: u64,
    /// (from, to): what goes that way is held back.
    cuts: BTreeSet<(u8, u8)>,
    faults: Faults,
    dice: Dice,
}

/// The wires between all machines of a world.
#[derive(Clone)]
pub struct Wires {
    state: Arc<Mutex<State>>,
    time: Time,
    trace: Trace,
}

fn refused() -> io::Error {
    io::ErrorKind::ConnectionRefused.into()
}

impl State {
    fn latency(&mut self) -> Duration {
        let (low, high) = self.faults.latency_us;
        Duration::from_micros(self.dice.log_within(low.max(1), high.max(1)))
    }

    fn alive(&self, machine: Ipv4Addr, epoch: u64) -> bool {
        self.machines.get(&machine).is_some_and(|machine| machine.power == Power::Running && machine.epoch == epoch)
    }

    fn cut(&self, from: u8, to: u8) -> bool {
        self.cuts.contains(&(from, to))
    }

    /// When something sent now from end `side` arrives, after everything sent before.
    fn arrival(&mut self, now: Duration, id: u64, side: usize) -> Duration {
        let latency = self.latency();
        let connection = &self.connections[&id];
        let (from, to) = (&connection.ends[side], &connection.ends[1 - side]);
        if self.cut(from.node, to.node) {
            return NEVER;
        }
        let last = to.inbound.queue.back().map_or(Duration::ZERO, |(at, _)| *at);
        (now + latency).max(last)
    }

    fn end_mut(&mut self, id: u64, side: usize) -> Option<&mut End> {
        self.connections.get_mut(&id).map(|connection| &mut connection.ends[side])
    }

    /// Breaks a connection for both ends; what was on its way is gone.
    fn reset(&mut self, id: u64, wake: &mut Vec<Waker>) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        for end in &mut connection.ends {
            end.inbound = Pipe::default();
            end.failed = Some(io::ErrorKind::ConnectionReset);
            wake.extend(end.reader.take().into_iter().chain(end.writer.take()));
        }
    }

    /// One end is gone, and its kernel says so: the rest arrives and then the end, or a reset.
    fn close(
        &mut self,
        now: Duration,
        id: u64,
        side: usize,
        wake: &mut Vec<Waker>,
        alarms: &mut Vec<(Duration, Waker)>,
    ) {
        let Some(connection) = self.connections.get(&id) else { return };
        let unread = connection.ends[side].inbound.bytes > 0;
        let at = self.arrival(now, id, side);
        let connection = self.connections.get_mut(&id).expect("looked up above");
        let end = &mut connection.ends[side];
        end.closed = true;
        end.inbound = Pipe::default();
        end.reader = None;
        end.writer = None;
        let other = &mut connection.ends[1 - side];
        if other.closed || other.silent {
            self.connections.remove(&id);
            return;
        }
        wake.extend(other.writer.take());
        if unread && at != NEVER {
            other.inbound = Pipe::default();
            other.failed = Some(io::ErrorKind::ConnectionReset);
            wake.extend(other.reader.take());
        } else if other.inbound.end.is_none() {
            other.inbound.end = Some(at);
            alarms.extend(other.reader.clone().map(|waker| (at, waker)));
        }
    }
}

impl Wires {
    pub fn new(time: Time, dice: Dice, trace: Trace) -> Wires {
        let state = State {
            machines: BTreeMap::new(),
            hosts: BTreeMap::new(),
            ports: BTreeMap::new(),
            connections: BTreeMap::new(),
            next_connection: 1,
            cuts: BTreeSet::new(),
            faults: Faults::default(),
            dice,
        };
        Wires { state: Arc::new(Mutex::new(state)), time, trace }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it is held")
    }

    fn ring(&self, wake: Vec<Waker>, alarms: Vec<(Duration, Waker)>) {
        wake.into_iter().for_each(Waker::wake);
        for (at, waker) in alarms {
            if at != NEVER {
                self.time.wake_at(at, &waker);
            }
        }
    }

    pub fn add_machine(&self, name: &str, address: Ipv4Addr, node: u8) {
        let mut state = self.lock();
        state.hosts.insert(name.to_owned(), address);
        state.machines.insert(address, Machine { node, epoch: 0, power: Power::NoProcess, next_port: 40_000 });
    }

    /// A new process starts on the machine. What silent connections its predecessor left are reset by the next packet.
    pub fn boot(&self, address: Ipv4Addr) -> u64 {
        let mut state = self.lock();
        let machine = state.machines.get_mut(&address).expect("the machine was added");
        machine.power = Power::Running;
        machine.epoch += 1;
        machine.epoch
    }

    /// The process is gone; its kernel closes what it had open.
    pub fn process_death(&self, address: Ipv4Addr) {
        let (mut wake, mut alarms) = (Vec::new(), Vec::new());
        {
            let mut state = self.lock();
            let machine = state.machines.get_mut(&address).expect("the machine was added");
            machine.power = Power::NoProcess;
            machine.epoch += 1;
            state.ports.retain(|_, port| port.machine != address);
            let now = self.time.now();
            let ids: Vec<u64> = state.connections.keys().copied().collect();
            for id in ids {
                for side in 0..2 {
                    let open = state.connections.get(&id).is_some_and(|connection| {
                        let end = &connection.ends[side];
                        end.machine == address && !end.closed && !end.silent
                    });
                    if open && state.dice.below(4) == 0 {
                        state.reset(id, &mut wake);
                    }
                    if open {
                        state.close(now, id, side, &mut wake, &mut alarms);
                    }
                }
            }
        }
        self.ring(wake, alarms);
    }

    /// The machine is dark; nobody is told.
    pub fn power_loss(&self, address: Ipv4Addr) {
        let mut state = self.lock();
        let machine = state.machines.get_mut(&address).expect("the machine was added");
        machine.power = Power::Off;
        machine.epoch += 1;
        state.ports.retain(|_, port| port.machine != address);
        state.connections.retain(|_, connection| {
            for end in connection.ends.iter_mut().filter(|end| end.machine == address) {
                end.silent = true;
                end.inbound = Pipe::default();
                (end.reader, end.writer) = (None, None);
            }
            connection.ends.iter().any(|end| !end.silent && !end.closed)
        });
    }

    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    pub fn faults(&self) -> Faults {
        self.lock().faults.clone()
    }

    /// From now on nothing gets from `from` to `to`.
    pub fn cut(&self, from: u8, to: u8) {
        self.lock().cuts.insert((from, to));
    }

    /// Every cut ends; what was held back arrives.
    pub fn heal(&self) {
        let mut alarms = Vec::new();
        {
            let mut state = self.lock();
            state.cuts.clear();
            let now = self.time.now();
            let ids: Vec<u64> = state.connections.keys().copied().collect();
            for id in ids {
                for side in 0..2 {
                    let latency = state.latency();
                    let end = state.end_mut(id, side).expect("listed above");
                    for (at, _) in end.inbound.queue.iter_mut().filter(|(at, _)| *at == NEVER) {
                        *at = now + latency;
                    }
                    if end.inbound.end == Some(NEVER) {
                        end.inbound.end = Some(now + latency);
                    }
                    end.inbound.alarm = None;
                    alarms.extend(end.reader.clone().map(|waker| (now + latency, waker)));
                }
            }
        }
        self.ring(Vec::new(), alarms);
    }

    /// Breaks one random connection of `node`: a reset, or the stream ends in the middle of what was on its way.
    /// False when it has none.
    pub fn break_one(&self, node: u8) -> bool {
        let mut wake = Vec::new();
        let broken = {
            let mut state = self.lock();
            let ids: Vec<u64> = state
                .connections
                .iter()
                .filter(|(_, connection)| {
                    connection.ends.iter().any(|end| end.node == node)
                        && connection.ends.iter().all(|end| !end.closed && !end.silent)
                })
                .map(|(id, _)| *id)
                .collect();
            if ids.is_empty() {
                false
            } else {
                let id = *state.dice.pick(&ids);
                if state.dice.coin() {
                    state.reset(id, &mut wake);
                    self.trace.sometimes("network: reset");
                } else {
                    let side = usize::from(state.dice.coin());
                    let now = self.time.now();
                    let cut = state.dice.next();
                    let end = state.end_mut(id, side).expect("picked above");
                    if let Some((_, last)) = end.inbound.queue.back_mut() {
                        let keep = (cut % (last.len() as u64 + 1)) as usize;
                        end.inbound.bytes -= last.len() - keep;
                        last.truncate(keep);
                        self.trace.sometimes("network: stream cut in a frame");
                    }
                    end.inbound.end = Some(now);
                    wake.extend(end.reader.take());
                    self.trace.sometimes("network: half-close");
                }
                true
            }
        };
        self.ring(wake, Vec::new());
        broken
    }

    pub fn open_connections(&self) -> usize {
        self.lock().connections.len()
    }

    fn event(&self, node: u8, operation: &'static str, name: u32, a: u64, b: u64) {
        self.trace.event_of(self.time.now_ns(), node, operation, name, a, b);
    }
}

/// env's `Network` for one boot of one machine.
pub struct SimNetwork {
    wires: Wires,
    machine: Ipv4Addr,
    epoch: u64,
}

impl SimNetwork {
    pub fn new(wires: Wires, machine: Ipv4Addr, epoch: u64) -> SimNetwork {
        SimNetwork { wires, machine, epoch }
    }

    fn bind_now(&self, address: SocketAddr) -> io::Result<Box<dyn Bound>> {
        let mut state = self.wires.lock();
        if !state.alive(self.machine, self.epoch) {
            return Err(io::Error::other("the process is dead"));
        }
        let machine = state.machines.get_mut(&self.machine).expect("it is alive");
        let port = if address.port() == 0 {
            machine.next_port += 1;
            machine.next_port
        } else {
            address.port()
        };
        let local = SocketAddr::new(IpAddr::V4(self.machine), port);
        if state.ports.contains_key(&local) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        state.ports.insert(
            local,
            Port { machine: self.machine, epoch: self.epoch, backlog: None, backlog_max: 0, acceptor: None },
        );
        Ok(Box::new(SimBound {
            wires: self.wires.clone(),
            machine: self.machine,
            epoch: self.epoch,
            address: local,
            listening: false,
        }))
    }

    fn resolve(&self, address: &str) -> io::Result<SocketAddr> {
        let bad = || io::Error::new(io::ErrorKind::InvalidInput, format!("{address}: no such host"));
        let (host, port) = address.rsplit_once(':').ok_or_else(bad)?;
        let port: u16 = port.parse().map_err(|_| bad())?;
        let ip = match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(ip) if ip.is_loopback() => IpAddr::V4(self.machine),
            Ok(ip) => ip,
            Err(_) if host == "localhost" => IpAddr::V4(self.machine),
            Err(_) => IpAddr::V4(*self.wires.lock().hosts.get(host).ok_or_else(bad)?),
        };
        Ok(SocketAddr::new(ip, port))
    }

    async fn connect_to(&self, address: &str) -> io::Result<Box<dyn Stream>> {
        let target = self.resolve(address)?;
        let target_ip = machine_of(target.ip());
        let latency = self.wires.lock().latency();
        self.wires.time.sleep(latency).await;
        let answered = {
            let mut state = self.wires.lock();
            if !state.alive(self.machine, self.epoch) {
                return Err(io::Error::other("the process is dead"));
            }
            let here = state.machines[&self.machine].node;
            match state.machines.get(&target_ip).map(|machine| (machine.node, machine.power)) {
                None | Some((_, Power::Off)) => false,
                Some((there, _)) if state.cut(here, there) || state.cut(there, here) => false,
                Some((_, Power::NoProcess)) => return Err(refused()),
                Some((_, Power::Running)) => {
                    let chance = state.faults.connect_refused;
                    if state.dice.chance(chance) {
                        self.wires.trace.sometimes("network: connect refused");
                        return Err(refused());
                    }
                    true
                }
            }
        };
        if !answered {
            self.wires.trace.sometimes("network: connect timed out");
            self.wires.time.sleep(CONNECT_TIMEOUT).await;
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.open(target, target_ip)
    }

    fn open(&self, target: SocketAddr, target_ip: Ipv4Addr) -> io::Result<Box<dyn Stream>> {
        let mut state = self.wires.lock();
        let id = state.next_connection;
        let there = state.machines.get(&target_ip).map(|machine| (machine.node, machine.epoch));
        let (acceptor, epoch) = match state.ports.get_mut(&SocketAddr::new(IpAddr::V4(target_ip), target.port())) {
            Some(Port { backlog: Some(backlog), backlog_max, acceptor, epoch, .. }) if backlog.len() < *backlog_max => {
                backlog.push_back(id);
                (acceptor.take(), *epoch)
            }
            _ => return Err(refused()),
        };
        let (there, _) = there.expect("its port is open");
        state.next_connection += 1;
        let machine = state.machines.get_mut(&self.machine).expect("it is alive");
        machine.next_port = machine.next_port.checked_add(1).unwrap_or(40_000);
        let ip = if target.is_ipv6() { IpAddr::V6(second_address(self.machine)) } else { IpAddr::V4(self.machine) };
        let local = SocketAddr::new(ip, machine.next_port);
        let here = machine.node;
        let mut end = |node, machine, epoch, address| {
            let faults = state.faults.clone();
            let tiny = state.dice.chance(faults.tiny_pieces);
            let pieces = tiny || state.dice.chance(faults.pieces);
            End {
                node,
                machine,
                epoch,
                address,
                inbound: Pipe::default(),
                reader: None,
                writer: None,
                closed: false,
                silent: false,
                failed: None,
                pieces_max: if pieces { 1460 } else { usize::MAX },
                tiny_left: if tiny { TINY_BYTES } else { 0 },
            }
        };
        let ends = [end(here, self.machine, self.epoch, local), end(there, target_ip, epoch, target)];
        let name = self.wires.trace.name(&format!("{local}>{target}"));
        state.connections.insert(id, Connection { ends, name });
        drop(state);
        self.wires.event(here, "connect", name, id, 0);
        self.wires.ring(acceptor.into_iter().collect(), Vec::new());
        Ok(Box::new(SimStream { wires: self.wires.clone(), id, side: 0, local, peer: target, name, node: here }))
    }
}

impl Network for SimNetwork {
    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Bound>>> {
        Box::pin(async move { self.bind_now(address) })
    }

    fn connect(&self, address: &str) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        let address = address.to_owned();
        Box::pin(async move { self.connect_to(&address).await })
    }

    fn resolve(&self, host: &str) -> BoxFuture<'_, io::Result<Vec<IpAddr>>> {
        let outcome = host.parse().map(|address| vec![address]);
        Box::pin(async move { outcome.map_err(|_| io::Error::from(io::ErrorKind::NotFound)) })
    }
}

struct SimBound {
    wires: Wires,
    machine: Ipv4Addr,
    epoch: u64,
    address: SocketAddr,
    listening: bool,
}

impl Bound for SimBound {
    fn local_address(&self) -> SocketAddr {
        self.address
    }

    fn listen(mut self: Box<Self>, backlog: u32) -> io::Result<Box<dyn Listener>> {
        let mut state = self.wires.lock();
        let port = match state.ports.get_mut(&self.address) {
            Some(port) if port.epoch == self.epoch => port,
            _ => return Err(io::Error::other("the process is dead")),
        };
        port.backlog = Some(VecDeque::new());
        port.backlog_max = backlog.max(1) as usize;
        drop(state);
        self.listening = true;
        Ok(Box::new(SimListener {
            wires: self.wires.clone(),
            machine: self.machine,
            epoch: self.epoch,
            address: self.address,
        }))
    }
}

impl Drop for SimBound {
    fn drop(&mut self) {
        if !self.listening {
            free(&self.wires, self.address, self.epoch);
        }
    }
}

/// Gives a port back, and refuses whoever waited in its backlog.
fn free(wires: &Wires, address: SocketAddr, epoch: u64) {
    let mut wake = Vec::new();
    {
        let mut state = wires.lock();
        if state.ports.get(&address).is_some_and(|port| port.epoch == epoch) {
            let port = state.ports.remove(&address).expect("looked up above");
            for id in port.backlog.into_iter().flatten() {
                state.reset(id, &mut wake);
                if let Some(end) = state.end_mut(id, 1) {
                    end.closed = true;
                }
            }
        }
    }
    wires.ring(wake, Vec::new());
}

struct SimListener {
    wires: Wires,
    machine: Ipv4Addr,
    epoch: u64,
    address: SocketAddr,
}

impl SimListener {
    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<Box<dyn Stream>>> {
        let mut state = self.wires.lock();
        if !state.alive(self.machine, self.epoch) {
            return Poll::Ready(Err(io::Error::other("the process is dead")));
        }
        let port = state.ports.get_mut(&self.address).expect("the listener holds its port");
        let Some(id) = port.backlog.as_mut().expect("it listens").pop_front() else {
            port.acceptor = Some(context.waker().clone());
            return Poll::Pending;
        };
        let chance = state.faults.accept_fails;
        if state.dice.chance(chance) {
            let mut wake = Vec::new();
            state.reset(id, &mut wake);
            if let Some(end) = state.end_mut(id, 1) {
                end.closed = true;
            }
            drop(state);
            self.wires.trace.sometimes("network: accept failed");
            self.wires.ring(wake, Vec::new());
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let Some(connection) = state.connections.get(&id) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        };
        let stream = SimStream {
            wires: self.wires.clone(),
            id,
            side: 1,
            local: connection.ends[1].address,
            peer: connection.ends[0].address,
            name: connection.name,
            node: connection.ends[1].node,
        };
        drop(state);
        self.wires.event(stream.node, "accept", stream.name, id, 0);
        Poll::Ready(Ok(Box::new(stream)))
    }
}

impl Listener for SimListener {
    fn local_address(&self) -> SocketAddr {
        self.address
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        Box::pin(std::future::poll_fn(|context| self.poll_accept(context)))
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        free(&self.wires, self.address, self.epoch);
    }
}

//! A world: machines with a clock, a disk and a wire, whose processes boot, crash and boot again. The only place that
//! knows madsim's nodes. A process is whatever future was booted; it gets an `Env` and no more.

use std::{
    collections::BTreeMap,
    future::{Future, poll_fn},
    net::Ipv4Addr,
    panic::{self, AssertUnwindSafe},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use keelmq::env::{BoxFuture, Entropy, Env, Host, Spawner};
use madsim::{
    runtime::{Handle, NodeHandle},
    task::NodeId,
};
use tokio::sync::oneshot;

use crate::{
    clock::{NodeClock, Wall},
    dice::Dice,
    disk::{Disk, storage::SharedDisk, storage::SimStorage},
    network::{SimNetwork, Wires},
    time::Time,
    trace::Trace,
};

pub struct World {
    pub time: Time,
    pub trace: Trace,
    pub wires: Wires,
    pub machines: Vec<Arc<Machine>>,
    seed: u64,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// `kill -9`: the page cache stays, the kernel closes sockets.
    Process,
    /// The machine goes dark: what was not synced is lost, nobody is told.
    Power,
}

pub struct Machine {
    pub name: &'static str,
    pub address: Ipv4Addr,
    pub node: u8,
    pub disk: SharedDisk,
    pub clock: NodeClock,
    world: Shared,
    id: NodeId,
    state: Mutex<MachineState>,
}

#[derive(Clone)]
struct Shared {
    handle: Handle,
    time: Time,
    trace: Trace,
    wires: Wires,
    seed: u64,
}

#[derive(Default)]
struct MachineState {
    boots: u64,
    /// True while the process of the present boot lives.
    alive: Arc<AtomicBool>,
    paused: bool,
    tasks: Tasks,
}

/// How many tasks and services of each name go on.
type Tasks = Arc<Mutex<BTreeMap<&'static str, u64>>>;

impl World {
    /// Only inside a madsim runtime.
    pub fn new(seed: u64, trace: Trace) -> World {
        let time = Time::current();
        let wires = Wires::new(time.clone(), Dice::new(seed, "network"), trace.clone());
        World { time, trace, wires, machines: Vec::new(), seed }
    }

    pub fn add_machine(&mut self, name: &'static str, wall: Wall) -> Arc<Machine> {
        let handle = Handle::current();
        let node = self.machines.len() as u8 + 1;
        let address = Ipv4Addr::new(10, 0, 0, node);
        let id = handle.create_node().name(name).build().id();
        self.wires.add_machine(name, address, node);
        let disk = Disk::new(Dice::new(self.seed, &format!("disk of {name}")), self.trace.clone());
        let machine = Arc::new(Machine {
            name,
            address,
            node,
            disk: Arc::new(Mutex::new(disk)),
            clock: NodeClock::new(self.time.clone(), wall),
            world: Shared {
                handle,
                time: self.time.clone(),
                trace: self.trace.clone(),
                wires: self.wires.clone(),
                seed: self.seed,
            },
            id,
            state: Mutex::default(),
        });
        self.machines.push(machine.clone());
        machine
    }

    /// The end of a run: every process dies, and what their futures hold is dropped.
    pub async fn end(&self) {
        for machine in &self.machines {
            machine.crash(Crash::Process);
        }
        self.time.sleep(Duration::from_millis(50)).await;
    }
}

impl Machine {
    /// Starts a process. Its end can be awaited: the value it returned, or `None` if it was killed.
    pub fn boot<F>(self: &Arc<Self>, main: impl FnOnce(Env) -> F) -> Process<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.crash(Crash::Process);
        let (alive, tasks) = (Arc::new(AtomicBool::new(true)), Tasks::default());
        let boot = {
            let mut state = self.lock();
            state.boots += 1;
            (state.alive, state.tasks) = (alive.clone(), tasks.clone());
            state.boots
        };
        self.world.handle.restart(self.id);
        let handle = self.world.handle.get_node(self.id).expect("the node was made in add_machine");
        let epoch = self.world.wires.boot(self.address);
        self.event("boot", boot);
        let env = Env {
            clock: Arc::new(self.clock.clone()),
            spawner: Arc::new(SimSpawner { node: handle.clone(), alive, tasks }),
            network: Arc::new(SimNetwork::new(self.world.wires.clone(), self.address, epoch)),
            storage: Arc::new(SimStorage::new(
                self.disk.clone(),
                self.clock.clone(),
                self.world.trace.clone(),
                self.node,
            )),
            entropy: Arc::new(SimEntropy(Mutex::new(Dice::new(
                self.world.seed,
                &format!("{} boot {boot}", self.name),
            )))),
            host: self.host(boot),
        };
        let (say, ended) = oneshot::channel();
        let (machine, process) = (self.clone(), main(env));
        handle.spawn(async move {
            let mut process = Box::pin(process);
            let poll = |context: &mut Context<'_>| {
                let polled = panic::catch_unwind(AssertUnwindSafe(|| process.as_mut().poll(context)));
                // What the panic said is kept by `run`.
                polled.map_or(Poll::Ready(None), |poll| poll.map(Some))
            };
            let Some(output) = poll_fn(poll).await else {
                machine.crash(Crash::Process);
                return;
            };
            // Whoever waits learns it first: the crash ends this very task.
            let _ = say.send(output);
            machine.crash(Crash::Process);
        });
        Process { ended }
    }

    fn host(&self, boot: u64) -> Host {
        Host {
            name: self.name.to_owned(),
            ipv4: self.address,
            pid: 1000 + boot as u32,
            cpus: 2,
            ram_bytes: 4 << 30,
            files_max: 65_536,
            home: PathBuf::from("/home"),
        }
    }

    /// Ends the process, if one lives. Disk, network and tasks in one step: nothing of it acts afterwards.
    pub fn crash(&self, how: Crash) {
        let was_alive = {
            let mut state = self.lock();
            if std::mem::take(&mut state.paused) {
                // A paused task would be dropped inside madsim's own lock.
                self.world.handle.resume(self.id);
            }
            state.alive.swap(false, Ordering::SeqCst)
        };
        if how == Crash::Power {
            self.event("power loss", 0);
            self.disk.lock().expect("nothing panics while it is held").power_loss();
            self.world.wires.power_loss(self.address);
        } else if was_alive {
            self.event("process death", 0);
            self.disk.lock().expect("nothing panics while it is held").process_death();
            self.world.wires.process_death(self.address);
        }
        if was_alive {
            self.world.handle.kill(self.id);
        }
    }

    pub fn is_alive(&self) -> bool {
        self.lock().alive.load(Ordering::SeqCst)
    }

    /// What the present process has going, besides its main.
    pub fn tasks(&self) -> BTreeMap<&'static str, u64> {
        self.lock().tasks.lock().expect("nothing panics while it is held").clone()
    }

    pub fn boots(&self) -> u64 {
        self.lock().boots
    }

    /// No task of the process runs until `resume`.
    pub fn pause(&self) {
        let mut state = self.lock();
        if !state.paused && state.alive.load(Ordering::SeqCst) {
            state.paused = true;
            self.event("pause", 0);
            self.world.handle.pause(self.id);
        }
    }

    pub fn resume(&self) {
        if std::mem::take(&mut self.lock().paused) {
            self.event("resume", 0);
            self.world.handle.resume(self.id);
        }
    }

    fn event(&self, what: &'static str, a: u64) {
        self.world.trace.event(self.world.time.now_ns(), self.node, what, self.name, a, 0);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, MachineState> {
        self.state.lock().expect("nothing panics while it is held")
    }
}

/// What is left in the hand of whoever booted a process.
pub struct Process<T> {
    ended: oneshot::Receiver<T>,
}

impl<T> Process<T> {
    /// The value the process returned; `None` if it was killed.
    pub async fn ended(&mut self) -> Option<T> {
        (&mut self.ended).await.ok()
    }
}

struct SimSpawner {
    node: NodeHandle,
    alive: Arc<AtomicBool>,
    tasks: Tasks,
}

/// Counts its task as long as it lives.
struct Counted(&'static str, Tasks);

impl Counted {
    fn new(name: &'static str, tasks: &Tasks) -> Counted {
        *tasks.lock().expect("nothing panics while it is held").entry(name).or_default() += 1;
        Counted(name, tasks.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(count) = self.1.lock().expect("nothing panics while it is held").get_mut(self.0) {
            *count -= 1;
        }
    }
}

impl SimSpawner {
    fn start(&self, name: &'static str, future: BoxFuture<'static, ()>) {
        if self.alive.load(Ordering::SeqCst) {
            let counted = Counted::new(name, &self.tasks);
            self.node.spawn(async move {
                future.await;
                drop(counted);
            });
        }
    }
}

impl Spawner for SimSpawner {
    fn start_task(&self, name: &'static str, task: BoxFuture<'static, ()>) {
        self.start(name, task);
    }

    fn start_service(&self, name: &'static str, service: BoxFuture<'static, ()>) {
        self.start(name, service);
    }
}

struct SimEntropy(Mutex<Dice>);

impl Entropy for SimEntropy {
    fn next_u64(&self) -> u64 {
        self.0.lock().expect("nothing panics while it is held").next()
    }
}

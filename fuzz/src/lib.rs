//! What the targets share that need a running store or broker: a world in memory, in which time passes only when
//! everybody waits. Small and fast on purpose; what may go wrong in a world is the simulator's business.

pub mod bounded;
pub mod files;
pub mod image;
pub mod input;
pub mod tasks;
pub mod wire;

use std::{net::Ipv4Addr, path::PathBuf, sync::Arc};

use keelmq::env::{Env, Host};
use keelmq_sim::{dice::Dice, disk::Disk, trace::Trace};

use self::{files::Files, tasks::Tasks, wire::Wire};

/// One machine: its disk and its clock survive a crash, its tasks and connections do not.
pub struct World {
    pub tasks: Tasks,
    pub wire: Wire,
    pub disk: files::SharedDisk,
    boots: u32,
}

impl World {
    pub fn new(seed: u64) -> World {
        let disk = Disk::new(Dice::new(seed, "disk"), Trace::new(false));
        World { tasks: Tasks::new(), wire: Wire::default(), disk: Arc::new(disk.into()), boots: 0 }
    }

    /// The world of a process that starts now.
    pub fn boot(&mut self) -> Env {
        self.boots += 1;
        Env {
            clock: Arc::new(self.tasks.clone()),
            spawner: Arc::new(self.tasks.clone()),
            network: Arc::new(self.wire.clone()),
            storage: Arc::new(Files::new(self.disk.clone(), self.tasks.clone())),
            entropy: Arc::new(self.tasks.clone()),
            host: Host {
                name: "fuzz".into(),
                ipv4: Ipv4Addr::LOCALHOST,
                pid: self.boots,
                cpus: 1,
                ram_bytes: 1 << 30,
                files_max: 1_024,
                home: PathBuf::from("/home"),
            },
        }
    }

    /// The process is gone at once, whatever it was doing.
    pub fn kill(&mut self) {
        self.disk.lock().expect("nothing panics while it is held").process_death();
        self.end_process();
    }

    /// The machine is gone, and with it what was not synced.
    pub fn cut_power(&mut self) {
        self.disk.lock().expect("nothing panics while it is held").power_loss();
        self.end_process();
    }

    fn end_process(&mut self) {
        self.tasks.clear();
        self.wire.clear();
    }
}

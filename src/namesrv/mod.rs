//! The name server: which broker serves which topic. Knows connections; nothing of messages or logs.
//!
//! Routes live in memory only: brokers tell them anew every 30 s. Key-value settings are written before they are answered.

pub mod config;
mod files;
mod kv;
mod processor;
mod routes;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, Weak},
    time::Duration,
};

pub use config::NamesrvConfig;
use files::{Files, Which};
use kv::Kv;
use processor::{CODES, NameServerProcessor};
use routes::{Gone, Routes};

use crate::{
    env::{Env, Panicked, Storage, Task, spawner::first_panic},
    model::Watermark,
    protocol::code::request,
    remoting::{Channel, Lane, Router},
};

/// Why the name server does not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    #[error("{path} cannot be read: {reason}; repair it or move it away")]
    Unreadable { path: String, reason: String },
}

/// A name server without its sockets: those are the business of whoever serves `router`.
pub struct NameServer {
    env: Env,
    state: Arc<Mutex<State>>,
    files: Mutex<Option<Files>>,
    /// The writer and the scanner.
    tasks: Mutex<Vec<Task>>,
    /// 1: the scanner ends.
    stop: Arc<Watermark>,
}

/// What changes while it runs.
struct State {
    config: NamesrvConfig,
    routes: Routes,
    kv: Kv,
    /// Connections over which brokers registered, to be closed when a broker expires.
    channels: BTreeMap<u64, Arc<Channel>>,
    /// The text of the configuration file, comments and all, which a change rewrites.
    config_text: String,
}

impl NameServer {
    /// Loads the key-value settings and starts to look for silent brokers.
    pub fn start(env: &Env, mut config: NamesrvConfig) -> Result<Arc<NameServer>, StartError> {
        config.resolve(&env.host);
        let kv = load_kv(env.storage.as_ref(), &config)?;
        let config_text = env.storage.read(Path::new(&config.config_store_path)).unwrap_or_default();
        let state = State {
            routes: Routes::new(config.brokers_max, config.topics_max),
            kv,
            channels: BTreeMap::new(),
            config_text: String::from_utf8_lossy(&config_text).into_owned(),
            config,
        };
        let scan_interval = Duration::from_millis(state.config.scan_interval_ms);
        let state = Arc::new(Mutex::new(state));
        let contents = state.clone();
        let (files, writer) = Files::start(&env.spawner, env.storage.clone(), move |which| {
            let state = lock(&contents);
            match which {
                Which::Kv => (PathBuf::from(&state.config.kv_config_path), state.kv.content()),
                Which::Config => {
                    (PathBuf::from(&state.config.config_store_path), state.config_text.clone().into_bytes())
                }
            }
        });
        let server = Arc::new(NameServer {
            env: env.clone(),
            state,
            files: Mutex::new(Some(files)),
            tasks: Mutex::default(),
            stop: Watermark::new(0),
        });
        let scanner = env.spawner.task("namesrv-scan", scan(Arc::downgrade(&server), scan_interval, env.clone()));
        server.tasks().extend([writer, scanner]);
        Ok(server)
    }

    /// What this name server serves. Route requests have a lane of their own: they are many, and clients wait for them.
    pub fn router(self: &Arc<Self>) -> Router {
        let (routes_max, others_max) = {
            let state = self.state();
            (state.config.request_lane_max, state.config.default_lane_max)
        };
        let processor = Arc::new(NameServerProcessor::new(self.clone()));
        let mut router = Router::new();
        router.serve(CODES, processor.clone(), &Lane::new("namesrv", others_max, u32::MAX));
        router.serve(&[request::GET_ROUTEINFO_BY_TOPIC], processor, &Lane::new("route", routes_max, u32::MAX));
        let server = Arc::downgrade(self);
        router.on_close = Arc::new(move |channel| {
            if let Some(server) = server.upgrade() {
                server.channel_closed(channel);
            }
        });
        router
    }

    /// Ends its tasks; what was asked to be written is written.
    pub async fn stop(&self) {
        self.stop.advance(1);
        self.files.lock().expect("nothing panics while it is held").take();
        let tasks = std::mem::take(&mut *self.tasks());
        for task in tasks {
            if let Err(panicked) = task.finished().await {
                tracing::error!(%panicked, "a task of the name server did not end well");
            }
        }
    }

    /// Completes when one of its tasks panicked: the process must end, there is no half-dead name server.
    pub async fn died(&self) -> Panicked {
        let tasks = self.tasks().clone();
        first_panic(tasks).await
    }

    fn channel_closed(&self, channel: &Arc<Channel>) {
        let gone = {
            let mut state = self.state();
            state.channels.remove(&channel.id());
            state.routes.channel_closed(channel.id())
        };
        for Gone { broker_name, broker_addr, .. } in gone {
            tracing::info!(broker_name, broker_addr, "broker's connection is gone, its routes are removed");
        }
    }

    /// Takes out brokers that were silent for too long and closes their connections.
    fn expire(&self) {
        let now = self.env.clock.monotonic();
        let (gone, channels) = {
            let mut state = self.state();
            let gone = state.routes.expire(now);
            let channels: Vec<_> = gone.iter().filter_map(|gone| state.channels.remove(&gone.channel)).collect();
            (gone, channels)
        };
        for Gone { broker_name, broker_addr, .. } in gone {
            tracing::warn!(broker_name, broker_addr, "broker was silent for too long, its routes are removed");
        }
        channels.iter().for_each(|channel| channel.close());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn tasks(&self) -> MutexGuard<'_, Vec<Task>> {
        self.tasks.lock().expect("nothing panics while it is held")
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("nothing panics while it is held")
}

/// Reads `kvConfig.json`, or the copy that was kept of it when it was last replaced.
fn load_kv(storage: &dyn Storage, config: &NamesrvConfig) -> Result<Kv, StartError> {
    let path = PathBuf::from(&config.kv_config_path);
    let read = |path: &Path| match storage.read(path) {
        Ok(bytes) if bytes.is_empty() => Ok(None),
        Ok(bytes) => Kv::load(&bytes, config.kv_max).map(Some).map_err(|error| error.to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    };
    let mut backup = path.clone().into_os_string();
    backup.push(".bak");
    let result = match read(&path) {
        Ok(Some(kv)) => return Ok(kv),
        Ok(None) => read(Path::new(&backup)),
        Err(reason) => match read(Path::new(&backup)) {
            Ok(Some(kv)) => {
                tracing::warn!(path = %path.display(), reason, "unreadable, its copy .bak is taken");
                Ok(Some(kv))
            }
            _ => Err(reason),
        },
    };
    match result {
        Ok(kv) => Ok(kv.unwrap_or_else(|| Kv::new(config.kv_max))),
        Err(reason) => Err(StartError::Unreadable { path: path.display().to_string(), reason }),
    }
}

async fn scan(server: Weak<NameServer>, interval: Duration, env: Env) {
    let Some(stop) = server.upgrade().map(|server| server.stop.clone()) else { return };
    loop {
        tokio::select! {
            biased;
            _ = stop.reached(1) => return,
            () = env.clock.sleep(interval) => {}
        }
        match server.upgrade() {
            Some(server) => server.expire(),
            None => return,
        }
    }
}

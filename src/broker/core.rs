//! What all processors share: the tables, the store, the configuration of this moment.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{
    clients::{self, Clients, ToTell},
    config::Config,
    consumer_offsets::ConsumerOffsets,
    delay::Delay,
    hold::Hold,
    locks::QueueLocks,
    registration::Registration,
    stats::Stats,
    subscriptions::Subscriptions,
    topics::Topics,
    transaction::Transactions,
};
use crate::{
    env::Env,
    model::{RateLimited, settings::file},
    protocol::{body::DataVersion, code::request, command::Call},
    remoting::{Lane, Latencies},
    store::{
        MessageStore,
        config_file::{ConfigFile, ConfigWriter},
    },
};

const TOOLS_SAID_MAX: u32 = 20;
const TOOLS_SAID_WINDOW: Duration = Duration::from_secs(10);

pub struct Core {
    pub env: Env,
    config: RwLock<Arc<Config>>,
    /// The address that clients are told; part of message ids.
    pub store_host: SocketAddr,
    pub started_ms: i64,
    /// The same moment, monotonic.
    pub started: Duration,
    pub store: Arc<MessageStore>,
    pub topics: Topics,
    pub groups: Subscriptions,
    pub offsets: ConsumerOffsets,
    pub delay: Arc<Delay>,
    pub clients: Clients,
    pub locks: QueueLocks,
    pub stats: Arc<Stats>,
    pub hold: Arc<Hold>,
    pub transactions: Transactions,
    /// How long requests took on all ports.
    pub latencies: Arc<Latencies>,
    pub registration: Arc<Registration>,
    /// Lines about what tools make, which may be thousands.
    tools_said: RateLimited,
    is_stopping: AtomicBool,
    lanes: Mutex<Vec<Arc<Lane>>>,
    changing: Mutex<()>,
    changes: Arc<Mutex<Changes>>,
    config_file: Mutex<Option<ConfigFile>>,
}

/// What was changed at run time.
#[derive(Default)]
struct Changes {
    version: DataVersion,
    by_key: BTreeMap<String, String>,
}

impl Core {
    #[expect(clippy::too_many_arguments, reason = "each room is opened by whoever starts the broker")]
    pub fn new(
        env: Env,
        config: Config,
        store_host: SocketAddr,
        store: Arc<MessageStore>,
        topics: Topics,
        groups: Subscriptions,
        offsets: ConsumerOffsets,
        delay: Arc<Delay>,
        transactions: Transactions,
        registration: Arc<Registration>,
    ) -> Arc<Self> {
        Arc::new(Core {
            started_ms: env.clock.wall_ms(),
            started: env.clock.monotonic(),
            store_host,
            store,
            topics,
            groups,
            offsets,
            delay,
            transactions,
            clients: Clients::new(clients::Bounds {
                clients: config.clients_max,
                bytes: config.clients_memory_max_bytes,
            }),
            locks: QueueLocks::new(config.queue_locks_max, Duration::from_millis(config.queue_lock_life_ms)),
            stats: Arc::new(Stats::new(env.clock.clone(), config.stats_keys_max, config.enable_detail_stat)),
            hold: Arc::new(Hold::new(config.held_pulls_max)),
            latencies: Arc::default(),
            registration,
            tools_said: RateLimited::new(TOOLS_SAID_MAX, TOOLS_SAID_WINDOW),
            is_stopping: AtomicBool::new(false),
            lanes: Mutex::default(),
            changing: Mutex::default(),
            changes: Arc::default(),
            config_file: Mutex::default(),
            config: RwLock::new(Arc::new(config)),
            env,
        })
    }

    /// The configuration of this moment; code 25 replaces it.
    pub fn config(&self) -> Arc<Config> {
        self.config.read().expect("nothing panics while it is held").clone()
    }

    /// The name servers to register with from now on; not written to the configuration's file. False if they are those
    /// already.
    pub fn set_name_servers(&self, addresses: &[String]) -> bool {
        let _changing = self.changing_config();
        let mut config = Config::clone(&self.config());
        if config.namesrv_addr == addresses {
            return false;
        }
        config.namesrv_addr = addresses.to_vec();
        *self.config.write().expect("nothing panics while it is held") = Arc::new(config);
        true
    }

    /// Held by whoever reads the configuration in order to change it.
    pub fn changing_config(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().expect("nothing panics while it is held")
    }

    /// `config`, which differs in `changes`, holds from now on. Returns what to wait for until the broker's file says
    /// so; nothing if it was started without one.
    pub fn change_config(&self, config: Config, changes: &[(String, String)]) -> Option<(ConfigFile, u64)> {
        *self.config.write().expect("nothing panics while it is held") = Arc::new(config);
        let mut changed = self.changes.lock().expect("nothing panics while it is held");
        changed.version.next(self.now_ms());
        changed.by_key.extend(changes.iter().cloned());
        drop(changed);
        let file = self.config_file.lock().expect("nothing panics while it is held").clone()?;
        let generation = file.persist();
        Some((file, generation))
    }

    /// Counts changes at run time.
    pub fn config_version(&self) -> DataVersion {
        self.changes.lock().expect("nothing panics while it is held").version.clone()
    }

    /// Changes at run time are written into this file, which said `text` when it was read: its comments, order and
    /// everything else stay.
    pub fn keep_config_in(&self, writer: &ConfigWriter, path: &Path, text: String) {
        let (changes, storage, at) = (self.changes.clone(), self.env.storage.clone(), path.to_owned());
        let render = move || {
            // Somebody may have edited it in the meantime.
            let now = storage.read(&at).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let changes = changes.lock().expect("nothing panics while it is held");
            let changes: Vec<_> = changes.by_key.clone().into_iter().collect();
            file::rewrite(now.as_deref().unwrap_or(&text), &changes)
        };
        *self.config_file.lock().expect("nothing panics while it is held") = Some(writer.table(path, render));
    }

    /// Says what a tool did, some of it and how much was left out.
    pub fn say_tool(&self, what: impl FnOnce() -> String) {
        match self.tools_said.permit(self.env.clock.monotonic()) {
            Some(0) => tracing::info!("a tool {}", what()),
            Some(left_out) => tracing::info!("a tool {} ({left_out} like lines left out before)", what()),
            None => {}
        }
    }

    /// The lanes of all ports.
    pub fn lanes(&self) -> Vec<Arc<Lane>> {
        self.lanes.lock().expect("nothing panics while it is held").clone()
    }

    /// The broker is about to stop: sends are refused, all else goes on.
    pub fn refuse_sends(&self) {
        self.is_stopping.store(true, Ordering::SeqCst);
    }

    pub fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    pub fn watch_lanes(&self, lanes: impl IntoIterator<Item = Arc<Lane>>) {
        self.lanes.lock().expect("nothing panics while it is held").extend(lanes);
    }

    pub fn now_ms(&self) -> i64 {
        self.env.clock.wall_ms()
    }

    /// Tells the rest of each group that its members changed (40), unless the group does not want to know.
    pub fn tell(&self, to_tell: ToTell) {
        for (group, channels) in to_tell {
            let wants = self.groups.find(&group).is_none_or(|config| config.notify_consumer_ids_changed_enable);
            if !wants || !self.config().notify_consumer_ids_changed_enable {
                continue;
            }
            for channel in channels {
                channel.oneway(Call::new(request::NOTIFY_CONSUMER_IDS_CHANGED).with("consumerGroup", group.clone()));
            }
        }
    }
}

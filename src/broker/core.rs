//! What all processors share: the tables, the store, the configuration of this moment.

use std::{
    net::SocketAddr,
    sync::{Arc, RwLock},
};

use super::{
    clients::{Clients, ToTell},
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
    protocol::{code::request, command::Call},
    store::MessageStore,
};

pub struct Core {
    pub env: Env,
    config: RwLock<Arc<Config>>,
    /// The address that clients are told; part of message ids.
    pub store_host: SocketAddr,
    pub started_ms: i64,
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
    pub registration: Arc<Registration>,
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
            store_host,
            store,
            topics,
            groups,
            offsets,
            delay,
            transactions,
            clients: Clients::new(config.clients_max),
            locks: QueueLocks::new(config.queue_locks_max),
            stats: Arc::new(Stats::new(env.clock.clone(), config.stats_keys_max)),
            hold: Arc::new(Hold::new(config.held_pulls_max)),
            registration,
            config: RwLock::new(Arc::new(config)),
            env,
        })
    }

    /// The configuration of this moment; code 25 replaces it.
    pub fn config(&self) -> Arc<Config> {
        self.config.read().expect("nothing panics while it is held").clone()
    }

    pub fn set_config(&self, config: Config) {
        *self.config.write().expect("nothing panics while it is held") = Arc::new(config);
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

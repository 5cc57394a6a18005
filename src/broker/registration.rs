//! Announces the broker and its topics to every name server: at start, every half minute, and at once when a topic
//! comes or changes. A name server that is slow or gone holds nobody up.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use tokio::sync::Notify;

use super::{config::Config, core::Core};
use crate::{
    env::{BoxFuture, Clock, timeout},
    model::Watermark,
    protocol::{
        body::{Body, DataVersion, KvTable, RegisterBrokerBody, TopicConfigTable, registration_crc, topic::perm},
        code::request,
        command::{Answered, Call},
    },
    remoting::Client,
    store::stop::Stopping,
};

/// Pause before a failed registration is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How long the first acknowledgement of a new topic waits for its registration.
pub const NEW_TOPIC_WAIT: Duration = Duration::from_millis(1_000);

pub struct Registration {
    client: Arc<Client>,
    clock: Arc<dyn Clock>,
    /// The name servers may be others than before.
    wanted: Notify,
    /// Rounds asked for so far.
    asked: Arc<Watermark>,
    rounds: AtomicU64,
    /// Rounds in which every reachable name server was told.
    done: Arc<Watermark>,
    /// Per name server: the last round after which it was told, or could not be.
    told: Mutex<BTreeMap<String, u64>>,
    unreachable: Mutex<BTreeMap<String, String>>,
    advertised: String,
    ha_address: String,
}

impl Registration {
    pub fn new(client: Arc<Client>, clock: Arc<dyn Clock>, advertised: String, ha_address: String) -> Arc<Self> {
        Arc::new(Registration {
            client,
            clock,
            wanted: Notify::new(),
            asked: Watermark::new(0),
            rounds: AtomicU64::new(0),
            done: Watermark::new(0),
            told: Mutex::default(),
            unreachable: Mutex::default(),
            advertised,
            ha_address,
        })
    }

    /// Under which address name servers and clients know this broker.
    pub fn advertised(&self) -> &str {
        &self.advertised
    }

    /// Asks for a registration soon. Returns the round to wait for.
    pub fn request(&self) -> u64 {
        let round = self.rounds.fetch_add(1, Ordering::SeqCst) + 1;
        self.asked.advance(round);
        self.wanted.notify_one();
        round
    }

    /// Waits until the name servers that can be reached have been told what `request` asked for, but not longer than
    /// `within`.
    pub async fn told(&self, round: u64, within: Duration) -> bool {
        matches!(timeout(&*self.clock, within, self.done.reached(round)).await, Ok(Ok(())))
    }

    /// The service: one loop for each name server, side by side. They are one task, so that a panic in one is its end.
    pub async fn run(self: Arc<Self>, core: Arc<Core>, mut stopping: Stopping) {
        let mut loops: BTreeMap<String, BoxFuture<'static, ()>> = BTreeMap::new();
        while !stopping.is_stopping() {
            for address in &core.config().namesrv_addr {
                let look_after = || self.clone().look_after(core.clone(), address.clone());
                loops.entry(address.clone()).or_insert_with(|| Box::pin(look_after()));
            }
            if loops.is_empty() {
                self.done.advance(self.asked.get());
            }
            let running = poll_fn(|context| {
                loops.retain(|_, one| one.as_mut().poll(context).is_pending());
                Poll::<()>::Pending
            });
            tokio::select! {
                biased;
                () = stopping.stopped() => {}
                () = running => {}
                () = self.wanted.notified() => {}
            }
        }
        drop(loops);
        self.unregister(&core).await;
    }

    /// Tells one name server, once.
    pub async fn announce(&self, core: &Core, address: &str) {
        let outcome = self.register_with(core, address).await;
        self.note(address, outcome.err());
    }

    /// Tells a name server whenever asked and every half minute, as long as it is one of ours. With forceRegister=false
    /// one that has heard of everything is only asked every half minute, which it takes as a sign of life.
    async fn look_after(self: Arc<Self>, core: Arc<Core>, address: String) {
        self.lock_told().insert(address.clone(), 0);
        let mut is_due = true;
        while core.config().namesrv_addr.contains(&address) {
            let round = self.asked.get();
            let mut pause = Duration::from_millis(core.config().register_interval_ms());
            let is_asked_first = !is_due && !core.config().force_register;
            is_due = false;
            if !is_asked_first || !self.is_known_to(&core, &address).await {
                match self.register_with(&core, &address).await {
                    Ok(answered) => {
                        self.note(&address, None);
                        if self.is_first(&core.config(), &address) {
                            self.take_answer(&core, &answered);
                        }
                    }
                    Err(error) => {
                        self.note(&address, Some(error));
                        (is_due, pause) = (true, RETRY);
                    }
                }
            }
            self.lock_told().insert(address.clone(), round);
            self.settle();
            let sleep = self.clock.sleep(pause);
            tokio::select! {
                biased;
                asked = self.asked.reached(round + 1) => {
                    asked.expect("it never fails");
                    is_due = true;
                }
                () = sleep => {}
            }
        }
        self.lock_told().remove(&address);
        self.lock_unreachable().remove(&address);
        self.settle();
    }

    /// Whoever waits for the name servers waits for those that answered when they were last asked.
    fn settle(&self) {
        let told = self.lock_told();
        let unreachable = self.lock_unreachable();
        let awaited = told.iter().filter(|(address, _)| !unreachable.contains_key(*address)).map(|(_, round)| *round);
        self.done.advance(awaited.min().unwrap_or_else(|| self.asked.get()));
    }

    /// Of several name servers the first that can be reached says which topics are ordered, as in RocketMQ: else two that
    /// differ would change it to and fro.
    fn is_first(&self, config: &Config, address: &str) -> bool {
        let unreachable = self.lock_unreachable();
        config.namesrv_addr.iter().find(|known| !unreachable.contains_key(*known)).is_some_and(|first| first == address)
    }

    fn lock_told(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.told.lock().expect("nothing panics while it is held")
    }

    fn lock_unreachable(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.unreachable.lock().expect("nothing panics while it is held")
    }

    async fn register_with(&self, core: &Core, to: &str) -> Result<Answered, String> {
        let config = core.config();
        let within = Duration::from_millis(config.register_broker_timeout_ms);
        let body = RegisterBrokerBody { filter_server_list: Vec::new(), topics: announced(core, &config) };
        let is_compressed = config.compressed_register;
        let body = if is_compressed { body.encode_compressed() } else { body.encode() };
        let call = self
            .about_us(&config, request::REGISTER_BROKER)
            .with("haServerAddr", self.ha_address.clone())
            .with("compressed", is_compressed)
            .with("bodyCrc32", registration_crc(&body))
            .with_body(body);
        match self.client.call(to, call, within).await {
            Ok(answered) if answered.code == 0 => Ok(answered),
            Ok(answered) => Err(format!("it answered {} {}", answered.code, answered.remark.unwrap_or_default())),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Whether a name server says that it has this version of our topics.
    async fn is_known_to(&self, core: &Core, address: &str) -> bool {
        let config = core.config();
        let version = core.topics.snapshot().data_version;
        let call = self.about_us(&config, request::QUERY_DATA_VERSION).with_body(version.encode());
        match self.client.call(address, call, Duration::from_millis(config.register_broker_timeout_ms)).await {
            Ok(answered) if answered.code == 0 => {
                let has_changed = answered.fields.get("changed") != Some("false");
                let is_same =
                    answered.body.is_empty() || DataVersion::decode(&answered.body).is_ok_and(|held| held == version);
                !has_changed && is_same
            }
            _ => false,
        }
    }

    fn about_us(&self, config: &Config, code: i32) -> Call {
        Call::new(code)
            .with("brokerName", config.broker_name.clone())
            .with("brokerAddr", self.advertised.clone())
            .with("clusterName", config.broker_cluster_name.clone())
            .with("brokerId", super::config::BROKER_ID)
    }

    /// The name server's order configuration sets and clears `order` on our topics.
    fn take_answer(&self, core: &Core, answered: &Answered) {
        if answered.body.is_empty() {
            return;
        }
        match KvTable::decode(&answered.body) {
            Ok(table) => {
                core.topics.set_order(&table.table, core.now_ms());
            }
            Err(error) => tracing::warn!("a name server's order configuration is unreadable: {error}"),
        }
    }

    fn note(&self, address: &str, error: Option<String>) {
        let mut unreachable = self.lock_unreachable();
        match error {
            None => {
                if unreachable.remove(address).is_some() {
                    tracing::info!("name server {address} knows this broker again");
                }
            }
            Some(error) => {
                if unreachable.insert(address.to_owned(), error.clone()).is_none() {
                    tracing::warn!("name server {address} cannot be told of this broker: {error}; retrying");
                }
            }
        }
    }

    async fn unregister(&self, core: &Core) {
        let config = core.config();
        let leave = async |address: &String| {
            let call = self.about_us(&config, request::UNREGISTER_BROKER);
            if let Err(error) = self.client.call(address, call, Duration::from_secs(1)).await {
                tracing::info!("name server {address} was not told of our end: {error}");
            }
        };
        let mut leaving: Vec<_> = config.namesrv_addr.iter().map(|address| Box::pin(leave(address))).collect();
        poll_fn(|context| {
            leaving.retain_mut(|one| one.as_mut().poll(context).is_pending());
            if leaving.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        self.client.close();
    }
}

/// The topics as name servers are told of them.
fn announced(core: &Core, config: &Config) -> TopicConfigTable {
    let mut topics = core.topics.snapshot();
    mask(&mut topics, config.broker_permission);
    topics
}

/// What the broker as a whole may not do, none of its topics is announced to do.
fn mask(topics: &mut TopicConfigTable, broker_permission: i32) {
    if broker_permission & (perm::READ | perm::WRITE) != perm::READ | perm::WRITE {
        for topic in topics.topic_config_table.values_mut() {
            topic.perm &= broker_permission | perm::INHERIT;
        }
    }
}

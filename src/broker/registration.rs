//! Announces the broker and its topics to every name server: at start, every half minute, and at once when a topic
//! comes or changes. A name server that is slow or gone holds nobody up.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

use super::{config::Config, core::Core};
use crate::{
    env::{Clock, Task, timeout},
    model::Watermark,
    protocol::{
        body::{Body, KvTable, RegisterBrokerBody, TopicConfigTable, registration_crc, topic::perm},
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
    wanted: Notify,
    asked: AtomicU64,
    /// Rounds in which every reachable name server was told.
    done: Arc<Watermark>,
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
            asked: AtomicU64::new(0),
            done: Watermark::new(0),
            unreachable: Mutex::default(),
            advertised,
            ha_address,
        })
    }

    /// Asks for a registration soon. Returns the round to wait for.
    pub fn request(&self) -> u64 {
        let round = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        self.wanted.notify_one();
        round
    }

    /// Waits until the name servers have been told what `request` asked for, but not longer than `within`.
    pub async fn told(&self, round: u64, within: Duration) -> bool {
        matches!(timeout(&*self.clock, within, self.done.reached(round)).await, Ok(Ok(())))
    }

    /// The service's loop.
    pub async fn run(self: Arc<Self>, core: Arc<Core>, mut stopping: Stopping) {
        loop {
            let round = self.asked.load(Ordering::SeqCst);
            let all_told = self.register(&core).await;
            self.done.advance(round);
            let config = core.config();
            let pause = if all_told { Duration::from_millis(config.register_interval_ms()) } else { RETRY };
            let sleep = self.clock.sleep(pause);
            tokio::select! {
                biased;
                () = stopping.stopped() => break,
                () = self.wanted.notified() => {}
                () = sleep => {}
            }
        }
        self.unregister(&core).await;
    }

    /// Tells one name server, once.
    pub async fn announce(&self, core: &Core, address: &str) {
        let config = core.config();
        let within = Duration::from_millis(config.register_broker_timeout_ms);
        let outcome = self.register_with(&config, address, &self.body(core, &config), within).await;
        self.note(address, outcome.err());
    }

    async fn register(self: &Arc<Self>, core: &Arc<Core>) -> bool {
        let config = core.config();
        if config.namesrv_addr.is_empty() {
            return true;
        }
        let body: Arc<[u8]> = self.body(core, &config).into();
        let within = Duration::from_millis(config.register_broker_timeout_ms);
        // All at once: a slow one holds nobody up.
        let under_way: Vec<UnderWay> = config
            .namesrv_addr
            .iter()
            .map(|address| {
                let (me, core, body) = (self.clone(), core.clone(), body.clone());
                let outcome: Arc<Mutex<Option<Outcome>>> = Arc::default();
                let (to, say) = (address.clone(), outcome.clone());
                let task = core.clone().env.spawner.task("register", async move {
                    let outcome = me.register_with(&core.config(), &to, &body, within).await;
                    *say.lock().expect("nothing panics while it is held") = Some(outcome);
                });
                UnderWay { address: address.clone(), task, outcome }
            })
            .collect();
        let mut all_told = true;
        for UnderWay { address, task, outcome } in under_way {
            let ended = task.finished().await;
            let outcome = outcome.lock().expect("nothing panics while it is held").take();
            let error = match (ended, outcome) {
                (_, Some(Ok(answered))) => {
                    self.take_answer(core, &answered);
                    None
                }
                (_, Some(Err(error))) => Some(error),
                (Err(panicked), None) => Some(panicked.to_string()),
                (Ok(()), None) => Some("the registration was cut short".to_owned()),
            };
            all_told &= error.is_none();
            self.note(&address, error);
        }
        all_told
    }

    async fn register_with(&self, config: &Config, to: &str, body: &[u8], within: Duration) -> Outcome {
        let call = self
            .about_us(config, request::REGISTER_BROKER)
            .with("haServerAddr", self.ha_address.clone())
            .with("compressed", false)
            .with("bodyCrc32", registration_crc(body))
            .with_body(body.to_vec());
        match self.client.call(to, call, within).await {
            Ok(answered) if answered.code == 0 => Ok(answered),
            Ok(answered) => Err(format!("it answered {} {}", answered.code, answered.remark.unwrap_or_default())),
            Err(error) => Err(error.to_string()),
        }
    }

    fn about_us(&self, config: &Config, code: i32) -> Call {
        Call::new(code)
            .with("brokerName", config.broker_name.clone())
            .with("brokerAddr", self.advertised.clone())
            .with("clusterName", config.broker_cluster_name.clone())
            .with("brokerId", super::config::BROKER_ID)
    }

    fn body(&self, core: &Core, config: &Config) -> Vec<u8> {
        let mut topics = core.topics.snapshot();
        mask(&mut topics, config.broker_permission);
        RegisterBrokerBody { filter_server_list: Vec::new(), topics }.encode()
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
        let mut unreachable = self.unreachable.lock().expect("nothing panics while it is held");
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
        for address in &config.namesrv_addr {
            let call = self.about_us(&config, request::UNREGISTER_BROKER);
            if let Err(error) = self.client.call(address, call, Duration::from_secs(1)).await {
                tracing::info!("name server {address} was not told of our end: {error}");
            }
        }
    }
}

type Outcome = Result<Answered, String>;

/// A registration with one name server.
struct UnderWay {
    address: String,
    task: Task,
    outcome: Arc<Mutex<Option<Outcome>>>,
}

/// What the broker as a whole may not do, none of its topics is announced to do.
fn mask(topics: &mut TopicConfigTable, broker_permission: i32) {
    if broker_permission & (perm::READ | perm::WRITE) != perm::READ | perm::WRITE {
        for topic in topics.topic_config_table.values_mut() {
            topic.perm &= broker_permission | perm::INHERIT;
        }
    }
}

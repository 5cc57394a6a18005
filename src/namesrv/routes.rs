//! Which broker serves which topic: the bookkeeping, told what happened and asked what to answer. Knows no connection (only
//! the number of one) and no clock (time comes in as a value).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::protocol::body::{
    BrokerData, BrokerMemberGroup, ClusterInfo, DataVersion, QueueData, RegisterBrokerBody, TopicConfig, TopicList,
    TopicRouteData, perm,
};

/// Id of a master.
const MASTER: i64 = 0;
/// Bits of a topic's system flag.
const UNIT: i32 = 1;
const UNIT_SUBSCRIBED: i32 = 2;

/// What a broker says of itself when it registers.
#[derive(Debug, Clone, Copy)]
pub struct Registration<'a> {
    pub cluster: &'a str,
    pub broker_name: &'a str,
    pub broker_addr: &'a str,
    pub broker_id: i64,
    pub ha_server_addr: &'a str,
    /// Silent for longer, the broker counts as gone.
    pub expires_after: Duration,
    /// Present on 5.x brokers.
    pub enable_acting_master: Option<bool>,
    pub body: &'a RegisterBrokerBody,
    /// Topics that the body lacks are no longer there.
    pub is_complete: bool,
    /// Number of the connection it came over.
    pub channel: u64,
}

/// What a slave learns from its registration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registered {
    pub ha_server_addr: Option<String>,
    pub master_addr: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    #[error("this name server holds {max} brokers already, as many as brokersMax allows")]
    TooManyBrokers { max: usize },
    #[error("this name server would hold more than {max} topics, the number that topicsMax allows")]
    TooManyTopics { max: usize },
}

/// A broker's address within its cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Address {
    cluster: String,
    addr: String,
}

/// A broker that registered and has been heard of since.
#[derive(Debug)]
struct Live {
    broker_name: String,
    last_heard: Duration,
    expires_after: Duration,
    /// `None` until a registration came that may be complete.
    version: Option<DataVersion>,
    ha_server_addr: String,
    filter_servers: Vec<String>,
    channel: u64,
}

/// A broker that was taken out, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    pub broker_name: String,
    pub broker_addr: String,
    pub channel: u64,
}

#[derive(Debug)]
pub struct Routes {
    /// By topic and broker name.
    topics: BTreeMap<String, BTreeMap<String, QueueData>>,
    /// By broker name; each has an address at least.
    brokers: BTreeMap<String, BrokerData>,
    /// Cluster to broker names; each has one at least.
    clusters: BTreeMap<String, BTreeSet<String>>,
    /// Its addresses are those of `brokers`, each in its broker's cluster.
    live: BTreeMap<Address, Live>,
    brokers_max: usize,
    topics_max: usize,
}

impl Routes {
    pub fn new(brokers_max: usize, topics_max: usize) -> Self {
        Routes {
            topics: BTreeMap::new(),
            brokers: BTreeMap::new(),
            clusters: BTreeMap::new(),
            live: BTreeMap::new(),
            brokers_max,
            topics_max,
        }
    }

    /// Takes a registration in, complete or of the topics that changed.
    pub fn register(&mut self, new: &Registration<'_>, now: Duration) -> Result<Registered, RegisterError> {
        let address = Address { cluster: new.cluster.to_owned(), addr: new.broker_addr.to_owned() };
        let topics = &new.body.topics.topic_config_table;
        if !self.live.contains_key(&address) && self.live.len() >= self.brokers_max {
            return Err(RegisterError::TooManyBrokers { max: self.brokers_max });
        }
        let added = topics.keys().filter(|topic| !self.topics.contains_key(*topic)).count();
        if self.topics.len() + added > self.topics_max {
            return Err(RegisterError::TooManyTopics { max: self.topics_max });
        }
        if self.is_older_master_change(new) {
            return Ok(Registered::default());
        }

        // The same address under another broker name was the same process before it was renamed.
        if self.live.get(&address).is_some_and(|live| live.broker_name != new.broker_name) {
            self.remove(&address);
        }
        self.follow(new.broker_name, new.cluster);
        let first = self.place(new);
        let version = &new.body.topics.data_version;
        let is_changed = self.live.get(&address).is_none_or(|live| live.version.as_ref() != Some(version));
        if (first || is_changed) && self.leads(new) {
            self.take_topics(new);
        }

        // One topic may be all of a broker's or the only one that changed. If we knew nothing of this broker before, its
        // version must not count as known, or its complete registration would be taken for a repetition.
        let may_be_partial = topics.len() == 1 && self.live.get(&address).is_none_or(|live| live.version.is_none());
        let live = Live {
            broker_name: new.broker_name.to_owned(),
            last_heard: now,
            expires_after: new.expires_after,
            version: (!may_be_partial).then(|| version.clone()),
            ha_server_addr: new.ha_server_addr.to_owned(),
            filter_servers: new.body.filter_server_list.clone(),
            channel: new.channel,
        };
        self.live.insert(address, live);

        let mut registered = Registered::default();
        if new.broker_id != MASTER
            && let Some(master) = self.brokers[new.broker_name].broker_addrs.get(&MASTER)
        {
            let address = Address { cluster: new.cluster.to_owned(), addr: master.clone() };
            registered.ha_server_addr = self.live.get(&address).map(|live| live.ha_server_addr.clone());
            registered.master_addr = Some(master.clone());
        }
        Ok(registered)
    }

    /// A controller moved the master's place (5.x) and the former holder still registers: its state version is lower.
    fn is_older_master_change(&self, new: &Registration<'_>) -> bool {
        let Some(broker) = self.brokers.get(new.broker_name) else { return false };
        let Some(holder) = broker.broker_addrs.get(&new.broker_id).filter(|addr| *addr != new.broker_addr) else {
            return false;
        };
        let address = Address { cluster: broker.cluster.clone(), addr: holder.clone() };
        let state = |version: &DataVersion| version.state_version.unwrap_or_default();
        let held = self.live.get(&address).and_then(|live| live.version.as_ref()).map_or(0, state);
        held > state(&new.body.topics.data_version)
    }

    /// A broker name that is in another cluster now takes all its addresses there.
    fn follow(&mut self, broker_name: &str, cluster: &str) {
        let Some(broker) = self.brokers.get_mut(broker_name).filter(|broker| broker.cluster != cluster) else { return };
        let former = std::mem::replace(&mut broker.cluster, cluster.to_owned());
        let addrs: Vec<_> = broker.broker_addrs.values().cloned().collect();
        remove_from(&mut self.clusters, &former, broker_name);
        for addr in addrs {
            let there = Address { cluster: cluster.to_owned(), addr: addr.clone() };
            if let Some(live) = self.live.remove(&Address { cluster: former.clone(), addr }) {
                self.remove(&there);
                self.live.insert(there, live);
            }
        }
    }

    /// Puts the address where it belongs; true if its broker name had no address under this id.
    fn place(&mut self, new: &Registration<'_>) -> bool {
        let broker = self.brokers.entry(new.broker_name.to_owned()).or_insert_with(|| BrokerData {
            broker_addrs: BTreeMap::new(),
            broker_name: new.broker_name.to_owned(),
            cluster: new.cluster.to_owned(),
            enable_acting_master: None,
            zone_name: None,
        });
        broker.enable_acting_master = new.enable_acting_master;
        self.clusters.entry(new.cluster.to_owned()).or_default().insert(new.broker_name.to_owned());
        // A slave that became master keeps its address: it stands under one id only.
        broker.broker_addrs.retain(|id, addr| *id == new.broker_id || addr != new.broker_addr);
        let former = broker.broker_addrs.insert(new.broker_id, new.broker_addr.to_owned());
        if let Some(addr) = former.as_ref().filter(|addr| *addr != new.broker_addr) {
            self.live.remove(&Address { cluster: new.cluster.to_owned(), addr: addr.clone() });
        }
        former.is_none()
    }

    /// True if the topics of this broker name are what `new` says: the master, or the first slave (5.x) while there is none.
    fn leads(&self, new: &Registration<'_>) -> bool {
        let ids = &self.brokers[new.broker_name].broker_addrs;
        new.broker_id == MASTER
            || new.enable_acting_master.is_some()
                && !ids.contains_key(&MASTER)
                && ids.keys().next() == Some(&new.broker_id)
    }

    fn take_topics(&mut self, new: &Registration<'_>) {
        let topics = &new.body.topics.topic_config_table;
        if new.is_complete {
            for (_, queues) in self.topics.iter_mut().filter(|(topic, _)| !topics.contains_key(*topic)) {
                queues.remove(new.broker_name);
            }
            self.topics.retain(|_, queues| !queues.is_empty());
        }
        for (topic, config) in topics {
            let mut queue = queue_data(new.broker_name, config);
            if new.broker_id != MASTER && new.enable_acting_master == Some(true) {
                queue.perm &= !perm::WRITE;
            }
            self.topics.entry(topic.clone()).or_default().insert(new.broker_name.to_owned(), queue);
        }
    }

    /// A broker leaves by itself.
    pub fn unregister(&mut self, cluster: &str, broker_addr: &str) -> Option<Gone> {
        self.remove(&Address { cluster: cluster.to_owned(), addr: broker_addr.to_owned() })
    }

    /// A connection is gone, and with it the brokers that registered over it last.
    pub fn channel_closed(&mut self, channel: u64) -> Vec<Gone> {
        self.remove_where(|live| live.channel == channel)
    }

    /// Takes out whoever was silent for too long.
    pub fn expire(&mut self, now: Duration) -> Vec<Gone> {
        self.remove_where(|live| live.last_heard + live.expires_after < now && !plant!(RouteNotExpired))
    }

    fn remove_where(&mut self, is_gone: impl Fn(&Live) -> bool) -> Vec<Gone> {
        let gone: Vec<_> =
            self.live.iter().filter(|(_, live)| is_gone(live)).map(|(address, _)| address.clone()).collect();
        gone.iter().filter_map(|address| self.remove(address)).collect()
    }

    fn remove(&mut self, address: &Address) -> Option<Gone> {
        let live = self.live.remove(address)?;
        let broker = self.brokers.get_mut(&live.broker_name).expect("a live broker has its name registered");
        broker.broker_addrs.retain(|_, addr| *addr != address.addr);
        if broker.broker_addrs.is_empty() {
            let broker = self.brokers.remove(&live.broker_name).expect("it was there a moment ago");
            remove_from(&mut self.clusters, &broker.cluster, &live.broker_name);
            for queues in self.topics.values_mut() {
                queues.remove(&live.broker_name);
            }
            self.topics.retain(|_, queues| !queues.is_empty());
        }
        Some(Gone { broker_name: live.broker_name, broker_addr: address.addr.clone(), channel: live.channel })
    }

    /// The version that a broker's topics have here; a broker that asks with the same one has been heard of.
    pub fn data_version(
        &mut self,
        cluster: &str,
        broker_addr: &str,
        asked: &DataVersion,
        now: Duration,
    ) -> Option<DataVersion> {
        let live = self.live.get_mut(&Address { cluster: cluster.to_owned(), addr: broker_addr.to_owned() })?;
        if live.version.as_ref() == Some(asked) {
            live.last_heard = now;
        }
        live.version.clone()
    }

    /// A broker says that it lives (5.x).
    pub fn heard(&mut self, cluster: &str, broker_addr: &str, now: Duration) {
        if let Some(live) = self.live.get_mut(&Address { cluster: cluster.to_owned(), addr: broker_addr.to_owned() }) {
            live.last_heard = now;
        }
    }

    /// Where a topic is; `None` if nowhere.
    pub fn route(&self, topic: &str) -> Option<TopicRouteData> {
        let queues = self.topics.get(topic)?;
        let mut route = TopicRouteData::default();
        for (broker_name, queue) in queues {
            route.queue_datas.push(queue.clone());
            // Topics can also be registered from outside (217), for a broker that is not there.
            let Some(broker) = self.brokers.get(broker_name) else { continue };
            for addr in broker.broker_addrs.values() {
                let address = Address { cluster: broker.cluster.clone(), addr: addr.clone() };
                if let Some(live) = self.live.get(&address).filter(|live| !live.filter_servers.is_empty()) {
                    route.filter_server_table.insert(addr.clone(), live.filter_servers.clone());
                }
            }
            route.broker_datas.push(broker.clone());
        }
        (!route.broker_datas.is_empty()).then_some(route)
    }

    pub fn cluster_info(&self) -> ClusterInfo {
        ClusterInfo { broker_addr_table: self.brokers.clone(), cluster_addr_table: self.clusters.clone() }
    }

    /// The addresses under a broker name; empty if there is none in that cluster.
    pub fn member_group(&self, cluster: &str, broker_name: &str) -> BrokerMemberGroup {
        let broker = self.brokers.get(broker_name).filter(|broker| broker.cluster == cluster);
        BrokerMemberGroup {
            broker_addrs: broker.map(|broker| broker.broker_addrs.clone()).unwrap_or_default(),
            broker_name: broker_name.to_owned(),
            cluster: cluster.to_owned(),
        }
    }

    pub fn all_topics(&self) -> TopicList {
        TopicList { broker_addr: None, topic_list: self.topics.keys().cloned().collect() }
    }

    pub fn topics_of_cluster(&self, cluster: &str) -> TopicList {
        let brokers = self.clusters.get(cluster);
        let is_there = |name: &String| brokers.is_some_and(|brokers| brokers.contains(name));
        self.topics_where(|queues| queues.keys().any(is_there))
    }

    /// Names that every cluster has as topics: its own and its brokers'.
    pub fn system_topics(&self) -> TopicList {
        let mut list = TopicList::default();
        for (cluster, brokers) in &self.clusters {
            list.topic_list.insert(cluster.clone());
            list.topic_list.extend(brokers.iter().cloned());
        }
        list.broker_addr = self.brokers.values().find_map(|broker| broker.broker_addrs.values().next().cloned());
        list
    }

    pub fn unit_topics(&self) -> TopicList {
        self.topics_where(|queues| first_flag(queues) & UNIT != 0)
    }

    pub fn unit_subscribed_topics(&self) -> TopicList {
        self.topics_where(|queues| first_flag(queues) & UNIT_SUBSCRIBED != 0)
    }

    pub fn unit_subscribed_other_topics(&self) -> TopicList {
        self.topics_where(|queues| first_flag(queues) & (UNIT | UNIT_SUBSCRIBED) == UNIT_SUBSCRIBED)
    }

    fn topics_where(&self, wanted: impl Fn(&BTreeMap<String, QueueData>) -> bool) -> TopicList {
        let topics = self.topics.iter().filter(|(_, queues)| wanted(queues)).map(|(topic, _)| topic.clone());
        TopicList { broker_addr: None, topic_list: topics.collect() }
    }

    /// Changes the permissions of all topics on a broker name; how many there are.
    pub fn set_writable(&mut self, broker_name: &str, is_writable: bool) -> usize {
        let mut topics = 0;
        for queue in self.topics.values_mut().filter_map(|queues| queues.get_mut(broker_name)) {
            queue.perm = if is_writable { perm::READ | perm::WRITE } else { queue.perm & !perm::WRITE };
            topics += 1;
        }
        topics
    }

    /// Forgets a topic, everywhere or on the brokers of one cluster.
    pub fn delete_topic(&mut self, topic: &str, cluster: Option<&str>) {
        let Some(cluster) = cluster else {
            self.topics.remove(topic);
            return;
        };
        let Some(brokers) = self.clusters.get(cluster) else { return };
        if let Some(queues) = self.topics.get_mut(topic) {
            queues.retain(|broker_name, _| !brokers.contains(broker_name));
            if queues.is_empty() {
                self.topics.remove(topic);
            }
        }
    }

    /// Takes in queues of a topic on brokers that are known; others are ignored.
    pub fn register_topic(&mut self, topic: &str, queues: &[QueueData]) -> Result<(), RegisterError> {
        if !self.topics.contains_key(topic) && self.topics.len() >= self.topics_max {
            return Err(RegisterError::TooManyTopics { max: self.topics_max });
        }
        for queue in queues.iter().filter(|queue| self.brokers.contains_key(&queue.broker_name)) {
            self.topics.entry(topic.to_owned()).or_default().insert(queue.broker_name.clone(), queue.clone());
        }
        Ok(())
    }
}

fn queue_data(broker_name: &str, config: &TopicConfig) -> QueueData {
    QueueData {
        broker_name: broker_name.to_owned(),
        perm: config.perm,
        read_queue_nums: config.read_queue_nums,
        topic_sys_flag: config.topic_sys_flag,
        write_queue_nums: config.write_queue_nums,
    }
}

fn first_flag(queues: &BTreeMap<String, QueueData>) -> i32 {
    queues.values().next().map_or(0, |queue| queue.topic_sys_flag)
}

fn remove_from(clusters: &mut BTreeMap<String, BTreeSet<String>>, cluster: &str, broker_name: &str) {
    if let Some(brokers) = clusters.get_mut(cluster) {
        brokers.remove(broker_name);
        if brokers.is_empty() {
            clusters.remove(cluster);
        }
    }
}

#[cfg(test)]
mod tests;

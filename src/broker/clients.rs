//! The producers and consumers that are connected: who belongs to which group, over which channel, subscribed to what.
//! Bookkeeping only: it says who is to be told of a change, and tells nobody.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use crate::{
    model::{
        RateLimited,
        filter::{Filter, FilterError},
    },
    protocol::{
        body::{ConsumeFromWhere, ConsumeType, ConsumerData, MessageModel, SubscriptionData},
        command::Language,
    },
    remoting::Channel,
};

/// A client of a group.
#[derive(Clone)]
pub struct Client {
    pub id: String,
    pub language: Language,
    pub version: i32,
    /// Monotonic time of its last heartbeat.
    pub seen: Duration,
    pub channel: Arc<Channel>,
}

/// What a group wants of a topic.
#[derive(Clone)]
pub struct Subscription {
    pub data: SubscriptionData,
    /// What is wrong with the expression, if it is refused; its pulls are told so.
    pub filter: Result<Arc<Filter>, Arc<FilterError>>,
}

#[derive(Clone)]
pub struct ConsumerGroup {
    pub consume_type: ConsumeType,
    pub model: MessageModel,
    pub from_where: ConsumeFromWhere,
    /// By channel.
    pub clients: BTreeMap<u64, Client>,
    pub subscriptions: BTreeMap<String, Subscription>,
    /// What each member subscribes to in its own words, by channel.
    wants: BTreeMap<u64, String>,
    /// The members were said to disagree.
    disagrees: bool,
}

/// There are too many clients to register one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooMany {
    #[error("{clients_max} producers and consumers are registered, which is all that clientsMax allows")]
    Clients { clients_max: usize },
    #[error(
        "what is registered by producers and consumers takes {bytes} bytes, with this one more than \
         clientsMemoryMaxBytes={bytes_max}"
    )]
    Bytes { bytes: usize, bytes_max: usize },
}

/// Most of what registered clients may take.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// A client counts once for each of its groups.
    pub clients: usize,
    pub bytes: usize,
}

/// What a registration takes beside its texts, roughly.
const REGISTRATION_BYTES: usize = 512;

/// Lines about groups whose members disagree, and what is named in one.
const SAID_MAX: u32 = 5;
const SAID_WINDOW: Duration = Duration::from_secs(60);
const NAMED_MAX: usize = 3;

/// Channels of a group whose members or subscriptions changed.
pub type ToTell = Vec<(String, Vec<Arc<Channel>>)>;

pub struct Clients {
    table: Mutex<Table>,
    bounds: Bounds,
    /// Lines about groups whose members disagree.
    said: RateLimited,
}

#[derive(Default)]
struct Table {
    consumers: BTreeMap<String, ConsumerGroup>,
    producers: BTreeMap<String, BTreeMap<u64, Client>>,
    /// Groups that a channel belongs to, so that its end is cheap: (consumer groups, producer groups), each with the
    /// bytes that it takes.
    of_channel: BTreeMap<u64, (Memberships, Memberships)>,
    /// Of all channels together.
    memberships: usize,
    bytes: usize,
}

type Memberships = BTreeMap<String, usize>;

impl Clients {
    pub fn new(bounds: Bounds) -> Self {
        Clients { table: Mutex::default(), bounds, said: RateLimited::new(SAID_MAX, SAID_WINDOW) }
    }

    pub fn register_producer(&self, group: &str, client: Client) -> Result<(), TooMany> {
        let mut table = self.lock();
        let bytes = REGISTRATION_BYTES + group.len() + client.id.len();
        table.join(&self.bounds, &client, group, bytes, |(_, producers)| producers)?;
        table.producers.entry(group.to_owned()).or_default().insert(client.channel.id(), client);
        Ok(())
    }

    /// Takes a heartbeat of a consumer in. Returns whether the group's members or subscriptions changed. `parse` checks
    /// the expression of a subscription that is new or newer than the known one.
    pub fn register_consumer(
        &self,
        data: &ConsumerData,
        client: Client,
        parse: impl Fn(&SubscriptionData) -> Result<Arc<Filter>, Arc<FilterError>>,
    ) -> Result<bool, TooMany> {
        let mut table = self.lock();
        let wants = SubscriptionData::describe(&data.subscription_data_set);
        // The group's subscriptions and the member's own words.
        let bytes = REGISTRATION_BYTES * (1 + data.subscription_data_set.len())
            + data.group_name.len()
            + client.id.len()
            + 2 * wants.len();
        table.join(&self.bounds, &client, &data.group_name, bytes, |(consumers, _)| consumers)?;
        let group = table.consumers.entry(data.group_name.clone()).or_insert_with(|| ConsumerGroup {
            consume_type: data.consume_type,
            model: data.message_model,
            from_where: data.consume_from_where,
            clients: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            wants: BTreeMap::new(),
            disagrees: false,
        });
        (group.consume_type, group.model, group.from_where) =
            (data.consume_type, data.message_model, data.consume_from_where);
        let known = group.clients.insert(client.channel.id(), client.clone());
        let mut changed = known.is_none_or(|known| known.id != client.id);
        for wanted in &data.subscription_data_set {
            match group.subscriptions.get_mut(&wanted.topic) {
                Some(known) if known.data.sub_version >= wanted.sub_version => {}
                Some(known) => {
                    if known.data.sub_string != wanted.sub_string
                        || known.data.expression_type != wanted.expression_type
                    {
                        tracing::info!(
                            "group {}: {} now subscribes to {} with {:?} instead of {:?}",
                            data.group_name,
                            client.id,
                            wanted.topic,
                            wanted.sub_string,
                            known.data.sub_string
                        );
                    }
                    *known = Subscription { data: wanted.clone(), filter: parse(wanted) };
                }
                None => {
                    let subscription = Subscription { data: wanted.clone(), filter: parse(wanted) };
                    group.subscriptions.insert(wanted.topic.clone(), subscription);
                    changed = true;
                }
            }
        }
        let wanted: BTreeSet<&str> = data.subscription_data_set.iter().map(|data| data.topic.as_str()).collect();
        if group.wants.get(&client.channel.id()) != Some(&wants) {
            group.wants.insert(client.channel.id(), wants);
            if let Some(line) = group.disagreement(&data.group_name)
                && let Some(left_out) = self.said.permit(client.seen)
            {
                tracing::warn!(left_out, "{line}");
            }
        }
        let before = group.subscriptions.len();
        group.subscriptions.retain(|topic, _| wanted.contains(topic.as_str()));
        Ok(changed || group.subscriptions.len() != before)
    }

    /// Takes a client out of a group. Says who is to be told.
    pub fn unregister(&self, channel: u64, producer_group: Option<&str>, consumer_group: Option<&str>) -> ToTell {
        let mut table = self.lock();
        let mut to_tell = ToTell::new();
        if let Some(group) = producer_group {
            table.leave_producers(group, channel);
        }
        if let Some(group) = consumer_group {
            table.leave_consumers(group, channel, &mut to_tell);
        }
        to_tell
    }

    /// The channel is gone, and with it all that it was.
    pub fn channel_closed(&self, channel: u64) -> ToTell {
        let mut table = self.lock();
        let Some((consumers, producers)) = table.of_channel.remove(&channel) else { return ToTell::new() };
        let mut to_tell = ToTell::new();
        for (group, bytes) in producers {
            table.left(Some(bytes));
            table.leave_producers(&group, channel);
        }
        for (group, bytes) in consumers {
            table.left(Some(bytes));
            table.leave_consumers(&group, channel, &mut to_tell);
        }
        to_tell
    }

    /// Channels without a heartbeat since `before`: they are to be closed.
    pub fn silent_since(&self, before: Duration) -> Vec<Arc<Channel>> {
        let table = self.lock();
        let consumers = table.consumers.values().flat_map(|group| group.clients.values());
        let all = consumers.chain(table.producers.values().flat_map(BTreeMap::values));
        let silent: BTreeMap<u64, Arc<Channel>> = all
            .filter(|client| client.seen < before)
            .map(|client| (client.channel.id(), client.channel.clone()))
            .collect();
        silent.into_values().collect()
    }

    pub fn consumer_group(&self, group: &str) -> Option<ConsumerGroup> {
        self.lock().consumers.get(group).cloned()
    }

    /// How the group's members disagree about what they subscribe to, if they do.
    pub fn disagreement(&self, group: &str) -> Option<String> {
        self.lock().consumers.get_mut(group)?.disagreement(group)
    }

    pub fn consumer_ids(&self, group: &str) -> Option<Vec<String>> {
        let table = self.lock();
        Some(table.consumers.get(group)?.clients.values().map(|client| client.id.clone()).collect())
    }

    /// What the group wants of the topic, and its model; `None` outside: the group is unknown.
    pub fn subscription(&self, group: &str, topic: &str) -> Option<(MessageModel, Option<Subscription>)> {
        let table = self.lock();
        let group = table.consumers.get(group)?;
        Some((group.model, group.subscriptions.get(topic).cloned()))
    }

    pub fn consumer_channels(&self, group: &str) -> Vec<Client> {
        self.lock().consumers.get(group).map(|group| group.clients.values().cloned().collect()).unwrap_or_default()
    }

    pub fn producers(&self, group: &str) -> Vec<Client> {
        self.lock().producers.get(group).map(|clients| clients.values().cloned().collect()).unwrap_or_default()
    }

    pub fn all_producers(&self) -> BTreeMap<String, Vec<Client>> {
        let table = self.lock();
        table.producers.iter().map(|(group, clients)| (group.clone(), clients.values().cloned().collect())).collect()
    }

    /// The producer's client of this id, of whatever group (replies go to it).
    pub fn producer_by_id(&self, id: &str) -> Option<Client> {
        let table = self.lock();
        table.producers.values().flat_map(BTreeMap::values).find(|client| client.id == id).cloned()
    }

    /// Online groups that subscribe to the topic.
    pub fn groups_of(&self, topic: &str) -> Vec<String> {
        let table = self.lock();
        let groups = table.consumers.iter().filter(|(_, group)| group.subscriptions.contains_key(topic));
        groups.map(|(name, _)| name.clone()).collect()
    }

    pub fn consumer_groups(&self) -> Vec<String> {
        self.lock().consumers.keys().cloned().collect()
    }

    /// Subscriptions by more than tags, each with its group.
    pub fn expressions(&self) -> Vec<(String, SubscriptionData)> {
        let by_more =
            |data: &SubscriptionData| data.expression_type.as_deref().is_some_and(|kind| !["", "TAG"].contains(&kind));
        let table = self.lock();
        let all =
            table.consumers.iter().flat_map(|(name, group)| group.subscriptions.values().map(move |one| (name, one)));
        all.filter(|(_, one)| by_more(&one.data) && one.filter.is_ok())
            .map(|(name, one)| (name.clone(), one.data.clone()))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("nothing panics while it is held")
    }
}

impl ConsumerGroup {
    /// What is to be said, if the members subscribe to different things, or to the same again.
    fn disagreement(&mut self, name: &str) -> Option<String> {
        let mut by_wish: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (channel, wish) in &self.wants {
            let id = self.clients.get(channel).map_or("somebody", |client| client.id.as_str());
            by_wish.entry(wish).or_default().push(id);
        }
        let before = std::mem::replace(&mut self.disagrees, by_wish.len() > 1);
        if by_wish.len() < 2 {
            return before.then(|| format!("the members of group {name} subscribe to the same again"));
        }
        let each: Vec<String> = by_wish
            .into_iter()
            .take(NAMED_MAX)
            .map(|(wish, ids)| {
                let more = ids.len().saturating_sub(NAMED_MAX);
                let ids = ids.into_iter().take(NAMED_MAX).collect::<Vec<_>>().join(", ");
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                format!("{ids}{more}: {wish}")
            })
            .collect();
        Some(format!(
            "the members of group {name} subscribe to different things, so messages go to members that do not want them and \
             are skipped; give them the same subscriptions or groups of their own. {}",
            each.join("; ")
        ))
    }
}

impl Table {
    /// Counts a client of a group, which takes so many bytes.
    fn join(
        &mut self,
        bounds: &Bounds,
        client: &Client,
        group: &str,
        bytes: usize,
        of: impl Fn(&mut (Memberships, Memberships)) -> &mut Memberships,
    ) -> Result<(), TooMany> {
        let groups = self.of_channel.entry(client.channel.id()).or_default();
        let before = of(groups).get(group).copied();
        let total = self.bytes - before.unwrap_or(0) + bytes;
        let refused = if before.is_none() && self.memberships >= bounds.clients {
            Some(TooMany::Clients { clients_max: bounds.clients })
        } else if total > bounds.bytes {
            Some(TooMany::Bytes { bytes: self.bytes, bytes_max: bounds.bytes })
        } else {
            None
        };
        if let Some(refused) = refused {
            self.forget_if_empty(client.channel.id());
            return Err(refused);
        }
        of(groups).insert(group.to_owned(), bytes);
        self.memberships += usize::from(before.is_none());
        self.bytes = total;
        Ok(())
    }

    fn left(&mut self, bytes: Option<usize>) {
        self.memberships -= usize::from(bytes.is_some());
        self.bytes -= bytes.unwrap_or(0);
    }

    fn leave_producers(&mut self, group: &str, channel: u64) {
        if let Some(clients) = self.producers.get_mut(group) {
            clients.remove(&channel);
            if clients.is_empty() {
                self.producers.remove(group);
            }
        }
        let left = self.of_channel.get_mut(&channel).and_then(|(_, producers)| producers.remove(group));
        self.left(left);
        self.forget_if_empty(channel);
    }

    fn leave_consumers(&mut self, name: &str, channel: u64, to_tell: &mut ToTell) {
        if let Some(group) = self.consumers.get_mut(name)
            && group.clients.remove(&channel).is_some()
        {
            group.wants.remove(&channel);
            let rest: Vec<_> = group.clients.values().map(|client| client.channel.clone()).collect();
            if rest.is_empty() {
                self.consumers.remove(name);
            } else {
                if group.model != MessageModel::Broadcasting {
                    to_tell.push((name.to_owned(), rest));
                }
            }
        }
        let left = self.of_channel.get_mut(&channel).and_then(|(consumers, _)| consumers.remove(name));
        self.left(left);
        self.forget_if_empty(channel);
    }

    fn forget_if_empty(&mut self, channel: u64) {
        if self
            .of_channel
            .get(&channel)
            .is_some_and(|(consumers, producers)| consumers.is_empty() && producers.is_empty())
        {
            self.of_channel.remove(&channel);
        }
    }
}

//! The commands: which requests, to whom, and what of the answers is shown.

use std::collections::BTreeMap;

use super::{
    Admin, Kind,
    table::{Cell, Table},
};
use crate::{
    cli::{ask::ask, cluster::Cluster},
    env::Env,
    model::properties,
    protocol::{
        body::{
            Body, ClusterInfo, ConsumeStats, KvTable, MessageQueue, ResetOffsets, SubscriptionGroupTable, TopicList,
        },
        code::{request, response},
        command::Call,
        header::{CreateTopic, GetConsumeStats, PullMessage, ResetOffset, SendMessage},
    },
    store::record::{Scan, scan},
};

pub async fn run(env: &Env, admin: &Admin) -> Result<Table, String> {
    let cluster = Commands(Cluster { env, namesrv: &admin.namesrv });
    match &admin.kind {
        Kind::Cluster => cluster.overview().await,
        Kind::Topics { all } => cluster.topics(*all).await,
        Kind::Topic { topic } => cluster.topic(topic).await,
        Kind::CreateTopic { topic, queues, perm } => cluster.create_topic(topic, *queues, *perm).await,
        Kind::DeleteTopic { topic, yes: _ } => cluster.delete_topic(topic).await,
        Kind::Groups => cluster.groups().await,
        Kind::Lag { group } => cluster.lag(group).await,
        Kind::Reset { group, topic, to } => cluster.reset(group, topic, to).await,
        Kind::Browse { topic, queue, count } => cluster.browse(topic, *queue, *count).await,
        Kind::Send { topic, body, tag, key } => cluster.send(topic, body, tag.as_deref(), key.as_deref()).await,
    }
}

/// What is done with a cluster.
struct Commands<'a>(Cluster<'a>);

impl<'a> std::ops::Deref for Commands<'a> {
    type Target = Cluster<'a>;

    fn deref(&self) -> &Cluster<'a> {
        &self.0
    }
}

impl Commands<'_> {
    async fn overview(&self) -> Result<Table, String> {
        let mut table = Table::new(&["cluster", "broker", "id", "address", "version", "sent today", "in/s", "out/s"]);
        let info = self.info().await?;
        for (cluster, names) in &info.cluster_addr_table {
            for name in names {
                let Some(data) = info.broker_addr_table.get(name) else { continue };
                for (id, address) in &data.broker_addrs {
                    let call = Call::new(request::GET_BROKER_RUNTIME_INFO);
                    let facts = match self.body::<KvTable>(address, &call).await {
                        Ok(facts) => facts.table,
                        Err(reason) => BTreeMap::from([("brokerVersionDesc".to_owned(), reason)]),
                    };
                    let fact = |name: &str| facts.get(name).map(String::as_str);
                    // Rates over ten seconds, a minute, ten minutes: the first.
                    let first = |name: &str| fact(name)?.split(' ').next()?.parse::<f64>().ok();
                    let rate = |name: &str| first(name).map(|rate| format!("{rate:.1}"));
                    let today = || {
                        let total = |name: &str| fact(name).and_then(|count| count.parse::<i64>().ok());
                        Some(total("msgPutTotalTodayNow")? - total("msgPutTotalTodayMorning")?)
                    };
                    table.row(vec![
                        cluster.as_str().into(),
                        name.as_str().into(),
                        (*id).into(),
                        address.as_str().into(),
                        fact("brokerVersionDesc").map_or(Cell::None, Cell::from),
                        today().map_or(Cell::None, Cell::from),
                        rate("putTps").map_or(Cell::None, Cell::from),
                        rate("getTransferredTps").or_else(|| rate("getTransferedTps")).map_or(Cell::None, Cell::from),
                    ]);
                }
            }
        }
        Ok(table)
    }

    async fn topics(&self, all: bool) -> Result<Table, String> {
        let call = Call::new(request::GET_ALL_TOPIC_LIST_FROM_NAMESERVER);
        let list: TopicList = self.body(self.namesrv, &call).await?;
        let hidden = system_names(&self.info().await?);
        let mut table = Table::new(&["topic"]);
        for topic in &list.topic_list {
            let is_ordinary = !topic.starts_with('%') && !topic.starts_with("RMQ_SYS_") && !hidden.contains(topic);
            if all || is_ordinary {
                table.row(vec![topic.as_str().into()]);
            }
        }
        Ok(table)
    }

    async fn topic(&self, topic: &str) -> Result<Table, String> {
        let mut table = Table::new(&["broker", "queue", "first", "end", "messages"]);
        let route = self.route(topic).await?;
        for queues in &route.queue_datas {
            let data = route.broker_datas.iter().find(|data| data.broker_name == queues.broker_name);
            let Some(address) = data.and_then(|data| data.broker_addrs.get(&0)) else { continue };
            for queue in 0..queues.read_queue_nums {
                let (min, max) = self.bounds(address, topic, queue).await?;
                let broker = queues.broker_name.as_str();
                table.row(vec![broker.into(), queue.into(), min.into(), max.into(), (max - min).into()]);
            }
        }
        Ok(table)
    }

    /// First offset of a queue, and the one behind its last message.
    async fn bounds(&self, address: &str, topic: &str, queue: i32) -> Result<(i64, i64), String> {
        let position = async |code: i32| {
            let call = Call::new(code).with("topic", topic.to_owned()).with("queueId", queue);
            let answer = self.ask(address, &call).await?;
            let offset = answer.fields.get("offset").and_then(|text| text.parse::<i64>().ok());
            offset.ok_or_else(|| format!("{address}: does not say where queue {queue} is"))
        };
        Ok((position(request::GET_MIN_OFFSET).await?, position(request::GET_MAX_OFFSET).await?))
    }

    async fn create_topic(&self, topic: &str, queues: i32, perm: i32) -> Result<Table, String> {
        let header = CreateTopic {
            topic,
            default_topic: Some("TBW102"),
            read_queue_nums: queues,
            write_queue_nums: queues,
            perm,
            topic_filter_type: "SINGLE_TAG",
            topic_sys_flag: Some(0),
            order: false,
            attributes: None,
        };
        let mut call = Call::new(request::UPDATE_AND_CREATE_TOPIC);
        header.write(&mut call.fields);
        self.on_masters(&call, "created").await
    }

    async fn delete_topic(&self, topic: &str) -> Result<Table, String> {
        let call = Call::new(request::DELETE_TOPIC_IN_BROKER).with("topic", topic.to_owned());
        let mut table = self.on_masters(&call, "deleted").await?;
        let call = Call::new(request::DELETE_TOPIC_IN_NAMESRV).with("topic", topic.to_owned());
        self.ask(self.namesrv, &call).await?;
        table.row(vec!["name server".into(), self.namesrv.into(), "deleted".into()]);
        Ok(table)
    }

    async fn on_masters(&self, call: &Call, done: &str) -> Result<Table, String> {
        let mut table = Table::new(&["broker", "address", "result"]);
        for (name, address) in self.masters().await? {
            self.ask(&address, call).await?;
            table.row(vec![name.into(), address.into(), done.into()]);
        }
        Ok(table)
    }

    async fn groups(&self) -> Result<Table, String> {
        let mut table = Table::new(&["broker", "group", "consumes", "broadcast", "tries", "retry queues"]);
        let yes = |truth: bool| Cell::from(if truth { "yes" } else { "no" });
        for (name, address) in self.masters().await? {
            let call = Call::new(request::GET_ALL_SUBSCRIPTIONGROUP_CONFIG);
            let groups: SubscriptionGroupTable = self.body(&address, &call).await?;
            for (group, config) in groups.subscription_group_table {
                table.row(vec![
                    name.as_str().into(),
                    group.into(),
                    yes(config.consume_enable),
                    yes(config.consume_broadcast_enable),
                    config.retry_max_times.into(),
                    config.retry_queue_nums.into(),
                ]);
            }
        }
        Ok(table)
    }

    async fn lag(&self, group: &str) -> Result<Table, String> {
        let mut table = Table::new(&["topic", "broker", "queue", "end", "position", "behind"]);
        let mut reasons = Vec::new();
        for (_, address) in self.masters().await? {
            let mut call = Call::new(request::GET_CONSUME_STATS);
            GetConsumeStats { consumer_group: Some(group), topic: None, topic_list: None }.write(&mut call.fields);
            // A group may be on some brokers only.
            let stats: ConsumeStats = match self.body(&address, &call).await {
                Ok(stats) => stats,
                Err(reason) => {
                    reasons.push(reason);
                    continue;
                }
            };
            for (queue, offsets) in stats.offset_table {
                table.row(vec![
                    queue.topic.into(),
                    queue.broker_name.into(),
                    queue.queue_id.into(),
                    offsets.broker_offset.into(),
                    offsets.consumer_offset.into(),
                    (offsets.broker_offset - offsets.consumer_offset).into(),
                ]);
            }
        }
        match table.is_empty() && !reasons.is_empty() {
            true => Err(reasons.join("\n")),
            false => Ok(table),
        }
    }

    async fn reset(&self, group: &str, topic: &str, to: &str) -> Result<Table, String> {
        let timestamp = match to {
            "first" => 0,
            "last" => -1,
            millis => millis.parse().map_err(|_| format!("--to {to}: first, last, or milliseconds since 1970"))?,
        };
        let mut table = Table::new(&["topic", "broker", "queue", "position"]);
        for (broker, address) in self.masters_of(topic).await? {
            let mut call = Call::new(request::INVOKE_BROKER_TO_RESET_OFFSET);
            let header = ResetOffset { topic, group, timestamp, is_force: true, queue_id: None, offset: None };
            header.write(&mut call.fields);
            let answer = ask(self.env, &address, &call).await?;
            let reset = match answer.code {
                response::SUCCESS => {
                    ResetOffsets::decode(&answer.body).map_err(|error| format!("{address}: {error}"))?
                }
                // Nobody to be told, or a group without offsets: they are stored from here.
                code if code == response::CONSUMER_NOT_ONLINE || says_no_group(answer.remark.as_deref()) => {
                    self.reset_offline(&broker, &address, (group, topic), timestamp).await?
                }
                code => {
                    let name = response::name(code).unwrap_or("unknown code");
                    return Err(format!("{address}: {code} {name}: {}", answer.remark.unwrap_or_default()));
                }
            };
            for (queue, offset) in reset.offset_table {
                table.row(vec![queue.topic.into(), queue.broker_name.into(), queue.queue_id.into(), offset.into()]);
            }
        }
        Ok(table)
    }

    async fn reset_offline(
        &self,
        broker: &str,
        address: &str,
        (group, topic): (&str, &str),
        timestamp: i64,
    ) -> Result<ResetOffsets, String> {
        let route = self.route(topic).await?;
        let queues = route.queue_datas.iter().find(|queues| queues.broker_name == broker);
        let mut reset = ResetOffsets::default();
        for queue_id in 0..queues.map_or(0, |queues| queues.read_queue_nums) {
            let code = if timestamp < 0 { request::GET_MAX_OFFSET } else { request::SEARCH_OFFSET_BY_TIMESTAMP };
            let of_queue = |code| Call::new(code).with("topic", topic.to_owned()).with("queueId", queue_id);
            let found = self.ask(address, &of_queue(code).with("timestamp", timestamp)).await?;
            let offset = found.fields.get("offset").and_then(|text| text.parse::<i64>().ok());
            let offset = offset.ok_or_else(|| format!("{address}: no offset in its answer to {code}"))?;
            let commit = of_queue(request::UPDATE_CONSUMER_OFFSET)
                .with("consumerGroup", group.to_owned())
                .with("commitOffset", offset);
            self.ask(address, &commit).await?;
            let queue = MessageQueue { broker_name: broker.to_owned(), queue_id, topic: topic.to_owned() };
            reset.offset_table.insert(queue, offset);
        }
        Ok(reset)
    }

    async fn browse(&self, topic: &str, only: Option<i32>, count: i64) -> Result<Table, String> {
        let mut table = Table::new(&["broker", "queue", "offset", "stored (ms)", "tags", "keys", "bytes", "body"]);
        let route = self.route(topic).await?;
        for queues in &route.queue_datas {
            let data = route.broker_datas.iter().find(|data| data.broker_name == queues.broker_name);
            let Some(address) = data.and_then(|data| data.broker_addrs.get(&0)) else { continue };
            for queue in (0..queues.read_queue_nums).filter(|queue| only.is_none_or(|only| only == *queue)) {
                self.browse_queue(&mut table, &queues.broker_name, address, topic, queue, count).await?;
            }
        }
        Ok(table)
    }

    async fn browse_queue(
        &self,
        table: &mut Table,
        broker: &str,
        address: &str,
        topic: &str,
        queue: i32,
        count: i64,
    ) -> Result<(), String> {
        let (min, max) = self.bounds(address, topic, queue).await?;
        let mut offset = min.max(max - count);
        while offset < max {
            let mut call = Call::new(request::PULL_MESSAGE);
            let header = PullMessage {
                consumer_group: "keelmq_admin",
                topic,
                queue_id: queue,
                queue_offset: offset,
                max_message_nums: 32,
                // The subscription is in the request.
                sys_flag: 4,
                commit_offset: Some(0),
                suspend_timeout_millis: Some(0),
                subscription: Some("*"),
                sub_version: Some(0),
                expression_type: Some("TAG"),
                max_message_bytes: None,
            };
            header.write(&mut call.fields);
            let answer = ask(self.env, address, &call).await?;
            let next = answer.fields.get("nextBeginOffset").and_then(|text| text.parse::<i64>().ok());
            let mut bytes = &answer.body[..];
            while let Scan::Record(record) = scan(bytes, false) {
                let message = record.message;
                let property = |name: &str| properties::get(message.properties, name).map_or(Cell::None, Cell::from);
                table.row(vec![
                    broker.into(),
                    queue.into(),
                    (record.queue_offset.0 as i64).into(),
                    record.store_timestamp.into(),
                    property(properties::name::TAGS),
                    property(properties::name::KEYS),
                    (message.body.len() as i64).into(),
                    preview(message.body).into(),
                ]);
                bytes = &bytes[record.size as usize..];
            }
            match next {
                Some(next) if next > offset => offset = next,
                _ => break,
            }
        }
        Ok(())
    }

    async fn send(&self, topic: &str, body: &str, tag: Option<&str>, key: Option<&str>) -> Result<Table, String> {
        let masters = match self.masters_of(topic).await {
            Ok(masters) => masters,
            // It may be created by the send.
            Err(_) => self.masters().await?,
        };
        let (broker, address) = masters.first().ok_or_else(|| format!("no broker has {topic}"))?;
        let mut properties = properties::Properties::default();
        let unique = format!("7F000001{:08X}{:016X}", self.env.host.pid, self.env.entropy.next_u64());
        properties.set(properties::name::UNIQUE_KEY, unique);
        properties.set(properties::name::WAIT, "true");
        for (name, value) in [(properties::name::TAGS, tag), (properties::name::KEYS, key)] {
            if let Some(value) = value {
                properties.set(name, value);
            }
        }
        let properties = properties.render();
        let header = SendMessage {
            producer_group: "keelmq_admin",
            topic,
            default_topic: "TBW102",
            default_topic_queue_nums: 8,
            queue_id: -1,
            sys_flag: 0,
            born_timestamp: self.env.clock.wall_ms(),
            flag: 0,
            properties: Some(&properties),
            reconsume_times: Some(0),
            unit_mode: false,
            batch: false,
            max_reconsume_times: None,
            broker_name: None,
        };
        let mut call = Call::new(request::SEND_MESSAGE);
        header.write_v1(&mut call.fields);
        let answer = self.ask(address, &call.with_body(body.as_bytes().to_vec())).await?;
        let field = |name: &str| answer.fields.get(name).map_or(Cell::None, Cell::from);
        let mut table = Table::new(&["broker", "queue", "offset", "message id"]);
        table.row(vec![broker.as_str().into(), field("queueId"), field("queueOffset"), field("msgId")]);
        Ok(table)
    }
}

/// Topics that every RocketMQ cluster has for itself: those named like its clusters and brokers, and some more.
fn system_names(info: &ClusterInfo) -> Vec<String> {
    let fixed = ["TBW102", "BenchmarkTest", "SELF_TEST_TOPIC", "OFFSET_MOVED_EVENT", "SCHEDULE_TOPIC_XXXX"];
    let replies = info.cluster_addr_table.keys().map(|cluster| format!("{cluster}_REPLY_TOPIC"));
    let named = info.cluster_addr_table.keys().chain(info.broker_addr_table.keys()).cloned();
    fixed.into_iter().map(str::to_owned).chain(named).chain(replies).collect()
}

/// 222's way of saying that the group has no offsets yet.
fn says_no_group(remark: Option<&str>) -> bool {
    remark.is_some_and(|remark| remark.starts_with("THe consumer group"))
}

/// The beginning of a body, one line.
fn preview(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(240)]);
    let short: String = text.chars().map(|c| if c.is_control() { '\u{b7}' } else { c }).take(60).collect();
    short
}

//! The broker's figures of this moment under RocketMQ 5's names and labels, and a few of our own (`keelmq_`). Reads the
//! store where lag is measured in time: run it where blocking does no harm.

use std::collections::BTreeMap;

use super::series::{Family, Kind, Labels, Value};
use crate::{
    broker::{
        core::Core,
        stats::{self, Made},
        subscriptions, topics,
    },
    model::{QueueOffset, spread::Spread},
    protocol::{
        body::ConsumeType,
        code::{request, response},
    },
    remoting::latency::Outcome,
};

const DEAD_LETTERS: &str = "%DLQ%";
const RETRIES: &str = "%RETRY%";

/// RocketMQ's names of the lanes.
const PROCESSORS: [(&str, &str); 10] = [
    ("send", "send"),
    ("pull", "pull"),
    ("lite pull", "lite_pull"),
    ("query", "query_message"),
    ("client manage", "client_manager"),
    ("heartbeat", "heartbeat"),
    ("end transaction", "transaction"),
    ("consumer manage", "consumer_manager"),
    ("admin", "admin"),
    ("reply", "reply"),
];

/// Figures that the core does not have.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outside {
    pub connections: usize,
    pub connection_memory_bytes: usize,
}

pub fn families(core: &Core, outside: Outside) -> Vec<Family> {
    let mut all = state(core, outside);
    all.extend(store(core));
    all.extend(incoming(core));
    all.extend(outgoing(core));
    all.extend(clients(core));
    all.push(requests(core));
    all.extend(made(core));
    all.extend(lag(core));
    all
}

fn state(core: &Core, outside: Outside) -> Vec<Family> {
    let mut lanes = Family::new(
        "rocketmq_processor_watermark",
        Kind::Gauge,
        "Requests under way, by the processor that serves them",
    );
    let all = core.lanes();
    for (lane, processor) in PROCESSORS {
        let under_way: u32 = all.iter().filter(|known| known.name == lane).map(|lane| lane.in_flight()).sum();
        lanes.add(vec![("processor", processor.to_owned())], under_way);
    }
    let permission = i64::from(core.config().broker_permission);
    let up_s = (core.env.clock.monotonic() - core.started).as_secs();
    let is_ready = u32::from(super::not_ready(core).is_none());
    vec![
        lanes,
        Family::one("rocketmq_broker_permission", "4 read + 2 write", permission),
        Family::one("rocketmq_topic_number", "Topics", core.topics.len()),
        Family::one("rocketmq_consumer_group_number", "Consumer groups", core.groups.len()),
        Family::one(
            "rocketmq_half_messages",
            "Transactions neither committed nor rolled back",
            core.transactions.open_count(),
        ),
        Family::one("keelmq_ready", "1 while sends and pulls are served", is_ready),
        Family::one("keelmq_uptime_seconds", "Seconds since the start", up_s),
        Family::one("keelmq_connections", "Open connections of both ports", outside.connections),
        Family::one(
            "keelmq_connection_memory_bytes",
            "Partial frames and waiting answers of all connections",
            outside.connection_memory_bytes,
        ),
        Family::one("keelmq_held_pulls", "Pulls that wait for messages", core.hold.count()),
        Family::one(
            "keelmq_failed_puts",
            "Messages that the store refused since the start",
            core.stats.totals().put_failed,
        ),
    ]
}

fn store(core: &Core) -> Vec<Family> {
    let store = &core.store;
    let (begin, appended) = (store.log_begin().0, store.appended().0);
    let medium = || vec![("storage_type", "local".to_owned()), ("storage_medium", "disk".to_owned())];
    let on_disk = |name, help, value: Value| {
        let mut family = Family::new(name, Kind::Gauge, help);
        family.add(medium(), value);
        family
    };
    let earliest = crate::broker::processor::admin::earliest_stored(store).ok().flatten();
    let reserve_ms = earliest.map_or(0, |stored| (core.now_ms() - stored).max(0));
    let segments = store.segments().all();
    let mapped: u64 = segments.iter().map(|segment| segment.size).sum();
    let mut families = vec![
        on_disk("rocketmq_storage_size", "Bytes of the commit log", (appended - begin).into()),
        on_disk(
            "rocketmq_storage_flush_behind_bytes",
            "Bytes of the commit log that are not synced",
            appended.saturating_sub(store.flushed().get()).into(),
        ),
        on_disk(
            "rocketmq_storage_dispatch_behind_bytes",
            "Bytes of the commit log without their queue and index entries",
            appended.saturating_sub(store.dispatched().get()).into(),
        ),
        on_disk(
            "rocketmq_storage_message_reserve_time",
            "Milliseconds since the oldest message was stored",
            reserve_ms.into(),
        ),
        Family::one("keelmq_mapped_files", "Segments of the commit log that are open and mapped", segments.len()),
        Family::one("keelmq_mapped_bytes", "Their bytes", mapped),
    ];
    let spaces = [("commitlog", store.segments().directory().to_owned()), ("consumequeue", store.queue_root())];
    let mut free = Family::new("keelmq_disk_free_bytes", Kind::Gauge, "Free bytes of the file system");
    let mut total = Family::new("keelmq_disk_total_bytes", Kind::Gauge, "Used and free bytes of the file system");
    for (of, path) in spaces {
        if let Ok(space) = store.storage().space(&path) {
            free.add(vec![("of", of.to_owned())], space.free_bytes);
            total.add(vec![("of", of.to_owned())], space.total_bytes);
        }
    }
    families.extend([free, total]);
    families
}

fn truth(label: &'static str, value: bool) -> (&'static str, String) {
    (label, value.to_string())
}

fn incoming(core: &Core) -> Vec<Family> {
    let mut messages = Family::new("rocketmq_messages_in", Kind::Counter, "Messages that came into a topic");
    let mut bytes = Family::new("rocketmq_throughput_in", Kind::Counter, "Bytes of their records");
    let mut sizes = Family::new("rocketmq_message_size", Kind::Histogram, "Bytes of a record");
    let mut dead = Family::new("rocketmq_send_to_dlq_messages", Kind::Counter, "Messages given up by a group");
    let mut commits = Family::new("rocketmq_commit_messages", Kind::Counter, "Committed transactional messages");
    let mut rollbacks = Family::new("rocketmq_rollback_messages", Kind::Counter, "Half messages rolled back");
    let mut finished =
        Family::new("rocketmq_finish_message_latency", Kind::Histogram, "Seconds from a half message to its commit");
    for stats::CameIn { topic, kinds, rolled_back, finished: took } in core.stats.incoming() {
        let is_system = topics::is_system(&topic);
        let mut in_all = 0;
        for (kind, found) in kinds {
            let labels: Labels =
                vec![("topic", topic.clone()), ("message_type", kind.name().to_owned()), truth("is_system", is_system)];
            in_all += found.messages();
            messages.add(labels.clone(), found.messages());
            bytes.add(labels.clone(), found.bytes);
            sizes.add(labels, Spread::of(&stats::SIZES, &found.counts, found.bytes as f64));
            if kind == stats::Kind::Transaction && !is_system {
                commits.add(vec![("topic", topic.clone())], found.messages());
            }
        }
        if let Some(group) = topic.strip_prefix(DEAD_LETTERS) {
            let group = group.to_owned();
            dead.add(vec![("consumer_group", group), ("topic", topic.clone()), truth("is_system", false)], in_all);
        }
        if !took.is_empty() {
            finished.add(vec![("topic", topic.clone())], took);
        }
        if rolled_back > 0 {
            rollbacks.add(vec![("topic", topic)], rolled_back);
        }
    }
    vec![messages, bytes, sizes, dead, commits, rollbacks, finished]
}

fn of_group(topic: &str, group: &str) -> Labels {
    let is_system = topics::is_system(topic) || subscriptions::is_system(group);
    vec![
        ("consumer_group", group.to_owned()),
        ("topic", topic.to_owned()),
        truth("is_retry", topic.starts_with(RETRIES)),
        truth("is_system", is_system),
    ]
}

fn outgoing(core: &Core) -> Vec<Family> {
    let mut messages = Family::new("rocketmq_messages_out", Kind::Counter, "Messages that a group took of a topic");
    let mut bytes = Family::new("rocketmq_throughput_out", Kind::Counter, "Bytes of their records");
    for (topic, group, count, size) in core.stats.outgoing() {
        let labels = of_group(&topic, &group);
        messages.add(labels.clone(), count);
        bytes.add(labels, size);
    }
    vec![messages, bytes]
}

/// How long requests took. RocketMQ names codes as its constants are named.
fn requests(core: &Core) -> Family {
    let mut took = Family::new("rocketmq_rpc_latency", Kind::Histogram, "Milliseconds from a request to its answer");
    let named = |name: Option<&str>, code: i32| name.map_or_else(|| code.to_string(), str::to_owned);
    for (asked, spread) in core.latencies.all() {
        let result = match asked.outcome {
            Outcome::Answered => "success",
            Outcome::Oneway => "oneway",
            Outcome::BrokeOff => "process_request_failed",
            Outcome::Unwritten => "write_channel_failed",
        };
        let labels = vec![
            ("protocol_type", "remoting".to_owned()),
            ("request_code", named(request::name(asked.code), asked.code)),
            ("response_code", named(response::name(asked.response), asked.response)),
            truth("is_long_polling", asked.was_held),
            ("result", result.to_owned()),
        ];
        took.add(labels, spread);
    }
    took
}

/// How long it took to make what tools asked for.
fn made(core: &Core) -> [Family; 2] {
    let family = |name, help| Family::new(name, Kind::Histogram, help);
    let mut topics = family("rocketmq_topic_create_execution_time", "Milliseconds to make or change a topic");
    let mut groups = family("rocketmq_consumer_group_create_execution_time", "Milliseconds to make or change a group");
    for (making, took) in core.stats.all_made() {
        let status = if making.is_done { "success" } else { "failure" };
        let labels = vec![("invocation_status", status.to_owned()), truth("is_system", making.is_system)];
        match making.what {
            Made::Topic => topics.add(labels, took),
            Made::Group => groups.add(labels, took),
        }
    }
    [topics, groups]
}

fn clients(core: &Core) -> Vec<Family> {
    let about = |language: &str, version: i32| -> Labels {
        vec![
            ("language", language.to_lowercase()),
            ("version", version_name(version)),
            ("protocol_type", "remoting".to_owned()),
        ]
    };
    let count = |name, help, all: BTreeMap<Labels, usize>| {
        let mut family = Family::new(name, Kind::Gauge, help);
        all.into_iter().for_each(|(labels, count)| family.add(labels, count));
        family
    };
    let mut producers = BTreeMap::new();
    for client in core.clients.all_producers().into_values().flatten() {
        *producers.entry(about(client.language.name(), client.version)).or_default() += 1;
    }
    let mut consumers = BTreeMap::new();
    for name in core.clients.consumer_groups() {
        let Some(group) = core.clients.consumer_group(&name) else { continue };
        let mode = match group.consume_type {
            ConsumeType::Actively => "pull",
            ConsumeType::Passively => "push",
            ConsumeType::Pop => "pop",
        };
        for client in group.clients.values() {
            let mut labels = about(client.language.name(), client.version);
            labels.extend([
                ("consumer_group", name.clone()),
                ("consume_mode", mode.to_owned()),
                truth("is_system", subscriptions::is_system(&name)),
            ]);
            *consumers.entry(labels).or_default() += 1;
        }
    }
    vec![
        count("rocketmq_producer_connections", "Producers that are connected", producers),
        count("rocketmq_consumer_connections", "Consumers that are connected", consumers),
    ]
}

/// RocketMQ's name of a version, of which two (a snapshot and a release) stand for each patch since 4.0.0.
fn version_name(version: i32) -> String {
    const V4_0_0_SNAPSHOT: i32 = 212;
    let since = version - V4_0_0_SNAPSHOT;
    if !(0..600).contains(&since) {
        return version.to_string();
    }
    let snapshot = if since % 2 == 0 { "_snapshot" } else { "" };
    format!("v{}_{}_{}{snapshot}", 4 + since / 200, since / 20 % 10, since / 2 % 10)
}

/// Of every group in every topic for which it has offsets.
fn lag(core: &Core) -> Vec<Family> {
    let gauge = |name, help| Family::new(name, Kind::Gauge, help);
    let mut behind = gauge("rocketmq_consumer_lag_messages", "Messages that the group has not consumed");
    let mut latency = gauge("rocketmq_consumer_lag_latency", "Age in milliseconds of the oldest message not consumed");
    let mut in_flight = gauge("rocketmq_consumer_inflight_messages", "Messages pulled but not committed");
    let mut ready = gauge("rocketmq_consumer_ready_messages", "Messages that were not pulled");
    let mut queueing =
        gauge("rocketmq_consumer_queueing_latency", "Age in milliseconds of the oldest message not pulled");
    let samples_max = core.config().metrics_cardinality_max as usize;
    let now_ms = core.now_ms();
    for (key, offsets) in core.offsets.snapshot().offset_table.into_iter().take(samples_max) {
        let Some((topic, group)) = key.split_once('@') else { continue };
        if core.topics.find(topic).is_none() {
            continue;
        }
        let pulled = core.stats.pulled(topic, group);
        let (mut lag, mut flying, mut waiting, mut age, mut wait) = (0, 0, 0, 0, 0);
        for (queue, committed) in offsets {
            let Ok(queue) = u32::try_from(queue) else { continue };
            let (min, max) =
                (core.store.min_offset(topic, queue).0 as i64, core.store.max_offset(topic, queue).0 as i64);
            let committed = committed.clamp(min, max.max(min));
            let stands = pulled.get(&queue).copied().unwrap_or(committed).clamp(committed, max.max(committed));
            lag += max.saturating_sub(committed).max(0);
            flying += stands - committed;
            waiting += max.saturating_sub(stands).max(0);
            let age_of = |offset: i64| match offset < max {
                true => {
                    let stored = core.store.store_timestamp(topic, queue, QueueOffset(offset as u64)).ok().flatten();
                    stored.map_or(0, |stored| (now_ms - stored).max(0))
                }
                false => 0,
            };
            age = age_of(committed).max(age);
            wait = age_of(stands).max(wait);
        }
        let labels = of_group(topic, group);
        behind.add(labels.clone(), lag);
        latency.add(labels.clone(), age);
        in_flight.add(labels.clone(), flying);
        ready.add(labels.clone(), waiting);
        queueing.add(labels, wait);
    }
    vec![behind, latency, in_flight, ready, queueing]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_names() {
        let check = |version: i32, expect: &str| assert_eq!(version_name(version), expect);
        check(407, "v4_9_7");
        check(401, "v4_9_4");
        check(413, "v5_0_0");
        check(333, "v4_6_0");
        check(412, "v5_0_0_snapshot");
        check(121, "121");
        check(-1, "-1");
    }
}

//! Groups: whether all members want the same, and how far they are behind.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    broker::Facts,
    findings::{Findings, Level},
};
use crate::{
    cli::cluster::Cluster,
    protocol::{
        body::{ConsumeStatsList, ConsumerConnection, RunningSubscriptions, SubscriptionData, SubscriptionGroupTable},
        code::request,
        command::Call,
    },
};

/// A group further behind, or for longer, is named.
const BEHIND_MAX: i64 = 10_000;
const BEHIND_MAX_MS: i64 = 10 * 60_000;
/// Groups and members looked at, and groups named.
const GROUPS_MAX: usize = 1_000;
const MEMBERS_MAX: usize = 32;
const NAMED_MAX: usize = 10;

pub async fn examine(cluster: &Cluster<'_>, facts: &Facts, findings: &mut Findings) {
    let groups = cluster.body(&facts.address, &Call::new(request::GET_ALL_SUBSCRIPTIONGROUP_CONFIG)).await;
    let groups: SubscriptionGroupTable = match groups {
        Ok(groups) => groups,
        Err(reason) => {
            return findings.say(Level::Note, facts.about(), format!("its groups cannot be listed: {reason}"), "");
        }
    };
    let mut disagreeing = 0;
    for group in groups.subscription_group_table.keys().take(GROUPS_MAX) {
        if let Some(text) = subscriptions(cluster, &facts.address, group).await {
            disagreeing += 1;
            let advice = "let all members of a group subscribe to the same topics with the same expressions, or give those \
                          that differ a group of their own: messages go to members that do not want them, and are skipped";
            findings.say(Level::Wrong, format!("group {group}"), text, advice);
        }
    }
    if disagreeing == 0 {
        findings.good(facts.about(), "the members of each group subscribe to the same");
    }
    lag(cluster, facts, findings).await;
}

/// What the members say themselves (307); a sentence if they differ.
async fn subscriptions(cluster: &Cluster<'_>, address: &str, group: &str) -> Option<String> {
    let call = Call::new(request::GET_CONSUMER_CONNECTION_LIST).with("consumerGroup", group.to_owned());
    let members: ConsumerConnection = cluster.body(address, &call).await.ok()?;
    if members.connection_set.len() < 2 {
        return None;
    }
    let mut wanted: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for member in members.connection_set.iter().take(MEMBERS_MAX) {
        let call = Call::new(request::GET_CONSUMER_RUNNING_INFO)
            .with("consumerGroup", group.to_owned())
            .with("clientId", member.client_id.clone())
            .with("jstackEnable", false);
        let Ok(said) = cluster.body::<RunningSubscriptions>(address, &call).await else { continue };
        let wants = SubscriptionData::describe(&said.subscription_set);
        wanted.entry(wants).or_default().push(member.client_id.clone());
    }
    differ(&wanted)
}

/// By what is wanted: who wants it.
fn differ(wanted: &BTreeMap<String, Vec<String>>) -> Option<String> {
    if wanted.len() < 2 {
        return None;
    }
    let each: Vec<String> = wanted.iter().map(|(what, who)| format!("{} wants {what}", who.join(", "))).collect();
    Some(format!("its members subscribe to different things: {}", each.join("; ")))
}

async fn lag(cluster: &Cluster<'_>, facts: &Facts, findings: &mut Findings) {
    let call = Call::new(request::GET_BROKER_CONSUME_STATS).with("isOrder", false);
    let stats: ConsumeStatsList = match cluster.body(&facts.address, &call).await {
        Ok(stats) => stats,
        Err(reason) => {
            return findings.say(Level::Note, facts.about(), format!("its groups' lag is not known: {reason}"), "");
        }
    };
    let now_ms = cluster.env.clock.wall_ms();
    // By group and topic: messages, and how long ago the last one was consumed.
    let mut behind: Vec<(i64, i64, String, String)> = Vec::new();
    for (group, stats) in stats.consume_stats_list.into_iter().flatten() {
        let mut topics: BTreeMap<String, (i64, i64)> = BTreeMap::new();
        for (queue, offsets) in stats.into_iter().flat_map(|stats| stats.offset_table) {
            let lag = offsets.broker_offset - offsets.consumer_offset;
            if lag > 0 {
                let (messages, since) = topics.entry(queue.topic).or_default();
                *messages += lag;
                // Zero: it never consumed any, or the message is gone.
                let last = if offsets.last_timestamp > 0 { now_ms - offsets.last_timestamp } else { 0 };
                *since = last.max(*since);
            }
        }
        behind.extend(topics.into_iter().map(|(topic, (messages, since))| (messages, since, group.clone(), topic)));
    }
    let groups: BTreeSet<&String> = behind.iter().map(|(_, _, group, _)| group).collect();
    let count = groups.len();
    behind.retain(|(messages, since, _, topic)| {
        !topic.starts_with('%') && (*messages > BEHIND_MAX || *since > BEHIND_MAX_MS)
    });
    behind.sort_unstable_by(|a, b| b.cmp(a));
    if behind.is_empty() {
        let text = match count {
            0 => "no group is behind".to_owned(),
            count => format!("{count} groups are behind, none by more than {BEHIND_MAX} messages or 10 minutes"),
        };
        return findings.good(facts.about(), text);
    }
    for (messages, since, group, topic) in behind.iter().take(NAMED_MAX) {
        let since = if *since > 0 {
            format!(", its last one consumed was stored {} s ago", since / 1_000)
        } else {
            String::new()
        };
        findings.say(
            Level::Warning,
            format!("group {group}"),
            format!("is {messages} messages behind in {topic} on broker {}{since}", facts.name),
            format!("start consumers, make them faster, or skip with `keelmq admin reset {group} {topic} --to last`"),
        );
    }
    if behind.len() > NAMED_MAX {
        let text = format!("{} more groups and topics are as far behind", behind.len() - NAMED_MAX);
        findings.say(Level::Warning, facts.about(), text, "`keelmq admin lag GROUP` shows one");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_that_differ_are_named() {
        let mut wanted = BTreeMap::from([("orders(*)".to_owned(), vec!["a".to_owned(), "b".to_owned()])]);
        assert_eq!(differ(&wanted), None);
        wanted.insert("orders(TagA)".to_owned(), vec!["c".to_owned()]);
        let text = differ(&wanted).unwrap();
        assert!(text.ends_with("a, b wants orders(*); c wants orders(TagA)"), "{text}");
    }
}

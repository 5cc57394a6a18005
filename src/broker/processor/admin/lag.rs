//! How far groups are behind: by group (208), of all groups (317), in time (303).

use std::collections::BTreeMap;

use crate::{
    protocol::{
        body::{ConsumeOffsets, ConsumeStats, ConsumeStatsList, ConsumeTimeSpans, QueueTimeSpan},
        command::Response,
        header::{GetBrokerConsumeStats, GetConsumeStats, GroupAndTopic},
    },
    remoting::Request,
};

use super::{Admin, Refused, filled, success, topic_unknown};

impl Admin {
    pub(super) fn consume_stats(&self, asked: &Request<'_>) -> Result<Response, Refused> {
        let header = GetConsumeStats::decode(&asked.command.fields)?;
        // Of no group the topic's figures are told all the same.
        let group = header.consumer_group.unwrap_or("null");
        let topics = match (filled(header.topic), filled(header.topic_list)) {
            (Some(topic), _) => vec![topic.to_owned()],
            (None, Some(list)) => list.split(';').filter(|topic| !topic.is_empty()).map(str::to_owned).collect(),
            (None, None) if header.consumer_group.is_none() => {
                return Err(Refused::system("the request's header lacks the field consumerGroup"));
            }
            (None, None) => self.0.offsets.topics_of(group),
        };
        let mut stats = ConsumeStats::default();
        for topic in topics {
            let Some(known) = self.0.topics.find(&topic) else { continue };
            if self.has_left(group, &topic) {
                continue;
            }
            stats.offset_table.extend(self.lag(group, &topic, known.config.read_queue_nums)?);
            stats.consume_tps += self.0.stats.consume_tps(&topic, group);
        }
        Ok(success(&stats))
    }

    pub(super) fn broker_consume_stats(&self, asked: &Request<'_>) -> Result<Response, Refused> {
        let header = GetBrokerConsumeStats::decode(&asked.command.fields)?;
        let mut list = ConsumeStatsList {
            broker_addr: self.0.registration.advertised().to_owned(),
            ..ConsumeStatsList::default()
        };
        for group in self.0.groups.snapshot().subscription_group_table.into_keys() {
            let mut of_group = Vec::new();
            for topic in self.0.offsets.topics_of(&group) {
                let Some(known) = self.0.topics.find(&topic) else { continue };
                if (header.is_order && !known.config.order) || self.has_left(&group, &topic) {
                    continue;
                }
                let offset_table = self.lag(&group, &topic, known.config.write_queue_nums)?;
                let behind = |offsets: &ConsumeOffsets| offsets.broker_offset - offsets.consumer_offset;
                let in_flight = |offsets: &ConsumeOffsets| offsets.pull_offset.unwrap_or(0) - offsets.consumer_offset;
                list.total_diff += offset_table.values().map(behind).sum::<i64>();
                *list.total_inflight_diff.get_or_insert(0) += offset_table.values().map(in_flight).sum::<i64>();
                let consume_tps = self.0.stats.consume_tps(&topic, &group);
                of_group.push(ConsumeStats { consume_tps, offset_table });
            }
            list.consume_stats_list.push(BTreeMap::from([(group, of_group)]));
        }
        Ok(success(&list))
    }

    /// The group is online but does not want the topic any more.
    pub(super) fn has_left(&self, group: &str, topic: &str) -> bool {
        let online = self.0.clients.consumer_group(group);
        online.is_some_and(|online| !online.subscriptions.is_empty() && !online.subscriptions.contains_key(topic))
    }

    fn lag(
        &self,
        group: &str,
        topic: &str,
        queues: i32,
    ) -> Result<BTreeMap<crate::protocol::body::MessageQueue, ConsumeOffsets>, Refused> {
        let (stored, pulled) = (self.0.offsets.of(topic, group), self.0.stats.pulled(topic, group));
        let mut table = BTreeMap::new();
        for queue in 0..queues {
            let consumer_offset = stored.get(&queue).copied().unwrap_or(0).max(0);
            let last_timestamp = self.stored_at(topic, queue, consumer_offset - 1)?.unwrap_or(0);
            let broker_offset = self.max_of(topic, queue);
            let stands = pulled.get(&(queue as u32)).copied().unwrap_or(0);
            // Who has pulled nothing since the start has nothing in flight.
            let pull_offset = Some(stands.max(consumer_offset));
            let offsets = ConsumeOffsets { broker_offset, consumer_offset, last_timestamp, pull_offset };
            table.insert(self.queue_of(topic, queue), offsets);
        }
        Ok(table)
    }

    pub(super) fn time_spans(&self, asked: &Request<'_>) -> Result<Response, Refused> {
        let header = GroupAndTopic::decode(&asked.command.fields)?;
        let topic = header.topic.unwrap_or_default();
        let known = self.0.topics.find(topic).ok_or_else(|| topic_unknown(topic))?;
        let mut spans = ConsumeTimeSpans::default();
        for queue in 0..known.config.write_queue_nums {
            // Java says -1 where there is no message.
            let stored_at = |offset: i64| Ok::<i64, Refused>(self.stored_at(topic, queue, offset)?.unwrap_or(-1));
            let max = self.max_of(topic, queue);
            let min_timestamp = stored_at(self.min_of(topic, queue))?;
            let consumed = self.0.offsets.query(topic, header.group, queue).unwrap_or(-1);
            let consume_timestamp = if consumed > 0 { stored_at(consumed - 1)? } else { min_timestamp };
            let delay_time = match self.stored_at(topic, queue, consumed.max(0))? {
                Some(next) if consumed < max => self.0.now_ms() - next,
                _ => 0,
            };
            spans.consume_time_span_set.push(QueueTimeSpan {
                consume_timestamp,
                delay_time,
                max_timestamp: stored_at(max - 1)?,
                message_queue: self.queue_of(topic, queue),
                min_timestamp,
            });
        }
        Ok(success(&spans))
    }
}

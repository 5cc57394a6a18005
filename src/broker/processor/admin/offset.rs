//! Positions as tools look at and change them: corrections (308), copies between groups (314), the consume queue itself
//! (321), the progress of delayed messages (45); and what is no longer needed is let go (306, 316, 329).

use std::collections::BTreeMap;

use crate::{
    broker::topics,
    model::QueueOffset,
    protocol::{
        body::{ConsumeQueueEntries, ConsumeQueueEntry, CorrectionOffsets, DelayOffsetTable},
        command::Response,
        header::{CloneGroupOffset, QueryConsumeQueue, QueryCorrectionOffset},
    },
    remoting::{Answer, Request},
};

use super::{Admin, Refused, filled, success, unreadable};

/// Entries of one answer to 321.
const ENTRIES_MAX: u64 = 1_024;

impl Admin {
    /// The least offset of all groups by queue; `i64::MAX` where the compared group stands before it.
    pub(super) fn correction_offsets(&self, asked: &Request<'_>) -> Result<Response, Refused> {
        let header = QueryCorrectionOffset::decode(&asked.command.fields)?;
        let offsets = &self.0.offsets;
        let left_out: Vec<&str> = header.filter_groups.unwrap_or_default().split(',').collect();
        let mut least: BTreeMap<i32, i64> = BTreeMap::new();
        for group in offsets.groups_of(header.topic) {
            if left_out.contains(&group.as_str()) {
                continue;
            }
            for (queue, offset) in offsets.of(header.topic, &group) {
                if offset >= self.min_of(header.topic, queue) {
                    let known = least.entry(queue).or_insert(offset);
                    *known = offset.min(*known);
                }
            }
        }
        for (queue, offset) in offsets.of(header.topic, header.compare_group) {
            if let Some(known) = least.get_mut(&queue).filter(|known| **known > offset) {
                *known = i64::MAX;
            }
        }
        Ok(success(&CorrectionOffsets { correction_offsets: least }))
    }

    /// Without a topic nothing is copied, as in 4.9.7.
    pub(super) fn clone_offsets(&self, asked: &Request<'_>) -> Result<Response, Refused> {
        let header = CloneGroupOffset::decode(&asked.command.fields)?;
        let core = &self.0;
        let Some(topic) = filled(header.topic) else { return Ok(Response::success()) };
        let is_known = core.topics.find(topic).is_some();
        if is_known && (header.offline || !self.has_left(header.source_group, topic)) {
            for (queue, offset) in core.offsets.of(topic, header.source_group) {
                core.offsets.commit(topic, header.destination_group, queue, offset).map_err(Refused::system)?;
            }
        }
        Ok(Response::success())
    }

    pub(super) fn consume_queue(&self, asked: &Request<'_>) -> Result<Response, Refused> {
        let header = QueryConsumeQueue::decode(&asked.command.fields)?;
        let (topic, queue_id) = (header.topic, header.queue_id.unwrap_or(0));
        let index = header.index.unwrap_or(0);
        let missing = format!("Index {index} of {queue_id}@{topic} is not exist!");
        let known = u32::try_from(queue_id).ok().and_then(|queue| self.0.store.queues().find(topic, queue));
        let Some(queue) = known else {
            return Err(Refused::system(format!("{queue_id}@{topic} is not exist!")));
        };
        let mut entries = ConsumeQueueEntries {
            filter_data: None,
            max_queue_index: queue.max().0 as i64,
            min_queue_index: queue.min().0 as i64,
            queue_data: Vec::new(),
            subscription_data: None,
        };
        let mut filter = None;
        if let Some(group) = header.consumer_group {
            let subscription = self.0.clients.subscription(group, topic).and_then(|(_, subscription)| subscription);
            match subscription {
                Some(subscription) => {
                    filter = subscription.filter.ok();
                    entries.filter_data = Some("null".to_owned());
                    entries.subscription_data = Some(subscription.data);
                }
                None => entries.filter_data = Some(format!("{group}@{topic} is not online!")),
            }
        }
        let from = u64::try_from(index).ok().map(QueueOffset).filter(|at| (queue.min()..queue.max()).contains(at));
        let Some(from) = from else {
            let mut response = success(&entries);
            response.remark = Some(missing.into());
            return Ok(response);
        };
        let count = header.count.unwrap_or(0).max(0) as u64;
        for unit in queue.units(from, count.min(ENTRIES_MAX)).map_err(unreadable)? {
            entries.queue_data.push(ConsumeQueueEntry {
                bit_map: None,
                // Without a filter to ask Java says false.
                eval: filter.as_ref().is_some_and(|filter| filter.may_match_tags_code(unit.tags_code)),
                extend_data_json: None,
                message: None,
                physic_offset: unit.offset.0 as i64,
                physic_size: unit.size as i32,
                tags_code: unit.tags_code,
            });
        }
        Ok(success(&entries))
    }

    pub(super) fn delay_offsets(&self) -> Response {
        success(&DelayOffsetTable { data_version: None, offset_table: self.0.delay.offsets() })
    }

    pub(super) fn clean_queues(&self) -> Result<Response, Refused> {
        self.0.store.clean_expired_queues().map_err(unreadable)?;
        Ok(Response::success())
    }

    pub(super) fn delete_expired(&self) -> Response {
        self.0.store.delete_expired();
        Response::success()
    }

    pub(super) fn clean_unused_topics(&self) -> Answer {
        let core = self.0.clone();
        Answer::Later(Box::pin(async move {
            // Half and op messages are in topics that no table lists.
            let is_used = |topic: &str| topics::is_system(topic) || core.topics.find(topic).is_some();
            let removed = match core.store.remove_unused_topics(is_used).await {
                Ok(removed) => removed,
                Err(error) => return Some(unreadable(error).into_response()),
            };
            if !removed.is_empty() {
                tracing::info!("a tool had the queues of topics removed that are no more: {removed:?}");
            }
            Some(Response::success())
        }))
    }
}

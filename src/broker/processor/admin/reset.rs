//! Puts a group to a point in time (222): its consumers are told to go there (4.9.7's way), or its next pulls are, so that
//! nobody needs to be online (5.x's way, useServerSideResetOffset).

use crate::{
    model::QueueOffset,
    protocol::{
        body::{Body, ResetOffsets},
        code::{request, response},
        command::{Call, Language, Response},
        header::ResetOffset,
    },
    remoting::Request,
};

use super::{
    Admin, Refused,
    client::{RESETS_SINCE, too_old},
    success, unreadable,
};

/// Instead of a time: the end of the queue.
const TO_THE_END: i64 = -1;

impl Admin {
    pub(super) fn reset_offset(&self, asked: &Request<'_>) -> Result<Response, Refused> {
        let header = ResetOffset::decode(&asked.command.fields)?;
        match self.0.config().use_server_side_reset_offset {
            true => self.reset_stored(&header),
            false => self.reset_clients(asked, &header),
        }
    }

    /// Holds at once and survives a restart; a pull under way hears of it, what the consumers had before is not committed.
    fn reset_stored(&self, header: &ResetOffset<'_>) -> Result<Response, Refused> {
        let core = &self.0;
        let ResetOffset { topic, group, timestamp, .. } = *header;
        let Some(known) = core.topics.find(topic) else {
            return Err(Refused::new(response::TOPIC_NOT_EXIST, format!("Topic {topic} does not exist")));
        };
        if core.groups.find(group).is_none() {
            let remark = format!("Group {group} does not exist");
            return Err(Refused::new(response::SUBSCRIPTION_GROUP_NOT_EXIST, remark));
        }
        let queues = match header.queue_id.filter(|queue| *queue >= 0) {
            Some(queue) if queue >= known.config.read_queue_nums => {
                return Err(Refused::system(format!("Queue {queue} of topic {topic} does not exist")));
            }
            Some(queue) => queue..queue + 1,
            None => 0..known.config.read_queue_nums,
        };
        let mut resets = ResetOffsets::default();
        for queue in queues {
            // An offset is that of one queue.
            let offset = match header.offset.filter(|offset| *offset >= 0 && header.queue_id.is_some()) {
                None => self.offset_at(topic, queue, timestamp)?,
                Some(offset) => {
                    let (min, max) = (self.min_of(topic, queue), self.max_of(topic, queue));
                    if !(min..=max).contains(&offset) {
                        let remark = format!("Target offset {offset} not in consume queue range [{min}-{max}]");
                        return Err(Refused::system(remark));
                    }
                    offset
                }
            };
            resets.offset_table.insert(self.queue_of(topic, queue), offset);
        }
        for (queue, offset) in &resets.offset_table {
            core.offsets.reset(topic, group, queue.queue_id, *offset).map_err(Refused::system)?;
            core.hold.recheck(topic, queue.queue_id as u32, i64::MAX);
        }
        tracing::info!("a tool put group {group} of topic {topic} to {:?}", resets.offset_table.values());
        Ok(success(&resets))
    }

    /// The stored offsets stay until the consumers commit the new ones; who goes forward must say `isForce`.
    fn reset_clients(&self, asked: &Request<'_>, header: &ResetOffset<'_>) -> Result<Response, Refused> {
        let core = &self.0;
        let ResetOffset { topic, group, timestamp, .. } = *header;
        let Some(known) = core.topics.find(topic) else {
            let remark = format!("[reset-offset] reset offset failed, no topic in this broker. topic={topic}");
            return Err(Refused::system(remark));
        };
        let mut resets = ResetOffsets::default();
        for queue in 0..known.config.write_queue_nums {
            let Some(stored) = core.offsets.query(topic, group, queue) else {
                return Err(Refused::system(format!("THe consumer group <{group}> not exist")));
            };
            let wanted = self.offset_at(topic, queue, timestamp)?;
            let offset = if header.is_force { wanted } else { wanted.min(stored) };
            resets.offset_table.insert(self.queue_of(topic, queue), offset);
        }
        let clients = core.clients.consumer_channels(group);
        if clients.is_empty() {
            let remark = format!(
                "Consumer not online, so can not reset offset, Group: {group} Topic: {topic} Timestamp: {timestamp}"
            );
            return Err(Refused::new(response::CONSUMER_NOT_ONLINE, remark));
        }
        if let Some(old) = clients.iter().find(|client| client.version < RESETS_SINCE) {
            return Err(too_old(old.version));
        }
        let is_cpp = asked.command.language == Language::Cpp;
        let body = if is_cpp { resets.for_c().encode() } else { resets.encode() };
        for client in clients {
            let call = Call::new(request::RESET_CONSUMER_CLIENT_OFFSET)
                .with("topic", topic.to_owned())
                .with("group", group.to_owned())
                .with("timestamp", timestamp)
                .with("isForce", false)
                .with_body(body.clone());
            client.channel.oneway(call);
        }
        tracing::info!("a tool put group {group} of topic {topic} to {timestamp}: {:?}", resets.offset_table.values());
        Ok(success(&resets))
    }

    /// The first message stored at `timestamp` or later.
    fn offset_at(&self, topic: &str, queue_id: i32, timestamp: i64) -> Result<i64, Refused> {
        if timestamp == TO_THE_END {
            return Ok(self.max_of(topic, queue_id));
        }
        let store = &self.0.store;
        let found = store.offset_by_time(topic, queue_id as u32, timestamp, true).map_err(unreadable)?;
        let QueueOffset(offset) = found;
        Ok(offset as i64)
    }
}

//! A consumer sends back what it could not consume: code 36. The message is stored again for the group's retry topic,
//! by way of the schedule topic, or for its dead letters.

use std::sync::Arc;

use crate::{
    broker::{
        core::Core,
        reroute::Draft,
        retry, stored,
        topics::{RETRY_PREFIX, Topic},
    },
    model::{LogOffset, Message, OwnedMessage, message::TOPIC_MAX_BYTES, properties::name},
    protocol::{body::topic::perm, code::response, command::Response, header::SendBack},
    remoting::{Answer, Processor, Request},
    store::{
        AppendError,
        record::{self, Scan},
    },
};

use super::{FAQ, Refused, answer, send::UNIT_SUBSCRIPTION};

/// The delay level of the first retry where the client leaves it to the broker; each further one has the next.
const FIRST_LEVEL: i32 = 3;

pub struct ConsumerSendBack(pub Arc<Core>);

impl Processor for ConsumerSendBack {
    fn process(&self, asked: &Request<'_>) -> Answer {
        answer(self.send_back(asked))
    }
}

impl ConsumerSendBack {
    fn send_back(&self, asked: &Request<'_>) -> Result<Answer, Refused> {
        let core = &self.0;
        let config = core.config();
        let header = SendBack::decode(&asked.command.fields)?;
        let auto_create = config.auto_create_subscription_group;
        let group = core.groups.find_or_create(header.group, auto_create, core.now_ms(), config.groups_max);
        let Some(group) = group.map_err(Refused::system)? else {
            let remark = format!("subscription group not exist, {} {FAQ}", header.group);
            return Err(Refused::new(response::SUBSCRIPTION_GROUP_NOT_EXIST, remark));
        };
        let forbidden = |remark: String| Refused::new(response::NO_PERMISSION, remark);
        if config.broker_permission & perm::WRITE == 0 {
            return Err(forbidden(format!("the broker[{}] sending message is forbidden", config.broker_ip1)));
        }
        if group.retry_queue_nums <= 0 {
            return Ok(Answer::Now(Response::success()));
        }
        let name = format!("{RETRY_PREFIX}{}", header.group);
        if name.len() > TOPIC_MAX_BYTES {
            return Err(refused(&AppendError::TopicLength { size: name.len(), size_max: TOPIC_MAX_BYTES }));
        }
        let sys_flag = if header.unit_mode { UNIT_SUBSCRIPTION } else { 0 };
        let retry = retry::topic_of(core, name, group.retry_queue_nums, sys_flag).map_err(Refused::system)?;
        if !retry.is_writable() {
            let name = &retry.config.topic_name;
            return Err(forbidden(format!("the topic[{name}] sending message is forbidden")));
        }
        let not_found = || Refused::system(format!("look message by offset failed, {}", header.offset));
        let offset = u64::try_from(header.offset).map_err(|_| not_found())?;
        let bytes = core.store.record_at(LogOffset(offset)).map_err(Refused::system)?.ok_or_else(not_found)?;
        let Scan::Record(record) = record::scan(&bytes, false) else { return Err(not_found()) };
        let asked_max = header.max_reconsume_times;
        let times_max = retry::reconsume_times_max(&group, asked.command.version, asked_max);
        let late = i32::from(plant!(DeadLetterOneTryLate));
        let is_dead = record.message.reconsume_times >= times_max + late
            || (header.delay_level < 0 && !plant!(GivenUpComesAgain));
        let (topic, queue_id, level) = if is_dead {
            (retry::dead_letters_of(core, header.group).map_err(Refused::system)?, 0, 0)
        } else {
            let queue_id = core.env.entropy.below(group.retry_queue_nums as u64) as u32;
            let by_count = FIRST_LEVEL.saturating_add(record.message.reconsume_times);
            let level =
                if header.delay_level <= 0 || plant!(RetryLevelNotHeard) { by_count } else { header.delay_level };
            (retry, queue_id, level)
        };
        let levels = core.store.config().delay_levels_ms.len();
        let mut draft = Draft {
            topic: topic.config.topic_name.as_str().into(),
            queue_id,
            sys_flag: record.message.sys_flag,
            properties: stored::of_send_back(&record, level),
            wait: None,
        };
        draft.reroute_delayed(levels).map_err(Refused::system)?;
        let origin = draft.properties.get(name::RETRY_TOPIC).unwrap_or(record.message.topic).to_owned();
        let text = draft.properties.render();
        let message = Message {
            topic: &draft.topic,
            queue_id: draft.queue_id,
            sys_flag: draft.sys_flag,
            reconsume_times: record.message.reconsume_times.wrapping_add(1),
            prepared_offset: 0,
            properties: text.as_bytes(),
            ..record.message
        };
        if core.topics.is_durable(&topic) {
            match core.store.put_again(&message) {
                // Stored with WAIT=false, and yet the consumer moves past the message once it is told: it must last.
                Ok(appended) => {
                    core.stats.sent_back(&origin, header.group);
                    return Ok(Answer::Kept(appended.end.0, Response::success()));
                }
                Err(AppendError::SegmentFull | AppendError::PoolExhausted) => {}
                Err(error) => return Err(refused(&error)),
            }
        }
        let message = message.to_owned();
        Ok(self.later(topic.clone(), message, origin, header.group.to_owned()))
    }

    /// The answer once the topic is durable, there is room, and the promise is kept.
    fn later(&self, topic: Arc<Topic>, message: OwnedMessage, origin: String, group: String) -> Answer {
        let core = self.0.clone();
        Answer::Later(Box::pin(async move {
            if let Err(failed) = core.topics.durable(&topic).await {
                return Some(Refused::system(failed).into_response());
            }
            let kept = async { core.store.kept(core.store.put_again_waiting(&message.borrow()).await?.end).await };
            Some(match kept.await {
                Ok(()) => {
                    core.stats.sent_back(&origin, &group);
                    Response::success()
                }
                Err(error) => refused(&error).into_response(),
            })
        }))
    }
}

/// As RocketMQ: 1 with the status that its store would have given.
fn refused(error: &AppendError) -> Refused {
    let status = match error {
        AppendError::PropertiesTooLarge { .. } => "PROPERTIES_SIZE_EXCEEDED",
        error if error.is_of_message() => "MESSAGE_ILLEGAL",
        AppendError::Allocate(_) | AppendError::SegmentFull => "CREATE_MAPEDFILE_FAILED",
        AppendError::PoolExhausted => "OS_PAGECACHE_BUSY",
        _ => "SERVICE_NOT_AVAILABLE",
    };
    Refused::system(format!("{status}: {error}"))
}

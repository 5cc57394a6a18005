//! Pulls: codes 11 and 361. Checks in RocketMQ's order, reads, and holds what found nothing until something arrives.

use std::{sync::Arc, time::Duration};

use crate::{
    broker::{
        config::Config,
        core::Core,
        hold::{Held, SCAN_INTERVAL},
        topics::RETRY_PREFIX,
    },
    model::filter::Filter,
    protocol::{
        body::{MessageModel, SubscriptionGroupConfig, topic::perm},
        code::{request, response},
        command::Response,
        header::{PullMessage, pull_flag},
    },
    remoting::{
        Answer, Processor, Request,
        latency::{Asked, Outcome},
    },
    store::{Get, GetStatus, Got},
};

use super::{FAQ, Refused, answer};

pub struct Pull(pub Arc<Core>);

impl Processor for Pull {
    fn process(&self, asked: &Request<'_>) -> Answer {
        answer(self.pull(asked))
    }
}

impl Pull {
    fn pull(&self, asked: &Request<'_>) -> Result<Answer, Refused> {
        let core = &self.0;
        let config = core.config();
        let header = PullMessage::decode(&asked.command.fields)?;
        let (group, queue_id) = self.check(&config, asked, &header)?;
        let filter = self.filter(&config, &header, &group)?;
        let Some(count) = count_asked(header.max_message_nums) else {
            return Err(Refused::system(format!("maxMsgNums {} is no count of messages", header.max_message_nums)));
        };
        let get = Get {
            topic: header.topic,
            queue_id,
            offset: header.queue_offset,
            count_max: count.max(1),
            bytes_max: header.max_message_bytes.filter(|bytes| *bytes > 0).map_or(u64::MAX, |bytes| bytes as u64),
            filter: filter.as_deref(),
        };
        let got = match self.reset(header.topic, header.consumer_group, queue_id) {
            Some(reset) => return Ok(Answer::Now(reset)),
            None => self.get(&get, header.consumer_group)?,
        };
        if header.sys_flag & pull_flag::COMMIT_OFFSET != 0
            && let Some(offset) = header.commit_offset
            && let Err(error) =
                core.offsets.commit_consumed(header.topic, header.consumer_group, header.queue_id, offset)
        {
            tracing::warn!("an offset of group {} was not stored: {error}", header.consumer_group);
        }
        let response = respond(header.queue_offset, got);
        let may_wait = header.sys_flag & pull_flag::SUSPEND != 0 && !asked.command.is_oneway();
        if response.code != response::PULL_NOT_FOUND || !may_wait {
            return Ok(Answer::Now(response));
        }
        let held = Held {
            channel: asked.channel.clone(),
            opaque: asked.command.opaque,
            serialization: asked.command.serialization,
            code: asked.command.code,
            received: asked.received,
            group: header.consumer_group.to_owned(),
            topic: header.topic.to_owned(),
            queue_id,
            offset: header.queue_offset,
            count_max: get.count_max,
            bytes_max: get.bytes_max,
            filter: filter.clone(),
            deadline: core.env.clock.monotonic() + self.wait_of(&header),
        };
        if core.hold.park(held).is_err() {
            return Ok(Answer::Now(response));
        }
        // A message may have come between the look and the parking.
        core.hold.recheck(header.topic, queue_id, core.store.max_offset(header.topic, queue_id).0 as i64);
        Ok(Answer::None)
    }

    fn wait_of(&self, header: &PullMessage<'_>) -> Duration {
        let config = self.0.config();
        match (config.long_polling_enable, header.suspend_timeout_millis.unwrap_or(0)) {
            (false, _) => Duration::from_millis(config.short_polling_time_ms),
            // RocketMQ looks at it at its next scan only.
            (true, ..=0) => SCAN_INTERVAL,
            (true, wait) => Duration::from_millis(wait as u64),
        }
    }

    /// Answers a pull that waited, with whatever there is now.
    pub fn answer_held(&self, held: Held) {
        let get = Get {
            topic: &held.topic,
            queue_id: held.queue_id,
            offset: held.offset,
            count_max: held.count_max,
            bytes_max: held.bytes_max,
            filter: held.filter.as_deref(),
        };
        let response = match self.reset(&held.topic, &held.group, held.queue_id) {
            Some(reset) => reset,
            None => match self.get(&get, &held.group) {
                Ok(got) => respond(held.offset, got),
                Err(refused) => refused.into_response(),
            },
        };
        let outcome = Outcome::on(&held.channel);
        let was = Asked { code: held.code, response: response.code, was_held: true, outcome };
        self.0.latencies.record(was, self.0.env.clock.monotonic().saturating_sub(held.received));
        held.channel.respond(held.opaque, held.serialization, response);
    }

    fn check(
        &self,
        config: &Config,
        asked: &Request<'_>,
        header: &PullMessage<'_>,
    ) -> Result<(Arc<SubscriptionGroupConfig>, u32), Refused> {
        let core = &self.0;
        let forbidden = |remark: String| Refused::new(response::NO_PERMISSION, remark);
        if config.broker_permission & perm::READ == 0 {
            return Err(forbidden(format!("the broker[{}] pulling message is forbidden", config.broker_ip1)));
        }
        if asked.command.code == request::LITE_PULL_MESSAGE && !config.lite_pull_message_enable {
            return Err(forbidden(format!("the broker[{}] for lite pull consumer is forbidden", config.broker_ip1)));
        }
        let auto_create = config.auto_create_subscription_group;
        let group = core
            .groups
            .find_or_create(header.consumer_group, auto_create, core.now_ms(), config.groups_max)
            .map_err(Refused::system)?;
        let Some(group) = group else {
            let remark = format!("subscription group [{}] does not exist, {FAQ}", header.consumer_group);
            return Err(Refused::new(response::SUBSCRIPTION_GROUP_NOT_EXIST, remark));
        };
        if !group.consume_enable && !plant!(ClosedGroupServed) {
            return Err(forbidden(format!("subscription group no permission, {}", header.consumer_group)));
        }
        let Some(topic) = core.topics.find(header.topic) else {
            let remark = format!("topic[{}] not exist, apply first please! {FAQ}", header.topic);
            return Err(Refused::new(response::TOPIC_NOT_EXIST, remark));
        };
        if !topic.is_readable() {
            return Err(forbidden(format!("the topic[{}] pulling message is forbidden", header.topic)));
        }
        match u32::try_from(header.queue_id) {
            Ok(queue_id) if header.queue_id < topic.config.read_queue_nums => Ok((group, queue_id)),
            _ => Err(Refused::system(format!(
                "queueId[{}] is illegal, topic:[{}] topicConfig.readQueueNums:[{}] consumer:[/{}]",
                header.queue_id,
                header.topic,
                topic.config.read_queue_nums,
                asked.channel.peer()
            ))),
        }
    }

    /// What the pull is read through; `None` lets everything pass.
    fn filter(
        &self,
        config: &Config,
        header: &PullMessage<'_>,
        group: &SubscriptionGroupConfig,
    ) -> Result<Option<Arc<Filter>>, Refused> {
        let kind_allowed = |kind: Option<&str>| match kind {
            None | Some("" | "TAG") => Ok(()),
            Some(_) if config.enable_property_filter => Ok(()),
            Some(_) => Err(Refused::system("The broker does not support consumer to filter message by SQL92")),
        };
        let filter = if header.sys_flag & pull_flag::SUBSCRIPTION != 0 {
            kind_allowed(header.expression_type)?;
            let expression = header.subscription.unwrap_or_default();
            match Filter::parse(header.expression_type, expression) {
                Ok(filter) => Arc::new(filter),
                Err(error) => return Err(unparsable(&error)),
            }
        } else {
            self.subscribed(header, group, kind_allowed)?
        };
        let passes_all = filter.is_all() || (header.topic.starts_with(RETRY_PREFIX) && !config.filter_support_retry);
        Ok((!passes_all).then_some(filter))
    }

    /// The filter that the group's heartbeats told.
    fn subscribed(
        &self,
        header: &PullMessage<'_>,
        group: &SubscriptionGroupConfig,
        kind_allowed: impl Fn(Option<&str>) -> Result<(), Refused>,
    ) -> Result<Arc<Filter>, Refused> {
        let Some((model, subscription)) = self.0.clients.subscription(header.consumer_group, header.topic) else {
            let remark = format!("the consumer's group info not exist{FAQ}");
            return Err(Refused::new(response::SUBSCRIPTION_NOT_EXIST, remark));
        };
        if model == MessageModel::Broadcasting && !group.consume_broadcast_enable {
            let remark = format!("the consumer group[{}] can not consume by broadcast way", header.consumer_group);
            return Err(Refused::new(response::NO_PERMISSION, remark));
        }
        let Some(subscription) = subscription else {
            let remark = format!("the consumer's subscription not exist{FAQ}");
            return Err(Refused::new(response::SUBSCRIPTION_NOT_EXIST, remark));
        };
        if subscription.data.sub_version < header.sub_version.unwrap_or(0) {
            let remark = "the consumer's subscription not latest";
            return Err(Refused::new(response::SUBSCRIPTION_NOT_LATEST, remark));
        }
        kind_allowed(subscription.data.expression_type.as_deref())?;
        subscription.filter.map_err(|error| unparsable(&*error))
    }

    /// A tool put the group somewhere else (useServerSideResetOffset): the consumer is sent there, once.
    fn reset(&self, topic: &str, group: &str, queue_id: u32) -> Option<Response> {
        let core = &self.0;
        let next = core.offsets.take_reset(topic, group, queue_id as i32)?;
        Some(
            Response::error(response::PULL_OFFSET_MOVED, "OFFSET_RESET")
                .with("suggestWhichBrokerId", 0)
                .with("nextBeginOffset", next)
                .with("minOffset", core.store.min_offset(topic, queue_id).0 as i64)
                .with("maxOffset", core.store.max_offset(topic, queue_id).0 as i64),
        )
    }

    fn get(&self, get: &Get<'_>, group: &str) -> Result<Got, Refused> {
        let core = &self.0;
        let begun = core.env.clock.monotonic();
        let got = core.store.get(get).map_err(|error| {
            tracing::error!("a pull of {} queue {} at {} failed: {error}", get.topic, get.queue_id, get.offset);
            Refused::system(format!("store getMessage failed: {error}"))
        })?;
        let took = core.env.clock.monotonic() - begun;
        core.stats.got((get.topic, get.queue_id), group, (got.count, got.bytes), got.next, took);
        Ok(got)
    }
}

/// How many messages are asked for. RocketMQ makes a list of that length first, which fails for a negative and a huge one.
pub(super) fn count_asked(wanted: i32) -> Option<u32> {
    u32::try_from(wanted).ok().filter(|count| *count < 1 << 28)
}

fn unparsable(error: &dyn std::fmt::Display) -> Refused {
    let remark = format!("parse the consumer's subscription failed: {error}");
    Refused::new(response::SUBSCRIPTION_PARSE_FAILED, remark)
}

fn respond(asked: i64, got: Got) -> Response {
    let code = match got.status {
        GetStatus::Found => response::SUCCESS,
        GetStatus::NoMatchedMessage | GetStatus::MessageWasRemoving => response::PULL_RETRY_IMMEDIATELY,
        GetStatus::NoMatchedLogicQueue | GetStatus::NoMessageInQueue if asked != 0 => response::PULL_OFFSET_MOVED,
        GetStatus::NoMatchedLogicQueue | GetStatus::NoMessageInQueue => response::PULL_NOT_FOUND,
        GetStatus::OffsetFoundNull | GetStatus::OffsetOverflowOne => response::PULL_NOT_FOUND,
        GetStatus::OffsetOverflowBadly | GetStatus::OffsetTooSmall => response::PULL_OFFSET_MOVED,
    };
    let mut response = Response::error(code, got.status.name())
        .with("suggestWhichBrokerId", 0)
        .with("nextBeginOffset", got.next)
        .with("minOffset", got.min.0 as i64)
        .with("maxOffset", got.max.0 as i64);
    response.body = got.records;
    response
}

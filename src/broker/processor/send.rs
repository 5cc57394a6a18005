//! Sends: codes 10, 310, 320. Checks in RocketMQ's order, makes missing topics, appends, maps the outcome.

use std::{borrow::Cow, sync::Arc};

use smallvec::SmallVec;

use crate::{
    broker::{
        config::Config,
        core::Core,
        registration::NEW_TOPIC_WAIT,
        reroute::{self, Draft},
        retry,
        stored::{self, OfBatch},
        topics::{self, RETRY_PREFIX, Topic},
    },
    model::{BatchItem, LogOffset, Message, OffsetMessageId, OwnedMessage, message::sys_flag, properties::Properties},
    protocol::{
        body::{TopicConfig, TopicFilterType, batch::BatchItems, topic::perm},
        code::response,
        command::Response,
        header::SendMessage,
    },
    remoting::{Answer, Processor, Request},
    store::{AppendError, Appended, allocator::AllocateError, record},
};

use super::{FAQ, Refused};

/// `topicSysFlag` bits of topics made in unit mode.
const UNIT: i32 = 1;
pub(super) const UNIT_SUBSCRIPTION: i32 = 2;

pub struct Send(pub Arc<Core>);

impl Processor for Send {
    fn process(&self, asked: &Request<'_>) -> Answer {
        self.send(asked).unwrap_or_else(|refused| Answer::Now(self.about_region(refused.into_response())))
    }
}

/// A send whose checks are done, owned: it waits for its topic or for a segment.
struct Pending {
    queue_id: u32,
    message: OwnedMessage,
    /// Items of a batch; their message's own flag, body and properties are unused then.
    items: Option<Vec<OwnedItem>>,
    waits: bool,
}

struct OwnedItem {
    flag: i32,
    body: Vec<u8>,
    properties: Vec<u8>,
}

/// Where a message goes and which queue the answer names.
struct Place {
    topic: Arc<Topic>,
    queue_id: u32,
    asked_queue_id: u32,
}

impl Place {
    /// A message that stays there, without properties.
    fn plain<'h>(&'h self, header: &SendMessage<'_>) -> Draft<'h> {
        let config = &self.topic.config;
        let many = if config.topic_filter_type == TopicFilterType::MultiTag { sys_flag::MULTI_TAGS } else { 0 };
        Draft {
            topic: Cow::Borrowed(&config.topic_name),
            queue_id: self.queue_id,
            sys_flag: header.sys_flag | many,
            properties: Properties::default(),
            wait: None,
        }
    }
}

impl Send {
    fn send(&self, asked: &Request<'_>) -> Result<Answer, Refused> {
        let core = &self.0;
        // Taken once: all workers share its count.
        let config = core.config();
        let header = SendMessage::decode(asked.command.code, &asked.command.fields)?;
        check_accepts(core, &config)?;
        let (topic, round) = match core.topics.find(header.topic) {
            Some(topic) => {
                check_name(header.topic)?;
                (topic, None)
            }
            None => {
                check_name(header.topic)?;
                (self.create(&header)?, Some(core.registration.request()))
            }
        };
        let asked_queue_id = self.check_topic(&config, asked, &header, &topic)?;
        let place = match self.dead_letters(asked, &header)? {
            Some(dead_letters) => Place { topic: dead_letters, queue_id: 0, asked_queue_id },
            None => Place { topic, queue_id: asked_queue_id, asked_queue_id },
        };
        if round.is_none() && core.topics.is_durable(&place.topic) {
            self.store(&config, asked, &header, &place)
        } else {
            self.store_later(&config, asked, &header, place, round)
        }
    }

    fn store(
        &self,
        config: &Config,
        asked: &Request<'_>,
        header: &SendMessage<'_>,
        place: &Place,
    ) -> Result<Answer, Refused> {
        let queue_id = place.asked_queue_id;
        if header.batch {
            return self.store_batch(config, asked, header, place);
        }
        let (draft, waits) = self.draft(config, header, place)?;
        let text = draft.properties.render();
        let message = self.message(asked, header, &draft, text.as_bytes());
        match self.0.store.put(&message) {
            Ok(appended) => {
                let response = self.accepted(config, queue_id, &[appended]);
                // Position 0 is kept already: such an answer waits for the turn's end only.
                Ok(Answer::Kept(if waits { appended.end.0 } else { 0 }, response))
            }
            Err(AppendError::SegmentFull) => {
                let message = message.to_owned();
                Ok(self.later(Pending { queue_id, message, items: None, waits }))
            }
            Err(error) => Err(self.refused(&error)),
        }
    }

    fn store_batch(
        &self,
        config: &Config,
        asked: &Request<'_>,
        header: &SendMessage<'_>,
        place: &Place,
    ) -> Result<Answer, Refused> {
        let queue_id = place.asked_queue_id;
        let items = self.items(config, asked, header)?;
        let borrowed: SmallVec<[BatchItem<'_>; 32]> =
            items.iter().map(|(item, properties)| BatchItem { properties, ..*item }).collect();
        let draft = place.plain(header);
        let shared = self.message(asked, header, &draft, &[]);
        let mut places = SmallVec::<[Appended; 32]>::new();
        match self.0.store.put_batch(&shared, &borrowed, |appended| places.push(appended)) {
            Ok(()) => {
                let end = places.last().expect("a batch has messages").end;
                Ok(Answer::Kept(end.0, self.accepted(config, queue_id, &places)))
            }
            Err(AppendError::SegmentFull) => {
                let items = Some(borrowed.iter().map(OwnedItem::of).collect());
                Ok(self.later(Pending { queue_id, message: shared.to_owned(), items, waits: true }))
            }
            Err(error) => Err(self.refused(&error)),
        }
    }

    /// The batch's items with the properties they are stored with.
    fn items<'a>(
        &self,
        config: &Config,
        asked: &'a Request<'_>,
        header: &SendMessage<'_>,
    ) -> Result<Vec<(BatchItem<'a>, Vec<u8>)>, Refused> {
        let (body, size_max) = (asked.command.body, u64::from(config.max_message_size_bytes));
        if body.is_empty() {
            return Err(Refused::system("the batch has no messages"));
        }
        if body.len() as u64 > size_max {
            return Err(self.refused(&AppendError::BodyTooLarge { size: body.len() as u64, size_max }));
        }
        let outer = OfBatch::new(header.properties, &config.broker_cluster_name);
        let is_delayed = reroute::level(outer.properties()).map_err(Refused::system)?.is_some();
        if is_delayed || header.sys_flag & sys_flag::TRANSACTION_MASK != 0 {
            return Err(self.illegal());
        }
        // Each item gets a copy of what the batch says: four million bytes of empty items would become gigabytes.
        let mut size = 0;
        BatchItems::new(body)
            .map(|item| {
                let item = item.map_err(Refused::system)?;
                let stored = outer.of_item(item.properties);
                size += record::RECORD_MIN + (header.topic.len() + item.body.len() + stored.len()) as u64;
                if size > size_max {
                    let text = format!("message size exceeded: the batch's records have more than {size_max} bytes");
                    return Err(Refused::system(text));
                }
                Ok((BatchItem { flag: item.flag, body: item.body, properties: &[] }, stored))
            })
            .collect()
    }

    pub(super) fn check_topic(
        &self,
        config: &Config,
        asked: &Request<'_>,
        header: &SendMessage<'_>,
        topic: &Topic,
    ) -> Result<u32, Refused> {
        if config.broker_permission & perm::WRITE == 0 && topic.config.order {
            let remark = format!("the broker[{}] sending message is forbidden", config.broker_ip1);
            return Err(Refused::new(response::NO_PERMISSION, remark));
        }
        let queues = topic.config.read_queue_nums.max(topic.config.write_queue_nums);
        if header.queue_id >= queues {
            let topic = describe(&topic.config);
            let producer = asked.channel.peer();
            let remark = format!("request queueId[{}] is illegal, {topic} Producer: {producer}", header.queue_id);
            return Err(Refused::system(remark));
        }
        if header.queue_id >= 0 {
            return Ok(header.queue_id as u32);
        }
        if topic.config.write_queue_nums <= 0 {
            return Err(Refused::system(format!("topic[{}] has no queue to write to", header.topic)));
        }
        Ok(self.0.env.entropy.below(topic.config.write_queue_nums as u64) as u32)
    }

    /// The group's dead letters, if the message is sent to a retry topic and was tried often enough.
    fn dead_letters(&self, asked: &Request<'_>, header: &SendMessage<'_>) -> Result<Option<Arc<Topic>>, Refused> {
        let Some(group_name) = header.topic.strip_prefix(RETRY_PREFIX) else { return Ok(None) };
        if header.batch {
            return Ok(None);
        }
        let core = &self.0;
        let config = core.config();
        let auto_create = config.auto_create_subscription_group;
        let group = core.groups.find_or_create(group_name, auto_create, core.now_ms(), config.groups_max);
        let Some(group) = group.map_err(Refused::system)? else {
            let remark = format!("subscription group not exist, {group_name} {FAQ}");
            return Err(Refused::new(response::SUBSCRIPTION_GROUP_NOT_EXIST, remark));
        };
        let times_max = retry::reconsume_times_max(&group, asked.command.version, header.max_reconsume_times);
        if header.reconsume_times.unwrap_or(0) < times_max {
            return Ok(None);
        }
        retry::dead_letters_of(core, group_name).map(Some).map_err(Refused::system)
    }

    /// Where the message goes with which properties (WAIT out, CLUSTER in), and whether the sender waits for the flush.
    fn draft<'h>(
        &self,
        config: &'h Config,
        header: &SendMessage<'h>,
        place: &'h Place,
    ) -> Result<(Draft<'h>, bool), Refused> {
        let mut draft = place.plain(header);
        (draft.properties, draft.wait) = stored::of_send(header.properties, &config.broker_cluster_name);
        let waits = draft.wait.as_ref().is_none_or(|wait| !wait.eq_ignore_ascii_case("false"));
        if config.reject_transaction_message && reroute::is_half(&draft.properties) {
            let remark = format!("the broker[{}] sending transaction message is forbidden", config.broker_ip1);
            return Err(Refused::new(response::NO_PERMISSION, remark));
        }
        draft.reroute(self.0.store.config().delay_levels_ms.len()).map_err(Refused::system)?;
        Ok((draft, waits))
    }

    fn message<'a>(
        &self,
        asked: &'a Request<'_>,
        header: &SendMessage<'_>,
        draft: &'a Draft<'_>,
        properties: &'a [u8],
    ) -> Message<'a> {
        Message {
            topic: &draft.topic,
            queue_id: draft.queue_id,
            flag: header.flag,
            sys_flag: draft.sys_flag,
            born_timestamp: header.born_timestamp,
            born_host: asked.channel.peer(),
            store_host: self.0.store_host,
            reconsume_times: header.reconsume_times.unwrap_or(0),
            prepared_offset: 0,
            body: asked.command.body,
            properties,
        }
    }

    pub(super) fn create(&self, header: &SendMessage<'_>) -> Result<Arc<Topic>, Refused> {
        let core = &self.0;
        let config = core.config();
        let is_retry = header.topic.starts_with(RETRY_PREFIX);
        let sys_flag = match (header.unit_mode, is_retry) {
            (false, _) => 0,
            (true, false) => UNIT,
            (true, true) => UNIT_SUBSCRIPTION,
        };
        let default = header.default_topic;
        let wanted = header.default_topic_queue_nums;
        let inherited = core.topics.inherited(header.topic, default, wanted, config.auto_create_topic_enable, sys_flag);
        let topic = match inherited {
            Ok(topic) => topic,
            Err(_) if is_retry => {
                let topic = TopicConfig::new(header.topic, 1, perm::READ | perm::WRITE);
                TopicConfig { topic_sys_flag: sys_flag, ..topic }
            }
            Err(error) => {
                tracing::info!("a send to the unknown topic {}: {error}", header.topic);
                let remark = format!("topic[{}] not exist, apply first please!{FAQ}", header.topic);
                return Err(Refused::new(response::TOPIC_NOT_EXIST, remark));
            }
        };
        core.topics.put(topic, core.now_ms(), config.topics_max).map(|(topic, _)| topic).map_err(Refused::system)
    }

    /// The topic's file is being written: the message is stored when a power cut cannot take the topic away again, and
    /// when the name servers were told, so that whoever sees the acknowledgement finds the topic.
    fn store_later(
        &self,
        config: &Config,
        asked: &Request<'_>,
        header: &SendMessage<'_>,
        place: Place,
        round: Option<u64>,
    ) -> Result<Answer, Refused> {
        let queue_id = place.asked_queue_id;
        let pending = if header.batch {
            let items = self.items(config, asked, header)?;
            let items =
                items.iter().map(|(item, properties)| OwnedItem::of(&BatchItem { properties, ..*item })).collect();
            let message = self.message(asked, header, &place.plain(header), &[]).to_owned();
            Pending { queue_id, message, items: Some(items), waits: true }
        } else {
            let (draft, waits) = self.draft(config, header, &place)?;
            let text = draft.properties.render();
            let message = self.message(asked, header, &draft, text.as_bytes()).to_owned();
            Pending { queue_id, message, items: None, waits }
        };
        let me = Send(self.0.clone());
        Ok(Answer::Later(Box::pin(async move {
            if let Err(failed) = me.0.topics.durable(&place.topic).await {
                let refused = Response::error(response::SERVICE_NOT_AVAILABLE, failed.to_string());
                return Some(me.about_region(refused));
            }
            if let Some(round) = round {
                me.0.registration.told(round, NEW_TOPIC_WAIT).await;
            }
            Some(me.put(pending).await)
        })))
    }

    fn later(&self, pending: Pending) -> Answer {
        let me = Send(self.0.clone());
        Answer::Later(Box::pin(async move { Some(me.put(pending).await) }))
    }

    /// Appends, waiting for segments, and answers when the promise is kept.
    async fn put(&self, pending: Pending) -> Response {
        let store = &self.0.store;
        let mut places = SmallVec::<[Appended; 32]>::new();
        let outcome = loop {
            let message = pending.message.borrow();
            let outcome = match &pending.items {
                None => store.put(&message).map(|appended| places.push(appended)),
                Some(items) => {
                    let items: Vec<_> = items.iter().map(OwnedItem::borrow).collect();
                    store.put_batch(&message, &items, |appended| places.push(appended))
                }
            };
            match outcome {
                Err(AppendError::SegmentFull) => match store.segment_ready().await {
                    Ok(()) => continue,
                    error => break error,
                },
                outcome => break outcome,
            }
        };
        if let Err(error) = outcome {
            return self.about_region(self.refused(&error).into_response());
        }
        store.turn_end();
        let end = places.last().expect("something was appended").end;
        let target = if pending.waits { end.0 } else { 0 };
        match store.promise().reached(target).await {
            Ok(()) => self.accepted(&self.0.config(), pending.queue_id, &places),
            Err(failed) => {
                let refused = self.refused(&AppendError::Closed { reason: failed.reason });
                self.about_region(refused.into_response())
            }
        }
    }

    fn accepted(&self, config: &Config, queue_id: u32, places: &[Appended]) -> Response {
        let id = |offset: LogOffset| OffsetMessageId { store_host: self.0.store_host, offset };
        let first = places.first().expect("something was appended");
        let response = match places {
            [one] => Response::success().with("msgId", id(one.offset)),
            many => {
                let mut ids = Vec::with_capacity(many.len() * 33);
                for place in many {
                    if !ids.is_empty() {
                        ids.push(b',');
                    }
                    id(place.offset).render(&mut ids);
                }
                Response::success().with("msgId", String::from_utf8(ids).expect("hex digits are ASCII"))
            }
        };
        let response = response.with("queueId", queue_id as i32).with("queueOffset", first.queue_offset.0 as i64);
        with_region(response, config)
    }

    /// Every answer to a send says these two (clients trace by them).
    pub(super) fn about_region(&self, response: Response) -> Response {
        with_region(response, &self.0.config())
    }

    fn illegal(&self) -> Refused {
        let body_max = self.0.config().max_message_size_bytes;
        let remark = format!(
            "the message is illegal, maybe msg body or properties length not matched. msg body length limit {body_max}B, \
             msg properties length limit 32KB."
        );
        Refused::new(response::MESSAGE_ILLEGAL, remark)
    }

    fn refused(&self, error: &AppendError) -> Refused {
        self.0.stats.put_failed();
        let unavailable = |reason: &dyn std::fmt::Display| {
            Refused::new(response::SERVICE_NOT_AVAILABLE, format!("service not available now: {reason}"))
        };
        match error {
            error if error.is_of_message() => self.illegal(),
            AppendError::Allocate(error @ AllocateError::NoSpace { .. }) => unavailable(error),
            AppendError::Allocate(_) | AppendError::SegmentFull => {
                Refused::system("create mapped file failed, server is busy or broken.")
            }
            AppendError::PoolExhausted => {
                let remark = "[REJECTREQUEST]system busy, start flow control for a while";
                Refused::new(response::SYSTEM_BUSY, remark)
            }
            AppendError::DiskFull { reason } => Refused::new(response::SERVICE_NOT_AVAILABLE, reason.to_string()),
            error => unavailable(error),
        }
    }
}

fn with_region(response: Response, config: &Config) -> Response {
    response.with("MSG_REGION", config.region_id.clone()).with("TRACE_ON", config.trace_on)
}

impl OwnedItem {
    fn of(item: &BatchItem<'_>) -> Self {
        OwnedItem { flag: item.flag, body: item.body.to_vec(), properties: item.properties.to_vec() }
    }

    fn borrow(&self) -> BatchItem<'_> {
        BatchItem { flag: self.flag, body: &self.body, properties: &self.properties }
    }
}

/// Not before startAcceptSendRequestTimeStamp, and not while it stops.
pub(super) fn check_accepts(core: &Core, config: &Config) -> Result<(), Refused> {
    if core.is_stopping() {
        let remark = "service not available now: the broker is shutting down";
        return Err(Refused::new(response::SERVICE_NOT_AVAILABLE, remark));
    }
    let until = config.start_accept_send_request_timestamp_ms;
    if until > 0 && core.now_ms() < until {
        let local = chrono::DateTime::from_timestamp_millis(core.env.clock.local_ms(until)).unwrap_or_default();
        let until = local.format("%Y-%m-%d %H:%M:%S,%3f");
        return Err(Refused::system(format!("broker unable to service, until {until}")));
    }
    Ok(())
}

pub(super) fn check_name(topic: &str) -> Result<(), Refused> {
    topics::check_name(topic).map_err(Refused::system)?;
    if topics::is_forbidden(topic) {
        let remark = format!("Sending message to topic[{topic}] is forbidden.");
        return Err(Refused::new(response::NO_PERMISSION, remark));
    }
    Ok(())
}

/// TopicConfig.toString of 4.9.7.
fn describe(topic: &TopicConfig) -> String {
    let letter = |bit: i32, letter: char| if topic.perm & bit != 0 { letter } else { '-' };
    let letters = [letter(perm::READ, 'R'), letter(perm::WRITE, 'W'), letter(perm::INHERIT, 'X')];
    format!(
        "TopicConfig [topicName={}, readQueueNums={}, writeQueueNums={}, perm={}, topicFilterType={}, topicSysFlag={}, \
         order={}]",
        topic.topic_name,
        topic.read_queue_nums,
        topic.write_queue_nums,
        letters.iter().collect::<String>(),
        topic.topic_filter_type.name(),
        topic.topic_sys_flag,
        topic.order
    )
}

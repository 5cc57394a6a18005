//! Topics: made and changed (17, 18), removed (215), listed (21, 305, 351), measured (202).

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    broker::{
        core::Core,
        registration::NEW_TOPIC_WAIT,
        stats::Made,
        topics::{self, Topic},
    },
    protocol::{
        body::{
            Body, TopicConfig, TopicConfigList, TopicFilterType, TopicList, TopicOffsets, TopicStatsTable, topic::perm,
        },
        code::response,
        command::Response,
        header::{CreateTopic, Topic as TopicHeader},
    },
    remoting::{Answer, Request},
};

use super::{Admin, Refused, filled, success, topic_unknown};

impl Admin {
    pub(super) fn create_topic(&self, asked: &Request<'_>) -> Result<Answer, Refused> {
        let header = CreateTopic::decode(&asked.command.fields)?;
        let Some(topic_filter_type) = TopicFilterType::from_name(header.topic_filter_type) else {
            let remark = format!("topicFilterType = [{}] value invalid", header.topic_filter_type);
            return Err(Refused::system(remark));
        };
        let known = self.0.topics.find(header.topic).and_then(|topic| topic.config.attributes.clone());
        let config = TopicConfig {
            attributes: attributes(known, filled(header.attributes)).map_err(Refused::system)?,
            // 4.9.7 takes the order from the name server only, whatever is sent here.
            order: false,
            perm: header.perm,
            read_queue_nums: header.read_queue_nums,
            topic_filter_type,
            topic_name: header.topic.to_owned(),
            topic_sys_flag: header.topic_sys_flag.unwrap_or(0),
            write_queue_nums: header.write_queue_nums,
        };
        self.put_topics(vec![config])
    }

    pub(super) fn create_topics(&self, asked: &Request<'_>) -> Result<Answer, Refused> {
        let wanted = TopicConfigList::decode(asked.command.body)?.topic_config_list;
        self.put_topics(wanted.into_iter().map(|config| TopicConfig { order: false, ..config }).collect())
    }

    /// All of them or, if one is not allowed, none. Answered when they survive a power cut and name servers were told.
    fn put_topics(&self, wanted: Vec<TopicConfig>) -> Result<Answer, Refused> {
        let is_system = wanted.iter().any(|config| self.is_system(&config.topic_name));
        self.timed(Made::Topic, is_system, self.try_put_topics(wanted))
    }

    fn try_put_topics(&self, wanted: Vec<TopicConfig>) -> Result<Answer, Refused> {
        let core = &self.0;
        for config in &wanted {
            self.check_topic(config)?;
        }
        let (mut put, mut is_changed) = (Vec::new(), false);
        for config in wanted {
            let said = format!("{config:?}");
            let topics_max = core.config().topics_max;
            let (topic, changed) = core.topics.put(config, core.now_ms(), topics_max).map_err(Refused::system)?;
            if changed {
                core.say_tool(|| format!("made or changed a topic: {said}"));
            }
            is_changed |= changed;
            put.push(topic);
        }
        let round = is_changed.then(|| core.registration.request());
        Ok(Answer::Later(Box::pin(kept(core.clone(), put, round))))
    }

    fn check_topic(&self, config: &TopicConfig) -> Result<(), Refused> {
        let name = &config.topic_name;
        topics::check_name(name).map_err(Refused::system)?;
        self.check_not_system(name)?;
        let all = perm::READ | perm::WRITE | perm::INHERIT;
        if config.perm & !all != 0 {
            let remark = format!("perm {} is not made of 4 (read), 2 (write) and 1 (new topics inherit)", config.perm);
            return Err(Refused::system(remark));
        }
        let queues_max = self.0.config().queues_per_topic_max as i32;
        for (what, queues) in [("readQueueNums", config.read_queue_nums), ("writeQueueNums", config.write_queue_nums)] {
            if !(0..=queues_max).contains(&queues) {
                let remark = format!("{what} {queues} is not within 0 and {queues_max} (queuesPerTopicMax)");
                return Err(Refused::system(remark));
            }
        }
        Ok(())
    }

    fn check_not_system(&self, topic: &str) -> Result<(), Refused> {
        if self.0.config().validate_system_topic_when_update_topic && self.is_system(topic) {
            return Err(Refused::system(format!("The topic[{topic}] is conflict with system topic.")));
        }
        Ok(())
    }

    fn is_system(&self, topic: &str) -> bool {
        topics::is_system(topic) || self.own_topics().iter().any(|own| own == topic)
    }

    /// System topics that are named after this broker.
    fn own_topics(&self) -> [String; 4] {
        let config = self.0.config();
        [
            config.broker_cluster_name.clone(),
            config.broker_name.clone(),
            format!("{}_REPLY_TOPIC", config.broker_cluster_name),
            config.msg_trace_topic_name.clone(),
        ]
    }

    /// Consumer offsets stay, as in 4.9.7; records stay in the log until it is cut.
    pub(super) fn delete_topic(&self, asked: &Request<'_>) -> Result<Answer, Refused> {
        let header = TopicHeader::decode(&asked.command.fields)?;
        topics::check_name(header.topic).map_err(Refused::system)?;
        self.check_not_system(header.topic)?;
        let core = self.0.clone();
        let topic = header.topic.to_owned();
        if core.topics.remove(&topic, core.now_ms()) {
            core.say_tool(|| format!("removed topic {topic}"));
            core.stats.remove_topic(&topic);
        }
        Ok(Answer::Later(Box::pin(async move {
            if let Err(failed) = core.topics.settled().await {
                return Some(Response::error(response::SERVICE_NOT_AVAILABLE, failed.to_string()));
            }
            // Whoever made it again in the meantime wants its messages.
            if core.topics.find(&topic).is_none()
                && let Err(error) = core.store.remove_topic(&topic).await
            {
                let remark = format!("topic {topic} is removed, some of its queue files are not: {error}");
                return Some(Response::error(response::SYSTEM_ERROR, remark));
            }
            Some(Response::success())
        })))
    }

    pub(super) fn all_topics(&self) -> Response {
        success(&self.0.topics.snapshot())
    }

    pub(super) fn topic(&self, asked: &Request<'_>) -> Result<Response, Refused> {
        let header = TopicHeader::decode(&asked.command.fields)?;
        match self.0.topics.find(header.topic) {
            Some(topic) => Ok(success(&topic.config)),
            None => {
                let remark = format!("No topic in this broker. topic: {}", header.topic);
                Err(Refused::new(response::TOPIC_NOT_EXIST, remark))
            }
        }
    }

    pub(super) fn system_topics(&self) -> Response {
        let mut topic_list: std::collections::BTreeSet<String> =
            topics::SYSTEM.into_iter().map(str::to_owned).collect();
        topic_list.extend(self.own_topics());
        success(&TopicList { broker_addr: None, topic_list })
    }

    pub(super) fn topic_stats(&self, asked: &Request<'_>) -> Result<Response, Refused> {
        let header = TopicHeader::decode(&asked.command.fields)?;
        let topic = self.0.topics.find(header.topic).ok_or_else(|| topic_unknown(header.topic))?;
        let topic_put_tps = Some(self.0.stats.put_tps(header.topic));
        let mut stats = TopicStatsTable { topic_put_tps, ..TopicStatsTable::default() };
        for queue in 0..topic.config.write_queue_nums {
            let max_offset = self.max_of(header.topic, queue);
            let last = self.stored_at(header.topic, queue, max_offset - 1)?;
            let offsets = TopicOffsets {
                last_update_timestamp: last.unwrap_or(0),
                max_offset,
                min_offset: self.min_of(header.topic, queue),
            };
            stats.offset_table.insert(self.queue_of(header.topic, queue), offsets);
        }
        Ok(success(&stats))
    }
}

async fn kept(core: Arc<Core>, put: Vec<Arc<Topic>>, round: Option<u64>) -> Option<Response> {
    for topic in put {
        if let Err(failed) = core.topics.durable(&topic).await {
            return Some(Response::error(response::SERVICE_NOT_AVAILABLE, failed.to_string()));
        }
    }
    if let Some(round) = round {
        core.registration.told(round, NEW_TOPIC_WAIT).await;
    }
    Some(Response::success())
}

/// The attributes after `changes` (`+key=value,-key`, 5.x).
fn attributes(
    known: Option<BTreeMap<String, String>>,
    changes: Option<&str>,
) -> Result<Option<BTreeMap<String, String>>, String> {
    let Some(changes) = changes else { return Ok(known) };
    let mut table = known.unwrap_or_default();
    for change in changes.split(',') {
        match (change.strip_prefix('+').and_then(|pair| pair.split_once('=')), change.strip_prefix('-')) {
            (Some((key, value)), _) if !key.is_empty() => {
                table.insert(key.to_owned(), value.to_owned());
            }
            (None, Some(key)) => {
                table.remove(key);
            }
            _ => return Err(format!("the attribute {change:?} is neither +key=value nor -key")),
        }
    }
    Ok((!table.is_empty()).then_some(table))
}

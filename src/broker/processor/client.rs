//! Clients come (34), ask who else is there (38), lock queues (41, 42), check expressions (46), leave (35).

use std::sync::Arc;

use crate::{
    broker::{
        clients,
        core::Core,
        registration::NEW_TOPIC_WAIT,
        topics::{RETRY_PREFIX, Topic},
    },
    model::filter::{Filter, FilterError},
    protocol::{
        body::{
            Body, CheckClientConfig, ConsumerData, ConsumerIdList, HeartbeatData, LockBatch, LockedBatch, MessageModel,
            SubscriptionData, TopicConfig, topic::perm,
        },
        code::{request, response},
        command::Response,
        header::{ConsumerGroup, UnregisterClient},
    },
    remoting::{Answer, Processor, Request},
};

use super::{Refused, answer, check_kept_name, not_supported, send::UNIT_SUBSCRIPTION};

pub struct ClientManage(pub Arc<Core>);

impl Processor for ClientManage {
    fn process(&self, asked: &Request<'_>) -> Answer {
        let outcome = match asked.command.code {
            request::HEART_BEAT => return answer(self.heartbeat(asked)),
            request::UNREGISTER_CLIENT => self.unregister(asked),
            request::CHECK_CLIENT_CONFIG => self.check_config(asked),
            request::GET_CONSUMER_LIST_BY_GROUP => self.consumer_list(asked),
            request::LOCK_BATCH_MQ => self.lock(asked),
            request::UNLOCK_BATCH_MQ => self.unlock(asked),
            _ => return not_supported(asked),
        };
        answer(outcome.map(Answer::Now))
    }
}

impl ClientManage {
    /// A group's retry topic must be there, durably and known to the name servers, when its first heartbeat is
    /// answered: Go and C++ ask for its route once at start.
    fn heartbeat(&self, asked: &Request<'_>) -> Result<Answer, Refused> {
        let core = &self.0;
        let data = HeartbeatData::decode(asked.command.body)?;
        let id = match &data.client_id {
            Some(id) => id.clone(),
            None if data.consumer_data_set.is_empty() && data.producer_data_set.is_empty() => {
                return Ok(Answer::Now(Response::success()));
            }
            None => return Err(Refused::system("the heartbeat does not say whose it is: clientID is missing")),
        };
        check_kept_name("client id", &id)?;
        let consumers = data.consumer_data_set.iter().map(|group| &group.group_name);
        for group in consumers.chain(data.producer_data_set.iter().map(|group| &group.group_name)) {
            check_kept_name("group", group)?;
        }
        let client = clients::Client {
            id,
            language: asked.command.language,
            version: asked.command.version,
            seen: core.env.clock.monotonic(),
            channel: asked.channel.clone(),
        };
        let mut created = Vec::new();
        for group in &data.consumer_data_set {
            created.extend(self.register(group, &client)?);
        }
        for group in &data.producer_data_set {
            core.clients.register_producer(&group.group_name, client.clone()).map_err(Refused::system)?;
        }
        if created.is_empty() {
            return Ok(Answer::Now(Response::success()));
        }
        let (core, round) = (core.clone(), core.registration.request());
        Ok(Answer::Later(Box::pin(async move {
            for topic in created {
                if let Err(failed) = core.topics.durable(&topic).await {
                    return Some(Response::error(response::SERVICE_NOT_AVAILABLE, failed.to_string()));
                }
            }
            core.registration.told(round, NEW_TOPIC_WAIT).await;
            Some(Response::success())
        })))
    }

    /// Registers a member of a consumer group and tells the group if that changed it. Returns the retry topic if it was
    /// made. A group that is unknown and may not be made is registered all the same, as in 4.9.7.
    fn register(&self, data: &ConsumerData, client: &clients::Client) -> Result<Option<Arc<Topic>>, Refused> {
        let core = &self.0;
        let config = core.config();
        let auto_create = config.auto_create_subscription_group;
        let group = core
            .groups
            .find_or_create(&data.group_name, auto_create, core.now_ms(), config.groups_max)
            .map_err(Refused::system)?;
        let mut created = None;
        if let Some(group) = &group {
            let retry = format!("{RETRY_PREFIX}{}", data.group_name);
            if group.retry_queue_nums > 0 && core.topics.find(&retry).is_none() {
                let mut topic = TopicConfig::new(retry, group.retry_queue_nums, perm::READ | perm::WRITE);
                topic.topic_sys_flag = if data.unit_mode { UNIT_SUBSCRIPTION } else { 0 };
                let (topic, _) = core.topics.put(topic, core.now_ms(), config.topics_max).map_err(Refused::system)?;
                created = Some(topic);
            }
        }
        let changed = core.clients.register_consumer(data, client.clone(), parse).map_err(Refused::system)?;
        if changed && data.message_model != MessageModel::Broadcasting {
            let members = core.clients.consumer_channels(&data.group_name);
            let channels = members.into_iter().map(|member| member.channel).collect();
            core.tell(vec![(data.group_name.clone(), channels)]);
        }
        Ok(created)
    }

    fn unregister(&self, asked: &Request<'_>) -> Result<Response, Refused> {
        let header = UnregisterClient::decode(&asked.command.fields)?;
        let to_tell = self.0.clients.unregister(asked.channel.id(), header.producer_group, header.consumer_group);
        self.0.tell(to_tell);
        Ok(Response::success())
    }

    fn check_config(&self, asked: &Request<'_>) -> Result<Response, Refused> {
        let body = CheckClientConfig::decode(asked.command.body)?;
        let Some(subscription) = body.subscription_data else { return Ok(Response::success()) };
        let kind = match subscription.expression_type.as_deref() {
            None | Some("" | "TAG") => return Ok(Response::success()),
            Some(kind) => kind,
        };
        if !self.0.config().enable_property_filter {
            return Err(Refused::system(format!("The broker does not support consumer to filter message by {kind}")));
        }
        match Filter::parse(Some(kind), &subscription.sub_string) {
            Ok(_) => Ok(Response::success()),
            Err(error) => Err(Refused::new(response::SUBSCRIPTION_PARSE_FAILED, error.to_string())),
        }
    }

    fn consumer_list(&self, asked: &Request<'_>) -> Result<Response, Refused> {
        let header = ConsumerGroup::decode(&asked.command.fields)?;
        match self.0.clients.consumer_ids(header.consumer_group) {
            Some(ids) if !ids.is_empty() => {
                Ok(Response::success().with_body(ConsumerIdList { consumer_id_list: ids }.encode()))
            }
            _ => Err(Refused::system(format!("no consumer for this group, {}", header.consumer_group))),
        }
    }

    fn lock(&self, asked: &Request<'_>) -> Result<Response, Refused> {
        let wanted = LockBatch::decode(asked.command.body)?;
        let now = self.0.env.clock.monotonic();
        let locked = if wanted.mq_set.is_empty() {
            Vec::new()
        } else {
            let (group, client) = asker(&wanted)?;
            check_kept_name("group", group)?;
            check_kept_name("client id", client)?;
            for queue in &wanted.mq_set {
                check_kept_name("topic", &queue.topic)?;
                check_kept_name("broker name", &queue.broker_name)?;
            }
            self.0.locks.lock(group, client, &wanted.mq_set, now)
        };
        Ok(Response::success().with_body(LockedBatch { lock_ok_mq_set: locked }.encode()))
    }

    fn unlock(&self, asked: &Request<'_>) -> Result<Response, Refused> {
        let held = LockBatch::decode(asked.command.body)?;
        let (group, client) = asker(&held)?;
        self.0.locks.unlock(group, client, &held.mq_set);
        Ok(Response::success())
    }
}

/// Which client of which group asks for locks.
fn asker(asked: &LockBatch) -> Result<(&str, &str), Refused> {
    let missing = |name: &str| Refused::system(format!("the request for locks does not say its {name}"));
    let group = asked.consumer_group.as_deref().ok_or_else(|| missing("consumerGroup"))?;
    let client = asked.client_id.as_deref().ok_or_else(|| missing("clientId"))?;
    Ok((group, client))
}

/// The filter of a heartbeat's subscription; a bad one is said here, and its pulls are refused.
fn parse(data: &SubscriptionData) -> Result<Arc<Filter>, Arc<FilterError>> {
    Filter::parse(data.expression_type.as_deref(), &data.sub_string).map(Arc::new).map_err(|error| {
        tracing::warn!("a subscription to {} with {:?} is refused: {error}", data.topic, data.sub_string);
        Arc::new(error)
    })
}

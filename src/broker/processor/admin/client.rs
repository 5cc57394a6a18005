//! Who is connected (203, 204, 328), and questions that only a client can answer (223, 307, 309): they are passed on to it
//! and its answer back.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    broker::clients::Client,
    model::OffsetMessageId,
    protocol::{
        body::{
            Body, Connection, ConsumerConnection, ConsumerStatusTable, ProducerConnection, ProducerInfo, ProducerTable,
        },
        code::{request, response},
        command::{Answered, Call, Response},
        header::{ConsumeMessageDirectly, ConsumerGroup, ConsumerRunningInfo, ConsumerStatus, ProducerGroup},
    },
    remoting::{Answer, CallError, Request},
};

use super::{Admin, Refused, filled, success, unreadable};

/// How long a client may take for an answer that is passed on (Broker2Client).
const PASSED_ON_WAIT: Duration = Duration::from_secs(10);
const STATUS_WAIT: Duration = Duration::from_secs(5);
/// V3_0_7_SNAPSHOT, the first version that understands 220 and 221.
pub(super) const RESETS_SINCE: i32 = 16;
/// V3_1_8_SNAPSHOT, the first version that understands 307 and 309.
const ANSWERS_SINCE: i32 = 50;

impl Admin {
    pub(super) fn consumers(&self, asked: &Request<'_>) -> Result<Response, Refused> {
        let header = ConsumerGroup::decode(&asked.command.fields)?;
        let Some(group) = self.0.clients.consumer_group(header.consumer_group) else {
            let remark = format!("the consumer group[{}] not online", header.consumer_group);
            return Err(Refused::new(response::CONSUMER_NOT_ONLINE, remark));
        };
        Ok(success(&ConsumerConnection {
            connection_set: group.clients.values().map(connection).collect(),
            consume_from_where: group.from_where,
            consume_type: group.consume_type,
            message_model: group.model,
            subscription_table: group.subscriptions.into_iter().map(|(topic, known)| (topic, known.data)).collect(),
        }))
    }

    pub(super) fn producers(&self, asked: &Request<'_>) -> Result<Response, Refused> {
        let header = ProducerGroup::decode(&asked.command.fields)?;
        let clients = self.0.clients.producers(header.producer_group);
        if clients.is_empty() {
            return Err(Refused::system(format!("the producer group[{}] not exist", header.producer_group)));
        }
        Ok(success(&ProducerConnection { connection_set: clients.iter().map(connection).collect() }))
    }

    pub(super) fn all_producers(&self) -> Response {
        let (now_ms, now) = (self.0.now_ms(), self.0.env.clock.monotonic());
        let info = |client: Client| ProducerInfo {
            last_update_timestamp: now_ms - now.saturating_sub(client.seen).as_millis() as i64,
            client_id: client.id,
            language: client.language.name().to_owned(),
            remote_ip: format!("/{}", client.channel.peer()),
            version: client.version,
        };
        let all = self.0.clients.all_producers().into_iter();
        success(&ProducerTable {
            data: all.map(|(group, clients)| (group, clients.into_iter().map(info).collect())).collect(),
        })
    }

    pub(super) fn running_info(&self, asked: &Request<'_>) -> Result<Answer, Refused> {
        let header = ConsumerRunningInfo::decode(&asked.command.fields)?;
        let call = passed_on(asked);
        self.ask(header.consumer_group, header.client_id, call)
    }

    /// The message goes along: the client has none of it.
    pub(super) fn consume_directly(&self, asked: &Request<'_>) -> Result<Answer, Refused> {
        let header = ConsumeMessageDirectly::decode(&asked.command.fields)?;
        let id = header.message_id.unwrap_or_default();
        let Some(place) = OffsetMessageId::parse(id) else {
            return Err(Refused::system(format!("{id:?} is not the id of a place in a log")));
        };
        let Some(record) = self.0.store.record_at(place.offset).map_err(unreadable)? else {
            return Err(Refused::system(format!("there is no message at {id}")));
        };
        let mut call = passed_on(asked).with_body(record);
        call.passed_on.retain(|(key, _)| key != "brokerName");
        let call = call.with("brokerName", self.0.config().broker_name.clone());
        self.ask(header.consumer_group, header.client_id.unwrap_or_default(), call)
    }

    fn ask(&self, group: &str, id: &str, call: Call) -> Result<Answer, Refused> {
        let member = self.0.clients.consumer_channels(group).into_iter().find(|client| client.id == id);
        let Some(client) = member else {
            return Err(Refused::system(format!("The Consumer <{group}> <{id}> not online")));
        };
        if client.version < ANSWERS_SINCE {
            return Err(Refused::system(format!(
                "The Consumer <{id}> Version <{}> too low to finish, please upgrade it to V3_1_8_SNAPSHOT",
                client.version
            )));
        }
        let (group, id) = (group.to_owned(), id.to_owned());
        Ok(Answer::Later(Box::pin(async move {
            Some(match client.channel.call(call, PASSED_ON_WAIT).await {
                Ok(answered) => pass_back(answered),
                Err(error @ CallError::TimedOut { .. }) => {
                    let remark = format!("consumer <{group}> <{id}> Timeout: {error}");
                    Response::error(response::CONSUME_MSG_TIMEOUT, remark)
                }
                Err(error) => {
                    let remark = format!("invoke consumer <{group}> <{id}> Exception: {error}");
                    Response::error(response::SYSTEM_ERROR, remark)
                }
            })
        })))
    }

    /// Where each consumer of the group, or the one that is named, says it stands.
    pub(super) fn consumer_status(&self, asked: &Request<'_>) -> Result<Answer, Refused> {
        let header = ConsumerStatus::decode(&asked.command.fields)?;
        let mut clients = self.0.clients.consumer_channels(header.group);
        if clients.is_empty() {
            let remark = format!("No Any Consumer online in the consumer group: [{}]", header.group);
            return Err(Refused::system(remark));
        }
        if let Some(old) = clients.iter().find(|client| client.version < RESETS_SINCE) {
            return Err(too_old(old.version));
        }
        if let Some(id) = filled(header.client_address) {
            clients.retain(|client| client.id == id);
        }
        let (topic, group) = (header.topic.to_owned(), header.group.to_owned());
        Ok(Answer::Later(Box::pin(async move {
            let mut consumer_table = BTreeMap::new();
            for client in clients {
                let call = Call::new(request::GET_CONSUMER_STATUS_FROM_CLIENT)
                    .with("topic", topic.clone())
                    .with("group", group.clone());
                let table = match client.channel.call(call, STATUS_WAIT).await {
                    Ok(answered) if answered.code == response::SUCCESS && !answered.body.is_empty() => {
                        ConsumerStatusTable::decode(&answered.body).map_err(|error| error.to_string())
                    }
                    Ok(answered) => Err(answered.remark.unwrap_or_else(|| format!("code {}", answered.code))),
                    Err(error) => Err(error.to_string()),
                };
                match table {
                    Ok(table) => drop(consumer_table.insert(client.id, table.message_queue_table)),
                    Err(error) => tracing::warn!("consumer {} of {group} does not say where it is: {error}", client.id),
                }
            }
            Some(success(&ConsumerStatusTable { consumer_table, message_queue_table: BTreeMap::new() }))
        })))
    }
}

pub(super) fn too_old(version: i32) -> Refused {
    Refused::system(format!("the client does not support this feature. version={version}"))
}

fn connection(client: &Client) -> Connection {
    Connection {
        client_addr: client.channel.peer().to_string(),
        client_id: client.id.clone(),
        language: client.language.name().to_owned(),
        version: client.version,
    }
}

/// The request as it came, for the client.
fn passed_on(asked: &Request<'_>) -> Call {
    let mut call = Call::new(asked.command.code).with_body(asked.command.body.to_vec());
    call.passed_on = asked.command.fields.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    call
}

/// The client's answer as it came, for the asker.
fn pass_back(answered: Answered) -> Response {
    let mut response = Response::new(answered.code).with_body(answered.body);
    response.remark = answered.remark.map(Into::into);
    response.passed_on = answered.fields.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    response
}

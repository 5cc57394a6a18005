//! Replies of request-reply (324, 325): pushed to the client that asked (326), and stored in the cluster's reply topic.
//! Source of the order of things: ReplyMessageProcessor of Apache RocketMQ 4.9.7.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use crate::{
    broker::core::Core,
    model::{
        OffsetMessageId, OwnedMessage,
        properties::{Properties, name},
    },
    protocol::{
        code::{request, response},
        command::{Call, Response},
        header::{PushReply, SendMessage},
    },
    remoting::{Answer, Processor, Request},
};

use super::{Refused, send};

/// How long the client that asked may take to answer the push (Broker2Client.callClient).
const PUSH_WAIT: Duration = Duration::from_secs(10);

pub struct Reply(pub Arc<Core>);

impl Processor for Reply {
    fn process(&self, asked: &Request<'_>) -> Answer {
        match self.reply(asked) {
            Ok(answer) => answer,
            Err(refused) => Answer::Now(self.sends().about_region(refused.into_response())),
        }
    }
}

/// A reply whose checks are done, owned: it waits for the client that asked.
struct Arrived {
    message: OwnedMessage,
    push: Call,
    to: Result<String, Refused>,
}

impl Reply {
    fn sends(&self) -> send::Send {
        send::Send(self.0.clone())
    }

    fn reply(&self, asked: &Request<'_>) -> Result<Answer, Refused> {
        let core = &self.0;
        let header = SendMessage::decode(asked.command.code, &asked.command.fields)?;
        let config = core.config();
        send::check_accepts(core, &config)?;
        send::check_name(header.topic)?;
        let topic = match core.topics.find(header.topic) {
            Some(topic) => topic,
            None => self.sends().create(&header)?,
        };
        let queue_id = self.sends().check_topic(&config, asked, &header, &topic)?;
        let arrived = self.arrived(asked, &header, queue_id);
        let me = Reply(core.clone());
        Ok(Answer::Later(Box::pin(async move {
            let mut response = match me.push(arrived.push, arrived.to).await {
                Ok(()) => Response::success(),
                Err(refused) => refused.into_response(),
            };
            let is_pushed = response.code == response::SUCCESS;
            let mut place = is_pushed.then(|| (String::from("0"), 0));
            if me.0.config().store_reply_message_enable {
                match me.store(&topic, &arrived.message).await {
                    Ok(stored) => place = Some(stored),
                    // RocketMQ says nothing of it either: the reply has arrived, or the remark tells why not.
                    Err(reason) => tracing::warn!("a reply to {} was not stored: {reason}", arrived.message.topic),
                }
            }
            if let Some((message_id, queue_offset)) = place {
                response = response
                    .with("msgId", message_id)
                    .with("queueId", arrived.message.queue_id as i32)
                    .with("queueOffset", queue_offset);
            }
            Some(me.sends().about_region(response))
        })))
    }

    fn arrived(&self, asked: &Request<'_>, header: &SendMessage<'_>, queue_id: u32) -> Arrived {
        let core = &self.0;
        let mut properties = Properties::parse(header.properties.unwrap_or_default().as_bytes());
        let to = match properties.get(name::REPLY_TO_CLIENT) {
            Some(client) => Ok(client.to_owned()),
            None => Err(Refused::system("reply message properties[REPLY_TO_CLIENT] is null")),
        };
        let message = OwnedMessage {
            topic: header.topic.to_owned(),
            queue_id,
            flag: header.flag,
            // RocketMQ tells the asker, but does not store it.
            sys_flag: 0,
            born_timestamp: header.born_timestamp,
            born_host: asked.channel.peer(),
            store_host: core.store_host,
            reconsume_times: header.reconsume_times.unwrap_or(0),
            prepared_offset: 0,
            body: asked.command.body.to_vec(),
            properties: header.properties.unwrap_or_default().as_bytes().to_vec(),
        };
        let now = core.now_ms();
        properties.set(name::PUSH_REPLY_TIME, now.to_string());
        let push = self.call(header, &message, &properties.render(), now);
        Arrived { message, push, to }
    }

    fn call(&self, header: &SendMessage<'_>, message: &OwnedMessage, properties: &str, now: i64) -> Call {
        let host = |host: SocketAddr| host.to_string();
        let pushed = PushReply {
            producer_group: header.producer_group,
            topic: header.topic,
            default_topic: header.default_topic,
            default_topic_queue_nums: header.default_topic_queue_nums,
            queue_id: header.queue_id,
            sys_flag: header.sys_flag,
            born_timestamp: header.born_timestamp,
            flag: header.flag,
            properties: Some(properties),
            reconsume_times: header.reconsume_times,
            unit_mode: header.unit_mode,
            born_host: &host(message.born_host),
            store_host: &host(message.store_host),
            store_timestamp: now,
        };
        let mut call = Call::new(request::PUSH_REPLY_MESSAGE_TO_CLIENT).with_body(message.body.clone());
        pushed.write(&mut call.fields);
        call
    }

    async fn push(&self, push: Call, to: Result<String, Refused>) -> Result<(), Refused> {
        let client = to?;
        let Some(asker) = self.0.clients.producer_by_id(&client) else {
            return Err(Refused::system(format!("push reply message fail, channel of <{client}> not found.")));
        };
        match asker.channel.call(push, PUSH_WAIT).await {
            Ok(answered) if answered.code == response::SUCCESS => Ok(()),
            Ok(answered) => {
                tracing::warn!("{client} refused a reply with code {}: {:?}", answered.code, answered.remark);
                Err(failed(&client))
            }
            Err(error) => {
                tracing::warn!("a reply to {client} was not delivered: {error}");
                Err(failed(&client))
            }
        }
    }

    async fn store(
        &self,
        topic: &crate::broker::topics::Topic,
        message: &OwnedMessage,
    ) -> Result<(String, i64), String> {
        self.0.topics.durable(topic).await.map_err(|failed| failed.to_string())?;
        let stored = self.0.store.put_kept(&message.borrow()).await.map_err(|error| error.to_string())?;
        let id = OffsetMessageId { store_host: self.0.store_host, offset: stored.offset };
        Ok((id.to_string(), stored.queue_offset.0 as i64))
    }
}

/// The missing blank is RocketMQ's.
fn failed(client: &str) -> Refused {
    Refused::system(format!("push reply message to {client}fail."))
}

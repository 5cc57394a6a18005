//! What operators' tools ask for: topics, groups, positions, who is connected, configuration, figures. Serves every code
//! that no other processor does; one that nobody serves is answered with a sentence.

mod client;
mod config;
mod group;
mod lag;
mod offset;
mod reset;
mod runtime;
mod topic;
mod transaction;

pub(crate) use runtime::earliest_stored;

use std::{io, sync::Arc};

use crate::{
    broker::{
        core::Core,
        stats::{Made, Making},
    },
    protocol::{
        body::{Body, MessageQueue},
        code::{self, request, response},
        command::Response,
    },
    remoting::{Answer, Processor, Request},
};

use super::{Refused, answer};

pub struct Admin(pub Arc<Core>);

impl Processor for Admin {
    fn process(&self, asked: &Request<'_>) -> Answer {
        answer(self.serve(asked))
    }
}

impl Admin {
    fn serve(&self, asked: &Request<'_>) -> Result<Answer, Refused> {
        let response = match asked.command.code {
            request::UPDATE_AND_CREATE_TOPIC => return self.create_topic(asked),
            request::UPDATE_AND_CREATE_TOPIC_LIST => return self.create_topics(asked),
            request::DELETE_TOPIC_IN_BROKER => return self.delete_topic(asked),
            request::GET_ALL_TOPIC_CONFIG => self.all_topics(),
            request::GET_TOPIC_CONFIG => self.topic(asked)?,
            request::GET_SYSTEM_TOPIC_LIST_FROM_BROKER => self.system_topics(),
            request::GET_TOPIC_STATS_INFO => self.topic_stats(asked)?,
            request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP => return self.create_group(asked),
            request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST => return self.create_groups(asked),
            request::DELETE_SUBSCRIPTIONGROUP => return self.delete_group(asked),
            request::GET_ALL_SUBSCRIPTIONGROUP_CONFIG => self.all_groups(),
            request::GET_SUBSCRIPTIONGROUP_CONFIG => self.group(asked)?,
            request::QUERY_TOPIC_CONSUME_BY_WHO => self.groups_of_topic(asked)?,
            request::QUERY_TOPICS_BY_CONSUMER => self.topics_of_group(asked)?,
            request::QUERY_SUBSCRIPTION_BY_CONSUMER => self.subscription(asked)?,
            request::GET_CONSUMER_CONNECTION_LIST => self.consumers(asked)?,
            request::GET_PRODUCER_CONNECTION_LIST => self.producers(asked)?,
            request::GET_ALL_PRODUCER_INFO => self.all_producers(),
            request::GET_CONSUMER_RUNNING_INFO => return self.running_info(asked),
            request::CONSUME_MESSAGE_DIRECTLY => return self.consume_directly(asked),
            request::INVOKE_BROKER_TO_GET_CONSUMER_STATUS => return self.consumer_status(asked),
            request::INVOKE_BROKER_TO_RESET_OFFSET => self.reset_offset(asked)?,
            request::GET_CONSUME_STATS => self.consume_stats(asked)?,
            request::GET_BROKER_CONSUME_STATS => self.broker_consume_stats(asked)?,
            request::QUERY_CONSUME_TIME_SPAN => self.time_spans(asked)?,
            request::QUERY_CORRECTION_OFFSET => self.correction_offsets(asked)?,
            request::CLONE_GROUP_OFFSET => self.clone_offsets(asked)?,
            request::RESUME_CHECK_HALF_MESSAGE => return self.check_half_again(asked),
            request::QUERY_CONSUME_QUEUE => self.consume_queue(asked)?,
            request::GET_BROKER_RUNTIME_INFO => self.runtime()?,
            request::VIEW_BROKER_STATS_DATA => self.stats(asked)?,
            request::GET_BROKER_CONFIG => self.config(),
            request::UPDATE_BROKER_CONFIG => return self.update_config(asked),
            request::GET_ALL_MESSAGE_REQUEST_MODE => message_request_modes(),
            request::GET_ALL_CONSUMER_OFFSET => success(&self.0.offsets.snapshot()),
            request::GET_ALL_DELAY_OFFSET => self.delay_offsets(),
            request::CLEAN_EXPIRED_CONSUMEQUEUE => self.clean_queues()?,
            request::DELETE_EXPIRED_COMMITLOG => self.delete_expired(),
            request::CLEAN_UNUSED_TOPIC => return Ok(self.clean_unused_topics()),
            code => return Err(unserved(code)),
        };
        Ok(Answer::Now(response))
    }

    /// Notes how long it takes to make `what`, however that ends.
    fn timed(&self, what: Made, is_system: bool, made: Result<Answer, Refused>) -> Result<Answer, Refused> {
        let core = self.0.clone();
        let began = core.env.clock.monotonic();
        let note = move |is_done: bool| {
            let took = core.env.clock.monotonic() - began;
            core.stats.made(Making { what, is_system, is_done }, took);
        };
        match made {
            Ok(Answer::Later(answered)) => Ok(Answer::Later(Box::pin(async move {
                let response = answered.await;
                note(response.as_ref().is_some_and(|response| response.code == response::SUCCESS));
                response
            }))),
            other => {
                note(other.is_ok());
                other
            }
        }
    }

    fn queue_of(&self, topic: &str, queue_id: i32) -> MessageQueue {
        MessageQueue { broker_name: self.0.config().broker_name.clone(), queue_id, topic: topic.to_owned() }
    }

    /// One past the last message of the queue; 0 for a queue that is none.
    fn max_of(&self, topic: &str, queue_id: i32) -> i64 {
        u32::try_from(queue_id).map_or(0, |queue| self.0.store.max_offset(topic, queue).0 as i64)
    }

    fn min_of(&self, topic: &str, queue_id: i32) -> i64 {
        u32::try_from(queue_id).map_or(0, |queue| self.0.store.min_offset(topic, queue).0 as i64)
    }

    /// When the message at `offset` was stored; `None` if there is none.
    fn stored_at(&self, topic: &str, queue_id: i32, offset: i64) -> Result<Option<i64>, Refused> {
        match (u32::try_from(queue_id), u64::try_from(offset)) {
            (Ok(queue), Ok(offset)) => {
                self.0.store.store_timestamp(topic, queue, crate::model::QueueOffset(offset)).map_err(unreadable)
            }
            _ => Ok(None),
        }
    }
}

fn success(body: &impl Body) -> Response {
    Response::success().with_body(body.encode())
}

/// 402: every group pulls, for POP is not served.
fn message_request_modes() -> Response {
    Response::success().with_body(&br#"{"messageRequestModeMap":{}}"#[..])
}

fn unreadable(error: io::Error) -> Refused {
    Refused::system(format!("the store cannot be read: {error}"))
}

/// Java sends an empty field where there is no value.
fn filled(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.trim().is_empty())
}

fn topic_unknown(topic: &str) -> Refused {
    Refused::new(response::TOPIC_NOT_EXIST, format!("topic[{topic}] not exist"))
}

/// What RocketMQ has and this broker has not says so; what nobody knows gets Java's words.
fn unserved(code: i32) -> Refused {
    // 4.9.7's codes for a failed change of its access lists: mqadmin knows them.
    let answered = match code {
        request::UPDATE_AND_CREATE_ACL_CONFIG => response::UPDATE_AND_CREATE_ACL_CONFIG_FAILED,
        request::DELETE_ACL_CONFIG => response::DELETE_ACL_CONFIG_FAILED,
        request::UPDATE_GLOBAL_WHITE_ADDRS_CONFIG => response::UPDATE_GLOBAL_WHITE_ADDRS_CONFIG_FAILED,
        _ => response::REQUEST_CODE_NOT_SUPPORTED,
    };
    let what = match code {
        request::UPDATE_AND_CREATE_ACL_CONFIG..=request::GET_BROKER_CLUSTER_ACL_CONFIG
        | request::AUTH_CREATE_USER..=request::AUTH_LIST_ACL => "access control is not served yet",
        request::GET_TIMER_CHECK_POINT | request::GET_TIMER_METRICS | request::SWITCH_TIMER_ENGINE => {
            "timer messages of RocketMQ 5 are not served yet; delay levels are"
        }
        request::QUERY_ASSIGNMENT | request::SET_MESSAGE_REQUEST_MODE => "POP consumption is not served yet",
        request::POP_MESSAGE..=request::POP_ROLLBACK | request::BATCH_ACK_MESSAGE => {
            "POP consumption is not served yet"
        }
        request::UPDATE_AND_CREATE_STATIC_TOPIC => "static topics are not served yet",
        request::UPDATE_COLD_DATA_FLOW_CTR_CONFIG..=request::SET_COMMITLOG_READ_MODE => {
            "flow control of cold data is not served yet"
        }
        request::NOTIFY_MIN_BROKER_ID_CHANGE..=request::RESET_MASTER_FLUSH_OFFSET
        | request::GET_BROKER_EPOCH_CACHE
        | request::NOTIFY_BROKER_ROLE_CHANGED => "replication is not served yet: this broker stands alone",
        request::CHECK_ROCKSDB_CQ_WRITE_PROGRESS | request::EXPORT_ROCKSDB_CONFIG_TO_JSON => {
            "queues and settings are kept in files, there is no RocksDB here"
        }
        request::UPDATE_AND_GET_GROUP_FORBIDDEN => "forbidding a topic to one group is not served yet",
        request::RECALL_MESSAGE => "recalling messages is not served yet",
        _ => "",
    };
    let remark = match (what, code::request::name(code)) {
        ("", _) => format!(" request type {code} not supported"),
        (what, Some(name)) => format!(" request type {code} not supported ({name}): {what}"),
        (what, None) => format!(" request type {code} not supported: {what}"),
    };
    Refused::new(answered, remark)
}

//! Where messages go that a group failed to consume: back to it through its retry topic, or to its dead letters.

use std::sync::Arc;

use super::{
    core::Core,
    topics::{CreateError, DEAD_LETTER_PREFIX, Topic},
};
use crate::protocol::body::{SubscriptionGroupConfig, TopicConfig, topic::perm};

/// Clients below it (3.4.9) say nothing about how often their group tries (MQVersion).
const SAYS_MAX_RECONSUME_TIMES: i32 = 121;
/// Queues of a dead-letter topic.
const DEAD_LETTER_QUEUES: i32 = 1;

/// How often the group tries a message before it is a dead letter: what the request says, or the group's own setting.
pub fn reconsume_times_max(group: &SubscriptionGroupConfig, client_version: i32, asked: Option<i32>) -> i32 {
    match asked {
        Some(asked) if client_version >= SAYS_MAX_RECONSUME_TIMES => asked,
        _ => group.retry_max_times,
    }
}

/// A retry or dead-letter topic, made if it is not there; readable and writable.
pub fn topic_of(core: &Core, name: String, queues: i32, sys_flag: i32) -> Result<Arc<Topic>, CreateError> {
    if let Some(topic) = core.topics.find(&name) {
        return Ok(topic);
    }
    let mut config = TopicConfig::new(name, queues, perm::READ | perm::WRITE);
    config.topic_sys_flag = sys_flag;
    let (topic, _) = core.topics.put(config, core.now_ms(), core.config().topics_max)?;
    core.registration.request();
    Ok(topic)
}

/// The topic of the group's dead letters.
pub fn dead_letters_of(core: &Core, group: &str) -> Result<Arc<Topic>, CreateError> {
    topic_of(core, format!("{DEAD_LETTER_PREFIX}{group}"), DEAD_LETTER_QUEUES, 0)
}

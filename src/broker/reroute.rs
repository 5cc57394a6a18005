//! Where a message waits before it goes where it was sent: halves of transactions in their topic, delayed messages in
//! the schedule topic, each with its real place among its properties. Pure; knows neither store nor clients.
//! (Source: TransactionalMessageBridge.parseHalfMessageInner and CommitLog.asyncPutMessage of Apache RocketMQ 4.9.7.)

use std::borrow::Cow;

use super::topics::{HALF_TOPIC, SCHEDULE_TOPIC};
use crate::model::{
    message::sys_flag,
    properties::{Properties, name},
};

/// What rerouting changes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft<'a> {
    pub topic: Cow<'a, str>,
    pub queue_id: u32,
    pub sys_flag: i32,
    /// Without WAIT, which a message that stays where it was sent is stored without.
    pub properties: Properties<'a>,
    /// The value of WAIT. RocketMQ stores it with every message that is rerouted, so it returns to the properties then.
    pub wait: Option<Cow<'a, str>>,
}

/// A DELAY that is no number. RocketMQ refuses the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the property DELAY is \"{value}\", which is no delay level: it must be a number")]
pub struct NotALevel {
    pub value: String,
}

/// Whether the message is the half of a transaction.
pub fn is_half(properties: &Properties<'_>) -> bool {
    properties.get(name::TRANSACTION_PREPARED).is_some_and(|flag| flag.eq_ignore_ascii_case("true"))
}

/// The delay level that the message wants, from 1; `None` if it is not to be delayed.
pub fn level(properties: &Properties<'_>) -> Result<Option<i32>, NotALevel> {
    let Some(value) = properties.get(name::DELAY) else { return Ok(None) };
    let level: i32 = value.parse().map_err(|_| NotALevel { value: value.to_owned() })?;
    Ok((level > 0).then_some(level))
}

impl Draft<'_> {
    /// Both ways, in RocketMQ's order: a half with a delay waits in the schedule topic to become a half.
    pub fn reroute(&mut self, levels: usize) -> Result<(), NotALevel> {
        self.reroute_half();
        self.reroute_delayed(levels)
    }

    /// A half waits in the half topic, as a message of no transaction: so it gets a place in that topic's queue.
    pub fn reroute_half(&mut self) {
        if is_half(&self.properties) && !plant!(HalfShownToConsumers) {
            self.send_to(HALF_TOPIC, 0);
            // Only the broker says which transaction a half is of; a message that is sent on may carry another's.
            self.properties.remove(name::PREPARED_QUEUE_OFFSET);
            self.sys_flag &= !sys_flag::TRANSACTION_MASK;
        }
    }

    /// A message with a delay level (of `levels` that there are) waits in that level's queue of the schedule topic.
    pub fn reroute_delayed(&mut self, levels: usize) -> Result<(), NotALevel> {
        let transaction = self.sys_flag & sys_flag::TRANSACTION_MASK;
        if transaction != 0 && transaction != sys_flag::TRANSACTION_COMMIT {
            return Ok(());
        }
        let Some(level) = level(&self.properties)? else { return Ok(()) };
        if levels == 0 {
            return Ok(());
        }
        let level_max = i32::try_from(levels).unwrap_or(i32::MAX);
        if level > level_max {
            self.properties.set(name::DELAY, level_max.to_string());
        }
        self.send_to(SCHEDULE_TOPIC, level.min(level_max) as u32 - 1);
        Ok(())
    }

    fn send_to(&mut self, topic: &'static str, queue_id: u32) {
        if let Some(wait) = self.wait.take() {
            self.properties.set(name::WAIT, wait);
        }
        let real = std::mem::replace(&mut self.topic, Cow::Borrowed(topic)).into_owned();
        self.properties.set(name::REAL_TOPIC, real);
        self.properties.set(name::REAL_QUEUE_ID, self.queue_id.to_string());
        self.queue_id = queue_id;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Properties with `=` and `;` for the separators.
    fn check(properties: &str, sys_flag: i32, expect: Result<(&str, u32, i32, &str), &str>) {
        let raw = |text: &str| text.replace('=', "\u{1}").replace(';', "\u{2}");
        let text = raw(properties);
        let mut properties = Properties::parse(text.as_bytes());
        let wait = properties.remove(name::WAIT);
        let mut draft = Draft { topic: "orders".into(), queue_id: 3, sys_flag, properties, wait };
        match (draft.reroute(18), expect) {
            (Ok(()), Ok((topic, queue, sys_flag, stored))) => {
                assert_eq!((&*draft.topic, draft.queue_id, draft.sys_flag), (topic, queue, sys_flag), "{text:?}");
                let mut stored: Vec<String> = stored.split(';').map(raw).collect();
                let rendered = draft.properties.render();
                let mut rendered: Vec<&str> = rendered.split('\u{2}').collect();
                stored.sort();
                rendered.sort_unstable();
                assert_eq!(rendered, stored, "{text:?}");
            }
            (Err(error), Err(value)) => assert_eq!(error.value, value),
            (outcome, expect) => panic!("{text:?}: {outcome:?}, not {expect:?}"),
        }
    }

    #[test]
    fn messages_wait_where_java_lets_them_wait() {
        check("a=1;WAIT=true", 1, Ok(("orders", 3, 1, "a=1")));
        check("DELAY=0", 0, Ok(("orders", 3, 0, "DELAY=0")));
        check("DELAY=-1", 0, Ok(("orders", 3, 0, "DELAY=-1")));
        check("DELAY=soon", 0, Err("soon"));
        check(
            "DELAY=3;WAIT=true",
            1,
            Ok(("SCHEDULE_TOPIC_XXXX", 2, 1, "DELAY=3;WAIT=true;REAL_TOPIC=orders;REAL_QID=3")),
        );
        check("DELAY=99", 0, Ok(("SCHEDULE_TOPIC_XXXX", 17, 0, "DELAY=18;REAL_TOPIC=orders;REAL_QID=3")));
        check("DELAY=2", 8, Ok(("SCHEDULE_TOPIC_XXXX", 1, 8, "DELAY=2;REAL_TOPIC=orders;REAL_QID=3")));
        check("DELAY=2", 4, Ok(("orders", 3, 4, "DELAY=2")));
        check(
            "TRAN_MSG=True;WAIT=false",
            5,
            Ok(("RMQ_SYS_TRANS_HALF_TOPIC", 0, 1, "TRAN_MSG=True;WAIT=false;REAL_TOPIC=orders;REAL_QID=3")),
        );
        check("TRAN_MSG=yes", 4, Ok(("orders", 3, 4, "TRAN_MSG=yes")));
        check(
            "TRAN_MSG=true;DELAY=1",
            4,
            Ok(("SCHEDULE_TOPIC_XXXX", 0, 0, "TRAN_MSG=true;DELAY=1;REAL_TOPIC=RMQ_SYS_TRANS_HALF_TOPIC;REAL_QID=0")),
        );
    }
}

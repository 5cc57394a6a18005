//! Which properties are stored of what clients send. Pure; where a message goes is `reroute`'s.
//! (Source: SendMessageProcessor and MessageExtEncoder of Apache RocketMQ 4.9.7; a running one for every row of
//! `tests/golden/properties/stored.tsv`.)

use std::borrow::Cow;

use crate::{
    model::{
        OffsetMessageId,
        properties::{self, Properties, name},
    },
    store::record::Record,
};

/// Of a message that is sent: CLUSTER in, WAIT out; and WAIT's value, which returns if the message is rerouted.
pub fn of_send<'a>(properties: Option<&'a str>, cluster: &'a str) -> (Properties<'a>, Option<Cow<'a, str>>) {
    let mut properties = Properties::parse_text(properties.unwrap_or_default());
    properties.set(name::CLUSTER, cluster);
    let wait = properties.remove(name::WAIT);
    (properties, wait)
}

/// Of the message of `record`, which is sent back to be consumed again after a delay of `level`; 0 for a dead letter.
pub fn of_send_back<'r>(record: &Record<'r>, level: i32) -> Properties<'r> {
    let message = &record.message;
    let mut properties = Properties::parse(message.properties);
    if plant!(RetryLosesProperty) {
        properties.remove(name::KEYS);
    }
    if properties.get(name::RETRY_TOPIC).is_none() {
        properties.set(name::RETRY_TOPIC, message.topic);
    }
    properties.set(name::WAIT, "false");
    properties.set(name::DELAY, level.to_string());
    if properties.get(name::ORIGIN_MESSAGE_ID).is_none_or(|id| id.trim().is_empty()) {
        let id = OffsetMessageId { store_host: message.store_host, offset: record.log_offset };
        properties.set(name::ORIGIN_MESSAGE_ID, id.to_string());
    }
    properties
}

/// What a batch as a whole says; it stands behind each item's own properties.
pub struct OfBatch<'a> {
    properties: Properties<'a>,
    text: String,
    without_key: String,
}

impl<'a> OfBatch<'a> {
    pub fn new(properties: Option<&'a str>, cluster: &str) -> Self {
        let mut properties = Properties::parse_text(properties.unwrap_or_default());
        properties.set(name::CLUSTER, cluster.to_owned());
        let text = properties.render();
        let mut keyless = properties.clone();
        let without_key = if keyless.remove(name::UNIQUE_KEY).is_some() { keyless.render() } else { text.clone() };
        OfBatch { properties, text, without_key }
    }

    pub fn properties(&self) -> &Properties<'a> {
        &self.properties
    }

    /// The item's own text as it came, and the batch's. An item keeps its own unique key: 4.9.7 lets the batch's stand
    /// behind it, and all items arrive with one id.
    pub fn of_item(&self, own: &[u8]) -> Vec<u8> {
        let outer = if properties::get(own, name::UNIQUE_KEY).is_some() { &self.without_key } else { &self.text };
        let mut stored = Vec::with_capacity(own.len() + 1 + outer.len());
        stored.extend_from_slice(own);
        if own.last().is_some_and(|last| *last != properties::ENTRY_END) {
            stored.push(properties::ENTRY_END);
        }
        stored.extend_from_slice(outer.as_bytes());
        stored
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        broker::reroute::Draft,
        model::{LogOffset, Message, QueueOffset},
    };

    const CLUSTER: &str = "DefaultCluster";
    const LEVELS: usize = 5;

    fn check(row: &str) {
        let raw = |text: &str| text.replace('=', "\u{1}").replace(';', "\u{2}");
        let columns: Vec<&str> = row.split('\t').collect();
        let [kind, queue, sys_flag, sent, other, topic, stored_queue, stored_flag, stored] = columns[..] else {
            panic!("not nine columns: {row}")
        };
        let (text, outer) = (raw(sent), raw(other));
        let number = |text: &str| text.parse::<i32>().unwrap();
        let message = Message {
            topic: "T",
            queue_id: 2,
            flag: 0,
            sys_flag: number(sys_flag),
            born_timestamp: 0,
            born_host: "127.0.0.1:1".parse().unwrap(),
            store_host: "127.0.0.1:27911".parse().unwrap(),
            reconsume_times: 0,
            prepared_offset: 0,
            body: b"",
            properties: text.as_bytes(),
        };
        let (size, store_timestamp) = (0, 0);
        let record = Record { size, queue_offset: QueueOffset(0), log_offset: LogOffset(42), store_timestamp, message };
        let (to, (properties, wait)) = match kind {
            "send" => ("T", of_send(Some(&text), CLUSTER)),
            "back" if other == "0" => ("%DLQ%G", (of_send_back(&record, 0), None)),
            "back" => ("%RETRY%G", (of_send_back(&record, number(other)), None)),
            _ => {
                let written = OfBatch::new(Some(&outer), CLUSTER).of_item(text.as_bytes());
                // Ours on purpose: an item keeps its own key.
                let expect =
                    if sent.contains("UNIQ_KEY") { stored.replace("UNIQ_KEY=9;", "") } else { stored.to_owned() };
                assert_eq!(String::from_utf8(written).unwrap(), raw(&expect), "{row}");
                return;
            }
        };
        let (queue_id, sys_flag) = (number(queue) as u32, message.sys_flag);
        let mut draft = Draft { topic: to.into(), queue_id, sys_flag, properties, wait };
        draft.reroute(LEVELS).unwrap();
        let place = (&*draft.topic, draft.queue_id as i32, draft.sys_flag);
        assert_eq!(place, (topic, number(stored_queue), number(stored_flag)), "{row}");
        assert_eq!(draft.properties.render(), raw(stored), "{row}");
    }

    #[test]
    fn properties_are_stored_as_java_stores_them() {
        let rows = include_str!("../../tests/golden/properties/stored.tsv").lines();
        assert_eq!(rows.map(check).count(), 67);
    }
}

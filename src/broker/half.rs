//! Half messages and what becomes of them, as records: the committed message, the op message, the half stored once more,
//! the one that is given up, the question to the producer. Pure over records; the layouts are 4.9.7's.

use std::{borrow::Cow, net::SocketAddr};

use super::{
    topics::{CHECK_MAX_TOPIC, HALF_OP_TOPIC, HALF_TOPIC},
    transaction::Half,
};
use crate::{
    model::{
        LogOffset, Message, OffsetMessageId, OwnedMessage, QueueOffset,
        message::sys_flag,
        properties::{self, Properties, name},
    },
    protocol::{code::request, command::Call, header::CheckTransactionState},
    store::record::{self, Record, Scan},
};

/// The group whose offsets tell how far half and op messages are done with.
pub const GROUP: &str = "CID_RMQ_SYS_TRANS";
/// All half messages stand in one queue, and so do the op messages.
pub const QUEUE: u32 = 0;
/// The tag of an op message.
const REMOVED: &str = "d";

/// The half message in `bytes`; `None` if they are no half message's.
pub fn read(bytes: &[u8]) -> Option<Record<'_>> {
    match record::scan(bytes, false) {
        Scan::Record(record) if record.message.topic == HALF_TOPIC => Some(record),
        _ => None,
    }
}

/// The records that stand one behind the other in `bytes`.
pub fn records(bytes: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let Scan::Record(record) = record::scan(rest, false) else { return None };
        rest = &rest[record.size as usize..];
        Some(record)
    })
}

/// The first place of the transaction: a half that was stored again says it.
pub fn root_of(record: &Record<'_>) -> QueueOffset {
    let told = properties::get(record.message.properties, name::PREPARED_QUEUE_OFFSET);
    let root = told.and_then(|text| text.parse().ok()).filter(|root| *root < record.queue_offset.0);
    root.map_or(record.queue_offset, QueueOffset)
}

/// What is remembered of an open half message.
pub fn summary(record: &Record<'_>) -> Half {
    let message = &record.message;
    let immunity = properties::get(message.properties, name::CHECK_IMMUNITY_TIME);
    // RocketMQ takes -1, and what is no number, for "as all others".
    let immune_s = immunity.and_then(|text| text.parse::<i64>().ok()).filter(|seconds| *seconds != -1);
    Half {
        root: root_of(record),
        place: record.queue_offset,
        log: record.log_offset,
        born_ms: message.born_timestamp,
        immune_ms: immune_s.map(|seconds| seconds.saturating_mul(1_000)),
        is_restored: false,
    }
}

/// How often the producer was asked about it.
pub fn check_times(record: &Record<'_>) -> u32 {
    let told = properties::get(record.message.properties, name::TRANSACTION_CHECK_TIMES);
    told.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Topic and queue that the producer meant.
pub fn destination<'a>(record: &Record<'a>) -> Option<(&'a str, u32)> {
    let text = record.message.properties;
    let queue = properties::get(text, name::REAL_QUEUE_ID)?.parse().ok().filter(|queue| *queue <= i32::MAX as u32)?;
    Some((properties::get(text, name::REAL_TOPIC)?, queue))
}

/// The half's properties as producers and consumers see them: without what only we keep there.
pub fn shown_properties<'a>(half: &Message<'a>) -> Cow<'a, [u8]> {
    if properties::get(half.properties, name::PREPARED_QUEUE_OFFSET).is_none() {
        return Cow::Borrowed(half.properties);
    }
    let mut text = Properties::parse(half.properties);
    text.remove(name::PREPARED_QUEUE_OFFSET);
    Cow::Owned(text.render().into_bytes())
}

/// The message that consumers get, with `properties`: the half's as they are shown, the rest unchanged, as in 4.9.7.
pub fn committed<'a>(half: &Record<'a>, properties: &'a [u8]) -> Option<Message<'a>> {
    let (topic, queue_id) = destination(half)?;
    let flags = half.message.sys_flag & !sys_flag::TRANSACTION_MASK | sys_flag::TRANSACTION_COMMIT;
    Some(Message { topic, queue_id, sys_flag: flags, prepared_offset: half.log_offset.0, properties, ..half.message })
}

/// "The half at `place` is done with."
pub fn op(place: QueueOffset, host: SocketAddr, now_ms: i64) -> OwnedMessage {
    let mut text = Properties::default();
    text.set(name::WAIT, "true");
    text.set(name::TAGS, REMOVED);
    OwnedMessage {
        topic: HALF_OP_TOPIC.to_owned(),
        queue_id: QUEUE,
        flag: 0,
        sys_flag: 0,
        born_timestamp: now_ms,
        born_host: host,
        store_host: host,
        reconsume_times: 0,
        prepared_offset: 0,
        body: place.to_string().into_bytes(),
        properties: text.render().into_bytes(),
    }
}

/// The places that an op message names: 4.9.7 writes one, 5.x several with commas.
pub fn named_by<'a>(op: &Record<'a>) -> impl Iterator<Item = QueueOffset> + use<'a> {
    let text = str::from_utf8(op.message.body).unwrap_or_default();
    text.split(',').filter_map(|place| place.trim().parse().ok()).map(QueueOffset)
}

/// The half once more, for its producer is asked about it (`check_times`, if it is) and the queue moves on.
pub fn again(half: &Record<'_>, check_times: Option<u32>) -> OwnedMessage {
    let mut text = Properties::parse(half.message.properties);
    if let Some(times) = check_times {
        text.set(name::TRANSACTION_CHECK_TIMES, times.to_string());
    }
    text.set(name::PREPARED_QUEUE_OFFSET, root_of(half).to_string());
    OwnedMessage { properties: text.render().into_bytes(), ..half.message.to_owned() }
}

/// The half among those that were given up. Its root is kept as far as there is room: a late commit finds it by that.
pub fn given_up(half: &Record<'_>) -> OwnedMessage {
    let mut message = OwnedMessage { topic: CHECK_MAX_TOPIC.to_owned(), queue_id: 0, ..half.message.to_owned() };
    let mut text = Properties::parse(half.message.properties);
    text.set(name::PREPARED_QUEUE_OFFSET, root_of(half).to_string());
    let text = text.render().into_bytes();
    if text.len() <= crate::model::message::PROPERTIES_MAX_BYTES {
        message.properties = text;
    }
    message
}

/// One that was given up, as a half message of a new transaction that nobody was asked about.
pub fn reopened(given_up: &Record<'_>) -> OwnedMessage {
    let mut text = Properties::parse(given_up.message.properties);
    text.set(name::TRANSACTION_CHECK_TIMES, "0");
    text.remove(name::PREPARED_QUEUE_OFFSET);
    OwnedMessage {
        topic: HALF_TOPIC.to_owned(),
        queue_id: QUEUE,
        properties: text.render().into_bytes(),
        ..given_up.message.to_owned()
    }
}

/// "What became of it?": the half that stands at `place` and `log` of the store, as its producer sent it.
pub fn question(half: &Message<'_>, place: QueueOffset, log: LogOffset, store_timestamp: i64) -> Option<Call> {
    let queue = properties::get(half.properties, name::REAL_QUEUE_ID)?.parse().ok()?;
    let topic = properties::get(half.properties, name::REAL_TOPIC)?;
    let properties = shown_properties(half);
    let sent = Message { topic, queue_id: queue, properties: &properties, ..*half };
    let mut body = Vec::with_capacity(record::size_of(&sent) as usize);
    record::encode(&sent, record::body_crc(sent.body), place, log, store_timestamp, &mut body);
    let id = OffsetMessageId { store_host: half.store_host, offset: log }.to_string();
    let unique = properties::get(half.properties, name::UNIQUE_KEY);
    let header = CheckTransactionState {
        topic: None,
        tran_state_table_offset: place.0 as i64,
        commit_log_offset: log.0 as i64,
        message_id: unique,
        transaction_id: unique,
        offset_message_id: Some(&id),
    };
    let mut call = Call::new(request::CHECK_TRANSACTION_STATE).with_body(body);
    header.write(&mut call.fields);
    Some(call)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A half message as 4.9.7 stored it, with the committed and the op message that it made of it.
    const HALF: &str = "REAL_TOPIC\u{1}CapTopic\u{2}KEYS\u{1}k5\u{2}TRAN_MSG\u{1}true\u{2}UNIQ_KEY\u{1}FD00\u{2}CLUSTER\u{1}\
                        DefaultCluster\u{2}PGROUP\u{1}CapTran\u{2}WAIT\u{1}true\u{2}TAGS\u{1}TagA\u{2}REAL_QID\u{1}1";

    fn stored(properties: &str, place: u64) -> Record<'_> {
        let message = Message {
            topic: HALF_TOPIC,
            queue_id: QUEUE,
            flag: 3,
            sys_flag: 1,
            born_timestamp: 1_000,
            born_host: "127.0.0.1:42946".parse().unwrap(),
            store_host: "127.0.0.1:20980".parse().unwrap(),
            reconsume_times: 0,
            prepared_offset: 0,
            body: b"tran",
            properties: properties.as_bytes(),
        };
        let size = record::size_of(&message) as u32;
        Record { size, queue_offset: QueueOffset(place), log_offset: LogOffset(938), store_timestamp: 1_001, message }
    }

    #[test]
    fn what_becomes_of_a_half_is_what_4_9_7_makes_of_it() {
        let half = stored(HALF, 0);
        let committed = committed(&half, half.message.properties).unwrap();
        assert_eq!((committed.topic, committed.queue_id, committed.prepared_offset), ("CapTopic", 1, 938));
        assert_eq!((committed.sys_flag, committed.flag, committed.properties), (9, 3, HALF.as_bytes()));
        let op = op(QueueOffset(0), half.message.store_host, 5);
        assert_eq!((&*op.body, &*op.properties), (&b"0"[..], &b"WAIT\x01true\x02TAGS\x01d"[..]));
        let op = op.borrow();
        let op = Record { message: Message { body: b"7,,12,", ..op }, ..half };
        assert_eq!(named_by(&op).collect::<Vec<_>>(), [QueueOffset(7), QueueOffset(12)]);
    }

    #[test]
    fn a_half_that_is_stored_again_says_its_root() {
        let first = stored(HALF, 4);
        assert_eq!((root_of(&first), check_times(&first)), (QueueOffset(4), 0));
        let again = again(&first, Some(1));
        let text = String::from_utf8(again.properties).unwrap();
        let added = [(name::TRANSACTION_CHECK_TIMES, "1"), (name::PREPARED_QUEUE_OFFSET, "4")];
        let expect: Vec<_> = properties::entries(HALF.as_bytes()).chain(added).collect();
        assert!(expect.iter().all(|(name, value)| properties::get(text.as_bytes(), name) == Some(*value)), "{text}");
        assert_eq!(properties::entries(text.as_bytes()).count(), expect.len());
        let second = stored(&text, 9);
        assert_eq!((root_of(&second), check_times(&second)), (QueueOffset(4), 1));
        // A root behind the place is nobody's.
        assert_eq!(root_of(&stored(&text, 3)), QueueOffset(3));
        let given_up = given_up(&second);
        assert_eq!((&*given_up.topic, given_up.queue_id, given_up.sys_flag), (CHECK_MAX_TOPIC, 0, 1));
    }

    #[test]
    fn immunity_is_in_seconds() {
        let check = |value: &str, expect: Option<i64>| {
            let text = format!("CHECK_IMMUNITY_TIME_IN_SECONDS\u{1}{value}");
            assert_eq!(summary(&stored(&text, 0)).immune_ms, expect, "{value}");
        };
        check("60", Some(60_000));
        check("-1", None);
        check("soon", None);
        check("0", Some(0));
        check("9223372036854775807", Some(i64::MAX));
    }

    #[test]
    fn the_question_shows_the_message_as_it_was_sent() {
        let half = stored(HALF, 4);
        let call = question(&half.message, QueueOffset(9), LogOffset(0x7D2), 77).unwrap();
        let Scan::Record(shown) = record::scan(&call.body, true) else { panic!("not a record") };
        assert_eq!((shown.message.topic, shown.message.queue_id), ("CapTopic", 1));
        assert_eq!((shown.queue_offset, shown.log_offset), (QueueOffset(9), LogOffset(0x7D2)));
        let names: Vec<_> = call.fields.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["tranStateTableOffset", "commitLogOffset", "msgId", "transactionId", "offsetMsgId"]);
        assert!(question(&stored("a\u{1}b", 0).message, QueueOffset(0), LogOffset(0), 0).is_none());
    }
}

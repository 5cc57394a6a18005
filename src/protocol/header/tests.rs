//! Headers by rows: what is read, what is forgiven, what is refused and in which words.

use super::*;
use crate::protocol::{
    code::request,
    command::{self, Call, Serialization},
};

fn fields(pairs: &[(&str, &str)]) -> Fields<'static> {
    let mut fields = Fields::default();
    for (key, value) in pairs {
        fields.push((*key).into(), (*value).into());
    }
    fields.into_owned()
}

const V2: [(&str, &str); 13] = [
    ("a", "group"),
    ("b", "topic"),
    ("c", "TBW102"),
    ("d", "4"),
    ("e", "2"),
    ("f", "8"),
    ("g", "1700000000000"),
    ("h", "-1"),
    ("i", "UNIQ_KEY\u{1}x"),
    ("j", "3"),
    ("k", "false"),
    ("l", "16"),
    ("m", "true"),
];

#[test]
fn both_spellings_of_a_send_are_one() {
    let letters = fields(&V2);
    let send = SendMessage::decode(request::SEND_MESSAGE_V2, &letters).unwrap();
    assert_eq!((send.producer_group, send.topic, send.default_topic), ("group", "topic", "TBW102"));
    assert_eq!((send.default_topic_queue_nums, send.queue_id, send.sys_flag, send.flag), (4, 2, 8, -1));
    assert_eq!((send.born_timestamp, send.properties), (1700000000000, Some("UNIQ_KEY\u{1}x")));
    assert_eq!((send.reconsume_times, send.max_reconsume_times), (Some(3), Some(16)));
    assert!(send.batch && !send.unit_mode);
    for code in [request::SEND_MESSAGE, request::SEND_BATCH_MESSAGE] {
        let mut call = Call::new(code);
        if SendMessage::is_v2(code) {
            send.write_v2(&mut call.fields)
        } else {
            send.write_v1(&mut call.fields)
        }
        let mut frame = Vec::new();
        command::encode_call(&call, 1, false, Serialization::Json, &mut frame);
        let command = command::decode(&frame[4..]).unwrap();
        assert_eq!(SendMessage::decode(code, &command.fields).unwrap(), send);
    }
}

#[test]
fn what_a_send_may_lack() {
    let without =
        |names: &[&str]| -> Vec<(&str, &str)> { V2.into_iter().filter(|(name, _)| !names.contains(name)).collect() };
    let check = |pairs: &[(&str, &str)], expect: Result<(), &str>| {
        let fields = fields(pairs);
        let result =
            SendMessage::decode(request::SEND_MESSAGE_V2, &fields).map(|_| ()).map_err(|error| error.to_string());
        assert_eq!(result, expect.map_err(str::to_owned), "{pairs:?}");
    };
    check(&without(&["a", "c", "d", "i", "j", "k", "l", "m"]), Ok(()));
    check(&[], Ok(()));
    check(&without(&["e"]), Err("the request's header lacks the field queueId"));
    check(&without(&["g"]), Err("the request's header lacks the field bornTimestamp"));
    let mut wrong = V2.to_vec();
    wrong.push(("e", "zwei"));
    check(&wrong, Err("the request's header field queueId is \"zwei\" where a 32-bit number belongs"));
    wrong.push(("e", "0"));
    check(&wrong, Ok(()));
}

/// The C++ client sends a batch as code 10 with `batch` "1": Java reads that as false, and so it is stored as one message.
#[test]
fn only_true_is_true() {
    let check = |value: &str, expect: bool| {
        let fields = fields(&[
            ("topic", "t"),
            ("queueId", "0"),
            ("sysFlag", "0"),
            ("bornTimestamp", "0"),
            ("flag", "0"),
            ("batch", value),
        ]);
        assert_eq!(SendMessage::decode(request::SEND_MESSAGE, &fields).unwrap().batch, expect, "{value}");
    };
    check("true", true);
    check("TRUE", true);
    check("1", false);
    check("0", false);
    check("", false);
}

#[test]
fn pulls_forgive_what_java_forgives() {
    let pairs = [
        ("consumerGroup", "g"),
        ("topic", "t"),
        ("queueId", "1"),
        ("queueOffset", "-1"),
        ("maxMsgNums", "32"),
        ("sysFlag", "6"),
    ];
    let given = fields(&pairs);
    let pull = PullMessage::decode(&given).unwrap();
    assert_eq!((pull.queue_offset, pull.commit_offset, pull.expression_type), (-1, None, None));
    let missing = fields(&pairs[1..]);
    assert_eq!(PullMessage::decode(&missing), Err(HeaderError::Missing("consumerGroup")));
    let mut out = FieldsOut::new();
    pull.write(&mut out);
    assert_eq!(out.len(), 6);
}

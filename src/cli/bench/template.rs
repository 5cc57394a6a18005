//! Requests encoded once, so that sending one is a copy and a few patched bytes: its opaque and its messages' keys.

use std::{fmt::Write, time::Duration};

use crate::protocol::{
    body::batch::BatchItem,
    code::request,
    command::{Call, Serialization, encode_call},
    header::SendMessage,
};

/// The lowest opaque; all have ten digits, so that the JSON form keeps its length.
pub const OPAQUE_MIN: i32 = 1_000_000_000;

/// Digits of a message key that differ from message to message.
const KEY_DIGITS: usize = 12;

/// What stands where a key's varying digits belong. No other part of a request may contain it.
const KEY_MARK: &[u8; KEY_DIGITS] = b"~keelmqmark~";

/// A frame with the places that differ from request to request.
#[derive(Debug, Clone)]
pub struct Template {
    frame: Vec<u8>,
    opaque: Place,
    keys: Vec<usize>,
    /// Where a body begins that carries the moment at which it was due.
    stamp: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    /// Ten decimal digits.
    Digits(usize),
    /// Four bytes, big-endian.
    Bytes(usize),
}

/// What the messages of a run have in common.
pub struct Message<'a> {
    pub topic: &'a str,
    pub tag: Option<&'a str>,
    pub body: &'a [u8],
    /// Messages in one request.
    pub batch: u32,
    pub queue_id: i32,
    pub queues: u32,
    pub born_ms: i64,
    /// Makes the keys of two runs differ.
    pub run: u32,
    /// The first eight bytes of the body are the moment at which it was due, monotonic nanoseconds. Not in a batch.
    pub is_stamped: bool,
}

impl Template {
    pub fn send(message: &Message<'_>, serialization: Serialization) -> Self {
        let mut properties = String::new();
        write!(properties, "UNIQ_KEY\u{1}7F000001{:08X}0000", message.run).expect("a string takes everything");
        properties.push_str(str::from_utf8(KEY_MARK).expect("the mark is text"));
        properties.push_str("\u{2}WAIT\u{1}true");
        if let Some(tag) = message.tag {
            write!(properties, "\u{2}TAGS\u{1}{tag}").expect("a string takes everything");
        }
        let is_batch = message.batch > 1;
        let header = SendMessage {
            producer_group: "keelmq_bench",
            topic: message.topic,
            default_topic: "TBW102",
            default_topic_queue_nums: message.queues as i32,
            queue_id: message.queue_id,
            sys_flag: 0,
            born_timestamp: message.born_ms,
            flag: 0,
            properties: Some(if is_batch { "WAIT\u{1}true" } else { &properties }),
            reconsume_times: Some(0),
            unit_mode: false,
            batch: is_batch,
            max_reconsume_times: None,
            broker_name: None,
        };
        let mut call = Call::new(if is_batch { request::SEND_BATCH_MESSAGE } else { request::SEND_MESSAGE_V2 });
        header.write_v2(&mut call.fields);
        let body = if is_batch {
            let mut items = Vec::new();
            for _ in 0..message.batch {
                BatchItem { flag: 0, body: message.body, properties: properties.as_bytes() }.encode(&mut items);
            }
            items
        } else {
            message.body.to_vec()
        };
        let len = body.len();
        let mut template = Self::of(call.with_body(body), serialization);
        template.stamp = message.is_stamped.then(|| template.frame.len() - len);
        template
    }

    /// Any request; its keys are where the mark stands.
    pub fn of(call: Call, serialization: Serialization) -> Self {
        let mut frame = Vec::new();
        encode_call(&call, OPAQUE_MIN, false, serialization, &mut frame);
        let opaque = match serialization {
            // Length, word, then code i16, language u8, version i16.
            Serialization::Binary => Place::Bytes(4 + 4 + 5),
            Serialization::Json => {
                let name = format!("\"opaque\":{OPAQUE_MIN}");
                let at = find(&frame, name.as_bytes()).expect("the header states its opaque");
                Place::Digits(at + name.len() - 10)
            }
        };
        let mut keys = Vec::new();
        let mut from = 0;
        while let Some(at) = find(&frame[from..], KEY_MARK) {
            keys.push(from + at);
            from += at + KEY_DIGITS;
        }
        Template { frame, opaque, keys, stamp: None }
    }

    /// Appends the request, which was `due`. `next_key` counts the messages.
    pub fn write(&self, opaque: i32, due: Duration, next_key: &mut u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.frame);
        let frame = &mut out[start..];
        match self.opaque {
            Place::Bytes(at) => frame[at..at + 4].copy_from_slice(&opaque.to_be_bytes()),
            Place::Digits(at) => {
                let mut rest = opaque;
                for digit in frame[at..at + 10].iter_mut().rev() {
                    *digit = b'0' + (rest % 10) as u8;
                    rest /= 10;
                }
            }
        }
        if let Some(at) = self.stamp {
            frame[at..at + 8].copy_from_slice(&(due.as_nanos() as u64).to_be_bytes());
        }
        for at in &self.keys {
            let mut rest = *next_key;
            for digit in frame[*at..at + KEY_DIGITS].iter_mut().rev() {
                *digit = b"0123456789ABCDEF"[(rest % 16) as usize];
                rest /= 16;
            }
            *next_key += 1;
        }
    }
}

fn find(within: &[u8], what: &[u8]) -> Option<usize> {
    within.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{body::batch::BatchItems, command::decode, frame};

    #[test]
    fn a_patched_request_reads_like_an_encoded_one() {
        let message = |batch| Message {
            topic: "bench",
            tag: Some("t"),
            body: b"hello, w",
            batch,
            queue_id: 3,
            queues: 4,
            born_ms: 1_700_000_000_000,
            run: 0xABCD,
            is_stamped: batch == 1,
        };
        for serialization in [Serialization::Json, Serialization::Binary] {
            for batch in [1, 3] {
                let template = Template::send(&message(batch), serialization);
                let (mut out, mut key) = (Vec::new(), 0xFFu64);
                template.write(OPAQUE_MIN + 77, Duration::from_secs(6), &mut key, &mut out);
                template.write(OPAQUE_MIN + 78, Duration::from_secs(7), &mut key, &mut out);
                assert_eq!(key, 0xFF + 2 * u64::from(batch));
                assert_eq!(out.len(), 2 * template.frame.len());
                let (content, len) = frame::split(&out, 1 << 24).unwrap().unwrap();
                let first = decode(content).unwrap();
                assert_eq!((first.opaque, len), (OPAQUE_MIN + 77, template.frame.len()));
                let (content, _) = frame::split(&out[len..], 1 << 24).unwrap().unwrap();
                let second = decode(content).unwrap();
                assert_eq!((second.opaque, second.code), (OPAQUE_MIN + 78, if batch == 1 { 310 } else { 320 }));
                let header = SendMessage::decode(second.code, &second.fields).unwrap();
                assert_eq!((header.topic, header.queue_id, header.batch), ("bench", 3, batch > 1));
                let expect = "UNIQ_KEY\u{1}7F0000010000ABCD0000000000000100\u{2}WAIT\u{1}true\u{2}TAGS\u{1}t";
                if batch == 1 {
                    assert_eq!(header.properties, Some(expect));
                    assert_eq!(second.body, 7_000_000_000u64.to_be_bytes());
                } else {
                    let items: Vec<_> = BatchItems::new(second.body).map(Result::unwrap).collect();
                    assert_eq!(items.len(), 3);
                    assert!(items[0].properties.starts_with(b"UNIQ_KEY\x017F0000010000ABCD0000000000000102"));
                    assert_eq!(items[2].body, b"hello, w");
                }
            }
        }
    }
}

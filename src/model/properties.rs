//! Message properties as RocketMQ writes them: name 0x01 value, entries separated by 0x02.
//!
//! Malformed entries (no 0x01, an empty name or value) are skipped; a name that stands twice means its last value. The
//! first 0x01 of an entry ends its name: a value may contain more. (Source: MessageDecoder of Apache RocketMQ 4.9.7.)

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map},
};

use smallvec::SmallVec;

use super::search::find_byte;

/// So many entries are searched one by one.
const FEW: usize = 32;

pub const NAME_END: u8 = 1;
pub const ENTRY_END: u8 = 2;

/// Names that the broker reads or writes (MessageConst).
pub mod name {
    pub const KEYS: &str = "KEYS";
    pub const TAGS: &str = "TAGS";
    pub const WAIT: &str = "WAIT";
    pub const DELAY: &str = "DELAY";
    pub const RETRY_TOPIC: &str = "RETRY_TOPIC";
    pub const REAL_TOPIC: &str = "REAL_TOPIC";
    pub const REAL_QUEUE_ID: &str = "REAL_QID";
    pub const TRANSACTION_PREPARED: &str = "TRAN_MSG";
    pub const PRODUCER_GROUP: &str = "PGROUP";
    pub const MIN_OFFSET: &str = "MIN_OFFSET";
    pub const MAX_OFFSET: &str = "MAX_OFFSET";
    pub const ORIGIN_MESSAGE_ID: &str = "ORIGIN_MESSAGE_ID";
    pub const RECONSUME_TIME: &str = "RECONSUME_TIME";
    pub const MESSAGE_REGION: &str = "MSG_REGION";
    pub const TRACE_ON: &str = "TRACE_ON";
    pub const UNIQUE_KEY: &str = "UNIQ_KEY";
    pub const MAX_RECONSUME_TIMES: &str = "MAX_RECONSUME_TIMES";
    pub const CHECK_IMMUNITY_TIME: &str = "CHECK_IMMUNITY_TIME_IN_SECONDS";
    pub const PREPARED_QUEUE_OFFSET: &str = "TRAN_PREPARED_QUEUE_OFFSET";
    pub const TRANSACTION_ID: &str = "__transactionId__";
    pub const TRANSACTION_CHECK_TIMES: &str = "TRANSACTION_CHECK_TIMES";
    pub const CORRELATION_ID: &str = "CORRELATION_ID";
    pub const REPLY_TO_CLIENT: &str = "REPLY_TO_CLIENT";
    pub const ARRIVE_TIME: &str = "ARRIVE_TIME";
    pub const PUSH_REPLY_TIME: &str = "PUSH_REPLY_TIME";
    pub const CLUSTER: &str = "CLUSTER";
}

/// The valid entries of a properties string in order. Text that is not UTF-8 cannot be a name or value and is skipped.
pub fn entries(text: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    split(text).filter_map(|entry| {
        let at = find_byte(entry, 0, NAME_END);
        let (name, value) = (entry.get(..at)?, entry.get(at + 1..)?);
        if name.is_empty() || value.is_empty() {
            return None;
        }
        Some((str::from_utf8(name).ok()?, str::from_utf8(value).ok()?))
    })
}

/// The value of `name`: the last one if it stands several times.
pub fn get<'a>(text: &'a [u8], name: &str) -> Option<&'a str> {
    split(text).filter_map(|entry| value_of(entry, name)).last()
}

/// What stands between separators.
pub fn split(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let end = find_byte(text, 0, ENTRY_END);
        rest = text.get(end + 1..);
        Some(&text[..end])
    })
}

/// The value in `entry` if that is a valid entry of this name.
#[inline]
pub fn value_of<'a>(entry: &'a [u8], name: &str) -> Option<&'a str> {
    // The length first: it tells most names apart.
    let (NAME_END, value) = (*entry.get(name.len())?, &entry[name.len() + 1..]) else { return None };
    if value.is_empty() || !entry.starts_with(name.as_bytes()) {
        return None;
    }
    str::from_utf8(value).ok()
}

/// Properties taken apart for rewriting: duplicates collapsed (last value wins), bad entries gone; rendered without a
/// trailing separator and in the order of Java's `HashMap`, as 4.9.7's broker stores them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties<'a> {
    /// In the order of coming: within a bucket that is Java's order, too.
    entries: SmallVec<[Entry<'a>; 16]>,
    /// Most entries there ever were: a `HashMap` grows and never shrinks.
    len_max: usize,
}

type Entry<'a> = (Cow<'a, str>, Cow<'a, str>);

impl<'a> Properties<'a> {
    /// Of text, whose entries need no second look.
    pub fn parse_text(text: &'a str) -> Self {
        let mut properties = Properties::default();
        let mut places = HashMap::new();
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let end = find_byte(bytes, at, ENTRY_END);
            let name_end = find_byte(&bytes[..end], at, NAME_END);
            if name_end > at && name_end + 1 < end {
                properties.take(&text[at..name_end], &text[name_end + 1..end], &mut places);
            }
            at = end + 1;
        }
        properties
    }

    pub fn parse(text: &'a [u8]) -> Self {
        let mut properties = Properties::default();
        let mut places = HashMap::new();
        for (name, value) in entries(text) {
            properties.take(name, value, &mut places);
        }
        properties
    }

    /// Takes in one entry of a text; `places` are those of the names once there are many: a frame has room for a million.
    fn take(&mut self, name: &'a str, value: &'a str, places: &mut HashMap<&'a str, usize>) {
        if self.entries.len() < FEW {
            return self.set(name, value);
        }
        if places.is_empty() {
            let names = self.entries.iter().enumerate().filter_map(|(at, (name, _))| match name {
                Cow::Borrowed(name) => Some((*name, at)),
                Cow::Owned(_) => None,
            });
            places.extend(names);
        }
        match places.entry(name) {
            hash_map::Entry::Occupied(place) => self.entries[*place.get()].1 = value.into(),
            hash_map::Entry::Vacant(place) => {
                place.insert(self.entries.len());
                self.entries.push((name.into(), value.into()));
                self.len_max = self.len_max.max(self.entries.len());
            }
        }
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.entries.iter().find(|(key, _)| key == name).map(|(_, value)| &**value)
    }

    pub fn set(&mut self, name: impl Into<Cow<'a, str>>, value: impl Into<Cow<'a, str>>) {
        let (name, value) = (name.into(), value.into());
        match self.entries.iter_mut().find(|(key, _)| *key == name) {
            Some(entry) => entry.1 = value,
            None => self.entries.push((name, value)),
        }
        self.len_max = self.len_max.max(self.entries.len());
    }

    pub fn remove(&mut self, name: &str) -> Option<Cow<'a, str>> {
        let at = self.entries.iter().position(|(key, _)| key == name)?;
        Some(self.entries.remove(at).1)
    }

    /// In the order of coming.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|(name, value)| (&**name, &**value))
    }

    pub fn render(&self) -> String {
        let mask = self.buckets() - 1;
        let mut order: SmallVec<[(u32, &Entry<'a>); 16]> =
            self.entries.iter().map(|entry| (spread(java_hash(&entry.0)) & mask, entry)).collect();
        order.sort_by_key(|(bucket, _)| *bucket);
        let bytes = self.entries.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
        let mut text = String::with_capacity(bytes);
        for (_, (name, value)) in order {
            if !text.is_empty() {
                text.push(ENTRY_END as char);
            }
            text.push_str(name);
            text.push(NAME_END as char);
            text.push_str(value);
        }
        text
    }

    /// Buckets of the `HashMap` that holds as many: 16 at first, doubled when more than three quarters are taken.
    fn buckets(&self) -> u32 {
        let mut buckets = 16;
        while self.len_max > buckets / 4 * 3 {
            buckets *= 2;
        }
        buckets as u32
    }
}

/// What `HashMap` makes of a hash before it takes the bucket's number from it.
fn spread(hash: i32) -> u32 {
    let hash = hash as u32;
    hash ^ (hash >> 16)
}

/// Java's `String.hashCode` (31-polynomial over UTF-16 units), which is what the consume queue keeps of a tag.
pub fn java_hash(text: &str) -> i32 {
    let step = |hash: i32, unit: u16| hash.wrapping_mul(31).wrapping_add(unit.into());
    if text.is_ascii() {
        return text.bytes().fold(0, |hash, byte| step(hash, byte.into()));
    }
    text.encode_utf16().fold(0, step)
}

/// What the consume queue keeps for a TAGS value: 0 for none.
pub fn tags_code(tags: Option<&str>) -> i64 {
    tags.map_or(0, |tags| java_hash(tags).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each name was searched among all before it: a frame of two million of them kept a worker for hours.
    #[test]
    fn many_names_are_taken_in_one_pass() {
        let count = 300_000;
        let text: String = (0..2 * count).map(|n| format!("n{}\u{1}{n}\u{2}", n % count)).collect();
        for properties in [Properties::parse_text(&text), Properties::parse(text.as_bytes())] {
            assert_eq!(properties.iter().count(), count);
            assert!(
                properties
                    .iter()
                    .enumerate()
                    .all(|(n, (name, value))| { name[1..].parse() == Ok(n) && value.parse() == Ok(n + count) })
            );
        }
    }

    #[test]
    fn entries_follow_javas_parser() {
        let check = |text: &str, expect: &[(&str, &str)]| {
            assert_eq!(entries(text.as_bytes()).collect::<Vec<_>>(), expect, "{text:?}");
            assert_eq!(Properties::parse_text(text), Properties::parse(text.as_bytes()), "{text:?}");
            for name in ["a", "b", "c", "d"] {
                let last = expect.iter().rfind(|(key, _)| *key == name).map(|(_, value)| *value);
                assert_eq!(get(text.as_bytes(), name), last, "{name} of {text:?}");
            }
        };
        check("", &[]);
        check("a\u{1}1", &[("a", "1")]);
        check("a\u{1}1\u{2}", &[("a", "1")]);
        check("a\u{1}1\u{2}b\u{1}2\u{2}a\u{1}3", &[("a", "1"), ("b", "2"), ("a", "3")]);
        check("a\u{1}\u{2}\u{1}b\u{2}c\u{2}d\u{1}4", &[("d", "4")]);
        check("a\u{1}b\u{1}c\u{2}d\u{1}4", &[("a", "b\u{1}c"), ("d", "4")]);
        check("a\u{1}b\u{1}\u{2}d\u{1}4", &[("a", "b\u{1}"), ("d", "4")]);
        check("a\u{1}\u{1}\u{2}d\u{1}4", &[("a", "\u{1}"), ("d", "4")]);
        check("\u{1}\u{1}b\u{2}\u{2}d\u{1}4", &[("d", "4")]);
    }

    #[test]
    fn rewriting_collapses_and_drops_the_trailing_separator() {
        let mut properties = Properties::parse("a\u{1}1\u{2}b\u{1}2\u{2}a\u{1}3\u{2}bad\u{2}".as_bytes());
        assert_eq!(properties.render(), "a\u{1}3\u{2}b\u{1}2");
        properties.set("c", "x");
        assert_eq!(properties.remove("a").as_deref(), Some("3"));
        assert_eq!(properties.render(), "b\u{1}2\u{2}c\u{1}x");
    }

    /// Recorded from MessageDecoder of 4.9.7, which writes what its `HashMap` yields.
    #[test]
    fn rendering_has_the_order_of_javas_table() {
        let check = |text: &str, expect: &str| {
            let raw = |text: &str| text.replace('=', "\u{1}").replace(';', "\u{2}");
            assert_eq!(Properties::parse(raw(text).as_bytes()).render(), raw(expect), "{text}");
        };
        check("", "");
        check(
            "k0=v;k16=v;k1=x;TAGS=x;KEYS=y;WAIT=true;UNIQ_KEY=z;CLUSTER=c",
            "k16=v;k0=v;k1=x;KEYS=y;UNIQ_KEY=z;CLUSTER=c;WAIT=true;TAGS=x",
        );
        check(
            &(0..40).map(|key| format!("k{key}=v;")).collect::<String>(),
            "k31=v;k30=v;k11=v;k33=v;k10=v;k32=v;k13=v;k35=v;k12=v;k34=v;k15=v;k37=v;k14=v;k36=v;k17=v;k39=v;k16=v;\
             k38=v;k19=v;k18=v;k0=v;k1=v;k2=v;k3=v;k20=v;k4=v;k5=v;k22=v;k6=v;k21=v;k7=v;k24=v;k8=v;k23=v;k9=v;k26=v;\
             k25=v;k28=v;k27=v;k29=v",
        );
    }

    #[test]
    fn hashes_are_javas() {
        assert_eq!(java_hash(""), 0);
        assert_eq!(java_hash("TagA"), 2598919);
        assert_eq!(java_hash("zażółć 🦀"), java_hash("zażółć 🦀"));
    }
}

//! Message properties as RocketMQ writes them: name 0x01 value, entries separated by 0x02.
//!
//! Malformed entries (no 0x01, an empty name or value) are skipped; a name that stands twice means its last value.

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
    text.split(|byte| *byte == ENTRY_END).filter_map(|entry| {
        let at = entry.iter().position(|byte| *byte == NAME_END)?;
        let (name, value) = (&entry[..at], &entry[at + 1..]);
        // Java splits the entry on 0x01 and wants exactly two parts, trailing empty ones dropped.
        let value = match value.iter().position(|byte| *byte == NAME_END) {
            None => value,
            Some(end) if value[end..].iter().all(|byte| *byte == NAME_END) => &value[..end],
            Some(_) => return None,
        };
        if name.is_empty() || value.is_empty() {
            return None;
        }
        Some((str::from_utf8(name).ok()?, str::from_utf8(value).ok()?))
    })
}

/// The value of `name`: the last one if it stands several times.
pub fn get<'a>(text: &'a [u8], name: &str) -> Option<&'a str> {
    entries(text).filter(|(key, _)| *key == name).last().map(|(_, value)| value)
}

/// Properties taken apart for rewriting: order of first appearance kept, duplicates collapsed (last value wins),
/// bad entries gone; rendered without a trailing separator, as 4.9.7's broker does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties {
    entries: Vec<(String, String)>,
}

impl Properties {
    pub fn parse(text: &[u8]) -> Self {
        let mut properties = Properties::default();
        for (name, value) in entries(text) {
            properties.set(name, value);
        }
        properties
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.entries.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        match self.entries.iter_mut().find(|(key, _)| key == name) {
            Some(entry) => entry.1 = value,
            None => self.entries.push((name.to_owned(), value)),
        }
    }

    pub fn remove(&mut self, name: &str) -> Option<String> {
        let at = self.entries.iter().position(|(key, _)| key == name)?;
        Some(self.entries.remove(at).1)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub fn render(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.entries {
            if !text.is_empty() {
                text.push(ENTRY_END as char);
            }
            text.push_str(name);
            text.push(NAME_END as char);
            text.push_str(value);
        }
        text
    }
}

/// Java's `String.hashCode` (31-polynomial over UTF-16 units), which is what the consume queue keeps of a tag.
pub fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(unit.into()))
}

/// What the consume queue keeps for a TAGS value: 0 for none.
pub fn tags_code(tags: Option<&str>) -> i64 {
    tags.map_or(0, |tags| java_hash(tags).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_follow_javas_parser() {
        let check = |text: &str, expect: &[(&str, &str)]| {
            assert_eq!(entries(text.as_bytes()).collect::<Vec<_>>(), expect, "{text:?}");
        };
        check("", &[]);
        check("a\u{1}1", &[("a", "1")]);
        check("a\u{1}1\u{2}", &[("a", "1")]);
        check("a\u{1}1\u{2}b\u{1}2\u{2}a\u{1}3", &[("a", "1"), ("b", "2"), ("a", "3")]);
        check("a\u{1}\u{2}\u{1}b\u{2}c\u{2}d\u{1}4", &[("d", "4")]);
        check("a\u{1}b\u{1}c\u{2}d\u{1}4", &[("d", "4")]);
        check("a\u{1}b\u{1}\u{2}d\u{1}4", &[("a", "b"), ("d", "4")]);
    }

    #[test]
    fn rewriting_collapses_and_drops_the_trailing_separator() {
        let mut properties = Properties::parse("a\u{1}1\u{2}b\u{1}2\u{2}a\u{1}3\u{2}bad\u{2}".as_bytes());
        assert_eq!(properties.render(), "a\u{1}3\u{2}b\u{1}2");
        properties.set("c", "x");
        assert_eq!(properties.remove("a").as_deref(), Some("3"));
        assert_eq!(properties.render(), "b\u{1}2\u{2}c\u{1}x");
    }

    #[test]
    fn hashes_are_javas() {
        assert_eq!(java_hash(""), 0);
        assert_eq!(java_hash("TagA"), 2598919);
        assert_eq!(java_hash("zażółć 🦀"), java_hash("zażółć 🦀"));
    }
}

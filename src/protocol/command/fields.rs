//! A header's custom fields (`extFields`), in the order of the wire. They are small and need no dropping, because every
//! request makes some twenty of them.

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::protocol::json::scan::Quoted;

/// Values are text whatever JSON type they came in. A key may stand twice: the last one wins.
#[derive(Clone, Default)]
pub struct Fields<'a> {
    entries: SmallVec<[(Text<'a>, Text<'a>); 16]>,
    /// Text that is nowhere in the read buffer as it should be: it was escaped there, or not UTF-8.
    pub(super) unescaped: String,
    /// `extFields` was absent or null (some answers of RocketMQ depend on it).
    pub absent: bool,
}

#[derive(Clone, Copy)]
enum Text<'a> {
    Borrowed(&'a str),
    /// From where to where in `unescaped`.
    Unescaped(u32, u32),
}

impl<'a> Fields<'a> {
    /// None; `absent` if the header did not even say so.
    pub fn none(absent: bool) -> Self {
        Fields { absent, ..Fields::default() }
    }

    pub fn push(&mut self, key: Cow<'a, str>, value: Cow<'a, str>) {
        let (key, value) = (self.keep(key), self.keep(value));
        self.entries.push((key, value));
    }

    #[inline]
    pub(super) fn push_borrowed(&mut self, key: &'a str, value: &'a str) {
        self.entries.push((Text::Borrowed(key), Text::Borrowed(value)));
    }

    /// `value` is the last text in `unescaped` if it was escaped.
    pub(super) fn push_quoted(&mut self, key: &'a str, value: Quoted<'a>) {
        let value = match value {
            Quoted::Plain(text) => Text::Borrowed(text),
            Quoted::Unescaped(from) => self.behind(from),
        };
        self.entries.push((Text::Borrowed(key), value));
    }

    fn keep(&mut self, text: Cow<'a, str>) -> Text<'a> {
        match text {
            Cow::Borrowed(text) => Text::Borrowed(text),
            Cow::Owned(text) => self.own(&text),
        }
    }

    fn own<'b>(&mut self, text: &str) -> Text<'b> {
        let from = self.unescaped.len();
        self.unescaped.push_str(text);
        self.behind(from)
    }

    fn behind<'b>(&self, from: usize) -> Text<'b> {
        let place = |at: usize| u32::try_from(at).expect("a header has at most 16 MiB");
        Text::Unescaped(place(from), place(self.unescaped.len()))
    }

    #[inline]
    fn text<'s>(&'s self, text: &Text<'a>) -> &'s str {
        match text {
            Text::Borrowed(text) => text,
            Text::Unescaped(from, to) => &self.unescaped[*from as usize..*to as usize],
        }
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        let found = self.entries.iter().rev().find(|(name, _)| self.text(name) == key);
        found.map(|(_, value)| self.text(value))
    }

    /// In the order of the wire.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|(key, value)| (self.text(key), self.text(value)))
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// For any lifetime: the small vector inside is invariant, so that `'static` would not shrink by itself.
    pub fn into_owned<'b>(self) -> Fields<'b> {
        let mut owned = Fields::none(self.absent);
        for (key, value) in self.iter() {
            let (key, value) = (owned.own(key), owned.own(value));
            owned.entries.push((key, value));
        }
        owned
    }
}

impl PartialEq for Fields<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.absent == other.absent && self.iter().eq(other.iter())
    }
}

impl std::fmt::Debug for Fields<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_small_and_what_was_borrowed_stays_so() {
        const { assert!(size_of::<Text<'_>>() == 16 && !std::mem::needs_drop::<Text<'_>>()) };
        let mut fields = Fields::default();
        fields.push(Cow::Borrowed("a"), Cow::Borrowed("1"));
        fields.push(Cow::Owned("b".to_owned()), Cow::Owned("2".to_owned()));
        fields.push(Cow::Borrowed("a"), Cow::Owned("3".to_owned()));
        assert_eq!(fields.unescaped, "b23");
        assert_eq!((fields.get("a"), fields.get("b"), fields.get("c")), (Some("3"), Some("2"), None));
        let owned: Fields<'static> = fields.clone().into_owned();
        assert!(owned == fields && owned.len() == 3);
    }
}

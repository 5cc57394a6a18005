//! Writes a value as fastjson does: compact, or pretty with tabs as the files under `config/` are.

use super::{
    Json,
    text::{push_int, push_quoted},
};

/// How a value is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Style {
    /// A member a line, indented by tabs.
    pub pretty: bool,
    /// Numeric keys in quotes. Object keys have no such form.
    pub quote_keys: bool,
}

impl Style {
    pub const COMPACT: Style = Style { pretty: false, quote_keys: false };
    pub const STANDARD: Style = Style { pretty: false, quote_keys: true };
    pub const PRETTY: Style = Style { pretty: true, quote_keys: false };
}

impl Json<'_> {
    /// The text in `style`.
    pub fn encode(&self, style: Style) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(style, &mut out);
        out
    }

    /// Appends the text in `style`.
    pub fn write(&self, style: Style, out: &mut Vec<u8>) {
        write(self, style, 0, out);
    }
}

fn write(value: &Json<'_>, style: Style, depth: usize, out: &mut Vec<u8>) {
    match value {
        Json::Null => out.extend_from_slice(b"null"),
        Json::Bool(truth) => out.extend_from_slice(if *truth { b"true" } else { b"false" }),
        Json::Int(number) => push_int(out, *number),
        // The shape of Java's Double.toString for all that occurs here: a fraction is always shown.
        Json::Float(number) if number.is_finite() => out.extend_from_slice(format!("{number:?}").as_bytes()),
        Json::Float(_) => out.extend_from_slice(b"null"),
        Json::Text(text) => push_quoted(out, text),
        Json::List(values) => {
            list(b"[]", values, style, depth, out, |_| true, |value, out| write(value, style, depth + 1, out))
        }
        // In fastjson's pretty form a key that is no text does not begin a line.
        Json::Object(members) => list(
            b"{}",
            members,
            style,
            depth,
            out,
            |(key, _)| matches!(key, Json::Text(_)),
            |(key, value), out| {
                match key {
                    Json::Int(number) if style.quote_keys => {
                        out.push(b'"');
                        push_int(out, *number);
                        out.push(b'"');
                    }
                    key => write(key, Style { pretty: false, ..style }, 0, out),
                }
                out.push(b':');
                write(value, style, depth + 1, out);
            },
        ),
    }
}

fn list<T>(
    brackets: &[u8; 2],
    items: &[T],
    style: Style,
    depth: usize,
    out: &mut Vec<u8>,
    own_line: impl Fn(&T) -> bool,
    item: impl Fn(&T, &mut Vec<u8>),
) {
    let line = |depth: usize, out: &mut Vec<u8>| {
        if style.pretty {
            out.push(b'\n');
            out.resize(out.len() + depth, b'\t');
        }
    };
    out.push(brackets[0]);
    for (at, each) in items.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        if own_line(each) {
            line(depth + 1, out);
        }
        item(each, out);
    }
    if !items.is_empty() {
        line(depth, out);
    }
    out.push(brackets[1]);
}

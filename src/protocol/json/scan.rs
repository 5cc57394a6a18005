//! A cursor over JSON text that takes one token at a time and borrows whatever needs no unescaping. It has no recursion,
//! so that no input can exhaust the stack, and it never looks twice at a byte except to unescape a string.

use std::borrow::Cow;

use super::JsonError;
use crate::model::search::find_either;

/// Reads tokens from `text`, forwards only.
#[derive(Debug, Clone)]
pub(crate) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

/// A value without members, or the opening of one with members.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token<'a> {
    Null,
    Bool(bool),
    /// As it was written.
    Number(&'a str),
    Text(Cow<'a, str>),
    /// `{` was taken.
    Object,
    /// `[` was taken.
    Array,
}

/// Where a string's text is.
pub(crate) enum Quoted<'a> {
    Plain(&'a str),
    /// In the buffer from here on.
    Unescaped(usize),
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Scanner { text, at: 0 }
    }

    /// Where the next token is looked for, in bytes.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// The text from `start` to here.
    pub(crate) fn since(&self, start: usize) -> &'a str {
        &self.text[start..self.at]
    }

    pub(crate) fn error<T>(&self, what: &'static str) -> Result<T, JsonError> {
        Err(JsonError { what, at: self.at })
    }

    /// The next byte that is not blank, not taken.
    #[inline]
    pub(crate) fn peek(&mut self) -> Option<u8> {
        match self.text.as_bytes().get(self.at) {
            Some(byte) if *byte > b' ' => Some(*byte),
            _ => self.peek_behind_blanks(),
        }
    }

    #[cold]
    fn peek_behind_blanks(&mut self) -> Option<u8> {
        let rest = &self.text.as_bytes()[self.at..];
        let blanks = rest.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x08 | 0x0C));
        self.at += blanks.unwrap_or(rest.len());
        rest.get(blanks?).copied()
    }

    /// Takes `byte` if it is next.
    #[inline]
    pub(crate) fn take(&mut self, byte: u8) -> bool {
        let next = self.peek() == Some(byte);
        self.at += usize::from(next);
        next
    }

    #[inline]
    pub(crate) fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), JsonError> {
        if self.take(byte) { Ok(()) } else { self.error(what) }
    }

    /// After a member: true if another follows (its comma was taken), false if `close` was taken. A comma before `close`
    /// is forgiven, as fastjson forgives it.
    #[inline]
    pub(crate) fn more(&mut self, close: u8) -> Result<bool, JsonError> {
        match self.text.as_bytes().get(self.at..self.at + 2) {
            Some([b',', b'"']) => {
                self.at += 1;
                Ok(true)
            }
            _ => self.more_of_any(close),
        }
    }

    fn more_of_any(&mut self, close: u8) -> Result<bool, JsonError> {
        if self.take(b',') {
            if self.peek() == Some(b'"') {
                return Ok(true);
            }
            while self.take(b',') {}
            return Ok(!self.take(close));
        }
        if self.take(close) { Ok(false) } else { self.error("neither a comma nor the closing bracket") }
    }

    /// A whole member as nearly all are written: name and value in double quotes, nothing escaped, no blanks. `None`
    /// leaves everything where it was.
    #[inline]
    pub(crate) fn plain_member(&mut self) -> Option<(&'a str, &'a str)> {
        let bytes = self.text.as_bytes();
        if *bytes.get(self.at)? != b'"' {
            return None;
        }
        let name_end = find_either(bytes, self.at + 1, b'"', b'\\');
        if bytes.get(name_end..name_end + 3)? != b"\":\"" {
            return None;
        }
        let value_end = find_either(bytes, name_end + 3, b'"', b'\\');
        if *bytes.get(value_end)? != b'"' {
            return None;
        }
        let member = (self.text.get(self.at + 1..name_end)?, self.text.get(name_end + 3..value_end)?);
        self.at = value_end + 1;
        Some(member)
    }

    /// A member's name as nearly all are written, its colon taken as well: in double quotes, nothing escaped, no blanks.
    /// `None` leaves everything where it was.
    #[inline]
    pub(crate) fn plain_name(&mut self) -> Option<&'a str> {
        let bytes = self.text.as_bytes();
        if *bytes.get(self.at)? != b'"' {
            return None;
        }
        let end = find_either(bytes, self.at + 1, b'"', b'\\');
        if bytes.get(end..end + 2)? != b"\":" {
            return None;
        }
        let name = self.text.get(self.at + 1..end)?;
        self.at = end + 2;
        Some(name)
    }

    /// A whole number without a sign behind which the value ends at once. `None` leaves everything where it was.
    #[inline]
    pub(crate) fn plain_int(&mut self) -> Option<i32> {
        let rest = self.text.as_bytes().get(self.at..)?;
        let mut number = 0i64;
        for (at, byte) in rest.iter().enumerate().take(11) {
            match byte {
                b'0'..=b'9' => number = number * 10 + i64::from(byte - b'0'),
                b',' | b'}' if at > 0 => {
                    let number = i32::try_from(number).ok()?;
                    self.at += at;
                    return Some(number);
                }
                _ => return None,
            }
        }
        None
    }

    /// A member's name: quoted either way, or bare (fastjson writes numeric keys bare).
    #[inline]
    pub(crate) fn name(&mut self) -> Result<Cow<'a, str>, JsonError> {
        match self.peek() {
            Some(quote @ (b'"' | b'\'')) => self.quoted(quote),
            Some(_) => {
                let bare = self.bare();
                if bare.is_empty() { self.error("a member without a name") } else { Ok(Cow::Borrowed(bare)) }
            }
            None => self.error("the text ends where a name belongs"),
        }
    }

    /// The next value, or its opening bracket.
    #[inline]
    pub(crate) fn token(&mut self) -> Result<Token<'a>, JsonError> {
        match self.peek() {
            Some(quote @ (b'"' | b'\'')) => self.quoted(quote).map(Token::Text),
            Some(b'{') => {
                self.at += 1;
                Ok(Token::Object)
            }
            Some(b'[') => {
                self.at += 1;
                Ok(Token::Array)
            }
            Some(_) => {
                let start = self.at;
                match self.bare() {
                    "null" | "undefined" => Ok(Token::Null),
                    "true" => Ok(Token::Bool(true)),
                    "false" => Ok(Token::Bool(false)),
                    "NaN" => Ok(Token::Null),
                    number if is_number(number) => Ok(Token::Number(number)),
                    _ => Err(JsonError { what: "a value that is none", at: start }),
                }
            }
            None => self.error("the text ends where a value belongs"),
        }
    }

    /// Skips the rest of an object or array whose opening bracket was taken. Kinds of brackets are not compared: nobody
    /// wants the content.
    pub(crate) fn skip_members(&mut self) -> Result<(), JsonError> {
        let mut depth = 1usize;
        while depth > 0 {
            match self.peek() {
                None => return self.error("the text ends inside an object or array"),
                Some(quote @ (b'"' | b'\'')) => {
                    self.at += 1;
                    self.string_end(quote)?;
                }
                Some(byte) => {
                    self.at += 1;
                    match byte {
                        b'{' | b'[' => depth += 1,
                        b'}' | b']' => depth -= 1,
                        // The rest of a character beyond ASCII belongs to no token.
                        _ => {}
                    }
                }
            }
        }
        Ok(())
    }

    /// Characters up to the next separator.
    fn bare(&mut self) -> &'a str {
        let rest = &self.text.as_bytes()[self.at..];
        // Numbers are most of what is bare.
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits > 0 && matches!(rest.get(digits), Some(b',' | b'}' | b':')) {
            let start = self.at;
            self.at += digits;
            return self.since(start);
        }
        let length = rest
            .iter()
            .position(|byte| {
                matches!(byte, b',' | b':' | b'}' | b']' | b'{' | b'[' | b'"' | b'\'' | b' ' | b'\t' | b'\n' | b'\r')
            })
            .unwrap_or(rest.len());
        let start = self.at;
        self.at += length;
        self.since(start)
    }

    /// A string whose opening quote is next.
    #[inline]
    fn quoted(&mut self, quote: u8) -> Result<Cow<'a, str>, JsonError> {
        self.at += 1;
        let start = self.at;
        let escaped = self.string_end(quote)?;
        let raw = &self.text[start..self.at - 1];
        if escaped { unescape(raw, start).map(Cow::Owned) } else { Ok(Cow::Borrowed(raw)) }
    }

    /// A string in double quotes, its escapes resolved behind what `out` holds already; `None` if something else is
    /// next.
    pub(crate) fn quoted_into(&mut self, out: &mut String) -> Result<Option<Quoted<'a>>, JsonError> {
        if self.peek() != Some(b'"') {
            return Ok(None);
        }
        self.at += 1;
        let start = self.at;
        let escaped = self.string_end(b'"')?;
        let raw = &self.text[start..self.at - 1];
        if !escaped {
            return Ok(Some(Quoted::Plain(raw)));
        }
        let from = out.len();
        unescape_into(raw, start, out)?;
        Ok(Some(Quoted::Unescaped(from)))
    }

    /// Moves behind the closing quote; says whether anything before it was escaped.
    #[inline]
    fn string_end(&mut self, quote: u8) -> Result<bool, JsonError> {
        let bytes = self.text.as_bytes();
        let mut escaped = false;
        let mut at = self.at;
        loop {
            at = find_either(bytes, at, quote, b'\\');
            match bytes.get(at) {
                Some(byte) if *byte == quote => {
                    self.at = at + 1;
                    return Ok(escaped);
                }
                Some(_) => {
                    escaped = true;
                    at += 2;
                }
                None => return self.error("a string that does not end"),
            }
        }
    }
}

fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    digits.as_bytes().first().is_some_and(|first| first.is_ascii_digit() || *first == b'.')
        && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'))
}

/// Resolves escapes. `raw` stands at byte `start` of the text. Halves of a surrogate pair without their other half become
/// U+FFFD, as Java writes `?` for them.
fn unescape(raw: &str, start: usize) -> Result<String, JsonError> {
    let mut out = String::new();
    unescape_into(raw, start, &mut out)?;
    Ok(out)
}

fn unescape_into(raw: &str, start: usize, out: &mut String) -> Result<(), JsonError> {
    let bytes = raw.as_bytes();
    out.reserve(raw.len());
    let mut at = 0;
    let fail = |at: usize| JsonError { what: "a bad escape", at: start + at };
    loop {
        let plain_from = at;
        at = find_either(bytes, at, b'\\', b'\\');
        out.push_str(&raw[plain_from..at]);
        if at == bytes.len() {
            return Ok(());
        }
        let kind = *bytes.get(at + 1).ok_or_else(|| fail(at))?;
        at += 2;
        let plain = match kind {
            b'"' | b'\'' | b'\\' | b'/' => kind as char,
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'b' => '\u{8}',
            b'f' | b'F' => '\u{c}',
            b'v' => '\u{b}',
            b'0'..=b'7' => (kind - b'0') as char,
            b'x' => {
                let code = hex(bytes.get(at..at + 2)).ok_or_else(|| fail(at))?;
                at += 2;
                char::from_u32(code).expect("two hex digits are below the surrogates")
            }
            b'u' => {
                let code = hex(bytes.get(at..at + 4)).ok_or_else(|| fail(at))?;
                at += 4;
                match char::from_u32(code) {
                    Some(plain) => plain,
                    None => match (code, low_half(&bytes[at..])) {
                        (0xD800..0xDC00, Some(low)) => {
                            at += 6;
                            char::from_u32(0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00))
                                .expect("two surrogate halves are one character")
                        }
                        _ => char::REPLACEMENT_CHARACTER,
                    },
                }
            }
            _ => return Err(fail(at)),
        };
        out.push(plain);
    }
}

/// The second half of a surrogate pair, if `bytes` begin with its escape.
fn low_half(bytes: &[u8]) -> Option<u32> {
    let code = hex(bytes.strip_prefix(b"\\u")?.get(..4))?;
    (0xDC00..0xE000).contains(&code).then_some(code)
}

fn hex(digits: Option<&[u8]>) -> Option<u32> {
    digits?.iter().try_fold(0, |code, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'A'..=b'F' => digit - b'A' + 10,
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(code << 4 | u32::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_end_where_they_end() {
        for length in 0..40 {
            let plain = "ü".repeat(length / 2) + &"a".repeat(length % 2);
            for (text, expect) in [
                (format!("\"{plain}\""), plain.clone()),
                (format!("\"{plain}\\\"{plain}\"x"), format!("{plain}\"{plain}")),
                (format!("'{plain}\"{plain}\\\\'\\"), format!("{plain}\"{plain}\\")),
            ] {
                assert_eq!(Scanner::new(&text).token(), Ok(Token::Text(expect.into())), "{text}");
            }
            assert!(Scanner::new(&format!("\"{plain}")).token().is_err());
            assert!(Scanner::new(&format!("\"{plain}\\")).token().is_err());
        }
    }

    #[test]
    fn strings_are_unescaped() {
        let check = |text: &str, expect: Option<&str>| {
            let token = Scanner::new(text).token();
            match expect {
                Some(expect) => assert_eq!(token, Ok(Token::Text(expect.into())), "{text}"),
                None => assert!(token.is_err(), "{text}: {token:?}"),
            }
        };
        check(r#""""#, Some(""));
        check(r#""plain""#, Some("plain"));
        check(r#"'single "quotes"'"#, Some("single \"quotes\""));
        check(r#""a\u0001b\u0002\n\t\r\b\f\/\\\"""#, Some("a\u{1}b\u{2}\n\t\r\u{8}\u{c}/\\\""));
        check(r#""\uD83E\uDD80""#, Some("🦀"));
        check(r#""\uD83Ex\uDD80""#, Some("\u{fffd}x\u{fffd}"));
        check(r#""\uD83E\uD83E\uDD80""#, Some("\u{fffd}🦀"));
        check(r#""ü\x41\0""#, Some("üA\0"));
        check(r#""open"#, None);
        check(r#""open\""#, None);
        check(r#""\u12""#, None);
        check(r#""\uüü""#, None);
        check(r#""\q""#, None);
    }
}

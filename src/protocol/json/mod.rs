//! The JSON dialect of headers and bodies (fastjson's): lenient reading, Java-shaped writing. Knows no body's members.
//!
//! Read beyond the standard: bare names and numeric keys, objects as keys (`{{"brokerName":"b"}:5}`), single quotes, commas
//! too many, anything behind the value. Written beyond the standard: numeric keys bare, objects as keys, as Java's tools
//! want them.

pub(crate) mod scan;
pub(crate) mod text;
mod write;

use std::borrow::Cow;

use scan::{Scanner, Token};
pub use write::Style;

/// Objects and arrays inside each other; a body of a real client needs 6.
const DEPTH_MAX: usize = 64;
/// Values in one body from the wire. Bounds what a body may make us allocate: a value takes some 32 bytes here.
const VALUES_MAX: usize = 1 << 20;

/// Why text is not JSON, also in its widest reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not JSON: {what} at byte {at}")]
pub struct JsonError {
    pub what: &'static str,
    pub at: usize,
}

/// A value. Text borrows what was read unless it had to be unescaped; members stand in the order of the text.
#[derive(Debug, Clone, PartialEq)]
pub enum Json<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Cow<'a, str>),
    List(Vec<Json<'a>>),
    /// A key is `Text`, or a bare `Int`, or an object.
    Object(Vec<(Json<'a>, Json<'a>)>),
}

impl<'a> Json<'a> {
    /// Reads a body from the wire: at most `VALUES_MAX` values. What is not UTF-8 becomes U+FFFD.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, JsonError> {
        Self::parse_up_to(bytes, VALUES_MAX)
    }

    /// Reads a file of our own store, of any number of values.
    pub fn parse_file(bytes: &'a [u8]) -> Result<Self, JsonError> {
        Self::parse_up_to(bytes, usize::MAX)
    }

    fn parse_up_to(bytes: &'a [u8], values_max: usize) -> Result<Self, JsonError> {
        match str::from_utf8(bytes) {
            Ok(text) => Reader { scanner: Scanner::new(text), left: values_max }.value(DEPTH_MAX),
            Err(_) => {
                let text = String::from_utf8_lossy(bytes);
                Reader { scanner: Scanner::new(&text), left: values_max }.value(DEPTH_MAX).map(Json::into_owned)
            }
        }
    }

    pub fn into_owned<'b>(self) -> Json<'b> {
        match self {
            Json::Null => Json::Null,
            Json::Bool(truth) => Json::Bool(truth),
            Json::Int(number) => Json::Int(number),
            Json::Float(number) => Json::Float(number),
            Json::Text(text) => Json::Text(Cow::Owned(text.into_owned())),
            Json::List(values) => Json::List(values.into_iter().map(Json::into_owned).collect()),
            Json::Object(members) => {
                Json::Object(members.into_iter().map(|(key, value)| (key.into_owned(), value.into_owned())).collect())
            }
        }
    }

    /// An object of the members that are not null, in the order given.
    pub fn object(members: impl IntoIterator<Item = (&'static str, Json<'a>)>) -> Self {
        let members = members.into_iter().filter(|(_, value)| *value != Json::Null);
        Json::Object(members.map(|(name, value)| (Json::Text(Cow::Borrowed(name)), value)).collect())
    }

    /// The member `name` of an object; the last one if it stands twice.
    pub fn get(&self, name: &str) -> Option<&Json<'a>> {
        let Json::Object(members) = self else { return None };
        members.iter().rev().find(|(key, _)| matches!(key, Json::Text(key) if key == name)).map(|(_, value)| value)
    }

    /// Text, or a number or truth as text.
    pub fn text(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Json::Text(text) => Cow::Borrowed(text),
            Json::Bool(truth) => Cow::Borrowed(if *truth { "true" } else { "false" }),
            Json::Int(number) => Cow::Owned(number.to_string()),
            Json::Float(number) => Cow::Owned(number.to_string()),
            _ => return None,
        })
    }

    /// What stands for no number, truth or object in fastjson: null, the empty text, and the text `null`.
    pub fn is_nothing(&self) -> bool {
        matches!(self, Json::Null) || matches!(self, Json::Text(text) if text.is_empty() || text == "null")
    }

    /// A whole number, also from text or from a fraction, which is cut.
    pub fn int(&self) -> Option<i64> {
        match self {
            Json::Int(number) => Some(*number),
            Json::Float(number) if number.abs() < 9e18 => Some(*number as i64),
            Json::Text(text) => text.parse().ok(),
            Json::Bool(truth) => Some((*truth).into()),
            _ => None,
        }
    }

    pub fn float(&self) -> Option<f64> {
        match self {
            Json::Int(number) => Some(*number as f64),
            Json::Float(number) => Some(*number),
            Json::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// A truth, also from text or from a number (fastjson: 1 is true).
    pub fn truth(&self) -> Option<bool> {
        match self {
            Json::Bool(truth) => Some(*truth),
            Json::Int(number) => Some(*number == 1),
            Json::Text(text) if text.eq_ignore_ascii_case("true") || text == "1" => Some(true),
            Json::Text(text) if text.eq_ignore_ascii_case("false") || text == "0" || text.is_empty() => Some(false),
            _ => None,
        }
    }
}

impl From<bool> for Json<'_> {
    fn from(truth: bool) -> Self {
        Json::Bool(truth)
    }
}

impl From<i64> for Json<'_> {
    fn from(number: i64) -> Self {
        Json::Int(number)
    }
}

impl From<i32> for Json<'_> {
    fn from(number: i32) -> Self {
        Json::Int(number.into())
    }
}

impl From<f64> for Json<'_> {
    fn from(number: f64) -> Self {
        Json::Float(number)
    }
}

impl<'a> From<&'a str> for Json<'a> {
    fn from(text: &'a str) -> Self {
        Json::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Json<'_> {
    fn from(text: String) -> Self {
        Json::Text(Cow::Owned(text))
    }
}

struct Reader<'a> {
    scanner: Scanner<'a>,
    /// Values that may still come.
    left: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth_left: usize) -> Result<Json<'a>, JsonError> {
        if depth_left == 0 {
            return self.scanner.error("too deep");
        }
        if self.left == 0 {
            return self.scanner.error("too many values");
        }
        self.left -= 1;
        Ok(match self.scanner.token()? {
            Token::Null => Json::Null,
            Token::Bool(truth) => Json::Bool(truth),
            Token::Number(digits) => match digits.parse() {
                Ok(number) => Json::Int(number),
                Err(_) => match digits.parse::<f64>() {
                    Ok(number) if number.is_finite() => Json::Float(number),
                    _ => return self.scanner.error("a number that is none"),
                },
            },
            Token::Text(text) => Json::Text(text),
            Token::Array => Json::List(self.list(depth_left)?),
            Token::Object => Json::Object(self.members(depth_left)?),
        })
    }

    fn list(&mut self, depth_left: usize) -> Result<Vec<Json<'a>>, JsonError> {
        let mut values = Vec::new();
        if self.scanner.take(b']') {
            return Ok(values);
        }
        loop {
            values.push(self.value(depth_left - 1)?);
            if !self.scanner.more(b']')? {
                return Ok(values);
            }
        }
    }

    fn members(&mut self, depth_left: usize) -> Result<Vec<(Json<'a>, Json<'a>)>, JsonError> {
        let mut members = Vec::new();
        if self.scanner.take(b'}') {
            return Ok(members);
        }
        loop {
            let key = match self.scanner.peek() {
                Some(b'{' | b'[') => self.value(depth_left - 1)?,
                Some(b'"' | b'\'') => Json::Text(self.scanner.name()?),
                _ => {
                    let bare = self.scanner.name()?;
                    bare.parse().map_or(Json::Text(bare), Json::Int)
                }
            };
            self.scanner.expect(b':', "no colon behind a name")?;
            let value = self.value(depth_left - 1)?;
            members.push((key, value));
            if !self.scanner.more(b'}')? {
                return Ok(members);
            }
        }
    }
}

#[cfg(test)]
mod tests;

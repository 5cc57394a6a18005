//! The JSON form of a command header, written and read without a tree: one pass, text borrowed from the read buffer unless
//! it had to be unescaped. Knows no field's meaning.
//!
//! Reading is as wide as fastjson's (numbers where text belongs and the reverse, any order, unknown members); writing is
//! what Java writes, keys in alphabetical order, and every custom field as text because the C++ client takes nothing else.

use std::borrow::Cow;

use super::{Command, DecodeError, Fields, Language, OUR_VERSION, Outline, Serialization, Value};
use crate::protocol::json::{
    JsonError,
    scan::{Quoted, Scanner, Token},
    text::{push_int, push_quoted},
};

/// Room made at once for a header; longer ones grow on.
const HEADER_USUAL_BYTES: usize = 320;

impl From<JsonError> for DecodeError {
    fn from(error: JsonError) -> Self {
        DecodeError::Json { what: error.what, at: error.at }
    }
}

pub(super) fn decode<'a>(header: &'a [u8], body: &'a [u8]) -> Result<Command<'a>, DecodeError> {
    let mut command = Command {
        code: 0,
        language: Language::Java,
        version: 0,
        opaque: 0,
        flag: 0,
        remark: None,
        fields: Fields::none(true),
        body,
        serialization: Serialization::Json,
    };
    match str::from_utf8(header) {
        Ok(text) => members(text, &mut command)?,
        // Java replaces what is not UTF-8 and goes on; the price of a copy falls on the sender of such a header alone.
        Err(_) => {
            let text = String::from_utf8_lossy(header);
            let mut borrowed = Command { fields: Fields::none(true), remark: None, ..command };
            members(&text, &mut borrowed)?;
            let Command { code, language, version, opaque, flag, remark, fields, .. } = borrowed;
            let remark = remark.map(|remark| Cow::Owned(remark.into_owned()));
            let serialization = Serialization::Json;
            let fields = fields.into_owned();
            return Ok(Command { code, language, version, opaque, flag, remark, fields, body, serialization });
        }
    }
    Ok(command)
}

/// Fills in what the header says; in place, because a command is large to move.
fn members<'a>(text: &'a str, command: &mut Command<'a>) -> Result<(), JsonError> {
    let mut scanner = Scanner::new(text);
    scanner.expect(b'{', "no object")?;
    if scanner.take(b'}') {
        return Ok(());
    }
    loop {
        let name = match scanner.plain_name() {
            Some(name) => Cow::Borrowed(name),
            None => {
                let name = scanner.name()?;
                scanner.expect(b':', "no colon behind a name")?;
                name
            }
        };
        match name.as_ref() {
            "code" => command.code = int(&mut scanner, command.code)?,
            "flag" => command.flag = int(&mut scanner, command.flag)?,
            "opaque" => command.opaque = int(&mut scanner, command.opaque)?,
            "version" => command.version = int(&mut scanner, command.version)?,
            "language" => command.language = language(&mut scanner)?,
            "remark" => command.remark = text_of(&mut scanner)?,
            "extFields" => fields(&mut scanner, &mut command.fields)?,
            _ => {
                if let Token::Object | Token::Array = scanner.token()? {
                    scanner.skip_members()?;
                }
            }
        }
        if !scanner.more(b'}')? {
            return Ok(());
        }
    }
}

/// A number, or text that holds one. Null leaves what was there.
fn int(scanner: &mut Scanner<'_>, before: i32) -> Result<i32, JsonError> {
    if let Some(number) = scanner.plain_int() {
        return Ok(number);
    }
    let parsed = match scanner.token()? {
        Token::Null => Some(before),
        Token::Number(digits) => digits.parse().ok().or_else(|| cut(digits)),
        Token::Text(digits) => digits.trim().parse().ok(),
        _ => None,
    };
    parsed.map_or_else(|| scanner.error("a value that is not a 32-bit number"), Ok)
}

/// A number with a fraction, which is cut off.
#[cold]
fn cut(digits: &str) -> Option<i32> {
    let number = digits.parse::<f64>().ok()?.trunc();
    (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&number).then_some(number as i32)
}

fn language(scanner: &mut Scanner<'_>) -> Result<Language, JsonError> {
    Ok(match scanner.token()? {
        Token::Number(digits) => digits.parse().map_or(Language::Other, Language::from_code),
        Token::Text(name) => Language::from_name(&name),
        Token::Object | Token::Array => {
            scanner.skip_members()?;
            Language::Other
        }
        Token::Null | Token::Bool(_) => Language::Other,
    })
}

/// Whatever stands there as text; an object or array as it was written.
fn text_of<'a>(scanner: &mut Scanner<'a>) -> Result<Option<Cow<'a, str>>, JsonError> {
    if scanner.peek() == Some(b'"') {
        return scanner.name().map(Some);
    }
    let start = scanner.at();
    Ok(match scanner.token()? {
        Token::Null => None,
        Token::Bool(truth) => Some(Cow::Borrowed(if truth { "true" } else { "false" })),
        Token::Number(digits) => Some(Cow::Borrowed(digits)),
        Token::Text(text) => Some(text),
        Token::Object | Token::Array => {
            scanner.skip_members()?;
            Some(Cow::Borrowed(scanner.since(start)))
        }
    })
}

fn fields<'a>(scanner: &mut Scanner<'a>, fields: &mut Fields<'a>) -> Result<(), JsonError> {
    match scanner.token()? {
        Token::Object => fields.absent = false,
        Token::Null => return Ok(()),
        _ => return scanner.error("extFields that are no object"),
    }
    if scanner.take(b'}') {
        return Ok(());
    }
    loop {
        if let Some((name, value)) = scanner.plain_member() {
            fields.push_borrowed(name, value);
        } else {
            let name = scanner.name()?;
            scanner.expect(b':', "no colon behind a name")?;
            match (name, scanner.quoted_into(&mut fields.unescaped)?) {
                (Cow::Borrowed(name), Some(value)) => fields.push_quoted(name, value),
                (name, Some(Quoted::Plain(value))) => fields.push(name, Cow::Borrowed(value)),
                (name, Some(Quoted::Unescaped(from))) => {
                    let value = fields.unescaped.split_off(from);
                    fields.push(name, Cow::Owned(value));
                }
                (name, None) => {
                    if let Some(value) = text_of(scanner)? {
                        fields.push(name, value);
                    }
                }
            }
        }
        if !scanner.more(b'}')? {
            return Ok(());
        }
    }
}

pub(super) fn encode(outline: &Outline<'_>, out: &mut Vec<u8>) {
    out.reserve(HEADER_USUAL_BYTES);
    out.extend_from_slice(b"{\"code\":");
    push_int(out, outline.code.into());
    out.extend_from_slice(b",\"extFields\":{");
    let mut is_first = true;
    for (key, value) in outline.fields {
        // Our own names need no escaping.
        out.extend_from_slice(if std::mem::take(&mut is_first) { b"\"" } else { b",\"" });
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(b"\":");
        match value {
            Value::Text(text) => push_quoted(out, text),
            Value::Int(number) => {
                out.push(b'"');
                push_int(out, *number);
                out.push(b'"');
            }
            Value::Bool(truth) => out.extend_from_slice(if *truth { b"\"true\"" } else { b"\"false\"" }),
            Value::MessageId(id) => {
                out.push(b'"');
                id.render(out);
                out.push(b'"');
            }
        }
    }
    for (key, value) in outline.passed_on {
        if !std::mem::take(&mut is_first) {
            out.push(b',');
        }
        push_quoted(out, key);
        out.push(b':');
        push_quoted(out, value);
    }
    out.extend_from_slice(b"},\"flag\":");
    push_int(out, outline.flag.into());
    // Clients of 4.x know no RUST and read the name; everything RocketMQ itself sends says JAVA.
    out.extend_from_slice(b",\"language\":\"JAVA\",\"opaque\":");
    push_int(out, outline.opaque.into());
    if let Some(remark) = outline.remark {
        out.extend_from_slice(b",\"remark\":");
        push_quoted(out, remark);
    }
    out.extend_from_slice(b",\"serializeTypeCurrentRPC\":\"JSON\",\"version\":");
    push_int(out, OUR_VERSION.into());
    out.push(b'}');
}

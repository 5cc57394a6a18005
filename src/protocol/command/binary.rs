//! The ROCKETMQ (binary) form of a command header. Knows no field's meaning.
//!
//! Layout, big-endian: code i16, language u8, version i16, opaque i32, flag i32, remark length i32 and remark, length i32
//! of the fields in bytes and the fields: key length i16, key, value length i32, value. An empty remark, key or value means
//! none. Code is an i16 here: codes from 32,768 on cannot be told apart from negative ones.

use super::{Command, DecodeError, Fields, Language, OUR_VERSION, Outline, Serialization, Value};
use crate::protocol::json::text::push_int;

/// What is left of a header, and where that begins.
struct Reader<'a> {
    rest: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn bytes(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let Some((bytes, rest)) = self.rest.split_at_checked(length) else {
            return Err(DecodeError::Binary { what, at: self.at });
        };
        self.rest = rest;
        self.at += length;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        Ok(self.bytes(N, what)?.try_into().expect("as many bytes as were asked for"))
    }

    fn short(&mut self, what: &'static str) -> Result<i16, DecodeError> {
        self.array(what).map(i16::from_be_bytes)
    }

    fn int(&mut self, what: &'static str) -> Result<i32, DecodeError> {
        self.array(what).map(i32::from_be_bytes)
    }

    /// Bytes behind a length of four.
    fn counted(&mut self, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let at = self.at;
        let length = usize::try_from(self.int(what)?).map_err(|_| DecodeError::Binary { what, at })?;
        self.bytes(length, what)
    }
}

pub(super) fn decode<'a>(header: &'a [u8], body: &'a [u8]) -> Result<Command<'a>, DecodeError> {
    let mut reader = Reader { rest: header, at: 0 };
    let code = reader.short("no code")?;
    let [language] = reader.array("no language")?;
    let version = reader.short("no version")?;
    let opaque = reader.int("no opaque")?;
    let flag = reader.int("no flag")?;
    let remark = reader.counted("a remark that does not end")?;
    let block = reader.counted("fields that do not end")?;
    let mut fields = Fields::none(block.is_empty());
    let mut reader = Reader { rest: block, at: reader.at - block.len() };
    while !reader.rest.is_empty() {
        let at = reader.at;
        let length = reader.short("a key without length")?;
        let length = usize::try_from(length).map_err(|_| DecodeError::Binary { what: "a negative key length", at })?;
        let key = reader.bytes(length, "a key that does not end")?;
        let value = reader.counted("a value that does not end")?;
        if !key.is_empty() && !value.is_empty() {
            fields.push(String::from_utf8_lossy(key), String::from_utf8_lossy(value));
        }
    }
    Ok(Command {
        code: code.into(),
        language: Language::from_code(language),
        version: version.into(),
        opaque,
        flag,
        remark: (!remark.is_empty()).then(|| String::from_utf8_lossy(remark)),
        fields,
        body,
        serialization: Serialization::Binary,
    })
}

pub(super) fn encode(outline: &Outline<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(&(outline.code as i16).to_be_bytes());
    out.push(Language::Java as u8);
    out.extend_from_slice(&(OUR_VERSION as i16).to_be_bytes());
    out.extend_from_slice(&outline.opaque.to_be_bytes());
    out.extend_from_slice(&outline.flag.to_be_bytes());
    counted(out, |out| out.extend_from_slice(outline.remark.unwrap_or_default().as_bytes()));
    counted(out, |out| {
        for (key, value) in outline.fields {
            push_key(out, key);
            counted(out, |out| match value {
                Value::Text(text) => out.extend_from_slice(text.as_bytes()),
                Value::Int(number) => push_int(out, *number),
                Value::Bool(truth) => out.extend_from_slice(if *truth { b"true" } else { b"false" }),
                Value::MessageId(id) => id.render(out),
            });
        }
        for (key, value) in outline.passed_on {
            // A key this long came in as JSON and has no form here.
            if key.len() <= i16::MAX as usize {
                push_key(out, key);
                counted(out, |out| out.extend_from_slice(value.as_bytes()));
            }
        }
    });
}

fn push_key(out: &mut Vec<u8>, key: &str) {
    out.extend_from_slice(&(key.len() as i16).to_be_bytes());
    out.extend_from_slice(key.as_bytes());
}

/// Writes a length of four and then what it counts.
fn counted(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out);
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

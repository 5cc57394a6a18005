//! A remoting command: what stands between two lengths of a frame. `Command` borrows the read buffer; `Response` and
//! `Call` are what we send.

mod binary;
mod fields;
mod json;

use std::borrow::Cow;

use bytes::Bytes;
pub use fields::Fields;
use smallvec::SmallVec;

use crate::model::OffsetMessageId;

/// `flag` bit 0: this is an answer.
pub const FLAG_RESPONSE: i32 = 1;
/// `flag` bit 1: no answer is wanted.
pub const FLAG_ONEWAY: i32 = 2;
/// The MQVersion ordinal that our commands state (V4_9_7); 413 and above would switch on 5.x features in clients.
pub const OUR_VERSION: i32 = 407;

/// How a header is written; stands in the top byte of the frame's second word. An answer uses its request's form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Serialization {
    Json = 0,
    Binary = 1,
}

/// Language codes of the sender (ordinals of RocketMQ's LanguageCode). An unknown one is `Other`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Language {
    Java = 0,
    Cpp = 1,
    Dotnet = 2,
    Python = 3,
    Delphi = 4,
    Erlang = 5,
    Ruby = 6,
    Other = 7,
    Http = 8,
    Go = 9,
    Php = 10,
    Oms = 11,
    Rust = 12,
    NodeJs = 13,
}

impl Language {
    /// By ordinal, as the binary header states it.
    pub fn from_code(code: u8) -> Self {
        Self::ALL.get(usize::from(code)).map_or(Language::Other, |(language, _)| *language)
    }

    /// By name, as the JSON header states it.
    pub fn from_name(name: &str) -> Self {
        Self::ALL.iter().find(|(_, known)| *known == name).map_or(Language::Other, |(language, _)| *language)
    }

    /// RocketMQ's name of it.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// In the order of the ordinals.
    const ALL: [(Language, &'static str); 14] = [
        (Language::Java, "JAVA"),
        (Language::Cpp, "CPP"),
        (Language::Dotnet, "DOTNET"),
        (Language::Python, "PYTHON"),
        (Language::Delphi, "DELPHI"),
        (Language::Erlang, "ERLANG"),
        (Language::Ruby, "RUBY"),
        (Language::Other, "OTHER"),
        (Language::Http, "HTTP"),
        (Language::Go, "GO"),
        (Language::Php, "PHP"),
        (Language::Oms, "OMS"),
        (Language::Rust, "RUST"),
        (Language::NodeJs, "NODE_JS"),
    ];
}

/// A received command. Text borrows the read buffer unless it had to be unescaped.
#[derive(Debug, Clone, PartialEq)]
pub struct Command<'a> {
    pub code: i32,
    pub language: Language,
    pub version: i32,
    pub opaque: i32,
    pub flag: i32,
    pub remark: Option<Cow<'a, str>>,
    pub fields: Fields<'a>,
    pub body: &'a [u8],
    pub serialization: Serialization,
}

impl Command<'_> {
    pub fn is_response(&self) -> bool {
        self.flag & FLAG_RESPONSE != 0
    }

    pub fn is_oneway(&self) -> bool {
        self.flag & FLAG_ONEWAY != 0
    }
}

/// A value of a field we send: rendered straight into the buffer, without formatting machinery on the hot paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Text(Cow<'static, str>),
    Int(i64),
    Bool(bool),
    MessageId(OffsetMessageId),
}

pub type FieldsOut = SmallVec<[(&'static str, Value); 6]>;

/// An answer. Opaque and serialization are its request's and are given when it is written.
#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    pub code: i32,
    pub remark: Option<Cow<'static, str>>,
    pub fields: FieldsOut,
    /// Fields whose names are only known at run time (answers passed on from another client).
    pub passed_on: Vec<(String, String)>,
    /// One behind the other; the pull path puts slices of the log here without copying them.
    pub body: SmallVec<[Bytes; 2]>,
}

impl Response {
    pub fn new(code: i32) -> Self {
        Response { code, remark: None, fields: FieldsOut::new(), passed_on: Vec::new(), body: SmallVec::new() }
    }

    /// Code 0.
    pub fn success() -> Self {
        Self::new(super::code::response::SUCCESS)
    }

    pub fn error(code: i32, remark: impl Into<Cow<'static, str>>) -> Self {
        let mut response = Self::new(code);
        response.remark = Some(remark.into());
        response
    }

    pub fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.fields.push((key, value.into()));
        self
    }

    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body.push(body.into());
        self
    }

    pub fn body_len(&self) -> usize {
        self.body.iter().map(Bytes::len).sum()
    }
}

/// A request that we send: the broker to a client, to a name server, or the bench and admin tools to a broker.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    pub code: i32,
    pub fields: FieldsOut,
    pub passed_on: Vec<(String, String)>,
    pub body: Bytes,
}

impl Call {
    pub fn new(code: i32) -> Self {
        Call { code, fields: FieldsOut::new(), passed_on: Vec::new(), body: Bytes::new() }
    }

    pub fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.fields.push((key, value.into()));
        self
    }

    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }
}

/// An answer received, owned (the read buffer is gone by the time somebody looks at it).
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    pub code: i32,
    pub version: i32,
    pub remark: Option<String>,
    pub fields: Fields<'static>,
    pub body: Bytes,
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Value::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(Cow::Owned(text))
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Value::Int(number)
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Self {
        Value::Int(number.into())
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Value::Bool(truth)
    }
}

impl From<OffsetMessageId> for Value {
    fn from(id: OffsetMessageId) -> Self {
        Value::MessageId(id)
    }
}

/// Why a frame's content is not a command. The connection that sent it is closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("header of {header} bytes in a frame of {frame}")]
    HeaderLength { header: usize, frame: usize },
    #[error("serialization type {0} is neither JSON (0) nor ROCKETMQ (1)")]
    Serialization(u8),
    #[error("header is not JSON: {what} at byte {at}")]
    Json { what: &'static str, at: usize },
    #[error("binary header: {what} at byte {at}")]
    Binary { what: &'static str, at: usize },
}

/// Decodes a frame's content (everything behind the total length: second word, header, body).
pub fn decode(content: &[u8]) -> Result<Command<'_>, DecodeError> {
    let frame = content.len();
    let Some((word, rest)) = content.split_first_chunk::<4>() else {
        return Err(DecodeError::HeaderLength { header: 0, frame });
    };
    let word = u32::from_be_bytes(*word);
    let header = (word & 0x00FF_FFFF) as usize;
    if header > rest.len() {
        return Err(DecodeError::HeaderLength { header, frame });
    }
    let (header, body) = rest.split_at(header);
    match (word >> 24) as u8 {
        0 => json::decode(header, body),
        1 => binary::decode(header, body),
        other => Err(DecodeError::Serialization(other)),
    }
}

/// Appends the frame of `response` up to its body to `out`: total length (counting the body, which the caller writes
/// behind it), second word, header.
pub fn encode_response(response: &Response, opaque: i32, serialization: Serialization, out: &mut Vec<u8>) {
    let outline = Outline {
        code: response.code,
        flag: FLAG_RESPONSE,
        opaque,
        remark: response.remark.as_deref(),
        fields: &response.fields,
        passed_on: &response.passed_on,
    };
    let start = out.len();
    if encode(&outline, response.body_len(), serialization, out).is_err() {
        // Only text passed on from another client grows so long. Opaque and body length stay, so that the asker learns
        // of it and the stream stays whole.
        out.truncate(start);
        let short = Outline {
            code: super::code::response::SYSTEM_ERROR,
            remark: Some("the answer's header exceeds 16 MiB"),
            passed_on: &[],
            fields: &FieldsOut::new(),
            ..outline
        };
        encode(&short, response.body_len(), serialization, out).expect("a header of one sentence is short");
    }
}

/// Appends the frame of `call` with its body to `out`.
pub fn encode_call(call: &Call, opaque: i32, oneway: bool, serialization: Serialization, out: &mut Vec<u8>) {
    let outline = Outline {
        code: call.code,
        flag: if oneway { FLAG_ONEWAY } else { 0 },
        opaque,
        remark: None,
        fields: &call.fields,
        passed_on: &call.passed_on,
    };
    let start = out.len();
    if encode(&outline, call.body.len(), serialization, out).is_err() {
        // Only a request passed on carries so much; its receiver answers that the fields are missing.
        out.truncate(start);
        let short = Outline { passed_on: &[], fields: &FieldsOut::new(), ..outline };
        encode(&short, call.body.len(), serialization, out).expect("a header without fields is short");
    }
    out.extend_from_slice(&call.body);
}

/// What the two serializations write.
struct Outline<'a> {
    code: i32,
    flag: i32,
    opaque: i32,
    remark: Option<&'a str>,
    fields: &'a FieldsOut,
    passed_on: &'a [(String, String)],
}

/// The header does not fit its 24-bit length.
#[derive(Debug)]
struct TooLong;

fn encode(
    outline: &Outline<'_>,
    body_len: usize,
    serialization: Serialization,
    out: &mut Vec<u8>,
) -> Result<(), TooLong> {
    let start = out.len();
    out.extend_from_slice(&[0; 8]);
    match serialization {
        Serialization::Json => json::encode(outline, out),
        Serialization::Binary => binary::encode(outline, out),
    }
    let header = out.len() - start - 8;
    if header >= 1 << 24 {
        return Err(TooLong);
    }
    let total = 4 + header + body_len;
    out[start..start + 4].copy_from_slice(&(total as u32).to_be_bytes());
    let word = (serialization as u32) << 24 | header as u32;
    out[start + 4..start + 8].copy_from_slice(&word.to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests;

//! Bodies of requests and answers, typed. Knows the shapes that Java, Go and C++ clients and tools send and want; not what
//! they mean to a broker.
//!
//! A member that is missing or null takes its default; unknown members are ignored; what is sent leaves out `None`, as
//! fastjson leaves out null. Members stand in alphabetical order because Java writes them so.

pub mod admin;
pub mod batch;
pub mod client;
pub mod filters;
pub mod kv;
pub mod offsets;
pub mod register;
pub mod route;
pub mod stats;
pub mod subscription;
pub mod topic;

use std::collections::{BTreeMap, BTreeSet};

pub use admin::*;
pub use client::*;
pub use filters::*;
pub use kv::*;
pub use offsets::*;
pub use register::*;
pub use route::*;
pub use stats::*;
pub use subscription::*;
pub use topic::*;

use super::json::{Json, JsonError, Style};

/// What is wrong with a body; readable as the remark of an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("the body is {0}")]
    Json(#[from] JsonError),
    #[error("the body's member {member} is not {expected}")]
    Malformed { member: &'static str, expected: &'static str },
    #[error("the body's {0}")]
    Binary(&'static str),
}

/// A type that a member may have.
pub trait Member: Sized {
    /// What was expected, if `json` is something else.
    fn read(json: &Json<'_>) -> Result<Self, Expected>;

    /// What a missing member means; `None` is an error.
    fn missing() -> Option<Self>;

    fn write(&self) -> Json<'_>;
}

/// Why a member cannot be read: in words what belongs there, or an error further inside.
pub enum Expected {
    Words(&'static str),
    /// Nothing: fastjson would have made null of it.
    Nothing,
    Inside(BodyError),
}

impl Expected {
    fn of(self, member: &'static str) -> BodyError {
        match self {
            Expected::Words(expected) => BodyError::Malformed { member, expected },
            Expected::Nothing => BodyError::Malformed { member, expected: "known" },
            Expected::Inside(error) => error,
        }
    }
}

/// A type that a map's key may have.
pub trait Key: Ord + Sized {
    fn read_key(json: &Json<'_>) -> Option<Self>;
    fn write_key(&self) -> Json<'_>;
}

/// A body that is one JSON value.
pub trait Body: Member {
    /// Reads a body from the wire. An empty one is an error.
    fn decode(bytes: &[u8]) -> Result<Self, BodyError> {
        Self::read(&Json::parse(bytes)?).map_err(|expected| expected.of("(itself)"))
    }

    /// Reads a file of the store's `config` directory, of any size.
    fn decode_file(bytes: &[u8]) -> Result<Self, BodyError> {
        Self::read(&Json::parse_file(bytes)?).map_err(|expected| expected.of("(itself)"))
    }

    /// As RocketMQ sends it: numeric keys bare.
    fn encode(&self) -> Vec<u8> {
        self.write().encode(Style::COMPACT)
    }

    /// As RocketMQ keeps it in files.
    fn encode_file(&self) -> Vec<u8> {
        self.write().encode(Style::PRETTY)
    }
}

impl<T: Member> Body for T {}

fn read_member<T: Member>(json: Option<&Json<'_>>, member: &'static str) -> Result<T, BodyError> {
    match json {
        None | Some(Json::Null) => T::missing().ok_or(BodyError::Malformed { member, expected: "there" }),
        Some(json) => match T::read(json) {
            Err(Expected::Nothing) => read_member(None, member),
            read => read.map_err(|expected| expected.of(member)),
        },
    }
}

impl Member for String {
    fn read(json: &Json<'_>) -> Result<Self, Expected> {
        Ok(match json {
            // As fastjson: the text of what stands there.
            Json::List(_) | Json::Object(_) => String::from_utf8(json.encode(Style::COMPACT)).expect("JSON is UTF-8"),
            json => json.text().map(String::from).ok_or(Expected::Words("text"))?,
        })
    }

    fn missing() -> Option<Self> {
        Some(String::new())
    }

    fn write(&self) -> Json<'_> {
        self.as_str().into()
    }
}

macro_rules! number_members {
    ($($number:ty, $words:literal;)*) => {$(
        impl Member for $number {
            fn read(json: &Json<'_>) -> Result<Self, Expected> {
                if json.is_nothing() {
                    return Ok(0);
                }
                json.int().and_then(|number| number.try_into().ok()).ok_or(Expected::Words($words))
            }

            fn missing() -> Option<Self> {
                Some(0)
            }

            fn write(&self) -> Json<'_> {
                (*self).into()
            }
        }

        /// Written bare.
        impl Key for $number {
            fn read_key(json: &Json<'_>) -> Option<Self> {
                json.int()?.try_into().ok()
            }

            fn write_key(&self) -> Json<'_> {
                (*self).into()
            }
        }
    )*};
}

number_members! {
    i32, "a 32-bit number";
    i64, "a 64-bit number";
}

impl Member for f64 {
    fn read(json: &Json<'_>) -> Result<Self, Expected> {
        json.float().ok_or(Expected::Words("a number"))
    }

    fn missing() -> Option<Self> {
        Some(0.0)
    }

    fn write(&self) -> Json<'_> {
        (*self).into()
    }
}

impl Member for bool {
    fn read(json: &Json<'_>) -> Result<Self, Expected> {
        if json.is_nothing() {
            return Ok(false);
        }
        json.truth().ok_or(Expected::Words("true or false"))
    }

    fn missing() -> Option<Self> {
        Some(false)
    }

    fn write(&self) -> Json<'_> {
        (*self).into()
    }
}

/// Kept as it came.
impl Member for Json<'static> {
    fn read(json: &Json<'_>) -> Result<Self, Expected> {
        Ok(json.clone().into_owned())
    }

    fn missing() -> Option<Self> {
        Some(Json::Null)
    }

    fn write(&self) -> Json<'_> {
        self.clone()
    }
}

impl<T: Member> Member for Option<T> {
    fn read(json: &Json<'_>) -> Result<Self, Expected> {
        T::read(json).map(Some)
    }

    fn missing() -> Option<Self> {
        Some(None)
    }

    fn write(&self) -> Json<'_> {
        self.as_ref().map_or(Json::Null, Member::write)
    }
}

fn read_items<T: Member, C: FromIterator<T>>(json: &Json<'_>) -> Result<C, Expected> {
    let Json::List(values) = json else { return Err(Expected::Words("a list")) };
    values.iter().filter(|value| **value != Json::Null).map(T::read).collect()
}

impl<T: Member> Member for Vec<T> {
    fn read(json: &Json<'_>) -> Result<Self, Expected> {
        read_items(json)
    }

    fn missing() -> Option<Self> {
        Some(Vec::new())
    }

    fn write(&self) -> Json<'_> {
        Json::List(self.iter().map(Member::write).collect())
    }
}

impl<T: Member + Ord> Member for BTreeSet<T> {
    fn read(json: &Json<'_>) -> Result<Self, Expected> {
        read_items(json)
    }

    fn missing() -> Option<Self> {
        Some(BTreeSet::new())
    }

    fn write(&self) -> Json<'_> {
        Json::List(self.iter().map(Member::write).collect())
    }
}

impl<K: Key, T: Member> Member for BTreeMap<K, T> {
    fn read(json: &Json<'_>) -> Result<Self, Expected> {
        let Json::Object(members) = json else { return Err(Expected::Words("an object")) };
        let members = members.iter().filter(|(_, value)| *value != Json::Null);
        members
            .map(|(key, value)| {
                Ok((K::read_key(key).ok_or(Expected::Words("a map of the right keys"))?, T::read(value)?))
            })
            .collect()
    }

    fn missing() -> Option<Self> {
        Some(BTreeMap::new())
    }

    fn write(&self) -> Json<'_> {
        Json::Object(self.iter().map(|(key, value)| (key.write_key(), value.write())).collect())
    }
}

impl Key for String {
    fn read_key(json: &Json<'_>) -> Option<Self> {
        json.text().map(String::from)
    }

    fn write_key(&self) -> Json<'_> {
        self.as_str().into()
    }
}

/// Declares a body: its members, their types, their names, and what a missing one means if not its type's default.
macro_rules! body {
    ($(
        $(#[$doc:meta])*
        pub struct $body:ident {
            $($(#[$member_doc:meta])* pub $member:ident: $type:ty = $name:literal $(must $exist:ident)? $(or $default:expr)?,)*
        }
    )*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $body {
            $($(#[$member_doc])* pub $member: $type,)*
        }

        impl $crate::protocol::body::Member for $body {
            fn read(json: &$crate::protocol::json::Json<'_>) -> Result<Self, $crate::protocol::body::Expected> {
                let $crate::protocol::json::Json::Object(_) = json else {
                    return Err($crate::protocol::body::Expected::Words("an object"));
                };
                let read = || Ok(Self {
                    $($member: $crate::protocol::body::body!(@read json, $name $(; $exist)? $(, $default)?),)*
                });
                read().map_err($crate::protocol::body::Expected::Inside)
            }

            fn missing() -> Option<Self> {
                None
            }

            fn write(&self) -> $crate::protocol::json::Json<'_> {
                $crate::protocol::json::Json::object([
                    $(($name, $crate::protocol::body::Member::write(&self.$member)),)*
                ])
            }
        }
    )*};
    (@read $json:expr, $name:literal) => {
        $crate::protocol::body::read_member($json.get($name), $name)?
    };
    (@read $json:expr, $name:literal; exist) => {
        match $json.get($name) {
            None | Some($crate::protocol::json::Json::Null) => {
                return Err($crate::protocol::body::BodyError::Malformed { member: $name, expected: "there" });
            }
            member => $crate::protocol::body::read_member(member, $name)?,
        }
    };
    (@read $json:expr, $name:literal, $default:expr) => {
        match $json.get($name) {
            None => $default,
            member => $crate::protocol::body::read_member::<Option<_>>(member, $name)?.unwrap_or($default),
        }
    };
}
use body;

/// Declares an enum of Java: written by name, read by name or ordinal; an unknown name is none, as in fastjson.
macro_rules! java_enum {
    ($(
        $(#[$doc:meta])*
        pub enum $enum:ident {
            $($(#[$variant_doc:meta])* $variant:ident = $name:literal,)*
        }
    )*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $enum {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $enum {
            const ALL: &'static [($enum, &'static str)] = &[$(($enum::$variant, $name)),*];

            /// RocketMQ's name of it.
            pub fn name(self) -> &'static str {
                Self::ALL[self as usize].1
            }

            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().find(|(_, known)| *known == name).map(|(value, _)| *value)
            }
        }

        impl $crate::protocol::body::Member for $enum {
            fn read(json: &$crate::protocol::json::Json<'_>) -> Result<Self, $crate::protocol::body::Expected> {
                let by_name = json.text().and_then(|name| Self::from_name(&name));
                let by_ordinal = || Self::ALL.get(usize::try_from(json.int()?).ok()?).map(|(value, _)| *value);
                let expected = concat!("a ", stringify!($enum));
                let unknown = match json {
                    $crate::protocol::json::Json::Text(_) => $crate::protocol::body::Expected::Nothing,
                    _ => $crate::protocol::body::Expected::Words(expected),
                };
                by_name.or_else(by_ordinal).ok_or(unknown)
            }

            fn missing() -> Option<Self> {
                Some(Self::ALL[0].0)
            }

            fn write(&self) -> $crate::protocol::json::Json<'_> {
                self.name().into()
            }
        }
    )*};
}
use java_enum;

body! {
    /// A queue of a topic on a broker; also a key of maps.
    #[derive(Eq, PartialOrd, Ord, Hash)]
    pub struct MessageQueue {
        pub broker_name: String = "brokerName",
        pub queue_id: i32 = "queueId",
        pub topic: String = "topic",
    }

    /// Counts changes; equal versions mean equal content.
    #[derive(Eq, Default)]
    pub struct DataVersion {
        pub counter: i64 = "counter",
        /// 5.x only; 4.x neither sends nor keeps it.
        pub state_version: Option<i64> = "stateVersion",
        /// Milliseconds since 1970.
        pub timestamp: i64 = "timestamp",
    }
}

impl Key for MessageQueue {
    fn read_key(json: &Json<'_>) -> Option<Self> {
        Self::read(json).ok()
    }

    fn write_key(&self) -> Json<'_> {
        self.write()
    }
}

impl DataVersion {
    /// The version after one more change at `now_ms`.
    pub fn next(&mut self, now_ms: i64) {
        self.counter += 1;
        self.timestamp = now_ms;
    }
}

#[cfg(test)]
mod tests;

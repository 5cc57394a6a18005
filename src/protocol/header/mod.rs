//! Custom headers of requests, typed. Each borrows its text from the command's fields. Knows names, types and which field
//! may be missing; not what a value means to a broker.
//!
//! The type of a member says how it is read: `&str`, `i32` and `i64` must be there, a `&str` unless it says what it is
//! otherwise (`or "null"`: RocketMQ goes on with null, and says so in remarks); `Option<_>` may be missing, a text also
//! empty, and a number that is none is missing, unless it is `exact as_is`: RocketMQ reads most headers field by field and
//! forgives each of them, but a few in one go;
//! a `bool` that is missing is false, and only `true` in any case is true (the C++ client's `"1"` is false, as in Java).

pub mod admin;
pub mod client;
pub mod consume;
pub mod name_server;
pub mod send;

pub use admin::*;
pub use client::*;
pub use consume::*;
pub use name_server::*;
pub use send::*;

use super::command::{Fields, FieldsOut, Value};

/// What is wrong with a header; readable as the remark of an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("the request's header lacks the field {0}")]
    Missing(&'static str),
    #[error("the request's header field {field} is {value:?} where {expected} belongs")]
    Malformed { field: &'static str, value: String, expected: &'static str },
}

impl HeaderError {
    #[cold]
    fn malformed(field: &'static str, value: &str, expected: &'static str) -> Self {
        let value = value.chars().take(64).collect();
        HeaderError::Malformed { field, value, expected }
    }
}

/// A type that a header's member may have.
trait Field<'a>: Sized {
    fn read(name: &'static str, value: Option<&'a str>) -> Result<Self, HeaderError>;

    /// Whether the empty text counts as a missing field.
    const EMPTY_IS_MISSING: bool = false;

    /// What is sent; `None` leaves the field out.
    fn write(&self) -> Option<Value>;
}

impl<'a> Field<'a> for &'a str {
    const EMPTY_IS_MISSING: bool = true;

    #[inline]
    fn read(name: &'static str, value: Option<&'a str>) -> Result<Self, HeaderError> {
        value.ok_or(HeaderError::Missing(name))
    }

    fn write(&self) -> Option<Value> {
        Some(Value::from((*self).to_owned()))
    }
}

impl<'a> Field<'a> for i32 {
    #[inline]
    fn read(name: &'static str, value: Option<&'a str>) -> Result<Self, HeaderError> {
        let value = value.ok_or(HeaderError::Missing(name))?;
        value.parse().map_err(|_| HeaderError::malformed(name, value, "a 32-bit number"))
    }

    fn write(&self) -> Option<Value> {
        Some(Value::from(*self))
    }
}

impl<'a> Field<'a> for i64 {
    #[inline]
    fn read(name: &'static str, value: Option<&'a str>) -> Result<Self, HeaderError> {
        let value = value.ok_or(HeaderError::Missing(name))?;
        value.parse().map_err(|_| HeaderError::malformed(name, value, "a 64-bit number"))
    }

    fn write(&self) -> Option<Value> {
        Some(Value::from(*self))
    }
}

impl<'a> Field<'a> for bool {
    #[inline]
    fn read(_: &'static str, value: Option<&'a str>) -> Result<Self, HeaderError> {
        Ok(value.is_some_and(|value| value.eq_ignore_ascii_case("true")))
    }

    fn write(&self) -> Option<Value> {
        Some(Value::from(*self))
    }
}

impl<'a, T: Field<'a>> Field<'a> for Option<T> {
    #[inline]
    fn read(name: &'static str, value: Option<&'a str>) -> Result<Self, HeaderError> {
        match value {
            None => Ok(None),
            Some("") if T::EMPTY_IS_MISSING => Ok(None),
            value => Ok(T::read(name, value).ok()),
        }
    }

    fn write(&self) -> Option<Value> {
        self.as_ref()?.write()
    }
}

/// What may be missing, but is not made missing by being something else.
#[inline]
fn exact<'a, T: Field<'a>>(name: &'static str, value: Option<&'a str>) -> Result<Option<T>, HeaderError> {
    value.map(|value| T::read(name, Some(value))).transpose()
}

/// Declares a header: its members, their types, their names on the wire.
macro_rules! header {
    ($(
        $(#[$doc:meta])*
        pub struct $header:ident $(<$lifetime:lifetime>)? {
            $($(#[$member_doc:meta])* pub $member:ident: $type:ty = $name:literal $(or $default:literal)? $(exact $exact:ident)?,)*
        }
    )*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $header $(<$lifetime>)? {
            $($(#[$member_doc])* pub $member: $type,)*
        }

        impl $(<$lifetime>)? $header $(<$lifetime>)? {
            /// One pass over the fields; unknown ones are ignored, of equal names the last one counts.
            pub fn decode(fields: & $($lifetime)? $crate::protocol::command::Fields<'_>) -> Result<Self, $crate::protocol::header::HeaderError> {
                $(let mut $member = $crate::protocol::header::header!(@initial $($default)?);)*
                for (key, value) in fields.iter() {
                    match key {
                        $($name => $member = Some(value),)*
                        _ => {}
                    }
                }
                Ok(Self { $($member: $crate::protocol::header::header!(@read $name, $member $(, $exact)?)?,)* })
            }

            /// Appends the members as fields of a call, in the order of their declaration.
            pub fn write(&self, out: &mut $crate::protocol::command::FieldsOut) {
                $(if let Some(value) = $crate::protocol::header::Field::write(&self.$member) {
                    out.push(($name, value));
                })*
            }
        }
    )*};
    (@initial) => { None };
    (@initial $default:literal) => { Some($default) };
    (@read $name:literal, $value:expr) => { $crate::protocol::header::Field::read($name, $value) };
    (@read $name:literal, $value:expr, as_is) => { $crate::protocol::header::exact($name, $value) };
}
use header;

#[cfg(test)]
mod tests;

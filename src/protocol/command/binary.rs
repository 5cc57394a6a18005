//! The ROCKETMQ (binary) form of a command header.

use super::{Command, DecodeError, Outline};

pub(super) fn decode<'a>(_header: &'a [u8], _body: &'a [u8]) -> Result<Command<'a>, DecodeError> {
    Err(DecodeError::Binary { what: "not read yet", at: 0 })
}

pub(super) fn encode(_outline: &Outline<'_>, _out: &mut Vec<u8>) {}

//! What each request means. Everything is checked here; below this floor it is valid.

pub mod admin;
pub mod client;
pub mod end_transaction;
pub mod offset;
pub mod pull;
pub mod query;
pub mod reply;
pub mod send;
pub mod send_back;

use std::borrow::Cow;

use crate::{
    model::message::NAME_MAX_BYTES,
    protocol::{
        body::BodyError,
        code::{request, response},
        command::Response,
        header::HeaderError,
    },
    remoting::{Answer, Request},
};

/// Where RocketMQ's clients find more about an error (4.9.7's address).
pub const FAQ: &str = "\nSee http://rocketmq.apache.org/docs/faq/ for further details.";

/// Codes that the fast port does not serve.
pub const NOT_ON_FAST_PORT: [i32; 2] = [request::PULL_MESSAGE, request::LITE_PULL_MESSAGE];

/// An answer that refuses. A processor's steps return it as their error; boxed, for it is rare and large.
#[derive(Debug)]
pub struct Refused(Box<Response>);

impl Refused {
    pub fn new(code: i32, remark: impl Into<Cow<'static, str>>) -> Self {
        Refused(Box::new(Response::error(code, remark)))
    }

    pub fn system(error: impl std::fmt::Display) -> Self {
        Self::new(response::SYSTEM_ERROR, error.to_string())
    }

    pub fn into_response(self) -> Response {
        *self.0
    }
}

impl From<HeaderError> for Refused {
    fn from(error: HeaderError) -> Self {
        Refused::system(error)
    }
}

impl From<BodyError> for Refused {
    fn from(error: BodyError) -> Self {
        Refused::system(error)
    }
}

/// Names that are kept beyond the request have a bound (`NAME_MAX_BYTES`).
fn check_kept_name(what: &str, name: &str) -> Result<(), Refused> {
    if name.len() <= NAME_MAX_BYTES {
        return Ok(());
    }
    let head: String = name.chars().take(32).collect();
    Err(Refused::system(format!("the {what} {head}... has {} bytes, at most {NAME_MAX_BYTES} are taken", name.len())))
}

/// A refusal is an answer like any other.
fn answer(outcome: Result<Answer, Refused>) -> Answer {
    outcome.unwrap_or_else(|refused| Answer::Now(refused.into_response()))
}

fn not_supported(asked: &Request<'_>) -> Answer {
    let remark = format!(" request type {} not supported", asked.command.code);
    Answer::Now(Response::error(response::REQUEST_CODE_NOT_SUPPORTED, remark))
}

//! Single messages: by their place in the log (33). Reads the store and knows nothing of queues.

use std::sync::Arc;

use crate::{
    broker::core::Core,
    model::LogOffset,
    protocol::{code::request, command::Response, header::ViewMessage},
    remoting::{Answer, Processor, Request},
};

use super::{Refused, answer, not_supported};

pub struct Query(pub Arc<Core>);

impl Processor for Query {
    fn process(&self, asked: &Request<'_>) -> Answer {
        let outcome = match asked.command.code {
            request::VIEW_MESSAGE_BY_ID => self.view(asked),
            _ => return not_supported(asked),
        };
        answer(outcome.map(Answer::Now))
    }
}

impl Query {
    fn view(&self, asked: &Request<'_>) -> Result<Response, Refused> {
        let header = ViewMessage::decode(&asked.command.fields)?;
        let found = match u64::try_from(header.offset) {
            Ok(offset) => self.0.store.record_at(LogOffset(offset)).map_err(unreadable)?,
            Err(_) => None,
        };
        match found {
            Some(record) => Ok(Response::success().with_body(record)),
            None => Err(Refused::system(format!("can not find message by the offset, {}", header.offset))),
        }
    }
}

fn unreadable(error: std::io::Error) -> Refused {
    Refused::system(format!("the store cannot be read: {error}"))
}

//! Messages by key or unique key (12) and by their place in the log (33). Reads the store and knows nothing of queues.

use std::sync::Arc;

use crate::{
    broker::core::Core,
    model::LogOffset,
    protocol::{
        code::{request, response},
        command::Response,
        header::{QueryMessage, ViewMessage},
    },
    remoting::{Answer, Processor, Request},
};

use super::{Refused, answer, not_supported, pull::count_asked};

pub struct Query(pub Arc<Core>);

impl Processor for Query {
    fn process(&self, asked: &Request<'_>) -> Answer {
        let outcome = match asked.command.code {
            request::QUERY_MESSAGE => self.by_key(asked),
            request::VIEW_MESSAGE_BY_ID => self.view(asked),
            _ => return not_supported(asked),
        };
        answer(outcome.map(Answer::Now))
    }
}

impl Query {
    /// The newest ones, in the order of the log.
    fn by_key(&self, asked: &Request<'_>) -> Result<Response, Refused> {
        let header = QueryMessage::decode(&asked.command.fields)?;
        let config = self.0.config();
        let wanted = match (header.unique_key_query, count_asked(header.max_num)) {
            (true, _) => config.default_query_max_num,
            (false, Some(wanted)) => wanted,
            (false, None) => {
                return Err(Refused::system(format!("maxNum {} is no count of messages", header.max_num)));
            }
        };
        let max = wanted.min(config.max_msgs_num_batch) as usize;
        let (begin, end) = (header.begin_timestamp, header.end_timestamp);
        let queried = self.0.store.query(header.topic, header.key, max, begin, end).map_err(unreadable)?;
        let found = !queried.records.is_empty();
        let mut response = match found {
            true => Response::success(),
            false => Response::error(response::QUERY_NOT_FOUND, "can not find message, maybe time range not correct"),
        };
        // Where nothing is found Java has not yet asked how far the index is.
        let (timestamp, offset) = match found {
            true => (queried.last_update_timestamp, queried.last_update_offset.0 as i64),
            false => (0, 0),
        };
        response = response.with("indexLastUpdateTimestamp", timestamp).with("indexLastUpdatePhyoffset", offset);
        response.body.extend(queried.records);
        Ok(response)
    }

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

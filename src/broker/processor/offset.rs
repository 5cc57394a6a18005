//! Positions: what a group has consumed (14, 15) and where a queue begins, ends and was at a time (29–32).

use std::sync::Arc;

use crate::{
    broker::core::Core,
    model::QueueOffset,
    protocol::{
        code::{request, response},
        command::Response,
        header::{GetMaxOffset, GetMinOffset, QueryConsumerOffset, SearchOffset, UpdateConsumerOffset},
    },
    remoting::{Answer, Processor, Request},
};

use super::{Refused, answer, not_supported};

pub struct Offset(pub Arc<Core>);

impl Processor for Offset {
    fn process(&self, asked: &Request<'_>) -> Answer {
        let outcome = match asked.command.code {
            request::QUERY_CONSUMER_OFFSET => self.query(asked),
            request::UPDATE_CONSUMER_OFFSET => self.update(asked),
            request::SEARCH_OFFSET_BY_TIMESTAMP => self.search(asked),
            request::GET_MAX_OFFSET => self.max(asked),
            request::GET_MIN_OFFSET => self.min(asked),
            request::GET_EARLIEST_MSG_STORETIME => self.earliest(asked),
            _ => return not_supported(asked),
        };
        answer(outcome.map(Answer::Now))
    }
}

impl Offset {
    fn query(&self, asked: &Request<'_>) -> Result<Response, Refused> {
        let core = &self.0;
        let header = QueryConsumerOffset::decode(&asked.command.fields)?;
        let stored = core.offsets.query(header.topic, header.consumer_group, header.queue_id);
        if let Some(offset) = stored.filter(|offset| *offset >= 0) {
            return Ok(Response::success().with("offset", offset));
        }
        // A new group on a queue that is wholly there begins at its first message, whatever it asked for.
        let begins_here = u32::try_from(header.queue_id).ok().is_none_or(|queue| {
            core.store.min_offset(header.topic, queue).0 == 0
                && core.store.is_in_memory(header.topic, queue, QueueOffset(0))
        });
        if begins_here {
            return Ok(Response::success().with("offset", 0i64));
        }
        let remark = "Not found, V3_0_6_SNAPSHOT maybe this group consumer boot first";
        Err(Refused::new(response::QUERY_NOT_FOUND, remark))
    }

    fn update(&self, asked: &Request<'_>) -> Result<Response, Refused> {
        let header = UpdateConsumerOffset::decode(&asked.command.fields)?;
        let offsets = &self.0.offsets;
        let is_taken = offsets
            .commit_consumed(header.topic, header.consumer_group, header.queue_id, header.commit_offset)
            .map_err(Refused::system)?;
        let mut response = Response::success();
        if !is_taken {
            response.remark = Some("Offset has been previously reset".into());
        }
        Ok(response)
    }

    fn search(&self, asked: &Request<'_>) -> Result<Response, Refused> {
        let header = SearchOffset::decode(&asked.command.fields)?;
        let Ok(queue) = u32::try_from(header.queue_id) else { return Ok(Response::success().with("offset", 0i64)) };
        let lower = !header.boundary_type.is_some_and(|kind| kind.eq_ignore_ascii_case("upper"));
        let found = self.0.store.offset_by_time(header.topic, queue, header.timestamp, lower).map_err(unreadable)?;
        Ok(Response::success().with("offset", found.0 as i64))
    }

    fn max(&self, asked: &Request<'_>) -> Result<Response, Refused> {
        let header = GetMaxOffset::decode(&asked.command.fields)?;
        let max = u32::try_from(header.queue_id).map_or(0, |queue| self.0.store.max_offset(header.topic, queue).0);
        Ok(Response::success().with("offset", max as i64))
    }

    fn min(&self, asked: &Request<'_>) -> Result<Response, Refused> {
        let header = GetMinOffset::decode(&asked.command.fields)?;
        let min = u32::try_from(header.queue_id).map_or(0, |queue| self.0.store.min_offset(header.topic, queue).0);
        Ok(Response::success().with("offset", min as i64))
    }

    fn earliest(&self, asked: &Request<'_>) -> Result<Response, Refused> {
        let header = GetMinOffset::decode(&asked.command.fields)?;
        let store = &self.0.store;
        let timestamp = match u32::try_from(header.queue_id) {
            Ok(queue) => {
                let first = store.min_offset(header.topic, queue);
                store.store_timestamp(header.topic, queue, first).map_err(unreadable)?
            }
            Err(_) => None,
        };
        Ok(Response::success().with("timestamp", timestamp.unwrap_or(-1)))
    }
}

fn unreadable(error: std::io::Error) -> Refused {
    Refused::system(format!("the store cannot be read: {error}"))
}

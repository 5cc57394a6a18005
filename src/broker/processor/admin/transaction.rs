//! A half message that was given up is asked about again (323).

use crate::{
    broker::{half, topics::CHECK_MAX_TOPIC},
    model::OffsetMessageId,
    protocol::{command::Response, header::ResumeCheckHalfMessage},
    remoting::{Answer, Request},
    store::record::{self, Scan},
};

use super::{Admin, Refused, unreadable};

impl Admin {
    /// Puts the message of TRANS_CHECK_MAX_TIME_TOPIC that the request names back among the half messages, as one that
    /// nobody was asked about. RocketMQ puts any message there.
    pub(super) fn check_half_again(&self, asked: &Request<'_>) -> Result<Answer, Refused> {
        let header = ResumeCheckHalfMessage::decode(&asked.command.fields)?;
        let id = header.message_id.unwrap_or_default();
        let Some(place) = OffsetMessageId::parse(id) else {
            return Err(Refused::system(format!("{id:?} is not the id of a place in a log")));
        };
        let bytes = self.0.store.record_at(place.offset).map_err(unreadable)?.unwrap_or_default();
        let half = match record::scan(&bytes, false) {
            Scan::Record(record) if record.message.topic == CHECK_MAX_TOPIC => half::reopened(&record),
            _ => return Err(Refused::system(format!("there is no message of {CHECK_MAX_TOPIC} at {id}"))),
        };
        let core = self.0.clone();
        Ok(Answer::Later(Box::pin(async move {
            let kept = async { core.store.kept(core.store.put_again_waiting(&half.borrow()).await?.end).await };
            Some(match kept.await {
                Ok(()) => Response::success(),
                Err(error) => {
                    let remark = format!("Put message back to RMQ_SYS_TRANS_HALF_TOPIC failed. {error}");
                    Refused::system(remark).into_response()
                }
            })
        })))
    }
}

//! Requests that we sent and that wait for their answers, by opaque.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

use crate::protocol::command::{Answered, Command};

#[derive(Default)]
pub(super) struct Calls {
    waiting: BTreeMap<i32, oneshot::Sender<Answered>>,
    next: i32,
    closed: bool,
}

/// A call that cannot be begun.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Closed,
    TooMany { under_way: usize },
}

impl Calls {
    pub(super) fn begin(&mut self, max: usize) -> Result<(i32, oneshot::Receiver<Answered>), Refused> {
        if self.closed {
            return Err(Refused::Closed);
        }
        if self.waiting.len() >= max {
            return Err(Refused::TooMany { under_way: self.waiting.len() });
        }
        let opaque = self.next_opaque();
        let (sender, receiver) = oneshot::channel();
        self.waiting.insert(opaque, sender);
        Ok((opaque, receiver))
    }

    /// Positive, and not one that still waits: after 2³¹ calls they begin again.
    pub(super) fn next_opaque(&mut self) -> i32 {
        loop {
            self.next = self.next.wrapping_add(1) & i32::MAX;
            if !self.waiting.contains_key(&self.next) {
                return self.next;
            }
        }
    }

    /// False: nobody waits for it (any more).
    pub(super) fn answer(&mut self, command: Command<'_>) -> bool {
        let Some(waiting) = self.waiting.remove(&command.opaque) else { return false };
        let answered = Answered {
            code: command.code,
            version: command.version,
            body: command.body.to_vec().into(),
            remark: command.remark.map(|text| text.into_owned()),
            fields: command.fields.into_owned(),
        };
        // Whoever waited may have given up in this moment.
        waiting.send(answered).is_ok()
    }

    pub(super) fn forget(&mut self, opaque: i32) {
        self.waiting.remove(&opaque);
    }

    /// Everybody who waits learns of it.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.waiting.clear();
    }
}

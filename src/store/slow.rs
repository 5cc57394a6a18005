//! What took longer than it should, said to the operator before the users notice: a line now and then, the rest counted.
//! (Source of the bounds: the warnings of Apache RocketMQ 4.9.7's store.)

use std::time::Duration;

use crate::model::rate_limited::RateLimited;

/// One line in this time.
const WINDOW: Duration = Duration::from_secs(10);

pub struct Slow {
    what: &'static str,
    bound: Duration,
    advice: &'static str,
    said: RateLimited,
}

impl Slow {
    pub fn new(what: &'static str, bound: Duration, advice: &'static str) -> Self {
        Slow { what, bound, advice, said: RateLimited::new(1, WINDOW) }
    }

    /// It began and ended at these monotonic times.
    pub fn took(&self, began: Duration, ended: Duration) {
        let took = ended.saturating_sub(began);
        if took <= self.bound {
            return;
        }
        if let Some(left_out) = self.said.permit(ended) {
            let also = if left_out > 0 { format!(" ({left_out} more since the last line)") } else { String::new() };
            tracing::warn!(
                "{} took {} ms, more than {} ms{also}: {}",
                self.what,
                took.as_millis(),
                self.bound.as_millis(),
                self.advice
            );
        }
    }
}

//! What keeps a flood of like events from becoming a flood of log lines: some are said, the rest are counted.

use std::{sync::Mutex, time::Duration};

/// Permits `said_max` lines per `window`; the first line of a later window learns how many were left out before it.
pub struct RateLimited {
    said_max: u32,
    window: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    window_start: Duration,
    said: u32,
    left_out: u64,
}

impl RateLimited {
    pub fn new(said_max: u32, window: Duration) -> Self {
        RateLimited { said_max, window, state: Mutex::default() }
    }

    /// Whether a line may be said at `now` (monotonic), and how many were left out since the last one that was.
    pub fn permit(&self, now: Duration) -> Option<u64> {
        let mut state = self.state.lock().expect("nothing panics while it is held");
        if now.saturating_sub(state.window_start) >= self.window {
            state.window_start = now;
            state.said = 0;
        }
        if state.said >= self.said_max {
            state.left_out += 1;
            return None;
        }
        state.said += 1;
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_are_said_and_the_rest_counted() {
        let limited = RateLimited::new(2, Duration::from_secs(10));
        let at = |seconds| limited.permit(Duration::from_secs(seconds));
        assert_eq!([at(100), at(101), at(102), at(109)], [Some(0), Some(0), None, None]);
        assert_eq!([at(110), at(111), at(112)], [Some(2), Some(0), None]);
        assert_eq!(at(500), Some(1));
    }
}

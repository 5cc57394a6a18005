//! One node's clock: monotonic time is the world's, the wall clock jumps, drifts and is coarse as the plan says.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use keelmq::env::{BoxFuture, Clock};

use crate::time::Time;

/// How the wall clock of a node differs from the world's time.
#[derive(Clone, Copy, Debug)]
pub struct Wall {
    /// Milliseconds since 1970 at virtual time zero.
    pub base_ms: i64,
    /// Sum of all jumps.
    pub jump_ms: i64,
    pub drift_per_million: i64,
    /// Ticks of the clock: many readings are equal when it is large.
    pub tick_ms: i64,
    pub utc_offset_s: i32,
}

impl Default for Wall {
    fn default() -> Self {
        Wall { base_ms: 1_700_000_000_000, jump_ms: 0, drift_per_million: 0, tick_ms: 1, utc_offset_s: 8 * 3600 }
    }
}

impl Wall {
    pub fn at(&self, now: Duration) -> i64 {
        let elapsed = now.as_millis() as i64;
        let drift = elapsed * self.drift_per_million / 1_000_000;
        let wall = self.base_ms + elapsed + drift + self.jump_ms;
        wall - wall.rem_euclid(self.tick_ms.max(1))
    }
}

/// Survives crashes of its node: a machine's clock goes on.
#[derive(Clone)]
pub struct NodeClock {
    pub time: Time,
    wall: Arc<Mutex<Wall>>,
}

impl NodeClock {
    pub fn new(time: Time, wall: Wall) -> NodeClock {
        NodeClock { time, wall: Arc::new(Mutex::new(wall)) }
    }

    pub fn change(&self, change: impl FnOnce(&mut Wall)) {
        change(&mut self.wall.lock().expect("nothing panics while it is held"));
    }

    fn wall(&self) -> Wall {
        *self.wall.lock().expect("nothing panics while it is held")
    }
}

impl Clock for NodeClock {
    fn wall_ms(&self) -> i64 {
        self.wall().at(self.time.now())
    }

    fn monotonic(&self) -> Duration {
        self.time.now()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(self.time.sleep(duration))
    }

    fn utc_offset_s(&self, _wall_ms: i64) -> i32 {
        self.wall().utc_offset_s
    }
}

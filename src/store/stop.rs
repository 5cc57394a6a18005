//! How services are told to end. Not a `tokio::sync::watch`: that wakes its receivers in an order drawn from tokio's own
//! random numbers, which no seed of the simulator reaches.

use std::sync::Arc;

use crate::model::Watermark;

/// The hand that stops. Dropping it stops too: whoever could ask is gone.
pub struct Stop(Arc<Watermark>);

/// The ear of one service.
#[derive(Clone)]
pub struct Stopping(Arc<Watermark>);

impl Stop {
    pub fn new() -> (Stop, Stopping) {
        let stopped = Watermark::new(0);
        (Stop(stopped.clone()), Stopping(stopped))
    }

    pub fn stop(&self) {
        self.0.advance(1);
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Stopping {
    pub fn is_stopping(&self) -> bool {
        self.0.get() > 0
    }

    /// Completes when asked to stop.
    pub async fn stopped(&mut self) {
        self.0.reached(1).await.expect("it never fails");
    }
}

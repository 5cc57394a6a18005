//! How services are told to end.

use tokio::sync::watch;

/// The hand that stops.
pub struct Stop(watch::Sender<bool>);

/// The ear of one service.
#[derive(Clone)]
pub struct Stopping(watch::Receiver<bool>);

impl Stop {
    pub fn new() -> (Stop, Stopping) {
        let (say, hear) = watch::channel(false);
        (Stop(say), Stopping(hear))
    }

    pub fn stop(&self) {
        // Nobody may be listening any more: then everybody has ended.
        let _ = self.0.send(true);
    }
}

impl Stopping {
    pub fn is_stopping(&self) -> bool {
        *self.0.borrow()
    }

    /// Completes when asked to stop, or when whoever could ask is gone.
    pub async fn stopped(&mut self) {
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}

//! Tasks and services. A *task* shares worker threads and must not block. A *service* may block in a sync: in
//! production it is a named OS thread of its own, in the simulator a task like any other.

use std::{
    any::Any,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::sync::oneshot;

use super::BoxFuture;

pub trait Spawner: Send + Sync {
    fn start_task(&self, name: &'static str, task: BoxFuture<'static, ()>);
    fn start_service(&self, name: &'static str, service: BoxFuture<'static, ()>);
}

/// A task panicked; `message` is what it said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} panicked: {message}")]
pub struct Panicked {
    pub name: &'static str,
    pub message: String,
}

/// What is left in the hand of whoever started a task: its end can be awaited. Dropping it lets the task run on.
pub struct Task {
    name: &'static str,
    done: oneshot::Receiver<Result<(), String>>,
}

impl Task {
    /// Waits for the end. A task that was torn down with its runtime counts as ended.
    pub async fn finished(self) -> Result<(), Panicked> {
        match self.done.await {
            Ok(Err(message)) => Err(Panicked { name: self.name, message }),
            Ok(Ok(())) | Err(_) => Ok(()),
        }
    }
}

impl dyn Spawner {
    pub fn task(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) -> Task {
        let (guarded, task) = guard(name, future);
        self.start_task(name, guarded);
        task
    }

    pub fn service(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) -> Task {
        let (guarded, task) = guard(name, future);
        self.start_service(name, guarded);
        task
    }
}

fn guard(name: &'static str, future: impl Future<Output = ()> + Send + 'static) -> (BoxFuture<'static, ()>, Task) {
    let (say, done) = oneshot::channel();
    let guarded = async move {
        let outcome = CatchPanic(Box::pin(future)).await;
        // Nobody may be waiting: then the outcome is nobody's business.
        let _ = say.send(outcome);
    };
    (Box::pin(guarded), Task { name, done })
}

struct CatchPanic<F>(Pin<Box<F>>);

impl<F: Future<Output = ()>> Future for CatchPanic<F> {
    type Output = Result<(), String>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match std::panic::catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(payload) => Poll::Ready(Err(panic_message(payload.as_ref()))),
        }
    }
}

/// The words of a panic payload.
pub fn panic_message(payload: &(dyn Any + Send)) -> String {
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "a panic without words".to_owned(),
    }
}

/// Waits until one of the tasks panics; for ever, if none does.
pub async fn first_panic(tasks: Vec<Task>) -> Panicked {
    let mut ends: Vec<_> = tasks.into_iter().map(|task| Box::pin(task.finished())).collect();
    std::future::poll_fn(|context| {
        let mut at = 0;
        while at < ends.len() {
            match ends[at].as_mut().poll(context) {
                Poll::Ready(Err(panicked)) => return Poll::Ready(panicked),
                Poll::Ready(Ok(())) => drop(ends.remove(at)),
                Poll::Pending => at += 1,
            }
        }
        Poll::Pending
    })
    .await
}

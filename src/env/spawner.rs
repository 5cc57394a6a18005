//! Tasks and services. A *task* shares worker threads and must not block. A *service* may block in a sync: in
//! production it is a named OS thread of its own, in the simulator a task like any other.

use std::{
    any::Any,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use super::BoxFuture;
use crate::model::Watermark;

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

/// What is left in the hand of whoever started a task: its end can be awaited, by several. Dropping it lets the task
/// run on.
#[derive(Clone)]
pub struct Task {
    name: &'static str,
    /// 1: it ended. Failed: it panicked.
    end: Arc<Watermark>,
}

impl Task {
    /// Waits for the end. A task that was torn down with its runtime counts as ended.
    pub async fn finished(self) -> Result<(), Panicked> {
        self.end.reached(1).await.map_err(|failed| Panicked { name: self.name, message: failed.reason.to_string() })
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
    let end = Watermark::new(0);
    let mut say = EndOnDrop(Some(end.clone()));
    let guarded = async move {
        if let Err(message) = CatchPanic(Box::pin(future)).await
            && let Some(end) = say.0.take()
        {
            end.fail(&message);
        }
    };
    (Box::pin(guarded), Task { name, end })
}

/// Says the end of a task, however it comes.
struct EndOnDrop(Option<Arc<Watermark>>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        if let Some(end) = &self.0 {
            end.advance(1);
        }
    }
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

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test stands on the world's side of the doors")]
mod tests {
    use super::*;

    /// Polls nothing but what it is given.
    struct Nowhere;

    impl Spawner for Nowhere {
        fn start_task(&self, _: &'static str, task: BoxFuture<'static, ()>) {
            tokio::spawn(task);
        }

        fn start_service(&self, _: &'static str, service: BoxFuture<'static, ()>) {
            drop(service);
        }
    }

    /// A broker whose timer had died went on without it: nobody but the shutdown ever asked how its tasks fared.
    #[tokio::test]
    async fn a_panic_is_heard_by_all_who_wait() {
        let spawner: Arc<dyn Spawner> = Arc::new(Nowhere);
        let (well, doomed) = (spawner.task("well", async {}), spawner.task("doomed", async { panic!("on purpose") }));
        let expect = Panicked { name: "doomed", message: "on purpose".into() };
        assert_eq!(first_panic(vec![well.clone(), doomed.clone()]).await, expect);
        assert_eq!(doomed.finished().await, Err(expect));
        assert_eq!(well.finished().await, Ok(()));
        assert_eq!(spawner.service("torn down", async {}).finished().await, Ok(()));
    }
}

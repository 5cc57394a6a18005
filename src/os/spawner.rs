//! Tasks on tokio's workers, services on threads of their own.

use std::thread;

use tokio::runtime::Handle;

use crate::env::{BoxFuture, Spawner};

pub(super) struct Threads {
    runtime: Handle,
}

impl Threads {
    pub(super) fn new(runtime: Handle) -> Self {
        Threads { runtime }
    }
}

impl Spawner for Threads {
    fn start_task(&self, _name: &'static str, task: BoxFuture<'static, ()>) {
        // Its end is known to whoever holds the `Task`.
        drop(self.runtime.spawn(task));
    }

    fn start_service(&self, name: &'static str, service: BoxFuture<'static, ()>) {
        let runtime = self.runtime.clone();
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || runtime.block_on(service))
            .unwrap_or_else(|error| panic!("the system refuses a thread for the service {name}: {error}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_service_has_a_thread_of_its_own_and_may_block() {
        let threads: &dyn Spawner = &Threads::new(Handle::current());
        let (say, hear) = tokio::sync::oneshot::channel();
        let service = threads.service("flush", async move {
            tokio::task::yield_now().await;
            say.send(thread::current().name().map(str::to_owned)).unwrap();
        });
        assert_eq!(hear.await.unwrap().as_deref(), Some("flush"));
        service.finished().await.unwrap();
        let panicked = threads.task("doomed", async { panic!("on purpose") }).finished().await.unwrap_err();
        assert_eq!(panicked.to_string(), "doomed panicked: on purpose");
    }
}

//! Writes the name server's two small files, one writer for both: whoever asked while a write was under way shares the
//! next one. Knows what to write only when it writes it.

use std::{collections::BTreeMap, io, path::PathBuf, sync::Arc};

use tokio::sync::{mpsc, oneshot};

use crate::env::{Spawner, Storage, spawner::Task};

/// Which file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Which {
    Kv,
    Config,
}

/// Why a change is not on disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotWritten {
    #[error("{path} cannot be written: {reason}")]
    Failed { path: String, reason: String },
    #[error("the name server is stopping")]
    Stopping,
}

type Waiter = oneshot::Sender<Result<(), NotWritten>>;

/// The door to the writer.
pub struct Files {
    asks: mpsc::UnboundedSender<(Which, Waiter)>,
}

impl Files {
    /// Starts the writer; it ends when the last `Files` is dropped and everything asked for is written. `content` gives
    /// path and content of a file as they are at the moment of writing.
    pub fn start(
        spawner: &Arc<dyn Spawner>,
        storage: Arc<dyn Storage>,
        content: impl Fn(Which) -> (PathBuf, Vec<u8>) + Send + 'static,
    ) -> (Self, Task) {
        // Not bounded here: each ask belongs to a request, and the router's lane bounds those.
        let (asks, mut asked) = mpsc::unbounded_channel::<(Which, Waiter)>();
        let task = spawner.service("namesrv-files", async move {
            while let Some((which, waiter)) = asked.recv().await {
                let mut waiters = BTreeMap::from([(which, vec![waiter])]);
                while let Ok((which, waiter)) = asked.try_recv() {
                    waiters.entry(which).or_default().push(waiter);
                }
                for (which, waiters) in waiters {
                    let (path, content) = content(which);
                    let result = replace(storage.as_ref(), &path, content).await.map_err(|error| {
                        tracing::error!(path = %path.display(), %error, "a file of the name server cannot be written");
                        NotWritten::Failed { path: path.display().to_string(), reason: error.to_string() }
                    });
                    for waiter in waiters {
                        // Whoever asked may be gone with its connection.
                        let _ = waiter.send(result.clone());
                    }
                }
            }
        });
        (Files { asks }, task)
    }

    /// Completes once the file holds what is true now, or more.
    pub fn write(&self, which: Which) -> impl Future<Output = Result<(), NotWritten>> + Send + use<> {
        let (say, written) = oneshot::channel();
        let is_asked = self.asks.send((which, say)).is_ok();
        async move {
            match written.await {
                Ok(result) if is_asked => result,
                _ => Err(NotWritten::Stopping),
            }
        }
    }
}

async fn replace(storage: &dyn Storage, path: &std::path::Path, content: Vec<u8>) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        storage.create_dir_all(directory)?;
    }
    storage.replace(path, content).await
}

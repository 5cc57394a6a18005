//! Small tables kept as files (`config/*.json`): replaced whole and durably, so that a power cut leaves the old content
//! or the new. Requests coalesce: ten thousand changes are not ten thousand writes. Does not know what the text means.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

use super::stop::Stopping;
use crate::{
    env::{Clock, Storage},
    model::{Watermark, watermark::Failed},
};

/// Pause after a write that failed.
const RETRY: Duration = Duration::from_secs(1);

/// A table's file is unreadable and so is what was kept of the one before: starting would forget what it said.
#[derive(Debug, thiserror::Error)]
#[error(
    "{path} is unreadable ({reason}) and {path}.bak cannot stand in for it ({backup_reason}); restore one of them or \
     remove both to start without"
)]
pub struct Unreadable {
    pub path: String,
    pub reason: String,
    pub backup_reason: String,
}

/// Reads a table: the file, or `.bak` where the file is absent, empty or not accepted by `parse`. `None` if neither is
/// there. A disk that fails at the file is no reason to take `.bak`, which knows less: what was acknowledged in between
/// would be forgotten for good by the next write.
pub fn load<T, E: std::fmt::Display>(
    storage: &dyn Storage,
    path: &Path,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Option<T>, Unreadable> {
    let outcome = storage.read(path);
    if let Err(error) = &outcome
        && error.kind() != io::ErrorKind::NotFound
    {
        let backup_reason = "it is older, and the disk may give the newer one at the next start".to_owned();
        return Err(Unreadable { path: path.display().to_string(), reason: error.to_string(), backup_reason });
    }
    let read = |outcome: io::Result<Vec<u8>>| -> Option<Result<T, String>> {
        let bytes = match outcome {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => return Some(Err(error.to_string())),
        };
        if bytes.is_empty() {
            return Some(Err("it is empty".to_owned()));
        }
        Some(match String::from_utf8(bytes) {
            Ok(text) => parse(&text).map_err(|error| error.to_string()),
            Err(_) => Err("it is not UTF-8".to_owned()),
        })
    };
    match (read(outcome), read(storage.read(&backup_of(path)))) {
        (Some(Ok(table)), _) => Ok(Some(table)),
        (None, None) => Ok(None),
        (first, Some(Ok(table))) => {
            let reason = first.map_or("it is not there".to_owned(), |outcome| outcome.err().unwrap_or_default());
            tracing::warn!("{} was not used ({reason}); {}.bak was", path.display(), path.display());
            Ok(Some(table))
        }
        (first, backup) => {
            let reason =
                |outcome: Option<Result<T, String>>| outcome.and_then(Result::err).unwrap_or("it is not there".into());
            Err(Unreadable { path: path.display().to_string(), reason: reason(first), backup_reason: reason(backup) })
        }
    }
}

pub(super) fn backup_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".bak");
    PathBuf::from(name)
}

type Render = Box<dyn Fn() -> String + Send + Sync>;

/// Writes tables, one after the other, each as often as needed and no oftener.
pub struct ConfigWriter {
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    tables: Mutex<BTreeMap<PathBuf, Arc<Table>>>,
    wanted: Arc<Notify>,
}

struct Table {
    path: PathBuf,
    render: Render,
    asked: AtomicU64,
    written: Arc<Watermark>,
}

/// One table's handle.
#[derive(Clone)]
pub struct ConfigFile {
    table: Arc<Table>,
    wanted: Arc<Notify>,
}

impl ConfigFile {
    /// The number that the last `persist` returned.
    pub fn generation(&self) -> u64 {
        self.table.asked.load(Ordering::SeqCst)
    }

    /// Asks for the present content to be written; await `written` for the number returned.
    pub fn persist(&self) -> u64 {
        let generation = self.table.asked.fetch_add(1, Ordering::SeqCst) + 1;
        self.wanted.notify_one();
        generation
    }

    /// Completes once what `persist` asked for is durable.
    pub async fn written(&self, generation: u64) -> Result<(), Failed> {
        self.table.written.reached(generation).await
    }
}

impl ConfigWriter {
    pub fn new(storage: Arc<dyn Storage>, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(ConfigWriter { storage, clock, tables: Mutex::default(), wanted: Arc::new(Notify::new()) })
    }

    /// A table whose content is whatever `render` says at the moment of writing.
    pub fn table(&self, path: &Path, render: impl Fn() -> String + Send + Sync + 'static) -> ConfigFile {
        let table = Arc::new(Table {
            path: path.to_owned(),
            render: Box::new(render),
            asked: AtomicU64::new(0),
            written: Watermark::new(0),
        });
        let mut tables = self.tables.lock().expect("nothing panics while it is held");
        assert!(tables.insert(path.to_owned(), table.clone()).is_none(), "{} has two writers", path.display());
        ConfigFile { table, wanted: self.wanted.clone() }
    }

    /// The service. When stopped it writes what is still asked for, once.
    pub async fn run(self: Arc<Self>, mut stopping: Stopping) {
        loop {
            let stop = stopping.is_stopping();
            let all_written = self.pass().await;
            if stop {
                return;
            }
            if !all_written {
                let pause = self.clock.sleep(RETRY);
                tokio::select! { biased; () = stopping.stopped() => {} () = pause => {} }
                continue;
            }
            tokio::select! { biased; () = self.wanted.notified() => {} () = stopping.stopped() => {} }
        }
    }

    async fn pass(&self) -> bool {
        let tables: Vec<_> = self.tables.lock().expect("nothing panics while it is held").values().cloned().collect();
        let mut all_written = true;
        for table in tables {
            // Read before rendering: what is asked for later may not be in the text.
            let asked = table.asked.load(Ordering::SeqCst);
            if asked <= table.written.get() {
                continue;
            }
            let mut text = (table.render)();
            if plant!(OffsetFileHalfWritten) && table.path.ends_with("consumerOffset.json") {
                text.truncate(text.len() / 2);
            }
            match self.storage.replace(&table.path, text.into_bytes()).await {
                Ok(()) => table.written.advance(asked),
                Err(error) => {
                    tracing::error!("{} cannot be written: {error}; retrying", table.path.display());
                    all_written = false;
                }
            }
        }
        all_written
    }
}

//! The files of consume queues behind a bounded cache of open descriptors: tens of thousands of queues must not hold
//! tens of thousands of them. Knows nothing of units.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use crate::env::{File, Open, Storage};

pub struct QueueFiles {
    storage: Arc<dyn Storage>,
    file_bytes: u64,
    open_max: usize,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    open: HashMap<PathBuf, (Arc<dyn File>, u64)>,
    /// By last use, the oldest first.
    used: BTreeMap<u64, PathBuf>,
    clock: u64,
}

impl QueueFiles {
    pub fn new(storage: Arc<dyn Storage>, file_bytes: u64, open_max: usize) -> Arc<Self> {
        assert!(file_bytes > 0 && file_bytes.is_multiple_of(20), "queue files hold whole units of 20 bytes");
        Arc::new(QueueFiles { storage, file_bytes, open_max: open_max.max(1), cache: Mutex::default() })
    }

    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// The open file, created sparse in its full length if it is not there.
    pub fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut cache = self.cache.lock().expect("nothing panics while it is held");
        cache.clock += 1;
        let now = cache.clock;
        if let Some((file, used)) = cache.open.get_mut(path) {
            let (file, before) = (file.clone(), std::mem::replace(used, now));
            let path = cache.used.remove(&before).expect("every open file has its last use");
            cache.used.insert(now, path);
            return Ok(file);
        }
        let file = self.storage.open(path, Open::Sparse { len: self.file_bytes })?;
        if cache.open.len() >= self.open_max
            && let Some((_, oldest)) = cache.used.pop_first()
        {
            cache.open.remove(&oldest);
        }
        cache.open.insert(path.to_owned(), (file.clone(), now));
        cache.used.insert(now, path.to_owned());
        Ok(file)
    }

    /// Closes and removes a file.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        {
            let mut cache = self.cache.lock().expect("nothing panics while it is held");
            if let Some((_, used)) = cache.open.remove(path) {
                cache.used.remove(&used);
            }
        }
        match self.storage.remove(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

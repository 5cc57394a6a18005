//! All consume queues, by topic and number.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
};

use super::{
    consume_queue::{ConsumeQueue, IsOfLog, OpenQueueError},
    queue_files::QueueFiles,
};
use crate::{env::SyncFailed, model::LogOffset};

type OfTopic = BTreeMap<u32, Arc<ConsumeQueue>>;

pub struct Queues {
    root: PathBuf,
    files: Arc<QueueFiles>,
    /// Never iterated without sorting: the order must be the same in every run of a seed.
    topics: RwLock<HashMap<String, OfTopic>>,
}

impl Queues {
    pub fn new(root: &Path, files: Arc<QueueFiles>) -> Arc<Self> {
        Arc::new(Queues { root: root.to_owned(), files, topics: RwLock::default() })
    }

    /// Opens every queue of the disk; see `ConsumeQueue::open`.
    pub fn open(
        root: &Path,
        files: Arc<QueueFiles>,
        known: LogOffset,
        log_min: LogOffset,
        is_of_log: IsOfLog<'_>,
    ) -> Result<Arc<Self>, OpenQueueError> {
        let storage = files.storage().clone();
        let queues = Self::new(root, files.clone());
        if !storage.exists(root) {
            return Ok(queues);
        }
        for topic in storage.list(root)?.into_iter().filter(|entry| entry.is_dir) {
            for queue in storage.list(&root.join(&topic.name))?.into_iter().filter(|entry| entry.is_dir) {
                let Ok(id) = queue.name.parse::<u32>() else { continue };
                let queue = ConsumeQueue::open(root, &topic.name, id, files.clone(), known, log_min, is_of_log)?;
                queues
                    .topics
                    .write()
                    .expect("nothing panics while it is held")
                    .entry(topic.name.clone())
                    .or_default()
                    .insert(id, queue);
            }
        }
        Ok(queues)
    }

    pub fn find(&self, topic: &str, id: u32) -> Option<Arc<ConsumeQueue>> {
        self.topics.read().expect("nothing panics while it is held").get(topic)?.get(&id).cloned()
    }

    pub fn find_or_create(&self, topic: &str, id: u32) -> Arc<ConsumeQueue> {
        if let Some(queue) = self.find(topic, id) {
            return queue;
        }
        let mut topics = self.topics.write().expect("nothing panics while it is held");
        let of_topic = topics.entry(topic.to_owned()).or_default();
        of_topic.entry(id).or_insert_with(|| ConsumeQueue::new(&self.root, topic, id, self.files.clone())).clone()
    }

    /// Every queue, in order of topic and number.
    pub fn all(&self) -> Vec<Arc<ConsumeQueue>> {
        let topics = self.topics.read().expect("nothing panics while it is held");
        let mut all: Vec<_> = topics.values().flat_map(OfTopic::values).cloned().collect();
        all.sort_by(|a, b| (&a.topic, a.id).cmp(&(&b.topic, b.id)));
        all
    }

    /// Takes a topic's queues out and removes their files; durable once `sync_names` has been called.
    pub fn remove(&self, topic: &str) -> io::Result<()> {
        let removed = self.topics.write().expect("nothing panics while it is held").remove(topic).unwrap_or_default();
        for queue in removed.values() {
            queue.destroy()?;
        }
        match self.files.storage().remove_dir_all(&self.root.join(topic)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Makes durable which topics have queues.
    pub async fn sync_names(&self) -> Result<(), SyncFailed> {
        self.files.storage().sync_dir(&self.root).await
    }
}

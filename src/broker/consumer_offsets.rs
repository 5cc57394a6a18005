//! How far each group has consumed each queue. Kept in `config/consumerOffset.json` in RocketMQ's form, written every
//! few seconds: a crash may put a group back by that much (messages come twice, none is skipped).

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use crate::{
    env::Storage,
    model::message::NAME_MAX_BYTES,
    protocol::body::{Body, ConsumerOffsetTable},
    store::config_file::{self, ConfigFile, ConfigWriter, Unreadable},
};

/// Stands between topic and group in the file's keys.
const SEPARATOR: char = '@';

pub struct ConsumerOffsets {
    table: Arc<Table>,
    file: ConfigFile,
    offsets_max: usize,
    changed: AtomicBool,
    /// How many resets no pull has heard of yet; pulls and commits look no further while there are none.
    resets: AtomicUsize,
}

#[derive(Default)]
struct Table {
    offsets: Mutex<Offsets>,
    /// What the next file says: taken before the log's flush, written after it.
    snapshot: Mutex<ConsumerOffsetTable>,
}

#[derive(Default)]
struct Offsets {
    by_topic_and_group: BTreeMap<String, BTreeMap<i32, i64>>,
    count: usize,
    /// Where a tool put the group and its consumers do not know it yet. Each of them is in the table above, too.
    resets: BTreeMap<String, BTreeMap<i32, i64>>,
}

/// Why an offset is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotKept {
    #[error("the broker keeps {offsets_max} consumer offsets, which is all that consumerOffsetsMax allows")]
    TooMany { offsets_max: usize },
    #[error("names of group and topic have {size} bytes together; at most {NAME_MAX_BYTES} are taken")]
    Names { size: usize },
}

fn key_of(topic: &str, group: &str) -> String {
    let mut key = String::with_capacity(topic.len() + group.len() + 1);
    key.push_str(topic);
    key.push(SEPARATOR);
    key.push_str(group);
    key
}

impl ConsumerOffsets {
    /// Reads the file; `queue_max` tells where a queue ends, for an offset beyond it cannot be right.
    pub fn load(
        storage: &dyn Storage,
        writer: &ConfigWriter,
        path: &Path,
        offsets_max: usize,
        queue_max: impl Fn(&str, u32) -> i64,
    ) -> Result<Self, Unreadable> {
        let loaded = config_file::load(storage, path, |text| ConsumerOffsetTable::decode_file(text.as_bytes()))?;
        let mut by_topic_and_group = loaded.unwrap_or_default().offset_table;
        let mut count = 0;
        for (key, queues) in &mut by_topic_and_group {
            let topic = key.split(SEPARATOR).next().unwrap_or_default();
            for (queue, offset) in queues {
                let max = u32::try_from(*queue).map_or(0, |queue| queue_max(topic, queue));
                if *offset > max {
                    tracing::warn!(
                        "the offset {offset} of {key} queue {queue} is beyond the queue's end {max}; set to it"
                    );
                    *offset = max;
                }
                count += 1;
            }
        }
        let offsets = Mutex::new(Offsets { by_topic_and_group, count, resets: BTreeMap::new() });
        let table = Arc::new(Table { offsets, snapshot: Mutex::default() });
        let rendered = table.clone();
        let file = writer.table(path, move || {
            let snapshot = rendered.snapshot.lock().expect("nothing panics while it is held");
            String::from_utf8(snapshot.encode_file()).expect("JSON is UTF-8")
        });
        let (changed, resets) = (AtomicBool::new(false), AtomicUsize::new(0));
        Ok(ConsumerOffsets { table, file, offsets_max, changed, resets })
    }

    pub fn commit(&self, topic: &str, group: &str, queue: i32, offset: i64) -> Result<(), NotKept> {
        let offset = offset + i64::from(plant!(CommittedOneTooFar));
        let mut guard = self.lock();
        let offsets = &mut *guard;
        let key = key_of(topic, group);
        // A group that commits again and again finds its place without a copy of the key.
        match offsets.by_topic_and_group.get_mut(&key).and_then(|queues| queues.get_mut(&queue)) {
            Some(stored) if plant!(CommitNeverGoesBack) => *stored = offset.max(*stored),
            Some(stored) => *stored = offset,
            None if key.len() > NAME_MAX_BYTES => return Err(NotKept::Names { size: key.len() }),
            None if offsets.count >= self.offsets_max => {
                return Err(NotKept::TooMany { offsets_max: self.offsets_max });
            }
            None => {
                offsets.by_topic_and_group.entry(key).or_default().insert(queue, offset);
                offsets.count += 1;
            }
        }
        self.changed.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// What a consumer commits. Until a pull has told the group of its reset, what it commits is what it had before:
    /// false, and nothing changes.
    pub fn commit_consumed(&self, topic: &str, group: &str, queue: i32, offset: i64) -> Result<bool, NotKept> {
        if self.resets.load(Ordering::SeqCst) > 0 {
            let offsets = self.lock();
            if offsets.resets.get(&key_of(topic, group)).is_some_and(|queues| queues.contains_key(&queue)) {
                return Ok(false);
            }
        }
        self.commit(topic, group, queue, offset).map(|()| true)
    }

    /// Puts the group somewhere; the next pull of the queue is told (`take_reset`).
    pub fn reset(&self, topic: &str, group: &str, queue: i32, offset: i64) -> Result<(), NotKept> {
        self.commit(topic, group, queue, offset)?;
        let mut offsets = self.lock();
        if offsets.resets.entry(key_of(topic, group)).or_default().insert(queue, offset).is_none() {
            self.resets.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Where a pull has to go on instead, said once.
    pub fn take_reset(&self, topic: &str, group: &str, queue: i32) -> Option<i64> {
        if self.resets.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let mut offsets = self.lock();
        let key = key_of(topic, group);
        let queues = offsets.resets.get_mut(&key)?;
        let offset = queues.remove(&queue)?;
        if queues.is_empty() {
            offsets.resets.remove(&key);
        }
        self.resets.fetch_sub(1, Ordering::SeqCst);
        Some(offset)
    }

    pub fn query(&self, topic: &str, group: &str, queue: i32) -> Option<i64> {
        self.lock().by_topic_and_group.get(&key_of(topic, group))?.get(&queue).copied()
    }

    /// Every queue's offset of the group in the topic.
    pub fn of(&self, topic: &str, group: &str) -> BTreeMap<i32, i64> {
        self.lock().by_topic_and_group.get(&key_of(topic, group)).cloned().unwrap_or_default()
    }

    /// Topics for which the group has offsets.
    pub fn topics_of(&self, group: &str) -> Vec<String> {
        self.split(|topic, its_group| (its_group == group).then(|| topic.to_owned()))
    }

    /// Groups that have offsets for the topic.
    pub fn groups_of(&self, topic: &str) -> Vec<String> {
        self.split(|its_topic, group| (its_topic == topic).then(|| group.to_owned()))
    }

    pub fn remove_topic(&self, topic: &str) {
        self.retain(|its_topic, _| its_topic != topic);
    }

    pub fn remove_group(&self, group: &str) {
        self.retain(|_, its_group| its_group != group);
    }

    /// All there is, as code 43 and the file show it.
    pub fn snapshot(&self) -> ConsumerOffsetTable {
        ConsumerOffsetTable { data_version: None, offset_table: self.lock().by_topic_and_group.clone() }
    }

    /// Notes what the next file will say; false if nothing changed since the last one. The caller lets the log become
    /// durable up to now, then calls `persist`: an offset must not survive a message that does not.
    pub fn take_snapshot(&self) -> bool {
        let changed = self.changed.swap(false, Ordering::Relaxed);
        if changed {
            *self.table.snapshot.lock().expect("nothing panics while it is held") = self.snapshot();
        }
        changed
    }

    /// Writes the noted snapshot; await `ConfigFile::written` for it.
    pub async fn persist(&self) -> Result<(), crate::model::watermark::Failed> {
        let generation = self.file.persist();
        self.file.written(generation).await
    }

    fn split(&self, pick: impl Fn(&str, &str) -> Option<String>) -> Vec<String> {
        let offsets = self.lock();
        let keys = offsets.by_topic_and_group.keys();
        keys.filter_map(|key| key.split_once(SEPARATOR).and_then(|(topic, group)| pick(topic, group))).collect()
    }

    fn retain(&self, keep: impl Fn(&str, &str) -> bool) {
        let mut guard = self.lock();
        let stays = |key: &String| key.split_once(SEPARATOR).is_none_or(|(topic, group)| keep(topic, group));
        guard.by_topic_and_group.retain(|key, _| stays(key));
        guard.resets.retain(|key, _| stays(key));
        guard.count = guard.by_topic_and_group.values().map(BTreeMap::len).sum();
        self.resets.store(guard.resets.values().map(BTreeMap::len).sum(), Ordering::SeqCst);
        self.changed.store(true, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Offsets> {
        self.table.offsets.lock().expect("nothing panics while it is held")
    }
}

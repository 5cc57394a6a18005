//! The topics of this broker: what exists, with how many queues, and what may be done with it. Kept in
//! `config/topics.json` in RocketMQ's form. A topic counts once its file is durable: what is acknowledged into it must
//! still have a topic after a power cut.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    env::Storage,
    model::watermark::Failed,
    protocol::body::{Body, DataVersion, TopicConfig, TopicConfigTable, topic::perm},
    store::config_file::{self, ConfigFile, ConfigWriter, Unreadable},
};

/// New topics inherit from it.
pub const AUTO_CREATE_TOPIC: &str = "TBW102";
pub const RETRY_PREFIX: &str = "%RETRY%";
pub const DEAD_LETTER_PREFIX: &str = "%DLQ%";
pub const SCHEDULE_TOPIC: &str = crate::store::reput::SCHEDULE_TOPIC;
pub const HALF_TOPIC: &str = "RMQ_SYS_TRANS_HALF_TOPIC";
pub const HALF_OP_TOPIC: &str = "RMQ_SYS_TRANS_OP_HALF_TOPIC";
pub const CHECK_MAX_TOPIC: &str = "TRANS_CHECK_MAX_TIME_TOPIC";
pub const SELF_TEST_TOPIC: &str = "SELF_TEST_TOPIC";
pub const OFFSET_MOVED_TOPIC: &str = "OFFSET_MOVED_EVENT";
pub const TRACE_TOPIC: &str = "RMQ_SYS_TRACE_TOPIC";
pub const BENCHMARK_TOPIC: &str = "BenchmarkTest";

/// Topics that clients may not send to.
const FORBIDDEN: [&str; 6] =
    [SCHEDULE_TOPIC, HALF_TOPIC, HALF_OP_TOPIC, CHECK_MAX_TOPIC, SELF_TEST_TOPIC, OFFSET_MOVED_TOPIC];

pub fn is_forbidden(topic: &str) -> bool {
    FORBIDDEN.contains(&topic)
}

/// Topics that belong to every broker (TopicValidator).
pub const SYSTEM: [&str; 9] = [
    AUTO_CREATE_TOPIC,
    SCHEDULE_TOPIC,
    BENCHMARK_TOPIC,
    HALF_TOPIC,
    TRACE_TOPIC,
    HALF_OP_TOPIC,
    CHECK_MAX_TOPIC,
    SELF_TEST_TOPIC,
    OFFSET_MOVED_TOPIC,
];

pub fn is_system(topic: &str) -> bool {
    SYSTEM.contains(&topic) || topic.starts_with("rmq_sys_")
}

/// Why a name is no topic's. The texts are 4.9.7's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("The specified topic is blank.")]
    Blank,
    #[error("The specified topic contains illegal characters, allowing only ^[%|a-zA-Z0-9_-]+$")]
    Illegal,
    #[error("The specified topic is longer than topic max length.")]
    TooLong,
}

/// Retry and dead-letter topics may be longer: a group's name of 255 characters is not theirs to refuse.
pub fn check_name(topic: &str) -> Result<(), NameError> {
    if topic.trim().is_empty() {
        return Err(NameError::Blank);
    }
    if !topic.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'%' | b'|' | b'-' | b'_')) {
        return Err(NameError::Illegal);
    }
    let length_max = match topic.starts_with(RETRY_PREFIX) || topic.starts_with(DEAD_LETTER_PREFIX) {
        true => 255,
        false => 127,
    };
    if topic.len() > length_max { Err(NameError::TooLong) } else { Ok(()) }
}

/// A topic and the generation of the file that first holds it as it is.
#[derive(Debug)]
pub struct Topic {
    pub config: TopicConfig,
    generation: u64,
}

impl Topic {
    pub fn is_readable(&self) -> bool {
        self.config.perm & perm::READ != 0
    }

    pub fn is_writable(&self) -> bool {
        self.config.perm & perm::WRITE != 0
    }
}

/// A topic could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    #[error("the broker has {topics_max} topics, which is all that topicsMax allows; delete unused ones or raise it")]
    TooMany { topics_max: usize },
    #[error("the topic {default} allows no topics to be made from it")]
    NotInherited { default: String },
}

pub struct Topics {
    table: Arc<Table>,
    file: ConfigFile,
    durable: AtomicU64,
}

struct Table {
    topics: RwLock<Inner>,
}

struct Inner {
    /// Never iterated without sorting.
    by_name: HashMap<String, Arc<Topic>>,
    version: DataVersion,
}

impl Topics {
    pub fn load(storage: &dyn Storage, writer: &ConfigWriter, path: &Path) -> Result<Self, Unreadable> {
        let loaded = config_file::load(storage, path, |text| TopicConfigTable::decode_file(text.as_bytes()))?;
        let loaded = loaded.unwrap_or_default();
        let by_name = loaded
            .topic_config_table
            .into_iter()
            .map(|(name, config)| (name, Arc::new(Topic { config, generation: 0 })))
            .collect();
        let table = Arc::new(Table { topics: RwLock::new(Inner { by_name, version: loaded.data_version }) });
        let rendered = table.clone();
        let file =
            writer.table(path, move || String::from_utf8(rendered.snapshot().encode_file()).expect("JSON is UTF-8"));
        Ok(Topics { table, file, durable: AtomicU64::new(0) })
    }

    pub fn find(&self, name: &str) -> Option<Arc<Topic>> {
        self.table.read().by_name.get(name).cloned()
    }

    pub fn len(&self) -> usize {
        self.table.read().by_name.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn snapshot(&self) -> TopicConfigTable {
        self.table.snapshot()
    }

    pub fn version(&self) -> DataVersion {
        self.table.read().version.clone()
    }

    /// Whether the topic as it stands is in the durable file.
    pub fn is_durable(&self, topic: &Topic) -> bool {
        plant!(TopicNotAwaited) || topic.generation <= self.durable.load(Ordering::Relaxed)
    }

    /// Waits until the topic is in the durable file.
    pub async fn durable(&self, topic: &Topic) -> Result<(), Failed> {
        self.file.written(topic.generation).await?;
        self.durable.fetch_max(topic.generation, Ordering::Relaxed);
        Ok(())
    }

    /// Waits until the table as it stands now is in the durable file.
    pub async fn settled(&self) -> Result<(), Failed> {
        self.file.written(self.file.generation()).await
    }

    /// Makes the topic if it is not there. At boot, for the broker's own.
    pub fn ensure(&self, config: TopicConfig, now_ms: i64) -> Arc<Topic> {
        self.change(|inner, generation| match inner.by_name.get(&config.topic_name) {
            Some(topic) => (topic.clone(), false),
            None => {
                let topic = Arc::new(Topic { config, generation });
                inner.by_name.insert(topic.config.topic_name.clone(), topic.clone());
                inner.version.next(now_ms);
                (topic, true)
            }
        })
    }

    /// Creates or replaces; an unchanged topic stays as it is and says `false`.
    pub fn put(&self, config: TopicConfig, now_ms: i64, topics_max: usize) -> Result<(Arc<Topic>, bool), CreateError> {
        let mut changed = false;
        let outcome = self.change(|inner, generation| {
            match inner.by_name.get(&config.topic_name) {
                Some(topic) if topic.config == config => return (Ok(topic.clone()), false),
                None if inner.by_name.len() >= topics_max => return (Err(CreateError::TooMany { topics_max }), false),
                _ => {}
            }
            changed = true;
            let topic = Arc::new(Topic { config, generation });
            inner.by_name.insert(topic.config.topic_name.clone(), topic.clone());
            inner.version.next(now_ms);
            (Ok(topic), true)
        });
        outcome.map(|topic| (topic, changed))
    }

    pub fn remove(&self, name: &str, now_ms: i64) -> bool {
        self.change(|inner, _| {
            let removed = inner.by_name.remove(name).is_some();
            if removed {
                inner.version.next(now_ms);
            }
            (removed, removed)
        })
    }

    /// Sets `order` on the topics that the name server's order configuration names and clears it on all others.
    pub fn set_order(&self, ordered: &std::collections::BTreeMap<String, String>, now_ms: i64) -> bool {
        self.change(|inner, generation| {
            let mut changed = false;
            for (name, topic) in &mut inner.by_name {
                let order = ordered.contains_key(name);
                if topic.config.order != order {
                    *topic = Arc::new(Topic { config: TopicConfig { order, ..topic.config.clone() }, generation });
                    changed = true;
                }
            }
            if changed {
                inner.version.next(now_ms);
            }
            (changed, changed)
        })
    }

    /// What a topic made from `default` looks like: its permissions without the right to pass them on, as many queues
    /// as the client wants and `default` has, at least one.
    pub fn inherited(
        &self,
        name: &str,
        default: &str,
        queues_wanted: i32,
        auto_create: bool,
        sys_flag: i32,
    ) -> Result<TopicConfig, CreateError> {
        let refused = || CreateError::NotInherited { default: default.to_owned() };
        let parent = self.find(default).ok_or_else(refused)?;
        let inherits = parent.config.perm & perm::INHERIT != 0 && (default != AUTO_CREATE_TOPIC || auto_create);
        if !inherits {
            return Err(refused());
        }
        let queues = queues_wanted.min(parent.config.write_queue_nums).max(1);
        let mut config = TopicConfig::new(name, queues, parent.config.perm & !perm::INHERIT);
        (config.topic_sys_flag, config.topic_filter_type) = (sys_flag, parent.config.topic_filter_type);
        Ok(config)
    }

    /// Runs `edit` with the generation that the next file will have, and asks for that file if anything changed.
    fn change<T>(&self, edit: impl FnOnce(&mut Inner, u64) -> (T, bool)) -> T {
        let mut inner = self.table.topics.write().expect("nothing panics while it is held");
        let (outcome, changed) = edit(&mut inner, self.file.generation() + 1);
        if changed {
            self.file.persist();
        }
        outcome
    }
}

impl Table {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, Inner> {
        self.topics.read().expect("nothing panics while it is held")
    }

    fn snapshot(&self) -> TopicConfigTable {
        let inner = self.read();
        TopicConfigTable {
            data_version: inner.version.clone(),
            topic_config_table: inner
                .by_name
                .iter()
                .map(|(name, topic)| (name.clone(), topic.config.clone()))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let check = |name: &str, expect: Result<(), NameError>| assert_eq!(check_name(name), expect, "{name:?}");
        check("orders", Ok(()));
        check("%RETRY%g|x-y_Z9", Ok(()));
        check("", Err(NameError::Blank));
        check("  ", Err(NameError::Blank));
        check("a b", Err(NameError::Illegal));
        check("zażółć", Err(NameError::Illegal));
        check(&"t".repeat(127), Ok(()));
        check(&"t".repeat(128), Err(NameError::TooLong));
        check(&format!("%RETRY%{}", "g".repeat(248)), Ok(()));
        check(&format!("%RETRY%{}", "g".repeat(249)), Err(NameError::TooLong));
    }
}

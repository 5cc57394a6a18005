//! Key-value settings by namespace: the only thing a name server remembers across restarts. Knows no file.

use std::collections::BTreeMap;

use crate::protocol::body::{Body, BodyError, KvConfig, KvTable};

/// The namespace whose values brokers get when they register and clients get in routes: `broker:queues;…` by topic.
pub const ORDER_TOPIC_CONFIG: &str = "ORDER_TOPIC_CONFIG";

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this name server holds {max} settings already, as many as kvMax allows")]
pub struct TooMany {
    pub max: usize,
}

#[derive(Debug, Default)]
pub struct Kv {
    /// A namespace stays when its last key goes, as in RocketMQ.
    table: BTreeMap<String, BTreeMap<String, String>>,
    count: usize,
    max: usize,
}

impl Kv {
    pub fn new(max: usize) -> Self {
        Kv { max, ..Kv::default() }
    }

    /// From the content of `kvConfig.json`.
    pub fn load(bytes: &[u8], max: usize) -> Result<Self, BodyError> {
        let table = KvConfig::decode_file(bytes)?.config_table;
        let count = table.values().map(BTreeMap::len).sum();
        Ok(Kv { table, count, max })
    }

    /// The content of `kvConfig.json`, in one line as Java writes it.
    pub fn content(&self) -> Vec<u8> {
        KvConfig { config_table: self.table.clone() }.encode()
    }

    pub fn put(&mut self, namespace: &str, key: &str, value: &str) -> Result<(), TooMany> {
        if self.get(namespace, key).is_none() {
            if self.count >= self.max {
                return Err(TooMany { max: self.max });
            }
            self.count += 1;
        }
        self.table.entry(namespace.to_owned()).or_default().insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    pub fn get(&self, namespace: &str, key: &str) -> Option<&str> {
        self.table.get(namespace)?.get(key).map(String::as_str)
    }

    /// True if there was something to delete.
    pub fn delete(&mut self, namespace: &str, key: &str) -> bool {
        let Some(settings) = self.table.get_mut(namespace) else { return false };
        let was_there = settings.remove(key).is_some();
        self.count -= usize::from(was_there);
        was_there
    }

    pub fn list(&self, namespace: &str) -> Option<KvTable> {
        Some(KvTable { table: self.table.get(namespace)?.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_kept() {
        let mut kv = Kv::new(2);
        kv.put("N", "k", "v").unwrap();
        kv.put("N", "k", "w").unwrap();
        kv.put("M", "k", "x").unwrap();
        assert_eq!(kv.put("M", "l", "y"), Err(TooMany { max: 2 }));
        assert_eq!((kv.get("N", "k"), kv.get("N", "l"), kv.get("O", "k")), (Some("w"), None, None));
        let mut again = Kv::load(&kv.content(), 2).unwrap();
        assert_eq!(again.content(), kv.content());
        assert!(again.delete("N", "k") && !again.delete("N", "k"));
        assert_eq!((again.list("N").unwrap().table.len(), again.list("O")), (0, None));
        again.put("M", "l", "y").unwrap();
        assert_eq!(again.list("M").unwrap().table.len(), 2);
        assert!(Kv::load(b"{", 2).is_err());
    }
}

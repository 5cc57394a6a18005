//! Which expressions groups subscribed with (`config/consumerFilter.json`, RocketMQ's form). Filtering itself needs none of
//! it, for heartbeats bring the expressions anew; it is kept for Java, which may take the store over, and for whoever
//! wants to know what a group that is away had asked for.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
};

use crate::{
    env::Storage,
    model::watermark::Failed,
    protocol::body::{Body, ConsumerFilterData, ConsumerFilterTable, FiltersOfTopic, SubscriptionData},
    store::config_file::{self, ConfigFile, ConfigWriter, Unreadable},
};

/// An expression nobody uses any more is forgotten after a day.
const DEAD_MS_MAX: i64 = 24 * 3_600_000;

pub struct ConsumerFilters {
    table: Arc<Mutex<ConsumerFilterTable>>,
    file: ConfigFile,
}

impl ConsumerFilters {
    pub fn load(storage: &dyn Storage, writer: &ConfigWriter, path: &Path) -> Result<Self, Unreadable> {
        let loaded = config_file::load(storage, path, |text| ConsumerFilterTable::decode_file(text.as_bytes()))?;
        let table = Arc::new(Mutex::new(loaded.unwrap_or_default()));
        let rendered = table.clone();
        let file = writer.table(path, move || {
            let table = rendered.lock().expect("nothing panics while it is held");
            String::from_utf8(table.encode_file()).expect("JSON is UTF-8")
        });
        Ok(ConsumerFilters { table, file })
    }

    /// These are the subscriptions of this moment, by group; says whether the file has to be written.
    pub fn note(&self, subscriptions: Vec<(String, SubscriptionData)>, now_ms: i64) -> bool {
        note(&mut self.lock().filter_data_by_topic, subscriptions, now_ms)
    }

    pub async fn persist(&self) -> Result<(), Failed> {
        self.file.written(self.file.persist()).await
    }

    fn lock(&self) -> MutexGuard<'_, ConsumerFilterTable> {
        self.table.lock().expect("nothing panics while it is held")
    }
}

fn note(
    table: &mut BTreeMap<String, FiltersOfTopic>,
    subscriptions: Vec<(String, SubscriptionData)>,
    now_ms: i64,
) -> bool {
    let before = table.clone();
    let mut alive = BTreeMap::new();
    for (group, data) in subscriptions {
        let of_topic = table.entry(data.topic.clone()).or_default();
        of_topic.topic.clone_from(&data.topic);
        let known = of_topic.group_filter_data.entry(group.clone()).or_default();
        if known.client_version != data.sub_version || known.expression != data.sub_string || known.dead {
            *known = ConsumerFilterData {
                born_time: now_ms,
                client_version: data.sub_version,
                consumer_group: group.clone(),
                dead: false,
                dead_time: 0,
                expression: data.sub_string,
                expression_type: data.expression_type.unwrap_or_default(),
                topic: data.topic.clone(),
            };
        }
        alive.insert((data.topic, group), ());
    }
    for (topic, filters) in table.iter_mut() {
        for (group, filter) in &mut filters.group_filter_data {
            if !filter.dead && !alive.contains_key(&(topic.clone(), group.clone())) {
                (filter.dead, filter.dead_time) = (true, now_ms);
            }
        }
        filters.group_filter_data.retain(|_, filter| !filter.dead || now_ms - filter.dead_time < DEAD_MS_MAX);
    }
    table.retain(|_, filters| !filters.group_filter_data.is_empty());
    *table != before
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn an_expression_is_kept_a_day_longer_than_its_subscription() {
        let mut table = BTreeMap::new();
        let wanted = |expression: &str, version| {
            let data = SubscriptionData {
                expression_type: Some("SQL92".into()),
                sub_string: expression.into(),
                sub_version: version,
                topic: "T".into(),
                class_filter_mode: false,
                code_set: BTreeSet::new(),
                tags_set: BTreeSet::new(),
            };
            vec![("G".to_owned(), data)]
        };
        let shown = |table: &BTreeMap<String, FiltersOfTopic>| {
            let one = table.get("T")?.group_filter_data.get("G")?;
            Some((one.expression.clone(), one.born_time, one.client_version, one.dead, one.dead_time))
        };
        assert!(!note(&mut table, vec![], 1));
        assert!(note(&mut table, wanted("a = 1", 5), 10));
        assert_eq!(shown(&table), Some(("a = 1".into(), 10, 5, false, 0)));
        assert!(!note(&mut table, wanted("a = 1", 5), 20));
        assert!(note(&mut table, wanted("a = 2", 6), 30));
        assert_eq!(shown(&table), Some(("a = 2".into(), 30, 6, false, 0)));
        assert!(note(&mut table, vec![], 40));
        assert_eq!(shown(&table), Some(("a = 2".into(), 30, 6, true, 40)));
        assert!(!note(&mut table, vec![], 50));
        assert!(note(&mut table, wanted("a = 2", 6), 60));
        assert_eq!(shown(&table), Some(("a = 2".into(), 60, 6, false, 0)));
        note(&mut table, vec![], 70);
        assert!(!note(&mut table, vec![], 69 + DEAD_MS_MAX));
        assert!(note(&mut table, vec![], 70 + DEAD_MS_MAX));
        assert_eq!(table, BTreeMap::new());
    }
}

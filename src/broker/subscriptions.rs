//! Subscription groups: what a consumer group may do. Kept in `config/subscriptionGroup.json` in RocketMQ's form.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, RwLock},
};

use crate::{
    env::Storage,
    model::message::NAME_MAX_BYTES,
    protocol::body::{Body, SubscriptionGroupConfig, SubscriptionGroupTable},
    store::config_file::{self, ConfigFile, ConfigWriter, Unreadable},
};

/// Groups that are there from the start (SubscriptionGroupManager.init of 4.9.7).
const SYSTEM_GROUPS: [&str; 6] = [
    "TOOLS_CONSUMER",
    "FILTERSRV_CONSUMER",
    "SELF_TEST_C_GROUP",
    "CID_ONS-HTTP-PROXY",
    "CID_ONSAPI_PULL",
    "CID_ONSAPI_PERMISSION",
];
const OWNER_GROUP: &str = "CID_ONSAPI_OWNER";

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    #[error("the broker has {groups_max} groups, which is all that groupsMax allows; delete unused ones or raise it")]
    TooMany { groups_max: usize },
    #[error("a group's name of {size} bytes; at most {NAME_MAX_BYTES} are taken")]
    Name { size: usize },
}

pub struct Subscriptions {
    table: Arc<RwLock<SubscriptionGroupTable>>,
    groups: RwLock<BTreeMap<String, Arc<SubscriptionGroupConfig>>>,
    file: ConfigFile,
}

/// A group of RocketMQ's own.
pub fn is_system(group: &str) -> bool {
    group.starts_with("CID_RMQ_SYS_") || group.starts_with("TOOLS_CONSUMER")
}

impl Subscriptions {
    pub fn load(storage: &dyn Storage, writer: &ConfigWriter, path: &Path) -> Result<Self, Unreadable> {
        let loaded = config_file::load(storage, path, |text| SubscriptionGroupTable::decode_file(text.as_bytes()))?;
        let mut table = loaded.unwrap_or_default();
        for name in SYSTEM_GROUPS.into_iter().chain([OWNER_GROUP]) {
            let group = table.subscription_group_table.entry(name.to_owned());
            let group = group.or_insert_with(|| SubscriptionGroupConfig::new(name));
            if name.starts_with("CID_ONS") {
                group.consume_broadcast_enable = true;
            }
        }
        let groups = table
            .subscription_group_table
            .iter()
            .map(|(name, group)| (name.clone(), Arc::new(group.clone())))
            .collect();
        let table = Arc::new(RwLock::new(table));
        let rendered = table.clone();
        let file = writer.table(path, move || {
            let table = rendered.read().expect("nothing panics while it is held");
            String::from_utf8(table.encode_file()).expect("JSON is UTF-8")
        });
        Ok(Subscriptions { table, groups: RwLock::new(groups), file })
    }

    pub fn find(&self, name: &str) -> Option<Arc<SubscriptionGroupConfig>> {
        self.groups.read().expect("nothing panics while it is held").get(name).cloned()
    }

    /// The group, made with defaults if it may be.
    pub fn find_or_create(
        &self,
        name: &str,
        auto_create: bool,
        now_ms: i64,
        groups_max: usize,
    ) -> Result<Option<Arc<SubscriptionGroupConfig>>, GroupError> {
        if let Some(group) = self.find(name) {
            return Ok(Some(group));
        }
        // RocketMQ's own consumer groups are made whatever the setting.
        if !auto_create && !name.starts_with("CID_RMQ_SYS_") {
            return Ok(None);
        }
        self.put(SubscriptionGroupConfig::new(name), now_ms, groups_max).map(Some)
    }

    pub fn put(
        &self,
        group: SubscriptionGroupConfig,
        now_ms: i64,
        groups_max: usize,
    ) -> Result<Arc<SubscriptionGroupConfig>, GroupError> {
        if group.group_name.len() > NAME_MAX_BYTES {
            return Err(GroupError::Name { size: group.group_name.len() });
        }
        let mut groups = self.groups.write().expect("nothing panics while it is held");
        if !groups.contains_key(&group.group_name) && groups.len() >= groups_max {
            return Err(GroupError::TooMany { groups_max });
        }
        let group = Arc::new(group);
        groups.insert(group.group_name.clone(), group.clone());
        let mut table = self.table.write().expect("nothing panics while it is held");
        table.subscription_group_table.insert(group.group_name.clone(), (*group).clone());
        table.data_version.next(now_ms);
        drop(table);
        self.file.persist();
        Ok(group)
    }

    pub fn remove(&self, name: &str, now_ms: i64) -> bool {
        let removed = self.groups.write().expect("nothing panics while it is held").remove(name).is_some();
        if removed {
            let mut table = self.table.write().expect("nothing panics while it is held");
            table.subscription_group_table.remove(name);
            table.data_version.next(now_ms);
            drop(table);
            self.file.persist();
        }
        removed
    }

    pub fn snapshot(&self) -> SubscriptionGroupTable {
        self.table.read().expect("nothing panics while it is held").clone()
    }

    pub fn len(&self) -> usize {
        self.groups.read().expect("nothing panics while it is held").len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until everything asked for so far is durable.
    pub async fn durable(&self) -> Result<(), crate::model::watermark::Failed> {
        self.file.written(self.file.generation()).await
    }
}

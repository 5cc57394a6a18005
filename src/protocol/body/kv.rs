//! Bodies that are tables of texts.

use std::collections::BTreeMap;

use super::body;

body! {
    /// Answer to GET_BROKER_RUNTIME_INFO (28), GET_KVLIST_BY_NAMESPACE (219) and to a registration.
    #[derive(Eq, Default)]
    pub struct KvTable {
        pub table: BTreeMap<String, String> = "table",
    }

    /// The name server's `kvConfig.json`: namespace, key, value.
    #[derive(Eq, Default)]
    pub struct KvConfig {
        pub config_table: BTreeMap<String, BTreeMap<String, String>> = "configTable",
    }
}

//! The table rules in force, and what a principal may do by them. A change holds for every
//! statement that is planned after it.

use std::collections::BTreeMap;

use flightpath_catalog::TableName;
use parking_lot::RwLock;

use crate::auth::User;
use crate::config::TableRules;

pub(crate) const SELECT: &str = "SELECT";
pub(crate) const MODIFY: &str = "MODIFY";
pub(crate) const EXTERNAL_USE_SCHEMA: &str = "EXTERNAL_USE_SCHEMA";

/// Rules by full name; names compare case-insensitively.
pub(crate) struct RuleBook {
    tables: RwLock<BTreeMap<String, TableRules>>,
}

impl RuleBook {
    pub fn new(tables: &BTreeMap<String, TableRules>) -> Self {
        Self { tables: RwLock::new(tables.iter().map(|(name, rules)| (name.to_lowercase(), rules.clone())).collect()) }
    }

    pub fn of(&self, name: &TableName) -> TableRules {
        self.tables.read().get(&key(name)).cloned().unwrap_or_default()
    }

    pub fn set(&self, name: &str, rules: TableRules) {
        self.tables.write().insert(name.to_lowercase(), rules);
    }

    pub fn remove(&self, name: &str) -> bool {
        self.tables.write().remove(&name.to_lowercase()).is_some()
    }

    pub fn all(&self) -> BTreeMap<String, TableRules> {
        self.tables.read().clone()
    }

    /// The views in a schema, which no folder holds.
    pub fn views(&self, catalog: &str, schema: &str) -> Vec<String> {
        let prefix = format!("{}.{}.", catalog.to_lowercase(), schema.to_lowercase());
        let tables = self.tables.read();
        let views = tables.iter().filter(|(_, rules)| rules.view_definition.is_some());
        views.filter_map(|(name, _)| name.strip_prefix(&prefix).map(str::to_string)).collect()
    }
}

fn key(name: &TableName) -> String {
    name.to_string().to_lowercase()
}

impl TableRules {
    /// Whether its plain contents may reach nobody as they are.
    pub(crate) fn governed(&self) -> bool {
        self.row_filter.is_some() || !self.masks.is_empty() || self.view_definition.is_some()
    }

    /// Privileges of a user, by name and groups; an owner holds all.
    pub(crate) fn privileges(&self, user: &User, defaults: &[String]) -> Vec<String> {
        if self.owner.as_deref() == Some(user.name.as_str()) {
            return [SELECT, MODIFY, EXTERNAL_USE_SCHEMA].map(String::from).to_vec();
        }
        let Some(grants) = &self.grants else { return defaults.iter().map(|p| normal(p)).collect() };
        let holders = std::iter::once(&user.name).chain(&user.groups);
        let mut all: Vec<String> = holders.filter_map(|holder| grants.get(holder)).flatten().map(|p| normal(p)).collect();
        all.sort();
        all.dedup();
        all
    }

    pub(crate) fn allows(&self, user: &User, defaults: &[String], privilege: &str) -> bool {
        self.privileges(user, defaults).iter().any(|p| p == privilege || p == "ALL_PRIVILEGES" && privilege != EXTERNAL_USE_SCHEMA)
    }
}

/// `external use schema` and `EXTERNAL_USE_SCHEMA` are one.
fn normal(privilege: &str) -> String {
    privilege.trim().to_uppercase().replace(' ', "_")
}

//! Verdicts on compiled SQL, kept: the same text comes again and again, and to have it parsed for the
//! check takes about as long as a small query. Only what passed is kept, under its whole text and the
//! relations it may name, so that no verdict is ever another text's.

use std::collections::HashSet;
use std::sync::Arc;

use flightpath_types::{Error, ErrorKind, Result};
use moka::sync::Cache;

use crate::sql_check::{self, Checked};

/// Of texts and names.
const BYTES_MAX: u64 = 8 << 20;
/// Longer ones take long to run anyway.
const TEXT_BYTES_MAX: usize = 64 << 10;

#[derive(PartialEq, Eq, Hash)]
struct Key {
    sql: String,
    /// Sorted.
    relations: Vec<String>,
}

pub struct Checks(Cache<Arc<Key>, Checked>);

impl Default for Checks {
    fn default() -> Self {
        let weight = |key: &Arc<Key>, _: &Checked| {
            let names: usize = key.relations.iter().map(|name| name.len() + 24).sum();
            u32::try_from(key.sql.len() + names + 64).unwrap_or(u32::MAX)
        };
        Self(Cache::builder().max_capacity(BYTES_MAX).weigher(weight).build())
    }
}

impl Checks {
    /// Whether `sql` names nothing but `relations`; `tree` has it parsed if that isn't known.
    pub fn get_or_check(&self, sql: &str, relations: &HashSet<&str>, tree: impl FnOnce() -> Result<String>) -> Result<Checked> {
        let key = (sql.len() <= TEXT_BYTES_MAX).then(|| {
            let mut relations: Vec<String> = relations.iter().map(|name| (*name).to_string()).collect();
            relations.sort_unstable();
            Arc::new(Key { sql: sql.to_string(), relations })
        });
        if let Some(known) = key.as_ref().and_then(|key| self.0.get(key)) {
            return Ok(known);
        }
        let checked = sql_check::check(&tree()?, relations)
            .map_err(|reason| Error::new(ErrorKind::PermissionDenied, format!("the worker refuses the statement: {reason}")))?;
        if let Some(key) = key {
            self.0.insert(key, checked);
        }
        Ok(checked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As DuckDB serializes a SELECT from one table.
    fn tree(table: &str) -> String {
        let from = format!(r#"{{"type": "BASE_TABLE", "catalog_name": "", "schema_name": "", "table_name": "{table}"}}"#);
        format!(r#"{{"error": false, "statements": [{{"node": {{"type": "SELECT_NODE", "select_list": [], "from_table": {from}}}}}]}}"#)
    }

    #[test]
    fn a_verdict_is_kept_for_the_same_text_and_relations_alone() {
        let checks = Checks::default();
        let mut parsed = 0;
        let mut check = |sql: &str, relations: &[&str]| {
            let relations = relations.iter().copied().collect();
            checks.get_or_check(sql, &relations, || {
                parsed += 1;
                Ok(tree("s0"))
            })
        };
        assert!(check("SELECT FROM s0", &["s0"]).is_ok());
        assert!(check("SELECT FROM s0", &["s0"]).is_ok());
        assert!(check("SELECT FROM s0", &["s0", "s1"]).is_ok());
        assert_eq!(check("SELECT FROM s0", &["s1"]).unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert!(check("SELECT FROM s0", &["s1"]).is_err());
        assert!(check("SELECT  FROM s0", &["s0"]).is_ok());
        assert_eq!(parsed, 5, "only one was known");
    }
}

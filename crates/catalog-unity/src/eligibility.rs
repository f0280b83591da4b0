//! Whether a table may leave Databricks for one principal. A pure function over what was answered:
//! free only when every condition is known and clear. Anything unknown keeps the table where it is.

use std::time::{Duration, Instant};

use flightpath_catalog::AccessRules;

use crate::answers::{Permissions, TableInfo};

/// What a table has to say of itself for other engines to be let in.
pub(crate) const READ_CAPABILITY: &str = "HAS_DIRECT_EXTERNAL_ENGINE_READ_SUPPORT";
const FREE_TYPES: [&str; 2] = ["MANAGED", "EXTERNAL"];
const FREE_FORMAT: &str = "DELTA";

/// What came of asking for read credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Vending {
    Granted,
    Refused(String),
}

/// What is known of policies that cover the table. An empty or refused answer proves nothing: it
/// takes a right that few have. So this can only ever speak against a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policies {
    NoneSeen,
    Some,
    /// The question failed in another way than by a refusal.
    Unknown,
}

/// Everything that is known about a table and a principal, all of it asked for at `asked` or later.
#[derive(Debug, Clone)]
pub(crate) struct Evidence<'a> {
    pub table: &'a TableInfo,
    pub permissions: &'a Permissions,
    pub policies: Policies,
    pub vending: &'a Vending,
    /// Why this process can't read the table's storage, if it can't.
    pub storage: Result<(), String>,
    pub asked: Instant,
}

pub(crate) fn eligibility(evidence: &Evidence<'_>, now: Instant, lifetime: Duration) -> AccessRules {
    let reason = of_table(evidence.table)
        .or_else(|| of_policies(evidence.policies))
        .or_else(|| of_permissions(evidence.permissions))
        .or_else(|| evidence.storage.clone().err())
        .or_else(|| of_vending(evidence.vending))
        .or_else(|| (now.saturating_duration_since(evidence.asked) >= lifetime).then(|| "its access rules are out of date".to_string()));
    reason.map_or(AccessRules::Free, AccessRules::Governed)
}

fn of_table(table: &TableInfo) -> Option<String> {
    if let Some(reason) = whoever_asks(table) {
        return Some(reason);
    }
    if let Some(remark) = table.remarks.first() {
        return Some(format!("its metadata {remark}"));
    }
    let named = table.name.is_some() && table.table_id.is_some();
    (!named).then(|| "its name or id isn't known".into())
}

/// What speaks against a table whoever asks.
pub(crate) fn whoever_asks(table: &TableInfo) -> Option<String> {
    match table.table_type.as_deref() {
        None => return Some("its type isn't known".into()),
        Some("VIEW" | "MATERIALIZED_VIEW" | "METRIC_VIEW") => return Some("views run in Databricks, with their owner's rights".into()),
        Some(known) if FREE_TYPES.contains(&known) => {}
        Some(other) => return Some(format!("tables of type {} are read by Databricks alone", shown(other))),
    }
    if table.has_row_filter {
        return Some("it has a row filter".into());
    }
    match &table.columns {
        None => return Some("its columns aren't known".into()),
        Some(columns) if columns.is_empty() => return Some("its columns aren't known".into()),
        Some(columns) => {
            if let Some(masked) = columns.iter().find(|column| column.has_mask) {
                return Some(format!("its column `{}` has a mask", masked.name));
            }
        }
    }
    match table.data_source_format.as_deref() {
        None => return Some("its format isn't known".into()),
        Some(FREE_FORMAT) => {}
        Some(other) => return Some(format!("its format is {}; other engines read DELTA", shown(other))),
    }
    match &table.capabilities {
        None => Some("it isn't known whether other engines may read it".into()),
        Some(capabilities) if !capabilities.contains(READ_CAPABILITY) => Some("Unity Catalog doesn't let other engines read it".into()),
        Some(_) => None,
    }
}

fn of_policies(policies: Policies) -> Option<String> {
    match policies {
        Policies::NoneSeen => None,
        Policies::Some => Some("a policy covers it".into()),
        Policies::Unknown => Some("it isn't known whether a policy covers it".into()),
    }
}

fn of_permissions(permissions: &Permissions) -> Option<String> {
    let needed = [
        (permissions.use_catalog, "USE CATALOG on its catalog"),
        (permissions.use_schema, "USE SCHEMA on its schema"),
        (permissions.select, "SELECT on it"),
        (permissions.external_use_schema, "EXTERNAL USE SCHEMA on its schema"),
    ];
    needed.into_iter().find_map(|(held, what)| match held {
        Some(true) => None,
        Some(false) => Some(format!("the user isn't known to hold {what}")),
        None => Some(format!("it isn't known whether the user holds {what}")),
    })
}

fn of_vending(vending: &Vending) -> Option<String> {
    match vending {
        Vending::Granted => None,
        Vending::Refused(why) => Some(format!("Unity Catalog gives no credentials for it: {why}")),
    }
}

/// A value of an open list, short enough for a message.
fn shown(value: &str) -> String {
    value.chars().take(60).filter(|c| !c.is_control()).collect()
}

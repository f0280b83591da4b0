//! Unity Catalog's answers, read leniently: nothing that is malformed or unknown is an error, and
//! nothing of it is dropped. What isn't understood is kept as a remark, and a remark keeps a table
//! in Databricks.

use std::collections::{BTreeMap, BTreeSet};

use flightpath_catalog::TableName;
use serde_json::{Map, Value};

/// Fields of a table that say nothing about who may read it, or that are read below.
const TABLE_FIELDS: [&str; 41] = [
    "access_point",
    "browse_only",
    "catalog_name",
    "columns",
    "comment",
    "created_at",
    "created_by",
    "data_access_configuration_id",
    "data_source_format",
    "deleted_at",
    "delta_runtime_properties_kvpairs",
    "effective_predictive_optimization_flag",
    "enable_predictive_optimization",
    "encryption_details",
    "full_name",
    "generation",
    "manifest_capabilities",
    "metastore_id",
    "name",
    "owner",
    "pipeline_id",
    "properties",
    "row_filter",
    "schema_name",
    "securable_kind",
    "securable_kind_manifest",
    "securable_type",
    "sql_path",
    "storage_credential_name",
    "storage_location",
    "table_constraints",
    "table_id",
    "table_type",
    "updated_at",
    "updated_by",
    "view_definition",
    "view_dependencies",
    "delta_metadata",
    "delta_commits",
    "cloud",
    "region",
];

/// Known fields that have to be absent, null, false or empty on a table that any engine may read.
const TELLING_FIELDS: [&str; 7] =
    ["browse_only", "deleted_at", "encryption_details", "pipeline_id", "view_definition", "view_dependencies", "access_point"];

const COLUMN_FIELDS: [&str; 12] = [
    "comment",
    "mask",
    "name",
    "nullable",
    "partition_index",
    "position",
    "type_interval_type",
    "type_json",
    "type_name",
    "type_precision",
    "type_scale",
    "type_text",
];

/// A table as Unity Catalog describes it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct TableInfo {
    /// As the catalog spells it; `None` when the answer doesn't name the table that was asked for.
    pub name: Option<TableName>,
    pub table_id: Option<String>,
    pub table_type: Option<String>,
    pub data_source_format: Option<String>,
    pub storage_location: Option<String>,
    /// `None` when the answer has no list of columns.
    pub columns: Option<Vec<ColumnInfo>>,
    /// Anything at all in `row_filter`.
    pub has_row_filter: bool,
    /// `None` when the answer doesn't tell.
    pub capabilities: Option<BTreeSet<String>>,
    pub comment: Option<String>,
    pub properties: BTreeMap<String, String>,
    pub created_unix_ms: Option<i64>,
    pub updated_unix_ms: Option<i64>,
    /// What isn't understood, each as the end of "its metadata ...".
    pub remarks: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ColumnInfo {
    pub name: String,
    pub type_text: Option<String>,
    pub type_json: Option<String>,
    pub nullable: bool,
    pub position: Option<i64>,
    pub partition_index: Option<i64>,
    pub comment: Option<String>,
    /// Anything at all in `mask`.
    pub has_mask: bool,
}

impl TableInfo {
    /// `asked`: the name that was asked for.
    pub fn read(asked: &TableName, answer: &Value) -> Self {
        let mut info = Self::default();
        let Some(table) = answer.as_object() else {
            info.remarks.push("isn't an object".into());
            return info;
        };
        info.remark_unknown(table, &TABLE_FIELDS, "");
        for field in TELLING_FIELDS {
            if table.get(field).is_some_and(|value| !is_void(value)) {
                info.remarks.push(format!("has `{field}`"));
            }
        }
        info.name = spelled(asked, table);
        if info.name.is_none() {
            info.remarks.push("is about another table than was asked for".into());
        }
        info.table_id = info.text(table, "table_id");
        info.table_type = info.text(table, "table_type");
        info.data_source_format = info.text(table, "data_source_format");
        info.storage_location = info.text(table, "storage_location");
        info.comment = info.text(table, "comment");
        info.has_row_filter = is_there(table, "row_filter");
        info.capabilities = info.capabilities_of(table);
        info.columns = info.columns_of(table);
        info.created_unix_ms = table.get("created_at").and_then(Value::as_i64);
        info.updated_unix_ms = table.get("updated_at").and_then(Value::as_i64);
        if let Some(Value::Object(properties)) = table.get("properties") {
            info.properties = properties.iter().filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_string()))).collect();
        }
        info
    }

    fn columns_of(&mut self, table: &Map<String, Value>) -> Option<Vec<ColumnInfo>> {
        let Some(Value::Array(list)) = table.get("columns") else { return None };
        let mut columns = Vec::with_capacity(list.len());
        for value in list {
            let Some(column) = value.as_object() else {
                self.remarks.push("has a column that isn't an object".into());
                continue;
            };
            let name = self.text(column, "name").unwrap_or_default();
            self.remark_unknown(column, &COLUMN_FIELDS, &format!(" in the column `{name}`"));
            columns.push(ColumnInfo {
                type_text: self.text(column, "type_text"),
                type_json: self.text(column, "type_json"),
                nullable: column.get("nullable").and_then(Value::as_bool).unwrap_or(true),
                position: column.get("position").and_then(Value::as_i64),
                partition_index: column.get("partition_index").and_then(Value::as_i64),
                comment: self.text(column, "comment"),
                has_mask: is_there(column, "mask"),
                name,
            });
        }
        // Columns are numbered, and nothing says that they come in that order.
        if columns.iter().all(|c| c.position.is_some()) {
            columns.sort_by_key(|c| c.position);
        }
        Some(columns)
    }

    /// Two places may tell; a capability has to be in each that does.
    fn capabilities_of(&mut self, table: &Map<String, Value>) -> Option<BTreeSet<String>> {
        let nested = table.get("securable_kind_manifest").and_then(|manifest| manifest.get("capabilities"));
        let mut told: Option<BTreeSet<String>> = None;
        for place in [nested, table.get("manifest_capabilities")].into_iter().flatten().filter(|place| !place.is_null()) {
            let Some(list) = place.as_array().filter(|list| list.iter().all(Value::is_string)) else {
                self.remarks.push("has capabilities of an unknown form".into());
                return None;
            };
            let these: BTreeSet<String> = list.iter().filter_map(Value::as_str).map(str::to_string).collect();
            told = Some(match told {
                Some(others) => others.intersection(&these).cloned().collect(),
                None => these,
            });
        }
        told
    }

    fn text(&mut self, object: &Map<String, Value>, field: &str) -> Option<String> {
        match object.get(field) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(_) => {
                self.remarks.push(format!("has a `{field}` that isn't text"));
                None
            }
        }
    }

    fn remark_unknown(&mut self, object: &Map<String, Value>, known: &[&str], place: &str) {
        for (field, value) in object {
            if !value.is_null() && !known.contains(&field.as_str()) {
                let shown: String = field.chars().take(80).collect();
                self.remarks.push(format!("has the field `{shown}`{place}, whose meaning isn't known here"));
            }
        }
    }
}

fn spelled(asked: &TableName, table: &Map<String, Value>) -> Option<TableName> {
    let part = |field: &str, asked: &str| {
        let answered = table.get(field)?.as_str()?;
        (answered.to_lowercase() == asked.to_lowercase()).then(|| answered.to_string())
    };
    Some(TableName::new(&part("catalog_name", &asked.catalog)?, &part("schema_name", &asked.schema)?, &part("name", &asked.table)?))
}

fn is_there(object: &Map<String, Value>, field: &str) -> bool {
    object.get(field).is_some_and(|value| !value.is_null())
}

fn is_void(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

/// A principal's effective privileges that reading with another engine takes; `None`: not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Permissions {
    pub use_catalog: Option<bool>,
    pub use_schema: Option<bool>,
    pub external_use_schema: Option<bool>,
    pub select: Option<bool>,
}

/// The privileges that any of `holders` is said to hold, in Unity Catalog's spelling with
/// underscores. Assignments to others aren't counted, should the answer have any.
pub(crate) fn privileges(holders: &[String], assignments: &[Value]) -> BTreeSet<String> {
    let own = assignments.iter().filter(|assignment| holder(assignment).is_some_and(|name| is_one_of(name, holders)));
    own.filter_map(|assignment| assignment.get("privileges")?.as_array())
        .flatten()
        .filter_map(|privilege| privilege.get("privilege").unwrap_or(privilege).as_str())
        .map(|name| name.replace(' ', "_").to_ascii_uppercase())
        .collect()
}

/// Whether somebody else is said to hold something: a group, it may be, that the user is in.
pub(crate) fn names_others(user: &str, assignments: &[Value]) -> bool {
    assignments.iter().any(|assignment| holder(assignment).is_some_and(|name| !name.eq_ignore_ascii_case(user)))
}

fn holder(assignment: &Value) -> Option<&str> {
    assignment.get("principal")?.as_str()
}

fn is_one_of(name: &str, holders: &[String]) -> bool {
    holders.iter().any(|holder| holder.eq_ignore_ascii_case(name))
}

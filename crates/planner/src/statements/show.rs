//! SHOW.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType, Field};
use flightpath_catalog::AsOf;
use flightpath_plan::{LocalResult, StatementKind};
use flightpath_types::{Error, ErrorKind, Result};

use super::Asking;
use super::command::matches;
use super::rows::{booleans, result, text_result_with};

pub(super) async fn catalogs(asking: &Asking<'_>, like: Option<&str>) -> Result<LocalResult> {
    let mut names = asking.catalog.catalogs(&asking.session.principal).await?;
    names.sort();
    one_column("catalog", names.into_iter().filter(|n| matches(like, n)))
}

pub(super) async fn schemas(asking: &Asking<'_>, catalog: Option<&str>, like: Option<&str>) -> Result<LocalResult> {
    let catalog = catalog.unwrap_or(&asking.session.catalog);
    let mut names = asking.catalog.schemas(&asking.session.principal, catalog).await?;
    names.sort();
    one_column("databaseName", names.into_iter().filter(|n| matches(like, n)))
}

pub(super) async fn tables(asking: &Asking<'_>, schema: &[String], like: Option<&str>) -> Result<LocalResult> {
    let session = asking.session;
    let (catalog, schema) = match schema {
        [] => (session.catalog.as_str(), session.schema.as_str()),
        [schema] => (session.catalog.as_str(), schema.as_str()),
        [catalog, schema] => (catalog.as_str(), schema.as_str()),
        _ => return Err(Error::invalid("SHOW TABLES takes a schema: `schema` or `catalog.schema`")),
    };
    let mut tables = asking.catalog.tables(&session.principal, catalog, schema).await?;
    tables.sort_by(|a, b| a.name.cmp(&b.name));
    tables.retain(|t| matches(like, &t.name.table));
    let fields = vec![
        Field::new("database", DataType::Utf8, false),
        Field::new("tableName", DataType::Utf8, false),
        Field::new("isTemporary", DataType::Boolean, false),
    ];
    let databases: StringArray = tables.iter().map(|t| Some(t.name.schema.to_string())).collect();
    let names: StringArray = tables.iter().map(|t| Some(t.name.table.to_string())).collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(databases), Arc::new(names), booleans(tables.iter().map(|_| false))];
    result(StatementKind::Show, fields, columns)
}

pub(super) async fn columns(asking: &Asking<'_>, table: &[String]) -> Result<LocalResult> {
    let name = asking.complete(table)?;
    let snapshot = asking.catalog.snapshot(&asking.session.principal, &name, &AsOf::Latest).await?;
    one_column("col_name", snapshot.schema.fields().iter().map(|f| f.name().clone()))
}

pub(super) async fn properties(asking: &Asking<'_>, table: &[String], key: Option<&str>) -> Result<LocalResult> {
    let name = asking.complete(table)?;
    let snapshot = asking.catalog.snapshot(&asking.session.principal, &name, &AsOf::Latest).await?;
    let rows = match key {
        None => snapshot.properties.iter().map(|(k, v)| vec![Some(k.clone()), Some(v.clone())]).collect(),
        Some(key) => {
            let missing = || format!("Table {name} does not have property: {key}");
            vec![vec![Some(key.to_string()), Some(snapshot.properties.get(key).cloned().unwrap_or_else(missing))]]
        }
    };
    text_result_with(StatementKind::Show, &["key", "value"], &[false, false], rows)
}

/// The names of the compile table.
pub(super) fn functions(like: Option<&str>) -> Result<LocalResult> {
    let mut names: Vec<String> = flightpath_functions::all()
        .flat_map(|def| std::iter::once(def.name()).chain(def.aliases().iter().copied()))
        .filter(|name| matches(like, name))
        .map(str::to_string)
        .collect();
    names.sort();
    names.dedup();
    one_column("function", names.into_iter())
}

fn one_column(name: &str, values: impl Iterator<Item = String>) -> Result<LocalResult> {
    text_result_with(StatementKind::Show, &[name], &[false], values.map(|v| vec![Some(v)]).collect())
}

/// The error for a schema or catalog that isn't there.
pub(super) fn not_found(kind: &str, class: &'static str, name: &str, known: &[String]) -> Error {
    let wanted = name.rsplit("`.`").next().unwrap_or(name).to_lowercase();
    let mut near: Vec<(f64, &String)> = known.iter().map(|known| (strsim::jaro_winkler(&wanted, &known.to_lowercase()), known)).collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let near = near.first().filter(|(score, _)| *score >= NEAREST_SCORE_MIN).map(|(_, name)| format!(" Did you mean `{name}`?"));
    let shown = &known[..known.len().min(NAMES_SHOWN_MAX)];
    let more = if known.len() > shown.len() { ", ..." } else { "" };
    let known = if known.is_empty() { String::new() } else { format!(" There are: {}{more}.", shown.join(", ")) };
    let near = near.unwrap_or_default();
    Error::classed(ErrorKind::NotFound, class, "42704", format!("The {kind} `{name}` cannot be found.{near}{known}"))
}

/// How alike a name must be to be offered, and how many there are shown.
const NEAREST_SCORE_MIN: f64 = 0.75;
const NAMES_SHOWN_MAX: usize = 20;

//! USE, SET and RESET: checked here, applied by the pipeline.

use std::sync::Arc;

use arrow::datatypes::Schema;
use flightpath_plan::{LocalResult, Statement, StatementKind};
use flightpath_types::{Error, ErrorKind, Result, Session};

use super::Asking;
use super::rows::text_result_with;
use super::show::not_found;

/// What Databricks' clients set out of habit, and the one value that is how things are here.
const FIXED: [(&str, &str); 3] = [("ansi_mode", "true"), ("spark.sql.ansi.enabled", "true"), ("legacy_time_parser_policy", "exception")];

/// Other names for our settings.
const ALIASES: [(&str, &str); 3] =
    [("timezone", "time_zone"), ("spark.sql.session.timezone", "time_zone"), ("statement_timeout", "timeout_seconds")];

pub(super) async fn use_catalog(asking: &Asking<'_>, catalog: &str) -> Result<Statement> {
    Ok(changed(catalog_assignments(find_catalog(asking, catalog).await?)))
}

/// What a setting comes to when it's set to this value: the places that names are looked up in must
/// be there, and are stored as the catalog spells them.
pub(crate) async fn assignments(asking: &Asking<'_>, name: &str, value: &str) -> Result<Vec<(String, String)>> {
    let (known, value) = (canonical(name), value.trim());
    match known.as_str() {
        // Unset together: a schema is one of its catalog.
        "catalog" if value.is_empty() => Ok(catalog_assignments(String::new())),
        "catalog" => Ok(catalog_assignments(find_catalog(asking, value).await?)),
        "schema" if !value.is_empty() => Ok(vec![(known, find_schema(asking, &asking.session.catalog, value).await?)]),
        _ => Ok(vec![(known, value.to_string())]),
    }
}

/// A catalog comes with its schema `default`, as after USE CATALOG.
fn catalog_assignments(catalog: String) -> Vec<(String, String)> {
    vec![("catalog".into(), catalog), ("schema".into(), "default".into())]
}

async fn find_catalog(asking: &Asking<'_>, catalog: &str) -> Result<String> {
    let principal = &asking.session.principal;
    let known = asking.catalog.catalogs(principal).await?;
    if let Some(found) = known.iter().find(|c| c.eq_ignore_ascii_case(catalog)) {
        return Ok(found.clone());
    }
    // A catalog that is down isn't listed: it says so itself.
    match asking.catalog.schemas(principal, catalog).await {
        Err(error) if error.kind() == ErrorKind::Unavailable => Err(error),
        _ => Err(not_found("catalog", "NO_SUCH_CATALOG_EXCEPTION", catalog, &known)),
    }
}

async fn find_schema(asking: &Asking<'_>, catalog: &str, schema: &str) -> Result<String> {
    let known = asking.catalog.schemas(&asking.session.principal, catalog).await?;
    let found = known.iter().find(|s| s.eq_ignore_ascii_case(schema)).cloned();
    found.ok_or_else(|| not_found("schema", "SCHEMA_NOT_FOUND", &format!("{catalog}`.`{schema}"), &known))
}

pub(super) async fn use_schema(asking: &Asking<'_>, name: &[String]) -> Result<Statement> {
    let mut assignments = Vec::new();
    let (catalog, schema) = match name {
        [schema] => (asking.session.catalog.clone(), schema),
        [catalog, schema] => {
            let found = find_catalog(asking, catalog).await?;
            assignments.push(("catalog".to_string(), found.clone()));
            (found, schema)
        }
        _ => return Err(Error::invalid("USE takes a schema: `schema` or `catalog.schema`")),
    };
    assignments.push(("schema".to_string(), find_schema(asking, &catalog, schema).await?));
    Ok(changed(assignments))
}

/// USE answers with nothing.
fn changed(assignments: Vec<(String, String)>) -> Statement {
    let shows = LocalResult { kind: StatementKind::Set, schema: Arc::new(Schema::empty()), batches: Vec::new() };
    Statement::SetSession { assignments, shows }
}

/// `SET`, `SET name`.
pub(super) fn settings(session: &Session, name: Option<&str>) -> Result<LocalResult> {
    match name {
        None => pairs(Session::NAMES.iter().map(|n| (n.to_string(), session.get(n).unwrap_or_default())).collect()),
        Some(name) => {
            let known = canonical(name);
            if let Some((_, value)) = FIXED.iter().find(|(n, _)| *n == known) {
                return pairs(vec![(name.to_string(), value.to_string())]);
            }
            // Spark's word for a setting that isn't there.
            pairs(vec![(name.to_string(), session.get(&known).unwrap_or_else(|| "<undefined>".into()))])
        }
    }
}

/// `SET name = value`.
pub(super) async fn set(asking: &Asking<'_>, name: &str, value: &str) -> Result<Statement> {
    let known = canonical(name);
    let shows = pairs(vec![(name.to_string(), value.to_string())])?;
    if let Some((_, only)) = FIXED.iter().find(|(n, _)| *n == known) {
        if !value.trim().eq_ignore_ascii_case(only) {
            return Err(Error::not_eligible(format!("`{name}` is always {only} here")));
        }
        return Ok(Statement::SetSession { assignments: Vec::new(), shows });
    }
    let mut trial = asking.session.clone();
    trial.set(&known, value)?;
    crate::check_time_zone(&trial.time_zone)?;
    Ok(Statement::SetSession { assignments: assignments(asking, &known, value).await?, shows })
}

/// `RESET`, `RESET name`: back to the default. Catalog and schema are no settings in that sense.
pub(super) fn reset(session: &Session, name: Option<&str>) -> Result<Statement> {
    let assignments = match name {
        Some(name) => {
            let known = canonical(name);
            if session.get(&known).is_none() && !FIXED.iter().any(|(n, _)| *n == known) {
                session.clone().set(&known, "")?;
            }
            match known.as_str() {
                "catalog" => catalog_assignments(String::new()),
                _ => vec![(known, String::new())],
            }
        }
        None => Session::NAMES.iter().filter(|n| !matches!(**n, "catalog" | "schema")).map(|n| (n.to_string(), String::new())).collect(),
    };
    let assignments = assignments.into_iter().filter(|(n, _)| !FIXED.iter().any(|(f, _)| f == n)).collect();
    Ok(Statement::SetSession { assignments, shows: pairs(Vec::new())? })
}

fn canonical(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    let bare = name.strip_prefix("flightpath.").unwrap_or(&name);
    ALIASES.iter().find(|(alias, _)| *alias == bare).map_or_else(|| bare.to_string(), |(_, own)| own.to_string())
}

fn pairs(pairs: Vec<(String, String)>) -> Result<LocalResult> {
    let rows = pairs.into_iter().map(|(k, v)| vec![Some(k), Some(v)]).collect();
    text_result_with(StatementKind::Set, &["key", "value"], &[false, false], rows)
}

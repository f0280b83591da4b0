//! USE, SET and RESET: checked here, applied by the pipeline.

use std::sync::Arc;

use arrow::datatypes::Schema;
use flightpath_plan::{LocalResult, Statement, StatementKind};
use flightpath_types::{Error, Result, Session};

use super::Asking;
use super::rows::text_result_with;
use super::show::not_found;

/// What Databricks' clients set out of habit, and the one value that is how things are here.
const FIXED: [(&str, &str); 3] = [("ansi_mode", "true"), ("spark.sql.ansi.enabled", "true"), ("legacy_time_parser_policy", "exception")];

/// Other names for our settings.
const ALIASES: [(&str, &str); 3] =
    [("timezone", "time_zone"), ("spark.sql.session.timezone", "time_zone"), ("statement_timeout", "timeout_seconds")];

pub(super) async fn use_catalog(asking: &Asking<'_>, catalog: &str) -> Result<Statement> {
    let known = asking.catalog.catalogs(&asking.session.principal).await?;
    let Some(found) = known.iter().find(|c| c.eq_ignore_ascii_case(catalog)) else {
        return Err(not_found("catalog", "NO_SUCH_CATALOG_EXCEPTION", catalog, &known));
    };
    Ok(changed(vec![("catalog".into(), found.clone()), ("schema".into(), "default".into())]))
}

pub(super) async fn use_schema(asking: &Asking<'_>, name: &[String]) -> Result<Statement> {
    let principal = &asking.session.principal;
    let mut assignments = Vec::new();
    let (catalog, schema) = match name {
        [schema] => (asking.session.catalog.clone(), schema),
        [catalog, schema] => {
            let known = asking.catalog.catalogs(principal).await?;
            let Some(found) = known.iter().find(|c| c.eq_ignore_ascii_case(catalog)) else {
                return Err(not_found("catalog", "NO_SUCH_CATALOG_EXCEPTION", catalog, &known));
            };
            assignments.push(("catalog".to_string(), found.clone()));
            (found.clone(), schema)
        }
        _ => return Err(Error::invalid("USE takes a schema: `schema` or `catalog.schema`")),
    };
    let known = asking.catalog.schemas(principal, &catalog).await?;
    let Some(found) = known.iter().find(|s| s.eq_ignore_ascii_case(schema)) else {
        return Err(not_found("schema", "SCHEMA_NOT_FOUND", &format!("{catalog}`.`{schema}"), &known));
    };
    assignments.push(("schema".to_string(), found.clone()));
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
pub(crate) fn set_session(session: &Session, name: &str, value: &str) -> Result<Statement> {
    let known = canonical(name);
    let shows = pairs(vec![(name.to_string(), value.to_string())])?;
    if let Some((_, only)) = FIXED.iter().find(|(n, _)| *n == known) {
        if !value.trim().eq_ignore_ascii_case(only) {
            return Err(Error::not_eligible(format!("`{name}` is always {only} here")));
        }
        return Ok(Statement::SetSession { assignments: Vec::new(), shows });
    }
    let mut trial = session.clone();
    trial.set(&known, value)?;
    crate::check_time_zone(&trial.time_zone)?;
    Ok(Statement::SetSession { assignments: vec![(known, value.to_string())], shows })
}

/// `RESET`, `RESET name`: back to the default. Catalog and schema are no settings in that sense.
pub(super) fn reset(session: &Session, name: Option<&str>) -> Result<Statement> {
    let assignments = match name {
        Some(name) => {
            let known = canonical(name);
            if session.get(&known).is_none() && !FIXED.iter().any(|(n, _)| *n == known) {
                session.clone().set(&known, "")?;
            }
            vec![(known, String::new())]
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

//! Which tables a statement may read, found before binding so that their snapshots can be fetched
//! without waiting inside the binder. A name that turns out to be a CTE's is left out where that is
//! certain; one too many does no harm, its error is raised only on use.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::ast::{self, Expr, SetExpr, Statement, TableFactor, TableVersion, Value, Visit, Visitor};
use flightpath_catalog::AsOf;
use flightpath_functions::{cast, types};
use flightpath_types::{Error, Result};

use super::TableRequest;
use super::from::identifiers;

/// The tables that `query` names, each once.
pub fn referenced_tables(query: &ast::Query, time_zone: &str) -> Result<Vec<TableRequest>> {
    let mut collector = Collector { ctes: Vec::new(), seen: HashSet::new(), requests: Vec::new(), time_zone, error: None };
    crate::parse::with_stack(|| {
        let _ = query.visit(&mut collector);
    });
    match collector.error {
        Some(error) => Err(error),
        None => Ok(collector.requests),
    }
}

struct Collector<'a> {
    /// Names of the CTEs of each enclosing query.
    ctes: Vec<HashSet<String>>,
    seen: HashSet<TableRequest>,
    requests: Vec<TableRequest>,
    time_zone: &'a str,
    error: Option<Error>,
}

impl Collector<'_> {
    fn add(&mut self, parts: Vec<String>, as_of: AsOf) {
        let request = TableRequest { parts, as_of };
        if self.seen.insert(request.clone()) {
            self.requests.push(request);
        }
    }

    fn table(&mut self, name: &ast::ObjectName, version: Option<&TableVersion>) -> Result<()> {
        let parts: Vec<String> = identifiers(name)?.into_iter().map(|i| i.value.to_lowercase()).collect();
        let as_of = match version {
            Some(version) => as_of(version, self.time_zone)?,
            None => AsOf::Latest,
        };
        // A CTE's definition may name a table of its own name, so its name is asked for all the same
        // wherever it isn't certain that the CTE is meant.
        self.add(parts, as_of);
        Ok(())
    }
}

impl Visitor for Collector<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &ast::Query) -> ControlFlow<()> {
        let names = query.with.iter().flat_map(|w| &w.cte_tables).map(|c| c.alias.name.value.to_lowercase()).collect();
        self.ctes.push(names);
        if let SetExpr::Table(table) = query.body.as_ref() {
            let parts: Vec<String> = [&table.schema_name, &table.table_name].into_iter().flatten().map(|p| p.to_lowercase()).collect();
            self.add(parts, AsOf::Latest);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &ast::Query) -> ControlFlow<()> {
        self.ctes.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, args: None, version, .. } = factor
            && let Err(error) = self.table(name, version.as_ref())
        {
            self.error = Some(error);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_statement(&mut self, _: &Statement) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// The version that a table reference asks for: a number or a constant instant.
pub(super) fn as_of(version: &TableVersion, time_zone: &str) -> Result<AsOf> {
    match version {
        TableVersion::VersionAsOf(Expr::Value(v)) => match &v.value {
            Value::Number(n, _) | Value::SingleQuotedString(n) => match n.parse() {
                Ok(version) => Ok(AsOf::Version(version)),
                Err(_) => Err(Error::invalid(format!("VERSION AS OF needs a version number, not {n}"))),
            },
            other => Err(Error::invalid(format!("VERSION AS OF needs a version number, not {other}"))),
        },
        TableVersion::TimestampAsOf(e) => {
            let text = match e {
                Expr::Value(v) => match &v.value {
                    Value::SingleQuotedString(text) => Some(text),
                    _ => None,
                },
                Expr::TypedString(t) => match &t.value.value {
                    Value::SingleQuotedString(text) => Some(text),
                    _ => None,
                },
                _ => None,
            };
            let Some(text) = text else {
                return Err(Error::not_eligible(format!("TIMESTAMP AS OF {e} isn't supported: only a literal is")));
            };
            match cast::cast_literal(&ScalarValue::Utf8(Some(text.clone())), &types::timestamp(), time_zone) {
                Some(ScalarValue::TimestampMicrosecond(Some(micros), _)) => Ok(AsOf::TimestampMicros(micros)),
                _ => Err(Error::invalid(format!("TIMESTAMP AS OF '{text}' isn't a timestamp"))),
            }
        }
        other => Err(Error::not_eligible(format!("{other} isn't part of Databricks SQL"))),
    }
}

//! `dialect=duckdb`: the user's own text, which DuckDB gets as it is. It is parsed only to find its
//! relations: each must be a table of the catalog or a common table expression. Functions that read
//! files, files as relations, and anything but one query are refused. What this parser and DuckDB's
//! read differently can't do harm: the worker's instance sees nothing but the tables found here.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::DFSchema;
use datafusion::logical_expr::{EmptyRelation, LogicalPlan};
use datafusion::sql::sqlparser::ast::{Ident, ObjectName, ObjectNamePart, Query, Select, SetExpr, Statement, TableFactor, Visit, Visitor};
use datafusion::sql::sqlparser::dialect::DuckDbDialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use flightpath_plan::PlannedQuery;
use flightpath_types::{Error, ErrorKind, Features, Fingerprint, Principal, Refusal, RefusalClass, Result, Session};

/// Functions in FROM that make rows of their arguments alone.
const TABLE_FUNCTIONS: [&str; 3] = ["generate_series", "range", "unnest"];
/// Deepest nesting that is parsed.
const NESTING_MAX: usize = 200;

/// The tables that a text names, each once, in one to three parts as written.
pub(crate) fn tables(text: &str) -> Result<Vec<Vec<String>>> {
    crate::parse::with_stack(|| read_here(text))
}

/// A query without a plan of its own: nothing is known of it but the columns it answers with.
pub(crate) fn unplanned(schema: SchemaRef) -> PlannedQuery {
    let plan = LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: false, schema: Arc::new(DFSchema::empty()) });
    let nobody = Refusal::new(RefusalClass::Semantics, "the statement isn't planned here");
    PlannedQuery {
        text: "".into(),
        fingerprint: Fingerprint::from_u64(0),
        session: Session::new(Principal::new("")),
        optimized: plan.clone(),
        plan,
        schema,
        tables: Vec::new(),
        scans: BTreeMap::new(),
        features: Features::default(),
        duckdb: Err(nobody.clone()),
        databricks: Err(nobody.clone()),
        datafusion: Err(nobody),
        ordered: true,
        deterministic: false,
        comparable: false,
    }
}

fn read_here(text: &str) -> Result<Vec<Vec<String>>> {
    let parsed = Parser::new(&DuckDbDialect {}).with_recursion_limit(NESTING_MAX).try_with_sql(text).and_then(|mut p| p.parse_statements());
    let mut statements = parsed.map_err(not_parsed)?;
    let (Some(statement), true) = (statements.pop(), statements.is_empty()) else {
        return Err(Error::invalid("dialect=duckdb takes exactly one statement"));
    };
    let Statement::Query(query) = &statement else {
        return Err(Error::not_eligible("with dialect=duckdb only a SELECT is passed on"));
    };
    let mut finder = Finder { common: HashSet::new(), tables: Vec::new() };
    match query.visit(&mut finder) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => {
            let common = finder.common;
            let is_common = |parts: &Vec<String>| matches!(parts.as_slice(), [only] if common.contains(&only.to_lowercase()));
            Ok(finder.tables.into_iter().filter(|parts| !is_common(parts)).collect())
        }
    }
}

fn not_parsed(error: ParserError) -> Error {
    let message = match error {
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => message,
        ParserError::RecursionLimitExceeded => "the statement nests too deep".to_string(),
    };
    Error::classed(
        ErrorKind::InvalidArgument,
        "PARSE_SYNTAX_ERROR",
        "42601",
        format!("with dialect=duckdb the statement must be one whose tables can be found: {message}"),
    )
}

struct Finder {
    /// Names of common table expressions, in lower case.
    common: HashSet<String>,
    tables: Vec<Vec<String>>,
}

impl Finder {
    fn relation(&mut self, name: &ObjectName) -> ControlFlow<Error> {
        let mut idents: Vec<&Ident> = Vec::new();
        for part in &name.0 {
            match part {
                ObjectNamePart::Identifier(ident) => idents.push(ident),
                ObjectNamePart::Function(_) => return refused("a relation named by a function"),
            }
        }
        if idents.iter().any(|i| i.quote_style == Some('\'')) {
            return refused(&format!("reading the file {name} as a relation"));
        }
        if idents.len() > 3 {
            return ControlFlow::Break(Error::invalid(format!("`{name}` isn't a table's name; it has at most three parts")));
        }
        let parts: Vec<String> = idents.iter().map(|i| i.value.clone()).collect();
        if !self.tables.contains(&parts) {
            self.tables.push(parts);
        }
        ControlFlow::Continue(())
    }
}

fn makes_rows(function: &ObjectName) -> bool {
    let [ObjectNamePart::Identifier(name)] = function.0.as_slice() else { return false };
    TABLE_FUNCTIONS.contains(&name.value.to_lowercase().as_str())
}

fn refused(what: &str) -> ControlFlow<Error> {
    ControlFlow::Break(Error::not_eligible(format!("{what} isn't allowed; dialect=duckdb may read the catalog's tables only")))
}

impl Visitor for Finder {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Error> {
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            let name = &cte.alias.name.value;
            // Scopes aren't tracked: a name that could also mean a file or DuckDB's own catalog is refused.
            let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            let reserved = ["duckdb_", "pg_", "sqlite_", "pragma_", "information_schema"];
            if !plain || reserved.iter().any(|r| name.to_lowercase().starts_with(r)) {
                return refused(&format!("a common table expression named `{name}`"));
            }
            self.common.insert(cte.alias.name.value.to_lowercase());
        }
        match query.body.as_ref() {
            SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::SetOperation { .. } | SetExpr::Values(_) => ControlFlow::Continue(()),
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => refused("a statement that writes"),
            SetExpr::Table(_) => refused("`TABLE name`"),
        }
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Error> {
        if select.into.is_some() { refused("SELECT INTO") } else { ControlFlow::Continue(()) }
    }

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<Error> {
        match statement {
            Statement::Query(_) => ControlFlow::Continue(()),
            _ => refused("a statement inside a query"),
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Error> {
        match factor {
            TableFactor::Table { name, args: None, version: None, json_path: None, .. } => self.relation(name),
            TableFactor::Table { name, args: Some(_), version: None, json_path: None, .. } | TableFactor::Function { name, .. }
                if makes_rows(name) =>
            {
                ControlFlow::Continue(())
            }
            TableFactor::Table { name, .. } | TableFactor::Function { name, .. } => {
                refused(&format!("the table function or version of `{name}`"))
            }
            TableFactor::Derived { .. } | TableFactor::NestedJoin { .. } | TableFactor::UNNEST { .. } => ControlFlow::Continue(()),
            TableFactor::Pivot { .. } | TableFactor::Unpivot { .. } => ControlFlow::Continue(()),
            TableFactor::TableFunction { .. }
            | TableFactor::JsonTable { .. }
            | TableFactor::OpenJsonTable { .. }
            | TableFactor::MatchRecognize { .. }
            | TableFactor::XmlTable { .. }
            | TableFactor::SemanticView { .. } => refused("this kind of relation"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::tables;

    fn found(text: &str) -> Vec<String> {
        tables(text).expect("is read").into_iter().map(|parts| parts.join(".")).collect()
    }

    #[test]
    fn every_table_is_found_once() {
        assert_eq!(found("SELECT a FROM t"), ["t"]);
        assert_eq!(
            found("FROM t JOIN u USING (a) SELECT a WHERE b IN (SELECT b FROM lake.default.\"T 1\")"),
            ["t", "u", "lake.default.T 1"]
        );
        assert_eq!(found("SELECT (SELECT max(b) FROM t) FROM u, t y"), ["t", "u"]);
    }

    #[test]
    fn common_table_expressions_are_no_tables() {
        assert_eq!(found("WITH c AS (SELECT * FROM t) SELECT * FROM C"), ["t"]);
    }

    #[test]
    fn functions_that_read_nothing_may_stand_in_from() {
        assert_eq!(found("SELECT * FROM range(3) r, t, Generate_Series(1, (SELECT max(b) FROM u))"), ["t", "u"]);
    }

    #[test]
    fn what_could_read_files_or_write_is_refused() {
        for bad in [
            "SELECT * FROM range((SELECT 1 FROM read_text('/etc/passwd')))",
            "SELECT * FROM main.range(3)",
            "SELECT * FROM 'x.parquet'",
            "SELECT * FROM read_parquet('x')",
            "SELECT * FROM t, glob('*')",
            "SELECT * FROM (SELECT * FROM read_text('/etc/passwd')) q",
            "SELECT (SELECT content FROM read_text('/etc/passwd'))",
            "COPY t TO 'x'",
            "INSERT INTO t VALUES (1)",
            "ATTACH 'x'",
            "SELECT 1; SELECT 2",
            "",
        ] {
            assert!(tables(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_text_that_does_not_parse_tells_line_and_column() {
        let error = tables("SELECT\n  FROM WHERE").expect_err("isn't SQL");
        assert!(error.to_string().contains("Line: 2"), "{error}");
    }
}

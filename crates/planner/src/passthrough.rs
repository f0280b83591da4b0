//! `dialect=duckdb`: the user's own text for DuckDB. It is parsed only to find its relations: each
//! must be a table of the catalog or a common table expression, and is pointed to its pinned scan.
//! Functions that read files, files as relations, and anything but one query are refused.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Ident, ObjectName, ObjectNamePart, Query, Select, SetExpr, Statement, TableFactor, Visit, Visitor};
use datafusion::sql::sqlparser::dialect::DuckDbDialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Location;
use flightpath_types::{Error, ErrorKind, Result};

/// Deepest nesting that is parsed.
const NESTING_MAX: usize = 200;

/// A relation of the text that names a table.
#[derive(Debug, Clone)]
pub(crate) struct Mention {
    /// One to three parts, as written.
    pub parts: Vec<String>,
    start: Location,
    end: Location,
    has_alias: bool,
}

/// A checked text and the tables it mentions, in their order.
#[derive(Debug)]
pub(crate) struct PassThrough {
    pub mentions: Vec<Mention>,
}

/// Checks a text and finds its tables.
pub(crate) fn read(text: &str) -> Result<PassThrough> {
    crate::parse::with_stack(|| read_here(text))
}

fn read_here(text: &str) -> Result<PassThrough> {
    let parsed = Parser::new(&DuckDbDialect {}).with_recursion_limit(NESTING_MAX).try_with_sql(text).and_then(|mut p| p.parse_statements());
    let mut statements = parsed.map_err(not_parsed)?;
    let (Some(statement), true) = (statements.pop(), statements.is_empty()) else {
        return Err(Error::invalid("dialect=duckdb takes exactly one statement"));
    };
    let Statement::Query(query) = &statement else {
        return Err(Error::not_eligible("with dialect=duckdb only a SELECT is passed on"));
    };
    let mut finder = Finder { common: HashSet::new(), mentions: Vec::new() };
    match query.visit(&mut finder) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => {
            let common = finder.common;
            let is_common = |m: &Mention| matches!(m.parts.as_slice(), [only] if common.contains(&only.to_lowercase()));
            let mentions = finder.mentions.into_iter().filter(|m| !is_common(m)).collect();
            Ok(PassThrough { mentions })
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

impl PassThrough {
    /// The text with each mention replaced by the relation that stands for it: `names` is parallel
    /// to `mentions`.
    pub fn rewrite(&self, text: &str, names: &[String]) -> Result<String> {
        let offsets = line_starts(text);
        let mut out = String::with_capacity(text.len() + 32 * self.mentions.len());
        let mut at = 0;
        let mut order: Vec<(&Mention, &String)> = self.mentions.iter().zip(names).collect();
        order.sort_by_key(|(m, _)| (m.start.line, m.start.column));
        for (mention, name) in order {
            let (start, end) = (offset(text, &offsets, mention.start)?, offset(text, &offsets, mention.end)?);
            if start < at || end < start {
                return Err(Error::internal("two relations of the text stand at one place"));
            }
            out.push_str(&text[at..start]);
            out.push_str(name);
            if !mention.has_alias {
                let own = mention.parts.last().map(String::as_str).unwrap_or_default();
                out.push_str(&format!(" AS {}", flightpath_functions::duckdb::identifier(own)));
            }
            at = end;
        }
        out.push_str(&text[at..]);
        Ok(out)
    }

    /// Mentions by the table they complete to.
    pub fn by_table<K: Ord>(&self, complete: impl Fn(&[String]) -> Result<K>) -> Result<BTreeMap<K, Vec<usize>>> {
        let mut tables: BTreeMap<K, Vec<usize>> = BTreeMap::new();
        for (i, mention) in self.mentions.iter().enumerate() {
            tables.entry(complete(&mention.parts)?).or_default().push(i);
        }
        Ok(tables)
    }
}

/// Byte offset of each line.
fn line_starts(text: &str) -> Vec<usize> {
    std::iter::once(0).chain(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(i, _)| i + 1)).collect()
}

fn offset(text: &str, lines: &[usize], at: Location) -> Result<usize> {
    let line = usize::try_from(at.line).ok().and_then(|l| l.checked_sub(1)).and_then(|l| lines.get(l));
    let start = *line.ok_or_else(|| Error::internal("a relation of the text has no place"))?;
    let column = usize::try_from(at.column).unwrap_or(usize::MAX).saturating_sub(1);
    Ok(text[start..].char_indices().nth(column).map_or(text.len(), |(i, _)| start + i))
}

struct Finder {
    /// Names of common table expressions, in lower case.
    common: HashSet<String>,
    mentions: Vec<Mention>,
}

impl Finder {
    fn relation(&mut self, name: &ObjectName, has_alias: bool) -> ControlFlow<Error> {
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
        let (Some(first), Some(last)) = (idents.first(), idents.last()) else {
            return refused("a relation without a name");
        };
        if idents.len() > 3 {
            return ControlFlow::Break(Error::invalid(format!("`{name}` isn't a table's name; it has at most three parts")));
        }
        let parts = idents.iter().map(|i| i.value.clone()).collect();
        self.mentions.push(Mention { parts, start: first.span.start, end: last.span.end, has_alias });
        ControlFlow::Continue(())
    }
}

fn refused(what: &str) -> ControlFlow<Error> {
    ControlFlow::Break(Error::not_eligible(format!("{what} isn't allowed; dialect=duckdb may read the catalog's tables only")))
}

impl Visitor for Finder {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Error> {
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
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
            TableFactor::Table { name, args: None, version: None, json_path: None, alias, .. } => self.relation(name, alias.is_some()),
            TableFactor::Table { name, .. } | TableFactor::Function { name, .. } => refused(&format!("the table function or version of `{name}`")),
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
    use super::read;

    fn rewritten(text: &str) -> String {
        let read = read(text).expect("is read");
        let names: Vec<String> = (0..read.mentions.len()).map(|i| format!("s{i}")).collect();
        read.rewrite(text, &names).expect("is rewritten")
    }

    #[test]
    fn tables_are_pointed_to_their_scans_and_keep_their_names() {
        assert_eq!(rewritten("SELECT a FROM t"), "SELECT a FROM s0 AS \"t\"");
        assert_eq!(rewritten("SELECT x.a FROM lake.default.\"T 1\" AS x JOIN\n  u USING (a)"), "SELECT x.a FROM s0 AS x JOIN\n  s1 AS \"u\" USING (a)");
        assert_eq!(rewritten("SELECT 'ä' AS ä, (SELECT max(b) FROM t) FROM u, t y"), "SELECT 'ä' AS ä, (SELECT max(b) FROM s0 AS \"t\") FROM s1 AS \"u\", s2 y");
    }

    #[test]
    fn common_table_expressions_are_no_tables() {
        assert_eq!(rewritten("WITH c AS (SELECT * FROM t) SELECT * FROM C"), "WITH c AS (SELECT * FROM s0 AS \"t\") SELECT * FROM C");
    }

    #[test]
    fn what_could_read_files_or_write_is_refused() {
        for bad in [
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
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_text_that_does_not_parse_tells_line_and_column() {
        let error = read("SELECT\n  FROM WHERE").expect_err("isn't SQL");
        assert!(error.to_string().contains("Line: 2"), "{error}");
    }
}

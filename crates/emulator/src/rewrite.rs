//! Puts the rules around the tables of a statement: each reference to a table with a row filter or
//! masks becomes a subquery over its plain contents, each view its definition, each parameter
//! marker a literal. Works on places found in the syntax tree and replaces only those, so that the
//! rest of the text stays the client's own. Never decides what may be read by a plain name: the
//! guarded catalog does, and refuses what isn't replaced here.

use std::collections::HashMap;
use std::ops::{ControlFlow, Range};

use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, ObjectNamePart, Query, Statement, TableFactor, Value,
    ValueWithSpan, Visit, Visitor,
};
use datafusion::sql::sqlparser::tokenizer::Location;
use flightpath_catalog::TableName;
use flightpath_planner::parse;
use flightpath_types::{Error, ErrorKind, Principal, Result};
use futures::future::BoxFuture;

use crate::auth::User;
use crate::config::{Settings, TableRules};
use crate::guarded::{Catalogs, RAW_MARK, no_right};
use crate::literals::{Parameter, name as quoted_name};
use crate::rules::{RuleBook, SELECT};
use crate::types;

/// Views and rules may build on each other this deep.
const DEPTH_MAX: usize = 16;

/// Whose rights a text reads with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rights {
    /// The statement's principal.
    Invoker,
    /// Whoever wrote a rule or view: its tables need no right of the principal's. Row filters and
    /// masks below still see the principal.
    Definer,
}

/// Where names of one or two parts are looked up.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub catalog: String,
    pub schema: String,
}

pub(crate) struct Rewriter<'a> {
    pub catalogs: &'a Catalogs,
    pub rules: &'a RuleBook,
    pub settings: &'a Settings,
    pub user: &'a User,
    pub parameters: &'a [Parameter],
    pub raw_prefix: &'a str,
}

impl Rewriter<'_> {
    /// One query of the client's, as it may be planned.
    pub async fn query(&self, text: &str, place: &Place) -> Result<String> {
        if text.to_lowercase().contains(RAW_MARK) {
            return Err(Error::new(ErrorKind::PermissionDenied, format!("`{RAW_MARK}` isn't a name that a statement may use")));
        }
        self.text(text, place, Rights::Invoker, 0).await
    }

    fn text<'b>(&'b self, text: &'b str, place: &'b Place, rights: Rights, depth: usize) -> BoxFuture<'b, Result<String>> {
        Box::pin(async move {
            if depth > DEPTH_MAX {
                return Err(Error::invalid("views and row filters refer to each other without end"));
            }
            let sites = sites(text)?;
            let mut edits: Vec<(Range<usize>, String)> = Vec::new();
            let mut positional = self.parameters.iter().filter(|p| p.name.as_deref().unwrap_or_default().is_empty());
            for site in sites {
                let replacement = match &site.kind {
                    Kind::Table(table) => self.table(table, &text[site.range.clone()], place, rights, depth).await?,
                    Kind::Group(group) => Some(if self.user.groups.contains(group) { "TRUE".into() } else { "FALSE".into() }),
                    Kind::Marker(marker) => Some(self.marker(marker, &mut positional)?),
                };
                edits.extend(replacement.map(|r| (site.range, r)));
            }
            Ok(spliced(text, edits))
        })
    }

    fn marker<'p>(&self, marker: &str, positional: &mut impl Iterator<Item = &'p Parameter>) -> Result<String> {
        let found = match marker.strip_prefix(':') {
            Some(name) => self.parameters.iter().find(|p| p.name.as_deref() == Some(name)),
            None => positional.next(),
        };
        let unbound = || {
            let message = format!("Found the unbound parameter: {}.", marker.trim_start_matches(':'));
            Error::classed(ErrorKind::InvalidArgument, "UNBOUND_SQL_PARAMETER", "42P02", message)
        };
        found.ok_or_else(unbound)?.literal()
    }

    /// What stands in the place of a table's name, if anything does.
    async fn table(&self, table: &TableSite, written: &str, place: &Place, rights: Rights, depth: usize) -> Result<Option<String>> {
        let Some(name) = complete(&table.parts, place) else { return Ok(None) };
        if name.schema.starts_with(self.raw_prefix) {
            return Ok(None);
        }
        let rules = self.rules.of(&name);
        if rights == Rights::Invoker && !rules.allows(self.user, &self.settings.default_privileges, SELECT) {
            return Err(no_right(SELECT, &name));
        }
        if rules.governed() && table.versioned {
            let message = format!("Time travel on {name} isn't supported: it is a view or has a row filter or column masks.");
            return Err(Error::classed(ErrorKind::InvalidArgument, "UNSUPPORTED_FEATURE.TIME_TRAVEL", "0A000", message));
        }
        let own = Place { catalog: name.catalog.to_string(), schema: name.schema.to_string() };
        let alias = if table.aliased { String::new() } else { format!(" AS {}", quoted_name(&name.table)) };
        if let Some(view) = &rules.view_definition {
            let view = self.text(view, &own, Rights::Definer, depth + 1).await?;
            return Ok(Some(format!("({view}\n){alias}")));
        }
        if rules.governed() {
            let select = self.governed(&name, &rules).await?;
            let select = self.text(&select, &own, Rights::Definer, depth + 1).await?;
            return Ok(Some(format!("({select}){alias}")));
        }
        match rights {
            Rights::Invoker => Ok(None),
            Rights::Definer if table.versioned => Err(Error::not_eligible(format!("time travel in a view (`{written}`)"))),
            Rights::Definer => Ok(Some(format!("{}{alias}", self.raw(&name)))),
        }
    }

    fn raw(&self, name: &TableName) -> String {
        let schema = format!("{}{}", self.raw_prefix, name.schema);
        format!("{}.{}.{}", quoted_name(&name.catalog), quoted_name(&schema), quoted_name(&name.table))
    }

    /// The table's columns in their order, masked, and the rows that its filter leaves.
    async fn governed(&self, name: &TableName, rules: &TableRules) -> Result<String> {
        let snapshot = self.catalogs.newest(&Principal::new(&self.user.name), name).await?;
        let mut columns = Vec::with_capacity(snapshot.schema.fields().len());
        let mut unused: Vec<&String> = rules.masks.keys().collect();
        for field in snapshot.schema.fields() {
            let column = quoted_name(field.name());
            let Some((masked, mask)) = rules.masks.iter().find(|(masked, _)| masked.eq_ignore_ascii_case(field.name())) else {
                columns.push(column);
                continue;
            };
            unused.retain(|m| *m != masked);
            // A mask answers in the column's type, whatever its expression gives.
            let value = match field.data_type().is_nested() {
                true => format!("({mask}\n)"),
                false => format!("CAST(({mask}\n) AS {})", types::sql_text(field.data_type())),
            };
            columns.push(format!("{value} AS {column}"));
        }
        if let Some(unknown) = unused.first() {
            return Err(Error::invalid(format!("table {name} has a mask on `{unknown}`, which isn't a column of it")));
        }
        let filter = rules.row_filter.as_ref().map(|f| format!(" WHERE ({f}\n)")).unwrap_or_default();
        Ok(format!("SELECT {} FROM {} AS {}{filter}", columns.join(", "), self.raw(name), quoted_name(&name.table)))
    }
}

/// A full name of one to three parts; names of other lengths are the planner's to refuse.
pub(crate) fn complete(parts: &[String], place: &Place) -> Option<TableName> {
    match parts {
        [table] => Some(TableName::new(&place.catalog, &place.schema, table)),
        [schema, table] => Some(TableName::new(&place.catalog, schema, table)),
        [catalog, schema, table] => Some(TableName::new(catalog, schema, table)),
        _ => None,
    }
}

/// A place in a text that may have to be replaced.
struct Site {
    range: Range<usize>,
    kind: Kind,
}

enum Kind {
    Table(TableSite),
    /// `is_account_group_member('group')`.
    Group(String),
    /// `:name` or `?`.
    Marker(String),
}

struct TableSite {
    parts: Vec<String>,
    aliased: bool,
    versioned: bool,
}

fn sites(text: &str) -> Result<Vec<Site>> {
    let parsed = parse::parse(text)?;
    let offsets = Offsets::new(text);
    let mut finder = Finder { text, offsets: &offsets, frames: Vec::new(), sites: Vec::new() };
    let Statement::Query(query) = parsed.statement() else {
        return Err(Error::not_eligible("only queries can be read from"));
    };
    parse::with_stack(|| {
        let _: ControlFlow<()> = query.visit(&mut finder);
    });
    let mut sites = finder.sites;
    sites.sort_by_key(|site| site.range.start);
    Ok(sites)
}

fn spliced(text: &str, mut edits: Vec<(Range<usize>, String)>) -> String {
    edits.sort_by_key(|(range, _)| range.start);
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for (range, replacement) in edits {
        // A place within one that was replaced already has gone with it.
        if range.start >= at {
            out.push_str(&text[at..range.start]);
            out.push_str(&replacement);
            at = range.end;
        }
    }
    out.push_str(&text[at..]);
    out
}

struct Finder<'a> {
    text: &'a str,
    offsets: &'a Offsets,
    /// Per enclosing query: its common table expressions and from where on each is visible.
    frames: Vec<Vec<(String, Location)>>,
    sites: Vec<Site>,
}

impl Finder<'_> {
    fn is_cte(&self, ident: &Ident) -> bool {
        let visible = |(name, from): &(String, Location)| name.eq_ignore_ascii_case(&ident.value) && ident.span.start >= *from;
        self.frames.iter().any(|frame| frame.iter().any(visible))
    }

    fn table(&mut self, name: &ObjectName, aliased: bool, versioned: bool) {
        let Some(idents) = idents(name) else { return };
        let (Some(first), Some(last)) = (idents.first(), idents.last()) else { return };
        if let ([only], false) = (idents.as_slice(), versioned)
            && self.is_cte(only)
        {
            return;
        }
        let range = self.offsets.at(first.span.start)..self.offsets.at(last.span.end);
        let parts = idents.iter().map(|i| i.value.clone()).collect();
        self.sites.push(Site { range, kind: Kind::Table(TableSite { parts, aliased, versioned }) });
    }

    fn group_call(&mut self, expr: &Expr) {
        let Expr::Function(function) = expr else { return };
        let Some(idents) = idents(&function.name) else { return };
        let [name] = idents.as_slice() else { return };
        if !["is_account_group_member", "is_member"].iter().any(|known| name.value.eq_ignore_ascii_case(known)) {
            return;
        }
        let FunctionArguments::List(list) = &function.args else { return };
        let [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(group), span })))] =
            list.args.as_slice()
        else {
            return;
        };
        let after = self.offsets.at(span.end);
        if let Some(close) = self.text[after..].find(')') {
            let range = self.offsets.at(name.span.start)..after + close + 1;
            self.sites.push(Site { range, kind: Kind::Group(group.clone()) });
        }
    }
}

impl Visitor for Finder<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let with = query.with.iter();
        let ctes = with.flat_map(|w| w.cte_tables.iter().map(move |cte| (w.recursive, cte)));
        let visible = ctes.map(|(recursive, cte)| {
            let from = if recursive { cte.alias.name.span.start } else { cte.closing_paren_token.0.span.start };
            (cte.alias.name.value.clone(), from)
        });
        self.frames.push(visible.collect());
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.frames.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, alias, args: None, version, .. } = factor {
            self.table(name, alias.is_some(), version.is_some());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        self.group_call(expr);
        ControlFlow::Continue(())
    }

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<()> {
        if let Value::Placeholder(marker) = &value.value {
            let range = self.offsets.at(value.span.start)..self.offsets.at(value.span.end);
            self.sites.push(Site { range, kind: Kind::Marker(marker.clone()) });
        }
        ControlFlow::Continue(())
    }
}

fn idents(name: &ObjectName) -> Option<Vec<&Ident>> {
    name.0
        .iter()
        .map(|part| match part {
            ObjectNamePart::Identifier(ident) => Some(ident),
            ObjectNamePart::Function(_) => None,
        })
        .collect()
}

/// Byte offsets of the parser's places, which count characters.
pub(crate) struct Offsets {
    /// By line and column, of every character.
    known: HashMap<(u64, u64), usize>,
    end: usize,
}

impl Offsets {
    pub fn new(text: &str) -> Self {
        let (mut line, mut column) = (1, 1);
        let mut known = HashMap::with_capacity(text.len());
        for (offset, c) in text.char_indices() {
            known.insert((line, column), offset);
            (line, column) = if c == '\n' { (line + 1, 1) } else { (line, column + 1) };
        }
        Self { known, end: text.len() }
    }

    pub fn at(&self, place: Location) -> usize {
        self.known.get(&(place.line, place.column)).copied().unwrap_or(self.end)
    }
}

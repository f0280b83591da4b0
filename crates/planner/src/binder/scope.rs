//! What names mean at one place of a query: columns of the relations in FROM, the enclosing
//! queries' columns, lambda variables. Lookup by name is through a map.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::Column;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::sql::sqlparser::ast::Ident;
use flightpath_functions::Typed;
use flightpath_types::Result;

use super::error;

/// A relation's name as columns may be qualified by it: `table`, `schema.table`, `catalog.schema.table`.
pub(super) type Qualifier = Arc<[String]>;

/// The hidden column that counts the steps of a recursive query. No name that is written means it.
pub(super) const LEVEL: &str = "#level";

/// A column that a name may mean.
#[derive(Debug, Clone)]
pub(super) struct Col {
    /// As the client sees it.
    pub name: Arc<str>,
    pub qualifier: Option<Qualifier>,
    /// As the plan names it.
    pub column: Column,
    pub ty: DataType,
    pub nullable: bool,
    /// Found only when qualified, and not part of `*`: the sides' own columns in a USING join.
    pub hidden: bool,
}

impl Col {
    pub fn typed(&self) -> Typed {
        Typed::new(Expr::Column(self.column.clone()), self.ty.clone(), self.nullable)
    }

    pub fn display(&self) -> String {
        let mut parts: Vec<String> = self.qualifier.iter().flat_map(|q| q.iter()).map(|p| format!("`{p}`")).collect();
        parts.push(format!("`{}`", self.name));
        parts.join(".")
    }
}

/// A plan and what its columns are called.
#[derive(Debug, Clone)]
pub(super) struct Relation {
    pub plan: LogicalPlan,
    pub cols: Vec<Col>,
    /// Whether the order of rows was asked for.
    pub ordered: bool,
}

impl Relation {
    pub fn visible(&self) -> impl Iterator<Item = &Col> {
        self.cols.iter().filter(|c| !c.hidden)
    }

    /// The relation under a new name, its columns renamed where names are given.
    pub fn aliased(mut self, name: &str, columns: &[Ident]) -> Result<Self> {
        let level = self.cols.iter().find(|c| &*c.name == LEVEL).cloned();
        self.cols.retain(|c| !c.hidden);
        if !columns.is_empty() && columns.len() != self.cols.len() {
            return Err(error::classed(
                "ASSIGNMENT_ARITY_MISMATCH",
                "42802",
                format!(
                    "Number of column aliases does not match number of columns: {} aliases for {} columns of `{name}`",
                    columns.len(),
                    self.cols.len()
                ),
            ));
        }
        let qualifier: Qualifier = Arc::from(vec![name.to_lowercase()]);
        for (i, col) in self.cols.iter_mut().enumerate() {
            col.qualifier = Some(qualifier.clone());
            if let Some(ident) = columns.get(i) {
                col.name = Arc::from(ident.value.as_str());
            }
        }
        self.cols.extend(level.map(|c| Col { qualifier: Some(qualifier), ..c }));
        Ok(self)
    }
}

/// How a dotted name was resolved: a column, and fields taken from it.
pub(super) struct Found<'a> {
    pub col: &'a Col,
    /// How many parts named relation and column.
    pub used: usize,
}

/// Columns by lower-case name.
#[derive(Debug, Default)]
pub(super) struct Scope<'a> {
    cols: &'a [Col],
    by_name: HashMap<String, Vec<usize>>,
    pub outer: Option<&'a Scope<'a>>,
}

impl<'a> Scope<'a> {
    pub fn new(cols: &'a [Col], outer: Option<&'a Scope<'a>>) -> Self {
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::with_capacity(cols.len());
        for (i, col) in cols.iter().enumerate() {
            by_name.entry(col.name.to_lowercase()).or_default().push(i);
        }
        Self { cols, by_name, outer }
    }

    pub fn cols(&self) -> &'a [Col] {
        self.cols
    }

    /// The column that the longest qualified prefix of `parts` means, in this scope only.
    pub fn find(&self, parts: &[Ident]) -> Result<Option<Found<'a>>> {
        // A qualified reading wins over a column with fields.
        for qualifier_len in (0..parts.len().min(4)).rev() {
            let name = parts[qualifier_len].value.to_lowercase();
            let Some(indices) = self.by_name.get(&name) else { continue };
            let qualifier: Vec<String> = parts[..qualifier_len].iter().map(|p| p.value.to_lowercase()).collect();
            let matching: Vec<&'a Col> = indices
                .iter()
                .map(|i| &self.cols[*i])
                .filter(|col| if qualifier.is_empty() { !col.hidden } else { qualified_by(col, &qualifier) })
                .collect();
            match matching.as_slice() {
                [] => continue,
                [col] => return Ok(Some(Found { col, used: qualifier_len + 1 })),
                several => {
                    let names: Vec<String> = several.iter().map(|c| c.display()).collect();
                    let span = parts.first().map_or(datafusion::sql::sqlparser::tokenizer::Span::empty(), |p| p.span);
                    return Err(error::ambiguous(&dotted(parts), &names, span));
                }
            }
        }
        Ok(None)
    }

    /// Names for "did you mean".
    pub fn candidates(&self) -> Vec<String> {
        self.cols.iter().filter(|c| !c.hidden).take(2000).map(|c| c.name.to_string()).collect()
    }

    /// Columns of the relation called `qualifier`.
    pub fn of_relation(&self, qualifier: &[String]) -> Vec<&'a Col> {
        // The keys of a USING join come first.
        let (mut keys, rest): (Vec<&'a Col>, Vec<&'a Col>) =
            self.cols.iter().filter(|c| qualified_by(c, qualifier) && &*c.name != LEVEL).partition(|c| c.hidden);
        keys.extend(rest);
        keys
    }
}

fn qualified_by(col: &Col, qualifier: &[String]) -> bool {
    col.qualifier.as_ref().is_some_and(|own| own.len() >= qualifier.len() && own[own.len() - qualifier.len()..] == *qualifier)
}

/// `` `a`.`b` ``
pub(super) fn dotted(parts: &[Ident]) -> String {
    parts.iter().map(|p| format!("`{}`", p.value)).collect::<Vec<_>>().join(".")
}

/// A reference from a subquery to the enclosing query's column.
pub(super) fn outer_reference(col: &Col) -> Typed {
    let field = Arc::new(Field::new(col.column.name.clone(), col.ty.clone(), col.nullable));
    Typed::new(Expr::OuterReferenceColumn(field, col.column.clone()), col.ty.clone(), col.nullable)
}

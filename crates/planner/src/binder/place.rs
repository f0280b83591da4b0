//! Where an expression stands: what its names mean there, and what it may hold.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use datafusion::logical_expr::Expr;
use datafusion::sql::sqlparser::ast::Ident;
use flightpath_functions::Typed;

use super::aggregate::Aggregates;
use super::cte::Ctes;
use super::expr::Bound;
use super::scope::Scope;
use super::window::Windows;

/// Select aliases that later expressions may name.
pub(super) type Aliases = RefCell<HashMap<String, Alias>>;

#[derive(Debug, Clone)]
pub(super) enum Alias {
    One(Bound),
    /// Of what a generator makes: a column of the input by the time that others name it.
    Made(Bound),
    /// The name that an item without an alias has: ORDER BY and HAVING may give it, alone.
    Output(Bound),
    /// Given twice: naming it is an error.
    Ambiguous,
}

/// Where an expression stands, and so what it may hold.
pub(super) struct Place<'s> {
    pub scope: &'s Scope<'s>,
    pub ctes: &'s Ctes<'s>,
    /// For messages: `WHERE`, `SELECT`.
    pub clause: &'static str,
    /// Collects aggregate calls where they may stand.
    pub aggregates: Option<&'s Aggregates>,
    /// Collects window calls where they may stand.
    pub windows: Option<&'s Windows<'s>>,
    pub aliases: Option<&'s Aliases>,
    /// Whether the expression drops rows by itself, by itself or under AND, OR and NOT.
    pub drops_rows: bool,
    pub names: Names<'s>,
    /// In an aggregate's arguments within ORDER BY, where a name of the select list means that.
    pub aggregate_sorted_by: bool,
    /// Grouping expressions that a grouping set may leave out: NULL there.
    pub nulled: Option<&'s HashSet<Expr>>,
    /// Lambda variables by lower-case name, innermost last.
    pub variables: Vec<(String, Typed)>,
}

/// What a name means where both the input and the select list have it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Names<'s> {
    /// The select list, WHERE...: the input's column.
    InputThenOutput,
    /// QUALIFY: the same, and what the select list has may be named within windows too.
    InputThenAnyOutput,
    /// ORDER BY: what the select list has.
    Output,
    /// HAVING: what the select list has, but for columns that are grouped by.
    OutputUnless(&'s HashSet<Expr>),
}

impl Names<'_> {
    pub fn is_output(self) -> bool {
        !matches!(self, Names::InputThenOutput)
    }

    pub fn output_first(self, scope: &Scope<'_>, parts: &[Ident]) -> bool {
        match self {
            Names::InputThenOutput | Names::InputThenAnyOutput => false,
            Names::Output => true,
            Names::OutputUnless(grouped) => {
                !matches!(scope.find(parts), Ok(Some(found)) if found.used == parts.len() && grouped.contains(&found.col.typed().expr))
            }
        }
    }
}

impl<'s> Place<'s> {
    pub fn new(scope: &'s Scope<'s>, ctes: &'s Ctes<'s>, clause: &'static str) -> Self {
        Self {
            scope,
            ctes,
            clause,
            aggregates: None,
            windows: None,
            aliases: None,
            drops_rows: false,
            names: Names::InputThenOutput,
            aggregate_sorted_by: false,
            nulled: None,
            variables: Vec::new(),
        }
    }

    /// The same place for an aggregate's arguments: no aggregates, no windows, the input first.
    pub fn inside_aggregate(&self) -> Place<'s> {
        Place {
            aggregates: None,
            windows: None,
            names: Names::InputThenOutput,
            aggregate_sorted_by: self.clause == "ORDER BY",
            nulled: None,
            clause: "an aggregate function",
            variables: self.variables.clone(),
            ..*self
        }
    }

    /// Whether the select list has something else by the name of this input column.
    pub fn hides_input(&self, parts: &[Ident]) -> bool {
        let ([name], Some(aliases)) = (parts, self.aliases) else { return false };
        let Ok(Some(found)) = self.scope.find(parts) else { return false };
        match aliases.borrow().get(&name.value.to_lowercase()) {
            Some(Alias::One(bound) | Alias::Made(bound)) => bound.t.expr != found.col.typed().expr,
            Some(Alias::Output(_) | Alias::Ambiguous) | None => false,
        }
    }

    /// The same place for a window call's arguments and keys.
    pub fn inside_window(&self) -> Place<'s> {
        Place { windows: None, clause: "a window function", variables: self.variables.clone(), ..*self }
    }
}

//! Expressions over an aggregation's input, rebased on its groups. Never lets one through that needs
//! more of the input than the groups have.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::{Exists, InSubquery, Placeholder};
use datafusion::logical_expr::{Expr, Subquery};
use flightpath_types::Result;

use super::error::{self, built};

/// Expressions over an aggregation's input, made expressions over its output.
pub(super) struct Rewriter {
    pub groups: HashMap<Expr, Column>,
    /// Keys with open parameters, of which any two may turn out equal: `SELECT n + ? ... GROUP BY n + ?`.
    /// Only types are asked of such a plan; the statement is bound again once values are known.
    open: HashMap<Expr, Column>,
    /// Columns that come out of the aggregation, or of the windows above it.
    kept: HashSet<Column>,
}

impl Rewriter {
    pub fn new(groups: HashMap<Expr, Column>, kept: HashSet<Column>) -> Self {
        let open = groups.iter().filter_map(|(key, column)| Some((any_parameters(key)?, column.clone()))).collect();
        Self { groups, open, kept }
    }

    fn group(&self, e: &Expr) -> Option<&Column> {
        self.groups.get(e).or_else(|| if self.open.is_empty() { None } else { self.open.get(&any_parameters(e)?) })
    }

    pub fn rewrite(&self, expr: Expr) -> Result<Expr> {
        let mut missing = None;
        let rewritten = expr.transform_down(|e| {
            if let Some(column) = self.group(&e) {
                return Ok(Transformed::new(Expr::Column(column.clone()), true, TreeNodeRecursion::Jump));
            }
            match e {
                Expr::Column(c) if c.relation.is_none() && (self.kept.contains(&c) || self.is_window(&c)) => {
                    Ok(Transformed::no(Expr::Column(c)))
                }
                Expr::Column(c) => {
                    missing = Some(c.name.clone());
                    Err(DataFusionError::Plan("missing aggregation".into()))
                }
                Expr::ScalarSubquery(s) => Ok(Transformed::yes(Expr::ScalarSubquery(self.subquery(s, &mut missing)?))),
                Expr::Exists(Exists { subquery, negated }) => {
                    let subquery = self.subquery(subquery, &mut missing)?;
                    Ok(Transformed::yes(Expr::Exists(Exists { subquery, negated })))
                }
                Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
                    let subquery = self.subquery(subquery, &mut missing)?;
                    Ok(Transformed::yes(Expr::InSubquery(InSubquery { expr, subquery, negated })))
                }
                other => Ok(Transformed::no(other)),
            }
        });
        match (rewritten, missing) {
            (Ok(t), _) => Ok(t.data),
            (Err(_), Some(name)) => Err(error::missing_aggregation(&format!("\"{name}\""))),
            (Err(e), None) => built(Err(e)),
        }
    }

    /// Window columns aren't of the input: they are made above the aggregation.
    fn is_window(&self, column: &Column) -> bool {
        column.name.starts_with(super::window::PREFIX)
    }

    /// A subquery's references to this query's input become references to its groups.
    fn subquery(&self, s: Subquery, missing: &mut Option<String>) -> datafusion::error::Result<Subquery> {
        let plan = Arc::unwrap_or_clone(s.subquery).transform_down(|node| {
            node.map_expressions(|e| {
                e.transform_down(|e| match e {
                    Expr::OuterReferenceColumn(field, column) => match self.groups.get(&Expr::Column(column.clone())) {
                        Some(group) => Ok(Transformed::yes(Expr::OuterReferenceColumn(field, group.clone()))),
                        None if self.kept.contains(&column) => Ok(Transformed::no(Expr::OuterReferenceColumn(field, column))),
                        None => {
                            *missing = Some(column.name.clone());
                            Err(DataFusionError::Plan("missing aggregation".into()))
                        }
                    },
                    other => Ok(Transformed::no(other)),
                })
            })
        })?;
        let plan = plan.data;
        let outer_ref_columns = plan.all_out_ref_exprs();
        Ok(Subquery { subquery: Arc::new(plan), outer_ref_columns, spans: s.spans })
    }
}

/// Whether two expressions are one, or may be once open parameters have values.
pub(super) fn alike(a: &Expr, b: &Expr) -> bool {
    a == b || any_parameters(a).is_some_and(|a| any_parameters(b) == Some(a))
}

/// The expression with its open parameters made one; `None` without any.
fn any_parameters(expr: &Expr) -> Option<Expr> {
    let made = expr.clone().transform_up(|e| match e {
        Expr::Placeholder(Placeholder { id: _, field }) => Ok(Transformed::yes(Expr::Placeholder(Placeholder { id: "$0".into(), field }))),
        other => Ok(Transformed::no(other)),
    });
    made.ok().and_then(|made| made.transformed.then_some(made.data))
}

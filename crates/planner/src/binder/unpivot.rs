//! UNPIVOT: columns become rows.

use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::{Expr, Operator};
use datafusion::sql::sqlparser::ast::{self, Ident};
use flightpath_functions::{Typed, types};
use flightpath_types::{Error, Result};

use super::cte::Ctes;
use super::error;
use super::expr::balanced;
use super::generator::column_of;
use super::place::Place;
use super::query::State;
use super::scope::{Col, Relation, Scope};
use super::select::filter;

impl State<'_> {
    /// UNPIVOT: each row once for each listed group of columns, which become values.
    #[allow(clippy::too_many_arguments)]
    pub fn unpivot(
        &mut self,
        input: Relation,
        value: &ast::Expr,
        name: &Ident,
        columns: &[ast::ExprWithAlias],
        include_nulls: bool,
        ctes: &Ctes<'_>,
        outer: Option<&Scope<'_>>,
    ) -> Result<Relation> {
        // Parentheses around the values' names ask for parentheses around each group of columns.
        let grouped = !matches!(value, ast::Expr::Identifier(_));
        let value_names: Vec<String> = match value {
            ast::Expr::Identifier(ident) => vec![ident.value.clone()],
            ast::Expr::Nested(inner) => match inner.as_ref() {
                ast::Expr::Identifier(ident) => vec![ident.value.clone()],
                other => return Err(Error::invalid(format!("UNPIVOT's values need names, not {other}"))),
            },
            ast::Expr::Tuple(values) => values
                .iter()
                .map(|v| match v {
                    ast::Expr::Identifier(ident) => Ok(ident.value.clone()),
                    other => Err(Error::invalid(format!("UNPIVOT's values need names, not {other}"))),
                })
                .collect::<Result<_>>()?,
            other => return Err(Error::invalid(format!("UNPIVOT's values need names, not {other}"))),
        };
        let width = value_names.len();
        let mut labels = Vec::with_capacity(columns.len());
        let mut values: Vec<Vec<Typed>> = vec![Vec::new(); width];
        let mut used: Vec<Column> = Vec::new();
        {
            let scope = Scope::new(&input.cols, outer);
            let place = Place::new(&scope, ctes, "UNPIVOT");
            for column in columns {
                if grouped != matches!(column.expr, ast::Expr::Tuple(_) | ast::Expr::Nested(_)) {
                    return Err(error::classed(
                        "PARSE_SYNTAX_ERROR",
                        "42601",
                        format!(
                            "UNPIVOT's values and columns are written both in parentheses or both without; `{value}` and `{}` aren't.",
                            column.expr
                        ),
                    ));
                }
                let members: Vec<&ast::Expr> = match &column.expr {
                    ast::Expr::Tuple(members) => members.iter().collect(),
                    ast::Expr::Nested(inner) => vec![inner.as_ref()],
                    e => vec![e],
                };
                if members.len() != width {
                    return Err(error::classed(
                        "UNPIVOT_VALUE_SIZE_MISMATCH",
                        "428C4",
                        format!(
                            "All unpivot value columns must have the same size as there are value column names ({}).",
                            value_names.join(", ")
                        ),
                    ));
                }
                let mut names = Vec::with_capacity(width);
                for (member, list) in members.into_iter().zip(&mut values) {
                    let bound = self.expr(&place, member)?;
                    let Expr::Column(c) = &bound.t.expr else {
                        return Err(error::classed(
                            "UNPIVOT_REQUIRES_ATTRIBUTES",
                            "42K0A",
                            format!("UNPIVOT requires columns, but {member} isn't one."),
                        ));
                    };
                    used.push(c.clone());
                    names.push(bound.name.clone());
                    list.push(bound.t);
                }
                let label = column.alias.as_ref().map_or_else(|| names.join("_"), |a| a.value.clone());
                labels.push(Typed::literal(ScalarValue::Utf8(Some(label))));
            }
        }
        let rows = labels.len();
        let nullable: Vec<bool> = values.iter().map(|v| v.iter().any(|t| t.nullable)).collect();
        let mut all = vec![labels];
        for list in values {
            // As in an inline table, texts become nothing else.
            let Some(ty) = types::inline_table_type(list.iter().map(|t| &t.ty)) else {
                return Err(error::classed(
                    "UNPIVOT_VALUE_DATA_TYPE_MISMATCH",
                    "42K09",
                    "Unpivot value columns must share a least common type, some types do not.",
                ));
            };
            all.push(list.into_iter().map(|t| self.coerce(t, &ty)).collect::<Result<_>>()?);
        }
        let names: Vec<String> = (0..=width).map(|i| format!("v{i}")).collect();
        let (plan, mut made) = self.unnest_rows(input.plan, &names, all, rows)?;
        made.iter_mut().zip(std::iter::once(name.value.clone()).chain(value_names)).for_each(|(m, n)| m.name = n);
        made.iter_mut().zip(std::iter::once(false).chain(nullable)).for_each(|(m, n)| m.t.nullable = n);
        let (mut plan, made) = self.materialize(plan, made)?;
        if !include_nulls {
            let tests = made[1..].iter().map(|m| Expr::IsNotNull(Box::new(m.t.expr.clone()))).collect();
            plan = filter(plan, balanced(tests, Operator::Or))?;
        }
        let mut cols: Vec<Col> = input.cols.into_iter().filter(|c| !c.hidden && !used.contains(&c.column)).collect();
        for m in made {
            cols.push(column_of(m.t, &m.name, None, false)?);
        }
        Ok(Relation { plan, cols, ordered: false })
    }
}

//! PIVOT, written as the SELECT it stands for.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{self, Expr, Ident, SelectItem};
use flightpath_functions::{FunctionDef, Typed, cast, fold, lookup, types};
use flightpath_types::{Error, Result};

use super::aggregate::Aggregates;
use super::call::function_name;
use super::cte::Ctes;
use super::error;
use super::place::Place;
use super::query::State;
use super::scope::{Qualifier, Relation, Scope};
use crate::parse::steps::pivoted;

/// Qualifies columns that only the binder itself names.
const OWN: &str = "\u{1}pivot";

impl State<'_> {
    /// One row for each group of the columns that are neither pivoted nor aggregated; one column for
    /// each value and aggregate, NULL where the group has no such value.
    pub fn pivot(
        &mut self,
        input: Relation,
        aggregates: &[ast::ExprWithAlias],
        columns: &[Expr],
        source: &ast::PivotValueSource,
        ctes: &Ctes<'_>,
        outer: Option<&Scope<'_>>,
    ) -> Result<Relation> {
        let ast::PivotValueSource::List(values) = source else {
            return Err(Error::not_eligible("PIVOT needs a list of values"));
        };
        let mut used = Vec::new();
        {
            let scope = Scope::new(&input.cols, outer);
            for e in columns.iter().chain(aggregates.iter().map(|a| &a.expr)) {
                collect_columns(pivoted(e), &scope, &mut used);
            }
        }
        let qualifier: Qualifier = Arc::from(vec![OWN.to_string()]);
        let mut cols = input.cols;
        let groups: Vec<usize> = (0..cols.len()).filter(|i| !cols[*i].hidden && !used.contains(&cols[*i].column)).collect();
        let mut projection = Vec::with_capacity(groups.len() + values.len() * aggregates.len());
        let mut keys = Vec::with_capacity(groups.len());
        for (n, i) in groups.iter().enumerate() {
            let mut own = cols[*i].clone();
            let shown = own.name.clone();
            own.name = Arc::from(n.to_string());
            own.qualifier = Some(qualifier.clone());
            own.hidden = true;
            cols.push(own);
            let e = Expr::CompoundIdentifier(vec![Ident::new(OWN), Ident::new(n.to_string())]);
            keys.push(e.clone());
            projection.push(SelectItem::ExprWithAlias { expr: e, alias: Ident::new(shown.to_string()) });
        }
        let scope = Scope::new(&cols, outer);
        // Numbers are NULL for a group without the value; with anything else among them, each is what the
        // expression gives of no rows.
        let mut numbers = true;
        let mut names = Vec::with_capacity(aggregates.len());
        for aggregate in aggregates {
            let probe = Aggregates::default();
            let place = Place { aggregates: Some(&probe), ..Place::new(&scope, ctes, "PIVOT") };
            let bound = self.expr(&place, pivoted(&aggregate.expr))?;
            numbers &= types::is_numeric(&bound.t.ty) || bound.t.ty == DataType::Boolean;
            names.push(aggregate.alias.as_ref().map_or(bound.name, |alias| alias.value.clone()));
        }
        for value in values {
            let (test, shown) = self.pivot_test(columns, value, &scope, ctes)?;
            for (aggregate, name) in aggregates.iter().zip(&names) {
                let mut e = pivoted(&aggregate.expr).clone();
                let filtered = filter_aggregates(&mut e, &test);
                if !filtered {
                    return Err(Error::not_eligible(format!("PIVOT over `{e}` isn't supported: it holds no aggregate call")));
                }
                let name = if aggregates.len() == 1 { shown.clone() } else { format!("{shown}_{name}") };
                let expr = if numbers { only_where_any(e, test.clone()) } else { e };
                projection.push(SelectItem::ExprWithAlias { expr, alias: Ident::new(name) });
            }
        }
        let select = plain_select(projection.clone(), keys);
        self.select_over(&select, &projection, None, input.plan, &scope, ctes)
    }

    /// A value as its text: what CAST(value AS STRING) gives.
    fn pivot_name(&self, value: &super::expr::Bound) -> String {
        match value.t.as_literal() {
            Some(literal) if literal.is_null() => "null".into(),
            Some(literal) => match cast::cast_literal(literal, &DataType::Utf8, &self.ctx.time_zone) {
                Some(ScalarValue::Utf8(Some(text))) => text,
                _ => value.name.clone(),
            },
            None => value.name.clone(),
        }
    }

    /// The condition that a row has the value, and the value's name.
    fn pivot_test(&mut self, columns: &[Expr], value: &ast::ExprWithAlias, scope: &Scope<'_>, ctes: &Ctes<'_>) -> Result<(Expr, String)> {
        let members: Vec<&Expr> = match &value.expr {
            Expr::Tuple(members) => members.iter().collect(),
            Expr::Nested(inner) => vec![inner.as_ref()],
            e => vec![e],
        };
        if members.len() != columns.len() {
            return Err(error::classed(
                "PIVOT_VALUE_DATA_TYPE_MISMATCH",
                "42K09",
                format!("PIVOT over {} columns needs values of as many, not {}.", columns.len(), value.expr),
            ));
        }
        let mut names = Vec::with_capacity(members.len());
        let mut tests = Vec::with_capacity(members.len());
        let place = Place::new(scope, ctes, "PIVOT");
        for (column, member) in columns.iter().zip(members) {
            let mut bound = self.expr(&place, member)?;
            if bound.t.as_literal().is_none()
                && let Ok(value) = fold::constant(&bound.t.expr)
            {
                bound.t = Typed { nullable: value.is_null(), ..Typed::literal(value) };
            }
            if bound.t.as_literal().is_none() {
                return Err(error::classed(
                    "NON_LITERAL_PIVOT_VALUES",
                    "42K08",
                    format!("Literal expressions required for pivot values, found {member}."),
                ));
            }
            names.push(self.pivot_name(&bound));
            let of = self.expr(&place, column)?.t.ty;
            tests.push(Expr::IsNotDistinctFrom(Box::new(column.clone()), Box::new(as_column(member, &bound.t.ty, &of))));
        }
        let test = tests.into_iter().reduce(|a, b| binary(a, ast::BinaryOperator::And, b));
        let Some(test) = test else { return Err(Error::invalid("PIVOT needs a column")) };
        let shown = match &value.alias {
            Some(alias) => alias.value.clone(),
            None if names.len() == 1 => names.remove(0),
            None => format!("{{{}}}", names.join(", ")),
        };
        Ok((test, shown))
    }
}

/// A value as one of the column's type, which it becomes before it is looked for: beside texts a number is a
/// text, and beside whole numbers it is a whole one. Types without a name here stay as they are.
fn as_column(member: &Expr, ty: &DataType, column: &DataType) -> Expr {
    use ast::ExactNumberInfo::{None as Plain, PrecisionAndScale};
    if types::same(ty, column) || *ty == DataType::Null {
        return member.clone();
    }
    let to = match column {
        DataType::Int8 => ast::DataType::TinyInt(None),
        DataType::Int16 => ast::DataType::SmallInt(None),
        DataType::Int32 => ast::DataType::Int(None),
        DataType::Int64 => ast::DataType::BigInt(None),
        DataType::Float32 => ast::DataType::Float(Plain),
        DataType::Float64 => ast::DataType::Double(Plain),
        DataType::Decimal128(p, s) => ast::DataType::Decimal(PrecisionAndScale(u64::from(*p), i64::from(*s))),
        DataType::Boolean => ast::DataType::Boolean,
        DataType::Date32 => ast::DataType::Date,
        DataType::Utf8 => ast::DataType::String(None),
        _ => return member.clone(),
    };
    Expr::Cast { kind: ast::CastKind::Cast, expr: Box::new(member.clone()), data_type: to, array: false, format: None }
}

/// Lets each aggregate call see only the rows for which `test` holds; says whether there is one.
fn filter_aggregates(e: &mut Expr, test: &Expr) -> bool {
    let mut found = false;
    let _ = ast::visit_expressions_mut(e, |e: &mut Expr| {
        if let Expr::Function(call) = e
            && call.over.is_none()
            && function_name(call).is_ok_and(|(name, _)| matches!(lookup(&name), Some(FunctionDef::Aggregate(_))))
        {
            call.filter = Some(Box::new(match call.filter.take() {
                None => test.clone(),
                Some(own) => binary(*own, ast::BinaryOperator::And, test.clone()),
            }));
            found = true;
        }
        std::ops::ControlFlow::<()>::Continue(())
    });
    found
}

/// Columns of the scope that an expression names.
fn collect_columns(e: &Expr, scope: &Scope<'_>, used: &mut Vec<datafusion::common::Column>) {
    let _ = ast::visit_expressions(e, |e: &Expr| {
        let parts: Option<&[Ident]> = match e {
            Expr::Identifier(ident) => Some(std::slice::from_ref(ident)),
            Expr::CompoundIdentifier(parts) => Some(parts),
            _ => None,
        };
        if let Some(parts) = parts
            && let Ok(Some(found)) = scope.find(parts)
        {
            used.push(found.col.column.clone());
        }
        std::ops::ControlFlow::<()>::Continue(())
    });
}

/// `CASE WHEN count_if(test) > 0 THEN call END`: a group without the value has NULL, even for counts.
fn only_where_any(call: Expr, test: Expr) -> Expr {
    let one = || Expr::Value(ast::Value::Number("1".into(), false).with_empty_span());
    let zero = Expr::Value(ast::Value::Number("0".into(), false).with_empty_span());
    let count = Expr::Function(ast::Function {
        name: ast::ObjectName::from(vec![Ident::new("count")]),
        uses_odbc_syntax: false,
        parameters: ast::FunctionArguments::None,
        args: ast::FunctionArguments::List(ast::FunctionArgumentList {
            duplicate_treatment: None,
            args: vec![ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(one()))],
            clauses: Vec::new(),
        }),
        filter: Some(Box::new(test)),
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    });
    Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: vec![ast::CaseWhen { condition: binary(count, ast::BinaryOperator::Gt, zero), result: call }],
        else_result: None,
    }
}

fn binary(left: Expr, op: ast::BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

pub(super) fn plain_select(projection: Vec<SelectItem>, group_by: Vec<Expr>) -> ast::Select {
    ast::Select {
        select_token: AttachedToken::empty(),
        optimizer_hints: Vec::new(),
        distinct: None,
        select_modifiers: None,
        top: None,
        top_before_distinct: false,
        projection,
        exclude: None,
        into: None,
        from: Vec::new(),
        lateral_views: Vec::new(),
        prewhere: None,
        selection: None,
        connect_by: Vec::new(),
        group_by: ast::GroupByExpr::Expressions(group_by, Vec::new()),
        cluster_by: Vec::new(),
        distribute_by: Vec::new(),
        sort_by: Vec::new(),
        having: None,
        named_window: Vec::new(),
        qualify: None,
        window_before_qualify: false,
        value_table_mode: None,
        flavor: ast::SelectFlavor::Standard,
    }
}

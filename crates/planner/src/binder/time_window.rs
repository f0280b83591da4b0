//! Grouping by windows of time: `window(time, length [, slide [, start]])`. The windows that a row
//! lies in become a column beside it, named `window`, before anything else is bound; the calls
//! become references to that column. A row lies in one tumbling window, or in several sliding ones.

use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::{Expr, LogicalPlan, Projection};
use datafusion::sql::sqlparser::ast::{self, Ident};
use flightpath_functions::Typed;
use flightpath_functions::types;
use flightpath_types::{Error, Result};

use super::call::function_name;
use super::cte::Ctes;
use super::error::{self, built};
use super::place::Place;
use super::query::State;
use super::scope::{Col, Relation, Scope};
use super::select::filter;

const WINDOW: &str = "window";
/// More sliding windows per row would multiply the rows beyond use.
const WINDOWS_MAX: i64 = 1_000;

impl State<'_> {
    /// The SELECT and its ORDER BY with their window calls replaced, when there are some.
    pub fn time_windows(
        &mut self,
        input: &mut Relation,
        select: &ast::Select,
        order_by: Option<&ast::OrderBy>,
        ctes: &Ctes<'_>,
        outer: Option<&Scope<'_>>,
    ) -> Result<Option<(ast::Select, Option<ast::OrderBy>)>> {
        let Some(call) = the_call(select, order_by)? else { return Ok(None) };
        let spans = spans(&call)?;
        let time = {
            let scope = Scope::new(&input.cols, outer);
            let place = Place::new(&scope, ctes, "window()");
            let args = self.arguments(&place, &call)?.args;
            args.into_iter().next().map(|a| a.t).ok_or_else(|| wrong_arguments(0))?
        };
        let time = match &time.ty {
            ty if types::is_timestamp_ntz(ty) || types::is_timestamp(ty) => time,
            _ => self.coerce(time, &types::timestamp())?,
        };
        let plan = std::mem::take(&mut input.plan);
        let there = Expr::IsNotNull(Box::new(time.expr.clone()));
        let plan = filter(plan, there)?;
        let long = |n: i64| Typed::literal(ScalarValue::Int64(Some(n)));
        let numbers = [long(spans.length), long(spans.slide), long(spans.start)];
        let args = std::iter::once(time).chain(numbers).collect();
        let (plan, window) = if spans.length == spans.slide {
            let window = self.function("window of time", args)?;
            let name = self.column();
            let mut exprs: Vec<Expr> = plan.schema().columns().into_iter().map(Expr::Column).collect();
            exprs.push(window.expr.alias(name.clone()));
            let plan = LogicalPlan::Projection(built(Projection::try_new(exprs, Arc::new(plan)))?);
            (plan, Typed::new(Expr::Column(Column::new_unqualified(name)), window.ty, true))
        } else {
            let windows = self.function("windows of time", args)?;
            let (plan, elements) = self.unnest(plan, vec![windows], false)?;
            let element = elements.into_iter().next().ok_or_else(|| Error::internal("windows of time made nothing"))?;
            (plan, element)
        };
        input.plan = plan;
        let Expr::Column(column) = window.expr else { return Err(Error::internal("a window of time isn't a column")) };
        input.cols.push(Col { name: Arc::from(WINDOW), qualifier: None, column, ty: window.ty, nullable: true, hidden: false });
        Ok(Some((without_calls(select), order_by.map(without_calls))))
    }
}

/// Whether an expression is a call of `window` that isn't one of a window function's clauses.
fn is_window(e: &ast::Expr) -> Option<&ast::Function> {
    match e {
        ast::Expr::Function(f) if f.over.is_none() && function_name(f).is_ok_and(|(name, _)| name == WINDOW) => Some(f),
        _ => None,
    }
}

/// The one window of a SELECT: its calls must all be the same.
fn the_call(select: &ast::Select, order_by: Option<&ast::OrderBy>) -> Result<Option<ast::Function>> {
    let mut found: Option<ast::Function> = None;
    let mut several = false;
    let mut look = |e: &ast::Expr| {
        if let Some(f) = is_window(e) {
            match &found {
                None => found = Some(f.clone()),
                Some(known) => several |= known.to_string() != f.to_string(),
            }
        }
        ControlFlow::<()>::Continue(())
    };
    for item in &select.projection {
        let _ = ast::visit_expressions(item, &mut look);
    }
    let _ = ast::visit_expressions(&select.group_by, &mut look);
    let _ = ast::visit_expressions(&select.having, &mut look);
    if let Some(order) = order_by {
        let _ = ast::visit_expressions(order, &mut look);
    }
    if several {
        return Err(Error::not_eligible("a SELECT with several different windows of time isn't supported"));
    }
    Ok(found)
}

fn without_calls<T: Clone + ast::VisitMut>(part: &T) -> T {
    let mut part = part.clone();
    let _ = ast::visit_expressions_mut(&mut part, |e: &mut ast::Expr| {
        if is_window(e).is_some() {
            *e = ast::Expr::Identifier(Ident::new(WINDOW));
        }
        ControlFlow::<()>::Continue(())
    });
    part
}

/// Microseconds.
struct Spans {
    length: i64,
    slide: i64,
    start: i64,
}

fn wrong_arguments(given: usize) -> Error {
    error::classed(
        "WRONG_NUM_ARGS.WITHOUT_SUGGESTION",
        "42605",
        format!("The `window` requires 2 or 3 or 4 parameters but the actual number is {given}."),
    )
}

/// The spans of a call, which are literal texts.
fn spans(call: &ast::Function) -> Result<Spans> {
    let ast::FunctionArguments::List(list) = &call.args else { return Err(wrong_arguments(0)) };
    if !(2..=4).contains(&list.args.len()) {
        return Err(wrong_arguments(list.args.len()));
    }
    let text = |at: usize| match &list.args[at] {
        ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(ast::Expr::Value(v))) => match &v.value {
            ast::Value::SingleQuotedString(text) | ast::Value::DoubleQuotedString(text) => Ok(text.clone()),
            other => Err(Error::not_eligible(format!("`window` by {other} isn't supported; write a text such as '10 minutes'"))),
        },
        other => Err(Error::not_eligible(format!("`window` by {other} isn't supported; write a text such as '10 minutes'"))),
    };
    let micros = |at: usize| -> Result<i64> {
        let text = text(at)?;
        super::interval::duration(&text).ok_or_else(|| {
            error::classed(
                "CANNOT_PARSE_INTERVAL",
                "22006",
                format!("Unable to parse '{text}' as a span of days, hours and less; write for instance '10 minutes'."),
            )
        })
    };
    let length = micros(1)?;
    let slide = if list.args.len() > 2 { micros(2)? } else { length };
    let start = if list.args.len() > 3 { micros(3)? } else { 0 };
    let bad = |what: &str| Err(error::mismatch("PARAMETER_CONSTRAINT_VIOLATION", format!("Cannot resolve \"window\": {what}.")));
    if length <= 0 || slide <= 0 {
        return bad("the window's length and slide must be greater than 0");
    }
    if slide > length {
        return bad("the slide must not be longer than the window");
    }
    if start.abs() >= slide {
        return bad("the start must lie within one slide");
    }
    if length / slide > WINDOWS_MAX {
        return Err(Error::not_eligible(format!("more than {WINDOWS_MAX} windows of time per row aren't supported")));
    }
    Ok(Spans { length, slide, start })
}

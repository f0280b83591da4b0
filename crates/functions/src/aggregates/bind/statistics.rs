//! Variance and its kind, covariance, correlation and regression.

use arrow::datatypes::DataType;
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::Case;
use flightpath_types::Result;

use super::{avg, bound, double, no_ignore_nulls, own, plain};
use crate::aggregates::moments::{Comoment, Moment};
use crate::aggregates::table;
use crate::aggregates::udaf::Kind;
use crate::cast::implicit_cast;
use crate::def::{AggregateCall, BindContext, BoundAggregate, Typed};

pub(in crate::aggregates) fn moment(
    ctx: &BindContext,
    mut call: AggregateCall,
    name: &'static str,
    moment: Moment,
) -> Result<BoundAggregate> {
    no_ignore_nulls(name, &call)?;
    let [arg] = plain(name, &mut call)?;
    let arg = double(ctx, name, 1, arg)?;
    Ok(own(name, Kind::Moments(moment), vec![arg], &call, DataType::Float64, true))
}

pub(in crate::aggregates) fn comoment(
    ctx: &BindContext,
    mut call: AggregateCall,
    name: &'static str,
    moment: Comoment,
) -> Result<BoundAggregate> {
    no_ignore_nulls(name, &call)?;
    let [x, y] = plain(name, &mut call)?;
    let args = vec![double(ctx, name, 1, x)?, double(ctx, name, 2, y)?];
    Ok(own(name, Kind::Comoments(moment), args, &call, DataType::Float64, true))
}

/// How many rows have both values.
pub(in crate::aggregates) fn regr_count(ctx: &BindContext, mut call: AggregateCall) -> Result<BoundAggregate> {
    no_ignore_nulls("regr_count", &call)?;
    let [y, x] = plain("regr_count", &mut call)?;
    let args = vec![double(ctx, "regr_count", 1, y)?, double(ctx, "regr_count", 2, x)?];
    let key = table::COUNT_KEY.call(ctx, args)?;
    Ok(bound(count_udaf(), vec![key], &call, DataType::Int64, false))
}

/// The average of one of two values over the rows that have both.
pub(in crate::aggregates) fn regr_avg(
    ctx: &BindContext,
    mut call: AggregateCall,
    name: &'static str,
    pick: usize,
) -> Result<BoundAggregate> {
    no_ignore_nulls(name, &call)?;
    let pair: [Typed; 2] = plain(name, &mut call)?;
    let [y, x] = pair.map(|t| match t.ty {
        DataType::Utf8 | DataType::Null => implicit_cast(ctx, t, &DataType::Float64),
        _ => Ok(t),
    });
    let (y, x) = (y?, x?);
    let both = Expr::IsNotNull(Box::new(y.expr.clone())).and(Expr::IsNotNull(Box::new(x.expr.clone())));
    let picked = if pick == 0 { y } else { x };
    let case = Expr::Case(Case { expr: None, when_then_expr: vec![(Box::new(both), Box::new(picked.expr))], else_expr: None });
    call.args = vec![Typed::new(case, picked.ty, true)];
    avg(ctx, call)
}

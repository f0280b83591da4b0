//! The statement's start, as a date and as timestamps: one value for the whole statement.

use datafusion::common::ScalarValue;
use flightpath_types::Result;

use super::pattern::MICROS_PER_DAY;
use crate::cast::session_zone;
use crate::def::{BindContext, FunctionDef, Typed};
use crate::errors;
use crate::sig::{self, rewrite};

/// The wall clock of the statement's start in the session's zone.
fn local(ctx: &BindContext) -> Result<i64> {
    ctx.mark_uncacheable();
    session_zone(&ctx.time_zone)?.to_local(ctx.now_micros).ok_or_else(errors::datetime_overflow)
}

fn bind_date(ctx: &BindContext, args: Vec<Typed>) -> Result<Typed> {
    sig::arity("current_date", args.len(), 0, Some(0))?;
    let days = i32::try_from(local(ctx)?.div_euclid(MICROS_PER_DAY)).map_err(|_| errors::datetime_overflow())?;
    Ok(Typed::literal(ScalarValue::Date32(Some(days))))
}

fn bind_timestamp(ctx: &BindContext, args: Vec<Typed>) -> Result<Typed> {
    sig::arity("current_timestamp", args.len(), 0, Some(0))?;
    ctx.mark_uncacheable();
    Ok(Typed::literal(ScalarValue::TimestampMicrosecond(Some(ctx.now_micros), Some("UTC".into()))))
}

fn bind_local(ctx: &BindContext, args: Vec<Typed>) -> Result<Typed> {
    sig::arity("localtimestamp", args.len(), 0, Some(0))?;
    Ok(Typed::literal(ScalarValue::TimestampMicrosecond(Some(local(ctx)?), None)))
}

pub(crate) static NOW: &[FunctionDef] = &[
    rewrite!("current_date", ["curdate"], bind: bind_date, proof: "unit tests"),
    rewrite!("current_timestamp", ["now"], bind: bind_timestamp, proof: "unit tests"),
    rewrite!("localtimestamp", [], bind: bind_local, proof: "unit tests"),
];

//! Rows that move between time zones.

use datafusion::common::ScalarValue;
use datafusion::logical_expr::ColumnarValue;
use flightpath_types::{Error, Result};

use crate::cast::zone::Zone;
use crate::def::{BindContext, FunctionDef, Invocation, Typed};
use crate::errors;
use crate::rows::Frame;
use crate::sig::{self, rewrite, scalar, strict};
use crate::types;

fn zone(name: &str) -> Result<Zone> {
    Zone::parse(name).ok_or_else(|| {
        Error::raised(
            "INVALID_TIMEZONE",
            "22009",
            format!("The timezone: {name} is invalid. The timezone must be either a region-based zone ID or a zone offset, such as 'Europe/Berlin' or '+02:00'."),
        )
    })
}

/// A wall clock of one zone as that of another.
fn convert(from: Zone, to: Zone, local: i64) -> Result<i64> {
    from.to_instant(local).and_then(|instant| to.to_local(instant)).ok_or_else(errors::datetime_overflow)
}

/// The instant as the wall clock of a zone, which is then read as UTC; or the other way round.
fn utc(invocation: &Invocation<'_>, from_utc: bool) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let (values, names) = (frame.micros(0)?, frame.text(1)?);
    frame.timestamps(|row| {
        let Some((value, name)) = values.get(row).zip(names.get(row)) else { return Ok(None) };
        let zone = zone(name)?;
        if from_utc { convert(Zone::UTC, zone, value) } else { convert(zone, Zone::UTC, value) }.map(Some)
    })
}

fn convert_timezone(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let (from, to, values) = (frame.text(0)?, frame.text(1)?, frame.micros(2)?);
    frame.timestamps(|row| {
        let Some(((from, to), value)) = from.get(row).zip(to.get(row)).zip(values.get(row)) else { return Ok(None) };
        convert(zone(from)?, zone(to)?, value).map(Some)
    })
}

fn bind_convert(ctx: &BindContext, mut args: Vec<Typed>) -> Result<Typed> {
    sig::arity("convert_timezone", args.len(), 2, Some(3))?;
    if args.len() == 2 {
        args.insert(0, Typed::literal(ScalarValue::Utf8(Some(ctx.time_zone.to_string()))));
    }
    sig::call_by_name(ctx, "convert_timezone_between", args)
}

pub(crate) static ZONES: &[FunctionDef] = &[
    scalar!("from_utc_timestamp", [], [Ts, Str] => strict(types::timestamp()), eval: |i| utc(i, true),
        duckdb: |_| Err("the rules of time zones aren't known to be Databricks' on DuckDB".into()), proof: "times-028, times-034, times-035"),
    scalar!("to_utc_timestamp", [], [Ts, Str] => strict(types::timestamp()), eval: |i| utc(i, false),
        duckdb: |_| Err("the rules of time zones aren't known to be Databricks' on DuckDB".into()), proof: "unit tests"),
    rewrite!("convert_timezone", [], bind: bind_convert, proof: "times-035"),
    scalar!("convert_timezone_between", [], [Str, Str, Ntz] => strict(types::TIMESTAMP_NTZ), eval: convert_timezone,
        duckdb: |_| Err("the rules of time zones aren't known to be Databricks' on DuckDB".into()), proof: "times-035"),
    rewrite!("current_timezone", [],
        bind: |ctx, args| { sig::arity("current_timezone", args.len(), 0, Some(0))?; Ok(Typed::literal(ScalarValue::Utf8(Some(ctx.time_zone.to_string())))) },
        proof: "unit tests"),
];

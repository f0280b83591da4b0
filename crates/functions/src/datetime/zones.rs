//! Rows that move between time zones.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use datafusion::common::ScalarValue;
use datafusion::logical_expr::ColumnarValue;
use flightpath_types::{Error, Result};

use super::pattern::MICROS_PER_SECOND;
use crate::cast::zone::Zone;
use crate::def::{BindContext, DuckCall, FunctionDef, Invocation, Typed};
use crate::errors;
use crate::rows::Frame;
use crate::sig::{self, rewrite, scalar, strict};
use crate::strings::duck as text;
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

/// Seconds since 1970 between which a zone's jumps are written out for DuckDB: 1970 to 2037.
const RULES: std::ops::Range<i64> = 0..2_145_916_800;
const SECONDS_PER_DAY: i64 = 86_400;

/// From when on which offset holds, in seconds.
type Steps = Arc<Vec<(i64, i64)>>;

static KNOWN: LazyLock<Mutex<HashMap<(String, bool), Steps>>> = LazyLock::new(Mutex::default);

/// A zone's offsets by instants, or by wall clocks. Looked up day by day, once for each zone.
fn steps(zone: Zone, by_local: bool) -> Option<Steps> {
    let key = (format!("{zone:?}"), by_local);
    if let Some(steps) = KNOWN.lock().ok().and_then(|known| known.get(&key).cloned()) {
        return Some(steps);
    }
    let offset = |second: i64| -> Option<i64> {
        let micros = second.checked_mul(MICROS_PER_SECOND)?;
        let other = if by_local { zone.to_instant(micros)? } else { zone.to_local(micros)? };
        Some((if by_local { micros - other } else { other - micros }) / MICROS_PER_SECOND)
    };
    let mut found = vec![(RULES.start, offset(RULES.start)?)];
    let mut last = found[0].1;
    for day in (RULES.start..RULES.end).step_by(SECONDS_PER_DAY as usize) {
        let here = offset(day)?;
        if here == last {
            continue;
        }
        // The first second with another offset.
        let (mut before, mut after) = (day - SECONDS_PER_DAY, day);
        while after - before > 1 {
            let middle = before + (after - before) / 2;
            if offset(middle)? == last { before = middle } else { after = middle }
        }
        found.push((after, here));
        last = here;
    }
    let steps = Arc::new(found);
    if let Ok(mut known) = KNOWN.lock() {
        known.insert(key, steps.clone());
    }
    Some(steps)
}

/// The offset in microseconds at `micros`, a name, by bisection.
fn offset_text(steps: &[(i64, i64)], micros: &str) -> String {
    match steps {
        [] => "0".into(),
        [(_, offset)] => (offset * MICROS_PER_SECOND).to_string(),
        _ => {
            let (left, right) = steps.split_at(steps.len() / 2);
            format!(
                "CASE WHEN {micros} < {} THEN {} ELSE {} END",
                right[0].0 * MICROS_PER_SECOND,
                offset_text(left, micros),
                offset_text(right, micros)
            )
        }
    }
}

/// `micros` of one clock as those of another: to a zone's wall clock, or from it.
fn moved(name: Option<&str>, micros: &str, to_zone: bool) -> Result<String, String> {
    let zone = name.and_then(Zone::parse).ok_or("a time zone that isn't a literal and valid isn't known on DuckDB")?;
    let sign = if to_zone { "+" } else { "-" };
    if zone.is_utc() {
        return Ok(micros.to_string());
    }
    let steps = match zone {
        Zone::Fixed(seconds) => return Ok(format!("({micros} {sign} CAST({} AS BIGINT))", i64::from(seconds) * MICROS_PER_SECOND)),
        Zone::Named(_) => steps(zone, !to_zone).ok_or("this time zone's rules can't be written out for DuckDB")?,
    };
    let refuse = text::refuse_value("The rules of time zones are known on DuckDB for the years 1970 to 2037.");
    let (from, to) = (RULES.start * MICROS_PER_SECOND, RULES.end * MICROS_PER_SECOND - 1);
    Ok(format!(
        "list_transform([{micros}], lambda fp_z: CASE WHEN fp_z NOT BETWEEN {from} AND {to} THEN {refuse} ELSE fp_z {sign} CAST({} AS BIGINT) END)[1]",
        offset_text(&steps, "fp_z")
    ))
}

fn utc_duckdb(c: &DuckCall<'_>, from_utc: bool) -> Result<String, String> {
    Ok(format!("make_timestamptz({})", moved(text::text(c, 1), &format!("epoch_us({})", c.args[0]), from_utc)?))
}

fn convert_duckdb(c: &DuckCall<'_>) -> Result<String, String> {
    let instant = moved(text::text(c, 0), &format!("epoch_us({})", c.args[2]), false)?;
    Ok(format!("make_timestamp({})", moved(text::text(c, 1), &instant, true)?))
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
        duckdb: |c| utc_duckdb(c, true), proof: "times-028, times-034, times-035, slt: time_zones"),
    scalar!("to_utc_timestamp", [], [Ts, Str] => strict(types::timestamp()), eval: |i| utc(i, false),
        duckdb: |c| utc_duckdb(c, false), proof: "slt: time_zones"),
    rewrite!("convert_timezone", [], bind: bind_convert, proof: "times-035"),
    scalar!("convert_timezone_between", [], [Str, Str, Ntz] => strict(types::TIMESTAMP_NTZ), eval: convert_timezone,
        duckdb: convert_duckdb, proof: "times-035, slt: time_zones"),
    rewrite!("current_timezone", [],
        bind: |ctx, args| { sig::arity("current_timezone", args.len(), 0, Some(0))?; Ok(Typed::literal(ScalarValue::Utf8(Some(ctx.time_zone.to_string())))) },
        proof: "unit tests"),
];

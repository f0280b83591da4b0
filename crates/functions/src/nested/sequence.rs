//! `sequence`: numbers, dates or timestamps from a start to a stop, both included.

use arrow::array::{ArrayRef, Date32Array, Int8Array, Int16Array, Int32Array, Int64Array, PrimitiveArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType::{self, Date32, Int8, Int16, Int32, Int64};
use arrow::datatypes::{ArrowPrimitiveType, DurationMicrosecondType, IntervalYearMonthType, TimestampMicrosecondType};
use datafusion::logical_expr::ColumnarValue;
use flightpath_types::{Error, Result};
use std::sync::Arc;

use super::combine::{common, element};
use super::gather::list_of;
use crate::cast::session_zone;
use crate::cast::zone::Zone;
use crate::def::{BindContext, Bound, DuckCall, FunctionDef, Invocation, Typed};
use crate::errors;
use crate::limit;
use crate::ops::{add_months, timestamp_plus_micros, timestamp_plus_months};
use crate::rows::Frame;
use crate::sig::{self, mismatch, scalar, strict};
use crate::strings::duck;
use crate::types::{self, DAY_TIME, YEAR_MONTH};

const NAME: &str = "sequence";
const MICROS_PER_DAY: i64 = 86_400_000_000;
/// As long as an array may be there.
const LENGTH_MAX: usize = i32::MAX as usize - 15;

fn bind(ctx: &BindContext, mut args: Vec<Typed>) -> Result<Bound> {
    sig::arity(NAME, args.len(), 2, Some(3))?;
    let step = if args.len() == 3 { args.pop() } else { None };
    let (ty, mut ends) = match &step {
        Some(step) if types::is_integral(&step.ty) => {
            let (ty, mut all) = common(ctx, NAME, [args, vec![step.clone()]].concat())?;
            let step = all.pop();
            args = all;
            return finish(ty, [args, step.into_iter().collect()].concat());
        }
        _ => common(ctx, NAME, args)?,
    };
    match step {
        None => {}
        Some(step) if types::is_interval(&step.ty) && types::is_datetime(&ty) => ends.push(step),
        Some(step) => return Err(sig::unexpected_input(NAME, 2, "INTERVAL or an integral type", &step.ty)),
    }
    finish(ty, ends)
}

fn finish(ty: DataType, args: Vec<Typed>) -> Result<Bound> {
    let numbers = types::is_integral(&ty);
    if !numbers && !types::is_datetime(&ty) {
        return Err(mismatch(
            "SEQUENCE_WRONG_INPUT_TYPES",
            NAME,
            format!("`sequence` takes integral numbers, dates or timestamps, not {}", types::sql_name(&ty)),
        ));
    }
    if numbers && args.iter().any(|a| a.ty != ty) {
        return Err(mismatch("SEQUENCE_WRONG_INPUT_TYPES", NAME, "start, stop and step must have one type"));
    }
    Ok(sig::bound(args, strict(types::array(ty, false))))
}

fn boundaries(start: impl std::fmt::Display, stop: impl std::fmt::Display, step: impl std::fmt::Display) -> Error {
    Error::raised(
        "INVALID_PARAMETER_VALUE.SEQUENCE_BOUNDARIES",
        "22023",
        format!("Illegal sequence boundaries: {start} to {stop} by {step}."),
    )
}

fn too_long() -> Error {
    Error::raised("COLLECTION_SIZE_LIMIT_EXCEEDED.PARAMETER", "54000", "`sequence` would make an array that is too long.")
}

/// Adds the numbers from `start` to `stop`.
fn numbers(start: i64, stop: i64, step: i64, out: &mut Vec<i64>) -> Result<()> {
    if (step == 0 && start != stop) || (step > 0 && start > stop) || (step < 0 && start < stop) {
        return Err(boundaries(start, stop, step));
    }
    let count = (i128::from(stop) - i128::from(start)) / i128::from(if step == 0 { 1 } else { step }) + 1;
    let length = usize::try_from(count).map_or(usize::MAX, |count| out.len().saturating_add(count));
    if length > LENGTH_MAX {
        return Err(too_long());
    }
    limit::allow(length.saturating_mul(2 * size_of::<i64>()))?;
    let mut value = start;
    loop {
        out.push(value);
        match value.checked_add(step) {
            Some(next) if step != 0 && (if step > 0 { next <= stop } else { next >= stop }) => value = next,
            _ => return Ok(()),
        }
    }
}

/// How a date or timestamp moves: every value is so many steps from the start, not from the one before.
#[derive(Clone, Copy)]
enum Step {
    Months(i64),
    Micros(i64),
}

impl Step {
    fn sign(self) -> i64 {
        match self {
            Step::Months(n) | Step::Micros(n) => n.signum(),
        }
    }

    /// `days` are dates, counted in days; else timestamps.
    fn at(self, start: i64, n: i64, days: bool, zone: Zone) -> Option<i64> {
        match (self, days) {
            (Step::Months(m), true) => add_months(start, m.checked_mul(n)?).map(i64::from),
            (Step::Micros(u), true) => start.checked_add((u / MICROS_PER_DAY).checked_mul(n)?),
            (Step::Months(m), false) => timestamp_plus_months(start, m.checked_mul(n)?, zone),
            (Step::Micros(u), false) => timestamp_plus_micros(start, u.checked_mul(n)?, zone),
        }
    }
}

fn moments(start: i64, stop: i64, step: Step, days: bool, zone: Zone, out: &mut Vec<i64>) -> Result<()> {
    let sign = step.sign();
    if let (Step::Micros(micros), true) = (step, days)
        && micros % MICROS_PER_DAY != 0
    {
        return Err(Error::not_eligible("`sequence` of dates by an interval of less than days isn't known"));
    }
    if (sign == 0 && start != stop) || (sign > 0 && start > stop) || (sign < 0 && start < stop) {
        return Err(boundaries(start, stop, "its step"));
    }
    let mut n = 0;
    loop {
        let value = step.at(start, n, days, zone).ok_or_else(errors::datetime_overflow)?;
        if (sign >= 0 && value > stop) || (sign < 0 && value < stop) {
            return Ok(());
        }
        out.push(value);
        if out.len() > LENGTH_MAX {
            return Err(too_long());
        }
        // As often as the vector doubles.
        if out.len().is_power_of_two() {
            limit::allow(out.len() * 2 * size_of::<i64>())?;
        }
        if sign == 0 {
            return Ok(());
        }
        n += 1;
    }
}

/// A column of any of the types as numbers.
fn reader(frame: &Frame, index: usize) -> Result<Box<dyn Fn(usize) -> Option<i64> + '_>> {
    Ok(match frame.ty(index)? {
        Int8 => narrow(frame.column::<Int8Array>(index)?),
        Int16 => narrow(frame.column::<Int16Array>(index)?),
        Int32 => narrow(frame.column::<Int32Array>(index)?),
        Int64 => narrow(frame.column::<Int64Array>(index)?),
        Date32 => narrow(frame.column::<Date32Array>(index)?),
        t if *t == DAY_TIME => narrow(frame.column::<PrimitiveArray<DurationMicrosecondType>>(index)?),
        t if *t == YEAR_MONTH => narrow(frame.column::<PrimitiveArray<IntervalYearMonthType>>(index)?),
        _ => narrow(frame.micros(index)?),
    })
}

fn narrow<'a, T: ArrowPrimitiveType>(column: crate::rows::Column<&'a PrimitiveArray<T>>) -> Box<dyn Fn(usize) -> Option<i64> + 'a>
where
    T::Native: Into<i64>,
{
    Box::new(move |row| column.get(row).map(Into::into))
}

fn sequence(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let (item, _) = element(frame.ret()).ok_or_else(|| Error::internal("sequence() without an element type"))?;
    let (start, stop) = (reader(&frame, 0)?, reader(&frame, 1)?);
    let step = if frame.len() > 2 { Some(reader(&frame, 2)?) } else { None };
    let months = frame.len() > 2 && frame.ty(2)? == &YEAR_MONTH;
    let zone = if types::is_timestamp(item) { session_zone(invocation.time_zone)? } else { Zone::UTC };
    let (mut values, mut offsets, mut valid) = (Vec::new(), vec![0i32], Vec::new());
    for row in 0..frame.rows() {
        let given = step.as_ref().map_or(Some(None), |s| s(row).map(Some));
        let ends = start(row).zip(stop(row)).zip(given);
        valid.push(ends.is_some());
        if let Some(((start, stop), step)) = ends {
            let down = start > stop;
            if types::is_integral(item) {
                numbers(start, stop, step.unwrap_or(if down { -1 } else { 1 }), &mut values)?;
            } else {
                let step = match step {
                    Some(n) if months => Step::Months(n),
                    Some(n) => Step::Micros(n),
                    None => Step::Micros(if down { -MICROS_PER_DAY } else { MICROS_PER_DAY }),
                };
                moments(start, stop, step, *item == Date32, zone, &mut values)?;
            }
        }
        offsets.push(i32::try_from(values.len()).map_err(|_| too_long())?);
    }
    frame.finish(list_of(frame.ret(), offsets, column(item, values)?, NullBuffer::from(valid))?)
}

/// The numbers in the element's own type; they lie between bounds of that type.
fn column(item: &DataType, values: Vec<i64>) -> Result<ArrayRef> {
    fn cut<T: TryFrom<i64>>(values: &[i64]) -> Result<Vec<T>> {
        values.iter().map(|v| T::try_from(*v).map_err(|_| errors::datetime_overflow())).collect()
    }
    Ok(match item {
        Int8 => Arc::new(Int8Array::from(cut::<i8>(&values)?)),
        Int16 => Arc::new(Int16Array::from(cut::<i16>(&values)?)),
        Int32 => Arc::new(Int32Array::from(cut::<i32>(&values)?)),
        Date32 => Arc::new(Date32Array::from(cut::<i32>(&values)?)),
        Int64 => Arc::new(Int64Array::from(values)),
        _ => Arc::new(PrimitiveArray::<TimestampMicrosecondType>::from_iter_values(values).with_data_type(item.clone())),
    })
}

/// A span in microseconds or months as DuckDB text.
fn span_text(text: &str, ty: &DataType) -> String {
    if *ty == YEAR_MONTH { crate::ops::rules::months_of(text) } else { format!("epoch_us({text})") }
}

/// DuckDB makes a whole list at once, and doesn't stop meanwhile.
const VALUES_MAX: u64 = 10_000_000;
const TOO_MANY: &str = "A sequence of more than 10,000,000 values isn't known on DuckDB.";

/// Values are so many steps from the start each; their number follows from the distance, which months
/// bound from above.
fn computed_duckdb(c: &DuckCall<'_>, item: &DataType) -> Result<String, String> {
    let name = crate::duckdb::type_name(c.ret)?;
    let raise = crate::duckdb::raise(
        "INVALID_PARAMETER_VALUE.SEQUENCE_BOUNDARIES",
        "22023",
        &crate::duckdb::string("Illegal sequence boundaries: the step doesn't lead from the start to the stop."),
    );
    let far = duck::refuse_value(TOO_MANY);
    let numbers = types::is_integral(item);
    let months = c.types.get(2) == Some(&YEAR_MONTH);
    if types::is_timestamp(item) && !Zone::parse(c.time_zone).is_some_and(Zone::is_utc) {
        return Err("`sequence` of timestamps is known on DuckDB in time zone UTC only".into());
    }
    Ok(duck::once_all(c.args, |a| {
        let (start, stop) = (&a[0], &a[1]);
        let number = |x: &str| match item {
            _ if numbers => format!("CAST({x} AS HUGEINT)"),
            Date32 => format!("CAST({x} - DATE '1970-01-01' AS BIGINT)"),
            _ => format!("epoch_us({x})"),
        };
        let unit = match a.get(2) {
            Some(step) if numbers => number(step),
            Some(step) => span_text(step, &c.types[2]),
            None => {
                format!("CASE WHEN {start} > {stop} THEN -1 ELSE 1 END{}", if numbers || *item == Date32 { "" } else { " * 86400000000" })
            }
        };
        let days = *item == Date32 && c.args.len() == 3 && !months;
        let unit = if days { format!("(({unit}) // 86400000000)") } else { format!("({unit})") };
        let distance = format!("({} - {})", number(stop), number(start));
        // No month is shorter than 28 days.
        let count = match item {
            Date32 if months => format!("{distance} // (28 * {unit})"),
            _ if months => format!("{distance} // (2419200000000 * {unit})"),
            _ => format!("{distance} // {unit}"),
        };
        let local = |x: &str| if types::is_timestamp(item) { format!("timezone('UTC', {x})") } else { x.to_string() };
        let back = |x: String| if types::is_timestamp(item) { format!("timezone('UTC', {x})") } else { x };
        let value = match item {
            _ if numbers => format!("{} + fp_i * {unit}", number(start)),
            _ if months => back(format!(
                "CAST({} + to_months(CAST(fp_i * {unit} AS INTEGER)) AS {})",
                local(start),
                if *item == Date32 { "DATE" } else { "TIMESTAMP" }
            )),
            Date32 => format!("{start} + CAST(fp_i * {unit} AS INTEGER)"),
            _ => back(format!("{} + to_microseconds(CAST(fp_i * {unit} AS BIGINT))", local(start))),
        };
        let all = format!("list_transform(range(CAST({count} AS BIGINT) + 1), lambda fp_i: {value})");
        let kept = if months {
            format!("list_filter({all}, lambda fp_v: CASE WHEN {unit} > 0 THEN fp_v <= {stop} ELSE fp_v >= {stop} END)")
        } else {
            all
        };
        let wrong = format!("({unit} = 0 AND {start} <> {stop}) OR ({unit} > 0 AND {start} > {stop}) OR ({unit} < 0 AND {start} < {stop})");
        format!(
            "CASE WHEN {} THEN NULL WHEN {wrong} THEN {raise} WHEN {unit} = 0 THEN CAST([{start}] AS {name}) WHEN {count} > 10000000 THEN {far} ELSE CAST({kept} AS {name}) END",
            duck::any_null(a)
        )
    }))
}

fn whole_days(c: &DuckCall<'_>) -> bool {
    matches!(c.literals.get(2), Some(Some(datafusion::common::ScalarValue::DurationMicrosecond(Some(micros)))) if micros % MICROS_PER_DAY == 0)
}

fn sequence_duckdb(c: &DuckCall<'_>) -> Result<String, String> {
    let DataType::List(item) = c.ret else { return Err("a sequence of no known type".into()) };
    let literals = (0..c.args.len()).map(|i| duck::int(c, i)).collect::<Option<Vec<_>>>();
    if let Some([start, stop, rest @ ..]) = literals.as_deref() {
        let step = rest.first().map_or(1, |step| step.unsigned_abs().max(1));
        if start.abs_diff(*stop) / step > VALUES_MAX {
            return Err(TOO_MANY.into());
        }
    }
    match (literals.as_deref(), item.data_type()) {
        (Some([start, stop]), Int32 | Int64) => {
            let step = if start > stop { -1 } else { 1 };
            Ok(format!(
                "CAST(range(CAST({start} AS BIGINT), CAST({} AS BIGINT), CAST({step} AS BIGINT)) AS {})",
                stop + step,
                crate::duckdb::type_name(c.ret)?
            ))
        }
        // As DuckDB counts, while neither can pass the end of its BIGINTs.
        (Some([start, stop, step]), Int32 | Int64)
            if *step != 0
                && (start == stop || (start < stop) == (*step > 0))
                && [start, stop, step].iter().all(|n| n.unsigned_abs() < 1 << 62) =>
        {
            Ok(format!(
                "CAST(generate_series(CAST({start} AS BIGINT), CAST({stop} AS BIGINT), CAST({step} AS BIGINT)) AS {})",
                crate::duckdb::type_name(c.ret)?
            ))
        }
        (None, Date32) if c.args.len() == 2 => Ok(duck::once2(&c.args[0], &c.args[1], |a, b| {
            format!(
                "CASE WHEN {a} IS NULL OR {b} IS NULL THEN NULL ELSE CAST(generate_series(CAST({a} AS TIMESTAMP), CAST({b} AS TIMESTAMP), CASE WHEN {a} > {b} THEN -to_days(1) ELSE to_days(1) END) AS DATE[]) END"
            )
        })),
        // Steps of dates are months or whole days.
        _ if *item.data_type() == Date32 && c.types.get(2) == Some(&DAY_TIME) && !whole_days(c) => {
            Err("`sequence` of dates by a computed interval isn't known on DuckDB".into())
        }
        _ => computed_duckdb(c, item.data_type()),
    }
}

pub(crate) static SEQUENCE: &[FunctionDef] = &[
    scalar!("sequence", [], bind: bind, eval: sequence, duckdb: sequence_duckdb, proof: "dates-012, dates-028, hard-099, nested-016, slt: sequences"),
];

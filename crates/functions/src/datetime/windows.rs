//! The windows of time that a timestamp lies in, for `window(...)` in GROUP BY. No query can name
//! these rows: the binder calls them. Windows are aligned to 1970-01-01 UTC and a start.

use std::sync::Arc;

use arrow::array::{ArrayRef, PrimitiveArray, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields, TimestampMicrosecondType};
use datafusion::logical_expr::ColumnarValue;
use flightpath_types::{Error, Result};

use crate::def::{BindContext, Bound, DuckCall, FunctionDef, Invocation, Typed};
use crate::rows::{Frame, internal};
use crate::sig::{self, P, scalar};
use crate::strings::duck as text;
use crate::types;

/// `start` and `end` of the time's own type.
fn window_type(time: &DataType) -> DataType {
    DataType::Struct(Fields::from(vec![Field::new("start", time.clone(), true), Field::new("end", time.clone(), true)]))
}

fn bind(ctx: &BindContext, args: Vec<Typed>, sliding: bool) -> Result<Bound> {
    let args = sig::cast_all(ctx, "window", args, &[P::AnyTs, P::Long, P::Long, P::Long])?;
    let window = window_type(&args[0].ty);
    let ret = if sliding { types::array(window, false) } else { window };
    Ok(Bound { args, ret, nullable: true })
}

/// The start of the last window that begins at or before a time.
fn last_start(time: i64, slide: i64, start: i64) -> Option<i64> {
    time.checked_sub(time.checked_sub(start)?.rem_euclid(slide))
}

fn out_of_range() -> Error {
    crate::errors::datetime_overflow()
}

/// Starts and ends as a struct array.
fn structs(ty: &DataType, starts: Vec<Option<i64>>, length: i64) -> Result<StructArray> {
    let DataType::Struct(fields) = ty else { return Err(Error::internal("a window of time that isn't a struct")) };
    let ends = starts.iter().map(|s| s.map(|s| s.checked_add(length).ok_or_else(out_of_range)).transpose()).collect::<Result<Vec<_>>>()?;
    let nulls = NullBuffer::from_iter(starts.iter().map(Option::is_some));
    let column = |values: Vec<Option<i64>>, field: &Field| -> ArrayRef {
        Arc::new(PrimitiveArray::<TimestampMicrosecondType>::from_iter(values).with_data_type(field.data_type().clone()))
    };
    StructArray::try_new(fields.clone(), vec![column(starts, &fields[0]), column(ends, &fields[1])], Some(nulls)).map_err(internal)
}

fn numbers(frame: &Frame) -> Result<(i64, i64, i64)> {
    let at = |i: usize| frame.long(i)?.get(0).ok_or_else(|| Error::internal("a window of time without its spans"));
    Ok((at(1)?, at(2)?, at(3)?))
}

fn tumbling(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let times = frame.micros(0)?;
    if frame.rows() == 0 {
        return frame.finish(Arc::new(structs(frame.ret(), Vec::new(), 0)?));
    }
    let (length, slide, start) = numbers(&frame)?;
    let starts = (0..frame.rows())
        .map(|row| times.get(row).map(|t| last_start(t, slide, start).ok_or_else(out_of_range)).transpose())
        .collect::<Result<Vec<_>>>()?;
    frame.finish(Arc::new(structs(frame.ret(), starts, length)?))
}

fn sliding(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let DataType::List(item) = frame.ret() else { return Err(Error::internal("windows of time that aren't a list")) };
    let times = frame.micros(0)?;
    let (mut starts, mut offsets, mut valid) = (Vec::new(), vec![0i32], Vec::new());
    let (length, slide, start) = if frame.rows() == 0 { (0, 1, 0) } else { numbers(&frame)? };
    for row in 0..frame.rows() {
        let time = times.get(row);
        valid.push(time.is_some());
        if let Some(time) = time {
            let mut at = last_start(time, slide, start).ok_or_else(out_of_range)?;
            while time < at.checked_add(length).ok_or_else(out_of_range)? {
                starts.push(Some(at));
                at = at.checked_sub(slide).ok_or_else(out_of_range)?;
            }
        }
        offsets.push(i32::try_from(starts.len()).map_err(|_| Error::not_eligible("windows of one batch number more than 2^31"))?);
    }
    let values = structs(item.data_type(), starts, length)?;
    frame.finish(crate::nested::list_of(frame.ret(), offsets, Arc::new(values), NullBuffer::from(valid))?)
}

/// `micros` is a BIGINT's text.
fn moment(call: &DuckCall<'_>, micros: &str) -> String {
    let zoned = types::is_timestamp(&call.types[0]);
    format!("{}({micros})", if zoned { "make_timestamptz" } else { "make_timestamp" })
}

fn duckdb(call: &DuckCall<'_>, sliding: bool) -> Result<String, String> {
    let number = |index: usize| text::int(call, index).ok_or("a window of time by computed spans isn't known on DuckDB");
    let (length, slide, start) = (number(1)?, number(2)?, number(3)?);
    let last = format!("(fp_t - (((fp_t - {start}) % {slide}) + {slide}) % {slide})");
    let window = |at: &str| {
        format!("struct_pack(\"start\" := {}, \"end\" := {})", moment(call, at), moment(call, &format!("{at} + CAST({length} AS BIGINT)")))
    };
    let body = if sliding {
        let most = length / slide + 1;
        format!(
            "list_transform(list_filter(list_transform(range({most}), lambda fp_i: {last} - fp_i * CAST({slide} AS BIGINT)), lambda fp_v: fp_t < fp_v + CAST({length} AS BIGINT)), lambda fp_v: {})",
            window("fp_v")
        )
    } else {
        window(&last)
    };
    Ok(format!("list_transform([epoch_us({})], lambda fp_t: CASE WHEN fp_t IS NULL THEN NULL ELSE {body} END)[1]", call.args[0]))
}

pub(crate) static WINDOWS: &[FunctionDef] = &[
    scalar!("window of time", [], bind: |ctx, args| bind(ctx, args, false), eval: tumbling, duckdb: |c| duckdb(c, false), proof: "times-029, slt: time_windows"),
    scalar!("windows of time", [], bind: |ctx, args| bind(ctx, args, true), eval: sliding, duckdb: |c| duckdb(c, true), proof: "slt: time_windows"),
];

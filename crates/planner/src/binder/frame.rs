//! Window frames: ROWS and RANGE with their bounds, Databricks' default frames, and those that a function
//! always has.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::Sort;
use datafusion::logical_expr::{WindowFrame, WindowFrameBound, WindowFrameUnits};
use datafusion::sql::sqlparser::ast;
use flightpath_functions::{Typed, types};
use flightpath_types::{Error, Result};

use super::call::Arguments;
use super::error;
use super::place::Place;
use super::query::State;

const DAY_US: i64 = 86_400_000_000;

impl State<'_> {
    pub fn frame(&mut self, place: &Place<'_>, frame: &ast::WindowFrame, order_types: &[DataType]) -> Result<(WindowFrame, String)> {
        let units = match frame.units {
            ast::WindowFrameUnits::Rows => WindowFrameUnits::Rows,
            ast::WindowFrameUnits::Range => WindowFrameUnits::Range,
            ast::WindowFrameUnits::Groups => return Err(Error::invalid("GROUPS frames aren't part of Databricks SQL")),
        };
        let key = if units == WindowFrameUnits::Rows { Some(DataType::UInt64) } else { order_types.first().cloned() };
        let unbounded = matches!(
            (&frame.start_bound, &frame.end_bound),
            (ast::WindowFrameBound::Preceding(None), Some(ast::WindowFrameBound::Following(None)))
        );
        if units == WindowFrameUnits::Range && key.is_none() && !unbounded {
            return Err(error::mismatch(
                "RANGE_FRAME_WITHOUT_ORDER",
                "A range window frame cannot be used in an unordered window specification.",
            ));
        }
        let (start, start_text, start_rank) = self.bound_of(place, &frame.start_bound, units, key.as_ref(), order_types.len())?;
        let (end, end_text, end_rank) = match &frame.end_bound {
            Some(bound) => self.bound_of(place, bound, units, key.as_ref(), order_types.len())?,
            None => (WindowFrameBound::CurrentRow, "CURRENT ROW".into(), Some(0.0)),
        };
        if units == WindowFrameUnits::Range
            && let (Some(a), Some(b)) = (interval_fields(&start_text), interval_fields(&end_text))
            && a != b
        {
            return Err(error::mismatch(
                "SPECIFIED_WINDOW_FRAME_DIFF_TYPES",
                format!("Window frame bounds '{start_text}' and '{end_text}' do not have the same type."),
            ));
        }
        if let (Some(a), Some(b)) = (start_rank, end_rank)
            && a > b
        {
            let value = |b: &WindowFrameBound| !matches!(b, WindowFrameBound::CurrentRow);
            if a != f64::INFINITY && b != f64::NEG_INFINITY && !(value(&start) && value(&end)) {
                return Err(Error::not_eligible("a window frame that holds no row isn't supported"));
            }
            return Err(error::mismatch(
                "SPECIFIED_WINDOW_FRAME_WRONG_COMPARISON",
                "The lower bound of a window frame must be less than or equal to the upper bound.",
            ));
        }
        let word = if units == WindowFrameUnits::Rows { "ROWS" } else { "RANGE" };
        let text = format!("{word} BETWEEN {start_text} AND {end_text}");
        Ok((WindowFrame::new_bounds(units, start, end), text))
    }

    /// A frame's bound, its text, and its place relative to the current row where that's a number.
    fn bound_of(
        &mut self,
        place: &Place<'_>,
        bound: &ast::WindowFrameBound,
        units: WindowFrameUnits,
        key: Option<&DataType>,
        keys: usize,
    ) -> Result<(WindowFrameBound, String, Option<f64>)> {
        let (value, following) = match bound {
            ast::WindowFrameBound::CurrentRow => return Ok((WindowFrameBound::CurrentRow, "CURRENT ROW".into(), Some(0.0))),
            ast::WindowFrameBound::Preceding(value) => (value, false),
            ast::WindowFrameBound::Following(value) => (value, true),
        };
        let Some(value) = value else {
            let null = ScalarValue::UInt64(None);
            return Ok(if following {
                (WindowFrameBound::Following(null), "UNBOUNDED FOLLOWING".into(), Some(f64::INFINITY))
            } else {
                (WindowFrameBound::Preceding(null), "UNBOUNDED PRECEDING".into(), Some(f64::NEG_INFINITY))
            });
        };
        let typed = self.expr(place, value)?;
        let Some(literal) = typed.t.as_literal().cloned() else {
            return Err(error::mismatch("SPECIFIED_WINDOW_FRAME_UNACCEPTED_TYPE", "The bound of a window frame must be a literal."));
        };
        let number = integer(&literal);
        if units == WindowFrameUnits::Rows && typed.t.ty != DataType::Int32 {
            return Err(error::mismatch(
                "SPECIFIED_WINDOW_FRAME_UNACCEPTED_TYPE",
                format!("The data type of a ROWS frame's bound must be INT, but `{}` is {}.", typed.name, types::sql_name(&typed.t.ty)),
            ));
        }
        if units == WindowFrameUnits::Range
            && key == Some(&DataType::Date32)
            && typed.t.ty == types::DAY_TIME
            && !typed.name.ends_with("' DAY")
        {
            return Err(error::mismatch(
                "RANGE_FRAME_INVALID_TYPE",
                format!("The data type DATE used in the order specification does not support {} in the range frame.", typed.name),
            ));
        }
        if units == WindowFrameUnits::Range && keys != 1 {
            return Err(error::mismatch(
                "RANGE_FRAME_MULTI_ORDER",
                "A range window frame with value boundaries needs exactly one ORDER BY expression.",
            ));
        }
        // A distance that has to be cast to the key's type shows as the sum that it is.
        let cast = units == WindowFrameUnits::Range && key.is_some_and(|k| types::is_numeric(k) && *k != typed.t.ty);
        let value = match (units, number) {
            (WindowFrameUnits::Rows, Some(n)) if n >= 0 => ScalarValue::UInt64(Some(n.unsigned_abs())),
            (WindowFrameUnits::Rows, _) => {
                return Err(Error::not_eligible("a ROWS frame with a negative or non-integer bound isn't supported"));
            }
            (_, _) => self.range_offset(typed.t.clone(), key)?,
        };
        let word = if following { "FOLLOWING" } else { "PRECEDING" };
        let rank = distance(&literal).map(|n| if following { n } else { -n });
        let made = if following { WindowFrameBound::Following(value) } else { WindowFrameBound::Preceding(value) };
        let text = if cast && !following { format!("(- {}) FOLLOWING", typed.name) } else { format!("{} {word}", typed.name) };
        Ok((made, text, rank))
    }

    /// A distance along the ordering key, in a type that can be added to it.
    fn range_offset(&mut self, t: Typed, key: Option<&DataType>) -> Result<ScalarValue> {
        let Some(key) = key else { return Err(Error::internal("a RANGE frame without a key")) };
        let given = t.ty.clone();
        let wrong = || {
            error::mismatch(
                "RANGE_FRAME_INVALID_TYPE",
                format!(
                    "The data type {} used in the order specification does not support the data type {} which is used in the range frame.",
                    types::sql_name(key),
                    types::sql_name(&given)
                ),
            )
        };
        let to = match key {
            k if types::is_numeric(k) && types::is_numeric(&t.ty) => k.clone(),
            DataType::Date32 if t.ty == types::DAY_TIME => {
                let days = match t.as_literal() {
                    Some(ScalarValue::DurationMicrosecond(Some(us))) if us % DAY_US == 0 => i32::try_from(us / DAY_US).ok(),
                    _ => None,
                };
                let Some(days) = days else {
                    return Err(Error::not_eligible("a RANGE frame of parts of a day over a DATE isn't known"));
                };
                return Ok(ScalarValue::Int32(Some(days)));
            }
            DataType::Timestamp(_, Some(_)) if t.ty == types::DAY_TIME && !self.ctx.time_zone.eq_ignore_ascii_case("UTC") => {
                // Days are drawn in the session's zone there, and not always 24 hours long.
                match t.as_literal() {
                    Some(ScalarValue::DurationMicrosecond(Some(us))) if (0..DAY_US).contains(us) => t.ty.clone(),
                    _ => return Err(Error::not_eligible("a RANGE frame of days over a TIMESTAMP is known in the time zone UTC only")),
                }
            }
            DataType::Timestamp(_, Some(_))
                if types::is_interval(&t.ty) && t.ty != types::DAY_TIME && !self.ctx.time_zone.eq_ignore_ascii_case("UTC") =>
            {
                // Months are of the session's calendar.
                return Err(Error::not_eligible("a RANGE frame of months over a TIMESTAMP is known in the time zone UTC only"));
            }
            DataType::Date32 | DataType::Timestamp(..) if types::is_interval(&t.ty) => t.ty.clone(),
            DataType::Date32 if t.ty == DataType::Int32 => DataType::Int32,
            _ => return Err(wrong()),
        };
        match self.coerce(t, &to)?.as_literal() {
            Some(value) if !value.is_null() => Ok(value.clone()),
            _ => Err(wrong()),
        }
    }

    /// A RANGE of days over dates is one of integers over their day numbers, in every engine.
    pub fn in_days(&mut self, mut order_by: Vec<Sort>, frame: WindowFrame, order_types: &[DataType]) -> Result<(Vec<Sort>, WindowFrame)> {
        let days = |bound: &WindowFrameBound| match bound {
            WindowFrameBound::Preceding(v) | WindowFrameBound::Following(v) => matches!(v, ScalarValue::Int32(Some(_))),
            WindowFrameBound::CurrentRow => false,
        };
        let by_days = frame.units == WindowFrameUnits::Range && (days(&frame.start_bound) || days(&frame.end_bound));
        if let ([DataType::Date32], true, [key]) = (order_types, by_days, order_by.as_mut_slice()) {
            let date = Typed::new(std::mem::take(&mut key.expr), DataType::Date32, true);
            key.expr = self.function("unix_date", vec![date])?.expr;
        }
        Ok((order_by, frame))
    }

    /// `lag` and `lead` show their offset as their frame.
    pub fn offset_frame(&self, name: &str, args: &Arguments) -> Option<String> {
        let offset = || match args.args.get(1) {
            None => Some(1),
            Some(b) => match b.t.as_literal() {
                Some(ScalarValue::Int32(Some(n))) => Some(*n),
                _ => None,
            },
        };
        let n = match name {
            "lead" => offset()?,
            "lag" => -offset()?,
            _ => return None,
        };
        Some(format!("ROWS BETWEEN {n} FOLLOWING AND {n} FOLLOWING"))
    }
}

/// A frame with both its bounds.
pub(super) fn written(frame: &ast::WindowFrame) -> String {
    let end = frame.end_bound.as_ref().map_or_else(|| "CURRENT ROW".to_string(), ToString::to_string);
    format!("{} BETWEEN {} AND {end}", frame.units, frame.start_bound)
}

/// The frame that a function always has, as column names show it.
pub(super) fn fixed_frame(name: &str) -> Option<&'static str> {
    match name {
        "row_number" | "rank" | "dense_rank" | "percent_rank" | "ntile" => Some("ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"),
        "cume_dist" => Some("RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"),
        "lag" | "lead" => Some("ROWS BETWEEN CURRENT ROW AND CURRENT ROW"),
        _ => None,
    }
}

pub(super) fn default_text(ordered: bool) -> &'static str {
    if ordered { "RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW" } else { "ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING" }
}

/// Without ORDER BY the whole partition, with it all rows up to the current one's peers. Functions
/// with a fixed frame ignore it; rows are what they count.
pub(super) fn default_frame(fixed: bool, ordered: bool) -> Result<WindowFrame> {
    let unbounded = || ScalarValue::UInt64(None);
    Ok(if fixed || !ordered {
        WindowFrame::new_bounds(WindowFrameUnits::Rows, WindowFrameBound::Preceding(unbounded()), WindowFrameBound::Following(unbounded()))
    } else {
        WindowFrame::new_bounds(WindowFrameUnits::Range, WindowFrameBound::Preceding(unbounded()), WindowFrameBound::CurrentRow)
    })
}

fn integer(value: &ScalarValue) -> Option<i64> {
    match value {
        ScalarValue::Int8(v) => v.map(i64::from),
        ScalarValue::Int16(v) => v.map(i64::from),
        ScalarValue::Int32(v) => v.map(i64::from),
        ScalarValue::Int64(v) => *v,
        _ => None,
    }
}

/// A frame's distance, to be compared with the other bound's of the same type.
fn distance(value: &ScalarValue) -> Option<f64> {
    match value {
        ScalarValue::Float32(v) => v.map(f64::from),
        ScalarValue::Float64(v) => *v,
        ScalarValue::Decimal128(v, _, scale) => v.map(|v| v as f64 / 10f64.powi(i32::from(*scale))),
        ScalarValue::IntervalYearMonth(v) => v.map(f64::from),
        ScalarValue::DurationMicrosecond(v) => v.map(|v| v as f64),
        other => integer(other).map(|v| v as f64),
    }
}

/// `DAY` of `INTERVAL '1' DAY PRECEDING`, none for a bound that isn't an interval but a number.
fn interval_fields(bound: &str) -> Option<&str> {
    let value = bound.strip_suffix(" PRECEDING").or_else(|| bound.strip_suffix(" FOLLOWING"))?;
    if matches!(value, "UNBOUNDED") {
        return None;
    }
    let value = value.strip_prefix("(- ").and_then(|value| value.strip_suffix(')')).unwrap_or(value);
    Some(value.strip_prefix("INTERVAL '").and_then(|rest| rest.split_once("' ")).map_or("", |(_, fields)| fields))
}

//! Typing of arithmetic on dates, timestamps and intervals, and the fields of interval literals,
//! which decide whether DATE + INTERVAL is a DATE or a TIMESTAMP.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::common::metadata::FieldMetadata;
use datafusion::logical_expr::{ColumnarValue, Expr};
use flightpath_types::{Error, Result};

use super::arithmetic::Op;
use super::{temporal, wrong_operands};
use crate::cast::{Mode, implicit_cast};
use crate::def::{BindContext, Bound, Invocation, ScalarDef, Typed};
use crate::types::{self, DAY_TIME, YEAR_MONTH};

const START: &str = "flightpath.interval.start";
const END: &str = "flightpath.interval.end";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IntervalField {
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
}

impl IntervalField {
    pub const ALL: [IntervalField; 6] =
        [IntervalField::Year, IntervalField::Month, IntervalField::Day, IntervalField::Hour, IntervalField::Minute, IntervalField::Second];

    pub fn as_str(self) -> &'static str {
        match self {
            IntervalField::Year => "year",
            IntervalField::Month => "month",
            IntervalField::Day => "day",
            IntervalField::Hour => "hour",
            IntervalField::Minute => "minute",
            IntervalField::Second => "second",
        }
    }

    /// Months or microseconds.
    fn amount(self) -> i64 {
        match self {
            IntervalField::Year => 12,
            IntervalField::Month => 1,
            IntervalField::Day => 86_400_000_000,
            IntervalField::Hour => 3_600_000_000,
            IntervalField::Minute => 60_000_000,
            IntervalField::Second => 1_000_000,
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|f| f.as_str().eq_ignore_ascii_case(text))
    }
}

/// `DAY TO SECOND`: which fields an interval's type has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IntervalUnits {
    pub start: IntervalField,
    pub end: IntervalField,
}

impl IntervalUnits {
    pub fn is_year_month(self) -> bool {
        self.start <= IntervalField::Month
    }

    /// `interval day to second`, `interval hour`.
    pub fn type_name(self) -> String {
        if self.start == self.end {
            format!("interval {}", self.start.as_str())
        } else {
            format!("interval {} to {}", self.start.as_str(), self.end.as_str())
        }
    }
}

/// A literal interval of `amount` months (of years and months) or microseconds (the rest).
pub fn interval_literal(amount: i64, units: IntervalUnits) -> Result<Typed> {
    let value = if units.is_year_month() {
        let months = i32::try_from(amount).map_err(|_| crate::errors::interval_overflow())?;
        ScalarValue::IntervalYearMonth(Some(months))
    } else {
        ScalarValue::DurationMicrosecond(Some(amount))
    };
    let ty = value.data_type();
    Ok(Typed::new(Expr::Literal(value, Some(units_metadata(units))), ty, false))
}

pub(super) fn units_metadata(units: IntervalUnits) -> FieldMetadata {
    let pairs = [(START, units.start), (END, units.end)].map(|(k, v)| (k.to_owned(), v.as_str().to_owned()));
    FieldMetadata::new(BTreeMap::from(pairs))
}

/// The fields of an interval, where they're known: of literals, and of what is made of them.
pub fn interval_units(arg: &Typed) -> Option<IntervalUnits> {
    units_of(&arg.expr)
}

fn units_of(expr: &Expr) -> Option<IntervalUnits> {
    match expr {
        Expr::Literal(_, metadata) => {
            let metadata = metadata.as_ref()?;
            let field = |key: &str| metadata.inner().get(key).and_then(|v| IntervalField::parse(v));
            Some(IntervalUnits { start: field(START)?, end: field(END)? })
        }
        Expr::Alias(alias) => units_of(&alias.expr),
        Expr::ScalarFunction(call) => {
            let function = call.func.inner().downcast_ref::<crate::def::FpScalar>()?;
            let args: Vec<&Expr> = call.args.iter().collect();
            units_of_call(function.def.name, &function.ret, &args)
        }
        _ => None,
    }
}

/// Sums have the fields of both operands and all between; products have all fields.
fn units_of_call(name: &str, ret: &DataType, args: &[&Expr]) -> Option<IntervalUnits> {
    match name.strip_prefix("try_").unwrap_or(name) {
        "interval_add" | "interval_subtract" => {
            let [a, b] = args else { return None };
            let (a, b) = (units_of(a)?, units_of(b)?);
            Some(IntervalUnits { start: a.start.min(b.start), end: a.end.max(b.end) })
        }
        "interval_negate" | "abs" => units_of(args.first()?),
        "date_difference" => Some(IntervalUnits { start: IntervalField::Day, end: IntervalField::Day }),
        "interval_multiply" | "interval_divide" | "timestamp_difference" | "make_dt_interval" | "make_ym_interval" => {
            let (start, end) =
                if *ret == YEAR_MONTH { (IntervalField::Year, IntervalField::Month) } else { (IntervalField::Day, IntervalField::Second) };
            Some(IntervalUnits { start, end })
        }
        _ => None,
    }
}

/// `CAST(interval AS STRING)` and to an integer, which go by the interval's fields: of literals only.
pub(crate) fn cast_literal_interval(arg: &Typed, to: &DataType) -> Option<Result<ScalarValue>> {
    let units = interval_units(arg)?;
    let amount = match arg.as_literal()? {
        ScalarValue::IntervalYearMonth(Some(months)) => i64::from(*months),
        ScalarValue::DurationMicrosecond(Some(micros)) => *micros,
        _ => return None,
    };
    if *to == DataType::Utf8 {
        let name = units.type_name().to_uppercase();
        let fields = name.strip_prefix("INTERVAL ").unwrap_or(&name);
        return Some(Ok(ScalarValue::Utf8(Some(format!("INTERVAL '{}' {fields}", interval_text(amount, units))))));
    }
    if !types::is_integral(to) || units.start != units.end {
        return None;
    }
    let value = ScalarValue::Int64(Some(amount / units.start.amount()));
    let overflow = || crate::errors::cast_overflow(&value.to_string(), &arg.ty, to);
    Some(crate::cast::cast_literal(&value, to, "UTC").ok_or_else(overflow))
}

/// What stands between the quotes of an interval's text.
fn interval_text(amount: i64, units: IntervalUnits) -> String {
    let sign = if amount < 0 { "-" } else { "" };
    let mut rest = amount.unsigned_abs();
    let mut out = String::from(sign);
    for field in IntervalField::ALL.into_iter().filter(|f| (units.start..=units.end).contains(f)) {
        let unit = field.amount().unsigned_abs();
        let (value, left) = (rest / unit, rest % unit);
        rest = left;
        match field {
            _ if field == units.start => {}
            IntervalField::Month => out.push('-'),
            IntervalField::Hour => out.push(' '),
            _ => out.push(':'),
        }
        match field {
            IntervalField::Year | IntervalField::Month | IntervalField::Day => out.push_str(&value.to_string()),
            _ => out.push_str(&format!("{value:02}")),
        }
        if field == IntervalField::Second && rest > 0 {
            out.push('.');
            out.push_str(format!("{rest:06}").trim_end_matches('0'));
        }
    }
    out
}

/// `+ - * /` where an operand is a date, a timestamp or an interval.
pub(super) fn arithmetic(ctx: &BindContext, op: Op, mode: Mode, left: Typed, right: Typed) -> Result<Typed> {
    let pick = |ansi: &'static ScalarDef, tried: &'static ScalarDef| if mode == Mode::Try { tried } else { ansi };
    let unsupported =
        |l: &Typed, r: &Typed| Err(wrong_operands(op.symbol(), &l.ty, &r.ty, "matching dates, timestamps, intervals or numbers"));
    let mixed = |t: &DataType| *t == types::MIXED_INTERVAL;
    match op {
        Op::Add | Op::Subtract if types::is_datetime(&left.ty) && mixed(&right.ty) => return Ok(plus_mixed(ctx, op, mode, left, right)),
        Op::Add if mixed(&left.ty) && types::is_datetime(&right.ty) => return Ok(plus_mixed(ctx, op, mode, right, left)),
        _ if mixed(&left.ty) || mixed(&right.ty) => {
            return Err(Error::not_eligible("arithmetic with `make_interval` isn't known but for adding it to a date or a timestamp"));
        }
        _ => {}
    }
    // A NULL beside a date or a timestamp is an interval to be added, and a timestamp to be subtracted.
    let open = |t: &Typed| matches!(t.expr, Expr::Placeholder(_));
    match (op, &left.ty, &right.ty) {
        _ if open(&left) || open(&right) => {}
        (Op::Add, datetime, DataType::Null) | (Op::Add, DataType::Null, datetime) if types::is_datetime(datetime) => {
            let sum = if *datetime == DataType::Date32 { types::timestamp() } else { datetime.clone() };
            return Typed::null(&sum);
        }
        (Op::Subtract, datetime, DataType::Null) | (Op::Subtract, DataType::Null, datetime) if types::is_datetime(datetime) => {
            return Typed::null(&DAY_TIME);
        }
        _ => {}
    }
    let (is_date, is_time) = (types::is_datetime, |t: &DataType| types::is_timestamp(t) || types::is_timestamp_ntz(t));
    let left_interval = types::is_interval(&left.ty);
    let right_interval = types::is_interval(&right.ty);
    match op {
        Op::Add if left_interval && !right_interval => arithmetic(ctx, op, mode, right, left),
        Op::Add if types::is_integral(&left.ty) && right.ty == DataType::Date32 => arithmetic(ctx, op, mode, right, left),
        Op::Add | Op::Subtract if left_interval && (right_interval || right.ty == DataType::Null) => {
            let def = match op {
                Op::Add => pick(&temporal::INTERVAL_ADD, &temporal::TRY_INTERVAL_ADD),
                _ => pick(&temporal::INTERVAL_SUBTRACT, &temporal::TRY_INTERVAL_SUBTRACT),
            };
            let ret = left.ty.clone();
            if right_interval && right.ty != ret {
                return unsupported(&left, &right);
            }
            let right = implicit_cast(ctx, right, &ret)?;
            Ok(call(ctx, def, left, right, ret, mode))
        }
        Op::Add | Op::Subtract if is_date(&left.ty) && right_interval => plus_interval(ctx, op, mode, left, right),
        Op::Add | Op::Subtract if left.ty == DataType::Null && right_interval => {
            let left = implicit_cast(ctx, left, &right.ty)?;
            arithmetic(ctx, op, mode, left, right)
        }
        Op::Add | Op::Subtract
            if left.ty == DataType::Date32 && types::can_implicitly_cast(&right.ty, &DataType::Int32) && !types::is_string(&right.ty) =>
        {
            let def = match op {
                Op::Add => pick(&temporal::DATE_PLUS_DAYS, &temporal::TRY_DATE_PLUS_DAYS),
                _ => pick(&temporal::DATE_MINUS_DAYS, &temporal::TRY_DATE_MINUS_DAYS),
            };
            let right = implicit_cast(ctx, right, &DataType::Int32)?;
            Ok(call(ctx, def, left, right, DataType::Date32, mode))
        }
        Op::Subtract if (is_time(&left.ty) && !right_interval) || (is_time(&right.ty) && !left_interval) => {
            let common = match types::least_common_type([&left.ty, &right.ty]) {
                Some(t) if is_time(&t) => t,
                _ => return unsupported(&left, &right),
            };
            let (left, right) = (implicit_cast(ctx, left, &common)?, implicit_cast(ctx, right, &common)?);
            let def = pick(&temporal::TIMESTAMP_DIFFERENCE, &temporal::TRY_TIMESTAMP_DIFFERENCE);
            Ok(call(ctx, def, left, right, DAY_TIME, mode))
        }
        Op::Subtract if [&left.ty, &right.ty].iter().all(|t| matches!(t, DataType::Date32 | DataType::Utf8 | DataType::Null)) => {
            let (left, right) = (implicit_cast(ctx, left, &DataType::Date32)?, implicit_cast(ctx, right, &DataType::Date32)?);
            let def = pick(&temporal::DATE_DIFFERENCE, &temporal::TRY_DATE_DIFFERENCE);
            Ok(call(ctx, def, left, right, DAY_TIME, mode))
        }
        Op::Multiply if right_interval && !left_interval => arithmetic(ctx, op, mode, right, left),
        Op::Multiply | Op::Divide if left_interval && !right_interval => scaled(ctx, op, mode, left, right),
        _ if left_interval && right_interval => Err(Error::not_eligible(format!("`{}` of two intervals isn't known", op.symbol()))),
        _ => unsupported(&left, &right),
    }
}

fn call(ctx: &BindContext, def: &'static ScalarDef, left: Typed, right: Typed, ret: DataType, mode: Mode) -> Typed {
    let nullable = left.nullable || right.nullable || mode == Mode::Try;
    // `DATE '1998-12-01' - INTERVAL 90 DAY` becomes a literal, which prunes files.
    if let (Some(l), Some(r)) = (left.as_literal(), right.as_literal()) {
        let args = [ColumnarValue::Scalar(l.clone()), ColumnarValue::Scalar(r.clone())];
        let folded = (def.eval)(&Invocation { args: &args, rows: 1, ret: &ret, time_zone: &ctx.time_zone });
        if let Ok(ColumnarValue::Scalar(value)) = folded {
            let units = units_of_call(def.name, &ret, &[&left.expr, &right.expr]);
            return Typed::new(Expr::Literal(value, units.map(units_metadata)), ret, nullable);
        }
    }
    def.expression(ctx, Bound { args: vec![left, right], ret, nullable })
}

/// Months, then days, then the rest.
fn plus_mixed(ctx: &BindContext, op: Op, mode: Mode, left: Typed, right: Typed) -> Typed {
    let def = match (op, mode) {
        (Op::Add, Mode::Ansi) => &temporal::PLUS_MIXED,
        (Op::Add, Mode::Try) => &temporal::TRY_PLUS_MIXED,
        (_, Mode::Ansi) => &temporal::MINUS_MIXED,
        (_, Mode::Try) => &temporal::TRY_MINUS_MIXED,
    };
    let ret = left.ty.clone();
    call(ctx, def, left, right, ret, mode)
}

fn plus_interval(ctx: &BindContext, op: Op, mode: Mode, left: Typed, right: Typed) -> Result<Typed> {
    let add = op == Op::Add;
    if right.ty == YEAR_MONTH {
        let def = match (add, mode) {
            (true, Mode::Ansi) => &temporal::PLUS_MONTHS,
            (true, Mode::Try) => &temporal::TRY_PLUS_MONTHS,
            (false, Mode::Ansi) => &temporal::MINUS_MONTHS,
            (false, Mode::Try) => &temporal::TRY_MINUS_MONTHS,
        };
        let ret = left.ty.clone();
        return Ok(call(ctx, def, left, right, ret, mode));
    }
    let def = match (add, mode) {
        (true, Mode::Ansi) => &temporal::PLUS_DURATION,
        (true, Mode::Try) => &temporal::TRY_PLUS_DURATION,
        (false, Mode::Ansi) => &temporal::MINUS_DURATION,
        (false, Mode::Try) => &temporal::TRY_MINUS_DURATION,
    };
    let left = match (&left.ty, interval_units(&right)) {
        (DataType::Date32, Some(IntervalUnits { start: IntervalField::Day, end: IntervalField::Day })) => left,
        (DataType::Date32, Some(_)) => implicit_cast(ctx, left, &types::timestamp())?,
        (DataType::Date32, None) => {
            return Err(Error::not_eligible(
                "whether DATE + INTERVAL is a DATE or a TIMESTAMP depends on the interval's fields, which are known of literals only",
            ));
        }
        _ => left,
    };
    let ret = left.ty.clone();
    Ok(call(ctx, def, left, right, ret, mode))
}

fn scaled(ctx: &BindContext, op: Op, mode: Mode, left: Typed, right: Typed) -> Result<Typed> {
    let factor = match &right.ty {
        ty if types::is_integral(ty) => DataType::Int64,
        ty if types::is_float(ty) => DataType::Float64,
        DataType::Utf8 | DataType::Null => DataType::Float64,
        ty if types::is_decimal(ty) => ty.clone(),
        _ => return Err(wrong_operands(op.symbol(), &left.ty, &right.ty, "an INTERVAL and a NUMERIC")),
    };
    let right = implicit_cast(ctx, right, &factor)?;
    let def = match (op, mode) {
        (Op::Multiply, Mode::Ansi) => &temporal::INTERVAL_MULTIPLY,
        (Op::Multiply, Mode::Try) => &temporal::TRY_INTERVAL_MULTIPLY,
        (_, Mode::Ansi) => &temporal::INTERVAL_DIVIDE,
        (_, Mode::Try) => &temporal::TRY_INTERVAL_DIVIDE,
    };
    let ret = left.ty.clone();
    Ok(call(ctx, def, left, right, ret, mode))
}

//! INTERVAL literals: which fields they have, their value, and their text.

use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::ast::{DateTimeField, Expr, Interval, IntervalFields, UnaryOperator, Value};
use flightpath_functions::Typed;
use flightpath_functions::ops::{IntervalField, IntervalUnits, interval_literal};
use flightpath_types::{Error, Result};

use super::error;
use super::expr::Bound;

/// Fields from long to short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Unit {
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
}

const MICROS: i64 = 1_000_000;

/// Micros of one unit of a day-time field.
fn micros_of(unit: Unit) -> i64 {
    match unit {
        Unit::Year | Unit::Month => 0,
        Unit::Day => 86_400 * MICROS,
        Unit::Hour => 3_600 * MICROS,
        Unit::Minute => 60 * MICROS,
        Unit::Second => MICROS,
    }
}

pub(super) fn interval(interval: &Interval) -> Result<Bound> {
    let (negative, text) = match interval.value.as_ref() {
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => (true, value_text(expr)?),
        other => (false, value_text(other)?),
    };
    let bad = || {
        error::classed(
            "INVALID_INTERVAL_FORMAT.INPUT_IS_NULL",
            "22006",
            format!("Error parsing '{text}' to interval: it doesn't match the fields that are asked for."),
        )
    };
    let value = match (&interval.leading_field, &interval.last_field) {
        (None, None) => from_parts(&text),
        (Some(field), None) => single(&text, field),
        (Some(from), Some(to)) => {
            let (from, to) = (unit_of(from).ok_or_else(bad)?.0, unit_of(to).ok_or_else(bad)?.0);
            compound(&text, from, to)
        }
        (None, Some(_)) => None,
    };
    let Some(mut value) = value else { return Err(bad()) };
    if negative {
        value.amount = value.amount.checked_neg().ok_or_else(bad)?;
    }
    value.bound()
}

fn value_text(expr: &Expr) -> Result<String> {
    match expr {
        Expr::Value(v) => match &v.value {
            Value::Number(n, _) => Ok(n.clone()),
            Value::SingleQuotedString(s) => Ok(s.trim().to_string()),
            other => Err(Error::not_eligible(format!("INTERVAL {other} isn't supported"))),
        },
        other => Err(Error::not_eligible(format!("INTERVAL {other} isn't supported: only literals are"))),
    }
}

/// An interval: months or microseconds, and the range of its fields.
struct Amount {
    amount: i64,
    from: Unit,
    to: Unit,
}

/// The field, and how many of it the written unit is, in that field's own base (months, microseconds).
fn unit_of(field: &DateTimeField) -> Option<(Unit, i64)> {
    Some(match field {
        DateTimeField::Year => (Unit::Year, 12),
        DateTimeField::Quarter => (Unit::Month, 3),
        DateTimeField::Month => (Unit::Month, 1),
        DateTimeField::Weeks => (Unit::Day, 7 * micros_of(Unit::Day)),
        DateTimeField::Day => (Unit::Day, micros_of(Unit::Day)),
        DateTimeField::Hour => (Unit::Hour, micros_of(Unit::Hour)),
        DateTimeField::Minute => (Unit::Minute, micros_of(Unit::Minute)),
        DateTimeField::Second => (Unit::Second, MICROS),
        DateTimeField::Millisecond => (Unit::Second, 1_000),
        DateTimeField::Microsecond => (Unit::Second, 1),
        _ => return None,
    })
}

fn named_unit(name: &str) -> Option<(Unit, i64)> {
    let field = match name.to_ascii_lowercase().trim_end_matches('s') {
        "year" => DateTimeField::Year,
        "quarter" => DateTimeField::Quarter,
        "month" => DateTimeField::Month,
        "week" => DateTimeField::Weeks,
        "day" => DateTimeField::Day,
        "hour" => DateTimeField::Hour,
        "minute" => DateTimeField::Minute,
        "second" => DateTimeField::Second,
        "millisecond" => DateTimeField::Millisecond,
        "microsecond" => DateTimeField::Microsecond,
        _ => return None,
    };
    unit_of(&field)
}

/// `3` or `1.5` of one unit; only seconds have a fraction.
fn scaled(text: &str, unit: Unit, base: i64) -> Option<i64> {
    let text = text.trim();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    if !fraction.is_empty() && (unit != Unit::Second || base != MICROS) {
        return None;
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // More than nine digits aren't taken; those behind the sixth are cut off.
    if fraction.len() > 9 {
        return None;
    }
    let micros: i64 = format!("{fraction:0<6}")[..6].parse().ok()?;
    let value = whole.checked_mul(base)?.checked_add(micros)?;
    Some(if negative { -value } else { value })
}

fn single(text: &str, field: &DateTimeField) -> Option<Amount> {
    let (unit, base) = unit_of(field)?;
    Some(Amount { amount: scaled(text, unit, base)?, from: unit, to: unit })
}

/// `1 day 2 hours`: pairs of number and unit.
fn from_parts(text: &str) -> Option<Amount> {
    let lower = text.to_ascii_lowercase();
    let mut words = lower.split_whitespace().peekable();
    if words.peek() == Some(&"interval") {
        words.next();
    }
    let mut amount: Option<Amount> = None;
    while let Some(number) = words.next() {
        let (number, unit) = match number.find(|c: char| c.is_ascii_alphabetic()) {
            Some(at) => (number[..at].to_string(), number[at..].to_string()),
            None => (number.to_string(), words.next()?.to_string()),
        };
        let (unit, base) = named_unit(&unit)?;
        let value = scaled(&number, unit, base)?;
        amount = Some(match amount {
            None => Amount { amount: value, from: unit, to: unit },
            // Months and days don't mix.
            Some(so_far) if (so_far.from <= Unit::Month) == (unit <= Unit::Month) => {
                Amount { amount: so_far.amount.checked_add(value)?, from: so_far.from.min(unit), to: so_far.to.max(unit) }
            }
            Some(_) => return None,
        });
    }
    amount
}

/// Microseconds of a text such as `10 minutes`; none of months and years.
pub(super) fn duration(text: &str) -> Option<i64> {
    from_parts(text).filter(|a| a.from >= Unit::Day).map(|a| a.amount)
}

/// What `CAST(x AS INTERVAL ...)` makes of a literal text, number or interval; `None` of anything else.
pub(super) fn cast(value: &ScalarValue, fields: &IntervalFields) -> Option<Result<Typed>> {
    let (from, to) = fields_of(fields);
    let amount = match value {
        ScalarValue::Utf8(Some(text)) => {
            let Some(amount) = parse_cast(text, from, to) else {
                return Some(Err(Error::raised(
                    "INVALID_INTERVAL_FORMAT.UNMATCHED_FORMAT_STRING",
                    "22006",
                    format!("Error parsing '{text}' to interval: it doesn't match the fields that are asked for."),
                )));
            };
            amount
        }
        ScalarValue::IntervalYearMonth(Some(months)) if from <= Unit::Month => cut(i64::from(*months), to),
        ScalarValue::DurationMicrosecond(Some(micros)) if from > Unit::Month => cut(*micros, to),
        ScalarValue::Int8(Some(n)) if from == to => times(i64::from(*n), to)?,
        ScalarValue::Int16(Some(n)) if from == to => times(i64::from(*n), to)?,
        ScalarValue::Int32(Some(n)) if from == to => times(i64::from(*n), to)?,
        ScalarValue::Int64(Some(n)) if from == to => times(*n, to)?,
        _ => return None,
    };
    let mut typed = Amount { amount, from, to }.bound().map(|b| b.t);
    if let (Ok(t), ScalarValue::Utf8(_)) = (&mut typed, value) {
        t.nullable = true;
    }
    Some(typed)
}

/// `1-2`, or the whole literal `INTERVAL '1-2' YEAR TO MONTH`.
fn parse_cast(text: &str, from: Unit, to: Unit) -> Option<i64> {
    let text = text.trim();
    let amount = Amount { amount: 0, from, to };
    let inner = match text.get(..8) {
        Some(word) if word.eq_ignore_ascii_case("interval") => {
            let (digits, fields) = text[8..].trim().strip_prefix('\'')?.split_once('\'')?;
            if !fields.trim().eq_ignore_ascii_case(&amount.fields()) {
                return None;
            }
            digits
        }
        _ => text,
    };
    if from == to { scaled(inner, from, base_of(from)) } else { compound(inner, from, to).map(|a| a.amount) }
}

fn base_of(unit: Unit) -> i64 {
    match unit {
        Unit::Year => 12,
        Unit::Month => 1,
        other => micros_of(other),
    }
}

/// Without what is less than the last field.
fn cut(amount: i64, to: Unit) -> i64 {
    if to == Unit::Second { amount } else { amount - amount % base_of(to) }
}

fn times(n: i64, unit: Unit) -> Option<i64> {
    n.checked_mul(base_of(unit)).filter(|amount| unit > Unit::Month || i32::try_from(*amount).is_ok())
}

fn fields_of(fields: &IntervalFields) -> (Unit, Unit) {
    match fields {
        IntervalFields::Year => (Unit::Year, Unit::Year),
        IntervalFields::Month => (Unit::Month, Unit::Month),
        IntervalFields::YearToMonth => (Unit::Year, Unit::Month),
        IntervalFields::Day => (Unit::Day, Unit::Day),
        IntervalFields::Hour => (Unit::Hour, Unit::Hour),
        IntervalFields::Minute => (Unit::Minute, Unit::Minute),
        IntervalFields::Second => (Unit::Second, Unit::Second),
        IntervalFields::DayToHour => (Unit::Day, Unit::Hour),
        IntervalFields::DayToMinute => (Unit::Day, Unit::Minute),
        IntervalFields::DayToSecond => (Unit::Day, Unit::Second),
        IntervalFields::HourToMinute => (Unit::Hour, Unit::Minute),
        IntervalFields::HourToSecond => (Unit::Hour, Unit::Second),
        IntervalFields::MinuteToSecond => (Unit::Minute, Unit::Second),
    }
}

/// `1-2` YEAR TO MONTH, `1 02:03:04.5` DAY TO SECOND and all between.
fn compound(text: &str, from: Unit, to: Unit) -> Option<Amount> {
    if from >= to || (from <= Unit::Month) != (to <= Unit::Month) {
        return None;
    }
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest.trim_start()),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let amount = if from == Unit::Year {
        let (years, months) = digits.split_once('-')?;
        let months: i64 = months.trim().parse().ok().filter(|m| (0..12).contains(m))?;
        years.trim().parse::<i64>().ok()?.checked_mul(12)?.checked_add(months)?
    } else {
        let (days, time) = if from == Unit::Day { digits.split_once([' ', 'T'])? } else { ("0", digits) };
        let first = if from == Unit::Day { Unit::Hour } else { from };
        let units: Vec<Unit> = [Unit::Hour, Unit::Minute, Unit::Second].into_iter().filter(|u| *u >= first && *u <= to).collect();
        let fields: Vec<&str> = time.trim().split(':').collect();
        if fields.len() != units.len() {
            return None;
        }
        let mut sum = days.trim().parse::<i64>().ok().filter(|d| *d >= 0)?.checked_mul(micros_of(Unit::Day))?;
        for (i, (unit, field)) in units.iter().zip(fields).enumerate() {
            let value = scaled(field, *unit, micros_of(*unit)).filter(|v| *v >= 0)?;
            // A field below another is bounded by it.
            let bounded = i > 0 || from == Unit::Day;
            let limit = if *unit == Unit::Hour { micros_of(Unit::Day) } else { 60 * micros_of(*unit) };
            if bounded && value >= limit {
                return None;
            }
            sum = sum.checked_add(value)?;
        }
        sum
    };
    Some(Amount { amount: if negative { -amount } else { amount }, from, to })
}

impl Amount {
    fn bound(&self) -> Result<Bound> {
        let name = format!("INTERVAL '{}' {}", self.text(), self.fields());
        let field = |unit: Unit| match unit {
            Unit::Year => IntervalField::Year,
            Unit::Month => IntervalField::Month,
            Unit::Day => IntervalField::Day,
            Unit::Hour => IntervalField::Hour,
            Unit::Minute => IntervalField::Minute,
            Unit::Second => IntervalField::Second,
        };
        let t = interval_literal(self.amount, IntervalUnits { start: field(self.from), end: field(self.to) })?;
        Ok(Bound::new(t, name))
    }

    fn fields(&self) -> String {
        let word = |unit: Unit| match unit {
            Unit::Year => "YEAR",
            Unit::Month => "MONTH",
            Unit::Day => "DAY",
            Unit::Hour => "HOUR",
            Unit::Minute => "MINUTE",
            Unit::Second => "SECOND",
        };
        if self.from == self.to { word(self.from).into() } else { format!("{} TO {}", word(self.from), word(self.to)) }
    }

    fn text(&self) -> String {
        let sign = if self.amount < 0 { "-" } else { "" };
        let amount = self.amount.unsigned_abs();
        match (self.from, self.to) {
            (Unit::Year, Unit::Year) => return format!("{sign}{}", amount / 12),
            (Unit::Month, _) => return format!("{sign}{amount}"),
            (Unit::Year, _) => return format!("{sign}{}-{}", amount / 12, amount % 12),
            _ => {}
        }
        let mut rest = amount;
        let mut out = sign.to_string();
        for (i, unit) in
            [Unit::Day, Unit::Hour, Unit::Minute, Unit::Second].into_iter().filter(|u| *u >= self.from && *u <= self.to).enumerate()
        {
            let one = micros_of(unit).unsigned_abs();
            let count = rest / one;
            rest %= one;
            if i > 0 {
                out.push(if unit == Unit::Hour { ' ' } else { ':' });
            }
            if unit == Unit::Day {
                out.push_str(&count.to_string())
            } else {
                out.push_str(&format!("{count:02}"))
            }
            if unit == Unit::Second && rest > 0 {
                let fraction = format!("{rest:06}");
                out.push('.');
                out.push_str(fraction.trim_end_matches('0'));
            }
        }
        out
    }
}

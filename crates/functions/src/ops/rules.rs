//! Operators on DuckDB. Text of a decimal type always has that type's scale in DuckDB, in any
//! width that holds its values; text of any other type has exactly the type's DuckDB name.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;

use super::arithmetic::Op;
use crate::cast::{Mode, zone::Zone};
use crate::def::DuckCall;
use crate::errors::duck;
use crate::strings::duck as text;
use crate::{duckdb, types};

/// DuckDB computes decimals of up to 18 digits in 64 bits, several times faster than wider ones,
/// and raises when a result doesn't fit. With this many digits left before the point it is let to.
const WHOLE_DIGITS_MIN: i32 = 12;
/// The same for products that may have more digits than DuckDB's widest decimal.
const WHOLE_DIGITS_MIN_WIDE: i32 = 20;
const NARROW_DIGITS: i32 = 18;
const WIDE_DIGITS: i32 = 38;
/// Operands are repeated in some rules; text beyond this isn't sent.
const TEXT_BYTES_MAX: usize = 64 * 1024;

fn unknown(call: &DuckCall<'_>, operator: &str) -> String {
    let names: Vec<String> = call.types.iter().map(types::name).collect();
    format!("`{operator}` of {} isn't known to answer as Databricks does on DuckDB", names.join(" and "))
}

fn pair<'a>(call: &'a DuckCall<'_>, operator: &str) -> Result<(&'a str, &'a str), String> {
    match call.args {
        [a, b] => Ok((a, b)),
        _ => Err(unknown(call, operator)),
    }
}

fn single<'a>(call: &'a DuckCall<'_>, operator: &str) -> Result<&'a str, String> {
    match call.args {
        [a] => Ok(a),
        _ => Err(unknown(call, operator)),
    }
}

fn bounded(text: String) -> Result<String, String> {
    if text.len() > TEXT_BYTES_MAX { Err("the expression becomes too long for DuckDB".into()) } else { Ok(text) }
}

/// Whether the second operand is a literal that isn't zero.
fn nonzero_literal(call: &DuckCall<'_>) -> bool {
    let Some(Some(value)) = call.literals.get(1) else { return false };
    match value {
        ScalarValue::Int8(Some(v)) => *v != 0,
        ScalarValue::Int16(Some(v)) => *v != 0,
        ScalarValue::Int32(Some(v)) => *v != 0,
        ScalarValue::Int64(Some(v)) => *v != 0,
        ScalarValue::Float32(Some(v)) => *v != 0.0,
        ScalarValue::Float64(Some(v)) => *v != 0.0,
        ScalarValue::Decimal128(Some(v), ..) => *v != 0,
        _ => false,
    }
}

fn literal_integer(call: &DuckCall<'_>, index: usize) -> Option<i64> {
    match call.literals.get(index)?.as_ref()? {
        ScalarValue::Int8(Some(v)) => Some(i64::from(*v)),
        ScalarValue::Int16(Some(v)) => Some(i64::from(*v)),
        ScalarValue::Int32(Some(v)) => Some(i64::from(*v)),
        ScalarValue::Int64(Some(v)) => Some(*v),
        _ => None,
    }
}

/// `expression`, or the zero divisor's error (or NULL) where the divisor is zero.
fn divided(call: &DuckCall<'_>, mode: Mode, raise: &str, expression: &str) -> Result<String, String> {
    let (a, b) = pair(call, "/")?;
    bounded(match mode {
        _ if nonzero_literal(call) => format!("({expression})"),
        Mode::Try => format!("(CASE WHEN {b} <> 0 THEN {expression} END)"),
        Mode::Ansi => format!("(CASE WHEN {b} = 0 AND {a} IS NOT NULL THEN {raise} ELSE {expression} END)"),
    })
}

pub(crate) fn arithmetic(call: &DuckCall<'_>, op: Op, mode: Mode) -> Result<String, String> {
    let (a, b) = pair(call, op.symbol())?;
    match (call.types, op) {
        ([DataType::Decimal128(p1, s1), DataType::Decimal128(p2, s2)], _) => decimal(call, op, mode, (*p1, *s1), (*p2, *s2)),
        ([l, r], _) if types::is_integral(l) && l == r => integral(call, op, mode, a, b, l),
        ([l, r], _) if types::is_float(l) && l == r => match op {
            Op::Add | Op::Subtract | Op::Multiply => Ok(format!("({a} {} {b})", op.symbol())),
            Op::Divide => divided(call, mode, &duck::divide_by_zero(), &format!("{a} / {b}")),
            Op::Remainder => divided(call, mode, &duck::remainder_by_zero(), &format!("{a} % {b}")),
            Op::Pmod => divided(
                call,
                mode,
                &duck::remainder_by_zero(),
                &format!("CASE WHEN {a} % {b} < 0 THEN ({a} % {b} + {b}) % {b} ELSE {a} % {b} END"),
            ),
            Op::Integral => Err(unknown(call, "div")),
        },
        _ => Err(unknown(call, op.symbol())),
    }
}

fn integral(call: &DuckCall<'_>, op: Op, mode: Mode, a: &str, b: &str, ty: &DataType) -> Result<String, String> {
    let symbol = op.symbol();
    let name = duckdb::type_name(ty)?;
    let divisor = literal_integer(call, 1);
    match op {
        // Databricks' error of these two widths is another than that of wider ones.
        Op::Add | Op::Subtract | Op::Multiply if mode == Mode::Ansi && matches!(ty, DataType::Int8 | DataType::Int16) => {
            let message = duckdb::string("The result caused overflow. Use a wider type or a `try_` function.");
            let raise = duckdb::raise("BINARY_ARITHMETIC_OVERFLOW", "22003", &message);
            let given = format!("{a} IS NOT NULL AND {b} IS NOT NULL");
            bounded(format!("coalesce(TRY_CAST(CAST({a} AS INTEGER) {symbol} {b} AS {name}), CASE WHEN {given} THEN {raise} END)"))
        }
        // DuckDB raises on overflow in the same widths.
        Op::Add | Op::Subtract | Op::Multiply if mode == Mode::Ansi => Ok(format!("({a} {symbol} {b})")),
        Op::Add | Op::Subtract | Op::Multiply => Ok(duckdb::hidden(&format!("TRY_CAST(CAST({a} AS HUGEINT) {symbol} {b} AS {name})"))),
        Op::Remainder => {
            // DuckDB raises for the least value by minus one, whose remainder is 0.
            let expression = match divisor {
                Some(-1) => format!("{a} - {a}"),
                Some(_) => format!("{a} % {b}"),
                None => format!("CASE WHEN {b} = -1 THEN {a} - {a} ELSE {a} % {b} END"),
            };
            divided(call, mode, &duck::remainder_by_zero(), &expression)
        }
        Op::Pmod => match divisor {
            Some(1..) => bounded(format!("(CASE WHEN {a} % {b} < 0 THEN {a} % {b} + {b} ELSE {a} % {b} END)")),
            // In whole numbers that hold every sum; what comes out is nearer to zero than the divisor.
            _ => {
                let (x, y) = (format!("CAST({a} AS HUGEINT)"), format!("CAST({b} AS HUGEINT)"));
                // Java adds in wrapping arithmetic of at least 32 bits, which shows for great negative divisors.
                let (least, span) = match ty {
                    DataType::Int64 => ("-9223372036854775808", "18446744073709551616"),
                    _ => ("-2147483648", "4294967296"),
                };
                let sum = format!("({x} % {y} + {y} + CASE WHEN {x} % {y} + {y} < {least} THEN CAST('{span}' AS HUGEINT) ELSE 0 END)");
                let text = format!("CAST(CASE WHEN {x} % {y} < 0 THEN {sum} % {y} ELSE {x} % {y} END AS {name})");
                divided(call, mode, &duck::remainder_by_zero(), &text)
            }
        },
        Op::Integral => divided(call, mode, &duck::divide_by_zero(), &format!("CAST({a} AS BIGINT) // CAST({b} AS BIGINT)")),
        Op::Divide => Err(unknown(call, symbol)),
    }
}

type Ps = (u8, i8);

fn decimal(call: &DuckCall<'_>, op: Op, mode: Mode, left: Ps, right: Ps) -> Result<String, String> {
    let (a, b) = pair(call, op.symbol())?;
    let ((p1, s1), (p2, s2)) = ((i32::from(left.0), i32::from(left.1)), (i32::from(right.0), i32::from(right.1)));
    let common_scale = s1.max(s2);
    let common_digits = (p1 - s1).max(p2 - s2) + common_scale;
    let (precision, scale) = match call.ret {
        DataType::Decimal128(p, s) => (i32::from(*p), i32::from(*s)),
        DataType::Int64 => (20, 0),
        _ => return Err(unknown(call, op.symbol())),
    };
    let wide = "the exact result may have more digits than DuckDB's decimals hold";
    match op {
        Op::Add | Op::Subtract => {
            if mode == Mode::Try && common_digits + 1 > WIDE_DIGITS {
                return Err(unknown(call, op.symbol()));
            }
            // A wide operand is most likely a product that DuckDB computes in 64 bits.
            let derived = p1 > NARROW_DIGITS || p2 > NARROW_DIGITS;
            let narrow =
                common_digits < NARROW_DIGITS || (mode == Mode::Ansi && derived && NARROW_DIGITS - common_scale >= WHOLE_DIGITS_MIN);
            if common_digits > WIDE_DIGITS || (scale < common_scale && WIDE_DIGITS - common_scale < WHOLE_DIGITS_MIN) {
                return Err(wide.into());
            }
            let sum =
                if narrow { format!("({a} {} {b})", op.symbol()) } else { format!("(CAST({a} AS DECIMAL(38,{s1})) {} {b})", op.symbol()) };
            Ok(if scale < common_scale { format!("CAST({sum} AS DECIMAL({precision},{scale}))") } else { sum })
        }
        Op::Multiply => {
            let exact_scale = s1 + s2;
            if mode == Mode::Try && p1 + p2 > WIDE_DIGITS {
                return Err(unknown(call, "*"));
            }
            let narrow = p1 + p2 <= NARROW_DIGITS || (mode == Mode::Ansi && NARROW_DIGITS - exact_scale >= WHOLE_DIGITS_MIN);
            if !narrow && p1 + p2 > WIDE_DIGITS && WIDE_DIGITS - exact_scale < WHOLE_DIGITS_MIN_WIDE {
                return Err(wide.into());
            }
            let product =
                if narrow { format!("({a} * {b})") } else { format!("(CAST({a} AS DECIMAL({},{s1})) * {b})", p1.max(NARROW_DIGITS + 1)) };
            Ok(if scale < exact_scale { format!("CAST({product} AS DECIMAL({precision},{scale}))") } else { product })
        }
        Op::Divide => {
            let shift = scale + s2 - s1;
            if mode == Mode::Try && (p1 + shift.max(0) + 1 > WIDE_DIGITS || p2 + (-shift).max(0) + 1 > WIDE_DIGITS) {
                return Err(unknown(call, "/"));
            }
            if shift.abs() > WIDE_DIGITS {
                return Err(wide.into());
            }
            // Fewer digits before the point than wide types have are let through: they are sums more often than
            // full. Beyond, DuckDB raises an overflow of its own, and a query that was routed there moves on.
            divide(call, mode, (a, s1), (b, s2), scale)
        }
        Op::Remainder if common_digits <= WIDE_DIGITS && scale == common_scale => {
            divided(call, mode, &duck::remainder_by_zero(), &format!("{a} % {b}"))
        }
        // A remainder made positive must fit where the dividend does.
        Op::Pmod if common_digits <= WIDE_DIGITS && scale == common_scale && p2 - s2 <= p1 - s1 => divided(
            call,
            mode,
            &duck::remainder_by_zero(),
            &format!("CASE WHEN {a} % {b} < 0 THEN ({a} % {b} + {b}) % {b} ELSE {a} % {b} END"),
        ),
        Op::Remainder | Op::Pmod => Err(wide.into()),
        Op::Integral => {
            let (x, y) = (unscaled(a, s1, common_scale - s1), unscaled(b, s2, common_scale - s2));
            if (p1 - s1).max(p2 - s2) + common_scale > WIDE_DIGITS {
                return Err(wide.into());
            }
            let refuse = text::refuse_value("A quotient beyond BIGINT isn't known on DuckDB.");
            let quotient =
                format!("coalesce(TRY_CAST({x} // {y} AS BIGINT), CASE WHEN {a} IS NOT NULL AND {b} IS NOT NULL THEN {refuse} END)");
            divided(call, mode, &duck::divide_by_zero(), &quotient)
        }
    }
}

fn divide(call: &DuckCall<'_>, mode: Mode, (a, s1): (&str, i32), (b, s2): (&str, i32), scale: i32) -> Result<String, String> {
    divided(call, mode, &duck::divide_by_zero(), &quotient((a, s1), (b, s2), scale))
}

/// `a / b` of decimals of the given scales, exactly, in whole numbers, HALF_UP: DuckDB itself
/// divides decimals as doubles. The divisor mustn't be zero.
pub(crate) fn quotient((a, s1): (&str, i32), (b, s2): (&str, i32), scale: i32) -> String {
    let shift = scale + s2 - s1;
    let (x, y) = (unscaled(a, s1, shift.max(0)), unscaled(b, s2, (-shift).max(0)));
    let rounded = format!("({x} * 2 + CASE WHEN {a} < 0 THEN -abs({y}) ELSE abs({y}) END) // ({y} * 2)");
    if scale == 0 {
        return format!("CAST({rounded} AS DECIMAL(38,0))");
    }
    let unit = duckdb::decimal_text(1, scale as usize);
    format!("(CAST({rounded} AS DECIMAL(38,0)) * CAST('{unit}' AS DECIMAL({scale},{scale})))")
}

/// A decimal's digits times `10^shift` as a HUGEINT.
fn unscaled(text: &str, scale: i32, shift: i32) -> String {
    let power = scale + shift;
    if power == 0 {
        format!("CAST({text} AS HUGEINT)")
    } else if WIDE_DIGITS - scale - power >= WHOLE_DIGITS_MIN {
        format!(
            "CAST(CAST({text} AS DECIMAL(38,{scale})) * CAST('1{}' AS DECIMAL({},0)) AS HUGEINT)",
            "0".repeat(power as usize),
            power + 1
        )
    } else {
        let digits = if scale == 0 {
            format!("CAST({text} AS HUGEINT)")
        } else {
            format!("CAST(replace(CAST({text} AS VARCHAR), '.', '') AS HUGEINT)")
        };
        if shift == 0 { digits } else { format!("({digits} * CAST('1{}' AS HUGEINT))", "0".repeat(shift as usize)) }
    }
}

pub(crate) fn infix(call: &DuckCall<'_>, operator: &str) -> Result<String, String> {
    let (a, b) = pair(call, operator)?;
    Ok(format!("({a} {operator} {b})"))
}

pub(crate) fn bit_xor(call: &DuckCall<'_>) -> Result<String, String> {
    let (a, b) = pair(call, "^")?;
    Ok(format!("xor({a}, {b})"))
}

pub(crate) fn bit_not(call: &DuckCall<'_>) -> Result<String, String> {
    Ok(format!("(~{})", single(call, "~")?))
}

pub(crate) fn shift_left(call: &DuckCall<'_>) -> Result<String, String> {
    let (a, b) = pair(call, "<<")?;
    let distance = |mask: i64| match literal_integer(call, 1) {
        Some(n) => (n & mask).to_string(),
        None => format!("CAST({b} & {mask} AS HUGEINT)"),
    };
    // DuckDB raises where bits are shifted out: in whole numbers that hold them, and the low bits kept.
    Ok(if call.ret == &DataType::Int64 {
        let kept = |n: &str| format!("(CAST({a} AS HUGEINT) & ((CAST(1 AS HUGEINT) << CAST(64 - {n} AS HUGEINT)) - 1))");
        let n = distance(63);
        signed(&format!("({} * (CAST(1 AS HUGEINT) << CAST({n} AS HUGEINT)))", kept(&n)), 64, "BIGINT")
    } else {
        let n = distance(31);
        let low = format!("((CAST({a} AS HUGEINT) * (CAST(1 AS HUGEINT) << CAST({n} AS HUGEINT))) & CAST(4294967295 AS HUGEINT))");
        signed(&low, 32, "INTEGER")
    })
}

pub(crate) fn shift_right(call: &DuckCall<'_>) -> Result<String, String> {
    let (a, b) = pair(call, ">>")?;
    let mask = if call.ret == &DataType::Int64 { 63 } else { 31 };
    Ok(format!("({a} >> ({b} & {mask}))"))
}

pub(crate) fn shift_right_unsigned(call: &DuckCall<'_>) -> Result<String, String> {
    let (a, b) = pair(call, ">>>")?;
    let (bits, name) = if call.ret == &DataType::Int64 { (64, "BIGINT") } else { (32, "INTEGER") };
    let all = (1_i128 << bits) - 1;
    let low = format!("((CAST({a} AS HUGEINT) & CAST('{all}' AS HUGEINT)) >> CAST({b} & {} AS HUGEINT))", bits - 1);
    Ok(signed(&low, bits, name))
}

/// The low `bits` of a number that isn't negative, as a signed number of that width.
fn signed(low: &str, bits: u32, name: &str) -> String {
    let (half, span) = (1_i128 << (bits - 1), 1_i128 << bits);
    let value = format!("CASE WHEN fp_v >= CAST('{half}' AS HUGEINT) THEN fp_v - CAST('{span}' AS HUGEINT) ELSE fp_v END");
    format!("list_transform([{low}], lambda fp_v: CAST({value} AS {name}))[1]")
}

pub(crate) fn negate(call: &DuckCall<'_>) -> Result<String, String> {
    Ok(format!("(-{})", single(call, "-")?))
}

pub(crate) fn same(call: &DuckCall<'_>) -> Result<String, String> {
    Ok(single(call, "nullable")?.to_owned())
}

/// DuckDB compares and groups floats as Databricks does.
pub(crate) fn compared_float(call: &DuckCall<'_>) -> Result<String, String> {
    Ok(single(call, "=")?.to_owned())
}

/// What is shown of a group of -0.0 and 0.0 must be 0.0.
pub(crate) fn normalized_float(call: &DuckCall<'_>) -> Result<String, String> {
    let value = single(call, "=")?;
    match call.ret {
        DataType::Float32 | DataType::Float64 => Ok(format!("({value} + 0)")),
        DataType::List(item) if types::is_float(item.data_type()) => Ok(format!("list_transform({value}, lambda v : v + 0)")),
        ty => Err(format!("groups of {} with floats in them may show either zero", types::sql_name(ty))),
    }
}

fn ansi(call: &DuckCall<'_>, mode: Mode, operator: &str) -> Result<(), String> {
    if mode == Mode::Try { Err(format!("try_: {}", unknown(call, operator))) } else { Ok(()) }
}

/// The session zone must be UTC where a rule reads a TIMESTAMP's wall clock.
pub(crate) fn utc_only(call: &DuckCall<'_>) -> Result<(), String> {
    match Zone::parse(call.time_zone) {
        Some(zone) if zone.is_utc() => Ok(()),
        _ => Err(format!("the session's time zone is {}, and on DuckDB wall clocks of a TIMESTAMP are known in UTC only", call.time_zone)),
    }
}

pub(crate) fn date_plus_days(call: &DuckCall<'_>, mode: Mode) -> Result<String, String> {
    ansi(call, mode, "+")?;
    infix(call, "+")
}

pub(crate) fn date_minus_days(call: &DuckCall<'_>, mode: Mode) -> Result<String, String> {
    ansi(call, mode, "-")?;
    infix(call, "-")
}

pub(crate) fn date_difference(call: &DuckCall<'_>, mode: Mode) -> Result<String, String> {
    ansi(call, mode, "-")?;
    let (a, b) = pair(call, "-")?;
    Ok(format!("to_microseconds(({a} - {b}) * CAST(86400000000 AS BIGINT))"))
}

pub(crate) fn timestamp_difference(call: &DuckCall<'_>, mode: Mode) -> Result<String, String> {
    ansi(call, mode, "-")?;
    let (a, b) = pair(call, "-")?;
    if call.types.iter().any(types::is_timestamp) {
        utc_only(call)?;
    }
    Ok(format!("to_microseconds(epoch_us({a}) - epoch_us({b}))"))
}

pub(crate) fn plus_months(call: &DuckCall<'_>, mode: Mode) -> Result<String, String> {
    moved(call, mode, "+")
}

pub(crate) fn minus_months(call: &DuckCall<'_>, mode: Mode) -> Result<String, String> {
    moved(call, mode, "-")
}

pub(crate) fn plus_duration(call: &DuckCall<'_>, mode: Mode) -> Result<String, String> {
    moved(call, mode, "+")
}

pub(crate) fn minus_duration(call: &DuckCall<'_>, mode: Mode) -> Result<String, String> {
    moved(call, mode, "-")
}

fn moved(call: &DuckCall<'_>, mode: Mode, operator: &str) -> Result<String, String> {
    ansi(call, mode, operator)?;
    let (a, b) = pair(call, operator)?;
    match call.types.first() {
        Some(DataType::Date32) => Ok(format!("CAST({a} {operator} {b} AS DATE)")),
        Some(t) if types::is_timestamp_ntz(t) => Ok(format!("({a} {operator} {b})")),
        Some(t) if types::is_timestamp(t) => {
            utc_only(call)?;
            Ok(format!("make_timestamptz(epoch_us(make_timestamp(epoch_us({a})) {operator} {b}))"))
        }
        _ => Err(unknown(call, operator)),
    }
}

pub(crate) fn plus_mixed(call: &DuckCall<'_>, mode: Mode) -> Result<String, String> {
    mixed(call, mode, "+")
}

pub(crate) fn minus_mixed(call: &DuckCall<'_>, mode: Mode) -> Result<String, String> {
    mixed(call, mode, "-")
}

/// DuckDB's intervals have months, days and microseconds too, added in this order.
fn mixed(call: &DuckCall<'_>, mode: Mode, operator: &str) -> Result<String, String> {
    if call.types.first() != Some(&DataType::Date32) {
        return moved(call, mode, operator);
    }
    ansi(call, mode, operator)?;
    let raise = duckdb::raise(
        "INVALID_INTERVAL_WITH_MICROSECONDS_ADDITION",
        "22006",
        &duckdb::string(crate::errors::microseconds_on_date().message()),
    );
    let (a, b) = pair(call, operator)?;
    Ok(text::once2(a, b, |d, i| {
        let time = format!("hour({i}) <> 0 OR minute({i}) <> 0 OR microsecond({i}) <> 0");
        format!("CASE WHEN {d} IS NOT NULL AND ({time}) THEN {raise} ELSE CAST({d} {operator} {i} AS DATE) END")
    }))
}

pub(crate) fn interval_add(call: &DuckCall<'_>, mode: Mode) -> Result<String, String> {
    ansi(call, mode, "+")?;
    infix(call, "+")
}

pub(crate) fn interval_subtract(call: &DuckCall<'_>, mode: Mode) -> Result<String, String> {
    ansi(call, mode, "-")?;
    infix(call, "-")
}

/// The months of an INTERVAL of months.
pub(crate) fn months_of(interval: &str) -> String {
    format!("(CAST(year({interval}) AS BIGINT) * 12 + month({interval}))")
}

/// The number that an interval stands for: its months or microseconds, a BIGINT.
pub(crate) fn interval_number(ty: &DataType, interval: &str) -> String {
    if *ty == types::YEAR_MONTH { months_of(interval) } else { format!("epoch_us({interval})") }
}

/// An interval of a number of months or microseconds, a name of any integral or decimal type; of one
/// that is too great it's `otherwise`.
pub(crate) fn interval_of(ty: &DataType, number: &str, otherwise: &str) -> String {
    let (make, width) = if *ty == types::YEAR_MONTH { ("to_months", "INTEGER") } else { ("to_microseconds", "BIGINT") };
    format!(
        "CASE WHEN {number} IS NULL THEN NULL WHEN TRY_CAST({number} AS {width}) IS NULL THEN {otherwise} ELSE {make}(CAST({number} AS {width})) END"
    )
}

pub(crate) fn interval_overflow() -> String {
    duckdb::raise("INTERVAL_ARITHMETIC_OVERFLOW", "22015", &duckdb::string(crate::errors::interval_overflow().message()))
}

pub(crate) fn interval_multiply(call: &DuckCall<'_>, mode: Mode) -> Result<String, String> {
    interval_scaled(call, mode, false)
}

pub(crate) fn interval_divide(call: &DuckCall<'_>, mode: Mode) -> Result<String, String> {
    interval_scaled(call, mode, true)
}

/// HALF_UP to whole months or microseconds.
fn interval_scaled(call: &DuckCall<'_>, mode: Mode, divide: bool) -> Result<String, String> {
    let [interval, factor] = call.types else { return Err(unknown(call, "*")) };
    let fail = |raise: String| if mode == Mode::Try { "NULL".to_string() } else { raise };
    let overflow = fail(interval_overflow());
    let error = crate::errors::interval_divided_by_zero();
    let by_zero = fail(duckdb::raise("INTERVAL_DIVIDED_BY_ZERO", "22012", &duckdb::string(error.message())));
    let scale = match factor {
        DataType::Int64 => 0,
        // Products of 19 and 19 digits fit a HUGEINT.
        DataType::Decimal128(p, s) if *p <= 18 && *s >= 0 => u32::try_from(*s).unwrap_or(0),
        DataType::Float64 => 0,
        _ => return Err(unknown(call, if divide { "/" } else { "*" })),
    };
    let unit = 10i64.pow(scale);
    Ok(text::once_all(call.args, |a| {
        let (number, n) = (interval_number(interval, &a[0]), &a[1]);
        let value = if *factor == DataType::Float64 {
            format!("TRY_CAST(round({number} {} {n}) AS HUGEINT)", if divide { "/" } else { "*" })
        } else {
            let digits = if scale == 0 { format!("CAST({n} AS HUGEINT)") } else { format!("CAST({n} * {unit} AS HUGEINT)") };
            let (over, under) = if divide {
                (format!("CAST({number} AS HUGEINT) * {unit}"), digits)
            } else {
                (format!("CAST({number} AS HUGEINT) * {digits}"), unit.to_string())
            };
            let signed = format!("CASE WHEN {under} < 0 THEN -({over}) ELSE {over} END");
            format!("({signed} * 2 + CASE WHEN {signed} < 0 THEN -abs({under}) ELSE abs({under}) END) // (abs({under}) * 2)")
        };
        let made = interval_of(interval, "fp_v", &overflow);
        let zero = if divide { format!("WHEN {n} = 0 THEN {by_zero} ") } else { String::new() };
        let finite = if *factor == DataType::Float64 {
            format!("WHEN NOT isfinite({number} {} {n}) THEN {overflow} ", if divide { "/" } else { "*" })
        } else {
            String::new()
        };
        format!("CASE WHEN {} THEN NULL {zero}{finite}ELSE list_transform([{value}], lambda fp_v: {made})[1] END", text::any_null(a))
    }))
}

pub(crate) fn interval_negate(call: &DuckCall<'_>, mode: Mode) -> Result<String, String> {
    ansi(call, mode, "-")?;
    Ok(format!("(-{})", single(call, "-")?))
}

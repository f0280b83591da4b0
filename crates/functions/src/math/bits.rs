//! Functions of integers and their digits: `hex`, `bin`, `conv`, `factorial`, `bit_count`...

use arrow::datatypes::{DataType, Int8Type, Int32Type, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::ColumnarValue;
use flightpath_types::{Error, Result};

use crate::cast::{Mode, implicit_cast};
use crate::def::{BindContext, Bound, DuckCall, FunctionDef, Invocation, Typed};
use crate::ops::kernel::{binary, unary};
use crate::rows::{Frame, eval};
use crate::sig::{P, arity, call, call_by_name, maybe, rewrite, scalar, strict, unexpected_input};
use crate::strings::duck;
use crate::{lazy, types};

pub(crate) static BITS: &[FunctionDef] = &[
    scalar!("hex", [], bind: bind_hex, eval: hex_of, duckdb: |c| named(c, "hex"), proof: "corpus: hard-078, cast-004"),
    scalar!("unhex", [], bind: |x, a| call(x, "unhex", a, &[P::Str], maybe(DataType::Binary)), eval: eval!(binaries; s: text =>? unhex(s)),
        duckdb: |c| template(c, "CASE WHEN regexp_full_match({}, '[0-9A-Fa-f]*') THEN from_hex(CASE WHEN length({}) % 2 = 1 THEN '0' || {} ELSE {} END) END"), proof: "slt: math"),
    scalar!("bin", [], bind: |x, a| call(x, "bin", a, &[P::Long], strict(DataType::Utf8)), eval: eval!(texts; n: long => format!("{n:b}")),
        duckdb: |c| named(c, "bin"), proof: "slt: math"),
    scalar!("conv", [], bind: |x, a| call(x, "conv", a, &[P::Str, P::Int, P::Int], maybe(DataType::Utf8)),
        eval: eval!(texts; s: text, from: int, to: int =>? conv(s, from, to)?), duckdb: conv_text, proof: "slt: math"),
    scalar!("factorial", [], bind: |x, a| call(x, "factorial", a, &[P::Int], maybe(DataType::Int64)), eval: factorial,
        duckdb: |c| template(c, "CASE WHEN {} BETWEEN 0 AND 20 THEN CAST(factorial({}) AS BIGINT) END"), proof: "corpus: arith-050"),
    scalar!("bit_count", [], bind: bind_bit_count, eval: |c| unary::<Int64Type, Int32Type>(c, Mode::Ansi, |v| (v.count_ones() as i32, false), |_| never()),
        duckdb: |c| template(c, "CAST(bit_count({}) AS INTEGER)"), proof: "corpus: arith-007"),
    scalar!("bitmap_bit_position", [], bind: |x, a| call(x, "bitmap_bit_position", a, &[P::Long], strict(DataType::Int64)),
        eval: eval!(longs; n: long => if n > 0 { (n - 1) % BITMAP_BITS } else { n.wrapping_neg().wrapping_rem(BITMAP_BITS) }),
        duckdb: |c| template(c, "CASE WHEN {} > 0 THEN ({} - 1) % 32768 ELSE -({} % 32768) END"), proof: "slt: statistics"),
    scalar!("bitmap_bucket_number", [], bind: |x, a| call(x, "bitmap_bucket_number", a, &[P::Long], strict(DataType::Int64)),
        eval: eval!(longs; n: long => if n > 0 { 1 + (n - 1) / BITMAP_BITS } else { n / BITMAP_BITS }),
        duckdb: |c| template(c, "CASE WHEN {} > 0 THEN 1 + ({} - 1) // 32768 ELSE {} // 32768 END"), proof: "slt: statistics"),
    scalar!("bitmap_count", [], bind: |x, a| call(x, "bitmap_count", a, &[P::Bin], strict(DataType::Int64)),
        eval: eval!(longs; b: binary => b.iter().map(|byte| i64::from(byte.count_ones())).sum::<i64>()),
        duckdb: |c| template(c, "CASE WHEN octet_length({}) = 0 THEN 0 ELSE CAST(bit_count(CAST({} AS BIT)) AS BIGINT) END"), proof: "slt: statistics"),
    scalar!("bit_get", ["getbit"], bind: bind_bit_get, eval: bit_get, duckdb: bit_get_text, proof: "corpus: arith-007"),
    scalar!("width_bucket", [], bind: bind_width_bucket, eval: width_bucket, duckdb: width_bucket_text, proof: "corpus: agg-051, arith-037"),
    scalar!("isnan", [], bind: bind_isnan, eval: isnan, duckdb: |c| template(c, "coalesce(isnan({}), FALSE)"), proof: "corpus: arith-001, hard-092"),
    rewrite!("nanvl", [], bind: bind_nanvl, proof: "corpus: arith-010, hard-092"),
];

/// How many numbers one bitmap tells apart.
const BITMAP_BITS: i64 = 32_768;

fn never() -> Error {
    Error::internal("a function of integers failed")
}

fn named(call: &DuckCall<'_>, name: &str) -> Result<String, String> {
    Ok(format!("{name}({})", call.args.join(", ")))
}

fn template(call: &DuckCall<'_>, text: &str) -> Result<String, String> {
    match call.args {
        [x] => Ok(format!("({})", text.replace("{}", x))),
        _ => Err("a function of one value called with another number of arguments".into()),
    }
}

fn bind_hex(ctx: &BindContext, args: Vec<Typed>) -> Result<Bound> {
    arity("hex", args.len(), 1, Some(1))?;
    let arg = args.into_iter().next().ok_or_else(never)?;
    let arg = match &arg.ty {
        DataType::Utf8 | DataType::Binary => arg,
        ty if types::is_numeric(ty) || *ty == DataType::Null => implicit_cast(ctx, arg, &DataType::Int64)?,
        ty if types::can_implicitly_cast(ty, &DataType::Utf8) => implicit_cast(ctx, arg, &DataType::Utf8)?,
        ty => return Err(unexpected_input("hex", 0, "BIGINT\" or \"BINARY\" or \"STRING", ty)),
    };
    let nullable = arg.nullable;
    Ok(Bound { args: vec![arg], ret: DataType::Utf8, nullable })
}

fn hex_of(call: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(call)?;
    match frame.ty(0)? {
        DataType::Int64 => {
            let values = frame.long(0)?;
            frame.texts(|row| Ok(values.get(row).map(|v| format!("{v:X}"))))
        }
        DataType::Binary => {
            let values = frame.binary(0)?;
            frame.texts(|row| Ok(values.get(row).map(hex::encode_upper)))
        }
        _ => {
            let values = frame.text(0)?;
            frame.texts(|row| Ok(values.get(row).map(hex::encode_upper)))
        }
    }
}

/// An odd number of digits has a 0 in front; anything but digits is NULL.
fn unhex(text: &str) -> Option<Vec<u8>> {
    if text.len().is_multiple_of(2) { hex::decode(text).ok() } else { hex::decode(format!("0{text}")).ok() }
}

/// Hive's `conv`: unsigned 64 bits, stops at the first character that is no digit.
/// Of numbers that aren't negative, between literal bases.
fn conv_text(call: &DuckCall<'_>) -> Result<String, String> {
    let base = |index: usize| match call.literals.get(index) {
        Some(Some(ScalarValue::Int32(Some(base)))) if (2..=36).contains(base) => Ok(*base),
        _ => Err("conv between bases that aren't literals from 2 to 36 isn't known on DuckDB".to_string()),
    };
    let (from, to) = (base(1)?, base(2)?);
    let digits: String = (0..from.unsigned_abs()).filter_map(|d| char::from_digit(d, from.unsigned_abs())).collect();
    let refuse = duck::refuse_value("`conv` of a negative number or of one beyond BIGINT isn't known on DuckDB.");
    let number = format!(
        "list_reduce(list_transform(regexp_extract_all(lower(regexp_extract(fp_t, '(?i)^[{digits}]*', 0)), '.'), lambda fp_c: CAST(instr('{digits}', fp_c) - 1 AS HUGEINT)), \
         lambda fp_a, fp_d: CASE WHEN fp_a > 18446744073709551615 THEN fp_a ELSE fp_a * {from} + fp_d END, CAST(0 AS HUGEINT))"
    );
    let written = format!(
        "CASE WHEN fp_n > 9223372036854775807 THEN {refuse} ELSE {} END",
        if to == 10 { "CAST(fp_n AS VARCHAR)".to_string() } else { format!("to_base(CAST(fp_n AS BIGINT), {to})") }
    );
    Ok(format!(
        "list_transform([trim({}, ' ')], lambda fp_t: CASE WHEN fp_t IS NULL OR fp_t = '' THEN NULL WHEN fp_t[1] = '-' THEN {refuse} ELSE list_transform([{number}], lambda fp_n: {written})[1] END)[1]",
        call.args[0]
    ))
}

/// More than 64 bits raise.
fn conv(text: &str, from: i32, to: i32) -> Result<Option<String>> {
    const BASES: std::ops::RangeInclusive<u32> = 2..=36;
    let (from, to_abs) = (u32::try_from(from).unwrap_or(0), to.unsigned_abs());
    if !BASES.contains(&from) || !BASES.contains(&to_abs) {
        return Ok(None);
    }
    let text = text.trim_matches(' ');
    if text.is_empty() {
        return Ok(None);
    }
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut value: u64 = 0;
    for digit in digits.chars().map_while(|c| c.to_digit(from)) {
        match value.checked_mul(u64::from(from)).and_then(|v| v.checked_add(u64::from(digit))) {
            Some(v) => value = v,
            None => return Err(crate::errors::arithmetic_overflow("conv")),
        }
    }
    if negative && to > 0 {
        value = if value > i64::MAX as u64 { u64::MAX } else { (value as i64).wrapping_neg() as u64 };
    }
    let mut negative = negative;
    if to < 0 && (value as i64) < 0 {
        value = (value as i64).wrapping_neg() as u64;
        negative = true;
    }
    let mut out = Vec::new();
    loop {
        // A digit of a base up to 36 is always a character.
        out.push(char::from_digit((value % u64::from(to_abs)) as u32, to_abs).unwrap_or('0').to_ascii_uppercase());
        value /= u64::from(to_abs);
        if value == 0 {
            break;
        }
    }
    if negative && to < 0 {
        out.push('-');
    }
    Ok(Some(out.into_iter().rev().collect()))
}

fn factorial(call: &Invocation<'_>) -> Result<ColumnarValue> {
    let f = |n: i32| if (0..=20).contains(&n) { ((1..=i64::from(n)).product(), false) } else { (0, true) };
    unary::<Int32Type, Int64Type>(call, Mode::Try, f, |_| never())
}

fn bind_bit_count(ctx: &BindContext, args: Vec<Typed>) -> Result<Bound> {
    arity("bit_count", args.len(), 1, Some(1))?;
    let arg = args.into_iter().next().ok_or_else(never)?;
    let arg = match &arg.ty {
        DataType::Boolean => crate::cast::cast(ctx, arg, &DataType::Int64)?,
        ty if types::is_integral(ty) || *ty == DataType::Null => implicit_cast(ctx, arg, &DataType::Int64)?,
        ty => return Err(unexpected_input("bit_count", 0, "INTEGRAL\" or \"BOOLEAN", ty)),
    };
    let nullable = arg.nullable;
    Ok(Bound { args: vec![arg], ret: DataType::Int32, nullable })
}

fn bind_bit_get(ctx: &BindContext, args: Vec<Typed>) -> Result<Bound> {
    arity("bit_get", args.len(), 2, Some(2))?;
    let mut args = args.into_iter();
    let (Some(value), Some(position)) = (args.next(), args.next()) else { return Err(never()) };
    if !types::is_integral(&value.ty) {
        return Err(unexpected_input("bit_get", 0, "INTEGRAL", &value.ty));
    }
    if !types::can_implicitly_cast(&position.ty, &DataType::Int32) {
        return Err(unexpected_input("bit_get", 1, "INT", &position.ty));
    }
    let position = implicit_cast(ctx, position, &DataType::Int32)?;
    let nullable = value.nullable || position.nullable;
    Ok(Bound { args: vec![value, position], ret: DataType::Int8, nullable })
}

fn bit_get(call: &Invocation<'_>) -> Result<ColumnarValue> {
    macro_rules! run {
        ($t:ty, $bits:expr) => {
            binary::<$t, Int32Type, Int8Type>(
                call,
                Mode::Ansi,
                |v, at| if (0..$bits).contains(&at) { (((i64::from(v) >> at) & 1) as i8, false) } else { (0, true) },
                |_, at| {
                    Error::raised(
                        "INVALID_PARAMETER_VALUE.BIT_POSITION_RANGE",
                        "22023",
                        format!(
                            "The value of parameter(s) `pos` in `bit_get` is invalid: expects an integer value in [0, {}), but got {at}.",
                            $bits
                        ),
                    )
                },
            )
        };
    }
    match call.args.first().map(ColumnarValue::data_type) {
        Some(DataType::Int8) => run!(Int8Type, 8),
        Some(DataType::Int16) => run!(arrow::datatypes::Int16Type, 16),
        Some(DataType::Int32) => run!(Int32Type, 32),
        Some(DataType::Int64) => run!(Int64Type, 64),
        _ => Err(never()),
    }
}

fn bit_get_text(call: &DuckCall<'_>) -> Result<String, String> {
    let bits = match call.types.first() {
        Some(DataType::Int8) => 8,
        Some(DataType::Int16) => 16,
        Some(DataType::Int32) => 32,
        _ => 64,
    };
    match (call.args, call.literals.get(1)) {
        ([x, _], Some(Some(ScalarValue::Int32(Some(at))))) if (0..bits).contains(at) => {
            Ok(format!("CAST((CAST({x} AS BIGINT) >> {at}) & 1 AS TINYINT)"))
        }
        _ => Err("bit_get at a position that isn't a literal isn't known on DuckDB".into()),
    }
}

fn width_bucket_text(call: &DuckCall<'_>) -> Result<String, String> {
    let [v, min, max, n] = call.args else { return Err("width_bucket of other than four values".into()) };
    if v.len() > 1024 {
        return Err("width_bucket of a long expression isn't known on DuckDB".into());
    }
    let up = format!("CAST(trunc({n} * ({v} - {min}) / ({max} - {min})) AS BIGINT) + 1");
    let down = format!("CAST(trunc({n} * ({min} - {v}) / ({min} - {max})) AS BIGINT) + 1");
    Ok(format!(
        "(CASE WHEN {v} IS NULL OR {n} IS NULL OR {n} <= 0 OR {n} = 9223372036854775807 OR isnan({v}) OR {min} = {max} OR NOT isfinite({min}) OR NOT isfinite({max}) THEN NULL \
         WHEN {min} < {max} THEN CASE WHEN {v} < {min} THEN CAST(0 AS BIGINT) WHEN {v} >= {max} THEN {n} + 1 ELSE {up} END \
         WHEN {min} > {max} THEN CASE WHEN {v} > {min} THEN CAST(0 AS BIGINT) WHEN {v} <= {max} THEN {n} + 1 ELSE {down} END END)"
    ))
}

fn bind_width_bucket(ctx: &BindContext, args: Vec<Typed>) -> Result<Bound> {
    if args.iter().any(|a| types::is_interval(&a.ty)) {
        return Err(Error::not_eligible("`width_bucket` of intervals isn't known"));
    }
    call(ctx, "width_bucket", args, &[P::Double, P::Double, P::Double, P::Long], maybe(DataType::Int64))
}

fn width_bucket(call: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(call)?;
    let (values, mins, maxs, counts) = (frame.double(0)?, frame.double(1)?, frame.double(2)?, frame.long(3)?);
    frame.longs(|row| {
        let (Some(v), Some(min), Some(max), Some(n)) = (values.get(row), mins.get(row), maxs.get(row), counts.get(row)) else {
            return Ok(None);
        };
        Ok(bucket(v, min, max, n))
    })
}

fn bucket(v: f64, min: f64, max: f64, n: i64) -> Option<i64> {
    if n <= 0 || n == i64::MAX || v.is_nan() || min == max || !min.is_finite() || !max.is_finite() {
        return None;
    }
    let (lower, upper) = (min.min(max), min.max(max));
    Some(if min < max {
        if v < lower {
            0
        } else if v >= upper {
            n + 1
        } else {
            (n as f64 * (v - lower) / (upper - lower)) as i64 + 1
        }
    } else if v > upper {
        0
    } else if v <= lower {
        n + 1
    } else {
        (n as f64 * (upper - v) / (upper - lower)) as i64 + 1
    })
}

/// A FLOAT or DOUBLE, from any number.
fn floating(ctx: &BindContext, name: &str, index: usize, arg: Typed) -> Result<Typed> {
    match &arg.ty {
        ty if types::is_float(ty) => Ok(arg),
        ty if types::can_implicitly_cast(ty, &DataType::Float64) => implicit_cast(ctx, arg, &DataType::Float64),
        ty => Err(unexpected_input(name, index, "DOUBLE\" or \"FLOAT", ty)),
    }
}

fn bind_isnan(ctx: &BindContext, args: Vec<Typed>) -> Result<Bound> {
    arity("isnan", args.len(), 1, Some(1))?;
    let arg = floating(ctx, "isnan", 0, args.into_iter().next().ok_or_else(never)?)?;
    Ok(Bound { args: vec![arg], ret: DataType::Boolean, nullable: false })
}

fn isnan(call: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(call)?;
    if *frame.ty(0)? == DataType::Float32 {
        let values = frame.column::<arrow::array::Float32Array>(0)?;
        return frame.booleans(|row| Ok(Some(values.get(row).is_some_and(f32::is_nan))));
    }
    let values = frame.double(0)?;
    frame.booleans(|row| Ok(Some(values.get(row).is_some_and(f64::is_nan))))
}

/// The second value is asked for only where the first is NaN.
fn bind_nanvl(ctx: &BindContext, args: Vec<Typed>) -> Result<Typed> {
    arity("nanvl", args.len(), 2, Some(2))?;
    let mut args = args.into_iter();
    let (Some(a), Some(b)) = (args.next(), args.next()) else { return Err(never()) };
    let (a, b) = (floating(ctx, "nanvl", 0, a)?, floating(ctx, "nanvl", 1, b)?);
    let ret = if a.ty == DataType::Float32 && b.ty == DataType::Float32 { DataType::Float32 } else { DataType::Float64 };
    let (a, b) = (implicit_cast(ctx, a, &ret)?, implicit_cast(ctx, b, &ret)?);
    let nullable = a.nullable || b.nullable;
    let is_nan = call_by_name(ctx, "isnan", vec![a.clone()])?;
    Ok(Typed::new(lazy::case(vec![(is_nan.expr, b.expr)], Some(a.expr), &ret), ret, nullable))
}

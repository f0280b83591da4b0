//! `format_number` and `format_string` on DuckDB, for literal formats of the usual kinds.

use arrow::datatypes::DataType::{self, Boolean, Decimal128, Float32, Float64, Utf8};

use super::duck;
use super::number_format::Pattern;
use super::printf::{Format, Index, Piece, Spec};
use crate::def::DuckCall;
use crate::math::half_even_text;
use crate::{duckdb, types};

/// More digits behind the point aren't sent.
const DIGITS_MAX: usize = 18;
const WIDTH_MAX: usize = 1_000;

/// Grouped digits, rounded half to even.
pub(super) fn format_number(c: &DuckCall<'_>) -> Result<String, String> {
    let pattern = match (duck::text(c, 1), duck::int(c, 1)) {
        (Some(text), _) => Pattern::parse(text).map_err(|e| e.message().to_string())?,
        (None, Some(digits)) => match usize::try_from(digits) {
            Ok(digits) => Pattern::digits(digits),
            Err(_) => return Ok("CAST(NULL AS VARCHAR)".into()),
        },
        (None, None) => return Err("`format_number` with a computed format isn't known on DuckDB".into()),
    };
    let digits = pattern.fraction_max;
    if !matches!(pattern.group, 0 | 3) || pattern.whole_min != 1 || pattern.fraction_min != digits || digits > DIGITS_MAX {
        return Err("this number format isn't known on DuckDB".into());
    }
    let grouped = |whole: &str| {
        if pattern.group == 3 { format!("format('{{:,}}', CAST({whole} AS HUGEINT))") } else { format!("CAST({whole} AS VARCHAR)") }
    };
    // The value's digits without a sign.
    let plain = |plain: &str| {
        if digits == 0 {
            return grouped(plain);
        }
        format!("({} || '.' || split_part({plain}, '.', 2))", grouped(&format!("split_part({plain}, '.', 1)")))
    };
    let sign = |negative: String| format!("CASE WHEN {negative} THEN '-' ELSE '' END");
    let x = &c.args[0];
    Ok(match &c.types[0] {
        ty if types::is_integral(ty) => {
            let zeros = if digits == 0 { String::new() } else { format!(" || '.{}'", "0".repeat(digits)) };
            duck::once(x, |x| format!("{} || {}{zeros}", sign(format!("{x} < 0")), grouped(&format!("abs(CAST({x} AS HUGEINT))"))))
        }
        ty @ Decimal128(p, s) if usize::from(*p) + digits <= 36 => {
            let scale = i32::try_from(digits).map_err(|_| "too many digits")?;
            let kept = half_even_text("fp_s", ty, scale.min(i32::from(*s)))?;
            let text = plain(&format!("CAST(abs(CAST({kept} AS DECIMAL(38,{digits}))) AS VARCHAR)"));
            format!("list_transform([{x}], lambda fp_s: {} || {text})[1]", sign("fp_s < 0".into()))
        }
        Float64 | Float32 => {
            let rounded = format!("printf('%.{digits}f', CAST(abs(fp_s) AS DOUBLE))");
            // A lone five behind zeros is cut off: Java reads it from `5.0E-4`.
            let rounded = if digits >= 3 {
                format!(
                    "CASE WHEN CAST(abs(fp_s) AS DOUBLE) = CAST('5e-{}' AS DOUBLE) THEN '{:.digits$}' ELSE {rounded} END",
                    digits + 1,
                    0.0
                )
            } else {
                rounded
            };
            let text = plain(&format!("({rounded})"));
            format!(
                "list_transform([{x}], lambda fp_s: CASE WHEN fp_s IS NULL THEN NULL WHEN isnan(fp_s) THEN 'NaN' WHEN isinf(fp_s) THEN CASE WHEN fp_s > 0 THEN '∞' ELSE '-∞' END \
                 WHEN abs(fp_s) >= 1e{} THEN {} ELSE {} || {text} END)[1]",
                // With more than 15 digits the exact value's differ from the shortest ones.
                15usize.saturating_sub(digits),
                duck::refuse_value("Numbers this great can't be formatted on DuckDB."),
                sign("signbit(fp_s)".into())
            )
        }
        ty => return Err(format!("`format_number` of {} isn't known on DuckDB", types::name(ty))),
    })
}

/// A literal format of `%s`, `%d` and `%f` with flags and widths.
pub(super) fn format_string(c: &DuckCall<'_>) -> Result<String, String> {
    let text = duck::text(c, 0).ok_or("`format_string` with a computed format isn't known on DuckDB")?;
    let format = Format::parse(text).map_err(|e| e.message().to_string())?;
    let (mut parts, mut next, mut previous) = (Vec::new(), 0usize, None);
    for piece in &format.0 {
        match piece {
            Piece::Literal(text) if text.is_empty() => {}
            Piece::Literal(text) => parts.push(duckdb::string(text)),
            Piece::Spec(spec) => {
                let index = match spec.index {
                    Index::At(n) => n,
                    Index::Previous => previous.ok_or("a format that refers to nothing")?,
                    Index::Next => {
                        next += 1;
                        next
                    }
                };
                previous = Some(index);
                let (Some(x), Some(ty)) = (c.args.get(index), c.types.get(index)) else {
                    return Err("more specifiers than arguments".into());
                };
                parts.push(format!("list_transform([{x}], lambda fp_s: {})[1]", padded(spec, &specified(spec, ty)?)?));
            }
        }
    }
    if parts.is_empty() { Ok("''".into()) } else { Ok(format!("({})", parts.join(" || "))) }
}

/// The text of the value `fp_s`.
fn specified(spec: &Spec, ty: &DataType) -> Result<String, String> {
    let unknown = || Err(format!("the format specifier %{} of {} isn't known on DuckDB", spec.conversion, types::name(ty)));
    let flags = spec.flags;
    match spec.conversion {
        's' if flags.plus || flags.space || flags.zero || flags.group || flags.parentheses || spec.precision.is_some() => unknown(),
        's' => match ty {
            Utf8 => Ok("coalesce(fp_s, 'null')".into()),
            Boolean => Ok("coalesce(CAST(fp_s AS VARCHAR), 'null')".into()),
            ty if types::is_integral(ty) => Ok("coalesce(CAST(fp_s AS VARCHAR), 'null')".into()),
            _ => unknown(),
        },
        'd' if types::is_integral(ty) && spec.precision.is_none() => {
            let digits = "abs(CAST(fp_s AS HUGEINT))";
            let text = if flags.group { format!("format('{{:,}}', {digits})") } else { format!("CAST({digits} AS VARCHAR)") };
            signed(spec, "fp_s < 0", &text)
        }
        'f' => {
            let digits = spec.precision.unwrap_or(6);
            if digits > DIGITS_MAX || flags.group {
                return unknown();
            }
            match ty {
                // Java's formatter doesn't know Databricks' decimals.
                Decimal128(..) => {
                    let raise = duckdb::raise("INVALID_PARAMETER_VALUE.PRINTF_FORMAT", "22023", "'%f with a DECIMAL; cast it to DOUBLE'");
                    Ok(format!("CASE WHEN fp_s IS NULL THEN 'null' ELSE {raise} END"))
                }
                // Half up on the shortest decimal text.
                Float64 => {
                    let decimal = format!("TRY_CAST(CAST(abs(fp_s) AS VARCHAR) AS DECIMAL(38,{digits}))");
                    let small = format!("abs(fp_s) < CAST('1e-{}' AS DOUBLE)", digits + 1);
                    let text = format!("CAST(CASE WHEN {small} THEN CAST(0 AS DECIMAL(38,{digits})) ELSE {decimal} END AS VARCHAR)");
                    let shown = signed(spec, "signbit(fp_s)", &text)?;
                    let refuse = duck::refuse_value("A number like this can't be formatted on DuckDB.");
                    Ok(format!("CASE WHEN isnan(fp_s) OR isinf(fp_s) OR abs(fp_s) >= 1e15 THEN {refuse} ELSE {shown} END"))
                }
                _ => unknown(),
            }
        }
        _ => unknown(),
    }
}

/// A sign, zeros up to the width, and digits; `null` for NULL.
fn signed(spec: &Spec, negative: &str, digits: &str) -> Result<String, String> {
    let flags = spec.flags;
    if flags.parentheses {
        return Err("parentheses in a format aren't known on DuckDB".into());
    }
    let positive = if flags.plus {
        "'+'"
    } else if flags.space {
        "' '"
    } else {
        "''"
    };
    let sign = format!("CASE WHEN {negative} THEN '-' ELSE {positive} END");
    let digits = if flags.zero {
        let room = format!("greatest(0, {} - length({sign}) - length({digits}))", spec.width);
        format!("repeat('0', CAST({room} AS INTEGER)) || {digits}")
    } else {
        digits.to_string()
    };
    // A precision cuts even this text.
    let null: String = "null".chars().take(spec.precision.unwrap_or(4)).collect();
    Ok(format!("CASE WHEN fp_s IS NULL THEN '{null}' ELSE {sign} || {digits} END"))
}

/// Java counts UTF-16 units.
fn padded(spec: &Spec, text: &str) -> Result<String, String> {
    if spec.width == 0 {
        return Ok(text.to_string());
    }
    if spec.width > WIDTH_MAX {
        return Err("a format this wide isn't known on DuckDB".into());
    }
    let beyond = r"length(regexp_replace(fp_t, '[^\x{10000}-\x{10FFFF}]', '', 'g'))";
    let fill = format!("repeat(' ', CAST(greatest(0, {} - length(fp_t) - {beyond}) AS INTEGER))", spec.width);
    let whole = if spec.flags.left { format!("fp_t || {fill}") } else { format!("{fill} || fp_t") };
    Ok(format!("list_transform([{text}], lambda fp_t: {whole})[1]"))
}

//! Casts on DuckDB: an expression that is known to mean the same for a pair of types, or why there
//! is none. DuckDB's own casts round, trim and parse differently, so a plain `CAST` stands only
//! where it was tried.

use std::fmt::Write;

use arrow::datatypes::DataType;

use super::cast_literal;
use super::eval::Mode;
use crate::def::DuckCall;
use crate::errors::duck;
use crate::ops::rules::utc_only;
use crate::{duckdb, types};

/// The operand is repeated in most rules; one longer than this isn't sent.
const OPERAND_BYTES_MAX: usize = 4 * 1024;
/// In rules that repeat it ten times and more.
const OPERAND_BYTES_MAX_OFTEN: usize = 256;

pub(super) fn cast(call: &DuckCall<'_>) -> Result<String, String> {
    rule(call, Mode::Ansi)
}

pub(super) fn try_cast(call: &DuckCall<'_>) -> Result<String, String> {
    rule(call, Mode::Try)
}

fn rule(call: &DuckCall<'_>, mode: Mode) -> Result<String, String> {
    let ([x], [from]) = (call.args, call.types) else { return Err("a cast of other than one value".into()) };
    if let Some(Some(value)) = call.literals.first()
        && let Some(cast) = cast_literal(value, call.ret, call.time_zone)
    {
        return duckdb::literal(&cast);
    }
    if x.len() <= OPERAND_BYTES_MAX {
        let direct = Rule { x, from, to: call.ret, mode, call, depth: 0 }.text();
        if direct.is_ok() || x.len() <= OPERAND_BYTES_MAX_OFTEN {
            return direct;
        }
    }
    // Named, so that it stands in the text once.
    let once = Rule { x: "fp_c", from, to: call.ret, mode, call, depth: 0 }.text()?;
    Ok(format!("list_transform([{x}], lambda fp_c: {once})[1]"))
}

struct Rule<'a> {
    x: &'a str,
    from: &'a DataType,
    to: &'a DataType,
    mode: Mode,
    call: &'a DuckCall<'a>,
    /// Of nesting in arrays, which names lambdas' parameters.
    depth: usize,
}

/// `2024-01-31`, `2024-1-31 10:00`, `2024-01-31T10:00:00.123456`.
const TIMESTAMP: &str = r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([ T]([01]?[0-9]|2[0-3]):[0-9]{1,2}(:[0-9]{1,2}(\.[0-9]{1,6})?)?)?";

impl Rule<'_> {
    fn unknown(&self) -> String {
        format!("casting {} to {} isn't known to answer as Databricks does on DuckDB", types::name(self.from), types::name(self.to))
    }

    fn text(&self) -> Result<String, String> {
        use DataType::{Binary, Boolean, Date32, Float32, Float64, Int64, Null, Utf8};
        let x = self.x;
        if types::same(self.from, self.to) {
            return Ok(x.to_owned());
        }
        let target = duckdb::type_name(self.to)?;
        let plain = || Ok(format!("CAST({x} AS {target})"));
        match (self.from, self.to) {
            (Null, _) => plain(),
            (Utf8, t) => self.from_text(t, &target),
            (f, Utf8) => self.to_text(f),
            (DataType::List(a), DataType::List(b)) => self.list(a.data_type(), b.data_type()),
            (DataType::Struct(a), DataType::Struct(b)) if a.len() == b.len() => self.structure(a, b),
            (DataType::Map(..), DataType::Map(..)) => self.map(),
            (Boolean, t) if !types::is_decimal(t) => plain(),
            // DuckDB makes TRUE the last digit there, where it doesn't fit.
            (Boolean, DataType::Decimal128(p, s)) if i16::from(*p) <= i16::from(*s) => {
                Err(format!("casting boolean to {} isn't known to raise on DuckDB", types::name(self.to)))
            }
            (Boolean, DataType::Decimal128(p, s)) => {
                Ok(self.checked(&format!("TRY_CAST({x} AS {target})"), &duck::numeric_out_of_range(*p, *s)))
            }
            // As a comparison, DuckDB would move a factor to the other side, where nothing overflows.
            (f, Boolean) if types::is_integral(f) => plain(),
            (f, Boolean) if types::is_numeric(f) => Ok(format!("({x} <> 0)")),
            (f, t) if types::is_datetime(f) && types::is_datetime(t) => self.datetime(f, t),
            (f, t) if types::is_timestamp(f) && types::is_integral(t) => {
                let micros = format!("epoch_us({x})");
                let seconds = format!("TRY_CAST(({micros} - ({micros} % 1000000 + 1000000) % 1000000) // 1000000 AS {target})");
                Ok(self.checked(&seconds, &duck::cast_overflow(f, t)))
            }
            (f, DataType::Decimal128(p, s)) if types::is_timestamp(f) => {
                let seconds = format!("CAST(epoch_us({x}) AS DECIMAL(20,0)) * CAST('0.000001' AS DECIMAL(6,6))");
                Ok(self.checked(&format!("TRY_CAST(({seconds}) AS {target})"), &duck::numeric_out_of_range(*p, *s)))
            }
            (f, Float64) if types::is_timestamp(f) => Ok(format!("(epoch_us({x}) / 1000000)")),
            (Int64, t) if types::is_timestamp(t) => Ok(crate::datetime::timestamp_of_seconds(x)),
            (f, t) if types::is_integral(f) && types::is_timestamp(t) => Ok(format!("make_timestamptz(CAST({x} AS BIGINT) * 1000000)")),
            (f, t) if types::is_integral(f) && types::is_integral(t) => {
                Ok(self.checked(&format!("TRY_CAST({x} AS {target})"), &duck::cast_overflow(f, t)))
            }
            (f, Float32 | Float64) if types::is_integral(f) => plain(),
            (Float32, Float64) => plain(),
            (f, DataType::Decimal128(p, s)) if types::is_integral(f) || types::is_decimal(f) => {
                let may_fail = i32::from(*p) - i32::from(*s) <= whole_digits(f) && !types::decimal_is_wider((*p, *s), f);
                if !may_fail {
                    return plain();
                }
                Ok(self.checked(&format!("TRY_CAST({x} AS {target})"), &duck::numeric_out_of_range(*p, *s)))
            }
            (DataType::Decimal128(p, _), Float64) if *p <= 15 => plain(),
            // Digits beyond a double's: by text, which rounds once.
            (DataType::Decimal128(..), Float32 | Float64) => Ok(format!("CAST(CAST({x} AS VARCHAR) AS {target})")),
            (DataType::Decimal128(..), t) if types::is_integral(t) => {
                Ok(self.checked(&format!("TRY_CAST(trunc({x}) AS {target})"), &duck::cast_overflow(self.from, t)))
            }
            (Float64, Float32) => Ok(format!(
                "coalesce(TRY_CAST({x} AS FLOAT), CASE WHEN {x} > 0 THEN CAST('inf' AS FLOAT) WHEN {x} < 0 THEN CAST('-inf' AS FLOAT) END)"
            )),
            (f, DataType::Decimal128(p, s)) if types::is_float(f) => {
                let text = format!("CAST({} AS VARCHAR)", as_double(x, f));
                // A text with an exponent is never read as a decimal without whole digits.
                let attempt = match i32::from(*p) - i32::from(*s) {
                    0 if *p < types::MAX_PRECISION => format!("TRY_CAST(TRY_CAST({text} AS DECIMAL({},{s})) AS {target})", *p + 1),
                    0 => {
                        let refuse =
                            crate::strings::duck::refuse_value("So small a number as a decimal of 38 places isn't known on DuckDB.");
                        format!("CASE WHEN abs({x}) < CAST('1e-4' AS DOUBLE) THEN {refuse} ELSE TRY_CAST({text} AS {target}) END")
                    }
                    _ => format!("TRY_CAST({text} AS {target})"),
                };
                // Nor are the digits of one counted that has an exponent.
                let attempt = format!("CASE WHEN abs({x}) < CAST('1e{}' AS DOUBLE) THEN {attempt} END", i32::from(*p) - i32::from(*s));
                let value = self.checked(&attempt, &duck::numeric_out_of_range(*p, *s));
                Ok(format!("CASE WHEN abs({x}) < {} THEN CAST(0 AS {target}) WHEN isfinite({x}) THEN {value} END", vanishing(*s)))
            }
            (f, t) if types::is_float(f) && types::is_integral(t) => {
                let cast = self.checked(&format!("TRY_CAST(trunc({x}) AS {target})"), &duck::cast_overflow(f, t));
                // The one double above BIGINT that Databricks lets through.
                let top = if *t == DataType::Int64 {
                    format!("WHEN {x} = 9223372036854775808 THEN CAST(9223372036854775807 AS BIGINT) ")
                } else {
                    String::new()
                };
                Ok(if top.is_empty() { cast } else { format!("CASE {top}ELSE {cast} END") })
            }
            (Binary | Date32, _) => Err(self.unknown()),
            _ => Err(self.unknown()),
        }
    }

    /// `attempt`, which is NULL where it fails, or the error of a value that isn't NULL.
    fn checked(&self, attempt: &str, raise: &str) -> String {
        match self.mode {
            Mode::Try => duckdb::hidden(attempt),
            Mode::Ansi => format!("coalesce({attempt}, CASE WHEN {} IS NOT NULL THEN {raise} END)", self.x),
        }
    }

    fn from_text(&self, to: &DataType, target: &str) -> Result<String, String> {
        let x = self.x;
        let t = format!("trim({x}, {})", blanks());
        let invalid = duck::cast_invalid_input(x, self.from, to);
        match to {
            DataType::Binary => Ok(format!("encode({x})")),
            DataType::Boolean => {
                let attempt = format!(
                    "CASE WHEN lower({t}) IN ('t', 'true', 'y', 'yes', '1') THEN TRUE WHEN lower({t}) IN ('f', 'false', 'n', 'no', '0') THEN FALSE END"
                );
                Ok(self.checked(&attempt, &invalid))
            }
            ty if types::is_integral(ty) => {
                let attempt = format!("CASE WHEN regexp_full_match({t}, '[+-]?[0-9]+') THEN TRY_CAST({t} AS {target}) END");
                Ok(self.checked(&attempt, &invalid))
            }
            ty if types::is_float(ty) => {
                let attempt = format!(
                    "CASE WHEN regexp_full_match({t}, '{NUMBER}[dDfF]?') THEN TRY_CAST(rtrim({t}, 'dDfF') AS {target}) \
                     WHEN lower({t}) IN ('inf', '+inf', 'infinity', '+infinity') THEN CAST('inf' AS {target}) \
                     WHEN lower({t}) IN ('-inf', '-infinity') THEN CAST('-inf' AS {target}) \
                     WHEN lower({t}) = 'nan' OR {t} IN ('+NaN', '-NaN') THEN CAST('nan' AS {target}) END"
                );
                Ok(self.checked(&attempt, &invalid))
            }
            DataType::Decimal128(p, s) => {
                // DuckDB doesn't count the digits of a text with an exponent.
                let counted = match *p < types::MAX_PRECISION {
                    true => format!("TRY_CAST(TRY_CAST({t} AS DECIMAL({},{s})) AS {target})", types::MAX_PRECISION),
                    false => format!(
                        "CASE WHEN abs(TRY_CAST({t} AS DOUBLE)) < CAST('1e{}' AS DOUBLE) THEN TRY_CAST({t} AS {target}) END",
                        i32::from(*p) - i32::from(*s)
                    ),
                };
                let attempt = format!(
                    "CASE WHEN NOT regexp_full_match({t}, '{NUMBER}') THEN NULL \
                     WHEN regexp_matches({t}, '[eE]') AND abs(TRY_CAST({t} AS DOUBLE)) < {} THEN CAST(0 AS {target}) \
                     WHEN regexp_matches({t}, '[eE]-') AND TRY_CAST({t} AS {target}) IS NULL THEN {} \
                     WHEN regexp_matches({t}, '[eE]') THEN {counted} ELSE TRY_CAST({t} AS {target}) END",
                    vanishing(*s),
                    // It wants room for the digits before the point as they are written.
                    crate::strings::duck::refuse_value("A decimal with a negative exponent isn't known to be read alike on DuckDB.")
                );
                if self.mode == Mode::Try {
                    return Ok(attempt);
                }
                let wide = duck::numeric_out_of_range(*p, *s);
                Ok(format!(
                    "coalesce({attempt}, CASE WHEN {x} IS NULL THEN NULL WHEN regexp_full_match({t}, '{NUMBER}') THEN {wide} ELSE {invalid} END)"
                ))
            }
            DataType::Date32 => {
                let part = |n: usize| format!("regexp_extract({t}, '{DATE}', {n})");
                let month = format!("coalesce(nullif({}, ''), '1')", part(3));
                let day = format!("coalesce(nullif({}, ''), '1')", part(5));
                let attempt = format!(
                    "CASE WHEN regexp_full_match({t}, '{DATE}') THEN TRY_CAST(ltrim({}, '+') || '-' || {month} || '-' || {day} AS DATE) END",
                    part(1)
                );
                Ok(self.checked(&attempt, &invalid))
            }
            ty if types::is_timestamp(ty) || types::is_timestamp_ntz(ty) => self.timestamp_of_text(&t, to, &invalid),
            _ => Err(self.unknown()),
        }
    }

    /// Dates with a time of day or without. Texts that begin like one and go on otherwise (zones, other
    /// widths) are left to other engines.
    fn timestamp_of_text(&self, t: &str, to: &DataType, invalid: &str) -> Result<String, String> {
        let x = self.x;
        let wall_clock = format!("TRY_CAST({t} AS TIMESTAMP)");
        let attempt = if types::is_timestamp(to) {
            utc_only(self.call)?;
            format!("make_timestamptz(epoch_us({wall_clock}))")
        } else {
            wall_clock
        };
        let fail = if self.mode == Mode::Try { "NULL".to_string() } else { invalid.to_string() };
        let refuse = crate::strings::duck::refuse_value("A text of a timestamp like this isn't known on DuckDB.");
        Ok(format!(
            "CASE WHEN {x} IS NULL THEN NULL WHEN regexp_full_match({t}, '{TIMESTAMP}') THEN coalesce({attempt}, {fail}) \
             WHEN NOT regexp_matches({t}, '^[0-9+:T-]') THEN {fail} ELSE {refuse} END"
        ))
    }

    fn to_text(&self, from: &DataType) -> Result<String, String> {
        let x = self.x;
        match from {
            DataType::Boolean => Ok(format!("CAST({x} AS VARCHAR)")),
            DataType::Decimal128(p, s) => Ok(decimal_text(x, *p, *s)),
            ty if types::is_integral(ty) => Ok(format!("CAST({x} AS VARCHAR)")),
            DataType::Binary => {
                let raise = duckdb::raise("UNSUPPORTED_FEATURE", "0A000", "'Bytes that are no UTF-8 aren''t known as a text on DuckDB.'");
                Ok(crate::strings::duck::once(x, |b| {
                    format!("CASE WHEN encode(decode({b}, 'replace')) <> {b} THEN {raise} ELSE decode({b}) END")
                }))
            }
            DataType::Date32 => Ok(date_text(x, x, "CAST({} AS VARCHAR)", "")),
            ty if types::is_timestamp_ntz(ty) => Ok(wall_clock_text(x)),
            ty if types::is_timestamp(ty) => {
                utc_only(self.call)?;
                Ok(wall_clock_text(&format!("make_timestamp(epoch_us({x}))")))
            }
            ty if types::is_float(ty) => float_text(x, ty),
            DataType::List(item) => {
                let e = format!("e{}", self.depth);
                let text = self.shown(&e, item.data_type())?;
                Ok(format!("('[' || array_to_string(list_transform({x}, lambda {e}: {text}), ', ') || ']')"))
            }
            DataType::Struct(fields) => {
                let mut parts = Vec::with_capacity(fields.len());
                for field in fields {
                    parts.push(self.shown(&format!("struct_extract({x}, {})", duckdb::string(field.name())), field.data_type())?);
                }
                Ok(format!("CASE WHEN {x} IS NOT NULL THEN '{{' || {} || '}}' END", parts.join(" || ', ' || ")))
            }
            DataType::Map(..) => {
                let (key, value) = types::map_parts(from).ok_or_else(|| self.unknown())?;
                let e = format!("e{}", self.depth);
                let (key, value) =
                    (self.shown(&format!("{e}.key"), key.data_type())?, self.shown(&format!("{e}.value"), value.data_type())?);
                let entries = format!("list_transform(map_entries({x}), lambda {e}: {key} || ' -> ' || {value})");
                Ok(format!("CASE WHEN {x} IS NOT NULL THEN '{{' || array_to_string({entries}, ', ') || '}}' END"))
            }
            _ => Err(self.unknown()),
        }
    }

    /// A value inside another's text.
    fn shown(&self, x: &str, from: &DataType) -> Result<String, String> {
        Ok(format!("coalesce({}, 'null')", self.inner(x, from, &DataType::Utf8)?))
    }

    fn datetime(&self, from: &DataType, to: &DataType) -> Result<String, String> {
        let x = self.x;
        if types::is_timestamp(from) || types::is_timestamp(to) {
            utc_only(self.call)?;
        }
        let wall_clock = match from {
            t if types::is_timestamp(t) => format!("make_timestamp(epoch_us({x}))"),
            DataType::Date32 => format!("CAST({x} AS TIMESTAMP)"),
            _ => x.to_owned(),
        };
        Ok(match to {
            DataType::Date32 => format!("CAST({wall_clock} AS DATE)"),
            t if types::is_timestamp(t) => format!("make_timestamptz(epoch_us({wall_clock}))"),
            _ => wall_clock,
        })
    }

    fn inner(&self, x: &str, from: &DataType, to: &DataType) -> Result<String, String> {
        Rule { x, from, to, mode: self.mode, call: self.call, depth: self.depth + 1 }.text()
    }

    fn list(&self, from: &DataType, to: &DataType) -> Result<String, String> {
        let e = format!("e{}", self.depth);
        Ok(format!("list_transform({}, lambda {e}: {})", self.x, self.inner(&e, from, to)?))
    }

    /// Keys that stay apart when they are cast.
    fn map(&self) -> Result<String, String> {
        let (from, to) = types::map_parts(self.from).zip(types::map_parts(self.to)).ok_or_else(|| self.unknown())?;
        let ((from_key, from_value), (to_key, to_value)) = (from, to);
        let (a, b) = (from_key.data_type(), to_key.data_type());
        if !types::same(a, b) && !(types::is_integral(a) && (*b == DataType::Utf8 || types::is_integral(b) && super::widens(a, b))) {
            return Err(self.unknown());
        }
        let e = format!("e{}", self.depth);
        let key = self.inner(&format!("{e}.key"), a, b)?;
        let value = self.inner(&format!("{e}.value"), from_value.data_type(), to_value.data_type())?;
        Ok(format!("map_from_entries(list_transform(map_entries({}), lambda {e}: {{'k': {key}, 'v': {value}}}))", self.x))
    }

    fn structure(&self, from: &arrow::datatypes::Fields, to: &arrow::datatypes::Fields) -> Result<String, String> {
        let x = self.x;
        let mut fields = Vec::with_capacity(from.len());
        for (f, t) in from.iter().zip(to) {
            let field = format!("struct_extract({x}, {})", duckdb::string(f.name()));
            fields.push(format!("{} := {}", duckdb::identifier(t.name()), self.inner(&field, f.data_type(), t.data_type())?));
        }
        Ok(format!("CASE WHEN {x} IS NOT NULL THEN struct_pack({}) END", fields.join(", ")))
    }
}

const NUMBER: &str = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?";
const DATE: &str = r"([+-]?[0-9]{4,7})(-([0-9]{1,2})(-([0-9]{1,2})([ T].*)?)?)?";

fn whole_digits(ty: &DataType) -> i32 {
    types::decimal_of(ty).map_or(i32::MAX, |(p, s)| i32::from(p) - i32::from(s))
}

/// Numbers below this round to 0, where DuckDB reads `9.9e-6` as a decimal of one place as 0.1.
fn vanishing(scale: i8) -> String {
    format!("CAST('1e-{}' AS DOUBLE)", i32::from(scale) + 1)
}

/// A decimal's digits. Of a decimal without whole digits DuckDB shows none before the point.
pub(crate) fn decimal_text(x: &str, precision: u8, scale: i8) -> String {
    match precision {
        p if i32::from(p) != i32::from(scale) => format!("CAST({x} AS VARCHAR)"),
        types::MAX_PRECISION => format!("regexp_replace(CAST({x} AS VARCHAR), '^(-?)[.]', '\\10.')"),
        p => format!("CAST(CAST({x} AS DECIMAL({},{scale})) AS VARCHAR)", p + 1),
    }
}

fn as_double(x: &str, ty: &DataType) -> String {
    if *ty == DataType::Float32 { format!("CAST({x} AS DOUBLE)") } else { x.to_owned() }
}

/// What Databricks trims: white space and control characters, as a SQL string.
pub(crate) fn blanks() -> String {
    let all: String = (0_u8..=32).chain([127]).map(char::from).collect();
    duckdb::string(&all)
}

/// DuckDB writes years 1 to 9999 as Databricks does. `year_of` is what the year is taken from;
/// `tail` is SQL of what follows the date.
fn date_text(x: &str, year_of: &str, usual: &str, tail: &str) -> String {
    let usual = usual.replace("{}", x);
    format!(
        "CASE WHEN year({year_of}) BETWEEN 1 AND 9999 THEN {usual} ELSE (CASE WHEN year({year_of}) > 9999 THEN '+' WHEN year({year_of}) < 0 THEN '-' ELSE '' END) \
         || printf('%04d-%02d-%02d', abs(year({year_of})), month({year_of}), day({year_of})){tail} END"
    )
}

fn wall_clock_text(x: &str) -> String {
    let time = format!(" || ' ' || split_part(replace(CAST({x} AS VARCHAR), ' (BC)', ''), ' ', 2)");
    date_text(x, x, "CAST({} AS VARCHAR)", &time)
}

/// Java's text of a float: plain between 1e-3 and 1e7, else with an exponent and at least one
/// digit behind the point. Both sides print the shortest digits; where one digit would do, Java
/// takes the nearest number of two.
fn float_text(x: &str, ty: &DataType) -> Result<String, String> {
    if x.len() > OPERAND_BYTES_MAX_OFTEN {
        return Err("the text of a long float expression isn't known on DuckDB".into());
    }
    let shortest = format!("CAST(abs({x}) AS VARCHAR)");
    let t = format!("(CASE WHEN contains({shortest}, '.') THEN {shortest} ELSE printf('%.1e', abs({})) END)", as_double(x, ty));
    let sign = format!("(CASE WHEN {x} < 0 THEN '-' ELSE '' END)");
    let tail = |digits: &str| format!("coalesce(nullif(rtrim({digits}, '0'), ''), '0')");
    let unscaled = format!("replace({t}, '.', '')");
    let mut sql = String::new();
    // Writing to a String can't fail.
    let _ = write!(
        sql,
        "CASE WHEN isnan({x}) THEN 'NaN' WHEN isinf({x}) THEN {sign} || 'Infinity' \
         WHEN {x} = 0 OR (abs({x}) >= 0.001 AND abs({x}) < 10000000) THEN CAST({x} AS VARCHAR) \
         WHEN contains({t}, 'e') THEN {sign} || split_part({t}, 'e', 1) || 'E' || CAST(CAST(split_part({t}, 'e', 2) AS INTEGER) AS VARCHAR) \
         WHEN abs({x}) < 1 THEN {sign} || substr({t}, 6, 1) || '.' || {} || 'E-4' \
         ELSE {sign} || left({unscaled}, 1) || '.' || {} || 'E' || CAST(length(split_part({t}, '.', 1)) - 1 AS VARCHAR) END",
        tail(&format!("substr({t}, 7)")),
        tail(&format!("substr({unscaled}, 2)")),
    );
    Ok(sql)
}

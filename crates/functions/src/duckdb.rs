//! Writing DuckDB SQL: type names, literals, identifiers and errors. DuckDB text is made here and
//! in the definitions' rules only.

use arrow::array::Array;
use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use datafusion::common::ScalarValue;
use flightpath_types::RAISED_PREFIX;

/// `"name"`, quotes doubled.
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `'text'`, quotes doubled. DuckDB's plain strings have no escapes; NUL can't stand in one.
pub fn string(text: &str) -> String {
    if text.contains('\0') {
        let parts: Vec<String> = text.split('\0').map(|part| format!("'{}'", part.replace('\'', "''"))).collect();
        return format!("({})", parts.join(" || chr(0) || "));
    }
    format!("'{}'", text.replace('\'', "''"))
}

/// An expression that raises Databricks' error `class` with `sql_state` when it is evaluated.
/// `message` is SQL text; use [`string`] for a fixed one.
pub fn raise(class: &str, sql_state: &str, message_sql: &str) -> String {
    format!("error({} || {message_sql})", string(&format!("{RAISED_PREFIX}{class}|{sql_state}|")))
}

/// An expression that comparisons don't see. Of a TRY_CAST: DuckDB casts the constant beside it instead and compares
/// the value as it was, so that `TRY_CAST(70000 AS SMALLINT) > 0` would be TRUE.
pub fn hidden(expression: &str) -> String {
    format!("coalesce({expression}, NULL)")
}

/// DuckDB's name of the type that holds values of `ty`.
pub fn type_name(ty: &DataType) -> Result<String, String> {
    Ok(match ty {
        DataType::Null => "INTEGER".into(),
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Int8 => "TINYINT".into(),
        DataType::Int16 => "SMALLINT".into(),
        DataType::Int32 => "INTEGER".into(),
        DataType::Int64 => "BIGINT".into(),
        DataType::Float32 => "FLOAT".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Decimal128(p, s) if *s >= 0 => format!("DECIMAL({p},{s})"),
        DataType::Utf8 => "VARCHAR".into(),
        DataType::Binary => "BLOB".into(),
        DataType::Date32 => "DATE".into(),
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => "TIMESTAMPTZ".into(),
        DataType::Timestamp(TimeUnit::Microsecond, None) => "TIMESTAMP".into(),
        DataType::Interval(IntervalUnit::YearMonth | IntervalUnit::MonthDayNano) | DataType::Duration(TimeUnit::Microsecond) => {
            "INTERVAL".into()
        }
        DataType::List(item) => format!("{}[]", type_name(item.data_type())?),
        DataType::Struct(fields) => {
            let parts: Result<Vec<String>, String> =
                fields.iter().map(|f| Ok(format!("{} {}", identifier(f.name()), type_name(f.data_type())?))).collect();
            format!("STRUCT({})", parts?.join(", "))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(kv) if kv.len() == 2 => {
                format!("MAP({}, {})", type_name(kv[0].data_type())?, type_name(kv[1].data_type())?)
            }
            other => return Err(format!("type {other} isn't known on DuckDB")),
        },
        other => return Err(format!("type {other} isn't known on DuckDB")),
    })
}

/// A literal that has exactly the type of `value` in DuckDB.
pub fn literal(value: &ScalarValue) -> Result<String, String> {
    let ty = value.data_type();
    if value.is_null() {
        return Ok(format!("CAST(NULL AS {})", type_name(&ty)?));
    }
    Ok(match value {
        ScalarValue::Boolean(Some(b)) => {
            if *b {
                "TRUE".into()
            } else {
                "FALSE".into()
            }
        }
        ScalarValue::Int8(Some(v)) => format!("CAST({v} AS TINYINT)"),
        ScalarValue::Int16(Some(v)) => format!("CAST({v} AS SMALLINT)"),
        ScalarValue::Int32(Some(v)) if *v >= 0 => v.to_string(),
        // `-2147483648` alone would be a BIGINT, since the sign stands outside of the number.
        ScalarValue::Int32(Some(v)) => format!("CAST({v} AS INTEGER)"),
        ScalarValue::Int64(Some(v)) => format!("CAST({v} AS BIGINT)"),
        ScalarValue::Float32(Some(v)) => format!("CAST({} AS FLOAT)", float_text(f64::from(*v), &v.to_string())),
        ScalarValue::Float64(Some(v)) => format!("CAST({} AS DOUBLE)", float_text(*v, &format!("{v:?}"))),
        ScalarValue::Decimal128(Some(v), p, s) if *s >= 0 => {
            format!("CAST('{}' AS DECIMAL({p},{s}))", decimal_text(*v, *s as usize))
        }
        // DuckDB repeats it in each of the 2,048 rows of a chunk.
        ScalarValue::Utf8(Some(v)) if v.len() > LITERAL_BYTES_MAX => {
            return Err("a text this long isn't sent to DuckDB as a literal".into());
        }
        ScalarValue::Binary(Some(v)) if v.len() > LITERAL_BYTES_MAX => {
            return Err("bytes this many aren't sent to DuckDB as a literal".into());
        }
        ScalarValue::Utf8(Some(v)) => string(v),
        ScalarValue::Binary(Some(v)) => {
            let hex: String = v.iter().map(|b| format!("\\x{b:02X}")).collect();
            format!("CAST('{hex}' AS BLOB)")
        }
        ScalarValue::Date32(Some(days)) if (DAYS_OF_YEAR_1..DAYS_OF_YEAR_10000).contains(days) => {
            let (year, month, day) = civil(*days);
            format!("CAST('{year:04}-{month:02}-{day:02}' AS DATE)")
        }
        ScalarValue::Date32(Some(days)) if days.unsigned_abs() > 2_147_483_646 => {
            return Err("a date this far away isn't known on DuckDB".into());
        }
        // Through day and microsecond counts, which hold for years that DuckDB's parser doesn't take.
        ScalarValue::Date32(Some(days)) => format!("(DATE '1970-01-01' + CAST({days} AS INTEGER))"),
        // The greatest is DuckDB's infinity, and the least ones lie before its first day.
        ScalarValue::TimestampMicrosecond(Some(us), _) if !(-9_223_372_022_400_000_000..i64::MAX).contains(us) => {
            return Err("a timestamp this far away isn't known on DuckDB".into());
        }
        ScalarValue::TimestampMicrosecond(Some(us), None) => format!("make_timestamp(CAST({us} AS BIGINT))"),
        ScalarValue::TimestampMicrosecond(Some(us), Some(_)) => {
            format!("make_timestamptz(CAST({us} AS BIGINT))")
        }
        ScalarValue::IntervalYearMonth(Some(months)) => format!("to_months(CAST({months} AS INTEGER))"),
        ScalarValue::IntervalMonthDayNano(Some(i)) => {
            format!("(to_months({}) + to_days({}) + to_microseconds(CAST({} AS BIGINT)))", i.months, i.days, i.nanoseconds / 1_000)
        }
        ScalarValue::DurationMicrosecond(Some(us)) => format!("to_microseconds(CAST({us} AS BIGINT))"),
        ScalarValue::List(_) | ScalarValue::Struct(_) | ScalarValue::Map(_) => return nested_literal(value, &ty),
        _ => return Err(format!("a literal of type {ty} isn't known on DuckDB")),
    })
}

/// An array, struct or map that isn't NULL, with its type written out.
fn nested_literal(value: &ScalarValue, ty: &DataType) -> Result<String, String> {
    let name = type_name(ty)?;
    let items = |array: &dyn Array| -> Result<String, String> {
        let value = |i| ScalarValue::try_from_array(array, i).map_err(|e| e.to_string());
        let texts = (0..array.len()).map(|i| literal(&value(i)?)).collect::<Result<Vec<_>, String>>()?;
        Ok(texts.join(", "))
    };
    Ok(match value {
        ScalarValue::List(list) => format!("CAST([{}] AS {name})", items(list.value(0).as_ref())?),
        ScalarValue::Map(map) => {
            let entries = map.value(0);
            let list_of = |i: usize| -> Result<String, String> {
                let column = entries.column(i);
                Ok(format!("CAST([{}] AS {}[])", items(column.as_ref())?, type_name(column.data_type())?))
            };
            format!("map({}, {})", list_of(0)?, list_of(1)?)
        }
        ScalarValue::Struct(fields) => {
            let mut names: Vec<String> = fields.fields().iter().map(|f| f.name().to_lowercase()).collect();
            names.sort();
            names.dedup();
            if names.len() != fields.num_columns() {
                return Err("structs with two fields of one name aren't known on DuckDB".into());
            }
            let of_field = |(field, column): (&arrow::datatypes::FieldRef, &arrow::array::ArrayRef)| -> Result<String, String> {
                let value = ScalarValue::try_from_array(column, 0).map_err(|e| e.to_string())?;
                Ok(format!("{} := {}", identifier(field.name()), literal(&value)?))
            };
            let parts = fields.fields().iter().zip(fields.columns()).map(of_field).collect::<Result<Vec<_>, String>>()?;
            format!("struct_pack({})", parts.join(", "))
        }
        _ => return Err(format!("a literal of type {ty} isn't known on DuckDB")),
    })
}

/// Days since 1970-01-01 of 0001-01-01 and 10000-01-01.
/// A longer text or BINARY isn't sent to DuckDB as a literal.
const LITERAL_BYTES_MAX: usize = 64 << 10;

const DAYS_OF_YEAR_1: i32 = -719_162;
const DAYS_OF_YEAR_10000: i32 = 2_932_897;

/// Year, month and day of a day count within those years. Source: Howard Hinnant, "chrono-compatible
/// low-level date algorithms", `civil_from_days`.
fn civil(days: i32) -> (i32, i32, i32) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i32::from(month <= 2), month, day)
}

/// The unscaled value with its point: `decimal_text(-5, 2)` is `-0.05`.
pub fn decimal_text(unscaled: i128, scale: usize) -> String {
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if unscaled < 0 { "-" } else { "" };
    if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

fn float_text(value: f64, shortest: &str) -> String {
    if value.is_nan() {
        "'NaN'".into()
    } else if value.is_infinite() {
        if value > 0.0 { "'Infinity'".into() } else { "'-Infinity'".into() }
    } else {
        format!("'{shortest}'")
    }
}

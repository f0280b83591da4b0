//! JSON functions on DuckDB. Its reader takes less and other texts than Databricks' (no single quotes, nothing behind
//! the value; but trailing commas and NaN), and of equal names it gives the first. So each text is looked at first:
//! what both read alike is read, what neither reads is NULL, and anything else refuses the row. Never guesses.

use arrow::datatypes::{DataType, TimeUnit};

use super::{Step, path};
use crate::cast::decimal_text;
use crate::def::DuckCall;
use crate::duckdb::{identifier, string};
use crate::strings::duck;
use crate::types;

/// What only DuckDB reads: a comma behind the last item, NaN and infinity.
const TRAILING_COMMA: &str = r"\,[ \t\r\n]*[\]}]";
const NO_NUMBER: &str = r"(^|[:\[,])[ \t\r\n]*[+-]?(?i:nan|inf)";
/// What a JSON value begins with, for Databricks.
const BEGINNING: &str = r#"^[ \t\r\n]*([{\["'0-9-]|true|false|null)"#;
const STRING: &str = r#""([^"\\]|\\[\s\S])*""#;
/// Fractions as DuckDB writes them, and those of them that Databricks writes with the same digits.
const FRACTION: &str = r"[0-9.eE+-]*[0-9][.eE][0-9.eE+-]*";
const SAME_FRACTION: &str = r"-?([1-9][0-9]{0,6}\.[0-9]{1,17}|0\.(0|[1-9][0-9]{0,17}|0[1-9][0-9]{0,17}|00[1-9][0-9]{0,17}))";
/// Rounds in which pairs of brackets are taken out of a text that breaks off.
const BRACKET_ROUNDS: usize = 6;
const INDEX_MAX: usize = 1_000_000;

/// `answer` of a text that both read alike; NULL for one that isn't JSON to either.
fn guarded(x: &str, answer: impl Fn(&str) -> String) -> String {
    duck::once(x, |j| {
        let alike = format!(
            "json_valid({j}) AND NOT regexp_matches({j}, {}) AND NOT regexp_matches({j}, {})",
            string(TRAILING_COMMA),
            string(NO_NUMBER)
        );
        format!(
            "CASE WHEN {j} IS NULL THEN NULL WHEN {alike} THEN {} WHEN NOT regexp_matches({j}, {}) OR {} THEN NULL ELSE {} END",
            answer(j),
            string(BEGINNING),
            breaks_off(j),
            duck::refuse_value("A text that is JSON to Databricks alone isn't known on DuckDB.")
        )
    })
}

/// Whether an object or array is begun and never ended: behind its first bracket no other one is unmatched.
fn breaks_off(j: &str) -> String {
    let brackets = format!("regexp_replace(regexp_replace({j}, {}, '', 'g'), {}, '', 'g')", string(STRING), string(r"[^{}\[\]]"));
    let mut rest = format!("substr({brackets}, 2)");
    for _ in 0..BRACKET_ROUNDS {
        rest = format!("regexp_replace({rest}, {}, '', 'g')", string(r"\{\}|\[\]"));
    }
    format!(
        "(NOT contains({j}, '''') AND regexp_matches({j}, {}) AND NOT regexp_matches({rest}, {}))",
        string(r"^[ \t\r\n]*[{\[]"),
        string(r"[}\]]")
    )
}

/// A text of JSON that DuckDB wrote, where Databricks writes its fractions alike.
fn written_alike(text: &str) -> String {
    format!(
        "list_transform([{text}], lambda fp_t: CASE WHEN fp_t IS NULL OR len(list_filter(regexp_extract_all(fp_t, {}), lambda fp_n: NOT regexp_full_match(fp_n, {}))) = 0 \
         THEN fp_t ELSE {} END)[1]",
        string(FRACTION),
        string(SAME_FRACTION),
        duck::refuse_value("A fraction that DuckDB writes with other digits in JSON isn't known there.")
    )
}

/// DuckDB's path of the steps.
fn path_text(steps: &[Step]) -> Result<String, String> {
    let mut out = String::from("$");
    for step in steps {
        match step {
            Step::Field(name) if name.contains(['"', '\\', '*']) => return Err("a JSON path with such a name isn't known on DuckDB".into()),
            Step::Field(name) => out.push_str(&format!(".\"{name}\"")),
            Step::Index(i) if *i > INDEX_MAX => return Err("a JSON path with such an index isn't known on DuckDB".into()),
            Step::Index(i) => out.push_str(&format!("[{i}]")),
            Step::Every => return Err("a JSON path with a wildcard isn't known on DuckDB".into()),
        }
    }
    Ok(string(&out))
}

/// Whether an object has several fields of one name.
fn several(j: &str, parent: &str, name: &str) -> String {
    format!("coalesce(len(list_filter(json_keys({j}, {parent}), lambda fp_k: fp_k = {})), 0) > 1", string(name))
}

/// The text of what the path leads to; `missing` where there's nothing, or null.
fn value_at(j: &str, path: &str, missing: &str) -> String {
    let text = format!("json_extract_string({j}, {path})");
    format!(
        "CASE coalesce(json_type({j}, {path}), 'NULL') WHEN 'NULL' THEN {missing} WHEN 'VARCHAR' THEN {text} WHEN 'BOOLEAN' THEN {text} \
         WHEN 'BIGINT' THEN {text} WHEN 'UBIGINT' THEN {text} ELSE {} END",
        written_alike(&text)
    )
}

fn several_names() -> String {
    duck::refuse_value("Several fields of one name in a JSON object aren't known on DuckDB.")
}

pub(super) fn get_json_object(c: &DuckCall<'_>) -> Result<String, String> {
    let written = duck::text(c, 1).ok_or("a computed JSON path isn't known on DuckDB")?;
    let Some(steps) = path(written) else { return Ok("CAST(NULL AS VARCHAR)".into()) };
    let whole = path_text(&steps)?;
    let mut doubled = Vec::new();
    for (i, step) in steps.iter().enumerate() {
        if let Step::Field(name) = step {
            doubled.push((path_text(&steps[..i])?, name));
        }
    }
    Ok(guarded(&c.args[0], |j| {
        // Where the first of equal names leads nowhere, Databricks tries the next.
        let tests: Vec<String> = doubled.iter().map(|(parent, name)| several(j, parent, name)).collect();
        let missing = if tests.is_empty() {
            "CAST(NULL AS VARCHAR)".into()
        } else {
            format!("CASE WHEN {} THEN {} END", tests.join(" OR "), several_names())
        };
        value_at(j, &whole, &missing)
    }))
}

/// A field of an object, the last of equal names.
pub(super) fn field(c: &DuckCall<'_>) -> Result<String, String> {
    let name = duck::text(c, 1).ok_or("a computed field name isn't known on DuckDB")?;
    let path = path_text(&[Step::Field(name.to_string())])?;
    Ok(guarded(&c.args[0], |j| {
        format!(
            "CASE WHEN json_type({j}) <> 'OBJECT' THEN NULL WHEN {} THEN {} ELSE {} END",
            several(j, "'$'", name),
            several_names(),
            value_at(j, &path, "CAST(NULL AS VARCHAR)")
        )
    }))
}

pub(super) fn array_length(c: &DuckCall<'_>) -> Result<String, String> {
    Ok(guarded(&c.args[0], |j| format!("CASE WHEN json_type({j}) = 'ARRAY' THEN CAST(json_array_length({j}) AS INTEGER) END")))
}

pub(super) fn object_keys(c: &DuckCall<'_>) -> Result<String, String> {
    Ok(guarded(&c.args[0], |j| format!("CASE WHEN json_type({j}) = 'OBJECT' THEN json_keys({j}) END")))
}

pub(super) fn to_json(c: &DuckCall<'_>) -> Result<String, String> {
    if c.args.len() != 1 {
        return Err("`to_json` with options isn't known on DuckDB".into());
    }
    let [ty] = c.types else { return Err("`to_json` of other than one value".into()) };
    let text = json("fp_j", ty, c.time_zone, 0)?;
    Ok(format!("list_transform([{}], lambda fp_j: {text})[1]", c.args[0]))
}

/// The JSON text of a value; NULL for NULL.
fn json(x: &str, ty: &DataType, zone: &str, depth: usize) -> Result<String, String> {
    let refuse = |what: &str| duck::refuse_value(what);
    Ok(match ty {
        DataType::Utf8 => format!("CAST(to_json({x}) AS VARCHAR)"),
        DataType::Boolean => format!("CAST({x} AS VARCHAR)"),
        t if types::is_integral(t) => format!("CAST({x} AS VARCHAR)"),
        DataType::Decimal128(p, s) if *s <= 6 => decimal_text(x, *p, *s),
        // Java writes an exponent where more than six zeros would follow the point.
        DataType::Decimal128(p, s) => format!(
            "CASE WHEN abs({x}) < CAST('0.000001' AS DECIMAL(38,{s})) THEN {} ELSE {} END",
            refuse("Decimals this small aren't known as JSON on DuckDB."),
            decimal_text(x, *p, *s)
        ),
        DataType::Float64 | DataType::Float32 => {
            let plain = written_alike(&format!("CAST({x} AS VARCHAR)"));
            format!(
                "CASE WHEN isnan({x}) THEN '\"NaN\"' WHEN isinf({x}) THEN CASE WHEN {x} > 0 THEN '\"Infinity\"' ELSE '\"-Infinity\"' END ELSE {plain} END"
            )
        }
        DataType::Date32 => format!(
            "CASE WHEN year({x}) NOT BETWEEN 1 AND 9999 THEN {} ELSE '\"' || CAST({x} AS VARCHAR) || '\"' END",
            refuse("Dates of such years aren't known as JSON on DuckDB.")
        ),
        DataType::Timestamp(TimeUnit::Microsecond, tz) => {
            if tz.is_some() && zone != "UTC" {
                return Err("`to_json` of timestamps is known on DuckDB in the time zone UTC only".into());
            }
            let (local, end) = if tz.is_some() { (format!("make_timestamp(epoch_us({x}))"), "Z") } else { (x.to_string(), "") };
            format!(
                "CASE WHEN year({local}) NOT BETWEEN 1 AND 9999 THEN {} ELSE strftime({local}, '\"%Y-%m-%dT%H:%M:%S.%g{end}\"') END",
                refuse("Timestamps of such years aren't known as JSON on DuckDB.")
            )
        }
        DataType::Binary => format!("'\"' || to_base64({x}) || '\"'"),
        DataType::List(item) => {
            let element = format!("fp_j{depth}");
            let of = json(&element, item.data_type(), zone, depth + 1)?;
            format!("'[' || array_to_string(list_transform({x}, lambda {element}: coalesce({of}, 'null')), ',') || ']'")
        }
        DataType::Struct(fields) => {
            let mut parts = Vec::with_capacity(fields.len());
            for field in fields.iter().filter(|f| f.data_type() != &DataType::Null) {
                let value = json(&format!("{x}.{}", identifier(field.name())), field.data_type(), zone, depth)?;
                parts.push(format!("{} || {value}", string(&format!("{}:", name_text(field.name())))));
            }
            let list = format!("list_filter(CAST([{}] AS VARCHAR[]), lambda fp_v: fp_v IS NOT NULL)", parts.join(", "));
            format!("CASE WHEN {x} IS NOT NULL THEN '{{' || array_to_string({list}, ',') || '}}' END")
        }
        DataType::Map(..) => {
            let Some((key, value)) = types::map_parts(ty) else { return Err("`to_json` of such a map isn't known on DuckDB".into()) };
            let entry = format!("fp_j{depth}");
            let key = match key.data_type() {
                DataType::Utf8 => format!("CAST(to_json({entry}.key) AS VARCHAR)"),
                t if types::is_integral(t) => format!("'\"' || CAST({entry}.key AS VARCHAR) || '\"'"),
                _ => return Err("`to_json` of a map with such keys isn't known on DuckDB".into()),
            };
            let value = json(&format!("{entry}.value"), value.data_type(), zone, depth + 1)?;
            let entries = format!("list_transform(map_entries({x}), lambda {entry}: {key} || ':' || coalesce({value}, 'null'))");
            format!("CASE WHEN {x} IS NOT NULL THEN '{{' || array_to_string({entries}, ',') || '}}' END")
        }
        DataType::Null => "CAST(NULL AS VARCHAR)".into(),
        other => return Err(format!("`to_json` of {} isn't known on DuckDB", types::name(other))),
    })
}

fn name_text(name: &str) -> String {
    let mut out = String::new();
    super::write_text(name, &mut out);
    out
}

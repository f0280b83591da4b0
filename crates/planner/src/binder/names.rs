//! The names that Databricks gives to columns without an alias: its own way to print expressions.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::ast;
use flightpath_functions::{Typed, types};

use super::call::Arguments;
use super::expr::Bound;

/// Where a lambda's body stands, for messages.
pub(super) const LAMBDA: &str = "a lambda function";

/// An unnamed output column's name: a path of names shows its last one.
pub(super) fn output(e: &ast::Expr, text: &str) -> String {
    match e {
        ast::Expr::Identifier(ident) if !is_niladic(&ident.value) => ident.value.clone(),
        ast::Expr::CompoundIdentifier(parts) => parts.last().map_or_else(|| text.to_string(), |p| p.value.clone()),
        ast::Expr::Nested(inner) => output(inner, text),
        // A cast column keeps its name.
        ast::Expr::Cast { expr, .. } => match plain_column(expr) {
            Some(name) if text.contains(&format!("({name} AS ")) => name.to_string(),
            _ => text.to_string(),
        },
        _ => text.to_string(),
    }
}

fn plain_column(e: &ast::Expr) -> Option<&str> {
    match e {
        ast::Expr::Identifier(ident) if !is_niladic(&ident.value) => Some(&ident.value),
        ast::Expr::CompoundIdentifier(parts) => parts.last().map(|p| p.value.as_str()),
        ast::Expr::Nested(inner) => plain_column(inner),
        _ => None,
    }
}

/// Functions that are called without parentheses.
pub(super) fn is_niladic(name: &str) -> bool {
    [
        "current_date",
        "current_timestamp",
        "current_time",
        "current_user",
        "session_user",
        "user",
        "current_catalog",
        "current_schema",
        "current_database",
        "localtimestamp",
    ]
    .iter()
    .any(|n| n.eq_ignore_ascii_case(name))
}

/// A binary operator's text, which for dates depends on the operands' types.
pub(super) fn operator(left: &Bound, sign: &str, right: &Bound) -> String {
    let plain = || format!("({} {sign} {})", left.name, right.name);
    if let Some(text) = integer_bound(left, sign, right) {
        return text;
    }
    match sign {
        "||" => format!("concat({}, {})", left.name, right.name),
        "+" | "-" => temporal(left, sign, right).unwrap_or_else(plain),
        _ => plain(),
    }
}

/// An integer compared with a decimal literal is compared with the next integer.
fn integer_bound(left: &Bound, sign: &str, right: &Bound) -> Option<String> {
    let up_when_left = match sign {
        ">" | "<=" => true,
        ">=" | "<" => false,
        _ => return None,
    };
    if types::is_integral(&right.t.ty) {
        return next_integer(&left.t, up_when_left).map(|n| format!("({n} {sign} {})", right.name));
    }
    if types::is_integral(&left.t.ty) {
        return next_integer(&right.t, !up_when_left).map(|n| format!("({} {sign} {n})", left.name));
    }
    None
}

/// The integer at or above (or below) a decimal literal.
pub(super) fn next_integer(t: &Typed, up: bool) -> Option<i128> {
    match t.as_literal() {
        Some(ScalarValue::Decimal128(Some(v), _, s)) if *s >= 0 => {
            let unit = 10i128.checked_pow(u32::try_from(*s).ok()?)?;
            let down = v.div_euclid(unit);
            Some(if up && v.rem_euclid(unit) != 0 { down + 1 } else { down })
        }
        _ => None,
    }
}

fn temporal(left: &Bound, sign: &str, right: &Bound) -> Option<String> {
    let (l, r) = (&left.t.ty, &right.t.ty);
    let days_only = |b: &Bound| b.name.starts_with("INTERVAL '") && b.name.ends_with("' DAY");
    let function = if sign == "+" { "date_add" } else { "date_sub" };
    let over = |date: &Bound, other: &Bound| -> Option<String> {
        let (d, o) = (&date.t.ty, &other.t.ty);
        if types::is_interval(o) || *o == types::MIXED_INTERVAL || (sign == "+" && *o == DataType::Null) {
            if *d == DataType::Date32 && *o == types::DAY_TIME && days_only(other) {
                let days = format!("extractansiintervaldays({})", other.name);
                let days = if sign == "-" { format!("(- {days})") } else { days };
                return Some(format!("date_add({}, {days})", date.name));
            }
            return Some(format!("{} {sign} {}", date.name, other.name));
        }
        (*d == DataType::Date32 && (types::is_integral(o) || types::is_string(o)) && !types::is_string(o))
            .then(|| format!("{function}({}, {})", date.name, other.name))
    };
    if types::is_datetime(l) || (types::is_string(l) && types::is_interval(r)) {
        return over(left, right);
    }
    if sign == "+" && (types::is_datetime(r) || (types::is_string(r) && types::is_interval(l))) {
        return over(right, left);
    }
    None
}

/// Arguments that Databricks fills in and shows.
fn defaults(function: &str, given: usize) -> &'static [&'static str] {
    match (function, given) {
        ("regexp_extract" | "regexp_extract_all" | "locate" | "position", 2) => &["1"],
        ("regexp_replace", 3) => &["1"],
        ("regexp_instr", 2) => &["0"],
        ("split", 2) => &["-1"],
        ("lpad" | "rpad", 2) => &[" "],
        ("months_between", 2) => &["true"],
        ("replace", 2) => &[""],
        ("round" | "bround", 1) => &["0"],
        ("substring" | "substr", 2) => &["2147483647"],
        ("str_to_map", 1) => &[",", ":"],
        ("str_to_map", 2) => &[":"],
        ("lag" | "lead", 1) => &["1", "NULL"],
        ("lag" | "lead", 2) => &["NULL"],
        ("listagg" | "string_agg", 1) => &["NULL"],
        ("percentile", 2) => &["1"],
        ("percentile_approx" | "approx_percentile", 2) => &["10000"],
        ("sort_array", 1) => &["true"],
        ("sentences", 1) => &["", ""],
        ("sentences", 2) => &[""],
        ("overlay", 3) => &["-1"],
        ("from_unixtime" | "unix_timestamp" | "to_unix_timestamp", 1) => &["yyyy-MM-dd HH:mm:ss"],
        ("unix_timestamp", 0) => &["current_timestamp()", "yyyy-MM-dd HH:mm:ss"],
        ("mask", 1) => &["X", "x", "n", "NULL"],
        ("mask", 2) => &["x", "n", "NULL"],
        ("mask", 3) => &["n", "NULL"],
        ("mask", 4) => &["NULL"],
        ("array_sort", 1) => &[ARRAY_SORT],
        ("nth_value", 1) => &["1"],
        ("make_dt_interval", 0) => &["0", "0", "0", "0.000000"],
        ("make_dt_interval", 1) => &["0", "0", "0.000000"],
        ("make_dt_interval", 2) => &["0", "0.000000"],
        ("make_dt_interval", 3) => &["0.000000"],
        ("make_ym_interval", 0) => &["0", "0"],
        ("make_ym_interval", 1) => &["0"],
        ("make_interval", given @ 0..=6) => &MIXED_PARTS[given..],
        ("ntile", 0) => &["1"],
        _ => &[],
    }
}

const MIXED_PARTS: [&str; 7] = ["0", "0", "0", "0", "0", "0", "0.000000"];

/// The comparison that `array_sort` shows when none is given.
const ARRAY_SORT: &str = "lambdafunction((IF(((namedlambdavariable() IS NULL) AND (namedlambdavariable() IS NULL)), 0, (IF((namedlambdavariable() IS NULL), 1, (IF((namedlambdavariable() IS NULL), -1, (IF((namedlambdavariable() < namedlambdavariable()), -1, (IF((namedlambdavariable() > namedlambdavariable()), 1, 0)))))))))), namedlambdavariable(), namedlambdavariable())";

/// Functions that Databricks prints in capitals.
fn in_capitals(function: &str) -> bool {
    matches!(
        function,
        "acos"
            | "acosh"
            | "asin"
            | "asinh"
            | "atan"
            | "atan2"
            | "atanh"
            | "cbrt"
            | "ceil"
            | "cos"
            | "cosh"
            | "cot"
            | "csc"
            | "degrees"
            | "e"
            | "exp"
            | "expm1"
            | "floor"
            | "hypot"
            | "log"
            | "log10"
            | "log1p"
            | "log2"
            | "pi"
            | "power"
            | "radians"
            | "sec"
            | "signum"
            | "sin"
            | "sinh"
            | "sqrt"
            | "tan"
            | "tanh"
            | "rank"
            | "dense_rank"
            | "percent_rank"
    )
}

/// The name that a function is printed under, for those with another.
fn printed_name(function: &str) -> &str {
    match function {
        "array_agg" => "collect_list",
        "curdate" => "current_date",
        "current_database" => "current_schema",
        "dateadd" => "date_add",
        "lambda" => "lambdafunction",
        other => other,
    }
}

/// The type that a function of its name casts to. Such casts don't show.
pub(super) fn cast_type(function: &str) -> Option<DataType> {
    Some(match function {
        "boolean" => DataType::Boolean,
        "tinyint" => DataType::Int8,
        "smallint" => DataType::Int16,
        "int" => DataType::Int32,
        "bigint" => DataType::Int64,
        "float" => DataType::Float32,
        "double" => DataType::Float64,
        "decimal" => DataType::Decimal128(10, 0),
        "date" => DataType::Date32,
        "timestamp" => types::timestamp(),
        "binary" => DataType::Binary,
        "string" => DataType::Utf8,
        _ => return None,
    })
}

/// A scalar call.
pub(super) fn call(function: &str, args: &[Bound]) -> String {
    let names: Vec<&str> = args.iter().map(|a| a.name.as_str()).collect();
    match (function, names.as_slice()) {
        (f, [x]) if cast_type(f).is_some() => (*x).to_string(),
        ("to_char" | "to_varchar", [x, format]) => match &args[0].t.ty {
            t if types::is_datetime(t) => format!("date_format({x}, {format})"),
            DataType::Binary if function == "to_varchar" && format.eq_ignore_ascii_case("utf-8") => format!("to_varchar({x}, {format})"),
            DataType::Binary if function == "to_varchar" => format!("to_varchar({x})"),
            DataType::Binary if format.eq_ignore_ascii_case("utf-8") => format!("decode({x}, utf-8)"),
            DataType::Binary => format!("{}({x})", format.to_lowercase()),
            _ => format!("to_char({x}, {format})"),
        },
        ("positive", [x]) => format!("(+ {x})"),
        ("datepart", [field, x]) => format!("datepart({field} FROM {x})"),
        ("try_make_timestamp" | "try_make_timestamp_ltz", [parts @ .., _]) if parts.len() == 6 => {
            format!("{function}({})", parts.join(", "))
        }
        ("like", [x, pattern]) => format!("{x} LIKE {pattern}"),
        ("like", [x, pattern, escape]) => format!("{x} LIKE {pattern} ESCAPE '{escape}'"),
        ("ilike", [x, pattern, _]) => format!("ilike({x}, {pattern})"),
        ("if", [c, a, b]) => format!("(IF({c}, {a}, {b}))"),
        ("isnull", [x]) => format!("({x} IS NULL)"),
        ("isnotnull", [x]) => format!("({x} IS NOT NULL)"),
        ("lpad" | "rpad", [x, n]) if args[0].t.ty == DataType::Binary => format!("{function}({x}, {n}, X'00')"),
        ("ceil" | "floor", [_, _]) => format!("{function}({})", names.join(", ")),
        ("log", [x]) => format!("LOG(E(), {x})"),
        ("trim_both", [x, what]) => format!("TRIM(BOTH {what} FROM {x})"),
        ("ltrim", [what, x]) => format!("TRIM(LEADING {what} FROM {x})"),
        ("rtrim", [what, x]) => format!("TRIM(TRAILING {what} FROM {x})"),
        ("from_json" | "from_csv" | "to_json" | "to_csv", [x, ..]) => format!("{function}({x})"),
        ("timestampadd" | "dateadd" | "date_add", [unit, n, x]) => format!("timestampadd({unit}, {n}, {x})"),
        ("timestampdiff" | "datediff" | "date_diff", [unit, a, b]) => format!("timestampdiff({unit}, {a}, {b})"),
        ("rlike" | "regexp_like" | "regexp", [x, p]) => format!("{}({x}, {p})", function.to_uppercase()),
        ("convert_timezone", [to, x]) => format!("convert_timezone(current_timezone(), {to}, {x})"),
        ("assert_true", [x]) => format!("assert_true({x}, '{x}' is not true!)"),
        ("raise_error", [x]) => format!("raise_error(USER_RAISED_EXCEPTION, map(errorMessage, {x}))"),
        _ => {
            let all: Vec<&str> = names.iter().copied().chain(defaults(function, names.len()).iter().copied()).collect();
            let shown = printed_name(function);
            let shown = if in_capitals(function) { shown.to_uppercase() } else { shown.to_string() };
            format!("{shown}({})", all.join(", "))
        }
    }
}

/// An aggregate call without its filter.
pub(super) fn aggregate_call(args: &Arguments, order: &[String]) -> String {
    let function = args.name.as_str();
    let names: Vec<&str> = args.args.iter().map(|a| a.name.as_str()).collect();
    // `first_value(x) IGNORE NULLS` is shown as `first(x)`.
    let shown = match function {
        "first_value" if args.null_treatment_written => "first",
        "last_value" if args.null_treatment_written => "last",
        "string_agg" if !order.is_empty() => "listagg",
        f => printed_name(f),
    };
    // `mode` shows the order that decides between equals.
    match (function, names.as_slice(), order) {
        ("mode", [x, "true"], []) => return format!("mode() WITHIN GROUP (ORDER BY {x} DESC)"),
        ("mode", [x, "false"], []) => return format!("mode({x})"),
        ("mode", [], [key]) => {
            return match key.strip_suffix(" DESC") {
                Some(key) => format!("mode() WITHIN GROUP (ORDER BY {key})"),
                None => format!("mode() WITHIN GROUP (ORDER BY {key} DESC)"),
            };
        }
        _ => {}
    }
    let distinct = if args.distinct { "DISTINCT " } else { "" };
    // Whether NULLs are skipped doesn't show as an argument.
    let names = match (function, names.as_slice()) {
        ("first" | "last" | "first_value" | "last_value" | "any_value" | "approx_count_distinct", [x, _]) => vec![*x],
        _ => names,
    };
    let filled = if order.is_empty() || !matches!(function, "percentile_cont" | "percentile_disc" | "mode") {
        defaults(function, names.len())
    } else {
        &[]
    };
    let all: Vec<&str> = names.iter().copied().chain(filled.iter().copied()).collect();
    let mut text = format!("{shown}({distinct}{})", all.join(", "));
    if !order.is_empty() {
        text.push_str(&format!(" WITHIN GROUP (ORDER BY {})", order.join(", ")));
    }
    text
}

/// A window function's call without OVER.
pub(super) fn window_call(args: &Arguments) -> String {
    let function = args.name.as_str();
    if matches!(function, "first_value" | "last_value" | "first" | "last") {
        return aggregate_call(args, &[]);
    }
    // What the rank functions are given means nothing and isn't shown.
    let shown = if matches!(function, "rank" | "dense_rank" | "percent_rank") { &[][..] } else { &args.args };
    let text = call(function, shown);
    // Of `lag` and `lead`, only their frame says so.
    let says = args.ignore_nulls && !matches!(function, "lag" | "lead");
    if says { format!("{text} ignore nulls") } else { text }
}

//! Databricks' recorded answers to expressions without tables, evaluated by the table's own
//! functions: once as constants, once over columns. Statements that hold something else than
//! literals, casts and calls are skipped; how many ran is asserted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::*;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::{ColumnarValue, Expr};
use datafusion::physical_expr::create_physical_expr;
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::dialect::DatabricksDialect;
use datafusion::sql::sqlparser::parser::Parser;
use flightpath_types::{Error, ErrorKind, Result};
use serde_json::{Value, json};

use crate::def::{BindContext, DuckCall, FpScalar, Typed};
use crate::{FunctionDef, cast, sig, types};

pub(crate) fn context() -> BindContext {
    context_in("UTC")
}

pub(crate) fn context_in(zone: &str) -> BindContext {
    BindContext {
        time_zone: zone.into(),
        now_micros: 1_710_072_000_123_456,
        catalog: "lake".into(),
        schema: "default".into(),
        principal: "anonymous".into(),
        uncacheable: AtomicBool::new(false),
    }
}

/// Why a statement isn't run here.
#[derive(Debug)]
enum Stop {
    Unknown(String),
    Raised(Error),
}

impl From<Error> for Stop {
    fn from(e: Error) -> Self {
        Stop::Raised(e)
    }
}

fn skip<T>(what: impl std::fmt::Display) -> std::result::Result<T, Stop> {
    Err(Stop::Unknown(what.to_string()))
}

/// Escapes as Databricks' literals have them; the parser is told to leave them alone.
fn unescape(text: &str, quote: char) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == quote {
            // Doubled in the literal.
            chars.next();
        }
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('0') => out.push('\0'),
            Some(c @ ('%' | '_')) => out.extend(['\\', c]),
            Some(c) => out.push(c),
            None => out.push('\\'),
        }
    }
    out
}

struct Binder<'a> {
    ctx: &'a BindContext,
}

impl Binder<'_> {
    fn bind(&self, e: &ast::Expr) -> std::result::Result<Typed, Stop> {
        match e {
            ast::Expr::Nested(inner) => self.bind(inner),
            ast::Expr::Value(v) => self.value(&v.value),
            ast::Expr::UnaryOp { op: ast::UnaryOperator::Minus, expr } => match expr.as_ref() {
                ast::Expr::Value(v) => match &v.value {
                    ast::Value::Number(n, long) => self.value(&ast::Value::Number(format!("-{n}"), *long)),
                    other => skip(other),
                },
                other => skip(other),
            },
            ast::Expr::TypedString(t) => {
                let ty = self.ty(&t.data_type)?;
                let text = match &t.value.value {
                    ast::Value::SingleQuotedString(s) => unescape(s, '\''),
                    other => return skip(other),
                };
                let value = cast::cast_literal(&ScalarValue::Utf8(Some(text.clone())), &ty, &self.ctx.time_zone);
                value.map(Typed::literal).map_or_else(|| skip(text), Ok)
            }
            ast::Expr::Cast { expr, data_type, kind, .. } => {
                let (value, ty) = (self.bind(expr)?, self.ty(data_type)?);
                Ok(if *kind == ast::CastKind::TryCast { cast::try_cast(self.ctx, value, &ty)? } else { cast::cast(self.ctx, value, &ty)? })
            }
            ast::Expr::CompoundFieldAccess { root, access_chain } => {
                let mut value = self.bind(root)?;
                for step in access_chain {
                    value = match step {
                        ast::AccessExpr::Subscript(ast::Subscript::Index { index }) => {
                            self.call("subscript", vec![value, self.bind(index)?])?
                        }
                        ast::AccessExpr::Dot(ast::Expr::Identifier(name)) => {
                            let name = Typed::literal(ScalarValue::Utf8(Some(name.value.clone())));
                            self.call("get_field", vec![value, name])?
                        }
                        other => return skip(other),
                    };
                }
                Ok(value)
            }
            ast::Expr::Function(f) => self.function(f),
            ast::Expr::Trim { expr, trim_where, trim_what, .. } => {
                let name = match trim_where {
                    Some(ast::TrimWhereField::Leading) => "ltrim",
                    Some(ast::TrimWhereField::Trailing) => "rtrim",
                    _ => "trim",
                };
                let mut args = Vec::new();
                if let Some(what) = trim_what {
                    args.push(self.bind(what)?);
                }
                args.push(self.bind(expr)?);
                self.call(name, args)
            }
            ast::Expr::Substring { expr, substring_from, substring_for, .. } => {
                let mut args = vec![self.bind(expr)?];
                for part in [substring_from, substring_for].into_iter().flatten() {
                    args.push(self.bind(part)?);
                }
                self.call("substring", args)
            }
            ast::Expr::Extract { field, expr, .. } => {
                let field = Typed::literal(ScalarValue::Utf8(Some(field.to_string())));
                self.call("date_part", vec![field, self.bind(expr)?])
            }
            ast::Expr::Overlay { expr, overlay_what, overlay_from, overlay_for } => {
                let mut args = vec![self.bind(expr)?, self.bind(overlay_what)?, self.bind(overlay_from)?];
                if let Some(n) = overlay_for {
                    args.push(self.bind(n)?);
                }
                self.call("overlay", args)
            }
            ast::Expr::RLike { negated: false, expr, pattern, .. } => self.call("rlike", vec![self.bind(expr)?, self.bind(pattern)?]),
            ast::Expr::Like { negated: false, any: false, expr, pattern, escape_char } => {
                let mut args = vec![self.bind(expr)?, self.bind(pattern)?];
                if let Some(escape) = escape_char {
                    args.push(self.value(&escape.value)?);
                }
                self.call("like", args)
            }
            ast::Expr::ILike { negated: false, any: false, expr, pattern, .. } => {
                self.call("ilike", vec![self.bind(expr)?, self.bind(pattern)?])
            }
            ast::Expr::BinaryOp { left, op: ast::BinaryOperator::StringConcat, right } => {
                self.call("concat", vec![self.bind(left)?, self.bind(right)?])
            }
            ast::Expr::Position { expr, r#in } => self.call("locate", vec![self.bind(expr)?, self.bind(r#in)?]),
            other => skip(other),
        }
    }

    fn function(&self, f: &ast::Function) -> std::result::Result<Typed, Stop> {
        let name = f.name.to_string().to_ascii_lowercase();
        let ast::FunctionArguments::List(list) = &f.args else { return skip(&name) };
        if f.over.is_some() || f.filter.is_some() || !list.clauses.is_empty() {
            return skip(&name);
        }
        let mut args = Vec::new();
        for (i, arg) in list.args.iter().enumerate() {
            let ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(e)) = arg else { return skip(arg) };
            let is_unit = i == 0
                && list.args.len() == 3
                && matches!(name.as_str(), "dateadd" | "date_add" | "datediff" | "date_diff" | "timestampadd" | "timestampdiff");
            match e {
                ast::Expr::Identifier(unit) if is_unit => args.push(Typed::literal(ScalarValue::Utf8(Some(unit.value.clone())))),
                e => args.push(self.bind(e)?),
            }
        }
        if let ("binary" | "string" | "double" | "int" | "float", [_]) = (name.as_str(), args.as_slice()) {
            let ty = match name.as_str() {
                "binary" => DataType::Binary,
                "string" => DataType::Utf8,
                "double" => DataType::Float64,
                "float" => DataType::Float32,
                _ => DataType::Int32,
            };
            return Ok(cast::cast(self.ctx, args.remove(0), &ty)?);
        }
        self.call(&name, args)
    }

    fn call(&self, name: &str, args: Vec<Typed>) -> std::result::Result<Typed, Stop> {
        match crate::lookup(name) {
            Some(FunctionDef::Scalar(_) | FunctionDef::Rewrite(_)) => Ok(sig::call_by_name(self.ctx, name, args)?),
            _ => skip(name),
        }
    }

    fn value(&self, v: &ast::Value) -> std::result::Result<Typed, Stop> {
        Ok(Typed::literal(match v {
            ast::Value::Null => ScalarValue::Null,
            ast::Value::Boolean(b) => ScalarValue::Boolean(Some(*b)),
            ast::Value::SingleQuotedString(s) => ScalarValue::Utf8(Some(unescape(s, '\''))),
            ast::Value::DoubleQuotedString(s) => ScalarValue::Utf8(Some(unescape(s, '"'))),
            ast::Value::SingleQuotedRawStringLiteral(s) => ScalarValue::Utf8(Some(s.clone())),
            ast::Value::HexStringLiteral(s) => ScalarValue::Binary(Some(hex::decode(s).map_err(|e| Stop::Unknown(e.to_string()))?)),
            ast::Value::Number(n, true) => ScalarValue::Int64(n.parse().ok()),
            ast::Value::Number(n, false) if n.contains(['e', 'E']) => ScalarValue::Float64(n.parse().ok()),
            ast::Value::Number(n, false) if n.contains('.') => {
                let digits: String = n.chars().filter(|c| *c != '.').collect();
                let scale = n.len() - n.find('.').unwrap_or(0) - 1;
                let precision = digits.trim_start_matches(['-', '0']).len().max(scale).max(1);
                ScalarValue::Decimal128(digits.parse().ok(), precision as u8, scale as i8)
            }
            ast::Value::Number(n, false) => match n.parse::<i32>() {
                Ok(v) => ScalarValue::Int32(Some(v)),
                Err(_) => ScalarValue::Int64(n.parse().ok()),
            },
            other => return skip(other),
        }))
    }

    fn ty(&self, ty: &ast::DataType) -> std::result::Result<DataType, Stop> {
        Ok(match ty.to_string().to_ascii_uppercase().as_str() {
            "INT" | "INTEGER" => DataType::Int32,
            "BIGINT" => DataType::Int64,
            "TINYINT" => DataType::Int8,
            "STRING" => DataType::Utf8,
            "DOUBLE" => DataType::Float64,
            "FLOAT" => DataType::Float32,
            "BINARY" => DataType::Binary,
            "BOOLEAN" => DataType::Boolean,
            "DATE" => DataType::Date32,
            "TIMESTAMP" | "TIMESTAMP_LTZ" => types::timestamp(),
            "TIMESTAMP_NTZ" => types::TIMESTAMP_NTZ,
            "ARRAY<INT>" => types::array(DataType::Int32, true),
            other => return skip(other),
        })
    }
}

/// The plan's expression evaluated over one row.
pub(crate) fn evaluate(e: &Expr) -> Result<ArrayRef> {
    let schema = DFSchema::empty();
    let physical = create_physical_expr(
        e,
        &schema,
        &ExecutionProps::new(),
        &datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext::default(),
    )
    .map_err(unwrap_error)?;
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let batch =
        RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).map_err(|e| Error::internal(e.to_string()))?;
    match physical.evaluate(&batch).map_err(unwrap_error)? {
        ColumnarValue::Array(a) => Ok(a),
        ColumnarValue::Scalar(s) => s.to_array().map_err(|e| Error::internal(e.to_string())),
    }
}

fn unwrap_error(e: datafusion::error::DataFusionError) -> Error {
    match e.find_root() {
        datafusion::error::DataFusionError::External(inner) => match inner.downcast_ref::<Error>() {
            Some(e) => e.clone(),
            None => Error::internal(inner.to_string()),
        },
        other => Error::internal(other.to_string()),
    }
}

/// A value as the recorded answers write it.
pub(crate) fn render(array: &dyn Array, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Boolean => json!(array.as_boolean().value(row)),
        DataType::Utf8 => json!({"s": array.as_string::<i32>().value(row)}),
        DataType::Binary => json!({"b": hex::encode(array.as_binary::<i32>().value(row))}),
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            json!({"a": (0..items.len()).map(|i| render(&items, i)).collect::<Vec<_>>()})
        }
        DataType::Struct(fields) => {
            let map: serde_json::Map<String, Value> =
                fields.iter().zip(array.as_struct().columns()).map(|(f, c)| (f.name().clone(), render(c, row))).collect();
            json!({"st": map})
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            json!({"m": (0..entries.len()).map(|i| json!([render(entries.column(0), i), render(entries.column(1), i)])).collect::<Vec<_>>()})
        }
        DataType::Duration(_) => {
            json!({"iv": {"months": 0, "days": 0, "micros": array.as_primitive::<DurationMicrosecondType>().value(row)}})
        }
        DataType::Interval(_) => {
            json!({"iv": {"months": array.as_primitive::<IntervalYearMonthType>().value(row), "days": 0, "micros": 0}})
        }
        DataType::Timestamp(_, tz) => {
            let v = array.as_primitive::<TimestampMicrosecondType>().value(row);
            let text = crate::cast::wall_clock_text(v);
            let (date, time) = text.split_once(' ').unwrap_or((&text, ""));
            let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
            json!(format!("{date}T{time}.{fraction:0<6}{}", if tz.is_some() { "Z" } else { "" }))
        }
        DataType::Date32 => json!(crate::cast::date_text(array.as_primitive::<Date32Type>().value(row)).trim_start_matches('+')),
        DataType::Float64 => json!(crate::cast::double_text(array.as_primitive::<Float64Type>().value(row))),
        DataType::Float32 => json!(crate::cast::float_text(array.as_primitive::<Float32Type>().value(row))),
        DataType::Decimal128(_, s) => json!(crate::duckdb::decimal_text(array.as_primitive::<Decimal128Type>().value(row), *s as usize)),
        DataType::Int8 => json!(array.as_primitive::<Int8Type>().value(row).to_string()),
        DataType::Int16 => json!(array.as_primitive::<Int16Type>().value(row).to_string()),
        DataType::Int32 => json!(array.as_primitive::<Int32Type>().value(row).to_string()),
        DataType::Int64 => json!(array.as_primitive::<Int64Type>().value(row).to_string()),
        DataType::Null => Value::Null,
        other => json!(format!("?{other}")),
    }
}

/// DuckDB's text of a bound expression, or why there is none.
pub(crate) fn duckdb(e: &Expr, ctx: &BindContext) -> std::result::Result<String, String> {
    match e {
        Expr::Literal(v, _) => crate::duckdb::literal(v),
        Expr::Alias(a) => duckdb(&a.expr, ctx),
        Expr::ScalarFunction(call) => {
            let fp = (call.func.inner().as_ref() as &dyn std::any::Any).downcast_ref::<FpScalar>().ok_or("not ours")?;
            let args = call.args.iter().map(|a| duckdb(a, ctx)).collect::<std::result::Result<Vec<_>, _>>()?;
            let schema = DFSchema::empty();
            use datafusion::logical_expr::ExprSchemable;
            let types =
                call.args.iter().map(|a| a.get_type(&schema).map_err(|e| e.to_string())).collect::<std::result::Result<Vec<_>, _>>()?;
            let literals: Vec<Option<ScalarValue>> =
                call.args.iter().map(|a| if let Expr::Literal(v, _) = a { Some(v.clone()) } else { None }).collect();
            (fp.def.duckdb)(&DuckCall { args: &args, types: &types, literals: &literals, ret: &fp.ret, time_zone: &ctx.time_zone })
        }
        other => Err(format!("{other} isn't a call")),
    }
}

fn same(recorded: &Value, ours: &Value) -> bool {
    match (recorded, ours) {
        (Value::String(a), Value::String(b)) => {
            a == b || matches!((a.parse::<f64>(), b.parse::<f64>()), (Ok(x), Ok(y)) if a.contains(['.', 'E']) && x == y)
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(x, y)| same(x, y)),
        // The order of a map's entries isn't recorded.
        (Value::Object(a), Value::Object(b)) if a.contains_key("m") => match (&a["m"], b.get("m")) {
            (Value::Array(x), Some(Value::Array(y))) => x.len() == y.len() && x.iter().all(|e| y.iter().any(|f| same(e, f))),
            _ => false,
        },
        (Value::Object(a), Value::Object(b)) => a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|w| same(v, w))),
        (a, b) => a == b,
    }
}

#[test]
fn expressions_answer_as_recorded() {
    let ctx = context();
    let binder = Binder { ctx: &ctx };
    let recorded = include_str!("../tests/data/recorded.jsonl");
    let (mut ran, mut wrong, mut skipped) = (0, Vec::new(), BTreeMap::<String, usize>::new());
    let mut dump = Vec::new();
    for line in recorded.lines() {
        let statement: Value = serde_json::from_str(line).unwrap();
        let sql = statement["sql"].as_str().unwrap();
        let id = statement["id"].as_str().unwrap();
        let parsed = Parser::new(&DatabricksDialect {})
            .with_options(datafusion::sql::sqlparser::parser::ParserOptions::new().with_unescape(false))
            .try_with_sql(sql)
            .and_then(|mut p| p.parse_statements());
        let Ok(parsed) = parsed else {
            *skipped.entry("parse".into()).or_default() += 1;
            continue;
        };
        let ast::Statement::Query(query) = &parsed[0] else { continue };
        let ast::SetExpr::Select(select) = query.body.as_ref() else { continue };
        for (i, item) in select.projection.iter().enumerate() {
            let (ast::SelectItem::UnnamedExpr(e) | ast::SelectItem::ExprWithAlias { expr: e, .. }) = item else { continue };
            let outcome = binder.bind(e).and_then(|t| Ok((evaluate(&t.expr)?, t)));
            let error = statement.get("error");
            match (outcome, error) {
                (Err(Stop::Raised(e)), _) if e.kind() == ErrorKind::NotEligible => *skipped.entry("refused".into()).or_default() += 1,
                (Err(Stop::Unknown(what)), _) => *skipped.entry(what.chars().take(40).collect()).or_default() += 1,
                (Err(Stop::Raised(e)), Some(error))
                    if e.class() == error["class"].as_str() && e.sql_state() == error["sqlstate"].as_str() =>
                {
                    ran += 1
                }
                (Err(Stop::Raised(e)), _) => wrong.push(format!("{id} {e:.300}\n    {sql:.0}{item}")),
                (Ok(_), Some(_)) if select.projection.len() > 1 => {}
                (Ok((array, _)), Some(error)) => wrong.push(format!("{id} gave {} instead of {error}", render(&array, 0))),
                (Ok((array, typed)), None) => {
                    ran += 1;
                    let column = &statement["columns"][i];
                    let (value, expected) = (render(&array, 0), &statement["rows"][0][i]);
                    let ty = types::name(&typed.ty);
                    // Intervals carry their fields beside the type.
                    let type_differs = column["spark_type"].as_str().is_some_and(|t| t != ty && !t.starts_with("interval"));
                    if !same(expected, &value)
                        || type_differs
                        || array.data_type() != &typed.ty
                        || column["nullable"].as_bool() != Some(typed.nullable)
                    {
                        wrong.push(format!(
                            "{id} {item}\n    is {value} {ty} nullable={}, recorded {expected} {} nullable={}",
                            typed.nullable, column["spark_type"], column["nullable"]
                        ));
                    }
                    dump.push(json!({"id": id, "sql": item.to_string(), "duckdb": duckdb(&typed.expr, &ctx).map_err(|e| json!({"refused": e})).map_or_else(|e| e, Value::String), "value": value}));
                }
            }
        }
    }
    // For comparing DuckDB's answers to the same expressions with ours.
    if let Ok(path) = std::env::var("FLIGHTPATH_DUMP_EXPRESSIONS") {
        std::fs::write(path, dump.iter().map(|v| v.to_string() + "\n").collect::<String>()).unwrap();
        eprintln!("skipped {skipped:#?}");
    }
    assert!(wrong.is_empty(), "{} of {ran} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(ran > 480, "only {ran} recorded expressions ran");
}

/// Columns of one table, in which every function must answer as it does to constants.
fn columns() -> Vec<(&'static str, ArrayRef)> {
    use arrow::array::{BinaryArray, Date32Array, Int32Array, ListArray, StringArray, TimestampMicrosecondArray};
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
        Some(vec![Some(3), None, Some(1), Some(1)]),
        None,
        Some(vec![]),
        Some(vec![Some(7), Some(2)]),
    ]);
    let DataType::List(field) = types::array(DataType::Int32, true) else { unreachable!() };
    let list = ListArray::new(field, list.offsets().clone(), list.values().clone(), list.nulls().cloned());
    vec![
        ("s", Arc::new(StringArray::from(vec![Some("a,b é"), None, Some(""), Some(" Straße.x ")])) as ArrayRef),
        ("t", Arc::new(StringArray::from(vec![Some("b"), Some("x"), Some(""), None]))),
        ("b", Arc::new(BinaryArray::from(vec![Some(&b"ab"[..]), None, Some(&b""[..]), Some(&b"\xff\x00"[..])]))),
        ("n", Arc::new(Int32Array::from(vec![Some(2), Some(-1), None, Some(1)]))),
        ("d", Arc::new(Date32Array::from(vec![Some(19_782), None, Some(-1), Some(20_087)]))),
        (
            "p",
            Arc::new(
                TimestampMicrosecondArray::from(vec![Some(1_709_251_199_999_999), Some(-500_000), None, Some(0)]).with_timezone("UTC"),
            ),
        ),
        ("a", Arc::new(list)),
    ]
}

#[test]
fn columns_answer_as_constants() {
    let ctx = context();
    let columns = columns();
    let fields: Vec<Field> = columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(schema.clone(), columns.iter().map(|(_, a)| a.clone()).collect()).unwrap();
    let df_schema = DFSchema::try_from(schema.as_ref().clone()).unwrap();
    let calls = [
        (
            "upper lower initcap length octet_length bit_length trim ltrim rtrim reverse ascii soundex quote mask md5 sha1 crc32 base64 url_encode",
            "s",
        ),
        ("length octet_length base64 md5 sha1 crc32", "b"),
        (
            "startswith endswith contains instr locate btrim concat concat_ws find_in_set levenshtein split rlike regexp_count regexp_substr like ilike",
            "s t",
        ),
        ("left right substring lpad rpad repeat", "s n"),
        ("replace translate regexp_replace", "s t t"),
        ("substring", "s n n"),
        ("year month day quarter dayofyear dayofweek weekday weekofyear dayname monthname last_day unix_date", "d"),
        ("date_add date_sub add_months", "d n"),
        ("datediff", "d d"),
        ("hour minute second unix_seconds unix_millis unix_timestamp to_date", "p"),
        ("size array_max array_min sort_array array_sort array_distinct array_compact reverse to_json", "a"),
        ("array_contains array_position array_append array_prepend array_remove get try_element_at array_repeat", "a n"),
        ("array_union array_intersect array_except arrays_overlap concat", "a a"),
        ("array", "s t t"),
        ("sequence", "n n"),
    ];
    let mut compared = 0;
    for (names, args) in calls {
        for name in names.split(' ') {
            let args: Vec<usize> = args.split(' ').map(|a| columns.iter().position(|(name, _)| *name == a).unwrap()).collect();
            let as_columns =
                args.iter().map(|i| Typed::new(datafusion::prelude::col(columns[*i].0), columns[*i].1.data_type().clone(), true)).collect();
            let bound = sig::call_by_name(&ctx, name, as_columns).unwrap_or_else(|e| panic!("{name}: {e}"));
            let planning = datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext::default();
            let physical = create_physical_expr(&bound.expr, &df_schema, &ExecutionProps::new(), &planning).unwrap();
            let whole = physical.evaluate(&batch).unwrap().into_array(batch.num_rows()).unwrap();
            assert_eq!(whole.data_type(), &bound.ty, "{name}");
            for row in 0..batch.num_rows() {
                let constants = args.iter().map(|i| Typed::literal(ScalarValue::try_from_array(&columns[*i].1, row).unwrap())).collect();
                let one = evaluate(&sig::call_by_name(&ctx, name, constants).unwrap().expr).unwrap_or_else(|e| panic!("{name}: {e}"));
                assert_eq!(render(&whole, row), render(&one, 0), "{name} in row {row}");
                compared += 1;
            }
        }
    }
    assert!(compared > 300, "{compared}");
}

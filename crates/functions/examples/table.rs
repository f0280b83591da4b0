//! Writes `docs/functions.md` from the compile table, by trying each row with arguments of many
//! types: what binds without a cast is asked for its DuckDB text. It must say nothing that the
//! table itself doesn't.
//!
//! `cargo run -p flightpath-functions --example table > docs/functions.md`

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::atomic::AtomicBool;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::Sort;
use datafusion::logical_expr::{Expr, ExprSchemable};
use flightpath_functions::lambda::{DuckHigher, DuckLambda, HigherDef, Lambda, parameter_column};
use flightpath_functions::ops::{self, BinaryOp};
use flightpath_functions::{
    AggregateCall, AggregateDef, BindContext, DuckAggregate, DuckCall, FpScalar, FunctionDef, RewriteDef, ScalarDef, Typed, WindowDef,
    cast, duckdb, types,
};

fn main() {
    print!("{}", page());
}

/// Longest DuckDB text that is shown whole.
const TEXT_CHARS_MAX: usize = 140;
/// Calls of more arguments are tried with arguments of one type only.
const MIXED_ARGUMENTS_MAX: usize = 3;
const ARGUMENTS_MAX: usize = 7;

fn context() -> BindContext {
    BindContext {
        time_zone: "UTC".into(),
        now_micros: 1_704_067_200_000_000,
        catalog: "lake".into(),
        schema: "default".into(),
        principal: "ana".into(),
        uncacheable: AtomicBool::new(false),
    }
}

/// One column of each type, by the name that stands for it in the page.
fn columns() -> Vec<(&'static str, DataType)> {
    let structure = DataType::Struct(vec![Field::new("a", DataType::Int32, true)].into());
    vec![
        ("s", DataType::Utf8),
        ("i", DataType::Int32),
        ("l", DataType::Int64),
        ("dec", DataType::Decimal128(10, 2)),
        ("d", DataType::Float64),
        ("b", DataType::Boolean),
        ("day", DataType::Date32),
        ("ts", types::timestamp()),
        ("ntz", types::TIMESTAMP_NTZ),
        ("bin", DataType::Binary),
        ("arr", types::array(DataType::Int32, true)),
        ("map", types::map(DataType::Utf8, DataType::Int32)),
        ("st", structure),
        ("ym", types::YEAR_MONTH),
        ("dt", types::DAY_TIME),
    ]
}

fn column(name: &str, ty: &DataType) -> Typed {
    Typed::new(Expr::Column(Column::new_unqualified(name)), ty.clone(), true)
}

fn column_arguments() -> Vec<Typed> {
    columns().iter().map(|(name, ty)| column(name, ty)).collect()
}

/// What functions want as literals: units, patterns, paths, positions, shares.
fn literal_arguments() -> Vec<Typed> {
    let texts = ["YEAR", "yyyy-MM-dd", "$.a", "a", "999"].map(|t| Typed::literal(ScalarValue::Utf8(Some(t.into()))));
    let numbers = [ScalarValue::Int32(Some(2)), ScalarValue::Float64(Some(0.5)), ScalarValue::Boolean(Some(true))].map(Typed::literal);
    texts.into_iter().chain(numbers).collect()
}

fn schema() -> DFSchema {
    let fields: Vec<Field> = columns().into_iter().map(|(name, ty)| Field::new(name, ty, true)).collect();
    DFSchema::try_from(Schema::new(fields)).expect("columns have different names")
}

/// Every list of `length` members of `pool`.
fn tuples(pool: &[Typed], length: usize) -> Vec<Vec<Typed>> {
    if length > MIXED_ARGUMENTS_MAX {
        return pool.iter().map(|a| vec![a.clone(); length]).collect();
    }
    let mut lists = vec![Vec::new()];
    for _ in 0..length {
        lists = lists.into_iter().flat_map(|list| pool.iter().map(move |a| [list.as_slice(), std::slice::from_ref(a)].concat())).collect();
    }
    lists
}

/// How an argument is written in the page, and in DuckDB's text.
fn written(arg: &Typed) -> String {
    match &arg.expr {
        Expr::Column(column) => column.name.clone(),
        _ => arg.as_literal().and_then(|v| duckdb::literal(v).ok()).unwrap_or_else(|| "...".into()),
    }
}

fn call_text(name: &str, args: &[Typed]) -> String {
    let args: Vec<String> = args.iter().map(sql_argument).collect();
    format!("{name}({})", args.join(", "))
}

fn sql_argument(arg: &Typed) -> String {
    match arg.as_literal() {
        Some(ScalarValue::Float64(Some(v))) => v.to_string(),
        _ => written(arg),
    }
}

/// A call that binds, and its DuckDB text or the reason why there's none.
struct Tried {
    call: String,
    duckdb: Result<String, String>,
}

/// What came of a row: the calls that bind at the least number of arguments, or why none does.
enum Tries {
    Calls(Vec<Tried>),
    Refused(String),
}

/// What binding made of arguments: whether it took them as they are, and the DuckDB side.
type Attempt = Result<(bool, Result<String, String>), String>;

/// Tries calls with ever more arguments, columns first and literals where columns won't do.
fn attempt_all(name: &str, attempt: impl Fn(&[Typed]) -> Attempt) -> Tries {
    let columns = column_arguments();
    let with_literals: Vec<Typed> = columns.iter().cloned().chain(literal_arguments()).collect();
    let mut refusal = None;
    let mut cast_only: Option<Tried> = None;
    let mut refused_on_duckdb = None;
    for length in 0..=ARGUMENTS_MAX {
        for pool in [&columns, &with_literals] {
            let mut calls = Vec::new();
            for args in tuples(pool, length) {
                match attempt(&args) {
                    Ok((as_they_are, duckdb)) => {
                        let tried = Tried { call: call_text(name, &args), duckdb };
                        match as_they_are {
                            true => calls.push(tried),
                            false => cast_only = cast_only.or(Some(tried)),
                        }
                    }
                    Err(reason) => refusal = Some(reason),
                }
            }
            if calls.iter().any(|c| c.duckdb.is_ok()) {
                return Tries::Calls(calls);
            }
            if !calls.is_empty() && refused_on_duckdb.is_none() {
                refused_on_duckdb = Some(calls);
            }
        }
        // More arguments than a row needs tell nothing new.
        if let Some(calls) = refused_on_duckdb {
            return Tries::Calls(calls);
        }
    }
    match (cast_only, refusal) {
        (Some(tried), _) => Tries::Calls(vec![tried]),
        (None, reason) => Tries::Refused(reason.unwrap_or_default()),
    }
}

fn arguments(args: &[Typed]) -> (Vec<String>, Vec<DataType>, Vec<Option<ScalarValue>>) {
    (
        args.iter().map(written).collect(),
        args.iter().map(|a| a.ty.clone()).collect(),
        args.iter().map(|a| a.as_literal().cloned()).collect::<Vec<Option<ScalarValue>>>(),
    )
}

fn unchanged(given: &[Typed], bound: &[Typed]) -> bool {
    given.len() == bound.len() && given.iter().zip(bound).all(|(g, b)| g.expr == b.expr)
}

fn message(error: flightpath_types::Error) -> String {
    error.to_string()
}

fn scalar(ctx: &BindContext, def: &ScalarDef, args: &[Typed]) -> Attempt {
    let bound = (def.bind)(ctx, args.to_vec()).map_err(message)?;
    let (texts, tys, literals) = arguments(&bound.args);
    let call = DuckCall { args: &texts, types: &tys, literals: &literals, ret: &bound.ret, time_zone: "UTC" };
    Ok((unchanged(args, &bound.args), (def.duckdb)(&call)))
}

fn rewrite(ctx: &BindContext, def: &RewriteDef, args: &[Typed]) -> Attempt {
    let typed = (def.bind)(ctx, args.to_vec()).map_err(message)?;
    Ok((!casts_columns(&typed.expr), parts(&typed.expr)))
}

/// Calls with lambdas, each with the first body that its function takes.
fn higher(ctx: &BindContext, def: &HigherDef) -> Vec<Tried> {
    let mut calls = Vec::new();
    for values in tuples(&column_arguments(), def.values) {
        let Ok((parameters, _)) = (def.parameters)(ctx, &values, &[]) else { continue };
        let names: Vec<String> = ["x", "y", "z"].iter().take(parameters.len()).map(|n| (*n).to_string()).collect();
        let first = Typed::new(Expr::Column(parameter_column(0)), parameters[0].0.clone(), parameters[0].1);
        let literals = [ScalarValue::Boolean(Some(true)), ScalarValue::Int32(Some(1))].map(Typed::literal);
        for body in std::iter::once(first).chain(literals) {
            let text = if matches!(body.expr, Expr::Column(_)) { "x".to_string() } else { written(&body) };
            let mut lambdas =
                vec![Lambda { parameters: parameters.clone(), body: body.expr.clone(), ty: body.ty.clone(), nullable: body.nullable }];
            let Ok((ret, _)) = (def.finish)(ctx, &values, &mut lambdas) else { continue };
            let (texts, types, _) = arguments(&values);
            let call = format!("{}({}, ({}) -> {text})", def.name, texts.join(", "), names.join(", "));
            let duck_lambdas = [DuckLambda { parameters: names.clone(), body: text, raises: false }];
            let duckdb = (def.duckdb)(&DuckHigher { args: &texts, types: &types, lambdas: &duck_lambdas, ret: &ret });
            calls.push(Tried { call, duckdb });
            break;
        }
    }
    calls
}

/// True when a column is cast before anything is done with it.
fn casts_columns(expr: &Expr) -> bool {
    expr.exists(|e| {
        Ok(match e {
            Expr::Cast(cast) => matches!(cast.expr.as_ref(), Expr::Column(_)),
            Expr::ScalarFunction(call) => call.name().ends_with("cast") && matches!(call.args.first(), Some(Expr::Column(_))),
            _ => false,
        })
    })
    .unwrap_or(true)
}

/// The functions of ours that an expression is made of, or why DuckDB doesn't run one of them.
fn parts(expr: &Expr) -> Result<String, String> {
    let schema = schema();
    let mut names = BTreeSet::new();
    let mut refusal = None;
    let walked = expr.apply(|e| {
        let Expr::ScalarFunction(call) = e else { return Ok(TreeNodeRecursion::Continue) };
        let Some(function) = call.func.inner().downcast_ref::<FpScalar>() else {
            return Err(DataFusionError::Plan(format!("the native function `{}`", call.name())));
        };
        let mut args = Vec::new();
        for arg in &call.args {
            args.push(Typed::new(arg.clone(), arg.get_type(&schema)?, true));
        }
        let (texts, tys, literals) = arguments(&args);
        let duck = DuckCall { args: &texts, types: &tys, literals: &literals, ret: &function.ret, time_zone: &function.time_zone };
        names.insert(function.def.name);
        if let Err(reason) = (function.def.duckdb)(&duck) {
            refusal.get_or_insert(reason);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    match (walked, refusal) {
        (Err(e), _) => Err(e.to_string()),
        (_, Some(reason)) => Err(reason),
        (Ok(_), None) => Ok(names.into_iter().collect::<Vec<_>>().join(", ")),
    }
}

fn aggregate_call(args: &[Typed], within_group: bool) -> AggregateCall {
    let key = column("i", &DataType::Int32);
    let order_by = if within_group { vec![(key.clone(), Sort::new(key.expr, true, true))] } else { vec![] };
    AggregateCall { args: args.to_vec(), distinct: false, order_by, within_group, ignore_nulls: false }
}

fn aggregate(ctx: &BindContext, def: &AggregateDef, args: &[Typed]) -> Attempt {
    let bound = (def.bind)(ctx, aggregate_call(args, false));
    let bound = bound.or_else(|first| (def.bind)(ctx, aggregate_call(args, true)).map_err(|_| first)).map_err(message)?;
    let (texts, tys, literals) = arguments(&bound.args);
    let order_by: Vec<String> = bound.order_by.iter().map(|_| "i ASC NULLS FIRST".to_string()).collect();
    let call = DuckAggregate {
        args: &texts,
        types: &tys,
        literals: &literals,
        distinct: bound.distinct,
        ignore_nulls: bound.ignore_nulls,
        order_by: &order_by,
        ret: &bound.ret,
        windowed: false,
    };
    let text = (def.duckdb)(&call).map(|sql| match sql.wrap {
        Some(wrap) => wrap.replace("{second}", sql.second.as_deref().unwrap_or_default()).replace("{}", &sql.call),
        None => sql.call,
    });
    Ok((order_by.is_empty() && unchanged(args, &bound.args) || !order_by.is_empty(), text))
}

fn window(ctx: &BindContext, def: &WindowDef, args: &[Typed]) -> Attempt {
    let (_, bound, _, ret, _) = (def.bind)(ctx, args.to_vec(), false).map_err(message)?;
    let (texts, tys, literals) = arguments(&bound);
    let call = DuckCall { args: &texts, types: &tys, literals: &literals, ret: &ret, time_zone: "UTC" };
    let taken = args.iter().zip(&bound).all(|(g, b)| g.expr == b.expr);
    Ok((taken, (def.duckdb)(&call, false)))
}

/// What DataFusion runs for an aggregate: the first that binds is looked at.
fn aggregate_side(ctx: &BindContext, def: &AggregateDef) -> &'static str {
    let pool: Vec<Typed> = column_arguments().into_iter().chain(literal_arguments()).collect();
    let bound = (0..=2)
        .flat_map(|n| tuples(&pool, n))
        .find_map(|args| (def.bind)(ctx, aggregate_call(&args, false)).or_else(|_| (def.bind)(ctx, aggregate_call(&args, true))).ok());
    match bound {
        None => "-",
        Some(bound) if format!("{:?}", bound.udf.inner()).starts_with("FpAggregate") => "ours",
        Some(_) => "DataFusion's",
    }
}

fn code(text: &str) -> String {
    let mut short: String = text.chars().take(TEXT_CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push_str(" ...");
    }
    format!("`{}`", short.replace('|', "\\|").replace('\n', " "))
}

/// The cell of DuckDB's column.
fn verdict(tries: &Tries, made_of: bool) -> String {
    let calls = match tries {
        Tries::Refused(reason) => return format!("no call binds: {}", plain(reason)),
        Tries::Calls(calls) => calls,
    };
    let yes = calls.iter().find_map(|t| t.duckdb.as_ref().ok().map(|text| (t, text)));
    let no = calls.iter().find_map(|t| t.duckdb.as_ref().err().map(|reason| (t, reason)));
    let shown = |(tried, text): (&Tried, &String)| match (made_of, text.is_empty()) {
        (true, true) => format!("{} as a plain expression", code(&tried.call)),
        (true, false) => format!("{} with the rows {}", code(&tried.call), code(text)),
        (false, _) => format!("{} as {}", code(&tried.call), code(text)),
    };
    match (yes, no) {
        (Some(yes), None) => format!("yes: {}", shown(yes)),
        (None, Some((tried, reason))) => format!("no: {} {}", code(&tried.call), plain(reason)),
        (Some(yes), Some((tried, reason))) => format!("depends on types: {}; not {}: {}", shown(yes), code(&tried.call), plain(reason)),
        (None, None) => "-".into(),
    }
}

fn plain(reason: &str) -> String {
    reason.replace('|', "\\|").replace('\n', " ")
}

fn row(ctx: &BindContext, def: &FunctionDef) -> String {
    let (tries, datafusion, proof, made_of) = match def {
        FunctionDef::Scalar(d) => (attempt_all(d.name, |args| scalar(ctx, d, args)), "ours", d.proof, false),
        FunctionDef::Rewrite(d) => (attempt_all(d.name, |args| rewrite(ctx, d, args)), "written with others", d.proof, true),
        FunctionDef::Higher(d) => (Tries::Calls(higher(ctx, d)), "ours", d.proof, false),
        FunctionDef::Aggregate(d) => (attempt_all(d.name, |args| aggregate(ctx, d, args)), aggregate_side(ctx, d), d.proof, false),
        FunctionDef::Window(d) => (attempt_all(d.name, |args| window(ctx, d, args)), "DataFusion's", d.proof, false),
    };
    let names: Vec<String> = std::iter::once(def.name()).chain(def.aliases().iter().copied()).map(|n| format!("`{n}`")).collect();
    format!("| {} | {datafusion} | {} | {proof} |\n", names.join(", "), verdict(&tries, made_of))
}

const OPERATORS: &[BinaryOp] = &[
    BinaryOp::Add,
    BinaryOp::Subtract,
    BinaryOp::Multiply,
    BinaryOp::Divide,
    BinaryOp::IntegralDivide,
    BinaryOp::Modulo,
    BinaryOp::BitAnd,
    BinaryOp::BitOr,
    BinaryOp::BitXor,
    BinaryOp::ShiftLeft,
    BinaryOp::ShiftRight,
    BinaryOp::ShiftRightUnsigned,
    BinaryOp::Concat,
    BinaryOp::Eq,
    BinaryOp::NotEq,
    BinaryOp::Lt,
    BinaryOp::LtEq,
    BinaryOp::Gt,
    BinaryOp::GtEq,
    BinaryOp::NullSafeEq,
    BinaryOp::And,
    BinaryOp::Or,
];

fn operator(ctx: &BindContext, op: BinaryOp) -> String {
    let pool = column_arguments();
    let (mut run, mut refused) = (Vec::new(), Vec::new());
    for args in tuples(&pool, 2) {
        let [left, right] = args.as_slice() else { continue };
        let Ok(typed) = ops::binary(ctx, op, left.clone(), right.clone()) else { continue };
        if casts_columns(&typed.expr) {
            continue;
        }
        let pair = format!("{} {} {}", written(left), op.symbol(), written(right));
        match parts(&typed.expr) {
            Ok(_) => run.push(pair),
            Err(_) => refused.push(pair),
        }
    }
    let list = |calls: &[String]| calls.iter().map(|c| code(c)).collect::<Vec<_>>().join(", ");
    format!("| {} | {} | {} |\n", code(op.symbol()), list(&run), list(&refused))
}

fn cast_cell(ctx: &BindContext, from: (&str, &DataType), to: &DataType) -> &'static str {
    if !types::can_cast(from.1, to) {
        return "";
    }
    match cast::cast(ctx, column(from.0, from.1), to) {
        Err(_) => "no",
        Ok(typed) => match parts(&typed.expr) {
            Ok(_) => "both",
            Err(_) => "DF",
        },
    }
}

fn casts(ctx: &BindContext, out: &mut String) {
    let columns = columns();
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let _ = writeln!(out, "| from \\ to | {} |\n|---|{}", names.join(" | "), "---|".repeat(names.len()));
    for (name, from) in &columns {
        let cells: Vec<&str> = columns.iter().map(|(_, to)| cast_cell(ctx, (name, from), to)).collect();
        let _ = writeln!(out, "| **{name}** | {} |", cells.join(" | "));
    }
}

const INTRO: &str = "\
# Functions

Generated from the compile table by `cargo run -p flightpath-functions --example table > docs/functions.md`; a test fails when this page is out of date.

What isn't here is refused as \"not eligible\". The columns:

- **DataFusion** runs every row: with code of ours, with its own function, or written with other rows.
- **DuckDB** runs a call if its rule gives a text for the types of the arguments. `yes` means all types that were tried at the least number of arguments; other calls may still be refused. Long texts are cut.
- **proof**: where the answer was compared with Databricks'. `corpus` names recorded answers of Spark in ANSI mode, `slt` the files in `integration-tests/slt`.

Arguments in the examples:

";

fn page() -> String {
    let ctx = context();
    let mut out = String::from(INTRO);
    for (name, ty) in columns() {
        let _ = writeln!(out, "- `{name}`: {}", types::name(&ty).to_uppercase());
    }
    let mut family = "";
    for (name, rows) in flightpath_functions::families() {
        if name != family {
            family = name;
            let _ = writeln!(out, "\n## {name}\n\n| name | DataFusion | DuckDB | proof |\n|---|---|---|---|");
        }
        rows.iter().for_each(|def| out.push_str(&row(&ctx, def)));
    }
    out.push_str("\n## Operators\n\nOperands that Databricks casts first aren't listed. DataFusion runs all of these. Comparisons, AND and OR stay plain expressions, which the printer of DuckDB's text may still refuse for nested types.\n\n| operator | DuckDB runs | DuckDB doesn't |\n|---|---|---|\n");
    OPERATORS.iter().for_each(|op| out.push_str(&operator(&ctx, *op)));
    out.push_str(
        "\n## CAST\n\n`both`: DataFusion and DuckDB; `DF`: DataFusion only; `no`: on neither; empty: no such cast in Databricks.\n\n",
    );
    casts(&ctx, &mut out);
    out
}

#[test]
fn the_page_in_docs_is_what_the_table_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/functions.md");
    let written = std::fs::read_to_string(path).unwrap_or_default();
    let page = page();
    let changed = page.lines().zip(written.lines().chain(std::iter::repeat(""))).find(|(new, old)| new != old);
    assert!(
        page == written,
        "docs/functions.md is out of date, first at {changed:?}: `cargo run -p flightpath-functions --example table > docs/functions.md`"
    );
}

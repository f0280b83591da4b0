//! What a definition is: the shape of a row of the compile table.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::expr::{ScalarFunction, Sort};
use datafusion::logical_expr::{
    AggregateUDF, ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
    WindowFunctionDefinition,
};
use flightpath_types::{Error, Result};

use crate::lambda::HigherDef;

/// An expression with the type and nullability that Databricks gives it. The binder carries these,
/// so that no type is ever asked of DataFusion.
#[derive(Debug, Clone)]
pub struct Typed {
    pub expr: Expr,
    pub ty: DataType,
    pub nullable: bool,
}

impl Typed {
    pub fn new(expr: Expr, ty: DataType, nullable: bool) -> Self {
        Self { expr, ty, nullable }
    }

    pub fn literal(value: ScalarValue) -> Self {
        let (ty, nullable) = (value.data_type(), value.is_null());
        Self { expr: Expr::Literal(value, None), ty, nullable }
    }

    pub fn null(ty: &DataType) -> Result<Self> {
        let value = ScalarValue::try_from(ty).map_err(|e| Error::internal(format!("no NULL of type {ty}: {e}")))?;
        Ok(Self::literal(value))
    }

    /// The value, when this is a literal (a cast or sign around one included by the binder, which folds those).
    pub fn as_literal(&self) -> Option<&ScalarValue> {
        match &self.expr {
            Expr::Literal(value, _) => Some(value),
            Expr::Alias(alias) => match alias.expr.as_ref() {
                Expr::Literal(value, _) => Some(value),
                _ => None,
            },
            _ => None,
        }
    }
}

/// What binding may know besides the arguments.
#[derive(Debug)]
pub struct BindContext {
    /// Session time zone: an IANA name or `+HH:MM`.
    pub time_zone: Arc<str>,
    /// The statement's start, microseconds since the Unix epoch: all of `now()`'s family give it.
    pub now_micros: i64,
    pub catalog: String,
    pub schema: String,
    pub principal: String,
    /// Set when the bound plan holds something that may differ at the next run (`now()`), so that
    /// the plan isn't cached.
    pub uncacheable: AtomicBool,
}

impl BindContext {
    pub fn mark_uncacheable(&self) {
        self.uncacheable.store(true, Ordering::Relaxed);
    }
}

/// One row of the compile table.
pub enum FunctionDef {
    Scalar(ScalarDef),
    Rewrite(RewriteDef),
    Higher(HigherDef),
    Aggregate(AggregateDef),
    Window(WindowDef),
}

impl FunctionDef {
    pub fn name(&self) -> &'static str {
        match self {
            FunctionDef::Scalar(d) => d.name,
            FunctionDef::Rewrite(d) => d.name,
            FunctionDef::Higher(d) => d.name,
            FunctionDef::Aggregate(d) => d.name,
            FunctionDef::Window(d) => d.name,
        }
    }

    pub fn aliases(&self) -> &'static [&'static str] {
        match self {
            FunctionDef::Scalar(d) => d.aliases,
            FunctionDef::Rewrite(d) => d.aliases,
            FunctionDef::Higher(d) => d.aliases,
            FunctionDef::Aggregate(d) => d.aliases,
            FunctionDef::Window(d) => d.aliases,
        }
    }
}

/// A call once typed: arguments already cast to what the implementation takes.
#[derive(Debug)]
pub struct Bound {
    pub args: Vec<Typed>,
    pub ret: DataType,
    pub nullable: bool,
}

/// A function that stays a function in the plan.
pub struct ScalarDef {
    /// Databricks' name, lower case; operators have names of their own (`add`, `cast`).
    pub name: &'static str,
    pub aliases: &'static [&'static str],
    /// Checks arity and types as Databricks does and inserts its implicit casts.
    pub bind: fn(&BindContext, Vec<Typed>) -> Result<Bound>,
    /// What DataFusion runs. Never called with arguments of other types than `bind` gave.
    pub eval: fn(&Invocation<'_>) -> Result<ColumnarValue>,
    /// DuckDB's text for a call, or why there is none (completes "not eligible: ...").
    pub duckdb: fn(&DuckCall<'_>) -> Result<String, String>,
    /// Where its equality with Databricks is proved: recorded answers or `.slt` files.
    pub proof: &'static str,
    /// False for functions whose value isn't decided by their arguments (`rand`, `uuid`).
    pub deterministic: bool,
}

impl ScalarDef {
    /// Types a call and makes the plan's expression for it.
    pub fn call(&'static self, ctx: &BindContext, args: Vec<Typed>) -> Result<Typed> {
        let bound = (self.bind)(ctx, args)?;
        crate::types::check_size([&bound.ret])?;
        Ok(self.expression(ctx, bound))
    }

    pub fn expression(&'static self, ctx: &BindContext, bound: Bound) -> Typed {
        let udf = FpScalar::new(self, bound.ret.clone(), bound.nullable, ctx.time_zone.clone());
        let args = bound.args.into_iter().map(|a| a.expr).collect();
        let expr = Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(ScalarUDF::new_from_impl(udf)), args));
        Typed::new(expr, bound.ret, bound.nullable)
    }
}

/// A function that is written with others: `nvl`, `if`, `left`.
pub struct RewriteDef {
    pub name: &'static str,
    pub aliases: &'static [&'static str],
    pub bind: fn(&BindContext, Vec<Typed>) -> Result<Typed>,
    pub proof: &'static str,
}

/// One evaluation of a scalar function inside DataFusion.
pub struct Invocation<'a> {
    pub args: &'a [ColumnarValue],
    pub rows: usize,
    pub ret: &'a DataType,
    pub time_zone: &'a str,
}

/// A bound call as the printer sees it.
pub struct DuckCall<'a> {
    /// DuckDB text of each argument; each is a complete operand (parenthesised where needed).
    pub args: &'a [String],
    pub types: &'a [DataType],
    /// The value of arguments that are literals.
    pub literals: &'a [Option<ScalarValue>],
    pub ret: &'a DataType,
    pub time_zone: &'a str,
}

/// An aggregate call before typing.
pub struct AggregateCall {
    pub args: Vec<Typed>,
    pub distinct: bool,
    /// Inside the parentheses or WITHIN GROUP.
    pub order_by: Vec<(Typed, Sort)>,
    pub within_group: bool,
    /// `IGNORE NULLS` was written.
    pub ignore_nulls: bool,
}

/// An aggregate call once typed. The udf's name is the definition's name.
pub struct BoundAggregate {
    pub udf: Arc<AggregateUDF>,
    pub args: Vec<Typed>,
    pub order_by: Vec<Sort>,
    pub distinct: bool,
    pub ignore_nulls: bool,
    /// What the udf returns, which must be Databricks' type.
    pub ret: DataType,
    pub nullable: bool,
}

pub struct AggregateDef {
    pub name: &'static str,
    pub aliases: &'static [&'static str],
    pub bind: fn(&BindContext, AggregateCall) -> Result<BoundAggregate>,
    pub duckdb: fn(&DuckAggregate<'_>) -> Result<DuckAggregateSql, String>,
    pub proof: &'static str,
}

/// A bound aggregate as the printer sees it.
pub struct DuckAggregate<'a> {
    pub args: &'a [String],
    pub types: &'a [DataType],
    pub literals: &'a [Option<ScalarValue>],
    pub distinct: bool,
    pub ignore_nulls: bool,
    /// `ORDER BY` keys as DuckDB text, NULLS FIRST/LAST written out; empty for none.
    pub order_by: &'a [String],
    pub ret: &'a DataType,
    /// True in `agg(...) OVER (...)`.
    pub windowed: bool,
}

/// DuckDB's text for an aggregate. The printer writes `call`, then `FILTER (...)` and `OVER (...)`
/// behind it where there are any, and puts the whole in place of `{}` in `wrap`.
pub struct DuckAggregateSql {
    pub call: String,
    /// For instance `CAST({} AS BIGINT)`.
    pub wrap: Option<String>,
    /// A second call over the same rows, with the same `FILTER` and `OVER`, which `wrap` names as
    /// `{second}`: an exact average is a sum over a count.
    pub second: Option<String>,
}

/// A window function proper; aggregates used as windows are `AggregateDef`s.
pub struct WindowDef {
    pub name: &'static str,
    pub aliases: &'static [&'static str],
    /// The function for the plan, its arguments, what it returns there, and the type Databricks
    /// gives it: the binder casts when they differ.
    pub bind: fn(&BindContext, Vec<Typed>, bool) -> Result<(WindowFunctionDefinition, Vec<Typed>, DataType, DataType, bool)>,
    /// DuckDB's call text without `OVER`; the bool is IGNORE NULLS.
    pub duckdb: fn(&DuckCall<'_>, bool) -> Result<String, String>,
    pub proof: &'static str,
}

/// A definition as DataFusion sees it: one bound call's function.
#[derive(Clone)]
pub struct FpScalar {
    pub def: &'static ScalarDef,
    pub ret: DataType,
    pub nullable: bool,
    pub time_zone: Arc<str>,
    signature: Signature,
}

impl FpScalar {
    pub fn new(def: &'static ScalarDef, ret: DataType, nullable: bool, time_zone: Arc<str>) -> Self {
        let volatility = if def.deterministic { Volatility::Immutable } else { Volatility::Volatile };
        Self { def, ret, nullable, time_zone, signature: Signature::new(TypeSignature::UserDefined, volatility) }
    }
}

impl std::fmt::Debug for FpScalar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}->{}", self.def.name, self.ret)
    }
}

impl PartialEq for FpScalar {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.def, other.def) && self.ret == other.ret && self.nullable == other.nullable && self.time_zone == other.time_zone
    }
}

impl Eq for FpScalar {}

impl Hash for FpScalar {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.def.name.hash(state);
        self.ret.hash(state);
        self.nullable.hash(state);
        self.time_zone.hash(state);
    }
}

impl ScalarUDFImpl for FpScalar {
    fn name(&self) -> &str {
        self.def.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> DfResult<Vec<DataType>> {
        // `bind` has cast the arguments already.
        Ok(arg_types.to_vec())
    }

    /// With the casts, which DataFusion's own names leave out: two keys of a join may differ in them alone.
    fn schema_name(&self, args: &[Expr]) -> DfResult<String> {
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        Ok(format!("{}({})", self.def.name, args.join(",")))
    }

    fn return_type(&self, _arg_types: &[DataType]) -> DfResult<DataType> {
        Ok(self.ret.clone())
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs<'_>) -> DfResult<FieldRef> {
        Ok(Arc::new(Field::new(self.def.name, self.ret.clone(), self.nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let invocation = Invocation { args: &args.args, rows: args.number_rows, ret: &self.ret, time_zone: &self.time_zone };
        (self.def.eval)(&invocation).map_err(|e| DataFusionError::External(Box::new(e)))
    }
}

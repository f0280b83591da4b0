//! Higher-order functions: rows of the compile table that take lambdas. A call is an ordinary
//! function of its values and of what the lambdas capture; the lambdas' bodies stand inside it, where
//! no optimizer reaches them. A body is evaluated for the elements that Databricks evaluates it for,
//! and for no others: one that raises mustn't raise over an empty array.

mod arrays;
mod maps;
mod sort;

use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex};

use arrow::array::{Array, ArrayRef, UInt32Array, new_empty_array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use flightpath_types::{Error, Result};

pub(crate) use arrays::ARRAYS;
pub(crate) use maps::MAPS;
pub use sort::ARRAY_SORT_BY;
pub(crate) use sort::SORT;

use crate::def::{BindContext, Typed};
use crate::lazy;
use crate::rows::internal;

/// The type of a lambda's parameter and whether it may be NULL.
pub type Parameter = (DataType, bool);

/// A row of the compile table that takes lambdas, behind its other arguments.
pub struct HigherDef {
    pub name: &'static str,
    pub aliases: &'static [&'static str],
    pub values: usize,
    /// Least and greatest number of lambdas.
    pub lambdas: (usize, usize),
    /// Parameters of the lambda that comes next, given those bound so far; checks the values.
    /// A lambda may name fewer of them than there are, but never fewer than the number beside.
    pub parameters: fn(&BindContext, &[Typed], &[Lambda]) -> Result<(Vec<Parameter>, usize)>,
    /// Casts bodies where Databricks does, and gives the call's type and nullability.
    pub finish: fn(&BindContext, &[Typed], &mut [Lambda]) -> Result<(DataType, bool)>,
    pub eval: fn(&HigherInvocation<'_>) -> Result<ArrayRef>,
    pub duckdb: fn(&DuckHigher<'_>) -> Result<String, String>,
    /// Whether the function itself may raise, whatever its lambdas do.
    pub raises: bool,
    pub proof: &'static str,
}

impl std::fmt::Debug for HigherDef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// A bound lambda. Its parameters are the columns `p0`, `p1`... of the body, what it captures are
/// the columns `c0`, `c1`...
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lambda {
    pub parameters: Vec<Parameter>,
    pub body: Expr,
    pub ty: DataType,
    pub nullable: bool,
}

impl Lambda {
    fn typed(&self) -> Typed {
        Typed::new(self.body.clone(), self.ty.clone(), self.nullable)
    }

    fn replace(&mut self, t: Typed) {
        (self.body, self.ty, self.nullable) = (t.expr, t.ty, t.nullable);
    }
}

/// The column of a body that parameter number `index` is.
pub fn parameter_column(index: usize) -> Column {
    Column::new_unqualified(format!("p{index}"))
}

/// The column of a body that captured value number `index` is.
pub fn capture_column(index: usize) -> Column {
    Column::new_unqualified(format!("c{index}"))
}

/// A body typed over columns of the query, made one over its own columns: `names` are its
/// parameters' names while it was bound, and what else it refers to is added to `captures`.
pub fn enclose(body: Expr, names: &[String], captures: &mut Vec<Expr>) -> Result<Expr> {
    let closed = body.transform(|e| {
        let outside = match &e {
            Expr::Column(column) => match names.iter().position(|n| column.relation.is_none() && *n == column.name) {
                Some(index) => return Ok(Transformed::yes(Expr::Column(parameter_column(index)))),
                None => e,
            },
            Expr::OuterReferenceColumn(..) => e,
            _ => return Ok(Transformed::no(e)),
        };
        let index = captures.iter().position(|c| *c == outside).unwrap_or_else(|| {
            captures.push(outside);
            captures.len() - 1
        });
        Ok(Transformed::yes(Expr::Column(capture_column(index))))
    });
    closed.map(|t| t.data).map_err(internal)
}

impl HigherDef {
    /// Whether a parameter is an element's index, which counts from 1 on DuckDB.
    pub fn is_index(&self, parameter: usize) -> bool {
        parameter == 1 && matches!(self.name, "transform" | "filter")
    }

    /// The plan's expression for a call.
    pub fn call(&'static self, ctx: &BindContext, values: Vec<Typed>, captures: Vec<Expr>, mut lambdas: Vec<Lambda>) -> Result<Typed> {
        let (ret, nullable) = (self.finish)(ctx, &values, &mut lambdas)?;
        let function = FpHigher {
            def: self,
            lambdas,
            ret: ret.clone(),
            nullable,
            compiled: Arc::default(),
            signature: Signature::new(TypeSignature::UserDefined, Volatility::Immutable),
        };
        let args = values.into_iter().map(|v| v.expr).chain(captures).collect();
        let expr = Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(ScalarUDF::new_from_impl(function)), args));
        Ok(Typed::new(expr, ret, nullable))
    }
}

/// A call as DataFusion sees it. Its arguments are the values, then the captured columns.
#[derive(Debug, Clone)]
pub struct FpHigher {
    pub def: &'static HigherDef,
    pub lambdas: Vec<Lambda>,
    pub ret: DataType,
    pub nullable: bool,
    compiled: Arc<Mutex<Option<Arc<Compiled>>>>,
    signature: Signature,
}

impl FpHigher {
    pub fn of(call: &ScalarFunction) -> Option<&FpHigher> {
        call.func.inner().downcast_ref::<FpHigher>()
    }

    pub fn may_raise(&self) -> bool {
        self.def.raises || self.lambdas.iter().any(|l| lazy::may_raise(&l.body))
    }

    /// Whether equal arguments give equal values.
    pub fn is_deterministic(&self) -> bool {
        !self.lambdas.iter().any(|l| l.body.is_volatile())
    }

    /// The bodies for captured values of these types; compiled once, since a plan's don't change.
    fn compiled(&self, captures: &[DataType]) -> Result<Arc<Compiled>> {
        let mut known = self.compiled.lock().map_err(|_| Error::internal("a lambda's compilation panicked"))?;
        if let Some(compiled) = known.as_ref().filter(|c| c.captures == captures) {
            return Ok(compiled.clone());
        }
        let bodies = self.lambdas.iter().map(|l| Body::compile(l, captures)).collect::<Result<Vec<_>>>()?;
        let compiled = Arc::new(Compiled { captures: captures.to_vec(), bodies });
        *known = Some(compiled.clone());
        Ok(compiled)
    }
}

impl PartialEq for FpHigher {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.def, other.def) && self.lambdas == other.lambdas && self.ret == other.ret && self.nullable == other.nullable
    }
}

impl Eq for FpHigher {}

impl Hash for FpHigher {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.def.name.hash(state);
        self.lambdas.hash(state);
        self.ret.hash(state);
    }
}

impl ScalarUDFImpl for FpHigher {
    fn name(&self) -> &str {
        self.def.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> DfResult<Vec<DataType>> {
        Ok(arg_types.to_vec())
    }

    fn return_type(&self, _arg_types: &[DataType]) -> DfResult<DataType> {
        Ok(self.ret.clone())
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs<'_>) -> DfResult<FieldRef> {
        Ok(Arc::new(Field::new(self.def.name, self.ret.clone(), self.nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        self.invoke(&args).map_err(|e| DataFusionError::External(Box::new(e)))
    }
}

impl FpHigher {
    fn invoke(&self, args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if scalar { 1 } else { args.number_rows };
        let mut arrays = args.args.iter().map(|a| a.to_array(rows).map_err(internal)).collect::<Result<Vec<ArrayRef>>>()?;
        let captures = arrays.split_off(self.def.values.min(arrays.len()));
        let types: Vec<DataType> = captures.iter().map(|c| c.data_type().clone()).collect();
        let compiled = self.compiled(&types)?;
        let invocation = HigherInvocation { values: &arrays, captures: &captures, compiled: &compiled, rows, call: self };
        let out = (self.def.eval)(&invocation)?;
        if scalar {
            let value = datafusion::common::ScalarValue::try_from_array(&out, 0).map_err(internal)?;
            return Ok(ColumnarValue::Scalar(value));
        }
        Ok(ColumnarValue::Array(out))
    }
}

#[derive(Debug)]
struct Compiled {
    captures: Vec<DataType>,
    bodies: Vec<Body>,
}

#[derive(Debug)]
struct Body {
    /// The columns that the body reads: parameters and captured values by their numbers.
    parameters: Vec<usize>,
    captures: Vec<usize>,
    schema: Arc<Schema>,
    expr: Arc<dyn PhysicalExpr>,
    ty: DataType,
}

impl Body {
    fn compile(lambda: &Lambda, captures: &[DataType]) -> Result<Self> {
        let used = lambda.body.column_refs();
        let reads = |column: Column| used.contains(&column);
        let parameters: Vec<usize> = (0..lambda.parameters.len()).filter(|i| reads(parameter_column(*i))).collect();
        let captured: Vec<usize> = (0..captures.len()).filter(|i| reads(capture_column(*i))).collect();
        let of_parameters = parameters.iter().map(|i| Field::new(parameter_column(*i).name, lambda.parameters[*i].0.clone(), true));
        let of_captures = captured.iter().map(|i| Field::new(capture_column(*i).name, captures[*i].clone(), true));
        let schema = Schema::new(of_parameters.chain(of_captures).collect::<Vec<Field>>());
        let df_schema = DFSchema::try_from(schema.clone()).map_err(internal)?;
        let expr = create_physical_expr(&lambda.body, &df_schema, &ExecutionProps::new(), &PhysicalPlanningContext::default())
            .map_err(internal)?;
        Ok(Self { parameters, captures: captured, schema: Arc::new(schema), expr, ty: lambda.ty.clone() })
    }
}

/// One evaluation of a call.
pub struct HigherInvocation<'a> {
    pub values: &'a [ArrayRef],
    pub rows: usize,
    captures: &'a [ArrayRef],
    compiled: &'a Compiled,
    call: &'a FpHigher,
}

impl HigherInvocation<'_> {
    pub(crate) fn ret(&self) -> &DataType {
        &self.call.ret
    }

    pub(crate) fn lambda(&self, index: usize) -> Result<&Lambda> {
        self.call.lambdas.get(index).ok_or_else(|| Error::internal("a call without its lambda"))
    }

    pub(crate) fn lambdas(&self) -> usize {
        self.call.lambdas.len()
    }

    pub(crate) fn value(&self, index: usize) -> Result<&ArrayRef> {
        self.values.get(index).ok_or_else(|| Error::internal("a call without its arguments"))
    }

    /// The body's values over `parameters`, one for each of `owners`: the rows of the call that the
    /// elements belong to.
    pub(crate) fn apply(&self, index: usize, parameters: &[ArrayRef], owners: &[u32]) -> Result<ArrayRef> {
        let body = self.compiled.bodies.get(index).ok_or_else(|| Error::internal("a call without its lambda"))?;
        if owners.is_empty() {
            return Ok(new_empty_array(&body.ty));
        }
        let mut columns = Vec::with_capacity(body.schema.fields().len());
        for (i, field) in body.parameters.iter().zip(body.schema.fields()) {
            let column = parameters.get(*i).ok_or_else(|| Error::internal("a lambda without its parameter"))?;
            columns.push(crate::nested::retype(column, field.data_type())?);
        }
        let owner_rows = UInt32Array::from(owners.to_vec());
        for i in &body.captures {
            columns.push(take(&self.captures[*i], &owner_rows, None).map_err(internal)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(owners.len()));
        let batch = RecordBatch::try_new_with_options(body.schema.clone(), columns, &options).map_err(internal)?;
        let value = body.expr.evaluate(&batch).map_err(raised)?;
        let array = value.into_array(owners.len()).map_err(internal)?;
        crate::nested::retype(&array, &body.ty)
    }
}

/// What a body raised: our own errors come out as they are.
pub(crate) fn raised(error: DataFusionError) -> Error {
    match error {
        DataFusionError::External(inner) => match inner.downcast::<Error>() {
            Ok(own) => *own,
            Err(other) => Error::internal(other.to_string()),
        },
        DataFusionError::ArrowError(inner, _) => match *inner {
            arrow::error::ArrowError::ExternalError(inner) => match inner.downcast::<Error>() {
                Ok(own) => *own,
                Err(other) => Error::internal(other.to_string()),
            },
            other => Error::internal(other.to_string()),
        },
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => raised(*inner),
        other => Error::internal(other.to_string()),
    }
}

/// A bound call as the printer sees it.
pub struct DuckHigher<'a> {
    /// Text of each value; each is a complete operand.
    pub args: &'a [String],
    pub types: &'a [DataType],
    pub lambdas: &'a [DuckLambda],
    pub ret: &'a DataType,
}

/// A lambda for DuckDB: the text of its body with its parameters under names of their own.
pub struct DuckLambda {
    pub parameters: Vec<String>,
    pub body: String,
    pub raises: bool,
}

impl DuckHigher<'_> {
    /// A body that may raise, where DuckDB would evaluate it for more elements than Databricks does.
    pub(crate) fn whole(&self, name: &str) -> Result<(), String> {
        match self.lambdas.iter().any(|l| l.raises) {
            true => Err(format!("`{name}` with a condition that may raise isn't known to stop early on DuckDB")),
            false => Ok(()),
        }
    }

    /// `lambda v1, v2: body` over the first parameters; an index counts from 1 there.
    pub(crate) fn lambda(&self, index: usize) -> Result<String, String> {
        let lambda = self.lambdas.get(index).ok_or("a call without its lambda")?;
        Ok(format!("lambda {}: {}", lambda.parameters.join(", "), lambda.body))
    }
}

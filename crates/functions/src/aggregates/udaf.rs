//! Our aggregates as DataFusion sees them: one type for all, told apart by what they compute. The
//! result type, its nullability and every parameter are part of it, so that none is asked twice.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, ListArray, StructArray, UInt32Array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{concat, filter, take};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, Signature, TypeSignature, Volatility,
};
use flightpath_types::Error;

use super::bitmaps::{self, Bitmap};
use super::choice::{ByKey, Edge};
use super::collected::{Collect, Collected};
use super::exact;
use super::extremes;
use super::moments;
use crate::cast::Mode;

/// What an aggregate computes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Sum(Mode),
    Avg(Mode),
    Moments(moments::Moment),
    Comoments(moments::Comoment),
    Bitmap(Bitmap),
    Collected(Collect),
    Edge {
        last: bool,
        ignore_nulls: bool,
    },
    ByKey {
        max: bool,
    },
    /// Of floats.
    Extreme {
        max: bool,
    },
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct FpAggregate {
    name: &'static str,
    kind: Kind,
    /// Types of the arguments.
    args: Vec<DataType>,
    ret: DataType,
    nullable: bool,
    signature: Signature,
}

pub(super) fn external(e: Error) -> DataFusionError {
    DataFusionError::External(Box::new(e))
}

impl FpAggregate {
    pub(super) fn udaf(name: &'static str, kind: Kind, args: Vec<DataType>, ret: DataType, nullable: bool) -> Arc<AggregateUDF> {
        let signature = Signature::new(TypeSignature::UserDefined, Volatility::Immutable);
        Arc::new(AggregateUDF::new_from_impl(Self { name, kind, args, ret, nullable, signature }))
    }

    fn plain(&self) -> Box<dyn Accumulator> {
        match &self.kind {
            Kind::Sum(mode) => exact::accumulator(exact::Finish::sum(*mode), &self.args, &self.ret),
            Kind::Avg(mode) => exact::accumulator(exact::Finish::avg(*mode), &self.args, &self.ret),
            Kind::Moments(moment) => Box::new(moments::Running::new(*moment)),
            Kind::Comoments(moment) => Box::new(moments::Corunning::new(*moment)),
            Kind::Bitmap(bitmap) => Box::new(bitmaps::Building::new(*bitmap)),
            Kind::Collected(collect) => Box::new(Collected::new(collect.clone(), self.args.clone(), self.ret.clone())),
            Kind::Edge { last, ignore_nulls } => Box::new(Edge::new(*last, *ignore_nulls, self.ret.clone())),
            Kind::Extreme { max } => extremes::accumulator(*max, &self.ret),
            Kind::ByKey { max } => Box::new(ByKey::new(*max, self.ret.clone(), self.args.get(1).cloned().unwrap_or(DataType::Null))),
        }
    }

    fn fresh(&self, distinct: bool) -> DfResult<Box<dyn Accumulator>> {
        let plain = self.plain();
        Ok(if distinct { Box::new(Distinct::new(plain, self.args.clone())?) } else { plain })
    }

    fn list_state(&self) -> Field {
        Field::new("", DataType::List(Arc::new(Field::new("item", DataType::Struct(columns(&self.args)), true))), true)
    }
}

impl AggregateUDFImpl for FpAggregate {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> DfResult<Vec<DataType>> {
        // Binding has cast the arguments already.
        Ok(arg_types.to_vec())
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(self.ret.clone())
    }

    fn is_nullable(&self) -> bool {
        self.nullable
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> DfResult<Box<dyn Accumulator>> {
        self.fresh(args.is_distinct)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> DfResult<Vec<FieldRef>> {
        let fields = if args.is_distinct {
            vec![self.list_state()]
        } else {
            match &self.kind {
                Kind::Sum(_) | Kind::Avg(_) => exact::state_fields(&self.args),
                Kind::Moments(_) => moments::state_fields(5),
                Kind::Comoments(_) => moments::state_fields(6),
                Kind::Bitmap(_) => vec![Field::new("", DataType::Binary, false)],
                Kind::Collected(_) => vec![self.list_state()],
                Kind::Edge { .. } => vec![Field::new("", self.ret.clone(), true), Field::new("", DataType::Boolean, true)],
                Kind::Extreme { .. } => vec![Field::new("", self.ret.clone(), true)],
                Kind::ByKey { .. } => {
                    self.args.iter().map(|t| Field::new("", t.clone(), true)).chain([Field::new("", DataType::Boolean, true)]).collect()
                }
            }
        };
        let named = |(i, field): (usize, Field)| Arc::new(field.with_name(format_state_name(args.name, &format!("state {i}"))));
        Ok(fields.into_iter().enumerate().map(named).collect())
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        !args.is_distinct && matches!(self.kind, Kind::Sum(_) | Kind::Avg(_) | Kind::Extreme { .. })
    }

    fn create_groups_accumulator(&self, _: AccumulatorArgs<'_>) -> DfResult<Box<dyn GroupsAccumulator>> {
        match &self.kind {
            Kind::Sum(mode) => Ok(exact::groups(exact::Finish::sum(*mode), &self.args, &self.ret)),
            Kind::Avg(mode) => Ok(exact::groups(exact::Finish::avg(*mode), &self.args, &self.ret)),
            Kind::Extreme { max } => Ok(extremes::groups(*max, &self.ret)),
            _ => Err(DataFusionError::Internal(format!("{} has no accumulator for groups", self.name))),
        }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> DfResult<Box<dyn Accumulator>> {
        let distinct = args.is_distinct;
        let plain = self.accumulator(args)?;
        if plain.supports_retract_batch() {
            return Ok(plain);
        }
        Ok(Box::new(Recompute { make: self.clone_parts(), distinct, rows: Vec::new() }))
    }

    fn default_value(&self, _: &DataType) -> DfResult<ScalarValue> {
        self.plain().evaluate()
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        match &self.kind {
            Kind::Edge { last, ignore_nulls } => {
                let kind = Kind::Edge { last: !last, ignore_nulls: *ignore_nulls };
                ReversedUDAF::Reversed(Self::udaf(self.name, kind, self.args.clone(), self.ret.clone(), self.nullable))
            }
            Kind::Sum(_) | Kind::Avg(_) | Kind::Moments(_) | Kind::Comoments(_) | Kind::Bitmap(_) | Kind::Extreme { .. } => {
                ReversedUDAF::Identical
            }
            Kind::ByKey { .. } | Kind::Collected(_) => ReversedUDAF::NotSupported,
        }
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        // ORDER BY keys are arguments of ours, so that no order of the input matters.
        AggregateOrderSensitivity::Insensitive
    }

    fn supports_null_handling_clause(&self) -> bool {
        true
    }
}

impl FpAggregate {
    fn clone_parts(&self) -> Self {
        Self {
            name: self.name,
            kind: self.kind.clone(),
            args: self.args.clone(),
            ret: self.ret.clone(),
            nullable: self.nullable,
            signature: self.signature.clone(),
        }
    }
}

/// Argument columns as the fields of a struct.
pub(super) fn columns(types: &[DataType]) -> Fields {
    types.iter().enumerate().map(|(i, t)| Field::new(format!("a{i}"), t.clone(), true)).collect()
}

/// Rows of arguments as one list of structs: a state.
pub(super) fn rows_to_state(types: &[DataType], arrays: Vec<ArrayRef>) -> DfResult<ScalarValue> {
    let len = arrays.first().map_or(0, |a| a.len());
    let fields = columns(types);
    let rows = StructArray::try_new(fields.clone(), arrays, None)?;
    let item = Arc::new(Field::new("item", DataType::Struct(fields), true));
    let list = ListArray::try_new(item, OffsetBuffer::from_lengths([len]), Arc::new(rows), None)?;
    Ok(ScalarValue::List(Arc::new(list)))
}

/// The rows of states as argument columns.
pub(super) fn state_to_rows(states: &ArrayRef) -> DfResult<Vec<Vec<ArrayRef>>> {
    let lists = states.as_list::<i32>();
    Ok((0..lists.len()).filter(|i| lists.is_valid(*i)).map(|i| lists.value(i).as_struct().columns().to_vec()).collect())
}

/// `DISTINCT`: remembers rows and gives each once to the aggregate in the end.
#[derive(Debug)]
struct Distinct {
    inner: Box<dyn Accumulator>,
    types: Vec<DataType>,
    converter: RowConverter,
    seen: HashMap<OwnedRow, ()>,
    /// In the order of their arrival.
    order: Vec<OwnedRow>,
}

impl Distinct {
    fn new(inner: Box<dyn Accumulator>, types: Vec<DataType>) -> DfResult<Self> {
        let converter = RowConverter::new(types.iter().map(|t| SortField::new(t.clone())).collect())?;
        Ok(Self { inner, types, converter, seen: HashMap::new(), order: Vec::new() })
    }

    fn arrays(&self) -> DfResult<Vec<ArrayRef>> {
        Ok(self.converter.convert_rows(self.order.iter().map(OwnedRow::row))?)
    }

    fn add(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        let rows = self.converter.convert_columns(values)?;
        for row in &rows {
            let row = row.owned();
            if self.seen.insert(row.clone(), ()).is_none() {
                self.order.push(row);
            }
        }
        Ok(())
    }
}

impl Accumulator for Distinct {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        self.add(values)
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        if !self.order.is_empty() {
            self.inner.update_batch(&self.arrays()?)?;
        }
        self.inner.evaluate()
    }

    fn size(&self) -> usize {
        size_of_val(self)
            + self.inner.size()
            + self.order.iter().map(|r| 2 * (r.row().as_ref().len() + size_of::<OwnedRow>())).sum::<usize>()
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        Ok(vec![rows_to_state(&self.types, self.arrays()?)?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        for rows in state_to_rows(&states[0])? {
            self.add(&rows)?;
        }
        Ok(())
    }
}

/// A moving frame for an aggregate that can't forget: the frame's rows are aggregated anew each
/// time, as Databricks does, so that no rounding error and no NaN outlives its row.
#[derive(Debug)]
struct Recompute {
    make: FpAggregate,
    distinct: bool,
    rows: Vec<ArrayRef>,
}

impl Accumulator for Recompute {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        if self.rows.is_empty() {
            self.rows = values.to_vec();
            return Ok(());
        }
        for (have, more) in self.rows.iter_mut().zip(values) {
            *have = concat(&[have, more])?;
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        let gone = values.first().map_or(0, |v| v.len());
        for have in &mut self.rows {
            let gone = gone.min(have.len());
            *have = have.slice(gone, have.len() - gone);
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        let mut once = self.make.fresh(self.distinct)?;
        if self.rows.first().is_some_and(|r| !r.is_empty()) {
            once.update_batch(&self.rows)?;
        }
        once.evaluate()
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.rows.iter().map(|r| r.get_array_memory_size()).sum::<usize>()
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        Err(DataFusionError::Internal("a window frame has no partial state".into()))
    }

    fn merge_batch(&mut self, _: &[ArrayRef]) -> DfResult<()> {
        Err(DataFusionError::Internal("a window frame has no partial state".into()))
    }
}

/// Rows of all columns for which `keep` is true.
pub(super) fn filtered(values: &[ArrayRef], keep: &BooleanArray) -> DfResult<Vec<ArrayRef>> {
    values.iter().map(|v| filter(v, keep).map_err(DataFusionError::from)).collect()
}

pub(super) fn taken(values: &[ArrayRef], indices: &[u32]) -> DfResult<Vec<ArrayRef>> {
    let indices = UInt32Array::from(indices.to_vec());
    values.iter().map(|v| take(v, &indices, None).map_err(DataFusionError::from)).collect()
}

//! Reading a call's arguments row by row and building its result, so that a definition's kernel
//! is a plain function of plain values. A call whose arguments are all scalars is computed once.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayAccessor, ArrayRef, BinaryArray, BinaryBuilder, BooleanArray, Date32Array, Float64Array, Int32Array, Int64Array, ListArray,
    PrimitiveArray, StringArray, StringBuilder,
};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::ColumnarValue;
use flightpath_types::{Error, Result};

use crate::def::Invocation;
use crate::limit::{self, Made};

/// The arguments of one evaluation. Scalars are arrays of one row that every row reads.
pub(crate) struct Frame {
    columns: Vec<(ArrayRef, bool)>,
    rows: usize,
    scalar: bool,
    ret: DataType,
}

/// One argument's values.
pub(crate) struct Column<A> {
    array: A,
    step: usize,
}

impl<A: ArrayAccessor> Column<A> {
    pub(crate) fn get(&self, row: usize) -> Option<A::Item> {
        let index = row * self.step;
        self.array.is_valid(index).then(|| self.array.value(index))
    }
}

/// DataFusion's and Arrow's failures inside a kernel are ours, not the query's.
pub(crate) fn internal(e: impl std::fmt::Display) -> Error {
    Error::internal(e.to_string())
}

impl Frame {
    pub(crate) fn new(invocation: &Invocation<'_>) -> Result<Self> {
        let scalar = invocation.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let mut columns = Vec::with_capacity(invocation.args.len());
        for arg in invocation.args {
            columns.push(match arg {
                ColumnarValue::Array(array) => (array.clone(), false),
                ColumnarValue::Scalar(value) => (value.to_array().map_err(internal)?, true),
            });
        }
        Ok(Self { columns, rows: if scalar { 1 } else { invocation.rows }, scalar, ret: invocation.ret.clone() })
    }

    pub(crate) fn len(&self) -> usize {
        self.columns.len()
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn ret(&self) -> &DataType {
        &self.ret
    }

    /// The argument's array and the index in it that `row` reads.
    pub(crate) fn array(&self, index: usize) -> Result<&ArrayRef> {
        self.columns.get(index).map(|(array, _)| array).ok_or_else(|| Error::internal("a function was called with too few arguments"))
    }

    pub(crate) fn index(&self, column: usize, row: usize) -> usize {
        if self.columns[column].1 { 0 } else { row }
    }

    pub(crate) fn ty(&self, index: usize) -> Result<&DataType> {
        Ok(self.array(index)?.data_type())
    }

    pub(crate) fn column<T: 'static>(&self, index: usize) -> Result<Column<&T>>
    where
        for<'a> &'a T: ArrayAccessor,
    {
        let (array, scalar) = self.columns.get(index).ok_or_else(|| Error::internal("a function was called with too few arguments"))?;
        let typed = array
            .as_any()
            .downcast_ref::<T>()
            .ok_or_else(|| Error::internal(format!("a function was called with an argument of type {}", array.data_type())))?;
        Ok(Column { array: typed, step: usize::from(!scalar) })
    }

    pub(crate) fn text(&self, index: usize) -> Result<Column<&StringArray>> {
        self.column(index)
    }

    pub(crate) fn binary(&self, index: usize) -> Result<Column<&BinaryArray>> {
        self.column(index)
    }

    pub(crate) fn int(&self, index: usize) -> Result<Column<&Int32Array>> {
        self.column(index)
    }

    pub(crate) fn long(&self, index: usize) -> Result<Column<&Int64Array>> {
        self.column(index)
    }

    pub(crate) fn double(&self, index: usize) -> Result<Column<&Float64Array>> {
        self.column(index)
    }

    pub(crate) fn boolean(&self, index: usize) -> Result<Column<&BooleanArray>> {
        self.column(index)
    }

    pub(crate) fn date(&self, index: usize) -> Result<Column<&Date32Array>> {
        self.column(index)
    }

    /// TIMESTAMP or TIMESTAMP_NTZ, as microseconds.
    pub(crate) fn micros(&self, index: usize) -> Result<Column<&PrimitiveArray<TimestampMicrosecondType>>> {
        self.column(index)
    }

    pub(crate) fn decimal(&self, index: usize) -> Result<Column<&PrimitiveArray<Decimal128Type>>> {
        self.column(index)
    }

    pub(crate) fn list(&self, index: usize) -> Result<Column<&ListArray>> {
        self.column(index)
    }

    fn argument_bytes(&self) -> usize {
        limit::bytes_of(self.columns.iter().map(|(array, _)| array))
    }

    /// An array of this frame's rows as the call's value: a scalar when all arguments were.
    pub(crate) fn finish(&self, array: ArrayRef) -> Result<ColumnarValue> {
        if self.scalar {
            Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0).map_err(internal)?))
        } else {
            Ok(ColumnarValue::Array(array))
        }
    }

    pub(crate) fn texts<S: AsRef<str>>(&self, mut f: impl FnMut(usize) -> Result<Option<S>>) -> Result<ColumnarValue> {
        let mut builder = StringBuilder::with_capacity(self.rows, self.rows * 16);
        let mut made = Made::default();
        for row in 0..self.rows {
            let text = f(row)?;
            made.add(text.as_ref().map_or(0, |t| t.as_ref().len()), || self.argument_bytes())?;
            builder.append_option(text);
        }
        self.finish(Arc::new(builder.finish()))
    }

    pub(crate) fn binaries<B: AsRef<[u8]>>(&self, mut f: impl FnMut(usize) -> Result<Option<B>>) -> Result<ColumnarValue> {
        let mut builder = BinaryBuilder::with_capacity(self.rows, self.rows * 16);
        let mut made = Made::default();
        for row in 0..self.rows {
            let bytes = f(row)?;
            made.add(bytes.as_ref().map_or(0, |b| b.as_ref().len()), || self.argument_bytes())?;
            builder.append_option(bytes);
        }
        self.finish(Arc::new(builder.finish()))
    }

    pub(crate) fn booleans(&self, f: impl FnMut(usize) -> Result<Option<bool>>) -> Result<ColumnarValue> {
        let values: BooleanArray = (0..self.rows).map(f).collect::<Result<_>>()?;
        self.finish(Arc::new(values))
    }

    /// Of the type the call returns, which must be stored as `T`.
    pub(crate) fn primitives<T: ArrowPrimitiveType>(&self, f: impl FnMut(usize) -> Result<Option<T::Native>>) -> Result<ColumnarValue> {
        let values: PrimitiveArray<T> = (0..self.rows).map(f).collect::<Result<_>>()?;
        let values = if values.data_type() == &self.ret { values } else { values.with_data_type(self.ret.clone()) };
        self.finish(Arc::new(values))
    }

    pub(crate) fn ints(&self, f: impl FnMut(usize) -> Result<Option<i32>>) -> Result<ColumnarValue> {
        self.primitives::<Int32Type>(f)
    }

    pub(crate) fn longs(&self, f: impl FnMut(usize) -> Result<Option<i64>>) -> Result<ColumnarValue> {
        self.primitives::<Int64Type>(f)
    }

    pub(crate) fn doubles(&self, f: impl FnMut(usize) -> Result<Option<f64>>) -> Result<ColumnarValue> {
        self.primitives::<Float64Type>(f)
    }

    pub(crate) fn dates(&self, f: impl FnMut(usize) -> Result<Option<i32>>) -> Result<ColumnarValue> {
        self.primitives::<Date32Type>(f)
    }

    pub(crate) fn timestamps(&self, f: impl FnMut(usize) -> Result<Option<i64>>) -> Result<ColumnarValue> {
        self.primitives::<TimestampMicrosecondType>(f)
    }
}

/// A kernel that is NULL where any argument is: `eval!(texts; s: text, n: int => value)`. The
/// result's builder comes first, then each argument with its reader; `=>?` takes an `Option`.
/// The value may use `?`.
macro_rules! eval {
    ($out:ident; $($arg:ident : $reader:ident),+ => $body:expr) => {
        $crate::rows::eval!($out; $($arg: $reader),+ =>? Some($body))
    };
    ($out:ident; $($arg:ident : $reader:ident),+ =>? $body:expr) => {
        |invocation: &$crate::def::Invocation<'_>| {
            let frame = $crate::rows::Frame::new(invocation)?;
            let mut next = 0usize..;
            $(let $arg = frame.$reader(next.next().unwrap_or_default())?;)+
            frame.$out(|row| {
                $(let Some($arg) = $arg.get(row) else { return Ok(None) };)+
                Ok($body)
            })
        }
    };
}
pub(crate) use eval;

//! Building arrays from elements of other arrays, and comparing elements as Databricks does.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float32Array, Float64Array, ListArray, MapArray, StructArray, new_null_array};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::interleave;
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use arrow::row::{RowConverter, Rows, SortField};
use flightpath_types::{Error, Result};

use crate::limit::{self, Made};
use crate::rows::internal;

/// Elements of any number of sources, row by row, as one list array.
pub(crate) struct Gather {
    sources: Vec<ArrayRef>,
    picks: Vec<(usize, usize)>,
    offsets: Vec<i32>,
    valid: Vec<bool>,
}

impl Gather {
    /// `sources` are brought to `element`, from which they may differ in nested nullability only.
    pub(crate) fn new(element: &DataType, sources: &[ArrayRef]) -> Result<Self> {
        // Source 0 is a NULL.
        let mut all = vec![new_null_array(element, 1)];
        for source in sources {
            all.push(retype(source, element)?);
        }
        Ok(Self { sources: all, picks: Vec::new(), offsets: vec![0], valid: Vec::new() })
    }

    /// Before so many more elements are pushed.
    pub(crate) fn allow(&self, elements: usize) -> Result<()> {
        limit::allow(self.picks.len().saturating_add(elements).saturating_mul(size_of::<(usize, usize)>()))
    }

    pub(crate) fn push(&mut self, source: usize, index: usize) {
        self.picks.push((source + 1, index));
    }

    pub(crate) fn push_null(&mut self) {
        self.picks.push((0, 0));
    }

    pub(crate) fn end_row(&mut self) -> Result<()> {
        self.close(true)
    }

    pub(crate) fn null_row(&mut self) -> Result<()> {
        self.close(false)
    }

    fn close(&mut self, valid: bool) -> Result<()> {
        let end = i32::try_from(self.picks.len()).map_err(|_| Error::not_eligible("arrays of one batch hold more than 2^31 elements"))?;
        self.offsets.push(end);
        self.valid.push(valid);
        Ok(())
    }

    /// The elements without the rows' bounds.
    pub(crate) fn values(&self) -> Result<ArrayRef> {
        let sources: Vec<&dyn Array> = self.sources.iter().map(AsRef::as_ref).collect();
        self.allow_copies()?;
        interleave(&sources, &self.picks).map_err(internal)
    }

    /// An element that is picked again and again is copied as often.
    fn allow_copies(&self) -> Result<()> {
        let largest = self.sources.iter().map(|source| source.get_buffer_memory_size()).max().unwrap_or(0);
        if self.picks.len().saturating_mul(largest) <= limit::CALL_BYTES_MAX {
            return Ok(());
        }
        let texts: Vec<_> = self.sources.iter().map(|source| source.as_string_opt::<i32>()).collect();
        // Others than texts are taken to be equally large.
        let mean: Vec<usize> = self.sources.iter().map(|source| source.get_buffer_memory_size() / source.len().max(1)).collect();
        let mut made = Made::default();
        let given = || limit::bytes_of(self.sources.iter());
        self.picks.iter().try_for_each(|(source, index)| {
            let bytes = texts[*source].map_or(mean[*source], |text| text.value_length(*index) as usize);
            made.add(bytes, given)
        })
    }

    pub(crate) fn finish(self, ret: &DataType) -> Result<ArrayRef> {
        let values = self.values()?;
        list_of(ret, self.offsets, values, NullBuffer::from(self.valid))
    }
}

/// A list array of type `ret` over `values`.
pub(crate) fn list_of(ret: &DataType, offsets: Vec<i32>, values: ArrayRef, nulls: NullBuffer) -> Result<ArrayRef> {
    let DataType::List(field) = ret else { return Err(Error::internal(format!("a list was made for type {ret}"))) };
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    let list = ListArray::try_new(field.clone(), offsets, retype(&values, field.data_type())?, Some(nulls)).map_err(internal)?;
    Ok(Arc::new(list))
}

/// A map array of type `ret`; `keys` and `values` are the entries of all rows.
pub(crate) fn map_of(ret: &DataType, offsets: Vec<i32>, keys: ArrayRef, values: ArrayRef, nulls: NullBuffer) -> Result<ArrayRef> {
    let DataType::Map(entries, sorted) = ret else { return Err(Error::internal(format!("a map was made for type {ret}"))) };
    let DataType::Struct(fields) = entries.data_type() else { return Err(Error::internal("a map without entries")) };
    let columns = vec![retype(&keys, fields[0].data_type())?, retype(&values, fields[1].data_type())?];
    let columns = StructArray::try_new(fields.clone(), columns, None).map_err(internal)?;
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    Ok(Arc::new(MapArray::try_new(entries.clone(), offsets, columns, Some(nulls), *sorted).map_err(internal)?))
}

/// The same values labelled as `ty`, which may differ in nested nullability and names only.
pub(crate) fn retype(array: &ArrayRef, ty: &DataType) -> Result<ArrayRef> {
    if array.data_type() == ty {
        return Ok(array.clone());
    }
    Ok(match (array.data_type(), ty) {
        (DataType::Null, _) => new_null_array(ty, array.len()),
        (DataType::List(_), DataType::List(field)) => {
            let list = array.as_list::<i32>();
            let values = retype(list.values(), field.data_type())?;
            Arc::new(ListArray::try_new(field.clone(), list.offsets().clone(), values, list.nulls().cloned()).map_err(internal)?)
        }
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let columns = array.as_struct().columns();
            if columns.len() != fields.len() {
                return Err(Error::internal("structs of different lengths"));
            }
            let columns = columns.iter().zip(fields).map(|(c, f)| retype(c, f.data_type())).collect::<Result<Vec<_>>>()?;
            Arc::new(StructArray::try_new_with_length(fields.clone(), columns, array.nulls().cloned(), array.len()).map_err(internal)?)
        }
        (DataType::Map(..), DataType::Map(..)) => {
            let map = array.as_map();
            let nulls = map.nulls().cloned().unwrap_or_else(|| NullBuffer::new_valid(map.len()));
            map_of(ty, map.offsets().to_vec(), map.keys().clone(), map.values().clone(), nulls)?
        }
        (from, to) => return Err(Error::internal(format!("values of type {from} can't be labelled {to}"))),
    })
}

/// Keys of elements: equal keys are equal values (NaN equals NaN, -0.0 equals 0.0, NULL equals
/// NULL), and keys sort as values do, NULL first.
pub(crate) fn keys(arrays: &[ArrayRef]) -> Result<Vec<Rows>> {
    let Some(first) = arrays.first() else { return Ok(Vec::new()) };
    let ty = nullable(first.data_type());
    let converter = RowConverter::new(vec![SortField::new(ty.clone())]).map_err(internal)?;
    arrays.iter().map(|a| converter.convert_columns(&[canonical(&retype(a, &ty)?)?]).map_err(internal)).collect()
}

/// A type with every part nullable, so that arrays of one Databricks type share one Arrow type.
pub(crate) fn nullable(ty: &DataType) -> DataType {
    match ty {
        DataType::List(f) => DataType::List(Arc::new(f.as_ref().clone().with_data_type(nullable(f.data_type())).with_nullable(true))),
        DataType::Struct(fields) => DataType::Struct(
            fields.iter().map(|f| Arc::new(f.as_ref().clone().with_data_type(nullable(f.data_type())).with_nullable(true))).collect(),
        ),
        other => other.clone(),
    }
}

/// One NaN and one zero.
fn canonical(array: &ArrayRef) -> Result<ArrayRef> {
    Ok(match array.data_type() {
        DataType::Float64 => {
            Arc::new(array.as_primitive::<Float64Type>().unary::<_, Float64Type>(|v| if v.is_nan() { f64::NAN } else { v + 0.0 }))
                as Arc<Float64Array>
        }
        DataType::Float32 => {
            Arc::new(array.as_primitive::<Float32Type>().unary::<_, Float32Type>(|v| if v.is_nan() { f32::NAN } else { v + 0.0 }))
                as Arc<Float32Array>
        }
        DataType::List(field) => {
            let list = array.as_list::<i32>();
            Arc::new(
                ListArray::try_new(field.clone(), list.offsets().clone(), canonical(list.values())?, list.nulls().cloned())
                    .map_err(internal)?,
            )
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns().iter().map(canonical).collect::<Result<Vec<_>>>()?;
            Arc::new(StructArray::try_new_with_length(fields.clone(), columns, array.nulls().cloned(), array.len()).map_err(internal)?)
        }
        _ => array.clone(),
    })
}

/// `-0.0 + 0.0` is `0.0`: what `canonical` builds on.
const _: () = assert!((-0.0f64 + 0.0).to_bits() == 0);

/// The elements of one row: a range into a list array's values.
pub(crate) fn range(list: &ListArray, row: usize) -> Option<std::ops::Range<usize>> {
    list.is_valid(row).then(|| list.value_offsets()[row] as usize..list.value_offsets()[row + 1] as usize)
}

/// The entries of one row of a map array.
pub(crate) fn entries(map: &MapArray, row: usize) -> Option<std::ops::Range<usize>> {
    map.is_valid(row).then(|| map.value_offsets()[row] as usize..map.value_offsets()[row + 1] as usize)
}

//! How large a batch is: what its rows take, unlike the capacity of its buffers, which slices of one
//! allocation share: a message from the network is one allocation for all of its columns.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::DataType;

/// Of a value in an array of views, beside longer values' own bytes.
const VIEW_BYTES: usize = 16;

/// Bytes that a batch takes on the wire, about.
pub fn batch_bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(bytes_of).sum()
}

fn bytes_of(array: &ArrayRef) -> usize {
    let rows = array.len();
    let nulls = if array.null_count() > 0 { rows.div_ceil(8) } else { 0 };
    nulls
        + match array.data_type() {
            DataType::Null => 0,
            DataType::Boolean => rows.div_ceil(8),
            DataType::Utf8 => offsets_bytes(array.as_string::<i32>().value_offsets()),
            DataType::LargeUtf8 => offsets_bytes(array.as_string::<i64>().value_offsets()),
            DataType::Binary => offsets_bytes(array.as_binary::<i32>().value_offsets()),
            DataType::LargeBinary => offsets_bytes(array.as_binary::<i64>().value_offsets()),
            DataType::FixedSizeBinary(width) => rows * usize::try_from(*width).unwrap_or(0),
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                rows * 4 + child_bytes(list.values(), list.value_offsets())
            }
            DataType::LargeList(_) => {
                let list = array.as_list::<i64>();
                rows * 8 + child_bytes(list.values(), list.value_offsets())
            }
            DataType::Map(_, _) => {
                let map = array.as_map();
                let entries: ArrayRef = Arc::new(map.entries().clone());
                rows * 4 + child_bytes(&entries, map.value_offsets())
            }
            DataType::FixedSizeList(_, _) => {
                let list = array.as_fixed_size_list();
                bytes_of(list.values())
            }
            DataType::Struct(_) => array.as_struct().columns().iter().map(bytes_of).sum(),
            DataType::Utf8View => rows * VIEW_BYTES + array.as_string_view().total_buffer_bytes_used(),
            DataType::BinaryView => rows * VIEW_BYTES + array.as_binary_view().total_buffer_bytes_used(),
            other => match other.primitive_width() {
                Some(width) => rows * width,
                None => array.get_array_memory_size(),
            },
        }
}

fn offsets_bytes<O: Copy + Into<OffsetValue>>(offsets: &[O]) -> usize {
    let (first, last) = ends(offsets);
    std::mem::size_of_val(offsets) + (last - first)
}

fn child_bytes<O: Copy + Into<OffsetValue>>(child: &ArrayRef, offsets: &[O]) -> usize {
    let (first, last) = ends(offsets);
    bytes_of(&child.slice(first, last - first))
}

fn ends<O: Copy + Into<OffsetValue>>(offsets: &[O]) -> (usize, usize) {
    let at = |offset: Option<&O>| offset.map_or(0, |o| usize::try_from((*o).into().0).unwrap_or(0));
    (at(offsets.first()), at(offsets.last()))
}

/// An offset of 32 or 64 bits.
struct OffsetValue(i64);

impl From<i32> for OffsetValue {
    fn from(offset: i32) -> Self {
        Self(offset.into())
    }
}

impl From<i64> for OffsetValue {
    fn from(offset: i64) -> Self {
        Self(offset)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray, StringViewArray};
    use arrow::datatypes::{Field, Schema};
    use arrow::ipc::reader::StreamReader;
    use arrow::ipc::writer::StreamWriter;

    use super::*;

    #[test]
    fn a_slice_counts_for_what_it_reaches() {
        let ints: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1_000));
        assert_eq!(bytes_of(&ints.slice(10, 100)), 800);
        let text: ArrayRef = Arc::new(StringArray::from_iter_values((0..1_000).map(|_| "x".repeat(100))));
        assert_eq!(bytes_of(&text.slice(0, 10)), 10 * 100 + 11 * 4);
        let views: ArrayRef = Arc::new(StringViewArray::from_iter_values((0..1_000).map(|_| "x".repeat(100))));
        assert_eq!(bytes_of(&views.slice(0, 10)), 10 * 100 + 10 * 16);
    }

    #[test]
    fn columns_of_one_message_count_once_together() {
        let field = |n: usize| Field::new(format!("c{n}"), DataType::Int64, false);
        let schema = Arc::new(Schema::new((0..20).map(field).collect::<Vec<_>>()));
        let columns = (0..20).map(|_| Arc::new(Int64Array::from_iter_values(0..1_000)) as ArrayRef).collect();
        let mut writer = StreamWriter::try_new(Vec::new(), &schema).unwrap();
        writer.write(&RecordBatch::try_new(schema.clone(), columns).unwrap()).unwrap();
        let received = StreamReader::try_new(writer.into_inner().unwrap().as_slice(), None).unwrap().next().unwrap().unwrap();
        assert_eq!(batch_bytes(&received), 20 * 8 * 1_000);
        let slices: usize = (0..10).map(|n| batch_bytes(&received.slice(n * 100, 100))).sum();
        assert_eq!(slices, 20 * 8 * 1_000);
    }
}

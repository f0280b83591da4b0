//! JSON's objects have texts as keys; maps may have others.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// The batch with every map's keys as texts, however deep it stands.
pub fn with_text_keys(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    if !batch.schema().fields().iter().any(|field| needs_text(field.data_type())) {
        return Ok(batch.clone());
    }
    let columns = batch.columns().iter().map(texts).collect::<Result<Vec<_>, _>>()?;
    let fields: Fields = batch.schema().fields().iter().zip(&columns).map(|(field, column)| of_type(field, column.data_type())).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

fn needs_text(ty: &DataType) -> bool {
    match ty {
        DataType::List(item) => needs_text(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| needs_text(field.data_type())),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) => pair[0].data_type() != &DataType::Utf8 || needs_text(pair[1].data_type()),
            _ => false,
        },
        _ => false,
    }
}

fn of_type(field: &FieldRef, ty: &DataType) -> FieldRef {
    Arc::new(field.as_ref().clone().with_data_type(ty.clone()))
}

fn texts(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    if !needs_text(array.data_type()) {
        return Ok(array.clone());
    }
    Ok(match array.data_type() {
        DataType::List(item) => {
            let list = array.as_list::<i32>();
            let values = texts(list.values())?;
            Arc::new(ListArray::try_new(of_type(item, values.data_type()), list.offsets().clone(), values, list.nulls().cloned())?)
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns().iter().map(texts).collect::<Result<Vec<_>, _>>()?;
            let fields = fields.iter().zip(&columns).map(|(field, column)| of_type(field, column.data_type())).collect();
            Arc::new(StructArray::try_new(fields, columns, array.nulls().cloned())?)
        }
        DataType::Map(entries, sorted) => {
            let map = array.as_map();
            let options = FormatOptions::default();
            let formatter = ArrayFormatter::try_new(map.keys().as_ref(), &options)?;
            let keys: StringArray = (0..map.keys().len()).map(|row| Some(formatter.value(row).to_string())).collect();
            let columns: Vec<ArrayRef> = vec![Arc::new(keys), texts(map.values())?];
            let fields: Fields = match entries.data_type() {
                DataType::Struct(pair) => pair.iter().zip(&columns).map(|(field, column)| of_type(field, column.data_type())).collect(),
                _ => Fields::from(Vec::<Field>::new()),
            };
            let pairs = StructArray::try_new(fields, columns, map.entries().nulls().cloned())?;
            let entries = of_type(entries, pairs.data_type());
            Arc::new(MapArray::try_new(entries, map.offsets().clone(), pairs, map.nulls().cloned(), *sorted)?)
        }
        _ => array.clone(),
    })
}

//! Schemas and batches as they go out. What GetFlightInfo, GetSchema, prepare and DoGet say of one
//! result is made here, by one function, so that they can't differ.
//!
//! On the wire there are no views, dictionaries or run-ends: not every client reads them. Field
//! metadata is Flight SQL's own; what a table format or an engine left there stays here.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit, Schema, SchemaRef};
use flightpath_types::{Error, Result};

const TYPE_NAME: &str = "ARROW:FLIGHT:SQL:TYPE_NAME";
const PRECISION: &str = "ARROW:FLIGHT:SQL:PRECISION";
const SCALE: &str = "ARROW:FLIGHT:SQL:SCALE";
const CATALOG_NAME: &str = "ARROW:FLIGHT:SQL:CATALOG_NAME";
const SCHEMA_NAME: &str = "ARROW:FLIGHT:SQL:SCHEMA_NAME";
const TABLE_NAME: &str = "ARROW:FLIGHT:SQL:TABLE_NAME";
const IS_AUTO_INCREMENT: &str = "ARROW:FLIGHT:SQL:IS_AUTO_INCREMENT";
const IS_CASE_SENSITIVE: &str = "ARROW:FLIGHT:SQL:IS_CASE_SENSITIVE";
const IS_READ_ONLY: &str = "ARROW:FLIGHT:SQL:IS_READ_ONLY";
const IS_SEARCHABLE: &str = "ARROW:FLIGHT:SQL:IS_SEARCHABLE";
const REMARKS: &str = "ARROW:FLIGHT:SQL:REMARKS";

/// A result's schema as clients get it.
pub(crate) fn result_schema(schema: &Schema) -> SchemaRef {
    Arc::new(Schema::new(schema.fields().iter().map(|f| column(f, type_metadata(f.data_type()))).collect::<Vec<_>>()))
}

/// A table's schema as GetTables lists it.
pub(crate) fn table_schema(catalog: &str, db_schema: &str, table: &str, schema: &Schema, comments: &[Option<String>]) -> Schema {
    let fields = schema.fields().iter().enumerate().map(|(at, field)| {
        let is_text = matches!(wire_type(field.data_type()), DataType::Utf8 | DataType::LargeUtf8);
        let flag = |on: bool| if on { "1" } else { "0" }.to_string();
        let mut metadata = type_metadata(field.data_type());
        metadata.extend([
            (CATALOG_NAME.to_string(), catalog.to_string()),
            (SCHEMA_NAME.to_string(), db_schema.to_string()),
            (TABLE_NAME.to_string(), table.to_string()),
            (IS_AUTO_INCREMENT.to_string(), flag(false)),
            (IS_CASE_SENSITIVE.to_string(), flag(is_text)),
            (IS_READ_ONLY.to_string(), flag(true)),
            (IS_SEARCHABLE.to_string(), flag(true)),
        ]);
        if let Some(comment) = comments.get(at).and_then(Option::as_ref) {
            metadata.insert(REMARKS.to_string(), comment.clone());
        }
        column(field, metadata)
    });
    Schema::new(fields.collect::<Vec<_>>())
}

/// The batch in `wire`'s types. Anything but unpacking views, dictionaries and run-ends is a defect
/// of whoever promised the schema, and so is a NULL where none was promised.
pub(crate) fn to_wire(batch: RecordBatch, wire: &SchemaRef) -> Result<RecordBatch> {
    let fields = wire.fields();
    if batch.num_columns() != fields.len() {
        return Err(Error::internal(format!("a batch has {} columns, {} were promised", batch.num_columns(), fields.len())));
    }
    let mut unpacked: Vec<ArrayRef> = Vec::new();
    for (at, (array, field)) in batch.columns().iter().zip(fields).enumerate() {
        if !field.is_nullable() && array.null_count() > 0 {
            return Err(Error::internal(format!("column '{}' has NULLs but was promised without", field.name())));
        }
        if array.data_type().equals_datatype(field.data_type()) {
            if !unpacked.is_empty() {
                unpacked.push(array.clone());
            }
            continue;
        }
        if !wire_type(array.data_type()).equals_datatype(field.data_type()) {
            let (is, promised) = (array.data_type(), field.data_type());
            return Err(Error::internal(format!("column '{}' is of type {is}, {promised} was promised", field.name())));
        }
        if unpacked.is_empty() {
            unpacked.extend(batch.columns()[..at].iter().cloned());
        }
        unpacked.push(cast(array, field.data_type()).map_err(|e| Error::internal(format!("column '{}': {e}", field.name())))?);
    }
    if unpacked.is_empty() {
        return Ok(batch);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(wire.clone(), unpacked, &options).map_err(|e| Error::internal(format!("a batch for the wire: {e}")))
}

/// Databricks' name of a type, as `DESCRIBE` shows it in capitals.
pub(crate) fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Null => "VOID".into(),
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Int8 => "TINYINT".into(),
        DataType::Int16 | DataType::UInt8 => "SMALLINT".into(),
        DataType::Int32 | DataType::UInt16 => "INT".into(),
        DataType::Int64 | DataType::UInt32 => "BIGINT".into(),
        DataType::UInt64 => "DECIMAL(20,0)".into(),
        DataType::Float16 | DataType::Float32 => "FLOAT".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s) | DataType::Decimal256(p, s) => {
            format!("DECIMAL({p},{s})")
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "STRING".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "BINARY".into(),
        DataType::Date32 | DataType::Date64 => "DATE".into(),
        DataType::Timestamp(_, Some(_)) => "TIMESTAMP".into(),
        DataType::Timestamp(_, None) => "TIMESTAMP_NTZ".into(),
        DataType::Interval(IntervalUnit::YearMonth) => "INTERVAL YEAR TO MONTH".into(),
        DataType::Interval(_) | DataType::Duration(_) => "INTERVAL DAY TO SECOND".into(),
        DataType::List(f) | DataType::LargeList(f) | DataType::FixedSizeList(f, _) | DataType::ListView(f) | DataType::LargeListView(f) => {
            format!("ARRAY<{}>", type_name(f.data_type()))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(kv) if kv.len() == 2 => format!("MAP<{},{}>", type_name(kv[0].data_type()), type_name(kv[1].data_type())),
            other => other.to_string(),
        },
        DataType::Struct(fields) => {
            let parts: Vec<String> = fields.iter().map(|f| format!("{}:{}", f.name(), type_name(f.data_type()))).collect();
            format!("STRUCT<{}>", parts.join(","))
        }
        DataType::Dictionary(_, value) => type_name(value),
        DataType::RunEndEncoded(_, values) => type_name(values.data_type()),
        other @ (DataType::Time32(_) | DataType::Time64(_) | DataType::Union(_, _)) => other.to_string(),
    }
}

fn column(field: &Field, metadata: HashMap<String, String>) -> Field {
    Field::new(field.name(), wire_type(field.data_type()), field.is_nullable()).with_metadata(metadata)
}

fn type_metadata(data_type: &DataType) -> HashMap<String, String> {
    let mut metadata = HashMap::new();
    let name = match data_type {
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s) | DataType::Decimal256(p, s) => {
            metadata.insert(PRECISION.to_string(), p.to_string());
            metadata.insert(SCALE.to_string(), s.to_string());
            "DECIMAL".to_string()
        }
        other => type_name(other),
    };
    metadata.insert(TYPE_NAME.to_string(), name);
    metadata
}

/// The type that holds the same values without views, dictionaries and run-ends, at any depth.
fn wire_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, value) => wire_type(value),
        DataType::RunEndEncoded(_, values) => wire_type(values.data_type()),
        DataType::List(f) | DataType::ListView(f) => DataType::List(wire_field(f)),
        DataType::LargeList(f) | DataType::LargeListView(f) => DataType::LargeList(wire_field(f)),
        DataType::FixedSizeList(f, n) => DataType::FixedSizeList(wire_field(f), *n),
        DataType::Map(f, sorted) => DataType::Map(wire_field(f), *sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(wire_field).collect()),
        other => other.clone(),
    }
}

fn wire_field(field: &FieldRef) -> FieldRef {
    Arc::new(Field::new(field.name(), wire_type(field.data_type()), field.is_nullable()))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, DictionaryArray, Int32Array, StringViewArray};
    use arrow::datatypes::Int32Type;

    use super::*;

    #[test]
    fn views_and_dictionaries_are_unpacked_and_the_rest_is_left_alone() {
        let dictionary: DictionaryArray<Int32Type> = vec![Some("a"), None, Some("a")].into_iter().collect();
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("n", Arc::new(Int32Array::from(vec![1, 2, 3])) as ArrayRef, false),
            ("v", Arc::new(StringViewArray::from(vec!["x", "a string longer than twelve bytes", ""])) as ArrayRef, false),
            ("d", Arc::new(dictionary) as ArrayRef, true),
        ])
        .unwrap();
        let wire = result_schema(&batch.schema());
        assert_eq!(wire.field(1).data_type(), &DataType::Utf8);
        assert_eq!(wire.field(2).data_type(), &DataType::Utf8);
        let sent = to_wire(batch.clone(), &wire).unwrap();
        assert_eq!(sent.schema(), wire);
        assert_eq!(sent.column(2).null_count(), 1);
        assert!(Arc::ptr_eq(sent.column(0), batch.column(0)));
    }

    #[test]
    fn broken_promises_are_errors() {
        let promised = Schema::new(vec![Field::new("n", DataType::Int32, false)]);
        let wire = result_schema(&promised);
        let with_null = RecordBatch::try_from_iter([("n", Arc::new(Int32Array::from(vec![None, Some(1)])) as ArrayRef)]).unwrap();
        assert!(to_wire(with_null, &wire).unwrap_err().message().contains("NULLs"));
        let other_type = RecordBatch::try_from_iter([("n", Arc::new(StringViewArray::from(vec!["1"])) as ArrayRef)]).unwrap();
        assert!(to_wire(other_type, &wire).unwrap_err().message().contains("promised"));
    }

    #[test]
    fn columns_name_their_databricks_type() {
        let list = DataType::List(Arc::new(Field::new("element", DataType::Decimal128(10, 2), true)));
        let schema = Schema::new(vec![Field::new("l", list, true), Field::new("d", DataType::Decimal128(12, 3), true)]);
        let wire = result_schema(&schema);
        assert_eq!(wire.field(0).metadata()[TYPE_NAME], "ARRAY<DECIMAL(10,2)>");
        assert_eq!(wire.field(1).metadata()[TYPE_NAME], "DECIMAL");
        assert_eq!((wire.field(1).metadata()[PRECISION].as_str(), wire.field(1).metadata()[SCALE].as_str()), ("12", "3"));
    }
}

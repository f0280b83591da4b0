//! A Delta schema as Arrow's, in Databricks' types. Refuses what can't be answered as Databricks
//! would: variants, intervals, collations.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use delta_kernel::schema::{DataType as KernelType, MetadataValue, PrimitiveType, StructField, StructType};
use delta_kernel::table_features::ColumnMappingMode;
use flightpath_types::Result;

use crate::{Column, TableName, errors};

const PHYSICAL_NAME: &str = "delta.columnMapping.physicalName";
const FIELD_ID: &str = "delta.columnMapping.id";
const NESTED_IDS: &str = "delta.columnMapping.nested.ids";
const TYPE_CHANGES: &str = "delta.typeChanges";
const COMMENT: &str = "comment";
const COLLATIONS: &str = "__COLLATIONS";
const CHAR_VARCHAR: &str = "__CHAR_VARCHAR_TYPE_STRING";

pub(super) struct Converted {
    pub schema: SchemaRef,
    pub columns: Vec<Column>,
}

pub(super) fn convert(name: &TableName, schema: &StructType, mode: ColumnMappingMode) -> Result<Converted> {
    let context = Context { name, mode };
    let mut fields = Vec::with_capacity(schema.num_fields());
    let mut columns = Vec::with_capacity(schema.num_fields());
    let mut seen = HashSet::new();
    for field in schema.fields() {
        if !seen.insert(field.name().to_lowercase()) {
            return Err(errors::not_eligible(name, format!("it has several columns named `{}`", field.name())));
        }
        fields.push(context.field(field, field.name())?);
        columns.push(context.column(field));
    }
    Ok(Converted { schema: Arc::new(Schema::new(fields)), columns })
}

struct Context<'a> {
    name: &'a TableName,
    mode: ColumnMappingMode,
}

impl Context<'_> {
    fn column(&self, field: &StructField) -> Column {
        let mapped_by_id = matches!(self.mode, ColumnMappingMode::Id);
        Column {
            physical_name: field.physical_name(self.mode).to_string(),
            field_id: if mapped_by_id { field.column_mapping_id().and_then(|id| i32::try_from(id).ok()) } else { None },
            comment: text(field, COMMENT),
            widened: widened(field),
        }
    }

    fn field(&self, field: &StructField, path: &str) -> Result<Field> {
        if field.metadata.get(COLLATIONS).is_some_and(|v| !is_empty(v)) {
            return Err(errors::not_eligible(self.name, format!("column `{path}` has a collation, which isn't supported")));
        }
        let data_type = self.data_type(&field.data_type, path)?;
        Ok(Field::new(field.name(), data_type, field.is_nullable()).with_metadata(self.metadata(field)))
    }

    fn metadata(&self, field: &StructField) -> HashMap<String, String> {
        let mapped = !matches!(self.mode, ColumnMappingMode::None);
        let mut kept = HashMap::new();
        for key in [PHYSICAL_NAME, FIELD_ID, NESTED_IDS] {
            // Left over from another time when the mode is none: must not be followed.
            if let (true, Some(value)) = (mapped, text(field, key)) {
                kept.insert(key.to_string(), value);
            }
        }
        for key in [COMMENT, TYPE_CHANGES, CHAR_VARCHAR] {
            if let Some(value) = text(field, key) {
                kept.insert(key.to_string(), value);
            }
        }
        kept
    }

    fn data_type(&self, data_type: &KernelType, path: &str) -> Result<DataType> {
        Ok(match data_type {
            KernelType::Primitive(primitive) => self.primitive(primitive, path)?,
            KernelType::Struct(inner) => DataType::Struct(self.fields(inner, path)?),
            KernelType::Array(array) => {
                let element = self.data_type(array.element_type(), &format!("{path}.element"))?;
                DataType::List(Arc::new(Field::new("element", element, array.contains_null())))
            }
            KernelType::Map(map) => {
                let key = Field::new("key", self.data_type(map.key_type(), &format!("{path}.key"))?, false);
                let value = Field::new("value", self.data_type(map.value_type(), &format!("{path}.value"))?, map.value_contains_null());
                let entries = DataType::Struct(Fields::from(vec![key, value]));
                DataType::Map(Arc::new(Field::new("entries", entries, false)), false)
            }
            KernelType::Variant(_) => {
                return Err(errors::not_eligible(self.name, format!("column `{path}` is a VARIANT, which isn't supported")));
            }
        })
    }

    fn fields(&self, inner: &StructType, path: &str) -> Result<Fields> {
        let fields: Result<Vec<Field>> = inner.fields().map(|f| self.field(f, &format!("{path}.{}", f.name()))).collect();
        Ok(Fields::from(fields?))
    }

    fn primitive(&self, primitive: &PrimitiveType, path: &str) -> Result<DataType> {
        Ok(match primitive {
            PrimitiveType::String => DataType::Utf8,
            PrimitiveType::Long => DataType::Int64,
            PrimitiveType::Integer => DataType::Int32,
            PrimitiveType::Short => DataType::Int16,
            PrimitiveType::Byte => DataType::Int8,
            PrimitiveType::Float => DataType::Float32,
            PrimitiveType::Double => DataType::Float64,
            PrimitiveType::Boolean => DataType::Boolean,
            PrimitiveType::Binary => DataType::Binary,
            PrimitiveType::Date => DataType::Date32,
            PrimitiveType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            PrimitiveType::TimestampNtz => DataType::Timestamp(TimeUnit::Microsecond, None),
            PrimitiveType::Decimal(d) => {
                let scale = i8::try_from(d.scale())
                    .map_err(|_| errors::not_eligible(self.name, format!("column `{path}` has an impossible scale")))?;
                DataType::Decimal128(d.precision(), scale)
            }
            // Void, intervals, and types that the kernel learns later.
            other => return Err(errors::not_eligible(self.name, format!("column `{path}` has type {other}, which isn't supported"))),
        })
    }
}

fn text(field: &StructField, key: &str) -> Option<String> {
    Some(match field.metadata.get(key)? {
        MetadataValue::String(s) => s.clone(),
        MetadataValue::Number(n) => n.to_string(),
        MetadataValue::Boolean(b) => b.to_string(),
        MetadataValue::Other(json) => json.to_string(),
    })
}

fn is_empty(value: &MetadataValue) -> bool {
    match value {
        MetadataValue::Other(serde_json::Value::Object(map)) => map.is_empty(),
        MetadataValue::Other(serde_json::Value::Null) => true,
        _ => false,
    }
}

/// Whether this column or anything inside it was ever widened.
fn widened(field: &StructField) -> bool {
    fn inside(data_type: &KernelType) -> bool {
        match data_type {
            KernelType::Primitive(_) | KernelType::Variant(_) => false,
            KernelType::Struct(inner) => inner.fields().any(widened),
            KernelType::Array(array) => inside(array.element_type()),
            KernelType::Map(map) => inside(map.key_type()) || inside(map.value_type()),
        }
    }
    field.metadata.contains_key(TYPE_CHANGES) || inside(&field.data_type)
}

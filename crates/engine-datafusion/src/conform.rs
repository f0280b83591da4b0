//! From a file's columns to the table's: found by physical name or field id, also inside nested
//! types, and given the table's type exactly. A conversion that could change a value isn't made:
//! either it's refused when the file is opened or each value is checked.

mod array;
mod expr;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::common::metadata::FieldMetadata;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column, Literal};
use datafusion::physical_expr_adapter::{PhysicalExprAdapter, PhysicalExprAdapterFactory};
use flightpath_types::{Error, ErrorKind, Result};

use array::{Calendar, Conversion};
use expr::ConformExpr;

/// Parquet field ids as arrow's reader hands them on.
const PARQUET_FIELD_ID: &str = "PARQUET:field_id";
const DELTA_FIELD_ID: &str = "delta.columnMapping.id";
const DELTA_PHYSICAL_NAME: &str = "delta.columnMapping.physicalName";

/// A table's columns as its files name them.
#[derive(Debug)]
pub(crate) struct FileColumns {
    table: String,
    by_physical_name: HashMap<String, FileColumn>,
}

#[derive(Debug)]
struct FileColumn {
    logical_name: String,
    field_id: Option<i32>,
}

impl FileColumns {
    /// Columns as physical name, logical name and the field id that finds them, if one does.
    pub(crate) fn new(table: String, columns: impl Iterator<Item = (String, String, Option<i32>)>) -> Self {
        let by_physical_name =
            columns.map(|(physical_name, logical_name, field_id)| (physical_name, FileColumn { logical_name, field_id })).collect();
        Self { table, by_physical_name }
    }
}

/// Makes the adapter for each file of a scan.
#[derive(Debug)]
pub(crate) struct SnapshotAdapterFactory {
    columns: Arc<FileColumns>,
}

impl SnapshotAdapterFactory {
    pub(crate) fn new(columns: Arc<FileColumns>) -> Self {
        Self { columns }
    }
}

impl PhysicalExprAdapterFactory for SnapshotAdapterFactory {
    fn create(&self, logical_file_schema: SchemaRef, physical_file_schema: SchemaRef) -> DfResult<Arc<dyn PhysicalExprAdapter>> {
        let calendar = Calendar::of_file(physical_file_schema.metadata());
        Ok(Arc::new(SnapshotAdapter { columns: self.columns.clone(), table: logical_file_schema, file: physical_file_schema, calendar }))
    }
}

#[derive(Debug)]
struct SnapshotAdapter {
    columns: Arc<FileColumns>,
    table: SchemaRef,
    file: SchemaRef,
    calendar: Calendar,
}

impl PhysicalExprAdapter for SnapshotAdapter {
    fn rewrite(&self, expr: Arc<dyn PhysicalExpr>) -> DfResult<Arc<dyn PhysicalExpr>> {
        expr.transform_up(|expr| match expr.downcast_ref::<Column>() {
            Some(column) => match self.column(column) {
                Ok(found) => Ok(Transformed::yes(found)),
                Err(e) => Err(DataFusionError::External(Box::new(e))),
            },
            None => Ok(Transformed::no(expr)),
        })
        .data()
    }
}

impl SnapshotAdapter {
    /// What stands for a column of the table in this file.
    fn column(&self, column: &Column) -> Result<Arc<dyn PhysicalExpr>> {
        let target =
            self.table.field_with_name(column.name()).map_err(|e| Error::internal(format!("scan of {}: {e}", self.columns.table)))?;
        let spec = self
            .columns
            .by_physical_name
            .get(column.name())
            .ok_or_else(|| Error::internal(format!("scan of {}: unknown column {}", self.columns.table, column.name())))?;
        let Some(index) = find(self.file.fields(), column.name(), spec.field_id).map_err(|what| self.unreadable(spec, &what))? else {
            return self.missing(spec, target);
        };
        let file_field = self.file.field(index);
        let found: Arc<dyn PhysicalExpr> = Arc::new(Column::new(file_field.name(), index));
        let by_id = spec.field_id.is_some();
        let conversion =
            conversion(file_field.data_type(), target.data_type(), by_id, self.calendar).map_err(|what| self.unreadable(spec, &what))?;
        // Pruning understands columns and casts. Widened integers keep their order, so it may look
        // through those. Floats are never handed through as they are, so they aren't pruned: writers
        // leave NaN out of the bounds.
        match conversion {
            Conversion::Same => Ok(found),
            Conversion::Checked if widens_integer(file_field.data_type(), target.data_type()) => {
                Ok(Arc::new(CastExpr::new_with_target_field(found, Arc::new(target.clone()), None)))
            }
            conversion => {
                let name = format!("{}.{}", self.columns.table, spec.logical_name);
                Ok(Arc::new(ConformExpr::new(found, Arc::new(target.clone()), conversion, name)))
            }
        }
    }

    fn missing(&self, spec: &FileColumn, target: &Field) -> Result<Arc<dyn PhysicalExpr>> {
        if !target.is_nullable() {
            return Err(self.unreadable(spec, "is NOT NULL but missing from a data file"));
        }
        let null = ScalarValue::try_new_null(target.data_type()).map_err(|e| crate::error::of_datafusion(&e))?;
        Ok(Arc::new(Literal::new_with_metadata(null, Some(FieldMetadata::from(target)))))
    }

    fn unreadable(&self, spec: &FileColumn, what: &str) -> Error {
        Error::new(ErrorKind::DataLoss, format!("column {} of table {} can't be read: it {what}", spec.logical_name, self.columns.table))
    }
}

fn widens_integer(from: &DataType, to: &DataType) -> bool {
    from.is_signed_integer() && to.is_signed_integer() && from.primitive_width() < to.primitive_width()
}

/// Where a column stands among a file's. By id where one is given: a file without any ids can't
/// be read so. By name otherwise, in any case as long as that is unambiguous, as Spark does.
fn find(fields: &Fields, name: &str, field_id: Option<i32>) -> Result<Option<usize>, String> {
    if let Some(id) = field_id {
        if !fields.iter().any(|field| field.metadata().contains_key(PARQUET_FIELD_ID)) {
            return Err(format!("is found by field id {id}, but a data file has no field ids"));
        }
        return Ok(fields.iter().position(|field| field_id_of(field, PARQUET_FIELD_ID) == Some(id)));
    }
    if let Some(index) = fields.iter().position(|field| field.name() == name) {
        return Ok(Some(index));
    }
    let folded = name.to_lowercase();
    let mut alike = (0..fields.len()).filter(|&index| fields[index].name().to_lowercase() == folded);
    match (alike.next(), alike.next()) {
        (first, None) => Ok(first),
        (_, Some(_)) => Err("has several columns of a data file that differ from its name in case only".into()),
    }
}

fn field_id_of(field: &Field, key: &str) -> Option<i32> {
    field.metadata().get(key).and_then(|id| id.parse().ok())
}

/// How values of the file's type become values of the table's; why they can't, if they can't.
fn conversion(file: &DataType, table: &DataType, by_id: bool, calendar: Calendar) -> Result<Conversion, String> {
    let element = |file: &Field, table: &Field| conversion(file.data_type(), table.data_type(), by_id, calendar);
    let converted = match (file, table) {
        (DataType::Struct(file), DataType::Struct(table)) => {
            let children = table.iter().map(|field| struct_child(file, field, by_id, calendar)).collect::<Result<_, _>>()?;
            Conversion::Struct(children)
        }
        (DataType::List(file) | DataType::LargeList(file) | DataType::FixedSizeList(file, _), DataType::List(table)) => {
            Conversion::List(Box::new(element(file, table)?))
        }
        (DataType::Map(file, _), DataType::Map(table, _)) => match (file.data_type(), table.data_type()) {
            (DataType::Struct(file), DataType::Struct(table)) if file.len() == 2 && table.len() == 2 => {
                Conversion::Map(Box::new((element(&file[0], &table[0])?, element(&file[1], &table[1])?)))
            }
            _ => return Err("is a map without keys and values".into()),
        },
        (DataType::Dictionary(_, values), _) => Conversion::Decoded(Box::new(conversion(values, table, by_id, calendar)?)),
        (DataType::Null, _) => Conversion::Null,
        _ => {
            let leaf = array::leaf(file, table).ok_or_else(|| format!("is {table} in the table but {file} in a data file"))?;
            if table.is_floating() { Conversion::OneNan(Box::new(leaf)) } else { leaf }
        }
    };
    Ok(calendar.guard(converted, table))
}

fn struct_child(file: &Fields, table: &Field, by_id: bool, calendar: Calendar) -> Result<Option<(usize, Conversion)>, String> {
    let id = by_id.then(|| field_id_of(table, DELTA_FIELD_ID).or_else(|| field_id_of(table, PARQUET_FIELD_ID))).flatten();
    let name = table.metadata().get(DELTA_PHYSICAL_NAME).unwrap_or(table.name());
    match find(file, name, id)? {
        Some(index) => Ok(Some((index, conversion(file[index].data_type(), table.data_type(), by_id, calendar)?))),
        None if table.is_nullable() => Ok(None),
        None => Err(format!("has a field {} that is NOT NULL but missing from a data file", table.name())),
    }
}

#[cfg(test)]
mod tests;

//! A scan's files and columns as the worker binds them; what can't be bound is refused here.

use std::collections::HashSet;

use arrow::array::{Array, ArrayRef, BinaryArray, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use flightpath_catalog::{AccessRules, DataFile, TableContents, TableSnapshot};
use flightpath_functions::duckdb;
use flightpath_plan::ScanBinding;
use flightpath_proto::v1::{ColumnBinding, FileBinding, PartitionValue, TableBinding};
use flightpath_types::{Refusal, RefusalClass};

/// Where a schema's fields keep the name they have in the files.
const PHYSICAL_NAME: &str = "delta.columnMapping.physicalName";

type Bound<T> = Result<T, Refusal>;

/// Why DuckDB can't read these columns of this table, if it can't.
pub fn check(scan: &ScanBinding) -> Bound<()> {
    let snapshot = &scan.snapshot;
    if let AccessRules::Governed(reason) = &snapshot.access {
        return Err(Refusal::new(RefusalClass::Governance, format!("table {} is governed: {reason}", snapshot.name)));
    }
    match snapshot.contents {
        TableContents::Files(_) => {}
        TableContents::System(_) => return Err(refuse(snapshot, "it is made by this program and has no files")),
        TableContents::Remote => return Err(refuse(snapshot, "its files can be read only where it lives")),
    }
    if let Some(file) = scan.files.iter().find(|f| !f.path.starts_with('/')) {
        let store = file.path.split_once("://").map_or("others", |(scheme, _)| scheme);
        return Err(refuse(snapshot, &format!("the worker reads local files only, not those in cloud storage ({store})")));
    }
    let mut names = HashSet::new();
    for index in &scan.columns {
        let (field, column) = column(snapshot, *index)?;
        if !names.insert(field.name().to_lowercase()) {
            return Err(refuse(snapshot, &format!("two of its columns are named '{}' but for their case", field.name())));
        }
        if column.field_id.is_some() {
            return Err(refuse(
                snapshot,
                "its columns are mapped by id, and where a file lacks the ids DuckDB would read NULLs without a word",
            ));
        }
        column_binding(snapshot, *index)?;
    }
    Ok(())
}

/// The binding under `name`. `scan` has passed [`check`].
pub fn table(scan: &ScanBinding, name: String) -> Bound<TableBinding> {
    let snapshot = &scan.snapshot;
    let columns = scan.columns.iter().map(|index| column_binding(snapshot, *index)).collect::<Bound<Vec<_>>>()?;
    // In the order of the binding's columns: positions among the snapshot's partition columns.
    let partitions: Vec<usize> =
        scan.columns.iter().filter_map(|index| snapshot.partition_columns.iter().position(|partition| partition == index)).collect();
    let files = scan.files.iter().map(|file| file_binding(snapshot, file, &partitions)).collect::<Bound<Vec<_>>>()?;
    let table_rows = table_rows(scan);
    Ok(TableBinding { name, schema: String::new(), catalog: String::new(), columns, files, cache_key: String::new(), table_rows })
}

/// The rows of all files, where not all of them are read and all say how many they hold.
fn table_rows(scan: &ScanBinding) -> Option<u64> {
    let TableContents::Files(all) = &scan.snapshot.contents else { return None };
    if all.len() == scan.files.len() {
        return None;
    }
    all.iter().try_fold(0_u64, |rows, file| Some(rows.saturating_add(file.rows?)))
}

fn refuse(snapshot: &TableSnapshot, reason: &str) -> Refusal {
    Refusal::new(RefusalClass::TableFeature, format!("table {} can't be read by DuckDB: {reason}", snapshot.name))
}

fn column(snapshot: &TableSnapshot, index: usize) -> Bound<(&FieldRef, &flightpath_catalog::Column)> {
    match (snapshot.schema.fields().get(index), snapshot.columns.get(index)) {
        (Some(field), Some(column)) => Ok((field, column)),
        _ => Err(refuse(snapshot, &format!("it has no column {index}"))),
    }
}

fn column_binding(snapshot: &TableSnapshot, index: usize) -> Bound<ColumnBinding> {
    let (field, column) = column(snapshot, index)?;
    let type_text = |ty: &DataType| {
        check_nested(ty).and_then(|()| duckdb::type_name(ty)).map_err(|e| refuse(snapshot, &format!("column '{}': {e}", field.name())))
    };
    let physical = physical_type(field.data_type());
    Ok(ColumnBinding {
        name: field.name().clone(),
        duckdb_type: type_text(field.data_type())?,
        physical_name: column.physical_name.clone(),
        partition: snapshot.partition_columns.contains(&index),
        physical_type: if physical == *field.data_type() { String::new() } else { type_text(&physical)? },
    })
}

/// DuckDB compares the names of a struct's fields without case.
fn check_nested(ty: &DataType) -> Result<(), String> {
    match ty {
        DataType::Struct(fields) => {
            let mut names = HashSet::new();
            for field in fields {
                if !names.insert(field.name().to_lowercase()) {
                    return Err(format!("two of its fields are named '{}' but for their case", field.name()));
                }
                check_nested(field.data_type())?;
            }
            Ok(())
        }
        DataType::List(item) | DataType::Map(item, _) => check_nested(item.data_type()),
        _ => Ok(()),
    }
}

/// The type with each nested field under its name in the files.
fn physical_type(ty: &DataType) -> DataType {
    match ty {
        DataType::Struct(fields) => DataType::Struct(
            fields
                .iter()
                .map(|f| {
                    let name = f.metadata().get(PHYSICAL_NAME).unwrap_or(f.name());
                    f.as_ref().clone().with_name(name).with_data_type(physical_type(f.data_type()))
                })
                .collect(),
        ),
        DataType::List(item) => DataType::List(physical_item(item)),
        DataType::Map(entries, sorted) => DataType::Map(physical_item(entries), *sorted),
        other => other.clone(),
    }
}

/// A list's item and a map's entries keep their own names, which no file matters to.
fn physical_item(item: &FieldRef) -> FieldRef {
    let ty = match item.data_type() {
        // A map's key and value.
        DataType::Struct(fields) if fields.iter().all(|f| !f.metadata().contains_key(PHYSICAL_NAME)) => {
            DataType::Struct(fields.iter().map(physical_item).collect())
        }
        other => physical_type(other),
    };
    std::sync::Arc::new(Field::clone(item).with_data_type(ty))
}

fn file_binding(snapshot: &TableSnapshot, file: &DataFile, partitions: &[usize]) -> Bound<FileBinding> {
    let partition_values = partitions
        .iter()
        .map(|position| {
            let value = file.partition_values.get(*position).ok_or_else(|| refuse(snapshot, "a file lacks its partition values"))?;
            partition_text(value).map(|text| PartitionValue { text }).map_err(|e| refuse(snapshot, &e))
        })
        .collect::<Bound<Vec<_>>>()?;
    Ok(FileBinding {
        path: file.path.clone(),
        size_bytes: file.size_bytes,
        partition_values,
        deleted_rows: file.deletion_vector.as_ref().map(|dv| encode_rows(&dv.rows)).unwrap_or_default(),
        modified_unix_ms: u64::try_from(file.modified_unix_ms).unwrap_or(0),
        rows: file.rows,
    })
}

/// A one-row array's value as text that DuckDB casts to the column's type.
fn partition_text(value: &ArrayRef) -> Result<Option<String>, String> {
    if value.len() != 1 {
        return Err("a partition value isn't one value".into());
    }
    if value.is_null(0) || value.data_type() == &DataType::Null {
        return Ok(None);
    }
    if let Some(text) = value.as_any().downcast_ref::<StringArray>() {
        return Ok(Some(text.value(0).to_string()));
    }
    if let Some(bytes) = value.as_any().downcast_ref::<BinaryArray>() {
        return Ok(Some(bytes.value(0).iter().map(|b| format!("\\x{b:02X}")).collect()));
    }
    let options = FormatOptions::default().with_display_error(false);
    let formatter = ArrayFormatter::try_new(value.as_ref(), &options).map_err(|e| format!("a partition value has no text: {e}"))?;
    formatter.value(0).try_to_string().map(Some).map_err(|e| format!("a partition value has no text: {e}"))
}

/// The first position, then the differences, as varints.
fn encode_rows(rows: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(rows.len() * 2);
    let mut before = 0;
    for row in rows {
        let mut value = row - before;
        before = *row;
        while value >= 0x80 {
            bytes.push((value as u8 & 0x7f) | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
    }
    bytes
}

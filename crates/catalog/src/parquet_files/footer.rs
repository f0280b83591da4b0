//! One Parquet footer: columns in Databricks' types, as Spark would read the file, and their bounds.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{CastOptions, SortOptions, cast_with_options, sort_to_indices, take};
use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::basic::Type as Physical;
use parquet::file::metadata::RowGroupMetaData;

use crate::ColumnStats;
use crate::values::{Bound, text_bound};

pub(super) struct Footer {
    pub rows: u64,
    pub columns: Vec<FooterColumn>,
}

pub(super) struct FooterColumn {
    pub field: Field,
    /// Whether the file's type isn't the field's, so that readers must cast.
    pub converted: bool,
    pub stats: ColumnStats,
}

pub(super) enum Unreadable {
    /// Completes "not eligible: table t: ...".
    Type(String),
    Damaged(String),
}

impl Footer {
    pub fn of(metadata: &ArrowReaderMetadata) -> Result<Self, Unreadable> {
        let file = metadata.metadata();
        let rows = u64::try_from(file.file_metadata().num_rows()).map_err(|_| Unreadable::Damaged("its row count is negative".into()))?;
        let mut columns = Vec::with_capacity(metadata.schema().fields().len());
        for (root, stored) in metadata.schema().fields().iter().enumerate() {
            let descriptor = metadata.parquet_schema();
            let leaf = (0..descriptor.num_columns()).find(|leaf| descriptor.get_column_root_idx(*leaf) == root);
            let physical = leaf.map(|leaf| descriptor.column(leaf).physical_type());
            let data_type = logical(stored.data_type(), physical, stored.name()).map_err(Unreadable::Type)?;
            let converted = !same_layout(stored.data_type(), &data_type);
            let stats = match leaf {
                Some(leaf) if !data_type.is_nested() && physical != Some(Physical::INT96) => bounds(metadata, stored, leaf, &data_type),
                _ => ColumnStats::default(),
            };
            columns.push(FooterColumn { field: Field::new(stored.name(), data_type, true), converted, stats });
        }
        Ok(Self { rows, columns })
    }
}

/// The type that Spark reads a stored type as; everything nullable, as Spark makes it for files.
fn logical(stored: &DataType, physical: Option<Physical>, path: &str) -> Result<DataType, String> {
    let nested = |field: &Field, name: &str| -> Result<Field, String> {
        // INT96 inside nested columns shows as nanoseconds without a zone, like nothing else that is allowed.
        let inner = match field.data_type() {
            DataType::Timestamp(TimeUnit::Nanosecond, None) => {
                return Err(format!("column `{path}` holds nanosecond or INT96 timestamps inside a nested type, which isn't supported"));
            }
            other => logical(other, None, &format!("{path}.{}", field.name()))?,
        };
        Ok(Field::new(name, inner, true))
    };
    let micros = |zone: &Option<Arc<str>>| DataType::Timestamp(TimeUnit::Microsecond, zone.as_ref().map(|_| "UTC".into()));
    Ok(match stored {
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Date32
        | DataType::Utf8
        | DataType::Binary => stored.clone(),
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s) if (0..=38).contains(s) => {
            DataType::Decimal128(*p, *s)
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) if physical == Some(Physical::INT96) => micros(&Some("UTC".into())),
        DataType::Timestamp(TimeUnit::Millisecond | TimeUnit::Microsecond, zone) => micros(zone),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|f| nested(f, f.name())).collect::<Result<Fields, String>>()?),
        DataType::List(item) | DataType::LargeList(item) => DataType::List(Arc::new(nested(item, "element")?)),
        DataType::Map(entries, _) => {
            let DataType::Struct(pair) = entries.data_type() else { return Err(format!("column `{path}` is a malformed map")) };
            let [key, value] = pair.as_ref() else { return Err(format!("column `{path}` is a malformed map")) };
            let key = nested(key, "key")?.with_nullable(false);
            let entries = Field::new("entries", DataType::Struct(Fields::from(vec![key, nested(value, "value")?])), false);
            DataType::Map(Arc::new(entries), false)
        }
        other => return Err(format!("column `{path}` has the Parquet type {other}, which isn't supported")),
    })
}

/// Whether values need no cast; names and nullability of nested fields don't matter.
fn same_layout(stored: &DataType, logical: &DataType) -> bool {
    match (stored, logical) {
        (DataType::Struct(a), DataType::Struct(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_layout(a.data_type(), b.data_type()))
        }
        (DataType::List(a), DataType::List(b)) | (DataType::Map(a, _), DataType::Map(b, _)) => same_layout(a.data_type(), b.data_type()),
        (a, b) => a == b,
    }
}

fn bounds(metadata: &ArrowReaderMetadata, stored: &Field, leaf: usize, logical: &DataType) -> ColumnStats {
    let groups = metadata.metadata().row_groups();
    let Ok(converter) = StatisticsConverter::try_new(stored.name(), metadata.schema(), metadata.parquet_schema()) else {
        return ColumnStats::default();
    };
    let converter = converter.with_missing_null_counts_as_zero(false);
    let nulls: Option<Vec<u64>> =
        converter.row_group_null_counts(groups).ok().and_then(|counts| counts.iter().collect::<Option<Vec<u64>>>());
    let trusted = groups.iter().all(|group| ordered(group, leaf));
    let bound = |bound: Bound| -> Option<ArrayRef> {
        if !trusted || matches!(logical, DataType::Binary) || (bound == Bound::Max && logical.is_floating()) {
            return None;
        }
        let per_group = match bound {
            Bound::Min => converter.row_group_mins(groups).ok()?,
            Bound::Max => converter.row_group_maxes(groups).ok()?,
        };
        // A group without a bound is fine only when all of it is NULL.
        for (i, group) in groups.iter().enumerate() {
            let all_null = nulls.as_ref().is_some_and(|n| u64::try_from(group.num_rows()).ok() == Some(n[i]));
            if per_group.is_null(i) && !all_null {
                return None;
            }
        }
        extreme(&per_group, logical, bound)
    };
    ColumnStats { min: bound(Bound::Min), max: bound(Bound::Max), nulls: nulls.as_ref().map(|n| n.iter().sum()) }
}

/// Old writers ordered byte arrays by signed bytes and marked that by the old fields alone.
fn ordered(group: &RowGroupMetaData, leaf: usize) -> bool {
    let column = group.column(leaf);
    let signed = matches!(column.column_type(), Physical::INT32 | Physical::INT64 | Physical::FLOAT | Physical::DOUBLE | Physical::BOOLEAN);
    column.statistics().is_none_or(|s| signed || !s.is_min_max_deprecated() || (s.min_bytes_opt().is_none() && s.max_bytes_opt().is_none()))
}

fn extreme(per_group: &ArrayRef, logical: &DataType, bound: Bound) -> Option<ArrayRef> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let values = cast_with_options(per_group, logical, &options).ok()?;
    let order = SortOptions { descending: bound == Bound::Max, nulls_first: false };
    let first = sort_to_indices(&values, Some(order), Some(1)).ok()?;
    let value = take(&values, &first, None).ok()?;
    if value.is_empty() || value.is_null(0) {
        return None;
    }
    match logical {
        DataType::Utf8 => Some(text_bound(value.as_string::<i32>().value(0).to_string(), bound)),
        DataType::Float32 | DataType::Float64 => {
            let text = arrow::util::display::array_value_to_string(&value, 0).ok()?;
            crate::values::stats_bound(&text, logical, bound)
        }
        _ => Some(value),
    }
}

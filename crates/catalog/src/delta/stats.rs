//! A file's statistics from its add action. Anything missing or malformed is unknown, never a guess.

use std::collections::HashMap;

use arrow::datatypes::{DataType, SchemaRef};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::values::{Bound, stats_bound};
use crate::{Column, ColumnStats};

#[derive(Debug, Default, PartialEq)]
pub(super) struct FileStats {
    pub rows: Option<u64>,
    /// Parallel to the schema, or empty.
    pub columns: Vec<ColumnStats>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw<'a> {
    num_records: Option<u64>,
    tight_bounds: Option<bool>,
    #[serde(borrow, default)]
    min_values: Option<HashMap<String, &'a RawValue>>,
    #[serde(borrow, default)]
    max_values: Option<HashMap<String, &'a RawValue>>,
    #[serde(borrow, default)]
    null_count: Option<HashMap<String, &'a RawValue>>,
}

/// `with_columns` false keeps only the row count.
pub(super) fn parse(json: Option<&str>, schema: &SchemaRef, columns: &[Column], with_columns: bool) -> FileStats {
    let Some(raw) = json.and_then(|json| serde_json::from_str::<Raw<'_>>(json).ok()) else { return FileStats::default() };
    if !with_columns {
        return FileStats { rows: raw.num_records, columns: Vec::new() };
    }
    let tight = raw.tight_bounds.unwrap_or(true);
    let parsed = schema.fields().iter().zip(columns).map(|(field, column)| {
        let bound = |values: &Option<HashMap<String, &RawValue>>, bound: Bound| {
            // An older file's FLOAT as text isn't the DOUBLE that the column holds now.
            if column.widened && matches!(field.data_type(), DataType::Float32 | DataType::Float64) {
                return None;
            }
            stats_bound(values.as_ref()?.get(&column.physical_name)?.get(), field.data_type(), bound)
        };
        let nulls = raw.null_count.as_ref().and_then(|n| n.get(&column.physical_name)?.get().parse::<u64>().ok());
        ColumnStats {
            min: bound(&raw.min_values, Bound::Min),
            max: bound(&raw.max_values, Bound::Max),
            // With loose bounds only "none" and "all" are exact.
            nulls: nulls.filter(|n| tight || *n == 0 || Some(*n) == raw.num_records),
        }
    });
    let parsed: Vec<ColumnStats> = parsed.collect();
    let known = parsed.iter().any(|c| c.min.is_some() || c.max.is_some() || c.nulls.is_some());
    FileStats { rows: raw.num_records, columns: if known { parsed } else { Vec::new() } }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::AsArray;
    use arrow::datatypes::{Field, Int32Type, Schema};

    use super::*;

    fn column(physical: &str) -> Column {
        Column { physical_name: physical.into(), field_id: None, comment: None, widened: false }
    }

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("a", DataType::Int32, true), Field::new("b", DataType::Utf8, true)]))
    }

    #[test]
    fn physical_names_are_followed() {
        let json = r#"{"numRecords":3,"minValues":{"p1":1,"p2":"x"},"maxValues":{"p1":9},"nullCount":{"p1":0,"p2":2}}"#;
        let stats = parse(Some(json), &schema(), &[column("p1"), column("p2")], true);
        assert_eq!(stats.rows, Some(3));
        assert_eq!(stats.columns[0].max.as_ref().unwrap().as_primitive::<Int32Type>().value(0), 9);
        assert_eq!(stats.columns[1].max, None);
        assert_eq!(stats.columns[1].nulls, Some(2));
    }

    #[test]
    fn malformed_statistics_are_unknown() {
        let columns = [column("a"), column("b")];
        for json in ["", "{", "[]", r#"{"numRecords":-1}"#, r#"{"numRecords":"3"}"#, r#"{"minValues":7}"#, "null"] {
            assert_eq!(parse(Some(json), &schema(), &columns, true), FileStats::default(), "{json}");
        }
        let odd = parse(Some(r#"{"numRecords":3,"minValues":{"a":"x"},"nullCount":{"a":{"z":1}}}"#), &schema(), &columns, true);
        assert_eq!(odd, FileStats { rows: Some(3), columns: vec![] });
    }

    #[test]
    fn loose_null_counts_are_unknown_unless_none_or_all() {
        let json = r#"{"numRecords":3,"tightBounds":false,"nullCount":{"a":3,"b":1}}"#;
        let stats = parse(Some(json), &schema(), &[column("a"), column("b")], true);
        assert_eq!((stats.columns[0].nulls, stats.columns[1].nulls), (Some(3), None));
    }
}

//! What bindings read: every case that a Delta table's files can hold.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float32Array, Int16Array, Int32Array, Int64Array,
    StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Schema, TimeUnit};
use flightpath_types::ErrorKind;

use crate::fixture::*;

fn field(name: &str, ty: DataType) -> Field {
    Field::new(name, ty, true)
}

fn array(array: impl Array + 'static) -> ArrayRef {
    Arc::new(array)
}

fn ints(values: &[i32]) -> ArrayRef {
    array(Int32Array::from(values.to_vec()))
}

fn data(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

#[test]
fn bindings_read_what_the_table_says() {
    runtime().block_on(async {
        let engine = start(config()).await;
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();

        assert_eq!(sql(&engine, "SELECT 1 AS a, 'x' AS b").await, ["1 | x"]);
        assert_eq!(sql(&engine, "WITH a AS (SELECT 1 AS x) SELECT * FROM a").await, ["1"]);

        // Missing columns and widened types, whatever the order of the files; a column of the data
        // that is named like a virtual one of the reader.
        let old = write(
            &folder.join("old.parquet"),
            vec![
                ("i", ints(&[1, 2])),
                ("d", array(Date32Array::from(vec![0, 1]))),
                ("dec", array(Decimal128Array::from(vec![150, 250]).with_precision_and_scale(5, 2).unwrap())),
                ("f", array(Float32Array::from(vec![0.5, 1.5]))),
                ("file_index", array(StringArray::from(vec!["x", "y"]))),
            ],
        );
        let new = write(
            &folder.join("new.parquet"),
            vec![
                ("i", array(Int64Array::from(vec![1i64 << 40]))),
                ("b", array(BooleanArray::from(vec![true]))),
                ("dec", array(Decimal128Array::from(vec![12345]).with_precision_and_scale(12, 3).unwrap())),
            ],
        );
        let schema = Schema::new(vec![
            field("i", DataType::Int64),
            field("b", DataType::Boolean),
            field("d", DataType::Timestamp(TimeUnit::Microsecond, None)),
            field("dec", DataType::Decimal128(12, 3)),
            field("f", DataType::Float64),
            field("file_index", DataType::Utf8),
        ]);
        let expected = [
            "1 |  | 1970-01-01T00:00:00 | 1.500 | 0.5 | x",
            "2 |  | 1970-01-02T00:00:00 | 2.500 | 1.5 | y",
            "1099511627776 | true |  | 12.345 |  | ",
        ];
        for files in [vec![old.clone(), new.clone()], vec![new.clone(), old.clone()]] {
            let scan = table(schema.clone(), vec![], files);
            assert_eq!(rows(&engine, query("SELECT * FROM s0 ORDER BY i", vec![scan])).await, expected);
        }
        // The same with deleted rows in one of the files, and with a WITH clause before.
        let scan = table(schema.clone(), vec![], vec![new.clone(), with_deleted(old.clone(), vec![0])]);
        let text = "WITH x AS (SELECT i FROM s0) SELECT a.i FROM x a JOIN x b ON a.i = b.i ORDER BY 1";
        assert_eq!(rows(&engine, query(text, vec![scan])).await, ["2", "1099511627776"]);

        // No files: no rows, in the promised types.
        let scan = table(schema.clone(), vec![], vec![]);
        let batches = run(&engine, query("SELECT count(*) AS n, max(dec) AS d FROM s0", vec![scan])).await.unwrap();
        assert_eq!(batches[0].schema().field(1).data_type(), &DataType::Decimal128(12, 3));
        let scan = table(schema, vec![], vec![]);
        assert!(run(&engine, query("SELECT * FROM s0", vec![scan])).await.unwrap().is_empty());
        engine_ends(engine).await;
    });
}

async fn engine_ends(engine: flightpath_engine_duckdb::DuckdbEngine) {
    flightpath_engine::Engine::shutdown(&engine).await;
}

#[test]
fn partition_values_and_deleted_rows_belong_to_their_files() {
    runtime().block_on(async {
        let engine = start(config()).await;
        let folder = tempfile::tempdir().unwrap();
        // A folder that DuckDB would take for a pattern and for a partition of its own.
        let odd = folder.path().join("p=9 [a]*?'x");
        std::fs::create_dir(&odd).unwrap();
        let schema = Schema::new(vec![
            field("p", DataType::Utf8),
            field("i", DataType::Int32),
            field("d", DataType::Date32),
            field("n", DataType::Decimal128(5, 2)),
            field("t", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
            field("blob", DataType::Binary),
        ]);
        let values: Vec<Option<&str>> = vec![Some("it's"), None, Some(""), Some("NULL")];
        let files: Vec<_> = values
            .iter()
            .enumerate()
            .map(|(n, value)| {
                let n = n as i32;
                let file = write(&odd.join(format!("f{n}.parquet")), vec![("i", ints(&[n * 10, n * 10 + 1, n * 10 + 2, n * 10 + 3]))]);
                let file = with_partition(file, array(StringArray::from(vec![*value])));
                let file = with_partition(file, array(Date32Array::from(vec![n])));
                let file =
                    with_partition(file, array(Decimal128Array::from(vec![i128::from(n) - 1]).with_precision_and_scale(5, 2).unwrap()));
                let file = with_partition(file, array(TimestampMicrosecondArray::from(vec![i64::from(n) - 1]).with_timezone("UTC")));
                let file = with_partition(file, array(arrow::array::BinaryArray::from(vec![&[0u8, 39, 92, 255][..]])));
                match n {
                    1 => with_deleted(file, vec![0, 2]),
                    3 => with_deleted(file, vec![0, 1, 2, 3]),
                    _ => file,
                }
            })
            .collect();
        let partitions = vec![0, 2, 3, 4, 5];
        let scan = table(schema.clone(), partitions.clone(), files.clone());
        let text = "SELECT p, i, d, n, t, hex(blob) AS h FROM s0 WHERE i % 10 IN (0, 1, 3) ORDER BY i";
        let all = rows(&engine, query(text, vec![scan])).await;
        assert_eq!(
            all,
            [
                "it's | 0 | 1970-01-01 | -0.01 | 1969-12-31T23:59:59.999999Z | 00275CFF",
                "it's | 1 | 1970-01-01 | -0.01 | 1969-12-31T23:59:59.999999Z | 00275CFF",
                "it's | 3 | 1970-01-01 | -0.01 | 1969-12-31T23:59:59.999999Z | 00275CFF",
                " | 11 | 1970-01-02 | 0.00 | 1970-01-01T00:00:00Z | 00275CFF",
                " | 13 | 1970-01-02 | 0.00 | 1970-01-01T00:00:00Z | 00275CFF",
                " | 20 | 1970-01-03 | 0.01 | 1970-01-01T00:00:00.000001Z | 00275CFF",
                " | 21 | 1970-01-03 | 0.01 | 1970-01-01T00:00:00.000001Z | 00275CFF",
                " | 23 | 1970-01-03 | 0.01 | 1970-01-01T00:00:00.000001Z | 00275CFF",
            ]
        );
        // Partition columns alone, no columns at all, and a filter on a NULL partition.
        for (columns, text, expected) in [
            (vec![0], "SELECT p IS NULL AS n, count(*) FROM s0 GROUP BY 1 ORDER BY 1", vec!["false | 8", "true | 2"]),
            (vec![], "SELECT count(*) AS n FROM s0", vec!["10"]),
            (vec![0, 1], "SELECT i FROM s0 WHERE p IS NULL ORDER BY i", vec!["11", "13"]),
            (vec![0, 1], "SELECT i FROM s0 WHERE p = '' AND i > 21 ORDER BY i", vec!["22", "23"]),
        ] {
            let mut scan = table(schema.clone(), partitions.clone(), files.clone());
            scan.columns = columns;
            assert_eq!(rows(&engine, query(text, vec![scan])).await, expected, "{text}");
        }
        // The same through the confined instance, where paths are spelled as they are.
        let mut scan = table(schema, partitions, files);
        scan.columns = vec![0, 1];
        let text = "SELECT count(*) AS n, sum(i)::BIGINT AS s FROM lake.\"default\".t WHERE p IS NULL";
        assert_eq!(rows(&engine, user_query(text, vec![scan])).await, ["2 | 24"]);
        engine_ends(engine).await;
    });
}

#[test]
fn many_files_and_many_columns_are_bound() {
    runtime().block_on(async {
        let engine = start(config()).await;
        let folder = tempfile::tempdir().unwrap();
        let first = folder.path().join("f.parquet");
        let file = write(&first, vec![("i", ints(&[1, 2, 3]))]);
        // More files than go into the text of the SQL; each its own path.
        let files: Vec<_> = (0..300)
            .map(|n| {
                let path = folder.path().join(format!("f{n}.parquet"));
                std::fs::hard_link(&first, &path).unwrap();
                let mut file = file.clone();
                file.path = path.canonicalize().unwrap().to_str().unwrap().into();
                let file = with_partition(file, array(Int64Array::from(vec![if n % 3 == 0 { None } else { Some(n) }])));
                if n == 299 { with_deleted(file, vec![1]) } else { file }
            })
            .collect();
        let schema = Schema::new(vec![field("i", DataType::Int32), field("p", DataType::Int64)]);
        let scan = table(schema, vec![1], files);
        let text = "SELECT count(*) AS n, count(p) AS c, sum(p)::BIGINT AS s, sum(i)::BIGINT AS i FROM s0";
        let wanted: i64 = (0..300).filter(|n| n % 3 != 0).sum::<i64>() * 3 - 299;
        assert_eq!(rows(&engine, query(text, vec![scan])).await, [format!("899 | 599 | {wanted} | 1798")]);

        let names: Vec<String> = (0..10_000).map(|n| format!("column {n}")).collect();
        let columns = names.iter().enumerate().map(|(n, name)| (name.as_str(), ints(&[n as i32]))).collect();
        let wide = write(&folder.path().join("wide.parquet"), columns);
        let schema = Schema::new(names.iter().map(|n| field(n, DataType::Int32)).collect::<Vec<_>>());
        let scan = table(schema, vec![], vec![wide]);
        let batches = run(&engine, query("SELECT * FROM s0", vec![scan])).await.unwrap();
        assert_eq!(batches[0].num_columns(), 10_000);
        let last = batches[0].column(9_999).as_any().downcast_ref::<Int32Array>().unwrap();
        assert_eq!(last.value(0), 9_999);
        engine_ends(engine).await;
    });
}

#[test]
fn nested_columns_are_renamed_and_legacy_layouts_read() {
    runtime().block_on(async {
        let engine = start(config()).await;
        let folder = tempfile::tempdir().unwrap();
        let physical = |logical: &str, name: &str, ty: DataType| {
            field(logical, ty).with_metadata(HashMap::from([("delta.columnMapping.physicalName".to_string(), name.to_string())]))
        };
        // In the file: s{x, y}, where the table says s{a, b}; and a list and a map of such structs.
        let file_fields = Fields::from(vec![field("x", DataType::Int32), field("y", DataType::Utf8)]);
        let structs = StructArray::try_new(
            file_fields.clone(),
            vec![ints(&[1, 2, 3]), array(StringArray::from(vec![Some("p"), None, Some("r")]))],
            Some(vec![true, true, false].into()),
        )
        .unwrap();
        let list = arrow::array::ListArray::new(
            Arc::new(field("element", DataType::Struct(file_fields.clone()))),
            arrow::buffer::OffsetBuffer::from_lengths([2, 0, 1]),
            array(structs.clone()),
            None,
        );
        let file = write(&folder.path().join("f.parquet"), vec![("c1", array(structs)), ("c2", array(list))]);
        let table_fields = Fields::from(vec![physical("a", "x", DataType::Int64), physical("b", "y", DataType::Utf8)]);
        let schema = Schema::new(vec![
            field("s", DataType::Struct(table_fields.clone())),
            field("l", DataType::List(Arc::new(field("element", DataType::Struct(table_fields))))),
        ]);
        let mut snapshot = snapshot(Arc::new(schema), vec![], vec![file]);
        snapshot.columns[0].physical_name = "c1".into();
        snapshot.columns[1].physical_name = "c2".into();
        let text = "SELECT s.a AS a, s.b AS b, s IS NULL AS n, len(l) AS l, l[1].a AS la FROM s0 ORDER BY a NULLS LAST";
        let read = rows(&engine, query(text, vec![scan(snapshot)])).await;
        assert_eq!(read, ["1 | p | false | 2 | 1", "2 |  | false | 0 | ", " |  | true | 1 | "]);

        // Timestamps of old writers, dictionaries.
        let int96 = data_file(&data("int96.parquet"));
        let schema =
            Schema::new(vec![field("id", DataType::Int32), field("time", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))]);
        let scan96 = table(schema, vec![], vec![int96]);
        let read = rows(&engine, query("SELECT * FROM s0", vec![scan96])).await;
        assert_eq!(read, ["0 | 2020-02-01T08:09:10Z"]);
        let dictionary: DictionaryArray<Int32Type> = vec![Some("a"), None, Some("a"), Some("b")].into_iter().collect();
        let file =
            write(&folder.path().join("d.parquet"), vec![("d", array(dictionary)), ("i", array(Int16Array::from(vec![1, 2, 3, 4])))]);
        let scan = table(Schema::new(vec![field("d", DataType::Utf8), field("i", DataType::Int16)]), vec![], vec![file]);
        let read = rows(&engine, query("SELECT d, sum(i)::BIGINT FROM s0 GROUP BY d ORDER BY d NULLS FIRST", vec![scan])).await;
        assert_eq!(read, [" | 2", "a | 4", "b | 4"]);
        engine_ends(engine).await;
    });
}

#[test]
fn what_cannot_be_bound_is_refused_with_a_reason() {
    runtime().block_on(async {
        let engine = start(config()).await;
        let folder = tempfile::tempdir().unwrap();
        let file = write(&folder.path().join("f.parquet"), vec![("i", ints(&[1]))]);
        let schema = Schema::new(vec![field("i", DataType::Int32)]);
        let mut by_id = snapshot(Arc::new(schema.clone()), vec![], vec![file.clone()]);
        by_id.columns[0].field_id = Some(1);
        let mut governed = snapshot(Arc::new(schema.clone()), vec![], vec![file.clone()]);
        governed.access = flightpath_catalog::AccessRules::Governed("it has a row filter".into());
        let mut remote = file.clone();
        remote.path = "s3://bucket/f.parquet".into();
        let twice = Schema::new(vec![field("i", DataType::Int32), field("I", DataType::Int32)]);
        for (scan, reason) in [
            (scan(by_id), "mapped by id"),
            (scan(governed), "row filter"),
            (table(schema, vec![], vec![remote]), "local files only"),
            (table(twice, vec![], vec![file]), "but for their case"),
        ] {
            let query = query("SELECT * FROM s0", vec![scan]);
            let refusal = flightpath_engine::Engine::eligible(&engine, &query).unwrap_err();
            assert!(refusal.reason.contains(reason), "{}", refusal.reason);
            assert_eq!(run(&engine, query).await.unwrap_err().kind(), ErrorKind::NotEligible);
        }
        engine_ends(engine).await;
    });
}

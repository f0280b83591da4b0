use std::collections::HashMap;

use arrow::array::types::Int32Type;
use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Int32Array, Int64Array, ListArray, StringArray, StructArray, TimestampMillisecondArray,
    TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Fields, TimeUnit};

use super::array::Unreadable;
use super::*;

fn convert(array: ArrayRef, table: &DataType) -> Result<ArrayRef, String> {
    let conversion = conversion(array.data_type(), table, false, Calendar::Proleptic)?;
    let converted = conversion.apply(&array, table).map_err(|e| format!("{e:?}"))?;
    assert_eq!(converted.data_type(), table);
    Ok(converted)
}

fn utc() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn field_with(name: &str, ty: DataType, key: &str, value: &str) -> Field {
    Field::new(name, ty, true).with_metadata(HashMap::from([(key.to_string(), value.to_string())]))
}

#[test]
fn leaves_are_widened_exactly_or_are_errors() {
    let wide = convert(Arc::new(Int32Array::from(vec![Some(7), None])), &DataType::Int64).unwrap();
    assert_eq!(wide.as_ref(), &Int64Array::from(vec![Some(7), None]) as &dyn Array);

    let big = convert(Arc::new(UInt64Array::from(vec![u64::MAX])), &DataType::Int64);
    assert!(big.is_err(), "{big:?}");
    let narrow = convert(Arc::new(Int64Array::from(vec![1 << 40])), &DataType::Int32);
    assert!(narrow.is_err(), "{narrow:?}");
    let lossy = convert(Arc::new(Int64Array::from(vec![1])), &DataType::Float64);
    assert!(lossy.is_err(), "{lossy:?}");
    let text = convert(Arc::new(StringArray::from(vec!["1"])), &DataType::Int64);
    assert!(text.is_err(), "{text:?}");

    let words: DictionaryArray<Int32Type> = vec!["a", "b", "a"].into_iter().collect();
    let decoded = convert(Arc::new(words), &DataType::Utf8).unwrap();
    assert_eq!(decoded.as_ref(), &StringArray::from(vec!["a", "b", "a"]) as &dyn Array);
}

#[test]
fn times_become_microseconds_without_moving() {
    let millis = TimestampMillisecondArray::from(vec![Some(-1), None]).with_timezone("America/New_York");
    let converted = convert(Arc::new(millis), &utc()).unwrap();
    let converted = converted.as_primitive::<arrow::array::types::TimestampMicrosecondType>();
    assert_eq!((converted.value(0), converted.is_null(1)), (-1000, true));

    let local = TimestampNanosecondArray::from(vec![1_500_000]);
    assert!(convert(Arc::new(local.clone()), &DataType::Timestamp(TimeUnit::Microsecond, None)).is_ok());
    let fine = TimestampNanosecondArray::from(vec![1_500]);
    assert!(convert(Arc::new(fine), &utc()).is_err());
    let instant = local.with_timezone("UTC");
    assert!(convert(Arc::new(instant), &DataType::Timestamp(TimeUnit::Microsecond, None)).is_err());
}

#[test]
fn old_dates_of_the_hybrid_calendar_are_errors() {
    let spark = |version: &str, key: &str| {
        HashMap::from([("org.apache.spark.version".to_string(), version.to_string()), (key.to_string(), String::new())])
    };
    assert_eq!(Calendar::of_file(&HashMap::new()), Calendar::Proleptic);
    assert_eq!(Calendar::of_file(&spark("3.5.1", "x")), Calendar::Proleptic);
    let old = Calendar::of_file(&spark("2.4.8", "x"));
    assert_eq!(old, Calendar::Hybrid { dates: true, times: true });
    assert_eq!(Calendar::of_file(&spark("3.2.0", "org.apache.spark.legacyINT96")), Calendar::Hybrid { dates: false, times: true });

    let guarded = conversion(&DataType::Date32, &DataType::Date32, false, old).unwrap();
    let modern: ArrayRef = Arc::new(arrow::array::Date32Array::from(vec![Some(-141_427), None, Some(0)]));
    assert!(guarded.apply(&modern, &DataType::Date32).is_ok());
    let ancient: ArrayRef = Arc::new(arrow::array::Date32Array::from(vec![-141_428]));
    assert!(matches!(guarded.apply(&ancient, &DataType::Date32), Err(Unreadable::OldCalendar)));
}

#[test]
fn nested_fields_are_found_by_physical_name_and_missing_ones_are_null() {
    // The table renamed `a` to `b` and added a new `a`: only physical names tell them apart.
    let table = DataType::Struct(Fields::from(vec![
        field_with("b", DataType::Int64, DELTA_PHYSICAL_NAME, "a"),
        field_with("a", DataType::Utf8, DELTA_PHYSICAL_NAME, "col-1"),
    ]));
    let file = StructArray::from(vec![(
        Arc::new(Field::new("a", DataType::Int32, true)),
        Arc::new(Int32Array::from(vec![Some(1), None])) as ArrayRef,
    )]);
    let list = ListArray::new(
        Arc::new(Field::new("array", file.data_type().clone(), true)),
        arrow::buffer::OffsetBuffer::from_lengths([2]),
        Arc::new(file),
        None,
    );
    let table = DataType::List(Arc::new(Field::new("element", table, true)));
    let converted = convert(Arc::new(list), &table).unwrap();
    let structs = converted.as_list::<i32>().values().as_struct().clone();
    assert_eq!(structs.column(0).as_ref(), &Int64Array::from(vec![Some(1), None]) as &dyn Array);
    assert_eq!(structs.column(1).null_count(), 2);
}

#[test]
fn columns_are_found_by_id_name_or_case_and_never_by_guessing() {
    let fields = Fields::from(vec![
        field_with("x", DataType::Int32, PARQUET_FIELD_ID, "2"),
        field_with("y", DataType::Int32, PARQUET_FIELD_ID, "1"),
    ]);
    assert_eq!(find(&fields, "x", Some(1)), Ok(Some(1)));
    assert_eq!(find(&fields, "x", Some(3)), Ok(None));
    assert_eq!(find(&fields, "X", None), Ok(Some(0)));
    assert_eq!(find(&fields, "z", None), Ok(None));
    let plain = Fields::from(vec![Field::new("x", DataType::Int32, true), Field::new("X", DataType::Int32, true)]);
    assert_eq!(find(&plain, "X", None), Ok(Some(1)));
    assert!(find(&plain, "x", Some(1)).is_err());
    let twice = Fields::from(vec![Field::new("Ab", DataType::Int32, true), Field::new("aB", DataType::Int32, true)]);
    assert!(find(&twice, "ab", None).is_err());
}

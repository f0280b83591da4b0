//! Conversions of arrays: exact, or an error.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::types::{Date32Type, Float32Type, Float64Type, TimestampMicrosecondType, TimestampNanosecondType};
use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, PrimitiveArray, StructArray, new_null_array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, TimeUnit};
use arrow::error::ArrowError;

/// How a file's values become the table's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Conversion {
    Same,
    /// Arrow's cast, an error where a value doesn't fit; only between types where it's exact otherwise.
    Checked,
    /// An instant or local time in another unit or with another zone's name, to microseconds.
    Microseconds,
    Null,
    Decoded(Box<Conversion>),
    /// For each field of the table's struct, where it stands in the file's.
    Struct(Vec<Option<(usize, Conversion)>>),
    List(Box<Conversion>),
    Map(Box<(Conversion, Conversion)>),
    /// NaN has many bit patterns, with either sign; Databricks knows one NaN, Arrow's comparisons
    /// tell them apart.
    OneNan(Box<Conversion>),
    /// Values from before the calendars meet are errors.
    Modern(Box<Conversion>),
}

/// Why a value can't be handed on.
#[derive(Debug)]
pub(crate) enum Unreadable {
    Value(ArrowError),
    OldCalendar,
    Nanoseconds,
}

impl From<ArrowError> for Unreadable {
    fn from(error: ArrowError) -> Self {
        Unreadable::Value(error)
    }
}

/// Which calendar a file's old dates and times are written in. Spark before 3.0, or told so
/// later, wrote the hybrid Julian calendar; such files say so in their metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Calendar {
    Proleptic,
    Hybrid { dates: bool, times: bool },
}

/// 1582-10-15, the first day of the Gregorian calendar, in days since 1970-01-01.
const GREGORIAN_START_DAYS: i32 = -141_427;
/// 1900-01-01T00:00:00Z: Spark's calendars and zone rules agree from here on; microseconds.
const COMMON_TIMES_START_MICROS: i64 = -2_208_988_800_000_000;

impl Calendar {
    pub(crate) fn of_file(metadata: &HashMap<String, String>) -> Self {
        let Some(version) = metadata.get("org.apache.spark.version") else { return Calendar::Proleptic };
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok()).unwrap_or(0);
        let old = major < 3 || metadata.contains_key("org.apache.spark.legacyDateTime");
        let times = old || version.starts_with("3.0") || metadata.contains_key("org.apache.spark.legacyINT96");
        if old || times { Calendar::Hybrid { dates: old, times } } else { Calendar::Proleptic }
    }

    pub(crate) fn guard(self, conversion: Conversion, table: &DataType) -> Conversion {
        let affected = match (self, table) {
            (Calendar::Hybrid { dates, .. }, DataType::Date32) => dates,
            (Calendar::Hybrid { times, .. }, DataType::Timestamp(_, _)) => times,
            _ => false,
        };
        if affected { Conversion::Modern(Box::new(conversion)) } else { conversion }
    }
}

/// Between types without children; `None` where no exact conversion is known.
pub(crate) fn leaf(file: &DataType, table: &DataType) -> Option<Conversion> {
    use DataType::*;
    if file == table {
        return Some(Conversion::Same);
    }
    let exact = match (file, table) {
        // An instant can't be told as a local time without guessing the writer's zone.
        (Timestamp(_, Some(_)), Timestamp(TimeUnit::Microsecond, None)) => return None,
        (Timestamp(_, _), Timestamp(TimeUnit::Microsecond, _)) => return Some(Conversion::Microseconds),
        (file, Int8 | Int16 | Int32 | Int64) => file.is_integer(),
        (Int8 | Int16 | Int32 | UInt8 | UInt16 | UInt32 | Float16 | Float32, Float64) => true,
        (Int8 | Int16 | UInt8 | UInt16 | Float16, Float32) => true,
        (file, Decimal128(_, _)) if file.is_integer() => true,
        (Decimal32(_, from) | Decimal64(_, from) | Decimal128(_, from) | Decimal256(_, from), Decimal128(_, to)) => to >= from,
        (Date32, Timestamp(TimeUnit::Microsecond, None)) => true,
        (LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView, Utf8) => true,
        (Utf8 | LargeUtf8 | Utf8View | LargeBinary | BinaryView | FixedSizeBinary(_), Binary) => true,
        _ => false,
    };
    exact.then_some(Conversion::Checked)
}

impl Conversion {
    pub(crate) fn apply(&self, array: &ArrayRef, target: &DataType) -> Result<ArrayRef, Unreadable> {
        match self {
            Conversion::Same => Ok(array.clone()),
            Conversion::Checked => Ok(checked(array, target)?),
            Conversion::Microseconds => microseconds(array, target),
            Conversion::Null => Ok(new_null_array(target, array.len())),
            Conversion::Decoded(inner) => match array.data_type() {
                DataType::Dictionary(_, values) => inner.apply(&checked(array, values)?, target),
                other => Err(unexpected(other, target)),
            },
            Conversion::Struct(children) => structs(array, target, children),
            Conversion::List(element) => lists(array, target, element),
            Conversion::Map(entry) => maps(array, target, &entry.0, &entry.1),
            Conversion::OneNan(inner) => Ok(one_nan(inner.apply(array, target)?)),
            Conversion::Modern(inner) => {
                let array = inner.apply(array, target)?;
                if is_modern(&array) { Ok(array) } else { Err(Unreadable::OldCalendar) }
            }
        }
    }
}

fn unexpected(found: &DataType, target: &DataType) -> Unreadable {
    Unreadable::Value(ArrowError::SchemaError(format!("{found} where {target} was expected")))
}

fn checked(array: &ArrayRef, target: &DataType) -> Result<ArrayRef, ArrowError> {
    cast_with_options(array, target, &CastOptions { safe: false, ..Default::default() })
}

fn microseconds(array: &ArrayRef, target: &DataType) -> Result<ArrayRef, Unreadable> {
    let (DataType::Timestamp(unit, _), DataType::Timestamp(TimeUnit::Microsecond, zone)) = (array.data_type(), target) else {
        return Err(unexpected(array.data_type(), target));
    };
    let micros: PrimitiveArray<TimestampMicrosecondType> = match unit {
        TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().clone(),
        TimeUnit::Nanosecond => {
            let nanos = array.as_primitive::<TimestampNanosecondType>();
            if nanos.iter().flatten().any(|value| value % 1000 != 0) {
                return Err(Unreadable::Nanoseconds);
            }
            nanos.unary(|value| value.div_euclid(1000))
        }
        TimeUnit::Second | TimeUnit::Millisecond => {
            let zone = match array.data_type() {
                DataType::Timestamp(_, zone) => zone.clone(),
                _ => None,
            };
            let widened = checked(array, &DataType::Timestamp(TimeUnit::Microsecond, zone))?;
            widened.as_primitive::<TimestampMicrosecondType>().clone()
        }
    };
    Ok(Arc::new(micros.with_timezone_opt(zone.clone())))
}

fn one_nan(array: ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>();
            if values.values().iter().any(|value| value.is_nan()) {
                return Arc::new(values.unary::<_, Float64Type>(|value| if value.is_nan() { f64::NAN } else { value }));
            }
        }
        DataType::Float32 => {
            let values = array.as_primitive::<Float32Type>();
            if values.values().iter().any(|value| value.is_nan()) {
                return Arc::new(values.unary::<_, Float32Type>(|value| if value.is_nan() { f32::NAN } else { value }));
            }
        }
        _ => {}
    }
    array
}

fn structs(array: &ArrayRef, target: &DataType, children: &[Option<(usize, Conversion)>]) -> Result<ArrayRef, Unreadable> {
    let (Some(from), DataType::Struct(fields)) = (array.as_struct_opt(), target) else {
        return Err(unexpected(array.data_type(), target));
    };
    let columns = fields
        .iter()
        .zip(children)
        .map(|(field, child)| match child {
            Some((index, conversion)) => conversion.apply(from.column(*index), field.data_type()),
            None => Ok(new_null_array(field.data_type(), from.len())),
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), columns, from.nulls().cloned(), from.len())?))
}

fn lists(array: &ArrayRef, target: &DataType, element: &Conversion) -> Result<ArrayRef, Unreadable> {
    let DataType::List(field) = target else { return Err(unexpected(array.data_type(), target)) };
    // Other kinds of lists become ordinary ones first; that moves offsets, not values.
    let plain = match array.data_type() {
        DataType::List(_) => array.clone(),
        DataType::LargeList(inner) | DataType::FixedSizeList(inner, _) => checked(array, &DataType::List(inner.clone()))?,
        other => return Err(unexpected(other, target)),
    };
    let plain = plain.as_list::<i32>();
    let (values, offsets) = used_values(plain.values(), plain.offsets());
    let values = element.apply(&values, field.data_type())?;
    Ok(Arc::new(ListArray::try_new(field.clone(), offsets, values, plain.nulls().cloned())?))
}

fn maps(array: &ArrayRef, target: &DataType, key: &Conversion, value: &Conversion) -> Result<ArrayRef, Unreadable> {
    let (Some(from), DataType::Map(entries, ordered)) = (array.as_map_opt(), target) else {
        return Err(unexpected(array.data_type(), target));
    };
    let DataType::Struct(fields) = entries.data_type() else { return Err(unexpected(array.data_type(), target)) };
    let (keys, offsets) = used_values(from.keys(), from.offsets());
    let (values, _) = used_values(from.values(), from.offsets());
    let columns = vec![key.apply(&keys, fields[0].data_type())?, value.apply(&values, fields[1].data_type())?];
    let structs = StructArray::try_new(fields.clone(), columns, None)?;
    Ok(Arc::new(MapArray::try_new(entries.clone(), offsets, structs, from.nulls().cloned(), *ordered)?))
}

/// The values that offsets point at, and offsets that begin at zero: a slice's other values must
/// not be converted, since one of them could be an error.
fn used_values(values: &ArrayRef, offsets: &OffsetBuffer<i32>) -> (ArrayRef, OffsetBuffer<i32>) {
    let first = offsets[0];
    let last = offsets[offsets.len() - 1];
    if first == 0 && usize::try_from(last) == Ok(values.len()) {
        return (values.clone(), offsets.clone());
    }
    // Offsets of a valid array are neither negative nor falling.
    let (start, length) = (first.unsigned_abs() as usize, last.abs_diff(first) as usize);
    (values.slice(start, length), OffsetBuffer::from_lengths(offsets.lengths()))
}

fn is_modern(array: &ArrayRef) -> bool {
    match array.data_type() {
        DataType::Date32 => array.as_primitive::<Date32Type>().iter().flatten().all(|days| days >= GREGORIAN_START_DAYS),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            array.as_primitive::<TimestampMicrosecondType>().iter().flatten().all(|micros| micros >= COMMON_TIMES_START_MICROS)
        }
        _ => true,
    }
}

//! Casting arrays.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryArray, BooleanArray, BooleanBuilder, ListArray, MapArray, PrimitiveBuilder,
    StringArray, StringBuilder, StructArray, UInt64Array, new_null_array,
};
use arrow::buffer::BooleanBuffer;
use arrow::compute::nullif;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, FieldRef, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use flightpath_types::{Error, Result};

use super::parse::{self, DecimalText};
use super::text;
use super::zone::Zone;
use crate::duckdb::decimal_text;
use crate::{errors, types};

const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// What becomes of a value that can't be cast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Mode {
    /// It raises.
    Ansi,
    /// It becomes NULL.
    Try,
}

/// Why a value can't be cast.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Malformed,
    Overflow,
    /// Too wide for a decimal.
    OutOfRange,
}

type Converted<T> = Result<Option<T>, Fault>;

/// `array` as `to`. The pair must be one that [`types::can_cast`] allows.
pub(crate) fn cast_array(array: &ArrayRef, to: &DataType, zone: Zone, mode: Mode) -> Result<ArrayRef> {
    let from = array.data_type();
    if from == to {
        return Ok(array.clone());
    }
    if types::same(from, to) {
        return relabel(array, to);
    }
    let cast = Cast { array, from, to, zone, mode };
    match (from, to) {
        (DataType::Null, _) => Ok(new_null_array(to, array.len())),
        (_, DataType::Utf8) => cast.to_text(),
        (DataType::Utf8, _) => cast.from_text(),
        (DataType::List(_), DataType::List(item)) => cast.list(item),
        (DataType::Struct(_), DataType::Struct(_)) => cast.structure(),
        (DataType::Map(..), DataType::Map(..)) => cast.map(),
        (DataType::Boolean, _) => cast.from_boolean(),
        (_, DataType::Boolean) => cast.to_boolean(),
        (f, t) if types::is_datetime(f) && types::is_datetime(t) => cast.datetime(),
        (f, t) if types::is_timestamp(f) && types::is_numeric(t) => cast.timestamp_to_number(),
        (f, t) if types::is_numeric(f) && types::is_timestamp(t) => cast.number_to_timestamp(),
        (f, t) if types::is_numeric(f) && types::is_numeric(t) => cast.number(),
        _ => Err(cast.unknown()),
    }
}

struct Cast<'a> {
    array: &'a ArrayRef,
    from: &'a DataType,
    to: &'a DataType,
    zone: Zone,
    mode: Mode,
}

/// Runs `$body` with `$t` as the Arrow type of the integral `$ty`.
macro_rules! integral {
    ($ty:expr, $t:ident => $body:expr, else $other:expr) => {
        match $ty {
            DataType::Int8 => {
                type $t = Int8Type;
                $body
            }
            DataType::Int16 => {
                type $t = Int16Type;
                $body
            }
            DataType::Int32 => {
                type $t = Int32Type;
                $body
            }
            DataType::Int64 => {
                type $t = Int64Type;
                $body
            }
            _ => $other,
        }
    };
}

impl Cast<'_> {
    fn unknown(&self) -> Error {
        Error::not_eligible(format!("casting {} to {} isn't known", types::name(self.from), types::name(self.to)))
    }

    fn fault(&self, fault: Fault, row: usize) -> Error {
        let mut value = String::new();
        if let Err(e) = text::write_value(&mut value, self.array, row, self.zone) {
            return e;
        }
        match (fault, self.to) {
            (Fault::Malformed, _) => errors::cast_invalid_input(&value, self.from, self.to),
            (Fault::OutOfRange, DataType::Decimal128(p, s)) => errors::numeric_out_of_range(&value, *p, *s),
            (Fault::Overflow | Fault::OutOfRange, _) => errors::cast_overflow(&value, self.from, self.to),
        }
    }

    /// What a fault at `row` makes of the value.
    fn failed<T>(&self, fault: Fault, row: usize) -> Result<Option<T>> {
        match self.mode {
            Mode::Try => Ok(None),
            Mode::Ansi => Err(self.fault(fault, row)),
        }
    }

    fn each<T: ArrowPrimitiveType>(&self, len: usize, mut get: impl FnMut(usize) -> Option<Converted<T::Native>>) -> Result<ArrayRef> {
        let mut out = PrimitiveBuilder::<T>::with_capacity(len);
        for row in 0..len {
            match get(row) {
                None | Some(Ok(None)) => out.append_null(),
                Some(Ok(Some(v))) => out.append_value(v),
                Some(Err(fault)) => out.append_option(self.failed(fault, row)?),
            }
        }
        Ok(Arc::new(out.finish().with_data_type(self.to.clone())))
    }

    fn values<S: ArrowPrimitiveType, T: ArrowPrimitiveType>(&self, f: impl Fn(S::Native) -> Converted<T::Native>) -> Result<ArrayRef> {
        let source = self.array.as_primitive::<S>();
        if source.null_count() == 0 {
            let values = source.values();
            return self.each::<T>(values.len(), |row| Some(f(values[row])));
        }
        self.each::<T>(source.len(), |row| source.is_valid(row).then(|| f(source.value(row))))
    }

    fn texts<T: ArrowPrimitiveType>(&self, f: impl Fn(&str) -> Converted<T::Native>) -> Result<ArrayRef> {
        let source = self.array.as_string::<i32>();
        self.each::<T>(source.len(), |row| source.is_valid(row).then(|| f(source.value(row))))
    }

    fn to_text(&self) -> Result<ArrayRef> {
        let mut out = StringBuilder::with_capacity(self.array.len(), self.array.len() * 8);
        let mut value = String::new();
        for row in 0..self.array.len() {
            if self.array.is_null(row) {
                out.append_null();
            } else {
                value.clear();
                text::write_value(&mut value, self.array, row, self.zone)?;
                out.append_value(&value);
            }
        }
        Ok(Arc::new(out.finish()))
    }

    fn from_text(&self) -> Result<ArrayRef> {
        let malformed = |v: Option<_>| v.map(Some).ok_or(Fault::Malformed);
        match self.to {
            DataType::Boolean => {
                let source = self.array.as_string::<i32>();
                let mut out = BooleanBuilder::with_capacity(source.len());
                for row in 0..source.len() {
                    match source.is_valid(row).then(|| parse::boolean(source.value(row))) {
                        None => out.append_null(),
                        Some(Some(v)) => out.append_value(v),
                        Some(None) => out.append_option(self.failed(Fault::Malformed, row)?),
                    }
                }
                Ok(Arc::new(out.finish()))
            }
            DataType::Binary => {
                let source: &StringArray = self.array.as_string::<i32>();
                Ok(Arc::new(BinaryArray::from(source.clone())))
            }
            DataType::Float32 => self.texts::<Float32Type>(|t| parse::float(t).map(Some).ok_or(Fault::Malformed)),
            DataType::Float64 => self.texts::<Float64Type>(|t| parse::double(t).map(Some).ok_or(Fault::Malformed)),
            DataType::Decimal128(p, s) => self.texts::<Decimal128Type>(|t| match parse::decimal(t, *p, *s) {
                DecimalText::Value(v) => Ok(Some(v)),
                DecimalText::Malformed => Err(Fault::Malformed),
                DecimalText::OutOfRange => Err(Fault::OutOfRange),
            }),
            DataType::Date32 => self.texts::<Date32Type>(|t| parse::date(t).map(Some).ok_or(Fault::Malformed)),
            t if types::is_timestamp(t) => self.texts::<TimestampMicrosecondType>(|t| malformed(parse::timestamp(t, self.zone))),
            t if types::is_timestamp_ntz(t) => self.texts::<TimestampMicrosecondType>(|t| malformed(parse::timestamp_ntz(t))),
            t => integral!(t, T => self.texts::<T>(|t| {
                let v = parse::integer(t).ok_or(Fault::Malformed)?;
                v.try_into().map(Some).map_err(|_| Fault::Malformed)
            }), else Err(self.unknown())),
        }
    }

    fn from_boolean(&self) -> Result<ArrayRef> {
        let source = self.array.as_boolean();
        let get = |row: usize| source.is_valid(row).then(|| source.value(row));
        let len = source.len();
        match self.to {
            DataType::Float32 => self.each::<Float32Type>(len, |row| get(row).map(|v| Ok(Some(f32::from(u8::from(v)))))),
            DataType::Float64 => self.each::<Float64Type>(len, |row| get(row).map(|v| Ok(Some(f64::from(u8::from(v)))))),
            DataType::Decimal128(p, s) => {
                let one = power_of_ten(*s);
                self.each::<Decimal128Type>(len, |row| {
                    get(row).map(|v| match v {
                        false => Ok(Some(0)),
                        true => one.filter(|one| in_precision(*one, *p)).map(Some).ok_or(Fault::OutOfRange),
                    })
                })
            }
            t => integral!(t, T => self.each::<T>(len, |row| get(row).map(|v| Ok(Some(i8::from(v).into())))), else Err(self.unknown())),
        }
    }

    fn to_boolean(&self) -> Result<ArrayRef> {
        fn nonzero<T: ArrowPrimitiveType>(array: &ArrayRef, f: impl Fn(T::Native) -> bool) -> ArrayRef {
            Arc::new(BooleanArray::from_unary(array.as_primitive::<T>(), f))
        }
        Ok(match self.from {
            DataType::Float32 => nonzero::<Float32Type>(self.array, |v| v != 0.0),
            DataType::Float64 => nonzero::<Float64Type>(self.array, |v| v != 0.0),
            DataType::Decimal128(..) => nonzero::<Decimal128Type>(self.array, |v| v != 0),
            t => integral!(t, T => nonzero::<T>(self.array, |v| v != 0), else return Err(self.unknown())),
        })
    }

    fn number(&self) -> Result<ArrayRef> {
        match (self.from, self.to) {
            (DataType::Decimal128(_, s), _) => self.decimal_to_number(*s),
            (DataType::Float32, _) => self.float_to_number::<Float32Type>(f64::from, |v| v),
            (DataType::Float64, _) => self.float_to_number::<Float64Type>(|v| v, |v| v as f32),
            (f, DataType::Float32) => integral!(f, S => self.values::<S, Float32Type>(|v| Ok(Some(v as f32))), else Err(self.unknown())),
            (f, DataType::Float64) => integral!(f, S => self.values::<S, Float64Type>(|v| Ok(Some(v as f64))), else Err(self.unknown())),
            (f, DataType::Decimal128(p, s)) => {
                let ten = power_of_ten(*s).ok_or_else(|| self.unknown())?;
                integral!(f, S => self.values::<S, Decimal128Type>(|v| {
                    i128::from(v).checked_mul(ten).filter(|v| in_precision(*v, *p)).map(Some).ok_or(Fault::OutOfRange)
                }), else Err(self.unknown()))
            }
            (f, t) => integral!(f, S => integral!(t, T => self.values::<S, T>(|v| {
                i64::from(v).try_into().map(Some).map_err(|_| Fault::Overflow)
            }), else Err(self.unknown())), else Err(self.unknown())),
        }
    }

    fn float_to_number<S: ArrowPrimitiveType>(
        &self,
        wide: impl Fn(S::Native) -> f64,
        narrow: impl Fn(S::Native) -> f32,
    ) -> Result<ArrayRef> {
        match self.to {
            DataType::Float32 => self.values::<S, Float32Type>(|v| Ok(Some(narrow(v)))),
            DataType::Float64 => self.values::<S, Float64Type>(|v| Ok(Some(wide(v)))),
            DataType::Decimal128(p, s) => self.values::<S, Decimal128Type>(|v| match wide(v) {
                // Databricks gives NULL for these, even in ANSI mode.
                v if !v.is_finite() => Ok(None),
                v => double_to_decimal(v, *p, *s).map(Some).ok_or(Fault::OutOfRange),
            }),
            t => {
                let (min, max) = types::integral_bounds(t).ok_or_else(|| self.unknown())?;
                integral!(t, T => self.values::<S, T>(|v| {
                    truncated(wide(v), min, max).and_then(|v| v.try_into().ok()).map(Some).ok_or(Fault::Overflow)
                }), else Err(self.unknown()))
            }
        }
    }

    fn decimal_to_number(&self, scale: i8) -> Result<ArrayRef> {
        let unit = power_of_ten(scale).ok_or_else(|| self.unknown())?;
        match self.to {
            DataType::Float32 => self.values::<Decimal128Type, Float32Type>(|v| Ok(Some(decimal_to_float(v, scale)))),
            DataType::Float64 => self.values::<Decimal128Type, Float64Type>(|v| Ok(Some(decimal_to_double(v, scale)))),
            DataType::Decimal128(p, s) => self.values::<Decimal128Type, Decimal128Type>(|v| {
                rescale(v, scale, *s).filter(|v| in_precision(*v, *p)).map(Some).ok_or(Fault::OutOfRange)
            }),
            t => {
                integral!(t, T => self.values::<Decimal128Type, T>(|v| (v / unit).try_into().map(Some).map_err(|_| Fault::Overflow)), else Err(self.unknown()))
            }
        }
    }

    fn datetime(&self) -> Result<ArrayRef> {
        let zone = self.zone;
        let overflow = |v: Option<_>| v.map(Some).ok_or(Fault::Overflow);
        let day = |local: i64| i32::try_from(local.div_euclid(MICROS_PER_DAY)).map(Some).map_err(|_| Fault::Overflow);
        match (self.from, self.to) {
            (DataType::Date32, t) => {
                let zoned = types::is_timestamp(t);
                self.values::<Date32Type, TimestampMicrosecondType>(|days| {
                    let local = i64::from(days).checked_mul(MICROS_PER_DAY);
                    overflow(if zoned { local.and_then(|l| zone.to_instant(l)) } else { local })
                })
            }
            (f, DataType::Date32) if types::is_timestamp(f) => {
                self.values::<TimestampMicrosecondType, Date32Type>(|v| day(zone.to_local(v).ok_or(Fault::Overflow)?))
            }
            (_, DataType::Date32) => self.values::<TimestampMicrosecondType, Date32Type>(day),
            (f, _) if zone.is_utc() => {
                // The same microseconds under another label.
                debug_assert!(types::is_datetime(f));
                let source = self.array.as_primitive::<TimestampMicrosecondType>().clone();
                Ok(Arc::new(source.with_data_type(self.to.clone())))
            }
            (f, _) if types::is_timestamp(f) => {
                self.values::<TimestampMicrosecondType, TimestampMicrosecondType>(|v| overflow(zone.to_local(v)))
            }
            _ => self.values::<TimestampMicrosecondType, TimestampMicrosecondType>(|v| overflow(zone.to_instant(v))),
        }
    }

    fn timestamp_to_number(&self) -> Result<ArrayRef> {
        let seconds = |v: i64| v.div_euclid(MICROS_PER_SECOND);
        let fractional = |v: i64| v as f64 / MICROS_PER_SECOND as f64;
        match self.to {
            DataType::Float32 => self.values::<TimestampMicrosecondType, Float32Type>(|v| Ok(Some(fractional(v) as f32))),
            DataType::Float64 => self.values::<TimestampMicrosecondType, Float64Type>(|v| Ok(Some(fractional(v)))),
            DataType::Decimal128(p, s) => self.values::<TimestampMicrosecondType, Decimal128Type>(|v| {
                rescale(i128::from(v), 6, *s).filter(|v| in_precision(*v, *p)).map(Some).ok_or(Fault::OutOfRange)
            }),
            t => {
                integral!(t, T => self.values::<TimestampMicrosecondType, T>(|v| seconds(v).try_into().map(Some).map_err(|_| Fault::Overflow)),
                else Err(self.unknown()))
            }
        }
    }

    fn number_to_timestamp(&self) -> Result<ArrayRef> {
        match self.from {
            DataType::Float32 => self.values::<Float32Type, TimestampMicrosecondType>(|v| seconds_to_micros(f64::from(v))),
            DataType::Float64 => self.values::<Float64Type, TimestampMicrosecondType>(seconds_to_micros),
            DataType::Decimal128(_, s) => {
                let unit = power_of_ten(*s).ok_or_else(|| self.unknown())?;
                let (whole, rest) = (|v: i128| v / unit, |v: i128| v % unit);
                self.values::<Decimal128Type, TimestampMicrosecondType>(|v| {
                    let million = i128::from(MICROS_PER_SECOND);
                    // Java's `longValue` keeps the low 64 bits. `rest` has at most 38 digits, so that its
                    // product is taken in two steps where it wouldn't fit.
                    let part = match rest(v).checked_mul(million) {
                        Some(product) => product / unit,
                        None => rest(v) / (unit / million),
                    };
                    Ok(Some(whole(v).wrapping_mul(million).wrapping_add(part) as i64))
                })
            }
            // Java's `SECONDS.toMicros`, which saturates.
            f => {
                integral!(f, S => self.values::<S, TimestampMicrosecondType>(|v| Ok(Some(i64::from(v).saturating_mul(MICROS_PER_SECOND)))),
                else Err(self.unknown()))
            }
        }
    }

    fn inner(&self, array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
        cast_array(array, to, self.zone, self.mode)
    }

    fn list(&self, item: &FieldRef) -> Result<ArrayRef> {
        let source = visible(self.array.as_list::<i32>())?;
        let values = self.inner(source.values(), item.data_type())?;
        let list = ListArray::try_new(item.clone(), source.offsets().clone(), values, source.nulls().cloned());
        Ok(Arc::new(list.map_err(|e| Error::internal(e.to_string()))?))
    }

    fn structure(&self) -> Result<ArrayRef> {
        let DataType::Struct(fields) = self.to else { return Err(self.unknown()) };
        let source = self.array.as_struct();
        let hidden = source.nulls().map(|nulls| BooleanArray::new(!nulls.inner(), None));
        let mut columns = Vec::with_capacity(fields.len());
        for (column, field) in source.columns().iter().zip(fields) {
            let column = match &hidden {
                Some(hidden) => nullif(column, hidden).map_err(|e| Error::internal(e.to_string()))?,
                None => column.clone(),
            };
            columns.push(self.inner(&column, field.data_type())?);
        }
        let made = StructArray::try_new_with_length(fields.clone(), columns, source.nulls().cloned(), source.len());
        Ok(Arc::new(made.map_err(|e| Error::internal(e.to_string()))?))
    }

    fn map(&self) -> Result<ArrayRef> {
        let DataType::Map(entries, sorted) = self.to else { return Err(self.unknown()) };
        let visible = visible_entries(self.array)?;
        let source = visible.as_map();
        let all: ArrayRef = Arc::new(source.entries().clone());
        let cast = self.inner(&all, entries.data_type())?;
        if cast.as_struct().column(0).null_count() > 0 {
            return Err(Error::not_eligible("try_cast of a map whose keys can't be cast isn't known"));
        }
        let made = MapArray::try_new(entries.clone(), source.offsets().clone(), cast.as_struct().clone(), source.nulls().cloned(), *sorted);
        Ok(Arc::new(made.map_err(|e| Error::internal(e.to_string()))?))
    }
}

/// The maps without the entries under NULL ones: they mustn't raise.
fn visible_entries(maps: &ArrayRef) -> Result<ArrayRef> {
    let offsets = maps.as_map().offsets();
    if (0..maps.len()).all(|row| maps.is_valid(row) || offsets[row] == offsets[row + 1]) {
        return Ok(maps.clone());
    }
    let rows: UInt64Array = (0..maps.len() as u64).map(|row| maps.is_valid(row as usize).then_some(row)).collect();
    arrow::compute::take(maps, &rows, None).map_err(|e| Error::internal(e.to_string()))
}

/// The list with values under NULL lists blanked out: they mustn't raise.
fn visible(source: &ListArray) -> Result<ListArray> {
    let Some(nulls) = source.nulls().filter(|n| n.null_count() > 0) else { return Ok(source.clone()) };
    let offsets = source.offsets();
    if (0..source.len()).all(|row| nulls.is_valid(row) || offsets[row] == offsets[row + 1]) {
        return Ok(source.clone());
    }
    let mut hidden = vec![false; source.values().len()];
    for row in (0..source.len()).filter(|row| nulls.is_null(*row)) {
        hidden[offsets[row] as usize..offsets[row + 1] as usize].fill(true);
    }
    let internal = |e: arrow::error::ArrowError| Error::internal(e.to_string());
    let values = nullif(source.values(), &BooleanArray::new(BooleanBuffer::from(hidden), None)).map_err(internal)?;
    let item = Arc::new(Field::new("element", values.data_type().clone(), true));
    ListArray::try_new(item, offsets.clone(), values, Some(nulls.clone())).map_err(internal)
}

/// The same values under a type that differs in nested nullability only.
pub(crate) fn relabel(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if array.data_type() == to {
        return Ok(array.clone());
    }
    let internal = |e: arrow::error::ArrowError| Error::internal(e.to_string());
    match to {
        DataType::List(item) => {
            let source = array.as_list::<i32>();
            let values = relabel(source.values(), item.data_type())?;
            let made = ListArray::try_new(item.clone(), source.offsets().clone(), values, source.nulls().cloned());
            Ok(Arc::new(made.map_err(internal)?))
        }
        DataType::Struct(fields) => {
            let source = array.as_struct();
            let columns: Result<Vec<ArrayRef>> = source.columns().iter().zip(fields).map(|(c, f)| relabel(c, f.data_type())).collect();
            let made = StructArray::try_new_with_length(fields.clone(), columns?, source.nulls().cloned(), source.len());
            Ok(Arc::new(made.map_err(internal)?))
        }
        DataType::Map(entries, sorted) => {
            let source = array.as_map();
            let inner: ArrayRef = Arc::new(source.entries().clone());
            let inner = relabel(&inner, entries.data_type())?;
            let made =
                MapArray::try_new(entries.clone(), source.offsets().clone(), inner.as_struct().clone(), source.nulls().cloned(), *sorted);
            Ok(Arc::new(made.map_err(internal)?))
        }
        _ => Err(Error::internal(format!("{} relabelled as {}", array.data_type(), to))),
    }
}

pub(crate) fn power_of_ten(exponent: i8) -> Option<i128> {
    u32::try_from(exponent).ok().and_then(|e| 10_i128.checked_pow(e))
}

pub(crate) fn in_precision(value: i128, precision: u8) -> bool {
    power_of_ten(precision.min(types::MAX_PRECISION) as i8).is_some_and(|limit| value.unsigned_abs() < limit.unsigned_abs())
}

/// HALF_UP to another scale; `None` when it doesn't fit into 128 bits.
pub(crate) fn rescale(value: i128, from: i8, to: i8) -> Option<i128> {
    if to >= from {
        return value.checked_mul(power_of_ten(to - from)?);
    }
    let Some(unit) = power_of_ten(from - to) else { return Some(0) };
    let (quotient, rest) = (value / unit, value % unit);
    let up = rest.unsigned_abs() >= unit.unsigned_abs() - rest.unsigned_abs();
    Some(if up { quotient + value.signum() } else { quotient })
}

/// Through the shortest text of the double, as `java.math.BigDecimal.valueOf` does.
pub(crate) fn double_to_decimal(value: f64, precision: u8, scale: i8) -> Option<i128> {
    match parse::decimal(&format!("{value:e}"), precision, scale) {
        DecimalText::Value(v) => Some(v),
        DecimalText::Malformed | DecimalText::OutOfRange => None,
    }
}

/// Correctly rounded.
pub(crate) fn decimal_to_double(value: i128, scale: i8) -> f64 {
    const EXACT: u128 = 1 << 53;
    if value.unsigned_abs() <= EXACT && (0..=22).contains(&scale) {
        // Both are exact doubles, so that one division rounds once.
        return value as f64 / 10_f64.powi(i32::from(scale));
    }
    decimal_text(value, scale.max(0) as usize).parse().unwrap_or(f64::NAN)
}

fn decimal_to_float(value: i128, scale: i8) -> f32 {
    decimal_text(value, scale.max(0) as usize).parse().unwrap_or(f32::NAN)
}

/// Towards zero; `None` out of range, for NaN and for infinities. The upper bound of BIGINT
/// itself rounds up to 2^63 as a double, and Databricks lets that through.
fn truncated(value: f64, min: i64, max: i64) -> Option<i64> {
    (value.floor() <= max as f64 && value.ceil() >= min as f64).then_some(value as i64)
}

fn seconds_to_micros(value: f64) -> Converted<i64> {
    if !value.is_finite() {
        return Err(Fault::Malformed);
    }
    let micros = value * MICROS_PER_SECOND as f64;
    // As for other casts of floats, the bound that rounds up to 2^63 passes.
    truncated(micros, i64::MIN, i64::MAX).map(Some).ok_or(Fault::Overflow)
}

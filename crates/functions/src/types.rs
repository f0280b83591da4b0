//! Databricks' types as Arrow types: names, families, the least common type, decimal result
//! types, and which casts exist. Pure; it must never look at values (except where Databricks types
//! a literal by its value) and never fall back to Arrow's or DataFusion's own coercion.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, IntervalUnit, TimeUnit};
use datafusion::common::ScalarValue;
use flightpath_types::{Error, ErrorKind, Result};

/// TIMESTAMP_NTZ.
pub const TIMESTAMP_NTZ: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);
/// Every INTERVAL of days to seconds.
pub const DAY_TIME: DataType = DataType::Duration(TimeUnit::Microsecond);
/// Every INTERVAL of years and months.
/// Months, days and microseconds beside each other, as `make_interval` gives them.
pub const MIXED_INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);
pub const YEAR_MONTH: DataType = DataType::Interval(IntervalUnit::YearMonth);
pub const MAX_PRECISION: u8 = 38;
/// Digits behind the point that decimal arithmetic keeps when a result is too wide for 38 digits.
const MINIMUM_ADJUSTED_SCALE: i32 = 6;

/// TIMESTAMP: an instant.
pub fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC")))
}

pub fn array(element: DataType, contains_null: bool) -> DataType {
    DataType::List(Arc::new(Field::new("element", element, contains_null)))
}

/// A map whose values may be NULL.
pub fn map(key: DataType, value: DataType) -> DataType {
    map_of(key, value, true)
}

pub fn map_of(key: DataType, value: DataType, contains_null: bool) -> DataType {
    let entries = Fields::from(vec![Field::new("key", key, false), Field::new("value", value, contains_null)]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
}

/// The type as Databricks prints it: `decimal(10,2)`, `array<int>`, `interval day to second`.
pub fn name(ty: &DataType) -> String {
    match ty {
        DataType::Null => "void".into(),
        DataType::Boolean => "boolean".into(),
        DataType::Int8 => "tinyint".into(),
        DataType::Int16 => "smallint".into(),
        DataType::Int32 => "int".into(),
        DataType::Int64 => "bigint".into(),
        DataType::Float32 => "float".into(),
        DataType::Float64 => "double".into(),
        DataType::Decimal128(p, s) => format!("decimal({p},{s})"),
        DataType::Utf8 => "string".into(),
        DataType::Binary => "binary".into(),
        DataType::Date32 => "date".into(),
        DataType::Timestamp(_, Some(_)) => "timestamp".into(),
        DataType::Timestamp(_, None) => "timestamp_ntz".into(),
        DataType::Interval(IntervalUnit::YearMonth) => "interval year to month".into(),
        DataType::Interval(IntervalUnit::MonthDayNano) => "interval".into(),
        DataType::Duration(_) => "interval day to second".into(),
        DataType::List(item) => format!("array<{}>", name(item.data_type())),
        DataType::Struct(fields) => {
            let parts: Vec<String> = fields.iter().map(|f| format!("{}:{}", f.name(), name(f.data_type()))).collect();
            format!("struct<{}>", parts.join(","))
        }
        DataType::Map(..) => match map_parts(ty) {
            Some((k, v)) => format!("map<{},{}>", name(k.data_type()), name(v.data_type())),
            None => ty.to_string(),
        },
        other => other.to_string(),
    }
}

/// The type in the capitals that Databricks uses in messages.
pub fn sql_name(ty: &DataType) -> String {
    format!("\"{}\"", name(ty).to_uppercase())
}

/// Key and value fields of a map type.
pub fn map_parts(ty: &DataType) -> Option<(&FieldRef, &FieldRef)> {
    match ty {
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(kv) if kv.len() == 2 => Some((&kv[0], &kv[1])),
            _ => None,
        },
        _ => None,
    }
}

pub fn is_integral(ty: &DataType) -> bool {
    matches!(ty, DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64)
}

pub fn is_float(ty: &DataType) -> bool {
    matches!(ty, DataType::Float32 | DataType::Float64)
}

/// Whether a value of the type has a FLOAT or DOUBLE in it, or is one.
pub fn holds_float(ty: &DataType) -> bool {
    holds(ty, &is_float)
}

/// Whether a value of the type has a MAP in it, or is one.
pub fn holds_map(ty: &DataType) -> bool {
    holds(ty, &|ty| matches!(ty, DataType::Map(..)))
}

fn holds(ty: &DataType, wanted: &dyn Fn(&DataType) -> bool) -> bool {
    wanted(ty)
        || match ty {
            DataType::List(item) | DataType::Map(item, _) => holds(item.data_type(), wanted),
            DataType::Struct(fields) => fields.iter().any(|f| holds(f.data_type(), wanted)),
            _ => false,
        }
}

pub fn is_decimal(ty: &DataType) -> bool {
    matches!(ty, DataType::Decimal128(..))
}

pub fn is_numeric(ty: &DataType) -> bool {
    is_integral(ty) || is_float(ty) || is_decimal(ty)
}

pub fn is_string(ty: &DataType) -> bool {
    matches!(ty, DataType::Utf8)
}

pub fn is_timestamp(ty: &DataType) -> bool {
    matches!(ty, DataType::Timestamp(TimeUnit::Microsecond, Some(_)))
}

pub fn is_timestamp_ntz(ty: &DataType) -> bool {
    matches!(ty, DataType::Timestamp(TimeUnit::Microsecond, None))
}

/// DATE, TIMESTAMP or TIMESTAMP_NTZ.
pub fn is_datetime(ty: &DataType) -> bool {
    matches!(ty, DataType::Date32 | DataType::Timestamp(TimeUnit::Microsecond, _))
}

pub fn is_interval(ty: &DataType) -> bool {
    *ty == YEAR_MONTH || *ty == DAY_TIME
}

/// Neither an array, a struct, a map nor VOID.
/// Deepest type. Readers of schemas recurse, clients' too: pyarrow stops at 100 levels.
pub const DEPTH_MAX: usize = 64;
/// Parts of one type, itself included.
pub const PARTS_MAX: usize = 20_000;

/// An error for a type so deep or so large that handling it could take the stack or all memory.
pub fn check_size<'a>(types: impl IntoIterator<Item = &'a DataType>) -> Result<()> {
    fn walk(ty: &DataType, depth: usize, left: &mut usize) -> bool {
        if depth > DEPTH_MAX || *left == 0 {
            return false;
        }
        *left -= 1;
        match ty {
            DataType::List(item) | DataType::Map(item, _) => walk(item.data_type(), depth + 1, left),
            DataType::Struct(fields) => fields.iter().all(|field| walk(field.data_type(), depth + 1, left)),
            _ => true,
        }
    }
    types.into_iter().try_for_each(|ty| {
        let mut left = PARTS_MAX;
        if walk(ty, 1, &mut left) {
            return Ok(());
        }
        let message = format!("a type nests deeper than {DEPTH_MAX} levels, or has more than {PARTS_MAX} parts");
        Err(Error::new(ErrorKind::ResourceExhausted, message))
    })
}

pub fn is_atomic(ty: &DataType) -> bool {
    !matches!(ty, DataType::List(_) | DataType::Struct(_) | DataType::Map(..) | DataType::Null)
}

/// Whether values have an order (and so can be compared, sorted, grouped and be a maximum).
pub fn is_orderable(ty: &DataType) -> bool {
    match ty {
        DataType::Map(..) => false,
        DataType::List(item) => is_orderable(item.data_type()),
        DataType::Struct(fields) => fields.iter().all(|f| is_orderable(f.data_type())),
        _ => true,
    }
}

/// The same Databricks type: nested nullability doesn't count.
pub fn same(a: &DataType, b: &DataType) -> bool {
    match (a, b) {
        (DataType::List(x), DataType::List(y)) => same(x.data_type(), y.data_type()),
        (DataType::Struct(x), DataType::Struct(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(f, g)| f.name() == g.name() && same(f.data_type(), g.data_type()))
        }
        (DataType::Map(..), DataType::Map(..)) => match (map_parts(a), map_parts(b)) {
            (Some((k1, v1)), Some((k2, v2))) => same(k1.data_type(), k2.data_type()) && same(v1.data_type(), v2.data_type()),
            _ => a == b,
        },
        _ => a == b,
    }
}

/// The decimal that holds every value of an integral type; a decimal's own precision and scale.
pub fn decimal_of(ty: &DataType) -> Option<(u8, i8)> {
    match ty {
        DataType::Int8 => Some((3, 0)),
        DataType::Int16 => Some((5, 0)),
        DataType::Int32 => Some((10, 0)),
        DataType::Int64 => Some((20, 0)),
        DataType::Decimal128(p, s) => Some((*p, *s)),
        _ => None,
    }
}

/// The least precision for an integral literal, which decimal arithmetic uses instead of its type's. A TINYINT's stays.
pub fn decimal_of_literal(value: &ScalarValue) -> Option<(u8, i8)> {
    let v = match value {
        ScalarValue::Int16(Some(v)) => i64::from(*v),
        ScalarValue::Int32(Some(v)) => i64::from(*v),
        ScalarValue::Int64(Some(v)) => *v,
        _ => return None,
    };
    Some((digits(v), 0))
}

fn digits(v: i64) -> u8 {
    // At most 19 digits, which fit.
    v.unsigned_abs().checked_ilog10().map_or(1, |n| n as u8 + 1)
}

/// Whether `to` holds every value of the numeric type `from` exactly.
pub fn decimal_is_wider(to: (u8, i8), from: &DataType) -> bool {
    match decimal_of(from) {
        Some((p, s)) => i32::from(to.0) - i32::from(to.1) >= i32::from(p) - i32::from(s) && to.1 >= s,
        None => false,
    }
}

/// Result types of decimal arithmetic, with precision loss as Databricks allows it.
pub mod decimal {
    use super::{MAX_PRECISION, MINIMUM_ADJUSTED_SCALE};

    type Ps = (u8, i8);

    /// `+` and `-`.
    pub fn add(a: Ps, b: Ps) -> Ps {
        let ((p1, s1), (p2, s2)) = (wide(a), wide(b));
        let scale = s1.max(s2);
        adjust((p1 - s1).max(p2 - s2) + scale + 1, scale)
    }

    pub fn multiply(a: Ps, b: Ps) -> Ps {
        let ((p1, s1), (p2, s2)) = (wide(a), wide(b));
        adjust(p1 + p2 + 1, s1 + s2)
    }

    pub fn divide(a: Ps, b: Ps) -> Ps {
        let ((p1, s1), (p2, s2)) = (wide(a), wide(b));
        let scale = MINIMUM_ADJUSTED_SCALE.max(s1 + p2 + 1);
        adjust(p1 - s1 + s2 + scale, scale)
    }

    /// `%` and `pmod`.
    pub fn remainder(a: Ps, b: Ps) -> Ps {
        let ((p1, s1), (p2, s2)) = (wide(a), wide(b));
        let scale = s1.max(s2);
        adjust((p1 - s1).min(p2 - s2) + scale, scale)
    }

    /// A type for values of both: CASE, UNION, comparisons. Keeps whole digits first.
    pub fn common(a: Ps, b: Ps) -> Ps {
        let ((p1, s1), (p2, s2)) = (wide(a), wide(b));
        let scale = s1.max(s2);
        bounded_prefer_integral((p1 - s1).max(p2 - s2) + scale, scale)
    }

    /// Cut to 38 digits without minding what is lost: sums and averages.
    pub fn bounded(precision: i32, scale: i32) -> Ps {
        let max = i32::from(MAX_PRECISION);
        narrow(precision.min(max), scale.min(max))
    }

    fn bounded_prefer_integral(precision: i32, scale: i32) -> Ps {
        let max = i32::from(MAX_PRECISION);
        if precision <= max { narrow(precision, scale) } else { narrow(max, (scale - (precision - max)).max(0)) }
    }

    fn adjust(precision: i32, scale: i32) -> Ps {
        let max = i32::from(MAX_PRECISION);
        if precision <= max {
            return narrow(precision, scale);
        }
        let whole = precision - scale;
        let least = scale.min(MINIMUM_ADJUSTED_SCALE);
        narrow(max, (max - whole).max(least))
    }

    fn wide((p, s): Ps) -> (i32, i32) {
        (i32::from(p), i32::from(s))
    }

    /// Both are within 0..=38 by construction.
    fn narrow(precision: i32, scale: i32) -> Ps {
        (precision.clamp(1, 38) as u8, scale.clamp(0, 38) as i8)
    }
}

/// The type that values of all `types` are brought to in CASE, COALESCE, IN, UNION, array(...);
/// `None` when there is none. VOID for no types.
pub fn least_common_type<'a>(types: impl IntoIterator<Item = &'a DataType>) -> Option<DataType> {
    common_by(types, Common::Least)
}

/// The type of an inline table's column: texts become nothing else there, and whole numbers FLOATs.
pub fn inline_table_type<'a>(types: impl IntoIterator<Item = &'a DataType>) -> Option<DataType> {
    common_by(types, Common::InlineTable)
}

/// The type in which two arrays or structs are compared: one that one side has.
pub fn compared_nested_type(a: &DataType, b: &DataType) -> Option<DataType> {
    common_by([a, b], Common::Nested)
}

/// How far a common type may be from both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Common {
    Least,
    InlineTable,
    Nested,
}

fn common_by<'a>(types: impl IntoIterator<Item = &'a DataType>, rule: Common) -> Option<DataType> {
    types.into_iter().try_fold(DataType::Null, |common, ty| common_of_two(&common, ty, rule))
}

fn common_of_two(a: &DataType, b: &DataType, rule: Common) -> Option<DataType> {
    use DataType::{Date32, Float32, Float64, Int64, Null, Utf8};
    if a == b {
        return Some(a.clone());
    }
    match (a, b) {
        (Null, t) | (t, Null) => Some(t.clone()),
        (x, y) if is_integral(x) && is_integral(y) => Some(if rank(x) >= rank(y) { x.clone() } else { y.clone() }),
        (x, y) if is_numeric(x) && is_numeric(y) => match (decimal_of(x), decimal_of(y)) {
            (Some(p), Some(q)) => {
                let (p, s) = decimal::common(p, q);
                let common = DataType::Decimal128(p, s);
                (rule != Common::Nested || (common == *x || common == *y) && is_decimal(x) != is_decimal(y)).then_some(common)
            }
            _ if rule == Common::Nested && (is_decimal(x) || is_decimal(y)) => None,
            _ if rule == Common::InlineTable && !is_decimal(x) && !is_decimal(y) => {
                Some(if *x == Float64 || *y == Float64 { Float64 } else { Float32 })
            }
            // FLOAT stays only with itself: an integer or decimal doesn't fit into it.
            _ => Some(if *x == Float32 && *y == Float32 { Float32 } else { Float64 }),
        },
        (Utf8, _) | (_, Utf8) if rule != Common::Least => None,
        (Utf8, t) | (t, Utf8) => match t {
            t if is_integral(t) => Some(Int64),
            t if is_numeric(t) => Some(Float64),
            t if is_interval(t) => None,
            t if is_atomic(t) => Some(t.clone()),
            _ => None,
        },
        (Date32, t) | (t, Date32) if is_datetime(t) => Some(t.clone()),
        (x, y) if is_datetime(x) && is_datetime(y) => Some(timestamp()),
        (DataType::List(x), DataType::List(y)) => {
            let element = common_of_two(x.data_type(), y.data_type(), rule)?;
            let nullable = x.is_nullable() || y.is_nullable() || casts_add_null(x.data_type(), y.data_type(), &element);
            Some(array(element, nullable))
        }
        (DataType::Struct(xs), DataType::Struct(ys)) if xs.len() == ys.len() => {
            let fields: Option<Vec<Field>> = xs.iter().zip(ys).map(|(x, y)| common_field(x, y, rule)).collect();
            Some(DataType::Struct(Fields::from(fields?)))
        }
        (DataType::Map(..), DataType::Map(..)) => {
            let ((k1, v1), (k2, v2)) = (map_parts(a)?, map_parts(b)?);
            let value = common_of_two(v1.data_type(), v2.data_type(), rule)?;
            let nullable = v1.is_nullable() || v2.is_nullable() || casts_add_null(v1.data_type(), v2.data_type(), &value);
            Some(map_of(common_of_two(k1.data_type(), k2.data_type(), rule)?, value, nullable))
        }
        _ => None,
    }
}

fn common_field(x: &Field, y: &Field, rule: Common) -> Option<Field> {
    if !x.name().eq_ignore_ascii_case(y.name()) {
        return None;
    }
    let ty = common_of_two(x.data_type(), y.data_type(), rule)?;
    let nullable = x.is_nullable() || y.is_nullable() || casts_add_null(x.data_type(), y.data_type(), &ty);
    Some(Field::new(x.name(), ty, nullable))
}

fn casts_add_null(x: &DataType, y: &DataType, to: &DataType) -> bool {
    cast_is_nullable(x, to) || cast_is_nullable(y, to)
}

/// Least and greatest value of an integral type.
pub fn integral_bounds(ty: &DataType) -> Option<(i64, i64)> {
    Some(match ty {
        DataType::Int8 => (i64::from(i8::MIN), i64::from(i8::MAX)),
        DataType::Int16 => (i64::from(i16::MIN), i64::from(i16::MAX)),
        DataType::Int32 => (i64::from(i32::MIN), i64::from(i32::MAX)),
        DataType::Int64 => (i64::MIN, i64::MAX),
        _ => return None,
    })
}

fn rank(ty: &DataType) -> u8 {
    match ty {
        DataType::Int8 => 1,
        DataType::Int16 => 2,
        DataType::Int32 => 3,
        DataType::Int64 => 4,
        _ => 0,
    }
}

/// Whether `CAST(x AS to)` exists for an `x` of type `from`.
pub fn can_cast(from: &DataType, to: &DataType) -> bool {
    use DataType::{Binary, Boolean, Date32, Null, Utf8};
    if same(from, to) {
        return true;
    }
    match (from, to) {
        (Null, _) | (_, Utf8) => true,
        (Utf8, t) => is_atomic(t),
        (Boolean, t) => is_numeric(t),
        (f, Boolean) => is_numeric(f),
        (f, t) if is_numeric(f) && is_numeric(t) => true,
        (f, t) if is_numeric(f) && is_timestamp(t) => true,
        (f, t) if is_timestamp(f) && is_numeric(t) => true,
        (f, t) if is_datetime(f) && is_datetime(t) => true,
        (f, t) if is_interval(f) && (is_integral(t) || is_decimal(t)) => true,
        (f, t) if (is_integral(f) || is_decimal(f)) && is_interval(t) => true,
        (Date32, _) | (Binary, _) => false,
        (DataType::List(x), DataType::List(y)) => {
            can_cast(x.data_type(), y.data_type())
                && (y.is_nullable() || !(x.is_nullable() || cast_is_nullable(x.data_type(), y.data_type())))
        }
        (DataType::Struct(xs), DataType::Struct(ys)) => {
            xs.len() == ys.len()
                && xs.iter().zip(ys).all(|(x, y)| can_cast(x.data_type(), y.data_type()) && (y.is_nullable() || !x.is_nullable()))
        }
        (DataType::Map(..), DataType::Map(..)) => match (map_parts(from), map_parts(to)) {
            (Some((k1, v1)), Some((k2, v2))) => {
                can_cast(k1.data_type(), k2.data_type())
                    && can_cast(v1.data_type(), v2.data_type())
                    && (v2.is_nullable() || !(v1.is_nullable() || cast_is_nullable(v1.data_type(), v2.data_type())))
            }
            _ => false,
        },
        _ => false,
    }
}

/// Whether Databricks declares `CAST(x AS to)` nullable for an `x` that never is NULL.
pub fn cast_is_nullable(from: &DataType, to: &DataType) -> bool {
    use DataType::{Binary, Boolean, Date32, Null, Utf8};
    if same(from, to) {
        return false;
    }
    match (from, to) {
        // An empty array's or map's values.
        (Null, _) => false,
        (Utf8, Binary) => false,
        (Utf8, _) => true,
        (_, Utf8) => false,
        (f, DataType::Int8 | DataType::Int16 | DataType::Int32) if is_timestamp(f) => true,
        (f, t) if is_float(f) && is_timestamp(t) => true,
        (f, Date32) => !is_timestamp(f) && !is_timestamp_ntz(f),
        (Date32, t) => !is_datetime(t),
        (f, DataType::Decimal128(p, s)) => !null_safe_to_decimal(f, (*p, *s)),
        (f, t) if (is_float(f) || is_decimal(f)) && is_integral(t) => true,
        (Boolean, _) => false,
        _ => false,
    }
}

fn null_safe_to_decimal(from: &DataType, to: (u8, i8)) -> bool {
    match from {
        DataType::Boolean => i32::from(to.0) - i32::from(to.1) >= 1,
        DataType::Decimal128(p, s) => decimal_is_wider(to, from) || i32::from(to.0) - i32::from(to.1) > i32::from(*p) - i32::from(*s),
        other => decimal_is_wider(to, other),
    }
}

/// Whether an argument of type `from` may stand where a function takes `to`: widening, strings to
/// simple types, simple types to strings, dates and timestamps to one another.
pub fn can_implicitly_cast(from: &DataType, to: &DataType) -> bool {
    use DataType::{Null, Utf8};
    if same(from, to) {
        return true;
    }
    match (from, to) {
        (Null, _) => true,
        (Utf8, t) => is_atomic(t) && !is_interval(t),
        (f, Utf8) => is_atomic(f),
        (f, t) if is_integral(f) && is_integral(t) => rank(f) <= rank(t),
        (f, DataType::Decimal128(p, s)) => decimal_is_wider((*p, *s), f),
        (f, t) if is_numeric(f) && is_float(t) => *f != DataType::Float64 || *t == DataType::Float64,
        (f, t) if is_datetime(f) && is_datetime(t) => true,
        (DataType::List(x), DataType::List(y)) => {
            can_implicitly_cast(x.data_type(), y.data_type()) && (y.is_nullable() || !x.is_nullable())
        }
        (DataType::Map(..), DataType::Map(..)) => match (map_parts(from), map_parts(to)) {
            (Some((k1, v1)), Some((k2, v2))) => {
                can_implicitly_cast(k1.data_type(), k2.data_type())
                    && can_implicitly_cast(v1.data_type(), v2.data_type())
                    && (v2.is_nullable() || !v1.is_nullable())
            }
            _ => false,
        },
        _ => false,
    }
}

/// `DATATYPE_MISMATCH.<sub>` with SQL state 42K09: a typing error of the statement.
pub fn mismatch(sub: &str, message: impl Into<String>) -> Error {
    Error::classed(ErrorKind::InvalidArgument, format!("DATATYPE_MISMATCH.{sub}"), "42K09", message)
}

//! A result reduced to what two right answers have in common, whatever the order of their rows and
//! the last digits of their floats. Built batch by batch; holds no rows.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use arrow::array::{Array, ArrayRef, AsArray, Float32Array, Float64Array, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Float32Type, Float64Type, Schema};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use flightpath_types::{Error, Result};

/// Sums of doubles added in another order agree to this share of the sum of their magnitudes;
/// engines that accumulate in other widths need room beyond rounding.
const DOUBLE_TOLERANCE: f64 = 1e-9;
const FLOAT_TOLERANCE: f64 = 1e-5;

/// Rows counted; exact columns as a sum of row hashes; floating-point columns as sums.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ResultDigest {
    rows: u64,
    /// Wrapping sums of two independent hashes of every row's exact columns.
    hashes: [u64; 2],
    floats: Vec<FloatColumn>,
}

/// One floating-point column. The weighted sum tells values that stand in another row.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct FloatColumn {
    nulls: u64,
    nans: u64,
    positive_infinities: u64,
    negative_infinities: u64,
    sum: f64,
    weighted: f64,
    magnitude: f64,
    single: bool,
}

impl ResultDigest {
    pub fn new(schema: &Schema) -> Self {
        let mut floats = Vec::new();
        schema.fields().iter().for_each(|f| float_leaves(f.data_type(), &mut floats));
        Self { rows: 0, hashes: [0, 0], floats }
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// `batch` has the schema that the digest was made for.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let options = FormatOptions::new().with_null("");
        let mut slots = 0;
        let columns = batch.columns().iter().map(|c| Node::of(c, &mut slots, &options)).collect::<Result<Vec<_>>>()?;
        let (mut text, mut floats) = (String::new(), Vec::new());
        for row in 0..batch.num_rows() {
            let mut hashers = [DefaultHasher::new(), DefaultHasher::new()];
            0x5bd1_e995_u32.hash(&mut hashers[1]);
            floats.clear();
            for column in &columns {
                text.clear();
                column.visit(row, &mut text, &mut floats)?;
                for hasher in &mut hashers {
                    text.hash(hasher);
                }
            }
            let hash = hashers.map(|h| h.finish());
            for (sum, hash) in self.hashes.iter_mut().zip(hash) {
                *sum = sum.wrapping_add(hash);
            }
            for (position, (slot, value)) in floats.iter().enumerate() {
                // Between 1/2 and 3/2, by the row and the place in it.
                let mixed = hash[0].wrapping_add((position as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
                let weight = 0.5 + (mixed >> 11) as f64 / (1u64 << 53) as f64;
                if let Some(column) = self.floats.get_mut(*slot) {
                    column.add(*value, weight);
                }
            }
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// What differs between two answers; `None` when nothing does.
    pub fn difference(&self, other: &Self) -> Option<String> {
        if self.rows != other.rows {
            return Some(format!("{} rows against {}", self.rows, other.rows));
        }
        if self.hashes != other.hashes {
            return Some("values of exact types differ".into());
        }
        let differing = self.floats.iter().zip(&other.floats).position(|(a, b)| !a.is_near(b))?;
        Some(format!("the {}. floating-point column differs beyond rounding", differing + 1))
    }
}

/// For the log: rows, hash, and each floating-point column's sum.
impl fmt::Display for ResultDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rows={} hash={:016x}{:016x}", self.rows, self.hashes[0], self.hashes[1])?;
        for column in &self.floats {
            write!(f, " sum={:e}", column.sum)?;
        }
        Ok(())
    }
}

impl FloatColumn {
    fn add(&mut self, value: Option<f64>, weight: f64) {
        match value {
            None => self.nulls += 1,
            Some(v) if v.is_nan() => self.nans += 1,
            Some(v) if v == f64::INFINITY => self.positive_infinities += 1,
            Some(v) if v == f64::NEG_INFINITY => self.negative_infinities += 1,
            Some(v) => {
                self.sum += v;
                self.weighted += v * weight;
                self.magnitude += v.abs();
            }
        }
    }

    fn is_near(&self, other: &Self) -> bool {
        let counts = |c: &Self| (c.nulls, c.nans, c.positive_infinities, c.negative_infinities);
        if counts(self) != counts(other) {
            return false;
        }
        let tolerance = if self.single { FLOAT_TOLERANCE } else { DOUBLE_TOLERANCE };
        // A sum near zero of rounding errors alone, such as a variance of equal values, is zero.
        let allowed = tolerance * self.magnitude.max(other.magnitude) + f64::EPSILON;
        // Magnitudes that overflowed tell nothing apart.
        let near = |a: f64, b: f64| (a - b).abs() <= allowed || !allowed.is_finite();
        near(self.sum, other.sum) && near(self.weighted, other.weighted)
    }
}

/// A column taken apart: what is exact becomes text, floats inside of arrays and structs are told apart
/// by a tolerance like those of columns.
enum Node<'a> {
    Exact(&'a ArrayRef, ArrayFormatter<'a>),
    Double(usize, &'a Float64Array),
    Single(usize, &'a Float32Array),
    /// Arrays and maps: elements between two offsets.
    List(&'a ArrayRef, &'a [i32], Box<Node<'a>>),
    Struct(Option<&'a NullBuffer>, Vec<Node<'a>>),
}

impl<'a> Node<'a> {
    /// `slots` counts the float leaves so far, in the order of [`float_leaves`].
    fn of(array: &'a ArrayRef, slots: &mut usize, options: &FormatOptions<'a>) -> Result<Self> {
        let slot = |slots: &mut usize| {
            *slots += 1;
            *slots - 1
        };
        Ok(match array.data_type() {
            DataType::Float64 => Node::Double(slot(slots), array.as_primitive::<Float64Type>()),
            DataType::Float32 => Node::Single(slot(slots), array.as_primitive::<Float32Type>()),
            DataType::List(item) if holds_float(item.data_type()) => {
                let list = array.as_list::<i32>();
                Node::List(array, list.value_offsets(), Box::new(Node::of(list.values(), slots, options)?))
            }
            DataType::Map(entries, _) if holds_float(entries.data_type()) => {
                let map = array.as_map();
                Node::List(array, map.value_offsets(), Box::new(Node::of_struct(map.entries(), slots, options)?))
            }
            DataType::Struct(fields) if fields.iter().any(|f| holds_float(f.data_type())) => {
                Node::of_struct(array.as_struct(), slots, options)?
            }
            _ => {
                let formatter = ArrayFormatter::try_new(array, options).map_err(|e| Error::internal(format!("digest: {e}")))?;
                Node::Exact(array, formatter)
            }
        })
    }

    fn of_struct(array: &'a StructArray, slots: &mut usize, options: &FormatOptions<'a>) -> Result<Self> {
        let fields = array.columns().iter().map(|c| Node::of(c, slots, options)).collect::<Result<Vec<_>>>()?;
        Ok(Node::Struct(array.nulls(), fields))
    }

    /// Appends what is exact of a row to `text`, so that no two values look alike, and its floats.
    fn visit(&self, row: usize, text: &mut String, floats: &mut Vec<(usize, Option<f64>)>) -> Result<()> {
        match self {
            Node::Exact(array, _) if array.is_null(row) => text.push('~'),
            Node::Exact(_, formatter) => {
                let start = text.len();
                fmt::write(text, format_args!("{}", formatter.value(row))).map_err(|_| Error::internal("digest: a value has no text"))?;
                let length = text.len() - start;
                text.push_str(&format!("={length}"));
            }
            Node::Double(slot, values) => push_float(*slot, values.is_valid(row).then(|| values.value(row)), text, floats),
            Node::Single(slot, values) => push_float(*slot, values.is_valid(row).then(|| f64::from(values.value(row))), text, floats),
            Node::List(array, _, _) if array.is_null(row) => text.push('~'),
            Node::List(_, offsets, items) => {
                let (from, to) = (offsets[row].max(0) as usize, offsets[row + 1].max(0) as usize);
                text.push_str(&format!("[{}", to.saturating_sub(from)));
                for item in from..to {
                    items.visit(item, text, floats)?;
                }
            }
            Node::Struct(nulls, _) if nulls.is_some_and(|n| n.is_null(row)) => text.push('~'),
            Node::Struct(_, fields) => {
                text.push('{');
                for field in fields {
                    field.visit(row, text, floats)?;
                }
            }
        }
        Ok(())
    }
}

fn push_float(slot: usize, value: Option<f64>, text: &mut String, floats: &mut Vec<(usize, Option<f64>)>) {
    text.push(if value.is_some() { 'f' } else { '~' });
    floats.push((slot, value));
}

/// One sum for each place in a type where a float may stand, in the order of [`Node::of`].
fn float_leaves(ty: &DataType, out: &mut Vec<FloatColumn>) {
    match ty {
        DataType::Float32 | DataType::Float64 => out.push(FloatColumn { single: ty == &DataType::Float32, ..FloatColumn::default() }),
        DataType::List(item) | DataType::Map(item, _) => float_leaves(item.data_type(), out),
        DataType::Struct(fields) => fields.iter().for_each(|f| float_leaves(f.data_type(), out)),
        _ => {}
    }
}

fn holds_float(ty: &DataType) -> bool {
    let mut leaves = Vec::new();
    float_leaves(ty, &mut leaves);
    !leaves.is_empty()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, ListArray, StringArray};
    use arrow::datatypes::Field;

    use super::*;

    fn batch(keys: &[Option<i64>], names: &[&str], values: &[f64]) -> RecordBatch {
        let schema = Schema::new(vec![
            Field::new("k", DataType::Int64, true),
            Field::new("n", DataType::Utf8, false),
            Field::new("v", DataType::Float64, false),
        ]);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(keys.to_vec())),
            Arc::new(StringArray::from(names.to_vec())),
            Arc::new(Float64Array::from(values.to_vec())),
        ];
        RecordBatch::try_new(Arc::new(schema), columns).unwrap()
    }

    fn digest(batches: &[RecordBatch]) -> ResultDigest {
        let mut digest = ResultDigest::new(&batches[0].schema());
        for batch in batches {
            digest.add(batch).unwrap();
        }
        digest
    }

    #[test]
    fn the_order_of_rows_and_their_batches_dont_matter() {
        let one = digest(&[batch(&[Some(1), None, Some(3)], &["a", "b", "c"], &[0.1, 0.2, 0.3])]);
        let other = digest(&[batch(&[Some(3)], &["c"], &[0.3]), batch(&[None, Some(1)], &["b", "a"], &[0.2, 0.1])]);
        assert_eq!(one.difference(&other), None);
    }

    #[test]
    fn the_last_digit_of_a_float_doesnt_matter_and_the_sixth_does() {
        let of = |v: f64| digest(&[batch(&[Some(1)], &["a"], &[v])]);
        assert_eq!(of(0.1 + 0.2).difference(&of(0.3)), None);
        assert!(of(1.000001).difference(&of(1.0)).is_some());
    }

    #[test]
    fn values_that_changed_rows_are_seen() {
        let one = digest(&[batch(&[Some(1), Some(2)], &["a", "b"], &[1.0, 2.0])]);
        let floats_swapped = digest(&[batch(&[Some(1), Some(2)], &["a", "b"], &[2.0, 1.0])]);
        let names_swapped = digest(&[batch(&[Some(1), Some(2)], &["b", "a"], &[1.0, 2.0])]);
        assert!(one.difference(&floats_swapped).is_some());
        assert!(one.difference(&names_swapped).is_some());
    }

    #[test]
    fn a_null_isnt_an_empty_text_and_a_missing_row_is_missing() {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Utf8, true)]));
        let of = |values: Vec<Option<&str>>| {
            let column: ArrayRef = Arc::new(StringArray::from(values));
            digest(&[RecordBatch::try_new(schema.clone(), vec![column]).unwrap()])
        };
        assert!(of(vec![None]).difference(&of(vec![Some("")])).is_some());
        assert!(of(vec![None]).difference(&of(vec![None, None])).is_some());
        assert!(of(vec![Some("ab"), Some("")]).difference(&of(vec![Some("a"), Some("b")])).is_some());
    }

    #[test]
    fn nan_and_infinity_are_counted() {
        let of = |v: f64| digest(&[batch(&[Some(1)], &["a"], &[v])]);
        assert_eq!(of(f64::NAN).difference(&of(f64::NAN)), None);
        assert!(of(f64::NAN).difference(&of(f64::INFINITY)).is_some());
        assert!(of(f64::NAN).difference(&of(0.0)).is_some());
    }

    #[test]
    fn floats_inside_of_arrays_have_the_same_tolerance() {
        let of = |lists: Vec<Option<Vec<Option<f64>>>>| {
            let column: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(lists));
            let schema = Arc::new(Schema::new(vec![Field::new("v", column.data_type().clone(), true)]));
            digest(&[RecordBatch::try_new(schema, vec![column]).unwrap()])
        };
        let one = of(vec![Some(vec![Some(0.1 + 0.2), None]), None]);
        assert_eq!(one.difference(&of(vec![None, Some(vec![Some(0.3), None])])), None);
        assert!(one.difference(&of(vec![Some(vec![Some(0.3001), None]), None])).is_some());
        assert!(one.difference(&of(vec![Some(vec![None, Some(0.3)]), None])).is_some());
        assert!(one.difference(&of(vec![Some(vec![Some(0.3)]), None])).is_some());
        // Within a list, too, values stand in an order.
        assert!(of(vec![Some(vec![Some(1.0), Some(2.0)])]).difference(&of(vec![Some(vec![Some(2.0), Some(1.0)])])).is_some());
    }
}

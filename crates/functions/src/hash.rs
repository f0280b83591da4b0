//! `hash` (Murmur3) and `xxhash64`: Databricks' hashes of any values, seeded with 42, each argument's
//! hash the next one's seed. Values are persisted by people (buckets, surrogate keys), so every bit counts.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, DurationMicrosecondType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    IntervalYearMonthType, TimestampMicrosecondType,
};
use datafusion::logical_expr::ColumnarValue;
use flightpath_types::{Error, Result};

use crate::def::{BindContext, Bound, FunctionDef, Invocation, Typed};
use crate::rows::Frame;
use crate::sig::{self, scalar};
use crate::strings::duck;
use crate::types;

const SEED: u32 = 42;
/// Decimals of up to this many digits are hashed as a BIGINT.
const LONG_DIGITS_MAX: u8 = 18;

pub(crate) static HASH: &[FunctionDef] = &[
    scalar!("hash", [], bind: |ctx, args| bind(ctx, "hash", args, DataType::Int32), eval: hash,
        duckdb: |_| duck::unknown("hash"), proof: "slt: scalar_functions"),
    scalar!("xxhash64", [], bind: |ctx, args| bind(ctx, "xxhash64", args, DataType::Int64), eval: xxhash64,
        duckdb: |_| duck::unknown("xxhash64"), proof: "slt: scalar_functions"),
];

fn bind(_: &BindContext, name: &str, args: Vec<Typed>, ret: DataType) -> Result<Bound> {
    sig::arity(name, args.len(), 1, None)?;
    if args.iter().any(|a| has_map(&a.ty)) {
        return Err(types::mismatch(
            "HASH_MAP_TYPE",
            format!("Input to the function `{name}` cannot contain elements of the \"MAP\" type."),
        ));
    }
    Ok(Bound { args, ret, nullable: false })
}

fn has_map(ty: &DataType) -> bool {
    match ty {
        DataType::Map(..) => true,
        DataType::List(item) => has_map(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|f| has_map(f.data_type())),
        _ => false,
    }
}

/// One of the two algorithms: a value's bits and a seed become a hash.
trait Hasher {
    type Hash: Copy;
    fn int(value: i32, seed: Self::Hash) -> Self::Hash;
    fn long(value: i64, seed: Self::Hash) -> Self::Hash;
    fn bytes(value: &[u8], seed: Self::Hash) -> Self::Hash;
}

fn hash(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    frame.ints(|row| Ok(Some(row_of::<Murmur3>(&frame, row, SEED)? as i32)))
}

fn xxhash64(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    frame.longs(|row| Ok(Some(row_of::<XxHash64>(&frame, row, u64::from(SEED))? as i64)))
}

fn row_of<H: Hasher>(frame: &Frame, row: usize, seed: H::Hash) -> Result<H::Hash> {
    (0..frame.len()).try_fold(seed, |seed, i| value::<H>(frame.array(i)?, frame.index(i, row), seed))
}

/// A NULL leaves the seed as it is.
fn value<H: Hasher>(array: &ArrayRef, row: usize, seed: H::Hash) -> Result<H::Hash> {
    if array.is_null(row) {
        return Ok(seed);
    }
    Ok(match array.data_type() {
        DataType::Null => seed,
        DataType::Boolean => H::int(i32::from(array.as_boolean().value(row)), seed),
        DataType::Int8 => H::int(i32::from(array.as_primitive::<Int8Type>().value(row)), seed),
        DataType::Int16 => H::int(i32::from(array.as_primitive::<Int16Type>().value(row)), seed),
        DataType::Int32 => H::int(array.as_primitive::<Int32Type>().value(row), seed),
        DataType::Date32 => H::int(array.as_primitive::<Date32Type>().value(row), seed),
        DataType::Interval(_) => H::int(array.as_primitive::<IntervalYearMonthType>().value(row), seed),
        DataType::Int64 => H::long(array.as_primitive::<Int64Type>().value(row), seed),
        DataType::Timestamp(..) => H::long(array.as_primitive::<TimestampMicrosecondType>().value(row), seed),
        DataType::Duration(_) => H::long(array.as_primitive::<DurationMicrosecondType>().value(row), seed),
        // One NaN, one zero.
        DataType::Float32 => {
            let v = array.as_primitive::<Float32Type>().value(row);
            H::int(if v.is_nan() { f32::NAN } else { v + 0.0 }.to_bits() as i32, seed)
        }
        DataType::Float64 => {
            let v = array.as_primitive::<Float64Type>().value(row);
            H::long(if v.is_nan() { f64::NAN } else { v + 0.0 }.to_bits() as i64, seed)
        }
        DataType::Decimal128(p, _) => {
            let v = array.as_primitive::<Decimal128Type>().value(row);
            match i64::try_from(v) {
                Ok(v) if *p <= LONG_DIGITS_MAX => H::long(v, seed),
                _ => H::bytes(&shortest(v), seed),
            }
        }
        DataType::Utf8 => H::bytes(array.as_string::<i32>().value(row).as_bytes(), seed),
        DataType::Binary => H::bytes(array.as_binary::<i32>().value(row), seed),
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            (0..items.len()).try_fold(seed, |seed, i| value::<H>(&items, i, seed))?
        }
        DataType::Struct(_) => array.as_struct().columns().iter().try_fold(seed, |seed, column| value::<H>(column, row, seed))?,
        other => return Err(Error::not_eligible(format!("the hash of a value of type {} isn't known", types::name(other)))),
    })
}

/// Two's complement in as few bytes as hold the sign, as `BigInteger.toByteArray`.
fn shortest(value: i128) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let fill: u8 = if value < 0 { 0xFF } else { 0 };
    let skipped = bytes.windows(2).take_while(|pair| pair[0] == fill && (pair[1] & 0x80) == (fill & 0x80)).count();
    bytes[skipped..].to_vec()
}

struct Murmur3;

impl Murmur3 {
    fn mix(hash: u32, word: u32) -> u32 {
        let word = word.wrapping_mul(0xCC9E_2D51).rotate_left(15).wrapping_mul(0x1B87_3593);
        (hash ^ word).rotate_left(13).wrapping_mul(5).wrapping_add(0xE654_6B64)
    }

    fn finish(hash: u32, length: u32) -> u32 {
        let mut h = hash ^ length;
        h = (h ^ (h >> 16)).wrapping_mul(0x85EB_CA6B);
        h = (h ^ (h >> 13)).wrapping_mul(0xC2B2_AE35);
        h ^ (h >> 16)
    }
}

impl Hasher for Murmur3 {
    type Hash = u32;

    fn int(value: i32, seed: u32) -> u32 {
        Self::finish(Self::mix(seed, value as u32), 4)
    }

    fn long(value: i64, seed: u32) -> u32 {
        Self::finish(Self::mix(Self::mix(seed, value as u32), (value >> 32) as u32), 8)
    }

    /// Unlike Murmur3 proper, each byte behind the last whole word is a word of its own, with its sign.
    fn bytes(value: &[u8], seed: u32) -> u32 {
        let words = value.chunks_exact(4);
        let tail = words.remainder();
        let mut hash = words.fold(seed, |h, w| Self::mix(h, u32::from_le_bytes([w[0], w[1], w[2], w[3]])));
        hash = tail.iter().fold(hash, |h, b| Self::mix(h, i32::from(*b as i8) as u32));
        Self::finish(hash, value.len() as u32)
    }
}

struct XxHash64;

const P1: u64 = 0x9E37_79B1_85EB_CA87;
const P2: u64 = 0xC2B2_AE3D_27D4_EB4F;
const P3: u64 = 0x1656_67B1_9E37_79F9;
const P4: u64 = 0x85EB_CA77_C2B2_AE63;
const P5: u64 = 0x27D4_EB2F_1656_67C5;

impl XxHash64 {
    fn round(lane: u64, word: u64) -> u64 {
        lane.wrapping_add(word.wrapping_mul(P2)).rotate_left(31).wrapping_mul(P1)
    }

    fn word(hash: u64, word: u64) -> u64 {
        (hash ^ Self::round(0, word)).rotate_left(27).wrapping_mul(P1).wrapping_add(P4)
    }

    fn half(hash: u64, half: u32) -> u64 {
        (hash ^ u64::from(half).wrapping_mul(P1)).rotate_left(23).wrapping_mul(P2).wrapping_add(P3)
    }

    fn finish(mut hash: u64) -> u64 {
        hash = (hash ^ (hash >> 33)).wrapping_mul(P2);
        hash = (hash ^ (hash >> 29)).wrapping_mul(P3);
        hash ^ (hash >> 32)
    }
}

fn word_of(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, b| (word << 8) | u64::from(*b))
}

impl Hasher for XxHash64 {
    type Hash = u64;

    fn int(value: i32, seed: u64) -> u64 {
        Self::finish(Self::half(seed.wrapping_add(P5).wrapping_add(4), value as u32))
    }

    fn long(value: i64, seed: u64) -> u64 {
        Self::finish(Self::word(seed.wrapping_add(P5).wrapping_add(8), value as u64))
    }

    fn bytes(value: &[u8], seed: u64) -> u64 {
        let blocks = value.chunks_exact(32);
        let mut rest = blocks.remainder();
        let mut hash = if value.len() >= 32 {
            let mut lanes = [seed.wrapping_add(P1).wrapping_add(P2), seed.wrapping_add(P2), seed, seed.wrapping_sub(P1)];
            for block in blocks {
                for (lane, word) in lanes.iter_mut().zip(block.chunks_exact(8)) {
                    *lane = Self::round(*lane, word_of(word));
                }
            }
            let [a, b, c, d] = lanes;
            let sum = a.rotate_left(1).wrapping_add(b.rotate_left(7)).wrapping_add(c.rotate_left(12)).wrapping_add(d.rotate_left(18));
            lanes.iter().fold(sum, |hash, lane| (hash ^ Self::round(0, *lane)).wrapping_mul(P1).wrapping_add(P4))
        } else {
            seed.wrapping_add(P5)
        };
        hash = hash.wrapping_add(value.len() as u64);
        while let Some((word, after)) = rest.split_at_checked(8) {
            hash = Self::word(hash, word_of(word));
            rest = after;
        }
        if let Some((half, after)) = rest.split_at_checked(4) {
            hash = Self::half(hash, word_of(half) as u32);
            rest = after;
        }
        hash = rest.iter().fold(hash, |h, b| (h ^ u64::from(*b).wrapping_mul(P5)).rotate_left(11).wrapping_mul(P1));
        Self::finish(hash)
    }
}

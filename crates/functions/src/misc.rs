//! Hashes, and what a session says of itself.

use arrow::datatypes::DataType::{Boolean, Int32, Int64, Utf8};
use datafusion::common::ScalarValue;
use flightpath_types::{Error, Result};
use sha2::Digest;

use crate::def::{BindContext, FunctionDef, Typed};
use crate::rows::{Frame, eval};
use crate::sig::{self, maybe, rewrite, scalar, strict};
use crate::strings::duck;

/// CRC-32 as in zip files.
fn crc32(bytes: &[u8]) -> i64 {
    let crc = bytes
        .iter()
        .fold(u32::MAX, |crc, b| (0..8).fold(crc ^ u32::from(*b), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 }));
    i64::from(!crc)
}

fn md5(bytes: &[u8]) -> String {
    const SHIFTS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];
    let mut state: [u32; 4] = [0x6745_2301, 0xEFCD_AB89, 0x98BA_DCFE, 0x1032_5476];
    for block in padded(bytes, (bytes.len() as u64 * 8).to_le_bytes()).chunks_exact(64) {
        let words: Vec<u32> = block.chunks_exact(4).map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]])).collect();
        let [mut a, mut b, mut c, mut d] = state;
        for i in 0..64usize {
            let (f, g) = match i / 16 {
                0 => ((b & c) | (!b & d), i),
                1 => ((d & b) | (!d & c), (5 * i + 1) % 16),
                2 => (b ^ c ^ d, (3 * i + 5) % 16),
                _ => (c ^ (b | !d), (7 * i) % 16),
            };
            // RFC 1321: the whole part of 2^32 * |sin(i + 1)|.
            let constant = (4_294_967_296.0 * ((i + 1) as f64).sin().abs()) as u32;
            let sum = a.wrapping_add(f).wrapping_add(constant).wrapping_add(words[g]);
            (a, d, c) = (d, c, b);
            b = b.wrapping_add(sum.rotate_left(SHIFTS[i / 16][i % 4]));
        }
        for (s, v) in state.iter_mut().zip([a, b, c, d]) {
            *s = s.wrapping_add(v);
        }
    }
    state.iter().flat_map(|w| w.to_le_bytes()).map(|b| format!("{b:02x}")).collect()
}

fn sha1(bytes: &[u8]) -> String {
    let mut state: [u32; 5] = [0x6745_2301, 0xEFCD_AB89, 0x98BA_DCFE, 0x1032_5476, 0xC3D2_E1F0];
    for block in padded(bytes, (bytes.len() as u64 * 8).to_be_bytes()).chunks_exact(64) {
        let mut words: Vec<u32> = block.chunks_exact(4).map(|w| u32::from_be_bytes([w[0], w[1], w[2], w[3]])).collect();
        for i in 16..80 {
            words.push((words[i - 3] ^ words[i - 8] ^ words[i - 14] ^ words[i - 16]).rotate_left(1));
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (i, word) in words.iter().enumerate() {
            let (f, k) = match i / 20 {
                0 => ((b & c) | (!b & d), 0x5A82_7999),
                1 => (b ^ c ^ d, 0x6ED9_EBA1),
                2 => ((b & c) | (b & d) | (c & d), 0x8F1B_BCDC),
                _ => (b ^ c ^ d, 0xCA62_C1D6u32),
            };
            let sum = a.rotate_left(5).wrapping_add(f).wrapping_add(e).wrapping_add(k).wrapping_add(*word);
            (e, d, c, b, a) = (d, c, b.rotate_left(30), a, sum);
        }
        for (s, v) in state.iter_mut().zip([a, b, c, d, e]) {
            *s = s.wrapping_add(v);
        }
    }
    state.iter().map(|w| format!("{w:08x}")).collect()
}

/// A message padded to whole blocks of 64 bytes.
fn padded(bytes: &[u8], length: [u8; 8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    out.push(0x80);
    while out.len() % 64 != 56 {
        out.push(0);
    }
    out.extend(length);
    out
}

fn sha2_hex(bytes: &[u8], bits: i32) -> Option<String> {
    Some(match bits {
        0 | 256 => hex::encode(sha2::Sha256::digest(bytes)),
        224 => hex::encode(sha2::Sha224::digest(bytes)),
        384 => hex::encode(sha2::Sha384::digest(bytes)),
        512 => hex::encode(sha2::Sha512::digest(bytes)),
        _ => return None,
    })
}

fn no_arguments(name: &str, args: &[Typed]) -> Result<()> {
    sig::arity(name, args.len(), 0, Some(0))
}

fn text(value: impl Into<String>) -> Typed {
    Typed::literal(ScalarValue::Utf8(Some(value.into())))
}

fn bind_user(ctx: &BindContext, args: Vec<Typed>) -> Result<Typed> {
    no_arguments("current_user", &args)?;
    Ok(text(&*ctx.principal))
}

fn bind_raise(_: &BindContext, args: Vec<Typed>) -> Result<Typed> {
    sig::arity("version", args.len(), 0, Some(0))?;
    Err(Error::not_eligible("`version()` names the engine, which is decided later; ask `EXPLAIN ROUTE`"))
}

/// DuckDB hashes BLOBs and texts alike, by their bytes.
fn hash_duckdb(c: &crate::DuckCall<'_>, name: &str) -> Result<String, String> {
    duck::same(name, c)
}

/// The number of the next step of a recursive query; no query can name it. Databricks raises when
/// the last step that it allows gives rows.
pub const RECURSION_LEVEL: &str = "recursion level";

const LEVELS_MAX: i32 = 100;

fn next_level(level: i32) -> Result<i32> {
    if level >= LEVELS_MAX - 1 {
        return Err(Error::raised("RECURSION_LEVEL_LIMIT_EXCEEDED", "42836", level_message()));
    }
    Ok(level + 1)
}

fn level_message() -> String {
    format!(
        "Recursion level limit {LEVELS_MAX} reached but query has not exhausted, try increasing it like 'WITH RECURSIVE t(col) MAX RECURSION LEVEL 200'."
    )
}

fn next_level_duckdb(c: &crate::DuckCall<'_>) -> std::result::Result<String, String> {
    let raise = crate::duckdb::raise("RECURSION_LEVEL_LIMIT_EXCEEDED", "42836", &crate::duckdb::string(&level_message()));
    Ok(duck::once(&c.args[0], |n| format!("CASE WHEN {n} >= {} THEN {raise} ELSE {n} + 1 END", LEVELS_MAX - 1)))
}

/// TRUE for the number of each row that a recursive query may make; no query can name it.
pub const RECURSION_ROW: &str = "recursion row";

const ROWS_MAX: i64 = 1_000_000;

fn rows_message() -> String {
    format!(
        "Recursion row limit {ROWS_MAX} reached but query has not exhausted, try setting a larger LIMIT value when querying the CTE relation."
    )
}

fn allowed_row(number: i64) -> Result<bool> {
    if number > ROWS_MAX {
        return Err(Error::raised("RECURSION_ROW_LIMIT_EXCEEDED", "42836", rows_message()));
    }
    Ok(true)
}

fn allowed_row_duckdb(c: &crate::DuckCall<'_>) -> std::result::Result<String, String> {
    let raise = crate::duckdb::raise("RECURSION_ROW_LIMIT_EXCEEDED", "42836", &crate::duckdb::string(&rows_message()));
    Ok(format!("CASE WHEN {} > {ROWS_MAX} THEN {raise} ELSE TRUE END", c.args[0]))
}

/// Byte by byte, by the table of all remainders of one byte.
fn crc32_duckdb(blob: &str) -> String {
    let remainder = |byte: u32| (0..8).fold(byte, |c, _| if c & 1 == 1 { (c >> 1) ^ 0xEDB8_8320 } else { c >> 1 });
    let table: Vec<String> = (0..256).map(|byte| remainder(byte).to_string()).collect();
    let bytes = format!("list_transform(regexp_extract_all(hex({blob}), '..'), lambda fp_h: CAST('0x' || fp_h AS UINTEGER))");
    let step = format!("xor(fp_c >> 8, list_extract(CAST([{}] AS UINTEGER[]), (xor(fp_c, fp_b) & 255) + 1))", table.join(", "));
    format!(
        "CAST(xor(list_reduce({bytes}, lambda fp_c, fp_b: {step}, CAST(4294967295 AS UINTEGER)), CAST(4294967295 AS UINTEGER)) AS BIGINT)"
    )
}

pub(crate) static MISC: &[FunctionDef] = &[
    scalar!("md5", [], [Bin] => strict(Utf8), eval: eval!(texts; b: binary => md5(b)), duckdb: |c| hash_duckdb(c, "md5"), proof: "text-043, format-008, format-012, format-013, hard-003"),
    scalar!("sha1", ["sha"], [Bin] => strict(Utf8), eval: eval!(texts; b: binary => sha1(b)), duckdb: |c| hash_duckdb(c, "sha1"), proof: "format-008, format-012"),
    scalar!("sha2", [], [Bin, Int] => maybe(Utf8),
        eval: eval!(texts; b: binary, bits: int =>? sha2_hex(b, bits)),
        duckdb: |c| match duck::int(c, 1) {
            Some(0 | 256) => Ok(format!("sha256({})", c.args[0])),
            _ => Err("`sha2` is known on DuckDB with 256 bits only".into()),
        },
        proof: "hard-003"),
    scalar!("crc32", [], [Bin] => strict(Int64), eval: |i| { let f = Frame::new(i)?; let b = f.binary(0)?; f.longs(|row| Ok(b.get(row).map(crc32))) },
        duckdb: |c| Ok(crc32_duckdb(&c.args[0])), proof: "format-008, format-012, format-013, hard-003"),
    scalar!("recursion level", [], bind: |ctx, args| Ok(crate::def::Bound { nullable: false, ..sig::call(ctx, RECURSION_LEVEL, args, &[sig::P::Int], strict(Int32))? }),
        eval: eval!(ints; level: int => next_level(level)?), duckdb: next_level_duckdb, proof: "subquery-009, bi-018, slt: recursion"),
    scalar!("recursion row", [], [Long] => strict(Boolean), eval: eval!(booleans; number: long => allowed_row(number)?), duckdb: allowed_row_duckdb, proof: "slt: recursion"),
    rewrite!("current_user", ["user", "session_user"], bind: bind_user, proof: "unit tests"),
    rewrite!("current_catalog", [], bind: |ctx, args| { no_arguments("current_catalog", &args)?; Ok(text(ctx.catalog.clone())) }, proof: "unit tests"),
    rewrite!("current_database", ["current_schema"], bind: |ctx, args| { no_arguments("current_database", &args)?; Ok(text(ctx.schema.clone())) }, proof: "unit tests"),
    rewrite!("version", [], bind: bind_raise, proof: "refused"),
];

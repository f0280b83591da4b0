//! Rows about bytes that may be no UTF-8. A STRING always is: only BINARY is looked at.

use arrow::datatypes::DataType::{self, Binary, Boolean, Utf8};
use datafusion::logical_expr::ColumnarValue;
use flightpath_types::{Error, Result};

use crate::def::{DuckCall, FunctionDef, Invocation};
use crate::rows::Frame;
use crate::sig::{maybe, scalar, strict};

fn is_valid(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    if *frame.ty(0)? == Binary {
        let bytes = frame.binary(0)?;
        return frame.booleans(|row| Ok(bytes.get(row).map(|b| std::str::from_utf8(b).is_ok())));
    }
    let text = frame.text(0)?;
    frame.booleans(|row| Ok(text.get(row).map(|_| true)))
}

/// The text of each row's bytes; `of_invalid` of those that are none.
fn texts(invocation: &Invocation<'_>, of_invalid: fn(&[u8]) -> Result<Option<String>>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    if *frame.ty(0)? != Binary {
        let text = frame.text(0)?;
        return frame.texts(|row| Ok(text.get(row)));
    }
    let bytes = frame.binary(0)?;
    frame.texts(|row| match bytes.get(row) {
        None => Ok(None),
        Some(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Some(text.to_string())),
            Err(_) => of_invalid(bytes),
        },
    })
}

fn raise(bytes: &[u8]) -> Result<Option<String>> {
    let written: String = match std::str::from_utf8(bytes) {
        Ok(_) => String::new(),
        Err(e) => bytes[e.valid_up_to()..].iter().take(4).map(|b| format!("\\x{b:02X}")).collect(),
    };
    Err(Error::raised("INVALID_UTF8_STRING", "22029", format!("Invalid UTF8 byte sequence found in string: {written}.")))
}

/// A STRING's answer on DuckDB.
fn of_text(c: &DuckCall<'_>, text: fn(&str) -> String) -> Result<String, String> {
    match c.types[0] {
        Utf8 => Ok(text(&c.args[0])),
        _ => Err("whether BINARY is UTF-8 isn't known on DuckDB".into()),
    }
}

fn itself(x: &str) -> String {
    x.to_owned()
}

pub(crate) static UTF8: &[FunctionDef] = &[
    scalar!("is_valid_utf8", [], [StrOrBin] => strict(Boolean), eval: is_valid,
        duckdb: |c| of_text(c, |x| format!("(CASE WHEN {x} IS NOT NULL THEN TRUE END)")), proof: "slt: text_rules"),
    scalar!("make_valid_utf8", [], [StrOrBin] => strict(Utf8), eval: |i| texts(i, |b| Ok(Some(String::from_utf8_lossy(b).into_owned()))),
        duckdb: |c| of_text(c, itself), proof: "slt: text_rules"),
    scalar!("validate_utf8", [], [StrOrBin] => strict(Utf8), eval: |i| texts(i, raise), duckdb: |c| of_text(c, itself), proof: "slt: text_rules"),
    scalar!("try_validate_utf8", [], [StrOrBin] => maybe(DataType::Utf8), eval: |i| texts(i, |_| Ok(None)), duckdb: |c| of_text(c, itself),
        proof: "slt: text_rules"),
];

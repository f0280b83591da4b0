//! `to_csv`: a struct's fields as a line. Only fields whose text is certain; nested ones are refused.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Decimal128Type};
use datafusion::logical_expr::ColumnarValue;
use flightpath_types::{Error, Result};

use super::{Writer, decimal_text};
use crate::def::{BindContext, Bound, Invocation, Typed};
use crate::rows::Frame;
use crate::sig::{self, maybe};
use crate::types;

pub(super) fn bind_to_csv(_: &BindContext, args: Vec<Typed>) -> Result<Bound> {
    sig::arity("to_csv", args.len(), 1, Some(2))?;
    if args.len() == 2 {
        return Err(Error::not_eligible("`to_csv` with options isn't known"));
    }
    let DataType::Struct(fields) = &args[0].ty else {
        return Err(sig::mismatch("UNSUPPORTED_INPUT_TYPE", "to_csv", "The input of `to_csv` must be a STRUCT."));
    };
    let plain = |t: &DataType| types::is_atomic(t) && !types::is_interval(t) && *t != DataType::Binary;
    if let Some(field) = fields.iter().find(|f| !plain(f.data_type()) && f.data_type() != &DataType::Null) {
        return Err(Error::not_eligible(format!("`to_csv` of a field of type {} isn't known", types::name(field.data_type()))));
    }
    Ok(sig::bound(args, maybe(DataType::Utf8)))
}

pub(super) fn to_csv(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let writer = Writer::new(invocation)?;
    let values = frame.array(0)?;
    frame.texts(|row| {
        let at = frame.index(0, row);
        if values.is_null(at) {
            return Ok(None);
        }
        let columns = values.as_struct().columns();
        let mut line = String::new();
        for (i, column) in columns.iter().enumerate() {
            if i > 0 {
                line.push(',');
            }
            match text(&writer, column, at)? {
                Some(text) => write(&text, i == 0, &mut line),
                // A line of nothing at all is no line.
                None if columns.len() == 1 => return Ok(None),
                None => {}
            }
        }
        Ok(Some(line))
    })
}

fn text(writer: &Writer<'_>, array: &dyn Array, row: usize) -> Result<Option<String>> {
    if array.is_null(row) || array.data_type() == &DataType::Null {
        return Ok(None);
    }
    Ok(Some(match array.data_type() {
        DataType::Timestamp(_, tz) => writer.timestamp(array, row, tz.is_some())?,
        DataType::Decimal128(_, scale) if *scale > 6 => decimal_text(array.as_primitive::<Decimal128Type>().value(row), i32::from(*scale)),
        _ => {
            let mut text = String::new();
            crate::cast::write_value(&mut text, array, row, writer.zone)?;
            text
        }
    }))
}

/// Blanks around a value go; what could be read otherwise stands in quotes, with `\` in front of `\` and `"`.
fn write(text: &str, first: bool, line: &mut String) {
    let text = text.trim_matches(|c: char| c <= ' ');
    let quoted = text.is_empty() || text.contains([',', '"', '\n', '\r']) || (first && text.starts_with('#'));
    if !quoted {
        line.push_str(text);
        return;
    }
    line.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            line.push('\\');
        }
        line.push(c);
    }
    line.push('"');
}

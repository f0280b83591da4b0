//! Printing results: a table with types for people, JSON lines, CSV and Arrow IPC for programs.
//! Formats for programs are written as batches arrive; only the table holds rows, up to a bound.

mod keys;

use std::io::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use clap::ValueEnum;
use unicode_width::UnicodeWidthStr;

use crate::Failure;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
    Csv,
    Arrow,
}

/// Rows that a table shows; it says how many more there were.
const TABLE_ROWS_MAX: usize = 1000;
/// A cell wider than this is cut.
const CELL_WIDTH_MAX: usize = 80;

/// Writes one result.
pub struct Printer<W: Write> {
    schema: SchemaRef,
    pub rows: u64,
    kind: Kind<W>,
}

enum Kind<W: Write> {
    Table { out: W, cells: Vec<Vec<String>> },
    Json(arrow::json::LineDelimitedWriter<W>),
    Csv(Box<arrow::csv::Writer<W>>),
    Arrow(Box<arrow::ipc::writer::StreamWriter<W>>),
}

impl<W: Write> Printer<W> {
    pub fn new(format: Format, schema: SchemaRef, out: W) -> Result<Self, Failure> {
        let kind = match format {
            Format::Table => Kind::Table { out, cells: Vec::new() },
            Format::Json => {
                Kind::Json(arrow::json::WriterBuilder::new().with_explicit_nulls(true).build::<_, arrow::json::writer::LineDelimited>(out))
            }
            Format::Csv => Kind::Csv(Box::new(arrow::csv::WriterBuilder::new().with_header(true).build(out))),
            Format::Arrow => Kind::Arrow(Box::new(arrow::ipc::writer::StreamWriter::try_new(out, &schema).map_err(Failure::failed)?)),
        };
        Ok(Self { schema, rows: 0, kind })
    }

    pub fn batch(&mut self, batch: &RecordBatch) -> Result<(), Failure> {
        self.rows += batch.num_rows() as u64;
        match &mut self.kind {
            Kind::Table { cells, .. } => {
                let wanted = TABLE_ROWS_MAX.saturating_sub(cells.len()).min(batch.num_rows());
                // A column alone may take all the width and lines it wants: plans do.
                let alone = batch.num_columns() == 1;
                let columns: Vec<Vec<String>> = batch.columns().iter().map(|c| texts(c, wanted, alone)).collect::<Result<_, _>>()?;
                cells.extend((0..wanted).map(|row| columns.iter().map(|column| column[row].clone()).collect::<Vec<_>>()));
                Ok(())
            }
            Kind::Json(writer) => keys::with_text_keys(batch).and_then(|batch| writer.write(&batch)).map_err(written),
            Kind::Csv(writer) => writer.write(&flat(batch)?).map_err(written),
            Kind::Arrow(writer) => writer.write(batch).map_err(written),
        }
    }

    /// Writes what is left; call it once, at the end of a complete result.
    pub fn finish(mut self) -> Result<(), Failure> {
        let rows = self.rows;
        match &mut self.kind {
            Kind::Table { out, cells } => print_table(out, &self.schema, cells, rows),
            Kind::Json(writer) => writer.finish().map_err(written),
            // An empty batch makes the header of an empty result.
            Kind::Csv(writer) if rows == 0 => writer.write(&flat(&RecordBatch::new_empty(self.schema.clone()))?).map_err(written),
            Kind::Csv(_) => Ok(()),
            Kind::Arrow(writer) => writer.finish().map_err(written),
        }
    }
}

fn written(error: arrow::error::ArrowError) -> Failure {
    match error {
        arrow::error::ArrowError::IoError(_, error) => error.into(),
        other => Failure::failed(format!("the result can't be written in this format: {other}")),
    }
}

/// The batch with arrays, maps and structs as text, which CSV has no other form for.
fn flat(batch: &RecordBatch) -> Result<RecordBatch, Failure> {
    let is_nested = |ty: &DataType| matches!(ty, DataType::List(_) | DataType::Struct(_) | DataType::Map(..));
    if !batch.schema().fields().iter().any(|field| is_nested(field.data_type())) {
        return Ok(batch.clone());
    }
    let options = FormatOptions::default().with_null("NULL").with_display_error(true);
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        if !is_nested(field.data_type()) {
            fields.push(field.clone());
            columns.push(column.clone());
            continue;
        }
        let formatter = ArrayFormatter::try_new(column.as_ref(), &options).map_err(Failure::failed)?;
        let text = |row| if column.is_null(row) { None } else { Some(formatter.value(row).to_string()) };
        fields.push(Arc::new(Field::new(field.name(), DataType::Utf8, true)));
        columns.push(Arc::new((0..column.len()).map(text).collect::<StringArray>()) as ArrayRef);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(Failure::failed)
}

/// What a terminal would take for a command is shown as a sign.
fn harmless(c: char) -> char {
    if c.is_control() && !matches!(c, '\n' | '\t') { char::REPLACEMENT_CHARACTER } else { c }
}

fn texts(column: &ArrayRef, rows: usize, whole: bool) -> Result<Vec<String>, Failure> {
    let options = FormatOptions::default().with_null("NULL").with_display_error(true);
    let formatter = ArrayFormatter::try_new(column.as_ref(), &options).map_err(Failure::failed)?;
    Ok((0..rows)
        .map(|row| {
            let text = if column.is_null(row) { "NULL".to_string() } else { formatter.value(row).to_string() };
            let text = if whole { text } else { shorten(&text.replace(['\n', '\r', '\t'], " ")) };
            text.chars().map(harmless).collect()
        })
        .collect())
}

fn shorten(text: &str) -> String {
    if text.width() <= CELL_WIDTH_MAX {
        return text.to_string();
    }
    let mut short = String::new();
    for c in text.chars() {
        if short.width() + 1 >= CELL_WIDTH_MAX {
            break;
        }
        short.push(c);
    }
    short.push('…');
    short
}

/// Names, types, a rule, rows; numbers to the right.
fn print_table(out: &mut impl Write, schema: &SchemaRef, cells: &[Vec<String>], rows: u64) -> Result<(), Failure> {
    let names: Vec<String> = schema.fields().iter().map(|f| shorten(f.name())).collect();
    let types: Vec<String> = schema.fields().iter().map(|f| shorten(&flightpath_server::type_name(f.data_type()))).collect();
    let widths: Vec<usize> = (0..names.len())
        .map(|i| {
            cells
                .iter()
                .flat_map(|row| row[i].lines())
                .map(UnicodeWidthStr::width)
                .chain([names[i].width(), types[i].width()])
                .max()
                .unwrap_or(0)
        })
        .collect();
    let right: Vec<bool> = schema.fields().iter().map(|f| is_number(f.data_type())).collect();
    let line = |out: &mut dyn Write, texts: &[String]| -> std::io::Result<()> {
        let parts: Vec<String> = texts
            .iter()
            .enumerate()
            .map(|(i, text)| {
                let space = " ".repeat(widths[i].saturating_sub(text.width()));
                if right[i] { format!("{space}{text}") } else { format!("{text}{space}") }
            })
            .collect();
        writeln!(out, " {}", parts.join(" │ ").trim_end())
    };
    line(out, &names)?;
    line(out, &types)?;
    let rule: Vec<String> = widths.iter().map(|w| "─".repeat(*w)).collect();
    writeln!(out, "─{}─", rule.join("─┼─"))?;
    for row in cells {
        match row.as_slice() {
            [text] if text.contains('\n') => text.lines().try_for_each(|part| writeln!(out, " {part}"))?,
            _ => line(out, row)?,
        }
    }
    let hidden = rows - cells.len() as u64;
    if hidden > 0 {
        writeln!(out, " ... and {hidden} more rows (--format csv, json or arrow prints all)")?;
    }
    Ok(())
}

fn is_number(ty: &DataType) -> bool {
    ty.is_numeric() || matches!(ty, DataType::Decimal128(_, _))
}

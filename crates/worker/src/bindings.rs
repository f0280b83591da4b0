//! A ticket's bindings as DuckDB relations: the files read by physical name, in the types of the
//! table's schema, with partition values joined in and deleted rows taken out.
//!
//! Never lists a folder, never reads a file that the ticket doesn't name, and refuses what it
//! can't bind rather than leaving it out.

use flightpath_proto::v1::{ColumnBinding, FileBinding, PartitionValue, TableBinding};
use flightpath_types::{Error, Result};

use crate::cancel::Cancel;
use crate::duck::{Connection, DuckError};
use crate::error;
use crate::type_text::{TypeText, quote_name, quote_text};

/// Partition values of up to this many files stand in the SQL; those of more go through a table.
const INLINE_FILES_MAX: usize = 128;
/// A physical column that no file has, for relations of which no column is read from the files.
const NO_COLUMN: &str = "__flightpath_no_column";
/// Rows that are appended to a table between two looks whether anybody still wants it.
const ROWS_UNCHECKED: usize = 64 << 10;

/// How the instance treats paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paths {
    /// Any file can be opened: characters that DuckDB would expand are escaped.
    Escaped,
    /// The instance is confined to exactly these paths, so they must be spelled as they are; one
    /// that DuckDB would expand is refused by the confinement.
    Literal,
}

/// Where the tables that help a binding are made.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    create: &'static str,
    catalog: &'static str,
    schema: &'static str,
}

/// Gone with its connection.
pub const TEMP: Place = Place { create: "CREATE TEMP TABLE", catalog: "temp", schema: "main" };
/// Gone with its instance.
pub const MEMORY: Place = Place { create: "CREATE TABLE", catalog: "memory", schema: "main" };

/// The SELECT that reads a binding. Makes tables of partition values and deleted rows as needed,
/// named after `index`.
pub fn relation(
    connection: &Connection,
    table: &TableBinding,
    index: usize,
    place: Place,
    paths: Paths,
    cancel: &Cancel,
) -> Result<String> {
    let columns = table.columns.iter().map(Column::new).collect::<Result<Vec<_>>>()?;
    if table.files.is_empty() {
        return Ok(empty(&columns));
    }
    let (whole, holed): (Vec<&FileBinding>, Vec<&FileBinding>) = table.files.iter().partition(|f| f.deleted_rows.is_empty());
    let mut parts = Vec::new();
    for (files, name) in [(whole, format!("fp_{index}_w")), (holed, format!("fp_{index}_d"))] {
        if !files.is_empty() {
            let table_rows = table.table_rows;
            parts.push(scan(&Scan { connection, columns: &columns, files: &files, name: &name, table_rows, place, paths, cancel })?);
        }
    }
    Ok(parts.join(" UNION ALL "))
}

struct Column<'a> {
    binding: &'a ColumnBinding,
    logical: TypeText,
    /// Set when nested fields go by other names in the files.
    physical: Option<TypeText>,
}

impl<'a> Column<'a> {
    fn new(binding: &'a ColumnBinding) -> Result<Self> {
        let parse =
            |text: &str| TypeText::parse(text).map_err(|e| Error::invalid(format!("column '{}' of the binding: {e}", binding.name)));
        let physical = if binding.physical_type.is_empty() { None } else { Some(parse(&binding.physical_type)?) };
        Ok(Self { binding, logical: parse(&binding.duckdb_type)?, physical })
    }

    fn output_name(&self) -> String {
        quote_name(&self.binding.name)
    }
}

fn empty(columns: &[Column<'_>]) -> String {
    let nulls: Vec<String> = columns.iter().map(|c| format!("CAST(NULL AS {}) AS {}", c.logical, c.output_name())).collect();
    format!("SELECT {} WHERE FALSE", if nulls.is_empty() { "NULL".into() } else { nulls.join(", ") })
}

struct Scan<'a> {
    connection: &'a Connection,
    columns: &'a [Column<'a>],
    files: &'a [&'a FileBinding],
    name: &'a str,
    /// Rows of the whole table, where files of it were left out.
    table_rows: Option<u64>,
    place: Place,
    paths: Paths,
    cancel: &'a Cancel,
}

fn scan(scan: &Scan<'_>) -> Result<String> {
    let mut schema = Vec::new();
    let mut output = Vec::with_capacity(scan.columns.len());
    let mut joined = Vec::new();
    let mut partition = 0;
    for (position, column) in scan.columns.iter().enumerate() {
        let value = if column.binding.partition {
            let source = partition_source(scan, column, partition);
            partition += 1;
            match source {
                PartitionSource::Constant(sql) => sql,
                PartitionSource::Joined(index) => {
                    joined.push((index, column));
                    format!("p.v{index}")
                }
            }
        } else {
            file_column(position, column, &mut schema)?
        };
        output.push(format!("{value} AS {}", column.output_name()));
    }
    if schema.is_empty() {
        schema.push(format!("{}: {{name: 'k', type: 'BOOLEAN', default_value: NULL}}", quote_text(NO_COLUMN)));
    }
    if output.is_empty() {
        output.push("NULL AS \"none\"".into());
    }
    let paths: Vec<String> = scan.files.iter().map(|f| quote_text(&spelled(&f.path, scan.paths))).collect();
    // `hive_partitioning` and the like would add columns that the table's schema doesn't have.
    let mut from = format!(
        "read_parquet([{}], schema = MAP {{{}}}, hive_partitioning = false, explicit_cardinality = {}) r",
        paths.join(", "),
        schema.join(", "),
        estimated_rows(scan.files, scan.table_rows)
    );
    if !joined.is_empty() {
        from.push_str(&format!(" JOIN {} p ON p.f = r.file_index", partition_table(scan, &joined)?));
    }
    if scan.files.iter().any(|f| !f.deleted_rows.is_empty()) {
        let deleted = deleted_rows_table(scan)?;
        from.push_str(&format!(" ANTI JOIN {deleted} d ON d.f = r.file_index AND d.r = r.file_row_number"));
    }
    Ok(format!("SELECT {} FROM {from}", output.join(", ")))
}

/// With a schema of its own DuckDB doesn't look how many rows the files hold, takes every table for
/// equally large, and may join two large ones first. Zero would mean that it isn't known.
fn estimated_rows(files: &[&FileBinding], table_rows: Option<u64>) -> u64 {
    let rows = files.iter().map(|f| f.rows.unwrap_or(f.size_bytes / BYTES_PER_ROW)).fold(0, u64::saturating_add);
    // What left files out is a filter of the query, which DuckDB will count once more.
    let rows = table_rows.map_or(rows, |all| rows.saturating_mul(FILTER_KEEPS_ONE_IN).min(all).max(rows));
    rows.clamp(1, ROWS_MAX)
}

/// DuckDB's guess for a filter that it knows nothing about.
const FILTER_KEEPS_ONE_IN: u64 = 5;

/// A guess for files without statistics.
const BYTES_PER_ROW: u64 = 32;

/// Far beyond any table, and far from where products of such estimates overflow.
const ROWS_MAX: u64 = 1 << 48;

/// Columns get positional names inside, so that none can hide a virtual column of the reader.
fn file_column(position: usize, column: &Column<'_>, schema: &mut Vec<String>) -> Result<String> {
    let binding = column.binding;
    let physical_name = if binding.physical_name.is_empty() { &binding.name } else { &binding.physical_name };
    let read_as = column.physical.as_ref().unwrap_or(&column.logical);
    schema.push(format!(
        "{}: {{name: 'k{position}', type: {}, default_value: NULL}}",
        quote_text(physical_name),
        quote_text(&read_as.to_string())
    ));
    let value = format!("r.k{position}");
    let value = match &column.physical {
        None => value,
        Some(physical) => physical
            .renamed(&value, &column.logical, 0)
            .ok_or_else(|| Error::invalid(format!("column '{}': its type in the files has another shape", binding.name)))?,
    };
    Ok(without_bounds(value, &column.logical))
}

/// Files' statistics leave NaN out, which is the greatest value; DuckDB believes them, skips row
/// groups that hold NaN and answers `max` from them. Behind a CASE it doesn't see them.
fn without_bounds(value: String, ty: &TypeText) -> String {
    match ty {
        TypeText::Plain(name) if is_float(name) => format!("CASE WHEN isnan({value}) THEN CAST('NaN' AS {name}) ELSE {value} END"),
        TypeText::Struct(_) if holds_float(ty) => format!("CASE WHEN {value} IS NULL THEN NULL ELSE {value} END"),
        TypeText::Plain(_) | TypeText::Struct(_) | TypeText::List(_) | TypeText::Map(_, _) => value,
    }
}

fn is_float(name: &str) -> bool {
    ["FLOAT", "DOUBLE"].iter().any(|f| name.eq_ignore_ascii_case(f))
}

fn holds_float(ty: &TypeText) -> bool {
    match ty {
        TypeText::Plain(name) => is_float(name),
        TypeText::Struct(fields) => fields.iter().any(|(_, field)| holds_float(field)),
        TypeText::List(item) => holds_float(item),
        TypeText::Map(key, value) => holds_float(key) || holds_float(value),
    }
}

enum PartitionSource {
    /// All files have one value.
    Constant(String),
    /// The partition column's number.
    Joined(usize),
}

fn partition_source(scan: &Scan<'_>, column: &Column<'_>, index: usize) -> PartitionSource {
    let first = &scan.files[0].partition_values[index];
    if scan.files.iter().all(|f| f.partition_values[index] == *first) {
        PartitionSource::Constant(format!("CAST({} AS {})", partition_literal(first), column.logical))
    } else {
        PartitionSource::Joined(index)
    }
}

fn partition_literal(value: &PartitionValue) -> String {
    value.text.as_deref().map_or_else(|| "NULL".into(), quote_text)
}

/// A relation of `f` (the file's index) and `v<n>` for each joined partition column.
fn partition_table(scan: &Scan<'_>, joined: &[(usize, &Column<'_>)]) -> Result<String> {
    let columns: Vec<String> = joined.iter().map(|(index, c)| format!("CAST(t{index} AS {}) AS v{index}", c.logical)).collect();
    let texts: Vec<String> = joined.iter().map(|(index, _)| format!("t{index}")).collect();
    if scan.files.len() <= INLINE_FILES_MAX {
        let rows: Vec<String> = scan
            .files
            .iter()
            .enumerate()
            .map(|(f, file)| {
                let values: Vec<String> = joined.iter().map(|(index, _)| partition_literal(&file.partition_values[*index])).collect();
                format!("({f}, {})", values.join(", "))
            })
            .collect();
        return Ok(format!(
            "(SELECT CAST(f AS UBIGINT) AS f, {} FROM (VALUES {}) t(f, {}))",
            columns.join(", "),
            rows.join(", "),
            texts.join(", ")
        ));
    }
    let name = format!("{}_p", scan.name);
    let definition: Vec<String> = texts.iter().map(|t| format!("{t} VARCHAR")).collect();
    create_table(scan, &name, &format!("f UBIGINT, {}", definition.join(", ")))?;
    let mut appender = scan.connection.appender(scan.place.catalog, scan.place.schema, &name).map_err(failed)?;
    for (f, file) in scan.files.iter().enumerate() {
        check_wanted(scan, f)?;
        appender.u64(f as u64).map_err(failed)?;
        for (index, _) in joined {
            appender.text(file.partition_values[*index].text.as_deref()).map_err(failed)?;
        }
        appender.end_row().map_err(failed)?;
    }
    appender.finish().map_err(failed)?;
    Ok(format!("(SELECT f, {} FROM {})", columns.join(", "), qualified(scan, &name)))
}

/// A table of `f` (the file's index) and `r` (the row's position in it).
fn deleted_rows_table(scan: &Scan<'_>) -> Result<String> {
    let name = format!("{}_v", scan.name);
    create_table(scan, &name, "f UBIGINT, r UBIGINT")?;
    let mut appender = scan.connection.appender(scan.place.catalog, scan.place.schema, &name).map_err(failed)?;
    let mut rows = 0;
    for (f, file) in scan.files.iter().enumerate() {
        for row in DeletedRows::new(&file.deleted_rows) {
            check_wanted(scan, rows)?;
            rows += 1;
            let row = row.map_err(|()| Error::invalid(format!("the deleted rows of {} are malformed", file.path)))?;
            appender.u64(f as u64).and_then(|()| appender.u64(row)).and_then(|()| appender.end_row()).map_err(failed)?;
        }
    }
    appender.finish().map_err(failed)?;
    Ok(qualified(scan, &name))
}

/// An interrupt doesn't reach what is appended row by row.
fn check_wanted(scan: &Scan<'_>, rows: usize) -> Result<()> {
    if rows.is_multiple_of(ROWS_UNCHECKED) { scan.cancel.check() } else { Ok(()) }
}

fn create_table(scan: &Scan<'_>, name: &str, columns: &str) -> Result<()> {
    scan.connection.execute(&format!("{} {} ({columns})", scan.place.create, qualified(scan, name))).map_err(failed)
}

fn qualified(scan: &Scan<'_>, name: &str) -> String {
    format!("{}.{}.{}", scan.place.catalog, scan.place.schema, quote_name(name))
}

fn failed(error: DuckError) -> Error {
    error::of_binding(&error)
}

/// Brackets around what DuckDB's globbing would expand.
fn spelled(path: &str, paths: Paths) -> String {
    if paths == Paths::Literal || !path.contains(['*', '?', '[']) {
        return path.to_string();
    }
    path.chars().fold(String::with_capacity(path.len() + 8), |mut out, c| {
        if matches!(c, '*' | '?' | '[') {
            out.extend(['[', c, ']']);
        } else {
            out.push(c);
        }
        out
    })
}

/// Row positions from the ticket's form: ascending, each but the first as the difference to the one
/// before it, as varints.
struct DeletedRows<'a> {
    bytes: &'a [u8],
    row: Option<u64>,
}

impl<'a> DeletedRows<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, row: None }
    }
}

impl Iterator for DeletedRows<'_> {
    type Item = std::result::Result<u64, ()>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.bytes.is_empty() {
            return None;
        }
        let (mut value, mut shift) = (0u64, 0);
        loop {
            let Some((byte, rest)) = self.bytes.split_first() else { return Some(Err(())) };
            self.bytes = rest;
            if shift > 63 {
                self.bytes = &[];
                return Some(Err(()));
            }
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let row = match self.row {
            None => value,
            Some(before) => match before.checked_add(value) {
                Some(row) if value > 0 => row,
                _ => {
                    self.bytes = &[];
                    return Some(Err(()));
                }
            },
        };
        self.row = Some(row);
        Some(Ok(row))
    }
}

//! TPC-H and TPC-DS as real Delta tables, generated in a stream: memory stays bounded at any scale.
//! A table appears whole or not at all, and nothing that lies there already is replaced unasked.

#![forbid(unsafe_code)]

mod folder;
mod progress;
mod table;
mod tpcds;
mod tpch;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;

use flightpath_types::{Error, Result};

pub use progress::{Bars, Progress, Silent};

use folder::Folder;
use table::Table;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Benchmark {
    TpcH,
    TpcDs,
}

impl Benchmark {
    pub fn as_str(self) -> &'static str {
        match self {
            Benchmark::TpcH => "tpch",
            Benchmark::TpcDs => "tpcds",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Benchmark::TpcH, Benchmark::TpcDs].into_iter().find(|b| b.as_str().eq_ignore_ascii_case(text))
    }
}

#[derive(Debug, Clone)]
pub struct Options {
    pub benchmark: Benchmark,
    /// 1 is about a gigabyte of text; fractions are fine.
    pub scale: f64,
    /// Each table becomes a folder in here.
    pub out: PathBuf,
    /// Replace tables of the same names.
    pub force: bool,
    /// Rows of one data file, about; `None` chooses by the table's size.
    pub rows_per_file: Option<u64>,
    /// Parts of a table generated at once. Each holds a row group and an upload buffer per open file,
    /// at most about half a gigabyte.
    pub threads: usize,
}

impl Options {
    pub fn new(benchmark: Benchmark, scale: f64, out: PathBuf) -> Self {
        Self { benchmark, scale, out, force: false, rows_per_file: None, threads: 2 }
    }
}

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    pub tables: Vec<TableSummary>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSummary {
    pub name: String,
    pub rows: u64,
    pub files: usize,
    pub bytes: u64,
}

impl Summary {
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|t| t.rows).sum()
    }

    pub fn bytes(&self) -> u64 {
        self.tables.iter().map(|t| t.bytes).sum()
    }
}

/// The largest scale whose row counts still fit the generators' integers.
const SCALE_MAX: f64 = 100_000.0;

/// Writes all tables, one after the other. Dropping the future stops the work; what it leaves is
/// hidden from readers and cleaned up by the next call.
pub async fn populate(options: Options, progress: Arc<dyn Progress>) -> Result<Summary> {
    if !(options.scale.is_finite() && options.scale > 0.0 && options.scale <= SCALE_MAX) {
        return Err(Error::invalid(format!("the scale must be a number above 0 and at most {SCALE_MAX}, not {}", options.scale)));
    }
    let tables = match options.benchmark {
        Benchmark::TpcH => tpch::tables(options.scale),
        Benchmark::TpcDs => tpcds::tables(options.scale)?,
    };
    let names: Vec<&str> = tables.iter().map(|t| t.name).collect();
    let folder = Folder::open(&options.out, &names, options.force)?;
    let mut summary = Summary::default();
    for table in tables {
        summary.tables.push(write(Arc::new(table), &folder, &options, &progress).await?);
    }
    Ok(summary)
}

async fn write(table: Arc<Table>, folder: &Folder, options: &Options, progress: &Arc<dyn Progress>) -> Result<TableSummary> {
    progress.table_started(table.name, table.rows_expected);
    let staged = folder.stage(table.name)?;
    let summary = writer::write_table(&table, &staged, options, progress).await?;
    folder.publish(table.name, options.force)?;
    progress.table_finished(table.name, summary.rows, summary.files);
    Ok(summary)
}

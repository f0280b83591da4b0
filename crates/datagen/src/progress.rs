//! How far a population is, for whoever watches.

use std::sync::Mutex;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Told about tables in the order they are written; about rows from several threads.
pub trait Progress: Send + Sync {
    /// `rows_expected` is an estimate.
    fn table_started(&self, table: &str, rows_expected: u64);
    /// More rows than before.
    fn rows_written(&self, table: &str, rows: u64);
    fn table_finished(&self, table: &str, rows: u64, files: usize);
}

/// Nobody watches.
pub struct Silent;

impl Progress for Silent {
    fn table_started(&self, _table: &str, _rows_expected: u64) {}
    fn rows_written(&self, _table: &str, _rows: u64) {}
    fn table_finished(&self, _table: &str, _rows: u64, _files: usize) {}
}

/// A bar on the terminal's standard error for the table being written, and a line for each that is done.
#[derive(Default)]
pub struct Bars {
    current: Mutex<Option<ProgressBar>>,
}

impl Bars {
    fn with_current(&self, act: impl FnOnce(&mut Option<ProgressBar>)) {
        act(&mut self.current.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}

impl Progress for Bars {
    fn table_started(&self, table: &str, rows_expected: u64) {
        let style = ProgressStyle::with_template("{prefix:24} {wide_bar} {human_pos}/{human_len} rows {per_sec} {eta}");
        let bar = ProgressBar::new(rows_expected.max(1)).with_prefix(table.to_string());
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(200));
        self.with_current(|current| *current = Some(bar));
    }

    fn rows_written(&self, _table: &str, rows: u64) {
        self.with_current(|current| {
            if let Some(bar) = current {
                bar.inc(rows);
            }
        });
    }

    fn table_finished(&self, table: &str, rows: u64, files: usize) {
        self.with_current(|current| {
            if let Some(bar) = current.take() {
                bar.finish_and_clear();
            }
        });
        eprintln!("{table:24} {rows:>14} rows in {files} {}", if files == 1 { "file" } else { "files" });
    }
}

//! DuckDB's C API, wrapped so that the rest of the worker is safe code: databases, connections,
//! prepared SELECTs and their streamed results as Arrow batches.
//!
//! This is the one file of the project that may hold `unsafe`. Every pointer it gets from DuckDB
//! is owned by exactly one value here, freed once in its `Drop`, and never handed out. It never
//! decides what may run, and never looks into SQL.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char};
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, StructArray};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::ffi::{FFI_ArrowArray, FFI_ArrowSchema, from_ffi_and_data_type};
use arrow::record_batch::RecordBatch;
use libduckdb_sys as ffi;
use parking_lot::Mutex;

pub use crate::duck_error::{DuckError, ErrorType};

type Result<T> = std::result::Result<T, DuckError>;

/// How long a thread without a task waits for one, growing step by step.
const WAIT_STEP: Duration = Duration::from_micros(20);
const WAIT_STEPS_MAX: u32 = 10;

/// The linked library's version, such as `v1.5.5`.
pub fn library_version() -> String {
    // SAFETY: returns a static, NUL-terminated string.
    unsafe { text(ffi::duckdb_library_version()) }
}

/// One database instance in memory. Its settings hold for all of its connections.
pub struct Database {
    raw: ffi::duckdb_database,
}

// SAFETY: DuckDB's database object is a reference-counted handle whose methods lock for themselves;
// the pointer is only read after `open`, until `drop` has it alone.
unsafe impl Send for Database {}
// SAFETY: as above; `duckdb_connect` may be called from any thread at once.
unsafe impl Sync for Database {}

impl Database {
    /// Opens an empty instance with `settings` in force before anything else runs in it.
    pub fn open(settings: &[(&str, String)]) -> Result<Arc<Self>> {
        let mut config = Config(ptr::null_mut());
        // SAFETY: `config.0` is a valid out pointer; freed by `Config::drop`.
        if unsafe { ffi::duckdb_create_config(&mut config.0) } != ffi::DuckDBSuccess {
            return Err(DuckError::new(ErrorType::OutOfMemory, "no memory for a database configuration"));
        }
        for (name, value) in settings {
            let (name_c, value_c) = (c_string(name)?, c_string(value)?);
            // SAFETY: all three pointers live through the call, which copies the strings.
            if unsafe { ffi::duckdb_set_config(config.0, name_c.as_ptr(), value_c.as_ptr()) } != ffi::DuckDBSuccess {
                return Err(DuckError::new(ErrorType::Settings, format!("DuckDB refuses the setting {name} = {value}")));
            }
        }
        let mut raw = ptr::null_mut();
        let mut error: *mut c_char = ptr::null_mut();
        // SAFETY: out pointers are valid; a null path means a database in memory.
        let state = unsafe { ffi::duckdb_open_ext(ptr::null(), &mut raw, config.0, &mut error) };
        if state != ffi::DuckDBSuccess {
            // SAFETY: on failure `error` is null or a string of ours to free, once.
            let message = unsafe {
                let message = text(error);
                ffi::duckdb_free(error.cast());
                message
            };
            return Err(DuckError::from_text(&message));
        }
        Ok(Arc::new(Self { raw }))
    }

    pub fn connect(self: &Arc<Self>) -> Result<Connection> {
        let mut raw = ptr::null_mut();
        // SAFETY: `self.raw` is open as long as `self` lives; `raw` is a valid out pointer.
        if unsafe { ffi::duckdb_connect(self.raw, &mut raw) } != ffi::DuckDBSuccess {
            return Err(DuckError::new(ErrorType::Fatal, "DuckDB gives no connection"));
        }
        let handle = Arc::new(Handle { raw: Mutex::new(Some(RawConnection(raw))) });
        Ok(Connection { raw, handle, _database: self.clone() })
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // SAFETY: the last owner; connections hold an `Arc` of this and are closed by now.
        unsafe { ffi::duckdb_close(&mut self.raw) }
    }
}

struct Config(ffi::duckdb_config);

impl Drop for Config {
    fn drop(&mut self) {
        // SAFETY: null or created by `duckdb_create_config`, freed once.
        unsafe { ffi::duckdb_destroy_config(&mut self.0) }
    }
}

struct RawConnection(ffi::duckdb_connection);

// SAFETY: used from other threads for `duckdb_interrupt` alone, which only sets an atomic flag.
unsafe impl Send for RawConnection {}

struct Handle {
    /// Taken when the connection closes, so that a late interrupt finds nothing.
    raw: Mutex<Option<RawConnection>>,
}

/// Interrupts whatever its connection runs, from any thread, also after the connection is closed.
/// Has no effect on a query that starts later: who cancels must keep a flag of their own.
#[derive(Clone)]
pub struct Interrupter(Arc<Handle>);

impl Interrupter {
    /// Never waits: a connection that is being closed may wait itself for work that hears no interrupt.
    pub fn interrupt(&self) {
        if let Some(raw) = self.0.raw.try_lock().as_deref().and_then(Option::as_ref) {
            // SAFETY: the lock keeps the connection open during the call.
            unsafe { ffi::duckdb_interrupt(raw.0) }
        }
    }
}

/// A connection; belongs to one thread at a time.
pub struct Connection {
    raw: ffi::duckdb_connection,
    handle: Arc<Handle>,
    _database: Arc<Database>,
}

// SAFETY: a connection isn't tied to the thread that made it, and isn't `Sync` here.
unsafe impl Send for Connection {}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(mut raw) = self.handle.raw.lock().take() {
            // SAFETY: opened by `connect`, closed once: the option is empty from now on.
            unsafe { ffi::duckdb_disconnect(&mut raw.0) }
        }
    }
}

impl Connection {
    pub fn interrupter(&self) -> Interrupter {
        Interrupter(self.handle.clone())
    }

    /// Runs one or more statements for their effect.
    pub fn execute(&self, sql: &str) -> Result<()> {
        let sql = c_string(sql)?;
        let mut result = QueryResult::empty();
        // SAFETY: connection and string are valid; the result is freed by `QueryResult::drop`,
        // as the API asks also for failed queries.
        let state = unsafe { ffi::duckdb_query(self.raw, sql.as_ptr(), &mut result.0) };
        if state != ffi::DuckDBSuccess { Err(result.error()) } else { Ok(()) }
    }

    /// Prepares the text if it is exactly one statement without parameters, and a SELECT.
    pub fn prepare_select(&self, sql: &str) -> Result<Prepared<'_>> {
        let sql = c_string(sql)?;
        let mut extracted = Extracted(ptr::null_mut());
        // SAFETY: valid pointers; `extracted` is freed by its `Drop` whatever the outcome.
        let count = unsafe { ffi::duckdb_extract_statements(self.raw, sql.as_ptr(), &mut extracted.0) };
        if count == 0 {
            // SAFETY: reads a string owned by `extracted`.
            let message = unsafe { text(ffi::duckdb_extract_statements_error(extracted.0)) };
            return Err(if message.is_empty() {
                DuckError::new(ErrorType::Parser, "the text holds no statement")
            } else {
                DuckError::from_text(&message)
            });
        }
        if count > 1 {
            return Err(DuckError::new(ErrorType::Parser, format!("exactly one statement may be sent, this text holds {count}")));
        }
        let mut prepared = Prepared { raw: ptr::null_mut(), connection: self };
        // SAFETY: index 0 exists; `prepared` is freed by its `Drop` also when preparing fails.
        let state = unsafe { ffi::duckdb_prepare_extracted_statement(self.raw, extracted.0, 0, &mut prepared.raw) };
        if state != ffi::DuckDBSuccess {
            // SAFETY: reads a string owned by `prepared`.
            return Err(DuckError::from_text(&unsafe { text(ffi::duckdb_prepare_error(prepared.raw)) }));
        }
        // SAFETY: prepared successfully.
        let kind = unsafe { ffi::duckdb_prepared_statement_type(prepared.raw) };
        if kind != ffi::duckdb_statement_type_DUCKDB_STATEMENT_TYPE_SELECT {
            return Err(DuckError::new(ErrorType::Permission, "only a SELECT may be sent"));
        }
        // SAFETY: prepared successfully.
        if unsafe { ffi::duckdb_nparams(prepared.raw) } != 0 {
            return Err(DuckError::new(ErrorType::ParameterNotResolved, "the statement has parameters without values"));
        }
        Ok(prepared)
    }

    /// Opens a table for appending rows. The table must exist; names are taken as they are.
    pub fn appender(&self, catalog: &str, schema: &str, table: &str) -> Result<Appender<'_>> {
        let (catalog, schema, table) = (c_string(catalog)?, c_string(schema)?, c_string(table)?);
        let mut appender = Appender { raw: ptr::null_mut(), _connection: self };
        // SAFETY: valid pointers; freed by `Appender::drop` whatever the outcome.
        let state =
            unsafe { ffi::duckdb_appender_create_ext(self.raw, catalog.as_ptr(), schema.as_ptr(), table.as_ptr(), &mut appender.raw) };
        appender.check(state)?;
        Ok(appender)
    }

    fn arrow_options(&self) -> ArrowOptions {
        let mut options = ArrowOptions(ptr::null_mut());
        // SAFETY: valid connection and out pointer; freed by `ArrowOptions::drop`.
        unsafe { ffi::duckdb_connection_get_arrow_options(self.raw, &mut options.0) };
        options
    }
}

struct Extracted(ffi::duckdb_extracted_statements);

impl Drop for Extracted {
    fn drop(&mut self) {
        // SAFETY: null or from `duckdb_extract_statements`, freed once.
        unsafe { ffi::duckdb_destroy_extracted(&mut self.0) }
    }
}

struct ArrowOptions(ffi::duckdb_arrow_options);

impl Drop for ArrowOptions {
    fn drop(&mut self) {
        // SAFETY: null or from DuckDB, freed once.
        unsafe { ffi::duckdb_destroy_arrow_options(&mut self.0) }
    }
}

/// A SELECT, bound and planned, not yet run.
pub struct Prepared<'c> {
    raw: ffi::duckdb_prepared_statement,
    connection: &'c Connection,
}

impl Drop for Prepared<'_> {
    fn drop(&mut self) {
        // SAFETY: null or from prepare, freed once.
        unsafe { ffi::duckdb_destroy_prepare(&mut self.raw) }
    }
}

impl<'c> Prepared<'c> {
    /// The result's schema, as its batches will have it.
    pub fn schema(&self) -> Result<SchemaRef> {
        let mut columns = Columns { types: Vec::new(), names: Vec::new() };
        // SAFETY: prepared successfully.
        let count = unsafe { ffi::duckdb_prepared_statement_column_count(self.raw) };
        for index in 0..count {
            // SAFETY: the index is in range; type and name are freed by `Columns::drop`.
            unsafe {
                columns.types.push(ffi::duckdb_prepared_statement_column_logical_type(self.raw, index));
                columns.names.push(ffi::duckdb_prepared_statement_column_name(self.raw, index));
            }
        }
        if columns.types.iter().any(|t| t.is_null()) || columns.names.iter().any(|n| n.is_null()) {
            return Err(DuckError::new(ErrorType::ParameterNotResolved, "DuckDB can't tell the type of a result column"));
        }
        let options = self.connection.arrow_options();
        let mut schema = ffi::ArrowSchema::empty();
        // SAFETY: both arrays have `count` valid entries; `schema` is an empty struct to be filled.
        let error =
            unsafe { ffi::duckdb_to_arrow_schema(options.0, columns.types.as_mut_ptr(), columns.names.as_mut_ptr(), count, &mut schema) };
        check_error_data(error)?;
        // SAFETY: both structs are the C data interface's `ArrowSchema`; ownership moves with its
        // release callback, and the source is a plain struct without `Drop`.
        let imported = unsafe { ptr::read((&raw const schema).cast::<FFI_ArrowSchema>()) };
        let schema = Schema::try_from(&imported)
            .map_err(|e| DuckError::new(ErrorType::NotImplemented, format!("a result type has no Arrow form: {e}")))?;
        Ok(Arc::new(schema))
    }

    /// Starts the query. `cancelled` is asked once DuckDB would hear an interrupt, which closes the
    /// gap in which one is lost.
    pub fn stream(&self, schema: SchemaRef, cancelled: impl Fn() -> bool) -> Result<RowStream<'c>> {
        let mut pending = Pending(ptr::null_mut());
        // SAFETY: prepared successfully; `pending` is freed by its `Drop` whatever the outcome.
        let state = unsafe { ffi::duckdb_pending_prepared_streaming(self.raw, &mut pending.0) };
        if state != ffi::DuckDBSuccess {
            return Err(pending.error());
        }
        pending.work(cancelled)?;
        let mut result = QueryResult::empty();
        // SAFETY: `pending` is valid; the result is freed by `QueryResult::drop`.
        let state = unsafe { ffi::duckdb_execute_pending(pending.0, &mut result.0) };
        if state != ffi::DuckDBSuccess {
            return Err(result.error());
        }
        let options = self.connection.arrow_options();
        Ok(RowStream {
            result,
            options,
            row_type: DataType::Struct(schema.fields().clone()),
            schema,
            ended: false,
            _connection: self.connection,
        })
    }
}

/// Types and names of columns, each owned.
struct Columns {
    types: Vec<ffi::duckdb_logical_type>,
    names: Vec<*const c_char>,
}

impl Drop for Columns {
    fn drop(&mut self) {
        for ty in &mut self.types {
            // SAFETY: null or a type given to us, freed once.
            unsafe { ffi::duckdb_destroy_logical_type(ty) }
        }
        for name in &self.names {
            // SAFETY: null or a string given to us, freed once.
            unsafe { ffi::duckdb_free(name.cast_mut().cast()) }
        }
    }
}

struct Pending(ffi::duckdb_pending_result);

impl Pending {
    /// Works on the query until its first rows are ready. Where DuckDB's own loop spins while other
    /// threads have all the tasks, this one steps back: a core is worth more to them.
    fn work(&self, cancelled: impl Fn() -> bool) -> Result<()> {
        let mut idle_rounds = 0u32;
        loop {
            if cancelled() {
                return Err(DuckError::new(ErrorType::Interrupt, "interrupted"));
            }
            // SAFETY: a valid pending result, not yet executed.
            match unsafe { ffi::duckdb_pending_execute_task(self.0) } {
                ffi::duckdb_pending_state_DUCKDB_PENDING_RESULT_READY => return Ok(()),
                ffi::duckdb_pending_state_DUCKDB_PENDING_ERROR => return Err(self.error()),
                ffi::duckdb_pending_state_DUCKDB_PENDING_NO_TASKS_AVAILABLE => {
                    idle_rounds += 1;
                    match idle_rounds {
                        0..=20 => std::thread::yield_now(),
                        rounds => std::thread::sleep(WAIT_STEP * (rounds - 20).min(WAIT_STEPS_MAX)),
                    }
                }
                _ => idle_rounds = 0,
            }
        }
    }

    fn error(&self) -> DuckError {
        // SAFETY: reads a string owned by the pending result; null when there is none.
        DuckError::from_text(&unsafe { text(ffi::duckdb_pending_error(self.0)) })
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // SAFETY: null or from `duckdb_pending_prepared_streaming`, freed once.
        unsafe { ffi::duckdb_destroy_pending(&mut self.0) }
    }
}

struct QueryResult(ffi::duckdb_result);

impl QueryResult {
    fn empty() -> Self {
        // SAFETY: a C struct of integers and pointers, for which all zeros is the empty result.
        Self(unsafe { std::mem::zeroed() })
    }

    fn failed(&mut self) -> bool {
        // SAFETY: a result that is empty or filled by DuckDB.
        unsafe { !ffi::duckdb_result_error(&mut self.0).is_null() }
    }

    fn error(&mut self) -> DuckError {
        // SAFETY: as above; the string is owned by the result and copied here.
        unsafe {
            let kind = ffi::duckdb_result_error_type(&mut self.0);
            DuckError::from_result(kind, &text(ffi::duckdb_result_error(&mut self.0)))
        }
    }
}

impl Drop for QueryResult {
    fn drop(&mut self) {
        // SAFETY: empty or filled by DuckDB, freed once.
        unsafe { ffi::duckdb_destroy_result(&mut self.0) }
    }
}

/// A running query. Rows are made as they are fetched; dropping it ends the query.
pub struct RowStream<'c> {
    result: QueryResult,
    options: ArrowOptions,
    schema: SchemaRef,
    row_type: DataType,
    /// DuckDB takes a fetch behind the end for an error.
    ended: bool,
    _connection: &'c Connection,
}

impl RowStream<'_> {
    /// The next rows, at most DuckDB's vector size (2,048) of them; `None` at the end.
    pub fn next_chunk(&mut self) -> Result<Option<RecordBatch>> {
        if self.ended {
            return Ok(None);
        }
        // SAFETY: a streaming result; the struct is passed by value as the API wants it, and what
        // it points to stays owned by `self.result`.
        let chunk = Chunk(unsafe { ffi::duckdb_fetch_chunk(self.result.0) });
        if chunk.0.is_null() {
            self.ended = true;
            return if self.result.failed() { Err(self.result.error()) } else { Ok(None) };
        }
        // SAFETY: a valid chunk.
        if unsafe { ffi::duckdb_data_chunk_get_size(chunk.0) } == 0 {
            self.ended = true;
            return Ok(None);
        }
        let mut array = ffi::ArrowArray::empty();
        // SAFETY: valid options and chunk; `array` is an empty struct to be filled.
        check_error_data(unsafe { ffi::duckdb_data_chunk_to_arrow(self.options.0, chunk.0, &mut array) })?;
        // SAFETY: both structs are the C data interface's `ArrowArray`; ownership moves with its
        // release callback, and the source is a plain struct without `Drop`.
        let imported = unsafe { ptr::read((&raw const array).cast::<FFI_ArrowArray>()) };
        // SAFETY: DuckDB made array and schema from the same types and options.
        let data = unsafe { from_ffi_and_data_type(imported, self.row_type.clone()) }.map_err(conversion_failed)?;
        let rows = StructArray::from(data);
        if rows.null_count() != 0 {
            return Err(DuckError::new(ErrorType::Serialization, "DuckDB gave a batch with null rows"));
        }
        RecordBatch::try_new(self.schema.clone(), rows.columns().to_vec()).map(Some).map_err(conversion_failed)
    }
}

fn conversion_failed(error: arrow::error::ArrowError) -> DuckError {
    DuckError::new(ErrorType::Serialization, format!("DuckDB's rows can't be read as Arrow: {error}"))
}

struct Chunk(ffi::duckdb_data_chunk);

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: null or fetched from a result, freed once.
        unsafe { ffi::duckdb_destroy_data_chunk(&mut self.0) }
    }
}

/// Writes rows into a table, value by value in the order of its columns.
pub struct Appender<'c> {
    raw: ffi::duckdb_appender,
    _connection: &'c Connection,
}

impl Appender<'_> {
    pub fn u64(&mut self, value: u64) -> Result<()> {
        // SAFETY: created successfully.
        let state = unsafe { ffi::duckdb_append_uint64(self.raw, value) };
        self.check(state)
    }

    pub fn text(&mut self, value: Option<&str>) -> Result<()> {
        // SAFETY: created successfully; the text is copied, its length given.
        let state = unsafe {
            match value {
                Some(value) => ffi::duckdb_append_varchar_length(self.raw, value.as_ptr().cast(), value.len() as ffi::idx_t),
                None => ffi::duckdb_append_null(self.raw),
            }
        };
        self.check(state)
    }

    pub fn end_row(&mut self) -> Result<()> {
        // SAFETY: created successfully.
        let state = unsafe { ffi::duckdb_appender_end_row(self.raw) };
        self.check(state)
    }

    /// Makes the rows visible.
    pub fn finish(self) -> Result<()> {
        // SAFETY: created successfully; still destroyed by `drop`.
        let state = unsafe { ffi::duckdb_appender_close(self.raw) };
        self.check(state)
    }

    fn check(&self, state: ffi::duckdb_state) -> Result<()> {
        if state == ffi::DuckDBSuccess {
            return Ok(());
        }
        // SAFETY: valid also after a failed create; the error data is freed by the check.
        check_error_data(unsafe { ffi::duckdb_appender_error_data(self.raw) })?;
        Err(DuckError::new(ErrorType::Invalid, "DuckDB refuses a row without a reason"))
    }
}

impl Drop for Appender<'_> {
    fn drop(&mut self) {
        // SAFETY: null or from create, freed once. A failure to flush was reported by `finish`.
        unsafe { ffi::duckdb_appender_destroy(&mut self.raw) };
    }
}

/// Takes ownership of the error data and frees it.
fn check_error_data(mut error: ffi::duckdb_error_data) -> Result<()> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: valid error data of ours; its message is copied before it is freed, once.
    unsafe {
        let outcome = if ffi::duckdb_error_data_has_error(error) {
            let kind = ffi::duckdb_error_data_error_type(error);
            Err(DuckError::from_result(kind, &text(ffi::duckdb_error_data_message(error))))
        } else {
            Ok(())
        };
        ffi::duckdb_destroy_error_data(&mut error);
        outcome
    }
}

fn c_string(value: &str) -> Result<CString> {
    CString::new(value).map_err(|_| DuckError::new(ErrorType::Parser, "the text holds a NUL character"))
}

/// Copies a C string; empty for null.
///
/// # Safety
/// `value` is null or points to a NUL-terminated string.
unsafe fn text(value: *const c_char) -> String {
    if value.is_null() {
        return String::new();
    }
    // SAFETY: by this function's contract.
    unsafe { CStr::from_ptr(value) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Connection {
        Database::open(&[("errors_as_json", "true".into())]).unwrap().connect().unwrap()
    }

    fn all(connection: &Connection, sql: &str) -> Result<Vec<RecordBatch>> {
        let prepared = connection.prepare_select(sql)?;
        let mut stream = prepared.stream(prepared.schema()?, || false)?;
        let mut batches = Vec::new();
        while let Some(batch) = stream.next_chunk()? {
            batches.push(batch);
        }
        assert!(stream.next_chunk()?.is_none(), "the end stays the end");
        Ok(batches)
    }

    #[test]
    fn rows_stream_in_chunks() {
        let connection = open();
        let batches = all(&connection, "SELECT range AS i, 'x' || range AS s FROM range(5000)").unwrap();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 5000);
        assert!(batches.len() > 1);
        for sql in ["SELECT 1", "SELECT json_serialize_sql('SELECT 1')", "SELECT 1 WHERE false"] {
            let rows: usize = all(&connection, sql).unwrap_or_else(|e| panic!("{sql}: {e}")).iter().map(RecordBatch::num_rows).sum();
            assert_eq!(rows, usize::from(!sql.contains("false")), "{sql}");
        }
    }

    #[test]
    fn a_stream_may_be_left_early() {
        let connection = open();
        for sql in ["SELECT json_serialize_sql('SELECT 1')", "SELECT * FROM range(1000000)"] {
            let prepared = connection.prepare_select(sql).unwrap();
            let mut stream = prepared.stream(prepared.schema().unwrap(), || false).unwrap();
            assert!(stream.next_chunk().unwrap().is_some());
            drop(stream);
            drop(prepared);
            assert_eq!(all(&connection, "SELECT 1").unwrap().len(), 1);
        }
    }

    #[test]
    fn only_one_select_is_prepared() {
        let connection = open();
        for (sql, kind) in [
            ("SELECT 1; SELECT 2", ErrorType::Parser),
            ("", ErrorType::Parser),
            ("CREATE TABLE t(i INT)", ErrorType::Permission),
            ("SET threads = 1", ErrorType::Permission),
            ("SELECT $1", ErrorType::ParameterNotResolved),
            ("SELEC 1", ErrorType::Parser),
            ("SELECT * FROM nowhere", ErrorType::Catalog),
            ("SELECT nothing", ErrorType::Binder),
        ] {
            let error = connection.prepare_select(sql).err().unwrap_or_else(|| panic!("{sql} was taken"));
            assert_eq!(error.kind, kind, "{sql}: {error}");
        }
    }

    #[test]
    fn errors_keep_their_type() {
        let connection = open();
        for (sql, kind) in [
            ("SELECT error('FLIGHTPATH_RAISED|A|22000|m') FROM range(3)", ErrorType::InvalidInput),
            ("SELECT CAST(s AS INT) FROM (VALUES ('a')) t(s)", ErrorType::Conversion),
            ("SELECT CAST(i + 2147483647 AS INT) FROM range(5) t(i)", ErrorType::Conversion),
            ("SELECT i + 9223372036854775807 FROM range(5) t(i)", ErrorType::OutOfRange),
            ("SELECT * FROM read_parquet('/nowhere.parquet')", ErrorType::Io),
        ] {
            let error = all(&connection, sql).err().unwrap_or_else(|| panic!("{sql} gave rows"));
            assert_eq!(error.kind, kind, "{sql}: {error}");
            assert!(!error.message.starts_with('{'), "{error}");
        }
    }

    #[test]
    fn an_interrupt_ends_a_running_query() {
        let connection = open();
        let interrupter = connection.interrupter();
        let prepared = connection.prepare_select("SELECT count(*) FROM range(100000000000) a(i) WHERE sin(i) > 2").unwrap();
        let thread = std::thread::spawn(move || {
            // The query may not have started yet, and forgets an interrupt before its start.
            for _ in 0..2000 {
                interrupter.interrupt();
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        });
        let outcome = prepared.stream(prepared.schema().unwrap(), || false).and_then(|mut s| s.next_chunk());
        assert_eq!(outcome.unwrap_err().kind, ErrorType::Interrupt);
        drop(thread);
    }
}

//! One query on its own thread and connection: check, bind, prepare, run, and hand on batches as
//! fast as they are taken. Never holds more of a result than one batch and the channel's few.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use flightpath_proto::v1::{FileBinding, SqlOrigin, WorkerTicket};
use flightpath_types::{Error, ErrorKind, Result};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::bindings::{self, MEMORY, Paths, TEMP};
use crate::cancel::{Cancel, Reason};
use crate::duck::{Connection, DuckError, ErrorType, Prepared, RowStream};
use crate::error;
use crate::instance::{self, Instance, Instances};
use crate::type_text::{quote_name, quote_text};

/// A batch is handed on when it has this many rows or bytes, or has been gathered for this long.
const BATCH_ROWS: usize = 64 * 1024;
const BATCH_BYTES: usize = 2 << 20;
const BATCH_GATHER_MAX: Duration = Duration::from_millis(50);

/// What a query's thread sends. A query that ends without `End` has failed.
pub enum Output {
    Schema(SchemaRef),
    Batch(RecordBatch),
    End(Ended),
    Failed(Error),
}

/// A result that is whole.
pub struct Ended {
    pub rows: u64,
    /// The most that the query was seen to hold, in bytes, where that can be told.
    pub memory_bytes_peak: Option<u64>,
    pub read_bytes: Option<u64>,
}

pub struct Query {
    pub ticket: WorkerTicket,
    pub cancel: Arc<Cancel>,
    pub instances: Arc<Instances>,
    /// Prepare only: the schema and no rows.
    pub describe: bool,
}

/// Where a query's outputs go.
pub struct Outlet {
    pub sender: mpsc::Sender<Output>,
    pub runtime: Handle,
}

impl Outlet {
    /// Waits until the reader takes it, unless the query is cancelled meanwhile.
    fn send(&self, output: Output, cancel: &Cancel) -> Result<()> {
        let output = match self.sender.try_send(output) {
            Ok(()) => return Ok(()),
            Err(mpsc::error::TrySendError::Full(output)) => output,
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(Reason::ClientGone.error()),
        };
        self.runtime.block_on(async {
            tokio::select! {
                sent = self.sender.send(output) => sent.map_err(|_| Reason::ClientGone.error()),
                () = cancel.cancelled() => Err(cancel.reason().unwrap_or(Reason::Asked).error()),
            }
        })
    }
}

impl Query {
    pub fn run(self, outlet: &Outlet) {
        let last = match self.execute(outlet) {
            Ok(ended) => Output::End(ended),
            // DuckDB's answer to an interrupt says nothing about why.
            Err(error) => Output::Failed(self.cancel.reason().map_or(error, Reason::error)),
        };
        // The reader leaves once it has the last word, which is no reason to interrupt anything.
        self.cancel.detach();
        // Waits for a reader that is behind. One that is gone learns nothing from this, and one
        // whose query was cancelled meanwhile learns the reason from the flag.
        let _ = outlet.send(last, &self.cancel);
        self.cancel.finish();
    }

    fn execute(&self, outlet: &Outlet) -> Result<Ended> {
        self.cancel.check()?;
        let (instance, private) = match self.ticket.origin() {
            SqlOrigin::User => (self.instances.private()?, true),
            SqlOrigin::Compiled => (self.instances.shared()?, false),
            SqlOrigin::Unspecified => return Err(Error::invalid("the ticket doesn't say where its SQL comes from")),
        };
        let outcome = self.execute_on(&instance, private, outlet);
        // With its connection closed nothing of the query runs any more: what follows is tidying up.
        self.cancel.detach();
        drop(instance);
        if private && outcome.is_ok() {
            // After the rows are out, so that nobody waits for it.
            self.instances.refill();
        }
        outcome
    }

    /// Closes its connection in the end, which waits for whatever of the query DuckDB's own threads still run.
    fn execute_on(&self, instance: &Arc<Instance>, private: bool, outlet: &Outlet) -> Result<Ended> {
        let connection = self.connect(instance)?;
        let ended = if private {
            self.set_up_private(instance, &connection)?;
            self.select(instance, &connection, &self.ticket.sql, outlet)?
        } else {
            let sql = self.bind_shared(instance, &connection)?;
            self.select(instance, &connection, &sql, outlet)?
        };
        // A result that was read to its end leaves nothing running.
        self.cancel.detach();
        Ok(ended)
    }

    fn connect(&self, instance: &Instance) -> Result<Connection> {
        let connection = instance.connect().map_err(|e| self.failed(instance, &e))?;
        self.cancel.attach(connection.interrupter());
        self.cancel.check()?;
        Ok(connection)
    }

    /// Checks compiled SQL and puts its relations in front of it.
    fn bind_shared(&self, instance: &Instance, connection: &Connection) -> Result<String> {
        let sql = &self.ticket.sql;
        let relations: HashSet<&str> = self.ticket.tables.iter().map(|t| t.name.as_str()).collect();
        let checked = self.instances.checks().get_or_check(sql, &relations, || self.parse_tree(instance, connection))?;
        let mut definitions = Vec::with_capacity(self.ticket.tables.len());
        for (index, table) in self.ticket.tables.iter().enumerate() {
            self.cancel.check()?;
            let select = bindings::relation(connection, table, index, TEMP, Paths::Escaped, &self.cancel).map_err(|e| self.explain(e))?;
            definitions.push((quote_name(&table.name), select));
        }
        if definitions.is_empty() {
            return Ok(sql.clone());
        }
        // In one WITH, the files are bound once, where a view binds them when made and when used.
        let ctes: Vec<String> = definitions.iter().map(|(name, select)| format!("{name} AS NOT MATERIALIZED ({select})")).collect();
        let ctes = ctes.join(", ");
        if !checked.has_ctes {
            return Ok(format!("WITH {ctes} {sql}"));
        }
        if let Some(rest) = sql.strip_prefix("WITH ")
            && !rest.trim_start().to_ascii_uppercase().starts_with("RECURSIVE")
        {
            return Ok(format!("WITH {ctes}, {rest}"));
        }
        for (name, select) in &definitions {
            connection.execute(&format!("CREATE TEMP VIEW {name} AS {select}")).map_err(|e| self.failed(instance, &e))?;
        }
        Ok(sql.clone())
    }

    /// A private instance holds its relations under the users' own names, and nothing else.
    fn set_up_private(&self, instance: &Instance, connection: &Connection) -> Result<()> {
        let failed = |e: DuckError| self.failed(instance, &e);
        let mut made = HashSet::new();
        for (index, table) in self.ticket.tables.iter().enumerate() {
            self.cancel.check()?;
            let select = bindings::relation(connection, table, index, MEMORY, Paths::Literal, &self.cancel).map_err(|e| self.explain(e))?;
            let (catalog, schema) = (or(&table.catalog, "memory"), or(&table.schema, "main"));
            make_schema(connection, &mut made, catalog, schema).map_err(failed)?;
            let name = format!("{}.{}.{}", quote_name(catalog), quote_name(schema), quote_name(&table.name));
            connection.execute(&format!("CREATE VIEW {name} AS {select}")).map_err(failed)?;
        }
        if !self.ticket.default_catalog.is_empty() {
            let (catalog, schema) = (self.ticket.default_catalog.as_str(), or(&self.ticket.default_schema, "main"));
            make_schema(connection, &mut made, catalog, schema).map_err(failed)?;
            connection.execute(&format!("USE {}.{}", quote_name(catalog), quote_name(schema))).map_err(failed)?;
        }
        let paths = self.files().map(|f| f.path.as_str());
        instance::confine(connection, paths).map_err(failed)?;
        // Only SELECTs have a tree: PRAGMA and the like end here.
        let tree = self.parse_tree(instance, connection)?;
        self.check_user_tree(&tree)
    }

    fn check_user_tree(&self, tree: &str) -> Result<()> {
        let value: serde_json::Value = match serde_json::from_str(tree) {
            Ok(value) => value,
            // Nested too deeply for this check, which then only a SELECT can be.
            Err(_) => return Ok(()),
        };
        if value.get("error").and_then(serde_json::Value::as_bool) != Some(true) {
            return Ok(());
        }
        let text = |key: &str| value.get(key).and_then(serde_json::Value::as_str);
        let message = text("error_message").unwrap_or("the text can't be read");
        if text("error_type") == Some("not implemented") {
            return Err(Error::new(ErrorKind::PermissionDenied, "only a SELECT may be sent to DuckDB"));
        }
        Err(Error::invalid(match text("position") {
            Some(position) => format!("{message} (at offset {position})"),
            None => message.to_string(),
        }))
    }

    /// The statement as DuckDB's own parser reads it.
    fn parse_tree(&self, instance: &Instance, connection: &Connection) -> Result<String> {
        let sql = format!("SELECT json_serialize_sql({})", quote_text(&self.ticket.sql));
        let failed = |e: DuckError| self.failed(instance, &e);
        let prepared = connection.prepare_select(&sql).map_err(failed)?;
        let schema = prepared.schema().map_err(failed)?;
        let mut rows = prepared.stream(schema, || self.cancel.reason().is_some()).map_err(failed)?;
        let batch = rows.next_chunk().map_err(failed)?;
        let column = batch.as_ref().and_then(|b| b.column(0).as_any().downcast_ref::<StringArray>());
        match column {
            Some(column) if column.len() == 1 && column.is_valid(0) => Ok(column.value(0).to_string()),
            _ => Err(Error::internal("DuckDB gives no parse tree")),
        }
    }

    fn select(&self, instance: &Arc<Instance>, connection: &Connection, sql: &str, outlet: &Outlet) -> Result<Ended> {
        self.cancel.check()?;
        let failed = |e: DuckError| self.failed(instance, &e);
        let prepared: Prepared<'_> = connection.prepare_select(sql).map_err(failed)?;
        let schema = prepared.schema().map_err(failed)?;
        if self.describe {
            // Its reader leaves with the schema; nothing runs.
            self.cancel.detach();
            outlet.send(Output::Schema(schema), &self.cancel)?;
            return Ok(Ended { rows: 0, memory_bytes_peak: None, read_bytes: None });
        }
        let watched = self.instances.watch(instance);
        let mut rows = 0;
        let streamed = self.stream(&prepared, &schema, outlet, &mut rows);
        match streamed {
            Ok(()) => Ok(Ended { rows, memory_bytes_peak: watched.peak(), read_bytes: watched.read_bytes() }),
            Err(Stopped::Outlet(error)) => Err(error),
            Err(Stopped::Duck(error)) if error.kind == ErrorType::Interrupt && self.cancel.reason().is_none() => {
                Err(self.masked(instance, connection, sql, schema.fields().len()))
            }
            Err(Stopped::Duck(error)) => Err(failed(error)),
        }
    }

    fn stream(&self, prepared: &Prepared<'_>, schema: &SchemaRef, outlet: &Outlet, count: &mut u64) -> std::result::Result<(), Stopped> {
        let mut rows = prepared.stream(schema.clone(), || self.cancel.reason().is_some()).map_err(Stopped::Duck)?;
        // The first batch before the schema: an error before any row is then an error of the call.
        let mut next = gather(&mut rows, schema).map_err(Stopped::Duck)?;
        outlet.send(Output::Schema(schema.clone()), &self.cancel).map_err(Stopped::Outlet)?;
        while let Some(batch) = next {
            *count += batch.num_rows() as u64;
            outlet.send(Output::Batch(batch), &self.cancel).map_err(Stopped::Outlet)?;
            next = gather(&mut rows, schema).map_err(Stopped::Duck)?;
        }
        Ok(())
    }

    /// In mid-stream DuckDB may report the interrupt with which one of its threads stops the others
    /// in place of that thread's error. The same rows without a stream raise the error itself.
    fn masked(&self, instance: &Instance, connection: &Connection, sql: &str, columns: usize) -> Error {
        let names: Vec<String> = (0..columns).map(|n| format!("c{n}")).collect();
        let names = names.join(", ");
        let digest = format!("SELECT bit_xor(hash({names})) AS h FROM ({sql}) t({names})");
        let outcome = connection.prepare_select(&digest).and_then(|prepared| {
            let schema = prepared.schema()?;
            prepared.stream(schema, || self.cancel.reason().is_some())?.next_chunk()
        });
        match outcome {
            Err(error) => self.failed(instance, &error),
            Ok(_) => Error::internal("DuckDB stopped the query and doesn't say why"),
        }
    }

    fn files(&self) -> impl Iterator<Item = &FileBinding> {
        self.ticket.tables.iter().flat_map(|t| &t.files)
    }

    /// What an error of DuckDB means for this query and its instance.
    fn failed(&self, instance: &Instance, error: &DuckError) -> Error {
        let mut meaning = error::of_duck(error, self.ticket.origin());
        if error::invalidates(error) && !instance.invalidate() {
            meaning = Error::unavailable("another query has invalidated DuckDB's database, which was replaced");
        }
        if (meaning.kind() != ErrorKind::Raised || error.kind != ErrorType::InvalidInput)
            && error::may_be_damage(error)
            && let Some(damage) = error::damage(self.files(), || self.cancel.reason().is_some())
        {
            return damage;
        }
        meaning
    }

    fn explain(&self, error: Error) -> Error {
        self.cancel.reason().map_or(error, Reason::error)
    }
}

/// Why a stream ended early.
enum Stopped {
    Duck(DuckError),
    Outlet(Error),
}

fn or<'a>(value: &'a str, default: &'a str) -> &'a str {
    if value.is_empty() { default } else { value }
}

fn make_schema(
    connection: &Connection,
    made: &mut HashSet<(String, String)>,
    catalog: &str,
    schema: &str,
) -> std::result::Result<(), DuckError> {
    let catalog_key = (catalog.to_lowercase(), String::new());
    if !matches!(catalog_key.0.as_str(), "memory" | "temp" | "system") && made.insert(catalog_key) {
        connection.execute(&format!("ATTACH ':memory:' AS {}", quote_name(catalog)))?;
    }
    if made.insert((catalog.to_lowercase(), schema.to_lowercase())) {
        connection.execute(&format!("CREATE SCHEMA IF NOT EXISTS {}.{}", quote_name(catalog), quote_name(schema)))?;
    }
    Ok(())
}

/// Puts DuckDB's small chunks together; `None` at the end.
fn gather(rows: &mut RowStream<'_>, schema: &SchemaRef) -> std::result::Result<Option<RecordBatch>, DuckError> {
    let mut chunks = Vec::new();
    let (mut count, mut bytes) = (0, 0);
    let mut opened = None;
    while let Some(chunk) = rows.next_chunk()? {
        count += chunk.num_rows();
        bytes += chunk.get_array_memory_size();
        chunks.push(chunk);
        let opened = *opened.get_or_insert_with(Instant::now);
        if count >= BATCH_ROWS || bytes >= BATCH_BYTES || opened.elapsed() >= BATCH_GATHER_MAX {
            break;
        }
    }
    match chunks.len() {
        0 => Ok(None),
        1 => Ok(chunks.pop()),
        _ => concat_batches(schema, &chunks)
            .map(Some)
            .map_err(|e| DuckError::new(ErrorType::ObjectSize, format!("a batch of the result can't be put together: {e}"))),
    }
}

//! Statements: from a command to the pipeline's port, and from its answers to FlightInfo, ticket,
//! schema and prepared statement. No SQL is looked at here.

use std::time::SystemTime;

use arrow::array::AsArray;
use arrow::compute::sum;
use arrow::datatypes::{Int64Type, Schema};
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::sql::{CommandStatementQuery, ProstMessageExt, TicketStatementQuery};
use arrow_flight::{FlightDescriptor, FlightEndpoint, FlightInfo, IpcMessage, SchemaAsIpc, Ticket};
use bytes::Bytes;
use datafusion::common::ScalarValue;
use flightpath_pipeline::{Request, Submitted};
use flightpath_types::{Error, ErrorKind, QueryId, Result};
use futures::StreamExt;
use prost::Message;

use crate::door::{Caller, Door};
use crate::messages::PreparedStatementResult;
use crate::prepared::StatementId;
use crate::sign::{Purpose, fixed};
use crate::wire;

/// A statement's text with what was bound to it.
pub(crate) struct Bound {
    pub text: String,
    pub params: Option<Vec<ScalarValue>>,
    /// Parameters that a prepared statement is known to have.
    parameters: u16,
    /// The prepared statement that it is, and the trace that it was prepared in.
    prepared: Option<(StatementId, String)>,
}

impl Bound {
    pub fn text_only(door: &Door, text: String, transaction_id: Option<&Bytes>) -> Result<Self> {
        refuse_transaction(transaction_id)?;
        let limit = door.config.limits.statement_bytes;
        if text.len() > limit {
            let message = format!("the statement has {} MB; at most {} MB are taken", text.len() >> 20, limit >> 20);
            return Err(Error::new(ErrorKind::ResourceExhausted, message));
        }
        Ok(Self { text, params: None, parameters: 0, prepared: None })
    }

    pub fn of_query(door: &Door, command: CommandStatementQuery) -> Result<Self> {
        Self::text_only(door, command.query, command.transaction_id.as_ref())
    }

    pub fn of_handle(door: &Door, caller: &Caller, handle: &[u8]) -> Result<Self> {
        let statement = door.prepared.open(&caller.principal, handle)?;
        let prepared = statement.trace.map(|trace| (statement.id, trace));
        Ok(Self { text: statement.text.to_string(), params: statement.params, parameters: statement.parameters, prepared })
    }

    /// To run, every parameter needs a value.
    fn require_values(&self) -> Result<()> {
        if self.params.is_none() && self.parameters > 0 {
            return Err(Error::invalid(format!("the statement has {} parameters and no values are bound", self.parameters)));
        }
        Ok(())
    }

    /// A request to run it. A client that prepares first and has no trace of its own gets one trace for
    /// both; later runs of the statement have their own, linked to where it was prepared.
    fn into_run(mut self, door: &Door, caller: &Caller) -> Request {
        let prepared = self.prepared.take();
        let mut request = self.into_request(caller);
        if let Some((id, trace)) = prepared {
            match request.traceparent {
                None if door.prepared.is_first_run(id) => request.traceparent = Some(trace),
                _ => request.prepared_in = Some(trace),
            }
        }
        request
    }

    fn into_request(self, caller: &Caller) -> Request {
        Request {
            text: self.text,
            params: self.params,
            session: caller.session.clone(),
            settings: caller.settings.clone(),
            token: caller.token.clone(),
            deadline: caller.deadline(),
            traceparent: caller.traceparent.clone(),
            prepared_in: None,
        }
    }
}

/// Plans, decides and registers; the answer holds one endpoint, and no location: "where you asked".
pub(crate) async fn flight_info(door: &Door, caller: &Caller, bound: Bound, descriptor: FlightDescriptor) -> Result<FlightInfo> {
    bound.require_values()?;
    let submitted = door.queries.submit(bound.into_run(door, caller)).await?;
    let schema = wire::result_schema(&submitted.schema);
    let ticket = TicketStatementQuery { statement_handle: ticket(door, caller, submitted.query_id) };
    let endpoint = endpoint(door, ticket.as_any().encode_to_vec());
    Ok(FlightInfo {
        ordered: submitted.ordered,
        app_metadata: app_metadata(&submitted),
        ..info(schema_bytes(&schema)?, descriptor, endpoint)
    })
}

/// FlightInfo of a metadata command: its ticket is the command itself.
pub(crate) fn metadata_info(door: &Door, schema: &Schema, descriptor: FlightDescriptor) -> Result<FlightInfo> {
    let endpoint = endpoint(door, descriptor.cmd.to_vec());
    Ok(info(schema_bytes(schema)?, descriptor, endpoint))
}

/// The schema alone, without registering anything.
pub(crate) async fn schema_of(door: &Door, caller: &Caller, bound: Bound) -> Result<Bytes> {
    let prepared = door.queries.prepare(&bound.into_request(caller)).await?;
    schema_bytes(&wire::result_schema(&prepared.schema))
}

/// JDBC tells a query from an update by `dataset_schema`: empty means update.
pub(crate) async fn prepare(door: &Door, caller: &Caller, bound: Bound) -> Result<PreparedStatementResult> {
    let request = bound.into_request(caller);
    let prepared = door.queries.prepare(&request).await?;
    let parameters = u16::try_from(prepared.parameters.fields().len())
        .map_err(|_| Error::invalid(format!("a statement can have at most {} parameters", u16::MAX)))?;
    let handle = door.prepared.create(&caller.principal, &request.text, parameters, prepared.trace.as_deref());
    let dataset_schema = if prepared.is_query { schema_bytes(&wire::result_schema(&prepared.schema))? } else { Bytes::new() };
    Ok(PreparedStatementResult {
        prepared_statement_handle: handle,
        dataset_schema,
        parameter_schema: schema_bytes(&wire::result_schema(&prepared.parameters))?,
        is_update: Some(!prepared.is_query),
    })
}

/// How the count of changed rows is named in the answer to a statement that changes data.
const COUNT_COLUMN: &str = "num_affected_rows";
/// Flight SQL's count of a statement that doesn't tell.
const UNKNOWN_COUNT: i64 = -1;

/// Runs a statement that changes data or the session; everything else is refused. Returns the count
/// of changed rows.
pub(crate) async fn update(door: &Door, caller: &Caller, bound: Bound) -> Result<i64> {
    bound.require_values()?;
    let request = bound.into_run(door, caller);
    let prepared = door.queries.prepare(&request).await?;
    if prepared.is_query && !prepared.changes_session {
        return Err(Error::invalid("this statement returns rows: execute it as a query, not as an update"));
    }
    let submitted = door.queries.submit(request).await?;
    let mut result = door.queries.fetch(submitted.query_id, &caller.principal, caller.deadline()).await?;
    let mut count: Option<i64> = None;
    while let Some(batch) = result.batches.next().await {
        let batch = batch?;
        let counted = batch.column_by_name(COUNT_COLUMN).and_then(|column| sum(column.as_primitive_opt::<Int64Type>()?));
        count = counted.map(|rows| count.unwrap_or(0).saturating_add(rows)).or(count);
    }
    Ok(if prepared.changes_session { 0 } else { count.unwrap_or(UNKNOWN_COUNT) })
}

/// The query that a ticket stands for, and until when it does.
pub(crate) fn open_ticket(door: &Door, caller: &Caller, handle: &[u8]) -> Result<(QueryId, SystemTime)> {
    let opened = door.signer.open(Purpose::Ticket, handle)?;
    let payload = opened.payload_of(&caller.principal)?;
    if payload.len() != 16 {
        return Err(Error::internal("a signed ticket has an unexpected form"));
    }
    Ok((QueryId::from_bytes(fixed(payload)), opened.expires))
}

fn ticket(door: &Door, caller: &Caller, query_id: QueryId) -> Bytes {
    door.signer.seal(Purpose::Ticket, &caller.principal, door.config.lifetimes.ticket, query_id.as_bytes()).into()
}

/// The same query's ticket with a new expiry.
pub(crate) fn renewed(door: &Door, caller: &Caller, query_id: QueryId, app_metadata: Bytes) -> FlightEndpoint {
    let ticket = TicketStatementQuery { statement_handle: ticket(door, caller, query_id) };
    FlightEndpoint { app_metadata, ..endpoint(door, ticket.as_any().encode_to_vec()) }
}

pub(crate) fn refuse_transaction(transaction_id: Option<&Bytes>) -> Result<()> {
    match transaction_id {
        Some(id) if !id.is_empty() => Err(Error::invalid("there are no transactions here: leave the transaction id out (autocommit)")),
        _ => Ok(()),
    }
}

/// The schema as Flight's messages hold it.
pub(crate) fn schema_bytes(schema: &Schema) -> Result<Bytes> {
    let message: std::result::Result<IpcMessage, _> = SchemaAsIpc::new(schema, &IpcWriteOptions::default()).try_into();
    message.map(|IpcMessage(bytes)| bytes).map_err(|e| Error::internal(format!("encoding a schema: {e}")))
}

fn endpoint(door: &Door, ticket: Vec<u8>) -> FlightEndpoint {
    FlightEndpoint {
        ticket: Some(Ticket { ticket: ticket.into() }),
        location: Vec::new(),
        expiration_time: Some((SystemTime::now() + door.config.lifetimes.ticket).into()),
        app_metadata: Bytes::new(),
    }
}

fn info(schema: Bytes, descriptor: FlightDescriptor, endpoint: FlightEndpoint) -> FlightInfo {
    FlightInfo {
        schema,
        flight_descriptor: Some(descriptor),
        endpoint: vec![endpoint],
        // Not known before the query ran.
        total_records: -1,
        total_bytes: -1,
        ordered: true,
        app_metadata: Bytes::new(),
    }
}

fn app_metadata(submitted: &Submitted) -> Bytes {
    let json = serde_json::json!({
        "query_id": submitted.query_id.to_string(),
        "engine": submitted.engine,
        "reason": submitted.reason,
        "predicted_ms": submitted.predicted_ms,
        "predicted_usd": submitted.predicted_usd,
    });
    json.to_string().into()
}

//! DoPut: binding parameters, and the update commands, most of which are refused. An update is
//! answered without draining its stream: some clients read the answer before they half-close.

use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::sql::{Any, Command, CommandPreparedStatementUpdate, DoPutPreparedStatementResult, DoPutUpdateResult};
use arrow_flight::{FlightData, PutResult};
use bytes::Bytes;
use datafusion::common::ScalarValue;
use flightpath_types::{Error, ErrorKind, Result};
use futures::{Stream, StreamExt};
use prost::Message;
use tonic::{Code, Status};

use crate::actions::unsupported;
use crate::door::{Caller, Door};
use crate::gate::too_large;
use crate::params;
use crate::statement::{self, Bound};
use crate::status::status_of;

/// Runs one DoPut to its single answer.
pub(crate) async fn run<S>(door: &Door, caller: &Caller, mut messages: S) -> Result<PutResult, Status>
where
    S: Stream<Item = Result<FlightData, Status>> + Send + Unpin + 'static,
{
    let first = match messages.next().await {
        Some(Ok(first)) => first,
        Some(Err(status)) => return Err(readable(door, status)),
        None => return Err(status_of(&Error::invalid("DoPut got no message: the first one names the command"))),
    };
    let command = command_of(&first).map_err(|e| status_of(&e))?;
    let app_metadata = match command {
        Command::CommandStatementUpdate(command) => {
            let bound = Bound::text_only(door, command.query, command.transaction_id.as_ref()).map_err(|e| status_of(&e))?;
            count(statement::update(door, caller, bound).await.map_err(|e| status_of(&e))?)
        }
        Command::CommandPreparedStatementQuery(command) => {
            let handle = bind(door, caller, &command.prepared_statement_handle, first, messages).await?;
            // Always echoed: one client library takes it without looking whether it is there.
            DoPutPreparedStatementResult { prepared_statement_handle: Some(handle) }.encode_to_vec()
        }
        Command::CommandPreparedStatementUpdate(CommandPreparedStatementUpdate { prepared_statement_handle }) => {
            count(update(door, caller, &prepared_statement_handle, first, messages).await?)
        }
        Command::CommandStatementIngest(_) => return Err(status_of(&unsupported("bulk ingestion and other writes"))),
        Command::CommandStatementSubstraitPlan(_) => return Err(status_of(&unsupported("Substrait plans"))),
        other => return Err(status_of(&Error::invalid(format!("DoPut doesn't take {}", other.type_url())))),
    };
    Ok(PutResult { app_metadata: app_metadata.into() })
}

fn command_of(first: &FlightData) -> Result<Command> {
    let descriptor = first.flight_descriptor.as_ref().ok_or_else(|| Error::invalid("the first message of DoPut has no descriptor"))?;
    let any = Any::decode(descriptor.cmd.clone()).map_err(|_| Error::invalid("the descriptor holds no Flight SQL command"))?;
    Command::try_from(any).map_err(|e| Error::invalid(format!("the descriptor's command can't be read: {e}")))
}

fn count(record_count: i64) -> Vec<u8> {
    DoPutUpdateResult { record_count }.encode_to_vec()
}

/// Rows of values that one call may carry: each is a statement of its own on the warehouse.
const UPDATES_MAX: usize = 1_000;

/// Binds the stream's one row, or nothing when it has no columns.
async fn bind<S>(door: &Door, caller: &Caller, handle: &[u8], first: FlightData, rest: S) -> Result<Bytes, Status>
where
    S: Stream<Item = Result<FlightData, Status>> + Send + Unpin + 'static,
{
    let rows = read_rows(door, first, rest, 1).await?;
    let row = rows.and_then(|mut rows| rows.pop());
    door.prepared.bind(&caller.principal, handle, row).map_err(|e| status_of(&e))
}

/// Runs a statement once for each row of values, one after the other, and adds up what they changed.
/// Where one fails the ones before it have been carried out: the error says how many.
async fn update<S>(door: &Door, caller: &Caller, handle: &[u8], first: FlightData, rest: S) -> Result<i64, Status>
where
    S: Stream<Item = Result<FlightData, Status>> + Send + Unpin + 'static,
{
    let Some(rows) = read_rows(door, first, rest, UPDATES_MAX).await? else {
        let handle = door.prepared.bind(&caller.principal, handle, None).map_err(|e| status_of(&e))?;
        let bound = Bound::of_handle(door, caller, &handle).map_err(|e| status_of(&e))?;
        return statement::update(door, caller, bound).await.map_err(|e| status_of(&e));
    };
    let (mut changed, total) = (0_i64, rows.len());
    for (done, row) in rows.into_iter().enumerate() {
        let one = async {
            let handle = door.prepared.bind(&caller.principal, handle, Some(row))?;
            statement::update(door, caller, Bound::of_handle(door, caller, &handle)?).await
        };
        let count = one.await.map_err(|error| {
            status_of(&if done > 0 { error.context(format!("{done} of {total} rows of values have been carried out")) } else { error })
        })?;
        // Less than zero: it isn't known how many.
        changed = if count < 0 || changed < 0 { -1 } else { changed.saturating_add(count) };
    }
    Ok(changed)
}

/// At most `most` rows of values; nothing where the statement has no parameters.
async fn read_rows<S>(door: &Door, first: FlightData, rest: S, most: usize) -> Result<Option<Vec<Vec<ScalarValue>>>, Status>
where
    S: Stream<Item = Result<FlightData, Status>> + Send + Unpin + 'static,
{
    // No schema at all: a client without parameters.
    if first.data_header.is_empty() {
        return Ok(None);
    }
    // No columns: none of them will follow, and some clients wait for the answer before they end.
    if arrow::datatypes::Schema::try_from(&first).is_ok_and(|schema| schema.fields().is_empty()) {
        return Ok(None);
    }
    let limit = door.config.limits.parameter_bytes;
    let mut seen = 0;
    let messages = futures::stream::iter([Ok(first)]).chain(rest).map(move |message| {
        let message = message?;
        seen += message.data_body.len();
        if seen > limit {
            let text = format!("parameters have more than {} MB", limit >> 20);
            return Err(status_of(&Error::new(ErrorKind::ResourceExhausted, text)));
        }
        Ok(message)
    });
    let mut batches = FlightRecordBatchStream::new_from_flight_data(messages.map(|m| m.map_err(|s| FlightError::Tonic(Box::new(s)))));
    let mut rows = Vec::new();
    while let Some(batch) = batches.next().await {
        let batch = batch.map_err(|error| match error {
            FlightError::Tonic(status) => readable(door, *status),
            other => status_of(&Error::invalid(format!("parameters can't be read: {other}"))),
        })?;
        if rows.len() + batch.num_rows() > most {
            let message = match most {
                1 => "one row of parameters can be bound to a query, not several: execute it once per row".to_string(),
                most => format!("at most {most} rows of parameters are taken at once; send fewer, or insert from a query"),
            };
            return Err(status_of(&Error::invalid(message)));
        }
        for row in 0..batch.num_rows() {
            rows.push(params::row_of(&batch.slice(row, 1)).map_err(|e| status_of(&e))?);
        }
    }
    if rows.is_empty() {
        return Err(status_of(&Error::invalid("parameters have columns but no row")));
    }
    Ok(Some(rows))
}

/// tonic's refusal of a message over the limit, in our words.
fn readable(door: &Door, status: Status) -> Status {
    if status.code() == Code::OutOfRange { too_large(door.config.limits.request_bytes) } else { status }
}

//! DoAction: prepared statements, session options, cancelling. Flight's own actions carry bare
//! messages and Flight SQL's carry `Any`; clients differ in what they send, so both are read, and
//! an answer comes back in the form of the question.

use std::collections::HashMap;

use arrow_flight::sql::{
    ActionCancelQueryRequest, ActionCancelQueryResult, ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, Any,
    Command, ProstMessageExt, TicketStatementQuery,
};
use arrow_flight::{
    Action, ActionType, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightEndpoint, FlightInfo,
    RenewFlightEndpointRequest, Ticket,
};
use bytes::Bytes;
use flightpath_types::{Error, ErrorKind, Result, Session};
use prost::Message;

use crate::door::{Caller, Door, SessionOrigin};
use crate::messages::{
    CloseSessionResult, CloseSessionStatus, GetSessionOptionsResult, OptionValue, PREPARED_STATEMENT_RESULT_URL, SessionOptionValue,
    SetSessionOptionError, SetSessionOptionErrorValue, SetSessionOptionsRequest, SetSessionOptionsResult,
};
use crate::statement::{self, Bound};

const ANY_PREFIX: &str = "type.googleapis.com/";

/// What an action gives back.
pub(crate) struct Answer {
    /// No message at all for actions without a result.
    pub body: Option<Bytes>,
    pub closes_session: bool,
}

impl Answer {
    fn message(message: &impl Message) -> Self {
        Self { body: Some(message.encode_to_vec().into()), closes_session: false }
    }

    fn any(type_url: &str, message: &impl Message) -> Self {
        Self::message(&Any { type_url: type_url.to_string(), value: message.encode_to_vec().into() })
    }

    fn nothing() -> Self {
        Self { body: None, closes_session: false }
    }
}

pub(crate) fn list() -> Vec<ActionType> {
    let action = |name: &str, description: &str| ActionType { r#type: name.into(), description: description.into() };
    vec![
        action("CreatePreparedStatement", "ActionCreatePreparedStatementRequest -> ActionCreatePreparedStatementResult"),
        action("ClosePreparedStatement", "ActionClosePreparedStatementRequest -> nothing"),
        action("SetSessionOptions", "SetSessionOptionsRequest -> SetSessionOptionsResult"),
        action("GetSessionOptions", "GetSessionOptionsRequest -> GetSessionOptionsResult"),
        action("CloseSession", "CloseSessionRequest -> CloseSessionResult"),
        action("CancelFlightInfo", "CancelFlightInfoRequest -> CancelFlightInfoResult"),
        action("CancelQuery", "ActionCancelQueryRequest -> ActionCancelQueryResult"),
        action("RenewFlightEndpoint", "RenewFlightEndpointRequest -> FlightEndpoint"),
    ]
}

pub(crate) async fn run(door: &Door, caller: &Caller, action: Action) -> Result<Answer> {
    let body = action.body;
    match action.r#type.as_str() {
        "CreatePreparedStatement" => {
            let (request, _): (ActionCreatePreparedStatementRequest, _) = read(&body)?;
            let bound = Bound::text_only(door, request.query, request.transaction_id.as_ref())?;
            Ok(Answer::any(PREPARED_STATEMENT_RESULT_URL, &statement::prepare(door, caller, bound).await?))
        }
        "ClosePreparedStatement" => {
            let (request, _): (ActionClosePreparedStatementRequest, _) = read(&body)?;
            door.prepared.close(&caller.principal, &request.prepared_statement_handle)?;
            Ok(Answer::nothing())
        }
        "SetSessionOptions" => Ok(Answer::message(&set_options(door, caller, read(&body)?.0).await)),
        "GetSessionOptions" => Ok(Answer::message(&get_options(caller))),
        "CloseSession" => {
            let for_good = matches!(caller.session_origin, SessionOrigin::Cookie | SessionOrigin::IssuedToken);
            door.sessions.close(caller.session_key, for_good);
            let closed = CloseSessionResult { status: CloseSessionStatus::Closed.into() };
            Ok(Answer { closes_session: true, ..Answer::message(&closed) })
        }
        "CancelFlightInfo" => {
            let (request, _): (CancelFlightInfoRequest, _) = read(&body)?;
            let info = request.info.ok_or_else(|| Error::invalid("CancelFlightInfo names no FlightInfo"))?;
            let status = if cancel(door, caller, &info).await? { CancelStatus::Cancelled } else { CancelStatus::NotCancellable };
            Ok(Answer::message(&CancelFlightInfoResult { status: status.into() }))
        }
        "CancelQuery" => cancel_query(door, caller, &body).await,
        "RenewFlightEndpoint" => {
            let (request, _): (RenewFlightEndpointRequest, _) = read(&body)?;
            let endpoint = request.endpoint.ok_or_else(|| Error::invalid("RenewFlightEndpoint names no endpoint"))?;
            Ok(Answer::message(&renew(door, caller, endpoint).await?))
        }
        "BeginTransaction" | "EndTransaction" | "BeginSavepoint" | "EndSavepoint" => Err(unsupported("transactions and savepoints")),
        "CreatePreparedSubstraitPlan" => Err(unsupported("Substrait plans")),
        other => Err(Error::invalid(format!("unknown action '{other}'; ListActions lists what there is"))),
    }
}

pub(crate) fn unsupported(what: &str) -> Error {
    Error::not_eligible(format!("{what} aren't supported; this server is read-only and every statement stands alone"))
}

/// A message, bare or in an `Any`, and whether it was in one.
fn read<M: Message + Default>(body: &[u8]) -> Result<(M, bool)> {
    // Bare messages here never open with a string of that form in field 1.
    if let Ok(any) = Any::decode(body)
        && any.type_url.starts_with(ANY_PREFIX)
    {
        return Ok((decode(&any.value)?, true));
    }
    Ok((decode(body)?, false))
}

fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M> {
    M::decode(bytes).map_err(|e| Error::invalid(format!("the action's body can't be read: {e}")))
}

async fn cancel_query(door: &Door, caller: &Caller, body: &[u8]) -> Result<Answer> {
    let (request, in_any): (ActionCancelQueryRequest, bool) = read(body)?;
    let info: FlightInfo = decode(&request.info)?;
    // CANCELLED is 1 and NOT_CANCELLABLE 3, as in CancelStatus.
    let status = if cancel(door, caller, &info).await? { CancelStatus::Cancelled } else { CancelStatus::NotCancellable };
    let result = ActionCancelQueryResult { result: status.into() };
    Ok(if in_any { Answer::any(ActionCancelQueryResult::type_url(), &result) } else { Answer::message(&result) })
}

/// Cancels every query that the info's endpoints stand for.
async fn cancel(door: &Door, caller: &Caller, info: &FlightInfo) -> Result<bool> {
    let tickets: Vec<&Ticket> = info.endpoint.iter().filter_map(|e| e.ticket.as_ref()).collect();
    if tickets.is_empty() {
        return Err(Error::invalid("the FlightInfo to cancel has no endpoint with a ticket"));
    }
    let mut any = false;
    for ticket in tickets {
        let Some(handle) = statement_handle(ticket)? else { continue };
        let (query_id, _) = statement::open_ticket(door, caller, &handle)?;
        any |= door.queries.cancel(query_id, &caller.principal).await?;
    }
    Ok(any)
}

async fn renew(door: &Door, caller: &Caller, endpoint: FlightEndpoint) -> Result<FlightEndpoint> {
    let ticket = endpoint.ticket.as_ref().ok_or_else(|| Error::invalid("the endpoint to renew has no ticket"))?;
    match statement_handle(ticket)? {
        Some(handle) => {
            let (query_id, _) = statement::open_ticket(door, caller, &handle)?;
            door.queries.renew(query_id, &caller.principal).await?;
            Ok(statement::renewed(door, caller, query_id, endpoint.app_metadata))
        }
        // A metadata command: it never expires.
        None => Ok(endpoint),
    }
}

/// The signed part of a query's ticket; `None` for metadata commands.
fn statement_handle(ticket: &Ticket) -> Result<Option<Bytes>> {
    let unreadable = || Error::invalid("the ticket isn't one of this server's");
    let any = Any::decode(ticket.ticket.clone()).map_err(|_| unreadable())?;
    match Command::try_from(any).map_err(|_| unreadable())? {
        Command::TicketStatementQuery(TicketStatementQuery { statement_handle }) => Ok(Some(statement_handle)),
        command if crate::metadata::schema_of(&command).is_some() => Ok(None),
        _ => Err(unreadable()),
    }
}

/// Each option by itself: what can be set is, what can't is named in the answer.
async fn set_options(door: &Door, caller: &Caller, request: SetSessionOptionsRequest) -> SetSessionOptionsResult {
    let mut options: Vec<(String, SessionOptionValue)> = request.session_options.into_iter().collect();
    // By name, so that `catalog` holds when `schema` is checked.
    options.sort_by(|a, b| a.0.cmp(&b.0));
    let mut errors = HashMap::new();
    for (name, value) in options {
        if let Err(value) = set_option(door, caller, &name, value).await {
            errors.insert(name, SetSessionOptionError { value: value.into() });
        }
    }
    SetSessionOptionsResult { errors }
}

async fn set_option(
    door: &Door,
    caller: &Caller,
    name: &str,
    value: SessionOptionValue,
) -> std::result::Result<(), SetSessionOptionErrorValue> {
    let text = option_text(value)?;
    if caller.settings.get(name).is_none() {
        return Err(SetSessionOptionErrorValue::InvalidName);
    }
    let settings = caller.session.settings();
    // Checked as a whole before any of it is stored.
    let outcome = async {
        settings.clone().set(name, &text)?;
        let assignments = door.queries.resolve_setting(&settings, name, &text).await?;
        assignments.iter().try_for_each(|(name, value)| caller.session.set(name, value))
    };
    outcome.await.map_err(|error: Error| {
        tracing::debug!(option = %name, error = %error, "a session option was refused");
        match error.kind() {
            ErrorKind::InvalidArgument | ErrorKind::NotFound => SetSessionOptionErrorValue::InvalidValue,
            ErrorKind::NotEligible
            | ErrorKind::PermissionDenied
            | ErrorKind::Unauthenticated
            | ErrorKind::Raised
            | ErrorKind::ResourceExhausted
            | ErrorKind::DeadlineExceeded
            | ErrorKind::Cancelled
            | ErrorKind::Unavailable
            | ErrorKind::DataLoss
            | ErrorKind::Internal => SetSessionOptionErrorValue::Error,
        }
    })
}

/// Every setting is text; no value unsets.
fn option_text(value: SessionOptionValue) -> std::result::Result<String, SetSessionOptionErrorValue> {
    match value.option_value {
        None => Ok(String::new()),
        Some(OptionValue::String(text)) => Ok(text),
        Some(OptionValue::Bool(flag)) => Ok(flag.to_string()),
        Some(OptionValue::Int64(number)) => Ok(number.to_string()),
        Some(OptionValue::Double(number)) => Ok(number.to_string()),
        Some(OptionValue::StringList(_)) => Err(SetSessionOptionErrorValue::InvalidValue),
    }
}

/// Every setting that has a value.
fn get_options(caller: &Caller) -> GetSessionOptionsResult {
    let session = caller.session.settings();
    let value = |text: String| SessionOptionValue { option_value: Some(OptionValue::String(text)) };
    let options = Session::NAMES.iter().filter_map(|name| {
        let text = session.get(name).filter(|text| !text.is_empty())?;
        Some((name.to_string(), value(text)))
    });
    GetSessionOptionsResult { session_options: options.collect() }
}

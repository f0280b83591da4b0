//! Queries, prepared statements, metadata, sessions and cancelling.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Int64Type, Schema};
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{
    ActionCancelQueryRequest, ActionCancelQueryResult, ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest,
    CommandGetCatalogs, CommandGetDbSchemas, CommandGetExportedKeys, CommandGetPrimaryKeys, CommandGetTables, CommandGetXdbcTypeInfo,
    CommandPreparedStatementQuery, CommandPreparedStatementUpdate, CommandStatementIngest, CommandStatementUpdate,
    DoPutPreparedStatementResult, DoPutUpdateResult, ProstMessageExt, SqlInfo,
};
use arrow_flight::{
    CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightData, FlightDescriptor, FlightEndpoint, PutResult,
    RenewFlightEndpointRequest, SchemaAsIpc, Ticket,
};
use bytes::Bytes;
use flightpath_flight::messages::{
    CloseSessionResult, GetSessionOptionsResult, OptionValue, PreparedStatementResult, SessionOptionValue, SetSessionOptionErrorValue,
    SetSessionOptionsRequest, SetSessionOptionsResult,
};
use flightpath_flight::{Config, Lifetimes, Limits, code_of};
use flightpath_types::ErrorKind;
use futures::TryStreamExt;
use prost::Message;
use tonic::{Code, Request, Status};

use crate::{Client, TestServer, act, command, fetch, info, query, statement, ticket_of, unpack, wait_for, with_header};

fn rows(batches: &[RecordBatch]) -> usize {
    batches.iter().map(RecordBatch::num_rows).sum()
}

#[tokio::test]
async fn a_query_gives_its_decision_its_ticket_and_its_rows() {
    let (server, mut client) = TestServer::open().await;
    let info = info(&mut client, "rows 100000").await.unwrap();
    let decision: serde_json::Value = serde_json::from_slice(&info.app_metadata).unwrap();
    assert_eq!(decision["engine"], "fake");
    assert_eq!(decision["predicted_ms"], 1.5);
    assert!(decision["predicted_usd"].is_null());
    assert!(decision["query_id"].as_str().unwrap().len() == 36 && decision["reason"].is_string());
    assert_eq!((info.total_records, info.total_bytes), (-1, -1));
    assert!(info.endpoint[0].expiration_time.is_some());
    assert_eq!(info.flight_descriptor.clone().unwrap(), statement("rows 100000"));
    assert!(!String::from_utf8_lossy(&ticket_of(&info).ticket).contains("rows"), "no SQL in tickets");
    // A ticket can be replayed.
    for _ in 0..2 {
        let batches = fetch(&mut client, &info).await.unwrap();
        let values: Vec<i64> = batches.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
        assert_eq!(values, (0..100_000).collect::<Vec<i64>>());
    }
    assert_eq!(server.queries.fetched.load(Ordering::SeqCst), 2);
    assert_eq!(server.queries.dropped.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn empty_results_and_views_keep_the_promised_schema() {
    let (_server, mut client) = TestServer::open().await;
    assert_eq!(rows(&query(&mut client, "empty").await.unwrap()), 0);
    let views = query(&mut client, "views").await.unwrap();
    assert_eq!(views[0].column(0).data_type(), &DataType::Utf8);
    assert_eq!(views[0].column(0).as_string::<i32>().value(1), "longer than twelve bytes");
    assert_eq!(views[0].schema().field(0).metadata()["ARROW:FLIGHT:SQL:TYPE_NAME"], "STRING");
}

#[tokio::test]
async fn get_schema_and_poll_answer_as_get_flight_info_does() {
    let (server, mut client) = TestServer::open().await;
    let info = info(&mut client, "SELECT 1").await.unwrap();
    let schema = client.get_schema(statement("SELECT 1")).await.unwrap().into_inner();
    assert_eq!(schema.schema, info.schema);
    let poll = client.poll_flight_info(statement("SELECT 1")).await.unwrap().into_inner();
    assert!(poll.flight_descriptor.is_none(), "complete at once");
    assert_eq!(poll.progress, Some(1.0));
    assert_eq!(rows(&fetch(&mut client, &poll.info.unwrap()).await.unwrap()), 1);
    let tables = client.get_schema(command(&CommandGetTables { include_schema: true, ..Default::default() })).await.unwrap().into_inner();
    let tables: Schema = (&tables).try_into().unwrap();
    assert_eq!(tables.fields().len(), 5);
    assert_eq!(server.queries.fetched.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn every_kind_of_error_has_its_code_before_and_within_a_result() {
    let (_server, mut client) = TestServer::open().await;
    for kind in ErrorKind::ALL {
        let at_once = info(&mut client, &format!("fail {}", kind.as_str())).await.unwrap_err();
        assert_eq!((at_once.code(), at_once.message()), (code_of(kind), "as asked"));
        let later = query(&mut client, &format!("fail later {}", kind.as_str())).await.unwrap_err();
        assert_eq!((later.code(), later.message()), (code_of(kind), "as asked, later"));
    }
    let syntax = info(&mut client, "SELEC").await.unwrap_err();
    assert_eq!(syntax.code(), Code::InvalidArgument);
    assert!(syntax.message().starts_with("[PARSE_SYNTAX_ERROR]") && syntax.message().ends_with("SQLSTATE: 42601"));
}

#[tokio::test]
async fn unreadable_commands_and_tickets_are_refused_and_the_server_lives_on() {
    let (_server, mut client) = TestServer::open().await;
    for cmd in [&b""[..], b"SELECT 1", b"\xff\xff\xff\xff", b"\x0a\x03abc"] {
        let refused = client.get_flight_info(FlightDescriptor::new_cmd(cmd.to_vec())).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        let refused = client.do_get(Ticket { ticket: cmd.to_vec().into() }).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    }
    let path = client.get_flight_info(FlightDescriptor::new_path(vec!["a".into()])).await.unwrap_err();
    assert!(path.message().contains("path"));
    let unsigned = arrow_flight::sql::TicketStatementQuery { statement_handle: Bytes::from_static(b"SELECT 1") };
    let refused = client.do_get(Ticket { ticket: unsigned.as_any().encode_to_vec().into() }).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let mut changed = ticket_of(&info(&mut client, "SELECT 1").await.unwrap()).ticket.to_vec();
    *changed.last_mut().unwrap() ^= 1;
    assert_eq!(client.do_get(Ticket { ticket: changed.into() }).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(client.list_flights(arrow_flight::Criteria::default()).await.unwrap_err().code(), Code::Unimplemented);
    assert_eq!(rows(&query(&mut client, "SELECT 1").await.unwrap()), 1);
}

#[tokio::test]
async fn requests_over_the_limits_are_refused_in_plain_words() {
    let limits = Limits { request_bytes: 1 << 20, statement_bytes: 1 << 19, ..Limits::default() };
    let server = TestServer::start(Config { limits, ..Config::default() }).await;
    let mut client = server.client().await.max_encoding_message_size(16 << 20);
    let long = info(&mut client, &" ".repeat(600_000)).await.unwrap_err();
    assert_eq!(long.code(), Code::ResourceExhausted);
    assert!(long.message().contains("statement"));
    let too_long = info(&mut client, &" ".repeat(2_000_000)).await.unwrap_err();
    assert_eq!(too_long.code(), Code::ResourceExhausted);
    assert!(too_long.message().contains("at most 1 MB"), "{too_long}");
    assert_eq!(rows(&query(&mut client, "SELECT 1").await.unwrap()), 1);
}

async fn prepare(client: &mut Client, text: &str) -> Result<PreparedStatementResult, Status> {
    let request = ActionCreatePreparedStatementRequest { query: text.into(), transaction_id: None };
    let results = act(client, "CreatePreparedStatement", request.as_any().encode_to_vec()).await?;
    Ok(unpack(&results[0]))
}

fn int_row(value: i64) -> RecordBatch {
    RecordBatch::try_from_iter([("anything", Arc::new(Int64Array::from(vec![value])) as ArrayRef)]).unwrap()
}

/// DoPut of batches under a command.
async fn put(client: &mut Client, descriptor: FlightDescriptor, batch: RecordBatch) -> Result<PutResult, Status> {
    let messages: Vec<FlightData> = FlightDataEncoderBuilder::new()
        .with_schema(batch.schema())
        .with_flight_descriptor(Some(descriptor))
        .build(futures::stream::iter([Ok(batch)]))
        .try_collect()
        .await
        .unwrap();
    let results: Vec<PutResult> = client.do_put(futures::stream::iter(messages)).await?.into_inner().try_collect().await?;
    assert_eq!(results.len(), 1);
    Ok(results.into_iter().next().unwrap())
}

async fn run_prepared(client: &mut Client, handle: &Bytes) -> Result<Vec<RecordBatch>, Status> {
    let descriptor = command(&CommandPreparedStatementQuery { prepared_statement_handle: handle.clone() });
    let info = client.get_flight_info(descriptor).await?.into_inner();
    fetch(client, &info).await
}

#[tokio::test]
async fn parameters_are_bound_run_again_and_forgotten_with_their_statement() {
    let (_server, mut client) = TestServer::open().await;
    let prepared = prepare(&mut client, "SELECT ?").await.unwrap();
    assert_eq!(prepared.is_update, Some(false));
    let parameters: Schema = arrow_flight::IpcMessage(prepared.parameter_schema).try_into().unwrap();
    assert_eq!(parameters.fields().len(), 1);
    let original = prepared.prepared_statement_handle;
    let unbound = run_prepared(&mut client, &original).await.unwrap_err();
    assert!(unbound.code() == Code::InvalidArgument && unbound.message().contains("no values"), "{unbound}");
    // Its schema can be had all the same.
    let descriptor = command(&CommandPreparedStatementQuery { prepared_statement_handle: original.clone() });
    client.get_schema(descriptor).await.unwrap();
    for value in [7, 8] {
        let descriptor = command(&CommandPreparedStatementQuery { prepared_statement_handle: original.clone() });
        let put = put(&mut client, descriptor, int_row(value)).await.unwrap();
        let echoed = DoPutPreparedStatementResult::decode(put.app_metadata).unwrap().prepared_statement_handle.unwrap();
        for handle in [&original, &echoed] {
            let batches = run_prepared(&mut client, handle).await.unwrap();
            assert_eq!(batches[0].column(0).as_primitive::<Int64Type>().value(0), value);
        }
    }
    let close = ActionClosePreparedStatementRequest { prepared_statement_handle: original.clone() };
    assert!(act(&mut client, "ClosePreparedStatement", close.as_any().encode_to_vec()).await.unwrap().is_empty());
    assert_eq!(run_prepared(&mut client, &original).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn bindings_that_cannot_be_one_row_are_refused() {
    let (_server, mut client) = TestServer::open().await;
    let handle = prepare(&mut client, "SELECT ?").await.unwrap().prepared_statement_handle;
    let descriptor = command(&CommandPreparedStatementQuery { prepared_statement_handle: handle.clone() });
    let two = RecordBatch::try_from_iter([("p", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef)]).unwrap();
    let refused = put(&mut client, descriptor.clone(), two).await.unwrap_err();
    assert!(refused.code() == Code::InvalidArgument && refused.message().contains("one row"), "{refused}");
    let wide = RecordBatch::try_from_iter(["a", "b"].map(|n| (n, Arc::new(Int64Array::from(vec![1])) as ArrayRef))).unwrap();
    let refused = put(&mut client, descriptor.clone(), wide).await.unwrap_err();
    assert!(refused.code() == Code::InvalidArgument && refused.message().contains("2 values"), "{refused}");
    let none = int_row(1).slice(0, 0);
    assert_eq!(put(&mut client, descriptor.clone(), none).await.unwrap_err().code(), Code::InvalidArgument);
    // No columns: a client without parameters.
    assert!(put(&mut client, descriptor, RecordBatch::new_empty(Arc::new(Schema::empty()))).await.is_ok());
    assert_eq!(run_prepared(&mut client, &handle).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn updates_change_the_session_and_writes_are_refused() {
    let (_server, mut client) = TestServer::open().await;
    let update = |text: &str| command(&CommandStatementUpdate { query: text.into(), transaction_id: None });
    let nothing = || RecordBatch::new_empty(Arc::new(Schema::empty()));
    let done = put(&mut client, update("SET tag = nightly"), nothing()).await.unwrap();
    assert_eq!(DoPutUpdateResult::decode(done.app_metadata).unwrap().record_count, 0);
    assert_eq!(options(&mut client).await["tag"], "nightly");
    let write = put(&mut client, update("INSERT INTO t VALUES (1)"), nothing()).await.unwrap_err();
    assert!(write.code() == Code::Unimplemented && write.message().contains("read-only"), "{write}");
    let rows = put(&mut client, update("SELECT 1"), nothing()).await.unwrap_err();
    assert!(rows.message().contains("as a query"), "{rows}");
    let ingest =
        put(&mut client, command(&CommandStatementIngest { table: "t".into(), ..Default::default() }), int_row(1)).await.unwrap_err();
    assert_eq!(ingest.code(), Code::Unimplemented);

    let prepared = prepare(&mut client, "SET tag = prepared").await.unwrap();
    assert_eq!((prepared.is_update, prepared.dataset_schema.len()), (Some(true), 0));
    let run = command(&CommandPreparedStatementUpdate { prepared_statement_handle: prepared.prepared_statement_handle });
    put(&mut client, run, nothing()).await.unwrap();
    assert_eq!(options(&mut client).await["tag"], "prepared");
    assert_eq!(prepare(&mut client, "INSERT INTO t VALUES (1)").await.unwrap_err().code(), Code::Unimplemented);
    for action in ["BeginTransaction", "EndTransaction", "BeginSavepoint", "EndSavepoint", "CreatePreparedSubstraitPlan"] {
        assert_eq!(act(&mut client, action, Bytes::new()).await.unwrap_err().code(), Code::Unimplemented, "{action}");
    }
}

/// An update is answered while the client's side of the stream is still open.
#[tokio::test]
async fn an_update_is_answered_before_its_stream_ends() {
    let (_server, mut client) = TestServer::open().await;
    let descriptor = command(&CommandStatementUpdate { query: "SET tag = x".into(), transaction_id: None });
    answered_while_open(&mut client, FlightData { flight_descriptor: Some(descriptor), ..Default::default() }).await;
    let handle = prepare(&mut client, "SET tag = y").await.unwrap().prepared_statement_handle;
    let descriptor = command(&CommandPreparedStatementUpdate { prepared_statement_handle: handle });
    let schema: FlightData = SchemaAsIpc::new(&Schema::empty(), &IpcWriteOptions::default()).into();
    answered_while_open(&mut client, FlightData { flight_descriptor: Some(descriptor), ..schema }).await;
    assert_eq!(options(&mut client).await["tag"], "y");
}

async fn answered_while_open(client: &mut Client, first: FlightData) {
    let open_ended = futures::StreamExt::chain(futures::stream::iter([first]), futures::stream::pending());
    let answered = tokio::time::timeout(Duration::from_secs(20), client.do_put(open_ended)).await.expect("an answer").unwrap();
    let results: Vec<PutResult> =
        tokio::time::timeout(Duration::from_secs(20), answered.into_inner().try_collect()).await.unwrap().unwrap();
    assert_eq!(results.len(), 1);
}

async fn options(client: &mut Client) -> HashMap<String, String> {
    let results = act(client, "GetSessionOptions", Bytes::new()).await.unwrap();
    let options = GetSessionOptionsResult::decode(results[0].clone()).unwrap().session_options;
    options
        .into_iter()
        .map(|(name, value)| match value.option_value {
            Some(OptionValue::String(text)) => (name, text),
            other => panic!("{name}: {other:?}"),
        })
        .collect()
}

async fn set_options(client: &mut Client, pairs: &[(&str, OptionValue)]) -> HashMap<String, SetSessionOptionErrorValue> {
    let session_options = pairs.iter().map(|(n, v)| (n.to_string(), SessionOptionValue { option_value: Some(v.clone()) })).collect();
    let results = act(client, "SetSessionOptions", SetSessionOptionsRequest { session_options }.encode_to_vec()).await.unwrap();
    let errors = SetSessionOptionsResult::decode(results[0].clone()).unwrap().errors;
    errors.into_iter().map(|(name, error)| (name, error.value())).collect()
}

#[tokio::test]
async fn session_options_are_set_one_by_one_and_live_with_the_connection() {
    let (server, mut client) = TestServer::open().await;
    let text = |t: &str| OptionValue::String(t.into());
    let errors = set_options(
        &mut client,
        &[("engine", text("duckdb")), ("timeout_seconds", OptionValue::Int64(30)), ("nosuch", text("x")), ("dialect", text("oracle"))],
    )
    .await;
    assert_eq!(
        errors,
        HashMap::from([
            ("nosuch".to_string(), SetSessionOptionErrorValue::InvalidName),
            ("dialect".to_string(), SetSessionOptionErrorValue::InvalidValue)
        ])
    );
    // Checked by those who know engines, and nothing is stored when they refuse.
    assert_eq!(set_options(&mut client, &[("engine", text("oracle"))]).await["engine"], SetSessionOptionErrorValue::InvalidValue);
    let now = options(&mut client).await;
    assert_eq!((now["engine"].as_str(), now["timeout_seconds"].as_str(), now["catalog"].as_str()), ("duckdb", "30", "lake"));
    query(&mut client, "SELECT 1").await.unwrap();
    assert_eq!(server.queries.last_settings.lock().as_ref().unwrap().get("engine").unwrap(), "duckdb");

    let mut other = server.client().await;
    assert!(!options(&mut other).await.contains_key("engine"), "another connection is another session");

    let closed = act(&mut client, "CloseSession", Bytes::new()).await.unwrap();
    assert_eq!(CloseSessionResult::decode(closed[0].clone()).unwrap().status, 1);
    assert!(!options(&mut client).await.contains_key("engine"));
}

#[tokio::test]
async fn the_cookie_carries_a_session_over_connections() {
    let (server, mut client) = TestServer::open().await;
    let first = client.get_flight_info(statement("SET tag = mine")).await.unwrap();
    let cookie = first.metadata().get("set-cookie").unwrap().to_str().unwrap().split(';').next().unwrap().to_string();
    assert!(cookie.starts_with("arrow_flight_session_id="));
    let mut elsewhere = server.client().await;
    let again = elsewhere.get_flight_info(with_header(statement("SELECT 1"), "cookie", &cookie)).await.unwrap();
    assert!(!again.metadata().contains_key("set-cookie"));
    assert_eq!(server.queries.last_settings.lock().as_ref().unwrap().get("tag").unwrap(), "mine");
    // In the middle: the last digit of base64 may stand for fewer bits than it has.
    let at = cookie.len() - 10;
    let forged = format!("{}{}{}", &cookie[..at], if &cookie[at..=at] == "A" { "B" } else { "A" }, &cookie[at + 1..]);
    let refused = elsewhere.get_flight_info(with_header(statement("SELECT 1"), "cookie", &forged)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_header_overrides_a_setting_for_one_call() {
    let (server, mut client) = TestServer::open().await;
    client.get_flight_info(with_header(statement("SELECT 1"), "flightpath-engine", "duckdb")).await.unwrap();
    assert_eq!(server.queries.last_settings.lock().as_ref().unwrap().get("engine").unwrap(), "duckdb");
    query(&mut client, "SELECT 1").await.unwrap();
    assert_eq!(server.queries.last_settings.lock().as_ref().unwrap().get("engine").unwrap(), "");
    for (name, value) in [("flightpath-engine", "oracle"), ("flightpath-nosuch", "1"), ("flightpath-timeout-seconds", "soon")] {
        let refused = client.get_flight_info(with_header(statement("SELECT 1"), name, value)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{name}");
    }
}

#[tokio::test]
async fn cancelling_by_dropping_by_flight_info_and_by_query() {
    let (server, mut client) = TestServer::open().await;
    let info = info(&mut client, "forever").await.unwrap();
    let mut stream = client.do_get(ticket_of(&info)).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    assert_eq!(server.queries.dropped.load(Ordering::SeqCst), 0);
    drop(stream);
    wait_for("the drop of the query", || server.queries.dropped.load(Ordering::SeqCst) == 1).await;

    let request = CancelFlightInfoRequest { info: Some(info.clone()) }.encode_to_vec();
    for expected in [CancelStatus::Cancelled, CancelStatus::NotCancellable] {
        let results = act(&mut client, "CancelFlightInfo", request.clone()).await.unwrap();
        assert_eq!(CancelFlightInfoResult::decode(results[0].clone()).unwrap().status(), expected);
    }
    assert_eq!(fetch(&mut client, &info).await.unwrap_err().code(), Code::NotFound);

    let other = crate::info(&mut client, "forever").await.unwrap();
    let request = ActionCancelQueryRequest { info: other.encode_to_vec().into() };
    let results = act(&mut client, "CancelQuery", request.as_any().encode_to_vec()).await.unwrap();
    assert_eq!(unpack::<ActionCancelQueryResult>(&results[0]).result, 1);
    // The same question without `Any` gets its answer without `Any`.
    let results = act(&mut client, "CancelQuery", request.encode_to_vec()).await.unwrap();
    assert_eq!(ActionCancelQueryResult::decode(results[0].clone()).unwrap().result, 3);
    assert_eq!(server.queries.cancelled.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_endpoint_is_renewed_and_an_expired_ticket_says_so() {
    let lifetimes = Lifetimes { ticket: Duration::from_secs(1), ..Lifetimes::default() };
    let server = TestServer::start(Config { lifetimes, ..Config::default() }).await;
    let mut client = server.client().await;
    let mut info = info(&mut client, "SELECT 1").await.unwrap();
    let request = RenewFlightEndpointRequest { endpoint: Some(info.endpoint[0].clone()) };
    let results = act(&mut client, "RenewFlightEndpoint", request.encode_to_vec()).await.unwrap();
    info.endpoint = vec![FlightEndpoint::decode(results[0].clone()).unwrap()];
    assert_eq!(rows(&fetch(&mut client, &info).await.unwrap()), 1);
    let ended = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            match fetch(&mut client, &info).await {
                Ok(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(status) => return status,
            }
        }
    });
    let ended = ended.await.expect("the ticket expires");
    assert!(ended.code() == Code::NotFound && ended.message().contains("expired"), "{ended}");
}

#[tokio::test]
async fn deadlines_of_the_transport_and_of_the_session_both_hold() {
    let (_server, mut client) = TestServer::open().await;
    // This client watches the time too, and says CANCELLED when it is first.
    let mut answered = Code::Cancelled;
    for _ in 0..20 {
        let mut stuck = Request::new(statement("stuck"));
        stuck.set_timeout(Duration::from_millis(250));
        answered = client.get_flight_info(stuck).await.unwrap_err().code();
        if answered != Code::Cancelled {
            break;
        }
    }
    assert_eq!(answered, Code::DeadlineExceeded);
    let stuck = with_header(statement("stuck"), "flightpath-timeout_seconds", "1");
    assert_eq!(client.get_flight_info(stuck).await.unwrap_err().code(), Code::DeadlineExceeded);
    let info = info(&mut client, "forever").await.unwrap();
    let mut get = Request::new(ticket_of(&info));
    get.set_timeout(Duration::from_millis(300));
    let failed: Result<Vec<FlightData>, Status> = match client.do_get(get).await {
        Ok(response) => response.into_inner().try_collect().await,
        Err(status) => Err(status),
    };
    assert_eq!(failed.unwrap_err().code(), Code::DeadlineExceeded);
}

async fn metadata(client: &mut Client, message: &impl ProstMessageExt) -> RecordBatch {
    let info = client.get_flight_info(command(message)).await.unwrap().into_inner();
    let batches = fetch(client, &info).await.unwrap();
    arrow::compute::concat_batches(&Arc::new(info.try_decode_schema().unwrap()), &batches).unwrap()
}

fn names(batch: &RecordBatch, column: &str) -> Vec<String> {
    batch.column_by_name(column).unwrap().as_string::<i32>().iter().map(|v| v.unwrap().to_string()).collect()
}

async fn tables(client: &mut Client, pattern: &str, types: &[&str]) -> Vec<String> {
    let command = CommandGetTables {
        table_name_filter_pattern: Some(pattern.into()),
        table_types: types.iter().map(|t| t.to_string()).collect(),
        ..Default::default()
    };
    names(&metadata(client, &command).await, "table_name")
}

#[tokio::test]
async fn catalogs_schemas_and_tables_are_found_by_pattern_and_type() {
    let (_server, mut client) = TestServer::open().await;
    assert_eq!(names(&metadata(&mut client, &CommandGetCatalogs {}).await, "catalog_name"), ["archive", "lake"]);
    let schemas = |catalog: Option<&str>, pattern: Option<&str>| CommandGetDbSchemas {
        catalog: catalog.map(Into::into),
        db_schema_filter_pattern: pattern.map(Into::into),
    };
    for (command, expected) in [
        (schemas(None, None), vec!["old_data", "oldxdata", "default", "system"]),
        (schemas(Some("LAKE"), None), vec!["default", "system"]),
        (schemas(None, Some("old_data")), vec!["old_data", "oldxdata"]),
        (schemas(None, Some(r"old\_data")), vec!["old_data"]),
        (schemas(Some(""), None), vec![]),
    ] {
        assert_eq!(names(&metadata(&mut client, &command).await, "db_schema_name"), expected);
    }
    // The one that is named literally stands first: some clients read only the first row.
    assert_eq!(tables(&mut client, "my_table", &[]).await, ["my_table", "my1table"]);
    assert_eq!(tables(&mut client, "%", &["BASE TABLE"]).await, tables(&mut client, "%", &["TABLE"]).await);
    assert_eq!(tables(&mut client, "%", &["SYSTEM TABLE"]).await, ["queries"]);
    assert!(tables(&mut client, "%", &["VIEW"]).await.is_empty());
}

#[tokio::test]
async fn table_schemas_carry_column_metadata_and_one_broken_table_hides_no_other() {
    let (_server, mut client) = TestServer::open().await;
    let all = CommandGetTables { catalog: Some("lake".into()), include_schema: true, ..Default::default() };
    let batch = metadata(&mut client, &all).await;
    let listed = names(&batch, "table_name");
    let encoded = batch.column_by_name("table_schema").unwrap().as_binary::<i32>();
    let schema = |name: &str| -> Schema {
        let at = listed.iter().position(|n| n == name).unwrap();
        arrow_flight::IpcMessage(Bytes::copy_from_slice(encoded.value(at))).try_into().unwrap()
    };
    let good = schema("my_table");
    let id = good.field(0).metadata();
    assert_eq!(id["ARROW:FLIGHT:SQL:TYPE_NAME"], "BIGINT");
    assert_eq!((id["ARROW:FLIGHT:SQL:TABLE_NAME"].as_str(), id["ARROW:FLIGHT:SQL:REMARKS"].as_str()), ("my_table", "the key"));
    assert!(!id.contains_key("delta.columnMapping.physicalName"));
    assert_eq!(good.field(1).metadata()["ARROW:FLIGHT:SQL:SCALE"], "2");
    assert_eq!(good.field(2).data_type(), &DataType::Utf8);
    let broken = schema("broken");
    assert!(broken.fields().is_empty() && broken.metadata()["flightpath.error"].contains("corrupt"));
    let alone = CommandGetTables { table_name_filter_pattern: Some("broken".into()), ..all };
    let info = client.get_flight_info(command(&alone)).await.unwrap().into_inner();
    assert_eq!(fetch(&mut client, &info).await.unwrap_err().code(), Code::DataLoss);
}

#[tokio::test]
async fn keys_and_types_have_their_schemas() {
    let (_server, mut client) = TestServer::open().await;
    let primary = metadata(&mut client, &CommandGetPrimaryKeys { table: "my_table".into(), ..Default::default() }).await;
    assert_eq!((primary.num_rows(), primary.num_columns()), (0, 6));
    let exported = metadata(&mut client, &CommandGetExportedKeys { table: "my_table".into(), ..Default::default() }).await;
    assert_eq!((exported.num_rows(), exported.num_columns()), (0, 13));
    let types = metadata(&mut client, &CommandGetXdbcTypeInfo { data_type: None }).await;
    assert!(names(&types, "type_name").contains(&"TIMESTAMP_NTZ".to_string()));
}

/// The crate's own client, which other Rust programs use.
#[tokio::test]
async fn the_rust_client_works() {
    let (server, _) = TestServer::open().await;
    let channel = server.client().await;
    let mut client = FlightSqlServiceClient::new_from_inner(channel);
    let info = client.get_sql_info(vec![SqlInfo::FlightSqlServerName, SqlInfo::SqlIdentifierQuoteChar]).await.unwrap();
    let batches: Vec<RecordBatch> = client.do_get(ticket_of(&info)).await.unwrap().try_collect().await.unwrap();
    assert_eq!(rows(&batches), 2);
    let info = client.get_table_types().await.unwrap();
    let batches: Vec<RecordBatch> = client.do_get(ticket_of(&info)).await.unwrap().try_collect().await.unwrap();
    let types: &StringArray = batches[0].column(0).as_string();
    assert_eq!(types.iter().flatten().collect::<Vec<_>>(), ["SYSTEM TABLE", "TABLE"]);
    let mut prepared = client.prepare("SELECT ?".into(), None).await.unwrap();
    prepared.set_parameters(int_row(5)).unwrap();
    let info = prepared.execute().await.unwrap();
    let batches: Vec<RecordBatch> = client.do_get(ticket_of(&info)).await.unwrap().try_collect().await.unwrap();
    assert_eq!(batches[0].column(0).as_primitive::<Int64Type>().value(0), 5);
    prepared.close().await.unwrap();
    assert_eq!(client.execute_update("SET tag = rust".into(), None).await.unwrap(), 0);
    client.close().await.unwrap();
}

//! The fake: statement execution, storage at an address of its own, a warehouse and its history.

use std::collections::{HashMap, VecDeque};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderMap, Response};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use lz4_flex::frame::FrameEncoder;
use parking_lot::Mutex;
use serde_json::{Value, json};

pub const TOKEN: &str = "token-very-secret";
/// In every link's query.
pub const SIGNATURE: &str = "signature-very-secret";
/// In every link's headers, without which storage refuses.
pub const KEY: &str = "storage-key-very-secret";

/// A failed call, before anything of it is done unless told otherwise.
#[derive(Clone, Copy)]
pub enum Fault {
    Status(u16),
    RetryAfter(u16),
    /// The head is sent, then the connection drops.
    Drop,
    /// Done, and then the connection drops.
    DoneThenDrop,
}

#[derive(Clone, Copy)]
pub enum StorageFault {
    Status(u16),
    DropMidway,
    /// Ends early, and so does what it says of its length.
    CutOff,
    /// A whole stream with a row too few.
    RowMissing,
    Hang,
}

/// What the warehouse does with every statement.
pub struct Plan {
    pub chunks: Vec<Vec<RecordBatch>>,
    /// How many polls say that it isn't done.
    pub polls: u32,
    pub never_ends: bool,
    pub state: &'static str,
    pub error: Option<Value>,
    pub inline: bool,
    pub refuse_inline: bool,
    pub refuse_compression: bool,
    pub links_per_answer: usize,
    pub link_seconds: i64,
    pub truncated: bool,
    pub rows_off: i64,
    pub no_result: bool,
    pub lose_cancels: u32,
    pub execute_faults: VecDeque<Fault>,
    pub poll_faults: VecDeque<Fault>,
    pub chunk_faults: VecDeque<Fault>,
    pub storage_faults: HashMap<usize, VecDeque<StorageFault>>,
    pub warehouse: Value,
    pub history: Vec<&'static str>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            chunks: super::chunks(&[3, 2]),
            polls: 1,
            never_ends: false,
            state: "SUCCEEDED",
            error: None,
            inline: false,
            refuse_inline: false,
            refuse_compression: false,
            links_per_answer: 1,
            link_seconds: 900,
            truncated: false,
            rows_off: 0,
            no_result: false,
            lose_cancels: 0,
            execute_faults: VecDeque::new(),
            poll_faults: VecDeque::new(),
            chunk_faults: VecDeque::new(),
            storage_faults: HashMap::new(),
            warehouse: json!({"state": "RUNNING", "num_clusters": 1, "min_num_clusters": 1, "cluster_size": "Small",
                "enable_serverless_compute": true, "warehouse_type": "PRO"}),
            history: Vec::new(),
        }
    }
}

struct Statement {
    polls_left: u32,
    cancelled: bool,
    lz4: bool,
    inline: bool,
}

pub struct Fake {
    pub url: url::Url,
    storage: String,
    pub plan: Mutex<Plan>,
    statements: Mutex<Vec<Statement>>,
    /// Statements carried out.
    pub executions: AtomicU32,
    pub cancels: AtomicU32,
    pub polls: AtomicU32,
    pub link_answers: AtomicU32,
    pub starts: AtomicU32,
    pub bodies: Mutex<Vec<Value>>,
    pub storage_headers: Mutex<Vec<HeaderMap>>,
    /// Chunks asked of storage, in order.
    pub fetched: Mutex<Vec<usize>>,
    links: AtomicU32,
}

type Shared = State<Arc<Fake>>;

impl Fake {
    pub async fn start(plan: Plan) -> Arc<Self> {
        let api = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let storage = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fake = Arc::new(Fake {
            url: format!("http://{}", api.local_addr().unwrap()).parse().unwrap(),
            storage: format!("http://{}", storage.local_addr().unwrap()),
            plan: Mutex::new(plan),
            statements: Mutex::default(),
            executions: AtomicU32::new(0),
            cancels: AtomicU32::new(0),
            polls: AtomicU32::new(0),
            link_answers: AtomicU32::new(0),
            starts: AtomicU32::new(0),
            bodies: Mutex::default(),
            storage_headers: Mutex::default(),
            fetched: Mutex::default(),
            links: AtomicU32::new(0),
        });
        let routes = Router::new()
            .route("/api/2.0/sql/statements", post(execute))
            .route("/api/2.0/sql/statements/{id}", get(poll))
            .route("/api/2.0/sql/statements/{id}/cancel", post(cancel))
            .route("/api/2.0/sql/statements/{id}/result/chunks/{index}", get(chunk))
            .route("/api/2.0/sql/warehouses/{id}", get(warehouse))
            .route("/api/2.0/sql/warehouses/{id}/start", post(start))
            .route("/api/2.0/sql/history/queries", get(history))
            .with_state(fake.clone());
        let blobs = Router::new().route("/blob/{statement}/{index}", get(blob)).with_state(fake.clone());
        tokio::spawn(async move { axum::serve(api, routes).await.unwrap() });
        tokio::spawn(async move { axum::serve(storage, blobs).await.unwrap() });
        fake
    }

    pub fn executed(&self) -> u32 {
        self.executions.load(Ordering::SeqCst)
    }

    /// Whether no statement runs any more.
    pub fn all_ended(&self) -> bool {
        let (statements, never_ends) = (self.statements.lock(), self.plan.lock().never_ends);
        statements.iter().all(|statement| statement.cancelled || !never_ends)
    }

    fn shown(&self, id: usize) -> Value {
        let (statements, plan) = (self.statements.lock(), self.plan.lock());
        let statement = &statements[id];
        let named = format!("stmt-{id}");
        if statement.cancelled {
            return json!({"statement_id": named, "status": {"state": "CANCELED"}});
        }
        if plan.never_ends || statement.polls_left > 0 {
            let state = if statement.polls_left.is_multiple_of(2) { "RUNNING" } else { "PENDING" };
            return json!({"statement_id": named, "status": {"state": state}});
        }
        let mut answer = json!({"statement_id": named, "status": {"state": plan.state}});
        if let Some(error) = &plan.error {
            answer["status"]["error"] = error.clone();
            return answer;
        }
        if !plan.no_result {
            answer["manifest"] = manifest(&plan, statement);
            answer["result"] = self.part(&plan, statement, id, 0);
        }
        answer
    }

    fn part(&self, plan: &Plan, statement: &Statement, id: usize, from: usize) -> Value {
        if plan.chunks.is_empty() {
            return json!({});
        }
        if statement.inline {
            return json!({"chunk_index": from, "attachment": BASE64.encode(body(&plan.chunks[from], statement.lz4))});
        }
        let expires = chrono::Utc::now() + chrono::Duration::seconds(plan.link_seconds);
        let link = |index: usize| {
            let serial = self.links.fetch_add(1, Ordering::SeqCst);
            json!({"chunk_index": index, "row_count": rows_of(&plan.chunks[index]), "byte_count": 10,
                "external_link": format!("{}/blob/{id}/{index}?sig={SIGNATURE}&serial={serial}", self.storage),
                "expiration": expires.to_rfc3339(),
                "http_headers": {"x-storage-key": KEY, "Authorization": "Bearer not-to-be-sent"}})
        };
        let links: Vec<Value> = (from..plan.chunks.len()).take(plan.links_per_answer).map(link).collect();
        json!({"external_links": links})
    }
}

fn rows_of(chunk: &[RecordBatch]) -> usize {
    chunk.iter().map(RecordBatch::num_rows).sum()
}

fn manifest(plan: &Plan, statement: &Statement) -> Value {
    let mut rows = 0;
    let mut listed = Vec::new();
    for (index, chunk) in plan.chunks.iter().enumerate() {
        let count = rows_of(chunk);
        listed.push(json!({"chunk_index": index, "row_offset": rows, "row_count": count, "byte_count": body(chunk, false).len()}));
        rows += count;
    }
    let mut manifest = json!({"format": "ARROW_STREAM", "schema": {"column_count": 3}, "total_chunk_count": listed.len(),
        "total_row_count": rows as i64 + plan.rows_off, "total_byte_count": 1, "truncated": plan.truncated, "chunks": listed});
    if statement.lz4 {
        manifest["result_compression"] = json!("LZ4_FRAME");
    }
    manifest
}

/// An Arrow stream; compressed, it is cut into several frames at places that mean nothing to it.
fn body(chunk: &[RecordBatch], lz4: bool) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), &chunk[0].schema()).unwrap();
    chunk.iter().for_each(|batch| writer.write(batch).unwrap());
    let stream = writer.into_inner().unwrap();
    if !lz4 {
        return stream;
    }
    let frame = |part: &[u8]| {
        let mut encoder = FrameEncoder::new(Vec::new());
        encoder.write_all(part).unwrap();
        encoder.finish().unwrap()
    };
    stream.chunks(stream.len().div_ceil(3)).flat_map(frame).collect()
}

fn failed(status: u16, code: &str) -> Response<Body> {
    let body = json!({"error_code": code, "message": format!("on purpose, with {TOKEN}")}).to_string();
    Response::builder().status(status).body(Body::from(body)).unwrap()
}

fn dropped(first: Vec<u8>) -> Response<Body> {
    let parts = [Ok(Bytes::from(first)), Err(std::io::Error::other("dropped on purpose"))];
    Response::new(Body::from_stream(futures::stream::iter(parts)))
}

fn answer(fault: Fault) -> Response<Body> {
    match fault {
        Fault::Status(status) => failed(status, "INTERNAL_ERROR"),
        Fault::RetryAfter(status) => {
            let mut response = failed(status, "RESOURCE_EXHAUSTED");
            response.headers_mut().insert("retry-after", "0".parse().unwrap());
            response
        }
        Fault::Drop | Fault::DoneThenDrop => dropped(b"{".to_vec()),
    }
}

fn authorized(headers: &HeaderMap) -> bool {
    headers.get("authorization").is_some_and(|value| value == &format!("Bearer {TOKEN}"))
}

async fn execute(State(fake): Shared, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    if !authorized(&head.headers) {
        return failed(401, "UNAUTHENTICATED");
    }
    let asked: Value = serde_json::from_slice(&axum::body::to_bytes(body, 1 << 24).await.unwrap()).unwrap();
    fake.bodies.lock().push(asked.clone());
    let fault = fake.plan.lock().execute_faults.pop_front();
    if let Some(fault) = fault.filter(|fault| !matches!(fault, Fault::DoneThenDrop)) {
        return answer(fault);
    }
    let (wants_inline, lz4) = (asked["disposition"] == "INLINE_OR_EXTERNAL_LINKS", asked["result_compression"] == "LZ4_FRAME");
    let id = {
        let plan = fake.plan.lock();
        if (wants_inline && plan.refuse_inline) || (lz4 && plan.refuse_compression) {
            return failed(400, "INVALID_PARAMETER_VALUE");
        }
        let mut statements = fake.statements.lock();
        statements.push(Statement { polls_left: plan.polls, cancelled: false, lz4, inline: wants_inline && plan.inline });
        statements.len() - 1
    };
    fake.executions.fetch_add(1, Ordering::SeqCst);
    match fault {
        Some(fault) => answer(fault),
        None => axum::Json(fake.shown(id)).into_response(),
    }
}

async fn poll(State(fake): Shared, Path(id): Path<String>, headers: HeaderMap) -> Response<Body> {
    if !authorized(&headers) {
        return failed(401, "UNAUTHENTICATED");
    }
    fake.polls.fetch_add(1, Ordering::SeqCst);
    if let Some(fault) = fake.plan.lock().poll_faults.pop_front() {
        return answer(fault);
    }
    let id = number(&id);
    {
        let mut statements = fake.statements.lock();
        statements[id].polls_left = statements[id].polls_left.saturating_sub(1);
    }
    axum::Json(fake.shown(id)).into_response()
}

async fn cancel(State(fake): Shared, Path(id): Path<String>) {
    fake.cancels.fetch_add(1, Ordering::SeqCst);
    let mut plan = fake.plan.lock();
    match plan.lose_cancels {
        0 => fake.statements.lock()[number(&id)].cancelled = true,
        lost => plan.lose_cancels = lost - 1,
    }
}

async fn chunk(State(fake): Shared, Path((id, index)): Path<(String, usize)>) -> Response<Body> {
    fake.link_answers.fetch_add(1, Ordering::SeqCst);
    let mut plan = fake.plan.lock();
    if let Some(fault) = plan.chunk_faults.pop_front() {
        return answer(fault);
    }
    let id = number(&id);
    let statements = fake.statements.lock();
    axum::Json(fake.part(&plan, &statements[id], id, index)).into_response()
}

fn number(id: &str) -> usize {
    id.trim_start_matches("stmt-").parse().unwrap()
}

async fn blob(
    State(fake): Shared,
    Path((id, index)): Path<(usize, usize)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response<Body> {
    fake.storage_headers.lock().push(headers.clone());
    fake.fetched.lock().push(index);
    let signed = query.is_some_and(|query| query.contains(SIGNATURE)) && headers.get("x-storage-key").is_some_and(|key| key == KEY);
    if !signed {
        return Response::builder().status(403).body(Body::from("<Error>no</Error>")).unwrap();
    }
    let (whole, short, fault) = {
        let mut plan = fake.plan.lock();
        let fault = plan.storage_faults.get_mut(&index).and_then(VecDeque::pop_front);
        let lz4 = fake.statements.lock()[id].lz4;
        let first = &plan.chunks[index][0];
        let short = [first.slice(0, first.num_rows() - 1)];
        (body(&plan.chunks[index], lz4), body(&short, lz4), fault)
    };
    match fault {
        None => Response::new(Body::from(whole)),
        Some(StorageFault::Status(status)) => Response::builder().status(status).body(Body::from("<Error/>")).unwrap(),
        Some(StorageFault::DropMidway) => dropped(whole[..whole.len() / 2].to_vec()),
        Some(StorageFault::CutOff) => Response::new(Body::from(whole[..whole.len() * 2 / 3].to_vec())),
        Some(StorageFault::RowMissing) => Response::new(Body::from(short)),
        Some(StorageFault::Hang) => std::future::pending().await,
    }
}

async fn warehouse(State(fake): Shared) -> Response<Body> {
    axum::Json(fake.plan.lock().warehouse.clone()).into_response()
}

async fn start(State(fake): Shared) {
    fake.starts.fetch_add(1, Ordering::SeqCst);
}

/// One line a page, and an empty page in between.
async fn history(State(fake): Shared, RawQuery(query): RawQuery) -> Response<Body> {
    let query = query.unwrap_or_default();
    assert!(query.contains("filter_by.warehouse_ids=wh1") && query.contains("filter_by.statuses=QUEUED"), "{query}");
    let plan = fake.plan.lock();
    if query.contains("page_token=next") {
        let lines: Vec<Value> = plan.history.iter().map(|status| json!({"status": status})).collect();
        return axum::Json(json!({"res": lines, "has_next_page": false})).into_response();
    }
    axum::Json(json!({"res": [], "has_next_page": true, "next_page_token": "next"})).into_response()
}

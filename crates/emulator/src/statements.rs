//! `/api/2.0/sql/statements`: execute, poll, chunks, cancel. A statement that fails is HTTP 200
//! with state FAILED; only a request that can't be understood is an HTTP error.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::auth::User;
use crate::config::Settings;
use crate::execution::{self, Entry, Progress, StatementState};
use crate::faults::Effect;
use crate::lakehouse::Asked;
use crate::literals::Parameter;
use crate::results::{Chunk, Disposition, Format, ResultSet, Wanted};
use crate::rewrite::Place;
use crate::state::App;
use crate::warehouses::Waited;
use crate::wire::{Answered, ApiError, Body, now_ms};

/// Longest statement: 16 MiB.
const TEXT_BYTES_MAX: usize = 16 << 20;
/// Statements that the history remembers.
const KEPT_MAX: usize = 10_000;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Execute {
    statement: Option<String>,
    warehouse_id: Option<String>,
    catalog: Option<String>,
    schema: Option<String>,
    parameters: Vec<Parameter>,
    row_limit: Option<u64>,
    byte_limit: Option<u64>,
    disposition: Option<String>,
    format: Option<String>,
    result_compression: Option<String>,
    wait_timeout: Option<String>,
    on_wait_timeout: Option<String>,
    query_tags: Vec<Tag>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Tag {
    key: String,
    value: Option<String>,
}

/// Statements by id, ids ascending by time.
#[derive(Default)]
pub(crate) struct Statements {
    entries: Mutex<BTreeMap<String, Arc<Entry>>>,
}

impl Statements {
    fn add(&self, entry: Arc<Entry>, result_lifetime_ms: u64) {
        let mut entries = self.entries.lock();
        let oldest = now_ms().saturating_sub_unsigned(result_lifetime_ms);
        entries.values().filter(|e| e.progress.borrow().ended.is_some_and(|ended| ended < oldest)).for_each(|e| e.close());
        while entries.len() >= KEPT_MAX {
            let Some(gone) = entries.iter().find(|(_, e)| e.progress.borrow().state.is_terminal()).map(|(id, _)| id.clone()) else { break };
            entries.remove(&gone);
        }
        entries.insert(entry.id.clone(), entry);
    }

    /// Newest first.
    pub fn newest_first(&self) -> Vec<Arc<Entry>> {
        self.entries.lock().values().rev().cloned().collect()
    }

    pub fn cancel_all_on(&self, warehouse: &str) {
        self.entries.lock().values().filter(|e| e.warehouse == warehouse).for_each(|e| e.cancel.cancel());
    }

    fn find(&self, id: &str, user: &User) -> Result<Arc<Entry>, ApiError> {
        let found = self.entries.lock().get(id).filter(|e| e.asked.user.name == user.name).cloned();
        found.ok_or_else(|| ApiError::not_found("NOT_FOUND", format!("The statement {id} was not found (simulated Databricks).")))
    }
}

pub(crate) async fn execute(State(app): State<App>, headers: HeaderMap, Body(request): Body<Execute>) -> Answered {
    let user = app.accounts.authenticate(&headers)?;
    let text = request.statement.clone().unwrap_or_default();
    if text.trim().is_empty() {
        return Err(ApiError::invalid("The statement is empty."));
    }
    if text.len() > TEXT_BYTES_MAX {
        return Err(ApiError::invalid("The statement is longer than 16 MiB."));
    }
    let wanted = wanted(&request)?;
    let wait = wait_timeout(request.wait_timeout.as_deref())?;
    let cancel_on_timeout = match request.on_wait_timeout.as_deref() {
        None | Some("CONTINUE") => false,
        Some("CANCEL") if wait.is_zero() => return Err(ApiError::invalid("on_wait_timeout CANCEL needs a wait_timeout above 0s.")),
        Some("CANCEL") => true,
        Some(other) => return Err(ApiError::invalid(format!("on_wait_timeout must be CONTINUE or CANCEL, not {other}"))),
    };
    let id = request.warehouse_id.clone().unwrap_or_default();
    let warehouse = app.warehouses.get(&id);
    let warehouse = warehouse.ok_or_else(|| ApiError::not_found("NOT_FOUND", format!("SQL warehouse {id} does not exist.")))?;

    let catalog = request.catalog.filter(|c| !c.is_empty()).unwrap_or_else(|| app.lake.catalogs.names().next().unwrap_or("main").into());
    let place = Place { catalog, schema: request.schema.filter(|s| !s.is_empty()).unwrap_or_else(|| "default".into()) };
    let tags: Vec<(String, String)> = request.query_tags.into_iter().map(|t| (t.key, t.value.unwrap_or_default())).collect();
    app.counters.executed(&text, &tags);
    let progress =
        Progress { state: StatementState::Pending, error: None, result: None, waited: Waited::default(), running_from: None, ended: None };
    let entry = Arc::new(Entry {
        id: Uuid::now_v7().to_string(),
        asked: Asked { user, text, place, parameters: request.parameters },
        wanted,
        warehouse: id,
        tags,
        received: now_ms(),
        cancel: CancellationToken::new(),
        progress: watch::channel(progress).0,
    });
    let settings = app.settings();
    app.statements.add(entry.clone(), settings.result_lifetime_ms);
    tokio::spawn(execution::run(app.clone(), entry.clone(), warehouse));
    entry.settled(wait).await;
    if cancel_on_timeout && !entry.now().state.is_terminal() {
        entry.cancel.cancel();
        entry.settled(Duration::from_secs(10)).await;
    }
    Ok(Json(shown(&app, &entry, &settings).await?).into_response())
}

pub(crate) async fn poll(State(app): State<App>, headers: HeaderMap, Path(id): Path<String>) -> Answered {
    let user = app.accounts.authenticate(&headers)?;
    let entry = app.statements.find(&id, &user)?;
    Ok(Json(shown(&app, &entry, &app.settings()).await?).into_response())
}

pub(crate) async fn chunk(State(app): State<App>, headers: HeaderMap, Path((id, index)): Path<(String, usize)>) -> Answered {
    let user = app.accounts.authenticate(&headers)?;
    let entry = app.statements.find(&id, &user)?;
    let progress = entry.now();
    let Some(result) = progress.result else {
        let state = progress.state.as_str();
        let message = format!("The statement {id} is in state {state}; its result can't be fetched (simulated Databricks).");
        return Err(ApiError::not_found("NOT_FOUND", message));
    };
    let settings = app.settings();
    if index >= result.chunks.len() {
        return Err(ApiError::invalid(format!("The chunk index {index} is out of range: there are {} chunks.", result.chunks.len())));
    }
    let answer = if result.inline {
        inline(&entry, &result, index).await?
    } else {
        json!({"external_links": links(&app, &entry, &result, index, &settings)})
    };
    if settings.close_after_last_chunk && index + 1 == result.chunks.len() {
        entry.close();
    }
    Ok(Json(answer).into_response())
}

pub(crate) async fn cancel(State(app): State<App>, headers: HeaderMap, Path(id): Path<String>) -> Answered {
    let user = app.accounts.authenticate(&headers)?;
    app.counters.cancelled();
    let entry = app.statements.find(&id, &user)?;
    if !app.faults.statement(Effect::LoseCancel, &entry.asked.text) {
        entry.cancel.cancel();
    }
    Ok(StatusCode::OK.into_response())
}

/// Id, status, and for a result its manifest and first part.
async fn shown(app: &App, entry: &Entry, settings: &Settings) -> Result<Value, ApiError> {
    let progress = entry.now();
    let mut status = json!({"state": progress.state.as_str()});
    if let Some(error) = &progress.error {
        status["error"] = json!({"error_code": execution::error_code(error), "message": error.to_string()});
        if let Some(state) = error.sql_state() {
            status["sql_state"] = json!(state);
        }
    }
    let mut answer = json!({"statement_id": entry.id, "status": status});
    if let Some(result) = &progress.result {
        answer["manifest"] = result.manifest();
        answer["result"] = match (result.chunks.is_empty(), result.inline) {
            (true, _) => json!({}),
            (false, true) => inline(entry, result, 0).await?,
            (false, false) => json!({"external_links": links(app, entry, result, 0, settings)}),
        };
    }
    Ok(answer)
}

async fn inline(entry: &Entry, result: &ResultSet, index: usize) -> Result<Value, ApiError> {
    let chunk = &result.chunks[index];
    let failed = |e: &dyn std::fmt::Display| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR", e.to_string());
    let body = chunk.stored.read().await.map_err(|e| failed(&e))?;
    let mut shown = placed(entry, result, chunk);
    match result.wanted.format {
        Format::JsonArray => shown["data_array"] = serde_json::from_slice(&body).map_err(|e| failed(&e))?,
        Format::ArrowStream => shown["attachment"] = json!(BASE64.encode(body)),
    }
    Ok(shown)
}

/// The links from this chunk on, as many as an answer holds.
fn links(app: &App, entry: &Entry, result: &ResultSet, from: usize, settings: &Settings) -> Vec<Value> {
    let lifetime = match app.faults.statement(Effect::ExpireLinks, &entry.asked.text) {
        true => Duration::ZERO,
        false => Duration::from_millis(settings.link_lifetime_ms),
    };
    let chunks = result.chunks.iter().skip(from).take(settings.links_per_answer.max(1));
    let link = |chunk: &Chunk| {
        let issued = app.links.issue(&app.url, chunk.stored.clone(), lifetime);
        let mut shown = placed(entry, result, chunk);
        shown["byte_count"] = json!(chunk.stored.bytes);
        shown["external_link"] = json!(issued.url);
        shown["expiration"] = json!(issued.expiration);
        shown["http_headers"] = issued.http_headers;
        shown
    };
    chunks.map(link).collect()
}

/// Where a chunk stands in the result.
fn placed(entry: &Entry, result: &ResultSet, chunk: &Chunk) -> Value {
    let mut shown = json!({
        "chunk_index": chunk.index, "row_offset": chunk.row_offset, "row_count": chunk.row_count, "byte_count": chunk.byte_count,
    });
    let next = chunk.index + 1;
    if next < result.chunks.len() {
        shown["next_chunk_index"] = json!(next);
        shown["next_chunk_internal_link"] =
            json!(format!("/api/2.0/sql/statements/{}/result/chunks/{next}?row_offset={}", entry.id, chunk.row_offset + chunk.row_count));
    }
    shown
}

fn wanted(request: &Execute) -> Result<Wanted, ApiError> {
    let disposition = match request.disposition.as_deref() {
        None | Some("INLINE") => Disposition::Inline,
        Some("EXTERNAL_LINKS") => Disposition::ExternalLinks,
        Some("INLINE_OR_EXTERNAL_LINKS") => Disposition::InlineOrExternalLinks,
        Some(other) => return Err(ApiError::invalid(format!("disposition {other} is unknown"))),
    };
    let format = match request.format.as_deref() {
        None | Some("JSON_ARRAY") => Format::JsonArray,
        Some("ARROW_STREAM") => Format::ArrowStream,
        Some(other) => return Err(ApiError::invalid(format!("simulated Databricks doesn't write the format {other}"))),
    };
    if disposition == Disposition::Inline && format != Format::JsonArray {
        return Err(ApiError::invalid("The format field must be JSON_ARRAY when the disposition field is INLINE."));
    }
    let lz4 = match request.result_compression.as_deref() {
        None | Some("NONE") => false,
        Some("LZ4_FRAME") => format == Format::ArrowStream,
        Some(other) => return Err(ApiError::invalid(format!("result_compression {other} is unknown"))),
    };
    Ok(Wanted { format, disposition, lz4, row_limit: request.row_limit, byte_limit: request.byte_limit })
}

/// `0s`, or 5 to 50 seconds; 10 when left out.
fn wait_timeout(text: Option<&str>) -> Result<Duration, ApiError> {
    let Some(text) = text.filter(|t| !t.is_empty()) else { return Ok(Duration::from_secs(10)) };
    match text.strip_suffix('s').and_then(|seconds| seconds.parse().ok()) {
        Some(seconds @ (0 | 5..=50)) => Ok(Duration::from_secs(seconds)),
        _ => Err(ApiError::invalid(format!("wait_timeout must be 0s or between 5s and 50s, not {text}"))),
    }
}

//! `/api/2.0/sql/history/queries`: what ran, what runs and what waits. Who asks sees their own
//! statements, administrators and monitors all.

use std::time::Instant;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::execution::Entry;
use crate::state::App;
use crate::wire::{Answered, ApiError, now_ms};

const PAGE_DEFAULT: usize = 100;
/// `max_results` stays below this.
const PAGE_MAX: usize = 1_000;

/// Calls of the running second, over the whole account.
#[derive(Default)]
pub(crate) struct RateWindow(Mutex<Option<(Instant, u32)>>);

impl RateWindow {
    /// False when this second's calls are used up.
    pub fn admit(&self, per_second: u32) -> bool {
        let now = Instant::now();
        let mut window = self.0.lock();
        let (began, calls) = window.filter(|(began, _)| now.duration_since(*began).as_secs() < 1).unwrap_or((now, 0));
        *window = Some((began, calls + 1));
        per_second == 0 || calls < per_second
    }
}

#[derive(Default)]
struct Filter {
    warehouses: Vec<String>,
    statuses: Vec<String>,
    from: Option<i64>,
    to: Option<i64>,
    include_metrics: bool,
    max_results: usize,
    after: Option<String>,
}

pub(crate) async fn list(State(app): State<App>, headers: HeaderMap, Query(pairs): Query<Vec<(String, String)>>) -> Answered {
    let user = app.accounts.authenticate(&headers)?;
    if !app.counters.history.admit(app.settings().history_calls_per_second) {
        let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "RESOURCE_EXHAUSTED", "Too many calls of the query history (simulated).");
        return Ok(([("retry-after", "1")], error).into_response());
    }
    let filter = Filter::read(pairs)?;
    let visible = app.statements.newest_first().into_iter().filter(|e| user.admin || user.monitor || e.asked.user.name == user.name);
    let mut fitting = visible.filter(|e| filter.fits(e)).peekable();
    let mut shown = Vec::new();
    let mut last = None;
    while shown.len() < filter.max_results
        && let Some(entry) = fitting.next()
    {
        shown.push(line(&entry, filter.include_metrics));
        last = Some(entry.id.clone());
    }
    let more = fitting.peek().is_some();
    let mut answer = json!({"res": shown, "has_next_page": more});
    if let (true, Some(last)) = (more, last) {
        answer["next_page_token"] = json!(last);
    }
    Ok(Json(answer).into_response())
}

impl Filter {
    fn read(pairs: Vec<(String, String)>) -> Result<Self, ApiError> {
        let mut filter = Filter { max_results: PAGE_DEFAULT, ..Default::default() };
        let number =
            |name: &str, value: &str| value.parse().map_err(|_| ApiError::invalid(format!("{name} must be a number, not {value}")));
        for (name, value) in pairs {
            match name.as_str() {
                "filter_by.warehouse_ids" => filter.warehouses.push(value),
                "filter_by.statuses" => filter.statuses.push(value),
                "filter_by.query_start_time_range.start_time_ms" => filter.from = Some(number(&name, &value)?),
                "filter_by.query_start_time_range.end_time_ms" => filter.to = Some(number(&name, &value)?),
                "include_metrics" => filter.include_metrics = value == "true",
                "page_token" => filter.after = Some(value).filter(|v| !v.is_empty()),
                "max_results" => {
                    filter.max_results = usize::try_from(number(&name, &value)?).unwrap_or(0);
                    if !(1..PAGE_MAX).contains(&filter.max_results) {
                        return Err(ApiError::invalid(format!("max_results must be between 1 and {}", PAGE_MAX - 1)));
                    }
                }
                _ => return Err(ApiError::invalid(format!("{name} is unknown to the simulated query history"))),
            }
        }
        Ok(filter)
    }

    fn fits(&self, entry: &Entry) -> bool {
        let status = entry.progress.borrow().state.in_history();
        self.after.as_ref().is_none_or(|after| entry.id < *after)
            && (self.warehouses.is_empty() || self.warehouses.contains(&entry.warehouse))
            && (self.statuses.is_empty() || self.statuses.iter().any(|s| s == status))
            && self.from.is_none_or(|from| entry.received >= from)
            && self.to.is_none_or(|to| entry.received <= to)
    }
}

fn line(entry: &Entry, include_metrics: bool) -> Value {
    let progress = entry.now();
    let until = progress.ended.unwrap_or_else(now_ms);
    let (rows, read_bytes) = progress.result.as_ref().map_or((0, 0), |r| (r.rows, r.read_bytes));
    let tags: Vec<Value> = entry.tags.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
    let mut line = json!({
        "query_id": entry.id, "status": progress.state.in_history(), "query_text": entry.asked.text,
        "query_start_time_ms": entry.received, "duration": until - entry.received,
        "user_name": entry.asked.user.name, "executed_as_user_name": entry.asked.user.name,
        "warehouse_id": entry.warehouse, "endpoint_id": entry.warehouse, "rows_produced": rows,
        "is_final": progress.state.is_terminal(), "query_tags": tags,
    });
    if let Some(ended) = progress.ended {
        line["query_end_time_ms"] = json!(ended);
        line["execution_end_time_ms"] = json!(ended);
    }
    if let Some(error) = &progress.error {
        line["error_message"] = json!(error.to_string());
    }
    if include_metrics {
        let execution = progress.running_from.map_or(0, |from| until - from);
        line["metrics"] = json!({
            "total_time_ms": until - entry.received, "compilation_time_ms": 0, "execution_time_ms": execution,
            "result_fetch_time_ms": 0, "photon_total_time_ms": execution, "read_bytes": read_bytes, "read_cache_bytes": 0, "read_files_count": 0,
            "pruned_bytes": 0, "rows_read_count": 0, "rows_produced_count": rows, "spill_to_disk_bytes": 0, "result_from_cache": false,
        });
        if let Some(from) = progress.waited.provisioning_from {
            line["metrics"]["provisioning_queue_start_timestamp"] = json!(from);
        }
        if let Some(from) = progress.waited.overloading_from {
            line["metrics"]["overloading_queue_start_timestamp"] = json!(from);
        }
        if let Some(from) = progress.running_from {
            line["metrics"]["query_compilation_start_timestamp"] = json!(from);
        }
    }
    line
}

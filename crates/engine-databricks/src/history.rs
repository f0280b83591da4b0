//! What a warehouse's query history says afterwards: when each statement ran, and what the warehouse
//! did when it came. Only asked about the past; never starts the warehouse, never runs anything, and
//! never asks for more pages than it is told to.

use std::time::{Duration, Instant};

use flightpath_types::{QueryId, Result, WarehouseActivity};
use serde::Deserialize;

use crate::config::MonitorAccess;
use crate::run::TAG;

pub(crate) const PATH: &str = "/api/2.0/sql/history/queries";
/// `max_results` must stay below a thousand.
const PAGE: &str = "999";
/// More statements than these pages hold aren't read at once.
const PAGES_MAX: usize = 20;
/// The history takes ten calls a second from a whole account.
const PAGE_PAUSE: Duration = Duration::from_millis(250);
const PAGE_PATIENCE: Duration = Duration::from_secs(30);

/// One statement that came in the time asked for. Milliseconds since the Unix epoch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PastStatement {
    pub statement_id: String,
    /// Where a Flightpath router sent it.
    pub query_id: Option<QueryId>,
    /// Since when it waited for the warehouse's start.
    pub provisioning_from_ms: Option<i64>,
    /// Since when it waited for a place.
    pub overloading_from_ms: Option<i64>,
    /// `None` where it ended before it ran.
    pub run_from_ms: Option<i64>,
    /// `None` while it runs.
    pub ended_ms: Option<i64>,
    /// Bytes read, from storage or the warehouse's cache.
    pub read_bytes: Option<u64>,
}

/// A part of the past.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Past {
    pub statements: Vec<PastStatement>,
    /// Nothing of the time asked for is missing.
    pub whole: bool,
}

/// What one statement took, and what the warehouse did when it came.
#[derive(Debug, Clone, PartialEq)]
pub struct PastRun {
    pub statement_id: String,
    pub query_id: Option<QueryId>,
    /// Waiting for a start or a place left out.
    pub run_ms: f64,
    pub activity: WarehouseActivity,
    /// How long the warehouse's start took, where the statement woke it.
    pub start_ms: Option<f64>,
    /// Bytes read, from storage or the warehouse's cache.
    pub read_bytes: Option<u64>,
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    res: Vec<Line>,
    #[serde(default)]
    has_next_page: bool,
    next_page_token: Option<String>,
}

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    query_id: String,
    status: Option<String>,
    query_start_time_ms: Option<i64>,
    execution_end_time_ms: Option<i64>,
    query_end_time_ms: Option<i64>,
    #[serde(default)]
    query_tags: Vec<Tag>,
    #[serde(default)]
    metrics: Metrics,
}

#[derive(Deserialize)]
struct Tag {
    #[serde(default)]
    key: String,
    value: Option<String>,
}

#[derive(Default, Deserialize)]
struct Metrics {
    provisioning_queue_start_timestamp: Option<i64>,
    overloading_queue_start_timestamp: Option<i64>,
    query_compilation_start_timestamp: Option<i64>,
    read_bytes: Option<u64>,
}

/// The warehouse's statements that came between these times, in milliseconds since the Unix epoch.
pub(crate) async fn past(access: &MonitorAccess, warehouse_id: &str, from_ms: i64, until_ms: i64) -> Result<Past> {
    let mut query = vec![
        ("filter_by.warehouse_ids", warehouse_id.to_string()),
        ("filter_by.query_start_time_range.start_time_ms", from_ms.to_string()),
        ("filter_by.query_start_time_range.end_time_ms", until_ms.to_string()),
        ("include_metrics", "true".into()),
        ("max_results", PAGE.into()),
    ];
    let mut past = Past::default();
    for page in 0..PAGES_MAX {
        if page > 0 {
            tokio::time::sleep(PAGE_PAUSE).await;
        }
        let answer: Page = access.client.get(&access.identity, PATH, &query, Some(Instant::now() + PAGE_PATIENCE)).await?;
        past.statements.extend(answer.res.into_iter().filter_map(Line::into_statement));
        match answer.next_page_token.filter(|token| answer.has_next_page && !token.is_empty()) {
            Some(token) => {
                query.retain(|(name, _)| *name != "page_token");
                query.push(("page_token", token));
            }
            None => {
                past.whole = true;
                break;
            }
        }
    }
    Ok(past)
}

impl Line {
    fn into_statement(self) -> Option<PastStatement> {
        let Metrics {
            provisioning_queue_start_timestamp: provisioning_from_ms,
            overloading_queue_start_timestamp: overloading_from_ms,
            query_compilation_start_timestamp: compiled_from,
            read_bytes,
        } = self.metrics;
        let ended = matches!(self.status.as_deref(), Some("FINISHED" | "FAILED" | "CANCELED" | "CLOSED"));
        let waited = provisioning_from_ms.is_some() || overloading_from_ms.is_some();
        Some(PastStatement {
            query_id: self.query_tags.iter().find(|tag| tag.key == TAG).and_then(|tag| QueryId::parse(tag.value.as_deref()?)),
            provisioning_from_ms,
            overloading_from_ms,
            // One that waited and has no beginning has never begun.
            run_from_ms: compiled_from.or(self.query_start_time_ms.filter(|_| !waited)),
            ended_ms: self.execution_end_time_ms.or(self.query_end_time_ms).filter(|_| ended),
            read_bytes,
            statement_id: Some(self.query_id).filter(|id| !id.is_empty())?,
        })
    }
}

/// What each statement that has ended took, and met. A warehouse's time is shared out by who made
/// it longer: whoever woke it has its start, whoever came while nothing ran has the idle time before.
pub fn runs(past: &[PastStatement]) -> Vec<PastRun> {
    let begin = |s: &PastStatement| s.provisioning_from_ms.or(s.run_from_ms).or(s.ended_ms);
    let mut order: Vec<(i64, &PastStatement)> = past.iter().filter_map(|s| Some((begin(s)?, s))).collect();
    order.sort_by(|(a, s), (b, t)| (a, s.run_from_ms, &s.statement_id).cmp(&(b, t.run_from_ms, &t.statement_id)));
    let (mut busy_until, mut woken_at) = (None::<i64>, None::<i64>);
    let mut runs = Vec::with_capacity(order.len());
    for (_, statement) in order {
        let ended = statement.ended_ms;
        let run_from = statement.run_from_ms.or(ended);
        let (activity, start_ms) = met(statement, run_from, busy_until, woken_at);
        if start_ms.is_some() {
            woken_at = run_from;
        }
        busy_until = busy_until.max(Some(ended.unwrap_or(i64::MAX)));
        if let (Some(run_from), Some(ended)) = (run_from, ended) {
            runs.push(PastRun {
                statement_id: statement.statement_id.clone(),
                query_id: statement.query_id,
                run_ms: between(run_from, ended),
                activity,
                start_ms,
                read_bytes: statement.read_bytes,
            });
        }
    }
    runs
}

/// What the warehouse did when the statement came, and how long its start took if that was for it.
fn met(
    statement: &PastStatement,
    run_from: Option<i64>,
    busy_until: Option<i64>,
    woken_at: Option<i64>,
) -> (WarehouseActivity, Option<f64>) {
    let run_from = run_from.unwrap_or(i64::MAX);
    if let Some(waited_from) = statement.provisioning_from_ms {
        return match woken_at {
            // Somebody had woken it already.
            Some(up) if waited_from < up => (WarehouseActivity::Starting { remaining_ms: between(waited_from, run_from) }, None),
            _ => (WarehouseActivity::Asleep, Some(between(waited_from, run_from))),
        };
    }
    if let Some(waited_from) = statement.overloading_from_ms {
        return (WarehouseActivity::Queued { wait_ms: between(waited_from, run_from) }, None);
    }
    match busy_until {
        Some(until) if until > run_from => (WarehouseActivity::Busy, None),
        Some(until) => (WarehouseActivity::Idle { idle_ms: between(until, run_from) }, None),
        // Nothing before it in all that was read: as long as idle time lasts.
        None => (WarehouseActivity::Idle { idle_ms: f64::MAX }, None),
    }
}

fn between(from_ms: i64, until_ms: i64) -> f64 {
    until_ms.saturating_sub(from_ms).max(0) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(id: &str, from: i64, until: i64) -> PastStatement {
        PastStatement { statement_id: id.into(), run_from_ms: Some(from), ended_ms: Some(until), ..Default::default() }
    }

    fn told(past: &[PastStatement]) -> Vec<(String, f64, WarehouseActivity, Option<f64>)> {
        runs(past).into_iter().map(|r| (r.statement_id, r.run_ms, r.activity, r.start_ms)).collect()
    }

    #[test]
    fn the_one_who_wakes_it_has_the_start_and_who_finds_it_idle_the_idle_time() {
        use WarehouseActivity::{Asleep, Busy, Idle, Queued, Starting};
        let woke = PastStatement { provisioning_from_ms: Some(1_000), ..ran("a", 5_000, 7_000) };
        let waited_too = PastStatement { provisioning_from_ms: Some(3_000), ..ran("b", 5_000, 6_000) };
        let queued = PastStatement { overloading_from_ms: Some(6_200), ..ran("d", 6_500, 6_600) };
        let past = [ran("e", 9_000, 9_500), queued, ran("c", 6_000, 6_100), waited_too, woke];
        let expected = [
            ("a".to_string(), 2_000.0, Asleep, Some(4_000.0)),
            ("b".to_string(), 1_000.0, Starting { remaining_ms: 2_000.0 }, None),
            ("c".to_string(), 100.0, Busy, None),
            ("d".to_string(), 100.0, Queued { wait_ms: 300.0 }, None),
            ("e".to_string(), 500.0, Idle { idle_ms: 2_000.0 }, None),
        ];
        assert_eq!(told(&past), expected);
    }

    #[test]
    fn what_still_runs_keeps_it_busy_and_what_never_ran_took_nothing() {
        let running = PastStatement { ended_ms: None, ..ran("a", 1_000, 0) };
        let cancelled = PastStatement { run_from_ms: None, overloading_from_ms: Some(2_000), ..ran("b", 0, 3_000) };
        let told = told(&[running, cancelled, ran("c", 4_000, 4_500)]);
        assert_eq!(told[0], ("b".into(), 0.0, WarehouseActivity::Queued { wait_ms: 1_000.0 }, None));
        assert_eq!(told[1], ("c".into(), 500.0, WarehouseActivity::Busy, None));
        assert_eq!(told.len(), 2);
        assert_eq!(runs(&[ran("z", 5, 6)])[0].activity, WarehouseActivity::Idle { idle_ms: f64::MAX });
        // A clock that went back is no negative time.
        assert_eq!(runs(&[ran("z", 6, 5)])[0].run_ms, 0.0);
    }

    #[test]
    fn lines_are_read_as_the_history_writes_them() {
        let line = |text: &str| serde_json::from_str::<Line>(text).unwrap().into_statement();
        let id = QueryId::generate();
        let full = line(&format!(
            r#"{{"query_id": "s1", "status": "FINISHED", "query_start_time_ms": 10, "execution_end_time_ms": 40, "query_end_time_ms": 50,
                "query_tags": [{{"key": "team"}}, {{"key": "flightpath_query_id", "value": "{id}"}}],
                "metrics": {{"query_compilation_start_timestamp": 20, "provisioning_queue_start_timestamp": 12, "read_bytes": 77}}}}"#
        ));
        let expected = PastStatement { query_id: Some(id), provisioning_from_ms: Some(12), read_bytes: Some(77), ..ran("s1", 20, 40) };
        assert_eq!(full, Some(expected));
        let bare = line(r#"{"query_id": "s2", "status": "RUNNING", "query_start_time_ms": 10, "query_end_time_ms": 50}"#).unwrap();
        assert_eq!((bare.run_from_ms, bare.ended_ms, bare.query_id), (Some(10), None, None));
        assert_eq!(line(r#"{"status": "FINISHED"}"#), None);
    }
}

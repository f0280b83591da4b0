//! `/simulation`: what no real workspace has. Rules, faults and settings change while it runs, and
//! counters tell what was really done.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::{Settings, TableRules};
use crate::faults::Fault;
use crate::history::RateWindow;
use crate::state::App;
use crate::wire::{Answered, ApiError, Body};

#[derive(Default)]
pub(crate) struct Counters {
    counts: Mutex<Counts>,
    pub history: RateWindow,
}

#[derive(Default)]
struct Counts {
    calls: BTreeMap<&'static str, u64>,
    executions: u64,
    by_text: BTreeMap<String, u64>,
    by_tag: BTreeMap<String, u64>,
    cancels: u64,
    storage_requests: u64,
    storage_with_authorization: u64,
    storage_without_headers: u64,
    credentials: BTreeMap<String, u64>,
    objects_read: BTreeMap<String, u64>,
    objects_refused: BTreeMap<&'static str, u64>,
}

impl Counters {
    pub fn call(&self, kind: &'static str) {
        *self.counts.lock().calls.entry(kind).or_default() += 1;
    }

    /// Counts a statement that is run, however it ends.
    pub fn executed(&self, text: &str, tags: &[(String, String)]) {
        let mut counts = self.counts.lock();
        counts.executions += 1;
        *counts.by_text.entry(text.to_string()).or_default() += 1;
        for (key, value) in tags {
            *counts.by_tag.entry(format!("{key}={value}")).or_default() += 1;
        }
    }

    pub fn cancelled(&self) {
        self.counts.lock().cancels += 1;
    }

    pub fn storage_request(&self) {
        self.counts.lock().storage_requests += 1;
    }

    pub fn storage_with_authorization(&self) {
        self.counts.lock().storage_with_authorization += 1;
    }

    pub fn storage_without_headers(&self) {
        self.counts.lock().storage_without_headers += 1;
    }

    pub fn credentials_vended(&self, principal: &str, table: &str) {
        *self.counts.lock().credentials.entry(format!("{principal} {table}")).or_default() += 1;
    }

    /// A request to the simulated bucket that was answered, under whose credentials and for which table.
    pub fn object_read(&self, principal: &str, table: &str) {
        *self.counts.lock().objects_read.entry(format!("{principal} {table}")).or_default() += 1;
    }

    pub fn object_refused(&self, code: &'static str) {
        *self.counts.lock().objects_refused.entry(code).or_default() += 1;
    }

    fn shown(&self) -> Value {
        let counts = self.counts.lock();
        json!({
            "calls": counts.calls, "executions": counts.executions, "executions_by_text": counts.by_text,
            "executions_by_tag": counts.by_tag, "cancels": counts.cancels, "storage_requests": counts.storage_requests,
            "storage_requests_with_authorization": counts.storage_with_authorization,
            "storage_requests_without_headers": counts.storage_without_headers, "credentials_vended": counts.credentials,
            "objects_read": counts.objects_read, "objects_refused": counts.objects_refused,
        })
    }
}

pub(crate) async fn about(State(app): State<App>) -> Answered {
    Ok(Json(json!({
        "simulation": "simulated Databricks (not the real one)", "url": app.url,
        "endpoints": ["/simulation/tables", "/simulation/faults", "/simulation/settings", "/simulation/counters", "/simulation/revoke"],
    }))
    .into_response())
}

pub(crate) async fn counters(State(app): State<App>) -> Answered {
    let mut shown = app.counters.shown();
    shown["warehouses"] = app.warehouses.all().iter().map(|w| (w.config.id.clone(), w.usage())).collect::<serde_json::Map<_, _>>().into();
    Ok(Json(shown).into_response())
}

pub(crate) async fn tables(State(app): State<App>) -> Answered {
    Ok(Json(json!(app.rules.all())).into_response())
}

/// Replaces a table's rules.
pub(crate) async fn set_table(State(app): State<App>, Path(name): Path<String>, Body(rules): Body<TableRules>) -> Answered {
    if name.split('.').count() != 3 {
        return Err(ApiError::invalid(format!("`{name}` isn't a full name, catalog.schema.table")));
    }
    app.rules.set(&name, rules);
    Ok(Json(json!({})).into_response())
}

pub(crate) async fn remove_table(State(app): State<App>, Path(name): Path<String>) -> Answered {
    match app.rules.remove(&name) {
        true => Ok(Json(json!({})).into_response()),
        false => Err(ApiError::not_found("NOT_FOUND", format!("`{name}` has no rules"))),
    }
}

pub(crate) async fn faults(State(app): State<App>) -> Answered {
    Ok(Json(json!(app.faults.all())).into_response())
}

pub(crate) async fn add_fault(State(app): State<App>, Body(fault): Body<Fault>) -> Answered {
    if let Some(status) = fault.status
        && StatusCode::from_u16(status).is_err()
    {
        return Err(ApiError::invalid(format!("{status} isn't an HTTP status")));
    }
    app.faults.add(fault);
    Ok(Json(json!({})).into_response())
}

pub(crate) async fn clear_faults(State(app): State<App>) -> Answered {
    app.faults.clear();
    Ok(Json(json!({})).into_response())
}

/// Changes the settings that the body names.
pub(crate) async fn settings(State(app): State<App>, Body(changes): Body<serde_json::Map<String, Value>>) -> Answered {
    let mut current = app.settings.write();
    let failed = |e: serde_json::Error| ApiError::invalid(format!("these settings can't be taken: {e}"));
    let mut merged = serde_json::to_value(&*current).map_err(failed)?;
    for (name, value) in changes {
        merged[name] = value;
    }
    *current = serde_json::from_value::<Settings>(merged.clone()).map_err(failed)?;
    Ok(Json(merged).into_response())
}

#[derive(Deserialize)]
pub(crate) struct Revoke {
    token: String,
}

/// A token that no call accepts any more.
pub(crate) async fn revoke(State(app): State<App>, Body(revoke): Body<Revoke>) -> Answered {
    app.accounts.revoke(&revoke.token);
    Ok(Json(json!({})).into_response())
}

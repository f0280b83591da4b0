//! Plans statements against folders of tables and prints what each engine would be asked.
//!
//! `plan DIR... < statements.jsonl`, one `{"id": ..., "sql": ...}` per line; one JSON object per
//! line comes out. With `--time` every statement is planned again, cold and from the cache, and the
//! median times come too, in microseconds: of planning in all, and of its steps.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use flightpath_catalog::{Catalog, LocalCatalog};
use flightpath_plan::Statement;
use flightpath_planner::{Config, PlanRequest, Planner};
use flightpath_types::{Principal, Session};
use serde_json::{Value, json};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

const RUNS: usize = 7;

/// Busy time of spans by name, in microseconds, since it was taken last.
#[derive(Clone, Default)]
struct Steps(Arc<Mutex<BTreeMap<&'static str, u64>>>);

impl Steps {
    fn take(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().map(|mut steps| std::mem::take(&mut *steps)).unwrap_or_default()
    }
}

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Steps {
    fn on_enter(&self, id: &tracing::span::Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            span.extensions_mut().replace(Instant::now());
        }
    }

    fn on_exit(&self, id: &tracing::span::Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let Some(entered) = span.extensions_mut().remove::<Instant>() else { return };
        if let Ok(mut steps) = self.0.lock() {
            *steps.entry(span.name()).or_default() += u64::try_from(entered.elapsed().as_micros()).unwrap_or(u64::MAX);
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut dirs = Vec::new();
    let mut timed = false;
    for arg in std::env::args().skip(1) {
        if arg == "--time" { timed = true } else { dirs.push(PathBuf::from(arg)) }
    }
    let catalog: Arc<dyn Catalog> = Arc::new(LocalCatalog::open(flightpath_catalog::Config::new(dirs)).await?);
    let steps = Steps::default();
    tracing_subscriber::registry().with(timed.then(|| steps.clone())).init();
    let planner = Planner::new(catalog.clone(), Config::default());
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line: Value = serde_json::from_str(&line?)?;
        let text = line["sql"].as_str().unwrap_or_default();
        let request = PlanRequest { text: text.into(), session: Session::new(Principal::new("somebody")), params: None, token: None };
        let mut answer = plan(&planner, &request).await;
        answer["id"] = line["id"].clone();
        if timed {
            answer["cached_us"] = typical(&planner, &request, &steps).await.map(|(us, _)| us).into();
            let cold = Planner::new(catalog.clone(), Config { cached_bytes_max: 0, ..Config::default() });
            if let Some((us, steps)) = typical(&cold, &request, &steps).await {
                answer["cold_us"] = us.into();
                answer["steps_us"] = json!(steps);
            }
        }
        writeln!(out, "{answer}")?;
    }
    Ok(())
}

/// The middle one of a few runs.
async fn typical(planner: &Planner, request: &PlanRequest, steps: &Steps) -> Option<(u64, BTreeMap<&'static str, u64>)> {
    let mut runs = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        steps.take();
        let planned = planner.plan(request).await.ok()?;
        runs.push((planned.plan_us, steps.take()));
    }
    runs.sort_by_key(|(us, _)| *us);
    runs.into_iter().nth(RUNS / 2)
}

async fn plan(planner: &Planner, request: &PlanRequest) -> Value {
    let planned = match planner.plan(request).await {
        Ok(planned) => planned,
        Err(error) => {
            return json!({"error": error.to_string(), "kind": error.kind().as_str(), "class": error.class(), "sql_state": error.sql_state()});
        }
    };
    let Statement::Query(query) = &planned.statement else {
        return json!({"kind": planned.statement.kind().as_str()});
    };
    let schema: Vec<Value> = query
        .schema
        .fields()
        .iter()
        .map(|f| json!({"name": f.name(), "type": flightpath_functions::types::name(f.data_type()), "nullable": f.is_nullable()}))
        .collect();
    let scans: serde_json::Map<String, Value> = query
        .scans
        .iter()
        .map(|(id, scan)| {
            let files: Vec<&str> = scan.files.iter().map(|f| f.path.as_str()).collect();
            let columns: Vec<&str> = scan.columns.iter().map(|i| scan.snapshot.schema.field(*i).name().as_str()).collect();
            (format!("s{}", id.0), json!({"files": files, "columns": columns, "table": scan.snapshot.name.to_string()}))
        })
        .collect();
    json!({
        "plan_us": planned.plan_us,
        "duckdb": query.duckdb.as_ref().ok().map(|c| &c.sql),
        "duckdb_refusal": query.duckdb.as_ref().err().map(|r| &r.reason),
        "datafusion_refusal": query.datafusion.as_ref().err().map(|r| &r.reason),
        "schema": schema,
        "scans": scans,
        "ordered": query.ordered,
        "features": query.features,
        "typed_plan": query.plan.display_indent().to_string(),
        "optimized_plan": query.optimized.display_indent().to_string(),
    })
}

//! Plans statements against folders of tables and prints what each engine would be asked.
//!
//! `plan DIR... < statements.jsonl`, one `{"id": ..., "sql": ...}` per line; one JSON object per
//! line comes out. With `--time` every statement is planned again, cold and from the cache.

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::sync::Arc;

use flightpath_catalog::{Catalog, LocalCatalog};
use flightpath_plan::Statement;
use flightpath_planner::{Config, PlanRequest, Planner};
use flightpath_types::{Principal, Session};
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut dirs = Vec::new();
    let mut timed = false;
    for arg in std::env::args().skip(1) {
        if arg == "--time" { timed = true } else { dirs.push(PathBuf::from(arg)) }
    }
    let catalog: Arc<dyn Catalog> = Arc::new(LocalCatalog::open(flightpath_catalog::Config::new(dirs)).await?);
    let planner = Planner::new(catalog.clone(), Config::default());
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line: Value = serde_json::from_str(&line?)?;
        let text = line["sql"].as_str().unwrap_or_default();
        let request = PlanRequest { text: text.into(), session: Session::new(Principal::new("somebody")), params: None, token: None };
        let mut answer = plan(&planner, &request).await;
        answer["id"] = line["id"].clone();
        if timed {
            answer["cached_us"] = best(&planner, &request).await.into();
            let cold = Planner::new(catalog.clone(), Config { cached_bytes_max: 0, ..Config::default() });
            answer["cold_us"] = best(&cold, &request).await.into();
        }
        writeln!(out, "{answer}")?;
    }
    Ok(())
}

async fn best(planner: &Planner, request: &PlanRequest) -> Option<u64> {
    let mut best = None;
    for _ in 0..5 {
        let planned = planner.plan(request).await.ok()?;
        best = Some(best.map_or(planned.plan_us, |b: u64| b.min(planned.plan_us)));
    }
    best
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

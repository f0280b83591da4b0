//! What a query costs that reads next to nothing: no table, one row of a small table, a scan with
//! a deletion vector and partitions. Prints microseconds per query, medians.
//!
//! `cargo run --release -p flightpath-engine-datafusion --example overhead`

use std::sync::Arc;
use std::time::{Duration, Instant};

use flightpath_engine::conformance::Fixture;
use flightpath_engine::{Engine, Execution};
use flightpath_engine_datafusion::{Config, DataFusionEngine};
use flightpath_plan::PlannedQuery;
use flightpath_types::{Principal, QueryId};
use futures::StreamExt;

const ROUNDS: usize = 500;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let folder = tempfile::tempdir()?;
    let fixture = Fixture::write(folder.path())?;
    let engine = DataFusionEngine::new(Config::default())?;
    for (name, query) in fixture.small()? {
        let mut times = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            times.push(run(&engine, &query).await?);
        }
        times.sort();
        println!("{:>8} us  {name}", times[ROUNDS / 2].as_micros());
    }
    Ok(())
}

async fn run(engine: &DataFusionEngine, query: &Arc<PlannedQuery>) -> Result<Duration, flightpath_types::Error> {
    let started = Instant::now();
    let execution = Execution {
        query_id: QueryId::generate(),
        principal: Principal::new("overhead"),
        token: None,
        deadline: None,
        traceparent: None,
        findings: Default::default(),
    };
    let mut stream = engine.execute(query.clone(), execution).await?;
    while let Some(batch) = stream.next().await {
        batch?;
    }
    Ok(started.elapsed())
}

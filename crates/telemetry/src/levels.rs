//! What is going on now: asked for when somebody collects, and never kept.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use crate::collector::Collector;

/// How busy one engine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineLevel {
    pub engine: String,
    pub running: u64,
    /// Queries that wait for a slot.
    pub queued: u64,
    pub slots: u64,
    /// Whether it takes work.
    pub up: bool,
}

/// The query log between queries and its database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogLevel {
    pub taken: u64,
    pub stored: u64,
    pub dropped: u64,
    /// Not yet in the database.
    pub pending_bytes: u64,
}

/// Where to ask. Called from a thread of the collector's: must be quick and never block.
pub trait Levels: Send + Sync {
    fn engines(&self) -> Vec<EngineLevel>;
    fn log(&self) -> LogLevel;
    /// Open client connections, where that's known.
    fn connections(&self) -> Option<u64>;
    /// Sessions whose settings are kept, where that's known.
    fn sessions(&self) -> Option<u64>;
    /// Planned queries, by whether their plan was remembered.
    fn plans(&self) -> LookupLevel;
    /// How often tables' metadata was asked for.
    fn catalog(&self) -> LookupLevel;
}

/// Questions to something that remembers answers, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LookupLevel {
    /// Answered from memory.
    pub hits: u64,
    pub misses: u64,
}

pub(crate) fn watch(meter: &Meter, levels: &Arc<dyn Levels>) {
    let engine_gauge = |name: &'static str, unit: &'static str, help: &'static str, read: fn(&EngineLevel) -> u64| {
        let levels = levels.clone();
        meter
            .u64_observable_gauge(name)
            .with_unit(unit)
            .with_description(help)
            .with_callback(move |observer| {
                for level in levels.engines() {
                    observer.observe(read(&level), &[KeyValue::new("flightpath.engine", level.engine.clone())]);
                }
            })
            .build()
    };
    engine_gauge("flightpath.engine.running", "{query}", "Queries that an engine runs now", |level| level.running);
    engine_gauge("flightpath.engine.queued", "{query}", "Queries that wait for an engine's slot", |level| level.queued);
    engine_gauge("flightpath.engine.slots", "{query}", "Queries that an engine runs at once", |level| level.slots);
    engine_gauge("flightpath.engine.up", "{engine}", "1 when an engine takes work, else 0", |level| u64::from(level.up));

    let log = levels.clone();
    meter
        .u64_observable_gauge("flightpath.log.pending")
        .with_unit("By")
        .with_description("Records on disk that the log's database hasn't taken yet")
        .with_callback(move |observer| observer.observe(log.log().pending_bytes, &[]))
        .build();
    let log = levels.clone();
    meter
        .u64_observable_counter("flightpath.log.records")
        .with_unit("{record}")
        .with_description("The query log's records: taken from queries, stored in the database, dropped")
        .with_callback(move |observer| {
            let level = log.log();
            for (state, count) in [("taken", level.taken), ("stored", level.stored), ("dropped", level.dropped)] {
                observer.observe(count, &[KeyValue::new("flightpath.state", state)]);
            }
        })
        .build();
    let sessions = levels.clone();
    meter
        .u64_observable_gauge("flightpath.sessions")
        .with_unit("{session}")
        .with_description("Sessions whose settings are kept")
        .with_callback(move |observer| {
            if let Some(count) = sessions.sessions() {
                observer.observe(count, &[]);
            }
        })
        .build();
    let catalog = levels.clone();
    meter
        .u64_observable_counter("flightpath.catalog.lookups")
        .with_unit("{lookup}")
        .with_description("Tables' metadata asked for, by whether it was in memory")
        .with_callback(move |observer| {
            let LookupLevel { hits, misses } = catalog.catalog();
            for (result, count) in [("hit", hits), ("miss", misses)] {
                observer.observe(count, &[KeyValue::new("flightpath.result", result)]);
            }
        })
        .build();
    let plans = levels.clone();
    meter
        .u64_observable_counter("flightpath.plan_cache")
        .with_unit("{plan}")
        .with_description("Planned queries, by whether the plan was cached; a prepared query is planned when it is prepared")
        .with_callback(move |observer| {
            let LookupLevel { hits, misses } = plans.plans();
            for (result, count) in [("hit", hits), ("miss", misses)] {
                observer.observe(count, &[KeyValue::new("flightpath.result", result)]);
            }
        })
        .build();
    let connections = levels.clone();
    meter
        .u64_observable_gauge("flightpath.connections")
        .with_unit("{connection}")
        .with_description("Open client connections")
        .with_callback(move |observer| {
            if let Some(count) = connections.connections() {
                observer.observe(count, &[]);
            }
        })
        .build();
}

/// What one collector of spans, and one of logs, didn't take.
pub(crate) fn watch_collectors(meter: &Meter, spans: &Arc<Collector>, logs: Option<&Arc<Collector>>) {
    let dropped = |name: &'static str, unit: &'static str, help: &'static str, collector: Arc<Collector>| {
        let counter = meter.u64_observable_counter(name).with_unit(unit).with_description(help);
        counter.with_callback(move |observer| observer.observe(collector.dropped(), &[])).build();
    };
    dropped("flightpath.telemetry.dropped_spans", "{span}", "Spans that no collector took", spans.clone());
    if let Some(logs) = logs {
        dropped("flightpath.telemetry.dropped_logs", "{record}", "Lines of the log that no collector took", logs.clone());
    }
}

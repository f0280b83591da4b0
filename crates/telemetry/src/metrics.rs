//! Metrics of ended queries, from their records alone: what a metric counts and what the query log
//! holds can't disagree. Labels are bounded: names that a client could invent aren't labels.

use std::collections::HashSet;
use std::sync::Arc;

use flightpath_types::{QueryRecord, ShadowRun};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter};
use parking_lot::RwLock;

/// Seconds: from a cached answer to a long report.
const SECONDS: [f64; 17] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0];
/// Different values of one label; what comes later is `other`.
const VALUES_MAX: usize = 64;
const OTHER: &str = "other";
/// The engine of a statement that the router answered itself, or that none may run.
const NO_ENGINE: &str = "none";

/// Called with each ended query's record.
pub struct QueryMetrics {
    queries: Counter<u64>,
    duration: Histogram<f64>,
    phases: Histogram<f64>,
    errors: Counter<u64>,
    decisions: Counter<u64>,
    refusals: Counter<u64>,
    failovers: Counter<u64>,
    rows: Counter<u64>,
    bytes: Counter<u64>,
    scanned: Counter<u64>,
    predicted_usd: Counter<f64>,
    actual_usd: Counter<f64>,
    shadow_runs: Counter<u64>,
    engines: Label,
    strategies: Label,
    kinds: Label,
}

impl QueryMetrics {
    pub(crate) fn new(meter: &Meter) -> Self {
        let count = |name: &'static str, unit: &'static str, help: &'static str| {
            meter.u64_counter(name).with_unit(unit).with_description(help).build()
        };
        let seconds = |name: &'static str, help: &'static str| {
            meter.f64_histogram(name).with_unit("s").with_boundaries(SECONDS.to_vec()).with_description(help).build()
        };
        Self {
            queries: count("flightpath.queries", "{query}", "Ended queries, by how they ended"),
            duration: seconds("flightpath.query.duration", "From a query's arrival to the end of its result"),
            phases: seconds("flightpath.query.phase.duration", "Time in one phase of a query"),
            errors: count("flightpath.errors", "{query}", "Queries that failed, by the kind of error"),
            decisions: count("flightpath.decisions", "{decision}", "Decisions, by the engine that was chosen"),
            refusals: count("flightpath.refusals", "{refusal}", "Engines that were refused for a query, by the reason's class"),
            failovers: count("flightpath.failovers", "{failure}", "Engines that failed a query before its first batch"),
            rows: count("flightpath.result.rows", "{row}", "Rows handed to clients"),
            bytes: count("flightpath.result.size", "By", "Bytes of Arrow data handed to clients"),
            scanned: count("flightpath.scan.size", "By", "Bytes that queries were predicted to read, after pruning"),
            predicted_usd: meter
                .f64_counter("flightpath.cost.predicted_usd")
                .with_unit("USD")
                .with_description("US dollars that queries were predicted to cost on the engine that ran them")
                .build(),
            actual_usd: meter
                .f64_counter("flightpath.cost.actual_usd")
                .with_unit("USD")
                .with_description("US dollars that queries turned out to cost, of those where that was known at their end")
                .build(),
            shadow_runs: count("flightpath.shadow.runs", "{run}", "Queries run again on a second engine, by what comparing found"),
            engines: Label::default(),
            strategies: Label::default(),
            kinds: Label::default(),
        }
    }

    pub fn record(&self, record: &QueryRecord) {
        let engine = self.engines.value("flightpath.engine", record.engine.as_deref().unwrap_or(NO_ENGINE));
        let outcome = KeyValue::new("flightpath.outcome", record.outcome.as_str());
        let kind = self.kinds.value("flightpath.statement", &record.statement_kind);
        self.queries.add(1, &[engine.clone(), kind, outcome.clone()]);
        self.duration.record(seconds(record.times.total_us), &[engine.clone(), outcome]);
        self.record_phases(record, &engine);
        if let Some(kind) = record.error_kind {
            self.errors.add(1, &[engine.clone(), KeyValue::new("error.type", kind.as_str())]);
        }
        for failover in &record.failovers {
            // Written as `engine: error`.
            let failed = failover.split(": ").next().unwrap_or(OTHER);
            self.failovers.add(1, &[self.engines.value("flightpath.engine", failed)]);
        }
        self.rows.add(record.rows, std::slice::from_ref(&engine));
        self.bytes.add(record.bytes, std::slice::from_ref(&engine));
        if let Some(usd) = record.usd_actual {
            self.actual_usd.add(usd.max(0.0), std::slice::from_ref(&engine));
        }
        self.record_decision(record, &engine);
    }

    fn record_phases(&self, record: &QueryRecord, engine: &KeyValue) {
        let times = &record.times;
        let phases = [
            ("plan", times.plan_us),
            ("decide", times.decide_us),
            ("queue", times.queue_us),
            ("execute", times.first_batch_us),
            ("stream", times.stream_us),
        ];
        for (phase, us) in phases.into_iter().filter(|(_, us)| *us > 0) {
            self.phases.record(seconds(us), &[engine.clone(), KeyValue::new("flightpath.phase", phase)]);
        }
    }

    fn record_decision(&self, record: &QueryRecord, engine: &KeyValue) {
        let Some(decision) = &record.decision else { return };
        let chosen = decision.chosen().map_or(NO_ENGINE, |c| c.engine.as_str());
        let strategy = self.strategies.value("flightpath.strategy", &decision.strategy);
        self.decisions.add(1, &[self.engines.value("flightpath.engine", chosen), strategy]);
        for candidate in &decision.candidates {
            if let Some(refusal) = &candidate.refusal {
                let refused = self.engines.value("flightpath.engine", candidate.engine.as_str());
                self.refusals.add(1, &[refused, KeyValue::new("flightpath.refusal", refusal.class.as_str())]);
            }
        }
        // What was decided for EXPLAIN ROUTE ran nowhere.
        if let Some(ran) = decision.candidates.iter().find(|c| Some(c.engine.as_str()) == record.engine.as_deref()) {
            self.scanned.add(ran.numbers.scan_bytes, std::slice::from_ref(engine));
            self.predicted_usd.add(ran.numbers.usd.max(0.0), std::slice::from_ref(engine));
        }
    }

    pub fn record_shadow(&self, run: &ShadowRun) {
        let labels = [
            self.engines.value("flightpath.engine", run.engine.as_str()),
            self.engines.value("flightpath.shadow_engine", run.shadow_engine.as_str()),
            KeyValue::new("flightpath.outcome", run.outcome.as_str()),
        ];
        self.shadow_runs.add(1, &labels);
    }
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

/// The values that one label has taken.
#[derive(Default)]
struct Label {
    known: RwLock<HashSet<Arc<str>>>,
}

impl Label {
    fn value(&self, name: &'static str, value: &str) -> KeyValue {
        if let Some(known) = self.known.read().get(value) {
            return KeyValue::new(name, known.clone());
        }
        let mut known = self.known.write();
        if known.len() >= VALUES_MAX {
            return KeyValue::new(name, OTHER);
        }
        let value: Arc<str> = value.into();
        known.insert(value.clone());
        KeyValue::new(name, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_takes_only_so_many_values() {
        let label = Label::default();
        for i in 0..VALUES_MAX {
            assert_eq!(label.value("k", &format!("v{i}")).value.as_str(), format!("v{i}"));
        }
        assert_eq!(label.value("k", "one too many").value.as_str(), OTHER);
        assert_eq!(label.value("k", "v3").value.as_str(), "v3");
    }
}

//! What an `ab` strategy's two sides did, from the record in the log's database: latency and dollars,
//! the difference of the sides with its confidence interval. Reads only, a page at a time.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use flightpath_querylog::{HistoryFilter, PageKey, QueryHistory, Store};
use flightpath_router::{AbOutcome, AbReport, AbUnit, Method, Strategy, compare};
use flightpath_types::{Error, ErrorKind, Outcome, PhaseTimes, QueryRecord, Result};
use serde::Serialize;

use crate::quarantine::open;
use crate::settings::Settings;
use crate::state;

/// Records read at once.
const PAGE: usize = 500;

/// Which part of the record is looked at.
#[derive(Debug, Clone, Default)]
pub struct AbQuestion {
    /// Milliseconds since the Unix epoch.
    pub from_unix_ms: i64,
    /// Of this test only.
    pub strategy: Option<AbTestStrategy>,
    /// The newest so many queries of that time, those of no test among them.
    pub queries_max: usize,
}

/// An `ab` strategy, however it was spelt.
#[derive(Debug, Clone, PartialEq)]
pub struct AbTestStrategy(Strategy);

impl AbTestStrategy {
    pub fn parse(text: &str) -> Result<Self, String> {
        match Strategy::parse(text)? {
            test @ Strategy::Ab(_) => Ok(Self(test)),
            other => Err(format!("`{other}` has no two sides: a test is written `ab:<a>|<b>[:share of b][:shape|:query]`")),
        }
    }
}

/// As the record has it.
impl fmt::Display for AbTestStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What one test says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AbTestReport {
    pub strategy: String,
    pub a: AbSide,
    pub b: AbSide,
    /// First and last query; milliseconds since the Unix epoch.
    pub from_unix_ms: i64,
    pub until_unix_ms: i64,
    pub latency_ms: Option<AbComparison>,
    pub usd: Option<AbComparison>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct AbSide {
    pub strategy: String,
    pub queries: usize,
    /// Of these, what ended with an error of the server's or an engine's; not compared.
    pub failed: usize,
}

/// `b` against `a`; lower is better.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AbComparison {
    pub runs_a: usize,
    pub runs_b: usize,
    pub mean_a: f64,
    pub mean_b: f64,
    /// `paired` over shapes that both sides ran, or `welch` over all runs.
    pub method: &'static str,
    /// Shapes or runs that the intervals rest on.
    pub compared: usize,
    pub difference: AbInterval,
    /// Of geometric means; `None` where a value isn't above zero.
    pub ratio: Option<AbInterval>,
    /// `a`, `b`, or `None` while the interval of the difference holds zero.
    pub better: Option<&'static str>,
}

/// An estimate with its 95% confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct AbInterval {
    pub estimate: f64,
    pub low: f64,
    pub high: f64,
}

/// What was read, and what it says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AbFindings {
    pub queries_read: usize,
    /// There were more queries than were read.
    pub cut: bool,
    pub tests: Vec<AbTestReport>,
}

/// Reads the record and compares the sides of every test in it. `NotFound` where there's no record.
pub async fn ab_report(settings: &Settings, question: &AbQuestion) -> Result<AbFindings> {
    // Opening would make the file: a report on nothing, and no word about a folder that was misspelt.
    if let Some(file) = state::log_file_of(settings).filter(|file| !file.exists()) {
        let file = file.display();
        return Err(Error::not_found(format!("there's no record at {file}: is that where the server's `state_dir` or `log.url` says?")));
    }
    let store: Arc<dyn Store> = open(settings).await?;
    let mut collected = Collected::default();
    let filter = HistoryFilter { from_unix_ms: Some(question.from_unix_ms), ..Default::default() };
    let (mut after, mut read) = (None, 0);
    loop {
        let wanted = PAGE.min(question.queries_max - read);
        let records = QueryHistory::page(store.as_ref(), &filter, after, wanted.max(1)).await?;
        let exhausted = records.len() < wanted.max(1);
        if wanted == 0 {
            return Ok(collected.findings(read, !records.is_empty()));
        }
        read += records.len();
        after = records.last().map(PageKey::of);
        records.iter().for_each(|record| collected.take(record, question.strategy.as_ref()));
        if exhausted {
            return Ok(collected.findings(read, false));
        }
    }
}

#[derive(Default)]
struct Collected(BTreeMap<String, Test>);

struct Test {
    sides: [AbSide; 2],
    from_unix_ms: i64,
    until_unix_ms: i64,
    latency_ms: Vec<AbOutcome>,
    usd: Vec<AbOutcome>,
}

impl Collected {
    fn take(&mut self, record: &QueryRecord, wanted: Option<&AbTestStrategy>) {
        let Some((decision, arm)) = record.decision.as_ref().and_then(|d| Some((d, d.arm.as_ref()?))) else { return };
        // What was only explained ran nowhere.
        if record.engine.is_none() {
            return;
        }
        let Ok(strategy) = Strategy::parse(&decision.strategy) else { return };
        if wanted.is_some_and(|wanted| wanted.0 != strategy) {
            return;
        }
        let Strategy::Ab(ab) = strategy else { return };
        let names = [ab.a.to_string(), ab.b.to_string()];
        let Some(side) = names.iter().position(|name| name == arm) else { return };
        let test = self.0.entry(decision.strategy.clone()).or_insert_with(|| Test {
            sides: names.map(|strategy| AbSide { strategy, ..Default::default() }),
            from_unix_ms: record.started_unix_ms,
            until_unix_ms: record.started_unix_ms,
            latency_ms: Vec::new(),
            usd: Vec::new(),
        });
        test.from_unix_ms = test.from_unix_ms.min(record.started_unix_ms);
        test.until_unix_ms = test.until_unix_ms.max(record.started_unix_ms);
        test.sides[side].queries += 1;
        test.sides[side].failed += usize::from(record.outcome == Outcome::Error);
        // A run that was cut short took at least so long: to leave it out would make its side look fast.
        let timed_out = record.error_kind == Some(ErrorKind::DeadlineExceeded);
        if record.outcome != Outcome::Success && !timed_out {
            return;
        }
        let pair = record.fingerprint.map(|f| f.as_u64());
        let unit = match ab.unit {
            AbUnit::Shape => Some(unit_of(record)),
            AbUnit::Query => None,
        };
        let outcome = |value: f64| AbOutcome { b: side == 1, pair, unit, value };
        let took_ms = latency_ms(&record.times);
        test.latency_ms.push(outcome(if timed_out { took_ms.max(record.times.total_us as f64 / 1000.0) } else { took_ms }));
        test.usd.extend(record.usd_actual.map(outcome));
    }

    fn findings(self, queries_read: usize, cut: bool) -> AbFindings {
        let report = |(strategy, test): (String, Test)| {
            let [a, b] = test.sides;
            AbTestReport {
                strategy,
                a,
                b,
                from_unix_ms: test.from_unix_ms,
                until_unix_ms: test.until_unix_ms,
                latency_ms: compare(&test.latency_ms).map(AbComparison::of),
                usd: compare(&test.usd).map(AbComparison::of),
            }
        };
        AbFindings { queries_read, cut, tests: self.0.into_iter().map(report).collect() }
    }
}

/// A principal's shape of query, which is drawn for one side as a whole.
fn unit_of(record: &QueryRecord) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&record.principal, record.fingerprint).hash(&mut hasher);
    hasher.finish()
}

/// What the client waited for, however slowly it read: planning, deciding, waiting for a place, and
/// the engines, those that failed before the one that answered among them.
fn latency_ms(times: &PhaseTimes) -> f64 {
    let engines_us = times.first_batch_us.max(times.engine_us);
    [times.plan_us, times.decide_us, times.queue_us, engines_us].iter().sum::<u64>() as f64 / 1000.0
}

impl AbComparison {
    fn of(report: AbReport) -> Self {
        let interval = |i: flightpath_router::Interval| AbInterval { estimate: i.estimate, low: i.low, high: i.high };
        let difference = interval(report.difference);
        let better = match (difference.low, difference.high) {
            (low, _) if low > 0.0 => Some("a"),
            (_, high) if high < 0.0 => Some("b"),
            (_, _) => None,
        };
        Self {
            runs_a: report.runs_a,
            runs_b: report.runs_b,
            mean_a: report.mean_a,
            mean_b: report.mean_b,
            method: match report.method {
                Method::Paired => "paired",
                Method::Welch => "welch",
            },
            compared: report.compared,
            difference,
            ratio: report.ratio.map(interval),
            better,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_is_the_same_however_it_is_spelt() {
        let known = AbTestStrategy::parse("ab:rules|cost:0.5").unwrap();
        for text in ["ab:rules|cost", "ab:rules|cost:shape", "ab:rules|cost:0.5:shape", " ab: rules | cost :0.50"] {
            assert_eq!(AbTestStrategy::parse(text), Ok(known.clone()), "{text}");
        }
        assert_eq!(known.to_string(), "ab:rules|cost:0.5");
        for text in ["ab:rules|cost:0.4", "ab:rules|cost:query", "ab:cost|rules"] {
            assert_ne!(AbTestStrategy::parse(text), Ok(known.clone()), "{text}");
        }
        assert!(AbTestStrategy::parse("cost").unwrap_err().contains("no two sides"));
        assert!(AbTestStrategy::parse("bogus").unwrap_err().contains("strategy must be one of"));
    }

    #[tokio::test]
    async fn a_report_makes_no_record() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        let mut by_folder = Settings::default();
        by_folder.state_dir = missing.clone();
        let mut by_url = Settings::default();
        by_url.log_url = Some(format!("sqlite://{}/log.sqlite", missing.display()));
        for settings in [by_folder, by_url] {
            let error = ab_report(&settings, &AbQuestion { queries_max: 1, ..Default::default() }).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
            assert!(error.message().contains("missing/log.sqlite"), "{error}");
        }
        assert!(!missing.exists());
    }
}

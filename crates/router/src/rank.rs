//! The order among engines that may run a query. Each strategy is a key that only grows when an
//! engine's numbers get worse, and a sentence that says what decided.

use std::cmp::Ordering;

use flightpath_types::{CandidateNumbers, ComputePrice, EngineFacts, EngineId, Features, PredictionSource, WarehouseActivity};

use crate::number::{bytes_text, millis_text, usd_text};
use crate::{Profile, Strategy};

/// Up to here the fixed cost of an engine outweighs its scan speed.
const SMALL_SCAN_BYTES: u64 = 4 << 20;
/// More joins than this aren't simple: the order of joins decides, and the faster engine wins.
const SIMPLE_JOINS_MAX: u32 = 1;
/// A query that may take this long is big...
const BIG_MS: f64 = 60_000.0;
/// ...and, where it never ran, with fewer runs of others behind the prediction than this, too uncertain for a small engine.
const SURE_OBSERVATIONS: u32 = 3;
/// What fits nowhere isn't worth waking a warehouse for up to this many times an engine's memory: it spills some of
/// it, and estimates of memory are off by as much.
const SPILL_FACTOR_ASLEEP: u64 = 8;
/// Strata of a log-normal distribution: how far from the median, in distances of the 95th percentile
/// from it, and how much of the distribution lies there. In pairs, so that more spread is never less
/// lateness.
const STRATA: [(f64, f64); 5] = [(-1.0, 0.09), (-0.5, 0.22), (0.0, 0.34), (0.5, 0.22), (1.0, 0.09)];
/// Beyond the 95th percentile, as multiples of it: lateness is dear, so that the tail counts.
const TAIL: [(f64, f64); 2] = [(1.6, 0.03), (2.5, 0.01)];
/// And where a shape of query was never run: now and then one goes far worse on an engine than anything
/// that was learned from others, by its order of joins say. What saves a thousandth of a cent isn't
/// worth finding out; a query that would keep its SLO even then may be tried anywhere.
const UNTRIED: (f64, f64) = (12.0, 0.002);

/// An engine that may run the query.
pub(crate) struct Contestant<'a> {
    /// Its place among all candidates.
    pub index: usize,
    pub numbers: CandidateNumbers,
    pub facts: &'a EngineFacts,
}

/// In order of preference, with the sentence that says why.
pub(crate) struct Ranked {
    pub index: usize,
    pub reason: String,
}

/// Why an engine comes after every other one that has no such reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Risk {
    None,
    /// Big, perhaps, and little is known of how it goes there.
    Uncertain,
    /// Needs more memory than there is.
    Memory,
}

struct Key<'a> {
    risk: Risk,
    /// Lower is better, one after the other.
    scores: [f64; 3],
    id: &'a EngineId,
}

impl Key<'_> {
    fn compare(&self, other: &Self) -> Ordering {
        let scores = || self.scores.iter().zip(&other.scores).map(|(a, b)| a.total_cmp(b)).find(|order| order.is_ne());
        self.risk.cmp(&other.risk).then_with(|| scores().unwrap_or(Ordering::Equal)).then_with(|| self.id.cmp(other.id))
    }
}

pub(crate) fn rank(strategy: &Strategy, profile: &Profile, features: &Features, contestants: &[Contestant<'_>]) -> Vec<Ranked> {
    let outlook = Outlook {
        awake: contestants.iter().any(|contestant| is_awake(contestant.facts)),
        fits: contestants.iter().any(|contestant| !scales(contestant.facts) && fits(contestant, 1)),
    };
    let mut keyed: Vec<(Key<'_>, &Contestant<'_>)> =
        contestants.iter().map(|contestant| (key(strategy, profile, features, contestant, outlook), contestant)).collect();
    keyed.sort_by(|(a, _), (b, _)| a.compare(b));
    let what = describe(features);
    let alone = keyed.len() == 1;
    keyed
        .iter()
        .enumerate()
        .map(|(position, (key, contestant))| {
            let why = match (key.risk, alone) {
                (Risk::None, true) => "the only engine that may run it".to_string(),
                (Risk::None, false) => because(strategy, profile, features, contestant, position),
                (Risk::Uncertain, _) => format!(
                    "big and little known of it here: could take {}; engines that scale come first",
                    millis_text(contestant.numbers.latency_p95_ms)
                ),
                (Risk::Memory, _) => format!(
                    "would spill: needs about {}, has {}",
                    bytes_text(contestant.numbers.memory_bytes),
                    bytes_text(contestant.facts.memory_bytes_max)
                ),
            };
            let separator = if small(strategy, features) && key.risk == Risk::None && !alone { ": " } else { "; " };
            Ranked { index: contestant.index, reason: format!("{what}{separator}{why}") }
        })
        .collect()
}

/// What there is for a query that may turn out big.
#[derive(Debug, Clone, Copy)]
struct Outlook {
    /// A warehouse is up, for which such a query is little trouble.
    awake: bool,
    /// An engine that is paid for in any case has the memory.
    fits: bool,
}

/// A warehouse that sleeps isn't woken for what probably goes well elsewhere. Memory counts by its median in any
/// case: what needs more than that spills, or moves on before anything has reached the client, and 95th percentiles
/// of memory are a wide guess.
fn key<'a>(strategy: &Strategy, profile: &Profile, features: &Features, contestant: &'a Contestant<'_>, outlook: Outlook) -> Key<'a> {
    let (numbers, facts) = (&contestant.numbers, contestant.facts);
    let latency_ms = if outlook.awake { numbers.latency_p95_ms } else { numbers.latency_ms };
    let spills = if outlook.awake || outlook.fits { 1 } else { SPILL_FACTOR_ASLEEP };
    let risk = if !fits(contestant, spills) {
        Risk::Memory
    } else if latency_ms >= BIG_MS && uncertain(numbers) && !scales(facts) {
        Risk::Uncertain
    } else {
        Risk::None
    };
    let scores = match strategy {
        // As long as nothing is known, the overhead alone: an engine that starts fast gets its chance.
        Strategy::Rules if small(strategy, features) && numbers.source == PredictionSource::Prior => {
            [facts.overhead_ms.max(0.0) + numbers.wait_ms, numbers.latency_ms, numbers.usd]
        }
        Strategy::Rules | Strategy::Latency | Strategy::Ab(_) => [numbers.latency_ms, numbers.latency_p95_ms, numbers.usd],
        Strategy::Cost { usd_per_second_late, slo_ms } => {
            let worth = usd_per_second_late.unwrap_or(profile.usd_per_second_late);
            [cost_usd(numbers, worth, slo_ms.unwrap_or(profile.slo_ms)), numbers.latency_ms, numbers.latency_p95_ms]
        }
        Strategy::CheapestWithinSlo { slo_ms } => match within(numbers, slo_ms.unwrap_or(profile.slo_ms)) {
            true => [0.0, numbers.usd, numbers.latency_ms],
            false => [1.0, numbers.latency_ms, numbers.usd],
        },
        Strategy::Always(engine) => [f64::from(u8::from(*engine != facts.id)), numbers.latency_ms, numbers.usd],
    };
    // A NaN in the engine's facts must not come first.
    Key { risk, scores: scores.map(|score| if score.is_nan() { f64::INFINITY } else { score }), id: &facts.id }
}

/// It needs no more than so many times the engine's memory.
fn fits(contestant: &Contestant<'_>, times: u64) -> bool {
    contestant.numbers.memory_bytes <= contestant.facts.memory_bytes_max.saturating_mul(times)
}

fn uncertain(numbers: &CandidateNumbers) -> bool {
    match numbers.source {
        // It ran there: what it took, or at least took, is known.
        PredictionSource::Shape => false,
        PredictionSource::Model => numbers.observations < SURE_OBSERVATIONS,
        PredictionSource::Prior => true,
    }
}

/// It is paid for in any case, or nearly.
fn is_awake(facts: &EngineFacts) -> bool {
    match facts.pricing.compute {
        ComputePrice::Warehouse { activity, .. } => !matches!(activity, WarehouseActivity::Asleep | WarehouseActivity::Unknown),
        ComputePrice::Hourly { .. } => false,
    }
}

/// A warehouse has room for what turns out bigger than thought.
fn scales(facts: &EngineFacts) -> bool {
    matches!(facts.pricing.compute, ComputePrice::Warehouse { .. })
}

fn small(strategy: &Strategy, features: &Features) -> bool {
    matches!(strategy, Strategy::Rules)
        && features.scan_bytes <= SMALL_SCAN_BYTES
        && features.joins.saturating_add(features.cross_joins) <= SIMPLE_JOINS_MAX
        && features.windows == 0
}

fn within(numbers: &CandidateNumbers, slo_ms: f64) -> bool {
    numbers.latency_p95_ms <= slo_ms
}

/// Dollars plus what the expected lateness is worth.
pub(crate) fn cost_usd(numbers: &CandidateNumbers, usd_per_second_late: f64, slo_ms: f64) -> f64 {
    numbers.usd + usd_per_second_late * late_ms(numbers, slo_ms) / 1_000.0
}

/// Expected time beyond the SLO: an uncertain engine is late more often.
fn late_ms(numbers: &CandidateNumbers, slo_ms: f64) -> f64 {
    let p95_ms = numbers.latency_p95_ms.max(numbers.latency_ms);
    let spread = if numbers.latency_ms > 0.0 { p95_ms / numbers.latency_ms } else { 1.0 };
    let late = |ms: f64| (ms - slo_ms).max(0.0);
    let most: f64 = STRATA.iter().map(|(at, share)| share * late(numbers.latency_ms * spread.powf(*at))).sum();
    let tail: f64 = TAIL.iter().map(|(times, share)| share * late(p95_ms * times)).sum();
    let untried = if numbers.source == PredictionSource::Shape { 0.0 } else { UNTRIED.1 * late(p95_ms * UNTRIED.0) };
    most + tail + untried
}

/// What decided, for an engine without a risk.
fn because(strategy: &Strategy, profile: &Profile, features: &Features, contestant: &Contestant<'_>, position: usize) -> String {
    let numbers = &contestant.numbers;
    let takes = format!("about {}{}", millis_text(numbers.latency_ms), learned(numbers));
    let first = position == 0;
    match strategy {
        Strategy::Rules if small(strategy, features) && numbers.source == PredictionSource::Prior => {
            if first {
                "small and simple, lowest fixed cost".into()
            } else {
                "small and simple, higher fixed cost".into()
            }
        }
        Strategy::Rules | Strategy::Latency | Strategy::Ab(_) => match (first, numbers.source) {
            (true, PredictionSource::Prior) => "fastest scan".into(),
            (true, PredictionSource::Shape | PredictionSource::Model) => format!("fastest, {takes}"),
            (false, _) => format!("slower, {takes}"),
        },
        Strategy::Cost { slo_ms, .. } => {
            let slo_ms = slo_ms.unwrap_or(profile.slo_ms);
            let late = late_ms(numbers, slo_ms);
            let lateness = if late >= 0.5 { format!(", {} late on average", millis_text(late)) } else { String::new() };
            let which = if first { "least cost" } else { "costs more" };
            format!("{which}: {}, {takes}{lateness}", usd_text(numbers.usd))
        }
        Strategy::CheapestWithinSlo { slo_ms } => {
            let slo_ms = slo_ms.unwrap_or(profile.slo_ms);
            let which = match (within(numbers, slo_ms), first) {
                (true, true) => "cheapest within the SLO",
                (true, false) => "within the SLO, not cheaper",
                (false, true) => "none keeps the SLO; the fastest",
                (false, false) => "beyond the SLO",
            };
            format!("{which} of {}: {}, {takes}", millis_text(slo_ms), usd_text(numbers.usd))
        }
        Strategy::Always(_) if first => format!("strategy {strategy}"),
        Strategy::Always(_) => format!("behind strategy {strategy}, {takes}"),
    }
}

fn learned(numbers: &CandidateNumbers) -> String {
    match (numbers.source, numbers.observations) {
        (PredictionSource::Shape, 1) => " (as once before)".into(),
        (PredictionSource::Shape, times) => format!(" (as {times} times before)"),
        (PredictionSource::Model, runs) => format!(" (learned from {runs} runs)"),
        (PredictionSource::Prior, _) => String::new(),
    }
}

/// `reads 12.0 MB in 3 of 40 files, 2 joins, 1 aggregate`
fn describe(features: &Features) -> String {
    let mut parts = Vec::new();
    if features.scans == 0 {
        parts.push("reads no table".to_string());
    } else if features.files_total == 0 {
        parts.push("reads no files".to_string());
    } else {
        parts.push(format!("reads {} in {} of {} files", bytes_text(features.scan_bytes), features.files, features.files_total));
    }
    for (count, one, many) in [
        (features.joins, "join", "joins"),
        (features.aggregates, "aggregate", "aggregates"),
        (features.windows, "window", "windows"),
        (features.sorts, "sort", "sorts"),
    ] {
        match count {
            0 => {}
            1 => parts.push(format!("1 {one}")),
            n => parts.push(format!("{n} {many}")),
        }
    }
    parts.join(", ")
}

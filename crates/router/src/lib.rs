//! Which engine runs a query: a pure function from what the query needs and what the engines are
//! to a decision with every reason. No clock, no I/O, no state, no knowledge of any engine by name.

#![forbid(unsafe_code)]

mod predict;
mod rules;

use flightpath_types::{Candidate, Decision, EngineFacts, EngineId, EngineState, Features, Refusal, RefusalClass};

pub use predict::predict;

/// One engine as the router sees it for one query.
#[derive(Debug, Clone)]
pub struct Contender {
    pub facts: EngineFacts,
    /// What the engine itself says about this query.
    pub refusal: Option<Refusal>,
}

/// How to choose among the engines that may run a query.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Strategy {
    /// Small and simple queries where starting is cheapest, the rest where scanning is fastest.
    #[default]
    Rules,
    /// One engine, whatever the query; the others are refused.
    Always(EngineId),
}

impl Strategy {
    /// `rules` or `always:<engine>`.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.trim() {
            "rules" => Ok(Strategy::Rules),
            other => match other.strip_prefix("always:").map(str::trim) {
                Some(engine) if !engine.is_empty() => Ok(Strategy::Always(EngineId::new(engine))),
                _ => Err(format!("strategy must be `rules` or `always:<engine>`, not `{other}`")),
            },
        }
    }

    fn name(&self) -> String {
        match self {
            Strategy::Rules => "rules".into(),
            Strategy::Always(engine) => format!("always:{engine}"),
        }
    }
}

#[derive(Debug, Clone, Default)]
pub struct Policy {
    pub strategy: Strategy,
    /// The session's pinned engine: it may refuse, it is never replaced.
    pub pinned: Option<EngineId>,
}

/// An engine is refused outright when a query is predicted to need this many times its memory:
/// up to there it can spill, beyond it would only fill the disk.
const SPILL_FACTOR_MAX: u64 = 16;

/// Decides. Deterministic: the same inputs give the same decision. Hard rules come first and leave
/// a reason on whatever they refuse; the strategy only orders what is left.
pub fn route(features: &Features, contenders: &[Contender], policy: &Policy) -> Decision {
    let mut candidates: Vec<(Candidate, &EngineFacts)> = contenders
        .iter()
        .map(|contender| {
            let numbers = predict(features, &contender.facts);
            let refusal = hard_rules(contender, numbers.memory_bytes, policy);
            let reason = refusal.as_ref().map(|r| r.reason.clone()).unwrap_or_default();
            (Candidate { engine: contender.facts.id.clone(), refusal, numbers, rank: None, reason }, &contender.facts)
        })
        .collect();

    let ranking = rules::rank(features, &candidates);
    let pinned = policy.pinned.is_some();
    for (position, ranked) in ranking.iter().enumerate() {
        let candidate = &mut candidates[ranked.index].0;
        candidate.rank = Some(position as u32 + 1);
        candidate.reason = match (&policy.strategy, pinned) {
            (_, true) => "pinned by the session".to_string(),
            (Strategy::Always(_), false) => format!("strategy {}", policy.strategy.name()),
            (Strategy::Rules, false) => ranked.reason.clone(),
        };
    }
    let mut candidates: Vec<Candidate> = candidates.into_iter().map(|(candidate, _)| candidate).collect();
    // A stable sort: ranked ones by rank, refused ones behind them in the order they were given.
    candidates.sort_by_key(|c| c.rank.unwrap_or(u32::MAX));
    add_unknown_pin(&mut candidates, policy);

    let mut decision = Decision { strategy: policy.strategy.name(), candidates, reason: String::new() };
    decision.reason = match decision.chosen() {
        Some(chosen) => format!("{}: {}", chosen.engine, chosen.reason),
        None => format!("not eligible: {}", decision.refusals_text()),
    };
    decision
}

/// Everything that forbids an engine, whatever the strategy prefers.
fn hard_rules(contender: &Contender, memory_bytes: u64, policy: &Policy) -> Option<Refusal> {
    let facts = &contender.facts;
    if let Some(pinned) = policy.pinned.as_ref().filter(|pinned| **pinned != facts.id) {
        return Some(Refusal::new(RefusalClass::Policy, format!("the session pins engine `{pinned}`")));
    }
    if let Some(refusal) = &contender.refusal {
        return Some(refusal.clone());
    }
    if let (Strategy::Always(only), None) = (&policy.strategy, &policy.pinned)
        && *only != facts.id
    {
        return Some(Refusal::new(RefusalClass::Policy, format!("strategy {} allows `{only}` only", policy.strategy.name())));
    }
    match &facts.state {
        EngineState::Ready => {}
        EngineState::Down(why) => return Some(Refusal::new(RefusalClass::Health, format!("is down: {why}"))),
        EngineState::Draining => return Some(Refusal::new(RefusalClass::Health, "is draining")),
    }
    if memory_bytes > facts.memory_bytes_max.saturating_mul(SPILL_FACTOR_MAX) {
        return Some(Refusal::new(
            RefusalClass::Resources,
            format!(
                "needs about {} of memory, more than {SPILL_FACTOR_MAX} times the {} it has",
                bytes_text(memory_bytes),
                bytes_text(facts.memory_bytes_max)
            ),
        ));
    }
    None
}

/// A pin or `always:` that names no engine is a refusal that lists what there is.
fn add_unknown_pin(candidates: &mut Vec<Candidate>, policy: &Policy) {
    let wanted = match (&policy.pinned, &policy.strategy) {
        (Some(pinned), _) => pinned,
        (None, Strategy::Always(only)) => only,
        (None, Strategy::Rules) => return,
    };
    if candidates.iter().any(|c| c.engine == *wanted) {
        return;
    }
    let known: Vec<&str> = candidates.iter().map(|c| c.engine.as_str()).collect();
    let reason = format!("there is no engine `{wanted}`; engines are {}", known.join(", "));
    let refusal = Refusal::new(RefusalClass::Policy, reason.clone());
    candidates.push(Candidate { engine: wanted.clone(), refusal: Some(refusal), numbers: Default::default(), rank: None, reason });
}

/// `1.5 GB`: decimal units, as storage is sold.
pub(crate) fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests;

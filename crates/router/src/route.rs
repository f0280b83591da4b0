//! The decision: hard rules refuse, each with its reason; the strategy orders what is left.

use flightpath_types::{Candidate, CandidateNumbers, ComputePrice, Decision, EngineState, Refusal, RefusalClass};

use crate::ab::{self, Drawn};
use crate::number::{bytes_text, clamped};
use crate::rank::{Contestant, Ranked, rank};
use crate::{Contender, Policy, RouteInput, Strategy};

/// An engine is refused outright when a query is predicted to need this many times its memory:
/// up to there it can spill, beyond it would only fill the disk.
const SPILL_FACTOR_MAX: u64 = 16;

/// Where lateness is worth nothing, no price of the next engine is ever reached: a month is as good as never.
const LEAVE_AFTER_MS_MAX: f64 = 3e9;

/// Decides. Deterministic: the same inputs and the same predictor give the same decision. Every
/// candidate is in it, with its numbers; every refusal has a reason.
pub fn route(input: &RouteInput<'_>) -> Decision {
    let policy = input.policy;
    let mut candidates: Vec<Candidate> = input
        .contenders
        .iter()
        .map(|contender| {
            let numbers = input.predictor.predict(input.fingerprint, input.features, &contender.facts);
            let refusal = hard_rules(input, contender, &numbers);
            let reason = refusal.as_ref().map(|r| r.reason.clone()).unwrap_or_default();
            Candidate { engine: contender.facts.id.clone(), refusal, numbers, rank: None, reason }
        })
        .collect();

    let drawn = ab::draw(&policy.profile.strategy, input);
    let ranking = order(input, &candidates, drawn.strategy);
    let propensity = propensity(input, &candidates, &drawn, &ranking);
    for (position, ranked) in ranking.iter().enumerate() {
        let candidate = &mut candidates[ranked.index];
        candidate.rank = Some(u32::try_from(position + 1).unwrap_or(u32::MAX));
        candidate.reason = match policy.pinned {
            Some(_) => "pinned by the session".to_string(),
            None => ranked.reason.clone(),
        };
    }
    for (position, leave_after_ms) in leave_after_ms(input, &candidates, drawn.strategy, &ranking).into_iter().enumerate() {
        candidates[ranking[position].index].numbers.leave_after_ms = leave_after_ms;
    }
    // A stable sort: ranked ones by rank, refused ones behind them in the order they were given.
    candidates.sort_by_key(|c| c.rank.unwrap_or(u32::MAX));
    add_unknown_engine(&mut candidates, policy);

    let mut decision = Decision {
        strategy: policy.profile.strategy.to_string(),
        candidates,
        reason: String::new(),
        profile: Some(policy.profile.name.clone()),
        propensity,
        // A pin decides, and neither side of a test.
        arm: (drawn.other.is_some() && policy.pinned.is_none()).then(|| drawn.strategy.to_string()),
    };
    decision.reason = match decision.chosen() {
        Some(chosen) => match &policy.handed_down {
            Some(why) => format!("{}: {}; {why}", chosen.engine, chosen.reason),
            None => format!("{}: {}", chosen.engine, chosen.reason),
        },
        None => format!("not eligible: {}", decision.refusals_text()),
    };
    decision
}

fn order(input: &RouteInput<'_>, candidates: &[Candidate], strategy: &Strategy) -> Vec<Ranked> {
    let contestants: Vec<Contestant<'_>> = candidates
        .iter()
        .zip(input.contenders)
        .enumerate()
        .filter(|(_, (candidate, _))| candidate.refusal.is_none())
        .map(|(index, (candidate, contender))| Contestant { index, numbers: candidate.numbers, facts: &contender.facts })
        .collect();
    rank(strategy, &input.policy.profile, input.features, &contestants)
}

/// When each ranked engine may be left for the next one, by what that costs: once being late, at its price, has
/// cost as much (as when skis are rented until they could have been bought). Machines by the hour are paid in any
/// case.
fn leave_after_ms(input: &RouteInput<'_>, candidates: &[Candidate], strategy: &Strategy, ranking: &[Ranked]) -> Vec<f64> {
    let profile = &input.policy.profile;
    let (usd_per_second_late, slo_ms) = match strategy {
        Strategy::Latency => (f64::INFINITY, 0.0),
        Strategy::Cost { usd_per_second_late, slo_ms } => {
            (usd_per_second_late.unwrap_or(profile.usd_per_second_late), slo_ms.unwrap_or(profile.slo_ms))
        }
        Strategy::CheapestWithinSlo { slo_ms } => (profile.usd_per_second_late, slo_ms.unwrap_or(profile.slo_ms)),
        Strategy::Rules | Strategy::Always(_) | Strategy::Ab(_) => (profile.usd_per_second_late, profile.slo_ms),
    };
    let next = ranking.iter().skip(1).map(|next| (&input.contenders[next.index].facts, candidates[next.index].numbers.usd));
    let waits = next.map(|(facts, usd)| match facts.pricing.compute {
        ComputePrice::Hourly { .. } => 0.0,
        ComputePrice::Warehouse { .. } if usd <= 0.0 => 0.0,
        ComputePrice::Warehouse { .. } => clamped(slo_ms + usd / usd_per_second_late * 1_000.0, 0.0, LEAVE_AFTER_MS_MAX),
    });
    // Behind the last one there is nobody.
    waits.chain(std::iter::once(0.0)).take(ranking.len()).collect()
}

/// How probable the chosen engine was before one side of an `ab` was drawn.
fn propensity(input: &RouteInput<'_>, candidates: &[Candidate], drawn: &Drawn<'_>, ranking: &[Ranked]) -> Option<f64> {
    let chosen = ranking.first()?.index;
    let Some(other) = drawn.other.filter(|_| input.policy.pinned.is_none()) else { return Some(1.0) };
    let same = order(input, candidates, other).first().is_some_and(|ranked| ranked.index == chosen);
    Some(if same { 1.0 } else { drawn.share })
}

/// Everything that forbids an engine, whatever the strategy prefers.
fn hard_rules(input: &RouteInput<'_>, contender: &Contender, numbers: &CandidateNumbers) -> Option<Refusal> {
    let (facts, policy) = (&contender.facts, input.policy);
    let by_policy = |reason: String| Some(Refusal::new(RefusalClass::Policy, reason));
    // What it can't do at all comes first: it holds whatever the session wants, and the record tells by it
    // what could have run where.
    if let Some(refusal) = &contender.refusal {
        return Some(refusal.clone());
    }
    if let Some(pinned) = policy.pinned.as_ref().filter(|pinned| **pinned != facts.id) {
        return by_policy(format!("the session pins engine `{pinned}`"));
    }
    let profile = &policy.profile;
    if let Some(restriction) = policy.restriction.as_ref().filter(|r| !r.engines.contains(&facts.id)) {
        let then =
            if restriction.engines.is_empty() { "nothing runs until tomorrow (UTC)" } else { "this engine waits until tomorrow (UTC)" };
        return Some(Refusal::new(RefusalClass::Budget, format!("{}; {then}", restriction.why)));
    }
    if profile.engines.as_ref().is_some_and(|allowed| !allowed.contains(&facts.id)) {
        return by_policy(format!("profile `{}` doesn't use it", profile.name));
    }
    if let (Strategy::Always(only), None) = (&profile.strategy, &policy.pinned)
        && *only != facts.id
    {
        return by_policy(format!("strategy {} allows `{only}` only", profile.strategy));
    }
    if let Some(max) = profile.limits.scan_bytes_max.filter(|max| input.features.scan_bytes > *max) {
        let (reads, may) = (bytes_text(input.features.scan_bytes), bytes_text(max));
        return by_policy(match &policy.handed_down {
            None => format!("it reads about {reads}; profile `{}` allows {may}", profile.name),
            // The limit may be that of the profile before.
            Some(why) => format!("it reads about {reads}; {may} are allowed ({why})"),
        });
    }
    match &facts.state {
        EngineState::Ready => {}
        EngineState::Down(why) => return Some(Refusal::new(RefusalClass::Health, format!("is down: {why}"))),
        EngineState::Draining => return Some(Refusal::new(RefusalClass::Health, "is draining")),
    }
    if numbers.memory_bytes > facts.memory_bytes_max.saturating_mul(SPILL_FACTOR_MAX) {
        let (needs, has) = (bytes_text(numbers.memory_bytes), bytes_text(facts.memory_bytes_max));
        let reason = format!("needs about {needs} of memory, more than {SPILL_FACTOR_MAX} times the {has} it has");
        return Some(Refusal::new(RefusalClass::Resources, reason));
    }
    None
}

/// A pin or `always:` that names no engine is a refusal that lists what there is.
fn add_unknown_engine(candidates: &mut Vec<Candidate>, policy: &Policy) {
    let wanted = match (&policy.pinned, &policy.profile.strategy) {
        (Some(pinned), _) => pinned,
        (None, Strategy::Always(only)) => only,
        (None, Strategy::Rules | Strategy::Cost { .. } | Strategy::Latency | Strategy::CheapestWithinSlo { .. } | Strategy::Ab(_)) => {
            return;
        }
    };
    if candidates.iter().any(|c| c.engine == *wanted) {
        return;
    }
    let known: Vec<&str> = candidates.iter().map(|c| c.engine.as_str()).collect();
    let reason = format!("there is no engine `{wanted}`; engines are {}", known.join(", "));
    let refusal = Refusal::new(RefusalClass::Policy, reason.clone());
    candidates.push(Candidate { engine: wanted.clone(), refusal: Some(refusal), numbers: Default::default(), rank: None, reason });
}

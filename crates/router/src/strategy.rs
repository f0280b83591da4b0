//! What to prefer among the engines that may run a query, and how users write it.

use std::fmt;
use std::str::FromStr;

use flightpath_types::EngineId;

/// How to choose among the engines that may run a query.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Strategy {
    /// Small and simple queries where starting is cheapest, the rest where they're fastest.
    #[default]
    Rules,
    /// The least of dollars plus what lateness is worth. What isn't set is the profile's.
    Cost { usd_per_second_late: Option<f64>, slo_ms: Option<f64> },
    /// The fastest, whatever it costs.
    Latency,
    /// The cheapest of those that keep the SLO at the 95th percentile; the fastest when none does.
    CheapestWithinSlo { slo_ms: Option<f64> },
    /// One engine, whatever the query; the others are refused.
    Always(EngineId),
    /// Some queries by one strategy, the others by another.
    Ab(Box<AbTest>),
}

/// Two strategies side by side.
#[derive(Debug, Clone, PartialEq)]
pub struct AbTest {
    pub a: Strategy,
    pub b: Strategy,
    /// Share of the queries that `b` gets, between 0 and 1.
    pub share_b: f64,
    pub unit: AbUnit,
}

/// What is drawn for one side or the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AbUnit {
    /// A principal's shape of query stays on one side.
    #[default]
    Shape,
    /// Every run is drawn anew: both sides see the same shapes, and can be compared pair by pair.
    Query,
}

/// What users may write.
pub const STRATEGIES: &str = "`rules`, `cost`, `cost(late=USD_PER_SECOND,slo=2s)`, `latency`, `cheapest_within_slo`, \
     `cheapest_within_slo(slo=2s)`, `always:<engine>`, `ab:<a>|<b>[:share of b][:shape|:query]`";

impl Strategy {
    /// Reads what [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Some(engine) = text.strip_prefix("always:").map(str::trim) {
            let plain = !engine.is_empty() && !engine.contains(|c: char| c.is_whitespace() || "|:()".contains(c));
            return if plain { Ok(Strategy::Always(EngineId::new(engine))) } else { Err(unknown(text)) };
        }
        if let Some(sides) = text.strip_prefix("ab:") {
            return parse_ab(sides).map(|test| Strategy::Ab(Box::new(test)));
        }
        let (name, parameters) = match text.split_once('(') {
            Some((name, rest)) => (name.trim(), rest.strip_suffix(')').ok_or_else(|| format!("`{text}` lacks its closing parenthesis"))?),
            None => (text, ""),
        };
        let mut given = Parameters::parse(parameters)?;
        let strategy = match name {
            "rules" => Strategy::Rules,
            "latency" => Strategy::Latency,
            "cost" => Strategy::Cost { usd_per_second_late: given.late.take(), slo_ms: given.slo_ms.take() },
            "cheapest_within_slo" => Strategy::CheapestWithinSlo { slo_ms: given.slo_ms.take() },
            _ => return Err(unknown(text)),
        };
        match (given.late, given.slo_ms) {
            (None, None) => Ok(strategy),
            (Some(_), _) => Err(format!("strategy `{name}` takes no `late`")),
            (None, Some(_)) => Err(format!("strategy `{name}` takes no `slo`")),
        }
    }

    /// Engines that it names, so that settings can be checked against those there are.
    pub fn engines(&self) -> Vec<&EngineId> {
        match self {
            Strategy::Always(engine) => vec![engine],
            Strategy::Ab(test) => [&test.a, &test.b].into_iter().flat_map(|side| side.engines()).collect(),
            Strategy::Rules | Strategy::Cost { .. } | Strategy::Latency | Strategy::CheapestWithinSlo { .. } => Vec::new(),
        }
    }
}

fn unknown(text: &str) -> String {
    format!("strategy must be one of {STRATEGIES}, not `{text}`")
}

fn parse_ab(sides: &str) -> Result<AbTest, String> {
    let (a, rest) = sides.split_once('|').ok_or_else(|| format!("`ab:{sides}` needs two strategies: `ab:<a>|<b>[:share of b]`"))?;
    let (mut b, mut share_b, mut unit) = (rest.trim(), 0.5, AbUnit::default());
    for (suffix, meant) in [(":query", AbUnit::Query), (":shape", AbUnit::Shape)] {
        if let Some(before) = b.strip_suffix(suffix) {
            (b, unit) = (before, meant);
            break;
        }
    }
    if let Some((before, share)) = b.rsplit_once(':').and_then(|(before, share)| Some((before, share.parse::<f64>().ok()?))) {
        if !(share > 0.0 && share < 1.0) {
            return Err(format!("the share of `b` must lie between 0 and 1, not {share}"));
        }
        (b, share_b) = (before, share);
    }
    let (a, b) = (Strategy::parse(a)?, Strategy::parse(b)?);
    if matches!(a, Strategy::Ab(_)) || matches!(b, Strategy::Ab(_)) {
        return Err("a side of an `ab` strategy can't be another `ab`".into());
    }
    Ok(AbTest { a, b, share_b, unit })
}

#[derive(Default)]
struct Parameters {
    late: Option<f64>,
    slo_ms: Option<f64>,
}

impl Parameters {
    fn parse(text: &str) -> Result<Self, String> {
        let mut given = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').ok_or_else(|| format!("`{part}` isn't `name=value`"))?;
            match name.trim() {
                "late" => {
                    let value: f64 = value.trim().parse().map_err(|_| format!("`{part}`: dollars per second, as `late=0.01`"))?;
                    if !(0.0..=1e6).contains(&value) {
                        return Err(format!("`{part}`: between 0 and 1,000,000 dollars per second"));
                    }
                    given.late = Some(value);
                }
                "slo" => given.slo_ms = Some(parse_duration_ms(value)?),
                other => return Err(format!("`{other}` is no parameter; there are `late` and `slo`")),
            }
        }
        Ok(given)
    }
}

/// `500ms`, `2s`, `5m`, `1h`.
pub(crate) fn parse_duration_ms(text: &str) -> Result<f64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "ms" => 1.0,
        "s" => 1_000.0,
        "m" => 60_000.0,
        "h" => 3_600_000.0,
        _ => return Err(format!("`{text}` isn't a duration as `500ms`, `2s` or `5m`")),
    };
    match number.trim().parse::<f64>() {
        Ok(value) if value > 0.0 && value * factor <= 86_400_000.0 => Ok(value * factor),
        _ => Err(format!("`{text}` isn't a duration above 0 and up to 24h")),
    }
}

impl FromStr for Strategy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parameters = |f: &mut fmt::Formatter<'_>, name: &str, late: Option<f64>, slo_ms: Option<f64>| {
            let given = [late.map(|late| format!("late={late}")), slo_ms.map(|slo| format!("slo={slo}ms"))];
            let given: Vec<String> = given.into_iter().flatten().collect();
            if given.is_empty() { f.write_str(name) } else { write!(f, "{name}({})", given.join(",")) }
        };
        match self {
            Strategy::Rules => f.write_str("rules"),
            Strategy::Latency => f.write_str("latency"),
            Strategy::Cost { usd_per_second_late, slo_ms } => parameters(f, "cost", *usd_per_second_late, *slo_ms),
            Strategy::CheapestWithinSlo { slo_ms } => parameters(f, "cheapest_within_slo", None, *slo_ms),
            Strategy::Always(engine) => write!(f, "always:{engine}"),
            Strategy::Ab(test) => {
                write!(f, "ab:{}|{}:{}", test.a, test.b, test.share_b)?;
                match test.unit {
                    AbUnit::Shape => Ok(()),
                    AbUnit::Query => f.write_str(":query"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for text in [
            "rules",
            "latency",
            "cost",
            "cost(late=0.01,slo=2000ms)",
            "cost(slo=500ms)",
            "cheapest_within_slo",
            "cheapest_within_slo(slo=3000ms)",
            "always:duckdb",
            "ab:rules|cost(late=0.5):0.25",
            "ab:rules|always:duckdb:0.5:query",
        ] {
            assert_eq!(Strategy::parse(text).map(|s| s.to_string()), Ok(text.to_string()));
        }
        assert_eq!(Strategy::parse("ab:rules|latency").unwrap().to_string(), "ab:rules|latency:0.5");
        assert_eq!(Strategy::parse("cost(slo=2s)"), Ok(Strategy::Cost { usd_per_second_late: None, slo_ms: Some(2_000.0) }));
    }

    #[test]
    fn what_isnt_understood_is_explained() {
        for (text, says) in [
            ("always:", "`rules`"),
            ("fastest", "`rules`"),
            ("cost(slo=2)", "duration"),
            ("cost(slo=0s)", "above 0"),
            ("cost(speed=2)", "`late` and `slo`"),
            ("cost(late=-1)", "between 0"),
            ("cost(slo=2s", "parenthesis"),
            ("latency(slo=2s)", "takes no `slo`"),
            ("ab:rules", "two strategies"),
            ("ab:rules|latency:1.5", "between 0 and 1"),
            ("ab:rules|ab:rules|latency", "another `ab`"),
        ] {
            let error = Strategy::parse(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}

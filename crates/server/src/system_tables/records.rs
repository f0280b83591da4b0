//! The record as `system.queries` and `system.decisions` read it, by what the log's database can find by
//! itself.

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use flightpath_catalog::{Comparison, SystemCondition, SystemValue};
use flightpath_querylog::{HistoryFilter, PageKey, PageRequest, QueryHistory, RecordParts};
use flightpath_types::{EngineId, Fingerprint, Outcome, QueryId, QueryRecord, Result};

use super::LogSource;
use super::pages::Paged;

/// With texts, plans or decisions: a text has up to 64 KiB.
const PAGE: usize = 500;
/// Without them.
const LEAN_PAGE: usize = 4_000;

/// What of the record is read.
#[derive(Clone)]
pub(super) struct Asked {
    pub filter: HistoryFilter,
    pub oldest_first: bool,
    pub parts: RecordParts,
}

#[async_trait]
impl Paged for Asked {
    type Row = QueryRecord;
    type Key = PageKey;

    const NARROWED_BY: &str = "started_at, principal, engine, outcome, tag, fingerprint or query_id";

    fn only(&mut self, principal: String) {
        self.filter.principal = Some(principal);
    }

    fn rows(&self) -> usize {
        let Self { parts: RecordParts { text, features, decision }, .. } = self;
        if *text || *features || *decision { PAGE } else { LEAN_PAGE }
    }

    async fn page(&self, log: &LogSource, after: Option<PageKey>, limit: usize) -> Result<Vec<QueryRecord>> {
        let request = PageRequest { filter: &self.filter, after, oldest_first: self.oldest_first, parts: self.parts, limit };
        QueryHistory::read_page(log.store.as_ref(), &request).await
    }

    fn key(row: &QueryRecord) -> PageKey {
        PageKey::of(row)
    }
}

/// What of a scan's conditions the log's database can apply. It keeps every row for which all of them hold.
pub(super) fn filter(conditions: &[SystemCondition], schema: &SchemaRef) -> HistoryFilter {
    let mut filter = HistoryFilter::default();
    for SystemCondition { column, comparison, value } in conditions {
        let name = schema.fields().get(*column).map(|field| field.name().as_str());
        match (name, comparison, value) {
            // No record holds NUL, and not every database takes it.
            (_, _, SystemValue::Text(text)) if text.contains('\0') => {}
            (Some("query_id"), Comparison::Equal, SystemValue::Text(text)) => filter.query_id = query_id(text).or(filter.query_id),
            (Some("principal"), Comparison::Equal, SystemValue::Text(text)) => filter.principal = Some(text.clone()),
            (Some("engine"), Comparison::Equal, SystemValue::Text(text)) => filter.engine = Some(EngineId::new(text.as_str())),
            (Some("tag"), Comparison::Equal, SystemValue::Text(text)) => filter.tag = Some(text.clone()),
            (Some("outcome"), Comparison::Equal, SystemValue::Text(text)) => filter.outcome = Outcome::parse(text).or(filter.outcome),
            (Some("fingerprint"), Comparison::Equal, SystemValue::Text(text)) => {
                filter.fingerprint = fingerprint(text).or(filter.fingerprint);
            }
            (Some("started_at"), comparison, SystemValue::Instant(us)) => {
                narrow(&mut filter.from_unix_ms, &mut filter.until_unix_ms, *comparison, *us);
            }
            _ => {}
        }
    }
    filter
}

/// As the table writes it, else none.
pub(super) fn query_id(text: &str) -> Option<QueryId> {
    QueryId::parse(text).filter(|id| id.to_string() == *text)
}

/// As the table writes it, else none.
pub(super) fn fingerprint(text: &str) -> Option<Fingerprint> {
    u64::from_str_radix(text, 16).ok().map(Fingerprint::from_u64).filter(|f| f.to_string() == *text)
}

/// Narrows `from` and `until` by a comparison with microseconds; what is kept has whole milliseconds.
pub(super) fn narrow(from: &mut Option<i64>, until: &mut Option<i64>, comparison: Comparison, us: i64) {
    let down = us.div_euclid(1000);
    let up = if us.rem_euclid(1000) == 0 { down } else { down + 1 };
    let begins = match comparison {
        Comparison::GreaterOrEqual | Comparison::Equal => Some(up),
        Comparison::Greater => Some(down + 1),
        Comparison::Less | Comparison::LessOrEqual => None,
    };
    if let Some(ms) = begins {
        *from = Some(from.map_or(ms, |other| other.max(ms)));
    }
    let ends = match comparison {
        Comparison::LessOrEqual | Comparison::Equal => Some(down + 1),
        Comparison::Less => Some(up),
        Comparison::Greater | Comparison::GreaterOrEqual => None,
    };
    if let Some(ms) = ends {
        *until = Some(until.map_or(ms, |other| other.min(ms)));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema, TimeUnit};

    use super::*;

    const NAMES: [&str; 7] = ["started_at", "query_id", "principal", "engine", "outcome", "fingerprint", "text"];

    fn of(name: &str, comparison: Comparison, value: SystemValue) -> SystemCondition {
        SystemCondition { column: NAMES.iter().position(|n| *n == name).unwrap(), comparison, value }
    }

    fn filter_of(conditions: &[SystemCondition]) -> HistoryFilter {
        let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let field = |name: &&str| Field::new(*name, if *name == "started_at" { instant.clone() } else { DataType::Utf8 }, true);
        filter(conditions, &Arc::new(Schema::new(NAMES.iter().map(field).collect::<Vec<_>>())))
    }

    /// Every record that a condition holds for is left, whatever part of a millisecond it names.
    #[test]
    fn bounds_of_time_keep_all_and_only_what_they_say() {
        use Comparison::*;
        let holds = |comparison, at: i64, us: i64| match comparison {
            Equal => at == us,
            Less => at < us,
            LessOrEqual => at <= us,
            Greater => at > us,
            GreaterOrEqual => at >= us,
        };
        for us in [-2_001, -2_000, -1, 0, 1, 999, 1_000, 1_001] {
            for comparison in [Equal, Less, LessOrEqual, Greater, GreaterOrEqual] {
                let found = filter_of(&[of("started_at", comparison, SystemValue::Instant(us))]);
                for ms in -5..5 {
                    let kept = found.from_unix_ms.is_none_or(|from| ms >= from) && found.until_unix_ms.is_none_or(|until| ms < until);
                    assert_eq!(kept, holds(comparison, ms * 1000, us), "{ms} ms {comparison:?} {us} us");
                }
            }
        }
        let both = [of("started_at", Greater, SystemValue::Instant(5_000)), of("started_at", Greater, SystemValue::Instant(2_000))];
        assert_eq!(filter_of(&both).from_unix_ms, Some(6));
    }

    #[test]
    fn only_equalities_that_records_can_have_are_handed_on() {
        let equals = |name: &str, text: &str| filter_of(&[of(name, Comparison::Equal, SystemValue::Text(text.into()))]);
        let id = QueryId::generate();
        assert_eq!(equals("query_id", &id.to_string()).query_id, Some(id));
        assert_eq!(equals("principal", "ana").principal.as_deref(), Some("ana"));
        assert_eq!(equals("engine", "duckdb").engine, Some(EngineId::new("duckdb")));
        assert_eq!(equals("outcome", "refused").outcome, Some(Outcome::Refused));
        assert_eq!(equals("fingerprint", "00000000000000ff").fingerprint, Some(Fingerprint::from_u64(255)));
        for (name, text) in [
            ("query_id", "nonsense"),
            ("query_id", &id.to_string().to_uppercase()),
            ("outcome", "Success"),
            ("fingerprint", "ff"),
            ("fingerprint", "00000000000000FF"),
            ("principal", "a\0b"),
            ("text", "SELECT 1"),
        ] {
            assert_eq!(equals(name, text), HistoryFilter::default(), "{name} = {text}");
        }
        let less = [of("engine", Comparison::Less, SystemValue::Text("duckdb".into()))];
        assert_eq!(filter_of(&less), HistoryFilter::default());
    }
}

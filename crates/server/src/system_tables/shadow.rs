//! `system.shadow_runs`: what came of running queries again on a second engine.

use std::sync::Arc;

use arrow::array::{ArrayRef, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use flightpath_catalog::{Comparison, SystemCondition, SystemRows, SystemScan, SystemTable, SystemValue};
use flightpath_querylog::{ShadowFilter, ShadowKey, ShadowLog};
use flightpath_types::{Principal, Result, ShadowOutcome, ShadowRun};
use futures::StreamExt;

use super::pages::{Paged, pages};
use super::{LogSource, one_batch, records, schema, text, timestamp};

/// A detail may tell of a row that differs.
const PAGE: usize = 1_000;

pub(super) struct ShadowRuns {
    pub log: Arc<LogSource>,
}

#[async_trait]
impl SystemTable for ShadowRuns {
    fn schema(&self) -> SchemaRef {
        use DataType::Utf8;
        schema(&[
            ("query_id", Utf8, false),
            ("ended_at", timestamp(), false),
            ("fingerprint", Utf8, false),
            ("engine", Utf8, false),
            ("digest", Utf8, false),
            ("shadow_engine", Utf8, false),
            ("shadow_digest", Utf8, false),
            ("outcome", Utf8, false),
            ("detail", Utf8, false),
            ("principal", Utf8, false),
        ])
    }

    fn scan(self: Arc<Self>, principal: Principal, wanted: SystemScan) -> SystemRows {
        let asked = Asked(filter(&wanted.conditions, &self.schema()));
        pages(self.log.clone(), &principal, asked).map(move |page| batch_of(self.schema(), &page?)).boxed()
    }
}

struct Asked(ShadowFilter);

#[async_trait]
impl Paged for Asked {
    type Row = ShadowRun;
    type Key = ShadowKey;

    const NARROWED_BY: &str = "ended_at, principal, outcome, fingerprint or query_id";

    fn only(&mut self, principal: String) {
        self.0.principal = Some(principal);
    }

    fn rows(&self) -> usize {
        PAGE
    }

    async fn page(&self, log: &LogSource, after: Option<ShadowKey>, limit: usize) -> Result<Vec<ShadowRun>> {
        ShadowLog::shadow_runs(log.store.as_ref(), &self.0, after.as_ref(), limit).await
    }

    fn key(row: &ShadowRun) -> ShadowKey {
        ShadowKey::of(row)
    }
}

/// What of a scan's conditions the log's database can apply. It keeps every row for which all of them hold.
fn filter(conditions: &[SystemCondition], schema: &SchemaRef) -> ShadowFilter {
    let mut filter = ShadowFilter::default();
    for SystemCondition { column, comparison, value } in conditions {
        let name = schema.fields().get(*column).map(|field| field.name().as_str());
        match (name, comparison, value) {
            // No row holds NUL, and not every database takes it.
            (_, _, SystemValue::Text(text)) if text.contains('\0') => {}
            (Some("principal"), Comparison::Equal, SystemValue::Text(text)) => filter.principal = Some(text.clone()),
            (Some("query_id"), Comparison::Equal, SystemValue::Text(text)) => {
                filter.query_id = records::query_id(text).or(filter.query_id);
            }
            (Some("fingerprint"), Comparison::Equal, SystemValue::Text(text)) => {
                filter.fingerprint = records::fingerprint(text).or(filter.fingerprint);
            }
            (Some("outcome"), Comparison::Equal, SystemValue::Text(text)) => {
                filter.outcome = ShadowOutcome::parse(text).or(filter.outcome);
            }
            (Some("ended_at"), comparison, SystemValue::Instant(us)) => {
                records::narrow(&mut filter.from_unix_ms, &mut filter.until_unix_ms, *comparison, *us);
            }
            _ => {}
        }
    }
    filter
}

fn batch_of(schema: SchemaRef, rows: &[ShadowRun]) -> Result<RecordBatch> {
    let ids: Vec<(String, String)> = rows.iter().map(|r| (r.query_id.to_string(), r.fingerprint.to_string())).collect();
    let ended = rows.iter().map(|r| Some(r.ended_unix_ms.saturating_mul(1000))).collect::<TimestampMicrosecondArray>();
    let columns: Vec<ArrayRef> = vec![
        text(&ids, |(query, _)| Some(query)),
        Arc::new(ended.with_timezone("UTC")),
        text(&ids, |(_, fingerprint)| Some(fingerprint)),
        text(rows, |r| Some(r.engine.as_str())),
        text(rows, |r| Some(&r.digest)),
        text(rows, |r| Some(r.shadow_engine.as_str())),
        text(rows, |r| Some(&r.shadow_digest)),
        text(rows, |r| Some(r.outcome.as_str())),
        text(rows, |r| Some(&r.detail)),
        text(rows, |r| Some(&r.principal)),
    ];
    one_batch(schema, columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_narrow_what_the_database_reads_and_nothing_unreadable_does() {
        let asked = |name: &str, value: &str| {
            let schema =
                schema(&[("outcome", DataType::Utf8, false), ("fingerprint", DataType::Utf8, false), ("engine", DataType::Utf8, false)]);
            let column = schema.index_of(name).unwrap();
            filter(&[SystemCondition { column, comparison: Comparison::Equal, value: SystemValue::Text(value.into()) }], &schema)
        };
        assert_eq!(asked("outcome", "mismatch").outcome, Some(ShadowOutcome::Mismatch));
        assert!(asked("fingerprint", "00000000000000ff").fingerprint.is_some());
        for (name, value) in [("outcome", "Mismatch"), ("fingerprint", "ff"), ("engine", "duckdb"), ("outcome", "same\0")] {
            assert_eq!(asked(name, value), ShadowFilter::default(), "{name} = {value}");
        }
    }
}

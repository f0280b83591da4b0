//! What the tests of this crate share.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::Int64Array;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::logical_expr::LogicalPlanBuilder;
use flightpath_engine::Execution;
use flightpath_plan::PlannedQuery;
use flightpath_querylog::LogStore;
use flightpath_types::{
    Candidate, CandidateNumbers, CandidateRecord, Decision, EngineFacts, EngineId, EngineState, Features, Fingerprint, Principal, QueryId,
    QueryRecord, Refusal, RefusalClass, Result, Session,
};
use parking_lot::Mutex;

/// A query of one column `n`, as far as planning goes.
pub(crate) fn query() -> Arc<PlannedQuery> {
    let plan = LogicalPlanBuilder::empty(true).build().unwrap();
    let refused = Refusal::new(RefusalClass::Policy, "not used");
    Arc::new(PlannedQuery {
        text: "SELECT n".into(),
        fingerprint: Fingerprint::of("SELECT n"),
        session: Session::new(Principal::new("ann")),
        optimized: plan.clone(),
        plan,
        schema: Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)])),
        tables: Vec::new(),
        scans: BTreeMap::new(),
        features: Features::default(),
        duckdb: Err(refused.clone()),
        databricks: Err(refused),
        datafusion: Ok(()),
        ordered: false,
        deterministic: true,
        comparable: true,
    })
}

pub(crate) fn rows(query: &PlannedQuery, values: Vec<i64>) -> RecordBatch {
    RecordBatch::try_new(query.schema.clone(), vec![Arc::new(Int64Array::from(values))]).unwrap()
}

pub(crate) fn execution() -> Execution {
    Execution {
        query_id: QueryId::generate(),
        principal: Principal::new("ann"),
        token: None,
        deadline: None,
        traceparent: None,
        findings: Default::default(),
    }
}

/// An engine that is up and has room for one.
pub(crate) fn facts(id: &EngineId) -> EngineFacts {
    EngineFacts {
        id: id.clone(),
        state: EngineState::Ready,
        shape: "one".into(),
        memory_bytes_max: 1 << 30,
        slots: 1,
        running: 0,
        queued: 0,
        cores: 1,
        cores_total: 1,
        overhead_ms: 1.0,
        scan_bytes_per_second_per_core: 1.0,
        pricing: Default::default(),
    }
}

/// These engines, in this order.
pub(crate) fn decision<'a>(engines: impl IntoIterator<Item = &'a EngineId>, numbers: CandidateNumbers) -> Decision {
    let candidates = engines.into_iter().zip(1..).map(|(id, rank)| Candidate {
        engine: id.clone(),
        refusal: None,
        numbers,
        rank: Some(rank),
        reason: String::new(),
    });
    Decision {
        strategy: "rules".into(),
        candidates: candidates.collect(),
        reason: String::new(),
        profile: None,
        propensity: None,
        arm: None,
    }
}

/// Keeps records in memory.
#[derive(Default)]
pub(crate) struct MemoryLog(pub Mutex<Vec<QueryRecord>>);

#[async_trait]
impl LogStore for MemoryLog {
    async fn append(&self, records: &[QueryRecord]) -> Result<()> {
        self.0.lock().extend_from_slice(records);
        Ok(())
    }

    async fn queries(&self, _principal: Option<&str>, _limit: usize) -> Result<Vec<QueryRecord>> {
        Ok(self.0.lock().clone())
    }

    async fn candidates(&self, _limit: usize) -> Result<Vec<CandidateRecord>> {
        Ok(Vec::new())
    }
}

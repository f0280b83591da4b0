//! The port that every engine adapter implements, and the suite that every adapter must pass.
//!
//! An engine turns a [`PlannedQuery`] into a stream of Arrow batches. It never plans, never
//! decides, never retries, and never buffers a whole result.

#![forbid(unsafe_code)]

mod budget;
pub mod conformance;
mod findings;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use flightpath_plan::PlannedQuery;
use flightpath_types::{EngineFacts, EngineId, Principal, QueryId, Refusal, Result, SecretToken};
use futures::Stream;

pub use budget::{RetryBudget, RetryRates};
pub use findings::Findings;

/// Batches of one result, in order. Dropping it cancels the query at once, down to the engine's
/// own interrupt. After an `Err` it ends. A stream that ends without an error is complete.
pub type BatchStream = Pin<Box<dyn Stream<Item = Result<RecordBatch>> + Send>>;

/// What one execution may use and who it is for.
#[derive(Debug, Clone)]
pub struct Execution {
    pub query_id: QueryId,
    pub principal: Principal,
    /// The credential the client itself showed, for an engine that passes it on.
    pub token: Option<SecretToken>,
    /// After this instant the stream yields `DeadlineExceeded` and the work has stopped.
    pub deadline: Option<Instant>,
    /// W3C trace context of the caller, passed on.
    pub traceparent: Option<String>,
    /// Where the engine tells what it found out; each try has its own.
    pub findings: Arc<Findings>,
}

/// One engine. Shared by all queries.
#[async_trait]
pub trait Engine: Send + Sync {
    fn id(&self) -> &EngineId;

    /// What the router needs to know now; must be cheap, never blocks.
    fn facts(&self) -> EngineFacts;

    /// Whether this engine may run the query and gives Databricks' answer; the reason if not.
    /// Pure: depends on the query alone, not on load or health.
    fn eligible(&self, query: &PlannedQuery) -> Result<(), Refusal>;

    /// Memory that all its queries together may use now, in bytes.
    fn memory_bytes_total(&self) -> u64 {
        self.facts().memory_bytes_max
    }

    /// Machines that are paid for it by the hour, each at the price in its facts.
    fn machines(&self) -> u32 {
        1
    }

    /// Queries of other routers that run on them now, as far as that's known.
    fn others_running(&self) -> u32 {
        0
    }

    /// Whether each query costs money by itself. Such an engine is never asked for a second opinion.
    fn is_metered(&self) -> bool {
        false
    }

    /// Places that queries of this one's kind share, where they are fewer than the engine has: one of these is
    /// waited for before one of all.
    fn narrow_slots(&self, _query: &PlannedQuery) -> Option<u32> {
        None
    }

    /// How many such places there are now, whoever asks; `None` where there are none, or nobody knows how many.
    fn narrow_slots_total(&self) -> Option<u32> {
        None
    }

    /// Whether it keeps queries away by itself from parts of it that fail, and tells so in its facts.
    fn guards_itself(&self) -> bool {
        false
    }

    /// Starts the query. Batches have the column count and order of `query.schema`, in types that
    /// cast exactly to it; names are the caller's concern. An empty result may be no batch at all.
    /// Errors before the first batch and in mid-stream carry the same kinds.
    async fn execute(&self, query: Arc<PlannedQuery>, execution: Execution) -> Result<BatchStream>;

    /// Stops taking work and ends what it owns (processes, pools). Running streams are finished or
    /// dropped by then.
    async fn shutdown(&self) {}
}

//! The words every other crate shares: ids, units, errors, a session, a query's features,
//! the decision about it and its record. Plain data: no async, no Arrow, no I/O.

#![forbid(unsafe_code)]

mod decision;
mod error;
mod features;
mod id;
mod pricing;
mod record;
mod session;
mod shadow;
pub mod trace;

pub use decision::{Candidate, CandidateNumbers, Decision, EngineFacts, EngineState, PredictionSource, Refusal, RefusalClass};
pub use error::{Error, ErrorKind, RAISED_PREFIX, Result};
pub use features::{Features, TableUse};
pub use id::{EngineId, Fingerprint, Principal, QueryId, SecretToken, SessionId};
pub use pricing::{ComputePrice, Pricing, QUERIES_PER_CLUSTER, UTILISATION_DEFAULT, WarehouseActivity, WarehouseKind, WarehouseSize};
pub use record::{CandidateRecord, Outcome, PhaseTimes, QueryRecord};
pub use session::{Dialect, Session};
pub use shadow::{Quarantined, ShadowOutcome, ShadowRun};

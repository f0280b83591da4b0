//! The words every other crate shares: ids, units, errors, a session, a query's features,
//! the decision about it and its record. Plain data: no async, no Arrow, no I/O.

#![forbid(unsafe_code)]

mod decision;
mod error;
mod features;
mod id;
mod record;
mod session;
mod shadow;
pub mod trace;

pub use decision::{Candidate, CandidateNumbers, Decision, EngineFacts, EngineState, Refusal, RefusalClass};
pub use error::{Error, ErrorKind, RAISED_PREFIX, Result};
pub use features::{Features, TableUse};
pub use id::{EngineId, Fingerprint, Principal, QueryId, SecretToken, SessionId};
pub use record::{CandidateRecord, Outcome, PhaseTimes, QueryRecord};
pub use session::{Dialect, Session};
pub use shadow::{Quarantined, ShadowOutcome, ShadowRun};

//! The one room where things happen in time: a query is planned, decided, admitted, run, moved to
//! the next candidate when an engine fails before the first byte, and recorded. It reads top to
//! bottom in [`service`]. Batches pass through it and are stamped with the promised schema; they
//! never go back to the planner, the router or the log. Nothing is retried once a batch has left.

#![forbid(unsafe_code)]

mod administrators;
mod admission;
mod caller;
mod config;
mod decide;
mod explain_route;
#[cfg(test)]
mod fixtures;
mod learn;
mod lifecycle;
mod places;
mod policy;
mod port;
mod question;
mod replan;
mod restamp;
mod run;
mod service;
mod shadow;
mod size;
mod stream;
mod submitted;
mod trace;
mod usage;
mod watch;

pub use administrators::Administrators;
pub use admission::AdmissionConfig;
pub use caller::Caller;
pub use config::{DataPrices, LiveConfig, PipelineConfig};
pub use explain_route::rows as explain_route_rows;
pub use port::{Ends, Prepared, QueryService, Request, ResultStream, Routed, SessionHandle, Submitted};
pub use question::Question;
pub use restamp::restamp;
pub use run::{EscalationConfig, HoldConfig};
pub use service::Pipeline;
pub use shadow::ShadowConfig;
pub use size::batch_bytes;
pub use watch::{DecisionEvent, DecisionWatch, Watched};

//! The one room where things happen in time: a query is planned, decided, admitted, run, moved to
//! the next candidate when an engine fails before the first byte, and recorded. It reads top to
//! bottom in [`service`]. Batches pass through it and are stamped with the promised schema; they
//! never go back to the planner, the router or the log. Nothing is retried once a batch has left.

#![forbid(unsafe_code)]

mod admission;
mod explain_route;
mod lifecycle;
mod port;
mod restamp;
mod run;
mod service;
mod shadow;
mod stream;
mod trace;

pub use admission::AdmissionConfig;
pub use explain_route::rows as explain_route_rows;
pub use flightpath_router::{Contender, Policy, Strategy, route};
pub use port::{Prepared, QueryService, Request, ResultStream, SessionHandle, Submitted};
pub use restamp::restamp;
pub use service::{Pipeline, PipelineConfig};
pub use shadow::ShadowConfig;

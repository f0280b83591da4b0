//! What other programs are told of this one: its log on standard error, traces, metrics and the log's
//! lines over OTLP, metrics as a Prometheus page.
//!
//! It never holds a query up: spans and lines wait in bounded queues and are dropped and counted when
//! nobody takes them; a collector that is down costs one warning. In spans it never sends a
//! statement's text unless told to, and never an error's message, which may hold data; the log's
//! lines, which may hold one, only when told to.
//!
//! Everybody else makes spans with the crate `tracing` under the target `types::trace::SPANS`.
//! This crate alone knows OpenTelemetry.
//!
//! | file | what |
//! |---|---|
//! | `config` | settings, and the standard's environment variables |
//! | `start` | puts it together, and ends it |
//! | `log` | the log's lines, with the ids of the trace they belong to; which of them are sent |
//! | `spans` | from `tracing` to OpenTelemetry, and contexts between processes |
//! | `metrics`, `levels` | metrics of ended queries, and of what is going on now |
//! | `collector` | what stands between the exporters and a collector that may be down |
//! | `transport` | OTLP over gRPC or HTTP |
//! | `page` | the Prometheus page |

#![forbid(unsafe_code)]

mod collector;
mod config;
mod levels;
mod log;
mod metrics;
mod page;
mod spans;
mod start;
mod transport;

pub use config::{Config, Headers, Otlp, Page, Protocol};
pub use levels::{EngineLevel, Levels, LogLevel, LookupLevel};
pub use log::{LogConfig, LogFormat, check_level};
pub use metrics::QueryMetrics;
pub use start::{Role, Telemetry, start};

//! Databricks' REST endpoints: who asks, what may be tried again, and what must never be logged.
//!
//! A [`Client`] makes calls for an [`Identity`], with the token that its [`Auth`] gives that
//! identity. It never executes twice what may only be executed once ([`Idempotency`]), never
//! outlives a deadline, never follows a redirect, and never puts a token, a header or a URL's query
//! into a message or a log.

#![forbid(unsafe_code)]

mod body;
mod breaker;
mod client;
mod config;
mod error;
mod oauth;
mod retry;
mod token;
mod url_path;

pub use breaker::BreakerState;
pub use client::{Call, Client};
pub use config::{AZURE_LOGIN_HOST, Auth, ClientConfig, Idempotency, Identity};
pub use error::{ApiError, kind_of_error_code};
pub use url_path::segment;

//! The Flight SQL front door: speaks the protocol, knows who is asking, and hands statements to the
//! pipeline's port. It never looks at SQL, never decides anything about a query, and never buffers a
//! result.
//!
//! The way of a call: `server` accepts its connection, `gate` authenticates it and finds its session,
//! `service` reads its command, `statement`, `actions`, `puts` or `metadata` answers, and `outgoing`
//! sends what is a result.

#![forbid(unsafe_code)]

mod actions;
mod auth;
mod config;
mod door;
mod gate;
mod live_auth;
mod message;
pub mod messages;
mod metadata;
mod open;
mod outgoing;
mod outside_tokens;
mod params;
mod prepared;
mod puts;
mod server;
mod service;
mod session;
mod sign;
mod silence;
mod statement;
mod status;
mod unread;
mod wire;

pub use auth::{Authenticator, StaticUser, StaticUsers};
pub use config::{Auth, Config, FunctionNames, Lifetimes, Limits, OnToken, SigningKey, Tls};
pub use live_auth::{CheckedAuth, LiveAuth};
pub use open::{OpenConnections, OpenSessions};
pub use outside_tokens::{OutsideTokens, TokenCheck};
pub use server::{Neighbours, serve, serve_with};
pub use status::{code_of, status_of};

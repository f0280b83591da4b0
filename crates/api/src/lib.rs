//! The gRPC front door for services: where a query would run, what ran, what the engines do, and
//! decisions as they are made; health and reflection beside it. It is served on Flight SQL's
//! listener, which has authenticated every call before it gets here. It never runs a query, and
//! never shows a caller what belongs to another.

#![forbid(unsafe_code)]

mod convert;
mod health;
mod listing;
mod service;

use std::sync::Arc;

use flightpath_pipeline::QueryService;
use flightpath_proto::v1::QUERY_API_DESCRIPTORS;
use flightpath_proto::v1::query_api_server::QueryApiServer;
use flightpath_querylog::{QueryHistory, Recorder};
use flightpath_types::{Error, Result};
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;

pub use health::Health;

/// Requests hold one statement.
const REQUEST_BYTES_MAX: usize = 2 << 20;

/// Calls that need no authentication: a prober has no credentials, and the answer tells no more
/// than that the port is open.
pub const OPEN_PATHS: [&str; 2] = ["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"];

/// What goes onto the listener.
pub struct Api {
    pub routes: Routes,
    pub health: Health,
}

/// `recorder` is waited for, a moment, before the record is read: what has ended is in it.
pub fn api(queries: Arc<dyn QueryService>, history: Arc<dyn QueryHistory>, recorder: Recorder) -> Result<Api> {
    let service = service::Service::new(queries, history, recorder);
    let (health, checks) = Health::serving();
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(QUERY_API_DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let unreadable = |e| Error::internal(format!("the API's descriptors: {e}"));
    let routes = Routes::new(QueryApiServer::new(service).max_decoding_message_size(REQUEST_BYTES_MAX))
        .add_service(HealthServer::new(checks))
        .add_service(reflection().build_v1().map_err(unreadable)?)
        // Many clients still speak the older one.
        .add_service(reflection().build_v1alpha().map_err(unreadable)?);
    Ok(Api { routes: routes.prepare(), health })
}

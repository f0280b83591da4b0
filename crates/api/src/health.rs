//! `grpc.health.v1`: serving from the start, not serving once the server drains.

use flightpath_proto::v1::query_api_server::SERVICE_NAME;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

/// Everything that probers ask about: the server as a whole, and each of its services.
const NAMES: [&str; 3] = ["", SERVICE_NAME, "arrow.flight.protocol.FlightService"];

#[derive(Clone)]
pub struct Health(HealthReporter);

impl Health {
    pub(crate) async fn serving() -> (Self, HealthServer<HealthService>) {
        let reporter = HealthReporter::new();
        let service = HealthServer::new(HealthService::from_health_reporter(reporter.clone()));
        let health = Self(reporter);
        health.set(ServingStatus::Serving).await;
        (health, service)
    }

    /// From now on probers are told to send nobody here.
    pub async fn draining(&self) {
        self.set(ServingStatus::NotServing).await;
    }

    async fn set(&self, status: ServingStatus) {
        for name in NAMES {
            self.0.set_service_status(name, status).await;
        }
    }
}

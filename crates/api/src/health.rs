//! `grpc.health.v1`: serving from the start, not serving from the first signal to stop. Who watches is told
//! so and let go when the drain is over: no shutdown waits for watchers. They need no credentials, so their
//! number is bounded.

use std::sync::Arc;

use flightpath_grpc::status_of;
use flightpath_proto::v1::query_api_server::SERVICE_NAME;
use flightpath_types::{Error, ErrorKind};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_server};

/// Everything that probers ask about: the server as a whole, and each of its services.
const NAMES: [&str; 3] = ["", SERVICE_NAME, "arrow.flight.protocol.FlightService"];
/// A client that goes by health has one on each of its connections.
const WATCHES_MAX: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    Draining,
    Over,
}

impl Phase {
    fn status(self) -> ServingStatus {
        match self {
            Phase::Serving => ServingStatus::Serving,
            Phase::Draining | Phase::Over => ServingStatus::NotServing,
        }
    }

    fn answer(self) -> HealthCheckResponse {
        HealthCheckResponse { status: self.status().into() }
    }
}

#[derive(Clone)]
pub struct Health(watch::Sender<Phase>);

impl Health {
    pub(crate) fn serving() -> (Self, Checks) {
        let phase = watch::Sender::new(Phase::Serving);
        let checks = Checks { phase: phase.subscribe(), watches: Arc::new(Semaphore::new(WATCHES_MAX)) };
        (Self(phase), checks)
    }

    /// From now on probers are told to send nobody here.
    pub fn draining(&self) {
        self.0.send_replace(Phase::Draining);
    }

    /// The drain is over: watches end.
    pub fn over(&self) {
        self.0.send_replace(Phase::Over);
    }
}

/// What answers probers.
pub(crate) struct Checks {
    phase: watch::Receiver<Phase>,
    watches: Arc<Semaphore>,
}

#[tonic::async_trait]
impl health_server::Health for Checks {
    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        check_name(request.get_ref())?;
        let phase = *self.phase.borrow();
        Ok(Response::new(phase.answer()))
    }

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        check_name(request.get_ref())?;
        let place = self.watches.clone().try_acquire_owned().map_err(|_| {
            let message = format!("too many watches of this server's health: there may be {WATCHES_MAX}; end one first");
            status_of(&Error::new(ErrorKind::ResourceExhausted, message))
        })?;
        let watching = Watching { phase: self.phase.clone(), told: None, _place: place };
        Ok(Response::new(stream::unfold(Some(watching), next_status).boxed()))
    }
}

fn check_name(request: &HealthCheckRequest) -> Result<(), Status> {
    match NAMES.contains(&request.service.as_str()) {
        true => Ok(()),
        false => Err(status_of(&Error::not_found("there is no service of this name"))),
    }
}

/// One watcher.
struct Watching {
    phase: watch::Receiver<Phase>,
    told: Option<ServingStatus>,
    _place: OwnedSemaphorePermit,
}

/// `None` for the state after the last message.
async fn next_status(state: Option<Watching>) -> Option<(Result<HealthCheckResponse, Status>, Option<Watching>)> {
    let mut watching = state?;
    loop {
        let phase = *watching.phase.borrow_and_update();
        if watching.told != Some(phase.status()) {
            watching.told = Some(phase.status());
            return Some((Ok(phase.answer()), Some(watching)));
        }
        // A server that is gone without a word is over, too.
        if phase == Phase::Over || watching.phase.changed().await.is_err() {
            let error = Error::unavailable("the server is shutting down; watch another one or try again shortly");
            return Some((Err(status_of(&error)), None));
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use tonic_health::pb::health_server::Health as _;

    use super::*;

    fn of(service: &str) -> Request<HealthCheckRequest> {
        Request::new(HealthCheckRequest { service: service.into() })
    }

    async fn checked(checks: &Checks, service: &str) -> Result<ServingStatus, Code> {
        let answer = checks.check(of(service)).await;
        answer.map(|answer| answer.into_inner().status()).map_err(|status| status.code())
    }

    #[tokio::test]
    async fn every_service_is_served_until_the_drain() {
        let (health, checks) = Health::serving();
        for name in NAMES {
            assert_eq!(checked(&checks, name).await, Ok(ServingStatus::Serving));
        }
        assert_eq!(checked(&checks, "nobody").await, Err(Code::NotFound));
        assert_eq!(checks.watch(of("nobody")).await.err().map(|status| status.code()), Some(Code::NotFound));
        for end in [Health::draining, Health::over] {
            end(&health);
            assert_eq!(checked(&checks, "").await, Ok(ServingStatus::NotServing));
        }
    }

    #[tokio::test]
    async fn a_watcher_is_told_of_the_drain_before_its_watch_ends() {
        for drains_for_a_while in [true, false] {
            let (health, checks) = Health::serving();
            let mut watch = checks.watch(of("")).await.unwrap().into_inner();
            assert_eq!(watch.next().await.unwrap().unwrap().status(), ServingStatus::Serving);
            if drains_for_a_while {
                health.draining();
                assert_eq!(watch.next().await.unwrap().unwrap().status(), ServingStatus::NotServing);
            }
            health.over();
            if !drains_for_a_while {
                assert_eq!(watch.next().await.unwrap().unwrap().status(), ServingStatus::NotServing);
            }
            assert_eq!(watch.next().await.unwrap().unwrap_err().code(), Code::Unavailable);
            assert!(watch.next().await.is_none());
        }
    }

    #[tokio::test]
    async fn watches_are_limited_and_make_room_when_they_end() {
        let (_health, checks) = Health::serving();
        let mut watches = Vec::new();
        for _ in 0..WATCHES_MAX {
            watches.push(checks.watch(of("")).await.unwrap());
        }
        assert_eq!(checks.watch(of("")).await.err().map(|status| status.code()), Some(Code::ResourceExhausted));
        watches.pop();
        assert!(checks.watch(of("")).await.is_ok());
    }
}

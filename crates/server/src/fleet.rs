//! Workers from elsewhere: joins the door at which they register to the engine that uses them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use flightpath_engine_duckdb::{DuckdbEngine, RemoteWorker};
use flightpath_fleet::{DoorConfig, FleetKey, Joining, Roster, Seat};
use flightpath_flight::Tls;
use flightpath_proto::v1::WorkerStatus;
use flightpath_types::{Error, Result};
use tokio::net::TcpListener;

use crate::settings::Settings;

/// The variable that holds the fleet's key; it wins over `fleet.key_file`.
const KEY_VARIABLE: &str = "FLIGHTPATH_FLEET_KEY";
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Without a heartbeat for so long a worker gets no more work: noticed within three seconds.
pub(crate) const LEASE: Duration = Duration::from_millis(2_900);
/// A worker that is silent for so long is no more; it may join again.
const FORGET: Duration = Duration::from_secs(60);

/// The key that routers and workers of one fleet share.
pub(crate) fn key(settings: &Settings) -> Result<FleetKey> {
    if let Some(text) = std::env::var(KEY_VARIABLE).ok().filter(|text| !text.is_empty()) {
        return FleetKey::parse(&text);
    }
    let Some(path) = &settings.fleet.key_file else {
        return Err(Error::invalid(format!("routers and workers of a fleet share a key: set fleet.key_file or {KEY_VARIABLE}")));
    };
    let text = read(path, "fleet.key_file")?;
    warn_of_readers(path);
    FleetKey::parse(&text)
}

/// The authority of the fleet's certificates.
pub(crate) fn authority(settings: &Settings) -> Result<Option<String>> {
    settings.fleet.ca.as_deref().map(|path| read(path, "fleet.ca")).transpose()
}

fn read(path: &Path, setting: &str) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| Error::invalid(format!("{setting}: {} can't be read: {e}", path.display())))
}

fn warn_of_readers(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    if std::fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o077 != 0) {
        tracing::warn!(path = %path.display(), "other users of this machine can read the fleet's key: chmod 600");
    }
}

/// Where workers register, bound and ready to be served.
pub(crate) struct Door {
    listener: TcpListener,
    config: DoorConfig,
    ca_pem: Option<String>,
}

impl Door {
    /// `None` where no workers are expected.
    pub async fn open(settings: &Settings, tls: Option<&Tls>) -> Result<Option<Self>> {
        let Some(listen) = settings.fleet.listen.filter(|_| settings.duckdb.enabled) else { return Ok(None) };
        let config = DoorConfig {
            key: key(settings)?,
            tls: tls.map(|t| flightpath_fleet::Tls { certificate_pem: t.certificate_pem.clone(), key_pem: t.key_pem.clone() }),
            workers_max: usize::try_from(settings.fleet.workers_max).unwrap_or(usize::MAX),
            heartbeat: HEARTBEAT,
            lease: LEASE,
            forget: FORGET,
        };
        let listener = TcpListener::bind(listen)
            .await
            .map_err(|e| Error::unavailable(format!("workers can't register on {listen}: {e}; set fleet.listen to a free address")))?;
        Ok(Some(Self { listener, config, ca_pem: authority(settings)? }))
    }

    /// What workers are told as `worker.router`.
    pub fn uri(&self) -> Result<String> {
        let address = self.listener.local_addr().map_err(|e| Error::internal(format!("no local address: {e}")))?;
        Ok(format!("grpc{}://{address}", if self.config.tls.is_some() { "+tls" } else { "" }))
    }

    /// Takes workers in until `shutdown` completes.
    pub async fn serve(self, engine: Arc<DuckdbEngine>, shutdown: impl Future<Output = ()> + Send) {
        let roster = Arc::new(DuckdbRoster { engine, ca_pem: self.ca_pem });
        if let Err(error) = flightpath_fleet::serve(self.listener, roster, self.config, shutdown).await {
            tracing::error!(%error, "no more workers are taken in");
        }
    }
}

struct DuckdbRoster {
    engine: Arc<DuckdbEngine>,
    ca_pem: Option<String>,
}

#[async_trait]
impl Roster for DuckdbRoster {
    async fn join(&self, joining: Joining) -> Result<Box<dyn Seat>> {
        let Joining { name, address, tls, labels, status: _, ticket_key } = joining;
        if tls && self.ca_pem.is_none() {
            return Err(Error::invalid("the worker speaks TLS: set fleet.ca at the router to its certificate's authority"));
        }
        let ca_pem = self.ca_pem.clone().filter(|_| tls);
        let seat = self.engine.join(RemoteWorker { name, labels, address, ca_pem, ticket_key }).await?;
        Ok(Box::new(Taken(seat)))
    }
}

struct Taken(flightpath_engine_duckdb::Seat);

impl Seat for Taken {
    fn report(&self, status: &WorkerStatus) {
        self.0.report(status, std::time::Instant::now());
    }
}

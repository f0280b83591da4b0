//! Stores for tables, each with the credentials vended for its table and principal alone. They are
//! asked for anew whenever a request is signed: renewed ones are used, and a table that has come
//! under rules since is read no further.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use flightpath_types::{Error, ErrorKind, Result};
use object_store::aws::{AmazonS3Builder, AwsCredential};
use object_store::azure::{AzureCredential, MicrosoftAzureBuilder};
use object_store::client::{HttpClient, HttpConnector, SpawnedReqwestConnector};
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder};
use object_store::path::Path;
use object_store::{ClientOptions, CredentialProvider, ObjectStore, RetryConfig};
use secrecy::ExposeSecret;
use tokio::runtime::Handle;
use url::Url;

use super::confined::Confined;
use super::location::{CloudLocation, Service};
use crate::{StorageAccess, StorageKeys};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Tries of one request after its first, and how long they go on.
const RETRIES_MAX: usize = 3;
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);
/// What AWS itself takes where no region is named.
const REGION_DEFAULT: &str = "us-east-1";

/// How S3 and what is compatible with it is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CloudConfig {
    /// `https://minio.example.com`; `None`: Amazon's own.
    pub endpoint: Option<Url>,
    /// The region of the buckets.
    pub region: Option<String>,
    /// Lets requests travel unencrypted.
    pub allow_http: bool,
}

/// Makes stores. Requests and questions for credentials run on one runtime, whoever waits for them.
pub struct CloudStores {
    config: CloudConfig,
    runtime: Handle,
    connections: Connections,
}

/// One table's files, for one principal.
#[derive(Debug, Clone)]
pub struct TableStore {
    location: Arc<CloudLocation>,
    store: Arc<dyn ObjectStore>,
}

impl TableStore {
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// The object that a data file's path names; an error where it lies outside of the table.
    pub fn object(&self, file: &str) -> Result<Path> {
        self.location.object(file).ok_or_else(|| Error::internal("a data file lies outside of its table's folder"))
    }

    pub(crate) fn location(&self) -> &Arc<CloudLocation> {
        &self.location
    }
}

impl CloudStores {
    /// `runtime` has to drive I/O and timers.
    pub fn new(config: CloudConfig, runtime: Handle) -> Self {
        let connections = Connections { connector: Arc::new(SpawnedReqwestConnector::new(runtime.clone())), client: Arc::default() };
        Self { config, runtime, connections }
    }

    /// The store of one table, in the name that `access` stands for. Asks nothing yet.
    pub fn open(&self, location: &Arc<CloudLocation>, access: Arc<dyn StorageAccess>) -> Result<TableStore> {
        let vended = Vended { access, location: location.clone(), runtime: self.runtime.clone() };
        let options = ClientOptions::new().with_connect_timeout(CONNECT_TIMEOUT).with_timeout(REQUEST_TIMEOUT);
        let options = options.with_allow_http(self.config.allow_http);
        let retry = RetryConfig { max_retries: RETRIES_MAX, retry_timeout: RETRY_TIMEOUT, ..Default::default() };
        let connector = self.connections.clone();
        let built: object_store::Result<Arc<dyn ObjectStore>> = match &location.service {
            Service::S3 | Service::R2 { .. } => {
                let mut builder = AmazonS3Builder::new()
                    .with_bucket_name(&location.bucket)
                    .with_client_options(options)
                    .with_retry(retry)
                    .with_credentials(Arc::new(Aws(vended)))
                    .with_http_connector(connector);
                let endpoint = match &location.service {
                    Service::R2 { host } => Some(format!("https://{host}")),
                    _ => self.config.endpoint.as_ref().map(|url| url.as_str().trim_end_matches('/').to_string()),
                };
                if let Some(endpoint) = endpoint {
                    builder = builder.with_endpoint(endpoint);
                }
                let region = match &location.service {
                    Service::R2 { .. } => "auto",
                    _ => self.config.region.as_deref().unwrap_or(REGION_DEFAULT),
                };
                builder.with_region(region).build().map(|store| Arc::new(store) as _)
            }
            Service::Azure { account, cloud } => MicrosoftAzureBuilder::new()
                .with_account(account)
                .with_container_name(&location.bucket)
                .with_endpoint(format!("https://{account}.blob.{cloud}"))
                .with_client_options(options)
                .with_retry(retry)
                .with_credentials(Arc::new(Azure(vended)))
                .with_http_connector(connector)
                .build()
                .map(|store| Arc::new(store) as _),
            Service::Google => GoogleCloudStorageBuilder::new()
                .with_bucket_name(&location.bucket)
                .with_client_options(options)
                .with_retry(retry)
                .with_credentials(Arc::new(Google(vended)))
                .with_http_connector(connector)
                .build()
                .map(|store| Arc::new(store) as _),
        };
        let inner =
            built.map_err(|_| Error::invalid(format!("no store can be set up for {location}; check databricks.storage_endpoint")))?;
        let store = Arc::new(Confined { inner, root: location.root.clone() });
        Ok(TableStore { location: location.clone(), store })
    }
}

/// Connections for all stores: they hold no credentials, and making them anew for each query would
/// read the system's certificates each time.
#[derive(Debug, Clone)]
struct Connections {
    connector: Arc<SpawnedReqwestConnector>,
    client: Arc<OnceLock<HttpClient>>,
}

impl HttpConnector for Connections {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        if let Some(client) = self.client.get() {
            return Ok(client.clone());
        }
        let made = self.connector.connect(options)?;
        Ok(self.client.get_or_init(|| made).clone())
    }
}

/// Credentials for one table in one principal's name, as a store asks for them.
#[derive(Debug)]
struct Vended {
    access: Arc<dyn StorageAccess>,
    location: Arc<CloudLocation>,
    runtime: Handle,
}

impl Vended {
    async fn keys(&self) -> object_store::Result<StorageKeys> {
        let failed = |error: Error| object_store::Error::Generic { store: "vended credentials", source: Box::new(error) };
        let access = self.access.clone();
        let asked = self.runtime.spawn(async move { access.credentials().await });
        let credentials = asked.await.map_err(|_| failed(Error::unavailable("the catalog is shutting down")))?.map_err(failed)?;
        if credentials.expires <= SystemTime::now() {
            return Err(failed(Error::unavailable(format!("the credentials for {} have expired", self.location))));
        }
        match self.location.opened_by(&credentials) {
            Ok(()) => Ok(credentials.keys),
            Err(why) => Err(failed(Error::unavailable(format!("{} can't be read: {why}", self.location)))),
        }
    }
}

fn another_kind() -> object_store::Error {
    object_store::Error::Generic { store: "vended credentials", source: "they are for another kind of storage".into() }
}

#[derive(Debug)]
struct Aws(Vended);

#[async_trait]
impl CredentialProvider for Aws {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        match self.0.keys().await? {
            StorageKeys::Aws { access_key_id, secret_access_key, session_token }
            | StorageKeys::R2 { access_key_id, secret_access_key, session_token } => Ok(Arc::new(AwsCredential {
                key_id: access_key_id,
                secret_key: secret_access_key.expose_secret().to_string(),
                token: Some(session_token.expose_secret().to_string()),
            })),
            StorageKeys::AzureSas(_) | StorageKeys::GcpOauth(_) => Err(another_kind()),
        }
    }
}

#[derive(Debug)]
struct Azure(Vended);

#[async_trait]
impl CredentialProvider for Azure {
    type Credential = AzureCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AzureCredential>> {
        match self.0.keys().await? {
            StorageKeys::AzureSas(token) => Ok(Arc::new(AzureCredential::SASToken(sas_pairs(token.expose_secret())))),
            StorageKeys::Aws { .. } | StorageKeys::GcpOauth(_) | StorageKeys::R2 { .. } => Err(another_kind()),
        }
    }
}

#[derive(Debug)]
struct Google(Vended);

#[async_trait]
impl CredentialProvider for Google {
    type Credential = GcpCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<GcpCredential>> {
        match self.0.keys().await? {
            StorageKeys::GcpOauth(token) => Ok(Arc::new(GcpCredential { bearer: token.expose_secret().to_string() })),
            StorageKeys::Aws { .. } | StorageKeys::AzureSas(_) | StorageKeys::R2 { .. } => Err(another_kind()),
        }
    }
}

/// A shared access signature's parameters; they are encoded again when they're sent.
fn sas_pairs(token: &str) -> Vec<(String, String)> {
    url::form_urlencoded::parse(token.trim_start_matches('?').replace('+', "%2B").as_bytes()).into_owned().collect()
}

/// What is told of a storage service's failure while `what` was read. Of the service's own words
/// nothing is kept: they may quote what was sent to it.
pub fn store_error(what: impl std::fmt::Display, error: &object_store::Error) -> Error {
    if let Some(own) = own_error(error) {
        return own.context(format!("{what} can't be read"));
    }
    match error {
        object_store::Error::NotFound { .. } => {
            Error::new(ErrorKind::DataLoss, format!("{what} can't be read: it's missing; it may have been vacuumed"))
        }
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            Error::unavailable(format!("{what} can't be read: its storage doesn't accept the credentials that Unity Catalog gave for it"))
        }
        _ => Error::unavailable(format!("{what} can't be read: its storage didn't answer as it should")),
    }
}

/// An error of this program's that a store passed on.
pub(crate) fn own_error(error: &(dyn std::error::Error + 'static)) -> Option<Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(own) = error.downcast_ref::<Error>() {
            return Some(own.clone());
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_keeps_its_value_through_decoding() {
        let pairs = sas_pairs("?sv=2024-01-01&sig=a%2Bb%2Fc%3D&se=2026-01-01T00%3A00%3A00Z");
        assert_eq!(pairs[1], ("sig".to_string(), "a+b/c=".to_string()));
        assert_eq!(sas_pairs("sig=a+b")[0].1, "a+b");
    }

    /// Keeps what was sent and answers that there's nothing.
    #[derive(Debug, Default, Clone)]
    struct Listener(Arc<parking_lot::Mutex<Vec<(String, Option<String>)>>>);

    #[async_trait]
    impl object_store::client::HttpService for Listener {
        async fn call(
            &self,
            request: object_store::client::HttpRequest,
        ) -> Result<object_store::client::HttpResponse, object_store::client::HttpError> {
            let authorization = request.headers().get("authorization").and_then(|v| v.to_str().ok()).map(str::to_string);
            self.0.lock().push((request.uri().to_string(), authorization));
            let body = object_store::client::HttpResponseBody::from(Vec::new());
            Ok(http::Response::builder().status(404).body(body).unwrap())
        }
    }

    #[derive(Debug)]
    struct Given(crate::StorageCredentials);

    #[async_trait]
    impl StorageAccess for Given {
        async fn credentials(&self) -> Result<crate::StorageCredentials> {
            Ok(self.0.clone())
        }
    }

    /// What a store for `location` sends when it's asked for `file`, or the error.
    async fn sent(location: &str, url: &str, keys: StorageKeys, lives: Duration) -> Result<(String, Option<String>), Error> {
        let stores = CloudStores::new(CloudConfig::default(), Handle::current());
        let listener = Listener::default();
        stores.connections.client.set(HttpClient::new(listener.clone())).unwrap();
        let location = Arc::new(CloudLocation::parse(location).unwrap().unwrap());
        let credentials = crate::StorageCredentials { url: url.into(), expires: SystemTime::now() + lives, keys };
        let store = stores.open(&location, Arc::new(Given(credentials))).unwrap();
        let path = store.object(&location.file("p=1/f%20g.parquet", false).unwrap()).unwrap();
        let answer = store.store().get_opts(&path, Default::default()).await;
        let error = store_error("it", &answer.unwrap_err());
        let sent = listener.0.lock().first().cloned();
        sent.ok_or(error)
    }

    #[tokio::test]
    async fn each_service_is_asked_in_its_own_way() {
        let minute = Duration::from_secs(60);
        let azure = "abfss://c@acct.dfs.core.windows.net/a/t";
        let (uri, authorization) = sent(azure, azure, StorageKeys::AzureSas("sv=1&sig=a%2Bb%3D".into()), minute).await.unwrap();
        assert!(uri.starts_with("https://acct.blob.core.windows.net/c/a/t/p=1/f%20g.parquet?"), "{uri}");
        assert!(uri.contains("sig=a%2Bb%3D") && authorization.is_none(), "{uri}");
        let google = "gs://b/a/t";
        let (uri, authorization) = sent(google, google, StorageKeys::GcpOauth("the-token".into()), minute).await.unwrap();
        assert!(
            uri.starts_with("https://storage.googleapis.com/b/a%2Ft%2F") || uri.starts_with("https://storage.googleapis.com/b/a/t/"),
            "{uri}"
        );
        assert_eq!(authorization.as_deref(), Some("Bearer the-token"));
        let aws = || StorageKeys::Aws { access_key_id: "KEY".into(), secret_access_key: "s".into(), session_token: "t".into() };
        let (uri, authorization) = sent("s3://b/a/t", "s3://b/a", aws(), minute).await.unwrap();
        assert!(uri.contains("amazonaws.com/") && uri.ends_with("/a/t/p%3D1/f%20g.parquet"), "{uri}");
        assert!(authorization.unwrap().starts_with("AWS4-HMAC-SHA256 Credential=KEY/"));
        let r2 = "r2://b@acct.r2.cloudflarestorage.com/a/t";
        let keys = StorageKeys::R2 { access_key_id: "KEY".into(), secret_access_key: "s".into(), session_token: "t".into() };
        let (uri, _) = sent(r2, r2, keys, minute).await.unwrap();
        assert!(uri.starts_with("https://acct.r2.cloudflarestorage.com/b/a/t/"), "{uri}");
    }

    #[tokio::test]
    async fn credentials_that_do_not_fit_are_never_sent() {
        let aws = || StorageKeys::Aws { access_key_id: "KEY".into(), secret_access_key: "s".into(), session_token: "t".into() };
        let minute = Duration::from_secs(60);
        for (url, keys, lives, why) in [
            ("s3://b/a/u", aws(), minute, "another place"),
            ("s3://c/a/t", aws(), minute, "another place"),
            ("", aws(), minute, "isn't known which place"),
            ("s3://b/a/t", StorageKeys::GcpOauth("x".into()), minute, "another kind"),
            ("s3://b/a/t", aws(), Duration::ZERO, "have expired"),
        ] {
            let error = sent("s3://b/a/t", url, keys, lives).await.unwrap_err();
            assert!(error.message().contains(why), "{url}: {error}");
        }
    }

    #[test]
    fn nothing_of_a_services_answer_is_repeated() {
        let denied = object_store::Error::PermissionDenied { path: "p".into(), source: "x-amz-security-token:secret".into() };
        let broken = object_store::Error::Generic { store: "S3", source: "https://a/?sig=secret".into() };
        for error in [denied, broken] {
            let told = store_error("table t", &error);
            assert_eq!(told.kind(), ErrorKind::Unavailable);
            assert!(!told.message().contains("secret"), "{told}");
        }
        let own = object_store::Error::Generic { store: "S3", source: Box::new(Error::new(ErrorKind::PermissionDenied, "a rule")) };
        assert_eq!(store_error("table t", &own).kind(), ErrorKind::PermissionDenied);
    }
}

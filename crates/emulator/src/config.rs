//! What the simulated workspace holds and how it behaves. Plain data with serde names, because the
//! same shapes travel over the `/simulation` endpoints; who reads files is the caller's concern.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// The whole workspace. Every field has a default but what only the user can know.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Loopback by default; port 0 takes a free one.
    pub listen: SocketAddr,
    pub catalogs: Vec<CatalogConfig>,
    pub principals: Vec<PrincipalConfig>,
    pub oauth_clients: Vec<OauthClient>,
    pub warehouses: Vec<WarehouseConfig>,
    /// By full name, `catalog.schema.table`.
    pub tables: BTreeMap<String, TableRules>,
    pub settings: Settings,
    /// Threads and memory of the engine behind the simulation.
    pub engine_threads: usize,
    pub engine_memory_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            catalogs: Vec::new(),
            principals: Vec::new(),
            oauth_clients: Vec::new(),
            warehouses: vec![WarehouseConfig::default()],
            tables: BTreeMap::new(),
            settings: Settings::default(),
            engine_threads: std::thread::available_parallelism().map_or(1, |n| n.get()),
            engine_memory_bytes: 2 << 30,
        }
    }
}

/// A catalog over folders, which are read as `serve --data` reads them: `main.default.<table>`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogConfig {
    #[serde(default = "default_catalog")]
    pub name: String,
    pub data: Vec<PathBuf>,
}

fn default_catalog() -> String {
    "main".into()
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PrincipalConfig {
    pub name: String,
    /// Personal access tokens.
    pub tokens: Vec<String>,
    pub groups: Vec<String>,
    /// `sub` claims of the JWTs that token exchange turns into this principal; its own name always.
    pub subjects: Vec<String>,
    /// Holds MANAGE on everything; reads no table by that.
    pub admin: bool,
    /// Sees everybody's queries in the history.
    pub monitor: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OauthClient {
    pub client_id: String,
    pub client_secret: String,
    pub principal: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WarehouseConfig {
    pub id: String,
    pub name: String,
    /// `2X-Small` to `5X-Large`.
    pub cluster_size: String,
    pub min_num_clusters: u32,
    pub max_num_clusters: u32,
    pub enable_serverless_compute: bool,
    /// `PRO` or `CLASSIC`.
    pub warehouse_type: String,
    /// 0: never stops by itself.
    pub auto_stop_mins: f64,
    /// From STARTING to RUNNING; published: 2 to 6 s serverless, about 4 minutes else.
    pub start_delay_ms: Option<u64>,
    pub stop_delay_ms: u64,
    /// Floor of a query's time: the fastest one seen in a public benchmark took 216 ms.
    pub base_latency_ms: u64,
    /// Queries that one cluster runs at once; published: about 10.
    pub concurrency_per_cluster: u32,
    pub running: bool,
}

impl Default for WarehouseConfig {
    fn default() -> Self {
        Self {
            id: "simulated".into(),
            name: "simulated warehouse".into(),
            cluster_size: "2X-Small".into(),
            min_num_clusters: 1,
            max_num_clusters: 1,
            enable_serverless_compute: true,
            warehouse_type: "PRO".into(),
            auto_stop_mins: 10.0,
            start_delay_ms: None,
            stop_delay_ms: 0,
            base_latency_ms: 216,
            concurrency_per_cluster: 10,
            running: false,
        }
    }
}

/// Who may read what of one table, and how the metadata shows it. Filters and masks bind everybody,
/// the owner included.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TableRules {
    /// A SQL predicate over the table's columns; may use `current_user()` and `is_account_group_member('g')`.
    pub row_filter: Option<String>,
    /// By column: the SQL expression that stands in its place.
    pub masks: BTreeMap<String, String>,
    /// Enforced, but not shown in the table's metadata, as policies by attribute are.
    pub hidden: bool,
    pub owner: Option<String>,
    /// By principal or group: `SELECT`, `MODIFY`, `EXTERNAL_USE_SCHEMA`. Without it: [`Settings::default_privileges`].
    pub grants: Option<BTreeMap<String, Vec<String>>>,
    /// `VIEW`, `STREAMING_TABLE`... in place of MANAGED.
    pub table_type: Option<String>,
    /// Makes it a view that runs with its owner's rights.
    pub view_definition: Option<String>,
    /// `HAS_DIRECT_EXTERNAL_ENGINE_READ_SUPPORT`; by default present for plain tables without rules.
    pub capability: Option<Capability>,
    pub vending_refused: bool,
    /// What the policies endpoint shows who holds MANAGE.
    pub policies: Vec<Json>,
    /// Merged into the table's metadata, over what would stand there; null removes.
    pub metadata: serde_json::Map<String, Json>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capability {
    Present,
    Absent,
    /// The metadata says nothing about capabilities.
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialKind {
    Aws,
    Azure,
    Gcp,
    R2,
}

/// What may change while the simulation runs. Durations in milliseconds, sizes in bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Links live 15 minutes at most.
    pub link_lifetime_ms: u64,
    pub links_per_answer: usize,
    /// A chunk ends with the batch that reaches either.
    pub chunk_bytes: usize,
    pub chunk_rows: usize,
    pub lz4_frame_bytes: usize,
    /// INLINE fails above it.
    pub inline_bytes_max: u64,
    /// INLINE_OR_EXTERNAL_LINKS answers inline up to it.
    pub attachment_bytes_max: u64,
    /// EXTERNAL_LINKS truncates above it.
    pub external_bytes_max: u64,
    pub result_lifetime_ms: u64,
    /// State CLOSED once the last chunk was handed out.
    pub close_after_last_chunk: bool,
    pub page_size: usize,
    /// Every second page of a listing is empty and carries a token.
    pub empty_pages: bool,
    /// The metastore's external access.
    pub external_access: bool,
    pub credential_kind: CredentialKind,
    pub credential_lifetime_ms: u64,
    /// Tables lie in a simulated S3 bucket, reached at `/objects`: `s3://simulated/main/default/t`.
    pub cloud_storage: bool,
    /// When the bucket stops taking credentials, where that is sooner than they were told to last.
    pub credentials_taken_ms: Option<u64>,
    pub oauth_token_lifetime_ms: u64,
    /// Calls of the query history in a second; 0: no limit.
    pub history_calls_per_second: u32,
    /// What everybody holds on tables without grants of their own.
    pub default_privileges: Vec<String>,
    /// Effective permissions show what a group holds under the group's name, not under the one who asks.
    pub privileges_by_holder: bool,
    /// Capabilities stand in the older top-level field.
    pub top_level_capabilities: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            link_lifetime_ms: 15 * 60_000,
            links_per_answer: 1,
            chunk_bytes: 16 << 20,
            chunk_rows: usize::MAX,
            lz4_frame_bytes: 1 << 20,
            inline_bytes_max: 25 << 20,
            attachment_bytes_max: 5 << 20,
            external_bytes_max: 100 << 30,
            result_lifetime_ms: 3_600_000,
            close_after_last_chunk: false,
            page_size: 100,
            empty_pages: false,
            external_access: true,
            credential_kind: CredentialKind::Aws,
            credential_lifetime_ms: 3_600_000,
            cloud_storage: false,
            credentials_taken_ms: None,
            oauth_token_lifetime_ms: 3_600_000,
            history_calls_per_second: 10,
            default_privileges: ["SELECT", "MODIFY", "EXTERNAL_USE_SCHEMA"].map(String::from).to_vec(),
            privileges_by_holder: false,
            top_level_capabilities: false,
        }
    }
}

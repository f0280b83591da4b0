//! A Unity Catalog of a few answers, with a clock of its own, that can be told to be down or to
//! hold an answer back; and a folder with a small Delta table.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use flightpath_catalog::{AccessRules, AsOf, Catalog, TableName, TableSnapshot};
use flightpath_types::{Error, ErrorKind, Principal, Result};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::api::UnityApi;
use crate::catalog::UnityCatalog;
use crate::config::Config;
use crate::eligibility::READ_CAPABILITY;

/// Some may be in it.
pub const GROUP: &str = "readers";
pub const SECRET: &str = "the-secret-part";

pub struct Fake {
    pub folder: tempfile::TempDir,
    tables: Mutex<HashMap<String, Value>>,
    /// By principal and kind of object.
    groups: Mutex<HashMap<String, Vec<String>>>,
    held: Mutex<HashMap<(String, String), Vec<&'static str>>>,
    /// What the lists answer, page by page.
    pub pages: Mutex<HashMap<String, Vec<Value>>>,
    pub policies: Mutex<Vec<Value>>,
    pub down: AtomicBool,
    pub vending_refused: AtomicBool,
    pub credentials_live: Mutex<Duration>,
    pub table_calls: AtomicUsize,
    pub vend_calls: AtomicUsize,
    /// Principals whose answers about tables wait for a permit once they are made.
    held_back: Mutex<HashSet<String>>,
    pub waiting: AtomicUsize,
    pub release: Semaphore,
    advanced: Mutex<Duration>,
    began: Instant,
}

pub fn ann() -> Principal {
    Principal::new("ann")
}

pub fn bob() -> Principal {
    Principal::new("bob")
}

pub fn sales() -> TableName {
    TableName::new("main", "shop", "sales")
}

impl Fake {
    /// `main.shop.sales`, free for ann; bob holds nothing.
    pub fn new() -> Arc<Self> {
        let fake = Self {
            folder: tempfile::tempdir().unwrap(),
            tables: Mutex::default(),
            groups: Mutex::default(),
            held: Mutex::default(),
            pages: Mutex::default(),
            policies: Mutex::default(),
            down: AtomicBool::new(false),
            vending_refused: AtomicBool::new(false),
            credentials_live: Mutex::new(Duration::from_secs(3_600)),
            table_calls: AtomicUsize::new(0),
            vend_calls: AtomicUsize::new(0),
            held_back: Mutex::default(),
            waiting: AtomicUsize::new(0),
            release: Semaphore::new(0),
            advanced: Mutex::new(Duration::ZERO),
            began: Instant::now(),
        };
        let log = fake.folder.path().join("sales/_delta_log");
        std::fs::create_dir_all(&log).unwrap();
        commit(&log, 0);
        let location = format!("file://{}", fake.folder.path().join("sales").display());
        fake.put("main.shop.sales", table(&location));
        fake.grant("ann");
        Arc::new(fake)
    }

    pub fn put(&self, name: &str, table: Value) {
        self.tables.lock().insert(name.into(), table);
    }

    pub fn remove(&self, name: &str) {
        self.tables.lock().remove(name);
    }

    /// Changes one field of a table.
    pub fn set(&self, name: &str, field: &str, value: Value) {
        self.tables.lock().get_mut(name).unwrap()[field] = value;
    }

    pub fn add_filter(&self) {
        self.set("main.shop.sales", "row_filter", json!({"function_name": "main.shop.f", "input_column_names": ["id"]}));
    }

    /// Everything that reading takes.
    pub fn grant(&self, principal: &str) {
        self.hold(principal, "catalog", vec!["USE_CATALOG"]);
        self.hold(principal, "schema", vec!["USE_SCHEMA", "EXTERNAL_USE_SCHEMA"]);
        self.hold(principal, "table", vec!["SELECT"]);
    }

    pub fn hold(&self, principal: &str, kind: &str, privileges: Vec<&'static str>) {
        self.held.lock().insert((principal.into(), kind.into()), privileges);
    }

    pub fn join(&self, principal: &str, group: &str) {
        self.groups.lock().entry(principal.into()).or_default().push(group.into());
    }

    pub fn hold_back(&self, principal: &str) {
        self.held_back.lock().insert(principal.into());
    }

    /// Lets answers through from now on, those that wait included.
    pub fn let_go(&self, principal: &str) {
        self.held_back.lock().remove(principal);
        self.release.add_permits(1_000);
    }

    pub fn advance(&self, by: Duration) {
        *self.advanced.lock() += by;
    }

    pub fn commit(&self, version: u64) {
        commit(&self.folder.path().join("sales/_delta_log"), version);
    }

    pub fn config(&self) -> Config {
        Config { local_roots: vec![self.folder.path().into()], ..Config::new(vec!["main".into()]) }
    }

    pub fn catalog(self: &Arc<Self>) -> Arc<UnityCatalog> {
        self.catalog_with(self.config())
    }

    pub fn catalog_with(self: &Arc<Self>, config: Config) -> Arc<UnityCatalog> {
        let clock = self.clone();
        Arc::new(UnityCatalog::with_api(config, self.clone(), Box::new(move || clock.began + *clock.advanced.lock())))
    }

    fn check_up(&self) -> Result<()> {
        if self.down.load(Ordering::SeqCst) { Err(Error::unavailable("no connection")) } else { Ok(()) }
    }
}

/// A table that is free in every respect.
pub fn table(location: &str) -> Value {
    json!({
        "catalog_name": "main", "schema_name": "shop", "name": "sales", "full_name": "main.shop.sales",
        "table_id": "id-1", "table_type": "MANAGED", "data_source_format": "DELTA", "storage_location": location,
        "columns": [{"name": "id", "type_text": "int", "type_name": "INT", "position": 0, "nullable": true}],
        "securable_kind_manifest": {"capabilities": [READ_CAPABILITY, "OTHER"]},
        "updated_at": 1_700_000_000_000_i64,
    })
}

fn commit(log: &Path, version: u64) {
    let schema = r#"{\"type\":\"struct\",\"fields\":[{\"name\":\"id\",\"type\":\"integer\",\"nullable\":true,\"metadata\":{}}]}"#;
    let mut actions = Vec::new();
    if version == 0 {
        actions.push(r#"{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}"#.to_string());
        actions.push(format!(
            r#"{{"metaData":{{"id":"6a8a6bd6-0000-4000-8000-000000000001","format":{{"provider":"parquet","options":{{}}}},"schemaString":"{schema}","partitionColumns":[],"configuration":{{}},"createdTime":1700000000000}}}}"#
        ));
    }
    actions.push(format!(
        r#"{{"add":{{"path":"f{version}.parquet","partitionValues":{{}},"size":100,"modificationTime":1700000000000,"dataChange":true,"stats":"{{\"numRecords\":10}}"}}}}"#
    ));
    let staged = log.join(format!(".{version}.tmp"));
    std::fs::write(&staged, actions.join("\n") + "\n").unwrap();
    std::fs::rename(staged, log.join(format!("{version:020}.json"))).unwrap();
}

#[async_trait]
impl UnityApi for Fake {
    async fn get(&self, principal: &Principal, path: &str, query: &[(&str, String)], _: Instant) -> Result<Value> {
        self.check_up()?;
        let parameter = |name: &str| query.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone());
        if let Some(full_name) = path.strip_prefix("/tables/") {
            self.table_calls.fetch_add(1, Ordering::SeqCst);
            let found = self.tables.lock().get(full_name).cloned();
            if self.held_back.lock().contains(principal.as_str()) {
                self.waiting.fetch_add(1, Ordering::SeqCst);
                self.release.acquire().await.unwrap().forget();
            }
            return found.ok_or_else(|| Error::not_found("no such table"));
        }
        if let Some(object) = path.strip_prefix("/effective-permissions/") {
            let (kind, user) = (object.split('/').next().unwrap(), parameter("principal").unwrap());
            let held = self.held.lock().get(&(user.clone(), kind.to_string())).cloned().unwrap_or_default();
            let privileges: Vec<Value> = held.iter().map(|p| json!({"privilege": p})).collect();
            let others = json!({"principal": "somebody else", "privileges": [{"privilege": "ALL_PRIVILEGES"}]});
            let group = self.held.lock().get(&(GROUP.to_string(), kind.to_string())).cloned().unwrap_or_default();
            let group: Vec<Value> = group.iter().map(|p| json!({"privilege": p})).collect();
            let group = json!({"principal": GROUP, "privileges": group});
            return Ok(json!({"privilege_assignments": [others, group, {"principal": user, "privileges": privileges}]}));
        }
        if path.starts_with("/policies/") {
            return match self.policies.lock().as_slice() {
                [] => Err(Error::new(ErrorKind::PermissionDenied, "needs MANAGE")),
                some => Ok(json!({"policies": some})),
            };
        }
        let pages = self.pages.lock();
        let pages = pages.get(path).ok_or_else(|| Error::not_found("no such list"))?;
        let at: usize = parameter("page_token").map_or(0, |token| token.parse().unwrap());
        Ok(pages[at].clone())
    }

    async fn vend(&self, _: &Principal, table_id: &str, _: Instant) -> Result<Value> {
        self.check_up()?;
        self.vend_calls.fetch_add(1, Ordering::SeqCst);
        if self.vending_refused.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::PermissionDenied, "external access is off"));
        }
        assert_eq!(table_id, "id-1");
        let expires = SystemTime::now() + *self.credentials_live.lock();
        let expires_ms = expires.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64;
        Ok(json!({
            "aws_temp_credentials": {"access_key_id": "k", "secret_access_key": SECRET, "session_token": SECRET},
            "expiration_time": expires_ms,
        }))
    }

    async fn groups(&self, principal: &Principal, _: Instant) -> Result<Vec<String>> {
        self.check_up()?;
        Ok(self.groups.lock().get(principal.as_str()).cloned().unwrap_or_default())
    }

    fn databricks_name(&self, principal: &Principal) -> String {
        principal.as_str().to_string()
    }
}

pub async fn latest(catalog: &UnityCatalog, principal: &Principal) -> Result<Arc<TableSnapshot>> {
    catalog.snapshot(principal, &sales(), &AsOf::Latest).await
}

/// Why the table is governed.
pub fn reason(snapshot: &TableSnapshot) -> &str {
    match &snapshot.access {
        AccessRules::Governed(reason) => reason,
        AccessRules::Free => panic!("{} is free", snapshot.name),
    }
}

/// Waits until `probe` holds, at most half a minute.
pub async fn eventually(what: &str, probe: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !probe() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::task::yield_now().await;
    }
}

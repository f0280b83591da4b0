//! A simulated workspace over a table `people` of three rows and `numbers` of as many as wanted.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::ipc::reader::StreamReader;
use flightpath_emulator::{CatalogConfig, Config, Emulator, OauthClient, PrincipalConfig, RunningEmulator, WarehouseConfig};
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};
use tempfile::TempDir;

pub const NUMBERS: i64 = 1_000;

pub struct Simulation {
    pub url: String,
    pub http: reqwest::Client,
    _running: RunningEmulator,
    pub data: TempDir,
}

pub fn write_table(folder: &Path, name: &str, columns: Vec<(&str, ArrayRef)>) {
    let batch = RecordBatch::try_from_iter(columns).expect("batch");
    let table = folder.join(name);
    std::fs::create_dir(&table).expect("folder");
    let file = File::create(table.join("part-0.parquet")).expect("file");
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("writer");
    writer.write(&batch).expect("rows");
    writer.close().expect("footer");
}

pub fn fast_warehouse() -> WarehouseConfig {
    WarehouseConfig { id: "w".into(), base_latency_ms: 0, start_delay_ms: Some(0), running: true, ..Default::default() }
}

impl Simulation {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let data = TempDir::new().expect("temporary folder");
        let people: Vec<(&str, ArrayRef)> = vec![
            ("id", Arc::new(Int64Array::from(vec![1, 2, 3]))),
            ("name", Arc::new(StringArray::from(vec!["ann", "bob", "cy"]))),
            ("ssn", Arc::new(StringArray::from(vec!["secret-1", "secret-2", "secret-3"]))),
        ];
        write_table(data.path(), "people", people);
        write_table(data.path(), "numbers", vec![("n", Arc::new(Int64Array::from_iter_values(0..NUMBERS)))]);
        let principal = |name: &str| PrincipalConfig { name: name.into(), tokens: vec![format!("token-{name}")], ..Default::default() };
        let mut config = Config {
            catalogs: vec![CatalogConfig { name: "main".into(), data: vec![data.path().to_path_buf()] }],
            principals: vec![
                PrincipalConfig { admin: true, groups: vec!["hr".into()], ..principal("admin") },
                PrincipalConfig { subjects: vec!["subject-of-ann".into()], ..principal("ann") },
                principal("bob"),
            ],
            oauth_clients: vec![OauthClient { client_id: "id".into(), client_secret: "secret".into(), principal: "ann".into() }],
            warehouses: vec![fast_warehouse()],
            engine_threads: 1,
            engine_memory_bytes: 256 << 20,
            ..Default::default()
        };
        change(&mut config);
        let running = Emulator::start(config).await.expect("starts");
        Self { url: running.url.clone(), http: reqwest::Client::new(), _running: running, data }
    }

    pub async fn get_as(&self, user: &str, path: &str) -> (u16, Value) {
        let request = self.http.get(format!("{}{path}", self.url)).bearer_auth(format!("token-{user}"));
        answer(request.send().await.expect("answers")).await
    }

    pub async fn post_as(&self, user: &str, path: &str, body: Value) -> (u16, Value) {
        let request = self.http.post(format!("{}{path}", self.url)).bearer_auth(format!("token-{user}"));
        answer(request.json(&body).send().await.expect("answers")).await
    }

    /// A change over `/simulation`.
    pub async fn simulate(&self, path: &str, body: Value) {
        let (status, answer) = self.post_as("admin", &format!("/simulation/{path}"), body).await;
        assert_eq!(status, 200, "{answer}");
    }

    pub async fn counters(&self) -> Value {
        self.get_as("admin", "/simulation/counters").await.1
    }

    /// Executes with more fields, waits for the end.
    pub async fn execute(&self, user: &str, statement: &str, more: Value) -> Value {
        let mut body = json!({"statement": statement, "warehouse_id": "w", "wait_timeout": "30s"});
        for (key, value) in more.as_object().expect("an object") {
            body[key] = value.clone();
        }
        let (status, answer) = self.post_as(user, "/api/2.0/sql/statements", body).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// The rows of a statement that succeeds, as JSON.
    pub async fn rows(&self, user: &str, statement: &str) -> Value {
        let answer = self.execute(user, statement, json!({})).await;
        assert_eq!(answer["status"]["state"], "SUCCEEDED", "{statement}: {answer}");
        answer["result"].get("data_array").cloned().unwrap_or(json!([]))
    }

    /// The message of a statement that fails.
    pub async fn failure(&self, user: &str, statement: &str) -> String {
        let answer = self.execute(user, statement, json!({})).await;
        assert_eq!(answer["status"]["state"], "FAILED", "{statement}: {answer}");
        answer["status"]["error"]["message"].as_str().expect("a message").to_string()
    }

    pub async fn download(&self, link: &Value) -> reqwest::Result<Vec<u8>> {
        let mut request = self.http.get(link["external_link"].as_str().expect("a link"));
        for (name, value) in link["http_headers"].as_object().expect("headers") {
            request = request.header(name, value.as_str().expect("text"));
        }
        Ok(request.send().await?.error_for_status()?.bytes().await?.to_vec())
    }

    /// Polls until the state is terminal.
    pub async fn end(&self, user: &str, id: &str) -> Value {
        let path = format!("/api/2.0/sql/statements/{id}");
        self.until(|| async {
            let (_, answer) = self.get_as(user, &path).await;
            let state = answer["status"]["state"].as_str().unwrap_or_default().to_string();
            (!["PENDING", "RUNNING"].contains(&state.as_str())).then_some(answer)
        })
        .await
    }

    /// Asks until there's an answer, with a deadline.
    pub async fn until<T, F: Future<Output = Option<T>>>(&self, mut ask: impl FnMut() -> F) -> T {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(found) = ask().await {
                return found;
            }
            assert!(Instant::now() < deadline, "it never came about");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn answer(response: reqwest::Response) -> (u16, Value) {
    assert_eq!(response.headers()["server"], "simulated Databricks (not the real one)");
    let status = response.status().as_u16();
    let body = response.bytes().await.expect("a body");
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

/// All LZ4 frames of a body, and how many there were.
pub fn decompressed(body: &[u8]) -> (Vec<u8>, usize) {
    use std::io::Read;
    let (mut rest, mut plain, mut frames) = (body, Vec::new(), 0);
    while !rest.is_empty() {
        lz4_flex::frame::FrameDecoder::new(&mut rest).read_to_end(&mut plain).expect("a frame");
        frames += 1;
    }
    (plain, frames)
}

pub fn arrow_rows(body: &[u8]) -> Vec<RecordBatch> {
    StreamReader::try_new(body, None).expect("a stream").collect::<Result<_, _>>().expect("batches")
}

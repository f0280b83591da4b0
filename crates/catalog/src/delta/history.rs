//! The commits of a log, from their `commitInfo`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::time::UNIX_EPOCH;

use delta_kernel::{Error as KernelError, StorageHandler};
use flightpath_types::{Error, Result};
use serde_json::{Map, Value};
use url::Url;

use crate::{CommitInfo, TableName, errors};

/// A commit's info stands in its first lines; a longer search isn't worth the reading.
const BYTES_SEARCHED_MAX: u64 = 16 << 20;

pub(super) fn read(name: &TableName, log: &Path, limit: usize) -> Result<Vec<CommitInfo>> {
    let unreadable = |e: std::io::Error| errors::io("can't read the log folder", log, &e);
    let mut versions = Vec::new();
    for entry in std::fs::read_dir(log).map_err(unreadable)? {
        let file_name = entry.map_err(unreadable)?.file_name();
        versions.extend(file_name.to_str().and_then(commit_version));
    }
    versions.sort_unstable_by(|a, b| b.cmp(a));
    versions.truncate(limit);
    versions.into_iter().map(|version| commit(name, log, version)).collect()
}

/// The same from a storage service; `log`: the folder's URL.
pub(super) fn read_remote(
    name: &TableName,
    storage: &dyn StorageHandler,
    log: &Url,
    limit: usize,
    failed: impl Fn(&KernelError) -> Error,
) -> Result<Vec<CommitInfo>> {
    let mut commits = Vec::new();
    for file in storage.list_from(log).map_err(|e| failed(&e))? {
        let file = file.map_err(|e| failed(&e))?;
        let version = file.location.path().strip_prefix(log.path()).and_then(commit_version);
        commits.extend(version.map(|version| (version, file)));
    }
    commits.sort_unstable_by(|(a, _), (b, _)| b.cmp(a));
    commits.truncate(limit);
    let mut found = Vec::with_capacity(commits.len());
    for (version, file) in commits {
        let searched = 0..file.size.min(BYTES_SEARCHED_MAX);
        let text = storage.read_files(vec![(file.location, Some(searched))]).and_then(|mut read| read.next().transpose());
        let text = text.map_err(|e| failed(&e))?.unwrap_or_default();
        found.push(info(name, version, text.as_ref(), Some(file.last_modified))?);
    }
    Ok(found)
}

fn commit_version(file_name: &str) -> Option<u64> {
    let stem = file_name.strip_suffix(".json")?;
    (stem.len() == 20 && stem.bytes().all(|b| b.is_ascii_digit())).then(|| stem.parse().ok()).flatten()
}

fn commit(name: &TableName, log: &Path, version: u64) -> Result<CommitInfo> {
    let path = log.join(format!("{version:020}.json"));
    let unreadable = |e: std::io::Error| errors::io("can't read the commit", &path, &e);
    let file = File::open(&path).map_err(unreadable)?;
    let modified = file.metadata().and_then(|m| m.modified()).ok();
    let modified_ms = modified.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).and_then(|d| i64::try_from(d.as_millis()).ok());
    info(name, version, BufReader::new(file.take(BYTES_SEARCHED_MAX)), modified_ms)
}

fn info(name: &TableName, version: u64, commit: impl BufRead, modified_ms: Option<i64>) -> Result<CommitInfo> {
    let mut info = Map::new();
    for line in commit.lines() {
        let line =
            line.map_err(|e| errors::data_loss(name, format!("commit {version} of its log isn't text: {e}"), errors::RESTORE_LOG))?;
        if !line.contains("\"commitInfo\"") {
            continue;
        }
        let action: Value = serde_json::from_str(&line)
            .map_err(|e| errors::data_loss(name, format!("commit {version} of its log is malformed: {e}"), errors::RESTORE_LOG))?;
        if let Some(Value::Object(found)) = action.get("commitInfo") {
            info = found.clone();
            break;
        }
    }
    let text = |key: &str| info.get(key).and_then(Value::as_str).map(str::to_string);
    Ok(CommitInfo {
        version,
        // The instant that time travel goes by.
        timestamp_unix_ms: info.get("inCommitTimestamp").and_then(Value::as_i64).or(modified_ms),
        user_id: text("userId"),
        user_name: text("userName"),
        operation: text("operation"),
        operation_parameters: pairs(info.get("operationParameters")),
        operation_metrics: pairs(info.get("operationMetrics")),
        is_blind_append: info.get("isBlindAppend").and_then(Value::as_bool),
        engine_info: text("engineInfo"),
    })
}

fn pairs(value: Option<&Value>) -> BTreeMap<String, String> {
    let Some(Value::Object(map)) = value else { return BTreeMap::new() };
    let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_string);
    map.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), text(v))).collect()
}

//! DuckDB instances: one shared by all compiled SQL, and private ones for users' texts, opened ahead
//! of time, confined to their ticket's files and thrown away.
//!
//! An instance that a query has invalidated is never used again: the next query gets a new one,
//! while those that run on the old one end with an error.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use flightpath_types::{Error, Result};
use parking_lot::Mutex;

use crate::Config;
use crate::checks::Checks;
use crate::duck::{Connection, Database, DuckError};
use crate::memory::{MemoryWatch, Watched};
use crate::type_text::quote_text;

pub struct Instance {
    database: Arc<Database>,
    dead: AtomicBool,
    /// DuckDB removes what it made in here; the folder itself goes with the instance.
    temp: PathBuf,
}

impl Instance {
    pub fn connect(&self) -> std::result::Result<Connection, DuckError> {
        self.database.connect()
    }

    /// When DuckDB last began or ended a file that it spills to; `None` while it has one, or where that can't be
    /// told. The same before and after: nothing was spilled between.
    pub fn last_spilled(&self) -> Option<SystemTime> {
        let spills = std::fs::read_dir(&self.temp).ok()?.next().is_some();
        let changed = std::fs::metadata(&self.temp).ok()?.modified().ok()?;
        (!spills).then_some(changed)
    }

    /// Takes the instance out of use; true for the first who says so.
    pub fn invalidate(&self) -> bool {
        !self.dead.swap(true, Ordering::AcqRel)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // What is left goes with the worker's own folder.
        let _ = std::fs::remove_dir_all(&self.temp);
    }
}

pub struct Instances {
    config: Config,
    shared: Mutex<Arc<Instance>>,
    spare: Mutex<Option<Arc<Instance>>>,
    opened: AtomicU64,
    recycled: AtomicU64,
    memory: MemoryWatch,
    checks: Checks,
}

impl Instances {
    pub fn open(config: &Config) -> Result<Self> {
        let opened = AtomicU64::new(0);
        let shared = Arc::new(open_shared(config, &opened)?);
        Ok(Self {
            config: config.clone(),
            shared: Mutex::new(shared),
            spare: Mutex::new(None),
            opened,
            recycled: AtomicU64::new(0),
            memory: MemoryWatch::start(),
            checks: Checks::default(),
        })
    }

    /// The instance for compiled SQL. It can open any file, so what runs on it must have been
    /// checked to name nothing but its bindings.
    pub fn shared(&self) -> Result<Arc<Instance>> {
        let mut shared = self.shared.lock();
        if shared.dead.load(Ordering::Acquire) {
            *shared = Arc::new(open_shared(&self.config, &self.opened)?);
            self.recycled.fetch_add(1, Ordering::Relaxed);
            tracing::warn!("a DuckDB instance was invalidated by a query and replaced");
        }
        Ok(shared.clone())
    }

    /// A fresh instance for one user's text; still open until [`confine`] is called.
    pub fn private(&self) -> Result<Arc<Instance>> {
        match self.spare.lock().take() {
            Some(instance) => Ok(instance),
            None => self.open_private(),
        }
    }

    /// Opens the next private instance ahead of time, if there is none.
    pub fn refill(&self) {
        if self.config.user_slots == 0 || self.spare.lock().is_some() {
            return;
        }
        match self.open_private() {
            Ok(instance) => *self.spare.lock() = Some(instance),
            // Not needed yet; who needs one tries again and tells the client.
            Err(error) => tracing::warn!(%error, "no spare DuckDB instance could be opened"),
        }
    }

    /// Watches a query's memory until what is returned is dropped.
    pub fn watch(&self, instance: &Arc<Instance>) -> Watched {
        self.memory.enter(instance)
    }

    /// Texts that were checked lately.
    pub fn checks(&self) -> &Checks {
        &self.checks
    }

    pub fn recycled(&self) -> u64 {
        self.recycled.load(Ordering::Relaxed)
    }

    fn open_private(&self) -> Result<Arc<Instance>> {
        let share = u64::from(self.config.user_slots.max(1));
        let limits = Limits {
            memory_bytes: self.config.user_memory_bytes_max(),
            temp_bytes: self.config.temp_bytes_max / 4 / share,
            threads: self.config.threads,
        };
        open(&self.config.temp_dir, &self.opened, &limits).map(Arc::new)
    }
}

fn open_shared(config: &Config, opened: &AtomicU64) -> Result<Instance> {
    let limits =
        Limits { memory_bytes: config.shared_memory_bytes_max(), temp_bytes: config.temp_bytes_max / 4 * 3, threads: config.threads };
    let instance = open(&config.temp_dir, opened, &limits)?;
    let connection = instance.connect().map_err(|e| cannot_open(&e))?;
    // Databricks promises no order without ORDER BY. To keep one, DuckDB would hold results back, and
    // for a LIMIT read its table a second time.
    connection.execute("SET GLOBAL preserve_insertion_order = false; SET GLOBAL lock_configuration = true").map_err(|e| cannot_open(&e))?;
    Ok(instance)
}

struct Limits {
    memory_bytes: u64,
    temp_bytes: u64,
    threads: u32,
}

fn open(temp_dir: &Path, opened: &AtomicU64, limits: &Limits) -> Result<Instance> {
    let number = opened.fetch_add(1, Ordering::Relaxed);
    let temp = temp_dir.join(format!("instance-{number}"));
    std::fs::create_dir_all(&temp)
        .map_err(|e| Error::unavailable(format!("the worker can't make its temp folder {}: {e}", temp.display())))?;
    let no = || "false".to_string();
    let settings = [
        ("autoinstall_known_extensions", no()),
        ("autoload_known_extensions", no()),
        ("allow_community_extensions", no()),
        ("allow_persistent_secrets", no()),
        ("memory_limit", format!("{}B", limits.memory_bytes)),
        ("threads", limits.threads.to_string()),
        ("temp_directory", temp.display().to_string()),
        ("max_temp_directory_size", format!("{}B", limits.temp_bytes)),
        // So that an error's type is known also where the C API gives its text alone.
        ("errors_as_json", "true".to_string()),
    ];
    let database = Database::open(&settings).map_err(|e| cannot_open(&e))?;
    let instance = Instance { database, dead: AtomicBool::new(false), temp };
    let connection = instance.connect().map_err(|e| cannot_open(&e))?;
    // Settings of extensions, known only once the instance is open.
    connection.execute("SET GLOBAL TimeZone = 'UTC'; SET GLOBAL parquet_metadata_cache = true").map_err(|e| cannot_open(&e))?;
    drop(connection);
    Ok(instance)
}

fn cannot_open(error: &DuckError) -> Error {
    Error::unavailable(format!("the worker can't open a DuckDB database: {}", error.message))
}

/// Confines the connection's whole instance to `paths`, for good: no other file can be read,
/// nothing written, no extension loaded, no setting changed.
pub fn confine<'a>(connection: &Connection, paths: impl Iterator<Item = &'a str>) -> std::result::Result<(), DuckError> {
    let paths: Vec<String> = paths.map(quote_text).collect();
    connection.execute(&format!(
        "SET GLOBAL allowed_paths = [{}]; SET GLOBAL enable_external_access = false; SET GLOBAL lock_configuration = true",
        paths.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Key;

    #[test]
    fn the_shared_instance_answers_on_many_connections() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::new(Key::new(vec![7; 32]).unwrap(), folder.path().into(), 1 << 30, 2);
        let instances = Instances::open(&config).unwrap();
        for sql in ["SELECT json_serialize_sql('SELECT 1')", "SELECT 1"] {
            let connection = instances.shared().unwrap().connect().unwrap();
            let prepared = connection.prepare_select(sql).unwrap();
            let mut rows = prepared.stream(prepared.schema().unwrap(), || false).unwrap();
            assert_eq!(rows.next_chunk().unwrap().unwrap().num_rows(), 1, "{sql}");
        }
    }

    #[test]
    fn an_invalidated_instance_is_replaced_once_and_its_queries_end_by_themselves() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::new(Key::new(vec![7; 32]).unwrap(), folder.path().into(), 1 << 30, 2);
        let instances = Instances::open(&config).unwrap();
        let old = instances.shared().unwrap();
        assert!(old.invalidate());
        assert!(!old.invalidate(), "only the first query is to blame");
        let new = instances.shared().unwrap();
        assert!(!Arc::ptr_eq(&old, &new));
        assert!(Arc::ptr_eq(&new, &instances.shared().unwrap()));
        assert_eq!(instances.recycled(), 1);
        assert!(old.connect().is_ok(), "what runs on the old one isn't pulled away");
        let temp = old.temp.clone();
        drop(old);
        assert!(!temp.exists());
    }
}

//! The folder where this installation keeps what outlives a query: the log, its spool, temporary
//! files. Several servers may share it: each takes a slot of its own, and what a server that is gone has
//! left in one is brought to the log's database by whoever runs. For this process's user alone, as far as
//! it is made here.

use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flightpath_querylog::{LogStore, Store, drain_left, holds_records};
use flightpath_types::{Error, ErrorKind, Result};
use sha2::{Digest, Sha256};
use tokio::time::MissedTickBehavior;

use crate::settings::Settings;

/// Servers that may share one state folder.
const SLOTS_MAX: u32 = 64;
/// In a slot: a digest of the address of the log's database. The address itself may hold a password.
const LOG_MARK: &str = "log";
/// How often slots are looked at that nobody uses.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// A slot of the state folder, locked for as long as this lives. What an earlier holder left in
/// its spool is taken over.
pub(crate) struct StateDir {
    root: PathBuf,
    slot: PathBuf,
    _lock: File,
}

impl StateDir {
    pub fn open(root: &Path) -> Result<Self> {
        for number in 0..SLOTS_MAX {
            let slot = slot(root, number);
            make_private(&slot).map_err(|e| unusable(&slot, &e))?;
            let lock = match lock(&slot) {
                Ok(Some(lock)) => lock,
                Ok(None) => continue,
                // Another user's.
                Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied && number + 1 < SLOTS_MAX => continue,
                Err(e) => return Err(unusable(&slot, &e)),
            };
            let state = Self { root: root.to_path_buf(), slot, _lock: lock };
            state.clear_temporary().map_err(|e| unusable(&state.temporary(), &e))?;
            return Ok(state);
        }
        Err(unusable(root, &format!("{SLOTS_MAX} servers use it already")))
    }

    /// Notes to which database this slot's records go: they aren't brought to another one.
    pub fn note_log(&self, url: &str) -> Result<()> {
        let path = self.slot.join(LOG_MARK);
        let write = || File::options().create(true).truncate(true).write(true).mode(0o600).open(&path)?.write_all(mark(url).as_bytes());
        write().map_err(|e| unusable(&path, &e))
    }

    /// The log's default database, shared by all servers of this folder.
    pub fn log_file(&self) -> PathBuf {
        log_file(&self.root)
    }

    pub fn spool(&self) -> PathBuf {
        spool(&self.slot)
    }

    /// Empty at start.
    pub fn temporary(&self) -> PathBuf {
        self.slot.join("tmp")
    }

    fn clear_temporary(&self) -> std::io::Result<()> {
        let temporary = self.temporary();
        match fs::remove_dir_all(&temporary) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        DirBuilder::new().recursive(true).mode(0o700).create(temporary)
    }
}

fn unusable(path: &Path, why: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Unavailable, format!("can't use {}: {why}; set `state_dir` to a folder that can be written", path.display()))
}

fn slot(root: &Path, number: u32) -> PathBuf {
    root.join(format!("server-{number}"))
}

fn spool(slot: &Path) -> PathBuf {
    slot.join("spool")
}

fn mark(url: &str) -> String {
    hex::encode(Sha256::digest(url))
}

/// Makes a slot's folder, or closes the one that is there to all but its group: the spool holds the texts of
/// statements.
fn make_private(slot: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(slot)?;
    let mode = fs::metadata(slot)?.permissions().mode();
    if mode & 0o007 != 0 && fs::set_permissions(slot, Permissions::from_mode(mode & 0o770)).is_err() {
        // Somebody else's: whoever made it so may have meant it.
        tracing::warn!(path = %slot.display(), "other users of this machine may read the query log's spool: chmod o=");
    }
    Ok(())
}

/// `None` while somebody uses the slot, this process perhaps.
fn lock(slot: &Path) -> std::io::Result<Option<File>> {
    let lock = File::options().create(true).truncate(false).write(true).mode(0o600).open(slot.join("lock"))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

/// Brings to the log's database, at `url`, what is left for it in slots that nobody uses: it may be long before
/// another server takes such a slot again. At once and then now and then, until it's dropped.
pub(crate) async fn keep_slots_drained(root: PathBuf, url: String, store: Arc<dyn Store>) {
    let mut interval = tokio::time::interval(LOOK_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        interval.tick().await;
        match drain_slots(&root, &url, store.as_ref()).await {
            Ok(_) => failing = false,
            // An outage is one line, however long it lasts.
            Err(error) if !failing => {
                failing = true;
                tracing::warn!(%error, "records that another server left in its spool can't be brought to the query log; tried again later");
            }
            Err(error) => tracing::debug!(%error, "records that another server left wait in its spool"),
        }
    }
}

/// The number of records that were stored; the last failure where a slot couldn't be emptied.
async fn drain_slots(root: &Path, url: &str, store: &dyn LogStore) -> Result<u64> {
    let (mut stored, mut failed) = (0, None);
    let mark = mark(url);
    let same_log = |slot: &PathBuf| fs::read_to_string(slot.join(LOG_MARK)).is_ok_and(|noted| noted == mark);
    for slot in (0..SLOTS_MAX).map(|number| slot(root, number)).filter(same_log) {
        match drain_slot(&slot, store).await {
            Ok(records) => stored += records,
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or(Ok(stored), Err)
}

async fn drain_slot(slot: &Path, store: &dyn LogStore) -> Result<u64> {
    let spool = spool(slot);
    if !holds_records(&spool) {
        return Ok(0);
    }
    // Held until the spool is empty or the database fails: a server that starts meanwhile takes another slot.
    let Some(_lock) = lock(slot).map_err(|e| unusable(slot, &e))? else { return Ok(0) };
    let records = drain_left(store, &spool).await?;
    tracing::info!(records, spool = %spool.display(), "records that another server had left were brought to the query log");
    Ok(records)
}

/// The log's default database in a state folder.
pub(crate) fn log_file(root: &Path) -> PathBuf {
    root.join("log.sqlite")
}

/// The file that the settings' log is in; `None` where it is in a database elsewhere.
pub(crate) fn log_file_of(settings: &Settings) -> Option<PathBuf> {
    let Some(url) = &settings.log_url else { return Some(log_file(&settings.state_dir)) };
    let path = url.strip_prefix("sqlite://").unwrap_or(url);
    (!path.contains("://")).then(|| PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use flightpath_querylog::{Recorder, RecorderConfig};

    use super::*;
    use crate::lazy_log::LazyLog;
    use crate::reconcile::tests::record;

    /// As a server leaves it that ends while its database is down.
    async fn leave(state: &StateDir, records: usize) {
        // Nothing opens below a file.
        let down = Arc::new(LazyLog::new(state.slot.join("lock").join("log.sqlite").display().to_string()));
        let recorder = Recorder::start(down, RecorderConfig::new(state.spool())).unwrap();
        for number in 0..records {
            recorder.record(&record(number as i64));
        }
        assert!(!recorder.shutdown(Duration::ZERO).await);
        state.note_log("the log").unwrap();
    }

    #[tokio::test]
    async fn what_was_left_in_a_slot_that_nobody_uses_reaches_the_database_once() {
        let dir = tempfile::tempdir().unwrap();
        let own = StateDir::open(dir.path()).unwrap();
        let other = StateDir::open(dir.path()).unwrap();
        leave(&own, 1).await;
        leave(&other, 3).await;
        let down = LazyLog::new(other.slot.join("lock").join("log.sqlite").display().to_string());
        let store = flightpath_log_store::open(own.log_file().to_str().unwrap()).await.unwrap();
        // In use, both of them.
        assert_eq!(drain_slots(dir.path(), "the log", store.as_ref()).await.unwrap(), 0);
        let slot = other.slot.clone();
        drop(other);
        assert_eq!(drain_slots(dir.path(), "another log", store.as_ref()).await.unwrap(), 0);
        assert!(drain_slots(dir.path(), "the log", &down).await.is_err());
        assert!(holds_records(&spool(&slot)));
        assert_eq!(drain_slots(dir.path(), "the log", store.as_ref()).await.unwrap(), 3);
        assert_eq!(drain_slots(dir.path(), "the log", store.as_ref()).await.unwrap(), 0);
        assert_eq!(store.queries(None, 10).await.unwrap().len(), 3);
        // Nobody holds it any longer.
        assert_eq!(StateDir::open(dir.path()).unwrap().slot, slot);
    }

    #[test]
    fn slots_are_closed_to_others_and_the_folder_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        // Of an earlier version.
        let slot = slot(dir.path(), 0);
        fs::create_dir(&slot).unwrap();
        for folder in [dir.path(), slot.as_path()] {
            fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
        }
        let state = StateDir::open(dir.path()).unwrap();
        assert_eq!((state.slot.as_path(), mode(dir.path()), mode(&slot)), (slot.as_path(), 0o755, 0o750));
        let made = StateDir::open(&dir.path().join("made")).unwrap();
        for path in [made.root.clone(), made.slot.clone(), made.temporary(), made.slot.join("lock")] {
            assert_eq!(mode(&path) & 0o077, 0, "{}", path.display());
        }
    }

    #[test]
    fn two_servers_share_a_folder_and_a_dead_ones_slot_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateDir::open(dir.path()).unwrap();
        let second = StateDir::open(dir.path()).unwrap();
        assert_ne!(first.spool(), second.spool());
        assert_eq!(first.log_file(), second.log_file());
        let slot = first.spool();
        fs::write(first.temporary().join("left"), "x").unwrap();
        drop(first);
        let third = StateDir::open(dir.path()).unwrap();
        assert_eq!(third.spool(), slot);
        assert!(!third.temporary().join("left").exists());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_explained() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let error = StateDir::open(&file).err().unwrap();
        assert!(error.to_string().contains("state_dir"), "{error}");
    }
}

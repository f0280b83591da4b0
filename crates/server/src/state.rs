//! The folder where this installation keeps what outlives a query: the log, its spool, temporary
//! files. Several servers may share it: each takes a slot of its own.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use flightpath_types::{Error, ErrorKind, Result};

/// Servers that may share one state folder.
const SLOTS_MAX: u32 = 64;

/// A slot of the state folder, locked for as long as this lives. What an earlier holder left in
/// its spool is taken over.
pub(crate) struct StateDir {
    root: PathBuf,
    slot: PathBuf,
    _lock: File,
}

impl StateDir {
    pub fn open(root: &Path) -> Result<Self> {
        let failed = |path: &Path, e: &dyn std::fmt::Display| {
            Error::new(
                ErrorKind::Unavailable,
                format!("can't use {}: {e}; set `state_dir` to a folder that can be written", path.display()),
            )
        };
        for number in 0..SLOTS_MAX {
            let slot = root.join(format!("server-{number}"));
            fs::create_dir_all(&slot).map_err(|e| failed(&slot, &e))?;
            let path = slot.join("lock");
            let lock = File::options().create(true).truncate(false).write(true).open(&path).map_err(|e| failed(&path, &e))?;
            match lock.try_lock() {
                Ok(()) => {
                    let state = Self { root: root.to_path_buf(), slot, _lock: lock };
                    state.clear_temporary().map_err(|e| failed(&state.temporary(), &e))?;
                    return Ok(state);
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(e)) => return Err(failed(&path, &e)),
            }
        }
        Err(failed(root, &format!("{SLOTS_MAX} servers use it already")))
    }

    /// The log's default database, shared by all servers of this folder.
    pub fn log_file(&self) -> PathBuf {
        log_file(&self.root)
    }

    pub fn spool(&self) -> PathBuf {
        self.slot.join("spool")
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
        fs::create_dir_all(temporary)
    }
}

/// The log's default database in a state folder.
pub(crate) fn log_file(root: &Path) -> PathBuf {
    root.join("log.sqlite")
}

#[cfg(test)]
mod tests {
    use super::*;

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

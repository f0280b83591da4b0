//! The folder that tables are written to. Tables grow in a hidden folder beside their place and
//! are renamed into it when whole, so a reader never sees half of one.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flightpath_types::{Error, ErrorKind, Result};

const STAGED: &str = ".populating-";
const REPLACED: &str = ".replaced-";
const LOCK: &str = ".populate.lock";

pub(crate) struct Folder {
    out: PathBuf,
    /// Held until the folder and the last writer are gone; the system lets go of it when the process dies.
    lock: Arc<File>,
}

/// Where a table grows. While a clone of `lock` lives, no other run touches it.
pub(crate) struct Staged {
    pub path: PathBuf,
    pub lock: Arc<File>,
}

impl Folder {
    /// Takes the folder for itself, tidies up after an interrupted run, and checks that no table
    /// would be replaced without `force`.
    pub fn open(out: &Path, tables: &[&str], force: bool) -> Result<Self> {
        fs::create_dir_all(out).map_err(|e| failed("can't make the folder", out, &e))?;
        let lock_path = out.join(LOCK);
        let lock =
            File::options().create(true).truncate(false).write(true).open(&lock_path).map_err(|e| failed("can't write to", out, &e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::new(
                    ErrorKind::ResourceExhausted,
                    format!("another populate is writing to `{}`; wait until it's done", out.display()),
                ));
            }
            Err(TryLockError::Error(e)) => return Err(failed("can't lock", &lock_path, &e)),
        }
        let folder = Self { out: out.canonicalize().map_err(|e| failed("can't find", out, &e))?, lock: Arc::new(lock) };
        for table in tables {
            folder.tidy(table)?;
        }
        let present: Vec<&str> = tables.iter().copied().filter(|t| folder.place(t).symlink_metadata().is_ok()).collect();
        if !present.is_empty() && !force {
            let message = format!(
                "`{}` already holds {}; pass --force to replace what's there, or choose another folder with --out",
                out.display(),
                present.join(", ")
            );
            return Err(Error::invalid(message));
        }
        for table in present {
            let place = folder.place(table);
            if !place.join("_delta_log").is_dir() {
                return Err(Error::invalid(format!("`{}` isn't a Delta table, so it isn't replaced; move it away first", place.display())));
            }
        }
        Ok(folder)
    }

    /// An empty hidden folder for a table.
    pub fn stage(&self, table: &str) -> Result<Staged> {
        let path = self.hidden(STAGED, table);
        fs::create_dir(&path).map_err(|e| failed("can't make the folder", &path, &e))?;
        Ok(Staged { path, lock: self.lock.clone() })
    }

    /// Makes the staged table the table.
    pub fn publish(&self, table: &str, force: bool) -> Result<()> {
        let (staged, place, replaced) = (self.hidden(STAGED, table), self.place(table), self.hidden(REPLACED, table));
        let old = place.symlink_metadata().is_ok();
        if old && !force {
            return Err(Error::invalid(format!("`{}` appeared while its table was written; pass --force to replace it", place.display())));
        }
        if old {
            fs::rename(&place, &replaced).map_err(|e| failed("can't move away", &place, &e))?;
        }
        fs::rename(&staged, &place).map_err(|e| failed("can't put in place", &place, &e))?;
        if old {
            remove(&replaced)?;
        }
        Ok(())
    }

    /// Undoes or ends what an interrupted run left.
    fn tidy(&self, table: &str) -> Result<()> {
        remove(&self.hidden(STAGED, table))?;
        let (place, replaced) = (self.place(table), self.hidden(REPLACED, table));
        if replaced.symlink_metadata().is_ok() && place.symlink_metadata().is_err() {
            // Interrupted between the two renames: the old table is the only whole one.
            return fs::rename(&replaced, &place).map_err(|e| failed("can't put back", &place, &e));
        }
        remove(&replaced)
    }

    fn place(&self, table: &str) -> PathBuf {
        self.out.join(table)
    }

    fn hidden(&self, prefix: &str, table: &str) -> PathBuf {
        self.out.join(format!("{prefix}{table}"))
    }
}

fn remove(path: &Path) -> Result<()> {
    let removed = match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        // A link: what it points to isn't ours.
        Ok(_) => fs::remove_file(path),
        Err(_) => return Ok(()),
    };
    match removed {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("can't remove", path, &e)),
        _ => Ok(()),
    }
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::PermissionDenied,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::ResourceExhausted,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, format!("{what} `{}`: {error}", path.display()))
}

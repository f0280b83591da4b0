//! Result chunks on disk, so that a result of any size takes no memory. Readable by this process's
//! user alone, removed with the simulation.

use std::path::{Path, PathBuf};

use flightpath_types::{Error, Result};
use uuid::Uuid;

pub(crate) struct Spool {
    dir: PathBuf,
}

/// A stored chunk; its file goes with the last reference.
#[derive(Debug)]
pub(crate) struct Stored {
    path: PathBuf,
    pub bytes: u64,
}

impl Spool {
    pub fn create() -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let dir = std::env::temp_dir().join(format!("flightpath-simulation-{}", Uuid::new_v4().simple()));
        let made = std::fs::DirBuilder::new().mode(0o700).create(&dir);
        made.map_err(|e| Error::unavailable(format!("the folder for results, {}, can't be made: {e}", dir.display())))?;
        Ok(Self { dir })
    }

    pub async fn store(&self, bytes: Vec<u8>) -> Result<Stored> {
        let path = self.dir.join(Uuid::new_v4().simple().to_string());
        let length = bytes.len() as u64;
        let written = tokio::fs::write(&path, bytes).await;
        let stored = Stored { path, bytes: length };
        written.map_err(|e| Error::unavailable(format!("a result chunk can't be written: {e}")))?;
        Ok(stored)
    }
}

impl Stored {
    pub async fn read(&self) -> Result<Vec<u8>> {
        tokio::fs::read(&self.path).await.map_err(|e| Error::unavailable(format!("a result chunk can't be read: {e}")))
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        remove(std::fs::remove_file(&self.path), &self.path);
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        remove(std::fs::remove_dir_all(&self.dir), &self.dir);
    }
}

fn remove(result: std::io::Result<()>, path: &Path) {
    match result {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::debug!(%error, path = %path.display(), "a temporary file stays behind");
        }
        _ => {}
    }
}

//! Whether an engine's failure to read was the files' fault: compares files on disk with what the
//! snapshot says, so that nobody has to guess from an engine's words.

use std::sync::Arc;

use flightpath_types::{Error, ErrorKind};

use crate::{DataFile, TableSnapshot, errors};

impl TableSnapshot {
    /// The first of `files` that is missing, changed in size or unreadable, as an error for the
    /// client; `None` when all are as the snapshot says. One `stat` and open per local file.
    pub fn damaged_file(&self, files: &[Arc<DataFile>]) -> Option<Error> {
        files.iter().find_map(|file| self.damage(file))
    }

    fn damage(&self, file: &DataFile) -> Option<Error> {
        if file.path.contains("://") {
            return None;
        }
        let loss = |what: String| errors::data_loss(&self.name, what, errors::RESTORE_FILE);
        let opened = std::fs::File::open(&file.path).and_then(|f| f.metadata());
        match opened {
            Ok(metadata) if metadata.len() == file.size_bytes => None,
            Ok(metadata) => {
                Some(loss(format!("its file `{}` has {} bytes, but should have {}", file.path, metadata.len(), file.size_bytes)))
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                Some(loss(format!("its file `{}` is missing (removed by VACUUM, or by hand)", file.path)))
            }
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
                let message = format!(
                    "table {}: no permission to read its file `{}`; give it to the user that runs flightpath",
                    self.name, file.path
                );
                Some(Error::new(ErrorKind::PermissionDenied, message))
            }
            Err(e) => Some(loss(format!("its file `{}` can't be opened: {e}", file.path))),
        }
    }
}

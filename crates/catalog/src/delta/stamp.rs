//! Whether a log in a local folder may have grown or been replaced, by a few `stat` calls.

use std::path::Path;

/// What a log folder looked like when it was read; unequal when anything may have been committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogStamp {
    log_folder: FileStamp,
    last_commit: Option<FileStamp>,
    next_commit: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct FileStamp {
    device: u64,
    inode: u64,
    modified_ns: i128,
    size: u64,
}

impl LogStamp {
    /// Three `stat` calls.
    pub fn take(root: &Path, version: u64) -> Option<Self> {
        let log = root.join("_delta_log");
        let commit = |version: u64| log.join(format!("{version:020}.json"));
        Some(Self {
            log_folder: FileStamp::take(&log)?,
            last_commit: FileStamp::take(&commit(version)),
            next_commit: FileStamp::take(&commit(version.saturating_add(1))).is_some(),
        })
    }

    /// Whether the log was replaced rather than added to.
    pub fn replaced(&self, newer: &Self) -> bool {
        (self.log_folder.device, self.log_folder.inode) != (newer.log_folder.device, newer.log_folder.inode)
            || self.last_commit != newer.last_commit
    }

    /// Whether a commit after the version it was taken for exists.
    pub fn has_next(&self) -> bool {
        self.next_commit
    }
}

impl FileStamp {
    fn take(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            modified_ns: i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec()),
            size: metadata.len(),
        })
    }
}

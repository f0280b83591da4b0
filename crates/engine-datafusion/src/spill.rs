//! Temporary files, bounded over all queries. DataFusion's own bound fails with an error that can
//! be told from a broken disk by its text only; this one fails with a typed error.

use std::io::{self, Write};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use datafusion::error::Result as DfResult;
use datafusion::execution::disk_manager::{DiskManager, DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::{SpillFile, SpillWriter, TempFileFactory};
use flightpath_types::{Error, ErrorKind};
use futures::Stream;

/// Bytes of temporary files that exist now, against their limit.
#[derive(Debug)]
pub(crate) struct TempSpace {
    limit_bytes: u64,
    used_bytes: AtomicU64,
}

impl TempSpace {
    pub(crate) fn new(limit_bytes: u64) -> Arc<Self> {
        Arc::new(Self { limit_bytes, used_bytes: AtomicU64::new(0) })
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: u64) -> io::Result<()> {
        let taken = self
            .used_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| used.checked_add(bytes).filter(|sum| *sum <= self.limit_bytes));
        match taken {
            Ok(_) => Ok(()),
            Err(_) => Err(io::Error::other(Error::classed(
                ErrorKind::ResourceExhausted,
                "NO_TEMPORARY_SPACE",
                "53100",
                format!("the queries' temporary files would exceed {} bytes on engine datafusion", self.limit_bytes),
            ))),
        }
    }

    fn give_back(&self, bytes: u64) {
        self.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Makes the temporary files, in folders that go away with it.
pub(crate) struct TempFiles {
    files: Arc<DiskManager>,
    space: Arc<TempSpace>,
}

impl TempFiles {
    pub(crate) fn new(mode: DiskManagerMode, space: Arc<TempSpace>) -> DfResult<Self> {
        let files = DiskManagerBuilder::default().with_mode(mode).with_max_temp_directory_size(u64::MAX).build()?;
        Ok(Self { files: Arc::new(files), space })
    }
}

impl TempFileFactory for TempFiles {
    fn create_temp_file(&self, description: &str) -> DfResult<Arc<dyn SpillFile>> {
        let file = self.files.create_tmp_file(description)?;
        Ok(Arc::new(TempFile { file, taken: Arc::new(Taken { bytes: AtomicU64::new(0), space: self.space.clone() }) }))
    }
}

struct TempFile {
    file: Arc<dyn SpillFile>,
    taken: Arc<Taken>,
}

/// What one file takes of the space, until neither file nor writer is left.
struct Taken {
    bytes: AtomicU64,
    space: Arc<TempSpace>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.space.give_back(self.bytes.load(Ordering::Relaxed));
    }
}

impl SpillFile for TempFile {
    fn path(&self) -> Option<&Path> {
        self.file.path()
    }

    fn size(&self) -> Option<u64> {
        self.file.size()
    }

    fn read_stream(&self) -> DfResult<Pin<Box<dyn Stream<Item = DfResult<Bytes>> + Send>>> {
        self.file.read_stream()
    }

    fn open_writer(&self) -> DfResult<Box<dyn SpillWriter>> {
        Ok(Box::new(TempWriter { writer: self.file.open_writer()?, taken: self.taken.clone() }))
    }
}

struct TempWriter {
    writer: Box<dyn SpillWriter>,
    taken: Arc<Taken>,
}

impl Write for TempWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let bytes = buffer.len() as u64;
        self.taken.space.take(bytes)?;
        self.taken.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.writer.write_all(buffer)?;
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl SpillWriter for TempWriter {
    fn finish(&mut self) -> DfResult<()> {
        self.writer.finish()
    }
}

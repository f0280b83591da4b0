//! Reading the bytes of data files in cloud storage, through a store that was made for one scan of
//! one query and opens its table alone. It's registered nowhere.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use flightpath_catalog::{TableStore, store_error};
use flightpath_types::Result;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, OBJECT_STORE_COALESCE_DEFAULT, ObjectStore};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;

use crate::files::{Footers, TableFile};

/// One file in a store.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    store: Arc<dyn ObjectStore>,
    path: Path,
}

impl Object {
    /// Fails where the file lies outside of the table that `store` opens.
    pub(crate) fn new(store: &TableStore, file: &str) -> Result<Self> {
        Ok(Self { store: store.store().clone(), path: store.object(file)? })
    }
}

pub(crate) struct ObjectReader {
    spec: TableFile,
    object: Object,
    footers: Footers,
}

impl ObjectReader {
    pub(crate) fn new(spec: TableFile, object: Object, footers: Footers) -> Self {
        Self { spec, object, footers }
    }

    fn external(error: flightpath_types::Error) -> ParquetError {
        ParquetError::External(Box::new(error))
    }
}

/// Exactly these bytes of a file that is as long as the log says.
async fn read(spec: &TableFile, object: &Object, range: Range<u64>) -> Result<Bytes> {
    if range.end < range.start || range.end > spec.size_bytes {
        return Err(spec.data_loss("has a footer that points beyond its end"));
    }
    if range.is_empty() {
        return Ok(Bytes::new());
    }
    let failed = |e: object_store::Error| store_error(format_args!("data file {} of table {}", spec.name(), spec.table), &e);
    let length = range.end - range.start;
    let options = GetOptions { range: Some(GetRange::Bounded(range)), ..Default::default() };
    let answer = object.store.get_opts(&object.path, options).await.map_err(failed)?;
    if answer.meta.size != spec.size_bytes {
        return Err(spec.data_loss(format_args!(
            "is {} bytes long where the table's log says {}: it was truncated or replaced",
            answer.meta.size, spec.size_bytes
        )));
    }
    let bytes = answer.bytes().await.map_err(failed)?;
    spec.findings.read(bytes.len() as u64);
    match u64::try_from(bytes.len()) == Ok(length) {
        true => Ok(bytes),
        false => Err(spec.data_loss("ends too early: its storage sent less than was asked for")),
    }
}

impl AsyncFileReader for ObjectReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        async move { read(&self.spec, &self.object, range).await.map_err(Self::external) }.boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        async move {
            let (spec, object) = (&self.spec, &self.object);
            object_store::coalesce_ranges(&ranges, |range| read(spec, object, range), OBJECT_STORE_COALESCE_DEFAULT)
                .await
                .map_err(Self::external)
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        let (footers, spec) = (self.footers.clone(), self.spec.clone());
        async move { footers.load_object(&spec, self).await.map_err(Self::external) }.boxed()
    }
}

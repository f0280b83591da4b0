//! A store with all of it out of reach but one folder, and that for reading alone. What the
//! credentials allow doesn't matter here: they may well open more.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, Result,
};

#[derive(Debug)]
pub(super) struct Confined {
    pub inner: Arc<dyn ObjectStore>,
    pub root: Path,
}

impl Confined {
    fn admit(&self, path: &Path) -> Result<()> {
        match path.prefix_matches(&self.root) {
            true => Ok(()),
            false => Err(Error::PermissionDenied { path: path.to_string(), source: "outside of the table's folder".into() }),
        }
    }

    fn admit_prefix(&self, prefix: Option<&Path>) -> Result<()> {
        self.admit(prefix.unwrap_or(&Path::default()))
    }
}

fn read_only() -> Error {
    Error::NotSupported { source: "tables are read, never written".into() }
}

impl fmt::Display for Confined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.root, self.inner)
    }
}

#[async_trait]
impl ObjectStore for Confined {
    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        Err(read_only())
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(read_only())
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.admit(location)?;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, _: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        stream::iter([Err(read_only())]).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.admit_prefix(prefix) {
            Ok(()) => self.inner.list(prefix),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.admit_prefix(prefix) {
            Ok(()) => self.inner.list_with_offset(prefix, offset),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.admit_prefix(prefix)?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(read_only())
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;

    use super::*;

    #[tokio::test]
    async fn nothing_outside_of_the_folder_is_read_listed_or_written() {
        let inner = Arc::new(InMemory::new());
        for path in ["a/t/f", "a/t2/f", "g"] {
            inner.put(&Path::from(path), "x".into()).await.unwrap();
        }
        let store = Confined { inner, root: Path::from("a/t") };
        assert_eq!(store.get(&Path::from("a/t/f")).await.unwrap().bytes().await.unwrap(), "x");
        assert_eq!(store.list(Some(&Path::from("a/t"))).try_collect::<Vec<_>>().await.unwrap().len(), 1);
        for path in ["a/t2/f", "g", "a", "a/t/../t2/f"] {
            let path = Path::from(path);
            if !path.prefix_matches(&store.root) {
                assert!(matches!(store.get(&path).await, Err(Error::PermissionDenied { .. })), "{path}");
                assert!(store.get_range(&path, 0..1).await.is_err() && store.head(&path).await.is_err(), "{path}");
                assert!(store.list(Some(&path)).try_collect::<Vec<_>>().await.is_err(), "{path}");
                assert!(store.list_with_delimiter(Some(&path)).await.is_err(), "{path}");
            }
        }
        assert!(store.list(None).try_collect::<Vec<_>>().await.is_err());
        let own = Path::from("a/t/f");
        assert!(store.put(&own, "y".into()).await.is_err() && store.delete(&own).await.is_err());
        assert!(store.copy(&own, &Path::from("a/t/g")).await.is_err());
    }
}

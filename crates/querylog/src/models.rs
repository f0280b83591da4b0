//! Where what was learned is kept over restarts, and for every router that shares the database: named
//! blobs, replaced whole, by whoever has taken in what is there.

use async_trait::async_trait;
use flightpath_types::Result;

/// A model larger than this isn't kept.
pub const MODEL_BYTES_MAX: usize = 16 << 20;

/// A model as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptModel {
    pub contents: Vec<u8>,
    /// Another one after each save.
    pub revision: u64,
}

#[async_trait]
pub trait ModelStore: Send + Sync {
    /// What was last saved under this name.
    async fn load(&self, name: &str) -> Result<Option<KeptModel>>;

    /// The revision of what was last saved, without reading it.
    async fn revision(&self, name: &str) -> Result<Option<u64>>;

    /// Replaces what is there if that's still of the revision `replaces` (`None`: if nothing is). The new
    /// revision; `None` when somebody else was there first, and nothing was saved.
    /// `ResourceExhausted` beyond [`MODEL_BYTES_MAX`].
    async fn save(&self, name: &str, contents: &[u8], replaces: Option<u64>) -> Result<Option<u64>>;
}

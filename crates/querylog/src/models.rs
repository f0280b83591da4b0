//! Where what was learned is kept over restarts: named blobs, replaced whole.

use async_trait::async_trait;
use flightpath_types::Result;

/// A model larger than this isn't kept.
pub const MODEL_BYTES_MAX: usize = 16 << 20;

#[async_trait]
pub trait ModelStore: Send + Sync {
    /// What was last saved under this name.
    async fn load(&self, name: &str) -> Result<Option<Vec<u8>>>;

    /// Replaces what is there. Of two writers the later one stays. `ResourceExhausted` beyond
    /// [`MODEL_BYTES_MAX`].
    async fn save(&self, name: &str, bytes: &[u8]) -> Result<()>;
}

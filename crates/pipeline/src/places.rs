//! Where short names lead that came with a header, as `flightpath-schema`: checked like SET, but such a
//! header comes with every call, so that what was found lately is kept for a while.

use std::time::Duration;

use flightpath_planner::Planner;
use flightpath_types::{Principal, Result, Session};
use moka::sync::Cache;

const PLACES_MAX: u64 = 10_000;
const LIFETIME: Duration = Duration::from_secs(60);

/// Who asked, the catalog before, the setting and its value.
type Key = (Principal, String, String, String);

pub(crate) struct Places(Cache<Key, Vec<(String, String)>>);

impl Default for Places {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(PLACES_MAX).time_to_live(LIFETIME).build())
    }
}

impl Places {
    /// The settings that `name = value` stands for. Mistakes aren't kept: what is missing may be made.
    pub async fn resolve(&self, planner: &Planner, session: &Session, name: &str, value: &str) -> Result<Vec<(String, String)>> {
        let key = (session.principal.clone(), session.catalog.clone(), name.to_string(), value.to_string());
        if let Some(known) = self.0.get(&key) {
            return Ok(known);
        }
        let found = planner.setting(session, name, value).await?;
        self.0.insert(key, found.clone());
        Ok(found)
    }
}

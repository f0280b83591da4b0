//! Lists, page by page. A page may be empty and still name a next one; a list that doesn't end
//! within the limit is an error, never cut short.

use std::collections::HashSet;
use std::time::Instant;

use flightpath_types::{Error, ErrorKind, Principal, Result};
use serde_json::Value;

use crate::api::UnityApi;

/// What pages are asked of, and for how long.
pub(crate) struct Pager<'a> {
    pub api: &'a dyn UnityApi,
    pub principal: &'a Principal,
    pub pages_max: usize,
    pub deadline: Instant,
}

impl Pager<'_> {
    /// All entries of the list `field` under `path`.
    pub async fn all(&self, path: &str, query: &[(&str, String)], field: &str) -> Result<Vec<Value>> {
        let mut entries = Vec::new();
        let mut seen = HashSet::new();
        let mut token: Option<String> = None;
        for _ in 0..self.pages_max {
            let mut query = query.to_vec();
            query.extend(token.iter().map(|token| ("page_token", token.clone())));
            let mut page = self.api.get(self.principal, path, &query, self.deadline).await?;
            if let Some(Value::Array(list)) = page.get_mut(field).map(Value::take) {
                entries.extend(list);
            }
            match page.get("next_page_token").and_then(Value::as_str).filter(|token| !token.is_empty()) {
                None => return Ok(entries),
                // A token that comes again would go round for ever.
                Some(next) if !seen.insert(next.to_string()) => {
                    return Err(Error::new(ErrorKind::Unavailable, format!("Unity Catalog's list of {field} names the same page twice")));
                }
                Some(next) => token = Some(next.to_string()),
            }
        }
        let message = format!("Unity Catalog's list of {field} has more than {} pages", self.pages_max);
        Err(Error::new(ErrorKind::ResourceExhausted, message))
    }
}

/// The names of a list's entries, in their order.
pub(crate) fn names(entries: &[Value]) -> Vec<String> {
    entries.iter().filter_map(|entry| entry.get("name")?.as_str()).map(str::to_string).collect()
}

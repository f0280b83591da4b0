//! The links to a result's chunks: kept while they last, asked for anew when they run out. A link
//! is a credential; it is never shown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use flightpath_databricks::{Client, Identity, segment};
use flightpath_types::{Error, ErrorKind, Result};
use parking_lot::Mutex;

use crate::wire::{Link, Part, STATEMENTS};

/// Where a chunk's bytes are.
#[derive(Clone)]
pub(crate) enum Source {
    Inline(Bytes),
    Link(Link),
}

pub(crate) struct Links {
    client: Arc<Client>,
    who: Identity,
    statement_id: String,
    renew_before: Duration,
    known: Mutex<BTreeMap<u64, Source>>,
    /// One asks at a time: an answer often holds the links that others wait for.
    asking: tokio::sync::Mutex<()>,
}

impl Links {
    pub fn new(client: Arc<Client>, who: Identity, statement_id: String, renew_before: Duration) -> Self {
        Self { client, who, statement_id, renew_before, known: Mutex::default(), asking: tokio::sync::Mutex::default() }
    }

    /// Keeps what an answer holds of the result.
    pub fn learn(&self, part: Part) -> Result<()> {
        let mut known = self.known.lock();
        if let Some(attachment) = part.attachment {
            let body = BASE64.decode(attachment).map_err(|_| Error::unavailable("Databricks' answer holds a result that isn't base64"))?;
            known.insert(part.chunk_index.unwrap_or(0), Source::Inline(body.into()));
        }
        for link in part.external_links.unwrap_or_default() {
            known.insert(link.chunk_index, Source::Link(link));
        }
        Ok(())
    }

    /// The way to a chunk, known for a while longer. It is the caller's then: asking again gives a new one.
    pub async fn take(&self, index: u64) -> Result<Source> {
        if let Some(source) = self.take_fresh(index) {
            return Ok(source);
        }
        let _asking = self.asking.lock().await;
        if let Some(source) = self.take_fresh(index) {
            return Ok(source);
        }
        let path = format!("{STATEMENTS}/{}/result/chunks/{index}", segment(&self.statement_id));
        let part: Part = self.client.get(&self.who, &path, &[], None).await.map_err(|e| match e.kind() {
            // The result is there no longer; whose fault that is doesn't matter to the client.
            ErrorKind::NotFound | ErrorKind::InvalidArgument => Error::unavailable(e.message().to_string()),
            _ => e,
        })?;
        self.learn(part)?;
        // Just made: taken whatever its clock says.
        let source = self.known.lock().remove(&index);
        source.ok_or_else(|| Error::unavailable(format!("Databricks gave no link to chunk {index} of the result")))
    }

    fn take_fresh(&self, index: u64) -> Option<Source> {
        let source = self.known.lock().remove(&index)?;
        let fresh = match &source {
            Source::Inline(_) => true,
            Source::Link(link) => link.expiration.as_deref().and_then(expires).is_none_or(|at| at > Utc::now() + self.renew_before),
        };
        fresh.then_some(source)
    }
}

fn expires(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text).ok().map(|at| at.to_utc())
}

//! What is sent to a worker, signed with the key that only it and this process know.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use flightpath_engine::Execution;
use flightpath_plan::{CompiledSql, PlannedQuery};
use flightpath_proto::v1::{SignedTicket, SqlOrigin, TableBinding, WorkerTicket};
use flightpath_types::{Dialect, Error, Result, trace};
use hmac::{Hmac, KeyInit, Mac};
use prost::Message;
use sha2::Sha256;

use crate::binding;

const TICKET_VERSION: u32 = 1;
/// A ticket is used at once; the rest is for a worker whose queue is long.
pub const VALIDITY: Duration = Duration::from_secs(60);
pub const KEY_BYTES: usize = 32;

/// A worker's key.
#[derive(Clone)]
pub struct Signer(Hmac<Sha256>);

impl Signer {
    pub fn new(key: &[u8; KEY_BYTES]) -> Result<Self> {
        Hmac::new_from_slice(key).map(Self).map_err(|_| Error::internal("the worker's key can't be used"))
    }

    /// `body` signed for `purpose`, as it goes over the wire.
    pub fn sign(&self, purpose: &str, body: &impl Message) -> Vec<u8> {
        let body = body.encode_to_vec();
        let mut mac = self.0.clone();
        mac.update(purpose.as_bytes());
        mac.update(&[0]);
        mac.update(&body);
        SignedTicket { body, mac: mac.finalize().into_bytes().to_vec() }.encode_to_vec()
    }
}

pub fn expires_unix_ms() -> u64 {
    unix_ms() + VALIDITY.as_millis() as u64
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

/// The ticket for a planned query. Text in the `duckdb` dialect is the user's own.
pub fn of_query(query: &PlannedQuery, execution: &Execution) -> Result<WorkerTicket> {
    let compiled = query.duckdb.as_ref().map_err(|refusal| Error::not_eligible(&refusal.reason))?;
    let user = query.session.dialect == Dialect::Duckdb;
    let mut tables = Vec::with_capacity(compiled.scans.len());
    for id in &compiled.scans {
        let scan = query.scans.get(id).ok_or_else(|| Error::internal(format!("scan {} has no binding", id.0)))?;
        let mut table = binding::table(scan, format!("s{}", id.0)).map_err(|refusal| Error::not_eligible(refusal.reason))?;
        table.cache_key = scan.snapshot.name.to_string();
        if user {
            name_for_user(&mut table, scan);
        }
        tables.push(table);
    }
    let mut ticket = base(compiled.sql.clone(), tables);
    ticket.query_id = execution.query_id.to_string();
    ticket.principal = execution.principal.to_string();
    ticket.deadline_unix_ms = execution.deadline.map_or(0, deadline_unix_ms);
    let (traceparent, tracestate) = trace::parts(execution.traceparent.as_deref().unwrap_or_default());
    (ticket.traceparent, ticket.tracestate) = (traceparent.to_string(), tracestate.to_string());
    if user {
        make_user(&mut ticket, &query.session.catalog, &query.session.schema);
    }
    Ok(ticket)
}

/// The table of which a query reads most, by which it is placed; empty where it reads none.
pub fn largest_table(query: &PlannedQuery, compiled: &CompiledSql) -> String {
    let mut bytes: BTreeMap<String, u64> = BTreeMap::new();
    for scan in compiled.scans.iter().filter_map(|id| query.scans.get(id)) {
        *bytes.entry(scan.snapshot.name.to_string()).or_default() += scan.files.iter().map(|f| f.size_bytes).sum::<u64>();
    }
    bytes.into_iter().max_by_key(|(_, bytes)| *bytes).map(|(name, _)| name).unwrap_or_default()
}

/// A user's relation goes by its own name. A table that is named twice is bound once.
pub fn name_for_user(table: &mut TableBinding, scan: &flightpath_plan::ScanBinding) {
    let name = &scan.snapshot.name;
    table.name = name.table.to_string();
    table.schema = name.schema.to_string();
    table.catalog = name.catalog.to_string();
}

/// Marks the ticket's SQL as a user's.
pub fn make_user(ticket: &mut WorkerTicket, catalog: &str, schema: &str) {
    ticket.origin = SqlOrigin::User.into();
    ticket.default_catalog = catalog.to_string();
    ticket.default_schema = schema.to_string();
    let mut seen = std::collections::HashSet::new();
    ticket.tables.retain(|t| seen.insert((t.catalog.clone(), t.schema.clone(), t.name.clone())));
}

/// A ticket for compiled SQL without a deadline.
pub fn base(sql: String, tables: Vec<TableBinding>) -> WorkerTicket {
    WorkerTicket {
        version: TICKET_VERSION,
        expires_unix_ms: expires_unix_ms(),
        sql,
        tables,
        origin: SqlOrigin::Compiled.into(),
        nonce: nonce(),
        ..WorkerTicket::default()
    }
}

/// Makes a ticket that was made a while ago, or for another worker, one that is sent now: each is good for
/// one use and a minute, and what time the query has left is counted from its arrival.
pub fn renew(ticket: &mut WorkerTicket, deadline: Option<Instant>) {
    ticket.nonce = nonce();
    ticket.expires_unix_ms = expires_unix_ms();
    ticket.time_left_ms = deadline.map(time_left_ms);
}

fn nonce() -> Vec<u8> {
    rand::random::<[u8; 16]>().to_vec()
}

fn time_left_ms(deadline: Instant) -> u64 {
    deadline.saturating_duration_since(Instant::now()).as_millis() as u64
}

/// The same instant by the wall clock, for workers of before: their clock may be another.
fn deadline_unix_ms(deadline: Instant) -> u64 {
    // 0 means none, so a deadline that has passed is the first millisecond.
    (unix_ms() + time_left_ms(deadline)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewed_ticket_is_another_one_and_tells_what_time_is_left() {
        let mut ticket = base("SELECT 1".into(), Vec::new());
        let before = ticket.clone();
        ticket.expires_unix_ms = 1;
        renew(&mut ticket, Some(Instant::now() + Duration::from_secs(20)));
        assert_ne!(ticket.nonce, before.nonce);
        assert!(ticket.expires_unix_ms >= before.expires_unix_ms);
        assert!((1..=20_000).contains(&ticket.time_left_ms.unwrap()));
        renew(&mut ticket, Some(Instant::now()));
        assert_eq!(ticket.time_left_ms, Some(0));
        renew(&mut ticket, None);
        assert_eq!((ticket.time_left_ms, ticket.sql), (None, before.sql));
    }
}

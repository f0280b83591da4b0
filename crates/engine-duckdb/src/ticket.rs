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
        nonce: rand::random::<[u8; 16]>().to_vec(),
        ..WorkerTicket::default()
    }
}

/// The same instant by the wall clock, which router and worker share.
fn deadline_unix_ms(deadline: Instant) -> u64 {
    let left = deadline.saturating_duration_since(Instant::now());
    // 0 means none, so a deadline that has passed is the first millisecond.
    (unix_ms() + left.as_millis() as u64).max(1)
}

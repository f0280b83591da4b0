//! A fake of everything behind the front door: it knows a handful of "statements" and a small
//! catalog, and counts what happens to its queries. It plans nothing and runs nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Instant;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::common::ScalarValue;
use flightpath_catalog::{
    AccessRules, AsOf, Catalog, Column, CommitInfo, Home, TableContents, TableFormat, TableKind, TableName, TableSnapshot, TableSummary,
};
use flightpath_pipeline::{Ends, Prepared, QueryService, Request, ResultStream, Submitted};
use flightpath_types::{Error, ErrorKind, Principal, QueryId, Result, SecretToken, Session};
use futures::StreamExt;
use parking_lot::Mutex;

#[derive(Default)]
pub struct FakeQueries {
    submitted: Mutex<HashMap<QueryId, (Principal, Request)>>,
    pub fetched: AtomicUsize,
    /// Results that were dropped before their end.
    pub dropped: Arc<AtomicUsize>,
    pub cancelled: AtomicUsize,
    /// The settings that the last submitted request came with.
    pub last_settings: Mutex<Option<Session>>,
    pub last_token: Mutex<Option<SecretToken>>,
}

impl FakeQueries {
    /// Lets go of all requests and with them of their sessions.
    pub fn forget(&self) {
        self.submitted.lock().clear();
    }
}

/// What the fake knows.
enum Fake {
    One,
    Rows(usize),
    Echo(Vec<ScalarValue>),
    /// A batch, and then never another one.
    Forever,
    /// Never planned.
    Stuck,
    Fail(ErrorKind),
    FailLater(ErrorKind),
    Set(String, String),
    Empty,
    Views,
}

fn read(text: &str, params: Option<&[ScalarValue]>) -> Result<Fake> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let kind = |name: &str| ErrorKind::parse(name).ok_or_else(|| Error::invalid("no such kind"));
    Ok(match words.as_slice() {
        ["SELECT", "1"] => Fake::One,
        ["SELECT", "?"] => Fake::Echo(params.ok_or_else(|| Error::invalid("parameter 1 isn't bound"))?.to_vec()),
        ["rows", count] => Fake::Rows(count.parse().map_err(|_| Error::invalid("not a number"))?),
        ["forever"] => Fake::Forever,
        ["stuck"] => Fake::Stuck,
        ["fail", "later", name] => Fake::FailLater(kind(name)?),
        ["fail", name] => Fake::Fail(kind(name)?),
        ["SET", name, "=", value] => Fake::Set(name.to_string(), value.to_string()),
        ["empty"] => Fake::Empty,
        ["views"] => Fake::Views,
        ["INSERT", ..] => return Err(Error::not_eligible("writes aren't supported: this server is read-only")),
        _ => {
            return Err(Error::classed(
                ErrorKind::InvalidArgument,
                "PARSE_SYNTAX_ERROR",
                "42601",
                "the fake doesn't know that (line 1, column 1)",
            ));
        }
    })
}

impl Fake {
    fn schema(&self) -> SchemaRef {
        match self {
            Fake::Echo(values) => Arc::new(Schema::new(
                values.iter().enumerate().map(|(i, v)| Field::new(format!("c{i}"), v.data_type(), true)).collect::<Vec<_>>(),
            )),
            Fake::Views => Arc::new(Schema::new(vec![Field::new("v", DataType::Utf8View, false)])),
            _ => Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)])),
        }
    }

    fn batches(&self) -> Vec<RecordBatch> {
        let of = |array: ArrayRef| RecordBatch::try_new(self.schema(), vec![array]).unwrap();
        let numbers = |from: usize, to: usize| of(Arc::new(Int64Array::from_iter_values((from..to).map(|n| n as i64))));
        match self {
            Fake::One => vec![numbers(1, 2)],
            Fake::Rows(count) => (0..*count).step_by(8192).map(|from| numbers(from, (*count).min(from + 8192))).collect(),
            Fake::Echo(values) => {
                vec![RecordBatch::try_new(self.schema(), values.iter().map(|v| v.to_array().unwrap()).collect()).unwrap()]
            }
            Fake::Forever | Fake::FailLater(_) => vec![numbers(0, 10)],
            Fake::Views => vec![of(Arc::new(StringViewArray::from(vec!["short", "longer than twelve bytes"])))],
            Fake::Set(..) | Fake::Empty | Fake::Stuck | Fake::Fail(_) => vec![],
        }
    }
}

#[async_trait]
impl QueryService for FakeQueries {
    async fn prepare(&self, request: &Request) -> Result<Prepared> {
        let unbound = [ScalarValue::Int64(None)];
        let fake = read(&request.text, Some(request.params.as_deref().unwrap_or(&unbound)))?;
        if let Fake::Fail(kind) = fake {
            return Err(Error::new(kind, "as asked"));
        }
        let parameters = match fake {
            Fake::Echo(_) => Schema::new(vec![Field::new("p1", DataType::Int64, true)]),
            _ => Schema::empty(),
        };
        Ok(Prepared {
            schema: fake.schema(),
            parameters: Arc::new(parameters),
            is_query: !matches!(fake, Fake::Set(..)),
            changes_session: matches!(fake, Fake::Set(..)),
            trace: None,
        })
    }

    async fn submit(&self, request: Request) -> Result<Submitted> {
        *self.last_settings.lock() = Some(request.settings.clone());
        *self.last_token.lock() = request.token.clone();
        let fake = read(&request.text, request.params.as_deref())?;
        match &fake {
            Fake::Stuck => std::future::pending().await,
            Fake::Fail(kind) => return Err(Error::new(*kind, "as asked")),
            Fake::Set(name, value) => request.session.set(name, value)?,
            _ => {}
        }
        let query_id = QueryId::generate();
        let schema = fake.schema();
        self.submitted.lock().insert(query_id, (request.settings.principal.clone(), request));
        Ok(Submitted {
            query_id,
            schema,
            engine: Some("fake".into()),
            reason: "it is the only one".into(),
            predicted_ms: Some(1.5),
            predicted_usd: None,
            ordered: true,
        })
    }

    async fn fetch(&self, query_id: QueryId, principal: &Principal, deadline: Option<Instant>) -> Result<ResultStream> {
        let unknown = || Error::not_found("no such query");
        let (owner, request) = self.submitted.lock().get(&query_id).cloned().ok_or_else(unknown)?;
        if owner != *principal {
            return Err(unknown());
        }
        self.fetched.fetch_add(1, Ordering::SeqCst);
        let fake = read(&request.text, request.params.as_deref())?;
        let schema = fake.schema();
        let batches = futures::stream::iter(fake.batches().into_iter().map(Ok));
        let mut notice = DropNotice { dropped: self.dropped.clone(), ended: false };
        let end = match fake {
            Fake::Forever => until(deadline).boxed(),
            Fake::FailLater(kind) => futures::stream::iter([Err(Error::new(kind, "as asked, later"))]).boxed(),
            _ => futures::stream::empty().boxed(),
        };
        let mut all = batches.chain(end);
        let batches = futures::stream::poll_fn(move |context| {
            let polled = all.poll_next_unpin(context);
            if matches!(polled, Poll::Ready(None)) {
                notice.end();
            }
            polled
        });
        Ok(ResultStream { schema, batches: batches.boxed(), ends: Ends { deadline, ..Ends::default() } })
    }

    async fn cancel(&self, query_id: QueryId, principal: &Principal) -> Result<bool> {
        let known = self.submitted.lock().get(&query_id).is_some_and(|(owner, _)| owner == principal);
        if known {
            self.submitted.lock().remove(&query_id);
            self.cancelled.fetch_add(1, Ordering::SeqCst);
        }
        Ok(known)
    }

    async fn renew(&self, query_id: QueryId, _principal: &Principal) -> Result<()> {
        if self.submitted.lock().contains_key(&query_id) { Ok(()) } else { Err(Error::not_found("no such query")) }
    }

    fn check_setting(&self, _session: &Session, name: &str, value: &str) -> Result<()> {
        if name == "engine" && !["", "fake", "duckdb"].contains(&value) {
            return Err(Error::invalid(format!("unknown engine '{value}'; engines are fake, duckdb")));
        }
        Ok(())
    }

    fn catalog(&self) -> Arc<dyn Catalog> {
        Arc::new(FakeCatalog)
    }
}

/// Nothing until the deadline, and then the error for it.
fn until(deadline: Option<Instant>) -> impl futures::Stream<Item = Result<RecordBatch>> {
    futures::stream::once(async move {
        match deadline {
            Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
            None => std::future::pending().await,
        }
        Err(Error::new(ErrorKind::DeadlineExceeded, "the deadline passed"))
    })
}

/// Counts a result that was dropped before its end.
struct DropNotice {
    dropped: Arc<AtomicUsize>,
    ended: bool,
}

impl DropNotice {
    fn end(&mut self) {
        self.ended = true;
    }
}

impl Drop for DropNotice {
    fn drop(&mut self) {
        if !self.ended {
            self.dropped.fetch_add(1, Ordering::SeqCst);
        }
    }
}

struct FakeCatalog;

#[async_trait]
impl Catalog for FakeCatalog {
    async fn snapshot(&self, principal: &Principal, name: &TableName, _as_of: &AsOf) -> Result<Arc<TableSnapshot>> {
        if name.table.as_ref() == "broken" {
            return Err(Error::new(ErrorKind::DataLoss, "the log of 'broken' is corrupt"));
        }
        self.cached_snapshot(principal, name).ok_or_else(|| Error::not_found("no such table"))
    }

    fn cached_snapshot(&self, _principal: &Principal, name: &TableName) -> Option<Arc<TableSnapshot>> {
        let schema = Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, false).with_metadata([("delta.columnMapping.physicalName".into(), "col-1".into())].into()),
            Field::new("price", DataType::Decimal128(12, 2), true),
            Field::new(name.table.as_ref(), DataType::Utf8View, true),
        ]));
        let column =
            |comment: Option<&str>| Column { physical_name: "x".into(), field_id: None, comment: comment.map(Into::into), widened: false };
        Some(Arc::new(TableSnapshot {
            name: name.clone(),
            format: TableFormat::Delta,
            version: 1,
            committed_unix_ms: None,
            schema,
            columns: vec![column(Some("the key")), column(None), column(None)],
            partition_columns: vec![],
            contents: TableContents::Files(Arc::new(vec![])),
            access: AccessRules::Free,
            home: Home::Local,
            storage: None,
            location: "/secret/place".into(),
            properties: BTreeMap::new(),
            min_reader_version: 1,
            min_writer_version: 2,
            reader_features: vec![],
            writer_features: vec![],
            table_id: None,
            description: None,
            created_unix_ms: None,
        }))
    }

    async fn catalogs(&self, _principal: &Principal) -> Result<Vec<String>> {
        Ok(vec!["lake".into(), "archive".into()])
    }

    async fn schemas(&self, _principal: &Principal, catalog: &str) -> Result<Vec<String>> {
        Ok(if catalog == "lake" { vec!["default".into(), "system".into()] } else { vec!["old_data".into(), "oldxdata".into()] })
    }

    async fn tables(&self, _principal: &Principal, catalog: &str, schema: &str) -> Result<Vec<TableSummary>> {
        let (names, kind, format): (&[&str], _, _) = match (catalog, schema) {
            ("lake", "default") => (&["aa_table", "my_table", "my1table", "broken"], TableKind::Table, "delta"),
            ("lake", "system") => (&["queries"], TableKind::System, "system"),
            _ => (&["old"], TableKind::Table, "parquet"),
        };
        Ok(names.iter().map(|name| TableSummary { name: TableName::new(catalog, schema, name), kind, format }).collect())
    }

    async fn history(&self, _principal: &Principal, _name: &TableName, _limit: usize) -> Result<Vec<CommitInfo>> {
        Ok(vec![])
    }

    async fn refresh(&self, _principal: &Principal, _name: &TableName) -> Result<()> {
        Ok(())
    }
}

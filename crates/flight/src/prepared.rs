//! Prepared statements. A handle carries the statement's text and, once bound, its parameters,
//! signed: any replica can serve it, and nobody else can make or change one.
//!
//! Two things are kept in this process all the same, bounded and for a limited time:
//! - the newest binding by statement, because some clients bind and then go on with the handle from
//!   before, which can't carry it;
//! - texts and parameters too big to travel with every call.
//!
//! What isn't kept any more is an error that says so; a statement never runs unbound by mistake.

use std::sync::Arc;

use bytes::Bytes;
use datafusion::common::ScalarValue;
use flightpath_types::{Error, Principal, Result};
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use crate::config::Config;
use crate::params;
use crate::sign::{Purpose, Signer, fixed};

/// Bigger texts and parameters stay here instead of travelling in the handle.
const INLINE_BYTES_MAX: usize = 32 << 10;

pub(crate) type StatementId = [u8; 16];

/// A statement as its handle describes it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PreparedStatement {
    pub text: Arc<str>,
    pub params: Option<Vec<ScalarValue>>,
    /// How many parameters the text has.
    pub parameters: u16,
    pub id: StatementId,
    /// The trace that it was prepared in, where traces are recorded.
    pub trace: Option<String>,
}

#[derive(Default, Clone)]
struct Kept {
    /// It was run already, as far as this process knows.
    ran: bool,
    text: Option<Arc<str>>,
    params: Option<Arc<Vec<ScalarValue>>>,
    params_bytes: usize,
}

/// A part of a handle.
enum Part<'a> {
    Nothing,
    Inline(&'a [u8]),
    Kept,
}

struct Handle<'a> {
    id: StatementId,
    parameters: u16,
    text: Part<'a>,
    params: Part<'a>,
    trace: Part<'a>,
}

pub(crate) struct PreparedStatements {
    kept: Cache<StatementId, Kept>,
    closed: Cache<StatementId, ()>,
    signer: Arc<Signer>,
    config: Config,
}

impl PreparedStatements {
    pub fn new(config: &Config, signer: Arc<Signer>) -> Self {
        let weigh = |_: &StatementId, kept: &Kept| {
            let bytes = 128 + kept.text.as_ref().map_or(0, |t| t.len()) + kept.params_bytes;
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        Self {
            // Least recently used, not by frequency: a new statement is always let in.
            kept: Cache::builder()
                .max_capacity(config.limits.prepared_bytes)
                .weigher(weigh)
                .eviction_policy(EvictionPolicy::lru())
                .time_to_live(config.lifetimes.prepared)
                .build(),
            closed: Cache::builder().max_capacity(100_000).time_to_live(config.lifetimes.prepared).build(),
            signer,
            config: config.clone(),
        }
    }

    /// `trace` is the trace context that it was prepared in.
    pub fn create(&self, principal: &Principal, text: &str, parameters: u16, trace: Option<&str>) -> Bytes {
        let id: StatementId = rand::random();
        let part = if text.len() <= INLINE_BYTES_MAX {
            Part::Inline(text.as_bytes())
        } else {
            self.kept.insert(id, Kept { text: Some(text.into()), ..Kept::default() });
            Part::Kept
        };
        let trace = trace.map_or(Part::Nothing, |trace| Part::Inline(trace.as_bytes()));
        self.seal(principal, &Handle { id, parameters, text: part, params: Part::Nothing, trace })
    }

    pub fn open(&self, principal: &Principal, handle: &[u8]) -> Result<PreparedStatement> {
        let opened = self.signer.open(Purpose::Prepared, handle)?;
        let handle = Handle::read(opened.payload_of(principal)?)?;
        self.refuse_closed(&handle)?;
        let kept = self.kept.get(&handle.id);
        let text = match handle.text {
            Part::Inline(text) => std::str::from_utf8(text).map_err(|_| malformed())?.into(),
            Part::Kept | Part::Nothing => kept.as_ref().and_then(|k| k.text.clone()).ok_or_else(gone)?,
        };
        let params = match handle.params {
            Part::Inline(bytes) => Some(params::from_bytes(bytes)?),
            // The handle says that there are parameters: without them it must not run.
            Part::Kept => Some(kept.and_then(|k| k.params).ok_or_else(gone)?.as_ref().clone()),
            Part::Nothing => kept.and_then(|k| k.params).map(|p| p.as_ref().clone()),
        };
        let trace = match handle.trace {
            Part::Inline(trace) => Some(String::from_utf8_lossy(trace).into_owned()),
            Part::Kept | Part::Nothing => None,
        };
        Ok(PreparedStatement { text, params, parameters: handle.parameters, id: handle.id, trace })
    }

    /// Whether this is the statement's first run here; the next one isn't.
    pub fn is_first_run(&self, id: StatementId) -> bool {
        let kept = self.kept.get(&id).unwrap_or_default();
        let first = !kept.ran;
        if first {
            self.kept.insert(id, Kept { ran: true, ..kept });
        }
        first
    }

    /// Binds one row, or nothing, and returns the handle that carries it. The handle from before
    /// leads to the same parameters as long as this process keeps them.
    pub fn bind(&self, principal: &Principal, handle: &[u8], values: Option<Vec<ScalarValue>>) -> Result<Bytes> {
        let opened = self.signer.open(Purpose::Prepared, handle)?;
        let mut handle = Handle::read(opened.payload_of(principal)?)?;
        self.refuse_closed(&handle)?;
        if let Some(values) = &values
            && values.len() != usize::from(handle.parameters)
        {
            let (has, bound) = (handle.parameters, values.len());
            return Err(Error::invalid(format!("the statement has {has} parameters, but {bound} values were bound")));
        }
        let bytes = values.as_deref().map(params::to_bytes).transpose()?;
        let mut kept = self.kept.get(&handle.id).unwrap_or_default();
        if matches!(handle.text, Part::Kept) && kept.text.is_none() {
            return Err(gone());
        }
        kept.params = values.map(Arc::new);
        kept.params_bytes = bytes.as_ref().map_or(0, Vec::len);
        self.kept.insert(handle.id, kept);
        handle.params = match &bytes {
            None => Part::Nothing,
            Some(bytes) if bytes.len() <= INLINE_BYTES_MAX => Part::Inline(bytes),
            Some(_) => Part::Kept,
        };
        Ok(self.seal(principal, &handle))
    }

    pub fn close(&self, principal: &Principal, handle: &[u8]) -> Result<()> {
        let opened = self.signer.open(Purpose::Prepared, handle)?;
        let handle = Handle::read(opened.payload_of(principal)?)?;
        self.kept.invalidate(&handle.id);
        self.closed.insert(handle.id, ());
        Ok(())
    }

    fn refuse_closed(&self, handle: &Handle<'_>) -> Result<()> {
        if self.closed.contains_key(&handle.id) {
            return Err(Error::not_found("this prepared statement was closed; prepare it again"));
        }
        Ok(())
    }

    fn seal(&self, principal: &Principal, handle: &Handle<'_>) -> Bytes {
        let mut payload = handle.id.to_vec();
        payload.extend_from_slice(&handle.parameters.to_be_bytes());
        handle.text.write(&mut payload);
        handle.params.write(&mut payload);
        handle.trace.write(&mut payload);
        self.signer.seal(Purpose::Prepared, principal, self.config.lifetimes.prepared, &payload).into()
    }
}

impl<'a> Handle<'a> {
    fn read(payload: &'a [u8]) -> Result<Self> {
        let (id, rest) = payload.split_at_checked(16).ok_or_else(malformed)?;
        let (parameters, rest) = rest.split_at_checked(2).ok_or_else(malformed)?;
        let (text, rest) = Part::read(rest)?;
        let (params, rest) = Part::read(rest)?;
        // A server of before wrote none.
        let trace = if rest.is_empty() { Part::Nothing } else { Part::read(rest)?.0 };
        Ok(Self { id: fixed(id), parameters: u16::from_be_bytes(fixed(parameters)), text, params, trace })
    }
}

impl<'a> Part<'a> {
    fn read(bytes: &'a [u8]) -> Result<(Self, &'a [u8])> {
        let (tag, rest) = bytes.split_first().ok_or_else(malformed)?;
        match tag {
            0 => Ok((Part::Nothing, rest)),
            1 => {
                let (length, rest) = rest.split_at_checked(4).ok_or_else(malformed)?;
                let length = u32::from_be_bytes(fixed(length)) as usize;
                let (bytes, rest) = rest.split_at_checked(length).ok_or_else(malformed)?;
                Ok((Part::Inline(bytes), rest))
            }
            2 => Ok((Part::Kept, rest)),
            _ => Err(malformed()),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Part::Nothing => out.push(0),
            Part::Inline(bytes) => {
                out.push(1);
                // At most INLINE_BYTES_MAX.
                out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
                out.extend_from_slice(bytes);
            }
            Part::Kept => out.push(2),
        }
    }
}

fn gone() -> Error {
    Error::not_found("this prepared statement isn't kept here any more; prepare and bind it again")
}

fn malformed() -> Error {
    Error::internal("a signed prepared statement handle has an unexpected form")
}

#[cfg(test)]
mod tests {
    use flightpath_types::ErrorKind;

    use super::*;
    use crate::config::SigningKey;

    fn statements() -> PreparedStatements {
        let config = Config::default();
        let keys = [SigningKey { id: 1, secret: [3; 32] }];
        PreparedStatements::new(&config, Arc::new(Signer::new(&keys, "")))
    }

    #[test]
    fn parameters_are_reached_through_the_old_and_the_new_handle() {
        let (statements, ann) = (statements(), Principal::new("ann"));
        let original = statements.create(&ann, "SELECT ?", 1, None);
        assert_eq!(statements.open(&ann, &original).unwrap().params, None);
        let values = vec![ScalarValue::Int64(Some(1))];
        let bound = statements.bind(&ann, &original, Some(values.clone())).unwrap();
        for handle in [&original, &bound] {
            let statement = statements.open(&ann, handle).unwrap();
            assert_eq!((statement.text.as_ref(), statement.params), ("SELECT ?", Some(values.clone())));
        }
        let unbound = statements.bind(&ann, &bound, None).unwrap();
        assert_eq!(statements.open(&ann, &unbound).unwrap().params, None);
        assert_eq!(statements.open(&ann, &original).unwrap().params, None);
    }

    #[test]
    fn another_replica_serves_a_bound_handle_and_refuses_what_it_cannot_know() {
        let (here, there, ann) = (statements(), statements(), Principal::new("ann"));
        let bound = here.bind(&ann, &here.create(&ann, "SELECT ?", 1, None), Some(vec![ScalarValue::Int64(Some(1))])).unwrap();
        assert_eq!(there.open(&ann, &bound).unwrap().params.unwrap().len(), 1);

        let long_text = format!("SELECT '{}'", "x".repeat(INLINE_BYTES_MAX));
        let long = here.create(&ann, &long_text, 0, None);
        assert_eq!(here.open(&ann, &long).unwrap().text.as_ref(), long_text);
        assert_eq!(there.open(&ann, &long).unwrap_err().kind(), ErrorKind::NotFound);

        let big_value = vec![ScalarValue::Utf8(Some("y".repeat(INLINE_BYTES_MAX)))];
        let big = here.bind(&ann, &here.create(&ann, "SELECT ?", 1, None), Some(big_value.clone())).unwrap();
        assert_eq!(here.open(&ann, &big).unwrap().params, Some(big_value));
        assert_eq!(there.open(&ann, &big).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn its_trace_goes_along_and_its_first_run_is_known() {
        let (statements, ann) = (statements(), Principal::new("ann"));
        let original = statements.create(&ann, "SELECT ?", 1, Some("00-aa-bb-01 a=b"));
        let bound = statements.bind(&ann, &original, Some(vec![ScalarValue::Null])).unwrap();
        let statement = statements.open(&ann, &bound).unwrap();
        assert_eq!(statement.trace.as_deref(), Some("00-aa-bb-01 a=b"));
        assert!(statements.is_first_run(statement.id) && !statements.is_first_run(statement.id));
        assert!(statements.open(&ann, &original).unwrap().params.is_some(), "what was bound is kept");
        assert_eq!(statements.open(&ann, &statements.create(&ann, "SELECT 1", 0, None)).unwrap().trace, None);
    }

    #[test]
    fn a_closed_statement_is_gone_through_every_handle() {
        let (statements, ann) = (statements(), Principal::new("ann"));
        let original = statements.create(&ann, "SELECT ?", 1, None);
        let bound = statements.bind(&ann, &original, Some(vec![ScalarValue::Null])).unwrap();
        statements.close(&ann, &original).unwrap();
        for handle in [&original, &bound] {
            assert_eq!(statements.open(&ann, handle).unwrap_err().kind(), ErrorKind::NotFound);
        }
    }
}

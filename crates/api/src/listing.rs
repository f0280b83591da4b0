//! A ListQueries request as a filter, and the tokens that lead from page to page. A token tells
//! where a page ended and for which filter; whose queries are shown is never taken from it.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use flightpath_proto::v1::{ListQueriesRequest, Outcome as ProtoOutcome};
use flightpath_querylog::{HistoryFilter, PageKey};
use flightpath_types::{EngineId, Error, ErrorKind, Fingerprint, Outcome, QueryId, Result};
use sha2::{Digest, Sha256};

const PAGE_SIZE_DEFAULT: usize = 100;
const PAGE_SIZE_MAX: usize = 1_000;
const TEXT_BYTES_DEFAULT: usize = 1_024;
const TEXT_BYTES_MAX: usize = 64 << 10;
/// A name in a filter; longer ones match nothing.
const NAME_BYTES_MAX: usize = 1_024;
const TOKEN_VERSION: u8 = 1;
/// Version, filter's hash, time, query id.
const TOKEN_BYTES: usize = 1 + 8 + 8 + 16;

/// What a request asks for, checked.
#[derive(Debug)]
pub(crate) struct Listing {
    pub filter: HistoryFilter,
    pub after: Option<PageKey>,
    pub page_size: usize,
    pub text_bytes_max: usize,
}

impl Listing {
    /// `scope`: whose queries the caller may see; everybody's for `None`.
    pub fn of(request: &ListQueriesRequest, scope: Option<&str>) -> Result<Self> {
        let principal = principal_in_scope(&request.principal, scope)?;
        let page_size = match request.page_size as usize {
            0 => PAGE_SIZE_DEFAULT,
            size if size <= PAGE_SIZE_MAX => size,
            size => return Err(Error::invalid(format!("page_size must be at most {PAGE_SIZE_MAX}, not {size}"))),
        };
        let text_bytes_max = match request.text_bytes_max as usize {
            0 => TEXT_BYTES_DEFAULT,
            bytes if bytes <= TEXT_BYTES_MAX => bytes,
            bytes => return Err(Error::invalid(format!("text_bytes_max must be at most {TEXT_BYTES_MAX}, not {bytes}"))),
        };
        let filter = filter_of(request, principal)?;
        let after = match request.page_token.as_str() {
            "" => None,
            token => Some(read_token(token, &filter)?),
        };
        Ok(Self { filter, after, page_size, text_bytes_max })
    }
}

/// Whose queries are wanted of those that the caller may see; everybody's for `None`.
pub(crate) fn principal_in_scope(wanted: &str, scope: Option<&str>) -> Result<Option<String>> {
    match scope {
        Some(own) if wanted.is_empty() || wanted == own => Ok(Some(own.to_string())),
        Some(own) => Err(Error::new(
            ErrorKind::PermissionDenied,
            format!("only your own queries are shown: leave `principal` empty or set it to '{own}'"),
        )),
        None if wanted.len() > NAME_BYTES_MAX => {
            Err(Error::invalid(format!("`principal` has {} bytes; at most {NAME_BYTES_MAX} are taken", wanted.len())))
        }
        None => Ok(Some(wanted.to_string()).filter(|wanted| !wanted.is_empty())),
    }
}

fn filter_of(request: &ListQueriesRequest, principal: Option<String>) -> Result<HistoryFilter> {
    let name = |what: &str, value: &str| match value.len() {
        0 => Ok(None),
        bytes if bytes <= NAME_BYTES_MAX => Ok(Some(value.to_string())),
        bytes => Err(Error::invalid(format!("`{what}` has {bytes} bytes; at most {NAME_BYTES_MAX} are taken"))),
    };
    let bound = |what: &str, value: i64| match value {
        0 => Ok(None),
        value if value > 0 => Ok(Some(value)),
        value => Err(Error::invalid(format!("`{what}` must be milliseconds since 1970, not {value}"))),
    };
    let outcome = ProtoOutcome::try_from(request.outcome)
        .map_err(|_| Error::invalid(format!("`outcome` {} isn't known to this server", request.outcome)))?;
    let fingerprint = match request.fingerprint.as_str() {
        "" => None,
        text => Some(fingerprint(text)?),
    };
    Ok(HistoryFilter {
        principal,
        from_unix_ms: bound("from_unix_ms", request.from_unix_ms)?,
        until_unix_ms: bound("until_unix_ms", request.until_unix_ms)?,
        engine: name("engine", &request.engine)?.map(EngineId::new),
        fingerprint,
        outcome: match outcome {
            ProtoOutcome::Unspecified => None,
            ProtoOutcome::Success => Some(Outcome::Success),
            ProtoOutcome::Error => Some(Outcome::Error),
            ProtoOutcome::Cancelled => Some(Outcome::Cancelled),
            ProtoOutcome::Refused => Some(Outcome::Refused),
        },
        tag: name("tag", &request.tag)?,
        query_id: None,
    })
}

fn fingerprint(text: &str) -> Result<Fingerprint> {
    let digits = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let value = digits.then(|| u64::from_str_radix(text, 16).ok()).flatten();
    value.map(Fingerprint::from_u64).ok_or_else(|| Error::invalid(format!("`fingerprint` must be 16 hexadecimal digits, not '{text}'")))
}

/// The token of the page behind this key.
pub(crate) fn token(key: PageKey, filter: &HistoryFilter) -> String {
    let mut bytes = Vec::with_capacity(TOKEN_BYTES);
    bytes.push(TOKEN_VERSION);
    bytes.extend_from_slice(&filter_hash(filter));
    bytes.extend_from_slice(&key.started_unix_ms.to_be_bytes());
    bytes.extend_from_slice(key.query_id.as_bytes());
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn read_token(token: &str, filter: &HistoryFilter) -> Result<PageKey> {
    let bad = || Error::invalid("the page token can't be read; start again without one");
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).map_err(|_| bad())?;
    let bytes: [u8; TOKEN_BYTES] = bytes.try_into().map_err(|_| bad())?;
    let ([version], rest) = bytes.split_first_chunk::<1>().ok_or_else(bad)?;
    let (hash, rest) = rest.split_first_chunk::<8>().ok_or_else(bad)?;
    let (started, id) = rest.split_first_chunk::<8>().ok_or_else(bad)?;
    if *version != TOKEN_VERSION {
        return Err(bad());
    }
    if *hash != filter_hash(filter) {
        return Err(Error::invalid("the page token belongs to another filter; start again without one"));
    }
    let id: [u8; 16] = id.try_into().map_err(|_| bad())?;
    Ok(PageKey { started_unix_ms: i64::from_be_bytes(*started), query_id: QueryId::from_bytes(id) })
}

fn filter_hash(filter: &HistoryFilter) -> [u8; 8] {
    let HistoryFilter { principal, from_unix_ms, until_unix_ms, engine, fingerprint, outcome, tag, query_id } = filter;
    let mut hash = Sha256::new();
    let parts = [
        principal.clone(),
        from_unix_ms.map(|v| v.to_string()),
        until_unix_ms.map(|v| v.to_string()),
        engine.as_ref().map(ToString::to_string),
        fingerprint.map(|f| f.to_string()),
        outcome.map(|o| o.as_str().to_string()),
        tag.clone(),
        query_id.map(|id| id.to_string()),
    ];
    for part in parts {
        let part = part.unwrap_or_default();
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest: [u8; 32] = hash.finalize().into();
    digest.first_chunk::<8>().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(request: &ListQueriesRequest) -> Result<Listing> {
        Listing::of(request, Some("ann"))
    }

    #[test]
    fn a_token_leads_on_for_its_own_filter_only() {
        let first = ListQueriesRequest { tag: "nightly".into(), ..Default::default() };
        let key = PageKey { started_unix_ms: 1_700_000_000_000, query_id: QueryId::generate() };
        let page_token = token(key, &listing(&first).unwrap().filter);
        let next = ListQueriesRequest { page_token: page_token.clone(), ..first };
        assert_eq!(listing(&next).unwrap().after, Some(key));
        // Another page size is no other filter.
        assert!(listing(&ListQueriesRequest { page_size: 7, ..next.clone() }).is_ok());
        let other = listing(&ListQueriesRequest { tag: "daily".into(), ..next.clone() }).unwrap_err();
        assert!(other.message().contains("another filter"));
        assert!(Listing::of(&next, Some("bob")).is_err());
        for bad in ["x", "====", &page_token[1..], &format!("{page_token}AA")] {
            assert!(listing(&ListQueriesRequest { page_token: bad.into(), ..next.clone() }).is_err(), "{bad}");
        }
    }

    #[test]
    fn requests_are_checked_and_say_what_is_possible() {
        let wrong = [
            ListQueriesRequest { page_size: 1_001, ..Default::default() },
            ListQueriesRequest { text_bytes_max: 1 << 20, ..Default::default() },
            ListQueriesRequest { fingerprint: "xyz".into(), ..Default::default() },
            ListQueriesRequest { outcome: 99, ..Default::default() },
            ListQueriesRequest { from_unix_ms: -1, ..Default::default() },
            ListQueriesRequest { tag: "t".repeat(2_000), ..Default::default() },
        ];
        for request in wrong {
            assert_eq!(listing(&request).unwrap_err().kind(), ErrorKind::InvalidArgument, "{request:?}");
        }
        let others = ListQueriesRequest { principal: "bob".into(), ..Default::default() };
        assert_eq!(listing(&others).unwrap_err().kind(), ErrorKind::PermissionDenied);
        let own = listing(&ListQueriesRequest { principal: "ann".into(), ..Default::default() }).unwrap();
        assert_eq!((own.page_size, own.text_bytes_max), (100, 1_024));
        assert_eq!(own.filter.principal.as_deref(), Some("ann"));
        // Who may see everybody's says whose, or doesn't.
        let everybody = |principal: &str| {
            let request = ListQueriesRequest { principal: principal.into(), ..Default::default() };
            Listing::of(&request, None).map(|listing| listing.filter.principal)
        };
        assert_eq!(everybody("").unwrap(), None);
        assert_eq!(everybody("bob").unwrap().as_deref(), Some("bob"));
        assert_eq!(everybody(&"b".repeat(2_000)).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
}

//! A call's URL: always the configured host, whatever names a path is made of.

use flightpath_types::{Error, Result};
use url::Url;

/// One name as one segment of a path: everything but letters, digits and `-_.~` is encoded.
pub fn segment(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// `path` below `host`. A path that would leave it is an error.
pub(crate) fn below(host: &Url, path: &str, query: &[(&str, String)]) -> Result<Url> {
    let climbs = |part: &str| {
        let plain = part.to_ascii_lowercase().replace("%2e", ".");
        plain == "." || plain == ".."
    };
    if !path.starts_with('/') || path.contains('\\') || path.split('/').any(climbs) {
        return Err(Error::invalid("a name can't be part of a path"));
    }
    let mut url = host.clone();
    let base = host.path().trim_end_matches('/');
    url.set_path(&format!("{base}{path}"));
    url.set_fragment(None);
    url.set_query(None);
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query.iter().map(|(name, value)| (*name, value.as_str())));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Url {
        Url::parse("https://example.test/").unwrap()
    }

    #[test]
    fn a_path_never_leaves_the_host() {
        let url = below(&host(), "//other.test/x", &[]).unwrap();
        assert_eq!(url.host_str(), Some("example.test"));
        for path in ["x", "/a/../b", "/a/%2e%2E/b", "/a/./b", "/a\\b"] {
            assert!(below(&host(), path, &[]).is_err(), "{path}");
        }
    }

    #[test]
    fn names_stay_one_segment() {
        let path = format!("/tables/{}", segment("a/b?c#d e%"));
        let url = below(&host(), &path, &[("q", "1&2".into())]).unwrap();
        assert_eq!(url.as_str(), "https://example.test/tables/a%2Fb%3Fc%23d%20e%25?q=1%262");
    }
}

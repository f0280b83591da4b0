//! Where a log's paths lead on this machine. Never outside the folders that were given.

use std::path::{Component, Path, PathBuf};

use flightpath_types::Result;
use url::Url;

use crate::{TableName, errors};

/// An add action's path, percent-decoded once, made absolute and free of `.` and `..`.
pub(super) fn data_file(name: &TableName, root: &Path, allowed: &[PathBuf], raw: &str) -> Result<String> {
    let malformed = || errors::data_loss(name, format!("its log names a file by a malformed path `{raw}`"), errors::RESTORE_LOG);
    let joined = if has_scheme(raw) {
        let url = Url::parse(raw).map_err(|_| malformed())?;
        if url.scheme() != "file" {
            return Err(errors::not_eligible(
                name,
                format!("its files lie on another store (`{}:`), not in the data folder", url.scheme()),
            ));
        }
        url.to_file_path().map_err(|()| malformed())?
    } else {
        let decoded = percent_encoding::percent_decode_str(raw).decode_utf8().map_err(|_| malformed())?;
        root.join(decoded.as_ref())
    };
    let path = normalize(&joined);
    if !path.starts_with(root) && !allowed.iter().any(|dir| path.starts_with(dir)) {
        return Err(errors::not_eligible(
            name,
            "its log names files outside the data folders (a shallow clone?); add the folder they lie in with --data",
        ));
    }
    path.into_os_string().into_string().map_err(|_| malformed())
}

/// `file:/x`, `s3://b`; but not `a=b:c`, nor a name with a colon and no slash after it.
pub(super) fn has_scheme(raw: &str) -> bool {
    let Some((scheme, rest)) = raw.split_once(':') else { return false };
    rest.starts_with('/')
        && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

fn normalize(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(raw: &str) -> Result<String> {
        data_file(&TableName::new("lake", "default", "t"), Path::new("/data/t"), &[PathBuf::from("/data")], raw)
    }

    #[test]
    fn paths_are_decoded_once_and_stay_inside() {
        assert_eq!(at("a%20b/p%23h.parquet").unwrap(), "/data/t/a b/p#h.parquet");
        assert_eq!(at("c=x%253A00/f.parquet").unwrap(), "/data/t/c=x%3A00/f.parquet");
        assert_eq!(at("_2=bar+%252521/f").unwrap(), "/data/t/_2=bar+%2521/f");
        assert_eq!(at("c=a:b/f.parquet").unwrap(), "/data/t/c=a:b/f.parquet");
        assert_eq!(at("../u/f.parquet").unwrap(), "/data/u/f.parquet");
        assert_eq!(at("file:///data/u/f%20g.parquet").unwrap(), "/data/u/f g.parquet");
        assert_eq!(at("/data/u/f.parquet").unwrap(), "/data/u/f.parquet");
        for outside in ["/etc/passwd", "../../etc/passwd", "file:///etc/passwd", "s3://bucket/f.parquet"] {
            assert!(at(outside).unwrap_err().message().starts_with("not eligible"), "{outside}");
        }
    }
}

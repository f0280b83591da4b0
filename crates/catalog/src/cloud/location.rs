//! Where in which store a table lies, as Unity Catalog writes it.

use std::fmt;

use flightpath_types::{Error, Result};
use object_store::path::Path;
use url::Url;

use crate::{StorageCredentials, StorageKeys};

/// The ends of storage account names in Azure's clouds, behind `<account>.dfs.` or `.blob.`.
const AZURE_CLOUDS: [&str; 3] = ["core.windows.net", "core.usgovcloudapi.net", "core.chinacloudapi.cn"];
const R2_HOST_END: &str = "r2.cloudflarestorage.com";

/// A folder in a bucket or container.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CloudLocation {
    pub(super) service: Service,
    /// Bucket or container.
    pub(super) bucket: String,
    /// The folder's key.
    pub(super) root: Path,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Service {
    S3,
    /// `account`, and the cloud it is in.
    Azure {
        account: String,
        cloud: &'static str,
    },
    Google,
    /// `host`: `<account>.r2.cloudflarestorage.com`.
    R2 {
        host: String,
    },
}

impl CloudLocation {
    /// `None`: it isn't in cloud storage. The error says why it can't be read there.
    pub fn parse(location: &str) -> Option<Result<Self, String>> {
        let url = Url::parse(location).ok()?;
        let host = url.host_str().unwrap_or_default();
        let service = match url.scheme() {
            "s3" | "s3a" | "s3n" => Ok((Service::S3, host.to_string())),
            "gs" => Ok((Service::Google, host.to_string())),
            "abfs" | "abfss" | "wasb" | "wasbs" => azure(host).map(|service| (service, url.username().to_string())),
            "r2" if host.ends_with(R2_HOST_END) => Ok((Service::R2 { host: host.to_string() }, url.username().to_string())),
            "r2" => Err(format!("its location isn't in {R2_HOST_END}")),
            _ => return None,
        };
        Some(service.and_then(|(service, bucket)| Self::of(service, bucket, &url)))
    }

    fn of(service: Service, bucket: String, url: &Url) -> Result<Self, String> {
        if bucket.is_empty() || url.port().is_some() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
            return Err("its location names no folder of a bucket".into());
        }
        // The kernel's storage would take an escape for a name of its own, and then read another path.
        if url.path().contains(['%', '\\']) {
            return Err("its location has characters that aren't supported: other than letters, digits and -_.~=+,@:".into());
        }
        let root = Path::parse(url.path()).map_err(|_| "its location has an empty or relative part")?;
        if root.as_ref().is_empty() {
            return Err("its location is a whole bucket".into());
        }
        Ok(Self { service, bucket, root })
    }

    /// Whether these credentials are for this place, and why not.
    pub fn opened_by(&self, credentials: &StorageCredentials) -> Result<(), String> {
        let fits = match (&self.service, &credentials.keys) {
            (Service::S3, StorageKeys::Aws { .. }) => true,
            (Service::Azure { .. }, StorageKeys::AzureSas(_)) => true,
            (Service::Google, StorageKeys::GcpOauth(_)) => true,
            (Service::R2 { .. }, StorageKeys::R2 { .. }) => true,
            (Service::S3 | Service::Azure { .. } | Service::Google | Service::R2 { .. }, _) => false,
        };
        if !fits {
            return Err("the credentials are for another kind of storage than the table's".into());
        }
        let granted = match Self::parse(&credentials.url) {
            Some(Ok(granted)) => granted,
            // A whole bucket, which holds everything in it.
            Some(Err(_)) | None => match self.is_in_bucket(&credentials.url) {
                true => return Ok(()),
                false => return Err("it isn't known which place the credentials are for".into()),
            },
        };
        match granted.service == self.service && granted.bucket == self.bucket && self.root.prefix_matches(&granted.root) {
            true => Ok(()),
            false => Err("the credentials are for another place than the table's".into()),
        }
    }

    fn is_in_bucket(&self, url: &str) -> bool {
        let whole = url.trim_end_matches('/');
        whole.eq_ignore_ascii_case(self.bucket_url().trim_end_matches('/'))
    }

    fn bucket_url(&self) -> String {
        match &self.service {
            Service::S3 => format!("s3://{}/", self.bucket),
            Service::Azure { account, cloud } => format!("abfss://{}@{account}.dfs.{cloud}/", self.bucket),
            Service::Google => format!("gs://{}/", self.bucket),
            Service::R2 { host } => format!("r2://{}@{host}/", self.bucket),
        }
    }

    /// The folder as a URL, ending in a slash.
    pub(crate) fn folder_url(&self) -> String {
        format!("{}{}/", self.bucket_url(), self.root)
    }

    /// A file that the log names, absolute or relative to the table, percent-decoded once: as a URL
    /// with the decoded key. `None` where it lies outside of the table.
    pub(crate) fn file(&self, raw: &str, is_absolute: bool) -> Option<String> {
        let key = if is_absolute {
            let url = Url::parse(raw).ok()?;
            // Another store, bucket or account has another beginning.
            let mut own = Url::parse(&self.bucket_url()).ok()?;
            own.set_path(url.path());
            let same = own == url
                || (self.service == Service::S3
                    && matches!(url.scheme(), "s3a" | "s3n")
                    && own[url::Position::BeforeUsername..] == url[url::Position::BeforeUsername..]);
            if !same {
                return None;
            }
            decoded(url.path().trim_start_matches('/'))?
        } else {
            format!("{}/{}", self.root, decoded(raw)?)
        };
        let path = Path::parse(normalized(&key)?).ok()?;
        (path.prefix_matches(&self.root) && path != self.root).then(|| format!("{}{path}", self.bucket_url()))
    }

    /// The object behind a path that [`Self::file`] made.
    pub(super) fn object(&self, file: &str) -> Option<Path> {
        let path = Path::parse(file.strip_prefix(&self.bucket_url())?).ok()?;
        path.prefix_matches(&self.root).then_some(path)
    }
}

impl fmt::Display for CloudLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.bucket_url(), self.root)
    }
}

fn azure(host: &str) -> Result<Service, String> {
    let unknown = || "its location isn't in a storage account of a known Azure cloud".to_string();
    let (account, rest) = host.split_once('.').ok_or_else(unknown)?;
    let rest = rest.strip_prefix("dfs.").or_else(|| rest.strip_prefix("blob.")).ok_or_else(unknown)?;
    let cloud = AZURE_CLOUDS.into_iter().find(|known| *known == rest).ok_or_else(unknown)?;
    if account.is_empty() || !account.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
        return Err(unknown());
    }
    Ok(Service::Azure { account: account.into(), cloud })
}

fn decoded(raw: &str) -> Option<String> {
    percent_encoding::percent_decode_str(raw).decode_utf8().ok().map(|text| text.into_owned())
}

/// Free of `.` and `..`; `None` where it leads above the bucket.
fn normalized(key: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in key.split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()?),
            other => parts.push(other),
        }
    }
    Some(parts.join("/"))
}

/// A location that isn't in cloud storage, where only such are expected.
pub(crate) fn outside(table: &crate::TableName) -> Error {
    crate::errors::not_eligible(table, "its log names files outside of its own folder (a shallow clone?), which Databricks alone may read")
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn at(location: &str) -> CloudLocation {
        CloudLocation::parse(location).unwrap().unwrap()
    }

    fn aws(url: &str) -> StorageCredentials {
        let keys = StorageKeys::Aws { access_key_id: "k".into(), secret_access_key: "s".into(), session_token: "t".into() };
        StorageCredentials { url: url.into(), expires: SystemTime::now(), keys }
    }

    #[test]
    fn locations_are_read_as_unity_catalog_writes_them() {
        assert_eq!(at("s3://b/a/t").to_string(), "s3://b/a/t");
        assert_eq!(at("s3a://b/a/t/").to_string(), "s3://b/a/t");
        assert_eq!(at("abfss://c@acct.dfs.core.windows.net/t").to_string(), "abfss://c@acct.dfs.core.windows.net/t");
        assert_eq!(at("gs://b/t").folder_url(), "gs://b/t/");
        for elsewhere in ["file:///t", "dbfs:/t", "t"] {
            assert!(CloudLocation::parse(elsewhere).is_none(), "{elsewhere}");
        }
        for wrong in [
            "s3://b",
            "s3://b/",
            "s3://b//t",
            "s3://b:99/t",
            "s3://b/t?x=1",
            "s3://b/a%2F..",
            "s3://b/a b",
            "abfss://c@acct.dfs.core.windows.net.evil.example/t",
            "abfss://c@evil.example/t",
            "abfss://acct.dfs.core.windows.net/t",
            "r2://b@evil.example/t",
        ] {
            assert!(CloudLocation::parse(wrong).unwrap().is_err(), "{wrong}");
        }
    }

    #[test]
    fn files_are_decoded_once_and_stay_inside() {
        let table = at("s3://b/a/t");
        let relative = |raw: &str| table.file(raw, false);
        assert_eq!(relative("p=x%253A00/f%20g.parquet").unwrap(), "s3://b/a/t/p=x%3A00/f g.parquet");
        assert_eq!(relative("./q/../f").unwrap(), "s3://b/a/t/f");
        assert_eq!(table.file("s3://b/a/t/f", true).unwrap(), "s3://b/a/t/f");
        assert_eq!(table.file("s3a://b/a/t/f", true).unwrap(), "s3://b/a/t/f");
        assert_eq!(table.object("s3://b/a/t/p=x%3A00/f g").unwrap().as_ref(), "a/t/p=x%3A00/f g");
        for outside in ["../u/f", "../../../f", "..%2Fu/f", "../t2/f", "x/../../t2/f", "a//b", ""] {
            assert_eq!(relative(outside), None, "{outside}");
        }
        for outside in ["s3://b/a/t2/f", "s3://c/a/t/f", "s3://b/a/t/%2e%2e/u/f", "gs://b/a/t/f", "https://b/a/t/f", "s3://x@b/a/t/f"] {
            assert_eq!(table.file(outside, true), None, "{outside}");
        }
        for outside in ["s3://b/a/u/f", "s3://c/a/t/f", "s3://b/a/t/../u/f", "/a/t/f"] {
            assert_eq!(table.object(outside), None, "{outside}");
        }
    }

    #[test]
    fn credentials_open_the_place_they_were_vended_for() {
        let table = at("s3://b/a/t");
        for good in ["s3://b/a/t", "s3://b/a/t/", "s3://b/a", "s3a://b/a/t", "s3://b", "s3://b/"] {
            assert_eq!(table.opened_by(&aws(good)), Ok(()), "{good}");
        }
        for bad in ["s3://b/a/t2", "s3://b/a/t/x", "s3://c/a/t", "gs://b/a/t", "", "/a/t"] {
            assert!(table.opened_by(&aws(bad)).is_err(), "{bad}");
        }
        let sas = StorageCredentials { keys: StorageKeys::AzureSas("x".into()), ..aws("s3://b/a/t") };
        assert!(table.opened_by(&sas).unwrap_err().contains("another kind"));
    }
}

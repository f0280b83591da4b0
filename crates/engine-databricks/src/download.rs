//! Reads a link's body from storage, with the link's own headers and nothing of ours: no
//! Authorization, no cookie, no redirect.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use flightpath_types::{Error, Result};
use reqwest::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHORIZATION, RETRY_AFTER};
use url::Url;

use crate::config::Config;
use crate::wire::Link;

pub(crate) struct Storage {
    http: reqwest::Client,
    /// Links must be https unless the workspace itself isn't.
    plain_allowed: bool,
}

/// Why a body wasn't read. Its text names no link.
pub(crate) struct Failed {
    pub reason: String,
    pub wait: Option<Duration>,
}

impl Failed {
    fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), wait: None }
    }
}

impl Storage {
    pub fn new(config: &Config, workspace: &Url) -> Result<Self> {
        let http = reqwest::Client::builder()
            .connect_timeout(config.storage_connect_timeout)
            .read_timeout(config.storage_read_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .user_agent(concat!("flightpath/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| Error::unavailable(format!("can't prepare to read results: {}", e.without_url())))?;
        Ok(Self { http, plain_allowed: workspace.scheme() != "https" })
    }

    pub async fn read(&self, link: &Link, bytes_max: usize) -> Result<Bytes, Failed> {
        let url = Url::parse(&link.external_link).map_err(|_| Failed::new("its link isn't a URL"))?;
        if url.scheme() != "https" && !(self.plain_allowed && url.scheme() == "http") {
            return Err(Failed::new("its link isn't https"));
        }
        let mut response = self.http.get(url).headers(headers(link)?).send().await.map_err(broken)?;
        let status = response.status();
        if !status.is_success() {
            let wait = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.trim().parse().ok()).map(Duration::from_secs);
            return Err(Failed { reason: format!("storage answered with status {}", status.as_u16()), wait });
        }
        let too_large = || Failed::new(format!("it is larger than {bytes_max} bytes"));
        let announced = response.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
        if announced > bytes_max {
            return Err(too_large());
        }
        let mut body = BytesMut::with_capacity(announced);
        while let Some(part) = response.chunk().await.map_err(broken)? {
            if body.len() + part.len() > bytes_max {
                return Err(too_large());
            }
            body.extend_from_slice(&part);
        }
        Ok(body.freeze())
    }
}

fn headers(link: &Link) -> Result<HeaderMap, Failed> {
    let mut headers = HeaderMap::new();
    for (name, value) in link.http_headers.iter().flatten() {
        let parsed = HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_str(value).ok());
        let (name, mut value) = parsed.ok_or_else(|| Failed::new("its link comes with a header that can't be sent"))?;
        if [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE].contains(&name) {
            continue;
        }
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

fn broken(error: reqwest::Error) -> Failed {
    let error = error.without_url();
    Failed::new(if error.is_timeout() {
        "storage didn't answer in time"
    } else if error.is_connect() {
        "storage can't be reached"
    } else {
        "the connection to storage broke"
    })
}

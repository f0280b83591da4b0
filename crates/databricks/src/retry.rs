//! When a call is made again, and after how long.

use std::time::{Duration, Instant, SystemTime};

use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::config::{ClientConfig, Idempotency};
use crate::error::{ApiError, Cause};

/// One call's tries so far.
pub(crate) struct Tries {
    made: u32,
    tries_max: u32,
    started: Instant,
    total_max: Duration,
    backoff_min: Duration,
    backoff_max: Duration,
}

impl Tries {
    pub(crate) fn new(config: &ClientConfig) -> Self {
        Self {
            made: 0,
            tries_max: config.tries_max.max(1),
            started: Instant::now(),
            total_max: config.retry_total_max,
            backoff_min: config.backoff_min,
            backoff_max: config.backoff_max,
        }
    }

    /// How long to wait before the next try, or the failure to report.
    pub(crate) fn next(&mut self, failed: ApiError, idempotency: Idempotency, deadline: Option<Instant>) -> Result<Duration, ApiError> {
        self.made += 1;
        if !may_retry(failed.cause, idempotency) {
            return Err(failed);
        }
        if self.made >= self.tries_max {
            return Err(if self.made > 1 { failed.note(&format!("tried {} times", self.made)) } else { failed });
        }
        let wait = self.wait(failed.cause);
        let next = Instant::now() + wait;
        if next > self.started + self.total_max || deadline.is_some_and(|deadline| next >= deadline) {
            return Err(failed.note("no time is left to try again"));
        }
        Ok(wait)
    }

    fn wait(&self, cause: Cause) -> Duration {
        let doubled = self.backoff_min.saturating_mul(1u32.checked_shl(self.made - 1).unwrap_or(u32::MAX));
        let backoff = doubled.min(self.backoff_max);
        match cause {
            // Spread a little, so that all who were told the same don't come back at once.
            Cause::Status { retry_after: Some(asked), .. } => asked + self.backoff_min.mul_f64(rand::random_range(0.0..0.5)),
            _ => backoff.mul_f64(rand::random_range(0.5..=1.0)).max(self.backoff_min),
        }
    }
}

fn may_retry(cause: Cause, idempotency: Idempotency) -> bool {
    match (cause, idempotency) {
        (Cause::NotSent { retry }, _) => retry,
        (Cause::Broken, Idempotency::Safe) => true,
        (Cause::Broken, Idempotency::ExecuteOnce) => false,
        (Cause::Answer, _) => false,
        (Cause::Status { code: 429, .. }, _) => true,
        (Cause::Status { code, .. }, Idempotency::Safe) => code >= 500,
        (Cause::Status { code, retry_after }, Idempotency::ExecuteOnce) => code == 503 && retry_after.is_some(),
    }
}

/// `Retry-After` as seconds from now, whichever of its two forms was sent.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        // A year is as good as never and can be added to a clock.
        return Some(Duration::from_secs(seconds.min(365 * 86_400)));
    }
    let at = httpdate::parse_http_date(text).ok()?;
    Some(at.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use flightpath_types::Error;
    use reqwest::header::HeaderValue;

    use super::*;
    use crate::config::Auth;

    fn tries() -> Tries {
        let host = "https://h.test".parse().unwrap();
        Tries::new(&ClientConfig::new(host, Auth::PassThrough))
    }

    fn failed(cause: Cause) -> ApiError {
        ApiError::new(Error::unavailable("x"), cause)
    }

    fn status(code: u16, seconds: Option<u64>) -> Cause {
        Cause::Status { code, retry_after: seconds.map(Duration::from_secs) }
    }

    #[test]
    fn executing_is_only_retried_when_it_certainly_did_not_happen() {
        use Idempotency::{ExecuteOnce, Safe};
        let cases = [
            (Cause::NotSent { retry: true }, true, true),
            (Cause::NotSent { retry: false }, false, false),
            (Cause::Broken, true, false),
            (Cause::Answer, false, false),
            (status(429, None), true, true),
            (status(503, Some(1)), true, true),
            (status(503, None), true, false),
            (status(500, Some(1)), true, false),
            (status(504, None), true, false),
            (status(400, None), false, false),
            (status(404, None), false, false),
        ];
        for (cause, safe, once) in cases {
            assert_eq!(may_retry(cause, Safe), safe, "{cause:?}");
            assert_eq!(may_retry(cause, ExecuteOnce), once, "{cause:?}");
        }
    }

    #[test]
    fn waits_grow_and_end() {
        let mut tries = tries();
        for most in [1.0f64, 2.0, 4.0, 8.0] {
            let wait = tries.next(failed(Cause::Broken), Idempotency::Safe, None).unwrap().as_secs_f64();
            assert!((most / 2.0).max(1.0) <= wait && wait <= most, "{wait} for {most}");
        }
        let end = tries.next(failed(Cause::Broken), Idempotency::Safe, None).unwrap_err();
        assert_eq!(end.to_string(), "x; tried 5 times");
    }

    #[test]
    fn no_wait_goes_past_the_deadline_or_the_limit() {
        let soon = Some(Instant::now() + Duration::from_millis(10));
        assert!(tries().next(failed(Cause::Broken), Idempotency::Safe, soon).is_err());
        assert!(tries().next(failed(status(429, Some(901))), Idempotency::Safe, None).is_err());
        let wait = tries().next(failed(status(429, Some(7))), Idempotency::Safe, None).unwrap();
        assert!(wait >= Duration::from_secs(7) && wait < Duration::from_secs(8));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_str(text).unwrap());
            retry_after(&headers)
        };
        assert_eq!(of("12"), Some(Duration::from_secs(12)));
        assert_eq!(of("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(of("soon"), None);
        assert!(of(&u64::MAX.to_string()).is_some());
        let later = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
        assert!(of(&later).unwrap() > Duration::from_secs(90));
    }
}

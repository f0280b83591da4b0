//! Failures on demand. Each fault says where it strikes and how often; the first that fits a call
//! is used up by it. Without faults the simulation behaves.

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// One kind of failure. Wire effects strike a call; the last five strike a statement.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fault {
    /// A path prefix (`/api/2.0/sql`) or a kind of call: `execute`, `poll`, `chunk`, `cancel`, `storage`,
    /// `warehouses`, `history`, `unity`, `permissions`, `credentials`, `oauth`, `identity`, `objects`. Without it: every call.
    #[serde(rename = "match")]
    pub target: Option<String>,
    /// Only statements whose text holds this; for effects on statements.
    pub statement_contains: Option<String>,
    /// Calls it strikes; 0: until it is removed. Default 1.
    pub times: Option<u32>,
    /// Fitting calls that pass before it strikes.
    pub skip: u32,
    /// Answers with this HTTP status...
    pub status: Option<u16>,
    pub error_code: Option<String>,
    /// ...and this `Retry-After`.
    pub retry_after: Option<String>,
    /// The call does its work first; only its answer is replaced.
    pub after_execution: bool,
    pub delay_ms: u64,
    /// Half of the promised body, then the connection breaks.
    pub drop_connection_mid_body: bool,
    /// Half of the body, as if it were all.
    pub truncate_body: bool,
    /// The manifest promises one row more than there is.
    pub wrong_row_count: bool,
    /// The statement runs until it's cancelled.
    pub never_finish: bool,
    /// A cancel is answered with success and does nothing.
    pub lose_cancel: bool,
    /// The statement's next links have expired when they're handed out.
    pub expire_links: bool,
}

impl Fault {
    fn on_wire(&self) -> bool {
        self.status.is_some() || self.delay_ms > 0 || self.drop_connection_mid_body || self.truncate_body
    }

    fn fits_call(&self, kind: &str, path: &str) -> bool {
        match &self.target {
            None => true,
            Some(prefix) if prefix.starts_with('/') => path.starts_with(prefix.as_str()),
            Some(wanted) => wanted == kind,
        }
    }
}

/// Effects on statements, one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    WrongRowCount,
    NeverFinish,
    LoseCancel,
    ExpireLinks,
}

impl Effect {
    fn of(self, fault: &Fault) -> bool {
        match self {
            Effect::WrongRowCount => fault.wrong_row_count,
            Effect::NeverFinish => fault.never_finish,
            Effect::LoseCancel => fault.lose_cancel,
            Effect::ExpireLinks => fault.expire_links,
        }
    }
}

struct Armed {
    fault: Fault,
    skip: u32,
    /// `None`: without end.
    left: Option<u32>,
}

#[derive(Default)]
pub(crate) struct Faults {
    armed: Mutex<Vec<Armed>>,
}

impl Faults {
    pub fn add(&self, fault: Fault) {
        let left = match fault.times {
            None => Some(1),
            Some(0) => None,
            Some(times) => Some(times),
        };
        self.armed.lock().push(Armed { skip: fault.skip, left, fault });
    }

    pub fn clear(&self) {
        self.armed.lock().clear();
    }

    pub fn all(&self) -> Vec<Fault> {
        self.armed.lock().iter().map(|a| a.fault.clone()).collect()
    }

    /// The fault that strikes this call, if one does.
    pub fn call(&self, kind: &str, path: &str) -> Option<Fault> {
        self.strike(|fault| fault.on_wire() && fault.fits_call(kind, path))
    }

    pub fn statement(&self, effect: Effect, text: &str) -> bool {
        let fits = |fault: &Fault| effect.of(fault) && fault.statement_contains.as_ref().is_none_or(|part| text.contains(part.as_str()));
        self.strike(fits).is_some()
    }

    fn strike(&self, fits: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let mut armed = self.armed.lock();
        let mut struck = None;
        for one in armed.iter_mut().filter(|one| fits(&one.fault)) {
            if one.skip > 0 {
                one.skip -= 1;
                continue;
            }
            if let Some(left) = &mut one.left {
                *left -= 1;
            }
            struck = Some(one.fault.clone());
            break;
        }
        armed.retain(|one| one.left != Some(0));
        struck
    }
}

/// The kind of a call by method and path; `other` for what no fault names.
pub(crate) fn kind(method: &str, path: &str) -> &'static str {
    let sql = path.strip_prefix("/api/2.0/sql/").unwrap_or_default();
    let unity = path.strip_prefix("/api/2.1/unity-catalog/").unwrap_or_default();
    match (method, sql) {
        ("POST", "statements" | "statements/") => return "execute",
        ("POST", rest) if rest.starts_with("statements/") && rest.ends_with("/cancel") => return "cancel",
        ("GET", rest) if rest.starts_with("statements/") && rest.contains("/result/chunks/") => return "chunk",
        ("GET", rest) if rest.starts_with("statements/") => return "poll",
        (_, rest) if rest.starts_with("warehouses") => return "warehouses",
        (_, rest) if rest.starts_with("history/") => return "history",
        _ => {}
    }
    match unity {
        "" => {}
        rest if rest.starts_with("temporary-table-credentials") => return "credentials",
        rest if rest.starts_with("effective-permissions") || rest.starts_with("policies") => return "permissions",
        _ => return "unity",
    }
    match path {
        path if path.starts_with("/storage/") => "storage",
        path if path.starts_with("/objects/") => "objects",
        path if path.starts_with("/oidc/") => "oauth",
        path if path.starts_with("/api/2.0/preview/scim/") => "identity",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_strikes_its_calls_as_often_as_it_says() {
        let faults = Faults::default();
        faults.add(Fault { target: Some("execute".into()), status: Some(503), times: Some(2), skip: 1, ..Default::default() });
        let hits: Vec<bool> = (0..4).map(|_| faults.call("execute", "/api/2.0/sql/statements").is_some()).collect();
        assert_eq!(hits, [false, true, true, false]);
        assert!(faults.all().is_empty());
    }

    #[test]
    fn kinds_are_told_by_method_and_path() {
        assert_eq!(kind("POST", "/api/2.0/sql/statements"), "execute");
        assert_eq!(kind("GET", "/api/2.0/sql/statements/x/result/chunks/1"), "chunk");
        assert_eq!(kind("GET", "/api/2.0/sql/statements/x"), "poll");
        assert_eq!(kind("POST", "/api/2.0/sql/statements/x/cancel"), "cancel");
        assert_eq!(kind("GET", "/api/2.1/unity-catalog/tables/a.b.c"), "unity");
        assert_eq!(kind("GET", "/storage/x"), "storage");
    }
}

//! Who asks, as authentication found it: what the front doors of one listener share about a call.
//! Whoever accepts connections puts it into a request's extensions; a front door that finds none
//! refuses the call.

use std::time::Instant;

use flightpath_types::{Principal, SecretToken, Session};

use crate::port::{Request, SessionHandle};

/// One authenticated call.
#[derive(Debug, Clone)]
pub struct Caller {
    pub principal: Principal,
    pub session: SessionHandle,
    /// The session's settings with this call's own on top.
    pub settings: Session,
    /// The credential the caller showed, for engines that act in its name.
    pub token: Option<SecretToken>,
    /// The sooner of what the client's transport and the session allow.
    pub deadline: Option<Instant>,
    /// W3C trace context.
    pub traceparent: Option<String>,
}

impl Caller {
    /// A statement of this caller.
    pub fn request(&self, text: impl Into<String>) -> Request {
        Request {
            text: text.into(),
            params: None,
            session: self.session.clone(),
            settings: self.settings.clone(),
            token: self.token.clone(),
            deadline: self.deadline,
            traceparent: self.traceparent.clone(),
            prepared_in: None,
        }
    }
}

//! The outermost layer: every call but the handshake and what is declared open is authenticated
//! here, before its body is read, and ends here with DEADLINE_EXCEEDED when its deadline passes before it was answered.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use flightpath_types::{Error, ErrorKind};
use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service;

use crate::door::{Caller, Door, SESSION_COOKIE, SessionOrigin, session_cookie};
use crate::message::Handoff;
use crate::status::status_of;

/// What paths of Flight's own calls begin with.
pub(crate) const FLIGHT_PATHS: &str = "/arrow.flight.protocol.FlightService/";
const HANDSHAKE: &str = "Handshake";

/// Put into a response's extensions by a handler that closed the session.
#[derive(Clone, Copy)]
pub(crate) struct SessionClosed;

#[derive(Clone)]
pub(crate) struct Gate<S> {
    inner: S,
    door: Arc<Door>,
}

impl<S> Gate<S> {
    pub fn new(inner: S, door: Arc<Door>) -> Self {
        Self { inner, door }
    }
}

impl<S> Service<Request<Body>> for Gate<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The clone takes this one's place; the one that was polled ready is used.
        let clone = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, clone);
        Box::pin(pass(inner, self.door.clone(), request))
    }
}

async fn pass<S>(mut inner: S, door: Arc<Door>, mut request: Request<Body>) -> Result<Response<Body>, Infallible>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let of_flight = request.uri().path().strip_prefix(FLIGHT_PATHS);
    if of_flight == Some(HANDSHAKE) || door.is_open(request.uri().path()) {
        return inner.call(request).await;
    }
    let of_flight = of_flight.is_some();
    let caller = match door.admit(request.headers(), request.extensions()).await {
        Ok(caller) => Arc::new(caller),
        Err(error) => return Ok(status_of(&error).into_http()),
    };
    let has_cookie = session_cookie(request.headers()).is_some();
    if of_flight {
        request.extensions_mut().insert(caller.clone());
    } else {
        request.extensions_mut().insert(caller.shared());
    }
    let call = inner.call(request);
    let mut response = match caller.deadline() {
        None => call.await?,
        Some(deadline) => match tokio::time::timeout_at(deadline.into(), call).await {
            Ok(response) => response?,
            Err(_) => status_of(&Error::new(ErrorKind::DeadlineExceeded, "the deadline passed before the call was answered")).into_http(),
        },
    };
    // tonic's code for a message over the decode limit; nothing here uses that code.
    if let Some(status) = response.extensions().get::<Status>().filter(|status| status.code() == Code::OutOfRange) {
        response = match of_flight {
            true => too_large(door.config.limits.request_bytes).into_http(),
            // Others have limits of their own, which tonic's words name.
            false => Status::resource_exhausted(status.message()).into_http(),
        };
    }
    if let Some(body) = response.extensions_mut().remove::<Handoff>().and_then(Handoff::into_body) {
        *response.body_mut() = body;
    }
    set_cookie(&mut response, &door, &caller, has_cookie);
    Ok(response)
}

/// The refusal of a message over the limit.
pub(crate) fn too_large(limit_bytes: usize) -> Status {
    status_of(&Error::new(
        ErrorKind::ResourceExhausted,
        format!("the request is too large: a message may have at most {} MB", limit_bytes >> 20),
    ))
}

fn set_cookie(response: &mut Response<Body>, door: &Door, caller: &Caller, has_cookie: bool) {
    let cookie = if response.extensions().get::<SessionClosed>().is_some() {
        format!("{SESSION_COOKIE}=; Path=/; Max-Age=0")
    } else if has_cookie || caller.session_origin == SessionOrigin::Cookie {
        return;
    } else {
        door.cookie_for(caller)
    };
    if let Ok(value) = HeaderValue::from_str(&cookie) {
        response.headers_mut().append(http::header::SET_COOKIE, value);
    }
}

//! The client against a scripted fake of Databricks on 127.0.0.1: what is tried again, whose token
//! is sent, and what never shows in a message or a log.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Response};
use flightpath_databricks::{ApiError, Auth, BreakerState, Call, Client, ClientConfig, Idempotency, Identity};
use flightpath_types::{ErrorKind, Principal};
use parking_lot::Mutex;
use secrecy::SecretString;
use serde_json::{Value, json};

const PAT: &str = "dapi-very-secret";

/// One scripted answer.
enum Answer {
    Json(u16, Value),
    With(u16, &'static str, &'static str),
    /// The head arrives, the body breaks.
    Broken,
    Never,
    Raw(String),
}

struct Seen {
    path: String,
    headers: HeaderMap,
    body: String,
}

#[derive(Default)]
struct Fake {
    script: Mutex<VecDeque<Answer>>,
    seen: Mutex<Vec<Seen>>,
    tokens: Mutex<VecDeque<Value>>,
}

impl Fake {
    async fn start(script: impl IntoIterator<Item = Answer>) -> (Arc<Self>, url::Url) {
        let fake = Arc::new(Fake { script: Mutex::new(script.into_iter().collect()), ..Default::default() });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let app = axum::Router::new().fallback(answer).with_state(fake.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        (fake, url)
    }

    fn calls(&self, path: &str) -> usize {
        self.seen.lock().iter().filter(|seen| seen.path == path).count()
    }

    fn bearer(&self, position: usize) -> String {
        let seen = self.seen.lock();
        let call = seen.iter().filter(|seen| seen.path == "/x").nth(position).unwrap();
        call.headers["authorization"].to_str().unwrap().to_string()
    }
}

async fn answer(State(fake): State<Arc<Fake>>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = String::from_utf8(axum::body::to_bytes(body, 1 << 20).await.unwrap().to_vec()).unwrap();
    let path = head.uri.path().to_string();
    fake.seen.lock().push(Seen { path: path.clone(), headers: head.headers.clone(), body });
    let respond = |status: u16, body: String| Response::builder().status(status).body(Body::from(body)).unwrap();
    if path.ends_with("/oauth-authorization-server") {
        let host = head.headers["host"].to_str().unwrap();
        return respond(200, json!({"token_endpoint": format!("http://{host}/oidc/v1/token")}).to_string());
    }
    if path.ends_with("/token") {
        let token = fake.tokens.lock().pop_front().unwrap_or(json!({"access_token": "fetched", "expires_in": 3600}));
        // Time for others to come and wait too.
        tokio::task::yield_now().await;
        return respond(if token.get("error").is_some() { 400 } else { 200 }, token.to_string());
    }
    let next = fake.script.lock().pop_front().unwrap_or(Answer::Json(200, json!({"ok": true})));
    match next {
        Answer::Json(status, body) => respond(status, body.to_string()),
        Answer::Raw(body) => respond(200, body),
        Answer::With(status, name, value) => Response::builder().status(status).header(name, value).body(Body::empty()).unwrap(),
        Answer::Broken => {
            let parts = [Ok(Bytes::from_static(b"{\"ok\"")), Err(std::io::Error::other("broken on purpose"))];
            Response::new(Body::from_stream(futures::stream::iter(parts)))
        }
        Answer::Never => std::future::pending().await,
    }
}

fn config(url: &url::Url, auth: Auth) -> ClientConfig {
    ClientConfig { backoff_min: Duration::from_millis(1), backoff_max: Duration::from_millis(2), ..ClientConfig::new(url.clone(), auth) }
}

fn pat(url: &url::Url) -> Client {
    Client::new(config(url, Auth::Pat(PAT.into()))).unwrap()
}

fn who(name: &str, token: Option<&str>) -> Identity {
    Identity::new(Principal::new(name), token.map(SecretString::from))
}

fn anyone() -> Identity {
    who("anyone", None)
}

async fn post(client: &Client, idempotency: Idempotency) -> Result<Value, ApiError> {
    client.call(&anyone(), Call::post("/x", &json!({"a": 1}), idempotency).unwrap()).await
}

#[tokio::test]
async fn executing_is_tried_again_only_when_it_was_not_done() {
    let cases: [(Answer, usize, bool); 7] = [
        (Answer::Raw("{\"ok\": tr".into()), 1, true),
        (Answer::With(429, "retry-after", "0"), 2, false),
        (Answer::With(429, "x", "y"), 2, false),
        (Answer::With(503, "retry-after", "0"), 2, false),
        (Answer::With(503, "x", "y"), 1, true),
        (Answer::Json(500, json!({})), 1, true),
        (Answer::Broken, 1, true),
    ];
    for (number, (answer, calls, unknown)) in cases.into_iter().enumerate() {
        let (fake, url) = Fake::start([answer]).await;
        let outcome = post(&pat(&url), Idempotency::ExecuteOnce).await;
        assert_eq!(fake.calls("/x"), calls, "case {number}");
        assert_eq!(outcome.err().is_some_and(|e| e.outcome_unknown()), unknown, "case {number}");
    }
}

#[tokio::test]
async fn safe_calls_are_tried_again_but_not_after_the_callers_mistake() {
    let cut_short = Answer::Raw("{\"ok\": tr".into());
    let script = [Answer::With(503, "x", "y"), Answer::Broken, cut_short, Answer::With(429, "retry-after", "0")];
    let (fake, url) = Fake::start(script).await;
    assert_eq!(post(&pat(&url), Idempotency::Safe).await.unwrap(), json!({"ok": true}));
    assert_eq!(fake.calls("/x"), 5);

    let (fake, url) = Fake::start([Answer::Json(400, json!({"error_code": "INVALID_PARAMETER_VALUE", "message": "no"}))]).await;
    let failed = post(&pat(&url), Idempotency::Safe).await.unwrap_err();
    assert_eq!((failed.kind(), failed.error_code(), fake.calls("/x")), (ErrorKind::InvalidArgument, Some("INVALID_PARAMETER_VALUE"), 1));

    let (fake, url) = Fake::start((0..9).map(|_| Answer::Json(500, json!({})))).await;
    assert_eq!(post(&pat(&url), Idempotency::Safe).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(fake.calls("/x"), 5);
}

#[tokio::test]
async fn a_connection_never_made_is_no_execution() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: url::Url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    drop(listener);
    let failed = post(&pat(&url), Idempotency::ExecuteOnce).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Unavailable);
    assert!(!failed.outcome_unknown() && failed.to_string().ends_with("tried 5 times"), "{failed}");
}

#[tokio::test]
async fn deadlines_and_stops_end_a_call() {
    let (fake, url) = Fake::start([Answer::Never, Answer::With(429, "retry-after", "3600"), Answer::With(429, "retry-after", "0")]).await;
    let client = pat(&url);
    let soon = Instant::now() + Duration::from_millis(50);
    let call = Call::post("/x", &json!({}), Idempotency::ExecuteOnce).unwrap().until(Some(soon));
    let failed = client.call::<Value>(&anyone(), call).await.unwrap_err();
    assert_eq!((failed.kind(), failed.outcome_unknown()), (ErrorKind::DeadlineExceeded, true));

    let later = Instant::now() + Duration::from_secs(60);
    let call = Call::get("/x", &[]).until(Some(later));
    let failed = client.call::<Value>(&anyone(), call).await.unwrap_err();
    assert_eq!((failed.kind(), failed.as_error().class()), (ErrorKind::ResourceExhausted, Some("TOO_MANY_REQUESTS")));

    let asked = std::sync::atomic::AtomicBool::new(false);
    let stop = || asked.swap(true, std::sync::atomic::Ordering::SeqCst);
    let mut call = Call::get("/x", &[]);
    call.stop = Some(&stop);
    assert_eq!(client.call::<Value>(&anyone(), call).await.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(fake.calls("/x"), 3);
}

#[tokio::test]
async fn machine_tokens_are_fetched_once_and_anew_when_refused() {
    let (fake, url) = Fake::start([]).await;
    let auth = Auth::OAuthM2m { client_id: "id".into(), client_secret: "m2m-secret".into() };
    let client = Arc::new(Client::new(config(&url, auth.clone())).unwrap());
    let calls = (0..20).map(|n| {
        let client = client.clone();
        async move { client.get::<Value>(&who(&format!("user{n}"), None), "/x", &[], None).await }
    });
    for outcome in futures::future::join_all(calls).await {
        outcome.unwrap();
    }
    assert_eq!((fake.calls("/oidc/v1/token"), fake.bearer(0).as_str()), (1, "Bearer fetched"));
    {
        let seen = fake.seen.lock();
        let asked = seen.iter().find(|seen| seen.path == "/oidc/v1/token").unwrap();
        assert_eq!(asked.headers["authorization"], "Basic aWQ6bTJtLXNlY3JldA==");
        assert_eq!(asked.body, "grant_type=client_credentials&scope=all-apis");
    }

    fake.script.lock().push_back(Answer::Json(401, json!({"message": "expired"})));
    fake.tokens.lock().push_back(json!({"access_token": "second", "expires_in": 3600}));
    client.get::<Value>(&anyone(), "/x", &[], None).await.unwrap();
    assert_eq!((fake.calls("/oidc/v1/token"), fake.bearer(21).as_str()), (2, "Bearer second"));

    fake.script.lock().push_back(Answer::Json(401, json!({})));
    let failed = post(&client, Idempotency::ExecuteOnce).await.unwrap_err();
    assert_eq!((failed.kind(), fake.calls("/x")), (ErrorKind::Unauthenticated, 23), "executing isn't sent twice");

    let (fake, url) = Fake::start([]).await;
    fake.tokens.lock().push_back(json!({"access_token": "short", "expires_in": 0}));
    let client = Client::new(config(&url, auth)).unwrap();
    client.get::<Value>(&anyone(), "/x", &[], None).await.unwrap();
    client.get::<Value>(&anyone(), "/x", &[], None).await.unwrap();
    assert_eq!((fake.bearer(0).as_str(), fake.bearer(1).as_str()), ("Bearer short", "Bearer fetched"));
}

#[tokio::test]
async fn users_tokens_are_exchanged_or_sent_on_and_never_shared() {
    let (fake, url) = Fake::start([]).await;
    fake.tokens.lock().extend([json!({"access_token": "a", "expires_in": 3600}), json!({"access_token": "b", "expires_in": 3600})]);
    let client = Client::new(config(&url, Auth::TokenExchange)).unwrap();
    for jwt in ["jwt1", "jwt2", "jwt1"] {
        client.get::<Value>(&who("same name", Some(jwt)), "/x", &[], None).await.unwrap();
    }
    assert_eq!([0, 1, 2].map(|n| fake.bearer(n)), ["Bearer a", "Bearer b", "Bearer a"]);
    let body = fake.seen.lock().iter().find(|seen| seen.path == "/oidc/v1/token").unwrap().body.clone();
    assert!(body.contains("token-exchange&subject_token=jwt1"), "{body}");
    let refused = client.get::<Value>(&anyone(), "/x", &[], None).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unauthenticated);

    let (fake, url) = Fake::start([]).await;
    let client = Client::new(config(&url, Auth::PassThrough)).unwrap();
    client.get::<Value>(&who("u", Some("own")), "/x", &[], None).await.unwrap();
    assert_eq!(fake.bearer(0), "Bearer own");
    assert!(client.get::<Value>(&anyone(), "/x", &[], None).await.is_err());

    let (fake, url) = Fake::start([]).await;
    let auth = Auth::AzureServicePrincipal {
        tenant_id: "tenant".into(),
        client_id: "id".into(),
        client_secret: "azure".into(),
        login_host: url.clone(),
    };
    Client::new(config(&url, auth)).unwrap().get::<Value>(&anyone(), "/x", &[], None).await.unwrap();
    assert_eq!((fake.calls("/tenant/oauth2/v2.0/token"), fake.bearer(0).as_str()), (1, "Bearer fetched"));
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_left_alone() {
    let (fake, url) = Fake::start((0..3).map(|_| Answer::Json(500, json!({})))).await;
    let config = ClientConfig { breaker_failures: 3, breaker_open: Duration::from_secs(600), ..config(&url, Auth::Pat(PAT.into())) };
    let client = Client::new(config).unwrap();
    assert_eq!(post(&client, Idempotency::Safe).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(client.breaker_state(), BreakerState::Open);
    let failed = post(&client, Idempotency::ExecuteOnce).await.unwrap_err();
    assert!(!failed.outcome_unknown());
    assert_eq!(fake.calls("/x"), 3);
}

#[tokio::test]
async fn answers_are_bounded_and_redirects_are_not_followed() {
    let (fake, url) = Fake::start([Answer::Raw(format!("\"{}\"", "x".repeat(5_000))), Answer::With(302, "location", "/y")]).await;
    let client = Client::new(ClientConfig { answer_bytes_max: 1_000, ..config(&url, Auth::Pat(PAT.into())) }).unwrap();
    let large = post(&client, Idempotency::Safe).await.unwrap_err();
    assert_eq!((large.kind(), large.as_error().class()), (ErrorKind::ResourceExhausted, Some("ANSWER_TOO_LARGE")));
    assert_eq!(post(&client, Idempotency::Safe).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(fake.calls("/y"), 0);
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What all tests of this program log. One subscriber for all threads: with one of its own, a test
/// misses what another has found nobody to be interested in.
fn captured() -> Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    let start = || {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
        tracing::subscriber::set_global_default(subscriber.with_writer(move || writer.clone()).finish()).unwrap();
        log
    };
    LOG.get_or_init(start).clone()
}

#[tokio::test]
async fn secrets_reach_no_message_and_no_log() {
    let log = captured();

    let echo = json!({"error_code": "BAD", "message": format!("you sent {PAT} to https://h.test/a?sig=query-secret")});
    let script = [
        Answer::Json(500, echo.clone()),
        Answer::Broken,
        Answer::Json(400, echo),
        Answer::Raw("{\"access_key\": \"answer-secret\"".into()),
        Answer::Json(200, json!({"secret": ["answer-secret"]})),
    ];
    let (_fake, url) = Fake::start(script).await;
    let client = pat(&url);
    let query = [("token", "query-secret".to_string())];
    let mut messages = Vec::new();
    for _ in 0..3 {
        let failed = client.get::<Vec<u32>>(&anyone(), "/x", &query, None).await.unwrap_err();
        messages.push(format!("{failed} {failed:?}"));
    }
    let auth = Auth::OAuthM2m { client_id: "id".into(), client_secret: "m2m-secret".into() };
    let (fake, url) = Fake::start([]).await;
    fake.tokens.lock().push_back(json!({"error": "invalid_client", "error_description": "not m2m-secret"}));
    let client = Client::new(config(&url, auth.clone())).unwrap();
    let failed = client.get::<Value>(&anyone(), "/x", &[], None).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Unauthenticated);
    messages.push(format!("{failed:?} {auth:?} {:?}", who("u", Some("user-secret"))));

    let logged = String::from_utf8(log.0.lock().clone()).unwrap();
    assert!(logged.contains("asked again"), "the log was captured");
    for text in messages.iter().chain([&logged]) {
        for secret in [PAT, "query-secret", "answer-secret", "m2m-secret", "user-secret"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

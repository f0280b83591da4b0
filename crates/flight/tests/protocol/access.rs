//! Who may come in, and how the server ends.

use std::sync::Arc;
use std::time::Duration;

use argon2::{Algorithm, Argon2, Params, PasswordHasher, Version};
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{BasicAuth, Criteria, Empty, FlightData, HandshakeRequest, Ticket};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use flightpath_flight::{Auth, Config, Lifetimes, Limits, OutsideTokens, StaticUser, Tls, TokenCheck, serve};
use flightpath_types::{Error, ErrorKind, Principal, SecretToken};
use futures::TryStreamExt;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};

use crate::fake::FakeQueries;
use crate::{Client, TestServer, act, info, query, statement, ticket_of, with_header};

fn users() -> Config {
    let cheap = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(8, 1, 1, None).unwrap());
    let hash = |password: &str| Some(cheap.hash_password(password.as_bytes()).unwrap().to_string());
    Config {
        auth: Auth::Users(vec![
            StaticUser { name: "ann".into(), password_hash: hash("secret"), tokens: vec!["anns-static-token".into()] },
            StaticUser { name: "bob".into(), password_hash: hash("other"), tokens: vec![] },
        ]),
        ..Config::default()
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

/// A handshake with a header; the token that came back.
async fn log_in(client: &mut Client, authorization: &str) -> Result<String, Status> {
    let messages = futures::stream::iter([HandshakeRequest::default()]);
    let response = client.handshake(with_header(messages, "authorization", authorization)).await?;
    Ok(response.metadata().get("authorization").expect("a token").to_str().unwrap().to_string())
}

async fn run_as(client: &mut Client, authorization: &str, text: &str) -> Result<usize, Status> {
    let info = client.get_flight_info(with_header(statement(text), "authorization", authorization)).await?.into_inner();
    let get = with_header(ticket_of(&info), "authorization", authorization);
    let messages: Vec<FlightData> = client.do_get(get).await?.into_inner().try_collect().await?;
    Ok(messages.len())
}

#[tokio::test]
async fn every_method_refuses_a_call_without_credentials() {
    let server = TestServer::start(users()).await;
    let mut c = server.client().await;
    let mut statuses = vec![
        ("GetFlightInfo", c.get_flight_info(statement("SELECT 1")).await.err()),
        ("PollFlightInfo", c.poll_flight_info(statement("SELECT 1")).await.err()),
        ("GetSchema", c.get_schema(statement("SELECT 1")).await.err()),
        ("DoGet", c.do_get(Ticket::default()).await.err()),
        ("DoPut", c.do_put(futures::stream::iter([FlightData::default()])).await.err()),
        ("DoExchange", c.do_exchange(futures::stream::iter([FlightData::default()])).await.err()),
        ("ListFlights", c.list_flights(Criteria::default()).await.err()),
        ("ListActions", c.list_actions(Empty {}).await.err()),
        ("Handshake", c.handshake(futures::stream::iter([HandshakeRequest::default()])).await.err()),
    ];
    for action in ["GetSessionOptions", "SetSessionOptions", "CloseSession", "CreatePreparedStatement", "CancelFlightInfo", "nosuch"] {
        statuses.push((action, act(&mut c, action, Bytes::new()).await.err()));
    }
    for header in ["Bearer None", "Bearer ", "Bearer wrong", "Basic ???", "Digest x", "Bearer fp1.AAAA"] {
        statuses.push((header, c.get_flight_info(with_header(statement("SELECT 1"), "authorization", header)).await.err()));
    }
    for (what, status) in statuses {
        assert_eq!(status.map(|s| s.code()), Some(Code::Unauthenticated), "{what}");
    }
}

#[tokio::test]
async fn basic_bearer_and_both_handshakes_lead_in() {
    let server = TestServer::start(users()).await;
    let mut client = server.client().await;
    assert_eq!(run_as(&mut client, &basic("ann", "secret"), "SELECT 1").await.unwrap(), 2);
    assert_eq!(run_as(&mut client, "Bearer anns-static-token", "SELECT 1").await.unwrap(), 2);
    for credentials in [basic("ann", "secret"), "Bearer anns-static-token".into()] {
        let token = log_in(&mut client, &credentials).await.unwrap();
        assert_eq!(run_as(&mut client, &token, "SELECT 1").await.unwrap(), 2);
    }
    assert_eq!(server.queries.last_settings.lock().as_ref().unwrap().principal.as_str(), "ann");

    let payload = BasicAuth { username: "bob".into(), password: "other".into() }.encode_to_vec().into();
    let messages = futures::stream::iter([HandshakeRequest { protocol_version: 0, payload }]);
    let mut answers = client.handshake(messages).await.unwrap().into_inner();
    let token = answers.message().await.unwrap().unwrap().payload;
    let mut request = Request::new(statement("SELECT 1"));
    request.metadata_mut().insert_bin("auth-token-bin", tonic::metadata::MetadataValue::from_bytes(&token));
    client.get_flight_info(request).await.unwrap();
    assert_eq!(server.queries.last_settings.lock().as_ref().unwrap().principal.as_str(), "bob");
}

#[tokio::test]
async fn tokens_of_handshakes_are_sessions_of_their_own_and_end_with_them() {
    let server = TestServer::start(users()).await;
    let mut client = server.client().await;
    let first = log_in(&mut client, &basic("ann", "secret")).await.unwrap();
    let second = log_in(&mut client, &basic("ann", "secret")).await.unwrap();
    run_as(&mut client, &first, "SET tag = first").await.unwrap();
    let tag = |server: &TestServer| server.queries.last_settings.lock().as_ref().unwrap().get("tag").unwrap();
    // The same session over another connection, another one by another token.
    run_as(&mut server.client().await, &first, "SELECT 1").await.unwrap();
    assert_eq!(tag(&server), "first");
    run_as(&mut client, &second, "SELECT 1").await.unwrap();
    assert_eq!(tag(&server), "");
    let close = arrow_flight::Action { r#type: "CloseSession".into(), body: Bytes::new() };
    client.do_action(with_header(close, "authorization", &first)).await.unwrap();
    assert_eq!(run_as(&mut client, &first, "SELECT 1").await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(run_as(&mut client, &second, "SELECT 1").await.unwrap(), 2);
}

#[tokio::test]
async fn a_handshake_by_bearer_keeps_the_callers_token_with_its_session() {
    let server = TestServer::start(users()).await;
    let mut client = server.client().await;
    let token = |server: &TestServer| server.queries.last_token.lock().as_ref().map(|t| t.expose().to_string());
    let by_token = log_in(&mut client, "Bearer anns-static-token").await.unwrap();
    run_as(&mut server.client().await, &by_token, "SELECT 1").await.unwrap();
    assert_eq!(token(&server).as_deref(), Some("anns-static-token"));
    // A token of ours, changed for another one of ours, is the same caller still.
    let again = log_in(&mut client, &by_token).await.unwrap();
    run_as(&mut client, &again, "SELECT 1").await.unwrap();
    assert_eq!(token(&server).as_deref(), Some("anns-static-token"));
    let by_password = log_in(&mut client, &basic("ann", "secret")).await.unwrap();
    run_as(&mut client, &by_password, "SELECT 1").await.unwrap();
    assert_eq!(token(&server), None);
}

#[tokio::test]
async fn a_session_that_was_dropped_with_its_settings_is_an_error_to_whoever_comes_back() {
    let limits = Limits { sessions: 1, ..Limits::default() };
    let lifetimes = Lifetimes { session_idle: Duration::ZERO, ..Lifetimes::default() };
    let server = TestServer::start(Config { limits, lifetimes, ..users() }).await;
    let mut client = server.client().await;
    let ann = log_in(&mut client, &basic("ann", "secret")).await.unwrap();
    run_as(&mut client, &ann, "SET tag = mine").await.unwrap();
    server.queries.forget();
    // Only one session has room here.
    run_as(&mut client, "Bearer anns-static-token", "SET tag = static").await.unwrap();
    let lost = run_as(&mut client, &ann, "SELECT 1").await.unwrap_err();
    assert_eq!(lost.code(), Code::Unauthenticated);
    assert!(lost.message().contains("settings were dropped; connect again"), "{}", lost.message());
    assert_eq!(run_as(&mut client, &ann, "SELECT 1").await.unwrap_err().code(), Code::Unauthenticated);
    server.queries.forget();
    let bob = log_in(&mut client, &basic("bob", "other")).await.unwrap();
    run_as(&mut client, &bob, "SELECT 1").await.unwrap();
    server.queries.forget();
    // A static token can't be changed for a new session: it's told once.
    let lost = run_as(&mut client, "Bearer anns-static-token", "SELECT 1").await.unwrap_err();
    assert!(lost.code() == Code::NotFound && lost.message().contains("set them anew"), "{lost}");
    run_as(&mut client, "Bearer anns-static-token", "SELECT 1").await.unwrap();
}

#[tokio::test]
async fn tickets_and_handles_work_for_their_principal_only() {
    let server = TestServer::start(users()).await;
    let mut client = server.client().await;
    let (ann, bob) = ("Bearer anns-static-token", basic("bob", "other"));
    let info = client.get_flight_info(with_header(statement("SELECT 1"), "authorization", ann)).await.unwrap().into_inner();
    let stolen = client.do_get(with_header(ticket_of(&info), "authorization", &bob)).await.unwrap_err();
    assert_eq!(stolen.code(), Code::PermissionDenied);
    let cookie = client.list_actions(with_header(Empty {}, "authorization", ann)).await.unwrap();
    let cookie = cookie.metadata().get("set-cookie").unwrap().to_str().unwrap().to_string();
    let mut with_cookie = with_header(Empty {}, "authorization", &bob);
    with_cookie.metadata_mut().insert("cookie", cookie.split(';').next().unwrap().parse().unwrap());
    assert_eq!(client.list_actions(with_cookie).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn failed_logins_are_slowed_down() {
    let limits = Limits { failed_logins_per_user: 3, ..Limits::default() };
    let server = TestServer::start(Config { limits, ..users() }).await;
    let mut client = server.client().await;
    for _ in 0..3 {
        assert_eq!(log_in(&mut client, &basic("ann", "guess")).await.unwrap_err().code(), Code::Unauthenticated);
    }
    assert_eq!(log_in(&mut client, &basic("ann", "secret")).await.unwrap_err().code(), Code::ResourceExhausted);
    assert!(log_in(&mut client, &basic("bob", "other")).await.is_ok());
}

#[tokio::test]
async fn without_authentication_only_loopback_is_served() {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let queries = std::sync::Arc::new(FakeQueries::default());
    let refused = serve(listener, queries, Config::default(), std::future::pending()).await.unwrap_err();
    assert!(refused.kind() == ErrorKind::PermissionDenied && refused.message().contains("127.0.0.1"), "{refused}");
}

#[tokio::test]
async fn any_credentials_are_anonymous_where_none_are_asked_for() {
    let (server, mut client) = TestServer::open().await;
    for header in [basic("whoever", "x"), "Bearer None".into(), "Bearer whatever".into()] {
        run_as(&mut client, &header, "SELECT 1").await.unwrap();
    }
    let token = log_in(&mut client, &basic("whoever", "x")).await.unwrap();
    run_as(&mut client, &token, "SELECT 1").await.unwrap();
    assert_eq!(server.queries.last_settings.lock().as_ref().unwrap().principal.as_str(), "anonymous");
}

#[tokio::test]
async fn tls_is_spoken_when_configured() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let tls = Tls { certificate_pem: made.cert.pem(), key_pem: made.signing_key.serialize_pem(), client_ca_pem: None };
    let server = TestServer::start(Config { tls: Some(tls), ..Config::default() }).await;
    let trust = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(made.cert.pem())).domain_name("localhost");
    let endpoint = Endpoint::from_shared(format!("https://{}", server.address)).unwrap().tls_config(trust).unwrap();
    let mut client = FlightServiceClient::new(endpoint.connect().await.unwrap());
    assert_eq!(query(&mut client, "rows 5").await.unwrap()[0].num_rows(), 5);
    assert_eq!(query(&mut client, "SET tag = tls").await.unwrap().len(), 0);
    query(&mut client, "SELECT 1").await.unwrap();
    assert_eq!(server.queries.last_settings.lock().as_ref().unwrap().get("tag").unwrap(), "tls");
}

#[tokio::test]
async fn connections_over_the_limit_are_refused_and_room_comes_back() {
    let limits = Limits { connections: 1, ..Limits::default() };
    let server = TestServer::start(Config { limits, ..Config::default() }).await;
    let mut first = server.client().await;
    query(&mut first, "SELECT 1").await.unwrap();
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address)).unwrap();
    let refused = match endpoint.connect().await {
        Ok(channel) => info(&mut FlightServiceClient::new(channel), "SELECT 1").await.is_err(),
        Err(_) => true,
    };
    assert!(refused);
    query(&mut first, "SELECT 1").await.unwrap();
    drop(first);
    let again = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            if let Ok(channel) = endpoint.connect().await
                && info(&mut FlightServiceClient::new(channel), "SELECT 1").await.is_ok()
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    again.await.expect("room for a connection");
}

#[tokio::test]
async fn connections_on_which_nobody_speaks_are_closed() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let tls = Tls { certificate_pem: made.cert.pem(), key_pem: made.signing_key.serialize_pem(), client_ca_pem: None };
    for tls in [None, Some(tls)] {
        let lifetimes = Lifetimes { greeting: Duration::from_millis(100), ..Lifetimes::default() };
        let server = TestServer::start(Config { lifetimes, tls, ..Config::default() }).await;
        for said in ["", "PRI * HTTP"] {
            let mut silent = TcpStream::connect(server.address).await.unwrap();
            silent.write_all(said.as_bytes()).await.unwrap();
            let mut answered = Vec::new();
            // It ends one way or the other.
            let ended = tokio::time::timeout(Duration::from_secs(20), silent.read_to_end(&mut answered)).await;
            assert!(ended.is_ok(), "said: {said}");
        }
    }
}

#[tokio::test]
async fn a_client_that_has_greeted_may_be_idle() {
    let lifetimes = Lifetimes { greeting: Duration::from_millis(500), ..Lifetimes::default() };
    let server = TestServer::start(Config { lifetimes, ..Config::default() }).await;
    let mut client = server.client().await;
    query(&mut client, "SET tag = mine").await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    query(&mut client, "SELECT 1").await.unwrap();
    // The session is the connection's: it's the same one.
    assert_eq!(server.queries.last_settings.lock().as_ref().unwrap().get("tag").unwrap(), "mine");
}

#[tokio::test]
async fn a_shutdown_lets_running_results_finish() {
    let (mut server, mut client) = TestServer::open().await;
    let info = info(&mut client, "rows 3000000").await.unwrap();
    let mut stream = client.do_get(ticket_of(&info)).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    server.begin_shutdown();
    let mut bytes = 0;
    while let Some(message) = stream.message().await.unwrap() {
        bytes += message.data_body.len();
    }
    assert!(bytes >= 3_000_000 * 8);
    drop((stream, client));
    tokio::time::timeout(Duration::from_secs(20), server.ended).await.expect("the server ends").unwrap().unwrap();
}

#[tokio::test]
async fn a_shutdown_cuts_what_does_not_finish() {
    let lifetimes = Lifetimes { drain: Duration::from_millis(200), ..Lifetimes::default() };
    let mut server = TestServer::start(Config { lifetimes, ..Config::default() }).await;
    let mut client = server.client().await;
    let info = info(&mut client, "forever").await.unwrap();
    let stream = client.do_get(ticket_of(&info)).await.unwrap().into_inner();
    server.begin_shutdown();
    let cut: Result<Vec<FlightData>, Status> =
        tokio::time::timeout(Duration::from_secs(20), stream.try_collect()).await.expect("the stream is cut");
    assert!(cut.is_err(), "a cut result is an error");
    tokio::time::timeout(Duration::from_secs(20), server.ended).await.expect("the server ends").unwrap().unwrap();
}

#[tokio::test]
async fn a_stream_that_its_client_has_not_ended_is_answered_and_not_reset() {
    let server = TestServer::start(users()).await;
    let mut client = server.client().await;
    let (send, messages) = futures::channel::mpsc::unbounded();
    let request = with_header(messages, "authorization", "Bearer anns-static-token");
    let mut answers = client.handshake(request).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().unwrap().payload.starts_with(b"fp1."));
    // The answer is there, and the client still writes: a reset would be an error here.
    send.unbounded_send(HandshakeRequest::default()).unwrap();
    drop(send);
    assert!(answers.message().await.unwrap().is_none());
    // The connection is as good as before.
    assert_eq!(run_as(&mut client, "Bearer anns-static-token", "SELECT 1").await.unwrap(), 2);
}

/// An outside system that knows one token.
struct Workspace;

#[async_trait::async_trait]
impl TokenCheck for Workspace {
    async fn principal(&self, token: &SecretToken) -> flightpath_types::Result<Principal> {
        match token.expose() {
            "anas-own-token" => Ok(Principal::new("ana")),
            _ => Err(Error::new(ErrorKind::PermissionDenied, "Invalid access token.")),
        }
    }
}

#[tokio::test]
async fn tokens_that_an_outside_system_knows_lead_in_as_bearer_and_as_password() {
    let outside = OutsideTokens { check: Arc::new(Workspace), lifetime: Duration::from_secs(3600) };
    let server = TestServer::start(Config { outside_tokens: Some(outside), ..users() }).await;
    let mut client = server.client().await;
    let seen = |server: &TestServer| {
        let token = server.queries.last_token.lock().as_ref().map(|t| t.expose().to_string());
        (server.queries.last_settings.lock().as_ref().unwrap().principal.to_string(), token)
    };
    let by_login = log_in(&mut client, &basic("token", "anas-own-token")).await.unwrap();
    for credentials in ["Bearer anas-own-token".to_string(), basic("token", "anas-own-token"), by_login] {
        run_as(&mut server.client().await, &credentials, "SELECT 1").await.unwrap();
        assert_eq!(seen(&server), ("ana".to_string(), Some("anas-own-token".to_string())));
    }
    // Who is listed comes in as before, and nobody without showing anything.
    run_as(&mut client, &basic("ann", "secret"), "SELECT 1").await.unwrap();
    assert_eq!(seen(&server), ("ann".to_string(), None));
    for credentials in ["Bearer nobodys-token".to_string(), basic("token", "nobodys-token"), basic("ana", "anas-own-token")] {
        assert_eq!(run_as(&mut client, &credentials, "SELECT 1").await.unwrap_err().code(), Code::Unauthenticated);
    }
    assert_eq!(info(&mut server.client().await, "SELECT 1").await.unwrap_err().code(), Code::Unauthenticated);
}

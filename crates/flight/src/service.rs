//! Flight's methods. Each finds its caller, reads its command once and hands on; the gate has
//! authenticated it already. Implements the low-level trait itself: the crate's Flight SQL trait
//! can't answer GetSchema or PollFlightInfo, drops half of what prepare must say, and has no session
//! options.

use std::sync::Arc;

use arrow_flight::flight_descriptor::DescriptorType;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::{Any, Command};
use arrow_flight::{
    Action, ActionType, BasicAuth, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, SchemaResult, Ticket,
};
use bytes::Bytes;
use flightpath_types::{Error, Result};
use futures::StreamExt;
use futures::stream::BoxStream;
use http::HeaderValue;
use prost::Message;
use tonic::{Request, Response, Status, Streaming};

use crate::actions;
use crate::door::{Caller, Door, Peer};
use crate::gate::SessionClosed;
use crate::message::{Handoff, MessageStream};
use crate::metadata;
use crate::outgoing::{self, OutgoingLimits};
use crate::puts;
use crate::statement::{self, Bound};
use crate::status::status_of;
use crate::unread::Unread;

type Answer<T> = Result<Response<T>, Status>;

/// The Flight service over one [`Door`].
#[derive(Clone)]
pub(crate) struct Service {
    door: Arc<Door>,
}

impl Service {
    pub fn new(door: Arc<Door>) -> Self {
        Self { door }
    }

    fn limits(&self) -> OutgoingLimits {
        let config = &self.door.config;
        OutgoingLimits::new(&config.limits, config.lifetimes.client_stall)
    }

    async fn info(&self, caller: &Caller, descriptor: FlightDescriptor) -> Result<FlightInfo> {
        let command = command_of(&descriptor)?;
        if let Some(schema) = metadata::schema_of(&command) {
            return statement::metadata_info(&self.door, &schema, descriptor);
        }
        let bound = self.bound(caller, command)?;
        statement::flight_info(&self.door, caller, bound, descriptor).await
    }

    async fn schema(&self, caller: &Caller, descriptor: &FlightDescriptor) -> Result<Bytes> {
        let command = command_of(descriptor)?;
        if let Some(schema) = metadata::schema_of(&command) {
            return statement::schema_bytes(&schema);
        }
        let bound = self.bound(caller, command)?;
        statement::schema_of(&self.door, caller, bound).await
    }

    fn bound(&self, caller: &Caller, command: Command) -> Result<Bound> {
        match command {
            Command::CommandStatementQuery(command) => Bound::of_query(&self.door, command),
            Command::CommandPreparedStatementQuery(command) => Bound::of_handle(&self.door, caller, &command.prepared_statement_handle),
            Command::CommandStatementSubstraitPlan(_) => Err(actions::unsupported("Substrait plans")),
            other => Err(Error::invalid(format!("a FlightInfo can't be had for {}", other.type_url()))),
        }
    }

    async fn get(&self, caller: &Caller, ticket: Ticket) -> Result<MessageStream, Status> {
        let command = read_command(&ticket.ticket, "ticket").map_err(|e| status_of(&e))?;
        if let Command::TicketStatementQuery(ticket) = &command {
            let (query_id, _) = statement::open_ticket(&self.door, caller, &ticket.statement_handle).map_err(|e| status_of(&e))?;
            let fetched = self.door.queries.fetch(query_id, &caller.principal, caller.deadline()).await;
            return outgoing::start(fetched.map_err(|e| status_of(&e))?, self.limits()).await;
        }
        match metadata::answer(&self.door, caller, &command).await.map_err(|e| status_of(&e))? {
            Some(batch) => outgoing::of_batch(batch, self.limits()),
            None => Err(status_of(&Error::invalid(format!("a {} isn't a ticket: call GetFlightInfo with it first", command.type_url())))),
        }
    }
}

#[tonic::async_trait]
impl FlightService for Service {
    type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type DoActionStream = BoxStream<'static, Result<arrow_flight::Result, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;
    type DoExchangeStream = BoxStream<'static, Result<FlightData, Status>>;

    /// Credentials come in the headers, or as a `BasicAuth` message; the token goes back in the header
    /// and as the payload, for clients that look at one or the other.
    async fn handshake(&self, request: Request<Streaming<HandshakeRequest>>) -> Answer<Self::HandshakeStream> {
        let address = request.extensions().get::<Peer>().and_then(|peer| peer.address).map(|a| a.ip());
        let (metadata, _, messages) = request.into_parts();
        let mut messages = Unread::new(messages);
        let headers = metadata.into_headers();
        let mut protocol_version = 0;
        let mut payload = None;
        if !headers.contains_key(http::header::AUTHORIZATION)
            && let Some(first) = messages.next().await.transpose()?
        {
            protocol_version = first.protocol_version;
            payload = BasicAuth::decode(first.payload).ok().filter(|a| !a.username.is_empty()).map(|a| (a.username, a.password));
        }
        let token = self.door.log_in(&headers, payload, address).await.map_err(|e| status_of(&e))?;
        let header = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|e| crate::status::internal("a token as header", e))?;
        let answer = HandshakeResponse { protocol_version, payload: token.into() };
        let end = futures::stream::once(messages.ended()).filter_map(|()| std::future::ready(None));
        let mut response = Response::new(once(Ok(answer)).chain(end).boxed());
        response.metadata_mut().as_mut().insert(http::header::AUTHORIZATION, header);
        Ok(response)
    }

    async fn list_flights(&self, _request: Request<Criteria>) -> Answer<Self::ListFlightsStream> {
        Err(status_of(&Error::not_eligible("ListFlights isn't supported; ask for tables with Flight SQL's GetTables")))
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        let (caller, descriptor) = parts(request)?;
        self.info(&caller, descriptor).await.map(Response::new).map_err(|e| status_of(&e))
    }

    /// Complete at once: deciding doesn't run the query, so the first answer is the whole one.
    async fn poll_flight_info(&self, request: Request<FlightDescriptor>) -> Answer<PollInfo> {
        let (caller, descriptor) = parts(request)?;
        let info = self.info(&caller, descriptor).await.map_err(|e| status_of(&e))?;
        Ok(Response::new(PollInfo { info: Some(info), flight_descriptor: None, progress: Some(1.0), expiration_time: None }))
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Answer<SchemaResult> {
        let (caller, descriptor) = parts(request)?;
        let schema = self.schema(&caller, &descriptor).await.map_err(|e| status_of(&e))?;
        Ok(Response::new(SchemaResult { schema }))
    }

    /// The messages go to the gate, which sends them as they are.
    async fn do_get(&self, request: Request<Ticket>) -> Answer<Self::DoGetStream> {
        let (caller, ticket) = parts(request)?;
        let messages = self.get(&caller, ticket).await?;
        let mut response = Response::new(futures::stream::empty().boxed());
        response.extensions_mut().insert(Handoff::new(messages));
        Ok(response)
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Answer<Self::DoPutStream> {
        let (caller, messages) = parts(request)?;
        let result = puts::run(&self.door, &caller, Unread::new(messages)).await?;
        Ok(Response::new(once(Ok(result))))
    }

    async fn do_action(&self, request: Request<Action>) -> Answer<Self::DoActionStream> {
        let (caller, action) = parts(request)?;
        let answer = actions::run(&self.door, &caller, action).await.map_err(|e| status_of(&e))?;
        let bodies = answer.body.map(|body| Ok(arrow_flight::Result { body }));
        let mut response = Response::new(futures::stream::iter(bodies).boxed());
        if answer.closes_session {
            response.extensions_mut().insert(SessionClosed);
        }
        Ok(response)
    }

    async fn list_actions(&self, _request: Request<Empty>) -> Answer<Self::ListActionsStream> {
        Ok(Response::new(futures::stream::iter(actions::list().into_iter().map(Ok)).boxed()))
    }

    async fn do_exchange(&self, _request: Request<Streaming<FlightData>>) -> Answer<Self::DoExchangeStream> {
        Err(status_of(&Error::not_eligible("DoExchange isn't supported")))
    }
}

/// The caller that the gate found, and the message.
fn parts<T>(mut request: Request<T>) -> Result<(Arc<Caller>, T), Status> {
    match request.extensions_mut().remove::<Arc<Caller>>() {
        Some(caller) => Ok((caller, request.into_inner())),
        // Only a call that went around the gate.
        None => Err(status_of(&Error::new(flightpath_types::ErrorKind::Unauthenticated, "the call wasn't authenticated"))),
    }
}

fn command_of(descriptor: &FlightDescriptor) -> Result<Command> {
    if descriptor.r#type != DescriptorType::Cmd as i32 {
        return Err(Error::invalid("the descriptor must hold a Flight SQL command, not a path"));
    }
    read_command(&descriptor.cmd, "descriptor")
}

fn read_command(bytes: &Bytes, place: &str) -> Result<Command> {
    let unreadable = || Error::invalid(format!("the {place} holds no Flight SQL command; send a statement as CommandStatementQuery"));
    let any = Any::decode(bytes.clone()).map_err(|_| unreadable())?;
    if !any.type_url.contains('/') {
        return Err(unreadable());
    }
    match Command::try_from(any).map_err(|e| Error::invalid(format!("the {place}'s command can't be read: {e}")))? {
        Command::Unknown(any) => Err(Error::invalid(format!("the {place} holds an unknown command: {}", any.type_url))),
        command => Ok(command),
    }
}

fn once<T: Send + 'static>(item: Result<T, Status>) -> BoxStream<'static, Result<T, Status>> {
    futures::stream::once(std::future::ready(item)).boxed()
}

//! The client most Rust services would use: tonic, one channel a connection.
//!
//! Each call is a task of its own on the worker's thread. A channel whose
//! connection broke makes a new one at the next call, as it would in a service.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

use bytes::Bytes;
use echo_proto::v1::{EchoRequest, EchoResponse, echo_client::EchoClient};
use measure::calllog::FailureKind;
use scenario::Keepalive;
use tonic::{
    Code, Request, Status, Streaming,
    transport::{Channel, Endpoint},
};

use super::{
    At, CONNECT_TIMEOUT, Call, CallKind, CallShape, ConnectError, ConnectOptions, Connection,
    Ended, Resolver, Sink, Trust,
    answer::{Answer, Reply},
    connect_failure, describe, trust,
};
use crate::clock::monotonic_ns;

/// Largest message taken, so that the largest payload a scenario may ask for
/// passes; tonic's own default is 4 MiB.
const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;
/// Flow-control windows. Wide enough that 16 KiB responses of many streams are
/// never held back by the client.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;

/// One connection made by tonic.
pub(super) struct TonicConnection {
    client: RefCell<EchoClient<Channel>>,
    resolver: Resolver,
    /// Whom to trust under TLS; `None` for plain text.
    trust: Option<Arc<Trust>>,
    keepalive: Option<Keepalive>,
    connection_calls: Option<u32>,
    /// Calls that the channel was given.
    calls: Cell<u32>,
    shape: Arc<CallShape>,
    sink: Rc<dyn Sink>,
}

impl TonicConnection {
    /// Connects at once, so that connections exist before the first call and in
    /// the order they were asked for.
    pub(super) async fn new(
        options: ConnectOptions,
        resolver: Resolver,
        at: At,
        shape: Arc<CallShape>,
        sink: Rc<dyn Sink>,
    ) -> Result<Self, ConnectError> {
        let endpoint = endpoint(&resolver, options.trust.as_deref(), options.keepalive);
        let endpoint = endpoint.map_err(ConnectError::own)?;
        let failed = |error| ConnectError::new(&resolver.authority(), &error);
        let channel = match at {
            At::Once => {
                trust::connect(&endpoint, options.trust.as_deref()).await.map_err(failed)?
            }
            At::FirstCall => trust::connect_lazy(&endpoint, options.trust.as_deref()),
        };
        Ok(Self {
            client: RefCell::new(client(channel)),
            resolver,
            trust: options.trust,
            keepalive: options.keepalive,
            connection_calls: options.connection_calls,
            calls: Cell::new(0),
            shape,
            sink,
        })
    }
}

/// Where the next connection goes, and how.
fn endpoint(
    resolver: &Resolver,
    trust: Option<&Trust>,
    keepalive: Option<Keepalive>,
) -> Result<Endpoint, String> {
    let endpoint =
        trust::endpoint(&resolver.next(monotonic_ns()).to_string(), &resolver.authority(), trust)
            .map_err(|error| describe(&error))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    Ok(match keepalive {
        None => endpoint,
        // It asks while calls are under way only, unless it is told otherwise.
        Some(Keepalive { time, timeout }) => {
            endpoint.http2_keep_alive_interval(time).keep_alive_timeout(timeout)
        }
    })
}

fn client(channel: Channel) -> EchoClient<Channel> {
    EchoClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

impl Connection for TonicConnection {
    fn start(&self, call: Call, sequence: u64) {
        let client = self.client.borrow().clone();
        self.calls.set(self.calls.get() + 1);
        if self.connection_calls == Some(self.calls.get()) {
            self.release();
        }
        let shape = Arc::clone(&self.shape);
        let sink = Rc::clone(&self.sink);
        tokio::task::spawn_local(async move {
            let ended = match make_call(client, &shape, sequence).await {
                Ok(ended) => ended,
                Err(status) => Ended::Failed(failure(&status)),
            };
            sink.ended(call, ended, None);
        });
    }

    fn set_members(&self, members: &[usize]) {
        if self.resolver.set_members(members, monotonic_ns()) {
            self.release();
        }
    }

    /// A channel ends with the last call that holds it.
    fn release(&self) {
        // Addresses that made one endpoint make another.
        let endpoint = endpoint(&self.resolver, self.trust.as_deref(), self.keepalive);
        if let Ok(endpoint) = endpoint {
            *self.client.borrow_mut() =
                client(trust::connect_lazy(&endpoint, self.trust.as_deref()));
            self.calls.set(0);
        }
    }

    /// A channel keeps to itself whether it is connected, and connects when it is
    /// needed.
    fn is_ready(&self) -> bool {
        true
    }

    fn make_ready(&self) {}
}

async fn make_call(
    mut client: EchoClient<Channel>,
    shape: &CallShape,
    sequence: u64,
) -> Result<Ended, Status> {
    let mut answer = Answer::new(shape, sequence);
    match shape.kind {
        CallKind::Unary => {
            let response = client.unary(timed(shape, request(shape, sequence))).await?.into_inner();
            answer.take(shape, &reply(&response));
        }
        CallKind::ServerStream => {
            let responses =
                client.server_stream(timed(shape, request(shape, sequence))).await?.into_inner();
            take_all(&mut answer, shape, responses).await?;
        }
        CallKind::ClientStream => {
            let requests = tokio_stream::iter(requests(shape, sequence));
            let response = client.client_stream(timed(shape, requests)).await?.into_inner();
            answer.take(shape, &reply(&response));
        }
        CallKind::Bidi => {
            let requests = tokio_stream::iter(requests(shape, sequence));
            let responses = client.bidi(timed(shape, requests)).await?.into_inner();
            take_all(&mut answer, shape, responses).await?;
        }
    }
    Ok(answer.ended(shape))
}

/// What a call begins with, under its deadline.
fn timed<T>(shape: &CallShape, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(deadline) = shape.deadline {
        request.set_timeout(deadline);
    }
    request
}

fn request(shape: &CallShape, sequence: u64) -> EchoRequest {
    let (request_bytes, response_bytes) = shape.bytes(sequence);
    EchoRequest {
        sequence,
        payload: Bytes::copy_from_slice(&shape.payload[..request_bytes as usize]).into(),
        response_bytes,
        response_count: shape.messages,
    }
}

/// The messages of a client's stream, numbered on from `sequence`.
fn requests(shape: &CallShape, sequence: u64) -> Vec<EchoRequest> {
    (0..u64::from(shape.messages)).map(|index| request(shape, sequence + index)).collect()
}

/// Takes every response of a stream.
async fn take_all(
    answer: &mut Answer,
    shape: &CallShape,
    mut responses: Streaming<EchoResponse>,
) -> Result<(), Status> {
    while let Some(response) = responses.message().await? {
        answer.take(shape, &reply(&response));
    }
    Ok(())
}

fn reply(response: &EchoResponse) -> Reply<'_> {
    Reply {
        sequence: response.sequence,
        payload: &response.payload,
        backend: response.backend.as_bytes(),
        queued_ns: response.queued_ns,
        service_ns: response.service_ns,
    }
}

/// tonic reports a broken connection as a status of its own making, told from
/// one that came over the wire by the error it carries.
fn failure(status: &Status) -> FailureKind {
    if std::error::Error::source(status).is_some() && status.code() != Code::DeadlineExceeded {
        return connect_failure(status);
    }
    FailureKind::from_status(status.code() as i32)
}

//! Clients: how a call gets onto a connection and comes back.
//!
//! A client owns one connection. The worker hands it a call with
//! [`Connection::start`]; when the call has ended the client tells the worker's
//! [`Sink`] what came of it. Pacing, slots and recording know nothing of gRPC,
//! and a client knows nothing of schedules.

mod answer;
mod backends;
mod balanced;
mod channels;
mod discovery;
mod driver;
mod resolver;
mod service;
mod tonic_client;
mod trust;
mod wire;

use std::{error::Error, io, rc::Rc, sync::Arc, time::Duration};

use balance::LoadReport;
use measure::calllog::FailureKind;
use rand_xoshiro::{
    SplitMix64,
    rand_core::{Rng, SeedableRng},
};
use rustix::io::Errno;
use scenario::{CallKind, Keepalive};

pub use backends::{Backends, Seen};
use balanced::BalancedConnection;
pub use balanced::{BackendAt, Balanced};
use channels::Channels;
pub use discovery::Discovery;
pub use driver::{Driver, DriverPlan};
pub use resolver::Resolver;
pub use service::{Identity, ServiceShape};
use tonic_client::TonicConnection;
pub use trust::{Trust, connect as connect_channel, endpoint};
use wire::WireConnection;

use super::slots::Call;

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The status and the response that were asked for, from a backend that is known
    /// wherever answers tell.
    Served {
        /// Index of the backend; [`measure::calllog::UNKNOWN_BACKEND`] where answers
        /// don't tell.
        backend: u16,
        /// Time queued there, as it reported; summed over a stream's messages.
        queued_ns: u64,
        /// Time in service there, as it reported; summed likewise.
        service_ns: u64,
    },
    /// Anything else.
    Failed(FailureKind),
}

/// When a call was seen outside of the generator, in nanoseconds of the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnWire {
    /// When the last byte of its request was handed to the kernel.
    pub written_ns: u64,
    /// When the segment that ended its response came in.
    pub arrived_ns: u64,
}

/// Told when a call has ended.
pub trait Sink {
    /// `on_wire` is `None` where the client or the kernel doesn't tell.
    fn ended(&self, call: Call, ended: Ended, on_wire: Option<OnWire>);

    /// What a call's trailers say of its backend's load; told before its end.
    fn report(&self, _call: Call, _report: &LoadReport) {}

    /// A connection was lost or sent away, or could not be made.
    fn lost(&self) {}

    /// A connection gives a call back that its server has not looked at, to be sent
    /// elsewhere; its client sends it again by itself where nobody takes it.
    fn take_back(&self, _call: Call, _sequence: u64) -> bool {
        false
    }
}

/// One client connection.
pub trait Connection {
    /// Sends a call. The sink hears of its end exactly once, also when the
    /// connection breaks.
    fn start(&self, call: Call, sequence: u64);

    /// The backends with these indices are the ones there are from now on. A
    /// client that knows only a proxy has no use for that.
    fn set_members(&self, members: &[usize]);

    /// Lets the TCP connection go once its calls are done. The next call makes
    /// another one.
    fn release(&self);

    /// Whether a call would go out at once rather than wait for a connection to
    /// be made; as far as the client knows.
    fn is_ready(&self) -> bool;

    /// Makes a connection if there is none, so that there is one when it is
    /// needed.
    fn make_ready(&self);
}

/// What the calls of a trial look like, and how their answers are checked.
#[derive(Debug)]
pub enum Shape {
    /// Calls of the echo service, all alike.
    Echo(Arc<CallShape>),
    /// Calls of the user's service.
    Service(ServiceShape),
}

/// What every call of the echo service looks like, and how its answer is checked.
#[derive(Debug)]
pub struct CallShape {
    /// Which sides send several messages.
    pub kind: CallKind,
    /// Messages of a streaming call, in each direction that streams.
    pub messages: u32,
    /// As long as the longest request's; shorter ones have its beginning.
    pub payload: Vec<u8>,
    /// Bytes of a request's payload, and of a response's.
    pub requests: Lengths,
    /// The lengths of the response messages.
    pub responses: Lengths,
    /// How long a call may take, which the server is told too.
    pub deadline: Option<Duration>,
    /// Whose answers are taken.
    pub backends: Backends,
}

/// What messages of calls have in bytes, known before the trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lengths {
    /// The same of every call.
    Constant(u32),
    /// One of each call, and then again; never empty.
    Each(Arc<[u32]>),
}

impl Lengths {
    /// Of the call with this number.
    fn of(&self, call: u64) -> u32 {
        match self {
            Self::Constant(bytes) => *bytes,
            // The remainder is an index.
            Self::Each(all) => all[(call % all.len() as u64) as usize],
        }
    }

    /// The largest.
    pub fn largest(&self) -> u32 {
        match self {
            Self::Constant(bytes) => *bytes,
            Self::Each(all) => all.iter().copied().max().unwrap_or(0),
        }
    }
}

impl CallShape {
    /// Bytes of request and response of the call whose messages have numbers from
    /// `sequence` on.
    pub fn bytes(&self, sequence: u64) -> (u32, u32) {
        let call = sequence / u64::from(self.messages.max(1));
        (self.requests.of(call), self.responses.of(call))
    }

    /// Whether `payload` is what the service owes for a request: as many bytes as that
    /// asked for, of its own payload, repeated from its start as needed.
    pub(crate) fn is_echo(&self, sequence: u64, payload: &[u8]) -> bool {
        let (request_bytes, response_bytes) = self.bytes(sequence);
        if payload.len() != response_bytes as usize {
            return false;
        }
        match request_bytes as usize {
            0 => payload.iter().all(|&byte| byte == 0),
            length => payload.chunks(length).all(|chunk| *chunk == self.payload[..chunk.len()]),
        }
    }
}

/// Which client makes the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientKind {
    /// Our own, on `h2-wire`: cheap enough never to be what is measured.
    Wire,
    /// tonic: what most Rust services call with.
    Tonic,
}

/// How a client connects.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// Whose client it is.
    pub kind: ClientKind,
    /// Calls after which a TCP connection is closed and another one made; `None`
    /// for connections that live as long as they can.
    pub connection_calls: Option<u32>,
    /// TCP connections to one address that it may have at a time: more than one are made
    /// where calls wait for streams.
    pub max_connections: u32,
    /// The pauses that it keeps after failed attempts to connect; `None` to try again with
    /// the next call.
    pub backoff: Option<Backoff>,
    /// When it asks whether the other end is still there; `None` for never.
    pub keepalive: Option<Keepalive>,
    /// Whom it trusts under TLS; `None` for plain text.
    pub trust: Option<Arc<Trust>>,
    /// The network device that its connections leave by; `None` for any. Only
    /// [`ClientKind::Wire`] can be told.
    pub device: Option<Arc<str>>,
}

impl ConnectOptions {
    /// One connection at a time, for as long as it lives, in plain text.
    #[cfg(test)]
    pub fn plain(kind: ClientKind) -> Self {
        Self {
            kind,
            connection_calls: None,
            max_connections: 1,
            backoff: None,
            keepalive: None,
            trust: None,
            device: None,
        }
    }

    /// Those of one connection of several, which don't all try again at the same moment.
    pub(crate) fn of_number(&self, number: u64) -> Self {
        let seeded = |backoff: Backoff| Backoff {
            seed: SplitMix64::seed_from_u64(backoff.seed ^ number).next_u64(),
            ..backoff
        };
        Self { backoff: self.backoff.map(seeded), ..self.clone() }
    }
}

/// The pauses after failed attempts to connect.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// The first, before jitter.
    pub first: Duration,
    /// Where the jitter comes from.
    pub seed: u64,
}

impl Backoff {
    /// `MAX_BACKOFF` of gRPC's `doc/connection-backoff.md`.
    const MAX: Duration = Duration::from_secs(120);

    /// The pause after a failure that `failures` others came before.
    fn pause(&self, failures: u32) -> Duration {
        let random = SplitMix64::seed_from_u64(self.seed ^ u64::from(failures)).next_u64();
        serve::backoff::pause(failures, self.first, Self::MAX, random)
    }
}

/// How long a connection may take to be made.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What a client connection of a scenario leads to.
#[derive(Debug)]
pub enum Destination {
    /// A backend, or a proxy: one TCP connection at a time.
    One(Resolver),
    /// Every backend: the client balances its calls itself.
    Balanced(Balanced),
    /// What several channels of one client lead to, which it uses in turn.
    Channels(Vec<Destination>),
}

/// Why a connection could not be made.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ConnectError {
    /// Whether the lab itself is to blame, rather than what it connects to.
    pub is_own: bool,
    /// What went wrong, and what to do.
    pub message: String,
}

impl ConnectError {
    /// Something of the lab's own went wrong.
    pub fn own(message: impl Into<String>) -> Self {
        Self { is_own: true, message: message.into() }
    }

    fn new(to: &str, error: &(dyn Error + 'static)) -> Self {
        let is_own = connect_failure(error) != FailureKind::ConnectionLost;
        Self { is_own, message: format!("cannot connect to {to}: {}", describe(error)) }
    }
}

/// What a call fails of that waited for a connection which could not be made: what the
/// client's own machine ran out of, or else the next hop.
fn connect_failure(error: &(dyn Error + 'static)) -> FailureKind {
    match system_error(error) {
        Some(Errno::ADDRNOTAVAIL) => FailureKind::NoPort,
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
            FailureKind::NoDescriptor
        }
        _ => FailureKind::ConnectionLost,
    }
}

/// The error of the kernel that lies behind another.
fn system_error(error: &(dyn Error + 'static)) -> Option<Errno> {
    let of_io = error.downcast_ref::<io::Error>();
    if let Some(errno) = of_io.and_then(Errno::from_io_error) {
        return Some(errno);
    }
    // What an I/O error was made of is not among its sources.
    match of_io.and_then(io::Error::get_ref) {
        Some(inner) => system_error(inner),
        None => system_error(error.source()?),
    }
}

/// Opens a connection of the wanted kind. Must run inside a `LocalSet`.
pub async fn connect(
    options: ConnectOptions,
    destination: Destination,
    shape: Rc<Shape>,
    sink: Rc<dyn Sink>,
) -> Result<Box<dyn Connection>, ConnectError> {
    match destination {
        Destination::One(resolver) => connect_to(options, resolver, At::Once, shape, sink).await,
        Destination::Balanced(balanced) => {
            Ok(Box::new(BalancedConnection::connect(options, &balanced, shape, sink).await?))
        }
        Destination::Channels(all) => {
            let mut channels: Vec<Box<dyn Connection>> = Vec::with_capacity(all.len());
            for (number, one) in (0..).zip(all) {
                let (shape, sink) = (Rc::clone(&shape), Rc::clone(&sink));
                let options = options.of_number(number);
                channels.push(Box::pin(connect(options, one, shape, sink)).await?);
            }
            Ok(Box::new(Channels::new(channels)))
        }
    }
}

/// When a connection is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Now: it is an error if it can't be.
    Once,
    /// With the first call that needs it.
    FirstCall,
}

async fn connect_to(
    options: ConnectOptions,
    resolver: Resolver,
    at: At,
    shape: Rc<Shape>,
    sink: Rc<dyn Sink>,
) -> Result<Box<dyn Connection>, ConnectError> {
    Ok(match (options.kind, &*shape) {
        (ClientKind::Wire, _) => {
            Box::new(WireConnection::new(options, resolver, at, shape, sink).await?)
        }
        (ClientKind::Tonic, Shape::Echo(shape)) => {
            Box::new(TonicConnection::new(options, resolver, at, Arc::clone(shape), sink).await?)
        }
        // The scenario's check has refused it.
        (ClientKind::Tonic, Shape::Service(_)) => {
            return Err(ConnectError::own("the tonic client calls the echo service only"));
        }
    })
}

/// An error with the reasons behind it: tonic's own text is "transport error".
pub fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let own = inner.to_string();
        // Some say what is inside of them as well.
        if !text.ends_with(&own) {
            text = format!("{text}: {own}");
        }
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests;

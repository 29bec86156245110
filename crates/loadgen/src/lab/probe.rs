//! The readiness probe: a real call through whatever was just started.
//!
//! A port that accepts says little: a proxy may listen before it knows its
//! backends. So the probe makes unary calls until one succeeds. It looks
//! the same to every peer, and it is over before anything is measured.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use echo_proto::v1::{EchoRequest, echo_client::EchoClient};
use generator::client::{self, Trust, describe};
use scenario::Ready;
use serve::grpc_health;
use tokio::{net::TcpStream, time::timeout};
use tonic::Status;

use crate::{
    interrupt,
    service::{self, OwnService},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const RETRY_EVERY: Duration = Duration::from_millis(5);

/// Where to call, and whom to trust there under TLS; `None` for plain text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Port<'a> {
    pub(crate) address: SocketAddr,
    /// What calls name it by; its address where that is `None`.
    pub(crate) authority: Option<&'a str>,
    pub(crate) trust: Option<&'a Trust>,
    /// The user's own service, where it is that which answers there.
    pub(crate) service: Option<&'a OwnService>,
    /// Ids of the backends there; none where they are not known.
    pub(crate) ids: &'a [String],
    /// What shows that it is ready.
    pub(crate) ready: Ready,
    /// How long it may take to start.
    pub(crate) start_timeout: Duration,
    /// How long one call may take there.
    pub(crate) call_timeout: Duration,
}

/// Why a probe ended without a call that succeeded.
#[derive(Debug)]
pub(crate) enum NotReady {
    /// The process ended.
    Gone,
    /// No call succeeded in time; the last one failed of this.
    TimedOut(CallError),
    /// A call was answered, and not as it has to be.
    Refused(CallError),
    /// The user asked to stop.
    Interrupted,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("no runtime to call from: {0}")]
    Runtime(io::Error),
    #[error("{}", describe(.0))]
    Connect(#[from] tonic::transport::Error),
    #[error("{:?}: {}", .0.code(), .0.message())]
    Status(#[from] Box<Status>),
    #[error("the answer names no backend; is this the echo service?")]
    NoBackend,
    #[error(transparent)]
    Service(#[from] Box<service::CallError>),
    #[error("cannot connect: {0}")]
    Tcp(io::Error),
    #[error("no answer to grpc.health.v1.Health/Check: {0}")]
    Health(io::Error),
    #[error("its health (grpc.health.v1) is not SERVING")]
    NotServing,
    #[error("no answer in {} s", .0.as_secs())]
    Slow(Duration),
}

/// Calls until it works.
pub(crate) fn until_ready(
    port: Port<'_>,
    within: Duration,
    mut gone: impl FnMut() -> bool,
) -> Result<(), NotReady> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| NotReady::TimedOut(CallError::Runtime(error)))?;
    let deadline = Instant::now() + within;
    runtime.block_on(async {
        loop {
            let asked = async {
                match port.ready {
                    Ready::Call => call(port).await,
                    Ready::Health => health(port).await,
                    Ready::Tcp => accepts(port).await,
                }
            };
            let Err(error) = asked.await else { return Ok(()) };
            if matches!(&error, CallError::Service(error) if error.is_final()) {
                return Err(NotReady::Refused(error));
            }
            if gone() {
                return Err(NotReady::Gone);
            }
            if interrupt::interrupted() {
                return Err(NotReady::Interrupted);
            }
            if Instant::now() >= deadline {
                return Err(NotReady::TimedOut(error));
            }
            tokio::time::sleep(RETRY_EVERY).await;
        }
    })
}

async fn call(port: Port<'_>) -> Result<(), CallError> {
    let address = port.address.to_string();
    let endpoint = client::endpoint(&address, port.authority.unwrap_or(&address), port.trust)?
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(port.call_timeout);
    let channel = client::connect_channel(&endpoint, port.trust).await?;
    if let Some(service) = port.service {
        let called = service.call_once(channel, port.call_timeout, port.ids).await;
        return Ok(called.map_err(Box::new)?);
    }
    let response =
        EchoClient::new(channel).unary(EchoRequest::default()).await.map_err(Box::new)?;
    if response.get_ref().backend.is_empty() { Err(CallError::NoBackend) } else { Ok(()) }
}

async fn health(port: Port<'_>) -> Result<(), CallError> {
    let side = port.trust.map(|trust| trust.wire.clone());
    let asked = timeout(port.call_timeout, grpc_health::is_serving(port.address, "", side)).await;
    match asked.map_err(|_| CallError::Slow(port.call_timeout))? {
        Ok(true) => Ok(()),
        Ok(false) => Err(CallError::NotServing),
        Err(error) => Err(CallError::Health(error)),
    }
}

async fn accepts(port: Port<'_>) -> Result<(), CallError> {
    let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect(port.address)).await;
    let connected = connected.map_err(|_| CallError::Slow(CONNECT_TIMEOUT))?;
    connected.map(drop).map_err(CallError::Tcp)
}

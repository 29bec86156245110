//! The coordinator's side: waits for agents, asks whether they are there, and leads
//! them step by step.
//!
//! The lab is made of blocking code on its main thread, and so is this towards it; the
//! connections live on a thread of their own.

mod join;
pub(crate) mod node;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
pub use join::Refused;
use join::{Joined, Joiner};
pub use node::{Lost, Node, Progress};
use tokio::{runtime::Runtime, sync::Notify};
use tonic::{
    Request, Status,
    service::interceptor::InterceptedService,
    transport::{Identity, Server, ServerTlsConfig, server::TcpIncoming},
};

use crate::{MESSAGE_BYTES, NAME, NODES, Now, token::Token, wire};

/// How long a stranger may take to agree on TLS.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that are taken in all, beside those of the nodes. After them no node can
/// join any more, which ends the run and not the memory of this machine.
const STRANGERS: usize = 1_024;
/// Bytes of a request's head.
const HEAD_BYTES: u32 = 16 << 10;
/// How often it is looked whether the agents' engine is still there.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Where agents join.
#[derive(Debug)]
pub struct Coordinator {
    address: SocketAddr,
    token: Token,
    joined: mpsc::Receiver<Joined>,
    /// Told when nobody is waited for any more.
    closed: Arc<Notify>,
    /// Last, so that all of it ends with the others. `None` only while it is dropped.
    runtime: Option<Runtime>,
}

/// Why nobody can join.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address can't be listened at.
    #[error("cannot listen for agents at {address}: {error}; name another by --coordinator")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// There is no certificate.
    #[error("cannot make a certificate for the coordinator: {0}")]
    Certificate(#[from] rcgen::Error),
    /// There is no secret.
    #[error("cannot make a token for the run: the system has no random numbers")]
    Secret,
    /// TLS can't be spoken.
    #[error("cannot listen for agents: {0}")]
    Tls(#[from] tonic::transport::Error),
    /// There is no thread for it.
    #[error("cannot start the coordinator: {0}")]
    Thread(io::Error),
}

/// Why the nodes are not all there.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// One of them may not join.
    #[error("{0}")]
    Refused(Refused),
    /// What starts them has ended.
    #[error("{joined} of {wanted} agents joined, and what starts them ended: {reason}")]
    EngineEnded {
        /// Those who did.
        joined: usize,
        /// Those who should have.
        wanted: usize,
        /// How it ended.
        reason: String,
    },
    /// Time is up.
    #[error(
        "{joined} of {wanted} agents joined within {} s; make sure that nodes reach {address} and \
         that the engine had as many to give, or wait longer by --join-timeout",
        waited.as_secs()
    )]
    TimedOut {
        /// Those who did.
        joined: usize,
        /// Those who should have.
        wanted: usize,
        /// How long that was.
        waited: Duration,
        /// Where they were waited for.
        address: SocketAddr,
    },
    /// The user asked to stop.
    #[error("interrupted while agents were waited for")]
    Interrupted,
}

/// What stands in the way of waiting on.
pub enum Obstacle {
    /// What starts the agents has ended, so.
    EngineEnded(String),
    /// The user asked to stop.
    Interrupted,
}

impl Coordinator {
    /// Listens for `nodes` agents of a build of layerlab.
    ///
    /// # Errors
    /// When that can't be.
    pub fn listen(
        address: SocketAddr,
        nodes: usize,
        build: &str,
        now: Now,
    ) -> Result<Self, ListenError> {
        let key = rcgen::KeyPair::generate()?;
        let certificate = rcgen::CertificateParams::new([NAME.to_owned()])?.self_signed(&key)?;
        let token = Token::make(certificate.der().to_vec()).map_err(|_| ListenError::Secret)?;
        let cannot_listen = |error| ListenError::Listen { address, error };
        let listener = TcpListener::bind(address).map_err(cannot_listen)?;
        listener.set_nonblocking(true).map_err(cannot_listen)?;
        let address = listener.local_addr().map_err(cannot_listen)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("coordinator")
            .enable_all()
            .build()
            .map_err(ListenError::Thread)?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener).map_err(cannot_listen)?
        };
        let (sender, joined) = mpsc::channel();
        let closed = Arc::new(Notify::new());
        let identity = Identity::from_pem(certificate.pem(), key.serialize_pem());
        let tls = ServerTlsConfig::new().identity(identity).timeout(HANDSHAKE_TIMEOUT);
        let server = Server::builder()
            .tls_config(tls)?
            .max_concurrent_streams(1)
            .http2_max_header_list_size(HEAD_BYTES);
        let joiner = Joiner::new(nodes, build.to_owned(), now, sender);
        let service = wire::coordinator_server::CoordinatorServer::new(joiner)
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES);
        let service = InterceptedService::new(service, guard(token.clone()));
        let until = Arc::clone(&closed);
        let incoming = TcpIncoming::from(listener)
            .with_nodelay(Some(true))
            .take(NODES + STRANGERS)
            .take_until(async move { until.notified().await });
        // It ends when the port is closed; connections that were made live on.
        runtime.spawn(server.serve_with_incoming(service, incoming));
        Ok(Self { address, token, joined, closed, runtime: Some(runtime) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What agents join with.
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// Waits for the agents and closes the port behind them. They come in the order of
    /// their ranks, or else in that in which they joined.
    ///
    /// # Errors
    /// When one may not join, when not all of them do within `limit`, or when something
    /// stands in the way.
    pub fn wait(
        &self,
        wanted: usize,
        limit: Duration,
        mut obstacle: impl FnMut() -> Option<Obstacle>,
    ) -> Result<Vec<Node>, WaitError> {
        let deadline = Instant::now() + limit;
        let mut nodes: Vec<Node> = Vec::with_capacity(wanted);
        while nodes.len() < wanted {
            match self.joined.recv_timeout(LOOK_EVERY) {
                Ok(Joined::Node(node)) => nodes.push(node),
                Ok(Joined::Refused(refused)) => return Err(WaitError::Refused(refused)),
                Err(_) => {}
            }
            let joined = nodes.len();
            match obstacle().filter(|_| joined < wanted) {
                Some(Obstacle::EngineEnded(reason)) => {
                    return Err(WaitError::EngineEnded { joined, wanted, reason });
                }
                Some(Obstacle::Interrupted) => return Err(WaitError::Interrupted),
                None => {}
            }
            if joined < wanted && Instant::now() > deadline {
                let address = self.address;
                return Err(WaitError::TimedOut { joined, wanted, waited: limit, address });
            }
        }
        self.closed.notify_one();
        nodes.sort_by_key(|node| node.hello().rank.unwrap_or(u32::MAX));
        nodes.iter_mut().enumerate().for_each(|(number, node)| node.number(number));
        Ok(nodes)
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // What agents were told last goes out; nothing waits for longer.
            runtime.shutdown_timeout(Duration::from_millis(200));
        }
    }
}

/// Turns away whoever does not show the token.
fn guard(token: Token) -> impl FnMut(Request<()>) -> Result<Request<()>, Status> + Clone {
    move |request| {
        let shown = request.metadata().get("authorization");
        if shown.is_some_and(|shown| token.is_shown_by(shown.as_bytes())) {
            Ok(request)
        } else {
            Err(Status::unauthenticated("the token of this run is missing or another one's"))
        }
    }
}

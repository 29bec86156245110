//! The agent's side: joins a run and is led by its coordinator.
//!
//! What steps do is the lab's, on its main thread. The connection lives on a thread of
//! its own, which answers pings at once, so that a step may take as long as it takes.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use measure::calllog::CallLog;
use tokio::{runtime::Runtime, sync::mpsc as queue};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Status, Streaming,
    metadata::MetadataValue,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use crate::{
    COORDINATOR_LOST_AFTER, MESSAGE_BYTES, NAME, Now, calls,
    token::Token,
    wire::{
        FromAgent, Hello, Ping, Pong, Reply, ToAgent, coordinator_client::CoordinatorClient,
        from_agent, reply, step, to_agent,
    },
};

/// Messages that wait to be sent to the coordinator.
const QUEUED: usize = 16;
/// How long one try to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause between two tries: the coordinator may be up later than its agents.
const RETRY_EVERY: Duration = Duration::from_millis(200);
/// The last part of the time after which a coordinator that says nothing is lost.
const LAST_LOOK: Duration = Duration::from_millis(200);
/// How often an agent without a step looks whether it is to end.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What the coordinator wants of the trial that runs, and how far that is.
#[derive(Debug, Default)]
pub struct Signals {
    over: AtomicBool,
    stop: AtomicBool,
    lost: AtomicBool,
    ended: AtomicU64,
    failed: AtomicU64,
    finished: AtomicBool,
}

impl Signals {
    /// Whether no node makes load any more.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Whether the trial is given up.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.is_lost()
    }

    /// Whether the coordinator is gone.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Says how far this node is.
    pub fn progress(&self, ended: u64, failed: u64, is_finished: bool) {
        self.ended.store(ended, Ordering::Relaxed);
        self.failed.store(failed, Ordering::Relaxed);
        self.finished.store(is_finished, Ordering::Relaxed);
    }

    /// Forgets the trial before.
    pub fn begin(&self) {
        self.over.store(false, Ordering::Relaxed);
        self.stop.store(false, Ordering::Relaxed);
        self.progress(0, 0, false);
    }
}

/// The connection to a run's coordinator.
#[derive(Debug)]
pub struct Link {
    steps: mpsc::Receiver<step::What>,
    to_coordinator: queue::Sender<FromAgent>,
    signals: Arc<Signals>,
    /// Kept for as long as the link is.
    _runtime: Runtime,
}

/// Why an agent could not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// There is no thread for it.
    #[error("cannot start: {0}")]
    Thread(io::Error),
    /// The address is none.
    #[error("--join {address}: {error}; expected HOST:PORT")]
    Address {
        /// As it was given.
        address: String,
        /// What is wrong with it.
        error: tonic::transport::Error,
    },
    /// Nobody answers there, or somebody else does.
    #[error("cannot reach the coordinator at {address}: {reason}")]
    Unreachable {
        /// Where it should be.
        address: String,
        /// What came of the last try.
        reason: String,
    },
    /// The coordinator does not want it.
    #[error("the coordinator at {address} says: {message}")]
    Refused {
        /// Where it is.
        address: String,
        /// Why not.
        message: String,
    },
}

/// The coordinator is lost, or has said that the run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Whether it was lost.
    pub is_lost: bool,
}

impl Link {
    /// Joins a run. Tries again for `limit` while nobody answers.
    ///
    /// # Errors
    /// When the coordinator can't be reached by then, or does not want this agent.
    pub fn join(
        address: &str,
        token: &Token,
        hello: Hello,
        limit: Duration,
        now: Now,
    ) -> Result<Self, JoinError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("agent")
            .enable_all()
            .build()
            .map_err(JoinError::Thread)?;
        let endpoint = endpoint(address, token)
            .map_err(|error| JoinError::Address { address: address.to_owned(), error })?;
        let channel = runtime.block_on(connect(&endpoint, address, limit))?;
        let (to_coordinator, messages) = queue::channel(QUEUED);
        let joined = runtime.block_on(join(channel, token, hello, &to_coordinator, messages));
        let incoming = joined.map_err(|status| {
            let (address, message) = (address.to_owned(), status.message().to_owned());
            match status.code() {
                Code::Unavailable | Code::Unknown => {
                    JoinError::Unreachable { address, reason: message }
                }
                _ => JoinError::Refused { address, message },
            }
        })?;
        let (sender, steps) = mpsc::channel();
        let signals = Arc::new(Signals::default());
        let serving = Serving { signals: Arc::clone(&signals), steps: sender, now };
        runtime.spawn(serving.serve(incoming, to_coordinator.clone()));
        Ok(Self { steps, to_coordinator, signals, _runtime: runtime })
    }

    /// What the coordinator wants of the trial that runs.
    pub fn signals(&self) -> &Arc<Signals> {
        &self.signals
    }

    /// The next step; `None` where this agent is to end before there is one.
    ///
    /// # Errors
    /// When there is none any more.
    pub fn next(&self, is_to_end: impl Fn() -> bool) -> Result<Option<step::What>, Ended> {
        loop {
            match self.steps.recv_timeout(LOOK_EVERY) {
                Ok(step) => return Ok(Some(step)),
                Err(RecvTimeoutError::Timeout) if is_to_end() => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Ended { is_lost: self.signals.is_lost() });
                }
            }
        }
    }

    /// Says what came of the step.
    pub fn reply(&self, what: reply::What) {
        self.send(from_agent::What::Reply(Reply { what: Some(what) }));
    }

    /// Ships a log, by its number among those of this node.
    pub fn ship(&self, number: u32, log: &CallLog) {
        calls::pieces(number, log).for_each(|piece| self.send(from_agent::What::Calls(piece)));
    }

    /// Waits while the connection is slower than what is sent.
    fn send(&self, what: from_agent::What) {
        // A coordinator that is gone is found out by the next step.
        let _ = self.to_coordinator.blocking_send(FromAgent { what: Some(what) });
    }
}

/// Where the coordinator is, and nobody else: it shows the certificate of the token.
fn endpoint(address: &str, token: &Token) -> Result<Endpoint, tonic::transport::Error> {
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(token.certificate_pem()))
        .domain_name(NAME);
    let endpoint = Endpoint::from_shared(format!("https://{address}"))?.tls_config(tls)?;
    Ok(endpoint.connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true))
}

async fn connect(
    endpoint: &Endpoint,
    address: &str,
    limit: Duration,
) -> Result<Channel, JoinError> {
    let deadline = Instant::now() + limit;
    loop {
        match endpoint.connect().await {
            Ok(channel) => return Ok(channel),
            Err(error) if Instant::now() > deadline => {
                let reason = with_sources(&error);
                return Err(JoinError::Unreachable { address: address.to_owned(), reason });
            }
            Err(_) => tokio::time::sleep(RETRY_EVERY).await,
        }
    }
}

/// An error with what it stems from: tonic's own says little.
fn with_sources(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(Some(error), |error| error.source());
    sources.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

async fn join(
    channel: Channel,
    token: &Token,
    hello: Hello,
    to_coordinator: &queue::Sender<FromAgent>,
    messages: queue::Receiver<FromAgent>,
) -> Result<Streaming<ToAgent>, Status> {
    let mut client = CoordinatorClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES)
        .max_encoding_message_size(MESSAGE_BYTES);
    // The queue is empty.
    let _ = to_coordinator.send(FromAgent { what: Some(from_agent::What::Hello(hello)) }).await;
    let mut request = Request::new(ReceiverStream::new(messages));
    let mut shown = MetadataValue::try_from(token.credentials())
        .map_err(|_| Status::invalid_argument("the token can't be sent"))?;
    shown.set_sensitive(true);
    request.metadata_mut().insert("authorization", shown);
    Ok(client.join(request).await?.into_inner())
}

/// What the coordinator says next; `None` once it is lost. Where the time was up because this
/// process had no CPU itself, what came meanwhile is about to be read, and is waited for.
async fn hear(incoming: &mut Streaming<ToAgent>) -> Option<ToAgent> {
    for wait in [COORDINATOR_LOST_AFTER - LAST_LOOK, LAST_LOOK] {
        if let Ok(heard) = tokio::time::timeout(wait, incoming.message()).await {
            return heard.ok().flatten();
        }
    }
    None
}

/// The thread of the connection.
struct Serving {
    signals: Arc<Signals>,
    steps: mpsc::Sender<step::What>,
    now: Now,
}

impl Serving {
    /// Hands steps over and answers pings until the coordinator ends the run or is lost.
    async fn serve(self, mut incoming: Streaming<ToAgent>, outgoing: queue::Sender<FromAgent>) {
        let is_lost = loop {
            let Some(message) = hear(&mut incoming).await else { break true };
            match message.what {
                Some(to_agent::What::Ping(ping)) => {
                    let received_ns = (self.now)();
                    // It waits behind a log that is shipped, and not for longer than the
                    // coordinator may be silent.
                    let sent = outgoing.send(self.pong(ping, received_ns));
                    if !matches!(
                        tokio::time::timeout(COORDINATOR_LOST_AFTER, sent).await,
                        Ok(Ok(()))
                    ) {
                        break true;
                    }
                }
                Some(to_agent::What::Step(step)) => {
                    let Some(step) = step.what else { break true };
                    // The lab ends.
                    if self.steps.send(step).is_err() {
                        return;
                    }
                }
                Some(to_agent::What::Over(_)) => self.signals.over.store(true, Ordering::Relaxed),
                Some(to_agent::What::Stop(_)) => self.signals.stop.store(true, Ordering::Relaxed),
                Some(to_agent::What::Bye(_)) => break false,
                None => break true,
            }
        };
        self.signals.stop.store(true, Ordering::Relaxed);
        self.signals.lost.store(is_lost, Ordering::Relaxed);
        drop(self.steps);
    }

    fn pong(&self, ping: Ping, received_ns: u64) -> FromAgent {
        let what = from_agent::What::Pong(Pong {
            sent_ns: ping.sent_ns,
            received_ns,
            answered_ns: (self.now)(),
            ended: self.signals.ended.load(Ordering::Relaxed),
            failed: self.signals.failed.load(Ordering::Relaxed),
            is_finished: self.signals.finished.load(Ordering::Relaxed),
        });
        FromAgent { what: Some(what) }
    }
}

//! The connections from one thread to one backend.
//!
//! A call takes a [`Lease`]: a place on a connection, below what the backend
//! and the proxy allow. When all connections are full another is opened, up to
//! the bound; a call never waits behind a full one. Which backend a call goes
//! to is decided before anyone looks here, so that open connections have no
//! say in it.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use balance::SplitMix64;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serve::Gauge;
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use super::request_body::RequestBody;
use super::tap::{Observer, Tap};
use super::wire::Wire;
use crate::circuit::{CircuitLimits, Limit};
use crate::config::UpstreamLimits;
use crate::metrics::BackendCounters;
use crate::planes::Shared;
use crate::tls::Tls;
use crate::tls::counters::TlsCounters;
use crate::upstreams::Upstream;

/// hyper's future of a connection; it resolves when no more calls can be sent.
type Driver = http2::Connection<TokioIo<Tap<Connection>>, RequestBody, TokioExecutor>;

/// Why there is no place for a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unavailable {
    /// All connections are full and no more may be opened.
    Full,
    /// A circuit limit is reached.
    Circuit(Limit),
    /// No connection could be made, for this reason.
    Connect(String),
}

/// What the pools of one thread count together.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pending: AtomicU32,
    connections: AtomicU32,
}

/// One of something that is counted, for as long as it lives.
struct Counted<'a>([&'a AtomicU32; 2]);

impl<'a> Counted<'a> {
    fn new(counts: [&'a AtomicU32; 2]) -> Self {
        for count in counts {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Self(counts)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        for count in self.0 {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The connections from one thread to one backend.
pub(super) struct Pool {
    upstream: Arc<Upstream>,
    limits: UpstreamLimits,
    circuit: CircuitLimits,
    counters: BackendCounters,
    /// Calls that wait for its connections.
    pending: AtomicU32,
    tally: Arc<Tally>,
    tls: Arc<Tls>,
    tls_counters: TlsCounters,
    state: Mutex<State>,
}

struct State {
    connections: Vec<Arc<Connection>>,
    /// The backend has left the set: connections end with their calls.
    is_retired: bool,
    backoff: Backoff,
    chance: SplitMix64,
}

impl Pool {
    pub(super) fn new(
        upstream: Arc<Upstream>,
        shared: &Shared,
        (tally, tls_counters): (Arc<Tally>, TlsCounters),
        seed: u64,
    ) -> Self {
        let (config, tls) = (&shared.config, Arc::clone(&shared.tls));
        let counters = upstream.counters(&config.metrics);
        let (limits, circuit) = (config.upstream.clone(), config.circuit.clone());
        let state = State {
            connections: Vec::new(),
            is_retired: false,
            backoff: Backoff::default(),
            chance: SplitMix64::new(seed),
        };
        let (pending, state) = (AtomicU32::new(0), Mutex::new(state));
        Self { upstream, limits, circuit, counters, pending, tally, tls, tls_counters, state }
    }

    pub(super) fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    pub(super) fn counters(&self) -> &BackendCounters {
        &self.counters
    }

    /// A place on a connection that is ready. Waits only for a connection that
    /// is being made, and no longer than connecting may take.
    pub(super) async fn lease(self: &Arc<Self>) -> Result<Lease, Unavailable> {
        loop {
            let lease = self.reserve()?;
            let _pending = self.wait_for(&lease)?;
            lease.connection.ready().await.map_err(Unavailable::Connect)?;
            // Places were given out on an assumption before SETTINGS came;
            // those beyond what SETTINGS allow have to look again. Each round
            // that fails has filled a connection, so the bound ends the loop.
            if lease.connection.is_within_limit() {
                return Ok(lease);
            }
        }
    }

    /// The backend has left the set: its connections end with their calls.
    pub(super) fn retire(&self) {
        let mut state = self.lock();
        state.is_retired = true;
        for connection in &state.connections {
            connection.retire();
        }
    }

    /// Counts a call as waiting, if it has to wait.
    fn wait_for(&self, lease: &Lease) -> Result<Option<Counted<'_>>, Unavailable> {
        if lease.connection.sender.get().is_some() {
            return Ok(None);
        }
        let counts = [&self.pending, &self.tally.pending];
        let [of_backend, total] = counts.map(|count| count.load(Ordering::Relaxed));
        self.circuit.check_pending(of_backend, total).map_err(Unavailable::Circuit)?;
        Ok(Some(Counted::new(counts)))
    }

    fn reserve(self: &Arc<Self>) -> Result<Lease, Unavailable> {
        let mut state = self.lock();
        if let Some(lease) = state.connections.iter().find_map(Connection::lease) {
            return Ok(lease);
        }
        let usable = |connection: &&Arc<Connection>| !connection.is_leaving();
        if state.connections.iter().filter(usable).count() >= self.limits.backend_max_connections {
            return Err(Unavailable::Full);
        }
        if let Some(reason) = state.backoff.rest(Instant::now()) {
            return Err(Unavailable::Connect(reason));
        }
        let connections = self.tally.connections.load(Ordering::Relaxed);
        self.circuit.check_connections(connections).map_err(Unavailable::Circuit)?;
        self.tally.connections.fetch_add(1, Ordering::Relaxed);
        let connection = Arc::new(Connection::new(&self.limits));
        state.connections.push(Arc::clone(&connection));
        let lease = Connection::lease(&connection);
        if state.is_retired {
            // A call that was given the backend before it left.
            connection.retire();
        }
        // Not joined: it ends with the connection, or with the runtime.
        tokio::spawn(Arc::clone(self).run(connection));
        lease.ok_or(Unavailable::Full)
    }

    /// A connection's life, from connecting to its end.
    async fn run(self: Arc<Self>, connection: Arc<Connection>) {
        let patience = self.limits.connect_timeout;
        let made = timeout(patience, self.connect(&connection)).await.unwrap_or_else(|_| {
            Err(format!("no HTTP/2 connection within {}", serve::duration::format(patience)))
        });
        match made {
            Ok((sender, driver)) => {
                self.counters.connects_ok.inc();
                self.lock().backoff = Backoff::default();
                let _open = Open::count(&self.counters.connections);
                connection.become_ready(sender);
                // An error says why the connection ended; the calls on it
                // learn that for themselves.
                tokio::select! {
                    _ = driver => {}
                    // The driver is dropped, and with it the connection.
                    () = connection.over() => {}
                }
                self.forget(&connection);
            }
            Err(reason) => {
                self.counters.connects_failed.inc();
                self.upstream.note_failure();
                let mut state = self.lock();
                let random = state.chance.next_u64();
                state.backoff.fail(Instant::now(), &self.limits, random, reason.clone());
                drop(state);
                self.forget(&connection);
                connection.fail(reason);
            }
        }
    }

    async fn connect(
        &self,
        connection: &Arc<Connection>,
    ) -> Result<(SendRequest<RequestBody>, Driver), String> {
        let stream =
            TcpStream::connect(self.upstream.addr()).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let wire = self.secure(stream).await?;
        let io = TokioIo::new(Tap::new(wire, Arc::clone(connection)));
        let (sender, mut driver) =
            self.builder().handshake(io).await.map_err(|error| error.to_string())?;
        tokio::select! {
            biased;
            () = connection.settings.notified() => Ok((sender, driver)),
            _ = &mut driver => Err("it was closed before its SETTINGS came".to_owned()),
        }
    }

    /// Shakes hands, where TLS is spoken.
    async fn secure(&self, stream: TcpStream) -> Result<Wire, String> {
        let Some(tls) = self.tls.client(self.upstream.addr().ip()) else {
            return Ok(Wire::Plain(stream));
        };
        let shaken = Wire::connect(stream, tls).await;
        let counters = &self.tls_counters;
        let count = if shaken.is_ok() { &counters.backends_ok } else { &counters.backends_failed };
        count.inc();
        shaken.map_err(|error| error.to_string())
    }

    fn builder(&self) -> http2::Builder<TokioExecutor> {
        let limits = &self.limits;
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .adaptive_window(false)
            .initial_stream_window_size(limits.backend_stream_window_bytes)
            .initial_connection_window_size(limits.backend_connection_window_bytes)
            .initial_max_send_streams(limits.backend_assumed_streams as usize)
            .max_frame_size(limits.backend_max_frame_bytes)
            .max_header_list_size(limits.backend_max_header_list_bytes)
            .header_table_size(limits.backend_header_table_bytes)
            .max_send_buf_size(limits.backend_send_buffer_bytes)
            .max_local_error_reset_streams(limits.backend_max_error_resets)
            // Pushes are disabled, so the backend may open no stream at all.
            .max_concurrent_streams(0);
        builder
    }

    fn forget(&self, connection: &Arc<Connection>) {
        connection.leave();
        self.tally.connections.fetch_sub(1, Ordering::Relaxed);
        self.lock().connections.retain(|other| !Arc::ptr_eq(other, connection));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under the lock can leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection, in the eyes of those who put calls on it.
pub(super) struct Connection {
    /// Set once, when the connection is ready.
    sender: OnceLock<SendRequest<RequestBody>>,
    stage: watch::Sender<Stage>,
    /// Told when the first SETTINGS arrive.
    settings: Notify,
    /// Calls on it, and calls that wait for it to be ready.
    leases: AtomicU32,
    limit: AtomicU32,
    /// Our own bound, which SETTINGS can only lower.
    cap: u32,
    leaving: AtomicBool,
    retired: AtomicBool,
    /// Told when the last call of a retired connection has ended.
    over: Notify,
}

#[derive(Clone, Debug)]
enum Stage {
    Connecting,
    Ready,
    Failed(String),
}

impl Connection {
    fn new(limits: &UpstreamLimits) -> Self {
        let cap = limits.backend_max_streams;
        Self {
            sender: OnceLock::new(),
            stage: watch::Sender::new(Stage::Connecting),
            settings: Notify::new(),
            leases: AtomicU32::new(0),
            limit: AtomicU32::new(cap.min(limits.backend_assumed_streams)),
            cap,
            leaving: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            over: Notify::new(),
        }
    }

    /// A place on it, if it has one.
    fn lease(self: &Arc<Self>) -> Option<Lease> {
        let is_closed = || self.sender.get().is_some_and(SendRequest::is_closed);
        let has_place = self.leases.load(Ordering::Relaxed) < self.limit.load(Ordering::Relaxed);
        if !has_place || self.is_leaving() || is_closed() {
            return None;
        }
        self.leases.fetch_add(1, Ordering::Relaxed);
        Some(Lease { connection: Arc::clone(self) })
    }

    fn is_within_limit(&self) -> bool {
        self.leases.load(Ordering::Relaxed) <= self.limit.load(Ordering::Relaxed)
    }

    fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// It takes no more calls, and is over when it has none.
    fn retire(&self) {
        self.leave();
        self.retired.store(true, Ordering::Relaxed);
        self.over.notify_one();
    }

    /// Waits until it is retired and has no call.
    async fn over(&self) {
        while !self.retired.load(Ordering::Relaxed) || self.leases.load(Ordering::Relaxed) > 0 {
            self.over.notified().await;
        }
    }

    async fn ready(&self) -> Result<(), String> {
        if self.sender.get().is_some() {
            return Ok(());
        }
        let mut stage = self.stage.subscribe();
        let settled = stage.wait_for(|stage| !matches!(stage, Stage::Connecting)).await;
        match settled.as_deref() {
            Ok(Stage::Failed(reason)) => Err(reason.clone()),
            _ => Ok(()),
        }
    }

    fn become_ready(&self, sender: SendRequest<RequestBody>) {
        // Set once: only the task that runs the connection comes here.
        let _ = self.sender.set(sender);
        self.stage.send_replace(Stage::Ready);
    }

    fn fail(&self, reason: String) {
        self.stage.send_replace(Stage::Failed(reason));
    }
}

impl Observer for Connection {
    fn settings(&self, max_concurrent_streams: Option<u32>) {
        // A later SETTINGS without the parameter leaves it as it was.
        if max_concurrent_streams.is_some() || self.sender.get().is_none() {
            let allowed = max_concurrent_streams.unwrap_or(u32::MAX);
            self.limit.store(allowed.min(self.cap), Ordering::Relaxed);
        }
        self.settings.notify_one();
    }

    fn go_away(&self) {
        self.leave();
    }
}

/// A call's place on a connection, kept until the call is over both ways.
pub(super) struct Lease {
    connection: Arc<Connection>,
}

impl Lease {
    /// What the call is sent with. `None` only for a lease that was not waited
    /// for.
    pub(super) fn sender(&self) -> Option<SendRequest<RequestBody>> {
        self.connection.sender.get().cloned()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let before = self.connection.leases.fetch_sub(1, Ordering::Relaxed);
        if before == 1 && self.connection.retired.load(Ordering::Relaxed) {
            self.connection.over.notify_one();
        }
    }
}

/// Counts a connection as open for as long as it lives.
struct Open(Gauge);

impl Open {
    fn count(gauge: &Gauge) -> Self {
        gauge.add(1);
        Self(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.sub(1);
    }
}

/// When the next attempt to connect may be made.
#[derive(Debug, Default)]
struct Backoff {
    failures: u32,
    rest: Option<(Instant, String)>,
}

impl Backoff {
    /// The reason of the last failure, while it is too early to try again.
    fn rest(&self, now: Instant) -> Option<String> {
        self.rest.as_ref().filter(|(until, _)| now < *until).map(|(_, reason)| reason.clone())
    }

    fn fail(&mut self, now: Instant, limits: &UpstreamLimits, random: u64, reason: String) {
        let pause = pause(self.failures, limits.backoff_min, limits.backoff_max, random);
        self.failures = self.failures.saturating_add(1);
        self.rest = Some((now + pause, reason));
    }
}

/// The pause after a failure that `failures` others came before, within 80 to
/// 120 % of its nominal length.
fn pause(failures: u32, min: Duration, max: Duration, random: u64) -> Duration {
    let growth = 1.6_f64.powi(failures.min(64) as i32);
    let nominal = (min.as_secs_f64() * growth).min(max.as_secs_f64());
    let jitter = 0.8 + 0.4 * (random as f64 / u64::MAX as f64);
    Duration::from_secs_f64(nominal * jitter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> UpstreamLimits {
        UpstreamLimits::default()
    }

    #[test]
    fn pauses_grow_to_the_bound_and_jitter_around_it() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(5));
        let middle = u64::MAX / 2;
        let nominal: Vec<_> =
            (0..4).map(|failures| pause(failures, min, max, middle).as_millis()).collect();
        assert_eq!(nominal, [100, 160, 256, 409]);
        assert_eq!(pause(u32::MAX, min, max, middle), max);
        assert_eq!(pause(0, min, max, 0), Duration::from_millis(80));
        assert_eq!(pause(0, min, max, u64::MAX), Duration::from_millis(120));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_connects_during_the_rest() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.rest(Instant::now()), None);
        backoff.fail(Instant::now(), &limits(), u64::MAX / 2, "refused".to_owned());
        assert_eq!(backoff.rest(Instant::now()).as_deref(), Some("refused"));
        tokio::time::advance(limits().backoff_min).await;
        assert_eq!(backoff.rest(Instant::now()), None);
    }

    #[test]
    fn places_follow_the_settings_and_come_back() {
        let connection = Arc::new(Connection::new(&limits()));
        let assumed: Vec<_> = std::iter::from_fn(|| connection.lease()).collect();
        assert_eq!(assumed.len(), 100);
        connection.settings(Some(3));
        assert!(!connection.is_within_limit());
        drop(assumed);
        let allowed: Vec<_> = std::iter::from_fn(|| connection.lease()).collect();
        assert_eq!(allowed.len(), 3);
        connection.settings(None);
        assert!(connection.lease().is_some(), "no limit in SETTINGS is no limit but ours");
    }

    #[test]
    fn a_connection_that_leaves_takes_no_call() {
        let connection = Arc::new(Connection::new(&limits()));
        connection.go_away();
        assert!(connection.lease().is_none());
    }
}

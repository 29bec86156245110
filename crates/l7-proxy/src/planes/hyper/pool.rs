//! The connections from one thread to one backend.
//!
//! A call takes a [`Lease`]: a place on a connection, below what the backend
//! and the proxy allow. When all connections are full another is opened, up to
//! the bound; a call never waits behind a full one. Which backend a call goes
//! to is decided before anyone looks here, so that open connections have no
//! say in it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use balance::SplitMix64;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serve::Gauge;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::connection::{Connection, Lease};
use super::held::{Keeper, Kept};
use super::request_body::RequestBody;
use super::tap::Tap;
use super::wire::Wire;
use crate::circuit::{CircuitLimits, Limit};
use crate::config::UpstreamLimits;
use crate::metrics::{BackendCounters, GuardCounters};
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
    guard_counters: GuardCounters,
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
        tally: Arc<Tally>,
        (tls_counters, guard_counters): (TlsCounters, GuardCounters),
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
        Self {
            upstream,
            limits,
            circuit,
            counters,
            pending: AtomicU32::new(0),
            tally,
            tls,
            tls_counters,
            guard_counters,
            state: Mutex::new(state),
        }
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
            lease.connection().ready().await.map_err(Unavailable::Connect)?;
            // Places were given out on an assumption before SETTINGS came;
            // those beyond what SETTINGS allow have to look again. Each round
            // that fails has filled a connection, so the bound ends the loop.
            if lease.connection().is_within_limit() {
                return Ok(lease);
            }
        }
    }

    /// The backend has left the set: its connections end with their calls.
    pub(super) fn retire(&self) {
        let mut state = self.lock();
        state.is_retired = true;
        for connection in &state.connections {
            connection.leave();
        }
    }

    /// Counts a call as waiting, if it has to wait.
    fn wait_for(&self, lease: &Lease) -> Result<Option<Counted<'_>>, Unavailable> {
        if lease.connection().is_ready() {
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
        let (connection, kept) = Connection::new(&self.limits, self.guard_counters.clone());
        let connection = Arc::new(connection);
        state.connections.push(Arc::clone(&connection));
        let lease = Connection::lease(&connection);
        if state.is_retired {
            // A call that was given the backend before it left.
            connection.leave();
        }
        // Not joined: it ends with the connection, or with the runtime.
        tokio::spawn(Arc::clone(self).run(connection, kept));
        lease.ok_or(Unavailable::Full)
    }

    /// A connection's life, from connecting to its end.
    async fn run(
        self: Arc<Self>,
        connection: Arc<Connection>,
        kept: mpsc::UnboundedReceiver<Kept>,
    ) {
        let patience = self.limits.connect_timeout;
        let made = timeout(patience, self.connect(&connection)).await.unwrap_or_else(|_| {
            Err(format!("no HTTP/2 connection within {}", serve::duration::format(patience)))
        });
        match made {
            Ok((sender, driver)) => {
                self.counters.connects_ok.inc();
                self.lock().backoff = Backoff::default();
                connection.become_ready(sender);
                self.carry(&connection, driver, Keeper::new(kept)).await;
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

    /// The life of a connection that is ready.
    async fn carry(&self, connection: &Connection, driver: Driver, mut keeper: Keeper) {
        let open = Open::count(&self.counters.connections);
        // An error says why the connection ended; the calls on it learn that
        // for themselves.
        tokio::select! {
            _ = driver => {}
            // The driver is dropped, and with it the connection.
            () = connection.over() => {}
            never = keeper.keep() => match never {},
        }
        self.forget(connection);
        drop(open);
        // Calls that were on it may go on, and must not suffer from resets that
        // come all at once.
        tokio::select! {
            () = connection.over() => {}
            never = keeper.keep() => match never {},
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
        let io = TokioIo::new(Tap::new(wire, Arc::clone(connection), connection.question()));
        let (sender, mut driver) =
            self.builder().handshake(io).await.map_err(|error| error.to_string())?;
        tokio::select! {
            biased;
            () = connection.greeted() => Ok((sender, driver)),
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

    fn forget(&self, connection: &Connection) {
        connection.leave();
        self.tally.connections.fetch_sub(1, Ordering::Relaxed);
        self.lock().connections.retain(|other| !std::ptr::eq(&**other, connection));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under the lock can leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
}

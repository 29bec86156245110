//! The connections from one thread to one backend, and the calls that wait for
//! them.
//!
//! A call takes a [`Lease`]: a place on a connection, below what the backend
//! and the proxy allow. When all connections are full it waits for a place, in
//! turn, within the limits on waiting calls and its own deadline; another
//! connection is made meanwhile, one at a time, up to the bound.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::Arc,
};

use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpStream,
    sync::Notify,
    task::spawn_local,
    time::{Instant, sleep_until, timeout},
};

use super::{
    connection::{Connection, Lease, Sender},
    local::{Count, LocalExecutor, Stream, held},
    replay_body::ReplayBody,
    thread::Thread,
};
use crate::{
    circuit::Limit,
    config::UpstreamLimits,
    failure::Failure,
    metrics::BackendCounters,
    planes::{Shared, backoff::Backoff},
    tls::counters::TlsCounters,
    upstreams::{Upstream, UpstreamSet},
};

/// hyper's future of a connection; it resolves when no more calls can be sent.
type Driver = http2::Connection<TokioIo<Box<dyn Stream>>, ReplayBody<Incoming>, LocalExecutor>;

/// How many streams h2 takes a backend to allow before its SETTINGS have come. No
/// SETTINGS can say so, and without a limit h2 says `usize::MAX`; that tells when
/// they have come. No call is sent before.
const NO_SETTINGS_YET: usize = usize::MAX - 1;

/// The largest window (RFC 9113, section 6.9.1).
const MAX_WINDOW: u32 = (1 << 31) - 1;

/// The connections from one thread to all backends.
#[derive(Default)]
pub(super) struct Pools {
    /// By the address of the `Upstream`, which the pool keeps alive.
    all: RefCell<HashMap<*const Upstream, Rc<Pool>>>,
    /// The set that they follow.
    version: Cell<u64>,
}

impl Pools {
    /// Follows a change of the backends: those that left give their connections
    /// up, once the calls on them have ended. That it happens with the next call
    /// leaves the connections of an idle thread open.
    pub(super) fn follow(&self, set: &UpstreamSet) {
        if self.version.replace(set.version()) == set.version() {
            return;
        }
        self.all.borrow_mut().retain(|_, pool| {
            let stays = set.upstreams().iter().any(|kept| Arc::ptr_eq(kept, &pool.upstream));
            if !stays {
                pool.retire();
            }
            stays
        });
    }

    /// That of a backend.
    pub(super) fn of(&self, upstream: &Arc<Upstream>, shared: &Arc<Shared>) -> Rc<Pool> {
        let mut pools = self.all.borrow_mut();
        let pool = pools
            .entry(Arc::as_ptr(upstream))
            .or_insert_with(|| Rc::new(Pool::new(Arc::clone(upstream), Arc::clone(shared))));
        Rc::clone(pool)
    }
}

/// The connections from one thread to one backend.
pub(super) struct Pool {
    pub(super) upstream: Arc<Upstream>,
    pub(super) counters: BackendCounters,
    shared: Arc<Shared>,
    /// Calls that wait for its connections.
    pending: Count,
    /// Told when a waiting call may find a place, or must wait no longer.
    changed: Rc<Notify>,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    /// Those that are ready.
    connections: Vec<Rc<Connection>>,
    is_connecting: bool,
    /// The backend has left the set: connections end with their calls.
    is_retired: bool,
    backoff: Backoff,
}

impl Pool {
    pub(super) fn new(upstream: Arc<Upstream>, shared: Arc<Shared>) -> Self {
        Self {
            counters: upstream.counters(&shared.config.metrics),
            upstream,
            shared,
            pending: Count::default(),
            changed: Rc::default(),
            state: RefCell::default(),
        }
    }

    fn limits(&self) -> &UpstreamLimits {
        &self.shared.config.upstream
    }

    /// The backend's name, for a message.
    pub(super) fn name(&self) -> String {
        self.upstream.name().to_owned()
    }

    /// Now, by the clock of the policies.
    pub(super) fn now_ns(&self) -> u64 {
        self.shared.upstreams.now_ns()
    }

    /// Whether the policy goes by what backends report of their load.
    pub(super) fn uses_reports(&self) -> bool {
        self.shared.config.policy.uses_reports()
    }

    fn circuit_open(&self, limit: Limit) -> Failure {
        Failure::CircuitOpen { backend: self.name(), limit }
    }

    /// A place on a connection, for an attempt that is counted already. Waits for one
    /// where all are taken.
    pub(super) async fn lease(self: &Rc<Self>, thread: &Rc<Thread>) -> Result<Lease, Failure> {
        let total = || {
            let current = self.shared.upstreams.current();
            current.upstreams().iter().map(|upstream| upstream.backend().in_flight()).sum()
        };
        let in_flight = self.upstream.backend().in_flight();
        let checked = self.shared.config.circuit.check_requests(in_flight, total);
        checked.map_err(|limit| self.circuit_open(limit))?;
        // Those that wait were here before.
        if held(&self.pending) == 0
            && let Some(lease) = self.free_place()
        {
            return Ok(lease);
        }
        let _waiting = self.wait(&thread.pending)?;
        loop {
            match self.connect_if_due(thread)? {
                None => self.changed.notified().await,
                Some(at) => tokio::select! {
                    () = self.changed.notified() => {}
                    () = sleep_until(at) => {}
                },
            }
            if let Some(lease) = self.free_place() {
                // There may be more than one.
                self.changed.notify_one();
                return Ok(lease);
            }
        }
    }

    /// The backend has left the set: its connections end with their calls.
    pub(super) fn retire(&self) {
        let mut state = self.state.borrow_mut();
        state.is_retired = true;
        for connection in &state.connections {
            connection.leave();
        }
        self.changed.notify_waiters();
    }

    fn free_place(&self) -> Option<Lease> {
        self.state.borrow().connections.iter().find_map(Connection::lease)
    }

    /// Counts a call as waiting.
    fn wait(&self, all_pending: &Count) -> Result<[Count; 2], Failure> {
        let counts = [&self.pending, all_pending];
        let [of_backend, total] = counts.map(held);
        let checked = self.shared.config.circuit.check_pending(of_backend, total);
        checked.map_err(|limit| self.circuit_open(limit))?;
        Ok(counts.map(Rc::clone))
    }

    /// Makes another connection, if one is wanted and may be made. Gives when to
    /// look again, if time alone changes that.
    fn connect_if_due(self: &Rc<Self>, thread: &Rc<Thread>) -> Result<Option<Instant>, Failure> {
        let mut state = self.state.borrow_mut();
        if state.is_retired {
            return Err(Failure::NoBackend);
        }
        let usable =
            || state.connections.iter().filter(|connection| !connection.places().is_leaving);
        let count = usable().count();
        // A backend that allows no call on one connection wants no second.
        let is_refused = usable().any(|connection| connection.places().are_none());
        if state.is_connecting || is_refused || count >= self.limits().backend_max_connections {
            return Ok(None);
        }
        let connections = held(&thread.connections);
        let (why_not, again) = if let Some((pause, reason)) = state.backoff.rest(self.now_ns()) {
            let reason = reason.to_owned();
            (Failure::Connect { backend: self.name(), reason }, Some(Instant::now() + pause))
        } else if let Err(limit) = self.shared.config.circuit.check_connections(connections) {
            (self.circuit_open(limit), None)
        } else {
            state.is_connecting = true;
            // Not joined: it ends with the connection, or with the local set.
            spawn_local(Rc::clone(self).run(Rc::clone(thread)));
            return Ok(None);
        };
        // While there are connections, a place on one will become free.
        if count > 0 { Ok(again) } else { Err(why_not) }
    }

    /// A connection's life, from connecting to its end.
    async fn run(self: Rc<Self>, thread: Rc<Thread>) {
        let _counted = Rc::clone(&thread.connections);
        let executor = LocalExecutor::default();
        let patience = self.limits().connect_timeout;
        let made = timeout(patience, self.connect(&executor, &thread)).await.unwrap_or_else(|_| {
            Err(format!("no HTTP/2 connection within {}", serve::duration::format(patience)))
        });
        self.state.borrow_mut().is_connecting = false;
        match made {
            Ok((sender, driver)) => {
                self.counters.connects_ok.inc();
                self.carry(sender, driver, &executor, &thread).await;
            }
            Err(reason) => {
                self.counters.connects_failed.inc();
                self.upstream.note_failure(self.now_ns());
                let backoff = &mut self.state.borrow_mut().backoff;
                backoff.fail(self.now_ns(), self.limits(), thread.random(), reason);
            }
        }
        self.changed.notify_waiters();
    }

    /// The life of a connection that is ready.
    async fn carry(
        &self,
        sender: Sender,
        mut driver: Driver,
        executor: &LocalExecutor,
        thread: &Thread,
    ) {
        let begun = Instant::now();
        let connection = Rc::new(Connection::new(sender, self.limits(), Rc::clone(&self.changed)));
        connection.places().allow(driver.current_max_send_streams());
        if self.state.borrow().is_retired {
            return;
        }
        self.counters.connections.add(1);
        self.state.borrow_mut().connections.push(Rc::clone(&connection));
        self.changed.notify_waiters();
        let is_ours = loop {
            tokio::select! {
                biased;
                // GOAWAY has come, or the end. An error says why; the calls on it
                // learn that for themselves.
                _ = &mut driver => break false,
                // The driver is dropped, and with it the connection.
                () = connection.over() => break true,
                () = executor.ran.notified() => {}
            }
            if connection.places().allow(driver.current_max_send_streams()) {
                self.changed.notify_waiters();
            }
        };
        connection.leave();
        drop(driver);
        self.counters.connections.sub(1);
        self.state.borrow_mut().connections.retain(|other| !Rc::ptr_eq(other, &connection));
        if !connection.places().is_over() {
            self.changed.notify_waiters();
            // The calls on it may have been served, and not know it yet.
            connection.over().await;
        }
        let backoff = &mut self.state.borrow_mut().backoff;
        if connection.places().has_served || begun.elapsed() >= self.limits().backoff_max {
            backoff.clear();
        } else if !is_ours {
            let reason = "it was closed before it had served a call".to_owned();
            backoff.fail_unproven(self.now_ns(), self.limits(), thread.random(), reason);
        }
    }

    async fn connect(
        &self,
        executor: &LocalExecutor,
        thread: &Thread,
    ) -> Result<(Sender, Driver), String> {
        let addr = self.upstream.addr();
        let stream = TcpStream::connect(addr).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let stream: Box<dyn Stream> = match self.shared.tls.client(addr.ip()) {
            None => Box::new(stream),
            Some(tls) => {
                let shaken = serve::tls::connect(stream, tls).await;
                let TlsCounters { backends_ok, backends_failed, .. } = &thread.tls_counters;
                let count = if shaken.is_ok() { backends_ok } else { backends_failed };
                count.inc();
                Box::new(shaken.map_err(|error| error.to_string())?)
            }
        };
        let io = TokioIo::new(stream);
        let shaken = self.builder(executor.clone()).handshake(io).await;
        let (sender, mut driver) = shaken.map_err(|error| error.to_string())?;
        // As gRPC clients do, it is taken for ready when SETTINGS have come: before,
        // nothing says that the other end speaks HTTP/2.
        while driver.current_max_send_streams() == NO_SETTINGS_YET {
            tokio::select! {
                biased;
                () = executor.ran.notified() => {}
                _ = &mut driver => return Err("it was closed before its SETTINGS came".to_owned()),
            }
        }
        Ok((sender, driver))
    }

    fn builder(&self, executor: LocalExecutor) -> http2::Builder<LocalExecutor> {
        let limits = self.limits();
        let mut builder = http2::Builder::new(executor);
        builder
            .timer(TokioTimer::new())
            .adaptive_window(false)
            .initial_stream_window_size(limits.backend_stream_window_bytes)
            .initial_connection_window_size(connection_window(limits))
            .initial_max_send_streams(NO_SETTINGS_YET)
            .max_frame_size(limits.backend_max_frame_bytes)
            .max_header_list_size(limits.backend_max_header_list_bytes)
            .header_table_size(limits.backend_header_table_bytes)
            .max_send_buf_size(limits.backend_send_buffer_bytes)
            .max_local_error_reset_streams(limits.backend_max_error_resets)
            .keep_alive_interval(limits.backend_keepalive_interval)
            .keep_alive_timeout(limits.backend_keepalive_timeout)
            // Servers take PINGs on connections without a call amiss.
            .keep_alive_while_idle(false)
            // Pushes are disabled, so the backend may open no stream at all.
            .max_concurrent_streams(0);
        builder
    }
}

/// A window for all streams together: h2 gives a connection's credit back with the
/// bytes that are taken, so calls whose clients take nothing would use a smaller
/// one up, and hold up the calls of others.
fn connection_window(limits: &UpstreamLimits) -> u32 {
    let all = limits.backend_max_streams.saturating_mul(limits.backend_stream_window_bytes);
    all.clamp(limits.backend_connection_window_bytes, MAX_WINDOW)
}

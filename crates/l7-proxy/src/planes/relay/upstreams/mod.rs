//! The connections from one thread to the backends, and the calls that wait for
//! a place on one.
//!
//! A call waits at the backend that was picked for it while a connection to it
//! is being made, unless the one before was lost: then other backends are offered
//! the call. When every backend that it was offered to is full, or allows
//! no streams for the moment, it waits in one queue of the thread instead, the
//! overflow, and takes the first place that becomes free on any of them: a
//! backend that is slow or stuck then holds up its own share of the calls and
//! no others. Both queues are in the order of arrival, and both count against
//! the circuit limits on what may wait.
//!
//! Further connections are made one at a time for each backend: a burst would
//! open as many as may be before the first has said how many streams it takes.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use event_loop::{Arena, Timers, connect};
use h2_wire::connection::{Connection, Options, StreamKey};
use h2_wire::{Error, Reason};
use rustix::io::Errno;

use super::call::{CallKey, Place};
use super::calls::{Moment, Target, Targets};
use super::clients::ending;
use super::endpoint::Endpoint;
use super::io::{Io, Side};
use super::link::{Link, LinkKey, Pool, PoolKey, Stage};
use super::options;
use super::secure::Secure;
use crate::circuit::{CircuitCounters, Limit};
use crate::failure::Failure;
use crate::metrics::GuardCounters;
use crate::planes::Shared;
use crate::tls::counters::TlsCounters;

/// The part of a connection's streams that may be waiting for their resets only.
const HELD_SHARE: usize = 4;

/// Why a connection ended whose other end said no more.
pub(super) const CLOSED: &str = "it was closed";

/// The backends' side of one thread.
pub(super) struct Upstreams {
    shared: Arc<Shared>,
    pub(super) links: Arena<Link>,
    pub(super) pools: Arena<Pool>,
    pub(super) targets: Targets,
    /// Calls that wait for a place at any backend.
    pub(super) overflow: VecDeque<CallKey>,
    /// These, and those that wait for a connection of one.
    pub(super) pending: u32,
    /// Attempts to connect, in nanoseconds.
    pub(super) timers: Timers<LinkKey>,
    options: Arc<Options>,
    guard: GuardCounters,
    circuit: CircuitCounters,
    tls: TlsCounters,
}

/// Where a call is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Assigned {
    /// On this connection, which has a place for it.
    To(LinkKey),
    /// It waits.
    Waits(Place),
}

/// A connection that has ended.
pub(super) struct Lost {
    pub(super) pool: PoolKey,
    /// The calls that were on it, and whether the backend may have looked at
    /// them.
    pub(super) calls: Vec<(CallKey, bool)>,
}

impl Upstreams {
    pub(super) fn new(shared: &Arc<Shared>, guard: GuardCounters) -> Self {
        let config = &shared.config;
        let set = Arc::clone(&shared.upstreams.current());
        Self {
            links: Arena::default(),
            pools: Arena::default(),
            targets: Targets { set, list: Vec::new() },
            overflow: VecDeque::new(),
            pending: 0,
            timers: Timers::default(),
            options: Arc::new(options::upstream(config)),
            guard,
            circuit: CircuitCounters::register(&config.metrics),
            tls: TlsCounters::register(&config.metrics),
            shared: Arc::clone(shared),
        }
    }

    /// Whether the backend is one that calls may be given to.
    pub(super) fn is_listed(&self, key: PoolKey) -> bool {
        // It may have left while a call waited.
        self.pools.get(key).is_some_and(|pool| !pool.is_retired)
    }
}

/// Places on connections.
impl Upstreams {
    /// Finds a connection of the pool that a call can be put on, or lets the call
    /// wait for one that is being made.
    ///
    /// # Errors
    /// When it has to be offered to another backend: [`Failure::Overload`] where
    /// this one may have a place for it later.
    pub(super) fn assign(
        &mut self,
        call: CallKey,
        key: PoolKey,
        io: &Io,
        moment: Moment,
    ) -> Result<Assigned, Failure> {
        let pool = self.pools.live(key);
        let has_queue = !pool.waiting.is_empty();
        if !has_queue
            && self.overflow.is_empty()
            && let Some(link) = self.free_link(key)
        {
            return Ok(Assigned::To(link));
        }
        self.check_pending(key)?;
        if !self.overflow.is_empty() {
            // Others found every backend full before this one came.
            return Ok(Assigned::Waits(self.enqueue(call, Place::Overflow(key))));
        }
        if self.is_connecting(key) {
            let limits = &self.shared.config.upstream;
            let assumed = limits.backend_assumed_streams.min(limits.backend_max_streams);
            if pool.waiting.len() >= assumed as usize {
                return Err(overload(pool));
            }
        } else if !has_queue {
            // With a queue, its connection has come in this turn, at whose end
            // all in the queue get their places or a further one.
            self.open_further(key, io, moment)?;
        }
        self.check_waiting(key)?;
        Ok(Assigned::Waits(self.enqueue(call, Place::Waiting(key))))
    }

    /// Whether calls may wait for a connection of the pool that is being made.
    ///
    /// # Errors
    /// Where they are to go to others, and to wait for any where there are none.
    pub(super) fn check_waiting(&self, key: PoolKey) -> Result<(), Failure> {
        let pool = self.pools.live(key);
        if pool.may_be_waited_for() { Ok(()) } else { Err(overload(pool)) }
    }

    /// A connection of the pool that a call can be put on now.
    pub(super) fn free_link(&self, key: PoolKey) -> Option<LinkKey> {
        let has_place = |link: &&LinkKey| self.links.live(**link).has_place();
        self.pools.live(key).links.iter().find(has_place).copied()
    }

    /// Those of its connections that take calls, now or later.
    fn usable(&self, key: PoolKey) -> impl Iterator<Item = &Link> {
        let links = self.pools.live(key).links.iter().map(|link| self.links.live(*link));
        links.filter(|link| !link.is_draining)
    }

    /// Whether a connection is being made.
    pub(super) fn is_connecting(&self, key: PoolKey) -> bool {
        self.usable(key).any(|link| link.stage != Stage::Ready)
    }

    /// Whether it has connections that take calls, now or later.
    pub(super) fn is_usable(&self, key: PoolKey) -> bool {
        self.usable(key).next().is_some()
    }

    /// Makes a further connection, if one may be made.
    ///
    /// # Errors
    /// When none may be made, or it failed at once.
    pub(super) fn open_further(
        &mut self,
        key: PoolKey,
        io: &Io,
        moment: Moment,
    ) -> Result<(), Failure> {
        let usable = self.usable(key).count();
        // Another connection to a backend that allows no streams would get none.
        let is_shut = |link: &Link| link.endpoint.http.stream_limit() == 0;
        if usable >= self.shared.config.upstream.backend_max_connections
            || self.is_connecting(key)
            || self.usable(key).any(is_shut)
        {
            return Err(overload(self.pools.live(key)));
        }
        let full = (usable > 0).then(|| overload(self.pools.live(key)));
        let opened =
            self.may_connect(key, moment.now_ns).and_then(|()| self.open_link(key, io, moment));
        // With a connection that may have a place later, that is waited for.
        opened.map_err(|failure| full.unwrap_or(failure))
    }

    /// Whether a connection may be made now.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn may_connect(&self, key: PoolKey, now_ns: u64) -> Result<(), Failure> {
        let pool = self.pools.live(key);
        if let Some((_, reason)) = pool.backoff.rest(now_ns) {
            let backend = pool.upstream.name().to_owned();
            return Err(Failure::Connect { backend, reason: reason.to_owned() });
        }
        let checked = self.shared.config.circuit.check_connections(self.links.len() as u32);
        checked.map_err(|limit| self.circuit_open(key, limit))
    }

    /// Whether one more call may wait.
    ///
    /// # Errors
    /// The limit that it would pass.
    pub(super) fn check_pending(&self, key: PoolKey) -> Result<(), Failure> {
        let of_pool = self.pools.live(key).pending;
        let checked = self.shared.config.circuit.check_pending(of_pool, self.pending);
        checked.map_err(|limit| self.circuit_open(key, limit))
    }

    /// Whether an attempt that was counted on a backend is within the circuit
    /// limits.
    ///
    /// # Errors
    /// The limit that it passes.
    #[inline]
    pub(super) fn check_circuit(&self, key: PoolKey) -> Result<(), Failure> {
        let limits = &self.shared.config.circuit;
        let upstreams = self.targets.set.upstreams();
        let total = || upstreams.iter().map(|upstream| upstream.backend().in_flight()).sum();
        let backend = self.pools.live(key).upstream.backend();
        let checked = limits.check_requests(backend.in_flight(), total);
        checked.map_err(|limit| self.circuit_open(key, limit))
    }

    /// Takes note of a circuit limit that was reached.
    #[cold]
    pub(super) fn circuit_open(&self, key: PoolKey, limit: Limit) -> Failure {
        self.circuit.count(limit);
        Failure::CircuitOpen { backend: self.pools.live(key).upstream.name().to_owned(), limit }
    }
}

#[cold]
fn overload(pool: &Pool) -> Failure {
    Failure::Overload { backend: pool.upstream.name().to_owned() }
}

/// Calls that wait.
impl Upstreams {
    /// Lets a call wait there.
    pub(super) fn enqueue(&mut self, call: CallKey, place: Place) -> Place {
        if let Place::Overflow(key) | Place::Waiting(key) = place {
            let pool = self.pools.live_mut(key);
            match place {
                Place::Overflow(_) => self.overflow.push_back(call),
                _ => pool.waiting.push_back(call),
            }
            pool.pending += 1;
            self.pending += 1;
        }
        place
    }

    /// Takes a call out of the queue it waits in.
    pub(super) fn unqueue(&mut self, call: CallKey, place: Place) {
        let (queue, key) = match place {
            Place::Overflow(key) => (&mut self.overflow, key),
            Place::Waiting(key) => (&mut self.pools.live_mut(key).waiting, key),
            Place::HeldBack | Place::Stream(..) | Place::Nowhere => return,
        };
        if let Some(position) = queue.iter().position(|waiting| *waiting == call) {
            queue.remove(position);
            self.note_taken(key);
        }
    }

    /// One call less waits.
    pub(super) fn note_taken(&mut self, key: PoolKey) {
        self.pending -= 1;
        // The backend may have left while the call waited for any.
        if let Some(pool) = self.pools.get_mut(key) {
            pool.pending -= 1;
        }
    }

    /// Takes the first of those who wait for a connection of the pool.
    pub(super) fn pop_waiting(&mut self, key: PoolKey) -> Option<CallKey> {
        let call = self.pools.live_mut(key).waiting.pop_front()?;
        self.note_taken(key);
        Some(call)
    }

    /// Takes all of them.
    pub(super) fn take_waiting(&mut self, key: PoolKey) -> VecDeque<CallKey> {
        let waiting = std::mem::take(&mut self.pools.live_mut(key).waiting);
        waiting.iter().for_each(|_| self.note_taken(key));
        waiting
    }

    /// Moves those who wait for a pool's connection to the head of the overflow:
    /// they were there before those who found the pool full. Gives who they are.
    pub(super) fn spill(&mut self, key: PoolKey) -> Vec<CallKey> {
        let waiting = std::mem::take(&mut self.pools.live_mut(key).waiting);
        waiting.iter().rev().for_each(|call| self.overflow.push_front(*call));
        waiting.into()
    }
}

/// Beginnings and ends of connections.
impl Upstreams {
    /// Begins to make a connection.
    fn open_link(&mut self, key: PoolKey, io: &Io, moment: Moment) -> Result<(), Failure> {
        self.connect(key, io, moment.now_ns).map_err(|errno| {
            let reason = std::io::Error::from(errno).to_string();
            let backend = self.pools.live(key).upstream.name().to_owned();
            self.note_unconnected(key, &reason, moment);
            Failure::Connect { backend, reason }
        })
    }

    fn connect(&mut self, key: PoolKey, io: &Io, now_ns: u64) -> Result<(), Errno> {
        let pool = self.pools.live(key);
        let socket = connect(pool.upstream.addr(), None)?;
        let secure = self.secure(pool).map_err(|_| Errno::INVAL)?;
        let http = Connection::new(Arc::clone(&self.options));
        let endpoint = Endpoint::new(http, socket, secure, now_ns / 1_000_000);
        let timeout = self.shared.config.upstream.connect_timeout;
        let connect_by_ns = now_ns + timeout.as_nanos() as u64;
        let doublings = pool.upstream.ping_doublings();
        let link = self.links.insert(Link::new(endpoint, key, connect_by_ns, doublings));
        if let Err(errno) = io.watch(Side::Link(link), &self.links.live(link).endpoint) {
            self.links.remove(link);
            return Err(errno);
        }
        self.pools.live_mut(key).links.push(link);
        self.timers.set(connect_by_ns, link);
        Ok(())
    }

    /// A new session of TLS with a backend, where it is spoken.
    fn secure(&self, pool: &Pool) -> Result<Option<Box<Secure>>, rustls::Error> {
        let Some((config, name)) = self.shared.tls.client(pool.upstream.addr().ip()) else {
            return Ok(None);
        };
        let TlsCounters { backends_ok: ok, backends_failed: failed, .. } = self.tls.clone();
        Secure::client(config, name, ok, failed).map(|secure| Some(Box::new(secure)))
    }

    fn note_unconnected(&mut self, key: PoolKey, reason: &str, moment: Moment) {
        let pool = self.pools.live_mut(key);
        let backend = pool.upstream.name();
        tracing::warn!(backend, reason, "connection to backend refused");
        pool.counters.connects_failed.inc();
        pool.upstream.note_failure(moment.now_ns);
        let limits = &self.shared.config.upstream;
        pool.backoff.fail(moment.now_ns, limits, moment.random, reason.to_owned());
    }

    /// The socket takes bytes: it has connected, or has room again.
    ///
    /// # Errors
    /// Why it could not connect.
    #[inline]
    pub(super) fn on_writable(&mut self, key: LinkKey) -> Result<&mut Endpoint, Errno> {
        let link = self.links.live_mut(key);
        if link.stage == Stage::Connecting {
            if let Some(errno) = link.endpoint.take_error() {
                return Err(errno);
            }
            link.stage = Stage::Greeting;
        }
        Ok(&mut link.endpoint)
    }

    /// What was read from a connection has been dealt with.
    #[inline]
    pub(super) fn after_input(&mut self, key: LinkKey) {
        self.links.live_mut(key).prune_abandoned();
        self.close_if_over(key);
    }

    /// The backend's SETTINGS have come. Whether it has another number of places
    /// than before.
    pub(super) fn on_settings(&mut self, key: LinkKey, now_ns: u64) -> bool {
        let link = self.links.live_mut(key);
        let streams = link.endpoint.http.stream_limit() as u32;
        let pool = self.pools.live_mut(link.pool);
        if link.stage != Stage::Ready {
            link.stage = Stage::Ready;
            link.ready_ns = now_ns;
            pool.note_greeting();
            self.timers.clear(link.connect_by_ns, key);
            tracing::info!(backend = pool.upstream.name(), "connection to backend opened");
            pool.counters.connects_ok.inc();
            pool.counters.connections.add(1);
        }
        std::mem::replace(&mut pool.streams, streams) != streams
    }

    /// The backend is well: it has served a call, or kept a connection for long.
    #[cold]
    pub(super) fn prove(&mut self, key: LinkKey) {
        let link = self.links.live_mut(key);
        link.is_proven = true;
        self.pools.live_mut(link.pool).backoff.clear();
    }

    /// A connection that was ready has ended. One that had not served a call is
    /// a failure as much as one that could not be made.
    fn note_end(&mut self, key: LinkKey, reason: &str, moment: Moment) {
        let link = self.links.live_mut(key);
        if std::mem::replace(&mut link.is_proven, true) {
            return;
        }
        let limits = &self.shared.config.upstream;
        let reason = format!("{reason} before it had served a call");
        let backoff = &mut self.pools.live_mut(link.pool).backoff;
        backoff.fail_unproven(moment.now_ns, limits, moment.random, reason);
    }

    /// The backend has had too many PINGs.
    #[cold]
    pub(super) fn slow_pings(&self, key: LinkKey) {
        let link = self.links.live(key);
        self.pools.live(link.pool).upstream.slow_pings(link.ping_doublings);
    }

    /// The backend sent GOAWAY. Gives the calls that it has left out.
    pub(super) fn on_go_away(
        &mut self,
        key: LinkKey,
        last_stream: u32,
        moment: Moment,
    ) -> Vec<CallKey> {
        let link = self.links.live_mut(key);
        link.is_draining = true;
        let (left_out, kept): (Vec<_>, Vec<_>) =
            link.endpoint.http.streams().partition(|(stream, _)| stream.id() > last_stream);
        for (stream, _) in &left_out {
            link.endpoint.http.forget(*stream);
        }
        if kept.is_empty() {
            self.note_end(key, "it went away (GOAWAY)", moment);
        }
        left_out.into_iter().map(|(_, call)| call).collect()
    }

    /// Closes a connection that takes no more calls and has none left.
    pub(super) fn close_if_over(&mut self, key: LinkKey) {
        let link = self.links.live(key);
        if link.is_draining && link.stage == Stage::Ready && link.is_idle() {
            self.remove(key);
        }
    }

    /// The backend broke the rules of HTTP/2, or a bound: tells it so.
    pub(super) fn fail(&mut self, key: LinkKey, error: &Error) {
        let http = &mut self.links.live_mut(key).endpoint.http;
        self.guard.count_backend(ending(http.flooded()));
        http.fail(error);
        // What the kernel takes now it gets; nobody waits for more.
        let _ = self.links.live_mut(key).endpoint.flush(&mut Vec::new());
    }

    /// A connection broke, or could not be made.
    pub(super) fn lose(&mut self, key: LinkKey, reason: &str, moment: Moment) -> Lost {
        let link = self.links.live(key);
        let (pool, was_ready) = (link.pool, link.stage == Stage::Ready);
        if !link.is_draining {
            self.pools.live_mut(pool).note_loss();
        }
        let http = &link.endpoint.http;
        let calls = http.streams().map(|(stream, call)| (call, http.was_sent(stream))).collect();
        if was_ready {
            let backend = self.pools.live(pool).upstream.name();
            tracing::warn!(backend, reason, "connection to backend lost");
            self.note_end(key, reason, moment);
        } else {
            let reason = match reason {
                CLOSED => "it was closed before its SETTINGS came",
                reason => reason,
            };
            self.note_unconnected(pool, reason, moment);
        }
        self.remove(key);
        Lost { pool, calls }
    }

    /// Takes a connection out of the books and closes it.
    fn remove(&mut self, key: LinkKey) {
        let Some(link) = self.links.remove(key) else { return };
        let pool = self.pools.live_mut(link.pool);
        pool.links.retain(|other| *other != key);
        if link.stage == Stage::Ready {
            pool.counters.connections.sub(1);
        } else {
            self.timers.clear(link.connect_by_ns, key);
        }
    }

    /// Resets a stream on a backend's connection, if it is still open.
    ///
    /// Where too many resets are under way for a backend to bear, the stream
    /// stays open there, and in its load, until more may follow. A connection
    /// with many such streams makes way for a new one: whoever left them must
    /// not keep others waiting for a place.
    pub(super) fn reset(&mut self, key: LinkKey, stream: StreamKey, reason: Reason, io: &mut Io) {
        // The connection may have ended, and the stream with it.
        let Some(link) = self.links.get_mut(key) else { return };
        if !link.endpoint.http.is_open(stream) {
            return;
        }
        let http = io.output(Side::Link(key), &mut link.endpoint);
        if http.reset(stream, reason) {
            self.guard.held_resets.inc();
            if http.held_resets() > http.stream_limit() / HELD_SHARE && !link.is_draining {
                link.is_draining = true;
                self.guard.worn_connections.inc();
            }
            link.abandoned.push((stream, self.pools.live(link.pool).upstream.begin()));
        }
        self.note_reset(key);
    }

    /// Counts a stream that either side has reset. A connection that has seen
    /// many makes way for a new one, before the backend has enough of it.
    pub(super) fn note_reset(&mut self, key: LinkKey) {
        let link = self.links.live_mut(key);
        link.resets += 1;
        if link.resets >= self.shared.config.upstream.backend_max_resets && !link.is_draining {
            link.is_draining = true;
            self.guard.worn_connections.inc();
        }
    }
}

/// The set of backends.
impl Upstreams {
    /// Whether the backends have changed.
    #[inline]
    pub(super) fn has_changed(&self) -> bool {
        !Arc::ptr_eq(&self.shared.upstreams.current(), &self.targets.set)
    }

    /// Follows a change of the backends: pools for the new ones. Gives those of
    /// backends that have left, whose connections end with their calls.
    pub(super) fn follow_set(&mut self) -> Vec<PoolKey> {
        let set = Arc::clone(&self.shared.upstreams.current());
        let known = self.pools.keys();
        let config = &self.shared.config;
        let limits = &config.upstream;
        let streams = limits.backend_assumed_streams.min(limits.backend_max_streams);
        let list = set.upstreams().iter().map(|upstream| {
            let is_its = |key: &PoolKey| Arc::ptr_eq(&self.pools.live(*key).upstream, upstream);
            let pool = known.iter().copied().find(is_its).unwrap_or_else(|| {
                self.pools.insert(Pool::new(Arc::clone(upstream), &config.metrics, streams))
            });
            Target { pool, counters: Rc::clone(&self.pools.live(pool).counters) }
        });
        let list: Vec<_> = list.collect();
        for key in &known {
            let is_listed = list.iter().any(|target| target.pool == *key);
            self.pools.live_mut(*key).is_retired = !is_listed;
        }
        self.targets = Targets { set, list };
        let is_retired = |key: &PoolKey| self.pools.live(*key).is_retired;
        known.into_iter().filter(is_retired).collect()
    }

    /// Places that the backends have for calls.
    pub(super) fn places(&self) -> u32 {
        let connections = self.shared.config.upstream.backend_max_connections;
        let connections = u32::try_from(connections).unwrap_or(u32::MAX);
        let pools = self.targets.list.iter().map(|target| self.pools.live(target.pool));
        let places = pools.map(|pool| pool.streams.saturating_mul(connections));
        places.fold(0, u32::saturating_add)
    }

    /// Removes the pools that have left the set, as soon as their connections
    /// are idle.
    pub(super) fn retire(&mut self) {
        for key in self.pools.keys() {
            self.retire_if_over(key);
        }
    }

    /// The same for one pool.
    pub(super) fn retire_if_over(&mut self, key: PoolKey) {
        // A loss of its last connection may have removed it before.
        let Some(pool) = self.pools.get(key).filter(|pool| pool.is_retired) else { return };
        for link in pool.links.clone() {
            if self.links.live(link).is_idle() {
                self.remove(link);
            }
        }
        if self.pools.live(key).links.is_empty() {
            self.pools.remove(key);
        }
    }
}

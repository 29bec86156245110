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

mod links;
mod places;
mod waiting;

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use event_loop::{Arena, Timers};
use h2_wire::connection::{Connection, Options};
use h2_wire::grpc;
use h2_wire::hpack::{HeaderList, Name};

use super::call::{Call, Place};
use super::endpoint::Endpoint;
use super::headers::{self, Changes};
use super::io::{Io, Side};
use super::keys::{CallKey, LinkKey, OfLink, OfPool, PoolKey};
use super::link::{Link, Pool};
use super::options;
use super::targets::{Target, Targets};
use crate::circuit::CircuitCounters;
use crate::metrics::GuardCounters;
use crate::planes::Shared;
use crate::tls::counters::TlsCounters;

pub(super) use links::CLOSED;
pub(super) use waiting::{Next, Round, Turn};

/// The backends' side of one thread.
pub(super) struct Upstreams {
    shared: Arc<Shared>,
    links: Arena<Link, OfLink>,
    pools: Arena<Pool, OfPool>,
    pub(super) targets: Targets,
    /// Calls that wait for a place at any backend, and the one that each is counted at.
    overflow: VecDeque<(CallKey, PoolKey)>,
    /// These, and those that wait for a connection of one.
    pending: u32,
    /// Attempts to connect, in nanoseconds.
    pub(super) timers: Timers<LinkKey>,
    options: Arc<Options>,
    guard: GuardCounters,
    circuit: CircuitCounters,
    tls: TlsCounters,
}

/// Which there are.
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

    pub(super) fn has_links(&self) -> bool {
        !self.links.is_empty()
    }

    pub(super) fn link_keys(&self) -> Vec<LinkKey> {
        self.links.keys()
    }

    #[inline]
    pub(super) fn live(&self, key: LinkKey) -> &Link {
        self.links.live(key)
    }

    #[inline]
    pub(super) fn live_mut(&mut self, key: LinkKey) -> &mut Link {
        self.links.live_mut(key)
    }

    /// The connection, if it has not ended.
    #[inline]
    pub(super) fn endpoint(&mut self, key: LinkKey) -> Option<&mut Endpoint> {
        self.links.get_mut(key).map(|link| &mut link.endpoint)
    }

    /// A connection that is written to in this turn.
    #[inline]
    pub(super) fn output(&mut self, key: LinkKey, io: &mut Io) -> &mut Connection<CallKey> {
        io.output(Side::Link(key), &mut self.links.live_mut(key).endpoint)
    }

    /// The header block that came last on a connection.
    #[inline]
    pub(super) fn headers(&self, key: LinkKey) -> &HeaderList {
        self.links.live(key).endpoint.http.headers()
    }

    /// Whether the backend is one that calls may be given to.
    pub(super) fn is_listed(&self, key: PoolKey) -> bool {
        // It may have left while a call waited.
        self.pools.get(key).is_some_and(|pool| !pool.is_retired)
    }

    /// The backend's name, unless it has left.
    pub(super) fn name(&self, key: PoolKey) -> Option<String> {
        self.pools.get(key).map(|pool| pool.upstream.name().to_owned())
    }
}

/// What is sent to them.
impl Upstreams {
    /// Sends a call on a connection that has a place for it: its head, and what
    /// has come of its request. The backend may send so many bytes beyond its
    /// first window. Gives how many bytes of the request need not wait.
    pub(super) fn send(
        &mut self,
        link: LinkKey,
        key: CallKey,
        call: &mut Call,
        granted: Option<u32>,
        now_ns: u64,
        io: &mut Io,
    ) -> usize {
        let to = self.links.live_mut(link);
        let http = io.output(Side::Link(link), &mut to.endpoint);
        let (Some(attempt), Some(stream)) = (&mut call.attempt, http.open(key)) else {
            debug_assert!(false, "a connection without a place was chosen");
            return 0;
        };
        attempt.place = Place::Stream(link, stream);
        attempt.sent_ns = now_ns;
        // The next call finds, or makes, another (RFC 9113, section 5.1.1).
        to.is_draining |= http.is_used_up();
        let request = &mut call.request;
        request.passed = 0;
        let list = &request.headers;
        // It never changes, so that it may go under the key of the list.
        let via = self.shared.via.field();
        let has_trailers = request.trailers.is_some();
        let ends = request.is_ended && request.kept.is_empty() && !has_trailers;
        if !call.is_grpc && list.value_of(Name::Method) == Some(b"HEAD") {
            http.expect_no_content(stream);
        }
        if call.deadline_ns.is_none() && headers::names_authority(list) {
            http.send_headers(stream, list.key(), || list.iter().chain([via]), ends);
        } else {
            let left_ns = call.deadline_ns.map(|at_ns| at_ns.saturating_sub(now_ns));
            let timeout = left_ns.map(|ns| grpc::format_timeout(Duration::from_nanos(ns)));
            let changes = Changes::of(list, timeout, attempt.in_flight.upstream().addr());
            http.send_headers(stream, None, || changes.apply(list).chain([via]), ends);
        }
        if let Some(bytes) = granted {
            http.widen(stream, bytes);
        }
        let mut sent = 0;
        if !request.kept.is_empty() {
            sent = http.send_data(stream, &request.kept, request.is_ended && !has_trailers);
        }
        if let Some(trailers) = &request.trailers {
            http.send_trailers(stream, trailers);
        }
        sent
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

//! Places on connections: where a call can be put, and whether a further connection may be made.

use super::Upstreams;
use super::waiting::Next;
use crate::circuit::Limit;
use crate::failure::Failure;
use crate::planes::relay::call::Place;
use crate::planes::relay::io::Io;
use crate::planes::relay::keys::{CallKey, LinkKey, PoolKey};
use crate::planes::relay::link::{Link, Pool, Stage};
use crate::planes::relay::targets::Moment;

impl Upstreams {
    /// Finds a connection of the pool that a call can be put on, or lets the call
    /// wait for one that is being made.
    ///
    /// # Errors
    /// When it has to be offered to another backend: [`Failure::Overload`] where
    /// this one may have a place for it later.
    pub(crate) fn assign(
        &mut self,
        call: CallKey,
        key: PoolKey,
        io: &Io,
        moment: Moment,
    ) -> Result<Next, Failure> {
        let pool = self.pools.live(key);
        let has_queue = !pool.waiting.is_empty();
        if !has_queue
            && self.overflow.is_empty()
            && let Some(link) = self.free_link(key)
        {
            return Ok(Next::Send(link));
        }
        self.check_pending(key)?;
        if !self.overflow.is_empty() {
            // Others found every backend full before this one came.
            return Ok(Next::Wait(self.enqueue(call, Place::Overflow(key))));
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
        Ok(Next::Wait(self.enqueue(call, Place::Waiting(key))))
    }

    /// Whether calls may wait for a connection of the pool that is being made.
    ///
    /// # Errors
    /// Where they are to go to others, and to wait for any where there are none.
    pub(crate) fn check_waiting(&self, key: PoolKey) -> Result<(), Failure> {
        let pool = self.pools.live(key);
        if pool.may_be_waited_for() { Ok(()) } else { Err(overload(pool)) }
    }

    /// A connection of the pool that a call can be put on now.
    #[inline]
    pub(crate) fn free_link(&self, key: PoolKey) -> Option<LinkKey> {
        let has_place = |link: &&LinkKey| self.links.live(**link).has_place();
        self.pools.live(key).links.iter().find(has_place).copied()
    }

    /// Those of its connections that take calls, now or later.
    fn usable(&self, key: PoolKey) -> impl Iterator<Item = &Link> {
        let links = self.pools.live(key).links.iter().map(|link| self.links.live(*link));
        links.filter(|link| !link.is_draining)
    }

    /// Whether a connection is being made.
    pub(crate) fn is_connecting(&self, key: PoolKey) -> bool {
        self.usable(key).any(|link| link.stage != Stage::Ready)
    }

    /// Whether it has connections that take calls, now or later.
    pub(crate) fn is_usable(&self, key: PoolKey) -> bool {
        self.usable(key).next().is_some()
    }

    /// Makes a further connection, if one may be made.
    ///
    /// # Errors
    /// When none may be made, or it failed at once.
    pub(crate) fn open_further(
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
    pub(crate) fn may_connect(&self, key: PoolKey, now_ns: u64) -> Result<(), Failure> {
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
    pub(crate) fn check_pending(&self, key: PoolKey) -> Result<(), Failure> {
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
    pub(crate) fn check_circuit(&self, key: PoolKey) -> Result<(), Failure> {
        let limits = &self.shared.config.circuit;
        let upstreams = self.targets.set.upstreams();
        let total = || upstreams.iter().map(|upstream| upstream.backend().in_flight()).sum();
        let backend = self.pools.live(key).upstream.backend();
        let checked = limits.check_requests(backend.in_flight(), total);
        checked.map_err(|limit| self.circuit_open(key, limit))
    }

    /// Takes note of a circuit limit that was reached.
    #[cold]
    pub(crate) fn circuit_open(&self, key: PoolKey, limit: Limit) -> Failure {
        self.circuit.count(limit);
        Failure::CircuitOpen { backend: self.pools.live(key).upstream.name().to_owned(), limit }
    }
}

#[cold]
fn overload(pool: &Pool) -> Failure {
    Failure::Overload { backend: pool.upstream.name().to_owned() }
}

//! Calls that wait for a place at a backend.
//!
//! A call waits at the backend that was picked for it while a connection to it
//! is being made. When every backend that it was offered to is full, or allows
//! no streams for the moment, it waits in one queue of the thread instead, the
//! overflow, and takes the first place that becomes free on any of them: a
//! backend that is slow or stuck then holds up its own share of the calls and
//! no others. Both queues are in the order of arrival, and both count against
//! the circuit limits on what may wait.
//!
//! Further connections are made one at a time for each backend: a burst would
//! open as many as may be before the first has said how many streams it takes.

use super::attempt::Broken;
use super::call::{Attempt, CallKey, Place};
use super::pool::{Link, LinkKey, Pool, PoolKey, Stage};
use super::worker::Worker;
use crate::circuit::Limit;
use crate::failure::Failure;
use crate::metrics::Outcome;

/// Finding a place.
impl Worker {
    /// Puts the call on a connection of the pool, or lets it wait for one that
    /// is being made.
    ///
    /// # Errors
    /// When it has to be offered to another backend: [`Failure::Overload`] where
    /// this one may have a place for it later.
    pub(super) fn assign(&mut self, key: CallKey, pool_key: PoolKey) -> Result<(), Failure> {
        let Some(pool) = self.pools.get(pool_key) else { return Err(Failure::NoBackend) };
        if !self.may_take_place(key) {
            return self.hold_back(key);
        }
        let has_queue = !pool.waiting.is_empty();
        if !has_queue
            && self.overflow.is_empty()
            && let Some(link) = self.free_link(pool)
        {
            self.send(key, link);
            return Ok(());
        }
        self.check_pending(pool)?;
        if !self.overflow.is_empty() {
            // Others found every backend full before this one came.
            self.wait(key, Place::Overflow(pool_key));
            return Ok(());
        }
        if self.is_connecting(pool) {
            let limits = &self.shared.config.upstream;
            let assumed = limits.backend_assumed_streams.min(limits.backend_max_streams);
            if pool.waiting.len() >= assumed as usize {
                return Err(overload(pool));
            }
        } else if !has_queue {
            // With a queue, its connection has come in this turn, at whose end
            // all in the queue get their places or a further one.
            self.open_further(pool_key)?;
        }
        self.wait(key, Place::Waiting(pool_key));
        Ok(())
    }

    /// A connection of the pool that a call can be put on now.
    fn free_link(&self, pool: &Pool) -> Option<LinkKey> {
        let has_place = |link: &&LinkKey| self.links.get(**link).is_some_and(Link::has_place);
        pool.links.iter().find(has_place).copied()
    }

    /// Those of its connections that take calls, now or later.
    fn usable<'a>(&'a self, pool: &'a Pool) -> impl Iterator<Item = &'a Link> {
        let links = pool.links.iter().filter_map(|link| self.links.get(*link));
        links.filter(|link| !link.is_leaving)
    }

    fn is_connecting(&self, pool: &Pool) -> bool {
        self.usable(pool).any(|link| link.stage != Stage::Ready)
    }

    /// Makes a further connection, if one may be made.
    fn open_further(&mut self, pool_key: PoolKey) -> Result<(), Failure> {
        let Some(pool) = self.pools.get(pool_key) else { return Err(Failure::NoBackend) };
        let usable = self.usable(pool).count();
        // Another connection to a backend that allows no streams would get none.
        let is_shut = |link: &Link| link.endpoint.http.stream_limit() == 0;
        if usable >= self.shared.config.upstream.backend_max_connections
            || self.is_connecting(pool)
            || self.usable(pool).any(is_shut)
        {
            return Err(overload(pool));
        }
        let full = (usable > 0).then(|| overload(pool));
        let opened = self.may_connect(pool).and_then(|()| self.open_link(pool_key));
        // With a connection that may have a place later, that is waited for.
        opened.map(drop).map_err(|failure| full.unwrap_or(failure))
    }

    fn may_connect(&self, pool: &Pool) -> Result<(), Failure> {
        if let Some((_, reason)) = pool.backoff.rest(self.now_ns) {
            let backend = pool.upstream.name().to_owned();
            return Err(Failure::Connect { backend, reason: reason.to_owned() });
        }
        let checked = self.shared.config.circuit.check_connections(self.links.len() as u32);
        checked.map_err(|limit| self.circuit_open(pool, limit))
    }

    /// Whether one more call may wait.
    fn check_pending(&self, pool: &Pool) -> Result<(), Failure> {
        let checked = self.shared.config.circuit.check_pending(pool.pending, self.pending);
        checked.map_err(|limit| self.circuit_open(pool, limit))
    }
}

#[cold]
fn overload(pool: &Pool) -> Failure {
    Failure::Overload { backend: pool.upstream.name().to_owned() }
}

/// Waiting.
impl Worker {
    fn wait(&mut self, key: CallKey, place: Place) {
        let Some(attempt) = self.calls.get_mut(key).and_then(|call| call.attempt.as_mut()) else {
            return;
        };
        attempt.place = place;
        if let Some(pool) = self.pools.get_mut(attempt.pool) {
            match place {
                Place::Overflow(_) => self.overflow.push_back(key),
                _ => pool.waiting.push_back(key),
            }
            pool.pending += 1;
            self.pending += 1;
        }
    }

    /// Lets a call wait that every backend it was offered to was too full for.
    ///
    /// # Errors
    /// When it may not wait.
    pub(super) fn wait_for_any(&mut self, key: CallKey, pool_key: PoolKey) -> Result<(), Failure> {
        let index = self.pools_by_index.iter().position(|known| *known == pool_key);
        let (Some(index), Some(pool)) = (index, self.pools.get(pool_key)) else {
            return Err(Failure::NoBackend);
        };
        self.check_pending(pool)?;
        let in_flight = pool.upstream.begin();
        self.check_circuit(pool_key)?;
        let Some(call) = self.calls.get_mut(key) else { return Ok(()) };
        call.pool = pool_key;
        call.attempt = Some(Attempt {
            pool: pool_key,
            index,
            in_flight,
            place: Place::Overflow(pool_key),
            sent_ns: self.now_ns,
            held: None,
            is_budgeted: std::mem::take(&mut call.holds_budget),
            is_hedge: false,
        });
        self.wait(key, Place::Overflow(pool_key));
        Ok(())
    }

    /// Takes a call out of the queue it waits in.
    pub(super) fn stop_waiting(&mut self, key: CallKey, place: Place) {
        let (queue, pool) = match place {
            Place::Overflow(pool) => (Some(&mut self.overflow), pool),
            Place::Waiting(pool) => (self.pools.get_mut(pool).map(|pool| &mut pool.waiting), pool),
            // Those who are gone are passed over when their turn comes.
            Place::HeldBack | Place::Stream(..) => return,
        };
        let Some(queue) = queue else { return };
        if let Some(position) = queue.iter().position(|waiting| *waiting == key) {
            queue.remove(position);
            self.note_taken(pool);
        }
    }

    /// One call less waits.
    fn note_taken(&mut self, pool: PoolKey) {
        self.pending -= 1;
        if let Some(pool) = self.pools.get_mut(pool) {
            pool.pending -= 1;
        }
    }
}

/// Places that become free.
impl Worker {
    /// Gives the places that have become free to those who wait for them.
    pub(super) fn place_waiting(&mut self) {
        if !self.held_back.is_empty() {
            self.serve_held_back();
        }
        if self.pending == 0 {
            return;
        }
        let mut is_of_use = false;
        for index in 0..self.pools_by_index.len() {
            let pool = self.pools_by_index[index];
            self.serve_waiting(pool);
            is_of_use |= self.serve_overflow(index, pool);
        }
        if !is_of_use {
            self.fail_overflow();
        }
    }

    /// Serves those who wait for the pool's connection. When it has come and
    /// they are too many for it, a further one is made for them, and where none
    /// may be, they wait for any place.
    fn serve_waiting(&mut self, pool_key: PoolKey) {
        while let Some(pool) = self.pools.get(pool_key)
            && !pool.waiting.is_empty()
        {
            if let Some(link) = self.free_link(pool) {
                let key = self.pools.get_mut(pool_key).and_then(|pool| pool.waiting.pop_front());
                let Some(key) = key else { return };
                self.note_taken(pool_key);
                self.focus_on(key, |place| place == Place::Waiting(pool_key));
                self.send_in_share(key, link);
                continue;
            }
            if self.is_connecting(pool) {
                return;
            }
            match self.open_further(pool_key) {
                Ok(()) => {}
                Err(Failure::Overload { .. }) => self.spill(pool_key),
                Err(failure) => self.fail_waiting(pool_key, &failure),
            }
            return;
        }
    }

    /// Moves those who wait for a pool's connection to the head of the overflow:
    /// they were there before those who found the pool full.
    fn spill(&mut self, pool_key: PoolKey) {
        let Some(pool) = self.pools.get_mut(pool_key) else { return };
        let waiting = std::mem::take(&mut pool.waiting);
        for key in waiting.into_iter().rev() {
            self.focus_on(key, |place| place == Place::Waiting(pool_key));
            if let Some(attempt) = self.calls.get_mut(key).and_then(|call| call.attempt.as_mut()) {
                attempt.place = Place::Overflow(pool_key);
            }
            self.overflow.push_front(key);
        }
    }

    /// Offers those who wait for a pool's connection to other backends.
    pub(super) fn fail_waiting(&mut self, pool_key: PoolKey, failure: &Failure) {
        let Some(pool) = self.pools.get_mut(pool_key) else { return };
        for key in std::mem::take(&mut pool.waiting) {
            self.note_taken(pool_key);
            self.focus_on(key, |place| place == Place::Waiting(pool_key));
            self.retry(key, failure.clone(), Outcome::Unsent, Broken::Unsent);
        }
    }

    /// Gives the pool's free places to those who wait for any. Whether the pool
    /// has places now or may have some later.
    fn serve_overflow(&mut self, index: usize, pool_key: PoolKey) -> bool {
        while let Some(pool) = self.pools.get(pool_key)
            && pool.upstream.backend().is_available()
        {
            let Some(&key) = self.overflow.front() else { return true };
            let Some(link) = self.free_link(pool) else {
                let _ = self.open_further(pool_key);
                let pool = self.pools.get(pool_key);
                return pool.is_some_and(|pool| self.usable(pool).next().is_some());
            };
            if !self.move_to(key, index, pool_key) {
                return true;
            }
            self.overflow.pop_front();
            self.send_in_share(key, link);
        }
        false
    }

    /// Counts the call at the head of the overflow at this backend, if the
    /// backend may have one more.
    fn move_to(&mut self, key: CallKey, index: usize, pool_key: PoolKey) -> bool {
        self.focus_on(key, |place| matches!(place, Place::Overflow(_)));
        let Some(call) = self.calls.get_mut(key) else { return true };
        let (Some(attempt), Some(pool)) = (&mut call.attempt, self.pools.get(pool_key)) else {
            return true;
        };
        let from = attempt.pool;
        if from != pool_key {
            let in_flight = pool.upstream.begin();
            let counted = in_flight.upstream().backend().in_flight();
            if self.shared.config.circuit.check_requests(counted, || 0).is_err() {
                return false;
            }
            (attempt.in_flight, attempt.index, attempt.pool) = (in_flight, index, pool_key);
            call.pool = pool_key;
        }
        self.note_taken(from);
        true
    }

    /// No backend can have a place any more for those who wait for any: they
    /// are offered once more, and fail if that is so.
    fn fail_overflow(&mut self) {
        for key in std::mem::take(&mut self.overflow) {
            self.focus_on(key, |place| matches!(place, Place::Overflow(_)));
            let Some(call) = self.calls.get(key) else { continue };
            let from = call.attempt.as_ref().map_or(PoolKey::NONE, |attempt| attempt.pool);
            self.note_taken(from);
            let pool = self.pools.get(from);
            let failure = pool.and_then(|pool| self.may_connect(pool).err());
            let failure = failure.unwrap_or(Failure::NoBackend);
            self.retry(key, failure, Outcome::Unsent, Broken::Unsent);
        }
    }
}

/// Shares of clients.
impl Worker {
    /// Whether the call's client may hold one more place.
    #[inline]
    pub(super) fn may_take_place(&self, key: CallKey) -> bool {
        let client = || self.calls.get(key).and_then(|call| self.clients.get(call.client));
        let factor = self.shared.config.circuit.client_share;
        self.shares.has_plenty()
            || client().is_none_or(|client| self.shares.may_take(&client.share, factor))
    }

    /// Lets a call wait until its client holds fewer places.
    #[cold]
    fn hold_back(&mut self, key: CallKey) -> Result<(), Failure> {
        let Some(attempt) = self.calls.get_mut(key).and_then(|call| call.attempt.as_mut()) else {
            return Ok(());
        };
        if self.held_back.len() >= self.shared.config.circuit.max_pending as usize {
            let pool = self.pools.get(attempt.pool).ok_or(Failure::NoBackend)?;
            return Err(self.circuit_open(pool, Limit::ClientShare));
        }
        attempt.place = Place::HeldBack;
        self.held_back.push_back(key);
        Ok(())
    }

    /// Sends a call that has waited, unless its client has come to hold too many
    /// places meanwhile.
    fn send_in_share(&mut self, key: CallKey, link: LinkKey) {
        if self.may_take_place(key) {
            self.send(key, link);
        } else if let Err(failure) = self.hold_back(key) {
            self.retry(key, failure, Outcome::Unsent, Broken::Unsent);
        }
    }

    /// Lets those go on whose clients hold fewer places now. They are looked at
    /// only when places have become free.
    #[cold]
    fn serve_held_back(&mut self) {
        let taken = self.shares.taken();
        if taken >= std::mem::replace(&mut self.held_back_at, taken) {
            return;
        }
        for key in std::mem::take(&mut self.held_back) {
            if !self.may_take_place(key) {
                self.held_back.push_back(key);
                continue;
            }
            self.focus_on(key, |place| place == Place::HeldBack);
            let attempt = self.calls.get(key).and_then(|call| call.attempt.as_ref());
            let attempt = attempt.filter(|attempt| attempt.place == Place::HeldBack);
            let Some(pool) = attempt.map(|attempt| attempt.pool) else { continue };
            if let Err(failure) = self.assign(key, pool) {
                if matches!(failure, Failure::Overload { .. })
                    && let Some(call) = self.calls.get_mut(key)
                {
                    call.full = Some(pool);
                }
                self.retry(key, failure, Outcome::Unsent, Broken::Unsent);
            }
        }
    }

    /// Counts the places that the backends have, for one client's share of them.
    pub(super) fn count_places(&mut self) {
        let config = &self.shared.config;
        let connections = config.upstream.backend_max_connections;
        let connections = u32::try_from(connections).unwrap_or(u32::MAX);
        let pools = self.pools_by_index.iter().filter_map(|key| self.pools.get(*key));
        let places = pools.map(|pool| pool.streams.saturating_mul(connections));
        self.shares.places = places.fold(0, u32::saturating_add);
        // Those who are held back are looked at again.
        self.held_back_at = u32::MAX;
    }
}

//! Finding a place for calls: on a connection of the backend that is picked, or
//! in a queue until there is one. Who waits where is kept in
//! [`super::upstreams`], and what becomes of a call without a place is decided in
//! [`super::calls`].

use super::call::{CallKey, Place};
use super::calls::{Broken, Moment};
use super::link::{LinkKey, PoolKey};
use super::upstreams::Assigned;
use super::worker::Worker;
use crate::circuit::Limit;
use crate::failure::Failure;
use crate::metrics::Outcome;

impl Worker {
    /// Offers the call to backends until one has it or it must fail.
    pub(super) fn place(&mut self, key: CallKey) {
        loop {
            let moment = self.moment();
            let pool = self.calls.next_attempt(key, &self.upstreams.targets, moment);
            let Some(pool) = pool else { return self.give_up(key) };
            let checked = self.upstreams.check_circuit(pool);
            let placed = checked.and_then(|()| self.assign(key, pool, moment));
            let Err(failure) = placed else { return };
            if !self.calls.on_unplaced(key, failure, self.now_ns) {
                return;
            }
        }
    }

    /// Puts the call on a connection of the pool, or lets it wait.
    fn assign(&mut self, key: CallKey, pool: PoolKey, moment: Moment) -> Result<(), Failure> {
        if !self.may_take_place(key) {
            return self.hold_back(key);
        }
        match self.upstreams.assign(key, pool, &self.io, moment)? {
            Assigned::To(link) => self.send(key, link),
            Assigned::Waits(place) => self.set_place(key, place),
        }
        Ok(())
    }

    fn set_place(&mut self, key: CallKey, place: Place) {
        if let Some(attempt) = &mut self.calls.all.live_mut(key).attempt {
            attempt.place = place;
        }
    }

    /// No backend is left to try: the call waits for one that is full, or fails.
    fn give_up(&mut self, key: CallKey) {
        if let Some(pool) = self.calls.give_up(key, self.now_ns)
            && let Err(failure) = self.wait_for_any(key, pool)
        {
            self.calls.reject(key, &failure, self.now_ns);
        }
    }

    /// Lets a call wait that every backend it was offered to was too full for.
    fn wait_for_any(&mut self, key: CallKey, pool: PoolKey) -> Result<(), Failure> {
        let targets = &self.upstreams.targets;
        let index = targets.list.iter().position(|target| target.pool == pool);
        let index = index.ok_or(Failure::NoBackend)?;
        self.upstreams.check_pending(pool)?;
        let attempt = targets.attempt(index, self.now_ns);
        self.upstreams.check_circuit(pool)?;
        self.calls.begin_waiting(key, attempt);
        let place = self.upstreams.enqueue(key, Place::Overflow(pool));
        self.set_place(key, place);
        Ok(())
    }

    /// Finds a place for a second attempt, or gives it up.
    pub(super) fn place_hedge(&mut self, key: CallKey) {
        let pool = self.calls.all.live(key).pool_of_attempt();
        // While calls wait for places, none has two.
        let is_full = !self.upstreams.overflow.is_empty() || !self.may_take_place(key);
        let checked = self.upstreams.check_circuit(pool);
        let moment = self.moment();
        if is_full || checked.and_then(|()| self.assign(key, pool, moment)).is_err() {
            self.calls.leave_to_other(key, Outcome::Unsent, self.now_ns);
        }
    }

    /// The attempt that was to be made at a backend is not: another is offered the call.
    fn on_unsent(&mut self, key: CallKey, failure: Failure) {
        if matches!(failure, Failure::Overload { .. }) {
            let call = self.calls.all.live_mut(key);
            call.full = Some(call.pool_of_attempt());
        }
        let moment = self.moment();
        self.calls.on_broken(key, failure, Outcome::Unsent, Broken::Unsent, moment);
        self.run_effects();
    }
}

/// Places that become free.
impl Worker {
    /// Gives the places that have become free to those who wait for them.
    pub(super) fn place_waiting(&mut self) {
        if !self.held_back.is_empty() {
            self.serve_held_back();
        }
        if self.upstreams.pending == 0 {
            return;
        }
        let mut is_of_use = false;
        for index in 0..self.upstreams.targets.list.len() {
            let pool = self.upstreams.targets.list[index].pool;
            self.serve_waiting(pool);
            is_of_use |= self.serve_overflow(index, pool);
        }
        if !is_of_use {
            self.fail_overflow();
        }
    }

    /// Serves those who wait for the pool's connection. When it has come and
    /// they are too many for it, a further one is made for them, and where none
    /// may be, they wait for any place. Where it was lost, they go elsewhere.
    fn serve_waiting(&mut self, pool: PoolKey) {
        while !self.upstreams.pools.live(pool).waiting.is_empty() {
            if let Some(link) = self.upstreams.free_link(pool) {
                let Some(key) = self.upstreams.pop_waiting(pool) else { return };
                self.calls.focus_on(key, |place| place == Place::Waiting(pool));
                self.send_in_share(key, link);
                continue;
            }
            if self.upstreams.is_connecting(pool) {
                if let Err(failure) = self.upstreams.check_waiting(pool) {
                    self.fail_waiting(pool, &failure);
                }
                return;
            }
            let moment = self.moment();
            match self.upstreams.open_further(pool, &self.io, moment) {
                Ok(()) => continue,
                Err(Failure::Overload { .. }) => self.spill(pool),
                Err(failure) => self.fail_waiting(pool, &failure),
            }
            return;
        }
    }

    fn spill(&mut self, pool: PoolKey) {
        for key in self.upstreams.spill(pool) {
            self.calls.focus_on(key, |place| place == Place::Waiting(pool));
            self.set_place(key, Place::Overflow(pool));
        }
    }

    /// Offers those who wait for a pool's connection to other backends.
    pub(super) fn fail_waiting(&mut self, pool: PoolKey, failure: &Failure) {
        for key in self.upstreams.take_waiting(pool) {
            self.calls.focus_on(key, |place| place == Place::Waiting(pool));
            self.on_unsent(key, failure.clone());
        }
    }

    /// Gives the pool's free places to those who wait for any. Whether the pool
    /// has places now or may have some later.
    fn serve_overflow(&mut self, index: usize, pool: PoolKey) -> bool {
        while self.upstreams.pools.live(pool).upstream.backend().is_available() {
            let Some(key) = self.upstreams.overflow.front().copied() else { return true };
            let Some(link) = self.upstreams.free_link(pool) else {
                let moment = self.moment();
                // Without one the calls wait for other places.
                let _ = self.upstreams.open_further(pool, &self.io, moment);
                return self.upstreams.is_usable(pool);
            };
            if !self.move_to(key, index, pool) {
                return true;
            }
            self.upstreams.overflow.pop_front();
            self.send_in_share(key, link);
        }
        false
    }

    /// Counts the call at the head of the overflow at this backend, if the
    /// backend may have one more.
    fn move_to(&mut self, key: CallKey, index: usize, pool: PoolKey) -> bool {
        self.calls.focus_on(key, |place| matches!(place, Place::Overflow(_)));
        let call = self.calls.all.live_mut(key);
        let from = call.pool_of_attempt();
        if from != pool {
            let targets = &self.upstreams.targets;
            let moved = targets.attempt(index, self.now_ns);
            let counted = moved.in_flight.upstream().backend().in_flight();
            if self.shared.config.circuit.check_requests(counted, || 0).is_err() {
                return false;
            }
            call.move_attempt(moved);
        }
        self.upstreams.note_taken(from);
        true
    }

    /// No backend can have a place any more for those who wait for any: they
    /// are offered once more, and fail if that is so.
    fn fail_overflow(&mut self) {
        for key in std::mem::take(&mut self.upstreams.overflow) {
            self.calls.focus_on(key, |place| matches!(place, Place::Overflow(_)));
            let pool = self.calls.all.live(key).pool_of_attempt();
            self.upstreams.note_taken(pool);
            let failure = if self.upstreams.is_listed(pool) {
                self.upstreams.may_connect(pool, self.now_ns).err()
            } else {
                None
            };
            self.on_unsent(key, failure.unwrap_or(Failure::NoBackend));
        }
    }
}

/// Shares of clients.
impl Worker {
    /// Whether the call's client may hold one more place.
    #[inline]
    fn may_take_place(&self, key: CallKey) -> bool {
        self.clients.shares.has_plenty()
            || self.clients.may_take_place(self.calls.all.live(key).client)
    }

    /// Lets a call wait until its client holds fewer places.
    #[cold]
    fn hold_back(&mut self, key: CallKey) -> Result<(), Failure> {
        if self.held_back.len() >= self.shared.config.circuit.max_pending as usize {
            let pool = self.calls.all.live(key).pool_of_attempt();
            return Err(self.upstreams.circuit_open(pool, Limit::ClientShare));
        }
        self.set_place(key, Place::HeldBack);
        self.held_back.push_back(key);
        Ok(())
    }

    /// Sends a call that has waited, unless its client has come to hold too many
    /// places meanwhile.
    fn send_in_share(&mut self, key: CallKey, link: LinkKey) {
        if self.may_take_place(key) {
            self.send(key, link);
        } else if let Err(failure) = self.hold_back(key) {
            self.on_unsent(key, failure);
        }
    }

    /// Lets those go on whose clients hold fewer places now. They are looked at
    /// only when places have become free.
    #[cold]
    fn serve_held_back(&mut self) {
        let taken = self.clients.shares.taken();
        if taken >= std::mem::replace(&mut self.held_back_at, taken) {
            return;
        }
        for key in std::mem::take(&mut self.held_back) {
            // It may have ended, or gone on with its other attempt, since.
            let Some(call) = self.calls.all.get_mut(key) else { continue };
            if !self.clients.may_take_place(call.client) {
                self.held_back.push_back(key);
                continue;
            }
            self.calls.focus_on(key, |place| place == Place::HeldBack);
            let call = self.calls.all.live(key);
            if call.place() != Some(Place::HeldBack) {
                continue;
            }
            let pool = call.pool_of_attempt();
            // The backend may have left meanwhile.
            let (is_listed, moment) = (self.upstreams.is_listed(pool), self.moment());
            let assigned =
                if is_listed { self.assign(key, pool, moment) } else { Err(Failure::NoBackend) };
            if let Err(failure) = assigned {
                self.on_unsent(key, failure);
            }
        }
    }

    /// The number of places has changed: those who are held back are looked at
    /// again.
    pub(super) fn count_places(&mut self) {
        self.clients.shares.places = self.upstreams.places();
        self.held_back_at = u32::MAX;
    }
}

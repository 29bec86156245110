//! Calls that wait for a place, and what can be done for them.

use std::collections::VecDeque;

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng as _, SeedableRng as _};

use super::Upstreams;
use crate::failure::Failure;
use crate::planes::relay::call::{Attempt, Place};
use crate::planes::relay::io::Io;
use crate::planes::relay::keys::{CallKey, LinkKey, PoolKey};
use crate::planes::relay::targets::Moment;

/// What is next for a call without a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// This connection has a place for it.
    Send(LinkKey),
    /// It waits here.
    Wait(Place),
}

/// What can be done for a call that has waited.
pub(crate) struct Turn {
    pub(crate) call: CallKey,
    /// Where it waited.
    pub(crate) was: Place,
    /// Its attempt at another backend than the one that it was counted at.
    pub(crate) moved: Option<Attempt>,
    /// Or why it has nothing to wait for any more.
    pub(crate) next: Result<Next, Failure>,
}

impl Turn {
    fn of(pool: PoolKey, call: CallKey, next: Result<Next, Failure>) -> Self {
        Self { call, was: Place::Waiting(pool), moved: None, next }
    }
}

/// One look at all who wait.
pub(crate) struct Round {
    now_ns: u64,
    chance: SplitMix64,
    /// The backend that is looked at.
    index: usize,
    /// A backend has places now or may have some later.
    is_of_use: bool,
    /// What was decided for many at once.
    turns: VecDeque<Turn>,
}

impl Round {
    pub(crate) fn new(Moment { now_ns, random }: Moment) -> Self {
        let (chance, turns) = (SplitMix64::seed_from_u64(random), VecDeque::new());
        Self { now_ns, chance, index: 0, is_of_use: false, turns }
    }

    fn moment(&mut self) -> Moment {
        Moment { now_ns: self.now_ns, random: self.chance.next_u64() }
    }
}

impl Upstreams {
    /// What can be done next for those who wait, as places are free.
    pub(crate) fn next_turn(&mut self, round: &mut Round, io: &Io) -> Option<Turn> {
        loop {
            if let Some(turn) = round.turns.pop_front() {
                return Some(turn);
            }
            let Some(target) = self.targets.list.get(round.index) else {
                if round.is_of_use {
                    return None;
                }
                // Once.
                round.is_of_use = true;
                self.fail_overflow(round);
                continue;
            };
            let pool = target.pool;
            let turn = self.serve_waiting(pool, round, io);
            if turn.is_some() || !round.turns.is_empty() {
                round.turns.extend(turn);
                continue;
            }
            let turn = self.serve_overflow(pool, round, io);
            if turn.is_some() {
                return turn;
            }
            round.index += 1;
        }
    }

    /// Serves those who wait for the pool's connection. When it has come and
    /// they are too many for it, a further one is made for them, and where none
    /// may be, they wait for any place. Where it was lost, they go elsewhere.
    fn serve_waiting(&mut self, pool: PoolKey, round: &mut Round, io: &Io) -> Option<Turn> {
        while !self.pools.live(pool).waiting.is_empty() {
            if let Some(link) = self.free_link(pool) {
                let call = self.pools.live_mut(pool).waiting.pop_front()?;
                self.note_taken(pool);
                return Some(Turn::of(pool, call, Ok(Next::Send(link))));
            }
            let served = if self.is_connecting(pool) {
                self.check_waiting(pool)
            } else {
                match self.open_further(pool, io, round.moment()) {
                    Ok(()) => continue,
                    Err(Failure::Overload { .. }) => {
                        self.spill(pool, round);
                        Ok(())
                    }
                    Err(failure) => Err(failure),
                }
            };
            if let Err(failure) = served {
                round.turns = self.fail_waiting(pool, &failure);
            }
            return None;
        }
        None
    }

    /// Moves those who wait for a pool's connection to the head of the overflow:
    /// they were there before those who found the pool full.
    fn spill(&mut self, pool: PoolKey, round: &mut Round) {
        let waiting = std::mem::take(&mut self.pools.live_mut(pool).waiting);
        for call in waiting.iter().rev() {
            self.overflow.push_front((*call, pool));
        }
        let turn = |call| Turn::of(pool, call, Ok(Next::Wait(Place::Overflow(pool))));
        round.turns = waiting.into_iter().map(turn).collect();
    }

    /// Those who wait for a pool's connection have it no more.
    pub(crate) fn fail_waiting(&mut self, pool: PoolKey, failure: &Failure) -> VecDeque<Turn> {
        let waiting = std::mem::take(&mut self.pools.live_mut(pool).waiting);
        waiting.iter().for_each(|_| self.note_taken(pool));
        let turn = |call| Turn::of(pool, call, Err(failure.clone()));
        waiting.into_iter().map(turn).collect()
    }

    /// Gives the pool's free places to those who wait for any.
    fn serve_overflow(&mut self, pool: PoolKey, round: &mut Round, io: &Io) -> Option<Turn> {
        if !self.pools.live(pool).upstream.backend().is_available() {
            return None;
        }
        let Some(&(call, from)) = self.overflow.front() else {
            round.is_of_use = true;
            return None;
        };
        let Some(link) = self.free_link(pool) else {
            // Without one the calls wait for other places.
            let _ = self.open_further(pool, io, round.moment());
            round.is_of_use |= self.is_usable(pool);
            return None;
        };
        let moved = (from != pool).then(|| self.targets.attempt(round.index, round.now_ns));
        if let Some(moved) = &moved {
            // Counted at this backend, if it may have one more.
            let counted = moved.in_flight.upstream().backend().in_flight();
            if self.shared.config.circuit.check_requests(counted, || 0).is_err() {
                round.is_of_use = true;
                return None;
            }
        }
        self.overflow.pop_front();
        self.note_taken(from);
        Some(Turn { call, was: Place::Overflow(from), moved, next: Ok(Next::Send(link)) })
    }

    /// No backend can have a place any more for those who wait for any: they
    /// are offered once more, and fail if that is so.
    fn fail_overflow(&mut self, round: &mut Round) {
        for (call, pool) in std::mem::take(&mut self.overflow) {
            self.note_taken(pool);
            let connect = self.is_listed(pool).then(|| self.may_connect(pool, round.now_ns));
            let next = Err(connect.and_then(Result::err).unwrap_or(Failure::NoBackend));
            round.turns.push_back(Turn { call, was: Place::Overflow(pool), moved: None, next });
        }
    }

    /// Whether calls wait.
    #[inline]
    pub(crate) fn has_pending(&self) -> bool {
        self.pending > 0
    }

    /// Whether calls wait for a place at any backend.
    pub(crate) fn has_overflow(&self) -> bool {
        !self.overflow.is_empty()
    }

    /// Lets a call wait for a place at any backend, whose attempt is counted at this one.
    ///
    /// # Errors
    /// When it may not wait.
    pub(crate) fn wait_for_any(
        &mut self,
        call: CallKey,
        pool: PoolKey,
        now_ns: u64,
    ) -> Result<Attempt, Failure> {
        let index = self.targets.list.iter().position(|target| target.pool == pool);
        let index = index.ok_or(Failure::NoBackend)?;
        self.check_pending(pool)?;
        let attempt = self.targets.attempt(index, now_ns);
        self.check_circuit(pool)?;
        let place = self.enqueue(call, Place::Overflow(pool));
        Ok(Attempt { place, ..attempt })
    }

    /// Lets a call wait there.
    pub(super) fn enqueue(&mut self, call: CallKey, place: Place) -> Place {
        if let Place::Overflow(key) | Place::Waiting(key) = place {
            let pool = self.pools.live_mut(key);
            match place {
                Place::Overflow(_) => self.overflow.push_back((call, key)),
                _ => pool.waiting.push_back(call),
            }
            pool.pending += 1;
            self.pending += 1;
        }
        place
    }

    /// Takes a call out of the queue it waits in.
    pub(crate) fn unqueue(&mut self, call: CallKey, place: Place) {
        let (is_found, key) = match place {
            Place::Overflow(key) => (take(&mut self.overflow, &(call, key)), key),
            Place::Waiting(key) => (take(&mut self.pools.live_mut(key).waiting, &call), key),
            Place::HeldBack | Place::Stream(..) | Place::Nowhere => return,
        };
        if is_found {
            self.note_taken(key);
        }
    }

    /// One call less waits.
    fn note_taken(&mut self, key: PoolKey) {
        self.pending -= 1;
        // The backend may have left while the call waited for any.
        if let Some(pool) = self.pools.get_mut(key) {
            pool.pending -= 1;
        }
    }
}

/// Takes one out of a queue. Whether it was there.
fn take<T: PartialEq>(queue: &mut VecDeque<T>, one: &T) -> bool {
    let position = queue.iter().position(|waiting| waiting == one);
    position.and_then(|position| queue.remove(position)).is_some()
}

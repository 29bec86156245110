//! Attempts: which backend is next, and what follows when one breaks.

use balance::PickInput;

use super::{Calls, Effect};
use crate::failure::Failure;
use crate::metrics::Outcome;
use crate::planes::relay::call::{Attempt, Place};
use crate::planes::relay::keys::{CallKey, PoolKey};
use crate::planes::relay::targets::{Moment, Targets};
use crate::retry::{GrpcStatus, Pushback};
use crate::upstreams::Offered;

/// How an attempt broke, and what may be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// It was never on a connection; another backend can have it.
    Unsent,
    /// The backend said, or it is certain, that the call was not processed;
    /// another connection can have it.
    Unprocessed,
    /// Whether the backend acted on it is unknown.
    Final,
}

impl Calls {
    /// Picks the backend for the next attempt, if the call may have one, and
    /// counts it there. The attempt is yet to find a place.
    pub(crate) fn next_attempt(
        &mut self,
        key: CallKey,
        targets: &Targets,
        Moment { now_ns, random }: Moment,
    ) -> Option<PoolKey> {
        let call = self.all.live_mut(key);
        if call.attempts >= self.limits.max_attempts {
            return None;
        }
        let set = &targets.set;
        let input = PickInput { random, now_ns, key: call.hash_key };
        let mut picked = set.pick(&input, call.tried.of(set));
        if picked.is_none() && matches!(call.last, Some((_, true))) {
            // Every backend was tried, and the last has not looked at the call:
            // another of its connections may take it.
            call.tried = Offered::default();
            picked = set.pick(&input, call.tried.of(set));
        }
        let (index, _) = picked?;
        let is_budgeted = std::mem::take(&mut call.holds_budget);
        let turn = self.line.as_mut().map(|line| line.arrive(now_ns));
        let attempt = Attempt { is_budgeted, turn, ..targets.attempt(index, now_ns) };
        call.attempts += 1;
        call.pool = attempt.pool;
        if call.attempts > 1 {
            self.counters.retries.inc();
        }
        call.attempt = Some(attempt);
        Some(call.pool)
    }

    /// The attempt is there now.
    pub(crate) fn set_place(&mut self, key: CallKey, place: Place) {
        if let Some(attempt) = &mut self.all.live_mut(key).attempt {
            attempt.place = place;
        }
    }

    /// The attempt found no place at its backend, or has it no more: another
    /// backend is offered the call, if that is of help.
    pub(crate) fn on_unsent(&mut self, key: CallKey, failure: Failure, now_ns: u64) {
        let call = self.all.live_mut(key);
        if matches!(failure, Failure::Overload { .. }) {
            call.full = Some(call.pool_of_attempt());
        }
        // Of some limits another backend is no help.
        match &failure {
            Failure::CircuitOpen { limit, .. }
                if !limit.spares_others() && call.other.is_none() =>
            {
                self.reject(key, &failure, now_ns);
            }
            _ => self.close_attempt(key, failure, Outcome::Unsent, Broken::Unsent, now_ns),
        }
    }

    /// No backend is left to try. Gives one that was too full for the call and
    /// may have a place later; where there is none, the call has failed.
    pub(crate) fn give_up(&mut self, key: CallKey, now_ns: u64) -> Option<PoolKey> {
        let call = self.all.live_mut(key);
        let full = call.full.take();
        if full.is_none() {
            let failure = call.last.take().map_or(Failure::NoBackend, |(failure, _)| failure);
            self.reject(key, &failure, now_ns);
        }
        full
    }

    /// Lets the call wait for a place at any backend; it is counted at one.
    pub(crate) fn begin_waiting(&mut self, key: CallKey, attempt: Attempt) {
        let call = self.all.live_mut(key);
        let is_budgeted = std::mem::take(&mut call.holds_budget);
        call.pool = attempt.pool;
        let turn = self.line.as_mut().map(|line| line.arrive(attempt.sent_ns));
        call.attempt = Some(Attempt { is_budgeted, turn, ..attempt });
    }

    /// The attempt broke: another is made if that is safe, and the call fails if
    /// not.
    pub(crate) fn on_broken(
        &mut self,
        key: CallKey,
        failure: Failure,
        outcome: Outcome,
        broken: Broken,
        moment: Moment,
    ) {
        if broken == Broken::Final
            && let Some(status) = GrpcStatus::of_failure(&failure)
            && !self.all.live(key).response.has_head
            && self.try_after_status(key, status, Pushback::None, outcome, moment)
        {
            return;
        }
        self.close_attempt(key, failure, outcome, broken, moment.now_ns);
    }

    /// Closes the books of an attempt that broke. Another follows, unless the call
    /// has failed or is left to its other attempt.
    fn close_attempt(
        &mut self,
        key: CallKey,
        failure: Failure,
        outcome: Outcome,
        broken: Broken,
        now_ns: u64,
    ) {
        if self.leave_to_other(key, outcome, now_ns) {
            return;
        }
        let call = self.all.live_mut(key);
        let may_retry =
            broken != Broken::Final && call.request.is_replayable && !call.response.has_head;
        if !may_retry {
            return self.fail(key, &failure, outcome, now_ns);
        }
        call.last = Some((failure, broken == Broken::Unprocessed));
        if let Some(attempt) = call.attempt.take() {
            call.tried.insert(attempt.index);
            self.count_attempt(attempt, outcome, now_ns);
        }
        self.effects.push_back(Effect::Attempt(key));
    }
}

//! Attempts after a failure that a backend may have worked on, and attempts
//! made ahead of one: the acts. What is decided is in [`crate::retry`].
//!
//! A hedged call has two attempts in progress, in two places of the call. Each
//! event names the connection it came from, and the attempt on that connection
//! is made the first of the two ([`Worker::focus`]) before anyone acts on it; so
//! all other code knows one attempt. A call that is not hedged, which is nearly
//! every one, pays a comparison for this on its head and on its end.

use std::sync::Arc;
use std::time::Duration;

use balance::PickInput;
use h2_wire::Reason;
use h2_wire::hpack::{HeaderList, Name};

use super::call::{Attempt, CallKey, Place};
use super::headers;
use super::pool::{LinkKey, PoolKey};
use super::worker::{Due, Worker};
use crate::failure::{Failure, code};
use crate::metrics::Outcome;
use crate::retry::{GrpcStatus, Pushback, Standing, Verdict};

/// After a failure.
impl Worker {
    /// Sees to an attempt that failed after a backend may have worked on it.
    /// Whether another is made, or waited for, and nothing is left to do.
    pub(super) fn may_try_again(
        &mut self,
        key: CallKey,
        failure: &Failure,
        outcome: Outcome,
    ) -> bool {
        let Some(status) = GrpcStatus::of_failure(failure) else { return false };
        let has_head = self.calls.get(key).is_none_or(|call| call.response.has_head);
        !has_head && self.try_after_status(key, status, Pushback::None, outcome)
    }

    /// Sees to a response's head before it goes to the client: a hedged call is
    /// settled, and an answer that is a reason to try again is kept back.
    /// Whether the head has been dealt with.
    #[inline]
    pub(super) fn keeps_back(&mut self, link: LinkKey, key: CallKey, end_stream: bool) -> bool {
        let Some(call) = self.calls.get(key) else { return false };
        let may_retry = end_stream && !self.shared.config.retry.retry_on.is_empty();
        if call.due.is_none() && call.other.is_none() && !may_retry {
            return false;
        }
        self.focus(link, key);
        if may_retry && self.retries_answer(link, key) {
            return true;
        }
        self.settle(key);
        false
    }

    /// The same for an answer that is one header block.
    #[cold]
    fn retries_answer(&mut self, link: LinkKey, key: CallKey) -> bool {
        let Some(from) = self.links.get(link) else { return false };
        let list = from.endpoint.http.headers();
        let Some((status, pushback)) = status_of(list) else { return false };
        let outcome = headers::outcome(true, 200, Some(list));
        self.try_after_status(key, status, pushback, outcome)
    }

    /// Ends the attempt, and makes another after a pause, if that may be done.
    fn try_after_status(
        &mut self,
        key: CallKey,
        status: GrpcStatus,
        pushback: Pushback,
        outcome: Outcome,
    ) -> bool {
        let random = self.chance.next_u64();
        let shared = Arc::clone(&self.shared);
        let policy = &shared.config.retry;
        let is_grpc = self.calls.get(key).is_some_and(|call| call.is_grpc);
        if !is_grpc || !policy.retries(status) {
            return false;
        }
        if self.leave_to_other(key, outcome) {
            return true;
        }
        let Some(call) = self.calls.get(key) else { return false };
        let left = call.deadline_ns.map(|at_ns| at_ns.saturating_sub(self.now_ns));
        let standing = Standing {
            attempts: call.attempts,
            max_attempts: self.shared.config.calls.max_attempts,
            is_replayable: call.request.is_replayable,
            left: left.map(Duration::from_nanos),
            calls: self.calls.len(),
            budgeted: self.budgeted,
        };
        match policy.decide(status, pushback, standing, random) {
            Verdict::Tell => false,
            Verdict::OverBudget => {
                self.retry_counters.over_budget.inc();
                false
            }
            Verdict::TryAfter(pause) => {
                self.retry_after(key, pause, outcome);
                true
            }
        }
    }

    fn retry_after(&mut self, key: CallKey, pause: Duration, outcome: Outcome) {
        self.retry_counters.retries.inc();
        self.end_stream_of(key);
        let Some(call) = self.calls.get_mut(key) else { return };
        if let Some(attempt) = call.attempt.take() {
            call.tried.insert(attempt.index);
            call.last = Some((Failure::NoBackend, true));
            call.holds_budget = true;
            self.budgeted += 1;
            self.count_attempt(attempt, outcome);
        }
        self.set_due(key, pause, Due::Retry(key));
    }

    /// Resets the attempt's stream if its response is whole and its request is
    /// not.
    fn end_stream_of(&mut self, key: CallKey) {
        let attempt = self.calls.get(key).and_then(|call| call.attempt.as_ref());
        if let Some(Place::Stream(link, stream)) = attempt.map(|attempt| attempt.place) {
            self.reset_on_link(link, stream, Reason::NO_ERROR);
        }
    }

    /// Sets when a call is due for its next act; it can wait for one only.
    pub(super) fn set_due(&mut self, key: CallKey, pause: Duration, due: Due) {
        let at_ns = self.now_ns.saturating_add(pause.as_nanos() as u64);
        let Some(call) = self.calls.get_mut(key) else { return };
        if let Some((before_ns, before)) = call.due.replace((at_ns, due)) {
            self.timers.clear(before_ns, before);
        }
        self.timers.set(at_ns, due);
    }

    pub(super) fn on_retry_due(&mut self, key: CallKey) {
        let Some(call) = self.calls.get_mut(key) else { return };
        call.due = None;
        self.place(key);
    }
}

/// Hedging.
impl Worker {
    /// Sends a call without an answer to a second backend, if it may.
    pub(super) fn on_hedge_due(&mut self, key: CallKey) {
        let random = self.chance.next_u64();
        let config = &self.shared.config;
        let Some(call) = self.calls.get_mut(key) else { return };
        call.due = None;
        let request = &call.request;
        let may_hedge = call.other.is_none()
            && request.is_ended
            && request.is_replayable
            && call.attempts < config.calls.max_attempts;
        let Some(first) = call.attempt.take_if(|_| may_hedge) else { return };
        let mut tried = call.tried.of(&self.set).clone();
        // An index of a set that is gone is another backend's by now.
        if self.pools_by_index.get(first.index) == Some(&first.pool) {
            tried.insert(first.index);
        }
        let input = PickInput { random, now_ns: self.now_ns, key: call.hash_key };
        let picked = self.set.pick(&input, &tried).map(|(index, _)| index);
        let pool = picked.and_then(|index| self.pools_by_index.get(index).copied());
        let has_budget = config.retry.has_budget(self.calls.len(), self.budgeted);
        let Some(call) = self.calls.get_mut(key) else { return };
        let (Some(index), Some(pool), true) = (picked, pool, has_budget) else {
            call.attempt = Some(first);
            if picked.is_some() {
                self.retry_counters.over_budget.inc();
            }
            return;
        };
        call.other = Some(Box::new(first));
        self.begin_hedge(key, index, pool);
    }

    fn begin_hedge(&mut self, key: CallKey, index: usize, pool: PoolKey) {
        let (Some(call), Some(backend)) = (self.calls.get_mut(key), self.pools.get(pool)) else {
            return;
        };
        call.attempts += 1;
        self.budgeted += 1;
        self.retry_counters.hedges.inc();
        call.attempt = Some(Attempt {
            pool,
            index,
            in_flight: backend.upstream.begin(),
            place: Place::Waiting(PoolKey::NONE),
            held: None,
            sent_ns: self.now_ns,
            is_budgeted: true,
            is_hedge: true,
        });
        // While calls wait for places, none has two.
        let is_full = !self.overflow.is_empty() || !self.may_take_place(key);
        let assigned = self.check_circuit(pool);
        if is_full || assigned.and_then(|()| self.assign(key, pool)).is_err() {
            self.leave_to_other(key, Outcome::Unsent);
        }
    }

    /// Makes the attempt on this connection the first of the two that a hedged
    /// call has.
    #[inline]
    pub(super) fn focus(&mut self, link: LinkKey, key: CallKey) {
        self.focus_on(key, |place| matches!(place, Place::Stream(found, _) if found == link));
    }

    /// The same by where the attempt is.
    #[inline]
    pub(super) fn focus_on(&mut self, key: CallKey, is_it: impl Fn(Place) -> bool) {
        let Some(call) = self.calls.get_mut(key) else { return };
        if let Some(other) = &mut call.other
            && let Some(first) = &mut call.attempt
            && is_it(other.place)
        {
            std::mem::swap(first, &mut **other);
        }
    }

    /// Ends the first of two attempts and leaves the call to the other. False
    /// when there is no other.
    pub(super) fn leave_to_other(&mut self, key: CallKey, outcome: Outcome) -> bool {
        let Some(call) = self.calls.get_mut(key) else { return false };
        let Some(other) = call.other.take() else { return false };
        call.tried.insert(other.index);
        self.end_stream_of(key);
        let Some(call) = self.calls.get_mut(key) else { return false };
        if let Some(first) = call.attempt.replace(*other) {
            call.tried.insert(first.index);
            self.count_attempt(first, outcome);
        }
        true
    }

    /// The first of two attempts has an answer: the other is taken back, and no
    /// further one is made.
    #[cold]
    fn settle(&mut self, key: CallKey) {
        let Some(call) = self.calls.get_mut(key) else { return };
        if let Some((at_ns, due)) = call.due.take() {
            self.timers.clear(at_ns, due);
        }
        let Some(other) = call.other.take() else { return };
        if call.attempt.as_ref().is_some_and(|attempt| attempt.is_hedge) {
            self.retry_counters.hedges_won.inc();
        }
        self.withdraw_from(key, Some(other.place), Reason(code::CANCEL));
        self.count_attempt(*other, Outcome::Cancelled);
    }
}

/// What a response that is one header block says of itself.
fn status_of(list: &HeaderList) -> Option<(GrpcStatus, Pushback)> {
    let status = GrpcStatus::from_header(list.value_of(Name::GrpcStatus)?)?;
    Some((status, Pushback::from_header(list.value_of_name(b"grpc-retry-pushback-ms"))))
}

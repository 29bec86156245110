//! Retries that answers ask for, and hedges.

use std::time::Duration;

use balance::PickInput;
use h2_wire::Reason;
use h2_wire::hpack::{HeaderList, Name};

use super::{Calls, Effect};
use crate::failure::{Failure, code};
use crate::metrics::Outcome;
use crate::planes::relay::call::{Attempt, Due, Place};
use crate::planes::relay::headers;
use crate::planes::relay::keys::{CallKey, LinkKey};
use crate::planes::relay::targets::{Moment, Targets};
use crate::retry::{CallState, GrpcStatus, Pushback, Verdict};

/// Time.
impl Calls {
    /// Does what is due.
    pub(crate) fn on_due(&mut self, due: Due, targets: &Targets, moment: Moment) {
        match due {
            Due::Deadline(key) => self.on_deadline(key, moment.now_ns),
            Due::Retry(key) => {
                self.all.live_mut(key).due = None;
                self.effects.push_back(Effect::Attempt(key));
            }
            Due::Hedge(key) => {
                self.all.live_mut(key).due = None;
                self.hedge(key, targets, moment);
            }
        }
    }

    /// Sends a call without an answer to a second backend, if it may.
    fn hedge(&mut self, key: CallKey, targets: &Targets, Moment { now_ns, random }: Moment) {
        let has_budget = self.retry.has_budget(self.all.len(), self.budgeted);
        let call = self.all.live_mut(key);
        let request = &call.request;
        let may_hedge = call.other.is_none()
            && request.is_ended
            && request.is_replayable
            && call.attempts < self.limits.max_attempts;
        let Some(first) = call.attempt.take_if(|_| may_hedge) else { return };
        let mut tried = call.tried.of(&targets.set).clone();
        // An index of a set that is gone is another backend's by now.
        if targets.list.get(first.index).is_some_and(|target| target.pool == first.pool) {
            tried.insert(first.index);
        }
        let input = PickInput { random, now_ns, key: call.hash_key };
        let picked = targets.set.pick(&input, &tried);
        let Some((index, _)) = picked.filter(|_| has_budget) else {
            if picked.is_some() {
                self.retry_counters.over_budget.inc();
            }
            call.attempt = Some(first);
            return;
        };
        call.other = Some(Box::new(first));
        call.attempts += 1;
        let hedge = targets.attempt(index, now_ns);
        call.attempt = Some(Attempt { is_budgeted: true, is_hedge: true, ..hedge });
        self.budgeted += 1;
        self.retry_counters.hedges.inc();
        self.effects.push_back(Effect::Hedge(key));
    }
}

/// Answers.
impl Calls {
    /// Whether a response's head has to be shown to [`Calls::on_head`] before it
    /// goes to the client.
    #[inline]
    pub(crate) fn watches_head(&self, key: CallKey, end_stream: bool) -> bool {
        let call = self.all.live(key);
        call.due.is_some() || call.other.is_some() || end_stream && !self.retry.retry_on.is_empty()
    }

    /// Sees to a response's head before it goes to the client: a hedged call is
    /// settled, and an answer that is a reason to try again is kept back.
    /// Whether the head has been dealt with.
    #[cold]
    pub(crate) fn on_head(
        &mut self,
        link: LinkKey,
        key: CallKey,
        list: &HeaderList,
        end_stream: bool,
        moment: Moment,
    ) -> bool {
        self.focus(link, key);
        // Only an answer that is one header block can be kept back.
        if let Some((status, pushback)) = status_of(list).filter(|_| end_stream) {
            let outcome = headers::outcome(true, 200, Some(list));
            if self.try_after_status(key, status, pushback, outcome, moment) {
                return true;
            }
        }
        self.settle(key, moment.now_ns);
        false
    }

    /// Ends the attempt, and makes another after a pause, if that may be done.
    pub(super) fn try_after_status(
        &mut self,
        key: CallKey,
        status: GrpcStatus,
        pushback: Pushback,
        outcome: Outcome,
        Moment { now_ns, random }: Moment,
    ) -> bool {
        if !self.all.live(key).is_grpc || !self.retry.retries(status) {
            return false;
        }
        if self.leave_to_other(key, outcome, now_ns) {
            return true;
        }
        let call = self.all.live(key);
        let left = call.deadline_ns.map(|at_ns| at_ns.saturating_sub(now_ns));
        let state = CallState {
            attempts: call.attempts,
            max_attempts: self.limits.max_attempts,
            is_replayable: call.request.is_replayable,
            left: left.map(Duration::from_nanos),
            calls: self.all.len(),
            budgeted: self.budgeted,
        };
        match self.retry.decide(status, pushback, state, random) {
            Verdict::Tell => false,
            Verdict::OverBudget => {
                self.retry_counters.over_budget.inc();
                false
            }
            Verdict::TryAfter(pause) => {
                self.retry_after(key, pause, outcome, now_ns);
                true
            }
        }
    }

    fn retry_after(&mut self, key: CallKey, pause: Duration, outcome: Outcome, now_ns: u64) {
        self.retry_counters.retries.inc();
        let call = self.all.live_mut(key);
        if let Some(attempt) = call.attempt.take() {
            if let Place::Stream(link, stream) = attempt.place {
                // For where its response is whole and its request is not.
                self.effects.push_back(Effect::Reset { link, stream, reason: Reason::NO_ERROR });
            }
            call.tried.insert(attempt.index);
            call.last = Some((Failure::NoBackend, true));
            call.holds_budget = true;
            self.budgeted += 1;
            self.count_attempt(attempt, outcome, now_ns);
        }
        self.set_due(key, now_ns, pause, Due::Retry(key));
    }

    /// Makes the attempt on this connection the first of the two that a hedged
    /// call has.
    #[inline]
    pub(crate) fn focus(&mut self, link: LinkKey, key: CallKey) {
        self.focus_if(key, |place| matches!(place, Place::Stream(found, _) if found == link));
    }

    /// The same for one that waits there. Whether there is one: a queue may still
    /// know of a call that is over, or has gone on with its other attempt.
    pub(crate) fn focus_on(&mut self, key: CallKey, place: Place) -> bool {
        self.focus_if(key, |found| found == place);
        self.all.get(key).is_some_and(|call| call.place() == Some(place))
    }

    #[inline]
    fn focus_if(&mut self, key: CallKey, is_it: impl Fn(Place) -> bool) {
        if let Some(call) = self.all.get_mut(key)
            && let Some(other) = &mut call.other
            && let Some(first) = &mut call.attempt
            && is_it(other.place)
        {
            std::mem::swap(first, &mut **other);
        }
    }

    /// Ends the first of two attempts and leaves the call to the other. False
    /// when there is no other.
    pub(crate) fn leave_to_other(&mut self, key: CallKey, outcome: Outcome, now_ns: u64) -> bool {
        let call = self.all.live_mut(key);
        let Some(other) = call.other.take() else { return false };
        call.tried.insert(other.index);
        let first = call.attempt.replace(*other);
        if let Some(first) = first {
            call.tried.insert(first.index);
            if let Place::Stream(link, stream) = first.place {
                self.effects.push_back(Effect::Reset { link, stream, reason: Reason::NO_ERROR });
            }
            self.count_attempt(first, outcome, now_ns);
        }
        true
    }

    /// The first of two attempts has an answer: the other is taken back, and no
    /// further one is made.
    fn settle(&mut self, key: CallKey, now_ns: u64) {
        let call = self.all.live_mut(key);
        if let Some((at_ns, due)) = call.due.take() {
            self.timers.clear(at_ns, due);
        }
        let Some(other) = call.other.take() else { return };
        if call.attempt.as_ref().is_some_and(|attempt| attempt.is_hedge) {
            self.retry_counters.hedges_won.inc();
        }
        self.withdraw_from(key, other.place, Reason(code::CANCEL));
        self.count_attempt(*other, Outcome::Cancelled, now_ns);
    }
}

/// What a response that is one header block says of itself.
fn status_of(list: &HeaderList) -> Option<(GrpcStatus, Pushback)> {
    let status = GrpcStatus::from_header(list.value_of(Name::GrpcStatus)?)?;
    Some((status, Pushback::from_header(list.value_of_name(b"grpc-retry-pushback-ms"))))
}

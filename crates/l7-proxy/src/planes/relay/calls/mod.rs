//! The calls of one thread as a state machine: what has happened to a call goes
//! in, with the time and a random number, and what is to be done comes out as
//! [`Effect`]s. No socket is known here, so that retries, hedges, deadlines and
//! what a client is told of a failure are tested without one.
//!
//! A hedged call has two attempts in progress, in two places of the call. Each
//! event names the connection it came from, and the attempt on that connection
//! is made the first of the two ([`Calls::focus`]) before anyone acts on it; so
//! all other code knows one attempt. A call that is not hedged, which is nearly
//! every one, pays a comparison for this on its head and on its end.
//!
//! What goes well causes no effects: bytes are passed on without asking here.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use balance::PickInput;
use event_loop::{Arena, Timers};
use h2_wire::Reason;
use h2_wire::connection::StreamKey;
use h2_wire::hpack::{HeaderList, Name};

use super::call::{Attempt, Call, CallKey, Place};
use super::clients::ClientKey;
use super::headers;
use super::link::{LinkKey, PoolKey};
use crate::config::{CallLimits, Config};
use crate::failure::{Answer, Failure, answer, code};
use crate::line::Line;
use crate::metrics::{BackendCounters, Outcome, ProxyCounters};
use crate::retry::{CallState, GrpcStatus, Pushback, RetryCounters, RetryPolicy, Verdict};
use crate::upstreams::{Offered, UpstreamSet};

/// Calls that are over and kept for their memory.
const SPARE_CALLS: usize = 128;

/// All calls of one thread.
pub(super) struct Calls {
    pub(super) all: Arena<Box<Call>>,
    /// Calls that are over, for their memory.
    #[allow(clippy::vec_box, reason = "the boxes move between here and `all`")]
    spare: Vec<Box<Call>>,
    /// In nanoseconds.
    pub(super) timers: Timers<Due>,
    limits: CallLimits,
    retry: RetryPolicy,
    /// Attempts in flight, or about to be made, that come out of the retry
    /// budget.
    budgeted: usize,
    /// Memory of requests that are kept for another attempt.
    pub(super) kept_bytes: usize,
    effects: VecDeque<Effect>,
    counters: ProxyCounters,
    retry_counters: RetryCounters,
    /// Who is served at the one backend and who waits, where that is asked for.
    pub(super) line: Option<Line>,
}

/// A moment of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// Its deadline.
    Deadline(CallKey),
    /// Its next attempt, after a pause.
    Retry(CallKey),
    /// Its second attempt, unless its first has an answer by then.
    Hedge(CallKey),
}

/// What a decision is made with: nanoseconds of the thread's clock, and any
/// number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) now_ns: u64,
    pub(super) random: u64,
}

/// What is to be done for a call.
pub(super) enum Effect {
    /// Offer it to a backend.
    Attempt(CallKey),
    /// Find a place for the second attempt, which is the first of the two now.
    Hedge(CallKey),
    /// Reset a stream on a backend's connection.
    Reset { link: LinkKey, stream: StreamKey, reason: Reason },
    /// Take it out of the queue it waits in.
    Unqueue { call: CallKey, place: Place },
    /// Tell its client what became of it, which ends the stream.
    Answer { client: ClientKey, stream: StreamKey, answer: Answer },
    /// It is over: what it held of its client's is given back.
    End { call: Box<Call>, outcome: Outcome },
}

/// What a request says of its call.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NewCall {
    pub(super) client: ClientKey,
    pub(super) stream: StreamKey,
    pub(super) is_grpc: bool,
    pub(super) is_ended: bool,
    pub(super) deadline_ns: Option<u64>,
    pub(super) hash_key: Option<u64>,
}

/// How an attempt broke, and what may be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// It was never on a connection; another backend can have it.
    Unsent,
    /// The backend said, or it is certain, that the call was not processed;
    /// another connection can have it.
    Unprocessed,
    /// Whether the backend acted on it is unknown.
    Final,
}

/// The backends that calls may be given to.
pub(super) struct Targets {
    pub(super) set: Arc<UpstreamSet>,
    /// By the indices of the set.
    pub(super) list: Vec<Target>,
}

/// A backend's connections, and its counts.
pub(super) struct Target {
    pub(super) pool: PoolKey,
    pub(super) counters: Rc<BackendCounters>,
}

impl Targets {
    /// A further attempt at this backend, which counts as in flight from now on.
    pub(super) fn attempt(&self, index: usize, now_ns: u64) -> Attempt {
        let Target { pool, counters } = &self.list[index];
        Attempt {
            pool: *pool,
            index,
            in_flight: self.set.upstreams()[index].begin(),
            counters: Rc::clone(counters),
            place: Place::Nowhere,
            held: None,
            sent_ns: now_ns,
            is_budgeted: false,
            is_hedge: false,
            turn: None,
        }
    }
}

/// The life of a call.
impl Calls {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            all: Arena::default(),
            spare: Vec::new(),
            timers: Timers::default(),
            limits: config.calls.clone(),
            retry: config.retry.clone(),
            budgeted: 0,
            kept_bytes: 0,
            effects: VecDeque::new(),
            counters: ProxyCounters::register(&config.metrics),
            retry_counters: RetryCounters::register(&config.metrics),
            line: config.calls.backend_servers.map(Line::new),
        }
    }

    /// What is to be done next.
    #[inline]
    pub(super) fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Begins a call. `kept_bytes` is what its client's requests are kept in.
    pub(super) fn begin(
        &mut self,
        new: NewCall,
        headers: &HeaderList,
        kept_bytes: &mut usize,
        now_ns: u64,
    ) -> CallKey {
        let mut call = self.spare.pop().unwrap_or_default();
        call.client = new.client;
        call.stream = new.stream;
        call.is_grpc = new.is_grpc;
        call.begun_ns = now_ns;
        call.deadline_ns = new.deadline_ns;
        call.hash_key = new.hash_key;
        call.request.headers.assign(headers);
        call.request.is_ended = new.is_ended;
        call.request.is_replayable = true;
        call.request.charge([kept_bytes, &mut self.kept_bytes]);
        let key = self.all.insert(call);
        if let Some(at_ns) = new.deadline_ns {
            self.timers.set(at_ns, Due::Deadline(key));
        }
        if new.is_grpc
            && let Some(delay) = self.retry.hedge_delay
        {
            self.set_due(key, now_ns, delay, Due::Hedge(key));
        }
        key
    }

    /// Takes a call out of the books: of its backends' load, the counts and the
    /// timers. What it holds of its client's is for the caller to give back.
    pub(super) fn end(&mut self, key: CallKey, outcome: Outcome, now_ns: u64) -> Box<Call> {
        debug_assert!(self.all.get(key).is_some(), "a call ends once");
        let mut call = self.all.remove(key).unwrap_or_default();
        if let Some(attempt) = call.attempt.take() {
            self.count_attempt(attempt, outcome, now_ns);
        }
        if let Some(other) = call.other.take() {
            self.count_attempt(*other, outcome, now_ns);
        }
        if let Some(at_ns) = call.deadline_ns {
            self.timers.clear(at_ns, Due::Deadline(key));
        }
        if let Some((at_ns, due)) = call.due {
            self.timers.clear(at_ns, due);
        }
        if call.holds_budget {
            self.budgeted -= 1;
        }
        self.kept_bytes -= call.request.charged;
        call
    }

    /// Takes back the memory of a call that is over.
    #[inline]
    pub(super) fn recycle(&mut self, mut call: Box<Call>) {
        if self.spare.len() < SPARE_CALLS {
            call.renew();
            self.spare.push(call);
        }
    }

    fn count_attempt(&mut self, mut attempt: Attempt, outcome: Outcome, now_ns: u64) {
        if attempt.is_budgeted {
            self.budgeted -= 1;
        }
        if let (Some(line), Some(turn)) = (&mut self.line, attempt.turn) {
            line.leave(turn, now_ns);
        }
        attempt.counters.count(outcome);
        attempt.in_flight.note(now_ns, outcome);
        // Dropping it ends it in the backend's load.
        drop(attempt);
    }

    /// Sets when a call is due for its next act; it can wait for one only.
    fn set_due(&mut self, key: CallKey, now_ns: u64, pause: Duration, due: Due) {
        let at_ns = now_ns.saturating_add(pause.as_nanos() as u64);
        if let Some((before_ns, before)) = self.all.live_mut(key).due.replace((at_ns, due)) {
            self.timers.clear(before_ns, before);
        }
        self.timers.set(at_ns, due);
    }
}

/// Attempts.
impl Calls {
    /// Picks the backend for the next attempt, if the call may have one, and
    /// counts it there. The attempt is yet to find a place.
    pub(super) fn next_attempt(
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

    /// The attempt found no place at its backend. Whether another may be made;
    /// where not, the call has failed.
    pub(super) fn on_unplaced(&mut self, key: CallKey, failure: Failure, now_ns: u64) -> bool {
        let call = self.all.live_mut(key);
        if matches!(failure, Failure::Overload { .. }) {
            call.full = Some(call.pool);
        }
        let broken = match &failure {
            // Another backend is no help.
            Failure::CircuitOpen { limit, .. } if !limit.spares_others() => Broken::Final,
            _ => Broken::Unsent,
        };
        if broken == Broken::Final {
            self.counters.count_rejection(&failure);
        }
        self.close_attempt(key, failure, Outcome::Unsent, broken, now_ns)
    }

    /// No backend is left to try. Gives one that was too full for the call and
    /// may have a place later; where there is none, the call has failed.
    pub(super) fn give_up(&mut self, key: CallKey, now_ns: u64) -> Option<PoolKey> {
        let call = self.all.live_mut(key);
        let full = call.full.take();
        if full.is_none() {
            let failure = call.last.take().map_or(Failure::NoBackend, |(failure, _)| failure);
            self.reject(key, &failure, now_ns);
        }
        full
    }

    /// No backend can have the call.
    pub(super) fn reject(&mut self, key: CallKey, failure: &Failure, now_ns: u64) {
        self.counters.count_rejection(failure);
        self.fail(key, failure, Outcome::Unsent, now_ns);
    }

    /// Counts a call that was refused before it began.
    pub(super) fn count_rejection(&self, failure: &Failure) {
        self.counters.count_rejection(failure);
    }

    /// Lets the call wait for a place at any backend; it is counted at one.
    pub(super) fn begin_waiting(&mut self, key: CallKey, attempt: Attempt) {
        let call = self.all.live_mut(key);
        let is_budgeted = std::mem::take(&mut call.holds_budget);
        call.pool = attempt.pool;
        let turn = self.line.as_mut().map(|line| line.arrive(attempt.sent_ns));
        call.attempt = Some(Attempt { is_budgeted, turn, ..attempt });
    }

    /// The attempt broke: another is made if that is safe, and the call fails if
    /// not.
    pub(super) fn on_broken(
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
        if self.close_attempt(key, failure, outcome, broken, moment.now_ns) {
            self.effects.push_back(Effect::Attempt(key));
        }
    }

    /// Closes the books of an attempt that broke. Whether another may follow;
    /// where not, the call has failed or is left to its other attempt.
    fn close_attempt(
        &mut self,
        key: CallKey,
        failure: Failure,
        outcome: Outcome,
        broken: Broken,
        now_ns: u64,
    ) -> bool {
        if self.leave_to_other(key, outcome, now_ns) {
            return false;
        }
        let call = self.all.live_mut(key);
        let may_retry =
            broken != Broken::Final && call.request.is_replayable && !call.response.has_head;
        if !may_retry {
            self.fail(key, &failure, outcome, now_ns);
            return false;
        }
        call.last = Some((failure, broken == Broken::Unprocessed));
        if let Some(attempt) = call.attempt.take() {
            call.tried.insert(attempt.index);
            self.count_attempt(attempt, outcome, now_ns);
        }
        true
    }

    /// Tells the client what broke, in the way that what it has got allows, and
    /// ends the call.
    pub(super) fn fail(&mut self, key: CallKey, failure: &Failure, outcome: Outcome, now_ns: u64) {
        let call = self.all.live_mut(key);
        let answer = answer(failure, call.is_grpc, call.response.progress());
        call.response.note(&answer);
        let (client, stream) = (call.client, call.stream);
        self.effects.push_back(Effect::Answer { client, stream, answer });
        self.finish(key, outcome, now_ns);
    }

    fn finish(&mut self, key: CallKey, outcome: Outcome, now_ns: u64) {
        let call = self.end(key, outcome, now_ns);
        self.effects.push_back(Effect::End { call, outcome });
    }

    /// Resets the call's streams on backends, or takes it out of the queue that
    /// it waits in.
    fn withdraw(&mut self, key: CallKey, reason: Reason) {
        let call = self.all.live(key);
        let places = [call.place(), call.other.as_ref().map(|other| other.place)];
        for place in places.into_iter().flatten() {
            self.withdraw_from(key, place, reason);
        }
    }

    fn withdraw_from(&mut self, call: CallKey, place: Place, reason: Reason) {
        match place {
            Place::Stream(link, stream) => {
                self.effects.push_back(Effect::Reset { link, stream, reason });
            }
            Place::Waiting(_) | Place::Overflow(_) => {
                self.effects.push_back(Effect::Unqueue { call, place });
            }
            // Who is gone is passed over when the turn comes.
            Place::HeldBack | Place::Nowhere => {}
        }
    }

    /// The client is gone, took the call back, or broke it.
    pub(super) fn cancel(&mut self, key: CallKey, reason: Reason, now_ns: u64) {
        // It may have been answered before its request had ended.
        if self.all.get(key).is_some() {
            self.withdraw(key, reason);
            self.finish(key, Outcome::Cancelled, now_ns);
        }
    }

    /// The proxy refuses the rest of a request.
    pub(super) fn refuse(&mut self, key: CallKey, failure: &Failure, now_ns: u64) {
        self.counters.count_rejection(failure);
        self.withdraw(key, Reason::CANCEL);
        self.fail(key, failure, Outcome::Cancelled, now_ns);
    }
}

/// Time.
impl Calls {
    /// Does what is due.
    pub(super) fn on_due(&mut self, due: Due, targets: &Targets, moment: Moment) {
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

    /// The call's deadline has passed.
    pub(super) fn on_deadline(&mut self, key: CallKey, now_ns: u64) {
        self.withdraw(key, Reason::CANCEL);
        self.fail(key, &Failure::Deadline, Outcome::Deadline, now_ns);
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
    pub(super) fn watches_head(&self, key: CallKey, end_stream: bool) -> bool {
        let call = self.all.live(key);
        call.due.is_some() || call.other.is_some() || end_stream && !self.retry.retry_on.is_empty()
    }

    /// Sees to a response's head before it goes to the client: a hedged call is
    /// settled, and an answer that is a reason to try again is kept back.
    /// Whether the head has been dealt with.
    #[cold]
    pub(super) fn on_head(
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
    fn try_after_status(
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
        self.end_stream_of(key);
        let call = self.all.live_mut(key);
        if let Some(attempt) = call.attempt.take() {
            call.tried.insert(attempt.index);
            call.last = Some((Failure::NoBackend, true));
            call.holds_budget = true;
            self.budgeted += 1;
            self.count_attempt(attempt, outcome, now_ns);
        }
        self.set_due(key, now_ns, pause, Due::Retry(key));
    }

    /// Resets the attempt's stream, if its response is whole and its request is
    /// not.
    fn end_stream_of(&mut self, key: CallKey) {
        if let Some(Place::Stream(link, stream)) = self.all.live(key).place() {
            self.effects.push_back(Effect::Reset { link, stream, reason: Reason::NO_ERROR });
        }
    }

    /// Makes the attempt on this connection the first of the two that a hedged
    /// call has.
    #[inline]
    pub(super) fn focus(&mut self, link: LinkKey, key: CallKey) {
        self.focus_on(key, |place| matches!(place, Place::Stream(found, _) if found == link));
    }

    /// The same by where the attempt is. Nothing happens to a call that is over,
    /// of which a queue may still know.
    #[inline]
    pub(super) fn focus_on(&mut self, key: CallKey, is_it: impl Fn(Place) -> bool) {
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
    pub(super) fn leave_to_other(&mut self, key: CallKey, outcome: Outcome, now_ns: u64) -> bool {
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

#[cfg(test)]
mod tests;

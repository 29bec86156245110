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

mod attempts;
mod passing;
mod retries;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

pub(super) use attempts::Broken;
use event_loop::{Arena, Timers};
use h2_wire::Reason;
use h2_wire::connection::StreamKey;
use h2_wire::hpack::HeaderList;

use super::call::{Attempt, Call, Due, Place};
use super::keys::{CallKey, ClientKey, LinkKey, OfCall};
use crate::config::{CallLimits, Config};
use crate::failure::{Answer, Failure, answer};
use crate::line::Line;
use crate::metrics::{Outcome, ProxyCounters};
use crate::retry::{RetryCounters, RetryPolicy};

/// Calls that are over and kept for their memory.
const SPARE_CALLS: usize = 128;

/// All calls of one thread.
pub(super) struct Calls {
    all: Arena<Box<Call>, OfCall>,
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
    kept_bytes: usize,
    effects: VecDeque<Effect>,
    counters: ProxyCounters,
    retry_counters: RetryCounters,
    /// Who is served at the one backend and who waits, where that is asked for.
    line: Option<Line>,
    is_logged: bool,
    reads_reports: bool,
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
            is_logged: config.access_log.access_log.is_some(),
            reads_reports: config.policy.uses_reports(),
        }
    }

    /// What is to be done next.
    #[inline]
    pub(super) fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    #[inline]
    pub(super) fn live(&self, key: CallKey) -> &Call {
        self.all.live(key)
    }

    #[inline]
    pub(super) fn live_mut(&mut self, key: CallKey) -> &mut Call {
        self.all.live_mut(key)
    }

    /// A call that may be over.
    #[inline]
    pub(super) fn get_mut(&mut self, key: CallKey) -> Option<&mut Call> {
        self.all.get_mut(key).map(|call| &mut **call)
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

/// The ways in which calls end.
impl Calls {
    /// Counts a call that was refused before it began.
    pub(super) fn count_rejection(&self, failure: &Failure) {
        self.counters.count_rejection(failure);
    }

    /// No backend can have the call.
    pub(super) fn reject(&mut self, key: CallKey, failure: &Failure, now_ns: u64) {
        self.counters.count_rejection(failure);
        self.fail(key, failure, Outcome::Unsent, now_ns);
    }

    /// The call's deadline has passed.
    pub(super) fn on_deadline(&mut self, key: CallKey, now_ns: u64) {
        self.withdraw(key, Reason::CANCEL);
        self.fail(key, &Failure::Deadline, Outcome::Deadline, now_ns);
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
        // As above.
        if self.all.get(key).is_none() {
            return;
        }
        self.counters.count_rejection(failure);
        self.withdraw(key, Reason::CANCEL);
        self.fail(key, failure, Outcome::Cancelled, now_ns);
    }
}

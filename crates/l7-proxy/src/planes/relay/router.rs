//! What the events of connections and of time mean, and what is done then: the one place where
//! clients, calls and backends meet, which do not know each other. That is why it is a long file:
//! each event is a few lines here, and the decisions are elsewhere.
//!
//! What comes on a connection goes to [`Calls`], and from there to the connection on the other
//! side. What goes wrong goes to [`Calls`] too, and what is to be done comes out as [`Effect`]s. A
//! call that a stream of a backend's connection belongs to lives as long as the stream: who ends
//! the one resets the other, and hears no more of it.

use std::sync::Arc;

use balance::hash_bytes;
use h2_wire::connection::{Event, StreamKey};
use h2_wire::{Error, Reason};
use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use super::call::{Call, Place};
use super::calls::{Broken, Calls, Effect, NewCall};
use super::client::Fault;
use super::clients::Clients;
use super::endpoint::{Endpoint, Written};
use super::io::{Io, Side};
use super::keys::{CallKey, ClientKey, LinkKey, PoolKey};
use super::sweep::Look;
use super::targets::Moment;
use super::upstreams::{CLOSED, Next, Round, Turn, Upstreams};
use super::{headers, log};
use crate::access_log::AccessLog;
use crate::circuit::Limit;
use crate::failure::{Failure, Progress, answer};
use crate::metrics::{Ending, GuardCounters, Outcome};
use crate::planes::{Incoming, Shared};

/// What gRPC's servers say in a GOAWAY to a client that asks too often
/// (gRFC A8).
const TOO_MANY_PINGS: &[u8] = b"too_many_pings";

/// 1xx heads that a call may have; further ones are dropped.
const MOST_INFORMATIONAL: u32 = 8;

/// Payload, and the memory that it was read into.
type Payload<'a> = (&'a [u8], &'a Arc<Vec<u8>>);

/// The calls of a thread between its connections.
pub(super) struct Router {
    shared: Arc<Shared>,
    pub(super) io: Io,
    clients: Clients,
    upstreams: Upstreams,
    calls: Calls,
    guard: GuardCounters,
    chance: SplitMix64,
    pub(super) now_ns: u64,
}

/// What is decided, and done.
impl Router {
    pub(super) fn new(shared: &Arc<Shared>, io: Io, seed: u64) -> Self {
        let guard = GuardCounters::register(&shared.config.metrics);
        Self {
            io,
            clients: Clients::new(shared, guard.clone()),
            upstreams: Upstreams::new(shared, guard.clone()),
            guard,
            calls: Calls::new(&shared.config),
            chance: SplitMix64::seed_from_u64(seed),
            now_ns: shared.upstreams.now_ns(),
            shared: Arc::clone(shared),
        }
    }

    /// A turn of the thread begins.
    pub(super) fn begin_turn(&mut self) {
        self.now_ns = self.shared.upstreams.now_ns();
        if self.upstreams.has_changed() {
            self.follow_set();
        }
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.now_ns / 1_000_000
    }

    /// What a decision is made with.
    #[inline]
    fn moment(&mut self) -> Moment {
        Moment { now_ns: self.now_ns, random: self.chance.next_u64() }
    }

    /// Does what was decided over calls.
    #[inline]
    fn run_effects(&mut self) {
        while let Some(effect) = self.calls.next_effect() {
            self.run_effect(effect);
        }
    }

    #[cold]
    fn run_effect(&mut self, effect: Effect) {
        match effect {
            Effect::Attempt(call) => self.place(call),
            Effect::Hedge(call) => self.place_hedge(call),
            Effect::Reset { link, stream, reason } => {
                self.upstreams.reset(link, stream, reason, &mut self.io);
            }
            Effect::Unqueue { call, place } => self.upstreams.unqueue(call, place),
            Effect::Answer { client, stream, answer } => {
                self.clients.answer(client, stream, &answer, &mut self.io);
            }
            Effect::End { call, outcome } => self.settle(call, outcome),
        }
    }

    /// When something is due.
    pub(super) fn next_at(&self) -> Option<u64> {
        let timers = [self.calls.timers.next_at(), self.upstreams.timers.next_at()];
        timers.into_iter().flatten().min()
    }

    /// Does what is due.
    pub(super) fn on_time(&mut self) {
        while let Some(link) = self.upstreams.timers.pop(self.now_ns) {
            let timeout = serve::duration::format(self.shared.config.upstream.connect_timeout);
            self.lose_link(link, &format!("no HTTP/2 connection within {timeout}"));
        }
        while let Some(due) = self.calls.timers.pop(self.now_ns) {
            let moment = self.moment();
            self.calls.on_due(due, &self.upstreams.targets, moment);
            self.run_effects();
        }
    }

    /// Closes the books of a call that is over.
    #[inline]
    fn settle(&mut self, call: Box<Call>, outcome: Outcome) {
        if let Some(log) = self.drawn_log() {
            let mut line = log::of_call(&call, outcome, self.now_ns);
            // Of either, nothing but the call may be left.
            line.remote = self.clients.get(call.client).map(|client| client.remote);
            line.backend = self.upstreams.name(call.pool);
            log.write(line);
        }
        self.clients.settle(&call, &mut self.io);
        self.calls.recycle(call);
    }

    /// The log, if this call is in the share that is logged.
    #[inline]
    fn drawn_log(&mut self) -> Option<AccessLog> {
        let log = self.shared.access_log.as_ref()?;
        let random = self.chance.next_u64();
        log.draws(random).then(|| log.clone())
    }
}

/// Connections of either kind.
impl Router {
    pub(super) fn has_connections(&self) -> bool {
        !self.clients.is_empty() || self.upstreams.has_links()
    }

    /// The connection, if it has not ended, and what it is read and written with.
    #[inline]
    pub(super) fn endpoint(&mut self, side: Side) -> Option<(&mut Endpoint, &mut Io)> {
        let endpoint = match side {
            Side::Client(key) => self.clients.endpoint(key),
            Side::Link(key) => self.upstreams.endpoint(key),
        };
        Some((endpoint?, &mut self.io))
    }

    /// Something was read.
    #[inline(always)] // An event is large, and would go through memory.
    pub(super) fn on_event(&mut self, side: Side, event: Event<'_, CallKey>, chunk: &Arc<Vec<u8>>) {
        match side {
            Side::Client(key) => self.on_client_event(key, event, chunk),
            Side::Link(key) => self.on_link_event(key, event, chunk),
        }
        self.run_effects();
    }

    /// All that was read has been dealt with.
    #[inline]
    pub(super) fn after_input(&mut self, side: Side) {
        if let Side::Link(key) = side {
            self.upstreams.after_input(key);
        }
    }

    /// The socket takes bytes: it has room again, or has connected.
    pub(super) fn on_writable(&mut self, side: Side) {
        let endpoint = match side {
            Side::Client(key) => &mut self.clients.live_mut(key).endpoint,
            Side::Link(key) => match self.upstreams.on_writable(key) {
                Ok(endpoint) => endpoint,
                Err(errno) => {
                    return self.lose_link(key, &std::io::Error::from(errno).to_string());
                }
            },
        };
        self.io.mark_if_dirty(side, endpoint);
    }

    /// Bytes of a call that had to wait for the connection were written.
    #[inline]
    pub(super) fn on_flushed(&mut self, side: Side, call: CallKey, bytes: usize) {
        match side {
            Side::Client(_) => self.on_response_flushed(call, bytes),
            Side::Link(_) => self.on_request_flushed(call, bytes),
        }
    }

    /// A connection was written to, and has not broken.
    pub(super) fn on_written(&mut self, side: Side, written: Written) {
        match side {
            Side::Client(key) => self.clients.on_written(key, written, self.now_ns / 1_000_000),
            Side::Link(key) => self.upstreams.close_if_over(key),
        }
    }

    /// The remote is gone, or will send no more.
    pub(super) fn on_end(&mut self, side: Side) {
        match side {
            Side::Client(key) => self.drop_client(key, CLOSED),
            Side::Link(key) => {
                let reason = self.upstreams.live(key).endpoint.failure();
                self.lose_link(key, reason.as_deref().unwrap_or(CLOSED));
            }
        }
    }

    /// The remote broke the rules of HTTP/2, or a bound.
    pub(super) fn on_error(&mut self, side: Side, error: &Error) {
        match side {
            Side::Client(key) => {
                let ending = self.clients.live(key).endpoint.ending();
                self.fail_client(key, error, ending);
            }
            Side::Link(key) => {
                self.upstreams.fail(key, error);
                self.lose_link(key, &error.to_string());
            }
        }
    }
}

/// From clients to backends.
impl Router {
    #[inline]
    fn on_client_event(&mut self, key: ClientKey, event: Event<'_, CallKey>, chunk: &Arc<Vec<u8>>) {
        match event {
            Event::Request { key: stream, end_stream, over_limit } => {
                self.on_request(key, stream, end_stream, over_limit);
            }
            Event::Data { key: stream, user, payload, end_stream } => {
                self.on_request_data(key, stream, user, (payload, chunk), end_stream);
            }
            Event::Trailers { user, .. } => self.on_request_trailers(key, user),
            Event::Reset { user, reason } | Event::Broken { user, reason } => {
                self.calls.cancel(user, reason, self.now_ns);
            }
            Event::DrainAcknowledged => self.clients.live_mut(key).endpoint.http.finish_drain(),
            // A client that leaves opens no more calls; those it has go on.
            Event::GoAway { .. }
            | Event::Settings
            | Event::Acknowledged
            | Event::PingAcknowledged
            | Event::Informational { .. }
            | Event::Response { .. } => {}
        }
    }

    fn on_request(
        &mut self,
        client: ClientKey,
        stream: StreamKey,
        is_ended: bool,
        over_limit: bool,
    ) {
        let from = self.clients.live_mut(client);
        let list = from.endpoint.http.headers();
        let config = &self.shared.config;
        // A list that was too long even to be kept tells nothing of its kind;
        // only gRPC is served unless asked for otherwise.
        let is_grpc = if over_limit { !config.calls.forward_http } else { headers::is_grpc(list) };
        let checked = if over_limit {
            Err(Failure::HeadersTooLarge)
        } else {
            headers::check(list, is_grpc, &self.shared, self.now_ns)
        };
        match checked {
            Ok(deadline_ns) => {
                let hash_header = config.hash_header.as_ref().map(|name| name.as_str().as_bytes());
                let hash_key = hash_header.and_then(|name| list.value_of_name(name));
                let hash_key = hash_key.map(hash_bytes);
                let new = NewCall { client, stream, is_grpc, is_ended, deadline_ns, hash_key };
                let call = self.calls.begin(new, list, &mut from.kept_bytes, self.now_ns);
                from.endpoint.http.set_user(stream, call);
                self.place(call);
            }
            Err(failure) => {
                self.calls.count_rejection(&failure);
                let answer = answer(&failure, is_grpc, Progress::BeforeHeaders);
                if let Some(log) = self.drawn_log() {
                    let from = self.clients.live(client);
                    let mut line = log::of_rejection(from.endpoint.http.headers(), &answer);
                    line.remote = Some(from.remote);
                    log.write(line);
                }
                self.clients.answer(client, stream, &answer, &mut self.io);
            }
        }
    }

    #[inline]
    fn on_request_data(
        &mut self,
        client: ClientKey,
        stream: StreamKey,
        key: CallKey,
        payload: Payload<'_>,
        end_stream: bool,
    ) {
        let from = self.clients.live_mut(client);
        let call = self.calls.on_request_data(key, payload.0, end_stream, &mut from.kept_bytes);
        let Some(call) = call else {
            // It was answered before its request had ended.
            return from.endpoint.http.release_connection(payload.0.len() as u32);
        };
        if let Some(Place::Stream(link, to)) = call.place() {
            let http = self.upstreams.output(link, &mut self.io);
            let sent = http.send_shared(to, payload.0, payload.1, end_stream);
            from.release(stream, call.request.pass(sent as u64));
        }
    }

    fn on_request_trailers(&mut self, client: ClientKey, key: CallKey) {
        let from = self.clients.live_mut(client);
        let list = from.endpoint.http.headers();
        if !headers::is_within(list, &self.shared.config.downstream) {
            return self.calls.refuse(key, &Failure::HeadersTooLarge, self.now_ns);
        }
        let place = self.calls.on_request_trailers(key, list, &mut from.kept_bytes);
        if let Some(Place::Stream(link, to)) = place {
            self.upstreams.output(link, &mut self.io).send_trailers(to, list);
        }
    }

    /// Bytes of a request that had to wait went on to the backend.
    fn on_request_flushed(&mut self, key: CallKey, bytes: usize) {
        let call = self.calls.live_mut(key);
        let credit = call.request.pass(bytes as u64);
        if credit > 0 {
            let from = self.clients.live_mut(call.client);
            from.release(call.stream, credit);
            self.io.mark_if_dirty(Side::Client(call.client), &mut from.endpoint);
        }
    }

    /// Sends the call on a connection that has a place for it.
    fn send(&mut self, key: CallKey, link: LinkKey) {
        let now_ns = self.now_ns;
        let call = self.calls.live_mut(key);
        if call.deadline_ns.is_some_and(|at_ns| at_ns <= now_ns) {
            return self.calls.on_deadline(key, now_ns);
        }
        let granted = self.clients.lend(call);
        let sent = self.upstreams.send(link, key, call, granted, now_ns, &mut self.io);
        if call.request.charged > 0 {
            let from = self.clients.live_mut(call.client);
            self.calls.on_sent(key, &mut from.kept_bytes);
        }
        if sent > 0 {
            self.on_request_flushed(key, sent);
        }
    }
}

/// From backends to clients.
impl Router {
    #[inline]
    fn on_link_event(&mut self, key: LinkKey, event: Event<'_, CallKey>, chunk: &Arc<Vec<u8>>) {
        match event {
            Event::Response { user, end_stream, .. } => self.on_response(key, user, end_stream),
            Event::Data { key: stream, user, payload, end_stream } => {
                self.on_response_data(key, stream, user, (payload, chunk), end_stream);
            }
            Event::Trailers { user, .. } => self.on_response_trailers(key, user),
            Event::Informational { user, .. } => self.on_informational(key, user),
            Event::Reset { user, reason } => {
                self.upstreams.note_reset(key);
                let failure = |backend| Failure::BackendReset { backend, code: reason.0 };
                let (outcome, broken) = if reason == Reason::REFUSED_STREAM {
                    (Outcome::Refused, Broken::Unprocessed)
                } else {
                    (Outcome::Reset, Broken::Final)
                };
                self.on_broken(key, user, failure, outcome, broken);
            }
            Event::Broken { user, .. } => {
                self.upstreams.note_reset(key);
                self.on_broken(key, user, broke, Outcome::Reset, Broken::Final);
            }
            Event::Settings => {
                if self.upstreams.on_settings(key, self.now_ns) {
                    self.clients.shares.set_places(self.upstreams.places());
                }
            }
            Event::GoAway { last_stream, reason, debug } => {
                if reason == Reason::ENHANCE_YOUR_CALM && debug == TOO_MANY_PINGS {
                    self.upstreams.slow_pings(key);
                }
                let moment = self.moment();
                for call in self.upstreams.on_go_away(key, last_stream, moment) {
                    self.on_broken(key, call, broke, Outcome::Refused, Broken::Unprocessed);
                }
            }
            Event::Request { .. }
            | Event::Acknowledged
            | Event::PingAcknowledged
            | Event::DrainAcknowledged => {}
        }
    }

    fn on_response(&mut self, link: LinkKey, key: CallKey, end_stream: bool) {
        self.upstreams.on_response(link);
        if self.calls.watches_head(key, end_stream) {
            let moment = self.moment();
            let list = self.upstreams.headers(link);
            if self.calls.on_head(link, key, list, end_stream, moment) {
                return;
            }
        }
        let list = self.upstreams.headers(link);
        // Most heads are not the end, and then their list is not searched.
        let took = if end_stream { self.calls.took(key, self.now_ns) } else { None };
        let call = self.calls.live(key);
        let to = self.clients.send_head(call, list, took, end_stream, &mut self.io);
        let Some(to) = to else { return self.reset_overfull(key) };
        self.calls.on_response(key, list, &mut to.kept_bytes, self.now_ns);
        if end_stream {
            let outcome = self.calls.on_response_end(key, list, self.now_ns);
            self.complete(key, outcome);
        }
    }

    #[inline]
    fn on_response_data(
        &mut self,
        link: LinkKey,
        from: StreamKey,
        key: CallKey,
        payload: Payload<'_>,
        end_stream: bool,
    ) {
        // The connection's window is given back at once: what a slow client
        // leaves lying is bounded by the windows of its streams, and must not
        // stop the streams of others on the same connection.
        let backend = &mut self.upstreams.live_mut(link).endpoint.http;
        backend.release_connection(payload.0.len() as u32);
        let call = self.calls.live_mut(key);
        if call.is_grpc {
            call.response.messages.advance(payload.0);
        }
        call.response.bytes += payload.0.len() as u64;
        let http = self.clients.output(call.client, &mut self.io);
        let sent = http.send_shared(call.stream, payload.0, payload.1, end_stream);
        if end_stream {
            let outcome = headers::outcome(call.is_grpc, call.response.status, None);
            return self.complete(key, outcome);
        }
        if sent > 0 {
            backend.release_stream(from, sent as u32);
            if let Some(granted) = self.clients.grant(call) {
                backend.widen(from, granted);
            }
        }
    }

    /// Bytes of a response that had to wait went on to the client.
    fn on_response_flushed(&mut self, key: CallKey, bytes: usize) {
        // The backend may have sent the last of it long before.
        let Some(call) = self.calls.get_mut(key) else { return };
        // It may have failed, and another attempt not begun.
        let Some(Place::Stream(link, stream)) = call.place() else { return };
        let from = &mut self.upstreams.live_mut(link).endpoint;
        from.http.release_stream(stream, bytes as u32);
        if let Some(granted) = self.clients.grant(call) {
            from.http.widen(stream, granted);
        }
        self.io.mark_if_dirty(Side::Link(link), from);
    }

    fn on_response_trailers(&mut self, link: LinkKey, key: CallKey) {
        let list = self.upstreams.headers(link);
        let took = self.calls.took(key, self.now_ns);
        if !self.clients.send_trailers(self.calls.live(key), list, took, &mut self.io) {
            return self.reset_overfull(key);
        }
        let outcome = self.calls.on_response_end(key, list, self.now_ns);
        self.complete(key, outcome);
    }

    /// A 1xx head, of which a call may have a few. It can be left out, and is
    /// where it would have to wait for the client.
    fn on_informational(&mut self, link: LinkKey, key: CallKey) {
        let list = self.upstreams.headers(link);
        let call = self.calls.live_mut(key);
        call.response.informational = call.response.informational.saturating_add(1);
        if call.response.informational > MOST_INFORMATIONAL || !self.clients.has_room(call, list) {
            return self.guard.dropped_informational.inc();
        }
        let http = self.clients.output(call.client, &mut self.io);
        http.send_headers(call.stream, list.key(), || list.iter(), false);
    }

    /// Too much waits for a client's connection, and a head or trailers have no
    /// window that would hold them back: the call that adds to it ends.
    #[cold]
    fn reset_overfull(&mut self, key: CallKey) {
        let call = self.calls.live(key);
        let http = self.clients.output(call.client, &mut self.io);
        http.reset(call.stream, Reason::ENHANCE_YOUR_CALM);
        self.guard.overfull_streams.inc();
        self.calls.cancel(key, Reason::CANCEL, self.now_ns);
    }

    /// The response has ended: what is left of the request goes nowhere.
    fn complete(&mut self, key: CallKey, outcome: Outcome) {
        let call = self.calls.live(key);
        if !call.request.is_ended {
            let http = &mut self.clients.live_mut(call.client).endpoint.http;
            http.reset_after_end(call.stream, Reason::NO_ERROR);
        }
        if let Some(Place::Stream(link, stream)) = call.place() {
            self.upstreams.reset(link, stream, Reason::NO_ERROR, &mut self.io);
        }
        let call = self.calls.end(key, outcome, self.now_ns);
        self.settle(call, outcome);
    }

    /// A backend's connection, or a stream of it, is gone with the call's attempt.
    fn on_broken(
        &mut self,
        link: LinkKey,
        key: CallKey,
        failure: impl FnOnce(String) -> Failure,
        outcome: Outcome,
        broken: Broken,
    ) {
        self.calls.focus(link, key);
        let failure = failure(self.calls.live(key).backend_name());
        let moment = self.moment();
        self.calls.on_broken(key, failure, outcome, broken, moment);
    }
}

fn broke(backend: String) -> Failure {
    Failure::BackendBroke { backend }
}

/// Places for calls: on a connection of the backend that is picked, or in a queue until there is
/// one. Who waits where is known to [`Upstreams`], and to [`Clients`] where a client holds too many
/// places; what becomes of a call without a place is decided by [`Calls`].
impl Router {
    /// Offers the call to the next backend.
    fn place(&mut self, key: CallKey) {
        let moment = self.moment();
        let Some(pool) = self.calls.next_attempt(key, &self.upstreams.targets, moment) else {
            return self.give_up(key);
        };
        let checked = self.upstreams.check_circuit(pool);
        let next = checked.and_then(|()| self.assign(key, pool, moment));
        self.go_on(key, next);
    }

    /// A connection of the pool for the call, or where it waits.
    #[inline]
    fn assign(&mut self, key: CallKey, pool: PoolKey, moment: Moment) -> Result<Next, Failure> {
        let shares = &self.clients.shares;
        if shares.has_plenty() || self.clients.may_take_place(self.calls.live(key).client) {
            self.upstreams.assign(key, pool, &self.io, moment)
        } else {
            self.hold_back(key)
        }
    }

    #[inline]
    fn go_on(&mut self, key: CallKey, next: Result<Next, Failure>) {
        match next {
            Ok(Next::Send(link)) => self.send(key, link),
            Ok(Next::Wait(place)) => self.calls.set_place(key, place),
            Err(failure) => self.calls.on_unsent(key, failure, self.now_ns),
        }
    }

    /// No backend is left to try: the call waits for one that is full, or fails.
    fn give_up(&mut self, key: CallKey) {
        let Some(pool) = self.calls.give_up(key, self.now_ns) else { return };
        match self.upstreams.wait_for_any(key, pool, self.now_ns) {
            Ok(attempt) => self.calls.begin_waiting(key, attempt),
            Err(failure) => self.calls.reject(key, &failure, self.now_ns),
        }
    }

    /// Finds a place for a second attempt, or gives it up.
    fn place_hedge(&mut self, key: CallKey) {
        let call = self.calls.live(key);
        let pool = call.pool_of_attempt();
        // While calls wait for places, none has two.
        let is_full = self.upstreams.has_overflow() || !self.clients.may_take_place(call.client);
        let checked = self.upstreams.check_circuit(pool).ok().filter(|()| !is_full);
        let moment = self.moment();
        match checked.and_then(|()| self.assign(key, pool, moment).ok()) {
            Some(next) => self.go_on(key, Ok(next)),
            None => _ = self.calls.leave_to_other(key, Outcome::Unsent, self.now_ns),
        }
    }

    /// Lets a call wait until its client holds fewer places.
    #[cold]
    fn hold_back(&mut self, key: CallKey) -> Result<Next, Failure> {
        let most = self.shared.config.circuit.max_pending as usize;
        if self.clients.shares.hold_back(key, most) {
            return Ok(Next::Wait(Place::HeldBack));
        }
        let pool = self.calls.live(key).pool_of_attempt();
        Err(self.upstreams.circuit_open(pool, Limit::ClientShare))
    }

    /// Gives the places that have become free to those who wait for them.
    pub(super) fn place_waiting(&mut self) {
        for key in self.clients.shares.take_held_back() {
            if self.calls.focus_on(key, Place::HeldBack) {
                let pool = self.calls.live(key).pool_of_attempt();
                let moment = self.moment();
                // The backend may have left meanwhile.
                let is_listed = self.upstreams.is_listed(pool);
                let next = if is_listed {
                    self.assign(key, pool, moment)
                } else {
                    Err(Failure::NoBackend)
                };
                self.go_on(key, next);
                self.run_effects();
            }
        }
        if self.upstreams.has_pending() {
            let mut round = Round::new(self.moment());
            while let Some(turn) = self.upstreams.next_turn(&mut round, &self.io) {
                self.take_turn(turn);
            }
        }
        self.run_effects();
    }

    fn take_turn(&mut self, Turn { call: key, was, moved, mut next }: Turn) {
        self.calls.focus_on(key, was);
        let call = self.calls.live_mut(key);
        if let Some(moved) = moved {
            call.move_attempt(moved);
        }
        // The client may have come to hold too many places meanwhile.
        if matches!(next, Ok(Next::Send(_))) && !self.clients.may_take_place(call.client) {
            next = self.hold_back(key);
        }
        self.go_on(key, next);
        self.run_effects();
    }
}

/// Connections that begin and end, and what is looked at now and then.
impl Router {
    /// Takes a client in, which is asked at once to go where all are.
    pub(super) fn admit(&mut self, incoming: Incoming, is_draining: bool) {
        let now_ms = self.now_ms();
        let key = self.clients.admit(incoming, &self.io, now_ms);
        if let Some(key) = key.filter(|_| is_draining) {
            self.clients.start_drain(key, &mut self.io, now_ms);
        }
    }

    /// Asks all clients to go.
    pub(super) fn start_drain(&mut self) {
        let now_ms = self.now_ms();
        for key in self.clients.keys() {
            self.clients.start_drain(key, &mut self.io, now_ms);
        }
    }

    /// The client's connection is gone, and its calls with it.
    fn drop_client(&mut self, key: ClientKey, reason: &str) {
        let remote = self.clients.live(key).remote;
        tracing::debug!(%remote, reason, "connection of client ended");
        self.cancel_calls(key);
        self.clients.remove(key);
    }

    fn cancel_calls(&mut self, key: ClientKey) {
        let streams = self.clients.live(key).endpoint.http.streams();
        for (_, call) in streams {
            self.calls.cancel(call, Reason::CANCEL, self.now_ns);
        }
        self.run_effects();
    }

    /// Ends a client's connection for a mistake of it.
    fn fail_client(&mut self, key: ClientKey, error: &Error, ending: Ending) {
        let remote = self.clients.live(key).remote;
        tracing::info!(%remote, reason = %error, "connection of client ended for its fault");
        self.cancel_calls(key);
        self.clients.fail(key, error, ending, &mut self.io);
    }

    /// A connection to a backend broke, or could not be made.
    fn lose_link(&mut self, key: LinkKey, reason: &str) {
        let moment = self.moment();
        let lost = self.upstreams.lose(key, reason, moment);
        for (call, was_sent) in lost.calls {
            let broken = if was_sent { Broken::Final } else { Broken::Unprocessed };
            self.on_broken(key, call, broke, Outcome::Broken, broken);
        }
        self.run_effects();
        self.upstreams.retire_if_over(lost.pool);
    }

    /// Follows a change of the backends.
    pub(super) fn follow_set(&mut self) {
        let retired = self.upstreams.follow_set();
        self.clients.shares.set_places(self.upstreams.places());
        for pool in retired {
            for turn in self.upstreams.fail_waiting(pool, &Failure::NoBackend) {
                self.take_turn(turn);
            }
        }
        self.upstreams.retire();
    }

    /// Looks at all connections.
    pub(super) fn sweep(&mut self, look: Look) {
        for key in self.clients.keys() {
            match self.clients.sweep(key, look, &mut self.io) {
                Ok(stalled) => {
                    for call in stalled {
                        self.calls.cancel(call, Reason::CANCEL, self.now_ns);
                    }
                    self.run_effects();
                }
                Err(Fault::Gone(reason, _)) => self.drop_client(key, reason),
                Err(Fault::Told(error, ending)) => self.fail_client(key, &error, ending),
            }
        }
        for key in self.upstreams.link_keys() {
            if let Some(reason) = self.upstreams.sweep(key, look, &mut self.io) {
                self.lose_link(key, reason);
            }
        }
        self.clients.shares.prune();
        self.upstreams.retire();
    }
}

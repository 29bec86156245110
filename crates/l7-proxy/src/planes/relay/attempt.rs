//! A call's attempts: picking a backend, finding a place on a connection,
//! sending, and what follows when one breaks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use balance::PickInput;
use event_loop::connect;
use h2_wire::Reason;
use h2_wire::connection::{Connection, StreamKey};
use h2_wire::hpack::Name;
use rustix::io::Errno;

use super::call::{Attempt, Call, CallKey, Place};
use super::endpoint::Endpoint;
use super::headers::Changes;
use super::pool::{Link, LinkKey, Pool, PoolKey, Stage};
use super::secure::Secure;
use super::shares::Held;
use super::worker::{Due, Worker};
use crate::circuit::Limit;
use crate::failure::{Failure, answer, code};
use crate::grpc;
use crate::metrics::Outcome;
use crate::tls::Tls;
use crate::tls::counters::TlsCounters;
use crate::upstreams::Offered;

/// The part of a connection's streams that may be waiting for their resets only.
const HELD_SHARE: usize = 4;

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

impl Worker {
    /// Offers the call to backends until one has it or it must fail.
    pub(super) fn place(&mut self, key: CallKey) {
        loop {
            let Some((index, pool)) = self.pick(key) else { return self.give_up(key) };
            let (Some(call), Some(backend)) = (self.calls.get_mut(key), self.pools.get(pool))
            else {
                return;
            };
            call.attempts += 1;
            call.pool = pool;
            if call.attempts > 1 {
                self.counters.retries.inc();
            }
            let in_flight = backend.upstream.begin();
            let place = Place::Waiting(PoolKey::NONE);
            let is_budgeted = std::mem::take(&mut call.holds_budget);
            let sent_ns = self.now_ns;
            let is_hedge = false;
            call.attempt = Some(Attempt {
                pool,
                index,
                in_flight,
                place,
                held: None,
                sent_ns,
                is_budgeted,
                is_hedge,
            });
            let assigned = self.check_circuit(pool).and_then(|()| self.assign(key, pool));
            let Err(failure) = assigned else { return };
            if matches!(failure, Failure::Overload { .. })
                && let Some(call) = self.calls.get_mut(key)
            {
                call.full = Some(pool);
            }
            let broken = match &failure {
                // Another backend is no help.
                Failure::CircuitOpen { limit, .. } if !limit.spares_others() => Broken::Final,
                _ => Broken::Unsent,
            };
            if broken == Broken::Final {
                self.counters.count_rejection(&failure);
            }
            if !self.note_broken(key, failure, Outcome::Unsent, broken) {
                return;
            }
        }
    }

    /// Whether an attempt that was counted on a backend is within the circuit
    /// limits.
    #[inline]
    pub(super) fn check_circuit(&self, pool: PoolKey) -> Result<(), Failure> {
        let Some(pool) = self.pools.get(pool) else { return Err(Failure::NoBackend) };
        let limits = &self.shared.config.circuit;
        let upstreams = self.set.upstreams();
        let total = || upstreams.iter().map(|upstream| upstream.backend().in_flight()).sum();
        let checked = limits.check_requests(pool.upstream.backend().in_flight(), total);
        checked.map_err(|limit| self.circuit_open(pool, limit))
    }

    #[cold]
    pub(super) fn circuit_open(&self, pool: &Pool, limit: Limit) -> Failure {
        self.circuit_counters.count(limit);
        Failure::CircuitOpen { backend: pool.upstream.name().to_owned(), limit }
    }

    /// The backend for the next attempt, if the call may have one.
    fn pick(&mut self, key: CallKey) -> Option<(usize, PoolKey)> {
        let random = self.chance.next_u64();
        let call = self.calls.get_mut(key)?;
        if call.attempts >= self.shared.config.calls.max_attempts {
            return None;
        }
        let input = PickInput { random, now_ns: self.now_ns, key: call.hash_key };
        let mut picked = self.set.pick(&input, call.tried.of(&self.set));
        if picked.is_none() && matches!(call.last, Some((_, true))) {
            // Every backend was tried, and the last has not looked at the call:
            // another of its connections may take it.
            call.tried = Offered::default();
            picked = self.set.pick(&input, call.tried.of(&self.set));
        }
        let (index, _) = picked?;
        Some((index, *self.pools_by_index.get(index)?))
    }

    /// Begins to make a connection.
    pub(super) fn open_link(&mut self, pool_key: PoolKey) -> Result<LinkKey, Failure> {
        let Some(pool) = self.pools.get_mut(pool_key) else { return Err(Failure::NoBackend) };
        let now_ms = self.now_ns / 1_000_000;
        let limits = &self.shared.config.upstream;
        let connect_by_ns = self.now_ns + limits.connect_timeout.as_nanos() as u64;
        let secure = secure_link(&self.shared.tls, &self.tls_counters, pool.upstream.addr());
        let opened = connect(pool.upstream.addr(), None).and_then(|socket| {
            let secure = secure.map_err(|_| Errno::INVAL)?;
            let http = Connection::new(Arc::clone(&self.upstream));
            let link = self.links.insert(Link {
                endpoint: Endpoint::new(http, socket, secure, now_ms),
                pool: pool_key,
                stage: Stage::Connecting,
                is_leaving: false,
                resets: 0,
                abandoned: Vec::new(),
                exhausted_sweeps: 0,
                connect_by_ns,
                ping_doublings: pool.upstream.ping_doublings(),
                ready_ns: 0,
                is_proven: false,
            });
            let endpoint = &self.links.live(link).endpoint;
            match self.poller.add(endpoint, link.to_token(true)) {
                Ok(()) => Ok(link),
                Err(errno) => {
                    self.links.remove(link);
                    Err(errno)
                }
            }
        });
        match opened {
            Ok(link) => {
                pool.links.push(link);
                self.timers.set(connect_by_ns, Due::Connect(link));
                Ok(link)
            }
            Err(errno) => {
                let reason = std::io::Error::from(errno).to_string();
                let backend = pool.upstream.name().to_owned();
                pool.counters.connects_failed.inc();
                pool.upstream.note_failure(self.now_ns);
                let random = self.chance.next_u64();
                pool.backoff.fail(self.now_ns, limits, random, reason.clone());
                Err(Failure::Connect { backend, reason })
            }
        }
    }

    /// Sends the call on a connection that has a place for it.
    pub(super) fn send(&mut self, key: CallKey, link: LinkKey) {
        let (Some(call), Some(to)) = (self.calls.get_mut(key), self.links.get_mut(link)) else {
            return;
        };
        let mut timeout = None;
        if let Some(deadline_ns) = call.deadline_ns {
            let left_ns = deadline_ns.saturating_sub(self.now_ns);
            if left_ns == 0 {
                return self.on_deadline(key);
            }
            timeout = Some(grpc::format_timeout(Duration::from_nanos(left_ns)));
        }
        Self::lend(&mut self.buffers, &mut to.endpoint);
        let http = &mut to.endpoint.http;
        let (Some(attempt), Some(stream)) = (&mut call.attempt, http.open(key)) else { return };
        attempt.place = Place::Stream(link, stream);
        attempt.held = self.clients.get(call.client).map(|client| Held::new(&client.share));
        attempt.sent_ns = self.now_ns;
        if http.is_used_up() {
            // The next call finds, or makes, another (RFC 9113, section 5.1.1).
            to.is_leaving = true;
        }
        let Some(from) = self.clients.get_mut(call.client) else { return };
        let request = &mut call.request;
        request.passed = 0;
        let list = &request.headers;
        // It never changes, so that it may go under the key of the list.
        let via = self.shared.via.field();
        let has_trailers = request.trailers.is_some();
        let ends = request.is_ended && request.kept.is_empty() && !has_trailers;
        if !call.is_grpc && list.value_of(Name::Method) == Some(b"HEAD") {
            http.expect_no_content(stream);
        }
        if timeout.is_none() && super::headers::names_authority(list) {
            http.send_headers(stream, list.key(), || list.iter().chain([via]), ends);
        } else {
            let changes = Changes::of(list, timeout, attempt.in_flight.upstream().addr());
            http.send_headers(stream, None, || changes.apply(list).chain([via]), ends);
        }
        call.response.is_granted = call.response.is_granted || from.grant(&self.response_shares);
        if call.response.is_granted {
            http.widen(stream, self.response_shares.grant_bytes);
        }
        let mut sent = 0;
        if !request.kept.is_empty() {
            sent = http.send_data(stream, &request.kept, request.is_ended && !has_trailers);
        }
        if let Some(trailers) = &request.trailers {
            http.send_trailers(stream, trailers);
        }
        if request.charged > 0
            && self.shared.config.calls.replay_room(from.kept_bytes, self.kept_bytes) == 0
        {
            // It was kept while it had to wait, and is not kept on.
            request.let_go();
            request.kept = Vec::new();
            request.charge([&mut from.kept_bytes, &mut self.kept_bytes]);
        }
        self.touch_link(link);
        if sent > 0 {
            self.on_request_moved(key, sent);
        }
    }
}

/// A new session of TLS with a backend, where it is spoken.
fn secure_link(
    tls: &Tls,
    counters: &TlsCounters,
    address: SocketAddr,
) -> Result<Option<Box<Secure>>, rustls::Error> {
    let Some((config, name)) = tls.client(address.ip()) else { return Ok(None) };
    let TlsCounters { backends_ok, backends_failed, .. } = counters.clone();
    Secure::client(config, name, backends_ok, backends_failed).map(|secure| Some(Box::new(secure)))
}

/// Ends of attempts.
impl Worker {
    /// An attempt broke: tries elsewhere if that is safe, and fails the call
    /// if not.
    pub(super) fn retry(
        &mut self,
        key: CallKey,
        failure: Failure,
        outcome: Outcome,
        broken: Broken,
    ) {
        if broken == Broken::Final && self.may_try_again(key, &failure, outcome) {
            return;
        }
        if self.note_broken(key, failure, outcome, broken) {
            self.place(key);
        }
    }

    /// Closes the books of an attempt that broke. Whether another may follow;
    /// where not, the call has failed.
    fn note_broken(
        &mut self,
        key: CallKey,
        failure: Failure,
        outcome: Outcome,
        broken: Broken,
    ) -> bool {
        if self.leave_to_other(key, outcome) {
            return false;
        }
        let Some(call) = self.calls.get_mut(key) else { return false };
        let may_retry =
            broken != Broken::Final && call.request.is_replayable && !call.response.has_head;
        if !may_retry {
            self.fail_call(key, &failure, outcome);
            return false;
        }
        let index = call.attempt.as_ref().map(|attempt| attempt.index);
        if let Some(index) = index {
            call.tried.insert(index);
        }
        call.last = Some((failure, broken == Broken::Unprocessed));
        if let Some(attempt) = call.attempt.take() {
            self.count_attempt(attempt, outcome);
        }
        true
    }

    /// No backend is left to try: the call waits for one that is full, or fails.
    fn give_up(&mut self, key: CallKey) {
        let Some(call) = self.calls.get_mut(key) else { return };
        if let Some(pool) = call.full.take() {
            let Err(failure) = self.wait_for_any(key, pool) else { return };
            self.counters.count_rejection(&failure);
            return self.fail_call(key, &failure, Outcome::Unsent);
        }
        let failure = call.last.take().map_or(Failure::NoBackend, |(failure, _)| failure);
        self.counters.count_rejection(&failure);
        self.fail_call(key, &failure, Outcome::Unsent);
    }

    /// Tells the client what broke, in the way that what it has got allows, and
    /// ends the call.
    pub(super) fn fail_call(&mut self, key: CallKey, failure: &Failure, outcome: Outcome) {
        let Some(call) = self.calls.get_mut(key) else { return };
        let answer = answer(failure, call.is_grpc, call.response.progress());
        call.response.note(&answer);
        let (client, stream) = (call.client, call.stream);
        self.send_answer(client, stream, &answer);
        self.end_call(key, outcome);
    }

    /// Resets the call's stream on the backend, or takes it out of the queue it
    /// waits in.
    pub(super) fn withdraw(&mut self, key: CallKey, reason: Reason) {
        let Some(call) = self.calls.get(key) else { return };
        let places = [call.attempt.as_ref(), call.other.as_deref()];
        for place in places.map(|attempt| attempt.map(|attempt| attempt.place)) {
            self.withdraw_from(key, place, reason);
        }
    }

    pub(super) fn withdraw_from(&mut self, key: CallKey, place: Option<Place>, reason: Reason) {
        match place {
            Some(Place::Stream(link, stream)) => {
                self.reset_on_link(link, stream, reason);
            }
            Some(place) => self.stop_waiting(key, place),
            None => {}
        }
    }

    /// Resets a stream on a backend's connection, if it is still open.
    ///
    /// Where too many resets are under way for a backend to bear, the stream
    /// stays open there, and in its load, until more may follow. A connection
    /// with many such streams makes way for a new one: whoever left them must
    /// not keep others waiting for a place.
    pub(super) fn reset_on_link(&mut self, key: LinkKey, stream: StreamKey, reason: Reason) {
        let Some(link) = self.links.get_mut(key) else { return };
        if !link.endpoint.http.is_open(stream) {
            return;
        }
        Self::lend(&mut self.buffers, &mut link.endpoint);
        if link.endpoint.http.reset(stream, reason) {
            self.guard_counters.held_resets.inc();
            let http = &link.endpoint.http;
            if http.held_resets() > http.stream_limit() / HELD_SHARE && !link.is_leaving {
                link.is_leaving = true;
                self.guard_counters.worn_connections.inc();
            }
            if let Some(pool) = self.pools.get(link.pool) {
                link.abandoned.push((stream, pool.upstream.begin()));
            }
        }
        self.note_reset(key);
        self.touch_link(key);
    }

    /// Counts a stream that either side has reset. A connection that has seen
    /// many makes way for a new one, before the backend has enough of it.
    pub(super) fn note_reset(&mut self, key: LinkKey) {
        let Some(link) = self.links.get_mut(key) else { return };
        link.resets += 1;
        if link.resets >= self.shared.config.upstream.backend_max_resets && !link.is_leaving {
            link.is_leaving = true;
            self.guard_counters.worn_connections.inc();
        }
    }

    pub(super) fn on_deadline(&mut self, key: CallKey) {
        self.withdraw(key, Reason(code::CANCEL));
        self.fail_call(key, &Failure::Deadline, Outcome::Deadline);
    }

    /// Ends what attempt is in progress, if one is.
    pub(super) fn end_attempt(&mut self, call: &mut Call, outcome: Outcome) {
        if let Some(attempt) = call.attempt.take() {
            self.count_attempt(attempt, outcome);
        }
        if let Some(other) = call.other.take() {
            self.count_attempt(*other, outcome);
        }
    }

    pub(super) fn count_attempt(&mut self, mut attempt: Attempt, outcome: Outcome) {
        if attempt.is_budgeted {
            self.budgeted -= 1;
        }
        if let Some(pool) = self.pools.get(attempt.pool) {
            pool.counters.count(outcome);
        }
        attempt.in_flight.note(self.now_ns, outcome);
        // Dropping it ends it in the backend's load.
        drop(attempt);
    }
}

/// The set of backends.
impl Worker {
    /// Follows a change of the backends: pools for the new ones, and the
    /// connections of those that have left end with their calls.
    pub(super) fn refresh_set(&mut self) {
        let current = self.shared.upstreams.current();
        if !Arc::ptr_eq(&current, &self.set) {
            self.set = Arc::clone(&current);
            drop(current);
            self.make_pools();
        }
    }

    pub(super) fn make_pools(&mut self) {
        let set = Arc::clone(&self.set);
        let known = self.pools.keys();
        let find = |upstream: &Arc<_>| {
            known.iter().copied().find(|key| {
                self.pools.get(*key).is_some_and(|pool| Arc::ptr_eq(&pool.upstream, upstream))
            })
        };
        let limits = &self.shared.config.upstream;
        let streams = limits.backend_assumed_streams.min(limits.backend_max_streams);
        let found: Vec<_> = set.upstreams().iter().map(find).collect();
        let keys: Vec<_> = found
            .into_iter()
            .zip(set.upstreams())
            .map(|(key, upstream)| {
                key.unwrap_or_else(|| {
                    let metrics = &self.shared.config.metrics;
                    self.pools.insert(Pool::new(Arc::clone(upstream), metrics, streams))
                })
            })
            .collect();
        for key in known {
            if let Some(pool) = self.pools.get_mut(key) {
                pool.is_retired = !keys.contains(&key);
            }
        }
        self.pools_by_index = keys;
        self.count_places();
        for key in self.pools.keys() {
            if self.pools.get(key).is_some_and(|pool| pool.is_retired) {
                self.fail_waiting(key, &Failure::NoBackend);
            }
            self.retire_if_over(key);
        }
    }

    /// Lets go of a pool that has left the set, and of its idle connections.
    pub(super) fn retire_if_over(&mut self, key: PoolKey) {
        let Some(pool) = self.pools.get(key) else { return };
        if !pool.is_retired {
            return;
        }
        for link in pool.links.clone() {
            if self.links.get(link).is_some_and(Link::is_idle) {
                self.remove_link(link);
            }
        }
        if self.pools.get(key).is_some_and(|pool| pool.links.is_empty()) {
            self.pools.remove(key);
        }
    }
}

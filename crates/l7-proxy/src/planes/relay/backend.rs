//! Backends' connections: what comes from them, and how they end.

use std::sync::Arc;

use event_loop::Arena;
use h2_wire::connection::{Event, StreamKey};
use h2_wire::hpack::HeaderList;
use h2_wire::{Error, Reason};

use super::attempt::Broken;
use super::call::{CallKey, Place};
use super::client::{Client, ClientKey, ending};
use super::endpoint::{Flushed, Received};
use super::headers;
use super::options::ResponseShares;
use super::pool::{Link, LinkKey, Stage};
use super::worker::{Due, Worker};
use crate::failure::Failure;
use crate::metrics::Outcome;

/// Reading.
impl Worker {
    pub(super) fn read_link(&mut self, key: LinkKey) {
        let now_ms = self.now_ms();
        let mut chunk = self.chunks.take();
        // Nobody else has it, so it can be written to.
        if let (Some(link), Some(room)) = (self.links.get_mut(key), Arc::get_mut(&mut chunk)) {
            match link.endpoint.receive(room, now_ms) {
                Received::Input(length) => self.link_input(key, &chunk, length),
                Received::Nothing => {}
                Received::End => {
                    let reason = link.endpoint.failure();
                    self.lose_link(key, reason.as_deref().unwrap_or(CLOSED));
                }
            }
        }
        self.chunks.give(chunk);
    }

    fn link_input(&mut self, key: LinkKey, chunk: &Arc<Vec<u8>>, length: usize) {
        let (input, mut at) = (&chunk[..length], 0);
        loop {
            let Some(link) = self.links.get_mut(key) else { return };
            Self::lend(&mut self.buffers, &mut link.endpoint);
            match link.endpoint.http.read(&input[at..]) {
                Ok(read) => {
                    at += read.consumed;
                    match read.event {
                        Some(event) => self.link_event(key, event, chunk),
                        None => break,
                    }
                }
                Err(error) => return self.fail_link(key, &error),
            }
        }
        let now_ms = self.now_ms();
        let Some(link) = self.links.get_mut(key) else { return };
        link.endpoint.keep(&input[at..], at > 0, now_ms);
        link.prune_abandoned();
        if link.endpoint.http.wants_write() {
            self.touch_link(key);
        } else if let Some(buffer) = link.endpoint.http.take_buffer() {
            self.buffers.put(buffer);
        }
        self.close_if_over(key);
    }

    #[inline]
    fn link_event(&mut self, key: LinkKey, event: Event<'_, CallKey>, chunk: &Arc<Vec<u8>>) {
        match event {
            Event::Response { user, end_stream, .. } => self.on_response(key, user, end_stream),
            Event::Data { key: stream, user, payload, end_stream } => {
                self.on_response_data(key, stream, user, (payload, chunk), end_stream);
            }
            Event::Trailers { user, .. } => self.on_response_trailers(key, user),
            Event::Informational { user, .. } => self.on_informational(key, user),
            Event::Reset { user, reason } => {
                self.note_reset(key);
                self.focus(key, user);
                self.on_backend_reset(user, reason);
            }
            Event::Broken { user, .. } => {
                self.note_reset(key);
                self.focus(key, user);
                let backend = self.backend_name(user);
                let failure = Failure::BackendBroke { backend };
                self.retry(user, failure, Outcome::Reset, Broken::Final);
            }
            Event::Settings => self.on_link_settings(key),
            Event::GoAway { last_stream, reason, debug } => {
                if reason == Reason::ENHANCE_YOUR_CALM && debug == TOO_MANY_PINGS {
                    self.slow_pings(key);
                }
                self.on_go_away(key, last_stream);
            }
            Event::Request { .. } | Event::Acknowledged | Event::Alive | Event::LeaveNoticed => {}
        }
    }

    fn on_response(&mut self, link: LinkKey, key: CallKey, end_stream: bool) {
        if let Some(from) = self.links.get_mut(link)
            && !from.is_proven
        {
            self.prove(link);
        }
        if self.keeps_back(link, key, end_stream) {
            return;
        }
        let (Some(from), Some(call)) = (self.links.get(link), self.calls.get_mut(key)) else {
            return;
        };
        let list = from.endpoint.http.headers();
        let (client, stream) = (call.client, call.stream);
        if !has_room(&self.clients, client, list, &self.response_shares) {
            return self.reset_overfull(client, key);
        }
        call.response.has_head = true;
        call.response.status = headers::status(list);
        // No other attempt will be made: what was kept for one is let go.
        call.request.let_go();
        if let Some(attempt) = &mut call.attempt {
            let latency_ns = self.now_ns.saturating_sub(attempt.sent_ns);
            attempt.in_flight.observe(self.now_ns, latency_ns);
        }
        // Most heads are not the end, and then their list is not searched.
        let outcome =
            end_stream.then(|| headers::outcome(call.is_grpc, call.response.status, Some(list)));
        if end_stream && self.shared.access_log.is_some() {
            call.response.note_status(list);
        }
        if let Some(to) = self.clients.get_mut(client) {
            Self::lend(&mut self.buffers, &mut to.endpoint);
            to.endpoint.http.send_headers(stream, list.key(), || list.iter(), end_stream);
            // The memory goes with it where much is held.
            let limits = &self.shared.config.calls;
            let room_bytes = limits.replay_room(to.kept_bytes, self.kept_bytes);
            if room_bytes < limits.replay_bytes_per_connection / 4 * 3 {
                call.request.kept = Vec::new();
            }
            call.request.charge([&mut to.kept_bytes, &mut self.kept_bytes]);
        }
        self.touch_client(client);
        if let Some(outcome) = outcome {
            self.complete(key, outcome);
        }
    }

    /// A 1xx head, of which a call may have a few. It can be left out, and is
    /// where it would have to wait for the client.
    fn on_informational(&mut self, link: LinkKey, key: CallKey) {
        let (Some(from), Some(call)) = (self.links.get(link), self.calls.get_mut(key)) else {
            return;
        };
        let list = from.endpoint.http.headers();
        let (client, stream) = (call.client, call.stream);
        call.response.informational = call.response.informational.saturating_add(1);
        if call.response.informational > MOST_INFORMATIONAL
            || !has_room(&self.clients, client, list, &self.response_shares)
        {
            return self.guard_counters.dropped_informational.inc();
        }
        if let Some(to) = self.clients.get_mut(client) {
            Self::lend(&mut self.buffers, &mut to.endpoint);
            to.endpoint.http.send_headers(stream, list.key(), || list.iter(), false);
        }
        self.touch_client(client);
    }

    #[inline]
    fn on_response_data(
        &mut self,
        link: LinkKey,
        from: StreamKey,
        key: CallKey,
        (payload, chunk): (&[u8], &Arc<Vec<u8>>),
        end_stream: bool,
    ) {
        // The connection's window is given back at once: what a slow client
        // leaves lying is bounded by the windows of its streams, and must not
        // stop the streams of others on the same connection.
        let Some(backend) = self.links.get_mut(link) else { return };
        backend.endpoint.http.release_connection(payload.len() as u32);
        let Some(call) = self.calls.get_mut(key) else { return };
        if call.is_grpc {
            call.response.messages.advance(payload);
        }
        call.response.bytes += payload.len() as u64;
        let client = call.client;
        let Some(to) = self.clients.get_mut(client) else { return };
        Self::lend(&mut self.buffers, &mut to.endpoint);
        let sent = to.endpoint.http.send_shared(call.stream, payload, chunk, end_stream);
        if sent > 0 && !end_stream {
            backend.endpoint.http.release_stream(from, sent as u32);
            if !call.response.is_granted && to.grant(&self.response_shares) {
                call.response.is_granted = true;
                backend.endpoint.http.widen(from, self.response_shares.grant_bytes);
            }
        }
        let outcome =
            end_stream.then(|| headers::outcome(call.is_grpc, call.response.status, None));
        self.touch_client(client);
        if let Some(outcome) = outcome {
            self.complete(key, outcome);
        }
    }

    /// Too much waits for a client's connection, and a head or trailers have no
    /// window that would hold them back: the call that adds to it ends.
    #[cold]
    fn reset_overfull(&mut self, client: ClientKey, key: CallKey) {
        let Some(stream) = self.calls.get(key).map(|call| call.stream) else { return };
        if let Some(client) = self.clients.get_mut(client) {
            client.endpoint.http.reset(stream, Reason::ENHANCE_YOUR_CALM);
        }
        self.touch_client(client);
        self.guard_counters.overfull_streams.inc();
        self.withdraw(key, Reason::CANCEL);
        self.end_call(key, Outcome::Cancelled);
    }

    /// Bytes of a response that had to wait went on to the client.
    pub(super) fn on_response_moved(&mut self, key: CallKey, bytes: usize) {
        let Some(call) = self.calls.get_mut(key) else { return };
        let Some(Place::Stream(link, stream)) = call.attempt.as_ref().map(|attempt| attempt.place)
        else {
            return;
        };
        let Some(from) = self.links.get_mut(link) else { return };
        from.endpoint.http.release_stream(stream, bytes as u32);
        if !call.response.is_granted
            && let Some(to) = self.clients.get_mut(call.client)
            && to.grant(&self.response_shares)
        {
            call.response.is_granted = true;
            from.endpoint.http.widen(stream, self.response_shares.grant_bytes);
        }
        if from.endpoint.http.wants_write() {
            self.touch_link(link);
        }
    }

    fn on_response_trailers(&mut self, link: LinkKey, key: CallKey) {
        let (Some(from), Some(call)) = (self.links.get(link), self.calls.get_mut(key)) else {
            return;
        };
        let list = from.endpoint.http.headers();
        let (client, stream) = (call.client, call.stream);
        if !has_room(&self.clients, client, list, &self.response_shares) {
            return self.reset_overfull(client, key);
        }
        if self.shared.access_log.is_some() {
            call.response.note_status(list);
        }
        let outcome = headers::outcome(call.is_grpc, call.response.status, Some(list));
        if let Some(to) = self.clients.get_mut(client) {
            Self::lend(&mut self.buffers, &mut to.endpoint);
            to.endpoint.http.send_trailers(stream, list);
        }
        self.touch_client(client);
        self.complete(key, outcome);
    }

    /// The response has ended: what is left of the request goes nowhere.
    fn complete(&mut self, key: CallKey, outcome: Outcome) {
        let Some(call) = self.calls.get(key) else { return };
        let (client, stream, is_whole) = (call.client, call.stream, call.request.is_ended);
        if let Some(Place::Stream(link, there)) = call.attempt.as_ref().map(|attempt| attempt.place)
            && let Some(backend) = self.links.get(link)
            && backend.endpoint.http.is_open(there)
        {
            self.reset_on_link(link, there, Reason::NO_ERROR);
        }
        if !is_whole && let Some(client) = self.clients.get_mut(client) {
            client.endpoint.http.reset_after_end(stream, Reason::NO_ERROR);
        }
        self.end_call(key, outcome);
    }

    fn on_backend_reset(&mut self, key: CallKey, reason: Reason) {
        let backend = self.backend_name(key);
        let failure = Failure::BackendReset { backend, code: reason.0 };
        let is_refusal = reason == Reason::REFUSED_STREAM;
        let (outcome, broken) = if is_refusal {
            (Outcome::Refused, Broken::Unprocessed)
        } else {
            (Outcome::Reset, Broken::Final)
        };
        self.retry(key, failure, outcome, broken);
    }

    fn backend_name(&self, call: CallKey) -> String {
        let attempt = self.calls.get(call).and_then(|call| call.attempt.as_ref());
        attempt.map_or_else(String::new, |attempt| attempt.in_flight.upstream().name().to_owned())
    }
}

/// Beginnings and ends of connections.
impl Worker {
    /// The socket takes bytes: it has connected, or has room again.
    pub(super) fn on_link_writable(&mut self, key: LinkKey) {
        let Some(link) = self.links.get_mut(key) else { return };
        if link.stage == Stage::Connecting {
            if let Some(errno) = link.endpoint.take_error() {
                let reason = std::io::Error::from(errno).to_string();
                return self.lose_link(key, &reason);
            }
            link.stage = Stage::Greeting;
        }
        if link.endpoint.wants_write() {
            self.touch_link(key);
        }
    }

    fn on_link_settings(&mut self, key: LinkKey) {
        let Some(link) = self.links.get_mut(key) else { return };
        let (pool, streams) = (link.pool, link.endpoint.http.stream_limit() as u32);
        if let Some(pool) = self.pools.get_mut(pool)
            && std::mem::replace(&mut pool.streams, streams) != streams
        {
            self.count_places();
        }
        let Some(link) = self.links.get_mut(key) else { return };
        if link.stage == Stage::Ready {
            return;
        }
        link.stage = Stage::Ready;
        link.ready_ns = self.now_ns;
        let (pool_key, connect_by_ns) = (link.pool, link.connect_by_ns);
        self.timers.clear(connect_by_ns, Due::Connect(key));
        if let Some(pool) = self.pools.get_mut(pool_key) {
            pool.counters.connects_ok.inc();
            pool.counters.connections.add(1);
        }
    }

    /// The backend is well: it has served a call, or kept a connection for long.
    #[cold]
    pub(super) fn prove(&mut self, key: LinkKey) {
        let Some(link) = self.links.get_mut(key) else { return };
        link.is_proven = true;
        if let Some(pool) = self.pools.get_mut(link.pool) {
            pool.backoff.clear();
        }
    }

    /// A connection that was ready has ended. One that had not served a call is
    /// a failure as much as one that could not be made.
    fn note_end(&mut self, key: LinkKey, reason: &str) {
        let Some(link) = self.links.get_mut(key) else { return };
        if std::mem::replace(&mut link.is_proven, true) {
            return;
        }
        let random = self.chance.next_u64();
        let Some(pool) = self.pools.get_mut(link.pool) else { return };
        let limits = &self.shared.config.upstream;
        let reason = format!("{reason} before it had served a call");
        pool.backoff.fail_unproven(self.now_ns, limits, random, reason);
    }

    #[cold]
    fn slow_pings(&mut self, key: LinkKey) {
        let Some(link) = self.links.get(key) else { return };
        if let Some(pool) = self.pools.get(link.pool) {
            pool.upstream.slow_pings(link.ping_doublings);
        }
    }

    fn on_go_away(&mut self, key: LinkKey, last_stream: u32) {
        let Some(link) = self.links.get_mut(key) else { return };
        link.is_leaving = true;
        let (left_out, kept): (Vec<_>, Vec<_>) =
            link.endpoint.http.streams().partition(|(stream, _)| stream.id() > last_stream);
        if kept.is_empty() {
            self.note_end(key, "it went away (GOAWAY)");
        }
        for (stream, call) in left_out {
            if let Some(link) = self.links.get_mut(key) {
                link.endpoint.http.forget(stream);
            }
            self.focus(key, call);
            let backend = self.backend_name(call);
            let failure = Failure::BackendBroke { backend };
            self.retry(call, failure, Outcome::Refused, Broken::Unprocessed);
        }
    }

    /// Lets go of a connection that takes no more calls and has none left.
    pub(super) fn close_if_over(&mut self, key: LinkKey) {
        let is_over = |link: &Link| link.is_leaving && link.stage == Stage::Ready && link.is_idle();
        if self.links.get(key).is_some_and(is_over) {
            self.remove_link(key);
        }
    }

    /// The backend broke the rules of HTTP/2, or a bound.
    fn fail_link(&mut self, key: LinkKey, error: &Error) {
        if let Some(link) = self.links.get_mut(key) {
            self.guard_counters.count_backend(ending(link.endpoint.http.flooded()));
            link.endpoint.http.fail(error);
            // What the kernel takes now it gets; nobody waits for more.
            let _ = link.endpoint.flush(&mut Vec::new());
        }
        self.lose_link(key, &error.to_string());
    }

    pub(super) fn on_connect_timeout(&mut self, key: LinkKey) {
        let patience = self.shared.config.upstream.connect_timeout;
        let patience = serve::duration::format(patience);
        self.lose_link(key, &format!("no HTTP/2 connection within {patience}"));
    }

    /// A connection broke, or could not be made.
    pub(super) fn lose_link(&mut self, key: LinkKey, reason: &str) {
        let Some(link) = self.links.get(key) else { return };
        let was_ready = link.stage == Stage::Ready;
        let pool_key = link.pool;
        if was_ready {
            self.note_end(key, reason);
        }
        let Some(link) = self.links.get(key) else { return };
        let streams: Vec<_> = link
            .endpoint
            .http
            .streams()
            .map(|(stream, call)| (call, link.endpoint.http.may_be_seen(stream)))
            .collect();
        self.remove_link(key);
        let backend = self.pools.get(pool_key).map(|pool| pool.upstream.name().to_owned());
        let backend = backend.unwrap_or_default();
        if !was_ready {
            let reason = match reason {
                CLOSED => "it was closed before its SETTINGS came",
                reason => reason,
            };
            let random = self.chance.next_u64();
            if let Some(pool) = self.pools.get_mut(pool_key) {
                let limits = &self.shared.config.upstream;
                pool.counters.connects_failed.inc();
                pool.upstream.note_failure(self.now_ns);
                pool.backoff.fail(self.now_ns, limits, random, reason.to_owned());
            }
        }
        for (call, may_be_seen) in streams {
            self.focus(key, call);
            let failure = Failure::BackendBroke { backend: backend.clone() };
            let broken = if may_be_seen { Broken::Final } else { Broken::Unprocessed };
            self.retry(call, failure, Outcome::Broken, broken);
        }
        self.retire_if_over(pool_key);
    }

    /// Takes a connection out of the books and closes it.
    pub(super) fn remove_link(&mut self, key: LinkKey) {
        let Some(link) = self.links.remove(key) else { return };
        if link.stage != Stage::Ready {
            self.timers.clear(link.connect_by_ns, Due::Connect(key));
        }
        if let Some(pool) = self.pools.get_mut(link.pool) {
            pool.links.retain(|other| *other != key);
            if link.stage == Stage::Ready {
                pool.counters.connections.sub(1);
            }
        }
    }

    /// After a write.
    pub(super) fn on_link_flushed(&mut self, key: LinkKey, flushed: Flushed) {
        if flushed == Flushed::Broken {
            // What it sent before it went may still be in the queue, and is
            // worth delivering.
            for _ in 0..FINAL_READS {
                if !self.links.get(key).is_some_and(|link| link.endpoint.can_read()) {
                    break;
                }
                self.read_link(key);
            }
            let reason = self.links.get(key).and_then(|link| link.endpoint.failure());
            return self.lose_link(key, reason.as_deref().unwrap_or(CLOSED));
        }
        self.close_if_over(key);
    }
}

/// What gRPC's servers say in a GOAWAY to a client that asks too often
/// (gRFC A8).
const TOO_MANY_PINGS: &[u8] = b"too_many_pings";

/// Why a connection ended whose other end said no more.
const CLOSED: &str = "it was closed";

/// Whether a head or trailers may be added to what waits for a client.
#[inline]
fn has_room(
    clients: &Arena<Client>,
    key: ClientKey,
    list: &HeaderList,
    shares: &ResponseShares,
) -> bool {
    let unsent_bytes = |client: &Client| client.endpoint.http.unsent_bytes();
    clients.get(key).is_none_or(|client| unsent_bytes(client) + list.size() <= shares.most_bytes)
}

/// 1xx heads that a call may have; further ones are dropped.
const MOST_INFORMATIONAL: u32 = 8;

/// Reads from a connection that broke while it was written to.
const FINAL_READS: usize = 64;

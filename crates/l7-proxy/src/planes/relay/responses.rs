//! From backends to clients: what comes on a backend's connection, and where it
//! goes.

use std::sync::Arc;

use balance::LOAD_REPORT_TRAILER;
use h2_wire::Reason;
use h2_wire::connection::{Event, StreamKey};
use h2_wire::hpack::HeaderList;

use super::call::{Call, CallKey, Place};
use super::calls::Broken;
use super::headers;
use super::io::Side;
use super::link::LinkKey;
use super::worker::Worker;
use crate::failure::Failure;
use crate::metrics::Outcome;

/// What gRPC's servers say in a GOAWAY to a client that asks too often
/// (gRFC A8).
const TOO_MANY_PINGS: &[u8] = b"too_many_pings";

/// 1xx heads that a call may have; further ones are dropped.
const MOST_INFORMATIONAL: u32 = 8;

/// A call that a stream of a backend's connection belongs to lives as long as
/// the stream: who ends the one resets the other, and hears no more of it.
impl Worker {
    #[inline]
    pub(super) fn on_link_event(
        &mut self,
        key: LinkKey,
        event: Event<'_, CallKey>,
        chunk: &Arc<Vec<u8>>,
    ) {
        match event {
            Event::Response { user, end_stream, .. } => self.on_response(key, user, end_stream),
            Event::Data { key: stream, user, payload, end_stream } => {
                self.on_response_data(key, stream, user, (payload, chunk), end_stream);
            }
            Event::Trailers { user, .. } => self.on_response_trailers(key, user),
            Event::Informational { user, .. } => self.on_informational(key, user),
            Event::Reset { user, reason } => self.on_backend_reset(key, user, reason),
            Event::Broken { user, .. } => {
                self.upstreams.note_reset(key);
                self.on_backend_broke(key, user, Outcome::Reset, Broken::Final);
            }
            Event::Settings => {
                if self.upstreams.on_settings(key, self.now_ns) {
                    self.count_places();
                }
            }
            Event::GoAway { last_stream, reason, debug } => {
                if reason == Reason::ENHANCE_YOUR_CALM && debug == TOO_MANY_PINGS {
                    self.upstreams.slow_pings(key);
                }
                let moment = self.moment();
                for call in self.upstreams.on_go_away(key, last_stream, moment) {
                    self.on_backend_broke(key, call, Outcome::Refused, Broken::Unprocessed);
                }
            }
            Event::Request { .. }
            | Event::Acknowledged
            | Event::PingAcknowledged
            | Event::DrainAcknowledged => {}
        }
    }

    fn on_response(&mut self, link: LinkKey, key: CallKey, end_stream: bool) {
        if !self.upstreams.links.live(link).is_proven {
            self.upstreams.prove(link);
        }
        if self.calls.watches_head(key, end_stream) {
            let moment = self.moment();
            let list = self.upstreams.links.live(link).endpoint.http.headers();
            if self.calls.on_head(link, key, list, end_stream, moment) {
                return;
            }
        }
        let list = self.upstreams.links.live(link).endpoint.http.headers();
        let call = self.calls.all.live_mut(key);
        let to = self.clients.all.live_mut(call.client);
        if !to.has_room(list, &self.clients.response_shares) {
            return self.reset_overfull(key);
        }
        call.response.has_head = true;
        call.response.status = headers::status(list);
        // No other attempt will be made: what was kept for one is dropped.
        call.request.drop_kept();
        if let Some(attempt) = &mut call.attempt {
            let latency_ns = self.now_ns.saturating_sub(attempt.sent_ns);
            attempt.in_flight.observe(self.now_ns, latency_ns);
        }
        let http = self.io.output(Side::Client(call.client), &mut to.endpoint);
        match call.attempt.as_ref().filter(|_| self.shared.config.calls.name_backends) {
            None => http.send_headers(call.stream, list.key(), || list.iter(), end_stream),
            Some(attempt) => {
                let name = headers::backend_name(attempt.in_flight.upstream().name());
                let line = self.calls.line.as_mut();
                let took = end_stream.then(|| attempt.took(line, self.now_ns));
                // All heads of a connection are from one backend.
                let key = list.key().filter(|_| !end_stream);
                let own = || {
                    let times = took.iter().flat_map(headers::backend_times);
                    [name].into_iter().chain(times)
                };
                http.send_headers(call.stream, key, || list.iter().chain(own()), end_stream);
            }
        }
        // The memory goes with it where much is held.
        let limits = &self.shared.config.calls;
        let room_bytes = limits.replay_room(to.kept_bytes, self.calls.kept_bytes);
        if room_bytes < limits.replay_bytes_per_connection / 4 * 3 {
            call.request.kept = Vec::new();
        }
        call.request.charge([&mut to.kept_bytes, &mut self.calls.kept_bytes]);
        // Most heads are not the end, and then their list is not searched.
        if end_stream {
            if self.shared.access_log.is_some() {
                call.response.note_status(list);
            }
            if self.shared.config.policy.uses_reports() {
                note_report(call, list, self.now_ns);
            }
            let outcome = headers::outcome(call.is_grpc, call.response.status, Some(list));
            self.complete(key, outcome);
        }
    }

    /// A 1xx head, of which a call may have a few. It can be left out, and is
    /// where it would have to wait for the client.
    fn on_informational(&mut self, link: LinkKey, key: CallKey) {
        let list = self.upstreams.links.live(link).endpoint.http.headers();
        let call = self.calls.all.live_mut(key);
        let to = self.clients.all.live_mut(call.client);
        call.response.informational = call.response.informational.saturating_add(1);
        if call.response.informational > MOST_INFORMATIONAL
            || !to.has_room(list, &self.clients.response_shares)
        {
            return self.guard.dropped_informational.inc();
        }
        let http = self.io.output(Side::Client(call.client), &mut to.endpoint);
        http.send_headers(call.stream, list.key(), || list.iter(), false);
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
        let backend = &mut self.upstreams.links.live_mut(link).endpoint.http;
        backend.release_connection(payload.len() as u32);
        let call = self.calls.all.live_mut(key);
        if call.is_grpc {
            call.response.messages.advance(payload);
        }
        call.response.bytes += payload.len() as u64;
        let to = self.clients.all.live_mut(call.client);
        let http = self.io.output(Side::Client(call.client), &mut to.endpoint);
        let sent = http.send_shared(call.stream, payload, chunk, end_stream);
        if end_stream {
            let outcome = headers::outcome(call.is_grpc, call.response.status, None);
            return self.complete(key, outcome);
        }
        if sent > 0 {
            backend.release_stream(from, sent as u32);
            let shares = &self.clients.response_shares;
            if !call.response.is_granted && to.grant(shares) {
                call.response.is_granted = true;
                backend.widen(from, shares.grant_bytes);
            }
        }
    }

    /// Too much waits for a client's connection, and a head or trailers have no
    /// window that would hold them back: the call that adds to it ends.
    #[cold]
    fn reset_overfull(&mut self, key: CallKey) {
        let call = self.calls.all.live(key);
        let endpoint = &mut self.clients.all.live_mut(call.client).endpoint;
        self.io
            .output(Side::Client(call.client), endpoint)
            .reset(call.stream, Reason::ENHANCE_YOUR_CALM);
        self.guard.overfull_streams.inc();
        self.calls.cancel(key, Reason::CANCEL, self.now_ns);
    }

    /// Bytes of a response that had to wait went on to the client.
    pub(super) fn on_response_flushed(&mut self, key: CallKey, bytes: usize) {
        // The backend may have sent the last of it long before.
        let Some(call) = self.calls.all.get_mut(key) else { return };
        // It may have failed, and another attempt not begun.
        let Some(Place::Stream(link, stream)) = call.place() else { return };
        let from = &mut self.upstreams.links.live_mut(link).endpoint;
        from.http.release_stream(stream, bytes as u32);
        let to = self.clients.all.live_mut(call.client);
        let shares = &self.clients.response_shares;
        if !call.response.is_granted && to.grant(shares) {
            call.response.is_granted = true;
            from.http.widen(stream, shares.grant_bytes);
        }
        self.io.mark_if_dirty(Side::Link(link), from);
    }

    fn on_response_trailers(&mut self, link: LinkKey, key: CallKey) {
        let list = self.upstreams.links.live(link).endpoint.http.headers();
        let call = self.calls.all.live_mut(key);
        let to = self.clients.all.live_mut(call.client);
        if !to.has_room(list, &self.clients.response_shares) {
            return self.reset_overfull(key);
        }
        if self.shared.access_log.is_some() {
            call.response.note_status(list);
        }
        if self.shared.config.policy.uses_reports() {
            note_report(call, list, self.now_ns);
        }
        let outcome = headers::outcome(call.is_grpc, call.response.status, Some(list));
        let http = self.io.output(Side::Client(call.client), &mut to.endpoint);
        match call.attempt.as_ref().filter(|_| self.shared.config.calls.name_backends) {
            None => http.send_trailers(call.stream, list),
            Some(attempt) => {
                let took = attempt.took(self.calls.line.as_mut(), self.now_ns);
                self.timed_trailers.clear();
                let fields = list.iter().chain(headers::backend_times(&took));
                fields.for_each(|field| self.timed_trailers.push(field));
                http.send_trailers(call.stream, &self.timed_trailers);
            }
        }
        self.complete(key, outcome);
    }

    /// The response has ended: what is left of the request goes nowhere.
    fn complete(&mut self, key: CallKey, outcome: Outcome) {
        let call = self.calls.all.live(key);
        if !call.request.is_ended {
            let http = &mut self.clients.all.live_mut(call.client).endpoint.http;
            http.reset_after_end(call.stream, Reason::NO_ERROR);
        }
        if let Some(Place::Stream(link, stream)) = call.place() {
            self.upstreams.reset(link, stream, Reason::NO_ERROR, &mut self.io);
        }
        let call = self.calls.end(key, outcome, self.now_ns);
        self.settle(call, outcome);
    }

    fn on_backend_reset(&mut self, link: LinkKey, key: CallKey, reason: Reason) {
        self.upstreams.note_reset(link);
        self.calls.focus(link, key);
        let backend = self.calls.all.live(key).backend_name();
        let failure = Failure::BackendReset { backend, code: reason.0 };
        let (outcome, broken) = if reason == Reason::REFUSED_STREAM {
            (Outcome::Refused, Broken::Unprocessed)
        } else {
            (Outcome::Reset, Broken::Final)
        };
        let moment = self.moment();
        self.calls.on_broken(key, failure, outcome, broken, moment);
    }

    /// A backend's connection, or a stream of it, is gone with the call's attempt.
    pub(super) fn on_backend_broke(
        &mut self,
        link: LinkKey,
        key: CallKey,
        outcome: Outcome,
        broken: Broken,
    ) {
        self.calls.focus(link, key);
        let backend = self.calls.all.live(key).backend_name();
        let moment = self.moment();
        let failure = Failure::BackendBroke { backend };
        self.calls.on_broken(key, failure, outcome, broken, moment);
    }
}

/// Takes note of what the end of a response says of its backend's load.
fn note_report(call: &Call, list: &HeaderList, now_ns: u64) {
    let report = list.value_of_name(LOAD_REPORT_TRAILER.as_bytes());
    if let (Some(attempt), Some(report)) = (&call.attempt, report) {
        attempt.in_flight.report(now_ns, report);
    }
}

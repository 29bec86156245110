//! From clients to backends: what comes on a client's connection, and where it
//! goes.

use std::sync::Arc;
use std::time::Duration;

use balance::hash_bytes;
use h2_wire::connection::{Event, StreamKey};
use h2_wire::hpack::{HeaderList, Name};

use super::call::{CallKey, Place};
use super::calls::NewCall;
use super::clients::ClientKey;
use super::headers::{self, Changes};
use super::io::Side;
use super::link::LinkKey;
use super::shares::Held;
use super::worker::Worker;
use crate::failure::{Failure, Progress, answer};
use h2_wire::grpc;

impl Worker {
    #[inline]
    pub(super) fn on_client_event(
        &mut self,
        key: ClientKey,
        event: Event<'_, CallKey>,
        chunk: &Arc<Vec<u8>>,
    ) {
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
            Event::DrainAcknowledged => self.clients.all.live_mut(key).endpoint.http.finish_drain(),
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
        let list = self.clients.all.live(client).endpoint.http.headers();
        // A list that was too long even to be kept tells nothing of its kind;
        // only gRPC is served unless asked for otherwise.
        let is_grpc = if over_limit {
            !self.shared.config.calls.forward_http
        } else {
            headers::is_grpc(list)
        };
        let admitted =
            if over_limit { Err(Failure::HeadersTooLarge) } else { self.admit_call(list, is_grpc) };
        match admitted {
            Ok(deadline_ns) => {
                let hash_key = self.hash_key(list);
                let new = NewCall { client, stream, is_grpc, is_ended, deadline_ns, hash_key };
                let from = self.clients.all.live_mut(client);
                let (http, kept_bytes) = (&mut from.endpoint.http, &mut from.kept_bytes);
                let call = self.calls.begin(new, http.headers(), kept_bytes, self.now_ns);
                http.set_user(stream, call);
                self.place(call);
            }
            Err(failure) => {
                self.calls.count_rejection(&failure);
                let answer = answer(&failure, is_grpc, Progress::BeforeHeaders);
                self.log_rejection(client, &answer);
                self.clients.answer(client, stream, &answer, &mut self.io);
            }
        }
    }

    /// Checks what can be checked without a backend, and gives the deadline.
    fn admit_call(&self, list: &HeaderList, is_grpc: bool) -> Result<Option<u64>, Failure> {
        let config = &self.shared.config;
        if !headers::is_within(list, &config.downstream) {
            return Err(Failure::HeadersTooLarge);
        }
        if list.contains(Name::Via) && self.shared.via.is_in(list.iter()) {
            return Err(Failure::Loop);
        }
        if !is_grpc {
            let is_served = config.calls.forward_http && list.contains(Name::Path);
            return if is_served { Ok(None) } else { Err(Failure::NotGrpc) };
        }
        let Some(timeout) = list.value_of(Name::GrpcTimeout) else { return Ok(None) };
        let timeout = grpc::parse_timeout(timeout).ok_or(Failure::MalformedTimeout)?;
        let timeout = timeout.min(config.calls.max_deadline);
        Ok(Some(self.now_ns.saturating_add(timeout.as_nanos() as u64)))
    }

    fn hash_key(&self, list: &HeaderList) -> Option<u64> {
        let name = self.shared.config.hash_header.as_ref()?;
        list.value_of_name(name.as_str().as_bytes()).map(hash_bytes)
    }

    #[inline]
    fn on_request_data(
        &mut self,
        client: ClientKey,
        stream: StreamKey,
        key: CallKey,
        (payload, chunk): (&[u8], &Arc<Vec<u8>>),
        end_stream: bool,
    ) {
        let from = self.clients.all.live_mut(client);
        let Some(call) = self.calls.all.get_mut(key) else {
            // It was answered before its request had ended.
            from.endpoint.http.release_connection(payload.len() as u32);
            return;
        };
        let limits = &self.shared.config.calls;
        let room_bytes = limits.replay_room(from.kept_bytes, self.calls.kept_bytes);
        let place = call.place();
        let request = &mut call.request;
        request.received += payload.len() as u64;
        request.is_ended |= end_stream;
        let is_passed_on = matches!(place, Some(Place::Stream(..)));
        let bound_bytes = limits.replay_buffer_bytes.min(request.kept.len() + room_bytes);
        request.keep(payload, bound_bytes, is_passed_on);
        request.charge([&mut from.kept_bytes, &mut self.calls.kept_bytes]);
        let Some(Place::Stream(link, to)) = place else { return };
        let backend = self.upstreams.links.live_mut(link);
        let http = self.io.output(Side::Link(link), &mut backend.endpoint);
        let sent = http.send_shared(to, payload, chunk, end_stream);
        let credit = request.pass(sent as u64);
        if credit > 0 {
            from.endpoint.http.release_stream(stream, credit);
            from.endpoint.http.release_connection(credit);
        }
    }

    fn on_request_trailers(&mut self, client: ClientKey, key: CallKey) {
        let from = self.clients.all.live_mut(client);
        // It may have been answered before its request had ended.
        let Some(call) = self.calls.all.get_mut(key) else { return };
        let list = from.endpoint.http.headers();
        if !headers::is_within(list, &self.shared.config.downstream) {
            return self.calls.refuse(key, &Failure::HeadersTooLarge, self.now_ns);
        }
        call.request.is_ended = true;
        let place = call.place();
        let is_passed_on = matches!(place, Some(Place::Stream(..)));
        if call.request.is_replayable || !is_passed_on {
            call.request.trailers = Some(Box::new(list.clone()));
            call.request.charge([&mut from.kept_bytes, &mut self.calls.kept_bytes]);
        }
        if let Some(Place::Stream(link, to)) = place {
            let backend = self.upstreams.links.live_mut(link);
            self.io.output(Side::Link(link), &mut backend.endpoint).send_trailers(to, list);
        }
    }

    /// Bytes of a request that had to wait went on to the backend.
    pub(super) fn on_request_flushed(&mut self, key: CallKey, bytes: usize) {
        let call = self.calls.all.live_mut(key);
        let credit = call.request.pass(bytes as u64);
        if credit > 0 {
            let endpoint = &mut self.clients.all.live_mut(call.client).endpoint;
            endpoint.http.release_stream(call.stream, credit);
            endpoint.http.release_connection(credit);
            self.io.mark_if_dirty(Side::Client(call.client), endpoint);
        }
    }

    /// Sends the call on a connection that has a place for it.
    pub(super) fn send(&mut self, key: CallKey, link: LinkKey) {
        let call = self.calls.all.live_mut(key);
        let mut timeout = None;
        if let Some(deadline_ns) = call.deadline_ns {
            let left_ns = deadline_ns.saturating_sub(self.now_ns);
            if left_ns == 0 {
                return self.calls.on_deadline(key, self.now_ns);
            }
            timeout = Some(grpc::format_timeout(Duration::from_nanos(left_ns)));
        }
        let to = self.upstreams.links.live_mut(link);
        let http = self.io.output(Side::Link(link), &mut to.endpoint);
        let (Some(attempt), Some(stream)) = (&mut call.attempt, http.open(key)) else {
            debug_assert!(false, "a connection without a place was chosen");
            return;
        };
        let from = self.clients.all.live_mut(call.client);
        attempt.place = Place::Stream(link, stream);
        attempt.held = Some(Held::new(&from.share));
        attempt.sent_ns = self.now_ns;
        if http.is_used_up() {
            // The next call finds, or makes, another (RFC 9113, section 5.1.1).
            to.is_draining = true;
        }
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
        if timeout.is_none() && headers::names_authority(list) {
            http.send_headers(stream, list.key(), || list.iter().chain([via]), ends);
        } else {
            let changes = Changes::of(list, timeout, attempt.in_flight.upstream().addr());
            http.send_headers(stream, None, || changes.apply(list).chain([via]), ends);
        }
        let shares = &self.clients.response_shares;
        call.response.is_granted = call.response.is_granted || from.grant(shares);
        if call.response.is_granted {
            http.widen(stream, shares.grant_bytes);
        }
        let mut sent = 0;
        if !request.kept.is_empty() {
            sent = http.send_data(stream, &request.kept, request.is_ended && !has_trailers);
        }
        if let Some(trailers) = &request.trailers {
            http.send_trailers(stream, trailers);
        }
        let limits = &self.shared.config.calls;
        if request.charged > 0 && limits.replay_room(from.kept_bytes, self.calls.kept_bytes) == 0 {
            // It was kept while it had to wait, and is not kept on.
            request.drop_kept();
            request.kept = Vec::new();
            request.charge([&mut from.kept_bytes, &mut self.calls.kept_bytes]);
        }
        if sent > 0 {
            self.on_request_flushed(key, sent);
        }
    }
}

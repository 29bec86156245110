//! Clients' connections: what comes from them, and how they end.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use balance::hash_bytes;
use event_loop::Key;
use h2_wire::connection::{Connection, Event, Flood, Options, StreamKey};
use h2_wire::hpack::{HeaderList, Name};
use h2_wire::{Error, Reason};

use super::call::{CallKey, Place};
use super::endpoint::{Endpoint, Flushed, Received};
use super::headers;
use super::options::ResponseShares;
use super::secure::Secure;
use super::shares::Share;
use super::worker::{Due, Worker};
use crate::failure::{Answer, Failure, Progress, answer};
use crate::grpc;
use crate::metrics::{Ending, Outcome};
use crate::planes::ConnectionPlace;

/// Calls that are over and kept for their memory.
const SPARE_CALLS: usize = 128;

/// The key of a client's connection.
pub(super) type ClientKey = Key<Client>;

/// A client's connection.
pub(super) struct Client {
    pub(super) endpoint: Endpoint,
    pub(super) opened_ms: u64,
    /// Since when it has had no call.
    pub(super) idle_since_ms: Option<u64>,
    /// Its last stream when that was last looked at: calls may come and go
    /// between two looks.
    pub(super) last_stream: u32,
    /// When the first GOAWAY of a drain was sent.
    pub(super) leaving_since_ms: Option<u64>,
    /// When it was ended from our side; only the client's end is waited for.
    pub(super) closing_since_ms: Option<u64>,
    /// Its address.
    pub(super) remote: SocketAddr,
    /// The rest of the output is the last, and the end follows it.
    pub(super) is_ending: bool,
    /// What backends may send for its calls beyond their first windows.
    granted_bytes: usize,
    /// Memory of its requests that are kept for another attempt.
    pub(super) kept_bytes: usize,
    /// What it holds of the places at the backends.
    pub(super) share: Rc<Share>,
    /// Its place under the cap, given back on drop.
    _place: ConnectionPlace,
}

impl Client {
    pub(super) fn new(
        (socket, remote): (OwnedFd, SocketAddr),
        secure: Option<Box<Secure>>,
        (place, share): (ConnectionPlace, Rc<Share>),
        options: &Arc<Options>,
        now_ms: u64,
    ) -> Self {
        Self {
            endpoint: Endpoint::new(Connection::new(Arc::clone(options)), socket, secure, now_ms),
            opened_ms: now_ms,
            idle_since_ms: None,
            last_stream: 0,
            leaving_since_ms: None,
            closing_since_ms: None,
            remote,
            is_ending: false,
            share,
            granted_bytes: 0,
            kept_bytes: 0,
            _place: place,
        }
    }

    /// Sets a call's grant aside, if there is room for it beside those of the
    /// other calls and what waits already; that may be the rest of calls that
    /// are over.
    #[inline]
    pub(super) fn grant(&mut self, shares: &ResponseShares) -> bool {
        let taken_bytes = self.granted_bytes + self.endpoint.http.all_waiting_bytes();
        let has_room = taken_bytes + shares.grant_bytes as usize <= shares.granted_bytes_max;
        if has_room {
            self.granted_bytes += shares.grant_bytes as usize;
        }
        has_room
    }
}

/// Reading.
impl Worker {
    pub(super) fn read_client(&mut self, key: ClientKey) {
        let now_ms = self.now_ms();
        let mut chunk = self.chunks.take();
        // Nobody else has it, so it can be written to.
        if let (Some(client), Some(room)) = (self.clients.get_mut(key), Arc::get_mut(&mut chunk)) {
            if client.is_ending {
                if client.endpoint.discard(room) {
                    self.clients.remove(key);
                }
            } else {
                match client.endpoint.receive(room, now_ms) {
                    Received::Input(length) => self.client_input(key, &chunk, length),
                    Received::Nothing => {}
                    Received::End => self.drop_client(key),
                }
            }
        }
        self.chunks.give(chunk);
    }

    fn client_input(&mut self, key: ClientKey, chunk: &Arc<Vec<u8>>, length: usize) {
        let (input, mut at) = (&chunk[..length], 0);
        loop {
            let Some(client) = self.clients.get_mut(key) else { return };
            if client.is_ending {
                return;
            }
            Self::lend(&mut self.buffers, &mut client.endpoint);
            match client.endpoint.http.read(&input[at..]) {
                Ok(read) => {
                    at += read.consumed;
                    match read.event {
                        Some(event) => self.client_event(key, event, chunk),
                        None => break,
                    }
                }
                Err(error) => {
                    let ending = ending(client.endpoint.http.flooded());
                    return self.fail_client(key, &error, ending);
                }
            }
        }
        let now_ms = self.now_ms();
        let Some(client) = self.clients.get_mut(key) else { return };
        client.endpoint.keep(&input[at..], at > 0, now_ms);
        if client.endpoint.http.wants_write() {
            self.touch_client(key);
        } else if let Some(buffer) = client.endpoint.http.take_buffer() {
            self.buffers.put(buffer);
        }
    }

    #[inline]
    fn client_event(&mut self, key: ClientKey, event: Event<'_, CallKey>, chunk: &Arc<Vec<u8>>) {
        match event {
            Event::Request { key: stream, end_stream, over_limit } => {
                self.on_request(key, stream, end_stream, over_limit);
            }
            Event::Data { key: stream, user, payload, end_stream } => {
                self.on_request_data(key, stream, user, (payload, chunk), end_stream);
            }
            Event::Trailers { user, .. } => self.on_request_trailers(key, user),
            Event::Reset { user, reason } => self.on_client_reset(user, reason),
            Event::Broken { user, reason } => self.on_client_reset(user, reason),
            Event::LeaveNoticed => {
                if let Some(client) = self.clients.get_mut(key) {
                    client.endpoint.http.leave();
                }
            }
            // A client that leaves opens no more calls; those it has go on.
            Event::GoAway { .. }
            | Event::Settings
            | Event::Acknowledged
            | Event::Alive
            | Event::Informational { .. }
            | Event::Response { .. } => {}
        }
    }

    fn on_request(
        &mut self,
        client: ClientKey,
        stream: StreamKey,
        end_stream: bool,
        over_limit: bool,
    ) {
        let Some(from) = self.clients.get(client) else { return };
        let list = from.endpoint.http.headers();
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
                let call = self.begin_call(client, stream, is_grpc, deadline_ns, hash_key);
                let Some(call) = call else { return };
                if end_stream && let Some(call) = self.calls.get_mut(call) {
                    call.request.is_ended = true;
                }
                self.place(call);
            }
            Err(failure) => {
                self.counters.count_rejection(&failure);
                let answer = answer(&failure, is_grpc, Progress::BeforeHeaders);
                self.log_rejection(client, &answer);
                self.send_answer(client, stream, &answer);
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

    fn begin_call(
        &mut self,
        client: ClientKey,
        stream: StreamKey,
        is_grpc: bool,
        deadline_ns: Option<u64>,
        hash_key: Option<u64>,
    ) -> Option<CallKey> {
        let from = self.clients.get_mut(client)?;
        let mut call = self.spare_calls.pop().unwrap_or_default();
        call.request.is_replayable = true;
        call.request.charge([&mut from.kept_bytes, &mut self.kept_bytes]);
        call.client = client;
        call.stream = stream;
        call.is_grpc = is_grpc;
        call.begun_ns = self.now_ns;
        call.deadline_ns = deadline_ns;
        call.hash_key = hash_key;
        call.request.headers.assign(from.endpoint.http.headers());
        let call = self.calls.insert(call);
        from.endpoint.http.set_user(stream, call);
        if let Some(at_ns) = deadline_ns {
            self.timers.set(at_ns, Due::Call(call));
        }
        if is_grpc && let Some(delay) = self.shared.config.retry.hedge_delay {
            self.set_due(call, delay, Due::Hedge(call));
        }
        Some(call)
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
        let Some(from) = self.clients.get_mut(client) else { return };
        let Some(call) = self.calls.get_mut(key) else {
            // It was answered before its request had ended.
            from.endpoint.http.release_connection(payload.len() as u32);
            return;
        };
        let limits = &self.shared.config.calls;
        let room_bytes = limits.replay_room(from.kept_bytes, self.kept_bytes);
        let request = &mut call.request;
        request.received += payload.len() as u64;
        request.is_ended |= end_stream;
        let place = call.attempt.as_ref().map(|attempt| attempt.place);
        let is_passed_on = matches!(place, Some(Place::Stream(..)));
        let bound_bytes = limits.replay_buffer_bytes.min(request.kept.len() + room_bytes);
        request.keep(payload, bound_bytes, is_passed_on);
        request.charge([&mut from.kept_bytes, &mut self.kept_bytes]);
        let Some(Place::Stream(link, to)) = place else { return };
        let Some(backend) = self.links.get_mut(link) else { return };
        Self::lend(&mut self.buffers, &mut backend.endpoint);
        let sent = backend.endpoint.http.send_shared(to, payload, chunk, end_stream);
        let credit = request.pass(sent as u64);
        if credit > 0 {
            from.endpoint.http.release_stream(stream, credit);
            from.endpoint.http.release_connection(credit);
        }
        self.touch_link(link);
    }

    fn on_request_trailers(&mut self, client: ClientKey, key: CallKey) {
        let (Some(from), Some(call)) = (self.clients.get_mut(client), self.calls.get_mut(key))
        else {
            return;
        };
        let list = from.endpoint.http.headers();
        if !headers::is_within(list, &self.shared.config.downstream) {
            self.counters.count_rejection(&Failure::HeadersTooLarge);
            self.withdraw(key, Reason::CANCEL);
            return self.fail_call(key, &Failure::HeadersTooLarge, Outcome::Cancelled);
        }
        call.request.is_ended = true;
        let place = call.attempt.as_ref().map(|attempt| attempt.place);
        let is_passed_on = matches!(place, Some(Place::Stream(..)));
        if call.request.is_replayable || !is_passed_on {
            call.request.trailers = Some(Box::new(list.clone()));
            call.request.charge([&mut from.kept_bytes, &mut self.kept_bytes]);
        }
        if let Some(Place::Stream(link, to)) = place {
            if let Some(backend) = self.links.get_mut(link) {
                backend.endpoint.http.send_trailers(to, list);
            }
            self.touch_link(link);
        }
    }

    /// Bytes of a request that had to wait went on to the backend.
    pub(super) fn on_request_moved(&mut self, key: CallKey, bytes: usize) {
        let Some(call) = self.calls.get_mut(key) else { return };
        let credit = call.request.pass(bytes as u64);
        if credit == 0 {
            return;
        }
        let (client, stream) = (call.client, call.stream);
        if let Some(to) = self.clients.get_mut(client) {
            to.endpoint.http.release_stream(stream, credit);
            to.endpoint.http.release_connection(credit);
            if to.endpoint.http.wants_write() {
                self.touch_client(client);
            }
        }
    }

    /// The client took its call back, or broke it.
    fn on_client_reset(&mut self, key: CallKey, reason: Reason) {
        self.withdraw(key, reason);
        self.end_call(key, Outcome::Cancelled);
    }
}

/// Answers and ends.
impl Worker {
    /// Ends a stream with what the failure table says.
    pub(super) fn send_answer(&mut self, client: ClientKey, stream: StreamKey, answer: &Answer) {
        let Some(to) = self.clients.get_mut(client) else { return };
        Self::lend(&mut self.buffers, &mut to.endpoint);
        let http = &mut to.endpoint.http;
        let list = &mut self.answer_list;
        match (headers::fill(list, answer), answer) {
            (None, Answer::Reset { code }) => {
                http.reset(stream, Reason(*code));
            }
            (_, Answer::Trailers { .. }) => {
                http.send_trailers(stream, list);
                http.reset_after_end(stream, Reason::NO_ERROR);
            }
            _ => {
                let list = &*list;
                http.send_headers(stream, None, || list.iter(), true);
                http.reset_after_end(stream, Reason::NO_ERROR);
            }
        }
        self.touch_client(client);
    }

    /// Takes a call out of the books: of the backend's load, the counts, the
    /// timers, and what it held of the client's connection window.
    pub(super) fn end_call(&mut self, key: CallKey, outcome: Outcome) {
        let Some(mut call) = self.calls.remove(key) else { return };
        if self.shared.access_log.is_some() {
            self.log_call(&call, outcome);
        }
        self.end_attempt(&mut call, outcome);
        if let Some(at_ns) = call.deadline_ns {
            self.timers.clear(at_ns, Due::Call(key));
        }
        if let Some((at_ns, due)) = call.due {
            self.timers.clear(at_ns, due);
        }
        if call.holds_budget {
            self.budgeted -= 1;
        }
        if let Some(client) = self.clients.get_mut(call.client) {
            client.kept_bytes -= call.request.charged;
            if call.response.is_granted {
                client.granted_bytes -= self.response_shares.grant_bytes as usize;
            }
            let held = call.request.received - call.request.credited;
            client.endpoint.http.release_connection(held as u32);
            if held > 0 && client.endpoint.http.wants_write() {
                self.touch_client(call.client);
            }
        }
        self.kept_bytes -= call.request.charged;
        if self.spare_calls.len() < SPARE_CALLS {
            call.renew();
            self.spare_calls.push(call);
        }
    }

    /// The client's connection is gone, and its calls with it.
    pub(super) fn drop_client(&mut self, key: ClientKey) {
        self.cancel_calls(key);
        self.clients.remove(key);
    }

    fn cancel_calls(&mut self, key: ClientKey) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let calls: Vec<_> = client.endpoint.http.streams().map(|(_, call)| call).collect();
        for call in calls {
            self.withdraw(call, Reason::CANCEL);
            self.end_call(call, Outcome::Cancelled);
        }
    }

    /// Ends a client's connection for a mistake of it.
    pub(super) fn fail_client(&mut self, key: ClientKey, error: &Error, ending: Ending) {
        self.guard_counters.count(ending);
        self.cancel_calls(key);
        let Some(client) = self.clients.get_mut(key) else { return };
        if !client.endpoint.is_ready() {
            // There is no way to say why.
            return self.drop_client(key);
        }
        client.endpoint.http.fail(error);
        client.is_ending = true;
        self.touch_client(key);
    }

    /// Begins to drain a client's connection.
    pub(super) fn announce_leave(&mut self, key: ClientKey) {
        let now_ms = self.now_ms();
        let Some(client) = self.clients.get_mut(key) else { return };
        if client.leaving_since_ms.is_none() {
            client.leaving_since_ms = Some(now_ms);
            client.endpoint.http.announce_leave();
            self.touch_client(key);
        }
    }

    /// After a write: goes on with an end that waited for it.
    pub(super) fn on_client_flushed(&mut self, key: ClientKey, flushed: Flushed) {
        let now_ms = self.now_ms();
        let Some(client) = self.clients.get_mut(key) else { return };
        match flushed {
            Flushed::Broken => self.drop_client(key),
            Flushed::All if client.is_ending || client.endpoint.http.is_drained() => {
                // Closing with unread input would reset the connection and take
                // the last responses with it; so the client's end is waited for.
                if client.closing_since_ms.is_none() {
                    client.is_ending = true;
                    client.closing_since_ms = Some(now_ms);
                    client.endpoint.end();
                }
            }
            Flushed::All | Flushed::Some => {}
        }
    }
}

/// What a peer's mistake is in the counts.
pub(super) fn ending(flooded: Option<Flood>) -> Ending {
    match flooded {
        Some(Flood::Control | Flood::Stray) => Ending::ControlFlood,
        Some(Flood::Reset) => Ending::ResetFlood,
        None => Ending::Protocol,
    }
}

/// How long after our end the client's is waited for.
pub(super) const LINGER: Duration = Duration::from_secs(1);

//! Clients' connections: how they begin and end, and what is sent to them.

use std::sync::Arc;

use event_loop::{Arena, reset_on_close};
use h2_wire::connection::{Connection, Options, StreamKey};
use h2_wire::hpack::HeaderList;
use h2_wire::{Error, Reason};

use super::call::Call;
use super::client::{Client, Drain, Fault};
use super::endpoint::{Endpoint, Written};
use super::headers::{self, Took};
use super::io::{Io, Side};
use super::keys::{CallKey, ClientKey, OfClient};
use super::options::{self, ResponseShares};
use super::secure::Secure;
use super::shares::{Held, Shares};
use super::sweep::{Look, exceeds};
use crate::failure::Answer;
use crate::metrics::{Ending, GuardCounters};
use crate::planes::{Incoming, Shared};
use crate::tls::counters::TlsCounters;

/// The clients' side of one thread.
pub(super) struct Clients {
    shared: Arc<Shared>,
    all: Arena<Client, OfClient>,
    options: Arc<Options>,
    /// Of the places at the backends.
    pub(super) shares: Shares,
    /// Of what may wait for one client's connection.
    response_shares: ResponseShares,
    /// A list of our own that is being sent; kept for its memory.
    own: HeaderList,
    guard: GuardCounters,
    tls: TlsCounters,
}

/// Who there is.
impl Clients {
    pub(super) fn new(shared: &Arc<Shared>, guard: GuardCounters) -> Self {
        let config = &shared.config;
        Self {
            all: Arena::default(),
            options: Arc::new(options::downstream(config)),
            shares: Shares::default(),
            response_shares: ResponseShares::of(config),
            own: HeaderList::new(),
            guard,
            tls: TlsCounters::register(&config.metrics),
            shared: Arc::clone(shared),
        }
    }

    /// Takes a connection in. `None` when it was turned away.
    pub(super) fn admit(&mut self, incoming: Incoming, io: &Io, now_ms: u64) -> Option<ClientKey> {
        let Incoming { socket, remote, seat } = incoming;
        let Some(place) = self.shared.connection_limit.take(&self.shared.accept_counters) else {
            reset_on_close(&socket);
            return None;
        };
        let Ok(secure) = self.secure() else {
            reset_on_close(&socket);
            return None;
        };
        let http = Connection::new(Arc::clone(&self.options));
        let endpoint = Endpoint::new(http, socket, secure, now_ms);
        let key = self.all.insert(Client {
            endpoint,
            opened_ms: now_ms,
            idle_since_ms: None,
            last_stream: 0,
            drain: Drain::default(),
            remote,
            granted_bytes: 0,
            kept_bytes: 0,
            share: self.shares.join(remote.ip()),
            _place: place,
            _seat: seat,
        });
        if io.watch(Side::Client(key), &self.all.live(key).endpoint).is_err() {
            self.all.remove(key);
            return None;
        }
        Some(key)
    }

    /// A new session of TLS, where it is spoken.
    fn secure(&self) -> Result<Option<Box<Secure>>, rustls::Error> {
        let Some(config) = self.shared.tls.server() else { return Ok(None) };
        let TlsCounters { clients_ok: ok, clients_failed: failed, .. } = self.tls.clone();
        Secure::server(config, ok, failed).map(|secure| Some(Box::new(secure)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn keys(&self) -> Vec<ClientKey> {
        self.all.keys()
    }

    #[inline]
    pub(super) fn get(&self, key: ClientKey) -> Option<&Client> {
        self.all.get(key)
    }

    #[inline]
    pub(super) fn live(&self, key: ClientKey) -> &Client {
        self.all.live(key)
    }

    #[inline]
    pub(super) fn live_mut(&mut self, key: ClientKey) -> &mut Client {
        self.all.live_mut(key)
    }

    /// The connection, if it has not ended.
    #[inline]
    pub(super) fn endpoint(&mut self, key: ClientKey) -> Option<&mut Endpoint> {
        self.all.get_mut(key).map(|client| &mut client.endpoint)
    }

    /// Lets go of a connection, whose calls have been cancelled.
    pub(super) fn remove(&mut self, key: ClientKey) {
        self.all.remove(key);
    }

    /// Whether a client may hold one more place at the backends.
    #[inline]
    pub(super) fn may_take_place(&self, key: ClientKey) -> bool {
        let factor = self.shared.config.circuit.client_share;
        self.shares.has_plenty() || self.shares.may_take(&self.live(key).share, factor)
    }
}

/// What is sent to them.
impl Clients {
    /// A connection that is written to in this turn.
    #[inline]
    pub(super) fn output(&mut self, key: ClientKey, io: &mut Io) -> &mut Connection<CallKey> {
        io.output(Side::Client(key), &mut self.all.live_mut(key).endpoint)
    }

    /// Whether a head or trailers may be added to what waits for the call's client.
    #[inline]
    pub(super) fn has_room(&self, call: &Call, list: &HeaderList) -> bool {
        self.all.live(call.client).has_room(list, &self.response_shares)
    }

    /// Sends the head of a response, unless the client has no room for it; with
    /// what the backend took, where that is told and the head is the end.
    #[inline]
    pub(super) fn send_head(
        &mut self,
        call: &Call,
        list: &HeaderList,
        took: Option<Took>,
        end_stream: bool,
        io: &mut Io,
    ) -> Option<&mut Client> {
        let to = self.all.live_mut(call.client);
        if !to.has_room(list, &self.response_shares) {
            return None;
        }
        let http = io.output(Side::Client(call.client), &mut to.endpoint);
        let named = call.attempt.as_ref().filter(|_| self.shared.config.calls.name_backends);
        let Some(attempt) = named else {
            http.send_headers(call.stream, list.key(), || list.iter(), end_stream);
            return Some(to);
        };
        let name = headers::backend_name(attempt.in_flight.upstream().name());
        // All heads of a connection are from one backend.
        let key = list.key().filter(|_| !end_stream);
        let own = || [name].into_iter().chain(took.iter().flat_map(headers::backend_times));
        http.send_headers(call.stream, key, || list.iter().chain(own()), end_stream);
        Some(to)
    }

    /// The same for trailers. Whether they were sent.
    #[inline]
    pub(super) fn send_trailers(
        &mut self,
        call: &Call,
        list: &HeaderList,
        took: Option<Took>,
        io: &mut Io,
    ) -> bool {
        let to = self.all.live_mut(call.client);
        if !to.has_room(list, &self.response_shares) {
            return false;
        }
        let http = io.output(Side::Client(call.client), &mut to.endpoint);
        let Some(took) = took else {
            http.send_trailers(call.stream, list);
            return true;
        };
        self.own.clear();
        let fields = list.iter().chain(headers::backend_times(&took));
        fields.for_each(|field| self.own.push(field));
        http.send_trailers(call.stream, &self.own);
        true
    }

    /// Ends a stream with what the failure table says.
    pub(super) fn answer(
        &mut self,
        key: ClientKey,
        stream: StreamKey,
        answer: &Answer,
        io: &mut Io,
    ) {
        // The connection may have ended, and the stream with it.
        let Some(client) = self.all.get_mut(key) else { return };
        let http = io.output(Side::Client(key), &mut client.endpoint);
        let list = &mut self.own;
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
    }
}

/// What calls are lent of a connection.
impl Clients {
    /// Grants the call's backend to send more than its first window, if there is
    /// room for that and it was not granted before.
    #[inline]
    pub(super) fn grant(&mut self, call: &mut Call) -> Option<u32> {
        let shares = &self.response_shares;
        if call.response.is_granted || !self.all.live_mut(call.client).grant(shares) {
            return None;
        }
        call.response.is_granted = true;
        Some(shares.grant_bytes)
    }

    /// Lends an attempt that is about to be sent a place, and a grant, which a call keeps for
    /// its further attempts.
    #[inline]
    pub(super) fn lend(&mut self, call: &mut Call) -> Option<u32> {
        let (shares, client) = (&self.response_shares, self.all.live_mut(call.client));
        if let Some(attempt) = &mut call.attempt {
            attempt.held = Some(Held::new(&client.share));
        }
        call.response.is_granted = call.response.is_granted || client.grant(shares);
        call.response.is_granted.then_some(shares.grant_bytes)
    }

    /// Gives back what a call that is over held of its client's: memory, grants,
    /// and the connection's window.
    #[inline]
    pub(super) fn settle(&mut self, call: &Call, io: &mut Io) {
        // The connection may have ended, and its calls with it.
        let Some(client) = self.all.get_mut(call.client) else { return };
        client.kept_bytes -= call.request.charged;
        if call.response.is_granted {
            client.granted_bytes -= self.response_shares.grant_bytes as usize;
        }
        let held = call.request.received - call.request.credited;
        if held > 0 {
            client.endpoint.http.release_connection(held as u32);
            io.mark_if_dirty(Side::Client(call.client), &mut client.endpoint);
        }
    }
}

/// How they end.
impl Clients {
    /// Begins to drain a connection, which a look at it does where it is new.
    pub(super) fn start_drain(&mut self, key: ClientKey, io: &mut Io, now_ms: u64) {
        let client = self.all.live_mut(key);
        client.drain.ask();
        if !client.is_new(now_ms) && client.drain.start(now_ms) {
            client.endpoint.http.start_drain();
            io.mark_dirty(Side::Client(key), &mut client.endpoint);
        }
    }

    /// Ends a connection, whose calls have been cancelled, for a mistake of the client.
    pub(super) fn fail(&mut self, key: ClientKey, error: &Error, ending: Ending, io: &mut Io) {
        self.guard.count(ending);
        let endpoint = &mut self.all.live_mut(key).endpoint;
        if !endpoint.is_ready() {
            // There is no way to say why.
            self.all.remove(key);
            return;
        }
        endpoint.http.fail(error);
        endpoint.is_ending = true;
        io.mark_dirty(Side::Client(key), endpoint);
    }

    /// After a write: goes on with an end that waited for it.
    pub(super) fn on_written(&mut self, key: ClientKey, written: Written, now_ms: u64) {
        let client = self.all.live_mut(key);
        let endpoint = &mut client.endpoint;
        let is_last = endpoint.is_ending || endpoint.http.is_drained();
        if written == Written::All && is_last && client.drain.close(now_ms) {
            endpoint.is_ending = true;
            endpoint.end();
        }
    }

    /// Looks at a connection. Gives the calls whose responses it does not take,
    /// which are over for it.
    ///
    /// # Errors
    /// Why it ends.
    pub(super) fn sweep(
        &mut self,
        key: ClientKey,
        look: Look,
        io: &mut Io,
    ) -> Result<Vec<CallKey>, Fault> {
        let client = self.all.live_mut(key);
        if look.is_second {
            client.endpoint.http.each_second();
        }
        if let Some(fault) = client.fault(&self.shared.config.downstream, look) {
            if let Fault::Gone(_, Some(ending)) = &fault {
                self.guard.count(*ending);
            }
            return Err(fault);
        }
        if client.endpoint.is_ending {
            return Ok(Vec::new());
        }
        self.go_on_draining(key, io, look.now_ms);
        Ok(self.reset_stalled(key, look, io))
    }

    /// Takes the next step of a drain, and begins one for a connection that is new no more,
    /// or has had no call for long.
    fn go_on_draining(&mut self, key: ClientKey, io: &mut Io, now_ms: u64) {
        let client = self.all.live_mut(key);
        let is_idle = exceeds(client.idle_ms(now_ms), self.shared.config.downstream.idle_timeout);
        let endpoint = &mut client.endpoint;
        if client.drain.is_notice_over(now_ms) && !endpoint.http.is_drain_finished() {
            endpoint.http.finish_drain();
        }
        if client.drain.has_started() {
            // Also asks again whether the last call has ended.
            io.mark_dirty(Side::Client(key), endpoint);
        } else if client.drain.is_asked() {
            io.mark_if_dirty(Side::Client(key), endpoint);
            self.start_drain(key, io, now_ms);
        } else if is_idle {
            self.guard.count(Ending::Idle);
            self.start_drain(key, io, now_ms);
        } else {
            io.mark_if_dirty(Side::Client(key), endpoint);
        }
    }

    /// Resets the streams whose responses wait for a client that does not take
    /// them.
    fn reset_stalled(&mut self, key: ClientKey, look: Look, io: &mut Io) -> Vec<CallKey> {
        let endpoint = &mut self.all.live_mut(key).endpoint;
        let timeout = self.shared.config.downstream.write_stall_timeout;
        let stall_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let mut stalled = Vec::new();
        endpoint.http.find_stalled(look.now_ms, stall_ms, look.least_bytes, &mut stalled);
        let reset = |(stream, call)| {
            io.output(Side::Client(key), endpoint).reset(stream, Reason::CANCEL);
            self.guard.stalled_streams.inc();
            call
        };
        stalled.into_iter().map(reset).collect()
    }
}

//! Clients' connections: how they begin and end, and what is sent to them that
//! no backend sent.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use event_loop::{Arena, Key, Seat, reset_on_close};
use h2_wire::connection::{Connection, Flood, Options, StreamKey};
use h2_wire::hpack::HeaderList;
use h2_wire::{Error, Reason};

use super::call::Call;
use super::endpoint::{Endpoint, Written};
use super::headers;
use super::io::{Io, Side};
use super::options::{self, ResponseShares};
use super::secure::Secure;
use super::shares::{Share, Shares};
use crate::failure::Answer;
use crate::metrics::{Ending, GuardCounters};
use crate::planes::{Incoming, NOTICE, Shared};
use crate::tls::counters::TlsCounters;
use serve::ConnectionPlace;

/// How long after our end the client's is waited for.
const LINGER: Duration = Duration::from_secs(1);

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
    pub(super) drain: Drain,
    /// Its address.
    pub(super) remote: SocketAddr,
    /// What backends may send for its calls beyond their first windows.
    granted_bytes: usize,
    /// Memory of its requests that are kept for another attempt.
    pub(super) kept_bytes: usize,
    /// What it holds of the places at the backends.
    pub(super) share: Rc<Share>,
    /// Its place under the cap, given back on drop.
    _place: ConnectionPlace,
    /// Its place in the count of its thread, likewise.
    _seat: Seat<Incoming>,
}

/// The steps in which a connection ends, each once and each with its time: a
/// GOAWAY that asks for no more calls, one that names the last that is served,
/// our end of the connection, and the client's.
#[derive(Debug, Default)]
pub(super) struct Drain {
    started_ms: Option<u64>,
    closed_ms: Option<u64>,
}

impl Drain {
    /// Begins, unless it has begun. Whether it does.
    pub(super) fn start(&mut self, now_ms: u64) -> bool {
        self.started_ms.is_none() && self.started_ms.replace(now_ms).is_none()
    }

    pub(super) fn has_started(&self) -> bool {
        self.started_ms.is_some()
    }

    /// Whether a client that has not acknowledged the first GOAWAY has had its
    /// time.
    pub(super) fn is_notice_over(&self, now_ms: u64) -> bool {
        is_over(self.started_ms, NOTICE, now_ms)
    }

    /// Ends our side, unless it has ended. Whether it does. Closing with unread
    /// input would reset the connection and take the last responses with it; so
    /// the client's end is waited for.
    pub(super) fn close(&mut self, now_ms: u64) -> bool {
        self.closed_ms.is_none() && self.closed_ms.replace(now_ms).is_none()
    }

    /// Whether the client's end was waited for long enough.
    pub(super) fn is_over(&self, now_ms: u64) -> bool {
        is_over(self.closed_ms, LINGER, now_ms)
    }
}

fn is_over(since_ms: Option<u64>, limit: Duration, now_ms: u64) -> bool {
    let passed_ms = |since_ms| u128::from(now_ms.saturating_sub(since_ms));
    since_ms.is_some_and(|since_ms| passed_ms(since_ms) > limit.as_millis())
}

impl Client {
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

    /// Whether a head or trailers may be added to what waits for it.
    #[inline]
    pub(super) fn has_room(&self, list: &HeaderList, shares: &ResponseShares) -> bool {
        self.endpoint.http.unsent_bytes() + list.size() <= shares.most_bytes
    }
}

/// The clients' side of one thread.
pub(super) struct Clients {
    shared: Arc<Shared>,
    pub(super) all: Arena<Client>,
    options: Arc<Options>,
    /// Of the places at the backends.
    pub(super) shares: Shares,
    /// Of what may wait for one client's connection.
    pub(super) response_shares: ResponseShares,
    /// An answer that is being sent.
    answer: HeaderList,
    guard: GuardCounters,
    tls: TlsCounters,
}

impl Clients {
    pub(super) fn new(shared: &Arc<Shared>, guard: GuardCounters) -> Self {
        let config = &shared.config;
        Self {
            all: Arena::default(),
            options: Arc::new(options::downstream(config)),
            shares: Shares::default(),
            response_shares: ResponseShares::of(config),
            answer: HeaderList::new(),
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
        let key = self.all.insert(Client {
            endpoint: Endpoint::new(http, socket, secure, now_ms),
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
        let list = &mut self.answer;
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

    /// Whether the call's client may hold one more place at the backends.
    #[inline]
    pub(super) fn may_take_place(&self, key: ClientKey) -> bool {
        let factor = self.shared.config.circuit.client_share;
        self.shares.may_take(&self.all.live(key).share, factor)
    }

    /// Begins to drain a connection.
    pub(super) fn start_drain(&mut self, key: ClientKey, io: &mut Io, now_ms: u64) {
        let client = self.all.live_mut(key);
        if client.drain.start(now_ms) {
            client.endpoint.http.start_drain();
            io.mark_dirty(Side::Client(key), &mut client.endpoint);
        }
    }

    /// Ends a connection, whose calls have been cancelled, for a mistake of the
    /// client. Whether it is gone at once.
    pub(super) fn fail(&mut self, key: ClientKey, error: &Error, io: &mut Io) -> bool {
        let client = self.all.live_mut(key);
        if !client.endpoint.is_ready() {
            // There is no way to say why.
            self.all.remove(key);
            return true;
        }
        client.endpoint.http.fail(error);
        client.endpoint.is_ending = true;
        io.mark_dirty(Side::Client(key), &mut client.endpoint);
        false
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

    /// What the client did wrong on its connection.
    pub(super) fn ending(&self, key: ClientKey) -> Ending {
        ending(self.all.live(key).endpoint.http.flooded())
    }

    /// Counts a connection that was ended.
    pub(super) fn count(&self, ending: Ending) {
        self.guard.count(ending);
    }
}

/// What a remote's mistake is in the counts.
pub(super) fn ending(flooded: Option<Flood>) -> Ending {
    match flooded {
        Some(Flood::Control | Flood::Stray) => Ending::ControlFlood,
        Some(Flood::Reset) => Ending::ResetFlood,
        None => Ending::Protocol,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_takes_each_step_once_and_waits_for_none_for_ever() {
        let mut drain = Drain::default();
        assert!(!drain.has_started() && !drain.is_notice_over(u64::MAX));
        assert!(drain.start(1_000) && !drain.start(2_000));
        assert!(drain.has_started() && !drain.is_notice_over(2_000));
        assert!(drain.is_notice_over(2_001));
        assert!(!drain.is_over(u64::MAX), "calls are still served");
        assert!(drain.close(5_000) && !drain.close(6_000));
        assert!(!drain.is_over(6_000) && drain.is_over(6_001));
    }
}

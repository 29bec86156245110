//! One connection of a client, as data: what it holds, the steps in which it ends, and what it
//! takes too long for.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use event_loop::Seat;
use h2_wire::connection::StreamKey;
use h2_wire::hpack::HeaderList;
use h2_wire::{Error, Reason};
use serve::ConnectionPlace;

use super::endpoint::Endpoint;
use super::options::ResponseShares;
use super::shares::Share;
use super::sweep::{Look, exceeds};
use crate::config::DownstreamLimits;
use crate::metrics::Ending;
use crate::planes::{Incoming, NOTICE};

/// How long after our end the client's is waited for.
const LINGER: Duration = Duration::from_secs(1);

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
    pub(super) granted_bytes: usize,
    /// Memory of its requests that are kept for another attempt.
    pub(super) kept_bytes: usize,
    /// What it holds of the places at the backends.
    pub(super) share: Rc<Share>,
    /// Its place under the cap, given back on drop.
    pub(super) _place: ConnectionPlace,
    /// Its place in the count of its thread, likewise.
    pub(super) _seat: Seat<Incoming>,
}

/// Why a client's connection ends.
pub(super) enum Fault {
    /// Nothing can be said to it any more. Where that is for its fault, it is counted.
    Gone(&'static str, Option<Ending>),
    /// It is told its mistake.
    Told(Error, Ending),
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

    /// Gives the client its credit back for bytes of a request that went on.
    #[inline]
    pub(super) fn release(&mut self, stream: StreamKey, credit: u32) {
        if credit > 0 {
            self.endpoint.http.release_stream(stream, credit);
            self.endpoint.http.release_connection(credit);
        }
    }

    /// What it does wrong, or takes too long for.
    pub(super) fn fault(&mut self, limits: &DownstreamLimits, look: Look) -> Option<Fault> {
        let now_ms = look.now_ms;
        let endpoint = &mut self.endpoint;
        if self.drain.is_over(now_ms) {
            return Some(Fault::Gone("drained", None));
        }
        let stalled_ms = endpoint.stalled_ms(now_ms, look.least_bytes);
        if exceeds(stalled_ms, limits.write_stall_timeout) {
            return Some(Fault::Gone("it takes no bytes", Some(Ending::WriteStall)));
        }
        if endpoint.is_ending {
            return None;
        }
        let age_ms = now_ms.saturating_sub(self.opened_ms);
        if exceeds(age_ms, limits.handshake_timeout) && !endpoint.http.has_settings() {
            let error = Error::connection(Reason::PROTOCOL_ERROR, "no SETTINGS in time");
            return Some(Fault::Told(error, Ending::HandshakeTimeout));
        }
        if exceeds(endpoint.partial_ms(now_ms), limits.frame_timeout) {
            let error = Error::connection(Reason::ENHANCE_YOUR_CALM, "frame not whole in time");
            return Some(Fault::Told(error, Ending::FrameTimeout));
        }
        let is_dead = endpoint.is_dead(limits.keepalive_interval, limits.keepalive_timeout, now_ms);
        is_dead.then_some(Fault::Gone("it did not answer a PING", None))
    }

    /// Whether it may be about to make its first call. grpc-core can lose the call that waits
    /// for a connection on which GOAWAY follows SETTINGS at once: it ends by its deadline, or
    /// the channel tries it again in a loop that takes all memory (grpcio 1.85.1).
    pub(super) fn is_new(&self, now_ms: u64) -> bool {
        self.endpoint.http.highest_peer_stream() == 0
            && !is_over(Some(self.opened_ms), NOTICE, now_ms)
    }

    /// How long it has had no call. Memory that an idle connection does not need
    /// is given back.
    pub(super) fn idle_ms(&mut self, now_ms: u64) -> u64 {
        let last_stream = self.endpoint.http.highest_peer_stream();
        let had_calls = std::mem::replace(&mut self.last_stream, last_stream) != last_stream;
        if had_calls || self.endpoint.http.open_streams() > 0 {
            self.idle_since_ms = None;
            return 0;
        }
        if self.idle_since_ms.is_none() {
            self.endpoint.shrink();
        }
        now_ms - *self.idle_since_ms.get_or_insert(now_ms)
    }
}

/// The steps in which a connection ends, each once and each with its time: a
/// GOAWAY that asks for no more calls, one that names the last that is served,
/// our end of the connection, and the client's.
#[derive(Debug, Default)]
pub(super) struct Drain {
    is_asked: bool,
    started_ms: Option<u64>,
    closed_ms: Option<u64>,
}

impl Drain {
    /// Has it begin as soon as the connection is new no more.
    pub(super) fn ask(&mut self) {
        self.is_asked = true;
    }

    pub(super) fn is_asked(&self) -> bool {
        self.is_asked
    }

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

//! One client's connection from accept to end, as a state machine that is
//! stepped by events and does no waiting of its own.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use balance::{PickInput, Tried, hash_bytes};
use rustix::event::epoll::EventFlags;

use crate::counts::End;
use crate::flow::{Flow, Paused};
use crate::io::Io;
use crate::shared::Place;
use crate::side::Side;
use crate::slots::Which;
use crate::timers::Deadline;
use crate::upstreams::{Lease, Table};

/// A connection between a client and, later, a backend.
#[derive(Debug)]
pub(crate) struct Connection {
    client: Side,
    client_address: SocketAddr,
    upstream: Option<Side>,
    lease: Option<Lease>,
    phase: Phase,
    to_backend: Flow,
    to_client: Flow,
    /// Its only timer: to connect, then to be idle.
    pub(crate) deadline: Deadline,
    opened_ms: u64,
    active_ms: u64,
    /// Since when the backend owes its first byte, until it came.
    awaiting_ns: Option<u64>,
    /// It is in its thread's list of connections to go on with.
    pub(crate) is_queued: bool,
    /// Its place under the cap, given back on drop.
    _place: Place,
}

#[derive(Debug)]
enum Phase {
    Connecting(Attempts),
    Relaying,
}

/// Which backends were tried. It keeps the table it began with, since the
/// indices mean nothing in another one.
#[derive(Debug)]
struct Attempts {
    table: Arc<Table>,
    tried: Tried,
}

/// What the connection's thread has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Wait for events.
    Wait,
    /// Step it again after the others.
    Again,
    /// The backend did not accept: connect to the next one.
    Connect,
    /// The backend accepted: the connect timeout no longer applies.
    Connected,
    /// Close it.
    End(End),
}

/// Bytes that one step passed on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moved {
    pub(crate) to_backend_bytes: u64,
    pub(crate) to_client_bytes: u64,
}

impl Connection {
    pub(crate) fn new(
        socket: OwnedFd,
        client_address: SocketAddr,
        place: Place,
        table: Arc<Table>,
        now_ms: u64,
    ) -> Self {
        Self {
            client: Side::new(socket),
            client_address,
            upstream: None,
            lease: None,
            phase: Phase::Connecting(Attempts { table, tried: Tried::default() }),
            to_backend: Flow::default(),
            to_client: Flow::default(),
            deadline: Deadline::default(),
            opened_ms: now_ms,
            active_ms: now_ms,
            awaiting_ns: None,
            is_queued: false,
            _place: place,
        }
    }

    pub(crate) fn client(&self) -> &Side {
        &self.client
    }

    pub(crate) fn client_address(&self) -> SocketAddr {
        self.client_address
    }

    /// The backend that has it, or that it was last tried on.
    pub(crate) fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    pub(crate) fn opened_ms(&self) -> u64 {
        self.opened_ms
    }

    /// When bytes last moved in either direction.
    pub(crate) fn active_ms(&self) -> u64 {
        self.active_ms
    }

    pub(crate) fn is_connecting(&self) -> bool {
        matches!(self.phase, Phase::Connecting(_))
    }

    /// Bytes passed on since it was opened.
    pub(crate) fn moved(&self) -> Moved {
        Moved {
            to_backend_bytes: self.to_backend.delivered_bytes(),
            to_client_bytes: self.to_client.delivered_bytes(),
        }
    }

    /// Leases the next backend that was not tried yet, and its address.
    pub(crate) fn lease_next(&mut self, random: u64, now_ns: u64) -> Option<SocketAddr> {
        self.upstream = None;
        self.lease = None;
        let Phase::Connecting(attempts) = &mut self.phase else { return None };
        let key = Some(client_key(self.client_address));
        let input = PickInput { random, now_ns, key };
        let lease = attempts.table.lease(&input, &mut attempts.tried)?;
        let address = lease.upstream().address;
        self.lease = Some(lease);
        Some(address)
    }

    /// Takes the socket that is connecting to the leased backend.
    pub(crate) fn connecting(&mut self, socket: OwnedFd) -> &Side {
        self.upstream.insert(Side::new(socket))
    }

    /// Remembers what an event said.
    pub(crate) fn note(&mut self, which: Which, flags: EventFlags) {
        match which {
            Which::Client => self.client.note(flags),
            Which::Upstream => {
                if let Some(upstream) = &mut self.upstream {
                    upstream.note(flags);
                }
            }
        }
    }

    /// Does what can be done now.
    pub(crate) fn step(&mut self, io: &mut Io, now_ns: u64) -> Step {
        match self.phase {
            Phase::Connecting(_) => self.step_connecting(now_ns),
            Phase::Relaying => self.step_relaying(io, now_ns),
        }
    }

    fn step_connecting(&mut self, now_ns: u64) -> Step {
        // A reset client needs no backend any more.
        if self.client.is_failed() {
            return Step::End(End::ClientReset);
        }
        let Some(upstream) = &self.upstream else { return Step::Wait };
        if upstream.is_failed() {
            return Step::Connect;
        }
        if !upstream.writable {
            return Step::Wait;
        }
        self.phase = Phase::Relaying;
        self.awaiting_ns = Some(now_ns);
        if let Some(lease) = &self.lease {
            lease.count_connected();
        }
        Step::Connected
    }

    fn step_relaying(&mut self, io: &mut Io, now_ns: u64) -> Step {
        let Some(upstream) = &mut self.upstream else { return Step::End(End::LocalFault) };
        let before = (self.to_backend.delivered_bytes(), self.to_client.delivered_bytes());
        let is_last = self.to_client.is_done();
        let there = self.to_backend.pump(&mut self.client, upstream, io, is_last);
        let is_last = self.to_backend.is_done();
        let back = self.to_client.pump(upstream, &mut self.client, io, is_last);
        let after = (self.to_backend.delivered_bytes(), self.to_client.delivered_bytes());
        if before != after {
            self.active_ms = now_ns / 1_000_000;
            if self.awaiting_ns.is_some() {
                self.watch_first_byte(before.0 == 0, now_ns);
            }
        }
        if let Some(end) = self.ended() {
            return Step::End(end);
        }
        if there == Paused::ForOthers || back == Paused::ForOthers {
            Step::Again
        } else {
            Step::Wait
        }
    }

    /// Measures the backend's first byte from the moment when it could begin
    /// to answer: when it accepted, or when the client's first bytes came.
    fn watch_first_byte(&mut self, was_silent: bool, now_ns: u64) {
        if self.to_client.delivered_bytes() > 0 {
            if let (Some(since_ns), Some(lease)) = (self.awaiting_ns.take(), &self.lease) {
                lease.observe_latency(now_ns, now_ns.saturating_sub(since_ns));
            }
        } else if was_silent {
            self.awaiting_ns = Some(now_ns);
        }
    }

    fn ended(&self) -> Option<End> {
        let upstream = self.upstream.as_ref()?;
        // A reset is passed on at once when what came before it can't be
        // delivered anyway, as the kernel would do it.
        let is_reset =
            |side: &Side, flow: &Flow| side.is_reset() || side.is_failed() && flow.is_blocked();
        if is_reset(&self.client, &self.to_backend) {
            Some(End::ClientReset)
        } else if is_reset(upstream, &self.to_client) {
            Some(End::BackendReset)
        } else if self.to_backend.is_done() && self.to_client.is_done() {
            // Both directions are over without a reset having been read: the
            // peers ended, or both went away while being written to.
            Some(match (self.client.is_broken(), upstream.is_broken()) {
                (true, _) => End::ClientReset,
                (false, true) => End::BackendReset,
                (false, false) => End::Closed,
            })
        } else {
            None
        }
    }

    /// Makes both sockets close as this end demands.
    pub(crate) fn prepare_close(&self, end: End) {
        if end.is_cut() {
            self.client.reset_on_close();
            if let Some(upstream) = &self.upstream {
                upstream.reset_on_close();
            }
        }
    }
}

/// What the hash policies keep together: the client's address without its
/// port, which is another one on every connection.
fn client_key(address: SocketAddr) -> u64 {
    match address {
        SocketAddr::V4(v4) => hash_bytes(&v4.ip().octets()),
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => hash_bytes(&v4.octets()),
            None => hash_bytes(&v6.ip().octets()),
        },
    }
}

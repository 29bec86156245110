//! One client's connection from accept to end, as a state machine that is
//! stepped by events and does no waiting of its own.

use std::{net::SocketAddr, os::fd::OwnedFd, sync::Arc};

use balance::{PickInput, Tried, hash_bytes};
use event_loop::EventFlags;

use crate::{
    counts::End,
    flow::{Flow, Paused},
    greeting::{GREETING_BYTES_MAX, Greetings, Stage, Verdict},
    io::Io,
    lifetime::Lifetime,
    proxy_protocol::{self, Addresses, ProxyVersion},
    shared::{ConnectionOptions, Place},
    side::{Received, Side},
    table::{Group, Lacking},
    upstreams::Lease,
};

/// A connection between a client and, later, a backend.
#[derive(Debug)]
pub(crate) struct Connection {
    client: Side,
    /// As it was accepted, or as a PROXY header says.
    client_address: SocketAddr,
    /// Where the client connected to, if a PROXY header says.
    destination: Option<SocketAddr>,
    upstream: Option<Side>,
    lease: Option<Lease>,
    /// Until the first byte was passed on: from then on no other backend can
    /// take its place.
    attempts: Option<Attempts>,
    phase: Phase,
    to_backend: Flow,
    to_client: Flow,
    /// Its only timer: for its greeting, to connect, then to end.
    pub(crate) deadline_ms: Option<u64>,
    pub(crate) life: Lifetime,
    /// Since when the backend owes its first byte, until it came.
    awaiting_ns: Option<u64>,
    /// It is in its thread's ready queue.
    pub(crate) is_queued: bool,
    /// Its place under the cap, given back on drop.
    _place: Place,
}

#[derive(Debug)]
enum Phase {
    Greeting(Stage),
    Connecting,
    Relaying,
}

/// One of the two sockets of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Client,
    Upstream,
}

impl Which {
    /// The bit beside the connection's key in a token.
    pub(crate) fn to_bit(self) -> bool {
        self == Self::Upstream
    }

    pub(crate) fn from_bit(bit: bool) -> Self {
        if bit { Self::Upstream } else { Self::Client }
    }
}

/// Which backends were tried. It keeps the group it began with, since the
/// indices mean nothing in another one.
#[derive(Debug)]
struct Attempts {
    group: Arc<Group>,
    tried: Tried,
}

/// What the connection's thread has to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Wait for events.
    Wait,
    /// It had its share of the turn: step it again after the others.
    Yield,
    /// It may be given a backend of this group.
    Greeted(Option<String>),
    /// The backend did not accept: connect to the next one.
    Connect,
    /// The backend accepted: the connect timeout no longer applies.
    Connected,
    /// Close it.
    End(End),
}

/// Bytes that were passed on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Delivered {
    pub(crate) to_backend_bytes: u64,
    pub(crate) to_client_bytes: u64,
}

impl Connection {
    pub(crate) fn new(
        socket: OwnedFd,
        client_address: SocketAddr,
        place: Place,
        first: Stage,
        life: Lifetime,
    ) -> Self {
        Self {
            client: Side::new(socket),
            client_address,
            destination: None,
            upstream: None,
            lease: None,
            attempts: None,
            phase: Phase::Greeting(first),
            to_backend: Flow::default(),
            to_client: Flow::default(),
            deadline_ms: None,
            life,
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

    pub(crate) fn is_relaying(&self) -> bool {
        matches!(self.phase, Phase::Relaying)
    }

    pub(crate) fn is_connecting(&self) -> bool {
        matches!(self.phase, Phase::Connecting)
    }

    /// Bytes passed on since it was opened.
    pub(crate) fn delivered(&self) -> Delivered {
        Delivered {
            to_backend_bytes: self.to_backend.delivered_bytes(),
            to_client_bytes: self.to_client.delivered_bytes(),
        }
    }

    /// Lets it look for a backend in a group.
    pub(crate) fn set_group(&mut self, group: Arc<Group>) {
        self.attempts = Some(Attempts { group, tried: Tried::default() });
        self.phase = Phase::Connecting;
    }

    /// Leases the next backend that was not tried yet, and its address.
    pub(crate) fn lease_next(&mut self, random: u64, now_ns: u64) -> Result<SocketAddr, Lacking> {
        self.upstream = None;
        let Some(attempts) = &mut self.attempts else { return Err(Lacking::Backend) };
        let key = Some(client_key(self.client_address));
        let input = PickInput { random, now_ns, key };
        let lease = attempts.group.lease(&input, &mut attempts.tried)?;
        let address = lease.upstream().address;
        self.lease = Some(lease);
        Ok(address)
    }

    /// Whether a backend has accepted it before, and reset it.
    pub(crate) fn was_refused_late(&self) -> bool {
        self.awaiting_ns.is_some()
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
    pub(crate) fn step(&mut self, io: &mut Io, options: &ConnectionOptions, now_ns: u64) -> Step {
        match self.phase {
            Phase::Greeting(stage) => self.step_greeting(stage, io, &options.greetings),
            Phase::Connecting => self.step_connecting(options.header_out, now_ns),
            Phase::Relaying => self.step_relaying(io, now_ns),
        }
    }

    fn step_greeting(&mut self, mut stage: Stage, io: &mut Io, greetings: &Greetings) -> Step {
        loop {
            if stage == Stage::Done {
                return Step::Greeted(None);
            }
            if self.client.is_failed() {
                return Step::End(End::ClientReset);
            }
            if !self.client.ready.readable {
                return Step::Wait;
            }
            let length = match self.client.peek(&mut io.scratch[..GREETING_BYTES_MAX]) {
                Received::Bytes(length) => length,
                // A probe of the port, mostly.
                Received::End => return Step::End(End::Closed),
                Received::Nothing if self.client.is_reset() => {
                    return Step::End(End::ClientReset);
                }
                Received::Nothing => return Step::Wait,
            };
            match greetings.judge(stage, &io.scratch[..length]) {
                Verdict::More if self.client.is_ending() => return Step::End(End::BadGreeting),
                Verdict::More => {
                    // The next bytes come with an edge of their own.
                    self.client.ready.readable = false;
                    return Step::Wait;
                }
                Verdict::Header { length, addresses } => {
                    if self.client.receive(&mut io.scratch[..length]) != Received::Bytes(length) {
                        return Step::End(End::BadGreeting);
                    }
                    self.client.ready.readable = true;
                    if let Some(Addresses { source, destination }) = addresses {
                        self.client_address = source;
                        self.destination = Some(destination);
                    }
                    stage = greetings.after_header();
                    self.phase = Phase::Greeting(stage);
                }
                Verdict::Group(group) => return Step::Greeted(group),
                Verdict::Malformed => return Step::End(End::BadGreeting),
            }
        }
    }

    fn step_connecting(&mut self, header_out: Option<ProxyVersion>, now_ns: u64) -> Step {
        // A reset client needs no backend any more.
        if self.client.is_failed() {
            return Step::End(End::ClientReset);
        }
        let Some(upstream) = &self.upstream else { return Step::Wait };
        if upstream.is_failed() {
            return Step::Connect;
        }
        if !upstream.ready.writable {
            return Step::Wait;
        }
        if let Some(version) = header_out
            && !self.send_header(version)
        {
            return Step::Connect;
        }
        self.phase = Phase::Relaying;
        self.awaiting_ns = Some(now_ns);
        if let Some(lease) = &self.lease {
            lease.count_connected();
        }
        Step::Connected
    }

    /// Sends the PROXY header. A socket that has just connected has room for
    /// it, so one that takes less is as good as one that was refused.
    fn send_header(&mut self, version: ProxyVersion) -> bool {
        let source = self.client_address;
        let Some(destination) = self.destination.or_else(|| self.client.local_address()) else {
            return false;
        };
        let Some(upstream) = &mut self.upstream else { return false };
        let header = proxy_protocol::encode(version, Addresses { source, destination });
        upstream.send(&header) == header.len()
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
            self.attempts = None;
            self.life.active_ms = now_ns / 1_000_000;
            // In one step, what went to the client was there before what went to
            // the backend could be answered.
            self.life.is_answer_owed = before.0 != after.0;
            if self.awaiting_ns.is_some() {
                self.watch_first_byte(before.0 == 0, now_ns);
            }
        }
        if self.to_backend.is_blocked() || self.to_client.is_blocked() {
            self.life.is_answer_owed = true;
        }
        if let Some(end) = self.ended() {
            if end == End::BackendReset && self.may_try_another() {
                self.phase = Phase::Connecting;
                return Step::Connect;
            }
            return Step::End(end);
        }
        if there == Paused::ForOthers || back == Paused::ForOthers {
            Step::Yield
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

    /// Whether the client can't tell one backend from the next: nothing was
    /// passed on, and nothing of the client's was read.
    fn may_try_another(&self) -> bool {
        self.attempts.is_some() && self.to_backend.is_untouched() && self.to_client.is_untouched()
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
            // remotes ended, or both went away while being written to.
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

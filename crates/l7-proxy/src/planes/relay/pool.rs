//! The connections from one thread to one backend, as data: which there are,
//! which are leaving, and when another may be made. The worker acts on it.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use h2_wire::connection::StreamKey;
use rustix::io::Errno;
use rustix::net::{SocketFlags, SocketType, sockopt};
use serve::Metrics;

use super::endpoint::Endpoint;
use super::options::OUTPUT_HIGH_BYTES;
use super::slots::Key;
use crate::config::UpstreamLimits;
use crate::metrics::BackendCounters;
use crate::upstreams::{InFlight, Upstream};

/// The connections from one thread to one backend.
pub(super) struct Pool {
    pub(super) upstream: Arc<Upstream>,
    pub(super) counters: BackendCounters,
    /// Its connections, oldest first.
    pub(super) links: Vec<Key>,
    pub(super) backoff: Backoff,
    /// The backend has left the set: its connections end with their calls.
    pub(super) is_retired: bool,
}

impl Pool {
    pub(super) fn new(upstream: Arc<Upstream>, metrics: &Metrics) -> Self {
        let counters = upstream.counters(metrics);
        Self {
            upstream,
            counters,
            links: Vec::new(),
            backoff: Backoff::default(),
            is_retired: false,
        }
    }
}

/// One connection to a backend.
pub(super) struct Link {
    pub(super) endpoint: Endpoint,
    pub(super) pool: Key,
    pub(super) stage: Stage,
    /// Calls that wait for it to be ready.
    pub(super) waiting: VecDeque<Key>,
    /// It takes no more calls: the backend said GOAWAY, it ran out of stream
    /// identifiers, or it has seen too many resets.
    pub(super) is_leaving: bool,
    /// Streams that either side has reset.
    pub(super) resets: u32,
    /// Streams that nobody waits for and whose resets are held back: the
    /// backend may be at work on them, so they count as in flight.
    pub(super) abandoned: Vec<(StreamKey, InFlight)>,
    /// Sweeps in a row that found calls waiting for its send window.
    pub(super) exhausted_sweeps: u32,
    /// When an attempt to connect has taken too long.
    pub(super) connect_by_ns: u64,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// TCP has not connected yet.
    Connecting,
    /// The backend's SETTINGS have not come yet: nothing says before that the
    /// other end speaks HTTP/2.
    Greeting,
    /// It takes calls.
    Ready,
}

impl Link {
    /// Whether a call can be put on it now.
    pub(super) fn has_place(&self) -> bool {
        self.stage == Stage::Ready
            && !self.is_leaving
            && self.exhausted_sweeps < 2
            && self.endpoint.http.can_open()
            && self.endpoint.http.output_len() < OUTPUT_HIGH_BYTES
    }

    /// Whether no call is on it or waits for it.
    pub(super) fn is_idle(&self) -> bool {
        let http = &self.endpoint.http;
        http.open_streams() == http.held_resets() && self.waiting.is_empty()
    }

    /// Lets go of abandoned streams that have ended.
    pub(super) fn prune_abandoned(&mut self) {
        if !self.abandoned.is_empty() {
            let http = &self.endpoint.http;
            self.abandoned.retain(|(stream, _)| http.is_open(*stream));
        }
    }

    /// Whether a call can wait for it.
    pub(super) fn has_room_to_wait(&self, assumed_streams: u32) -> bool {
        self.stage != Stage::Ready && self.waiting.len() < assumed_streams as usize
    }
}

/// When the next attempt to connect may be made.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    rest: Option<(u64, String)>,
}

impl Backoff {
    /// The reason of the last failure, while it is too early to try again.
    pub(super) fn rest(&self, now_ns: u64) -> Option<&str> {
        self.rest.as_ref().filter(|(until_ns, _)| now_ns < *until_ns).map(|(_, reason)| &**reason)
    }

    pub(super) fn fail(
        &mut self,
        now_ns: u64,
        limits: &UpstreamLimits,
        random: u64,
        reason: String,
    ) {
        let pause = pause(self.failures, limits.backoff_min, limits.backoff_max, random);
        self.failures = self.failures.saturating_add(1);
        self.rest = Some((now_ns + pause.as_nanos() as u64, reason));
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// The pause after a failure that `failures` others came before, within 80 to
/// 120 % of its nominal length (the gRPC connection backoff protocol).
fn pause(failures: u32, min: Duration, max: Duration, random: u64) -> Duration {
    let growth = 1.6_f64.powi(failures.min(64) as i32);
    let nominal = (min.as_secs_f64() * growth).min(max.as_secs_f64());
    let jitter = 0.8 + 0.4 * (random as f64 / u64::MAX as f64);
    Duration::from_secs_f64(nominal * jitter)
}

/// A socket that is connecting to a backend.
pub(super) fn connect(upstream: &Upstream) -> Result<OwnedFd, Errno> {
    let address = upstream.addr();
    let family = match address {
        std::net::SocketAddr::V4(_) => rustix::net::AddressFamily::INET,
        std::net::SocketAddr::V6(_) => rustix::net::AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_bound_and_jitter_around_it() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(5));
        let middle = u64::MAX / 2;
        let nominal: Vec<_> =
            (0..4).map(|failures| pause(failures, min, max, middle).as_millis()).collect();
        assert_eq!(nominal, [100, 160, 256, 409]);
        assert_eq!(pause(u32::MAX, min, max, middle), max);
        assert_eq!(pause(0, min, max, 0), Duration::from_millis(80));
        assert_eq!(pause(0, min, max, u64::MAX), Duration::from_millis(120));
    }

    #[test]
    fn nobody_connects_during_the_rest() {
        let limits = UpstreamLimits::default();
        let mut backoff = Backoff::default();
        assert_eq!(backoff.rest(0), None);
        backoff.fail(0, &limits, u64::MAX / 2, "refused".to_owned());
        assert_eq!(backoff.rest(99_000_000), Some("refused"));
        assert_eq!(backoff.rest(101_000_000), None);
        backoff.clear();
        assert_eq!(backoff.rest(0), None);
    }
}

//! Circuit limits: how much may be in flight before a call is refused at once.
//!
//! A backend that is slower than its load fills whatever queue stands before it,
//! and a queue that is long enough fails every call by its deadline. A refusal
//! costs nothing and tells the client at once. Envoy's circuit breakers have the
//! same three limits; their defaults (1,024 each) are not taken over for calls
//! in flight, since a limit that nobody has chosen is found only by failing
//! calls.
//!
//! Calls in flight are counted where the policies count them, over all threads,
//! so that a limit is exact and adds nothing to what a call costs. What waits,
//! and connections, are each thread's own.

use std::fmt;

use serve::{Counter, Metrics};

/// Limits on what is in flight. A call beyond one is offered to another backend
/// where that can help, and ends with status 14 (UNAVAILABLE) where not.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Circuit limits")]
pub struct CircuitLimits {
    /// Calls in flight on one backend, over all threads. Unlimited unless given.
    #[arg(long, value_name = "N")]
    pub backend_max_requests: Option<u32>,

    /// Calls in flight on all backends together, over all threads. Unlimited
    /// unless given.
    #[arg(long, value_name = "N")]
    pub max_requests: Option<u32>,

    /// Calls of one thread that may wait for a place at one backend: for a
    /// connection to be made, or for one to take a further call.
    #[arg(long, value_name = "N", default_value_t = 1_024)]
    pub backend_max_pending: u32,

    /// Calls of one thread that may wait for a place at any backend.
    #[arg(long, value_name = "N", default_value_t = 4_096)]
    pub max_pending: u32,

    /// Share of one client in the places that backends have (connections times
    /// streams, on each thread). Once more than half of them are taken, an
    /// address may hold N times as many as are free, and each connection N
    /// times what is then left to its address, or one: with 8, a client that is
    /// alone gets eight of nine. Calls beyond wait, as many as max-pending, until
    /// their client holds fewer. This bound is kept by the relay data plane.
    #[arg(long, value_name = "N", default_value_t = 8)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub client_share: u32,

    /// Connections of one thread to all backends together. Unlimited unless
    /// given; for one backend, see backend-max-connections.
    #[arg(long, value_name = "N")]
    pub max_backend_connections: Option<u32>,
}

/// A limit that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Calls in flight on a backend.
    BackendRequests,
    /// Calls in flight on all backends.
    Requests,
    /// Calls that wait for a backend.
    BackendPending,
    /// Calls that wait for any backend.
    Pending,
    /// Connections to all backends.
    Connections,
    /// Places that one client holds at the backends.
    ClientShare,
}

impl Limit {
    /// All limits, in the order of the counters.
    pub const ALL: [Self; 6] = [
        Self::BackendRequests,
        Self::Requests,
        Self::BackendPending,
        Self::Pending,
        Self::Connections,
        Self::ClientShare,
    ];

    /// The value of the `limit` label, and the flag that sets it.
    pub fn name(self) -> &'static str {
        match self {
            Self::BackendRequests => "backend-max-requests",
            Self::Requests => "max-requests",
            Self::BackendPending => "backend-max-pending",
            Self::Pending => "max-pending",
            Self::Connections => "max-backend-connections",
            Self::ClientShare => "client-share",
        }
    }

    /// Whether another backend may have room, or a connection, where this one has
    /// none.
    pub(crate) fn spares_others(self) -> bool {
        matches!(self, Self::BackendRequests | Self::BackendPending | Self::Connections)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            Self::BackendRequests => "it has all the calls it may have in flight",
            Self::Requests => "the backends have all the calls they may have in flight",
            Self::BackendPending => "all the calls that may wait for it do",
            Self::Pending => "all the calls that may wait for a place do",
            Self::Connections => "the proxy has all the connections it may have",
            Self::ClientShare => "this client has its share of the places at the backends",
        };
        write!(f, "{what} ({})", self.name())
    }
}

impl CircuitLimits {
    /// Whether a call that is counted already may stay in flight. `total` is
    /// only asked for when there is a limit on it.
    ///
    /// # Errors
    /// The limit that it is beyond.
    #[inline]
    pub(crate) fn check_requests(
        &self,
        backend: u32,
        total: impl FnOnce() -> u32,
    ) -> Result<(), Limit> {
        if self.backend_max_requests.is_some_and(|max| backend > max) {
            return Err(Limit::BackendRequests);
        }
        if self.max_requests.is_some_and(|max| total() > max) {
            return Err(Limit::Requests);
        }
        Ok(())
    }

    /// Whether one more call may wait, given those that do.
    ///
    /// # Errors
    /// The limit that it would be beyond.
    pub(crate) fn check_pending(&self, backend: u32, total: u32) -> Result<(), Limit> {
        if backend >= self.backend_max_pending {
            return Err(Limit::BackendPending);
        }
        if total >= self.max_pending {
            return Err(Limit::Pending);
        }
        Ok(())
    }

    /// Whether one more connection may be made, given those there are.
    ///
    /// # Errors
    /// The limit that it would be beyond.
    pub(crate) fn check_connections(&self, total: u32) -> Result<(), Limit> {
        match self.max_backend_connections {
            Some(max) if total >= max => Err(Limit::Connections),
            _ => Ok(()),
        }
    }
}

/// One thread's counts of refusals.
#[derive(Debug)]
pub struct CircuitCounters([Counter; Limit::ALL.len()]);

impl CircuitCounters {
    /// Registers the counts.
    pub fn register(metrics: &Metrics) -> Self {
        Self(Limit::ALL.map(|limit| {
            metrics.counter_shard(
                "l7_circuit_refusals_total",
                "Attempts that a circuit limit refused, by the flag that sets it.",
                &[("limit", limit.name())],
            )
        }))
    }

    /// Counts a refusal.
    pub fn count(&self, limit: Limit) {
        self.0[limit as usize].inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> CircuitLimits {
        CircuitLimits {
            backend_max_requests: Some(2),
            max_requests: Some(3),
            backend_max_pending: 1,
            max_pending: 2,
            client_share: 8,
            max_backend_connections: Some(4),
        }
    }

    #[test]
    fn a_call_that_is_counted_may_be_the_last_that_fits() {
        let limits = limits();
        assert_eq!(limits.check_requests(2, || 3), Ok(()));
        assert_eq!(limits.check_requests(3, || 3), Err(Limit::BackendRequests));
        assert_eq!(limits.check_requests(2, || 4), Err(Limit::Requests));
    }

    #[test]
    fn what_is_yet_to_be_counted_must_leave_room() {
        let limits = limits();
        assert_eq!(limits.check_pending(0, 1), Ok(()));
        assert_eq!(limits.check_pending(1, 1), Err(Limit::BackendPending));
        assert_eq!(limits.check_pending(0, 2), Err(Limit::Pending));
        assert_eq!(limits.check_connections(3), Ok(()));
        assert_eq!(limits.check_connections(4), Err(Limit::Connections));
    }

    #[test]
    fn calls_and_connections_are_unlimited_unless_a_limit_is_given() {
        let limits = CircuitLimits::default();
        assert_eq!(limits.check_requests(u32::MAX, || panic!("nobody asks")), Ok(()));
        assert_eq!(limits.check_connections(u32::MAX), Ok(()));
        assert!(limits.check_pending(1_024, 0).is_err());
    }

    #[test]
    fn refusals_are_counted_under_their_limits() {
        let metrics = Metrics::new();
        let counters = CircuitCounters::register(&metrics);
        for (index, limit) in Limit::ALL.into_iter().enumerate() {
            assert_eq!(limit as usize, index);
            counters.count(limit);
            let line = format!("l7_circuit_refusals_total{{limit=\"{}\"}} 1\n", limit.name());
            assert!(metrics.expose().contains(&line), "{}", metrics.expose());
        }
    }
}

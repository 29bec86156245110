//! What the proxy counts, in Prometheus' words. Handles are looked up once, per
//! thread and backend, and are plain atomics after that.

use std::sync::Arc;

use serve::{AcceptCounters, Counter, Gauge, Metrics};

use crate::failure::Failure;

/// How an attempt at a call ended. Each attempt is counted once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The backend's answer passed: gRPC status 0, or an HTTP status below 500.
    Ok,
    /// The backend's answer passed, and is an error of the caller's making.
    Error,
    /// The backend's answer passed, and says that the backend failed.
    Fault,
    /// The client went away or reset the stream.
    Cancelled,
    /// The deadline passed.
    Deadline,
    /// The backend reset the stream.
    Reset,
    /// The backend surely did not look at it: REFUSED_STREAM, or beyond the last
    /// stream of a GOAWAY.
    Refused,
    /// The connection broke during the attempt.
    Broken,
    /// There was no connection to put the attempt on.
    Unsent,
}

impl Outcome {
    /// All outcomes, in the order of the counters.
    pub const ALL: [Self; 9] = [
        Self::Ok,
        Self::Error,
        Self::Fault,
        Self::Cancelled,
        Self::Deadline,
        Self::Reset,
        Self::Refused,
        Self::Broken,
        Self::Unsent,
    ];

    /// The value of the `outcome` label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Fault => "fault",
            Self::Cancelled => "cancelled",
            Self::Deadline => "deadline",
            Self::Reset => "reset",
            Self::Refused => "refused",
            Self::Broken => "broken",
            Self::Unsent => "unsent",
        }
    }

    /// What a backend's answer is, by the `grpc-status` that ended it.
    ///
    /// Faults are what maps to 5xx in gRPC's mapping to HTTP, but for
    /// UNIMPLEMENTED: any client can ask for a method that no backend has.
    #[inline]
    pub(crate) fn of_grpc(status: Option<&[u8]>) -> Self {
        match status {
            Some(b"0") => Self::Ok,
            // UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS; and
            // none at all, which a client takes for UNKNOWN.
            Some(b"2" | b"4" | b"13" | b"14" | b"15") | None => Self::Fault,
            Some(_) => Self::Error,
        }
    }

    /// What an answer that is no gRPC is.
    #[inline]
    pub(crate) fn of_http(status: u16) -> Self {
        if status < 500 { Self::Ok } else { Self::Fault }
    }

    /// Whether it speaks for the backend or against it; `None` for neither. A
    /// deadline that passed speaks against it, although a client may have given
    /// it too little: a backend that answers nothing shows in no other way.
    #[inline]
    pub fn verdict(self) -> Option<bool> {
        match self {
            Self::Ok | Self::Error => Some(true),
            Self::Fault | Self::Deadline | Self::Reset | Self::Broken => Some(false),
            // Not sent for want of a connection is counted with the connection.
            Self::Cancelled | Self::Refused | Self::Unsent => None,
        }
    }
}

/// One thread's counts of one backend. Clones share them.
#[derive(Clone, Debug)]
pub struct BackendCounters {
    attempts: [Counter; Outcome::ALL.len()],
    /// Connections to it that are open now.
    pub connections: Gauge,
    /// Connections made.
    pub connects_ok: Counter,
    /// Connections that could not be made.
    pub connects_failed: Counter,
    /// Says that a thread counts here.
    _user: Option<Arc<()>>,
}

impl BackendCounters {
    /// Registers the counts of `backend`.
    pub fn register(metrics: &Metrics, backend: &str) -> Self {
        let connects = |result| {
            metrics.counter_shard(
                "l7_backend_connects_total",
                "Attempts to connect to a backend.",
                &[("backend", backend), ("result", result)],
            )
        };
        Self {
            attempts: Outcome::ALL.map(|outcome| {
                metrics.counter_shard(
                    "l7_calls_total",
                    "Calls handed to a backend, by how they ended; a retry counts again.",
                    &[("backend", backend), ("outcome", outcome.name())],
                )
            }),
            connections: metrics.gauge(
                "l7_backend_connections_open",
                "Connections to a backend that are open now.",
                &[("backend", backend)],
            ),
            connects_ok: connects("ok"),
            connects_failed: connects("failed"),
            _user: None,
        }
    }

    /// The same, with something that tells others whether it is in use.
    pub(crate) fn held_by(self, user: Arc<()>) -> Self {
        Self { _user: Some(user), ..self }
    }

    /// Attempts so far, in the order of [`Outcome::ALL`].
    pub(crate) fn attempts(&self) -> impl Iterator<Item = u64> {
        self.attempts.iter().map(Counter::get)
    }

    /// Counts an attempt that ended.
    pub fn count(&self, outcome: Outcome) {
        self.attempts[outcome as usize].inc();
    }
}

/// One thread's counts of what no backend's counts show.
#[derive(Debug)]
pub struct ProxyCounters {
    /// Calls that were sent again, safely, to another backend.
    pub retries: Counter,
    no_backend: Counter,
    circuit: Counter,
    headers_too_large: Counter,
    malformed_timeout: Counter,
    proxy_loop: Counter,
    not_grpc: Counter,
}

impl ProxyCounters {
    /// Registers the counts.
    pub fn register(metrics: &Metrics) -> Self {
        let rejected = |reason| {
            metrics.counter_shard(
                "l7_rejected_total",
                "Calls that were answered without asking any backend.",
                &[("reason", reason)],
            )
        };
        Self {
            retries: metrics.counter_shard(
                "l7_retries_total",
                "Calls that were sent again to another backend.",
                &[],
            ),
            no_backend: rejected("no_backend"),
            circuit: rejected("circuit"),
            headers_too_large: rejected("headers_too_large"),
            malformed_timeout: rejected("malformed_timeout"),
            proxy_loop: rejected("loop"),
            not_grpc: rejected("not_grpc"),
        }
    }

    /// Counts a failure that no backend had a part in; others are counted
    /// where they are seen.
    pub(crate) fn count_rejection(&self, failure: &Failure) {
        match failure {
            Failure::NoBackend => self.no_backend.inc(),
            Failure::HeadersTooLarge => self.headers_too_large.inc(),
            Failure::MalformedTimeout => self.malformed_timeout.inc(),
            Failure::Loop => self.proxy_loop.inc(),
            Failure::NotGrpc => self.not_grpc.inc(),
            Failure::CircuitOpen { .. } => self.circuit.inc(),
            Failure::Overload { .. }
            | Failure::Connect { .. }
            | Failure::BackendBroke { .. }
            | Failure::BackendReset { .. }
            | Failure::Deadline => {}
        }
    }
}

/// Why the proxy ended a connection that the other end wanted to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Too many streams were reset.
    ResetFlood,
    /// Too many frames came that cost the client nothing.
    ControlFlood,
    /// No preface and SETTINGS came.
    HandshakeTimeout,
    /// A frame or header block began and did not end.
    FrameTimeout,
    /// The other end takes nothing of what waits for it.
    WriteStall,
    /// There was no call for too long.
    Idle,
    /// It broke the protocol, or the bounds that the HTTP/2 library keeps.
    Protocol,
}

impl Ending {
    /// All endings, in the order of the counters.
    pub const ALL: [Self; 7] = [
        Self::ResetFlood,
        Self::ControlFlood,
        Self::HandshakeTimeout,
        Self::FrameTimeout,
        Self::WriteStall,
        Self::Idle,
        Self::Protocol,
    ];

    /// The value of the `reason` label.
    pub fn name(self) -> &'static str {
        match self {
            Self::ResetFlood => "reset_flood",
            Self::ControlFlood => "control_flood",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::FrameTimeout => "frame_timeout",
            Self::WriteStall => "write_stall",
            Self::Idle => "idle",
            Self::Protocol => "protocol",
        }
    }
}

/// One thread's counts of clients that were stopped. Clones share them.
#[derive(Clone, Debug)]
pub struct GuardCounters {
    endings: [Counter; Ending::ALL.len()],
    backend_endings: [Counter; Ending::ALL.len()],
    /// Streams reset because their client took nothing of the response.
    pub stalled_streams: Counter,
    /// Streams reset because too much waited for their client's connection.
    pub overfull_streams: Counter,
    /// 1xx heads that were too many, or that the client had no room for.
    pub dropped_informational: Counter,
    /// Resets held back until a backend had looked at those before.
    pub held_resets: Counter,
    /// Backends' connections that made way for new ones, as many streams were
    /// reset on them.
    pub worn_connections: Counter,
}

impl GuardCounters {
    /// Registers the counts.
    pub fn register(metrics: &Metrics) -> Self {
        let count = |name, help| metrics.counter_shard(name, help, &[]);
        Self {
            endings: Ending::ALL.map(|ending| {
                metrics.counter_shard(
                    "l7_connections_ended_total",
                    "Clients' connections that the proxy ended, by why.",
                    &[("reason", ending.name())],
                )
            }),
            backend_endings: Ending::ALL.map(|ending| {
                metrics.counter_shard(
                    "l7_backend_connections_ended_total",
                    "Backends' connections that the proxy ended, by why.",
                    &[("reason", ending.name())],
                )
            }),
            stalled_streams: count(
                "l7_streams_stalled_total",
                "Streams reset because their client took nothing of the response.",
            ),
            overfull_streams: count(
                "l7_streams_overfull_total",
                "Streams reset because too much waited for their client's connection.",
            ),
            dropped_informational: count(
                "l7_informational_dropped_total",
                "1xx heads dropped: too many for one call, or no room at the client.",
            ),
            held_resets: count(
                "l7_resets_held_total",
                "Resets held back until a backend had looked at those before.",
            ),
            worn_connections: count(
                "l7_connections_worn_total",
                "Backends' connections replaced because many streams were reset on them.",
            ),
        }
    }

    /// Counts a client's connection that was ended.
    pub fn count(&self, ending: Ending) {
        self.endings[ending as usize].inc();
    }

    /// Counts a backend's connection that was ended.
    pub(crate) fn count_backend(&self, ending: Ending) {
        self.backend_endings[ending as usize].inc();
    }
}

/// Registers the counts of clients' connections, which all threads share.
pub(crate) fn accept_counters(metrics: &Metrics) -> AcceptCounters {
    AcceptCounters::register(metrics, "l7_connections")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_are_counted_under_their_names() {
        let metrics = Metrics::new();
        let counters = GuardCounters::register(&metrics);
        for ending in Ending::ALL {
            counters.count(ending);
            let name = ending.name();
            let line = format!("l7_connections_ended_total{{reason=\"{name}\"}} 1\n");
            assert!(metrics.expose().contains(&line), "{}", metrics.expose());
        }
    }

    #[test]
    fn an_answer_is_a_fault_by_its_status() {
        for (status, outcome) in [
            (Some("0"), Outcome::Ok),
            (Some("5"), Outcome::Error),
            (Some("12"), Outcome::Error),
            (Some("14"), Outcome::Fault),
            (Some("2"), Outcome::Fault),
            (None, Outcome::Fault),
        ] {
            assert_eq!(Outcome::of_grpc(status.map(str::as_bytes)), outcome, "{status:?}");
        }
        assert_eq!((Outcome::of_http(404), Outcome::of_http(502)), (Outcome::Ok, Outcome::Fault));
    }

    #[test]
    fn outcomes_are_counted_under_their_names() {
        let metrics = Metrics::new();
        let counters = BackendCounters::register(&metrics, "b");
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index);
            for _ in 0..=index {
                counters.count(outcome);
            }
        }
        let text = metrics.expose();
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            let count = index + 1;
            let name = outcome.name();
            let line = format!("l7_calls_total{{backend=\"b\",outcome=\"{name}\"}} {count}\n");
            assert!(text.contains(&line), "{text}");
        }
    }
}

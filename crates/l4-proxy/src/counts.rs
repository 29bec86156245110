//! What the proxy counts, in Prometheus text.
//!
//! Each thread has cells of its own and adds to them once per turn of its
//! loop, so counting costs nothing per message.

use serve::{Counter, Metrics};

/// How a connection ended. The metrics and the connection log use the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Both sides sent their end.
    Closed,
    /// The client reset the connection.
    ClientReset,
    /// The backend reset the connection.
    BackendReset,
    /// Nothing moved for the idle timeout.
    Idle,
    /// It had had its time, and ended in a quiet moment.
    Aged,
    /// It had had its time and never paused, so it was cut off.
    AgedCut,
    /// No backend accepted.
    NoBackend,
    /// Every backend held as many connections as it may.
    BackendsFull,
    /// Its PROXY header or TLS ClientHello was none, or did not come in time.
    BadGreeting,
    /// This machine had no descriptor, port or memory left for the backend's
    /// side.
    LocalFault,
    /// It was still open when the drain ended.
    CutOff,
}

impl End {
    /// All of them.
    pub(crate) const ALL: [Self; 11] = [
        Self::Closed,
        Self::ClientReset,
        Self::BackendReset,
        Self::Idle,
        Self::Aged,
        Self::AgedCut,
        Self::NoBackend,
        Self::BackendsFull,
        Self::BadGreeting,
        Self::LocalFault,
        Self::CutOff,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::ClientReset => "client_reset",
            Self::BackendReset => "backend_reset",
            Self::Idle => "idle",
            Self::Aged => "aged",
            Self::AgedCut => "aged_cut",
            Self::NoBackend => "no_backend",
            Self::BackendsFull => "backends_full",
            Self::BadGreeting => "bad_greeting",
            Self::LocalFault => "local_fault",
            Self::CutOff => "cut_off",
        }
    }

    /// Whether the stream was cut, so that both sides must see a reset: an
    /// ordinary end would make a truncated stream look whole.
    pub(crate) fn is_cut(self) -> bool {
        !matches!(self, Self::Closed | Self::Idle | Self::Aged)
    }
}

/// One thread's counters.
#[derive(Debug)]
pub(crate) struct Counts {
    pub(crate) accepted: Counter,
    pub(crate) shed_limit: Counter,
    pub(crate) shed_descriptors: Counter,
    pub(crate) accept_errors: Counter,
    pub(crate) to_backend_bytes: Counter,
    pub(crate) to_client_bytes: Counter,
    pub(crate) spliced_bytes: Counter,
    pub(crate) pipes_refused: Counter,
    ended: [Counter; End::ALL.len()],
}

impl Counts {
    /// Cells for one more thread.
    pub(crate) fn register(metrics: &Metrics) -> Self {
        let shed = |reason| {
            metrics.counter_shard(
                "l4_connections_shed_total",
                "Connections reset at once because they could not be served.",
                &[("reason", reason)],
            )
        };
        let bytes = |direction| {
            metrics.counter_shard("l4_bytes_total", "Bytes passed on.", &[("direction", direction)])
        };
        Self {
            accepted: metrics.counter_shard(
                "l4_connections_accepted_total",
                "Connections accepted to be served.",
                &[],
            ),
            shed_limit: shed("connection_limit"),
            shed_descriptors: shed("no_descriptor"),
            accept_errors: metrics.counter_shard(
                "l4_accept_errors_total",
                "Failures of accept(2), those of single connections included.",
                &[],
            ),
            to_backend_bytes: bytes("to_backend"),
            to_client_bytes: bytes("to_client"),
            spliced_bytes: metrics.counter_shard(
                "l4_spliced_bytes_total",
                "Bytes passed on by splicing, in both directions; the others were copied.",
                &[],
            ),
            pipes_refused: metrics.counter_shard(
                "l4_pipes_refused_total",
                "Moves that copied and would have spliced, had there been a pipe.",
                &[],
            ),
            ended: End::ALL.map(|end| {
                metrics.counter_shard(
                    "l4_connections_ended_total",
                    "Connections that ended, by what ended them.",
                    &[("end", end.name())],
                )
            }),
        }
    }

    pub(crate) fn count_end(&self, end: End) {
        self.ended[end as usize].inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_is_listed_under_its_own_number_and_name() {
        for (index, end) in End::ALL.into_iter().enumerate() {
            assert_eq!(end as usize, index);
            assert_eq!(End::ALL.iter().filter(|other| other.name() == end.name()).count(), 1);
        }
    }
}

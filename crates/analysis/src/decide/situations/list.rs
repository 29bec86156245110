//! Every situation: when it is given, which scenario asks, and by what it is judged; never
//! what comes out.

use measure::figure::Figure;

use crate::decide::{fleets, run_view::RunView, sweeps};

/// What a scenario is judged by.
#[derive(Clone, Copy, Debug)]
pub(super) enum By {
    /// Tail latency and lost calls.
    Tail,
    /// How evenly calls were spread: where latencies are those of whole streams.
    Shares,
    /// Lost calls, and how long until calls were in balance again.
    Change,
    /// Which policy has the lowest latency of this kind; else by the tail.
    Policy(Figure),
    /// From how many connections on, or which payload, or at which rate.
    Sweep(fn(&[&RunView<'_>]) -> Option<sweeps::Judged>, &'static str),
    /// What becomes of a policy in a fleet of balancers: its sentence, and what else there is
    /// to say.
    Fleet(fn(&[&RunView<'_>]) -> Option<fleets::Judgement>, &'static str),
    /// The highest rate under an objective.
    Search,
}

/// A situation: when it is given, and the scenario that shows it.
pub(super) struct Entry {
    pub(super) scenario: &'static str,
    pub(super) when: &'static str,
    pub(super) by: By,
}

/// Every situation, in the order they are told.
pub(super) const SITUATIONS: &[Entry] = &[
    Entry {
        scenario: "single-conn-flood",
        when: "One client sends all its calls over one connection",
        by: By::Tail,
    },
    Entry { scenario: "few-conns", when: "Fewer client connections than backends", by: By::Tail },
    Entry { scenario: "many-conns", when: "Many connections, all equally busy", by: By::Tail },
    Entry {
        scenario: "skewed-clients",
        when: "A few heavy clients among many light ones",
        by: By::Tail,
    },
    Entry {
        scenario: "connection-churn",
        when: "Connections come and go all the time",
        by: By::Tail,
    },
    Entry {
        scenario: "max-connection-age",
        when: "Backends close old connections, as a remedy behind L4",
        by: By::Tail,
    },
    Entry {
        scenario: "elephants-and-mice",
        when: "Some calls take far longer than most",
        // The p99 is that of the long calls themselves.
        by: By::Policy(Figure::LatencyP90),
    },
    Entry {
        scenario: "slow-backend",
        when: "One backend is slower than the others",
        by: By::Policy(Figure::LatencyP99),
    },
    Entry { scenario: "long-streams", when: "Long streams carry the traffic", by: By::Shares },
    Entry { scenario: "backend-crash", when: "A backend dies under load", by: By::Change },
    Entry { scenario: "scale-out", when: "A backend joins under load", by: By::Change },
    Entry { scenario: "rolling-restart", when: "Backends are restarted in turn", by: By::Change },
    Entry {
        scenario: "connection-sweep",
        when: "How many connections L4 needs to be even",
        by: By::Sweep(sweeps::over_connections, "latency-percentiles"),
    },
    Entry {
        scenario: "payload-sweep",
        when: "From which message size on parsing costs little",
        by: By::Sweep(sweeps::over_payload, "cpu-per-call"),
    },
    Entry {
        scenario: "cost-of-l7",
        when: "What parsing costs at different rates",
        by: By::Sweep(sweeps::over_rate, "cpu-per-call"),
    },
    Entry {
        scenario: "tls-price",
        when: "TLS on both sides",
        by: By::Sweep(sweeps::over_tls, "cpu-per-call"),
    },
    Entry {
        scenario: "many-balancers",
        when: "Several balancers share the load and know nothing of each other",
        by: By::Fleet(fleets::over_size, "latency-percentiles"),
    },
    Entry {
        scenario: "many-threads",
        when: "A balancer runs on several threads",
        by: By::Fleet(fleets::over_size, "latency-percentiles"),
    },
    Entry {
        scenario: "subsets",
        when: "Each balancer of a fleet uses some of the backends",
        by: By::Fleet(fleets::over_subsets, "shares"),
    },
    Entry {
        scenario: "zones",
        when: "Backends and clients are in several zones",
        by: By::Fleet(fleets::over_zones, "zones"),
    },
    Entry {
        scenario: "saturation",
        when: "How much load each sustains under a latency objective",
        by: By::Search,
    },
];

/// The scenarios of the situations.
pub fn scenarios() -> impl Iterator<Item = &'static str> {
    SITUATIONS.iter().map(|entry| entry.scenario)
}

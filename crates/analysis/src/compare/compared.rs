//! The figures that runs are compared by, and what they move by without any reason.

use measure::figure::Figure;
use schemars::JsonSchema;
use serde::Serialize;

/// What equal runs on one machine move by, as a standard deviation. Two runs can't
/// show it; it is known from many.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Moves {
    /// Of CPU per call, as a fraction of it.
    pub cpu: f64,
    /// Of a latency, in nanoseconds: what moves are the wake-ups and the work on a
    /// call's way, and they cost the same whether the service takes long or not.
    pub latency_ns: f64,
}

impl Default for Moves {
    /// What was seen on a shared virtual machine of 2 cores at 500 calls a second, over
    /// six equal runs within two minutes: CPU per call of the proxy 82 to 128 µs, of
    /// the backends 103 to 138 µs, and p50 of a service of 5 ms from 5.21 to 5.26 ms.
    fn default() -> Self {
        Self { cpu: 0.15, latency_ns: 25_000.0 }
    }
}

impl Moves {
    /// As a fraction of a figure whose median is `middle`.
    pub(super) fn of(self, kind: Kind, middle: f64) -> f64 {
        match kind {
            Kind::Latency if middle > 0.0 => self.latency_ns / middle,
            Kind::Cpu => self.cpu,
            Kind::Latency | Kind::Count => 0.0,
        }
    }
}

/// What a figure is of, which decides how it moves between runs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Latency,
    Cpu,
    /// Counted calls: the machine has no part in them until it is too slow.
    Count,
}

/// A figure that runs are compared by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Compared {
    pub(super) figure: Figure,
    pub(super) title: &'static str,
    pub(super) kind: Kind,
}

pub(super) const COMPARED: &[Compared] = &[
    Compared::latency(Figure::LatencyP50, "latency p50"),
    Compared::latency(Figure::LatencyP90, "latency p90"),
    Compared::latency(Figure::LatencyP99, "latency p99"),
    Compared::cpu(Figure::ProxyCpuPerCall, "proxy CPU per call"),
    Compared::cpu(Figure::BackendCpuPerCall, "backend CPU per call"),
    // What equal runs move by in these is not known; less than in CPU time.
    Compared::cpu(Figure::ProxyInstructionsPerCall, "proxy instructions per call"),
    Compared::cpu(Figure::BackendInstructionsPerCall, "backend instructions per call"),
    Compared { figure: Figure::Throughput, title: "calls per second", kind: Kind::Count },
    Compared { figure: Figure::MaxShare, title: "busiest backend", kind: Kind::Count },
];

impl Compared {
    const fn latency(figure: Figure, title: &'static str) -> Self {
        Self { figure, title, kind: Kind::Latency }
    }

    const fn cpu(figure: Figure, title: &'static str) -> Self {
        Self { figure, title, kind: Kind::Cpu }
    }
}

//! What figures are computed from.

use hdrhistogram::Histogram;

use super::Figure;
use crate::{histogram, machine::ProcessRole};

/// In order of their numbers.
pub(crate) const ROLES: [ProcessRole; 5] = [
    ProcessRole::Generator,
    ProcessRole::Proxy,
    ProcessRole::Backend,
    ProcessRole::Tap,
    ProcessRole::Links,
];

/// One trial's figures.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Calls per backend, in the run's order.
    pub calls_per_backend: Vec<u64>,
    /// The same over the whole trial, warm-up included, where that is known.
    pub(crate) calls_with_warm_up: Vec<u64>,
    /// Their weights, likewise.
    pub(crate) weights: Vec<f64>,
    /// Calls that a backend of another zone than their client's served, of how many; `None`
    /// where there are no zones.
    pub(crate) crossed: Option<(u64, u64)>,
    /// Successful calls.
    pub ok: u64,
    /// Calls that failed.
    pub failed: u64,
    /// Calls without an answer.
    pub unfinished: u64,
    /// Calls scheduled.
    pub scheduled: u64,
    /// Successful calls within the window, per second of it.
    pub throughput: f64,
    pub(crate) latency: Histogram<u64>,
    pub(crate) latency_wire: Histogram<u64>,
    pub(crate) receipt_delay: Histogram<u64>,
    pub(crate) queued: Histogram<u64>,
    pub(crate) service: Histogram<u64>,
    pub(crate) lateness: Histogram<u64>,
    pub(crate) cpu: [Option<CpuPerCall>; ROLES.len()],
    pub(crate) machine: Option<CpuPerCall>,
    pub(crate) instructions: [Option<InstructionsPerCall>; ROLES.len()],
    pub(crate) payload_bytes: u64,
}

/// The share of successful calls of which the latency on the wire has to be known.
const KNOWN_ON_WIRE: f64 = 0.99;

/// CPU time per completed call, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CpuPerCall {
    /// In user mode.
    pub user_ns: f64,
    /// In the kernel.
    pub system_ns: f64,
}

impl CpuPerCall {
    /// Both together.
    pub fn total_ns(&self) -> f64 {
        self.user_ns + self.system_ns
    }
}

/// Instructions per completed call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct InstructionsPerCall {
    pub(crate) user: f64,
    pub(crate) kernel: f64,
}

impl Figures {
    /// CPU time per call of the whole machine, whoever spent it: also what the
    /// kernel does for nobody's process, and what has nothing to do with the
    /// lab. `None` without a call or a reading.
    pub fn machine(&self) -> Option<CpuPerCall> {
        self.machine
    }

    /// CPU time per call of all processes of a role together; `None` when there
    /// is no such process or no call.
    pub fn cpu(&self, role: ProcessRole) -> Option<CpuPerCall> {
        self.cpu[role as usize]
    }

    /// Instructions per call of all processes of a role together; `None` where those of one
    /// are not known.
    pub(super) fn instructions(&self, role: ProcessRole) -> Option<InstructionsPerCall> {
        self.instructions[role as usize]
    }

    /// Share of calls per backend; empty when no call was successful.
    pub fn shares(&self) -> Vec<f64> {
        let sum: u64 = self.calls_per_backend.iter().sum();
        if sum == 0 {
            return Vec::new();
        }
        self.calls_per_backend.iter().map(|&calls| calls as f64 / sum as f64).collect()
    }

    /// Latency at a quantile in nanoseconds; `None` without a call.
    pub fn latency_ns(&self, quantile: f64) -> Option<f64> {
        value_at(&self.latency, quantile)
    }

    /// The latency histogram.
    pub fn latency(&self) -> &Histogram<u64> {
        &self.latency
    }

    /// A figure; `None` where it has no value in this trial.
    pub fn get(&self, figure: Figure) -> Option<f64> {
        figure.compute(self)
    }

    /// Latency on the wire at a quantile; `None` unless it is known of nearly all calls,
    /// since those of which it isn't may not be like the others.
    pub(super) fn wire_ns(&self, quantile: f64) -> Option<f64> {
        let enough = self.latency_wire.len() as f64 >= KNOWN_ON_WIRE * self.ok as f64;
        value_at(&self.latency_wire, quantile).filter(|_| enough)
    }

    /// The counts, where there is at least one call to count.
    pub(super) fn counts(&self) -> Option<&[u64]> {
        (self.ok > 0).then_some(self.calls_per_backend.as_slice())
    }

    /// How far the busiest backend is ahead of the idlest, in calls of the whole trial.
    pub(super) fn spread(&self) -> Option<u64> {
        let of = &self.calls_with_warm_up;
        (self.ok > 0).then(|| Some(of.iter().max()? - of.iter().min()?))?
    }

    /// The part of the calls that crossed zones, where there are any.
    pub(super) fn crossed_share(&self) -> Option<f64> {
        let (crossed, all) = self.crossed.filter(|(_, all)| *all > 0)?;
        Some(crossed as f64 / all as f64)
    }

    /// A part of the calls scheduled.
    pub(super) fn of_scheduled(&self, calls: u64) -> Option<f64> {
        (self.scheduled > 0).then(|| calls as f64 / self.scheduled as f64)
    }

    /// What a cost per call comes to for a GiB of payload; `None` where calls carry
    /// none.
    pub(super) fn per_gib(&self, ns_per_call: f64) -> Option<f64> {
        const GIB: f64 = (1_u64 << 30) as f64;
        (self.payload_bytes > 0).then(|| ns_per_call * GIB / self.payload_bytes as f64)
    }

    pub(super) fn cpu_ns(&self, role: ProcessRole) -> Option<f64> {
        self.cpu(role).map(|cpu| cpu.total_ns())
    }

    /// Client, balancer and backends together: what is left of a balancer that has
    /// no process, where the kernel bills its work to whoever it interrupts.
    pub(super) fn lab_cpu_ns(&self) -> Option<f64> {
        let all = [ProcessRole::Generator, ProcessRole::Proxy, ProcessRole::Backend];
        all.into_iter().filter_map(|role| self.cpu_ns(role)).reduce(|sum, one| sum + one)
    }
}

/// The value that a part of all values stays within; `None` without a value.
pub(super) fn value_at(histogram: &Histogram<u64>, quantile: f64) -> Option<f64> {
    histogram::quantile(histogram, quantile).map(|value| value as f64)
}

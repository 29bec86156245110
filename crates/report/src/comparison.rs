//! The comparison: the figures peers are compared by, as one list for the page
//! and the terminal.

use crate::{
    format,
    model::{Estimate, Model, PeerView},
};

/// A figure that peers are compared by.
pub(crate) struct Column {
    /// Its name in the terminal.
    pub(crate) short: &'static str,
    /// Its name in the page.
    pub(crate) head: &'static str,
    /// What it is, for the page.
    pub(crate) hint: &'static str,
    /// Whether it is a latency, which a closed loop's must say of itself.
    pub(crate) is_latency: bool,
    /// Whether it has more in it than the proxy ([`Model::shows_machine`]).
    pub(crate) is_machine: bool,
    /// Takes it from a peer.
    pub(crate) value: fn(&PeerView<'_>) -> Option<Estimate>,
    /// Writes one value.
    pub(crate) show: fn(f64) -> String,
    /// Writes the ends of an interval.
    pub(crate) show_range: fn(f64, f64) -> String,
}

impl Column {
    /// Its name in the terminal.
    pub(crate) fn short(&self, model: &Model<'_>) -> String {
        self.named(self.short, model)
    }

    /// Its name in the page.
    pub(crate) fn head(&self, model: &Model<'_>) -> String {
        self.named(self.head, model)
    }

    fn named(&self, name: &str, model: &Model<'_>) -> String {
        format!("{}{name}", if self.is_latency { model.loop_word() } else { "" })
    }
}

/// The figures, in order.
pub(crate) const COLUMNS: &[Column] = &[
    Column {
        short: "max share",
        head: "Busiest backend",
        hint: "Largest share of calls that one backend got",
        is_latency: false,
        is_machine: false,
        value: |peer| peer.estimate("max_share"),
        show: format::share,
        show_range: |low, high| plain_range(format::share(low), format::share(high)),
    },
    Column {
        short: "calls/s",
        head: "Calls/s",
        hint: "Calls that came back well within the window, per second",
        is_latency: false,
        is_machine: false,
        value: |peer| peer.estimate("throughput"),
        show: format::number,
        show_range: |low, high| plain_range(format::number(low), format::number(high)),
    },
    Column {
        short: "p50",
        head: "p50",
        hint: "Half of the calls were at least this fast",
        is_latency: true,
        is_machine: false,
        value: |peer| peer.estimate("latency_p50"),
        show: format::duration,
        show_range: format::duration_range,
    },
    Column {
        short: "p99",
        head: "p99",
        hint: "99 of 100 calls were at least this fast",
        is_latency: true,
        is_machine: false,
        value: |peer| peer.estimate("latency_p99"),
        show: format::duration,
        show_range: format::duration_range,
    },
    Column {
        short: "p99.9",
        head: "p99.9",
        hint: "999 of 1,000 calls were at least this fast; needs 10,000 calls a trial",
        is_latency: true,
        is_machine: false,
        value: rare_latency,
        show: format::duration,
        show_range: format::duration_range,
    },
    Column {
        short: "proxy CPU",
        head: "Proxy CPU per call",
        hint: "CPU time of the proxy per call that came back well",
        is_latency: false,
        is_machine: false,
        value: |peer| peer.estimate("proxy_cpu_per_call"),
        show: format::duration,
        show_range: format::duration_range,
    },
    Column {
        short: "lab CPU",
        head: "Lab CPU per call",
        hint: "CPU time of client, balancer and backends together per call; a kernel that counts \
               interrupts apart leaves its own work out of it",
        is_latency: false,
        is_machine: true,
        value: |peer| peer.estimate("lab_cpu_per_call"),
        show: format::duration,
        show_range: format::duration_range,
    },
    Column {
        short: "machine CPU",
        head: "Machine CPU per call",
        hint: "CPU time of the whole machine per call: client, balancer and backends, what the \
               kernel did for them, and whatever else ran",
        is_latency: false,
        is_machine: true,
        value: |peer| peer.estimate("machine_cpu_per_call"),
        show: format::duration,
        show_range: format::duration_range,
    },
];

/// The figures that belong to a run's kind of network.
pub(crate) fn shown(model: &Model<'_>) -> Vec<&'static Column> {
    let belongs = |column: &&Column| model.shows_machine() || !column.is_machine;
    COLUMNS.iter().filter(belongs).collect()
}

/// The figures that at least one peer has; the others say nothing.
pub(crate) fn used(model: &Model<'_>) -> Vec<&'static Column> {
    let says = |column: &&Column| model.peers.iter().any(|peer| (column.value)(peer).is_some());
    shown(model).into_iter().filter(says).collect()
}

/// The p99.9, where at least ten calls of each trial lie above it.
fn rare_latency(peer: &PeerView<'_>) -> Option<Estimate> {
    let enough = peer.figures().all(|figures| figures.latency().len() >= 10_000);
    if enough { peer.estimate("latency_p999") } else { None }
}

/// Two values around a dash; one when they read the same.
pub(crate) fn plain_range(low: String, high: String) -> String {
    if low == high { low } else { format!("{low} – {high}") }
}

/// Calls of a peer that failed or had no answer, and their share of those
/// scheduled.
pub(crate) fn lost(peer: &PeerView<'_>) -> (u64, f64) {
    let lost = peer.sum(|figures| figures.failed) + peer.sum(|figures| figures.unfinished);
    let scheduled = peer.sum(|figures| figures.scheduled);
    (lost, if scheduled == 0 { 0.0 } else { lost as f64 / scheduled as f64 })
}

/// Warnings of a peer's trials that put figures in doubt.
pub(crate) fn doubts(peer: &PeerView<'_>) -> usize {
    let warnings = peer.trials.iter().flat_map(|trial| &trial.record.warnings);
    warnings.filter(|warning| !warning.is_note()).count()
}

//! The comparison: the figures peers are compared by, as one list for the page
//! and the terminal.

use analysis::model::{Estimate, Model, PeerView};
use measure::{figure::Figure, format};

/// A figure that peers are compared by.
pub(crate) struct Column {
    /// Its name in the terminal.
    pub(crate) short: &'static str,
    /// Its name in the page.
    pub(crate) head: &'static str,
    /// What it is, for the page.
    pub(crate) hint: &'static str,
    pub(crate) figure: Figure,
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

    /// Its value of a peer. The p99.9 has one where at least ten calls of each trial lie
    /// above it.
    pub(crate) fn value(&self, peer: &PeerView<'_>) -> Option<Estimate> {
        let is_rare = self.figure == Figure::LatencyP999;
        let enough = !is_rare || peer.figures().all(|one| one.latency().len() >= 10_000);
        peer.estimate(self.figure).filter(|_| enough)
    }

    /// What stands where it has no value.
    pub(crate) fn without(&self, peer: &PeerView<'_>) -> &'static str {
        let is_hidden = self.figure != Figure::LatencyP999
            && peer.figures().any(|figures| figures.get(self.figure).is_some());
        if peer.overload.is_some() && is_hidden { "overloaded" } else { format::UNKNOWN }
    }

    fn named(&self, name: &str, model: &Model<'_>) -> String {
        format!("{}{name}", model.word(self.figure))
    }
}

/// The share of a peer's calls that failed or had no answer.
pub(crate) fn lost(peer: &PeerView<'_>) -> String {
    match peer.lost() {
        (0, _) => "0".to_owned(),
        (_, share) => format::share(share),
    }
}

/// Figures with more in them than the proxy, shown only where [`Model::shows_machine`]
/// says so.
pub(crate) const OF_ALL: [Figure; 2] = [Figure::LabCpuPerCall, Figure::MachineCpuPerCall];

/// Figures that are shown only where the answer rests on them.
const ON_REQUEST: [Figure; 4] =
    [Figure::MinShare, Figure::CrossZoneShare, Figure::LatencyP90, Figure::BackendCpuPerCall];

/// The figures, in order.
pub(crate) const COLUMNS: &[Column] = &[
    Column {
        short: "max share",
        head: "Busiest backend",
        hint: "Largest share of calls that one backend got",
        figure: Figure::MaxShare,
    },
    Column {
        short: "min share",
        head: "Least busy backend",
        hint: "Smallest share of calls that one backend got",
        figure: Figure::MinShare,
    },
    Column {
        short: "crossed",
        head: "Calls across zones",
        hint: "Share of calls that a backend in another zone than the client's served",
        figure: Figure::CrossZoneShare,
    },
    Column {
        short: "throughput",
        head: "Throughput",
        hint: "Successful calls within the window, per second",
        figure: Figure::Throughput,
    },
    Column {
        short: "p50",
        head: "p50",
        hint: "Half of the calls were at least this fast",
        figure: Figure::LatencyP50,
    },
    Column {
        short: "p90",
        head: "p90",
        hint: "90 of 100 calls were at least this fast",
        figure: Figure::LatencyP90,
    },
    Column {
        short: "p99",
        head: "p99",
        hint: "99 of 100 calls were at least this fast",
        figure: Figure::LatencyP99,
    },
    Column {
        short: "p99.9",
        head: "p99.9",
        hint: "999 of 1,000 calls were at least this fast; needs 10,000 calls a trial",
        figure: Figure::LatencyP999,
    },
    Column {
        short: "proxy CPU",
        head: "Proxy CPU per call",
        hint: "CPU time of the proxy per successful call",
        figure: Figure::ProxyCpuPerCall,
    },
    Column {
        short: "backend CPU",
        head: "Backend CPU per call",
        hint: "CPU time of all backends together per successful call",
        figure: Figure::BackendCpuPerCall,
    },
    Column {
        short: "instructions",
        head: "Proxy instructions per call",
        hint: "Instructions that the proxy executed per successful call, in user mode and in the \
               kernel, as the CPU counts them",
        figure: Figure::ProxyInstructionsPerCall,
    },
    Column {
        short: "in kernel",
        head: "Of these in the kernel",
        hint: "Instructions that the kernel executed for the proxy per successful call",
        figure: Figure::ProxyKernelInstructionsPerCall,
    },
    Column {
        short: "per core",
        head: "Calls/s per core",
        hint: "Calls per second of the proxy's CPU time, with the proxy as the bottleneck",
        figure: Figure::ProxyCallsPerCore,
    },
    Column {
        short: "lab CPU",
        head: "Lab CPU per call",
        hint: "CPU time of client, balancer and backends together per call; without the kernel's own \
               work if it accounts for interrupts separately",
        figure: Figure::LabCpuPerCall,
    },
    Column {
        short: "machine CPU",
        head: "Machine CPU per call",
        hint: "CPU time of the whole machine per call: client, balancer, backends, the kernel's work \
               for them, and anything else that ran",
        figure: Figure::MachineCpuPerCall,
    },
];

/// The figures that belong to a run's kind of network, and to its answer.
pub(crate) fn shown(model: &Model<'_>) -> Vec<&'static Column> {
    let answer = model.run.answer.as_ref();
    let belongs = |column: &&Column| match column.figure {
        Figure::ProxyCallsPerCore => model.run.proxy_quota.is_some(),
        figure if ON_REQUEST.contains(&figure) => answer.is_some_and(|one| one.shows(figure)),
        figure => model.shows_machine() || !OF_ALL.contains(&figure),
    };
    COLUMNS.iter().filter(belongs).collect()
}

/// The figures that at least one peer has; the others say nothing.
pub(crate) fn used(model: &Model<'_>) -> Vec<&'static Column> {
    let says = |column: &&Column| model.peers.iter().any(|peer| column.value(peer).is_some());
    shown(model).into_iter().filter(says).collect()
}

//! The curves over a sweep: which figure each shows, and what stands beside it.

use analysis::{
    fleet::random_subsets,
    model::{Model, PeerView, sweep::Sweep},
    theory::{by_chance_ns, placement},
};
use measure::{figure::Figure, format};

/// A figure that is drawn over a sweep.
#[derive(Debug)]
pub(super) struct Curve {
    pub(super) figure: Figure,
    pub(super) title: &'static str,
    pub(super) note: &'static str,
    pub(super) axis: Axis,
    /// A value on the axis.
    pub(super) tick: fn(f64) -> String,
    pub(super) theory: Option<Theory>,
    /// A value at a point that all peers are held to.
    pub(super) reference: Option<Reference>,
}

/// What theory expects of a peer at a point.
type Theory = fn(&Model<'_>, &PeerView<'_>) -> Option<f64>;
/// What all peers are held to at a point, and its name.
type Reference = fn(&Sweep<'_>, &Model<'_>) -> Option<(f64, &'static str)>;

/// How values lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Axis {
    /// From zero, straight.
    Straight,
    /// In equal ratios.
    Log,
}

const BY_CHANCE: &str = "by chance";

pub(super) const SHARES: Curve = Curve {
    figure: Figure::MaxShare,
    title: "Share of the busiest backend",
    note: "Lower is more even.",
    axis: Axis::Straight,
    tick: |share| format!("{:.0} %", share * 100.0),
    theory: Some(|model, peer| match placement::of(model, peer) {
        Some(placed) => Some(placed.max_share()),
        None => Some(random_subsets(model, peer)?.expected_max_share()),
    }),
    reference: Some(|_, model| Some((model.even_share()?, "even"))),
};

pub(super) const P50: Curve = Curve {
    figure: Figure::LatencyP50,
    title: "latency, median",
    note: "Lower is better.",
    axis: Axis::Log,
    tick: format::duration_tick,
    theory: Some(|model, peer| expected(model, peer, 0)),
    reference: Some(p50_reference),
};

pub(super) const P99: Curve = Curve {
    figure: Figure::LatencyP99,
    title: "latency, p99",
    theory: Some(|model, peer| expected(model, peer, 2)),
    reference: Some(p99_reference),
    ..P50
};

pub(super) const CPU: Curve = Curve {
    figure: Figure::ProxyCpuPerCall,
    title: "Proxy CPU time per call",
    note: "User and system together, per successful call.",
    theory: None,
    reference: None,
    ..P50
};

pub(super) const CPU_PER_GIB: Curve = Curve {
    figure: Figure::ProxyCpuPerGib,
    title: "Proxy CPU time per GiB of payload",
    note: "User and system together, over the payload moved in both directions.",
    ..CPU
};

pub(super) const THROUGHPUT: Curve = Curve {
    figure: Figure::Throughput,
    title: "Successful calls per second",
    note: "Counted within the window.",
    tick: format::tick,
    reference: Some(|_, model| Some((model.run.load.rate?, "offered"))),
    ..CPU
};

/// A quantile of the time in the backends by theory: one of [`analysis::theory::QUANTILES`].
fn expected(model: &Model<'_>, peer: &PeerView<'_>, quantile: usize) -> Option<f64> {
    analysis::theory::of(model, peer).as_ref().as_ref().ok()?.quantiles_ns[quantile]
}

/// What the p99 is held to: the limit of a search, or, of a fleet, what it comes to where
/// balancers know nothing.
fn p99_reference(sweep: &Sweep<'_>, model: &Model<'_>) -> Option<(f64, &'static str)> {
    if sweep.is_of_balancers() {
        return Some((by_chance_ns(model, 0.99)?, BY_CHANCE));
    }
    Some((p99_objective(sweep)?, "objective"))
}

/// Likewise, of a fleet.
fn p50_reference(sweep: &Sweep<'_>, model: &Model<'_>) -> Option<(f64, &'static str)> {
    sweep.is_of_balancers().then(|| by_chance_ns(model, 0.5))?.map(|ns| (ns, BY_CHANCE))
}

/// The limit a search set for the p99.
fn p99_objective(sweep: &Sweep<'_>) -> Option<f64> {
    sweep.search?.slo.iter().find_map(|slo| {
        let rest = slo.trim().trim_start_matches("latency_").strip_prefix("p99")?;
        let rest = rest.trim_start().strip_prefix('<')?.trim_start_matches('=').trim();
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit) = rest.split_at(digits);
        let ns = match unit.trim() {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            _ => return None,
        };
        Some(number.parse::<f64>().ok()? * ns)
    })
}

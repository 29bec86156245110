//! What balancing calls saves in tail latency, in every scenario and for every pair of
//! peers that can be compared: one program in both layers, and the client by itself
//! beside the L4 proxy.

use measure::figure::Figure;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Evidence, Value,
    run_view::{Pair, RunView},
};
use crate::{estimate::Difference, model::Mark, verdict::Verdict};

/// A peer that balances calls beside one that balances connections.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct TailRow {
    /// The run.
    pub evidence: Evidence,
    /// Whether latency counts from the sending, because the loop is closed.
    pub closed_loop: bool,
    /// The peer that balances calls.
    pub calls: String,
    /// Its mark.
    #[serde(skip)]
    pub calls_mark: Mark,
    /// The peer that balances connections.
    pub connections: String,
    /// Its mark.
    #[serde(skip)]
    pub connections_mark: Mark,
    /// Its p99.
    pub connections_p99_ns: Option<Value>,
    /// The other's.
    pub calls_p99_ns: Option<Value>,
    /// What balancing calls saves of the p99, repeat by repeat; negative where it adds.
    pub saved_ns: Option<Value>,
    /// The p99 of balancing calls over that of balancing connections.
    pub ratio: Option<Value>,
    /// What that tells: `lower`, `higher`, `alike`, `inconclusive` or `too_few_repeats`.
    pub verdict: &'static str,
}

pub(super) fn of(views: &[RunView<'_>]) -> Vec<TailRow> {
    let loads = views.iter().filter(|one| one.is_load());
    let keeps_up = |pair: &Pair<'_, '_>| {
        [pair.calls, pair.connections].iter().all(|peer| peer.overload.is_none())
    };
    loads
        .flat_map(|one| pairs(one).into_iter().filter(keeps_up).map(move |pair| row(one, pair)))
        .collect()
}

/// All pairs of a run worth comparing, the one that sentences are about first.
fn pairs<'s, 'a>(view: &'s RunView<'a>) -> Vec<Pair<'s, 'a>> {
    let main = view.pair();
    let mut pairs: Vec<Pair<'s, 'a>> = main.into_iter().chain(view.other_makes()).collect();
    if let (Some(main), Some(client)) = (main, view.client()) {
        pairs.insert(1, Pair { calls: client, connections: main.connections });
    }
    pairs
}

fn row(view: &RunView<'_>, pair: Pair<'_, '_>) -> TailRow {
    let p99 =
        |peer: &crate::model::PeerView<'_>| peer.estimate(Figure::LatencyP99).map(Value::from);
    // Other minus own, so that what is saved is positive.
    let saved = pair.connections.beside(pair.calls, Figure::LatencyP99).difference;
    let beside = pair.calls.beside(pair.connections, Figure::LatencyP99);
    TailRow {
        evidence: view.cite("latency-percentiles"),
        closed_loop: !view.model.open_loop(),
        calls: pair.calls.name.clone(),
        calls_mark: pair.calls.mark,
        connections: pair.connections.name.clone(),
        connections_mark: pair.connections.mark,
        connections_p99_ns: p99(pair.connections),
        calls_p99_ns: p99(pair.calls),
        saved_ns: saved.map(Value::from),
        ratio: beside.ratio.map(Value::of_ratio),
        verdict: match Verdict::of(&beside) {
            Verdict::Better => "lower",
            Verdict::Worse => "higher",
            Verdict::Same => "alike",
            Verdict::Inconclusive if beside.significant == Difference::TooFew => "too_few_repeats",
            Verdict::Inconclusive => "inconclusive",
        },
    }
}

//! What each choice costs in CPU per call.
//!
//! A proxy's cost is its own CPU time per call. A client that balances by itself has
//! no proxy; its cost is what the generator spent more than in the same repeat without
//! any balancer, which holds the bookkeeping and the connections to every backend.
//! All of it is read from one run, the one that was made for it where there is one.

use measure::{figure::Figure, record::Layer};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Evidence, Finding, PEERS, Status, Value,
    policies::beside_best,
    run_view::{RunView, load},
};
use crate::{
    estimate::{Beside, Difference, Estimate},
    findings::Sentence,
    model::{Mark, PeerView},
    verdict::interval_of,
};

/// Scenarios whose load suits the question, the best first.
const SUITED: [&str; 3] = ["capacity", "cost-of-l7", "many-conns"];

/// What each peer costs.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Costs {
    /// The run it is read from.
    pub evidence: Evidence,
    /// Its load in a few words.
    pub load: String,
    /// One a measured peer, the cheapest first.
    pub rows: Vec<CostRow>,
    /// What that says.
    pub findings: Vec<Finding>,
}

/// What one peer costs.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct CostRow {
    /// Its name.
    pub peer: String,
    /// Its layer.
    pub layer: Option<Layer>,
    /// Its mark.
    #[serde(skip)]
    pub mark: Mark,
    /// CPU that balancing takes per call: the proxy's, or what the client spends more.
    pub cpu_per_call_ns: Option<Value>,
    /// Calls per second that a core of the proxy carries, where the run held it to a part of
    /// one.
    pub calls_per_core: Option<Value>,
    /// Whether it is the client's CPU.
    pub is_clients: bool,
    /// Whether the kernel balances, so that no process shows what it costs.
    pub in_kernel: bool,
    /// Cost beside the cheapest of its layer; none for that one itself.
    pub beside_cheapest: Option<Value>,
    /// Whether the two can be told apart; of a client's cost, whether it can be told
    /// from none.
    pub is_significant: bool,
}

/// CPU that balancing takes per call: of a proxy its own, of a client that balances
/// by itself what it spends more than without a balancer.
fn of_balancing(view: &RunView<'_>, peer: &PeerView<'_>) -> Option<Estimate> {
    match peer.setup.map(|setup| setup.layer) {
        Some(Layer::Client) => client_extra(view, peer)?.difference,
        _ => peer.estimate(Figure::ProxyCpuPerCall),
    }
}

/// What a client that balances by itself spends beside one that doesn't.
fn client_extra(view: &RunView<'_>, client: &PeerView<'_>) -> Option<Beside> {
    let direct = view.of_layer(Layer::None).into_iter().next()?;
    if client.overload.is_some() || direct.overload.is_some() {
        return None;
    }
    let (own, other) = client.paired(direct, |figures| figures.get(Figure::GeneratorCpuPerCall));
    let beside = Beside::of(&own, &other);
    let difference = Estimate { interval: interval_of(&own, &other), ..beside.difference? };
    Some(Beside { difference: Some(difference.around(difference.value)), ..beside })
}

pub(super) fn of(views: &[RunView<'_>]) -> Option<Costs> {
    let one = source(views)?;
    let mut rows: Vec<CostRow> = one.model.measured().map(|peer| row(one, peer)).collect();
    let key = |row: &CostRow| row.cpu_per_call_ns.map_or(f64::INFINITY, |value| value.value);
    rows.sort_by(|a, b| key(a).total_cmp(&key(b)));
    let findings = [
        Some(l7_over_l4(one)),
        cheapest(one, Layer::L7),
        cheapest(one, Layer::L4),
        Some(client(one)),
    ];
    Some(Costs {
        evidence: one.cite("cpu-per-call"),
        load: load(&one.model.run),
        rows,
        findings: findings.into_iter().flatten().collect(),
    })
}

/// The run costs are read from: one that suits, else the one with most proxies.
fn source<'s, 'a>(views: &'s [RunView<'a>]) -> Option<&'s RunView<'a>> {
    let proxies = |one: &RunView<'_>| {
        one.model.measured().filter(|peer| peer.estimate(Figure::ProxyCpuPerCall).is_some()).count()
    };
    let suited = SUITED.iter().find_map(|name| {
        let own = views
            .iter()
            .filter(|one| one.scenario() == *name && one.is_plain() && proxies(one) > 0);
        // Of several rates the highest, which is the nearest to a busy proxy.
        let number = |one: &RunView<'_>| one.point.as_ref().and_then(|at| at.number).unwrap_or(0.0);
        own.max_by(|a, b| number(a).total_cmp(&number(b)))
    });
    suited.or_else(|| {
        views.iter().filter(|one| one.is_load() && proxies(one) > 0).max_by_key(|one| proxies(one))
    })
}

fn row(view: &RunView<'_>, peer: &PeerView<'_>) -> CostRow {
    let layer = peer.setup.map(|setup| setup.layer);
    let cost = of_balancing(view, peer);
    let beside = layer
        .and_then(|layer| cheapest_of(view, layer))
        .filter(|cheapest| cheapest.name != peer.name)
        .map(|cheapest| peer.beside(cheapest, Figure::ProxyCpuPerCall));
    CostRow {
        peer: peer.name.clone(),
        layer,
        mark: peer.mark,
        cpu_per_call_ns: cost.map(Value::from),
        calls_per_core: calls_per_core(view, peer).map(Value::from),
        in_kernel: peer.setup.is_some_and(|setup| setup.in_kernel),
        is_clients: layer == Some(Layer::Client),
        beside_cheapest: beside.and_then(|beside| beside.ratio).map(Value::of_ratio),
        is_significant: match layer {
            Some(Layer::Client) => cost.is_some_and(|cost| clear(&cost)),
            _ => beside.is_none_or(|beside| beside.significant == Difference::Greater),
        },
    }
}

/// What a core carries shows where the proxy had no more of it than it could use.
fn calls_per_core(view: &RunView<'_>, peer: &PeerView<'_>) -> Option<Estimate> {
    view.model.run.proxy_quota.and_then(|_| peer.estimate(Figure::ProxyCallsPerCore))
}

fn cheapest_of<'s, 'a>(view: &'s RunView<'a>, layer: Layer) -> Option<&'s PeerView<'a>> {
    let cost = |peer: &PeerView<'_>| peer.estimate(Figure::ProxyCpuPerCall).map(|cost| cost.value);
    let with_cost = view.of_layer(layer).into_iter().filter(|peer| cost(peer).is_some());
    with_cost.min_by(|a, b| cost(a).unwrap_or(0.0).total_cmp(&cost(b).unwrap_or(0.0)))
}

fn l7_over_l4(view: &RunView<'_>) -> Finding {
    const ID: &str = "l7-beside-l4";
    let evidence = vec![view.cite("cpu-per-call")];
    let costs = view.pair().and_then(|pair| {
        let beside = pair.calls.beside(pair.connections, Figure::ProxyCpuPerCall);
        let (calls, connections) = pair.both(Figure::ProxyCpuPerCall)?;
        Some((pair, calls, connections, beside))
    });
    let Some((pair, calls, connections, beside)) = costs else {
        let text = "What L7 costs compared with L4 was not measured: no run has both.";
        return Finding::new(ID, Status::NotMeasured, Sentence::default().text(text), evidence);
    };
    let sentence = Sentence::default()
        .peer(pair.calls)
        .text("'s proxy used ")
        .durations(&calls)
        .text(" of CPU per call and ")
        .peer(pair.connections)
        .text("'s ")
        .durations(&connections);
    let (status, sentence) = match (beside.significant, beside.difference, beside.ratio) {
        (Difference::Greater | Difference::Less, Some(difference), Some(ratio)) => {
            let word = if beside.significant == Difference::Greater { "more" } else { "less" };
            let sentence = sentence
                .text(", ")
                .times(&ratio)
                .text(" as much: ")
                .durations(&difference.magnitude())
                .text(&format!(" {word}"))
                .carried(&view.model, &difference.magnitude())
                .text(&format!(" (measured at {}).", load(&view.model.run)));
            (Status::Conclusive, sentence)
        }
        (Difference::TooFew, ..) => {
            (Status::Inconclusive, sentence.text("; too few repeats for a verdict."))
        }
        _ => (Status::Inconclusive, sentence.text("; there is no significant difference.")),
    };
    Finding::new(ID, status, sentence, evidence)
}

/// Which proxy of a layer takes least CPU; `None` with fewer than two.
fn cheapest(view: &RunView<'_>, layer: Layer) -> Option<Finding> {
    let first = cheapest_of(view, layer)?;
    let mut others = beside_best(first, view.of_layer(layer), Figure::ProxyCpuPerCall);
    others.retain(|(_, beside)| beside.ratio.is_some());
    if others.is_empty() {
        return None;
    }
    let (id, word) = match layer {
        Layer::L7 => ("cheapest-l7", "L7"),
        _ => ("cheapest-l4", "L4"),
    };
    let cost = first.estimate(Figure::ProxyCpuPerCall)?;
    let (dearer, open): (Vec<_>, Vec<_>) =
        others.into_iter().partition(|(_, beside)| beside.significant == Difference::Greater);
    let mut sentence = Sentence::default()
        .text(&format!("Of the {word} proxies "))
        .peer(first)
        .text(" used the least CPU per call, ")
        .durations(&cost);
    for (index, (peer, beside)) in dearer.iter().enumerate() {
        let Some(ratio) = beside.ratio else { continue };
        sentence = sentence.text(if index == 0 { "; " } else { ", " }).peer(peer);
        if index == 0 {
            sentence = sentence.text(" used");
        }
        sentence = sentence.text(" ").times(&ratio);
        if index == 0 {
            sentence = sentence.text(" as much");
        }
    }
    let open_peers: Vec<&PeerView<'_>> = open.iter().map(|(peer, _)| *peer).collect();
    if !open_peers.is_empty() {
        sentence = sentence.text("; no significant difference from it: ").peers(&open_peers);
    }
    let status = if dearer.is_empty() { Status::Inconclusive } else { Status::Conclusive };
    let evidence = vec![view.cite("cpu-per-call")];
    Some(Finding::new(id, status, sentence.text("."), evidence))
}

fn client(view: &RunView<'_>) -> Finding {
    const ID: &str = "cost-of-client";
    let evidence = vec![view.cite("cpu-per-call")];
    let extra = view.client().and_then(|client| Some((client, client_extra(view, client)?)));
    let Some((client, beside)) = extra else {
        let text = format!(
            "What client-side balancing costs the client was not measured there; measure it with \
             cargo run -p loadgen -- --scenario {} --peers {PEERS}.",
            view.scenario()
        );
        return Finding::new(ID, Status::NotMeasured, Sentence::default().text(&text), evidence);
    };
    let sentence = Sentence::default().peer(client);
    let (status, sentence) = match (beside.significant, beside.difference) {
        (Difference::Greater, Some(difference)) if clear(&difference) => (
            Status::Conclusive,
            sentence
                .text(" needs no proxy; the client used ")
                .durations(&difference)
                .text(" more CPU per call than one that does not balance")
                .carried(&view.model, &difference)
                .text(", on the clients' machines."),
        ),
        (Difference::Less, Some(difference)) if clear(&difference) => (
            Status::Conclusive,
            sentence
                .text(" needs no proxy; the client even used ")
                .durations(&difference.magnitude())
                .text(" less CPU per call than one that does not balance."),
        ),
        (_, difference) => {
            let sentence =
                sentence.text(" needs no proxy; whether balancing costs the client CPU is open");
            let range = difference.and_then(|one| one.interval);
            let sentence = match range {
                Some((low, high)) => sentence
                    .text(": the difference per call is between ")
                    .figure(signed(low))
                    .text(" and ")
                    .figure(signed(high)),
                None => sentence.text(" from so few repeats"),
            };
            (Status::Inconclusive, sentence.text("."))
        }
    };
    Finding::new(ID, status, sentence, evidence)
}

/// Whether an interval leaves no doubt that there is a difference.
fn clear(difference: &Estimate) -> bool {
    difference.interval.is_some_and(|(low, high)| low > 0.0 || high < 0.0)
}

fn signed(ns: f64) -> String {
    let shown = measure::format::duration(ns.abs());
    if ns < 0.0 { format!("−{shown}") } else { shown }
}

//! Which policy of one balancer keeps the tail short, where a run compares several.
//!
//! Peers of one program with a policy each are named `l7:p2c`. The one with the lowest
//! figure is put beside each of the others, repeat by repeat.

use measure::figure::Figure;

use super::{Status, run_view::RunView};
use crate::{
    estimate::Beside,
    findings::Sentence,
    model::PeerView,
    verdict::{Verdict, of_verdict},
};

/// What a run says of policies.
pub(super) struct Judgement {
    pub(super) status: Status,
    pub(super) sentence: Sentence,
    /// The policy with the lowest latency and those within 10 % of it.
    pub(super) best: Vec<String>,
}

impl Judgement {
    /// The policies that the data supports; none where it can't tell.
    pub(super) fn supported(self) -> Vec<String> {
        if self.status == Status::Conclusive { self.best } else { Vec::new() }
    }
}

/// What a run says of policies by a latency; `None` where it compares none.
pub(super) fn of(view: &RunView<'_>, figure: Figure) -> Option<Judgement> {
    let program = |peer: &PeerView<'_>| peer.name.split_once(':').map(|(name, _)| name.to_owned());
    let all: Vec<&PeerView<'_>> = view
        .model
        .measured()
        .filter(|peer| program(peer).is_some() && peer.estimate(figure).is_some())
        .collect();
    // The program with most policies; the first of equals.
    let count = |name: &Option<String>| all.iter().filter(|peer| program(peer) == *name).count();
    let most = all.iter().map(|peer| program(peer)).rev().max_by_key(|name| count(name))?;
    let own: Vec<&PeerView<'_>> = all.into_iter().filter(|peer| program(peer) == most).collect();
    let value = |peer: &PeerView<'_>| peer.estimate(figure).map_or(f64::INFINITY, |one| one.value);
    let best = *own.iter().min_by(|a, b| value(a).total_cmp(&value(b)))?;
    let others = beside_best(best, own, figure);
    (!others.is_empty()).then(|| judgement(best, &others, figure, view.model.loop_word()))
}

/// The others of some peers beside the best one, the nearest first.
pub(super) fn beside_best<'p, 'a>(
    best: &PeerView<'a>,
    all: Vec<&'p PeerView<'a>>,
    figure: Figure,
) -> Vec<(&'p PeerView<'a>, Beside)> {
    let others = all.into_iter().filter(|peer| peer.name != best.name);
    let mut others: Vec<_> = others.map(|peer| (peer, peer.beside(best, figure))).collect();
    let centre = |beside: &Beside| beside.ratio.map_or(1.0, |ratio| ratio.centre);
    others.sort_by(|a, b| centre(&a.1).total_cmp(&centre(&b.1)));
    others
}

fn judgement(
    best: &PeerView<'_>,
    others: &[(&PeerView<'_>, Beside)],
    figure: Figure,
    loop_word: &str,
) -> Judgement {
    let of = |wanted: &[Verdict]| of_verdict(others, wanted);
    let (worse, alike) = (of(&[Verdict::Worse]), of(&[Verdict::Same]));
    let open = of(&[Verdict::Inconclusive, Verdict::Better]);
    let word = figure.name().trim_start_matches("latency_");
    let mut sentence =
        Sentence::default().peer(best).text(&format!("'s {loop_word}{word} was lowest"));
    if let Some(estimate) = best.estimate(figure) {
        sentence = sentence.text(", ").durations(&estimate);
    }
    for (index, (peer, beside)) in worse.iter().enumerate() {
        let Some(ratio) = beside.ratio else { continue };
        sentence = sentence.text(if index == 0 { "; " } else { ", " }).peer(peer).text("'s ");
        sentence = sentence.times(&ratio);
        if index == 0 {
            sentence = sentence.text(" that");
        }
    }
    if !alike.is_empty() {
        let peers: Vec<&PeerView<'_>> = alike.iter().map(|(peer, _)| *peer).collect();
        sentence = sentence.text("; within 10 % of it: ").peers(&peers);
    }
    if !open.is_empty() {
        let peers: Vec<&PeerView<'_>> = open.iter().map(|(peer, _)| *peer).collect();
        sentence =
            sentence.text("; whether it is more than 10 % higher is open for ").peers(&peers);
    }
    let is_conclusive = !worse.is_empty() || open.is_empty();
    let policy = |peer: &PeerView<'_>| peer.name.split_once(':').map(|(_, own)| own.to_owned());
    let alike = alike.iter().map(|(peer, _)| *peer);
    Judgement {
        status: Status::of(is_conclusive),
        sentence: sentence.text("."),
        best: [best].into_iter().chain(alike).filter_map(policy).collect(),
    }
}

//! What a fleet of balancers makes of each policy, beside one balancer that sees everything:
//! several balancers, several threads of one, balancers that each use a part of the backends,
//! and balancers in several zones.
//!
//! Points of one run are compared, repeat by repeat. Left out: how many balancers are the
//! right number, since nobody has many of them for their policy's sake.

use measure::{figure::Figure, record::Layer};

use super::{Status, policies, run_view::RunView};
use crate::{
    estimate::{Beside, Estimate, FEWEST_REPEATS},
    findings::Sentence,
    model::PeerView,
    verdict::{Verdict, of_verdict},
};

/// What policies are compared by. Picking well shortens the wait of the usual call; the tail
/// is mostly that of the service time itself.
const FIGURE: Figure = Figure::LatencyP50;

/// What a fleet does.
pub(super) struct Judgement {
    /// Whether the data supports it.
    pub(super) status: Status,
    /// In one sentence.
    pub(super) verdict: Sentence,
    /// What else there is to say.
    pub(super) details: Sentence,
    /// The policies that the data supports.
    pub(super) policies: Vec<String>,
}

/// What more balancers, or more threads, do to each policy that was measured with the fewest
/// and with the most of them.
pub(super) fn over_size(points: &[&RunView<'_>]) -> Option<Judgement> {
    let mut sizes: Vec<(f64, &RunView<'_>)> =
        points.iter().filter_map(|view| Some((view.point.as_ref()?.number?, *view))).collect();
    sizes.sort_by(|a, b| a.0.total_cmp(&b.0));
    let [(_, few), .., (_, many)] = sizes[..] else { return None };
    let changes: Vec<(&PeerView<'_>, Beside)> = balancers(many)
        .filter_map(|own| Some((own, own.beside(few.peer(&own.name)?, FIGURE))))
        .filter(|(_, beside)| beside.ratio.is_some())
        .collect();
    if changes.is_empty() {
        return None;
    }
    let of = |wanted| of_verdict(&changes, &[wanted]);
    let longer = of(Verdict::Worse);
    let (alike, shorter, open) =
        (of(Verdict::Same), of(Verdict::Better), of(Verdict::Inconclusive));
    let word = FIGURE.name().trim_start_matches("latency_");
    let p50 = format!("{}{word}", many.model.loop_word());
    let mut clauses = Vec::new();
    if !longer.is_empty() {
        clauses.push(as_long(&longer, &p50));
    }
    for (peers, before, after) in [
        (&alike, format!("the {p50} of "), " stayed within 10 %"),
        (&shorter, format!("the {p50} of "), " was more than 10 % lower"),
        (&open, format!("whether the {p50} of "), " changed by more than 10 % is open"),
    ] {
        if !peers.is_empty() {
            let peers: Vec<&PeerView<'_>> = peers.iter().map(|(peer, _)| *peer).collect();
            clauses.push(Sentence::default().text(&before).peers(&peers).text(after));
        }
    }
    let opening = Sentence::default()
        .text("With ")
        .figure(many.shown())
        .text(" instead of ")
        .figure(few.shown());
    Some(Judgement {
        status: Status::of(open.len() < changes.len()),
        verdict: joined(opening.text(", "), clauses),
        details: best_at(many, best_at(few, Sentence::default())),
        policies: policies::of(many, FIGURE).map_or_else(Vec::new, policies::Judgement::supported),
    })
}

/// The peers with a balancer.
fn balancers<'s, 'a>(view: &'s RunView<'a>) -> impl Iterator<Item = &'s PeerView<'a>> {
    let balances = |peer: &PeerView<'_>| {
        peer.setup.is_some_and(|setup| matches!(setup.layer, Layer::L4 | Layer::L7))
    };
    view.model.measured().filter(move |peer| balances(peer))
}

/// `a's p50 was 1.50 times as long, b's 1.20 times`, the longest first.
fn as_long(peers: &[(&PeerView<'_>, Beside)], word: &str) -> Sentence {
    let mut ratios: Vec<_> =
        peers.iter().filter_map(|(peer, beside)| Some((*peer, beside.ratio?))).collect();
    ratios.sort_by(|a, b| b.1.centre.total_cmp(&a.1.centre));
    let mut sentence = Sentence::default();
    for (index, (peer, ratio)) in ratios.into_iter().enumerate() {
        sentence = sentence.text(if index == 0 { "" } else { ", " }).peer(peer).text("'s ");
        sentence = match index {
            0 => sentence.text(&format!("{word} was ")).times(&ratio).text(" what it was before"),
            _ => sentence.times(&ratio),
        };
    }
    sentence
}

/// Clauses after an opening, with a full stop.
fn joined(opening: Sentence, clauses: Vec<Sentence>) -> Sentence {
    let mut sentence = opening;
    for (index, clause) in clauses.into_iter().enumerate() {
        sentence = sentence.text(if index == 0 { "" } else { "; " }).followed_by(clause);
    }
    sentence.text(".")
}

/// Which policy was best at a point.
fn best_at(view: &RunView<'_>, sentence: Sentence) -> Sentence {
    let Some(best) = policies::of(view, FIGURE) else { return sentence };
    sentence.start().text("With ").figure(view.shown()).text(", ").followed_by(best.sentence)
}

/// Which way to choose subsets came out most even, and which left backends to nobody.
pub(super) fn over_subsets(points: &[&RunView<'_>]) -> Option<Judgement> {
    let first = balancers(points.first()?).next()?;
    let all: Vec<(&RunView<'_>, &PeerView<'_>, Estimate)> = points
        .iter()
        .filter_map(|view| {
            let own = view.peer(&first.name)?;
            Some((*view, own, own.estimate(Figure::MaxShare)?))
        })
        .collect();
    let best = all.iter().min_by(|a, b| a.2.value.total_cmp(&b.2.value))?;
    let way = |view: &RunView<'_>| view.point.as_ref().map_or("", |point| &*point.value).to_owned();
    let others: Vec<(&RunView<'_>, Beside)> = all
        .iter()
        .filter(|(view, ..)| way(view) != way(best.0))
        .map(|(view, own, _)| (*view, own.beside(best.1, Figure::MaxShare)))
        .collect();
    if others.is_empty() {
        return None;
    }
    let opening = Sentence::default()
        .text("The most even were ")
        .figure(way(best.0))
        .text(" subsets, with ")
        .shares(&best.2)
        .text(" of the calls on the busiest backend");
    let mut clauses = vec![opening];
    for (view, beside) in of_verdict(&others, &[Verdict::Worse]) {
        let Some(ratio) = beside.ratio else { continue };
        let sentence = Sentence::default().text("with ").figure(way(view)).text(" subsets it got ");
        clauses.push(sentence.times(&ratio).text(" as many"));
    }
    let alike = of_verdict(&others, &[Verdict::Same]);
    let open = of_verdict(&others, &[Verdict::Inconclusive, Verdict::Better]);
    for (views, before) in
        [(&alike, "within 10 % of it: "), (&open, "whether by more than 10 % is open for ")]
    {
        let ways: Vec<String> = views.iter().map(|(view, _)| way(view)).collect();
        if !ways.is_empty() {
            clauses.push(Sentence::default().text(before).figure(ways.join(", ")));
        }
    }
    Some(Judgement {
        status: Status::of(open.len() < others.len()),
        verdict: joined(Sentence::default(), clauses),
        details: unused(&all, way),
        policies: Vec::new(),
    })
}

/// The ways by which some backends were in nobody's subset.
fn unused(
    all: &[(&RunView<'_>, &PeerView<'_>, Estimate)],
    way: impl Fn(&RunView<'_>) -> String,
) -> Sentence {
    let mut sentence = Sentence::default();
    for (view, own, _) in all {
        let backends = view.model.run.backends.len();
        let Some(used) = own.estimate(Figure::BackendsUsed) else { continue };
        if used.value < backends as f64 {
            sentence = sentence.start().text("With ").figure(way(view)).text(" subsets, ");
            sentence = sentence.figure(Figure::BackendsUsed.show(used.value));
            sentence = sentence.text(&format!(" of {backends} backends were used."));
        }
    }
    sentence
}

/// How many calls crossed zones at each point, by who balanced them.
pub(super) fn over_zones(points: &[&RunView<'_>]) -> Option<Judgement> {
    let mut clauses = Vec::new();
    let mut details = Sentence::default();
    let mut is_conclusive = true;
    for view in points {
        let all: Vec<(&PeerView<'_>, Estimate)> = view
            .model
            .measured()
            .filter_map(|peer| Some((peer, peer.estimate(Figure::CrossZoneShare)?)))
            .collect();
        let Some((first, others)) = all.split_first() else { continue };
        is_conclusive &= all.iter().all(|(_, share)| share.trials >= FEWEST_REPEATS);
        let at = if clauses.is_empty() { "At " } else { "at " };
        let mut sentence = Sentence::default().text(at).figure(view.shown()).text(", ");
        sentence = sentence.peer(first.0).text(" sent ").shares(&first.1);
        if clauses.is_empty() {
            sentence = sentence.text(" of the calls across zones");
        }
        for (peer, share) in others {
            sentence = sentence.text(", ").peer(peer).text(" ").shares(share);
        }
        clauses.push(sentence);
        details = details.start().text("At ").figure(view.shown());
        details = details.text(", the busiest backend got ");
        for (index, (peer, _)) in all.iter().enumerate() {
            let Some(share) = peer.estimate(Figure::MaxShare) else { continue };
            details = details.text(if index == 0 { "" } else { ", " }).shares(&share);
            details = details.text(if index == 0 { " of the calls with " } else { " with " });
            details = details.peer(peer);
        }
        details = details.text(".");
    }
    if clauses.is_empty() {
        return None;
    }
    let verdict = joined(Sentence::default(), clauses);
    Some(Judgement { status: Status::of(is_conclusive), verdict, details, policies: Vec::new() })
}

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
    verdict::Verdict,
};

/// What policies are compared by. Picking well shortens the wait of the usual call; the tail
/// is mostly that of the service time itself.
const FIGURE: Figure = Figure::LatencyP50;

/// What a fleet does.
pub(super) struct Judgement {
    /// Whether the data tells.
    pub(super) status: Status,
    /// In one sentence.
    pub(super) verdict: Sentence,
    /// What else there is to say.
    pub(super) details: Sentence,
}

/// What more balancers, or more threads, do to each policy that was measured with the fewest
/// and with the most of them.
pub(super) fn over_size(points: &[&RunView<'_>]) -> Option<Judgement> {
    let mut sizes: Vec<(f64, &RunView<'_>)> =
        points.iter().filter_map(|seen| Some((seen.point.as_ref()?.number?, *seen))).collect();
    sizes.sort_by(|a, b| a.0.total_cmp(&b.0));
    let [(_, few), .., (_, many)] = sizes[..] else { return None };
    let changes: Vec<(&PeerView<'_>, Beside)> = balancers(many)
        .filter_map(|own| Some((own, own.beside(few.peer(&own.name)?, FIGURE))))
        .filter(|(_, beside)| beside.ratio.is_some())
        .collect();
    if changes.is_empty() {
        return None;
    }
    let of = |wanted: Verdict| -> Vec<(&PeerView<'_>, Beside)> {
        let is_wanted = |beside: &Beside| Verdict::of(beside) == wanted;
        changes.iter().filter(|(_, beside)| is_wanted(beside)).copied().collect()
    };
    let longer = of(Verdict::Worse);
    let (alike, shorter, open) = (of(Verdict::Same), of(Verdict::Better), of(Verdict::CannotTell));
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
    let tells = open.is_empty() || open.len() < changes.len();
    Some(Judgement {
        status: if tells { Status::Tells } else { Status::CannotTell },
        verdict: joined(opening.text(", "), clauses),
        details: best_at(many, best_at(few, Sentence::default())),
    })
}

/// The peers with a balancer.
fn balancers<'s, 'a>(seen: &'s RunView<'a>) -> impl Iterator<Item = &'s PeerView<'a>> {
    let balances = |peer: &PeerView<'_>| {
        peer.setup.is_some_and(|setup| matches!(setup.layer, Layer::L4 | Layer::L7))
    };
    seen.model.measured().filter(move |peer| balances(peer))
}

/// `a's p50 was 1.50 times as long, b's 1.20 times`, the longest first.
fn as_long(peers: &[(&PeerView<'_>, Beside)], word: &str) -> Sentence {
    let mut ratios: Vec<_> =
        peers.iter().filter_map(|(peer, beside)| Some((*peer, beside.ratio?))).collect();
    ratios.sort_by(|a, b| b.1.centre.total_cmp(&a.1.centre));
    let mut says = Sentence::default();
    for (index, (peer, ratio)) in ratios.into_iter().enumerate() {
        says = says.text(if index == 0 { "" } else { ", " }).peer(peer).text("'s ");
        says = match index {
            0 => says.text(&format!("{word} was ")).times(&ratio).text(" what it was before"),
            _ => says.times(&ratio),
        };
    }
    says
}

/// Clauses after an opening, with a full stop.
fn joined(opening: Sentence, clauses: Vec<Sentence>) -> Sentence {
    let mut says = opening;
    for (index, clause) in clauses.into_iter().enumerate() {
        says = says.text(if index == 0 { "" } else { "; " });
        says.0.extend(clause.0);
    }
    says.text(".")
}

/// Which policy was best at a point.
fn best_at(seen: &RunView<'_>, says: Sentence) -> Sentence {
    let Some((_, best)) = policies::of(seen, FIGURE) else { return says };
    let mut says = says.start().text("With ").figure(seen.shown()).text(", ");
    says.0.extend(best.0);
    says
}

/// Which way to choose subsets came out most even, and which left backends to nobody.
pub(super) fn over_subsets(points: &[&RunView<'_>]) -> Option<Judgement> {
    let first = balancers(points.first()?).next()?;
    let all: Vec<(&RunView<'_>, &PeerView<'_>, Estimate)> = points
        .iter()
        .filter_map(|seen| {
            let own = seen.peer(&first.name)?;
            Some((*seen, own, own.estimate(Figure::MaxShare)?))
        })
        .collect();
    let best = all.iter().min_by(|a, b| a.2.value.total_cmp(&b.2.value))?;
    let way = |seen: &RunView<'_>| seen.point.as_ref().map_or("", |point| &*point.value).to_owned();
    let others: Vec<(&RunView<'_>, Beside)> = all
        .iter()
        .filter(|(seen, ..)| way(seen) != way(best.0))
        .map(|(seen, own, _)| (*seen, own.beside(best.1, Figure::MaxShare)))
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
    let of = |wanted: &[Verdict]| -> Vec<(&RunView<'_>, Beside)> {
        let is_wanted = |beside: &Beside| wanted.contains(&Verdict::of(beside));
        others.iter().filter(|(_, beside)| is_wanted(beside)).copied().collect()
    };
    for (seen, beside) in of(&[Verdict::Worse]) {
        let Some(ratio) = beside.ratio else { continue };
        let says = Sentence::default().text("with ").figure(way(seen)).text(" subsets it got ");
        clauses.push(says.times(&ratio).text(" as many"));
    }
    let open = of(&[Verdict::CannotTell, Verdict::Better]);
    for (ways, before) in [
        (of(&[Verdict::Same]), "within 10 % of it: "),
        (open.clone(), "whether by more than 10 % is open for "),
    ] {
        let ways: Vec<String> = ways.iter().map(|(seen, _)| way(seen)).collect();
        if !ways.is_empty() {
            clauses.push(Sentence::default().text(before).figure(ways.join(", ")));
        }
    }
    let tells = open.len() < others.len();
    Some(Judgement {
        status: if tells { Status::Tells } else { Status::CannotTell },
        verdict: joined(Sentence::default(), clauses),
        details: unused(&all, way),
    })
}

/// The ways by which some backends were in nobody's subset.
fn unused(
    all: &[(&RunView<'_>, &PeerView<'_>, Estimate)],
    way: impl Fn(&RunView<'_>) -> String,
) -> Sentence {
    let mut says = Sentence::default();
    for (seen, own, _) in all {
        let backends = seen.model.run.backends.len();
        let Some(used) = own.estimate(Figure::BackendsUsed) else { continue };
        if used.value < backends as f64 {
            says = says.start().text("With ").figure(way(seen)).text(" subsets, ");
            says = says.figure(Figure::BackendsUsed.show(used.value));
            says = says.text(&format!(" of {backends} backends were used."));
        }
    }
    says
}

/// How many calls crossed zones at each point, by who balanced them.
pub(super) fn over_zones(points: &[&RunView<'_>]) -> Option<Judgement> {
    let mut clauses = Vec::new();
    let mut details = Sentence::default();
    let mut tells = true;
    for seen in points {
        let all: Vec<(&PeerView<'_>, Estimate)> = seen
            .model
            .measured()
            .filter_map(|peer| Some((peer, peer.estimate(Figure::CrossZoneShare)?)))
            .collect();
        let Some((first, others)) = all.split_first() else { continue };
        tells &= all.iter().all(|(_, share)| share.trials >= FEWEST_REPEATS);
        let at = if clauses.is_empty() { "At " } else { "at " };
        let mut says = Sentence::default().text(at).figure(seen.shown()).text(", ");
        says = says.peer(first.0).text(" sent ").shares(&first.1);
        if clauses.is_empty() {
            says = says.text(" of the calls across zones");
        }
        for (peer, share) in others {
            says = says.text(", ").peer(peer).text(" ").shares(share);
        }
        clauses.push(says);
        details = details.start().text("At ").figure(seen.shown());
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
    let status = if tells { Status::Tells } else { Status::CannotTell };
    Some(Judgement { status, verdict, details })
}

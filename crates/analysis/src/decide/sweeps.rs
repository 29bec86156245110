//! What sweeps and searches say: from how many connections on L4 comes near L7, from
//! which payload on parsing costs little, what it costs by rate, and how much load each
//! carries under an objective.
//!
//! A threshold is told as what lies between two points: the last at which a difference
//! is told, and the first from which on there is none at any. That is its interval; no
//! curve is drawn through the points to make it look narrower.

use measure::figure::Figure;

use super::{
    Status,
    run_view::{Pair, RunView},
};
use crate::{
    estimate::{Beside, Difference, Estimate},
    findings::{self, Sentence, between},
    model::PeerView,
    verdict::Verdict,
};

/// A factor below which L7's CPU is told to be small beside L4's.
const SMALL: f64 = 2.0;

/// What a sweep says, and whether it tells.
pub(super) type Judged = (Status, Sentence);

/// The points at which both of a pair were measured, in order.
fn pairs<'s, 'a>(points: &[&'s RunView<'a>]) -> Vec<(&'s RunView<'a>, Pair<'s, 'a>)> {
    points.iter().filter_map(|point| Some((*point, point.pair()?))).collect()
}

/// Where a run of points ends, and where the other begins for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Turn {
    /// The last point of the one kind.
    last: Option<usize>,
    /// The first from which on all are of the other.
    first: Option<usize>,
    /// Whether all points up to the end are known to be of the one kind, or from one on to be
    /// of the other.
    is_conclusive: bool,
}

/// The turn in a row: `Some(true)` is of the one kind, `Some(false)` of the other, and
/// `None` is neither.
fn turn(row: &[Option<bool>]) -> Turn {
    let last = row.iter().rposition(|kind| *kind == Some(true));
    let behind = row.iter().rposition(|kind| *kind != Some(false)).map_or(0, |index| index + 1);
    let first = (behind < row.len()).then_some(behind);
    let ends_so = last.is_some_and(|last| last + 1 == row.len());
    Turn { last, first, is_conclusive: first.is_some() || ends_so }
}

/// From how many connections on a balancer of connections comes near one of calls.
pub(super) fn over_connections(points: &[&RunView<'_>]) -> Option<Judged> {
    let pairs = pairs(points);
    pairs.first()?;
    let (mut sentence, mut is_conclusive) = (Sentence::default(), false);
    for (figure, word) in
        [(Figure::LatencyP99, "p99"), (Figure::MaxShare, "busiest backend's share")]
    {
        let kind = |(_, pair): &(_, Pair<'_, '_>)| match Verdict::between(
            pair.connections,
            pair.calls,
            figure,
        ) {
            Verdict::Worse => Some(true),
            Verdict::Better | Verdict::Same => Some(false),
            Verdict::Inconclusive => None,
        };
        let turn = turn(&pairs.iter().map(kind).collect::<Vec<_>>());
        sentence = from_where_on(&pairs, turn, word, sentence.start()).text(".");
        is_conclusive |= turn.is_conclusive;
    }
    Some((Status::of(is_conclusive), sentence))
}

/// From which point on a figure is within 10 %.
fn from_where_on(
    pairs: &[(&RunView<'_>, Pair<'_, '_>)],
    turn: Turn,
    word: &str,
    sentence: Sentence,
) -> Sentence {
    let (_, pair) = pairs[0];
    let shown = |index: usize| pairs[index].0.shown();
    let sentence = sentence.peer(pair.connections).text(&format!("'s {word} "));
    let within = |sentence: Sentence| sentence.text("is within 10 % of ").peer(pair.calls);
    let higher =
        |sentence: Sentence| sentence.text("is more than 10 % higher than ").peer(pair.calls);
    match (turn.last, turn.first) {
        (_, Some(0)) => within(sentence).text("'s at every point"),
        (last, Some(first)) => {
            let sentence = within(sentence).text("'s from ").figure(shown(first)).text(" on");
            match last {
                Some(0) => sentence.text(", and higher at ").figure(shown(0)),
                Some(last) => sentence.text(", and higher up to ").figure(shown(last)),
                None => sentence,
            }
        }
        (Some(last), None) if last + 1 == pairs.len() => {
            higher(sentence).text("'s even at ").figure(shown(last))
        }
        (Some(last), None) => {
            higher(sentence).text("'s up to ").figure(shown(last)).text("; where that ends is open")
        }
        (None, None) => sentence
            .text("may be above or within 10 % of ")
            .peer(pair.calls)
            .text("'s: the repeats leave it open"),
    }
}

/// From which payload on L7's proxy costs little beside L4's.
pub(super) fn over_payload(points: &[&RunView<'_>]) -> Option<Judged> {
    let pairs = pairs(points);
    let (_, pair) = *pairs.first()?;
    let ratios: Vec<(&RunView<'_>, Beside)> = pairs
        .iter()
        .map(|(view, pair)| (*view, pair.calls.beside(pair.connections, Figure::ProxyCpuPerCall)))
        .filter(|(_, beside)| beside.ratio.is_some())
        .collect();
    let ((first, low), (last, high)) = (ratios.first()?, ratios.last()?);
    let kind = |(_, beside): &(_, Beside)| {
        let (low, high) = beside.ends()?;
        (low > SMALL || high < SMALL).then_some(low > SMALL)
    };
    let turn = turn(&ratios.iter().map(kind).collect::<Vec<_>>());
    let sentence = Sentence::default()
        .peer(pair.calls)
        .text("'s proxy used ")
        .times(&low.ratio?)
        .text(" the CPU per call of ")
        .peer(pair.connections)
        .text("'s at ")
        .figure(first.shown())
        .text(" and ")
        .times(&high.ratio?)
        .text(" at ")
        .figure(last.shown());
    let shown = |index: usize| ratios[index].0.shown();
    let sentence = match (turn.last, turn.first) {
        (_, Some(0)) => sentence.text(", less than twice as much at every size"),
        (Some(more), Some(less)) => sentence
            .text("; less than twice as much from ")
            .figure(shown(less))
            .text(" on, and more up to ")
            .figure(shown(more)),
        (None, Some(less)) => {
            sentence.text("; less than twice as much from ").figure(shown(less)).text(" on")
        }
        (Some(more), None) if more + 1 == ratios.len() => {
            sentence.text(", more than twice as much even there")
        }
        _ => sentence.text("; where it falls below twice as much is open"),
    };
    Some((Status::of(turn.is_conclusive), sentence.text(".")))
}

/// What L7's proxy costs more than L4's at each rate, or whatever else differs.
pub(super) fn over_rate(points: &[&RunView<'_>]) -> Option<Judged> {
    let pairs = pairs(points);
    let (_, pair) = *pairs.first()?;
    let extra: Vec<(&RunView<'_>, Beside, Estimate)> = pairs
        .iter()
        .filter_map(|(view, pair)| {
            let beside = pair.calls.beside(pair.connections, Figure::ProxyCpuPerCall);
            Some((*view, beside, beside.difference?))
        })
        .collect();
    if extra.is_empty() {
        return None;
    }
    let (significant, open): (Vec<_>, Vec<_>) =
        extra.iter().partition(|(_, beside, _)| beside.is_significant());
    let mut sentence = Sentence::default();
    if !significant.is_empty() {
        sentence = sentence.peer(pair.calls).text("'s proxy used ");
        for (index, (view, beside, difference)) in significant.iter().enumerate() {
            sentence = sentence.text(between(index, significant.len()));
            sentence = match beside.significant {
                Difference::Less => sentence.durations(&difference.magnitude()).text(" less"),
                _ => sentence.durations(difference).text(" more"),
            };
            if index == 0 {
                sentence = sentence.text(" CPU per call than ").peer(pair.connections).text("'s");
            }
            sentence = sentence.text(" at ").figure(view.shown());
        }
        sentence = sentence.text(".");
    }
    if !open.is_empty() {
        sentence = sentence
            .start()
            .text("There is no significant difference between ")
            .peer(pair.calls)
            .text("'s and ");
        sentence = sentence.peer(pair.connections).text("'s at ");
        for (index, (view, ..)) in open.iter().enumerate() {
            sentence = sentence.text(between(index, open.len())).figure(view.shown());
        }
        sentence = sentence.text(".");
    }
    Some((Status::of(!significant.is_empty()), sentence))
}

/// What TLS adds to the CPU of a call behind each of a pair: to that of client, balancer and
/// backends together, since who pays differs.
pub(super) fn over_tls(points: &[&RunView<'_>]) -> Option<Judged> {
    let pairs = pairs(points);
    let ((_, without), (_, with)) = (pairs.first()?, pairs.last()?);
    let added = |with: &PeerView<'_>, without: &PeerView<'_>| {
        let beside = with.beside(without, Figure::LabCpuPerCall);
        Some((beside.difference?, beside.is_significant()))
    };
    let connections = added(with.connections, without.connections)?;
    let calls = added(with.calls, without.calls)?;
    let sentence = Sentence::default()
        .text("TLS added ")
        .durations(&connections.0)
        .text(" of CPU to each call behind ")
        .peer(with.connections)
        .text(", which passes it through, and ")
        .durations(&calls.0)
        .text(" behind ")
        .peer(with.calls)
        .text(", which terminates and re-encrypts it");
    let is_significant = connections.1 && calls.1;
    let sentence = sentence.text(if is_significant {
        "."
    } else {
        "; the repeats don't show that both are more than nothing."
    });
    Some((Status::of(is_significant), sentence))
}

/// The highest rates at which an objective held.
pub(super) fn of_search(view: &RunView<'_>) -> Option<Judged> {
    let search = view.chosen.run.record.search.as_ref()?;
    let pair = view.pair()?;
    let beside = findings::search::rates_beside(search, &pair.calls.name, &pair.connections.name)?;
    let sentence = findings::search::found(&view.model, search, pair.connections, pair.calls)?;
    Some((Status::of(beside.is_significant()), sentence))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_told_by_both_its_sides() {
        let (worse, alike) = (Some(true), Some(false));
        let of = |row: &[Option<bool>]| {
            let turn = turn(row);
            (turn.last, turn.first)
        };
        assert_eq!(of(&[worse, worse, None, alike, alike]), (Some(1), Some(3)));
        assert_eq!(of(&[worse, alike, None]), (Some(0), None), "alike, and then not told");
        assert_eq!(of(&[worse, worse]), (Some(1), None));
        assert_eq!(of(&[alike, alike]), (None, Some(0)));
        assert_eq!(of(&[None, None]), (None, None));
        assert_eq!(of(&[alike, worse, alike]), (Some(1), Some(2)));
    }
}

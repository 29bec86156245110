//! What came out of a sweep, in sentences made from the data.
//!
//! A sweep's answer is where things change: from which point on two peers are alike,
//! where their costs break even, what a figure is at the ends. Each is told by the
//! ratio of the two peers repeat by repeat at each point; where that leaves it open,
//! the sentence says so.

use measure::{figure::Figure, format, summary::saturation};
use queueing::bins::RandomPlacement;

use super::{
    Pair, Sentence,
    search::{found, of_search},
};
use crate::{
    model::{
        Beside, Difference, Model, PeerView,
        sweep::{Point, Stretch, Sweep, peer_at, stretches},
    },
    verdict::{ALIKE, ALIKE_TEXT, Verdict},
};

/// The most connections that theory is asked about.
const MOST_CONNECTIONS: u32 = 20_000;

pub(super) fn answer(
    model: &Model<'_>,
    sweep: &Sweep<'_>,
    pair: Option<&Pair<'_, '_>>,
) -> Vec<Sentence> {
    let Some(pair) = pair else { return Vec::new() };
    let mut said: Vec<Option<Sentence>> = Vec::new();
    if sweep.search.is_some() {
        let found = |search| found(model, search, pair.connections, pair.calls);
        said.push(sweep.search.and_then(found));
    }
    let shares = match sweep.is_of_connections() {
        true => shares_answer(sweep, pair),
        false => shares_over(sweep, pair),
    };
    let tail = || figure_answer(model, sweep, pair, Figure::LatencyP99);
    let cost = || figure_answer(model, sweep, pair, Figure::ProxyCpuPerCall);
    if sweep.search.is_some() {
        // Its points have a trial or two each, which is too few for more.
    } else if sweep.is_of_payload() {
        said.extend([cost(), per_gib_answer(sweep, pair)]);
    } else if sweep.is_of_rate() {
        said.extend([cost(), tail(), shares]);
    } else {
        said.extend([shares, tail(), cost()]);
    }
    said.into_iter().flatten().collect()
}

/// One sentence a peer: its figures from the first point to the last.
pub(super) fn of_peer(model: &Model<'_>, sweep: &Sweep<'_>, peer: &PeerView<'_>) -> Sentence {
    let sentence = Sentence::default().peer(peer);
    if let Some(reason) = peer.missing() {
        return sentence.text(&format!(" has no figures: {}.", reason.trim_end_matches('.')));
    }
    if let Some(search) = sweep.search {
        return of_search(saturation(search, &peer.name), sentence);
    }
    let at = sweep.of_peer(&peer.name);
    let (Some((first, low)), Some((last, high))) = (at.first(), at.last()) else {
        return sentence.text(" has no figures.");
    };
    let one = at.len() == 1;
    let mut sentence = if one {
        sentence.text(&format!(" at {}: ", sweep.shown(first)))
    } else {
        let (from, to) = (sweep.shown(first), sweep.shown(last));
        sentence.text(&format!(" from {from} to {to}: "))
    };
    let word = model.loop_word();
    let p99 = format!("{word}p99");
    let mut parts = vec![
        ("busiest backend", Figure::MaxShare),
        (p99.as_str(), Figure::LatencyP99),
        ("proxy CPU per call", Figure::ProxyCpuPerCall),
    ];
    if sweep.is_of_payload() {
        parts.push(("proxy CPU per GiB", Figure::ProxyCpuPerGib));
    }
    let mut said = 0;
    for (name, figure) in parts {
        let (Some(low), Some(high)) = (low.estimate(figure), high.estimate(figure)) else {
            continue;
        };
        let (low, high) = (figure.show(low.value), figure.show(high.value));
        sentence =
            sentence.text(if said > 0 { ", " } else { "" }).text(name).text(" ").figure(&low);
        if !one && low != high {
            sentence = sentence.text(" to ").figure(high);
        }
        said += 1;
    }
    sentence.text(".")
}

/// From which point on the two spread calls alike.
fn shares_answer(sweep: &Sweep<'_>, pair: &Pair<'_, '_>) -> Option<Sentence> {
    turn(sweep, &pair.connections.name, &pair.calls.name, Figure::MaxShare)
}

/// From which point on a figure of one peer is at most [`ALIKE`] above another's.
pub(super) fn turn(sweep: &Sweep<'_>, own: &str, other: &str, figure: Figure) -> Option<Sentence> {
    let all = sweep.beside(own, other, figure);
    let (last, _) = all.last()?;
    let (own, other) = (peer_at(last, own)?, peer_at(last, other)?);
    let near = |sentence: Sentence| {
        sentence
            .peer(own)
            .text(&format!("'s {} at most ", is_at(figure)))
            .figure(ALIKE_TEXT)
            .text(" more than ")
            .peer(other)
            .text("'s")
    };
    let is_apart = |(_, beside): &(&Point<'_>, Beside)| nearness(beside) != Verdict::Same;
    let start = all.iter().rposition(is_apart).map_or(0, |at| at + 1);
    let sentence = if start == 0 {
        near(Sentence::default().text("At every point, ")).text(".")
    } else if let Some((point, _)) = all.get(start) {
        let from = Sentence::default().text("From ").figure(sweep.shown(point)).text(" on, ");
        let (before, beside) = &all[start - 1];
        let words = match nearness(beside) {
            Verdict::Inconclusive => "the repeats leave it open",
            _ => "it is more",
        };
        near(from).text(&format!("; at {} {words}.", sweep.shown(before)))
    } else {
        apart(sweep, &all, [own, other], figure)?
    };
    let expected = (figure == Figure::MaxShare).then(|| expected_from(sweep, &own.name)).flatten();
    Some(match expected {
        Some(connections) => sentence
            .text(" In theory (balls in bins), it takes about ")
            .figure(format!("{} connections", format::count(u64::from(connections))))
            .text("."),
        None => sentence,
    })
}

/// That a figure of one peer is above another's up to the last point.
fn apart(
    sweep: &Sweep<'_>,
    all: &[(&Point<'_>, Beside)],
    [own, other]: [&PeerView<'_>; 2],
    figure: Figure,
) -> Option<Sentence> {
    let (last, beside) = all.last()?;
    let ratio = beside.ratio?;
    let sentence = Sentence::default()
        .text("Even at ")
        .figure(sweep.shown(last))
        .text(", ")
        .peer(own)
        .text(&format!("'s {} ", is_at(figure)))
        .estimate(figure, &own.estimate(figure)?)
        .text(", and ")
        .peer(other)
        .text("'s ")
        .estimate(figure, &other.estimate(figure)?);
    if nearness(beside) != Verdict::Inconclusive {
        let more = format!("{:.0} %", (ratio.centre - 1.0) * 100.0);
        return Some(sentence.text(": ").figure(more).text(" more").text("."));
    }
    let open = sentence.text("; the repeats leave open whether that is within ").figure(ALIKE_TEXT);
    // Up to where it is known to be more.
    let more = all.iter().rfind(|(_, beside)| nearness(beside) == Verdict::Worse);
    let sentence = match more {
        Some((point, _)) => open.text(". Up to ").figure(sweep.shown(point)).text(" it is more"),
        None => open,
    };
    Some(sentence.text("."))
}

/// What a figure does that has a value.
fn is_at(figure: Figure) -> &'static str {
    match figure {
        Figure::MaxShare => "busiest backend gets",
        _ => "figure is",
    }
}

/// The busiest backends' shares over a sweep that has nothing to do with connections.
fn shares_over(sweep: &Sweep<'_>, pair: &Pair<'_, '_>) -> Option<Sentence> {
    let mut sentence = Sentence::default().text("The busiest backend got ");
    for (index, peer) in [pair.connections, pair.calls].into_iter().enumerate() {
        let at = sweep.of_peer(&peer.name);
        let shares = at.iter().filter_map(|(_, peer)| Some(peer.estimate(Figure::MaxShare)?.value));
        let shares: Vec<f64> = shares.collect();
        let low = shares.iter().copied().reduce(f64::min)?;
        let high = shares.iter().copied().reduce(f64::max)?;
        let (low, high) = (format::share(low), format::share(high));
        sentence = sentence.text(if index > 0 { " and " } else { "" }).figure(&low);
        if low != high {
            sentence = sentence.text(" to ").figure(high);
        }
        sentence = sentence.text(" of the calls behind ").peer(peer);
    }
    Some(sentence.text("."))
}

/// Whether a share is at most [`ALIKE`] above another.
fn nearness(beside: &Beside) -> Verdict {
    let Some(ratio) = beside.ratio else { return Verdict::Inconclusive };
    // Shares are counted: with few repeats they are taken as they are.
    let ends = beside.ends().unwrap_or((ratio.centre, ratio.centre));
    Verdict::by(ends, (0.0, 1.0 + ALIKE))
}

/// From how many connections on theory expects the busiest backend of connections
/// placed by chance within [`ALIKE`] of an even share.
fn expected_from(sweep: &Sweep<'_>, connections: &str) -> Option<u32> {
    let by_chance = sweep.points.iter().all(|point| {
        let placed = peer_at(point, connections)
            .and_then(|peer| crate::theory::placement::of(&point.model, peer));
        matches!(placed, Some(crate::theory::placement::Placement::ByChance { .. }))
    });
    if !sweep.is_of_connections() || !by_chance {
        return None;
    }
    let backends = u32::try_from(sweep.points.first()?.model.backends.len()).ok()?;
    let most = (1.0 + ALIKE) / f64::from(backends);
    let alike = |connections: u32| {
        let placed = RandomPlacement::new(connections, backends).ok()?;
        Some(placed.expected_max_share() <= most)
    };
    // The share falls with more connections, but for the rounding of a few: doubled
    // until it is low enough, and halved from there.
    let mut high = backends;
    while !alike(high)? {
        high = high.checked_mul(2).filter(|high| *high <= MOST_CONNECTIONS)?;
    }
    let mut low = high / 2;
    while high - low > (high / 50).max(1) {
        let middle = low + (high - low) / 2;
        if alike(middle)? { high = middle } else { low = middle }
    }
    Some(high)
}

/// Where one of the two is better by a figure of which less is better, and where they
/// break even.
fn figure_answer(
    model: &Model<'_>,
    sweep: &Sweep<'_>,
    pair: &Pair<'_, '_>,
    figure: Figure,
) -> Option<Sentence> {
    let all = sweep.beside(&pair.calls.name, &pair.connections.name, figure);
    let stretches = stretches(all.iter().map(|(_, beside)| beside.significant));
    let name = match figure {
        Figure::LatencyP99 => format!("{}p99", model.loop_word()),
        _ => "CPU time per call".to_owned(),
    };
    let mut sentence =
        Sentence::default().peer(pair.calls).text("'s ").text(&name).text(" compared with ");
    sentence = sentence.peer(pair.connections).text("'s: ");
    for (index, stretch) in stretches.iter().enumerate() {
        sentence = sentence.text(if index > 0 { "; " } else { "" });
        sentence = describe_stretch(sweep, &all, *stretch, sentence);
    }
    if stretches.is_empty() {
        return None;
    }
    let has = |wanted| stretches.iter().any(|stretch| stretch.significant == wanted);
    if !(has(Difference::Less) && has(Difference::Greater)) {
        return Some(sentence.text("."));
    }
    Some(match sweep.crossing(&pair.calls.name, &pair.connections.name, figure) {
        Some(crossing) => {
            let point = |number: f64| show_number(sweep, number);
            let range = crossing.interval.map(|(low, high)| format::range(point(low), point(high)));
            let sentence = sentence.text(". They break even at about ");
            sentence.figure(point(crossing.value)).qualified(range).text(".")
        }
        None => sentence.text(". The repeats leave open where they break even."),
    })
}

/// A number between points.
fn show_number(sweep: &Sweep<'_>, number: f64) -> String {
    if sweep.is_of_payload() {
        format::bytes(number as u64)
    } else if sweep.is_of_rate() {
        format::rate(number)
    } else {
        format::number(number)
    }
}

/// What the data says of a stretch of points.
fn describe_stretch(
    sweep: &Sweep<'_>,
    all: &[(&Point<'_>, Beside)],
    stretch: Stretch,
    sentence: Sentence,
) -> Sentence {
    let (first, last) = (&all[stretch.first], &all[stretch.last]);
    let one = stretch.first == stretch.last;
    let at = if one {
        format!("at {}", sweep.shown(first.0))
    } else {
        format!("from {} to {}", sweep.shown(first.0), sweep.shown(last.0))
    };
    if stretch.significant == Difference::NotSignificant {
        return sentence.text(&format!("no significant difference {at}"));
    }
    let change = |beside: &Beside| {
        let said = format::change_by(beside.ratio?.centre, beside.ends());
        Some((said, beside.difference?))
    };
    let Some(((said, range), difference)) = change(&first.1) else {
        return sentence.text(&format!("unknown {at}"));
    };
    let sentence = sentence.figure(said).qualified(range);
    let by = |sentence: Sentence, difference: &crate::model::Estimate| {
        let sign = if difference.value < 0.0 { "−" } else { "+" };
        let size = format::duration(difference.value.abs());
        sentence.text(", ").figure(format!("{sign}{size}"))
    };
    let sentence = by(sentence, &difference).text(&format!(", at {}", sweep.shown(first.0)));
    match change(&last.1).filter(|_| !one) {
        Some(((said, range), difference)) => {
            let sentence = sentence.text(" and ").figure(said).qualified(range);
            by(sentence, &difference).text(&format!(", at {}", sweep.shown(last.0)))
        }
        None => sentence,
    }
}

/// What a GiB costs at the ends.
fn per_gib_answer(sweep: &Sweep<'_>, pair: &Pair<'_, '_>) -> Option<Sentence> {
    let mut sentence = Sentence::default().text("A GiB of payload costs ");
    let ends = [sweep.points.first()?, sweep.points.last()?];
    for (index, point) in ends.into_iter().enumerate() {
        let cost =
            |peer: &PeerView<'_>| peer_at(point, &peer.name)?.estimate(Figure::ProxyCpuPerGib);
        let (connections, calls) = (cost(pair.connections)?, cost(pair.calls)?);
        sentence = sentence
            .text(if index > 0 { ", and " } else { "" })
            .peer(pair.connections)
            .text(" ")
            .durations(&connections)
            .text(" and ")
            .peer(pair.calls)
            .text(" ")
            .durations(&calls)
            .text(&format!(" in messages of {}", sweep.shown(point)));
    }
    Some(sentence.text("."))
}

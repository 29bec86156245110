//! One sentence a peer: who served its calls, at what cost, how fast.

use measure::{figure::Figure, format, record::Layer};

use super::{Pair, Sentence};
use crate::{
    due::{By, Due},
    model::{Difference, Model, PeerView},
};

/// Shares nearer to the fair ones than this count as even.
const EVEN_WITHIN: f64 = 0.01;
/// The same where backends come and go: it takes a moment until they are used or left.
const PRESENT_WITHIN: f64 = 0.02;

pub(super) fn sentence(
    model: &Model<'_>,
    peer: &PeerView<'_>,
    pair: Option<&Pair<'_, '_>>,
) -> Sentence {
    let sentence = Sentence::default().peer(peer);
    if let Some(reason) = peer.missing() {
        return sentence.text(&format!(" has no figures: {}.", reason.trim_end_matches('.')));
    }
    if peer.sum(|figures| figures.ok) == 0 {
        let sent = format::count(peer.sum(|figures| figures.scheduled));
        return sentence.text(": none of ").figure(sent).text(" calls succeeded.");
    }
    // What it is compared with stands in the sentence once; the peer that is
    // the measure itself is compared with nothing.
    let reference =
        pair.map(|pair| pair.connections).filter(|connections| connections.name != peer.name);
    let sentence = shares(model, peer, sentence);
    if let Some(overload) = &peer.overload {
        return super::falling_behind(overload, sentence.text("; overloaded: ")).text(".");
    }
    let sentence = cost(peer, reference, sentence);
    let sentence = tail(model, peer, reference, sentence);
    sentence.text(".")
}

fn shares(model: &Model<'_>, peer: &PeerView<'_>, sentence: Sentence) -> Sentence {
    let calls = format::count(peer.sum(|figures| figures.ok));
    let busiest: Vec<usize> =
        peer.figures().filter_map(|figures| only_one(&figures.calls_per_backend)).collect();
    if busiest.len() == peer.figures().count() && !busiest.is_empty() {
        let sentence = sentence.text(" sent ").figure("100 %").text(" of ").figure(calls);
        return to_one(model, &busiest, sentence);
    }
    let Some(largest) = peer.estimate(Figure::MaxShare) else {
        return sentence.text(" had ").figure(calls).text(" successful calls");
    };
    let due = Due::of(model, peer);
    let is_due = due.furthest(peer) < EVEN_WITHIN;
    let backends = model.backends.len();
    match due.by {
        By::Capacity => {
            let sentence = sentence.text(" spread ").figure(calls).text(" calls by load");
            return slowest(model, peer, &due, sentence);
        }
        By::Presence if due.furthest(peer) < PRESENT_WITHIN => {
            return sentence
                .text(" spread ")
                .figure(calls)
                .text(" calls evenly over the backends that were available at the time");
        }
        By::Weight | By::Presence => {}
    }
    let sentence = sentence.text(" spread ").figure(calls).text(" calls");
    match due.even() {
        Some(even) if is_due => sentence
            .text(&format!(" evenly over {backends} backends, "))
            .figure(format::share(even))
            .text(" each"),
        None if is_due => sentence.text(" according to the weights"),
        even => {
            let sentence = sentence.text(" unevenly: the busiest backend got ").shares(&largest);
            match (due.by, even) {
                (By::Presence, _) => sentence
                    .text(" where ")
                    .figure(format::share(busiest_due(peer, &due)))
                    .text(" would be even for the time it was available"),
                (_, Some(even)) => {
                    sentence.text(&format!(" where {} would be even", format::share(even)))
                }
                (_, None) => sentence,
            }
        }
    }
}

/// To which backend all calls went, in each repeat.
fn to_one(model: &Model<'_>, busiest: &[usize], sentence: Sentence) -> Sentence {
    let id = |index: &usize| model.backends.get(*index).map_or("?", String::as_str);
    let ids: Vec<&str> = busiest.iter().map(id).collect();
    if busiest.iter().any(|index| *index != busiest[0]) {
        return sentence
            .text(" calls to a single backend, which differed between repeats: ")
            .figure(ids.join(", "));
    }
    let sentence = sentence.text(" calls to ").figure(ids[0]);
    match ids.len() {
        1 => sentence,
        repeats => sentence.text(&format!(" in each of {repeats} repeats")),
    }
}

/// What is due to the backend that got most.
fn busiest_due(peer: &PeerView<'_>, due: &Due) -> f64 {
    let mut calls = vec![0; due.shares.len()];
    for figures in peer.figures() {
        calls.iter_mut().zip(&figures.calls_per_backend).for_each(|(sum, own)| *sum += own);
    }
    let busiest = calls.iter().zip(&due.shares).max_by_key(|(calls, _)| **calls);
    busiest.map_or(0.0, |(_, due)| *due)
}

/// What the backend that can do least got, beside its part of what all can do.
fn slowest(model: &Model<'_>, peer: &PeerView<'_>, due: &Due, sentence: Sentence) -> Sentence {
    let least = (0..due.shares.len()).min_by(|a, b| due.shares[*a].total_cmp(&due.shares[*b]));
    let share = |index: usize| peer.estimate_by(|figures| figures.shares().get(index).copied());
    let Some((index, share)) = least.and_then(|index| Some((index, share(index)?))) else {
        return sentence;
    };
    sentence
        .text(": the slowest backend, ")
        .figure(&model.backends[index])
        .text(", got ")
        .shares(&share)
        .text(" of them and has ")
        .figure(format::share(due.shares[index]))
        .text(" of the capacity")
}

/// The backend that got every call.
fn only_one(calls: &[u64]) -> Option<usize> {
    let used = calls.iter().filter(|&&calls| calls > 0).count();
    (used == 1 && calls.len() > 1).then(|| calls.iter().position(|&calls| calls > 0)).flatten()
}

fn cost(peer: &PeerView<'_>, reference: Option<&PeerView<'_>>, sentence: Sentence) -> Sentence {
    if peer.in_kernel() {
        return cost_in_kernel(peer, reference, sentence);
    }
    let Some(own) = peer.estimate(Figure::ProxyCpuPerCall) else {
        return match peer.layer() {
            Some(Layer::External) => sentence.text(" at an unknown CPU cost"),
            _ => sentence.text(", without a proxy"),
        };
    };
    let sentence = sentence.text(", for ").durations(&own).text(" of proxy CPU per call");
    compared(peer, reference, Figure::ProxyCpuPerCall, sentence)
}

/// The kernel works for whoever it interrupts, so only the machine knows.
fn cost_in_kernel(
    peer: &PeerView<'_>,
    reference: Option<&PeerView<'_>>,
    sentence: Sentence,
) -> Sentence {
    let sentence = sentence.text(", in the kernel, whose cost is not billed to any process");
    let (Some(lab), Some(machine)) =
        (peer.estimate(Figure::LabCpuPerCall), peer.estimate(Figure::MachineCpuPerCall))
    else {
        return sentence;
    };
    let sentence =
        sentence.text(": client and backends used ").durations(&lab).text(" of CPU per call");
    compared(peer, reference, Figure::LabCpuPerCall, sentence)
        .text(" in all, and the whole machine ")
        .durations(&machine)
}

fn tail(
    model: &Model<'_>,
    peer: &PeerView<'_>,
    reference: Option<&PeerView<'_>>,
    sentence: Sentence,
) -> Sentence {
    let Some(own) = peer.estimate(Figure::LatencyP99) else {
        return sentence;
    };
    let word = model.loop_word();
    let article = if word.starts_with("on-wire") { "an" } else { "a" };
    let sentence = sentence.text(&format!(", with {article} {word}p99 of ")).durations(&own);
    compared(peer, reference, Figure::LatencyP99, sentence)
}

/// What a time is to be compared with, as far as it can be told from it.
fn compared(
    peer: &PeerView<'_>,
    reference: Option<&PeerView<'_>>,
    figure: Figure,
    sentence: Sentence,
) -> Sentence {
    let Some((reference, other)) =
        reference.and_then(|reference| Some((reference, reference.estimate(figure)?)))
    else {
        return sentence;
    };
    let beside = peer.beside(reference, figure);
    let (before, after) = match beside.significant {
        Difference::Less | Difference::Greater => (" instead of ", ""),
        Difference::TooFew => (" beside ", ""),
        Difference::NotSignificant if beside.open_ends().is_some() => {
            (" beside ", " (too few repeats to tell)")
        }
        Difference::NotSignificant => (" beside ", " (no significant difference)"),
    };
    sentence
        .text(before)
        .peer(reference)
        .text("'s ")
        .figure(format::duration(other.value))
        .text(after)
}

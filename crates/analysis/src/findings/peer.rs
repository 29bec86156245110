//! One sentence a peer: who served its calls, at what cost, how fast.

use measure::{figure::Figure, format, record::Layer};

use super::{Pair, Sentence};
use crate::model::{Difference, Model, PeerView};

/// Shares nearer to the fair ones than this count as even.
const EVEN_WITHIN: f64 = 0.01;

pub(super) fn sentence(
    model: &Model<'_>,
    peer: &PeerView<'_>,
    pair: Option<&Pair<'_, '_>>,
) -> Sentence {
    let sentence = Sentence::default().peer(peer);
    if let Some(reason) = peer.missing() {
        return sentence.text(&format!(" gives no figures: {}.", reason.trim_end_matches('.')));
    }
    if peer.sum(|figures| figures.ok) == 0 {
        let sent = format::count(peer.sum(|figures| figures.scheduled));
        return sentence.text(" had none of ").figure(sent).text(" calls answered well.");
    }
    // What it is compared with stands in the sentence once; the peer that is
    // the measure itself is compared with nothing.
    let reference =
        pair.map(|pair| pair.connections).filter(|connections| connections.name != peer.name);
    let sentence = shares(model, peer, sentence);
    if let Some(overload) = &peer.overload {
        return super::falling_behind(overload, sentence.text("; overloaded, ")).text(".");
    }
    let sentence = cost(peer, reference, sentence);
    let sentence = tail(model, peer, reference, sentence);
    sentence.text(".")
}

fn shares(model: &Model<'_>, peer: &PeerView<'_>, sentence: Sentence) -> Sentence {
    let calls = format::count(peer.sum(|figures| figures.ok));
    let repeats = peer.figures().count();
    let busiest: Vec<usize> =
        peer.figures().filter_map(|figures| only_one(&figures.calls_per_backend)).collect();
    if busiest.len() == repeats && !busiest.is_empty() {
        let id = |index: usize| model.backends.get(index).map_or("?", String::as_str);
        let sentence = sentence.text(" sent ").figure("100 %").text(" of ").figure(calls);
        if busiest.iter().all(|&index| index == busiest[0]) {
            let each =
                if repeats > 1 { format!(" in each of {repeats} repeats") } else { String::new() };
            return sentence.text(" calls to ").figure(id(busiest[0])).text(&each);
        }
        let ids: Vec<&str> = busiest.iter().map(|&index| id(index)).collect();
        return sentence
            .text(" calls to one backend, another one from repeat to repeat: ")
            .figure(ids.join(", "));
    }
    let Some(largest) = peer.estimate(Figure::MaxShare) else {
        return sentence.text(" answered ").figure(calls).text(" calls");
    };
    let furthest = peer
        .figures()
        .flat_map(|figures| {
            let shares = figures.shares();
            shares
                .into_iter()
                .zip(&model.fair_shares)
                .map(|(share, fair)| (share - fair).abs())
                .collect::<Vec<_>>()
        })
        .fold(0.0, f64::max);
    let sentence = sentence.text(" spread ").figure(calls).text(" calls");
    match model.even_share() {
        Some(even) if furthest < EVEN_WITHIN => sentence
            .text(&format!(" evenly over {} backends, ", model.backends.len()))
            .figure(format::share(even))
            .text(" each"),
        None if furthest < EVEN_WITHIN => sentence.text(" as the weights ask"),
        even => {
            let sentence = sentence.text(" unevenly: the busiest backend got ").shares(&largest);
            match even {
                Some(even) => {
                    sentence.text(&format!(" where {} would be even", format::share(even)))
                }
                None => sentence,
            }
        }
    }
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
    let sentence = sentence.text(", in the kernel, where no process shows what it costs");
    let (Some(lab), Some(machine)) =
        (peer.estimate(Figure::LabCpuPerCall), peer.estimate(Figure::MachineCpuPerCall))
    else {
        return sentence;
    };
    let sentence =
        sentence.text(": client and backends spent ").durations(&lab).text(" of CPU per call");
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
    let sentence = sentence.text(&format!(", with a {}p99 of ", model.loop_word())).durations(&own);
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
    let (before, after) = match peer.beside(reference, figure).significant {
        Difference::Less | Difference::Greater => (" instead of ", ""),
        Difference::TooFew => (" beside ", ""),
        Difference::CannotTell => (" beside ", " (no significant difference)"),
    };
    sentence
        .text(before)
        .peer(reference)
        .text("'s ")
        .figure(format::duration(other.value))
        .text(after)
}

//! What came out of a search for the highest rate, in sentences.

use measure::{
    format,
    record::{SearchLimit, SearchRecord},
    summary::{Saturation, saturation},
};

use super::Sentence;
use crate::{
    model::{Beside, Difference, Model, PeerView, sweep::limit_words},
    once::each_once,
};

/// How far one peer kept the objective.
pub(super) fn of_search(found: Option<Saturation>, sentence: Sentence) -> Sentence {
    let Some(found) = found else {
        return sentence.text(" met the objective at none of the rates that were tried.");
    };
    let sentence = held(sentence.text(" met the objective up to "), &found);
    let others = other_limits(&found);
    let sentence = if others.is_empty() {
        sentence
    } else {
        sentence.text(&format!("; in some repeats {}", others.join(", and ")))
    };
    sentence.text(".")
}

/// What limited a search other than the peer: it decides how far it may be believed.
fn other_limits(found: &Saturation) -> Vec<&'static str> {
    let others = found.limits.iter().filter(|limit| **limit != SearchLimit::Peer);
    each_once(others.map(|limit| limit_words(*limit)))
}

/// The median of the highest rates over the repeats, with the lowest and the highest.
fn held(sentence: Sentence, found: &Saturation) -> Sentence {
    let sentence = sentence.figure(format::rate(found.rate));
    let highest = found.repeats.iter().copied().fold(0.0, f64::max);
    let range = format::range(format::rate(found.low), format::rate(highest));
    match found.repeats.len() {
        0 | 1 => sentence,
        repeats if found.low == highest => {
            sentence.qualified(format!("in each of {repeats} repeats"))
        }
        repeats => sentence.qualified(format!("{range} in {repeats} repeats")),
    }
}

/// The highest rate that a search found for a peer.
pub(super) fn rate(search: &SearchRecord, name: &str, sentence: Sentence) -> Option<Sentence> {
    let found = saturation(search, name)?;
    let sentence = held(sentence, &found);
    // Where it broke at the lowest rate of all, it can't be more.
    let may_be_more = |limit: &&SearchLimit| **limit != SearchLimit::Floor;
    let limits = found.limits.iter().filter(may_be_more).copied().collect();
    let others = other_limits(&Saturation { limits, ..found });
    let others: Vec<&str> = others.iter().filter_map(|limit| limit.split(':').next()).collect();
    Some(match others.is_empty() {
        true => sentence,
        false => sentence.text(&format!(" or more ({})", others.join(", "))),
    })
}

/// The highest rates that a search found for two peers, repeat by repeat.
pub(crate) fn rates_beside(search: &SearchRecord, own: &str, other: &str) -> Option<Beside> {
    let held = |name: &str, repeat: u32| {
        let mut of_peer = search.results.iter().filter(|result| result.peer == name);
        of_peer.find(|result| result.repeat == repeat).map(|result| result.held.unwrap_or(0.0))
    };
    let repeats = search.results.iter().map(|result| result.repeat + 1).max()?;
    let (own, other): (Vec<f64>, Vec<f64>) =
        (0..repeats).filter_map(|repeat| Some((held(own, repeat)?, held(other, repeat)?))).unzip();
    (!own.is_empty()).then(|| Beside::of(&own, &other))
}

/// How far each of two peers kept the objective of a search.
pub(crate) fn found(
    model: &Model<'_>,
    search: &SearchRecord,
    connections: &PeerView<'_>,
    calls: &PeerView<'_>,
) -> Option<Sentence> {
    let objective = search.slo.join(" and ");
    let start = Sentence::default().text(&format!("The highest rate with {objective} was "));
    let sentence = rate(search, &connections.name, start)?.text(" behind ").peer(connections);
    let sentence = rate(search, &calls.name, sentence.text(" and "))?.text(" behind ").peer(calls);
    let beside = rates_beside(search, &calls.name, &connections.name)?;
    let sentence = match beside.ratio.filter(|_| beside.significant != Difference::NotSignificant) {
        Some(ratio) => {
            let (said, range) = format::change_by(ratio.centre, beside.ends());
            sentence.text(": ").figure(said).qualified(range)
        }
        None => sentence.text("; there is no significant difference between the two"),
    };
    let capacity = capacity(model);
    Some(match capacity {
        Some(capacity) => sentence
            .text("; all backends together can serve ")
            .figure(format::rate(capacity))
            .text("."),
        None => sentence.text("."),
    })
}

/// Calls per second that all backends can serve; `None` where service takes no time.
fn capacity(model: &Model<'_>) -> Option<f64> {
    model
        .run
        .backends
        .iter()
        .map(|backend| {
            let mean_s = backend.service_mean_ns / 1e9;
            (mean_s > 0.0).then(|| f64::from(backend.concurrency) * backend.speed / mean_s)
        })
        .sum()
}

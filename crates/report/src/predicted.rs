//! A prediction and what came of it, in words.

use analysis::prediction::{Outcome, Score, scores};

/// The peer, and the point in a sweep.
pub(crate) fn name(one: &Outcome) -> String {
    one.point.as_ref().map_or_else(|| one.peer.clone(), |point| format!("{} at {point}", one.peer))
}

/// Whether it came true, and whether anybody said it would.
pub(crate) fn inside(one: &Outcome) -> &'static str {
    match (one.is_inside, one.extrapolated.is_empty()) {
        (Some(true), true) => "inside",
        (Some(true), false) => "inside, extrapolated",
        (Some(false), true) => "outside",
        (Some(false), false) => "outside, extrapolated",
        (None, _) => "not measured",
    }
}

/// How many came true, in sentences.
pub(crate) fn score(outcomes: &[Outcome]) -> String {
    let (within, beyond) = scores(outcomes);
    let part = |score: Score, what: &str| {
        let Score { inside, of } = score;
        let are = if inside == 1 { "lies" } else { "lie" };
        (of > 0).then(|| format!("Of {of} figures {what}, {inside} {are} inside their intervals."))
    };
    let parts = [part(within, "within the calibration"), part(beyond, "that are extrapolated")];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() {
        "None of the predicted figures was measured.".into()
    } else {
        parts.join(" ")
    }
}

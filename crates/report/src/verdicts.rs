//! What was found between two runs, in words.

use analysis::{
    compare::{Comparison, Row},
    verdict::Verdict,
};
use measure::format;

/// What it comes down to.
pub(crate) fn sentence(comparison: &Comparison) -> String {
    let tolerance = format::share(comparison.tolerance);
    let (all, unknown) = (comparison.rows.len(), comparison.count(Verdict::Inconclusive));
    let mut text = match (comparison.count(Verdict::Worse), comparison.count(Verdict::Better)) {
        (0, 0) if unknown == all => {
            return "Inconclusive: no figure is known precisely enough.".to_owned();
        }
        (0, 0) => format!("No difference beyond {tolerance} was found."),
        (0, better) => {
            format!(
                "No figure got worse by more than {tolerance}, and {better} of {all} got better."
            )
        }
        (worse, 0) => format!("{worse} of the {all} figures got worse by more than {tolerance}."),
        (worse, better) => {
            format!(
                "{worse} of the {all} figures got worse by more than {tolerance}, and {better} got \
                 better."
            )
        }
    };
    if unknown > 0 {
        text.push_str(&format!(" {unknown} of the {all} figures are inconclusive."));
    }
    text
}

/// What the intervals allow for beyond what the trials show.
pub(crate) fn allowance(comparison: &Comparison) -> String {
    if let Some(repeats) = comparison.interleaved {
        return format!(
            "Both were measured in turn (repeats of each: {repeats}) and are compared repeat by \
             repeat. Each interval has a level of {:.3} %, so that all of them together, and all \
             looks at them, have {:.1} %.",
            comparison.level_of_each * 100.0,
            comparison.level * 100.0
        );
    }
    format!(
        "Each interval has a level of {:.2} %, so that all of them together have {:.0} %. They allow \
         for what equal runs differ by: CPU per call by {}, latency by {} (standard deviation; \
         --moves).",
        comparison.level_of_each * 100.0,
        comparison.level * 100.0,
        format::share(comparison.moves.cpu),
        format::duration(comparison.moves.latency_ns)
    )
}

/// The verdict with what qualifies it: a doubt about the figure, and of one that shows no
/// difference how large one would have been seen.
fn verdict_text(row: &Row) -> String {
    let mut text = words(row.verdict).to_owned();
    let is_open = matches!(row.verdict, Verdict::Same | Verdict::Inconclusive);
    if let Some(change) = row.would_see.filter(|_| is_open) {
        text.push_str(&format!("; would have detected {} or more", format::share(change)));
    }
    if row.in_doubt {
        text.push_str("; in doubt");
    }
    text
}

fn words(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Worse => "worse",
        Verdict::Better => "better",
        Verdict::Same => "same",
        Verdict::Inconclusive => "inconclusive",
    }
}

/// Its cells: peer, figure, before, after, change with interval, verdict.
pub(crate) fn cells(row: &Row) -> [String; 6] {
    let percent = |ratio: f64| match ratio {
        // The highest rate that was tried held: nobody knows where it ends.
        f64::INFINITY => "any".to_owned(),
        ratio => format::off_by(ratio - 1.0),
    };
    let change = match row.interval {
        Some((low, high)) => {
            format!("{} ({} to {})", percent(row.ratio), percent(low), percent(high))
        }
        None if row.ratio.is_finite() => percent(row.ratio),
        None => String::new(),
    };
    [
        row.peer.clone(),
        row.figure.clone(),
        row.shown.show(row.before),
        row.shown.show(row.after),
        change,
        verdict_text(row),
    ]
}

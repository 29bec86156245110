//! Two runs against each other, as text and as a page.

use analysis::{
    compare::{Comparison, Row},
    verdict::Verdict,
};
use measure::format;

use crate::{page, terminal::Style};

/// A comparison as one self-contained page.
pub fn html(comparison: &Comparison) -> String {
    page::compare::render(comparison)
}

/// A comparison as text.
pub fn text(comparison: &Comparison, style: Style) -> String {
    let mut text = format!("before  {}\nafter   {}\n\n", comparison.before, comparison.after);
    let cells: Vec<[String; 6]> = comparison.rows.iter().map(cells).collect();
    let heads = ["peer", "figure", "before", "after", "change", ""].map(str::to_owned);
    let width = |column: usize| {
        let all = cells.iter().chain([&heads]);
        all.map(|row| row[column].chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..6).map(width).collect();
    for (index, row) in std::iter::once(&heads).chain(&cells).enumerate() {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            // Words to the left, numbers to the right.
            line.push_str(&match column {
                0 | 1 | 5 => format!("{cell:<width$}  "),
                _ => format!("{cell:>width$}  "),
            });
        }
        let line = line.trim_end();
        let verdict = index.checked_sub(1).map(|index| comparison.rows[index].verdict);
        let code = match verdict {
            Some(Verdict::Worse) => Some(31),
            Some(Verdict::Better) => Some(32),
            _ => None,
        };
        match code.filter(|_| style.colour) {
            Some(code) => text.push_str(&format!("\x1b[{code}m{line}\x1b[0m\n")),
            None => text.push_str(&format!("{line}\n")),
        }
    }
    text.push_str(&format!("\n{}\n{}\n", sentence(comparison), allowance(comparison)));
    for warning in &comparison.warnings {
        text.push_str(&format!("! {warning}\n"));
    }
    text
}

/// What it comes down to.
pub(crate) fn sentence(comparison: &Comparison) -> String {
    let tolerance = format::share(comparison.tolerance);
    let (all, unknown) = (comparison.rows.len(), comparison.count(Verdict::CannotTell));
    let mut text = match (comparison.count(Verdict::Worse), comparison.count(Verdict::Better)) {
        (0, 0) if unknown == all => {
            return "Nothing can be told: no figure is known well enough.".to_owned();
        }
        (0, 0) => format!("No difference beyond {tolerance} was found."),
        (0, better) => {
            format!("Nothing got worse by more than {tolerance}; {better} got better.")
        }
        (worse, 0) => format!("{worse} got worse by more than {tolerance}."),
        (worse, better) => {
            format!("{worse} got worse by more than {tolerance}, and {better} got better.")
        }
    };
    if unknown > 0 {
        text.push_str(&format!(" Of {unknown} of the {all} figures nothing can be told."));
    }
    text
}

/// What the intervals allow for beyond what the trials show.
pub(crate) fn allowance(comparison: &Comparison) -> String {
    if let Some(repeats) = comparison.interleaved {
        return format!(
            "Both were measured in turn (repeats of each: {repeats}) and are compared repeat by repeat. Each \
             interval is at {:.3} %, so that all together and all looks at them are at {:.1} %.",
            comparison.level_of_each * 100.0,
            comparison.level * 100.0
        );
    }
    format!(
        "Each interval is at {:.2} %, so that all together are at {:.0} %. They allow for what equal runs move by: CPU per call by {}, latency by {} \
         (standard deviation; --moves).",
        comparison.level_of_each * 100.0,
        comparison.level * 100.0,
        format::share(comparison.moves.cpu),
        format::duration(comparison.moves.latency_ns)
    )
}

/// The verdict with what qualifies it: a doubt about the figure, and of one that shows no
/// difference how large one would have been seen.
fn told(row: &Row) -> String {
    let mut text = words(row.verdict).to_owned();
    let is_open = matches!(row.verdict, Verdict::Same | Verdict::CannotTell);
    if let Some(change) = row.would_see.filter(|_| is_open) {
        text.push_str(&format!("; would have seen {} or more", format::share(change)));
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
        Verdict::CannotTell => "can't tell",
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
        told(row),
    ]
}

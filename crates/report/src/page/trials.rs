//! Every trial, one row each, so that nothing hides behind a median.

use analysis::model::{Model, PeerView, TrialView};
use measure::{figure::Figure, format, record::TrialOutcome};

use super::{
    column, compact_table, comparison::side_name, head_row, number_cell, peer_heading, section,
};
use crate::html::Html;

/// A trial this far from its peer's median is marked.
const OUTLIER: f64 = 0.25;

struct Column {
    head: &'static str,
    hint: &'static str,
    figure: Figure,
    /// Whether a trial that differs from the others is marked. Small counts and
    /// times that are chance by nature are not.
    marks_outliers: bool,
}

const COLUMNS: &[Column] = &[
    Column {
        head: "Successful",
        hint: "Successful calls",
        figure: Figure::Calls,
        marks_outliers: true,
    },
    Column {
        head: "Throughput",
        hint: "Successful calls within the window, per second",
        figure: Figure::Throughput,
        marks_outliers: true,
    },
    Column {
        head: "Busiest backend",
        hint: "Largest share of calls that one backend got",
        figure: Figure::MaxShare,
        marks_outliers: true,
    },
    Column {
        head: "p50",
        hint: "Half of the calls were at least this fast",
        figure: Figure::LatencyP50,
        marks_outliers: true,
    },
    Column {
        head: "p99",
        hint: "99 of 100 calls were at least this fast",
        figure: Figure::LatencyP99,
        marks_outliers: true,
    },
    Column {
        head: "Slowest",
        hint: "The slowest successful call",
        figure: Figure::LatencyMax,
        marks_outliers: false,
    },
    Column {
        head: "Queued p99",
        hint: "Time queued in the backend, as reported by it or by the tap in front of it",
        figure: Figure::QueuedP99,
        marks_outliers: false,
    },
    Column {
        head: "Proxy CPU",
        hint: "CPU time of the proxy per call",
        figure: Figure::ProxyCpuPerCall,
        marks_outliers: true,
    },
    Column {
        head: "Sent late p99",
        hint: "How late the generator itself sent calls",
        figure: Figure::GeneratorLatenessP99,
        marks_outliers: false,
    },
];

pub(super) fn write(html: &mut Html, model: &Model<'_>) {
    let trials = model.trials();
    section(html, "trials", "Every trial", |html| {
        if trials.is_empty() {
            html.paragraph("No trial was recorded.");
            return;
        }
        html.fine_print(&format!(
            "In the order they were run. Marked: more than {:.0} % from the peer's median.",
            OUTLIER * 100.0
        ));
        compact_table(html, "Every trial", |html| {
            head(html, model);
            html.tag("tbody", &[], |html| {
                for (peer, trial) in &trials {
                    row(html, model, peer, trial);
                }
            });
        });
    });
}

fn head(html: &mut Html, model: &Model<'_>) {
    head_row(html, |html| {
        column(html, "#", "Place in the run", "num");
        column(html, "Peer", "", "");
        if let Some(sweep) = &model.sweep {
            column(html, sweep.short_key(), sweep.key, "num");
        }
        column(html, "Repeat", "", "num");
        column(html, "Ended", "", "");
        for shown in COLUMNS {
            let word = model.word(shown.figure);
            column(html, &format!("{word}{}", shown.head), shown.hint, "num");
        }
        column(html, "Failed", "Calls that failed or had no answer", "num");
        column(html, "Doubts", "Warnings, notes included", "num");
    });
}

fn point_cell(html: &mut Html, sweep: &analysis::model::sweep::Sweep<'_>, trial: &TrialView<'_>) {
    let value = trial.record.point.as_deref().unwrap_or(format::UNKNOWN);
    let point = sweep.points.iter().find(|point| point.value == value);
    let number = point.and_then(|point| point.number).map(|number| number.to_string());
    let data = number.unwrap_or_else(|| value.to_owned());
    let shown = point.map_or_else(|| value.to_owned(), analysis::model::sweep::label);
    html.leaf("td", &[("class", "num"), ("data-value", &data)], &shown);
}

fn row(html: &mut Html, model: &Model<'_>, peer: &PeerView<'_>, trial: &TrialView<'_>) {
    let record = trial.record;
    let middle = model.at_point(peer, record.point.as_deref());
    html.tag("tr", &[("data-peer", &peer.name)], |html| {
        number_cell(html, Some(u64::from(record.order) + 1), format::count);
        peer_heading(html, &PeerView { title: peer.name.clone(), ..peer.clone() });
        if let Some(sweep) = &model.sweep {
            point_cell(html, sweep, trial);
        }
        number_cell(html, Some(u64::from(record.repeat) + 1), format::count);
        let Some(figures) = &trial.figures else {
            let span = (COLUMNS.len() + 2).to_string();
            let word = match record.outcome {
                TrialOutcome::Interrupted => "interrupted",
                TrialOutcome::Complete if record.is_replaced() => "disturbed",
                TrialOutcome::Complete | TrialOutcome::Failed { .. } => "failed",
            };
            html.leaf("td", &[("class", "c-bad")], word);
            html.leaf("td", &[("colspan", &span), ("class", "missing")], &reason(record));
            return;
        };
        html.leaf("td", &[], "complete");
        for shown in COLUMNS {
            let value = figures.get(middle.compared_by(shown.figure));
            let middle = middle.estimate(shown.figure);
            cell(html, shown, value, middle.filter(|m| m.trials > 2).map(|m| m.value));
        }
        number_cell(html, Some(figures.failed + figures.unfinished), format::count);
        number_cell(html, Some(record.warnings.len() as u64), format::count);
    });
}

fn cell(html: &mut Html, shown: &Column, value: Option<f64>, middle: Option<f64>) {
    let off = |value: f64| Some(value / middle.filter(|middle| *middle > 0.0)? - 1.0);
    match value.and_then(|value| Some((value, off(value)?))) {
        Some((value, off)) if shown.marks_outliers && off.abs() > OUTLIER => {
            let (data, title) =
                (value.to_string(), format!("{:+.0} % from the median", off * 100.0));
            let attributes = [("class", "num outlier"), ("data-value", &*data), ("title", &*title)];
            html.leaf("td", &attributes, &shown.figure.show(value));
        }
        _ => number_cell(html, value, |value| shown.figure.show(value)),
    }
}

fn reason(record: &measure::record::TrialRecord) -> String {
    match &record.outcome {
        TrialOutcome::Failed { side, message } => format!("{}: {message}", side_name(*side)),
        TrialOutcome::Interrupted => "cut short; not included in any figure".to_owned(),
        TrialOutcome::Complete if record.is_replaced() => {
            "disturbed and measured again; not included in any figure".to_owned()
        }
        TrialOutcome::Complete => "no call was scheduled in the measured window".to_owned(),
    }
}

//! Latency over time: how the calls of each moment spread over latencies.
//!
//! A percentile per second would hide that half of the calls are fine and half
//! wait; a column here shows both. All repeats of a peer are laid over each
//! other, which is allowed because nothing is averaged.

use analysis::model::{Model, PeerView};
use measure::{figure::Figure, format, record::SecondRecord};

use super::{Chart, Frame, axis, legend, panels, tipped};
use crate::{
    drawing::{Bounds, Drawing, Fill, Stroke},
    palette::{HEAT_STEPS, Paint},
    scale::{Linear, Log},
};

/// Upper bounds of the steps of the ramp, as shares of a column's calls.
const STEPS: [f64; HEAT_STEPS as usize - 1] = [0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7];
/// Cells of all panels together, about: what keeps the page small.
const CELLS: usize = 4_000;
const ROWS: usize = 26;

/// One second of one trial: latencies with their counts.
struct Second {
    second: u32,
    counts: Vec<(f64, u64)>,
}

pub(super) fn draw(model: &Model<'_>, frame: Frame) -> Chart {
    let seconds: Vec<Vec<Second>> = model.peers.iter().map(seconds_of).collect();
    let all = || seconds.iter().flatten().flat_map(|second| &second.counts);
    let low = all().map(|(value, _)| *value).fold(f64::INFINITY, f64::min);
    let high = all().map(|(value, _)| *value).fold(0.0, f64::max);
    let end = seconds.iter().flatten().map(|second| second.second + 1).max().unwrap_or(1);
    let panels = panels::Panels::over_time(model, frame, 170.0, f64::from(end));
    let mut drawing = panels.drawing();
    // Several seconds share a column when there are many of both.
    let most = (CELLS / ROWS / model.peers.len().max(1)).clamp(4, 40) as u32;
    let per_column = end.div_ceil(most).max(1);
    for (index, (peer, seconds)) in model.peers.iter().zip(&seconds).enumerate() {
        let plot = panels.plot(index);
        let y = Log::over(low, high, (plot.bottom(), plot.y));
        let x = Linear { domain: (0.0, f64::from(end)), range: (plot.x, plot.right()) };
        let none = Linear { domain: (0.0, 1.0), range: (plot.bottom(), plot.y) };
        let axis = panels::Axis { scale: none, ticks: &[], label: format::tick };
        panels.frame(&mut drawing, index, peer, &subtitle(peer), &axis);
        latencies(&mut drawing, plot, &y, panels.is_first_of_row(index));
        panels::seconds(&mut drawing, plot, &x, f64::from(end));
        match peer.missing() {
            Some(reason) => panels.missing(&mut drawing, index, &reason),
            None => cells(&mut drawing, peer, seconds, plot, &x, per_column, &y),
        }
        panels::faults(&mut drawing, peer, plot, &x);
    }
    let entries = legend_entries();
    let (top, left) = (drawing.height + 14.0, panels.plot(0).x);
    drawing.height = top + legend::height(frame.width - left, &entries);
    legend::draw(&mut drawing, (left, top), frame.width - left, &entries);
    Chart {
        title: if model.open_loop() {
            "Latency over time"
        } else {
            "Latency over time (closed loop)"
        }
        .to_owned(),
        note: note(model, per_column),
        alternative: alternative(model),
        drawing,
    }
}

fn seconds_of(peer: &PeerView<'_>) -> Vec<Second> {
    let series = peer.measured().flat_map(|(record, _)| panels::busy_seconds(record));
    series
        .map(|record| Second { second: record.second, counts: counts(record) })
        .filter(|second| !second.counts.is_empty())
        .collect()
}

/// Latencies with their counts. A histogram that can't be read counts as empty,
/// as it does in the figures.
fn counts(second: &SecondRecord) -> Vec<(f64, u64)> {
    let Ok(histogram) = second.latency.to_histogram() else {
        return Vec::new();
    };
    let recorded = histogram.iter_recorded();
    recorded
        .map(|step| (step.value_iterated_to() as f64, step.count_since_last_iteration()))
        .collect()
}

fn subtitle(peer: &PeerView<'_>) -> String {
    match peer.estimate(Figure::LatencyP99) {
        Some(p99) => format!("p99 of the whole window: {}", format::duration(p99.value)),
        None => String::new(),
    }
}

fn latencies(drawing: &mut Drawing, plot: Bounds, y: &Log, numbered: bool) {
    let ground = drawing.ground();
    match numbered {
        true => axis::left(ground, plot.x, plot, y, format::duration_tick),
        false => axis::lines(ground, plot.x, plot, y),
    }
    let base = Stroke::new(Paint::Axis, 1.0);
    ground.line((plot.x, plot.bottom()), (plot.right(), plot.bottom()), base);
}

/// The cells of a panel: columns of time, rows of latency.
fn cells(
    drawing: &mut Drawing,
    peer: &PeerView<'_>,
    seconds: &[Second],
    plot: Bounds,
    x: &Linear,
    per_column: u32,
    y: &Log,
) {
    let row_height = plot.height / ROWS as f64;
    let column_of = |second: &Second| second.second / per_column;
    let last = seconds.iter().map(column_of).max().unwrap_or(0);
    for column in 0..=last {
        let mut rows = [0_u64; ROWS];
        let own = seconds.iter().filter(|second| column_of(second) == column);
        for (value, count) in own.flat_map(|second| &second.counts) {
            let height = (plot.bottom() - y.at(*value)) / row_height;
            rows[(height as usize).min(ROWS - 1)] += count;
        }
        let all: u64 = rows.iter().sum();
        if all == 0 {
            continue;
        }
        let from = x.at(f64::from(column * per_column));
        let to = x.at(f64::from((column + 1) * per_column)).min(plot.right());
        let tip = format!(
            "{} · second {}: {} calls, half of them under {}",
            peer.name,
            column * per_column + 1,
            format::count(all),
            format::duration(middle(&rows, all, y))
        );
        drawing.group(tipped(&peer.name, tip), |group| {
            for (row, count) in rows.iter().enumerate().filter(|(_, count)| **count > 0) {
                let top = plot.bottom() - (row + 1) as f64 * row_height;
                let cell = Bounds {
                    // A whisker of overlap hides the seams between cells.
                    x: from,
                    y: top - 0.3,
                    width: to - from + 0.3,
                    height: row_height + 0.3,
                };
                let step = step(*count as f64 / all as f64);
                group.rect(cell, Fill::new(Paint::Heat(step)));
            }
        });
    }
}

/// The upper edge of the row in which the middle call of a column lies.
fn middle(rows: &[u64], all: u64, y: &Log) -> f64 {
    let mut below = 0;
    let row = rows.iter().position(|count| {
        below += count;
        below * 2 >= all
    });
    let part = (row.unwrap_or(0) + 1) as f64 / rows.len().max(1) as f64;
    y.domain.0 * (y.domain.1 / y.domain.0).powf(part)
}

fn step(share: f64) -> u8 {
    STEPS.iter().filter(|bound| share >= **bound).count() as u8
}

fn legend_entries() -> Vec<(Paint, String)> {
    let percent = |share: f64| format::tick(share * 100.0);
    (0..HEAT_STEPS)
        .map(|step| {
            let index = usize::from(step);
            let text = match (index.checked_sub(1).map(|i| STEPS[i]), STEPS.get(index)) {
                (None, Some(high)) => format!("under {} %", percent(*high)),
                (Some(low), Some(high)) => format!("{}–{} %", percent(low), percent(*high)),
                (Some(low), None) => format!("over {} %", percent(low)),
                (None, None) => String::new(),
            };
            (Paint::Heat(step), text)
        })
        .collect()
}

fn note(model: &Model<'_>, per_column: u32) -> String {
    let column =
        if per_column == 1 { "second".to_owned() } else { format!("{per_column} seconds") };
    let mut text = format!(
        "Each column is a {column}, by when calls ended; the darker a cell, the larger its share of \
         the column's calls (in dark mode, the lighter)."
    );
    if per_column > 1 {
        text = text.replacen("is a ", "is ", 1);
    }
    if model.repeats() > 1 {
        text.push_str(" All repeats together.");
    }
    text.push_str(panels::LEFT_OUT);
    text.push_str(panels::faults_note(model));
    text
}

fn alternative(model: &Model<'_>) -> String {
    let mut text = String::from("Latency over time as a heat map.");
    for peer in &model.peers {
        let said = match (
            peer.missing(),
            peer.estimate(Figure::LatencyP50),
            peer.estimate(Figure::LatencyP99),
        ) {
            (Some(reason), ..) => reason,
            (None, Some(p50), Some(p99)) => format!(
                "half of the calls within {}, 99 of 100 within {}",
                format::duration(p50.value),
                format::duration(p99.value)
            ),
            _ => "no call was answered".to_owned(),
        };
        text.push_str(&format!(" {}: {said}.", peer.name));
    }
    text.push_str(&panels::faults_alternative(model));
    text
}

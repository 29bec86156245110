//! Who served the calls as time went on: a strip a repeat, stacked by backend.

use analysis::model::{Model, PeerView};
use measure::{figure::Figure, format, record::TrialRecord};

use super::{Chart, Frame, legend, panels, tipped};
use crate::{
    drawing::{Bounds, Drawing, Fill, Font, Point},
    palette::{PARTS, Paint},
    scale::Linear,
};

/// Most strips in a panel.
const STRIPS: usize = 5;

pub(super) fn draw(model: &Model<'_>, frame: Frame) -> Chart {
    let end = end(model);
    let panels = panels::Panels::over_time(model, frame, 150.0, end);
    let mut drawing = panels.drawing();
    for (index, peer) in model.peers.iter().enumerate() {
        let plot = panels.plot(index);
        let scale = Linear { domain: (0.0, 1.0), range: (plot.bottom(), plot.y) };
        let axis = panels::Axis { scale, ticks: &[], label: format::tick };
        panels.frame(&mut drawing, index, peer, &subtitle(peer), &axis);
        let x = Linear { domain: (0.0, end), range: (plot.x, plot.right()) };
        panels::seconds(&mut drawing, plot, &x, end);
        match peer.missing() {
            Some(reason) => panels.missing(&mut drawing, index, &reason),
            None => strips(&mut drawing, model, peer, plot, &x, panels.is_first_of_row(index)),
        }
        panels::faults(&mut drawing, peer, plot, &x);
    }
    let entries: Vec<(Paint, String)> =
        model.backends.iter().enumerate().map(|(index, id)| (paint(index), id.clone())).collect();
    let top = drawing.height + 14.0;
    let left = panels.plot(0).x;
    let width = frame.width - left;
    drawing.height = top + legend::height(width, &entries);
    legend::draw(&mut drawing, (left, top), width, &entries);
    Chart {
        title: "Share of calls per backend over time".to_owned(),
        note: note(model),
        alternative: alternative(model),
        drawing,
    }
}

fn paint(backend: usize) -> Paint {
    Paint::Part((backend % usize::from(PARTS)) as u8)
}

/// The end of the last second in which a call ended.
fn end(model: &Model<'_>) -> f64 {
    model
        .peers
        .iter()
        .flat_map(PeerView::measured)
        .flat_map(|(record, _)| {
            panels::busy_seconds(record).map(|second| f64::from(second.second) + 1.0)
        })
        .fold(1.0, f64::max)
}

fn subtitle(peer: &PeerView<'_>) -> String {
    match peer.estimate(Figure::BackendsUsed) {
        Some(used) if used.lowest == used.highest => {
            format!("{} backend{} used", used.value, if used.value == 1.0 { "" } else { "s" })
        }
        Some(used) => format!("{} to {} backends used", used.lowest, used.highest),
        None => "no call was answered".to_owned(),
    }
}

fn strips(
    drawing: &mut Drawing,
    model: &Model<'_>,
    peer: &PeerView<'_>,
    plot: Bounds,
    x: &Linear,
    numbered: bool,
) {
    let records: Vec<&TrialRecord> =
        peer.measured().map(|(record, _)| record).take(STRIPS).collect();
    let gap = 5.0;
    let height = (plot.height + gap) / records.len().max(1) as f64 - gap;
    for (index, record) in records.iter().enumerate() {
        let y = plot.y + index as f64 * (height + gap);
        let strip = Bounds { y, height, ..plot };
        if numbered && records.len() > 1 {
            let font = Font::new(11.5).paint(Paint::Soft).end();
            let at = (plot.x - 7.0, y + height / 2.0 + 4.0);
            drawing.ground().text(at, (record.repeat + 1).to_string(), font);
        }
        stack(drawing, model, peer, record, strip, x);
    }
}

/// One repeat: each backend's band between those before it and itself.
fn stack(
    drawing: &mut Drawing,
    model: &Model<'_>,
    peer: &PeerView<'_>,
    record: &TrialRecord,
    strip: Bounds,
    x: &Linear,
) {
    let y = Linear { domain: (0.0, 1.0), range: (strip.bottom(), strip.y) };
    for (backend, id) in model.backends.iter().enumerate() {
        let own: u64 =
            record.series.iter().filter_map(|second| second.per_backend.get(backend)).sum();
        if own == 0 {
            continue;
        }
        let all: u64 = record.series.iter().flat_map(|second| &second.per_backend).sum();
        let tip = format!(
            "{} · {id} · repeat {}: {} of calls",
            peer.name,
            record.repeat + 1,
            format::share(own as f64 / all as f64)
        );
        drawing.group(tipped(&peer.name, tip), |group| {
            for band in bands(record, backend, x, &y) {
                group.area(band, Fill::new(paint(backend)));
            }
        });
    }
}

/// The outline of a backend's share over each stretch of seconds with calls.
fn bands(record: &TrialRecord, backend: usize, x: &Linear, y: &Linear) -> Vec<Vec<Point>> {
    let mut bands = Vec::new();
    let (mut lower, mut upper): (Vec<Point>, Vec<Point>) = (Vec::new(), Vec::new());
    let mut finish = |lower: &mut Vec<Point>, upper: &mut Vec<Point>| {
        if !lower.is_empty() {
            upper.reverse();
            lower.append(upper);
            bands.push(std::mem::take(lower));
        }
    };
    let mut next = None;
    for second in panels::busy_seconds(record) {
        if next.is_some_and(|next| next != second.second) {
            finish(&mut lower, &mut upper);
        }
        next = Some(second.second + 1);
        let all: u64 = second.per_backend.iter().sum();
        let part = |count: usize| {
            let below: u64 = second.per_backend.iter().take(count).sum();
            y.at(below as f64 / all as f64)
        };
        let (from, to) = (x.at(f64::from(second.second)), x.at(f64::from(second.second) + 1.0));
        lower.extend([(from, part(backend)), (to, part(backend))]);
        upper.extend([(from, part(backend + 1)), (to, part(backend + 1))]);
    }
    finish(&mut lower, &mut upper);
    bands
}

fn note(model: &Model<'_>) -> String {
    let mut text = String::from("Which backends served the calls that ended in each second.");
    match model.repeats() {
        0 | 1 => {}
        repeats if repeats <= STRIPS => text.push_str(" One strip per repeat."),
        _ => text.push_str(&format!(" One strip per repeat, the first {STRIPS}.")),
    }
    text.push_str(panels::LEFT_OUT);
    text.push_str(panels::faults_note(model));
    text
}

fn alternative(model: &Model<'_>) -> String {
    let mut text = String::from("Share of calls per backend, second by second.");
    for peer in &model.peers {
        let said = match (peer.missing(), peer.estimate(Figure::MaxShare)) {
            (Some(reason), _) => reason,
            (None, Some(largest)) => {
                format!("{}, the busiest got {}", subtitle(peer), format::share(largest.value))
            }
            (None, None) => "no call was answered".to_owned(),
        };
        text.push_str(&format!(" {}: {said}.", peer.name));
    }
    text.push_str(&panels::faults_alternative(model));
    text
}

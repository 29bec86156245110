//! Calls that came back, second by second: the good ones and the failed ones,
//! each repeat a line.

use measure::record::TrialRecord;

use super::{Chart, Frame, panels, tipped};
use crate::{
    drawing::{Bounds, Drawing, Fill, Group, Point, Stroke},
    format,
    model::{Model, PeerView},
    palette::Paint,
    scale::{Linear, ticks},
};

pub(super) fn draw(model: &Model<'_>, frame: Frame) -> Chart {
    let panels = panels::Panels::over_time(model, frame, 150.0);
    let mut drawing = panels.drawing();
    let (end, top) = extent(model);
    let ticks = ticks(top * 1.05, 4);
    for (index, peer) in model.peers.iter().enumerate() {
        let plot = panels.plot(index);
        let highest = ticks.last().copied().unwrap_or(1.0);
        let y = Linear { domain: (0.0, highest), range: (plot.bottom(), plot.y) };
        let x = Linear { domain: (0.0, end), range: (plot.x, plot.right()) };
        let axis = panels::Axis { scale: y, ticks: &ticks, label: short_rate };
        panels.frame(&mut drawing, index, peer, &subtitle(peer), &axis);
        panels::seconds(&mut drawing, plot, &x, end);
        match peer.missing() {
            Some(reason) => panels.missing(&mut drawing, index, &reason),
            None => lines(&mut drawing, model, peer, plot, &x, &y),
        }
        panels::faults(&mut drawing, peer, plot, &x);
    }
    Chart {
        title: "Throughput over time".to_owned(),
        note: note(model),
        alternative: alternative(model),
        drawing,
    }
}

/// The last second of any trial, and the highest rate.
fn extent(model: &Model<'_>) -> (f64, f64) {
    let trials = || model.peers.iter().flat_map(|peer| peer.measured().map(|(record, _)| record));
    let end = trials()
        .flat_map(|record| {
            let last = record.series.last().map_or(0.0, |second| f64::from(second.second) + 1.0);
            [last, record.measured_s]
        })
        .fold(1.0, f64::max);
    let top = trials()
        .flat_map(|record| record.series.iter().map(|second| second.ok.max(second.failed) as f64))
        .chain(model.run.load.rate)
        .fold(1.0, f64::max);
    (end, top)
}

fn short_rate(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{}M", format::number(v / 1e6)),
        v if v >= 10_000.0 => format!("{:.0}k", v / 1e3),
        v => format::tick(v),
    }
}

fn subtitle(peer: &PeerView<'_>) -> String {
    match peer.estimate("throughput") {
        Some(rate) => format!("{} in the window", format::rate(rate.value)),
        None => String::new(),
    }
}

/// One peer's repeats.
fn lines(
    drawing: &mut Drawing,
    model: &Model<'_>,
    peer: &PeerView<'_>,
    plot: Bounds,
    x: &Linear,
    y: &Linear,
) {
    window_end(drawing, peer, plot, x);
    if let Some(rate) = model.run.load.rate {
        let at = y.at(rate);
        let stroke = Stroke::new(Paint::Ink, 1.2).dashed(4.0, 3.0);
        drawing.ground().line((plot.x, at), (x.at(measured_s(peer)), at), stroke);
    }
    for (record, _) in peer.measured() {
        let ok: u64 = record.series.iter().map(|second| second.ok).sum();
        let steps = steps(record, x, y, |second| second.ok);
        let tip = format!(
            "{} · repeat {}: {} calls came back well",
            peer.name,
            record.repeat + 1,
            format::count(ok)
        );
        drawing.group(tipped(&peer.name, tip), |group| {
            group.area(closed(&steps, y), Fill::new(peer.paint).alpha(0.07));
            group.path(steps, Stroke::new(peer.paint, 1.8).alpha(0.9));
        });
    }
    failures(drawing, peer, plot, x, y);
}

/// A bar for each second in which calls failed; never too low to be seen.
fn failures(drawing: &mut Drawing, peer: &PeerView<'_>, plot: Bounds, x: &Linear, y: &Linear) {
    for (record, _) in peer.measured() {
        for second in record.series.iter().filter(|second| second.failed > 0) {
            let tip = format!(
                "{} · repeat {}: {} calls failed in second {}",
                peer.name,
                record.repeat + 1,
                format::count(second.failed),
                second.second + 1
            );
            let (from, to) = (x.at(f64::from(second.second)), x.at(f64::from(second.second) + 1.0));
            let height = (plot.bottom() - y.at(second.failed as f64)).max(4.0);
            let bar =
                Bounds { x: from + 1.0, y: plot.bottom() - height, width: to - from - 2.0, height };
            drawing.group(tipped(&peer.name, tip), |group| {
                group.rect(bar, Fill::new(Paint::Bad));
            });
        }
    }
}

fn measured_s(peer: &PeerView<'_>) -> f64 {
    peer.measured().map(|(record, _)| record.measured_s).fold(0.0, f64::max)
}

/// Where the schedule ended: what comes later is what had piled up.
fn window_end(drawing: &mut Drawing, peer: &PeerView<'_>, plot: Bounds, x: &Linear) {
    let at = x.at(measured_s(peer));
    if at >= plot.right() - 1.0 {
        return;
    }
    drawing.group(Group::of(&peer.name), |group| {
        let after = Bounds { x: at, width: plot.right() - at, ..plot };
        group.rect(after, Fill::new(Paint::Grid).alpha(0.45));
        group.line((at, plot.y), (at, plot.bottom()), Stroke::new(Paint::Axis, 1.0));
    });
}

/// A count per second as steps.
fn steps(
    record: &TrialRecord,
    x: &Linear,
    y: &Linear,
    count: impl Fn(&measure::record::SecondRecord) -> u64,
) -> Vec<Point> {
    let mut points = Vec::new();
    for second in &record.series {
        let height = y.at(count(second) as f64);
        let start = f64::from(second.second);
        points.push((x.at(start), height));
        points.push((x.at(start + 1.0), height));
    }
    points
}

/// The area between steps and the axis.
fn closed(steps: &[Point], y: &Linear) -> Vec<Point> {
    let (Some(first), Some(last)) = (steps.first(), steps.last()) else {
        return Vec::new();
    };
    let mut points = vec![(first.0, y.at(0.0))];
    points.extend_from_slice(steps);
    points.push((last.0, y.at(0.0)));
    points
}

fn note(model: &Model<'_>) -> String {
    let mut text =
        String::from("Calls per second that came back well, by the second they ended in");
    if model.repeats() > 1 {
        text.push_str("; one line per repeat");
    }
    text.push_str(". Red: calls that failed.");
    if let Some(rate) = model.run.load.rate {
        text.push_str(&format!(" Dashed: what was offered, {}.", format::rate(rate)));
    }
    text.push_str(" Shaded: after the schedule had ended.");
    text.push_str(panels::faults_note(model));
    text
}

fn alternative(model: &Model<'_>) -> String {
    let mut text = String::from("Calls per second over time.");
    for peer in &model.peers {
        let said = match (peer.missing(), peer.estimate("throughput")) {
            (Some(reason), _) => reason,
            (None, Some(rate)) => format!(
                "{} came back well in the window, lowest repeat {}, highest {}; {} calls failed",
                format::rate(rate.value),
                format::rate(rate.lowest),
                format::rate(rate.highest),
                format::count(peer.sum(|figures| figures.failed))
            ),
            (None, None) => "no call was answered".to_owned(),
        };
        text.push_str(&format!(" {}: {said}.", peer.name));
    }
    text.push_str(&panels::faults_alternative(model));
    text
}

//! Calls that came back, second by second: the good ones and the failed ones,
//! each repeat a line.

use analysis::model::{Model, PeerView};
use measure::{
    figure::Figure,
    format,
    record::{LoadSetup, RateProfile, SecondRecord, TrialRecord},
};

use super::{Chart, Frame, panels, tipped};
use crate::{
    drawing::{Bounds, Drawing, Fill, Group, Point, Stroke},
    palette::Paint,
    scale::{Linear, ticks},
};

pub(super) fn draw(model: &Model<'_>, frame: Frame) -> Chart {
    let (end, top) = extent(model);
    let panels = panels::Panels::over_time(model, frame, 150.0, end);
    let mut drawing = panels.drawing();
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

/// The end of any trial, and the highest rate.
fn extent(model: &Model<'_>) -> (f64, f64) {
    let trials = || model.peers.iter().flat_map(|peer| peer.measured().map(|(record, _)| record));
    let end = trials()
        .flat_map(|record| {
            [pieces_of(record).last().map_or(0.0, |piece| piece.to_s), record.measured_s]
        })
        .fold(1.0, f64::max);
    let top = trials()
        .flat_map(pieces_of)
        .map(|piece| piece.ok_rate().max(piece.failed_rate()))
        .chain(offered(&model.run.load, end, 0.0).into_iter().map(|(_, rate)| rate))
        .fold(1.0, f64::max);
    (end, top)
}

/// A part of a trial in which calls were counted together: a second, or a part of the
/// one that the measured window ends in.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Piece {
    from_s: f64,
    to_s: f64,
    ok: u64,
    failed: u64,
}

impl Piece {
    fn ok_rate(&self) -> f64 {
        self.ok as f64 / (self.to_s - self.from_s)
    }

    fn failed_rate(&self) -> f64 {
        self.failed as f64 / (self.to_s - self.from_s)
    }
}

/// A second that is shorter than this by less is a whole one: the window's end is known
/// to some microseconds.
const WHOLE_S: f64 = 1e-3;

fn pieces_of(record: &TrialRecord) -> Vec<Piece> {
    pieces(&record.series, record.measured_s)
}

/// A trial's seconds, the one that the window ends in cut there: half a second's calls
/// are no second's. What came in the rest of it was what had piled up.
fn pieces(series: &[SecondRecord], end_s: f64) -> Vec<Piece> {
    let last = series.len().saturating_sub(1);
    let mut pieces = Vec::with_capacity(series.len() + 1);
    for (index, second) in series.iter().enumerate() {
        let from_s = f64::from(second.second);
        let to_s = from_s + 1.0;
        if end_s < from_s + WHOLE_S || end_s > to_s - WHOLE_S {
            pieces.push(Piece { from_s, to_s, ok: second.ok, failed: second.failed });
            continue;
        }
        let (ok, failed) = (second.ok_after, second.failed_after);
        pieces.push(Piece {
            from_s,
            to_s: end_s,
            ok: second.ok.saturating_sub(ok),
            failed: second.failed.saturating_sub(failed),
        });
        if index < last || ok + failed > 0 {
            pieces.push(Piece { from_s: end_s, to_s, ok, failed });
        }
    }
    pieces
}

/// What was offered: corners of a line in seconds and calls per second. Bursts shorter
/// than `finest_s` are drawn as what they come to on average.
fn offered(load: &LoadSetup, end_s: f64, finest_s: f64) -> Vec<(f64, f64)> {
    let Some(mean) = load.rate else { return Vec::new() };
    let flat = vec![(0.0, mean), (end_s, mean)];
    match &load.profile {
        None => flat,
        Some(RateProfile::Ramp { from, to, over_s }) => {
            let part = (end_s / over_s).min(1.0);
            vec![(0.0, *from), (over_s * part, from + (to - from) * part)]
        }
        Some(RateProfile::Steps { rates, over_s }) => {
            let each_s = over_s / rates.len() as f64;
            let starts = rates.iter().zip(0_u32..).map(|(rate, n)| (each_s * f64::from(n), *rate));
            starts
                .filter(|(start, _)| *start < end_s)
                .flat_map(|(start, rate)| [(start, rate), ((start + each_s).min(end_s), rate)])
                .collect()
        }
        Some(RateProfile::Bursts { on_s, off_s, .. }) if on_s + off_s <= finest_s => flat,
        Some(RateProfile::Bursts { rate, on_s, off_s }) => {
            let starts = (0_u32..).map(|n| f64::from(n) * (on_s + off_s));
            starts
                .take_while(|start| *start < end_s)
                .flat_map(|start| {
                    let stop = start + on_s;
                    [(start, 0.0), (start, *rate), (stop, *rate), (stop, 0.0)]
                })
                .map(|(at, rate)| (at.min(end_s), rate))
                .collect()
        }
    }
}

/// What was offered, in words; empty for a closed loop.
fn offered_in_words(load: &LoadSetup) -> String {
    let Some(mean) = load.rate else { return String::new() };
    let said = match &load.profile {
        None => format::rate(mean),
        Some(RateProfile::Ramp { from, to, .. }) => {
            format!("from {} to {}", format::rate(*from), format::rate(*to))
        }
        Some(RateProfile::Steps { rates, .. }) => {
            let rates: Vec<String> = rates.iter().map(|rate| format::rate(*rate)).collect();
            format!("{} one after the other", rates.join(", "))
        }
        Some(RateProfile::Bursts { rate, on_s, off_s }) => format!(
            "{} for {} and nothing for {} in turn",
            format::rate(*rate),
            format::duration_tick(on_s * 1e9),
            format::duration_tick(off_s * 1e9)
        ),
    };
    format!(" Dashed: what was offered, {said}.")
}

fn short_rate(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{}M", format::number(v / 1e6)),
        v if v >= 10_000.0 => format!("{:.0}k", v / 1e3),
        v => format::tick(v),
    }
}

fn subtitle(peer: &PeerView<'_>) -> String {
    match peer.estimate(Figure::Throughput) {
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
    // Corners nearer than this are no corners to the eye.
    let finest_s = 4.0 * (x.domain.1 - x.domain.0) / plot.width;
    let corners = offered(&model.run.load, measured_s(peer), finest_s);
    if !corners.is_empty() {
        let line = corners.iter().map(|(at, rate)| (x.at(*at), y.at(*rate))).collect();
        drawing.ground().path(line, Stroke::new(Paint::Ink, 1.2).dashed(4.0, 3.0));
    }
    for (record, _) in peer.measured() {
        let ok: u64 = record.series.iter().map(|second| second.ok).sum();
        let steps = steps(record, x, y);
        let tip = format!(
            "{} · repeat {}: {} calls succeeded",
            peer.name,
            record.repeat + 1,
            format::count(ok)
        );
        drawing.group(tipped(&peer.name, tip), |group| {
            group.area(closed(&steps, y), Fill::new(Paint::of(peer.mark)).alpha(0.07));
            group.path(steps, Stroke::new(Paint::of(peer.mark), 1.8).alpha(0.9));
        });
    }
    failures(drawing, peer, plot, x, y);
}

/// A bar for each second, or part of one, in which calls failed; never too low to be seen.
fn failures(drawing: &mut Drawing, peer: &PeerView<'_>, plot: Bounds, x: &Linear, y: &Linear) {
    for (record, _) in peer.measured() {
        for piece in pieces_of(record).into_iter().filter(|piece| piece.failed > 0) {
            let tip = format!(
                "{} · repeat {}: {} calls failed in second {}",
                peer.name,
                record.repeat + 1,
                format::count(piece.failed),
                piece.from_s.floor() + 1.0
            );
            let (from, to) = (x.at(piece.from_s), x.at(piece.to_s));
            let height = (plot.bottom() - y.at(piece.failed_rate())).max(4.0);
            let width = (to - from - 2.0).max(1.0);
            let bar = Bounds { x: from + 1.0, y: plot.bottom() - height, width, height };
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

/// Calls per second as steps.
fn steps(record: &TrialRecord, x: &Linear, y: &Linear) -> Vec<Point> {
    let step = |piece: Piece| {
        let height = y.at(piece.ok_rate());
        [(x.at(piece.from_s), height), (x.at(piece.to_s), height)]
    };
    pieces_of(record).into_iter().flat_map(step).collect()
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
    let mut text = String::from("Successful calls per second, by the second they ended in");
    if model.repeats() > 1 {
        text.push_str("; one line per repeat");
    }
    text.push_str(". Red: calls that failed.");
    text.push_str(&offered_in_words(&model.run.load));
    text.push_str(" Shaded: after the schedule had ended.");
    text.push_str(panels::faults_note(model));
    text
}

fn alternative(model: &Model<'_>) -> String {
    let mut text = String::from("Calls per second over time.");
    for peer in &model.peers {
        let said = match (peer.missing(), peer.estimate(Figure::Throughput)) {
            (Some(reason), _) => reason,
            (None, Some(rate)) => format!(
                "{} succeeded in the window, lowest repeat {}, highest {}; {} calls failed",
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

#[cfg(test)]
mod tests {
    use measure::record::{LoopMode, Tls};

    use super::*;

    /// From when to when, at what rate: of a window's length, and of the calls of each
    /// second with how many of them came after the window.
    fn rates(end_s: f64, ok: &[(u64, u64)]) -> Vec<(f64, f64, f64)> {
        let second = |(second, &(ok, ok_after)): (u32, &(u64, u64))| SecondRecord {
            second,
            ok,
            failed: 0,
            ok_after,
            failed_after: 0,
            per_backend: Vec::new(),
            latency: Default::default(),
        };
        let series: Vec<SecondRecord> = (0..).zip(ok).map(second).collect();
        let all = pieces(&series, end_s).into_iter();
        all.map(|piece| (piece.from_s, piece.to_s, piece.ok_rate())).collect()
    }

    #[test]
    fn a_part_of_a_second_is_divided_by_its_part() {
        // 1,000 calls a second for 1.5 s.
        let steady = rates(1.5, &[(1_000, 0), (500, 0)]);
        assert_eq!(steady, [(0.0, 1.0, 1_000.0), (1.0, 1.5, 1_000.0)]);
        // What had piled up comes after the window and is not taken for its part.
        let behind = rates(1.5, &[(1_000, 0), (800, 300), (200, 200)]);
        let expected =
            [(0.0, 1.0, 1_000.0), (1.0, 1.5, 1_000.0), (1.5, 2.0, 600.0), (2.0, 3.0, 200.0)];
        assert_eq!(behind, expected);
        let whole = rates(2.000_000_4, &[(10, 0), (10, 0), (1, 1)]);
        assert_eq!(whole, [(0.0, 1.0, 10.0), (1.0, 2.0, 10.0), (2.0, 3.0, 1.0)]);
    }

    #[test]
    fn what_was_offered_is_drawn_as_it_was() {
        let load = |profile| LoadSetup {
            service: None,
            mode: LoopMode::Open,
            arrivals: None,
            rate: Some(100.0),
            think_time_ns: 0,
            connections: 1,
            streams: 1,
            call: "unary".to_owned(),
            messages: 1,
            request_bytes: 0,
            response_bytes: 0,
            request_sizes: None,
            response_sizes: None,
            policy: "random".to_owned(),
            fleet: Default::default(),
            client: "wire".to_owned(),
            tls: Tls::None,
            profile,
        };
        let drawn = |profile, end_s| offered(&load(profile), end_s, 0.01);
        assert_eq!(drawn(None, 4.0), [(0.0, 100.0), (4.0, 100.0)]);
        let ramp = || Some(RateProfile::Ramp { from: 50.0, to: 150.0, over_s: 4.0 });
        assert_eq!(drawn(ramp(), 4.0), [(0.0, 50.0), (4.0, 150.0)]);
        assert_eq!(drawn(ramp(), 2.0), [(0.0, 50.0), (2.0, 100.0)], "cut short");
        let steps = Some(RateProfile::Steps { rates: vec![100.0, 50.0], over_s: 4.0 });
        assert_eq!(drawn(steps, 3.0), [(0.0, 100.0), (2.0, 100.0), (2.0, 50.0), (3.0, 50.0)]);
        let bursts = |on_s| Some(RateProfile::Bursts { rate: 300.0, on_s, off_s: 2.0 * on_s });
        assert_eq!(
            drawn(bursts(1.0), 3.5),
            [
                (0.0, 0.0),
                (0.0, 300.0),
                (1.0, 300.0),
                (1.0, 0.0),
                (3.0, 0.0),
                (3.0, 300.0),
                (3.5, 300.0),
                (3.5, 0.0)
            ]
        );
        assert_eq!(drawn(bursts(0.001), 4.0), [(0.0, 100.0), (4.0, 100.0)], "too fine to see");
        let said = offered_in_words(&load(ramp()));
        assert_eq!(said, " Dashed: what was offered, from 50.0/s to 150/s.");
    }
}

//! How long calls took: latency over percentiles, on the axis of HdrHistogram's
//! plots, where each step to the right is a call ten times rarer.
//!
//! The line is the median over the repeats at each percentile, so that it reads
//! what the table says; the band is its interval, and thin lines are the repeats
//! themselves. Where a model fits, a dashed line is what theory says of the time in
//! the backends.

use analysis::model::{Estimate, LEVEL_TEXT, Model, PeerView};
use measure::format;

use super::{Chart, Frame, axis, ends, theory, tipped};
use crate::{
    drawing::{Bounds, Drawing, Fill, Font, Group, Stroke},
    palette::Paint,
    scale::{Linear, Log, place, quantile},
};

/// Calls that have to lie above a percentile for it to be drawn.
const CALLS_ABOVE: f64 = 10.0;
const POINTS: usize = 160;
/// Percentiles that get a dot and a number.
const NAMED: [(f64, &str); 5] =
    [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (0.9999, "p99.99")];

/// One peer's line.
struct Line<'a> {
    peer: &'a PeerView<'a>,
    /// Place on the axis, and the latency there.
    points: Vec<(f64, Estimate)>,
}

pub(crate) fn draw(model: &Model<'_>, frame: Frame) -> Chart {
    let lines: Vec<Line<'_>> = model.peers.iter().filter_map(line).collect();
    let label_width = ends::width(lines.iter().map(|line| &*line.peer.name), frame);
    let (height, left) = if frame.is_narrow() { (330.0, 48.0) } else { (420.0, 62.0) };
    let width = frame.width - left - label_width - 14.0;
    let names = theory::height(model, width);
    let height = frame.height.unwrap_or(height + names);
    let plot = Bounds { x: left, y: 14.0, width, height: height - 70.0 - names };
    let mut drawing = Drawing::new(frame.width, height);
    if lines.is_empty() {
        let font = Font::new(13.0).paint(Paint::Soft);
        drawing.ground().text((plot.x, plot.y + 40.0), "No call was answered.", font);
    } else {
        let all = || lines.iter().flat_map(|line| line.points.iter().map(|(_, value)| value));
        let low = all().map(|value| value.lowest).fold(f64::INFINITY, f64::min);
        let high = all().map(|value| value.highest).fold(0.0, f64::max);
        let y = Log::over(low, high, (plot.bottom(), plot.y));
        let last = lines.iter().filter_map(|line| line.points.last()).map(|(place, _)| *place);
        let x = Linear { domain: (0.0, last.fold(1.0, f64::max)), range: (plot.x, plot.right()) };
        axes(&mut drawing, plot, &x, &y);
        theory::draw(&mut drawing, model, plot, (&x, &y), plot.bottom() + 52.0);
        for line in &lines {
            curve(&mut drawing, line, &x, &y);
        }
        numbers(&mut drawing, &lines, &x, &y, frame);
        let last = lines.iter().filter_map(|line| {
            let (place, value) = line.points.last()?;
            Some((line.peer, (x.at(*place), y.at(value.value))))
        });
        let ends: Vec<_> = last.collect();
        let is_apart = |end: (f64, f64), height: f64| {
            (height - end.1).abs() > 3.0 || end.0 < plot.right() - 1.0
        };
        ends::labels(&mut drawing, &ends, (plot, label_width), 2.0, is_apart);
    }
    Chart { title: title(model), note: note(model), alternative: alternative(model), drawing }
}

fn line<'a>(peer: &'a PeerView<'a>) -> Option<Line<'a>> {
    let fewest = peer.figures().map(|figures| figures.latency().len()).filter(|n| *n > 0).min()?;
    // However few the calls, the median is shown.
    let last = place((1.0 - CALLS_ABOVE / fewest as f64).max(0.5));
    let points = (0..=POINTS)
        .filter_map(|index| {
            let place = last * index as f64 / POINTS as f64;
            let value = peer.estimate_by(|figures| figures.latency_ns(quantile(place)))?;
            Some((place, value))
        })
        .collect();
    Some(Line { peer, points })
}

fn axes(drawing: &mut Drawing, plot: Bounds, x: &Linear, y: &Log) {
    let ground = drawing.ground();
    let small = Font::new(11.5).paint(Paint::Soft);
    axis::left(ground, plot.x, plot, y, format::duration_tick);
    // Where there is no room for both, the middle is worth more than the start.
    let crowded = x.at(place(0.5)) - x.at(0.0) < 34.0;
    let mut last_label = if crowded { plot.x } else { f64::NEG_INFINITY };
    let percentiles = [
        (0.0, "0 %"),
        (0.5, "50 %"),
        (0.9, "90 %"),
        (0.99, "99 %"),
        (0.999, "99.9 %"),
        (0.9999, "99.99 %"),
        (0.99999, "99.999 %"),
    ];
    for (value, label) in percentiles {
        let at = x.at(place(value));
        if at > plot.right() + 0.5 {
            break;
        }
        let label = if at - last_label < 34.0 { "" } else { label };
        if !label.is_empty() {
            last_label = at;
        }
        ground.line((at, plot.y), (at, plot.bottom()), Stroke::new(Paint::Grid, 1.0));
        ground.text((at, plot.bottom() + 18.0), label, small.middle());
    }
    let base = Stroke::new(Paint::Axis, 1.0);
    ground.line((plot.x, plot.bottom()), (plot.right(), plot.bottom()), base);
    let caption = "share of calls that were at least this fast";
    ground.text((plot.x + plot.width / 2.0, plot.bottom() + 40.0), caption, small.middle());
}

fn curve(drawing: &mut Drawing, line: &Line<'_>, x: &Linear, y: &Log) {
    let peer = line.peer;
    drawing.group(Group::of(&peer.name), |group| {
        let at = |(low, high)| (y.at(low), y.at(high));
        let interval = |(place, value): &(f64, Estimate)| Some((x.at(*place), at(value.interval?)));
        ends::band(group, peer, line.points.iter().filter_map(interval));
        if peer.figures().count() > 1 {
            for figures in peer.figures() {
                let repeat = line.points.iter().step_by(2).filter_map(|(place, _)| {
                    Some((x.at(*place), y.at(figures.latency_ns(quantile(*place))?)))
                });
                group.path(repeat.collect(), Stroke::new(Paint::of(peer.mark), 0.8).alpha(0.5));
            }
        }
        let points = line.points.iter().map(|(place, value)| (x.at(*place), y.at(value.value)));
        let stroke = Stroke::new(Paint::of(peer.mark), 2.2);
        let stroke = if peer.mark.again { stroke.dashed(7.0, 4.0) } else { stroke };
        group.path(points.collect(), stroke);
    });
    let last = line.points.last().map_or(0.0, |(place, _)| *place);
    for (value, name) in NAMED {
        if place(value) > last + 1e-9 {
            break;
        }
        let Some(latency) = peer.estimate_by(|figures| figures.latency_ns(value)) else {
            continue;
        };
        let said = if peer.overload.is_some() {
            "overloaded, longer with a longer trial".to_owned()
        } else {
            format!(
                "{name}: {}",
                ends::with_range(&latency, format::duration, format::duration_range)
            )
        };
        let tip = format!("{} · {said}", peer.name);
        drawing.group(tipped(&peer.name, tip), |group| {
            let at = (x.at(place(value)), y.at(latency.value));
            group.dot(at, 9.0, Fill::new(Paint::Paper).alpha(0.01));
            group.dot(at, 3.6, Fill::new(Paint::of(peer.mark)));
        });
    }
}

/// The median and the p99 beside their dots, where there is room for them.
fn numbers(drawing: &mut Drawing, lines: &[Line<'_>], x: &Linear, y: &Log, frame: Frame) {
    const ROOM: f64 = 26.0;
    let named: &[f64] = if frame.is_narrow() { &[0.99] } else { &[0.5, 0.99] };
    for &value in named {
        let at_value: Vec<(&Line<'_>, f64, f64)> = lines
            .iter()
            .filter(|line| line.points.last().is_some_and(|(last, _)| place(value) <= last + 1e-9))
            .filter_map(|line| {
                let latency = line.peer.estimate_by(|figures| figures.latency_ns(value))?;
                Some((line, latency.value, y.at(latency.value)))
            })
            .collect();
        for (line, latency, height) in &at_value {
            let near = |above: bool| {
                at_value.iter().any(|(other, _, other_height)| {
                    let distance =
                        if above { height - other_height } else { other_height - height };
                    let tie = distance == 0.0 && (other.peer.name > line.peer.name) == above;
                    other.peer.name != line.peer.name
                        && (tie || (distance > 0.0 && distance < ROOM))
                })
            };
            // Lines rise to the right: there is room at the upper left and at the
            // lower right of a dot.
            let font = Font::new(12.0).paint(Paint::of(line.peer.mark));
            let (font, across, offset) = match (near(true), near(false)) {
                (false, _) => (font.end(), 8.0, -8.0),
                (true, false) => (font, -4.0, 18.0),
                (true, true) => continue,
            };
            // How long calls took behind an overloaded peer is how long the trial was.
            let text = match (&line.peer.overload, value > 0.9) {
                (None, _) => format::duration(*latency),
                (Some(_), true) => "overloaded".to_owned(),
                (Some(_), false) => continue,
            };
            drawing.group(Group::of(&line.peer.name), |group| {
                let at = (x.at(place(value)) + across, height + offset);
                group.text(at, text, font);
            });
        }
    }
}

fn title(model: &Model<'_>) -> String {
    if model.open_loop() {
        "Latency by percentile, from the scheduled time".to_owned()
    } else {
        "Latency by percentile, from the sending (closed loop)".to_owned()
    }
}

fn note(model: &Model<'_>) -> String {
    let mut text = String::from(
        "Both axes are logarithmic: each step to the right is ten times fewer calls. Lower is \
         better. Lines end where fewer than ten calls are slower.",
    );
    if model.repeats() > 1 {
        text.push_str(" Thick: median of the repeats; thin: each repeat");
        if model.has_intervals() {
            text.push_str(&format!("; band: {LEVEL_TEXT} interval"));
        }
        text.push('.');
    }
    if theory::any(model) {
        text.push_str(" Dashed: theory, for the time in the backends alone.");
    }
    text
}

fn alternative(model: &Model<'_>) -> String {
    let mut text = title(model);
    text.push('.');
    for peer in &model.peers {
        text.push_str(&format!(" {}: ", peer.name));
        let named = if peer.overload.is_some() { &[] } else { &NAMED[..] };
        let values: Vec<String> = named
            .iter()
            .filter_map(|(value, name)| {
                let latency = peer.estimate_by(|figures| figures.latency_ns(*value))?;
                Some(format!("{name} {}", format::duration(latency.value)))
            })
            .collect();
        let said = if peer.overload.is_some() {
            "overloaded".to_owned()
        } else if values.is_empty() {
            peer.missing().unwrap_or_else(|| "no call was answered".to_owned())
        } else {
            values.join(", ")
        };
        text.push_str(&format!("{said}."));
    }
    text
}

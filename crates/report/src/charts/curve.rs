//! A figure from point to point of a sweep: a line a peer, instead of bars.
//!
//! Dots are the medians over the repeats, bands their intervals, and dashed lines what
//! theory says where a closed form fits. The points are those that were measured: the
//! axis has a tick at each and none between, and lines only guide the eye.

use analysis::model::{
    Estimate, LEVEL_TEXT, Model, PeerView,
    sweep::{Point, Sweep, label, peer_at},
};
use measure::figure::Figure;

use super::{
    Chart, Frame, axis,
    curves::{Axis, Curve},
    ends, fit, tipped,
};
use crate::{
    drawing::{Bounds, Drawing, Fill, Font, Group, Stroke},
    palette::Paint,
    scale::{Linear, Log, ticks},
};

/// One peer's line.
struct Line<'m, 'a> {
    peer: &'m PeerView<'a>,
    /// Index of the point, the figure there, and what theory says of it.
    values: Vec<(usize, Estimate, Option<f64>)>,
}

/// Where things lie.
struct Layout {
    plot: Bounds,
    x: Vec<f64>,
    y: Scale,
}

enum Scale {
    Straight(Linear, Vec<f64>),
    Log(Log),
}

impl Scale {
    fn at(&self, value: f64) -> f64 {
        match self {
            Self::Straight(linear, _) => linear.at(value.clamp(linear.domain.0, linear.domain.1)),
            Self::Log(log) => log.at(value),
        }
    }
}

/// Draws a curve; an empty chart where the run has no sweep.
pub(super) fn draw(model: &Model<'_>, frame: Frame, curve: &Curve) -> Chart {
    let title = title(model, curve);
    let Some(sweep) = &model.sweep else {
        return Chart {
            title,
            note: String::new(),
            alternative: String::new(),
            drawing: Drawing::new(frame.width, 40.0),
        };
    };
    let lines: Vec<Line<'_, '_>> =
        model.peers.iter().filter_map(|peer| line(sweep, peer, curve)).collect();
    let label_width = ends::width(lines.iter().map(|line| &*line.peer.name), frame);
    let (height, left) = if frame.is_narrow() { (300.0, 52.0) } else { (350.0, 66.0) };
    let height = frame.height.unwrap_or(height);
    let plot = Bounds {
        x: left,
        y: 14.0,
        width: frame.width - left - label_width - 14.0,
        height: height - 70.0,
    };
    let mut drawing = Drawing::new(frame.width, height);
    if lines.is_empty() {
        let font = Font::new(13.0).paint(Paint::Soft);
        drawing.ground().text((plot.x, plot.y + 40.0), "No trial has this figure.", font);
    } else {
        let layout = Layout { plot, x: places(sweep, plot), y: scale(sweep, curve, &lines, plot) };
        axes(&mut drawing, sweep, curve, &layout);
        reference(&mut drawing, sweep, curve, &layout);
        lines.iter().for_each(|line| theory(&mut drawing, line, &layout));
        lines.iter().for_each(|line| values(&mut drawing, sweep, curve, line, &layout));
        let last = lines.iter().filter_map(|line| {
            let (index, value, _) = line.values.last()?;
            Some((line.peer, (layout.x[*index], layout.y.at(value.value))))
        });
        let ends: Vec<_> = last.collect();
        ends::labels(&mut drawing, &ends, (layout.plot, label_width), 5.0, |_, _| true);
    }
    let note = note(model, sweep, curve, &lines);
    let alternative = alternative(&title, sweep, curve, &lines);
    Chart { title, note, alternative, drawing }
}

fn title(model: &Model<'_>, curve: &Curve) -> String {
    let over = model.sweep.as_ref().map(|sweep| format!(", over {}", sweep.in_short()));
    let (word, over) = (model.word(curve.figure), over.unwrap_or_default());
    let mut title = format!("{word}{}{over}", curve.title);
    title[..1].make_ascii_uppercase();
    title
}

fn line<'m, 'a>(
    sweep: &'m Sweep<'a>,
    peer: &'m PeerView<'a>,
    curve: &Curve,
) -> Option<Line<'m, 'a>> {
    let values: Vec<(usize, Estimate, Option<f64>)> = sweep
        .points
        .iter()
        .enumerate()
        .filter_map(|(index, point)| {
            let at = peer_at(point, &peer.name)?;
            let estimate = at.estimate(curve.figure)?;
            let expected = curve.theory.and_then(|theory| theory(&point.model, at));
            Some((index, estimate, expected))
        })
        .collect();
    (!values.is_empty()).then_some(Line { peer, values })
}

/// Where the points lie: in equal ratios where they are numbers over more than a
/// decade, straight where over less, and at equal distances where they are names.
fn places(sweep: &Sweep<'_>, plot: Bounds) -> Vec<f64> {
    let count = sweep.points.len();
    let inset = (plot.width * 0.04).min(26.0);
    let range = (plot.x + inset, plot.right() - inset);
    let numbers: Option<Vec<f64>> = sweep.points.iter().map(|point| point.number).collect();
    let positions: Vec<f64> = match numbers {
        Some(numbers) if count > 1 => {
            let low = numbers.iter().copied().fold(f64::INFINITY, f64::min);
            let high = numbers.iter().copied().fold(0.0, f64::max);
            let in_ratios = low > 0.0 && high / low >= 10.0;
            numbers.iter().map(|value| if in_ratios { value.ln() } else { *value }).collect()
        }
        _ => (0..count).map(|index| index as f64).collect(),
    };
    let low = positions.iter().copied().fold(f64::INFINITY, f64::min);
    let high = positions.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if low >= high {
        return vec![plot.x + plot.width / 2.0; count];
    }
    let scale = Linear { domain: (low, high), range };
    positions.iter().map(|position| scale.at(*position)).collect()
}

fn scale(sweep: &Sweep<'_>, curve: &Curve, lines: &[Line<'_, '_>], plot: Bounds) -> Scale {
    let references =
        sweep.points.iter().filter_map(|point| Some(curve.reference?(sweep, &point.model)?.0));
    let measured = lines.iter().flat_map(|line| &line.values).flat_map(|(_, estimate, theory)| {
        // A wide interval may leave the chart; what was measured may not.
        let (low, high) = estimate.interval.unwrap_or((estimate.value, estimate.value));
        let low = low.max(estimate.lowest / 3.0);
        let high = high.min(estimate.highest * 3.0);
        [Some(low), Some(high), Some(estimate.lowest), Some(estimate.highest), *theory]
    });
    let all: Vec<f64> = measured.flatten().chain(references).filter(|v| v.is_finite()).collect();
    let low = all.iter().copied().filter(|v| *v > 0.0).fold(f64::INFINITY, f64::min);
    let high = all.iter().copied().fold(0.0, f64::max);
    let range = (plot.bottom(), plot.y);
    match curve.axis {
        Axis::Log => Scale::Log(Log::over(low, high, range)),
        Axis::Straight => {
            let whole = curve.figure == Figure::MaxShare;
            let high = if whole { high.min(1.0) } else { high };
            let ticks =
                if whole && high > 0.8 { vec![0.0, 0.25, 0.5, 0.75, 1.0] } else { ticks(high, 4) };
            let top = ticks.last().copied().unwrap_or(1.0);
            Scale::Straight(Linear { domain: (0.0, top), range }, ticks)
        }
    }
}

fn axes(drawing: &mut Drawing, sweep: &Sweep<'_>, curve: &Curve, layout: &Layout) {
    let plot = layout.plot;
    let ground = drawing.ground();
    let small = Font::new(11.5).paint(Paint::Soft);
    match &layout.y {
        Scale::Log(log) => axis::left(ground, plot.x, plot, log, curve.tick),
        Scale::Straight(linear, ticks) => {
            for tick in ticks {
                let at = linear.at(*tick);
                ground.line((plot.x, at), (plot.right(), at), Stroke::new(Paint::Grid, 1.0));
                ground.text((plot.x - 8.0, at + 4.0), (curve.tick)(*tick), small.end());
            }
        }
    }
    // The ends first, then whatever has room between them.
    let last = sweep.points.len() - 1;
    let mut taken: Vec<(f64, f64)> = Vec::new();
    for index in [0, last].into_iter().chain(1..last.max(1)) {
        let (at, text) = (layout.x[index], label(&sweep.points[index]));
        ground.line((at, plot.bottom()), (at, plot.bottom() + 4.0), Stroke::new(Paint::Axis, 1.0));
        let half = small.width(&text) / 2.0 + 4.0;
        if taken.iter().all(|(from, to)| at + half < *from || at - half > *to) {
            taken.push((at - half, at + half));
            ground.text((at, plot.bottom() + 18.0), text, small.middle());
        }
    }
    let base = Stroke::new(Paint::Axis, 1.0);
    ground.line((plot.x, plot.bottom()), (plot.right(), plot.bottom()), base);
    let centre = plot.x + plot.width / 2.0;
    let caption = fit(&sweep.axis(), small, 2.0 * centre.min(drawing.width - centre));
    drawing.ground().text((centre, plot.bottom() + 40.0), caption, small.middle());
}

/// What all peers are held to.
fn reference(drawing: &mut Drawing, sweep: &Sweep<'_>, curve: &Curve, layout: &Layout) {
    let Some(reference) = curve.reference else { return };
    let mut name = "";
    let points: Vec<(f64, f64)> = sweep
        .points
        .iter()
        .zip(&layout.x)
        .filter_map(|(point, at)| {
            let value;
            (value, name) = reference(sweep, &point.model)?;
            Some((*at, layout.y.at(value)))
        })
        .collect();
    let Some(&(_, first)) = points.first() else { return };
    let ground = drawing.ground();
    // A level one goes from edge to edge.
    let level = points.iter().all(|(_, y)| (y - first).abs() < 0.5);
    let points =
        if level { vec![(layout.plot.x, first), (layout.plot.right(), first)] } else { points };
    let (x, y) = points[0];
    ground.path(points, Stroke::new(Paint::Ink, 1.2).dashed(4.0, 3.0));
    let font = Font::new(11.5).paint(Paint::Soft);
    // Of shares all lie above what is even, so that its name has room below.
    let below = curve.axis == Axis::Straight;
    let base = if below { y + 14.0 } else { y - 5.0 };
    ground.text((x + 4.0, base), name, font);
}

fn theory(drawing: &mut Drawing, line: &Line<'_, '_>, layout: &Layout) {
    let points: Vec<(f64, f64)> = line
        .values
        .iter()
        .filter_map(|(index, _, expected)| Some((layout.x[*index], layout.y.at((*expected)?))))
        .collect();
    let paint = Paint::of(line.peer.mark);
    drawing.group(Group::of(&line.peer.name), |group| {
        group.path(points.clone(), Stroke::new(paint, 1.6).dashed(2.5, 3.5));
        for at in points {
            group.dot(at, 3.0, Fill::new(paint));
            group.dot(at, 1.8, Fill::new(Paint::Paper));
        }
    });
}

fn values(
    drawing: &mut Drawing,
    sweep: &Sweep<'_>,
    curve: &Curve,
    line: &Line<'_, '_>,
    layout: &Layout,
) {
    let peer = line.peer;
    drawing.group(Group::of(&peer.name), |group| {
        let at = |(low, high)| (layout.y.at(low), layout.y.at(high));
        let interval = |(index, value, _): &(usize, Estimate, _)| {
            Some((layout.x[*index], at(value.interval?)))
        };
        ends::band(group, peer, line.values.iter().filter_map(interval));
        let points = line.values.iter();
        let points = points.map(|(index, value, _)| (layout.x[*index], layout.y.at(value.value)));
        let stroke = Stroke::new(Paint::of(peer.mark), 2.2);
        let stroke = if peer.mark.again { stroke.dashed(7.0, 4.0) } else { stroke };
        group.path(points.collect(), stroke);
    });
    for (index, value, expected) in &line.values {
        let point = &sweep.points[*index];
        let theory = expected.map(|expected| format!("; theory {}", curve.figure.show(expected)));
        let tip = format!(
            "{} · {}: {}{}",
            peer.name,
            sweep.shown(point),
            ends::with_range(
                value,
                |value| curve.figure.show(value),
                |low, high| curve.figure.show_range(low, high)
            ),
            theory.unwrap_or_default()
        );
        drawing.group(tipped(&peer.name, tip), |group| {
            let at = (layout.x[*index], layout.y.at(value.value));
            group.dot(at, 9.0, Fill::new(Paint::Paper).alpha(0.01));
            group.dot(at, 3.6, Fill::new(Paint::of(peer.mark)));
        });
    }
}

fn note(model: &Model<'_>, sweep: &Sweep<'_>, curve: &Curve, lines: &[Line<'_, '_>]) -> String {
    let mut text = curve.note.to_owned();
    if model.repeats() > 1 {
        text.push_str(" Dots: medians of the repeats at each point");
        let banded = |(_, value, _): &(usize, Estimate, Option<f64>)| value.interval.is_some();
        if lines.iter().any(|line| line.values.iter().any(banded)) {
            text.push_str(&format!("; band: {LEVEL_TEXT} interval"));
        }
        text.push('.');
    }
    let mut points = sweep.points.iter();
    if let Some(reference) = curve.reference
        && let Some((_, name)) = points.find_map(|point| reference(sweep, &point.model))
    {
        text.push_str(&format!(" Dashed in black or white: {name}."));
    }
    let has_theory = lines.iter().any(|line| line.values.iter().any(|(.., t)| t.is_some()));
    if has_theory {
        text.push_str(if curve.figure.is_latency() {
            " Hollow dots: theory, of the time in the backends alone."
        } else {
            " Hollow dots: theory."
        });
    }
    text
}

fn alternative(title: &str, sweep: &Sweep<'_>, curve: &Curve, lines: &[Line<'_, '_>]) -> String {
    let said = |point: &Point<'_>, value: &Estimate| {
        format!("{} at {}", curve.figure.show(value.value), label(point))
    };
    let mut text = format!("{title}.");
    for line in lines {
        let values: Vec<String> = line
            .values
            .iter()
            .map(|(index, value, _)| said(&sweep.points[*index], value))
            .collect();
        text.push_str(&format!(" {}: {}.", line.peer.name, values.join(", ")));
    }
    text
}

//! Where L7's extra CPU equals what L4's imbalance wastes, by service time.
//!
//! A line for each load: what L4 wastes of backends grows with what a call costs
//! them. What L7 costs more does not, and lies level. Where they cross, both are even.

use analysis::{
    decide::{BreakEven, Decision, Value},
    model::LEVEL_TEXT,
};
use measure::format;

use crate::{
    charts::{Chart, Frame, axis, fit},
    drawing::{Bounds, Drawing, Fill, Font, Group, Stroke},
    palette::{PARTS, Paint},
    scale::{Log, spread},
};

/// Service times shown, in nanoseconds: from a lookup to a query of a database.
const SHOWN_NS: (f64, f64) = (1e3, 1e7);

/// Most lines that can be told apart.
const MOST: usize = 4;

/// How a load is named, and the space between its line and the name.
const NAME: Font = Font::new(12.5).bold();
const INDENT: f64 = 12.0;

/// One load.
struct Line<'d> {
    load: &'d BreakEven,
    paint: Paint,
    wasted: Value,
    extra: Value,
    even: Value,
}

pub(super) fn draw(decision: &Decision, frame: Frame) -> Option<Chart> {
    let lines = lines(decision);
    if lines.is_empty() {
        return None;
    }
    let room = if frame.is_narrow() { 0.0 } else { INDENT + names_width(&lines, frame) };
    let legend = if frame.is_narrow() { lines.len() as f64 * 18.0 + 8.0 } else { 0.0 };
    let plot = Bounds {
        x: 50.0,
        y: 12.0 + legend,
        width: frame.width - 50.0 - room - 12.0,
        height: if frame.is_narrow() { 300.0 } else { 340.0 },
    };
    let mut drawing = Drawing::new(frame.width, plot.bottom() + 50.0);
    let lowest = lines.iter().map(|line| line.extra.value).fold(f64::INFINITY, f64::min);
    let evens = || lines.iter().map(|line| line.even);
    let first = evens().map(|even| even.interval.map_or(even.value, |ends| ends.0));
    let last = evens().map(|even| even.interval.map_or(even.value, |ends| ends.1));
    let x = Log::over(
        first.fold(SHOWN_NS.0, f64::min),
        last.fold(SHOWN_NS.1, f64::max),
        (plot.x, plot.right()),
    );
    let highest = lines.iter().map(|line| x.domain.1 * line.wasted.value).fold(1.0, f64::max);
    let y = Log::over(lowest / 20.0, highest.min(lowest * 1e4), (plot.bottom(), plot.y));
    axes(&mut drawing, plot, &x, &y, frame);
    echo(&mut drawing, decision, plot, &x);
    for line in &lines {
        curve(&mut drawing, line, plot, &x, &y);
    }
    names(&mut drawing, &lines, plot, (&x, &y), frame);
    Some(Chart {
        title: "From which service time on L7 pays for itself".to_owned(),
        note: format!(
            "Rising: backend CPU per call that L4's imbalance wastes, for each \
             load measured. Level, dashed: proxy CPU that L7 takes more. Left of the dot L4 is \
             cheaper, right of it L7 is; whiskers are {LEVEL_TEXT} intervals. Both axes are \
             logarithmic."
        ),
        alternative: alternative(&lines),
        drawing,
    })
}

/// The loads with a break-even, one each: that of the pair that sentences are about.
fn lines(decision: &Decision) -> Vec<Line<'_>> {
    let mut lines: Vec<Line<'_>> = Vec::new();
    // Scenarios of their own before points of a sweep, and no more than can be read.
    let mut loads: Vec<&BreakEven> = decision.break_even.iter().collect();
    loads.sort_by_key(|load| load.is_point);
    for load in loads {
        let known = lines.len() >= MOST
            || lines.iter().any(|line| {
                line.load.finding.id == load.finding.id
                    || line.load.connections_text == load.connections_text
            });
        let (Some(even), Some(wasted), Some(extra)) =
            (load.service_time_ns, load.wasted, load.extra_cpu_ns)
        else {
            continue;
        };
        if !known {
            let index = (lines.len() * 2 % usize::from(PARTS)) as u8;
            lines.push(Line { load, paint: Paint::Part(index), wasted, extra, even });
        }
    }
    lines
}

fn axes(drawing: &mut Drawing, plot: Bounds, x: &Log, y: &Log, frame: Frame) {
    let ground = drawing.ground();
    let small = Font::new(11.5).paint(Paint::Soft);
    axis::left(ground, plot.x, plot, y, |ns| format::tick(ns / 1e3));
    axis::below(ground, plot, x, format::duration_tick);
    let caption = if frame.is_narrow() {
        "CPU a call costs a backend (left: cores)"
    } else {
        "CPU that a call costs a backend; left: µs of CPU per call"
    };
    ground.text((plot.x + plot.width / 2.0, plot.bottom() + 40.0), caption, small.middle());
}

/// What a call costs that does nothing but answer, as far as the lab saw.
fn echo(drawing: &mut Drawing, decision: &Decision, plot: Bounds, x: &Log) {
    let first = decision.break_even.iter().find_map(|load| load.echo_cpu_ns);
    let Some(echo) = first else { return };
    let at = x.at(echo.value);
    let tip = format!("A call that does nothing but answer: {}", format::duration(echo.value));
    let stroke = Stroke::new(Paint::Soft, 1.2).dashed(2.0, 4.0);
    drawing.group(Group::default().tip(tip), |group| {
        group.line((at, plot.y), (at, plot.bottom()), stroke);
        let font = Font::new(11.5).paint(Paint::Soft);
        group.text((at + 5.0, plot.y + 12.0), "a call that only answers", font);
    });
}

fn curve(drawing: &mut Drawing, line: &Line<'_>, plot: Bounds, x: &Log, y: &Log) {
    let tip = tip(line);
    drawing.group(Group::default().tip(tip), |group| {
        let (from, to) = ends(line, x, y);
        let place = |service: f64| (x.at(service), y.at(service * line.wasted.value));
        group.line(place(from), place(to), Stroke::new(line.paint, 2.2));
        let level = y.at(line.extra.value);
        let stroke = Stroke::new(line.paint, 1.6).dashed(7.0, 4.0);
        group.line((plot.x, level), (plot.right(), level), stroke);
        let at = (x.at(line.even.value), level);
        if let Some((low, high)) = line.even.interval {
            for edge in [Stroke::new(Paint::Paper, 4.4), Stroke::new(Paint::Ink, 1.6)] {
                group.line((x.at(low), at.1), (x.at(high), at.1), edge);
                for end in [low, high] {
                    group.line((x.at(end), at.1 - 5.0), (x.at(end), at.1 + 5.0), edge);
                }
            }
        }
        group.dot(at, 10.0, Fill::new(Paint::Paper).alpha(0.01));
        group.dot(at, 5.2, Fill::new(Paint::Ink));
        group.dot(at, 3.6, Fill::new(line.paint));
    });
}

/// The service times between which a line is in the plot.
fn ends(line: &Line<'_>, x: &Log, y: &Log) -> (f64, f64) {
    let at = |height: f64| height / line.wasted.value;
    (x.domain.0.max(at(y.domain.0)), x.domain.1.min(at(y.domain.1)))
}

/// The loads' names: at the ends of their lines, or above where room is short.
fn names(
    drawing: &mut Drawing,
    lines: &[Line<'_>],
    plot: Bounds,
    scales: (&Log, &Log),
    frame: Frame,
) {
    let text = |line: &Line<'_>| {
        format!("{}: {}", line.load.connections_text, format::duration(line.even.value))
    };
    if frame.is_narrow() {
        for (index, line) in lines.iter().enumerate() {
            let y = index as f64 * 18.0;
            let swatch = Bounds { x: 0.0, y: y + 3.0, width: 11.0, height: 11.0 };
            drawing.ground().rect(swatch, Fill::new(line.paint));
            let text = fit(&text(line), NAME, frame.width - 18.0);
            drawing.ground().text((17.0, y + 13.0), text, NAME);
        }
        return;
    }
    let ends: Vec<(f64, f64)> = lines
        .iter()
        .map(|line| {
            let (_, to) = self::ends(line, scales.0, scales.1);
            (scales.0.at(to), scales.1.at(to * line.wasted.value))
        })
        .collect();
    let heights: Vec<f64> = ends.iter().map(|(_, y)| *y).collect();
    let placed = spread(&heights, 34.0, plot.y + 8.0, plot.bottom() - 30.0);
    for ((line, end), height) in lines.iter().zip(&ends).zip(placed) {
        let start = plot.right() + INDENT;
        let ground = drawing.ground();
        let leader = Stroke::new(line.paint, 1.0).alpha(0.6);
        ground.line((end.0 + 2.0, end.1), (start - 3.0, height), leader);
        let room = names_width(lines, frame);
        ground.text((start, height + 4.0), fit(&line.load.connections_text, NAME, room), NAME);
        let even = format!("even at {}", format::duration(line.even.value));
        let small = Font::new(12.0).paint(Paint::Soft);
        ground.text((start, height + 19.0), fit(&even, small, room), small);
    }
}

/// The room for names at the ends of lines: what the longest takes, if that leaves
/// most of the picture to the lines.
fn names_width(lines: &[Line<'_>], frame: Frame) -> f64 {
    let widths = lines.iter().map(|line| NAME.width(&line.load.connections_text));
    widths.fold(204.0, f64::max).min(frame.width * 0.35)
}

fn tip(line: &Line<'_>) -> String {
    let range = match line.even.interval {
        Some((low, high)) => format!(" ({})", format::duration_range(low, high)),
        None => String::new(),
    };
    format!(
        "{} · {} beside {}: {} extra CPU per call, {} times a call's own wasted; even at {}{range}",
        line.load.connections_text,
        line.load.calls,
        line.load.connections,
        format::duration(line.extra.value),
        format::factor(line.wasted.value),
        format::duration(line.even.value)
    )
}

fn alternative(lines: &[Line<'_>]) -> String {
    let said: Vec<String> = lines.iter().map(tip).collect();
    format!("Where L7's extra CPU equals what L4's imbalance wastes. {}.", said.join(". "))
}

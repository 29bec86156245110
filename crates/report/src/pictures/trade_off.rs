//! Tail latency against what it costs, a dot a peer: the whole choice in one picture.
//!
//! Both axes are logarithmic. Peers without a process that balances have no place on
//! the axis of its CPU, and stand on a strip of their own beside it. A panel is one run at one
//! load; who did not keep up with it is named, and has no dot.

use analysis::{
    decide::{Decision, PeerRow, RunUsed, Value, micros},
    model::LEVEL_TEXT,
};
use measure::{format, record::Layer};

use crate::{
    charts::{Chart, Frame, axis, fit, wrap},
    drawing::{Bounds, Drawing, Fill, Font, Group, Stroke},
    palette::Paint,
    scale::{Log, spread},
};

/// Scenarios that show the choice at its sharpest and where it matters least.
const SHOWN: [&str; 3] = ["single-conn-flood", "many-conns", "few-conns"];
const PANELS: usize = 2;
const STRIP: f64 = 46.0;
const LABELS: f64 = 104.0;
const HEIGHT: f64 = 300.0;
/// Lines of what a panel shows.
const LINES: usize = 2;

/// One peer's place.
struct Dot<'d> {
    peer: &'d PeerRow,
    p99: Value,
    /// CPU per call of its proxy; none without one.
    cpu: Option<Value>,
}

pub(super) fn draw(decision: &Decision, frame: Frame) -> Option<Chart> {
    let runs = runs(decision);
    if runs.is_empty() {
        return None;
    }
    let columns = if frame.is_narrow() { 1 } else { runs.len() };
    let gap = 36.0;
    let width = (frame.width - gap * (columns as f64 - 1.0)) / columns as f64;
    let rows = runs.len().div_ceil(columns);
    let panel = HEIGHT + 108.0 + 15.0 * (LINES - 1) as f64;
    let mut drawing = Drawing::new(frame.width, rows as f64 * panel - 12.0);
    let all: Vec<Vec<Dot<'_>>> = runs.iter().map(|run| dots(run)).collect();
    let cpus = || all.iter().flatten().filter_map(|dot| dot.cpu).map(|cpu| cpu.value);
    let ends = (cpus().fold(f64::INFINITY, f64::min), cpus().fold(1.0, f64::max));
    for (index, (run, dots)) in runs.iter().zip(&all).enumerate() {
        let at = ((index % columns) as f64 * (width + gap), (index / columns) as f64 * panel);
        one(&mut drawing, run, dots, Bounds { x: at.0, y: at.1, width, height: panel }, ends);
    }
    Some(Chart {
        title: "What tail latency costs".to_owned(),
        note: format!(
            "One dot per peer that kept up with the load: its p99 and the CPU that its proxy uses, \
             in µs per call. Lower and further left is better. Both axes are logarithmic; whiskers are {LEVEL_TEXT} intervals. \
             Peers without a proxy are on the strip at the left."
        ),
        alternative: alternative(&runs, &all),
        drawing,
    })
}

/// The runs shown: each with two peers or more.
fn runs(decision: &Decision) -> Vec<&RunUsed> {
    let fits = |run: &&RunUsed| run.open_loop && dots(run).len() >= 2;
    let mut shown: Vec<&RunUsed> = SHOWN
        .iter()
        .filter_map(|name| {
            let plain =
                |run: &&RunUsed| run.evidence.scenario == *name && run.evidence.settings.is_empty();
            decision.runs.iter().filter(plain).find(fits)
        })
        .take(PANELS)
        .collect();
    if shown.is_empty() {
        shown.extend(decision.runs.iter().find(fits));
    }
    shown
}

fn dots(run: &RunUsed) -> Vec<Dot<'_>> {
    run.peers
        .iter()
        .filter_map(|peer| {
            let bare = peer.in_kernel || matches!(peer.layer, Some(Layer::None | Layer::Client));
            if peer.proxy_cpu_ns.is_none() && !bare {
                return None;
            }
            Some(Dot { peer, p99: peer.latency_p99_ns?, cpu: peer.proxy_cpu_ns })
        })
        .collect()
}

/// Peers that did not keep up with the load, and so have no latency and no cost to compare.
fn overloaded(run: &RunUsed) -> Vec<&str> {
    let is_overloaded = |peer: &&PeerRow| {
        peer.missing.is_none() && peer.max_share.is_some() && peer.latency_p99_ns.is_none()
    };
    run.peers.iter().filter(is_overloaded).map(|peer| peer.peer.as_str()).collect()
}

fn one(drawing: &mut Drawing, run: &RunUsed, dots: &[Dot<'_>], room: Bounds, cpu: (f64, f64)) {
    let title = Font::new(13.5).bold();
    let soft = Font::new(11.5).paint(Paint::Soft);
    drawing.ground().text(
        (room.x, room.y + 14.0),
        fit(&run.evidence.name(), title, room.width),
        title,
    );
    let overloaded = overloaded(run);
    let load = match overloaded.is_empty() {
        true => run.load.clone(),
        false => format!("{}; overloaded: {}", run.load, format::list(&overloaded)),
    };
    for (index, line) in wrap(&load, soft, room.width).iter().take(LINES).enumerate() {
        let base = room.y + 31.0 + index as f64 * 15.0;
        drawing.ground().text((room.x, base), fit(line, soft, room.width), soft);
    }
    let left = 52.0;
    let plot = Bounds {
        x: room.x + left + STRIP,
        y: room.y + 44.0 + 15.0 * (LINES - 1) as f64,
        width: room.width - left - STRIP - LABELS,
        height: HEIGHT,
    };
    let ends = dots.iter().flat_map(|dot| {
        let (low, high) = dot.p99.interval.unwrap_or((dot.p99.value, dot.p99.value));
        [low, high]
    });
    let (low, high) =
        ends.fold((f64::INFINITY, 1.0_f64), |(low, high), v| (low.min(v), high.max(v)));
    let x = Log::over(cpu.0, cpu.1, (plot.x, plot.right()));
    let y = Log::over(low, high, (plot.bottom(), plot.y));
    axes(drawing, plot, &x, &y);
    let place = |dot: &Dot<'_>| {
        let across = dot.cpu.map_or(plot.x - STRIP / 2.0, |cpu| x.at(cpu.value));
        (across, y.at(dot.p99.value))
    };
    for dot in dots {
        marks(drawing, dot, place(dot), &x, &y);
    }
    labels(drawing, dots, plot, &place);
}

fn axes(drawing: &mut Drawing, plot: Bounds, x: &Log, y: &Log) {
    let ground = drawing.ground();
    let small = Font::new(11.0).paint(Paint::Soft);
    let strip = Bounds { x: plot.x - STRIP, width: STRIP - 6.0, ..plot };
    ground.rect(strip, Fill::new(Paint::Grid).alpha(0.45));
    axis::left(ground, strip.x, plot, y, format::duration_tick);
    axis::below(ground, plot, x, |tick| format::tick(tick / 1e3));
    let middle = strip.x + strip.width / 2.0;
    ground.text((middle, plot.bottom() + 36.0), "no proxy", small.middle());
    let caption = fit("CPU of the proxy, µs per call", small, plot.width + LABELS);
    ground.text((plot.x + 10.0, plot.bottom() + 36.0), caption, small);
}

fn marks(drawing: &mut Drawing, dot: &Dot<'_>, at: (f64, f64), x: &Log, y: &Log) {
    let paint = Paint::of(dot.peer.mark);
    drawing.group(Group::of(&dot.peer.peer).tip(tip(dot)), |group| {
        // Something to touch that is larger than what is seen.
        group.dot(at, 10.0, Fill::new(Paint::Paper).alpha(0.01));
        let whisker = Stroke::new(paint, 1.4).alpha(0.8);
        if let Some((low, high)) = dot.p99.interval {
            group.line((at.0, y.at(low)), (at.0, y.at(high)), whisker);
        }
        if let Some((low, high)) = dot.cpu.and_then(|cpu| cpu.interval) {
            group.line((x.at(low), at.1), (x.at(high), at.1), whisker);
        }
        group.dot(at, 5.0, Fill::new(paint));
        // Where colours were used up, a ring is what a dashed line is elsewhere.
        if dot.peer.mark.again {
            group.dot(at, 2.6, Fill::new(Paint::Paper));
        }
    });
}

/// The peers' names at the right, each with a line to its dot.
fn labels(
    drawing: &mut Drawing,
    dots: &[Dot<'_>],
    plot: Bounds,
    place: &dyn Fn(&Dot<'_>) -> (f64, f64),
) {
    let heights: Vec<f64> = dots.iter().map(|dot| place(dot).1).collect();
    let placed = spread(&heights, 16.0, plot.y + 4.0, plot.bottom() - 4.0);
    for (dot, height) in dots.iter().zip(placed) {
        let at = place(dot);
        drawing.group(Group::of(&dot.peer.peer), |group| {
            let start = plot.right() + 12.0;
            let leader = Stroke::new(Paint::of(dot.peer.mark), 0.9).alpha(0.4);
            group.line((at.0 + 6.0, at.1), (start - 3.0, height), leader);
            let font = Font::new(12.5).bold().paint(Paint::of(dot.peer.mark));
            group.text((start, height + 4.0), fit(&dot.peer.peer, font, LABELS - 12.0), font);
        });
    }
}

fn tip(dot: &Dot<'_>) -> String {
    let range = |value: &Value| match value.interval {
        Some((low, high)) => format!(" ({})", format::duration_range(low, high)),
        None => String::new(),
    };
    let cost = match dot.cpu {
        Some(cpu) => format!("{} µs of CPU per call", micros(cpu.value)),
        None if dot.peer.in_kernel => "the kernel balances; its CPU is not billed".to_owned(),
        None => "no proxy".to_owned(),
    };
    format!(
        "{} · p99 {}{}; {cost}",
        dot.peer.peer,
        format::duration(dot.p99.value),
        range(&dot.p99)
    )
}

fn alternative(runs: &[&RunUsed], all: &[Vec<Dot<'_>>]) -> String {
    let mut text = String::from("Tail latency against the proxy's CPU.");
    for (run, dots) in runs.iter().zip(all) {
        let said: Vec<String> = dots.iter().map(|dot| tip(dot).replacen(" ·", ":", 1)).collect();
        text.push_str(&format!(" {}: {}.", run.evidence.name(), said.join("; ")));
    }
    text
}

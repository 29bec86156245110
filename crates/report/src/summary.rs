//! One picture that says the answer alone, 1600 × 900, for a design document.
//!
//! The question, the answer in sentences, the picture or two that the answer rests on,
//! and on what that was measured.

use analysis::{
    findings::{Findings, Piece, Sentence},
    model::{LEVEL_TEXT, Model},
};
use measure::format;

use crate::{
    charts::{self, Chart, ChartKind, Frame, fit},
    drawing::{Drawing, Font, Group},
    fonts::text_width,
    palette::Paint,
    words::{Word, words},
};

const WIDTH: f64 = 1_000.0;
const HEIGHT: f64 = 562.5;
/// Makes 1600 × 900 pixels.
pub(crate) const DENSITY: f64 = 1.6;
const MARGIN: f64 = 36.0;
const ROOM: f64 = WIDTH - 2.0 * MARGIN;

/// Sizes of the question, and of the sentences of the answer: the largest at which what they
/// belong to has room.
const TITLE_SIZES: [f64; 3] = [23.0, 20.0, 17.0];
const ANSWER_SIZES: [f64; 4] = [15.0, 14.0, 13.0, 12.0];
/// Most lines of the question.
const TITLE_LINES: usize = 2;
/// Below this height the pictures can't be read.
const LEAST_PICTURES: f64 = 240.0;
/// Below this one there are none.
const NO_PICTURES: f64 = 120.0;
/// From line to line at the foot.
const FOOT_LINE: f64 = 14.0;

/// Draws it.
pub fn draw(model: &Model<'_>) -> Drawing {
    let mut drawing = Drawing::new(WIDTH, HEIGHT);
    let y = heading(&mut drawing, model);
    let findings = Findings::of(model);
    let foot = footer(&mut drawing, model, &findings);
    let said = findings.said();
    let (answer, top) = answer(&said[..said.len().min(4)], y, foot - LEAST_PICTURES);
    drawing.groups.extend(answer.groups);
    if foot - top >= NO_PICTURES {
        pictures(&mut drawing, model, top, foot - top);
    }
    drawing
}

/// Where the answer ends that is set from `y` on: above `bottom`, as far as there is a size for
/// that.
fn answer(said: &[Sentence], y: f64, bottom: f64) -> (Drawing, f64) {
    let set = |size: f64| {
        let mut drawing = Drawing::new(WIDTH, HEIGHT);
        let flow = |y, one| flow(&mut drawing, one, MARGIN, y + 4.0, ROOM, size);
        let end = said.iter().fold(y, flow) + 22.0;
        (drawing, end)
    };
    let all = ANSWER_SIZES.map(set);
    let [.., smallest] = &all;
    all.iter().find(|(_, end)| *end <= bottom).unwrap_or(smallest).clone()
}

fn heading(drawing: &mut Drawing, model: &Model<'_>) -> f64 {
    let small = Font::new(12.0).paint(Paint::Soft);
    let ground = drawing.ground();
    let simulated = if model.run.simulation.is_some() { " · simulated, not measured" } else { "" };
    let name = format!("layerlab · {}{simulated}", model.run.scenario);
    ground.text((MARGIN, 42.0), name, small);
    let set = |size: f64| {
        let font = Font::new(size).bold();
        (font, charts::wrap(&model.run.question, font, ROOM))
    };
    let all = TITLE_SIZES.map(set);
    let [.., smallest] = &all;
    let (title, lines) = all.iter().find(|one| one.1.len() <= TITLE_LINES).unwrap_or(smallest);
    let mut y = 44.0;
    for line in lines {
        y += title.size * 1.26;
        ground.text((MARGIN, y), line.clone(), *title);
    }
    y + 10.0
}

/// The pictures that the answer rests on, side by side.
fn pictures(drawing: &mut Drawing, model: &Model<'_>, top: f64, room: f64) {
    const GAP: f64 = 36.0;
    /// What the colours of backends take below their chart.
    const LEGEND: f64 = 36.0;
    let kinds = charts::deciding(model);
    let width = (ROOM - GAP * (kinds.len() as f64 - 1.0)) / kinds.len() as f64;
    let title = Font::new(13.5).bold();
    for (index, kind) in kinds.into_iter().enumerate() {
        let x = MARGIN + index as f64 * (width + GAP);
        let (columns, below) = match kind.name {
            "share-over-time" => (4, LEGEND),
            "shares" => (3, 0.0),
            _ => (1, 0.0),
        };
        let frame = Frame { width, height: Some(room - 26.0 - below), columns };
        let chart = kind.of(model, frame);
        let heading = fit(&heading_of(kind, model, &chart), title, width);
        drawing.ground().text((x, top + 12.0), heading, title);
        drawing.place(chart.drawing, x, top + 26.0);
    }
}

/// A chart's title with what its note would say of the lines in it, as short as half of the
/// picture is wide.
fn heading_of(kind: &ChartKind, model: &Model<'_>, chart: &Chart) -> String {
    match kind.name {
        "shares" if model.even_share().is_some() => {
            format!("{}, a bar per repeat; dashed: even", chart.title)
        }
        "shares" => format!("{}, a bar per repeat", chart.title),
        "latency-percentiles" => {
            let latency = if model.open_loop() { "Latency" } else { "Closed-loop latency" };
            format!("{latency} by percentile; thick: median of the repeats")
        }
        _ => chart.title.clone(),
    }
}

/// What was measured on what, and whether to believe it: where it begins.
fn footer(drawing: &mut Drawing, model: &Model<'_>, findings: &Findings) -> f64 {
    let soft = Font::new(11.0).paint(Paint::Soft);
    let mut lines: Vec<(String, Font)> =
        charts::wrap(&source(model, findings), soft, ROOM).into_iter().map(|l| (l, soft)).collect();
    if !findings.doubts.is_empty() {
        let text = "Figures are in doubt: the report says which, and why.".to_owned();
        lines.insert(0, (text, soft.paint(Paint::Bad)));
    }
    let first = HEIGHT - 18.0 - (lines.len() as f64 - 1.0) * FOOT_LINE;
    for (index, (line, font)) in lines.into_iter().enumerate() {
        drawing.ground().text((MARGIN, first + index as f64 * FOOT_LINE), line, font);
    }
    first - 36.0
}

fn source(model: &Model<'_>, findings: &Findings) -> String {
    let run = &model.run;
    let load = &run.load;
    let rate = load.rate.map_or_else(|| "closed loop".to_owned(), format::rate);
    let offered = match &model.sweep {
        // What differs between points is none of all.
        Some(sweep) => format!("{} at {} values", sweep.key, sweep.points.len()),
        None => format!(
            "{rate}, {} × {} streams",
            format::counted(load.connections as usize, "connection"),
            load.streams,
        ),
    };
    let behind = match model.is_of_targets() {
        true => String::new(),
        false => format!(", {} · {} backends", load.policy, run.backends.len()),
    };
    let mut text = format!(
        "{offered}{behind} · {} · {} CPUs · {} · layerlab {}",
        match model.repeats() {
            repeats if model.sweep.is_some() && repeats != 1 => {
                format!("up to {repeats} repeats a point")
            }
            repeats => format::counted(repeats, "repeat"),
        },
        run.environment.cpus,
        run.started_utc,
        run.environment.layerlab_version,
    );
    if model.has_intervals() {
        text = format!("In brackets: {LEVEL_TEXT} confidence intervals. {text}");
    }
    match findings.notes.len() {
        0 => text,
        notes => format!("{text} · {} in the report", format::counted(notes, "note")),
    }
}

/// Sets a sentence in lines from `y` on; where the next one may start.
fn flow(drawing: &mut Drawing, sentence: &Sentence, x: f64, y: f64, width: f64, size: f64) -> f64 {
    let plain = Font::new(size);
    let space = text_width(" ", size);
    let line_height = size * 1.42;
    let (mut at, mut base) = (x, y + size);
    let mut group = Group::default();
    for Word { text, piece, spaced } in words(sentence) {
        let font = match piece {
            Piece::Text(_) => plain,
            Piece::Peer(_, mark) => plain.bold().paint(Paint::of(*mark)),
            Piece::Figure(_) => plain.bold(),
            Piece::Range(_) => plain.paint(Paint::Soft),
        };
        let gap = if spaced && at > x { space } else { 0.0 };
        // Bold is a thickened face here, and a little wider.
        let needed = text_width(&text, size) + if font.bold { 1.0 } else { 0.0 };
        if at + gap + needed > x + width && spaced {
            at = x;
            base += line_height;
        } else {
            at += gap;
        }
        group.text((at, base), text, font);
        at += needed;
    }
    drawing.groups.push(group);
    base + line_height - size
}

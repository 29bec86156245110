//! The charts: one file each, and one list that everything walks.
//!
//! A chart is drawn for a width. The page holds it twice, wide and narrow, and
//! shows the one that fits, because a picture shrunk to a telephone can't be
//! read; the PNG is the wide one with a heading.

pub(crate) mod axis;
mod bars;
mod cpu;
mod curve;
mod curves;
mod ends;
mod heatmap;
mod legend;
mod panels;
mod percentiles;
mod share_over_time;
mod shares;
mod theory;
mod throughput;

use analysis::model::Model;
use measure::figure::{Figure, Unit};

use crate::{
    drawing::{Drawing, Font, Group, Stroke},
    palette::Paint,
};

/// Width of a chart on a screen that has room, in logical pixels.
pub const WIDE: f64 = 920.0;
/// Width of a chart on a telephone.
const NARROW: f64 = 358.0;

/// One kind of chart.
#[derive(Clone, Copy, Debug)]
pub struct ChartKind {
    /// Name of its file and its place in the page.
    pub name: &'static str,
    /// Draws it.
    pub draw: fn(&Model<'_>, Frame) -> Chart,
}

impl ChartKind {
    /// The chart of a run, which says so where nothing of it was measured.
    pub fn of(&self, model: &Model<'_>, frame: Frame) -> Chart {
        let chart = (self.draw)(model, frame);
        if model.run.simulation.is_none() {
            return chart;
        }
        Chart {
            title: format!("{} (simulated)", chart.title),
            alternative: format!("Simulated, not measured. {}", chart.alternative),
            ..chart
        }
    }
}

/// Every chart of a run of one setting, in the page's order.
pub const CHARTS: &[ChartKind] = &[
    ChartKind { name: "shares", draw: shares::draw },
    ChartKind { name: "latency-percentiles", draw: percentiles::draw },
    ChartKind { name: "cpu-per-call", draw: cpu::draw },
    ChartKind { name: "throughput", draw: throughput::draw },
    ChartKind { name: "latency-over-time", draw: heatmap::draw },
    ChartKind { name: "share-over-time", draw: share_over_time::draw },
];

/// The decisive figure as bars.
const DECISIVE: ChartKind =
    ChartKind { name: "decisive", draw: |model, frame| bars::draw(model, frame, figure_of(model)) };
/// The busiest backend's share as bars.
const BUSIEST: ChartKind = ChartKind {
    name: "sweep-shares",
    draw: |model, frame| bars::draw(model, frame, Figure::MaxShare),
};
/// The same with the decisive figure of all peers before the others.
const WITH_DECISIVE: &[ChartKind] =
    &[DECISIVE, CHARTS[0], CHARTS[1], CHARTS[2], CHARTS[3], CHARTS[4], CHARTS[5]];
/// The charts of a sweep over what is no number.
const OVER_NAMES: &[ChartKind] = &[
    BUSIEST,
    ChartKind {
        name: "sweep-p99",
        draw: |model, frame| bars::draw(model, frame, Figure::LatencyP99),
    },
    ChartKind {
        name: "sweep-p50",
        draw: |model, frame| bars::draw(model, frame, Figure::LatencyP50),
    },
    ChartKind {
        name: "sweep-cpu-per-call",
        draw: |model, frame| bars::draw(model, frame, Figure::ProxyCpuPerCall),
    },
    ChartKind {
        name: "sweep-throughput",
        draw: |model, frame| bars::draw(model, frame, Figure::Throughput),
    },
];

/// Peers that lines and panels beside each other can still be told apart of.
const FEW_PEERS: usize = 5;

/// What decides, or what is asked most.
fn figure_of(model: &Model<'_>) -> Figure {
    model.run.answer.as_ref().map_or(Figure::LatencyP99, |answer| answer.figure)
}

/// The pictures that the answer rests on, two of them: that of the decisive figure, and the
/// first of the others; where backends come and go, what became of their shares.
pub(crate) fn deciding(model: &Model<'_>) -> Vec<&'static ChartKind> {
    let kinds = of(model);
    if model.sweep.is_none() && model.peers.len() > FEW_PEERS {
        return vec![&DECISIVE, &BUSIEST];
    }
    if model.has_faults() && model.sweep.is_none() {
        return kinds.into_iter().filter(|kind| kind.name == "share-over-time").collect();
    }
    let decisive = match figure_of(model) {
        _ if kinds[0].name == DECISIVE.name => DECISIVE.name,
        figure if figure.name().contains("cpu") => "cpu-per-call",
        figure if figure.is_latency() && model.run.answer.is_some() => "p99",
        _ => "shares",
    };
    let is_decisive = |kind: &&ChartKind| kind.name.ends_with(decisive);
    let others = kinds.iter().copied().filter(|kind| !is_decisive(kind));
    kinds.iter().copied().filter(is_decisive).chain(others).take(2).collect()
}

/// Whether bars show what the other charts do not: a figure that none of them has, or one
/// of many peers.
fn has_decisive(model: &Model<'_>) -> bool {
    let Some(answer) = &model.run.answer else { return false };
    let unit = answer.figure.unit();
    let is_elsewhere = answer.figure.is_latency()
        || answer.figure == Figure::ProxyCpuPerCall
        || matches!(unit, Unit::Share | Unit::Calls | Unit::Number);
    !is_elsewhere || model.peers.len() > FEW_PEERS && unit == Unit::Time
}

const SHARES: ChartKind = ChartKind {
    name: "sweep-shares",
    draw: |model, frame| curve::draw(model, frame, &curves::SHARES),
};
const P50: ChartKind =
    ChartKind { name: "sweep-p50", draw: |model, frame| curve::draw(model, frame, &curves::P50) };
const P99: ChartKind =
    ChartKind { name: "sweep-p99", draw: |model, frame| curve::draw(model, frame, &curves::P99) };
const CPU: ChartKind = ChartKind {
    name: "sweep-cpu-per-call",
    draw: |model, frame| curve::draw(model, frame, &curves::CPU),
};
const CPU_PER_GIB: ChartKind = ChartKind {
    name: "sweep-cpu-per-gib",
    draw: |model, frame| curve::draw(model, frame, &curves::CPU_PER_GIB),
};
const THROUGHPUT: ChartKind = ChartKind {
    name: "sweep-throughput",
    draw: |model, frame| curve::draw(model, frame, &curves::THROUGHPUT),
};

/// The charts of a swept run, what the sweep is about first.
pub const OVER_CONNECTIONS: &[ChartKind] = &[SHARES, P99, P50, CPU, THROUGHPUT];
/// Likewise, of a sweep over sizes of messages.
pub const OVER_PAYLOAD: &[ChartKind] = &[CPU, CPU_PER_GIB, THROUGHPUT, P99, P50];
/// Likewise, of a sweep over rates.
pub const OVER_RATE: &[ChartKind] = &[CPU, P99, P50, THROUGHPUT, SHARES];
/// Likewise, of a search, or of a sweep over balancers.
const OF_SEARCH: &[ChartKind] = &[P99, P50, THROUGHPUT, CPU, SHARES];

/// The charts that suit a run: bars and lines over time for one setting, curves where
/// a setting differs; none of what nobody knows, as of a target's backends and CPU time.
pub fn of(model: &Model<'_>) -> Vec<&'static ChartKind> {
    let cost = Figure::ProxyCpuPerCall;
    let has_cost =
        || model.peers.iter().any(|peer| peer.figures().any(|one| one.get(cost).is_some()));
    let is_ours = !model.is_of_targets();
    let knows_cost = is_ours || has_cost();
    let knows_backends = is_ours || !model.backends.is_empty();
    let is_known = |kind: &&ChartKind| match kind.name {
        "shares" | "share-over-time" | "sweep-shares" => knows_backends,
        "cpu-per-call" | "sweep-cpu-per-call" | "sweep-cpu-per-gib" => knows_cost,
        _ => true,
    };
    all(model).iter().filter(is_known).collect()
}

fn all(model: &Model<'_>) -> &'static [ChartKind] {
    match &model.sweep {
        None if has_decisive(model) => WITH_DECISIVE,
        None => CHARTS,
        Some(sweep) if sweep.points.iter().any(|point| point.number.is_none()) => OVER_NAMES,
        Some(sweep) if sweep.search.is_some() || sweep.is_of_balancers() => OF_SEARCH,
        Some(sweep) if sweep.is_of_payload() => OVER_PAYLOAD,
        Some(sweep) if sweep.is_of_rate() => OVER_RATE,
        Some(_) => OVER_CONNECTIONS,
    }
}

/// The room a chart has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frame {
    /// In logical pixels.
    pub width: f64,
    /// The height to fill; `None` for what suits the chart.
    pub height: Option<f64>,
    /// Most panels beside each other.
    pub columns: usize,
}

impl Frame {
    /// On a screen that has room, and in a PNG.
    pub fn wide() -> Self {
        Self { width: WIDE, height: None, columns: 4 }
    }

    /// On a telephone.
    pub fn narrow() -> Self {
        Self { width: NARROW, height: None, columns: 1 }
    }

    /// Whether room is short.
    pub(crate) fn is_narrow(&self) -> bool {
        self.width < 600.0
    }
}

/// A chart of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// How to read it.
    pub note: String,
    /// What it says, with the numbers, for those who don't see it.
    pub alternative: String,
    /// The picture, without the title.
    pub drawing: Drawing,
}

impl Chart {
    /// The chart as it stands alone: with title, note and where it is from.
    pub(crate) fn poster(&self, model: &Model<'_>) -> Drawing {
        let run = &model.run;
        self.poster_from(&format!(
            "{} · {} · layerlab {}",
            run.scenario, run.started_utc, run.environment.layerlab_version
        ))
    }

    /// The same with a line of one's own that says where it is from.
    pub(crate) fn poster_from(&self, source: &str) -> Drawing {
        const MARGIN: f64 = 28.0;
        let title = Font::new(19.0).bold();
        let small = Font::new(12.5).paint(Paint::Soft);
        let width = self.drawing.width;
        let lines = wrap(&self.note, small, width);
        let header = 56.0 + lines.len() as f64 * 17.0;
        let height = header + self.drawing.height + 34.0;
        let mut poster = Drawing::new(width + 2.0 * MARGIN, height + MARGIN);
        let ground = poster.ground();
        ground.text((MARGIN, MARGIN + 12.0), self.title.clone(), title);
        for (index, line) in lines.iter().enumerate() {
            ground.text((MARGIN, MARGIN + 34.0 + index as f64 * 17.0), line.clone(), small);
        }
        ground.text((MARGIN, height + 4.0), fit(source, small, width), small);
        poster.place(self.drawing.clone(), MARGIN, header + 4.0);
        poster
    }
}

/// Breaks a text into lines of at most `width`.
pub(crate) fn wrap(text: &str, font: Font, width: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if font.width(&format!("{line} {word}")) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A text cut to the room there is.
pub(crate) fn fit(text: &str, font: Font, width: f64) -> String {
    if font.width(text) <= width {
        return text.to_owned();
    }
    let mut kept: String = text.to_owned();
    while !kept.is_empty() && font.width(&format!("{kept}…")) > width {
        kept.pop();
    }
    format!("{kept}…")
}

/// An interval across a bar.
fn whisker(group: &mut Group, (from, to): (f64, f64), middle: f64, stroke: Stroke) {
    group.line((from, middle), (to, middle), stroke);
    for end in [from, to] {
        group.line((end, middle - 3.5), (end, middle + 3.5), stroke);
    }
}

/// The marks of a peer, with a text for the pointer.
fn tipped(peer: &str, tip: String) -> Group {
    Group::of(peer).tip(tip)
}

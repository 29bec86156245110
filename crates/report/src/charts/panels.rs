//! Small multiples: one panel a peer, all on the same scale.

use analysis::model::{Model, PeerView};
use measure::{
    format,
    record::{FaultRecord, SecondRecord, TrialRecord},
};

use super::{Frame, fit};
use crate::{
    drawing::{Bounds, Drawing, Font, Group, Stroke},
    palette::Paint,
    scale::{Linear, second_ticks},
};

/// Room for the numbers left of the first panel of a row.
const AXIS_WIDTH: f64 = 46.0;
const GAP: f64 = 22.0;
/// Room above the plot: two lines, and the number over the highest bar.
const HEADING: f64 = 52.0;
const FOOT: f64 = 26.0;
/// A plot is at least so high.
const LEAST_PLOT: f64 = 24.0;
/// Between rows of panels.
const ROW_GAP: f64 = 18.0;

/// Where the panels of a chart lie.
pub(super) struct Panels {
    columns: usize,
    count: usize,
    width: f64,
    plot_height: f64,
    frame: Frame,
    /// Room above each plot.
    heading: f64,
}

impl Panels {
    /// Lays out panels of about `plot_height`, or what the frame leaves for it.
    pub(super) fn new(count: usize, frame: Frame, plot_height: f64) -> Self {
        let rows = count.max(1).div_ceil(frame.columns);
        // As many in each row as in the others, where that works out.
        let columns = count.max(1).div_ceil(rows);
        let gaps = (columns - 1) as f64 * GAP;
        let width = (frame.width - AXIS_WIDTH - gaps) / columns as f64;
        let plot_height = frame.height.map_or(plot_height, |height| {
            let row = (height + ROW_GAP) / rows as f64 - ROW_GAP;
            (row - HEADING - FOOT).max(LEAST_PLOT)
        });
        Self { columns, count, width, plot_height, frame, heading: HEADING }
    }

    /// The same for a chart over `end` seconds, with room for the names of faults.
    pub(super) fn over_time(model: &Model<'_>, frame: Frame, plot_height: f64, end: f64) -> Self {
        let panels = Self::new(model.peers.len(), frame, plot_height);
        let x = Linear { domain: (0.0, end), range: (0.0, panels.width) };
        let labels = model.peers.iter().flat_map(|peer| labels(peer, &x));
        let lines = labels.map(|label| label.line + 1).max().unwrap_or(0);
        let names = lines as f64 * FAULT_LINE;
        let plot_height = match frame.height {
            None => panels.plot_height,
            Some(_) => (panels.plot_height - names).max(LEAST_PLOT),
        };
        Self { heading: HEADING + names, plot_height, ..panels }
    }

    /// An empty drawing for all panels.
    pub(super) fn drawing(&self) -> Drawing {
        let rows = self.count.max(1).div_ceil(self.columns);
        let height = rows as f64 * (self.heading + self.plot_height + FOOT + ROW_GAP) - ROW_GAP;
        Drawing::new(self.frame.width, height)
    }

    /// Where the panel of a peer plots.
    pub(super) fn plot(&self, index: usize) -> Bounds {
        let (row, column) = (index / self.columns, index % self.columns);
        Bounds {
            x: AXIS_WIDTH + column as f64 * (self.width + GAP),
            y: row as f64 * (self.heading + self.plot_height + FOOT + ROW_GAP) + self.heading,
            width: self.width,
            height: self.plot_height,
        }
    }

    /// Whether numbers stand left of the panel.
    pub(super) fn is_first_of_row(&self, index: usize) -> bool {
        index.is_multiple_of(self.columns)
    }

    /// Draws a panel's heading, the horizontal grid and its numbers.
    pub(super) fn frame(
        &self,
        drawing: &mut Drawing,
        index: usize,
        peer: &PeerView<'_>,
        subtitle: &str,
        axis: &Axis<'_>,
    ) {
        let plot = self.plot(index);
        drawing.group(Group::of(&peer.name), |group| {
            let name = Font::new(14.0).bold().paint(Paint::of(peer.mark));
            let small = Font::new(12.0).paint(Paint::Soft);
            let top = plot.y - self.heading;
            group.text((plot.x, top + 13.0), fit(&peer.name, name, plot.width), name);
            group.text((plot.x, top + 28.0), fit(subtitle, small, plot.width), small);
        });
        let ground = drawing.ground();
        for tick in axis.ticks {
            let y = axis.scale.at(*tick);
            let paint = if *tick == 0.0 { Paint::Axis } else { Paint::Grid };
            ground.line((plot.x, y), (plot.right(), y), Stroke::new(paint, 1.0));
            if self.is_first_of_row(index) {
                let font = Font::new(11.5).paint(Paint::Soft).end();
                ground.text((plot.x - 7.0, y + 4.0), (axis.label)(*tick), font);
            }
        }
    }

    /// Says in a panel why it is empty.
    pub(super) fn missing(&self, drawing: &mut Drawing, index: usize, reason: &str) {
        let plot = self.plot(index);
        let font = Font::new(12.0).paint(Paint::Soft);
        for (line, text) in super::wrap(reason, font, plot.width - 8.0).iter().take(6).enumerate() {
            let y = plot.y + 20.0 + line as f64 * 16.0;
            drawing.ground().text((plot.x + 4.0, y), fit(text, font, plot.width - 8.0), font);
        }
    }
}

/// Draws the seconds below a plot.
pub(super) fn seconds(drawing: &mut Drawing, plot: Bounds, x: &Linear, end: f64) {
    let ground = drawing.ground();
    let font = Font::new(11.5).paint(Paint::Soft).middle();
    let most = ((plot.width / 34.0) as usize).clamp(2, 10);
    let ticks = second_ticks(end, most);
    for (index, tick) in ticks.iter().enumerate() {
        let at = x.at(*tick);
        let stroke = Stroke::new(Paint::Axis, 1.0);
        ground.line((at, plot.bottom()), (at, plot.bottom() + 4.0), stroke);
        // The unit stands once, at the end.
        let unit = if index + 1 == ticks.len() { " s" } else { "" };
        ground.text((at, plot.bottom() + 17.0), format!("{}{unit}", format::tick(*tick)), font);
    }
}

/// Height of a line of names of faults.
const FAULT_LINE: f64 = 13.0;

/// Whether backends were meddled with in any trial.
pub(super) fn has_faults(model: &Model<'_>) -> bool {
    model.peers.iter().flat_map(PeerView::measured).any(|(record, _)| !record.faults.is_empty())
}

const FAULT_FONT: Font = Font::new(11.0);

/// Where a fault's name goes.
struct Label<'r> {
    fault: &'r FaultRecord,
    /// Where its line is.
    at: f64,
    /// Where its name begins, and in which line above the plot.
    start: f64,
    line: usize,
    name: String,
}

/// The names of a peer's faults, each in the lowest line that has room.
fn labels<'r>(peer: &PeerView<'r>, x: &Linear) -> Vec<Label<'r>> {
    let faults = peer.measured().next().map_or(&[][..], |(record, _)| &record.faults);
    let (left, right) = x.range;
    // Where the last name of each line ends.
    let mut ends: Vec<f64> = Vec::new();
    let on_plot = faults.iter().filter(|fault| (left..=right).contains(&x.at(fault.done_s)));
    on_plot
        .map(|fault| {
            let at = x.at(fault.done_s);
            let unseen = if fault.seen { "" } else { "?" };
            let name = format!("{} {}{unseen}", fault.action, fault.backend);
            let name = fit(&name, FAULT_FONT, right - left);
            let width = FAULT_FONT.width(&name);
            let start = at.min(right - width);
            let line = ends.iter().position(|end| *end <= start).unwrap_or(ends.len());
            ends.resize(ends.len().max(line + 1), 0.0);
            ends[line] = start + width + 4.0;
            Label { fault, at, start, line, name }
        })
        .collect()
}

/// Draws what was done to backends in a peer's first trial: the others did the
/// same at the same times, but for milliseconds.
pub(super) fn faults(drawing: &mut Drawing, peer: &PeerView<'_>, plot: Bounds, x: &Linear) {
    for Label { fault, at, start, line, name } in labels(peer, x) {
        let tip = format!(
            "{} · {} {} at {:.2} s, planned for {:.2} s{}",
            peer.name,
            fault.action,
            fault.backend,
            fault.done_s,
            fault.planned_s,
            if fault.seen { "" } else { "; no visible effect" },
        );
        drawing.group(Group::of(&peer.name).tip(tip), |group| {
            let base = plot.y - 6.0 - line as f64 * FAULT_LINE;
            // A pale edge keeps the line visible on dark bands.
            group.line(
                (at, base + 2.0),
                (at, plot.bottom()),
                Stroke::new(Paint::Paper, 3.4).alpha(0.7),
            );
            let stroke = Stroke::new(Paint::Ink, 1.3);
            let away = analysis::settling::takes_away(&fault.action);
            let stroke = if away { stroke } else { stroke.dashed(4.0, 3.0) };
            group.line((at, base + 2.0), (at, plot.bottom()), stroke);
            group.text((start, base), name, FAULT_FONT);
        });
    }
}

/// What a note says of the lines; nothing without any.
pub(super) fn faults_note(model: &Model<'_>) -> &'static str {
    if has_faults(model) {
        " Vertical lines: faults; dashed if they bring a backend back."
    } else {
        ""
    }
}

/// The faults for those who don't see the lines.
pub(super) fn faults_alternative(model: &Model<'_>) -> String {
    let first = model.peers.iter().flat_map(PeerView::measured).next();
    let faults = first.map_or(&[][..], |(record, _)| &record.faults);
    let said: Vec<String> = faults
        .iter()
        .map(|fault| format!("{} {} at {:.2} s", fault.action, fault.backend, fault.done_s))
        .collect();
    if said.is_empty() { String::new() } else { format!(" Faults: {}.", said.join(", ")) }
}

/// A second with fewer calls than this part of the trial's busiest is left out
/// of charts of shares: a handful of stragglers after the window would take as
/// much room as thousands of calls.
const FEW: f64 = 0.02;
/// What a chart's note says of it.
pub(super) const LEFT_OUT: &str =
    " Seconds with under 2 % of the busiest second's calls are left out.";

/// The seconds of a trial in which more than a few calls ended.
pub(super) fn busy_seconds(record: &TrialRecord) -> impl Iterator<Item = &SecondRecord> {
    let busiest = record.series.iter().map(|second| second.ok).max().unwrap_or(0);
    let least = (busiest as f64 * FEW).max(1.0);
    record.series.iter().filter(move |second| second.ok as f64 >= least)
}

/// The vertical axis all panels share.
pub(super) struct Axis<'a> {
    pub(super) scale: Linear,
    pub(super) ticks: &'a [f64],
    pub(super) label: fn(f64) -> String,
}

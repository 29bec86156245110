//! Small multiples: one panel a peer, all on the same scale.

use super::{Frame, fit};
use crate::{
    drawing::{Bounds, Drawing, Font, Group, Stroke},
    model::PeerView,
    palette::Paint,
    scale::Linear,
};

/// Room for the numbers left of the first panel of a row.
const AXIS_WIDTH: f64 = 46.0;
const GAP: f64 = 22.0;
/// Room above the plot: two lines, and the number over the highest bar.
const HEADING: f64 = 52.0;
const FOOT: f64 = 26.0;
/// Between rows of panels.
const ROW_GAP: f64 = 18.0;

/// Where the panels of a chart lie.
pub(super) struct Panels {
    columns: usize,
    count: usize,
    width: f64,
    plot_height: f64,
    frame: Frame,
}

impl Panels {
    pub(super) fn new(count: usize, frame: Frame, plot_height: f64) -> Self {
        let most = if frame.is_narrow() { 1 } else { 4 };
        let rows = count.max(1).div_ceil(most);
        // As many in each row as in the others, where that works out.
        let columns = count.max(1).div_ceil(rows);
        let gaps = (columns - 1) as f64 * GAP;
        let width = (frame.width - AXIS_WIDTH - gaps) / columns as f64;
        Self { columns, count, width, plot_height, frame }
    }

    /// An empty drawing for all panels.
    pub(super) fn drawing(&self) -> Drawing {
        let rows = self.count.max(1).div_ceil(self.columns);
        let height = rows as f64 * (HEADING + self.plot_height + FOOT + ROW_GAP) - ROW_GAP;
        Drawing::new(self.frame.width, height)
    }

    /// Where the panel of a peer plots.
    pub(super) fn plot(&self, index: usize) -> Bounds {
        let (row, column) = (index / self.columns, index % self.columns);
        Bounds {
            x: AXIS_WIDTH + column as f64 * (self.width + GAP),
            y: row as f64 * (HEADING + self.plot_height + FOOT + ROW_GAP) + HEADING,
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
            let name = Font::new(14.0).bold().paint(peer.paint);
            let small = Font::new(12.0).paint(Paint::Soft);
            let top = plot.y - HEADING;
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

/// The vertical axis all panels share.
pub(super) struct Axis<'a> {
    pub(super) scale: Linear,
    pub(super) ticks: &'a [f64],
    pub(super) label: fn(f64) -> String,
}

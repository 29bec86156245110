//! Logarithmic axes: lines and labels at their ticks, and a short mark at each value between
//! them, so that the axis is seen to be one.

use crate::{
    drawing::{Bounds, Font, Group, Stroke},
    palette::Paint,
    scale::Log,
};

/// Pixels from label to label down an axis.
const LINE: f64 = 15.0;
/// Length of a mark.
const MARK: f64 = 3.0;
const SMALL: Font = Font::new(11.5).paint(Paint::Soft);

/// One at the left of a plot, with lines across it from `from` on.
pub(crate) fn left(
    ground: &mut Group,
    from: f64,
    plot: Bounds,
    y: &Log,
    label: impl Fn(f64) -> String,
) {
    lines(ground, from, plot, y);
    for tick in y.ticks(LINE) {
        ground.text((from - 8.0, y.at(tick) + 4.0), label(tick), SMALL.end());
    }
}

/// The lines and marks of one at the left without its labels.
pub(super) fn lines(ground: &mut Group, from: f64, plot: Bounds, y: &Log) {
    for mark in y.minor() {
        let at = y.at(mark);
        ground.line((from - MARK, at), (from, at), Stroke::new(Paint::Axis, 0.8));
    }
    for tick in y.ticks(LINE) {
        let at = y.at(tick);
        ground.line((from, at), (plot.right(), at), Stroke::new(Paint::Grid, 1.0));
    }
}

/// One below a plot, with its base line.
pub(crate) fn below(ground: &mut Group, plot: Bounds, x: &Log, label: impl Fn(f64) -> String) {
    let ends = [x.domain.0, x.domain.1].map(&label);
    let widest = ends.iter().map(|text| SMALL.width(text)).fold(24.0, f64::max);
    for tick in x.ticks(widest + 8.0) {
        let at = x.at(tick);
        ground.line((at, plot.y), (at, plot.bottom()), Stroke::new(Paint::Grid, 1.0));
        ground.text((at, plot.bottom() + 18.0), label(tick), SMALL.middle());
    }
    for mark in x.minor() {
        let at = x.at(mark);
        let to = plot.bottom() + MARK;
        ground.line((at, plot.bottom()), (at, to), Stroke::new(Paint::Axis, 0.8));
    }
    let base = Stroke::new(Paint::Axis, 1.0);
    ground.line((plot.x, plot.bottom()), (plot.right(), plot.bottom()), base);
}

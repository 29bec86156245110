//! What charts with a line for each peer share: the band of intervals around a line, its
//! name at the end, and what the pointer reads of a value.

use analysis::model::{Estimate, LEVEL_TEXT, PeerView};

use super::{Frame, fit};
use crate::{
    drawing::{Bounds, Drawing, Fill, Font, Group, Stroke},
    palette::Paint,
    scale::spread,
};

/// Fills the band between the lows and the highs, both from left to right.
pub(super) fn band(
    group: &mut Group,
    peer: &PeerView<'_>,
    ends: impl DoubleEndedIterator<Item = (f64, (f64, f64))> + Clone,
) {
    let lows = ends.clone().map(|(at, (low, _))| (at, low));
    let highs = ends.map(|(at, (_, high))| (at, high)).rev();
    group.area(lows.chain(highs).collect(), Fill::new(Paint::of(peer.mark)).alpha(0.13));
}

/// Room for the names in a frame.
pub(super) fn width<'a>(names: impl Iterator<Item = &'a str>, frame: Frame) -> f64 {
    let font = Font::new(13.0).bold();
    names.map(|name| font.width(name)).fold(30.0, f64::max).min(frame.width * 0.24)
}

/// The peers' names right of the plot, at the ends of their lines. A leader starts `gap`
/// right of an end, where `needs_leader` says so of the end and the height of its name.
pub(super) fn labels(
    drawing: &mut Drawing,
    ends: &[(&PeerView<'_>, (f64, f64))],
    (plot, width): (Bounds, f64),
    gap: f64,
    needs_leader: impl Fn((f64, f64), f64) -> bool,
) {
    let heights: Vec<f64> = ends.iter().map(|(_, (_, y))| *y).collect();
    let placed = spread(&heights, 17.0, plot.y + 4.0, plot.bottom() - 4.0);
    for ((peer, end), height) in ends.iter().zip(placed) {
        drawing.group(Group::of(&peer.name), |group| {
            let paint = Paint::of(peer.mark);
            let start = plot.right() + 10.0;
            if needs_leader(*end, height) {
                let leader = Stroke::new(paint, 1.0).alpha(0.5);
                group.line((end.0 + gap, end.1), (start - 2.0, height), leader);
            }
            let font = Font::new(13.0).bold().paint(paint);
            group.text((start, height + 4.5), fit(&peer.name, font, width + 4.0), font);
        });
    }
}

/// A value, the repeats it is the median of, and its interval.
pub(super) fn with_range(
    value: &Estimate,
    show: impl Fn(f64) -> String,
    show_range: impl Fn(f64, f64) -> String,
) -> String {
    let shown = show(value.value);
    match (value.trials, value.interval) {
        (1, _) => shown,
        (n, None) => format!("{shown} (median of {n} repeats)"),
        (n, Some((low, high))) => {
            let range = show_range(low, high);
            format!("{shown} (median of {n} repeats, {LEVEL_TEXT} interval {range})")
        }
    }
}

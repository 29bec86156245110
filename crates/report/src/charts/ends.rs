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
    let bold = Font::new(13.0).bold();
    let room = width + 4.0;
    // Where names are too long, what all have in common goes: the program of `l7:p2c`.
    let is_tight = ends.iter().any(|(peer, _)| bold.width(&peer.name) > room);
    let program = |name: &str| name.split_once(':').map(|(program, _)| program.to_owned());
    let first = ends.first().and_then(|(peer, _)| program(&peer.name));
    let is_of_one = first.is_some() && ends.iter().all(|(peer, _)| program(&peer.name) == first);
    let shown = |name: &str| match name.split_once(':') {
        Some((_, policy)) if is_tight && is_of_one => policy.to_owned(),
        _ => name.to_owned(),
    };
    let placed = spread(&heights, 17.0, plot.y + 4.0, plot.bottom() - 4.0);
    for ((peer, end), height) in ends.iter().zip(placed) {
        drawing.group(Group::of(&peer.name), |group| {
            let paint = Paint::of(peer.mark);
            let start = plot.right() + 10.0;
            if needs_leader(*end, height) {
                let leader = Stroke::new(paint, 1.0).alpha(0.5);
                group.line((end.0 + gap, end.1), (start - 2.0, height), leader);
            }
            let font = bold.paint(paint);
            group.text((start, height + 4.5), fit(&shown(&peer.name), font, room), font);
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

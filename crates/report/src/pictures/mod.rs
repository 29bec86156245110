//! The decision's pictures: tail latency against cost, and where both are even.
//!
//! They are drawn from the decision alone, wide and narrow like a report's charts. A
//! picture whose figures were not measured is left out.

mod even;
mod trade_off;

use analysis::decide::Decision;

use crate::charts::{Chart, Frame};

/// A picture with the name of its file and its place in the page.
pub(crate) struct Picture {
    pub(crate) name: &'static str,
    pub(crate) chart: Chart,
}

/// Draws one from a decision, if it has the figures.
type Draw = fn(&Decision, Frame) -> Option<Chart>;

/// Every picture, in the page's order.
const PICTURES: &[(&str, Draw)] =
    &[("latency-against-cost", trade_off::draw), ("break-even", even::draw)];

pub(crate) fn all(decision: &Decision, frame: Frame) -> Vec<Picture> {
    let drawn = PICTURES
        .iter()
        .filter_map(|(name, draw)| Some(Picture { name, chart: draw(decision, frame)? }));
    drawn.collect()
}

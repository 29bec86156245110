//! The lines of theory in the percentile chart, and what they are named.
//!
//! Peers with one setting have one line: a client that balances calls queues like
//! a proxy that does.

use std::rc::Rc;

use analysis::{
    model::{Model, PeerView},
    theory::Theory,
};
use measure::format;

use super::wrap;
use crate::{
    drawing::{Bounds, Drawing, Font, Group, Stroke},
    palette::Paint,
    scale::{Linear, Log, place},
};

/// Height of a name, and of each further row that a long one takes.
const LINE: f64 = 18.0;
const ROW: f64 = 15.0;
/// Where a name begins, after a piece of its line.
const INDENT: f64 = 31.0;

/// One line, and whose it is.
struct Line<'m, 'a> {
    theory: Rc<Result<Theory, String>>,
    peers: Vec<&'m PeerView<'a>>,
}

impl Line<'_, '_> {
    fn font() -> Font {
        Font::new(12.0).paint(Paint::Soft)
    }

    /// Whose theory it is, in rows of at most `width`.
    fn name(&self, width: f64) -> Vec<String> {
        let Ok(theory) = &*self.theory else { return Vec::new() };
        let peers: Vec<&str> = self.peers.iter().map(|peer| peer.name.as_str()).collect();
        let text = format!("theory for {}: {}", peers.join(", "), theory.name);
        wrap(&text, Self::font(), width - INDENT)
    }
}

/// Whether theory has a line for any peer.
pub(super) fn any(model: &Model<'_>) -> bool {
    !lines(model).is_empty()
}

fn lines<'m, 'a>(model: &'m Model<'a>) -> Vec<Line<'m, 'a>> {
    let mut lines: Vec<Line<'m, 'a>> = Vec::new();
    for peer in model.measured() {
        let theory = analysis::theory::of(model, peer);
        if !(*theory).as_ref().is_ok_and(|theory| theory.curve.len() > 1) {
            continue;
        }
        match lines.iter_mut().find(|line| line.theory == theory) {
            Some(line) => line.peers.push(peer),
            None => lines.push(Line { theory, peers: vec![peer] }),
        }
    }
    lines
}

/// Height that their names take below a chart of this width.
pub(super) fn height(model: &Model<'_>, width: f64) -> f64 {
    lines(model).iter().map(|line| height_of(line.name(width).len())).sum()
}

/// Height of a name of so many rows.
fn height_of(rows: usize) -> f64 {
    LINE + rows.saturating_sub(1) as f64 * ROW
}

/// Draws the lines, and their names from `below` on.
pub(super) fn draw(
    drawing: &mut Drawing,
    model: &Model<'_>,
    plot: Bounds,
    (x, y): (&Linear, &Log),
    mut below: f64,
) {
    for line in lines(model) {
        let Ok(theory) = &*line.theory else { continue };
        let points: Vec<(f64, f64)> = theory
            .curve
            .iter()
            .map(|(q, ns)| (place(*q), *ns))
            .filter(|(at, ns)| *at <= x.domain.1 && *ns >= y.domain.0 && *ns <= y.domain.1)
            .map(|(at, ns)| (x.at(at), y.at(ns)))
            .collect();
        let (group, paint) = match line.peers.as_slice() {
            [peer] => (Group::of(&peer.name), Paint::of(peer.mark)),
            _ => (Group::default(), Paint::Ink),
        };
        let stroke = Stroke::new(paint, 1.6).dashed(2.5, 3.5);
        let tip = format!("theory: {}, {} busy", theory.name, format::share(theory.utilisation));
        drawing.group(group.tip(tip), |group| {
            group.path(points, stroke);
            let at = below + 0.5 * LINE;
            let name = line.name(plot.width);
            below += height_of(name.len());
            group.line((plot.x, at), (plot.x + 24.0, at), stroke);
            for (row, text) in name.into_iter().enumerate() {
                let at = at + 4.0 + row as f64 * ROW;
                group.text((plot.x + INDENT, at), text, Line::font());
            }
        });
    }
}

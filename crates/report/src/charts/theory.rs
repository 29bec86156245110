//! The lines of theory in the percentile chart, and what they are named.
//!
//! Peers with one setting have one line: a client that balances calls queues like
//! a proxy that does.

use std::rc::Rc;

use super::{fit, percentiles::place};
use crate::{
    drawing::{Bounds, Drawing, Font, Group, Stroke},
    format,
    model::{Model, PeerView},
    palette::Paint,
    scale::{Linear, Log},
    theory::Theory,
};

/// Height of a name.
const LINE: f64 = 18.0;

/// One line, and whose it is.
struct Line<'m, 'a> {
    theory: Rc<Result<Theory, String>>,
    peers: Vec<&'m PeerView<'a>>,
}

/// Whether theory has a line for any peer.
pub(super) fn any(model: &Model<'_>) -> bool {
    !lines(model).is_empty()
}

fn lines<'m, 'a>(model: &'m Model<'a>) -> Vec<Line<'m, 'a>> {
    let mut lines: Vec<Line<'m, 'a>> = Vec::new();
    for peer in model.measured() {
        let theory = model.theory(peer);
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

/// Height that their names take below a chart.
pub(super) fn height(model: &Model<'_>) -> f64 {
    lines(model).len() as f64 * LINE
}

/// Draws the lines, and their names from `below` on.
pub(super) fn draw(
    drawing: &mut Drawing,
    model: &Model<'_>,
    plot: Bounds,
    (x, y): (&Linear, &Log),
    below: f64,
) {
    for (index, line) in lines(model).iter().enumerate() {
        let Ok(theory) = &*line.theory else { continue };
        let points: Vec<(f64, f64)> = theory
            .curve
            .iter()
            .map(|(q, ns)| (place(*q), *ns))
            .filter(|(at, ns)| *at <= x.domain.1 && *ns >= y.domain.0 && *ns <= y.domain.1)
            .map(|(at, ns)| (x.at(at), y.at(ns)))
            .collect();
        let (group, paint) = match line.peers.as_slice() {
            [peer] => (Group::of(&peer.name), peer.paint),
            _ => (Group::default(), Paint::Ink),
        };
        let stroke = Stroke::new(paint, 1.6).dashed(2.5, 3.5);
        let tip = format!("theory: {}, {} busy", theory.name, format::share(theory.utilisation));
        drawing.group(group.tip(tip), |group| {
            group.path(points, stroke);
            let at = below + (index as f64 + 0.5) * LINE;
            let names: Vec<&str> = line.peers.iter().map(|peer| peer.name.as_str()).collect();
            let font = Font::new(12.0).paint(Paint::Soft);
            let text = format!("theory for {}: {}", names.join(", "), theory.name);
            group.line((plot.x, at), (plot.x + 24.0, at), stroke);
            group.text((plot.x + 31.0, at + 4.0), fit(&text, font, plot.width - 31.0), font);
        });
    }
}

//! The answer, first.

use analysis::{
    findings::{Findings, Piece, Sentence},
    model::{LEVEL_TEXT, Model},
};

use super::peer_name;
use crate::{html::Html, palette::Paint};

pub(super) fn write(html: &mut Html, model: &Model<'_>) {
    let findings = Findings::of(model);
    html.tag("section", &[("id", "answer")], |html| {
        html.tag("h2", &[("class", "visually-hidden")], |html| html.text("The answer"));
        if !findings.answer.is_empty() {
            html.tag("div", &[("class", "lead")], |html| {
                for line in &findings.answer {
                    html.tag("p", &[], |html| sentence(html, line));
                }
            });
        }
        html.tag("ul", &[("class", "peers")], |html| {
            for line in &findings.peers {
                html.tag("li", &[], |html| sentence(html, line));
            }
        });
        let doubts = findings.doubts.iter().map(|line| (line, "doubt"));
        let caveats: Vec<_> =
            doubts.chain(findings.notes.iter().map(|line| (line, "note"))).collect();
        if !caveats.is_empty() {
            html.tag("ul", &[("class", "caveats")], |html| {
                for (line, class) in caveats {
                    html.tag("li", &[("class", class)], |html| sentence(html, line));
                }
            });
        }
        if model.has_intervals() {
            html.tag("p", &[("class", "fine")], |html| {
                let repeats = match &model.sweep {
                    Some(_) => format!("up to {} repeats at each point", model.repeats()),
                    None => format!("{} repeats", model.repeats()),
                };
                html.text(&format!(
                    "Figures are medians over {repeats}, with {LEVEL_TEXT} confidence intervals in \
                     brackets (Student's t on the logarithms). The ratio or difference of two peers is \
                     that of their medians. Its interval comes from comparing them repeat by repeat; \
                     they differ significantly if it excludes 1 (or 0)."
                ));
            });
        }
        if let Some(learned) = &model.run.learned {
            html.tag("details", &[], |html| {
                html.leaf("summary", &[], "What this scenario shows");
                html.paragraph(learned.trim());
            });
        }
    });
}

/// A sentence with its peers in their colours.
pub(super) fn sentence(html: &mut Html, sentence: &Sentence) {
    for piece in &sentence.0 {
        match piece {
            Piece::Text(text) => html.text(text),
            Piece::Peer(name, mark) => peer_name(html, name, Paint::of(*mark)),
            Piece::Figure(figure) => html.leaf("b", &[("class", "figure")], figure),
            Piece::Range(range) => {
                html.text(" ");
                html.leaf("span", &[("class", "range")], &format!("({range})"));
            }
        }
    }
}

//! How late the generator itself was: what no peer is to blame for.
//!
//! Where a setting differs between trials, their median would be of no point at all;
//! shown is then the worst trial.

use analysis::model::{Estimate, Model, PeerView};
use measure::{figure::Figure, warning::Warning};

use super::{column, figure_cell, head_row, peer_heading, section, table};
use crate::html::Html;

const LATE: &str = "From when a call could have been sent until it was sent";
const RECEIPT: &str = "From the kernel's receive stamp of the response until it was read; unknown if \
                       client or kernel don't provide it";
const FIGURES: [(Figure, &str, &str); 5] = [
    (Figure::GeneratorLatenessP50, "p50", LATE),
    (Figure::GeneratorLatenessP99, "p99", LATE),
    (Figure::GeneratorLatenessMax, "Latest call", LATE),
    (Figure::GeneratorReceiptP50, "Read late, p50", RECEIPT),
    (Figure::GeneratorReceiptP99, "Read late, p99", RECEIPT),
];

pub(super) fn write(html: &mut Html, model: &Model<'_>) {
    let peers: Vec<&PeerView<'_>> = model.measured().collect();
    if peers.is_empty() {
        return;
    }
    let is_swept = model.sweep.is_some();
    section(html, "generator", "How late the generator was", |html| {
        html.fine_print(&format!(
            "How long after it could have been sent a call was sent, and how long after it \
             had arrived its response was read. Both are part of a latency that counts from \
             the schedule, and neither is the peer's. {}",
            match is_swept {
                true => "The highest of all trials.",
                false => "Medians over the repeats, with intervals.",
            }
        ));
        table(html, "How late the generator was", |html| {
            head_row(html, |html| {
                column(html, "Peer", "", "");
                for (_, head, hint) in FIGURES {
                    column(html, head, hint, "num");
                }
                column(html, "Judged", "By the bound of each trial", "");
            });
            html.tag("tbody", &[], |html| {
                peers.iter().for_each(|peer| row(html, peer, is_swept));
            });
        });
    });
}

fn row(html: &mut Html, peer: &PeerView<'_>, is_swept: bool) {
    html.tag("tr", &[("data-peer", &peer.name)], |html| {
        peer_heading(html, peer);
        for (figure, ..) in FIGURES {
            let estimate = if is_swept { worst(peer, figure) } else { peer.estimate(figure) };
            figure_cell(html, figure, estimate);
        }
        judged(html, peer);
    });
}

/// The highest value of all trials; it has no interval.
fn worst(peer: &PeerView<'_>, figure: Figure) -> Option<Estimate> {
    let values = peer.figures().filter_map(|figures| figures.get(figure));
    Estimate::over(&[values.reduce(f64::max)?])
}

/// The warning of the trials that were held back by the generator, in full.
fn judged(html: &mut Html, peer: &PeerView<'_>) {
    let limited: Vec<&Warning> = peer
        .measured()
        .filter_map(|(record, _)| {
            record
                .warnings
                .iter()
                .find(|warning| matches!(warning, Warning::GeneratorLimited { .. }))
        })
        .collect();
    let Some(first) = limited.first() else {
        return html.leaf("td", &[], "on time");
    };
    html.tag("td", &[("class", "told-wide")], |html| {
        html.leaf("b", &[("class", "c-bad")], "generator-limited");
        let trials = peer.figures().count();
        html.text(&format!(" in {} of {trials} repeats", limited.len()));
        html.leaf("small", &[], &first.to_string());
    });
}

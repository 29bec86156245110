//! How late the generator itself was: what no peer is to blame for.
//!
//! Where a setting differs between trials, their median would be of no point at all;
//! shown is then the worst trial.

use analysis::model::{Model, PeerView};
use measure::{figure::Figure, format, warning::Warning};

use super::{column, peer_heading, section, table};
use crate::html::Html;

const LATE: &str = "Between the moment a call could have been sent and the moment it was";
const RECEIPT: &str = "Between the moment the kernel had the response and the moment it was seen; \
                    not known where client or kernel don't tell";
const FIGURES: [(Figure, &str, &str); 5] = [
    (Figure::GeneratorLatenessP50, "p50", LATE),
    (Figure::GeneratorLatenessP99, "p99", LATE),
    (Figure::GeneratorLatenessMax, "Latest call", LATE),
    (Figure::GeneratorReceiptP50, "Seen late, p50", RECEIPT),
    (Figure::GeneratorReceiptP99, "Seen late, p99", RECEIPT),
];

pub(super) fn write(html: &mut Html, model: &Model<'_>) {
    let peers: Vec<&PeerView<'_>> = model.measured().collect();
    if peers.is_empty() {
        return;
    }
    let is_swept = model.sweep.is_some();
    section(html, "generator", "How late the generator was", |html| {
        html.leaf(
            "p",
            &[("class", "fine")],
            &format!(
                "Between the moment a call could have been sent and the moment it was, and \
                 between the moment its response was there and the moment it was seen. Both are \
                 part of a latency that counts from the schedule, and no peer is to blame for \
                 them. {}",
                match is_swept {
                    true => "Of all points, the trial with the highest.",
                    false => "The median of the repeats, with its interval.",
                }
            ),
        );
        table(html, "How late the generator was", |html| {
            html.tag("thead", &[], |html| {
                html.tag("tr", &[], |html| {
                    column(html, "Peer", "", "");
                    for (_, head, hint) in FIGURES {
                        column(html, head, hint, "num");
                    }
                    column(html, "Judged", "Held to the bound of each trial", "");
                });
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
            let estimate = match is_swept {
                true => worst(peer, figure),
                false => peer.estimate(figure).map(|one| (one.value, one.interval)),
            };
            match estimate {
                None => html.leaf("td", &[("class", "num")], format::UNKNOWN),
                Some((value, interval)) => {
                    let attributes = [("class", "num"), ("data-value", &*value.to_string())];
                    html.tag("td", &attributes, |html| {
                        html.text(&figure.show(value));
                        if let Some((low, high)) = interval {
                            html.leaf("small", &[], &figure.show_range(low, high));
                        }
                    });
                }
            }
        }
        judged(html, peer);
    });
}

/// The highest value of all trials; it has no interval.
fn worst(peer: &PeerView<'_>, figure: Figure) -> Option<(f64, Option<(f64, f64)>)> {
    let values = peer.figures().filter_map(|figures| figures.get(figure));
    values.reduce(f64::max).map(|value| (value, None))
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
        return html.leaf("td", &[], "in time");
    };
    html.tag("td", &[("class", "told-wide")], |html| {
        html.leaf("b", &[("class", "c-bad")], "generator-limited");
        let trials = peer.figures().count();
        html.text(&format!(" in {} of {trials} repeats", limited.len()));
        html.leaf("small", &[], &first.to_string());
    });
}

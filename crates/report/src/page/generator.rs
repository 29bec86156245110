//! How late the generator itself was: what no peer is to blame for.

use measure::warning::Warning;

use super::{column, peer_heading, section, table};
use crate::{
    format,
    html::Html,
    model::{Model, PeerView},
};

const FIGURES: [(&str, &str); 3] = [
    ("generator_lateness_p50", "p50"),
    ("generator_lateness_p99", "p99"),
    ("generator_lateness_max", "Latest call"),
];

pub(super) fn write(html: &mut Html, model: &Model<'_>) {
    let peers: Vec<&PeerView<'_>> = model.measured().collect();
    if peers.is_empty() {
        return;
    }
    section(html, "generator", "How late the generator was", |html| {
        html.leaf(
            "p",
            &[("class", "fine")],
            "Between the moment a call could have been sent and the moment it was. It is part of \
             the latency shown, and no peer is to blame for it.",
        );
        table(html, "How late the generator was", |html| {
            html.tag("thead", &[], |html| {
                html.tag("tr", &[], |html| {
                    column(html, "Peer", "", "");
                    for (_, head) in FIGURES {
                        column(html, head, "Lateness; median of the repeats", "num");
                    }
                    column(html, "Judged", "Held to the bound of each trial", "");
                });
            });
            html.tag("tbody", &[], |html| peers.iter().for_each(|peer| row(html, peer)));
        });
    });
}

fn row(html: &mut Html, peer: &PeerView<'_>) {
    html.tag("tr", &[("data-peer", &peer.name)], |html| {
        peer_heading(html, peer);
        for (figure, _) in FIGURES {
            match peer.estimate(figure) {
                None => html.leaf("td", &[("class", "num")], format::UNKNOWN),
                Some(estimate) => {
                    let value = estimate.value.to_string();
                    html.tag("td", &[("class", "num"), ("data-value", &value)], |html| {
                        html.text(&format::duration(estimate.value));
                        if let Some((low, high)) = estimate.interval {
                            html.leaf("small", &[], &format::duration_range(low, high));
                        }
                    });
                }
            }
        }
        judged(html, peer);
    });
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

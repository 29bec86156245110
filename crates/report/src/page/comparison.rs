//! The comparison as a table, and whose side calls failed on.

use std::collections::BTreeMap;

use analysis::{
    model::{Model, PeerView, TrialView},
    settling,
};
use measure::{format, record::Layer};

use super::{
    column, head_row, number_cell, peer_heading, plain_column, section, table, with_interval,
};
use crate::{
    comparison::{Column, used},
    html::Html,
    palette::Paint,
};

pub(super) fn write(html: &mut Html, model: &Model<'_>) {
    section(html, "comparison", "The comparison", |html| {
        table(html, "Comparison of the peers", |html| {
            let columns = used(model);
            head(html, model, &columns);
            html.tag("tbody", &[], |html| {
                for peer in &model.peers {
                    row(html, model, peer, &columns);
                }
            });
        });
        left_out(html, model);
        super::ratios::write(html, model);
        failures(html, model);
    });
}

fn head(html: &mut Html, model: &Model<'_>, columns: &[&Column]) {
    head_row(html, |html| {
        column(html, "Peer", "A way from the client to the backends", "");
        column(html, "Layer", "What is balanced: connections (l4) or calls (l7)", "");
        plain_column(html, "Shares, busiest first");
        for figure in columns {
            column(html, &figure.head(model), figure.hint, "num");
        }
        column(html, "Failed", "Calls that failed or had no answer", "num");
    });
}

fn row(html: &mut Html, model: &Model<'_>, peer: &PeerView<'_>, columns: &[&Column]) {
    html.tag("tr", &[("data-peer", &peer.name)], |html| {
        peer_heading(html, peer);
        html.leaf("td", &[], layer(peer));
        if let Some(reason) = peer.missing() {
            let span = (columns.len() + 2).to_string();
            html.leaf("td", &[("colspan", &span), ("class", "missing")], &reason);
            return;
        }
        bars(html, model, peer);
        for figure in columns {
            cell(html, figure, peer);
        }
        let (calls, share) = peer.lost();
        html.tag("td", &[("class", "num"), ("data-value", &calls.to_string())], |html| {
            if calls == 0 {
                html.text("0");
            } else {
                html.leaf("span", &[("class", "c-bad")], &format::share(share));
                html.leaf("small", &[], &format!("{} calls", format::count(calls)));
            }
        });
    });
}

fn cell(html: &mut Html, figure: &Column, peer: &PeerView<'_>) {
    match figure.value(peer) {
        None => html.leaf("td", &[("class", "num")], figure.without(peer)),
        Some(estimate) => {
            let attributes = [("class", "num"), ("data-value", &*estimate.value.to_string())];
            html.tag("td", &attributes, |html| {
                with_interval(html, figure.figure, estimate.value, estimate.interval);
                if peer.is_in_doubt(figure.figure) {
                    html.leaf("small", &[("class", "told")], "in doubt");
                }
            });
        }
    }
}

/// The layer as a word; nothing for a peer that only trials name.
pub(super) fn layer(peer: &PeerView<'_>) -> &'static str {
    peer.layer().map_or(format::UNKNOWN, layer_name)
}

/// A layer as a word.
pub(super) fn layer_name(layer: Layer) -> &'static str {
    match layer {
        Layer::None => "none",
        Layer::L4 => "L4",
        Layer::L7 => "L7",
        Layer::Client => "client",
        Layer::External => "unknown",
    }
}

/// The shares as small columns: sorted in each repeat, so that a peer whose one
/// busy backend is another one each time does not look even.
fn bars(html: &mut Html, model: &Model<'_>, peer: &PeerView<'_>) {
    let sorted: Vec<Vec<f64>> = peer
        .figures()
        .map(|figures| {
            let mut shares = figures.shares();
            shares.sort_by(|a, b| b.total_cmp(a));
            shares
        })
        .collect();
    html.tag("td", &[], |html| {
        html.tag(
            "span",
            &[("class", &format!("bars c-{}", Paint::of(peer.mark).name()))],
            |html| {
                for rank in 0..model.backends.len() {
                    let at_rank: Vec<f64> =
                        sorted.iter().filter_map(|shares| shares.get(rank).copied()).collect();
                    let share = measure::statistics::median(&at_rank).unwrap_or(0.0);
                    let height = format!("height:{:.1}%", share * 100.0);
                    html.tag("i", &[("style", &height), ("title", &format::share(share))], |_| ());
                }
            },
        );
    });
}

pub(super) fn left_out(html: &mut Html, model: &Model<'_>) {
    if model.run.left_out.is_empty() {
        return;
    }
    html.tag("ul", &[("class", "caveats")], |html| {
        for left in &model.run.left_out {
            html.tag("li", &[], |html| {
                html.leaf("b", &[], &left.peer);
                html.text(&format!(" was left out: {}", left.reason));
            });
        }
    });
}

/// Whose side calls failed on, and how.
pub(super) fn failures(html: &mut Html, model: &Model<'_>) {
    let mut rows: BTreeMap<(usize, measure::record::Side, &str), u64> = BTreeMap::new();
    for (index, peer) in model.peers.iter().enumerate() {
        let counted = peer.trials.iter().filter(|trial: &&TrialView<'_>| trial.figures.is_some());
        for failure in counted.flat_map(|trial| &trial.record.counts.failed) {
            *rows.entry((index, failure.side, &failure.what)).or_default() += failure.calls;
        }
    }
    if rows.is_empty() {
        return;
    }
    html.leaf("h3", &[], "Calls that failed");
    table(html, "Calls that failed", |html| {
        head_row(html, |html| {
            column(html, "Peer", "", "");
            column(html, "Cause", "The side at fault, as far as the client can tell", "");
            column(html, "What went wrong", "", "");
            column(html, "Calls", "", "num");
        });
        html.tag("tbody", &[], |html| {
            for ((index, side, what), calls) in rows {
                let peer = &model.peers[index];
                html.tag("tr", &[("data-peer", &peer.name)], |html| {
                    peer_heading(html, peer);
                    cause(html, peer, side);
                    html.leaf("td", &[], what);
                    number_cell(html, Some(calls), format::count);
                });
            }
        });
    });
}

/// The side at fault; where calls failed only after the lab took a backend away, that.
fn cause(html: &mut Html, peer: &PeerView<'_>, side: measure::record::Side) {
    let taken = settling::taken_before_failures(peer);
    if taken.is_empty() || side == measure::record::Side::Client {
        return html.leaf("td", &[], side_name(side));
    }
    html.tag("td", &[("class", "wrap")], |html| {
        html.text(&format!("the lab took away {}", taken.join(" and ")));
        html.leaf("small", &[], &format!("observed at the {}", side_name(side)));
    });
}

/// A side as a word.
pub(super) fn side_name(side: measure::record::Side) -> &'static str {
    use measure::record::Side;
    match side {
        Side::Client => "client",
        Side::Proxy => "proxy",
        Side::Backend => "backend",
        Side::Lab => "the lab",
    }
}

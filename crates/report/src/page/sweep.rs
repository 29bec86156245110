//! The comparison of a swept run: every peer at every point, with its figures.

use analysis::{
    each_once,
    model::{
        Model, PeerView,
        sweep::{Point, Sweep, label, limit_words, peer_at},
    },
    theory::placement,
};
use measure::{figure::Figure, format, record::SearchLimit, summary::saturation};

use super::{
    column, compact_table, figure_cell, head_row, number_cell, peer_heading, plain_column, section,
    table,
};
use crate::{
    comparison::{COLUMNS, Column, lost, shown},
    html::Html,
};

/// Figures of a sweep that the comparison of one setting leaves out.
const PER_GIB: Column = Column {
    short: "CPU/GiB",
    head: "Proxy CPU per GiB",
    hint: "CPU time of the proxy per GiB of payload, both directions together",
    figure: Figure::ProxyCpuPerGib,
};

pub(super) fn write(html: &mut Html, model: &Model<'_>, sweep: &Sweep<'_>) {
    section(html, "comparison", "The comparison, point by point", |html| {
        found(html, model, sweep);
        points(html, model, sweep);
        super::comparison::left_out(html, model);
        super::comparison::failures(html, model);
    });
}

/// What a search found, for each peer.
fn found(html: &mut Html, model: &Model<'_>, sweep: &Sweep<'_>) {
    let Some(search) = sweep.search else { return };
    html.fine_print(&format!(
        "The objective: {}, and a response to every call. Neighbouring rates are {:.0} % apart. \
         “Met up to” is the median over the repeats. Of the two rates of “between”, the objective \
         was met up to the first in every repeat, and from the second on in none.",
        search.slo.join(" and "),
        search.resolution * 100.0
    ));
    table(html, "The highest rate that met the objective", |html| {
        head_row(html, |html| {
            column(html, "Peer", "", "");
            column(html, "Met up to", "Median over the repeats", "num");
            column(html, "Between", "Met in every repeat – met in none", "num");
            plain_column(html, "Each repeat");
            plain_column(html, "Why it ended there");
        });
        html.tag("tbody", &[], |html| {
            for peer in &model.peers {
                html.tag("tr", &[("data-peer", &peer.name)], |html| {
                    peer_heading(html, peer);
                    let Some(found) = saturation(search, &peer.name) else {
                        let text = "no rate that was tried met the objective";
                        return html.leaf("td", &[("colspan", "4"), ("class", "missing")], text);
                    };
                    number_cell(html, Some(found.rate), format::rate);
                    let high = found.high.map_or_else(|| "not found".to_owned(), format::rate);
                    number_cell(html, Some(found.low), |low| {
                        format::range(format::rate(low), high)
                    });
                    let each: Vec<String> =
                        found.repeats.iter().map(|rate| format::rate(*rate)).collect();
                    html.leaf("td", &[], &each.join(", "));
                    html.leaf("td", &[], &ended(&found.limits));
                });
            }
        });
    });
}

fn ended(limits: &[SearchLimit]) -> String {
    each_once(limits.iter().map(|limit| limit_words(*limit))).join("; ")
}

fn points(html: &mut Html, model: &Model<'_>, sweep: &Sweep<'_>) {
    let mut columns: Vec<&Column> = shown(model);
    if sweep.is_of_payload() {
        columns.push(&PER_GIB);
    }
    let has = |column: &&Column| {
        let mut all = sweep.points.iter().flat_map(|point| point.model.measured());
        all.any(|peer| column.value(peer).is_some())
    };
    columns.retain(has);
    let has_theory = !sweep.is_of_channels()
        && sweep.points.iter().any(|point| {
            point.model.measured().any(|peer| placement::of(&point.model, peer).is_some())
        });
    compact_table(html, "Every peer at every point", |html| {
        head_row(html, |html| {
            column(html, "Peer", "A way from the client to the backends", "");
            column(html, sweep.short_key(), sweep.key, "num");
            for figure in &columns {
                column(html, &figure.head(model), figure.hint, "num");
                if has_theory && figure.head == COLUMNS[0].head {
                    let hint = "Expected share of the busiest backend if connections are \
                                placed like balls in bins";
                    column(html, "in theory", hint, "num");
                }
            }
            column(html, "Failed", "Calls that failed or had no answer", "num");
        });
        html.tag("tbody", &[], |html| {
            for peer in &model.peers {
                for point in &sweep.points {
                    if let Some(at) = peer_at(point, &peer.name) {
                        row(html, point, at, &columns, has_theory);
                    }
                }
            }
        });
    });
}

fn row(
    html: &mut Html,
    point: &Point<'_>,
    peer: &PeerView<'_>,
    columns: &[&Column],
    has_theory: bool,
) {
    html.tag("tr", &[("data-peer", &peer.name)], |html| {
        peer_heading(html, &PeerView { title: peer.name.clone(), ..peer.clone() });
        let value = point.number.map_or_else(|| point.value.to_owned(), |n| n.to_string());
        html.leaf("td", &[("class", "num"), ("data-value", &value)], &label(point));
        for figure in columns {
            figure_cell(html, figure.figure, figure.value(peer));
            if has_theory && figure.head == COLUMNS[0].head {
                let expected = placement::of(&point.model, peer).map(|placed| placed.max_share());
                let shown = expected.map_or_else(|| format::UNKNOWN.to_owned(), format::share);
                html.leaf("td", &[("class", "num")], &shown);
            }
        }
        number_cell(html, Some(peer.lost().0), |_| lost(peer));
    });
}

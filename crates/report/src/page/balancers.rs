//! The balancers of a fleet, each beside the others; over a sweep, the least and the most
//! of them at each point.

use analysis::{
    fleet::{self, BalancerView},
    model::{Model, PeerView, sweep::peer_at},
};
use measure::format;

use super::{column, head_row, number_cell, peer_heading, section, table};
use crate::html::Html;

const HEADING: &str = "Each balancer of the fleet";

/// A figure of a balancer: its head, what it is, its value, and how that is printed.
type Column = (&'static str, &'static str, fn(&BalancerView<'_>) -> Option<f64>, fn(f64) -> String);

const COLUMNS: [Column; 4] = [
    ("Calls", "Its part of all successful calls", |one| Some(one.share), format::share),
    ("p99", "Of the calls of its connections", |one| one.p99_ns, format::duration),
    (
        "Its busiest backend",
        "Largest share of its calls that one backend got",
        |one| one.busiest,
        format::share,
    ),
    ("CPU time", "Its part of the fleet's CPU time", |one| one.cpu_share, format::share),
];

pub(super) fn write(html: &mut Html, model: &Model<'_>) {
    let rows = rows(model);
    if rows.is_empty() {
        return;
    }
    let is_swept = model.sweep.is_some();
    section(html, "balancers", HEADING, |html| {
        html.fine_print(&explanation(model));
        if let Some(theory) = theory(model) {
            html.fine_print(&theory);
        }
        table(html, HEADING, |html| {
            head_row(html, |html| {
                column(html, "Peer", "", "");
                column(html, if is_swept { "At" } else { "Balancer" }, "", "");
                for (head, hint, ..) in COLUMNS {
                    column(html, head, hint, "num");
                }
            });
            html.tag("tbody", &[], |html| rows.iter().for_each(|row| write_row(html, row)));
        });
    });
}

fn explanation(model: &Model<'_>) -> String {
    let spread = match model.run.load.fleet.spread.as_str() {
        "hash" => "by a hash, as an L4 balancer in front of them would",
        _ => "round robin, as DNS hands out addresses",
    };
    let shown =
        if model.sweep.is_some() { "The lowest and highest of any balancer" } else { "Each" };
    format!(
        "Client connections are assigned to the balancers {spread}, and each balancer knows only its \
         own calls. {shown}, over all repeats."
    )
}

/// What is known of random subsets.
fn theory(model: &Model<'_>) -> Option<String> {
    let points = model.sweep.iter().flat_map(|sweep| &sweep.points).map(|point| &point.model);
    let mut all = points.chain([model]);
    let (load, subsets) = all.find_map(|model| {
        let subsets = model.measured().find_map(|peer| fleet::random_subsets(model, peer))?;
        Some((&model.run.load, subsets))
    })?;
    let size = load.fleet.subset.as_ref()?.size;
    Some(format!(
        "Theory: with {} balancers that each use {size} of {} backends at random, the busiest \
         backend is expected to get {} of the calls, and {} backends to be in nobody's subset.",
        load.fleet.balancers,
        model.backends.len(),
        format::share(subsets.expected_max_share()),
        format::number(subsets.expected_unused()),
    ))
}

/// A row: whose, of which balancer or point, and the least and the most of each figure.
struct Row<'m, 'a> {
    peer: &'m PeerView<'a>,
    label: String,
    balancers: Vec<BalancerView<'a>>,
}

fn rows<'m, 'a>(model: &'m Model<'a>) -> Vec<Row<'m, 'a>> {
    let each = |peer: &'m PeerView<'a>| {
        let alone =
            |one: BalancerView<'a>| Row { peer, label: one.name.to_owned(), balancers: vec![one] };
        fleet::of(peer).into_iter().map(alone).collect::<Vec<_>>()
    };
    let Some(sweep) = &model.sweep else { return model.peers.iter().flat_map(each).collect() };
    let at_each_point = |peer: &'m PeerView<'a>| {
        sweep.points.iter().filter_map(move |point| {
            let balancers = fleet::of(peer_at(point, &peer.name)?);
            let label = sweep.shown(point);
            (!balancers.is_empty()).then_some(Row { peer, label, balancers })
        })
    };
    model.peers.iter().flat_map(at_each_point).collect()
}

fn write_row(html: &mut Html, row: &Row<'_, '_>) {
    html.tag("tr", &[("data-peer", &row.peer.name)], |html| {
        peer_heading(html, row.peer);
        html.leaf("td", &[], &row.label);
        for (_, _, value, show) in COLUMNS {
            let values: Vec<f64> = row.balancers.iter().filter_map(value).collect();
            let low = values.iter().copied().fold(f64::INFINITY, f64::min);
            let high = values.iter().copied().reduce(f64::max);
            number_cell(html, high, |high| format::range(show(low), show(high)));
        }
    });
}

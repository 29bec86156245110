//! The zones of a run: how many calls stayed in the zone of their client, and where the others
//! went; over a sweep, at each point.

use analysis::{
    each_once,
    model::{Model, PeerView, sweep::peer_at},
    zones::{self, ZoneView},
};
use measure::format;

use super::{column, head_row, number_cell, peer_heading, section, table};
use crate::html::Html;

const HEADING: &str = "Zones";
const EXPLANATION: &str = "The calls of the clients in each zone, over all repeats: their share of \
                           all calls, the share that was served in another zone, and the share \
                           that was served in each zone.";

/// A row: whose, at which point, and of which zone's clients.
struct Row<'m, 'a> {
    peer: &'m PeerView<'a>,
    at: Option<String>,
    zone: ZoneView<'a>,
}

pub(super) fn write(html: &mut Html, model: &Model<'_>) {
    let rows = rows(model);
    if rows.is_empty() {
        return;
    }
    let served_by = backend_zones(model);
    section(html, "zones", HEADING, |html| {
        html.fine_print(EXPLANATION);
        table(html, HEADING, |html| {
            head_row(html, |html| {
                column(html, "Peer", "", "");
                if model.sweep.is_some() {
                    column(html, "At", "", "");
                }
                column(html, "Clients in", "", "");
                column(html, "Calls", "Their share of all successful calls", "num");
                let hint = "The share of their calls that a backend in another zone served";
                column(html, "Crossed", hint, "num");
                column(html, "p99", "Of their calls", "num");
                for name in &served_by {
                    let hint = "The share of their calls that its backends served";
                    column(html, &format!("Served in {name}"), hint, "num");
                }
            });
            html.tag("tbody", &[], |html| rows.iter().for_each(|row| write_row(html, row)));
        });
    });
}

/// The same at all points, or else of the run.
fn backend_zones<'m>(model: &'m Model<'_>) -> Vec<&'m str> {
    let points = model.sweep.iter().flat_map(|sweep| &sweep.points);
    let at_points = points.flat_map(|point| zones::backend_zones(&point.model));
    each_once(zones::backend_zones(model).into_iter().chain(at_points))
}

fn rows<'m, 'a>(model: &'m Model<'a>) -> Vec<Row<'m, 'a>> {
    let Some(sweep) = &model.sweep else {
        let each = |peer: &'m PeerView<'a>| {
            let zones = zones::of(model, peer).into_iter();
            zones.map(move |zone| Row { peer, at: None, zone })
        };
        return model.peers.iter().flat_map(each).collect();
    };
    let at_each_point = |peer: &'m PeerView<'a>| {
        sweep.points.iter().flat_map(move |point| {
            let zones = peer_at(point, &peer.name).map(|own| zones::of(&point.model, own));
            let at = sweep.shown(point);
            let zones = zones.unwrap_or_default().into_iter();
            zones.map(move |zone| Row { peer, at: Some(at.clone()), zone })
        })
    };
    model.peers.iter().flat_map(at_each_point).collect()
}

fn write_row(html: &mut Html, row: &Row<'_, '_>) {
    html.tag("tr", &[("data-peer", &row.peer.name)], |html| {
        peer_heading(html, row.peer);
        if let Some(at) = &row.at {
            html.leaf("td", &[], at);
        }
        html.leaf("td", &[], row.zone.name);
        number_cell(html, Some(row.zone.share), format::share);
        number_cell(html, row.zone.crossed, format::share);
        number_cell(html, row.zone.p99_ns, format::duration);
        for share in &row.zone.to {
            number_cell(html, Some(*share), format::share);
        }
    });
}

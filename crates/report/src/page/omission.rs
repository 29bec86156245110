//! What callers that wait would have said: the lesson of coordinated omission,
//! beside the figures that count from the schedule.
//!
//! The two stand in one table here and nowhere else, since the difference between
//! them is the subject.

use analysis::model::{Model, PeerView};
use measure::{
    format,
    histogram::{new_histogram, quantile},
    record::Twin,
    statistics::median,
};

use super::{column, head_row, number_cell, peer_heading, section, table};
use crate::html::Html;

const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("p99.9", 0.999)];

pub(super) fn write(html: &mut Html, model: &Model<'_>) {
    let pairs: Vec<(&PeerView<'_>, &Twin)> = model
        .measured()
        .filter_map(|peer| {
            Some((peer, model.run.twins.iter().find(|twin| twin.peer == peer.name)?))
        })
        .collect();
    let Some(&(peer, twin)) = pairs.first() else { return };
    section(html, "omission", "What waiting callers would have reported", |html| {
        html.paragraph(&lesson(peer, twin));
        html.fine_print(&format!(
            "The same load in a closed loop: {} callers, each of which waits for its response, \
             and then {} before its next call. These latencies count from the sending. They \
             are shown here to illustrate coordinated omission, and are in no other table or \
             chart.",
            twin.callers,
            format::duration(twin.think_time_s * 1e9),
        ));
        table(html, "Scheduled calls and waiting callers", |html| {
            head_row(html, |html| {
                column(html, "Peer", "", "");
                column(html, "Measured by", "What triggers calls", "");
                column(html, "Calls", "Successful calls of a trial", "num");
                for (name, _) in QUANTILES {
                    column(html, name, "Latency", "num");
                }
            });
            html.tag("tbody", &[], |html| {
                for (peer, twin) in pairs {
                    row(html, peer, "a schedule", calls_of(peer), |q| scheduled(peer, q));
                    let calls = Some(twin.counts.ok as f64);
                    row(html, peer, "waiting callers", calls, |q| waited(twin, q));
                }
            });
        });
    });
}

/// The sentence, from the figures; what the two agree on is said as well.
fn lesson(peer: &PeerView<'_>, twin: &Twin) -> String {
    let (Some(real), Some(seen)) = (scheduled(peer, 0.99), waited(twin, 0.99)) else {
        return "Too few calls succeeded to compare the two.".to_owned();
    };
    let name = &peer.name;
    let (open, closed) = (format::duration(real), format::duration(seen));
    if real > 2.0 * seen {
        format!(
            "Through {name}, the p99 is {open} when counted from the time calls were due. Callers \
             that wait for each response would have reported {closed}: while the service stood \
             still they made no calls, and omitted all that would have come."
        )
    } else {
        format!(
            "Through {name}, the p99 is {open} when counted from the time calls were due, and \
             {closed} for callers that wait for each response: nothing stood still for long enough \
             to be omitted."
        )
    }
}

fn row(
    html: &mut Html,
    peer: &PeerView<'_>,
    by: &str,
    calls: Option<f64>,
    latency: impl Fn(f64) -> Option<f64>,
) {
    html.tag("tr", &[("data-peer", &peer.name)], |html| {
        peer_heading(html, peer);
        html.leaf("td", &[], by);
        number_cell(html, calls, |calls| format::count(calls as u64));
        for (_, q) in QUANTILES {
            number_cell(html, latency(q), format::duration);
        }
    });
}

/// The median over the repeats, in nanoseconds.
fn scheduled(peer: &PeerView<'_>, q: f64) -> Option<f64> {
    let of_repeats: Vec<f64> = peer.figures().filter_map(|figures| figures.latency_ns(q)).collect();
    median(&of_repeats)
}

fn calls_of(peer: &PeerView<'_>) -> Option<f64> {
    let of_repeats: Vec<f64> = peer.figures().map(|figures| figures.ok as f64).collect();
    median(&of_repeats)
}

fn waited(twin: &Twin, q: f64) -> Option<f64> {
    let histogram = twin.latency.to_histogram().unwrap_or_else(|_| new_histogram());
    quantile(&histogram, q).map(|value| value as f64)
}

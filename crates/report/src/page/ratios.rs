//! Each peer beside one of them: ratios, repeat by repeat, with what they tell.

use analysis::{
    findings::Pair,
    model::{Beside, Difference, Model, PeerView},
};
use measure::{figure::Figure, format};

use super::{column, head_row, peer_heading, table, unknown_cell};
use crate::{comparison::OF_ALL, html::Html, palette::Paint};

/// Figures whose ratio is worth a column.
const FIGURES: [(Figure, &str); 8] = [
    (Figure::MaxShare, "Busiest backend"),
    (Figure::Throughput, "Throughput"),
    (Figure::LatencyP50, "p50"),
    (Figure::LatencyP99, "p99"),
    (Figure::ProxyCpuPerCall, "Proxy CPU"),
    (Figure::ProxyInstructionsPerCall, "Proxy instructions"),
    (Figure::LabCpuPerCall, "Lab CPU"),
    (Figure::MachineCpuPerCall, "Machine CPU"),
];

pub(super) fn write(html: &mut Html, model: &Model<'_>) {
    let pair = Pair::of(model);
    let Some(reference) = pair.map(|pair| pair.connections).or_else(|| model.measured().next())
    else {
        return;
    };
    let others: Vec<&PeerView<'_>> =
        model.measured().filter(|peer| peer.name != reference.name).collect();
    if others.is_empty() {
        return;
    }
    let columns: Vec<&(Figure, &str)> = FIGURES
        .iter()
        .filter(|(figure, _)| !OF_ALL.contains(figure) || model.shows_machine())
        .filter(|(figure, _)| others.iter().any(|peer| ratio(peer, reference, *figure).is_some()))
        .collect();
    html.tag("h3", &[], |html| {
        html.text("Compared with ");
        super::peer_name(html, &reference.name, Paint::of(reference.mark));
        html.text(", repeat by repeat");
    });
    table(html, "Ratios between peers", |html| {
        head_row(html, |html| {
            column(html, "Peer", "", "");
            for (figure, head) in &columns {
                let word = model.word(*figure);
                column(
                    html,
                    &format!("{word}{head}"),
                    "Ratio of the medians; its interval is that of the ratios, repeat by repeat",
                    "num",
                );
            }
        });
        html.tag("tbody", &[], |html| {
            for peer in others {
                html.tag("tr", &[("data-peer", &peer.name)], |html| {
                    peer_heading(html, peer);
                    for (figure, _) in &columns {
                        cell(html, ratio(peer, reference, *figure));
                    }
                });
            }
        });
    });
}

/// A ratio; `None` where one of the two has no such figure.
fn ratio(peer: &PeerView<'_>, reference: &PeerView<'_>, figure: Figure) -> Option<Beside> {
    let beside = peer.beside(reference, figure);
    beside.ratio.is_some().then_some(beside)
}

fn cell(html: &mut Html, beside: Option<Beside>) {
    let shown =
        beside.and_then(|beside| Some((beside.significant, beside.ratio?, beside.open_ends())));
    let Some((significant, ratio, open)) = shown else { return unknown_cell(html) };
    let attributes = [("class", "num"), ("data-value", &*ratio.centre.to_string())];
    html.tag("td", &attributes, |html| {
        html.text(&format!("{} ×", format::factor(ratio.centre)));
        if significant == Difference::TooFew {
            return html.leaf("small", &[("class", "told")], "too few repeats to tell");
        }
        if let Some(interval) = ratio.interval {
            let (low, high) = (format::factor(interval.low), format::factor(interval.high));
            if low != high {
                html.leaf("small", &[], &format::range(low, high));
            }
        }
        let same = ratio.interval.is_some_and(|i| (i.high - i.low).abs() < 1e-9 && i.holds(1.0));
        if same {
            html.leaf("small", &[("class", "told")], "the same in every repeat");
        } else if open.is_some() {
            html.leaf("small", &[("class", "told")], "too few repeats to tell");
        } else if significant == Difference::NotSignificant {
            html.leaf("small", &[("class", "told")], "no significant difference");
        }
    });
}

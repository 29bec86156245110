//! How evenly each peer spread the calls, and how soon it did so again after a
//! fault.

use analysis::{
    model::{Estimate, Model, PeerView},
    settling::{self, After, Settled},
};
use measure::{figure::Figure, format, record::Layer};

use super::{column, figure_cell, head_row, peer_heading, plain_column, section, table};
use crate::html::Html;

/// Figures of imbalance, with their heads and what they are.
const COLUMNS: [(Figure, &str, &str); 4] = [
    (Figure::MaxShare, "Busiest backend", "Largest share of calls that one backend got"),
    (Figure::MinShare, "Least busy backend", "Smallest share of calls that one backend got"),
    (Figure::Jain, "Jain's index", "1 when all backends got the same, 1/n when one of n got all"),
    (Figure::Cv, "Variation", "Standard deviation of calls per backend over their mean"),
];

pub(super) fn write(html: &mut Html, model: &Model<'_>) {
    let peers: Vec<&PeerView<'_>> = model.measured().collect();
    if peers.is_empty() || model.backends.len() < 2 {
        return;
    }
    section(html, "balance", "How evenly calls were spread", |html| {
        table(html, "How evenly calls were spread", |html| {
            head_row(html, |html| {
                column(html, "Peer", "", "");
                for (_, head, hint) in COLUMNS {
                    column(html, head, hint, "num");
                }
                if !model.has_faults() {
                    let hint = "Probability of shares at least this far from the weights if each call were placed at random";
                    column(html, "Chi-square p", hint, "num");
                }
            });
            html.tag("tbody", &[], |html| peers.iter().for_each(|peer| row(html, model, peer)));
        });
        // Over a window in which backends come and go, no shares are the right ones.
        if model.has_faults() {
            return settled(html, model, &peers);
        }
        let target = if model.even_share().is_some() { "even shares" } else { "shares by weight" };
        html.fine_print(&format!(
            "Chi-square tests calls per backend against {target}, as if each call were sent by \
             chance: p near 1 is more even than chance, as taking turns is; p near 0 is a \
             spread that chance does not make of calls. With many calls tiny deviations \
             suffice for that, so read it beside the variation."
        ));
    });
}

fn row(html: &mut Html, model: &Model<'_>, peer: &PeerView<'_>) {
    html.tag("tr", &[("data-peer", &peer.name)], |html| {
        peer_heading(html, peer);
        for (figure, ..) in COLUMNS {
            figure_cell(html, figure, peer.estimate(figure));
        }
        if !model.has_faults() {
            // The interval of a p-value would be one of nothing.
            let chance = peer.estimate(Figure::ChiSquareP);
            let chance = chance.map(|chance| Estimate { interval: None, ..chance });
            figure_cell(html, Figure::ChiSquareP, chance);
        }
    });
}

/// Times until balance after each fault.
fn settled(html: &mut Html, model: &Model<'_>, peers: &[&PeerView<'_>]) {
    let all: Vec<_> = peers
        .iter()
        .flat_map(|peer| settling::of(model, peer).into_iter().map(move |one| (*peer, one)))
        .collect();
    if all.is_empty() {
        return;
    }
    html.leaf("h3", &[], "Time until calls were balanced after a fault");
    html.fine_print(&format!(
        "The time from a fault until every backend stayed within 5 percentage points (plus \
         random variation) of the share it was due; a backend that was taken away is due none. \
         Calls are counted in bins of {}, which is the shortest time that can be observed.",
        format::duration(all.iter().map(|(_, one)| one.bin_s).fold(0.0, f64::max) * 1e9)
    ));
    // What keeps to its connections does not come to a backend that joins or returns.
    let keeps = |peer: &PeerView<'_>| matches!(peer.layer(), Some(Layer::L4 | Layer::None));
    let is_expected = |(peer, one): &(&PeerView<'_>, Settled<'_>)| {
        let comes = matches!(one.fault.action.as_str(), "add" | "start");
        comes && keeps(peer) && one.after.contains(&After::Never)
    };
    if all.iter().any(is_expected) {
        html.fine_print(
            "Behind an L4 balancer, and without one, connections stay where they are: a backend that \
             joins or returns gets calls only over new connections, so \u{201c}never\u{201d} is \
             expected there.",
        );
    }
    table(html, "Time until calls were balanced after a fault", |html| {
        head_row(html, |html| {
            column(html, "Peer", "", "");
            column(html, "Fault", "What was done to which backend, and when", "");
            column(html, "Time until balanced", "Median of the repeats", "num");
            plain_column(html, "Each repeat");
        });
        html.tag("tbody", &[], |html| {
            all.iter().for_each(|(peer, one)| settled_row(html, peer, one));
        });
    });
}

fn settled_row(html: &mut Html, peer: &PeerView<'_>, one: &Settled<'_>) {
    html.tag("tr", &[("data-peer", &peer.name)], |html| {
        peer_heading(html, peer);
        let fault = one.fault;
        let done = format!("{} {} at {:.2} s", fault.action, fault.backend, fault.done_s);
        html.leaf("td", &[("data-value", &format!("{:.3}", fault.done_s))], &done);
        middle(html, one);
        let each: Vec<String> = one.after.iter().map(said).collect();
        html.leaf("td", &[], &each.join(", "));
    });
}

fn said(after: &After) -> String {
    match after {
        After::Seconds(seconds) => format::duration(seconds * 1e9),
        After::Never => "never".to_owned(),
        After::TooShort => "too short to measure".to_owned(),
    }
}

/// The middle repeat.
fn middle(html: &mut Html, settled: &Settled<'_>) {
    let (value, shown) = match settled.middle() {
        None => (String::new(), format::UNKNOWN.to_owned()),
        Some(middle) if middle.is_finite() => {
            (format!("{middle:.3}"), format::duration(middle * 1e9))
        }
        Some(_) => ("1e9".to_owned(), "never".to_owned()),
    };
    html.leaf("td", &[("class", "num"), ("data-value", &value)], &shown);
}

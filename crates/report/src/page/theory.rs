//! Theory beside measurement: the queues in the backends, and where connections
//! fell.

use analysis::{
    each_once,
    findings::Sentence,
    model::{Estimate, Model, PeerView},
    theory::{
        QUANTILES, Theory,
        measured::{Measured, in_backends, whole},
        placement::{self, Placement},
    },
};
use measure::{figure::Figure, format};

use super::{
    column, figure_cell, head_row, peer_heading, plain_column, section, table, unknown_cell,
};
use crate::{html::Html, palette::Paint};

/// Measured values this near to theory agree with it, however narrow the interval.
const AGREES_WITHIN: f64 = 0.03;

pub(super) fn write(html: &mut Html, model: &Model<'_>) {
    let peers: Vec<&PeerView<'_>> = model.measured().collect();
    if peers.is_empty() {
        return;
    }
    section(html, "theory", "Theory beside measurement", |html| {
        queues(html, model, &peers);
        placements(html, model, &peers);
    });
}

fn queues(html: &mut Html, model: &Model<'_>, peers: &[&PeerView<'_>]) {
    let theories: Vec<_> = peers.iter().map(|peer| analysis::theory::of(model, peer)).collect();
    let mut fitted: Vec<(&PeerView<'_>, &Theory)> = Vec::new();
    let mut unfitted: Vec<(&str, Vec<&PeerView<'_>>)> = Vec::new();
    for (peer, theory) in peers.iter().zip(&theories) {
        match &**theory {
            Ok(theory) => fitted.push((peer, theory)),
            Err(reason) => match unfitted.iter_mut().find(|(other, _)| other == reason) {
                Some((_, peers)) => peers.push(peer),
                None => unfitted.push((reason, vec![*peer])),
            },
        }
    }
    if !fitted.is_empty() {
        html.fine_print(&format!(
            "Theory covers the backends' queues, not network, proxy or kernel. “In the backends” \
             is queueing and service {}; “end to end” is what the client saw. Bold: more than \
             {:.0} % from theory, with theory outside the interval.",
            source_of_times(model),
            AGREES_WITHIN * 100.0
        ));
        table(html, "Theory beside measurement", |html| {
            head(html);
            html.tag("tbody", &[], |html| {
                for (peer, theory) in &fitted {
                    rows(html, peer, theory);
                }
            });
        });
        caveats(html, &fitted);
    }
    html.tag("ul", &[("class", "peers")], |html| {
        for (reason, peers) in unfitted {
            let word = if peers.len() == 1 { "has" } else { "have" };
            let sentence = Sentence::default().peers(&peers);
            let sentence = sentence.text(&format!(" {word} no model: {reason}."));
            html.tag("li", &[], |html| super::answer::sentence(html, &sentence));
        }
    });
}

/// How the time in the backends is known.
fn source_of_times(model: &Model<'_>) -> &'static str {
    match &model.run.load.service {
        Some(_) => "as measured by the taps in front of them",
        None => "as reported by the backends",
    }
}

fn head(html: &mut Html) {
    head_row(html, |html| {
        column(html, "Peer", "With the model that fits it", "");
        column(html, "Figure", "", "");
        column(html, "Theory", "Time in the backends by the model", "num");
        column(html, "In the backends", "Queueing and service together", "num");
        column(html, "off by", "Measured in the backends over theory, minus one", "num");
        column(html, "End to end", "What the client saw", "num");
        column(html, "off by", "Measured end to end over theory, minus one", "num");
    });
}

fn rows(html: &mut Html, peer: &PeerView<'_>, theory: &Theory) {
    let (backends, whole) = (in_backends(peer), whole(peer));
    row(
        html,
        peer,
        theory,
        "mean",
        Some(theory.mean_ns),
        |measured| measured.mean,
        &backends,
        &whole,
    );
    for (index, (_, name)) in QUANTILES.into_iter().enumerate() {
        let expected = theory.quantiles_ns[index];
        let take = |measured: &Measured| measured.quantiles[index];
        row(html, peer, theory, name, expected, take, &backends, &whole);
    }
}

#[allow(clippy::too_many_arguments, reason = "a row of a table has that many parts")]
fn row(
    html: &mut Html,
    peer: &PeerView<'_>,
    theory: &Theory,
    figure: &str,
    expected: Option<f64>,
    take: impl Fn(&Measured) -> Option<Estimate>,
    backends: &Measured,
    whole: &Measured,
) {
    html.tag("tr", &[("data-peer", &peer.name)], |html| {
        html.tag("th", &[("scope", "row"), ("data-value", &peer.name)], |html| {
            super::peer_name(html, &peer.name, Paint::of(peer.mark));
            let model = format!("{}, {} busy", theory.name, format::share(theory.utilisation));
            html.leaf("small", &[], &model);
        });
        html.leaf("td", &[], figure);
        let value = expected.map(|expected| expected.to_string()).unwrap_or_default();
        let shown = expected.map_or_else(|| format::UNKNOWN.to_owned(), format::duration);
        html.leaf("td", &[("class", "num"), ("data-value", &value)], &shown);
        for measured in [take(backends), take(whole)] {
            // All times read alike.
            figure_cell(html, Figure::LatencyP50, measured);
            off_by(html, measured, expected);
        }
    });
}

fn off_by(html: &mut Html, measured: Option<Estimate>, expected: Option<f64>) {
    let (Some(measured), Some(expected)) = (measured, expected.filter(|value| *value > 0.0)) else {
        return unknown_cell(html);
    };
    let off = |value: f64| value / expected - 1.0;
    let inside = measured.interval.is_some_and(|(low, high)| (low..=high).contains(&expected));
    let agrees = inside || off(measured.value).abs() <= AGREES_WITHIN;
    let class = if agrees { "num" } else { "num strong" };
    let value = off(measured.value).to_string();
    html.tag("td", &[("class", class), ("data-value", &value)], |html| {
        html.text(&format::off_by(off(measured.value)));
        if let Some((low, high)) = measured.interval {
            let (low, high) = (format::off_by(off(low)), format::off_by(off(high)));
            html.leaf("small", &[], &format!("{low} to {high}"));
        }
    });
}

fn caveats(html: &mut Html, fitted: &[(&PeerView<'_>, &Theory)]) {
    for caveat in each_once(fitted.iter().flat_map(|(_, theory)| &theory.caveats)) {
        html.fine_print(caveat);
    }
}

/// The busiest backend's share behind those that place connections.
fn placements(html: &mut Html, model: &Model<'_>, peers: &[&PeerView<'_>]) {
    let placed: Vec<(&PeerView<'_>, Placement)> =
        peers.iter().filter_map(|peer| Some((*peer, placement::of(model, peer)?))).collect();
    if placed.is_empty() {
        return;
    }
    let connections = model.run.load.connections;
    html.leaf("h3", &[], "Where connections fall");
    html.fine_print(&format!(
        "{} {} on {} backends: the expected share of the busiest one, as for balls in bins.",
        format::count(u64::from(connections)),
        if connections == 1 { "connection" } else { "connections" },
        model.backends.len()
    ));
    table(html, "Where connections fall", |html| {
        head_row(html, |html| {
            column(html, "Peer", "", "");
            column(html, "Placed", "How a connection gets its backend", "");
            column(html, "Theory", "Expected share of the busiest backend", "num");
            column(html, "Measured", "Share of calls of the busiest backend", "num");
            plain_column(html, "Each repeat");
        });
        html.tag("tbody", &[], |html| {
            for (peer, placement) in &placed {
                placement_row(html, peer, placement);
            }
        });
    });
}

fn placement_row(html: &mut Html, peer: &PeerView<'_>, placement: &Placement) {
    html.tag("tr", &[("data-peer", &peer.name)], |html| {
        peer_heading(html, peer);
        let (how, expected, note) = match placement {
            Placement::InTurn { max_share, used } => {
                ("round robin", *max_share, format!("{used} in use"))
            }
            Placement::ByChance { expected, usual: (low, high), chance_of_idle } => (
                "at random",
                *expected,
                format!(
                    "{} in nine cases of ten; chance of an idle backend: {}",
                    format::range(format::share(*low), format::share(*high)),
                    format::share(*chance_of_idle)
                ),
            ),
        };
        html.leaf("td", &[], how);
        html.tag("td", &[("class", "num"), ("data-value", &expected.to_string())], |html| {
            html.text(&format::share(expected));
            html.leaf("small", &[], &note);
        });
        figure_cell(html, Figure::MaxShare, peer.estimate(Figure::MaxShare));
        let each: Vec<String> = peer
            .figures()
            .filter_map(|figures| figures.get(Figure::MaxShare))
            .map(format::share)
            .collect();
        html.leaf("td", &[], &each.join(", "));
    });
}

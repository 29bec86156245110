//! The page: one file that makes no request.
//!
//! Sections stand in the order a reader needs them: the question, the answer, links to
//! the others, what was predicted of it, the comparison, the charts, how even the spread
//! was, what each of several balancers and zones had of it, what a closed loop would have said,
//! what theory says, how late the generator was, what was expected, how it was measured, doubts,
//! every trial.
//! All of it shows without the script, which only sorts tables, hides peers and
//! follows the pointer and the keys. Where a setting differs between trials, sections
//! whose figures would be pooled over its values give way to a table of all points.

mod answer;
mod as_run;
mod balance;
mod balancers;
mod charts;
pub(crate) mod compare;
mod comparison;
pub(crate) mod decide;
mod expectations;
mod generator;
pub(crate) mod index;
mod links;
mod method;
mod nodes;
mod omission;
mod prediction;
mod ratios;
mod simulation;
pub(crate) mod sweep;
mod theory;
mod trials;
mod warnings;
mod zones;

use analysis::{
    model::{Estimate, Model, PeerView},
    prediction::Outcome,
};
use measure::{figure::Figure, format};

use crate::{charts::Chart, html::Html, palette, render::svg};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");
/// Nothing may be loaded: what the page needs stands in it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      base-uri 'none'; form-action 'none'";

/// Writes the page of a run, with a link to the decision where there is one.
pub(crate) fn render(model: &Model<'_>, predicted: &[Outcome], decision: Option<&str>) -> String {
    let simulated = if model.run.simulation.is_some() { " (simulated)" } else { "" };
    document(&format!("{}{simulated} · layerlab", model.run.scenario), |html| {
        header(html, model, decision);
        answer::write(html, model);
        let mut sections = Html::default();
        prediction::write(&mut sections, model, predicted);
        details(&mut sections, model);
        html.contents(&sections);
        html.append(&sections);
        footer(html, model);
    })
}

/// All that follows the answer.
fn details(html: &mut Html, model: &Model<'_>) {
    match &model.sweep {
        Some(swept) => {
            sweep::write(html, model, swept);
            charts::write(html, model);
            balancers::write(html, model);
            zones::write(html, model);
            generator::write(html, model);
        }
        None => {
            comparison::write(html, model);
            charts::write(html, model);
            balance::write(html, model);
            balancers::write(html, model);
            zones::write(html, model);
            omission::write(html, model);
            theory::write(html, model);
            generator::write(html, model);
        }
    }
    nodes::write(html, model);
    expectations::write(html, model);
    method::write(html, model);
    warnings::write(html, model);
    trials::write(html, model);
}

/// A whole document with what `inner` writes in it.
fn document(title: &str, inner: impl FnOnce(&mut Html)) -> String {
    let mut html = Html::default();
    html.raw("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    html.raw("<meta http-equiv=\"Content-Security-Policy\" content=\"");
    html.raw(POLICY);
    html.raw("\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    html.leaf("title", &[], title);
    html.raw("\n");
    let mut body = Html::default();
    inner(&mut body);
    html.style(&palette::css(body.as_str()));
    html.style(STYLE);
    html.raw("</head>\n<body>\n<main>\n");
    html.append(&body);
    html.raw("</main>\n<script>\n");
    html.raw(SCRIPT);
    html.raw("</script>\n</body>\n</html>\n");
    html.into_string()
}

fn header(html: &mut Html, model: &Model<'_>, decision: Option<&str>) {
    html.tag("header", &[], |html| {
        html.tag("p", &[("class", "kicker")], |html| {
            html.leaf("b", &[], "layerlab");
            html.text(&format!(" · {}", model.run.scenario));
            to_decision(html, decision);
        });
        html.leaf("h1", &[], &model.run.question);
        simulation::write(html, model);
    });
}

/// A link to the page that all runs are decided on.
fn to_decision(html: &mut Html, decision: Option<&str>) {
    if let Some(link) = decision {
        html.text(" · ");
        html.leaf("a", &[("href", link)], "the decision from all scenarios");
    }
}

fn footer(html: &mut Html, model: &Model<'_>) {
    let run = &model.run;
    let environment = &run.environment;
    let revision = environment.git_revision.as_deref().unwrap_or("unknown revision");
    html.tag("footer", &[], |html| {
        html.paragraph(&format!(
            "Run {} started {} with seed {}, on {} ({} CPUs, {}), by layerlab {} ({revision}, \
             {} build, {}). Record format {}. To make this page again from the run folder: \
             loadgen report <run folder>.",
            run.scenario,
            run.started_utc,
            run.seed,
            environment.cpu_model,
            environment.cpus,
            environment.kernel,
            environment.layerlab_version,
            environment.build_profile,
            environment.rustc,
            run.format,
        ));
    });
}

/// A section with its heading.
fn section(html: &mut Html, id: &str, heading: &str, inner: impl FnOnce(&mut Html)) {
    html.tag("section", &[("id", id)], |html| {
        html.leaf("h2", &[], heading);
        inner(html);
    });
}

/// A chart in two widths, of which one shows.
fn figure(html: &mut Html, id: &str, wide: &Chart, narrow: &Chart) {
    html.tag("figure", &[("id", id)], |html| {
        html.tag("figcaption", &[], |html| {
            html.leaf("h3", &[], &wide.title);
            html.paragraph(&wide.note);
        });
        html.svg(&svg(&wide.drawing, &wide.alternative, "wide"));
        html.svg(&svg(&narrow.drawing, &narrow.alternative, "narrow"));
    });
}

/// A peer's name with its colour.
fn peer_name(html: &mut Html, name: &str, paint: palette::Paint) {
    html.tag("span", &[("class", &format!("peer c-{}", paint.name()))], |html| html.text(name));
}

/// A peer's name in the heading of a table row.
fn peer_heading(html: &mut Html, peer: &PeerView<'_>) {
    html.tag("th", &[("scope", "row"), ("data-value", &peer.name)], |html| {
        peer_name(html, &peer.name, palette::Paint::of(peer.mark));
        if peer.title != peer.name {
            html.leaf("small", &[], &peer.title);
        }
    });
}

/// A cell with a number, by which its column sorts; unknown without one.
fn number_cell<T: Copy + ToString>(
    html: &mut Html,
    value: Option<T>,
    show: impl FnOnce(T) -> String,
) {
    let Some(value) = value else { return unknown_cell(html) };
    html.leaf("td", &[("class", "num"), ("data-value", &value.to_string())], &show(value));
}

/// A cell with a figure and its interval; unknown without one.
fn figure_cell(html: &mut Html, figure: Figure, estimate: Option<Estimate>) {
    let Some(Estimate { value, interval, .. }) = estimate else { return unknown_cell(html) };
    html.tag("td", &[("class", "num"), ("data-value", &value.to_string())], |html| {
        with_interval(html, figure, value, interval);
    });
}

fn unknown_cell(html: &mut Html) {
    html.leaf("td", &[("class", "num")], format::UNKNOWN);
}

/// A figure in a cell of a table, with its interval unless that reads as the figure does.
fn with_interval(html: &mut Html, figure: Figure, value: f64, interval: Option<(f64, f64)>) {
    let shown = figure.show(value);
    html.text(&shown);
    let range = interval.map(|(low, high)| figure.show_range(low, high));
    if let Some(range) = range.filter(|range| *range != shown) {
        html.leaf("small", &[], &range);
    }
}

/// The headings of a table.
fn head_row(html: &mut Html, columns: impl FnOnce(&mut Html)) {
    html.tag("thead", &[], |html| html.tag("tr", &[], columns));
}

/// A heading of a column that sorts.
fn column(html: &mut Html, name: &str, hint: &str, class: &str) {
    html.leaf("th", &[("scope", "col"), ("title", hint), ("class", class)], name);
}

/// A heading of a column that doesn't.
fn plain_column(html: &mut Html, name: &str) {
    html.leaf("th", &[("scope", "col"), ("class", "plain")], name);
}

/// A table in a box of its own, which scrolls where the screen is narrow.
fn table(html: &mut Html, label: &str, inner: impl FnOnce(&mut Html)) {
    boxed_table(html, label, "sortable", inner);
}

/// The same for a table of sentences, whose rows are cards where the screen is narrow.
fn table_of_words(html: &mut Html, label: &str, inner: impl FnOnce(&mut Html)) {
    boxed_table(html, label, "words", inner);
}

/// The same for a table that is both: its rows are cards, with the cells in a row.
fn table_of_cards(html: &mut Html, label: &str, inner: impl FnOnce(&mut Html)) {
    boxed_table(html, label, "sortable cards", inner);
}

/// The same for a table of many columns.
fn compact_table(html: &mut Html, label: &str, inner: impl FnOnce(&mut Html)) {
    boxed_table(html, label, "sortable compact", inner);
}

fn boxed_table(html: &mut Html, label: &str, class: &str, inner: impl FnOnce(&mut Html)) {
    let attributes =
        [("class", "scroll"), ("role", "region"), ("aria-label", label), ("tabindex", "0")];
    html.tag("div", &attributes, |html| {
        html.tag("table", &[("class", class)], inner);
    });
}

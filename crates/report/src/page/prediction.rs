//! What was predicted of the run before its first trial, beside what was measured.

use analysis::{each_once, model::Model, prediction::Outcome};
use measure::{format, prediction::Sealed};

use super::{column, head_row, section, table};
use crate::{html::Html, predicted};

/// Writes the section; nothing where nothing was predicted.
pub(super) fn write(html: &mut Html, model: &Model<'_>, outcomes: &[Outcome]) {
    let Some(sealed) = &model.run.predictions else { return };
    section(html, "predictions", "Predicted before measuring", |html| {
        html.paragraph(&sealing(sealed));
        html.leaf("p", &[("class", "answer")], &predicted::score(outcomes));
        table(html, "Predictions and measurements", |html| {
            head_row(html, |html| {
                column(html, "Peer", "", "");
                column(html, "Figure", "", "");
                column(html, "Predicted", "", "num");
                column(html, "Interval", "95 % prediction interval of the mean", "num");
                column(html, "Measured", "Mean over the trials", "num");
                column(html, "Error", "Measured over predicted, minus one", "num");
                column(html, "Inside", "", "");
            });
            html.tag("tbody", &[], |html| outcomes.iter().for_each(|one| row(html, one)));
        });
        beyond(html, sealed);
    });
}

fn sealing(sealed: &Sealed) -> String {
    let said = &sealed.predictions;
    format!(
        "Simulated with the times of the measured run {run} and {seeds} seeds for each of its \
         repeats, and recorded at {utc}, before the first trial of this run: predictions.json has \
         the SHA-256 {hash}. A prediction is for the mean of {repeats} trials; its 95 % interval \
         covers random variation of calls and services, and differences between the calibration's \
         repeats.",
        run = said.calibration.run,
        seeds = said.seeds,
        utc = sealed.sealed_utc,
        hash = sealed.sha256,
        repeats = said.repeats,
    )
}

fn row(html: &mut Html, one: &Outcome) {
    let number = [("class", "num")];
    let figure = one.predicted.figure;
    html.tag("tr", &[], |html| {
        html.leaf("th", &[("scope", "row")], &predicted::name(one));
        html.leaf("td", &[("title", figure.meaning())], figure.name());
        html.leaf("td", &number, &figure.show(one.predicted.value));
        html.leaf("td", &number, &figure.show_range(one.predicted.low, one.predicted.high));
        let unknown = || format::UNKNOWN.to_owned();
        html.leaf("td", &number, &one.measured.map_or_else(unknown, |own| figure.show(own)));
        html.leaf("td", &number, &one.error.map_or_else(unknown, format::off_by));
        html.leaf("td", &[], predicted::inside(one));
    });
}

/// What the simulation leaves out, and where it goes beyond the calibration.
fn beyond(html: &mut Html, sealed: &Sealed) {
    let said = &sealed.predictions;
    for sentence in each_once(said.points.iter().flat_map(|point| &point.extrapolated)) {
        html.tag("p", &[], |html| {
            html.leaf("b", &[], "Extrapolated: ");
            html.text(sentence);
        });
    }
    html.paragraph("The simulation leaves out:");
    html.tag("ul", &[], |html| {
        said.leaves_out.iter().for_each(|sentence| html.leaf("li", &[], sentence));
    });
}

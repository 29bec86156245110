//! That a run was simulated: what it leaves out, and where its times are from.

use analysis::model::Model;
use measure::{format, simulation::Taken};

use super::{column, head_row, table};
use crate::html::Html;

/// Writes it below the question; nothing where the run was measured.
pub(super) fn write(html: &mut Html, model: &Model<'_>) {
    let Some(simulation) = &model.run.simulation else { return };
    html.tag("p", &[("class", "answer")], |html| {
        html.leaf("b", &[], "Simulated. ");
        html.text("Nothing on this page was measured. The simulation leaves out:");
    });
    html.tag("ul", &[], |html| {
        simulation.leaves_out.iter().for_each(|sentence| html.leaf("li", &[], sentence));
    });
    let Some(calibration) = &simulation.calibration else { return };
    let source = if calibration.is_log { "log" } else { "measured run" };
    html.paragraph(&format!("Its times were taken from the {source} {}:", calibration.run));
    table(html, "What was taken", |html| {
        head_row(html, |html| {
            column(html, "Taken", "", "");
            column(html, "From", "", "");
            column(html, "Count", "How many times were measured", "num");
            column(html, "Mean", "", "num");
            column(html, "KS", "Largest difference of the cumulative distributions", "num");
            column(html, "Worst quantile", "Measured and simulated", "num");
        });
        html.tag("tbody", &[], |html| calibration.taken.iter().for_each(|one| row(html, one)));
    });
    for sentence in &calibration.extrapolated {
        html.tag("p", &[], |html| {
            html.leaf("b", &[], "Extrapolated: ");
            html.text(sentence);
        });
    }
}

fn row(html: &mut Html, taken: &Taken) {
    let number = [("class", "num")];
    html.tag("tr", &[], |html| {
        html.leaf("th", &[("scope", "row")], &taken.what);
        html.leaf("td", &[("class", "wrap")], &taken.from);
        html.leaf("td", &number, &taken.count.to_string());
        html.leaf("td", &number, &format::duration(taken.mean_ns));
        let (ks, worst) = match taken.fit {
            Some(fit) => (
                format!("{:.3}", fit.ks),
                format!(
                    "p{}: {} and {}",
                    100.0 * fit.worst_quantile,
                    format::duration(fit.measured_ns),
                    format::duration(fit.simulated_ns)
                ),
            ),
            None => (format::UNKNOWN.to_owned(), format::UNKNOWN.to_owned()),
        };
        html.leaf("td", &number, &ks);
        html.leaf("td", &number, &worst);
    });
}

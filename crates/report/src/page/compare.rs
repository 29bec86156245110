//! Two runs as a page, in the look of the report.

use analysis::compare::Comparison;
use measure::format;

use super::{column, document, head_row, section, table};
use crate::{
    html::Html,
    verdicts::{allowance, cells, sentence},
};

pub(crate) fn render(comparison: &Comparison) -> String {
    document("Two runs · layerlab", |html| {
        html.tag("header", &[], |html| {
            html.tag("p", &[("class", "kicker")], |html| {
                html.leaf("b", &[], "layerlab");
                html.text(" · two runs compared");
            });
            html.leaf("h1", &[], &sentence(comparison));
            html.paragraph(&format!("Before: {}", comparison.before));
            html.paragraph(&format!("After: {}", comparison.after));
        });
        section(html, "figures", "What changed", |html| rows(html, comparison));
        if !comparison.warnings.is_empty() {
            section(html, "warnings", "Why they are hard to compare", |html| {
                html.tag("ul", &[], |html| {
                    for warning in &comparison.warnings {
                        html.leaf("li", &[], warning);
                    }
                });
            });
        }
    })
}

fn rows(html: &mut Html, comparison: &Comparison) {
    html.paragraph(&format!(
        "A change counts if its whole interval is beyond the tolerance of {}. {}",
        format::share(comparison.tolerance),
        allowance(comparison)
    ));
    table(html, "Every figure before and after", |html| {
        head_row(html, |html| {
            for name in ["Peer", "Figure", "Before", "After", "Change", "Verdict"] {
                column(html, name, "", "");
            }
        });
        html.tag("tbody", &[], |html| {
            for row in &comparison.rows {
                html.tag("tr", &[], |html| {
                    for cell in cells(row) {
                        html.leaf("td", &[], &cell);
                    }
                });
            }
        });
    });
}

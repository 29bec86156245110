//! Two runs as a page, in the look of the report.

use super::{POLICY, STYLE, column, section, table};
use crate::{compare::Comparison, format, html::Html, palette};

pub(crate) fn render(comparison: &Comparison) -> String {
    let mut html = Html::default();
    html.raw("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    html.raw("<meta http-equiv=\"Content-Security-Policy\" content=\"");
    html.raw(POLICY);
    html.raw("\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    html.leaf("title", &[], "Two runs · layerlab");
    html.raw("\n");
    html.style(&palette::css());
    html.style(STYLE);
    html.raw("</head>\n<body>\n<main>\n");
    html.tag("header", &[], |html| {
        html.tag("p", &[("class", "kicker")], |html| {
            html.leaf("b", &[], "layerlab");
            html.text(" · two runs compared");
        });
        html.leaf("h1", &[], &comparison.sentence());
        html.leaf("p", &[], &format!("Before: {}", comparison.before));
        html.leaf("p", &[], &format!("After: {}", comparison.after));
    });
    section(&mut html, "figures", "What changed", |html| rows(html, comparison));
    if !comparison.warnings.is_empty() {
        section(&mut html, "warnings", "What makes them hard to compare", |html| {
            html.tag("ul", &[], |html| {
                for warning in &comparison.warnings {
                    html.leaf("li", &[], warning);
                }
            });
        });
    }
    html.raw("</main>\n</body>\n</html>\n");
    html.into_string()
}

fn rows(html: &mut Html, comparison: &Comparison) {
    html.leaf(
        "p",
        &[],
        &format!(
            "A change counts when its whole {:.0} % interval lies beyond the tolerance of {}.",
            comparison.level * 100.0,
            format::share(comparison.tolerance)
        ),
    );
    table(html, "Every figure before and after", |html| {
        html.tag("thead", &[], |html| {
            html.tag("tr", &[], |html| {
                for name in ["Peer", "Figure", "Before", "After", "Change", "Verdict"] {
                    column(html, name, "", "");
                }
            });
        });
        html.tag("tbody", &[], |html| {
            for row in &comparison.rows {
                html.tag("tr", &[], |html| {
                    for cell in row.cells() {
                        html.leaf("td", &[], &cell);
                    }
                });
            }
        });
    });
}

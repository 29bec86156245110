//! What the scenario expected, and what came out.

use analysis::model::Model;
use measure::record::Verdict;

use super::section;
use crate::html::Html;

pub(super) fn write(html: &mut Html, model: &Model<'_>) {
    let claims = &model.run.expectations;
    if claims.is_empty() {
        return;
    }
    section(html, "expectations", "Expectations", |html| {
        html.tag("ul", &[("class", "claims")], |html| {
            for claim in claims {
                let (class, word) = match claim.verdict {
                    Verdict::Held => ("held", "held"),
                    Verdict::Failed => ("failed", "failed"),
                    Verdict::NotJudged => ("open", "not judged"),
                };
                html.tag("li", &[("class", class)], |html| {
                    html.leaf("span", &[("class", "verdict")], word);
                    html.leaf("code", &[], &claim.claim);
                    html.leaf("span", &[("class", "detail")], &claim.detail);
                });
            }
        });
    });
}

//! Every doubt, with what to do about it.
//!
//! Doubts of one kind are written together: the figures differ from trial to
//! trial, the advice does not.

use analysis::model::Model;
use measure::warning::Warning;

use super::section;
use crate::html::Html;

/// All doubts of one kind.
struct Kind {
    /// Its name in the record.
    name: String,
    is_note: bool,
    /// Each text, with where it was raised.
    texts: Vec<(String, Vec<String>)>,
}

pub(super) fn write(html: &mut Html, model: &Model<'_>) {
    let kinds = gather(model);
    section(html, "warnings", "Doubts", |html| {
        if kinds.is_empty() {
            html.leaf("p", &[], "No warning was raised.");
            return;
        }
        html.tag("ul", &[("class", "warnings")], |html| {
            // What puts figures in doubt stands before what is only worth knowing.
            for is_note in [false, true] {
                for kind in kinds.iter().filter(|kind| kind.is_note == is_note) {
                    item(html, kind);
                }
            }
        });
    });
}

fn item(html: &mut Html, kind: &Kind) {
    let class = if kind.is_note { "note" } else { "doubt" };
    html.tag("li", &[("class", class)], |html| {
        let Some(((text, places), others)) = kind.texts.split_first() else {
            return;
        };
        html.text(text);
        html.leaf("small", &[], &places.join(" · "));
        if others.is_empty() {
            return;
        }
        html.tag("details", &[], |html| {
            html.leaf("summary", &[], &format!("{} more with other figures", others.len()));
            for (text, places) in others {
                html.tag("p", &[], |html| {
                    html.text(text);
                    html.leaf("small", &[], &places.join(" · "));
                });
            }
        });
    });
}

fn gather(model: &Model<'_>) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = Vec::new();
    let mut add = |warning: &Warning, place: String| {
        let name = name_of(warning);
        let index = kinds.iter().position(|kind| kind.name == name).unwrap_or_else(|| {
            kinds.push(Kind { name, is_note: warning.is_note(), texts: Vec::new() });
            kinds.len() - 1
        });
        let texts = &mut kinds[index].texts;
        let text = warning.to_string();
        match texts.iter_mut().find(|(other, _)| *other == text) {
            Some((_, places)) => places.push(place),
            None => texts.push((text, vec![place])),
        }
    };
    for warning in &model.run.warnings {
        add(warning, "the whole run".to_owned());
    }
    for (peer, trial) in model.trials() {
        for warning in &trial.record.warnings {
            let at = trial.record.point.as_ref().map(|point| format!(" at {point}"));
            let at = at.unwrap_or_default();
            add(warning, format!("{}{at}, repeat {}", peer.name, trial.record.repeat + 1));
        }
    }
    kinds
}

/// The kind as the record names it.
fn name_of(warning: &Warning) -> String {
    serde_json::to_value(warning)
        .ok()
        .and_then(|value| Some(value.get("kind")?.as_str()?.to_owned()))
        .unwrap_or_default()
}

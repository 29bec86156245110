//! Every doubt, with what to do about it.
//!
//! A doubt that several trials share is written once, with the trials it is of.

use super::section;
use crate::{html::Html, model::Model};

/// A warning's text, and where it was raised.
struct Doubt {
    text: String,
    is_note: bool,
    places: Vec<String>,
}

pub(super) fn write(html: &mut Html, model: &Model<'_>) {
    let doubts = gather(model);
    section(html, "warnings", "Doubts", |html| {
        if doubts.is_empty() {
            html.leaf("p", &[], "No warning was raised.");
            return;
        }
        html.tag("ul", &[("class", "warnings")], |html| {
            // What puts figures in doubt stands before what is only worth knowing.
            for is_note in [false, true] {
                for doubt in doubts.iter().filter(|doubt| doubt.is_note == is_note) {
                    let class = if is_note { "note" } else { "doubt" };
                    html.tag("li", &[("class", class)], |html| {
                        html.text(&doubt.text);
                        html.leaf("small", &[], &doubt.places.join(" · "));
                    });
                }
            }
        });
    });
}

fn gather(model: &Model<'_>) -> Vec<Doubt> {
    let mut doubts: Vec<Doubt> = Vec::new();
    let mut add = |warning: &measure::warning::Warning, place: String| {
        let text = warning.to_string();
        match doubts.iter_mut().find(|doubt| doubt.text == text) {
            Some(doubt) => doubt.places.push(place),
            None => {
                doubts.push(Doubt { text, is_note: warning.is_note(), places: vec![place] });
            }
        }
    };
    for warning in &model.run.warnings {
        add(warning, "the whole run".to_owned());
    }
    for (peer, trial) in model.trials() {
        for warning in &trial.record.warnings {
            add(warning, format!("{}, repeat {}", peer.name, trial.record.repeat + 1));
        }
    }
    doubts
}

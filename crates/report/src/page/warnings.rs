//! Every doubt, with what to do about it.
//!
//! Doubts of one kind are written together: the figures differ from trial to
//! trial, the advice does not.

use analysis::{
    doubts::{Meaning, meaning},
    model::Model,
};
use measure::warning::Warning;

use super::section;
use crate::html::Html;

/// All doubts of one kind.
struct Kind {
    /// Its name in the record.
    name: String,
    meaning: Meaning,
    /// Each text, with where it was raised.
    texts: Vec<(String, Vec<String>)>,
}

pub(super) fn write(html: &mut Html, model: &Model<'_>) {
    let kinds = gather(model);
    section(html, "warnings", "Doubts", |html| {
        if kinds.is_empty() {
            html.paragraph("No warning was raised.");
            return;
        }
        let is_doubt = |meaning| matches!(meaning, Meaning::Invalidates(_));
        group(html, "Puts figures in doubt", &kinds, is_doubt);
        group(html, "Notes", &kinds, |meaning| meaning == Meaning::Note);
        group(html, "Expected here", &kinds, |meaning| meaning == Meaning::Expected);
    });
}

/// The kinds of one meaning under their heading, where there are any.
fn group(html: &mut Html, title: &str, kinds: &[Kind], belongs: fn(Meaning) -> bool) {
    let own: Vec<&Kind> = kinds.iter().filter(|kind| belongs(kind.meaning)).collect();
    if own.is_empty() {
        return;
    }
    html.leaf("h3", &[], title);
    html.tag("ul", &[("class", "warnings")], |html| own.iter().for_each(|kind| item(html, kind)));
}

fn item(html: &mut Html, kind: &Kind) {
    let class = match kind.meaning {
        Meaning::Invalidates(_) => "doubt",
        Meaning::Note | Meaning::Expected => "note",
    };
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
    let mut add = |warning: &Warning, meaning: Meaning, place: String| {
        let name = name_of(warning);
        let same = |kind: &Kind| kind.name == name && kind.meaning == meaning;
        let index = kinds.iter().position(same).unwrap_or_else(|| {
            kinds.push(Kind { name, meaning, texts: Vec::new() });
            kinds.len() - 1
        });
        let texts = &mut kinds[index].texts;
        let text = warning.to_string();
        match texts.iter_mut().find(|(other, _)| *other == text) {
            Some((_, places)) => places.push(place),
            None => texts.push((text, vec![place])),
        }
    };
    let run = &model.run;
    for warning in &model.run.warnings {
        let about = model.peers.iter().find(|peer| warning.peer() == Some(&peer.name));
        if let Some(peer) = about.or(model.peers.first()) {
            let peer = model.at_point(peer, warning.point());
            add(warning, meaning(warning, run, peer, None), "the whole run".to_owned());
        }
    }
    // What was measured again is in no figure, so its warnings put none in doubt.
    let counted = model.trials().into_iter().filter(|(_, trial)| !trial.record.is_replaced());
    for (peer, trial) in counted {
        let peer = model.at_point(peer, trial.record.point.as_deref());
        for warning in &trial.record.warnings {
            let at = trial.record.point.as_ref().map(|point| format!(" at {point}"));
            let at = at.unwrap_or_default();
            let meaning = meaning(warning, run, peer, Some(trial.record));
            add(warning, meaning, format!("{}{at}, repeat {}", peer.name, trial.record.repeat + 1));
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

//! No label of a chart lies on another, on any chart of any run, wide or narrow.

use analysis::model::Model;
use measure::{
    folder::Run,
    record::{Discovery, FaultRecord},
    warning::Warning,
};
use report::{
    charts::{self, Frame},
    drawing::{Anchor, Bounds, Drawing, Font, Mark},
    summary,
};

/// What letters may share at their edges, in logical pixels.
const TOUCHING: f64 = 1.0;

/// Where a text is, from the top of its capitals to its base line.
fn bounds((x, y): (f64, f64), text: &str, font: &Font) -> Bounds {
    // Without the room that a browser's own font may take.
    let length = Font { bold: false, ..*font }.width(text) / 1.1;
    let height = font.size * 0.72;
    let before = match font.anchor {
        Anchor::Start => 0.0,
        Anchor::Middle => length / 2.0,
        Anchor::End => length,
    };
    if font.upwards {
        return Bounds { x: x - height, y: y + before - length, width: height, height: length };
    }
    Bounds { x: x - before, y: y - height, width: length, height }
}

fn overprinted(drawing: &Drawing) -> Vec<(String, String)> {
    let marks = drawing.groups.iter().flat_map(|group| &group.marks);
    let texts: Vec<(&str, Bounds)> = marks
        .filter_map(|mark| match mark {
            Mark::Text { at, text, font } => Some((&**text, bounds(*at, text, font))),
            _ => None,
        })
        .filter(|(text, _)| !text.is_empty())
        .collect();
    let mut pairs = Vec::new();
    for (index, (text, own)) in texts.iter().enumerate() {
        for (other_text, other) in &texts[index + 1..] {
            let across = own.right().min(other.right()) - own.x.max(other.x);
            let down = own.bottom().min(other.bottom()) - own.y.max(other.y);
            if across > TOUCHING && down > TOUCHING {
                pairs.push(((*text).to_owned(), (*other_text).to_owned()));
            }
        }
    }
    pairs
}

/// A run of many peers, with one fault after another, sooner than a label is wide.
fn crowded() -> Run {
    let mut crowded = crate::common::faulted();
    for name in ["client-dns", "client-lookaside", "envoy-l7", "haproxy-l7", "nginx-l7", "caddy-l7"]
    {
        crate::common::add_client_who(&mut crowded, name, Discovery::Lookaside);
    }
    for trial in &mut crowded.trials {
        let first = trial.faults[0].clone();
        trial.faults.extend((1..4).map(|after| FaultRecord {
            backend: format!("b{after}"),
            planned_s: first.planned_s + 0.1 * f64::from(after),
            done_s: first.done_s + 0.1 * f64::from(after),
            ..first.clone()
        }));
    }
    crowded
}

/// The question, what was measured on what, and doubts are never cut, and nothing lies on them.
#[test]
fn the_summary_is_whole_at_every_length() {
    let mut found = Vec::new();
    for words in [1, 12, 40, 90] {
        let many_peers = |mut run: Run| {
            for index in 0..words / 3 {
                let name = format!("client-{index}");
                crate::common::add_client_who(&mut run, &name, Discovery::Lookaside);
            }
            run
        };
        let runs = [crate::common::run(), crate::common::swept(), many_peers(crowded())];
        for mut run in runs {
            run.record.question = "question ".repeat(words).trim().to_owned();
            run.record.environment.layerlab_version = "version ".repeat(words).trim().to_owned();
            run.trials[0].warnings.push(Warning::GeneratorStarved { share: 0.5 });
            let drawing = summary::draw(&Model::new(&run.record, &run.trials));
            let marks = drawing.groups.iter().flat_map(|group| &group.marks);
            let texts = marks.filter_map(|mark| match mark {
                Mark::Text { at, text, font } => Some((text, bounds(*at, text, font))),
                _ => None,
            });
            let mut said = String::new();
            for (text, place) in texts {
                said = format!("{said} {text}");
                let is_inside = place.x >= 0.0
                    && place.y >= 0.0
                    && place.right() <= drawing.width
                    && place.bottom() <= drawing.height;
                if !is_inside {
                    found.push(format!("{words} words: `{text}` at {place:?}"));
                }
            }
            let whole = ["Figures are in doubt", "95 % confidence intervals"];
            let missing = whole.iter().filter(|part| !said.contains(**part));
            found.extend(missing.map(|part| format!("{words} words: no `{part}`")));
            for word in ["question", "version"] {
                assert_eq!(said.matches(word).count(), words, "{said}");
            }
            let pairs = overprinted(&drawing).into_iter();
            found.extend(pairs.map(|(one, other)| format!("{words} words: `{one}` on `{other}`")));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn no_label_lies_on_another() {
    let crowded = crowded();
    let mut without_faults = crowded.clone();
    without_faults.trials.iter_mut().for_each(|trial| trial.faults.clear());
    let mut categories = crate::common::swept();
    for point in &mut categories.record.sweep.as_mut().unwrap().points {
        point.number = None;
    }
    // A backend for each repeat, so that the bars of neighbours are next to each other.
    let mut one_by_one = crate::common::run();
    for trial in one_by_one.trials.iter_mut().filter(|trial| trial.peer == "l4") {
        let only = [3, 0, 2][trial.repeat as usize];
        for (index, backend) in trial.backends.iter_mut().enumerate() {
            backend.calls = if index == only { 9_600 } else { 0 };
        }
    }
    let runs: [(&str, Run); 8] = [
        ("one backend a repeat", one_by_one),
        ("run", crate::common::run()),
        ("crowded", crowded),
        ("crowded without faults", without_faults),
        ("categories", categories),
        ("faulted", crate::common::faulted()),
        ("swept", crate::common::swept()),
        ("searched", crate::common::searched()),
    ];
    let mut found = Vec::new();
    let mut charts_seen = 0;
    for (name, run) in &runs {
        let model = Model::new(&run.record, &run.trials);
        for (one, other) in overprinted(&summary::draw(&model)) {
            found.push(format!("{name}, summary: `{one}` on `{other}`"));
        }
        for kind in charts::of(&model) {
            for frame in [Frame::wide(), Frame::narrow()] {
                charts_seen += 1;
                let chart = kind.of(&model, frame);
                for (one, other) in overprinted(&chart.drawing) {
                    let width = frame.width;
                    found.push(format!("{name}, {} at {width}: `{one}` on `{other}`", kind.name));
                }
            }
        }
    }
    assert!(charts_seen > 30, "{charts_seen}");
    assert!(found.is_empty(), "{}", found.join("\n"));
}

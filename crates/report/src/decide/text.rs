//! The decision as text for a terminal: a verdict for each situation, what each choice
//! costs, and what is still to be measured.

use analysis::{
    decide::{Decision, Status, micros},
    findings::Sentence,
    model::LEVEL_TEXT,
};
use measure::format;

use crate::{
    palette::Paint,
    terminal::{Style, coloured, dim, paragraph, plain_paragraph},
};

pub(super) fn write(decision: &Decision, style: Style) -> String {
    let mut text = String::new();
    let is_conclusive = |one: &&analysis::decide::Situation| {
        one.finding.status == Status::Conclusive && !one.is_aside
    };
    for situation in decision.situations.iter().filter(is_conclusive) {
        let mut line = Sentence::default().text(&situation.opening(":"));
        if let Some(chosen) = situation.chosen() {
            line = line.figure(chosen).text(". ");
        }
        line.0.extend(situation.reason.0.iter().cloned());
        text.push_str(&paragraph(&line, "- ", style));
    }
    if let Some(costs) = &decision.costs {
        head(&mut text, &format!("CPU cost of balancing, at {}", costs.load), style);
        let width = costs.rows.iter().map(|row| row.peer.chars().count()).max().unwrap_or(4);
        for row in &costs.rows {
            let name = format!("{:<width$}", row.peer);
            let cost = match row.cpu_per_call_ns {
                Some(value) => {
                    let range = value.interval.map(|(low, high)| {
                        format!(" ({})", format::range(micros(low), micros(high)))
                    });
                    let whose = match row.calls_per_core {
                        _ if row.is_clients => ", the client's".to_owned(),
                        Some(calls) => format!("; one core handles {}", format::rate(calls.value)),
                        None => String::new(),
                    };
                    format!(
                        "{:>8} µs per call{}{whose}",
                        micros(value.value),
                        range.unwrap_or_default()
                    )
                }
                None => format!("{:>8}", format::UNKNOWN),
            };
            let name = crate::terminal::cut(&name, style.width.saturating_sub(2));
            let room = style.width.saturating_sub(name.chars().count() + 2);
            let cost = crate::terminal::cut(&format!("  {cost}"), room);
            text.push_str(&format!("  {}{cost}\n", coloured(&name, Paint::of(row.mark), style)));
        }
    }
    let costs = decision.costs.iter().flat_map(|costs| &costs.findings);
    for finding in costs.filter(|finding| finding.status == Status::Conclusive) {
        text.push_str(&paragraph(&finding.sentence, "- ", style));
    }
    open(&mut text, decision, style);
    text.push('\n');
    let runs = decision.folders().len();
    let word = if runs == 1 { "run" } else { "runs" };
    let foot = format!(
        "From {runs} {word} on {}; in brackets: {LEVEL_TEXT} confidence intervals; alike: within {}.",
        decision.machine,
        format::share(decision.alike_within)
    );
    text.push_str(&plain_paragraph(&foot, "", style));
    if let Some(doubt) = decision.doubt() {
        text.push_str(&plain_paragraph(&doubt, "! ", style));
    }
    for note in decision.noted() {
        text.push_str(&plain_paragraph(&note, "- ", style));
    }
    text
}

/// What is still to be measured, with what to run.
fn open(text: &mut String, decision: &Decision, style: Style) {
    let lines = decision.still_open();
    if lines.is_empty() {
        return;
    }
    head(text, "Still to be measured", style);
    for (what, scenarios, command) in lines {
        let line = format!("{what} {}. {command}", scenarios.join(", "));
        text.push_str(&plain_paragraph(&line, "- ", style));
    }
}

fn head(text: &mut String, title: &str, style: Style) {
    let title = crate::terminal::cut(title, style.width);
    text.push_str(&format!("\n{}\n", dim(&title, style)));
}

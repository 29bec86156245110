//! The decision as text for a terminal: a verdict for each situation, what each choice
//! costs, and what is still to be measured.

use analysis::{
    decide::{CostRow, Costs, Decision, micros},
    findings::Sentence,
    model::LEVEL_TEXT,
};
use measure::format;

use crate::{
    palette::Paint,
    terminal::{Style, coloured, cut, dim, paragraph, plain_paragraph},
};

pub(super) fn write(decision: &Decision, style: Style) -> String {
    let mut text = String::new();
    for situation in decision.verdicts() {
        let mut line = Sentence::default().text(&situation.opening(":"));
        if let Some(chosen) = situation.chosen() {
            line = line.figure(chosen).text(". ");
        }
        let line = line.followed_by(situation.reason.clone());
        text.push_str(&paragraph(&line, "- ", style));
    }
    if let Some(costs) = &decision.costs {
        write_costs(&mut text, costs, style);
    }
    for finding in decision.cost_findings() {
        text.push_str(&paragraph(&finding.sentence, "- ", style));
    }
    open(&mut text, decision, style);
    text.push('\n');
    let foot = format!(
        "From {} on {}; in brackets: {LEVEL_TEXT} confidence intervals; alike: within {}.",
        format::counted(decision.folders().len(), "run"),
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

fn write_costs(text: &mut String, costs: &Costs, style: Style) {
    head(text, &format!("CPU cost of balancing, at {}", costs.load), style);
    let width = costs.rows.iter().map(|row| row.peer.chars().count()).max().unwrap_or(4);
    for row in &costs.rows {
        let name = cut(&format!("{:<width$}", row.peer), style.width.saturating_sub(2));
        let room = style.width.saturating_sub(name.chars().count() + 2);
        let cost = cut(&format!("  {}", cost(row)), room);
        text.push_str(&format!("  {}{cost}\n", coloured(&name, Paint::of(row.mark), style)));
    }
}

fn cost(row: &CostRow) -> String {
    let Some(value) = row.cpu_per_call_ns else { return format!("{:>8}", format::UNKNOWN) };
    let range = value.interval.map(|(low, high)| format::range(micros(low), micros(high)));
    let range = range.map(|range| format!(" ({range})")).unwrap_or_default();
    let whose = match row.calls_per_core {
        _ if row.is_clients => ", the client's".to_owned(),
        Some(calls) => format!("; one core handles {}", format::rate(calls.value)),
        None => String::new(),
    };
    format!("{:>8} µs per call{range}{whose}", micros(value.value))
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
    text.push_str(&format!("\n{}\n", dim(&cut(title, style.width), style)));
}

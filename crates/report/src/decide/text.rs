//! The decision as text for a terminal: the answer, what each choice costs, when each
//! is right, and what is missing.

use analysis::model::LEVEL_TEXT;
use measure::format;

use crate::{
    palette::Paint,
    terminal::{Style, coloured, dim, paragraph, plain_paragraph},
};
use analysis::decide::{Decision, Status, micros, span};

pub(super) fn write(decision: &Decision, style: Style) -> String {
    let mut text = String::new();
    for finding in &decision.answer {
        text.push_str(&paragraph(&finding.says, "- ", style));
    }
    if let Some(costs) = &decision.costs {
        head(&mut text, &format!("CPU that balancing takes, at {}", costs.load), style);
        let width = costs.rows.iter().map(|row| row.peer.chars().count()).max().unwrap_or(4);
        for row in &costs.rows {
            let name = format!("{:<width$}", row.peer);
            let cost = match row.cpu_per_call_ns {
                Some(value) => {
                    let range = value
                        .interval
                        .map(|(low, high)| format!(" ({})", span(&micros(low), &micros(high))));
                    let whose = if row.is_clients { ", the client's" } else { "" };
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
    let groups = [
        ("What is right when", Status::Tells),
        ("What the data can't tell", Status::CannotTell),
        ("What was not measured", Status::NotMeasured),
    ];
    for (title, status) in groups {
        let own: Vec<_> =
            decision.situations.iter().filter(|one| one.finding.status == status).collect();
        if own.is_empty() {
            continue;
        }
        head(&mut text, title, style);
        for situation in own {
            let choices: Vec<&str> =
                situation.choices.iter().map(|choice| choice.words()).collect();
            let line = match status {
                Status::Tells if choices.is_empty() => {
                    format!("{}{}", situation.opening(":"), situation.finding.says.plain())
                }
                Status::Tells => format!("{}{}", situation.opening(":"), choices.join(" or ")),
                _ => match &situation.command {
                    Some(command) => format!("{}{command}", situation.opening(":")),
                    None => situation.when.clone(),
                },
            };
            text.push_str(&plain_paragraph(&line, "- ", style));
        }
    }
    text.push('\n');
    let runs = decision.folders().len();
    let word = if runs == 1 { "run" } else { "runs" };
    let foot = format!(
        "From {runs} {word} on {}; brackets hold {LEVEL_TEXT} intervals, and alike is within {}.",
        decision.machine,
        format::share(decision.alike_within)
    );
    text.push_str(&plain_paragraph(&foot, "", style));
    for caveat in decision.caveats() {
        text.push_str(&plain_paragraph(&caveat, "! ", style));
    }
    text
}

fn head(text: &mut String, title: &str, style: Style) {
    let title = crate::terminal::cut(title, style.width);
    text.push_str(&format!("\n{}\n", dim(&title, style)));
}

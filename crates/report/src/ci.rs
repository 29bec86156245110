//! The result of a run for what reads it in CI: a job summary in Markdown, test
//! results as JUnit's XML, and GitHub's annotations.

use std::fmt::Write as _;

use analysis::{
    findings::{Findings, Sentence},
    model::Model,
};
use measure::record::{Expectation, RunRecord, TrialOutcome, TrialRecord, Verdict};

use crate::{html::Html, terminal::Table};

/// A run as GitHub-flavoured Markdown: the question, the answer, the comparison and what
/// came of the claims.
pub fn markdown(run: &RunRecord, trials: &[TrialRecord]) -> String {
    let model = Model::new(run, trials);
    let mut text = format!("## {}\n\n{}\n\n", escaped(&run.scenario), escaped(&run.question));
    let findings = Findings::of(&model);
    let said = if findings.answer.is_empty() { &findings.peers } else { &findings.answer };
    let said: Vec<String> = said.iter().map(|sentence| escaped(&sentence.plain())).collect();
    text += &format!("{}\n\n", said.join(" "));
    text += &table(&Table::of(&model));
    if !run.expectations.is_empty() {
        text.push_str("\n### Expectations\n\n| claim | verdict | judged by |\n|---|---|---|\n");
        for Expectation { claim, verdict, detail } in &run.expectations {
            let claim = claim.replace(char::is_control, " ").replace('|', "\\|");
            text += &format!("| `{claim}` | {} | {} |\n", word(*verdict), escaped(detail));
        }
    }
    let caveats: Vec<&Sentence> = findings.caveats.iter().collect();
    if !caveats.is_empty() {
        text.push_str("\n### Warnings\n\n");
        for caveat in caveats {
            text += &format!("- {}\n", escaped(&caveat.plain()));
        }
    }
    text
}

fn table(table: &Table<'_>) -> String {
    let mut text = "| peer |".to_owned();
    for &column in &table.used {
        text += &format!(" {} |", escaped(&table.heads[column]));
    }
    text += &format!("\n|---|{}\n", "---:|".repeat(table.used.len()));
    for row in &table.rows {
        text += &format!("| {} |", escaped(&row.name));
        let cells = table.used.iter().map(|&column| row.cells.get(column));
        match &row.missing {
            Some(reason) => {
                text += &format!(
                    " {} |{}",
                    escaped(reason),
                    " |".repeat(table.used.len().saturating_sub(1))
                );
            }
            None => cells.flatten().for_each(|cell| text += &format!(" {} |", escaped(cell))),
        }
        text.push('\n');
    }
    text
}

/// A run as test results: a suite named as the scenario, a case for each claim, and one
/// for each trial that failed. The format is the one that Jenkins documents and GitLab,
/// GitHub's actions and others read.
pub fn junit(run: &RunRecord, trials: &[TrialRecord]) -> String {
    let failed_trials = failed_trials(trials);
    let count = |verdict| run.expectations.iter().filter(|one| one.verdict == verdict).count();
    let numbers = [
        run.expectations.len() + failed_trials.len(),
        count(Verdict::Failed),
        failed_trials.len(),
        count(Verdict::NotJudged),
    ]
    .map(|number| number.to_string());
    let elapsed = run.elapsed_s.unwrap_or_default().to_string();
    let mut xml = Html::default();
    xml.raw("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let suite = [
        ("name", run.scenario.as_str()),
        ("tests", &numbers[0]),
        ("failures", &numbers[1]),
        ("errors", &numbers[2]),
        ("skipped", &numbers[3]),
        ("time", &elapsed),
        ("timestamp", run.started_utc.trim_end_matches('Z')),
    ];
    xml.tag("testsuites", &[], |xml| {
        xml.tag("testsuite", &suite, |xml| {
            for Expectation { claim, verdict, detail } in &run.expectations {
                let case = [("classname", run.scenario.as_str()), ("name", claim.as_str())];
                xml.tag("testcase", &case, |xml| match verdict {
                    Verdict::Held => {}
                    Verdict::Failed => xml.tag("failure", &[("message", detail)], |_| {}),
                    Verdict::NotJudged => xml.tag("skipped", &[("message", detail)], |_| {}),
                });
            }
            for (name, reason) in &failed_trials {
                let case = [("classname", run.scenario.as_str()), ("name", name.as_str())];
                xml.tag("testcase", &case, |xml| {
                    xml.tag("error", &[("message", reason)], |_| {});
                });
            }
        });
    });
    xml.into_string() + "\n"
}

/// What did not come out, as workflow commands that GitHub shows as annotations: an error
/// for a claim or a trial that failed, a warning for a claim that could not be judged.
pub fn annotations(run: &RunRecord, trials: &[TrialRecord]) -> String {
    let mut text = String::new();
    let mut annotate = |level: &str, what: &str, detail: &str| {
        let title = format!("{}: {what}", run.scenario);
        let _ = writeln!(text, "::{level} title={}::{}", property(&title), data(detail));
    };
    for Expectation { claim, verdict, detail } in &run.expectations {
        match verdict {
            Verdict::Held => {}
            Verdict::Failed => annotate("error", claim, detail),
            Verdict::NotJudged => annotate("warning", claim, &format!("not judged: {detail}")),
        }
    }
    for (name, reason) in failed_trials(trials) {
        annotate("error", &name, &reason);
    }
    text
}

/// The trials that failed, each with the reason.
fn failed_trials(trials: &[TrialRecord]) -> Vec<(String, String)> {
    let failed = |trial: &TrialRecord| match &trial.outcome {
        TrialOutcome::Failed { message, .. } => {
            Some((format!("trial {} of {}", trial.order, trial.peer), message.clone()))
        }
        _ => None,
    };
    trials.iter().filter_map(failed).collect()
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Held => "held",
        Verdict::Failed => "**failed**",
        Verdict::NotJudged => "not judged",
    }
}

/// Text that Markdown takes as text, on one line: what could be markup or HTML is escaped.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => escaped.push_str("&lt;"),
            '&' => escaped.push_str("&amp;"),
            '\\' | '*' | '_' | '[' | ']' | '#' | '|' => escaped.extend(['\\', character]),
            control if control.is_control() => escaped.push(' '),
            other => escaped.push(other),
        }
    }
    escaped
}

/// The value of a property of a workflow command.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// The message of a workflow command: it ends with the line.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

//! A run, or a comparison of two, for what reads it in CI: a job summary in Markdown, test
//! results as JUnit's XML, and GitHub's annotations.

use analysis::{
    compare::{self, Comparison},
    findings::Findings,
    model::Model,
    verdict,
};
use measure::record::{Expectation, RunRecord, TrialOutcome, TrialRecord, Verdict};

use crate::{html::Html, terminal::Table};

/// A run as GitHub-flavoured Markdown: the question, the answer, the comparison and what
/// came of the claims.
pub fn markdown(run: &RunRecord, trials: &[TrialRecord]) -> String {
    let model = Model::new(run, trials);
    let mut text = format!("## {}\n\n{}\n\n", escaped(&run.scenario), escaped(&run.question));
    let findings = Findings::of(&model);
    let said = findings.said().iter().map(|sentence| escaped(&sentence.plain()));
    let said: Vec<String> = said.collect();
    text += &format!("{}\n\n", said.join(" "));
    text += &table(&Table::of(&model));
    if !run.expectations.is_empty() {
        text.push_str("\n### Expectations\n\n| claim | verdict | judged by |\n|---|---|---|\n");
        for Expectation { claim, verdict, detail } in &run.expectations {
            let claim = claim.replace(char::is_control, " ").replace('|', "\\|");
            text += &format!("| `{claim}` | {} | {} |\n", word(*verdict), escaped(detail));
        }
    }
    for (title, said) in [("Doubts", &findings.doubts), ("Notes", &findings.notes)] {
        if !said.is_empty() {
            text += &format!("\n### {title}\n\n");
        }
        said.iter().for_each(|one| text += &format!("- {}\n", escaped(&one.plain())));
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
    let started = run.started_utc.trim_end_matches('Z');
    test_suite(&run.scenario, &cases_of(run, trials), run.elapsed_s, Some(started))
}

/// What did not come out, as workflow commands that GitHub shows as annotations: an error
/// for a claim or a trial that failed, a warning for a claim that could not be judged.
pub fn annotations(run: &RunRecord, trials: &[TrialRecord]) -> String {
    commands(&run.scenario, &cases_of(run, trials))
}

/// Two runs as GitHub-flavoured Markdown: what came of it, and each figure.
pub fn comparison_markdown(comparison: &Comparison) -> String {
    let sides = [&comparison.before, &comparison.after].map(|side| escaped(side));
    let mut text = format!(
        "## {} → {}\n\n{}\n\n",
        sides[0],
        sides[1],
        escaped(&crate::verdicts::sentence(comparison))
    );
    text.push_str("| peer | figure | before | after | change | |\n|---|---|---:|---:|---:|---|\n");
    for row in &comparison.rows {
        let cells = crate::verdicts::cells(row).map(|cell| escaped(&cell));
        text += &format!("| {} |\n", cells.join(" | "));
    }
    text += &format!("\n{}\n", escaped(&crate::verdicts::allowance(comparison)));
    for warning in &comparison.warnings {
        text += &format!("\n- {}", escaped(warning));
    }
    text.trim_end().to_owned() + "\n"
}

/// Two runs as test results: a case for each figure.
pub fn comparison_junit(comparison: &Comparison) -> String {
    test_suite(COMPARISON, &comparison_cases(comparison), None, None)
}

/// What got worse from one run to the other as annotations, an error each, and in one
/// warning of how many figures nothing can be told: GitHub shows ten of a kind.
pub fn comparison_annotations(comparison: &Comparison) -> String {
    let mut cases = comparison_cases(comparison);
    cases.retain(|case| case.outcome == Outcome::Failed);
    if comparison.is_inconclusive() {
        cases.push(Case {
            name: "not every figure could be judged".to_owned(),
            outcome: Outcome::NotJudged,
            detail: crate::verdicts::sentence(comparison),
        });
    }
    commands(COMPARISON, &cases)
}

/// The suite that comparisons are, and the class of their cases.
const COMPARISON: &str = "compare";

/// Something that was judged.
struct Case {
    name: String,
    outcome: Outcome,
    detail: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    NotJudged,
    /// Nothing could be judged by it: a trial that failed.
    Error,
}

fn cases_of(run: &RunRecord, trials: &[TrialRecord]) -> Vec<Case> {
    let claim = |Expectation { claim, verdict, detail }: &Expectation| Case {
        name: claim.clone(),
        outcome: match verdict {
            Verdict::Held => Outcome::Passed,
            Verdict::Failed => Outcome::Failed,
            Verdict::NotJudged => Outcome::NotJudged,
        },
        detail: match verdict {
            Verdict::NotJudged => format!("not judged: {detail}"),
            Verdict::Held | Verdict::Failed => detail.clone(),
        },
    };
    let failed = |trial: &TrialRecord| match &trial.outcome {
        TrialOutcome::Failed { message, .. } => Some(Case {
            name: format!("trial {} of {}", trial.order, trial.peer),
            outcome: Outcome::Error,
            detail: message.clone(),
        }),
        TrialOutcome::Complete | TrialOutcome::Interrupted => None,
    };
    run.expectations.iter().map(claim).chain(trials.iter().filter_map(failed)).collect()
}

fn comparison_cases(comparison: &Comparison) -> Vec<Case> {
    let case = |row: &compare::Row| {
        let [peer, figure, before, after, change, verdict] = crate::verdicts::cells(row);
        Case {
            name: format!("{peer}.{figure}"),
            outcome: match row.verdict {
                verdict::Verdict::Worse => Outcome::Failed,
                verdict::Verdict::Inconclusive => Outcome::NotJudged,
                verdict::Verdict::Better | verdict::Verdict::Same => Outcome::Passed,
            },
            detail: format!("{verdict}: {before} before, {after} after, {change}"),
        }
    };
    comparison.rows.iter().map(case).collect()
}

fn test_suite(name: &str, cases: &[Case], elapsed_s: Option<f64>, started: Option<&str>) -> String {
    let count = |outcome| cases.iter().filter(|case| case.outcome == outcome).count().to_string();
    let tests = cases.len().to_string();
    let [failures, errors, skipped] =
        [Outcome::Failed, Outcome::Error, Outcome::NotJudged].map(count);
    let time = elapsed_s.map(|elapsed| elapsed.to_string());
    let mut attributes = vec![
        ("name", name),
        ("tests", &*tests),
        ("failures", &*failures),
        ("errors", &*errors),
        ("skipped", &*skipped),
    ];
    attributes.extend(time.as_deref().map(|time| ("time", time)));
    attributes.extend(started.map(|started| ("timestamp", started)));
    let mut xml = Html::default();
    xml.raw("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    xml.tag("testsuites", &[], |xml| {
        xml.tag("testsuite", &attributes, |xml| {
            for case in cases {
                let attributes = [("classname", name), ("name", &*case.name)];
                let element = match case.outcome {
                    Outcome::Passed => None,
                    Outcome::Failed => Some("failure"),
                    Outcome::NotJudged => Some("skipped"),
                    Outcome::Error => Some("error"),
                };
                xml.tag("testcase", &attributes, |xml| {
                    if let Some(element) = element {
                        xml.tag(element, &[("message", &*case.detail)], |_| {});
                    }
                });
            }
        });
    });
    xml.into_string() + "\n"
}

fn commands(suite: &str, cases: &[Case]) -> String {
    let mut text = String::new();
    for case in cases {
        let level = match case.outcome {
            Outcome::Passed => continue,
            Outcome::NotJudged => "warning",
            Outcome::Failed | Outcome::Error => "error",
        };
        let title = property(&format!("{suite}: {}", case.name));
        let detail = data(&case.detail);
        text += &format!("::{level} title={title}::{detail}\n");
    }
    text
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

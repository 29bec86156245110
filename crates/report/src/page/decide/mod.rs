//! The decision page, in the look of a report.
//!
//! In the order in which somebody who has to choose reads: a verdict for each situation,
//! the choices with what they cost and where they are right, two pictures, what is
//! still to be run, and then the evidence, folded away until it is asked for.

mod calculator;
mod choices;
mod tables;

use analysis::{
    decide::{Decision, Evidence, Finding, RunUsed, Situation, Status},
    model::LEVEL_TEXT,
};
use measure::format;

use super::{column, document, figure, head_row, plain_column, section, table, table_of_words};
use crate::{charts::Frame, html::Html, pictures};

pub(crate) fn render(decision: &Decision) -> String {
    document("L4, L7 or client-side · layerlab", |html| {
        header(html, decision);
        answer(html, decision);
        choices::write(html, decision);
        calculator::write(html, decision);
        charts(html, decision);
        open(html, decision);
        write_each_situation(html, decision);
        tables::costs(html, decision);
        tables::tails(html, decision);
        tables::changes(html, decision);
        tables::even(html, decision);
        tables::scenarios(html, decision);
        made(html, decision);
    })
}

fn header(html: &mut Html, decision: &Decision) {
    html.tag("header", &[], |html| {
        html.tag("p", &[("class", "kicker")], |html| {
            html.leaf("b", &[], "layerlab");
            let runs = format::counted(decision.folders().len(), "run");
            html.text(&format!(" · a decision from {runs} on {}", decision.machine));
        });
        html.leaf("h1", &[], "L4, L7 or client-side: which one, and what does it cost?");
    });
}

/// One verdict for each situation that was measured.
fn answer(html: &mut Html, decision: &Decision) {
    let verdicts: Vec<&Situation> = decision.verdicts().collect();
    html.tag("section", &[("id", "answer")], |html| {
        html.leaf("h2", &[("class", "visually-hidden")], "The answer");
        if verdicts.is_empty() {
            html.paragraph("No run decides between L4 and L7 yet; use the commands below.");
        } else {
            table_of_words(html, "A verdict for each situation", |html| {
                head_row(html, |html| {
                    for name in ["Situation", "Choose", "Because"] {
                        plain_column(html, name);
                    }
                });
                html.tag("tbody", &[], |html| verdicts.iter().for_each(|one| verdict(html, one)));
            });
        }
        caveats(html, decision);
    });
}

fn verdict(html: &mut Html, situation: &Situation) {
    html.tag("tr", &[("id", &format!("says-{}", situation.finding.id))], |html| {
        html.leaf("th", &[("scope", "row"), ("class", "wrap")], &situation.when);
        let chosen = situation.chosen();
        if let Some(chosen) = &chosen {
            html.leaf("td", &[("class", "strong")], chosen);
        }
        // Where there is nothing to choose, the finding is the answer.
        let columns = if chosen.is_some() { "1" } else { "2" };
        html.tag("td", &[("class", "because"), ("colspan", columns)], |html| {
            super::answer::sentence(html, &situation.reason);
            html.text(" ");
            html.tag("span", &[("class", "cites")], |html| {
                for one in &situation.finding.evidence {
                    cite(html, one, place(&one.anchor));
                }
            });
        });
    });
}

/// What puts runs in doubt, and what was not used.
fn caveats(html: &mut Html, decision: &Decision) {
    let doubt = decision.doubt().map(|doubt| (doubt, "doubt"));
    let notes = decision.noted().into_iter().map(|note| (note, "note"));
    let all: Vec<(String, &str)> = doubt.into_iter().chain(notes).collect();
    if all.is_empty() {
        return;
    }
    html.tag("ul", &[("class", "caveats")], |html| {
        for (caveat, class) in &all {
            html.leaf("li", &[("class", *class)], caveat);
        }
    });
}

/// A situation's finding with all there is to say of it.
fn write_situation(html: &mut Html, situation: &Situation) {
    super::answer::sentence(html, &situation.finding.sentence);
    html.text(" ");
    super::answer::sentence(html, &situation.details);
    cites(html, &situation.finding.evidence);
}

/// A finding with the links to what shows it.
fn write_finding(html: &mut Html, finding: &Finding) {
    super::answer::sentence(html, &finding.sentence);
    cites(html, &finding.evidence);
}

fn cites(html: &mut Html, evidence: &[Evidence]) {
    if evidence.is_empty() {
        return;
    }
    html.text(" ");
    html.tag("span", &[("class", "cites")], |html| {
        for (index, one) in evidence.iter().enumerate() {
            if index > 0 {
                html.text(" ");
            }
            cite(html, one, &format!("{}: {}", one.name(), place(&one.anchor)));
        }
        if evidence.iter().any(|one| one.in_doubt) {
            html.text(" ");
            html.leaf("a", &[("href", "#method"), ("class", "c-bad")], "run in doubt");
        }
    });
}

/// A link to a part of a run's report.
fn cite(html: &mut Html, evidence: &Evidence, text: &str) {
    html.leaf("a", &[("href", &evidence.link)], text);
}

/// What a part of a report shows, in a word or two.
fn place(anchor: &str) -> &str {
    match anchor {
        "latency-percentiles" | "sweep-p99" => "latency",
        "cpu-per-call" | "sweep-cpu-per-call" => "CPU",
        "sweep-shares" => "shares",
        "share-over-time" => "shares over time",
        "throughput" | "sweep-throughput" => "calls over time",
        "comparison" => "figures",
        "answer" => "report",
        other => other,
    }
}

fn charts(html: &mut Html, decision: &Decision) {
    let wide = pictures::all(decision, Frame::wide());
    let narrow = pictures::all(decision, Frame::narrow());
    if wide.is_empty() {
        return;
    }
    section(html, "charts", "In pictures", |html| {
        for (wide, narrow) in wide.iter().zip(&narrow) {
            figure(html, wide.name, &wide.chart, &narrow.chart);
        }
    });
}

/// What was not measured, or not often enough, with what to run: one short list.
fn open(html: &mut Html, decision: &Decision) {
    let lines = decision.still_open();
    if lines.is_empty() {
        return;
    }
    section(html, "open", "Still to be measured", |html| {
        html.tag("ul", &[("class", "peers")], |html| {
            for (what, scenarios, command) in lines {
                html.tag("li", &[], |html| {
                    html.leaf("b", &[], what);
                    html.text(&format!(" {}. ", scenarios.join(", ")));
                    html.leaf("code", &[], &command);
                });
            }
        });
    });
}

/// All there is to say of each situation.
fn write_each_situation(html: &mut Html, decision: &Decision) {
    let measured = decision.situations.iter();
    let measured = measured.filter(|one| one.finding.status != Status::NotMeasured);
    let (asides, situations): (Vec<_>, Vec<_>) = measured.partition(|one| one.is_aside);
    for (id, heading, all) in [
        ("situations", "Each situation in full", situations),
        ("asides", "Other questions that were answered", asides),
    ] {
        if all.is_empty() {
            continue;
        }
        evidence(html, id, heading, |html| {
            html.tag("ul", &[("class", "peers")], |html| {
                for situation in all {
                    html.tag("li", &[], |html| {
                        html.leaf("b", &[], &situation.opening("."));
                        write_situation(html, situation);
                    });
                }
            });
        });
    }
}

/// A section that is folded away until it is asked for.
fn evidence(html: &mut Html, id: &str, heading: &str, inner: impl FnOnce(&mut Html)) {
    html.tag("section", &[("id", id), ("class", "evidence")], |html| {
        html.tag("details", &[], |html| {
            html.tag("summary", &[], |html| html.leaf("h2", &[], heading));
            html.tag("div", &[], inner);
        });
    });
}

/// How the page was made, and of which runs.
fn made(html: &mut Html, decision: &Decision) {
    evidence(html, "method", "How this page was made, and from which runs", |html| {
        html.paragraph(
            "It uses the newest run of each scenario that can be trusted: complete, in its full form, \
             from this machine, and without doubts about the machine. Runs with other settings are \
             listed separately. Peers are compared within a run, repeat by repeat; figures of \
             different runs are never divided or subtracted. loadgen decide makes the page again.",
        );
        html.paragraph(&format!(
            "There is a verdict only where the {LEVEL_TEXT} confidence interval (in brackets) \
             supports it. Two figures are alike if the whole interval is within {} of equality.",
            format::share(decision.alike_within)
        ));
        table(html, "Runs used", |html| {
            head_row(html, |html| {
                for name in ["Scenario", "Started (UTC)", "Load", "Doubts about the run"] {
                    column(html, name, "", "");
                }
            });
            html.tag("tbody", &[], |html| {
                decision.folders().into_iter().for_each(|run| run_used(html, run));
            });
        });
        let older: Vec<_> = decision.left_out.iter().filter(|left| left.superseded).collect();
        if !older.is_empty() {
            html.tag("details", &[], |html| {
                let summary = format!("{} other runs of the same scenarios", older.len());
                html.leaf("summary", &[], &summary);
                html.tag("ul", &[], |html| {
                    for left in older {
                        html.leaf("li", &[], &format!("{}: {}.", left.folder, left.reason));
                    }
                });
            });
        }
    });
}

fn run_used(html: &mut Html, run: &RunUsed) {
    html.tag("tr", &[], |html| {
        html.tag("th", &[("scope", "row")], |html| {
            let whole = Evidence { point: None, ..run.evidence.clone() };
            cite(html, &whole, &whole.name());
            html.leaf("small", &[("class", "question")], &run.evidence.folder);
        });
        html.leaf("td", &[], &run.started_utc.replace('T', " ").replace('Z', ""));
        html.leaf("td", &[("class", "wrap")], &run.load);
        let doubts = run.doubts.join("; ");
        html.leaf("td", &[("class", "wrap")], if doubts.is_empty() { "none" } else { &doubts });
    });
}

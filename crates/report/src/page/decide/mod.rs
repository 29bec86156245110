//! The decision page, in the look of a report.
//!
//! In the order in which somebody who has to choose reads: the answer, the pictures,
//! when each choice is right, what it costs, what it saves, what happens under change,
//! where both are even, every scenario, and how all this was made.

mod calculator;
mod tables;

use analysis::{
    decide::{Choice, Decision, Evidence, Finding, Situation, Status},
    model::LEVEL_TEXT,
};
use measure::format;

use super::{column, document, section, table};
use crate::{charts::Frame, decide::pictures, html::Html, render::svg};

pub(crate) fn render(decision: &Decision) -> String {
    document("L4, L7 or client-side · layerlab", |html| {
        header(html, decision);
        answer(html, decision);
        charts(html, decision);
        choices(html, decision);
        calculator::write(html, decision);
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
            let runs = decision.folders().len();
            let word = if runs == 1 { "run" } else { "runs" };
            html.text(&format!(" · a decision from {runs} {word} on {}", decision.machine));
        });
        html.leaf("h1", &[], "L4, L7 or client-side: which one, and what does it cost?");
    });
}

fn answer(html: &mut Html, decision: &Decision) {
    html.tag("section", &[("id", "answer")], |html| {
        html.tag("h2", &[("class", "visually-hidden")], |html| html.text("The answer"));
        if decision.answer.is_empty() {
            html.leaf("p", &[], "No run compares L4 and L7 yet; the commands below do.");
        }
        html.tag("ul", &[("class", "peers")], |html| {
            for finding in &decision.answer {
                html.tag("li", &[("id", &format!("says-{}", finding.id))], |html| {
                    says(html, finding);
                });
            }
        });
        caveats(html, decision);
        html.leaf(
            "p",
            &[("class", "fine")],
            &format!(
                "Every sentence is made from the runs linked behind it, at their {LEVEL_TEXT} \
                 intervals (in brackets): it names a choice only where the interval leaves no \
                 doubt. Alike is what lies within {} of each other with the whole interval.",
                format::share(decision.alike_within)
            ),
        );
    });
}

/// What puts runs in doubt, and what was not used.
fn caveats(html: &mut Html, decision: &Decision) {
    let all = decision.caveats();
    if all.is_empty() {
        return;
    }
    html.tag("ul", &[("class", "caveats")], |html| {
        for caveat in &all {
            html.leaf("li", &[], caveat);
        }
    });
}

/// A situation's finding with all there is to say of it.
fn told(html: &mut Html, situation: &Situation) {
    super::answer::sentence(html, &situation.finding.says);
    html.text(" ");
    super::answer::sentence(html, &situation.details);
    cites(html, &situation.finding.evidence);
}

/// A finding with the links to what shows it.
fn says(html: &mut Html, finding: &Finding) {
    super::answer::sentence(html, &finding.says);
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
    section(html, "charts", "Two pictures", |html| {
        for (wide, narrow) in wide.iter().zip(&narrow) {
            html.tag("figure", &[("id", wide.name)], |html| {
                html.tag("figcaption", &[], |html| {
                    html.leaf("h3", &[], &wide.chart.title);
                    html.leaf("p", &[], &wide.chart.note);
                });
                html.svg(&svg(&wide.chart.drawing, &wide.chart.alternative, "wide"));
                html.svg(&svg(&narrow.chart.drawing, &narrow.chart.alternative, "narrow"));
            });
        }
    });
}

fn choices(html: &mut Html, decision: &Decision) {
    section(html, "choices", "When each is the right choice", |html| {
        for (choice, heading) in [
            (Choice::L4, "L4: balance connections"),
            (Choice::L7, "L7: balance calls in a proxy"),
            (Choice::ClientSide, "Client-side: balance calls in the client"),
        ] {
            let right: Vec<&Situation> =
                decision.situations.iter().filter(|one| one.choices.contains(&choice)).collect();
            html.leaf("h3", &[], heading);
            if right.is_empty() {
                html.leaf("p", &[("class", "fine")], "In no situation that was measured.");
                continue;
            }
            html.tag("ul", &[("class", "peers")], |html| {
                for situation in right {
                    html.tag("li", &[], |html| right_choice(html, situation, choice));
                }
            });
        }
        turns(html, decision);
        open(html, decision, Status::CannotTell, "What the data can't tell");
        open(html, decision, Status::NotMeasured, "What was not measured");
    });
}

/// Situations that ask for no choice, but for a policy, or from where on it turns.
fn turns(html: &mut Html, decision: &Decision) {
    let told = |one: &&Situation| one.finding.status == Status::Tells && one.choices.is_empty();
    let own: Vec<&Situation> = decision.situations.iter().filter(told).collect();
    if own.is_empty() {
        return;
    }
    html.leaf("h3", &[], "Where it turns, and which policy");
    html.tag("ul", &[("class", "peers")], |html| {
        for situation in own {
            html.tag("li", &[], |html| {
                html.leaf("b", &[], &situation.opening("."));
                self::told(html, situation);
            });
        }
    });
}

/// A situation under one of its choices: told whole where the choice comes first.
fn right_choice(html: &mut Html, situation: &Situation, choice: Choice) {
    html.leaf("b", &[], &situation.opening("."));
    if situation.choices.first() == Some(&choice) {
        told(html, situation);
        let others: Vec<&str> = situation.choices[1..].iter().map(|one| one.words()).collect();
        if !others.is_empty() {
            let text = format!(" Right as well: {}.", others.join(", "));
            html.leaf("span", &[("class", "fine")], &text);
        }
    } else {
        let first = situation.choices.first().map_or("", |first| first.words());
        html.text(&format!("As well as {first}, see there."));
        cites(html, &situation.finding.evidence);
    }
}

fn open(html: &mut Html, decision: &Decision, status: Status, heading: &str) {
    let own: Vec<&Situation> =
        decision.situations.iter().filter(|one| one.finding.status == status).collect();
    if own.is_empty() {
        return;
    }
    html.leaf("h3", &[], heading);
    html.tag("ul", &[("class", "peers")], |html| {
        for situation in own {
            html.tag("li", &[], |html| {
                html.leaf("b", &[], &situation.opening("."));
                told(html, situation);
                if let Some(command) = &situation.command {
                    html.text(" ");
                    html.leaf("code", &[], command);
                }
            });
        }
    });
}

/// How the page was made, and of which runs.
fn made(html: &mut Html, decision: &Decision) {
    section(html, "method", "How this page was made", |html| {
        html.leaf(
            "p",
            &[],
            "Of each scenario the newest run that can be trusted: complete, in its full form, on \
             this machine, and without a doubt about it. Runs with settings of their own stand \
             apart. Peers are compared within a run, repeat by repeat; figures of different runs \
             are never divided or subtracted. loadgen decide makes the page again.",
        );
        table(html, "Runs used", |html| {
            html.tag("thead", &[], |html| {
                html.tag("tr", &[], |html| {
                    for name in ["Scenario", "Started (UTC)", "Load", "Doubts about the run"] {
                        column(html, name, "", "");
                    }
                });
            });
            html.tag("tbody", &[], |html| {
                for run in decision.folders() {
                    html.tag("tr", &[], |html| {
                        html.tag("th", &[("scope", "row")], |html| {
                            let whole = Evidence { point: None, ..run.evidence.clone() };
                            cite(html, &whole, &whole.name());
                            html.leaf("small", &[("class", "question")], &run.evidence.folder);
                        });
                        html.leaf("td", &[], &run.started_utc.replace('T', " ").replace('Z', ""));
                        html.leaf("td", &[("class", "wrap")], &run.load);
                        let doubts = if run.doubts.is_empty() {
                            "none".to_owned()
                        } else {
                            run.doubts.join("; ")
                        };
                        html.leaf("td", &[("class", "wrap")], &doubts);
                    });
                }
            });
        });
        let older: Vec<_> = decision.left_out.iter().filter(|left| left.superseded).collect();
        if !older.is_empty() {
            html.tag("details", &[], |html| {
                html.leaf(
                    "summary",
                    &[],
                    &format!("{} other runs of the same scenarios", older.len()),
                );
                html.tag("ul", &[], |html| {
                    for left in older {
                        html.leaf("li", &[], &format!("{}: {}.", left.folder, left.reason));
                    }
                });
            });
        }
    });
}

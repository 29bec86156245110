//! The page that lists all runs.

use analysis::index::Entry;
use measure::{
    format,
    record::{RunOutcome, RunRecord, Verdict},
};

use super::{column, document, head_row, number_cell, table_of_cards, to_decision};
use crate::html::Html;

/// Writes the page, with a link to the decision where there is one.
pub(crate) fn render(entries: &[Entry], decision: Option<&str>) -> String {
    document("Runs · layerlab", |html| {
        html.tag("header", &[], |html| {
            html.tag("p", &[("class", "kicker")], |html| {
                html.leaf("b", &[], "layerlab");
                to_decision(html, decision);
            });
            html.leaf("h1", &[], "All runs");
        });
        if entries.is_empty() {
            return html.paragraph("No run was found. Make one with `cargo run -p loadgen`.");
        }
        table_of_cards(html, "All runs", |html| {
            head(html);
            html.tag("tbody", &[], |html| entries.iter().for_each(|entry| row(html, entry)));
        });
        html.fine_print(&format!("{}, latest first.", format::counted(entries.len(), "run")));
    })
}

fn head(html: &mut Html) {
    head_row(html, |html| {
        column(html, "Scenario", "With the question it asks", "");
        column(html, "Started", "UTC", "");
        column(html, "Peers", "In the order compared", "");
        column(html, "Ended", "", "");
        column(html, "Doubts", "What puts figures in doubt that the answer rests on", "");
        column(html, "Expectations", "How many of the scenario's claims held", "");
        column(html, "Took", "Wall time of the whole run", "num");
        column(html, "Size", "All files of the run; loadgen prune deletes old runs", "num");
    });
}

fn row(html: &mut Html, entry: &Entry) {
    html.tag("tr", &[], |html| match &entry.record {
        Ok(run) => {
            let simulated = if run.simulation.is_some() { " (simulated)" } else { "" };
            name(html, entry, &format!("{}{simulated}", run.scenario), &run.question);
            html.tag("td", &[("data-value", &*run.started_utc)], |html| {
                html.text(&run.started_utc.replace('T', " ").replace('Z', ""));
                let own = entry.folder.rsplit('/').next().unwrap_or(&entry.folder);
                html.leaf("small", &[], own);
            });
            let peers: Vec<&str> = run.peers.iter().map(|peer| peer.name.as_str()).collect();
            html.leaf("td", &[("class", "wrap")], &peers.join(", "));
            outcome(html, run);
            doubts(html, run);
            expectations(html, run);
            let seconds = run.elapsed_s.map(|elapsed| elapsed.to_string()).unwrap_or_default();
            let took = run.elapsed_s.map_or_else(|| format::UNKNOWN.to_owned(), format::seconds);
            html.leaf("td", &[("class", "num"), ("data-value", &*seconds)], &took);
            number_cell(html, Some(entry.bytes), format::bytes);
        }
        Err(reason) => {
            name(html, entry, &entry.folder, "");
            let text = format!("can't be read: {reason}");
            html.leaf("td", &[("colspan", "7"), ("class", "missing")], &text);
        }
    });
}

fn name(html: &mut Html, entry: &Entry, name: &str, question: &str) {
    html.tag("th", &[("scope", "row"), ("data-value", name)], |html| {
        match entry.link() {
            Some(link) => html.leaf("a", &[("href", &*link)], name),
            None => html.leaf("b", &[], name),
        }
        html.leaf("small", &[("class", "question")], question);
        if let Some(answer) = entry.record.as_ref().ok().and_then(|run| run.answered.as_ref()) {
            html.leaf("p", &[("class", "answered")], answer);
        }
        if !entry.has_report {
            let advice = format!("no report; create it with loadgen report {}", entry.folder);
            html.leaf("small", &[("class", "question")], &advice);
        }
    });
}

fn outcome(html: &mut Html, run: &RunRecord) {
    let (class, word) = match run.outcome {
        RunOutcome::Complete => ("", "complete"),
        RunOutcome::Interrupted => ("c-bad", "stopped"),
        RunOutcome::Running => ("c-bad", "running or killed"),
    };
    html.leaf("td", &[("class", class)], word);
}

fn doubts(html: &mut Html, run: &RunRecord) {
    let count = run.doubts.len();
    html.tag("td", &[("class", "wrap"), ("data-value", &*count.to_string())], |html| {
        match (&run.answered, count) {
            (None, 0) => html.text(format::UNKNOWN),
            (Some(_), 0) => html.text("no doubts"),
            _ => html.tag("details", &[], |html| {
                let words = format::counted(count, "doubt");
                html.leaf("summary", &[("class", "c-bad")], &words);
                run.doubts.iter().for_each(|doubt| html.paragraph(doubt));
            }),
        }
    });
}

fn expectations(html: &mut Html, run: &RunRecord) {
    let claims = &run.expectations;
    let held = claims.iter().filter(|claim| claim.verdict == Verdict::Held).count();
    let failed = claims.iter().filter(|claim| claim.verdict == Verdict::Failed).count();
    if claims.is_empty() {
        return html.leaf("td", &[("data-value", "")], format::UNKNOWN);
    }
    let (class, text) = if held == claims.len() {
        ("", format!("all {held} held"))
    } else {
        let open = claims.len() - held - failed;
        let open = if open > 0 { format!(", {open} not judged") } else { String::new() };
        ("c-bad", format!("{failed} of {} failed{open}", claims.len()))
    };
    let class = format!("wrap {class}");
    html.leaf("td", &[("class", &*class), ("data-value", &*failed.to_string())], &text);
}

//! The choices: what each costs, what it does to the tail, and where it is the right one.

use analysis::decide::{Choice, Decision, TailRow};
use measure::{format, record::Layer};

use super::{
    head_row, plain_column, section, table_of_words, tables::signed_duration, write_finding,
};
use crate::html::Html;

pub(super) fn write(html: &mut Html, decision: &Decision) {
    section(html, "choices", "The choices", |html| {
        table_of_words(html, "The choices", |html| {
            head_row(html, |html| {
                for name in ["Choice", "CPU per call", "Tail latency", "The right choice for"] {
                    plain_column(html, name);
                }
            });
            html.tag("tbody", &[], |html| {
                for (choice, what) in [
                    (Choice::L4, "balances connections"),
                    (Choice::L7, "balances calls in a proxy"),
                    (
                        Choice::ClientDns,
                        "balances calls in the client, over the backends of a name",
                    ),
                    (Choice::ClientLookaside, "the same, over backends from a control plane"),
                ] {
                    row(html, decision, choice, what);
                }
            });
        });
        html.tag("ul", &[("class", "peers")], |html| {
            for finding in decision.cost_findings() {
                html.tag("li", &[], |html| write_finding(html, finding));
            }
        });
    });
}

fn row(html: &mut Html, decision: &Decision, choice: Choice, what: &str) {
    let layer = match choice {
        Choice::L4 => Layer::L4,
        Choice::L7 => Layer::L7,
        Choice::ClientDns | Choice::ClientLookaside => Layer::Client,
    };
    html.tag("tr", &[], |html| {
        html.tag("th", &[("scope", "row"), ("class", "wrap")], |html| {
            html.leaf("b", &[], choice.words());
            html.leaf("small", &[], what);
        });
        // The rows are sorted: the first of a layer is the cheapest.
        let rows = decision.costs.iter().flat_map(|costs| &costs.rows);
        let own = own(choice);
        let row = rows.clone().find(|row| row.peer == own);
        match row.or_else(|| rows.clone().find(|row| row.layer == Some(layer))) {
            Some(row) => {
                let cost = row
                    .cpu_per_call_ns
                    .map_or(format::UNKNOWN.to_owned(), |cost| signed_duration(cost.value));
                html.tag("td", &[("class", "wrap")], |html| {
                    html.leaf("b", &[], &cost);
                    let carries = row.calls_per_core.map(|calls| format::rate(calls.value));
                    let whose = match carries {
                        _ if row.is_clients => "more, in the client".to_owned(),
                        Some(calls) => format!("in the proxy, where one core handles {calls}"),
                        None => "in the proxy".to_owned(),
                    };
                    html.leaf("small", &[], &whose);
                });
            }
            None => html.leaf("td", &[], "not measured"),
        }
        html.leaf("td", &[("class", "because")], &tail_of(decision, choice));
        let right = decision.situations.iter().filter(|one| one.choices.contains(&choice));
        let right = right.map(|one| uncapitalised(&one.when)).collect::<Vec<_>>().join("; ");
        let right = if right.is_empty() { "no situation that was measured" } else { &right };
        html.leaf("td", &[("class", "because")], right);
    });
}

/// The lab's own peer of a choice.
fn own(choice: Choice) -> String {
    choice.words().to_lowercase()
}

/// In how many scenarios the p99 of a choice was lower than that of L4, or higher.
fn tail_of(decision: &Decision, choice: Choice) -> String {
    if choice == Choice::L4 {
        return "the others are compared with this".to_owned();
    }
    let own = own(choice);
    let rows: Vec<&TailRow> = decision.tails.iter().filter(|row| row.calls == own).collect();
    let count = |verdict: &str| rows.iter().filter(|row| row.verdict == verdict).count();
    match rows.len() {
        0 => "not compared with L4 under a load that both can handle".to_owned(),
        all => format!(
            "p99 lower than L4's in {}, higher in {} and alike in {} of {all} loads that both can \
             handle",
            count("lower"),
            count("higher"),
            count("alike")
        ),
    }
}

/// A phrase in the middle of a sentence.
fn uncapitalised(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) if !text.starts_with("TLS") => first.to_lowercase().chain(letters).collect(),
        _ => text.to_owned(),
    }
}

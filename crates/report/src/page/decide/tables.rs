//! The tables of evidence on the decision page.

use analysis::decide::{
    BreakEven, Change, CostRow, Decision, PeerRow, RunUsed, Status, TailRow, Value, until,
};
use measure::{format, record::Layer};

use super::{cite, column, evidence, head_row, table, write_finding};
use crate::{
    html::Html,
    page::{compact_table, comparison, peer_name},
    palette::Paint,
};

pub(super) fn costs(html: &mut Html, decision: &Decision) {
    let Some(costs) = &decision.costs else { return };
    evidence(html, "costs", "What each choice costs", |html| {
        html.paragraph(&format!(
            "The CPU that balancing costs, at {}: that of the proxy, or what a client that balances \
             by itself uses more than one that doesn't. It depends on the load: calls are cheaper \
             at a high rate, since they share system calls.",
            costs.load
        ));
        table(html, "What each choice costs", |html| {
            let carried = costs.rows.iter().any(|row| row.calls_per_core.is_some());
            let carried_head = carried.then_some(("Calls/s per core", "num"));
            let head = [("Peer", ""), ("Layer", ""), ("CPU per call", "num")];
            let beside = ("Compared with the cheapest of its layer", "num");
            let head: Vec<_> = head.into_iter().chain(carried_head).chain([beside]).collect();
            heads(html, &head);
            html.tag("tbody", &[], |html| {
                costs.rows.iter().for_each(|row| cost_row(html, row, carried));
            });
        });
    });
}

fn cost_row(html: &mut Html, row: &CostRow, carried: bool) {
    html.tag("tr", &[], |html| {
        html.tag("th", &[("scope", "row"), ("data-value", &row.peer)], |html| {
            peer_name(html, &row.peer, Paint::of(row.mark));
        });
        html.leaf("td", &[], layer(row.layer));
        let whose = match (row.is_clients, row.is_significant) {
            (true, true) => Some("the client's"),
            (true, false) => Some("the client's; not significant"),
            _ => None,
        };
        if row.in_kernel && row.cpu_per_call_ns.is_none() {
            let text = "in the kernel, not billed to any process";
            html.leaf("td", &[("class", "missing"), ("data-value", "")], text);
        } else {
            cell(html, row.cpu_per_call_ns, signed_duration, whose);
        }
        if carried {
            cell(html, row.calls_per_core, format::rate, None);
        }
        let note = (!row.is_significant && row.beside_cheapest.is_some())
            .then_some("no significant difference");
        cell(html, row.beside_cheapest, factor, note);
    });
}

pub(super) fn tails(html: &mut Html, decision: &Decision) {
    if decision.tails.is_empty() {
        return;
    }
    evidence(html, "tails", "What it saves in tail latency", |html| {
        html.paragraph(
            "The p99 of balancing calls compared with balancing connections, repeat by repeat. \
             Latency counts from the time a call was due, unless the loop is closed.",
        );
        compact_table(html, "What balancing calls saves in tail latency", |html| {
            heads(
                html,
                &[
                    ("Scenario", ""),
                    ("Balances calls", ""),
                    ("Balances connections", ""),
                    ("p99, connections", "num"),
                    ("p99, calls", "num"),
                    ("Saved", "num"),
                    ("Ratio", "num"),
                    ("Verdict", ""),
                ],
            );
            html.tag("tbody", &[], |html| decision.tails.iter().for_each(|row| tail(html, row)));
        });
    });
}

fn tail(html: &mut Html, row: &TailRow) {
    html.tag("tr", &[], |html| {
        scenario(html, &row.evidence, row.closed_loop.then_some("closed loop"));
        html.tag("td", &[], |html| peer_name(html, &row.calls, Paint::of(row.calls_mark)));
        html.tag("td", &[], |html| {
            peer_name(html, &row.connections, Paint::of(row.connections_mark))
        });
        cell(html, row.connections_p99_ns, format::duration, None);
        cell(html, row.calls_p99_ns, format::duration, None);
        cell(html, row.saved_ns, signed_duration, None);
        cell(html, row.ratio, factor, None);
        let verdict = match row.verdict {
            "lower" => "lower",
            "higher" => "higher",
            "alike" => "alike",
            "too_few_repeats" => "too few repeats",
            _ => "open",
        };
        html.leaf("td", &[], verdict);
    });
}

pub(super) fn changes(html: &mut Html, decision: &Decision) {
    if decision.changes.is_empty() {
        return;
    }
    evidence(html, "changes", "When backends come and go", |html| {
        html.paragraph(
            "Calls lost, and the time until every backend got the share it was due (none for those \
             that were taken away): medians over the repeats.",
        );
        table(html, "What happens when backends come and go", |html| {
            heads(
                html,
                &[
                    ("Scenario", ""),
                    ("Peer", ""),
                    ("Layer", ""),
                    ("Calls lost", "num"),
                    ("Time until balanced", ""),
                ],
            );
            html.tag("tbody", &[], |html| {
                decision.changes.iter().for_each(|row| change_row(html, row));
            });
        });
    });
}

fn change_row(html: &mut Html, row: &Change) {
    html.tag("tr", &[], |html| {
        scenario(html, &row.evidence, None);
        html.tag("td", &[], |html| peer_name(html, &row.peer, Paint::of(row.mark)));
        html.leaf("td", &[], layer(row.layer));
        let calls = format!("{} calls", format::count(row.lost_calls));
        cell(html, row.lost_rate, format::share, Some(&calls));
        html.tag("td", &[("class", "wrap")], |html| {
            for fault in &row.faults {
                let done = format!("{} {} at {:.1} s", fault.action, fault.backend, fault.at_s);
                html.leaf("small", &[], &format!("{done}: {}", until(fault)));
            }
        });
    });
}

pub(super) fn even(html: &mut Html, decision: &Decision) {
    if decision.break_even.is_empty() {
        return;
    }
    evidence(html, "break-even", "Where L4 and L7 break even", |html| {
        html.paragraph(
            "Behind L4, each backend needs the capacity of the busiest one. With B equal backends, of \
             which the busiest gets a share m of the calls, that is B·m times what the calls use. \
             Balancing calls saves B·(m₄ − m₇) times the service time S per call, and costs c₇ − c₄ \
             more CPU in the proxy. So the two break even at",
        );
        html.leaf("pre", &[], "S* = (c₇ − c₄) / (B · (m₄ − m₇))");
        html.paragraph(
            "at any rate: calls that cost a backend more CPU than S* are cheaper behind L7. It is \
             computed repeat by repeat, from one run, and assumes that backends and proxies run at \
             the same utilisation and that backends are limited by their CPU.",
        );
        compact_table(html, "Break-even service times", |html| {
            heads(
                html,
                &[
                    ("Load", ""),
                    ("Peers", ""),
                    ("B·m₄", "num"),
                    ("B·(m₄ − m₇)", "num"),
                    ("c₇ − c₄", "num"),
                    ("Break-even S*", "num"),
                ],
            );
            html.tag("tbody", &[], |html| {
                decision.break_even.iter().for_each(|row| even_row(html, row));
            });
        });
        html.tag("ul", &[("class", "peers")], |html| {
            let mut known: Vec<&str> = Vec::new();
            for row in &decision.break_even {
                if !known.contains(&row.finding.id.as_str()) {
                    known.push(&row.finding.id);
                    html.tag("li", &[], |html| write_finding(html, &row.finding));
                }
            }
        });
    });
}

fn even_row(html: &mut Html, row: &BreakEven) {
    html.tag("tr", &[], |html| {
        scenario(html, &row.evidence, Some(&row.connections_text));
        html.tag("td", &[], |html| {
            peer_name(html, &row.calls, Paint::of(row.calls_mark));
            html.tag("small", &[], |html| {
                html.text("vs. ");
                peer_name(html, &row.connections, Paint::of(row.connections_mark));
            });
        });
        cell(html, row.provisioned, format::factor, None);
        cell(html, row.wasted, format::factor, None);
        cell(html, row.extra_cpu_ns, signed_duration, None);
        match row.service_time_ns {
            Some(_) => cell(html, row.service_time_ns, format::duration, None),
            None => {
                let text = match row.finding.status {
                    Status::Conclusive => "none",
                    _ => "open",
                };
                html.leaf("td", &[("class", "num"), ("data-value", "")], text);
            }
        }
    });
}

pub(super) fn scenarios(html: &mut Html, decision: &Decision) {
    evidence(html, "scenarios", "Every scenario, every peer", |html| {
        compact_table(html, "Every scenario and every peer", |html| {
            heads(
                html,
                &[
                    ("Scenario", ""),
                    ("Peer", ""),
                    ("Layer", ""),
                    ("Busiest backend", "num"),
                    ("p50", "num"),
                    ("p99", "num"),
                    ("Lost calls", "num"),
                    ("Proxy CPU per call", "num"),
                    ("Expected", ""),
                    ("Doubts", "num"),
                ],
            );
            html.tag("tbody", &[], |html| {
                for run in &decision.runs {
                    run.peers.iter().for_each(|peer| scenario_row(html, run, peer));
                }
            });
        });
    });
}

fn scenario_row(html: &mut Html, run: &RunUsed, one: &PeerRow) {
    html.tag("tr", &[], |html| {
        scenario(html, &run.evidence, (!run.open_loop).then_some("closed loop"));
        html.tag("td", &[], |html| peer_name(html, &one.peer, Paint::of(one.mark)));
        html.leaf("td", &[], layer(one.layer));
        if let Some(reason) = &one.missing {
            return html.leaf("td", &[("colspan", "7"), ("class", "missing")], reason);
        }
        cell(html, one.max_share, format::share, None);
        cell(html, one.latency_p50_ns, format::duration, None);
        cell(html, one.latency_p99_ns, format::duration, None);
        let calls = format!("{} calls", format::count(one.lost_calls));
        let calls = (one.lost_calls > 0).then_some(calls.as_str());
        cell(html, one.lost_rate, format::share, calls);
        cell(html, one.proxy_cpu_ns, format::duration, None);
        let claims = run.expectations;
        let (class, text) = match (claims.held, claims.failed, claims.not_judged) {
            (0, 0, 0) => ("", format::UNKNOWN.to_owned()),
            (held, 0, 0) => ("", format!("all {held} held")),
            (held, 0, open) => ("", format!("{held} held, {open} not judged")),
            (held, failed, open) => {
                ("c-bad", format!("{failed} of {} failed", held + failed + open))
            }
        };
        html.leaf("td", &[("class", class), ("data-value", &claims.failed.to_string())], &text);
        let doubts = one.doubts.to_string();
        html.leaf("td", &[("class", "num"), ("data-value", &doubts)], &doubts);
    });
}

fn heads(html: &mut Html, names: &[(&str, &str)]) {
    head_row(html, |html| {
        for (name, class) in names {
            column(html, name, "", class);
        }
    });
}

fn scenario(html: &mut Html, evidence: &analysis::decide::Evidence, note: Option<&str>) {
    html.tag("th", &[("scope", "row"), ("data-value", &evidence.name())], |html| {
        cite(html, evidence, &evidence.scenario);
        if let Some(point) = &evidence.point {
            html.leaf("small", &[], point);
        }
        for setting in &evidence.settings {
            html.leaf("small", &[], setting);
        }
        if let Some(note) = note {
            html.leaf("small", &[], note);
        }
    });
}

fn layer(layer: Option<Layer>) -> &'static str {
    comparison::layer_name(layer.unwrap_or(Layer::External))
}

/// A figure with its interval, and a remark.
fn cell(html: &mut Html, value: Option<Value>, show: fn(f64) -> String, remark: Option<&str>) {
    let Some(value) = value else {
        return html.leaf("td", &[("class", "num"), ("data-value", "")], format::UNKNOWN);
    };
    let attributes = [("class", "num"), ("data-value", &*value.value.to_string())];
    html.tag("td", &attributes, |html| {
        let shown = show(value.value);
        html.text(&shown);
        if let Some((low, high)) = value.interval {
            let range = format::range(show(low), show(high));
            if range != shown {
                html.leaf("small", &[], &range);
            }
        }
        if let Some(remark) = remark {
            html.leaf("small", &[("class", "told")], remark);
        }
    });
}

fn factor(value: f64) -> String {
    format!("{} ×", format::factor(value))
}

pub(super) fn signed_duration(ns: f64) -> String {
    if ns < 0.0 { format!("−{}", format::duration(-ns)) } else { format::duration(ns) }
}

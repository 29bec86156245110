//! The lab's latency on the wire beside a packet capture of the same calls.

use std::{collections::BTreeMap, process::Command};

use measure::figure::{Figure, Figures};

use crate::{
    Failure, Plan,
    capture::{Call, Capture},
    lab::lab,
    table::{Row, Table},
};

/// What a quantile may be off by.
const BOUND_US: f64 = 10.0;
/// What the difference of two peers may be off by.
const DIFFERENCE_BOUND_US: f64 = 15.0;
const RATE: u32 = 4_000;
const QUANTILES: [(&str, f64, Figure); 3] = [
    ("p50", 0.50, Figure::LatencyWireP50),
    ("p90", 0.90, Figure::LatencyWireP90),
    ("p99", 0.99, Figure::LatencyWireP99),
];
const OWN_PEERS: [&str; 3] = ["direct", "l4", "l7"];
/// Of these the first that runs here.
const OTHER_PEERS: [&str; 3] = ["haproxy-l7", "haproxy-l4", "nginx-l7"];

/// Measures each peer once, with tcpdump beside it.
pub(crate) fn measure(plan: &Plan, table: &mut Table) -> Result<(), Failure> {
    if !Command::new("tcpdump").arg("--version").output().is_ok_and(|out| out.status.success()) {
        table.leave_out("wire: tcpdump is not installed".to_owned());
        return Ok(());
    }
    let mut medians = BTreeMap::new();
    for peer in OWN_PEERS {
        medians.insert(peer, of_peer(peer, plan, table)?);
    }
    let mut runs = |peer: &&&str| match of_peer(peer, plan, table) {
        Ok(_) => true,
        Err(error) => {
            let reason = error.to_string();
            table.leave_out(format!("wire, {peer}: {}", reason.lines().last().unwrap_or_default()));
            false
        }
    };
    OTHER_PEERS.iter().find(|peer| runs(peer));
    for peer in ["l4", "l7"] {
        let (Some(own), Some(direct)) = (medians.get(peer), medians.get("direct")) else {
            continue;
        };
        let [captured, measured] = [0, 1].map(|index| own[index] - direct[index]);
        let case = format!("wire, {peer} - direct");
        table.row(row(case, "p50", captured, measured, DIFFERENCE_BOUND_US));
    }
    Ok(())
}

/// The medians of capture and lab.
fn of_peer(peer: &str, plan: &Plan, table: &mut Table) -> Result<[f64; 2], Failure> {
    let scenario = format!(
        "question = \"wire\"\n[backends]\ncount = 4\nservice_time = \"none\"\n[load]\n\
         loop = \"open\"\nconnections = 8\nstreams = 500\nrate = {RATE}\n\
         duration = \"{}s\"\nwarm_up = \"1s\"\n[run]\npeers = [\"{peer}\"]\nrepeats = 1\n",
        plan.seconds
    );
    let capture = Capture::start()?;
    let run = lab(&scenario)?;
    let calls = capture.end()?;
    let trial = run.trials.first().ok_or("it is not installed")?;
    let counted = usize::try_from(trial.counts.scheduled)?;
    let captured = latencies_us(calls, counted).ok_or("the capture missed calls")?;
    let figures = Figures::of_trial(trial);
    let mut medians = [f64::NAN; 2];
    for (name, q, figure) in QUANTILES {
        let known = captured[((q * captured.len() as f64).ceil() as usize).saturating_sub(1)];
        let measured = figures.get(figure).ok_or("the lab knows no latency on the wire")? / 1e3;
        if name == "p50" {
            medians = [known, measured];
        }
        table.row(row(format!("wire, {peer}"), name, known, measured, BOUND_US));
    }
    let us = |figure| figures.get(figure).unwrap_or(f64::NAN) / 1e3;
    table.note(&format!(
        "from the due time {:.0} µs (p50); sent late by {:.0} µs, seen late by {:.0} µs",
        us(Figure::LatencyP50),
        us(Figure::GeneratorLatenessP50),
        us(Figure::GeneratorReceiptP50)
    ));
    Ok(medians)
}

/// The latencies of the last `counted` calls that the generator made, in order of size.
/// Behind a proxy every call is seen twice, and its one port carries as many as all
/// others together.
fn latencies_us(calls: Vec<Call>, counted: usize) -> Option<Vec<f64>> {
    let mut by_port: BTreeMap<u16, Vec<Call>> = BTreeMap::new();
    let all = calls.len();
    for call in calls {
        by_port.entry(call.port).or_default().push(call);
    }
    let is_proxy = |calls: &Vec<Call>| calls.len() * 20 > all * 9;
    let busiest = by_port.values().find(|calls| is_proxy(calls)).cloned();
    let mut own = busiest.unwrap_or_else(|| by_port.into_values().flatten().collect());
    own.sort_by_key(|call| call.request_ns);
    let window = own.get(own.len().checked_sub(counted)?..)?;
    let took = |call: &Call| call.response_ns.saturating_sub(call.request_ns) as f64 / 1e3;
    let mut latencies: Vec<f64> = window.iter().map(took).collect();
    latencies.sort_by(f64::total_cmp);
    Some(latencies)
}

fn row(case: String, figure: &str, known: f64, measured: f64, bound: f64) -> Row {
    Row {
        case,
        figure: figure.to_owned(),
        known: format!("{known:.1} µs"),
        measured: format!("{measured:.1} µs"),
        off: format!("{:+.1} µs", measured - known),
        bound: format!("{bound:.0} µs"),
        is_within: (measured - known).abs() <= bound,
    }
}

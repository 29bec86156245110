//! What each node of a run on several did, and how well their clocks agree.

use analysis::model::Model;
use measure::{
    format,
    nodes::{Cluster, NodeSetup, NodeTrial},
};

use super::{column, head_row, number_cell, section, table};
use crate::html::Html;

const COLUMNS: [(&str, &str, &str); 7] = [
    ("Node", "Its host, and its machine where nodes share one", ""),
    ("Did", "What ran there", ""),
    ("CPUs", "Logical CPUs that it had to itself", "num"),
    ("Calls", "Calls that it made, including warm-ups", "num"),
    ("CPU busy", "Mean over the trials, of its whole machine", "num"),
    ("Clock within", "Largest error of its measured clock offset", "num"),
    ("Drift", "Largest drift of its clock against the coordinator's", "num"),
];

pub(super) fn write(html: &mut Html, model: &Model<'_>) {
    let Some(cluster) = &model.run.cluster else { return };
    section(html, "nodes", "Nodes", |html| {
        html.fine_print(&story(cluster));
        table(html, "What each node did", |html| {
            head_row(html, |html| {
                COLUMNS.iter().for_each(|(head, hint, class)| column(html, head, hint, class));
            });
            html.tag("tbody", &[], |html| {
                for node in &cluster.nodes {
                    let trials = model.trials();
                    let of_node: Vec<&NodeTrial> = trials
                        .iter()
                        .flat_map(|(_, trial)| &trial.record.nodes)
                        .filter(|one| one.name == node.name)
                        .collect();
                    row(html, node, &of_node);
                }
            });
        });
    });
}

fn story(cluster: &Cluster) -> String {
    let (nodes, machines) = (cluster.nodes.len(), cluster.machines());
    let on = match machines {
        1 => "one machine".to_owned(),
        machines => format!("{machines} machines"),
    };
    format!(
        "{nodes} nodes on {on}, with agents started by {}. Each call was timed with a single clock. \
         Clocks were compared before and after each trial, to start the load on all nodes at the \
         same time.",
        cluster.engine
    )
}

fn row(html: &mut Html, node: &NodeSetup, trials: &[&NodeTrial]) {
    let roles: Vec<&str> = node.roles.iter().map(|role| role.name()).collect();
    let did = if roles.is_empty() { "nothing".to_owned() } else { roles.join(", ") };
    let calls: u64 = trials.iter().map(|trial| trial.calls).sum();
    let worst = trials.iter().map(|trial| trial.clock_uncertainty_ns).max();
    let drift = trials.iter().map(|trial| trial.clock_drift_ppm.abs()).reduce(f64::max);
    html.tag("tr", &[], |html| {
        html.tag("th", &[("scope", "row"), ("data-value", &node.name)], |html| {
            html.text(&node.name);
            html.leaf("small", &[], &format!("{}, machine {}", node.host, node.machine));
        });
        html.leaf("td", &[], &did);
        number_cell(html, Some(node.environment.cpus), |cpus| cpus.to_string());
        number_cell(html, Some(calls), format::count);
        number_cell(html, busy(trials), format::share);
        number_cell(html, worst, |ns| format::duration(ns as f64));
        number_cell(html, drift, |ppm| format!("{} ppm", format::number(ppm)));
    });
}

/// The part of a node's machine that was busy, over all of its trials.
fn busy(trials: &[&NodeTrial]) -> Option<f64> {
    let busy_ns: u64 = trials.iter().map(|one| one.machine.user_ns + one.machine.system_ns).sum();
    let other_ns: u64 = trials.iter().map(|one| one.machine.idle_ns + one.machine.steal_ns).sum();
    let all_ns = busy_ns + other_ns;
    (all_ns > 0).then(|| busy_ns as f64 / all_ns as f64)
}

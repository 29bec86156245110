//! What makes two runs hard to compare.

use measure::record::RunRecord;

use super::{LEAST_SEARCHES, LEAST_TRIALS, Row};
use crate::verdict::Verdict;

pub(super) fn warnings(a: &RunRecord, b: &RunRecord) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut differ = |what: &str, a: &str, b: &str, advice: &str| {
        if a != b {
            warnings.push(format!("{what} differs: `{a}` before, `{b}` after. {advice}"));
        }
    };
    let (machine_a, machine_b) = (&a.environment, &b.environment);
    let described =
        [machine_a, machine_b].map(|one| format!("{}, {} CPUs", one.cpu_model, one.cpus));
    let machine = "What differs may be the machine's doing; compare runs of one machine.";
    differ("The machine", &described[0], &described[1], machine);
    let made = |run: &RunRecord| if run.simulation.is_some() { "simulated" } else { "measured" };
    let simulated = "A simulation leaves much out; compare measured runs with measured ones.";
    differ("How figures were made", made(a), made(b), simulated);
    let network = "Every hop costs something else; compare runs on one kind of network.";
    differ("The network", a.network.name(), b.network.name(), network);
    let nodes = "What is on a machine of its own waits for nobody; compare runs on alike nodes.";
    differ("The layout of nodes", &nodes_of(a), &nodes_of(b), nodes);
    let tls = "Encryption costs CPU; compare runs that encrypt the same sides.";
    differ("The side that speaks TLS", a.load.tls.name(), b.load.tls.name(), tls);
    let kernel = "Costs in the kernel may differ by themselves.";
    differ("The kernel", &machine_a.kernel, &machine_b.kernel, kernel);
    let build = "Build both alike.";
    differ("The build profile", &machine_a.build_profile, &machine_b.build_profile, build);
    if a.resolved.get("load") != b.resolved.get("load")
        || a.resolved.get("backends") != b.resolved.get("backends")
    {
        warnings.push(
            "Load or backends differ between the runs. That may be what is tried; if not, run \
             the same scenario twice."
                .to_owned(),
        );
    }
    for peer in &a.peers {
        let other = b.peers.iter().find(|other| other.name == peer.name);
        if let Some(other) = other.filter(|other| other.version != peer.version) {
            let [before, after] =
                [peer, other].map(|peer| peer.version.as_deref().unwrap_or_default());
            let name = &peer.name;
            warnings.push(format!("{name} was `{before}` before and is `{after}` after."));
        }
    }
    warnings
}

fn nodes_of(run: &RunRecord) -> String {
    match &run.cluster {
        None => "no nodes".to_owned(),
        Some(cluster) => {
            format!("{} nodes, machines: {}", cluster.nodes.len(), cluster.machines())
        }
    }
}

/// What to do where a figure has no interval.
pub(super) fn too_few(run: &RunRecord, rows: &[Row]) -> Option<String> {
    let is_unknown = |row: &Row| row.interval.is_none() && row.verdict == Verdict::Inconclusive;
    rows.iter().any(is_unknown).then(|| {
        let (least, what) = match &run.search {
            Some(_) => (LEAST_SEARCHES, "searches"),
            None => (LEAST_TRIALS, "trials"),
        };
        format!("Under {least} {what} of a peer nothing can be told; repeat with --repeats 5.")
    })
}

//! The balancers of a peer that has several: what each one had of the calls, and of the
//! cost.

use measure::{
    histogram::quantile_of_all,
    record::{Layer, ProcessRole, TrialRecord},
};
use queueing::bins::RandomSubsets;

use crate::model::{Model, PeerView};

/// One balancer, over all trials of its peer.
#[derive(Clone, Debug, PartialEq)]
pub struct BalancerView<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its part of the fleet's successful calls.
    pub share: f64,
    /// The p99 of its calls in nanoseconds; `None` where it had none.
    pub p99_ns: Option<f64>,
    /// The part of its calls that one backend served, that which served the most.
    pub busiest: Option<f64>,
    /// Its part of the fleet's CPU time; `None` where that is not known.
    pub cpu_share: Option<f64>,
}

/// The balancers of a peer; none where it has one, or where no trial gave figures.
pub fn of<'a>(peer: &PeerView<'a>) -> Vec<BalancerView<'a>> {
    let trials: Vec<&TrialRecord> = peer.measured().map(|(record, _)| record).collect();
    let Some(first) = trials.first() else { return Vec::new() };
    let calls = |trial: &TrialRecord, index: usize| {
        trial.balancers.get(index).map_or(0, |one| one.per_backend.iter().sum::<u64>())
    };
    let all: u64 = trials
        .iter()
        .map(|trial| (0..trial.balancers.len()).map(|index| calls(trial, index)).sum::<u64>())
        .sum();
    let all_cpu_ns: u64 = trials.iter().map(|trial| cpu_ns(trial, None)).sum();
    let view = |(index, one): (usize, &'a measure::record::BalancerRecord)| {
        let own: u64 = trials.iter().map(|trial| calls(trial, index)).sum();
        let latencies =
            trials.iter().filter_map(|trial| Some(&trial.balancers.get(index)?.latency));
        let own_cpu_ns: u64 = trials.iter().map(|trial| cpu_ns(trial, Some(&one.id))).sum();
        BalancerView {
            name: &one.id,
            share: own as f64 / all.max(1) as f64,
            p99_ns: quantile_of_all(latencies, 0.99).map(|ns| ns as f64),
            busiest: busiest(&trials, index).map(|most| most as f64 / own as f64),
            cpu_share: (all_cpu_ns > 0).then(|| own_cpu_ns as f64 / all_cpu_ns as f64),
        }
    };
    first.balancers.iter().enumerate().map(view).collect()
}

/// What a balancer spent in a trial, or all of them.
fn cpu_ns(trial: &TrialRecord, name: Option<&str>) -> u64 {
    let costs = trial.processes.iter().filter(|cost| cost.role == ProcessRole::Proxy);
    let own = costs.filter(|cost| name.is_none_or(|name| cost.name == name));
    own.map(|cost| cost.user_ns + cost.system_ns).sum()
}

/// Calls of the backend that served the most of a balancer's.
fn busiest(trials: &[&TrialRecord], index: usize) -> Option<u64> {
    let mut per_backend: Vec<u64> = Vec::new();
    for one in trials.iter().filter_map(|trial| trial.balancers.get(index)) {
        per_backend.resize(one.per_backend.len().max(per_backend.len()), 0);
        for (sum, calls) in per_backend.iter_mut().zip(&one.per_backend) {
            *sum += calls;
        }
    }
    per_backend.into_iter().max().filter(|most| *most > 0)
}

/// What theory says of a peer whose balancers, or clients, each know a random subset of the
/// backends, and deal their calls evenly among these. `None` for others.
pub fn random_subsets(model: &Model<'_>, peer: &PeerView<'_>) -> Option<RandomSubsets> {
    let load = &model.run.load;
    let subset = load.fleet.subset.as_ref().filter(|subset| subset.subsetting == "random")?;
    let balancers = match peer.setup?.layer {
        Layer::L7 => load.fleet.balancers,
        Layer::Client => load.connections,
        Layer::None | Layer::L4 | Layer::External => return None,
    };
    let backends = u32::try_from(model.backends.len()).ok()?;
    RandomSubsets::new(balancers, backends, subset.size.min(backends)).ok()
}

//! The grid of simulations that the decision page's calculator answers from.
//!
//! Every way to balance of a measured run is simulated over loads, numbers of backends and
//! numbers of connections, with its service times and without the way: times are in mean
//! service times, and what calls spent on the way stands beside them as it was measured.

use measure::{
    calculator::{Calculator, Cell, Choice, Cost, Ranged, Setting, Way},
    calllog::{Entry, Outcome},
    figure::{Figure, Figures},
    folder::Run,
    histogram::{new_histogram, quantile, record},
    record::{Layer, PeerSetup},
    statistics::{interval::over_trials, prediction::of_one_more},
    summary::is_measured,
};
use simulate::{Backend, Distribution, Fleet, Load, Pace, Path, Poisson, Setup, SetupError};

use super::{
    super::Observer,
    calibrate::{Calibrated, offered, utilisation},
};
use crate::peers::tuning;

const LEVEL: f64 = 0.95;
/// Mean service time of the grid.
const SERVICE_NS: f64 = 1e6;
const SEEDS: u64 = 6;
const LOADS: [f64; 5] = [0.3, 0.5, 0.7, 0.8, 0.9];
const BACKENDS: [u32; 4] = [4, 16, 64, 256];
/// For each backend.
const CONNECTIONS: [f64; 5] = [0.25, 1.0, 4.0, 16.0, 64.0];
/// Calls of a simulation: at least so many, and so many for each server.
const CALLS: u64 = 20_000;
const CALLS_A_SERVER: u64 = 30;
/// The part of them that is left out, since it begins with nothing in flight.
const SETTLING: f64 = 0.2;

/// Simulates the grid. `costs` is the run that tells what a call costs by its payload.
///
/// # Errors
/// In a sentence, what the run lacks.
pub(crate) fn calculator(
    run: &Run,
    name: &str,
    costs: Option<&Run>,
    observer: &mut dyn Observer,
) -> Result<Calculator, String> {
    let calibrated = Calibrated::of(run, name, |_| true)?;
    let setup = run.record.backends.first();
    let (Some(backend), Some(service)) = (setup, calibrated.any_service()) else {
        return Err(format!(
            "{name} has no service time that all its backends share; name a run whose backends \
             are alike and take time"
        ));
    };
    let service_ns = Distribution::Empirical(service.clone()).mean_ns();
    let service = Distribution::Empirical(service.scaled(SERVICE_NS / service_ns));
    let is_known = |peer: &&PeerSetup| peer.layer != Layer::External;
    let peers: Vec<&PeerSetup> = run.record.peers.iter().filter(is_known).collect();
    let policies = peers.iter().map(|peer| policy(run, peer)).collect::<Result<Vec<_>, _>>()?;
    let kinds: Vec<(Layer, balance::PolicyKind)> =
        peers.iter().map(|peer| peer.layer).zip(policies.iter().copied()).collect();
    let cells = cells(&kinds, &service, backend.concurrency, observer)
        .map_err(|error| format!("{name}: {error}"))?;
    let choices = peers.iter().zip(policies).zip(cells).map(|((peer, policy), cells)| Choice {
        peer: peer.name.clone(),
        layer: peer.layer,
        policy: policy.name().to_owned(),
        ways: calibrated.ways_of(&peer.name).map(way).collect(),
        costs: costs_of(&peer.name, costs.unwrap_or(run)),
        cells,
    });
    Ok(Calculator {
        run: name.to_owned(),
        service_ns,
        concurrency: backend.concurrency,
        seeds: SEEDS as u32,
        loads: LOADS.to_vec(),
        backends: BACKENDS.to_vec(),
        connections: CONNECTIONS.to_vec(),
        choices: choices.collect(),
        measured: offered(&run.record)
            .map(|(load, backends)| Setting {
                load: utilisation(load, backends),
                backends: u32::try_from(backends.len()).unwrap_or(u32::MAX),
                connections: load.connections,
            })
            .collect(),
    })
}

/// The policy of a peer: `l7:p2c` has its own, the others have the run's.
fn policy(run: &Run, peer: &PeerSetup) -> Result<balance::PolicyKind, String> {
    let own = peer.name.split_once(':').map_or(&*run.record.load.policy, |(_, policy)| policy);
    own.parse().map_err(|error: balance::UnknownPolicy| error.to_string())
}

fn way((rate, half): (Option<f64>, &simulate::Empirical)) -> Way {
    let both = half.scaled(2.0);
    Way {
        rate,
        p50_ns: both.at_ns(0.5),
        mean_ns: Distribution::Empirical(both.clone()).mean_ns(),
        p99_ns: both.at_ns(0.99),
    }
}

/// What balancing by a peer cost, by payload.
fn costs_of(peer: &str, run: &Run) -> Vec<Cost> {
    let mut by_bytes: std::collections::BTreeMap<u64, Vec<f64>> = Default::default();
    let own = run.trials.iter().filter(|trial| trial.peer == peer && is_measured(trial));
    for trial in own {
        if let Some(cost) = Figures::of_trial(trial).get(Figure::ProxyCpuPerCall) {
            by_bytes.entry(trial.payload_bytes).or_default().push(cost);
        }
    }
    let cost = |(bytes, values): (u64, Vec<f64>)| {
        let estimate = over_trials(&values, LEVEL)?;
        let (low, high) =
            estimate.interval.map_or((estimate.centre, estimate.centre), |own| (own.low, own.high));
        Some(Cost { bytes, cpu_ns: [low, estimate.centre, high] })
    };
    by_bytes.into_iter().filter_map(cost).collect()
}

/// A cell to simulate.
#[derive(Clone, Copy)]
struct Job {
    kind: (Layer, balance::PolicyKind),
    load: f64,
    backends: u32,
    connections: f64,
}

/// The cells of each kind, in the order of the axes.
fn cells(
    kinds: &[(Layer, balance::PolicyKind)],
    service: &Distribution,
    concurrency: u32,
    observer: &mut dyn Observer,
) -> Result<Vec<Vec<Cell>>, SetupError> {
    let each = LOADS.len() * BACKENDS.len() * CONNECTIONS.len();
    let jobs: Vec<Job> = kinds
        .iter()
        .flat_map(|&kind| {
            LOADS.into_iter().flat_map(move |load| {
                BACKENDS.into_iter().flat_map(move |backends| {
                    let asked = if kind.0 == Layer::L7 { &CONNECTIONS[..1] } else { &CONNECTIONS };
                    asked.iter().map(move |&connections| Job { kind, load, backends, connections })
                })
            })
        })
        .collect();
    let simulated = super::in_parallel(&jobs, observer, |job| cell(*job, service, concurrency));
    let simulated = simulated.into_iter().collect::<Result<Vec<Cell>, _>>()?;
    let mut all = jobs.iter().zip(simulated).flat_map(|(job, cell)| {
        // A balancer of calls does not care on which connections they come.
        let times = if job.kind.0 == Layer::L7 { CONNECTIONS.len() } else { 1 };
        std::iter::repeat_n(cell, times)
    });
    Ok(kinds.iter().map(|_| all.by_ref().take(each).collect()).collect())
}

fn cell(job: Job, service: &Distribution, concurrency: u32) -> Result<Cell, SetupError> {
    let setup = setup(job, service, concurrency);
    let values: Vec<[f64; 4]> =
        (1..=SEEDS).map(|seed| simulated(&setup, job.load, seed)).collect::<Result<_, _>>()?;
    let ranged = |figure: usize| -> Ranged {
        let values: Vec<f64> = values.iter().map(|one| one[figure]).collect();
        let estimate = of_one_more(&values, LEVEL);
        let range = estimate.and_then(|one| Some((one.centre, one.interval?)));
        let range = range.map(|(centre, own)| [own.low, centre, own.high]);
        range.unwrap_or([values[0]; 3]).map(rounded)
    };
    Ok(Cell { mean: ranged(0), p50: ranged(1), p99: ranged(2), busiest: ranged(3) })
}

/// Four digits: the page carries them all.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

fn setup(job: Job, service: &Distribution, concurrency: u32) -> Setup {
    let backend = Backend {
        servers: concurrency,
        service: service.clone(),
        speed: 1.0,
        weight: 1,
        is_member: true,
        zone: 0,
    };
    let connections = (job.connections * f64::from(job.backends)).max(1.0) as u32;
    Setup {
        backends: vec![backend; job.backends as usize],
        layer: match job.kind.0 {
            Layer::L4 => simulate::Layer::L4,
            Layer::L7 => simulate::Layer::L7,
            Layer::Client => simulate::Layer::Client,
            Layer::None | Layer::External => simulate::Layer::None,
        },
        policy: job.kind.1,
        tuning: tuning(),
        fleet: Fleet::ONE,
        zones: None,
        load: Load {
            pace: Pace::Open,
            connections,
            connections_per_client: 1,
            streams: u32::MAX,
            connection_calls: None,
            passes: 1,
            give_up_ns: u64::MAX,
        },
        connection_age_ns: None,
        path: Path::NONE,
        faults: Vec::new(),
    }
}

/// Mean, p50 and p99 in mean service times, and calls of the busiest over an even share.
fn simulated(setup: &Setup, load: f64, seed: u64) -> Result<[f64; 4], SetupError> {
    let count = setup.backends.len();
    let servers: u64 = setup.backends.iter().map(|one| u64::from(one.servers)).sum();
    let rate = load * servers as f64 / (SERVICE_NS / 1e9);
    let calls = CALLS.max(CALLS_A_SERVER * servers);
    let from_ns = (SETTLING * calls as f64 / rate * 1e9) as u64;
    let mut arrivals = Poisson::new(rate, setup.load.connections, calls, seed);
    let (mut times, mut sum_ns, mut by_backend) = (new_histogram(), 0.0, vec![0_u64; count]);
    let mut sink = |entry: &Entry, _| {
        if let (Outcome::Served { backend, .. }, true) = (entry.outcome, entry.due_ns >= from_ns) {
            let sojourn_ns = entry.done_ns - entry.due_ns;
            record(&mut times, sojourn_ns);
            sum_ns += sojourn_ns as f64;
            by_backend[usize::from(backend)] += 1;
        }
    };
    simulate::run(setup, &mut arrivals, seed, &mut sink)?;
    let all: u64 = by_backend.iter().sum();
    let busiest = by_backend.iter().max().copied().unwrap_or(0);
    let at = |part| quantile(&times, part).unwrap_or(0) as f64 / SERVICE_NS;
    let mean = sum_ns / all.max(1) as f64 / SERVICE_NS;
    Ok([mean, at(0.5), at(0.99), (busiest * count as u64) as f64 / all.max(1) as f64])
}

#[cfg(test)]
mod tests {
    use queueing::{Model as _, mmc::MMc};

    use super::*;

    #[test]
    fn cells_are_those_that_theory_knows() {
        let service = Distribution::Of(queueing::Service::Exponential { mean_s: SERVICE_NS / 1e9 });
        let kind = (Layer::L7, balance::PolicyKind::Random);
        let job = Job { kind, load: 0.7, backends: 4, connections: 16.0 };
        let cell = cell(job, &service, 2).unwrap();
        // By chance over four: each is M/M/2.
        let known = MMc::new(2.0 * 0.7, 1.0, 2).unwrap();
        for (ranged, known) in [
            (cell.mean, known.mean_s()),
            (cell.p50, known.quantile_s(0.5).unwrap()),
            (cell.p99, known.quantile_s(0.99).unwrap()),
        ] {
            let [low, value, high] = ranged;
            assert!(low < known && known < high, "{known} and {ranged:?}");
            assert!((value / known - 1.0).abs() < 0.1, "{known} and {ranged:?}");
        }
        assert!(cell.busiest[0] >= 0.99 && cell.busiest[2] < 1.2, "{:?}", cell.busiest);
    }

    #[test]
    fn few_connections_leave_backends_out_behind_l4_and_not_behind_l7() {
        let service = Distribution::Of(queueing::Service::Constant { value_s: SERVICE_NS / 1e9 });
        let busiest = |layer| {
            let kind = (layer, balance::PolicyKind::RoundRobin);
            let job = Job { kind, load: 0.3, backends: 4, connections: 0.25 };
            cell(job, &service, 8).unwrap().busiest[1]
        };
        assert!((busiest(Layer::L4) - 4.0).abs() < 1e-3, "one connection, one backend");
        assert!((busiest(Layer::L7) - 1.0).abs() < 0.01);
    }
}

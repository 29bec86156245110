//! Queues, placements and stalls whose answer theory or arithmetic knows.
//!
//! Compared is the sojourn time in the backends (queued and in service, as they reported
//! it): the network and the proxy are no part of a model. Beside each case stands how late
//! the generator sent, since a queue that is fed late is another queue.

use std::path::Path;

use measure::{
    figure::Figures,
    folder::Run,
    record::TrialRecord,
    statistics::interval::{Estimate, over_trials},
    warning::Warning,
};
use queueing::{
    Service,
    bins::RandomPlacement,
    fit::{Arrivals, Layer, Policy, Setting, fit},
};

use crate::{
    Failure, Plan,
    lab::{lab, lab_with},
    table::{Row, Table},
};

/// Mean service time. Long enough that timers are exact beside it.
const SERVICE_MS: f64 = 4.0;
/// Trials of placed connections for each repeat of a queue: they are short, and what
/// comes of one is chance.
const PLACEMENTS: u32 = 16;
/// What a figure may be off by.
const TOLERANCE: f64 = 0.03;
/// What a percentile of the frozen backend may be off by.
const FROZEN_TOLERANCE: f64 = 0.02;
const LEVEL: f64 = 0.95;

/// A queue with a known answer.
struct Case {
    name: String,
    peer: &'static str,
    backends: u32,
    distribution: &'static str,
    policy: &'static str,
    load: f64,
    /// Another one for each case, so that one odd schedule doesn't colour all.
    seed: u64,
}

/// Measures every case whose name holds `only`.
pub(crate) fn measure(plan: &Plan, table: &mut Table) -> Result<(), Failure> {
    for case in cases().iter().filter(|case| plan.wants(&case.name)) {
        queue(case, plan, table)?;
    }
    if plan.wants("connections") {
        for connections in [1, 2, 4, 8, 16, 32, 64] {
            imbalance(connections, plan, table)?;
        }
    }
    if plan.wants("frozen") {
        frozen(plan, table)?;
    }
    Ok(())
}

/// The names of all cases.
pub(crate) fn names() -> Vec<String> {
    let mut names: Vec<String> = cases().into_iter().map(|case| case.name).collect();
    names.extend(["connections".to_owned(), "frozen".to_owned()]);
    names
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for load in [0.5, 0.7, 0.85] {
        let mut case = |kind: &str, peer, backends, distribution, policy| {
            let name = format!("{kind} at {load}");
            let seed = 1 + cases.len() as u64;
            cases.push(Case { name, peer, backends, distribution, policy, load, seed });
        };
        case("M/M/1 direct", "direct", 1, "exponential", "round_robin");
        case("M/D/1 direct", "direct", 1, "constant", "round_robin");
        case("random over 4, l7", "l7", 4, "exponential", "random");
        case("round robin over 4, l7", "l7", 4, "exponential", "round_robin");
        case("p2c over 4, l7", "l7", 4, "exponential", "p2c");
    }
    cases
}

impl Case {
    fn rate(&self) -> f64 {
        self.load * f64::from(self.backends) * 1e3 / SERVICE_MS
    }

    fn setting(&self) -> Setting {
        let mean_s = SERVICE_MS / 1e3;
        Setting {
            backends: self.backends,
            alike: true,
            servers: 1,
            service: Some(match self.distribution {
                "constant" => Service::Constant { value_s: mean_s },
                _ => Service::Exponential { mean_s },
            }),
            arrivals: Arrivals::Poisson,
            rate: self.rate(),
            connections: 4,
            layer: if self.peer == "direct" { Layer::None } else { Layer::L7 },
            policy: match self.policy {
                "random" => Policy::Random,
                "p2c" => Policy::P2c,
                _ => Policy::RoundRobin,
            },
            balancers: 1,
        }
    }

    fn scenario(&self, plan: &Plan) -> String {
        format!(
            "question = \"{name}\"\n[backends]\ncount = {backends}\nconcurrency = 1\n\
             service_time = \"{distribution}:{SERVICE_MS}ms\"\n[load]\nloop = \"open\"\n\
             connections = 4\nstreams = 5000\nrate = {rate:.3}\nduration = \"{seconds}s\"\n\
             warm_up = \"2s\"\n[balance]\npolicy = \"{policy}\"\n{placement}[run]\n\
             peers = [\"{peer}\"]\nrepeats = {repeats}\nseed = {seed}\n",
            name = self.name,
            backends = self.backends,
            distribution = self.distribution,
            rate = self.rate(),
            seconds = plan.seconds,
            policy = self.policy,
            placement = self.placement(),
            peer = self.peer,
            repeats = plan.repeats,
            seed = self.seed,
        )
    }

    /// Without a proxy there is a core for the generator alone, where it can hold
    /// its schedule to microseconds.
    fn placement(&self) -> &'static str {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        match self.peer {
            "direct" if cores >= 2 => "[placement]\ngenerator = [1]\nproxy = [0]\nbackends = [0]\n",
            _ => "",
        }
    }
}

/// How a figure is read from a trial.
type Reading = fn(&TrialRecord) -> Option<f64>;

/// Measures a queue and its four figures.
fn queue(case: &Case, plan: &Plan, table: &mut Table) -> Result<(), Failure> {
    let model = fit(&case.setting())?.model;
    let run = lab(&case.scenario(plan))?;
    let figures: [(&str, Option<f64>, Reading); 4] = [
        ("mean", Some(model.mean_ns()), |trial| Some(trial.in_backend.mean)),
        ("p50", model.quantile_ns(0.50), |trial| quantile(trial, 0.50)),
        ("p90", model.quantile_ns(0.90), |trial| quantile(trial, 0.90)),
        ("p99", model.quantile_ns(0.99), |trial| quantile(trial, 0.99)),
    ];
    for (name, theory, measured) in figures {
        let Some(theory) = theory else { continue };
        let values: Vec<f64> = run.trials.iter().filter_map(measured).collect();
        let estimate = over_trials(&values, LEVEL).ok_or("a trial gave no figure")?;
        table.row(row(&case.name, name, theory / 1e6, &scaled(estimate, 1e-6), "ms"));
    }
    table.note(&format!("sent late by {}{}", lateness(&run), accusations(&run)));
    Ok(())
}

/// In how many trials the lab blamed the generator, in words; nothing where in none.
/// A queue fed by such a generator is another queue, and a quiet one must not be blamed.
fn accusations(run: &Run) -> String {
    let blames = |warning: &Warning| {
        matches!(warning, Warning::GeneratorLimited { .. } | Warning::GeneratorStarved { .. })
    };
    let accused = run.trials.iter().filter(|trial| trial.warnings.iter().any(blames)).count();
    match accused {
        0 => String::new(),
        _ => format!("; blamed in {accused} of {} trials", run.trials.len()),
    }
}

/// Measures how unevenly L4 places connections by chance.
fn imbalance(connections: u32, plan: &Plan, table: &mut Table) -> Result<(), Failure> {
    let theory = RandomPlacement::new(connections, 4)?.expected_max_share();
    let scenario = format!(
        "question = \"connections\"\n[load]\nloop = \"open\"\nconnections = {connections}\n\
         arrivals = \"constant\"\nrate = 640\nduration = \"200ms\"\nwarm_up = \"0s\"\n[balance]\n\
         policy = \"random\"\n[run]\npeers = [\"l4\"]\nrepeats = {}\n",
        plan.repeats * PLACEMENTS
    );
    let run = lab(&scenario)?;
    let shares: Vec<f64> = run
        .trials
        .iter()
        .filter_map(|trial| Figures::of_trial(trial).get(measure::figure::Figure::MaxShare))
        .collect();
    let estimate = over_trials(&shares, LEVEL).ok_or("a trial gave no figure")?;
    let mean = shares.iter().sum::<f64>() / shares.len() as f64;
    let estimate = Estimate { centre: mean, ..estimate };
    let name = format!("{connections} connections, l4");
    table.row(row(&name, "busiest", theory * 100.0, &scaled(estimate, 100.0), "%"));
    Ok(())
}

/// Runs the scenario of the frozen backend and compares its percentiles with
/// arithmetic: of the calls due while it is stopped, each waits for what is left.
fn frozen(plan: &Plan, table: &mut Table) -> Result<(), Failure> {
    let scenario =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios/frozen-backend.toml");
    let repeats = (plan.repeats / 2).to_string();
    let run = lab_with(&scenario, &["--repeats", &repeats])?;
    for trial in &run.trials {
        let Some([stop, go_on]) = trial.faults.first_chunk() else {
            return Err("the backend was not frozen".into());
        };
        let freeze_ms = (go_on.done_s - stop.done_s) * 1e3;
        let frozen_part = freeze_ms / 1e3 / trial.measured_s;
        let latency = trial.latency.to_histogram()?;
        for q in [0.95, 0.99] {
            // Of the calls that waited, the part 1 - q of all calls waited longer.
            let theory = freeze_ms * (1.0 - (1.0 - q) / frozen_part);
            let measured = measure::histogram::quantile(&latency, q).unwrap_or(0) as f64 / 1e6;
            let error = measured / theory - 1.0;
            table.row(Row {
                case: format!("frozen, {}, repeat {}", trial.peer, trial.repeat + 1),
                figure: format!("p{:.0}", q * 100.0),
                known: format!("{theory:.1} ms"),
                measured: format!("{measured:.1} ms"),
                off: format!("{:+.1} %", error * 100.0),
                bound: format!("{:.0} %", FROZEN_TOLERANCE * 100.0),
                is_within: error.abs() <= FROZEN_TOLERANCE,
            });
        }
    }
    Ok(())
}

fn scaled(estimate: Estimate, factor: f64) -> Estimate {
    let interval = estimate.interval.map(|mut interval| {
        interval.low *= factor;
        interval.high *= factor;
        interval
    });
    Estimate { centre: estimate.centre * factor, interval, ..estimate }
}

/// A figure beside theory: it has to be within the tolerance, or theory within its
/// interval.
fn row(case: &str, figure: &str, theory: f64, measured: &Estimate, unit: &str) -> Row {
    let error = measured.centre / theory - 1.0;
    let holds = measured.interval.is_some_and(|interval| interval.holds(theory));
    let interval = measured
        .interval
        .map_or_else(String::new, |one| format!(" ({:.3} to {:.3})", one.low, one.high));
    Row {
        case: case.to_owned(),
        figure: figure.to_owned(),
        known: format!("{theory:.3} {unit}"),
        measured: format!("{:.3} {unit}{interval}", measured.centre),
        off: format!("{:+.1} %", error * 100.0),
        bound: format!("{:.0} %, or in the interval", TOLERANCE * 100.0),
        is_within: error.abs() <= TOLERANCE || holds,
    }
}

/// The generator's lateness over all trials, in words.
fn lateness(run: &Run) -> String {
    let mut all = measure::histogram::new_histogram();
    for trial in &run.trials {
        if let Ok(histogram) = trial.lateness.to_histogram() {
            // Made by one crate, all histograms have one range.
            let _ = all.add(histogram);
        }
    }
    let us = |q| measure::histogram::quantile(&all, q).unwrap_or(0) as f64 / 1e3;
    format!("p50 {:.1}, p99 {:.1}, p99.9 {:.0} us", us(0.5), us(0.99), us(0.999))
}

fn quantile(trial: &TrialRecord, q: f64) -> Option<f64> {
    let histogram = trial.in_backend.to_histogram().ok()?;
    measure::histogram::quantile(&histogram, q).map(|value| value as f64)
}

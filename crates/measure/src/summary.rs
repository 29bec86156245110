//! What a trial, or a search for a peer, comes down to.
//!
//! Times are nanoseconds, shares and rates of error are fractions, throughput is
//! calls per second.

use crate::{
    figure::{CpuPerCall, Figures, InstructionsPerCall, ROLES},
    histogram::{HistogramRecord, new_histogram},
    record::{Instructions, ProcessRole, SearchLimit, SearchRecord, TrialOutcome, TrialRecord},
    statistics::median,
};

/// Whether figures may be drawn from a trial. One that was cut short gives none: its last
/// calls had no time to end, and its length is not that of the others. Neither does one
/// that was disturbed and measured again.
pub fn is_measured(trial: &TrialRecord) -> bool {
    trial.outcome == TrialOutcome::Complete && trial.counts.scheduled > 0 && !trial.is_replaced()
}

impl Figures {
    /// Figures of one trial. A stored histogram that can't be read counts as
    /// empty; [`crate::folder::Run::open`] is where files are judged.
    pub fn of_trial(trial: &TrialRecord) -> Self {
        let read =
            |record: &HistogramRecord| record.to_histogram().unwrap_or_else(|_| new_histogram());
        let completed = trial.counts.completed_in_window;
        let cpu = ROLES.map(|role| cpu_per_call(trial, role, completed));
        Self {
            calls_per_backend: trial.backends.iter().map(|backend| backend.calls).collect(),
            calls_with_warm_up: trial
                .backends
                .iter()
                .map(|backend| backend.calls_with_warm_up.unwrap_or(backend.calls))
                .collect(),
            weights: trial.backends.iter().map(|backend| f64::from(backend.weight)).collect(),
            crossed: (!trial.zones.is_empty()).then(|| {
                let crossed = trial.zones.iter().map(|zone| zone.crossed).sum();
                let all = trial.zones.iter().flat_map(|zone| &zone.per_backend).sum();
                (crossed, all)
            }),
            ok: trial.counts.ok,
            failed: trial.counts.failed.iter().map(|failure| failure.calls).sum(),
            unfinished: trial.counts.unfinished,
            scheduled: trial.counts.scheduled,
            throughput: if trial.measured_s > 0.0 {
                completed as f64 / (trial.measured_s + trial.cut_s)
            } else {
                0.0
            },
            latency: read(&trial.latency),
            latency_wire: read(&trial.latency_wire),
            receipt_delay: read(&trial.receipt_delay),
            queued: read(&trial.queued),
            service: read(&trial.service),
            lateness: read(&trial.lateness),
            cpu,
            machine: machine_per_call(trial, completed),
            instructions: ROLES.map(|role| instructions_per_call(trial, role, completed)),
            payload_bytes: trial.payload_bytes,
        }
    }
}

/// The highest rate at which the objective of a search held for a peer, over the
/// repeats.
#[derive(Clone, Debug, PartialEq)]
pub struct Saturation {
    /// The median over the repeats, in calls per second.
    pub rate: f64,
    /// The rate up to which it held in every repeat.
    pub low: f64,
    /// The lowest rate from which on it held in no repeat; none where one repeat
    /// found none.
    pub high: Option<f64>,
    /// What each repeat found, in their order; zero where it held nowhere.
    pub repeats: Vec<f64>,
    /// What ended the search of each repeat.
    pub limits: Vec<SearchLimit>,
}

/// What a search found for a peer; `None` where no repeat found anything.
///
/// The ends are no interval of a statistic: they are what was seen. A rate between
/// them held in some repeats only, or was not tried.
pub fn saturation(search: &SearchRecord, peer: &str) -> Option<Saturation> {
    let of_peer = || search.results.iter().filter(|result| result.peer == peer);
    let repeats: Vec<f64> = of_peer().map(|result| result.held.unwrap_or(0.0)).collect();
    let rate = median(&repeats).filter(|rate| *rate > 0.0)?;
    let failed: Option<Vec<f64>> = of_peer().map(|result| result.failed).collect();
    Some(Saturation {
        rate,
        low: repeats.iter().copied().fold(f64::INFINITY, f64::min),
        high: failed.and_then(|failed| failed.into_iter().reduce(f64::max)),
        limits: of_peer().map(|result| result.limit).collect(),
        repeats,
    })
}

fn cpu_per_call(trial: &TrialRecord, role: ProcessRole, completed: u64) -> Option<CpuPerCall> {
    let costs = || trial.processes.iter().filter(|cost| cost.role == role);
    if completed == 0 || costs().next().is_none() {
        return None;
    }
    let per_call = |sum: u64| sum as f64 / completed as f64;
    Some(CpuPerCall {
        user_ns: per_call(costs().map(|cost| cost.user_ns).sum()),
        system_ns: per_call(costs().map(|cost| cost.system_ns).sum()),
    })
}

fn instructions_per_call(
    trial: &TrialRecord,
    role: ProcessRole,
    completed: u64,
) -> Option<InstructionsPerCall> {
    let costs = trial.processes.iter().filter(|cost| cost.role == role);
    let all: Option<Vec<Instructions>> = costs.map(|cost| cost.instructions).collect();
    let all = all.filter(|all| completed > 0 && !all.is_empty())?;
    let per_call =
        |of: fn(&Instructions) -> u64| all.iter().map(of).sum::<u64>() as f64 / completed as f64;
    Some(InstructionsPerCall { user: per_call(|one| one.user), kernel: per_call(|one| one.kernel) })
}

fn machine_per_call(trial: &TrialRecord, completed: u64) -> Option<CpuPerCall> {
    let (user_ns, system_ns) = (trial.machine.user_ns, trial.machine.system_ns);
    (completed > 0 && user_ns + system_ns > 0).then(|| CpuPerCall {
        user_ns: user_ns as f64 / completed as f64,
        system_ns: system_ns as f64 / completed as f64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::Figure;

    #[test]
    fn a_saturation_is_bracketed_by_what_held_and_what_did_not() {
        let result = |peer: &str, repeat, held, failed| crate::record::SearchResult {
            peer: peer.to_owned(),
            repeat,
            held,
            failed,
            limit: SearchLimit::Peer,
        };
        let mut search = SearchRecord {
            slo: vec!["p99 < 5ms".to_owned()],
            resolution: 0.05,
            results: vec![
                result("l7", 0, Some(500.0), Some(525.0)),
                result("l4", 0, None, Some(100.0)),
                result("l7", 1, Some(525.0), Some(551.0)),
                result("l7", 2, Some(500.0), Some(525.0)),
            ],
        };
        let found = saturation(&search, "l7").unwrap();
        assert_eq!((found.rate, found.low, found.high), (500.0, 500.0, Some(551.0)));
        assert_eq!(found.repeats, [500.0, 525.0, 500.0]);
        assert_eq!(saturation(&search, "l4"), None, "it held nowhere");
        assert_eq!(saturation(&search, "direct"), None, "it was not run");
        search.results[0].failed = None;
        assert_eq!(saturation(&search, "l7").unwrap().high, None);
    }

    #[test]
    fn calls_are_tested_against_the_weights() {
        let p = |calls: [u64; 2], weights: [u32; 2]| {
            let weighted = |(calls, weight): (u64, u32)| (calls, f64::from(weight));
            let (calls_per_backend, weights) = calls.into_iter().zip(weights).map(weighted).unzip();
            let figures = Figures { calls_per_backend, weights, ok: 400, ..nothing() };
            figures.get(Figure::ChiSquareP).unwrap()
        };
        assert!(p([300, 100], [3, 1]) > 0.999, "as the weights say");
        assert!(p([200, 200], [3, 1]) < 0.001, "even, and not as they say");
        assert!(p([200, 200], [1, 1]) > 0.999);
    }

    fn nothing() -> Figures {
        Figures {
            calls_per_backend: Vec::new(),
            calls_with_warm_up: Vec::new(),
            crossed: None,
            weights: Vec::new(),
            ok: 0,
            failed: 0,
            unfinished: 0,
            scheduled: 0,
            throughput: 0.0,
            latency: new_histogram(),
            latency_wire: new_histogram(),
            receipt_delay: new_histogram(),
            queued: new_histogram(),
            service: new_histogram(),
            lateness: new_histogram(),
            cpu: [None; ROLES.len()],
            machine: None,
            instructions: [None; ROLES.len()],
            payload_bytes: 0,
        }
    }
}

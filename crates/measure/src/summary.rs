//! Figures by name: what a trial, or a peer over its trials, comes down to.
//!
//! Times are nanoseconds, shares and rates of error are fractions, throughput is
//! calls per second. The terminal, the report and `[expect]` all read figures
//! here, so that the same word is the same number everywhere.

use hdrhistogram::Histogram;

use crate::{
    figure::Figure,
    histogram::{self, new_histogram},
    record::{ProcessRole, SearchLimit, SearchRecord, TrialOutcome, TrialRecord},
};

/// Whether figures may be drawn from a trial. One that was cut short gives none: its last
/// calls had no time to end, and its length is not that of the others. Neither does one
/// that was disturbed and measured again.
pub fn is_measured(trial: &TrialRecord) -> bool {
    trial.outcome == TrialOutcome::Complete && trial.counts.scheduled > 0 && !trial.is_replaced()
}

/// In order of their numbers.
const ROLES: [ProcessRole; 5] = [
    ProcessRole::Generator,
    ProcessRole::Proxy,
    ProcessRole::Backend,
    ProcessRole::Tap,
    ProcessRole::Links,
];

/// One trial's figures.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Calls per backend, in the run's order.
    pub calls_per_backend: Vec<u64>,
    /// The same over the whole trial, warm-up included, where that is known.
    calls_with_warm_up: Vec<u64>,
    /// Their weights, likewise.
    weights: Vec<f64>,
    /// Calls that a backend of another zone than their client's served, of how many; `None`
    /// where there are no zones.
    crossed: Option<(u64, u64)>,
    /// Successful calls.
    pub ok: u64,
    /// Calls that failed.
    pub failed: u64,
    /// Calls without an answer.
    pub unfinished: u64,
    /// Calls scheduled.
    pub scheduled: u64,
    /// Successful calls within the window, per second of it.
    pub throughput: f64,
    latency: Histogram<u64>,
    latency_wire: Histogram<u64>,
    receipt_delay: Histogram<u64>,
    queued: Histogram<u64>,
    service: Histogram<u64>,
    lateness: Histogram<u64>,
    cpu: [Option<CpuPerCall>; ROLES.len()],
    machine: Option<CpuPerCall>,
    payload_bytes: u64,
}

/// The share of successful calls of which the latency on the wire has to be known.
const KNOWN_ON_WIRE: f64 = 0.99;

/// CPU time per completed call, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CpuPerCall {
    /// In user mode.
    pub user_ns: f64,
    /// In the kernel.
    pub system_ns: f64,
}

impl CpuPerCall {
    /// Both together.
    pub fn total_ns(&self) -> f64 {
        self.user_ns + self.system_ns
    }
}

impl Figures {
    /// Figures of one trial. A stored histogram that can't be read counts as
    /// empty; [`crate::folder::Run::open`] is where files are judged.
    pub fn of_trial(trial: &TrialRecord) -> Self {
        let read = |record: &crate::histogram::HistogramRecord| {
            record.to_histogram().unwrap_or_else(|_| new_histogram())
        };
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
            payload_bytes: trial.payload_bytes,
        }
    }

    /// CPU time per call of the whole machine, whoever spent it: also what the
    /// kernel does for nobody's process, and what has nothing to do with the
    /// lab. `None` without a call or a reading.
    pub fn machine(&self) -> Option<CpuPerCall> {
        self.machine
    }

    /// CPU time per call of all processes of a role together; `None` when there
    /// is no such process or no call.
    pub fn cpu(&self, role: ProcessRole) -> Option<CpuPerCall> {
        self.cpu[role as usize]
    }

    /// Share of calls per backend; empty when no call was successful.
    pub fn shares(&self) -> Vec<f64> {
        let sum: u64 = self.calls_per_backend.iter().sum();
        if sum == 0 {
            return Vec::new();
        }
        self.calls_per_backend.iter().map(|&calls| calls as f64 / sum as f64).collect()
    }

    /// Latency at a quantile in nanoseconds; `None` without a call.
    pub fn latency_ns(&self, quantile: f64) -> Option<f64> {
        value_at(&self.latency, quantile)
    }

    /// The latency histogram.
    pub fn latency(&self) -> &Histogram<u64> {
        &self.latency
    }

    /// A figure; `None` where it has no value in this trial.
    pub fn get(&self, figure: Figure) -> Option<f64> {
        figure.compute(self)
    }

    /// Latency on the wire at a quantile; `None` unless it is known of nearly all calls,
    /// since those of which it isn't may not be like the others.
    pub(crate) fn wire_ns(&self, quantile: f64) -> Option<f64> {
        let enough = self.latency_wire.len() as f64 >= KNOWN_ON_WIRE * self.ok as f64;
        value_at(&self.latency_wire, quantile).filter(|_| enough)
    }

    pub(crate) fn receipt_delay_ns(&self, quantile: f64) -> Option<f64> {
        value_at(&self.receipt_delay, quantile)
    }

    pub(crate) fn queued_ns(&self, quantile: f64) -> Option<f64> {
        value_at(&self.queued, quantile)
    }

    pub(crate) fn service_ns(&self, quantile: f64) -> Option<f64> {
        value_at(&self.service, quantile)
    }

    pub(crate) fn lateness_ns(&self, quantile: f64) -> Option<f64> {
        value_at(&self.lateness, quantile)
    }

    pub(crate) fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// The counts, where there is at least one call to count.
    pub(crate) fn counts(&self) -> Option<&[u64]> {
        (self.ok > 0).then_some(self.calls_per_backend.as_slice())
    }

    /// How far the busiest backend is ahead of the idlest, in calls of the whole trial.
    pub(crate) fn spread(&self) -> Option<u64> {
        let of = &self.calls_with_warm_up;
        (self.ok > 0).then(|| Some(of.iter().max()? - of.iter().min()?))?
    }

    /// The part of the calls that crossed zones, where there are any.
    pub(crate) fn crossed_share(&self) -> Option<f64> {
        let (crossed, all) = self.crossed.filter(|(_, all)| *all > 0)?;
        Some(crossed as f64 / all as f64)
    }

    /// A part of the calls scheduled.
    pub(crate) fn of_scheduled(&self, calls: u64) -> Option<f64> {
        (self.scheduled > 0).then(|| calls as f64 / self.scheduled as f64)
    }

    /// What a cost per call comes to for a GiB of payload; `None` where calls carry
    /// none.
    pub(crate) fn per_gib(&self, ns_per_call: f64) -> Option<f64> {
        const GIB: f64 = (1_u64 << 30) as f64;
        (self.payload_bytes > 0).then(|| ns_per_call * GIB / self.payload_bytes as f64)
    }

    pub(crate) fn cpu_ns(&self, role: ProcessRole) -> Option<f64> {
        self.cpu(role).map(|cpu| cpu.total_ns())
    }

    /// Client, balancer and backends together: what is left of a balancer that has
    /// no process, where the kernel bills its work to whoever it interrupts.
    pub(crate) fn lab_cpu_ns(&self) -> Option<f64> {
        let all = [ProcessRole::Generator, ProcessRole::Proxy, ProcessRole::Backend];
        all.into_iter().filter_map(|role| self.cpu_ns(role)).reduce(|sum, one| sum + one)
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

fn machine_per_call(trial: &TrialRecord, completed: u64) -> Option<CpuPerCall> {
    let (user_ns, system_ns) = (trial.machine.user_ns, trial.machine.system_ns);
    (completed > 0 && user_ns + system_ns > 0).then(|| CpuPerCall {
        user_ns: user_ns as f64 / completed as f64,
        system_ns: system_ns as f64 / completed as f64,
    })
}

fn value_at(histogram: &Histogram<u64>, quantile: f64) -> Option<f64> {
    histogram::quantile(histogram, quantile).map(|value| value as f64)
}

/// Jain's fairness index of the counts: 1 when all are equal, 1/n when one has
/// everything (Jain, Chiu, Hawe, *A Quantitative Measure of Fairness*, 1984).
pub fn jain(counts: &[u64]) -> Option<f64> {
    let sum: f64 = counts.iter().map(|&count| count as f64).sum();
    let squares: f64 = counts.iter().map(|&count| (count as f64).powi(2)).sum();
    (squares > 0.0).then(|| sum * sum / (counts.len() as f64 * squares))
}

/// Standard deviation of the counts over their mean.
pub fn coefficient_of_variation(counts: &[u64]) -> Option<f64> {
    let n = counts.len() as f64;
    let mean = counts.iter().map(|&count| count as f64).sum::<f64>() / n;
    let variance = counts.iter().map(|&count| (count as f64 - mean).powi(2)).sum::<f64>() / n;
    (mean > 0.0).then(|| variance.sqrt() / mean)
}

/// The middle value; the mean of the middle two for an even number.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fairness_is_one_when_even_and_one_nth_when_not() {
        assert_eq!(jain(&[5, 5, 5, 5]), Some(1.0));
        assert_eq!(jain(&[20, 0, 0, 0]), Some(0.25));
        assert_eq!(jain(&[0, 0]), None);
        assert_eq!(coefficient_of_variation(&[5, 5]), Some(0.0));
        assert_eq!(coefficient_of_variation(&[10, 0]), Some(1.0));
    }

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
            payload_bytes: 0,
        }
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}

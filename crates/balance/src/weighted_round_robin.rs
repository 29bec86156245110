//! Each backend in turn, as often as what it reports of its load says.
//!
//! gRPC's `weighted_round_robin` (gRFC A58): a backend's weight is the calls a second that it
//! would serve at full utilization, by what it reports in the trailers of its calls
//! ([`crate::LoadReport`]). One that reports nothing is taken for an average one; where less
//! than two report, turns are those of `round_robin`, by the weights of the list.
//!
//! Turns are handed out by the static stride scheduler that gRPC's libraries have: in each
//! generation every backend comes by once, and is skipped as often as its weight is short of
//! the largest. A pick is a step of a counter and a look at a weight of 16 bits, so that
//! weights can change under the picks of other threads.
//!
//! It evens out utilization, and not what calls wait for: two backends may be equally
//! utilized while the one has a queue and the other none.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    Backend, BalanceError, PickInput,
    load_report::LoadReport,
    pick::{Candidates, Place, Policy, Start},
    round_robin::RoundRobin,
    tuning::{WeightRule, nanos},
};

/// The weight of a backend that is never skipped.
const WHOLE: u16 = u16::MAX;
/// A weight counts for so many times the mean at most, and for so little of it at least: a
/// backend without calls has no other way to show that it does well again.
const MAX_RATIO: f64 = 10.0;
const MIN_RATIO: f64 = 0.01;
/// Generations that a pick looks through. The least weight is a thousandth of the largest,
/// so that in as many everyone has had a turn.
const GENERATIONS: u64 = 1_100;
/// Weights are looked at no more often.
const UPDATE_MIN: Duration = Duration::from_millis(100);

/// No report that others have followed on.
const NEVER: u64 = u64::MAX;

/// The weight that a backend reports. Its words are not read together: a reader that sees
/// one new and one old is off by one report.
#[derive(Debug)]
pub(crate) struct ReportedWeight {
    /// Bits of an f64.
    weight: AtomicU64,
    last_ns: AtomicU64,
    /// When the first came of those that have followed one another.
    since_ns: AtomicU64,
}

impl ReportedWeight {
    pub(crate) fn new() -> Self {
        Self {
            weight: AtomicU64::new(0),
            last_ns: AtomicU64::new(0),
            since_ns: AtomicU64::new(NEVER),
        }
    }

    pub(crate) fn report(&self, now_ns: u64, report: &LoadReport) {
        let Some(weight) = report.weight() else { return };
        if self.since_ns.load(Ordering::Relaxed) == NEVER {
            self.since_ns.store(now_ns, Ordering::Relaxed);
        }
        self.last_ns.fetch_max(now_ns, Ordering::Relaxed);
        self.weight.store(weight.to_bits(), Ordering::Relaxed);
    }

    /// What was reported counts for nothing until it was reported for a while again.
    pub(crate) fn restart(&self) {
        self.since_ns.store(NEVER, Ordering::Relaxed);
    }

    fn at(&self, now_ns: u64, rule: &WeightRule) -> Option<f64> {
        let since_ns = self.since_ns.load(Ordering::Relaxed);
        if since_ns == NEVER {
            return None;
        }
        let age_ns = |at_ns| now_ns.saturating_sub(at_ns);
        if age_ns(self.last_ns.load(Ordering::Relaxed)) >= nanos(rule.expiry) {
            self.restart();
            return None;
        }
        let counts = age_ns(since_ns) >= nanos(rule.blackout);
        counts.then(|| f64::from_bits(self.weight.load(Ordering::Relaxed)))
    }
}

#[derive(Debug)]
pub(crate) struct WeightedRoundRobin {
    rule: WeightRule,
    /// Turns while too little is reported.
    by_list: RoundRobin,
    /// Whether the weights are reported ones.
    is_reported: AtomicBool,
    weights: Vec<AtomicU16>,
    sequence: AtomicU64,
    /// When the weights are looked at next.
    next_update_ns: AtomicU64,
}

impl WeightedRoundRobin {
    pub(crate) fn new(
        backends: &[Arc<Backend>],
        start: Start,
        rule: WeightRule,
    ) -> Result<Self, BalanceError> {
        Ok(Self {
            rule: WeightRule { update: rule.update.max(UPDATE_MIN), ..rule },
            by_list: RoundRobin::new(backends, start)?,
            is_reported: AtomicBool::new(false),
            weights: backends.iter().map(|_| AtomicU16::new(WHOLE)).collect(),
            sequence: AtomicU64::new(start.word()),
            next_update_ns: AtomicU64::new(0),
        })
    }

    fn update_if_due(&self, backends: &[Arc<Backend>], now_ns: u64) {
        let relaxed = Ordering::Relaxed;
        let due_ns = self.next_update_ns.load(relaxed);
        if now_ns < due_ns {
            return;
        }
        let next_ns = now_ns.saturating_add(nanos(self.rule.update));
        // One thread does it.
        if self.next_update_ns.compare_exchange(due_ns, next_ns, relaxed, relaxed).is_ok() {
            self.update(backends, now_ns);
        }
    }

    #[cold]
    fn update(&self, backends: &[Arc<Backend>], now_ns: u64) {
        let reported = || backends.iter().map(|backend| backend.reported().at(now_ns, &self.rule));
        let (count, sum, max) = reported().flatten().fold((0, 0.0, 0.0), |sums, weight| {
            let (count, sum, max): (u32, f64, f64) = sums;
            (count + 1, sum + weight, max.max(weight))
        });
        self.is_reported.store(count >= 2, Ordering::Relaxed);
        if count < 2 {
            return;
        }
        let mean = sum / f64::from(count);
        let scale = f64::from(WHOLE) / max.min(mean * MAX_RATIO);
        let least = (mean * scale * MIN_RATIO).ceil().max(1.0);
        for (own, weight) in self.weights.iter().zip(reported()) {
            let scaled = (weight.unwrap_or(mean) * scale).round();
            own.store(scaled.clamp(least, f64::from(WHOLE)) as u16, Ordering::Relaxed);
        }
    }

    /// Whether the backend has a turn in this generation. Each begins at a place of its own,
    /// or those of the same weight would be skipped together.
    fn has_turn(&self, index: u64, generation: u64) -> bool {
        let weight = u64::from(self.weights[index as usize].load(Ordering::Relaxed));
        let whole = u64::from(WHOLE);
        let offset = index.wrapping_mul(whole / 2);
        weight.wrapping_mul(generation).wrapping_add(offset) % whole >= whole - weight
    }
}

impl Policy for WeightedRoundRobin {
    fn pick(&self, candidates: &Candidates<'_>, input: &PickInput) -> Option<usize> {
        self.update_if_due(candidates.backends, input.now_ns);
        if !self.is_reported.load(Ordering::Relaxed) {
            return self.by_list.pick(candidates, input);
        }
        let count = self.weights.len() as u64;
        for _ in 0..count * GENERATIONS {
            let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
            let (index, generation) = (sequence % count, sequence / count);
            if self.has_turn(index, generation) && candidates.is_eligible(index as usize) {
                return Some(index as usize);
            }
        }
        self.by_list.pick(candidates, input)
    }

    fn place(&self) -> Option<Place> {
        self.by_list.place()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn report(calls_per_second: f64) -> LoadReport {
        LoadReport { cpu_utilization: 0.5, calls_per_second, ..LoadReport::default() }
    }

    #[test]
    fn a_weight_counts_after_the_blackout_and_until_it_expires() {
        let (weight, rule) = (ReportedWeight::new(), WeightRule::default());
        let at = |second| weight.at(second * SECOND, &rule);
        assert_eq!(at(0), None);
        weight.report(SECOND, &report(100.0));
        weight.report(9 * SECOND, &report(150.0));
        assert_eq!((at(10), at(11)), (None, Some(300.0)));
        // Too little to go by does not make it last longer.
        weight.report(100 * SECOND, &report(0.0));
        assert_eq!((at(188), at(189)), (Some(300.0), None));
        weight.report(200 * SECOND, &report(100.0));
        assert_eq!((at(209), at(210)), (None, Some(200.0)));
        weight.restart();
        weight.report(211 * SECOND, &report(100.0));
        assert_eq!((at(220), at(221)), (None, Some(200.0)));
    }

    /// The first report counts even where it comes at the clock's start.
    #[test]
    fn without_a_blackout_the_first_report_counts() {
        let rule = WeightRule { blackout: Duration::ZERO, ..WeightRule::default() };
        let weight = ReportedWeight::new();
        weight.report(0, &report(100.0));
        assert_eq!(weight.at(0, &rule), Some(200.0));
    }
}

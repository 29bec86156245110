//! Which backends stand out, and how many may be left out at all: decisions over
//! all backends together.
//!
//! They are those of Envoy's outlier detection and panic mode, where an operator
//! knows them from: a backend whose success rate is far below the others' is
//! ejected, even if it never fails often enough in a row; no more than a part of
//! all is ejected; and when too few are left, those left out are used as well,
//! since the load of all would take the rest down.

/// When a success rate stands out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SuccessRateRule {
    /// How many standard deviations below the mean.
    pub deviations: f64,
    /// Backends with enough calls to compare; with fewer, none stands out.
    pub min_backends: usize,
    /// Calls within the interval that make a backend's rate worth comparing.
    pub min_calls: u64,
}

/// What a backend did within an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Calls that went well.
    pub successes: u64,
    /// Calls that failed on the backend's side.
    pub failures: u64,
}

impl Sample {
    fn calls(&self) -> u64 {
        self.successes + self.failures
    }

    fn rate(&self) -> f64 {
        self.successes as f64 / self.calls() as f64
    }
}

/// The indices of the samples whose success rate stands out, the worst first.
pub fn low_success_rates(samples: &[Sample], rule: SuccessRateRule) -> Vec<usize> {
    let is_counted = |sample: &Sample| sample.calls() >= rule.min_calls.max(1);
    let counted: Vec<_> =
        samples.iter().enumerate().filter(|(_, sample)| is_counted(sample)).collect();
    if counted.len() < rule.min_backends.max(1) {
        return Vec::new();
    }
    let count = counted.len() as f64;
    let mean = counted.iter().map(|(_, sample)| sample.rate()).sum::<f64>() / count;
    let squares = counted.iter().map(|(_, sample)| (sample.rate() - mean).powi(2));
    let deviation = (squares.sum::<f64>() / count).sqrt();
    let threshold = mean - rule.deviations * deviation;
    // Rates that are all equal must not stand out by the rounding of their mean.
    let is_low = |sample: &Sample| sample.rate() < threshold - 1e-9;
    let mut low: Vec<_> = counted.into_iter().filter(|(_, sample)| is_low(sample)).collect();
    low.sort_by(|(_, a), (_, b)| a.rate().total_cmp(&b.rate()));
    low.into_iter().map(|(index, _)| index).collect()
}

/// Whether one more of `members` may be ejected when `ejected` are: up to so many
/// percent, and one in any case, for a tenth of three backends is none.
pub fn may_eject(ejected: usize, members: usize, max_percent: u32) -> bool {
    ejected == 0 && max_percent > 0 || (ejected + 1) * 100 <= members * max_percent as usize
}

/// Whether so few are left that those left out are used as well: fewer than so
/// many percent.
pub fn is_panic(available: usize, members: usize, threshold_percent: u32) -> bool {
    available * 100 < members * threshold_percent as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: SuccessRateRule =
        SuccessRateRule { deviations: 1.9, min_backends: 5, min_calls: 100 };

    fn rates(percents: &[u64]) -> Vec<Sample> {
        percents
            .iter()
            .map(|percent| Sample { successes: 10 * percent, failures: 1_000 - 10 * percent })
            .collect()
    }

    #[test]
    fn one_that_is_far_below_the_others_stands_out() {
        assert_eq!(low_success_rates(&rates(&[99, 100, 60, 99, 100, 100]), RULE), [2]);
        // With five, one backend is at most two deviations below the mean of all.
        assert_eq!(low_success_rates(&rates(&[100, 100, 100, 100, 0]), RULE), [4]);
        assert!(low_success_rates(&rates(&[97, 98, 99, 100, 100, 98]), RULE).is_empty());
    }

    #[test]
    fn a_failure_of_all_is_nobodys() {
        for percent in [0, 33, 50, 100] {
            assert!(low_success_rates(&rates(&[percent; 7]), RULE).is_empty(), "{percent}");
        }
    }

    #[test]
    fn the_worst_comes_first() {
        let rule = SuccessRateRule { deviations: 1.0, ..RULE };
        let low = low_success_rates(&rates(&[100, 20, 100, 100, 10, 100, 100, 100]), rule);
        assert_eq!(low, [4, 1]);
    }

    #[test]
    fn few_backends_and_few_calls_say_nothing() {
        assert!(low_success_rates(&rates(&[0, 100, 100, 100]), RULE).is_empty());
        let mut samples = rates(&[100, 100, 100, 100, 100]);
        samples.push(Sample { successes: 0, failures: 99 });
        assert!(low_success_rates(&samples, RULE).is_empty());
        samples[5].failures = 100;
        assert_eq!(low_success_rates(&samples, RULE), [5]);
        assert!(low_success_rates(&[], SuccessRateRule { min_backends: 0, ..RULE }).is_empty());
    }

    #[test]
    fn a_part_is_ejected_and_one_in_any_case() {
        assert!(may_eject(0, 3, 10) && !may_eject(1, 3, 10));
        assert!(may_eject(1, 20, 10) && !may_eject(2, 20, 10));
        assert!(may_eject(2, 3, 100) && !may_eject(0, 3, 0));
    }

    #[test]
    fn panic_begins_below_the_threshold() {
        assert!(!is_panic(2, 4, 50) && is_panic(1, 4, 50) && is_panic(0, 1, 50));
        assert!(!is_panic(0, 4, 0) && !is_panic(4, 4, 100) && !is_panic(0, 0, 50));
    }
}

//! A distribution of times as it was measured: values, each with its part.

use std::sync::Arc;

use crate::Service;

/// Times and how often each was seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// In seconds, each larger than the one before.
    values_s: Vec<f64>,
    /// The part of the times that are this or shorter; the last is 1.
    parts: Vec<f64>,
    /// The sum of those times, each by its part, in seconds.
    sums_s: Vec<f64>,
}

impl Measured {
    /// Of times in seconds and how often each was seen, in any order. `None` where none of
    /// them was, or one is not positive.
    pub fn new(times: impl IntoIterator<Item = (f64, u64)>) -> Option<Self> {
        let mut times: Vec<(f64, u64)> =
            times.into_iter().filter(|(_, count)| *count > 0).collect();
        if !times.iter().all(|(value_s, _)| value_s.is_finite() && *value_s > 0.0) {
            return None;
        }
        times.sort_by(|one, other| one.0.total_cmp(&other.0));
        let all: u64 = times.iter().map(|(_, count)| count).sum();
        let mut measured = Self { values_s: Vec::new(), parts: Vec::new(), sums_s: Vec::new() };
        let (mut below, mut sum_s) = (0, 0.0);
        for (value_s, count) in times {
            below += count;
            sum_s += value_s * count as f64 / all as f64;
            if measured.values_s.last() == Some(&value_s) {
                measured.parts.pop();
                measured.sums_s.pop();
            } else {
                measured.values_s.push(value_s);
            }
            measured.parts.push(below as f64 / all as f64);
            measured.sums_s.push(sum_s);
        }
        (all > 0).then_some(measured)
    }

    /// The mean in seconds.
    pub fn mean_s(&self) -> f64 {
        self.sums_s.last().copied().unwrap_or(0.0)
    }

    /// The mean of the squares, in square seconds.
    pub fn second_moment(&self) -> f64 {
        let mut before = 0.0;
        let square = |(value_s, part): (&f64, &f64)| {
            let own = part - before;
            before = *part;
            value_s * value_s * own
        };
        self.values_s.iter().zip(&self.parts).map(square).sum()
    }

    /// The part that is `x_s` or shorter.
    pub fn cdf(&self, x_s: f64) -> f64 {
        let count = self.values_s.partition_point(|value_s| *value_s <= x_s);
        count.checked_sub(1).map_or(0.0, |last| self.parts[last])
    }

    /// The mean of the times cut off at `x_s`, in seconds.
    pub(crate) fn limited_mean_s(&self, x_s: f64) -> f64 {
        let count = self.values_s.partition_point(|value_s| *value_s <= x_s);
        let Some(last) = count.checked_sub(1) else { return x_s.max(0.0) };
        self.sums_s[last] + x_s * (1.0 - self.parts[last])
    }

    /// The time that a part of them, from 0 to 1, is no longer than.
    pub fn quantile_s(&self, part: f64) -> f64 {
        let count = self.parts.partition_point(|below| *below < part);
        self.values_s[count.min(self.values_s.len() - 1)]
    }

    /// The same on a server that is `speed` times as fast.
    #[must_use]
    pub fn at_speed(&self, speed: f64) -> Self {
        let faster = |times: &[f64]| times.iter().map(|time| time / speed).collect();
        let (values_s, sums_s) = (faster(&self.values_s), faster(&self.sums_s));
        Self { values_s, sums_s, parts: self.parts.clone() }
    }

    /// The distance of Kolmogorov and Smirnov to a distribution without steps, from 0 to 1.
    pub fn distance(&self, cdf: impl Fn(f64) -> f64) -> f64 {
        let before = [0.0].into_iter().chain(self.parts.iter().copied());
        let steps = self.values_s.iter().zip(before.zip(&self.parts));
        let apart = steps.map(|(value_s, (before, part))| {
            let there = cdf(*value_s);
            (there - before).abs().max((there - part).abs())
        });
        apart.fold(0.0, f64::max)
    }
}

impl From<Measured> for Service {
    fn from(measured: Measured) -> Self {
        Self::Measured(Arc::new(measured))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_parts_are_those_of_the_times() {
        let measured = Measured::new([(4.0, 1), (1.0, 2), (2.0, 1), (4.0, 0)]).unwrap();
        assert!((measured.mean_s() - 2.0).abs() < 1e-12);
        assert!((measured.second_moment() - 5.5).abs() < 1e-12);
        assert_eq!([0.5, 1.0, 3.0, 4.0].map(|x| measured.cdf(x)), [0.0, 0.5, 0.75, 1.0]);
        assert_eq!([0.1, 0.5, 0.6, 1.0].map(|q| measured.quantile_s(q)), [1.0, 1.0, 2.0, 4.0]);
        let faster = measured.at_speed(2.0);
        assert!((faster.mean_s() - 1.0).abs() < 1e-12 && faster.cdf(0.5) == 0.5);
        assert_eq!(Measured::new([]), None);
        assert_eq!(Measured::new([(0.0, 1)]), None);
        assert_eq!(Measured::new([(1.0, 1), (1.0, 3)]), Measured::new([(1.0, 4)]));
    }

    #[test]
    fn the_distance_is_the_largest_on_either_side_of_a_step() {
        let even = Measured::new((1..=100).map(|value| (f64::from(value) / 100.0, 1))).unwrap();
        assert!((even.distance(|x| x) - 0.01).abs() < 1e-9);
        let one = Measured::new([(0.7, 5)]).unwrap();
        assert!((one.distance(|x| x) - 0.7).abs() < 1e-12);
    }
}

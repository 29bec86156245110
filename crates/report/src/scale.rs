//! From values to pixels, and the values worth a tick.

/// A straight scale.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Linear {
    /// Values at the ends.
    pub(crate) domain: (f64, f64),
    /// Pixels at the ends.
    pub(crate) range: (f64, f64),
}

impl Linear {
    /// Where a value lies.
    pub(crate) fn at(&self, value: f64) -> f64 {
        let span = self.domain.1 - self.domain.0;
        let part = if span == 0.0 { 0.0 } else { (value - self.domain.0) / span };
        self.range.0 + part * (self.range.1 - self.range.0)
    }
}

/// A logarithmic scale. Both ends of its domain are positive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Log {
    inner: Linear,
    /// Values at the ends.
    pub(crate) domain: (f64, f64),
}

impl Log {
    /// A scale over `low..high`, widened to whole ticks.
    pub(crate) fn over(low: f64, high: f64, range: (f64, f64)) -> Self {
        let low = if low.is_finite() { low.max(1.0) } else { 1.0 };
        let high = if high.is_finite() { high.max(low * 1.5) } else { low * 10.0 };
        let domain = (floor_125(low), ceil_125(high));
        Self { inner: Linear { domain: (domain.0.log10(), domain.1.log10()), range }, domain }
    }

    /// Where a value lies; the ends are not left.
    pub(crate) fn at(&self, value: f64) -> f64 {
        self.inner.at(value.clamp(self.domain.0, self.domain.1).log10())
    }

    /// Values worth a line: decades, and 2 and 5 between them where the span is
    /// short enough for all to have room.
    pub(crate) fn ticks(&self) -> Vec<f64> {
        let decades = (self.domain.1 / self.domain.0).log10();
        let steps: &[f64] = if decades <= 3.2 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let mut ticks = Vec::new();
        let first = self.domain.0.log10().floor() as i32;
        let last = self.domain.1.log10().ceil() as i32;
        for exponent in first..=last {
            for step in steps {
                let value = step * 10_f64.powi(exponent);
                // A whisker of slack: powers of ten are not exact.
                if value >= self.domain.0 * 0.999 && value <= self.domain.1 * 1.001 {
                    ticks.push(value);
                }
            }
        }
        ticks
    }
}

/// Ticks from zero to at least `max`, about `wanted` of them, in steps of 1, 2,
/// 2.5 or 5.
pub(crate) fn ticks(max: f64, wanted: usize) -> Vec<f64> {
    if !max.is_finite() || max <= 0.0 {
        return vec![0.0, 1.0];
    }
    let rough = max / wanted.max(1) as f64;
    let magnitude = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * magnitude)
        .find(|step| *step >= rough * 0.999)
        .unwrap_or(10.0 * magnitude);
    let count = (max / step - 1e-9).ceil().max(1.0) as usize;
    (0..=count).map(|index| index as f64 * step).collect()
}

/// Whole seconds worth a tick up to `last`, at most `most` of them.
pub(crate) fn second_ticks(last: f64, most: usize) -> Vec<f64> {
    let step = [1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0]
        .into_iter()
        .find(|step| last / step <= most as f64)
        .unwrap_or(last / most.max(1) as f64);
    (0..).map(|index| f64::from(index) * step).take_while(|tick| *tick <= last + 1e-9).collect()
}

fn floor_125(value: f64) -> f64 {
    let magnitude = 10_f64.powf(value.log10().floor());
    let step = [5.0, 2.0, 1.0].into_iter().find(|step| step * magnitude <= value * 1.000_001);
    step.unwrap_or(1.0) * magnitude
}

fn ceil_125(value: f64) -> f64 {
    let magnitude = 10_f64.powf(value.log10().floor());
    let step = [1.0, 2.0, 5.0].into_iter().find(|step| step * magnitude >= value * 0.999_999);
    step.unwrap_or(10.0) * magnitude
}

/// Moves positions apart until neighbours are `gap` away from each other, as
/// little as it can, within `low..=high`. Used for labels at the ends of lines.
pub(crate) fn spread(positions: &[f64], gap: f64, low: f64, high: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..positions.len()).collect();
    order.sort_by(|&a, &b| positions[a].total_cmp(&positions[b]));
    let mut placed: Vec<f64> = order.iter().map(|&index| positions[index]).collect();
    // Clusters that touch are moved as one, to where their members are nearest
    // to home on average.
    let mut clusters: Vec<(f64, usize)> = Vec::new();
    for &position in &placed {
        clusters.push((position, 1));
        while let [.., (before, count_before), (last, count)] = clusters[..] {
            let (half_before, half) = (count_before as f64 * gap / 2.0, count as f64 * gap / 2.0);
            if before + half_before <= last - half {
                break;
            }
            let merged = (before * count_before as f64 + last * count as f64)
                / (count_before + count) as f64;
            clusters.truncate(clusters.len() - 2);
            clusters.push((merged, count_before + count));
        }
    }
    let mut next = 0;
    for (centre, count) in clusters {
        let half = (count as f64 - 1.0) * gap / 2.0;
        let centre = centre.min(high - half).max(low + half);
        for member in 0..count {
            placed[next] = centre - half + member as f64 * gap;
            next += 1;
        }
    }
    let mut result = vec![0.0; positions.len()];
    for (rank, &index) in order.iter().enumerate() {
        result[index] = placed[rank];
    }
    result
}

/// Where a quantile lies on the axis: 0 for none, 1 for 90 %, 2 for 99 %.
pub(crate) fn place(quantile: f64) -> f64 {
    -(1.0 - quantile).log10()
}

/// The quantile that lies at a place.
pub(crate) fn quantile(place: f64) -> f64 {
    1.0 - 10_f64.powf(-place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_reach_the_top() {
        assert_eq!(ticks(1.0, 4), [0.0, 0.25, 0.5, 0.75, 1.0]);
        assert_eq!(ticks(3_200.0, 4), [0.0, 1_000.0, 2_000.0, 3_000.0, 4_000.0]);
        assert_eq!(ticks(0.0, 4), [0.0, 1.0]);
        assert!(ticks(f64::NAN, 4).len() == 2);
    }

    #[test]
    fn a_log_scale_ends_on_ticks() {
        let scale = Log::over(230_000.0, 1.7e9, (0.0, 100.0));
        assert_eq!(scale.domain, (200_000.0, 2e9));
        assert_eq!(scale.ticks(), [1e6, 1e7, 1e8, 1e9]);
        assert_eq!(scale.at(1.0), 0.0);
        assert_eq!(scale.at(f64::MAX), 100.0);
        let short = Log::over(1.1e6, 40e6, (0.0, 1.0));
        assert_eq!(short.ticks().len(), 6);
        assert!(Log::over(f64::NAN, f64::NAN, (0.0, 1.0)).at(5.0).is_finite());
    }

    #[test]
    fn labels_are_spread_and_keep_their_order() {
        let placed = spread(&[50.0, 51.0, 10.0], 12.0, 0.0, 100.0);
        assert_eq!(placed, [44.5, 56.5, 10.0]);
        let edge = spread(&[99.0, 98.0], 10.0, 0.0, 100.0);
        assert_eq!(edge, [100.0, 90.0]);
        assert!(spread(&[], 10.0, 0.0, 1.0).is_empty());
    }

    #[test]
    fn seconds_are_whole() {
        assert_eq!(second_ticks(3.0, 6), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(second_ticks(30.0, 6), [0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0]);
    }
}

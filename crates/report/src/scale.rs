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

/// Least pixels between marks without a label.
const MINOR: f64 = 1.8;

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

    /// Values worth a line and a label, where a label takes so many pixels: decades, with 2 and 5
    /// between them where there is room, and else as many of them as there is room for.
    pub(crate) fn ticks(&self, label: f64) -> Vec<f64> {
        let decade = self.decade();
        let steps: &'static [f64] =
            if decade * 2_f64.log10() >= label { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let every = (label / decade).ceil().max(1.0) as usize;
        let ticks: Vec<f64> = self.within(steps).step_by(every).collect();
        match ticks[..] {
            // Too short for decades.
            [] | [_] => vec![self.domain.0, self.domain.1],
            _ => ticks,
        }
    }

    /// Values between those that get a mark without a label, and show that it is logarithmic;
    /// none where they would run together.
    pub(crate) fn minor(&self) -> impl Iterator<Item = f64> {
        let is_clear = self.decade() * (10.0 / 9.0_f64).log10() >= MINOR;
        let steps: &'static [f64] = match is_clear {
            true => &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0],
            false => &[],
        };
        self.within(steps)
    }

    /// Pixels of a decade.
    fn decade(&self) -> f64 {
        let (from, to) = self.inner.range;
        (to - from).abs() / (self.inner.domain.1 - self.inner.domain.0)
    }

    /// The values on it that are one of some steps times a power of ten.
    fn within(&self, steps: &'static [f64]) -> impl Iterator<Item = f64> + use<> {
        let (low, high) = self.domain;
        let exponents = low.log10().floor() as i32..=high.log10().ceil() as i32;
        let all = exponents
            .flat_map(move |exponent| steps.iter().map(move |step| step * 10_f64.powi(exponent)));
        // A whisker of slack: powers of ten are not exact.
        all.filter(move |value| (low * 0.999..=high * 1.001).contains(value))
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
        assert_eq!(scale.at(1.0), 0.0);
        assert_eq!(scale.at(f64::MAX), 100.0);
        assert!(Log::over(f64::NAN, f64::NAN, (0.0, 1.0)).at(5.0).is_finite());
    }

    #[test]
    fn ticks_of_a_log_scale_are_in_equal_ratios_and_leave_room_for_labels() {
        let ticks = |pixels| Log::over(1e6, 1e9, (0.0, pixels)).ticks(15.0);
        assert_eq!(ticks(300.0), [1e6, 2e6, 5e6, 1e7, 2e7, 5e7, 1e8, 2e8, 5e8, 1e9]);
        assert_eq!(ticks(100.0), [1e6, 1e7, 1e8, 1e9]);
        assert_eq!(ticks(30.0), [1e6, 1e8]);
        assert_eq!(Log::over(2e6, 4e6, (0.0, 30.0)).ticks(15.0), [2e6, 5e6]);
        for (low, high) in [(1e3, 1e4), (230.0, 1.7e9), (1.0, 7.0), (40.0, 90.0)] {
            for pixels in [40.0, 160.0, 300.0, 900.0] {
                let scale = Log::over(low, high, (pixels, 0.0));
                let places: Vec<f64> =
                    scale.ticks(15.0).iter().map(|tick| scale.at(*tick)).collect();
                let is_apart = |two: &[f64]| two[0] - two[1] >= 14.9;
                assert!(places.len() >= 2 && places.windows(2).all(is_apart), "{low} {places:?}");
            }
        }
    }

    #[test]
    fn marks_between_ticks_crowd_towards_each_decade() {
        let scale = Log::over(1e6, 1e8, (0.0, 200.0));
        let marks: Vec<f64> = scale.minor().map(|mark| scale.at(mark)).collect();
        assert_eq!(marks.len(), 19);
        let gaps: Vec<f64> = marks.windows(2).map(|two| two[1] - two[0]).collect();
        assert!(gaps[..9].windows(2).all(|two| two[0] > two[1]), "{gaps:?}");
        assert_eq!(Log::over(1e3, 1e9, (0.0, 100.0)).minor().count(), 0);
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

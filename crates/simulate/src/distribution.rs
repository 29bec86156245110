//! Times that are drawn: service times, and what a call spends on its way.

use queueing::Service;
use rand_xoshiro::{
    SplitMix64,
    rand_core::{Rng, SeedableRng},
};

const NS_PER_S: f64 = 1e9;

/// A distribution of times.
#[derive(Clone, Debug, PartialEq)]
pub enum Distribution {
    /// No time at all.
    Zero,
    /// One of those that theory knows.
    Of(Service),
    /// As it was measured.
    Empirical(Empirical),
}

impl Distribution {
    /// Draws a time in nanoseconds. One word of luck decides it, so that a call takes
    /// the same service whichever way it is sent.
    #[inline]
    pub(crate) fn draw_ns(&self, luck: u64) -> f64 {
        match self {
            Self::Zero => 0.0,
            Self::Of(service) => NS_PER_S * draw_s(service, luck),
            Self::Empirical(empirical) => empirical.at_ns(unit(luck)),
        }
    }

    /// Its mean in nanoseconds.
    pub fn mean_ns(&self) -> f64 {
        match self {
            Self::Zero => 0.0,
            Self::Of(service) => NS_PER_S * service.mean_s(),
            Self::Empirical(empirical) => empirical.mean_ns,
        }
    }

    /// The part of the times that are at most `ns`.
    pub fn cdf(&self, ns: f64) -> f64 {
        match self {
            Self::Zero => f64::from(ns >= 0.0),
            Self::Of(service) => service.cdf(ns / NS_PER_S),
            Self::Empirical(empirical) => empirical.cdf(ns),
        }
    }
}

fn draw_s(service: &Service, luck: u64) -> f64 {
    match *service {
        Service::Constant { value_s } => value_s,
        Service::Exponential { mean_s } => -mean_s * unit(luck).ln(),
        Service::Lognormal { mean_s, sigma } => {
            // Box and Muller 1958; the second word follows from the first.
            let angle = std::f64::consts::TAU * unit(SplitMix64::seed_from_u64(luck).next_u64());
            let normal = (-2.0 * unit(luck).ln()).sqrt() * angle.cos();
            mean_s * (sigma * normal - sigma * sigma / 2.0).exp()
        }
        Service::Bimodal { common_s, rare_s, rare_share } => {
            if unit(luck) <= rare_share {
                rare_s
            } else {
                common_s
            }
        }
        Service::Measured(ref measured) => measured.quantile_s(unit(luck)),
    }
}

/// A uniform number in (0, 1] from 53 random bits: its logarithm is finite.
pub(crate) fn unit(random: u64) -> f64 {
    ((random >> 11) + 1) as f64 / (1_u64 << 53) as f64
}

/// A distribution as it was measured: times in order, each with the part of all that
/// are at most this long, and straight lines in between. Where no time was seen the line
/// is flat, so that nothing is drawn there: short calls and rare long ones make no calls
/// of medium length.
#[derive(Clone, Debug, PartialEq)]
pub struct Empirical {
    /// Pairs of nanoseconds and the part up to there, both rising; the last part is 1.
    points: Vec<(f64, f64)>,
    mean_ns: f64,
}

/// How many times were seen between two of them, as a bucket of a histogram has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    /// From this time on, in nanoseconds.
    pub from_ns: f64,
    /// To this one, in nanoseconds.
    pub to_ns: f64,
    /// How many.
    pub count: u64,
}

impl Empirical {
    /// From what was seen where, in any order and without overlap; `None` where nothing was.
    pub fn new(seen: impl IntoIterator<Item = Seen>) -> Option<Self> {
        let mut seen: Vec<_> = seen.into_iter().filter(|one| one.count > 0).collect();
        seen.sort_by(|a, b| a.from_ns.total_cmp(&b.from_ns));
        let all: u64 = seen.iter().map(|one| one.count).sum();
        if all == 0 {
            return None;
        }
        let (mut before, mut mean_ns) = (0, 0.0);
        let mut points = Vec::with_capacity(2 * seen.len());
        for Seen { from_ns, to_ns, count } in seen {
            points.push((from_ns, before as f64 / all as f64));
            before += count;
            points.push((to_ns, before as f64 / all as f64));
            mean_ns += f64::midpoint(from_ns, to_ns) * count as f64 / all as f64;
        }
        Some(Self { points, mean_ns })
    }

    /// Their mean in nanoseconds.
    pub fn mean_ns(&self) -> f64 {
        self.mean_ns
    }

    /// The same with all times so many times as long.
    #[must_use]
    pub fn scaled(&self, factor: f64) -> Self {
        let points = self.points.iter().map(|(ns, part)| (ns * factor, *part)).collect();
        Self { points, mean_ns: self.mean_ns * factor }
    }

    /// The time that a part of all do not exceed.
    pub fn at_ns(&self, part: f64) -> f64 {
        let after = self.points.partition_point(|(_, upto)| *upto < part);
        let after = after.clamp(1, self.points.len() - 1);
        let ((from_ns, from), (to_ns, to)) = (self.points[after - 1], self.points[after]);
        let inside = if to > from { ((part - from) / (to - from)).clamp(0.0, 1.0) } else { 1.0 };
        from_ns + inside * (to_ns - from_ns)
    }

    /// The part of the times that are at most `ns`.
    pub fn cdf(&self, ns: f64) -> f64 {
        let after = self.points.partition_point(|(point_ns, _)| *point_ns <= ns);
        if after == 0 {
            return 0.0;
        }
        if after == self.points.len() {
            return 1.0;
        }
        let ((from_ns, from), (to_ns, to)) = (self.points[after - 1], self.points[after]);
        from + (to - from) * (ns - from_ns) / (to_ns - from_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(distribution: &Distribution) -> Vec<f64> {
        let mut chance = SplitMix64::seed_from_u64(5);
        let mut all: Vec<f64> =
            (0..100_000).map(|_| distribution.draw_ns(chance.next_u64())).collect();
        all.sort_by(f64::total_cmp);
        all
    }

    #[test]
    fn what_is_drawn_has_the_mean_and_the_quantiles_of_its_distribution() {
        let mean_s = 4e-3;
        for service in [
            Service::Exponential { mean_s },
            Service::Lognormal { mean_s, sigma: 0.8 },
            Service::Bimodal { common_s: 1e-3, rare_s: 31e-3, rare_share: 0.1 },
        ] {
            let distribution = Distribution::Of(service.clone());
            let all = draws(&distribution);
            let mean = all.iter().sum::<f64>() / all.len() as f64;
            assert!((mean / distribution.mean_ns() - 1.0).abs() < 0.02, "{service:?}: {mean}");
            for part in [0.25, 0.5, 0.99] {
                let at = all[(part * all.len() as f64) as usize];
                assert!(distribution.cdf(at) > part - 0.01, "{service:?} {part}");
            }
        }
    }

    fn seen(from_ns: f64, to_ns: f64, count: u64) -> Seen {
        Seen { from_ns, to_ns, count }
    }

    #[test]
    fn a_measured_distribution_is_drawn_as_it_was_measured() {
        let ranges = [seen(200.0, 300.0, 1), seen(100.0, 100.0, 2), seen(100.0, 200.0, 1)];
        let empirical = Empirical::new(ranges).unwrap();
        assert_eq!(
            [0.25, 0.5, 0.75, 1.0].map(|part| empirical.at_ns(part)),
            [100.0, 100.0, 200.0, 300.0]
        );
        assert_eq!(
            [99.0, 150.0, 200.0, 400.0].map(|ns| empirical.cdf(ns)),
            [0.0, 0.625, 0.75, 1.0]
        );
        let all = draws(&Distribution::Empirical(empirical.clone()));
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        assert!((mean / Distribution::Empirical(empirical).mean_ns() - 1.0).abs() < 0.01);
        assert_eq!(Empirical::new([]), None);
        assert_eq!(Empirical::new([seen(5.0, 5.0, 0)]), None);
        assert_eq!(Empirical::new([seen(5.0, 5.0, 3)]).unwrap().at_ns(0.3), 5.0);
    }

    /// One call in fifty takes a hundred times as long, and none takes fifty times.
    #[test]
    fn nothing_is_drawn_where_nothing_was_seen() {
        let two = Empirical::new([seen(0.9e6, 1e6, 98), seen(100e6, 101e6, 2)]).unwrap();
        assert!((two.mean_ns - 2.941e6).abs() < 1e3, "{}", two.mean_ns);
        assert_eq!((two.cdf(1e6), two.cdf(50e6), two.cdf(100e6)), (0.98, 0.98, 0.98));
        let all = draws(&Distribution::Empirical(two));
        assert!(all.iter().all(|ns| *ns <= 1e6 || *ns >= 100e6));
    }
}

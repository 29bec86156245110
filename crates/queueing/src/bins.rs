//! Balls in bins: C connections dealt to B backends, each to one that is chosen
//! evenly and by chance, or in turn.
//!
//! An L4 balancer spreads connections, so with equal traffic on each connection
//! these are the shares of calls that the backends get. The counts are
//! multinomial. What is given is exact: chances come from adding backends one at
//! a time, each new one getting a binomial number of the connections so far,
//! and all terms are positive. For the asymptotics, which for a few connections
//! are far off, see M. Raab, A. Steger, *Balls into Bins* (1998).

use crate::{
    Error,
    model::{at_most, positive},
};

/// Most connections, and most backends: the work grows as their product, times
/// the square root of the connections and times the spread of the maximum.
const MOST: usize = 1024;

/// Connections placed by chance.
#[derive(Clone, Debug, PartialEq)]
pub struct RandomPlacement {
    connections: usize,
    backends: usize,
    /// P(the most connections on a backend <= m), for m = 0, 1, ...
    max_at_most: Vec<f64>,
}

impl RandomPlacement {
    /// # Errors
    /// When a number is zero or above 1024.
    pub fn new(connections: u32, backends: u32) -> Result<Self, Error> {
        positive("the number of connections", f64::from(connections))?;
        positive("the number of backends", f64::from(backends))?;
        let connections = at_most("the number of connections", connections as usize, MOST)?;
        let backends = at_most("the number of backends", backends as usize, MOST)?;
        let mut max_at_most = Vec::new();
        for most in 0..=connections {
            let chance = if most * backends < connections {
                0.0
            } else {
                chance_of_at_most(connections, backends, most)
            };
            max_at_most.push(chance);
            if chance > 1.0 - 1e-13 {
                break;
            }
        }
        Ok(Self { connections, backends, max_at_most })
    }

    /// The expected number of connections on the busiest backend.
    fn expected_max(&self) -> f64 {
        self.max_at_most.iter().map(|at_most| 1.0 - at_most).sum()
    }

    /// The expected share of connections on the busiest backend.
    pub fn expected_max_share(&self) -> f64 {
        self.expected_max() / self.connections as f64
    }

    /// The share that the busiest backend has with chance `q` at most: `None`
    /// unless 0 <= q <= 1.
    pub fn max_share_quantile(&self, q: f64) -> Option<f64> {
        if !(0.0..=1.0).contains(&q) {
            return None;
        }
        let most = self.max_at_most.iter().position(|&at_most| at_most >= q - 1e-13);
        Some(most.unwrap_or(self.connections) as f64 / self.connections as f64)
    }

    /// The chance that at least one backend has no connection.
    pub fn chance_of_idle(&self) -> f64 {
        1.0 - self.chance_used(self.backends)
    }

    /// The chance that exactly `used` backends have a connection, by placing one
    /// connection after the other.
    fn chance_used(&self, used: usize) -> f64 {
        if used > self.backends {
            return 0.0;
        }
        let n = self.backends as f64;
        let mut chances = vec![0.0; self.backends + 1];
        chances[0] = 1.0;
        for placed in 0..self.connections {
            for now in (1..=self.backends.min(placed + 1)).rev() {
                let now_f = now as f64;
                chances[now] = chances[now] * now_f / n + chances[now - 1] * (n - now_f + 1.0) / n;
            }
            chances[0] = 0.0;
        }
        chances[used]
    }
}

/// Random subsets: each of N balancers is connected to k of B backends, drawn by chance.
///
/// How many balancers a backend has is binomial, with N draws of k/B each. The backends'
/// numbers are taken as independent of each other, which they nearly are: together they
/// have N k connections.
#[derive(Clone, Debug, PartialEq)]
pub struct RandomSubsets {
    balancers: u32,
    backends: u32,
    size: u32,
    /// P(a backend has at most m balancers), for m = 0, 1, ... N.
    at_most: Vec<f64>,
}

impl RandomSubsets {
    /// # Errors
    /// When a number is zero, when there are more than 1024 balancers or backends, or fewer
    /// backends than a subset has.
    pub fn new(balancers: u32, backends: u32, size: u32) -> Result<Self, Error> {
        positive("the number of balancers", f64::from(balancers))?;
        positive("the size of a subset", f64::from(size))?;
        at_most("the number of balancers", balancers as usize, MOST)?;
        at_most("the number of backends", backends as usize, MOST)?;
        at_most("the size of a subset", size as usize, backends as usize)?;
        let (n, p) = (f64::from(balancers), f64::from(size) / f64::from(backends));
        let mut sum = 0.0;
        let mut term = if size < backends { (n * (-p).ln_1p()).exp() } else { 0.0 };
        let chance = |m: u32| {
            sum += term;
            // Each term from the one before; of all backends only the last one is left.
            term *= (n - f64::from(m)) / f64::from(m + 1) * p / (1.0 - p);
            if m == balancers { 1.0 } else { f64::min(sum, 1.0) }
        };
        let at_most = if size < backends {
            (0..=balancers).map(chance).collect()
        } else {
            (0..=balancers).map(|m| f64::from(u8::from(m == balancers))).collect()
        };
        Ok(Self { balancers, backends, size, at_most })
    }

    /// The expected share of the busiest backend, where balancers have as many calls each
    /// and their subsets as many of them each.
    pub fn expected_max_share(&self) -> f64 {
        let all = |at_most: &f64| at_most.powf(f64::from(self.backends));
        let most: f64 = self.at_most.iter().map(|at_most| 1.0 - all(at_most)).sum();
        most / (f64::from(self.balancers) * f64::from(self.size))
    }

    /// The expected number of backends that no balancer is connected to.
    pub fn expected_unused(&self) -> f64 {
        f64::from(self.backends) * self.at_most[0]
    }
}

/// Connections placed in turn: nothing is left to chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TurnPlacement {
    /// Connections on the busiest backend.
    pub max: u32,
    /// Connections on the idlest backend.
    pub min: u32,
    /// Backends with a connection.
    pub used: u32,
}

impl TurnPlacement {
    /// # Errors
    /// When a number is zero.
    pub fn new(connections: u32, backends: u32) -> Result<Self, Error> {
        positive("the number of connections", f64::from(connections))?;
        positive("the number of backends", f64::from(backends))?;
        Ok(Self {
            max: connections.div_ceil(backends),
            min: connections / backends,
            used: connections.min(backends),
        })
    }

    /// The share of connections on the busiest backend.
    pub fn max_share(&self, connections: u32) -> f64 {
        f64::from(self.max) / f64::from(connections)
    }
}

/// P(no backend has more than `most`).
///
/// With f_b(c) that chance for c connections on b backends, the last of the b
/// backends has i of the c with the binomial chance of 1/b each: f_b(c) = Σ_{i <=
/// most} binom(c, i) (1/b)^i (1 - 1/b)^(c - i) f_{b-1}(c - i).
fn chance_of_at_most(connections: usize, backends: usize, most: usize) -> f64 {
    let mut f: Vec<f64> = (0..=connections).map(|c| f64::from(u8::from(c <= most))).collect();
    for b in 2..=backends {
        let p = 1.0 / b as f64;
        let next = (0..=connections)
            .map(|c| {
                // (1 - p)^c and up, each term from the one before.
                let mut term = (c as f64 * (-p).ln_1p()).exp();
                let mut sum = 0.0;
                for i in 0..=most.min(c) {
                    sum += term * f[c - i];
                    term *= (c - i) as f64 / (i + 1) as f64 * p / (1.0 - p);
                    if term < 1e-18 && i as f64 > c as f64 * p {
                        break;
                    }
                }
                sum
            })
            .collect();
        f = next;
    }
    f[connections].min(1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Ten balancers with 4 of 20 backends each: 0.8^10 of the backends have none.
    #[test]
    fn random_subsets_leave_backends_out_and_crowd_others() {
        let subsets = RandomSubsets::new(10, 20, 4).unwrap();
        assert!((subsets.expected_unused() - 20.0 * 0.8_f64.powi(10)).abs() < 1e-9);
        // Two balancers each would be a share of 1/20; the busiest has between four and five.
        let most = subsets.expected_max_share() * 40.0;
        assert!((4.0..5.0).contains(&most), "{most}");
        let all = RandomSubsets::new(10, 20, 20).unwrap();
        assert_eq!((all.expected_unused(), all.expected_max_share()), (0.0, 0.05));
        assert!(RandomSubsets::new(10, 20, 21).is_err() && RandomSubsets::new(0, 20, 2).is_err());
    }

    /// All ways to place the connections, counted one by one.
    fn enumerate(connections: u32, backends: usize) -> (f64, f64) {
        let ways = backends.pow(connections);
        let (mut max, mut idle) = (0, 0);
        for way in 0..ways {
            let mut counts = vec![0; backends];
            let mut rest = way;
            for _ in 0..connections {
                counts[rest % backends] += 1;
                rest /= backends;
            }
            max += counts.iter().max().unwrap();
            idle += usize::from(counts.contains(&0));
        }
        let ways = ways as f64;
        (f64::from(max) / ways, idle as f64 / ways)
    }

    #[test]
    fn small_cases_are_those_counted_one_by_one() {
        for (connections, backends) in [(1, 1), (1, 4), (2, 2), (4, 4), (7, 3), (8, 4), (5, 5)] {
            let (max, idle) = enumerate(connections, backends as usize);
            let placed = RandomPlacement::new(connections, backends).unwrap();
            assert!((placed.expected_max() - max).abs() < 1e-12, "{connections} {backends}");
            assert!((placed.chance_of_idle() - idle).abs() < 1e-12);
        }
    }

    #[test]
    fn four_connections_on_four_backends_are_the_birthday_problem() {
        let placed = RandomPlacement::new(4, 4).unwrap();
        assert!((placed.max_at_most[1] - 24.0 / 256.0).abs() < 1e-12);
        assert!((placed.chance_of_idle() - (1.0 - 24.0 / 256.0)).abs() < 1e-12);
        assert_eq!(placed.max_share_quantile(0.05), Some(0.25));
        assert_eq!(placed.max_share_quantile(1.0), Some(1.0));
        assert_eq!(placed.max_share_quantile(1.1), None);
        // 23 people have a common birthday with chance 0.507297.
        let people = RandomPlacement::new(23, 365).unwrap();
        assert!((1.0 - people.max_at_most[1] - 0.507_297_234_323_985).abs() < 1e-12);
    }

    #[test]
    fn turns_leave_nothing_to_chance() {
        let turns = TurnPlacement::new(5, 4).unwrap();
        assert_eq!((turns.max, turns.min, turns.used), (2, 1, 4));
        assert!((turns.max_share(5) - 0.4).abs() < 1e-15);
        let few = TurnPlacement::new(3, 4).unwrap();
        assert_eq!((few.max, few.min, few.used), (1, 0, 3));
        assert!(TurnPlacement::new(0, 4).is_err());
        assert!(RandomPlacement::new(1, 0).is_err());
        assert!(RandomPlacement::new(1025, 4).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn chances_are_whole_and_the_busiest_has_at_least_its_turn(
            connections in 1_u32..200,
            backends in 1_u32..40,
        ) {
            let placed = RandomPlacement::new(connections, backends).unwrap();
            let whole: f64 = (0..=backends as usize).map(|used| placed.chance_used(used)).sum();
            prop_assert!((whole - 1.0).abs() < 1e-12);
            let turns = TurnPlacement::new(connections, backends).unwrap();
            prop_assert!(placed.expected_max() >= f64::from(turns.max) - 1e-9);
            prop_assert!(placed.max_at_most.is_sorted());
            prop_assert!(placed.expected_max_share() <= 1.0);
        }
    }
}

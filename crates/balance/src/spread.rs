//! Which of several balancers a client's connection comes to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::chance::{below, next_word};

/// How client connections are spread over the balancers of a fleet. Each stays with its
/// balancer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Spread {
    /// In turn, as a DNS server gives out addresses: as many to each.
    #[default]
    RoundRobin,
    /// By a hash, as an L4 balancer or a router with several paths (ECMP) before the
    /// fleet does: some balancers get more than others.
    Hash,
}

impl Spread {
    /// Its name in scenarios.
    pub fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::Hash => "hash",
        }
    }

    /// The balancer, of `balancers` and from zero, that connection number `connection`
    /// comes to. Another seed makes another hash. There is at least one balancer.
    pub fn balancer(self, connection: u32, balancers: u32, seed: u64) -> u32 {
        match self {
            Self::RoundRobin => connection % balancers,
            // Below a number of 32 bits.
            Self::Hash => {
                below(next_word(seed ^ next_word(connection.into())), balancers.into()) as u32
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections_of(spread: Spread, connections: u32, seed: u64) -> [u32; 4] {
        let mut counts = [0; 4];
        for connection in 0..connections {
            counts[spread.balancer(connection, 4, seed) as usize] += 1;
        }
        counts
    }

    #[test]
    fn in_turn_each_gets_as_many_and_by_a_hash_about_as_many() {
        assert_eq!(connections_of(Spread::RoundRobin, 10, 1), [3, 3, 2, 2]);
        let hashed = connections_of(Spread::Hash, 4_000, 1);
        // Five standard deviations of a fair draw are 137.
        assert!(hashed.iter().all(|count| (863..1_137).contains(count)), "{hashed:?}");
        assert_eq!(connections_of(Spread::Hash, 4_000, 1), hashed);
        assert_ne!(connections_of(Spread::Hash, 4_000, 2), hashed);
    }
}

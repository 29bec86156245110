//! Who of a fleet is connected to whom: the ways to choose a subset of the backends for
//! each balancer, or each client, of many.
//!
//! Random subsets need to know nothing of the others and are even by chance only. The
//! other ways take the balancer's number among all of them, and are as even as the numbers
//! allow; they differ in how many connections move when a backend or a balancer comes or
//! goes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    chance::{below, next_word},
    subset::subset,
};

/// How the subset of a balancer is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Subsetting {
    /// By chance, from the names of backend and balancer: rendezvous hashing, as gRPC's
    /// `random_subsetting` does (gRFC A68).
    #[default]
    Random,
    /// In rounds: the balancers of a round share out one shuffled list of the backends
    /// ("Site Reliability Engineering", chapter 20).
    Deterministic,
    /// As a window on a ring of the backends that begins where the balancer stands on a
    /// ring of the balancers. A backend at its edge is used as far as it is within:
    /// Twitter's deterministic aperture.
    Aperture,
    /// In lots of ten balancers, which share out the shuffled lots of the backends: Google's
    /// Rocksteadier subsetting (Ward, Wankadia and Guliani, ACM Queue 20(5), 2022).
    Rocksteadier,
}

/// To how many of the backends a balancer is limited, and how they are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Subset {
    /// How many; at least one.
    pub size: u32,
    /// How they are chosen.
    pub subsetting: Subsetting,
}

/// Which of a fleet's balancers chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chooser {
    /// Its number, from zero.
    pub number: u32,
    /// How many there are; more than its number.
    pub of: u32,
    /// Another one makes other random subsets.
    pub salt: u64,
}

/// A backend of a subset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Its index in the list of all.
    pub index: usize,
    /// How much of it is the balancer's, beside the other backends of the subset; 1 where
    /// all are alike.
    pub weight: u32,
}

/// Balancers, and backends, of a lot in Rocksteadier subsetting.
const LOT: usize = 10;

impl Subset {
    /// The backends of the subset, in the order of their indices: as many as its size, or
    /// all if there are no more. [`Subsetting::Deterministic`] and [`Subsetting::Aperture`]
    /// may choose some more, to leave none out. `names` are those of all backends; the same
    /// list gives the same subsets anywhere and at any time.
    pub fn choose(self, names: &[&str], own: Chooser) -> Vec<Chosen> {
        let alike = |index| Chosen { index, weight: 1 };
        let (count, size) = (names.len(), self.size as usize);
        if size >= count {
            return (0..count).map(alike).collect();
        }
        let (number, of) = (own.number as usize, own.of as usize);
        let mut chosen = match self.subsetting {
            Subsetting::Random => {
                let name = format!("{}-{number}", own.salt);
                subset(names.iter().copied(), size, &name)
            }
            Subsetting::Deterministic => in_rounds(count, size, number),
            Subsetting::Aperture => return window(count, size, number, of),
            Subsetting::Rocksteadier => in_lots(count, size, number, of),
        };
        chosen.sort_unstable();
        chosen.into_iter().map(alike).collect()
    }
}

impl Subsetting {
    /// All of them; the tests walk this list.
    pub const ALL: [Self; 4] =
        [Self::Random, Self::Deterministic, Self::Aperture, Self::Rocksteadier];

    /// Its name in scenarios.
    pub fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Deterministic => "deterministic",
            Self::Aperture => "aperture",
            Self::Rocksteadier => "rocksteadier",
        }
    }
}

/// The part of a list, shuffled for its round, that falls to balancer `number`. Where the
/// backends don't divide evenly, some parts have one more.
fn in_rounds(count: usize, size: usize, number: usize) -> Vec<usize> {
    let parts = count / size;
    let (round, part) = (number / parts, number % parts);
    let shuffled = shuffled(count, round as u64);
    shuffled[part * count / parts..(part + 1) * count / parts].to_vec()
}

/// The backends within a window of the ring. It has the width of as many places of
/// balancers as hold `size` backends, so that each point of the ring is within equally many
/// windows. Distances are whole: a backend is `of` long and a balancer's place `count`.
fn window(count: usize, size: usize, number: usize, of: usize) -> Vec<Chosen> {
    let places = (size * of).div_ceil(count);
    let (start, length) = (number * count, places * count);
    let overlap = |backend: usize| {
        // The window may reach over the end of the ring.
        [0, count * of].into_iter().map(move |turn| {
            let (from, to) = (backend * of + turn, (backend + 1) * of + turn);
            to.min(start + length).saturating_sub(from.max(start))
        })
    };
    let within = (0..count).map(|backend| (backend, overlap(backend).sum::<usize>()));
    let within: Vec<(usize, usize)> = within.filter(|(_, length)| *length > 0).collect();
    let unit = within.iter().fold(0, |unit, (_, length)| gcd(unit, *length));
    let weight = |length: usize| u32::try_from(length / unit).unwrap_or(u32::MAX);
    within.into_iter().map(|(index, length)| Chosen { index, weight: weight(length) }).collect()
}

/// One backend of each lot of them, at the balancer's own place in the lot as its own lot
/// of balancers has shuffled it; from the lot on that is next to its own lot on the ring,
/// and one place further after each turn around.
///
/// Lots stand on the ring by the van der Corput sequence, so that another lot of backends
/// moves few of them. A lot is no larger than the fleet: of one that is filled in part some
/// backends would be nobody's.
fn in_lots(count: usize, size: usize, number: usize, of: usize) -> Vec<usize> {
    let length = LOT.min(of);
    let (own_lot, place) = (number / length, number % length);
    let mut lots: Vec<usize> = (0..count.div_ceil(length)).collect();
    let start = van_der_corput(own_lot);
    lots.sort_unstable_by_key(|lot| van_der_corput(*lot).wrapping_sub(start));
    let shuffled: Vec<Vec<usize>> =
        lots.iter().map(|lot| shuffled(length, next_word(own_lot as u64) ^ *lot as u64)).collect();
    let turns = (0..length).map(|turn| (place + turn) % length);
    turns
        .flat_map(|place| {
            lots.iter().zip(&shuffled).map(move |(lot, order)| lot * length + order[place])
        })
        // The last lot has places that nobody fills.
        .filter(|backend| *backend < count)
        .take(size)
        .collect()
}

/// Element `index` of the binary van der Corput sequence, as a part of `u64::MAX + 1`.
fn van_der_corput(index: usize) -> u64 {
    (index as u64).reverse_bits()
}

/// All indices below `count` in an order that follows from `seed` (Fisher and Yates).
fn shuffled(count: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut word = next_word(seed);
    for last in (1..count).rev() {
        word = next_word(word);
        order.swap(last, below(word, last as u64 + 1) as usize);
    }
    order
}

fn gcd(one: usize, other: usize) -> usize {
    if other == 0 { one } else { gcd(other, one % other) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The part of all calls that each backend gets, over its even share, where each
    /// balancer has an equal part of them and sends it to its subset by weight.
    fn loads(subsetting: Subsetting, balancers: u32, backends: usize, size: u32) -> Vec<f64> {
        let names: Vec<String> = (0..backends).map(|index| format!("b{index}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut loads = vec![0.0; backends];
        for number in 0..balancers {
            let own = Chooser { number, of: balancers, salt: 1 };
            let chosen = Subset { size, subsetting }.choose(&names, own);
            let sum: u32 = chosen.iter().map(|one| one.weight).sum();
            for one in chosen {
                let part = f64::from(one.weight) / f64::from(sum) / f64::from(balancers);
                loads[one.index] += part * backends as f64;
            }
        }
        loads
    }

    fn extremes(loads: &[f64]) -> (f64, f64) {
        loads
            .iter()
            .fold((f64::INFINITY, 0.0), |(low, high), load| (low.min(*load), high.max(*load)))
    }

    /// Figures 20-3 and 20-5 of the book: by chance the busiest backend has a fifth more
    /// connections than the mean and the idlest a third less, or worse; in rounds all have
    /// as many.
    #[test]
    fn three_hundred_by_three_hundred_come_out_as_published() {
        let (low, high) = extremes(&loads(Subsetting::Random, 300, 300, 90));
        assert!((0.5..0.8).contains(&low) && (1.15..1.35).contains(&high), "{low} {high}");
        let (low, high) = extremes(&loads(Subsetting::Deterministic, 300, 300, 10));
        assert!((low - 1.0).abs() < 1e-9 && (high - 1.0).abs() < 1e-9, "{low} {high}");
    }

    #[test]
    fn whatever_divides_is_even() {
        for subsetting in [Subsetting::Deterministic, Subsetting::Rocksteadier] {
            let (low, high) = extremes(&loads(subsetting, 10, 20, 4));
            assert!((low - 1.0).abs() < 1e-9 && (high - 1.0).abs() < 1e-9, "{subsetting:?}");
        }
        let (low, high) = extremes(&loads(Subsetting::Random, 10, 20, 4));
        assert!(low < 0.6 && high > 1.4, "by chance: {low} {high}");
    }

    /// The subset of balancer 7 of 20 before and after the 41st backend.
    #[test]
    fn a_backend_more_moves_few_where_that_is_what_it_is_for() {
        let moved = |subsetting: Subsetting| {
            let choose = |count: usize, number| {
                let names: Vec<String> = (0..count).map(|index| format!("b{index}")).collect();
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let own = Chooser { number, of: 20, salt: 1 };
                let chosen = Subset { size: 8, subsetting }.choose(&names, own);
                chosen.into_iter().map(|one| one.index).collect::<Vec<_>>()
            };
            (0..20)
                .map(|number| {
                    let (before, after) = (choose(40, number), choose(41, number));
                    before.iter().filter(|index| !after.contains(index)).count()
                })
                .sum::<usize>()
        };
        // 160 connections in all; a 41st of them is 4.
        let [random, deterministic, _, rocksteadier] = Subsetting::ALL.map(moved);
        assert!(random <= 20 && rocksteadier <= 20, "{random} {rocksteadier}");
        assert!(deterministic > 80, "{deterministic}");
    }

    proptest! {
        #[test]
        fn an_aperture_is_even_whatever_the_numbers(
            balancers in 1_u32..30, backends in 1_usize..60, size in 1_u32..20,
        ) {
            let (low, high) = extremes(&loads(Subsetting::Aperture, balancers, backends, size));
            prop_assert!((low - 1.0).abs() < 1e-9 && (high - 1.0).abs() < 1e-9, "{} {}", low, high);
        }

        #[test]
        fn a_subset_has_its_size_and_nobody_twice(
            balancers in 1_u32..30, backends in 1_usize..60, size in 1_u32..20, number in 0_u32..30,
        ) {
            let names: Vec<String> = (0..backends).map(|index| format!("b{index}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let own = Chooser { number: number % balancers, of: balancers, salt: 1 };
            let most = backends.min(size as usize);
            for subsetting in Subsetting::ALL {
                let chosen = Subset { size, subsetting }.choose(&names, own);
                let indices: Vec<usize> = chosen.iter().map(|one| one.index).collect();
                prop_assert!(indices.windows(2).all(|two| two[0] < two[1]));
                prop_assert!(indices.iter().all(|index| *index < backends));
                prop_assert!(chosen.iter().all(|one| one.weight > 0));
                prop_assert!(chosen.len() >= most, "{:?}", subsetting);
                if matches!(subsetting, Subsetting::Random | Subsetting::Rocksteadier) {
                    prop_assert_eq!(chosen.len(), most);
                }
                prop_assert_eq!(Subset { size, subsetting }.choose(&names, own), chosen);
            }
        }
    }
}

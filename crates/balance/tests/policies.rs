//! What every policy owes, and what each one promises.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{sync::Arc, thread};

use balance::{Backend, BalanceError, Balancer, PickInput, PolicyKind, SplitMix64, Tried};
use proptest::prelude::*;

const KEYS: u64 = 20_000;

fn backends(weights: &[u32]) -> Vec<Arc<Backend>> {
    weights
        .iter()
        .enumerate()
        .map(|(index, &weight)| Arc::new(Backend::new(format!("backend-{index}"), weight)))
        .collect()
}

fn balancer(kind: PolicyKind, weights: &[u32]) -> Balancer {
    Balancer::new(kind, backends(weights)).unwrap()
}

/// Picks `picks` times with fresh randomness and keys; loads stay at zero.
fn count(balancer: &Balancer, picks: u64) -> Vec<u64> {
    let mut chance = SplitMix64::new(5);
    let mut counts = vec![0; balancer.backends().len()];
    for _ in 0..picks {
        let input =
            PickInput { random: chance.next_u64(), now_ns: 0, key: Some(chance.next_u64()) };
        counts[balancer.pick(&input, &Tried::default()).unwrap()] += 1;
    }
    counts
}

fn weighted_lists() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(1_u32..6, 2..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn shares_converge_to_weights(weights in weighted_lists()) {
        let sum = f64::from(weights.iter().sum::<u32>());
        // How far a share may be off, relative to itself. A ring's points are
        // placed by chance, so its shares are rougher by design.
        for (kind, tolerance) in [
            (PolicyKind::RoundRobin, 0.001),
            (PolicyKind::Random, 0.10),
            (PolicyKind::Maglev, 0.10),
            (PolicyKind::RingHash, 0.45),
        ] {
            let picks = 60_000;
            let counts = count(&balancer(kind, &weights), picks);
            for (count, &weight) in counts.iter().zip(&weights) {
                let share = *count as f64 / picks as f64;
                let wanted = f64::from(weight) / sum;
                prop_assert!(
                    (share - wanted).abs() <= tolerance * wanted + 1.0 / 1_000.0,
                    "{kind}: share {share} for weight {weight} of {sum}"
                );
            }
        }
    }

    #[test]
    fn loads_converge_to_weights_when_calls_stay(weights in weighted_lists()) {
        let sum = f64::from(weights.iter().sum::<u32>());
        for (kind, tolerance) in [(PolicyKind::LeastLoaded, 0.02), (PolicyKind::P2c, 0.05)] {
            let balancer = balancer(kind, &weights);
            let mut chance = SplitMix64::new(9);
            let calls = 20_000;
            for _ in 0..calls {
                let input = PickInput { random: chance.next_u64(), now_ns: 0, key: None };
                let index = balancer.pick(&input, &Tried::default()).unwrap();
                balancer.backends()[index].begin();
            }
            for (backend, &weight) in balancer.backends().iter().zip(&weights) {
                let share = f64::from(backend.in_flight()) / f64::from(calls);
                let wanted = f64::from(weight) / sum;
                prop_assert!((share - wanted).abs() <= tolerance * wanted + 0.001, "{kind}: {share} for {wanted}");
            }
        }
    }

    #[test]
    fn round_robin_is_exact_over_any_window(weights in weighted_lists(), skip in 0_u64..50) {
        let balancer = balancer(PolicyKind::RoundRobin, &weights);
        count(&balancer, skip);
        let cycle: u32 = weights.iter().sum();
        let counts = count(&balancer, u64::from(cycle) * 3);
        for (count, &weight) in counts.iter().zip(&weights) {
            prop_assert_eq!(*count, u64::from(weight) * 3);
        }
    }

    #[test]
    fn nobody_away_or_tried_is_picked(
        kind in prop::sample::select(PolicyKind::ALL.to_vec()),
        states in prop::collection::vec((1_u32..4, any::<bool>(), any::<bool>(), 0_u32..5), 1..9),
        seed in any::<u64>(),
    ) {
        let weights: Vec<u32> = states.iter().map(|state| state.0).collect();
        let balancer = balancer(kind, &weights);
        let mut tried = Tried::default();
        for (index, (backend, state)) in balancer.backends().iter().zip(&states).enumerate() {
            backend.set_available(state.1);
            if state.2 {
                tried.insert(index);
            }
            (0..state.3).for_each(|_| backend.begin());
        }
        let any_left = states.iter().any(|state| state.1 && !state.2);
        let mut chance = SplitMix64::new(seed);
        for _ in 0..64 {
            let input = PickInput {
                random: chance.next_u64(),
                now_ns: 1,
                key: Some(chance.next_u64()),
            };
            match balancer.pick(&input, &tried) {
                Some(index) => {
                    prop_assert!(states[index].1 && !states[index].2, "{kind} picked {index}");
                }
                None => prop_assert!(!any_left, "{kind} found nobody"),
            }
        }
    }

    #[test]
    fn hash_policies_move_only_what_must_move(leaver in 0_usize..8) {
        // On a ring no key moves but the leaver's. A Maglev table is filled
        // anew, and a few percent of the others' entries change hands.
        for (kind, moved_limit) in [(PolicyKind::RingHash, 0.0), (PolicyKind::Maglev, 0.04)] {
            let all = backends(&[1; 8]);
            let mut rest = all.clone();
            rest.remove(leaver);
            let before = Balancer::new(kind, all).unwrap();
            let after = Balancer::new(kind, rest).unwrap();
            let owner = |balancer: &Balancer, key| {
                let input = PickInput { random: 0, now_ns: 0, key: Some(key) };
                let index = balancer.pick(&input, &Tried::default()).unwrap();
                balancer.backends()[index].name().to_owned()
            };
            let left = format!("backend-{leaver}");
            let mut chance = SplitMix64::new(11);
            let moved = (0..KEYS)
                .map(|_| chance.next_u64())
                .filter(|&key| {
                    let old = owner(&before, key);
                    old != left && old != owner(&after, key)
                })
                .count();
            prop_assert!(moved as f64 <= moved_limit * KEYS as f64, "{kind}: {moved} keys moved");
        }
    }
}

#[test]
fn a_key_stays_with_its_backend() {
    for kind in PolicyKind::ALL.into_iter().filter(|kind| kind.uses_key()) {
        let balancer = balancer(kind, &[1, 2, 3]);
        for key in 0..100 {
            let owners: Vec<_> = (0..5)
                .map(|random| {
                    let input = PickInput { random, now_ns: random, key: Some(key) };
                    balancer.pick(&input, &Tried::default())
                })
                .collect();
            assert!(owners.windows(2).all(|pair| pair[0] == pair[1]), "{kind}: {owners:?}");
        }
    }
}

#[test]
fn without_a_key_hash_policies_still_spread() {
    for kind in PolicyKind::ALL.into_iter().filter(|kind| kind.uses_key()) {
        let balancer = balancer(kind, &[1; 4]);
        let mut chance = SplitMix64::new(3);
        let mut counts = [0; 4];
        for _ in 0..8_000 {
            let input = PickInput { random: chance.next_u64(), now_ns: 0, key: None };
            counts[balancer.pick(&input, &Tried::default()).unwrap()] += 1;
        }
        assert!(counts.iter().all(|&count| count > 1_000), "{kind}: {counts:?}");
    }
}

#[test]
fn round_robin_is_exact_over_threads() {
    let balancer = balancer(PolicyKind::RoundRobin, &[1; 4]);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10_001 {
                    let input = PickInput { random: 0, now_ns: 0, key: None };
                    let index = balancer.pick(&input, &Tried::default()).unwrap();
                    balancer.backends()[index].begin();
                }
            });
        }
    });
    let counts: Vec<u32> = balancer.backends().iter().map(|backend| backend.in_flight()).collect();
    assert_eq!(counts, [10_001; 4]);
}

#[test]
fn weights_are_interleaved_and_not_served_in_a_row() {
    let balancer = balancer(PolicyKind::RoundRobin, &[4, 1, 1]);
    let order: Vec<usize> = (0..6)
        .map(|_| {
            let input = PickInput { random: 0, now_ns: 0, key: None };
            balancer.pick(&input, &Tried::default()).unwrap()
        })
        .collect();
    assert_eq!(order, [0, 0, 1, 0, 2, 0], "nginx's order for weights 4, 1, 1");
}

#[test]
fn two_choices_keep_the_longest_queue_far_shorter_than_one() {
    let longest = |kind| {
        let balancer = balancer(kind, &[1; 64]);
        let mut chance = SplitMix64::new(17);
        for _ in 0..64 * 8 {
            let input = PickInput { random: chance.next_u64(), now_ns: 0, key: None };
            let index = balancer.pick(&input, &Tried::default()).unwrap();
            balancer.backends()[index].begin();
        }
        balancer.backends().iter().map(|backend| backend.in_flight()).max().unwrap()
    };
    assert_eq!(longest(PolicyKind::LeastLoaded), 8);
    assert!(longest(PolicyKind::P2c) <= 11);
    assert!(longest(PolicyKind::Random) >= 13);
}

#[test]
fn peak_ewma_turns_away_from_a_slow_backend() {
    let balancer = balancer(PolicyKind::PeakEwma, &[1; 2]);
    let mut chance = SplitMix64::new(23);
    let mut slow_calls = 0;
    for call in 0..1_000_u64 {
        let now_ns = call * 1_000_000;
        let input = PickInput { random: chance.next_u64(), now_ns, key: None };
        let index = balancer.pick(&input, &Tried::default()).unwrap();
        let backend = &balancer.backends()[index];
        backend.begin();
        backend.finish(now_ns, Some(if index == 0 { 50_000_000 } else { 1_000_000 }));
        slow_calls += u64::from(index == 0);
    }
    assert!(slow_calls < 50, "{slow_calls} of 1,000 calls went to the slow backend");
}

#[test]
fn lists_that_cannot_be_balanced_are_refused() {
    for kind in PolicyKind::ALL {
        assert_eq!(Balancer::new(kind, vec![]).unwrap_err(), BalanceError::NoBackend);
        assert!(matches!(
            Balancer::new(kind, backends(&[1, 0])),
            Err(BalanceError::ZeroWeight(name)) if name == "backend-1"
        ));
        let twice = vec![Arc::new(Backend::new("a", 1)), Arc::new(Backend::new("a", 2))];
        assert!(matches!(Balancer::new(kind, twice), Err(BalanceError::Duplicate(_))));
    }
    let uneven = Balancer::new(PolicyKind::RoundRobin, backends(&[1, 1_000_000]));
    assert!(matches!(uneven, Err(BalanceError::WeightsTooFine { .. })));
    // Large weights with a large common factor are fine.
    Balancer::new(PolicyKind::RoundRobin, backends(&[3_000_000, 1_000_000])).unwrap();
}

//! What every policy owes, and what each one promises.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{sync::Arc, thread};

use balance::{Backend, BalanceError, Balancer, PickInput, PolicyKind, Tried};
use proptest::prelude::*;
use rand_xoshiro::{
    SplitMix64,
    rand_core::{Rng, SeedableRng},
};

const KEYS: u64 = 20_000;

fn backends(weights: &[u32]) -> Vec<Arc<Backend>> {
    weights
        .iter()
        .enumerate()
        .map(|(index, &weight)| Arc::new(Backend::new(format!("backend-{index}"), weight)))
        .collect()
}

fn balancer(kind: PolicyKind, weights: &[u32]) -> Balancer {
    Balancer::new(kind, backends(weights), 7).unwrap()
}

/// Picks `picks` times with fresh randomness and keys; loads stay at zero.
fn count(balancer: &Balancer, picks: u64) -> Vec<u64> {
    let mut chance = SplitMix64::seed_from_u64(5);
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

/// Weights, and which of the backends are out; at least one is in.
fn weights_and_outages() -> impl Strategy<Value = Vec<(u32, bool)>> {
    prop::collection::vec((1_u32..4, any::<bool>()), 2..9)
        .prop_filter("one is in", |list| list.iter().any(|(_, is_out)| !is_out))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_share_of_those_that_are_out_falls_to_the_others_by_weight(list in weights_and_outages()) {
        let weights: Vec<u32> = list.iter().map(|(weight, _)| *weight).collect();
        let sum: u32 = list.iter().filter(|(_, is_out)| !is_out).map(|(weight, _)| weight).sum();
        for kind in PolicyKind::ALL {
            let balancer = balancer(kind, &weights);
            for (backend, (_, is_out)) in balancer.backends().iter().zip(&list) {
                backend.set_available(!is_out);
            }
            // Loads stay equal, so that those who go by load go by weight.
            let cycles = 400;
            let counts = count(&balancer, u64::from(sum * cycles));
            // How far a share may be off, relative to itself, and five standard
            // deviations of a fair draw on top. What a ring does with the keys of
            // one that is out is as rough as its shares are.
            let tolerance = match kind {
                PolicyKind::RoundRobin => None,
                PolicyKind::RingHash => Some(0.45),
                PolicyKind::Maglev => Some(0.10),
                _ => Some(0.0),
            };
            for (count, (weight, is_out)) in counts.iter().zip(&list) {
                let wanted = if *is_out { 0 } else { u64::from(weight * cycles) };
                let spread = 5.0 * (wanted as f64).sqrt();
                let bound = tolerance.map_or(0.0, |part| part * wanted as f64 + spread);
                prop_assert!(
                    (*count as f64 - wanted as f64).abs() <= bound,
                    "{kind}: {counts:?} for {list:?}"
                );
            }
        }
    }

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
        for (kind, tolerance) in
            [(PolicyKind::LeastLoaded, 0.02), (PolicyKind::P2c, 0.05), (PolicyKind::P3c, 0.05)]
        {
            let balancer = balancer(kind, &weights);
            let mut chance = SplitMix64::seed_from_u64(9);
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
    fn turns_are_spread_over_the_round(weights in weighted_lists(), random in any::<u64>()) {
        let balancer =
            Balancer::new(PolicyKind::RoundRobin, backends(&weights), random).unwrap();
        let rounds = 2 * weights.iter().sum::<u32>();
        let turns: Vec<usize> = (0..rounds).map(|_| turn(&balancer)).collect();
        // Between two turns of one backend, each other one has its share of them.
        for (own, weight) in weights.iter().enumerate() {
            let places: Vec<_> = (0..turns.len()).filter(|place| turns[*place] == own).collect();
            for between in places.windows(2).map(|pair| &turns[pair[0] + 1..pair[1]]) {
                for (other, its) in weights.iter().enumerate().filter(|(other, _)| *other != own) {
                    let count = between.iter().filter(|index| **index == other).count() as u32;
                    prop_assert!(
                        count == its / weight || count == its.div_ceil(*weight),
                        "{turns:?} for {weights:?}"
                    );
                }
            }
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
        let mut chance = SplitMix64::seed_from_u64(seed);
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
    fn who_is_idle_is_joined_before_who_is_not(
        states in prop::collection::vec((1_u32..4, any::<bool>(), 0_u32..3), 1..9),
        seed in any::<u64>(),
    ) {
        let weights: Vec<u32> = states.iter().map(|state| state.0).collect();
        let balancer = balancer(PolicyKind::JoinIdleQueue, &weights);
        for (backend, (_, is_out, in_flight)) in balancer.backends().iter().zip(&states) {
            backend.set_available(!is_out);
            (0..*in_flight).for_each(|_| backend.begin());
        }
        let is_idle = |(_, is_out, in_flight): &(u32, bool, u32)| !is_out && *in_flight == 0;
        let any_idle = states.iter().any(is_idle);
        let mut chance = SplitMix64::seed_from_u64(seed);
        for _ in 0..64 {
            let input = PickInput { random: chance.next_u64(), now_ns: 1, key: None };
            let picked = balancer.pick(&input, &Tried::default());
            let joined = picked.is_some_and(|index| is_idle(&states[index]));
            prop_assert!(joined == any_idle, "{picked:?} of {states:?}");
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
            let before = Balancer::new(kind, all, 0).unwrap();
            let after = Balancer::new(kind, rest, 0).unwrap();
            let owner = |balancer: &Balancer, key| {
                let input = PickInput { random: 0, now_ns: 0, key: Some(key) };
                let index = balancer.pick(&input, &Tried::default()).unwrap();
                balancer.backends()[index].name().to_owned()
            };
            let left = format!("backend-{leaver}");
            let mut chance = SplitMix64::seed_from_u64(11);
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
        let mut chance = SplitMix64::seed_from_u64(3);
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
fn turns_follow_the_list_and_weights_are_spread() {
    for (weights, order) in
        [(vec![1; 3], vec![0, 1, 2, 0]), (vec![4, 1, 1], vec![0, 0, 1, 0, 0, 2])]
    {
        let balancer = Balancer::new(PolicyKind::RoundRobin, backends(&weights), 0).unwrap();
        assert_eq!(order.iter().map(|_| turn(&balancer)).collect::<Vec<_>>(), order);
    }
}

#[test]
fn backends_that_are_all_warming_up_share_evenly() {
    for kind in PolicyKind::ALL {
        let balancer = balancer(kind, &[1; 2]);
        balancer.backends().iter().for_each(|backend| backend.set_share(0.1));
        let counts = count(&balancer, 4_000);
        // A ring's shares are rough.
        assert!(counts.iter().all(|count| (1_600..2_400).contains(count)), "{kind}: {counts:?}");
    }
}

/// The backend whose turn is next.
fn turn(balancer: &Balancer) -> usize {
    let input = PickInput { random: 0, now_ns: 0, key: None };
    balancer.pick(&input, &Tried::default()).unwrap()
}

#[test]
fn a_list_that_changes_carries_the_turn_over() {
    // One of a hundred backends comes and goes, another's weight changes, and
    // both more often than a round takes.
    let all = backends(&[1; 100]);
    let mut balancer = Balancer::new(PolicyKind::RoundRobin, all.clone(), 3).unwrap();
    let mut picks = std::collections::HashMap::new();
    for change in 0..1_000 {
        let mut list = all.clone();
        all[7].set_weight(1 + change / 3 % 3);
        if change % 2 == 0 {
            list.remove(28);
        }
        balancer = balancer.over(list).unwrap();
        for _ in 0..change % 5 {
            let name = balancer.backends()[turn(&balancer)].name().to_owned();
            *picks.entry(name).or_insert(0) += 1;
        }
    }
    let steady = |index: &usize| *index != 7 && *index != 28;
    let picks: Vec<u32> = (0..100)
        .filter(steady)
        .map(|index| picks.get(all[index].name()).copied().unwrap_or(0))
        .collect();
    let (least, most) = (picks.iter().min().unwrap(), picks.iter().max().unwrap());
    assert!(*least >= 18 && most - least <= 1, "{picks:?}");
}

#[test]
fn a_list_that_did_not_change_is_known_by_its_backends_and_weights() {
    let all = backends(&[1, 2]);
    let balancer = Balancer::new(PolicyKind::RoundRobin, all.clone(), 0).unwrap();
    assert!(balancer.is_over(&all));
    assert!(!balancer.is_over(&all[..1]) && !balancer.is_over(&backends(&[1, 2])));
    all[0].set_weight(2);
    assert!(!balancer.is_over(&all));
    assert!(balancer.over(all.clone()).unwrap().is_over(&all));
}

#[test]
fn proxies_begin_at_places_of_their_own() {
    let mut chance = SplitMix64::seed_from_u64(29);
    let mut first = [0; 3];
    for _ in 0..6_000 {
        let list = backends(&[1, 2, 3]);
        first[turn(&Balancer::new(PolicyKind::RoundRobin, list, chance.next_u64()).unwrap())] += 1;
    }
    // Five standard deviations of a fair draw are at most 200.
    let is_near = |count: i32, wanted: i32| (count - wanted).abs() < 200;
    assert!((0..3).all(|index| is_near(first[index], 1_000 * (index as i32 + 1))), "{first:?}");
}

/// Calls that each of two backends gets, at a call every `gap_ns`. One answers
/// after 20 ms; the other one fails at once.
fn calls_beside_one_that_fails(kind: PolicyKind, gap_ns: u64) -> [u32; 2] {
    let balancer = balancer(kind, &[1; 2]);
    let [good, bad] = balancer.backends() else { unreachable!() };
    let mut chance = SplitMix64::seed_from_u64(gap_ns);
    let mut ends_ns = std::collections::VecDeque::new();
    let mut calls = [0; 2];
    for now_ns in (1..=2_000).map(|call| call * gap_ns) {
        while ends_ns.front().is_some_and(|ends_ns| *ends_ns <= now_ns) {
            good.answered(ends_ns.pop_front().unwrap(), 20_000_000);
            good.finish();
        }
        let input = PickInput { random: chance.next_u64(), now_ns, key: None };
        let index = balancer.pick(&input, &Tried::default()).unwrap();
        calls[index] += 1;
        if index == 0 {
            good.begin();
            ends_ns.push_back(now_ns + 20_000_000);
        } else {
            bad.failed(now_ns);
        }
    }
    calls
}

#[test]
fn a_backend_that_fails_at_once_gets_far_less_than_its_share() {
    for kind in [PolicyKind::LeastLoaded, PolicyKind::P2c, PolicyKind::P3c, PolicyKind::PeakEwma] {
        // One call at a time, four, and forty.
        for gap_ns in [30_000_000, 5_000_000, 500_000] {
            let [good, bad] = calls_beside_one_that_fails(kind, gap_ns);
            assert!(bad > 0 && bad * 10 < good, "{kind}, {gap_ns} ns: {bad} of 2,000 failed");
        }
    }
}

/// One that fails at once has nothing in flight, and yet is no idle one.
#[test]
fn who_fails_at_once_is_not_joined_as_idle() {
    let [good, bad] = calls_beside_one_that_fails(PolicyKind::JoinIdleQueue, 30_000_000);
    assert!(bad > 0 && bad * 10 < good, "{bad} of 2,000 failed");
}

#[test]
fn two_choices_keep_the_longest_queue_far_shorter_than_one() {
    let longest = |kind| {
        let balancer = balancer(kind, &[1; 64]);
        let mut chance = SplitMix64::seed_from_u64(17);
        for _ in 0..64 * 8 {
            let input = PickInput { random: chance.next_u64(), now_ns: 0, key: None };
            let index = balancer.pick(&input, &Tried::default()).unwrap();
            balancer.backends()[index].begin();
        }
        balancer.backends().iter().map(|backend| backend.in_flight()).max().unwrap()
    };
    assert_eq!(longest(PolicyKind::LeastLoaded), 8);
    assert!(longest(PolicyKind::P2c) <= 11);
    assert!(longest(PolicyKind::P3c) <= longest(PolicyKind::P2c));
    assert!(longest(PolicyKind::Random) >= 13);
}

#[test]
fn peak_ewma_turns_away_from_a_slow_backend() {
    let balancer = balancer(PolicyKind::PeakEwma, &[1; 2]);
    let mut chance = SplitMix64::seed_from_u64(23);
    let mut slow_calls = 0;
    for call in 0..1_000_u64 {
        let now_ns = call * 1_000_000;
        let input = PickInput { random: chance.next_u64(), now_ns, key: None };
        let index = balancer.pick(&input, &Tried::default()).unwrap();
        let backend = &balancer.backends()[index];
        backend.answered(now_ns, if index == 0 { 50_000_000 } else { 1_000_000 });
        slow_calls += u64::from(index == 0);
    }
    assert!(slow_calls < 50, "{slow_calls} of 1,000 calls went to the slow backend");
}

#[test]
fn lists_that_cannot_be_balanced_are_refused() {
    for kind in PolicyKind::ALL {
        assert_eq!(Balancer::new(kind, vec![], 0).unwrap_err(), BalanceError::NoBackend);
        assert!(matches!(
            Balancer::new(kind, backends(&[1, 0]), 0),
            Err(BalanceError::ZeroWeight(name)) if name == "backend-1"
        ));
        let twice = vec![Arc::new(Backend::new("a", 1)), Arc::new(Backend::new("a", 2))];
        assert!(matches!(Balancer::new(kind, twice, 0), Err(BalanceError::Duplicate(_))));
    }
    let uneven = Balancer::new(PolicyKind::RoundRobin, backends(&[1, 1_000_000]), 0);
    assert!(matches!(uneven, Err(BalanceError::WeightsTooFine { .. })));
    // Large weights with a large common factor are fine.
    Balancer::new(PolicyKind::RoundRobin, backends(&[3_000_000, 1_000_000]), 0).unwrap();
}

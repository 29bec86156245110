//! What every policy owes, and what each one promises.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{sync::Arc, thread, time::Duration};

use balance::{
    Backend, BalanceError, Balancer, LoadReport, PickInput, PolicyKind, Probe, ProbeRule, Tried,
    Tuning, WeightRule,
};
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

/// All that spread calls: one keeps to the first.
fn spreading() -> impl Iterator<Item = PolicyKind> {
    PolicyKind::ALL.into_iter().filter(|kind| *kind != PolicyKind::PickFirst)
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
        for kind in spreading() {
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
                PolicyKind::RingHash | PolicyKind::BoundedRingHash => Some(0.45),
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
    fn shares_follow_what_is_reported(
        capacities in prop::collection::vec(prop::option::of(1_u32..10), 2..8),
        random in any::<u64>(),
    ) {
        let known: Vec<u32> = capacities.iter().flatten().copied().collect();
        let tuning = Tuning {
            weights: WeightRule { blackout: Duration::ZERO, ..WeightRule::default() },
            ..Tuning::default()
        };
        let all = backends(&vec![1; capacities.len()]);
        for (backend, capacity) in all.iter().zip(&capacities) {
            if let Some(capacity) = capacity {
                backend.report(0, &report(f64::from(*capacity)));
            }
        }
        let balancer =
            Balancer::tuned(PolicyKind::WeightedRoundRobin, tuning, all, random).unwrap();
        let counts = count(&balancer, 20_000);
        // Those that say nothing are taken for average ones; where one says something, or
        // none, all are alike.
        let mean = f64::from(known.iter().sum::<u32>()) / known.len() as f64;
        let weight = |capacity: &Option<u32>| match known.len() {
            0 | 1 => 1.0,
            _ => capacity.map_or(mean, f64::from),
        };
        let sum: f64 = capacities.iter().map(weight).sum();
        for (count, capacity) in counts.iter().zip(&capacities) {
            let wanted = 20_000.0 * weight(capacity) / sum;
            // Weights have 16 bits, and a turn more or less is left over at the end.
            prop_assert!((*count as f64 - wanted).abs() < 3.0 + wanted / 500.0, "{counts:?} for {capacities:?}");
        }
    }

    #[test]
    fn calls_that_stay_spread_by_the_root_of_the_weights_of_least_request(
        weights in prop::collection::vec(1_u32..9, 2..7)
            .prop_filter("they differ", |list| list.iter().any(|weight| *weight != list[0])),
    ) {
        let balancer = balancer(PolicyKind::LeastRequest, &weights);
        for _ in 0..20_000 {
            let index = turn(&balancer);
            balancer.backends()[index].begin();
        }
        // One with n calls gets them at a rate of weight / (n + 1).
        let sum: f64 = weights.iter().map(|weight| f64::from(*weight).sqrt()).sum();
        for (backend, weight) in balancer.backends().iter().zip(&weights) {
            let wanted = 20_000.0 * f64::from(*weight).sqrt() / sum;
            let held = f64::from(backend.in_flight());
            prop_assert!((held / wanted - 1.0).abs() < 0.03, "{held} for {wanted}, {weights:?}");
        }
    }

    #[test]
    fn nobody_holds_more_than_the_bound_on_loads(
        states in prop::collection::vec((1_u32..4, any::<bool>()), 1..9),
        keys in 1_u64..5,
        percent in 101_u32..300,
        seed in any::<u64>(),
    ) {
        let weights: Vec<u32> = states.iter().map(|state| state.0).collect();
        let load_bound = f64::from(percent) / 100.0;
        let tuning = Tuning { load_bound, ..Tuning::default() };
        let policy = PolicyKind::BoundedRingHash;
        let balancer = Balancer::tuned(policy, tuning, backends(&weights), 0).unwrap();
        for (backend, (_, is_out)) in balancer.backends().iter().zip(&states) {
            backend.set_available(!is_out);
        }
        let sum: u32 = states.iter().filter(|state| !state.1).map(|state| state.0).sum();
        let mut chance = SplitMix64::seed_from_u64(seed);
        for calls in 1..=200 {
            let key = Some(chance.next_u64() % keys);
            let input = PickInput { random: chance.next_u64(), now_ns: 0, key };
            let Some(index) = balancer.pick(&input, &Tried::default()) else {
                prop_assert_eq!(sum, 0);
                break;
            };
            let backend = &balancer.backends()[index];
            backend.begin();
            let even = f64::from(calls * backend.weight()) / f64::from(sum);
            // However the product is rounded.
            let bound = (load_bound * even + 1e-9).ceil();
            prop_assert!(f64::from(backend.in_flight()) <= bound, "{index} of {states:?}");
        }
    }

    #[test]
    fn prequal_prefers_the_fastest_of_the_cold_and_then_the_least_loaded(
        probes in prop::collection::vec((0_u32..20, 1_u64..1_000), 3..17),
        hot_quantile in 0.0_f64..1.0,
    ) {
        let rule = ProbeRule { removed: 0.0, hot_quantile, ..ProbeRule::default() };
        let tuning = Tuning { probes: rule, ..Tuning::default() };
        let all = backends(&vec![1; probes.len()]);
        let balancer = Balancer::tuned(PolicyKind::Prequal, tuning, all, 0).unwrap();
        let input = PickInput { random: 0, now_ns: 1, key: None };
        for (index, (in_flight, latency_ns)) in probes.iter().copied().enumerate() {
            balancer.probed(index, Probe { in_flight, latency_ns }, &input);
        }
        let mut counts: Vec<u32> = probes.iter().map(|probe| probe.0).collect();
        counts.sort_unstable();
        let rank = (hot_quantile * counts.len() as f64).ceil() as usize;
        let is_cold = |count: u32| rank > 0 && count <= counts[rank - 1];
        let picked = probes[balancer.pick(&input, &Tried::default()).unwrap()];
        let fastest_cold = probes.iter().filter(|probe| is_cold(probe.0)).map(|probe| probe.1).min();
        match fastest_cold {
            Some(latency_ns) => prop_assert!(is_cold(picked.0) && picked.1 == latency_ns),
            None => prop_assert_eq!(picked.0, counts[0]),
        }
    }

    #[test]
    fn probes_are_sent_as_often_as_is_asked_and_to_whom_may_be_picked(
        sent in 0.0_f64..6.0,
        outs in prop::collection::vec(any::<bool>(), 1..12),
        seed in any::<u64>(),
    ) {
        let tuning =
            Tuning { probes: ProbeRule { sent, ..ProbeRule::default() }, ..Tuning::default() };
        let all = backends(&vec![1; outs.len()]);
        let balancer = Balancer::tuned(PolicyKind::Prequal, tuning, all, 0).unwrap();
        for (backend, is_out) in balancer.backends().iter().zip(&outs) {
            backend.set_available(!is_out);
        }
        let there = outs.iter().filter(|is_out| !**is_out).count();
        let mut chance = SplitMix64::seed_from_u64(seed);
        let (mut probed, mut sum) = (Vec::new(), 0);
        for _ in 0..100 {
            let input = PickInput { random: chance.next_u64(), now_ns: 1, key: None };
            balancer.to_probe(&input, &mut probed);
            prop_assert!(probed.iter().all(|index| !outs[*index]));
            let distinct: std::collections::HashSet<_> = probed.iter().collect();
            prop_assert_eq!(distinct.len(), probed.len());
            sum += probed.len();
        }
        if there as f64 >= sent + 1.0 {
            prop_assert!((sum as f64 - 100.0 * sent).abs() <= 1.0, "{} for {}", sum, sent);
        }
    }

    #[test]
    fn hash_policies_move_only_what_must_move(leaver in 0_usize..8) {
        // On a ring no key moves but the leaver's. A Maglev table is filled
        // anew, and a few percent of the others' entries change hands.
        for (kind, moved_limit) in [
            (PolicyKind::RingHash, 0.0),
            (PolicyKind::BoundedRingHash, 0.0),
            (PolicyKind::Maglev, 0.04),
        ] {
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
    for kind in spreading() {
        let balancer = balancer(kind, &[1; 2]);
        balancer.backends().iter().for_each(|backend| backend.set_share(0.1));
        let counts = count(&balancer, 4_000);
        // A ring's shares are rough.
        assert!(counts.iter().all(|count| (1_600..2_400).contains(count)), "{kind}: {counts:?}");
    }
}

/// A pool of four probes of ten backends, to which none is added.
#[test]
fn a_probe_is_used_up_ages_out_and_counts_its_calls() {
    const MS: u64 = 1_000_000;
    let rule = ProbeRule { removed: 0.0, pool: 4, ..ProbeRule::default() };
    let tuning = Tuning { probes: rule, ..Tuning::default() };
    let pool = |at_ns| {
        let all = backends(&[1; 10]);
        let balancer = Balancer::tuned(PolicyKind::Prequal, tuning, all, 0).unwrap();
        for index in 0..4 {
            let input = PickInput { random: u64::MAX, now_ns: at_ns, key: None };
            let probe = Probe { in_flight: 3, latency_ns: 10 + index as u64 };
            balancer.probed(index, probe, &input);
        }
        balancer
    };
    let picks = |balancer: &Balancer, now_ns| -> Vec<usize> {
        let input = PickInput { random: u64::MAX, now_ns, key: None };
        (0..6).map(|_| balancer.pick(&input, &Tried::default()).unwrap()).collect()
    };
    // Each use makes a probe hotter than the others, and a probe serves
    // 2 / ((1 - 4/10) * 3) = 1.1 picks, so one here. The last one is no choice any more, and
    // by chance it is the last of the list.
    assert_eq!(picks(&pool(0), MS), [0, 1, 2, 9, 9, 9]);
    assert_eq!(picks(&pool(0), 1_001 * MS), [9; 6], "too old");
    // With a place for everybody there is no bound on uses, but each makes it hotter.
    let rule = ProbeRule { pool: 16, ..rule };
    let tuning = Tuning { probes: rule, ..Tuning::default() };
    let balancer = Balancer::tuned(PolicyKind::Prequal, tuning, backends(&[1; 3]), 0).unwrap();
    for index in 0..3 {
        let input = PickInput { random: 0, now_ns: 0, key: None };
        balancer.probed(index, Probe { in_flight: 3, latency_ns: 10 }, &input);
    }
    let mut picked = picks(&balancer, MS);
    picked.sort_unstable();
    assert_eq!(picked, [0, 0, 1, 1, 2, 2]);
}

/// Of a backend that could serve so many calls a second.
fn report(capacity: f64) -> LoadReport {
    LoadReport { cpu_utilization: 0.5, calls_per_second: capacity / 2.0, ..LoadReport::default() }
}

#[test]
fn reported_weights_pass_over_who_is_out_and_are_looked_at_from_time_to_time() {
    const SECOND: u64 = 1_000_000_000;
    let all = backends(&[1; 3]);
    let balancer = Balancer::new(PolicyKind::WeightedRoundRobin, all.clone(), 0).unwrap();
    let counts = |now_ns| {
        let mut counts = [0; 3];
        for random in 0..400 {
            let input = PickInput { random, now_ns, key: None };
            counts[balancer.pick(&input, &Tried::default()).unwrap()] += 1;
        }
        counts
    };
    for at_s in [0, 10] {
        for (backend, capacity) in all.iter().zip([100.0, 300.0, 600.0]) {
            backend.report(at_s * SECOND, &report(capacity));
        }
    }
    assert_eq!(counts(SECOND).map(|count| count / 10), [13; 3], "blackout");
    assert_eq!(counts(11 * SECOND).map(|count| (count + 5) / 10), [4, 12, 24]);
    all[2].set_available(false);
    assert_eq!(counts(11 * SECOND).map(|count| (count + 5) / 10), [10, 30, 0]);
    all[1].report(11 * SECOND, &report(100.0));
    assert_eq!(counts(11 * SECOND + 1)[1] / 10, 30, "not before the next look");
    assert_eq!(counts(12 * SECOND).map(|count| (count + 5) / 10), [20, 20, 0]);
}

#[test]
fn the_first_that_is_there_is_kept_to() {
    let balancer = balancer(PolicyKind::PickFirst, &[1, 5, 1]);
    assert_eq!(count(&balancer, 10), [10, 0, 0]);
    balancer.backends()[0].set_available(false);
    assert_eq!(count(&balancer, 10), [0, 10, 0]);
    balancer.backends()[0].set_available(true);
    assert_eq!(count(&balancer, 10), [10, 0, 0]);
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

//! What happens in a simulation, call by call.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use balance::{PolicyKind, Subset, Subsetting, Tuning, ZoneLayout, ZoneRouting};
use measure::calllog::{Entry, Outcome};
use proptest::prelude::*;
use queueing::Service;
use simulate::{
    Action, Arrival, Backend, Distribution, Ended, Fault, Fleet, Layer, Load, Pace, Path, Poisson,
    Setup, SetupError, ZoneDelays, Zones, run,
};

const MS: u64 = 1_000_000;
const LAYERS: [Layer; 4] = [Layer::None, Layer::L4, Layer::L7, Layer::Client];

fn constant(ms: f64) -> Distribution {
    Distribution::Of(Service::Constant { value_s: ms / 1e3 })
}

/// Three backends of one server that works a millisecond on a call.
fn setup(layer: Layer) -> Setup {
    let backend = Backend {
        servers: 1,
        service: constant(1.0),
        speed: 1.0,
        weight: 1,
        is_member: true,
        zone: 0,
    };
    Setup {
        backends: vec![backend; 3],
        layer,
        policy: PolicyKind::RoundRobin,
        tuning: Tuning::default(),
        fleet: Fleet::ONE,
        zones: None,
        load: Load {
            pace: Pace::Open,
            connections: 3,
            connections_per_client: 1,
            streams: 100,
            connection_calls: None,
            passes: 1,
            give_up_ns: u64::MAX,
        },
        connection_age_ns: None,
        path: Path::NONE,
        faults: Vec::new(),
    }
}

fn simulate(setup: &Setup, arrivals: &[(u64, u32)]) -> Vec<Entry> {
    let mut arrivals = arrivals.iter().map(|&(due_ns, connection)| Arrival { due_ns, connection });
    let mut entries = Vec::new();
    run(setup, &mut arrivals, 1, &mut |entry, _| entries.push(*entry)).unwrap();
    entries
}

fn backends(entries: &[Entry]) -> Vec<u16> {
    let served = entries.iter().filter_map(|entry| match entry.outcome {
        Outcome::Served { backend, .. } => Some(backend),
        _ => None,
    });
    served.collect()
}

/// A call every millisecond on each connection in turn.
fn steady(calls: u64) -> Vec<(u64, u32)> {
    (0..calls).map(|call| (call * MS, (call % 3) as u32)).collect()
}

#[test]
fn calls_queue_in_a_backend_in_order_of_arrival() {
    let entries = simulate(&setup(Layer::L4), &[(0, 0), (0, 0), (0, 0)]);
    let done: Vec<u64> = entries.iter().map(|entry| entry.done_ns).collect();
    assert_eq!(done, [MS, 2 * MS, 3 * MS], "one connection, one backend, one server");
    let queued = entries.iter().map(|entry| match entry.outcome {
        Outcome::Served { queued, service, .. } => (queued.get(), service.get()),
        _ => panic!("{entry:?}"),
    });
    assert_eq!(queued.collect::<Vec<_>>(), [(0, MS), (MS, MS), (2 * MS, MS)]);
}

#[test]
fn connections_are_placed_once_and_calls_each_time() {
    let calls: Vec<(u64, u32)> = (0..9).map(|call| (call * MS, 0)).collect();
    for layer in LAYERS {
        let mut served = backends(&simulate(&setup(layer), &calls));
        served.sort_unstable();
        served.dedup();
        let expected = if matches!(layer, Layer::L7 | Layer::Client) { 3 } else { 1 };
        assert_eq!(served.len(), expected, "{layer:?}");
    }
}

#[test]
fn a_connection_that_is_used_up_or_old_leads_elsewhere() {
    let calls: Vec<(u64, u32)> = (0..12).map(|call| (call * MS, 0)).collect();
    let mut churning = setup(Layer::L4);
    churning.load.connections = 1;
    churning.load.connection_calls = Some(4);
    let served = backends(&simulate(&churning, &calls));
    assert!(served.chunks(4).all(|four| four.iter().all(|one| *one == four[0])), "{served:?}");
    assert!(served[0] != served[4] && served[4] != served[8], "{served:?}");
    let mut ageing = setup(Layer::None);
    ageing.connection_age_ns = Some(5 * MS);
    let served = backends(&simulate(&ageing, &calls));
    assert!(served.windows(2).any(|pair| pair[0] != pair[1]), "{served:?}");
}

#[test]
fn calls_wait_for_a_stream_and_are_not_late_for_it() {
    let mut narrow = setup(Layer::L7);
    narrow.load.streams = 2;
    let entries = simulate(&narrow, &[(0, 0), (0, 0), (0, 0), (0, 1)]);
    let waited: Vec<_> = entries.iter().map(|entry| (entry.ready_ns, entry.sent_ns)).collect();
    assert_eq!(waited[3], (MS, MS), "the third call of the connection");
    assert_eq!(entries.len(), 4);
}

#[test]
fn the_way_takes_its_time_in_both_directions() {
    for (layer, ms) in [(Layer::None, 5), (Layer::Client, 5), (Layer::L7, 25), (Layer::L4, 25)] {
        let path = Path { to_balancer: constant(10.0), to_backend: constant(2.0), ..Path::NONE };
        let far = Setup { path, ..setup(layer) };
        assert_eq!(simulate(&far, &[(0, 0)])[0].done_ns, ms * MS, "{layer:?}");
    }
}

#[test]
fn a_call_of_many_messages_queues_for_each_of_them() {
    let mut streaming = setup(Layer::L4);
    streaming.load.passes = 3;
    let entries = simulate(&streaming, &[(0, 0), (0, 0)]);
    let done: Vec<u64> = entries.iter().map(|entry| entry.done_ns / MS).collect();
    assert_eq!(done, [5, 6], "they take turns");
}

fn with_faults(layer: Layer, faults: &[(u64, Action)]) -> Setup {
    let faults =
        faults.iter().map(|&(ms, action)| Fault { at_ns: ms * MS, backend: 0, action }).collect();
    Setup { faults, ..setup(layer) }
}

#[test]
fn what_is_killed_fails_its_calls_and_gets_no_more() {
    for layer in LAYERS {
        let mut killed = with_faults(layer, &[(5, Action::Kill)]);
        killed.backends[0].service = constant(100.0);
        let entries = simulate(&killed, &steady(30));
        let failed = entries.iter().filter(|one| matches!(one.outcome, Outcome::Failed(_)));
        let failed: Vec<u64> = failed.map(|entry| entry.due_ns / MS).collect();
        assert!((1..=2).contains(&failed.len()), "{layer:?}: {failed:?}");
        assert!(failed.iter().all(|due_ms| *due_ms <= 5), "{layer:?}: {failed:?}");
        assert!(!backends(&entries).contains(&0), "{layer:?}");
        assert_eq!(entries.len(), 30, "{layer:?}");
    }
}

#[test]
fn what_stands_still_answers_when_it_goes_on() {
    for layer in LAYERS {
        let stopped = with_faults(layer, &[(0, Action::Stop), (50, Action::Continue)]);
        let entries = simulate(&stopped, &steady(30));
        assert_eq!(backends(&entries).len(), 30, "{layer:?}");
        let late = entries.iter().filter(|entry| entry.done_ns >= 50 * MS).count();
        // A third of them; each client takes turns of its own.
        assert!((9..=12).contains(&late), "{layer:?}: {late}");
    }
}

#[test]
fn what_drains_finishes_and_comes_back() {
    for layer in LAYERS {
        let drained = with_faults(layer, &[(5, Action::Drain), (20, Action::Start)]);
        let entries = simulate(&drained, &steady(60));
        assert_eq!(backends(&entries).len(), 60, "{layer:?}");
        let of_it = entries.iter().filter(|entry| {
            matches!(entry.outcome, Outcome::Served { backend: 0, .. })
                && (6 * MS..20 * MS).contains(&entry.due_ns)
        });
        assert_eq!(of_it.count(), 0, "{layer:?}");
        let returns = backends(&entries[30..]).contains(&0);
        assert_eq!(returns, matches!(layer, Layer::L7 | Layer::Client), "{layer:?}");
    }
}

#[test]
fn who_joins_is_used_by_those_who_choose_again() {
    for layer in LAYERS {
        let mut joins = with_faults(layer, &[(10, Action::Add), (40, Action::Remove)]);
        joins.backends[0].is_member = false;
        let entries = simulate(&joins, &steady(60));
        let due = entries
            .iter()
            .filter(|entry| matches!(entry.outcome, Outcome::Served { backend: 0, .. }));
        let due: Vec<u64> = due.map(|entry| entry.due_ns / MS).collect();
        assert!(due.iter().all(|due_ms| (10..40).contains(due_ms)), "{layer:?}: {due:?}");
        let expected = if matches!(layer, Layer::L7 | Layer::Client) { 9..=12 } else { 0..=0 };
        assert!(expected.contains(&due.len()), "{layer:?}: {due:?}");
    }
}

#[test]
fn balancers_hear_of_a_change_each_in_their_own_time() {
    let mut slow = with_faults(Layer::Client, &[(0, Action::Add)]);
    slow.backends[0].is_member = false;
    slow.fleet.told_within_ns = 60 * MS;
    let entries = simulate(&slow, &steady(60));
    let uses = backends(&entries).iter().filter(|one| **one == 0).count();
    assert!((1..20).contains(&uses), "{uses}");
}

#[test]
fn who_resolves_a_name_hears_of_a_change_once_a_connection_was_lost() {
    let first_use_ms = |interval_ms: u64, age_ms: Option<u64>, drains: bool| {
        let mut dns = setup(Layer::Client);
        dns.backends[0].is_member = false;
        dns.fleet.resolve_interval_ns = Some(interval_ms * MS);
        dns.connection_age_ns = age_ms.map(|age_ms| age_ms * MS);
        dns.faults = vec![Fault { at_ns: 10 * MS, backend: 0, action: Action::Add }];
        if drains {
            dns.faults.push(Fault { at_ns: 30 * MS, backend: 1, action: Action::Drain });
        }
        let entries = simulate(&dns, &steady(60));
        let of_it = |entry: &&Entry| matches!(entry.outcome, Outcome::Served { backend: 0, .. });
        entries.iter().find(of_it).map(|entry| entry.due_ns / MS)
    };
    assert_eq!(first_use_ms(20, None, false), None, "no connection was lost");
    let used = first_use_ms(20, None, true).unwrap();
    assert!((30..36).contains(&used), "{used}");
    let used = first_use_ms(45, None, true).unwrap();
    assert!((45..51).contains(&used), "not before the interval is over: {used}");
    let used = first_use_ms(0, Some(20), false).unwrap();
    assert!((18..28).contains(&used), "{used}");
}

#[test]
fn a_client_that_keeps_to_one_backend_is_one_without_a_balancer() {
    let kills = [(5, Action::Kill), (20, Action::Start)];
    let mut keeps = with_faults(Layer::Client, &kills);
    keeps.policy = PolicyKind::PickFirst;
    let none = with_faults(Layer::None, &kills);
    assert_eq!(simulate(&keeps, &steady(60)), simulate(&none, &steady(60)));
}

#[test]
fn a_closed_loop_waits_for_its_answers() {
    let mut closed = setup(Layer::None);
    closed.load.connections = 1;
    closed.load.streams = 1;
    let pace =
        |think_ns, calls| Pace::Closed { think_ns, end_ns: 10 * MS, calls, counted_from_ns: 0 };
    closed.load.pace = pace(0, u64::MAX);
    assert_eq!(simulate(&closed, &[]).len(), 10, "a millisecond each");
    closed.load.pace = pace(0, 4);
    assert_eq!(simulate(&closed, &[]).len(), 4);
    closed.load.pace = pace(MS, u64::MAX);
    assert_eq!(simulate(&closed, &[]).len(), 5);
}

#[test]
fn what_has_no_answer_in_the_end_is_counted() {
    let mut slow = setup(Layer::L4);
    slow.backends.iter_mut().for_each(|backend| backend.service = constant(100.0));
    slow.load.streams = 1;
    slow.load.give_up_ns = 50 * MS;
    let mut outcomes: Vec<_> = simulate(&slow, &[(0, 0), (0, 0)])
        .into_iter()
        .map(|entry| format!("{:?}", entry.outcome))
        .collect();
    outcomes.sort();
    assert_eq!(outcomes, ["NotSent", "Unfinished"]);
}

#[test]
fn memory_is_that_of_the_calls_under_way() {
    let mut busy = setup(Layer::L7);
    busy.backends[0].servers = 4;
    let mut arrivals = Poisson::new(2_000.0, 3, 50_000, 1);
    let Ended { calls, most_calls, .. } = run(&busy, &mut arrivals, 1, &mut |_, _| {}).unwrap();
    assert_eq!(calls, 50_000);
    assert!(most_calls < 500, "{most_calls}");
}

#[test]
fn what_is_absurd_is_refused_with_a_reason() {
    let refusal = |setup: &Setup| {
        let mut none = std::iter::empty();
        run(setup, &mut none, 1, &mut |_, _| {}).unwrap_err()
    };
    let nobody = Setup { backends: Vec::new(), ..setup(Layer::L7) };
    assert_eq!(refusal(&nobody), SetupError::Invalid("no backend"));
    let mut frozen = setup(Layer::L7);
    frozen.backends[1].service = Distribution::Zero;
    frozen.load.pace = Pace::Closed { think_ns: 0, end_ns: MS, calls: 9, counted_from_ns: 0 };
    assert!(refusal(&frozen).to_string().contains("nothing takes time"));
    let mut huge = setup(Layer::Client);
    huge.load.connections = 1_000_000;
    huge.backends = vec![huge.backends[0].clone(); 1_000];
    let error = huge.check(4 << 30).unwrap_err().to_string();
    assert!(error.contains("would need 214") && error.contains("4096 MiB"), "{error}");
    huge.fleet.subset = Some(Subset { size: 2, subsetting: Subsetting::Random });
    assert_eq!(huge.check(4 << 30), Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever the layer, the policy and the faults: each call ends once, after it was
    /// due, and the same seed gives the same calls.
    #[test]
    fn every_call_ends_once(
        layer in 0_usize..4,
        policy in 0_usize..PolicyKind::ALL.len(),
        balancers in 1_u32..4,
        streams in 1_u32..4,
        delayed in any::<bool>(),
        faults in prop::collection::vec((0_u64..40, 0_u32..3, 0_usize..8), 0..6),
        seed in any::<u64>(),
    ) {
        let actions = [
            Action::Stop, Action::Continue, Action::Kill, Action::Drain, Action::Start,
            Action::Speed(0.5), Action::Remove, Action::Add,
        ];
        let mut any = setup(LAYERS[layer]);
        any.policy = PolicyKind::ALL[policy];
        any.fleet.balancers = balancers;
        any.load.streams = streams;
        any.load.give_up_ns = 2_000 * MS;
        if delayed {
            any.path = Path { to_balancer: constant(0.3), to_backend: constant(0.2), ..Path::NONE };
        }
        any.faults = sensible(faults.into_iter().map(|(ms, backend, action)| Fault {
            at_ns: ms * MS, backend, action: actions[action],
        }).collect());
        let all = |seed| {
            let mut arrivals = Poisson::new(2_500.0, 3, 120, seed);
            let mut entries = Vec::new();
            run(&any, &mut arrivals, seed, &mut |entry, _| entries.push(*entry)).unwrap();
            entries
        };
        let entries = all(seed);
        prop_assert_eq!(entries.len(), 120);
        for entry in &entries {
            prop_assert!(entry.due_ns <= entry.ready_ns && entry.ready_ns <= entry.done_ns);
        }
        prop_assert_eq!(entries, all(seed));
    }
}

/// Faults in order of time, without those that find their backend in another state.
fn sensible(mut faults: Vec<Fault>) -> Vec<Fault> {
    faults.sort_by_key(|fault| fault.at_ns);
    let (mut up, mut members) = ([true; 3], [true; 3]);
    faults.retain(|fault| {
        let index = fault.backend as usize;
        let is_right = match fault.action {
            Action::Add => !members[index],
            Action::Remove => members[index],
            Action::Start => !up[index],
            _ => up[index],
        };
        match fault.action {
            Action::Add | Action::Remove if is_right => members[index] = !members[index],
            Action::Kill | Action::Drain | Action::Start if is_right => up[index] = !up[index],
            _ => {}
        }
        is_right
    });
    faults
}

/// Three balancers, each in a zone of its own; half of the twelve backends are in the first.
/// To another zone it takes 5 ms each way.
#[test]
fn balancers_keep_to_their_zones_as_far_as_there_is_room() {
    let mut setup = setup(Layer::L7);
    setup.backends = vec![setup.backends[0].clone(); 12];
    for (index, backend) in (0..).zip(&mut setup.backends) {
        backend.zone = [0, 0, 1, 2][index % 4];
    }
    (setup.fleet.balancers, setup.load.connections) = (3, 3);
    let layout = ZoneLayout::new(vec![1, 1, 1]);
    setup.zones = Some(Zones { layout, routing: Some(ZoneRouting::default()) });
    setup.path.between_zones = ZoneDelays::Any(constant(5.0));
    let entries = simulate(&setup, &steady(12_000));
    let mut served = [0; 12];
    let mut crossed = [0; 3];
    for entry in &entries {
        let Outcome::Served { backend, .. } = entry.outcome else { panic!("{entry:?}") };
        served[usize::from(backend)] += 1;
        let balancer = (entry.due_ns / MS % 3) as usize;
        crossed[balancer] += u32::from(entry.done_ns - entry.due_ns > 10 * MS);
    }
    // Each has an equal part of the calls; five standard deviations of a fair draw are less.
    assert!(served.iter().all(|calls| (850..1_150).contains(calls)), "{served:?}");
    // The first zone has half of the backends and a third of the calls; the others, with a
    // quarter, send it a quarter of theirs.
    let [none, second, third] = crossed;
    assert!(
        none == 0 && [second, third].iter().all(|one| (880..1_120).contains(one)),
        "{crossed:?}"
    );
    // Who knows of no zones crosses them as often as others have the backends: clients that
    // nobody balances for, too.
    for layer in [Layer::None, Layer::L7, Layer::Client] {
        let unaware = Setup {
            layer,
            zones: setup.zones.clone().map(|zones| Zones { routing: None, ..zones }),
            ..setup.clone()
        };
        let entries = simulate(&unaware, &steady(12_000));
        let slow = entries.iter().filter(|entry| entry.done_ns - entry.due_ns > 10 * MS).count();
        assert!((7_000..9_000).contains(&slow), "{layer:?}: {slow} of 12,000");
    }
    // Five backends are too few to heed zones, though the first has more than its part.
    setup.backends.truncate(5);
    let entries = simulate(&setup, &steady(300));
    let of_first = entries.iter().filter(|entry| (entry.due_ns / MS).is_multiple_of(3));
    assert!(of_first.clone().any(|entry| entry.done_ns - entry.due_ns > 10 * MS));
}

/// A balancer in each of three zones, which are not equally far from each other.
#[test]
fn some_zones_are_farther_away_than_others() {
    let far_ms = [[0.0, 5.0, 20.0], [5.0, 0.0, 10.0], [20.0, 10.0, 0.0]];
    for layer in [Layer::None, Layer::L4, Layer::L7, Layer::Client] {
        let mut setup = setup(layer);
        for (zone, backend) in (0..).zip(&mut setup.backends) {
            backend.zone = zone;
        }
        (setup.fleet.balancers, setup.load.connections) = (3, 3);
        let layout = ZoneLayout::new(vec![1, 1, 1]);
        setup.zones = Some(Zones { layout, routing: None });
        let delays = far_ms.map(|row| row.map(constant).to_vec()).to_vec();
        setup.path.between_zones = ZoneDelays::Each(delays);
        let mut seen = [[false; 3]; 3];
        for entry in simulate(&setup, &steady(3_000)) {
            let Outcome::Served { backend, .. } = entry.outcome else { panic!("{entry:?}") };
            let (own, backend) = ((entry.due_ns / MS % 3) as usize, usize::from(backend));
            let least = (2.0 * far_ms[own][backend] * MS as f64) as u64;
            assert!(entry.done_ns - entry.due_ns >= least, "{layer:?} {own} {backend} {entry:?}");
            seen[own][backend] |= entry.done_ns - entry.due_ns < least + 5 * MS;
        }
        let balances = matches!(layer, Layer::L7 | Layer::Client);
        let seen = seen.iter().flatten().filter(|seen| **seen).count();
        assert!(seen == 9 || !balances && seen == 3, "{layer:?}: {seen}");
        setup.path.between_zones = ZoneDelays::Each(vec![vec![Distribution::Zero; 3]; 2]);
        let error = setup.check(u64::MAX).unwrap_err().to_string();
        assert!(error.contains("delays between other zones"), "{error}");
    }
}

/// A probe is on its way for as long as a call, and finds what the backend holds then.
#[test]
fn probes_find_who_is_slow() {
    for layer in [Layer::L7, Layer::Client] {
        let mut setup = setup(layer);
        setup.policy = PolicyKind::Prequal;
        setup.backends[2].speed = 0.25;
        setup.path = Path { to_backend: constant(0.1), ..Path::NONE };
        let calls: Vec<(u64, u32)> = (0..2_000).map(|call| (call * MS, 0)).collect();
        let entries = simulate(&setup, &calls);
        let is_slow = |entry: &&Entry| matches!(entry.outcome, Outcome::Served { backend: 2, .. });
        let slow = entries.iter().filter(is_slow).count();
        assert!((1..200).contains(&slow), "{layer:?}: {slow} of 2,000 calls");
    }
}

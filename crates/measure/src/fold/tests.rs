use proptest::prelude::*;

use super::*;
use crate::{calllog::OnWire, record::Side};

const WINDOW: Window = Window { start_ns: NS_PER_S, end_ns: 3 * NS_PER_S };

fn ids() -> Vec<String> {
    vec!["b0".into(), "b1".into()]
}

fn setting(ids: &[String], mode: LoopMode) -> Setting<'_> {
    Setting {
        window: WINDOW,
        spent: WINDOW,
        backend_ids: ids,
        balancers: &[],
        zones: &[],
        mode,
        through_proxy: true,
        times: Times::Apart,
        by_backend: false,
    }
}

fn entry(due_ns: u64, outcome: Outcome) -> Entry {
    Entry {
        due_ns,
        ready_ns: due_ns + 100,
        sent_ns: due_ns + 300,
        done_ns: due_ns + 1_000_000,
        on_wire: OnWire::new(due_ns + 400, due_ns + 900_400),
        outcome,
    }
}

fn log(entries: &[Entry]) -> CallLog {
    let mut log = CallLog::default();
    entries.iter().for_each(|&entry| log.push(entry));
    log
}

/// As another process has it.
fn shipped(folded: &Folded) -> Folded {
    serde_json::from_str(&serde_json::to_string(folded).unwrap()).unwrap()
}

#[test]
fn a_call_belongs_to_the_window_by_its_due_time() {
    let served = Outcome::served(1, 10, 20);
    let calls = log(&[
        entry(0, served),
        entry(NS_PER_S, served),
        entry(3 * NS_PER_S - 1, served),
        entry(3 * NS_PER_S, served),
    ]);
    let ids = ids();
    let folded = fold([&calls], &setting(&ids, LoopMode::Open));
    let counts = folded.counts();
    assert_eq!((counts.scheduled, counts.ok), (2, 2));
    assert_eq!(counts.completed_in_window, 1, "the second one ended after the window");
    assert_eq!(folded.series().len(), 3);
    assert_eq!(folded.backends(&ids).iter().map(|b| b.calls).collect::<Vec<_>>(), [0, 2]);
}

#[test]
fn what_a_balancer_spread_is_known_without_the_cut_of_the_window() {
    // Due in this order, and spread in another: the second reached the balancer first.
    let calls = log(&[
        entry(NS_PER_S - 2, Outcome::served(1, 10, 20)),
        entry(NS_PER_S - 1, Outcome::served(0, 10, 20)),
        entry(NS_PER_S, Outcome::served(1, 10, 20)),
        entry(NS_PER_S + 1, Outcome::served(1, 10, 20)),
        entry(NS_PER_S + 2, Outcome::served(0, 10, 20)),
        entry(NS_PER_S + 3, Outcome::Failed(FailureKind::from_status(14))),
    ]);
    let ids = ids();
    let folded = fold([&calls], &setting(&ids, LoopMode::Open)).backends(&ids);
    let known = folded.iter().map(|one| (one.calls, one.calls_with_warm_up));
    assert_eq!(known.collect::<Vec<_>>(), [(1, Some(2)), (2, Some(3))]);
}

#[test]
fn tenths_hold_what_ended_in_them_and_are_without_gaps() {
    let failed = Outcome::Failed(FailureKind::from_status(14));
    let calls = log(&[
        entry(NS_PER_S, Outcome::served(1, 10, 20)),
        entry(NS_PER_S + 250_000_000, failed),
        entry(3 * NS_PER_S - 1, Outcome::served(0, 10, 20)),
    ]);
    let ids = ids();
    let folded = fold([&calls], &setting(&ids, LoopMode::Open));
    let tenths = folded.tenths(WINDOW);
    assert_eq!(tenths.len(), 20);
    assert_eq!(tenths[0], TenthRecord { per_backend: vec![0, 1], failed: 0 });
    assert_eq!(tenths[2], TenthRecord { per_backend: vec![0, 0], failed: 1 });
    let ended: u64 = tenths.iter().flat_map(|tenth| &tenth.per_backend).sum();
    assert_eq!(ended, 1, "the last one ended after the window");
}

#[test]
fn calls_are_known_by_the_balancer_that_they_went_through() {
    let failed = Outcome::Failed(FailureKind::from_status(14));
    let served = Outcome::served(1, 10, 20);
    let (first, second) = (log(&[entry(NS_PER_S, served)]), [served, served, failed]);
    let second = second.map(|outcome| entry(NS_PER_S, outcome));
    let logs = [first, log(&second).of_balancer(1)];
    let (ids, names) = (ids(), ["l7-0", "l7-1", "l7-2"].map(str::to_owned));
    let setting = Setting { balancers: &names, ..setting(&ids, LoopMode::Open) };
    let mut folded = fold(&logs[..1], &setting);
    folded.merge(&fold(&logs[1..], &setting));
    assert_eq!(folded, fold(&logs, &setting));
    let seen: Vec<_> = folded
        .balancers(&names)
        .into_iter()
        .map(|one| (one.id, one.failed, one.per_backend, one.latency.count))
        .collect();
    let expected = [("l7-0", 0, [0, 1], 1), ("l7-1", 1, [0, 2], 2), ("l7-2", 0, [0, 0], 0)];
    let expected = expected.map(|(id, failed, per_backend, count)| {
        (id.to_owned(), failed, per_backend.to_vec(), count)
    });
    assert_eq!(seen, expected);
}

#[test]
fn calls_are_known_by_the_zone_of_their_client() {
    let served = |backend| entry(NS_PER_S, Outcome::served(backend, 10, 20));
    let failed = entry(NS_PER_S, Outcome::Failed(FailureKind::from_status(14)));
    let logs = [log(&[served(0), served(0), served(1)]), log(&[served(0), failed]).of_zone(1)];
    let (ids, names) = (ids(), ["a", "b", "c"].map(str::to_owned));
    let setting = Setting { zones: &names, ..setting(&ids, LoopMode::Open) };
    let mut folded = fold(&logs[..1], &setting);
    folded.merge(&fold(&logs[1..], &setting));
    assert_eq!(folded, fold(&logs, &setting));
    assert_eq!(shipped(&folded), folded);
    // The first backend is in `a`, and the second in `c`, where no client is.
    let seen: Vec<_> = folded
        .zones(&names, &[0, 2])
        .into_iter()
        .map(|one| (one.id, one.failed, one.per_backend, one.crossed, one.latency.count))
        .collect();
    let expected = [("a", 0, [2, 1], 1, 3), ("b", 1, [1, 0], 1, 1), ("c", 0, [0, 0], 0, 0)];
    let expected = expected.map(|(id, failed, per_backend, crossed, count)| {
        (id.to_owned(), failed, per_backend.to_vec(), crossed, count)
    });
    assert_eq!(seen, expected);
}

#[test]
fn latency_counts_from_the_schedule_only_in_an_open_loop() {
    let calls =
        log(&[Entry { sent_ns: NS_PER_S + 400_000, ..entry(NS_PER_S, Outcome::served(0, 0, 0)) }]);
    let ids = ids();
    let max_10_us =
        |mode| fold([&calls], &setting(&ids, mode)).spans[Span::Latency as usize].max() / 10_000;
    assert_eq!(max_10_us(LoopMode::Open), 100);
    assert_eq!(max_10_us(LoopMode::Closed), 60);
}

/// What the generator takes to send and to look is in neither.
#[test]
fn the_wire_is_known_apart_from_the_generator() {
    let served = Outcome::served(0, 0, 0);
    let unknown = Entry { on_wire: None, ..entry(NS_PER_S + 1, served) };
    let failed = entry(NS_PER_S, Outcome::Failed(FailureKind::ConnectionLost));
    let ids = ids();
    let calls = log(&[entry(NS_PER_S, served), unknown, failed]);
    let TrialRecord { latency_wire: wire, receipt_delay: receipt, .. } =
        fold([&calls], &setting(&ids, LoopMode::Open)).complete(TrialRecord::default(), &ids);
    assert_eq!((wire.count, wire.max / 10_000), (1, 90));
    assert_eq!((receipt.count, receipt.max / 1_000), (1, 99));
}

#[test]
fn waiting_for_a_slot_is_not_the_generators_lateness() {
    let calls = log(&[Entry {
        ready_ns: NS_PER_S + 500_000,
        sent_ns: NS_PER_S + 500_200,
        ..entry(NS_PER_S, Outcome::served(0, 0, 0))
    }]);
    let ids = ids();
    assert_eq!(fold([&calls], &setting(&ids, LoopMode::Open)).lateness_ns(1.0), 200);
}

#[test]
fn what_failed_is_counted_by_side_and_kind() {
    let calls = log(&[
        entry(NS_PER_S, Outcome::Failed(FailureKind::from_status(14))),
        entry(NS_PER_S, Outcome::Failed(FailureKind::from_status(14))),
        entry(NS_PER_S, Outcome::Failed(FailureKind::WrongPayload)),
        entry(NS_PER_S, Outcome::Unfinished),
        entry(NS_PER_S, Outcome::NotSent),
    ]);
    let ids = ids();
    let folded = fold([&calls], &setting(&ids, LoopMode::Open));
    let counts = folded.counts();
    assert_eq!((counts.scheduled, counts.sent, counts.unfinished), (5, 4, 2));
    let failed: Vec<_> = counts.failed.iter().map(|f| (f.side, f.what.as_str(), f.calls)).collect();
    assert_eq!(failed, [(Side::Proxy, "UNAVAILABLE", 2), (Side::Backend, "wrong payload", 1)]);
}

#[test]
fn times_in_a_backend_are_kept_whole() {
    let second = NS_PER_S;
    let calls = log(&[entry(NS_PER_S, Outcome::served(0, 7 * second, 30 * second))]);
    let ids = ids();
    let folded = fold([&calls], &setting(&ids, LoopMode::Open));
    let record = folded.complete(TrialRecord::default(), &ids);
    let seconds = [record.queued, record.service, record.in_backend].map(|one| one.max / second);
    assert_eq!(seconds, [7, 30, 37]);
    assert_eq!(folded.saturated(), 0);
    let hours = log(&[entry(NS_PER_S, Outcome::served(0, 0, u64::MAX))]);
    assert_eq!(fold([&hours], &setting(&ids, LoopMode::Open)).saturated(), 1, "not in silence");
}

#[test]
fn a_time_as_a_whole_is_in_no_queue_and_may_not_have_been_seen() {
    let served = |service_ns| entry(NS_PER_S, Outcome::served(0, 0, service_ns));
    let calls = log(&[served(40_000), served(0)]);
    let ids = ids();
    let setting = |times| Setting { times, ..setting(&ids, LoopMode::Open) };
    let counts = |times| {
        let TrialRecord { queued, service, in_backend, overhead, .. } =
            fold([&calls], &setting(times)).complete(TrialRecord::default(), &ids);
        [queued, service, in_backend, overhead].map(|one| one.count)
    };
    assert_eq!(counts(Times::Whole), [0, 1, 1, 1]);
    assert_eq!(counts(Times::Apart), [2; 4]);
    assert_eq!(counts(Times::Unknown), [0; 4]);
}

#[test]
fn a_call_before_its_turn_is_counted_and_has_no_service_time() {
    let found = |backend, queued_ns, service_ns| {
        entry(NS_PER_S, Outcome::served(backend, queued_ns, service_ns))
    };
    // In turn at either backend; before its turn; and not seen, since the client ended it.
    let calls = log(&[found(0, 500, 40_000), found(1, 0, 20_000), found(1, 900, 0)]);
    let unseen = log(&[found(0, 0, 0)]);
    let ids = ids();
    let setting =
        Setting { times: Times::Found, by_backend: true, ..setting(&ids, LoopMode::Open) };
    let folded = fold([&calls, &unseen], &setting);
    let TrialRecord { queued, service, in_backend, .. } =
        folded.complete(TrialRecord::default(), &ids);
    assert_eq!([queued, service, in_backend].map(|one| one.count), [2, 2, 3]);
    assert_eq!(folded.out_of_turn(), 1);
    let services: Vec<u64> =
        folded.backends(&ids).iter().map(|one| one.service.as_ref().unwrap().count).collect();
    assert_eq!(services, [1, 1]);
    let mut parts = fold([&calls], &setting);
    parts.merge(&shipped(&fold([&unseen], &setting)));
    assert_eq!(parts, folded);
}

#[test]
fn what_the_generator_never_got_to_is_its_lateness() {
    let due_ns = NS_PER_S;
    let given_up = |ready_ns| Entry {
        due_ns,
        ready_ns,
        sent_ns: 9 * NS_PER_S,
        done_ns: 9 * NS_PER_S,
        on_wire: None,
        outcome: Outcome::NotSent,
    };
    let ids = ids();
    let lateness = |entry| {
        let folded = fold([&log(&[entry])], &setting(&ids, LoopMode::Open));
        let counts = folded.counts();
        assert_eq!((counts.scheduled, counts.sent, counts.unfinished), (1, 0, 1));
        folded.spans[Span::Lateness as usize].len()
    };
    assert_eq!(lateness(given_up(due_ns)), 1);
    assert_eq!(lateness(given_up(9 * NS_PER_S)), 0, "it waited for a stream until then");
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let outcome = prop_oneof![
        (0_u16..2, any::<u64>(), any::<u64>()).prop_map(|(backend, q, s)| Outcome::served(
            backend,
            q >> 8,
            s >> 8
        )),
        (1_i32..18).prop_map(|code| Outcome::Failed(FailureKind::from_status(code))),
        Just(Outcome::Unfinished),
        Just(Outcome::NotSent),
    ];
    let one = (0..4 * NS_PER_S, 0..NS_PER_S, 0..NS_PER_S, 0..5 * NS_PER_S, outcome).prop_map(
        |(due_ns, wait, late, took, outcome)| Entry {
            due_ns,
            ready_ns: due_ns + wait,
            sent_ns: due_ns + wait + late,
            done_ns: due_ns + wait + late + took,
            on_wire: OnWire::new(due_ns + wait + late, due_ns + wait + late + took / 2),
            outcome,
        },
    );
    prop::collection::vec(one, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn merging_equals_folding_together(a in entries(), b in entries()) {
        let ids = ids();
        let setting = setting(&ids, LoopMode::Open);
        let (a, b) = (log(&a), log(&b));
        let together = fold([&a, &b], &setting);
        let mut merged = fold([&a], &setting);
        merged.merge(&fold([&b], &setting));
        prop_assert_eq!(&merged, &together);
        prop_assert_eq!(&shipped(&merged), &together);
        prop_assert!(merged.is_over(2) && !merged.is_over(3));
        let counts = together.counts();
        let failed: u64 = counts.failed.iter().map(|failure| failure.calls).sum();
        prop_assert_eq!(counts.scheduled, counts.ok + failed + counts.unfinished);
    }
}

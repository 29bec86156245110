//! The queue against theory and against a model too simple to be wrong.

use proptest::prelude::*;
use rand_distr::{Distribution, Exp1};
use rand_xoshiro::rand_core::SeedableRng;

use super::*;
use crate::{random::Random, service_time::ServiceTime};

fn queue<T>(concurrency: usize) -> Queue<T> {
    Queue::new(NonZeroUsize::new(concurrency).unwrap(), usize::MAX)
}

/// All completions up to `now_ns`.
fn expire<T>(queue: &mut Queue<T>, now_ns: u64) -> Vec<Done<T>> {
    let mut done = Vec::new();
    queue.expire(now_ns, &mut done);
    done
}

#[test]
fn a_late_wake_up_eats_no_capacity() {
    let mut queue = queue(1);
    for call in 0..3 {
        queue.arrive(0, 100, call).unwrap();
    }
    assert_eq!(queue.next_deadline(), Some(100));
    let finished: Vec<_> = expire(&mut queue, 5000)
        .into_iter()
        .map(|done| (done.payload, done.queued_ns, done.service_ns, done.finished_ns))
        .collect();
    assert_eq!(finished, [(0, 0, 100, 100), (1, 100, 100, 200), (2, 200, 100, 300)]);
}

#[test]
fn an_arrival_sees_what_finished_unnoticed() {
    let mut queue = queue(1);
    queue.arrive(0, 100, "first").unwrap();
    queue.arrive(250, 100, "second").unwrap();
    assert_eq!(queue.next_deadline(), Some(100), "the first is to be collected");
    let done = expire(&mut queue, 350);
    assert_eq!(done[1].queued_ns, 0, "the server was idle since 100");
    assert_eq!(done[1].finished_ns, 350);
    assert_eq!(queue.next_deadline(), None);
}

#[test]
fn a_cancelled_call_leaves_the_queue_and_not_its_server() {
    let mut queue = queue(1);
    let served = queue.arrive(0, 100, 0).unwrap();
    let waits = queue.arrive(0, 100, 1).unwrap();
    queue.arrive(0, 100, 2).unwrap();
    assert_eq!(queue.cancel(served), None);
    assert_eq!(queue.cancel(waits), Some(1));
    assert_eq!(queue.cancel(waits), None);
    let finished: Vec<_> =
        expire(&mut queue, 1000).iter().map(|done| (done.payload, done.finished_ns)).collect();
    assert_eq!(finished, [(0, 100), (2, 200)]);
}

#[test]
fn a_full_queue_gives_the_call_back() {
    let mut queue = Queue::new(NonZeroUsize::MIN, 1);
    queue.arrive(0, 100, 0).unwrap();
    queue.arrive(0, 100, 1).unwrap();
    assert_eq!(queue.arrive(0, 100, 2), Err(2));
    assert_eq!((queue.waiting(), queue.busy()), (1, 1));
    queue.arrive(100, 100, 3).unwrap();
}

#[test]
fn speed_changes_what_starts_after_it() {
    let mut queue = queue(1);
    queue.arrive(0, 100, 0).unwrap();
    queue.arrive(0, 100, 1).unwrap();
    queue.arrive(0, 100, 2).unwrap();
    // At 150 the second is in service already, though nobody looked.
    queue.set_speed(150, 0.2);
    let services: Vec<_> = expire(&mut queue, 10_000).iter().map(|done| done.service_ns).collect();
    assert_eq!(services, [100, 100, 500]);
}

/// Mean time in queue of `calls` Poisson arrivals, in units of the mean
/// service time, at a load of `load` per server.
fn mean_wait(concurrency: usize, service: &str, load: f64, calls: u32) -> f64 {
    const MEAN_NS: f64 = 1e6;
    let service: ServiceTime = service.parse().unwrap();
    let mut random = Random::seed_from_u64(1);
    let mut queue = queue(concurrency);
    let (mut now_ns, mut waited_ns, mut finished) = (0.0, 0.0, 0_u32);
    let mut done = Vec::new();
    for _ in 0..calls {
        let exponential: f64 = Exp1.sample(&mut random);
        now_ns += exponential * MEAN_NS / (load * concurrency as f64);
        let demand_ns = service.sample(&mut random);
        queue.arrive(now_ns as u64, demand_ns, ()).unwrap();
        queue.expire(now_ns as u64, &mut done);
    }
    queue.expire(u64::MAX, &mut done);
    for done in done {
        waited_ns += done.queued_ns as f64;
        finished += 1;
    }
    assert_eq!(finished, calls);
    waited_ns / f64::from(finished) / MEAN_NS
}

/// Runs are long enough that chance stays well under the tolerance.
fn assert_near(measured: f64, theory: f64) {
    let error = measured / theory - 1.0;
    assert!(error.abs() < 0.04, "measured {measured}, theory {theory}");
}

#[test]
fn one_exponential_server_waits_as_m_m_1_says() {
    for load in [0.5, 0.7, 0.85] {
        assert_near(mean_wait(1, "exponential:1ms", load, 1_000_000), load / (1.0 - load));
    }
}

#[test]
fn one_constant_server_waits_as_m_d_1_says() {
    for load in [0.5, 0.7, 0.85] {
        let theory = load / (2.0 * (1.0 - load));
        assert_near(mean_wait(1, "constant:1ms", load, 1_000_000), theory);
    }
}

#[test]
fn four_exponential_servers_wait_as_erlang_c_says() {
    let (servers, load) = (4, 0.7);
    // Erlang C by the recursion of Erlang B.
    let offered = f64::from(servers) * load;
    let erlang_b = (1..=servers)
        .fold(1.0, |blocked, n| offered * blocked / (f64::from(n) + offered * blocked));
    let must_wait = erlang_b / (1.0 - load * (1.0 - erlang_b));
    let theory = must_wait / (f64::from(servers) * (1.0 - load));
    assert_near(mean_wait(4, "exponential:1ms", load, 1_000_000), theory);
}

/// What may happen to a queue.
#[derive(Clone, Debug)]
enum Step {
    /// A call with this demand arrives this long after the step before.
    Arrive { gap_ns: u64, demand_ns: u64 },
    /// The n-th call so far (modulo their number) is cancelled.
    Cancel(usize),
    /// Somebody looks, this long after the step before.
    Look { gap_ns: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..50_u64, 0..100_u64)
            .prop_map(|(gap_ns, demand_ns)| Step::Arrive { gap_ns, demand_ns }),
        1 => any::<usize>().prop_map(Step::Cancel),
        2 => (0..200_u64).prop_map(|gap_ns| Step::Look { gap_ns }),
    ];
    proptest::collection::vec(step, 0..80)
}

proptest! {
    /// Without cancellation every call starts when it has arrived and a server
    /// is free, whenever somebody looks.
    #[test]
    fn fifo_schedule_is_that_of_the_model(steps in steps(), concurrency in 1_usize..5) {
        let mut queue = queue(concurrency);
        let mut free_at = vec![0_u64; concurrency];
        let (mut now, mut expected, mut done) = (0, Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Arrive { gap_ns, demand_ns } => {
                    now += gap_ns;
                    let server = free_at.iter_mut().min().unwrap();
                    let start = now.max(*server);
                    *server = start + demand_ns;
                    expected.push((expected.len(), start - now, start + demand_ns));
                    queue.arrive(now, demand_ns, expected.len() - 1).unwrap();
                }
                Step::Cancel(_) => {}
                Step::Look { gap_ns } => {
                    now += gap_ns;
                    queue.expire(now, &mut done);
                }
            }
        }
        queue.expire(u64::MAX, &mut done);
        prop_assert!(done.is_sorted_by_key(|done| done.finished_ns));
        let mut got: Vec<_> =
            done.iter().map(|done| (done.payload, done.queued_ns, done.finished_ns)).collect();
        got.sort_unstable();
        prop_assert_eq!(got, expected);
    }

    /// Every call ends exactly once, by completion or by cancellation, and no
    /// more are in service than there are servers.
    #[test]
    fn no_call_is_lost_or_doubled(steps in steps(), concurrency in 1_usize..5) {
        let mut queue = queue(concurrency);
        let (mut now, mut tickets, mut done) = (0, Vec::new(), Vec::new());
        let mut ended = Vec::new();
        for step in steps {
            match step {
                Step::Arrive { gap_ns, demand_ns } => {
                    now += gap_ns;
                    tickets.push(queue.arrive(now, demand_ns, tickets.len()).unwrap());
                }
                Step::Cancel(n) if !tickets.is_empty() => {
                    ended.extend(queue.cancel(tickets[n % tickets.len()]));
                }
                Step::Cancel(_) => {}
                Step::Look { gap_ns } => {
                    now += gap_ns;
                    queue.expire(now, &mut done);
                    prop_assert!(queue.next_deadline().is_none_or(|deadline| deadline > now));
                }
            }
            prop_assert!(queue.busy() <= concurrency);
            prop_assert!(queue.waiting() == 0 || queue.busy() == concurrency);
        }
        queue.expire(u64::MAX, &mut done);
        ended.extend(done.iter().map(|done| done.payload));
        ended.sort_unstable();
        prop_assert_eq!(ended, (0..tickets.len()).collect::<Vec<_>>());
        prop_assert_eq!((queue.busy(), queue.waiting()), (0, 0));
    }
}

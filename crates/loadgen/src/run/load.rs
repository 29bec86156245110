//! The load that a scenario makes: which calls are due when, of what size, and on whose
//! connection.

use std::sync::Arc;

use generator::{
    client::Lengths,
    load::{Closed, Load, Numbers, Open},
    rate::RateCurve,
    schedule::{self, Limit, Process, Schedule},
};
use measure::record::LoopMode;
use rand_distr::{Distribution as _, OpenClosed01, StandardNormal};
use rand_xoshiro::{
    SplitMix64,
    rand_core::{Rng, SeedableRng},
};
use scenario::{Arrivals, Length, Pace, Profile, Scenario, Sizes, TracedCall};
use units::duration::nanos;

/// Calls a second that memory is set aside for where the backends decide how
/// many there are.
const CLOSED_LOOP_RATE: f64 = 30_000.0;
/// Sizes that are drawn before a trial; calls beyond have them again.
const DRAWN_SIZES: usize = 1 << 14;
/// Most calls that memory is set aside and touched for before a trial; more
/// than that only cost a reallocation now and then.
const MOST_EXPECTED_CALLS: f64 = 4e6;

/// The seed of a repeat: all chance of its trials comes from it.
pub(crate) fn seed_of_repeat(seed: u64, repeat: u32) -> u64 {
    SplitMix64::seed_from_u64(seed ^ u64::from(repeat).rotate_left(32)).next_u64()
}

/// Which of the workers that make a trial's load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Workers {
    pub(super) first: u32,
    pub(super) count: u32,
    /// Of how many.
    pub(super) of: u32,
}

/// Open or closed loop.
pub(crate) fn mode(scenario: &Scenario) -> LoopMode {
    match scenario.load.pace {
        Pace::Open { .. } => LoopMode::Open,
        Pace::Closed { .. } => LoopMode::Closed,
    }
}

/// Generator threads: one for each CPU of its own. Where it has none of its own,
/// half of all: the others are for those who are measured.
pub(crate) fn workers(cpus: u32, own: usize, connections: u32) -> u32 {
    let wanted = if own > 0 { u32::try_from(own).unwrap_or(cpus) } else { cpus / 2 };
    wanted.clamp(1, connections)
}

/// Connections are dealt to workers in turn, as [`Open`] does it.
pub(super) fn connections_of(
    scenario: &Scenario,
    worker: u32,
    workers: u32,
) -> impl Iterator<Item = u32> {
    (worker..scenario.load.connections).step_by(workers as usize)
}

/// Sizes by the numbers of calls: drawn, where they are to be, before the trial.
pub(super) fn lengths(sizes: &Sizes, seed: u64) -> Lengths {
    let mut chance = SplitMix64::seed_from_u64(seed);
    let mut draw = |one: &mut dyn FnMut(&mut SplitMix64) -> u32| {
        Lengths::Each((0..DRAWN_SIZES).map(|_| one(&mut chance)).collect())
    };
    match sizes {
        Sizes::Constant(bytes) => Lengths::Constant(*bytes),
        Sizes::Listed { bytes, .. } => Lengths::Each(Arc::clone(bytes)),
        Sizes::Uniform { low, high } => {
            let span = u64::from(high - low) + 1;
            // The remainder is below 2^32.
            draw(&mut |chance| low + ((chance.next_u64() >> 16) % span) as u32)
        }
        Sizes::Bimodal { common, rare, rare_percent } => draw(&mut |chance| {
            let is_rare = uniform(chance) * 100.0 <= *rare_percent;
            if is_rare { *rare } else { *common }
        }),
        Sizes::Lognormal { mean, sigma } => {
            let mu = f64::from(*mean).max(1.0).ln() - sigma * sigma / 2.0;
            let most = f64::from(scenario::bounds::PAYLOAD_BYTES.max);
            draw(&mut |chance| {
                let normal: f64 = StandardNormal.sample(chance);
                (mu + sigma * normal).exp().round().min(most) as u32
            })
        }
    }
}

/// Uniform in (0, 1].
fn uniform(chance: &mut SplitMix64) -> f64 {
    OpenClosed01.sample(chance)
}

pub(super) fn load(scenario: &Scenario, worker: u32, share: Workers, seed: u64) -> Load {
    let workers = share.of;
    if let Some(schedule) = schedule(scenario, seed) {
        return Load::Open(Open::new(schedule, worker, workers));
    }
    let load = &scenario.load;
    let think_ns = match load.pace {
        Pace::Open { .. } => 0,
        Pace::Closed { think_time } => nanos(think_time),
    };
    let connections = connections_of(scenario, worker, workers).count();
    let connections = u32::try_from(connections).unwrap_or(u32::MAX);
    let (warm_up_ns, limit) = (nanos(load.warm_up), dealt(limit(load), share));
    let seed = seed ^ u64::from(worker);
    let numbers = Numbers { next: worker.into(), step: workers.into() };
    let (streams, think) = (load.streams, think_ns);
    Load::Closed(Closed::new(connections, streams, think, warm_up_ns, limit, numbers, seed))
}

fn limit(load: &scenario::Load) -> Limit {
    match load.length {
        Length::Duration(duration) => Limit::Until { end_ns: nanos(load.warm_up + duration) },
        Length::Calls(calls) => Limit::Calls { calls },
    }
}

/// What of a closed loop's calls the workers of one node make. They take them from one
/// another, and nobody else's: other nodes are too far away to ask at each call.
fn dealt(limit: Limit, share: Workers) -> Limit {
    let Limit::Calls { calls } = limit else { return limit };
    let before = |worker: u32| {
        let calls = u128::from(calls) * u128::from(worker) / u128::from(share.of);
        u64::try_from(calls).unwrap_or(u64::MAX)
    };
    Limit::Calls { calls: before(share.first + share.count) - before(share.first) }
}

/// All arrivals of an open loop, in order of time; none of a closed one.
pub(super) fn schedule(scenario: &Scenario, seed: u64) -> Option<Schedule> {
    let load = &scenario.load;
    let Pace::Open { arrivals, profile } = &load.pace else { return None };
    let process = match arrivals {
        Arrivals::Constant { .. } => Process::Constant,
        Arrivals::Poisson { .. } | Arrivals::Trace { .. } => Process::Poisson,
    };
    let curve = rate_curve(arrivals.rate(), profile, load);
    let skew = load.skew.map(|skew| schedule::Skew { heavy: skew.heavy, share: skew.share });
    let (warm_up_ns, limit) = (nanos(load.warm_up), limit(load));
    let schedule = Schedule::new(process, curve, load.connections, warm_up_ns, limit, seed);
    let schedule = schedule.skewed(skew);
    Some(match arrivals.trace() {
        Some((trace, speed)) => {
            let due_ns = |call: &TracedCall| (call.at_ns as f64 / speed) as u64;
            schedule.traced(trace.calls().iter().map(due_ns).collect())
        }
        None => schedule,
    })
}

/// The profile over the measured part, after a warm-up at the rate it begins with.
fn rate_curve(rate: f64, profile: &Profile, load: &scenario::Load) -> RateCurve {
    let warm = RateCurve::flat(rate).then(load.warm_up.as_secs_f64(), rate, rate);
    let Length::Duration(duration) = load.length else { return RateCurve::flat(rate) };
    let duration_s = duration.as_secs_f64();
    match profile {
        Profile::Flat => RateCurve::flat(rate),
        Profile::Ramp { to } => warm.then(duration_s, rate, rate * to),
        Profile::Steps { factors } => {
            let length_s = duration_s / factors.len() as f64;
            let steps = factors.iter().map(|factor| rate * factor);
            steps.fold(warm, |curve, step| curve.then(length_s, step, step))
        }
        Profile::Bursts { on, off } => {
            let (on_s, off_s) = (on.as_secs_f64(), off.as_secs_f64());
            // Bounded: an hour of the shortest bursts are 180,000.
            let bursts = (duration_s / (on_s + off_s)).ceil() as u32;
            (0..bursts).fold(warm, |curve, _| curve.then(on_s, rate, rate).then(off_s, 0.0, 0.0))
        }
    }
}

/// Calls that a worker has to expect, with some to spare.
pub(crate) fn expected_calls(scenario: &Scenario, workers: u32) -> usize {
    let load = &scenario.load;
    let rate = load.pace.mean_rate().map_or(CLOSED_LOOP_RATE, |rate| rate * 1.1);
    let warm_up = rate * load.warm_up.as_secs_f64();
    let measured = match load.length {
        Length::Duration(duration) => rate * duration.as_secs_f64(),
        Length::Calls(calls) => calls as f64,
    };
    let calls = (warm_up + measured) / f64::from(workers);
    // At most four million, so it fits.
    calls.min(MOST_EXPECTED_CALLS) as usize + 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_connection_belongs_to_one_worker() {
        let library = scenario::Library::open(crate::root::Root::find().scenarios()).unwrap();
        let scenario = library.find("many-conns").unwrap().resolve(false, &[]).unwrap();
        let mut all: Vec<u32> =
            (0..3).flat_map(|worker| connections_of(&scenario, worker, 3)).collect();
        all.sort_unstable();
        assert_eq!(all, (0..64).collect::<Vec<_>>());
    }

    /// However workers are spread over nodes, those of all make the load that one
    /// process would: the same calls at the same times on the same connections.
    #[test]
    fn what_all_nodes_send_is_what_one_process_would() {
        let library = scenario::Library::open(crate::root::Root::find().scenarios()).unwrap();
        let scenario = library.find("many-conns").unwrap().resolve(true, &[]).unwrap();
        let arrivals = |worker, of| {
            let share = Workers { first: worker, count: 1, of };
            let mut load = load(&scenario, worker, share, 7);
            let begun = std::sync::atomic::AtomicU64::new(0);
            std::iter::from_fn(move || load.take_due(u64::MAX, &begun))
                .map(|arrival| schedule::Arrival {
                    connection: arrival.connection * of + worker,
                    ..arrival
                })
                .collect::<Vec<_>>()
        };
        let one = arrivals(0, 1);
        assert!(one.len() > 100);
        for of in [2, 3, 7] {
            let mut all: Vec<_> = (0..of).flat_map(|worker| arrivals(worker, of)).collect();
            all.sort_by_key(|arrival| arrival.number);
            assert_eq!(all, one);
        }
    }

    #[test]
    fn calls_of_a_closed_loop_are_dealt_to_the_last() {
        let of = 7;
        for calls in [0, 1, 6, 1_000, u64::MAX] {
            let nodes = [(0, 2), (2, 4), (6, 1)];
            let dealt = nodes.map(|(first, count)| {
                match dealt(Limit::Calls { calls }, Workers { first, count, of }) {
                    Limit::Calls { calls } => calls,
                    Limit::Until { .. } => panic!("it is in calls"),
                }
            });
            assert_eq!(dealt.iter().sum::<u64>(), calls);
        }
    }

    #[test]
    fn cores_are_left_to_those_who_are_measured() {
        assert_eq!(workers(1, 0, 64), 1);
        assert_eq!(workers(2, 0, 64), 1);
        assert_eq!(workers(8, 0, 64), 4);
        assert_eq!(workers(8, 2, 64), 2);
        assert_eq!(workers(8, 0, 3), 3);
    }

    #[test]
    fn repeats_differ_and_can_be_repeated() {
        assert_eq!(seed_of_repeat(1, 0), seed_of_repeat(1, 0));
        assert_ne!(seed_of_repeat(1, 0), seed_of_repeat(1, 1));
        assert_ne!(seed_of_repeat(1, 0), seed_of_repeat(2, 0));
    }
}

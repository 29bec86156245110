//! A machine that others use, drawn by chance: what trials on it say, so that intervals and
//! verdicts can be held against a truth that is known.
//!
//! In a phase of steal or of a busy neighbour all is slower, and such phases last for several
//! trials. The tests of this crate ask a few runs of it, and `scripts/bench.sh truth` many.

use measure::statistics::{
    interval::{Estimate, Interval, over_trials, ratio_paired},
    signed_rank::ratio_by_ranks,
    stopping::{Spending, looks},
};
use rand_distr::{Distribution, Exp1, StandardNormal};
use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{Rng, SeedableRng},
};

/// Trials that a slow phase and a calm one last in the mean: a fifth of the time is slow.
const SLOW_LASTS: f64 = 5.0;
const CALM_LASTS: f64 = 20.0;
/// Level of the intervals that a report prints.
const LEVEL: f64 = 0.95;

/// What trials vary by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Noise {
    /// The standard deviation of a trial's logarithm by itself.
    pub(crate) own: f64,
    /// What a slow phase multiplies by.
    pub(crate) slow: f64,
    /// The part of the trials that has a stall besides, which doubles the value or more.
    pub(crate) stalls: f64,
    /// Whether the lab sees a slow phase, as it sees steal and neighbours. It does not see a
    /// core that sleeps deeper or has a lower clock.
    pub(crate) is_seen: bool,
}

/// The machine.
pub(crate) struct Machine {
    chance: Xoshiro256PlusPlus,
    noise: Noise,
    is_slow: bool,
}

impl Machine {
    pub(crate) fn new(noise: Noise, seed: u64) -> Self {
        let mut machine =
            Self { chance: Xoshiro256PlusPlus::seed_from_u64(seed), noise, is_slow: false };
        machine.is_slow = machine.happens(SLOW_LASTS / (SLOW_LASTS + CALM_LASTS));
        machine
    }

    /// The next trial of what takes 1 on this machine while it is calm.
    fn trial(&mut self) -> f64 {
        let lasts = if self.is_slow { SLOW_LASTS } else { CALM_LASTS };
        if self.happens(1.0 / lasts) {
            self.is_slow = !self.is_slow;
        }
        let normal: f64 = StandardNormal.sample(&mut self.chance);
        let phase = if self.is_slow { self.noise.slow } else { 1.0 };
        let stall: f64 =
            if self.happens(self.noise.stalls) { Exp1.sample(&mut self.chance) } else { -1.0 };
        phase * (self.noise.own * normal).exp() * (2.0 + stall)
    }

    fn happens(&mut self, part: f64) -> bool {
        ((self.chance.next_u64() >> 11) as f64) < part * (1_u64 << 53) as f64
    }
}

/// The shares of intervals that hold the truth.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Coverage {
    /// Of those of a figure: the calm machine's.
    pub(crate) figure: f64,
    /// Of those of the ratio of two peers.
    pub(crate) ratio: f64,
    /// Of those of a figure that takes every trial as it comes: what the machine does over
    /// all hours.
    pub(crate) all_hours: f64,
    /// Of those of the ratio of such.
    pub(crate) ratio_all_hours: f64,
    /// The part of the runs that said that they were disturbed beyond what could be measured
    /// again. They are not in the first two.
    pub(crate) in_doubt: f64,
}

/// Simulates runs of two equal peers as the lab makes them: trials there and back, and those
/// that were disturbed once more at the end of their repeat, as long as there are any to
/// spare.
pub(crate) fn coverage(repeats: usize, runs: u32) -> Coverage {
    let mut machine = Machine::new(Noise { own: 0.05, slow: 1.5, stalls: 0.0, is_seen: true }, 31);
    let all_hours = (SLOW_LASTS / (SLOW_LASTS + CALM_LASTS) * machine.noise.slow.ln()).exp();
    let (mut held, mut in_doubt) = ([0_u32; 4], 0);
    for _ in 0..runs {
        // Runs are made at different times.
        machine.is_slow = machine.happens(SLOW_LASTS / (SLOW_LASTS + CALM_LASTS));
        let mut spare = 2 * repeats / 4;
        let mut first = [Vec::new(), Vec::new()];
        let mut counted = [Vec::new(), Vec::new()];
        let mut is_in_doubt = false;
        for repeat in 0..repeats {
            let mut open = if repeat % 2 == 0 { vec![0, 1] } else { vec![1, 0] };
            let mut values = [None; 2];
            loop {
                let mut disturbed = Vec::new();
                for peer in open {
                    let value = machine.trial();
                    if values[peer].replace(value).is_none() {
                        first[peer].push(value);
                    }
                    if machine.is_slow {
                        disturbed.push(peer);
                    }
                }
                is_in_doubt |= disturbed.len() > spare;
                disturbed.truncate(spare);
                spare -= disturbed.len();
                if disturbed.is_empty() {
                    break;
                }
                open = disturbed;
            }
            for (counted, value) in counted.iter_mut().zip(values) {
                counted.extend(value);
            }
        }
        let figure = |values: &[Vec<f64>; 2]| over_trials(&values[0], LEVEL);
        let ratio = |values: &[Vec<f64>; 2]| ratio_paired(&values[0], &values[1], LEVEL);
        held[2] += u32::from(holds(figure(&first), all_hours));
        held[3] += u32::from(holds(ratio(&first), 1.0));
        if is_in_doubt {
            in_doubt += 1;
            continue;
        }
        held[0] += u32::from(holds(figure(&counted), 1.0));
        held[1] += u32::from(holds(ratio(&counted), 1.0));
    }
    let share = |held: u32, of: u32| f64::from(held) / f64::from(of.max(1));
    Coverage {
        figure: share(held[0], runs - in_doubt),
        ratio: share(held[1], runs - in_doubt),
        all_hours: share(held[2], runs),
        ratio_all_hours: share(held[3], runs),
        in_doubt: share(in_doubt, runs),
    }
}

fn holds(estimate: Option<Estimate>, truth: f64) -> bool {
    interval(estimate).is_some_and(|interval| interval.holds(truth))
}

fn interval(estimate: Option<Estimate>) -> Option<Interval> {
    estimate.and_then(|estimate| estimate.interval)
}

/// CPU per call of a proxy. On a shared virtual machine of two cores, ratios of two peers varied
/// from repeat to repeat by 4 to 24 % (standard deviation of the logarithm), 10 % in the
/// middle: by 7 % of either side.
pub(crate) const CPU: Noise = Noise { own: 0.07, slow: 1.5, stalls: 0.0, is_seen: false };
/// p99 of a service of 5 ms, which varied by as much there. In a phase it is as long as what
/// waits.
pub(crate) const P99: Noise = Noise { own: 0.07, slow: 3.0, stalls: 0.05, is_seen: false };

/// How `compare --rerun` decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// By the ranks of pairs, but of those of which the lab has seen that one side was
    /// disturbed and the other was not, with an error that is spent as time goes.
    Ranks,
    /// By Student's interval of pairs, with an error that 14 looks share evenly.
    Student,
}

/// What was said of two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Higher,
    Lower,
    /// They differ by less than what was looked for.
    Same,
    /// Not known within the budget.
    Open,
}

/// Compares two sides on a machine, of which the second is `ratio` times the first, until it is
/// known whether they differ or `most` repeats were made. `figures` are all that are compared.
/// Returns what was said and after how many repeats.
pub(crate) fn compare(
    machine: &mut Machine,
    ratio: f64,
    detect: f64,
    most: usize,
    figures: usize,
    rule: Rule,
) -> (Said, usize) {
    const ERROR: f64 = 0.005;
    const STUDENT_LOOKS: usize = 14;
    let mut spending = Spending::new(1.0 - ERROR);
    let mut at: Box<dyn Iterator<Item = usize>> = match rule {
        Rule::Ranks => Box::new(looks()),
        Rule::Student => Box::new(
            std::iter::successors(Some(5), |repeats| Some(repeats + repeats * 2 / 5))
                .take(STUDENT_LOOKS),
        ),
    };
    let mut next = at.next();
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for repeat in 1..=most {
        let (first, was_slow) = (machine.trial(), machine.is_slow);
        let second = machine.trial();
        // Which side comes first is tossed.
        let (one, other) = if machine.happens(0.5) { (first, second) } else { (second, first) };
        let is_uneven = machine.noise.is_seen && was_slow != machine.is_slow;
        if rule == Rule::Student || !is_uneven {
            before.push(one);
            after.push(ratio * other);
        }
        if next != Some(repeat) && repeat < most {
            continue;
        }
        next = at.next();
        let estimate = match rule {
            Rule::Ranks => {
                let error = spending.spend(repeat as f64 / most as f64) / figures as f64;
                ratio_by_ranks(&after, &before, 1.0 - error)
            }
            Rule::Student => {
                let shared = (figures * STUDENT_LOOKS) as f64;
                ratio_paired(&after, &before, 1.0 - ERROR / shared)
            }
        };
        let Some(interval) = interval(estimate) else { continue };
        let said = if interval.low >= 1.0 / (1.0 + detect) && interval.high <= 1.0 + detect {
            Said::Same
        } else if interval.low > 1.0 {
            Said::Higher
        } else if interval.high < 1.0 {
            Said::Lower
        } else {
            continue;
        };
        return (said, repeat);
    }
    (Said::Open, most)
}

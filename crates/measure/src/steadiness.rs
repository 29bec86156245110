//! What a trial's calls say of the trial itself: when it had settled, and whether
//! what was sent is what was asked for.
//!
//! A figure of a trial speaks of a steady state. So the part before it, beyond the
//! warm-up that was planned, is found here and left out; a trial that never settles
//! is said to be one. And a load that was not the one asked for answers another
//! question than the scenario's.
//!
//! Left out: trials in which something happens on purpose (faults, a rate that
//! changes). They are not steady by design, and the caller doesn't ask.

use crate::{
    calllog::{CallLog, Entry, Outcome},
    fold::Window,
    statistics::{
        arrivals::{exponential, rate_check},
        median,
        warm_up::{WarmUp, change_point, mser5},
    },
};

/// Stretches of equally many calls that a trial is cut into: 20 values for
/// MSER-5, which joins five to one.
const STRETCHES: usize = 100;
/// Calls that a stretch needs for its median to be more than chance.
const STRETCH_CALLS: usize = 5;
/// How much slower or faster the start must be than the rest to be cut off: less
/// is found in nearly every series, and is worth more in than out.
const CUT_EFFECT: f64 = 1.1;
/// The p-value below which the start is another state. Of a thousand steady trials
/// two lose their start, which harms no figure.
const CUT_P: f64 = 0.002;
/// How far the last third's level may lie from the first third's.
const DRIFT_EFFECT: f64 = 1.2;
/// How far the number of calls may be off, as a fraction. A trial's edges and a
/// stall shift some calls, never one in fifty.
const RATE_EFFECT: f64 = 0.02;
/// The p-value below which a number of Poisson calls is not the one asked for.
const RATE_P: f64 = 0.001;
/// Neighbouring gaps that are tested: as many as can show a real effect, and not so
/// many that the clock's own resolution is found.
const GAPS: usize = 2_000;
/// The distance between the distribution of gaps and the exponential one from
/// which calls are said to go out in clumps.
const CLUMP_EFFECT: f64 = 0.15;
/// The p-value that goes with it.
const CLUMP_P: f64 = 0.001;

/// Whether a trial had a steady state, and from when on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Steadiness {
    /// Nanoseconds to leave out at the start of the window.
    pub cut_ns: u64,
    /// The level of latency in the last third over that of the first, when there is
    /// a trend that no cut of the first half ends; `None` in a steady state.
    pub drift: Option<f64>,
}

/// Looks for the steady state in the latency of the calls due in `window`: MSER-5
/// names a cut, and Pettitt's test has to confirm it (see
/// [`warm_up`](crate::statistics::warm_up)).
///
/// The series are medians of equally many calls in the order of their due time, so
/// that a stall of a millisecond is no state of its own. `None` with fewer than 500
/// served calls.
pub fn steadiness<'a>(
    logs: impl IntoIterator<Item = &'a CallLog>,
    window: Window,
) -> Option<Steadiness> {
    let mut calls: Vec<(u64, f64)> = entries(logs, window)
        .filter(|entry| matches!(entry.outcome, Outcome::Served { .. }))
        .map(|entry| (entry.due_ns, entry.done_ns.saturating_sub(entry.due_ns) as f64))
        .collect();
    if calls.len() < STRETCHES * STRETCH_CALLS {
        return None;
    }
    calls.sort_unstable_by_key(|&(due_ns, _)| due_ns);
    let size = calls.len() / STRETCHES;
    let levels: Vec<f64> = calls
        .chunks_exact(size)
        .take(STRETCHES)
        .filter_map(|stretch| {
            let latencies: Vec<f64> = stretch.iter().map(|&(_, latency)| latency).collect();
            median(&latencies)
        })
        .collect();
    let cut = match mser5(&levels)? {
        WarmUp::NotSettled => return Some(Steadiness { cut_ns: 0, drift: drift(&levels) }),
        WarmUp::Settled { cut } => end_of_start(&levels, cut),
    };
    // A queue that only grows has no start to cut off: what is left of it grows too.
    if still_moves(&levels[cut..]) {
        return Some(Steadiness { cut_ns: 0, drift: drift(&levels) });
    }
    let cut_ns = if cut == 0 { 0 } else { calls[cut * size].0 - window.start_ns };
    Some(Steadiness { cut_ns, drift: None })
}

/// Whether the level is another one at the end: by a change that is no chance, and
/// by more than is worth a word. MSER's own test of the trend sees ten values of the
/// rest, and allows for their correlation, so that it misses a steady climb.
fn still_moves(levels: &[f64]) -> bool {
    let significant = change_point(levels).is_some_and(|change| change.p_value < CUT_P);
    significant && drift(levels).is_some()
}

/// Where the start ends: at MSER's cut, or, when what lies before that is mostly
/// like the rest, at the change itself; 0 when it is no other state.
///
/// MSER's least error is flat, and now and then lies far behind the change.
fn end_of_start(levels: &[f64], mser_cut: usize) -> usize {
    let Some(change) = change_point(levels) else { return 0 };
    if change.p_value >= CUT_P || mser_cut == 0 {
        return 0;
    }
    let is_another_state = |cut: usize| {
        let (before, after) = levels.split_at(cut);
        median(before).zip(median(after)).is_some_and(|(a, b)| is_far(b / a, CUT_EFFECT))
    };
    [mser_cut, change.index]
        .into_iter()
        .find(|&cut| cut <= levels.len() / 2 && is_another_state(cut))
        .unwrap_or(0)
}

fn drift(levels: &[f64]) -> Option<f64> {
    let third = levels.len() / 3;
    let ratio = median(&levels[levels.len() - third..])? / median(&levels[..third])?;
    is_far(ratio, DRIFT_EFFECT).then_some(ratio)
}

fn is_far(ratio: f64, bound: f64) -> bool {
    !(1.0 / bound..=bound).contains(&ratio)
}

/// What an open loop was asked to send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Asked {
    /// Calls per second.
    pub rate: f64,
    /// Whether calls are independent of each other (Poisson); otherwise they come
    /// at equal distances.
    pub poisson: bool,
}

/// What was sent instead of what was asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unasked {
    /// Another number of calls: calls per second sent.
    Rate(f64),
    /// Poisson calls whose gaps are not exponential: the largest distance between
    /// the two distributions, from 0 to 1.
    Gaps(f64),
}

/// Tests the calls sent in `window` against what was asked for: their number, and of
/// Poisson arrivals the gaps, by Anderson and Darling (see
/// [`arrivals`](crate::statistics::arrivals)).
///
/// Calls that waited for a free stream are sent late, and that shows here: the
/// backends then had another load than the scenario says.
pub fn unasked<'a>(
    logs: impl IntoIterator<Item = &'a CallLog>,
    window: Window,
    asked: Asked,
) -> Vec<Unasked> {
    let mut sent: Vec<u64> = logs
        .into_iter()
        .flat_map(CallLog::entries)
        .filter(|entry| entry.outcome != Outcome::NotSent && window.holds(entry.sent_ns))
        .map(|entry| entry.sent_ns)
        .collect();
    sent.sort_unstable();
    let mut found = Vec::new();
    let count = sent.len() as u64;
    if let Some(check) = rate_check(count, asked.rate * window.seconds())
        && (check.ratio - 1.0).abs() > RATE_EFFECT
        && (!asked.poisson || check.p_value < RATE_P)
    {
        found.push(Unasked::Rate(count as f64 / window.seconds()));
    }
    // From the middle, where neither edge has a part.
    let first = sent.len().saturating_sub(GAPS) / 2;
    let gaps: Vec<f64> =
        sent[first..].windows(2).take(GAPS).map(|pair| (pair[1] - pair[0]) as f64).collect();
    if asked.poisson
        && let Some(test) = exponential(&gaps)
        && test.distance > CLUMP_EFFECT
        && test.p_value < CLUMP_P
    {
        found.push(Unasked::Gaps(test.distance));
    }
    found
}

fn entries<'a>(
    logs: impl IntoIterator<Item = &'a CallLog>,
    window: Window,
) -> impl Iterator<Item = &'a Entry> {
    logs.into_iter().flat_map(CallLog::entries).filter(move |entry| window.holds(entry.due_ns))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::chance::Chance;

    const SECOND: u64 = 1_000_000_000;
    const WINDOW: Window = Window { start_ns: SECOND, end_ns: 11 * SECOND };
    const RATE: f64 = 1_000.0;

    /// Poisson calls over the window; `took_ns` gives the mean latency at a time,
    /// `sent_ns` the sending of a call that is due.
    fn log(seed: u64, took_ns: impl Fn(u64) -> f64, sent_ns: impl Fn(u64) -> u64) -> CallLog {
        let mut chance = Chance::new(seed);
        let mut log = CallLog::default();
        let mut due = WINDOW.start_ns as f64;
        loop {
            due += chance.exponential() * 1e9 / RATE;
            let due_ns = due as u64;
            if due_ns >= WINDOW.end_ns {
                return log;
            }
            let took = took_ns(due_ns) * chance.exponential();
            let sent_ns = sent_ns(due_ns);
            log.push(Entry {
                due_ns,
                ready_ns: due_ns,
                sent_ns,
                done_ns: sent_ns + took as u64,
                on_wire: None,
                outcome: Outcome::served(0, 0, 0),
            });
        }
    }

    fn at_once(due_ns: u64) -> u64 {
        due_ns
    }

    #[test]
    fn steady_trials_are_left_whole_nineteen_times_of_twenty() {
        let touched = (0..200)
            .map(|seed| steadiness(&[log(seed, |_| 1e6, at_once)], WINDOW).unwrap())
            .filter(|found| *found != Steadiness { cut_ns: 0, drift: None })
            .count();
        assert!(touched <= 10, "{touched} of 200 steady trials were accused");
    }

    #[test]
    fn a_slow_start_is_cut_where_it_ends_or_at_least_told() {
        let ends_ns = 3 * SECOND;
        let (mut late, mut detected) = (0, 0);
        for seed in 0..20 {
            let slow_then_fast = |due_ns| if due_ns < ends_ns { 3e6 } else { 1e6 };
            let found = steadiness(&[log(seed, slow_then_fast, at_once)], WINDOW).unwrap();
            if found.drift.is_some() {
                detected += 1;
                continue;
            }
            let cut_at = WINDOW.start_ns + found.cut_ns;
            // A cut comes in steps of half a second, and chance may carry it on.
            assert!(cut_at >= ends_ns - SECOND / 2, "cut at {cut_at} with seed {seed}");
            late += usize::from(cut_at > ends_ns + SECOND);
        }
        assert!(late <= 6, "{late} of 20 cuts took more than a second that was steady");
        assert!(detected <= 2, "{detected} of 20 were taken for trials without a steady state");
    }

    #[test]
    fn a_queue_that_grows_until_the_end_has_no_steady_state() {
        let growing = |due_ns: u64| 1e6 + (due_ns - WINDOW.start_ns) as f64 / 1e3;
        let found = steadiness(&[log(1, growing, at_once)], WINDOW).unwrap();
        assert!(found.drift.is_some_and(|ratio| ratio > 2.0), "{found:?}");
        assert_eq!(found.cut_ns, 0);
    }

    #[test]
    fn an_overloaded_backend_is_told_and_keeps_its_window() {
        // More calls come than are served, so that each waits longer than the one
        // before; the service itself is little beside that.
        for seed in 0..20 {
            let mut log = log(seed, |_| 4e6, at_once);
            let waiting = |due_ns: u64| (due_ns - WINDOW.start_ns) / 5;
            let entries: Vec<Entry> = log
                .entries()
                .iter()
                .map(|entry| Entry { done_ns: entry.done_ns + waiting(entry.due_ns), ..*entry })
                .collect();
            log = CallLog::default();
            entries.into_iter().for_each(|entry| log.push(entry));
            let found = steadiness(&[log], WINDOW).unwrap();
            assert_eq!(found.cut_ns, 0, "seed {seed}");
            assert!(found.drift.is_some_and(|ratio| ratio > 2.0), "{found:?} with seed {seed}");
        }
    }

    #[test]
    fn few_calls_say_nothing() {
        let mut few = CallLog::default();
        log(1, |_| 1e6, at_once).entries()[..400].iter().for_each(|entry| few.push(*entry));
        assert_eq!(steadiness(&[few], WINDOW), None);
    }

    #[test]
    fn calls_as_asked_are_not_accused() {
        let asked = Asked { rate: RATE, poisson: true };
        let accused = (0..100)
            .filter(|&seed| !unasked(&[log(seed, |_| 1e6, at_once)], WINDOW, asked).is_empty())
            .count();
        assert!(accused <= 2, "{accused} of 100");
        // Woken up to 50 µs late, as it takes a virtual machine's core to start.
        let woken = |due_ns: u64| due_ns + due_ns % 50_000;
        assert_eq!(unasked(&[log(7, |_| 1e6, woken)], WINDOW, asked), []);
    }

    #[test]
    fn another_rate_and_clumps_are_found() {
        let calls = [log(3, |_| 1e6, at_once)];
        let asked = Asked { rate: RATE * 1.1, poisson: true };
        assert!(matches!(unasked(&calls, WINDOW, asked)[..], [Unasked::Rate(rate)]
            if (rate / RATE - 1.0).abs() < 0.05));
        // Everything of 3 ms goes out at once.
        let clumped = |due_ns: u64| due_ns.next_multiple_of(3_000_000);
        let asked = Asked { rate: RATE, poisson: true };
        let found = unasked(&[log(3, |_| 1e6, clumped)], WINDOW, asked);
        assert!(matches!(found[..], [Unasked::Gaps(distance)] if distance > 0.3), "{found:?}");
    }
}

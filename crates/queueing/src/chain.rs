//! The Markov chain behind [`crate::shortest`]: numbers in flight on a few
//! backends, sorted, and its stationary chances.

use std::collections::HashMap;

/// The chance that a call joins the backend at each place of the list sorted from
/// most calls to fewest: of d different places chosen, it takes the last.
pub(crate) fn position_chances(backends: usize, choices: usize) -> Vec<f64> {
    let choose = |n: usize| {
        (0..choices).map(|i| n.saturating_sub(i) as f64 / (choices - i) as f64).product::<f64>()
    };
    let all = choose(backends);
    (0..backends).map(|place| (choose(place + 1) - choose(place)) / all).collect()
}

/// How many sorted lists of `n` numbers from 0 to `cap` there are.
pub(crate) fn count_states(n: usize, cap: usize) -> usize {
    let count = (1..=n).fold(1.0, |count, i| count * (cap + i) as f64 / i as f64);
    count.round() as usize
}

/// The chain: numbers in flight, sorted from most to fewest.
pub(crate) struct Chain {
    pub(crate) n: usize,
    pub(crate) c: usize,
    pub(crate) cap: usize,
    pub(crate) lambda: f64,
    pub(crate) mu: f64,
}

/// Where a state's probability comes from, and at which rate.
pub(crate) struct Flows {
    states: Vec<Vec<u16>>,
    /// For each state the states that lead to it.
    into: Vec<Vec<(u32, f64)>>,
    /// The rate of leaving each state.
    out: Vec<f64>,
    /// The part of it that arrivals make.
    up: Vec<f64>,
    /// The calls in flight in each state; they never fall along the list.
    totals: Vec<usize>,
}

impl Chain {
    /// The share of calls turned away, and the chance of joining i calls.
    pub(crate) fn joins(&self, joined: &[f64]) -> (f64, Vec<f64>) {
        let flows = self.flows(joined);
        let chances = stationary(&flows);
        let mut joins = vec![0.0; self.cap];
        let mut lost = 0.0;
        for (state, chance) in flows.states.iter().zip(&chances) {
            for (place, share) in joined.iter().enumerate() {
                match joins.get_mut(usize::from(state[place])) {
                    Some(sum) => *sum += chance * share,
                    None => lost += chance * share,
                }
            }
        }
        joins.iter_mut().for_each(|share| *share /= 1.0 - lost);
        (lost, joins)
    }

    pub(crate) fn flows(&self, joined: &[f64]) -> Flows {
        let mut states = Vec::new();
        list(self.n, self.cap, &mut Vec::with_capacity(self.n), &mut states);
        // By calls in all, so that a sweep follows the arrivals.
        let total = |state: &Vec<u16>| state.iter().map(|&calls| usize::from(calls)).sum::<usize>();
        states.sort_by_key(total);
        let totals = states.iter().map(total).collect();
        let index: HashMap<&[u16], u32> =
            states.iter().enumerate().map(|(i, state)| (state.as_slice(), i as u32)).collect();
        let mut into: Vec<Vec<(u32, f64)>> = vec![Vec::new(); states.len()];
        let mut out = vec![0.0; states.len()];
        let mut up = vec![0.0; states.len()];
        for (from, state) in states.iter().enumerate() {
            let mut add = |next: &[u16], rate: f64| {
                out[from] += rate;
                into[index[next] as usize].push((from as u32, rate));
            };
            let mut next = state.clone();
            for (place, share) in joined.iter().enumerate() {
                let calls = state[place];
                if *share > 0.0 && usize::from(calls) < self.cap {
                    // The first of its equals grows, so the list stays sorted.
                    let first = state.iter().position(|&other| other == calls).unwrap_or(place);
                    next[first] += 1;
                    add(&next, self.lambda * share);
                    up[from] += self.lambda * share;
                    next[first] -= 1;
                }
            }
            for place in 0..self.n {
                let calls = state[place];
                if calls > 0 {
                    let last = state.iter().rposition(|&other| other == calls).unwrap_or(place);
                    next[last] -= 1;
                    add(&next, self.mu * usize::from(calls).min(self.c) as f64);
                    next[last] += 1;
                }
            }
        }
        drop(index);
        Flows { states, into, out, up, totals }
    }
}

/// All lists of `n` numbers that never rise, the first at most `cap`, which the
/// limit on states keeps far below 2^16.
fn list(n: usize, cap: usize, prefix: &mut Vec<u16>, all: &mut Vec<Vec<u16>>) {
    if prefix.len() == n {
        all.push(prefix.clone());
        return;
    }
    let most = prefix.last().map_or(cap, |&calls| usize::from(calls));
    for calls in 0..=most {
        prefix.push(calls as u16);
        list(n, cap, prefix, all);
        prefix.pop();
    }
}

/// The stationary chances, by Gauss and Seidel's sweeps to and fro.
///
/// Sweeps alone take long to settle how many calls are in the system in all.
/// After each, that is set right at once: between neighbouring totals as many
/// calls must come as go (iterative aggregation and disaggregation, Y. Takahashi
/// 1975). This cuts the sweeps from thousands to tens.
fn stationary(flows: &Flows) -> Vec<f64> {
    let count = flows.states.len();
    let mut chances = vec![1.0 / count as f64; count];
    for _sweep in 0..2_000 {
        balance_totals(flows, &mut chances);
        let mut change = 0.0;
        let mut visit = |i: usize| {
            let inflow: f64 =
                flows.into[i].iter().map(|&(from, rate)| chances[from as usize] * rate).sum();
            let new = inflow / flows.out[i];
            change += (new - chances[i]).abs();
            chances[i] = new;
        };
        (0..count).for_each(&mut visit);
        (0..count).rev().for_each(&mut visit);
        if change < 1e-10 {
            break;
        }
    }
    balance_totals(flows, &mut chances);
    chances
}

/// Scales the chances of all states of a total, for every total, so that flows
/// up and down between totals are equal and all chances sum to 1.
fn balance_totals(flows: &Flows, chances: &mut [f64]) {
    let totals = flows.totals[flows.totals.len() - 1] + 1;
    let mut mass = vec![0.0; totals];
    let mut up = vec![0.0; totals];
    let mut down = vec![0.0; totals];
    for (i, chance) in chances.iter().enumerate() {
        let total = flows.totals[i];
        mass[total] += chance;
        up[total] += chance * flows.up[i];
        down[total] += chance * (flows.out[i] - flows.up[i]);
    }
    let mut scale = vec![1.0; totals];
    for total in 1..totals {
        scale[total] = scale[total - 1] * up[total - 1] / down[total];
    }
    let whole: f64 = scale.iter().zip(&mass).map(|(scale, mass)| scale * mass).sum();
    for (chance, &total) in chances.iter_mut().zip(&flows.totals) {
        *chance *= scale[total] / whole;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_busy_for_the_share_of_the_load() {
        let cases =
            [(4, 1, 2, 0.85, 14), (4, 1, 4, 0.85, 14), (3, 2, 2, 0.7, 14), (8, 1, 2, 0.8, 6)];
        for (n, c, d, load, cap) in cases {
            let lambda = load * f64::from(n * c);
            let chain = Chain { n: n as usize, c: c as usize, cap, lambda, mu: 1.0 };
            let joined = position_chances(n as usize, d);
            let (lost, _) = chain.joins(&joined);
            let flows = chain.flows(&joined);
            let busy: f64 = flows
                .states
                .iter()
                .zip(stationary(&flows))
                .map(|(state, chance)| {
                    let busy: usize =
                        state.iter().map(|&calls| usize::from(calls).min(c as usize)).sum();
                    busy as f64 * chance
                })
                .sum();
            let expected = lambda * (1.0 - lost);
            assert!((busy / expected - 1.0).abs() < 1e-7, "{busy} is not {expected}");
        }
    }
}

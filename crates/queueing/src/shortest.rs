//! The fewest calls in flight of d backends chosen by chance out of n: join the
//! shortest queue when d = n, the power of two choices when d = 2, random
//! picking when d = 1. n equal backends with c servers of rate μ each, Poisson
//! arrivals of rate λ over all of them, exponential service.
//!
//! There is no closed form for finite n. For a few backends the numbers in
//! flight, sorted, are a Markov chain small enough to be solved: every state up
//! to a cap is kept, and the cap is raised until it turns away fewer than one
//! call in a million. For many backends there are [`bounds`] here and the
//! limit in [`crate::choices`].
//!
//! Assumes that whoever picks sees the true numbers in flight. Several pickers
//! that each know only their own calls do worse.

use std::collections::HashMap;

use crate::{
    Error, Model,
    gim::{Gaps, GiMc},
    mmc::MMc,
    model::{at_most, positive, settles},
    special::{poisson_at_least, poisson_below, poisson_pmf},
};

/// Most states of the chain.
const MAX_STATES: usize = 60_000;
/// The share of calls that the cap may turn away.
const MOST_LOST: f64 = 1e-6;
/// The share of calls that is accepted when the next cap has too many states.
const TOLERATED_LOST: f64 = 2e-5;

/// The model.
#[derive(Clone, Debug, PartialEq)]
pub struct Shortest {
    backends: u32,
    servers: u32,
    choices: u32,
    utilisation: f64,
    service_rate: f64,
    /// The chance that an arriving call joins a backend that has i calls.
    joins: Vec<f64>,
}

/// The least and the most that [`Shortest`] with d = n can take on average: one
/// queue for all servers, since no server there idles while a call waits, and
/// round robin, the best of all policies that don't look (A. Ephremides, P.
/// Varaiya, J. Walrand, *A simple dynamic routing problem*, 1980, which also
/// shows that the shortest queue is the best of those that do).
///
/// # Errors
/// When a figure is not positive, or λ >= n c μ.
pub fn bounds(
    backends: u32,
    servers: u32,
    arrival_rate: f64,
    service_rate: f64,
) -> Result<(MMc, GiMc), Error> {
    let n = positive("the number of backends", f64::from(backends))?;
    let lower = MMc::new(arrival_rate, service_rate, backends.saturating_mul(servers))?;
    let gaps = Gaps::Erlang { stages: backends };
    let upper = GiMc::new(gaps, arrival_rate / n, service_rate, servers)?;
    Ok((lower, upper))
}

impl Shortest {
    /// `arrival_rate` is λ over all backends, `service_rate` is μ of one server,
    /// both per second; `choices` is at most `backends`.
    ///
    /// # Errors
    /// When a figure is not positive, when λ >= n c μ, or when the chain has too
    /// many states: more than about ten backends, or fewer close to full load.
    pub fn new(
        backends: u32,
        servers: u32,
        choices: u32,
        arrival_rate: f64,
        service_rate: f64,
    ) -> Result<Self, Error> {
        let n = positive("the number of backends", f64::from(backends))?;
        let c = positive("the number of servers", f64::from(servers))?;
        positive("the number of choices", f64::from(choices))?;
        at_most("the number of choices", choices as usize, backends as usize)?;
        let lambda = positive("the arrival rate", arrival_rate)?;
        let mu = positive("the service rate", service_rate)?;
        let utilisation = settles(lambda / (n * c * mu))?;
        let joined = position_chances(backends as usize, choices as usize);
        let mut cap = servers as usize + 5;
        let mut solved: Option<(f64, Vec<f64>)> = None;
        loop {
            let states = count_states(backends as usize, cap);
            if states > MAX_STATES {
                if let Some((lost, joins)) = solved
                    && lost < TOLERATED_LOST
                {
                    return Ok(Self {
                        backends,
                        servers,
                        choices,
                        utilisation,
                        service_rate,
                        joins,
                    });
                }
                at_most("the number of states", states, MAX_STATES)?;
            }
            let chain = Chain { n: backends as usize, c: servers as usize, cap, lambda, mu };
            let (lost, joins) = chain.joins(&joined);
            if lost < MOST_LOST {
                return Ok(Self { backends, servers, choices, utilisation, service_rate, joins });
            }
            solved = Some((lost, joins));
            cap += cap.div_ceil(3);
        }
    }

    /// The chance that an arriving call joins a backend that has `calls` calls.
    pub fn chance_of_joining(&self, calls: usize) -> f64 {
        self.joins.get(calls).copied().unwrap_or(0.0)
    }
}

impl Model for Shortest {
    fn name(&self) -> String {
        let queues = if self.servers == 1 {
            format!("{} M/1 queues", self.backends)
        } else {
            format!("{} M/{} queues", self.backends, self.servers)
        };
        match self.choices {
            d if d == self.backends => format!("shortest of {queues}"),
            2 => format!("power of two choices among {queues}"),
            d => format!("fewest of {d} choices among {queues}"),
        }
    }

    fn utilisation(&self) -> f64 {
        self.utilisation
    }

    fn mean_s(&self) -> f64 {
        let c = self.servers as usize;
        let wait: f64 =
            (c..self.joins.len()).map(|calls| self.joins[calls] * (calls - c + 1) as f64).sum();
        (wait / c as f64 + 1.0) / self.service_rate
    }

    fn tail(&self, t_s: f64) -> Option<f64> {
        if t_s < 0.0 {
            return Some(1.0);
        }
        let c = self.servers as usize;
        let law = |calls: usize| {
            let ahead = (calls + 1).saturating_sub(c) as u64;
            wait_and_service_tail(ahead, c as f64, self.service_rate * t_s)
        };
        let sum: f64 = self.joins.iter().enumerate().map(|(i, share)| share * law(i)).sum();
        Some(sum.clamp(0.0, 1.0))
    }
}

/// The chance that `ahead` departures, each of rate c, and one service of rate 1
/// take longer than `t` together.
fn wait_and_service_tail(ahead: u64, c: f64, t: f64) -> f64 {
    if c == 1.0 {
        return poisson_below(ahead + 1, t);
    }
    // Still waiting, or in service: the integral of the Erlang density times
    // exp(-(t - u)) is an Erlang distribution of rate c - 1, scaled.
    let waiting = poisson_below(ahead, c * t);
    let log_scale = ahead as f64 * (c / (c - 1.0)).ln() - t;
    let ended = poisson_at_least(ahead, (c - 1.0) * t);
    if ended <= 0.0 {
        // (c t)^m / m! is what is left of both factors when t is tiny.
        return waiting + poisson_pmf(ahead, c * t);
    }
    waiting + (log_scale + ended.ln()).exp()
}

/// The chance that a call joins the backend at each place of the list sorted from
/// most calls to fewest: of d different places chosen, it takes the last.
fn position_chances(backends: usize, choices: usize) -> Vec<f64> {
    let choose = |n: usize| {
        (0..choices).map(|i| n.saturating_sub(i) as f64 / (choices - i) as f64).product::<f64>()
    };
    let all = choose(backends);
    (0..backends).map(|place| (choose(place + 1) - choose(place)) / all).collect()
}

/// How many sorted lists of `n` numbers from 0 to `cap` there are.
fn count_states(n: usize, cap: usize) -> usize {
    let count = (1..=n).fold(1.0, |count, i| count * (cap + i) as f64 / i as f64);
    count.round() as usize
}

/// The chain: numbers in flight, sorted from most to fewest.
struct Chain {
    n: usize,
    c: usize,
    cap: usize,
    lambda: f64,
    mu: f64,
}

/// Where a state's probability comes from, and at which rate.
struct Flows {
    states: Vec<Vec<u8>>,
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
    fn joins(&self, joined: &[f64]) -> (f64, Vec<f64>) {
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

    fn flows(&self, joined: &[f64]) -> Flows {
        let mut states = Vec::new();
        list(self.n, self.cap, &mut Vec::with_capacity(self.n), &mut states);
        // By calls in all, so that a sweep follows the arrivals.
        let total = |state: &Vec<u8>| state.iter().map(|&calls| usize::from(calls)).sum::<usize>();
        states.sort_by_key(total);
        let totals = states.iter().map(total).collect();
        let index: HashMap<&[u8], u32> =
            states.iter().enumerate().map(|(i, state)| (state.as_slice(), i as u32)).collect();
        let mut into: Vec<Vec<(u32, f64)>> = vec![Vec::new(); states.len()];
        let mut out = vec![0.0; states.len()];
        let mut up = vec![0.0; states.len()];
        for (from, state) in states.iter().enumerate() {
            let mut add = |next: &[u8], rate: f64| {
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

/// All lists of `n` numbers that never rise, the first at most `cap`.
fn list(n: usize, cap: usize, prefix: &mut Vec<u8>, all: &mut Vec<Vec<u8>>) {
    if prefix.len() == n {
        all.push(prefix.clone());
        return;
    }
    let most = prefix.last().map_or(cap, |&calls| usize::from(calls));
    for calls in 0..=most.min(usize::from(u8::MAX)) {
        prefix.push(calls as u8);
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
    use crate::choices::FewestOf;

    fn close(a: f64, b: f64, error: f64) {
        assert!((a / b - 1.0).abs() < error, "{a} is not {b}");
    }

    #[test]
    fn one_backend_and_one_choice_are_m_m_c() {
        for servers in [1, 3] {
            let c = f64::from(servers);
            let known = MMc::new(0.6 * c, 1.0, servers).unwrap();
            let alone = Shortest::new(1, servers, 1, 0.6 * c, 1.0).unwrap();
            let random = Shortest::new(3, servers, 1, 3.0 * 0.6 * c, 1.0).unwrap();
            for model in [&alone, &random] {
                close(model.mean_s(), known.mean_s(), 1e-4);
                for q in [0.1, 0.5, 0.9, 0.99] {
                    close(model.quantile_s(q).unwrap(), known.quantile_s(q).unwrap(), 1e-3);
                }
            }
        }
    }

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
            close(busy, lambda * (1.0 - lost), 1e-7);
        }
    }

    #[test]
    fn the_bounds_bound() {
        for (n, c, load) in [(2, 1, 0.5), (4, 1, 0.85), (3, 2, 0.8)] {
            let lambda = load * f64::from(n * c);
            let (lower, upper) = bounds(n, c, lambda, 1.0).unwrap();
            let model = Shortest::new(n, c, n, lambda, 1.0).unwrap();
            let means = [lower.mean_s(), model.mean_s(), upper.mean_s()];
            assert!(means.is_sorted(), "{means:?}");
        }
    }

    #[test]
    fn two_choices_tend_to_the_limit_of_many() {
        let limit = FewestOf::new(2, 0.7, 1.0).unwrap().mean_s();
        let errors: Vec<_> = [2, 4, 8]
            .map(|n| {
                let model = Shortest::new(n, 1, 2, 0.7 * f64::from(n), 1.0).unwrap();
                (model.mean_s() / limit - 1.0).abs()
            })
            .into();
        assert!(errors.is_sorted_by(|a, b| a > b), "{errors:?}");
        assert!(errors[2] < 0.05, "{errors:?}");
    }

    #[test]
    fn the_law_of_one_call_agrees_between_one_server_and_nearly_one() {
        for (ahead, t) in [(0, 0.5), (1, 0.5), (3, 2.0), (20, 5.0), (5, 1e-4), (400, 1e-3)] {
            let one = wait_and_service_tail(ahead, 1.0, t);
            let nearly = wait_and_service_tail(ahead, 1.0 + 1e-7, t);
            assert!((one - nearly).abs() < 1e-5, "{ahead} {t}: {one} {nearly}");
        }
    }

    #[test]
    fn what_is_too_large_is_refused() {
        assert!(matches!(Shortest::new(64, 1, 2, 32.0, 1.0), Err(Error::TooLarge { .. })));
        assert!(matches!(Shortest::new(2, 1, 3, 1.0, 1.0), Err(Error::TooLarge { .. })));
        assert!(matches!(Shortest::new(2, 1, 2, 2.0, 1.0), Err(Error::Overloaded { .. })));
        assert!(bounds(0, 1, 1.0, 1.0).is_err());
    }
}

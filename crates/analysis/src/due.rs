//! What share of the calls each backend is due: what its peer's shares are compared with.
//!
//! By the weights, where all backends are there all the time and the policy does not look
//! at load. A backend that comes or goes is due its part for as long as it is there; and a
//! policy that looks at load is meant to give a slow backend less.

use measure::statistics::median;

use crate::{
    model::{Model, PeerView},
    settling,
    theory::policy_of,
};

/// Policies that go by load or latency, and so by what a backend can do.
const BY_LOAD: [&str; 3] = ["least_loaded", "p2c", "peak_ewma"];

/// What each backend is due, in the order of the model's, and by what.
#[derive(Clone, Debug, PartialEq)]
pub struct Due {
    /// Shares of the calls.
    pub shares: Vec<f64>,
    /// Why these.
    pub by: By,
}

/// What a share follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The weights.
    Weight,
    /// How long each backend was there.
    Presence,
    /// How much each backend can do.
    Capacity,
}

impl Due {
    /// What is due to the backends behind a peer.
    pub fn of(model: &Model<'_>, peer: &PeerView<'_>) -> Self {
        if peer.measured().any(|(trial, _)| !trial.faults.is_empty()) {
            let trials: Vec<Vec<f64>> =
                peer.measured().map(|(trial, _)| settling::due(model, trial)).collect();
            let middle = |index| {
                let own: Vec<f64> =
                    trials.iter().filter_map(|due| due.get(index).copied()).collect();
                median(&own).unwrap_or(0.0)
            };
            let shares = (0..model.backends.len()).map(middle).collect();
            return Self { shares, by: By::Presence };
        }
        let capacities = capacities(model);
        let all: f64 = capacities.iter().sum();
        let differs = capacities.iter().any(|own| (own - capacities[0]).abs() > 1e-9 * own);
        let by_load = BY_LOAD.contains(&policy_of(&peer.name, &model.run.load.policy));
        if differs && by_load && all > 0.0 {
            let shares = capacities.iter().map(|own| own / all).collect();
            return Self { shares, by: By::Capacity };
        }
        Self { shares: model.fair_shares.clone(), by: By::Weight }
    }

    /// The share of all, where it is the same for each.
    pub fn even(&self) -> Option<f64> {
        let first = *self.shares.first()?;
        self.shares.iter().all(|share| (share - first).abs() < 1e-9).then_some(first)
    }

    /// How far the shares of a peer's trials are from what is due, at the most.
    pub fn furthest(&self, peer: &PeerView<'_>) -> f64 {
        let off = |shares: Vec<f64>| {
            let pairs = shares.into_iter().zip(&self.shares);
            pairs.map(|(share, due)| (share - due).abs()).fold(0.0, f64::max)
        };
        peer.figures().map(|figures| off(figures.shares())).fold(0.0, f64::max)
    }
}

/// Calls per second that each backend can serve; alike where service takes no time.
fn capacities(model: &Model<'_>) -> Vec<f64> {
    let of = |backend: &measure::record::BackendSetup| match backend.service_mean_ns {
        mean if mean > 0.0 => f64::from(backend.concurrency) * backend.speed / mean,
        _ => 1.0,
    };
    model.run.backends.iter().map(of).collect()
}

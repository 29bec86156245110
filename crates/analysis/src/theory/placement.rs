//! Where connections fall: what theory says of the busiest backend behind a
//! balancer of connections.
//!
//! Each connection brings the same traffic, so shares of connections are shares of
//! calls, but for the chance by which calls are dealt to connections.

use measure::record::Layer;
use queueing::bins::{RandomPlacement, TurnPlacement};

use super::{are_alike, connections_age, connections_differ, policy_of};
use crate::model::{Model, PeerView, TrialView};

/// How far, beside four deviations of chance, shares of the calls may be from those of the
/// connections.
const STRAY: f64 = 0.02;
/// Likewise in a closed loop, in which connections that are served sooner bring more calls: as
/// a part of what one of them brings.
const STRAY_CLOSED: f64 = 0.5;

/// What theory says of the busiest backend's share.
#[derive(Clone, Debug, PartialEq)]
pub enum Placement {
    /// Connections go to backends in turn.
    InTurn {
        /// Its share.
        max_share: f64,
        /// Backends with a connection.
        used: u32,
    },
    /// Each connection goes where chance has it.
    ByChance {
        /// Its expected share.
        expected: f64,
        /// Shares that it stays within in nine trials of ten.
        usual: (f64, f64),
        /// The chance that some backend has no connection.
        chance_of_idle: f64,
    },
}

impl Placement {
    /// The share of the busiest backend, or what is expected of it.
    pub fn max_share(&self) -> f64 {
        match self {
            Self::InTurn { max_share, .. } => *max_share,
            Self::ByChance { expected, .. } => *expected,
        }
    }
}

/// The trials of a peer that dealt connections in turn and whose shares are none that turns
/// make: a connection more was dealt, or one was made again elsewhere. With the share of the
/// busiest backend, and what it is by turns.
pub fn strays<'m>(
    model: &'m Model<'_>,
    peer: &'m PeerView<'_>,
) -> Vec<(&'m TrialView<'m>, f64, f64)> {
    let turns = matches!(of(model, peer), Some(Placement::InTurn { .. }));
    if !turns || peer.overload.is_some() {
        return Vec::new();
    }
    let (connections, backends) = (model.run.load.connections, model.backends.len() as u32);
    let due = |rank: u32| {
        let more = u32::from(rank < connections % backends);
        f64::from(connections / backends + more) / f64::from(connections)
    };
    let due: Vec<f64> = (0..backends).map(due).collect();
    let of_one = if model.open_loop() { 0.0 } else { STRAY_CLOSED / f64::from(connections) };
    let bound = of_one.max(STRAY);
    let shares = |trial: &TrialView<'_>| {
        let figures = trial.figures.as_ref()?;
        let calls: u64 = figures.calls_per_backend.iter().sum();
        let mut shares = figures.shares();
        shares.sort_by(|a, b| b.total_cmp(a));
        (shares.len() == due.len() && figures.unfinished == 0).then_some((calls as f64, shares))
    };
    let is_stray = |calls: f64, shares: &[f64]| {
        shares.iter().zip(&due).any(|(share, due)| {
            (share - due).abs() > bound + 4.0 * (due * (1.0 - due) / calls).sqrt()
        })
    };
    let trials = peer.trials.iter().filter_map(|trial| Some((trial, shares(trial)?)));
    trials
        .filter(|(_, (calls, shares))| is_stray(*calls, shares))
        .map(|(trial, (_, shares))| (trial, shares[0], due[0]))
        .collect()
}

/// What theory says of a peer's placement of connections; `None` where it does not
/// place connections, or not by a rule that has an answer.
pub fn of(model: &Model<'_>, peer: &PeerView<'_>) -> Option<Placement> {
    let load = &model.run.load;
    let layer = peer.setup?.layer;
    let backends = u32::try_from(model.backends.len()).ok()?;
    let changes = peer.measured().any(|(record, _)| !record.faults.is_empty());
    let unlike = !are_alike(model) || connections_differ(model);
    if backends < 2 || unlike || connections_age(model) || changes {
        return None;
    }
    match (layer, policy_of(&peer.name, &load.policy)) {
        (Layer::L4, "random") => {
            let placed = RandomPlacement::new(load.connections, backends).ok()?;
            Some(Placement::ByChance {
                expected: placed.expected_max_share(),
                usual: (placed.max_share_quantile(0.05)?, placed.max_share_quantile(0.95)?),
                chance_of_idle: placed.chance_of_idle(),
            })
        }
        // Several balancers each begin at a turn of their own.
        (Layer::L4, _) if load.fleet.balancers > 1 || load.fleet.subset.is_some() => None,
        (Layer::None, _) | (Layer::L4, "round_robin" | "least_loaded") => {
            let placed = TurnPlacement::new(load.connections, backends).ok()?;
            let max_share = placed.max_share(load.connections);
            Some(Placement::InTurn { max_share, used: placed.used })
        }
        _ => None,
    }
}

//! What theory says of a run's peers, for the report to draw beside what was
//! measured.
//!
//! The record of a run becomes the [`Setting`] of [`queueing::fit`], or a sentence
//! on why it can't: theory is drawn where it is exact, and nowhere else. Theory
//! knows the backends only, so what is held to it first is the time calls spent
//! there ([`measured`]); the whole latency, with network and proxy in it, stands
//! beside.
//!
//! Left out: judging. A difference is shown with its interval; what made it is for
//! the reader to say.

pub mod measured;
mod own;
pub mod placement;
mod service;

use std::rc::Rc;

use measure::record::{self, LoopMode};
use queueing::fit::{Arrivals, Layer, Policy, Setting, fit};

pub use crate::closed_form::{QUANTILES, Theory};
use crate::{
    closed_form,
    model::{Model, PeerView},
    once::each_once,
};

/// What theory says of a peer's latency, or why it says nothing.
pub fn of(model: &Model<'_>, peer: &PeerView<'_>) -> Rc<Result<Theory, String>> {
    match setting(model, peer) {
        Ok((setting, note)) => closed_form::of(setting, note, &model.theories),
        Err(reason) => Rc::new(Err(reason)),
    }
}

/// The setting of a peer, as theory takes it, and of what was measured for it what that was
/// taken to be.
fn setting(model: &Model<'_>, peer: &PeerView<'_>) -> Result<(Setting, Option<String>), String> {
    let run = &model.run;
    let load = &run.load;
    let layer = match peer.setup.map(|setup| setup.layer) {
        None => return Err("its setup is not in the record".to_owned()),
        Some(record::Layer::External) => {
            return Err("the lab did not start it, so its policy is unknown".to_owned());
        }
        Some(record::Layer::None) => Layer::None,
        Some(record::Layer::L4) => Layer::L4,
        // A client that picks for each call is no other queue than a proxy.
        Some(record::Layer::L7 | record::Layer::Client) => Layer::L7,
    };
    if let Some(what) = what_happened(peer) {
        return Err(format!("{what} while it ran, so there is no steady state to model"));
    }
    let are_own = own::are_own(model, peer);
    if let Some(reason) = beyond_theory(model, layer, are_own) {
        return Err(reason.to_owned());
    }
    let first = run.backends.first().ok_or("there is no backend")?;
    let (servers, service, alike, note) = if are_own {
        let own = own::of(model, peer)?;
        (own.servers, Some(own.service), own.are_alike, Some(own.note))
    } else {
        let service = service::parse(&first.service_time, first.service_mean_ns)?;
        (first.concurrency, service.map(|service| service.at_speed(first.speed)), true, None)
    };
    let setting = Setting {
        backends: u32::try_from(run.backends.len()).map_err(|_| "there are too many backends")?,
        alike: alike && are_alike(model),
        servers,
        service,
        arrivals: arrivals(load.mode, load.arrivals.as_deref())?,
        rate: load.rate.unwrap_or(0.0),
        connections: load.connections,
        layer,
        policy: policy(policy_of(&peer.name, &load.policy)),
        balancers: load.fleet.balancers,
    };
    Ok((setting, note))
}

/// What of a setting no model knows. `are_own`: service times are those of the user's own
/// servers, as they were measured.
fn beyond_theory(model: &Model<'_>, layer: Layer, are_own: bool) -> Option<&'static str> {
    let load = &model.run.load;
    let reasons = [
        (
            load.fleet.subset.is_some() && layer != Layer::None,
            "its balancers use only some of the backends each, and the models assume that they \
             use all",
        ),
        (fails_calls(model), "backends fail some of their calls, which takes no service time"),
        (
            is_set(model, "/load/deadline"),
            "its calls are cancelled at a deadline, and the models let them wait",
        ),
        (
            load.service.is_some() && !are_own,
            "it serves calls of a service whose service time is not set by the lab",
        ),
        (load.call != "unary", "its calls are streams, and the models are for single requests"),
        (
            layer != Layer::L7 && connections_age(model),
            "connections are closed and reopened while it runs, so none stays where it was placed",
        ),
        (
            layer != Layer::L7 && connections_differ(model),
            "some connections carry far more than others, and the models assume equal ones",
        ),
    ];
    reasons.into_iter().find_map(|(is_so, reason)| is_so.then_some(reason))
}

/// A quantile of the time in the backends, was each call sent to one by chance: what
/// balancers of calls come to that are so many that none of them learns anything from its
/// own calls. `None` where theory has no answer, or no peer balances calls.
pub fn by_chance_ns(model: &Model<'_>, quantile: f64) -> Option<f64> {
    let balances_calls =
        |peer: &&PeerView<'_>| peer.setup.is_some_and(|setup| setup.layer == record::Layer::L7);
    let peer = model.peers.iter().find(balances_calls)?;
    let (setting, _) = setting(model, peer).ok()?;
    let setting = Setting { policy: Policy::Random, ..setting };
    fit(&setting).ok()?.model.quantile_ns(quantile)
}

/// What was done to backends while a peer was measured, in words; `None` for nothing.
fn what_happened(peer: &PeerView<'_>) -> Option<String> {
    let (trial, _) = peer.measured().find(|(record, _)| !record.faults.is_empty())?;
    let deeds = each_once(trial.faults.iter().map(|fault| match fault.action.as_str() {
        "kill" => "killed",
        "stop" => "stopped",
        "drain" => "drained",
        "remove" => "removed",
        "add" => "added",
        "start" => "started again",
        "continue" => "continued",
        _ => "changed",
    }));
    let mut backends: Vec<&str> = trial.faults.iter().map(|fault| fault.backend.as_str()).collect();
    backends.sort_unstable();
    backends.dedup();
    let were =
        if let [one] = backends[..] { format!("{one} was") } else { "backends were".to_owned() };
    Some(format!("{were} {}", deeds.join(" and ")))
}

/// Whether all backends have the same speed, weight and servers.
fn are_alike(model: &Model<'_>) -> bool {
    let Some(first) = model.run.backends.first() else { return false };
    model.run.backends.iter().all(|backend| {
        backend.concurrency == first.concurrency
            && backend.service_time == first.service_time
            && (backend.speed - first.speed).abs() < 1e-9
            && backend.weight == first.weight
    })
}

/// Whether connections end while the load runs: backends send them away after a
/// time, or clients close them after so many calls.
fn connections_age(model: &Model<'_>) -> bool {
    is_set(model, "/connection_age") || is_set(model, "/load/connection_calls")
}

/// Whether some connections carry more than others.
fn connections_differ(model: &Model<'_>) -> bool {
    is_set(model, "/load/skew")
}

/// Whether backends fail calls on purpose.
fn fails_calls(model: &Model<'_>) -> bool {
    let backends = model.run.resolved.pointer("/backends").and_then(|all| all.as_array());
    backends.into_iter().flatten().any(|backend| backend.get("failures").is_some())
}

fn is_set(model: &Model<'_>, setting: &str) -> bool {
    model.run.resolved.pointer(setting).is_some_and(|value| !value.is_null())
}

/// The policy of a peer: `l7:p2c` has its own, the others have the run's.
pub(crate) fn policy_of<'a>(peer: &'a str, of_run: &'a str) -> &'a str {
    peer.split_once(':').map_or(of_run, |(_, policy)| policy)
}

fn arrivals(mode: LoopMode, name: Option<&str>) -> Result<Arrivals, String> {
    match (mode, name) {
        (LoopMode::Closed, _) => Ok(Arrivals::ClosedLoop),
        (LoopMode::Open, Some("poisson")) => Ok(Arrivals::Poisson),
        (LoopMode::Open, Some("constant")) => Ok(Arrivals::Constant),
        // `poisson in ramp`: the rate goes up, down, or on and off.
        (LoopMode::Open, Some(name)) if name.contains(" in ") => Ok(Arrivals::Changing),
        (LoopMode::Open, _) => Err("its arrival process is unknown".to_owned()),
    }
}

fn policy(name: &str) -> Policy {
    match name {
        "round_robin" => Policy::RoundRobin,
        "random" => Policy::Random,
        "least_loaded" => Policy::LeastLoaded,
        "p2c" => Policy::P2c,
        "p3c" => Policy::P3c,
        _ => Policy::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_are_known_by_what_the_lab_writes() {
        let open = |name| arrivals(LoopMode::Open, name);
        assert_eq!(open(Some("poisson")), Ok(Arrivals::Poisson));
        assert_eq!(open(Some("constant")), Ok(Arrivals::Constant));
        assert_eq!(open(Some("poisson in ramp")), Ok(Arrivals::Changing));
        assert!(open(Some("pareto")).is_err() && open(None).is_err());
        assert_eq!(arrivals(LoopMode::Closed, None), Ok(Arrivals::ClosedLoop));
    }
}

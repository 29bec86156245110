//! Servers of the user's own as theory takes them: calls take there what they were found to
//! take in the very trials that theory is held to. What theory adds is the waiting.
//!
//! Constant and exponential times have models for several servers and for turns, and measured
//! ones for one server only. So times that are next to either are taken for it, and that is
//! said.

use measure::{
    format,
    histogram::new_histogram,
    record::{Layer, TrialRecord},
    warning::Warning,
};
use queueing::{Service, measured::Measured};

use crate::model::{Model, PeerView};

/// Times whose standard deviation is this part of their mean or less are constant.
const CONSTANT_WITHIN: f64 = 0.1;
/// Times of which no part is further from an exponential distribution than this are one.
const EXPONENTIAL_WITHIN: f64 = 0.05;
/// Backends whose means differ by this part of them or less are alike; more, where chance
/// explains it.
const ALIKE_WITHIN: f64 = 0.05;
/// Deviations that chance explains.
const CHANCE: f64 = 4.0;
/// The part of the calls that may be lost, which take other times than those that are served.
const LOST_BOUND: f64 = 1e-3;
/// Calls of which a backend's mean is worth something.
const FEWEST_CALLS: u64 = 20;

/// What is known of the servers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Own {
    pub(super) servers: u32,
    pub(super) service: Service,
    /// Whether all of them are alike, as far as their service times say.
    pub(super) are_alike: bool,
    /// What service times were taken to be, as a sentence.
    pub(super) note: String,
}

/// Whether the backends that the lab put the peer before are the user's own.
pub(super) fn are_own(model: &Model<'_>, peer: &PeerView<'_>) -> bool {
    let is_unknown = |backend: &measure::record::BackendSetup| backend.service_time == "unknown";
    peer.layer() != Some(Layer::External) && model.run.backends.iter().any(is_unknown)
}

/// What calls of a peer took at the servers.
///
/// # Errors
/// A sentence without its end, on what is not known.
pub(super) fn of(model: &Model<'_>, peer: &PeerView<'_>) -> Result<Own, String> {
    let backends = &model.run.backends;
    let servers = backends.first().map_or(0, |backend| backend.concurrency);
    if backends.iter().any(|backend| backend.concurrency == 0) {
        return Err(not_said(model));
    }
    let (_, lost) = peer.lost();
    if lost > LOST_BOUND {
        return Err(
            "calls failed or were given up, and the models have all of them served".to_owned()
        );
    }
    let trials: Vec<&TrialRecord> = peer.measured().map(|(trial, _)| trial).collect();
    let is_out_of_turn = |warning: &Warning| matches!(warning.itself(), Warning::OutOfTurn { .. });
    if trials.iter().any(|trial| trial.warnings.iter().any(is_out_of_turn)) {
        return Err("calls were answered before a server can have come free, so the servers \
                    work on more at once than `backends.concurrency` says"
            .to_owned());
    }
    let mut each = vec![new_histogram(); backends.len()];
    for trial in trials {
        for (all, backend) in each.iter_mut().zip(&trial.backends) {
            let found = backend.service.as_ref().and_then(|one| one.to_histogram().ok());
            if let Some(found) = found {
                *all += found;
            }
        }
    }
    let mut all = new_histogram();
    each.iter().for_each(|one| all += one);
    let moments: Vec<Moments> = each
        .iter()
        .map(|one| Moments { calls: one.len(), mean_ns: one.mean(), deviation_ns: one.stdev() })
        .collect();
    let steps = all.iter_recorded();
    let times = steps.map(|step| (step.value_iterated_to() as f64 / 1e9, step.count_at_value()));
    let measured = Measured::new(times).ok_or("no service time was found for its calls")?;
    let (service, note) = kind(measured);
    Ok(Own { servers, service, are_alike: are_alike(&moments, all.mean()), note })
}

fn not_said(model: &Model<'_>) -> String {
    let names_itself = model.run.load.service.as_ref().is_some_and(|service| {
        service.identity.as_deref().is_some_and(|how| !how.starts_with("tap"))
    });
    let taps = match (names_itself, &model.run.load.service) {
        (true, _) => {
            ", without `service.identity`, and a tap before each of them then tells service from \
             waiting"
        }
        (false, Some(_)) => ", and the taps then tell service from waiting",
        (false, None) => "",
    };
    format!(
        "how many calls a server works on at once is not said; say it by `backends.concurrency` \
         in the scenario{taps}"
    )
}

/// What is known in closed form and next to the times, or they as they are.
fn kind(measured: Measured) -> (Service, String) {
    let mean_s = measured.mean_s();
    let spread = (measured.second_moment() / (mean_s * mean_s) - 1.0).max(0.0).sqrt();
    let mean = format::duration(mean_s * 1e9);
    let taken = |kind: &str, off: &str| {
        format!(
            "Service times are those found in the trials of each peer ({mean} on average for one) \
             and are taken for {kind}: {off}."
        )
    };
    if spread <= CONSTANT_WITHIN {
        let off = format!("their standard deviation is {} of it", format::share(spread));
        return (Service::Constant { value_s: mean_s }, taken("constant", &off));
    }
    let exponential = Service::Exponential { mean_s };
    let distance = measured.distance(|x_s| exponential.cdf(x_s));
    if distance <= EXPONENTIAL_WITHIN {
        let off = format!("no part of them is further off than {}", format::share(distance));
        return (exponential, taken("exponential", &off));
    }
    let note = format!(
        "Service times are those found in the trials of each peer, as they were measured ({mean} \
         on average for one)."
    );
    (measured.into(), note)
}

/// The service times of one backend.
#[derive(Clone, Copy, Debug)]
struct Moments {
    calls: u64,
    mean_ns: f64,
    deviation_ns: f64,
}

fn are_alike(each: &[Moments], mean_ns: f64) -> bool {
    each.iter().filter(|one| one.calls >= FEWEST_CALLS).all(|one| {
        let chance = CHANCE * one.deviation_ns / (one.calls as f64).sqrt();
        (one.mean_ns - mean_ns).abs() <= ALIKE_WITHIN * mean_ns + chance
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_quantiles(time: impl Fn(f64) -> f64) -> Measured {
        let times = (0..2_000).map(|index| (time((f64::from(index) + 0.5) / 2_000.0), 1));
        Measured::new(times).unwrap()
    }

    #[test]
    fn times_next_to_a_known_kind_are_taken_for_it() {
        let exponential = |part: f64| -4e-3 * (1.0 - part).ln();
        let (service, note) = kind(of_quantiles(exponential));
        assert!(matches!(service, Service::Exponential { .. }), "{note}");
        assert!(note.contains("taken for exponential: no part"), "{note}");
        let (service, note) = kind(of_quantiles(|part| 4e-3 + 2e-4 * part));
        assert!(matches!(service, Service::Constant { .. }), "{note}");
        // A few milliseconds more for every call are no exponential time.
        let (service, note) = kind(of_quantiles(|part| 1e-3 + exponential(part)));
        assert!(matches!(service, Service::Measured(_)), "{note}");
        assert!((service.mean_s() - 5e-3).abs() < 1e-4, "{note}");
    }

    #[test]
    fn backends_are_alike_as_far_as_chance_explains_them() {
        let of = |calls, mean_ns| Moments { calls, mean_ns, deviation_ns: 1_000.0 };
        assert!(are_alike(&[of(500, 4_000.0), of(500, 4_300.0), of(0, 0.0)], 4_150.0));
        assert!(!are_alike(&[of(500, 4_000.0), of(500, 9_000.0)], 6_500.0));
        assert!(are_alike(&[of(500, 4_000.0), of(3, 9_000.0)], 4_030.0), "three say nothing");
    }
}

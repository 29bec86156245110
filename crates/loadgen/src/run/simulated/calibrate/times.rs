//! Taking the times: the distributions as they were measured, not curves through them. How well
//! one holds is told from a repeat that was kept out of it.

use std::collections::BTreeMap;

use measure::{
    histogram::{HistogramRecord, new_histogram, quantile},
    record::{BackendSetup, Layer, LoadSetup, PeerSetup, RunRecord, TrialRecord},
    simulation::{Fit, Taken},
    warning::Warning,
};
use simulate::{Empirical, Seen};

use super::{Under, Validated, Way};

/// What was measured; of servers that are not the lab's, by the times that were taken.
pub(super) fn validated(record: &RunRecord, own: &BTreeMap<String, Empirical>) -> Validated {
    let mut known = Validated::default();
    for (offered, backends) in offered(record) {
        let with_own = backends.iter().map(|backend| BackendSetup {
            service_mean_ns: own
                .get(&backend.id)
                .map_or(backend.service_mean_ns, Empirical::mean_ns),
            ..backend.clone()
        });
        known.load = known.load.max(utilisation(offered, &with_own.collect::<Vec<_>>()));
        known.connections = known.connections.max(offered.connections);
        known.backends = known.backends.max(backends.len());
        for peer in &record.peers {
            let policy = peer.name.split_once(':').map_or(&*offered.policy, |(_, policy)| policy);
            let peer = (peer.name.clone(), policy.to_owned());
            if !known.peers.contains(&peer) {
                known.peers.push(peer);
            }
        }
    }
    known
}

/// What was offered to which backends: of the run, or of each point of a sweep.
pub(crate) fn offered(record: &RunRecord) -> impl Iterator<Item = (&LoadSetup, &[BackendSetup])> {
    let points = record.sweep.iter().flat_map(|sweep| &sweep.points);
    let own = (record.sweep.is_none()).then_some((&record.load, &record.backends[..]));
    own.into_iter().chain(points.map(|point| (&point.load, &point.backends[..])))
}

/// Offered calls over what the backends can do; zero where it isn't known.
pub(crate) fn utilisation(offered: &LoadSetup, backends: &[BackendSetup]) -> f64 {
    let capacity: f64 = backends
        .iter()
        .filter(|one| one.service_mean_ns > 0.0)
        .map(|one| f64::from(one.concurrency) * one.speed * 1e9 / one.service_mean_ns)
        .sum();
    offered.rate.filter(|_| capacity > 0.0).map_or(0.0, |rate| rate / capacity)
}

/// Service times of servers that are not the lab's, each by its own: of all trials together.
pub(super) fn own(
    record: &RunRecord,
    name: &str,
    trials: &[&TrialRecord],
    taken: &mut Vec<Taken>,
) -> Result<BTreeMap<String, Empirical>, String> {
    let (has_backends, mut own) = (!record.backends.is_empty(), BTreeMap::new());
    if !record.backends.iter().any(|backend| backend.service_time == "unknown") && has_backends {
        return Ok(own);
    }
    let is_external = |peer: &PeerSetup| peer.layer == Layer::External;
    if record.peers.iter().any(is_external) {
        return Err(format!(
            "{name} called a target, and nothing is known of what its servers take; name a run \
             of servers behind taps ([backends] command or addresses)"
        ));
    }
    if record.backends.iter().any(|backend| backend.concurrency == 0) {
        return Err(format!(
            "{name} lacks service times: nobody said how many calls a server works on at once, and \
             what a call waited there counts as service; run it again with `backends.concurrency`{}",
            if names_itself(record) { " in place of `service.identity`" } else { "" }
        ));
    }
    let is_out_of_turn = |warning: &Warning| matches!(warning, Warning::OutOfTurn { .. });
    if trials.iter().any(|trial| trial.warnings.iter().any(is_out_of_turn)) {
        return Err(format!(
            "calls of {name} were answered before a server can have come free, so its servers \
             work on more at once than `backends.concurrency` says; correct it, and run it again"
        ));
    }
    let from = "from when calls came to the servers and went";
    for (index, backend) in record.backends.iter().enumerate() {
        let times = |trial: &TrialRecord| {
            let own = trial.backends.get(index).and_then(|backend| backend.service.clone());
            own.unwrap_or_default()
        };
        let what = format!("service time of {}", backend.id);
        if let Some(measured) = take(&what, from, trials, times, taken)? {
            own.insert(backend.id.clone(), measured);
        }
    }
    if own.is_empty() {
        return Err(format!("{name} has no call whose service time is known"));
    }
    Ok(own)
}

/// Whether a service says itself which server an answer is from.
fn names_itself(record: &RunRecord) -> bool {
    let identity = record.load.service.as_ref().and_then(|service| service.identity.as_deref());
    identity.is_some_and(|how| !how.starts_with("tap"))
}

/// Service times of all trials together, where all backends are alike and a call is one
/// message; else those that the scenario names are better known than what comes of a mixture.
pub(super) fn service(
    record: &RunRecord,
    trials: &[&TrialRecord],
    taken: &mut Vec<Taken>,
) -> Result<Option<(String, Empirical)>, String> {
    let points = record.sweep.iter().flat_map(|sweep| &sweep.points);
    let mut all = record.backends.iter().chain(points.flat_map(|point| &point.backends));
    let Some(first) = record.backends.first() else { return Ok(None) };
    let is_alike = all.all(|one| one.service_time == first.service_time && one.speed == 1.0);
    // Of a stream the backends report the service of all messages together.
    let is_of_messages = offered(record).any(|(load, _)| load.messages > 1);
    if !is_alike || is_of_messages || first.service_mean_ns == 0.0 {
        return Ok(None);
    }
    let times = |trial: &TrialRecord| trial.service.clone();
    let found = take("service time", "as the backends reported it", trials, times, taken)?;
    Ok(found.map(|measured| (first.service_time.clone(), measured)))
}

/// What calls by each peer spend on their way, by the kinds of load.
pub(super) fn ways(
    record: &RunRecord,
    trials: &[&TrialRecord],
    taken: &mut Vec<Taken>,
) -> Result<Vec<Way>, String> {
    let loads = loads(record);
    let mut ways = Vec::new();
    for peer in &record.peers {
        for (under, points) in &loads {
            let own = trials.iter().copied().filter(|trial| trial.peer == peer.name);
            let own: Vec<&TrialRecord> =
                own.filter(|trial| points.contains(&trial.point.as_deref())).collect();
            let mut what = format!("time on the way of {}", peer.name);
            if let ([Some(first), ..], true) = (&points[..], loads.len() > 1) {
                what.push_str(&format!(" at {first}"));
            }
            let from = "calls as sent and answered, without their time in the backends";
            let times = |trial: &TrialRecord| trial.overhead.clone();
            if let Some(way) = take(&what, from, &own, times, taken)? {
                let (peer, layer, half) = (peer.name.clone(), peer.layer, way.scaled(0.5));
                ways.push(Way { peer, layer, under: *under, half });
            }
        }
    }
    Ok(ways)
}

/// The kinds of load that were offered, each with the points at which it was.
fn loads(record: &RunRecord) -> Vec<(Under, Vec<Option<&str>>)> {
    let Some(sweep) = &record.sweep else { return vec![(Under::of(&record.load), vec![None])] };
    let mut loads: Vec<(Under, Vec<Option<&str>>)> = Vec::new();
    for point in &sweep.points {
        let (under, value) = (Under::of(&point.load), Some(point.value.as_str()));
        match loads.iter_mut().find(|(known, _)| *known == under) {
            Some((_, points)) => points.push(value),
            None => loads.push((under, vec![value])),
        }
    }
    loads
}

/// Puts times of trials together. The last repeat is held to the others to tell the fit;
/// what is taken is all of them.
fn take(
    what: &str,
    from: &str,
    trials: &[&TrialRecord],
    times: impl Fn(&TrialRecord) -> HistogramRecord,
    taken: &mut Vec<Taken>,
) -> Result<Option<Empirical>, String> {
    let mut by_repeat: BTreeMap<u32, hdrhistogram::Histogram<u64>> = BTreeMap::new();
    for trial in trials {
        let histogram = times(trial).to_histogram().map_err(|error| format!("{what}: {error}"))?;
        *by_repeat.entry(trial.repeat).or_insert_with(new_histogram) += histogram;
    }
    let together = |histograms: &mut dyn Iterator<Item = &hdrhistogram::Histogram<u64>>| {
        histograms.fold(new_histogram(), |mut all, one| {
            all += one;
            all
        })
    };
    let all = together(&mut by_repeat.values());
    let Some(empirical) = empirical(&all) else { return Ok(None) };
    let fit = match by_repeat.pop_last() {
        Some((_, last)) if !by_repeat.is_empty() => {
            self::empirical(&together(&mut by_repeat.values())).map(|others| fit(&others, &last))
        }
        _ => None,
    };
    taken.push(Taken {
        what: what.to_owned(),
        from: from.to_owned(),
        count: all.len(),
        mean_ns: all.mean(),
        fit,
    });
    Ok(Some(empirical))
}

pub(crate) fn empirical(histogram: &hdrhistogram::Histogram<u64>) -> Option<Empirical> {
    let buckets = histogram.iter_recorded().map(|one| Seen {
        from_ns: histogram.lowest_equivalent(one.value_iterated_to()) as f64,
        to_ns: histogram.highest_equivalent(one.value_iterated_to()) as f64,
        count: one.count_at_value(),
    });
    Empirical::new(buckets)
}

/// How what is drawn stands to what was measured.
pub(crate) fn fit(drawn: &Empirical, measured: &hdrhistogram::Histogram<u64>) -> Fit {
    let mut below = 0;
    let ks = measured.iter_recorded().map(|one| {
        below += one.count_at_value();
        let part = below as f64 / measured.len() as f64;
        (drawn.cdf(one.value_iterated_to() as f64) - part).abs()
    });
    let ks = ks.fold(0.0, f64::max);
    let at = |part: f64| {
        let measured_ns = quantile(measured, part).unwrap_or(0) as f64;
        let simulated_ns = drawn.at_ns(part);
        Fit { ks, worst_quantile: part, measured_ns, simulated_ns }
    };
    let off = |fit: &Fit| (fit.simulated_ns.max(1.0) / fit.measured_ns.max(1.0)).ln().abs();
    let quantiles = [0.9, 0.99, 0.999].map(at);
    quantiles
        .into_iter()
        .fold(at(0.5), |worst, one| if off(&one) > off(&worst) { one } else { worst })
}

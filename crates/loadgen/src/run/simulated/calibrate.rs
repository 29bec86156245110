//! Times taken from a measured run: how long calls are served, and what they spend on the
//! way, by peer. What is taken is the distribution as it was measured, not a curve through
//! it; how well it holds is told from a repeat that was kept out of it.

use std::collections::BTreeMap;

use measure::{
    folder::Run,
    histogram::{HistogramRecord, new_histogram, quantile},
    record::{BackendSetup, Layer, LoadSetup, PeerSetup, RunRecord, Tls, TrialRecord},
    simulation::{Calibration, Fit, Taken},
    summary::is_measured,
    warning::Warning,
};
use scenario::Scenario;
use simulate::{Empirical, Seen};

use super::super::{describe::load_setup, points::Point};
use crate::peers::ReadyPeer;

/// What was taken from a run.
#[derive(Clone, Debug)]
pub(crate) struct Calibrated {
    run: String,
    source: Source,
    /// The service time as the scenario writes it, if the times are of that one alone, and as
    /// it was measured.
    service: Option<(Option<String>, Empirical)>,
    /// Service times of servers that are not the lab's, by their ids. Empty where they are.
    own: BTreeMap<String, Empirical>,
    ways: Vec<Way>,
    taken: Vec<Taken>,
    /// What is left out for want of knowing better, in sentences.
    notes: Vec<String>,
    validated: Validated,
}

/// What times were taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// A measured run.
    Run,
    /// A log or a trace, which knows nothing of peers.
    Log,
}

/// What a call by a peer spends on half of its way, under one kind of load.
#[derive(Clone, Debug)]
struct Way {
    peer: String,
    layer: Layer,
    under: Under,
    half: Empirical,
}

/// What of a load decides the time on the way: what waits in proxies and for CPUs grows with
/// the rate, and bytes have to be moved, and encrypted or not.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Under {
    /// Calls a second; none in a closed loop.
    rate: Option<f64>,
    payload_bytes: u64,
    tls: Tls,
}

impl Under {
    fn of(load: &LoadSetup) -> Self {
        let bytes = u64::from(load.request_bytes) + u64::from(load.response_bytes);
        let payload_bytes = bytes * u64::from(load.messages);
        Self { rate: load.rate, payload_bytes, tls: load.tls }
    }

    /// How unlike another one it is: first what is encrypted, then how many times as many
    /// bytes and calls.
    fn away_from(&self, other: &Self) -> f64 {
        let bytes = |under: &Self| (under.payload_bytes + 1) as f64;
        let calls = match (self.rate, other.rate) {
            (Some(own), Some(wanted)) => (own / wanted).ln().abs(),
            (None, None) => 0.0,
            _ => 100.0,
        };
        let encrypted = if self.tls == other.tls { 0.0 } else { 1_000.0 };
        encrypted + (bytes(self) / bytes(other)).ln().abs() + calls
    }
}

/// What was measured, and so what a simulation does not go beyond.
#[derive(Clone, Debug, Default)]
struct Validated {
    /// Offered over what the backends can do.
    load: f64,
    connections: u32,
    backends: usize,
    /// With their policies.
    peers: Vec<(String, String)>,
}

impl Calibrated {
    /// Takes times from a run, and of its trials from those that `is_used` says.
    ///
    /// # Errors
    /// In a sentence, which figures the run lacks.
    pub(crate) fn of(run: &Run, name: &str, is_used: impl Fn(u32) -> bool) -> Result<Self, String> {
        if run.record.simulation.is_some() {
            return Err(format!("{name} was simulated itself; name a measured run"));
        }
        let whole = run.trials.iter().filter(|trial| is_measured(trial) && is_used(trial.repeat));
        let trials: Vec<&TrialRecord> = whole.collect();
        if trials.iter().any(|trial| !trial.faults.is_empty()) {
            return Err(format!(
                "something happens to backends in {name}, and what calls waited for that would \
                 pass for time on the way; name a run without [[fault]]"
            ));
        }
        if trials.iter().all(|trial| trial.counts.ok == 0) {
            return Err(format!("{name} has no trial in which a call succeeded"));
        }
        if trials.iter().all(|trial| trial.overhead.count == 0) {
            return Err(format!(
                "{name} lacks `overhead`, the time of calls outside of the backends: it was \
                 recorded before that was kept; run its scenario again"
            ));
        }
        let mut taken = Vec::new();
        let own = own(&run.record, name, &trials, &mut taken)?;
        let service = service(&run.record, &trials, &mut taken)?;
        let ways = ways(&run.record, &trials, &mut taken)?;
        let validated = validated(&run.record, &own);
        let service = service.map(|(written, measured)| (Some(written), measured));
        let (run, source, notes) = (name.to_owned(), Source::Run, Vec::new());
        Ok(Self { run, source, service, own, ways, taken, notes, validated })
    }

    /// What was recorded elsewhere.
    pub(super) fn recorded(
        name: &str,
        service: Option<Empirical>,
        taken: Vec<Taken>,
        notes: Vec<String>,
    ) -> Self {
        let service = service.map(|measured| (None, measured));
        let (run, source) = (name.to_owned(), Source::Log);
        let (own, ways, validated) = (BTreeMap::new(), Vec::new(), Validated::default());
        Self { run, source, service, own, ways, taken, notes, validated }
    }

    /// Whether it knows what calls spend on their way.
    pub(super) fn knows_ways(&self) -> bool {
        !self.ways.is_empty()
    }

    /// What is left out for want of knowing better, in sentences.
    pub(super) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Service times as they were measured of a backend, where the scenario has those of the
    /// run. A server of the user's own that was not there takes those of the first that was.
    pub(super) fn service(&self, id: &str, written: &str) -> Option<&Empirical> {
        if let Some(own) = self.own.get(id).or_else(|| self.own.values().next()) {
            return Some(own);
        }
        let (own, measured) = self.service.as_ref()?;
        own.as_ref().is_none_or(|own| own == written).then_some(measured)
    }

    /// Service times as they were measured, if all backends share them.
    pub(super) fn any_service(&self) -> Option<&Empirical> {
        self.service.as_ref().map(|(_, measured)| measured)
    }

    /// What calls by a peer spend on half of their way, at each rate that was measured.
    pub(super) fn ways_of(&self, peer: &str) -> impl Iterator<Item = (Option<f64>, &Empirical)> {
        self.ways.iter().filter(move |way| way.peer == peer).map(|way| (way.under.rate, &way.half))
    }

    /// What a call by a peer spends on half of its way: as measured of the peer itself, of
    /// the same under another policy, or of one at the same layer, under the load that is
    /// most like the scenario's.
    pub(super) fn half_way(&self, peer: &ReadyPeer, scenario: &Scenario) -> Option<&Empirical> {
        let name = peer.peer.name.as_str();
        let folder = name.split(':').next();
        let layer = layer_of(peer);
        let is_of: [&dyn Fn(&Way) -> bool; 3] =
            [&|way| way.peer == name, &|way| way.peer.split(':').next() == folder, &|way| {
                way.layer == layer
            }];
        let wanted = Under::of(&load_setup(scenario, false));
        let away = |way: &&Way| way.under.away_from(&wanted);
        let nearest = |is_of: &dyn Fn(&Way) -> bool| {
            let ways = self.ways.iter().filter(|way| is_of(way));
            ways.min_by(|one, other| away(one).total_cmp(&away(other)))
        };
        is_of.into_iter().find_map(nearest).map(|way| &way.half)
    }

    /// For the record of a simulation of these points and peers.
    pub(super) fn record(&self, points: &[Point], peers: &[ReadyPeer]) -> Calibration {
        let mut extrapolated: Vec<String> = Vec::new();
        for point in points {
            for peer in peers {
                let beyond = self.beyond(&point.scenario, peer);
                let new = beyond.into_iter().filter(|one| !extrapolated.contains(one));
                let new: Vec<String> = new.collect();
                extrapolated.extend(new);
            }
        }
        let (run, taken, is_log) =
            (self.run.clone(), self.taken.clone(), self.source == Source::Log);
        Calibration { run, is_log, taken, extrapolated }
    }

    /// Offered calls over what the backends can do; zero where their service takes no time, or
    /// a closed loop offers what they can do.
    fn load(&self, scenario: &Scenario) -> f64 {
        let own = |backend: &scenario::Backend| {
            let mean_ns = self.own.get(&backend.id).or_else(|| self.own.values().next())?.mean_ns();
            Some(f64::from(backend.concurrency?) * 1e9 / mean_ns)
        };
        let capacity = match self.own.is_empty() {
            true => scenario.capacity(),
            false => scenario.backends.iter().map(own).sum(),
        };
        let rate = scenario.load.pace.mean_rate();
        rate.zip(capacity).map_or(0.0, |(rate, capacity)| rate / capacity)
    }

    /// Whether it knows what servers of the user's own take.
    pub(super) fn knows_own(&self) -> bool {
        !self.own.is_empty() || self.source == Source::Log && self.service.is_some()
    }

    /// In which way a simulation goes beyond what was measured, in sentences.
    pub(super) fn beyond(&self, scenario: &Scenario, peer: &ReadyPeer) -> Vec<String> {
        let (known, name) = (&self.validated, &peer.peer.name);
        if self.source == Source::Log {
            return vec![format!(
                "a log says nothing of {name}: neither its policy nor its time on the way was \
                 measured."
            )];
        }
        let policy = peer.policy(scenario).name();
        let offered = self.load(scenario);
        let mut beyond = Vec::new();
        if offered > known.load * 1.01 {
            beyond.push(format!(
                "the load of {offered:.2} is above the highest that was measured, {:.2}.",
                known.load
            ));
        }
        if scenario.load.connections > known.connections {
            let (now, then) = (scenario.load.connections, known.connections);
            beyond.push(format!("{now} connections are more than were measured, {then}."));
        }
        if scenario.backends.len() > known.backends {
            let (now, then) = (scenario.backends.len(), known.backends);
            beyond.push(format!("{now} backends are more than were measured, {then}."));
        }
        if !known.peers.iter().any(|(one, _)| one == name) {
            let from = if self.half_way(peer, scenario).is_some() {
                "another peer's"
            } else {
                "not known"
            };
            beyond.push(format!("{name} was not measured, and its time on the way is {from}."));
        } else if !known.peers.iter().any(|(one, by)| one == name && by == policy) {
            beyond.push(format!("{name} was not measured with the policy {policy}."));
        }
        beyond
    }
}

fn validated(record: &RunRecord, own: &BTreeMap<String, Empirical>) -> Validated {
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
pub(super) fn offered(record: &RunRecord) -> impl Iterator<Item = (&LoadSetup, &[BackendSetup])> {
    let points = record.sweep.iter().flat_map(|sweep| &sweep.points);
    let own = (record.sweep.is_none()).then_some((&record.load, &record.backends[..]));
    own.into_iter().chain(points.map(|point| (&point.load, &point.backends[..])))
}

/// Offered calls over what the backends can do; zero where it isn't known.
pub(super) fn utilisation(offered: &LoadSetup, backends: &[BackendSetup]) -> f64 {
    let capacity: f64 = backends
        .iter()
        .filter(|one| one.service_mean_ns > 0.0)
        .map(|one| f64::from(one.concurrency) * one.speed * 1e9 / one.service_mean_ns)
        .sum();
    offered.rate.filter(|_| capacity > 0.0).map_or(0.0, |rate| rate / capacity)
}

fn layer_of(peer: &ReadyPeer) -> Layer {
    match peer.peer.layer {
        scenario::Layer::None => Layer::None,
        scenario::Layer::L4 => Layer::L4,
        scenario::Layer::L7 => Layer::L7,
        scenario::Layer::Client => Layer::Client,
    }
}

/// Service times of servers that are not the lab's, each by its own: of all trials together.
fn own(
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
fn service(
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

fn ways(
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

pub(super) fn empirical(histogram: &hdrhistogram::Histogram<u64>) -> Option<Empirical> {
    let buckets = histogram.iter_recorded().map(|one| Seen {
        from_ns: histogram.lowest_equivalent(one.value_iterated_to()) as f64,
        to_ns: histogram.highest_equivalent(one.value_iterated_to()) as f64,
        count: one.count_at_value(),
    });
    Empirical::new(buckets)
}

/// How what is drawn stands to what was measured.
pub(super) fn fit(drawn: &Empirical, measured: &hdrhistogram::Histogram<u64>) -> Fit {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::Root;

    fn example() -> Run {
        Run::open(&Root::find().results().join("example")).unwrap()
    }

    #[test]
    fn what_faults_did_is_no_time_on_the_way() {
        let mut run = example();
        run.trials[0].faults.push(measure::record::FaultRecord {
            action: "stop".to_owned(),
            backend: "b0".to_owned(),
            planned_s: 1.0,
            done_s: 1.0,
            seen: true,
        });
        let reason = Calibrated::of(&run, "example", |_| true).unwrap_err();
        assert!(reason.contains("without [[fault]]"), "{reason}");
    }

    #[test]
    fn the_service_of_a_stream_is_no_message_s() {
        let mut run = example();
        assert!(Calibrated::of(&run, "example", |_| true).unwrap().any_service().is_some());
        run.record.load.messages = 200;
        assert!(Calibrated::of(&run, "example", |_| true).unwrap().any_service().is_none());
    }

    #[test]
    fn the_most_alike_load_is_encrypted_alike_then_of_as_many_bytes_and_calls() {
        let under = |rate: f64, payload_bytes, tls| Under { rate: Some(rate), payload_bytes, tls };
        let wanted = under(1_000.0, 64, Tls::None);
        let ordered = [
            under(1_100.0, 64, Tls::None),
            under(4_000.0, 64, Tls::None),
            under(1_000.0, 64 << 10, Tls::None),
            Under { rate: None, ..wanted },
            under(1_000.0, 64, Tls::Both),
        ];
        assert!(ordered.is_sorted_by(|a, b| a.away_from(&wanted) < b.away_from(&wanted)));
    }
}

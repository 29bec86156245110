//! Times taken from a measured run: how long calls are served, and what they spend on the
//! way, by peer. [`times`] takes them; here is what is asked of them, and how far they reach.

mod times;

use std::collections::BTreeMap;

use measure::{
    folder::Run,
    record::{Layer, LoadSetup, Tls, TrialRecord},
    simulation::{Calibration, Taken},
    summary::is_measured,
};
use scenario::Scenario;
use simulate::Empirical;
pub(super) use times::{empirical, fit, offered, utilisation};

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
        let own = times::own(&run.record, name, &trials, &mut taken)?;
        let service = times::service(&run.record, &trials, &mut taken)?;
        let ways = times::ways(&run.record, &trials, &mut taken)?;
        let validated = times::validated(&run.record, &own);
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

fn layer_of(peer: &ReadyPeer) -> Layer {
    match peer.peer.layer {
        scenario::Layer::None => Layer::None,
        scenario::Layer::L4 => Layer::L4,
        scenario::Layer::L7 => Layer::L7,
        scenario::Layer::Client => Layer::Client,
    }
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

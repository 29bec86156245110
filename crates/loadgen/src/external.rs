//! A balancer that the lab did not start: a cluster's, say (`--target`).
//!
//! The lab knows where it is and nothing else. Which backends stand behind it shows
//! in their answers, which carry their ids; what it and they cost does not show at
//! all, and is in no figure.

use std::net::{SocketAddr, ToSocketAddrs as _};

use measure::record::{BackendRecord, BackendSetup, TrialRecord};
use scenario::{EXTERNAL_PEER, Layer, Network, Peer, Scenario, Tls};

use crate::{drive::client::Seen, exit::Failure, lab, peers::ReadyPeer};

/// Where it is, and who has answered from behind it.
#[derive(Clone, Debug)]
pub(crate) struct External {
    /// As the user wrote it; calls name it so.
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    pub(crate) seen: Seen,
}

/// Checks how a target is written.
///
/// # Errors
/// In a sentence, for `--target`.
pub(crate) fn parse(text: &str) -> Result<String, String> {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    match port.and_then(|(_, port)| port.parse::<u16>().ok()) {
        Some(1..) => Ok(text.to_owned()),
        _ => Err("expected HOST:PORT, as in lb.example.com:8080 or 10.0.0.7:80".to_owned()),
    }
}

/// Looks for the target and makes a call through it.
///
/// # Errors
/// When the scenario can't be run there, or no call comes back well.
pub(crate) fn find(target: &str, scenario: &Scenario) -> Result<ReadyPeer, Failure> {
    if !scenario.faults.is_empty() {
        return Err(Failure::bad_input(format!(
            "scenario {} does things to its backends ([[fault]]), and the lab did not start \
             those behind --target {target}; choose a scenario without faults",
            scenario.name
        )));
    }
    if scenario.network != Network::Loopback {
        return Err(Failure::bad_input(format!(
            "scenario {} has network namespaces of the lab's own, and --target {target} is not in \
             them; take `network` out, or add --set network=loopback",
            scenario.name
        )));
    }
    if scenario.all_tls().into_iter().any(|tls| tls != Tls::None) {
        return Err(Failure::bad_input(format!(
            "scenario {} speaks TLS under certificates of the lab's own, and --target {target} has \
             none of them; add --set tls=none",
            scenario.name
        )));
    }
    let unknown = |reason: String| Failure::lab(format!("--target {target}: {reason}"));
    let addresses: Vec<SocketAddr> = target
        .to_socket_addrs()
        .map_err(|error| unknown(format!("its name can't be resolved: {error}")))?
        .collect();
    if addresses.is_empty() {
        return Err(unknown("its name stands for no address".to_owned()));
    }
    let address = lab::reach(&addresses, scenario.slow_call()).map_err(|reason| {
        unknown(format!(
            "no call came back well: {reason}; it has to speak HTTP/2 without TLS, and \
             layerlab's echo-backend has to run behind it"
        ))
    })?;
    Ok(ReadyPeer {
        peer: Peer {
            name: EXTERNAL_PEER.to_owned(),
            policy: None,
            title: target.to_owned(),
            // Nothing of ours stands there.
            layer: Layer::None,
            description: "A balancer that the lab did not start.".to_owned(),
            process: None,
        },
        program: None,
        version: None,
        external: Some(External { name: target.to_owned(), address, seen: Seen::default() }),
    })
}

impl External {
    /// The backends that have answered, as far as they are known.
    pub(crate) fn backends(&self) -> Vec<BackendSetup> {
        let setup = |id| BackendSetup {
            id,
            concurrency: 0,
            service_time: "unknown".to_owned(),
            service_mean_ns: 0.0,
            speed: 1.0,
            weight: 1,
        };
        self.seen.ids().into_iter().map(setup).collect()
    }

    /// Gives a trial an entry for each backend that was first seen after it.
    /// Says whether it had to.
    pub(crate) fn complete(&self, trial: &mut TrialRecord) -> bool {
        let ids = self.seen.ids();
        let missing = ids.get(trial.backends.len()..).unwrap_or_default();
        for id in missing {
            let (calls, latency) = (0, measure::histogram::HistogramRecord::default());
            trial.backends.push(BackendRecord { id: id.clone(), weight: 1, calls, latency });
        }
        for second in &mut trial.series {
            second.per_backend.resize(ids.len(), 0);
        }
        !missing.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_host_and_a_port() {
        for good in ["127.0.0.1:80", "lb.example.com:8080", "[::1]:5000"] {
            assert_eq!(parse(good).as_deref(), Ok(good));
        }
        for bad in ["", "lb", ":80", "lb:", "lb:0", "lb:http", "http://lb"] {
            assert!(parse(bad).unwrap_err().contains("HOST:PORT"), "{bad}");
        }
    }
}

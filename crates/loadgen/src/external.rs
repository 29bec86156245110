//! Balancers and services that the lab did not start: those in a cluster, for example (`--target`).
//!
//! The lab knows where they are and nothing else. Which backends stand behind them shows
//! in their answers, which carry their ids; what they cost shows where `--bill` says how
//! to read it, and nowhere else.

mod trust;

use std::{fmt, str::FromStr, sync::Arc};

use generator::client::{Seen, Trust};
use measure::record::{BackendRecord, BackendSetup, TrialRecord};
use scenario::{EXTERNAL_PEER, Fleet, Network, Scenario, Tls};
pub(crate) use trust::TlsOptions;

use crate::{
    exit::Failure,
    lab::{self, LabError, Outside, meter::Meter},
    service::{OwnService, what_it_speaks_instead},
};

/// A target as the user wrote it: `HOST:PORT`, with a name before it or a scheme, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// What it is called beside other peers.
    pub(crate) name: String,
    /// Its host and port; calls name it so.
    pub(crate) authority: String,
    /// Whether it speaks TLS.
    pub(crate) tls: bool,
}

/// A `--target` that is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    #[error(
        "expected HOST:PORT, https://HOST:PORT, or one of them as NAME=..., as in \
         lb.example.com:8080 or l7=https://10.0.0.7:443"
    )]
    Address,
    #[error("its name may have letters, digits, `-` and `_`, as in l7=10.0.0.7:80")]
    Name,
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let (name, place) = text.split_once('=').unwrap_or((EXTERNAL_PEER, text));
        let (authority, tls) = match (place.strip_prefix("https://"), place.strip_prefix("http://"))
        {
            (Some(secure), _) => (secure, true),
            (None, plain) => (plain.unwrap_or(place), false),
        };
        let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if name.is_empty() || !name.chars().all(is_letter) {
            return Err(TargetError::Name);
        }
        let is_host = |host: &str| !host.is_empty() && !host.contains('/');
        let port = authority.rsplit_once(':').filter(|(host, _)| is_host(host));
        match port.and_then(|(_, port)| port.parse::<u16>().ok()) {
            Some(1..) => Ok(Self { name: name.to_owned(), authority: authority.to_owned(), tls }),
            _ => Err(TargetError::Address),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https://" } else { "" };
        write!(f, "{scheme}{}", self.authority)
    }
}

impl Target {
    /// Whom to trust there; `None` where it speaks plain text.
    ///
    /// # Errors
    /// When a file or a name is wrong.
    pub(crate) fn trust(&self, tls: &TlsOptions) -> Result<Option<Trust>, Failure> {
        let host = self.authority.rsplit_once(':').map_or("", |(host, _)| host);
        let trust = self.tls.then(|| tls.trust(host)).transpose();
        trust.map_err(|error| Failure::bad_input(format!("--target {self}: {error}")))
    }
}

/// The backends that the user says there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    Count(usize),
    Ids(Vec<String>),
}

impl FromStr for Expected {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let most = scenario::bounds::BACKENDS.max as usize;
        if let Ok(count) = text.parse::<usize>() {
            let is_possible = (1..=most).contains(&count);
            return if is_possible {
                Ok(Self::Count(count))
            } else {
                Err(wrong_count(count, most))
            };
        }
        let ids: Vec<String> = text.split(',').map(|id| id.trim().to_owned()).collect();
        if ids.iter().any(String::is_empty) {
            return Err("expected their number, or their ids with commas: pod-1,pod-2".to_owned());
        }
        if ids.len() > most { Err(wrong_count(ids.len(), most)) } else { Ok(Self::Ids(ids)) }
    }
}

fn wrong_count(count: usize, most: usize) -> String {
    format!("{count} backends can't be told apart; from 1 to {most} can")
}

/// All that is known of what the lab did not start.
#[derive(Clone, Debug)]
pub(crate) struct Targets {
    pub(crate) all: Vec<Target>,
    pub(crate) expected: Option<Expected>,
    /// How those that speak TLS do.
    pub(crate) tls: TlsOptions,
    /// What reads the CPU time of a target, by the target's name.
    pub(crate) bills: Vec<(String, Meter)>,
}

/// A target that answers, and who has answered from behind it.
#[derive(Clone, Debug)]
pub(crate) struct External {
    pub(crate) target: Target,
    /// Shared by all targets of a run, so that they know backends by the same numbers.
    seen: Seen,
    /// How many backends there are at least, whether they have answered or not.
    at_least: usize,
    /// Whom to trust where it speaks TLS.
    pub(crate) trust: Option<Arc<Trust>>,
    /// Whether its certificate is taken as it is.
    insecure: bool,
    pub(crate) meters: Vec<Meter>,
}

/// Looks for all targets and makes a call through each.
///
/// # Errors
/// When the scenario can't be run there, or no call succeeds.
pub(crate) fn find_all(
    targets: &Targets,
    scenario: &Scenario,
    service: Option<&OwnService>,
) -> Result<Vec<External>, Failure> {
    let (seen, at_least) = match &targets.expected {
        None => (Seen::default(), 0),
        Some(Expected::Count(count)) => (Seen::default(), *count),
        Some(Expected::Ids(ids)) => (Seen::of(ids.clone()), ids.len()),
    };
    let find_one = |target: &Target| {
        let bills = targets.bills.iter().filter(|(name, _)| *name == target.name);
        let meters = bills.map(|(_, meter)| meter.clone()).collect();
        let trust = target.trust(&targets.tls)?;
        let external = External {
            target: target.clone(),
            seen: seen.clone(),
            at_least,
            trust: trust.map(Arc::new),
            insecure: targets.tls.insecure && target.tls,
            meters,
        };
        find(&external, scenario, service)?;
        Ok(external)
    };
    targets.all.iter().map(find_one).collect()
}

fn find(
    external: &External,
    scenario: &Scenario,
    service: Option<&OwnService>,
) -> Result<(), Failure> {
    let target = &external.target;
    check(scenario, target)?;
    let unknown = |reason: String| Failure::lab(format!("--target {target}: {reason}"));
    let addresses = lab::resolve(&target.authority)
        .map_err(|error| unknown(format!("its name can't be resolved: {error}")))?;
    let (authority, trust) = (&target.authority, external.trust.as_deref());
    let port = lab::Way { authority, trust, service };
    lab::reach(&addresses, port, scenario.slow_call()).map_err(|reason| {
        if let Some(broken) = service.and_then(OwnService::broken) {
            return Failure::bad_input(broken);
        }
        let how = if target.tls { "under" } else { "without" };
        // What a client makes of another protocol is no help beside its name.
        if let Some(instead) = what_it_speaks_instead(&addresses, authority, target.tls) {
            return unknown(format!("no call was successful: {instead}"));
        }
        let hint = match service {
            None => format!(
                "it has to speak HTTP/2 {how} TLS, and layerlab's echo-backend has to run behind \
                 it; describe a service of your own by [service]"
            ),
            Some(_) => "each method is called once before anything is measured".to_owned(),
        };
        unknown(format!("no call was successful: {reason}; {hint}"))
    })?;
    Ok(())
}

/// Whether a scenario asks for nothing that the lab would have to have started.
fn check(scenario: &Scenario, target: &Target) -> Result<(), Failure> {
    let reason = if !scenario.faults.is_empty() {
        format!(
            "does things to its backends ([[fault]]), and the lab did not start those behind \
             --target {target}; choose a scenario without faults"
        )
    } else if scenario.network != Network::Loopback {
        format!(
            "has network namespaces of the lab's own, and --target {target} is not in them; take \
             `network` out, or add --set network=loopback"
        )
    } else if scenario.all_points().iter().any(|point| point.fleet != Fleet::ONE) {
        format!(
            "says how many balancers there are, and what is behind --target {target} was started \
             by somebody else; leave these settings of [balance] out"
        )
    } else if scenario.all_tls().into_iter().any(|tls| tls != Tls::None) {
        format!(
            "speaks TLS under certificates of the lab's own, and --target {target} has none of \
             them; add --set tls=none, and write a target under TLS as https://"
        )
    } else {
        return Ok(());
    };
    Err(Failure::bad_input(format!("scenario {} {reason}", scenario.name)))
}

impl External {
    /// What it is called where people read it.
    pub(crate) fn title(&self) -> String {
        let unchecked = if self.insecure { " (certificate not checked)" } else { "" };
        format!("{}{unchecked}", self.target)
    }

    /// Ids of its backends by number: of those that have answered, and a word for each
    /// that has to be there and has not.
    pub(crate) fn ids(&self) -> Vec<String> {
        let mut ids = self.seen.ids();
        for silent in ids.len()..self.at_least {
            ids.push(format!("not seen {}", silent + 1));
        }
        ids
    }

    /// What is driven, by what its name stands for now.
    ///
    /// # Errors
    /// When that can't be found out.
    pub(crate) fn now(&self) -> Result<Outside, LabError> {
        let authority = self.target.authority.clone();
        let addresses = lab::resolve(&authority)
            .map_err(|error| LabError::Resolve { authority: authority.clone(), error })?;
        let (name, meters) = (self.target.name.clone(), self.meters.clone());
        Ok(Outside { name, authority, addresses, meters })
    }

    /// Whose answers are taken.
    pub(crate) fn discovered(&self) -> Seen {
        self.seen.clone()
    }

    /// The backends that have answered, as far as they are known.
    pub(crate) fn backends(&self) -> Vec<BackendSetup> {
        let setup = |id| BackendSetup {
            id,
            concurrency: 0,
            service_time: "unknown".to_owned(),
            service_mean_ns: 0.0,
            speed: 1.0,
            weight: 1,
            zone: None,
        };
        self.ids().into_iter().map(setup).collect()
    }

    /// Gives a trial an entry for each backend that was first seen after it. Says whether
    /// it had to.
    pub(crate) fn complete(&self, trial: &mut TrialRecord) -> bool {
        let ids = self.ids();
        let is_complete = trial.backends.iter().map(|backend| &backend.id).eq(&ids);
        trial.backends.resize_with(ids.len(), || BackendRecord {
            id: String::new(),
            weight: 1,
            calls: 0,
            calls_with_warm_up: None,
            latency: measure::histogram::HistogramRecord::default(),
            service: None,
        });
        for (backend, id) in trial.backends.iter_mut().zip(&ids) {
            backend.id.clone_from(id);
        }
        for second in &mut trial.series {
            second.per_backend.resize(ids.len(), 0);
        }
        !is_complete
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_host_and_a_port_and_may_have_a_name() {
        for good in ["127.0.0.1:80", "lb.example.com:8080", "[::1]:5000"] {
            let target: Target = good.parse().unwrap();
            assert_eq!((target.name.as_str(), target.authority.as_str()), ("target", good));
        }
        let named: Target = "l7=lb.example.com:443".parse().unwrap();
        assert_eq!((&*named.name, &*named.authority), ("l7", "lb.example.com:443"));
        let secure: Target = "l7=https://lb:443".parse().unwrap();
        assert!(secure.tls && !named.tls);
        assert_eq!((secure.to_string().as_str(), &*secure.authority), ("https://lb:443", "lb:443"));
        assert_eq!("http://lb:80".parse::<Target>().unwrap().authority, "lb:80");
        for bad in ["", "lb", ":80", "lb:", "lb:0", "lb:http", "http://lb", "l7=lb", "ftp://lb:1"] {
            let error = bad.parse::<Target>().unwrap_err();
            assert!(matches!(error, TargetError::Address), "{bad}");
        }
        for bad in ["=lb:80", "l 7=lb:80"] {
            assert!(matches!(bad.parse::<Target>().unwrap_err(), TargetError::Name), "{bad}");
        }
    }

    #[test]
    fn backends_that_have_to_be_there_are_listed_though_they_were_not_seen() {
        assert_eq!("3".parse(), Ok(Expected::Count(3)));
        assert_eq!("a, b".parse(), Ok(Expected::Ids(vec!["a".into(), "b".into()])));
        let too_many = (scenario::bounds::BACKENDS.max + 1).to_string();
        for bad in ["0", &*too_many, "a,,b", ""] {
            assert!(bad.parse::<Expected>().is_err(), "{bad}");
        }
        let target: Target = "lb:80".parse().unwrap();
        let of = |ids: &[&str], at_least| External {
            target: target.clone(),
            seen: Seen::of(ids.iter().map(|&id| id.to_owned()).collect()),
            at_least,
            trust: None,
            insecure: false,
            meters: Vec::new(),
        };
        assert_eq!(of(&["pod-7"], 3).ids(), ["pod-7", "not seen 2", "not seen 3"]);
        assert_eq!(of(&["pod-7", "pod-8"], 1).ids(), ["pod-7", "pod-8"]);
        let mut trial = TrialRecord::blank("target", 0, 0);
        assert!(of(&["pod-7"], 2).complete(&mut trial));
        assert!(!of(&["pod-7"], 2).complete(&mut trial));
        assert!(of(&["pod-7", "pod-8"], 2).complete(&mut trial), "it has a name now");
        assert_eq!(trial.backends[1].id, "pod-8");
    }
}

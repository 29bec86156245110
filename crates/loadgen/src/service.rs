//! The user's own service (`[service]`): its calls, made before anything is measured,
//! and one of each kind to see that it answers.

mod call;
mod spoken;

use std::{
    env,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use call::{Answer, call};
use generator::client;
use grpc_call::{Body, CallSpec, Calls, Interface, Reason, Recorded, Sources};
use rand_xoshiro::{
    SplitMix64,
    rand_core::{Rng, SeedableRng},
};
use scenario::{
    Identity, InterfaceSource, Pace, RequestSource, Scenario, ScenarioSource, Service, Setting,
    Trace, TracedCall,
};
pub(crate) use spoken::what_it_speaks_instead;
use tonic::{Code, Status, transport::Channel};

use crate::exit::Failure;

/// The most calls that are made ahead; a trial of more begins anew with the first.
const MOST_CALLS: usize = 1 << 16;

/// A service, and the calls on it once its interface is known.
#[derive(Debug)]
pub(crate) struct OwnService {
    service: Service,
    /// What paths in the scenario are relative to.
    folder: PathBuf,
    seed: u64,
    count: usize,
    /// For errors that come out when the interface is there.
    source: ScenarioSource,
    settings: Vec<Setting>,
    /// What files say of its interface, where they do.
    described: Option<Interface>,
    calls: OnceLock<Arc<Calls>>,
    /// The trace whose methods are called, if one is replayed.
    trace: Option<Trace>,
    /// Which of the calls those of the trace are.
    order: OnceLock<Arc<[u32]>>,
    /// What is wrong with the calls, which no server can change.
    broken: OnceLock<String>,
}

/// Why a service can't be called.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The calls can't be made.
    #[error("{0}")]
    Calls(scenario::Error),
    /// The service has no interface to be asked for.
    #[error("{0}")]
    Interface(grpc_call::Error),
    /// A call failed.
    #[error("{method}: {fault}")]
    Failed {
        /// The method.
        method: String,
        /// What is wrong with its answer.
        fault: Fault,
    },
}

/// What is wrong with the answer to a call.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("{0}")]
    NotSent(String),
    #[error("no answer within {} s", .0.as_secs())]
    Slow(Duration),
    #[error("{}", status_in_words(.0))]
    Status(Box<Status>),
    #[error("the response lacks what `expect.fields` asks for")]
    Fields,
    #[error("found status OK, expected {0}")]
    NotOk(&'static str),
    #[error("found {found} responses, expected {wanted}")]
    Responses { found: u32, wanted: u32 },
    #[error(
        "the answer lacks the {0} that `service.identity` names; have the service send it, or \
         take `identity` out"
    )]
    NoIdentity(String),
    #[error(
        "the {place} says `{value}`, which is no id that the lab gave; a server has to say the \
         `{{id}}` of its command, here one of {known}"
    )]
    OtherIdentity { place: String, value: String, known: String },
}

impl CallError {
    /// Whether a call that is tried again can't do better: it was answered, and not by a
    /// server that is busy, or about to start.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Calls(_) => true,
            Self::Interface(error) => matches!(error.reason, Reason::NoReflection),
            Self::Failed { fault, .. } => fault.is_final(),
        }
    }
}

impl Fault {
    fn is_final(&self) -> bool {
        match self {
            Self::NotSent(_) | Self::Slow(_) => false,
            // Of these no server that starts makes use.
            Self::Status(status) => matches!(
                status.code(),
                Code::InvalidArgument
                    | Code::PermissionDenied
                    | Code::OutOfRange
                    | Code::Unimplemented
                    | Code::Unauthenticated
            ),
            _ => true,
        }
    }
}

fn status_in_words(status: &Status) -> String {
    match status.message() {
        "" => format!("{:?}", status.code()),
        message => format!("{:?}: {message}", status.code()),
    }
}

impl OwnService {
    /// The service of a scenario, if it has one. Where its interface is in files, its
    /// calls are made at once, so that what is wrong with them is told before anything
    /// is started. `read` is that interface where the files were read elsewhere.
    ///
    /// # Errors
    /// With the line of the scenario, or the flag, that is at fault.
    pub(crate) fn of(
        scenario: &Scenario,
        source: &ScenarioSource,
        settings: &[Setting],
        count: usize,
        read: Option<Interface>,
    ) -> Result<Option<Self>, Failure> {
        let Some(service) = &scenario.service else { return Ok(None) };
        let trace = match &scenario.load.pace {
            Pace::Open { arrivals, .. } => arrivals.trace().map(|(trace, _)| trace.clone()),
            Pace::Closed { .. } => None,
        };
        let mut own = Self {
            service: service.clone(),
            folder: Path::new(source.file()).parent().unwrap_or(Path::new("")).to_owned(),
            seed: scenario.seed,
            count: trace.as_ref().map_or(count, |trace| trace.calls().len()).min(MOST_CALLS),
            source: source.clone(),
            settings: settings.to_vec(),
            described: None,
            calls: OnceLock::new(),
            trace,
            order: OnceLock::new(),
            broken: OnceLock::new(),
        };
        let interface = match &service.interface {
            InterfaceSource::Reflection => None,
            _ if read.is_some() => read.map(Ok),
            InterfaceSource::Proto { files, include } => {
                let files: Vec<PathBuf> = files.iter().map(|file| own.path(file)).collect();
                let include: Vec<PathBuf> = include.iter().map(|file| own.path(file)).collect();
                Some(Interface::from_protos(&files, &include))
            }
            InterfaceSource::DescriptorSet(file) => {
                Some(Interface::from_descriptor_set(&own.path(file)))
            }
        };
        let described = interface.transpose();
        own.described = described.map_err(|error| Failure::bad_input(own.blame(&error)))?;
        if let Some(interface) = &own.described {
            own.make(interface).map_err(Failure::bad_input)?;
        }
        Ok(Some(own))
    }

    /// Its interface, where files describe it.
    pub(crate) fn described(&self) -> Option<&Interface> {
        self.described.as_ref()
    }

    /// How its answers tell which backend they come from.
    pub(crate) fn identity(&self) -> Option<client::Identity> {
        self.service.identity.as_ref().map(|identity| match identity {
            Identity::Header(name) => client::Identity::Header(name.clone()),
            Identity::Trailer(name) => client::Identity::Trailer(name.clone()),
        })
    }

    /// Its calls; `None` until it was asked for its interface.
    pub(crate) fn calls(&self) -> Option<&Arc<Calls>> {
        self.calls.get()
    }

    /// Which of its calls those of a trace are, by their numbers; `None` where each is the
    /// next.
    pub(crate) fn order(&self) -> Option<&Arc<[u32]>> {
        self.order.get()
    }

    /// What is wrong with its calls, once that is known: there is no use in trying on.
    pub(crate) fn broken(&self) -> Option<&str> {
        self.broken.get().map(String::as_str)
    }

    /// Asks the service for its interface, if that is needed, and calls each method
    /// once, to see that it does what is expected of it. `ids` are those that its backends
    /// may have; any where there is none.
    ///
    /// # Errors
    /// With what came back.
    pub(crate) async fn call_once(
        &self,
        channel: Channel,
        within: Duration,
        ids: &[String],
    ) -> Result<(), CallError> {
        if self.calls.get().is_none() {
            let interface =
                grpc_call::reflect(channel.clone()).await.map_err(CallError::Interface)?;
            self.make(&interface).map_err(|error| {
                let _ = self.broken.set(error.to_string());
                CallError::Calls(error)
            })?;
        }
        let Some(calls) = self.calls.get() else { return Ok(()) };
        for number in calls.first_of_each() {
            let rules = calls.rules(calls.get(number));
            let called = call(channel.clone(), calls, number);
            let within = within + rules.pause * calls.get(number).messages.len() as u32;
            let called = tokio::time::timeout(within, called).await;
            let answer = called.unwrap_or(Err(Fault::Slow(within)));
            let checked = answer.and_then(|answer| self.check_identity(&answer, ids));
            checked.map_err(|fault| CallError::Failed { method: rules.method.clone(), fault })?;
        }
        Ok(())
    }

    /// Whether a successful answer says which backend it comes from.
    fn check_identity(&self, answer: &Answer, ids: &[String]) -> Result<(), Fault> {
        let (place, name, map) = match (&self.service.identity, answer) {
            (Some(Identity::Header(name)), Answer { header: Some(map), .. }) => {
                ("header", name, map)
            }
            (Some(Identity::Trailer(name)), Answer { trailers: Some(map), .. }) => {
                ("trailer", name, map)
            }
            _ => return Ok(()),
        };
        let place = format!("{place} `{name}`");
        let Some(value) = map.get(name) else { return Err(Fault::NoIdentity(place)) };
        let value = String::from_utf8_lossy(value.as_encoded_bytes()).into_owned();
        if ids.is_empty() || ids.contains(&value) {
            return Ok(());
        }
        Err(Fault::OtherIdentity { place, value, known: ids.join(", ") })
    }

    fn path(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    fn make(&self, interface: &Interface) -> Result<(), scenario::Error> {
        let specs: Vec<CallSpec> = self.service.calls.iter().map(|call| self.spec(call)).collect();
        let mut chance = SplitMix64::seed_from_u64(self.seed);
        let mut mix = SplitMix64::seed_from_u64(chance.next_u64());
        let sources = Sources {
            variable: Box::new(|name| env::var(name).ok()),
            random: Box::new(move || chance.next_u64()),
        };
        let data = self.service.data.as_deref().map(|data| self.path(data));
        let pick = || mix.next_u64();
        let recorded = self.trace.as_ref().map_or_else(Vec::new, recorded);
        let data = data.as_deref();
        let made = Calls::make(interface, &specs, data, sources, pick, &recorded, self.count);
        let made = made.map_err(|error| self.blame(&error))?;
        if let Some(trace) = &self.trace {
            let order = order(trace, &made)
                .map_err(|message| self.source.error(&self.settings, "load.arrivals", message))?;
            let _ = self.order.set(order);
        }
        // Whoever was first has made the same.
        let _ = self.calls.set(Arc::new(made));
        Ok(())
    }

    fn spec(&self, call: &scenario::ServiceCall) -> CallSpec {
        CallSpec {
            method: call.method.clone(),
            weight: call.weight,
            body: match &call.request {
                RequestSource::Json(text) => Body::Json(text.clone()),
                RequestSource::File(file) => Body::File(self.path(file)),
            },
            metadata: call
                .metadata
                .iter()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            deadline: call.deadline,
            messages: call.messages,
            pause: call.pause,
            responses: call.responses,
            status: call.status,
            fields: call.fields.clone(),
        }
    }

    fn blame(&self, error: &grpc_call::Error) -> scenario::Error {
        self.source.error(&self.settings, &format!("service.{}", error.key), error.to_string())
    }
}

/// What templates may know of the calls of a trace.
fn recorded(trace: &Trace) -> Vec<Recorded<'_>> {
    let method =
        |call: &TracedCall| call.method.and_then(|method| trace.methods().get(usize::from(method)));
    let recorded = |call: &TracedCall| Recorded {
        method: method(call).map(String::as_str),
        request_bytes: call.request_bytes,
    };
    trace.calls().iter().map(recorded).collect()
}

/// For each call of a trace, the one that was made for it. Where fewer were made, one of its
/// method, in turn; any where that is not known.
fn order(trace: &Trace, calls: &Calls) -> Result<Arc<[u32]>, String> {
    let method = |number: u32| calls.rules(calls.get(number.into())).method.as_str();
    // At most as many as are made ahead.
    let numbers: Vec<u32> = (0..calls.len() as u32).collect();
    let of_method = |wanted: &String| {
        let mut same = numbers.iter().copied().filter(|&number| method(number) == wanted);
        let same: Vec<u32> = same.by_ref().collect();
        if same.is_empty() {
            let file = trace.file();
            return Err(format!("{file} calls `{wanted}`, which no `[[service.call]]` does"));
        }
        Ok(same)
    };
    let by_method: Vec<Vec<u32>> =
        trace.methods().iter().map(of_method).collect::<Result<_, _>>()?;
    if calls.len() >= trace.calls().len() {
        return Ok(numbers[..trace.calls().len()].into());
    }
    let mut taken = vec![0; by_method.len() + 1];
    let one = |call: &TracedCall| {
        let method = call.method.map_or(by_method.len(), usize::from);
        let choice = by_method.get(method).unwrap_or(&numbers);
        taken[method] += 1;
        choice[(taken[method] - 1) % choice.len()]
    };
    Ok(trace.calls().iter().map(one).collect())
}

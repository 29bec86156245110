//! A run: all trials of a scenario, interleaved, into one folder.
//!
//! [`run`] is the story: get ready, run the trials, judge, report. Every trial is
//! written down as soon as it ends, so that whatever happens later, what was
//! measured is kept.

pub(crate) mod calibration;
mod course;
mod describe;
mod doubts;
mod expect;
mod finished;
pub(crate) mod load;
pub(crate) mod nodes;
mod observer;
mod order;
mod points;
mod precision;
mod preflight;
mod prepare;
mod search;
pub(crate) mod setup;
pub(crate) mod simulated;
pub(crate) mod summary;
pub(crate) mod trial;
mod twin;

use std::path::{Path, PathBuf};

use calibration::Calibration;
use course::Course;
pub(crate) use finished::Finished;
use jiff::Timestamp;
use measure::{
    folder::RunFolder,
    prediction::Predictions,
    record::{LeftOut, RunRecord},
    warning::Warning,
};
use nodes::Nodes;
pub(crate) use observer::{Event, Observer};
use points::Point;
use scenario::{Library, Scenario, ScenarioSource, Tls};
use simulated::Forecast;
use trial::{Processes, RunTrial, utc};

use crate::{
    exit::Failure,
    external::{self, Targets},
    lab::{
        Certificates,
        placement::{self, Cpus},
    },
    peers::{self, ReadyClient, ReadyPeer},
    root::Root,
    service::OwnService,
};

/// What the user asked for.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) source: ScenarioSource,
    pub(crate) scenario: Scenario,
    /// Flags that changed the scenario, as they were written.
    pub(crate) overrides: Vec<String>,
    /// Where runs are kept.
    pub(crate) results: PathBuf,
    /// Whether the peers are all there are, and not some that were named.
    pub(crate) every_peer: bool,
    /// The user's own service, where the scenario calls one.
    pub(crate) service: Option<OwnService>,
    /// What is predicted from before the first trial, where something is.
    pub(crate) forecast: Option<Forecast>,
    /// What is driven in place of the scenario's peers.
    pub(crate) targets: Option<Targets>,
    /// The share of calls that may fail there before it is left alone.
    pub(crate) max_errors: f64,
    /// What runs it on several nodes, where it is.
    pub(crate) nodes: Option<nodes::Wanted>,
}

impl Request {
    /// A scenario with what is in it, here.
    pub(crate) fn new(
        source: ScenarioSource,
        scenario: Scenario,
        overrides: Vec<String>,
        results: PathBuf,
    ) -> Self {
        Self {
            source,
            scenario,
            overrides,
            results,
            every_peer: false,
            service: None,
            forecast: None,
            targets: None,
            max_errors: 1.0,
            nodes: None,
        }
    }
}

/// Runs a scenario, and is long because it is the whole story. What was measured comes back
/// whatever went wrong after that.
///
/// # Errors
/// When nothing can be run, or no run can be kept.
pub(crate) fn run(
    request: &Request,
    library: &Library,
    root: &Root,
    observer: &mut dyn Observer,
) -> Result<Finished, Failure> {
    let scenario = &request.scenario;
    let certificates = certificates(scenario)?;
    let nodes = request.nodes.as_ref().map(|wanted| {
        observer.on(Event::Note(&format!("waiting for {} agents", wanted.nodes)));
        Nodes::start(request, wanted, library, certificates.as_ref())
    });
    let nodes = nodes.transpose()?;
    let (peers, left_out) = ready_peers(request, nodes.as_ref(), library, root, observer)?;
    let points = points::planned(scenario);
    check(request, &points, &peers)?;
    let clients = clients(request, &points, library, root)?;
    let cpus =
        Cpus::of(&scenario.placement, &placement::available()).map_err(Failure::bad_input)?;
    let predictions = predictions(request, &points, &peers, observer)?;
    let started = Timestamp::now();
    let mut record = describe::run_record(request, &points, &peers, left_out, started, &cpus);
    if let Some(client) = clients.first() {
        record.load.client.clone_from(&client.label);
    }
    record.warnings.extend(beyond_calibration(&request.results, &record, &points, &cpus)?);
    let folder = create_folder(&request.results, &request.source, started)?;
    if let Some(predictions) = predictions {
        record.predictions = Some(folder.seal(predictions, utc(Timestamp::now()))?);
    }
    let local_paths = local_paths(folder.path(), certificates.as_ref());
    let mut bench: Box<dyn RunTrial + '_> = match nodes {
        Some(nodes) => {
            nodes.describe_in(&mut record);
            Box::new(nodes)
        }
        None => {
            let (service, max_errors) = (request.service.as_ref(), request.max_errors);
            Box::new(Processes::new(service, clients, certificates, cpus, max_errors))
        }
    };
    let course = Course {
        scenario,
        points,
        peers,
        local_paths,
        folder,
        record,
        trials: Vec::new(),
        planned: 0,
        spare: 0,
        lost: Vec::new(),
        bench: &mut *bench,
        observer,
    };
    Ok(course.run(started))
}

/// The peers that can be run, which are some, and those that can't.
fn ready_peers(
    request: &Request,
    nodes: Option<&Nodes>,
    library: &Library,
    root: &Root,
    observer: &mut dyn Observer,
) -> Result<(Vec<ReadyPeer>, Vec<LeftOut>), Failure> {
    let scenario = &request.scenario;
    let (peers, left_out) = match (&request.targets, nodes) {
        (Some(targets), _) => {
            let found = external::find_all(targets, scenario, request.service.as_ref())?;
            (found.into_iter().map(ReadyPeer::external).collect(), Vec::new())
        }
        (None, Some(nodes)) => nodes.peers(scenario, library)?,
        (None, None) => prepare::all(scenario, library, root, request.every_peer)?,
    };
    for LeftOut { peer, reason } in &left_out {
        observer.on(Event::Note(&format!("left out {peer}: {reason}")));
    }
    if peers.is_empty() {
        return Err(Failure::lab("none of the scenario's peers can be run here"));
    }
    Ok((peers, left_out))
}

/// Whether this machine can run all of it.
fn check(request: &Request, points: &[Point], peers: &[ReadyPeer]) -> Result<(), Failure> {
    preflight::check(&request.scenario, peers)?;
    if request.targets.is_none() && request.nodes.is_none() {
        let checked = preflight::check_command(&request.scenario);
        checked.map_err(|reason| in_file(request, &reason))?;
    }
    points.iter().try_for_each(|point| preflight::check(&point.scenario, peers))
}

/// What is wrong with a key of the scenario, with the file that it stands in.
fn in_file(request: &Request, reason: &str) -> Failure {
    Failure::bad_input(format!("{}: {reason}", request.source.file()))
}

/// The real clients that make calls at any of the points.
fn clients(
    request: &Request,
    points: &[Point],
    library: &Library,
    root: &Root,
) -> Result<Vec<ReadyClient>, Failure> {
    let mut clients: Vec<ReadyClient> = Vec::new();
    let all = points.iter().map(|point| &point.scenario).chain([&request.scenario]);
    for client in all.map(|scenario| scenario.load.client).filter(|client| client.is_program()) {
        if request.targets.is_some() || request.nodes.is_some() {
            return Err(Failure::bad_input(format!(
                "load.client `{}` calls what the lab has started on this machine: no target, and \
                 no agents",
                client.name()
            )));
        }
        if clients.iter().all(|known| known.name != client.name()) {
            clients.push(ReadyClient::prepare(client.name(), library, root)?);
        }
    }
    Ok(clients)
}

/// Whether the generator is asked for more than it can do here, where that was measured.
fn beyond_calibration(
    results: &Path,
    record: &RunRecord,
    points: &[Point],
    cpus: &Cpus,
) -> Result<Option<Warning>, Failure> {
    let Some(calibration) = Calibration::read(results, &record.environment)? else {
        return Ok(None);
    };
    let usable = |scenario: &Scenario| {
        let connections = scenario.load.connections;
        let workers = load::workers(record.environment.cpus, cpus.generator.len(), connections);
        calibration.usable(workers)
    };
    let beyond = |point: &Point| {
        doubts::of_rate(point.scenario.load.pace.mean_rate()?, usable(&point.scenario))
    };
    Ok(points.iter().find_map(beyond))
}

/// What will be measured, where that is asked for.
fn predictions(
    request: &Request,
    points: &[Point],
    peers: &[ReadyPeer],
    observer: &mut dyn Observer,
) -> Result<Option<Predictions>, Failure> {
    let Some(forecast) = &request.forecast else { return Ok(None) };
    let scenario = &request.scenario;
    observer.on(Event::Note("simulating, to predict what will be measured"));
    let made = forecast.predict(scenario, points, peers, observer);
    made.map(Some).map_err(|reason| {
        Failure::bad_input(format!("scenario {} can't be predicted: {reason}", scenario.name))
    })
}

/// Paths that mean something on this machine only, and what a record says instead: it
/// is read elsewhere, and shared.
fn local_paths(folder: &Path, certificates: Option<&Certificates>) -> Vec<(String, &'static str)> {
    let absolute = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let certificates = certificates.map(|made| made.folder().display().to_string());
    let program = peers::loadgen_program().map(|path| path.display().to_string());
    [
        (program.unwrap_or_default(), "loadgen"),
        (absolute.display().to_string(), "<run>"),
        (folder.display().to_string(), "<run>"),
        (certificates.unwrap_or_default(), "<tls>"),
    ]
    .into_iter()
    .filter(|(path, _)| !path.is_empty())
    .collect()
}

/// What the run speaks TLS with, if any of it does.
fn certificates(scenario: &Scenario) -> Result<Option<Certificates>, Failure> {
    let speaks = scenario.all_tls().into_iter().any(|tls| tls != Tls::None);
    speaks.then(Certificates::make).transpose().map_err(Failure::lab)
}

fn create_folder(
    results: &Path,
    source: &ScenarioSource,
    started: Timestamp,
) -> Result<RunFolder, Failure> {
    let utc = started.strftime("%Y%m%dT%H%M%SZ").to_string();
    let unusable = |error: measure::folder::FolderError| {
        let failure = Failure::from(error);
        let message = failure.message;
        let message =
            format!("the results can't be kept: {message}; name another folder with --out");
        Failure { message, ..failure }
    };
    let folder = RunFolder::create(results, source.name(), &utc).map_err(unusable)?;
    folder.write_scenario(source.text()).map_err(unusable)?;
    Ok(folder)
}

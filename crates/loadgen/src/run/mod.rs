//! A run: all trials of a scenario, interleaved, into one folder.
//!
//! [`run`] is the story: get ready, run the trials, judge, report. Every trial is
//! written down as soon as it ends, so that whatever happens later, what was
//! measured is kept.

mod describe;
mod doubts;
mod expect;
mod load;
mod order;
mod points;
mod precision;
mod preflight;
mod search;
mod setup;
pub(crate) mod summary;
pub(crate) mod trial;
mod twin;

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use jiff::Timestamp;
use measure::{
    folder::{RunFolder, peer_name, trial_name},
    record::{LeftOut, RunOutcome, RunRecord, TrialOutcome, TrialRecord, Verdict},
    warning::Warning,
};
use scenario::{Library, Scenario, ScenarioSource, Tls};

use crate::{
    exit::{self, Failure},
    external, interrupt,
    lab::{
        Certificates, ProxyLaunch,
        placement::{self, Cpus},
    },
    peers::{self, ReadyPeer},
    root::Root,
    ui::Progress,
};
use order::Turn;
use points::Point;
use search::{Grid, Seeker};
use trial::Trial;

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
    /// A balancer to drive in place of the scenario's peers.
    pub(crate) target: Option<String>,
}

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) folder: PathBuf,
    pub(crate) record: RunRecord,
    pub(crate) trials: Vec<TrialRecord>,
    /// What ended the run early, or kept its records from being written.
    pub(crate) failure: Option<Failure>,
}

/// Runs a scenario. What was measured comes back whatever went wrong after that.
///
/// # Errors
/// When nothing can be run, or no run can be kept.
pub(crate) fn run(
    request: &Request,
    library: &Library,
    root: &Root,
    progress: &mut Progress,
) -> Result<Finished, Failure> {
    let scenario = &request.scenario;
    let (peers, left_out) = match &request.target {
        Some(target) => (vec![external::find(target, scenario)?], Vec::new()),
        None => peers::prepare_all(scenario, library, root, request.every_peer)?,
    };
    for LeftOut { peer, reason } in &left_out {
        progress.note(&format!("left out {peer}: {reason}"));
    }
    if peers.is_empty() {
        return Err(Failure::lab("none of the scenario's peers can be run here"));
    }
    let points = points::planned(scenario);
    preflight::check(scenario, &peers)?;
    for point in &points {
        preflight::check(&point.scenario, &peers)?;
    }
    let cpus =
        Cpus::of(&scenario.placement, &placement::available()).map_err(Failure::bad_input)?;
    let certificates = certificates(scenario)?;
    let started = Timestamp::now();
    let folder = create_folder(request, started)?;
    let record = describe::run_record(request, &points, &peers, left_out, started, &cpus);
    let mut run = Run {
        request,
        points,
        peers,
        certificates,
        cpus,
        folder,
        record,
        trials: Vec::new(),
        planned: 0,
        began: Instant::now(),
    };
    let finished = run.all_trials(progress);
    // What was measured is kept, whatever went wrong.
    let closed = run.close(started);
    let failure = finished.and(closed).err();
    let folder = run.folder.path().to_owned();
    Ok(Finished { folder, record: run.record, trials: run.trials, failure })
}

impl Finished {
    /// The exit code that says how it went. `require_all`: a claim that could not be judged
    /// counts against it, whatever the reason.
    pub(crate) fn exit_code(&self, require_all: bool) -> u8 {
        let failed = |trial: &TrialRecord| matches!(trial.outcome, TrialOutcome::Failed { .. });
        if self.record.outcome == RunOutcome::Interrupted {
            exit::INTERRUPTED
        } else if self.trials.iter().any(failed) {
            exit::LAB_FAILED
        } else if self.record.expectations.iter().any(|one| self.is_against(one))
            || (require_all && self.not_judged() > 0)
        {
            exit::EXPECTATION_FAILED
        } else if !self.unmeasured().is_empty() {
            exit::LAB_FAILED
        } else {
            exit::FINE
        }
    }

    /// How many claims could not be judged.
    pub(crate) fn not_judged(&self) -> usize {
        let expectations = self.record.expectations.iter();
        expectations.filter(|one| one.verdict == Verdict::NotJudged).count()
    }

    /// What could not be measured, in a sentence each: trials in which no call was due,
    /// or none succeeded. Where a claim about the peer holds, that was expected. A search
    /// goes where calls fail; there it takes all trials of a peer.
    pub(crate) fn unmeasured(&self) -> Vec<String> {
        let is_cut = |trial: &&TrialRecord| trial.outcome != TrialOutcome::Complete;
        let whole = || self.trials.iter().filter(|trial| !is_cut(trial));
        let of_peer = |peer: &str| -> Vec<&TrialRecord> {
            let all = whole().filter(|trial| trial.peer == peer);
            let (without, with): (Vec<_>, Vec<_>) = all.partition(|trial| trial.counts.ok == 0);
            if self.record.search.is_some() && !with.is_empty() { Vec::new() } else { without }
        };
        let peers = self.record.peers.iter().map(|peer| peer.name.as_str());
        let unexpected = peers.filter(|peer| !self.is_expected_of(peer));
        let sentence = |trial: &TrialRecord| {
            let what = match (trial.counts.scheduled, most_frequent(trial)) {
                (0, _) => "no call was due in the measured window; lengthen \
                           `load.duration`, or raise the rate"
                    .to_owned(),
                (calls, Some(failure)) => format!("all {calls} calls failed, mostly {failure}"),
                (calls, None) => format!("none of {calls} calls had an answer"),
            };
            let point = trial.point.as_ref().map(|point| format!(" at {point}"));
            format!(
                "{}{}, repeat {}: {what}",
                trial.peer,
                point.unwrap_or_default(),
                trial.repeat + 1
            )
        };
        unexpected.flat_map(of_peer).map(sentence).collect()
    }

    /// Whether a claim about a peer was judged and holds.
    fn is_expected_of(&self, peer: &str) -> bool {
        let held = self.record.expectations.iter().filter(|one| one.verdict == Verdict::Held);
        held.filter_map(|one| one.claim.parse::<scenario::Claim>().ok())
            .any(|claim| claim.peers().any(|named| named == peer))
    }

    /// A claim that can't be judged although its peers were run is as bad as one
    /// that failed; one about peers or points that were not run says nothing.
    fn is_against(&self, expectation: &measure::record::Expectation) -> bool {
        match expectation.verdict {
            Verdict::Held => false,
            Verdict::Failed => true,
            Verdict::NotJudged => {
                let claim: Option<scenario::Claim> = expectation.claim.parse().ok();
                claim.is_none_or(|claim| expect::was_run(&claim, &self.trials))
            }
        }
    }
}

/// How most of a trial's failed calls failed, and on whose side.
fn most_frequent(trial: &TrialRecord) -> Option<String> {
    let most = trial.counts.failed.iter().max_by_key(|failure| failure.calls)?;
    let side = format!("{:?}", most.side).to_lowercase();
    Some(format!("`{}` on the side of the {side}", most.what))
}

/// What the run speaks TLS with, if any of it does.
fn certificates(scenario: &Scenario) -> Result<Option<Certificates>, Failure> {
    let speaks = scenario.all_tls().into_iter().any(|tls| tls != Tls::None);
    speaks.then(Certificates::make).transpose().map_err(Failure::lab)
}

fn create_folder(request: &Request, started: Timestamp) -> Result<RunFolder, Failure> {
    let utc = started.strftime("%Y%m%dT%H%M%SZ").to_string();
    let unusable = |error: measure::folder::FolderError| {
        let failure = Failure::from(error);
        let message = failure.message;
        let message =
            format!("the results can't be kept: {message}; name another folder with --out");
        Failure { message, ..failure }
    };
    let folder =
        RunFolder::create(&request.results, &request.scenario.name, &utc).map_err(unusable)?;
    folder.write_scenario(request.source.text()).map_err(unusable)?;
    Ok(folder)
}

/// A run that is under way.
struct Run<'a> {
    request: &'a Request,
    points: Vec<Point>,
    peers: Vec<ReadyPeer>,
    certificates: Option<Certificates>,
    cpus: Cpus,
    folder: RunFolder,
    record: RunRecord,
    trials: Vec<TrialRecord>,
    /// Trials that have to be run for the run to be complete.
    planned: usize,
    began: Instant,
}

impl Run<'_> {
    fn all_trials(&mut self, progress: &mut Progress) -> Result<(), Failure> {
        self.write()?;
        if let Some(search) = &self.request.scenario.load.search {
            return self.search(search, progress);
        }
        let repeats = self.request.scenario.repeats;
        let turns = order::interleave(self.points.len(), self.peers.len(), repeats);
        self.planned = turns.len();
        progress.begin(turns.len(), self.request.scenario.trial_duration());
        for turn in turns {
            if interrupt::interrupted() {
                break;
            }
            self.one_trial(turn, progress)?;
        }
        self.until_sure(progress)?;
        self.twins(progress)
    }

    /// Makes the load of each peer once more in a closed loop, where the scenario
    /// asks for that. A twin that failed is told and left out: it is a lesson, and
    /// no measurement.
    fn twins(&mut self, progress: &mut Progress) -> Result<(), Failure> {
        let Some(scenario) = twin::of(&self.request.scenario) else { return Ok(()) };
        progress.add(self.peers.len(), "the same once more by callers that wait");
        for peer in &self.peers {
            if interrupt::interrupted() {
                break;
            }
            let name = format!("{}, closed loop", peer.peer.name);
            let dir = format!("twin-{}", peer_name(&peer.peer.name));
            let dir = self.folder.path().join("logs").join(dir);
            let order = u32::try_from(self.trials.len()).unwrap_or(u32::MAX);
            let trial = Trial {
                scenario: &scenario,
                point: None,
                peer,
                repeat: 0,
                order,
                certificates: self.certificates.as_ref(),
                cpus: &self.cpus,
                dir: dir.clone(),
            };
            progress.trial_begins(&name, 0);
            let done = trial.run(&mut |moment| progress.look(moment));
            progress.trial_ends(&TrialRecord { peer: name, ..done.record.clone() });
            remove_empty_logs(&dir);
            if done.record.outcome == TrialOutcome::Complete {
                self.record.twins.push(twin::record(&scenario, &done.record));
            }
        }
        self.write()
    }

    /// Adds repeats until the figures are known as well as the scenario asks, or
    /// its time is up.
    fn until_sure(&mut self, progress: &mut Progress) -> Result<(), Failure> {
        let Some(precision) = &self.request.scenario.precision else { return Ok(()) };
        let peers = self.peer_names();
        let missing = |run: &Self, point: usize| {
            let value = run.points[point].value.as_deref();
            precision::missing(precision, &peers, value, &run.trials)
        };
        let all: Vec<usize> = (0..self.points.len()).collect();
        let mut repeat = self.request.scenario.repeats;
        while !interrupt::interrupted() && self.began.elapsed() < precision.budget {
            // All peers of a point, so that repeats stay pairs.
            let open: Vec<usize> =
                all.iter().copied().filter(|&point| !missing(self, point).is_empty()).collect();
            if open.is_empty() {
                break;
            }
            progress.add(open.len() * peers.len(), "not sure enough yet: one more repeat");
            for turn in order::round(&open, peers.len(), repeat) {
                if interrupt::interrupted() {
                    break;
                }
                self.one_trial(turn, progress)?;
            }
            repeat += 1;
        }
        let warnings: Vec<_> = all.iter().flat_map(|&point| missing(self, point)).collect();
        self.record.warnings.extend(warnings);
        Ok(())
    }

    /// Searches for every peer and in every repeat.
    fn search(
        &mut self,
        search: &scenario::Search,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        let scenario = &self.request.scenario;
        let start = scenario.load.pace.mean_rate().unwrap_or(1.0);
        let grid = Grid::new(start, search.resolution);
        let mut edges: Vec<Option<i32>> = vec![None; self.peers.len()];
        progress.search(self.peers.len(), scenario.repeats, search.budget);
        for repeat in 0..scenario.repeats {
            let mut seekers: Vec<Seeker> =
                edges.iter().map(|edge| Seeker::new(&grid, *edge)).collect();
            self.seek(search, &grid, &mut seekers, repeat, progress)?;
            for (peer, seeker) in seekers.iter().enumerate() {
                edges[peer] = seeker.edge().or(edges[peer]);
                let result = seeker.result(&grid, &self.peers[peer].peer.name, repeat);
                // A repeat there was no time for says nothing.
                if !seeker.is_untouched() {
                    progress.found(&result);
                    self.record.search.iter_mut().for_each(|s| s.results.push(result.clone()));
                }
            }
            self.write()?;
        }
        Ok(())
    }

    /// One repeat of the searches: peers take turns trial by trial, there and back.
    fn seek(
        &mut self,
        search: &scenario::Search,
        grid: &Grid,
        seekers: &mut [Seeker],
        repeat: u32,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        let mut back = !repeat.is_multiple_of(2);
        loop {
            let mut order: Vec<usize> =
                (0..seekers.len()).filter(|&peer| seekers[peer].next().is_some()).collect();
            if back {
                order.reverse();
            }
            back = !back;
            if order.is_empty() {
                return Ok(());
            }
            for peer in order {
                if interrupt::interrupted() || self.began.elapsed() >= search.budget {
                    return Ok(());
                }
                let Some(step) = seekers[peer].next() else { continue };
                let point = self.point_at(grid.rate(step))?;
                self.one_trial(Turn { point, peer, repeat }, progress)?;
                let verdict = self.trials.last().map(|trial| search::judge(search, trial));
                seekers[peer].tell(step, verdict.unwrap_or(search::Verdict::Nothing));
            }
        }
    }

    /// The point of a search at a rate, which becomes one of the run's.
    fn point_at(&mut self, rate: f64) -> Result<usize, Failure> {
        let scenario = &self.request.scenario;
        let point = Point::at_rate(scenario, rate);
        if let Some(known) = self.points.iter().position(|other| other.value == point.value) {
            return Ok(known);
        }
        self.points.push(point);
        self.record.sweep = points::setup(scenario, &self.points);
        self.write()?;
        Ok(self.points.len() - 1)
    }

    fn peer_names(&self) -> Vec<String> {
        self.peers.iter().map(|peer| peer.peer.name.clone()).collect()
    }

    fn one_trial(&mut self, turn: Turn, progress: &mut Progress) -> Result<(), Failure> {
        let order = u32::try_from(self.trials.len()).unwrap_or(u32::MAX);
        let point = &self.points[turn.point];
        let peer = &self.peers[turn.peer];
        let name = peer.peer.name.clone();
        let dir = self.folder.path().join("logs").join(trial_name(order, &name, turn.repeat));
        let trial = Trial {
            scenario: &point.scenario,
            point: point.value.as_deref(),
            peer,
            repeat: turn.repeat,
            order,
            certificates: self.certificates.as_ref(),
            cpus: &self.cpus,
            dir: dir.clone(),
        };
        progress.trial_begins(&format!("{name}{}", point.suffix), turn.repeat);
        let done = trial.run(&mut |moment| progress.look(moment));
        if let Some(proxy) = &done.proxy {
            self.describe_launch(turn.peer, proxy);
        }
        // Written down before anybody is told. One that can't be is still a measurement.
        let written = self.folder.write_trial(&done.record);
        progress.trial_ends(&done.record);
        self.trials.push(done.record);
        remove_empty_logs(&dir);
        written.map_err(Failure::from)
    }

    /// Keeps how the peer was started, once: ports differ between trials and
    /// nothing else does.
    fn describe_launch(&mut self, peer: usize, proxy: &ProxyLaunch) {
        let paths = self.local_paths();
        let setup = &mut self.record.peers[peer];
        if setup.command.is_empty() {
            let command = proxy.launch.command.iter();
            setup.command = command.map(|word| without_paths(word, &paths)).collect();
            let files = proxy.files.iter();
            setup.config_files =
                files.map(|(path, text)| (file_name(path), without_paths(text, &paths))).collect();
        }
    }

    /// Paths that mean something on this machine only, and what a record says
    /// instead: it is read elsewhere, and shared.
    fn local_paths(&self) -> Vec<(String, &'static str)> {
        let folder = self.folder.path();
        let absolute = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        let certificates = self.certificates.as_ref();
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

    /// Judges what was measured and writes the record for the last time.
    fn close(&mut self, started: Timestamp) -> Result<(), Failure> {
        let complete = self.trials.len() >= self.planned && !interrupt::interrupted();
        let completed = self.complete_backends();
        self.record.outcome = if complete { RunOutcome::Complete } else { RunOutcome::Interrupted };
        self.record.trials = u32::try_from(self.trials.len()).ok();
        let search = self.record.search.as_ref();
        self.record.expectations =
            expect::judge(&self.request.scenario.claims, search, &self.trials);
        // Near the edge that a search looks for, repeats differ by nature.
        if search.is_none() {
            let points: Vec<_> = self.points.iter().map(|point| point.value.clone()).collect();
            let doubts = doubts::of_run(&self.peer_names(), &points, &self.trials);
            self.record.warnings.extend(doubts);
        }
        self.record.elapsed_s = Some(Timestamp::now().duration_since(started).as_secs_f64());
        completed.and(self.write())
    }

    /// Backends that the lab did not start are known only now, and trials that ended
    /// before one of them was first seen lack it.
    fn complete_backends(&mut self) -> Result<(), Failure> {
        let Some(external) = self.peers.iter().find_map(|ready| ready.external.as_ref()) else {
            return Ok(());
        };
        self.record.backends = external.backends();
        self.record.warnings.push(Warning::ExternalTarget { target: external.name.clone() });
        for trial in &mut self.trials {
            if external.complete(trial) {
                self.folder.write_trial(trial)?;
            }
        }
        Ok(())
    }

    fn write(&self) -> Result<(), Failure> {
        self.folder.write_run(&self.record).map_err(Failure::from)
    }
}

fn without_paths(text: &str, paths: &[(String, &'static str)]) -> String {
    paths.iter().fold(text.to_owned(), |text, (path, word)| text.replace(path, word))
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Logs in which nobody said anything tell nobody anything. A folder that keeps
/// some is left alone: it can't be removed while it is not empty.
fn remove_empty_logs(dir: &Path) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if entry.metadata().is_ok_and(|meta| meta.is_file() && meta.len() == 0) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    let _ = std::fs::remove_dir(dir);
}

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
mod precision;
mod preflight;
mod setup;
pub(crate) mod summary;
pub(crate) mod trial;

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use jiff::Timestamp;
use measure::{
    folder::RunFolder,
    record::{LeftOut, RunOutcome, RunRecord, TrialOutcome, TrialRecord, Verdict},
};
use scenario::{Library, Scenario, ScenarioSource};

use crate::{
    exit::{self, Failure},
    interrupt,
    lab::{
        ProxyLaunch,
        placement::{self, Cpus},
    },
    peers::{self, ReadyPeer},
    root::Root,
    ui::Progress,
};
use order::Turn;
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
}

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) folder: PathBuf,
    pub(crate) record: RunRecord,
    pub(crate) trials: Vec<TrialRecord>,
}

/// Runs a scenario.
///
/// # Errors
/// When nothing can be run, or the run can't be kept.
pub(crate) fn run(
    request: &Request,
    library: &Library,
    root: &Root,
    progress: &mut Progress,
) -> Result<Finished, Failure> {
    let scenario = &request.scenario;
    let (peers, left_out) = peers::prepare_all(scenario, library, root)?;
    for LeftOut { peer, reason } in &left_out {
        progress.note(&format!("left out {peer}: {reason}"));
    }
    if peers.is_empty() {
        return Err(Failure::lab("none of the scenario's peers can be run here"));
    }
    preflight::check(scenario, &peers)?;
    let cpus =
        Cpus::of(&scenario.placement, &placement::available()).map_err(Failure::bad_input)?;
    let started = Timestamp::now();
    let folder = create_folder(request, started)?;
    let record = describe::run_record(request, &peers, left_out, started, &cpus);
    let mut run =
        Run { request, peers, cpus, folder, record, trials: Vec::new(), began: Instant::now() };
    let finished = run.all_trials(progress);
    // What was measured is kept, whatever went wrong.
    let closed = run.close(started);
    finished.and(closed)?;
    Ok(Finished { folder: run.folder.path().to_owned(), record: run.record, trials: run.trials })
}

impl Finished {
    /// The exit code that says how it went.
    pub(crate) fn exit_code(&self) -> u8 {
        let failed = |trial: &TrialRecord| matches!(trial.outcome, TrialOutcome::Failed { .. });
        if self.record.outcome == RunOutcome::Interrupted {
            exit::INTERRUPTED
        } else if self.trials.iter().any(failed) {
            exit::LAB_FAILED
        } else if self.record.expectations.iter().any(|one| self.is_against(one)) {
            exit::EXPECTATION_FAILED
        } else {
            exit::FINE
        }
    }

    /// A claim that can't be judged although its peers were run is as bad as one
    /// that failed; one about peers that were not run says nothing.
    fn is_against(&self, expectation: &measure::record::Expectation) -> bool {
        match expectation.verdict {
            Verdict::Held => false,
            Verdict::Failed => true,
            Verdict::NotJudged => {
                let claim: Option<scenario::Claim> = expectation.claim.parse().ok();
                claim.is_none_or(|claim| {
                    claim.peers().all(|peer| self.trials.iter().any(|trial| trial.peer == peer))
                })
            }
        }
    }
}

fn create_folder(request: &Request, started: Timestamp) -> Result<RunFolder, Failure> {
    let utc = started.strftime("%Y%m%dT%H%M%SZ").to_string();
    let unusable = |error: measure::folder::FolderError| {
        Failure::bad_input(format!(
            "the results can't be kept: {error}; name another folder with --out"
        ))
    };
    let folder =
        RunFolder::create(&request.results, &request.scenario.name, &utc).map_err(unusable)?;
    folder.write_scenario(request.source.text()).map_err(unusable)?;
    Ok(folder)
}

/// A run that is under way.
struct Run<'a> {
    request: &'a Request,
    peers: Vec<ReadyPeer>,
    cpus: Cpus,
    folder: RunFolder,
    record: RunRecord,
    trials: Vec<TrialRecord>,
    began: Instant,
}

impl Run<'_> {
    fn all_trials(&mut self, progress: &mut Progress) -> Result<(), Failure> {
        self.write()?;
        let turns = order::interleave(self.peers.len(), self.request.scenario.repeats);
        progress.begin(turns.len(), self.request.scenario.trial_duration());
        for (order, turn) in turns.iter().enumerate() {
            if interrupt::interrupted() {
                break;
            }
            self.one_trial(*turn, order, progress)?;
        }
        self.until_sure(progress)
    }

    /// Adds repeats until the figures are known as well as the scenario asks, or
    /// its time is up.
    fn until_sure(&mut self, progress: &mut Progress) -> Result<(), Failure> {
        let Some(precision) = &self.request.scenario.precision else { return Ok(()) };
        let peers = self.peer_names();
        let mut repeat = self.request.scenario.repeats;
        while !interrupt::interrupted()
            && self.began.elapsed() < precision.budget
            && !precision::missing(precision, &peers, &self.trials).is_empty()
        {
            progress.add(peers.len());
            for turn in order::round(peers.len(), repeat) {
                if interrupt::interrupted() {
                    break;
                }
                self.one_trial(turn, self.trials.len(), progress)?;
            }
            repeat += 1;
        }
        self.record.warnings.extend(precision::missing(precision, &peers, &self.trials));
        Ok(())
    }

    fn peer_names(&self) -> Vec<String> {
        self.peers.iter().map(|peer| peer.peer.name.clone()).collect()
    }

    fn one_trial(
        &mut self,
        turn: Turn,
        order: usize,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        let peer = &self.peers[turn.peer];
        let name = peer.peer.name.clone();
        let dir =
            self.folder.path().join("logs").join(format!("{order:03}-{name}-r{}", turn.repeat));
        let trial = Trial {
            scenario: &self.request.scenario,
            peer,
            repeat: turn.repeat,
            order: u32::try_from(order).unwrap_or(u32::MAX),
            cpus: &self.cpus,
            dir: dir.clone(),
        };
        progress.trial_begins(&name, turn.repeat);
        let done = trial.run(&mut |moment| progress.look(moment));
        if let Some(proxy) = &done.proxy {
            self.describe_launch(turn.peer, proxy);
        }
        // Written down before anybody is told.
        self.folder.write_trial(&done.record).map_err(Failure::lab)?;
        progress.trial_ends(&done.record);
        self.trials.push(done.record);
        remove_empty_logs(&dir);
        Ok(())
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
        let program = peers::loadgen_program().map(|path| path.display().to_string());
        [
            (program.unwrap_or_default(), "loadgen"),
            (absolute.display().to_string(), "<run>"),
            (folder.display().to_string(), "<run>"),
        ]
        .into_iter()
        .filter(|(path, _)| !path.is_empty())
        .collect()
    }

    /// Judges what was measured and writes the record for the last time.
    fn close(&mut self, started: Timestamp) -> Result<(), Failure> {
        let planned = self.peers.len() * self.request.scenario.repeats as usize;
        let complete = self.trials.len() >= planned && !interrupt::interrupted();
        self.record.outcome = if complete { RunOutcome::Complete } else { RunOutcome::Interrupted };
        self.record.expectations = expect::judge(&self.request.scenario.claims, &self.trials);
        self.record.warnings.extend(doubts::of_run(&self.peer_names(), &self.trials));
        self.record.elapsed_s = Some(Timestamp::now().duration_since(started).as_secs_f64());
        self.write()
    }

    fn write(&self) -> Result<(), Failure> {
        self.folder.write_run(&self.record).map_err(Failure::lab)
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

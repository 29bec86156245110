//! Which runs a decision rests on, and why the others are left out.
//!
//! Of each scenario the newest run that can be trusted: complete, in its full form,
//! readable, on the machine that the rest was measured on, and without a doubt about
//! that machine. Where every run of a scenario is in doubt, the newest is used and
//! said to be. What is left out is named with its reason, never dropped in silence.
//! A setting given with `--set` makes another question of a scenario, so such runs
//! stand apart from the plain ones.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use measure::{
    folder::Run,
    record::{LoopMode, RunOutcome, RunRecord, TrialRecord},
    summary::is_measured,
    warning::Warning,
};

use super::Error;
use crate::index::{self, Entry};

/// Trials in doubt make a run one when they are more than this part of it.
const FEW_IN_DOUBT: f64 = 1.0 / 3.0;

/// A run that the decision rests on.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    /// What was asked with `--set`, in order; empty for the scenario as it is.
    pub settings: Vec<String>,
    /// Its folder.
    pub folder: PathBuf,
    /// The run.
    pub run: Run,
    /// What puts it in doubt.
    pub doubts: Vec<String>,
}

/// A folder that is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    pub folder: PathBuf,
    pub reason: String,
    /// Whether it is left out only because a newer run answers the same question.
    pub superseded: bool,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gathered {
    /// By scenario, the plain form of each first.
    pub chosen: Vec<Chosen>,
    /// In the order found.
    pub left: Vec<Left>,
}

/// Looks through folders: runs, or folders with runs in them.
pub(crate) fn gather(folders: &[PathBuf]) -> Result<Gathered, Error> {
    let mut left = Vec::new();
    let mut usable: Vec<(PathBuf, RunRecord)> = Vec::new();
    for (folder, entry) in entries(folders)? {
        match entry.record {
            Ok(record) => match unusable(&record) {
                None => usable.push((folder, record)),
                Some(reason) => left.push(Left::of(folder, reason)),
            },
            Err(reason) => left.push(Left::of(folder, format!("can't be read: {reason}"))),
        }
    }
    // The newest first; its machine is the one the decision is about.
    usable.sort_by(|a, b| b.1.started_utc.cmp(&a.1.started_utc).then_with(|| b.0.cmp(&a.0)));
    let mut groups: Vec<(Key, Vec<(PathBuf, RunRecord)>)> = Vec::new();
    let own = usable.first().map(|(_, record)| machine(record));
    for (folder, record) in usable {
        let other = machine(&record);
        if own.as_ref().is_some_and(|own| *own != other) {
            let reason = format!(
                "measured on another machine ({other}); give its folders alone to decide for that one"
            );
            left.push(Left::of(folder, reason));
            continue;
        }
        let key = Key::of(&record);
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, runs)) => runs.push((folder, record)),
            None => groups.push((key, vec![(folder, record)])),
        }
    }
    groups.sort_by(|a, b| a.0.cmp(&b.0));
    let chosen =
        groups.into_iter().filter_map(|(key, runs)| choose(key, runs, &mut left)).collect();
    Ok(Gathered { chosen, left })
}

/// What makes two runs answers to one question.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    scenario: String,
    settings: Vec<String>,
}

impl Key {
    fn of(record: &RunRecord) -> Self {
        let mut settings: Vec<String> = record
            .overrides
            .iter()
            .filter_map(|one| one.strip_prefix("--set ").map(str::to_owned))
            .collect();
        settings.sort();
        Self { scenario: record.scenario.clone(), settings }
    }
}

impl Left {
    fn of(folder: PathBuf, reason: String) -> Self {
        Self { folder, reason, superseded: false }
    }
}

/// All that looks like a run in the folders, each once.
fn entries(folders: &[PathBuf]) -> Result<Vec<(PathBuf, Entry)>, Error> {
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for folder in folders {
        fs::read_dir(folder).map_err(|error| Error::Folder { folder: folder.clone(), error })?;
        let found = match index::single(folder) {
            Some(entry) => vec![(folder.clone(), entry)],
            None => index::gather(folder)
                .into_iter()
                .map(|entry| (folder.join(&entry.folder), entry))
                .collect(),
        };
        for (path, entry) in found {
            let same = fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
            if seen.insert(same) {
                all.push((path, entry));
            }
        }
    }
    if all.is_empty() {
        return Err(Error::NoRuns(folders.to_vec()));
    }
    Ok(all)
}

/// Why no figure is drawn from a run, as far as its own record tells.
fn unusable(record: &RunRecord) -> Option<String> {
    if record.overrides.iter().any(|one| one == "--short") {
        return Some("run in its short form, which is a check and not for figures".to_owned());
    }
    if record.simulation.is_some() {
        return Some("simulated, and a decision rests on what was measured".to_owned());
    }
    match record.outcome {
        RunOutcome::Complete => None,
        RunOutcome::Interrupted => Some("stopped before its end".to_owned()),
        RunOutcome::Running => Some("not ended yet, or killed".to_owned()),
    }
}

/// The machine in words. Kernels may differ: they are compared and told of, but an
/// update makes no other machine.
pub(super) fn machine(record: &RunRecord) -> String {
    format!("{}, {} CPUs", record.environment.cpu_model, record.environment.cpus)
}

/// The newest run of a question that can be trusted, else the newest with figures.
fn choose(key: Key, runs: Vec<(PathBuf, RunRecord)>, left: &mut Vec<Left>) -> Option<Chosen> {
    let mut chosen: Option<Chosen> = None;
    for (folder, record) in runs {
        if let Some(newer) = chosen.as_ref().filter(|newer| newer.doubts.is_empty()) {
            left.push(Left { reason: older(&record, newer), folder, superseded: true });
            continue;
        }
        let run = match Run::open(&folder) {
            Ok(run) if run.trials.iter().any(is_measured) => run,
            Ok(_) => {
                left.push(Left::of(folder, "no trial gives figures".to_owned()));
                continue;
            }
            Err(error) => {
                left.push(Left::of(folder, format!("can't be read: {error}")));
                continue;
            }
        };
        let doubts = doubts(&run);
        match &chosen {
            Some(newer) if !doubts.is_empty() => {
                left.push(Left { reason: older(&record, newer), folder, superseded: true });
            }
            _ => {
                if let Some(doubtful) = chosen.take() {
                    let mut reason = format!(
                        "newer than the run used, and in doubt: {}",
                        doubtful.doubts.join("; ")
                    );
                    let more = peers_beyond(&doubtful.run.record, &record);
                    if !more.is_empty() {
                        reason.push_str(&format!(" (it also has {})", more.join(", ")));
                    }
                    left.push(Left::of(doubtful.folder, reason));
                }
                chosen = Some(Chosen { settings: key.settings.clone(), folder, run, doubts });
            }
        }
    }
    chosen
}

fn older(record: &RunRecord, newer: &Chosen) -> String {
    let more = peers_beyond(record, &newer.run.record);
    if more.is_empty() {
        "older than the run used".to_owned()
    } else {
        format!("older than the run used, which does not have {}", more.join(", "))
    }
}

/// The peers of a run that another one does not have.
fn peers_beyond<'r>(record: &'r RunRecord, other: &RunRecord) -> Vec<&'r str> {
    let known = |name: &str| other.peers.iter().any(|peer| peer.name == name);
    let names = record.peers.iter().map(|peer| peer.name.as_str());
    names.filter(|name| !known(name)).collect()
}

/// What puts the whole run in doubt: the machine was not the lab's alone, or the
/// generator not up to its work. What a scenario does to its calls is no doubt.
fn doubts(run: &Run) -> Vec<String> {
    // A build leaves the load average high for minutes. Where trials were watched, it is
    // known what other work took from them.
    let is_watched = run.trials.iter().all(|trial| trial.disturbance.is_some());
    let counts =
        |warning: &&Warning| !(is_watched && matches!(warning, Warning::HighLoadAverage { .. }));
    let mut doubts: Vec<String> =
        run.record.warnings.iter().filter(counts).filter_map(of_run).map(str::to_owned).collect();
    let measured: Vec<&TrialRecord> =
        run.trials.iter().filter(|trial| is_measured(trial)).collect();
    let open = run.record.load.mode == LoopMode::Open;
    for text in IN_TRIALS {
        let in_doubt = |trial: &&&TrialRecord| {
            trial.warnings.iter().any(|warning| of_trial(warning, open) == Some(text))
        };
        let hit = measured.iter().filter(in_doubt).count();
        if hit as f64 > measured.len() as f64 * FEW_IN_DOUBT {
            doubts.push(format!("{text} in {hit} of {} trials", measured.len()));
        }
    }
    doubts
}

const LATE: &str = "the generator was late by itself";
const BUSY: &str = "all CPUs were busy";
const STOLEN: &str = "the hypervisor took CPU time";
const DISTURBED: &str = "other work took CPU time";
const LOST: &str = "calls are missing from the records";
const IN_TRIALS: [&str; 5] = [LATE, BUSY, STOLEN, DISTURBED, LOST];

/// What a warning of a trial says of the machine or the lab.
fn of_trial(warning: &Warning, open_loop: bool) -> Option<&'static str> {
    match warning.itself() {
        Warning::GeneratorLimited { .. } => Some(LATE),
        // A closed loop goes as fast as it can: that is what it is for.
        Warning::CpuSaturated { .. } if open_loop => Some(BUSY),
        Warning::StealTime { .. } => Some(STOLEN),
        Warning::Disturbed { .. } => Some(DISTURBED),
        Warning::LogFull { .. } | Warning::HistogramSaturated { .. } => Some(LOST),
        _ => None,
    }
}

fn of_run(warning: &Warning) -> Option<&'static str> {
    match warning {
        Warning::HighLoadAverage { .. } => Some("the machine was busy before the run"),
        Warning::StealTime { .. } => Some("the hypervisor took CPU time"),
        Warning::UnoptimisedBuild { .. } => Some("layerlab was built without optimisation"),
        _ => None,
    }
}

/// The way from one folder to a file, for a link: relative where both can be found.
pub(super) fn relative(from: &Path, to: &Path) -> String {
    let whole = |path: &Path| {
        fs::canonicalize(path)
            .or_else(|_| std::path::absolute(path))
            .unwrap_or_else(|_| path.into())
    };
    let (from, to) = (whole(from), whole(to));
    let shared = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let mut parts: Vec<String> = from.components().skip(shared).map(|_| "..".to_owned()).collect();
    let rest = to.components().skip(shared);
    parts.extend(rest.map(|part| part.as_os_str().to_string_lossy().into_owned()));
    parts.join("/")
}

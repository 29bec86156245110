//! The course of a run: which trial comes next, when it is enough, and what is kept.
//!
//! It starts no process and reads no clock: trials, time and Ctrl-C come from
//! [`RunTrial`], so that all of it is tested in milliseconds.

use std::path::Path;

use analysis::{findings::Findings, model::Model};
use jiff::Timestamp;
use measure::{
    folder::{RunFolder, peer_name, trial_name},
    record::{RunOutcome, RunRecord, TrialOutcome, TrialRecord},
    warning::Warning,
};
use scenario::Scenario;

use super::{
    describe, doubts, expect,
    finished::Finished,
    observer::{Event, Observer},
    order::{self, Turn},
    points::Point,
    precision,
    search::{self, Grid, Seeker},
    trial::{RunTrial, Then, Trial},
    twin,
};
use crate::{exit::Failure, lab::ProxyLaunch, peers::ReadyPeer};

/// A run that is under way.
pub(super) struct Course<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) points: Vec<Point>,
    pub(super) peers: Vec<ReadyPeer>,
    pub(super) folder: RunFolder,
    pub(super) record: RunRecord,
    pub(super) trials: Vec<TrialRecord>,
    /// Trials that have to be run for the run to be complete.
    pub(super) planned: usize,
    /// Trials that may still be measured again because they were disturbed.
    pub(super) spare: usize,
    /// Trials whose node was lost, by their places among those that were run.
    pub(super) lost: Vec<(usize, Turn)>,
    /// Paths that mean something on this machine only, and what the record says instead.
    pub(super) local_paths: Vec<(String, &'static str)>,
    pub(super) bench: &'a mut dyn RunTrial,
    pub(super) observer: &'a mut dyn Observer,
}

impl Course<'_> {
    /// Runs all trials and judges them. What was measured is kept, whatever goes wrong.
    pub(super) fn run(mut self, started: Timestamp) -> Finished {
        let finished = self.all_trials();
        let closed = self.close(started);
        let failure = finished.and(closed).err();
        let folder = self.folder.path().to_owned();
        let claims = self.scenario.claims.clone();
        Finished { folder, record: self.record, trials: self.trials, claims, failure }
    }

    fn all_trials(&mut self) -> Result<(), Failure> {
        self.write()?;
        if let Some(search) = &self.scenario.load.search {
            return self.search(search);
        }
        let repeats = self.scenario.repeats;
        let turns = order::interleave(self.points.len(), self.peers.len(), repeats);
        self.planned = turns.len();
        self.observer
            .on(Event::Planned { trials: turns.len(), each: self.scenario.trial_duration() });
        let most = self.scenario.max_disturbed.map(|trials| trials as usize);
        self.spare = most.unwrap_or(turns.len() / 4);
        for round in turns.chunk_by(|one, other| one.repeat == other.repeat) {
            self.round(round)?;
        }
        self.lost_again()?;
        self.until_sure()?;
        self.twins()
    }

    /// One repeat: its trials, and after them those again that were disturbed, near enough
    /// to the others to be compared with them.
    fn round(&mut self, turns: &[Turn]) -> Result<(), Failure> {
        let mut open = turns.to_vec();
        loop {
            let mut disturbed = Vec::new();
            for turn in open {
                if self.bench.is_interrupted() {
                    return Ok(());
                }
                self.one_trial(turn)?;
                if self.is_disturbed() {
                    disturbed.push((self.trials.len() - 1, turn));
                }
            }
            disturbed.truncate(self.spare);
            if disturbed.is_empty() || self.bench.is_interrupted() {
                return Ok(());
            }
            self.spare -= disturbed.len();
            let why = "disturbed by other users of the machine: once more";
            self.observer.on(Event::Added { trials: disturbed.len(), why });
            for &(index, _) in &disturbed {
                self.set_aside(index)?;
            }
            open = disturbed.into_iter().map(|(_, turn)| turn).collect();
        }
    }

    /// Trials whose node was lost, once more at the end of the order.
    fn lost_again(&mut self) -> Result<(), Failure> {
        while !self.bench.is_interrupted() && !self.lost.is_empty() {
            let lost = std::mem::take(&mut self.lost);
            let why = "a node was lost: once more";
            self.observer.on(Event::Added { trials: lost.len(), why });
            for (index, turn) in lost {
                self.set_aside(index)?;
                self.one_trial(turn)?;
            }
        }
        Ok(())
    }

    /// Whether the last trial was, so that it is worth another one.
    fn is_disturbed(&self) -> bool {
        self.trials.last().is_some_and(|trial| {
            let seen = trial.disturbance.as_ref();
            trial.outcome == TrialOutcome::Complete && seen.is_some_and(|one| one.is_beyond_bound())
        })
    }

    /// Keeps a trial in the record and out of the figures.
    fn set_aside(&mut self, index: usize) -> Result<(), Failure> {
        let trial = &mut self.trials[index];
        trial.disturbance.get_or_insert_default().is_replaced = true;
        Ok(self.folder.write_trial(trial)?)
    }

    /// Makes the load of each peer once more in a closed loop, where the scenario
    /// asks for that. A twin that failed is told and left out: it is a lesson, and
    /// no measurement.
    fn twins(&mut self) -> Result<(), Failure> {
        let Some(scenario) = twin::of(self.scenario) else { return Ok(()) };
        let why = "the same once more by callers that wait";
        self.observer.on(Event::Added { trials: self.peers.len(), why });
        for peer in &self.peers {
            if self.bench.is_interrupted() {
                break;
            }
            let name = format!("{}, closed loop", peer.peer.name);
            let dir = format!("twin-{}", peer_name(&peer.peer.name));
            let dir = self.folder.path().join("logs").join(dir);
            let order = u32::try_from(self.trials.len()).unwrap_or(u32::MAX);
            let scenario = &scenario;
            let trial = Trial { scenario, point: None, peer, repeat: 0, order, dir: dir.clone() };
            self.observer.on(Event::TrialBegins { name: &name, repeat: 0 });
            let done =
                self.bench.run(&trial, &mut |progress| self.observer.on(Event::Progress(progress)));
            self.observer.on(Event::TrialEnds(&TrialRecord { peer: name, ..done.record.clone() }));
            remove_empty_logs(&dir);
            if done.record.outcome == TrialOutcome::Complete {
                self.record.twins.push(twin::record(scenario, &done.record));
            }
        }
        self.write()
    }

    /// Adds repeats until the figures are known as well as the scenario asks, or
    /// its time is up.
    fn until_sure(&mut self) -> Result<(), Failure> {
        let Some(precision) = &self.scenario.precision else { return Ok(()) };
        let peers = self.peer_names();
        let missing = |run: &Self, point: usize| {
            let value = run.points[point].value.as_deref();
            precision::missing(precision, &peers, value, &run.trials)
        };
        let all: Vec<usize> = (0..self.points.len()).collect();
        let mut repeat = self.scenario.repeats;
        while !self.bench.is_interrupted() && self.bench.elapsed() < precision.budget {
            // All peers of a point, so that repeats stay pairs.
            let open: Vec<usize> =
                all.iter().copied().filter(|&point| !missing(self, point).is_empty()).collect();
            if open.is_empty() {
                break;
            }
            let why = "not sure enough yet: one more repeat";
            self.observer.on(Event::Added { trials: open.len() * peers.len(), why });
            self.round(&order::round(&open, peers.len(), repeat))?;
            repeat += 1;
        }
        let warnings: Vec<_> = all.iter().flat_map(|&point| missing(self, point)).collect();
        self.record.warnings.extend(warnings);
        Ok(())
    }

    /// Searches for every peer and in every repeat.
    fn search(&mut self, search: &scenario::Search) -> Result<(), Failure> {
        let scenario = &self.scenario;
        let start = scenario.load.pace.mean_rate().unwrap_or(1.0);
        let grid = Grid::new(start, search.resolution);
        let mut edges: Vec<Option<i32>> = vec![None; self.peers.len()];
        self.observer.on(Event::SearchBegins {
            peers: self.peers.len(),
            repeats: scenario.repeats,
            budget: search.budget,
        });
        for repeat in 0..scenario.repeats {
            let mut seekers: Vec<Seeker> =
                edges.iter().map(|edge| Seeker::new(&grid, *edge)).collect();
            self.seek(search, &grid, &mut seekers, repeat)?;
            for (peer, seeker) in seekers.iter().enumerate() {
                edges[peer] = seeker.edge().or(edges[peer]);
                let result = seeker.result(&grid, &self.peers[peer].peer.name, repeat);
                // A repeat there was no time for says nothing.
                if !seeker.is_untouched() {
                    self.observer.on(Event::Found(&result));
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
                if self.bench.is_interrupted() || self.bench.elapsed() >= search.budget {
                    return Ok(());
                }
                let Some(step) = seekers[peer].next() else { continue };
                let point = self.point_at(grid.rate(step))?;
                self.one_trial(Turn { point, peer, repeat })?;
                let verdict = self.trials.last().map(|trial| search::judge(search, trial));
                seekers[peer].record(step, verdict.unwrap_or(search::Verdict::Nothing));
            }
        }
    }

    /// The point of a search at a rate, which becomes one of the run's.
    fn point_at(&mut self, rate: f64) -> Result<usize, Failure> {
        let scenario = &self.scenario;
        let point = Point::at_rate(scenario, rate);
        if let Some(known) = self.points.iter().position(|other| other.value == point.value) {
            return Ok(known);
        }
        self.points.push(point);
        let is_external = self.peers.iter().any(|ready| ready.external.is_some());
        self.record.sweep = describe::sweep_setup(scenario, &self.points, is_external);
        self.write()?;
        Ok(self.points.len() - 1)
    }

    fn peer_names(&self) -> Vec<String> {
        self.peers.iter().map(|peer| peer.peer.name.clone()).collect()
    }

    fn one_trial(&mut self, turn: Turn) -> Result<(), Failure> {
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
            dir: dir.clone(),
        };
        let named = format!("{name}{}", point.suffix);
        self.observer.on(Event::TrialBegins { name: &named, repeat: turn.repeat });
        let done =
            self.bench.run(&trial, &mut |progress| self.observer.on(Event::Progress(progress)));
        if let Some(proxy) = &done.proxy {
            self.describe_launch(turn.peer, proxy);
        }
        let is_first = self.trials.is_empty();
        // Written down before anybody is told. One that can't be is still a measurement.
        let written = self.folder.write_trial(&done.record);
        self.observer.on(Event::TrialEnds(&done.record));
        self.trials.push(done.record);
        if done.then == Then::Again {
            self.lost.push((self.trials.len() - 1, turn));
        }
        remove_empty_logs(&dir);
        written?;
        match &self.trials[self.trials.len() - 1].outcome {
            TrialOutcome::Failed { message, .. } if is_first && done.then == Then::EndIfFirst => {
                Err(Failure::lab(format!("{message}; its log is in {}", dir.display())))
            }
            TrialOutcome::Failed { message, .. } if done.then == Then::End => {
                Err(Failure::lab(format!("{name}: {message}")))
            }
            _ => Ok(()),
        }
    }

    /// Keeps how the peer was started, once: ports differ between trials and
    /// nothing else does.
    fn describe_launch(&mut self, peer: usize, proxy: &ProxyLaunch) {
        let paths = &self.local_paths;
        let setup = &mut self.record.peers[peer];
        if setup.command.is_empty() {
            let command = proxy.launch.command.iter();
            setup.command = command.map(|word| without_paths(word, paths)).collect();
            let files = proxy.files.iter();
            setup.config_files =
                files.map(|(path, text)| (file_name(path), without_paths(text, paths))).collect();
        }
    }

    /// Judges what was measured and writes the record for the last time.
    fn close(&mut self, started: Timestamp) -> Result<(), Failure> {
        let complete = self.trials.len() >= self.planned && !self.bench.is_interrupted();
        let completed = self.complete_backends();
        self.record.outcome = if complete { RunOutcome::Complete } else { RunOutcome::Interrupted };
        self.record.trials = u32::try_from(self.trials.len()).ok();
        let search = self.record.search.as_ref();
        self.record.expectations = expect::judge(&self.scenario.claims, search, &self.trials);
        // Near the edge that a search looks for, repeats differ by nature.
        if search.is_none() {
            let points: Vec<_> = self.points.iter().map(|point| point.value.clone()).collect();
            let doubts = doubts::of_run(&self.peer_names(), &points, &self.trials);
            self.record.warnings.extend(doubts);
        }
        let findings = Findings::of(&Model::new(&self.record, &self.trials));
        self.record.answered = findings.plain_answer();
        self.record.doubts = findings.plain_doubts();
        self.record.elapsed_s = Some(Timestamp::now().duration_since(started).as_secs_f64());
        completed.and(self.write())
    }

    /// Backends that the lab did not start are known only now, and trials that ended
    /// before one of them was first seen lack it.
    fn complete_backends(&mut self) -> Result<(), Failure> {
        let mut known = None;
        for external in self.peers.iter().filter_map(|ready| ready.external.as_ref()) {
            let target = external.target.authority.clone();
            self.record.warnings.push(Warning::ExternalTarget { target });
            known = Some(external);
        }
        // All targets of a run know backends by the same numbers.
        let Some(external) = known else { return Ok(()) };
        self.record.backends = external.backends();
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

pub(super) fn without_paths(text: &str, paths: &[(String, &'static str)]) -> String {
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

#[cfg(test)]
mod tests;

//! `loadgen compare --rerun FILE BEFORE AFTER`: two programs, or two folders of peers,
//! measured in turn until it is known whether they differ.
//!
//! Each repeat is a run of one repeat by either side, and every other repeat begins with
//! the other one, so that a machine that slowly gets busier is kind to neither. What is
//! compared are the two runs of a repeat ([`Comparison::interleaved`]).

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use analysis::{
    compare::{Comparison, Row},
    verdict::Verdict,
};
use measure::{figure::Figure, folder::Run};

use crate::{exit::Failure, interrupt};

/// Repeats before the first look.
const FIRST_LOOK: usize = 5;
/// Looks at most. Each is after two fifths more repeats than the one before, which are
/// 380 repeats for the last.
const LOOKS: usize = 14;

/// What is to be found out.
pub(super) struct Rerun<'a> {
    /// The scenario's file.
    pub(super) scenario: &'a Path,
    pub(super) sides: [&'a Path; 2],
    /// What the runs of both sides are given besides.
    pub(super) arguments: &'a [String],
    /// The figures that are compared; all unless given.
    pub(super) figures: Vec<Figure>,
    /// The difference that is to be found, as a fraction.
    pub(super) detect: f64,
    pub(super) budget: Duration,
}

impl Rerun<'_> {
    /// Repeats until every figure is known, or the budget is spent. `told` hears how it
    /// goes.
    pub(super) fn run(&self, told: &mut dyn FnMut(String)) -> Result<Comparison, Failure> {
        let scenario = self.scenario.canonicalize().map_err(|error| {
            Failure::bad_input(format!("--rerun {}: {error}", self.scenario.display()))
        })?;
        let sides = [Side::of(self.sides[0])?, Side::of(self.sides[1])?];
        let begun = Instant::now();
        let mut runs: [Option<Run>; 2] = [None, None];
        let mut looks = looks().into_iter().peekable();
        let mut found = None;
        for repeat in 1.. {
            let order = if repeat % 2 == 1 { [0, 1] } else { [1, 0] };
            for side in order {
                let run = sides[side].run(&scenario, repeat, self.arguments)?;
                add(&mut runs[side], run, repeat);
            }
            let is_over = interrupt::interrupted() || self.would_exceed(begun.elapsed(), repeat);
            if looks.next_if_eq(&repeat).is_none() && !is_over {
                continue;
            }
            let [Some(before), Some(after)] = &runs else { continue };
            let comparison =
                Comparison::interleaved((before, after), &self.figures, self.detect, LOOKS)
                    .map_err(Failure::bad_input)?;
            // Calls that fail now and then on both sides are no question of repeats.
            let is_open =
                |row: &&Row| row.verdict == Verdict::CannotTell && row.shown != Figure::ErrorRate;
            let open = comparison.rows.iter().filter(is_open).count();
            told(format!(
                "after {repeat} repeats of each: {} of {} figures are known",
                comparison.rows.len() - open,
                comparison.rows.len()
            ));
            let is_over = is_over || open == 0 || looks.peek().is_none();
            found = Some(comparison);
            if is_over {
                break;
            }
        }
        let comparison = found.ok_or_else(|| Failure::lab("nothing was measured"))?;
        let [before, after] = self.sides.map(|side| side.display().to_string());
        Ok(Comparison { before, after, ..comparison })
    }

    /// Whether one more repeat would not fit into the budget.
    fn would_exceed(&self, elapsed: Duration, repeats: usize) -> bool {
        let each = elapsed / u32::try_from(repeats).unwrap_or(u32::MAX);
        elapsed + each > self.budget
    }
}

/// After how many repeats is looked at what they say.
fn looks() -> Vec<usize> {
    let next = |repeats: &usize| Some(repeats + repeats * 2 / 5);
    std::iter::successors(Some(FIRST_LOOK), next).take(LOOKS).collect()
}

/// One of the two: a program, and where it finds its peers.
struct Side {
    program: PathBuf,
    /// The folder it runs in; none for where this process does.
    folder: Option<PathBuf>,
}

impl Side {
    fn of(path: &Path) -> Result<Self, Failure> {
        let bad = |what: String| Failure::bad_input(format!("{}: {what}", path.display()));
        let whole = path.canonicalize().map_err(|error| bad(error.to_string()))?;
        if whole.is_file() {
            return Ok(Self { program: whole, folder: None });
        }
        if !whole.join("scenarios/peers").is_dir() {
            let what = "give a program (a loadgen of its own), or a folder that has \
                        scenarios/peers with the peers of this side";
            return Err(bad(what.to_owned()));
        }
        let program = std::env::current_exe()
            .map_err(|error| Failure::lab(format!("cannot find this program: {error}")))?;
        Ok(Self { program, folder: Some(whole) })
    }

    /// Makes one run of one repeat. Both sides have the same calls in it.
    fn run(&self, scenario: &Path, repeat: usize, arguments: &[String]) -> Result<Run, Failure> {
        let lab = |what: String| Failure::lab(format!("{}: {what}", self.program.display()));
        let results = tempfile::tempdir().map_err(|error| lab(error.to_string()))?;
        let mut command = Command::new(&self.program);
        command.arg("--scenario").arg(scenario).arg("--out").arg(results.path());
        command.args(["--repeats", "1", "--seed", &repeat.to_string()]).args(arguments);
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        let output =
            command.stdin(Stdio::null()).output().map_err(|error| lab(error.to_string()))?;
        let said = || String::from_utf8_lossy(&output.stderr).into_owned();
        // A claim that failed is no failure of the run.
        if !matches!(output.status.code(), Some(0 | 1)) {
            return Err(lab(said()));
        }
        let folder = only_run(results.path()).ok_or_else(|| lab(said()))?;
        Run::open(&folder).map_err(|error| lab(error.to_string()))
    }
}

/// The one run of a folder of results, beside which there is a list of runs.
fn only_run(results: &Path) -> Option<PathBuf> {
    let folder_in = |folder: &Path| {
        let mut inside = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
        inside.find(|path| path.is_dir())
    };
    folder_in(&folder_in(results)?)
}

/// Adds a run of one repeat to those before.
fn add(all: &mut Option<Run>, mut run: Run, repeat: usize) {
    for trial in &mut run.trials {
        trial.repeat = u32::try_from(repeat - 1).unwrap_or(u32::MAX);
    }
    match all {
        Some(all) => all.trials.append(&mut run.trials),
        None => *all = Some(run),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_few_and_far_between() {
        assert_eq!(looks()[..5], [5, 7, 9, 12, 16]);
        assert_eq!(looks().len(), LOOKS);
        assert!(looks().last().is_some_and(|&last| last > 200), "{:?}", looks());
    }

    #[test]
    fn a_run_is_found_among_what_else_is_there() {
        let home = tempfile::tempdir().unwrap();
        let run = home.path().join("pair/20260101T000000Z-1");
        for name in ["index.html", "zero"] {
            fs::write(home.path().join(name), "").unwrap();
        }
        assert_eq!(only_run(home.path()), None);
        fs::create_dir_all(&run).unwrap();
        fs::write(home.path().join("pair/index.html"), "").unwrap();
        assert_eq!(only_run(home.path()), Some(run));
    }

    #[test]
    fn a_side_is_a_program_or_a_folder_with_peers() {
        let home = tempfile::tempdir().unwrap();
        let program = std::env::current_exe().unwrap();
        assert_eq!(Side::of(&program).unwrap().folder, None);
        assert!(Side::of(home.path()).is_err_and(|error| error.message.contains("peers")));
        fs::create_dir_all(home.path().join("scenarios/peers")).unwrap();
        let side = Side::of(home.path()).unwrap();
        assert_eq!(side.folder, Some(home.path().canonicalize().unwrap()));
    }
}

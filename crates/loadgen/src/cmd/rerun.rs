//! `loadgen compare --rerun FILE BEFORE AFTER`: two programs, or two folders of peers,
//! measured in turn until it is known whether they differ.
//!
//! Each repeat is a run of one repeat by either side. Which of them begins is tossed, which is
//! what the intervals rest on ([`measure::statistics::signed_rank`]). What is compared are the
//! two runs of a repeat ([`Comparison::interleaved`]).

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use analysis::{
    compare::{Comparison, INTERLEAVED_LEVEL, Row},
    verdict::Verdict,
};
use measure::{
    figure::Figure,
    folder::Run,
    format,
    statistics::stopping::{MOST_PAIRS, Spending, looks},
};
use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{Rng, SeedableRng},
};

use super::child;
use crate::{
    exit::{self, Failure},
    interrupt,
    lab::guard,
};

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

/// What makes the runs, and says when to stop. Tests have one that starts no program and
/// keeps its own time.
trait Bench {
    /// Makes a run of one repeat; `None` where it was interrupted. Both sides have the same
    /// calls in it.
    fn run(&mut self, side: usize, repeat: usize) -> Result<Option<Run>, Failure>;

    /// Time since the first run began.
    fn elapsed(&self) -> Duration;

    fn is_interrupted(&self) -> bool;
}

/// Runs the programs of both sides.
struct Programs<'a> {
    scenario: PathBuf,
    sides: [Side; 2],
    arguments: &'a [String],
    begun: Instant,
}

impl Bench for Programs<'_> {
    fn run(&mut self, side: usize, repeat: usize) -> Result<Option<Run>, Failure> {
        self.sides[side].run(&self.scenario, repeat, self.arguments)
    }

    fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    fn is_interrupted(&self) -> bool {
        interrupt::interrupted()
    }
}

impl Rerun<'_> {
    /// Repeats until every figure is known, or the budget is spent. `told` hears how it
    /// goes.
    pub(super) fn run(&self, note: &mut dyn FnMut(String)) -> Result<Comparison, Failure> {
        let scenario = self.scenario.canonicalize().map_err(|error| {
            Failure::bad_input(format!("--rerun {}: {error}", self.scenario.display()))
        })?;
        let sides = [Side::of(self.sides[0])?, Side::of(self.sides[1])?];
        let begun = Instant::now();
        let mut programs = Programs { scenario, sides, arguments: self.arguments, begun };
        self.until_known(&mut programs, note)
    }

    fn until_known(
        &self,
        bench: &mut dyn Bench,
        note: &mut dyn FnMut(String),
    ) -> Result<Comparison, Failure> {
        let mut runs: [Option<Run>; 2] = [None, None];
        let mut looks = looks().peekable();
        let mut spending = Spending::new(INTERLEAVED_LEVEL);
        let mut coin = Xoshiro256PlusPlus::seed_from_u64(1);
        let (mut found, mut pairs) = (None, 0);
        for repeat in 1..=MOST_PAIRS {
            let first = usize::from(coin.next_u64() >> 63 == 1);
            let mut pair = [None, None];
            for side in [first, 1 - first] {
                if !bench.is_interrupted() {
                    pair[side] = bench.run(side, repeat)?;
                }
            }
            // One that was interrupted has nothing to be compared with.
            if let [Some(before), Some(after)] = pair {
                add(&mut runs[0], before, repeat);
                add(&mut runs[1], after, repeat);
                pairs = repeat;
            }
            let is_last = self.would_exceed(bench.elapsed(), repeat) || repeat == MOST_PAIRS;
            let is_over = is_last || bench.is_interrupted();
            if looks.next_if_eq(&repeat).is_none() && !is_over {
                continue;
            }
            // Who gives up early may do so for what has been seen.
            let gone = bench.elapsed().as_secs_f64() / self.budget.as_secs_f64();
            let error = spending.spend(if is_last { 1.0 } else { gone });
            let [Some(before), Some(after)] = &runs else { break };
            let comparison =
                Comparison::interleaved((before, after), &self.figures, self.detect, error)
                    .map_err(Failure::bad_input)?;
            // Calls that fail now and then on both sides are no question of repeats.
            let is_open =
                |row: &&Row| row.verdict == Verdict::Inconclusive && row.shown != Figure::ErrorRate;
            let open = comparison.rows.iter().filter(is_open).count();
            note(format!(
                "after {} of each: {} of {} figures are known",
                format::counted(pairs, "repeat"),
                comparison.rows.len() - open,
                comparison.rows.len()
            ));
            found = Some(comparison);
            if is_over || open == 0 {
                break;
            }
        }
        let comparison = found.ok_or_else(|| Failure {
            code: exit::INTERRUPTED,
            message: "interrupted before both sides were measured".to_owned(),
        })?;
        let [before, after] = self.sides.map(|side| side.display().to_string());
        Ok(Comparison { before, after, ..comparison })
    }

    /// Whether one more repeat would not fit into the budget.
    fn would_exceed(&self, elapsed: Duration, repeats: usize) -> bool {
        let each = elapsed / u32::try_from(repeats).unwrap_or(u32::MAX);
        elapsed + each > self.budget
    }
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

    /// Makes one run of one repeat; `None` where it was interrupted.
    fn run(
        &self,
        scenario: &Path,
        repeat: usize,
        arguments: &[String],
    ) -> Result<Option<Run>, Failure> {
        let lab = |what: String| Failure::lab(format!("{}: {what}", self.program.display()));
        let results = tempfile::tempdir().map_err(|error| lab(error.to_string()))?;
        let mut command = guard::command().map_err(|error| lab(error.to_string()))?;
        command.arg(&self.program).arg("--scenario").arg(scenario).arg("--out").arg(results.path());
        command.args(["--repeats", "1", "--seed", &repeat.to_string()]).args(arguments);
        command.env(child::RECORDS_ONLY, "1");
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        let errors = results.path().join("stderr");
        let status = File::create(&errors)
            .and_then(|file| {
                child::run(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file))
            })
            .map_err(|error| lab(error.to_string()))?;
        let said = || fs::read_to_string(&errors).unwrap_or_default();
        match status.code() {
            // A claim that failed is no failure of the run.
            Some(0 | 1) => {}
            _ if interrupt::interrupted() => return Ok(None),
            _ => return Err(lab(said())),
        }
        let folder = only_run(results.path()).ok_or_else(|| lab(said()))?;
        Run::open(&folder).map(Some).map_err(|error| lab(error.to_string()))
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
    use measure::record::{Counts, ProcessCost, ProcessRole, RunRecord, TrialRecord};

    use super::*;

    /// Sides of which the second takes `ratio` times the CPU time of the first, on a machine
    /// that is slower by half every now and then and stalls in one repeat of ten.
    struct Fake {
        ratio: f64,
        chance: Xoshiro256PlusPlus,
        elapsed: Duration,
        /// Which sides were run, in order.
        order: Vec<usize>,
        stop_after: usize,
    }

    /// How long a run of it takes.
    const EACH: Duration = Duration::from_secs(3);
    const CALLS: u64 = 1_000;

    impl Fake {
        fn new(ratio: f64) -> Self {
            Self {
                ratio,
                chance: Xoshiro256PlusPlus::seed_from_u64(7),
                elapsed: Duration::ZERO,
                order: Vec::new(),
                stop_after: usize::MAX,
            }
        }

        fn compare(&mut self) -> (Comparison, Vec<String>) {
            let mut notes = Vec::new();
            let comparison = self.compare_until(&mut |line| notes.push(line)).unwrap();
            (comparison, notes)
        }

        fn compare_until(&mut self, note: &mut dyn FnMut(String)) -> Result<Comparison, Failure> {
            let (scenario, sides) = (Path::new("pair.toml"), [Path::new("a"), Path::new("b")]);
            let rerun = Rerun {
                scenario,
                sides,
                arguments: &[],
                figures: vec![Figure::ProxyCpuPerCall],
                detect: 0.05,
                budget: Duration::from_secs(20 * 60),
            };
            rerun.until_known(self, note)
        }
    }

    impl Bench for Fake {
        fn run(&mut self, side: usize, repeat: usize) -> Result<Option<Run>, Failure> {
            self.order.push(side);
            self.elapsed += EACH;
            let even = |chance: &mut Xoshiro256PlusPlus| chance.next_u64() as f64 / u64::MAX as f64;
            // Evenly by 10 % to either side: a standard deviation of 6 %.
            let mut per_call = 50e3 * (1.0 + 0.2 * (even(&mut self.chance) - 0.5));
            per_call *= if repeat % 25 < 5 { 1.5 } else { 1.0 };
            per_call *= if even(&mut self.chance) < 0.1 { 3.0 } else { 1.0 };
            per_call *= if side == 1 { self.ratio } else { 1.0 };
            let mut trial = TrialRecord::blank("l7", 0, 0);
            trial.counts = Counts {
                scheduled: CALLS,
                sent: CALLS,
                ok: CALLS,
                completed_in_window: CALLS,
                ..Counts::default()
            };
            trial.processes = vec![ProcessCost {
                role: ProcessRole::Proxy,
                name: "l7".to_owned(),
                user_ns: (per_call * CALLS as f64) as u64,
                system_ns: 0,
                voluntary_switches: 0,
                involuntary_switches: 0,
                waited_ns: 0,
                instructions: None,
                rss_bytes: 0,
                rss_peak_bytes: 0,
            }];
            Ok(Some(Run { record: record(), trials: vec![trial] }))
        }

        fn elapsed(&self) -> Duration {
            self.elapsed
        }

        fn is_interrupted(&self) -> bool {
            self.order.len() >= self.stop_after
        }
    }

    /// The record of the example, as a run of one peer.
    fn record() -> RunRecord {
        let example = include_str!("../../../../results/example/run.json");
        let mut record: RunRecord = serde_json::from_str(example).unwrap();
        record.peers.retain(|peer| peer.name == "l7");
        record
    }

    #[test]
    fn what_differs_is_found_and_what_does_not_is_known_to_be_the_same() {
        for (ratio, expected) in
            [(1.05, Verdict::Worse), (0.9, Verdict::Better), (1.0, Verdict::Same)]
        {
            let mut fake = Fake::new(ratio);
            let (comparison, notes) = fake.compare();
            let row = &comparison.rows[0];
            assert_eq!(row.verdict, expected, "{ratio}: {row:?}, {notes:?}");
            assert_eq!((comparison.before.as_str(), comparison.after.as_str()), ("a", "b"));
            let (low, high) = row.interval.unwrap();
            assert!(low <= row.ratio && row.ratio <= high);
            assert!((row.after / row.before - row.ratio).abs() < 1e-9);
            assert_eq!(comparison.interleaved, Some(fake.order.len() / 2));
            assert!(fake.elapsed <= Duration::from_secs(20 * 60));
        }
    }

    #[test]
    fn which_side_begins_is_tossed() {
        let mut fake = Fake::new(1.02);
        fake.stop_after = 200;
        let (comparison, notes) = fake.compare();
        assert_eq!(comparison.interleaved, Some(100), "{notes:?}");
        assert!(notes[0].starts_with("after 18 repeats of each: "), "{notes:?}");
        let pairs = || fake.order.chunks(2);
        assert!(pairs().all(|pair| pair[0] != pair[1]), "each repeat has both");
        let begun = pairs().filter(|pair| pair[0] == 1).count();
        assert!((30..70).contains(&begun), "{begun} of 100");
        let turns = fake.order.chunks(4).filter(|two| two[0] != two[2]).count();
        assert!((10..40).contains(&turns), "neither in turn nor in rows: {turns} of 50");
    }

    #[test]
    fn too_little_time_is_told_as_such() {
        let mut fake = Fake::new(1.5);
        fake.stop_after = 8;
        let (comparison, _) = fake.compare();
        assert_eq!(comparison.rows[0].verdict, Verdict::Inconclusive);
        assert!(comparison.warnings.iter().any(|one| one.contains("--budget")));
    }

    #[test]
    fn what_was_measured_before_an_interrupt_is_compared() {
        let mut fake = Fake::new(1.5);
        fake.stop_after = 7;
        let (comparison, notes) = fake.compare();
        assert_eq!((comparison.interleaved, fake.order.len()), (Some(3), 7));
        assert!(notes[0].starts_with("after 3 repeats of each: "), "{notes:?}");

        let mut fake = Fake::new(1.5);
        fake.stop_after = 1;
        let failure = fake.compare_until(&mut |_| {}).unwrap_err();
        assert_eq!((failure.code, fake.order.len()), (exit::INTERRUPTED, 1));
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

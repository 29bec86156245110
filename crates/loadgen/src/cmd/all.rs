//! `loadgen all`: the scenarios that decide most, or every one of the library, into a set of
//! runs, and the decision that comes of it.
//!
//! Each scenario is run by a process of its own, as by hand: one that moves into a user
//! namespace, or that fails, is of no consequence to the next.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use scenario::Library;
use serde::{Deserialize, Serialize};

use super::{child, decide};
use crate::{
    exit::{self, Failure},
    interrupt,
    lab::guard,
    peers,
    root::Root,
    ui::{Progress, Terminal},
};

/// What is said of a set in its folder, for `--resume`.
const SET_FILE: &str = "set.json";
/// What decides most, in this order; about 20 minutes. What is left of the library refines a
/// choice that has been made, and takes half an hour more.
const DECIDING: [&str; 14] = [
    "single-conn-flood",
    "few-conns",
    "many-conns",
    "connection-sweep",
    "cost-of-l7",
    "slow-backend",
    "backend-crash",
    "capacity",
    "connection-churn",
    "long-streams",
    "payload-sweep",
    "scale-out",
    "skewed-clients",
    "tls-price",
];

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run the short forms, twice each: five minutes rather than twenty, and wider
    /// intervals.
    #[arg(long)]
    quick: bool,
    /// Run every scenario of the library, also those that refine a choice: settings, limits,
    /// fleets, distances. Nearly an hour.
    #[arg(long)]
    every: bool,
    /// Leave out these scenarios, with commas.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    except: Vec<String>,
    /// Folder for the runs and the decision; it must be new or empty [default: a new one
    /// in results].
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Go on with a set that was interrupted: what has a complete run in FOLDER is not run
    /// again.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["quick", "every", "except", "out"])]
    resume: Option<PathBuf>,
}

/// What a set consists of.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Set {
    quick: bool,
    scenarios: Vec<String>,
}

pub(super) fn main(args: &Args) -> Result<u8, Failure> {
    let root = Root::find();
    let library = super::library(&root)?;
    let (folder, set) = match &args.resume {
        Some(folder) => (folder.clone(), read_set(folder)?),
        None => new_set(args, &library, &root)?,
    };
    interrupt::listen()
        .map_err(|error| Failure::lab(format!("cannot wait for signals: {error}")))?;
    let mut progress = Progress::new(Terminal::stderr());
    let mut code = exit::FINE;
    let mut without_run = Vec::new();
    let (started, mut ran) = (Instant::now(), 0);
    for (index, name) in set.scenarios.iter().enumerate() {
        if has_complete_run(&folder.join(name)) {
            continue;
        }
        let left = remaining(started.elapsed(), ran, set.scenarios.len() - index);
        progress.note(&format!("scenario {} of {}{left}", index + 1, set.scenarios.len()));
        let status = run_scenario(name, &folder, set.quick)
            .map_err(|error| Failure::lab(format!("cannot run {name}: {error}")))?;
        ran += 1;
        if interrupt::interrupted() {
            let resume = format!("loadgen all --resume {}", folder.display());
            progress.note(&format!("interrupted; `{resume}` goes on from here"));
            return Ok(exit::INTERRUPTED);
        }
        code = code.max(code_of(status));
        if !has_complete_run(&folder.join(name)) {
            without_run.push(name.as_str());
        }
    }
    if !without_run.is_empty() {
        progress
            .note(&format!("could not be run, for the reasons above: {}", without_run.join(", ")));
    }
    interrupt::end_at_once();
    decide::of_folder(&folder)?;
    Ok(code)
}

/// About how long what is left takes, by what has been run.
fn remaining(elapsed: Duration, ran: usize, left: usize) -> String {
    if ran == 0 {
        return String::new();
    }
    let minutes = elapsed.as_secs_f64() / ran as f64 * left as f64 / 60.0;
    format!(", about {minutes:.0} min left")
}

/// A set of the scenarios that are asked for but those left out, in a folder of its own.
fn new_set(args: &Args, library: &Library, root: &Root) -> Result<(PathBuf, Set), Failure> {
    for name in &args.except {
        library.find(name).map_err(Failure::bad_input)?;
    }
    let order = |name: &String| {
        DECIDING.iter().position(|deciding| deciding == name).unwrap_or(DECIDING.len())
    };
    let mut scenarios = library.names().to_vec();
    scenarios.retain(|name| {
        !args.except.contains(name) && (args.every || DECIDING.contains(&name.as_str()))
    });
    scenarios.sort_by_key(order);
    if scenarios.is_empty() {
        let message = "none of the scenarios that decide is here; --every runs all that are";
        return Err(Failure::bad_input(message));
    }
    let set = Set { quick: args.quick, scenarios };
    let utc = Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let folder = args.out.clone().unwrap_or_else(|| root.results().join(format!("all-{utc}")));
    let failure = |error| Failure::writing(folder.display(), &error);
    fs::create_dir_all(&folder).map_err(failure)?;
    if fs::read_dir(&folder).map_err(failure)?.next().is_some() {
        let message = format!(
            "{}: the folder is not empty; name a new one, or go on with a set by --resume",
            folder.display()
        );
        return Err(Failure::bad_input(message));
    }
    fs::write(folder.join(SET_FILE), format!("{:#}\n", serde_json::json!(set))).map_err(failure)?;
    Ok((folder, set))
}

fn read_set(folder: &Path) -> Result<Set, Failure> {
    let path = folder.join(SET_FILE);
    let bad = |error: &dyn std::fmt::Display| {
        Failure::bad_input(format!(
            "--resume {}: expected the folder of a set that `loadgen all` began: {}: {error}",
            folder.display(),
            path.display()
        ))
    };
    let bytes = fs::read(&path).map_err(|error| bad(&error))?;
    serde_json::from_slice(&bytes).map_err(|error| bad(&error))
}

/// Runs a scenario as the command line would.
fn run_scenario(name: &str, folder: &Path, quick: bool) -> io::Result<ExitStatus> {
    let mut command = guard::command()?;
    command.arg(peers::loadgen_program()?);
    command.args(["--scenario", name, "--out"]).arg(folder);
    if quick {
        command.args(["--short", "--repeats", "2"]);
    }
    child::run(&mut command)
}

/// The code a scenario ended with; one that a signal ended is the lab's failure.
fn code_of(status: ExitStatus) -> u8 {
    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(exit::LAB_FAILED)
}

fn has_complete_run(scenario: &Path) -> bool {
    let Ok(runs) = fs::read_dir(scenario) else { return false };
    runs.flatten().any(|run| {
        let record = fs::read(run.path().join("run.json")).unwrap_or_default();
        let record: serde_json::Value = serde_json::from_slice(&record).unwrap_or_default();
        record["outcome"] == "complete"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(out: &Path) -> Args {
        let except = vec!["tls-price".into()];
        Args { quick: true, every: true, except, out: Some(out.into()), resume: None }
    }

    #[test]
    fn a_set_has_every_scenario_once_and_is_read_back() {
        let root = Root::find();
        let library = crate::cmd::library(&root).unwrap();
        let home = tempfile::tempdir().unwrap();
        let out = home.path().join("set");
        let (folder, set) = new_set(&args(&out), &library, &root).unwrap();
        let mut expected: Vec<String> = library.names().to_vec();
        expected.retain(|name| name != "tls-price");
        let mut names = set.scenarios.clone();
        names.sort();
        assert_eq!(names, expected);
        assert_eq!(set.scenarios[0], "single-conn-flood");
        let again = read_set(&folder).unwrap();
        assert_eq!((again.quick, again.scenarios), (true, set.scenarios));
        // Without more being asked for, what decides, of which each has to be there.
        let deciding = Args { every: false, except: Vec::new(), ..args(&home.path().join("few")) };
        let (_, set) = new_set(&deciding, &library, &root).unwrap();
        assert_eq!(set.scenarios, DECIDING);
        // A set never mixes with what is there.
        let failure = new_set(&args(&out), &library, &root).unwrap_err();
        assert!(failure.code == exit::BAD_INPUT && failure.message.contains("--resume"));
    }

    #[test]
    fn what_is_no_set_is_named() {
        let home = tempfile::tempdir().unwrap();
        let failure = read_set(home.path()).unwrap_err();
        assert_eq!(failure.code, exit::BAD_INPUT);
        assert!(failure.message.contains("set.json"), "{}", failure.message);
    }

    #[test]
    fn only_a_complete_run_is_not_run_again() {
        let home = tempfile::tempdir().unwrap();
        let run = home.path().join("20260101T000000Z-1");
        assert!(!has_complete_run(home.path()));
        fs::create_dir_all(&run).unwrap();
        for (outcome, complete) in [("interrupted", false), ("running", false), ("complete", true)]
        {
            fs::write(run.join("run.json"), format!(r#"{{"outcome": "{outcome}"}}"#)).unwrap();
            assert_eq!(has_complete_run(home.path()), complete);
        }
    }
}

//! `loadgen prune --keep N`: deletes old runs, and makes the list of runs again.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::builder::RangedU64ValueParser;
use measure::{folder::folder_bytes, format};

use crate::{
    exit::{self, Failure},
    root::Root,
    ui::print,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many runs of each scenario stay: the newest ones.
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    keep: usize,
    /// Only runs of this scenario.
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
    /// Say what would be deleted, and delete nothing.
    #[arg(long)]
    dry_run: bool,
    /// The results folder [default: results].
    #[arg(value_name = "FOLDER")]
    results: Option<PathBuf>,
}

pub(super) fn main(args: &Args) -> Result<u8, Failure> {
    let results = args.results.clone().unwrap_or_else(|| Root::find().results());
    let scenarios = folders(&results)?;
    if let Some(name) = &args.scenario
        && !scenarios.iter().any(|folder| folder.file_name() == Some(name.as_ref()))
    {
        let message = format!("--scenario {name}: there is no run of it in {}", results.display());
        return Err(Failure::bad_input(message));
    }
    let (mut count, mut freed) = (0, 0);
    for scenario in scenarios {
        if args.scenario.as_ref().is_some_and(|name| scenario.file_name() != Some(name.as_ref())) {
            continue;
        }
        // Names begin with the time, so the newest run is the last one.
        let runs: Vec<PathBuf> =
            folders(&scenario)?.into_iter().filter(|run| has_ended(run)).collect();
        for run in &runs[..runs.len().saturating_sub(args.keep)] {
            let bytes = folder_bytes(run);
            if !args.dry_run {
                fs::remove_dir_all(run).map_err(|error| Failure::writing(run.display(), &error))?;
            }
            print(&format!("{}  {}\n", run.display(), format::bytes(bytes)))?;
            count += 1;
            freed += bytes;
        }
    }
    if count > 0 && !args.dry_run {
        report::index(&results)?;
    }
    let done = if args.dry_run { "would be deleted" } else { "deleted" };
    print(&format!("{} {done}, {}\n", format::counted(count, "run"), format::bytes(freed)))?;
    Ok(exit::FINE)
}

/// The folders in a folder, by name. Links are left alone: what they point to may be
/// anybody's.
fn folders(parent: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failure = |error| Failure::writing(parent.display(), &error);
    let mut folders = Vec::new();
    for entry in fs::read_dir(parent).map_err(failure)? {
        let entry = entry.map_err(failure)?;
        if entry.file_type().map_err(failure)?.is_dir() {
            folders.push(entry.path());
        }
    }
    folders.sort();
    Ok(folders)
}

/// Whether a folder is a run that has ended. One that is still recorded as running may
/// be, and what can't be read is not ours to delete.
fn has_ended(folder: &Path) -> bool {
    let record = fs::read(folder.join("run.json")).unwrap_or_default();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap_or_default();
    record["outcome"].as_str().is_some_and(|outcome| outcome != "running")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A results folder with three runs that ended and one that is recorded as running,
    /// of `flood`, and one run of `other`.
    fn results() -> tempfile::TempDir {
        let results = tempfile::tempdir().unwrap();
        for (run, outcome) in [
            ("flood/20260101T000000Z-1", "complete"),
            ("flood/20260102T000000Z-1", "interrupted"),
            ("flood/20260103T000000Z-1", "complete"),
            ("flood/20260104T000000Z-1", "running"),
            ("other/20260101T000000Z-1", "complete"),
        ] {
            let folder = results.path().join(run);
            fs::create_dir_all(&folder).unwrap();
            let record = format!(r#"{{"format": 1, "outcome": "{outcome}"}}"#);
            fs::write(folder.join("run.json"), record).unwrap();
        }
        fs::create_dir_all(results.path().join("flood/notes")).unwrap();
        results
    }

    fn left(results: &tempfile::TempDir) -> Vec<String> {
        let mut left = Vec::new();
        for scenario in folders(results.path()).unwrap() {
            for run in folders(&scenario).unwrap() {
                left.push(run.strip_prefix(results.path()).unwrap().display().to_string());
            }
        }
        left
    }

    fn prune(
        results: &tempfile::TempDir,
        scenario: Option<&str>,
        dry_run: bool,
    ) -> Result<u8, Failure> {
        main(&Args {
            keep: 1,
            scenario: scenario.map(str::to_owned),
            dry_run,
            results: Some(results.path().to_owned()),
        })
    }

    #[test]
    fn the_newest_runs_stay_and_so_does_what_is_no_run_that_has_ended() {
        let results = results();
        let all = left(&results);
        prune(&results, None, true).unwrap();
        assert_eq!(left(&results), all);
        prune(&results, Some("other"), false).unwrap();
        assert_eq!(left(&results), all);
        prune(&results, None, false).unwrap();
        assert_eq!(
            left(&results),
            [
                "flood/20260103T000000Z-1",
                "flood/20260104T000000Z-1",
                "flood/notes",
                "other/20260101T000000Z-1"
            ]
        );
        assert!(results.path().join("index.html").is_file());
    }

    #[test]
    fn a_scenario_without_runs_is_named() {
        let failure = prune(&results(), Some("flod"), false).unwrap_err();
        assert_eq!(failure.code, exit::BAD_INPUT);
        assert!(failure.message.contains("--scenario flod"));
    }
}

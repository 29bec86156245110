//! `loadgen export FOLDER`: a run's data in formats that other tools read.

use std::{
    fs,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use measure::{
    exchange::{prometheus, series_csv, series_hlog},
    folder::{Run, trial_name, write_whole},
    histogram::to_hgrm,
};

use crate::{
    exit::{self, Failure},
    ui::print,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run folder.
    folder: PathBuf,
    /// Where to write [default: `export` in the run folder].
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Write one file instead, which later runs can be compared with: `loadgen compare
    /// --baseline FILE RUN`.
    #[arg(long, value_name = "FILE", conflicts_with = "out")]
    baseline: Option<PathBuf>,
}

pub(super) fn main(args: &Args) -> Result<u8, Failure> {
    let run = Run::open(&args.folder).map_err(Failure::bad_input)?;
    if let Some(path) = &args.baseline {
        let unwritten = |error| Failure::lab(format!("--baseline: {error}"));
        run.write_baseline(path).map_err(unwritten)?;
        print(&format!("{}\n", path.display()))?;
        return Ok(exit::FINE);
    }
    let out = args.out.clone().unwrap_or_else(|| args.folder.join("export"));
    let files = write(&run, &out)?;
    print(&files.iter().map(|path| format!("{}\n", path.display())).collect::<String>())?;
    Ok(exit::FINE)
}

/// Writes everything into `out`, replacing what an earlier export left, and
/// returns the files.
fn write(run: &Run, out: &Path) -> Result<Vec<PathBuf>, Failure> {
    let cannot =
        |path: &Path, error| Failure::writing(format!("cannot write {}", path.display()), &error);
    fs::create_dir_all(out).map_err(|error| cannot(out, error))?;
    let ids: Vec<String> = run.record.backends.iter().map(|backend| backend.id.clone()).collect();
    let mut files =
        vec![("summary.prom".to_owned(), prometheus(&run.record.scenario, &run.trials))];
    for trial in &run.trials {
        let name = trial_name(trial.order, &trial.peer, trial.repeat);
        let started: Option<Timestamp> = trial.started_utc.parse().ok();
        let start_s = started.map_or(0.0, |time| time.as_millisecond() as f64 / 1e3);
        files.push((format!("{name}.csv"), series_csv(&trial.series, &ids)));
        files.push((format!("{name}.hlog"), series_hlog(&trial.series, start_s, trial.measured_s)));
        let latency = trial.latency.to_histogram().map_err(Failure::bad_input)?;
        files.push((format!("{name}.hgrm"), to_hgrm(&latency)));
    }
    files
        .into_iter()
        .map(|(name, text)| {
            let path = out.join(name);
            write_whole(&path, text.as_bytes()).map_err(|error| cannot(&path, error))?;
            Ok(path)
        })
        .collect()
}

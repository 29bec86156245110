//! A run folder on disk: made once, never overwritten, readable at any time.
//!
//! Every file is written under another name and then moved into place, so that
//! a reader, or a run that was killed, never sees half a record. Writing and reading are in
//! one file with all that can be wrong, since they are one format.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    histogram::{HistogramError, HistogramRecord},
    prediction::{Predictions, Sealed},
    record::{FORMAT_VERSION, RunRecord, TrialRecord},
};

const RUN_FILE: &str = "run.json";
const SCENARIO_FILE: &str = "scenario.toml";
const PREDICTIONS_FILE: &str = "predictions.json";
const TRIALS: &str = "trials";
/// Most missing trials that an error names.
const MISSING_NAMED: usize = 10;

/// A run folder open for writing.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
}

/// A run as read back.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// What the trials have in common.
    pub record: RunRecord,
    /// The trials in the order run.
    pub trials: Vec<TrialRecord>,
}

/// What can go wrong with a run folder.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The file system said no.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// There is no run in the folder.
    #[error("{} holds no run: it has no {RUN_FILE}", .0.display())]
    NoRun(PathBuf),
    /// A file is not the JSON it should be.
    #[error("{}: not a layerlab record: {error}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        error: serde_json::Error,
    },
    /// A histogram in a file can't be read.
    #[error("{}: {name}: {error}; restore the file, or run the scenario again", path.display())]
    Histogram {
        /// The file.
        path: PathBuf,
        /// Which histogram.
        name: String,
        /// Why.
        error: HistogramError,
    },
    /// Two files are the same trial.
    #[error(
        "{} and {} both are trial {order}; remove the copy", first.display(), second.display()
    )]
    Twice {
        /// One file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
        /// The trial's position in the run.
        order: u32,
    },
    /// The predictions of a run are not those that were sealed.
    #[error(
        "{}: not the predictions that were sealed at {sealed_utc}: the SHA-256 is {found}, and \
         run.json has {sealed}; restore the file",
        path.display()
    )]
    Unsealed {
        /// The file.
        path: PathBuf,
        /// When they were sealed.
        sealed_utc: String,
        /// The hash that they had then, in hexadecimal digits.
        sealed: String,
        /// The hash that they have.
        found: String,
    },
    /// Files of trials are missing.
    #[error(
        "{}: no file of trial {} ({present} of {expected} trials are there); restore what is \
         missing, or run the scenario again",
        path.display(),
        orders.iter().map(|order| format!("{order:03}")).collect::<Vec<_>>().join(", ")
    )]
    Missing {
        /// The folder.
        path: PathBuf,
        /// Positions of the missing trials in the run.
        orders: Vec<u32>,
        /// Trials that are there.
        present: usize,
        /// Trials that were recorded.
        expected: u32,
    },
    /// A file was written by another version of layerlab.
    #[error(
        "{}: format version {found}, and this layerlab reads version {FORMAT_VERSION}; use the \
         layerlab that wrote it",
        path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// The version it names.
        found: u64,
    },
}

impl RunFolder {
    /// Makes `root/<scenario>/<utc>-<n>` with the lowest `n` that is free.
    ///
    /// # Errors
    /// When the folder can't be made.
    pub fn create(root: &Path, scenario: &str, utc: &str) -> Result<Self, FolderError> {
        let parent = root.join(scenario);
        fs::create_dir_all(&parent).map_err(|error| io_error(&parent, error))?;
        for n in 1_u32.. {
            let path = parent.join(format!("{utc}-{n}"));
            match fs::create_dir(&path) {
                Ok(()) => {
                    let trials = path.join(TRIALS);
                    fs::create_dir(&trials).map_err(|error| io_error(&trials, error))?;
                    return Ok(Self { path });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(io_error(&path, error)),
            }
        }
        unreachable!("four billion runs in one second")
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps the scenario file as run, byte for byte.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write_scenario(&self, text: &str) -> Result<(), FolderError> {
        write(&self.path.join(SCENARIO_FILE), text.as_bytes())
    }

    /// Writes or replaces the run's own record.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write_run(&self, record: &RunRecord) -> Result<(), FolderError> {
        write_json(&self.path.join(RUN_FILE), record)
    }

    /// Writes predictions, before the first trial of the run, and says by which hash and
    /// time they are known from now on.
    ///
    /// # Errors
    /// When they can't be written.
    pub fn seal(&self, predictions: Predictions, utc: String) -> Result<Sealed, FolderError> {
        let path = self.path.join(PREDICTIONS_FILE);
        let bytes = json_bytes(&path, &predictions)?;
        write(&path, &bytes)?;
        Ok(Sealed { sealed_utc: utc, sha256: sha256(&bytes), predictions })
    }

    /// Writes a trial's record.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write_trial(&self, record: &TrialRecord) -> Result<(), FolderError> {
        let name = trial_name(record.order, &record.peer, record.repeat);
        write_json(&self.path.join(TRIALS).join(format!("{name}.json")), record)
    }
}

/// What files and folders of a trial are called, before any ending.
pub fn trial_name(order: u32, peer: &str, repeat: u32) -> String {
    format!("{order:03}-{}-r{repeat}", peer_name(peer))
}

/// A peer's name as it may stand in a file's: it may be `l7:p2c`, and a colon is none of
/// a file name's characters everywhere, and separates things in the configuration of
/// many a proxy.
pub fn peer_name(peer: &str) -> String {
    peer.replace(':', "-")
}

impl Run {
    /// Reads a run folder. What it returns is whole: every trial is there once, and
    /// every histogram can be read.
    ///
    /// # Errors
    /// When there is no run in it, or a file is missing or not what it should be.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let run_file = path.join(RUN_FILE);
        if !run_file.is_file() {
            return Err(FolderError::NoRun(path.to_owned()));
        }
        let mut record: RunRecord = read_json(&run_file)?;
        if let Some(sealed) = &mut record.predictions {
            sealed.predictions = read_sealed(&path.join(PREDICTIONS_FILE), sealed)?;
        }
        let twins = record.twins.iter();
        let twins =
            twins.map(|twin| (format!("latency of the twin of {}", twin.peer), &twin.latency));
        check_histograms(&run_file, twins)?;
        let trials_path = path.join(TRIALS);
        let mut files = Vec::new();
        for entry in fs::read_dir(&trials_path).map_err(|error| io_error(&trials_path, error))? {
            let file = entry.map_err(|error| io_error(&trials_path, error))?.path();
            if file.extension().is_some_and(|extension| extension == "json") {
                files.push(file);
            }
        }
        files.sort();
        let mut by_order: BTreeMap<u32, (PathBuf, TrialRecord)> = BTreeMap::new();
        for path in files {
            let trial: TrialRecord = read_json(&path)?;
            check_histograms(&path, trial.histograms())?;
            let order = trial.order;
            if let Some((first, _)) = by_order.insert(order, (path.clone(), trial)) {
                return Err(FolderError::Twice { first, second: path, order });
            }
        }
        check_all_there(&trials_path, record.trials, &by_order)?;
        let trials = by_order.into_values().map(|(_, trial)| trial).collect();
        Ok(Self::with_weights(record, trials))
    }

    /// Reads what a run is compared with: a run folder, or a file that
    /// [`Run::write_baseline`] wrote.
    ///
    /// # Errors
    /// As [`Run::open`].
    pub fn open_baseline(path: &Path) -> Result<Self, FolderError> {
        if !path.is_file() {
            return Self::open(path);
        }
        let baseline: Baseline<RunRecord, Vec<TrialRecord>> = read_json(path)?;
        for trial in &baseline.trials {
            check_histograms(path, trial.histograms())?;
        }
        Ok(Self::with_weights(baseline.record, baseline.trials))
    }

    /// Writes the records of a run into one file, which can be kept beside the code whose
    /// later runs are compared with it.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write_baseline(&self, path: &Path) -> Result<(), FolderError> {
        let (record, trials) = (&self.record, &self.trials);
        write_json(path, &Baseline { format: FORMAT_VERSION, record, trials })
    }

    fn with_weights(record: RunRecord, mut trials: Vec<TrialRecord>) -> Self {
        for trial in &mut trials {
            let weights = record.backends_of(trial).iter().map(|setup| setup.weight);
            for (backend, weight) in trial.backends.iter_mut().zip(weights) {
                backend.weight = weight;
            }
        }
        Self { record, trials }
    }
}

/// A run in one file.
#[derive(Serialize, Deserialize)]
struct Baseline<R, T> {
    format: u32,
    record: R,
    trials: T,
}

fn check_histograms<'a>(
    path: &Path,
    histograms: impl Iterator<Item = (String, &'a HistogramRecord)>,
) -> Result<(), FolderError> {
    for (name, histogram) in histograms {
        histogram.check().map_err(|error| FolderError::Histogram {
            path: path.to_owned(),
            name,
            error,
        })?;
    }
    Ok(())
}

/// `recorded` trials have to be there, or at least all before the last one.
fn check_all_there<T>(
    path: &Path,
    recorded: Option<u32>,
    by_order: &BTreeMap<u32, T>,
) -> Result<(), FolderError> {
    let last = by_order.last_key_value().map_or(0, |(&last, _)| last.saturating_add(1));
    let expected = recorded.unwrap_or(0).max(last);
    let present = by_order.len();
    if present == expected as usize {
        return Ok(());
    }
    // The first few tell what happened; an `order` that is nonsense may miss billions.
    let missing = (0..expected).filter(|order| !by_order.contains_key(order));
    let orders = missing.take(MISSING_NAMED).collect();
    Err(FolderError::Missing { path: path.to_owned(), orders, present, expected })
}

/// The predictions of a run, if they are those that were sealed.
fn read_sealed(path: &Path, sealed: &Sealed) -> Result<Predictions, FolderError> {
    let found = sha256(&fs::read(path).map_err(|error| io_error(path, error))?);
    if found != sealed.sha256 {
        let (sealed_utc, sealed) = (sealed.sealed_utc.clone(), sealed.sha256.clone());
        return Err(FolderError::Unsealed { path: path.to_owned(), sealed_utc, sealed, found });
    }
    read_json(path)
}

/// The SHA-256 of bytes, in hexadecimal digits.
fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), FolderError> {
    write(path, &json_bytes(path, value)?)
}

fn json_bytes(path: &Path, value: &impl Serialize) -> Result<Vec<u8>, FolderError> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(|error| FolderError::Json { path: path.to_owned(), error })?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), FolderError> {
    write_whole(path, bytes).map_err(|error| io_error(path, error))
}

/// Writes a file whole or not at all: under another name, which then takes the place of
/// what was there. A disk that is full leaves the file of before, and nothing else.
///
/// What is no regular file, as a terminal or a pipe, is written to as it is.
///
/// # Errors
/// What the file system said.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let target = match fs::metadata(path) {
        Ok(there) if !there.is_file() => return fs::write(path, bytes),
        // A link goes on pointing to the file.
        Ok(_) => fs::canonicalize(path)?,
        Err(_) => path.to_owned(),
    };
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(format!("-{}.part", std::process::id()));
    let unfinished = target.with_file_name(name);
    let written = fs::write(&unfinished, bytes).and_then(|()| fs::rename(&unfinished, &target));
    if written.is_err() {
        // What is left of it is of no use, and there may be nothing.
        let _ = fs::remove_file(&unfinished);
    }
    written
}

/// Bytes in the files of a folder and of the folders in it; what can't be read counts as none.
pub fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let bytes = |entry: fs::DirEntry| match entry.metadata() {
        Ok(of) if of.is_dir() => folder_bytes(&entry.path()),
        Ok(of) => of.len(),
        Err(_) => 0,
    };
    entries.flatten().map(bytes).sum()
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, FolderError> {
    let bytes = fs::read(path).map_err(|error| io_error(path, error))?;
    let json_error = |error| FolderError::Json { path: path.to_owned(), error };
    // The version first: a record of another version may not even have the
    // fields whose lack would otherwise be reported.
    let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(json_error)?;
    match value.get("format").and_then(serde_json::Value::as_u64) {
        Some(found) if found != u64::from(FORMAT_VERSION) => {
            Err(FolderError::Version { path: path.to_owned(), found })
        }
        _ => serde_json::from_slice(&bytes).map_err(json_error),
    }
}

fn io_error(path: &Path, error: io::Error) -> FolderError {
    FolderError::Io { path: path.to_owned(), error }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temporary() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn folders_are_never_shared() {
        let root = temporary();
        let names: Vec<String> = (0..3)
            .map(|_| {
                let folder = RunFolder::create(root.path(), "flood", "20260101T000000Z").unwrap();
                folder.path().file_name().unwrap().to_string_lossy().into_owned()
            })
            .collect();
        assert_eq!(names, ["20260101T000000Z-1", "20260101T000000Z-2", "20260101T000000Z-3"]);
    }

    #[test]
    fn a_file_is_written_whole_or_not_at_all() {
        let root = temporary();
        let (file, link) = (root.path().join("file"), root.path().join("link"));
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write_whole(&file, b"one").unwrap();
        write_whole(&link, b"another").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"another");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink(), "what is linked is written");
        // What can't be moved into place is taken away again.
        assert!(write_whole(root.path(), b"").is_err());
        let full = write_whole(Path::new("/dev/full"), b"x").unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        assert!(write_whole(&root.path().join("none/file"), b"x").is_err());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 2, "no unfinished file is left");
    }

    #[test]
    fn predictions_that_were_changed_after_they_were_sealed_are_refused() {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../results/example");
        let mut run = Run::open(&example).unwrap();
        let root = temporary();
        let folder = RunFolder::create(root.path(), "example", "20260101T000000Z").unwrap();
        let predictions = Predictions { format: FORMAT_VERSION, seeds: 3, ..Default::default() };
        let sealed = folder.seal(predictions.clone(), "2026-01-01T00:00:00Z".to_owned()).unwrap();
        run.record.predictions = Some(sealed);
        folder.write_run(&run.record).unwrap();
        run.trials.iter().for_each(|trial| folder.write_trial(trial).unwrap());
        let read = Run::open(folder.path()).unwrap();
        assert_eq!(read.record.predictions.unwrap().predictions, predictions);
        let file = folder.path().join(PREDICTIONS_FILE);
        let text = fs::read_to_string(&file).unwrap().replace("\"seeds\": 3", "\"seeds\": 4");
        fs::write(&file, text).unwrap();
        let error = Run::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("not the predictions that were sealed"), "{error}");
        fs::remove_file(&file).unwrap();
        let error = Run::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("predictions.json"), "{error}");
    }

    #[test]
    fn names_of_trials_have_no_colon() {
        assert_eq!(trial_name(2, "l7:peak_ewma", 0), "002-l7-peak_ewma-r0");
    }

    #[test]
    fn a_folder_without_a_run_says_so() {
        let root = temporary();
        let error = Run::open(root.path()).unwrap_err().to_string();
        assert!(error.contains("holds no run"), "{error}");
    }

    /// Trials of before weights were kept in them have those of the run.
    #[test]
    fn weights_are_those_of_the_run() {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../results/example");
        let root = temporary();
        fs::create_dir(root.path().join(TRIALS)).unwrap();
        for entry in fs::read_dir(example.join(TRIALS)).unwrap() {
            let entry = entry.unwrap();
            let text = fs::read_to_string(entry.path()).unwrap();
            let mut trial: serde_json::Value = serde_json::from_str(&text).unwrap();
            for backend in trial["backends"].as_array_mut().unwrap() {
                backend.as_object_mut().unwrap().remove("weight");
            }
            fs::write(root.path().join(TRIALS).join(entry.file_name()), trial.to_string()).unwrap();
        }
        let text = fs::read_to_string(example.join(RUN_FILE)).unwrap();
        let mut record: serde_json::Value = serde_json::from_str(&text).unwrap();
        record["backends"][0]["weight"] = 3.into();
        fs::write(root.path().join(RUN_FILE), record.to_string()).unwrap();
        let run = Run::open(root.path()).unwrap();
        assert!(!run.trials.is_empty());
        for trial in &run.trials {
            assert_eq!((trial.backends[0].weight, trial.backends[1].weight), (3, 1));
        }
    }

    #[test]
    fn other_versions_and_broken_files_are_named() {
        let root = temporary();
        fs::write(root.path().join(RUN_FILE), r#"{"format": 99}"#).unwrap();
        let error = Run::open(root.path()).unwrap_err().to_string();
        assert!(error.contains("format version 99"), "{error}");
        fs::write(root.path().join(RUN_FILE), "{").unwrap();
        let error = Run::open(root.path()).unwrap_err().to_string();
        assert!(error.contains("run.json") && error.contains("line 1"), "{error}");
    }

    #[test]
    fn an_unwritable_root_is_named() {
        let root = temporary();
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        let error = RunFolder::create(&file, "flood", "x").unwrap_err().to_string();
        assert!(error.contains("file"), "{error}");
    }
}

//! What the generator can do on this machine: measured by `loadgen calibrate`, kept among the
//! results, and held against the rates of later runs.

use std::{
    fs,
    io::ErrorKind::{NotADirectory, NotFound},
    path::{Path, PathBuf},
};

use measure::{
    figure::{Figure, Figures},
    folder::write_whole,
    record::Environment,
};
use serde::{Deserialize, Serialize};

use super::Finished;
use crate::exit::Failure;

const FILE: &str = "calibration.json";
/// Of what a core can do at most, an open loop gets this without being late: above it calls
/// wait for each other.
const USABLE: f64 = 0.7;

/// Small unary calls a second that a core of the generator makes at most.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Calibration {
    pub(crate) calls_per_core: f64,
    /// When it was measured.
    pub(crate) started_utc: String,
    /// Where, and with which build: it is good for no other.
    cpu_model: String,
    build_profile: String,
    layerlab_version: String,
}

impl Calibration {
    /// From a closed loop, in which the generator always has something to do. `None` where
    /// nothing was measured.
    pub(crate) fn of(finished: &Finished) -> Option<Self> {
        let cost = |trial| Figures::of_trial(trial).get(Figure::GeneratorCpuPerCall);
        let costs: Vec<f64> = finished.trials.iter().filter_map(cost).collect();
        let ns = measure::statistics::median(&costs).filter(|&ns| ns > 0.0)?;
        let environment = &finished.record.environment;
        Some(Self {
            calls_per_core: 1e9 / ns,
            started_utc: finished.record.started_utc.clone(),
            cpu_model: environment.cpu_model.clone(),
            build_profile: environment.build_profile.clone(),
            layerlab_version: environment.layerlab_version.clone(),
        })
    }

    /// Calls a second that so many cores make without being late.
    pub(crate) fn usable(&self, cores: u32) -> f64 {
        USABLE * self.calls_per_core * f64::from(cores)
    }

    /// Keeps it among the results.
    ///
    /// # Errors
    /// When it can't be written.
    pub(crate) fn write(&self, results: &Path) -> Result<PathBuf, Failure> {
        let path = results.join(FILE);
        let text = format!("{:#}\n", serde_json::json!(self));
        let cannot = |error| Failure::writing(format!("cannot write {}", path.display()), &error);
        write_whole(&path, text.as_bytes()).map_err(cannot)?;
        Ok(path)
    }

    /// That of this machine and build, if there is one.
    ///
    /// # Errors
    /// When the file can't be read.
    pub(crate) fn read(results: &Path, environment: &Environment) -> Result<Option<Self>, Failure> {
        let path = results.join(FILE);
        let wrong = |what: &dyn std::fmt::Display| {
            Failure::bad_input(format!(
                "{}: {what}; delete it, or run `loadgen calibrate` again",
                path.display()
            ))
        };
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            // Where results can't be kept, that is told by who keeps them.
            Err(error) if matches!(error.kind(), NotFound | NotADirectory) => return Ok(None),
            Err(error) => return Err(wrong(&error)),
        };
        let found: Self = serde_json::from_str(&text).map_err(|error| wrong(&error))?;
        let is_of_here = found.cpu_model == environment.cpu_model
            && found.build_profile == environment.build_profile
            && found.layerlab_version == environment.layerlab_version;
        Ok(is_of_here.then_some(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::environment;

    #[test]
    fn a_calibration_is_good_for_its_machine_and_build() {
        let folder = tempfile::tempdir().unwrap();
        let here = environment::describe(std::collections::BTreeMap::new());
        assert_eq!(Calibration::read(folder.path(), &here).unwrap(), None);
        let calibration = Calibration {
            calls_per_core: 400_000.0,
            started_utc: "2026-01-01T00:00:00Z".to_owned(),
            cpu_model: here.cpu_model.clone(),
            build_profile: here.build_profile.clone(),
            layerlab_version: here.layerlab_version.clone(),
        };
        calibration.write(folder.path()).unwrap();
        let read = |environment| Calibration::read(folder.path(), environment).unwrap();
        assert_eq!(read(&here).unwrap().usable(2), 560_000.0);
        assert_eq!(read(&Environment { cpu_model: "another".to_owned(), ..here.clone() }), None);
        fs::write(folder.path().join(FILE), "{").unwrap();
        let error = Calibration::read(folder.path(), &here).unwrap_err();
        assert!(error.message.contains("loadgen calibrate"), "{}", error.message);
    }
}

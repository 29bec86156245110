//! Running the lab's own binary, as a user would, and reading the run folder.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use measure::folder::Run;

use crate::Failure;

/// Runs a scenario and reads what came of it.
pub(crate) fn lab(scenario: &str) -> Result<Run, Failure> {
    let home = tempfile::tempdir()?;
    let file = home.path().join("truth.toml");
    std::fs::write(&file, scenario)?;
    lab_with(&file, &[])
}

/// Runs the scenario of a file.
pub(crate) fn lab_with(file: &Path, arguments: &[&str]) -> Result<Run, Failure> {
    let results = tempfile::tempdir()?;
    let output = Command::new(loadgen()?)
        .arg("--scenario")
        .arg(file)
        .args(arguments)
        .arg("--out")
        .arg(results.path())
        .stdin(Stdio::null())
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    let name = file.file_stem().and_then(|name| name.to_str()).ok_or("the scenario has no name")?;
    run_of(results.path(), name)
}

/// The one run of a scenario.
pub(crate) fn run_of(results: &Path, scenario: &str) -> Result<Run, Failure> {
    let folder = std::fs::read_dir(results.join(scenario))?.next().ok_or("no run")??;
    Ok(Run::open(&folder.path())?)
}

/// The lab's binary, which lies beside the folder of examples, or is named by `LOADGEN`.
pub(crate) fn loadgen() -> Result<PathBuf, Failure> {
    if let Some(program) = std::env::var_os("LOADGEN") {
        return Ok(program.into());
    }
    let own = std::env::current_exe()?;
    let folder = own.parent().and_then(Path::parent).ok_or("this example lies nowhere")?;
    Ok(folder.join("loadgen"))
}

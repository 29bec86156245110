//! Running the lab's own binary, as a user would, and reading the run folder.

use std::{
    ffi::OsStr,
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
    let output = guarded(loadgen()?)?
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

/// A program that ends with this one, whatever ends this one: by way of the guard that ties the
/// lab's own processes to it.
pub(crate) fn guarded(program: impl AsRef<OsStr>) -> Result<Command, Failure> {
    let mut command = Command::new(loadgen()?);
    command.arg("guard").arg(std::process::id().to_string()).arg(program);
    Ok(command)
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

#[cfg(test)]
mod tests {
    use std::{
        env, fs,
        io::{BufRead as _, BufReader},
        thread,
        time::{Duration, Instant},
    };

    use rustix::process::{Pid, Signal, kill_process};

    use super::*;

    /// With this variable the test is the program that is ended.
    const IS_ENDED: &str = "LAYERLAB_TEST_IS_ENDED";

    #[test]
    fn what_was_started_ends_with_the_program() {
        if env::var_os(IS_ENDED).is_some() {
            let mut child = guarded("sleep").unwrap().arg("600").spawn().unwrap();
            eprintln!("{}", child.id());
            child.wait().unwrap();
            return;
        }
        let mut program = Command::new(env::current_exe().unwrap())
            .args(["what_was_started_ends_with_the_program", "--nocapture"])
            .env(IS_ENDED, "")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(program.stderr.take().unwrap()).lines();
        let pid: u32 = lines.find_map(|line| line.unwrap().parse().ok()).unwrap();
        kill_process(Pid::from_child(&program), Signal::TERM).unwrap();
        program.wait().unwrap();
        // Where nobody waits for it, it stays a zombie.
        let runs = || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
            stat.is_ok_and(|stat| !stat.contains(") Z "))
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        while runs() {
            assert!(Instant::now() < deadline, "it runs on");
            thread::yield_now();
        }
    }
}

//! Whether `compare --rerun` finds what is there, and nothing where nothing is.
//!
//! Either side is the lab's own program behind a script, which for the slower one sets a
//! service time that is a tenth longer: p99 is known to be a tenth higher then.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use crate::{
    Failure, Plan,
    lab::loadgen,
    table::{Row, Table},
};

/// How long each comparison may take.
const BUDGET: &str = "20m";

/// Compares equal sides, and a slower one with the other.
pub(crate) fn measure(plan: &Plan, table: &mut Table) -> Result<(), Failure> {
    let home = tempfile::tempdir()?;
    let scenario = home.path().join("pair.toml");
    fs::write(
        &scenario,
        "question = \"detect\"\n[backends]\ncount = 2\nconcurrency = 64\n\
         service_time = \"constant:5ms\"\n[load]\nloop = \"open\"\nconnections = 4\n\
         arrivals = \"constant\"\nrate = 500\nduration = \"1500ms\"\nwarm_up = \"300ms\"\n\
         [run]\npeers = [\"l7\"]\nrepeats = 1\n",
    )?;
    let plain = side(home.path(), "plain", "")?;
    let slower = side(home.path(), "slower", "--set backends.service_time=constant:5.5ms")?;
    for (name, after, is_worse) in [("equal", &plain, false), ("p99 10 % slower", &slower, true)] {
        let (mut right, begun) = (0, Instant::now());
        for _ in 0..plan.repeats {
            let code = Command::new(loadgen()?)
                .args(["compare", "--rerun"])
                .args([&scenario, &plain, after])
                .args(["--detect", "5%", "--budget", BUDGET])
                .args(["--figures", "latency_p99,proxy_cpu_per_call"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()?
                .code();
            right += u32::from(code == Some(i32::from(is_worse)));
        }
        let each = begun.elapsed().as_secs_f64() / f64::from(plan.repeats) / 60.0;
        table.row(Row {
            case: format!("detect, {name}"),
            figure: "right verdicts".to_owned(),
            known: format!("{0} of {0}", plan.repeats),
            measured: format!("{right} of {}", plan.repeats),
            off: format!("{each:.1} min each"),
            bound: "all".to_owned(),
            is_within: right == plan.repeats,
        });
    }
    Ok(())
}

/// A side that runs the lab with `arguments` besides.
fn side(home: &Path, name: &str, arguments: &str) -> Result<PathBuf, Failure> {
    let file = home.join(name);
    fs::write(&file, format!("#!/bin/sh\nexec '{}' \"$@\" {arguments}\n", loadgen()?.display()))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    Ok(file)
}

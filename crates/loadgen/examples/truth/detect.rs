//! Whether `compare --rerun` finds what is there, and nothing where nothing is.
//!
//! Either side is the lab's own program behind a script. A service time that is a tenth
//! longer makes p99 a tenth higher. A proxy that costs a twentieth more has a process beside
//! it that spends that much, which is billed to it as a worker is ([`burden`](super::burden)).

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Instant,
};

use measure::{
    figure::{Figure, Figures},
    statistics::median,
};

use crate::{
    Failure, Plan, burden,
    lab::{guarded, lab, loadgen},
    table::{Row, Table},
};

/// How long each comparison may take.
const BUDGET: &str = "20m";
const RATE: f64 = 2_000.0;
/// What is looked for.
const COST: f64 = 0.05;
/// Short trials, since what differs from one to the next is the machine.
const SCENARIO: &str = "question = \"detect\"\n[backends]\ncount = 2\nconcurrency = 64\n\
     service_time = \"constant:5ms\"\n[load]\nloop = \"open\"\nconnections = 4\n\
     arrivals = \"constant\"\nrate = 2000\nduration = \"1500ms\"\nwarm_up = \"300ms\"\n\
     [run]\npeers = [\"l7\"]\nrepeats = 1\n";

/// Compares equal sides, and with them one that is slower and one that costs more.
pub(crate) fn measure(plan: &Plan, table: &mut Table) -> Result<(), Failure> {
    let home = tempfile::tempdir()?;
    let scenario = home.path().join("pair.toml");
    fs::write(&scenario, SCENARIO)?;
    let plain = side(home.path(), "plain", "")?;
    let slower = side(home.path(), "slower", "--set backends.service_time=constant:5.5ms")?;
    let dearer = with_burden(home.path())?;
    let cases = [
        ("equal", &plain, None),
        ("p99 10 % slower", &slower, Some("latency p99")),
        ("CPU 5 % more", &dearer, Some("proxy CPU per call")),
    ];
    for (name, after, worse) in cases {
        let (mut right, mut repeats, begun) = (0, Vec::new(), Instant::now());
        for _ in 0..plan.repeats {
            let said = compare(&scenario, &plain, after)?;
            let found: Vec<&str> = said.differ.iter().map(String::as_str).collect();
            right += u32::from(match worse {
                Some(worse) => found.contains(&worse),
                None => found.is_empty(),
            });
            repeats.push(said.repeats);
            table.note(&said.rows);
        }
        repeats.sort_by(f64::total_cmp);
        let each = begun.elapsed().as_secs_f64() / f64::from(plan.repeats) / 60.0;
        table.row(Row {
            case: format!("detect, {name}"),
            figure: "right verdicts".to_owned(),
            known: format!("{0} of {0}", plan.repeats),
            measured: format!(
                "{right} of {}, after {} repeats",
                plan.repeats,
                median(&repeats).unwrap_or(0.0)
            ),
            off: format!("{each:.1} min each"),
            bound: "all".to_owned(),
            is_within: right == plan.repeats,
        });
    }
    Ok(())
}

/// What a comparison said.
struct Said {
    /// The figures that differ.
    differ: Vec<String>,
    repeats: f64,
    /// Each figure with its change.
    rows: String,
}

fn compare(scenario: &Path, before: &Path, after: &Path) -> Result<Said, Failure> {
    let output = guarded(loadgen()?)?
        .args(["compare", "--rerun"])
        .args([scenario, before, after])
        .args(["--detect", "5%", "--budget", BUDGET, "--json"])
        .args(["--figures", "latency_p99,proxy_cpu_per_call"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()?;
    let said: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let rows = said["rows"].as_array().ok_or("a comparison without rows")?;
    let text =
        |row: &serde_json::Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let differs = |row: &&serde_json::Value| matches!(&*text(row, "verdict"), "worse" | "better");
    // None where both sides have nothing, as of failed calls.
    let told = rows.iter().filter_map(|row| {
        let change = (row["ratio"].as_f64()? - 1.0) * 100.0;
        Some(format!("{}: {} ({change:+.1} %)", text(row, "figure"), text(row, "verdict")))
    });
    Ok(Said {
        differ: rows.iter().filter(differs).map(|row| text(row, "figure")).collect(),
        repeats: said["interleaved"].as_f64().unwrap_or(0.0),
        rows: told.collect::<Vec<_>>().join(", "),
    })
}

/// A side that runs the lab with `arguments` besides.
fn side(home: &Path, name: &str, arguments: &str) -> Result<PathBuf, Failure> {
    let file = home.join(name);
    fs::write(&file, format!("#!/bin/sh\nexec '{}' \"$@\" {arguments}\n", loadgen()?.display()))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    Ok(file)
}

/// A side whose proxy spends a twentieth more than it was seen to.
fn with_burden(home: &Path) -> Result<PathBuf, Failure> {
    let run = lab(&SCENARIO.replace("repeats = 1", "repeats = 9"))?;
    let costs = run.trials.iter().map(Figures::of_trial);
    let costs: Vec<f64> = costs.filter_map(|one| one.get(Figure::ProxyCpuPerCall)).collect();
    let per_call_ns = median(&costs).ok_or("the proxy's cost is not known")?;
    let share = COST * per_call_ns * RATE / 1e9;
    let root = home.join("dearer");
    burden::peers_with(&root, "l7", share)?;
    Ok(root)
}

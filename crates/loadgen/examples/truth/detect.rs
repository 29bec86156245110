//! Whether `compare --rerun` finds what is there, and nothing where nothing is.
//!
//! Either side is the lab's own program behind a script. A service time that is a tenth
//! longer makes p99 a tenth higher, if calls wait for little else. A proxy that costs a
//! twentieth more has its system calls filtered ([`burden`](super::burden)). How long a filter
//! makes a twentieth comes from the longest one, which costs so much that it is soon seen.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Instant,
};

use measure::statistics::median;

use crate::{
    Failure, Plan, burden,
    lab::{guarded, loadgen},
    table::{Row, Table},
};

/// How long each comparison may take.
const BUDGET: &str = "20m";
/// What is looked for.
const COST: f64 = 0.05;
/// What is compared.
const FIGURES: &str = "latency_p99,proxy_cpu_per_call";
const COST_FIGURE: &str = "proxy CPU per call";
/// Short trials, since what differs from one to the next is the machine.
const SCENARIO: &str = "question = \"detect\"\n[backends]\ncount = 2\nconcurrency = 64\n\
     service_time = \"constant:20ms\"\n[load]\nloop = \"open\"\nconnections = 4\n\
     arrivals = \"constant\"\nrate = 2000\nduration = \"1500ms\"\nwarm_up = \"300ms\"\n\
     [run]\npeers = [\"l7\"]\nrepeats = 1\n";

/// Makes both sides of a comparison, and notes what is worth knowing of them.
type Sides<'a> = &'a dyn Fn(&mut Table) -> Result<[PathBuf; 2], Failure>;

pub(crate) const NAMES: [&str; 3] =
    ["detect, equal", "detect, p99 10 % slower", "detect, CPU 5 % more"];

/// Compares equal sides, and with them one that is slower and one that costs more, where they
/// are wanted.
pub(crate) fn measure(plan: &Plan, table: &mut Table) -> Result<(), Failure> {
    let home = tempfile::tempdir()?;
    let scenario = home.path().join("pair.toml");
    fs::write(&scenario, SCENARIO)?;
    let plain = side(home.path(), "plain", "")?;
    let slower = || side(home.path(), "slower", "--set backends.service_time=constant:22ms");
    let dearer = |table: &mut Table| {
        let filtered = |name: &str, instructions| -> Result<PathBuf, Failure> {
            let root = home.path().join(name);
            burden::peers_with(&root, "l7", instructions)?;
            Ok(root)
        };
        let before = filtered("plain-l7", 1)?;
        let dearest = filtered("dearest-l7", burden::LONGEST)?;
        let longest = compare(&scenario, [&before, &dearest], "proxy_cpu_per_call")?;
        let more = longest.cost.ok_or("the proxy's cost is not known")? - 1.0;
        let instructions = f64::from(burden::LONGEST) * COST / more;
        table.note(&format!(
            "{} instructions cost {:.1} % more; {instructions:.0} of them are taken for {:.0} %",
            burden::LONGEST,
            more * 100.0,
            COST * 100.0
        ));
        Ok([before, filtered("dearer-l7", instructions as u32)?])
    };
    let cases: [(Sides<'_>, Option<&str>); 3] = [
        (&|_| Ok([plain.clone(), plain.clone()]), None),
        (&|_| Ok([plain.clone(), slower()?]), Some("latency p99")),
        (&dearer, Some(COST_FIGURE)),
    ];
    for (name, (sides, worse)) in NAMES.into_iter().zip(cases) {
        if !plan.wants(name) {
            continue;
        }
        let [before, after] = sides(table)?;
        let (mut right, mut repeats, begun) = (0, Vec::new(), Instant::now());
        for _ in 0..plan.repeats {
            let said = compare(&scenario, [&before, &after], FIGURES)?;
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
            case: name.to_owned(),
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
    /// What a call costs the proxy after, for what it cost before.
    cost: Option<f64>,
}

fn compare(scenario: &Path, [before, after]: [&Path; 2], figures: &str) -> Result<Said, Failure> {
    let output = guarded(loadgen()?)?
        .args(["compare", "--rerun"])
        .args([scenario, before, after])
        .args(["--detect", "5%", "--budget", BUDGET, "--json"])
        .args(["--figures", figures])
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
        cost: rows
            .iter()
            .find(|row| row["figure"] == COST_FIGURE)
            .and_then(|row| row["ratio"].as_f64()),
    })
}

/// A side that runs the lab with `arguments` besides.
fn side(home: &Path, name: &str, arguments: &str) -> Result<PathBuf, Failure> {
    let file = home.join(name);
    fs::write(&file, format!("#!/bin/sh\nexec '{}' \"$@\" {arguments}\n", loadgen()?.display()))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    Ok(file)
}

//! What the lab says of CPU time, of when calls go out, and of an overloaded backend,
//! beside what another reading or arithmetic says.

use std::{
    fs,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use measure::{
    figure::{Figure, Figures},
    folder::Run,
    record::ProcessRole,
};

use crate::{
    Failure, Plan,
    lab::{guarded, lab, loadgen, run_of},
    table::{Row, Table},
};

/// What CPU time may be off by.
const CPU_BOUND: f64 = 0.03;
/// What the throughput of an overloaded backend may be off by.
const OVERLOAD_BOUND: f64 = 0.02;
/// How long a call takes in the backend whose calls are not to be early.
const SERVICE_MS: f64 = 30.0;
/// The kernel's timers are as early as the clocks of two processes differ.
const EARLY_BOUND_MS: f64 = 0.05;
/// Between two readings of what was spent.
const READ_EVERY: Duration = Duration::from_millis(50);

/// The names of all cases.
pub(crate) const NAMES: [&str; 4] = ["cpu", "machine", "early", "overload"];

/// Measures those that are wanted.
pub(crate) fn measure(plan: &Plan, table: &mut Table) -> Result<(), Failure> {
    if plan.wants("cpu") || plan.wants("machine") {
        cpu(plan, table)?;
    }
    if plan.wants("early") {
        early(table)?;
    }
    if plan.wants("overload") {
        overload(plan, table)?;
    }
    Ok(())
}

/// CPU time of the proxy and of the machine, read from outside while the trial runs. The
/// load is constant, so that the middle of the trial is like all of it.
fn cpu(plan: &Plan, table: &mut Table) -> Result<(), Failure> {
    let scenario = format!(
        "question = \"cpu\"\n[backends]\ncount = 2\nservice_time = \"none\"\n[load]\n\
         loop = \"open\"\narrivals = \"constant\"\nconnections = 4\nstreams = 500\nrate = 2000\n\
         duration = \"{}s\"\nwarm_up = \"1s\"\n[run]\npeers = [\"l7\"]\nrepeats = 1\n",
        plan.seconds
    );
    let home = tempfile::tempdir()?;
    let file = home.path().join("truth.toml");
    fs::write(&file, scenario)?;
    let child = guarded(loadgen()?)?
        .arg("--scenario")
        .arg(&file)
        .arg("--out")
        .arg(home.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let readings = read_while(child)?;
    let run = run_of(home.path(), "truth")?;
    let trial = run.trials.first().ok_or("no trial was run")?;
    let seconds = trial.measured_s + trial.cut_s;
    // From a quarter to three quarters of the load, which the warm-up belongs to.
    let middle = (0.35 * seconds, 0.85 * seconds);
    let proxy = trial.processes.iter().find(|one| one.role == ProcessRole::Proxy);
    let proxy = proxy.ok_or("the proxy's cost is not known")?;
    let per_second = |ns: u64| ns as f64 / seconds / 1e6;
    if plan.wants("cpu") {
        let known = rate(&readings, middle, |reading| reading.proxy_ns)?;
        let measured = per_second(proxy.user_ns + proxy.system_ns);
        table.row(cpu_row("cpu, proxy l7", known, measured));
    }
    if plan.wants("machine") {
        let known = rate(&readings, middle, |reading| reading.machine_ns)?;
        let measured = per_second(trial.machine.user_ns + trial.machine.system_ns);
        table.row(cpu_row("machine, l7", known, measured));
        let own = trial.processes.iter().map(|one| one.user_ns + one.system_ns).sum();
        table.note(&format!("of which the lab's own processes spent {:.1} ms/s", per_second(own)));
    }
    Ok(())
}

fn cpu_row(case: &str, known: f64, measured: f64) -> Row {
    let off = measured / known - 1.0;
    Row {
        case: case.to_owned(),
        figure: "CPU per second".to_owned(),
        known: format!("{known:.1} ms/s"),
        measured: format!("{measured:.1} ms/s"),
        off: format!("{:+.1} %", off * 100.0),
        bound: format!("{:.0} %", CPU_BOUND * 100.0),
        is_within: off.abs() <= CPU_BOUND,
    }
}

/// What had been spent at a moment.
struct Reading {
    at: Instant,
    proxy_ns: u64,
    machine_ns: u64,
}

/// Reads until the lab has ended. The first reading is when the proxy begins to work.
fn read_while(mut lab: Child) -> Result<Vec<Reading>, Failure> {
    let mut readings = Vec::new();
    while lab.try_wait()?.is_none() {
        if let Some(proxy_ns) = proxy_of(lab.id()).and_then(cpu_ns) {
            let at = Instant::now();
            readings.push(Reading { at, proxy_ns, machine_ns: machine_ns().unwrap_or(0) });
        }
        thread::sleep(READ_EVERY);
    }
    Ok(readings)
}

/// Milliseconds per second between two times in seconds after the proxy was first busy.
fn rate(
    readings: &[Reading],
    (from, to): (f64, f64),
    spent: fn(&Reading) -> u64,
) -> Result<f64, Failure> {
    // A proxy that only starts up spends a few milliseconds.
    let begun = readings.windows(2).find(|two| two[1].proxy_ns > two[0].proxy_ns + 2_000_000);
    let begun = begun.ok_or("the proxy was never busy")?[0].at;
    let at = |seconds: f64| {
        let time = begun + Duration::from_secs_f64(seconds);
        readings.iter().find(|reading| reading.at >= time).ok_or("too few readings")
    };
    let (from, to) = (at(from)?, at(to)?);
    let seconds = to.at.duration_since(from.at).as_secs_f64();
    Ok((spent(to) - spent(from)) as f64 / seconds / 1e6)
}

/// The lab's child that is the L7 proxy.
fn proxy_of(lab: u32) -> Option<u32> {
    let is_proxy = |pid: &u32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.split(|&byte| byte == 0).any(|word| word.ends_with(b"l7-proxy"))
    };
    let is_child = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
        parent == Some(&lab.to_string())
    };
    let names = fs::read_dir("/proc").ok()?.flatten().map(|entry| entry.file_name());
    let mut pids = names.filter_map(|name| name.to_str()?.parse::<u32>().ok());
    pids.find(|pid| is_child(pid) && is_proxy(pid))
}

/// What the scheduler charged the threads of a process.
fn cpu_ns(pid: u32) -> Option<u64> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    let spent = tasks.filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Some(spent.sum())
}

/// What the scheduler charged all tasks, by the root control group or per CPU.
fn machine_ns() -> Option<u64> {
    if let Ok(text) = fs::read_to_string("/sys/fs/cgroup/cpuacct/cpuacct.usage") {
        return text.trim().parse().ok();
    }
    let text = fs::read_to_string("/proc/schedstat").ok()?;
    let cpus = text.lines().filter(|line| line.starts_with("cpu"));
    Some(cpus.filter_map(|line| line.split_whitespace().nth(7)?.parse::<u64>().ok()).sum())
}

/// No call takes less than its service, whenever it goes out.
fn early(table: &mut Table) -> Result<(), Failure> {
    for mode in ["open", "closed"] {
        let rate = if mode == "open" { "arrivals = \"constant\"\nrate = 500\n" } else { "" };
        let run = lab(&format!(
            "question = \"early\"\n[backends]\ncount = 1\nconcurrency = 100\n\
             service_time = \"constant:{SERVICE_MS}ms\"\n[load]\nloop = \"{mode}\"\n\
             connections = 4\nstreams = 20\n{rate}duration = \"1s\"\nwarm_up = \"0s\"\n[run]\n\
             peers = [\"direct\"]\nrepeats = 1\n"
        ))?;
        let trial = run.trials.first().ok_or("no trial was run")?;
        let shortest = trial.latency.min as f64 / 1e6;
        table.row(Row {
            case: format!("early, {mode} loop"),
            figure: "shortest call".to_owned(),
            known: format!(">= {SERVICE_MS:.1} ms"),
            measured: format!("{shortest:.2} ms"),
            off: format!("{:+.2} ms", shortest - SERVICE_MS),
            bound: format!("-{EARLY_BOUND_MS} ms"),
            is_within: shortest >= SERVICE_MS - EARLY_BOUND_MS,
        });
    }
    Ok(())
}

/// Twice as many calls as the backend can do: it does what it can.
fn overload(plan: &Plan, table: &mut Table) -> Result<(), Failure> {
    let run = lab(&format!(
        "question = \"overload\"\n[backends]\ncount = 1\nconcurrency = 4\n\
         service_time = \"constant:20ms\"\n[load]\nloop = \"open\"\nconnections = 4\n\
         streams = 5000\nrate = 400\nduration = \"{}s\"\nwarm_up = \"1s\"\n[run]\n\
         peers = [\"direct\"]\nrepeats = 1\n",
        plan.seconds
    ))?;
    let figures = figures_of(&run)?;
    let measured = figures.get(Figure::Throughput).ok_or("no throughput")?;
    let known = 4.0 / 0.020;
    let off = measured / known - 1.0;
    table.row(Row {
        case: "overload, direct".to_owned(),
        figure: "calls per second".to_owned(),
        known: format!("{known:.0}/s"),
        measured: format!("{measured:.1}/s"),
        off: format!("{:+.1} %", off * 100.0),
        bound: format!("{:.0} %", OVERLOAD_BOUND * 100.0),
        is_within: off.abs() <= OVERLOAD_BOUND,
    });
    Ok(())
}

fn figures_of(run: &Run) -> Result<Figures, Failure> {
    Ok(Figures::of_trial(run.trials.first().ok_or("no trial was run")?))
}

//! Runs on several nodes, which are processes of this machine: what comes of them, what is
//! said when a node or the coordinator is lost, and what is left behind.

mod losses;
mod network;
mod whole;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use measure::folder::Run;
use nix::sys::signal::Signal;

use crate::common::{Home, SMALL};

/// What a lost coordinator's agents and their servers may take to end.
const GONE_WITHIN: Duration = Duration::from_secs(2);

/// A home with the engines.
fn home() -> Home {
    let home = Home::new();
    let engines = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios/engines");
    for name in ["local", "slurm", "ssh"] {
        let to = home.path(&format!("scenarios/engines/{name}"));
        fs::create_dir_all(&to).unwrap();
        fs::copy(engines.join(name).join("engine.toml"), to.join("engine.toml")).unwrap();
    }
    home
}

/// A scenario that goes on until it is stopped.
fn long(home: &Home) {
    home.scenario("long", &SMALL.replace("300ms", "60s"));
}

/// Processes that the lab has started, by a word of their command lines.
fn processes(home: &Home, word: &str) -> Vec<u32> {
    let has_word = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|&byte| byte == 0).any(|argument| argument == word.as_bytes())
    };
    home.left_behind().into_iter().filter(has_word).collect()
}

/// Waits until there are so many processes with a word in their command lines.
fn wait_for_processes(home: &Home, word: &str, count: usize) -> Vec<u32> {
    let begin = Instant::now();
    loop {
        let found = processes(home, word);
        if found.len() >= count {
            return found;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "{} of {count} {word}", found.len());
        std::thread::yield_now();
    }
}

fn kill(pid: u32) {
    let pid = nix::unistd::Pid::from_raw(pid.try_into().unwrap());
    nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
}

const ON_THREE: [&str; 4] = ["--on", "local", "--nodes", "3"];

/// The only run of a scenario.
fn run_of(home: &Home, scenario: &str) -> Run {
    let runs = home.runs(scenario);
    assert_eq!(runs.len(), 1);
    Run::open(&runs[0]).unwrap()
}

/// `SMALL` without what must come out of it.
fn without_claims() -> &'static str {
    SMALL.split_once("[expect]").unwrap().0
}

/// A home with an engine of a command of its own, for each node.
fn home_with(command: &str) -> Home {
    let home = home();
    let path = home.path("scenarios/engines/own");
    fs::create_dir_all(&path).unwrap();
    let engine =
        format!("title = \"T\"\ndescription = \"D\"\neach_node = true\ncommand = {command}\n");
    fs::write(path.join("engine.toml"), engine).unwrap();
    home
}

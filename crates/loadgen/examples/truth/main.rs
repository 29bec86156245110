//! Known answers: runs the lab where theory, arithmetic or another instrument knows what
//! must come out, and prints the two beside each other.
//!
//! `scripts/bench.sh truth` builds and runs this. It starts the lab's own binary, as a
//! user would, and reads the run folders.

mod accounts;
mod burden;
mod capture;
mod detect;
mod distance;
mod lab;
// What the tests of `measure` ask few runs of.
#[path = "../../../measure/tests/machine/mod.rs"]
mod machine;
mod neighbour;
mod queues;
mod statistics;
mod table;
mod unsafe_seccomp;
mod wire;

use std::{error::Error, path::PathBuf, process::ExitCode};

use neighbour::Neighbour;
use table::Table;

pub(crate) type Failure = Box<dyn Error>;

/// What is measured, how long and how often.
pub(crate) struct Plan {
    pub(crate) seconds: u32,
    pub(crate) repeats: u32,
    /// Parts of the names of the cases that are wanted; empty for all.
    only: Vec<String>,
}

impl Plan {
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| name.contains(only))
    }
}

fn main() -> ExitCode {
    let mut plan = Plan { seconds: 16, repeats: 6, only: Vec::new() };
    let (mut markdown, mut with_neighbour) = (None, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if let Some(instructions) = argument.strip_prefix(burden::ARGUMENT) {
            return burden::become_it(instructions, arguments);
        }
        match argument.strip_prefix("--table=") {
            Some(file) => markdown = Some(PathBuf::from(file)),
            None if argument == neighbour::ARGUMENT => neighbour::be(),
            None if argument == "--neighbour" => with_neighbour = true,
            None if argument == "--quick" => (plan.seconds, plan.repeats) = (3, 3),
            None => plan.only.push(argument),
        }
    }
    let mut table = Table::default();
    let neighbour = with_neighbour.then(Neighbour::start).transpose();
    let measured = neighbour.and_then(|_held| measure(&plan, &mut table));
    // What was found before something went wrong is worth keeping.
    let written = markdown.map_or(Ok(()), |file| std::fs::write(file, table.markdown()));
    println!("\n{} figures are off by more than they may be", table.missed());
    match measured.and(written.map_err(Failure::from)) {
        Ok(()) if table.missed() == 0 => ExitCode::SUCCESS,
        Ok(()) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(3)
        }
    }
}

/// Measures every case that is wanted.
fn measure(plan: &Plan, table: &mut Table) -> Result<(), Failure> {
    let mut names = queues::names();
    names.extend(accounts::NAMES.map(str::to_owned));
    names.extend(distance::NAMES.map(str::to_owned));
    names.extend(statistics::NAMES.map(str::to_owned));
    names.push("wire".to_owned());
    names.extend(detect::NAMES.map(str::to_owned));
    if !names.iter().any(|name| plan.wants(name)) {
        let only = plan.only.join("` or `");
        let names = names.join("\n  ");
        return Err(format!("no case is called `{only}` or has it in its name:\n  {names}").into());
    }
    statistics::measure(plan, table);
    accounts::measure(plan, table)?;
    queues::measure(plan, table)?;
    distance::measure(plan, table)?;
    if plan.wants("wire") {
        wire::measure(plan, table)?;
    }
    detect::measure(plan, table)
}

//! The lab's command: from a scenario to trials to results.
//!
//! | folder | what it does |
//! |---|---|
//! | `cli` | flags and subcommands |
//! | `run` | a run: which trials in which order, what they are judged by |
//! | `lab` | the processes of a trial, and what they cost |
//! | `drive` | the generator: makes the load and logs every call |
//! | `ui` | what the user sees while it runs |
//!
//! The servers of the lab are hidden subcommands of this binary, which starts
//! itself again for each: so `cargo run -p loadgen` builds all there is to run.
#![forbid(unsafe_code)]

mod cli;
mod drive;
mod exit;
mod export;
mod external;
mod interrupt;
mod lab;
mod peers;
mod root;
mod run;
mod ui;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}

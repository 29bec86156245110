//! The lab's command: from a scenario to trials to results.
//!
//! | folder | what it does |
//! |---|---|
//! | `cmd` | flags and subcommands, one file each |
//! | `run` | a run: which trials in which order, what they are judged by |
//! | `lab` | the processes of a trial, and what they cost |
//! | `ui` | what the user sees while it runs |
//!
//! The servers of the lab are hidden subcommands of this binary, which starts
//! itself again for each: so `cargo run -p loadgen` builds all there is to run.
#![forbid(unsafe_code)]

mod cmd;
mod exit;
mod external;
mod interrupt;
mod lab;
mod peers;
mod root;
mod run;
mod service;
mod ui;

use std::{io::Write as _, process::ExitCode};

use clap::Parser as _;

fn main() -> ExitCode {
    cmd::Program::parse().run().unwrap_or_else(|failure| {
        // Not eprintln!, which panics when standard error is closed.
        let _ = writeln!(std::io::stderr(), "error: {}", failure.message);
        ExitCode::from(failure.code)
    })
}

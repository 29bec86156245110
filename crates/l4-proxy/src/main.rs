//! The L4 proxy as a program of its own; the lab runs the same from its own
//! binary.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    l4_proxy::cli::main_with(l4_proxy::cli::Args::parse())
}

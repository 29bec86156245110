//! The echo backend as a program of its own; see `echo_backend::cli`.

use std::process::ExitCode;

use clap::Parser;

/// A gRPC echo backend with a real queue: concurrency, service times, and a
/// speed that can change, to see what balancing does to them.
#[derive(Parser)]
#[command(name = "echo-backend", version, max_term_width = 100)]
struct Program {
    #[command(flatten)]
    args: echo_backend::cli::Args,
}

fn main() -> ExitCode {
    echo_backend::main_with(Program::parse().args)
}

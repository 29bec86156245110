//! The proxy as a program of its own, for use outside the lab.

use std::process::ExitCode;

use clap::Parser as _;

#[derive(clap::Parser)]
#[command(name = "l7-proxy", version, about, long_about = None)]
struct Program {
    #[command(flatten)]
    args: l7_proxy::Args,
}

fn main() -> ExitCode {
    l7_proxy::main_with(Program::parse().args)
}

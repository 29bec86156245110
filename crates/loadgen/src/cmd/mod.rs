//! The command line: one file a subcommand, each with its flags and what it does.

mod agent;
mod all;
mod calibrate;
mod check;
mod child;
mod compare;
mod decide;
mod export;
mod init;
mod list;
mod nodes;
mod own_service;
mod peers;
mod predict;
mod prune;
mod report;
mod rerun;
mod run;
mod schema;
mod settings;
mod simulate;
mod target;
mod trace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use scenario::Library;

use crate::{exit::Failure, lab, root::Root};

/// Measures what an L4 and an L7 load balancer do to a gRPC service: which
/// backend serves each call, how long calls take, and what the balancer costs.
///
/// A scenario asks one question. The lab starts its backends and, one after the
/// other, each way to them (its peers: no balancer, an L4 proxy, an L7 proxy,
/// ...), makes the identical calls through each, and writes a report.
#[derive(Debug, Parser)]
#[command(
    name = "loadgen",
    version,
    args_conflicts_with_subcommands = true,
    max_term_width = 100,
    after_help = EXAMPLES
)]
pub(crate) struct Program {
    #[command(flatten)]
    run: run::Args,
    #[command(subcommand)]
    command: Option<Command>,
}

const EXAMPLES: &str = "\
Examples:
  The question it all starts with:      loadgen --scenario single-conn-flood
  All questions there are:              loadgen --list
  A quick look, two peers only:         loadgen --scenario few-conns --short --peers l4,l7
  Another policy, twice the load:       loadgen --scenario few-conns \\
                                          --set balance.policy=p2c --set load.rate=6600/s
  Over real links, the kernel as peer:  loadgen --scenario many-conns \\
                                          --set network=namespaces --peers l4,kernel-l4
  A balancer that is there already:     loadgen --scenario few-conns --target 10.0.0.7:80
  On three nodes of a cluster:          loadgen --scenario few-conns --on slurm --nodes 3
  What decides, and the decision:       loadgen all
  A service of your own:                loadgen --target localhost:50051 --reflection \\
                                          --method helloworld.Greeter/SayHello \\
                                          --data '{\"name\": \"you\"}\'
  What 300 backends would do:           loadgen simulate --scenario connection-sweep \\
                                          --set backends.count=300
  How right that would be:              loadgen predict --scenario connection-sweep \
                                          --like results/connection-sweep/<run>
  A scenario of your own:               loadgen check my.toml && loadgen --scenario my.toml

Exit codes: 0 all expectations held; 1 one did not (with --require-all also: could not be
judged); 2 bad usage or input; 3 the lab itself failed, its results can't be kept, or no call of
a trial succeeded and no claim expects that; 130 interrupted (what was measured is kept).";

#[derive(Debug, Subcommand)]
enum Command {
    /// Say what would come of a scenario, in sizes that can't be run here: the same
    /// report, of which nothing is measured.
    Simulate(simulate::Args),
    /// Predict a scenario from a measured run, measure it, and say how right the prediction
    /// was.
    Predict(predict::Args),
    /// Check a scenario without running it.
    Check(check::Args),
    /// Make the report of a run again, from its folder alone.
    Report(report::Args),
    /// Say what changed from one run to another; exit code 1 if something got
    /// worse. For a team's CI.
    Compare(compare::Args),
    /// Say from many runs which balancer is right when, and what it costs; writes the
    /// decision page.
    Decide(decide::Args),
    /// Write a run's data for other tools: HdrHistogram logs and percentiles,
    /// series as CSV, a summary in Prometheus' text format.
    Export(export::Args),
    /// Ask a service for its methods, and write a scenario that calls one.
    Init(init::Args),
    /// List the peers: what is there, in which version, and how to get the rest.
    Peers,
    /// Delete all but the newest runs of each scenario.
    Prune(prune::Args),
    /// Run the scenarios that decide most, and decide from them; about 20 minutes, or 5 with
    /// --quick.
    All(all::Args),
    /// Measure how many calls a second the generator can make on this machine; later runs say
    /// when they ask too much of it.
    Calibrate(calibrate::Args),
    /// Make a trace, which `load.arrivals` replays, of an access log: of Envoy in JSON, or
    /// of layerlab's L7 proxy.
    Trace(trace::Args),
    /// Print the JSON Schema of a file format.
    Schema(schema::Args),
    /// Do one node's part of a run that another machine leads (`--on`).
    Agent(agent::Args),
    #[command(flatten)]
    Process(Process),
}

/// What the lab starts of itself. Their command lines are no interface.
#[derive(Debug, Subcommand)]
enum Process {
    /// Start a process that ends when the lab does.
    #[command(hide = true)]
    Guard(lab::guard::Args),
    /// End what is left of a process group when its first process has ended.
    #[command(hide = true)]
    Reaper(lab::reaper::Args),
    /// The lab's backend.
    #[command(hide = true)]
    EchoBackend(Box<echo_backend::cli::Args>),
    /// The lab's L4 proxy.
    #[command(hide = true)]
    L4Proxy(Box<l4_proxy::cli::Args>),
    /// The lab's L7 proxy.
    #[command(hide = true)]
    L7Proxy(Box<l7_proxy::Args>),
    /// What packets of links that take time go through.
    #[command(hide = true)]
    LinkRelay(link_relay::Args),
}

impl Program {
    /// Does what the command line says and gives the exit code.
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let code = match self.command {
            None if self.run.list => list::main()?,
            None => run::main(&self.run)?,
            Some(Command::Simulate(args)) => simulate::main(&args)?,
            Some(Command::Predict(args)) => predict::main(&args)?,
            Some(Command::Check(args)) => check::main(&args)?,
            Some(Command::Report(args)) => report::main(&args)?,
            Some(Command::Compare(args)) => compare::main(&args)?,
            Some(Command::Decide(args)) => decide::main(&args)?,
            Some(Command::Export(args)) => export::main(&args)?,
            Some(Command::Init(args)) => init::main(&args)?,
            Some(Command::Peers) => peers::main()?,
            Some(Command::Prune(args)) => prune::main(&args)?,
            Some(Command::All(args)) => all::main(&args)?,
            Some(Command::Calibrate(args)) => calibrate::main(&args)?,
            Some(Command::Trace(args)) => trace::main(&args)?,
            Some(Command::Schema(args)) => schema::main(&args)?,
            Some(Command::Agent(args)) => agent::main(&args)?,
            Some(Command::Process(process)) => return Ok(process.run()),
        };
        Ok(ExitCode::from(code))
    }
}

impl Process {
    fn run(self) -> ExitCode {
        match self {
            Self::Guard(args) => lab::guard::main(args),
            Self::Reaper(args) => lab::reaper::main(&args),
            Self::EchoBackend(args) => echo_backend::main_with(*args),
            Self::L4Proxy(args) => l4_proxy::cli::main_with(*args),
            Self::L7Proxy(args) => l7_proxy::main_with(*args),
            Self::LinkRelay(args) => link_relay::main_with(&args),
        }
    }
}

/// The scenarios and peers there are.
fn library(root: &Root) -> Result<Library, Failure> {
    Library::open(root.scenarios()).map_err(Failure::bad_input)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_flags_are_well_formed() {
        Program::command().debug_assert();
    }

    #[test]
    fn a_scenario_is_asked_for_unless_there_is_something_else_to_do() {
        assert!(Program::try_parse_from(["loadgen"]).is_err());
        assert!(Program::try_parse_from(["loadgen", "--list"]).is_ok());
        assert!(Program::try_parse_from(["loadgen", "peers"]).is_ok());
        assert!(Program::try_parse_from(["loadgen", "--scenario", "few-conns"]).is_ok());
    }
}

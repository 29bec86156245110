//! The flags every server of the lab has, so that they mean the same
//! everywhere: flatten [`ServerArgs`] into a server's own arguments.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use crate::duration;
use crate::shutdown::ProcessShutdown;

/// Flags shared by backends and proxies.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Server")]
pub struct ServerArgs {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,

    /// Threads that serve connections; each server says its default.
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,

    /// Treat standard input as a control pipe: exit at once when it closes.
    #[arg(long)]
    pub control_pipe: bool,

    /// Serve Prometheus metrics over HTTP at this address, under /metrics.
    #[arg(long, value_name = "ADDR")]
    pub metrics_listen: Option<SocketAddr>,

    /// How long calls may run on after SIGTERM or SIGINT; a second signal ends
    /// the wait.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    pub drain_timeout: Duration,
}

impl ServerArgs {
    /// What ends this process, for [`crate::process_shutdown`].
    pub fn process_shutdown(&self) -> ProcessShutdown {
        ProcessShutdown { drain_timeout: self.drain_timeout, control_pipe: self.control_pipe }
    }

    /// Threads asked for, or `default`.
    pub fn threads_or(&self, default: usize) -> usize {
        self.threads.map_or(default, NonZeroUsize::get)
    }
}

/// The number of cores this process may use, at least one.
pub fn available_cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        server: ServerArgs,
    }

    #[test]
    fn the_flags_are_well_formed_and_have_defaults() {
        Program::command().debug_assert();
        let program = Program::parse_from(["program"]);
        assert_eq!(program.server.listen.port(), 0);
        assert_eq!(program.server.drain_timeout, Duration::from_secs(10));
        assert_eq!(program.server.threads_or(4), 4);
    }

    #[test]
    fn a_duration_without_a_unit_is_refused_with_the_reason() {
        let error = Program::try_parse_from(["program", "--drain-timeout", "5"]).err().unwrap();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("has no unit"), "{error}");
    }

    #[test]
    fn zero_threads_are_refused() {
        assert!(Program::try_parse_from(["program", "--threads", "0"]).is_err());
    }
}

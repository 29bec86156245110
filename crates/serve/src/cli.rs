//! The flags every server of the lab has, so that they mean the same
//! everywhere: flatten [`ServerArgs`] into a server's own arguments.

use std::{net::SocketAddr, num::NonZeroUsize, path::PathBuf, sync::Arc, time::Duration};

use tokio::net::TcpListener;

use crate::{
    BindOptions,
    admin::{BackendSpec, Backends, serve_admin},
    bind, duration,
    exit::{Failure, note},
    http1::host::HostArgs,
    metrics::Metrics,
    metrics_endpoint::serve_metrics,
    shutdown::{ProcessShutdown, Shutdown, note_hangups},
    watch::{Watch, read_backends},
};

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

    /// Serve Prometheus metrics over HTTP at this address, under /metrics. Who
    /// scrapes them by another name needs --admin-allowed-host.
    #[arg(long, value_name = "ADDR")]
    pub metrics_listen: Option<SocketAddr>,

    #[command(flatten)]
    hosts: HostArgs,

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

    /// Serves metrics, if an address for them was given, until `shutdown` is
    /// terminated. To be called on a runtime.
    ///
    /// # Errors
    /// When the address can't be listened on.
    pub fn start_metrics(&self, metrics: &Metrics, shutdown: &Shutdown) -> Result<(), Failure> {
        if let Some(address) = self.metrics_listen {
            // Not joined: it holds nothing, and ends with the runtime.
            let (metrics, allowed) = (metrics.clone(), self.hosts.allowed());
            tokio::spawn(serve_metrics(open(address)?, metrics, allowed, shutdown.clone()));
        }
        Ok(())
    }

    /// Threads asked for, or `default`.
    pub fn threads_or(&self, default: usize) -> usize {
        self.threads.map_or(default, NonZeroUsize::get)
    }
}

/// Flags of proxies whose backends change while they run. The flag that lists
/// backends has to have the id `backends`.
#[derive(Clone, Debug, clap::Args)]
pub struct BackendsArgs {
    /// A TOML or JSON file with the list of backends; it is watched, and its
    /// changes are applied.
    #[arg(long, value_name = "FILE", conflicts_with = "backends")]
    pub backends_file: Option<PathBuf>,

    /// Serve the admin API over HTTP at this address: GET, POST /backends;
    /// GET, PATCH, DELETE /backends/ADDR. Whoever reaches it may use it: keep to
    /// loopback, or to a network where only operators are.
    #[arg(long, value_name = "ADDR")]
    pub admin_listen: Option<SocketAddr>,
}

impl BackendsArgs {
    /// The backends in the file, if one was given.
    ///
    /// # Errors
    /// When the file is no list of backends.
    pub fn read(&self) -> Result<Option<Vec<BackendSpec>>, Failure> {
        self.backends_file.as_deref().map(read_backends).transpose().map_err(Failure::usage)
    }

    /// Serves the admin API and watches the file, whichever was asked for, until
    /// the shutdown. What the file brings is counted under `prefix`, see
    /// [`Watch::new`]. SIGHUP has the file read at once; without one it changes
    /// nothing, and that is said. To be called on a runtime.
    ///
    /// # Errors
    /// When the address can't be listened on, or no handler be set up.
    pub fn start(
        &self,
        backends: &Arc<dyn Backends>,
        metrics: &Metrics,
        prefix: &str,
        server: &ServerArgs,
        shutdown: &Shutdown,
    ) -> Result<(), Failure> {
        if let Some(address) = self.admin_listen {
            let listener = open(address)?;
            let address = listener.local_addr().map_err(Failure::failed)?;
            note(format_args!("admin API on http://{address}/backends"));
            let (backends, metrics) = (Arc::clone(backends), metrics.clone());
            let allowed = server.hosts.allowed();
            tokio::spawn(serve_admin(listener, backends, metrics, allowed, shutdown.clone()));
        }
        let Some(path) = &self.backends_file else {
            const LINE: &str = "SIGHUP changes nothing: there is no --backends-file to read again";
            return note_hangups(LINE).map_err(Failure::failed);
        };
        let watch = Watch::new(path.clone(), Arc::clone(backends), metrics, prefix);
        tokio::spawn(watch.run(shutdown.clone()));
        Ok(())
    }
}

fn open(address: SocketAddr) -> Result<TcpListener, Failure> {
    let listener = bind(address, BindOptions::default()).map_err(Failure::failed)?;
    TcpListener::from_std(listener).map_err(Failure::failed)
}

/// The number of cores this process may use, at least one.
pub fn available_cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// A share of a whole, for clap: from 0 to 1.
///
/// # Errors
/// A sentence for whoever wrote something else.
pub fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err(format!("`{text}` is no share; write a number from 0 to 1, as in 0.2")),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

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

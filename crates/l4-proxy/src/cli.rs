//! The command line: flags to a [`Config`], and the process around
//! [`run`](crate::run).

use std::{
    io::{self, Write as _},
    num::{NonZeroU32, NonZeroUsize},
    process::ExitCode,
    time::Duration,
};

use balance::PolicyKind;
use clap::Parser;
use serve::{
    BindOptions,
    cli::{BackendsArgs, ServerArgs, available_cores},
    duration,
    exit::{Failure, finish},
    health::{HealthArgs, HealthCheck},
    logging::LogArgs,
    process_shutdown,
    zones::ZoneArgs,
};

use crate::{
    config::{BackendConfig, Config, DataPlane, Ejection, ProxyVersion, SniRoute},
    run::Proxy,
};

/// Balances TCP connections over backends.
///
/// Each connection is given to one backend when it is accepted, and stays
/// there until it ends. What is in it is never looked at: for gRPC this means
/// that all calls of a client that uses one connection go to one backend.
#[derive(Clone, Debug, Parser)]
#[command(name = "l4-proxy", version, after_long_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    server: ServerArgs,

    /// A backend, as ADDR[,weight=N][,max_connections=N][,group=NAME]; give the
    /// flag once for each.
    #[arg(
        long = "backend",
        value_name = "ADDR[,weight=N...]",
        required_unless_present = "backends_file"
    )]
    backends: Vec<BackendConfig>,

    #[command(flatten)]
    changes: BackendsArgs,

    /// How a connection's backend is picked: round_robin, random,
    /// least_loaded (fewest connections), p2c and p3c (fewest connections of two
    /// or three), least_request (as Envoy weighs connections), join_idle_queue
    /// (one without a connection, else random), peak_ewma (fewer connections and a
    /// faster first byte, of two), ring_hash, bounded_ring_hash or maglev (by the
    /// client's address).
    #[arg(long, value_name = "NAME", default_value = "round_robin")]
    policy: PolicyKind,

    /// How long a backend may take to accept before the next one is tried.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration::parse,
          help_heading = "Connections")]
    connect_timeout: Duration,

    /// Close a connection after this silence in both directions together; 0s
    /// keeps it for as long as it likes.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration::parse,
          help_heading = "Connections")]
    idle_timeout: Duration,

    /// Connections open at once; more are reset at once, which tells their
    /// clients. Each needs two file descriptors.
    #[arg(long, value_name = "N", default_value = "100000", help_heading = "Connections")]
    max_connections: NonZeroU32,

    /// Close a connection at this age, give or take a tenth, at its first quiet
    /// moment: when nothing moves and the backend has had the last word
    /// [default: let it live].
    #[arg(long, value_name = "DURATION", value_parser = duration::parse_positive, help_heading = "Connections")]
    max_connection_age: Option<Duration>,

    /// How long such a connection may go on without a quiet moment before it
    /// is cut off.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse,
          help_heading = "Connections")]
    max_connection_age_grace: Duration,

    /// Close the connections of a backend that is drained or removed, as if
    /// they had reached their age; otherwise they live on.
    #[arg(long, help_heading = "Connections")]
    close_drained: bool,

    /// Let the kernel probe silent peers after this time, on both sides.
    #[arg(long, value_name = "DURATION", value_parser = duration::parse,
          help_heading = "Connections")]
    keepalive: Option<Duration>,

    /// How bytes are moved: copy, splice, or auto, which copies small pieces and
    /// splices where large ones flow.
    #[arg(long, value_name = "NAME", default_value = "auto", help_heading = "Data plane")]
    data_plane: DataPlane,

    /// Pipes open at once for splicing; without one, bytes are copied. Each
    /// needs two file descriptors.
    #[arg(long, value_name = "N", default_value = "1024", help_heading = "Data plane")]
    max_pipes: usize,

    /// Give a backend that is new or came back less than its share at first,
    /// growing over this time [default: the whole share at once].
    #[arg(long, value_name = "DURATION", value_parser = duration::parse_positive, help_heading = "Health")]
    slow_start: Option<Duration>,

    /// Leave a backend out after this many failed connects in a row; 0 never
    /// does.
    #[arg(long, value_name = "N", default_value = "3", help_heading = "Health")]
    eject_after: u32,

    /// For how long; each repetition doubles it, up to 16 times as long.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration::parse_positive,
          help_heading = "Health")]
    eject_for: Duration,

    #[command(flatten)]
    health: HealthArgs,

    #[command(flatten)]
    zones: ZoneArgs,

    /// Expect a PROXY header, version 1 or 2, at the beginning of every
    /// connection, and believe it.
    #[arg(long, help_heading = "Greeting")]
    proxy_protocol_in: bool,

    /// Send a PROXY header to backends: v1 or v2.
    #[arg(long, value_name = "VERSION", help_heading = "Greeting")]
    proxy_protocol_out: Option<ProxyVersion>,

    /// Route TLS connections by the server name in their ClientHello, as
    /// NAME=GROUP; *.example.com stands for all names below. Other names go to
    /// the backends without a group. TLS is not ended here.
    #[arg(long, value_name = "NAME=GROUP", help_heading = "Greeting")]
    sni: Vec<SniRoute>,

    /// How long a client may take for its PROXY header and ClientHello.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration::parse_positive,
          help_heading = "Greeting")]
    greeting_timeout: Duration,

    #[command(flatten)]
    log: LogArgs,

    /// Write a line of JSON about each connection that ended to standard
    /// output.
    #[arg(long)]
    log_connections: bool,
}

const EXAMPLES: &str = "\
Examples:
  l4-proxy --listen 127.0.0.1:8080 --backend 127.0.0.1:5001 --backend 127.0.0.1:5002
  l4-proxy --listen 0.0.0.0:443 --policy least_loaded --backend 10.0.0.1:443,weight=2 \\
           --backend 10.0.0.2:443 --metrics-listen 127.0.0.1:9090

SIGTERM drains: no more connections are accepted, and those that are open have \
--drain-timeout to end. Exit codes: 0 shut down as asked, 2 bad usage, 3 failed at run time.";

impl Args {
    /// The configuration that the flags describe, with a fresh set of metrics.
    ///
    /// # Errors
    /// When a flag's value makes no sense together with the others.
    fn to_config(&self) -> Result<Config, Failure> {
        if self.connect_timeout.is_zero() {
            return Err(Failure::usage("--connect-timeout must be longer than 0s"));
        }
        if self.policy.asks_backends() {
            let message = format!(
                "--policy {} goes by what backends say of their load, which an L4 proxy does not \
                 read",
                self.policy
            );
            return Err(Failure::usage(message));
        }
        let backends = self.all_backends()?;
        let has_group = |name: &str| backends.iter().any(|one| one.group.as_deref() == Some(name));
        if let Some(route) = self.sni.iter().find(|route| !has_group(&route.group)) {
            let group = &route.group;
            let message = format!("--sni routes to `{group}`; no backend has group={group}");
            return Err(Failure::usage(message));
        }
        let cores = available_cores();
        let threads = NonZeroUsize::new(self.server.threads_or(cores));
        Ok(Config {
            policy: self.policy,
            threads: threads.unwrap_or(NonZeroUsize::MIN),
            connect_timeout: self.connect_timeout,
            idle_timeout: (!self.idle_timeout.is_zero()).then_some(self.idle_timeout),
            max_connections: self.max_connections.get() as usize,
            keepalive: self.keepalive,
            data_plane: self.data_plane,
            max_pipes: self.max_pipes,
            log_connections: self.log_connections,
            max_connection_age: self.max_connection_age,
            connection_age_grace: self.max_connection_age_grace,
            close_drained: self.close_drained,
            slow_start: self.slow_start,
            ejection: NonZeroU32::new(self.eject_after)
                .map(|failures| Ejection::new(failures, self.eject_for)),
            health: self.health.config(HealthCheck::Connect),
            zones: self.zones.config()?,
            proxy_protocol_in: self.proxy_protocol_in,
            proxy_protocol_out: self.proxy_protocol_out,
            sni: self.sni.clone(),
            greeting_timeout: self.greeting_timeout,
            ..Config::new(backends)
        })
    }

    fn all_backends(&self) -> Result<Vec<BackendConfig>, Failure> {
        let Some(specs) = self.changes.read()? else { return Ok(self.backends.clone()) };
        Ok(specs.into_iter().map(BackendConfig::from).collect())
    }
}

/// The whole program: listens, serves until a signal, and says how it went. The
/// line `listening on ADDR` on standard output says that it is ready; where
/// connections are logged there, it is on standard error.
pub fn main_with(args: Args) -> ExitCode {
    finish(serve_until_shutdown(&args))
}

/// The runtime here only waits for signals and answers for metrics; the
/// connections have threads of their own.
fn serve_until_shutdown(args: &Args) -> Result<(), Failure> {
    args.log.start();
    let config = args.to_config()?;
    // With too few descriptors the proxy sheds connections, and counts them.
    let _ = serve::limits::raise_open_files();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    runtime.block_on(async {
        let shutdown =
            process_shutdown(args.server.process_shutdown()).await.map_err(Failure::failed)?;
        let options =
            BindOptions { reuse_port: config.threads.get() > 1, ..BindOptions::default() };
        let listener = serve::bind(args.server.listen, options).map_err(Failure::failed)?;
        let address = listener.local_addr().map_err(Failure::failed)?;
        let proxy = Proxy::new(config.clone()).map_err(Failure::failed)?;
        // What is served and watched beside the connections.
        args.server.start_metrics(&config.metrics, &shutdown)?;
        let (backends, metrics) = (proxy.backends(), &config.metrics);
        args.changes.start(&backends, metrics, "l4_backends_file", &args.server, &shutdown)?;
        let ready = format!("listening on {address}");
        // Nobody may be reading, and that is no reason to fail.
        let _ = match args.log_connections {
            false => writeln!(io::stdout(), "{ready}"),
            true => writeln!(io::stderr(), "{ready}"),
        };
        proxy.run(listener, shutdown).await.map_err(Failure::failed)
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn policies_that_ask_backends_are_not_those_of_connections() {
        for policy in PolicyKind::ALL {
            let flags = ["l4-proxy", "--backend=127.0.0.1:5001", "--policy", policy.name()];
            let config = Args::parse_from(flags).to_config();
            assert_eq!(config.is_ok(), !policy.asks_backends(), "{policy}");
        }
    }

    #[test]
    fn the_flags_are_well_formed_and_become_a_config() {
        Args::command().debug_assert();
        let args = Args::parse_from([
            "l4-proxy",
            "--backend=127.0.0.1:5001,weight=2",
            "--backend=127.0.0.1:5002",
            "--policy=p2c",
            "--threads=3",
            "--idle-timeout=0s",
        ]);
        let config = args.to_config().unwrap();
        assert_eq!((config.backends.len(), config.threads.get()), (2, 3));
        assert_eq!((config.policy, config.idle_timeout), (PolicyKind::P2c, None));
    }

    #[test]
    fn bad_usage_has_code_2_and_names_the_flag() {
        let error = Args::try_parse_from(["l4-proxy"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let args = ["l4-proxy", "--backend=127.0.0.1:1", "--connect-timeout=0s"];
        let failure = Args::parse_from(args).to_config().unwrap_err();
        assert_eq!(failure.code(), 2);
        assert!(failure.to_string().contains("--connect-timeout"));
    }
}

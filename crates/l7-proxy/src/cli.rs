//! The proxy's command line, for its own program and for the lab's hidden
//! subcommand alike.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use balance::PolicyKind;
use http::HeaderName;
use serve::{
    BindOptions, Metrics,
    cli::{BackendsArgs, ServerArgs, available_cores},
    exit::{Failure, finish},
    health::{HealthArgs, HealthCheck},
    listen::bind_many,
    logging::LogArgs,
    process_shutdown,
    zones::ZoneArgs,
};

use crate::{
    Proxy, RunError,
    access_log::AccessLogArgs,
    circuit::CircuitLimits,
    config::{
        self, BackendConfig, CallLimits, Config, DataPlane, DownstreamLimits, UpstreamLimits,
    },
    fleet,
    health::{EjectionSettings, MembershipSettings},
    policy::PolicySettings,
    retry::RetryPolicy,
    tls::TlsArgs,
};

/// Balances gRPC calls over backends: every call of every connection picks a
/// backend by the policy. Clients and backends speak HTTP/2: with prior knowledge,
/// or under TLS where certificates are given.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    server: ServerArgs,

    /// A backend, as IP:PORT[,weight=N][,name=S][,zone=S]; repeat the flag for
    /// more. The name is its identity for hash policies and metrics, and is its
    /// address unless given.
    #[arg(long = "backend", value_name = "BACKEND", required_unless_present = "backends_file")]
    backends: Vec<BackendConfig>,

    #[command(flatten)]
    changes: BackendsArgs,

    /// How a backend is picked: round_robin, weighted_round_robin, random,
    /// least_loaded, p2c, p3c, least_request, join_idle_queue, peak_ewma, prequal,
    /// ring_hash, bounded_ring_hash or maglev.
    #[arg(long, value_name = "NAME", default_value_t = PolicyKind::RoundRobin)]
    policy: PolicyKind,

    /// Request header whose value is the key of ring_hash, bounded_ring_hash and
    /// maglev; calls without it are placed by chance.
    #[arg(long, value_name = "NAME")]
    hash_header: Option<HeaderName>,

    /// The code that moves the bytes.
    #[arg(long, value_enum, value_name = "NAME", default_value_t)]
    data_plane: DataPlane,

    #[command(flatten)]
    settings: PolicySettings,

    #[command(flatten)]
    downstream: DownstreamLimits,

    #[command(flatten)]
    upstream: UpstreamLimits,

    #[command(flatten)]
    calls: CallLimits,

    #[command(flatten)]
    circuit: CircuitLimits,

    #[command(flatten)]
    retry: RetryPolicy,

    #[command(flatten)]
    tls: TlsArgs,

    #[command(flatten)]
    access_log: AccessLogArgs,

    #[command(flatten)]
    log: LogArgs,

    #[command(flatten)]
    health: HealthArgs,

    #[command(flatten)]
    ejection: EjectionSettings,

    #[command(flatten)]
    membership: MembershipSettings,

    #[command(flatten)]
    zones: ZoneArgs,
}

const EXAMPLES: &str = "\
Examples:
  Two backends, each call to the less loaded of two drawn by chance:
    l7-proxy --listen 127.0.0.1:8080 --backend 127.0.0.1:5001 \\
      --backend 127.0.0.1:5002 --policy p2c
  A backend three times as large, and calls of one user kept together:
    l7-proxy --listen 127.0.0.1:8080 --backend 127.0.0.1:5001,weight=3 \\
      --backend 127.0.0.1:5002 --policy maglev --hash-header x-user
  Backends from a file that is watched, and an API to look at them and change
  them while it runs:
    l7-proxy --listen 127.0.0.1:8080 --backends-file backends.toml \\
      --admin-listen 127.0.0.1:9901
    curl -X PATCH -d '{\"state\": \"draining\"}' \\
      http://127.0.0.1:9901/backends/127.0.0.1:5001
  TLS on both sides, with certificates that are read again when they change:
    l7-proxy --listen 0.0.0.0:8443 --tls-cert chain.pem --tls-key key.pem \\
      --backend 10.0.0.5:5001 --backend-tls-ca ca.pem --backend-tls-name echo
  Backends asked every five seconds for grpc.health.v1, and left out for a while
  when their calls fail:
    l7-proxy --listen 127.0.0.1:8080 --backend 127.0.0.1:5001 \\
      --backend 127.0.0.1:5002 --health-interval 5s --eject
  Stop it without losing a call: kill -TERM; it answers what is in flight and
  sends clients elsewhere (GOAWAY), for at most --drain-timeout.";

impl Args {
    /// Each thread knows its own calls only, and a line is that of one backend.
    fn check_line(&self, threads: usize) -> Result<(), Failure> {
        let is_one = threads == 1 && self.backends.len() == 1;
        if self.calls.backend_servers.is_none() || is_one {
            return Ok(());
        }
        let message = "--backend-servers is for a proxy of one thread (--threads 1) with one \
                       --backend";
        Err(Failure::usage(message))
    }

    /// The configuration these flags ask for.
    ///
    /// # Errors
    /// When the file with the backends is no list of backends for this proxy.
    pub fn into_config(self, metrics: Metrics) -> Result<Config, Failure> {
        let backends = match self.changes.read()? {
            None => self.backends,
            Some(specs) => {
                let configs = specs.iter().map(fleet::config).collect::<Result<_, _>>();
                configs.map_err(Failure::usage)?
            }
        };
        let health = self.health.config(HealthCheck::Grpc);
        Ok(Config {
            backends,
            policy: self.policy,
            tuning: self.settings.tuning(),
            data_plane: self.data_plane,
            hash_header: self.hash_header,
            seed: config::seed(),
            downstream: self.downstream,
            upstream: self.upstream,
            calls: self.calls,
            circuit: self.circuit,
            retry: self.retry,
            tls: self.tls,
            access_log: self.access_log,
            health,
            ejection: self.ejection,
            membership: self.membership,
            zones: self.zones.config()?,
            metrics,
        })
    }
}

/// Runs the proxy as a process: binds, serves until a signal or the control
/// pipe ends it, prints one line if it fails, and gives the exit code. The line
/// `listening on ADDR` on standard output says that it is ready.
pub fn main_with(args: Args) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    finish(match runtime {
        Ok(runtime) => runtime.block_on(run_process(args)),
        Err(error) => Err(Failure::failed(error)),
    })
}

/// What is said at start of the data plane that is not the one to use.
const REFERENCE: &str = "data plane hyper: the reference, with the bounds that hyper has settings \
    for and no others; not for untrusted clients";

async fn run_process(args: Args) -> Result<(), Failure> {
    let server = args.server.clone();
    args.log.start();
    let threads = server.threads_or(available_cores());
    args.check_line(threads)?;
    let listeners =
        bind_many(server.listen, threads, BindOptions::default()).map_err(Failure::failed)?;
    let (metrics, changes) = (Metrics::new(), args.changes.clone());
    let is_reference = args.data_plane == DataPlane::Hyper;
    let proxy = Proxy::new(args.into_config(metrics.clone())?).map_err(failed)?;
    // Not before the files are read: signals end the process as long as one of
    // them may hold it up.
    let shutdown = process_shutdown(server.process_shutdown()).await.map_err(Failure::failed)?;
    server.start_metrics(&metrics, &shutdown)?;
    changes.start(&proxy.backends(), &metrics, "l7_backends_file", &server, &shutdown)?;
    if is_reference {
        // Nobody may be reading, and that is no reason to fail.
        let _ = writeln!(io::stderr(), "{REFERENCE}");
    }
    if let Some(first) = listeners.first() {
        let addr = first.local_addr().map_err(Failure::failed)?;
        // Nobody may be reading, and that is no reason to fail.
        let _ = writeln!(io::stdout(), "listening on {addr}");
    }
    proxy.run(listeners, shutdown).await.map_err(failed)
}

fn failed(error: RunError) -> Failure {
    match error {
        RunError::Balance(error) => Failure::usage(error),
        RunError::Tls(error) => Failure::usage(error),
        error => Failure::failed(error),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use clap::{CommandFactory as _, Parser};

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn the_flags_are_well_formed() {
        Program::command().debug_assert();
    }

    #[test]
    fn flags_become_the_configuration() {
        let program = Program::try_parse_from([
            "l7-proxy",
            "--backend=127.0.0.1:1",
            "--backend=127.0.0.1:2,weight=2",
            "--policy=maglev",
            "--hash-header=x-user",
            "--max-headers=7",
            "--connect-timeout=5ms",
            "--health-interval=5s",
            "--eject",
            "--subset-size=2",
            "--subset-id=zone-a",
            "--backend=127.0.0.1:3,zone=a",
            "--zone=a",
            "--zone-proxies=a=1,b=2",
        ]);
        let config = program.unwrap().args.into_config(Metrics::new()).unwrap();
        assert_eq!(config.backends.iter().map(|b| b.weight).collect::<Vec<_>>(), [1, 2, 1]);
        assert_eq!(config.backends[2].zone.as_deref(), Some("a"));
        assert_eq!(config.zones.map(|zones| zones.proxies), Some(vec![1, 2]));
        assert_eq!(config.policy, PolicyKind::Maglev);
        assert_eq!(config.hash_header, Some(HeaderName::from_static("x-user")));
        assert_eq!(config.downstream.max_headers, 7);
        assert_eq!(config.health.map(|health| health.check), Some(HealthCheck::Grpc));
        assert_eq!(config.ejection.streak().map(NonZeroU32::get), Some(5));
        assert_eq!(config.membership.subset(), Some((2, "zone-a")));
        assert_eq!(config.upstream.connect_timeout, std::time::Duration::from_millis(5));
    }

    #[test]
    fn mistakes_are_refused_with_the_reason() {
        let cases = [
            (vec![], "--backend"),
            (vec!["--backend=here"], "write an IP address and a port"),
            (vec!["--backend=127.0.0.1:1", "--policy=robin"], "round_robin"),
            (vec!["--backend=127.0.0.1:1", "--stream-window-bytes=0"], "stream-window-bytes"),
            (vec!["--backend=127.0.0.1:1", "--connect-timeout=5"], "no unit"),
            (vec!["--backend=127.0.0.1:1", "--subset-size=2"], "--subset-id"),
            (vec!["--backend=127.0.0.1:1,zone="], "zone=.., each with a value"),
            (vec!["--backend=127.0.0.1:1", "--zone=a"], "--zone-proxies"),
            (vec!["--backend=127.0.0.1:1", "--panic-threshold=101"], "panic-threshold"),
            (vec!["--backend=127.0.0.1:1", "--slow-start-aggression=0"], "above zero"),
        ];
        for (flags, expected) in cases {
            let args = [vec!["l7-proxy"], flags].concat();
            let error = Program::try_parse_from(args).err().unwrap();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}

//! The backend's command line, for its own program and for the lab, which runs
//! it as a hidden subcommand.

use std::{
    io::Write as _, num::NonZeroUsize, path::PathBuf, process::ExitCode, sync::Arc, time::Duration,
};

use serve::{
    BindOptions, Metrics,
    cli::ServerArgs,
    duration,
    exit::{self, Failure},
    logging::LogArgs,
    tls::{self, Named, TlsError},
};

use crate::{
    Backend,
    config::{Config, ConnectionConfig, QueueConfig, Speed},
    control::Control,
    service_time::ServiceTime,
};

/// Flags of a backend.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    queue: QueueArgs,
    #[command(flatten)]
    connections: ConnectionArgs,
    #[command(flatten)]
    tls: TlsArgs,
    #[command(flatten)]
    log: LogArgs,
}

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "TLS")]
struct TlsArgs {
    /// Speak TLS, with the chain of certificates in this file (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// The private key of that certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// How long a client may take to shake hands.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = positive)]
    tls_handshake_timeout: Duration,
}

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Queue")]
struct QueueArgs {
    /// The id that every response carries [default: the address listened on].
    #[arg(long, value_name = "NAME")]
    id: Option<String>,

    /// Servers: calls in service at once. Further ones wait, first come, first
    /// served.
    #[arg(long, value_name = "N", default_value = "1")]
    concurrency: NonZeroUsize,

    #[arg(long, value_name = "DISTRIBUTION", default_value = "none", help = ServiceTime::help())]
    service_time: ServiceTime,

    /// How fast the servers work; 0.2 makes every call take five times as
    /// long.
    #[arg(long, value_name = "FACTOR", default_value = "1")]
    speed: Speed,

    /// Seed of the service times; the id is mixed in.
    #[arg(long, value_name = "N", default_value = "0")]
    seed: u64,

    /// Calls that may wait; further ones fail with RESOURCE_EXHAUSTED.
    #[arg(long, value_name = "N", default_value = "100000")]
    max_waiting: usize,

    /// Say in the trailers of each call how high the load is: gRPC's backend metrics
    /// (ORCA) per call, in `endpoint-load-metrics-bin`.
    #[arg(long)]
    load_reports: bool,

    /// Part of the calls that fail at once with INTERNAL, drawn by chance.
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = serve::cli::share)]
    failures: f64,
}

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Connections")]
struct ConnectionArgs {
    /// Connections open at once; further ones are closed at once.
    #[arg(long, value_name = "N", default_value_t = ConnectionConfig::default().max_connections)]
    max_connections: usize,

    /// Calls at once on one connection, announced as MAX_CONCURRENT_STREAMS.
    #[arg(long, value_name = "N", default_value_t = ConnectionConfig::default().max_streams,
          value_parser = clap::value_parser!(u32).range(1..))]
    max_streams: u32,

    /// Bytes of one message, either way.
    #[arg(long, value_name = "BYTES",
          default_value_t = ConnectionConfig::default().max_message_bytes)]
    max_message_bytes: usize,

    /// Bytes of a call's headers, uncompressed.
    #[arg(long, value_name = "BYTES",
          default_value_t = ConnectionConfig::default().max_header_list_bytes)]
    max_header_list_bytes: u32,

    /// Tell connections older than this to go away, give or take 10 %, and
    /// close them when their calls are done [default: let them live].
    #[arg(long, value_name = "DURATION", value_parser = positive)]
    max_connection_age: Option<Duration>,

    /// How long the calls of such a connection may take.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    max_connection_age_grace: Duration,
}

fn positive(text: &str) -> Result<Duration, String> {
    let value = duration::parse(text).map_err(|error| error.to_string())?;
    if value.is_zero() {
        return Err("it must be longer than zero; leave the flag out for no limit".to_owned());
    }
    Ok(value)
}

impl Args {
    /// The configuration these flags ask for. `address` is the one listened
    /// on, and the id of a backend that was given none.
    ///
    /// # Errors
    /// When the TLS files can't be used.
    pub fn into_config(
        self,
        address: std::net::SocketAddr,
        metrics: Metrics,
    ) -> Result<Config, TlsError> {
        let Self { queue, connections, tls, .. } = self;
        Ok(Config {
            id: queue.id.unwrap_or_else(|| address.to_string()),
            queue: QueueConfig {
                concurrency: queue.concurrency,
                service_time: queue.service_time,
                speed: queue.speed,
                seed: queue.seed,
                max_waiting: queue.max_waiting,
                failures: queue.failures,
            },
            reports_load: queue.load_reports,
            connections: ConnectionConfig {
                max_connections: connections.max_connections,
                max_streams: connections.max_streams,
                max_message_bytes: connections.max_message_bytes,
                max_header_list_bytes: connections.max_header_list_bytes,
                max_connection_age: connections.max_connection_age,
                max_connection_age_grace: connections.max_connection_age_grace,
                tls_handshake_timeout: tls.tls_handshake_timeout,
                ..ConnectionConfig::default()
            },
            tls: tls.load()?,
            metrics,
        })
    }
}

impl TlsArgs {
    fn load(&self) -> Result<Option<Arc<rustls::ServerConfig>>, TlsError> {
        let (Some(cert), Some(key)) = (&self.tls_cert, &self.tls_key) else { return Ok(None) };
        let cert = Named { flag: "--tls-cert", path: cert };
        let key = Named { flag: "--tls-key", path: key };
        tls::server_config(cert, key, None).map(|config| Some(Arc::new(config)))
    }
}

/// Runs a backend as a process: binds, serves until a signal or the control
/// pipe ends it, and gives the exit code.
pub fn main_with(args: Args) -> ExitCode {
    exit::finish(run_process(args))
}

fn run_process(args: Args) -> Result<(), Failure> {
    args.log.start();
    let _ = serve::limits::raise_open_files();
    let threads = args.server.threads_or(1);
    let mut builder = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    let runtime = builder.enable_all().build().map_err(Failure::failed)?;
    runtime.block_on(serve_process(args))
}

async fn serve_process(args: Args) -> Result<(), Failure> {
    let server = args.server.clone();
    let listener = serve::bind(server.listen, BindOptions::default()).map_err(Failure::failed)?;
    let address = listener.local_addr().map_err(Failure::failed)?;
    let metrics = Metrics::new();
    let config = args.into_config(address, metrics.clone()).map_err(Failure::usage)?;
    let backend = Backend::new(config).map_err(Failure::failed)?;
    let mut control = Control::new(backend.clone());
    let command = move |line: &str| {
        let _ = writeln!(std::io::stdout(), "{}", control.obey(line));
    };
    let shutdown = serve::process_shutdown_with(server.process_shutdown(), command)
        .await
        .map_err(Failure::failed)?;
    server.start_metrics(&metrics, &shutdown)?;
    serve::shutdown::note_hangups("SIGHUP changes nothing: no file is read again")
        .map_err(Failure::failed)?;
    // Whoever reads standard output may have closed it; that ends nothing.
    let _ = writeln!(std::io::stdout(), "echo-backend {} listens on {address}", backend.id());
    backend.run(listener, shutdown).await.map_err(Failure::failed)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn the_flags_are_well_formed_and_explain_themselves() {
        Program::command().debug_assert();
        let help = Program::command().render_long_help().to_string();
        for kind in crate::service_time::KINDS {
            assert!(help.contains(kind.example), "{help}");
        }
    }

    #[test]
    fn flags_become_the_configuration() {
        let flags = "backend --id b7 --concurrency 3 --service-time exponential:4ms --speed 0.2 \
                     --seed 9 --max-connection-age 30s --max-streams 7 --load-reports";
        let args = Program::parse_from(flags.split_whitespace()).args;
        let config = args.into_config("127.0.0.1:1".parse().unwrap(), Metrics::new()).unwrap();
        assert_eq!(config.id, "b7");
        assert_eq!(config.queue.concurrency.get(), 3);
        assert_eq!(config.queue.service_time.to_string(), "exponential:4ms");
        assert_eq!(config.queue.speed.factor(), 0.2);
        assert_eq!(config.queue.seed, 9);
        assert!(config.reports_load);
        assert_eq!(config.connections.max_connection_age, Some(Duration::from_secs(30)));
        assert_eq!(config.connections.max_streams, 7);
    }

    #[test]
    fn a_backend_without_an_id_is_named_by_its_address() {
        let args = Program::parse_from(["backend"]).args;
        let config = args.into_config("127.0.0.1:4711".parse().unwrap(), Metrics::new()).unwrap();
        assert_eq!(config.id, "127.0.0.1:4711");
    }

    #[test]
    fn bad_flags_are_refused_with_the_reason() {
        let cases = [
            (["--service-time", "gamma:1ms"], "is none of"),
            (["--service-time", "constant:5"], "has no unit"),
            (["--concurrency", "0"], "--concurrency"),
            (["--speed", "0"], "as in 0.2"),
            (["--max-streams", "0"], "--max-streams"),
            (["--max-connection-age", "0s"], "longer than zero"),
            (["--listen", "nowhere"], "--listen"),
            (["--tls-cert", "cert.pem"], "--tls-key"),
            (["--tls-handshake-timeout", "0s"], "longer than zero"),
        ];
        for ([flag, value], expected) in cases {
            let error = Program::try_parse_from(["backend", flag, value]).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{flag} {value}");
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}

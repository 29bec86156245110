//! One line of JSON about each call that ended, or about a share of them
//! ([`serve::json_lines`]).

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
};

use serde::Serialize;
use serve::{
    Metrics,
    json_lines::{JsonLines, Writer},
};

/// What is logged, and where.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Access log")]
pub struct AccessLogArgs {
    /// Append a line of JSON about each call to this file; `-` is standard
    /// error. Off unless given.
    #[arg(long, value_name = "FILE")]
    pub access_log: Option<PathBuf>,

    /// Share of the calls that is logged, drawn by chance.
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = serve::cli::share)]
    pub access_log_share: f64,

    /// Lines that may wait for a slow disk; those beyond are dropped and counted
    /// (l7_log_lines_dropped_total).
    #[arg(long, value_name = "N", default_value_t = 4_096)]
    pub access_log_queue: usize,
}

/// One call, as it is written.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Line {
    /// When it ended, in milliseconds since 1970.
    pub time_unix_ms: u64,
    /// The client's address.
    pub remote: Option<SocketAddr>,
    /// The path, which is the method of gRPC; cut at `PATH_BYTES`.
    pub path: String,
    /// The backend that had the last attempt.
    pub backend: Option<String>,
    /// How the last attempt ended, or `rejected` for a call without one.
    pub outcome: &'static str,
    /// The HTTP status, unless the call was reset before it had one.
    pub http_status: Option<u16>,
    /// The gRPC status, where the client was told one.
    pub grpc_status: Option<u32>,
    /// Bytes of the request's body that came from the client.
    pub request_bytes: u64,
    /// Bytes of the response's body that came from the backend.
    pub response_bytes: u64,
    /// From the request's head to the end, in microseconds.
    pub duration_us: u64,
    /// Attempts at backends.
    pub attempts: u32,
}

/// Bytes of a path that are kept: a name of a method is far shorter, and a
/// stranger decides.
pub(crate) const PATH_BYTES: usize = 256;

impl Line {
    /// The path as it is logged.
    pub(crate) fn path_of(path: &[u8]) -> String {
        String::from_utf8_lossy(&path[..path.len().min(PATH_BYTES)]).into_owned()
    }
}

/// Hands lines to the writer. Clones write to the same place.
#[derive(Clone, Debug)]
pub struct AccessLog {
    lines: JsonLines<Line>,
    /// A call is logged when the number drawn for it is not above this.
    drawn_up_to: u64,
}

impl AccessLog {
    /// Opens the file and starts the writer, which ends when the last clone of
    /// the log is dropped. `None` where no log is asked for.
    ///
    /// # Errors
    /// When the file can't be opened, with its name.
    pub fn open(args: &AccessLogArgs, metrics: &Metrics) -> io::Result<Option<(Self, Writer)>> {
        let Some(path) = &args.access_log else { return Ok(None) };
        let output: Box<dyn Write + Send> = if path.as_os_str() == "-" {
            Box::new(io::stderr())
        } else {
            let opened: io::Result<File> = OpenOptions::new().create(true).append(true).open(path);
            let named = |error: io::Error| {
                let path = path.display();
                let what = format!("access log {path}: {error}; name a file that can be written");
                io::Error::new(error.kind(), what)
            };
            Box::new(opened.map_err(named)?)
        };
        Self::start(args, output, metrics).map(Some)
    }

    /// Starts the writer over any output.
    ///
    /// # Errors
    /// When the thread can't be started.
    pub fn start(
        args: &AccessLogArgs,
        output: impl Write + Send + 'static,
        metrics: &Metrics,
    ) -> io::Result<(Self, Writer)> {
        let (lines, writer) = JsonLines::start("l7", args.access_log_queue, output, metrics)?;
        let drawn_up_to = (args.access_log_share * u64::MAX as f64) as u64;
        // A share of nothing is nothing, also where the number drawn is 0.
        let is_none = args.access_log_share <= 0.0;
        let log = Self { lines, drawn_up_to: if is_none { 0 } else { drawn_up_to } };
        Ok((log, writer))
    }

    /// Whether a call is logged, given any number drawn for it.
    #[inline]
    pub fn draws(&self, random: u64) -> bool {
        self.drawn_up_to > 0 && random <= self.drawn_up_to
    }

    /// Hands over a line, or drops it. Never waits.
    pub fn write(&self, line: Line) {
        self.lines.write(line);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// An output that can be read afterwards.
    #[derive(Clone, Default)]
    struct Output(Arc<Mutex<Vec<u8>>>);

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn line(attempts: u32) -> Line {
        Line {
            time_unix_ms: 1,
            remote: Some(([127, 0, 0, 1], 9).into()),
            path: Line::path_of(b"/a.B/C\"\xff"),
            backend: Some("b".to_owned()),
            outcome: "ok",
            http_status: Some(200),
            grpc_status: Some(0),
            request_bytes: 2,
            response_bytes: 3,
            duration_us: 4,
            attempts,
        }
    }

    fn args(queue: usize, share: f64) -> AccessLogArgs {
        AccessLogArgs { access_log: None, access_log_share: share, access_log_queue: queue }
    }

    #[test]
    fn a_line_is_json_of_its_own() {
        let (metrics, output) = (Metrics::new(), Output::default());
        let (log, writer) = AccessLog::start(&args(10, 1.0), output.clone(), &metrics).unwrap();
        log.write(line(1));
        drop(log);
        drop(writer);
        let value: serde_json::Value = serde_json::from_slice(&output.0.lock().unwrap()).unwrap();
        assert_eq!(value["remote"], "127.0.0.1:9");
        assert_eq!(value["path"], "/a.B/C\"\u{fffd}");
        assert_eq!(value["grpc_status"], 0);
        assert_eq!(value["attempts"], 1);
    }

    #[test]
    fn a_share_is_drawn() {
        let metrics = Metrics::new();
        let draws = |share: f64| {
            let (log, _writer) = AccessLog::start(&args(1, share), io::sink(), &metrics).unwrap();
            let drawn = [0, u64::MAX / 4, u64::MAX / 4 * 3, u64::MAX].map(|drawn| log.draws(drawn));
            drop(log);
            drawn
        };
        assert_eq!(draws(0.0), [false; 4]);
        assert_eq!(draws(0.5), [true, true, false, false]);
        assert_eq!(draws(1.0), [true; 4]);
    }
}
